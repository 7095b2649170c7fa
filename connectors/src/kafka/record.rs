//! From records to batches of one partition: payload columns through the format's decoder, metadata columns from the
//! record itself, positions, and the records that could not be decoded.

use super::queue::Record;
use crate::format::{self, PayloadColumn, RecordDecoder, undecodable};
use arrow::array::{ArrayRef, BinaryBuilder, Int32Array, Int64Array, MapBuilder, MapFieldNames, RecordBatch, RecordBatchOptions};
use arrow::array::{StringArray, StringBuilder, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema, SchemaRef};
use eddyline_common::connector::{ColumnOrigin, PartitionRange, SourceBatch, SourceSpec, UndecodableRecord};
use eddyline_common::{Offset, Result, SqlType, options};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Records of a batch.
pub const RECORDS_MAX: usize = 8_192;
/// Payload bytes after which a batch is passed on whatever its records.
const BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Metadata {
    Key,
    Partition,
    Offset,
    Timestamp,
    Topic,
    Headers,
}

#[derive(Clone)]
struct MetadataColumn {
    what: Metadata,
    name: String,
    ty: SqlType,
    nullable: bool,
}

/// How a source's columns are filled.
#[derive(Clone)]
pub struct RecordLayout {
    topic: String,
    schema: SchemaRef,
    options: BTreeMap<String, String>,
    payload: Vec<PayloadColumn>,
    /// Payload columns that somebody reads.
    kept: Vec<bool>,
    metadata: Vec<MetadataColumn>,
    /// For each column of the schema: from the payload (or else the metadata), and which.
    origins: Vec<(bool, usize)>,
    /// Records overwrite each other: a null value is a deletion.
    keyed: bool,
}

impl RecordLayout {
    pub fn new(spec: &SourceSpec, topic: &str) -> Result<RecordLayout> {
        let (mut payload, mut metadata, mut origins) = (Vec::new(), Vec::new(), Vec::new());
        let keyed = !spec.key.is_empty();
        for (index, column) in spec.columns.iter().enumerate() {
            let (name, ty, nullable) = (column.external_name.clone(), column.ty.clone(), column.nullable);
            let is_key = spec.key.contains(&index);
            match &column.origin {
                ColumnOrigin::Payload => {
                    origins.push((true, payload.len()));
                    payload.push(PayloadColumn { external_name: name, ty, nullable, length: column.length, is_key });
                }
                ColumnOrigin::Metadata(key) => {
                    options::check_metadata("kafka", key, &ty)?;
                    let what = match options::metadata_type("kafka", key)?.0 {
                        "key" => Metadata::Key,
                        "partition" => Metadata::Partition,
                        "offset" => Metadata::Offset,
                        "timestamp" => Metadata::Timestamp,
                        "topic" => Metadata::Topic,
                        _ => Metadata::Headers,
                    };
                    origins.push((false, metadata.len()));
                    metadata.push(MetadataColumn { what, name, ty, nullable });
                }
            }
        }
        format::decoder(&spec.options, payload.clone(), keyed)?; // refuses types the format lacks
        // A deletion has its key and nothing else.
        let fields: Vec<Field> = spec.columns.iter().map(|c| c.ty.field(&c.external_name, c.nullable || keyed)).collect();
        let schema = Arc::new(Schema::new(fields));
        let kept = vec![true; payload.len()];
        Ok(RecordLayout { topic: topic.to_string(), schema, options: spec.options.clone(), payload, kept, metadata, origins, keyed })
    }

    /// The same for readers of some columns.
    pub fn keeping(&self, columns: &[bool]) -> RecordLayout {
        let mut layout = self.clone();
        for ((_, index), kept) in self.origins.iter().zip(columns).filter(|((from_payload, _), _)| *from_payload) {
            layout.kept[*index] = *kept;
        }
        layout
    }
}

/// What metadata columns keep of one decoded record.
#[derive(Clone)]
struct Kept {
    key: Option<Vec<u8>>,
    timestamp_millis: Option<i64>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// One partition's batch under construction, and how far its range has been read.
pub struct PartitionBuffer {
    layout: Arc<RecordLayout>,
    pub range: PartitionRange,
    decoder: Box<dyn RecordDecoder>,
    kept: Vec<Kept>,
    offsets: Vec<i64>,
    undecodable: Vec<UndecodableRecord>,
    bytes: usize,
    /// First offset of the batch, and the one after the last that is accounted for.
    start: i64,
    next: i64,
}

impl PartitionBuffer {
    pub fn new(layout: &Arc<RecordLayout>, range: PartitionRange) -> Result<Self> {
        let mut decoder = format::decoder(&layout.options, layout.payload.clone(), layout.keyed)?;
        decoder.keep(&layout.kept);
        let (layout, start) = (layout.clone(), range.start.0);
        let (kept, offsets, undecodable) = (Vec::new(), Vec::new(), Vec::new());
        Ok(PartitionBuffer { layout, range, decoder, kept, offsets, undecodable, bytes: 0, start, next: start })
    }

    /// The next offset wanted.
    pub fn position(&self) -> i64 {
        self.next
    }

    pub fn is_done(&self) -> bool {
        self.range.end.is_some_and(|end| self.next >= end.0)
    }

    pub fn is_full(&self) -> bool {
        self.offsets.len() + self.undecodable.len() >= RECORDS_MAX || self.bytes >= BYTES_MAX
    }

    /// Everything before `offset` has been delivered or is a hole.
    pub fn advance_to(&mut self, offset: i64) {
        self.next = self.next.max(self.range.end.map_or(offset, |end| offset.min(end.0)));
    }

    /// Leaves out what is before `offset`, which the broker does not have any more, and puts down why.
    pub fn skip_to(&mut self, offset: i64, reason: String) {
        self.undecodable.push(undecodable(Offset(self.next), reason, &[]));
        self.advance_to(offset);
    }

    /// Fetches what decoding the record needs from elsewhere.
    pub fn prepare(&mut self, record: &Record) -> Result<()> {
        self.decoder.prepare(format::Record { key: record.key(), value: record.payload() })
    }

    pub fn push(&mut self, record: &Record) {
        let offset = record.offset();
        if offset < self.next {
            return; // fetched twice around a seek
        }
        self.advance_to(offset);
        if self.is_done() {
            return;
        }
        self.bytes += record.payload().map_or(0, <[u8]>::len) + record.key().map_or(0, <[u8]>::len);
        match self.decode(record) {
            Ok(rows) => self.offsets.extend(std::iter::repeat_n(offset, rows)),
            Err(reason) => self.undecodable.push(undecodable(Offset(offset), reason, record.payload().unwrap_or_default())),
        }
        self.next = offset + 1;
    }

    /// The number of rows that the record gave: none for a comment.
    fn decode(&mut self, record: &Record) -> Result<usize, String> {
        // Nothing is asked of the record around it either.
        if record.payload().is_some_and(|value| self.decoder.is_comment(value)) {
            return Ok(0);
        }
        let kept = if self.layout.metadata.is_empty() { None } else { Some(self.keep(record)?) };
        let rows = self.decoder.push(format::Record { key: record.key(), value: record.payload() })?;
        if let Some(kept) = kept {
            self.kept.extend(std::iter::repeat_n(kept, rows));
        }
        Ok(rows)
    }

    /// What the metadata columns need, if they can hold it.
    fn keep(&self, record: &Record) -> Result<Kept, String> {
        let mut kept = Kept { key: None, timestamp_millis: record.timestamp_millis(), headers: Vec::new() };
        for column in &self.layout.metadata {
            let missing = match column.what {
                Metadata::Key => {
                    if column.ty == SqlType::Text
                        && let Some(why) = record.key().and_then(no_text)
                    {
                        return Err(format!("column {}: {why}", column.name));
                    }
                    kept.key = record.key().map(<[u8]>::to_vec);
                    kept.key.is_none()
                }
                Metadata::Timestamp => kept.timestamp_millis.is_none(),
                Metadata::Headers => {
                    kept.headers = record.headers().into_iter().map(|(name, value)| (name, value.map(<[u8]>::to_vec))).collect();
                    false
                }
                Metadata::Partition | Metadata::Offset | Metadata::Topic => false,
            };
            if missing && !column.nullable {
                return Err(format!("column {}: the record has none, but the column is NOT NULL", column.name));
            }
        }
        Ok(kept)
    }

    /// The batch so far, if it has any offsets (or if it says that an empty range has ended).
    pub fn take(&mut self) -> Result<Option<SourceBatch>> {
        let empty_range = self.range.end == Some(self.range.start);
        if self.next == self.start && !empty_range {
            return Ok(None);
        }
        let format::DecodedRows { columns: payload, weights } = self.decoder.finish()?;
        let metadata = self.layout.metadata.iter().map(|column| self.metadata_column(column)).collect::<Result<Vec<_>>>()?;
        let arrays = self.layout.origins.iter().map(|(from_payload, index)| match from_payload {
            true => payload[*index].clone(),
            false => metadata[*index].clone(),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(self.offsets.len()));
        let batch = SourceBatch {
            partition: self.range.partition,
            start: Offset(self.start),
            end: Offset(self.next),
            rows: RecordBatch::try_new_with_options(self.layout.schema.clone(), arrays.collect(), &options)?,
            weights,
            offsets: std::mem::take(&mut self.offsets),
            undecodable: std::mem::take(&mut self.undecodable),
            notes: Vec::new(),
            finished: false,
        };
        self.kept.clear();
        self.bytes = 0;
        self.start = self.next;
        Ok(Some(batch))
    }

    fn metadata_column(&self, column: &MetadataColumn) -> Result<ArrayRef> {
        let rows = self.offsets.len();
        let array: ArrayRef = match column.what {
            Metadata::Key => {
                let mut keys = BinaryBuilder::with_capacity(rows, rows * 16);
                self.kept.iter().for_each(|kept| keys.append_option(kept.key.as_deref()));
                Arc::new(keys.finish())
            }
            Metadata::Partition => Arc::new(Int32Array::from_value(self.range.partition.0, rows)),
            Metadata::Offset => Arc::new(Int64Array::from_iter_values(self.offsets.iter().copied())),
            Metadata::Timestamp => {
                let micros = self.kept.iter().map(|kept| kept.timestamp_millis.map(|millis| millis.saturating_mul(1_000)));
                Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("+00:00"))
            }
            Metadata::Topic => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.layout.topic, rows))),
            Metadata::Headers => self.headers_column(&column.ty),
        };
        let declared = column.ty.to_arrow();
        if *array.data_type() == declared { Ok(array) } else { Ok(cast(&array, &declared)?) }
    }

    fn headers_column(&self, ty: &SqlType) -> ArrayRef {
        // Texts hold no NUL.
        let text = |value: &Option<Vec<u8>>| value.as_deref().map(|bytes| String::from_utf8_lossy(bytes).replace('\0', "\u{FFFD}"));
        // Of a header given twice the last counts.
        let each = self.kept.iter().map(|kept| kept.headers.iter().map(|(name, value)| (name.as_str(), value)).collect::<BTreeMap<_, _>>());
        let names = || Some(MapFieldNames { entry: "entries".to_string(), key: "keys".to_string(), value: "values".to_string() });
        let finish = "a header's name and value are appended together";
        match ty {
            SqlType::Json => {
                let object = |headers: BTreeMap<&str, &Option<Vec<u8>>>| {
                    let members = headers.into_iter().map(|(name, value)| (name.to_string(), serde_json::Value::from(text(value))));
                    serde_json::Value::Object(members.collect()).to_string()
                };
                Arc::new(StringArray::from_iter_values(each.map(object)))
            }
            SqlType::Map(_, value) if **value == SqlType::Text => {
                let mut maps = MapBuilder::new(names(), StringBuilder::new(), StringBuilder::new());
                for headers in each {
                    for (name, value) in headers {
                        maps.keys().append_value(name);
                        maps.values().append_option(text(value));
                    }
                    maps.append(true).expect(finish);
                }
                Arc::new(maps.finish())
            }
            _ => {
                let mut maps = MapBuilder::new(names(), StringBuilder::new(), BinaryBuilder::new());
                for headers in each {
                    for (name, value) in headers {
                        maps.keys().append_value(name);
                        maps.values().append_option(value.as_deref());
                    }
                    maps.append(true).expect(finish);
                }
                Arc::new(maps.finish())
            }
        }
    }
}

/// Why a key is none.
fn no_text(key: &[u8]) -> Option<&'static str> {
    match std::str::from_utf8(key) {
        Err(_) => Some("the key is not UTF-8"),
        Ok(text) => text.contains('\0').then_some("the key has a NUL character, which no text can hold"),
    }
}
