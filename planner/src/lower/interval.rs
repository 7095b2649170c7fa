//! Interval joins: bounds that a join's condition sets on the distance of two event times. Both bounds together say when a
//! row can match nothing any more.

use crate::plan::{BinaryOp, Expr, JoinInterval, Literal, LiteralValue, Op, StreamPlan};
use eddyline_common::time::MICROS_PER_DAY;

const NANOS_PER_MICRO: i64 = 1_000;

/// Bounds on `right - left` for one pair of time columns.
struct Bounds {
    times: [usize; 2],
    lower: Option<i64>,
    upper: Option<i64>,
}

/// The interval that `residual` (over the left columns, of which there are `width`, and then the right ones) and the equal
/// `keys` hold the event times of both sides to.
pub fn of_join(residual: Option<&Expr>, width: usize, keys: &[Vec<usize>; 2], times: [&[usize]; 2]) -> Option<JoinInterval> {
    let bounds = bounds(residual, width, keys, |[left, right]| times[0].contains(&left) && times[1].contains(&right));
    bounds.into_iter().find_map(|b| match (b.lower, b.upper) {
        (Some(lower), Some(upper)) if lower <= upper => Some(JoinInterval { times: b.times, lower, upper }),
        _ => None,
    })
}

/// Whether a join of a plan holds two times to an interval that ends before it begins, so that no rows match.
pub fn has_empty(plan: &StreamPlan) -> bool {
    plan.nodes.iter().any(|node| match &node.op {
        Op::Join { keys, residual: Some(residual), .. } => {
            let width = plan.nodes[node.inputs[0]].columns.len();
            bounds(Some(residual), width, keys, |_| true).iter().any(|b| b.lower.zip(b.upper).is_some_and(|(lower, upper)| lower > upper))
        }
        _ => false,
    })
}

/// The bounds of each pair of columns that are times.
fn bounds(residual: Option<&Expr>, width: usize, keys: &[Vec<usize>; 2], are_times: impl Fn([usize; 2]) -> bool) -> Vec<Bounds> {
    let mut bounds: Vec<Bounds> = Vec::new();
    for (left, right) in keys[0].iter().zip(&keys[1]) {
        if are_times([*left, *right]) {
            narrow(&mut bounds, [*left, *right], Some(0), Some(0));
        }
    }
    if let Some(residual) = residual {
        conjuncts(residual, &mut |condition| {
            let Some((pair, lower, upper)) = comparison(condition, width) else { return };
            if are_times(pair) {
                narrow(&mut bounds, pair, lower, upper);
            }
        });
    }
    bounds
}

fn narrow(bounds: &mut Vec<Bounds>, times: [usize; 2], lower: Option<i64>, upper: Option<i64>) {
    let at = bounds.iter().position(|b| b.times == times).unwrap_or_else(|| {
        bounds.push(Bounds { times, lower: None, upper: None });
        bounds.len() - 1
    });
    let known = &mut bounds[at];
    known.lower = known.lower.into_iter().chain(lower).max();
    known.upper = known.upper.into_iter().chain(upper).min();
}

pub(super) fn conjuncts(condition: &Expr, visit: &mut dyn FnMut(&Expr)) {
    match condition {
        Expr::Binary { op: BinaryOp::And, left, right } => {
            conjuncts(left, visit);
            conjuncts(right, visit);
        }
        other => visit(other),
    }
}

/// What a comparison of a left and a right column says of `right - left`: the columns of both sides, and bounds. Strict bounds
/// are taken as if they were not.
fn comparison(condition: &Expr, width: usize) -> Option<([usize; 2], Option<i64>, Option<i64>)> {
    let Expr::Binary { op, left, right } = condition else { return None };
    let (a, shift_a) = shifted(left)?;
    let (b, shift_b) = shifted(right)?;
    // right - left compared with a constant, and whether the operator turns round for it.
    let (pair, constant, turned) = match (a < width, b < width) {
        (true, false) => ([a, b - width], shift_a.checked_sub(shift_b)?, true),
        (false, true) => ([b, a - width], shift_b.checked_sub(shift_a)?, false),
        _ => return None,
    };
    let (lower, upper) = match (op, turned) {
        (BinaryOp::Eq, _) => (Some(constant), Some(constant)),
        (BinaryOp::Lt | BinaryOp::LtEq, false) | (BinaryOp::Gt | BinaryOp::GtEq, true) => (None, Some(constant)),
        (BinaryOp::Gt | BinaryOp::GtEq, false) | (BinaryOp::Lt | BinaryOp::LtEq, true) => (Some(constant), None),
        _ => return None,
    };
    Some((pair, lower, upper))
}

/// A column plus a constant number of microseconds.
fn shifted(expr: &Expr) -> Option<(usize, i64)> {
    match expr {
        Expr::Column(column) => Some((*column, 0)),
        Expr::Binary { op: BinaryOp::Plus, left, right } => match (left.as_ref(), right.as_ref()) {
            (Expr::Literal(by), e) | (e, Expr::Literal(by)) => shifted(e).and_then(|(c, shift)| Some((c, shift.checked_add(micros(by)?)?))),
            _ => None,
        },
        Expr::Binary { op: BinaryOp::Minus, left, right } => match right.as_ref() {
            Expr::Literal(by) => shifted(left).and_then(|(c, shift)| Some((c, shift.checked_sub(micros(by)?)?))),
            _ => None,
        },
        _ => None,
    }
}

/// The microseconds of an interval of constant length.
pub(crate) fn micros(literal: &Literal) -> Option<i64> {
    match literal.value {
        LiteralValue::Interval { months: 0, days, nanos } if nanos % NANOS_PER_MICRO == 0 => {
            (days as i64).checked_mul(MICROS_PER_DAY)?.checked_add(nanos / NANOS_PER_MICRO)
        }
        _ => None,
    }
}
