//! CREATE INDEX: declared in the view's store, where it is right from then on. What is there already is read for it by the session that asked, at a
//! start before anybody is let in, and by vacuum where both were cut short: the coordinator does no work by row.

use super::building::{view_key, view_schema};
use super::core::Core;
use super::ddl::{Done, taken};
use super::handle::DdlOutcome;
use super::records::DdlRecord;
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_planner::catalog::{Index, Relation};
use eddyline_storage::view::View;
use std::sync::Arc;

impl Core {
    pub(super) fn create_index(&mut self, mut index: Index, if_not_exists: bool) -> Result<Done> {
        if self.catalog.is_taken(&index.name) {
            return taken(&index.name, if_not_exists);
        }
        index.id = RelationId(self.next_relation);
        let view = self.declare(&index)?;
        let record = DdlRecord::CreateIndex { index: Box::new(index.clone()) };
        let logged = self.log_ddl(&record).inspect_err(|_| view.drop_index(&index.name))?;
        self.install_index(index);
        Ok((DdlOutcome { indexed: Some(view), ..DdlOutcome::default() }, Some(logged)))
    }

    pub(super) fn replay_create_index(&mut self, index: Index) -> Result<()> {
        self.declare(&index)?.build_indexes();
        self.install_index(index);
        Ok(())
    }

    fn declare(&self, index: &Index) -> Result<Arc<View>> {
        let gone = || SqlError::new(SqlState::UNDEFINED_TABLE, "the relation was dropped meanwhile");
        let job = self.jobs.get(&index.relation).ok_or_else(gone)?;
        job.view.add_index(&index.name, &index.stored_columns(&job.relation))?;
        Ok(job.view.clone())
    }

    fn install_index(&mut self, index: Index) {
        self.next_relation = self.next_relation.max(index.id.0 + 1);
        self.set_catalog(self.catalog.with_index(index));
    }

    /// Declares what the catalog has of a relation whose view is new, or comes from a checkpoint.
    pub(super) fn add_indexes(&self, relation: &Relation, view: &View) -> Result<()> {
        self.catalog.indexes_of(relation.id).try_for_each(|index| view.add_index(&index.name, &index.stored_columns(relation)))
    }

    pub(super) fn forget_index(&self, id: RelationId) {
        let Some(index) = self.catalog.index_by_id(id) else { return };
        if let Some(job) = self.jobs.get(&index.relation) {
            job.view.drop_index(&index.name);
        }
    }
}

/// A relation's store without rows, with its key and these indexes: what EXPLAIN asks how rows would be found.
pub fn store_without_rows<'a>(relation: &Relation, mut indexes: impl Iterator<Item = &'a Arc<Index>>) -> Result<Arc<View>> {
    let view = View::new(view_schema(relation), view_key(relation), 1, None)?;
    indexes.try_for_each(|index| view.add_index(&index.name, &index.stored_columns(relation)))?;
    Ok(view)
}
