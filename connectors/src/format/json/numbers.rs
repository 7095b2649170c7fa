//! Exact numbers from decimal text, as JSON writes them or as strings hold them.

/// Why text is no number of a type; `Malformed` for text that is no number at all.
#[derive(Debug, PartialEq, Eq)]
pub enum NumberFault {
    Malformed,
    Fraction,
    Range,
}

/// Sign, digits without point, and the power of ten of the last digit.
fn split(text: &str) -> Option<(bool, Vec<u8>, i64)> {
    let text = text.trim();
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()? as i64),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((negative, digits, exponent - fraction.len() as i64))
}

/// Plain decimals of at most 18 digits, which nearly all are: mantissa and digits behind the point.
fn short(text: &str) -> Option<(i64, u32)> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let (mut value, mut point) = (0i64, None);
    for (place, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + (byte - b'0') as i64,
            b'.' if point.is_none() && digits.len() > 1 => point = Some(place),
            _ => return None,
        }
    }
    let behind = point.map_or(0, |place| digits.len() - place - 1);
    Some((if negative { -value } else { value }, behind as u32))
}

/// The number times ten to the `scale`, rounded half away from zero, with at most `precision` digits.
pub fn parse_decimal(text: &str, precision: u8, scale: i8) -> Result<i128, NumberFault> {
    if let Some((value, behind)) = short(text)
        && scale >= behind as i8
    {
        let value = value as i128 * 10i128.checked_pow(scale as u32 - behind).ok_or(NumberFault::Range)?;
        return if value.unsigned_abs() < 10u128.pow(precision as u32) { Ok(value) } else { Err(NumberFault::Range) };
    }
    let (negative, digits, exponent) = split(text).ok_or(NumberFault::Malformed)?;
    let kept = digits.len() as i64 + exponent + scale as i64; // digits before the new point
    let mut value: i128 = 0;
    for place in 0..kept.max(0) {
        if value == 0 && place >= digits.len() as i64 {
            break; // zero, however many zeros follow
        }
        let digit = digits.get(place as usize).map_or(0, |d| (d - b'0') as i128);
        value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or(NumberFault::Range)?;
    }
    if kept >= 0 && digits.get(kept as usize).is_some_and(|d| *d >= b'5') {
        value += 1;
    }
    if value >= 10i128.pow(precision as u32) {
        return Err(NumberFault::Range);
    }
    Ok(if negative { -value } else { value })
}

/// A whole number; `1.0` and `1e3` are, `1.5` is not.
pub fn parse_integer(text: &str) -> Result<i64, NumberFault> {
    if let Ok(value) = text.parse() {
        return Ok(value);
    }
    let (negative, digits, exponent) = split(text).ok_or(NumberFault::Malformed)?;
    let cut = (digits.len() as i64).min(-exponent).max(0) as usize;
    if digits[digits.len() - cut..].iter().any(|d| *d != b'0') {
        return Err(NumberFault::Fraction);
    }
    let sign = if negative { "-" } else { "" };
    let whole = parse_decimal(&format!("{sign}{}e{exponent}", std::str::from_utf8(&digits).map_err(|_| NumberFault::Malformed)?), 38, 0)?;
    i64::try_from(whole).map_err(|_| NumberFault::Range)
}

/// A floating-point number, `NaN` and the infinities as PostgreSQL spells them included.
pub fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim();
    match text.to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "infinity" | "+infinity" => Some(f64::INFINITY),
        "-infinity" => Some(f64::NEG_INFINITY),
        // `inf` and hexadecimal forms are not numbers here.
        lower if lower.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-')) => text.parse().ok(),
        _ => None,
    }
}

/// A two's-complement number, if it has no more than 128 bits.
pub fn big_endian(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    let filler = if negative { 0xFF } else { 0 };
    let used = bytes.iter().position(|b| *b != filler).unwrap_or(bytes.len());
    let significant = &bytes[used..];
    if significant.len() > 16 || significant.len() == 16 && (significant[0] & 0x80 != 0) != negative {
        return None;
    }
    Some(significant.iter().fold(if negative { -1 } else { 0 }, |value: i128, byte| value << 8 | *byte as i128))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_rounded_half_away() {
        for (text, value) in [
            ("12.345", 1235),
            ("-12.345", -1235),
            ("12.344", 1234),
            ("1e2", 10000),
            ("0.004", 0),
            ("0.005", 1),
            (".5", 50),
            ("+7", 700),
            ("123e-2", 123),
        ] {
            assert_eq!(parse_decimal(text, 10, 2), Ok(value), "{text}");
        }
        assert_eq!(parse_decimal("0e999999999", 10, 2), Ok(0));
        assert_eq!(parse_decimal("1e999999999", 10, 2), Err(NumberFault::Range));
        assert_eq!(parse_decimal("1e-999999999", 10, 2), Ok(0));
        assert_eq!(parse_decimal("99999999.995", 10, 2), Err(NumberFault::Range));
        for text in ["", "-", "1.2.3", "x", "1e", "0x10", "e5"] {
            assert_eq!(parse_decimal(text, 10, 2), Err(NumberFault::Malformed), "{text}");
        }
    }

    #[test]
    fn integers_may_be_written_as_decimals() {
        for (text, value) in [("12", 12), ("-9223372036854775808", i64::MIN), ("1.0", 1), ("1e3", 1000), ("1200e-2", 12), ("0e-5", 0)] {
            assert_eq!(parse_integer(text), Ok(value), "{text}");
        }
        assert_eq!(parse_integer("1.5"), Err(NumberFault::Fraction));
        assert_eq!(parse_integer("9223372036854775808"), Err(NumberFault::Range));
        assert_eq!(parse_integer("1e99"), Err(NumberFault::Range));
        assert_eq!(parse_integer("12 apples"), Err(NumberFault::Malformed));
    }

    #[test]
    fn floats() {
        assert_eq!((parse_float("1.5e3"), parse_float("-Infinity"), parse_float("inf")), (Some(1500.0), Some(f64::NEG_INFINITY), None));
        assert!(parse_float("NaN").is_some_and(f64::is_nan));
    }
}
