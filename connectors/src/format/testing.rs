//! What the formats' tests share: columns, and decoded rows as lines of JSON.

use super::{PayloadColumn, Record, RecordDecoder};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use arrow::json::LineDelimitedWriter;
use eddyline_common::{Result, SqlType};
use std::sync::Arc;

pub fn column(name: &str, ty: SqlType) -> PayloadColumn {
    PayloadColumn { external_name: name.to_string(), ty, nullable: true, is_key: false }
}

pub fn keyed(column: PayloadColumn) -> PayloadColumn {
    PayloadColumn { is_key: true, ..column }
}

pub fn decoder(options: &[(&str, &str)], columns: &[PayloadColumn], keyed: bool) -> Result<Box<dyn RecordDecoder>> {
    let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    super::decoder(&options, columns.to_vec(), keyed)
}

/// Weights and rows of all that a decoder holds.
pub fn finished(decoder: &mut dyn RecordDecoder, columns: &[PayloadColumn]) -> Vec<(i64, String)> {
    let rows = decoder.rows();
    let decoded = decoder.finish().unwrap();
    let fields: Vec<Field> = columns.iter().map(|c| c.ty.field(&c.external_name, true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), decoded.columns, &options).unwrap();
    let mut out = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut out);
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let lines = String::from_utf8(out).unwrap();
    let weight = |row: usize| decoded.weights.as_ref().map_or(1, |w| w.value(row));
    lines.lines().enumerate().map(|(row, line)| (weight(row), line.to_string())).collect()
}

/// Weights and rows, or the first record's reason for being refused.
pub fn changes(options: &[(&str, &str)], columns: &[PayloadColumn], records: &[Record], keyed: bool) -> Result<Vec<(i64, String)>, String> {
    let mut decoder = decoder(options, columns, keyed).map_err(|e| e.to_string())?;
    for record in records {
        decoder.push(*record)?;
    }
    Ok(finished(&mut *decoder, columns))
}

pub fn decode(options: &[(&str, &str)], columns: &[PayloadColumn], records: &[&str]) -> Result<Vec<String>, String> {
    let records: Vec<Record> = records.iter().map(|r| Record::of(r.as_bytes())).collect();
    Ok(changes(options, columns, &records, false)?.into_iter().map(|(_, row)| row).collect())
}

pub fn lines(options: &[(&str, &str)], columns: &[PayloadColumn], records: &[&str]) -> Vec<String> {
    decode(options, columns, records).unwrap()
}

pub fn reason(options: &[(&str, &str)], columns: &[PayloadColumn], record: &str) -> String {
    decode(options, columns, &[record]).expect_err(record)
}
