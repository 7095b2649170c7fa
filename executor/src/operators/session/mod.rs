//! Session windows: appends to each row the bounds of the session it is in. Sessions of a partition grow, merge and fall
//! apart as rows come and go; rows whose session changed are taken back with the old bounds and shown with the new ones. With
//! `Emit::OnClose` rows are shown once, when their session closes.
//!
//! A row is late if it alone would be a session that had ended by its arrival watermark, with the allowed lateness; whatever else came
//! with it or is there. So a row that is not late is not in a session that has been closed, nor is its retraction late.
//!
//! Rows are worked off by the watermark they arrived under, so that a step of many cuts decides as many steps of one. Sessions
//! close when that watermark rises to their end plus the lateness or beyond: their rows are final and leave the state. While it
//! stays, a session that became shorter, because a row of it was taken back, may grow again.
//!
//! State: the rows of open sessions by partition and time, and an entry per open session by its end.
//!
//! - `sessions`: which rows make a session

mod sessions;

use crate::layout::{EncodedRows, RowLayout};
use crate::operator::{Operator, StepContext};
use crate::operators::aggregate::window::is_closed;
use crate::operators::routing::Routing;
use crate::operators::scan::assemble;
use crate::operators::state::StateSpec;
use arrow::array::{Array, AsArray, Int64Array, PrimitiveArray, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};
use eddyline_common::key::{ColumnOrder, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::time::MICROS_PER_MILLI;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::Emit;
use eddyline_storage::state::{KeyedRows, NO_SLOT, ROW_KINDS, RowChunk, RowShape, Shards, SlotCodec, StateSpace, StateTable, TableShape};
use sessions::{Bounds, Partition};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rows emitted in one batch.
const OUTPUT_ROWS: usize = 16 * 1024;
/// Bytes of a time as the beginning of a key.
const TIME_BYTES: usize = 9;

pub struct SessionSpec {
    pub partition: Vec<usize>,
    pub time_column: usize,
    /// Microseconds.
    pub gap: i64,
    pub emit: Emit,
    pub allowed_lateness: i64,
    pub input: SchemaRef,
    pub output: SchemaRef,
    /// Input columns whose key decided that a row came to this worker.
    pub routing: Vec<usize>,
    pub state: StateSpec,
}

pub struct SessionAssign {
    time_column: usize,
    gap: i64,
    on_close: bool,
    lateness: i64,
    output: SchemaRef,
    layout: RowLayout,
    routing: Routing,
    rows: KeyedRows,
    ends: Ends,
    held: Vec<TaggedBatch>,
    encoded: EncodedRows,
    shards: Vec<u8>,
    chunk: RowChunk,
    emitted: Emitted,
}

/// Rows to be emitted, as the layout decodes them.
#[derive(Default)]
struct Emitted {
    rows: KeyRows,
    starts: Vec<i64>,
    ends: Vec<i64>,
    weights: Vec<i64>,
}

impl SessionAssign {
    pub fn new(spec: SessionSpec) -> Result<Box<Self>> {
        let SessionSpec { partition, time_column, gap, input, output, .. } = spec;
        if gap <= 0 {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, "the gap of a session must be positive"));
        }
        let is_time = |ty: &DataType| matches!(ty, DataType::Timestamp(TimeUnit::Microsecond, _));
        let width = input.fields().len();
        let valid = output.fields().len() == width + 3
            && input.fields().get(time_column).is_some_and(|f| is_time(f.data_type()))
            && output.fields()[width..].iter().all(|f| is_time(f.data_type()))
            && partition.iter().chain(&spec.routing).all(|c| *c < width);
        if !valid {
            return Err(SqlError::internal("a session does not fit the columns of its input"));
        }
        let space = spec.state.open()?;
        let routing = Routing::new(spec.routing, &partition, &input)?;
        let by_time = vec![(time_column, ColumnOrder { descending: false, nulls_first: false })];
        Ok(Box::new(SessionAssign {
            time_column,
            gap,
            on_close: spec.emit == Emit::OnClose,
            lateness: spec.allowed_lateness,
            layout: RowLayout::new(&input, partition, by_time)?,
            routing,
            rows: KeyedRows::open(&space, 0, RowShape { orders: true, ..RowShape::default() })?,
            ends: Ends::open(&space, ROW_KINDS)?,
            output,
            held: Vec::new(),
            encoded: EncodedRows::default(),
            shards: Vec::new(),
            chunk: RowChunk::default(),
            emitted: Emitted::default(),
        }))
    }

    /// Adds rows that arrived under one watermark and are not late.
    fn add(&mut self, arrived: &[TaggedBatch], ctx: &mut StepContext) -> Result<()> {
        for TaggedBatch { changes, .. } in arrived {
            self.layout.encode(&changes.rows, &mut self.encoded);
            self.routing.shards(&changes.rows, &self.encoded.keys, &mut self.shards);
            let weights = changes.weights.as_ref().map(|w| w.values().as_ref());
            self.rows.add(self.layout.batch(&self.encoded, weights), Shards::Of(&|row| self.shards[row]))?;
        }
        for touched in self.rows.touched_heads().to_vec() {
            self.resolve(touched.head)?;
            self.flush(OUTPUT_ROWS, ctx)?;
        }
        self.flush(1, ctx)?;
        self.rows.settle()
    }

    /// Reads all rows of a partition. All of them, each time: so they are sorted here, and not kept in order.
    fn read(&mut self, head: u32) -> Result<Partition> {
        self.chunk.clear();
        let mut cursor = self.rows.scan(head)?;
        while self.rows.next_rows(&mut cursor, OUTPUT_ROWS, &mut self.chunk)? {}
        let key = self.rows.key(head).len();
        let times = (0..self.chunk.len()).map(|at| time_of(&self.chunk.key(at)[key..])).collect::<Result<Vec<_>>>()?;
        Ok(Partition::new(&times, self.chunk.old_weights(), self.chunk.weights()))
    }

    /// Finds the sessions before and after; emits what changed.
    fn resolve(&mut self, head: u32) -> Result<()> {
        let partition = self.read(head)?;
        let (before, after) = partition.sessions(self.gap);
        let shard = self.rows.shard(head);
        let key = self.rows.key(head);
        let shown = if self.on_close { 0 } else { partition.rows.len() };
        for place in 0..shown {
            let row = self.layout.stored(&self.chunk, partition.rows[place]);
            let (old, new) = (partition.old[place], partition.new[place]);
            match (before[place], after[place]) {
                (Some(before), Some(after)) if before == after => self.emitted.push(row, after, new - old),
                (before, after) => {
                    before.into_iter().for_each(|bounds| self.emitted.push(row, bounds, -old));
                    after.into_iter().for_each(|bounds| self.emitted.push(row, bounds, new));
                }
            }
        }
        let ends = |sessions: &[Option<Bounds>]| sessions.iter().flatten().map(|(_, end)| *end).collect::<BTreeSet<i64>>();
        let key = key.to_vec();
        self.ends.replace(&ends(&before), &ends(&after), &key, shard)
    }

    /// Closes what a watermark has passed if it is higher than the last one.
    fn close_after(&mut self, last: &mut Timestamp, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        if watermark <= *last {
            return Ok(());
        }
        *last = watermark;
        self.close(watermark, ctx)
    }

    /// Closes every session that a watermark has passed.
    fn close(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        let mut closed = false;
        while let Some((end, keys)) = self.ends.first(|end| is_closed(end, self.lateness, watermark))? {
            closed = true;
            for (key, shard) in keys {
                self.close_session(&key, shard, end)?;
                self.flush(OUTPUT_ROWS, ctx)?;
            }
        }
        if !closed {
            return Ok(());
        }
        self.flush(1, ctx)?;
        self.rows.settle()?;
        self.ends.maintain()
    }

    /// Takes the rows of a session out of the state.
    fn close_session(&mut self, key: &[u8], shard: u8, end: i64) -> Result<()> {
        let (mut keys, mut heads) = (KeyRows::default(), Vec::new());
        keys.push(&[key]);
        self.rows.lookup(&keys, Shards::Of(&|_| shard), &mut heads)?;
        if heads[0] == NO_SLOT {
            return Err(SqlError::corrupt("an open session has no rows"));
        }
        let partition = self.read(heads[0])?;
        let (_, sessions) = partition.sessions(self.gap);
        let mut closed = Vec::new();
        for (place, session) in sessions.into_iter().enumerate() {
            let Some(bounds) = session.filter(|(_, own)| *own == end) else { continue };
            let at = partition.rows[place];
            if self.on_close {
                self.emitted.push(self.layout.stored(&self.chunk, at), bounds, partition.new[place]);
            }
            closed.push(at);
        }
        self.rows.take_away(heads[0], &self.chunk, &closed)
    }

    fn flush(&mut self, at_least: usize, ctx: &mut StepContext) -> Result<()> {
        if self.emitted.weights.len() >= at_least {
            let Emitted { rows, starts, ends, weights } = std::mem::take(&mut self.emitted);
            let count = weights.len();
            let times: Vec<i64> = ends.iter().map(|end| end - MICROS_PER_MILLI).collect();
            let mut columns = self.layout.decode(&rows)?;
            let width = columns.len();
            for (values, field) in [starts, ends, times].into_iter().zip(&self.output.fields()[width..]) {
                let array = TimestampMicrosecondArray::from(values);
                columns.push(Arc::new(PrimitiveArray::<TimestampMicrosecondType>::with_data_type(array, field.data_type().clone())));
            }
            ctx.emit(changes(assemble(&self.output, columns, count)?, weights, self.on_close)?);
        }
        Ok(())
    }
}

/// Rows of an append-only output come as often as their weight says.
pub(super) fn changes(rows: arrow::array::RecordBatch, weights: Vec<i64>, append: bool) -> Result<ChangeBatch> {
    if !append {
        return Ok(ChangeBatch::with_weights(rows, Int64Array::from(weights)));
    }
    let all = ChangeBatch::insertions(rows);
    if weights.iter().all(|weight| *weight == 1) {
        return Ok(all);
    }
    let copies = weights.iter().enumerate().flat_map(|(row, weight)| std::iter::repeat_n(row as u32, *weight as usize));
    Ok(all.take(&UInt32Array::from_iter_values(copies))?)
}

impl Emitted {
    fn push(&mut self, row: &[u8], (start, end): Bounds, weight: i64) {
        if weight != 0 {
            self.rows.push(&[row]);
            self.starts.push(start);
            self.ends.push(end);
            self.weights.push(weight);
        }
    }
}

impl Operator for SessionAssign {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        let times = batch.changes.rows.column(self.time_column).as_primitive::<TimestampMicrosecondType>();
        let in_range = |time: i64| time.checked_add(self.gap).is_some() && time.checked_sub(self.gap).is_some();
        let is_late = |time: i64| is_closed(time + self.gap, self.lateness, batch.arrival_watermark);
        let (mut null, mut out_of_range, mut late, mut kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in 0..times.len() {
            let to = match times.is_valid(row).then(|| times.value(row)) {
                None => &mut null,
                Some(time) if in_range(time) && is_late(time) => &mut late,
                Some(time) if in_range(time) => &mut kept,
                Some(_) => &mut out_of_range,
            };
            to.push(row as u32);
        }
        if kept.len() == times.len() {
            self.held.push(batch);
            return Ok(());
        }
        for (rows, reason) in [(null, "null time in a windowed row"), (out_of_range, "window out of the range of time")] {
            if !rows.is_empty() {
                ctx.reject(batch.changes.take(&UInt32Array::from(rows))?, SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, reason))?;
            }
        }
        if !late.is_empty() {
            ctx.late(batch.changes.take(&UInt32Array::from(late))?);
        }
        if !kept.is_empty() {
            self.held.push(TaggedBatch { changes: batch.changes.take(&UInt32Array::from(kept))?, ..batch });
        }
        Ok(())
    }

    fn finish(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        let mut held = std::mem::take(&mut self.held);
        held.sort_by_key(|batch| batch.arrival_watermark);
        // What had ended by then was closed at the end of the last step.
        let mut closed = ctx.start_watermark;
        for arrived in held.chunk_by(|a, b| a.arrival_watermark == b.arrival_watermark) {
            self.close_after(&mut closed, arrived[0].arrival_watermark, ctx)?;
            self.add(arrived, ctx)?;
        }
        self.close_after(&mut closed, watermark, ctx)?;
        self.ends.maintain()
    }

    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        let mut runs = self.rows.freeze()?;
        runs.push(self.ends.freeze()?);
        Ok(runs)
    }

    fn shrink(&mut self) -> Result<()> {
        self.rows.maintain()?;
        self.ends.maintain()
    }

    fn next_close(&self) -> Option<Timestamp> {
        self.ends.table.first_end().map(|end| Timestamp(end.saturating_add(self.lateness)))
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes() + self.ends.bytes()
    }
}

/// The time that an order begins with.
pub(super) fn time_of(order: &[u8]) -> Result<i64> {
    match order.split_first_chunk::<TIME_BYTES>() {
        Some(([1, bytes @ ..], _)) => Ok((u64::from_be_bytes(*bytes) ^ (1 << 63)) as i64),
        _ => Err(SqlError::corrupt("a stored row has no time")),
    }
}

/// A time as the beginning of a key: a value tag and eight order-preserving bytes.
pub(super) fn time_key(time: i64) -> [u8; TIME_BYTES] {
    let mut key = [1; TIME_BYTES];
    key[1..].copy_from_slice(&(time as u64 ^ (1 << 63)).to_be_bytes());
    key
}

/// Open sessions by their end: an entry of the end and the partition's key for each.
pub(super) struct Ends {
    table: StateTable,
    present: Present,
    keys: KeyRows,
    slots: Vec<u32>,
}

impl Ends {
    pub(super) fn open(space: &StateSpace, kind: u8) -> Result<Self> {
        let mut present = Present::default();
        let table = space.table(kind, TableShape { expiry: true, ordered: false }, &mut present)?;
        Ok(Ends { table, present, keys: KeyRows::default(), slots: Vec::new() })
    }

    /// The sessions of one partition end elsewhere now.
    pub(super) fn replace(&mut self, old: &BTreeSet<i64>, new: &BTreeSet<i64>, key: &[u8], shard: u8) -> Result<()> {
        for (from, to, added) in [(old, new, false), (new, old, true)] {
            self.keys.clear();
            from.difference(to).for_each(|end| self.keys.push(&[&time_key(*end), key]));
            self.table.intern(&self.keys, Shards::Of(&|_| shard), &mut self.present, &mut self.slots)?;
            for slot in &self.slots {
                if added {
                    self.present.0[*slot as usize] = true;
                    self.table.mark_dirty(*slot);
                } else {
                    self.table.remove(*slot, &mut self.present);
                }
            }
        }
        Ok(())
    }

    /// Takes out the sessions with the earliest end, if `due` says so of it: their partitions' keys and shards.
    #[allow(clippy::type_complexity)] // said in the line above
    pub(super) fn first(&mut self, due: impl Fn(i64) -> bool) -> Result<Option<(i64, Vec<(Vec<u8>, u8)>)>> {
        let Some(end) = self.table.first_end().filter(|end| due(*end)) else { return Ok(None) };
        let mut keys = Vec::new();
        loop {
            for slot in self.table.window_slots(end) {
                keys.push((self.table.key(slot)[TIME_BYTES..].to_vec(), self.table.shard(slot)));
                self.table.remove(slot, &mut self.present);
            }
            self.table.maintain(&mut self.present)?;
            if !self.table.load_window(end, &mut self.present)? {
                return Ok(Some((end, keys)));
            }
        }
    }

    pub(super) fn maintain(&mut self) -> Result<()> {
        self.table.maintain(&mut self.present)
    }

    pub(super) fn freeze(&mut self) -> Result<(StateTableId, SortedRun)> {
        Ok((self.table.id(), self.table.freeze(&mut self.present)?))
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes(&self.present)
    }
}

/// Which slots are entries; an entry has no value but a version.
#[derive(Default)]
struct Present(Vec<bool>);

const PRESENT_VERSION: u8 = 1;

impl SlotCodec for Present {
    fn reserve(&mut self, slots: usize) {
        self.0.resize(slots, false);
    }

    fn encode(&self, _slot: u32, out: &mut Vec<u8>) {
        out.push(PRESENT_VERSION);
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<()> {
        self.0[slot as usize] = true;
        if bytes == [PRESENT_VERSION] { Ok(()) } else { Err(SqlError::corrupt("a stored session has an unknown version")) }
    }

    fn clear(&mut self, slot: u32, _key: &[u8]) {
        self.0[slot as usize] = false;
    }

    fn slot_bytes(&self) -> usize {
        1
    }
}

#[cfg(test)]
mod tests;
