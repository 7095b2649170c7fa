//! Locks of tables: a transaction that has one is the only one that writes to the table until it ends. UPDATE and its kin take that of their table, SELECT ... FOR
//! UPDATE those of the tables it reads. What is read under a lock is as new as it gets, not what the block's first SELECT saw.

use super::Session;
use crate::catalog::{kind_name, object_kind};
use crate::coordinator::ReadSnapshot;
use crate::serving::Bindings;
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_planner::RelationKind;
use eddyline_planner::statement::RowLocks;
use std::sync::Arc;
use std::time::Duration;

/// How long a transaction that already holds a table, or an advisory lock, waits for a table: two of them may wait for each other.
const DEADLOCK_TIMEOUT: Duration = Duration::from_secs(5);

impl Session {
    /// What a query FOR UPDATE reads.
    pub(super) async fn locked_bindings(&mut self, relations: &[RelationId], locks: RowLocks) -> Result<Bindings> {
        self.check_writable("execute SELECT FOR UPDATE")?;
        let locked = self.lock_rows(relations, locks).await?;
        if locked.is_empty() {
            return self.bindings(relations).await;
        }
        let wanted = self.stored_of(relations);
        let snapshot = Some(self.newest(&locked, &wanted).await?);
        Ok(self.bindings_at(snapshot, &wanted))
    }

    /// Locks the tables among `relations`, and says which those are.
    pub(super) async fn lock_rows(&mut self, relations: &[RelationId], locks: RowLocks) -> Result<Vec<RelationId>> {
        let catalog = self.services.coordinator.catalog();
        let (mut tables, mut others) = (Vec::new(), Vec::new());
        for relation in relations.iter().filter_map(|id| catalog.get(*id)) {
            match relation.kind {
                RelationKind::Table { .. } => tables.push(relation.id),
                _ => others.push(relation),
            }
        }
        if let Some(other) = others.first().filter(|_| !locks.named) {
            let message = format!("cannot lock rows in {} \"{}\"", kind_name(object_kind(other)), other.name);
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).with_hint("Name the tables: FOR UPDATE OF."));
        }
        // In the same order in every transaction.
        tables.sort_unstable();
        for table in &tables {
            self.lock(*table, locks.nowait).await?;
        }
        Ok(tables)
    }

    /// What there is at an epoch that has every write to the tables, whose locks this transaction has.
    pub(super) async fn newest(&mut self, locked: &[RelationId], wanted: &[RelationId]) -> Result<Arc<ReadSnapshot>> {
        let mut newest = None;
        for table in locked {
            let snapshot = self.services.coordinator.snapshot_to_write(*table, wanted, self.seen).await?;
            self.seen = self.seen.max(snapshot.epoch);
            newest = Some(Arc::new(snapshot));
        }
        let newest = newest.ok_or_else(|| SqlError::internal("no table is locked"))?;
        self.watch(&newest);
        Ok(newest)
    }

    pub(super) async fn lock(&mut self, table: RelationId, nowait: bool) -> Result<()> {
        if self.transaction.holds(table) {
            return Ok(());
        }
        let waiting = self.services.coordinator.lock_table(table);
        let holds_any = self.transaction.holds_any() || self.services.sessions.advisory.holds_any(self.process);
        let limit = match nowait {
            true => Some(Duration::ZERO),
            false => self.settings.timeout("lock_timeout").into_iter().chain(holds_any.then_some(DEADLOCK_TIMEOUT)).min(),
        };
        let lock = match limit {
            None => waiting.await,
            Some(limit) => tokio::time::timeout(limit, waiting).await.map_err(|_| {
                let message = if nowait { "could not obtain the table's lock" } else { "canceling statement due to lock timeout" };
                SqlError::new(SqlState("55P03"), message)
                    .with_detail("Another transaction has written to the table, or locked it, and has not ended.")
                    .with_hint("Write to tables in the same order in every transaction.")
            })?,
        };
        self.transaction.lock(table, lock);
        Ok(())
    }
}
