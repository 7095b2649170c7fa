//! `CURRENT_WATERMARK(ts)`, in the conditions that ask whether a row came behind its watermark. They become a function of our own. Any other use would show the
//! watermark itself, which a source's past knows only as far as it decides which rows are late; that is refused.

use super::rewrite::{arguments, call};
use crate::functions::BEHIND_WATERMARK;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Function, UnaryOperator};

const NAME: &str = "current_watermark";

/// The condition with our function in it, if it is one of them as a whole.
pub fn replacement(expr: &Expr) -> Option<Expr> {
    let behind = |time: &Expr| call(BEHIND_WATERMARK, vec![time.clone()]);
    let not = |e: Expr| Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(e) };
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
            either_way(left, right, &|a, b| of_one(is_absent(a)?, is_later(b)?)).map(|time| not(behind(time)))
        }
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            either_way(left, right, &|a, b| of_one(is_present(a)?, is_behind(b)?)).map(behind)
        }
        other => is_behind(other).map(behind),
    }
}

/// The time of two conditions, in whatever order they stand.
fn either_way<'a>(left: &'a Expr, right: &'a Expr, time: &dyn Fn(&'a Expr, &'a Expr) -> Option<&'a Expr>) -> Option<&'a Expr> {
    time(left, right).or_else(|| time(right, left))
}

fn of_one<'a>(a: &'a Expr, b: &Expr) -> Option<&'a Expr> {
    (a == b).then_some(a)
}

/// The time of `CURRENT_WATERMARK(time)`.
fn watermark(expr: &Expr) -> Option<&Expr> {
    let Expr::Function(function) = bare(expr) else { return None };
    let arguments = arguments(function);
    let [time] = arguments.as_slice() else { return None };
    let is_column = matches!(time, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    (is_column && is_watermark(function)).then_some(*time)
}

fn is_watermark(function: &Function) -> bool {
    function.name.0.len() == 1 && function.name.to_string().eq_ignore_ascii_case(NAME)
}

fn bare(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// `CURRENT_WATERMARK(time) IS NULL`.
fn is_absent(expr: &Expr) -> Option<&Expr> {
    if let Expr::IsNull(inner) = bare(expr) { watermark(inner) } else { None }
}

/// `CURRENT_WATERMARK(time) IS NOT NULL`.
fn is_present(expr: &Expr) -> Option<&Expr> {
    if let Expr::IsNotNull(inner) = bare(expr) { watermark(inner) } else { None }
}

/// `time > CURRENT_WATERMARK(time)`.
fn is_later(expr: &Expr) -> Option<&Expr> {
    match bare(expr) {
        Expr::BinaryOp { left, op: BinaryOperator::Gt, right } => of_one(watermark(right)?, bare(left)),
        Expr::BinaryOp { left, op: BinaryOperator::Lt, right } => of_one(watermark(left)?, bare(right)),
        _ => None,
    }
}

/// `time <= CURRENT_WATERMARK(time)`.
fn is_behind(expr: &Expr) -> Option<&Expr> {
    match bare(expr) {
        Expr::BinaryOp { left, op: BinaryOperator::LtEq, right } => of_one(watermark(right)?, bare(left)),
        Expr::BinaryOp { left, op: BinaryOperator::GtEq, right } => of_one(watermark(left)?, bare(right)),
        _ => None,
    }
}
