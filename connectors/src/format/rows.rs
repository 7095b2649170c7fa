//! Rows under construction: one buffer per column, filled field by field. A row that is not ended leaves no trace.

use super::PayloadColumn;
use super::json::{ColumnBuffer, Fault, NumberUnit};
use arrow::array::ArrayRef;
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
    rows: usize,
    missing_is_error: bool,
}

impl RowBuilder {
    /// Fails on columns of types that no record has.
    pub fn new(columns: Vec<PayloadColumn>, spelling: Spelling) -> Result<Self> {
        let buffer = |c: &PayloadColumn| ColumnBuffer::new(&c.external_name, &c.ty, spelling.number_unit);
        let buffers = columns.iter().map(buffer).collect::<Result<_>>()?;
        Ok(RowBuilder { columns, buffers, rows: 0, missing_is_error: spelling.missing_is_error })
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
        let buffer = &mut self.buffers[column];
        buffer.truncate(self.rows);
        value(buffer).map_err(|fault| fault.in_column(&self.columns[column].external_name))
    }

    /// Whether the row under construction has all of its key.
    pub fn has_key(&self) -> bool {
        self.buffers.iter().zip(&self.columns).filter(|(_, c)| c.is_key).all(|(b, _)| b.len() > self.rows && !b.last_is_null())
    }

    /// Ends the row: what has not been put is missing.
    pub fn end_row(&mut self, completeness: Completeness) -> Result<(), String> {
        for (buffer, column) in self.buffers.iter_mut().zip(&self.columns) {
            let wanted = completeness == Completeness::Whole || column.is_key;
            let missing = buffer.len() == self.rows;
            if missing && self.missing_is_error && wanted {
                return Err(format!("column {}: the field is missing", column.external_name));
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
        self.buffers.iter_mut().for_each(|buffer| buffer.truncate(rows));
        self.rows = rows;
    }

    /// Whether two rows have surely the same key.
    pub fn same_key(&self, a: usize, b: usize) -> bool {
        self.buffers.iter().zip(&self.columns).filter(|(_, c)| c.is_key).all(|(buffer, _)| buffer.are_equal(a, b))
    }

    /// The rows as columns; the builder is empty afterwards.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        self.buffers.iter_mut().map(ColumnBuffer::finish).collect()
    }
}
