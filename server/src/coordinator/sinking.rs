//! Sinks' jobs: what their steps emit goes to their logs, and when they must not step.
//!
//! A job whose log is full stands still if it reads nothing but sources: it falls off their rings, is part of
//! checkpoints where it stands, and goes on from there. One that reads tables or views cannot come back to where it
//! stood, so it stops with an error; everything in its log is still sent. Nothing else waits for either.

use super::backfill::Reading;
use super::checkpointing::JobBody;
use super::core::Core;
use super::job::{Job, Mode};
use super::scheduling::Move;
use super::sink::{Returning, SinkJob, SinkPlace, sinks_dir};
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState, TaggedBatch, Timestamp};
use eddyline_planner::catalog::Relation;
use eddyline_planner::plan::ChangelogMode;
use std::sync::atomic::Ordering;

/// What a step of a sink's job gave.
pub(super) struct SinkStep {
    pub job: RelationId,
    pub epoch: Epoch,
    pub now: Timestamp,
    pub output: Vec<TaggedBatch>,
    pub watermark: Timestamp,
}

impl Core {
    fn sink_place(&self) -> SinkPlace {
        SinkPlace {
            data_dir: self.config.data_dir.clone(),
            fs: self.config.fs.clone(),
            events: self.sender.clone(),
            coordinator: self.handle.clone(),
            runtime: self.config.runtime.clone(),
            starting: self.starting,
        }
    }

    pub(super) fn only_sources(&self, relation: &Relation) -> bool {
        relation.plan().is_some_and(|plan| plan.inputs().iter().all(|i| self.sources.contains_key(i)))
    }

    /// The sink of a job that begins.
    pub(super) fn add_sink(&mut self, relation: &Relation) -> Result<()> {
        let stats = self.stats.add_sink(relation.id, &relation.name);
        let append_only = relation.mode == ChangelogMode::Append;
        let sink = SinkJob::new(relation, self.only_sources(relation), append_only, stats, &self.sink_place())?;
        self.sinks.insert(relation.id, sink);
        Ok(())
    }

    /// A checkpoint's sink: what of its log counts is known once the main log has been replayed.
    pub(super) fn restore_sink(&mut self, relation: &Relation, body: Option<&JobBody>) -> Result<()> {
        let Some(back) = body.and_then(JobBody::sink_back) else { return self.add_sink(relation) };
        let place = self.sink_place();
        self.sinks_back.insert(relation.id, Returning::open(place.fs.clone(), place.dir(relation.id), back));
        Ok(())
    }

    pub(super) fn drop_sink(&mut self, id: RelationId) {
        self.sinks_back.remove(&id);
        self.sink_writes.remove(&id);
        if let Some(sink) = self.sinks.remove(&id) {
            sink.discard();
        }
    }

    /// Lets restored sinks go on, and removes the logs of those that are gone.
    pub(super) fn recover_sinks(&mut self) -> Result<()> {
        for (id, returning) in std::mem::take(&mut self.sinks_back) {
            let Some(relation) = self.jobs.get(&id).map(|j| j.relation.clone()) else { continue };
            let stats = self.stats.add_sink(id, &relation.name);
            let append_only = relation.mode == ChangelogMode::Append;
            let only_sources = self.only_sources(&relation);
            let sink = SinkJob::recover(&relation, only_sources, append_only, stats, &self.sink_place(), returning, self.last_cut)?;
            let complete = sink.complete;
            self.sinks.insert(id, sink);
            if let Some(complete) = complete.filter(|c| self.jobs.get(&id).is_some_and(|j| j.stepped < *c)) {
                self.mark(complete);
            }
        }
        for (id, sink) in &mut self.sinks {
            sink.number_after(self.sink_writes.get(id).copied().unwrap_or(0));
        }
        let dir = sinks_dir(&self.config.data_dir);
        if !self.config.fs.exists(&dir) {
            return Ok(());
        }
        for path in self.config.fs.list(&dir)? {
            let id = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()).map(RelationId);
            if id.is_some_and(|id| self.sinks.contains_key(&id)) {
                continue;
            }
            // A sink that the log makes and drops again removes its own, at the same time.
            match self.config.fs.remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!("the log of a sink that is gone stays until the next start: {error}");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What a sink's step emitted goes to its log; what the log has already is dropped.
    pub(super) fn on_sink_step(&mut self, step: SinkStep) {
        let SinkStep { job: id, epoch, now, output, watermark } = step;
        let Some(job) = self.jobs.get(&id) else { return };
        let from = job.stepped;
        let backfilling = matches!(job.mode, Mode::Backfilling(_));
        let complete = !backfilling || job.reading().is_some_and(Reading::is_finished);
        let ends = |i: &RelationId| Some((*i, self.sources.get(i)?.ring.ends_at(epoch).to_vec()));
        let sources = job.inputs.iter().filter_map(ends).collect();
        if let Some(sink) = self.sinks.get_mut(&id).filter(|s| Some(epoch) > s.complete) {
            sink.rows(epoch, now, output.into_iter().map(|b| b.changes).collect());
            // Before the job is at the epoch: a checkpoint that takes it there waits for the commit too.
            if complete || sink.sends_early() {
                sink.commit(from, epoch, complete, sources);
            }
        }
        if backfilling {
            self.on_backfill_step(id, watermark);
        } else if let Some(job) = self.jobs.get_mut(&id) {
            job.output_watermark = watermark;
            job.exact.step(epoch);
            self.reach(id, epoch);
        }
    }

    pub(super) fn on_sink_logged(&mut self, id: RelationId, pieces: u64) {
        if let Some(sink) = self.sinks.get_mut(&id) {
            sink.on_logged(pieces);
        }
    }

    pub(super) fn release_sinks(&mut self) {
        let durable = self.durable;
        self.sinks.values_mut().for_each(|s| s.release(durable));
    }

    /// What a live sink's job does instead of stepping, if it must not.
    pub(super) fn hold_sink(&mut self, id: RelationId) -> Option<Move> {
        let job = self.jobs.get(&id)?;
        let sink = self.sinks.get_mut(&id)?;
        if sink.is_behind() || sink.holds_job(job.stepped) {
            return Some(Move::None);
        }
        if std::mem::take(&mut sink.rejoins) {
            return Some(self.fall_off(id));
        }
        None
    }

    /// Stops a job that must step and has no room for what it would emit.
    pub(super) fn sink_overflows(&mut self, id: RelationId) -> bool {
        let stepped = self.jobs.get(&id).map_or(Epoch::ZERO, |j| j.stepped);
        let Some(sink) = self.sinks.get(&id).filter(|s| s.has_no_room(stepped)) else { return false };
        let bound = sink.stats.log_bytes_max.load(Ordering::Relaxed);
        let error = SqlError::new(SqlState::LIMIT_EXCEEDED, format!("more than {bound} bytes wait to be sent"))
            .with_hint("What waits is still sent. Drop the sink and create it again, with a larger sink.log-size.");
        self.on_job_failed(id, self.last_cut, error);
        true
    }

    /// A private reading waits while what it found cannot be put anywhere.
    pub(super) fn holds_backfill(&self, id: RelationId) -> bool {
        self.sinks.get(&id).is_some_and(|s| s.is_behind() || s.holds_reading())
    }

    /// The job does not step, and nobody may wait for it.
    pub(super) fn stands_still(&self, job: &Job) -> bool {
        self.is_paused(job) || job.is_live() && self.sinks.get(&job.id()).is_some_and(|s| s.holds_job(job.stepped))
    }

    /// It reads on its own and has no room for what it finds: nobody may wait for it either.
    fn reads_no_further(&self, job: &Job) -> bool {
        matches!(job.mode, Mode::Backfilling(_)) && self.sinks.get(&job.id()).is_some_and(SinkJob::holds_reading)
    }

    /// Waiting for it may never end.
    pub(super) fn is_stuck(&self, job: &Job) -> bool {
        job.failure().is_some() || self.stands_still(job) || self.reads_no_further(job)
    }

    /// It steps with the cuts: waiting for it ends.
    pub(super) fn keeps_up(&self, job: &Job) -> bool {
        job.is_live() && !self.stands_still(job)
    }

    /// A checkpoint can take this job only when it has finished its private reading: a sink has sent
    /// some of it already, and what depends on the time of its reading is not read a second time alike.
    pub(super) fn must_finish(&self, job: &Job) -> bool {
        let Mode::Backfilling(backfill) = &job.mode else { return false };
        let sent = backfill.from.is_some() && self.sinks.contains_key(&job.id());
        let remembers = job.relation.plan().is_some_and(|plan| plan.reads_history() || plan.forgets());
        (sent || remembers) && self.resume_point(job).is_none()
    }

    /// A replayed job must come to exactly the epoch that its log is complete up to.
    pub(super) fn replayed_up_to(&self, job: &Job) -> Option<Epoch> {
        self.sinks.get(&job.id()).and_then(|s| s.complete).filter(|c| job.stepped < *c)
    }

    pub(super) fn sink_bound(&self, job: &Job) -> Epoch {
        // A table that steps before the log is replayed comes to every epoch that a sink may have to come to.
        let reads = |sink: &RelationId| self.with_inputs(vec![*sink]).contains(&job.id());
        let returning = self.sinks_back.iter().filter(|(id, _)| reads(id)).filter_map(|(_, sink)| sink.complete_after(job.stepped));
        returning.chain(self.replayed_up_to(job)).min().unwrap_or(Epoch::MAX)
    }
}
