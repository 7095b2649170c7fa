//! PAUSE and RESUME. A sink that is paused keeps its rows in its log, and its job goes on. A view stays at the epoch of the statement, a mark, which it
//! comes to first: also after a restart, whose checkpoint has it where it stands, as it has a sink's job that stands still. It goes on by reading
//! what it lacks on its own. What it reads must therefore be there to be read again, so it reads nothing but sources;
//! and nothing reads it, as that would have to stay with it.

use super::core::Core;
use super::ddl::Done;
use super::handle::DdlOutcome;
use super::job::Job;
use super::records::DdlRecord;
use super::sink::definition;
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState};
use eddyline_planner::catalog::{Relation, RelationKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where a view was told to stay.
pub(super) fn paused_at(relation: &Relation) -> Option<Epoch> {
    match &relation.kind {
        RelationKind::MaterializedView { options, .. } => options.paused,
        _ => None,
    }
}

impl Core {
    pub(super) fn pause(&mut self, id: RelationId, pause: bool) -> Result<Done> {
        let dropped = || SqlError::new(SqlState::UNDEFINED_OBJECT, "the job was dropped meanwhile");
        let relation = self.catalog.get(id).cloned().ok_or_else(dropped)?;
        let is_view = matches!(relation.kind, RelationKind::MaterializedView { .. });
        // A sink that stopped may still send what is in its log.
        let has_paused = definition(&relation).is_some_and(|sink| sink.paused);
        if !pause && !has_paused {
            self.is_running(id)?;
        }
        if is_view && pause == paused_at(&relation).is_some() {
            return Ok((DdlOutcome::default(), None));
        }
        if is_view && pause {
            self.check_pausable(&relation)?;
        }
        if is_view && !pause {
            // What the view lacks enters it at an epoch that nobody has read it at.
            self.take_cut()?;
        }
        let epoch = self.last_cut;
        let logged = self.log_ddl(&DdlRecord::Pause { relation: id, pause, epoch })?;
        self.apply_pause(id, pause, epoch);
        Ok((DdlOutcome::default(), Some(logged)))
    }

    fn check_pausable(&self, view: &Relation) -> Result<()> {
        let refuse = |why: String| SqlError::unsupported(format!("materialized view \"{}\" cannot be paused: {why}", view.name));
        self.is_running(view.id)?;
        if !self.only_sources(view) || view.plan().is_some_and(|plan| plan.reads_clock() || plan.reads_history()) {
            let error = refuse("it reads more than sources".to_string());
            return Err(error
                .with_detail("What it lacks is read again when it goes on; what tables and views held meanwhile is not kept.")
                .with_hint("Pause what only reads sources, or DROP the view and create it anew."));
        }
        if view.plan().is_some_and(|plan| plan.forgets()) {
            let error = refuse("what it forgets depends on when its rows come".to_string());
            return Err(error.with_detail("What it lacks when it goes on would come at one moment."));
        }
        if let Some(reader) = self.readers(view.id).next() {
            return Err(refuse(format!("\"{}\" reads it", reader.relation.name)).with_hint("Drop what reads it first."));
        }
        Ok(())
    }

    pub(super) fn apply_pause(&mut self, id: RelationId, pause: bool, epoch: Epoch) {
        let Some(relation) = self.catalog.get(id) else { return };
        let mut relation = (**relation).clone();
        match &mut relation.kind {
            RelationKind::Sink(definition) => definition.paused = pause,
            RelationKind::MaterializedView { options, .. } => options.paused = pause.then_some(epoch),
            _ => {}
        }
        let is_view = matches!(relation.kind, RelationKind::MaterializedView { .. });
        if let Some(job) = self.jobs.get_mut(&id) {
            job.relation = Arc::new(relation.clone());
            job.rejoins = is_view && !pause;
            job.stats.paused.store(is_view && pause, Ordering::Relaxed);
        }
        if is_view && pause {
            self.mark(epoch);
        }
        if let Some(sink) = self.sinks.get(&id) {
            sink.pause(pause);
        }
        self.set_catalog(self.catalog.with(relation));
    }

    /// The view has come to where it stays.
    pub(super) fn is_paused(&self, job: &Job) -> bool {
        job.is_live() && job.running.is_none() && paused_at(&job.relation).is_some_and(|epoch| job.stepped >= epoch)
    }

    /// Whoever reads a view that is paused reads no epoch of anything else.
    pub(super) fn check_unpaused(&self, id: RelationId) -> Result<()> {
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        let Some(epoch) = paused_at(&job.relation) else { return Ok(()) };
        let message = format!("materialized view \"{}\" is paused at epoch {epoch}", job.relation.name);
        Err(SqlError::new(SqlState::OBJECT_NOT_READY, message)
            .with_detail("It can only be read alone, and not in a transaction block: what else there is has gone on.")
            .with_hint(format!("ALTER MATERIALIZED VIEW {} RESUME.", job.relation.name)))
    }
}
