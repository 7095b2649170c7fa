//! Calls of functions of texts with a bytea. DataFusion would decode it on the way, and fail on rows whose bytes are no text; PostgreSQL has no such functions, and
//! they are refused as there. So is LIKE, which would be of a text of digits. It does not know which functions take bytes: they say so.

use super::unknown::type_of;
use crate::error::into_datafusion;
use crate::functions::words::NO_SUCH_FUNCTION;
use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::type_coercion::functions::{UDFCoercionExt, fields_with_udf};
use datafusion::logical_expr::{Expr, ExprSchemable, WindowFunctionDefinition};
use eddyline_common::{SqlError, SqlState};

/// Those that make a text of whatever they are given.
const OF_ANYTHING: [&str; 2] = ["concat", "concat_ws"];

/// The call that an expression is, if it is one.
pub fn check(expr: &Expr, schema: &DFSchema) -> DfResult<()> {
    match expr {
        Expr::ScalarFunction(call) => check_call(call.func.as_ref(), &call.args, schema),
        Expr::AggregateFunction(call) => check_call(call.func.as_ref(), &call.params.args, schema),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(func) => check_call(func.as_ref(), &call.params.args, schema),
            WindowFunctionDefinition::WindowUDF(func) => check_call(func.as_ref(), &call.params.args, schema),
        },
        Expr::Like(like) if is_bytes(&like.expr, schema) || is_bytes(&like.pattern, schema) => {
            let error = SqlError::unsupported("LIKE of a bytea is not supported");
            Err(into_datafusion(error.with_hint("convert_from(value, 'UTF8') is the text of a bytea.")))
        }
        _ => Ok(()),
    }
}

fn is_bytes(value: &Expr, schema: &DFSchema) -> bool {
    value.get_type(schema).is_ok_and(|ty| ty.is_binary())
}

fn check_call(func: &impl UDFCoercionExt, args: &[Expr], schema: &DFSchema) -> DfResult<()> {
    // What cannot be typed, or is not taken at all, is reported where types are coerced.
    let fields: DfResult<Vec<FieldRef>> = args.iter().map(|arg| Ok(arg.to_field(schema)?.1)).collect();
    let Ok(given) = fields else { return Ok(()) };
    if OF_ANYTHING.contains(&func.name()) || !given.iter().any(|field| field.data_type().is_binary()) {
        return Ok(());
    }
    let Ok(taken) = fields_with_udf(&given, func) else { return Ok(()) };
    if !given.iter().zip(&taken).any(|(given, taken)| given.data_type().is_binary() && taken.data_type().is_string()) {
        return Ok(());
    }
    let types: Vec<String> = args.iter().map(|arg| type_of(arg, schema)).collect();
    let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {}({}) does not exist", func.name(), types.join(", ")));
    Err(into_datafusion(error.with_hint(format!("{NO_SUCH_FUNCTION} convert_from(value, 'UTF8') is the text of a bytea."))))
}
