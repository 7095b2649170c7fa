//! Aggregate calls: DataFusion's functions as ours, with their arguments, filter and order as input columns.

use super::aggregate::Inputs;
use crate::functions::{FEW_ROWS, percentile};
use crate::plan::{AggregateCall, AggregateFunction, Expr, OrderKey};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction as DfAggregate, NullTreatment, Sort};
use datafusion::logical_expr::{Cast, Expr as DfExpr, ExprSchemable, lit};
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlState, SqlType};

/// Of the rows of a subquery that stands for a value so many are looked at.
const FEW: usize = 2;

/// Names whose state and result are ours.
fn function(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        // An exact count is a good approximation.
        "count" | "approx_distinct" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "avg" | "mean" => AggregateFunction::Avg,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "var" => AggregateFunction::VarSamp,
        "var_pop" => AggregateFunction::VarPop,
        "stddev" => AggregateFunction::StddevSamp,
        "stddev_pop" => AggregateFunction::StddevPop,
        "bool_and" => AggregateFunction::BoolAnd,
        "bool_or" => AggregateFunction::BoolOr,
        "string_agg" => AggregateFunction::StringAgg,
        "array_agg" | FEW_ROWS => AggregateFunction::ArrayAgg,
        "first_value" | "last_value" => AggregateFunction::FirstValue,
        percentile::CONTINUOUS => AggregateFunction::PercentileCont,
        percentile::MODE => AggregateFunction::Mode,
        // So is an exact percentile that is one of the values.
        percentile::DISCRETE | "approx_percentile_cont" | "approx_median" => AggregateFunction::PercentileDisc,
        _ => return None,
    })
}

/// Whether ORDER BY in a call of this name says in which order it takes its rows. What picks one of its values has the order of its argument.
pub(super) fn takes_order_by(name: &str) -> bool {
    matches!(function(name), Some(AggregateFunction::StringAgg | AggregateFunction::ArrayAgg | AggregateFunction::FirstValue))
}

/// Whether the result of a call of this name is the same in any order of its rows.
pub(super) fn ignores_order_by(name: &str) -> bool {
    let picks = function(name).is_some_and(AggregateFunction::picks) || name == "approx_percentile_cont_with_weight";
    !takes_order_by(name) && !picks && name != "nth_value"
}

pub(crate) fn unaliased(e: &DfExpr) -> &DfExpr {
    match e {
        DfExpr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// A call over columns that are added to `inputs`.
pub(super) fn call(e: &DfExpr, schema: &DFSchema, inputs: &mut Inputs, output: SqlType) -> Result<AggregateCall> {
    let DfExpr::AggregateFunction(DfAggregate { func, params }) = unaliased(e) else {
        return Err(SqlError::internal(format!("not an aggregate: {e}")));
    };
    let name = func.name();
    let Some(function) = function(name) else {
        return Err(SqlError::unsupported(format!("aggregate {name}() is not supported in a materialized view")).with_hint(
            "COUNT, SUM, AVG, MIN, MAX, STDDEV, VARIANCE, BOOL_AND, BOOL_OR, STRING_AGG, ARRAY_AGG, FIRST_VALUE, LAST_VALUE, MEDIAN, MODE, \
             PERCENTILE_CONT and PERCENTILE_DISC are.",
        ));
    };
    let mut call = AggregateCall::new(function, None, output);
    call.distinct = params.distinct || name == "approx_distinct";
    call.ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    call.limit = (name == FEW_ROWS).then_some(FEW);
    call.filter = params.filter.as_deref().map(|f| inputs.add_df(f, schema)).transpose()?;
    let argument = match params.args.as_slice() {
        // COUNT(*) arrives as COUNT of a constant.
        [DfExpr::Literal(value, _)] if function == AggregateFunction::Count && !value.is_null() && !call.distinct => None,
        [argument, share, ..] if function.is_percentile() => {
            call.share = Some(constant_share(share)?);
            Some(argument)
        }
        [argument] => Some(argument),
        [argument, _] if function == AggregateFunction::Mode => Some(argument),
        [argument, separator] if function == AggregateFunction::StringAgg => {
            call.separator = Some(constant_text(separator)?);
            Some(argument)
        }
        _ => return Err(SqlError::unsupported(format!("aggregate {name}() with several arguments is not supported"))),
    };
    let Some(argument) = argument else { return Ok(call) };
    let given = inputs.add_df(exact_argument(function, argument, schema), schema)?;
    let at = if function == AggregateFunction::StringAgg { as_text(given, inputs) } else { given };
    call.argument = Some(at);
    check_argument(function, params.distinct, &inputs.columns[at])?;
    if function.is_percentile() {
        // The median's is half.
        call.share.get_or_insert(0.5);
    }
    if function.picks() {
        let said = params.order_by.first().is_some_and(|sort| !sort.asc);
        let descending = said || params.args.iter().skip(1).any(|flag| *flag == lit(true));
        call.order = vec![OrderKey { column: at, descending, nulls_first: false }];
        call.ignore_nulls = true;
    }
    if takes_order_by(name) {
        call.order = order(&params.order_by, schema, inputs)?;
        if name == "last_value" {
            if !call.order.iter().any(|key| key.column == at) {
                call.order.push(OrderKey { column: at, descending: false, nulls_first: true });
            }
            call.order.iter_mut().for_each(reverse);
        }
        // Texts of whatever type are ordered as the text of them is.
        if call.distinct && inputs.columns[given].ty.to_arrow() == DataType::Utf8 {
            call.order.iter_mut().filter(|key| key.column == given).for_each(|key| key.column = at);
        }
        if call.distinct && call.order.iter().any(|key| key.column != at) {
            let message = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list";
            return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
        }
    }
    Ok(call)
}

/// Sort expressions as columns of the input.
pub(super) fn order(sorts: &[Sort], schema: &DFSchema, inputs: &mut Inputs) -> Result<Vec<OrderKey>> {
    let mut order: Vec<OrderKey> = Vec::new();
    for sort in sorts {
        let column = inputs.add_key(&sort.expr, schema)?;
        if !order.iter().any(|key| key.column == column) {
            order.push(OrderKey { column, descending: !sort.asc, nulls_first: sort.nulls_first });
        }
    }
    Ok(order)
}

fn reverse(key: &mut OrderKey) {
    key.descending = !key.descending;
    key.nulls_first = !key.nulls_first;
}

fn as_text(at: usize, inputs: &mut Inputs) -> usize {
    let column = inputs.columns[at].clone();
    if column.ty == SqlType::Text {
        return at;
    }
    let cast = Expr::Cast { expr: Box::new(inputs.exprs[at].clone()), ty: SqlType::Text, try_cast: false };
    inputs.add(cast, Column { ty: SqlType::Text, ..column })
}

fn constant_text(e: &DfExpr) -> Result<String> {
    let folded = crate::optimize::fold_constant(e.clone()).map_err(|e| crate::error::from_datafusion(e, None))?;
    match folded {
        DfExpr::Literal(value, _) if value.is_null() => Ok(String::new()),
        DfExpr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => {
            Ok(text)
        }
        _ => Err(SqlError::unsupported("string_agg() with a separator that is not constant is not supported in a materialized view")),
    }
}

/// The share of a percentile.
fn constant_share(e: &DfExpr) -> Result<f64> {
    let share = DfExpr::Cast(Cast::new(Box::new(e.clone()), SqlType::Double.to_arrow()));
    match crate::optimize::fold_constant(share).map_err(|e| crate::error::from_datafusion(e, None))? {
        DfExpr::Literal(ScalarValue::Float64(Some(share)), _) => percentile::check_share(share),
        _ => Err(SqlError::unsupported("a percentile whose share is not constant is not supported in a materialized view")),
    }
}

/// AVG of integers is exact until the last division: its argument stays an integer. That of integers cast to numerics is a numeric.
fn exact_argument<'a>(function: AggregateFunction, argument: &'a DfExpr, schema: &DFSchema) -> &'a DfExpr {
    if function == AggregateFunction::Avg
        && let DfExpr::Cast(cast) = argument
        && cast.field.data_type().is_floating()
        && cast.expr.get_type(schema).is_ok_and(|ty| ty.is_signed_integer())
    {
        return &cast.expr;
    }
    argument
}

fn check_argument(function: AggregateFunction, distinct: bool, column: &Column) -> Result<()> {
    let nested = matches!(column.ty, SqlType::Json | SqlType::Array(_) | SqlType::Struct(_) | SqlType::Map(_, _));
    let ordered = function.picks() || matches!(function, AggregateFunction::Min | AggregateFunction::Max);
    let numeric = matches!(function, AggregateFunction::Sum | AggregateFunction::Avg);
    let listed = matches!(function, AggregateFunction::ArrayAgg | AggregateFunction::FirstValue);
    if (nested && (ordered || distinct))
        || (numeric && (nested || column.ty == SqlType::Interval))
        || (ordered && column.ty == SqlType::Interval)
        || (listed && matches!(column.ty, SqlType::Map(_, _) | SqlType::Null))
    {
        return Err(SqlError::unsupported(format!("this aggregate over type {} is not supported in a materialized view", column.ty)));
    }
    Ok(())
}
