//! JSON records: one object per record, decoded in a single pass into columns.
//!
//! Hand-written rather than arrow-json, which keeps state between calls (a truncated record glues to
//! the next), stops a whole batch at one bad record, and reads fewer spellings of times and numbers.
//!
//! - A field goes to the column of exactly its name, else to the only column that differs in case.
//! - Unknown fields are checked and ignored. Of a field given twice the last counts.
//! - `null` is NULL; so is a missing field, unless the source says `json.fail-on-missing-field`.
//! - A record is refused as a whole: malformed anywhere, a value its column cannot hold, or no value
//!   for a NOT NULL column.

mod binary;
mod column;
mod cursor;
pub mod encode;
mod fault;
mod fields;
mod numbers;
mod times;

use super::{PayloadColumn, RecordDecoder};
use arrow::array::ArrayRef;
use column::ColumnBuffer;
use cursor::Cursor;
use eddyline_common::Result;
use fields::FieldMap;

pub struct JsonDecoder {
    columns: Vec<PayloadColumn>,
    buffers: Vec<ColumnBuffer>,
    fields: FieldMap,
    rows: usize,
    missing_is_error: bool,
}

impl JsonDecoder {
    pub fn new(columns: Vec<PayloadColumn>, missing_is_error: bool) -> Result<Self> {
        let buffers = columns.iter().map(|c| ColumnBuffer::new(&c.external_name, &c.ty)).collect::<Result<_>>()?;
        let fields = FieldMap::new(columns.iter().map(|c| c.external_name.as_str()));
        Ok(JsonDecoder { columns, buffers, fields, rows: 0, missing_is_error })
    }

    fn push_object(&mut self, record: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(record).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to()))?;
        let mut cursor = Cursor::new(text);
        if cursor.at_end() {
            return Err("an empty record".to_string());
        }
        if !cursor.is_at(b'{') {
            cursor.skip_value(0)?;
            return Err("not a JSON object".to_string());
        }
        let (buffers, rows) = (&mut self.buffers, self.rows);
        self.fields.read_object(&mut cursor, |index, cursor| -> Result<(), String> {
            let buffer = &mut buffers[index];
            buffer.truncate(rows); // an earlier value of the same field
            buffer.push(cursor, 1).map_err(|fault| fault.in_column(&self.columns[index].external_name))
        })?;
        if !cursor.at_end() {
            return Err(cursor.malformed("more after the end of the object"));
        }
        self.fill_missing()
    }

    fn fill_missing(&mut self) -> Result<(), String> {
        for (buffer, column) in self.buffers.iter_mut().zip(&self.columns) {
            let missing = buffer.len() == self.rows;
            if missing && self.missing_is_error {
                return Err(format!("column {}: the field is missing", column.external_name));
            }
            if missing {
                buffer.push_null();
            }
            if !column.nullable && buffer.last_is_null() {
                let what = if missing { "the field is missing" } else { "null" };
                return Err(format!("column {}: {what}, but the column is NOT NULL", column.external_name));
            }
        }
        Ok(())
    }
}

impl RecordDecoder for JsonDecoder {
    fn push(&mut self, record: &[u8]) -> Result<(), String> {
        match self.push_object(record) {
            Ok(()) => {
                self.rows += 1;
                Ok(())
            }
            Err(reason) => {
                self.buffers.iter_mut().for_each(|buffer| buffer.truncate(self.rows));
                Err(reason)
            }
        }
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        self.buffers.iter_mut().map(ColumnBuffer::finish).collect()
    }
}

#[cfg(test)]
mod tests;
