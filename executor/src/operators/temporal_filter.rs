//! Temporal filter: the rows for which a condition on the present time holds. Each row names the span of time in which it is
//! shown, and is shown at every epoch whose `now` lies in it: so rows come and go without being touched by any input.
//!
//! State: rows whose time is to come, by when it does, and rows that are shown, by when they leave. A step looks at those alone whose
//! moment it has passed, and at what came. Rows whose time is over are forgotten, and so are their retractions.
//!
//! # Invariants
//! - What a step leads to follows from the rows up to its epoch and from the epoch's `now`, however cuts were put together in steps.
//! - What is emitted is net: a row that leaves is none that came in the same step, because then it would not have been shown.
//! - What is emitted at once is bounded (`EMIT_ROWS`), whatever the number of rows that leave at one moment.

use crate::operator::{Operator, StepContext};
use crate::operators::net::NetChanges;
use crate::operators::routing::Routing;
use crate::operators::scan::assemble;
use crate::operators::session::{changes, time_key};
use crate::operators::state::StateSpec;
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::{ChangeBatch, Result, SqlError, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{ChangelogMode, TimeBound};
use eddyline_storage::state::{Cursor, KeyedRows, ROW_KINDS, RowBatch, RowChunk, RowShape, Shards, StateSpace};

/// Rows after which what is below in the plan gets its turn.
const EMIT_ROWS: usize = if cfg!(test) { 8 } else { 256 * 1024 };
/// Rows that are decoded and emitted together.
const PIECE_ROWS: usize = if cfg!(test) { 3 } else { 16 * 1024 };

pub struct TemporalFilterSpec {
    pub from: Vec<TimeBound>,
    pub until: Vec<TimeBound>,
    pub input: SchemaRef,
    pub input_mode: ChangelogMode,
    pub output: SchemaRef,
    pub output_mode: ChangelogMode,
    /// Input columns whose key decided that a row came to this worker.
    pub routing: Vec<usize>,
    pub state: StateSpec,
}

pub struct TemporalFilter {
    from: Vec<TimeBound>,
    until: Vec<TimeBound>,
    input: SchemaRef,
    output: SchemaRef,
    append: bool,
    codec: KeyCodec,
    routing: Routing,
    /// Rows whose time is to come. Absent if there is no lower bound.
    waiting: Option<Timed>,
    /// Rows that will leave. Absent if there is no upper bound.
    shown: Option<Timed>,
    /// Rows that stay, of this step. Instead of `shown`.
    passing: NetChanges,
    held: Vec<ChangeBatch>,
    /// Rows may be retracted that were forgotten below.
    forgetful: bool,
    stage: Stage,
    chunk: RowChunk,
    encoded: KeyRows,
    keys: KeyRows,
    shards: Vec<u8>,
}

/// How far a step has come that is being finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Between two steps.
    Rest,
    /// Rows whose time is over are taken back.
    Leave,
    /// Rows whose time has come, and then those of the step's input, find their places.
    Enter,
    /// What changed among the rows shown is emitted, from this one on.
    Show(usize),
}

/// Rows by a time: the key is that time and the virtual shard.
pub(super) struct Timed {
    pub rows: KeyedRows,
    due: Option<Due>,
}

/// One moment's rows, while they are read.
struct Due {
    time: i64,
    heads: Vec<u32>,
    at: usize,
    cursor: Option<Cursor>,
}

impl TemporalFilter {
    pub fn new(spec: TemporalFilterSpec) -> Result<Box<Self>> {
        let TemporalFilterSpec { from, until, input, output, .. } = spec;
        let is_time = |bound: &TimeBound| input.fields().get(bound.column).is_some_and(|f| f.data_type().is_temporal());
        if !from.iter().chain(&until).all(is_time) || input.fields().len() != output.fields().len() {
            return Err(SqlError::internal("a temporal filter does not fit the columns of its input"));
        }
        let forgetful = spec.state.forgetful;
        let space = spec.state.open()?;
        let open = |bounds: &[TimeBound], kind: u8| if bounds.is_empty() { Ok(None) } else { Timed::open(&space, kind).map(Some) };
        Ok(Box::new(TemporalFilter {
            waiting: open(&from, 0)?,
            shown: open(&until, ROW_KINDS)?,
            passing: NetChanges::new(&input, spec.input_mode == ChangelogMode::Retract)?,
            append: spec.output_mode == ChangelogMode::Append,
            codec: KeyCodec::exact(input.fields().iter().map(|f| f.data_type().clone()).collect())?,
            routing: Routing::by(spec.routing, &input)?,
            from,
            until,
            input,
            output,
            held: Vec::new(),
            forgetful,
            stage: Stage::Rest,
            chunk: RowChunk::default(),
            encoded: KeyRows::default(),
            keys: KeyRows::default(),
            shards: Vec::new(),
        }))
    }

    /// Puts changes where their rows belong at `now`.
    fn place(&mut self, changes: ChangeBatch, now: Timestamp) -> Result<()> {
        let spans = self.spans(&changes.rows)?;
        let (mut waiting, mut shown) = (Vec::new(), Vec::new());
        for row in 0..changes.num_rows() {
            match spans.of(row) {
                Some((from, until)) if until > now.0 && from < until => {
                    let to = if from > now.0 { &mut waiting } else { &mut shown };
                    to.push(row as u32);
                }
                _ => {}
            }
        }
        let TemporalFilter { codec, routing, encoded, keys, shards, .. } = self;
        let mut put = |table: &mut Timed, rows: Vec<u32>, times: &[i64]| -> Result<()> {
            if rows.is_empty() {
                return Ok(());
            }
            let part = part_of(&changes, &rows)?;
            codec.encode(part.rows.columns(), part.num_rows(), encoded);
            routing.shards(&part.rows, encoded, shards);
            keys.clear();
            rows.iter().zip(shards.iter()).for_each(|(row, shard)| keys.push(&[&time_key(times[*row as usize]), &[*shard]]));
            let weights = part.weights.as_ref().map(|w| w.values().as_ref());
            let batch = RowBatch { keys: &*keys, orders: None, rows: &*encoded, weights };
            table.rows.add(batch, Shards::Of(&|row| shards[row]))
        };
        match &mut self.shown {
            Some(table) => put(table, shown, &spans.until)?,
            None => self.passing.add(part_of(&changes, &shown)?),
        }
        match &mut self.waiting {
            Some(table) => put(table, waiting, &spans.from),
            None => Ok(()),
        }
    }

    fn spans(&self, rows: &RecordBatch) -> Result<Spans> {
        let mut spans = Spans { from: vec![i64::MIN; rows.num_rows()], until: vec![i64::MAX; rows.num_rows()], nulls: None };
        for (bounds, upper) in [(&self.from, false), (&self.until, true)] {
            for bound in bounds {
                let times = rows.column(bound.column).as_primitive_opt::<TimestampMicrosecondType>();
                let times = times.ok_or_else(|| SqlError::internal("a temporal filter is over a column that is no time"))?;
                spans.nulls = NullBuffer::union(spans.nulls.as_ref(), times.nulls());
                for (row, time) in times.values().iter().enumerate() {
                    let time = time.saturating_add(bound.shift);
                    if upper {
                        spans.until[row] = spans.until[row].min(time);
                    } else {
                        spans.from[row] = spans.from[row].max(time);
                    }
                }
            }
        }
        Ok(spans)
    }

    /// Takes back some of the rows whose time is over; false when there are no more.
    fn leave(&mut self, ctx: &mut StepContext) -> Result<bool> {
        let Some(shown) = &mut self.shown else { return Ok(false) };
        self.chunk.clear();
        let more = shown.read_due(ctx.now, &mut self.chunk)?;
        let weights = self.chunk.weights().iter().map(|weight| -weight).collect();
        self.emit_chunk(weights, ctx)?;
        Ok(more)
    }

    /// Takes in some of the rows whose time has come; false when there are no more.
    fn enter(&mut self, now: Timestamp) -> Result<bool> {
        let Some(waiting) = &mut self.waiting else { return Ok(false) };
        self.chunk.clear();
        let more = waiting.read_due(now, &mut self.chunk)?;
        if !self.chunk.is_empty() {
            let columns = self.codec.decode((0..self.chunk.len()).map(|at| self.chunk.row(at)))?;
            let rows = assemble(&self.input, columns, self.chunk.len())?;
            let weights = Int64Array::from(self.chunk.weights().to_vec());
            self.place(ChangeBatch::with_weights(rows, weights), now)?;
        }
        Ok(more)
    }

    /// Emits some of what the step changed among the rows shown, from one on; the next one, if there is one.
    fn show(&mut self, from: usize, ctx: &mut StepContext) -> Result<Option<usize>> {
        let Some(shown) = &self.shown else {
            for changes in self.passing.take()? {
                self.emit(changes, ctx)?;
            }
            return Ok(None);
        };
        self.chunk.clear();
        let all = shown.rows.touched_rows().len();
        let to = all.min(from + PIECE_ROWS);
        (from..to).for_each(|touched| shown.rows.push_touched(touched as u32, &mut self.chunk));
        let weights = self.chunk.weights().iter().zip(self.chunk.old_weights()).map(|(new, old)| new - old).collect();
        self.emit_chunk(weights, ctx)?;
        Ok((to < all).then_some(to))
    }

    /// Emits the rows of the chunk whose weights are not zero.
    fn emit_chunk(&self, mut weights: Vec<i64>, ctx: &mut StepContext) -> Result<()> {
        let kept: Vec<usize> = (0..weights.len()).filter(|at| weights[*at] != 0).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let columns = self.codec.decode(kept.iter().map(|at| self.chunk.row(*at)))?;
        weights.retain(|weight| *weight != 0);
        let rows = assemble(&self.output, columns, kept.len())?;
        ctx.emit(ChangeBatch::with_weights(rows, Int64Array::from(weights)));
        Ok(())
    }

    fn emit(&self, passed: ChangeBatch, ctx: &mut StepContext) -> Result<()> {
        let rows = assemble(&self.output, passed.rows.columns().to_vec(), passed.num_rows())?;
        ctx.emit(match passed.weights {
            None => ChangeBatch::insertions(rows),
            Some(weights) => changes(rows, weights.values().to_vec(), self.append)?,
        });
        Ok(())
    }

    fn tables(&mut self) -> impl Iterator<Item = &mut Timed> {
        self.waiting.iter_mut().chain(&mut self.shown)
    }
}

impl Operator for TemporalFilter {
    fn push(&mut self, _port: usize, batch: TaggedBatch, _ctx: &mut StepContext) -> Result<()> {
        self.held.push(batch.changes);
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        if self.stage == Stage::Rest {
            self.stage = Stage::Leave;
        }
        let mut rows = 0;
        while rows < EMIT_ROWS {
            rows += PIECE_ROWS;
            let stage = self.stage;
            match stage {
                Stage::Rest => return Ok(()),
                Stage::Leave if self.leave(ctx)? => {}
                Stage::Leave => self.stage = Stage::Enter,
                Stage::Enter if self.enter(ctx.now)? => {}
                Stage::Enter => {
                    for changes in std::mem::take(&mut self.held) {
                        self.place(changes, ctx.now)?;
                    }
                    if self.forgetful {
                        let mut missing = RowChunk::default();
                        self.tables().for_each(|table| table.rows.ignore_missing(&mut missing));
                    }
                    self.stage = Stage::Show(0);
                }
                Stage::Show(from) => match self.show(from, ctx)? {
                    Some(next) => self.stage = Stage::Show(next),
                    None => {
                        self.tables().try_for_each(|table| table.rows.settle())?;
                        self.stage = Stage::Rest;
                    }
                },
            }
        }
        Ok(())
    }

    fn unfinished(&self) -> bool {
        self.stage != Stage::Rest
    }

    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        let mut runs = Vec::new();
        for table in self.tables() {
            runs.extend(table.rows.freeze()?);
        }
        Ok(runs)
    }

    fn shrink(&mut self) -> Result<()> {
        self.tables().try_for_each(|table| table.rows.maintain())
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let first = self.waiting.iter().chain(&self.shown).filter_map(|table| table.rows.first_window()).min();
        first.filter(|time| *time < i64::MAX).map(Timestamp)
    }

    fn state_bytes(&self) -> usize {
        self.waiting.iter().chain(&self.shown).map(|table| table.rows.bytes()).sum()
    }
}

impl Timed {
    pub(super) fn open(space: &StateSpace, kind: u8) -> Result<Self> {
        Ok(Timed { rows: KeyedRows::open(space, kind, RowShape { expiry: true, ..RowShape::default() })?, due: None })
    }

    /// Moves rows whose time `now` has reached into the chunk, up to a piece; false when there are no more. Between steps, or
    /// before anything is added in one.
    pub(super) fn read_due(&mut self, now: Timestamp, chunk: &mut RowChunk) -> Result<bool> {
        while chunk.len() < PIECE_ROWS {
            let mut due = match self.due.take() {
                Some(due) => due,
                None => match self.rows.first_window().filter(|time| *time <= now.0) {
                    Some(time) => Due { time, heads: self.rows.window_heads(time)?, at: 0, cursor: None },
                    None => return Ok(false),
                },
            };
            while chunk.len() < PIECE_ROWS && due.at < due.heads.len() {
                let mut cursor = match due.cursor.take() {
                    Some(cursor) => cursor,
                    None => self.rows.scan(due.heads[due.at])?,
                };
                match self.rows.next_rows(&mut cursor, PIECE_ROWS - chunk.len(), chunk)? {
                    true => due.cursor = Some(cursor),
                    false => due.at += 1,
                }
            }
            if due.at == due.heads.len() {
                self.rows.drop_windows(due.time)?;
            } else {
                self.due = Some(due);
            }
        }
        Ok(true)
    }
}

/// When the rows of a batch are shown.
struct Spans {
    from: Vec<i64>,
    until: Vec<i64>,
    nulls: Option<NullBuffer>,
}

impl Spans {
    fn of(&self, row: usize) -> Option<(i64, i64)> {
        self.nulls.as_ref().is_none_or(|n| n.is_valid(row)).then(|| (self.from[row], self.until[row]))
    }
}

/// Some rows of a batch, in order; as they are if that is all of them.
fn part_of(changes: &ChangeBatch, rows: &[u32]) -> Result<ChangeBatch> {
    if rows.len() == changes.num_rows() {
        return Ok(changes.clone());
    }
    Ok(changes.take(&UInt32Array::from(rows.to_vec()))?)
}

#[cfg(test)]
mod tests;
