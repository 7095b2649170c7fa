//! PostgreSQL's arrays, where DataFusion's lists differ: what a null in one means, and what lies outside of one.

use super::arguments::{columns, result};
use super::native::{Arg, Native, map_text, no_such_function, text};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, UInt64Array, new_empty_array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::compute::{cast, concat, filter, is_not_null, take};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::fmt::Write;
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[
    Native::partial("array_dims", &[Arg::Any], &[], text, dims),
    Native::partial("array_lower", &[Arg::Any, Arg::BigInt], &[], |_| SqlType::Integer, lower),
    Native::partial("array_upper", &[Arg::Any, Arg::BigInt], &[], |_| SqlType::Integer, upper),
    Native::partial("element", &[Arg::Any], &[], type_of_item, sole_element),
];

/// Which lists have a null in them. An array of the type of NULL says so of its items by its logical nulls alone.
fn with_nulls(lists: &ListArray) -> impl Fn(usize) -> bool {
    let nulls = lists.values().logical_nulls().filter(|nulls| nulls.null_count() > 0);
    let offsets = lists.offsets().clone();
    move |row| {
        let items = offsets[row] as usize..offsets[row + 1] as usize;
        nulls.as_ref().is_some_and(|nulls| items.into_iter().any(|item| nulls.is_null(item)))
    }
}

/// `x = ANY(list)`: where it is not found beside a null, nobody knows; in an empty list nothing is.
pub fn has(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let given = columns(&args)?;
    let found = of.invoke_with_args(args.clone())?;
    let Some(list) = given[0].as_list_opt::<i32>() else { return Ok(found) };
    let found = found.to_array(given[0].len())?;
    let (found, has_null) = (found.as_boolean(), with_nulls(list));
    let answer = |row: usize| {
        if list.is_null(row) {
            return None;
        }
        if list.value_length(row) == 0 {
            return Some(false);
        }
        let known = found.is_valid(row) && (found.value(row) || !has_null(row));
        known.then(|| found.value(row))
    };
    let answers: BooleanArray = (0..list.len()).map(answer).collect();
    result(Arc::new(answers), &args)
}

/// `list @> items`: a null is in no list.
pub fn has_all(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let given = columns(&args)?;
    let found = of.invoke_with_args(args.clone())?;
    let (Some(list), Some(items)) = (given[0].as_list_opt::<i32>(), given[1].as_list_opt::<i32>()) else { return Ok(found) };
    let found = found.to_array(list.len())?;
    let (found, has_null) = (found.as_boolean(), with_nulls(items));
    let answer = |row: usize| {
        let known = list.is_valid(row) && items.is_valid(row);
        known.then(|| found.is_valid(row) && found.value(row) && !has_null(row))
    };
    let answers: BooleanArray = (0..list.len()).map(answer).collect();
    result(Arc::new(answers), &args)
}

/// `list && items`, likewise.
pub fn has_any(of: &ScalarUDF, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    if let Some(items) = columns(&args)?[1].as_list_opt::<i32>() {
        let known = without_nulls(items)?;
        args.args[1] = match &args.args[1] {
            ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&known, 0)?),
            ColumnarValue::Array(_) => ColumnarValue::Array(known),
        };
    }
    of.invoke_with_args(args)
}

/// The lists without the nulls in them.
fn without_nulls(lists: &ListArray) -> DfResult<ArrayRef> {
    let DataType::List(field) = lists.data_type() else { return Ok(Arc::new(lists.clone())) };
    let known = |row: usize| match lists.is_null(row) {
        true => Ok(lists.values().slice(0, 0)),
        false => filter(&lists.value(row), &is_not_null(&lists.value(row))?),
    };
    let items: Vec<ArrayRef> = (0..lists.len()).map(known).collect::<Result<_, ArrowError>>()?;
    let offsets = OffsetBuffer::from_lengths(items.iter().map(|i| i.len()));
    let parts: Vec<&dyn Array> = items.iter().map(|i| i.as_ref()).collect();
    let values = if parts.is_empty() { lists.values().slice(0, 0) } else { concat(&parts)? };
    Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, lists.nulls().cloned())?))
}

/// `list[n]`: what lies before the first is null, as is what lies behind the last.
pub fn element(of: &ScalarUDF, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    if args.args[1].data_type() == DataType::Int64 {
        args.args[1] = match &args.args[1] {
            ColumnarValue::Scalar(ScalarValue::Int64(at)) => ColumnarValue::Scalar(ScalarValue::Int64(at.filter(|at| *at > 0))),
            ColumnarValue::Array(at) => {
                let at: Int64Array = at.as_primitive::<Int64Type>().iter().map(|at| at.filter(|at| *at > 0)).collect();
                ColumnarValue::Array(Arc::new(at))
            }
            other => other.clone(),
        };
    }
    of.invoke_with_args(args)
}

/// DataFusion's gives a row for no rows.
pub fn positions(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    match args.number_rows {
        0 => Ok(ColumnarValue::Array(new_empty_array(args.return_type()))),
        _ => of.invoke_with_args(args),
    }
}

/// `array_length(list, dimension)`; without a dimension it is DataFusion's, to which an empty list has a length.
pub fn length(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let given = columns(&args)?;
    let [lists, dimensions] = given.as_slice() else { return of.invoke_with_args(args) };
    let lengths: UInt64Array = extents(lists, dimensions)?.into_iter().collect();
    result(Arc::new(lengths), &args)
}

/// The items along a dimension, row by row.
fn extents(lists: &ArrayRef, dimensions: &ArrayRef) -> DfResult<Vec<Option<u64>>> {
    let dimensions = cast(dimensions, &DataType::Int64)?;
    let dimensions = dimensions.as_primitive::<Int64Type>();
    let Some(list) = lists.as_list_opt::<i32>() else { return Ok(vec![None; lists.len()]) };
    let one = |row: usize| match dimensions.is_valid(row).then(|| dimensions.value(row)) {
        Some(1) if list.is_valid(row) => Some(list.value_length(row) as u64).filter(|length| *length > 0),
        Some(dimension) if list.is_valid(row) => extent(&list.value(row), dimension),
        _ => None,
    };
    Ok((0..list.len()).map(one).collect())
}

fn extent(items: &ArrayRef, dimension: i64) -> Option<u64> {
    match (dimension, items.len()) {
        (..=0, _) | (_, 0) => None,
        (1, length) => Some(length as u64),
        _ => extent(&items.as_list_opt::<i32>()?.value(0), dimension - 1),
    }
}

/// Every match goes; a null matches nulls.
pub fn remove(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let given = columns(&args)?;
    let Some(lists) = given[0].as_list_opt::<i32>() else { return of.invoke_with_args(args) };
    if given[1].logical_null_count() == 0 {
        return of.invoke_with_args(args);
    }
    let kept = without_nulls(lists)?;
    if given[1].logical_null_count() == given[1].len() {
        return result(kept, &args);
    }
    let removed = of.invoke_with_args(args.clone())?.to_array(lists.len())?;
    result(zip(&is_not_null(&given[1])?, &removed, &kept)?, &args)
}

fn type_of_item(types: &[DataType]) -> SqlType {
    match types.first() {
        Some(DataType::List(item)) => SqlType::from_field(item).unwrap_or(SqlType::Null),
        _ => SqlType::Null,
    }
}

/// Flink's `ELEMENT(array)`: the only item, null if there is none.
fn sole_element(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let Some(lists) = args[0].as_list_opt::<i32>() else {
        return match args[0].data_type() {
            DataType::Null => Ok(args[0].clone()),
            other => Err(no_such_function("element", std::slice::from_ref(other))),
        };
    };
    let one = |row: usize| match lists.value_length(row) {
        _ if lists.is_null(row) => Ok(None),
        0 => Ok(None),
        1 => Ok(Some(lists.value_offsets()[row])),
        n => Err(SqlError::new(SqlState::CARDINALITY_VIOLATION, format!("element() of an array with {n} elements"))),
    };
    let places: Int32Array = (0..lists.len()).map(one).collect::<Result<_, _>>()?;
    Ok(take(lists.values(), &places, None)?)
}

fn dims(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let Some(lists) = args[0].as_list_opt::<i32>() else {
        return Err(SqlError::unsupported(format!("array_dims() of {} is not supported", args[0].data_type())));
    };
    map_text(args, |row, out| {
        let mut items = lists.value(row);
        while let Some(length) = extent(&items, 1) {
            write!(out, "[1:{length}]").expect("a string grows");
            match items.as_list_opt::<i32>().map(|inner| inner.value(0)) {
                Some(inner) => items = inner,
                None => break,
            }
        }
        Ok(!out.is_empty())
    })
}

/// A dimension that there is begins at 1.
fn lower(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    bounds(args, |_| 1)
}

fn upper(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    bounds(args, |length| length as i32)
}

fn bounds(args: &[ArrayRef], bound: fn(u64) -> i32) -> Result<ArrayRef, SqlError> {
    let extents = extents(&args[0], &args[1]).map_err(SqlError::internal)?;
    Ok(Arc::new(extents.into_iter().map(|length| length.map(bound)).collect::<Int32Array>()))
}
