//! `pg_typeof(any)`: a type's name as PostgreSQL has it, without its modifiers.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use eddyline_common::SqlType;
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TypeName {
    signature: Signature,
}

impl TypeName {
    pub fn new() -> Self {
        TypeName { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TypeName {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let ty = SqlType::from_field(&args.arg_fields[0]);
        let name = ty.map_or_else(|| "unknown".to_string(), |ty| ty.to_string());
        let plain = match name.split_once('(') {
            Some((before, after)) => format!("{before}{}", after.split_once(')').map_or("", |(_, rest)| rest)),
            None => name,
        };
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(plain))))
    }
}
