//! Temporary views: a session's own, which hide what else has their names and go with the session. Nothing of them is durable. Which temporary
//! views a query means is settled when it is planned: one that is made or dropped later changes no other. What is durable and reads one
//! has its query in its plan.

use super::{Outcome, Session};
use crate::catalog::CatalogSnapshot;
use crate::coordinator::Ddl;
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_planner::Relation;
use eddyline_planner::catalog::FIRST_TEMPORARY;
use eddyline_planner::statement::{Comments, ObjectKind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// By name.
#[derive(Clone, Default)]
pub struct TemporaryViews(BTreeMap<String, Arc<TemporaryView>>);

pub struct TemporaryView {
    pub relation: Arc<Relation>,
    comments: Comments,
    /// What its query means by these names.
    pub beneath: TemporaryViews,
}

impl TemporaryViews {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&Arc<TemporaryView>> {
        self.0.get(name)
    }

    pub fn by_id(&self, id: RelationId) -> Option<&Arc<TemporaryView>> {
        self.0.values().find(|view| view.relation.id == id)
    }

    pub fn relations(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.0.values().map(|view| &view.relation)
    }

    /// The catalog as a session with these views shows it.
    pub fn over(&self, catalog: Arc<CatalogSnapshot>) -> Arc<CatalogSnapshot> {
        self.0.values().fold(catalog, |catalog, view| {
            let id = view.relation.id;
            let with = catalog.with((*view.relation).clone());
            let comment = |c: CatalogSnapshot, (column, text): &(Option<usize>, String)| c.with_comment(id, *column, Some(text.clone()));
            Arc::new(view.comments.iter().fold(with, comment))
        })
    }

    fn names(&self, name: &str) -> bool {
        self.0.iter().any(|(own, view)| own == name || view.beneath.names(name))
    }
}

impl Session {
    /// The catalog with what is this session's own.
    pub(super) fn shown_catalog(&self) -> Arc<CatalogSnapshot> {
        self.temporary.over(self.services.coordinator.catalog())
    }

    pub(super) fn create_temporary(&mut self, mut relation: Relation, if_not_exists: bool, comments: Comments) -> Result<Outcome> {
        let done = Outcome::Done("CREATE VIEW".into());
        let replaces = relation.id != FIRST_TEMPORARY;
        if !replaces && self.temporary.get(&relation.name).is_some() {
            let message = format!("relation \"{}\" already exists", relation.name);
            if !if_not_exists {
                return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
            }
            self.warn(SqlState("00000"), message + ", skipping");
            return Ok(done);
        }
        let read = self.temporary.0.iter().filter(|(_, view)| relation.depends_on.contains(&view.relation.id));
        let beneath = TemporaryViews(read.map(|(name, view)| (name.clone(), view.clone())).collect());
        if beneath.names(&relation.name) {
            let message = format!("view \"{}\" cannot be defined by itself", relation.name);
            return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
        }
        if !replaces {
            self.last_temporary += 1;
            relation.id = RelationId(FIRST_TEMPORARY.0 + self.last_temporary);
        }
        let (name, relation) = (relation.name.clone(), Arc::new(relation));
        self.temporary.0.insert(name, Arc::new(TemporaryView { relation, comments, beneath }));
        Ok(done)
    }

    /// DROP [TEMPORARY] VIEW: of two views with one name the session's own.
    pub(super) async fn drop_views(&mut self, names: Vec<String>, if_exists: bool, cascade: bool, temporary: bool) -> Result<Outcome> {
        let (own, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| self.temporary.get(name).is_some());
        if temporary {
            for name in others {
                let message = format!("temporary view \"{name}\" does not exist");
                if !if_exists {
                    return Err(SqlError::new(SqlState::UNDEFINED_TABLE, message));
                }
                self.warn(SqlState("00000"), message + ", skipping");
            }
        } else if !others.is_empty() {
            let ddl = Ddl::Drop { kind: ObjectKind::View, names: others, if_exists, cascade };
            self.change_catalog(ddl, "DROP VIEW".into()).await?;
        }
        own.iter().for_each(|name| drop(self.temporary.0.remove(name)));
        Ok(Outcome::Done("DROP VIEW".into()))
    }
}
