//! Flink's and PostgreSQL's spellings of what is a function of our registry, or an expression over one. What depends on
//! the session's time zone gets it as an argument.

use super::rewrite::{arguments, call, cast, string_expr};
use super::window::GROUP_WINDOW_COLUMNS;
use super::{group_windows, json, like_any, neighbours};
use crate::error::fold;
use crate::functions::pattern::{DEFAULT as DEFAULT_PATTERN, is_postgres};
use crate::functions::percentile::{CONTINUOUS, DISCRETE, MODE};
use crate::functions::{
    ADD_CLOCK, CHARSETS, FROM_CHARSET, LIKE_ESCAPE, NUMBER_OF, NumberPattern, PART, SIMILAR_TO, TIME_PRECISION, TO_CHARSET, YEARS,
    is_of_clock,
};
use crate::parse::spellings::{SYMMETRIC, VALUES_OF_WHEN};
use crate::types;
use datafusion::sql::sqlparser::ast::*;

/// The expression that stands for another one.
pub fn replacement(expr: &mut Expr, zone: &str) -> Option<Expr> {
    if let Some(several) = like_any::replacement(expr) {
        return Some(several);
    }
    match expr {
        Expr::Cast { .. } | Expr::TypedString(_) => to_precision(expr),
        Expr::Case { operand: Some(_), conditions, .. } => {
            one_by_one(conditions);
            None
        }
        Expr::Function(function) => of_function(function, zone),
        Expr::BinaryOp { left, op, right } => {
            let name = match op {
                BinaryOperator::Arrow => "json_get",
                BinaryOperator::LongArrow => "json_get_text",
                BinaryOperator::HashArrow => "json_get_path",
                BinaryOperator::HashLongArrow => "json_get_path_text",
                BinaryOperator::PGStartsWith => "starts_with",
                _ => return None,
            };
            Some(call(name, vec![left.as_ref().clone(), right.as_ref().clone()]))
        }
        Expr::UnaryOp { op, expr } => of_sign(*op, expr),
        // The first group of a regular expression, or all that it matches.
        Expr::Substring { expr, substring_from: Some(pattern), substring_for: None, .. } if literal(pattern.as_ref()).is_some() => {
            let found = call("regexp_match", vec![expr.as_ref().clone(), pattern.as_ref().clone()]);
            Some(call("array_element", vec![found, number("1")]))
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

/// PostgreSQL's operators in front of a number.
fn of_sign(op: UnaryOperator, operand: &Expr) -> Option<Expr> {
    let operand = operand.clone();
    let double = |operand: Expr| cast(operand, DataType::Double(ExactNumberInfo::None));
    Some(match op {
        UnaryOperator::PGAbs => call("abs", vec![operand]),
        UnaryOperator::PGSquareRoot => call("sqrt", vec![double(operand)]),
        UnaryOperator::PGCubeRoot => call("cbrt", vec![double(operand)]),
        UnaryOperator::BitwiseNot => {
            let ones = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number("1")) };
            let (left, right) = (Box::new(Expr::Nested(Box::new(operand))), Box::new(ones));
            Expr::Nested(Box::new(Expr::BinaryOp { left, op: BinaryOperator::PGBitwiseXor, right }))
        }
        _ => return None,
    })
}

/// A cast to a type of times with fewer digits than there are, or a literal of one: the binder's types have all digits.
fn to_precision(expr: &mut Expr) -> Option<Expr> {
    let (Expr::Cast { data_type, .. } | Expr::TypedString(TypedString { data_type, .. })) = expr else { return None };
    let digits = types::take_precision(data_type)?;
    let digits = Expr::Value(Value::Number(digits.to_string(), true).with_empty_span());
    Some(call(TIME_PRECISION, vec![expr.clone(), digits]))
}

/// `WHEN 1, 2 THEN x`: a WHEN for each.
fn one_by_one(conditions: &mut Vec<CaseWhen>) {
    let has_several = |when: &CaseWhen| matches!(&when.condition, Expr::Function(f) if f.name.to_string() == VALUES_OF_WHEN);
    if !conditions.iter().any(has_several) {
        return;
    }
    for when in std::mem::take(conditions) {
        match &when.condition {
            Expr::Function(f) if has_several(&when) => {
                conditions.extend(arguments(f).into_iter().map(|value| CaseWhen { condition: value.clone(), result: when.result.clone() }));
            }
            _ => conditions.push(when),
        }
    }
}

/// A part that has a fraction, none that depends on the zone of the session, or one of many years.
fn fraction(field: &str, time: &Expr) -> Option<Expr> {
    let field = field.to_lowercase();
    let unit = match field.as_str() {
        "epoch" => "epoch",
        "second" | "seconds" | "sec" | "secs" => "second",
        "millisecond" | "milliseconds" | "ms" | "msec" => "millisecond",
        "microsecond" | "microseconds" | "us" | "usec" => "microsecond",
        "decade" | "decades" | "century" | "centuries" | "millennium" | "millennia" => {
            let unit = match &field[..1] {
                "d" => "decade",
                "c" => "century",
                _ => "millennium",
            };
            return Some(call(YEARS, vec![string_expr(unit), time_of(time.clone())]));
        }
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
    if let Some((_, column)) = group_windows::column(&name) {
        return Some(Expr::Identifier(Ident::new(GROUP_WINDOW_COLUMNS[column])));
    }
    Some(match (name.as_str(), args.len()) {
        ("e", 0) => cast(number("2.718281828459045"), DataType::Double(ExactNumberInfo::None)),
        ("truncate", 1 | 2) => return renamed(function, "trunc"),
        // DataFusion's make texts of most types.
        ("ifnull" | "nvl", 2) => return renamed(function, "coalesce"),
        ("startswith", 2) => return renamed(function, "starts_with"),
        ("endswith", 2) => return renamed(function, "ends_with"),
        ("map_from_arrays", 2) => return renamed(function, "map"),
        ("map", 1) => of_pairs(&args[0])?,
        ("grouping_id", 1..) => return renamed(function, "grouping"),
        ("encode", 2) if literal(&args[1]).is_some_and(is_charset) => return renamed(function, TO_CHARSET),
        ("decode", 2) if literal(&args[1]).is_some_and(is_charset) => return renamed(function, FROM_CHARSET),
        ("rand_integer", 1) => {
            let (left, right) = (Box::new(call("random", vec![])), Box::new(Expr::Nested(Box::new(own(0)))));
            let scaled = Expr::BinaryOp { left, op: BinaryOperator::Multiply, right };
            cast(call("floor", vec![scaled]), DataType::Integer(None))
        }
        ("to_number", 2) => {
            let scale = NumberPattern::new(literal(&args[1])?).map_or(0, |pattern| pattern.scale());
            cast(call(NUMBER_OF, args.clone()), DataType::Numeric(ExactNumberInfo::PrecisionAndScale(38, scale as i64)))
        }
        ("array_slice", 2) => {
            let last = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number("1")) };
            call("array_slice", vec![own(0), own(1), last])
        }
        ("array_sort", 2 | 3) => call("array_sort", sorted(args.clone())?),
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
        ("to_timestamp_ltz", 2) if literal(&args[1]).is_some() => call("eddyline_instant_of", vec![own(0), own(1), string_expr("UTC")]),
        ("to_timestamp_ltz", 3) => call("eddyline_instant_of", args.clone()),
        ("to_timestamp", 2) => call("eddyline_time_of", vec![own(0), own(1)]),
        ("date", 1) | ("to_date", 1) => cast(own(0), DataType::Date),
        ("to_date", 2) if literal(&args[1]).is_some_and(is_postgres) => {
            cast(call("eddyline_time_of_pg", vec![own(0), own(1)]), DataType::Date)
        }
        ("to_date", 2) => cast(call("eddyline_time_of", vec![own(0), own(1)]), DataType::Date),
        ("timestampdiff" | "timestampadd", 3) => match &args[0] {
            Expr::Identifier(unit) => {
                let name = if name == "timestampadd" && is_of_clock(&unit.value) { ADD_CLOCK } else { name.as_str() };
                call(name, vec![unit_expr(unit), own(1), own(2)])
            }
            _ => return None,
        },
        ("year" | "quarter" | "month" | "week" | "hour" | "minute", 1) => part(&name),
        ("second", 1) => cast(call("floor", vec![call(PART, vec![string_expr("second"), time_of(own(0))])]), DataType::BigInt(None)),
        ("date_part" | "datepart", 2) => return fraction(literal(&args[0])?, &args[1]),
        ("age", 1) => {
            let midnight = cast(cast(now(), DataType::Date), DataType::Timestamp(None, TimezoneInfo::None));
            call("age", vec![midnight, own(0)])
        }
        // A day of an instant is one of the zone's clock.
        ("generate_series", 3) => call("generate_series", args.iter().cloned().chain([string_expr(zone)]).collect()),
        ("make_interval", _) => call("make_interval", interval_parts(function)?),
        // A day of the zone's clock begins at an instant.
        ("date_trunc", 3) => {
            let instant = cast(own(1), DataType::Timestamp(None, TimezoneInfo::WithTimeZone));
            let shown = call("timezone", vec![own(2), instant]);
            call("timezone", vec![own(2), call("date_trunc", vec![own(0), shown])])
        }
        ("make_timestamptz", 6 | 7) => {
            let clock = args.get(6).cloned().unwrap_or_else(|| string_expr(zone));
            call("timezone", vec![clock, call("make_timestamp", args.iter().take(6).cloned().collect())])
        }
        ("dayofmonth", 1) => part("day"),
        ("dayofyear", 1) => part("doy"),
        ("dayofweek", 1) => {
            let right = Box::new(Expr::Value(Value::Number("1".to_string(), true).with_empty_span()));
            Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(part("dow")), op: BinaryOperator::Plus, right }))
        }
        ("if", 3) => if_else(own(0), own(1), own(2)),
        ("lag" | "lead", 2 | 3) => return neighbours::nowhere(function).or_else(|| neighbours::with_default(function)),
        ("mod", 2) => Expr::Nested(Box::new(Expr::BinaryOp {
            left: Box::new(Expr::Nested(Box::new(own(0)))),
            op: BinaryOperator::Modulo,
            right: Box::new(Expr::Nested(Box::new(own(1)))),
        })),
        ("json_value", 2 | 6) => {
            let ty = returning(function)?;
            cast(call("json_value", args.clone()), ty)
        }
        ("variance", 1) => return renamed(function, "var_samp"),
        ("ceiling", 1) => return renamed(function, "ceil"),
        ("every", 1) => return renamed(function, "bool_and"),
        ("any_value", 1) => {
            function.name = ObjectName::from(vec![Ident::new("first_value")]);
            function.null_treatment = Some(NullTreatment::IgnoreNulls);
            return None;
        }
        ("median", 1) => {
            percentile(function, CONTINUOUS, vec![own(0), number("0.5")]);
            return None;
        }
        ("approx_count_distinct", 1) => return renamed(function, "approx_distinct"),
        ("approx_percentile" | "approx_quantile", 2) => return renamed(function, "approx_percentile_cont"),
        // Flink's.
        ("percentile", 2) => {
            percentile(function, CONTINUOUS, args.clone());
            return None;
        }
        (CONTINUOUS | DISCRETE, 1) if matches!(args[0], Expr::Array(_)) => of_shares(function, &name, &args[0])?,
        (CONTINUOUS | DISCRETE | "quantile_cont", 1) | (MODE, 0) => {
            let [within] = std::mem::take(&mut function.within_group).try_into().ok()?;
            let OrderByExpr { expr, options, .. } = within;
            let descending = options.asc == Some(false);
            let flag = descending.then(|| Expr::Value(Value::Boolean(true).with_empty_span()));
            let name = [DISCRETE, MODE].into_iter().find(|known| *known == name).unwrap_or(CONTINUOUS);
            percentile(function, name, std::iter::once(expr).chain(args).chain(flag).collect());
            return None;
        }
        ("listagg", 1 | 2) => {
            string_agg(function);
            return None;
        }
        (name, _) => return json::replacement(name, function, &args, zone),
    })
}

/// Under another name.
fn renamed(function: &mut Function, name: &str) -> Option<Expr> {
    function.name = ObjectName::from(vec![Ident::new(name)]);
    None
}

fn is_charset(name: &str) -> bool {
    CHARSETS.iter().any(|charset| charset.eq_ignore_ascii_case(name))
}

/// `MAP[key, value, ...]`, which is a call over an array by now.
fn of_pairs(list: &Expr) -> Option<Expr> {
    let Expr::Array(Array { elem, .. }) = list else { return None };
    let side = |first: usize| call("make_array", elem.iter().skip(first).step_by(2).cloned().collect());
    elem.len().is_multiple_of(2).then(|| call("map", vec![side(0), side(1)]))
}

/// The arguments of Flink's `ARRAY_SORT(array, ascending [, nulls first])` as words. Nulls come first ascending and last descending, unless it is said.
fn sorted(args: Vec<Expr>) -> Option<Vec<Expr>> {
    let truth = |expr: &Expr| match expr {
        Expr::Value(ValueWithSpan { value: Value::Boolean(truth), .. }) => Some(*truth),
        _ => None,
    };
    let ascending = truth(args.get(1)?)?;
    let nulls_first = args.get(2).map_or(Some(ascending), truth)?;
    let words = [if ascending { "ASC" } else { "DESC" }, if nulls_first { "NULLS FIRST" } else { "NULLS LAST" }];
    Some(args.into_iter().take(1).chain(words.map(string_expr)).collect())
}

/// A CASE of one condition.
pub fn if_else(condition: Expr, result: Expr, otherwise: Expr) -> Expr {
    Expr::Case {
        case_token: helpers::attached_token::AttachedToken::empty(),
        end_token: helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: Some(Box::new(otherwise)),
    }
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

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

/// The name of a unit as a text, at its place.
fn unit_expr(unit: &Ident) -> Expr {
    Expr::Value(Value::SingleQuotedString(unit.value.clone()).with_span(unit.span))
}

/// A number, as it is written.
pub fn number(text: &str) -> Expr {
    Expr::Value(Value::Number(text.to_string(), false).with_empty_span())
}

/// A percentile or a mode as our functions take it; DISTINCT and FILTER stay.
fn percentile(function: &mut Function, name: &str, args: Vec<Expr>) {
    function.name = ObjectName::from(vec![Ident::new(name)]);
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    }
}

/// A percentile of several shares: a list of one of each, and none where there are no values.
fn of_shares(function: &Function, name: &str, shares: &Expr) -> Option<Expr> {
    let Expr::Array(Array { elem, .. }) = shares else { return None };
    let of_share = |share: &Expr| {
        let mut one = function.clone();
        percentile(&mut one, name, vec![share.clone()]);
        Expr::Function(one)
    };
    let values: Vec<Expr> = elem.iter().map(of_share).collect();
    // The percentile of a share that is null tells nothing.
    let is_null = |share: &Expr| matches!(share, Expr::Value(ValueWithSpan { value: Value::Null, .. }));
    let told = elem.iter().position(|share| !is_null(share)).unwrap_or(0);
    let is_empty = Expr::IsNull(Box::new(values.get(told)?.clone()));
    Some(if_else(is_empty, Expr::Value(Value::Null.with_empty_span()), call("make_array", values)))
}

/// The type of `JSON_VALUE(... RETURNING type)`.
pub fn returning(function: &Function) -> Option<DataType> {
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
