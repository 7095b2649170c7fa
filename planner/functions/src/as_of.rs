//! The marks of `FOR SYSTEM_TIME AS OF` and of ASOF joins in the condition of a join, from the rewriter to the binder. They are gone before anything runs.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    name: &'static str,
    signature: Signature,
}

impl Mark {
    pub fn new(name: &'static str) -> Self {
        Mark { name, signature: Signature::any(1, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(DataFusionError::Internal("the mark of a join is replaced before it runs".to_string()))
    }
}
