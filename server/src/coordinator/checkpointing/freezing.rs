//! Which jobs a checkpoint has, and how they come into it: each frozen as it stands at its epoch, or between two steps of a reading of its own.

use super::super::core::Core;
use super::super::job::Job;
use super::super::system::JobCounters;
use super::body::{JobBody, Positions};
use eddyline_common::kv::SortedRun;
use eddyline_common::{Epoch, RelationId, StateTableId};
use eddyline_storage::view::ViewManifest;

impl Core {
    /// A checkpoint is not complete without the job's progress.
    pub(super) fn is_awaited(&self, job: &Job) -> bool {
        job.is_live() || self.resume_point(job).is_some() || self.must_finish(job)
    }

    /// A job that cannot be frozen goes into the manifest without its progress: it starts over, or stays stopped.
    pub(super) fn note_unfinished(&mut self, id: RelationId) {
        let failed = self.jobs[&id].failure().map(ToString::to_string);
        if let Some(run) = self.checkpoint.as_mut().filter(|r| !r.unreached.contains(&id) && !r.body.behind.contains_key(&id)) {
            run.body.jobs.insert(id, JobBody::without_progress(failed));
        }
    }

    /// Freezes a job that stands exactly at the checkpoint's epoch. Commands to the engine are in order, so its next
    /// step comes after.
    pub(in super::super) fn freeze_if_due(&mut self, id: RelationId) {
        let Some(run) = &self.checkpoint else { return };
        let Some(job) = self.jobs.get(&id) else { return };
        if job.stepped == run.epoch && job.running.is_none() && job.is_live() {
            self.freeze(id, None);
        }
    }

    /// Freezes backfilling jobs between two of their steps, once no other job is waited for.
    pub(super) fn freeze_backfills(&mut self) {
        let Some(run) = &self.checkpoint else { return };
        for id in run.unreached.iter().copied().collect::<Vec<_>>() {
            let positions = self.jobs.get(&id).filter(|j| j.running.is_none()).and_then(|j| self.resume_point(j));
            if positions.is_some() && self.is_held(id) {
                self.freeze(id, positions);
            }
        }
    }

    /// The epoch of the checkpoint being taken, if a job has still to come to it.
    pub(in super::super) fn checkpoint_ahead(&self, id: RelationId) -> Option<Epoch> {
        self.checkpoint.as_ref().filter(|run| run.unreached.contains(&id)).map(|run| run.epoch)
    }

    /// Whether a backfilling job must not step now: it is about to be frozen, or was, and its view is not written yet.
    pub(in super::super) fn is_held(&self, id: RelationId) -> bool {
        // What a sink that has to finish its reading reads may be this very job.
        let is_waited_for = |id: &RelationId| self.jobs.get(id).is_some_and(|j| self.keeps_up(j) || self.must_finish(j));
        let Some(run) = &self.checkpoint else { return false };
        let is_next = run.unreached.contains(&id) && !run.unfrozen.iter().any(is_waited_for);
        run.held.contains(&id) || (is_next && self.jobs.get(&id).is_some_and(|j| self.resume_point(j).is_some()))
    }

    /// Puts a job into the checkpoint as it is now; `positions` if it is in the middle of a backfill.
    fn freeze(&mut self, id: RelationId, positions: Option<Positions>) {
        let at_epoch = self.jobs.get(&id).is_some_and(Job::is_live);
        let sink = self.sinks.get_mut(&id).map(|s| s.body(at_epoch));
        if let Some(epoch) = self.checkpoint_ahead(id).filter(|_| positions.is_some() && at_epoch) {
            // A sink that stands still goes on to the checkpoint's epoch at once, as it will after a restart: with the policy of there.
            self.take_policies(id, epoch);
        }
        let Some(run) = &mut self.checkpoint else { return };
        let Some(job) = self.jobs.get_mut(&id).filter(|_| run.unreached.remove(&id)) else { return };
        if positions.is_some() {
            run.held.insert(id);
            if let Some(sink) = self.sinks.get_mut(&id).filter(|_| at_epoch) {
                sink.rejoins = true;
            }
            job.reading_mut().into_iter().for_each(|r| r.saved());
        }
        let body = JobBody {
            progress: Some(job.progress.clone()),
            stands: positions.is_some() && at_epoch,
            positions,
            output_watermark: job.output_watermark,
            counters: JobCounters::of(&job.stats),
            view: ViewManifest::default(),
            rejects: ViewManifest::default(),
            failed: None,
            sink,
        };
        run.body.jobs.insert(id, body);
        let checkpoint = run.id;
        match self.engine.freeze(id, checkpoint) {
            Ok(()) => {
                self.checkpoints.freezing.insert(id);
            }
            Err(error) => {
                tracing::error!(checkpoint, "a job cannot be frozen: {error}");
                self.forget_in_checkpoint(id);
            }
        }
    }

    /// The views of jobs in the middle of a backfill are in files: these go on.
    pub(in super::super) fn on_held_are_written(&mut self, checkpoint: u64) {
        if let Some(run) = self.checkpoint.as_mut().filter(|r| r.id == checkpoint) {
            run.held.clear();
        }
    }

    pub(in super::super) fn on_views_are_frozen(&mut self, checkpoint: u64) {
        if let Some(run) = self.checkpoint.as_mut().filter(|r| r.id == checkpoint) {
            run.views_frozen = true;
        }
    }

    pub(in super::super) fn on_frozen(&mut self, job: RelationId, checkpoint: u64, runs: Vec<(StateTableId, SortedRun)>) {
        self.checkpoints.freezing.remove(&job);
        let Some(run) = self.checkpoint.as_mut().filter(|r| r.id == checkpoint) else { return };
        if run.unfrozen.remove(&job) {
            run.runs.insert(job, runs);
        }
    }

    /// A job that was dropped or stopped is no part of the checkpoint any more.
    pub(in super::super) fn forget_in_checkpoint(&mut self, job: RelationId) {
        self.checkpoints.freezing.remove(&job);
        let dropped = !self.jobs.contains_key(&job);
        let Some(run) = &mut self.checkpoint else { return };
        if run.writing {
            return;
        }
        run.unreached.remove(&job);
        run.unfrozen.remove(&job);
        run.held.remove(&job);
        run.runs.remove(&job);
        if run.body.behind.remove(&job).is_some() {
            run.body.jobs.remove(&job);
        }
        if dropped {
            // The manifest must not name it: replay of the log after the manifest drops it again.
            return;
        }
        self.note_unfinished(job);
    }
}
