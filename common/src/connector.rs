//! What a source connector is to the rest: partitions with offsets, and readers that push decoded
//! batches into a bounded sink. Connectors know nothing of cuts, jobs, views or SQL text.

use crate::change::ChangeBatch;
use crate::error::Result;
use crate::ids::{Offset, PartitionId};
use crate::types::SqlType;
use arrow::array::{Int64Array, RecordBatch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A source as the catalog stores it and a connector opens it. Option keys are canonical (see
/// `eddyline_connectors::options`), `connector` and format keys included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceSpec {
    pub name: String,
    pub options: BTreeMap<String, String>,
    /// The columns the connector must fill, in this order; computed columns are not among them.
    pub columns: Vec<SourceColumn>,
    /// The columns by which records overwrite each other. Empty: they do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceColumn {
    /// The spelling in the declaration, which is the field's name in external formats.
    pub external_name: String,
    pub ty: SqlType,
    /// False for NOT NULL: a record without a value is undecodable.
    pub nullable: bool,
    pub origin: ColumnOrigin,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ColumnOrigin {
    /// A field of the record.
    Payload,
    /// Connector metadata by its lower-case key. Kafka: `key` bytes/text, `partition`, `offset`,
    /// `timestamp`, `headers`, `topic`.
    Metadata(String),
}

/// Where one partition begins for this source: fixed at CREATE SOURCE, so that all views of it mean the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStart {
    pub partition: PartitionId,
    pub start: Offset,
}

/// A range of one partition to read, `end == None` for "and whatever comes".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRange {
    pub partition: PartitionId,
    pub start: Offset,
    pub end: Option<Offset>,
}

/// Consecutive records of one partition, decoded. `rows` has the spec's columns. Batches of a
/// partition come in order and without gaps: one's `end` is the next one's `start`. Offsets may have holes
/// inside (compaction, transaction markers); then `end - start` exceeds the number of rows.
#[derive(Clone, Debug)]
pub struct SourceBatch {
    pub partition: PartitionId,
    pub start: Offset,
    pub end: Offset,
    pub rows: RecordBatch,
    /// As in a change batch; `None`: +1 each. Where the spec has a key, -1 says that the row with this key is gone.
    pub weights: Option<Int64Array>,
    /// The offset of each row, ascending; a record's rows share one. Lets a reader split the batch at a recorded cut.
    pub offsets: Vec<i64>,
    /// Records in the range that could not be decoded.
    pub undecodable: Vec<UndecodableRecord>,
    /// What the connector must be told before it can read again what this batch is the first of.
    pub notes: Vec<SourceNote>,
    /// The partition is bounded and ends at `end`.
    pub finished: bool,
}

impl SourceBatch {
    pub fn changes(&self) -> ChangeBatch {
        ChangeBatch { rows: self.rows.clone(), weights: self.weights.clone() }
    }
}

/// What a connector knows of a place in a partition and an offset does not say, such as which file is read from there on.
/// Kept with the cut that takes the batch, and in checkpoints for as long as the source lives: it must be short and rare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceNote {
    pub partition: PartitionId,
    pub offset: Offset,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndecodableRecord {
    pub offset: Offset,
    pub reason: String,
    /// The start of the record, as text as far as it is text.
    pub excerpt: String,
}

/// Where a reader puts what it reads. `push` blocks while the sink is full (back-pressure) and
/// returns false when nobody wants more: the reader then ends.
pub trait BatchSink: Send + Sync {
    fn push(&self, batch: SourceBatch) -> bool;
    /// Reports that the reader is in trouble and retrying (`Some`), or well again (`None`).
    fn report(&self, problem: Option<String>);
    /// Says where a partition ends at present, as far as the reader knows without asking.
    fn note_end(&self, _partition: PartitionId, _end: Offset) {}
    /// True once nobody wants more; for readers that wait for input.
    fn is_closed(&self) -> bool;
}

/// A reader at work on threads of its own. Dropping it stops it and waits for its threads; close
/// its sink first.
pub trait SourceReader: Send {}

/// One source's connector. Construction validates options and columns without I/O.
pub trait SourceConnector: Send + Sync {
    /// Contacts the external system and resolves the startup mode to concrete offsets. Fails within
    /// ten seconds with 08006 when it is away, 42704 for a missing topic.
    fn resolve_start(&self) -> Result<Vec<PartitionStart>>;

    /// What each partition holds at present, from its first offset to its end: what a SELECT over the source can read.
    /// `None` for an endless generator.
    fn present(&self) -> Result<Option<Vec<PartitionRange>>>;

    /// Takes notes of batches that cuts have taken, in their order, before anything they are needed for is read. May be given
    /// one again.
    fn remember(&self, _notes: &[SourceNote]) -> Result<()> {
        Ok(())
    }

    /// Reads the ranges, possibly in parallel, into `sink`. A range with an end is read exactly to that
    /// end; its last batch has `end == range.end`. If no range has one, partitions that come up later are read too, each
    /// from its first offset. Trouble on the way is reported and retried with
    /// back-off, never an early end.
    fn read(&self, ranges: Vec<PartitionRange>, sink: std::sync::Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>>;
}
