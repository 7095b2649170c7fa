//! Window assign: appends the bounds of the windows that cover a row's event time, one output row per window.
//!
//! Windows are `[start, start + size)`; starts lie at multiples of the slide plus the offset, also before 1970. Those of
//! CUMULATE share a start and end at each step of their size. A row
//! that no window covers (a slide longer than the size) is dropped, as the query says. A row without a time, or whose
//! window would begin or end outside the range of time, is rejected.

use crate::operator::{Operator, StepContext};
use crate::operators::scan::assemble;
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};
use eddyline_common::time::MICROS_PER_MILLI;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState, TaggedBatch, Timestamp};
use eddyline_planner::plan::WindowKind;
use std::sync::Arc;

/// One row may fall into this many windows at most: it is multiplied by their number.
const WINDOWS_PER_ROW_MAX: i64 = 10_000;

/// Output rows after which a batch is emitted, so that hopping windows do not make one batch of gigabytes.
const OUTPUT_ROWS: usize = 16 * 1024;

pub struct WindowAssign {
    time_column: usize,
    size: i64,
    slide: i64,
    /// Windows with one start end this far apart; otherwise there is one.
    step: Option<i64>,
    offset: i64,
    output: SchemaRef,
}

impl WindowAssign {
    pub fn new(time_column: usize, kind: WindowKind, input: &SchemaRef, output: SchemaRef) -> Result<Self> {
        let (size, slide, step, offset) = match kind {
            WindowKind::Tumble { size, offset } => (size, size, None, offset),
            WindowKind::Hop { size, slide, offset } => (size, slide, None, offset),
            WindowKind::Cumulate { size, step, offset } => (size, size, Some(step), offset),
            WindowKind::Session { .. } => return Err(SqlError::internal("a session is not assigned row by row")),
        };
        let apart = step.unwrap_or(slide);
        if size <= 0 || apart <= 0 || step.is_some_and(|step| size % step != 0) {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, "the size and the slide of a window must be positive"));
        }
        if size / apart > WINDOWS_PER_ROW_MAX {
            return Err(SqlError::new(SqlState::LIMIT_EXCEEDED, "too many windows for each row")
                .with_detail(format!("A row is in {} windows; at most {WINDOWS_PER_ROW_MAX} are supported.", size / apart)));
        }
        let is_time = |ty: &DataType| matches!(ty, DataType::Timestamp(TimeUnit::Microsecond, _));
        let width = input.fields().len();
        let valid = output.fields().len() == width + 3
            && input.fields().get(time_column).is_some_and(|f| is_time(f.data_type()))
            && output.fields()[width..].iter().all(|f| is_time(f.data_type()));
        if !valid {
            return Err(SqlError::internal("a window does not fit the columns of its input"));
        }
        Ok(WindowAssign { time_column, size, slide, step, offset, output })
    }

    /// The start of the last window that begins at or before `time`; `None` out of range.
    fn last_start(&self, time: i64) -> Option<i64> {
        let shifted = time.checked_sub(self.offset)?;
        let start = shifted.checked_sub(shifted.rem_euclid(self.slide))?.checked_add(self.offset)?;
        // Every window of every row in `start..start + slide` is then in range as well.
        start.checked_sub(self.size)?.checked_sub(self.slide)?;
        start.checked_add(self.size.max(self.slide))?;
        Some(start)
    }

    fn emit(&self, batch: &TaggedBatch, picked: &mut Picked, ctx: &mut StepContext) -> Result<()> {
        if picked.starts.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut picked.rows);
        let starts = std::mem::take(&mut picked.starts);
        let ends: Vec<i64> = match self.step {
            Some(_) => std::mem::take(&mut picked.ends),
            None => starts.iter().map(|s| s + self.size).collect(),
        };
        // Tumbling windows usually keep every row in its place.
        let in_place = rows.len() == batch.changes.num_rows() && rows.iter().enumerate().all(|(i, row)| i == *row as usize);
        let changes = if in_place { batch.changes.clone() } else { batch.changes.take(&UInt32Array::from(rows))? };
        let times: Vec<i64> = ends.iter().map(|e| e - MICROS_PER_MILLI).collect();
        let count = starts.len();
        let mut columns: Vec<ArrayRef> = changes.rows.columns().to_vec();
        let width = columns.len();
        for (values, field) in [starts, ends, times].into_iter().zip(&self.output.fields()[width..]) {
            let array = TimestampMicrosecondArray::from(values);
            columns.push(Arc::new(PrimitiveArray::<TimestampMicrosecondType>::with_data_type(array, field.data_type().clone())));
        }
        let rows = assemble(&self.output, columns, count)?;
        ctx.emit_tagged(TaggedBatch { changes: changes.with_rows(rows), arrival_watermark: batch.arrival_watermark, now: batch.now });
        Ok(())
    }
}

/// Output rows in the making: which input row, and which window.
#[derive(Default)]
struct Picked {
    rows: Vec<u32>,
    starts: Vec<i64>,
    /// Only of windows that share a start.
    ends: Vec<i64>,
}

impl Picked {
    /// The windows that start at `start` and hold `time`, shortest first.
    fn cumulate(&mut self, row: u32, time: i64, start: i64, size: i64, step: i64) {
        let mut end = start + (time - start) / step * step;
        while end < start + size {
            end += step;
            self.rows.push(row);
            self.starts.push(start);
            self.ends.push(end);
        }
    }
}

impl Operator for WindowAssign {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        let column = batch.changes.rows.column(self.time_column).clone();
        let times = column.as_primitive::<TimestampMicrosecondType>();
        let (mut null, mut out_of_range) = (Vec::new(), Vec::new());
        let mut picked = Picked { rows: Vec::with_capacity(times.len()), starts: Vec::with_capacity(times.len()), ends: Vec::new() };
        // Neighbours mostly share the last window: `start..start + slide` saves the division.
        let mut start = 0;
        let mut next = 0;
        for row in 0..times.len() {
            if times.is_null(row) {
                null.push(row as u32);
                continue;
            }
            let time = times.value(row);
            if time < start || time >= next {
                match self.last_start(time) {
                    Some(s) => (start, next) = (s, s + self.slide),
                    None => {
                        out_of_range.push(row as u32);
                        continue;
                    }
                }
            }
            if let Some(step) = self.step {
                picked.cumulate(row as u32, time, start, self.size, step);
            } else {
                let mut window = start;
                while window > time - self.size {
                    picked.rows.push(row as u32);
                    picked.starts.push(window);
                    window -= self.slide;
                }
            }
            if picked.starts.len() >= OUTPUT_ROWS && self.step.unwrap_or(self.slide) < self.size {
                self.emit(&batch, &mut picked, ctx)?;
            }
        }
        self.emit(&batch, &mut picked, ctx)?;
        reject(&batch.changes, null, "null time in a windowed row", ctx)?;
        reject(&batch.changes, out_of_range, "window out of the range of time", ctx)
    }

    fn finish(&mut self, _watermark: Timestamp, _ctx: &mut StepContext) -> Result<()> {
        Ok(())
    }
}

fn reject(changes: &ChangeBatch, rows: Vec<u32>, reason: &str, ctx: &mut StepContext) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    ctx.reject(changes.take(&UInt32Array::from(rows))?, SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, reason))
}

#[cfg(test)]
mod tests;
