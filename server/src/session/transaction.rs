//! A session's transaction: its block state, the snapshot its reads share, and the table effects that wait for
//! COMMIT. Effects are kept per table in statement order, so a savepoint is a set of lengths. Tables
//! written to stay locked until the end, which keeps key checks valid up to the commit.

use crate::coordinator::{ReadSnapshot, TableLock, TableWrite};
use crate::pgwire::messages::TransactionState;
use crate::serving::overlay::Overlay;
use crate::session::doomed::Doomed;
use crate::session::settings::Settings;
use crate::session::write_memory::{Share, WriteMemory};
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, RelationId, Result, SqlError, SqlState};
use eddyline_planner::Relation;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What one transaction may write, in bytes: it is one record of the log and one step of its views.
pub const TRANSACTION_BYTES_MAX: usize = 256 << 20;

/// Effects of statements that only add rows become one batch when there are so many of them.
const MERGED_BATCHES: usize = 256;

/// What a batch takes beside its rows, and what a row takes in the overlay (measured).
const BATCH_BYTES: usize = 2 << 10;
const OVERLAY_ROW_BYTES: usize = 96;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Block {
    /// Each statement (or each simple query, or what is between two Syncs) is one transaction.
    #[default]
    Implicit,
    /// Between BEGIN and COMMIT.
    Explicit,
    /// An explicit one in which a statement failed.
    Failed,
}

struct Savepoint {
    name: String,
    lengths: BTreeMap<RelationId, usize>,
    made: usize,
    /// As they were in force, and as the transaction would have left them.
    settings: (Settings, Option<SettingsAround>),
}

/// The settings on both sides of a transaction that changes some; those of SET LOCAL are in neither.
#[derive(Clone)]
pub struct SettingsAround {
    pub before: Settings,
    /// Once it has committed.
    pub after: Settings,
}

#[derive(Default)]
pub struct Transaction {
    pub block: Block,
    /// `None`: as the session's default says.
    pub read_only: Option<bool>,
    /// A query was run, which may have read no table.
    pub queried: bool,
    /// What all SELECTs of an explicit transaction read; after a definition statement of its own there is a new one.
    pub snapshot: Option<Arc<ReadSnapshot>>,
    /// Why it is gone before the transaction's end.
    too_old: Option<SqlError>,
    /// Once it has changed one.
    pub settings: Option<SettingsAround>,
    tables: BTreeMap<RelationId, TableEffects>,
    locks: HashMap<RelationId, TableLock>,
    savepoints: Vec<Savepoint>,
    /// Tables that go with it if it comes to nothing.
    made: Vec<Doomed>,
    bytes: usize,
    /// Of the memory for all sessions' writes, once it has written.
    share: Option<Share>,
}

struct TableEffects {
    relation: Arc<Relation>,
    changes: Vec<ChangeBatch>,
    overlay: Arc<Overlay>,
}

impl TableEffects {
    /// Makes one batch of those from `first` on if they are many and only add rows: a batch of one row takes far more than the row.
    fn merge(&mut self, first: usize) -> Result<()> {
        let added = self.changes[first..].iter().rev().take_while(|batch| is_small(batch)).count();
        if added < MERGED_BATCHES {
            return Ok(());
        }
        let first = self.changes.len() - added;
        let merged = ChangeBatch::concat(self.overlay.schema(), &self.changes[first..])?;
        Arc::make_mut(&mut self.overlay).merge(first, &merged.rows);
        self.changes.truncate(first);
        self.changes.push(merged);
        Ok(())
    }
}

/// Rows that one statement of a few adds. What takes rows away too is not put together: an overlay takes a batch's retractions first.
fn is_small(batch: &ChangeBatch) -> bool {
    batch.weights.is_none() && batch.num_rows() < MERGED_BATCHES
}

/// What effects take in memory: as they are, as the overlay finds them (by the whole row in a table without a key), and as the commit puts them together.
fn held_bytes(changes: &[ChangeBatch]) -> usize {
    changes.iter().map(|c| 3 * c.bytes() + c.num_rows() * OVERLAY_ROW_BYTES + BATCH_BYTES).sum()
}

impl Transaction {
    pub fn state(&self) -> TransactionState {
        match self.block {
            Block::Implicit => TransactionState::Idle,
            Block::Explicit => TransactionState::Open,
            Block::Failed => TransactionState::Failed,
        }
    }

    /// What it reads is not there any more: a block cannot go on.
    pub fn lose_snapshot(&mut self, error: SqlError) {
        self.snapshot = None;
        self.too_old = Some(error);
        if self.block == Block::Explicit {
            self.block = Block::Failed;
        }
    }

    pub fn too_old(&self) -> Option<&SqlError> {
        self.too_old.as_ref()
    }

    pub fn is_explicit(&self) -> bool {
        self.block != Block::Implicit
    }

    pub fn has_writes(&self) -> bool {
        !self.tables.is_empty()
    }

    pub fn holds(&self, table: RelationId) -> bool {
        self.locks.contains_key(&table)
    }

    pub fn holds_any(&self) -> bool {
        !self.locks.is_empty()
    }

    pub fn lock(&mut self, table: RelationId, lock: TableLock) {
        self.locks.insert(table, lock);
    }

    /// What this transaction has done to a table so far.
    pub fn overlay(&self, table: RelationId) -> Option<Arc<Overlay>> {
        self.tables.get(&table).map(|t| t.overlay.clone())
    }

    pub fn written(&self) -> impl Iterator<Item = RelationId> + '_ {
        self.tables.keys().copied()
    }

    pub fn write(&mut self, relation: &Arc<Relation>, changes: ChangeBatch, memory: &Arc<WriteMemory>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let share = self.share.get_or_insert_with(|| memory.share());
        share.grow(held_bytes(std::slice::from_ref(&changes)))?;
        self.bytes += changes.bytes();
        if self.bytes > TRANSACTION_BYTES_MAX {
            return Err(SqlError::new(SqlState::LIMIT_EXCEEDED, "the transaction writes too much")
                .with_detail(format!("A transaction may write {TRANSACTION_BYTES_MAX} bytes."))
                .with_hint("Commit in smaller parts."));
        }
        let effects = match self.tables.entry(relation.id) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(TableEffects { relation: relation.clone(), changes: Vec::new(), overlay: Arc::new(Overlay::new(relation)?) })
            }
        };
        // Nobody else holds it between statements, so this does not copy.
        Arc::make_mut(&mut effects.overlay).apply(&changes)?;
        effects.changes.push(changes);
        let before = effects.changes.len();
        // What a savepoint goes back to stays as it is.
        let kept = self.savepoints.last().and_then(|savepoint| savepoint.lengths.get(&relation.id)).copied().unwrap_or(0);
        effects.merge(kept)?;
        share.shrink((before - effects.changes.len()) * BATCH_BYTES);
        Ok(())
    }

    /// It has made a table for rows that it writes.
    pub fn made(&mut self, table: Doomed) {
        self.made.push(table);
    }

    /// The tables that it has made for rows.
    pub fn made_tables(&self) -> impl Iterator<Item = RelationId> + '_ {
        self.made.iter().filter_map(Doomed::table)
    }

    pub fn has_made(&self) -> bool {
        !self.made.is_empty()
    }

    /// A table goes, and with it what was written there.
    pub fn forget(&mut self, table: RelationId) {
        self.tables.remove(&table);
        if let Some(at) = self.made.iter().position(|made| made.table() == Some(table)) {
            self.made.remove(at);
            self.savepoints.iter_mut().filter(|savepoint| savepoint.made > at).for_each(|savepoint| savepoint.made -= 1);
        }
    }

    /// What it has written is there.
    pub fn keep_made(&mut self) {
        self.made.drain(..).for_each(Doomed::keep);
    }

    /// Everything written, one net batch per table, and an empty one for each of those `awaiting` rows that got none, so that the log knows that this is
    /// all; `None` if nothing is left of it.
    pub fn take_write(&mut self, awaiting: &[Arc<Relation>]) -> Result<Option<TableWrite>> {
        let mut changes = Vec::new();
        for (id, effects) in std::mem::take(&mut self.tables) {
            let batch = match effects.changes.len() {
                1 => effects.changes.into_iter().next(),
                _ => effects.overlay.net(&effects.changes)?,
            };
            changes.extend(batch.filter(|b| !b.is_empty()).map(|b| (id, b)));
        }
        for table in awaiting {
            if !changes.iter().any(|(id, _)| *id == table.id) {
                changes.push((table.id, ChangeBatch::empty(arrow_schema(&table.columns))));
            }
        }
        Ok((!changes.is_empty()).then_some(TableWrite { changes }))
    }

    /// `settings`: those in force.
    pub fn savepoint(&mut self, name: &str, settings: &Settings) {
        let lengths = self.tables.iter().map(|(id, t)| (*id, t.changes.len())).collect();
        let settings = (settings.clone(), self.settings.clone());
        self.savepoints.push(Savepoint { name: name.to_string(), lengths, made: self.made.len(), settings });
    }

    /// How many savepoints there are.
    pub fn depth(&self) -> usize {
        self.savepoints.len()
    }

    fn find(&self, name: &str) -> Result<usize> {
        let at = self.savepoints.iter().rposition(|s| s.name == name);
        at.ok_or_else(|| SqlError::new(SqlState("3B001"), format!("savepoint \"{name}\" does not exist")))
    }

    pub fn release(&mut self, name: &str) -> Result<()> {
        let at = self.find(name)?;
        self.savepoints.truncate(at);
        Ok(())
    }

    /// Undoes what was written since; the savepoint stays. A failed transaction is open again. Returns the settings that were in force.
    pub fn rollback_to(&mut self, name: &str) -> Result<Settings> {
        let at = self.find(name)?;
        self.too_old.clone().map_or(Ok(()), Err)?;
        self.savepoints.truncate(at + 1);
        self.made.truncate(self.savepoints[at].made);
        let lengths = &self.savepoints[at].lengths;
        let (mut bytes, mut held) = (0, 0);
        for (id, effects) in &mut self.tables {
            let length = lengths.get(id).copied().unwrap_or(0);
            if length < effects.changes.len() {
                effects.changes.truncate(length);
                let mut overlay = Overlay::new(&effects.relation)?;
                effects.changes.iter().try_for_each(|c| overlay.apply(c))?;
                effects.overlay = Arc::new(overlay);
            }
            bytes += effects.changes.iter().map(ChangeBatch::bytes).sum::<usize>();
            held += held_bytes(&effects.changes);
        }
        self.bytes = bytes;
        // What failed may have taken more than was kept of it.
        self.share.iter_mut().for_each(|share| share.keep(held));
        self.tables.retain(|_, t| !t.changes.is_empty());
        self.block = Block::Explicit;
        let (in_force, around) = self.savepoints[at].settings.clone();
        self.settings = around;
        Ok(in_force)
    }
}
