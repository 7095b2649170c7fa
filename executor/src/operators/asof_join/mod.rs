//! ASOF join: each left row with the right row of its key that is nearest to it by a place of each, over inputs that grow or change.
//!
//! Both sides are kept in the order of their places. Where the nearest right row is the first one after the left row, orders are turned round, so that it is
//! always the last one before. Then a right row rules the left rows from its own place up to that of the next right row. At the end of a step, of each key that
//! changed, right rows that came or went are put together to stretches without a right row that was there all the time: left rows from a stretch's first row up to the next
//! right row are read, and shown anew where another right row rules them. Left rows that changed elsewhere find theirs by a search.
//!
//! If both places are event time, rows behind the watermark that they arrived under are late, and so are their retractions. Then nothing behind the watermark
//! changes any more: left rows are dropped there, and of right rows all but the last one of each key, which rules left rows to come.
//!
//! State: the rows of each side by key and place; of right rows that a watermark bounds, an entry for each key and span of time.
//!
//! # Parts
//! - `nearest`: the right rows that rule left rows of a key
//! - `output`: what changed, as rows
//!
//! # Invariants
//! - What leaves is net: a left row is looked at once in a step, before and after it.
//! - At the end of a step no weight is below zero.

mod nearest;
mod output;

use crate::expr::{NowHandle, Predicate};
use crate::operator::{Operator, StepContext};
use crate::operators::join::{Side, SideSpec, changed_keys, push_touched_rows, without_behind};
use crate::operators::matched::key_types;
use crate::operators::session::{Ends, time_of};
use crate::operators::state::StateSpec;
use arrow::array::BooleanArray;
use arrow::compute::not;
use arrow::datatypes::SchemaRef;
use eddyline_common::key::{ColumnOrder, KeyRows, OrderCodec};
use eddyline_common::kv::SortedRun;
use eddyline_common::time::MICROS_PER_SECOND;
use eddyline_common::{ChangeBatch, Result, SqlError, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{BinaryOp, ChangelogMode, Expr, JoinKind};
use eddyline_storage::state::{KeyedRows, ROW_KINDS, RowChunk, RowShape, Shards};
use output::Output;
use std::collections::BTreeSet;

/// Rows after which what is below in the plan gets its turn.
const EMIT_ROWS: usize = if cfg!(test) { 8 } else { 256 * 1024 };
/// Rows of a key that are read at once.
const PAGE_ROWS: usize = if cfg!(test) { 3 } else { 1024 };
/// Rows are dropped in steps of so many microseconds: often enough for the memory, rarely enough for the bookkeeping.
const SPAN_MICROS: i64 = if cfg!(test) { 4 } else { 5 * MICROS_PER_SECOND };

pub struct AsofJoinSpec<'a> {
    /// Inner or Left.
    pub kind: JoinKind,
    /// Input columns of each side, in the order in which they are compared.
    pub keys: [Vec<usize>; 2],
    /// Over the left columns.
    pub condition: Option<&'a Expr>,
    /// Column of each input.
    pub places: [usize; 2],
    /// How a left row's place is to that of its right row: one of GtEq, Gt, LtEq and Lt.
    pub compared: BinaryOp,
    /// Right columns that order rows in one place.
    pub order: Vec<usize>,
    /// Places are event time, and rows behind the watermark are final.
    pub bounded: bool,
    pub inputs: [SchemaRef; 2],
    pub input_modes: [ChangelogMode; 2],
    pub output: SchemaRef,
    /// Input columns of each side whose key decided that a row came to this worker.
    pub routing: [Vec<usize>; 2],
    pub now: &'a NowHandle,
    pub state: StateSpec,
}

pub struct AsofJoin {
    condition: Option<Predicate>,
    /// A right row in the place of a left one is not its nearest.
    strict: bool,
    bounded: bool,
    /// Column of each input.
    places: [usize; 2],
    sides: [Side; 2],
    /// Of right rows: the place comes first.
    order: OrderCodec,
    /// Rows may be retracted that were forgotten below.
    forgetful: bool,
    /// Keys with right rows by the end of their span of time; only if a watermark bounds them.
    spans: Option<Ends>,
    output: Output,
    page: RowChunk,
    /// Keys of the step that are still to be worked off: the heads of both sides, `NO_SLOT` where there is none.
    pending: Option<Vec<[u32; 2]>>,
}

impl AsofJoin {
    pub fn new(spec: AsofJoinSpec) -> Result<Box<Self>> {
        let AsofJoinSpec { kind, keys, places, compared, inputs, input_modes, bounded, .. } = spec;
        key_types(&keys, &inputs)?;
        let place_type = |side: usize| inputs[side].fields().get(places[side]).map(|f| f.data_type().clone());
        let before = matches!(compared, BinaryOp::GtEq | BinaryOp::Gt);
        let fits = before || matches!(compared, BinaryOp::LtEq | BinaryOp::Lt);
        let [Some(of_left), Some(of_right)] = [place_type(0), place_type(1)] else { return Err(unfit()) };
        let timed = !bounded || before && of_left.is_temporal();
        if !fits || !timed || of_left != of_right || spec.order.iter().any(|c| *c >= inputs[1].fields().len()) {
            return Err(unfit());
        }
        // Ascending with nulls last, or all of that turned round.
        let direction = ColumnOrder { descending: !before, nulls_first: !before };
        let orders = [vec![places[0]], [vec![places[1]], spec.order].concat()];
        let forgetful = spec.state.forgetful;
        let space = spec.state.open()?;
        let ordered = |columns: &[usize]| columns.iter().map(|c| (*c, direction)).collect::<Vec<_>>();
        let open = |side: usize, keys: Vec<usize>, routing: Vec<usize>| {
            let drops = (bounded && side == 0).then_some(SPAN_MICROS);
            Side::open(SideSpec {
                space: &space,
                kind: side as u8 * ROW_KINDS,
                shape: RowShape { ordered: true, retention_micros: drops, ..RowShape::default() },
                input: inputs[side].clone(),
                compared: keys.iter().copied().chain([places[side]]).collect(),
                keys,
                order: ordered(&orders[side]),
                routing,
                preserved: side == 0 && kind == JoinKind::Left,
                retract: input_modes[side] == ChangelogMode::Retract,
            })
        };
        let ([left_keys, right_keys], [left_routing, right_routing]) = (keys, spec.routing);
        let sides = [open(0, left_keys, left_routing)?, open(1, right_keys, right_routing)?];
        let order = ordered(&orders[1]).into_iter().map(|(c, order)| (inputs[1].field(c).data_type().clone(), order)).collect();
        Ok(Box::new(AsofJoin {
            condition: spec.condition.map(|e| Predicate::new(e, &inputs[0], spec.now)).transpose()?,
            strict: matches!(compared, BinaryOp::Gt | BinaryOp::Lt),
            bounded,
            places,
            order: OrderCodec::new(order)?,
            forgetful,
            spans: if bounded { Some(Ends::open(&space, 2 * ROW_KINDS)?) } else { None },
            output: Output::new(kind, &inputs, spec.output)?,
            sides,
            page: RowChunk::default(),
            pending: None,
        }))
    }

    /// The left rows that can match something; the others are set aside.
    fn matching(&mut self, changes: ChangeBatch, ctx: &mut StepContext) -> Result<ChangeBatch> {
        let changes = self.sides[0].comparable(&changes)?;
        let Some(condition) = &self.condition else { return Ok(changes) };
        let weights: Vec<i64> = (0..changes.num_rows()).map(|row| changes.weight(row)).collect();
        let mut passes = vec![false; changes.num_rows()];
        condition.passing(&changes.rows, &weights, ctx)?.into_iter().for_each(|row| passes[row as usize] = true);
        let passes = BooleanArray::from(passes);
        self.sides[0].set_aside(changes.filter(&not(&passes)?)?);
        Ok(changes.filter(&passes)?)
    }

    /// All of the step's input is in: the keys that changed.
    fn begin(&mut self, ctx: &mut StepContext) -> Result<Vec<[u32; 2]>> {
        for side in &mut self.sides {
            if self.forgetful {
                side.ignore_missing(ctx)?;
            }
            side.rows.forget_unchanged();
        }
        for changes in self.sides[0].take_unmatched()? {
            self.output.emit_unmatched(changes, ctx)?;
        }
        let [left, right] = &mut self.sides;
        Ok(changed_keys(&mut left.rows, &mut right.rows)?.0)
    }

    /// Notes of which spans of time the step's new right rows are.
    fn note_spans(&mut self) -> Result<()> {
        let (Some(spans), rows, page) = (&mut self.spans, &self.sides[1].rows, &mut self.page) else { return Ok(()) };
        for touched in rows.touched_heads() {
            page.clear();
            push_touched_rows(rows, touched.head, page);
            let key = rows.key(touched.head);
            let mut ends = BTreeSet::new();
            for at in (0..page.len()).filter(|at| page.old_weights()[*at] == 0 && page.weights()[*at] > 0) {
                ends.insert(span_end(time_of(&page.key(at)[key.len()..])?));
            }
            spans.replace(&BTreeSet::new(), &ends, key, rows.shard(touched.head))?;
        }
        Ok(())
    }

    /// Drops what the watermark made final: left rows behind it, and right rows that none to come can need.
    fn drop_final(&mut self, watermark: Timestamp) -> Result<()> {
        let Some(spans) = &mut self.spans else { return Ok(()) };
        let [left, right] = &mut self.sides;
        left.rows.drop_before(watermark.0)?;
        let mut any = false;
        while let Some((_, keys)) = spans.first(|end| end <= watermark.0)? {
            any = true;
            for (key, shard) in keys {
                drop_superseded(&mut right.rows, &key, shard, watermark, &mut self.page)?;
            }
        }
        if any {
            right.rows.settle()?;
        }
        spans.maintain()
    }
}

/// Of the rows of a key behind the watermark only the last one stays.
fn drop_superseded(rows: &mut KeyedRows, key: &[u8], shard: u8, watermark: Timestamp, page: &mut RowChunk) -> Result<()> {
    let (mut keys, mut heads) = (KeyRows::default(), Vec::new());
    keys.push(&[key]);
    rows.lookup(&keys, Shards::Of(&|_| shard), &mut heads)?;
    let [head] = heads[..] else { return Err(SqlError::internal("one key has one head")) };
    let mut start = Vec::new();
    loop {
        page.clear();
        rows.range(head, &start, PAGE_ROWS, page)?;
        let mut behind = 0;
        while behind < page.len() && time_of(&page.key(behind)[key.len()..])? < watermark.0 {
            behind += 1;
        }
        let superseded: Vec<usize> = (0..behind.saturating_sub(1)).collect();
        rows.take_away(head, page, &superseded)?;
        if behind < PAGE_ROWS {
            return Ok(());
        }
        // The next page begins with this one's last row, and decides on it.
        start = page.key(behind - 1)[key.len()..].to_vec();
    }
}

/// The end of the span of a time.
fn span_end(time: i64) -> i64 {
    time.div_euclid(SPAN_MICROS).saturating_add(1).saturating_mul(SPAN_MICROS)
}

fn unfit() -> SqlError {
    SqlError::internal("an ASOF join does not fit its inputs")
}

impl Operator for AsofJoin {
    fn push(&mut self, port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        let changes = if self.bounded { without_behind(batch, self.places[port], ctx)? } else { batch.changes };
        let changes = match port {
            0 => self.matching(changes, ctx)?,
            _ => self.sides[port].comparable(&changes)?,
        };
        self.sides[port].add_rows(&changes)
    }

    fn finish(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        let mut pending = match self.pending.take() {
            Some(pending) => pending,
            None => self.begin(ctx)?,
        };
        while let Some(heads) = pending.pop() {
            self.resolve(heads, ctx)?;
            if self.output.emitted >= EMIT_ROWS && !pending.is_empty() {
                self.output.emitted = 0;
                self.pending = Some(pending);
                return Ok(());
            }
        }
        self.flush(1, ctx)?;
        self.output.emitted = 0;
        self.note_spans()?;
        self.sides.iter_mut().try_for_each(|side| side.rows.settle())?;
        self.drop_final(watermark)
    }

    fn unfinished(&self) -> bool {
        self.pending.is_some()
    }

    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        let mut runs = self.sides[0].rows.freeze()?;
        runs.extend(self.sides[1].rows.freeze()?);
        if let Some(spans) = &mut self.spans {
            runs.push(spans.freeze()?);
        }
        Ok(runs)
    }

    fn shrink(&mut self) -> Result<()> {
        self.sides.iter_mut().try_for_each(|side| side.rows.maintain())?;
        self.spans.as_mut().map_or(Ok(()), Ends::maintain)
    }

    fn state_bytes(&self) -> usize {
        self.sides.iter().map(|side| side.rows.bytes()).sum::<usize>() + self.spans.as_ref().map_or(0, Ends::bytes)
    }
}

#[cfg(test)]
mod tests;
