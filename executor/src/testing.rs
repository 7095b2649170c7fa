//! Helpers of this crate's tests: small schemas, batches of integers, Z-sets to compare by, random splitting.

use crate::operator::StepContext;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{ChangeBatch, Epoch, SqlType, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_planner::plan::{BinaryOp, Expr, Literal, LiteralValue};
use eddyline_storage::kv::MemoryKv;
use eddyline_storage::state::SpillGate;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;

/// Checkpoint `id` of a store as an image in a folder, the frozen runs in it.
pub(crate) fn image(kv: &MemoryKv, gate: &SpillGate, id: u64, runs: Vec<(StateTableId, SortedRun)>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    gate.ingest(id, || kv.ingest(SortedRun::merge(runs))).unwrap();
    gate.image(id, || kv.checkpoint(&dir.path().join("image"))).unwrap();
    dir
}

pub(crate) fn columns(columns: &[(&str, SqlType)]) -> Vec<Column> {
    columns.iter().map(|(name, ty)| Column::new(*name, ty.clone(), true)).collect()
}

pub(crate) fn schema(of: &[(&str, SqlType)]) -> SchemaRef {
    arrow_schema(&columns(of))
}

pub(crate) fn context() -> StepContext {
    StepContext::new(Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Reject)
}

/// Insertions of integer rows.
pub(crate) fn batch(schema: &SchemaRef, rows: &[&[i64]], arrival: i64) -> TaggedBatch {
    let rows: Vec<(Vec<i64>, i64)> = rows.iter().map(|r| (r.to_vec(), 1)).collect();
    let weighted = weighted(schema, &rows, arrival);
    TaggedBatch { changes: ChangeBatch::insertions(weighted.changes.rows), ..weighted }
}

/// Integer rows with weights.
pub(crate) fn weighted(schema: &SchemaRef, rows: &[(Vec<i64>, i64)], arrival: i64) -> TaggedBatch {
    let arrays = (0..schema.fields().len())
        .map(|c| {
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(r, _)| r[c])));
            cast(&values, schema.field(c).data_type()).unwrap()
        })
        .collect();
    let weights = Int64Array::from_iter_values(rows.iter().map(|(_, w)| *w));
    let changes = ChangeBatch::with_weights(RecordBatch::try_new(schema.clone(), arrays).unwrap(), weights);
    TaggedBatch { changes, arrival_watermark: Timestamp(arrival), now: Timestamp(0) }
}

/// Rows of number columns with their weights, as they come.
pub(crate) fn rows_of(batches: &[TaggedBatch]) -> Vec<(Vec<i64>, i64)> {
    batches.iter().flat_map(|b| changes_of(&b.changes)).collect()
}

pub(crate) fn changes_of(changes: &ChangeBatch) -> Vec<(Vec<i64>, i64)> {
    let columns: Vec<Int64Array> =
        changes.rows.columns().iter().map(|c| Int64Array::from(cast(c, &DataType::Int64).unwrap().to_data())).collect();
    (0..changes.num_rows()).map(|i| (columns.iter().map(|c| c.value(i)).collect(), changes.weight(i))).collect()
}

/// The Z-set of batches: rows in order, their weights summed, none of weight zero.
pub(crate) fn net(batches: &[TaggedBatch]) -> Vec<(Vec<i64>, i64)> {
    net_changes(batches.iter().map(|b| &b.changes))
}

pub(crate) fn net_changes<'a>(batches: impl Iterator<Item = &'a ChangeBatch>) -> Vec<(Vec<i64>, i64)> {
    let mut sums: BTreeMap<Vec<i64>, i64> = BTreeMap::new();
    for (row, weight) in batches.flat_map(changes_of) {
        *sums.entry(row).or_default() += weight;
    }
    sums.into_iter().filter(|(_, w)| *w != 0).collect()
}

/// The rows of a batch in random order and random pieces.
pub(crate) fn split(batch: TaggedBatch, seed: u64) -> Vec<TaggedBatch> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut order: Vec<u32> = (0..batch.changes.num_rows() as u32).collect();
    order.shuffle(&mut random);
    let mut pieces = Vec::new();
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(random.random_range(1..=rest.len().min(100)));
        rest = later;
        let changes = batch.changes.take(&UInt32Array::from(piece.to_vec())).unwrap();
        pieces.push(TaggedBatch { changes, arrival_watermark: batch.arrival_watermark, now: batch.now });
    }
    pieces
}

pub(crate) fn column(index: usize) -> Expr {
    Expr::Column(index)
}

pub(crate) fn int(value: i64) -> Expr {
    Expr::Literal(Literal { ty: SqlType::BigInt, value: LiteralValue::Int(value) })
}

pub(crate) fn binary(op: BinaryOp, left: Expr, right: Expr) -> Expr {
    Expr::Binary { op, left: Box::new(left), right: Box::new(right) }
}
