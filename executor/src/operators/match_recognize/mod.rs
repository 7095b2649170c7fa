//! MATCH_RECOGNIZE: matches of a row pattern among the rows of a partition, in the order of event time. Rows wait until the watermark has
//! passed their time; then those before them are all known, and what a search from a row on comes to is decided once the rows that it needs
//! are there, or can come no more. Searches begin at one row after the other; behind a match where the clause says. So the matches
//! follow from the rows and their order alone, not from how they came in batches, cuts or steps.
//!
//! A row on which a condition fails is no start of a match, and rejected as such; the search goes on from the next one. Rows behind the watermark that they
//! arrived under are late.
//!
//! The node's watermark is `within` behind its input's, as a match may be known so much later than its first row's time.
//!
//! State: rows that wait, by time; rows of each partition from the first one on from which the search is undecided, and so many before it as conditions
//! look back to, marked by how many of their copies have been searched from; an entry per undecided search, by the watermark that decides it.
//!
//! - `program`, `search`: the pattern, and the search for a match from one row on
//! - `piece`: rows as columns, and conditions over them
//! - `output`: what matches come to
//! - `numbers`: how many there were, if somebody asks

mod numbers;
mod output;
mod piece;
mod program;
mod search;

use crate::expr::NowHandle;
use crate::layout::{EncodedRows, RowLayout};
use crate::operator::{Operator, StepContext};
use crate::operators::join::without_behind;
use crate::operators::matched::without_nulls;
use crate::operators::routing::Routing;
use crate::operators::scan::assemble;
use crate::operators::session::{Ends, time_key};
use crate::operators::state::StateSpec;
use crate::operators::temporal_filter::Timed;
use arrow::array::{AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take_arrays;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};
use eddyline_common::key::{ColumnOrder, KeyCodec, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{MatchPattern, MatchSkip, MatchValue, MatchValueOf, MatchVariable, OrderKey};
use eddyline_storage::state::{KeyedRows, NO_SLOT, ROW_KINDS, RowBatch, RowChunk, RowShape, Shards};
use numbers::Numbers;
use output::Matches;
use piece::{Bounds, Condition, Piece, View};
use program::{Step, program};
use search::{Outcome, Path, Search};
use std::collections::BTreeSet;
use std::ops::Range;

/// Rows of partitions that are worked on together, at least.
const PIECE_ROWS: usize = if cfg!(test) { 4 } else { 16 * 1024 };
/// Rows after which what is below in the plan gets its turn.
const EMIT_ROWS: usize = 256 * 1024;

pub struct MatchRecognizeSpec<'a> {
    pub partition: Vec<usize>,
    /// The first is the time.
    pub order: Vec<OrderKey>,
    pub pattern: &'a MatchPattern,
    pub variables: &'a [MatchVariable],
    pub keep: Vec<usize>,
    pub values: Vec<MatchValue>,
    pub all_rows: bool,
    pub skip: MatchSkip,
    pub within: Option<i64>,
    pub before: usize,
    pub input: SchemaRef,
    pub output: SchemaRef,
    /// Input columns whose key decided that a row came to this worker.
    pub routing: Vec<usize>,
    pub now: &'a NowHandle,
    pub state: StateSpec,
}

pub struct MatchRecognize {
    steps: Vec<Step>,
    conditions: Vec<Condition>,
    independent: bool,
    names: Vec<String>,
    skip: MatchSkip,
    within: Option<i64>,
    before: usize,
    time: usize,
    input: SchemaRef,
    layout: RowLayout,
    /// Of whole rows.
    codec: KeyCodec,
    routing: Routing,
    waiting: Timed,
    rows: KeyedRows,
    undecided: Ends,
    numbers: Option<Numbers>,
    held: Vec<TaggedBatch>,
    /// Partitions of the step that are still to be searched.
    pending: Option<Vec<u32>>,
    search: Search,
    path: Path,
    matches: Matches,
    encoded: EncodedRows,
    shards: Vec<u8>,
    chunk: RowChunk,
}

/// Weights to take off rows of the state.
#[derive(Default)]
struct Gone {
    keys: KeyRows,
    rows: KeyRows,
    weights: Vec<i64>,
    shards: Vec<u8>,
}

/// The watermark of a node that is `within` behind its input's.
pub(crate) fn behind(watermark: Timestamp, within: Option<i64>) -> Timestamp {
    moved(watermark, within.map_or(0, i64::saturating_neg))
}

fn moved(watermark: Timestamp, by: i64) -> Timestamp {
    if watermark == Timestamp::MIN || watermark == Timestamp::MAX { watermark } else { Timestamp(watermark.0.saturating_add(by)) }
}

impl MatchRecognize {
    pub fn new(spec: MatchRecognizeSpec) -> Result<Box<Self>> {
        let MatchRecognizeSpec { partition, order, input, output, keep, values, variables, before, .. } = spec;
        let width = input.fields().len();
        let is_time = |c: usize| matches!(input.field(c).data_type(), DataType::Timestamp(TimeUnit::Microsecond, _));
        let time = order.first().filter(|o| o.column < width && !o.descending && is_time(o.column)).map(|o| o.column);
        let time = time.ok_or_else(|| SqlError::internal("a row pattern is not in the order of time"))?;
        if output.fields().len() != keep.len() + values.len() || keep.iter().chain(&partition).chain(&spec.routing).any(|c| *c >= width) {
            return Err(SqlError::internal("a row pattern does not fit the columns of its input"));
        }
        let conditions = variables.iter().enumerate().map(|(i, v)| Condition::new(i, v, &input, spec.now)).collect::<Result<Vec<_>>>()?;
        let order = order.iter().map(|o| (o.column, ColumnOrder { descending: o.descending, nulls_first: o.nulls_first })).collect();
        let is_numbered = values.iter().any(|value| value.of == MatchValueOf::Number);
        let space = spec.state.open()?;
        let names: Vec<String> = variables.iter().map(|v| v.name.clone()).collect();
        Ok(Box::new(MatchRecognize {
            steps: program(spec.pattern),
            independent: conditions.iter().all(Condition::is_independent),
            skip: spec.skip,
            within: spec.within,
            before,
            time,
            layout: RowLayout::new(&input, partition, order)?,
            codec: KeyCodec::exact(input.fields().iter().map(|f| f.data_type().clone()).collect())?,
            routing: Routing::by(spec.routing, &input)?,
            waiting: Timed::open(&space, 0)?,
            rows: KeyedRows::open(&space, ROW_KINDS, RowShape { ordered: true, marks: before > 0, ..RowShape::default() })?,
            undecided: Ends::open(&space, 2 * ROW_KINDS)?,
            numbers: if is_numbered { Some(Numbers::open(&space, 3 * ROW_KINDS)?) } else { None },
            held: Vec::new(),
            pending: None,
            search: Search::default(),
            path: Path::new(variables.len()),
            matches: Matches::new(keep, values, spec.all_rows, names.clone(), input.clone(), output),
            encoded: EncodedRows::default(),
            shards: Vec::new(),
            chunk: RowChunk::default(),
            conditions,
            names,
            input,
        }))
    }

    /// Puts rows that the watermark has passed into their partitions, and others among those that wait.
    fn take_in(&mut self, watermark: Timestamp) -> Result<Vec<u32>> {
        let mut more = true;
        while more {
            let mut chunk = RowChunk::default();
            more = self.waiting.read_due(watermark, &mut chunk)?;
            if !chunk.is_empty() {
                let columns = self.codec.decode((0..chunk.len()).map(|at| chunk.row(at)))?;
                let rows = assemble(&self.input, columns, chunk.len())?;
                self.add(&ChangeBatch::with_weights(rows, Int64Array::from(chunk.weights().to_vec())))?;
            }
        }
        for TaggedBatch { changes, .. } in std::mem::take(&mut self.held) {
            let times = changes.rows.column(self.time).as_primitive::<TimestampMicrosecondType>();
            let passed = BooleanBuffer::collect_bool(times.len(), |row| times.value(row) < watermark.0);
            match passed.count_set_bits() {
                0 => self.wait(&changes)?,
                all if all == times.len() => self.add(&changes)?,
                _ => {
                    self.wait(&changes.filter(&BooleanArray::new(!&passed, None))?)?;
                    self.add(&changes.filter(&BooleanArray::new(passed, None))?)?;
                }
            }
        }
        self.waiting.rows.settle()?;
        let mut heads: BTreeSet<u32> = self.rows.touched_heads().iter().map(|touched| touched.head).collect();
        while let Some((_, due)) = self.undecided.first(|at| at <= watermark.0)? {
            let (mut keys, mut found) = (KeyRows::default(), Vec::new());
            due.iter().for_each(|(key, _)| keys.push(&[key]));
            self.rows.lookup(&keys, Shards::Of(&|at| due[at].1), &mut found)?;
            heads.extend(found.into_iter().filter(|head| *head != NO_SLOT));
        }
        Ok(heads.into_iter().collect())
    }

    fn wait(&mut self, changes: &ChangeBatch) -> Result<()> {
        let (mut rows, mut keys) = (KeyRows::default(), KeyRows::default());
        self.codec.encode(changes.rows.columns(), changes.num_rows(), &mut rows);
        self.routing.shards(&changes.rows, &rows, &mut self.shards);
        let times = changes.rows.column(self.time).as_primitive::<TimestampMicrosecondType>();
        for (time, shard) in times.values().iter().zip(&self.shards) {
            keys.push(&[&time_key(time.saturating_add(1)), &[*shard]]);
        }
        let weights = changes.weights.as_ref().map(|w| w.values().as_ref());
        self.waiting.rows.add(RowBatch { keys: &keys, orders: None, rows: &rows, weights }, Shards::Of(&|row| self.shards[row]))
    }

    fn add(&mut self, changes: &ChangeBatch) -> Result<()> {
        self.layout.encode(&changes.rows, &mut self.encoded);
        self.routing.shards(&changes.rows, &self.encoded.keys, &mut self.shards);
        let weights = changes.weights.as_ref().map(|w| w.values().as_ref());
        self.rows.add(self.layout.batch(&self.encoded, weights), Shards::Of(&|row| self.shards[row]))
    }

    /// Searches some of the partitions; gives how many rows were emitted.
    fn search_some(&mut self, pending: &mut Vec<u32>, watermark: Timestamp, ctx: &mut StepContext) -> Result<usize> {
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.clear();
        let mut parts: Vec<(u32, Range<usize>)> = Vec::new();
        while let Some(head) = pending.pop() {
            let start = chunk.len();
            self.rows.range(head, &[], usize::MAX, &mut chunk)?;
            parts.push((head, start..chunk.len()));
            if chunk.len() >= PIECE_ROWS {
                break;
            }
        }
        let (mut copies, mut firsts, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        for (_, stored) in &parts {
            let first = copies.len() as u32;
            copies.extend(stored.clone().flat_map(|at| std::iter::repeat_n(at as u32, chunk.weights()[at].max(0) as usize)));
            firsts.resize(copies.len(), first);
            ranges.push(first..copies.len() as u32);
        }
        let mut columns = self.layout.columns(&chunk)?;
        if copies.len() != chunk.len() || chunk.weights().iter().any(|weight| *weight != 1) {
            columns = take_arrays(&columns, &UInt32Array::from(copies.clone()), None)?;
        }
        let piece = Piece::new(columns, self.time, &firsts, &mut self.conditions)?;
        let (mut gone, mut emitted) = (Gone::default(), 0);
        for ((head, stored), range) in parts.into_iter().zip(ranges) {
            emitted += self.search_partition(head, stored, range, &copies, &chunk, &piece, watermark, &mut gone, ctx)?;
        }
        emitted += self.matches.emit(&piece, ctx)?;
        let Gone { keys, rows, weights, shards } = gone;
        if !keys.is_empty() {
            let batch = RowBatch { keys: &keys, orders: None, rows: &rows, weights: Some(&weights) };
            self.rows.add(batch, Shards::Of(&|at| shards[at]))?;
        }
        self.chunk = chunk;
        Ok(emitted)
    }

    /// `stored`: the partition's rows in the chunk; `rows`: in the piece, where a row of the chunk is as often as its weight says.
    fn search_partition(
        &mut self,
        head: u32,
        stored: Range<usize>,
        rows: Range<u32>,
        copies: &[u32],
        chunk: &RowChunk,
        piece: &Piece,
        watermark: Timestamp,
        gone: &mut Gone,
        ctx: &mut StepContext,
    ) -> Result<usize> {
        let searched = if self.before == 0 { 0 } else { stored.clone().map(|at| chunk.marks()[at].clamp(0, chunk.weights()[at])).sum() };
        let known: i64 = stored.clone().map(|at| chunk.old_weights()[at]).sum();
        let decided_at = |this: &Self, row: u32| this.within.map_or(i64::MAX, |within| piece.times[row as usize].saturating_add(within));
        let start = rows.start + searched as u32;
        // Rows that were here before the step were undecided.
        let mut old = BTreeSet::new();
        if known > searched && decided_at(self, start) > watermark.0 {
            old.insert(decided_at(self, start));
        }
        let (key, shard) = (self.rows.key(head).to_vec(), self.rows.shard(head));
        let (mut next, mut emitted, mut failed) = (start, 0, Vec::new());
        let open = loop {
            if next >= rows.end {
                break false;
            }
            let bounds = Bounds::new(rows.clone(), next, &piece.times, self.within, watermark);
            let mut view = View { piece, conditions: &mut self.conditions, bounds: &bounds };
            next = match self.search.run(&self.steps, next, self.independent, &mut self.path, &mut view)? {
                Outcome::Undecided => break true,
                Outcome::Nothing => next + 1,
                Outcome::Failed(error) => {
                    failed.push((next, error));
                    next + 1
                }
                Outcome::Match if self.matches.is_open(&self.path, &bounds, &piece.times) => break true,
                Outcome::Match => match self.after_match(next) {
                    Ok(after) => {
                        let number = self.numbers.as_mut().map(|numbers| numbers.next(&key, shard)).transpose()?;
                        self.matches.add(&self.path, &bounds, &piece.times, number.unwrap_or(0));
                        after
                    }
                    Err(error) => {
                        failed.push((next, error));
                        next + 1
                    }
                },
            };
            if self.matches.len() >= PIECE_ROWS {
                emitted += self.matches.emit(piece, ctx)?;
            }
        };
        for (row, error) in failed {
            ctx.reject(ChangeBatch::insertions(piece.rows(&self.input, vec![row])?), error)?;
        }
        let new = if open { BTreeSet::from([decided_at(self, next)]) } else { BTreeSet::new() };
        self.undecided.replace(&old, &new, &key, shard)?;
        let kept = next.saturating_sub(self.before as u32).max(rows.start);
        for copies in copies[rows.start as usize..kept as usize].chunk_by(|a, b| a == b) {
            gone.push(chunk, copies[0] as usize, key.len(), copies.len() as i64, shard);
        }
        if self.before > 0 {
            let mut marks: Vec<(usize, i64)> = Vec::new();
            for copies in copies[kept as usize..rows.end as usize].chunk_by(|a, b| a == b) {
                marks.push((copies[0] as usize, 0));
            }
            for copy in &copies[kept as usize..next as usize] {
                if let Some((_, mark)) = marks.iter_mut().find(|(at, _)| *at == *copy as usize) {
                    *mark += 1;
                }
            }
            marks.retain(|(at, mark)| chunk.marks()[*at] != *mark);
            self.rows.set_marks(head, chunk, &marks)?;
        }
        Ok(emitted)
    }

    /// Where the search goes on behind the path, which is a match from `start` on.
    fn after_match(&self, start: u32) -> std::result::Result<u32, SqlError> {
        let of = |variable: usize, row: Option<&u32>, place: &str| {
            let name = &self.names[variable];
            let error = |what: &str| Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("AFTER MATCH SKIP TO {place} {name}: {what}")));
            match row {
                None => error("the match has no such row"),
                Some(row) if *row <= start => error("it is the first row of the match, which would be found for ever"),
                Some(row) => Ok(*row),
            }
        };
        match self.skip {
            MatchSkip::PastLastRow => Ok(self.path.rows.last().map_or(start, |last| *last) + 1),
            MatchSkip::ToNextRow => Ok(start + 1),
            MatchSkip::ToFirst(variable) => of(variable, self.path.of[variable].first(), "FIRST"),
            MatchSkip::ToLast(variable) => of(variable, self.path.of[variable].last(), "LAST"),
        }
    }
}

impl Gone {
    fn push(&mut self, chunk: &RowChunk, at: usize, key: usize, copies: i64, shard: u8) {
        let entry = chunk.key(at);
        self.keys.push(&[&entry[..key]]);
        self.rows.push(&[&entry[key..]]);
        self.weights.push(-copies);
        self.shards.push(shard);
    }
}

impl Operator for MatchRecognize {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        let (timed, untimed) = without_nulls(&batch.changes, &[self.time])?;
        if let Some(untimed) = untimed {
            ctx.reject(untimed, SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "null time in a row of a pattern"))?;
        }
        let (arrival_watermark, now) = (batch.arrival_watermark, batch.now);
        let changes = without_behind(TaggedBatch { changes: timed, arrival_watermark, now }, self.time, ctx)?;
        if !changes.is_empty() {
            self.held.push(TaggedBatch { changes, arrival_watermark, now });
        }
        Ok(())
    }

    fn finish(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        let watermark = moved(watermark, self.within.unwrap_or(0));
        let mut pending = match self.pending.take() {
            Some(pending) => pending,
            None => self.take_in(watermark)?,
        };
        let mut emitted = 0;
        while !pending.is_empty() {
            emitted += self.search_some(&mut pending, watermark, ctx)?;
            if emitted >= EMIT_ROWS && !pending.is_empty() {
                self.pending = Some(pending);
                return Ok(());
            }
        }
        self.rows.settle()?;
        self.numbers.as_mut().map_or(Ok(()), Numbers::maintain)?;
        self.undecided.maintain()
    }

    fn unfinished(&self) -> bool {
        self.pending.is_some()
    }

    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        let mut runs = self.waiting.rows.freeze()?;
        runs.extend(self.rows.freeze()?);
        runs.push(self.undecided.freeze()?);
        if let Some(numbers) = &mut self.numbers {
            runs.push(numbers.freeze()?);
        }
        Ok(runs)
    }

    fn shrink(&mut self) -> Result<()> {
        self.waiting.rows.maintain()?;
        self.rows.maintain()?;
        self.numbers.as_mut().map_or(Ok(()), Numbers::maintain)?;
        self.undecided.maintain()
    }

    fn state_bytes(&self) -> usize {
        self.waiting.rows.bytes() + self.rows.bytes() + self.undecided.bytes() + self.numbers.as_ref().map_or(0, Numbers::bytes)
    }
}
