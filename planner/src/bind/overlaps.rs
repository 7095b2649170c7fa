//! `(start, end) OVERLAPS (start, end)`: a function of the four times, as PostgreSQL has it. An end may be an interval in quotes, which is added to its start.

use super::rewrite::call;
use super::rows::row;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr};

/// The expression that stands for it.
pub fn replacement(expr: &Expr) -> Option<Expr> {
    let Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } = expr else { return None };
    let ([start, end], [other_start, other_end]) = (row(left)?, row(right)?) else { return None };
    let times = vec![start.clone(), moment(start, end), other_start.clone(), moment(other_start, other_end)];
    Some(call("overlaps", times))
}

fn moment(start: &Expr, end: &Expr) -> Expr {
    match end {
        Expr::Interval(_) => {
            let (left, right) = (Box::new(Expr::Nested(Box::new(start.clone()))), Box::new(end.clone()));
            Expr::Nested(Box::new(Expr::BinaryOp { left, op: BinaryOperator::Plus, right }))
        }
        end => end.clone(),
    }
}
