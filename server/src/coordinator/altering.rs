//! ALTER and COMMENT ON: a relation goes on with other options, or under another name. What can fail (a connector that does not take them) fails before
//! anything is logged; afterwards nothing is asked of anybody.
//!
//! What a job makes of rows that fail is part of its content: a new policy counts from a mark on, for a replay as for the first
//! run. How a job is stepped, and how the outside is reached, is not.

use super::core::Core;
use super::ddl::{Done, taken};
use super::handle::DdlOutcome;
use super::job::Job;
use super::records::DdlRecord;
use super::sink::definition;
use super::unopened::{open_sink, open_source};
use eddyline_common::connector::{SinkConnector, SourceConnector};
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState};
use eddyline_planner::catalog::{Relation, RelationKind};
use std::sync::Arc;

/// Connectors made with the new options.
#[derive(Default)]
pub(super) struct Prepared {
    source: Option<Arc<dyn SourceConnector>>,
    sink: Option<Box<dyn SinkConnector>>,
}

/// What is altered and what it becomes, with the numbers that the rows have `now`: they go on whatever else is altered meanwhile.
fn beside_numbers(now: &Relation, before: &Relation, after: Relation) -> (Relation, Relation) {
    let mut both = [before.clone(), after];
    if both[0].numbered() == both[1].numbered() {
        for relation in &mut both {
            if let RelationKind::Table { numbered, .. } = &mut relation.kind {
                *numbered = now.numbered().cloned();
            }
        }
    }
    let [before, after] = both;
    (before, after)
}

impl Core {
    pub(super) fn alter(&mut self, before: &Relation, after: Relation) -> Result<Done> {
        let (before, after) = match self.catalog.get(before.id) {
            Some(now) => beside_numbers(now, before, after),
            None => (before.clone(), after),
        };
        self.check_unchanged(&before)?;
        self.check_unpaused(after.id)?;
        if after.name != before.name && self.catalog.is_taken(&after.name) {
            return taken(&after.name, false);
        }
        if after == before {
            return Ok((DdlOutcome::default(), None));
        }
        let prepared = self.prepare_alter(&after)?;
        let epoch = self.last_cut;
        let logged = self.log_ddl(&DdlRecord::Alter { relation: Box::new(after.clone()), epoch })?;
        self.apply_alter(after, epoch, prepared);
        Ok((DdlOutcome::default(), Some(logged)))
    }

    /// An error if a relation is no longer what a statement was planned over: what was altered since would be lost.
    pub(super) fn check_unchanged(&self, before: &Relation) -> Result<()> {
        if self.catalog.get(before.id).is_some_and(|current| **current == *before) {
            return Ok(());
        }
        let error = SqlError::new(SqlState::OBJECT_NOT_READY, format!("relation \"{}\" was changed meanwhile", before.name));
        Err(error.with_hint("Try again."))
    }

    pub(super) fn prepare_alter(&self, after: &Relation) -> Result<Prepared> {
        let spec = after.source_spec().filter(|_| self.sources.contains_key(&self.source_of(after.id)));
        let feed = after.feed();
        let spec = feed.as_ref().and_then(Relation::source_spec).or(spec);
        let source = spec.map(|spec| open_source(spec, &self.config.open_source, self.starting)).transpose()?;
        let changed = definition(after).filter(|sink| sink.into.is_none()).filter(|sink| {
            let current = self.catalog.get(after.id).and_then(|r| definition(r));
            current.is_none_or(|current| current.spec != sink.spec)
        });
        let sink = changed.map(|sink| open_sink(&sink.spec, self.starting)).transpose()?;
        Ok(Prepared { source, sink })
    }

    pub(super) fn apply_alter(&mut self, after: Relation, epoch: Epoch, prepared: Prepared) {
        let id = after.id;
        let source = self.source_of(id);
        let relation = Arc::new(after);
        if let (Some(source), Some(connector)) = (self.sources.get_mut(&source), prepared.source) {
            let feed = relation.feed().map_or_else(|| relation.clone(), Arc::new);
            if let Err(error) = source.alter(feed, connector, &self.reaper) {
                tracing::error!(source = %relation.name, "it is not read for now: {error}");
                self.readers_changed = true;
            }
        }
        if let Some(table) = self.tables.get_mut(&id)
            && let Err(error) = table.alter(relation.clone())
        {
            tracing::error!(table = %relation.name, "its watermark goes on as before: {error}");
        }
        if let (Some(sink), Some(definition)) = (self.sinks.get(&id), definition(&relation)) {
            sink.alter(definition.log_bytes_max, prepared.sink);
        }
        if let Some(stats) = self.stats.jobs.read().get(&id) {
            *stats.name.write() = relation.name.as_str().into();
        }
        self.alter_job(&relation, epoch);
        self.set_catalog(self.catalog.with((*relation).clone()));
    }

    fn alter_job(&mut self, relation: &Arc<Relation>, epoch: Epoch) {
        self.note_interval(relation);
        let Some(job) = self.jobs.get_mut(&relation.id) else { return };
        let policy = |r: &Relation| r.job_options().map(|options| options.on_error);
        let (before, after) = (policy(&job.relation), policy(relation));
        job.relation = relation.clone();
        let Some(policy) = after.filter(|_| before != after) else { return };
        job.policies.push_back((epoch, policy));
        self.mark(epoch);
    }

    /// The same of a job that a checkpoint has as it was before: all else that was altered is in the catalog.
    pub(super) fn replay_policy(&mut self, after: &Relation, epoch: Epoch) {
        let Some(policy) = after.job_options().map(|options| options.on_error) else { return };
        let Some(job) = self.jobs.get_mut(&after.id).filter(|job| epoch >= job.ring_cursor()) else { return };
        job.policies.push_back((epoch, policy));
        self.mark(epoch);
    }

    /// A policy counts once the job has come to where it was altered: what was altered up to `epoch` counts from here on.
    pub(super) fn take_policies(&mut self, id: RelationId, epoch: Epoch) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        while let Some((_, policy)) = job.policies.pop_front_if(|(altered, _)| *altered <= epoch) {
            self.engine.set_on_error(id, policy);
        }
    }

    /// Up to where the job's present policy counts.
    pub(super) fn policy_bound(&self, job: &Job) -> Epoch {
        job.policies.front().map_or(Epoch::MAX, |(epoch, _)| *epoch)
    }

    pub(super) fn comment(&mut self, relation: RelationId, column: Option<usize>, text: Option<String>) -> Result<Done> {
        if self.catalog.get(relation).is_none() {
            return Err(SqlError::new(SqlState::UNDEFINED_TABLE, "the relation was dropped meanwhile"));
        }
        let logged = self.log_ddl(&DdlRecord::Comment { relation, column, text: text.clone() })?;
        self.apply_comment(relation, column, text);
        Ok((DdlOutcome::default(), Some(logged)))
    }

    pub(super) fn apply_comment(&mut self, relation: RelationId, column: Option<usize>, text: Option<String>) {
        self.set_catalog(self.catalog.with_comment(relation, column, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgcatalog::tests::catalog_of;

    #[test]
    fn numbers_go_on_while_something_else_is_altered() {
        let with_next = |relation: &Relation, number: i64| {
            let mut other = relation.clone();
            let RelationKind::Table { numbered: Some(numbered), .. } = &mut other.kind else { panic!("it numbers its rows") };
            numbered.next = number;
            other
        };
        let catalog = catalog_of("CREATE TABLE t (id SERIAL, v INT)");
        let before = Relation::clone(catalog.by_name("t").unwrap());
        let (now, renamed) = (with_next(&before, 1025), Relation { name: "u".to_string(), ..before.clone() });
        assert_eq!(beside_numbers(&now, &before, renamed.clone()), (now.clone(), with_next(&renamed, 1025)));
        // Whoever sets numbers aside has to have seen which are.
        let aside = with_next(&before, 1025);
        assert_eq!(beside_numbers(&now, &before, aside.clone()), (before, aside));
    }
}
