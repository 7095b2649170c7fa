//! Parquet files as a source: rows by number, columns by name, of these only what the source declares. Pages are read as they are
//! needed, never a file or a row group at once. A row with a value that does not fit its column is refused alone; a file that is no
//! Parquet file, or is damaged, is refused from there on.
//!
//! Which rows are refused must not depend on which columns are read. So only those are left out that no row depends on: any value of the
//! file fits them, and null does. If such a column is damaged its values cannot be read, which concerns those who read it, and the rows stay.

mod fit;
mod wide_times;

use super::stored::{StoredBytes, StoredFile};
use super::text::Fault;
use crate::format::PayloadColumn;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::filter;
use bytes::Bytes;
use eddyline_common::postgres::parse::{cut, fitting};
use eddyline_common::{Result, SqlType};
use fit::Fit;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Rows of a batch, and what they should not exceed by much when they are unpacked.
const ROWS_MAX: usize = 8_192;
const BATCH_BYTES: u64 = 4 << 20;

/// What the library reads from.
struct Chunks(Arc<StoredFile>);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.file.bytes
    }
}

impl ChunkReader for Chunks {
    type T = StoredBytes;

    fn get_read(&self, start: u64) -> Result<StoredBytes, ParquetError> {
        Ok(self.0.reader(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.range(start, length).map_err(|e| ParquetError::External(Box::new(e)))
    }
}

/// Rows of a file, in the columns that the source declares.
pub struct Rows {
    pub columns: Vec<ArrayRef>,
    /// How many rows of the file these were.
    pub total: usize,
    /// Which of them are not in the columns, and why.
    pub refused: Refused,
    /// Columns that are null because they cannot be read, and why.
    pub unreadable: Vec<(usize, String)>,
}

/// By row. Mostly empty.
type Refused = BTreeMap<usize, String>;

pub struct ParquetRows<'a> {
    reader: ParquetRecordBatchReader,
    stored: Arc<StoredFile>,
    payload: &'a [PayloadColumn],
    columns: Vec<Column>,
    /// The next row of the file.
    row: u64,
    /// Of how many rows a batch is, from the file's first row on: alike whichever columns are read, and from where on.
    batch_rows: usize,
}

/// Where the values of a declared column are.
enum Column {
    /// The file has none.
    Absent,
    /// Nobody reads them.
    Unread,
    Read {
        /// Among the file's columns.
        root: usize,
        fit: Fit,
        /// No value of it makes a row one that is refused.
        is_optional: bool,
        /// Why it cannot be read in this batch.
        broken: Option<String>,
    },
}

impl<'a> ParquetRows<'a> {
    /// From a row on. Columns that are not `kept` are not read if no row depends on them.
    pub fn open(
        stored: Arc<StoredFile>,
        payload: &'a [PayloadColumn],
        kept: &[bool],
        unit: arrow::datatypes::TimeUnit,
        row: u64,
    ) -> Result<Self, Fault> {
        let builder = builder_of(&stored)?;
        let fields = builder.schema().fields().clone();
        let named = |column: &PayloadColumn| {
            let exact = fields.iter().position(|f| *f.name() == column.external_name);
            exact.or_else(|| fields.iter().position(|f| f.name().eq_ignore_ascii_case(&column.external_name)))
        };
        let mut declared = Vec::new();
        let mut columns = Vec::with_capacity(payload.len());
        for (column, kept) in payload.iter().zip(kept) {
            let Some(root) = named(column) else {
                columns.push(Column::Absent);
                continue;
            };
            declared.push(root);
            let fit = Fit::new(fields[root].data_type(), &column.ty, unit)
                .map_err(|why| Fault::Content(format!("column {}: {why}", column.external_name)))?;
            let is_checked = !column.nullable || column.is_key || column.ty == SqlType::Json || column.length.is_some();
            let is_optional = !is_checked && fit.is_total();
            columns.push(if is_optional && !kept { Column::Unread } else { Column::Read { root, fit, is_optional, broken: None } });
        }
        let batch_rows = batch_rows(builder.metadata(), &ProjectionMask::roots(builder.parquet_schema(), declared));
        let reader = reader_of(builder, &stored, roots(&columns), row - row % batch_rows as u64, batch_rows)?;
        Ok(ParquetRows { reader, stored, payload, columns, row, batch_rows })
    }

    /// The next rows, at most so many of them.
    pub fn next(&mut self, rows_max: usize) -> Result<Option<Rows>, Fault> {
        let Some(batch) = self.batch()? else { return Ok(None) };
        let skipped = (self.row - self.batch_start()) as usize;
        let total = batch.num_rows().saturating_sub(skipped).min(rows_max);
        if total == 0 {
            return Ok(None);
        }
        let batch = batch.slice(skipped, total);
        self.row += total as u64;
        let roots = roots(&self.columns);
        let (mut refused, mut unreadable) = (Refused::new(), Vec::new());
        let mut columns = Vec::with_capacity(self.payload.len());
        for (at, (column, source)) in self.payload.iter().zip(&self.columns).enumerate() {
            let array = match source {
                Column::Read { root, fit, broken: None, .. } => {
                    let mut refuse = |row: usize| {
                        let why = || format!("column {}: the value is not {}", column.external_name, column.ty.with_article());
                        refused.entry(row).or_insert_with(why);
                    };
                    fit.apply(batch.column(roots.partition_point(|r| r < root)), &mut refuse)?
                }
                Column::Absent | Column::Unread | Column::Read { .. } => new_null_array(&column.ty.to_arrow(), total),
            };
            match source {
                Column::Read { broken: Some(why), .. } => unreadable.push((at, format!("column {}: {why}", column.external_name))),
                Column::Read { .. } => check(column, true, &array, &mut refused),
                Column::Absent => check(column, false, &array, &mut refused),
                Column::Unread => {}
            }
            columns.push(limited(column, array, &mut refused));
        }
        if !refused.is_empty() {
            let keep: BooleanArray = (0..total).map(|row| Some(!refused.contains_key(&row))).collect();
            columns = columns.iter().map(|column| Ok(filter(column, &keep)?)).collect::<Result<_>>()?;
        }
        if !unreadable.is_empty() {
            self.take_up_columns()?;
        }
        Ok(Some(Rows { columns, total, refused, unreadable }))
    }

    /// The first row of the batch that the next row is in.
    fn batch_start(&self) -> u64 {
        self.row - self.row % self.batch_rows as u64
    }

    /// What the library reads next. Before rows are given up, columns are that no row depends on.
    fn batch(&mut self) -> Result<Option<RecordBatch>, Fault> {
        loop {
            let (reader, stored) = (&mut self.reader, &self.stored);
            match guarded(stored, || reader.next().transpose()) {
                Err(Fault::Content(why)) if !self.give_up_columns()? => return Err(Fault::Content(why)),
                Err(Fault::Content(_)) => {}
                read => return read,
            }
        }
    }

    /// Reads this batch without the optional columns that cannot be read in it; false if there are none.
    fn give_up_columns(&mut self) -> Result<bool, Fault> {
        let start = self.batch_start();
        let mut found = false;
        for column in &mut self.columns {
            let Column::Read { root, is_optional: true, broken, .. } = column else { continue };
            if broken.is_some() {
                continue;
            }
            let alone = reader_of(builder_of(&self.stored)?, &self.stored, vec![*root], start, self.batch_rows);
            match alone.and_then(|mut reader| guarded(&self.stored, || reader.next().transpose())) {
                Ok(_) => {}
                Err(Fault::Content(why)) => {
                    *broken = Some(why);
                    found = true;
                }
                Err(trouble) => return Err(trouble),
            }
        }
        if found {
            self.reader = reader_of(builder_of(&self.stored)?, &self.stored, roots(&self.columns), start, self.batch_rows)?;
        }
        Ok(found)
    }

    /// Behind a batch in which columns could not be read: whoever begins there must find the same, so they are tried again.
    fn take_up_columns(&mut self) -> Result<(), Fault> {
        for column in &mut self.columns {
            if let Column::Read { broken, .. } = column {
                *broken = None;
            }
        }
        self.reader = reader_of(builder_of(&self.stored)?, &self.stored, roots(&self.columns), self.batch_start(), self.batch_rows)?;
        Ok(())
    }
}

/// The columns of the file that are read, in its order.
fn roots(columns: &[Column]) -> Vec<usize> {
    let read = |column: &Column| if let Column::Read { root, broken: None, .. } = column { Some(*root) } else { None };
    let mut roots: Vec<usize> = columns.iter().filter_map(read).collect();
    roots.sort_unstable();
    roots.dedup();
    roots
}

type Builder = ParquetRecordBatchReaderBuilder<Chunks>;

fn builder_of(stored: &Arc<StoredFile>) -> Result<Builder, Fault> {
    guarded(stored, || {
        let chunks = Chunks(stored.clone());
        let metadata = wide_times::in_microseconds(ArrowReaderMetadata::load(&chunks, ArrowReaderOptions::default())?)?;
        Ok::<_, ParquetError>(Builder::new_with_metadata(chunks, metadata))
    })
}

/// A reader of some columns from a row on.
fn reader_of(
    builder: Builder,
    stored: &StoredFile,
    roots: Vec<usize>,
    row: u64,
    batch_rows: usize,
) -> Result<ParquetRecordBatchReader, Fault> {
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let (groups, skipped) = groups_from(builder.metadata(), row);
    let builder = builder.with_projection(mask).with_row_groups(groups).with_offset(skipped as usize).with_batch_size(batch_rows);
    guarded(stored, || builder.build())
}

/// What a declaration asks of values beyond their type.
fn check(column: &PayloadColumn, is_there: bool, array: &ArrayRef, refused: &mut Refused) {
    let name = &column.external_name;
    if array.null_count() > 0 && (!column.nullable || column.is_key) {
        let what = if is_there { "null" } else { "the file has no such column" };
        let why = if column.is_key { "part of the primary key" } else { "NOT NULL" };
        for row in (0..array.len()).filter(|row| array.is_null(*row)) {
            refused.entry(row).or_insert_with(|| format!("column {name}: {what}, but the column is {why}"));
        }
    }
    if column.ty == SqlType::Json {
        let texts = array.as_string::<i32>();
        for row in (0..texts.len()).filter(|row| texts.is_valid(*row)) {
            if let Err(error) = serde_json::from_str::<IgnoredAny>(texts.value(row)) {
                refused.entry(row).or_insert_with(|| format!("column {name}: not JSON: {error}"));
            }
        }
    }
}

/// Texts without blanks behind as many characters as they may have; a longer one takes its row along.
fn limited(column: &PayloadColumn, array: ArrayRef, refused: &mut Refused) -> ArrayRef {
    let (Some(length), Some(texts)) = (column.length, array.as_string_opt::<i32>()) else { return array };
    let mut is_cut = false;
    for (row, text) in texts.iter().enumerate() {
        let text = text.unwrap_or_default();
        match fitting(text, length) {
            Some(fit) => is_cut |= fit.len() < text.len(),
            None => {
                refused.entry(row).or_insert_with(|| column.too_long(length));
            }
        }
    }
    if !is_cut {
        return array;
    }
    Arc::new(texts.iter().map(|text| text.map(|text| cut(text, length))).collect::<StringArray>())
}

/// The row groups from that of a row on, and how many rows of the first of them come before it.
fn groups_from(metadata: &ParquetMetaData, row: u64) -> (Vec<usize>, u64) {
    let mut before = 0;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let rows = group.num_rows().max(0) as u64;
        if row < before + rows {
            return ((number..metadata.num_row_groups()).collect(), row - before);
        }
        before += rows;
    }
    (Vec::new(), 0)
}

/// Rows of a batch, by what the widest row group says of its columns.
fn batch_rows(metadata: &ParquetMetaData, mask: &ProjectionMask) -> usize {
    let row_bytes = metadata.row_groups().iter().map(|group| {
        let leaves = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
        let bytes: u64 = leaves.map(|(_, column)| column.uncompressed_size().max(0) as u64).sum();
        bytes / group.num_rows().max(1) as u64
    });
    (BATCH_BYTES / row_bytes.max().unwrap_or(1).max(1)).clamp(1, ROWS_MAX as u64) as usize
}

/// Does a part of the work in the library, which trusts files more than they deserve.
fn guarded<T, E: std::error::Error>(stored: &StoredFile, work: impl FnOnce() -> Result<T, E>) -> Result<T, Fault> {
    let why = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it is damaged".to_string(),
    };
    match stored.trouble() {
        Some(trouble) => Err(Fault::Trouble(trouble)),
        None => Err(Fault::Content(format!("it cannot be read as Parquet: {why}"))),
    }
}
