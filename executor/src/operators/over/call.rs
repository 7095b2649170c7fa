//! The functions of an OVER window over the positions of a piece. Positions of rows are computed, and values taken by them;
//! aggregates are accumulators that follow the frame. A result is a pure function of the rows that it is of, in whatever pieces
//! these come.
//!
//! What counts from the partition's first row on is carried from piece to piece in a `State`.

use super::counted::Counted;
use super::frame::{Frames, is_running};
use super::gathered::{Aggregate, Gathered, argument};
use super::list::List;
use super::piece::Piece;
use crate::accumulators::Output;
use crate::expr::literal_column;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{Int64Type, SchemaRef};
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::{Result, SqlError};
use eddyline_planner::plan::{AggregateCall, AggregateFunction, Frame, OverCall, OverFunction, RankFunction};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Results kept in slots of an accumulator before they are read.
const RESULT_SLOTS: usize = 1024;

pub(super) struct Call {
    kind: Kind,
    frame: Frame,
    running: bool,
}

enum Kind {
    Rank(RankFunction),
    PercentRank,
    CumeDist,
    Ntile(i64),
    /// `default`: one value, unless it is null.
    Lag {
        argument: usize,
        offset: i64,
        /// What the offset is multiplied by.
        places: Option<usize>,
        default: Option<ArrayRef>,
        ignore_nulls: bool,
    },
    Nth {
        argument: usize,
        n: i64,
        ignore_nulls: bool,
    },
    /// MIN or MAX over a frame that rows leave.
    Extreme {
        call: AggregateCall,
        codec: KeyCodec,
    },
    Aggregate(Aggregate),
    List(List),
}

/// What one function carries from piece to piece.
#[derive(Default)]
pub(super) struct State {
    gathered: Option<Gathered>,
    /// The positions that are gathered, as a frame.
    held: (usize, usize),
    /// The partition's n-th value.
    nth: Option<ArrayRef>,
}

/// What is before a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    pub rows: u64,
    pub groups: u64,
}

impl Call {
    /// Fails with 0A000 if the function cannot be computed over its argument.
    pub(super) fn new(call: &OverCall, input: &SchemaRef) -> Result<Self> {
        let running = is_running(call);
        let field = |column: usize| {
            input.fields().get(column).ok_or_else(|| SqlError::internal("an OVER function reads a column that its input has not"))
        };
        let kind = match &call.function {
            OverFunction::Rank(function) => Kind::Rank(*function),
            OverFunction::PercentRank => Kind::PercentRank,
            OverFunction::CumeDist => Kind::CumeDist,
            OverFunction::Ntile { buckets } => Kind::Ntile((*buckets).max(1)),
            OverFunction::Lag { argument, offset, places, default, ignore_nulls } => {
                std::iter::once(argument).chain(places).try_for_each(|c| field(*c).map(drop))?;
                let default = literal_column(&default.ty, std::iter::once(default))?;
                let default = Some(default).filter(|d| d.null_count() == 0);
                Kind::Lag { argument: *argument, offset: *offset, places: *places, default, ignore_nulls: *ignore_nulls }
            }
            OverFunction::NthValue { argument, n, ignore_nulls } => {
                field(*argument)?;
                Kind::Nth { argument: *argument, n: *n, ignore_nulls: *ignore_nulls }
            }
            OverFunction::Aggregate(call) => {
                call.argument.iter().chain(&call.filter).try_for_each(|c| field(*c).map(drop))?;
                Self::aggregate(call, running, input)?
            }
        };
        Ok(Call { kind, frame: call.frame, running })
    }

    fn aggregate(call: &AggregateCall, running: bool, input: &SchemaRef) -> Result<Kind> {
        use AggregateFunction::*;
        if let (ArrayAgg | StringAgg, Some(argument)) = (call.function, call.argument) {
            return Ok(Kind::List(List::new(call, input.field(argument).data_type())?));
        }
        let aggregate = Aggregate::new(call, input)?;
        Ok(match call.function {
            Min | Max if !running => Kind::Extreme { call: call.clone(), codec: KeyCodec::new(vec![aggregate.ty().clone()])? },
            _ => Kind::Aggregate(aggregate),
        })
    }

    pub(super) fn start(&self) -> Result<State> {
        let Kind::Aggregate(aggregate) = &self.kind else { return Ok(State::default()) };
        Ok(State { gathered: Some(aggregate.start()?), ..State::default() })
    }

    /// Adds to each of some rows of the buffer how many values its lists have at most: as many as their frames have rows.
    pub(super) fn count_listed(&self, piece: &Piece, rows: Range<usize>, listed: &mut [usize]) {
        if !matches!(self.kind, Kind::List(_)) {
            return;
        }
        let mut frames = Frames::new(self.frame, piece);
        for (row, listed) in rows.zip(listed) {
            for at in piece.positions(row..row + 1) {
                let (from, to) = frames.of(at);
                *listed += to - from;
            }
        }
    }

    /// Whether it is counted how many rows, or groups of peers, are before a row.
    pub(super) fn counts_rows(&self) -> bool {
        matches!(self.kind, Kind::Rank(_)) || self.running && matches!(self.kind, Kind::Nth { .. })
    }

    /// The results at some positions, which are those after the last ones that were asked for.
    pub(super) fn results(&self, state: &mut State, piece: &Piece, at: Range<usize>, base: Base) -> Result<Output> {
        let ints = |of: &dyn Fn(usize) -> u64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(at.clone().map(|at| of(at) as i64))) };
        let floats = |of: &dyn Fn(usize) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(at.clone().map(of))) };
        let rows = piece.len() as u64;
        Ok(Output::of(match &self.kind {
            Kind::Rank(RankFunction::RowNumber) => ints(&|at| base.rows + at as u64 + 1),
            Kind::Rank(RankFunction::Rank) => ints(&|at| base.rows + piece.peers(at).0 as u64 + 1),
            Kind::Rank(RankFunction::DenseRank) => ints(&|at| base.groups + piece.groups[at] as u64),
            Kind::PercentRank => floats(&|at| if rows <= 1 { 0.0 } else { piece.peers(at).0 as f64 / (rows - 1) as f64 }),
            Kind::CumeDist => floats(&|at| piece.peers(at).1 as f64 / rows as f64),
            Kind::Ntile(buckets) => ints(&|at| bucket(at as u64, rows, *buckets as u64)),
            Kind::Lag { argument, offset, places, default, ignore_nulls } => {
                let column = &piece.buffer.columns[*argument];
                let counted = ignore_nulls.then(|| Counted::new(piece, column, None, true));
                let places = places.map(|places| piece.buffer.columns[places].as_primitive::<Int64Type>());
                let pick = |at: usize| match distance(piece, at, *offset, places) {
                    Some(distance) => shifted(piece, counted.as_ref(), at, distance).map_or(Pick::Other, Pick::Row),
                    None => Pick::Nothing,
                };
                picked(column, default.as_ref(), at.map(pick))?
            }
            Kind::Nth { argument, n, ignore_nulls } => self.nth(state, piece, at, base, (*argument, *n, *ignore_nulls))?,
            Kind::Extreme { call, codec } => self.extremes(piece, at, call, codec)?,
            Kind::Aggregate(aggregate) => return self.aggregates(state, piece, at, aggregate),
            Kind::List(list) => list.results(piece, Frames::new(self.frame, piece), at)?,
        }))
    }

    /// Carries what counts from the partition's first row on over some positions, without their results.
    pub(super) fn advance(&self, state: &mut State, piece: &Piece, at: Range<usize>, base: Base) -> Result<()> {
        if !self.running || at.is_empty() {
            return Ok(());
        }
        match &self.kind {
            Kind::Nth { argument, n, .. } => note_nth(state, piece, base, *argument, *n),
            Kind::Aggregate(aggregate) => {
                let end = Frames::new(self.frame, piece).of(at.end - 1).1;
                let State { gathered: Some(gathered), held, .. } = state else { return Ok(()) };
                let values = aggregate.values(piece, held.1..end)?;
                gathered.add(&values, 0..values.len(), 1);
                held.1 = held.1.max(end);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `what`: the argument, which of the frame's rows, and whether nulls are ignored.
    fn nth(&self, state: &mut State, piece: &Piece, at: Range<usize>, base: Base, what: (usize, i64, bool)) -> Result<ArrayRef> {
        let (argument, n, ignore_nulls) = what;
        if self.running {
            note_nth(state, piece, base, argument, n)?;
        }
        let column = &piece.buffer.columns[argument];
        let counted = ignore_nulls.then(|| Counted::new(piece, column, None, true));
        let mut frames = Frames::new(self.frame, piece);
        let distance = n.unsigned_abs() as usize;
        let picks = at.map(|at| {
            let (from, to) = frames.of(at);
            if self.running {
                return if base.rows + to as u64 >= n as u64 { Pick::Other } else { Pick::Nothing };
            }
            let rows = between(piece, counted.as_ref(), from, to);
            let place = if n > 0 { distance.checked_sub(1) } else { rows.len().checked_sub(distance) };
            place.and_then(|place| rows.get(place)).map_or(Pick::Nothing, |row| Pick::Row(*row))
        });
        picked(column, state.nth.as_ref(), picks)
    }

    /// The least or greatest values of frames: of those in the frame only what nothing later is better than, best first.
    fn extremes(&self, piece: &Piece, at: Range<usize>, call: &AggregateCall, codec: &KeyCodec) -> Result<ArrayRef> {
        let values = argument(piece, call, 0..piece.len())?;
        let mut keys = KeyRows::default();
        codec.encode(std::slice::from_ref(&values), values.len(), &mut keys);
        let max = call.function == AggregateFunction::Max;
        let beats = |new: usize, old: usize| if max { keys.row(new) >= keys.row(old) } else { keys.row(new) <= keys.row(old) };
        let (mut best, mut next): (VecDeque<usize>, usize) = (VecDeque::new(), 0);
        let mut frames = Frames::new(self.frame, piece);
        let picks: UInt32Array = at
            .map(|at| {
                let (from, to) = frames.of(at);
                next = next.max(from);
                while next < to {
                    if values.is_valid(next) {
                        while best.back().is_some_and(|old| beats(next, *old)) {
                            best.pop_back();
                        }
                        best.push_back(next);
                    }
                    next += 1;
                }
                while best.front().is_some_and(|old| *old < from) {
                    best.pop_front();
                }
                best.front().map(|at| *at as u32)
            })
            .collect();
        Ok(take(&values, &picks, None)?)
    }

    fn aggregates(&self, state: &mut State, piece: &Piece, at: Range<usize>, aggregate: &Aggregate) -> Result<Output> {
        let State { gathered: Some(gathered), held, .. } = state else {
            return Err(SqlError::internal("an aggregate has no accumulator"));
        };
        if !self.running {
            gathered.clear();
            *held = (0, 0);
        }
        if at.is_empty() {
            return gathered.results(0);
        }
        let values = aggregate.values(piece, 0..piece.len())?;
        let mut frames = Frames::new(self.frame, piece);
        let mut outputs = Vec::new();
        let mut start = at.start;
        while start < at.end {
            let end = at.end.min(start + RESULT_SLOTS);
            gathered.reserve(end - start);
            for position in start..end {
                let (from, to) = frames.of(position);
                if from >= held.1 && !self.running {
                    gathered.clear();
                    *held = (from, from);
                }
                gathered.add(&values, held.1..to, 1);
                gathered.add(&values, held.0..from, -1);
                *held = (from.max(held.0), to.max(held.1));
                gathered.keep(position - start);
            }
            outputs.push(gathered.results(end - start)?);
            start = end;
        }
        joined(outputs, at.len())
    }
}

impl State {
    /// The first position that is still to be counted.
    pub(super) fn counted(&self, call: &Call) -> Option<usize> {
        (call.running && self.gathered.is_some()).then_some(self.held.1)
    }

    /// The piece loses its first positions.
    pub(super) fn shift(&mut self, positions: usize) {
        self.held = (self.held.0.saturating_sub(positions), self.held.1.saturating_sub(positions));
    }

    pub(super) fn copy_from(&mut self, other: &State) -> Result<()> {
        if let (Some(own), Some(other)) = (&mut self.gathered, &other.gathered) {
            own.copy_from(other)?;
        }
        self.held = other.held;
        self.nth = other.nth.clone();
        Ok(())
    }

    /// Whether nothing tells two states of a function apart.
    pub(super) fn is_same(&self, other: &State, call: &Call) -> bool {
        if !call.running {
            return true;
        }
        let same_gathered = match (&self.gathered, &other.gathered) {
            (Some(own), Some(other)) => own.is_same(other),
            (own, other) => own.is_none() && other.is_none(),
        };
        let same_value = match (&self.nth, &other.nth) {
            (Some(own), Some(other)) => own == other,
            (own, other) => own.is_none() && other.is_none(),
        };
        same_value && same_gathered
    }
}

/// Rows as equally as possible, the first buckets being the larger ones; counted from 1.
fn bucket(at: u64, rows: u64, buckets: u64) -> u64 {
    let (small, larger) = (rows / buckets, rows % buckets);
    let in_larger = larger * (small + 1);
    if at < in_larger { at / (small + 1) + 1 } else { larger + (at - in_larger) / small.max(1) + 1 }
}

#[derive(Clone, Copy)]
enum Pick {
    Nothing,
    /// A value given beside the column.
    Other,
    /// A row of the buffer.
    Row(u32),
}

/// The buffer's rows at some positions; of them those that count, if not all do.
fn between<'a>(piece: &'a Piece, counted: Option<&'a Counted>, from: usize, to: usize) -> &'a [u32] {
    counted.map_or(&piece.rows[from..to], |counted| counted.between(from, to))
}

/// How far from a position another row is asked for; nothing where that is null.
fn distance(piece: &Piece, at: usize, offset: i64, places: Option<&Int64Array>) -> Option<i64> {
    let Some(places) = places else { return Some(offset) };
    let row = piece.rows[at] as usize;
    places.is_valid(row).then(|| offset.saturating_mul(places.value(row)))
}

/// The row that is so many places before a position, or after it if the number is negative, of those that count.
fn shifted(piece: &Piece, counted: Option<&Counted>, at: usize, offset: i64) -> Option<u32> {
    let places = offset.unsigned_abs() as usize;
    match offset {
        0 => piece.rows.get(at).copied(),
        1.. => {
            let before = between(piece, counted, 0, at);
            before.len().checked_sub(places).map(|place| before[place])
        }
        i64::MIN..=-1 => between(piece, counted, at + 1, piece.len()).get(places - 1).copied(),
    }
}

/// Values of a column by row, or `other`, which is one value or null.
fn picked(column: &ArrayRef, other: Option<&ArrayRef>, picks: impl Iterator<Item = Pick>) -> Result<ArrayRef> {
    let place = column.len() as u32;
    let indices: UInt32Array = picks
        .map(|pick| match pick {
            Pick::Row(row) => Some(row),
            Pick::Other => other.map(|_| place),
            Pick::Nothing => None,
        })
        .collect();
    match other {
        None => Ok(take(column, &indices, None)?),
        Some(other) => Ok(take(&concat(&[column.as_ref(), other.as_ref()])?, &indices, None)?),
    }
}

/// Keeps the partition's n-th value once it is seen.
fn note_nth(state: &mut State, piece: &Piece, base: Base, argument: usize, n: i64) -> Result<()> {
    let place = (n as u64 - 1).checked_sub(base.rows).map(|place| place as usize);
    if let (None, Some(place)) = (&state.nth, place.filter(|place| *place < piece.len())) {
        let row = UInt32Array::from(vec![piece.rows[place]]);
        state.nth = Some(take(&piece.buffer.columns[argument], &row, None)?);
    }
    Ok(())
}

/// Results one after the other.
fn joined(mut outputs: Vec<Output>, rows: usize) -> Result<Output> {
    if outputs.len() == 1 {
        return Ok(outputs.remove(0));
    }
    let arrays: Vec<&dyn Array> = outputs.iter().map(|o| o.values.as_ref()).collect();
    let values = concat(&arrays)?;
    if outputs.iter().all(|o| o.out_of_range.is_none()) {
        return Ok(Output::of(values));
    }
    let mut unfit = arrow::array::BooleanBufferBuilder::new(rows);
    for output in &outputs {
        match &output.out_of_range {
            Some(own) => unfit.append_buffer(own),
            None => unfit.append_n(output.values.len(), false),
        }
    }
    Ok(Output { values, out_of_range: Some(unfit.finish()) })
}
