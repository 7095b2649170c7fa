//! `eddyline_not_null(value, 'column')`: what goes into a column that takes no null. A null is the row's error.

use super::NOT_NULL;
use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use eddyline_common::{SqlError, SqlState};
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct NotNull {
    signature: Signature,
}

impl NotNull {
    pub fn new() -> Self {
        NotNull { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NotNull {
    fn name(&self) -> &str {
        NOT_NULL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(args.arg_fields[0].as_ref().clone().with_name(NOT_NULL).with_nullable(false)))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
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
}
