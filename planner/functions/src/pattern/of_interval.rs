//! Intervals by a pattern of PostgreSQL's: `to_char(interval, 'HH24:MI:SS')`. Hours go on past a day, and what only a date has is an error. It does not
//! know how a pattern is read.

use super::{Field, Pattern, Piece};
use datafusion::arrow::datatypes::IntervalMonthDayNano;
use eddyline_common::time::MICROS_PER_SECOND;
use eddyline_common::{SqlError, SqlState};
use std::fmt::Write;

const DAYS_PER_MONTH: i64 = 30;
/// Digits of a fraction.
const DIGITS: usize = 6;

impl Pattern {
    /// Appends an interval as the pattern shows it.
    pub fn format_interval(&self, interval: IntervalMonthDayNano, out: &mut String) -> Result<(), SqlError> {
        self.pieces.iter().try_for_each(|piece| show(piece, interval, out))
    }
}

fn show(piece: &Piece, interval: IntervalMonthDayNano, out: &mut String) -> Result<(), SqlError> {
    let (field, width) = match piece {
        Piece::Text(text) => {
            out.push_str(text);
            return Ok(());
        }
        Piece::Field(field, width) => (*field, *width),
        Piece::Name(..) | Piece::Optional(_) => return Err(of_dates()),
    };
    let value = value_of(field, width, interval).ok_or_else(of_dates)?;
    // A sign is none of the digits, but of days and fractions, as in PostgreSQL.
    let counts = matches!(field, Field::Day | Field::DayOfYear | Field::Fraction);
    let width = width + usize::from(value < 0 && width > 0 && !counts);
    write!(out, "{value:0width$}").expect("a string grows");
    Ok(())
}

fn of_dates() -> SqlError {
    SqlError::new(SqlState("22007"), "invalid format specification for an interval value")
        .with_hint("Intervals are not tied to specific calendar dates.")
}

fn value_of(field: Field, digits: usize, interval: IntervalMonthDayNano) -> Option<i64> {
    let (months, days) = (i64::from(interval.months), i64::from(interval.days));
    let micros = interval.nanoseconds / 1_000;
    let seconds = micros / MICROS_PER_SECOND;
    let hours = seconds / 3_600;
    Some(match field {
        Field::Year => months / 12,
        Field::Month => months % 12,
        Field::Day => days,
        Field::DayOfYear => months * DAYS_PER_MONTH + days,
        Field::Hour => hours,
        Field::HalfDayHour => match hours % 12 {
            0 => 12,
            hour => hour,
        },
        Field::Minute => seconds / 60 % 60,
        Field::Second => seconds % 60,
        Field::SecondOfDay => seconds,
        Field::Fraction => micros % MICROS_PER_SECOND / 10i64.pow(DIGITS.saturating_sub(digits) as u32),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_go_on_past_a_day() {
        let shown = |pattern: &str, months, days, millis: i64| {
            let mut out = String::new();
            let interval = IntervalMonthDayNano::new(months, days, millis * 1_000_000);
            Pattern::postgres(pattern).unwrap().format_interval(interval, &mut out).map(|()| out).map_err(|error| error.state.0)
        };
        assert_eq!(shown("HH24:MI:SS", 0, 0, 54_132_000), Ok("15:02:12".to_string()));
        assert_eq!(shown("HH24:MI:SS.MS", 0, 0, 97_200_250), Ok("27:00:00.250".to_string()));
        assert_eq!(shown("YYYY-MM-DD HH12", 14, 3, 0), Ok("0001-02-03 12".to_string()));
        assert_eq!(shown("HH24:MI", 0, 0, -5_400_000), Ok("-01:-30".to_string()));
        assert_eq!(shown("DD SS.MS", 0, -1, -1_005), Ok("-1 -01.-05".to_string()));
        assert_eq!(shown("Day", 0, 1, 0), Err("22007"));
    }
}
