//! What connectors are to the rest. A source: partitions with offsets, and readers that push decoded batches into a
//! bounded sink. A sink: a writer that takes the net changes of step after step and acknowledges what is durable
//! outside. A table that is looked up: somebody who is asked for the rows of some keys, and answers later. Connectors know
//! nothing of cuts, jobs, views or SQL text.

use crate::change::ChangeBatch;
use crate::error::Result;
use crate::ids::{Epoch, Offset, PartitionId};
use crate::time::Timestamp;
use crate::types::SqlType;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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
    /// So many characters a text may have; a record with a longer one is undecodable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
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
    /// A column of theirs may be one whose values could not be read (`missing_values`).
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

/// In the metadata of a batch's schema, with the column's number behind it: why its values are missing.
const MISSING: &str = "eddyline.missing.";

/// The schema of a batch in which some columns are null since their values could not be read, and why. Its records are accepted all the
/// same, as they would be if nobody read these columns; who does read one must put them aside.
pub fn without_values(schema: &Schema, columns: impl Iterator<Item = (usize, String)>) -> SchemaRef {
    let why = columns.map(|(column, why)| (format!("{MISSING}{column}"), why)).collect();
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), why))
}

/// Why a column of a batch has no values.
pub fn missing_values(schema: &Schema, column: usize) -> Option<&str> {
    if schema.metadata().is_empty() { None } else { schema.metadata().get(&format!("{MISSING}{column}")).map(String::as_str) }
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
    /// Says that all up to `end` has been pushed, and that nothing lay behind it when the reader last looked. For readers that wait for what
    /// comes up, where an offset does not tell whether anything follows.
    fn note_all_read(&self, _partition: PartitionId, _end: Offset) {}
    /// How many bytes it holds of what nobody has taken yet: a reader has no use for fetching more than that ahead.
    fn bytes_max(&self) -> usize {
        usize::MAX
    }
    /// Whether what was removed from the source before it was read is left out, rather than waited for: a query reads what is there.
    fn reads_what_is_there(&self) -> bool {
        false
    }
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

    /// The same for a place that was only just made, to be written to, and may hold nothing yet.
    fn empty_start(&self) -> Result<Vec<PartitionStart>> {
        self.resolve_start()
    }

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
    fn read(&self, ranges: Vec<PartitionRange>, sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>>;

    /// The same for readers that look at some columns alone: any other may be null in every row. Which records can be decoded does not
    /// depend on it, so values of other columns are checked all the same, if any could be wrong. Columns that are NOT NULL are kept always.
    fn read_columns(&self, ranges: Vec<PartitionRange>, _kept: &[bool], sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.read(ranges, sink)
    }
}

/// A sink as the catalog stores it and a connector opens it. Option keys are canonical, `connector` and format keys
/// included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkSpec {
    pub name: String,
    /// Told apart from every other sink that ever had this name: what a connector may put into names of its own.
    pub incarnation: String,
    pub options: BTreeMap<String, String>,
    /// The columns of the batches that the writer gets, in this order.
    pub columns: Vec<SinkColumn>,
    /// Columns by which rows are identified; no two live rows are equal in them. Empty: rows have no identity.
    pub key: Vec<usize>,
    pub mode: SinkMode,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkColumn {
    /// The field's name in external formats.
    pub external_name: String,
    pub ty: SqlType,
}

/// How net changes are told to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkMode {
    /// Every row is new; there are no retractions.
    Append,
    /// The new row of each key; a key that is gone is deleted.
    Upsert,
    /// Old and new row of each change (Debezium).
    Changelog,
}

/// A stretch of a sink's changes. Numbers grow by one per step over the sink's whole life and are never reused; one
/// that was begun again after a failure has the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkStep {
    pub number: u64,
    pub epoch: Epoch,
    /// `now` of the step's cut.
    pub now: Timestamp,
}

/// Where a writer says how it fares. Writers that wait look at `is_closed` several times a second.
pub trait SinkMonitor: Send + Sync {
    /// It is in trouble and retrying (`Some`), or well again (`None`).
    fn report(&self, problem: Option<String>);
    /// Nobody wants the writer any more: it gives up waiting with an error.
    fn is_closed(&self) -> bool;
}

/// Writes one sink's changes, on one thread of the sink's own; it may block that. After an error it is dropped, and a
/// new one gets everything since the last step that was acknowledged: at least once, in order.
pub trait SinkWriter: Send {
    /// Net changes of one step, in one call. Of a key there is at most one row with weight -1, which was the newest, and
    /// one with +1, which is now; without a key, rows that are equal may have larger weights. Blocks while
    /// the outside takes no more (back-pressure), with bounded memory of its own. Says how many records the outside has of the step once it is
    /// durable there: one for a row that takes another's place.
    fn write(&mut self, step: SinkStep, changes: &ChangeBatch) -> Result<u64>;

    /// Makes durable outside what was written, and says up to which step everything is (`None`: nothing since the writer
    /// was opened). A writer that collects may keep the newest steps back unless `all` must go. Called when no
    /// more changes wait, and every so often while they do.
    fn flush(&mut self, all: bool) -> Result<Option<u64>>;

    /// When a writer that keeps steps back wants to be flushed without having been written to.
    fn flush_after(&self) -> Option<Duration> {
        None
    }
}

/// One sink's connector. Construction validates options and columns without I/O.
pub trait SinkConnector: Send + Sync {
    /// Contacts the external system: that it is there and will take the rows. Fails within ten seconds; 08006 when it is away.
    fn check(&self) -> Result<()>;

    /// Begins to write after step `after`, which is the last that is known to be durable outside; later ones may be there in part
    /// or whole, and come again. What is being retried is over once a step is acknowledged; a connector that has asked the outside here, and whose
    /// writers keep steps back for long, reports it.
    fn open(&self, after: u64, monitor: Arc<dyn SinkMonitor>) -> Result<Box<dyn SinkWriter>>;
}

/// What a job wants to know of a table that is looked up, by columns of its spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupShape {
    /// Those that are compared with the keys asked for, in their order. At least one.
    pub keys: Vec<usize>,
    /// Those that an answer's rows have.
    pub columns: Vec<usize>,
}

/// The rows of the keys that were asked for.
#[derive(Clone, Debug)]
pub struct LookupAnswer {
    /// The columns of the shape, of every row found.
    pub rows: RecordBatch,
    /// By row: which of the keys it was found for. In no order; a key that nothing is equal to is not among them.
    pub keys: Vec<u32>,
    /// Keys of which a row was found that a column here cannot hold, and why. None of their rows are in `rows`.
    pub refused: Vec<(u32, String)>,
}

/// Takes the answer, on a thread that may not be kept waiting. An error says that the question was given up.
pub type OnAnswer = Box<dyn FnOnce(Result<LookupAnswer>) + Send>;

/// Is told that a question is in trouble and asked again (`Some`), or that none is any more (`None`), whosever they are.
pub type OnTrouble = Arc<dyn Fn(Option<String>) + Send + Sync>;

/// How long answers may be used again, and of how many keys at once. The clock is that of the cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupCache {
    pub keys_max: usize,
    pub ttl_micros: i64,
}

/// One job's way to a table outside that is looked up. Construction validates options and columns without I/O. What it
/// answers cannot be asked for again: whoever needs it later keeps it.
pub trait LookupConnector: Send + Sync {
    /// Contacts the external system: that the table is there and has the columns, in types that fit. Fails within ten seconds
    /// with 08006 when it is away, 42P01 without the table, 42703 or 42804 for a column.
    fn check(&self) -> Result<()>;

    /// `None`: every question is asked.
    fn cache(&self) -> Option<LookupCache>;

    /// Contacts nobody yet. Dropping the client gives up what it has asked, without waiting; no answer comes then.
    fn open(&self, shape: LookupShape, on_trouble: OnTrouble) -> Result<Box<dyn LookupClient>>;
}

/// Asks, for one worker of a job.
pub trait LookupClient: Send {
    /// Asks for the rows of some keys: the shape's key columns, no two rows of them equal and none with a null. Returns at once,
    /// never blocks; `on_answer` is called later, from another thread. Trouble on the way is told and the question asked again with
    /// back-off, as often as the table's options say. An answer has no bound but the rows there are; one that is far too large is an error.
    fn ask(&mut self, keys: Vec<ArrayRef>, on_answer: OnAnswer);
}
