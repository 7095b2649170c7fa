//! CREATE: the name is free or may be replaced, the relation is made to work, logged, and only then found by anybody.

use super::super::backfill::Backfill;
use super::super::core::Core;
use super::super::handle::{DdlOutcome, Resolved};
use super::super::history::History;
use super::super::job::Mode;
use super::super::records::DdlRecord;
use super::super::source::SourceProgress;
use super::super::table::Table;
use super::{Done, taken};
use crate::catalog::{CatalogSnapshot, Dependent, kind_name};
use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState, StateTableId, Timestamp};
use eddyline_planner::catalog::{Relation, RelationKind, SqlFunction};
use eddyline_planner::plan::StreamPlan;
use eddyline_planner::statement::{Comments, ObjectKind};
use std::sync::Arc;

/// Operators' tables of one relation at most.
const TABLES_MAX: u32 = 1 << 12;

impl Core {
    pub(super) fn create(&mut self, mut relation: Relation, if_not_exists: bool, resolved: Resolved, comments: Comments) -> Result<Done> {
        self.find_free_name(&mut relation);
        let existing = self.catalog.by_name(&relation.name).cloned();
        let replaces = existing.as_ref().map(|existing| existing.id).filter(|id| *id == relation.id);
        match (existing, replaces) {
            (Some(existing), Some(_)) if matches!(existing.kind, RelationKind::View { .. }) => {
                return self.replace_view(relation, comments);
            }
            (Some(existing), Some(_)) => self.check_unused(&existing, &relation)?,
            (_, None) if self.catalog.is_taken(&relation.name) => return taken(&relation.name, if_not_exists),
            _ => {}
        }
        if let Some(plan) = relation.plan() {
            plan.inputs().iter().try_for_each(|input| self.is_running(*input).and_then(|()| self.check_unpaused(*input)))?;
        }
        if let Some(gone) = relation.needs().into_iter().find(|needed| !self.catalog.contains(*needed)) {
            return Err(SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation or function {gone} was dropped meanwhile")));
        }
        if let Some(table) = relation.sink_table() {
            let relations: Vec<Arc<Relation>> = self.catalog.relations().cloned().collect();
            if eddyline_planner::reaches(&relations, &relation.plan().map(StreamPlan::inputs).unwrap_or_default(), table) {
                return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, "rows of a table cannot go into the table itself"));
            }
        }
        // What is made of the present time begins with the present one.
        if relation.plan().is_some_and(|plan| plan.reads_clock()) {
            self.take_cut()?;
        }
        relation.id = RelationId(self.next_relation);
        let Resolved { starts, ends, own_starts, mut present } = resolved;
        self.assign_own_sources(&mut relation, &mut present);
        self.assign_feed(&mut relation);
        // What brings a keyed source its records is its feed.
        if let Some(feed) = relation.feed_id().filter(|_| !ends.is_empty()) {
            present.push((feed, ends));
        }
        assign_state_tables(&mut relation)?;
        let (id, epoch) = (relation.id, self.last_cut);
        let record = DdlRecord::Create {
            relation: Box::new(relation.clone()),
            epoch,
            starts: starts.clone(),
            own_starts: own_starts.clone(),
            present: present.clone(),
            replaces,
            comments: comments.clone(),
        };
        let relation = Arc::new(relation);
        self.build(&relation, epoch, starts, own_starts)?;
        self.refresh_readers();
        let logged = self.log_ddl(&record).inspect_err(|_| self.undo_build(id))?;
        let gone = replaces.into_iter().flat_map(|old| self.catalog.indexes_of(old));
        let notices = gone.map(|index| SqlError::notice(format!("index \"{}\" goes with what was replaced", index.name))).collect();
        self.install(&relation, &comments);
        self.apply_drop(replaces.as_slice());
        self.expect(present, epoch);
        self.readers_changed = true;
        Ok((DdlOutcome { created: Some(id), notices, indexed: None }, Some(logged)))
    }

    /// A running INSERT whose name is taken gets the next number that nobody has.
    fn find_free_name(&self, relation: &mut Relation) {
        let is_free = |name: &str| !self.catalog.is_taken(name);
        let RelationKind::Sink(definition) = &mut relation.kind else { return };
        if !definition.name_is_free || is_free(&relation.name) {
            return;
        }
        let numbered = relation.name.rsplit_once('_').filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let stem = numbered.map_or(relation.name.as_str(), |(stem, _)| stem).to_string();
        if let Some(name) = (2..).map(|n| format!("{stem}_{n}")).find(|name| is_free(name)) {
            definition.spec.name = name.clone();
            relation.name = name;
        }
    }

    /// CREATE OR REPLACE MATERIALIZED VIEW makes a new one in the place of the old, on which therefore nothing may stand.
    fn check_unused(&self, old: &Relation, new: &Relation) -> Result<()> {
        if let Some(user) = self.catalog.dependents(old.id).first() {
            let message =
                format!("cannot replace materialized view {} because {} {} depends on it", old.name, kind_name(user.kind), user.name);
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS, message).with_hint("Drop it first."));
        }
        if new.depends_on.contains(&old.id) {
            let message = format!("materialized view {} cannot be defined by itself", old.name);
            return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
        }
        Ok(())
    }

    /// CREATE OR REPLACE VIEW. A materialized view keeps the plan it was made with, so none may build on the old definition.
    fn replace_view(&mut self, relation: Relation, comments: Comments) -> Result<Done> {
        let is_job = |user: &&Dependent| matches!(user.kind, ObjectKind::MaterializedView | ObjectKind::Sink);
        if let Some(user) = self.catalog.dependents(relation.id).iter().find(is_job) {
            let message = format!("cannot replace view {} because {} {} depends on it", relation.name, kind_name(user.kind), user.name);
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS, message).with_hint("Drop it first."));
        }
        if self.catalog.dependents(relation.id).iter().any(|user| relation.depends_on.contains(&user.id)) {
            let message = format!("view {} cannot be defined by a view that depends on it", relation.name);
            return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
        }
        let record = DdlRecord::Create {
            relation: Box::new(relation.clone()),
            epoch: self.last_cut,
            starts: Vec::new(),
            own_starts: Vec::new(),
            present: Vec::new(),
            replaces: None,
            comments: comments.clone(),
        };
        let logged = self.log_ddl(&record)?;
        self.install(&Arc::new(relation), &comments);
        Ok((DdlOutcome::default(), Some(logged)))
    }

    /// CREATE [OR REPLACE] FUNCTION. A materialized view keeps the plan it was made with, so none may call the old definition.
    pub(super) fn create_function(&mut self, mut function: SqlFunction, replace: bool) -> Result<Done> {
        let existing = self.catalog.function(&function.name).map(|f| f.id);
        match existing {
            Some(id) if !replace || id != function.id => {
                return Err(SqlError::new(SqlState("42723"), format!("function \"{}\" already exists", function.name)));
            }
            Some(id) => {
                let is_job = |user: &&Dependent| matches!(user.kind, ObjectKind::MaterializedView | ObjectKind::Sink);
                if let Some(user) = self.catalog.dependents(id).iter().find(is_job) {
                    let (name, kind) = (&function.name, kind_name(user.kind));
                    let message = format!("cannot replace function {name} because {kind} {} depends on it", user.name);
                    return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS, message).with_hint("Drop it first."));
                }
                if self.catalog.dependents(id).iter().any(|user| function.depends_on.contains(&user.id)) {
                    let message = format!("function {} cannot call a function that calls it", function.name);
                    return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
                }
            }
            None => function.id = RelationId(self.next_relation),
        }
        if let Some(gone) = function.depends_on.iter().find(|d| !self.catalog.contains(**d)) {
            return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {gone} was dropped meanwhile")));
        }
        let logged = self.log_ddl(&DdlRecord::CreateFunction { function: Box::new(function.clone()) })?;
        self.apply_create_function(function);
        Ok((DdlOutcome::default(), Some(logged)))
    }

    pub(in super::super) fn apply_create_function(&mut self, function: SqlFunction) {
        self.next_relation = self.next_relation.max(function.id.0 + 1);
        self.set_catalog(self.catalog.with_function(function));
    }

    /// Makes a new relation work, at `epoch`, and shows it.
    pub(in super::super) fn apply_create(
        &mut self,
        relation: Relation,
        epoch: Epoch,
        starts: Vec<PartitionStart>,
        own_starts: Vec<Vec<PartitionStart>>,
        replaces: Option<RelationId>,
        comments: &Comments,
    ) -> Result<()> {
        let relation = Arc::new(relation);
        self.build(&relation, epoch, starts, own_starts)?;
        self.install(&relation, comments);
        self.apply_drop(replaces.as_slice());
        Ok(())
    }

    /// Makes a new relation work, at `epoch`; nobody finds it yet. Fails without a trace.
    fn build(
        &mut self,
        relation: &Arc<Relation>,
        epoch: Epoch,
        starts: Vec<PartitionStart>,
        own_starts: Vec<Vec<PartitionStart>>,
    ) -> Result<()> {
        let id = relation.id;
        // Never used again, also if nothing comes of it: what is left of its state is cleared in the background.
        self.next_relation = self.next_relation.max(id.0 + 1);
        match &relation.kind {
            RelationKind::Source(_) => {
                self.add_source(relation.clone(), SourceProgress::starting(starts), History::default(), epoch)?;
            }
            RelationKind::KeyedSource { .. } => self.create_keyed(relation, epoch, starts)?,
            RelationKind::Table { .. } => {
                self.mark(epoch);
                self.tables.insert(id, Table::new(relation.clone(), epoch, Timestamp::MIN)?);
                self.add_job(relation.clone(), None, Mode::Live, epoch).inspect_err(|_| drop(self.tables.remove(&id)))?;
            }
            RelationKind::View { .. } => {}
            RelationKind::MaterializedView { .. } | RelationKind::Sink(_) => {
                self.mark(epoch);
                self.add_own_sources(relation, own_starts, epoch)?;
                self.build_job(relation, epoch).inspect_err(|_| self.drop_own_sources(relation))?;
            }
        }
        Ok(())
    }

    fn build_job(&mut self, relation: &Arc<Relation>, epoch: Epoch) -> Result<()> {
        let is_sink = matches!(relation.kind, RelationKind::Sink(_));
        if is_sink {
            self.add_sink(relation)?;
        }
        let added = self.add_job(relation.clone(), None, Mode::Backfilling(Backfill::new(None, epoch)), epoch);
        if added.is_err() && is_sink {
            self.drop_sink(relation.id);
            self.stats.remove(relation.id);
        }
        added
    }

    /// At no time is there nothing of the name that it replaces: that has to be dropped after.
    fn install(&mut self, relation: &Arc<Relation>, comments: &Comments) {
        let with = self.catalog.with((**relation).clone());
        let comment = |catalog: CatalogSnapshot, (column, text): &(Option<usize>, String)| {
            catalog.with_comment(relation.id, *column, Some(text.clone()))
        };
        self.set_catalog(comments.iter().fold(with, comment));
    }

    /// The relation was built and could not be logged.
    fn undo_build(&mut self, id: RelationId) {
        self.apply_drop(&[id]);
        self.refresh_readers();
    }
}

/// State table ids are derived from relation ids, both never reused: id = relation * `TABLES_MAX` + index. One that was used twice would be two
/// relations' state.
fn assign_state_tables(relation: &mut Relation) -> Result<()> {
    let id = relation.id.0;
    let Some(plan) = relation.plan_mut() else { return Ok(()) };
    // The last id of all has none after it, up to which its table would be dropped.
    let Some(first) = id.checked_mul(TABLES_MAX).filter(|first| first.checked_add(TABLES_MAX).is_some()) else {
        return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "no more views and sinks can be made")
            .with_detail(format!("{id} relations have been made here, and their numbers are never used again."))
            .with_hint("Begin with a new data directory."));
    };
    let mut ids = (first..).map(StateTableId);
    for node in &mut plan.nodes {
        node.op.assign_state_tables(&mut || ids.next().expect("ids of tables go on"));
    }
    match ids.next() {
        Some(next) if next.0 - first <= TABLES_MAX => Ok(()),
        _ => Err(SqlError::new(SqlState::TOO_COMPLEX, "the query has too many operators with state")
            .with_hint("Make views of its parts, and read those.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_table_is_two_relations() {
        let ddl = "CREATE TABLE t (v INT); CREATE MATERIALIZED VIEW n AS SELECT v, COUNT(*) AS n FROM t GROUP BY v";
        let catalog = crate::pgcatalog::tests::catalog_of(ddl);
        let view: &Relation = catalog.by_name("n").unwrap();
        let tables = |id: u32| {
            let mut view = view.clone();
            view.id = RelationId(id);
            assign_state_tables(&mut view).map(|()| view.plan().map(StreamPlan::state_tables).unwrap_or_default())
        };
        assert_eq!(tables(2).unwrap().first(), Some(&StateTableId(2 * TABLES_MAX)));
        assert_eq!(tables((1 << 20) - 2).unwrap().first(), Some(&StateTableId(u32::MAX - 2 * TABLES_MAX + 1)));
        for id in [(1 << 20) - 1, 1 << 20, (1 << 20) + 2, u32::MAX] {
            assert_eq!(tables(id).unwrap_err().state, SqlState::PROGRAM_LIMIT_EXCEEDED, "{id}");
        }
        let mut many = view.clone();
        if let Some(plan) = many.plan_mut() {
            let nodes = plan.nodes.clone();
            plan.nodes = (0..=TABLES_MAX).flat_map(|_| nodes.clone()).collect();
        }
        assert_eq!(assign_state_tables(&mut many).unwrap_err().state, SqlState::TOO_COMPLEX);
    }
}
