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
mod connect;
mod cursor;
pub mod encode;
mod fault;
mod fields;
pub mod numbers;
pub mod times;

pub use binary::parse_binary;
pub use column::{ColumnBuffer, Native};
pub use connect::enveloped;
pub use cursor::Cursor;
pub use fault::Fault;
pub use times::NumberUnit;

use super::rows::RowBuilder;
use super::{PayloadColumn, PayloadParser};
use connect::{Described, Meaning};
use fields::FieldMap;

pub struct JsonParser {
    fields: FieldMap,
    /// The row's column of each field.
    columns: Vec<usize>,
    /// A record's key may come with its schema around it, and one that is no object is the value of the only column.
    of_key: bool,
    /// The schema that the newest record came with, and what it says of each field.
    schema: String,
    meanings: Vec<Option<Meaning>>,
}

impl JsonParser {
    /// A parser of the fields that go to `wanted` of the columns.
    pub fn new(columns: &[PayloadColumn], wanted: &[usize]) -> Self {
        let fields = FieldMap::new(wanted.iter().map(|c| columns[*c].external_name.as_str()));
        JsonParser { fields, columns: wanted.to_vec(), of_key: false, schema: String::new(), meanings: Vec::new() }
    }

    /// The same for a record's key.
    pub fn of_key(columns: &[PayloadColumn], wanted: &[usize]) -> Self {
        JsonParser { of_key: true, ..JsonParser::new(columns, wanted) }
    }

    /// Takes note of the schema of what is read next, which is empty if there is none. `within`: as in `Described::by`.
    pub fn meet(&mut self, schema: &str, within: &[&str]) {
        if self.schema == schema {
            return;
        }
        schema.clone_into(&mut self.schema);
        let described = Described::by(schema, within);
        self.meanings = vec![None; self.columns.len()];
        // The field of a column's exact name comes before one that differs in case.
        for exact in [false, true] {
            for (name, meaning) in &described.fields {
                if let Some(index) = self.fields.find(name, exact) {
                    self.meanings[index].clone_from(meaning);
                }
            }
        }
        if self.is_bare() && described.whole.is_some() {
            self.meanings[0] = described.whole;
        }
    }

    fn is_bare(&self) -> bool {
        self.of_key && self.columns.len() == 1
    }

    /// Puts the fields of the object at the cursor.
    #[inline]
    pub fn read_object(&mut self, cursor: &mut Cursor, row: &mut RowBuilder) -> Result<(), String> {
        let (columns, meanings) = (&self.columns, &self.meanings);
        self.fields.read_object(cursor, |index, cursor| put(row, columns[index], meanings.get(index), cursor))
    }
}

#[inline]
fn put(row: &mut RowBuilder, column: usize, meaning: Option<&Option<Meaning>>, cursor: &mut Cursor) -> Result<(), String> {
    match meaning {
        Some(Some(meaning)) => row.put(column, |buffer| buffer.push_meant(cursor, meaning, 1)),
        _ => row.put_json(column, cursor),
    }
}

impl PayloadParser for JsonParser {
    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        let mut cursor = Cursor::new(text_of(payload)?);
        if cursor.at_end() {
            return Err("an empty record".to_string());
        }
        let within = if self.of_key { enveloped(cursor) } else { None };
        self.meet(within.map_or("", |(schema, _)| schema), &[]);
        if let Some((_, mut inner)) = within {
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
        if self.is_bare() {
            return put(row, self.columns[0], self.meanings.first(), cursor);
        }
        cursor.skip_value(0)?;
        Err("not a JSON object".to_string())
    }
}

pub fn text_of(record: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(record).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to()))
}

#[cfg(test)]
mod tests;
