//! Aggregates: their functions and calls, the order that they may be in, and how rows of equal keys are put together before they come to one.

use eddyline_common::types::SqlType;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// Input column; `None` only for COUNT(*). Arguments are computed by a Project below.
    pub argument: Option<usize>,
    pub distinct: bool,
    /// A boolean input column; rows where it is not true do not count.
    pub filter: Option<usize>,
    /// SUM and COUNT of integers: BigInt, checked. AVG of integers: Double. SUM and AVG of decimals:
    /// Decimal. MIN, MAX: the argument's type.
    pub output: SqlType,
    /// In which order the rows count, for `StringAgg`, `ArrayAgg` and `FirstValue`; rows that are equal in it are ordered by
    /// the argument.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<OrderKey>,
    /// Between the values of `StringAgg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// Of a percentile, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Rows with a null argument do not count, for `ArrayAgg` and `FirstValue`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_nulls: bool,
    /// So many values at most, for `ArrayAgg` that is no window's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl AggregateCall {
    /// A call over all rows, of no particular order.
    pub fn new(function: AggregateFunction, argument: Option<usize>, output: SqlType) -> Self {
        AggregateCall {
            function,
            argument,
            distinct: false,
            filter: None,
            output,
            order: vec![],
            separator: None,
            share: None,
            ignore_nulls: false,
            limit: None,
        }
    }
}

/// One column of an order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OrderKey {
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    /// Of doubles, to Double; null of fewer than one (population) or two (sample) values.
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
    BoolAnd,
    BoolOr,
    /// Of Text; nulls do not count.
    StringAgg,
    ArrayAgg,
    /// The first in the call's order. LAST_VALUE is the first in the opposite order.
    FirstValue,
    /// What is a share of the way through the values in the call's order, between two of them if need be; of Doubles. Nulls do not count.
    PercentileCont,
    /// The first of the values in the call's order up to which there are at least that share of them. Nulls do not count.
    PercentileDisc,
    /// The value that is there most often, the first of several in the call's order. Nulls do not count.
    Mode,
}

impl AggregateFunction {
    /// Whether it is computed of its values in their order.
    pub fn is_ordered(self) -> bool {
        use AggregateFunction::*;
        matches!(self, StringAgg | ArrayAgg | FirstValue) || self.picks()
    }

    /// Whether it is one of its values in the order of themselves.
    pub fn picks(self) -> bool {
        self.is_percentile() || self == AggregateFunction::Mode
    }

    pub fn is_percentile(self) -> bool {
        matches!(self, AggregateFunction::PercentileCont | AggregateFunction::PercentileDisc)
    }
}

/// How the values of rows that become one are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// Added, each as often as its row's weight says: a BigInt or a Decimal.
    Sum,
    /// That there are so many is all that counts.
    Count,
    /// The smallest stays; rows only come. As with `Max`, of a type that is no float and not nested.
    Min,
    Max,
}
