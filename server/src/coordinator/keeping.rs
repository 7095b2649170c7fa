//! Back to which epoch each view's rows are kept: to where somebody may still read them. A job needs its own rows and those of the tables and
//! views that it reads, and nothing of others, however long it lags. How much that is is told by job. Knows nothing of how rows are kept.

use super::checkpointing::Run;
use super::core::Core;
use super::job::{Job, common_epoch};
use eddyline_common::{Epoch, RelationId};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often it is looked at what is kept for whom.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Keeping {
    /// The newest epoch that all views shared.
    shared: Epoch,
    looked: Option<Instant>,
}

/// Since which epoch rows are kept for a job, and how many bytes of rows had died by then in what it needs.
#[derive(Clone, Copy)]
pub(super) struct Held {
    since: Epoch,
    died: u64,
}

impl Core {
    /// Works out from which epoch on each view is kept, and forgets where views were exact before. Gives the oldest epoch that anybody
    /// may read at.
    pub(super) fn note_kept(&mut self) -> Epoch {
        let readers = self.kept_for_readers();
        let mut oldest = readers;
        let mut needed: HashMap<RelationId, Epoch> = HashMap::new();
        for job in self.jobs.values() {
            let Some(epoch) = job.needs() else { continue };
            // One that stands still reads nothing but sources. What is its own it finds when it goes on, to whichever epoch.
            if !self.stands_still(job) {
                oldest = oldest.min(epoch);
            }
            for id in job.inputs.iter().copied().chain([job.id()]) {
                needed.entry(id).and_modify(|from| *from = epoch.min(*from)).or_insert(epoch);
            }
        }
        for job in self.jobs.values_mut() {
            let from = needed.get(&job.id()).map_or(readers, |epoch| readers.min(*epoch));
            job.kept_from = job.kept_from.max(from);
            job.exact.forget_before(job.kept_from);
        }
        oldest
    }

    /// What all views keep, as whoever reads one of them may read any other too: back to where all that go with the cuts are exact, where
    /// somebody reads, and where a checkpoint has still to read.
    fn kept_for_readers(&mut self) -> Epoch {
        // Who reads what a table outside holds up goes without what has gone on, or waits.
        let asking = self.jobs.values().filter(|job| job.trouble().is_some()).map(Job::id).collect();
        let held_up = self.with_readers(asking);
        // Nobody reads a sink; and a view that stays where it is shows the same at all later epochs.
        let is_shared = |j: &&Job| j.is_live() && !self.sinks.contains_key(&j.id()) && !self.is_paused(j) && !held_up.contains(&j.id());
        let live = self.jobs.values().filter(is_shared);
        // Without an epoch at which all are exact, some of them may still share one that was needed before.
        let shared = common_epoch(live.map(|j| &j.exact), self.durable).unwrap_or(self.keeping.shared);
        self.keeping.shared = self.keeping.shared.max(shared);
        let checkpoint = self.checkpoint.as_ref().and_then(Run::needs);
        checkpoint.into_iter().chain(self.pins.oldest()).fold(shared, Epoch::min)
    }

    /// Tells of each job how many bytes of rows are kept for it that have died since the epoch that it stands at.
    pub(super) fn tell_held(&mut self) {
        let now = self.instant();
        if self.keeping.looked.is_some_and(|at| now - at < LOOK_INTERVAL) {
            return;
        }
        self.keeping.looked = Some(now);
        let died: HashMap<RelationId, u64> = self.jobs.values().map(|job| (job.id(), job.view.died_bytes())).collect();
        let since = |job: &Job| if self.stands_still(job) { None } else { job.needs() };
        let needs: Vec<(RelationId, Option<Epoch>)> = self.jobs.values().map(|job| (job.id(), since(job))).collect();
        for (id, since) in needs {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            // A table's job reads its own writes.
            let views = job.inputs.iter().filter(|input| **input != id).chain([&id]);
            let died: u64 = views.filter_map(|view| died.get(view)).sum();
            let held = job.held.filter(|held| Some(held.since) == since);
            job.held = held.or(since.map(|since| Held { since, died }));
            let bytes = job.held.map_or(0, |held| died.saturating_sub(held.died));
            job.stats.held_bytes.store(bytes, Ordering::Relaxed);
        }
    }
}
