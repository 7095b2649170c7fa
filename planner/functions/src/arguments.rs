//! A call's arguments as columns of one length, and what is made of them as the call gives it back: one value where all arguments are constants,
//! however many rows there are. It does not know what is made.

use datafusion::arrow::array::ArrayRef;
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

/// The length of the columns.
pub fn rows(args: &ScalarFunctionArgs) -> usize {
    if is_constant(args) { 1 } else { args.number_rows }
}

/// The arguments as columns of one length, which is 1 where all are constants.
pub fn columns(args: &ScalarFunctionArgs) -> DfResult<Vec<ArrayRef>> {
    let rows = rows(args);
    args.args.iter().map(|a| a.to_array(rows)).collect()
}

fn is_constant(args: &ScalarFunctionArgs) -> bool {
    args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)))
}

/// What was made of such columns.
pub fn result(column: ArrayRef, args: &ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    Ok(match is_constant(args) {
        true => ColumnarValue::Scalar(ScalarValue::try_from_array(&column, 0)?),
        false => ColumnarValue::Array(column),
    })
}
