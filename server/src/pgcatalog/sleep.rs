//! `pg_sleep(seconds)`: waits without holding a query thread, so that a cancel ends it at once.

use super::spec;
use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;
use std::time::Duration;

pub const NAME: &str = "pg_sleep";

/// As PostgreSQL has it: nobody sleeps for longer.
const SECONDS_MAX: f64 = 1e9;

pub fn function() -> Arc<ScalarUDF> {
    let sleep = Sleep { signature: Signature::any(1, Volatility::Volatile) };
    Arc::new(AsyncScalarUDF::new(Arc::new(sleep)).into_scalar_udf())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sleep {
    signature: Signature,
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(spec::field(NAME, "void")))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Internal("pg_sleep is awaited".to_string()))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Sleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let seconds = cast(&args.args[0].to_array(args.number_rows)?, &DataType::Float64)?;
        for seconds in seconds.as_primitive::<Float64Type>().iter().flatten() {
            tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, SECONDS_MAX))).await;
        }
        let nothing: ArrayRef = Arc::new(StringArray::from(vec![""; args.number_rows]));
        Ok(ColumnarValue::Array(nothing))
    }
}
