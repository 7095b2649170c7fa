//! Jobs that collect changes for an interval (`emit_interval`) and take them in one step. Such a job passes marks: it goes to the newest there is. It
//! comes, and at once, to epochs at which something else needs it exactly; and views that collect come to some epochs together, as often as
//! the slowest of them emits, so that they can be read together.

use super::core::Core;
use super::job::Job;
use super::ring::Ring;
use eddyline_common::{Epoch, RelationId};
use eddyline_planner::catalog::Relation;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

impl Core {
    /// Whether the job collects changes for now, and nobody waits for it.
    pub(super) fn collects(&self, id: RelationId) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        // After a restart it comes to where it was at once.
        if job.stepped < self.recovered || job.emits_at().is_none_or(|due| due <= self.instant()) {
            return false;
        }
        self.shutdown.is_none() && !self.much_waits(job) && self.next_meeting(job) > self.last_cut && !self.awaited().contains(&id)
    }

    /// Its input fills half a ring.
    fn much_waits(&self, job: &Job) -> bool {
        let much = self.ring_share / 2;
        let rings: Vec<&Ring> = job.inputs.iter().filter_map(|i| self.ring(*i)).collect();
        // What others lack is there too: mostly all of it is little.
        let all: usize = rings.iter().map(|ring| ring.bytes()).sum();
        let waiting = || rings.iter().flat_map(|ring| ring.epochs(job.stepped, Epoch::MAX)).map(|(_, bytes)| bytes).sum::<usize>();
        all >= much && waiting() >= much
    }

    /// Jobs that a reader, FLUSH or a checkpoint waits for, and those that they wait for in turn.
    fn awaited(&self) -> BTreeSet<RelationId> {
        let checkpointed = self.checkpoint.iter().flat_map(|run| run.unreached());
        self.with_inputs(self.unanswered().chain(checkpointed).collect())
    }

    /// Relations and what they read, directly or not.
    pub(super) fn with_inputs(&self, mut open: Vec<RelationId>) -> BTreeSet<RelationId> {
        let mut found = BTreeSet::new();
        while let Some(id) = open.pop() {
            if found.insert(id) {
                open.extend(self.jobs.get(&id).into_iter().flat_map(|job| job.inputs.iter().copied()));
            }
        }
        found
    }

    /// Relations and what reads them, directly or not.
    pub(super) fn with_readers(&self, mut open: Vec<RelationId>) -> BTreeSet<RelationId> {
        let mut found = BTreeSet::new();
        while let Some(id) = open.pop() {
            if found.insert(id) {
                open.extend(self.readers(id).map(Job::id));
            }
        }
        found
    }

    /// The next epoch that a job that collects must come to exactly.
    fn next_meeting(&self, job: &Job) -> Epoch {
        let joint = self.joint.range(job.stepped.next()..).next().copied().filter(|_| !self.sinks.contains_key(&job.id()));
        let met = self.epochs_met(job.id()).into_iter().chain(self.epochs_read(job.id()));
        met.filter(|epoch| *epoch > job.stepped).chain(joint).min().unwrap_or(Epoch::MAX)
    }

    /// How far marks let the job's next step go, to an epoch from `from` on; up to `known` it knows what it reads.
    pub(super) fn bound_by_marks(&self, job: &Job, from: Epoch, known: Epoch) -> Epoch {
        if emit_interval(&job.relation).is_none() {
            return self.marks.range(from..).next().copied().unwrap_or(Epoch::MAX);
        }
        let last = known.min(self.next_meeting(job));
        if last < from { last } else { self.marks.range(from..=last).next_back().copied().unwrap_or(last) }
    }

    /// A view that emits now lets all that collect come to the present epoch with it, if it is time for that.
    pub(super) fn join_emissions(&mut self, id: RelationId) {
        let now = self.instant();
        let is_due = self.jobs.get(&id).and_then(Job::emits_at).is_some_and(|due| due <= now);
        if !is_due || self.sinks.contains_key(&id) {
            return;
        }
        let views = self.collecting.iter().filter(|id| !self.sinks.contains_key(id)).filter_map(|id| self.jobs.get(id));
        let slowest = views.filter(|job| self.keeps_up(job)).filter_map(|job| emit_interval(&job.relation)).max();
        if slowest.is_some_and(|interval| self.joined.is_none_or(|at| now - at >= interval)) {
            self.joined = Some(now);
            self.joint.insert(self.last_cut);
            self.mark(self.last_cut);
        }
    }

    /// All that go with the cuts of an input collect.
    pub(super) fn is_only_collected(&self, input: RelationId) -> bool {
        let mut readers = self.readers(input).filter(|j| self.keeps_up(j)).peekable();
        !self.collecting.is_empty() && readers.peek().is_some() && readers.all(|j| self.collecting.contains(&j.id()))
    }

    /// When a job that collects changes takes them, if that is still to come.
    pub(super) fn next_emission(&self) -> Option<Instant> {
        let now = self.instant();
        self.collecting.iter().filter_map(|id| self.jobs.get(id)?.emits_at()).filter(|due| *due > now).min()
    }

    pub(super) fn note_interval(&mut self, relation: &Relation) {
        if emit_interval(relation).is_some() {
            self.collecting.insert(relation.id);
        } else {
            self.collecting.remove(&relation.id);
        }
    }
}

/// How long a relation's job collects changes.
pub(super) fn emit_interval(relation: &Relation) -> Option<Duration> {
    let micros = relation.job_options().map_or(0, |options| options.emit_interval);
    (micros > 0).then(|| Duration::from_micros(micros as u64))
}
