//! Flink's and PostgreSQL's spellings of what is a function of our registry, or an expression over one. What depends on
//! the session's time zone gets it as an argument.

use super::rewrite::{arguments, call, cast, string_expr};
use super::window::GROUP_WINDOW_COLUMNS;
use crate::error::fold;
use crate::functions::pattern::{DEFAULT as DEFAULT_PATTERN, is_postgres};
use crate::functions::percentile::{CONTINUOUS, DISCRETE};
use crate::functions::{LIKE_ESCAPE, PART, SIMILAR_TO};
use crate::parse::spellings::SYMMETRIC;
use datafusion::sql::sqlparser::ast::*;

/// The expression that stands for another one.
pub fn replacement(expr: &mut Expr, zone: &str) -> Option<Expr> {
    match expr {
        Expr::Function(function) => of_function(function, zone),
        Expr::BinaryOp { left, op, right } => {
            let name = match op {
                BinaryOperator::Arrow => "json_get",
                BinaryOperator::LongArrow => "json_get_text",
                BinaryOperator::HashArrow => "json_get_path",
                BinaryOperator::HashLongArrow => "json_get_path_text",
                _ => return None,
            };
            Some(call(name, vec![left.as_ref().clone(), right.as_ref().clone()]))
        }
        Expr::SimilarTo { negated, expr, pattern, escape_char } => {
            let escape = escape_char.clone().map(Expr::Value);
            let regex = call(SIMILAR_TO, [pattern.as_ref().clone()].into_iter().chain(escape).collect());
            let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
            Some(Expr::BinaryOp { left: expr.clone(), op, right: Box::new(regex) })
        }
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            let escape = escape_char.take()?;
            **pattern = call(LIKE_ESCAPE, vec![pattern.as_ref().clone(), Expr::Value(escape)]);
            None
        }
        // Not for a subquery, which is another expression to the binder.
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } if !matches!(right.as_ref(), Expr::Subquery(_)) => {
            let any = Expr::AnyOp { left: left.clone(), compare_op: BinaryOperator::Eq, right: right.clone(), is_some: false };
            Some(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(any))) })
        }
        Expr::Extract { field, expr, .. } => fraction(&field.to_string(), expr),
        Expr::AtTimeZone { timestamp, time_zone } => Some(call("timezone", vec![time_zone.as_ref().clone(), timestamp.as_ref().clone()])),
        Expr::Between { expr, negated, low, high } => symmetric(expr, *negated, low, high),
        Expr::Ceil { expr, field } => to_unit("eddyline_ceil", expr, field),
        Expr::Floor { expr, field } => to_unit("eddyline_floor", expr, field),
        _ => None,
    }
}

/// A part that has a fraction, or none that depends on the zone of the session.
fn fraction(field: &str, time: &Expr) -> Option<Expr> {
    let field = field.to_lowercase();
    let unit = match field.as_str() {
        "epoch" => "epoch",
        "second" | "seconds" | "sec" | "secs" => "second",
        "millisecond" | "milliseconds" | "ms" | "msec" => "millisecond",
        "microsecond" | "microseconds" | "us" | "usec" => "microsecond",
        _ => return None,
    };
    Some(call(PART, vec![string_expr(unit), time.clone()]))
}

/// `x BETWEEN SYMMETRIC a AND b`: either of the bounds may be the lower one.
fn symmetric(expr: &Expr, negated: bool, low: &Expr, high: &Expr) -> Option<Expr> {
    let Expr::Function(function) = low else { return None };
    let [bound] = arguments(function).try_into().ok()?;
    if function.name.to_string() != SYMMETRIC {
        return None;
    }
    let between = |low: &Expr, high: &Expr| {
        let (expr, low, high) = (Box::new(expr.clone()), Box::new(low.clone()), Box::new(high.clone()));
        Box::new(Expr::Between { expr, negated: false, low, high })
    };
    let either = Expr::BinaryOp { left: between(bound, high), op: BinaryOperator::Or, right: between(high, bound) };
    let either = Expr::Nested(Box::new(either));
    Some(if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(either) } } else { either })
}

/// `CEIL(time TO DAY)`.
fn to_unit(name: &str, expr: &Expr, field: &CeilFloorKind) -> Option<Expr> {
    match field {
        CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) | CeilFloorKind::Scale(_) => None,
        CeilFloorKind::DateTimeField(unit) => Some(call(name, vec![string_expr(&unit.to_string()), expr.clone()])),
    }
}

fn of_function(function: &mut Function, zone: &str) -> Option<Expr> {
    let [name] = function.name.0.as_slice() else { return None };
    let name = fold(name.as_ident()?);
    let args: Vec<Expr> = arguments(function).into_iter().cloned().collect();
    let own = |i: usize| args[i].clone();
    let now = || call("now", vec![]);
    let part = |field: &str| cast(call("date_part", vec![string_expr(field), time_of(own(0))]), DataType::BigInt(None));
    let pattern = |i: usize| args.get(i).cloned().unwrap_or_else(|| string_expr(DEFAULT_PATTERN));
    Some(match (name.as_str(), args.len()) {
        ("tumble_start" | "hop_start" | "cumulate_start" | "session_start", _) => Expr::Identifier(Ident::new(GROUP_WINDOW_COLUMNS[0])),
        ("tumble_end" | "hop_end" | "cumulate_end" | "session_end", _) => Expr::Identifier(Ident::new(GROUP_WINDOW_COLUMNS[1])),
        (name, _) if is_window_time(name) => Expr::Identifier(Ident::new(GROUP_WINDOW_COLUMNS[2])),
        ("gen_random_uuid", 0) => cast(call("uuid", vec![]), DataType::Uuid),
        ("localtimestamp", 0) => cast(now(), DataType::Timestamp(None, TimezoneInfo::None)),
        ("current_date" | "today", 0) => cast(now(), DataType::Date),
        ("current_time" | "localtime", 0) => cast(now(), DataType::Time(None, TimezoneInfo::None)),
        ("unix_timestamp", 0) => call("eddyline_seconds", vec![now()]),
        ("unix_timestamp", 1 | 2) => call("unix_timestamp", vec![own(0), pattern(1), string_expr(zone)]),
        ("from_unixtime", 1 | 2) => call("from_unixtime", vec![own(0), pattern(1), string_expr(zone)]),
        ("to_timestamp", 2) if literal(&args[1]).is_some_and(is_postgres) => {
            call("timezone", vec![string_expr(zone), call("eddyline_time_of_pg", vec![own(0), own(1)])])
        }
        ("to_timestamp", 2) => call("eddyline_time_of", vec![own(0), own(1)]),
        ("date", 1) | ("to_date", 1) => cast(own(0), DataType::Date),
        ("to_date", 2) if literal(&args[1]).is_some_and(is_postgres) => {
            cast(call("eddyline_time_of_pg", vec![own(0), own(1)]), DataType::Date)
        }
        ("to_date", 2) => cast(call("eddyline_time_of", vec![own(0), own(1)]), DataType::Date),
        ("timestampdiff" | "timestampadd", 3) => match &args[0] {
            Expr::Identifier(unit) => call(&name, vec![string_expr(&unit.value), own(1), own(2)]),
            _ => return None,
        },
        ("year" | "quarter" | "month" | "week" | "hour" | "minute", 1) => part(&name),
        ("second", 1) => cast(call("floor", vec![call(PART, vec![string_expr("second"), time_of(own(0))])]), DataType::BigInt(None)),
        ("date_part" | "datepart", 2) => return fraction(literal(&args[0])?, &args[1]),
        ("age", 1) => {
            let midnight = cast(cast(now(), DataType::Date), DataType::Timestamp(None, TimezoneInfo::None));
            call("age", vec![midnight, own(0)])
        }
        ("make_interval", _) => call("make_interval", interval_parts(function)?),
        ("dayofmonth", 1) => part("day"),
        ("dayofyear", 1) => part("doy"),
        ("dayofweek", 1) => {
            let right = Box::new(Expr::Value(Value::Number("1".to_string(), true).with_empty_span()));
            Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(part("dow")), op: BinaryOperator::Plus, right }))
        }
        ("if", 3) => Expr::Case {
            case_token: helpers::attached_token::AttachedToken::empty(),
            end_token: helpers::attached_token::AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen { condition: own(0), result: own(1) }],
            else_result: Some(Box::new(own(2))),
        },
        ("mod", 2) => Expr::Nested(Box::new(Expr::BinaryOp {
            left: Box::new(Expr::Nested(Box::new(own(0)))),
            op: BinaryOperator::Modulo,
            right: Box::new(Expr::Nested(Box::new(own(1)))),
        })),
        ("json_value", 2 | 6) => {
            let ty = returning(function)?;
            cast(call("json_value", args.clone()), ty)
        }
        ("variance", 1) => {
            function.name = ObjectName::from(vec![Ident::new("var_samp")]);
            return None;
        }
        ("ceiling", 1) => {
            function.name = ObjectName::from(vec![Ident::new("ceil")]);
            return None;
        }
        ("every", 1) => {
            function.name = ObjectName::from(vec![Ident::new("bool_and")]);
            return None;
        }
        ("any_value", 1) => {
            function.name = ObjectName::from(vec![Ident::new("first_value")]);
            function.null_treatment = Some(NullTreatment::IgnoreNulls);
            return None;
        }
        ("median", 1) => {
            percentile(function, CONTINUOUS, vec![own(0), number("0.5")]);
            return None;
        }
        ("approx_count_distinct", 1) => {
            function.name = ObjectName::from(vec![Ident::new("approx_distinct")]);
            return None;
        }
        ("approx_percentile" | "approx_quantile", 2) => {
            function.name = ObjectName::from(vec![Ident::new("approx_percentile_cont")]);
            return None;
        }
        // Flink's.
        ("percentile", 2) => {
            percentile(function, CONTINUOUS, args.clone());
            return None;
        }
        (CONTINUOUS | DISCRETE | "quantile_cont", 1) => {
            let [within] = std::mem::take(&mut function.within_group).try_into().ok()?;
            let OrderByExpr { expr, options, .. } = within;
            let descending = options.asc == Some(false);
            let flag = descending.then(|| Expr::Value(Value::Boolean(true).with_empty_span()));
            let name = if name == DISCRETE { DISCRETE } else { CONTINUOUS };
            percentile(function, name, [expr, own(0)].into_iter().chain(flag).collect());
            return None;
        }
        ("listagg", 1 | 2) => {
            string_agg(function);
            return None;
        }
        _ => return None,
    })
}

/// A null has no type of itself.
fn time_of(value: Expr) -> Expr {
    match value {
        null @ Expr::Value(ValueWithSpan { value: Value::Null, .. }) => cast(null, DataType::Timestamp(None, TimezoneInfo::None)),
        time => time,
    }
}

/// What MAKE_INTERVAL is given by place and by name, in the order of its parts; 0 where it is given nothing.
fn interval_parts(function: &Function) -> Option<Vec<Expr>> {
    const NAMES: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];
    let FunctionArguments::List(list) = &function.args else { return None };
    let mut parts: Vec<Expr> = NAMES.iter().map(|_| number("0")).collect();
    for (i, given) in list.args.iter().enumerate() {
        let (at, value) = match given {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (i, value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => (NAMES.iter().position(|n| *n == fold(name))?, value),
            _ => return None,
        };
        *parts.get_mut(at)? = value.clone();
    }
    Some(parts)
}

/// `TUMBLE_ROWTIME`, `TUMBLE_PROCTIME` and kin: the window's own time. Whether that is event time or processing time follows from the
/// column that the window is over.
pub fn is_window_time(name: &str) -> bool {
    const NAMES: [&str; 7] =
        ["tumble_rowtime", "hop_rowtime", "cumulate_rowtime", "session_rowtime", "tumble_proctime", "hop_proctime", "session_proctime"];
    NAMES.contains(&name)
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

fn number(text: &str) -> Expr {
    Expr::Value(Value::Number(text.to_string(), false).with_empty_span())
}

/// A percentile as our functions take it; DISTINCT and FILTER stay.
fn percentile(function: &mut Function, name: &str, args: Vec<Expr>) {
    function.name = ObjectName::from(vec![Ident::new(name)]);
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    }
}

/// The type of `JSON_VALUE(... RETURNING type)`.
fn returning(function: &Function) -> Option<DataType> {
    let FunctionArguments::List(list) = &function.args else { return None };
    list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::JsonReturningClause(returning) => Some(returning.data_type.clone()),
        _ => None,
    })
}

/// `LISTAGG(x [, separator]) [WITHIN GROUP (ORDER BY ...)]` is `string_agg`, with a comma as its separator.
fn string_agg(function: &mut Function) {
    function.name = ObjectName::from(vec![Ident::new("string_agg")]);
    let within = std::mem::take(&mut function.within_group);
    let FunctionArguments::List(list) = &mut function.args else { return };
    if list.args.len() == 1 {
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(string_expr(","))));
    }
    if !within.is_empty() {
        list.clauses.push(FunctionArgumentClause::OrderBy(within));
    }
}
