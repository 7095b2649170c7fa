//! What fell out of the dataflow, kept bounded and queryable: late rows and undecodable records. Nothing is dropped without a
//! count: the counters go on when the kept rows have reached their bound. Rejected rows are a view beside each job's
//! (`eddyline_executor::rejects`), without a bound, and are read by whoever asks for them.
//!
//! - `columns`: the relations of the schema `eddyline` that the coordinator has
//! - `present`: their rows

mod columns;
mod present;

pub use columns::{SYSTEM_RELATIONS, schema};
pub use present::{Cell, to_batch};

use super::handle::SystemRelation;
use super::pins::Pin;
use super::stats::JobStats;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{FieldRef, Schema};
use eddyline_common::connector::UndecodableRecord;
use eddyline_common::{ChangeBatch, Epoch, PartitionId, RelationId, Result};
use eddyline_executor::SideRows;
use eddyline_executor::rejects::{self, json_lines};
use eddyline_planner::catalog::Relation;
use eddyline_planner::explain;
use eddyline_planner::plan::{NodeId, StreamPlan};
use eddyline_storage::view::{Snapshot, View};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Rows kept of each kind; enough to see what is wrong, small enough for every checkpoint.
const KEPT_MAX: usize = 1_000;

/// How much of a late row is kept, as text. All of them together are a few megabytes in each checkpoint.
const ROW_BYTES_MAX: usize = 4_096;

/// Rows that are whole texts at a time.
const ROWS_AT_ONCE: usize = 16;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SideRow {
    view: RelationId,
    epoch: Epoch,
    reason: String,
    row: String,
    weight: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Undecodable {
    source: RelationId,
    epoch: Epoch,
    partition: PartitionId,
    offset: i64,
    reason: String,
    excerpt: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SystemRows {
    late: VecDeque<SideRow>,
    undecodable: VecDeque<Undecodable>,
}

impl SystemRows {
    /// Keeps a step's late rows, the last ones of many; returns how many there were.
    pub fn late_rows(&mut self, relation: &Relation, epoch: Epoch, late: &[SideRows]) -> u64 {
        let view = relation.id;
        let mut behind: usize = late.iter().map(|side| side.changes.num_rows()).sum();
        for side in late {
            let rows = side.changes.num_rows();
            behind -= rows;
            // What is behind these will push the first ones out.
            let kept = rows.min(KEPT_MAX.saturating_sub(behind));
            let kept = side.changes.slice(rows - kept, kept);
            let shown = relation.plan().map_or_else(|| kept.rows.clone(), |plan| as_called(plan, side.node, &kept.rows));
            for (index, row) in excerpts(&shown).into_iter().enumerate() {
                push_bounded(&mut self.late, SideRow { view, epoch, reason: side.reason.clone(), row, weight: kept.weight(index) });
            }
        }
        count(late)
    }

    pub fn undecodable(&mut self, source: RelationId, epoch: Epoch, records: Vec<(PartitionId, UndecodableRecord)>) {
        for (partition, record) in records {
            let UndecodableRecord { offset, reason, excerpt } = record;
            push_bounded(&mut self.undecodable, Undecodable { source, epoch, partition, offset: offset.0, reason, excerpt });
        }
    }

    /// Late rows of epochs that a crash does not take back, the newest of which is `durable`: nothing of a cut is seen before that.
    fn late_up_to(&self, durable: Epoch) -> impl Iterator<Item = &SideRow> {
        self.late.iter().filter(move |row| row.epoch <= durable)
    }

    /// The same of records.
    fn undecodable_up_to(&self, durable: Epoch) -> impl Iterator<Item = &Undecodable> {
        self.undecodable.iter().filter(move |record| record.epoch <= durable)
    }

    /// Its relation was dropped.
    pub fn forget(&mut self, id: RelationId) {
        self.late.retain(|r| r.view != id);
        self.undecodable.retain(|r| r.source != id);
    }

    /// What belongs to epochs up to those of its views and sources in a checkpoint: the rest comes again by replay.
    pub fn up_to(&self, of_view: impl Fn(RelationId) -> Epoch, of_source: impl Fn(RelationId) -> Epoch) -> SystemRows {
        let mut kept = self.clone();
        kept.late.retain(|r| r.epoch <= of_view(r.view));
        kept.undecodable.retain(|r| r.epoch <= of_source(r.source));
        kept
    }
}

/// The rows with the names that their columns have in the query.
fn as_called(plan: &StreamPlan, node: NodeId, rows: &RecordBatch) -> RecordBatch {
    let field = |field: &FieldRef| Arc::new(field.as_ref().clone().with_name(explain::called(plan, node, field.name())));
    let schema = Schema::new(rows.schema_ref().fields().iter().map(field).collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let named = RecordBatch::try_new_with_options(Arc::new(schema), rows.columns().to_vec(), &options);
    named.unwrap_or_else(|_| rows.clone())
}

/// The rows as text, long ones cut.
fn excerpts(rows: &RecordBatch) -> Vec<String> {
    let pieces = (0..rows.num_rows()).step_by(ROWS_AT_ONCE).map(|at| rows.slice(at, ROWS_AT_ONCE.min(rows.num_rows() - at)));
    // A copy: what is cut would keep its memory.
    let cut = |text: String| if text.len() > ROW_BYTES_MAX { text[..text.floor_char_boundary(ROW_BYTES_MAX)].to_string() } else { text };
    pieces.flat_map(|piece| json_lines(&piece).into_iter().map(cut)).collect()
}

fn push_bounded<T>(rows: &mut VecDeque<T>, row: T) {
    if rows.len() == KEPT_MAX {
        rows.pop_front();
    }
    rows.push_back(row);
}

fn count(sides: &[SideRows]) -> u64 {
    let weight = |c: &ChangeBatch| c.weights.as_ref().map_or(c.num_rows() as u64, |w| w.values().iter().map(|w| w.unsigned_abs()).sum());
    sides.iter().map(|s| weight(&s.changes)).sum()
}

/// All rejected rows at one moment, read a batch at a time.
pub struct RejectedRows {
    /// With the names of their views.
    jobs: Vec<(String, Arc<View>, Epoch)>,
    pin: Pin,
}

impl RejectedRows {
    /// Batches in the columns of the relation.
    pub fn batches(self: Arc<Self>) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        let (mut next, mut open): (usize, Option<Snapshot>) = (0, None);
        std::iter::from_fn(move || {
            loop {
                if let Err(too_old) = self.pin.check() {
                    return Some(Err(too_old));
                }
                if let Some(batch) = open.as_mut().and_then(Iterator::next) {
                    let name = &self.jobs[next - 1].0;
                    return Some(batch.and_then(|batch| with_name(name, &batch)));
                }
                let (_, view, epoch) = self.jobs.get(next)?;
                next += 1;
                match view.snapshot(*epoch, Some(&[rejects::EPOCH, rejects::REASON, rejects::ROW, rejects::WEIGHT])) {
                    Ok(rows) => open = Some(rows),
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }
}

fn with_name(name: &str, rows: &RecordBatch) -> Result<RecordBatch> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(name, rows.num_rows())));
    let columns = std::iter::once(names).chain(rows.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(schema(SystemRelation::RejectedRows), columns)?)
}

/// Counters that survive a restart, so that produced = accepted + late + rejected goes on holding.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct JobCounters {
    pub rows_in: u64,
    pub rows_out: u64,
    pub late: u64,
    pub rejected: u64,
}

impl JobCounters {
    pub fn of(stats: &JobStats) -> Self {
        JobCounters {
            rows_in: stats.rows_in.load(Relaxed),
            rows_out: stats.rows_out.load(Relaxed),
            late: stats.late.load(Relaxed),
            rejected: stats.rejected.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_rows_are_kept_in_part() {
        let texts: Vec<String> = (0..50).map(|n| if n % 2 == 0 { format!("{n}") } else { "é".repeat(100_000) }).collect();
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        let kept = excerpts(&RecordBatch::try_from_iter([("v", texts)]).unwrap());
        assert_eq!(kept.len(), 50);
        assert_eq!((kept[0].as_str(), kept[48].as_str()), (r#"{"v":"0"}"#, r#"{"v":"48"}"#));
        assert!(kept.iter().all(|row| row.capacity() <= ROW_BYTES_MAX));
        assert!(kept[49].len() > ROW_BYTES_MAX - 2 && kept[49].starts_with(r#"{"v":"é"#));
    }

    #[test]
    fn what_a_crash_takes_back_is_not_shown() {
        let mut system = SystemRows::default();
        let record = UndecodableRecord { offset: eddyline_common::Offset(0), reason: "why".to_string(), excerpt: String::new() };
        for epoch in 1..=3 {
            let late = SideRow { view: RelationId(1), epoch: Epoch(epoch), reason: String::new(), row: String::new(), weight: 1 };
            push_bounded(&mut system.late, late);
            system.undecodable(RelationId(2), Epoch(epoch), vec![(PartitionId(0), record.clone())]);
        }
        let late: Vec<u64> = system.late_up_to(Epoch(2)).map(|row| row.epoch.0).collect();
        let undecodable: Vec<u64> = system.undecodable_up_to(Epoch(2)).map(|record| record.epoch.0).collect();
        assert_eq!((late, undecodable), (vec![1, 2], vec![1, 2]));
    }
}
