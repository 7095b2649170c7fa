//! Lateness and closing of windows. A window is closed for a row if its end plus the allowed lateness was not after the
//! watermark that the row arrived under; it is closed for good when the watermark after a step gets there.

use super::{Aggregate, SLICE_ROWS};
use crate::operator::StepContext;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use eddyline_common::{ChangeBatch, Result, SqlError, TaggedBatch, Timestamp};
use eddyline_planner::plan::{AggregateWindow, Emit};

/// Groups emitted in one batch when a window closes.
const CLOSE_ROWS: usize = 16_384;

pub(crate) fn is_closed(end: i64, lateness: i64, watermark: Timestamp) -> bool {
    end.saturating_add(lateness) <= watermark.0
}

/// Sends rows to the side that are late for their window, whose end is column `end`; returns the others.
pub(crate) fn on_time(batch: TaggedBatch, end: usize, window: AggregateWindow, ctx: &mut StepContext) -> Result<ChangeBatch> {
    if window.session { Ok(batch.changes) } else { without_late(batch, end, window.allowed_lateness, ctx) }
}

/// Whether windows are to be closed at the end of a step.
pub(crate) fn closes(session: bool, watermark: Timestamp, ctx: &StepContext) -> bool {
    !session || watermark > ctx.start_watermark
}

/// Sends late rows to the side, returns the others.
pub(crate) fn without_late(batch: TaggedBatch, end: usize, lateness: i64, ctx: &mut StepContext) -> Result<ChangeBatch> {
    let TaggedBatch { changes, arrival_watermark, .. } = batch;
    let (late, on_time) = split_late(changes, end, lateness, arrival_watermark)?;
    late.into_iter().for_each(|late| ctx.late(late));
    Ok(on_time)
}

/// The rows that are late for the window that ends at column `end`, if there are any, and the others.
pub(crate) fn split_late(
    changes: ChangeBatch,
    end: usize,
    lateness: i64,
    arrival_watermark: Timestamp,
) -> Result<(Option<ChangeBatch>, ChangeBatch)> {
    let ends = changes.rows.column(end).as_primitive_opt::<TimestampMicrosecondType>();
    let ends = ends.filter(|e| e.null_count() == 0).ok_or_else(|| SqlError::internal("a window's end is not a time, or null"))?;
    if !ends.values().iter().any(|end| is_closed(*end, lateness, arrival_watermark)) {
        return Ok((None, changes));
    }
    let late: BooleanArray = ends.values().iter().map(|end| Some(is_closed(*end, lateness, arrival_watermark))).collect();
    Ok((Some(changes.filter(&late)?), changes.filter(&arrow::compute::not(&late)?)?))
}

impl Aggregate {
    /// Drops the state of every window that `watermark` closes, emitting it before if it is due only now; a slice of it. `false`: there is more.
    pub(super) fn close_windows(&mut self, window: AggregateWindow, watermark: Timestamp, ctx: &mut StepContext) -> Result<bool> {
        if !closes(window.session, watermark, ctx) {
            return Ok(true);
        }
        let mut room = SLICE_ROWS;
        while let Some(end) = self.table.first_end().filter(|end| is_closed(*end, window.allowed_lateness, watermark)) {
            loop {
                let slots = self.table.window_slots(end);
                let (slots, left) = slots.split_at(room.min(slots.len()));
                room -= slots.len();
                for slots in slots.chunks(CLOSE_ROWS) {
                    if window.emit == Emit::OnClose {
                        self.emit_final(slots, ctx)?;
                    }
                    slots.iter().for_each(|slot| self.table.remove(*slot, &mut self.values));
                }
                if !left.is_empty() {
                    return Ok(false);
                }
                // What is left of the window is in the store only; it comes by shards, so that memory stays bounded.
                self.table.maintain(&mut self.values)?;
                if !self.table.load_window(end, &mut self.values)? {
                    break;
                }
            }
            for multiset in &mut self.multisets {
                multiset.drop_window(end)?;
            }
            for ordered in &mut self.ordered {
                ordered.drop_windows(end)?;
            }
        }
        Ok(true)
    }

    fn emit_final(&mut self, slots: &[u32], ctx: &mut StepContext) -> Result<()> {
        let mut columns = self.groups_of(slots)?;
        let results = self.outputs(slots)?;
        columns.extend(results.iter().map(|r| r.values.clone()));
        let unfit = super::memo::out_of_range(&results, slots.len());
        let Some((unfit, reason)) = unfit else {
            ctx.emit(ChangeBatch::insertions(RecordBatch::try_new(self.output.clone(), columns)?));
            return Ok(());
        };
        let all = ChangeBatch::insertions(RecordBatch::try_new(super::memo::nullable(&self.output), columns)?);
        let unfit = BooleanArray::new(unfit, None);
        let fit = all.filter(&arrow::compute::not(&unfit)?)?;
        ctx.emit(ChangeBatch::insertions(RecordBatch::try_new(self.output.clone(), fit.rows.columns().to_vec())?));
        ctx.reject(all.filter(&unfit)?, reason)
    }
}
