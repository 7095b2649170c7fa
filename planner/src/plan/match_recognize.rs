//! Row patterns: what a match is made of, and what is asked of it.

use super::{AggregateCall, Expr};
use eddyline_common::types::SqlType;
use serde::{Deserialize, Serialize};

/// What the rows of a match are, one after the other. Variables are numbered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MatchPattern {
    Variable(usize),
    Concat(Vec<MatchPattern>),
    /// The first that matches.
    Alternation(Vec<MatchPattern>),
    /// As often as possible, or as seldom if `reluctant`. What is repeated without end matches at least one row.
    Repeat {
        pattern: Box<MatchPattern>,
        min: u32,
        max: Option<u32>,
        reluctant: bool,
    },
}

/// Where the search goes on behind a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MatchSkip {
    PastLastRow,
    ToNextRow,
    /// The first, or last, row of a variable.
    ToFirst(usize),
    ToLast(usize),
}

/// Which rows may be a variable's. A row is if all of these are true of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatchVariable {
    pub name: String,
    /// A boolean input column.
    pub flag: Option<usize>,
    /// What `local` and `rest` are over.
    pub values: Vec<MatchValue>,
    /// Over values of the row itself and of rows before it, by their distance.
    pub local: Option<Expr>,
    /// Over other values too, of the match as far as the row.
    pub rest: Option<Expr>,
}

/// Something of a match as far as one of its rows, that row included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatchValue {
    pub of: MatchValueOf,
    /// Of the rows of this variable; of all rows if none is given.
    pub variable: Option<usize>,
    /// Of the whole match, whatever the row.
    #[serde(rename = "final")]
    pub whole: bool,
    pub ty: SqlType,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MatchValueOf {
    /// An input column of one row: the `nth` from the first, or else back from the last one, counted from 0, and from there `offset` rows of the
    /// partition onwards. Null if there is none.
    Row { column: usize, first: bool, nth: usize, offset: i64 },
    /// Of the input's columns; a call that knows no order, without DISTINCT and filter. Its argument is given.
    Aggregate(AggregateCall),
    /// The variable of the last row.
    Classifier,
    /// Which of its partition's matches it is, from 1 on: a bigint.
    Number,
}
