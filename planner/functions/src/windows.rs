//! The arithmetic of windows, with which a batch query computes what `Op::WindowAssign` does.

use super::{CUMULATE_ENDS, HOP_STARTS, WINDOW_SHIFT, WINDOW_START};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, PrimitiveArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// Window arithmetic over a timestamp column (either kind) and microseconds:
/// `eddyline_window_start(ts, size, offset)`, `eddyline_window_shift(ts, by)`,
/// `eddyline_hop_starts(ts, size, slide, offset)` and `eddyline_cumulate_ends(ts, size, step, offset)` (lists, earliest first).
/// Null in, null out.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct WindowMath {
    name: &'static str,
    signature: Signature,
}

impl WindowMath {
    pub fn new(name: &'static str, arguments: usize) -> Self {
        WindowMath { name, signature: Signature::any(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for WindowMath {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        let time = micros_type(&arg_types[0])?;
        Ok(match self.name {
            HOP_STARTS | CUMULATE_ENDS => DataType::List(Arc::new(Field::new("item", time, true))),
            _ => time,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let time_type = micros_type(&args.args[0].data_type())?;
        let times = cast(&args.args[0].to_array(rows)?, &time_type)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let constants = args.args[1..]
            .iter()
            .map(|arg| {
                let array = cast(&arg.to_array(1.max(rows))?, &DataType::Int64)?;
                Ok(array.as_primitive::<Int64Type>().clone())
            })
            .collect::<DfResult<Vec<Int64Array>>>()?;
        let at = |constant: usize, row: usize| constants[constant].value(row);
        let result: ArrayRef = match self.name {
            WINDOW_START => map_times(times, &time_type, |row, t| window_start(t, at(0, row), at(1, row))),
            WINDOW_SHIFT => map_times(times, &time_type, |row, t| t.checked_add(at(0, row))),
            CUMULATE_ENDS => time_lists(times, &time_type, |row, t, ends| cumulate_ends(t, at(0, row), at(1, row), at(2, row), ends)),
            _ => time_lists(times, &time_type, |row, t, starts| hop_starts(t, at(0, row), at(1, row), at(2, row), starts)),
        };
        Ok(ColumnarValue::Array(result))
    }
}

fn micros_type(ty: &DataType) -> DfResult<DataType> {
    match ty {
        DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        DataType::Null => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
        other => Err(DataFusionError::Plan(format!("a window needs a timestamp, not {other}"))),
    }
}

fn map_times(times: &PrimitiveArray<TimestampMicrosecondType>, ty: &DataType, mut f: impl FnMut(usize, i64) -> Option<i64>) -> ArrayRef {
    let values = (0..times.len()).map(|row| if times.is_null(row) { None } else { f(row, times.value(row)) });
    Arc::new(values.collect::<PrimitiveArray<TimestampMicrosecondType>>().with_data_type(ty.clone()))
}

fn time_lists(times: &PrimitiveArray<TimestampMicrosecondType>, ty: &DataType, f: impl Fn(usize, i64, &mut Vec<i64>)) -> ArrayRef {
    let mut starts = Vec::new();
    let lengths: Vec<usize> = (0..times.len())
        .map(|row| {
            let before = starts.len();
            if !times.is_null(row) {
                f(row, times.value(row), &mut starts);
            }
            starts.len() - before
        })
        .collect();
    let values = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(starts).with_data_type(ty.clone());
    let nulls = times.nulls().map(|n| NullBuffer::from_iter(n.iter()));
    Arc::new(ListArray::new(Arc::new(Field::new("item", ty.clone(), true)), OffsetBuffer::from_lengths(lengths), Arc::new(values), nulls))
}

/// The start of the tumbling window that holds `time`; `None` on overflow.
pub fn window_start(time: i64, size: i64, offset: i64) -> Option<i64> {
    time.checked_sub(offset)?.div_euclid(size).checked_mul(size)?.checked_add(offset)
}

/// The ends of all cumulating windows that hold `time`, earliest first.
pub fn cumulate_ends(time: i64, size: i64, step: i64, offset: i64, ends: &mut Vec<i64>) {
    let Some(start) = window_start(time, size, offset) else { return };
    let Some(last) = start.checked_add(size) else { return };
    let mut end = start + (time - start) / step * step;
    while end < last {
        end += step;
        ends.push(end);
    }
}

/// The starts of all windows `[start, start + size)` that hold `time`, earliest first.
pub fn hop_starts(time: i64, size: i64, slide: i64, offset: i64, starts: &mut Vec<i64>) {
    let Some(last) = window_start(time, slide, offset) else { return };
    let mut start = last;
    while start.checked_sub(slide).is_some_and(|s| s.checked_add(size).is_some_and(|end| end > time)) {
        start -= slide;
    }
    while start <= last {
        // A slide larger than the size leaves gaps.
        if start.checked_add(size).is_some_and(|end| end > time) {
            starts.push(start);
        }
        start += slide;
    }
}
