//! Slices of arrays, `a[2:3]`, with PostgreSQL's bounds: one that is left out is the end of the array, and one before the first item is no place that is counted from the last one, as the binder takes it.
//! It does not know what is sliced.

use super::spellings::{if_else, number};
use datafusion::sql::sqlparser::ast::*;

/// No array has an item behind it.
const LAST: &str = "2147483647";

/// Gives a slice both bounds, wherever one is taken of a value.
pub fn rewrite(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { access_chain, .. } = expr else { return };
    for access in access_chain {
        if let AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. }) = access {
            *lower_bound = Some(lower_bound.take().map_or_else(|| number("1"), |bound| at_least("1", bound)));
            *upper_bound = Some(upper_bound.take().map_or_else(|| number(LAST), |bound| at_least("0", bound)));
        }
    }
}

fn at_least(least: &str, bound: Expr) -> Expr {
    if matches!(bound, Expr::Value(ValueWithSpan { value: Value::Number(..), .. })) {
        return bound;
    }
    let is_less = Expr::BinaryOp { left: Box::new(bound.clone()), op: BinaryOperator::Lt, right: Box::new(number(least)) };
    if_else(is_less, number(least), bound)
}
