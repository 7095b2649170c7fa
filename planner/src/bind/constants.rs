//! Constants that no row could be worked on by (a pattern, a regular expression, a JSON path, a unit, a zone) are errors of the statement, at their place: a view would
//! put every row aside, and whoever made it would not hear of it. Asked of calls as they are after their spelling; what only comes to a constant is
//! left to the rows.

use super::rewrite::arguments;
use crate::error::fold;
use crate::functions::constants::wrong;
use datafusion::sql::sqlparser::ast::*;
use datafusion::sql::sqlparser::tokenizer::Span;
use eddyline_common::SqlError;

/// What is wrong with the constants that an expression works by, if it is a call or the match of a regular expression.
pub fn refused(expr: &Expr) -> Option<(SqlError, Span)> {
    use BinaryOperator::{PGRegexIMatch, PGRegexMatch, PGRegexNotIMatch, PGRegexNotMatch};
    match expr {
        Expr::Function(function) => {
            let [name] = function.name.0.as_slice() else { return None };
            of_call(&fold(name.as_ident()?), &arguments(function))
        }
        Expr::Extract { field, .. } => {
            let span = if let DateTimeField::Custom(name) = field { name.span } else { Span::empty() };
            wrong("date_part", &[Some(field.to_string().as_str())]).map(|(_, error)| (error, span))
        }
        Expr::BinaryOp { left, op: PGRegexMatch | PGRegexIMatch | PGRegexNotMatch | PGRegexNotIMatch, right } => {
            of_call("regexp_like", &[left.as_ref(), right.as_ref()])
        }
        _ => None,
    }
}

fn of_call(name: &str, arguments: &[&Expr]) -> Option<(SqlError, Span)> {
    let constants: Vec<Option<(&str, Span)>> = arguments.iter().map(|argument| constant(argument)).collect();
    let texts: Vec<Option<&str>> = constants.iter().map(|constant| constant.map(|(text, _)| text)).collect();
    let (at, error) = wrong(name, &texts)?;
    Some((error, constants[at].map_or_else(Span::empty, |(_, span)| span)))
}

/// A text or a number as it is written.
fn constant(expr: &Expr) -> Option<(&str, Span)> {
    match expr {
        Expr::Nested(inner) => constant(inner),
        Expr::Value(ValueWithSpan { value, span }) => match value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) | Value::Number(text, _) => Some((text, *span)),
            Value::DollarQuotedString(text) => Some((&text.value, *span)),
            _ => None,
        },
        _ => None,
    }
}
