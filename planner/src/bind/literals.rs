//! The types of number literals, as PostgreSQL gives them: integer if it fits, else bigint, else numeric; with a point or
//! an exponent numeric. A numeric has at most 38 digits here: what needs more is double precision. DataFusion's binder
//! takes every integer for a bigint, so the others get a cast around them. Numbers that the binder reads by itself
//! (positions, limits, intervals, frames) stay bare: their `long` flag says so. An array in quotes that a value is searched for in becomes a list.

use super::rewrite::{cast, string_expr};
use datafusion::sql::sqlparser::ast::*;
use eddyline_common::postgres::parse;

const MAX_DIGITS: usize = 38;

/// Leaves a number as it is.
fn keep(expr: &mut Expr) {
    flag(expr, true);
}

fn flag(expr: &mut Expr, kept: bool) {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(_, long), .. }) => *long = kept,
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } | Expr::Nested(expr) => flag(expr, kept),
        _ => {}
    }
}

/// The numbers of a query that are positions and limits.
pub fn keep_in_query(query: &mut Query) {
    if let Some(OrderBy { kind: OrderByKind::Expressions(items), .. }) = &mut query.order_by {
        items.iter_mut().for_each(|item| keep(&mut item.expr));
    }
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, offset, .. }) => {
            limit.iter_mut().for_each(keep);
            offset.iter_mut().for_each(|o| keep(&mut o.value));
        }
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
            keep(offset);
            keep(limit);
        }
        None => {}
    }
    if let Some(Fetch { quantity: Some(quantity), .. }) = &mut query.fetch {
        keep(quantity);
    }
}

/// The positions in GROUP BY.
pub fn keep_in_select(select: &mut Select) {
    if let GroupByExpr::Expressions(items, _) = &mut select.group_by {
        items.iter_mut().for_each(keep);
    }
}

/// The binder takes the numbers of frames without the flag.
pub fn bare_in_expr(expr: &mut Expr) {
    if let Expr::Function(Function { over: Some(WindowType::WindowSpec(window)), .. }) = expr {
        flag_frame(window, false);
    }
}

fn flag_frame(window: &mut WindowSpec, kept: bool) {
    let Some(frame) = &mut window.window_frame else { return };
    for bound in [Some(&mut frame.start_bound), frame.end_bound.as_mut()].into_iter().flatten() {
        if let WindowFrameBound::Preceding(Some(rows)) | WindowFrameBound::Following(Some(rows)) = bound {
            flag(rows, kept);
        }
    }
}

/// The cells of VALUES whose types are those of a table's columns. Of numbers with an exponent the binder makes numerics, whatever that is: they get their types as elsewhere.
pub fn keep_in_values(query: &mut Query) {
    if let SetExpr::Values(values) = query.body.as_mut() {
        values.rows.iter_mut().flat_map(|row| &mut row.content).filter(|cell| !has_exponent(cell)).for_each(keep);
    }
}

fn has_exponent(expr: &Expr) -> bool {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => number.contains(['e', 'E']),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } | Expr::Nested(expr) => has_exponent(expr),
        _ => false,
    }
}

/// Gives a number its type.
pub fn rewrite(expr: &mut Expr) {
    let replacement = match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(number, false), .. }) => literal(number, false),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => match inner.as_ref() {
            Expr::Value(ValueWithSpan { value: Value::Number(number, false), .. }) => literal(number, true),
            _ => return,
        },
        Expr::Interval(interval) => return keep(&mut interval.value),
        // The cast that is written says the type.
        Expr::Cast { expr: inner, .. } => match inner.as_mut() {
            Expr::Value(ValueWithSpan { value: Value::Number(number, long), .. }) => {
                *long |= number.parse::<i64>().is_ok();
                return;
            }
            _ => return,
        },
        Expr::Function(Function { over: Some(WindowType::WindowSpec(window)), .. }) => return flag_frame(window, true),
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => match listed(left, right, false) {
            Some(list) => list,
            None => return,
        },
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => match listed(left, right, true) {
            Some(list) => list,
            None => return,
        },
        _ => return,
    };
    *expr = replacement;
}

/// `x = ANY ('{a,b}')` is `x IN ('a', 'b')`, so that the items are of the type of `x`; and `x <> ALL ('{a,b}')` is that it is not.
fn listed(value: &Expr, array: &Expr, negated: bool) -> Option<Expr> {
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) = array else { return None };
    let items = parse::array(text.trim()).ok()?;
    if items.is_empty() {
        return Some(Expr::Value(Value::Boolean(negated).with_empty_span()));
    }
    let item = |item: Option<String>| item.map_or_else(|| Expr::Value(Value::Null.with_empty_span()), |text| string_expr(&text));
    Some(Expr::InList { expr: Box::new(value.clone()), list: items.into_iter().map(item).collect(), negated })
}

fn literal(written: &str, negative: bool) -> Expr {
    let text: String = written.chars().filter(|c| *c != '_').collect();
    let signed = if negative { format!("-{text}") } else { text.clone() };
    let number = |text: &str| bare(text, negative);
    if signed.parse::<i32>().is_ok() {
        return cast(number(&text), DataType::Integer(None));
    }
    if signed.parse::<i64>().is_ok() {
        return number(&text);
    }
    let double = || cast(string_expr(&signed), DataType::DoublePrecision);
    let Some(plain) = plain(&text) else { return double() };
    let digits = plain.bytes().filter(u8::is_ascii_digit).count();
    match plain.contains('.') {
        _ if digits > MAX_DIGITS => double(),
        true => number(&plain),
        false => {
            let info = ExactNumberInfo::PrecisionAndScale(digits as u64, 0);
            cast(number(&plain), DataType::Numeric(info))
        }
    }
}

/// A number that stays as it is, with its sign.
fn bare(text: &str, negative: bool) -> Expr {
    let value = Expr::Value(Value::Number(text.to_string(), true).with_empty_span());
    if negative { Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(value) } } else { value }
}

/// A number without an exponent and without zeros in front; `None` if that is very long.
fn plain(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i64 + exponent;
    if !(-(MAX_DIGITS as i64)..=2 * MAX_DIGITS as i64).contains(&point) {
        return None;
    }
    let padded = match point {
        ..=0 => format!("{}{digits}", "0".repeat(point.unsigned_abs() as usize + 1)),
        _ => format!("{digits:0<width$}", width = point as usize),
    };
    let point = if point <= 0 { 1 } else { point as usize };
    let (whole, fraction) = padded.split_at(point);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    Some(if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_typed_as_postgres_types_them() {
        for (text, negative, typed) in [
            ("1", false, "CAST(1 AS INTEGER)"),
            ("1_000", false, "CAST(1000 AS INTEGER)"),
            ("2147483647", false, "CAST(2147483647 AS INTEGER)"),
            ("2147483648", false, "2147483648"),
            ("2147483648", true, "CAST(-2147483648 AS INTEGER)"),
            ("9223372036854775808", true, "-9223372036854775808"),
            ("9223372036854775808", false, "CAST(9223372036854775808 AS NUMERIC(19,0))"),
            ("1.50", false, "1.50"),
            (".5", false, "0.5"),
            ("1e3", false, "CAST(1000 AS NUMERIC(4,0))"),
            ("1.5e1", false, "CAST(15 AS NUMERIC(2,0))"),
            ("15e-1", true, "-1.5"),
            ("25e-4", false, "0.0025"),
            ("1e100", false, "CAST('1e100' AS DOUBLE PRECISION)"),
        ] {
            // The flag of a number that stays shows as a suffix.
            assert_eq!(literal(text, negative).to_string().replace('L', ""), typed.replace('L', ""), "{text}");
        }
    }
}
