//! BEGIN, COMMIT, ROLLBACK, savepoints, and the end of an implicit transaction. While a commit is on its way to the log it is
//! shielded: cancelled now, the client would not know what it had done.

use super::statement_set::OpenSet;
use super::transaction::{Block, Transaction};
use super::{Outcome, Session};
use crate::coordinator::TableWrite;
use eddyline_common::{Result, SqlError, SqlState};
use eddyline_planner::statement::TransactionModes;

impl Session {
    pub(super) fn begin(&mut self, modes: TransactionModes) -> Result<Outcome> {
        if self.transaction.is_explicit() {
            self.warn(SqlState::ACTIVE_TRANSACTION, "there is already a transaction in progress");
            return Ok(Outcome::Done("BEGIN".into()));
        }
        // What came before in the same message is part of the block, as in PostgreSQL.
        self.transaction.block = Block::Explicit;
        // Its default is the one at its beginning.
        self.transaction.read_only = Some(modes.read_only.unwrap_or_else(|| self.is_read_only()));
        self.check_isolation(modes.isolation.as_deref().unwrap_or_default());
        Ok(Outcome::Done("BEGIN".into()))
    }

    pub(super) async fn commit(&mut self, chain: bool) -> Result<Outcome> {
        match self.transaction.block {
            Block::Failed => {
                // The client may not know that it has failed.
                if let Some(too_old) = self.transaction.too_old().cloned() {
                    self.abandon();
                    return Err(too_old);
                }
                return self.rollback(chain);
            }
            Block::Implicit if chain => self.require_block("COMMIT AND CHAIN")?,
            Block::Implicit => self.warn(SqlState::NO_ACTIVE_TRANSACTION, "there is no transaction in progress"),
            Block::Explicit => {}
        }
        let read_only = self.transaction.read_only;
        self.commit_writes().await?;
        if chain {
            self.begin(TransactionModes { read_only, isolation: None })?;
        }
        Ok(Outcome::Done("COMMIT".into()))
    }

    pub(super) fn rollback(&mut self, chain: bool) -> Result<Outcome> {
        if chain {
            self.require_block("ROLLBACK AND CHAIN")?;
        }
        if self.transaction.block == Block::Implicit {
            self.warn(SqlState::NO_ACTIVE_TRANSACTION, "there is no transaction in progress");
        }
        let read_only = self.transaction.read_only;
        self.abandon();
        if chain {
            self.transaction.block = Block::Explicit;
            self.transaction.read_only = read_only;
        }
        Ok(Outcome::Done("ROLLBACK".into()))
    }

    pub(super) fn savepoint(&mut self, name: &str) -> Result<Outcome> {
        self.require_block("SAVEPOINT")?;
        self.transaction.savepoint(name, &self.settings);
        Ok(Outcome::Done("SAVEPOINT".into()))
    }

    pub(super) fn release_savepoint(&mut self, name: &str) -> Result<Outcome> {
        self.require_block("RELEASE SAVEPOINT")?;
        self.transaction.release(name)?;
        self.portals.release(self.transaction.depth());
        Ok(Outcome::Done("RELEASE".into()))
    }

    /// Undoes what came after the savepoint: writes, settings, and what was declared.
    pub(super) fn roll_back_to(&mut self, name: &str) -> Result<Outcome> {
        self.require_block("ROLLBACK TO SAVEPOINT")?;
        let settings = self.transaction.rollback_to(name)?;
        self.adopt(settings);
        self.portals.roll_back_to(self.transaction.depth());
        Ok(Outcome::Done("ROLLBACK".into()))
    }

    fn require_block(&self, what: &str) -> Result<()> {
        match self.transaction.is_explicit() {
            true => Ok(()),
            false => Err(SqlError::new(SqlState::NO_ACTIVE_TRANSACTION, format!("{what} can only be used in transaction blocks"))),
        }
    }

    /// At the end of a simple query or at Sync: commits what is not in a block.
    pub async fn finish_implicit(&mut self) -> Result<()> {
        match self.transaction.block {
            Block::Implicit => self.commit_writes().await,
            Block::Explicit | Block::Failed => Ok(()),
        }
    }

    /// A statement failed: an implicit transaction is undone, an explicit one waits for its end, as a statement set does.
    pub fn fail(&mut self) {
        self.open_set.iter_mut().for_each(OpenSet::fail);
        match self.transaction.block {
            Block::Implicit => self.abandon(),
            Block::Explicit => self.transaction.block = Block::Failed,
            Block::Failed => {}
        }
    }

    /// Forgets the transaction's effects and settings.
    fn abandon(&mut self) {
        let ended = std::mem::take(&mut self.transaction);
        self.temporary.forget(&ended.made_tables().collect::<Vec<_>>());
        self.services.sessions.advisory.end_transaction(self.process);
        self.portals.roll_back();
        if let Some(around) = ended.settings {
            self.adopt(around.before);
        }
    }

    async fn commit_writes(&mut self) -> Result<()> {
        let written = self.write_effects().await;
        self.services.sessions.advisory.end_transaction(self.process);
        written
    }

    async fn write_effects(&mut self) -> Result<()> {
        // A failed commit leaves nothing behind, so the transaction is taken first.
        let mut transaction: Transaction = std::mem::take(&mut self.transaction);
        // What the settings go back to then.
        self.transaction.settings = transaction.settings.take();
        self.portals.commit();
        let catalog = self.services.coordinator.catalog();
        let made = transaction.made_tables().filter_map(|table| catalog.get(table).cloned());
        let awaiting: Vec<_> = made.filter(|table| table.awaits_rows()).collect();
        match transaction.take_write(&awaiting)? {
            Some(write) if transaction.has_made() => self.put_with_made(write, transaction).await?,
            Some(write) => self.put(write).await?,
            None => transaction.keep_made(),
        }
        self.portals.keep();
        if let Some(around) = self.transaction.settings.take() {
            self.adopt(around.after);
        }
        Ok(())
    }

    /// The tables that the transaction has made stay if its write is done, also when nobody waits for that any more.
    async fn put_with_made(&mut self, write: TableWrite, mut transaction: Transaction) -> Result<()> {
        let coordinator = self.services.coordinator.clone();
        let admitted = coordinator.admit(write).await?;
        let _shield = self.cancel.shield();
        // With its locks: nobody else writes before this has.
        let written = tokio::spawn(async move {
            let written = coordinator.write_admitted(admitted).await;
            if written.is_ok() {
                transaction.keep_made();
            }
            written
        });
        let epoch = written.await.map_err(|error| SqlError::internal(format!("a commit has ended without a result: {error}")))??;
        self.seen = self.seen.max(epoch);
        Ok(())
    }

    pub(super) async fn put(&mut self, write: TableWrite) -> Result<()> {
        let admitted = self.services.coordinator.admit(write).await?;
        let _shield = self.cancel.shield();
        self.seen = self.seen.max(self.services.coordinator.write_admitted(admitted).await?);
        Ok(())
    }
}
