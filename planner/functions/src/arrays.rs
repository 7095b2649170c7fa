//! What `ARRAY(SELECT ...)` needs beside `array_agg`, and UNNEST for maps.

use super::shaped::shaped;
use super::{ARRAY_OF_ROWS, ENTRIES};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// A list, and an empty one for null.
pub fn array_of_rows() -> ScalarUDF {
    shaped(ARRAY_OF_ROWS, Signature::any(1, Volatility::Immutable), |_, args| Ok(args.arg_fields[0].clone()), fill)
}

fn fill(_name: &'static str, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
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

/// A map's entries as a list of rows; a list as it is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Entries {
    signature: Signature,
}

impl Entries {
    pub fn new() -> Self {
        Entries { signature: Signature::any(1, Volatility::Immutable) }
    }
}

/// Key and value, whatever they are called in the map.
fn entry_fields(of: &Fields) -> Fields {
    of.iter().zip(["key", "value"]).map(|(field, name)| Arc::new(field.as_ref().clone().with_name(name))).collect()
}

/// The type of what a value is unnested as.
fn entries_of(given: &DataType) -> DataType {
    match given {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => DataType::new_list(DataType::Struct(entry_fields(fields)), true),
            other => other.clone(),
        },
        other => other.clone(),
    }
}

impl ScalarUDFImpl for Entries {
    fn name(&self) -> &str {
        ENTRIES
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(entries_of(&arg_types[0]))
    }

    /// With the casts in it, which names leave out otherwise: two lists that only a cast tells apart are two.
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let args: Vec<String> = args.iter().map(Expr::to_string).collect();
        Ok(format!("{ENTRIES}({})", args.join(", ")))
    }

    fn simplify(&self, mut args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        match args.pop() {
            Some(arg) if !matches!(info.get_data_type(&arg)?, DataType::Map(..)) => Ok(ExprSimplifyResult::Simplified(arg)),
            arg => Ok(ExprSimplifyResult::Original(arg.into_iter().collect())),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let given = args.args[0].to_array(args.number_rows)?;
        let Some(map) = given.as_map_opt() else { return Ok(ColumnarValue::Array(given)) };
        let DataType::List(field) = entries_of(map.data_type()) else { return Ok(ColumnarValue::Array(given)) };
        let entries = StructArray::new(entry_fields(map.entries().fields()), map.entries().columns().to_vec(), None);
        let list = ListArray::new(field, map.offsets().clone(), Arc::new(entries), map.nulls().cloned());
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}
