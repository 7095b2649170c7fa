//! How rows are written into a file: JSON or CSV, a row a line, or Parquet, in row groups. Knows no places.

use super::place::Upload;
use crate::format::csv::CsvSyntax;
use crate::format::csv::encode::CsvEncoder;
use crate::format::json::encode::{JsonEncoder, Times};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::BytesMut;
use eddyline_common::connector::SinkSpec;
use eddyline_common::types::arrow_schema;
use eddyline_common::{Column, Result, SqlError, SqlType, options};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::io::Write;

pub enum Form {
    Json(JsonEncoder),
    Csv { encoder: Box<CsvEncoder>, header: bool },
    Parquet(ParquetForm),
}

pub struct ParquetForm {
    schema: SchemaRef,
    /// The columns of a batch that go into files, by number.
    columns: Vec<usize>,
    compression: Compression,
}

type Fields = Vec<(usize, String, SqlType)>;

impl Form {
    /// Of these columns: number in the batch, name, type.
    pub fn new(spec: &SinkSpec, fields: Fields) -> Result<Form> {
        match spec.options.get(options::FORMAT).map(String::as_str) {
            Some("csv") => {
                let encoder = CsvEncoder::new(fields.into_iter(), CsvSyntax::new(&spec.options)?);
                Ok(Form::Csv { encoder: Box::new(encoder), header: options::boolean(&spec.options, options::CSV_HEADER) })
            }
            Some("parquet") => Ok(Form::Parquet(ParquetForm::new(spec, fields)?)),
            _ => Ok(Form::Json(JsonEncoder::new(fields.into_iter(), Times::of(&spec.options)))),
        }
    }

    pub fn suffix(&self) -> &'static str {
        match self {
            Form::Json(_) => ".json",
            Form::Csv { .. } => ".csv",
            Form::Parquet(_) => ".parquet",
        }
    }

    /// A new file.
    pub fn begin(&self, upload: Upload) -> Result<Output> {
        match self {
            Form::Json(_) => Ok(Output::Lines(upload)),
            Form::Csv { encoder, header } => {
                let mut upload = upload;
                if *header {
                    upload.write_all(encoder.header()).map_err(|e| failed(&e))?;
                }
                Ok(Output::Lines(upload))
            }
            Form::Parquet(form) => {
                let properties = WriterProperties::builder().set_compression(form.compression).build();
                let writer = ArrowWriter::try_new(upload, form.schema.clone(), Some(properties)).map_err(|e| failed(&e))?;
                Ok(Output::Rows(Box::new(writer)))
            }
        }
    }

    /// Calls `each` with the line of every row of `order`, and what stands beside it there; false for a form that has no lines.
    pub fn lines<T>(
        &self,
        rows: &RecordBatch,
        order: impl Iterator<Item = (T, usize)>,
        mut each: impl FnMut(T, &[u8]) -> Result<()>,
    ) -> Result<bool> {
        let (mut line, mut scratch) = (BytesMut::new(), BytesMut::new());
        match self {
            Form::Json(encoder) => {
                let bound = encoder.bind(rows)?;
                for (with, row) in order {
                    line.clear();
                    bound.write(row, &mut line);
                    line.extend_from_slice(b"\n");
                    each(with, &line)?;
                }
            }
            Form::Csv { encoder, .. } => {
                let projected = encoder.project(rows)?;
                let bound = encoder.bind(rows, &projected)?;
                let writers = bound.writers();
                for (with, row) in order {
                    line.clear();
                    bound.write(&writers, row, &mut scratch, &mut line);
                    each(with, &line)?;
                }
            }
            Form::Parquet(_) => return Ok(false),
        }
        Ok(true)
    }

    /// The columns that go into files, for a form that takes batches.
    pub fn projected(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        match self {
            Form::Parquet(form) => {
                let columns = form.columns.iter().map(|column| rows.column(*column).clone()).collect();
                Ok(RecordBatch::try_new(form.schema.clone(), columns)?)
            }
            _ => Err(SqlError::internal("lines take no batches")),
        }
    }
}

impl ParquetForm {
    fn new(spec: &SinkSpec, fields: Fields) -> Result<ParquetForm> {
        let (mut columns, mut typed) = (Vec::new(), Vec::new());
        for (column, name, ty) in fields {
            if holds_interval(&ty) {
                let error = SqlError::unsupported(format!("column \"{name}\" of type {ty} in Parquet files is not supported"));
                return Err(error.with_hint("Cast it to text."));
            }
            columns.push(column);
            typed.push(Column::new(name, ty, true));
        }
        let compression = match spec.options.get(options::PARQUET_COMPRESSION).map(String::as_str) {
            Some("zstd") => Compression::ZSTD(ZstdLevel::default()),
            Some("gzip") => Compression::GZIP(Default::default()),
            Some("lz4") => Compression::LZ4_RAW,
            Some("none") => Compression::UNCOMPRESSED,
            _ => Compression::SNAPPY,
        };
        Ok(ParquetForm { schema: arrow_schema(&typed), columns, compression })
    }
}

/// Parquet's interval has months and days in 32 bits and milliseconds.
fn holds_interval(ty: &SqlType) -> bool {
    match ty {
        SqlType::Interval => true,
        SqlType::Array(item) => holds_interval(item),
        SqlType::Struct(fields) => fields.iter().any(|(_, ty)| holds_interval(ty)),
        SqlType::Map(key, value) => holds_interval(key) || holds_interval(value),
        _ => false,
    }
}

/// A file that is being written.
pub enum Output {
    Lines(Upload),
    Rows(Box<ArrowWriter<Upload>>),
}

impl Output {
    pub fn write_line(&mut self, line: &[u8]) -> Result<()> {
        match self {
            Output::Lines(upload) => upload.write_all(line).map_err(|e| failed(&e)),
            Output::Rows(_) => Err(SqlError::internal("lines go to files of lines")),
        }
    }

    pub fn write_rows(&mut self, rows: &RecordBatch) -> Result<()> {
        match self {
            Output::Rows(writer) => writer.write(rows).map_err(|e| failed(&e)),
            Output::Lines(_) => Err(SqlError::internal("batches go to files of rows")),
        }
    }

    /// Ends the row group under construction, which is in memory.
    pub fn end_group(&mut self) -> Result<()> {
        match self {
            Output::Rows(writer) => writer.flush().map_err(|e| failed(&e)),
            Output::Lines(_) => Ok(()),
        }
    }

    /// Bytes of rows that wait in memory to be encoded.
    pub fn pending_bytes(&self) -> usize {
        match self {
            Output::Lines(_) => 0,
            Output::Rows(writer) => writer.memory_size(),
        }
    }

    /// Bytes of the file so far, those that wait included.
    pub fn bytes(&self) -> u64 {
        match self {
            Output::Lines(upload) => upload.bytes(),
            Output::Rows(writer) => (writer.bytes_written() + writer.in_progress_size()) as u64,
        }
    }

    /// Bytes that wait in memory to be passed on.
    pub fn buffered_bytes(&self) -> usize {
        match self {
            Output::Lines(upload) => upload.buffered_bytes(),
            Output::Rows(writer) => writer.inner().buffered_bytes(),
        }
    }

    /// The whole file, which has its last bytes now.
    pub fn end(self) -> Result<Upload> {
        match self {
            Output::Lines(upload) => Ok(upload),
            Output::Rows(writer) => writer.into_inner().map_err(|e| failed(&e)),
        }
    }
}

/// The error of a place, which the library may have wrapped in its own.
fn failed(error: &(dyn std::error::Error + 'static)) -> SqlError {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<SqlError>() {
            return found.clone();
        }
        next = match (cause.downcast_ref::<std::io::Error>(), cause.downcast_ref::<ParquetError>()) {
            (Some(io), _) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
            (_, Some(ParquetError::External(inner))) => Some(&**inner as &(dyn std::error::Error + 'static)),
            _ => cause.source(),
        };
    }
    SqlError::io(error)
}
