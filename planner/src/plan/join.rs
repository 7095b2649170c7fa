//! What joins are: which rows they show, and which of them can still match.

use serde::{Deserialize, Serialize};

/// Which rows a join shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JoinKind {
    /// Pairs that match: the left columns, then the right ones.
    Inner,
    /// And left rows that match nothing, with nulls for the right columns.
    Left,
    /// And right rows that match nothing.
    Right,
    /// And both.
    Full,
    /// Left rows that match something; the left columns.
    Semi,
    /// Left rows that match nothing.
    Anti,
    /// All left rows, and a boolean column: whether they match something.
    Mark,
}

impl JoinKind {
    /// Whether the join shows rows of a side (0 left, 1 right) on their own, by whether they match.
    pub fn shows_alone(self, side: usize) -> bool {
        match self {
            JoinKind::Inner => false,
            JoinKind::Full => true,
            JoinKind::Right => side == 1,
            JoinKind::Left | JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => side == 0,
        }
    }

    /// Whether rows of a side that match nothing are shown.
    pub fn preserves(self, side: usize) -> bool {
        self != JoinKind::Semi && self.shows_alone(side)
    }

    pub fn shows_pairs(self) -> bool {
        matches!(self, JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full)
    }
}

/// Makes a join one of an interval: the residual condition or the keys imply `lower <= right - left <= upper` for the event times
/// of both sides, and a row is dropped when its side's watermark says that nothing to come can match it. A row whose time
/// is before the watermark that it arrived under is late; one without a time matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinInterval {
    /// Time column of each input.
    pub times: [usize; 2],
    /// Microseconds.
    pub lower: i64,
    pub upper: i64,
}

/// Makes a join one of windows: rows that can still match are those of windows that are not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinWindow {
    /// Position within the keys of the window's end, never null. Closed and late as in `AggregateWindow`; no row is late for a session.
    pub end: usize,
    /// Microseconds. Of sessions that may become shorter with their gap, by which one may have ended before the watermark and still change.
    pub allowed_lateness: i64,
}
