//! Rows under construction: one buffer per column, filled field by field. A row that is not ended leaves no trace. A column that nobody reads
//! is checked value by value and not kept: it comes as nulls.

use super::PayloadColumn;
use super::json::{ColumnBuffer, Cursor, Fault, NumberUnit};
use arrow::array::{ArrayRef, new_null_array};
use eddyline_common::Result;

/// How values are spelled, as far as the source's options say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spelling {
    pub number_unit: NumberUnit,
    /// A field that is missing is not the same as null.
    pub missing_is_error: bool,
}

/// What a row must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Every column that is NOT NULL.
    Whole,
    /// Its key: the rest of it is gone.
    KeyOnly,
}

pub struct RowBuilder {
    columns: Vec<PayloadColumn>,
    buffers: Vec<ColumnBuffer>,
    /// The buffers of other columns hold the row under construction at most.
    kept: Vec<bool>,
    rows: usize,
    missing_is_error: bool,
}

impl RowBuilder {
    /// Fails on columns of types that no record has.
    pub fn new(columns: Vec<PayloadColumn>, spelling: Spelling) -> Result<Self> {
        let buffer = |c: &PayloadColumn| ColumnBuffer::new(&c.external_name, &c.ty, spelling.number_unit);
        let buffers = columns.iter().map(buffer).collect::<Result<_>>()?;
        let kept = vec![true; columns.len()];
        Ok(RowBuilder { columns, buffers, kept, rows: 0, missing_is_error: spelling.missing_is_error })
    }

    /// Only these columns are kept, and those that are NOT NULL or part of the key. While there are no rows.
    pub fn keep(&mut self, kept: &[bool]) {
        assert_eq!(self.rows, 0, "rows are of one kind");
        self.kept = self.columns.iter().zip(kept).map(|(column, kept)| *kept || !column.nullable || column.is_key).collect();
    }

    /// How long a column's buffer is without the row under construction.
    #[inline]
    fn ended(&self, column: usize) -> usize {
        if self.kept[column] { self.rows } else { 0 }
    }

    pub fn columns(&self) -> &[PayloadColumn] {
        &self.columns
    }

    /// Rows that are ended.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Puts one field of the row under construction, in place of an earlier value of it.
    #[inline]
    pub fn put(&mut self, column: usize, value: impl FnOnce(&mut ColumnBuffer) -> Result<(), Fault>) -> Result<(), String> {
        let ended = self.ended(column);
        let buffer = &mut self.buffers[column];
        buffer.truncate(ended);
        let declared = &self.columns[column];
        value(buffer).map_err(|fault| fault.in_column(&declared.external_name))?;
        match declared.length {
            Some(length) if !buffer.limit_last(length) => Err(declared.too_long(length)),
            _ => Ok(()),
        }
    }

    /// The same with the JSON value at the cursor, which for a column that nobody reads is not made if it is one that needs only be looked at.
    /// How long a text is, is known of one that is made.
    #[inline]
    pub fn put_json(&mut self, column: usize, cursor: &mut Cursor) -> Result<(), String> {
        if !self.kept[column] && self.columns[column].length.is_none() && self.buffers[column].pass(cursor, 1) {
            return Ok(());
        }
        self.put(column, |buffer| buffer.push(cursor, 1))
    }

    /// Whether the row under construction has all of its key.
    pub fn has_key(&self) -> bool {
        self.buffers.iter().zip(&self.columns).filter(|(_, c)| c.is_key).all(|(b, _)| b.len() > self.rows && !b.last_is_null())
    }

    /// Ends the row: what has not been put is missing.
    pub fn end_row(&mut self, completeness: Completeness) -> Result<(), String> {
        for ((buffer, column), kept) in self.buffers.iter_mut().zip(&self.columns).zip(&self.kept) {
            let wanted = completeness == Completeness::Whole || column.is_key;
            let missing = buffer.len() == if *kept { self.rows } else { 0 };
            if missing && self.missing_is_error && wanted {
                return Err(format!("column {}: the field is missing", column.external_name));
            }
            if !kept {
                buffer.truncate(0);
                continue;
            }
            if missing {
                buffer.push_null();
            }
            if wanted && buffer.last_is_null() && (!column.nullable || column.is_key) {
                let what = if missing { "the field is missing" } else { "null" };
                let why = if column.is_key { "part of the primary key" } else { "NOT NULL" };
                return Err(format!("column {}: {what}, but the column is {why}", column.external_name));
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Takes back everything after the first `rows` rows.
    pub fn roll_back(&mut self, rows: usize) {
        self.buffers.iter_mut().zip(&self.kept).for_each(|(buffer, kept)| buffer.truncate(if *kept { rows } else { 0 }));
        self.rows = rows;
    }

    /// Whether two rows have surely the same key.
    pub fn same_key(&self, a: usize, b: usize) -> bool {
        self.buffers.iter().zip(&self.columns).filter(|(_, c)| c.is_key).all(|(buffer, _)| buffer.are_equal(a, b))
    }

    /// The rows as columns; the builder is empty afterwards.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let rows = std::mem::take(&mut self.rows);
        let column = |((buffer, column), kept): ((&mut ColumnBuffer, &PayloadColumn), &bool)| {
            if *kept { buffer.finish() } else { Ok(new_null_array(&column.ty.to_arrow(), rows)) }
        };
        self.buffers.iter_mut().zip(&self.columns).zip(&self.kept).map(column).collect()
    }
}
