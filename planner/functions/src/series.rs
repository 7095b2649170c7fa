//! `generate_series(start, stop [, step])` as a list: of integers, which is DataFusion's, and of times, as PostgreSQL steps through them. Days and months are
//! those of the calendar, and of a zone's clock for instants; a step is taken from where the last one ended, so a 31st that came to a 30th stays there.
//! A date is an instant, the zone's midnight, unless the other end is a time without a zone. It does not know what session the zone is of.

use super::arguments::{columns, result, rows};
use super::intervals::{NANOS_PER_MICRO, length_of};
use super::native::{no_such_function, texts};
use super::times::{add_months, local, micros, naive, out_of_range, utc, zone_of};
use crate::error::into_datafusion;
use chrono::TimeDelta;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, NullBufferBuilder, TimestampMicrosecondArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType};
use datafusion::common::Result as DfResult;
use datafusion::functions_nested::range::gen_series_udf;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::cmp::Ordering;
use std::sync::Arc;

const NAME: &str = "generate_series";

/// Values that are in memory at once, those of all rows of a batch: 80 MB. A step that never comes to the end ends here.
const VALUES_MAX: usize = 10_000_000;

/// The function, with the one that makes integers.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Series {
    of_integers: Arc<ScalarUDF>,
    signature: Signature,
}

impl Series {
    pub fn new() -> Self {
        Series { of_integers: gen_series_udf(), signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// What times of these types are a series of: instants, if one of them is, or if neither is without a zone.
fn times_of(start: &DataType, stop: &DataType) -> SqlType {
    let is = |zoned: bool| [start, stop].iter().any(|ty| matches!(ty, DataType::Timestamp(_, zone) if zone.is_some() == zoned));
    if is(false) && !is(true) { SqlType::Timestamp } else { SqlType::TimestampTz }
}

/// An end of a series. A text is read off the clock.
fn as_end(given: &DataType) -> Option<DataType> {
    Some(match given {
        DataType::Timestamp(_, Some(_)) => SqlType::TimestampTz.to_arrow(),
        DataType::Date32 => DataType::Date32,
        DataType::Timestamp(_, None) | DataType::Date64 | DataType::Null => SqlType::Timestamp.to_arrow(),
        text if text.is_string() => SqlType::Timestamp.to_arrow(),
        _ => return None,
    })
}

fn is_integer(ty: &DataType) -> bool {
    ty.is_integer() || ty.is_null()
}

/// The types of a series of times, whose zone comes last. An end whose type is not known, a text in quotes or a null, is of the other's.
fn coerced(given: &[DataType]) -> Option<Vec<DataType>> {
    let ([start, stop, step] | [start, stop, step, _]) = given else { return None };
    let steps = matches!(step, DataType::Interval(_) | DataType::Null) || step.is_string();
    let open = |ty: &DataType| ty.is_string() || ty.is_null();
    let both_open = open(start) && open(stop);
    let end = |own: &DataType, other: &DataType| match (open(own), other) {
        (true, DataType::Date32) => Some(DataType::Date32),
        (true, DataType::Timestamp(_, Some(_))) => Some(SqlType::TimestampTz.to_arrow()),
        (true, _) if both_open => Some(SqlType::TimestampTz.to_arrow()),
        _ => as_end(own),
    };
    let ends = [end(start, stop)?, end(stop, start)?];
    let types = ends.into_iter().chain([SqlType::Interval.to_arrow()]).chain(given.get(3).map(|_| DataType::Utf8));
    steps.then(|| types.collect())
}

impl ScalarUDFImpl for Series {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        if (2..=4).contains(&given.len()) && given.iter().take(3).all(is_integer) {
            return Ok((0..given.len()).map(|i| if i < 3 { DataType::Int64 } else { DataType::Utf8 }).collect());
        }
        coerced(given).ok_or_else(|| into_datafusion(no_such_function(NAME, &given[..given.len().min(3)])))
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let [start, stop, ..] = types else { return Err(into_datafusion(no_such_function(NAME, types))) };
        let item = if is_integer(start) { SqlType::BigInt } else { times_of(start, stop) };
        Ok(SqlType::Array(Box::new(item)).to_arrow())
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if args.args[0].data_type() == DataType::Int64 {
            args.args.truncate(3);
            args.arg_fields.truncate(3);
            check_count(&args)?;
            return self.of_integers.invoke_with_args(args);
        }
        let lists = times(&columns(&args)?).map_err(into_datafusion)?;
        result(lists, &args)
    }
}

fn too_long(what: &str) -> SqlError {
    SqlError::new(SqlState("54000"), format!("a series of more than {VALUES_MAX} {what} is too long"))
}

/// `range`, DataFusion's: a series of integers or times without its stop.
pub fn range(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    match args.args[0].data_type() {
        DataType::Int64 => check_count(&args)?,
        ty if ty.is_temporal() => check_count_of_times(&columns(&args)?).map_err(into_datafusion)?,
        _ => {}
    }
    of.invoke_with_args(args)
}

/// That series of integers have room. One number alone is the stop.
fn check_count(args: &ScalarFunctionArgs) -> DfResult<()> {
    let arrays = columns(args)?;
    let at = |i: usize, row: usize| {
        let values = arrays.get(i)?.as_primitive_opt::<Int64Type>()?;
        values.is_valid(row).then(|| i128::from(values.value(row)))
    };
    let of_row = |row: usize| match arrays.len() {
        1 => count(0, at(0, row)?, 1),
        2 => count(at(0, row)?, at(1, row)?, 1),
        _ => count(at(0, row)?, at(1, row)?, at(2, row)?),
    };
    let total: i128 = (0..rows(args)).filter_map(of_row).sum();
    if total > VALUES_MAX as i128 {
        return Err(into_datafusion(too_long("integers").with_hint("Of constants in FROM there are as many as are read.")));
    }
    Ok(())
}

/// The same of times, by how long a step is about. One that goes both ways may come to no end.
fn check_count_of_times(given: &[ArrayRef]) -> Result<(), SqlError> {
    let [starts, stops, steps] = given else { return Ok(()) };
    let Some(steps) = steps.as_primitive_opt::<IntervalMonthDayNanoType>() else { return Ok(()) };
    let (starts, stops) = (micros(starts)?, micros(stops)?);
    let mut total = 0;
    for (row, step) in steps.iter().enumerate() {
        let Some(step) = step.filter(|_| starts.is_valid(row) && stops.is_valid(row)) else { continue };
        let parts = [i64::from(step.months), i64::from(step.days), step.nanoseconds];
        if parts.iter().any(|part| *part < 0) && parts.iter().any(|part| *part > 0) {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, "a step of a range must not go both ways"));
        }
        total += count(i128::from(starts.value(row)), i128::from(stops.value(row)), length_of(step)).unwrap_or(0);
    }
    if total > VALUES_MAX as i128 { Err(too_long("times").with_hint("Take longer steps.")) } else { Ok(()) }
}

/// How many values there are from a start to a stop; `None` if a step leads nowhere.
fn count(start: i128, stop: i128, step: i128) -> Option<i128> {
    (step != 0).then(|| ((stop - start) / step + 1).max(0))
}

/// Row by row the times from a start to a stop by steps; a row with a null is null.
fn times(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let item = times_of(args[0].data_type(), args[1].data_type());
    let name = args.get(3).and_then(|zones| texts(zones).iter().flatten().next()).unwrap_or("UTC");
    let zone = Some(zone_of(name)?).filter(|_| item == SqlType::TimestampTz);
    let at_ends = |array: &ArrayRef| {
        let read = match array.data_type() {
            DataType::Timestamp(_, Some(_)) => None,
            _ => zone.as_ref(),
        };
        micros(array)?.iter().map(|at| at.map(|at| read.map_or(Ok(at), |zone| utc(at, zone))).transpose()).collect::<Result<Vec<_>, _>>()
    };
    let (starts, stops) = (at_ends(&args[0])?, at_ends(&args[1])?);
    let steps = args[2].as_primitive::<IntervalMonthDayNanoType>();
    let (mut values, mut lengths, mut known) = (Vec::new(), Vec::with_capacity(starts.len()), NullBufferBuilder::new(starts.len()));
    for (row, ends) in starts.into_iter().zip(stops).enumerate() {
        let before = values.len();
        let given = match ends {
            (Some(from), Some(to)) if steps.is_valid(row) => Some((from, to)),
            _ => None,
        };
        if let Some((from, to)) = given {
            fill(from, to, steps.value(row), zone.as_ref(), &mut values)?;
        }
        lengths.push(values.len() - before);
        known.append(given.is_some());
    }
    let values = TimestampMicrosecondArray::from(values).with_data_type(item.to_arrow());
    let field = Arc::new(item.field("item", true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), Arc::new(values), known.finish())?))
}

fn fill(from: i64, to: i64, step: IntervalMonthDayNano, zone: Option<&Tz>, values: &mut Vec<i64>) -> Result<(), SqlError> {
    let direction = length_of(step).cmp(&0);
    if direction == Ordering::Equal {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER, "step size cannot equal zero"));
    }
    let mut at = from;
    while at == to || to.cmp(&at) == direction {
        if values.len() == VALUES_MAX {
            return Err(too_long("times").with_hint("Take longer steps, or a stop that they come to."));
        }
        values.push(at);
        at = after(at, step, zone)?;
    }
    Ok(())
}

/// A step further: months, then days, then time, as PostgreSQL adds an interval.
fn after(at: i64, step: IntervalMonthDayNano, zone: Option<&Tz>) -> Result<i64, SqlError> {
    let day = match (step.months, step.days) {
        (0, 0) => at,
        (months, days) => {
            let shown = naive(zone.map_or(Ok(at), |zone| local(at, zone))?)?;
            let moved = add_months(shown, i64::from(months)).and_then(|at| at.checked_add_signed(TimeDelta::days(i64::from(days))));
            let moved = moved.ok_or_else(out_of_range)?.and_utc().timestamp_micros();
            zone.map_or(Ok(moved), |zone| utc(moved, zone))?
        }
    };
    day.checked_add(step.nanoseconds / NANOS_PER_MICRO).ok_or_else(out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, NaiveDateTime};

    const HOUR_NANOS: i64 = 3_600_000_000_000;

    fn at(text: &str) -> i64 {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap().and_utc().timestamp_micros()
    }

    fn series(from: &str, to: &str, step: (i32, i32, i64), zone: Option<&str>) -> Result<Vec<String>, SqlError> {
        let zone = zone.map(zone_of).transpose()?;
        let mut values = Vec::new();
        fill(at(from), at(to), IntervalMonthDayNano::new(step.0, step.1, step.2), zone.as_ref(), &mut values)?;
        let shown = |micros: i64| DateTime::from_timestamp_micros(micros).unwrap().format("%m-%d %H:%M").to_string();
        Ok(values.into_iter().map(shown).collect())
    }

    #[test]
    fn steps_are_those_of_the_calendar() {
        let months = series("2020-01-31 00:00", "2020-05-31 00:00", (1, 0, 0), None).unwrap();
        assert_eq!(months, ["01-31 00:00", "02-29 00:00", "03-29 00:00", "04-29 00:00", "05-29 00:00"]);
        let back = series("2020-01-02 00:00", "2020-01-01 00:00", (0, 0, -12 * HOUR_NANOS), None).unwrap();
        assert_eq!(back, ["01-02 00:00", "01-01 12:00", "01-01 00:00"]);
        assert!(series("2020-01-02 00:00", "2020-01-01 00:00", (0, 1, 0), None).unwrap().is_empty());
        // The clock in Berlin is put forward in the night to the 29th.
        let days = series("2020-03-27 23:00", "2020-03-29 23:00", (0, 1, 0), Some("Europe/Berlin")).unwrap();
        assert_eq!(days, ["03-27 23:00", "03-28 23:00", "03-29 22:00"]);
    }

    #[test]
    fn a_step_that_leads_nowhere_is_an_error() {
        assert_eq!(series("2020-01-01 00:00", "2020-01-02 00:00", (0, 0, 0), None).unwrap_err().state.0, "22023");
        assert_eq!(series("2020-01-01 00:00", "2020-01-02 00:00", (1, -30, 0), None).unwrap_err().state.0, "22023");
        // February has no thirty days: a month on and 29 days back comes to nothing.
        assert!(series("2020-02-01 00:00", "2030-01-01 00:00", (1, -29, 0), None).is_err());
    }

    #[test]
    fn dates_are_instants_beside_all_but_times_without_a_zone() {
        let (date, time, instant) = (DataType::Date32, SqlType::Timestamp.to_arrow(), SqlType::TimestampTz.to_arrow());
        assert_eq!(times_of(&date, &date), SqlType::TimestampTz);
        assert_eq!(times_of(&date, &time), SqlType::Timestamp);
        assert_eq!(times_of(&time, &instant), SqlType::TimestampTz);
        let text = DataType::Utf8;
        let interval = SqlType::Interval.to_arrow();
        assert_eq!(coerced(&[time.clone(), text.clone(), text.clone()]).unwrap(), [time.clone(), time, interval]);
        assert_eq!(coerced(&[text.clone(), text.clone(), text.clone()]).unwrap()[..2], [instant.clone(), instant]);
        assert!(coerced(&[date, DataType::Int64, text]).is_none());
    }
}
