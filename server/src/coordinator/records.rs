//! What the log holds: DDL, table writes and cuts, each under a kind byte of its own. JSON for what is
//! small and must stay readable across versions, Arrow IPC for rows.

use super::handle::TableWrite;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use eddyline_common::connector::PartitionStart;
use eddyline_common::{ChangeBatch, Cut, Epoch, RelationId, Result, SqlError};
use eddyline_planner::catalog::{Index, Relation, SqlFunction};
use eddyline_planner::statement::Comments;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub const KIND_DDL: u8 = 1;
pub const KIND_WRITE: u8 = 2;
pub const KIND_CUT: u8 = 3;
/// A write of a sink: the sink, up to which of its steps it goes, and a write.
pub const KIND_SINK_WRITE: u8 = 4;

/// The hidden column that carries the weights of a logged write.
const WEIGHT_COLUMN: &str = "__weight";

/// A change of the catalog as it is replayed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum DdlRecord {
    Create {
        relation: Box<Relation>,
        /// The cut after which the relation begins.
        epoch: Epoch,
        /// A source's resolved start.
        starts: Vec<PartitionStart>,
        /// The same of each source of its own.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        own_starts: Vec<Vec<PartitionStart>>,
        /// Where sources end that nobody has read before it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        present: Vec<(RelationId, Vec<PartitionStart>)>,
        /// The materialized view whose name and place it takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<RelationId>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        comments: Comments,
    },
    CreateFunction {
        function: Box<SqlFunction>,
    },
    CreateIndex {
        index: Box<Index>,
    },
    /// Relations, indexes and functions.
    Drop {
        relations: Vec<RelationId>,
    },
    AdvanceWatermark {
        relation: RelationId,
        to_micros: i64,
    },
    Pause {
        relation: RelationId,
        pause: bool,
        /// Where a view stays.
        #[serde(default)]
        epoch: Epoch,
    },
    /// Other options, for what comes after the cut.
    Alter {
        relation: Box<Relation>,
        epoch: Epoch,
    },
    /// A table in the place of another.
    Replace {
        old: RelationId,
        new: RelationId,
    },
    /// ALTER SYSTEM; without a value, RESET.
    AlterSystem {
        name: String,
        value: Option<String>,
    },
    Comment {
        relation: RelationId,
        column: Option<usize>,
        text: Option<String>,
    },
}

/// One record of the log, decoded.
#[derive(Debug)]
pub enum Record {
    Ddl(DdlRecord),
    Write(Vec<(RelationId, ChangeBatch)>),
    SinkWrite { sink: RelationId, up_to: u64, changes: Vec<(RelationId, ChangeBatch)> },
    Cut(Cut),
}

pub fn decode(kind: u8, payload: &[u8]) -> Result<Record> {
    let damaged = |e: serde_json::Error| SqlError::corrupt(format!("a log record cannot be read: {e}"));
    match kind {
        KIND_DDL => Ok(Record::Ddl(serde_json::from_slice(payload).map_err(damaged)?)),
        KIND_WRITE => Ok(Record::Write(decode_write(payload)?)),
        KIND_SINK_WRITE => decode_sink_write(payload),
        KIND_CUT => Ok(Record::Cut(serde_json::from_slice(payload).map_err(damaged)?)),
        other => Err(SqlError::corrupt(format!("log record of unknown kind {other}"))
            .with_hint("Was the data directory written by a newer version?")),
    }
}

pub fn encode_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(SqlError::internal)
}

/// A write as it is logged: per table its id, the length, and an IPC stream with a weight column.
/// One of a sink begins with the sink's id and the number of the step that it goes up to.
pub fn encode_write(write: &TableWrite, sink: Option<(RelationId, u64)>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    if let Some((sink, up_to)) = sink {
        out.extend_from_slice(&sink.0.to_le_bytes());
        out.extend_from_slice(&up_to.to_le_bytes());
    }
    for (table, changes) in &write.changes {
        let ipc = encode_changes(changes)?;
        out.extend_from_slice(&table.0.to_le_bytes());
        out.extend_from_slice(&(ipc.len() as u64).to_le_bytes());
        out.extend_from_slice(&ipc);
    }
    Ok(out)
}

fn decode_sink_write(payload: &[u8]) -> Result<Record> {
    let short = || SqlError::corrupt("a sink's logged write is cut short");
    let (sink, rest) = payload.split_first_chunk::<4>().ok_or_else(short)?;
    let (up_to, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (sink, up_to) = (RelationId(u32::from_le_bytes(*sink)), u64::from_le_bytes(*up_to));
    Ok(Record::SinkWrite { sink, up_to, changes: decode_write(rest)? })
}

fn decode_write(mut payload: &[u8]) -> Result<Vec<(RelationId, ChangeBatch)>> {
    let short = || SqlError::corrupt("a logged write is cut short");
    let mut changes = Vec::new();
    while !payload.is_empty() {
        let (table, rest) = payload.split_first_chunk::<4>().ok_or_else(short)?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let length = u64::from_le_bytes(*length) as usize;
        if rest.len() < length {
            return Err(short());
        }
        changes.push((RelationId(u32::from_le_bytes(*table)), decode_changes(&rest[..length])?));
        payload = &rest[length..];
    }
    Ok(changes)
}

pub(super) fn encode_changes(changes: &ChangeBatch) -> Result<Vec<u8>> {
    let mut fields: Vec<Arc<Field>> = changes.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(WEIGHT_COLUMN, DataType::Int64, false)));
    let schema = Arc::new(Schema::new(fields));
    let weights = changes.weights.clone().unwrap_or_else(|| Int64Array::from(vec![1; changes.num_rows()]));
    let mut columns = changes.rows.columns().to_vec();
    columns.push(Arc::new(weights) as ArrayRef);
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

pub(super) fn decode_changes(ipc: &[u8]) -> Result<ChangeBatch> {
    let mut reader = StreamReader::try_new(ipc, None)?;
    let batch = reader.next().ok_or_else(|| SqlError::corrupt("a logged write has no rows"))??;
    let last = batch.num_columns() - 1;
    let weights = batch.column(last).as_any().downcast_ref::<Int64Array>().cloned();
    let weights = weights.ok_or_else(|| SqlError::corrupt("a logged write has no weights"))?;
    let rows = batch.project(&(0..last).collect::<Vec<_>>())?;
    Ok(ChangeBatch::with_weights(rows, weights))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_logged_as_it_was_first() {
        let text = br#"{"CreateIndex":{"index":{"id":9,"name":"i","sql":"CREATE INDEX i ON v (b, a)","relation":7,"columns":[1,0]}}}"#;
        let Record::Ddl(DdlRecord::CreateIndex { index }) = decode(KIND_DDL, text).unwrap() else { panic!("an index") };
        assert_eq!((index.id, index.name.as_str(), index.relation), (RelationId(9), "i", RelationId(7)));
        assert!(index.columns == [1, 0] && index.include.is_empty());
        assert_eq!(encode_json(&DdlRecord::CreateIndex { index }).unwrap(), text);
    }

    #[test]
    fn a_write_comes_back_as_it_went() {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![Some(1), None]))]).unwrap();
        let changes = ChangeBatch::with_weights(rows.clone(), Int64Array::from(vec![-1, 1]));
        let write = TableWrite { changes: vec![(RelationId(7), changes.clone()), (RelationId(8), ChangeBatch::insertions(rows))] };
        let of_sink = encode_write(&write, Some((RelationId(9), 1 << 40))).unwrap();
        let Record::SinkWrite { sink, up_to, changes: back } = decode(KIND_SINK_WRITE, &of_sink).unwrap() else { panic!("of a sink") };
        assert_eq!((sink, up_to, back.len()), (RelationId(9), 1 << 40, 2));
        assert!(decode(KIND_SINK_WRITE, &of_sink[..11]).is_err());
        let encoded = encode_write(&write, None).unwrap();
        let Record::Write(back) = decode(KIND_WRITE, &encoded).unwrap() else { panic!("a write") };
        assert_eq!(back.len(), 2);
        assert_eq!(back[0].0, RelationId(7));
        assert_eq!(back[0].1.rows, changes.rows);
        assert_eq!(back[0].1.weights, changes.weights);
        assert!(decode(KIND_WRITE, &encoded[..encoded.len() - 1]).is_err());
    }
}
