//! Dates, times and timestamps from text. All spellings of ISO 8601 with `-` and `:`, and its basic form without them, with
//! `T` or a space between date and time, with or without fraction and zone; `/` separates a date as `-` does. Timestamps as HTTP and mail
//! have them (RFC 1123 and 5322). Digits below a microsecond are cut off. Epoch times as numbers, in the unit that the source says.

use eddyline_common::time::MICROS_PER_DAY;

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar. (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", days_from_civil.)
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn number(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + (b - b'0') as i64))
}

/// `YYYY-MM-DD`, `YYYY/MM/DD` or `YYYYMMDD` at the start, as days, and what follows it.
fn date_prefix(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (year, month, day, rest) = match bytes {
        [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, rest @ ..] | [y0, y1, y2, y3, b'/', m0, m1, b'/', d0, d1, rest @ ..] => {
            (number(&[*y0, *y1, *y2, *y3])?, number(&[*m0, *m1])?, number(&[*d0, *d1])?, rest)
        }
        // Eight digits and no ninth: a longer run is an epoch time.
        [y0, y1, y2, y3, m0, m1, d0, d1, rest @ ..] if !rest.first().is_some_and(u8::is_ascii_digit) => {
            (number(&[*y0, *y1, *y2, *y3])?, number(&[*m0, *m1])?, number(&[*d0, *d1])?, rest)
        }
        _ => return None,
    };
    Some((days_if_any(year, month, day)?, rest))
}

/// `None` if there is no such day.
fn days_if_any(year: i64, month: i64, day: i64) -> Option<i64> {
    ((1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day)).then(|| days_of(year, month, day))
}

const MONTHS: [&[u8]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `[Mon, ]01 Jan 2024 ` at the start, as days, and what follows it; the name of the day is not looked at.
fn spelled_date_prefix(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let bytes = match bytes {
        [a, b, c, b',', rest @ ..] if [a, b, c].iter().all(|letter| letter.is_ascii_alphabetic()) => rest.trim_ascii_start(),
        _ => bytes,
    };
    let (day, rest) = match bytes {
        [d0, d1, b' ', rest @ ..] => (number(&[*d0, *d1])?, rest),
        [d, b' ', rest @ ..] => (number(&[*d])?, rest),
        _ => return None,
    };
    let [m0, m1, m2, b' ', y0, y1, y2, y3, b' ', rest @ ..] = rest else { return None };
    let month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(&[*m0, *m1, *m2]))? as i64 + 1;
    Some((days_if_any(number(&[*y0, *y1, *y2, *y3])?, month, day)?, rest))
}

/// `HH:MM[:SS[.fraction]]` or `HHMM[SS[.fraction]]` at the start, in microseconds, and what follows it.
fn time_prefix(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (basic, hour, minute, mut rest) = match bytes {
        [h0, h1, b':', m0, m1, rest @ ..] => (false, number(&[*h0, *h1])?, number(&[*m0, *m1])?, rest),
        [h0, h1, m0, m1, rest @ ..] => (true, number(&[*h0, *h1])?, number(&[*m0, *m1])?, rest),
        _ => return None,
    };
    let (mut second, mut micros) = (0, 0);
    let seconds = match rest {
        [b':', a, b, after @ ..] if !basic => Some((number(&[*a, *b])?, after)),
        [a, b, after @ ..] if basic && a.is_ascii_digit() => Some((number(&[*a, *b])?, after)),
        _ => None,
    };
    if let Some((value, after)) = seconds {
        second = value;
        rest = after;
        if let [b'.' | b',', after @ ..] = rest {
            let count = after.iter().take_while(|b| b.is_ascii_digit()).count();
            if count == 0 {
                return None;
            }
            let kept = count.min(6);
            micros = number(&after[..kept])? * 10i64.pow(6 - kept as u32);
            rest = &after[count..];
        }
    }
    // 23:59:60 is the next minute's start, as PostgreSQL reads it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((((hour * 60 + minute) * 60 + second) * 1_000_000 + micros, rest))
}

/// A zone as microseconds east of UTC: nothing, `Z`, `UTC`, `UT`, `GMT`, `+HH`, `+HHMM`, `+HH:MM`.
fn zone(bytes: &[u8]) -> Option<i64> {
    let bytes = bytes.trim_ascii_start();
    let (sign, digits) = match bytes {
        [] | b"Z" | b"z" | b"UTC" | b"UT" | b"GMT" => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits {
        [_, _] => (number(digits)?, 0),
        [a, b, b':', c, d] | [a, b, c, d] => (number(&[*a, *b])?, number(&[*c, *d])?),
        _ => return None,
    };
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

pub fn parse_date(text: &str) -> Option<i32> {
    let (days, rest) = date_prefix(text.trim().as_bytes())?;
    matches!(rest, [] | b"Z").then_some(days as i32)
}

pub fn parse_time(text: &str) -> Option<i64> {
    let (micros, rest) = time_prefix(text.trim().as_bytes())?;
    (matches!(rest, [] | b"Z" | b"z") && micros < MICROS_PER_DAY).then_some(micros)
}

/// Microseconds since the epoch in UTC; text without a zone is taken as UTC, a date alone as its midnight.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim().as_bytes();
    let (days, time) = match date_prefix(text) {
        Some((days, [])) => return Some(days * MICROS_PER_DAY),
        Some((days, [b'T' | b't' | b' ', time @ ..])) => (days, time),
        Some(_) => return None,
        None => spelled_date_prefix(text)?,
    };
    let (micros, rest) = time_prefix(time)?;
    Some(days * MICROS_PER_DAY + micros - zone(rest)?)
}

/// What a number in a time's place counts since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumberUnit {
    Seconds,
    #[default]
    Millis,
    Micros,
    Nanos,
}

impl NumberUnit {
    /// Microseconds of a whole number.
    pub fn micros(self, number: i64) -> Option<i64> {
        let micros = match self {
            NumberUnit::Seconds => number.checked_mul(1_000_000)?,
            NumberUnit::Millis => number.checked_mul(1_000)?,
            NumberUnit::Micros => number,
            NumberUnit::Nanos => number.div_euclid(1_000),
        };
        instant(micros)
    }
}

/// An epoch time, as a whole number or with a fraction, in microseconds.
pub fn micros_of_number(text: &str, unit: NumberUnit) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return unit.micros(number);
    }
    let scale = match unit {
        NumberUnit::Seconds => 6,
        NumberUnit::Millis => 3,
        NumberUnit::Micros => 0,
        NumberUnit::Nanos => -3,
    };
    super::numbers::parse_decimal(text, 38, scale).ok().and_then(|micros| i64::try_from(micros).ok()).and_then(instant)
}

/// Microseconds since 1970 that are a timestamp: PostgreSQL's begin in 4714 BC, and the last number there is stands for infinity.
pub fn instant(micros: i64) -> Option<i64> {
    (-210_866_803_200_000_000..i64::MAX).contains(&micros).then_some(micros)
}

/// Days since 1970 that are a date: those of PostgreSQL go from 4714 BC to 5874897. The least and the greatest number there are stand for its infinite
/// ones, as Debezium writes them.
pub fn day(days: i64) -> Option<i32> {
    i32::try_from(days).ok().filter(|days| matches!(*days, -2_440_588..2_145_042_906 | i32::MIN | i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_in_every_spelling() {
        let expected = 1_436_918_405_123_456;
        for text in [
            "2015-07-15T00:00:05.123456Z",
            "2015-07-15 00:00:05.123456",
            "2015-07-15T02:00:05.123456789+02:00",
            "2015-07-14 18:30:05.123456-0530",
            "2015-07-15 01:00:05,123456 +01",
            "2015-07-15t00:00:05.123456 UTC",
            "2015/07/15 00:00:05.123456",
            "20150715T000005.123456Z",
            "20150715T020005.123456+0200",
        ] {
            assert_eq!(parse_timestamp(text), Some(expected), "{text}");
        }
        for text in ["Wed, 15 Jul 2015 00:00:05 GMT", "15 jul 2015 00:00:05 UT", "Wed, 15 Jul 2015 02:00:05 +0200"] {
            assert_eq!(parse_timestamp(text), Some(1_436_918_405_000_000), "{text}");
        }
        assert_eq!(parse_timestamp("Tue, 7 Jul 2015 24:00:00 GMT"), None);
        assert_eq!(parse_timestamp("Tue, 7 Jul 2015 00:00 GMT"), Some(1_436_227_200_000_000));
        assert_eq!(parse_timestamp("2015-07-15"), Some(1_436_918_400_000_000));
        assert_eq!(parse_timestamp("2015-07-15T00:01"), Some(1_436_918_460_000_000));
        assert_eq!(parse_timestamp("1969-12-31 23:59:59.999999"), Some(-1));
        assert_eq!(parse_timestamp("0001-01-01"), Some(-62_135_596_800_000_000));
        for text in [
            "",
            "2015-07-15X",
            "2015-13-01",
            "2015-02-29",
            "2015-07-15 24:00:00",
            "2015-07-15 00:00:05.",
            "2015-07-15 00:00 +25:00",
            "15.7.2015",
            "Wed, 31 Jun 2015 00:00:05 GMT",
            "Wed, 15 Yul 2015 00:00:05 GMT",
            "Wed, 15 Jul 2015",
            "Wed, 15 Jul 15 00:00:05 GMT",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn dates_times_and_millis() {
        assert_eq!((parse_date("1970-01-02"), parse_date("2000-02-29"), parse_date("2000-02-29T")), (Some(1), Some(11_016), None));
        assert_eq!(parse_date("1970-01-02Z"), Some(1));
        assert_eq!((parse_time("01:02:03.5"), parse_time("24:00:00"), parse_time("1:2")), (Some(3_723_500_000), None, None));
        let millis = |text| micros_of_number(text, NumberUnit::Millis);
        assert_eq!(millis("1436918400000"), Some(1_436_918_400_000_000));
        assert_eq!(millis("1436918400000.25"), Some(1_436_918_400_000_250));
        assert_eq!(millis("-1"), Some(-1_000));
        assert_eq!((millis("9e300"), millis("9223372036854775807")), (None, None));
        assert_eq!(micros_of_number("1436918400.5", NumberUnit::Seconds), Some(1_436_918_400_500_000));
        assert_eq!(micros_of_number("1436918400000001", NumberUnit::Micros), Some(1_436_918_400_000_001));
        assert_eq!(micros_of_number("1436918400000001999", NumberUnit::Nanos), Some(1_436_918_400_000_001));
    }
}
