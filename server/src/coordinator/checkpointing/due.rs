//! When a checkpoint is due, and what it has to wait for.

use super::super::core::Core;
use super::super::job::Job;
use super::Run;
use eddyline_common::SqlError;
use std::time::{Duration, Instant};

/// A new sink sends nothing before a checkpoint has its job; one is taken this soon.
const AWAITED_INTERVAL: Duration = Duration::from_millis(500);

impl Core {
    pub(in super::super) fn next_checkpoint(&self) -> Option<Instant> {
        let awaited = self.is_awaited_by_sink();
        let interval = self.config.checkpoint_interval;
        let interval = if awaited { interval.min(AWAITED_INTERVAL) } else { interval };
        let interval = interval.max(self.checkpoints.pause);
        self.may_begin().then(|| self.checkpoints.last + interval)
    }

    /// There is something to save, and what the one before was about is over.
    pub(super) fn may_begin(&self) -> bool {
        self.checkpoint.is_none() && self.checkpoints.freezing.is_empty() && self.has_news() && !self.a_table_has_stopped()
    }

    /// Its rows are in the checkpoint before and in the log since, which a later one would let go of. What it stopped at may be gone
    /// after a restart.
    fn a_table_has_stopped(&self) -> bool {
        self.stopped_table().is_some()
    }

    fn stopped_table(&self) -> Option<&Job> {
        self.tables.keys().filter_map(|table| self.jobs.get(table)).find(|job| job.failure().is_some())
    }

    /// No checkpoint is taken without the table's rows.
    pub(in super::super) fn on_table_stopped(&mut self) {
        if let Some(run) = self.checkpoint.as_ref().filter(|run| !run.writing) {
            let id = run.id;
            self.on_checkpoint_done(id, Err(SqlError::internal("a table has stopped")));
        }
        tracing::error!("no checkpoint is taken until the table that has stopped is dropped or the server is started again");
    }

    /// What the checkpoint under way, or else the next one, has to wait for, and its number.
    pub(in super::super) fn checkpoint_waits_for(&self) -> Option<(u64, String)> {
        match &self.checkpoint {
            Some(run) => Some((run.id, self.waits_for_log(run)?)),
            None if self.has_news() => Some((self.checkpoints.next_id, self.next_checkpoint_waits_for()?)),
            None => None,
        }
    }

    fn waits_for_log(&self, run: &Run) -> Option<String> {
        let error = self.log_health().err().filter(|_| !run.writing && self.durable < run.epoch)?;
        Some(format!("waits until the log can be written: {}", error.message))
    }

    fn next_checkpoint_waits_for(&self) -> Option<String> {
        if let Some(table) = self.stopped_table() {
            return Some(format!("none is taken while table \"{}\" has stopped", table.relation.name));
        }
        let source = self.sources.values().find(|s| s.is_replaying())?;
        Some(format!("waits until source \"{}\" has been read again as far as before the restart", source.relation.name))
    }

    pub(super) fn has_news(&self) -> bool {
        let unsaved = |j: &Job| j.reading().is_some_and(|r| r.is_unsaved() && r.can_resume()) && j.trouble().is_none();
        self.last_cut > self.checkpoints.last_epoch
            || self.catalog.version() != self.checkpoints.last_catalog
            || self.jobs.values().any(unsaved)
            || self.is_awaited_by_sink()
            || self.has_caught_up()
    }

    /// What is behind in the last checkpoint will not be in the next one: that lets go of the log, and a restart asks no table outside for it again.
    fn has_caught_up(&self) -> bool {
        let Some(saved) = self.last_checkpoint().filter(|saved| !saved.behind.is_empty()) else { return false };
        let left = self.not_awaited();
        saved.behind.keys().any(|id| !left.contains(id))
    }

    /// A new sink has rows to send once a checkpoint has it, and the next one will.
    fn is_awaited_by_sink(&self) -> bool {
        let mut waiting = self.sinks.iter().filter(|(_, sink)| sink.waits_for_checkpoint()).peekable();
        if waiting.peek().is_none() {
            return false;
        }
        let left = self.not_awaited();
        waiting.any(|(id, _)| !left.contains(id))
    }
}
