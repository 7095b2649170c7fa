//! From records of one file to a batch, and what is the same for all files: which columns come from where, and how a file is taken
//! apart.

use super::PARTITION;
use super::catalogue::{File, PLACE_MAX, place_of};
use super::folders::FolderColumns;
use super::packing::Packing;
use crate::format::split::Splitter;
use crate::format::{self, DecodedRows, PayloadColumn, Record, RecordDecoder, undecodable};
use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray, UInt32Array, new_empty_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use eddyline_common::connector::{ColumnOrigin, SourceBatch, SourceNote, SourceSpec, UndecodableRecord, without_values};
use eddyline_common::{Offset, Result, SqlError, SqlState, options};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Records of a batch.
const RECORDS_MAX: usize = 8_192;
/// Bytes of records after which a batch is passed on whatever its records.
const BYTES_MAX: usize = 4 << 20;

/// What some programs begin a text in UTF-8 with.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[derive(Clone, Copy)]
enum Origin {
    Payload(usize),
    Partition,
    Offset,
    Name,
    Modified,
    /// The folder that a file is in.
    Folder(usize),
}

/// How a source's columns are filled.
pub struct Layout {
    schema: SchemaRef,
    pub options: BTreeMap<String, String>,
    pub payload: Vec<PayloadColumn>,
    pub folders: FolderColumns,
    origins: Vec<Origin>,
    keyed: bool,
    /// The first record of a file names the columns.
    pub header: bool,
    /// Takes lines apart.
    pub splitter: Splitter,
    /// Lines are text of a format, and not to be taken as they are: one with nothing on it is no record, and a mark before the first is no part of it.
    is_text: bool,
    /// Files are not lines: their rows are read by number (`parquet`).
    pub by_rows: bool,
    /// `None`: as a file's name says.
    packing: Option<Packing>,
}

impl Layout {
    pub fn new(spec: &SourceSpec) -> Result<Layout> {
        let (mut payload, mut origins, mut folders) = (Vec::new(), Vec::new(), Vec::new());
        let named = spec.options.get(options::PARTITION_BY).map(|text| options::names(text)).unwrap_or_default();
        let keyed = !spec.key.is_empty();
        for (index, column) in spec.columns.iter().enumerate() {
            let (external_name, ty, nullable, length) = (column.external_name.clone(), column.ty.clone(), column.nullable, column.length);
            let ColumnOrigin::Metadata(key) = &column.origin else {
                let is_folder = named.iter().any(|name| name.eq_ignore_ascii_case(&external_name));
                let of = if is_folder { &mut folders } else { &mut payload };
                origins.push(if is_folder { Origin::Folder(of.len()) } else { Origin::Payload(of.len()) });
                of.push(PayloadColumn { external_name, ty, nullable, length, is_key: spec.key.contains(&index) });
                continue;
            };
            options::check_metadata("filesystem", key, &ty)?;
            origins.push(match options::metadata_type("filesystem", key)?.0 {
                "partition" => Origin::Partition,
                "offset" => Origin::Offset,
                "file" => Origin::Name,
                _ => Origin::Modified,
            });
        }
        if let Some(format) = spec.options.get(options::FORMAT).filter(|f| f.starts_with("avro") || *f == "protobuf") {
            return Err(SqlError::unsupported(format!("files of format \"{format}\" are not supported")));
        }
        if payload.is_empty() && !folders.is_empty() {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER,
                "every column is the name of a folder, so that nothing is left for the files",
            ));
        }
        let is = |format: &str| spec.options.get(options::FORMAT).is_some_and(|f| f == format);
        let by_rows = is("parquet");
        let mut options = spec.options.clone();
        if by_rows {
            // Checks the columns, and makes the batches that have no rows.
            options.insert(options::FORMAT.to_string(), "json".to_string());
        }
        let packing = if by_rows { Some(Packing::None) } else { Packing::of_option(spec.options.get(options::COMPRESSION)) };
        let fields: Vec<Field> = spec.columns.iter().map(|c| c.ty.field(&c.external_name, c.nullable || keyed)).collect();
        let layout = Layout {
            schema: Arc::new(Schema::new(fields)),
            splitter: Splitter::new(&options)?,
            options,
            payload,
            folders: FolderColumns::new(folders),
            origins,
            keyed,
            header: is("csv") && options::boolean(&spec.options, options::CSV_HEADER),
            is_text: !is("raw"),
            by_rows,
            packing,
        };
        layout.decoder()?; // refuses types the format lacks
        Ok(layout)
    }

    pub fn packing_of(&self, file: &File) -> Packing {
        self.packing.unwrap_or_else(|| Packing::of_name(&file.path))
    }

    /// The place behind a file's last record.
    pub fn end_of(&self, file: &File) -> u64 {
        // How many rows or bytes there are inside is known only once it has been read.
        if self.by_rows || self.packing_of(file) != Packing::None { PLACE_MAX } else { file.bytes }
    }

    /// Which payload columns are kept, of those of the source.
    pub fn payload_kept(&self, columns: &[bool]) -> Vec<bool> {
        let mut kept = vec![true; self.payload.len()];
        for (origin, column) in self.origins.iter().zip(columns) {
            if let Origin::Payload(index) = origin {
                kept[*index] = *column;
            }
        }
        kept
    }

    fn decoder(&self) -> Result<Box<dyn RecordDecoder>> {
        format::decoder(&self.options, self.payload.clone(), self.keyed)
    }
}

/// A batch under construction.
pub struct BatchBuilder {
    decoder: Box<dyn RecordDecoder>,
    offsets: Vec<i64>,
    undecodable: Vec<UndecodableRecord>,
    bytes: usize,
}

impl BatchBuilder {
    /// `kept`: which columns of the source anybody reads; `None`: all.
    pub fn new(layout: &Layout, kept: Option<&[bool]>) -> Result<Self> {
        let mut decoder = layout.decoder()?;
        if let Some(kept) = kept {
            decoder.keep(&layout.payload_kept(kept));
        }
        Ok(BatchBuilder { decoder, offsets: Vec::new(), undecodable: Vec::new(), bytes: 0 })
    }

    pub fn is_full(&self) -> bool {
        self.offsets.len() + self.undecodable.len() >= RECORDS_MAX || self.bytes >= BYTES_MAX
    }

    pub fn header(&mut self, record: &[u8]) -> Result<(), String> {
        self.decoder.header(record)
    }

    pub fn push(&mut self, layout: &Layout, offset: i64, record: &[u8]) {
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        let mark: &[u8] = if layout.is_text && place_of(offset).1 == 0 { BYTE_ORDER_MARK } else { b"" };
        let record = record.strip_prefix(mark).unwrap_or(record);
        if layout.is_text && layout.splitter.is_blank(record) {
            return;
        }
        self.bytes += record.len();
        match self.decoder.push(Record::of(record)) {
            Ok(rows) => self.offsets.extend(std::iter::repeat_n(offset, rows)),
            Err(reason) => self.refuse(offset, reason, record),
        }
    }

    pub fn refuse(&mut self, offset: i64, reason: String, record: &[u8]) {
        self.undecodable.push(undecodable(Offset(offset), reason, record));
    }

    /// What was pushed, of a file.
    pub fn take(&mut self, layout: &Layout, of: &Opened, start: i64, end: i64, notes: Vec<SourceNote>) -> Result<SourceBatch> {
        let DecodedRows { columns, weights } = self.decoder.finish()?;
        let (offsets, undecodable) = (std::mem::take(&mut self.offsets), std::mem::take(&mut self.undecodable));
        self.bytes = 0;
        layout.batch(Content { columns, weights, offsets, undecodable, unreadable: Vec::new() }, of, start, end, notes)
    }
}

/// Decoded rows of a file, each with its offset.
pub struct Content {
    pub columns: Vec<ArrayRef>,
    pub weights: Option<Int64Array>,
    pub offsets: Vec<i64>,
    pub undecodable: Vec<UndecodableRecord>,
    /// Payload columns without their values, and why.
    pub unreadable: Vec<(usize, String)>,
}

/// A file that is read, with what its folders say: one value per column.
#[derive(Clone)]
pub struct Opened {
    pub file: File,
    /// As users know it.
    pub name: String,
    pub folders: Vec<ArrayRef>,
}

impl Opened {
    /// A record of the file, with its name in the reason.
    fn naming(&self, record: UndecodableRecord) -> UndecodableRecord {
        UndecodableRecord { reason: format!("file \"{}\": {}", self.name, record.reason), ..record }
    }
}

impl Layout {
    fn schema_without(&self, unreadable: Vec<(usize, String)>) -> SchemaRef {
        let place = |payload: usize| self.origins.iter().position(|origin| matches!(origin, Origin::Payload(at) if *at == payload));
        let columns = unreadable.into_iter().filter_map(|(payload, why)| Some((place(payload)?, why)));
        without_values(&self.schema, columns)
    }

    pub fn batch(&self, content: Content, of: &Opened, start: i64, end: i64, notes: Vec<SourceNote>) -> Result<SourceBatch> {
        let Content { columns, weights, offsets, undecodable, unreadable } = content;
        let schema = if unreadable.is_empty() { self.schema.clone() } else { self.schema_without(unreadable) };
        let rows = offsets.len();
        let columns = self.origins.iter().zip(self.schema.fields()).map(|(origin, field)| {
            let array: ArrayRef = match origin {
                Origin::Payload(index) => columns[*index].clone(),
                Origin::Partition => Arc::new(Int32Array::from_value(PARTITION.0, rows)),
                Origin::Offset => Arc::new(Int64Array::from(offsets.clone())),
                Origin::Name => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&of.name, rows))),
                Origin::Modified => Arc::new(TimestampMicrosecondArray::from_value(of.file.modified, rows).with_timezone("+00:00")),
                Origin::Folder(_) if rows == 0 => new_empty_array(field.data_type()),
                Origin::Folder(index) => take(&of.folders[*index], &UInt32Array::from_value(0, rows), None)?,
            };
            if array.data_type() == field.data_type() { Ok(array) } else { Ok(cast(&array, field.data_type())?) }
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(SourceBatch {
            partition: PARTITION,
            start: Offset(start),
            end: Offset(end),
            rows: RecordBatch::try_new_with_options(schema, columns, &options)?,
            weights,
            offsets,
            undecodable: undecodable.into_iter().map(|record| of.naming(record)).collect(),
            notes,
            finished: false,
        })
    }
}
