//! What `ARRAY(SELECT ...)` needs beside `array_agg`.

use super::ARRAY_OF_ROWS;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// A list, and an empty one for null.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ArrayOfRows {
    signature: Signature,
}

impl ArrayOfRows {
    pub fn new() -> Self {
        ArrayOfRows { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ArrayOfRows {
    fn name(&self) -> &str {
        ARRAY_OF_ROWS
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(arg_types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(args.arg_fields[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let lists = args.args[0].to_array(args.number_rows)?;
        let Some(list) = lists.as_list_opt::<i32>().filter(|list| list.null_count() > 0) else { return Ok(ColumnarValue::Array(lists)) };
        let empty = list.values().slice(0, 0);
        let rows: Vec<ArrayRef> = (0..list.len()).map(|row| if list.is_null(row) { empty.clone() } else { list.value(row) }).collect();
        let parts: Vec<&dyn Array> = rows.iter().map(|r| r.as_ref()).collect();
        let offsets = OffsetBuffer::from_lengths(parts.iter().map(|p| p.len()));
        let DataType::List(field) = list.data_type() else { return Ok(ColumnarValue::Array(lists)) };
        let filled = ListArray::new(field.clone(), offsets, concat(&parts)?, None);
        Ok(ColumnarValue::Array(Arc::new(filled)))
    }
}
