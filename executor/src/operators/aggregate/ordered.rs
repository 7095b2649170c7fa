//! Aggregates of which the order of rows is part: ARRAY_AGG, STRING_AGG, FIRST_VALUE (and LAST_VALUE, the first in the
//! opposite order), percentiles, which are rows by their number, and the mode, of which there are most. A group's values are rows of their own in the operator's state, in the call's order; a result is read
//! from them when the group is touched, before and after; a percentile from the nearer end of the group, a mode from all of it.
//!
//! Rows are found by the group's key and ordered by the call's order and then the value. FIRST_VALUE over input that only
//! grows keeps nothing but the first.

use crate::accumulators::{Output, Updates};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use eddyline_common::key::{ColumnOrder, KeyCodec, KeyRows, OrderCodec};
use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlError, SqlType, StateTableId};
use eddyline_planner::functions::percentile;
use eddyline_planner::plan::{AggregateCall, AggregateFunction};
use eddyline_storage::state::{KeyedRows, RowBatch, RowChunk, RowShape, Shards, StateCounters, StateSpace, StateTable};
use std::sync::Arc;

/// Rows read at once.
const PAGE_ROWS: usize = if cfg!(test) { 64 } else { 1024 };
/// The same where few are wanted: some are found with weights of zero.
const PAGE_ROWS_MIN: usize = 16;
/// The key of a null.
const NULL_KEY: &[u8] = &[0];

/// What a call makes of a group's values.
enum Form {
    First,
    Array(DataType),
    Text(String),
    /// A share of the way through them, and whether it may be between two.
    Percentile {
        share: f64,
        continuous: bool,
    },
    /// The one that is there most often.
    Mode,
}

/// A call of one of these functions; `open` makes its state.
pub(super) struct OrderedCall {
    order_columns: Vec<usize>,
    order: OrderCodec,
    codec: KeyCodec,
    form: Form,
    /// So many values of a group are collected at most.
    limit: usize,
    distinct: bool,
    skip_nulls: bool,
}

impl OrderedCall {
    pub(super) fn new(call: &AggregateCall, argument: usize, input: &SchemaRef) -> Result<Self> {
        let ty = input.field(argument).data_type();
        let form = match (call.function, &call.output, ty) {
            (AggregateFunction::FirstValue, output, _) if output.to_arrow() == *ty => Form::First,
            (AggregateFunction::ArrayAgg, SqlType::Array(item), _) if item.to_arrow() == *ty => Form::Array(call.output.to_arrow()),
            (AggregateFunction::PercentileCont, SqlType::Double, DataType::Float64) => {
                Form::Percentile { share: call.share.unwrap_or(0.5), continuous: true }
            }
            (AggregateFunction::PercentileDisc, output, _) if output.to_arrow() == *ty => {
                Form::Percentile { share: call.share.unwrap_or(0.5), continuous: false }
            }
            (AggregateFunction::Mode, output, _) if output.to_arrow() == *ty => Form::Mode,
            (AggregateFunction::StringAgg, SqlType::Text, DataType::Utf8) => Form::Text(call.separator.clone().unwrap_or_default()),
            (function, output, _) => {
                return Err(SqlError::unsupported(format!("{function:?} of {ty} cannot be computed as {output}")));
            }
        };
        if call.order.iter().any(|key| key.column >= input.fields().len()) {
            return Err(SqlError::internal("an aggregate's order does not fit its input"));
        }
        let column_order = |key: &eddyline_planner::plan::OrderKey| {
            let order = ColumnOrder { descending: key.descending, nulls_first: key.nulls_first };
            (input.field(key.column).data_type().clone(), order)
        };
        Ok(OrderedCall {
            order_columns: call.order.iter().map(|key| key.column).collect(),
            order: OrderCodec::new(call.order.iter().map(column_order).collect())?,
            codec: KeyCodec::exact(vec![ty.clone()])?,
            distinct: call.distinct,
            skip_nulls: call.ignore_nulls || matches!(form, Form::Text(_)),
            limit: if matches!(form, Form::First) { 1 } else { call.limit.unwrap_or(usize::MAX) },
            form,
        })
    }

    /// How often a value counts that is there with this weight.
    fn times(&self, weight: i64) -> usize {
        if self.distinct { usize::from(weight > 0) } else { usize::try_from(weight).unwrap_or(0) }
    }

    pub(super) fn open(self, space: &StateSpace, kind: u8, window: bool, retract: bool) -> Result<Ordered> {
        let rows = KeyedRows::open(space, kind, RowShape { ordered: true, expiry: window, ..RowShape::default() })?;
        let only_first = !retract && matches!(self.form, Form::First);
        Ok(Ordered { call: self, rows, only_first, buffers: Buffers::default() })
    }
}

#[derive(Default)]
struct Buffers {
    groups: KeyRows,
    orders: KeyRows,
    values: KeyRows,
    all_orders: KeyRows,
    all_values: KeyRows,
    weights: Vec<i64>,
    picked: Vec<u32>,
}

pub(super) struct Ordered {
    call: OrderedCall,
    rows: KeyedRows,
    only_first: bool,
    buffers: Buffers,
}

impl Ordered {
    /// Adds the rows of a batch. `groups` are their group keys, interned in `group_table` as `updates.slots`.
    pub(super) fn update(
        &mut self,
        groups: &KeyRows,
        group_table: &StateTable,
        updates: &Updates,
        rows: &RecordBatch,
        values: &ArrayRef,
    ) -> Result<()> {
        let Ordered { call, buffers, .. } = self;
        let nulls = values.logical_nulls().filter(|_| call.skip_nulls);
        let counts = |row: &u32| {
            let row = *row as usize;
            updates.mask.is_none_or(|m| m.value(row)) && nulls.as_ref().is_none_or(|n| n.is_valid(row))
        };
        buffers.picked.clear();
        buffers.picked.extend((0..values.len() as u32).filter(counts));
        call.codec.encode(std::slice::from_ref(values), values.len(), &mut buffers.all_values);
        let order: Vec<ArrayRef> = call.order_columns.iter().map(|c| rows.column(*c).clone()).collect();
        call.order.encode(&order, values.len(), &mut buffers.all_orders);
        buffers.groups.clear();
        buffers.orders.clear();
        buffers.values.clear();
        buffers.weights.clear();
        for row in &buffers.picked {
            let row = *row as usize;
            buffers.groups.push(&[groups.row(row)]);
            buffers.orders.push(&[buffers.all_orders.row(row)]);
            buffers.values.push(&[buffers.all_values.row(row)]);
            buffers.weights.push(updates.weights.map_or(1, |w| w[row]));
        }
        let shard = |at: usize| group_table.shard(updates.slots[buffers.picked[at] as usize]);
        let batch =
            RowBatch { keys: &buffers.groups, orders: Some(&buffers.orders), rows: &buffers.values, weights: Some(&buffers.weights) };
        self.rows.add(batch, Shards::Of(&shard))
    }

    /// The results of some groups, as their rows are now.
    pub(super) fn output(&mut self, slots: &[u32], groups: &StateTable) -> Result<Output> {
        let keys = &mut self.buffers.groups;
        keys.clear();
        slots.iter().for_each(|slot| keys.push(&[groups.key(*slot)]));
        let mut heads = Vec::new();
        self.rows.lookup(keys, Shards::Of(&|at| groups.shard(slots[at])), &mut heads)?;
        let mut values = KeyRows::default();
        let mut lengths = Vec::with_capacity(slots.len());
        let mut between = Vec::new();
        for head in heads {
            let before = values.len();
            match self.call.form {
                Form::Percentile { share, continuous } => between.push(self.percentile(head, share, continuous, &mut values)?),
                Form::Mode => self.most_frequent(head, &mut values)?,
                _ => self.collect(head, &mut values)?,
            }
            if matches!(self.call.form, Form::First) && values.len() == before {
                values.push(&[NULL_KEY]);
            }
            lengths.push(values.len() - before);
        }
        let decoded = self.call.codec.decode(values.iter())?.pop();
        let decoded = decoded.ok_or_else(|| SqlError::internal("a value has no column"))?;
        Ok(Output::of(match &self.call.form {
            Form::First | Form::Mode | Form::Percentile { continuous: false, .. } => decoded,
            Form::Percentile { .. } => in_between(&decoded, &between),
            Form::Array(ty) => lists(ty, decoded, &lengths)?,
            Form::Text(separator) => joined(separator, &decoded, &lengths),
        }))
    }

    /// How many values of a group count.
    fn count(&mut self, head: u32) -> Result<usize> {
        if !self.call.distinct {
            return Ok(self.call.times(self.rows.weight(head)));
        }
        let mut pages = Pages::new(PAGE_ROWS);
        let mut count = 0;
        while pages.next(&mut self.rows, head)? {
            count += pages.chunk.weights().iter().map(|weight| self.call.times(*weight)).sum::<usize>();
        }
        Ok(count)
    }

    /// Appends the value at a share of the way through a group, or the two around it, and tells how far it is from the one to the other.
    fn percentile(&mut self, head: u32, share: f64, continuous: bool, values: &mut KeyRows) -> Result<f64> {
        let wanted = if continuous { 2 } else { 1 };
        let count = self.count(head)?;
        if count == 0 {
            (0..wanted).for_each(|_| values.push(&[NULL_KEY]));
            return Ok(0.0);
        }
        let place = percentile::place(share, count, continuous);
        let mut places = [place.lower, place.upper][..wanted].to_vec();
        let back = place.lower > count / 2;
        if back {
            places = places.into_iter().rev().map(|place| count - 1 - place).collect();
        }
        let mut pages = if back { Pages::back(PAGE_ROWS) } else { Pages::new(PAGE_ROWS) };
        let (mut seen, mut found) = (0, KeyRows::default());
        while found.len() < wanted && pages.next(&mut self.rows, head)? {
            for (at, weight) in pages.chunk.weights().iter().enumerate() {
                seen += self.call.times(*weight);
                while found.len() < wanted && places[found.len()] < seen {
                    found.push(&[pages.chunk.row(at)]);
                }
            }
        }
        for at in 0..found.len() {
            values.push(&[found.row(if back { found.len() - 1 - at } else { at })]);
        }
        Ok(place.between)
    }

    /// Appends the value that is there most often, the first of several in the call's order.
    fn most_frequent(&mut self, head: u32, values: &mut KeyRows) -> Result<()> {
        let (mut most, mut found) = (0, NULL_KEY.to_vec());
        let mut pages = Pages::new(PAGE_ROWS);
        while pages.next(&mut self.rows, head)? {
            for (at, weight) in pages.chunk.weights().iter().enumerate() {
                let times = self.call.times(*weight);
                if times > most {
                    (most, found) = (times, pages.chunk.row(at).to_vec());
                }
            }
        }
        values.push(&[&found]);
        Ok(())
    }

    /// Appends the values of one group in their order.
    fn collect(&mut self, head: u32, values: &mut KeyRows) -> Result<()> {
        let mut room = self.call.limit;
        let mut pages = Pages::new(room.clamp(PAGE_ROWS_MIN, PAGE_ROWS));
        while pages.next(&mut self.rows, head)? {
            let chunk = &pages.chunk;
            for (at, weight) in chunk.weights().iter().enumerate().filter(|(_, weight)| **weight > 0) {
                let times = self.call.times(*weight).min(room);
                (0..times).for_each(|_| values.push(&[chunk.row(at)]));
                room -= times;
                if room == 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Ends the step: removes the rows that are gone, and those that no result will ever show.
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.only_first {
            for touched in self.rows.touched_heads().to_vec() {
                self.keep_first(touched.head)?;
            }
        }
        self.rows.settle()
    }

    fn keep_first(&mut self, head: u32) -> Result<()> {
        let (group, shard) = (self.rows.key(head).to_vec(), self.rows.shard(head));
        let Buffers { groups, values, weights, .. } = &mut self.buffers;
        groups.clear();
        values.clear();
        weights.clear();
        let mut pages = Pages::new(PAGE_ROWS);
        while pages.next(&mut self.rows, head)? {
            for at in 0..pages.chunk.len() {
                groups.push(&[&group]);
                values.push(&[&pages.chunk.key(at)[group.len()..]]);
                let first = weights.is_empty();
                weights.push(if first { 0 } else { -pages.chunk.weights()[at] });
            }
        }
        let batch = RowBatch { keys: groups, orders: None, rows: values, weights: Some(weights) };
        self.rows.add(batch, Shards::Of(&|_| shard))
    }

    /// Values that were forgotten cannot be retracted. When all of the step's rows are in.
    pub(super) fn ignore_missing(&mut self) {
        self.rows.ignore_missing(&mut RowChunk::default());
    }

    /// Drops all values of one group; between steps, or when the step's are settled.
    pub(super) fn forget(&mut self, group: &[u8], shard: u8) -> Result<()> {
        self.rows.drop_key(group, shard)
    }

    /// Drops the rows of every window that ends at or before `end`.
    pub(super) fn drop_windows(&mut self, end: i64) -> Result<()> {
        self.rows.drop_windows(end)
    }

    pub(super) fn maintain(&mut self) -> Result<()> {
        self.rows.maintain()
    }

    pub(super) fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        self.rows.freeze()
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    pub(super) fn counters(&self) -> StateCounters {
        self.rows.counters()
    }
}

/// The rows of one key in order, or from the last one back, page by page.
struct Pages {
    chunk: RowChunk,
    limit: usize,
    back: bool,
    start: Option<Vec<u8>>,
}

impl Pages {
    fn new(limit: usize) -> Self {
        Pages { chunk: RowChunk::default(), limit, back: false, start: Some(Vec::new()) }
    }

    /// No order begins with the greatest byte.
    fn back(limit: usize) -> Self {
        Pages { chunk: RowChunk::default(), limit, back: true, start: Some(vec![u8::MAX]) }
    }

    /// Reads the next page; false at the end.
    fn next(&mut self, rows: &mut KeyedRows, head: u32) -> Result<bool> {
        let Some(start) = self.start.take() else { return Ok(false) };
        self.chunk.clear();
        match self.back {
            true => rows.range_back(head, &start, self.limit, &mut self.chunk)?,
            false => rows.range(head, &start, self.limit, &mut self.chunk)?,
        }
        if self.chunk.len() == self.limit {
            let key = rows.key(head).len();
            let mut next = self.chunk.key(self.limit - 1)[key..].to_vec();
            if !self.back {
                next.push(0);
            }
            self.start = Some(next);
        }
        Ok(!self.chunk.is_empty())
    }
}

/// Of two values of each group what lies between them.
fn in_between(values: &ArrayRef, between: &[f64]) -> ArrayRef {
    let values = values.as_primitive::<Float64Type>();
    let of = |(group, between): (usize, &f64)| {
        let (lower, upper) = (2 * group, 2 * group + 1);
        values.is_valid(lower).then(|| percentile::value_between(values.value(lower), values.value(upper), *between))
    };
    Arc::new(between.iter().enumerate().map(of).collect::<Float64Array>())
}

/// A list per group; a group without values has none.
fn lists(ty: &DataType, values: ArrayRef, lengths: &[usize]) -> Result<ArrayRef> {
    let DataType::List(field) = ty else { return Err(SqlError::internal(format!("{ty} is not a list"))) };
    let nulls = lengths.contains(&0).then(|| lengths.iter().map(|n| *n > 0).collect::<Vec<_>>().into());
    Ok(Arc::new(ListArray::try_new(field.clone(), OffsetBuffer::from_lengths(lengths.iter().copied()), values, nulls)?))
}

fn joined(separator: &str, values: &ArrayRef, lengths: &[usize]) -> ArrayRef {
    let values = values.as_string::<i32>();
    let mut next = 0;
    let texts = lengths.iter().map(|length| {
        let parts: Vec<&str> = (next..next + length).map(|i| values.value(i)).collect();
        next += length;
        (!parts.is_empty()).then(|| parts.join(separator))
    });
    Arc::new(texts.collect::<StringArray>())
}
