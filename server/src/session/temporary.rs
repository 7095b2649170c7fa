//! Temporary tables and views: a session's own, which hide what else has their names and go with the session. Which of them a query means is settled when it is
//! planned: one that is made or dropped later changes no other.
//!
//! Of views nothing is durable, and what is durable and reads one has its query in its plan. A table is one like any other to all but the planner and the
//! system relations: the catalog has it under a name that nobody else has, the session by its own. Whatever ends the session drops it (`doomed`).

use super::doomed::Doomed;
use super::statement::kind_tag;
use super::{Outcome, Session};
use crate::catalog::{CatalogSnapshot, object_kind};
use crate::coordinator::Ddl;
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_planner::Relation;
use eddyline_planner::catalog::FIRST_TEMPORARY;
use eddyline_planner::statement::{Comments, ObjectKind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// By the names that the session has for them.
#[derive(Clone, Default)]
pub struct TemporaryRelations(BTreeMap<String, Arc<TemporaryRelation>>);

pub struct TemporaryRelation {
    relation: Arc<Relation>,
    /// A view's; those of a table are in the catalog.
    comments: Comments,
    /// What its query means by these names.
    pub beneath: TemporaryRelations,
    /// Drops a table.
    _goes: Option<Doomed>,
}

impl TemporaryRelation {
    /// As it is now; `None` for a table that is gone, as the transaction that made it came to nothing.
    pub fn present(&self, catalog: &CatalogSnapshot) -> Option<Arc<Relation>> {
        if self.relation.is_temporary_table() { catalog.get(self.relation.id).cloned() } else { Some(self.relation.clone()) }
    }
}

impl TemporaryRelations {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&Arc<TemporaryRelation>> {
        self.0.get(name)
    }

    pub fn by_id(&self, id: RelationId) -> Option<&Arc<TemporaryRelation>> {
        self.0.values().find(|own| own.relation.id == id)
    }

    /// The views: tables are in the catalog.
    pub fn views(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.0.values().map(|own| &own.relation).filter(|relation| !relation.is_temporary_table())
    }

    /// Without the tables that are gone.
    pub fn living(&self, catalog: &CatalogSnapshot) -> TemporaryRelations {
        let living = self.0.iter().filter(|(_, own)| own.present(catalog).is_some());
        TemporaryRelations(living.map(|(name, own)| (name.clone(), own.clone())).collect())
    }

    /// The catalog as a session with these relations shows it: with them under its names for them, and without the tables of others.
    pub fn over(&self, catalog: Arc<CatalogSnapshot>) -> Arc<CatalogSnapshot> {
        let others: Vec<RelationId> = catalog.temporary_tables().filter(|id| self.by_id(*id).is_none()).collect();
        let catalog = if others.is_empty() { catalog } else { Arc::new(catalog.without(&others)) };
        self.0.iter().fold(catalog, |catalog, (name, own)| {
            let Some(relation) = own.present(&catalog) else { return catalog };
            let with = catalog.with(Relation { name: name.clone(), ..Relation::clone(&relation) });
            let comment =
                |c: CatalogSnapshot, (column, text): &(Option<usize>, String)| c.with_comment(relation.id, *column, Some(text.clone()));
            Arc::new(own.comments.iter().fold(with, comment))
        })
    }

    /// These are gone.
    pub fn forget(&mut self, tables: &[RelationId]) {
        self.0.retain(|_, own| !tables.contains(&own.relation.id));
    }

    fn names(&self, name: &str) -> bool {
        self.0.iter().any(|(own, relation)| own == name || relation.beneath.names(name))
    }

    /// Those that read a relation.
    fn users(&self, id: RelationId) -> Vec<String> {
        self.0.iter().filter(|(_, own)| own.relation.depends_on.contains(&id)).map(|(name, _)| name.clone()).collect()
    }
}

impl Session {
    /// The catalog with what is this session's own.
    pub(super) fn shown_catalog(&self) -> Arc<CatalogSnapshot> {
        self.temporary.over(self.services.coordinator.catalog())
    }

    fn check_own_name(&mut self, name: &str) -> Result<()> {
        self.temporary = self.temporary.living(&self.services.coordinator.catalog());
        match self.temporary.get(name) {
            Some(_) => Err(SqlError::new(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists"))),
            None => Ok(()),
        }
    }

    pub(super) fn create_temporary(&mut self, mut relation: Relation, if_not_exists: bool, comments: Comments) -> Result<Outcome> {
        let done = Outcome::Done("CREATE VIEW".into());
        let replaces = relation.id != FIRST_TEMPORARY;
        if !replaces && let Err(exists) = self.check_own_name(&relation.name) {
            if !if_not_exists {
                return Err(exists);
            }
            self.notices.push(exists.skipped());
            return Ok(done);
        }
        let read = self.temporary.0.iter().filter(|(_, view)| relation.depends_on.contains(&view.relation.id));
        let beneath = TemporaryRelations(read.map(|(name, view)| (name.clone(), view.clone())).collect());
        if beneath.names(&relation.name) {
            let message = format!("view \"{}\" cannot be defined by itself", relation.name);
            return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
        }
        if !replaces {
            self.last_temporary += 1;
            relation.id = RelationId(FIRST_TEMPORARY.0 + self.last_temporary);
        }
        let (name, relation) = (relation.name.clone(), Arc::new(relation));
        self.temporary.0.insert(name, Arc::new(TemporaryRelation { relation, comments, beneath, _goes: None }));
        Ok(done)
    }

    /// The name that the catalog has for it tells whose it is, and what it is called there, in messages too.
    pub(super) async fn create_temporary_table(&mut self, mut relation: Relation, comments: Comments) -> Result<Outcome> {
        self.check_own_name(&relation.name)?;
        self.last_temporary += 1;
        let hidden = format!("pg_temp_{}_{}_{}", self.process, self.last_temporary, relation.name);
        let name = std::mem::replace(&mut relation.name, hidden);
        let ddl = Ddl::Create { relation: Box::new(relation), if_not_exists: false, comments };
        let outcome = self.change_catalog(ddl, "CREATE TABLE".into()).await?;
        let made = self.created.and_then(|id| self.services.coordinator.catalog().get(id).cloned());
        let relation = made.ok_or_else(|| SqlError::internal("a CREATE TABLE that has made nothing"))?;
        let goes = Doomed::new(relation.id, self.services.coordinator.clone(), self.drops.clone());
        let beneath = TemporaryRelations::default();
        let own = TemporaryRelation { relation, comments: Vec::new(), beneath, _goes: Some(goes) };
        self.temporary.0.insert(name, Arc::new(own));
        Ok(outcome)
    }

    /// DROP [TEMPORARY] {TABLE | VIEW}: of two with one name the session's own.
    pub(super) async fn drop_shown(
        &mut self,
        kind: ObjectKind,
        names: Vec<String>,
        if_exists: bool,
        cascade: bool,
        temporary: bool,
    ) -> Result<Outcome> {
        self.temporary = self.temporary.living(&self.services.coordinator.catalog());
        let is_own = |name: &String| self.temporary.get(name).is_some_and(|own| object_kind(&own.relation) == kind);
        let (mut own, others): (Vec<_>, Vec<_>) = names.into_iter().partition(is_own);
        if kind == ObjectKind::Table {
            let views = self.reading_views(&own, cascade)?;
            own.extend(views);
        }
        let tag = format!("DROP {}", kind_tag(kind));
        // A temporary table with a connector is one that stays.
        if temporary && kind == ObjectKind::View {
            for name in others {
                let message = format!("temporary view \"{name}\" does not exist");
                if !if_exists {
                    return Err(SqlError::new(SqlState::UNDEFINED_TABLE, message));
                }
                self.inform(message + ", skipping");
            }
        } else if !others.is_empty() {
            let catalog = self.services.coordinator.catalog();
            let goes = |table: &RelationId| catalog.get(*table).is_some_and(|relation| others.contains(&relation.name));
            let written: Vec<RelationId> = self.transaction.written().filter(goes).collect();
            self.change_catalog(Ddl::Drop { kind, names: others, if_exists, cascade }, tag.clone()).await?;
            written.into_iter().for_each(|table| self.transaction.forget(table));
        }
        let gone: Vec<_> = own.iter().filter_map(|name| self.temporary.0.remove(name)).collect();
        gone.iter().for_each(|own| self.transaction.forget(own.relation.id));
        Ok(Outcome::Done(tag))
    }

    pub(super) fn discard_temporary(&mut self) {
        let gone = std::mem::take(&mut self.temporary);
        gone.0.values().for_each(|own| self.transaction.forget(own.relation.id));
    }

    /// The session's views that go with these tables of its own; an error if they may not.
    fn reading_views(&self, tables: &[String], cascade: bool) -> Result<Vec<String>> {
        let mut views = Vec::new();
        for table in tables {
            let Some(own) = self.temporary.get(table) else { continue };
            let users = self.temporary.users(own.relation.id);
            if let Some(user) = users.first().filter(|_| !cascade) {
                let message = format!("cannot drop table {table} because other objects depend on it");
                return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS, message)
                    .with_detail(format!("view {user} depends on table {table}"))
                    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            views.extend(users);
        }
        Ok(views)
    }
}
