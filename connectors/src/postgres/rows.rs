//! Rows of a query, in PostgreSQL's binary form, as columns of ours. A row with a value that its column cannot hold is refused, and with
//! it all rows of its key: whoever asked would take a part for the whole.

use super::table::Keys;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema};
use eddyline_common::connector::{LookupAnswer, SourceColumn};
use eddyline_common::postgres::decode::ColumnBuilder;
use eddyline_common::postgres::parse::fitting;
use eddyline_common::{Result, SqlError};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

/// A value as it came.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_ty: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }
}

/// What has come of an answer.
pub struct Rows<'a> {
    columns: Vec<&'a SourceColumn>,
    builders: Vec<ColumnBuilder>,
    /// By row: the key it was found for.
    keys: Vec<u32>,
    refused: BTreeMap<u32, String>,
}

impl<'a> Rows<'a> {
    pub fn new(columns: Vec<&'a SourceColumn>) -> Result<Self> {
        let builders = columns.iter().map(|column| ColumnBuilder::new(&column.ty)).collect::<Result<Vec<_>>>()?;
        Ok(Rows { columns, builders, keys: Vec::new(), refused: BTreeMap::new() })
    }

    /// A row: the number of its key among those that were asked for, from one on, and the columns.
    pub fn push(&mut self, row: &Row, asked: &Keys) -> Result<()> {
        let number: i64 = row.try_get(0).map_err(SqlError::internal)?;
        let place = usize::try_from(number - 1).ok().and_then(|at| asked.places.get(at));
        let key = *place.ok_or_else(|| SqlError::internal("an answer is to no question"))?;
        self.keys.push(key);
        for (at, (column, builder)) in self.columns.iter().zip(&mut self.builders).enumerate() {
            let value: Option<Raw> = row.try_get(at + 1).map_err(SqlError::internal)?;
            let appended = match value {
                None if !column.nullable => Err("is null".to_string()),
                None => {
                    builder.append_null();
                    continue;
                }
                Some(Raw(bytes)) => limited(column, bytes)
                    .and_then(|bytes| builder.append_binary(bytes).map_err(|e| format!("is no {} here: {}", column.ty, e.message))),
            };
            if let Err(why) = appended {
                // Columns stay of one length; the row is left out below.
                builder.append_null();
                self.refused.entry(key).or_insert_with(|| format!("column \"{}\" of what was looked up {why}", column.external_name));
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<LookupAnswer> {
        let fields: Vec<Field> = self.columns.iter().map(|column| column.ty.field(&column.external_name, true)).collect();
        let arrays = self.builders.into_iter().map(ColumnBuilder::finish).collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.keys.len()));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
        if self.refused.is_empty() {
            return Ok(LookupAnswer { rows, keys: self.keys, refused: Vec::new() });
        }
        let is_kept = |key: &u32| !self.refused.contains_key(key);
        let kept: Vec<bool> = self.keys.iter().map(is_kept).collect();
        let keys = self.keys.iter().copied().filter(is_kept).collect();
        let rows = filter_record_batch(&rows, &BooleanArray::from(kept))?;
        Ok(LookupAnswer { rows, keys, refused: self.refused.into_iter().collect() })
    }
}

/// A text without blanks behind as many characters as it may have, or why there is none.
fn limited<'a>(column: &SourceColumn, bytes: &'a [u8]) -> Result<&'a [u8], String> {
    let Some(length) = column.length else { return Ok(bytes) };
    let fit = std::str::from_utf8(bytes).ok().and_then(|text| fitting(text, length));
    fit.map(str::as_bytes).ok_or_else(|| format!("is longer than {length} characters"))
}
