//! Functions of DataFusion's that make texts and lists as long as they are told, or as two long texts are together. Nobody accounts for the memory of what functions make,
//! so there is an end to it: an error before anything is made. It does not know of series (`series`).

use super::arguments::rows;
use super::error::into_datafusion;
use super::native::Memo;
use super::regexes::{compiled, with_flags};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use eddyline_common::{SqlError, SqlState};

/// What one value may have: as much as a client may send.
const VALUE_BYTES_MAX: u64 = 256 << 20;
/// And all those that are made at a time.
const CALL_BYTES_MAX: u64 = 1 << 30;
/// Of an item of a list that is made, beside what it is: where it is taken from.
const ITEM_BYTES: u64 = 8;
/// What stands between items may be as long as these are.
const SHORT_BYTES: u64 = 16;

/// A text, so many times.
pub fn repeat(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    check(&args, |given, row| Some(text(&given[0], row)?.len() as u64 * number(&given[1], row)?))?;
    of.invoke_with_args(args)
}

/// A text with something in front or behind, up to so many characters.
pub fn pad(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    check(&args, |given, row| {
        let fill = given.get(2).map_or(Some(" "), |fill| text(fill, row))?;
        let widest = if fill.is_ascii() { fill.len().min(1) } else { size_of::<char>() };
        Some(text(&given[0], row)?.len() as u64 + number(&given[1], row)? * widest as u64)
    })?;
    of.invoke_with_args(args)
}

/// A list of one value, so many times.
pub fn array_repeat(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    check(&args, |given, row| Some(number(&given[1], row)? * (value_bytes(&given[0], row) + ITEM_BYTES)))?;
    of.invoke_with_args(args)
}

/// A list with items put behind, or taken away there, up to so many.
pub fn array_resize(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let given = given(&args)?;
    let is_negative = |row: usize| given[0].is_valid(at(&given[0], row)) && integer(&given[1], row).is_some_and(|length| length < 0);
    if (0..rows(&args)).any(is_negative) {
        return Err(into_datafusion(SqlError::new(SqlState::INVALID_PARAMETER, "size of an array must not be negative")));
    }
    check(&args, |given, row| {
        let item = given.get(2).map_or(ITEM_BYTES, |fill| value_bytes(fill, row));
        Some(number(&given[1], row)? * (item + ITEM_BYTES))
    })?;
    of.invoke_with_args(args)
}

/// A list's items as a text, with something between them and for those that are null.
pub fn array_to_string(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    check(&args, |given, row| {
        let length = |column: &ArrayRef| text(column, row).map_or(0, |text| text.len() as u64);
        let between = given[1..].iter().map(length).sum::<u64>();
        (between > SHORT_BYTES).then(|| between * items(&given[0].slice(at(&given[0], row), 1)))
    })?;
    of.invoke_with_args(args)
}

/// A text with another one wherever there is a third.
pub fn replace(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let made = |given: &[ArrayRef], row: usize, times: fn(&str, &str) -> usize| {
        let (value, from, to) = (text(&given[0], row)?, text(&given[1], row)?, text(&given[2], row)?);
        let times = if from.is_empty() { 0 } else { times(value, from) };
        Some(value.len() as u64 + times as u64 * to.len() as u64)
    };
    // Counted only if there is much to make, were the text nothing else than what is replaced.
    if excess(&args, |given, row| made(given, row, |value, from| value.len() / from.len()))?.is_some() {
        check(&args, |given, row| made(given, row, |value, from| value.matches(from).count()))?;
    }
    of.invoke_with_args(args)
}

/// The same of what a regular expression matches; what it matched may be part of what takes its place.
pub fn check_regexp_replace(args: &ScalarFunctionArgs) -> DfResult<()> {
    let made = |given: &[ArrayRef], row: usize, times: usize| {
        let (value, to) = (text(&given[0], row)?, text(&given[2], row)?);
        let parts = to.matches(['\\', '$']).count() as u64;
        Some(value.len() as u64 * (1 + parts) + times as u64 * to.len() as u64)
    };
    let most = |given: &[ArrayRef], row: usize| {
        let times = if flags(given, row).contains('g') { text(&given[0], row)?.len() + 1 } else { 1 };
        made(given, row, times)
    };
    if excess(args, most)?.is_none() {
        return Ok(());
    }
    let mut known = Memo::new();
    check(args, |given, row| {
        let (value, pattern, flags) = (text(&given[0], row)?, text(&given[1], row)?, flags(given, row));
        let limit = if flags.contains('g') { usize::MAX } else { 1 };
        let with_flags = with_flags(pattern, &flags.replace('g', ""));
        let times = with_flags.and_then(|pattern| Ok(known.get(&pattern, compiled)?.find_iter(value).take(limit).count()));
        times.map_or_else(|_| most(given, row), |times| made(given, row, times))
    })
}

fn flags(given: &[ArrayRef], row: usize) -> &str {
    given.get(3).and_then(|flags| text(flags, row)).unwrap_or_default()
}

/// Fails if a call makes too much; `bytes`: of a row, as many as it may be.
fn check(args: &ScalarFunctionArgs, bytes: impl FnMut(&[ArrayRef], usize) -> Option<u64>) -> DfResult<()> {
    excess(args, bytes)?.map_or(Ok(()), |error| Err(into_datafusion(error)))
}

/// What is said of a call that makes too much.
fn excess(args: &ScalarFunctionArgs, mut bytes: impl FnMut(&[ArrayRef], usize) -> Option<u64>) -> DfResult<Option<SqlError>> {
    let given = given(args)?;
    let mut all = 0_u64;
    for row in 0..rows(args) {
        let made = bytes(&given, row).unwrap_or(0);
        all = all.saturating_add(made);
        if made > VALUE_BYTES_MAX || all > CALL_BYTES_MAX {
            let error = SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "requested length too large");
            let detail = format!("A value may have {VALUE_BYTES_MAX} bytes, and those of {} rows {CALL_BYTES_MAX}.", rows(args));
            return Ok(Some(error.with_detail(detail)));
        }
    }
    Ok(None)
}

/// The arguments; a constant, which may be long, is one row.
fn given(args: &ScalarFunctionArgs) -> DfResult<Vec<ArrayRef>> {
    args.args.iter().map(|arg| arg.to_array(1)).collect()
}

fn at(column: &ArrayRef, row: usize) -> usize {
    if column.len() == 1 { 0 } else { row }
}

/// A text; what functions of DataFusion's make may be views.
fn text(column: &ArrayRef, row: usize) -> Option<&str> {
    let row = at(column, row);
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(column.as_string_view().value(row)),
        _ => None,
    }
}

fn integer(column: &ArrayRef, row: usize) -> Option<i64> {
    let (integers, row) = (column.as_primitive_opt::<Int64Type>()?, at(column, row));
    integers.is_valid(row).then(|| integers.value(row))
}

/// A number that is not negative. Nothing has 2^31 bytes or items, and no number that passes has more: the product of larger ones does not matter.
fn number(column: &ArrayRef, row: usize) -> Option<u64> {
    integer(column, row).map(|number| u64::try_from(number).unwrap_or(0).min(u64::from(u32::MAX)))
}

fn value_bytes(column: &ArrayRef, row: usize) -> u64 {
    // A copy, as a slice of lists has the items of all of them.
    let copied = || take(column, &UInt64Array::from(vec![at(column, row) as u64]), None);
    let of_others = || copied().map_or(0, |value| value.to_data().get_slice_memory_size().unwrap_or(0));
    text(column, row).map_or_else(of_others, str::len) as u64
}

/// Those of lists within a list count, which the text is of.
fn items(array: &ArrayRef) -> u64 {
    match array.as_list_opt::<i32>() {
        Some(lists) => lists.iter().flatten().map(|list| items(&list)).sum(),
        None => array.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::super::amended::functions;
    use super::*;
    use datafusion::arrow::array::{Int64Array, StringViewArray};
    use datafusion::arrow::datatypes::Field;
    use datafusion::common::ScalarValue;
    use datafusion::common::config::ConfigOptions;
    use std::sync::Arc;

    fn call(name: &str, args: Vec<ColumnarValue>, returns: DataType) -> Result<ArrayRef, String> {
        let function = functions().into_iter().find(|f| f.name() == name).unwrap();
        let args = ScalarFunctionArgs {
            arg_fields: args.iter().map(|arg| Arc::new(Field::new("a", arg.data_type(), true))).collect(),
            args,
            number_rows: 1,
            return_field: Arc::new(Field::new("c", returns, true)),
            config_options: Arc::new(ConfigOptions::default()),
        };
        function.invoke_with_args(args).and_then(|value| value.into_array(1)).map_err(|e| e.to_string())
    }

    fn word(text: &str) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::from(text))
    }

    fn times(number: i64) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::from(number))
    }

    fn list(items: i64) -> ColumnarValue {
        let items: Vec<ScalarValue> = (0..items).map(ScalarValue::from).collect();
        ColumnarValue::Scalar(ScalarValue::List(ScalarValue::new_list_nullable(&items, &DataType::Int64)))
    }

    fn length(name: &str, args: Vec<ColumnarValue>) -> Result<usize, String> {
        call(name, args, DataType::Utf8).map(|column| column.as_string::<i32>().value(0).len())
    }

    fn made(name: &str, text: &str, number: i64) -> Result<usize, String> {
        length(name, vec![word(text), times(number)])
    }

    fn is_too_long<T>(made: Result<T, String>) -> bool {
        made.is_err_and(|error| error.contains("requested length too large"))
    }

    #[test]
    fn texts_have_an_end() {
        assert_eq!((made("repeat", "ab", 3), made("repeat", "ab", -3), made("repeat", "", i64::MAX)), (Ok(6), Ok(0), Ok(0)));
        assert_eq!((made("lpad", "a", 5), made("rpad", "abc", 2)), (Ok(5), Ok(2)));
        for (name, text, number) in [("repeat", "ab", 1 << 28), ("repeat", "ab", i64::MAX), ("lpad", "a", 1 << 30), ("rpad", "a", i64::MAX)]
        {
            assert!(is_too_long(made(name, text, number)), "{name} {number}");
        }
        assert!(is_too_long(length("lpad", vec![word("a"), times(1 << 27), word("ä")])));
    }

    #[test]
    fn rows_and_views_of_texts_have_an_end_too() {
        let texts = || ColumnarValue::Array(Arc::new(StringViewArray::from(vec!["x"])));
        let numbers = || ColumnarValue::Array(Arc::new(Int64Array::from(vec![i64::MAX])));
        for name in ["repeat", "lpad", "rpad"] {
            assert!(is_too_long(call(name, vec![texts(), numbers()], DataType::Utf8View)), "{name}");
        }
    }

    #[test]
    fn lists_have_an_end() {
        let of = |name: &str, args| {
            let lists = call(name, args, DataType::new_list(DataType::Int64, true))?;
            Ok::<_, String>(lists.as_list::<i32>().value(0).len())
        };
        assert_eq!((of("array_repeat", vec![times(7), times(3)]), of("array_resize", vec![list(2), times(3)])), (Ok(3), Ok(3)));
        for number in [1 << 25, i64::MAX] {
            assert!(is_too_long(of("array_repeat", vec![times(7), times(number)])), "{number}");
            assert!(is_too_long(of("array_resize", vec![list(2), times(number)])), "{number}");
            assert!(is_too_long(of("array_resize", vec![list(2), times(number), times(7)])), "{number}");
        }
        assert!(of("array_resize", vec![list(2), times(-1)]).unwrap_err().contains("must not be negative"));
        assert!(of("range", vec![times(0), times(i64::MAX)]).unwrap_err().contains("too long"));
        assert_eq!(of("range", vec![times(4)]), Ok(4));
    }

    #[test]
    fn two_long_texts_have_an_end_together() {
        let (long, short) = ("x".repeat(1 << 16), "x");
        assert_eq!(length("replace", vec![word(&long), word("y"), word(&long)]), Ok(1 << 16));
        assert!(is_too_long(length("replace", vec![word(&long), word(short), word(&long)])));
        let words = |all: [&str; 4]| all.map(word).to_vec();
        let regexp = |pattern: &str, to: &str, flags: &str| length("regexp_replace", words([&long, pattern, to, flags]));
        assert_eq!(regexp("y", &long, "g"), Ok(1 << 16));
        assert_eq!(regexp("x", &long, "i"), Ok((1 << 17) - 1));
        assert!(is_too_long(regexp("X", &long, "gi")));
        assert!(is_too_long(regexp(".*", &"\\0".repeat(1 << 13), "i")));
        assert_eq!(length("array_to_string", vec![list(3), word(", ")]), Ok(7));
        assert!(is_too_long(length("array_to_string", vec![list(1 << 13), word(&long)])));
    }
}
