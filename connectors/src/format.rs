//! Record formats: bytes of one record in, one row of Arrow columns out. A decoder keeps a batch under
//! construction. Invariant: a record that cannot be decoded leaves no trace in the batch. Decoders
//! know nothing of where records come from.

pub mod csv;
pub mod debezium;
pub mod json;

use arrow::array::ArrayRef;
use eddyline_common::connector::UndecodableRecord;
use eddyline_common::options;
use eddyline_common::{Offset, Result, SqlError, SqlType};
use std::collections::BTreeMap;

/// A field of a record as a decoder fills it.
#[derive(Clone, Debug)]
pub struct PayloadColumn {
    /// The field's name in the record.
    pub external_name: String,
    pub ty: SqlType,
    pub nullable: bool,
}

/// Builds columns from records, one row per good record.
pub trait RecordDecoder: Send {
    /// Appends one row, or says why the record cannot be decoded and appends nothing.
    fn push(&mut self, record: &[u8]) -> Result<(), String>;

    /// Rows appended since the last `finish`.
    fn rows(&self) -> usize;

    /// The rows as columns, in the order of the decoder's columns; the decoder is empty afterwards.
    fn finish(&mut self) -> Result<Vec<ArrayRef>>;
}

/// The decoder that canonical `options` ask for. Fails on columns of types the format has no form for.
pub fn decoder(options: &BTreeMap<String, String>, columns: Vec<PayloadColumn>) -> Result<Box<dyn RecordDecoder>> {
    match options.get(options::FORMAT).map(String::as_str) {
        Some("json") => {
            let missing_is_error = options::boolean(options, options::JSON_FAIL_ON_MISSING);
            Ok(Box::new(json::JsonDecoder::new(columns, missing_is_error)?))
        }
        Some(other) => Err(SqlError::unsupported(format!("format \"{other}\" is not supported"))),
        None => Err(SqlError::new(eddyline_common::SqlState::INVALID_PARAMETER, "the source needs the option \"format\"")),
    }
}

/// Characters of a record that an undecodable record's excerpt shows.
const EXCERPT_BYTES_MAX: usize = 256;

/// What the relation of undecodable records keeps of one.
pub fn undecodable(offset: Offset, reason: String, record: &[u8]) -> UndecodableRecord {
    let mut end = record.len().min(EXCERPT_BYTES_MAX);
    while end < record.len() && end > 0 && record[end] & 0xC0 == 0x80 {
        end -= 1; // not in the middle of a character
    }
    // PostgreSQL text holds no NUL.
    UndecodableRecord { offset, reason, excerpt: String::from_utf8_lossy(&record[..end]).replace('\0', "\u{FFFD}") }
}
