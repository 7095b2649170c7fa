//! PostgreSQL's text forms of values, written into a byte buffer. Pure functions.

use super::encode::ValueWriter;
use arrow::array::timezone::Tz;
use arrow::datatypes::IntervalMonthDayNano;
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone, Timelike};
use std::fmt::Write;
use std::ops::Range;

const DIGITS: &[u8; 10] = b"0123456789";
const HEX: &[u8; 16] = b"0123456789abcdef";

pub fn integer(value: i64, out: &mut BytesMut) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = DIGITS[(rest % 10) as usize];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.put_u8(b'-');
    }
    out.put_slice(&digits[at..]);
}

/// Writing to a `BytesMut` only fails when memory ends, which aborts before it returns.
fn put(out: &mut BytesMut, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args).expect("a byte buffer grows");
}

pub fn float8(value: f64, out: &mut BytesMut) {
    if special(value, out) {
        return;
    }
    float(value == 0.0, value.is_sign_negative(), &format!("{:e}", value.abs()), 15, out);
}

pub fn float4(value: f32, out: &mut BytesMut) {
    if special(value as f64, out) {
        return;
    }
    float(value == 0.0, value.is_sign_negative(), &format!("{:e}", value.abs()), 6, out);
}

fn special(value: f64, out: &mut BytesMut) -> bool {
    let name: &[u8] = match value {
        v if v.is_nan() => b"NaN",
        f64::INFINITY => b"Infinity",
        f64::NEG_INFINITY => b"-Infinity",
        _ => return false,
    };
    out.put_slice(name);
    true
}

/// From the shortest scientific form (`1.5e-7`): plain below `10^limit` and from `10^-4` on.
fn float(zero: bool, negative: bool, scientific: &str, limit: i32, out: &mut BytesMut) {
    if negative {
        out.put_u8(b'-');
    }
    if zero {
        return out.put_u8(b'0');
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return put(out, format_args!("{mantissa}e{sign}{:02}", exponent.abs()));
    }
    let digits = mantissa.bytes().filter(|b| *b != b'.').collect::<Vec<_>>();
    if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', (-exponent - 1) as usize);
        return out.put_slice(&digits);
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        out.put_slice(&digits);
        out.put_bytes(b'0', whole - digits.len());
    } else {
        out.put_slice(&digits[..whole]);
        out.put_u8(b'.');
        out.put_slice(&digits[whole..]);
    }
}

pub fn decimal(unscaled: i128, scale: i8, out: &mut BytesMut) {
    let mut digits = [b'0'; 40];
    let mut at = digits.len();
    let mut rest = unscaled.unsigned_abs();
    while rest > 0 {
        at -= 1;
        digits[at] = DIGITS[(rest % 10) as usize];
        rest /= 10;
    }
    if unscaled < 0 {
        out.put_u8(b'-');
    }
    if scale <= 0 {
        let digits = if at == digits.len() { &digits[at - 1..] } else { &digits[at..] };
        out.put_slice(digits);
        if unscaled != 0 {
            out.put_bytes(b'0', scale.unsigned_abs() as usize);
        }
        return;
    }
    let point = digits.len() - scale as usize;
    let whole = if at < point { &digits[at..point] } else { b"0" };
    out.put_slice(whole);
    out.put_u8(b'.');
    out.put_slice(&digits[point..]);
}

pub fn hex(bytes: &[u8], out: &mut BytesMut) {
    out.put_slice(b"\\x");
    for byte in bytes {
        out.put_u8(HEX[(byte >> 4) as usize]);
        out.put_u8(HEX[(byte & 15) as usize]);
    }
}

fn padded(value: u32, width: usize, out: &mut BytesMut) {
    let mut digits = [b'0'; 10];
    let mut at = digits.len();
    let mut rest = value;
    while rest > 0 {
        at -= 1;
        digits[at] = DIGITS[(rest % 10) as usize];
        rest /= 10;
    }
    out.put_slice(&digits[at.min(digits.len() - width)..]);
}

fn calendar(date: NaiveDate, out: &mut BytesMut) -> bool {
    let year = date.year();
    let before_christ = year <= 0;
    padded(if before_christ { (1 - year) as u32 } else { year as u32 }, 4, out);
    out.put_u8(b'-');
    padded(date.month(), 2, out);
    out.put_u8(b'-');
    padded(date.day(), 2, out);
    before_christ
}

fn clock(seconds: u32, micros: u32, out: &mut BytesMut) {
    padded(seconds / 3600, 2, out);
    out.put_u8(b':');
    padded(seconds / 60 % 60, 2, out);
    out.put_u8(b':');
    padded(seconds % 60, 2, out);
    fraction(micros, out);
}

fn fraction(micros: u32, out: &mut BytesMut) {
    if micros == 0 {
        return;
    }
    out.put_u8(b'.');
    let (mut value, mut width) = (micros, 6);
    while value % 10 == 0 {
        value /= 10;
        width -= 1;
    }
    padded(value, width, out);
}

pub fn date(days: i32, out: &mut BytesMut) {
    match NaiveDate::from_num_days_from_ce_opt(days.saturating_add(719_163)) {
        Some(date) => {
            if calendar(date, out) {
                out.put_slice(b" BC");
            }
        }
        None => out.put_slice(if days < 0 { b"-infinity" } else { b"infinity" }),
    }
}

pub fn time(micros: i64, out: &mut BytesMut) {
    clock((micros / 1_000_000) as u32, (micros % 1_000_000) as u32, out);
}

fn date_and_time(at: NaiveDateTime, out: &mut BytesMut) -> bool {
    let before_christ = calendar(at.date(), out);
    out.put_u8(b' ');
    clock(at.num_seconds_from_midnight(), at.nanosecond() / 1000 % 1_000_000, out);
    before_christ
}

pub fn timestamp(micros: i64, out: &mut BytesMut) {
    match DateTime::from_timestamp_micros(micros) {
        Some(at) => {
            if date_and_time(at.naive_utc(), out) {
                out.put_slice(b" BC");
            }
        }
        None => out.put_slice(if micros < 0 { b"-infinity" } else { b"infinity" }),
    }
}

pub fn timestamptz(micros: i64, zone: &Tz, out: &mut BytesMut) {
    let Some(at) = DateTime::from_timestamp_micros(micros) else {
        return out.put_slice(if micros < 0 { b"-infinity" } else { b"infinity" });
    };
    let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    let before_christ = date_and_time(at.naive_utc() + offset, out);
    let seconds = offset.local_minus_utc();
    out.put_u8(if seconds < 0 { b'-' } else { b'+' });
    let seconds = seconds.unsigned_abs();
    padded(seconds / 3600, 2, out);
    if seconds % 3600 != 0 {
        out.put_u8(b':');
        padded(seconds / 60 % 60, 2, out);
    }
    // Before there were zones each place had its own time.
    if seconds % 60 != 0 {
        out.put_u8(b':');
        padded(seconds % 60, 2, out);
    }
    if before_christ {
        out.put_slice(b" BC");
    }
}

/// `1 year 2 mons -3 days +04:05:06.7`: a part after a negative one shows its plus sign.
pub fn interval(value: IntervalMonthDayNano, out: &mut BytesMut) {
    let begin = out.len();
    let mut after_negative = false;
    let mut part = |count: i32, unit: &str, out: &mut BytesMut| {
        if count == 0 {
            return;
        }
        let space = if out.len() > begin { " " } else { "" };
        let plus = if after_negative && count > 0 { "+" } else { "" };
        // As PostgreSQL has it: -1 is plural.
        let plural = if count == 1 { "" } else { "s" };
        put(out, format_args!("{space}{plus}{count} {unit}{plural}"));
        after_negative = count < 0;
    };
    part(value.months / 12, "year", out);
    part(value.months % 12, "mon", out);
    part(value.days, "day", out);
    let micros = value.nanoseconds / 1000;
    if micros == 0 && out.len() > begin {
        return;
    }
    if out.len() > begin {
        out.put_u8(b' ');
    }
    if micros < 0 {
        out.put_u8(b'-');
    } else if after_negative {
        out.put_u8(b'+');
    }
    let micros = micros.unsigned_abs();
    let seconds = micros / 1_000_000;
    put(out, format_args!("{:02}", seconds / 3600));
    out.put_u8(b':');
    padded((seconds / 60 % 60) as u32, 2, out);
    out.put_u8(b':');
    padded((seconds % 60) as u32, 2, out);
    fraction((micros % 1_000_000) as u32, out);
}

pub fn array(items: &ValueWriter, range: Range<usize>, out: &mut BytesMut) {
    out.put_u8(b'{');
    for item in range.clone() {
        if item > range.start {
            out.put_u8(b',');
        }
        if items.is_null(item) {
            out.put_slice(b"NULL");
            continue;
        }
        let begin = out.len();
        items.text(item, out);
        if !items.is_list() {
            quote_from(
                begin,
                |text| text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(|b| special_in_array(*b)),
                out,
            );
        }
    }
    out.put_u8(b'}');
}

/// An int2vector or oidvector: items with spaces between.
pub fn vector(items: &ValueWriter, range: Range<usize>, out: &mut BytesMut) {
    for item in range.clone() {
        if item > range.start {
            out.put_u8(b' ');
        }
        items.text(item, out);
    }
}

fn special_in_array(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || byte.is_ascii_whitespace()
}

pub fn record<'a, 'b: 'a>(fields: impl Iterator<Item = &'a ValueWriter<'b>>, row: usize, out: &mut BytesMut) {
    out.put_u8(b'(');
    for (index, field) in fields.enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        if field.is_null(row) {
            continue;
        }
        let begin = out.len();
        field.text(row, out);
        let special = |b: &u8| matches!(b, b'(' | b')' | b',' | b'"' | b'\\') || b.is_ascii_whitespace();
        quote_from(begin, |text| text.is_empty() || text.iter().any(special), out);
    }
    out.put_u8(b')');
}

/// Puts what was written since `begin` in double quotes, if it has to be.
fn quote_from(begin: usize, needed: impl Fn(&[u8]) -> bool, out: &mut BytesMut) {
    if !needed(&out[begin..]) {
        return;
    }
    let plain = out.split_off(begin);
    out.put_u8(b'"');
    for byte in plain {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(byte);
    }
    out.put_u8(b'"');
}

/// A map as a JSON object.
pub fn map(keys: &ValueWriter, values: &ValueWriter, quoted: bool, range: Range<usize>, out: &mut BytesMut) {
    out.put_u8(b'{');
    for entry in range.clone() {
        if entry > range.start {
            out.put_slice(b", ");
        }
        json_string(keys, entry, out);
        out.put_slice(b": ");
        if values.is_null(entry) {
            out.put_slice(b"null");
        } else if quoted {
            json_string(values, entry, out);
        } else {
            match values.text_of(entry).as_ref() {
                b"t" => out.put_slice(b"true"),
                b"f" => out.put_slice(b"false"),
                number => out.put_slice(number),
            }
        }
    }
    out.put_u8(b'}');
}

fn json_string(writer: &ValueWriter, row: usize, out: &mut BytesMut) {
    let plain = writer.text_of(row);
    let text = String::from_utf8_lossy(&plain);
    out.put_slice(serde_json::Value::from(text).to_string().as_bytes());
}

impl ValueWriter<'_> {
    fn text_of(&self, row: usize) -> BytesMut {
        let mut text = BytesMut::new();
        self.text(row, &mut text);
        text
    }
}
