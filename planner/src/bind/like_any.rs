//! `LIKE ANY (array)`, `ILIKE ALL (array)` and kin, which the binder does not know, as calls of a function of ours. A list of several patterns in parentheses
//! is an array too. It does not know subqueries, nor ESCAPE: those are left to the binder, which refuses them.

use super::rewrite::{arguments, call, cast, string_expr};
use crate::error::fold;
use crate::functions::LIKE_ANY;
use datafusion::sql::sqlparser::ast::*;

/// What stands for such a condition.
pub fn replacement(expr: &Expr) -> Option<Expr> {
    let (negated, any, text, pattern, operator) = match expr {
        Expr::Like { negated, any, expr, pattern, escape_char: None } => (*negated, *any, expr, pattern, "~~"),
        Expr::ILike { negated, any, expr, pattern, escape_char: None } => (*negated, *any, expr, pattern, "~~*"),
        _ => return None,
    };
    let patterns = if any { array(pattern)? } else { array(operand_of_all(pattern)?)? };
    // All match if none does not.
    let operator = if negated == any { format!("!{operator}") } else { operator.to_string() };
    let found = call(LIKE_ANY, vec![text.as_ref().clone(), patterns, string_expr(&operator)]);
    Some(if any { found } else { Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(found) })) })
}

/// The parser takes `ALL (array)` for a call.
fn operand_of_all(pattern: &Expr) -> Option<&Expr> {
    let Expr::Function(function) = pattern else { return None };
    let [name] = function.name.0.as_slice() else { return None };
    match arguments(function).as_slice() {
        [operand] if fold(name.as_ident()?) == "all" => Some(*operand),
        _ => None,
    }
}

fn array(patterns: &Expr) -> Option<Expr> {
    match patterns {
        Expr::Nested(inner) => array(inner),
        Expr::Subquery(_) => None,
        Expr::Tuple(items) => Some(Expr::Array(Array { elem: items.clone(), named: true })),
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. }) => {
            let texts = DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(DataType::Text), None));
            Some(cast(patterns.clone(), texts))
        }
        other => Some(other.clone()),
    }
}
