//! Temporal join: each left row with the version of the right row that was valid at the left row's time. A right row is a version of its key from its
//! time on, until that of the key's next version; a deletion, which has no time, ends it at the watermark that the deletion arrived under. Left rows wait
//! until the watermark has passed their time: then no version that could be theirs is to come, and what is emitted is final.
//!
//! The right side's changes are worked off cut by cut, in the order of their `now`, so that a step of many cuts finds the versions of all of
//! them. Rows of either side behind the watermark that they arrived under are late.
//!
//! State: left rows that wait, by time; versions by key and time; and an entry per version by its time, so that those which no row to
//! come can need are dropped when the watermark has passed the next one's.

use crate::expr::NowHandle;
use crate::operator::{Operator, StepContext};
use crate::operators::join::without_behind;
use crate::operators::matched::{Matched, columns_at, key_types, without_nulls};
use crate::operators::net::NetChanges;
use crate::operators::routing::Routing;
use crate::operators::scan::assemble;
use crate::operators::session::{Ends, time_key, time_of};
use crate::operators::state::StateSpec;
use crate::operators::temporal_filter::Timed;
use arrow::array::{Array, AsArray, Int64Array, UInt32Array};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{ChangelogMode, Expr, JoinKind};
use eddyline_storage::state::{KeyedRows, NO_SLOT, ROW_KINDS, RowBatch, RowChunk, RowShape, Shards};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;

/// Rows after which what is below in the plan gets its turn.
const EMIT_ROWS: usize = 256 * 1024;
/// Left rows that are joined together, and versions of a key that are read at once.
const PIECE_ROWS: usize = 16 * 1024;

/// What a version's row begins with.
const GONE: u8 = 0;
const THERE: u8 = 1;

pub struct TemporalJoinSpec<'a> {
    /// Inner or Left.
    pub kind: JoinKind,
    /// Input columns of each side, in the order in which they are compared; those of the right side are its key.
    pub keys: [Vec<usize>; 2],
    /// Over the left columns and then the right ones.
    pub residual: Option<&'a Expr>,
    /// Time column of each input.
    pub times: [usize; 2],
    pub inputs: [SchemaRef; 2],
    pub right_mode: ChangelogMode,
    pub output: SchemaRef,
    /// Input columns of each side whose key decided that a row came to this worker.
    pub routing: [Vec<usize>; 2],
    pub now: &'a NowHandle,
    pub state: StateSpec,
}

pub struct TemporalJoin {
    keys: [Vec<usize>; 2],
    times: [usize; 2],
    inputs: [SchemaRef; 2],
    output: Matched,
    /// Of whole rows, by side.
    codecs: [KeyCodec; 2],
    key_codec: KeyCodec,
    routing: [Routing; 2],
    waiting: Timed,
    versions: KeyedRows,
    begins: Ends,
    net: NetChanges,
    /// Of this step, by side.
    held: [Vec<TaggedBatch>; 2],
    /// The step's input is in the state; rows that are due are being joined.
    joining: bool,
}

/// Versions to be put into the state, or to be taken out of it.
#[derive(Default)]
struct Corrections {
    keys: KeyRows,
    orders: KeyRows,
    rows: KeyRows,
    weights: Vec<i64>,
    shards: Vec<u8>,
}

impl Corrections {
    fn push(&mut self, key: &[u8], time: i64, row: &[&[u8]], weight: i64, shard: u8) {
        self.keys.push(&[key]);
        self.orders.push(&[&time_key(time)]);
        self.rows.push(row);
        self.weights.push(weight);
        self.shards.push(shard);
    }
}

/// A version as it is in the state: its time, and where it is in a chunk.
type Known = (i64, u32);

impl TemporalJoin {
    pub fn new(spec: TemporalJoinSpec) -> Result<Box<Self>> {
        let TemporalJoinSpec { kind, keys, times, inputs, output, routing: [of_left, of_right], .. } = spec;
        let compared = key_types(&keys, &inputs)?;
        let is_time = |side: usize| inputs[side].fields().get(times[side]).is_some_and(|f| f.data_type().is_temporal());
        if !is_time(0) || !is_time(1) {
            return Err(SqlError::internal("a temporal join does not fit its inputs"));
        }
        let space = spec.state.open()?;
        let whole = |side: usize| KeyCodec::exact(inputs[side].fields().iter().map(|f| f.data_type().clone()).collect());
        Ok(Box::new(TemporalJoin {
            output: Matched::new(kind, &inputs, output, spec.residual, spec.now)?,
            codecs: [whole(0)?, whole(1)?],
            key_codec: KeyCodec::new(compared)?,
            routing: [Routing::by(of_left, &inputs[0])?, Routing::by(of_right, &inputs[1])?],
            waiting: Timed::open(&space, 0)?,
            versions: KeyedRows::open(&space, ROW_KINDS, RowShape { ordered: true, ..RowShape::default() })?,
            begins: Ends::open(&space, 2 * ROW_KINDS)?,
            net: NetChanges::new(&inputs[1], spec.right_mode == ChangelogMode::Retract)?,
            keys,
            times,
            inputs,
            held: Default::default(),
            joining: false,
        }))
    }

    /// Puts the step's left rows among those that wait.
    fn wait(&mut self) -> Result<()> {
        let (mut encoded, mut keys, mut shards) = (KeyRows::default(), KeyRows::default(), Vec::new());
        for TaggedBatch { changes, .. } in std::mem::take(&mut self.held[0]) {
            self.codecs[0].encode(changes.rows.columns(), changes.num_rows(), &mut encoded);
            self.routing[0].shards(&changes.rows, &encoded, &mut shards);
            keys.clear();
            for (time, shard) in times_of(&changes, self.times[0])?.iter().zip(&shards) {
                keys.push(&[&time_key(time.saturating_add(1)), &[*shard]]);
            }
            let weights = changes.weights.as_ref().map(|w| w.values().as_ref());
            self.waiting.rows.add(RowBatch { keys: &keys, orders: None, rows: &encoded, weights }, Shards::Of(&|row| shards[row]))?;
        }
        self.waiting.rows.settle()
    }

    /// Takes in the versions of the step, cut by cut.
    fn change_versions(&mut self, ctx: &mut StepContext) -> Result<()> {
        let mut held = std::mem::take(&mut self.held[1]);
        held.sort_by_key(|batch| batch.now);
        for cut in held.chunk_by(|a, b| a.now == b.now) {
            let arrival = cut.iter().map(|b| b.arrival_watermark).max().unwrap_or(Timestamp::MIN);
            cut.iter().for_each(|batch| self.net.add(batch.changes.clone()));
            let net = self.net.take()?;
            let changes = ChangeBatch::concat(&self.inputs[1], &net)?;
            if !changes.is_empty() {
                self.change_cut(&changes, arrival, ctx)?;
            }
        }
        Ok(())
    }

    fn change_cut(&mut self, changes: &ChangeBatch, arrival: Timestamp, ctx: &mut StepContext) -> Result<()> {
        // A key with a null in it equals nothing.
        let (changes, _) = without_nulls(changes, &self.keys[1])?;
        let (changes, untimed) = without_nulls(&changes, &[self.times[1]])?;
        if let Some(untimed) = untimed {
            ctx.reject(untimed, no_time())?;
        }
        let (mut keys, mut rows, mut shards) = (KeyRows::default(), KeyRows::default(), Vec::new());
        self.key_codec.encode(&columns_at(&changes, &self.keys[1]), changes.num_rows(), &mut keys);
        self.codecs[1].encode(changes.rows.columns(), changes.num_rows(), &mut rows);
        self.routing[1].shards(&changes.rows, &keys, &mut shards);
        let times = times_of(&changes, self.times[1])?;
        let added: HashSet<&[u8]> = (0..keys.len()).filter(|row| changes.weight(*row) > 0).map(|row| keys.row(row)).collect();
        let (mut heads, mut late, mut corrections) = (Vec::new(), Vec::new(), Corrections::default());
        self.versions.lookup(&keys, Shards::Of(&|row| shards[row]), &mut heads)?;
        for row in 0..keys.len() {
            let (key, shard, time) = (keys.row(row), shards[row], times[row]);
            let row_of = rows.row(row);
            if changes.weight(row) > 0 {
                if time < arrival.0 {
                    late.push(row as u32);
                } else {
                    self.put(heads[row], key, time, &[&[THERE], row_of], shard, &mut corrections)?;
                }
            } else if !added.contains(key) {
                // A row that another one replaces stays a version.
                self.put(heads[row], key, time.max(arrival.0), &[&[GONE]], shard, &mut corrections)?;
            }
        }
        if !late.is_empty() {
            ctx.late(changes.take(&UInt32Array::from(late))?);
        }
        self.correct(corrections)
    }

    /// A version from a time on, instead of one that is there from the same time on.
    fn put(&mut self, head: u32, key: &[u8], time: i64, row: &[&[u8]], shard: u8, corrections: &mut Corrections) -> Result<()> {
        let mut chunk = RowChunk::default();
        self.read(head, &time_key(time), Some(time), &mut chunk)?;
        let row = row.concat();
        let mut is_there = false;
        for at in (0..chunk.len()).filter(|at| chunk.weights()[*at] > 0) {
            if time_of(&chunk.key(at)[key.len()..])? != time {
                continue;
            }
            if chunk.row(at) == row {
                is_there = true;
            } else {
                corrections.push(key, time, &[chunk.row(at)], -chunk.weights()[at], shard);
            }
        }
        if !is_there {
            corrections.push(key, time, &[&row], 1, shard);
            self.begins.replace(&BTreeSet::new(), &BTreeSet::from([time]), key, shard)?;
        }
        Ok(())
    }

    fn correct(&mut self, corrections: Corrections) -> Result<()> {
        let Corrections { keys, orders, rows, weights, shards } = corrections;
        if keys.is_empty() {
            return Ok(());
        }
        let batch = RowBatch { keys: &keys, orders: Some(&orders), rows: &rows, weights: Some(&weights) };
        self.versions.add(batch, Shards::Of(&|at| shards[at]))
    }

    /// Appends a key's versions in the order of their times, from an order on; if only those of one time are wanted, not many others.
    fn read(&mut self, head: u32, from: &[u8], only: Option<i64>, chunk: &mut RowChunk) -> Result<()> {
        if head == NO_SLOT {
            return Ok(());
        }
        let (key, page) = (self.versions.key(head).len(), if only.is_some() { 4 } else { PIECE_ROWS });
        let mut start = from.to_vec();
        loop {
            let before = chunk.len();
            self.versions.range(head, &start, page, chunk)?;
            let Some(last) = chunk.len().checked_sub(1).filter(|_| chunk.len() - before == page) else { return Ok(()) };
            let order = &chunk.key(last)[key..];
            if only.is_some_and(|time| time_of(order).is_ok_and(|t| t != time)) {
                return Ok(());
            }
            start = [order, &[0]].concat();
        }
    }

    /// Where the versions of a key are in a chunk, in the order of their times.
    fn known(&mut self, head: u32, chunk: &mut RowChunk) -> Result<Vec<Known>> {
        let start = chunk.len();
        self.read(head, &[], None, chunk)?;
        let key = if head == NO_SLOT { 0 } else { self.versions.key(head).len() };
        let there = (start..chunk.len()).filter(|at| chunk.weights()[*at] > 0);
        there.map(|at| Ok((time_of(&chunk.key(at)[key..])?, at as u32))).collect()
    }

    /// Joins some of the rows that the watermark has passed; false when there are no more.
    fn join_due(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<bool> {
        let mut chunk = RowChunk::default();
        let more = self.waiting.read_due(watermark, &mut chunk)?;
        if !chunk.is_empty() {
            let columns = self.codecs[0].decode((0..chunk.len()).map(|at| chunk.row(at)))?;
            let rows = assemble(&self.inputs[0], columns, chunk.len())?;
            self.join(&ChangeBatch::with_weights(rows, Int64Array::from(chunk.weights().to_vec())), ctx)?;
        }
        Ok(more)
    }

    fn join(&mut self, left: &ChangeBatch, ctx: &mut StepContext) -> Result<()> {
        let (mut keys, mut shards, mut heads) = (KeyRows::default(), Vec::new(), Vec::new());
        self.key_codec.encode(&columns_at(left, &self.keys[0]), left.num_rows(), &mut keys);
        self.routing[0].shards(&left.rows, &keys, &mut shards);
        self.versions.lookup(&keys, Shards::Of(&|row| shards[row]), &mut heads)?;
        let times = times_of(left, self.times[0])?;
        let mut matched = vec![false; heads.len()];
        let (mut chunk, mut known): (RowChunk, HashMap<u32, Vec<Known>>) = Default::default();
        let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
        for (row, head) in heads.iter().enumerate().filter(|(_, head)| **head != NO_SLOT) {
            if !known.contains_key(head) {
                let versions = self.known(*head, &mut chunk)?;
                known.insert(*head, versions);
            }
            let versions = &known[head];
            let after = versions.partition_point(|(time, _)| *time <= times[row]);
            let version = after.checked_sub(1).map(|at| versions[at].1).filter(|at| chunk.row(*at as usize).first() == Some(&THERE));
            if let Some(at) = version {
                of_left.extend((0..left.weight(row)).map(|_| row as u32));
                of_right.extend((0..left.weight(row)).map(|_| at));
            }
            if chunk.len() >= PIECE_ROWS || of_left.len() >= PIECE_ROWS {
                self.flush(left, &chunk, (std::mem::take(&mut of_left), std::mem::take(&mut of_right)), &mut matched, ctx)?;
                chunk.clear();
                known.clear();
            }
        }
        self.flush(left, &chunk, (of_left, of_right), &mut matched, ctx)?;
        if self.output.outer && matched.contains(&false) {
            ctx.emit(self.output.alone(left, (0..matched.len() as u32).filter(|row| !matched[*row as usize]))?);
        }
        Ok(())
    }

    fn flush(
        &self,
        left: &ChangeBatch,
        chunk: &RowChunk,
        pairs: (Vec<u32>, Vec<u32>),
        matched: &mut [bool],
        ctx: &mut StepContext,
    ) -> Result<()> {
        let (of_left, of_right) = pairs;
        // Only versions that some row needs are decoded.
        let mut places: HashMap<u32, u32> = HashMap::new();
        let mut rows: Vec<&[u8]> = Vec::new();
        let mut at = Vec::with_capacity(of_right.len());
        for version in of_right {
            at.push(*places.entry(version).or_insert_with(|| {
                rows.push(&chunk.row(version as usize)[1..]);
                rows.len() as u32 - 1
            }));
        }
        let right = self.codecs[1].decode(rows.into_iter())?;
        if let Some(joined) = self.output.pairs(left, &right, (of_left, at), matched, ctx)? {
            ctx.emit(joined);
        }
        Ok(())
    }

    /// Drops versions that no row after the watermark can need.
    fn clean(&mut self, watermark: Timestamp) -> Result<()> {
        while let Some((_, keys)) = self.begins.first(|time| time <= watermark.0)? {
            for (key, shard) in keys {
                let (mut one, mut heads) = (KeyRows::default(), Vec::new());
                one.push(&[&key]);
                self.versions.lookup(&one, Shards::Of(&|_| shard), &mut heads)?;
                let mut chunk = RowChunk::default();
                let versions = self.known(heads[0], &mut chunk)?;
                let passed = versions.partition_point(|(time, _)| *time <= watermark.0);
                let Some(last) = passed.checked_sub(1) else { continue };
                let is_gone = chunk.row(versions[last].1 as usize).first() == Some(&GONE);
                let mut corrections = Corrections::default();
                for (time, at) in &versions[..if is_gone { passed } else { last }] {
                    let at = *at as usize;
                    corrections.push(&key, *time, &[chunk.row(at)], -chunk.weights()[at], shard);
                }
                self.correct(corrections)?;
            }
        }
        Ok(())
    }
}

impl Operator for TemporalJoin {
    fn push(&mut self, port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        if port == 1 {
            self.held[1].push(batch);
            return Ok(());
        }
        let (timed, untimed) = without_nulls(&batch.changes, &[self.times[0]])?;
        if let Some(untimed) = untimed {
            ctx.reject(untimed, no_time())?;
        }
        let (arrival_watermark, now) = (batch.arrival_watermark, batch.now);
        let changes = without_behind(TaggedBatch { changes: timed, arrival_watermark, now }, self.times[0], ctx)?;
        if !changes.is_empty() {
            self.held[0].push(TaggedBatch { changes, arrival_watermark, now });
        }
        Ok(())
    }

    fn finish(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        if !self.joining {
            self.wait()?;
            self.change_versions(ctx)?;
            self.joining = true;
        }
        for _ in 0..EMIT_ROWS / PIECE_ROWS {
            if !self.join_due(watermark, ctx)? {
                self.clean(watermark)?;
                self.joining = false;
                self.begins.maintain()?;
                return self.versions.settle();
            }
        }
        Ok(())
    }

    fn unfinished(&self) -> bool {
        self.joining
    }

    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        let mut runs = self.waiting.rows.freeze()?;
        runs.extend(self.versions.freeze()?);
        runs.push(self.begins.freeze()?);
        Ok(runs)
    }

    fn shrink(&mut self) -> Result<()> {
        self.waiting.rows.maintain()?;
        self.versions.maintain()?;
        self.begins.maintain()
    }

    fn next_close(&self) -> Option<Timestamp> {
        self.waiting.rows.first_window().map(Timestamp)
    }

    fn state_bytes(&self) -> usize {
        self.waiting.rows.bytes() + self.versions.bytes() + self.begins.bytes()
    }
}

fn no_time() -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "null time in a row of a temporal join")
}

/// The times of rows, none of which is null.
fn times_of(changes: &ChangeBatch, column: usize) -> Result<Vec<i64>> {
    let times = changes.rows.column(column).as_primitive_opt::<TimestampMicrosecondType>();
    let times =
        times.filter(|t| t.null_count() == 0).ok_or_else(|| SqlError::internal("a temporal join is over a column that is no time"))?;
    Ok(times.values().to_vec())
}
