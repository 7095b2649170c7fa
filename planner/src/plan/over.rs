//! Functions of a row's place in its partition, and of the rows around it.

use super::{AggregateCall, Literal};
use eddyline_common::types::SqlType;
use serde::{Deserialize, Serialize};

/// What a row's place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RankFunction {
    RowNumber,
    /// Rows that are equal in the order share the place of the first.
    Rank,
    /// The same, counted without gaps.
    DenseRank,
}

/// One function of an OVER window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverCall {
    pub function: OverFunction,
    /// Which rows it is of; ranks, LAG and LEAD are of their own ones.
    pub frame: Frame,
    pub output: SqlType,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OverFunction {
    Rank(RankFunction),
    PercentRank,
    CumeDist,
    Ntile {
        buckets: i64,
    },
    /// The argument of the row that is so many places before (LAG) or, if negative, after (LEAD); a constant if there is none.
    Lag {
        argument: usize,
        offset: i64,
        /// A bigint by which `offset` is multiplied for each row; where it is null, so is the result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        places: Option<usize>,
        default: Literal,
        /// Only rows count whose argument is not null.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ignore_nulls: bool,
    },
    /// The argument of a row of the frame, counted from 1, or from its end by -1 and below.
    NthValue {
        argument: usize,
        n: i64,
        /// Only rows count whose argument is not null.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ignore_nulls: bool,
    },
    /// An aggregate over the frame, without an order of its own: lists are in the window's. Neither `FirstValue` nor what picks one of its values, and
    /// no list of distinct values.
    Aggregate(AggregateCall),
}

/// The rows around one that a function is of. The start is not after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    pub unit: FrameUnit,
    pub start: FrameBound,
    pub end: FrameBound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameUnit {
    Rows,
    /// Distances are between values of the order's only column.
    Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameBound {
    /// The partition's start or its end.
    Unbounded,
    /// For `FrameUnit::Range` with all its peers.
    CurrentRow,
    /// So many rows after the row, before it if negative; or units of the order's column: one, a day, a microsecond.
    Offset(i64),
}
