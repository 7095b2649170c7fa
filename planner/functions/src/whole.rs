//! `ceil` and `floor`: DataFusion's, but of a numeric they have no digits after the point, as in PostgreSQL, and room for the digit that they may have more in front of it, as 10 has for 9.5.

use super::arguments::{columns, result};
use datafusion::arrow::array::{AsArray, Decimal128Array};
use datafusion::arrow::compute::{cast, unary};
use datafusion::arrow::datatypes::{DataType, Decimal128Type};
use datafusion::common::Result as DfResult;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use std::sync::Arc;

const CEIL: &str = "ceil";
const FLOOR: &str = "floor";

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Whole {
    of: Arc<ScalarUDF>,
}

impl Whole {
    pub fn ceil() -> Self {
        Whole::of(CEIL)
    }

    pub fn floor() -> Self {
        Whole::of(FLOOR)
    }

    fn of(name: &str) -> Self {
        let theirs = SessionStateDefaults::default_scalar_functions();
        Whole { of: theirs.into_iter().find(|f| f.name() == name).expect("DataFusion has both") }
    }
}

/// What is left of a numeric with digits after the point.
fn whole(ty: &DataType) -> Option<DataType> {
    match ty {
        DataType::Decimal128(digits, scale @ 1..) => Some(DataType::Decimal128(digits.saturating_sub(scale.unsigned_abs()) + 1, 0)),
        _ => None,
    }
}

impl ScalarUDFImpl for Whole {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match types.first().and_then(whole) {
            Some(whole) => Ok(whole),
            None => self.of.return_type(types),
        }
    }

    fn is_strict(&self) -> bool {
        self.of.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let DataType::Decimal128(_, scale @ 1..) = args.args[0].data_type() else { return self.of.invoke_with_args(args) };
        let unit = 10i128.pow(u32::from(scale.unsigned_abs()));
        let is_floor = self.of.name() == FLOOR;
        let rounded = |v: i128| if is_floor { v.div_euclid(unit) } else { -(-v).div_euclid(unit) };
        let given = columns(&args)?;
        let numbers: Decimal128Array = unary::<_, _, Decimal128Type>(given[0].as_primitive::<Decimal128Type>(), rounded);
        let numbers = numbers.with_data_type(DataType::Decimal128(38, 0));
        result(cast(&numbers, args.return_field.data_type())?, &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Field;
    use datafusion::common::ScalarValue;
    use datafusion::common::config::ConfigOptions;

    fn of(function: &Whole, value: i128, digits: u8, scale: i8) -> ScalarValue {
        let given = ScalarValue::Decimal128(Some(value), digits, scale);
        let field = |ty: DataType| Arc::new(Field::new("", ty, true));
        let return_type = function.return_type(&[given.data_type()]).unwrap();
        let args = ScalarFunctionArgs {
            arg_fields: vec![field(given.data_type())],
            args: vec![ColumnarValue::Scalar(given)],
            number_rows: 1,
            return_field: field(return_type),
            config_options: Arc::new(ConfigOptions::default()),
        };
        match function.invoke_with_args(args).unwrap() {
            ColumnarValue::Scalar(value) => value,
            ColumnarValue::Array(_) => panic!("of a constant"),
        }
    }

    #[test]
    fn a_numeric_becomes_a_whole_one() {
        let (ceil, floor) = (Whole::ceil(), Whole::floor());
        let whole = |value, digits| ScalarValue::Decimal128(Some(value), digits, 0);
        assert_eq!(of(&ceil, 95, 2, 1), whole(10, 2));
        assert_eq!(of(&floor, -95, 2, 1), whole(-10, 2));
        assert_eq!((of(&ceil, -95, 2, 1), of(&floor, 95, 2, 1)), (whole(-9, 2), whole(9, 2)));
        assert_eq!((of(&ceil, 100, 10, 1), of(&floor, 100, 10, 1)), (whole(10, 10), whole(10, 10)));
        assert_eq!(of(&ceil, 1, 38, 38), whole(1, 1));
        assert_eq!(of(&floor, 5, 10, 0), whole(5, 10));
    }
}
