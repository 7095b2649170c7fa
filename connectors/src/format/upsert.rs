//! Records that overwrite by key: a value is the row that its key has from now on, a null value (a tombstone) takes the row
//! away. The key's columns come from the value, or where it lacks them from the record's key.

use super::rows::{Completeness, RowBuilder};
use super::{DecodedRows, PayloadParser, Record, RecordDecoder};
use arrow::array::Int64Array;
use eddyline_common::Result;

pub struct UpsertDecoder {
    row: RowBuilder,
    /// `None` if the primary key is not of the payload: then the connector fills it.
    key: Option<Box<dyn PayloadParser>>,
    value: Box<dyn PayloadParser>,
    /// Values do not hold the key.
    except_key: bool,
    weights: Vec<i64>,
}

impl UpsertDecoder {
    pub fn new(row: RowBuilder, key: Option<Box<dyn PayloadParser>>, value: Box<dyn PayloadParser>, except_key: bool) -> Self {
        UpsertDecoder { row, key, value, except_key, weights: Vec::new() }
    }

    fn push_row(&mut self, record: Record) -> Result<i64, String> {
        let mut key_from_record = self.except_key || record.value.is_none();
        if let Some(value) = record.value {
            self.value.parse(value, &mut self.row)?;
            key_from_record |= record.key.is_some() && !self.row.has_key();
        }
        if let Some(parser) = self.key.as_mut().filter(|_| key_from_record) {
            let key = record.key.ok_or(if record.value.is_none() { "a null value without a key" } else { "a record without a key" })?;
            parser.parse(key, &mut self.row).map_err(|reason| format!("key: {reason}"))?;
        }
        let (completeness, weight) = if record.value.is_some() { (Completeness::Whole, 1) } else { (Completeness::KeyOnly, -1) };
        self.row.end_row(completeness)?;
        Ok(weight)
    }
}

impl RecordDecoder for UpsertDecoder {
    fn prepare(&mut self, record: Record) -> Result<()> {
        if let Some(value) = record.value {
            self.value.prepare(value, self.row.columns())?;
        }
        match (&mut self.key, record.key) {
            (Some(parser), Some(key)) => parser.prepare(key, self.row.columns()),
            _ => Ok(()),
        }
    }

    fn push(&mut self, record: Record) -> Result<usize, String> {
        if record.value.is_some_and(|value| self.is_comment(value)) {
            return Ok(0);
        }
        let rows = self.row.rows();
        let weight = self.push_row(record).inspect_err(|_| self.row.roll_back(rows))?;
        self.weights.push(weight);
        Ok(1)
    }

    fn rows(&self) -> usize {
        self.row.rows()
    }

    fn finish(&mut self) -> Result<DecodedRows> {
        Ok(DecodedRows { columns: self.row.finish()?, weights: weights(&mut self.weights) })
    }

    fn header(&mut self, record: &[u8]) -> Result<(), String> {
        self.value.header(record, self.row.columns())
    }

    fn is_comment(&self, record: &[u8]) -> bool {
        self.value.is_comment(record)
    }
}

/// Leaves the weights out if all are +1.
pub fn weights(weights: &mut Vec<i64>) -> Option<Int64Array> {
    let weights = std::mem::take(weights);
    (!weights.iter().all(|w| *w == 1)).then(|| Int64Array::from(weights))
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::super::testing::{changes, column, keyed};
    use eddyline_common::SqlType::*;

    fn record(key: &'static str, value: Option<&'static str>) -> Record<'static> {
        Record { key: Some(key.as_bytes()), value: value.map(str::as_bytes) }
    }

    #[test]
    fn values_overwrite_and_tombstones_delete() {
        let columns = [keyed(column("id", BigInt)), column("v", Text)];
        let records = [
            record(r#"{"id":1}"#, Some(r#"{"id":1,"v":"a"}"#)),
            record(r#"{"id":2}"#, Some(r#"{"v":"b"}"#)),
            record(r#"{"id":1}"#, None),
            record("3", None),
            record(r#"{"schema":{},"payload":{"id":4}}"#, None),
        ];
        let got = changes(&[("format", "json")], &columns, &records, true).unwrap();
        let expected =
            [(1, r#"{"id":1,"v":"a"}"#), (1, r#"{"id":2,"v":"b"}"#), (-1, r#"{"id":1}"#), (-1, r#"{"id":3}"#), (-1, r#"{"id":4}"#)];
        assert_eq!(got, expected.map(|(w, row)| (w, row.to_string())));
    }

    #[test]
    fn the_key_may_be_apart_and_in_another_format() {
        let columns = [keyed(column("id", Text)), column("v", Text)];
        let options = &[("format", "json"), ("key.format", "raw"), ("value.fields-include", "except_key")];
        let got = changes(options, &columns, &[record("k1", Some(r#"{"v":"a"}"#)), record("k1", None)], true).unwrap();
        assert_eq!(got, [(1, r#"{"id":"k1","v":"a"}"#.to_string()), (-1, r#"{"id":"k1"}"#.to_string())]);
    }

    #[test]
    fn a_row_without_its_key_is_refused() {
        let columns = [keyed(column("id", BigInt)), column("v", Text)];
        let reason = |record| changes(&[("format", "json")], &columns, &[record], true).unwrap_err();
        assert_eq!(reason(Record::of(br#"{"v":"a"}"#)), "column id: the field is missing, but the column is part of the primary key");
        assert_eq!(reason(Record::default()), "a null value without a key");
        assert_eq!(reason(record("abc", None)), "key: malformed JSON at byte 0: not a JSON value");
    }
}
