//! What holds a replay of the log within bounds, however long that is: whenever it has brought more rows of tables than a ring keeps, their own
//! jobs take them in. Nobody else steps before all of the log is read: what the others lack by then they find in the tables' rows, as jobs do that
//! fell off a ring. Knows nothing of what the log says.
//!
//! A table comes exactly to every epoch at which others may have to read it: to marks, as always, and to those that the log of a sink may be complete
//! up to, which is known only in the end.

use super::core::Core;
use super::recovery::check_wanted;
use super::{Event, job::Job};
use crossbeam_channel::Select;
use eddyline_common::{RelationId, Result};
use std::time::Duration;

/// How long nothing is heard of workers and of maintenance until it is looked at again what is to be done.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Rows of tables that the log has brought since they were last taken in.
#[derive(Default)]
pub(super) struct Brought(pub usize);

impl Core {
    /// A cut of the log was replayed.
    pub(super) fn take_in_if_much(&mut self, brought: &mut Brought) -> Result<()> {
        if brought.0 <= self.config.ring_bytes {
            return Ok(());
        }
        *brought = Brought::default();
        // What others say waits until all of the log is read.
        let mut later = Vec::new();
        while self.take_in() {
            check_wanted(&self.config)?;
            self.hear(&mut later);
        }
        self.trim();
        for event in later {
            // It is this process that has the receiver.
            let _sent = self.sender.send(event);
        }
        Ok(())
    }

    /// Lets tables step as far as the log has been replayed; whether some of them is at it.
    fn take_in(&mut self) -> bool {
        self.vacuum_if_due();
        if self.holds_steps() {
            return true;
        }
        let tables: Vec<RelationId> = self.tables.keys().copied().filter(|id| self.jobs.get(id).is_some_and(Job::is_live)).collect();
        for table in &tables {
            while self.move_job(*table) {}
        }
        self.send_steps();
        tables.iter().filter_map(|table| self.jobs.get(table)).any(|job| job.running.is_some())
    }

    /// Waits for what workers and maintenance have to tell.
    fn hear(&mut self, later: &mut Vec<Event>) {
        if self.engine_events.is_empty() && self.events.is_empty() && !self.config.threads.run_others() {
            let mut next = Select::new();
            next.recv(&self.engine_events);
            next.recv(&self.events);
            let _looks_again = next.ready_timeout(LOOK_INTERVAL);
        }
        while let Ok(event) = self.engine_events.try_recv() {
            self.on_engine_event(event);
        }
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Vacuumed { more } => self.on_vacuumed(more),
                other => later.push(other),
            }
        }
    }
}
