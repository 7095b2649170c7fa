//! Interval literals of several fields (`INTERVAL '1 02:03' DAY TO MINUTE`) and with a precision: read as PostgreSQL reads them, and written anew as
//! months, days and seconds, which the binder reads. So are quarters. A precision of the first field (Flink's `DAY(3)`) bounds nothing. Other intervals
//! are not touched, unless a minus stands before them.

use super::rewrite::string_expr;
use datafusion::arrow::datatypes::IntervalMonthDayNano;
use datafusion::sql::sqlparser::ast::*;
use eddyline_common::postgres::parse;
use eddyline_common::{Result, SqlError, SqlState};

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const NANOS_PER_DAY: i128 = 86_400 * NANOS_PER_SECOND as i128;
/// Of a second's fraction.
const DIGITS: u32 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl Field {
    fn of(written: &DateTimeField) -> Option<Field> {
        Some(match written {
            DateTimeField::Year | DateTimeField::Years => Field::Year,
            DateTimeField::Month | DateTimeField::Months => Field::Month,
            DateTimeField::Day | DateTimeField::Days => Field::Day,
            DateTimeField::Hour | DateTimeField::Hours => Field::Hour,
            DateTimeField::Minute | DateTimeField::Minutes => Field::Minute,
            DateTimeField::Second | DateTimeField::Seconds => Field::Second,
            _ => return None,
        })
    }

    /// Of a field of the clock.
    fn nanos(self) -> i64 {
        match self {
            Field::Hour => 3_600 * NANOS_PER_SECOND,
            Field::Minute => 60 * NANOS_PER_SECOND,
            _ => NANOS_PER_SECOND,
        }
    }
}

/// A minus before an interval is one before its text: the binder would put it before the first of its numbers.
pub fn take_sign(expr: &mut Expr) {
    if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } = expr
        && let Expr::Interval(interval) = inner.as_ref()
    {
        let mut interval = interval.clone();
        interval.value = Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: interval.value });
        *expr = Expr::Interval(interval);
    }
}

/// Writes an interval that has several fields or a precision as one without, and one behind a minus with its signs.
pub fn rewrite(interval: &mut Interval) -> Result<()> {
    let Some(leading) = &interval.leading_field else { return with_signs(interval) };
    if *leading == DateTimeField::Quarter && interval.last_field.is_none() {
        return as_months(interval);
    }
    if interval.last_field.is_none() && interval.leading_precision.is_none() {
        return Ok(());
    }
    let Some((first, last)) = fields(leading, interval.last_field.as_ref()) else {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "an interval has no such fields")
            .with_hint("They go from YEAR TO MONTH, or from DAY, HOUR or MINUTE TO HOUR, MINUTE or SECOND."));
    };
    let of_seconds = interval.leading_precision.filter(|_| first == Field::Second);
    let digits = interval.fractional_seconds_precision.or(of_seconds).map_or(DIGITS, |digits| digits.min(u64::from(DIGITS)) as u32);
    (interval.leading_precision, interval.fractional_seconds_precision) = (None, None);
    if first == last && first != Field::Second {
        return Ok(());
    }
    let Some((negative, text)) = text(&interval.value) else {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "an interval of several fields is written in quotes")
            .with_hint("Write INTERVAL '1 02:03' DAY TO MINUTE."));
    };
    let value = cut(Literal { text, first, last }.read()?, last, digits);
    *interval.value = string_expr(&written(value, negative));
    (interval.leading_field, interval.last_field) = (None, None);
    Ok(())
}

/// The months and nanoseconds of an interval literal.
pub fn length(expr: &Expr) -> Option<(i32, i128)> {
    let Expr::Interval(interval) = expr else { return None };
    let mut interval = interval.clone();
    rewrite(&mut interval).ok()?;
    let (_, text) = text(&interval.value).filter(|(negative, _)| !negative)?;
    let unit = interval.leading_field.as_ref().map_or_else(String::new, |field| format!(" {field}"));
    let value = parse::interval(&format!("{text}{unit}")).ok()?;
    Some((value.months, i128::from(value.days) * NANOS_PER_DAY + i128::from(value.nanoseconds)))
}

/// Quarters, which the binder does not know.
fn as_months(interval: &mut Interval) -> Result<()> {
    const MONTHS_PER_QUARTER: i32 = 3;
    let Some((negative, text)) = text(&interval.value) else {
        return Err(
            SqlError::new(SqlState::SYNTAX_ERROR, "an interval of quarters is written in quotes").with_hint("Write INTERVAL '2' QUARTER.")
        );
    };
    let invalid = || SqlError::new(SqlState("22007"), format!("invalid input syntax for type interval: \"{text}\""));
    let quarters: i32 = text.trim().parse().map_err(|_| invalid())?;
    let months = quarters.checked_mul(if negative { -MONTHS_PER_QUARTER } else { MONTHS_PER_QUARTER }).ok_or_else(invalid)?;
    *interval.value = string_expr(&format!("{months} months"));
    (interval.leading_field, interval.leading_precision) = (None, None);
    Ok(())
}

fn with_signs(interval: &mut Interval) -> Result<()> {
    if let Some((true, text)) = text(&interval.value) {
        *interval.value = string_expr(&written(parse::interval(text)?, true));
    }
    Ok(())
}

/// The first and the last field; `None` if they do not go together.
fn fields(leading: &DateTimeField, last: Option<&DateTimeField>) -> Option<(Field, Field)> {
    use Field::*;
    let first = Field::of(leading)?;
    let last = last.map_or(Some(first), Field::of)?;
    let together = first == last
        || matches!((first, last), (Year, Month) | (Day, Hour | Minute | Second) | (Hour, Minute | Second) | (Minute, Second));
    together.then_some((first, last))
}

/// What is in quotes, and whether a minus stands before it.
fn text(value: &Expr) -> Option<(bool, &str)> {
    match value {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text) | Value::Number(text, _), .. }) => Some((false, text.as_str())),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => text(expr).map(|(negative, text)| (!negative, text)),
        Expr::Nested(expr) => text(expr),
        _ => None,
    }
}

/// Months, days and nanoseconds.
type Parts = [i128; 3];

struct Literal<'a> {
    text: &'a str,
    first: Field,
    last: Field,
}

impl Literal<'_> {
    fn read(&self) -> Result<IntervalMonthDayNano> {
        if self.text.contains(|c: char| c.is_ascii_alphabetic()) {
            return parse::interval(self.text);
        }
        let words: Vec<&str> = self.text.split_whitespace().collect();
        let mut sum: Parts = [0; 3];
        for (at, word) in words.iter().copied().enumerate() {
            let (sign, unsigned) = match word.strip_prefix('-') {
                Some(rest) => (-1, rest),
                None => (1, word.strip_prefix('+').unwrap_or(word)),
            };
            let parts = self.word(unsigned, at == 0, words.len() - at - 1)?;
            sum.iter_mut().zip(parts).for_each(|(sum, part)| *sum += sign * part);
        }
        let [months, days, nanos] = sum;
        match (i32::try_from(months), i32::try_from(days), i64::try_from(nanos)) {
            (Ok(months), Ok(days), Ok(nanos)) if !words.is_empty() => Ok(IntervalMonthDayNano::new(months, days, nanos)),
            _ if words.is_empty() => Err(self.invalid()),
            _ => Err(self.overflow()),
        }
    }

    /// Years and months, a clock, or a number: of the last field, or of days if one word stands behind it.
    fn word(&self, word: &str, is_first: bool, behind: usize) -> Result<Parts> {
        if word.contains(':') {
            return if behind == 0 { Ok([0, 0, self.clock(word)?]) } else { Err(self.invalid()) };
        }
        if let Some((years, months)) = word.split_once('-') {
            let months = self.whole(years, None)? * 12 + self.whole(months, Some(12))?;
            return if is_first { Ok([months, 0, 0]) } else { Err(self.invalid()) };
        }
        let field = match behind {
            0 => self.last,
            1 => Field::Day,
            _ => return Err(self.invalid()),
        };
        Ok(match field {
            Field::Year => [self.whole(word, None)? * 12, 0, 0],
            Field::Month => [self.whole(word, None)?, 0, 0],
            Field::Day => [0, self.whole(word, None)?, 0],
            clock => [0, 0, (self.decimal(word)? * clock.nanos() as f64).round() as i128],
        })
    }

    /// `hours:minutes[:seconds]`, or `minutes:seconds` if the fields say so or the seconds have a fraction.
    fn clock(&self, text: &str) -> Result<i128> {
        let parts: Vec<&str> = text.split(':').collect();
        let (hours, minutes, seconds) = match parts.as_slice() {
            [minutes, seconds] if self.first == Field::Minute || seconds.contains('.') => ("0", *minutes, *seconds),
            [hours, minutes] => (*hours, *minutes, "0"),
            [hours, minutes, seconds] => (*hours, *minutes, *seconds),
            _ => return Err(self.invalid()),
        };
        let seconds = self.decimal(seconds)?;
        if seconds >= 60.0 {
            return Err(self.overflow());
        }
        let minutes = self.whole(hours, None)? * 60 + self.whole(minutes, Some(60))?;
        Ok(minutes * i128::from(Field::Minute.nanos()) + (seconds * NANOS_PER_SECOND as f64).round() as i128)
    }

    /// Digits, as a number below `end`.
    fn whole(&self, digits: &str, end: Option<i128>) -> Result<i128> {
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        match digits.parse::<i64>().map(i128::from) {
            _ if !is_number => Err(self.invalid()),
            Ok(number) if end.is_none_or(|end| number < end) => Ok(number),
            _ => Err(self.overflow()),
        }
    }

    fn decimal(&self, digits: &str) -> Result<f64> {
        let is_number = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        digits.parse().ok().filter(|_| is_number).ok_or_else(|| self.invalid())
    }

    fn invalid(&self) -> SqlError {
        parse::invalid("interval", self.text)
    }

    fn overflow(&self) -> SqlError {
        SqlError::new(SqlState::INTERVAL_FIELD_OVERFLOW, format!("interval field value out of range: \"{}\"", self.text))
    }
}

/// Without what is smaller than the last field.
fn cut(value: IntervalMonthDayNano, last: Field, digits: u32) -> IntervalMonthDayNano {
    let IntervalMonthDayNano { months, days, nanoseconds: nanos } = value;
    match last {
        Field::Year | Field::Month => IntervalMonthDayNano::new(months, 0, 0),
        Field::Day => IntervalMonthDayNano::new(months, days, 0),
        Field::Hour | Field::Minute => IntervalMonthDayNano::new(months, days, nanos - nanos % last.nanos()),
        Field::Second => {
            let unit = NANOS_PER_SECOND / 10i64.pow(digits);
            let rounded = nanos.saturating_add(nanos.signum() * (unit / 2)) / unit * unit;
            IntervalMonthDayNano::new(months, days, rounded)
        }
    }
}

fn written(value: IntervalMonthDayNano, negative: bool) -> String {
    let sign = if negative { -1 } else { 1 };
    let (months, days) = (i64::from(value.months) * sign, i64::from(value.days) * sign);
    let minus = if (value.nanoseconds < 0) == negative { "" } else { "-" };
    let nanos = value.nanoseconds.unsigned_abs();
    let (seconds, fraction) = (nanos / NANOS_PER_SECOND as u64, nanos % NANOS_PER_SECOND as u64);
    format!("{months} months {days} days {minus}{seconds}.{fraction:09} seconds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Field::*;

    fn read(text: &str, first: Field, last: Field) -> Result<String> {
        let value = cut(Literal { text, first, last }.read()?, last, DIGITS);
        Ok(written(value, false).replace(".000000000", ""))
    }

    #[test]
    fn fields_are_read_as_postgres_reads_them() {
        for (text, first, last, expected) in [
            ("1-2", Year, Month, "14 months 0 days 0 seconds"),
            ("-1-2", Year, Month, "-14 months 0 days 0 seconds"),
            ("5", Year, Month, "5 months 0 days 0 seconds"),
            ("1 2", Day, Hour, "0 months 1 days 7200 seconds"),
            ("1 02:03", Day, Minute, "0 months 1 days 7380 seconds"),
            ("-1 02:03", Day, Minute, "0 months -1 days 7380 seconds"),
            ("1 02:03:04", Day, Minute, "0 months 1 days 7380 seconds"),
            ("1 day 2:03", Day, Minute, "0 months 1 days 7380 seconds"),
            ("1 2:03:04.5", Day, Second, "0 months 1 days 7384.500000000 seconds"),
            ("2:03", Hour, Minute, "0 months 0 days 7380 seconds"),
            ("2:03", Minute, Second, "0 months 0 days 123 seconds"),
            ("-2:03.5", Minute, Second, "0 months 0 days -123.500000000 seconds"),
            ("2.5", Minute, Second, "0 months 0 days 2.500000000 seconds"),
        ] {
            assert_eq!(read(text, first, last).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_interval_is_an_error() {
        for text in ["", "1-2-3", "1:2:3:4", "1 2 3", "2:03 1", "1 1-2", "1.2.3", "--1", "2:-3"] {
            assert_eq!(read(text, Day, Second).unwrap_err().state, SqlState::INVALID_TEXT, "{text}");
        }
        for text in ["25:70", "1-13", "2:03:60", "99999999999 1:00"] {
            assert_eq!(read(text, Day, Second).unwrap_err().state, SqlState::INTERVAL_FIELD_OVERFLOW, "{text}");
        }
    }
}
