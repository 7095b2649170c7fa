//! Constants that no row could be worked on by (a pattern, a regular expression, a JSON path, a unit, a zone, a text that is none of the type it is to be of) are errors of
//! the statement, at their place: a view would put every row aside, and whoever made it would not hear of it. Asked of calls and casts as they are after their
//! spelling; what only comes to a constant is left to the rows.

use super::rewrite::arguments;
use crate::error::fold;
use crate::functions::constants::wrong;
use crate::types::from_ast;
use datafusion::sql::sqlparser::ast::*;
use datafusion::sql::sqlparser::tokenizer::Span;
use eddyline_common::postgres::decode::ColumnBuilder;
use eddyline_common::{SqlError, SqlType};

/// What is wrong with the constants that an expression works by, if it is a call, the match of a regular expression or a cast that must not fail.
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
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } => of_cast(quoted(expr)?, data_type),
        Expr::TypedString(TypedString { data_type, value, .. }) => of_cast(quoted_value(value)?, data_type),
        _ => None,
    }
}

/// An interval may have fields, which say what its numbers count, and of types by their names some are numbers here that are written as names (`regclass`).
fn of_cast((text, span): (&str, Span), ty: &DataType) -> Option<(SqlError, Span)> {
    let is_known = !matches!(ty, DataType::Custom(..) | DataType::Regclass | DataType::Interval { .. } | DataType::Array(_));
    let ty = from_ast(ty).ok().filter(|_| is_known)?;
    reader(&ty)?.append_text(text).err().map(|error| (error, span))
}

/// What reads a text as a value of the type, whether it is cast or stored. There is none if every text is one, and of times that are in the session's zone.
pub fn reader(ty: &SqlType) -> Option<ColumnBuilder> {
    let is_read = !ty.is_text() && *ty != SqlType::TimestampTz;
    if is_read { ColumnBuilder::new(ty).ok() } else { None }
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
        Expr::Value(ValueWithSpan { value: Value::Number(text, _), span }) => Some((text, *span)),
        other => quoted(other),
    }
}

/// A text as it is written.
pub fn quoted(expr: &Expr) -> Option<(&str, Span)> {
    match expr {
        Expr::Nested(inner) => quoted(inner),
        Expr::Value(value) => quoted_value(value),
        _ => None,
    }
}

fn quoted_value(ValueWithSpan { value, span }: &ValueWithSpan) -> Option<(&str, Span)> {
    match value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some((text, *span)),
        Value::DollarQuotedString(text) => Some((&text.value, *span)),
        _ => None,
    }
}
