//! `/` of which a side is a numeric and none is a float. The type follows from those of the sides by Flink's rule, within bounds: no quotient has fewer digits
//! behind the point than `AVG` gives, four more than the dividend, and none has more than twelve beyond that need, since Arrow adds up the digits of factors, and
//! a product of quotients must have room for its whole part. The last digit is rounded half away from zero. It does not know which divisions come here.

use super::casts::strictly;
use super::native::{Arg, Native};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, i256};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

pub const QUOTIENT: &str = "eddyline_quotient";

pub const FUNCTIONS: &[Native] = &[Native::total(QUOTIENT, &[Arg::Number, Arg::Number], &[], quotient_type, quotient)];

/// Digits of a numeric.
const DIGITS_MAX: i32 = 38;
/// Digits after the point that a quotient has at least.
const FRACTION_MIN: i32 = 6;
/// Digits after the point that a quotient has at most, unless its dividend has nearly as many.
const FRACTION_MAX: i32 = 12;
/// Digits after the point that a quotient has at least beyond its dividend's.
const FRACTION_MORE: i32 = 4;

/// A number's digits, and how many of them are after the point.
fn digits(ty: &DataType) -> (u8, i8) {
    match ty {
        DataType::Int8 | DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::Decimal128(precision, scale) => (*precision, *scale),
        // Without a type, as the optimiser asks of columns that are null.
        _ => (38, 9),
    }
}

fn quotient_type(types: &[DataType]) -> SqlType {
    let sides: Vec<(i32, i32)> = types.iter().map(digits).map(|(precision, scale)| (precision.into(), scale.into())).collect();
    let [(precision, scale), (divisor_precision, divisor_scale)] = sides[..] else {
        return SqlType::Decimal { precision: 38, scale: 9 };
    };
    let whole = precision - scale + divisor_scale;
    let least = (scale + FRACTION_MORE).max(FRACTION_MIN);
    let wanted = (scale + divisor_precision + 1).clamp(least, FRACTION_MAX.max(least));
    let scale = wanted.min((DIGITS_MAX - whole).max(least)).min(DIGITS_MAX);
    SqlType::Decimal { precision: (whole + scale).min(DIGITS_MAX) as u8, scale: scale as i8 }
}

fn quotient(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let types = [args[0].data_type().clone(), args[1].data_type().clone()];
    let SqlType::Decimal { precision, scale } = quotient_type(&types) else {
        return Err(SqlError::internal("a quotient that is no numeric"));
    };
    let numeric = |side: usize| {
        let (precision, scale) = digits(&types[side]);
        strictly(&args[side], &DataType::Decimal128(precision, scale))
    };
    let (left, right) = (numeric(0)?, numeric(1)?);
    let more = u32::try_from(i32::from(scale) + i32::from(digits(&types[1]).1) - i32::from(digits(&types[0]).1));
    let more = more.map_err(SqlError::internal)?;
    let bound = 10u128.pow(precision.into());
    let one = |(left, right): (Option<i128>, Option<i128>)| match (left, right) {
        (Some(_), Some(0)) => Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")),
        (Some(left), Some(right)) => match divided(left, right, more).filter(|quotient| quotient.unsigned_abs() < bound) {
            Some(quotient) => Ok(Some(quotient)),
            None => Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "numeric field overflow")),
        },
        _ => Ok(None),
    };
    let pairs = left.as_primitive::<Decimal128Type>().iter().zip(right.as_primitive::<Decimal128Type>().iter());
    let quotients: Decimal128Array = pairs.map(one).collect::<Result<_, SqlError>>()?;
    Ok(Arc::new(quotients.with_precision_and_scale(precision, scale)?))
}

/// The quotient with so many digits more, rounded; `None` if it has too many.
fn divided(left: i128, right: i128, more: u32) -> Option<i128> {
    let scaled = 10i128.checked_pow(more).and_then(|power| left.checked_mul(power));
    match scaled {
        Some(scaled) => rounded(scaled.checked_div(right)?, scaled.checked_rem(right)?, right),
        None => divided_by_parts(left, right, more),
    }
}

/// A long division, as many digits at a time as fit beside the divisor's.
fn divided_by_parts(left: i128, right: i128, mut more: u32) -> Option<i128> {
    let divisor = i256::from_i128(right);
    let (mut quotient, mut rest) = (i256::from_i128(left.checked_div(right)?), i256::from_i128(left.checked_rem(right)?));
    while more > 0 {
        let step = more.min(DIGITS_MAX as u32);
        let power = i256::from_i128(10i128.pow(step));
        let scaled = rest.checked_mul(power)?;
        quotient = quotient.checked_mul(power)?.checked_add(scaled.checked_div(divisor)?)?;
        rest = scaled.checked_rem(divisor)?;
        more -= step;
    }
    rounded(quotient.to_i128()?, rest.to_i128()?, right)
}

/// A quotient by what was left: half of the divisor or more is one more, away from zero.
fn rounded(quotient: i128, rest: i128, divisor: i128) -> Option<i128> {
    let (left_over, whole) = (rest.unsigned_abs(), divisor.unsigned_abs());
    match left_over >= whole - left_over {
        false => Some(quotient),
        true if (rest < 0) == (divisor < 0) => quotient.checked_add(1),
        true => quotient.checked_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Int64Array;

    fn numeric(value: i128, precision: u8, scale: i8) -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap())
    }

    #[test]
    fn types_follow_from_types() {
        use DataType::*;
        for (left, right, precision, scale) in [
            (Decimal128(2, 1), Int32, 13, 12),
            (Decimal128(10, 2), Int32, 20, 12),
            (Decimal128(10, 2), Decimal128(4, 2), 17, 7),
            (Int32, Decimal128(2, 1), 17, 6),
            (Decimal128(20, 2), Int64, 30, 12),
            (Decimal128(38, 9), Decimal128(38, 9), 38, 13),
            (Decimal128(38, 38), Decimal128(38, 38), 38, 38),
        ] {
            assert_eq!(quotient_type(&[left.clone(), right.clone()]), SqlType::Decimal { precision, scale }, "{left} / {right}");
        }
    }

    #[test]
    fn last_digits_are_rounded() {
        let three: ArrayRef = Arc::new(Int64Array::from(vec![3]));
        for (value, expected) in [(20, 666_666_666_667), (-20, -666_666_666_667), (10, 333_333_333_333)] {
            let result = quotient(&[numeric(value, 2, 1), three.clone()]).unwrap();
            assert_eq!(result.as_primitive::<Decimal128Type>().value(0), expected);
        }
    }

    #[test]
    fn long_divisions_agree_with_short_ones() {
        for (left, right) in [(1, 3), (-7, 2), (5, -9), (123_456_789, 1_000), (0, 4)] {
            for more in 0..=20 {
                assert_eq!(divided(left, right, more), divided_by_parts(left, right, more), "{left} / {right}, {more}");
            }
        }
        let large = 10i128.pow(37);
        assert_eq!(divided(large, large * 3, 40), None);
        assert_eq!(divided(large, large * 3, 20), Some(33_333_333_333_333_333_333));
        assert_eq!(divided(large, 1, 2), None);
    }

    #[test]
    fn what_cannot_be_divided_is_an_error() {
        let state = |left: ArrayRef, right: ArrayRef| quotient(&[left, right]).unwrap_err().state.0;
        assert_eq!(state(numeric(1, 2, 1), numeric(0, 2, 1)), "22012");
        assert_eq!(state(numeric(10i128.pow(37), 38, 9), numeric(1, 38, 9)), "22003");
    }
}
