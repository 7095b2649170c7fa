//! Raw records: a record is the value of the only column. Numbers are their bytes, in the order that `raw.endianness` says.

use super::json::{Native, text_of};
use super::rows::RowBuilder;
use super::{PayloadColumn, PayloadParser};
use eddyline_common::{Result, SqlError, SqlState, SqlType};

pub struct RawParser {
    column: usize,
    ty: SqlType,
    little_endian: bool,
}

impl RawParser {
    pub fn new(columns: &[PayloadColumn], wanted: &[usize], little_endian: bool) -> Result<Self> {
        let [column] = wanted else {
            let message = format!("format \"raw\" fills exactly one column, not {}", wanted.len());
            return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message)
                .with_hint("Declare one column for the record, and the others as metadata or computed columns."));
        };
        use SqlType::*;
        let ty = columns[*column].ty.clone();
        if !matches!(ty, Text | Json | Bytes | Boolean | SmallInt | Integer | BigInt | Real | Double) {
            return Err(SqlError::unsupported(format!("format \"raw\" cannot fill a column of type {ty}")));
        }
        Ok(RawParser { column: *column, ty, little_endian })
    }
}

impl PayloadParser for RawParser {
    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        let little = self.little_endian;
        macro_rules! number {
            ($ty:ty) => {{
                let size = size_of::<$ty>();
                let wrong = |_| format!("{} bytes where {} has {size}", payload.len(), self.ty);
                let bytes = payload.try_into().map_err(wrong)?;
                if little { <$ty>::from_le_bytes(bytes) } else { <$ty>::from_be_bytes(bytes) }
            }};
        }
        let value = match &self.ty {
            SqlType::Bytes => Native::Bytes(payload),
            SqlType::Boolean => match payload {
                [byte] => Native::Boolean(*byte != 0),
                _ => return Err(format!("{} bytes where boolean has 1", payload.len())),
            },
            SqlType::SmallInt => Native::Integer(number!(i16).into()),
            SqlType::Integer => Native::Integer(number!(i32).into()),
            SqlType::BigInt => Native::Integer(number!(i64)),
            SqlType::Real => Native::Float(number!(f32).into()),
            SqlType::Double => Native::Float(number!(f64)),
            SqlType::Json => {
                let mut cursor = super::json::Cursor::new(text_of(payload)?);
                return row.put(self.column, |buffer| {
                    buffer.push(&mut cursor, 1)?;
                    if cursor.at_end() { Ok(()) } else { Err(cursor.malformed("more after the end of the value").into()) }
                });
            }
            _ => Native::Text(text_of(payload)?),
        };
        row.put(self.column, |buffer| buffer.put_native(value))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{column, decode, lines, reason};
    use eddyline_common::SqlType::*;

    const RAW: &[(&str, &str)] = &[("format", "raw")];

    #[test]
    fn one_column_is_the_record() {
        assert_eq!(lines(RAW, &[column("t", Text)], &["", "a,\"b\"\n"]), [r#"{"t":""}"#, r#"{"t":"a,\"b\"\n"}"#]);
        assert_eq!(lines(RAW, &[column("n", Integer)], &["\0\0\u{1}\0"]), [r#"{"n":256}"#]);
        assert_eq!(
            lines(&[("format", "raw"), ("raw.endianness", "little-endian")], &[column("n", SmallInt)], &["\u{1}\0"]),
            [r#"{"n":1}"#]
        );
        assert_eq!(lines(RAW, &[column("j", Json)], &["[1, 2]"]), [r#"{"j":"[1, 2]"}"#]);
    }

    #[test]
    fn malformed_records_say_why() {
        assert_eq!(reason(RAW, &[column("n", BigInt)], "1"), "1 bytes where bigint has 8");
        assert_eq!(
            reason(RAW, &[column("j", Json)], "[1"),
            "malformed JSON at byte 2 (the end): a comma or the end of the array must come here"
        );
        assert!(decode(RAW, &[column("a", Text), column("b", Text)], &[]).is_err());
        assert!(decode(RAW, &[column("a", Date)], &[]).is_err());
    }
}
