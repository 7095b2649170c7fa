//! Plan constants as DataFusion scalars and Arrow columns.

use arrow::array::ArrayRef;
use datafusion::common::ScalarValue;
use eddyline_common::types::SqlType;
use eddyline_common::{Result, SqlError};
use eddyline_planner::functions::failed::evaluation_error;
use eddyline_planner::plan::{Literal, LiteralValue};
use std::sync::Arc;

pub fn literal_scalar(literal: &Literal) -> Result<ScalarValue> {
    scalar(&literal.ty, &literal.value)
}

/// A column of constants, all of type `ty`.
pub fn literal_column<'a>(ty: &SqlType, values: impl ExactSizeIterator<Item = &'a Literal>) -> Result<ArrayRef> {
    if values.len() == 0 {
        return Ok(arrow::array::new_empty_array(&ty.to_arrow()));
    }
    let scalars = values.map(|literal| scalar(ty, &literal.value)).collect::<Result<Vec<_>>>()?;
    ScalarValue::iter_to_array(scalars).map_err(evaluation_error)
}

fn scalar(ty: &SqlType, value: &LiteralValue) -> Result<ScalarValue> {
    let mismatch = || SqlError::internal(format!("a constant of type {ty} holds {value:?}"));
    Ok(match (ty, value) {
        (ty, LiteralValue::Null) => ScalarValue::try_from(&ty.to_arrow()).map_err(evaluation_error)?,
        (SqlType::Boolean, LiteralValue::Boolean(v)) => ScalarValue::Boolean(Some(*v)),
        (SqlType::SmallInt, LiteralValue::Int(v)) => ScalarValue::Int16(Some((*v).try_into().map_err(|_| mismatch())?)),
        (SqlType::Integer, LiteralValue::Int(v)) => ScalarValue::Int32(Some((*v).try_into().map_err(|_| mismatch())?)),
        (SqlType::BigInt, LiteralValue::Int(v)) => ScalarValue::Int64(Some(*v)),
        (SqlType::Date, LiteralValue::Int(v)) => ScalarValue::Date32(Some((*v).try_into().map_err(|_| mismatch())?)),
        (SqlType::Time, LiteralValue::Int(v)) => ScalarValue::Time64Microsecond(Some(*v)),
        (SqlType::Timestamp, LiteralValue::Int(v)) => ScalarValue::TimestampMicrosecond(Some(*v), None),
        (SqlType::TimestampTz, LiteralValue::Int(v)) => ScalarValue::TimestampMicrosecond(Some(*v), Some("+00:00".into())),
        // Both are stored as the bits of a double.
        (SqlType::Real, LiteralValue::FloatBits(bits)) => ScalarValue::Float32(Some(f64::from_bits(*bits) as f32)),
        (SqlType::Double, LiteralValue::FloatBits(bits)) => ScalarValue::Float64(Some(f64::from_bits(*bits))),
        (SqlType::Decimal { precision, scale }, LiteralValue::Decimal(digits)) => {
            ScalarValue::Decimal128(Some(digits.parse().map_err(|_| mismatch())?), *precision, *scale)
        }
        (SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid | SqlType::Json, LiteralValue::Text(v)) => {
            ScalarValue::Utf8(Some(v.clone()))
        }
        (SqlType::Bytes, LiteralValue::Bytes(v)) => ScalarValue::Binary(Some(v.clone())),
        (SqlType::Interval, LiteralValue::Interval { months, days, nanos }) => {
            ScalarValue::IntervalMonthDayNano(Some(arrow::datatypes::IntervalMonthDayNano::new(*months, *days, *nanos)))
        }
        (SqlType::Array(item), LiteralValue::List(values)) => {
            let items = values.iter().map(|v| scalar(item, v)).collect::<Result<Vec<_>>>()?;
            ScalarValue::List(ScalarValue::new_list(&items, &item.to_arrow(), true))
        }
        (SqlType::Struct(fields), LiteralValue::List(values)) if fields.len() == values.len() => {
            let columns = fields
                .iter()
                .zip(values)
                .map(|((name, ty), v)| Ok((Arc::new(ty.field(name, true)), scalar(ty, v)?.to_array().map_err(evaluation_error)?)))
                .collect::<Result<Vec<_>>>()?;
            ScalarValue::Struct(Arc::new(arrow::array::StructArray::from(columns)))
        }
        _ => return Err(mismatch()),
    })
}
