//! INSERT, UPDATE and DELETE: take the table's lock, evaluate over its newest state, keep the effects for the
//! commit. The lock is held until the transaction ends, so what was checked stays true.

use super::transaction::Transaction;
use super::{Outcome, Services, Session, Tag};
use crate::coordinator::ReadSnapshot;
use crate::serving::dml::{Effects, Target};
use crate::serving::{Bindings, RowStream};
use arrow::array::RecordBatch;
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_planner::Relation;
use eddyline_planner::statement::{Insert, Mutation, OnConflict, RowLocks};
use std::sync::Arc;

impl Session {
    pub(super) async fn insert(&mut self, insert: Insert) -> Result<Outcome> {
        let (relation, bindings, snapshot) = self.open_table(insert.table, &insert.source.relations, insert.source.locks).await?;
        let target = self.target(&relation, &snapshot, bindings.now);
        let effects = target.insert(&insert, bindings).await?;
        self.keep(&relation, effects, "INSERT 0")
    }

    pub(super) async fn update(&mut self, update: Mutation) -> Result<Outcome> {
        let (relation, bindings, snapshot) = self.open_table(update.table, &update.source.relations, update.source.locks).await?;
        let target = self.target(&relation, &snapshot, bindings.now);
        let effects = target.update(&update, bindings).await?;
        self.keep(&relation, effects, "UPDATE")
    }

    pub(super) async fn delete(&mut self, delete: Mutation) -> Result<Outcome> {
        let (relation, bindings, snapshot) = self.open_table(delete.table, &delete.source.relations, delete.source.locks).await?;
        let target = self.target(&relation, &snapshot, bindings.now);
        let effects = target.delete(&delete, bindings).await?;
        self.keep(&relation, effects, "DELETE")
    }

    /// Rows of COPY, in stored columns.
    pub(super) async fn copy_rows(&mut self, table: RelationId, rows: RecordBatch) -> Result<u64> {
        let (relation, effects) = self.rows_in(table, rows).await?;
        self.transaction.write(&relation, effects.changes, &self.services.write_memory)?;
        Ok(effects.rows)
    }

    /// The same in a commit of its own.
    pub(super) async fn write_rows(&mut self, table: RelationId, rows: RecordBatch) -> Result<u64> {
        let (relation, effects) = self.rows_in(table, rows).await?;
        let mut own = Transaction::default();
        own.write(&relation, effects.changes, &self.services.write_memory)?;
        if let Some(write) = own.take_write(&[])? {
            self.put(write).await?;
        }
        Ok(effects.rows)
    }

    async fn rows_in(&mut self, table: RelationId, rows: RecordBatch) -> Result<(Arc<Relation>, Effects)> {
        let (relation, bindings, snapshot) = self.open_table(table, &[], None).await?;
        let target = self.target(&relation, &snapshot, bindings.now);
        let effects = target.insert_rows(target.numbered(rows).await?, &OnConflict::Error, None)?;
        Ok((relation, effects))
    }

    fn target<'a>(&'a self, relation: &'a Arc<Relation>, snapshot: &'a ReadSnapshot, now: eddyline_common::Timestamp) -> Target<'a> {
        let Services { engine, write_memory: memory, numbers, coordinator, .. } = &*self.services;
        Target { relation, snapshot, overlay: self.transaction.overlay(relation.id), engine, memory, numbers, coordinator, now }
    }

    fn keep(&mut self, relation: &Arc<Relation>, effects: Effects, verb: &str) -> Result<Outcome> {
        self.transaction.write(relation, effects.changes, &self.services.write_memory)?;
        self.services.metrics.rows_written.add(effects.rows);
        let tag = format!("{verb} {}", effects.rows);
        Ok(match effects.returning {
            Some((schema, rows)) => Outcome::Rows { rows: RowStream::ready(schema, [rows]), tag: Tag::Fixed(tag) },
            None => Outcome::Done(tag),
        })
    }

    /// Locks the table and looks at it and at what the statement reads, at the newest epoch.
    pub(super) async fn open_table(
        &mut self,
        table: RelationId,
        reads: &[RelationId],
        locks: Option<RowLocks>,
    ) -> Result<(Arc<Relation>, Bindings, Arc<ReadSnapshot>)> {
        self.check_writable("write")?;
        self.lock(table, false).await?;
        let relation = self.services.coordinator.catalog().get(table).cloned();
        let relation = relation.ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, "the table was dropped"))?;
        let mut locked = match locks {
            None => Vec::new(),
            Some(locks) => self.lock_rows(reads, locks).await?,
        };
        locked.push(table);
        let mut wanted = self.stored_of(reads);
        if !wanted.contains(&table) {
            wanted.push(table);
        }
        let snapshot = self.newest(&locked, &wanted).await?;
        let bindings = self.bindings_at(Some(snapshot.clone()), &wanted);
        Ok((relation, bindings, snapshot))
    }
}
