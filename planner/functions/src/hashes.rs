//! SHA-1 and SHA-2. Of a bytea they are bytea, as in PostgreSQL; of a text they are text, as in Flink: hexadecimal digits in lower case.

use super::native::{Arg, Native, map_text, text, texts};
use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use eddyline_common::{SqlError, SqlState, SqlType};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use std::fmt::Write;
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[
    Native::total("sha1", &[Arg::TextOrBytes], &[], as_given, hashed::<Sha1>),
    Native::total("sha224", &[Arg::TextOrBytes], &[], as_given, hashed::<Sha224>),
    Native::total("sha256", &[Arg::TextOrBytes], &[], as_given, hashed::<Sha256>),
    Native::total("sha384", &[Arg::TextOrBytes], &[], as_given, hashed::<Sha384>),
    Native::total("sha512", &[Arg::TextOrBytes], &[], as_given, hashed::<Sha512>),
    Native::total("sha2", &[Arg::Text, Arg::BigInt], &[], text, sha2_of),
];

fn as_given(types: &[DataType]) -> SqlType {
    if types.first().is_some_and(DataType::is_binary) { SqlType::Bytes } else { SqlType::Text }
}

fn hashed<D: Digest>(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    if let Some(values) = args[0].as_binary_opt::<i32>() {
        return Ok(Arc::new(values.iter().map(|bytes| bytes.map(|bytes| D::digest(bytes).to_vec())).collect::<BinaryArray>()));
    }
    let values = texts(&args[0]);
    map_text(args, |row, out| {
        write_hex(&D::digest(values.value(row).as_bytes()), out);
        Ok(true)
    })
}

/// `SHA2(text, bits)`.
fn sha2_of(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, bits) = (texts(&args[0]), args[1].as_primitive::<Int64Type>());
    map_text(args, |row, out| {
        let bytes = values.value(row).as_bytes();
        match bits.value(row) {
            224 => write_hex(&Sha224::digest(bytes), out),
            256 => write_hex(&Sha256::digest(bytes), out),
            384 => write_hex(&Sha384::digest(bytes), out),
            512 => write_hex(&Sha512::digest(bytes), out),
            other => return Err(no_such_length(other)),
        }
        Ok(true)
    })
}

pub fn write_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a string grows");
    }
}

fn no_such_length(bits: impl std::fmt::Display) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, format!("the length of sha2() is 224, 256, 384 or 512, not {bits}"))
}

/// Whether a number, as it is written, is a length of SHA-2.
pub fn check_bits(text: &str) -> Result<(), SqlError> {
    if matches!(text, "224" | "256" | "384" | "512") { Ok(()) } else { Err(no_such_length(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Array, StringArray};

    #[test]
    fn texts_become_digits_and_bytes_bytes() {
        const OF_ABC: &str = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let given: ArrayRef = Arc::new(StringArray::from(vec![Some("abc"), None]));
        let of_text = hashed::<Sha1>(&[given]).unwrap();
        assert_eq!(texts(&of_text).iter().collect::<Vec<_>>(), [Some(OF_ABC), None]);
        let given: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![Some(&b"abc"[..]), None]));
        let of_bytes = hashed::<Sha1>(&[given]).unwrap();
        let mut digits = String::new();
        write_hex(of_bytes.as_binary::<i32>().value(0), &mut digits);
        assert_eq!((digits.as_str(), of_bytes.is_null(1)), (OF_ABC, true));
    }
}
