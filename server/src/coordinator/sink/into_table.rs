//! What writes a sink's rows into a table of ours. It is a client of the coordinator as a session is: it takes the table's lock, looks up the rows
//! that it overwrites, and commits. With each write the coordinator logs up to which of the sink's steps it goes, so that what is
//! sent again after a crash is known to be there already.

use super::super::handle::{CoordinatorHandle, TableWrite};
use crate::serving::conflict::{keys_of, overwrite};
use crate::serving::dml::{conform, rounded};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use eddyline_common::connector::{SinkConnector, SinkMonitor, SinkStep, SinkWriter};
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Epoch, RelationId, Result, SqlError, SqlState};
use eddyline_planner::Relation;
use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon a sink that is closed is noticed while the coordinator is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Steps that are committed together: what a view over the table lags behind at most, and what is held meanwhile.
const COLLECT_MAX: Duration = Duration::from_millis(20);
const COLLECT_BYTES_MAX: usize = 4 << 20;

#[derive(Clone)]
pub struct TableSink {
    pub sink: RelationId,
    pub table: RelationId,
    pub coordinator: CoordinatorHandle,
    pub runtime: tokio::runtime::Handle,
}

struct TableWriter {
    place: TableSink,
    monitor: Arc<dyn SinkMonitor>,
    /// The table has all steps up to this one.
    written: u64,
    /// The last step that was given.
    taken: u64,
    held: Vec<ChangeBatch>,
    held_bytes: usize,
    since: Option<Instant>,
}

impl TableSink {
    fn wait<T>(&self, monitor: &dyn SinkMonitor, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            let mut work = std::pin::pin!(work);
            loop {
                if let Ok(done) = tokio::time::timeout(LOOK_INTERVAL, &mut work).await {
                    return done;
                }
                if monitor.is_closed() {
                    return Err(SqlError::new(SqlState::ADMIN_SHUTDOWN, "the sink was closed"));
                }
            }
        })
    }

    fn relation(&self) -> Result<Arc<Relation>> {
        let relation = self.coordinator.catalog().get(self.table).cloned();
        relation.ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, "the table was dropped"))
    }

    /// Writes net changes, of which the last one of a key counts.
    async fn write(&self, changes: ChangeBatch, up_to: u64) -> Result<()> {
        let relation = self.relation()?;
        let _lock = self.coordinator.lock_table(self.table).await;
        let changes = if relation.key.is_empty() {
            added(&relation, &changes)?
        } else {
            let snapshot = self.coordinator.snapshot_to_write(self.table, &[self.table], Epoch::ZERO).await?;
            overwrite(&relation, &snapshot, changes.rows.columns().to_vec(), changes.weights)?
        };
        let write = TableWrite { changes: vec![(self.table, changes)] };
        let admitted = self.coordinator.admit_of_sink(write, self.sink, up_to).await?;
        self.coordinator.write_admitted(admitted).await.map(drop)
    }
}

/// Rows of a table without a key, each as often as its weight says.
fn added(relation: &Relation, changes: &ChangeBatch) -> Result<ChangeBatch> {
    let rows = stored(relation, changes)?;
    let rows = RecordBatch::try_new(arrow_schema(&relation.columns), rows.columns().to_vec())?;
    if changes.weights.is_none() {
        return Ok(ChangeBatch::insertions(rows));
    }
    let repeated = (0..rows.num_rows()).flat_map(|row| std::iter::repeat_n(row as u32, usize::try_from(changes.weight(row)).unwrap_or(0)));
    Ok(ChangeBatch::insertions(take_record_batch(&rows, &UInt32Array::from_iter_values(repeated))?))
}

/// The rows as the table keeps them.
fn stored(relation: &Relation, changes: &ChangeBatch) -> Result<RecordBatch> {
    rounded(relation, conform(changes.rows.columns(), changes.num_rows(), &arrow_schema(&relation.columns))?)
}

/// How many rows of the table they write or take away.
fn rows_written(relation: &Relation, changes: &ChangeBatch) -> Result<u64> {
    let Some(weights) = &changes.weights else { return Ok(changes.num_rows() as u64) };
    if relation.key.is_empty() {
        return Ok(weights.values().iter().map(|weight| u64::try_from(*weight).unwrap_or(0)).sum());
    }
    let rows = stored(relation, changes)?;
    Ok(keys_of(relation, &rows)?.iter().collect::<HashSet<&[u8]>>().len() as u64)
}

impl SinkConnector for TableSink {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn open(&self, after: u64, monitor: Arc<dyn SinkMonitor>) -> Result<Box<dyn SinkWriter>> {
        let written = self.wait(&*monitor, self.coordinator.written_by_sink(self.sink))?;
        let place = self.clone();
        Ok(Box::new(TableWriter { place, monitor, written: written.max(after), taken: 0, held: Vec::new(), held_bytes: 0, since: None }))
    }
}

impl TableWriter {
    fn commit(&mut self) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        (self.held_bytes, self.since) = (0, None);
        let Some(first) = held.first() else { return Ok(()) };
        let changes = ChangeBatch::concat(&first.schema(), &held)?;
        self.place.wait(&*self.monitor, self.place.write(changes, self.taken))?;
        self.written = self.taken;
        Ok(())
    }
}

impl SinkWriter for TableWriter {
    fn write(&mut self, step: SinkStep, changes: &ChangeBatch) -> Result<u64> {
        self.taken = step.number;
        // Also of a step that was written before and is only now acknowledged.
        let rows = rows_written(&*self.place.relation()?, changes)?;
        if step.number <= self.written || changes.is_empty() {
            return Ok(rows);
        }
        self.held_bytes += changes.bytes();
        self.held.push(changes.clone());
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.held_bytes >= COLLECT_BYTES_MAX || since.elapsed() >= COLLECT_MAX {
            self.commit()?;
        }
        Ok(rows)
    }

    fn flush(&mut self, _all: bool) -> Result<Option<u64>> {
        self.commit()?;
        Ok((self.taken > 0).then_some(self.taken))
    }
}
