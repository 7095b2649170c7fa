//! Aggregates of which the order of rows is part: ARRAY_AGG, STRING_AGG, FIRST_VALUE (and LAST_VALUE, the first in the
//! opposite order). A group's values are entries of their own in the operator's state, in the call's order; a result is read
//! from them when the group is touched, before and after.
//!
//! An entry's key is the group's key, the row's order (`crate::order`) and the value's key; its value is how many rows have
//! it, and how long the order is, so that the value can be found in the key. FIRST_VALUE over input that only grows keeps
//! nothing but the first.

use crate::accumulators::{Output, Updates};
use crate::order::OrderCodec;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, SchemaRef};
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlError, SqlType};
use eddyline_planner::plan::{AggregateCall, AggregateFunction};
use eddyline_storage::state::{Scanned, Shards, SlotCodec, StateSpace, StateTable, TableShape, get_varint, put_varint, unzigzag, zigzag};
use std::sync::Arc;

/// Changes whenever the stored form (this byte, the count, the length of the order) does.
const VALUE_VERSION: u8 = 1;
/// The key of a null.
const NULL_KEY: &[u8] = &[0];

/// What a call makes of a group's values.
enum Form {
    First,
    Array(DataType),
    Text(String),
}

/// A call of one of these functions; `open` makes its state.
pub(super) struct OrderedCall {
    order: OrderCodec,
    codec: KeyCodec,
    form: Form,
    distinct: bool,
    skip_nulls: bool,
}

pub(super) fn is_ordered(function: AggregateFunction) -> bool {
    matches!(function, AggregateFunction::StringAgg | AggregateFunction::ArrayAgg | AggregateFunction::FirstValue)
}

impl OrderedCall {
    pub(super) fn new(call: &AggregateCall, argument: usize, input: &SchemaRef) -> Result<Self> {
        let ty = input.field(argument).data_type();
        let form = match (call.function, &call.output, ty) {
            (AggregateFunction::FirstValue, output, _) if output.to_arrow() == *ty => Form::First,
            (AggregateFunction::ArrayAgg, SqlType::Array(item), _) if item.to_arrow() == *ty => Form::Array(call.output.to_arrow()),
            (AggregateFunction::StringAgg, SqlType::Text, DataType::Utf8) => Form::Text(call.separator.clone().unwrap_or_default()),
            (function, output, _) => {
                return Err(SqlError::unsupported(format!("{function:?} of {ty} cannot be computed as {output}")));
            }
        };
        Ok(OrderedCall {
            order: OrderCodec::new(&call.order, input)?,
            codec: KeyCodec::new(vec![ty.clone()])?,
            distinct: call.distinct,
            skip_nulls: call.ignore_nulls || matches!(form, Form::Text(_)),
            form,
        })
    }

    pub(super) fn open(self, space: &StateSpace, kind: u8, window: bool, retract: bool) -> Result<Ordered> {
        let mut entries = Entries::default();
        let table = space.table(kind, TableShape { expiry: window, ordered: true }, &mut entries)?;
        let only_first = !retract && matches!(self.form, Form::First);
        Ok(Ordered {
            call: self,
            table,
            entries,
            only_first,
            touched: Vec::new(),
            is_touched: Vec::new(),
            groups: Vec::new(),
            values: KeyRows::default(),
            keys: KeyRows::default(),
            rows: Vec::new(),
            splits: Vec::new(),
            slots: Vec::new(),
        })
    }
}

pub(super) struct Ordered {
    call: OrderedCall,
    pub table: StateTable,
    entries: Entries,
    only_first: bool,
    /// Entries changed in this step, each once.
    touched: Vec<u32>,
    is_touched: Vec<bool>,
    /// Groups with a change in this step: state key and shard. Only if nothing but the first is kept.
    groups: Vec<(Box<[u8]>, u8)>,
    values: KeyRows,
    keys: KeyRows,
    rows: Vec<u32>,
    splits: Vec<u32>,
    slots: Vec<u32>,
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
        self.call.codec.encode(std::slice::from_ref(values), values.len(), &mut self.values);
        self.call.order.encode(rows);
        let nulls = values.logical_nulls().filter(|_| self.call.skip_nulls);
        let counts = |row: &u32| {
            let row = *row as usize;
            updates.mask.is_none_or(|m| m.value(row)) && nulls.as_ref().is_none_or(|n| n.is_valid(row))
        };
        self.rows.clear();
        self.rows.extend((0..values.len() as u32).filter(counts));
        self.keys.clear();
        self.splits.clear();
        let mut order = Vec::new();
        for row in &self.rows {
            let row = *row as usize;
            order.clear();
            self.call.order.put(row, &mut order);
            self.splits.push(order.len() as u32);
            self.keys.push(&[groups.row(row), &order, self.values.row(row)]);
        }
        let shard = |key: usize| group_table.shard(updates.slots[self.rows[key] as usize]);
        self.table.intern(&self.keys, Shards::Of(&shard), &mut self.entries, &mut self.slots)?;
        self.is_touched.resize(self.table.slots(), false);
        for ((slot, row), split) in self.slots.iter().zip(&self.rows).zip(&self.splits) {
            let group = updates.slots[*row as usize];
            self.entries.counts[*slot as usize] += updates.weights.map_or(1, |w| w[*row as usize]);
            self.entries.splits[*slot as usize] = *split;
            if !std::mem::replace(&mut self.is_touched[*slot as usize], true) {
                self.touched.push(*slot);
                self.table.mark_dirty(*slot);
                if self.only_first {
                    self.groups.push((groups.row(*row as usize).into(), group_table.shard(group)));
                }
            }
        }
        Ok(())
    }

    /// At the end of a step no count is negative.
    pub(super) fn check(&self) -> Result<()> {
        match self.touched.iter().any(|slot| self.entries.counts[*slot as usize] < 0) {
            true => Err(SqlError::internal("an aggregate was told to retract values that were never there")),
            false => Ok(()),
        }
    }

    /// The results of some groups, as their entries are now.
    pub(super) fn output(&mut self, slots: &[u32], groups: &StateTable) -> Result<Output> {
        let mut values = KeyRows::default();
        let mut lengths = Vec::with_capacity(slots.len());
        for slot in slots {
            let before = values.len();
            self.collect(groups.key(*slot), groups.shard(*slot), &mut values)?;
            if matches!(self.call.form, Form::First) && values.len() == before {
                values.push(&[NULL_KEY]);
            }
            lengths.push(values.len() - before);
        }
        let decoded = self.call.codec.decode(values.iter())?.pop().ok_or_else(damaged)?;
        Ok(Output::of(match &self.call.form {
            Form::First => decoded,
            Form::Array(ty) => lists(ty, decoded, &lengths)?,
            Form::Text(separator) => joined(separator, &decoded, &lengths),
        }))
    }

    /// Appends the values of one group in their order.
    fn collect(&mut self, group: &[u8], shard: u8, values: &mut KeyRows) -> Result<()> {
        let (entries, distinct, first) = (&self.entries, self.call.distinct, matches!(self.call.form, Form::First));
        self.table.scan_prefix(group, shard, &mut |key, found| {
            let (count, split) = match found {
                Scanned::Resident(slot) => (entries.counts[slot as usize], entries.splits[slot as usize]),
                Scanned::Stored(value) => decode(value)?,
            };
            if count <= 0 {
                return Ok(true);
            }
            let value = key.get(group.len() + split as usize..).ok_or_else(damaged)?;
            for _ in 0..if distinct || first { 1 } else { count } {
                values.push(&[value]);
            }
            Ok(!first)
        })
    }

    /// Removes the entries that are gone, and those that no result will ever show.
    pub(super) fn sweep(&mut self) -> Result<()> {
        for slot in std::mem::take(&mut self.touched) {
            self.is_touched[slot as usize] = false;
            if self.entries.counts[slot as usize] == 0 {
                self.table.remove(slot, &mut self.entries);
            }
        }
        self.groups.sort_unstable();
        self.groups.dedup();
        for (group, shard) in std::mem::take(&mut self.groups) {
            self.keys.clear();
            let (keys, mut first) = (&mut self.keys, true);
            self.table.scan_prefix(&group, shard, &mut |key, _| {
                if !std::mem::replace(&mut first, false) {
                    keys.push(&[key]);
                }
                Ok(true)
            })?;
            self.table.intern(&self.keys, Shards::Of(&|_| shard), &mut self.entries, &mut self.slots)?;
            self.slots.iter().for_each(|slot| self.table.remove(*slot, &mut self.entries));
        }
        Ok(())
    }

    /// Drops all values of one window.
    pub(super) fn drop_window(&mut self, end: i64) -> Result<()> {
        loop {
            for slot in self.table.window_slots(end) {
                self.table.remove(slot, &mut self.entries);
            }
            self.maintain()?;
            if !self.table.load_window(end, &mut self.entries)? {
                return Ok(());
            }
        }
    }

    pub(super) fn maintain(&mut self) -> Result<()> {
        self.table.maintain(&mut self.entries)
    }

    pub(super) fn freeze(&mut self) -> Result<SortedRun> {
        self.table.freeze(&mut self.entries)
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes(&self.entries)
    }
}

/// A list per group; a group without values has none.
fn lists(ty: &DataType, values: ArrayRef, lengths: &[usize]) -> Result<ArrayRef> {
    let DataType::List(field) = ty else { return Err(damaged()) };
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

#[derive(Default)]
struct Entries {
    counts: Vec<i64>,
    splits: Vec<u32>,
}

fn decode(bytes: &[u8]) -> Result<(i64, u32)> {
    let Some((&VALUE_VERSION, mut bytes)) = bytes.split_first() else { return Err(damaged()) };
    let count = unzigzag(get_varint(&mut bytes)?);
    Ok((count, u32::try_from(get_varint(&mut bytes)?).map_err(|_| damaged())?))
}

impl SlotCodec for Entries {
    fn reserve(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
        self.splits.resize(slots, 0);
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(VALUE_VERSION);
        put_varint(zigzag(self.counts[slot as usize]), out);
        put_varint(self.splits[slot as usize] as u64, out);
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<()> {
        (self.counts[slot as usize], self.splits[slot as usize]) = decode(bytes)?;
        Ok(())
    }

    fn clear(&mut self, slot: u32) {
        self.counts[slot as usize] = 0;
        self.splits[slot as usize] = 0;
    }

    fn slot_bytes(&self) -> usize {
        12
    }
}

fn damaged() -> SqlError {
    SqlError::corrupt("a stored value of an ordered aggregate is damaged")
}
