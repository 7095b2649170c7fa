//! A table in the place of another, as ALTER TABLE ... ADD COLUMN makes it: it gets the name, the comments and the indexes, and the plain views that read the
//! other one read it. What runs keeps to the columns that it was planned over, so nothing that runs may read or write the other one. It knows nothing of what the
//! rows of the two have to do with each other.

use super::altering::Prepared;
use super::core::Core;
use super::ddl::Done;
use super::handle::DdlOutcome;
use super::records::DdlRecord;
use crate::catalog::{Dependent, kind_name};
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_planner::catalog::Relation;
use eddyline_planner::statement::ObjectKind;
use eddyline_storage::view::View;
use std::sync::Arc;

fn gone() -> SqlError {
    SqlError::new(SqlState::UNDEFINED_TABLE, "the table was dropped meanwhile")
}

impl Core {
    /// The new one was made of what the other was then.
    pub(super) fn replace_table(&mut self, table: &Relation, new: RelationId) -> Result<Done> {
        let old = table.id;
        if !self.catalog.contains(old) {
            return Err(gone());
        }
        self.check_unchanged(table)?;
        let is_job = |user: &&Dependent| matches!(user.kind, ObjectKind::MaterializedView | ObjectKind::Sink);
        if let Some(user) = self.catalog.dependents(old).iter().find(is_job) {
            let message =
                format!("cannot add a column to table {} because {} {} depends on it", table.name, kind_name(user.kind), user.name);
            return Err(SqlError::unsupported(message).with_hint("Drop it, add the column, and create it anew."));
        }
        let view = self.share_indexes(old, new)?;
        let logged = self.log_ddl(&DdlRecord::Replace { old, new })?;
        self.apply_replace(old, new);
        self.refresh_readers();
        Ok((DdlOutcome { indexed: Some(view), ..DdlOutcome::default() }, Some(logged)))
    }

    /// Sources are not read before all of the log is known: what is read again ends with its last cut.
    pub(super) fn replay_replace(&mut self, old: RelationId, new: RelationId) -> Result<()> {
        self.share_indexes(old, new)?.build_indexes();
        self.apply_replace(old, new);
        Ok(())
    }

    /// Declares in the new table's store what indexes the old one has.
    fn share_indexes(&self, old: RelationId, new: RelationId) -> Result<Arc<View>> {
        let job = self.jobs.get(&new).ok_or_else(gone)?;
        self.catalog.indexes_of(old).try_for_each(|index| job.view.add_index(&index.name, &index.stored_columns(&job.relation)))?;
        Ok(job.view.clone())
    }

    /// At no time is there no table of the name.
    fn apply_replace(&mut self, old: RelationId, new: RelationId) {
        self.set_catalog(self.catalog.in_place_of(old, new));
        self.apply_drop(&[old]);
        if let Some(table) = self.catalog.get(new).cloned() {
            self.apply_alter(Relation::clone(&table), self.last_cut, Prepared::default());
        }
    }
}
