//! Texts and bytes in other spellings: hexadecimal, base64, character sets, what stands in a URL. Flink's functions and PostgreSQL's `encode` and
//! `decode`. It does not know which of the two a call of `encode` means: the planner has told them apart (`FROM_CHARSET`, `TO_CHARSET`).

use super::hashes::write_hex;
use super::native::{Arg, Native, map_rows, map_text, no_such_function, text, texts};
use super::{FROM_CHARSET, TO_CHARSET};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::fmt::Write;
use std::sync::Arc;
use url::form_urlencoded::byte_serialize;

pub const FUNCTIONS: &[Native] = &[
    Native::total("bin", &[Arg::BigInt], &[], text, bin),
    Native::total("hex", &[Arg::Any], &[], text, hex),
    Native::partial("unhex", &[Arg::Text], &[], bytes, unhex),
    Native::total("to_base64", &[Arg::TextOrBytes], &[], text, to_base64),
    Native::total("from_base64", &[Arg::Text], &[], text, from_base64),
    Native::total("url_encode", &[Arg::Text], &[], text, url_encode),
    Native::partial("url_decode", &[Arg::Text], &[], text, url_decode),
    Native::total("encode", &[Arg::TextOrBytes, Arg::Text], &[], text, encode),
    Native::total("decode", &[Arg::Text, Arg::Text], &[], bytes, decode),
    Native::total("get_byte", &[Arg::TextOrBytes, Arg::BigInt], &[], |_| SqlType::Integer, get_byte),
    Native::total("set_byte", &[Arg::TextOrBytes, Arg::BigInt, Arg::BigInt], &[], bytes, set_byte),
    Native::total("bit_count", &[Arg::TextOrBytes], &[], |_| SqlType::BigInt, bit_count),
    Native::total("convert_from", &[Arg::TextOrBytes, Arg::Text], &[], text, convert_from),
    Native::total("convert_to", &[Arg::Text, Arg::Text], &[], bytes, convert_to),
    Native::total(TO_CHARSET, &[Arg::Text, Arg::Text], &[], bytes, to_charset),
    Native::total(FROM_CHARSET, &[Arg::TextOrBytes, Arg::Text], &[], text, from_charset),
];

/// The character sets that Flink's ENCODE and DECODE know.
pub const CHARSETS: [&str; 6] = ["US-ASCII", "ISO-8859-1", "UTF-8", "UTF-16BE", "UTF-16LE", "UTF-16"];

/// Of MIME: PostgreSQL breaks base64 into lines of so many characters.
const BASE64_LINE: usize = 76;

/// As Java reads base64: what fills it up at the end may be left out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

fn bytes(_: &[DataType]) -> SqlType {
    SqlType::Bytes
}

/// A text's bytes, or bytes as they are.
fn binary(array: &ArrayRef) -> Result<BinaryArray, SqlError> {
    Ok(cast(array, &DataType::Binary)?.as_binary::<i32>().clone())
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, message)
}

/// Bytes as a text, which has no NUL in it.
fn push_text(bytes: &[u8], out: &mut String) -> Result<bool, SqlError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => out.push_str(text),
        _ => return Err(SqlError::new(SqlState::BAD_CHARACTER, "invalid byte sequence for encoding \"UTF8\"")),
    }
    Ok(true)
}

/// A negative number as the complement of 64 bits.
fn bin(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let numbers = args[0].as_primitive::<Int64Type>();
    map_text(args, |row, out| {
        write!(out, "{:b}", numbers.value(row)).expect("a string grows");
        Ok(true)
    })
}

/// Where an index points within bytes.
fn byte_at(bytes: &[u8], index: i64) -> Result<usize, SqlError> {
    let at = usize::try_from(index).ok().filter(|at| *at < bytes.len());
    at.ok_or_else(|| SqlError::new(SqlState("2202E"), format!("index {index} out of valid range, 0..{}", bytes.len() as i64 - 1)))
}

fn get_byte(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, places) = (binary(&args[0])?, args[1].as_primitive::<Int64Type>());
    let found: Int32Array = map_rows(args, |row| {
        let bytes = values.value(row);
        Ok(Some(i32::from(bytes[byte_at(bytes, places.value(row))?])))
    })?;
    Ok(Arc::new(found))
}

/// The lowest eight bits of a number at a place.
fn set_byte(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, places, bytes) = (binary(&args[0])?, args[1].as_primitive::<Int64Type>(), args[2].as_primitive::<Int64Type>());
    let changed: BinaryArray = map_rows(args, |row| {
        let mut value = values.value(row).to_vec();
        let at = byte_at(&value, places.value(row))?;
        value[at] = bytes.value(row) as u8;
        Ok(Some(value))
    })?;
    Ok(Arc::new(changed))
}

fn bit_count(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = binary(&args[0])?;
    let ones = |bytes: &[u8]| -> i64 { bytes.iter().map(|byte| i64::from(byte.count_ones())).sum() };
    let counts: Int64Array = map_rows(args, |row| Ok(Some(ones(values.value(row)))))?;
    Ok(Arc::new(counts))
}

/// That an encoding's name is of the one that texts have.
fn check_utf8(name: &str) -> Result<(), SqlError> {
    match name.to_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" | "unicode" => Ok(()),
        _ => Err(SqlError::unsupported(format!("a conversion of encoding \"{name}\" is not supported")).with_hint("Texts are UTF8.")),
    }
}

fn convert_from(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, names) = (binary(&args[0])?, texts(&args[1]));
    map_text(args, |row, out| {
        check_utf8(names.value(row))?;
        push_text(values.value(row), out)
    })
}

fn convert_to(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, names) = (texts(&args[0]), texts(&args[1]));
    let encoded: BinaryArray = map_rows(args, |row| check_utf8(names.value(row)).map(|()| Some(values.value(row).as_bytes())))?;
    Ok(Arc::new(encoded))
}

/// Digits of an integer, or of the bytes of anything else, as Flink writes them: in capitals.
fn hex(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    if args[0].data_type().is_integer() {
        let numbers = cast(&args[0], &DataType::Int64)?;
        return map_text(args, |row, out| {
            write!(out, "{:X}", numbers.as_primitive::<Int64Type>().value(row)).expect("a string grows");
            Ok(true)
        });
    }
    if !args[0].data_type().is_string() && !args[0].data_type().is_binary() {
        return Err(no_such_function("hex", &[args[0].data_type().clone()]));
    }
    let values = binary(&args[0])?;
    map_text(args, |row, out| {
        values.value(row).iter().for_each(|byte| write!(out, "{byte:02X}").expect("a string grows"));
        Ok(true)
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn of_pairs(digits: &[u8]) -> Option<Vec<u8>> {
    digits.chunks(2).map(|pair| Some((digit(pair[0])? << 4) | digit(*pair.get(1)?)?)).collect()
}

/// Of an odd number of digits the first counts for nothing, as in Flink.
fn unhex(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = texts(&args[0]);
    let one = |row: usize| {
        let digits = values.value(row).as_bytes();
        let (first, pairs) = digits.split_at(digits.len() % 2);
        let zero = first.iter().map(|byte| digit(*byte).map(|_| 0)).collect::<Option<Vec<u8>>>();
        Ok(zero.zip(of_pairs(pairs)).map(|(zero, rest)| [zero, rest].concat()))
    };
    let result: BinaryArray = map_rows(args, one)?;
    Ok(Arc::new(result))
}

fn to_base64(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = binary(&args[0])?;
    map_text(args, |row, out| {
        BASE64_STANDARD.encode_string(values.value(row), out);
        Ok(true)
    })
}

fn from_base64(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = texts(&args[0]);
    map_text(args, |row, out| push_text(&of_base64(&LENIENT, values.value(row))?, out))
}

fn of_base64(engine: &GeneralPurpose, text: &str) -> Result<Vec<u8>, SqlError> {
    let is_symbol = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    engine.decode(text).map_err(|_| match text.chars().find(|c| !is_symbol(*c)) {
        Some(symbol) => invalid(format!("invalid symbol \"{symbol}\" found while decoding base64 sequence")),
        None => invalid("invalid base64 end sequence").with_hint("Input data is missing padding, is truncated, or is otherwise corrupted."),
    })
}

/// As forms send a text.
fn url_encode(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = texts(&args[0]);
    map_text(args, |row, out| {
        out.extend(byte_serialize(values.value(row).as_bytes()));
        Ok(true)
    })
}

/// Null where an escape is none.
fn url_decode(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = texts(&args[0]);
    map_text(args, |row, out| match percent_decoded(values.value(row).as_bytes()) {
        Some(bytes) => push_text(String::from_utf8_lossy(&bytes).as_bytes(), out),
        None => Ok(false),
    })
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => (digit(rest.next()?)? << 4) | digit(rest.next()?)?,
            other => other,
        });
    }
    Some(bytes)
}

/// PostgreSQL's `encode(bytes, 'hex' | 'base64' | 'escape')`.
fn encode(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, formats) = (binary(&args[0])?, texts(&args[1]));
    map_text(args, |row, out| {
        let value = values.value(row);
        match formats.value(row).to_lowercase().as_str() {
            "hex" => write_hex(value, out),
            "base64" => {
                // All of it is ASCII.
                let lines = BASE64_STANDARD.encode(value);
                for (i, symbol) in lines.chars().enumerate() {
                    if i > 0 && i.is_multiple_of(BASE64_LINE) {
                        out.push('\n');
                    }
                    out.push(symbol);
                }
            }
            "escape" => value.iter().for_each(|byte| match byte {
                0 | 0x80.. => write!(out, "\\{byte:03o}").expect("a string grows"),
                b'\\' => out.push_str("\\\\"),
                byte => out.push(char::from(*byte)),
            }),
            _ => return Err(unrecognized(formats.value(row))),
        }
        Ok(true)
    })
}

fn unrecognized(format: &str) -> SqlError {
    let known = CHARSETS.join(", ");
    invalid(format!("unrecognized encoding: \"{format}\""))
        .with_hint(format!("Known are hex, base64 and escape, and as constants {known}."))
}

/// PostgreSQL's `decode(text, 'hex' | 'base64' | 'escape')`.
fn decode(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, formats) = (texts(&args[0]), texts(&args[1]));
    let one = |row: usize| {
        let value = values.value(row);
        let spaceless = || value.split([' ', '\n', '\t', '\r']).collect::<String>();
        match formats.value(row).to_lowercase().as_str() {
            "hex" => of_hex(&spaceless()).map(Some),
            "base64" => of_base64(&BASE64_STANDARD, &spaceless()).map(Some),
            "escape" => match of_escapes(value.as_bytes()) {
                Some(bytes) => Ok(Some(bytes)),
                None => Err(SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type bytea")),
            },
            _ => Err(unrecognized(formats.value(row))),
        }
    };
    let result: BinaryArray = map_rows(args, one)?;
    Ok(Arc::new(result))
}

fn of_hex(text: &str) -> Result<Vec<u8>, SqlError> {
    if let Some(other) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(invalid(format!("invalid hexadecimal digit: \"{other}\"")));
    }
    of_pairs(text.as_bytes()).ok_or_else(|| invalid("invalid hexadecimal data: odd number of digits"))
}

/// A backslash stands before another one, or before three octal digits of a byte.
fn of_escapes(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (*first, after) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                (((*a - b'0') << 6) | ((*b - b'0') << 3) | (*c - b'0'), after)
            }
            (b'\\', _) => return None,
            other => other,
        };
        bytes.push(byte);
        rest = after;
    }
    Some(bytes)
}

/// Flink's `ENCODE(text, charset)`: what the set has not is a question mark.
fn to_charset(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, charsets) = (texts(&args[0]), texts(&args[1]));
    let one = |row: usize| {
        let value = values.value(row);
        let narrow = |limit: u32| value.chars().map(|c| if u32::from(c) < limit { u32::from(c) as u8 } else { b'?' }).collect::<Vec<u8>>();
        let big = || value.encode_utf16().flat_map(u16::to_be_bytes);
        Ok(Some(match charsets.value(row).to_uppercase().as_str() {
            "US-ASCII" => narrow(0x80),
            "ISO-8859-1" => narrow(0x100),
            "UTF-8" => value.as_bytes().to_vec(),
            "UTF-16BE" => big().collect(),
            "UTF-16LE" => value.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            "UTF-16" if value.is_empty() => vec![],
            "UTF-16" => [0xFE, 0xFF].into_iter().chain(big()).collect(),
            _ => return Err(unrecognized(charsets.value(row))),
        }))
    };
    let result: BinaryArray = map_rows(args, one)?;
    Ok(Arc::new(result))
}

/// Flink's `DECODE(bytes, charset)`: what is none of the set is U+FFFD.
fn from_charset(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, charsets) = (binary(&args[0])?, texts(&args[1]));
    map_text(args, |row, out| {
        let value = values.value(row);
        let decoded: String = match charsets.value(row).to_uppercase().as_str() {
            "US-ASCII" => value.iter().map(|b| if b.is_ascii() { char::from(*b) } else { char::REPLACEMENT_CHARACTER }).collect(),
            "ISO-8859-1" => value.iter().map(|b| char::from(*b)).collect(),
            "UTF-8" => String::from_utf8_lossy(value).into_owned(),
            "UTF-16BE" => of_utf16(value, u16::from_be_bytes),
            "UTF-16LE" => of_utf16(value, u16::from_le_bytes),
            "UTF-16" => match value {
                [0xFF, 0xFE, rest @ ..] => of_utf16(rest, u16::from_le_bytes),
                [0xFE, 0xFF, rest @ ..] => of_utf16(rest, u16::from_be_bytes),
                _ => of_utf16(value, u16::from_be_bytes),
            },
            _ => return Err(unrecognized(charsets.value(row))),
        };
        push_text(decoded.as_bytes(), out)
    })
}

fn of_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let lone = (bytes.len() % 2 == 1).then_some(char::REPLACEMENT_CHARACTER);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).chain(lone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_written() {
        assert_eq!(of_escapes(b"a\\\\b\\001\\377"), Some(b"a\\b\x01\xff".to_vec()));
        assert_eq!(of_escapes(b"a\\9"), None);
        assert_eq!(percent_decoded(b"a+b%C3%A4"), Some("a bä".as_bytes().to_vec()));
        assert_eq!(percent_decoded(b"a%C"), None);
        assert_eq!(of_hex("0aFF").unwrap(), [10, 255]);
        assert_eq!(of_hex("0aF").unwrap_err().message, "invalid hexadecimal data: odd number of digits");
        assert_eq!(of_utf16(&[0, 97, 0xD8], u16::from_be_bytes), "a\u{FFFD}");
    }
}
