//! What lies between two times: how far they are apart by the calendar, and whether two spans meet.

use super::{micros, naive};
use chrono::Datelike;
use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, IntervalMonthDayNanoArray};
use datafusion::arrow::datatypes::IntervalMonthDayNano;
use eddyline_common::SqlError;
use eddyline_common::time::MICROS_PER_DAY;
use std::cmp::Ordering;
use std::sync::Arc;

/// Whether two spans of time have a moment in common. They begin with the earlier of their times and stop short of the later one, unless that is the same;
/// of a time that is not there it may not be known, as in PostgreSQL.
pub(super) fn overlaps(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let times = args.iter().map(micros).collect::<Result<Vec<_>, _>>()?;
    let at = |i: usize, row: usize| times[i].is_valid(row).then(|| times[i].value(row));
    let one = |row: usize| {
        let (from, to) = span_of(at(0, row), at(1, row))?;
        let (other_from, other_to) = span_of(at(2, row), at(3, row))?;
        let behind = |start: i64, end: Option<i64>, own_end: Option<i64>| match end {
            Some(end) if start < end => Some(true),
            Some(_) => own_end.map(|_| false),
            None => None,
        };
        match from.cmp(&other_from) {
            Ordering::Greater => behind(from, other_to, to),
            Ordering::Less => behind(other_from, to, other_to),
            Ordering::Equal => to.and(other_to).map(|_| true),
        }
    };
    Ok(Arc::new((0..times[0].len()).map(one).collect::<BooleanArray>()))
}

/// The earlier of two times and the later one, which is not known of one alone.
fn span_of(a: Option<i64>, b: Option<i64>) -> Option<(i64, Option<i64>)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.min(b), Some(a.max(b)))),
        (a, b) => a.or(b).map(|known| (known, None)),
    }
}

/// What one time is after another in years, months, days and time; a day that is missing is one of the earlier time's month.
pub(super) fn age(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (later, earlier) = (micros(&args[0])?, micros(&args[1])?);
    let one = |(later, earlier): (Option<i64>, Option<i64>)| match (later, earlier) {
        (Some(later), Some(earlier)) if later >= earlier => symbolic(later, earlier).map(Some),
        (Some(later), Some(earlier)) => {
            let positive = symbolic(earlier, later)?;
            Ok(Some(IntervalMonthDayNano::new(-positive.months, -positive.days, -positive.nanoseconds)))
        }
        _ => Ok(None),
    };
    Ok(Arc::new(later.iter().zip(earlier.iter()).map(one).collect::<Result<IntervalMonthDayNanoArray, SqlError>>()?))
}

fn symbolic(later: i64, earlier: i64) -> Result<IntervalMonthDayNano, SqlError> {
    let (to, from) = (naive(later)?, naive(earlier)?);
    let mut months = (to.year() - from.year()) * 12 + to.month() as i32 - from.month() as i32;
    let mut days = to.day() as i32 - from.day() as i32;
    let mut micros = later.rem_euclid(MICROS_PER_DAY) - earlier.rem_euclid(MICROS_PER_DAY);
    if micros < 0 {
        micros += MICROS_PER_DAY;
        days -= 1;
    }
    if days < 0 {
        days += i32::from(from.num_days_in_month());
        months -= 1;
    }
    Ok(IntervalMonthDayNano::new(months, days, micros * 1_000))
}
