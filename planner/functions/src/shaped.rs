//! A scalar function by what it has of its own: its name, what it takes, the field of its result by those of its arguments, and its work. What is
//! done by Arrow types alone is a row of `native`; a function that also says how it is simplified, or what it is called, is a type of its own.

use super::named::known_by_name;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// The field of the result of the function of this name.
pub type Shape = fn(&'static str, ReturnFieldArgs) -> DfResult<FieldRef>;
/// What the function of this name does.
pub type Run = fn(&'static str, ScalarFunctionArgs) -> DfResult<ColumnarValue>;

/// The function of these parts.
pub fn shaped(name: &'static str, signature: Signature, shape: Shape, run: Run) -> ScalarUDF {
    ScalarUDF::new_from_impl(Shaped { name, signature, shape, run })
}

struct Shaped {
    name: &'static str,
    signature: Signature,
    shape: Shape,
    run: Run,
}

known_by_name!(Shaped);

impl ScalarUDFImpl for Shaped {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Err(DataFusionError::Internal(format!("function {} has a field", self.name)))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        (self.shape)(self.name, args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        (self.run)(self.name, args)
    }
}
