//! What a view makes of a subquery that stands for a value (the planner's `lower::one_row`): `eddyline_few_rows(value)`, the values of its rows as a list, of
//! which two tell that there are several, and `eddyline_only_row(list)`, the value in it. A list of several is the error of the row that asks.

use super::shaped::shaped;
use super::{FEW_ROWS, ONLY_ROW};
use datafusion::arrow::array::{Array, AsArray, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, Signature, Volatility,
};
use eddyline_common::{SqlError, SqlState};
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct FewRows {
    signature: Signature,
}

impl FewRows {
    pub fn new() -> Self {
        FewRows { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for FewRows {
    fn name(&self) -> &str {
        FEW_ROWS
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::new_list(types[0].clone(), true))
    }

    /// The item says what its Arrow type does not: that it is JSON, or a uuid.
    fn return_field(&self, fields: &[FieldRef]) -> DfResult<FieldRef> {
        let item = fields[0].as_ref().clone().with_name("item").with_nullable(true);
        Ok(Arc::new(Field::new(FEW_ROWS, DataType::List(Arc::new(item)), true)))
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Err(DataFusionError::NotImplemented(format!("{FEW_ROWS}() is of views")))
    }
}

/// The value in a list of one.
pub fn only_row() -> ScalarUDF {
    shaped(ONLY_ROW, Signature::any(1, Volatility::Immutable), shape_of_only, take_only)
}

fn shape_of_only(name: &'static str, args: ReturnFieldArgs) -> DfResult<FieldRef> {
    match args.arg_fields[0].data_type() {
        DataType::List(item) => Ok(Arc::new(item.as_ref().clone().with_name(name).with_nullable(true))),
        // The optimiser asks what a condition is of a null that has no type.
        DataType::Null => Ok(Arc::new(Field::new(name, DataType::Null, true))),
        other => Err(DataFusionError::Plan(format!("{name}() takes a list, not {other}"))),
    }
}

fn take_only(_name: &'static str, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let lists = args.args[0].to_array(args.number_rows)?;
    let Some(list) = lists.as_list_opt::<i32>() else {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_type())?));
    };
    let place = |row: usize| match list.value_length(row) {
        _ if list.is_null(row) => Ok(None),
        0 => Ok(None),
        1 => Ok(Some(list.value_offsets()[row] as u64)),
        _ => Err(several_rows()),
    };
    let places = (0..list.len()).map(place).collect::<DfResult<UInt64Array>>()?;
    Ok(ColumnarValue::Array(take(list.values(), &places, None)?))
}

fn several_rows() -> DataFusionError {
    let message = "more than one row returned by a subquery used as an expression";
    DataFusionError::External(Box::new(SqlError::new(SqlState::CARDINALITY_VIOLATION, message)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array, ListArray};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::common::config::ConfigOptions;

    fn only(list: ListArray) -> DfResult<ArrayRef> {
        let rows = list.len();
        let field = Arc::new(Field::new("list", list.data_type().clone(), true));
        let function = only_row();
        let arg_fields = [field];
        let return_field = function.return_field_from_args(ReturnFieldArgs { arg_fields: &arg_fields, scalar_arguments: &[None] })?;
        let args = ScalarFunctionArgs {
            args: vec![ColumnarValue::Array(Arc::new(list))],
            arg_fields: arg_fields.to_vec(),
            number_rows: rows,
            return_field,
            config_options: Arc::new(ConfigOptions::default()),
        };
        function.invoke_with_args(args)?.to_array(rows)
    }

    #[test]
    fn a_list_of_one_is_its_value() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(7)]), None, Some(vec![]), Some(vec![None])]);
        let values = only(lists).unwrap();
        assert_eq!(values.as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(7), None, None, None]));
    }

    #[test]
    fn a_list_of_several_is_an_error() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(7)]), Some(vec![None, None])]);
        let error = only(lists).unwrap_err().to_string();
        assert!(error.contains("more than one row returned by a subquery"), "{error}");
    }
}
