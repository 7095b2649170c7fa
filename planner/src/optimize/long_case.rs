//! CASE of many WHENs. Of one that gives true or false, as it does where what it gives is compared with a constant, DataFusion makes ANDs and ORs in which each WHEN stands beside all those before it: of a
//! thousand that is half a million. So while it simplifies, a long one stands as `CASE true WHEN ...`, which is the same and none that it makes anything of. It does not know what is simplified.

use crate::walk::Walk;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{Expr, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

/// So many beside one another are a few hundred.
const WHENS_MAX: usize = 32;

/// What DataFusion simplifies an expression to.
pub fn simplified(simplifier: &ExprSimplifier, expr: Expr) -> DfResult<Expr> {
    Ok(shown(simplifier.simplify(hidden(expr)?.data)?)?.data)
}

/// Whether there is nothing to do of an expression.
pub fn is_short(expr: &Expr) -> bool {
    !expr.any(|e| matches!(e, Expr::Case(case) if is_long(case)))
}

/// An expression with its long ones as they are to stand.
pub fn hidden(expr: Expr) -> DfResult<Transformed<Expr>> {
    expr.up(|expr| match expr {
        Expr::Case(case) if is_long(&case) && case.expr.is_none() => {
            Ok(Transformed::yes(Expr::Case(Case { expr: Some(Box::new(lit(true))), ..case })))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// An expression with its long ones as they were.
pub fn shown(expr: Expr) -> DfResult<Transformed<Expr>> {
    expr.up(|expr| match expr {
        Expr::Case(case) if is_long(&case) && case.expr.as_deref().is_some_and(is_true) => {
            Ok(Transformed::yes(Expr::Case(Case { expr: None, ..case })))
        }
        other => Ok(Transformed::no(other)),
    })
}

fn is_long(case: &Case) -> bool {
    case.when_then_expr.len() > WHENS_MAX
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}
