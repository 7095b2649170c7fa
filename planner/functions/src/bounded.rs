//! `repeat`, `lpad` and `rpad`, which make texts as long as they are told. Nobody accounts for the memory of what functions make, so there is an end to it: an error before
//! anything is made.

use super::arguments::columns;
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use eddyline_common::{SqlError, SqlState};

/// What one text may have: as much as a client may send.
const TEXT_BYTES_MAX: u64 = 256 << 20;
/// And all those that are made at a time.
const CALL_BYTES_MAX: u64 = 1 << 30;

/// A text, so many times.
pub fn repeat(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    check(&args, |text, times| text.len() as u64 * times)?;
    of.invoke_with_args(args)
}

/// A text with something in front or behind, up to so many characters.
pub fn pad(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    check(&args, |_, characters| characters)?;
    of.invoke_with_args(args)
}

/// `bytes`: how many there will be of a text and a number that is not negative.
fn check(args: &ScalarFunctionArgs, bytes: impl Fn(&str, u64) -> u64) -> DfResult<()> {
    let given = columns(args)?;
    let [texts, numbers, ..] = given.as_slice() else { return Ok(()) };
    let (Some(texts), Some(numbers)) = (texts.as_string_opt::<i32>(), numbers.as_primitive_opt::<Int64Type>()) else { return Ok(()) };
    let mut all = 0_u64;
    for (text, number) in texts.iter().zip(numbers) {
        let (Some(text), Some(number)) = (text, number) else { continue };
        // No text has 2^31 bytes, and no number that passes has more: the product of larger ones does not matter.
        let made = bytes(text, u64::try_from(number).unwrap_or(0).min(u64::from(u32::MAX)));
        all = all.saturating_add(made);
        if made > TEXT_BYTES_MAX || all > CALL_BYTES_MAX {
            let error = SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "requested length too large");
            let detail = format!("A text may have {TEXT_BYTES_MAX} bytes, and those of {} rows {CALL_BYTES_MAX}.", texts.len());
            return Err(DataFusionError::External(Box::new(error.with_detail(detail))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::amended::functions;
    use super::*;
    use datafusion::arrow::datatypes::{DataType, Field};
    use datafusion::common::ScalarValue;
    use datafusion::common::config::ConfigOptions;
    use std::sync::Arc;

    fn made(name: &str, text: &str, number: i64) -> Result<usize, String> {
        let function = functions().into_iter().find(|f| f.name() == name).unwrap();
        let args = ScalarFunctionArgs {
            args: vec![ColumnarValue::Scalar(ScalarValue::from(text)), ColumnarValue::Scalar(ScalarValue::from(number))],
            arg_fields: vec![Arc::new(Field::new("a", DataType::Utf8, true)), Arc::new(Field::new("b", DataType::Int64, true))],
            number_rows: 1,
            return_field: Arc::new(Field::new("c", DataType::Utf8, true)),
            config_options: Arc::new(ConfigOptions::default()),
        };
        let column = function.invoke_with_args(args).and_then(|value| value.into_array(1)).map_err(|e| e.to_string())?;
        Ok(column.as_string::<i32>().value(0).len())
    }

    #[test]
    fn texts_have_an_end() {
        assert_eq!((made("repeat", "ab", 3), made("repeat", "ab", -3), made("repeat", "", i64::MAX)), (Ok(6), Ok(0), Ok(0)));
        assert_eq!((made("lpad", "a", 5), made("rpad", "abc", 2)), (Ok(5), Ok(2)));
        for (name, text, number) in [("repeat", "ab", 1 << 28), ("repeat", "ab", i64::MAX), ("lpad", "a", 1 << 30), ("rpad", "a", i64::MAX)]
        {
            assert!(made(name, text, number).unwrap_err().contains("requested length too large"), "{name} {number}");
        }
    }
}
