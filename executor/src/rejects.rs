//! Rejected rows as a Z-set that knows no bound: a view of its own beside the job's, with a row and its weight for each row that
//! is rejected at present. A later retraction finds it there, however long ago it was rejected and however many there are; the
//! view store keeps them in files, checkpoints them, and lets a reader see those of one epoch.
//!
//! A row is known by the operator that rejected it and its values, not by the reason: an aggregate that takes several results
//! back may name another one than before.

use crate::job::SideRows;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Int64Array, PrimitiveArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;
use eddyline_common::{ChangeBatch, Epoch, Result, SqlError};
use eddyline_storage::view::{SegmentDir, View, ViewKey};
use hashbrown::HashMap;
use std::sync::Arc;

/// Positions of the columns.
pub const NODE: usize = 0;
pub const ROW: usize = 1;
pub const REASON: usize = 2;
pub const WEIGHT: usize = 3;
pub const EPOCH: usize = 4;

/// Rows looked up and changed at a time: bounds the memory for a step that rejects many.
const CHUNK_ROWS: usize = 16 * 1024;

pub fn schema() -> SchemaRef {
    let field = |name: &str, ty| Field::new(name, ty, false);
    Arc::new(Schema::new(vec![
        field("node", DataType::Int64),
        field("row", DataType::Utf8),
        field("reason", DataType::Utf8),
        field("weight", DataType::Int64),
        field("epoch", DataType::Int64),
    ]))
}

pub fn key() -> ViewKey {
    ViewKey::Keyed(vec![NODE, ROW])
}

/// One shard: steps end one after the other.
pub const SHARDS: usize = 1;

pub fn empty(dir: Option<Arc<SegmentDir>>) -> Result<Arc<View>> {
    View::new(schema(), key(), SHARDS, dir)
}

/// Adds a step's rejections to those there are; what comes to nothing is gone. Called once per step, by one thread. How many came, by
/// weight: those that are taken back in the same step did not, and those that are taken back of earlier ones are no rejections.
pub(crate) fn apply(view: &View, epoch: Epoch, rejected: &[SideRows]) -> Result<u64> {
    let mut net: HashMap<(i64, String), (i64, &str)> = HashMap::new();
    for side in rejected {
        for (index, row) in json_lines(&side.changes.rows).into_iter().enumerate() {
            let entry = net.entry((side.node as i64, row)).or_insert((0, side.reason.as_str()));
            entry.0 += side.changes.weight(index);
        }
    }
    let changed: Vec<Change> = net
        .into_iter()
        .filter(|(_, (weight, _))| *weight != 0)
        .map(|((node, row), (weight, reason))| Change { node, row, weight, reason })
        .collect();
    changed.chunks(CHUNK_ROWS).try_for_each(|chunk| apply_chunk(view, epoch, chunk))?;
    Ok(changed.iter().map(|change| change.weight.max(0) as u64).sum())
}

struct Change<'a> {
    node: i64,
    row: String,
    weight: i64,
    reason: &'a str,
}

fn apply_chunk(view: &View, epoch: Epoch, changes: &[Change]) -> Result<()> {
    let keys: [ArrayRef; 2] = [
        Arc::new(Int64Array::from_iter_values(changes.iter().map(|c| c.node))),
        Arc::new(StringArray::from_iter_values(changes.iter().map(|c| &c.row))),
    ];
    let known = view.lookup(epoch, &keys)?;
    let found = Known::of(&known)?;
    let (mut nodes, mut rows, mut reasons, mut weights, mut epochs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for change in changes {
        let at = found.places.get(&(change.node, change.row.as_str())).copied();
        let weight = change.weight + at.map_or(0, |at| found.weights[at]);
        if weight != 0 {
            nodes.push(change.node);
            rows.push(change.row.as_str());
            reasons.push(at.map_or(change.reason, |at| found.reasons.value(at)));
            weights.push(weight);
            epochs.push(at.map_or(epoch.0 as i64, |at| found.epochs[at]));
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(nodes)),
        Arc::new(StringArray::from(rows)),
        Arc::new(StringArray::from(reasons)),
        Arc::new(Int64Array::from(weights)),
        Arc::new(Int64Array::from(epochs)),
    ];
    let insertions = ChangeBatch::insertions(RecordBatch::try_new(schema(), columns)?);
    let gone = Int64Array::from_value(-1, known.num_rows());
    view.apply(0, epoch, &[ChangeBatch::with_weights(known.clone(), gone), insertions])
}

/// What was rejected before, of the rows that change now.
struct Known<'a> {
    places: HashMap<(i64, &'a str), usize>,
    reasons: &'a StringArray,
    weights: &'a [i64],
    epochs: &'a [i64],
}

impl<'a> Known<'a> {
    fn of(known: &'a RecordBatch) -> Result<Self> {
        let damaged = || SqlError::internal("rejected rows are not as they were stored");
        let numbers = |column: usize| known.column(column).as_primitive_opt::<Int64Type>().ok_or_else(damaged);
        let texts = |column: usize| known.column(column).as_string_opt::<i32>().ok_or_else(damaged);
        let (nodes, rows) = (numbers(NODE)?, texts(ROW)?);
        let places = (0..known.num_rows()).map(|at| ((nodes.value(at), rows.value(at)), at)).collect();
        Ok(Known { places, reasons: texts(REASON)?, weights: numbers(WEIGHT)?.values(), epochs: numbers(EPOCH)?.values() })
    }
}

/// One JSON object per row.
pub fn json_lines(rows: &RecordBatch) -> Vec<String> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    let written = with_infinities(rows).and_then(|rows| writer.write(&rows)).and_then(|()| writer.finish());
    if let Err(error) = written {
        return vec![format!("{{\"unprintable\": \"{error}\"}}"); rows.num_rows()];
    }
    String::from_utf8_lossy(&writer.into_inner()).lines().map(str::to_string).collect()
}

/// The rows with texts in the place of columns of times some of which are infinite, for which the writer has no digits.
fn with_infinities(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let texts = |column: &ArrayRef| match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => spelled(column.as_primitive::<TimestampMicrosecondType>(), i64::MIN, i64::MAX),
        DataType::Date32 => spelled(column.as_primitive::<Date32Type>(), i32::MIN, i32::MAX),
        _ => None,
    };
    let texts: Vec<Option<ArrayRef>> = rows.columns().iter().map(texts).collect();
    if texts.iter().all(Option::is_none) {
        return Ok(rows.clone());
    }
    let columns = rows.schema_ref().fields().iter().zip(rows.columns()).zip(texts).map(|((field, column), text)| match text {
        Some(text) => (Arc::new(Field::new(field.name(), DataType::Utf8, true)), text),
        None => (field.clone(), column.clone()),
    });
    let (fields, columns): (Vec<FieldRef>, Vec<ArrayRef>) = columns.unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Times as texts, if there is an infinite one among them.
fn spelled<T: ArrowPrimitiveType>(times: &PrimitiveArray<T>, least: T::Native, greatest: T::Native) -> Option<ArrayRef> {
    let infinity = |time: T::Native| match time {
        time if time == greatest => Some("infinity"),
        time if time == least => Some("-infinity"),
        _ => None,
    };
    let ends: Vec<Option<&str>> = times.iter().map(|time| infinity(time?)).collect();
    if ends.iter().all(Option::is_none) {
        return None;
    }
    let finite = times.unary_opt::<_, T>(|time| infinity(time).is_none().then_some(time)).with_data_type(times.data_type().clone());
    let texts = cast(&finite, &DataType::Utf8).ok()?;
    let texts = ends.into_iter().zip(texts.as_string::<i32>()).map(|(end, text)| end.or(text));
    Some(Arc::new(texts.collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, TimestampMicrosecondArray};
    use std::collections::BTreeMap;

    #[test]
    fn infinite_times_are_spelled_and_others_as_ever() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(i64::MAX), None, Some(i64::MIN)]));
        let days: ArrayRef = Arc::new(Date32Array::from(vec![0, 1, i32::MAX, 2]));
        let rows = RecordBatch::try_from_iter_with_nullable([("at", times, true), ("day", days, true)]).unwrap();
        let lines = json_lines(&rows);
        assert_eq!(lines[0], json_lines(&rows.slice(0, 1))[0], "what is finite does not depend on what is beside it");
        assert_eq!(lines[1], r#"{"at":"infinity","day":"1970-01-02"}"#);
        assert_eq!(lines[2], r#"{"day":"infinity"}"#);
        assert_eq!(lines[3], r#"{"at":"-infinity","day":"1970-01-03"}"#);
    }

    fn side(node: usize, reason: &str, rows: &[(i64, i64)]) -> SideRows {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(value, _)| *value)));
        let batch = RecordBatch::try_from_iter([("a", values)]).unwrap();
        let weights = Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight));
        SideRows { node, reason: reason.to_string(), changes: ChangeBatch::with_weights(batch, weights) }
    }

    /// (node, row) -> (weight, reason, epoch)
    fn read(view: &View, epoch: u64) -> BTreeMap<(i64, String), (i64, String, i64)> {
        let mut all = BTreeMap::new();
        for batch in view.snapshot(Epoch(epoch), None).unwrap() {
            let batch = batch.unwrap();
            let (numbers, texts) =
                (|c: usize| batch.column(c).as_primitive::<Int64Type>().clone(), |c: usize| batch.column(c).as_string::<i32>().clone());
            for at in 0..batch.num_rows() {
                let key = (numbers(NODE).value(at), texts(ROW).value(at).to_string());
                let value = (numbers(WEIGHT).value(at), texts(REASON).value(at).to_string(), numbers(EPOCH).value(at));
                assert!(all.insert(key, value).is_none(), "each row is there once");
            }
        }
        all
    }

    #[test]
    fn what_was_rejected_is_taken_back_whenever_and_whatever_the_reason() {
        let view = empty(None).unwrap();
        let many: Vec<(i64, i64)> = (0..3 * CHUNK_ROWS as i64).map(|a| (a, 1)).collect();
        let came = apply(&view, Epoch(1), &[side(1, "division by zero", &many), side(2, "division by zero", &[(7, 2)])]).unwrap();
        assert_eq!((read(&view, 1).len(), came), (many.len() + 1, many.len() as u64 + 2));
        // In one step: taken back before it came, by another worker; one more of what is there; a part of what is there.
        let step = [side(1, "other", &[(-5, -1), (8, 1)]), side(1, "other", &[(-5, 1)]), side(2, "other", &[(7, -1)])];
        assert_eq!(apply(&view, Epoch(2), &step).unwrap(), 1, "one came and stayed");
        let rows = read(&view, 2);
        assert_eq!(rows.len(), many.len() + 1);
        assert_eq!(rows[&(1, r#"{"a":8}"#.to_string())], (2, "division by zero".to_string(), 1));
        assert_eq!(rows[&(2, r#"{"a":7}"#.to_string())], (1, "division by zero".to_string(), 1));
        let back: Vec<(i64, i64)> = many.iter().map(|(a, _)| (*a, -1)).collect();
        assert_eq!(apply(&view, Epoch(3), &[side(1, "other", &back), side(2, "other", &[(7, -1)])]).unwrap(), 0);
        assert_eq!(read(&view, 3).into_keys().collect::<Vec<_>>(), [(1, r#"{"a":8}"#.to_string())]);
        assert_eq!(read(&view, 2).len(), many.len() + 1, "a reader of the epoch before still sees them");
    }

    #[test]
    fn steps_of_one_epoch_add_up() {
        let view = empty(None).unwrap();
        for weight in [1, 2, -1, -1, -1, 5] {
            apply(&view, Epoch(4), &[side(0, "no", &[(1, weight)])]).unwrap();
        }
        assert_eq!(read(&view, 4).into_values().map(|(weight, ..)| weight).collect::<Vec<_>>(), [5]);
    }
}
