//! INSERT, UPDATE and DELETE: take the table's lock, evaluate over its newest state, keep the effects for the
//! commit. The lock is held until the transaction ends, so what was checked stays true.

use super::{Outcome, Session, Tag};
use crate::coordinator::ReadSnapshot;
use crate::serving::dml::{Effects, Target};
use crate::serving::{Bindings, RowStream};
use arrow::array::RecordBatch;
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_planner::Relation;
use eddyline_planner::statement::{Insert, Mutation, OnConflict};
use std::sync::Arc;
use std::time::Duration;

/// How long a transaction that already holds a table waits for another one: two of them may wait for each other.
const DEADLOCK_TIMEOUT: Duration = Duration::from_secs(5);

impl Session {
    pub(super) async fn insert(&mut self, insert: Insert) -> Result<Outcome> {
        let (relation, bindings, snapshot) = self.open_table(insert.table, &insert.source.relations).await?;
        let target = self.target(&relation, &snapshot, bindings.now);
        let effects = target.insert(&insert, bindings).await?;
        self.keep(&relation, effects, "INSERT 0")
    }

    pub(super) async fn update(&mut self, update: Mutation) -> Result<Outcome> {
        let (relation, bindings, snapshot) = self.open_table(update.table, &update.source.relations).await?;
        let target = self.target(&relation, &snapshot, bindings.now);
        let effects = target.update(&update, bindings).await?;
        self.keep(&relation, effects, "UPDATE")
    }

    pub(super) async fn delete(&mut self, delete: Mutation) -> Result<Outcome> {
        let (relation, bindings, snapshot) = self.open_table(delete.table, &delete.source.relations).await?;
        let target = self.target(&relation, &snapshot, bindings.now);
        let effects = target.delete(&delete, bindings).await?;
        self.keep(&relation, effects, "DELETE")
    }

    /// Rows of COPY, in stored columns.
    pub(super) async fn copy_rows(&mut self, table: RelationId, rows: RecordBatch) -> Result<u64> {
        let (relation, bindings, snapshot) = self.open_table(table, &[]).await?;
        let target = self.target(&relation, &snapshot, bindings.now);
        let effects = target.insert_rows(rows, &OnConflict::Error, None)?;
        let count = effects.rows;
        self.transaction.write(&relation, effects.changes)?;
        Ok(count)
    }

    fn target<'a>(&'a self, relation: &'a Arc<Relation>, snapshot: &'a ReadSnapshot, now: eddyline_common::Timestamp) -> Target<'a> {
        Target { relation, snapshot, overlay: self.transaction.overlay(relation.id), engine: &self.services.engine, now }
    }

    fn keep(&mut self, relation: &Arc<Relation>, effects: Effects, verb: &str) -> Result<Outcome> {
        self.transaction.write(relation, effects.changes)?;
        self.services.metrics.rows_written.add(effects.rows);
        let tag = format!("{verb} {}", effects.rows);
        Ok(match effects.returning {
            Some((schema, rows)) => Outcome::Rows { rows: RowStream::ready(schema, [rows]), tag: Tag::Fixed(tag) },
            None => Outcome::Done(tag),
        })
    }

    /// Locks the table and looks at it and at what the statement reads, at the newest epoch.
    async fn open_table(&mut self, table: RelationId, reads: &[RelationId]) -> Result<(Arc<Relation>, Bindings, Arc<ReadSnapshot>)> {
        if self.transaction.read_only {
            return Err(SqlError::new(SqlState("25006"), "cannot write in a read-only transaction"));
        }
        self.lock(table).await?;
        let relation = self.services.coordinator.catalog().get(table).cloned();
        let relation = relation.ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, "the table was dropped"))?;
        let mut wanted = self.stored_of(reads);
        if !wanted.contains(&table) {
            wanted.push(table);
        }
        let snapshot = Arc::new(self.services.coordinator.snapshot_to_write(table, &wanted, self.seen).await?);
        self.watch(&snapshot);
        self.seen = self.seen.max(snapshot.epoch);
        let overlays = wanted.iter().filter_map(|id| Some((*id, self.transaction.overlay(*id)?))).collect();
        let coordinator = Some(self.services.coordinator.clone());
        let bindings = Bindings { snapshot: Some(snapshot.clone()), overlays, coordinator, now: self.now() };
        Ok((relation, bindings, snapshot))
    }

    async fn lock(&mut self, table: RelationId) -> Result<()> {
        if self.transaction.holds(table) {
            return Ok(());
        }
        let waiting = self.services.coordinator.lock_table(table);
        let limit = match (self.settings.timeout("lock_timeout"), self.transaction.holds_any()) {
            (Some(limit), true) => Some(limit.min(DEADLOCK_TIMEOUT)),
            (Some(limit), false) => Some(limit),
            (None, true) => Some(DEADLOCK_TIMEOUT),
            (None, false) => None,
        };
        let lock = match limit {
            None => waiting.await,
            Some(limit) => tokio::time::timeout(limit, waiting).await.map_err(|_| {
                SqlError::new(SqlState("55P03"), "canceling statement due to lock timeout")
                    .with_detail("Another transaction has written to the table and has not ended.")
                    .with_hint("Write to tables in the same order in every transaction.")
            })?,
        };
        self.transaction.lock(table, lock);
        Ok(())
    }
}
