//! `eddyline_not_null(value, 'column')`: what goes into a column that takes no null. A null is the row's error.

use super::NOT_NULL;
use super::shaped::shaped;
use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, Signature, Volatility};
use eddyline_common::{SqlError, SqlState};
use std::sync::Arc;

/// The function, for the registry.
pub fn not_null() -> ScalarUDF {
    shaped(NOT_NULL, Signature::any(2, Volatility::Immutable), shape, refuse_null)
}

fn shape(name: &'static str, args: ReturnFieldArgs) -> DfResult<FieldRef> {
    Ok(Arc::new(args.arg_fields[0].as_ref().clone().with_name(name).with_nullable(false)))
}

fn refuse_null(_name: &'static str, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let is_null = match &args.args[0] {
        ColumnarValue::Array(values) => values.null_count() > 0,
        ColumnarValue::Scalar(value) => value.is_null(),
    };
    if !is_null {
        return Ok(args.args.swap_remove(0));
    }
    let column = match &args.args[1] {
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))) => name.clone(),
        _ => String::new(),
    };
    let message = format!("null value in column \"{column}\" violates not-null constraint");
    Err(DataFusionError::External(Box::new(SqlError::new(SqlState::NOT_NULL_VIOLATION, message))))
}
