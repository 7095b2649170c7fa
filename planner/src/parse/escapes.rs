//! Escapes of a NUL in `E'...'`, which no text holds: sqlparser says of such a literal that its quote is missing.

use crate::error::SourceText;
use datafusion::sql::sqlparser::tokenizer::Location;
use eddyline_common::{SqlError, SqlState};

/// The error of an `E'...'` at `location` that has such an escape.
pub fn nul_at(location: Location, text: &SourceText) -> Option<SqlError> {
    let end = Location { line: u64::MAX, column: 1 };
    let literal = text.slice(location, end).strip_prefix(['E', 'e'])?.strip_prefix('\'')?;
    let error = SqlError::new(SqlState::BAD_CHARACTER, "invalid byte sequence for encoding \"UTF8\": 0x00");
    writes_nul(literal).then(|| text.at(error, location))
}

/// Whether what stands behind the opening quote has an escape of a NUL before its closing one.
fn writes_nul(literal: &str) -> bool {
    let mut rest = literal;
    while let Some(at) = rest.find(['\\', '\'']) {
        let (found, behind) = rest[at..].split_at(1);
        let (longest, radix, digits) = match behind.chars().next() {
            // A quote twice is one in the text.
            Some('\'') if found == "'" => (0, 8, &behind[1..]),
            Some('0'..='7') if found == "\\" => (3, 8, behind),
            Some('x') if found == "\\" => (2, 16, &behind[1..]),
            Some('u') if found == "\\" => (4, 16, &behind[1..]),
            Some('U') if found == "\\" => (8, 16, &behind[1..]),
            Some(other) if found == "\\" => (0, 8, &behind[other.len_utf8()..]),
            _ => return false,
        };
        let count = digits.chars().take(longest).take_while(|c| c.is_digit(radix)).count();
        if count > 0 && digits[..count].bytes().all(|b| b == b'0') {
            return true;
        }
        rest = &digits[count..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_nul_are_found() {
        for literal in [r"\0'", r"a\000b'", r"\x0'", r"\x00'", r"\u0000'", r"\U00000000'", r"it''s\0'", r"\\\0'", r"é\0'"] {
            assert!(writes_nul(literal), "{literal}");
        }
        for literal in [r"a' \0", r"\\0'", r"\001'", r"\x01'", r"\u0001'", r"\n'", r"\'", "", r"\", r"\xg'", r"\é'"] {
            assert!(!writes_nul(literal), "{literal}");
        }
    }
}
