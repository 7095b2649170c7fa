//! What ROUND and TRUNC are of. In PostgreSQL an integer or a real is rounded as a double, and an integer of which places are named as a numeric. A numeric has as many digits after the
//! point as there are places; DataFusion takes that number for a part of the type only if it is a literal, so it becomes one before anybody asks for the type. It is a bigint, as
//! the one that was written, so that the expression keeps its name.

use super::common::cast_to;
use super::operands::MAX_PRECISION;
use crate::optimize::fold_constant;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, lit};

/// The arguments of a call; `None` if they may stay as they are.
pub fn arguments(args: &[Expr], types: &[DataType]) -> Option<Vec<Expr>> {
    let given = match (args, types) {
        ([value], [DataType::Float32]) => vec![cast_to(value.clone(), DataType::Float64)],
        ([value], [ty]) if ty.is_integer() => vec![cast_to(value.clone(), DataType::Float64)],
        ([value, places], [ty, _]) => {
            let number = constant(places);
            vec![of_numeric(value.clone(), ty, number.unwrap_or(0)), number.map_or_else(|| places.clone(), lit)]
        }
        _ => return None,
    };
    (given != args).then_some(given)
}

/// An integer as a numeric, and a numeric with as many places as are asked for.
fn of_numeric(value: Expr, ty: &DataType, places: i64) -> Expr {
    let (digits, scale) = match ty {
        DataType::Int8 | DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::Decimal128(digits, scale) => (*digits, *scale),
        _ => return value,
    };
    let missing = places.saturating_sub(i64::from(scale)).max(0);
    let (digits, scale) = match (u8::try_from(missing), i8::try_from(missing)) {
        (Ok(more), Ok(places)) if i64::from(digits) + missing <= i64::from(MAX_PRECISION) => (digits + more, scale + places),
        _ => (digits, scale),
    };
    let wanted = DataType::Decimal128(digits, scale);
    if *ty == wanted { value } else { cast_to(value, wanted) }
}

/// A number of places that is the same for all rows.
fn constant(places: &Expr) -> Option<i64> {
    if !places.column_refs().is_empty() {
        return None;
    }
    let Ok(Expr::Literal(value, _)) = fold_constant(places.clone()) else { return None };
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(number)) => number,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(number: i64) -> Expr {
        cast_to(lit(number), DataType::Int32)
    }

    #[test]
    fn integers_and_reals_are_doubles() {
        for ty in [DataType::Int16, DataType::Int32, DataType::Int64, DataType::Float32] {
            let value = lit(ScalarValue::new_zero(&ty).unwrap());
            assert_eq!(arguments(std::slice::from_ref(&value), &[ty]), Some(vec![cast_to(value, DataType::Float64)]));
        }
        assert_eq!(arguments(&[lit(1.5)], &[DataType::Float64]), None);
    }

    #[test]
    fn places_are_literals() {
        let value = lit(ScalarValue::Decimal128(Some(1234), 10, 3));
        let types = [DataType::Decimal128(10, 3), DataType::Int32];
        assert_eq!(arguments(&[value.clone(), places(2)], &types), Some(vec![value.clone(), lit(2i64)]));
        assert_eq!(arguments(&[value.clone(), lit(2i64)], &types), None);
        let wider = cast_to(value.clone(), DataType::Decimal128(12, 5));
        assert_eq!(arguments(&[value, places(5)], &types), Some(vec![wider, lit(5i64)]));
    }

    #[test]
    fn integers_with_places_are_numerics() {
        let types = [DataType::Int32, DataType::Int32];
        let tens = arguments(&[lit(15i32), places(-1)], &types).unwrap();
        assert_eq!(tens, vec![cast_to(lit(15i32), DataType::Decimal128(10, 0)), lit(-1i64)]);
    }
}
