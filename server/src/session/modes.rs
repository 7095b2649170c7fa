//! A transaction's modes: whether it may write, which the session's default says where the transaction does not, and how it is isolated, which is always the
//! same. It knows nothing of blocks and of what a write is.

use super::{Outcome, Session};
use eddyline_common::{Result, SqlError, SqlState};
use eddyline_planner::statement::TransactionModes;

/// How every transaction is isolated.
const ISOLATION: &str = "repeatable read";

impl Session {
    pub(super) fn is_read_only(&self) -> bool {
        self.transaction.read_only.unwrap_or_else(|| self.settings.is_on("default_transaction_read_only"))
    }

    /// Refuses what a transaction that only reads cannot do.
    pub(super) fn check_writable(&self, what: &str) -> Result<()> {
        match self.is_read_only() {
            true => Err(SqlError::new(SqlState("25006"), format!("cannot {what} in a read-only transaction"))),
            false => Ok(()),
        }
    }

    pub(super) fn set_transaction(&mut self, modes: TransactionModes, of_session: bool) -> Result<Outcome> {
        if !of_session && !self.transaction.is_explicit() {
            self.warn(SqlState::NO_ACTIVE_TRANSACTION, "SET TRANSACTION can only be used in transaction blocks");
            return Ok(Outcome::Done("SET".into()));
        }
        let prefix = if of_session { "default_transaction" } else { "transaction" };
        if let Some(level) = modes.isolation {
            self.set_statement(&format!("{prefix}_isolation"), Some(&level), !of_session)?;
        }
        if let Some(read_only) = modes.read_only {
            self.set_statement(&format!("{prefix}_read_only"), Some(if read_only { "on" } else { "off" }), !of_session)?;
        }
        Ok(Outcome::Done("SET".into()))
    }

    /// The present transaction's alone: outside a block it ends with the statement. Without a value it is the session's default again.
    pub(super) fn set_read_only(&mut self, read_only: Option<bool>) -> Result<()> {
        if read_only == Some(false) && self.is_read_only() && self.transaction.queried {
            return Err(SqlError::new(SqlState::ACTIVE_TRANSACTION, "transaction read-write mode must be set before any query"));
        }
        self.transaction.read_only = read_only;
        Ok(())
    }

    /// A level that promises more than is kept is taken, as clients ask for it, but not without a word.
    pub(super) fn check_isolation(&mut self, level: &str) {
        if level.eq_ignore_ascii_case("serializable") {
            let warning = SqlError::new(SqlState("01000"), format!("isolation level \"serializable\" is \"{ISOLATION}\" here"));
            self.notices.push(warning.with_hint("SELECT ... FOR UPDATE keeps others from writing to the tables it reads."));
        }
    }

    /// Settings as they are shown: those of the transaction are what it is.
    pub(super) fn shown_settings(&self) -> Vec<(String, String)> {
        let mut settings = self.settings.all();
        for (name, value) in &mut settings {
            if let Some(of_transaction) = self.of_transaction(name) {
                *value = of_transaction.to_string();
            }
        }
        settings
    }

    /// A setting that is the present transaction's.
    pub(super) fn of_transaction(&self, name: &str) -> Option<&'static str> {
        match name {
            "transaction_read_only" => Some(if self.is_read_only() { "on" } else { "off" }),
            "transaction_isolation" => Some(ISOLATION),
            _ => None,
        }
    }
}
