//! JSON records: one object per record, decoded in a single pass into columns.
//!
//! Hand-written rather than arrow-json, which keeps state between calls (a truncated record glues to
//! the next), stops a whole batch at one bad record, and reads fewer spellings of times and numbers.
//!
//! - A field goes to the column of exactly its name, else to the only column that differs in case.
//! - Unknown fields are checked and ignored. Of a field given twice the last counts.
//! - `null` is NULL; so is a missing field, unless the source says `json.fail-on-missing-field`.
//! - A record is refused as a whole: malformed anywhere, a value its column cannot hold, or no value
//!   for a NOT NULL column. Also for a column that nobody reads, of which values are checked and not made.

mod binary;
mod column;
mod cursor;
pub mod encode;
mod fault;
mod fields;
pub mod numbers;
pub mod times;

pub use binary::parse_binary;
pub use column::{ColumnBuffer, Native};
pub use cursor::Cursor;
pub use fault::Fault;
pub use times::NumberUnit;

use super::rows::RowBuilder;
use super::{PayloadColumn, PayloadParser};
use fields::FieldMap;

pub struct JsonParser {
    fields: FieldMap,
    /// The row's column of each field.
    columns: Vec<usize>,
    /// A record that is no object is the value of the only column: as a record's key may be.
    bare: bool,
}

impl JsonParser {
    /// A parser of the fields that go to `wanted` of the columns.
    pub fn new(columns: &[PayloadColumn], wanted: &[usize]) -> Self {
        let fields = FieldMap::new(wanted.iter().map(|c| columns[*c].external_name.as_str()));
        JsonParser { fields, columns: wanted.to_vec(), bare: false }
    }

    /// The same for a record's key.
    pub fn of_key(columns: &[PayloadColumn], wanted: &[usize]) -> Self {
        JsonParser { bare: wanted.len() == 1, ..JsonParser::new(columns, wanted) }
    }

    /// Puts the fields of the object at the cursor.
    #[inline]
    pub fn read_object(&mut self, cursor: &mut Cursor, row: &mut RowBuilder) -> Result<(), String> {
        let columns = &self.columns;
        self.fields.read_object(cursor, |index, cursor| row.put_json(columns[index], cursor))
    }
}

impl PayloadParser for JsonParser {
    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        let mut cursor = Cursor::new(text_of(payload)?);
        if cursor.at_end() {
            return Err("an empty record".to_string());
        }
        if let Some(mut inner) = if self.bare { enveloped(cursor) } else { None } {
            return self.read_value(&mut inner, row);
        }
        self.read_value(&mut cursor, row)?;
        if !cursor.at_end() {
            return Err(cursor.malformed("more after the end of the object"));
        }
        Ok(())
    }
}

impl JsonParser {
    fn read_value(&mut self, cursor: &mut Cursor, row: &mut RowBuilder) -> Result<(), String> {
        if cursor.is_at(b'{') {
            return self.read_object(cursor, row);
        }
        if self.bare {
            return row.put_json(self.columns[0], cursor);
        }
        cursor.skip_value(0)?;
        Err("not a JSON object".to_string())
    }
}

/// The payload within `{"schema": ..., "payload": ...}`, as Kafka Connect writes records with their schema.
pub fn enveloped(cursor: Cursor) -> Option<Cursor> {
    let (mut schema, mut payload) = (false, None);
    let mut members = cursor;
    if !members.is_at(b'{') {
        return None;
    }
    let read = members.read_members(|name, cursor| -> Result<(), String> {
        match name.raw {
            "schema" => schema = true,
            "payload" => payload = Some(*cursor),
            _ => return Err("another object".to_string()),
        }
        cursor.skip_value(1).map(drop)
    });
    payload.filter(|_| schema && read.is_ok() && members.at_end())
}

pub fn text_of(record: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(record).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to()))
}

#[cfg(test)]
mod tests;
