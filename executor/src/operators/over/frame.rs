//! Which rows a function is of: the frame around each row of a piece, and how far a row's result reaches.
//!
//! It knows positions, peers and values of the order; not what is computed.

use super::piece::Piece;
use eddyline_planner::plan::{AggregateFunction, Frame, FrameBound, FrameUnit, OverCall, OverFunction, RankFunction};

/// How far rows are looked at in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub rows: u64,
    /// Up to this distance of the order's value.
    pub distance: Option<i64>,
    /// All rows that are equal in the order.
    pub peers: bool,
}

impl Extent {
    fn widen(&mut self, other: Extent) {
        self.rows = self.rows.max(other.rows);
        self.distance = self.distance.max(other.distance);
        self.peers |= other.peers;
    }

    /// Of a bound of a frame; `sign` is -1 for what comes before the row.
    fn of(unit: FrameUnit, bound: FrameBound, sign: i64) -> Extent {
        match (unit, bound) {
            (_, FrameBound::Unbounded) | (FrameUnit::Rows, FrameBound::CurrentRow) => Extent::default(),
            (FrameUnit::Rows, FrameBound::Offset(n)) => Extent { rows: n.saturating_mul(sign).max(0) as u64, ..Extent::default() },
            (FrameUnit::Range, FrameBound::CurrentRow) => Extent { peers: true, ..Extent::default() },
            // A row without a value has its peers around it.
            (FrameUnit::Range, FrameBound::Offset(n)) => {
                Extent { distance: Some(n.saturating_mul(sign).max(0)), peers: true, ..Extent::default() }
            }
        }
    }
}

/// How far the results of all functions of an operator reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    pub before: Extent,
    pub after: Extent,
    /// Something is counted from the partition's first row on.
    pub running: bool,
    /// A row's result may depend on every row of its partition: it is held as a whole.
    pub whole: bool,
}

impl Reach {
    pub(super) fn of(calls: &[OverCall]) -> Reach {
        let mut reach = Reach::default();
        calls.iter().for_each(|call| reach.add(call));
        reach
    }

    fn add(&mut self, call: &OverCall) {
        let Frame { unit, start, end } = call.frame;
        let rows = |rows: i64| Extent { rows: rows.max(0) as u64, ..Extent::default() };
        match &call.function {
            OverFunction::Rank(function) => {
                self.running = true;
                self.before.peers |= *function != RankFunction::RowNumber;
            }
            OverFunction::PercentRank | OverFunction::CumeDist | OverFunction::Ntile { .. } => self.whole = true,
            // The next row with a value may be anywhere, and so may one at a distance that a row says.
            OverFunction::Lag { ignore_nulls: true, .. } | OverFunction::Lag { places: Some(_), .. } => self.whole = true,
            OverFunction::Lag { offset, .. } => {
                self.before.widen(rows(*offset));
                self.after.widen(rows(offset.saturating_neg()));
            }
            OverFunction::NthValue { .. } | OverFunction::Aggregate(_) => {
                self.before.widen(Extent::of(unit, start, -1));
                self.before.widen(Extent::of(unit, end, -1));
                self.after.widen(Extent::of(unit, start, 1));
                self.after.widen(Extent::of(unit, end, 1));
                self.running |= is_running(call);
                self.whole |= end == FrameBound::Unbounded || start == FrameBound::Unbounded && is_of_each_row(call);
                if let OverFunction::NthValue { n, .. } = &call.function
                    && *n < 0
                    && start == FrameBound::Unbounded
                {
                    // Rows from the frame's end back; the last row at a distance may be anywhere.
                    let ended = if let (FrameUnit::Rows, FrameBound::Offset(end)) = (unit, end) { end } else { 0 };
                    self.before.widen(rows(n.saturating_neg().saturating_sub(ended.min(0))));
                    self.whole |= unit == FrameUnit::Range && matches!(end, FrameBound::Offset(_));
                }
            }
        }
    }
}

/// Whether a function is counted from the partition's first row on.
pub(super) fn is_running(call: &OverCall) -> bool {
    match &call.function {
        OverFunction::Rank(_) => true,
        OverFunction::NthValue { n, .. } => *n > 0 && call.frame.start == FrameBound::Unbounded && !is_of_each_row(call),
        OverFunction::Aggregate(_) => call.frame.start == FrameBound::Unbounded && !is_of_each_row(call),
        _ => false,
    }
}

/// Whether a result needs the frame's rows one by one, whatever was counted before.
fn is_of_each_row(call: &OverCall) -> bool {
    match &call.function {
        OverFunction::NthValue { ignore_nulls, .. } => *ignore_nulls,
        OverFunction::Aggregate(aggregate) => matches!(aggregate.function, AggregateFunction::ArrayAgg | AggregateFunction::StringAgg),
        _ => false,
    }
}

/// The frames of one row after the other, from one that does not come before the last asked for. Both bounds only grow.
pub(super) struct Frames<'a> {
    piece: &'a Piece<'a>,
    frame: Frame,
    last: (usize, usize),
}

impl<'a> Frames<'a> {
    pub(super) fn new(frame: Frame, piece: &'a Piece<'a>) -> Self {
        Frames { piece, frame, last: (0, 0) }
    }

    /// The frame of the row at `at`, as positions of its first row and of the one after its last.
    pub(super) fn of(&mut self, at: usize) -> (usize, usize) {
        let (piece, Frame { unit, start, end }) = (self.piece, self.frame);
        let position = |n: i64| (at as i64).saturating_add(n).clamp(0, piece.len() as i64) as usize;
        let from = match (unit, start) {
            (_, FrameBound::Unbounded) => 0,
            (FrameUnit::Rows, FrameBound::CurrentRow) => at,
            (FrameUnit::Rows, FrameBound::Offset(n)) => position(n),
            (FrameUnit::Range, FrameBound::Offset(n)) if !piece.is_null(at) => {
                piece.skip(self.last.0, piece.value(at).saturating_add(n), false)
            }
            (FrameUnit::Range, _) => piece.peers(at).0,
        };
        let to = match (unit, end) {
            (_, FrameBound::Unbounded) => piece.len(),
            (FrameUnit::Rows, FrameBound::CurrentRow) => at + 1,
            (FrameUnit::Rows, FrameBound::Offset(n)) => position(n.saturating_add(1)),
            (FrameUnit::Range, FrameBound::Offset(n)) if !piece.is_null(at) => {
                piece.skip(self.last.1, piece.value(at).saturating_add(n), true)
            }
            (FrameUnit::Range, _) => piece.peers(at).1,
        };
        self.last = (from, to.max(from));
        self.last
    }
}
