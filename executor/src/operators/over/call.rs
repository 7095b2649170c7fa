//! The functions of an OVER window over the positions of a piece. Positions of rows are computed, and values taken by them;
//! aggregates are accumulators that follow the frame. A result is a pure function of the rows that it is of, in whatever pieces
//! these come.
//!
//! What counts from the partition's first row on is carried from piece to piece in a `State`.

use super::frame::{Frames, is_running};
use super::piece::Piece;
use crate::accumulators::{self, Accumulator, Output, Updates};
use crate::expr::literal_column;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat, nullif, take};
use arrow::datatypes::SchemaRef;
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
        default: Option<ArrayRef>,
    },
    Nth {
        argument: usize,
        n: i64,
    },
    /// MIN or MAX over a frame that rows leave.
    Extreme {
        call: AggregateCall,
        codec: KeyCodec,
    },
    Aggregate {
        call: AggregateCall,
    },
}

/// What one function carries from piece to piece.
#[derive(Default)]
pub(super) struct State {
    /// Slot 0 is the frame's; others are results to be read.
    accumulator: Option<Box<dyn Accumulator>>,
    /// The positions that slot 0 has, as a frame.
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
            OverFunction::Lag { argument, offset, default } => {
                field(*argument)?;
                let default = literal_column(&default.ty, std::iter::once(default))?;
                Kind::Lag { argument: *argument, offset: *offset, default: Some(default).filter(|d| d.null_count() == 0) }
            }
            OverFunction::NthValue { argument, n } => {
                field(*argument)?;
                Kind::Nth { argument: *argument, n: *n }
            }
            OverFunction::Aggregate(aggregate) => {
                aggregate.argument.iter().chain(&aggregate.filter).try_for_each(|c| field(*c).map(drop))?;
                let ty = aggregate.argument.map_or(arrow::datatypes::DataType::Boolean, |c| input.field(c).data_type().clone());
                accumulators::create(aggregate, &ty)?;
                match aggregate.function {
                    AggregateFunction::Min | AggregateFunction::Max if !running => {
                        Kind::Extreme { call: aggregate.clone(), codec: KeyCodec::new(vec![ty])? }
                    }
                    _ => Kind::Aggregate { call: aggregate.clone() },
                }
            }
        };
        Ok(Call { kind, frame: call.frame, running })
    }

    pub(super) fn start(&self, input: &SchemaRef) -> Result<State> {
        let Kind::Aggregate { call } = &self.kind else { return Ok(State::default()) };
        let ty = call.argument.map_or(arrow::datatypes::DataType::Boolean, |c| input.field(c).data_type().clone());
        let mut accumulator = accumulators::create(call, &ty)?;
        accumulator.reserve(1);
        Ok(State { accumulator: Some(accumulator), ..State::default() })
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
            Kind::Lag { argument, offset, default } => {
                let place = |at: usize| usize::try_from((at as i64).checked_sub(*offset)?).ok().filter(|to| *to < piece.len());
                picked(piece, &piece.buffer.columns[*argument], default.as_ref(), at.map(place).map(|to| to.map_or(Pick::Other, Pick::At)))?
            }
            Kind::Nth { argument, n } => self.nth(state, piece, at, base, *argument, *n)?,
            Kind::Extreme { call, codec } => self.extremes(piece, at, call, codec)?,
            Kind::Aggregate { call } => return self.aggregates(state, piece, at, call),
        }))
    }

    /// Carries what counts from the partition's first row on over some positions, without their results.
    pub(super) fn advance(&self, state: &mut State, piece: &Piece, at: Range<usize>, base: Base) -> Result<()> {
        if !self.running || at.is_empty() {
            return Ok(());
        }
        match &self.kind {
            Kind::Nth { argument, n } => note_nth(state, piece, base, *argument, *n),
            Kind::Aggregate { call } => {
                let end = Frames::new(self.frame, piece).of(at.end - 1).1;
                let State { accumulator: Some(accumulator), held, .. } = state else { return Ok(()) };
                let values = values_of(piece, call, held.1..end)?;
                add(accumulator.as_mut(), &values, 0..values.len(), 1);
                held.1 = held.1.max(end);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn nth(&self, state: &mut State, piece: &Piece, at: Range<usize>, base: Base, argument: usize, n: i64) -> Result<ArrayRef> {
        if self.running {
            note_nth(state, piece, base, argument, n)?;
        }
        let column = &piece.buffer.columns[argument];
        let mut frames = Frames::new(self.frame, piece);
        let distance = n.unsigned_abs() as usize;
        let picks = at.map(|at| {
            let (from, to) = frames.of(at);
            match n {
                _ if self.running && base.rows + to as u64 >= n as u64 => Pick::Other,
                _ if self.running => Pick::Nothing,
                1.. if distance <= to - from => Pick::At(from + distance - 1),
                i64::MIN..=-1 if distance <= to - from => Pick::At(to - distance),
                _ => Pick::Nothing,
            }
        });
        picked(piece, column, state.nth.as_ref(), picks)
    }

    /// The least or greatest values of frames: of those in the frame only what nothing later is better than, best first.
    fn extremes(&self, piece: &Piece, at: Range<usize>, call: &AggregateCall, codec: &KeyCodec) -> Result<ArrayRef> {
        let values = values_of(piece, call, 0..piece.len())?;
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

    fn aggregates(&self, state: &mut State, piece: &Piece, at: Range<usize>, call: &AggregateCall) -> Result<Output> {
        let State { accumulator: Some(accumulator), held, .. } = state else {
            return Err(SqlError::internal("an aggregate has no accumulator"));
        };
        if !self.running {
            accumulator.clear(0);
            *held = (0, 0);
        }
        if at.is_empty() {
            return accumulator.output(&[]);
        }
        let values = values_of(piece, call, 0..piece.len())?;
        let mut frames = Frames::new(self.frame, piece);
        let mut outputs = Vec::new();
        let mut start = at.start;
        while start < at.end {
            let end = at.end.min(start + RESULT_SLOTS);
            accumulator.reserve(1 + end - start);
            for position in start..end {
                let (from, to) = frames.of(position);
                if from >= held.1 && !self.running {
                    accumulator.clear(0);
                    *held = (from, from);
                }
                add(accumulator.as_mut(), &values, held.1..to, 1);
                add(accumulator.as_mut(), &values, held.0..from, -1);
                *held = (from.max(held.0), to.max(held.1));
                accumulator.copy(0, 1 + (position - start) as u32);
            }
            let slots: Vec<u32> = (1..=(end - start) as u32).collect();
            outputs.push(accumulator.output(&slots)?);
            start = end;
        }
        joined(outputs, at.len())
    }
}

impl State {
    /// The first position that is still to be counted.
    pub(super) fn counted(&self, call: &Call) -> Option<usize> {
        (call.running && self.accumulator.is_some()).then_some(self.held.1)
    }

    /// The piece loses its first positions.
    pub(super) fn shift(&mut self, positions: usize) {
        self.held = (self.held.0.saturating_sub(positions), self.held.1.saturating_sub(positions));
    }

    pub(super) fn copy_from(&mut self, other: &State) -> Result<()> {
        if let (Some(own), Some(other)) = (&mut self.accumulator, &other.accumulator) {
            let mut bytes = Vec::new();
            other.encode(0, &mut bytes);
            own.clear(0);
            own.decode(0, &mut bytes.as_slice())?;
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
        let encoded = |state: &State| {
            let mut bytes = Vec::new();
            state.accumulator.iter().for_each(|accumulator| accumulator.encode(0, &mut bytes));
            bytes
        };
        let same_value = match (&self.nth, &other.nth) {
            (Some(own), Some(other)) => own == other,
            (own, other) => own.is_none() && other.is_none(),
        };
        same_value && encoded(self) == encoded(other)
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
    /// A position.
    At(usize),
}

/// Values of a column by position, or `other`, which is one value or null.
fn picked(piece: &Piece, column: &ArrayRef, other: Option<&ArrayRef>, picks: impl Iterator<Item = Pick>) -> Result<ArrayRef> {
    let place = column.len() as u32;
    let indices: UInt32Array = picks
        .map(|pick| match pick {
            Pick::At(position) => Some(piece.rows[position]),
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

/// An aggregate's argument at some positions; null where its filter is not true. COUNT(*) counts trues.
fn values_of(piece: &Piece, call: &AggregateCall, at: Range<usize>) -> Result<ArrayRef> {
    let start = at.start.min(at.end);
    let rows = UInt32Array::from(piece.rows[start..at.end].to_vec());
    let values = match call.argument {
        Some(column) => take(&piece.buffer.columns[column], &rows, None)?,
        None => Arc::new(BooleanArray::new(BooleanBuffer::new_set(rows.len()), None)) as ArrayRef,
    };
    let Some(filter) = call.filter else { return Ok(values) };
    let filter = take(&piece.buffer.columns[filter], &rows, None)?;
    let filter = filter.as_boolean();
    let left_out = BooleanArray::from_iter((0..filter.len()).map(|at| Some(filter.is_null(at) || !filter.value(at))));
    Ok(nullif(&values, &left_out)?)
}

/// Adds values to slot 0, or takes them back.
fn add(accumulator: &mut dyn Accumulator, values: &ArrayRef, at: Range<usize>, weight: i64) {
    const AT_ONCE: usize = 1024;
    const SLOTS: [u32; AT_ONCE] = [0; AT_ONCE];
    let mut start = at.start;
    while start < at.end {
        let rows = (at.end - start).min(AT_ONCE);
        let weights = [weight; AT_ONCE];
        let updates = Updates { slots: &SLOTS[..rows], weights: (weight != 1).then_some(&weights[..rows]), mask: None };
        accumulator.update(&updates, &values.slice(start, rows));
        start += rows;
    }
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
