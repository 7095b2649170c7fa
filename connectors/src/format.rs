//! Record formats: bytes of one record in, rows of Arrow columns out.
//!
//! Two layers. A *parser* (`json`, `csv`, `raw`, `avro`, `protobuf`) puts one payload's fields into the row under construction. A *decoder*
//! says what a record does to the relation: one row each (`plain`), an overwrite or a deletion by key (`upsert`), or the
//! change that a change-data-capture envelope describes (`debezium`). Invariant: a record that cannot be decoded leaves no
//! trace. Neither layer knows where records come from. `describe` is beside them: what a format says before there are records.

mod avro;
pub mod csv;
pub mod debezium;
mod describe;
pub mod encoder;
pub mod json;
mod plain;
pub mod protobuf;
mod raw;
mod registry;
mod rows;
pub mod split;
mod upsert;

pub use describe::{Description, describe};

use arrow::array::{ArrayRef, Int64Array};
use eddyline_common::connector::UndecodableRecord;
use eddyline_common::{Offset, Result, SqlError, SqlState, SqlType, options};
use json::NumberUnit;
use rows::{RowBuilder, Spelling};
use std::collections::BTreeMap;

/// A field of a record as a decoder fills it.
#[derive(Clone, Debug)]
pub struct PayloadColumn {
    /// The field's name in the record.
    pub external_name: String,
    pub ty: SqlType,
    pub nullable: bool,
    /// So many characters a text may have.
    pub length: Option<u32>,
    /// Part of the primary key by which the source overwrites.
    pub is_key: bool,
}

impl PayloadColumn {
    /// Why a text of it does not fit.
    pub fn too_long(&self, length: u32) -> String {
        format!("column {}: the text is longer than {length} characters", self.external_name)
    }
}

/// A record as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    pub key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub value: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    pub fn of(value: &'a [u8]) -> Self {
        Record { key: None, value: Some(value) }
    }
}

/// Decoded rows, with weights as in a change batch. Where the source is keyed, -1 says that the row with this key is
/// gone, and the other columns mean nothing.
pub struct DecodedRows {
    pub columns: Vec<ArrayRef>,
    /// `None`: +1 each.
    pub weights: Option<Int64Array>,
}

/// Builds columns from records.
pub trait RecordDecoder: Send {
    /// Fetches what decoding the record needs from elsewhere. An error is trouble, not the record's: the record must be
    /// tried again. Called before `push`; nearly always there is nothing to do.
    fn prepare(&mut self, _record: Record) -> Result<()> {
        Ok(())
    }

    /// Appends the record's rows and says how many: mostly one, two for an update, none for a record that changes
    /// nothing. Or says why the record cannot be decoded and appends nothing.
    fn push(&mut self, record: Record) -> Result<usize, String>;

    /// Rows appended since the last `finish`.
    fn rows(&self) -> usize;

    /// The rows, in the order of the decoder's columns; the decoder is empty afterwards.
    fn finish(&mut self) -> Result<DecodedRows>;

    /// Columns that are not `kept` are checked and come as nulls, unless they are NOT NULL. Before the first record.
    fn keep(&mut self, _kept: &[bool]) {}

    /// Takes a file's header: fields come in its order from now on.
    fn header(&mut self, record: &[u8]) -> Result<(), String>;

    /// A value that is there for human readers, which `push` passes over.
    fn is_comment(&self, value: &[u8]) -> bool;
}

/// Takes payloads apart.
trait PayloadParser: Send {
    /// Fetches what parsing the payload needs from elsewhere.
    fn prepare(&mut self, _payload: &[u8], _columns: &[PayloadColumn]) -> Result<()> {
        Ok(())
    }

    /// Puts the payload's fields into the row under construction; what it does not put is missing. After an error the caller
    /// takes the row back.
    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String>;

    fn header(&mut self, _record: &[u8], _columns: &[PayloadColumn]) -> Result<(), String> {
        Err("the format has no header".to_string())
    }

    fn is_comment(&self, _record: &[u8]) -> bool {
        false
    }
}

/// The decoder that canonical `options` ask for. `keyed`: the source overwrites by key. Fails on columns of types the
/// format has no form for.
pub fn decoder(options: &BTreeMap<String, String>, columns: Vec<PayloadColumn>, keyed: bool) -> Result<Box<dyn RecordDecoder>> {
    let invalid = |message: &str| SqlError::new(SqlState::INVALID_PARAMETER, message);
    let format = options.get(options::FORMAT).map(String::as_str).ok_or_else(|| invalid("the source needs the option \"format\""))?;
    let row = RowBuilder::new(columns.clone(), spelling(options))?;
    if format == "debezium-json" {
        return Ok(Box::new(debezium::DebeziumDecoder::new(row, keyed)));
    }
    let all: Vec<usize> = (0..columns.len()).collect();
    if !keyed {
        return Ok(Box::new(plain::PlainDecoder::new(row, parser(format, options, &columns, &all)?)));
    }
    let (in_key, in_value): (Vec<usize>, Vec<usize>) = all.iter().partition(|c| columns[**c].is_key);
    let except_key = options.get(options::VALUE_FIELDS).is_some_and(|fields| fields == "except_key");
    let wanted = if except_key { &in_value } else { &all };
    let key = match options.get(options::KEY_FORMAT).map_or(format, String::as_str) {
        _ if in_key.is_empty() => None,
        "json" => Some(Box::new(json::JsonParser::of_key(&columns, &in_key)) as Box<dyn PayloadParser>),
        "avro" => Some(Box::new(avro::AvroParser::of_key(&columns, &in_key)?) as Box<dyn PayloadParser>),
        "protobuf" => Some(parser("protobuf", &protobuf::options_of_key(options)?, &columns, &in_key)?),
        key_format => Some(parser(key_format, options, &columns, &in_key)?),
    };
    if except_key && key.is_none() {
        return Err(invalid("the option \"value.fields-include\" = \"EXCEPT_KEY\" needs a primary key of fields"));
    }
    Ok(Box::new(upsert::UpsertDecoder::new(row, key, parser(format, options, &columns, wanted)?, except_key)))
}

/// A row from texts as CSV has them, `None` for NULL; or why there is none.
pub fn row_of_texts(columns: &[PayloadColumn], texts: &[Option<&str>]) -> Result<Result<Vec<ArrayRef>, String>> {
    let syntax = csv::CsvSyntax::new(&BTreeMap::new())?;
    let mut row = RowBuilder::new(columns.to_vec(), Spelling::default())?;
    let mut values = texts.iter().enumerate();
    let put = values.try_for_each(|(column, text)| csv::put_field(&syntax, column, text.unwrap_or_default(), text.is_some(), &mut row));
    match put.and_then(|()| row.end_row(rows::Completeness::Whole)) {
        Ok(()) => Ok(Ok(row.finish()?)),
        Err(why) => Ok(Err(why)),
    }
}

fn parser(format: &str, options: &BTreeMap<String, String>, columns: &[PayloadColumn], wanted: &[usize]) -> Result<Box<dyn PayloadParser>> {
    match format {
        "json" => Ok(Box::new(json::JsonParser::new(columns, wanted))),
        "avro" => Ok(Box::new(avro::AvroParser::new(options, columns, wanted)?)),
        "avro-confluent" => Ok(Box::new(avro::ConfluentParser::new(options, wanted)?)),
        "protobuf" => protobuf::parser(options, columns, wanted),
        "csv" => Ok(Box::new(csv::CsvParser::new(csv::CsvSyntax::new(options)?, wanted))),
        "raw" => {
            let little_endian = options.get(options::RAW_ENDIANNESS).is_some_and(|order| order == "little-endian");
            Ok(Box::new(raw::RawParser::new(columns, wanted, little_endian)?))
        }
        other => Err(SqlError::unsupported(format!("format \"{other}\" is not supported"))),
    }
}

fn spelling(options: &BTreeMap<String, String>) -> Spelling {
    let number_unit = match options.get(options::TIMESTAMP_UNIT).map(String::as_str) {
        Some("second") => NumberUnit::Seconds,
        Some("micro") => NumberUnit::Micros,
        Some("nano") => NumberUnit::Nanos,
        _ => NumberUnit::Millis,
    };
    Spelling { number_unit, missing_is_error: options::boolean(options, options::JSON_FAIL_ON_MISSING) }
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

#[cfg(test)]
mod testing;
