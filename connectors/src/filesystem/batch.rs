//! From records of one file to a batch.

use super::PARTITION;
use super::catalogue::File;
use crate::format::{self, DecodedRows, PayloadColumn, Record, RecordDecoder, undecodable};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema, SchemaRef};
use eddyline_common::connector::{ColumnOrigin, SourceBatch, SourceNote, SourceSpec, UndecodableRecord};
use eddyline_common::{Offset, Result, SqlError, options};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Records of a batch.
const RECORDS_MAX: usize = 8_192;
/// Bytes of records after which a batch is passed on whatever its records.
const BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Copy)]
enum Origin {
    Payload(usize),
    Partition,
    Offset,
    Name,
    Modified,
}

/// How a source's columns are filled.
pub struct Layout {
    schema: SchemaRef,
    pub options: BTreeMap<String, String>,
    payload: Vec<PayloadColumn>,
    origins: Vec<Origin>,
    keyed: bool,
    /// The first record of a file names the columns.
    pub header: bool,
    /// A line with nothing on it is no record.
    skips_blank: bool,
}

impl Layout {
    pub fn new(spec: &SourceSpec) -> Result<Layout> {
        let (mut payload, mut origins) = (Vec::new(), Vec::new());
        let keyed = !spec.key.is_empty();
        for (index, column) in spec.columns.iter().enumerate() {
            let (external_name, ty, nullable) = (column.external_name.clone(), column.ty.clone(), column.nullable);
            let ColumnOrigin::Metadata(key) = &column.origin else {
                origins.push(Origin::Payload(payload.len()));
                payload.push(PayloadColumn { external_name, ty, nullable, is_key: spec.key.contains(&index) });
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
        if let Some(format) = spec.options.get(options::FORMAT).filter(|f| f.starts_with("avro")) {
            return Err(SqlError::unsupported(format!("files of format \"{format}\" are not supported")));
        }
        let is = |format: &str| spec.options.get(options::FORMAT).is_some_and(|f| f == format);
        let fields: Vec<Field> = spec.columns.iter().map(|c| c.ty.field(&c.external_name, c.nullable || keyed)).collect();
        let layout = Layout {
            schema: Arc::new(Schema::new(fields)),
            options: spec.options.clone(),
            payload,
            origins,
            keyed,
            header: is("csv") && options::boolean(&spec.options, options::CSV_HEADER),
            skips_blank: !is("raw"),
        };
        layout.decoder()?; // refuses types the format lacks
        Ok(layout)
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
    pub fn new(layout: &Layout) -> Result<Self> {
        Ok(BatchBuilder { decoder: layout.decoder()?, offsets: Vec::new(), undecodable: Vec::new(), bytes: 0 })
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
        if layout.skips_blank && record.trim_ascii().is_empty() || self.decoder.is_comment(record) {
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
    pub fn take(&mut self, layout: &Layout, file: &File, start: i64, end: i64, notes: Vec<SourceNote>) -> Result<SourceBatch> {
        let DecodedRows { columns, weights } = self.decoder.finish()?;
        let offsets = std::mem::take(&mut self.offsets);
        let rows = offsets.len();
        let columns = layout.origins.iter().zip(layout.schema.fields()).map(|(origin, field)| {
            let array: ArrayRef = match origin {
                Origin::Payload(index) => columns[*index].clone(),
                Origin::Partition => Arc::new(Int32Array::from_value(PARTITION.0, rows)),
                Origin::Offset => Arc::new(Int64Array::from(offsets.clone())),
                Origin::Name => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&file.path, rows))),
                Origin::Modified => Arc::new(TimestampMicrosecondArray::from_value(file.modified, rows).with_timezone("+00:00")),
            };
            if array.data_type() == field.data_type() { Ok(array) } else { Ok(cast(&array, field.data_type())?) }
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        self.bytes = 0;
        Ok(SourceBatch {
            partition: PARTITION,
            start: Offset(start),
            end: Offset(end),
            rows: RecordBatch::try_new_with_options(layout.schema.clone(), columns, &options)?,
            weights,
            offsets,
            undecodable: std::mem::take(&mut self.undecodable),
            notes,
            finished: false,
        })
    }
}
