//! Hash join: inner, left, right, full, semi, anti and mark joins on equality of keys and a residual condition, over append-only
//! and retracting inputs.
//!
//! Both inputs are kept as row multisets by key. A step first adds its changes to both; at its end every key of which a row
//! changed is joined once: the changed left rows with all right rows, then the unchanged left rows with the changed right ones.
//! A pair's change of weight is `l' * r' - l * r`, from the weights before and after the step, so each pair is looked at once
//! and what leaves is net. Whether a row matches anything is a number: the sum of the weights of the rows it matches. Without a
//! residual condition that is the sum over the other side's key; with one it is kept as the row's mark.
//!
//! # Parts
//! - `side`: one input's rows
//! - `probe`: the work of a step, key by key, in pieces that end when much was emitted
//! - `pairs`: pairs collected from many keys, decoded and tested together
//! - `output`: what is shown of pairs and of single rows
//!
//! A join on the end of a window keeps the rows of windows that are not closed; rows of closed ones are late. A join whose
//! condition holds the distance of two event times to an interval keeps rows that something to come can match; rows behind
//! the watermark are late.
//!
//! # Invariants
//! - At the end of a step no weight is below zero; else something was retracted that was never there, an internal error.
//! - What is emitted at once is bounded (`output::EMIT_ROWS`, `EMIT_BYTES`), whatever the number of pairs; so is what is decoded at once.
//!
//! With a time to live, rows that were not touched for it are forgotten, each by itself. How many rows one matches is then kept as its
//! mark always: it does not become less because some of them were forgotten.
//!
//! It knows nothing of workers, exchanges or of where its output goes.

mod output;
mod pairs;
mod probe;
mod side;

use super::aggregate::without_late;
use super::state::StateSpec;
use crate::expr::{NowHandle, Predicate};
use crate::operator::{Operator, StepContext};
use arrow::array::{Array, AsArray, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use eddyline_common::key::ColumnOrder;
use eddyline_common::kv::SortedRun;
use eddyline_common::time::MICROS_PER_SECOND;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlType, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{ChangelogMode, Expr, JoinInterval, JoinKind, JoinWindow, Literal, LiteralValue};
use eddyline_storage::state::{ROW_KINDS, RowShape, RowTtl};
use output::Output;
use pairs::Pairs;
use probe::Probe;
pub(super) use probe::{changed_keys, push_touched_rows};
pub(super) use side::{Side, SideSpec};
use std::sync::Arc;

pub struct JoinSpec<'a> {
    pub kind: JoinKind,
    /// Input columns of each side, in the order in which they are compared.
    pub keys: [Vec<usize>; 2],
    pub nulls_equal: bool,
    /// Over the left columns and then the right ones.
    pub residual: Option<&'a Expr>,
    pub window: Option<JoinWindow>,
    pub interval: Option<JoinInterval>,
    pub inputs: [SchemaRef; 2],
    pub input_modes: [ChangelogMode; 2],
    pub output: SchemaRef,
    pub output_mode: ChangelogMode,
    /// Input columns of each side whose key decided that a row came to this worker.
    pub routing: [Vec<usize>; 2],
    pub now: &'a NowHandle,
    pub state: StateSpec,
}

pub struct Join {
    kind: JoinKind,
    /// The window's end among the columns of each side, and the allowed lateness.
    window: Option<([usize; 2], i64)>,
    interval: Option<JoinInterval>,
    sides: [Side; 2],
    residual: Option<Predicate>,
    /// Rows may be retracted that were forgotten, here or below.
    forgetful: bool,
    /// It forgets rows itself: how many a row matches is what its mark says.
    marked: bool,
    output: Output,
    pairs: Pairs,
    /// The work of the step that is being finished.
    probe: Option<Probe>,
}

impl Join {
    pub fn new(spec: JoinSpec) -> Result<Box<Self>> {
        let JoinSpec { kind, keys, inputs, routing, input_modes, .. } = spec;
        let types = |side: usize| keys[side].iter().map(|k| inputs[side].fields().get(*k).map(|f| f.data_type())).collect::<Vec<_>>();
        if types(0) != types(1) {
            return Err(SqlError::internal("a join compares keys of different types"));
        }
        let (forgetful, ttl) = (spec.state.forgetful, spec.state.ttl);
        // Then a row's matches are not those that are here.
        let marked = ttl.iter().any(Option::is_some) && (kind.shows_alone(0) || kind.shows_alone(1));
        let all = Expr::Literal(Literal { ty: SqlType::Boolean, value: LiteralValue::Boolean(true) });
        let space = spec.state.open()?;
        let both: Vec<_> = inputs.iter().flat_map(|i| i.fields().iter().cloned()).collect();
        let both = Arc::new(Schema::new(both));
        let residual = spec.residual.or(marked.then_some(&all)).map(|e| Predicate::new(e, &both, spec.now)).transpose()?;
        let output = Output::new(kind, &inputs, spec.output, spec.output_mode)?;
        let open = |side: usize, keys: Vec<usize>, routing: Vec<usize>| {
            let time = spec.interval.map(|interval| interval.times[side]);
            let ascending = ColumnOrder { descending: false, nulls_first: true };
            let compared = keys.iter().copied().filter(|_| !spec.nulls_equal).chain(time).collect();
            Side::open(SideSpec {
                space: &space,
                kind: side as u8 * ROW_KINDS,
                shape: RowShape {
                    marks: residual.is_some() && kind.shows_alone(side),
                    expiry: spec.window.is_some(),
                    retention_micros: spec.interval.map(retention_step),
                    ttl: ttl[side].map(RowTtl::Rows),
                    ..RowShape::default()
                },
                input: inputs[side].clone(),
                keys,
                order: time.map(|time| (time, ascending)).into_iter().collect(),
                routing,
                compared,
                preserved: kind.preserves(side),
                retract: input_modes[side] == ChangelogMode::Retract,
            })
        };
        let window = spec.window.map(|w| ([keys[0][w.end], keys[1][w.end]], w.allowed_lateness));
        let [left_keys, right_keys] = keys.map(|keys| end_first(keys, spec.window));
        let [left_routing, right_routing] = routing;
        let sides = [open(0, left_keys, left_routing)?, open(1, right_keys, right_routing)?];
        let (interval, pairs) = (spec.interval, Pairs::new(both));
        Ok(Box::new(Join { kind, window, interval, sides, residual, forgetful, marked, output, pairs, probe: None }))
    }
}

impl Join {
    fn forget_expired(&mut self, now: Timestamp) -> Result<()> {
        self.sides.iter_mut().try_for_each(|side| side.rows.forget_expired(now))
    }
}

impl Operator for Join {
    fn push(&mut self, port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        self.forget_expired(ctx.now)?;
        let changes = match (self.window, self.interval) {
            (Some((ends, lateness)), _) => without_late(batch, ends[port], lateness, ctx)?,
            (None, Some(interval)) => without_behind(batch, interval.times[port], ctx)?,
            (None, None) => batch.changes,
        };
        self.sides[port].add(&changes)
    }

    fn finish(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        let mut probe = match self.probe.take() {
            Some(probe) => probe,
            None => {
                self.forget_expired(ctx.now)?;
                if self.forgetful {
                    self.sides.iter_mut().try_for_each(|side| side.ignore_missing(ctx))?;
                }
                for side in 0..2 {
                    for changes in self.sides[side].take_unmatched()? {
                        self.output.emit_unmatched(side, changes, ctx)?;
                    }
                }
                Probe::begin(&mut self.sides)?
            }
        };
        if !probe.run(self, ctx)? {
            self.probe = Some(probe);
            return Ok(());
        }
        for (number, side) in self.sides.iter_mut().enumerate() {
            side.rows.settle()?;
            if let Some((_, lateness)) = self.window {
                side.rows.drop_windows(watermark.0.saturating_sub(lateness))?;
            }
            // A left row matches right ones up to `upper` after it, a right row left ones up to `-lower` after it. One that is not late yet can be taken back.
            if let Some(interval) = self.interval {
                let reach = if number == 0 { interval.upper } else { interval.lower.saturating_neg() };
                side.rows.drop_before(watermark.0.saturating_sub(reach.max(0)))?;
            }
        }
        Ok(())
    }

    fn unfinished(&self) -> bool {
        self.probe.is_some()
    }

    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        let mut runs = self.sides[0].rows.freeze()?;
        runs.extend(self.sides[1].rows.freeze()?);
        Ok(runs)
    }

    fn shrink(&mut self) -> Result<()> {
        self.sides.iter_mut().try_for_each(|side| side.rows.maintain())
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.sides.iter().filter_map(|side| side.rows.next_expiry()).min()
    }

    fn next_close(&self) -> Option<Timestamp> {
        let (_, lateness) = self.window?;
        let first = self.sides.iter().filter_map(|side| side.rows.first_window()).min();
        first.map(|end| Timestamp(end.saturating_add(lateness)))
    }

    fn state_bytes(&self) -> usize {
        self.sides.iter().map(|side| side.rows.bytes()).sum()
    }
}

/// Sends rows to the side whose time is before the watermark that they arrived under, returns the others.
pub(super) fn without_behind(batch: TaggedBatch, time: usize, ctx: &mut StepContext) -> Result<ChangeBatch> {
    let TaggedBatch { changes, arrival_watermark, .. } = batch;
    let times = changes.rows.column(time).as_primitive_opt::<TimestampMicrosecondType>();
    let times = times.ok_or_else(|| SqlError::internal("an interval join is over a column that is no time"))?;
    let is_late = |row: usize| times.is_valid(row) && times.value(row) < arrival_watermark.0;
    let late = BooleanBuffer::collect_bool(times.len(), is_late);
    if late.count_set_bits() == 0 {
        return Ok(changes);
    }
    ctx.late(changes.filter(&BooleanArray::new(late.clone(), None))?);
    Ok(changes.filter(&BooleanArray::new(!&late, None))?)
}

/// Rows are dropped in some steps per interval: often enough for the memory, rarely enough for the bookkeeping.
fn retention_step(interval: JoinInterval) -> i64 {
    (interval.upper.saturating_sub(interval.lower) / 4).clamp(MICROS_PER_SECOND, 3600 * MICROS_PER_SECOND)
}

/// Keys with the end of the window first.
fn end_first(mut keys: Vec<usize>, window: Option<JoinWindow>) -> Vec<usize> {
    if let Some(window) = window {
        let end = keys.remove(window.end);
        keys.insert(0, end);
    }
    keys
}

#[cfg(test)]
mod tests;
