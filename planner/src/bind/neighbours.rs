//! LAG and LEAD whose default differs from row to row. The windows of DataFusion and of streaming plans know constant defaults
//! only, and cast them to the type of the value, so whether there is such a neighbour is asked apart, by a constant that each row has: a neighbour's null
//! stays null. And those whose number of places is null, which have no neighbour at all.

use super::rewrite::{arguments, call};
use super::spellings::if_else;
use datafusion::sql::sqlparser::ast::*;

/// What `LAG(value, places, default) OVER w` stands for; `None` if the default is a constant.
pub fn with_default(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [value, places, default] = arguments(function).try_into().ok()?;
    if function.over.is_none() || function.filter.is_some() || list.duplicate_treatment.is_some() || is_constant(default) {
        return None;
    }
    let neighbour = over(function, value.clone(), places.clone());
    let found = if ignores_nulls(function, list) {
        // One that is not null is null nowhere else than where there is none.
        call("coalesce", vec![neighbour, default.clone()])
    } else {
        let exists = over(function, Expr::Value(Value::Boolean(true).with_empty_span()), places.clone());
        if_else(exists, neighbour, default.clone())
    };
    if is_constant(places) {
        return Some(found);
    }
    // A number of places that is null has no default either.
    let null = Expr::Value(Value::Null.with_empty_span());
    Some(if_else(Expr::IsNotNull(Box::new(Expr::Nested(Box::new(places.clone())))), found, null))
}

/// What `LAG(value, NULL [, default]) OVER w` stands for: a null of the type that value and default have.
pub fn nowhere(function: &Function) -> Option<Expr> {
    let args = arguments(function);
    let [value, places, default @ ..] = args.as_slice() else { return None };
    if function.over.is_none() || function.filter.is_some() || default.len() > 1 || !is_null(places) {
        return None;
    }
    let never = || Expr::Value(Value::Boolean(false).with_empty_span());
    let null = Expr::Value(Value::Null.with_empty_span());
    let otherwise = default.iter().fold(null, |rest, default| if_else(never(), (*default).clone(), rest));
    Some(if_else(never(), (*value).clone(), otherwise))
}

fn over(function: &Function, value: Expr, places: Expr) -> Expr {
    let mut function = function.clone();
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = [value, places].into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    }
    Expr::Function(function)
}

fn ignores_nulls(function: &Function, list: &FunctionArgumentList) -> bool {
    let ignore = FunctionArgumentClause::IgnoreOrRespectNulls(NullTreatment::IgnoreNulls);
    function.null_treatment == Some(NullTreatment::IgnoreNulls) || list.clauses.contains(&ignore)
}

/// Whether the window functions take it as it is. A number with a fraction, or a great one, makes the value one of its type.
fn is_constant(default: &Expr) -> bool {
    match default {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => number.parse::<i32>().is_ok(),
        Expr::Value(_) | Expr::Interval(_) => true,
        Expr::TypedString(TypedString { data_type, .. }) => !has_fractions(data_type),
        Expr::Cast { expr, data_type, .. } => !has_fractions(data_type) && is_constant(expr),
        Expr::UnaryOp { expr, .. } | Expr::Nested(expr) => is_constant(expr),
        _ => false,
    }
}

fn has_fractions(ty: &DataType) -> bool {
    use DataType::*;
    matches!(ty, Numeric(_) | Decimal(_) | Dec(_) | Float(_) | Float4 | Float8 | Real | Double(_) | DoublePrecision)
}

fn is_null(places: &Expr) -> bool {
    match places {
        Expr::Value(ValueWithSpan { value: Value::Null, .. }) => true,
        Expr::Nested(expr) | Expr::Cast { expr, .. } => is_null(expr),
        _ => false,
    }
}
