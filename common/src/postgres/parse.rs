//! PostgreSQL's text forms to values. Pure functions; each error names the type and quotes the text.

use crate::time::MICROS_PER_DAY;
use crate::{Result, SqlError, SqlState, SqlType};
use arrow::array::timezone::Tz;
use arrow::datatypes::IntervalMonthDayNano;
use chrono::{DateTime, NaiveDate, Offset, TimeDelta, TimeZone};
use std::str::FromStr;

/// Longest text that an error quotes.
const QUOTED_CHARS_MAX: usize = 64;

pub fn invalid(ty: &str, text: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_TEXT, format!("invalid input syntax for type {ty}: \"{}\"", shown(text)))
}

/// As much of a text as an error quotes.
fn shown(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

fn out_of_range(ty: &str, text: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("value \"{}\" is out of range for type {ty}", shown(text)))
}

fn bad_time(ty: &str, text: &str) -> SqlError {
    let looks_right = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | ' ' | '.' | 'T' | '+' | 'Z'));
    match looks_right && text.len() >= 8 {
        true => SqlError::new(SqlState("22008"), format!("date/time field value out of range: \"{text}\"")),
        false => SqlError::new(SqlState("22007"), format!("invalid input syntax for type {ty}: \"{text}\"")),
    }
}

pub fn boolean(text: &str) -> Result<bool> {
    let lower = text.to_ascii_lowercase();
    let prefix_of = |word: &str, least: usize| lower.len() >= least && word.starts_with(&lower);
    if prefix_of("true", 1) || prefix_of("yes", 1) || lower == "on" || lower == "1" {
        return Ok(true);
    }
    if prefix_of("false", 1) || prefix_of("no", 1) || prefix_of("off", 2) || lower == "0" {
        return Ok(false);
    }
    Err(invalid("boolean", text))
}

pub fn integer<T: TryFrom<i64>>(text: &str, ty: &str) -> Result<T> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(ty, text));
    }
    let value = i64::from_str(text).map_err(|_| out_of_range(ty, text))?;
    T::try_from(value).map_err(|_| out_of_range(ty, text))
}

pub fn float8(text: &str) -> Result<f64> {
    float(text, "double precision")
}

pub fn float4(text: &str) -> Result<f32> {
    float(text, "real")
}

/// Digits that come to an infinity, or to zero though one of them is none, are out of range, as in PostgreSQL.
fn float<F: FromStr + Into<f64> + Copy>(text: &str, ty: &str) -> Result<F> {
    let value = F::from_str(text).map_err(|_| invalid(ty, text))?;
    let wide: f64 = value.into();
    let mut mantissa = text.bytes().take_while(|b| !matches!(b, b'e' | b'E'));
    let is_lost = match wide.is_infinite() {
        true => text.bytes().any(|b| b.is_ascii_digit()),
        false => wide == 0.0 && mantissa.any(|b| matches!(b, b'1'..=b'9')),
    };
    let out_of_range = || SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("\"{}\" is out of range for type {ty}", shown(text)));
    if is_lost { Err(out_of_range()) } else { Ok(value) }
}

/// Rounds half away from zero to `scale`, as PostgreSQL does.
pub fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128> {
    let bad = || invalid("numeric", text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let overflow = || {
        SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "numeric field overflow").with_detail(format!(
            "A field with precision {precision}, scale {scale} must round to an absolute value less than 10^{}.",
            precision as i32 - scale as i32
        ))
    };
    // The digit at index `keep` decides the rounding; those before it are kept.
    let keep = whole.len() as i64 + exponent as i64 + scale as i64;
    let mut value: i128 = 0;
    let mut all = whole.bytes().chain(fraction.bytes()).map(|b| (b - b'0') as i128);
    for at in 0..keep.clamp(0, 400) {
        let digit = all.next().unwrap_or(0);
        if value == 0 && digit == 0 && at > 200 {
            break;
        }
        value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or_else(overflow)?;
    }
    if keep >= 0 && all.next().is_some_and(|digit| digit >= 5) {
        value += 1;
    }
    if precision < 38 && value >= 10i128.pow(precision as u32) || value > 99_999_999_999_999_999_999_999_999_999_999_999_999 {
        return Err(overflow());
    }
    Ok(if negative { -value } else { value })
}

pub fn json(text: &str) -> Result<()> {
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map(|_| ())
        .map_err(|e| SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type json").with_detail(format!("{e}.")))
}

/// In lower case, with hyphens where they belong. As in PostgreSQL braces around it and other hyphens are no matter.
pub fn uuid(text: &str) -> Result<String> {
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
    let digits: Vec<char> = inner.chars().filter(|c| *c != '-').collect();
    let in_place = |(at, c): (usize, char)| c != '-' || at > 0 && at + 1 < inner.len();
    if digits.len() != 32 || !digits.iter().all(char::is_ascii_hexdigit) || !inner.char_indices().all(in_place) {
        return Err(invalid("uuid", text));
    }
    let mut out = String::with_capacity(36);
    for (at, digit) in digits.iter().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(digit.to_ascii_lowercase());
    }
    Ok(out)
}

/// A text that is stored where `length` characters fit: what is too much may only be blanks.
pub fn limited(text: &str, length: u32, ty: &SqlType) -> Result<String> {
    let fit = fitting(text, length).ok_or_else(|| SqlError::new(SqlState("22001"), format!("value too long for type {ty}")))?;
    Ok(stored(fit, ty).to_string())
}

/// What is kept of a text where `length` characters fit; `None` if more than blanks would be lost.
pub fn fitting(text: &str, length: u32) -> Option<&str> {
    let cut = cut(text, length);
    text[cut.len()..].bytes().all(|b| b == b' ').then_some(cut)
}

/// A text's first characters.
pub fn cut(text: &str, length: u32) -> &str {
    text.char_indices().nth(length as usize).map_or(text, |(end, _)| &text[..end])
}

/// Blanks at the end of a `character(n)` mean nothing.
pub fn stored<'a>(text: &'a str, ty: &SqlType) -> &'a str {
    if matches!(ty, SqlType::Char(_)) { text.trim_end_matches(' ') } else { text }
}

pub fn bytea(text: &str) -> Result<Vec<u8>> {
    let bad = || invalid("bytea", text);
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        if !digits.len().is_multiple_of(2) {
            return Err(bad());
        }
        let nibble = |b: u8| (b as char).to_digit(16).map(|d| d as u8).ok_or_else(bad);
        return digits.chunks(2).map(|pair| Ok(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
        } else if rest.first() == Some(&b'\\') {
            bytes.push(b'\\');
            rest = &rest[1..];
        } else {
            let octal = rest.get(..3).and_then(|o| std::str::from_utf8(o).ok()).and_then(|o| u8::from_str_radix(o, 8).ok());
            bytes.push(octal.ok_or_else(bad)?);
            rest = &rest[3..];
        }
    }
    Ok(bytes)
}

/// Days since 1970-01-01.
pub fn date(text: &str) -> Result<i32> {
    match text {
        "infinity" => return Ok(i32::MAX),
        "-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let day = parts(text).filter(|(_, _, zone)| is_zone(zone)).and_then(|(days, _, _)| i32::try_from(days).ok());
    day.ok_or_else(|| bad_time("date", text))
}

fn calendar(text: &str, before_christ: bool) -> Option<NaiveDate> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next(), parts.next());
    match (month, day) {
        (Some(month), Some(day)) => {
            let year = year.parse::<i32>().ok().filter(|year| *year > 0)?;
            // The year before the first is the first before Christ.
            NaiveDate::from_ymd_opt(if before_christ { 1 - year } else { year }, month.parse().ok()?, day.parse().ok()?)
        }
        _ if text.len() == 8 && !before_christ => NaiveDate::parse_from_str(text, "%Y%m%d").ok(),
        _ => None,
    }
}

/// The text without its era, and whether that is the one before Christ.
fn era(text: &str) -> (&str, bool) {
    match text.rsplit_once(' ') {
        Some((rest, era)) if era.eq_ignore_ascii_case("bc") => (rest.trim_end(), true),
        Some((rest, era)) if era.eq_ignore_ascii_case("ad") => (rest.trim_end(), false),
        _ => (text, false),
    }
}

/// Microseconds since midnight; a zone in the text is ignored, as PostgreSQL does.
pub fn time(text: &str) -> Result<i64> {
    let zone_at = text.find(['+', '-', 'Z']).filter(|at| offset(text[*at..].trim()).is_some()).unwrap_or(text.len());
    clock(text[..zone_at].trim_end()).ok_or_else(|| bad_time("time without time zone", text))
}

/// `HH:MM[:SS[.fraction]]`, rounded to microseconds.
fn clock(text: &str) -> Option<i64> {
    let (hours, rest) = text.split_once(':')?;
    let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let part = |text: &str, max: i64| number(text, 2).filter(|n| *n <= max);
    let (hours, minutes, seconds) = (part(hours, 24)?, part(minutes, 59)?, part(seconds, 60)?);
    let shown = fraction.get(..fraction.len().min(9))?;
    let nanos = number(shown, 9)? * 10i64.pow(9 - shown.len() as u32);
    fraction[shown.len()..].bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + (nanos + 500) / 1000;
    (micros <= MICROS_PER_DAY).then_some(micros)
}

/// A number of at most so many digits and nothing else.
fn number(text: &str, digits_max: usize) -> Option<i64> {
    let is_number = (1..=digits_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.bytes().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
}

/// Microseconds; a zone in the text is ignored, as PostgreSQL does.
pub fn timestamp(text: &str) -> Result<i64> {
    let local = infinite(text).or_else(|| {
        let (days, micros, zone) = parts(text)?;
        is_zone(zone).then(|| at(days, micros))?
    });
    local.ok_or_else(|| bad_time("timestamp", text))
}

/// Microseconds in UTC; a text that names no zone is one of `zone`, or of UTC without one.
pub fn timestamptz(text: &str, zone: Option<&Tz>) -> Result<i64> {
    let found = infinite(text).or_else(|| {
        let (days, micros, named) = parts(text)?;
        let local = at(days, micros)?;
        match (offset(named), zone) {
            (Some(_), Some(zone)) if named.is_empty() => instant(local, zone),
            (Some(offset), _) => local.checked_sub(offset),
            (None, _) => instant(local, &named_zone(named)?),
        }
    });
    found.ok_or_else(|| bad_time("timestamp with time zone", text))
}

/// The instant of a wall-clock time, both in microseconds: the earlier of two, and past a gap as far as the clock was put forward. `None` where there are no more
/// times.
pub fn instant(local: i64, zone: &Tz) -> Option<i64> {
    let at = DateTime::from_timestamp_micros(local)?.naive_utc();
    let found = zone.offset_from_local_datetime(&at).earliest();
    let offset = match found {
        Some(offset) => offset,
        None => zone.offset_from_local_datetime(&(at - TimeDelta::hours(3))).earliest()?,
    };
    local.checked_sub(i64::from(offset.fix().local_minus_utc()) * 1_000_000)
}

fn infinite(text: &str) -> Option<i64> {
    match text {
        "infinity" => Some(i64::MAX),
        "-infinity" => Some(i64::MIN),
        _ => None,
    }
}

fn at(days: i64, micros: i64) -> Option<i64> {
    days.checked_mul(MICROS_PER_DAY)?.checked_add(micros)
}

/// Days since 1970-01-01, microseconds since midnight, and what names the zone.
fn parts(text: &str) -> Option<(i64, i64, &str)> {
    if text == "epoch" {
        return Some((0, 0, "Z"));
    }
    let (text, before_christ) = era(text);
    let (day, rest) = text.split_once([' ', 'T']).unwrap_or((text, ""));
    let days = (calendar(day, before_christ)? - NaiveDate::default()).num_days();
    let rest = rest.trim();
    let zone_at = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, ':' | '.')).unwrap_or(rest.len());
    let (clock_text, zone) = (rest[..zone_at].trim(), rest[zone_at..].trim());
    let micros = if clock_text.is_empty() { 0 } else { clock(clock_text)? };
    Some((days, micros, zone))
}

/// Whether a text of a time is one instant wherever it is read.
pub fn names_zone(text: &str) -> bool {
    infinite(text).is_some() || parts(text).is_some_and(|(_, _, zone)| !zone.is_empty())
}

fn is_zone(text: &str) -> bool {
    offset(text).is_some() || named_zone(text).is_some()
}

/// An offset that is none has no name either.
fn named_zone(text: &str) -> Option<Tz> {
    if text.starts_with(['+', '-']) { None } else { Tz::from_str(text).ok() }
}

/// Microseconds east of Greenwich, less than sixteen hours of them as in PostgreSQL.
fn offset(zone: &str) -> Option<i64> {
    if zone.is_empty() || ["z", "utc", "gmt"].contains(&zone.to_ascii_lowercase().as_str()) {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let digits: String = rest.chars().filter(|c| *c != ':').collect();
    let number = number(&digits, 6)?;
    let (hours, minutes, seconds) = match digits.len() {
        1 | 2 => (number, 0, 0),
        4 => (number / 100, number % 100, 0),
        6 => (number / 10_000, number / 100 % 100, number % 100),
        _ => return None,
    };
    let is_offset = hours < 16 && minutes < 60 && seconds < 60;
    is_offset.then(|| sign * ((hours * 60 + minutes) * 60 + seconds) * 1_000_000)
}

/// `1 year 2 mons -3 days 04:05:06.7 ago`: numbers with units and at most one clock, in any order.
pub fn interval(text: &str) -> Result<IntervalMonthDayNano> {
    interval_parts(text).ok_or_else(|| invalid("interval", text))
}

fn interval_parts(text: &str) -> Option<IntervalMonthDayNano> {
    let lower = text.to_ascii_lowercase();
    let (body, sign) = match lower.strip_suffix("ago") {
        Some(body) => (body, -1.0),
        None => (lower.as_str(), 1.0),
    };
    // A unit may follow its number without a space.
    let mut words: Vec<String> = Vec::new();
    for word in body.split_whitespace() {
        let number_ends = word.find(|c: char| c.is_ascii_alphabetic());
        match number_ends {
            Some(at) if at > 0 && !word.contains(':') => words.extend([word[..at].to_string(), word[at..].to_string()]),
            _ => words.push(word.to_string()),
        }
    }
    if words.is_empty() {
        return None;
    }
    let (mut months, mut days, mut nanos) = (0.0, 0.0, 0i128);
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        if word.contains(':') {
            let (negative, clock_text) = match word.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, word.strip_prefix('+').unwrap_or(&word)),
            };
            let clock = clock_nanos(clock_text)?;
            nanos += if negative { -clock } else { clock };
            continue;
        }
        let number: f64 = word.parse().ok()?;
        // A bare number counts seconds.
        let unit = words.next_if(|w| w.starts_with(|c: char| c.is_ascii_alphabetic())).unwrap_or_else(|| "seconds".into());
        let seconds = |each: f64| (number * each * 1e9).round() as i128;
        match unit.strip_suffix('s').filter(|u| u.len() > 1 || *u == "y" || *u == "d" || *u == "h").unwrap_or(&unit) {
            "millennium" | "millennia" => months += number * 12_000.0,
            "century" | "centurie" => months += number * 1_200.0,
            "decade" => months += number * 120.0,
            "year" | "yr" | "y" => months += number * 12.0,
            "month" | "mon" => months += number,
            "week" | "w" => days += number * 7.0,
            "day" | "d" => days += number,
            "hour" | "hr" | "h" => nanos += seconds(3600.0),
            "minute" | "min" | "m" => nanos += seconds(60.0),
            "second" | "sec" | "s" => nanos += seconds(1.0),
            "millisecond" | "msec" | "ms" => nanos += seconds(1e-3),
            "microsecond" | "usec" | "us" => nanos += seconds(1e-6),
            _ => return None,
        }
    }
    // Fractions of months become days of 30, fractions of days become time.
    let whole_months = f64::trunc(months);
    let days = days + (months - whole_months) * 30.0;
    let whole_days = f64::trunc(days);
    nanos += ((days - whole_days) * 86_400e9).round() as i128;
    let fits = |v: f64| (v.abs() <= i32::MAX as f64).then_some(v as i32);
    let nanos = i64::try_from(nanos * sign as i128).ok()?;
    Some(IntervalMonthDayNano::new(fits(whole_months * sign)?, fits(whole_days * sign)?, nanos))
}

/// `hours:minutes[:seconds[.fraction]]`; hours have no bound.
fn clock_nanos(text: &str) -> Option<i128> {
    let mut parts = text.splitn(3, ':');
    let hours: i128 = parts.next()?.parse().ok()?;
    let minutes: i128 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next().map_or(Some(0.0), |s| s.parse().ok())?;
    Some((hours * 3600 + minutes * 60) * 1_000_000_000 + (seconds * 1e9).round() as i128)
}

/// The items of a one-dimensional array literal `{a,"b c",NULL}`. Items of nested arrays keep their braces.
pub fn array(text: &str) -> Result<Vec<Option<String>>> {
    let bad = || SqlError::new(SqlState::INVALID_TEXT, format!("malformed array literal: \"{text}\""));
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(bad)?;
    if inner.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut items = Vec::new();
    let mut chars = inner.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let (mut item, mut quoted, mut depth) = (String::new(), false, 0);
        if chars.next_if_eq(&'"').is_some() {
            quoted = true;
            loop {
                match chars.next().ok_or_else(bad)? {
                    '"' => break,
                    '\\' => item.push(chars.next().ok_or_else(bad)?),
                    c => item.push(c),
                }
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
        } else {
            while let Some(c) = chars.next_if(|c| depth > 0 || *c != ',') {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    '\\' if depth == 0 => {
                        item.push(chars.next().ok_or_else(bad)?);
                        continue;
                    }
                    _ => {}
                }
                item.push(c);
            }
            item.truncate(item.trim_end().len());
            if item.is_empty() || depth != 0 {
                return Err(bad());
            }
        }
        items.push(if !quoted && item.eq_ignore_ascii_case("null") { None } else { Some(item) });
        match chars.next() {
            Some(',') => {}
            None => return Ok(items),
            Some(_) => return Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_whether_it_names_a_zone() {
        for text in ["2024-01-01 10:00", "2024-1-1", "20240101 10:00:00.5", "2024-01-01 BC"] {
            assert!(!names_zone(text), "{text}");
        }
        for text in ["2024-01-01T10:00Z", "2024-01-01 10:00-05", "2024-01-01 10:00 Europe/Berlin", "epoch"] {
            assert!(names_zone(text), "{text}");
        }
    }
}
