//! `trunc`: DataFusion's, but a numeric has as many digits after the point then as are asked for, if that is the same for all rows.

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use std::sync::Arc;

const NAME: &str = "trunc";

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Trunc {
    of: Arc<ScalarUDF>,
}

impl Trunc {
    pub fn new() -> Self {
        let theirs = SessionStateDefaults::default_scalar_functions();
        Trunc { of: theirs.into_iter().find(|f| f.name() == NAME).expect("DataFusion has trunc") }
    }
}

/// What is left of a type.
fn truncated(ty: &DataType, places: i64) -> DataType {
    match ty {
        DataType::Decimal128(precision, scale) if *scale > 0 => {
            let left = places.clamp(0, i64::from(*scale)) as i8;
            DataType::Decimal128((precision - (scale - left) as u8).max(1), left)
        }
        other => other.clone(),
    }
}

/// How many places a literal asks for; without one there are none.
fn places(args: &ReturnFieldArgs) -> Option<i64> {
    match args.scalar_arguments.get(1) {
        None => Some(0),
        Some(places) => match places.and_then(|places| places.cast_to(&DataType::Int64).ok()) {
            Some(ScalarValue::Int64(places)) => places,
            _ => None,
        },
    }
}

impl ScalarUDFImpl for Trunc {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.of.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let places = places(&args);
        let field = self.of.return_field_from_args(args)?;
        let ty = places.map_or_else(|| field.data_type().clone(), |places| truncated(field.data_type(), places));
        Ok(Arc::new(field.as_ref().clone().with_data_type(ty)))
    }

    fn is_strict(&self) -> bool {
        self.of.is_strict()
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let wanted = args.return_field.data_type().clone();
        let types: Vec<DataType> = args.args.iter().map(|arg| arg.data_type()).collect();
        args.return_field = Arc::new(args.return_field.as_ref().clone().with_data_type(self.of.return_type(&types)?));
        let value = self.of.invoke_with_args(args)?;
        if value.data_type() == wanted { Ok(value) } else { value.cast_to(&wanted, None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_go_are_no_part_of_the_type() {
        let of = |places| truncated(&DataType::Decimal128(10, 3), places);
        assert_eq!((of(1), of(0), of(-2)), (DataType::Decimal128(8, 1), DataType::Decimal128(7, 0), DataType::Decimal128(7, 0)));
        assert_eq!(of(5), DataType::Decimal128(10, 3));
        assert_eq!(truncated(&DataType::Decimal128(2, 2), 0), DataType::Decimal128(1, 0));
        assert_eq!(truncated(&DataType::Float64, 1), DataType::Float64);
    }
}
