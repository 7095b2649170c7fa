//! The marks of `FOR SYSTEM_TIME AS OF` and of ASOF joins in the condition of a join, from the rewriter to the binder. They are gone before anything runs.

use super::shaped::shaped;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, Signature, Volatility};
use std::sync::Arc;

/// The mark of this name.
pub fn mark(name: &'static str) -> ScalarUDF {
    shaped(name, Signature::any(1, Volatility::Volatile), shape, unreplaced)
}

fn shape(name: &'static str, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Boolean, true)))
}

fn unreplaced(_name: &'static str, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    Err(DataFusionError::Internal("the mark of a join is replaced before it runs".to_string()))
}
