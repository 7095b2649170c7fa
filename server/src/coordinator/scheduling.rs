//! Steps: which job goes to which epoch next, with what input; and what to do with what a step gives back.

use super::core::Core;
use super::job::{Job, Mode, Running, common_epoch, next_common_epoch};
use super::pausing::paused_at;
use super::ring::{Ring, RingEntry};
use super::sinking::SinkStep;
use eddyline_common::{Epoch, RelationId, Result, SqlError, TaggedBatch, Timestamp};
use eddyline_executor::{Step, StepDone, StepInput};
use eddyline_planner::plan::StreamPlan;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Steps that are handed to the workers together: each of them waits for its turn, and is told of, with the others of its worker.
const STEPS_TOGETHER: usize = 64;
/// With more input than this a step goes on its own.
const STEP_BYTES_TOGETHER: usize = 1 << 20;

/// Where a job's next step leads.
struct Target {
    epoch: Epoch,
    /// Nothing is left for its size.
    is_whole: bool,
}

/// What scheduling a job came to.
#[derive(PartialEq)]
pub(super) enum Move {
    None,
    /// Its epoch advanced, or a step began.
    Some,
}

impl Core {
    /// Moves every job as far as it can go now; true if any moved.
    pub(super) fn schedule(&mut self) -> bool {
        self.scheduled = self.instant();
        if self.holds_steps() {
            return false;
        }
        let ids: Vec<RelationId> = self.jobs.values().filter(|job| self.may_move(job)).map(Job::id).collect();
        if self.by_cut.is_none() {
            self.by_cut = Some(self.jobs_by_cut());
        }
        let mut moved = false;
        // Ids grow with creation, so what a view reads comes before it.
        for id in ids {
            moved |= self.move_job(id);
        }
        self.send_steps();
        moved
    }

    /// Moves a job, if it can; its step is not handed over yet.
    pub(super) fn move_job(&mut self, id: RelationId) -> bool {
        let result = match self.jobs.get(&id).map(|j| (&j.mode, j.running.is_some())) {
            Some((Mode::Live, false)) => self.schedule_live(id),
            Some((Mode::Backfilling(_), false)) => self.schedule_backfill(id),
            _ => Ok(Move::None),
        };
        match result {
            Ok(outcome) => outcome == Move::Some,
            Err(error) => {
                self.on_job_failed(id, self.last_cut, error);
                false
            }
        }
    }

    /// No step begins before the disk has caught up.
    pub(super) fn holds_steps(&self) -> bool {
        (self.tails_are_full() || self.engine.gate().is_held()) && self.shutdown.is_none()
    }

    pub(super) fn note_timer(&mut self, id: RelationId, has_timer: bool) {
        if has_timer {
            self.timed.insert(id);
        } else {
            self.timed.remove(&id);
        }
    }

    /// False only if there is nothing to look at: of a thousand jobs most rest, or step, at any time.
    fn may_move(&self, job: &Job) -> bool {
        job.running.is_none()
            && match job.mode {
                Mode::Live => job.stepped < self.last_cut || job.rejoins || !job.policies.is_empty() || self.sinks.contains_key(&job.id()),
                Mode::Backfilling(_) => true,
                Mode::Failed(_) => false,
            }
    }

    fn schedule_live(&mut self, id: RelationId) -> Result<Move> {
        if let Some(held) = self.hold_sink(id) {
            return Ok(held);
        }
        if self.is_paused(&self.jobs[&id]) {
            return Ok(Move::None);
        }
        if self.jobs.get_mut(&id).is_some_and(|job| std::mem::take(&mut job.rejoins)) {
            return Ok(self.fall_off(id));
        }
        self.take_policies(id, self.jobs[&id].stepped);
        let job = &self.jobs[&id];
        if self.output_is_full(job) {
            return Ok(Move::None);
        }
        let stepped = job.stepped;
        let fell_off = job.inputs.iter().any(|i| self.ring(*i).is_some_and(|r| r.start() > stepped));
        if fell_off {
            return Ok(self.fall_off(id));
        }
        self.join_emissions(id);
        let job = &self.jobs[&id];
        let Some(Target { epoch: target, is_whole }) = self.target(job) else { return Ok(Move::None) };
        let started = job.progress.started;
        let changed = job.inputs.iter().any(|i| self.ring(*i).is_some_and(|r| r.has_changes(stepped, target)));
        let timer = job.progress.next_timer.is_some_and(|timer| timer <= self.nows.at(target));
        let changed = changed || timer;
        if changed && (self.sink_overflows(id) || started && self.collects(id)) {
            return Ok(Move::None);
        }
        if changed && started && self.goes_by_cut(id) {
            // What reads it may have to come to an epoch before the one that brings it something.
            self.unchanged_up_to(id, Epoch(target.0 - 1));
        }
        if changed || !started {
            self.step_live(id, target, is_whole);
        } else {
            self.reach(id, target);
        }
        Ok(Move::Some)
    }

    /// A view whose readers lag stops emitting until they have caught up.
    pub(super) fn output_is_full(&self, job: &Job) -> bool {
        let is_full = !self.tables.contains_key(&job.id()) && job.output.bytes() > self.config.ring_bytes;
        is_full && !self.readers(job.id()).any(|reader| self.needs_more_of(job, reader))
    }

    /// What else the reader reads has passed all epochs at which it could take what this view has emitted.
    fn needs_more_of(&self, view: &Job, reader: &Job) -> bool {
        let views = self.views_read(reader);
        let next = next_common_epoch(views.iter().map(|v| &v.exact), reader.stepped.next());
        reader.is_live()
            && views.iter().all(|v| v.id() == view.id() || v.stepped > view.stepped)
            && next.is_none_or(|epoch| epoch > view.stepped)
    }

    /// The newest epoch the job can step to: known in all inputs, exact in all views it reads, not past a mark unless it
    /// collects or what it reads has passed that too, with not too much input.
    fn target(&self, job: &Job) -> Option<Target> {
        let from = next_common_epoch(self.views_read(job).iter().map(|v| &v.exact), job.stepped.next())?;
        let known = self
            .known(job)
            .min(self.sink_bound(job))
            .min(self.policy_bound(job))
            .min(self.next_change(job))
            .min(paused_at(&job.relation).unwrap_or(Epoch::MAX));
        let full = self.exact_in_views(job, known.min(self.bound_by_marks(job, from, known)))?;
        let bounded = self.exact_in_views(job, self.bound_by_bytes(job, full)).unwrap_or(full);
        let epoch = if bounded > job.stepped { bounded } else { full };
        (epoch > job.stepped).then_some(Target { epoch, is_whole: epoch == full })
    }

    fn goes_by_cut(&self, id: RelationId) -> bool {
        self.by_cut.as_ref().is_some_and(|jobs| jobs.contains(&id))
    }

    /// Jobs that take one cut in a step, since what they forget depends on the `now` of each: those that forget, and what they
    /// read, but for tables, which are read cut by cut anyway.
    fn jobs_by_cut(&self) -> BTreeSet<RelationId> {
        let forgets = |job: &&Job| job.relation.plan().is_some_and(StreamPlan::forgets);
        let mut open: Vec<RelationId> = self.jobs.values().filter(forgets).map(Job::id).collect();
        let mut found = BTreeSet::new();
        while let Some(id) = open.pop() {
            if !self.tables.contains_key(&id)
                && let Some(job) = self.jobs.get(&id)
                && found.insert(id)
            {
                open.extend(&job.inputs);
            }
        }
        found
    }

    /// Nothing comes to a job up to `epoch`: there its content is what it is now.
    fn unchanged_up_to(&mut self, id: RelationId, epoch: Epoch) {
        if let Some(job) = self.jobs.get_mut(&id)
            && epoch > job.stepped
        {
            job.exact.extend(epoch);
        }
    }

    /// The first epoch that brings such a job something.
    fn next_change(&self, job: &Job) -> Epoch {
        if !self.goes_by_cut(job.id()) {
            return Epoch::MAX;
        }
        let rings = job.inputs.iter().filter_map(|i| self.ring(*i));
        let changes = rings.filter_map(|ring| ring.epochs(job.stepped, Epoch::MAX).next()).map(|(epoch, _)| epoch);
        let timer = job.progress.next_timer.and_then(|timer| self.nows.first_from(timer)).filter(|epoch| *epoch > job.stepped);
        changes.chain(timer).min().unwrap_or(Epoch::MAX)
    }

    /// The newest epoch up to `bound` at which all views that the job reads are exact.
    pub(super) fn exact_in_views(&self, job: &Job, bound: Epoch) -> Option<Epoch> {
        common_epoch(self.views_read(job).iter().map(|v| &v.exact), bound)
    }

    fn views_read(&self, job: &Job) -> Vec<&Job> {
        job.inputs.iter().filter(|i| !self.tables.contains_key(i)).filter_map(|i| self.jobs.get(i)).collect()
    }

    /// The epoch up to which all that the job reads is known.
    pub(super) fn known(&self, job: &Job) -> Epoch {
        job.inputs.iter().map(|i| self.frontier(*i)).min().unwrap_or(self.last_cut)
    }

    fn bound_by_bytes(&self, job: &Job, bound: Epoch) -> Epoch {
        let all: usize = job.inputs.iter().filter_map(|i| self.ring(*i)).map(Ring::bytes).sum();
        if all <= job.step_bytes_max() {
            return bound;
        }
        let mut entries: Vec<(Epoch, usize)> =
            job.inputs.iter().filter_map(|i| self.ring(*i)).flat_map(|r| r.epochs(job.stepped, bound)).collect();
        entries.sort_unstable();
        let mut room = job.step_bytes_max();
        for (index, (epoch, bytes)) in entries.iter().enumerate() {
            if index > 0 && *bytes > room {
                return Epoch(epoch.0 - 1);
            }
            room = room.saturating_sub(*bytes);
        }
        bound
    }

    fn step_live(&mut self, id: RelationId, target: Epoch, is_whole: bool) {
        let job = &self.jobs[&id];
        let (mut arrived, mut bytes): (Option<Instant>, usize) = (None, 0);
        let mut inputs = Vec::with_capacity(job.inputs.len());
        for input in &job.inputs {
            let before = job.progress.watermarks.get(input).copied().unwrap_or(Timestamp::MIN);
            let Some(ring) = self.ring(*input) else { continue };
            let taken = ring.take(job.stepped, target);
            bytes += taken.bytes;
            arrived = arrived.into_iter().chain(taken.arrived).min();
            inputs.push(StepInput { relation: *input, batches: taken.batches, watermark: taken.watermark.unwrap_or(before) });
        }
        self.begin_step(id, target, arrived, inputs, bytes);
        let now = self.instant();
        if let Some(job) = self.jobs.get_mut(&id).filter(|_| is_whole) {
            job.emitted = Some(now);
        }
    }

    /// `bytes` of input: little of it goes to the workers together with other steps.
    pub(super) fn begin_step(&mut self, id: RelationId, epoch: Epoch, arrived: Option<Instant>, inputs: Vec<StepInput>, bytes: usize) {
        let now = self.nows.at(epoch);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.running = Some(Running { epoch, arrived, now });
        let step = Step { job: id, epoch, now, inputs };
        if bytes > STEP_BYTES_TOGETHER {
            return self.engine.step(step);
        }
        self.steps_begun.push(step);
        if self.steps_begun.len() >= STEPS_TOGETHER {
            self.send_steps();
        }
    }

    /// Hands over the steps that were begun. Nothing is frozen meanwhile: a job that steps is frozen after it.
    pub(super) fn send_steps(&mut self) {
        if !self.steps_begun.is_empty() {
            self.engine.steps(std::mem::take(&mut self.steps_begun));
        }
    }

    /// The job's content is at `epoch`, by a step or because nothing happened since the last one.
    pub(super) fn reach(&mut self, id: RelationId, epoch: Epoch) {
        let sources = self.jobs.get(&id).map(|j| j.inputs.clone()).unwrap_or_default();
        let ends: Vec<_> = sources.into_iter().filter_map(|i| Some((i, self.sources.get(&i)?.ring.ends_at(epoch)))).collect();
        if let Some(job) = self.jobs.get_mut(&id) {
            job.advance(epoch);
            job.source_ends.extend(ends);
            self.note_filling(id);
            self.freeze_if_due(id);
        }
    }

    pub(super) fn on_step_done(&mut self, done: StepDone) {
        let Some(job) = self.jobs.get_mut(&done.job) else { return };
        let Some(running) = job.running.take() else { return };
        job.progress = done.progress;
        job.fan_out.note(done.rows_in, done.rows_most);
        let (stats, relation, has_timer) = (job.stats.clone(), job.relation.clone(), job.progress.next_timer.is_some());
        self.note_timer(done.job, has_timer);
        stats.rows_in.fetch_add(done.rows_in, Ordering::Relaxed);
        let now = self.config.clock.now();
        stats.rate.add(done.rows_in, now);
        stats.rows_out.fetch_add(done.rows_out, Ordering::Relaxed);
        stats.busy_micros.fetch_add(done.busy_micros, Ordering::Relaxed);
        stats.busy_rate.add(done.busy_micros, now);
        stats.state_bytes.store(done.state_bytes, Ordering::Relaxed);
        stats.steps.fetch_add(1, Ordering::Relaxed);
        if let Some(arrived) = running.arrived {
            stats.freshness_micros.store((self.instant() - arrived).as_micros() as i64, Ordering::Relaxed);
        }
        stats.late.fetch_add(self.system.late_rows(&relation, done.epoch, &done.late), Ordering::Relaxed);
        stats.rejected.fetch_add(done.rejections, Ordering::Relaxed);
        if self.sinks.contains_key(&done.job) {
            let emitted = SinkStep { job: done.job, epoch: done.epoch, now: running.now, output: done.output, watermark: done.watermark };
            return self.on_sink_step(emitted);
        }
        if matches!(self.jobs[&done.job].mode, Mode::Backfilling(_)) {
            return self.on_backfill_step(done.job, done.watermark);
        }
        let output = (!done.is_left_out).then_some(done.output);
        self.emit(done.job, done.epoch, output, done.watermark, running.arrived);
        if let Some(job) = self.jobs.get_mut(&done.job) {
            job.exact.step(done.epoch);
        }
        self.reach(done.job, done.epoch);
    }

    /// Puts a view's changes into its ring, if somebody reads them. `None`: they are too many, and readers find them in its rows. A table's
    /// readers take its writes instead.
    fn emit(&mut self, id: RelationId, epoch: Epoch, output: Option<Vec<TaggedBatch>>, watermark: Timestamp, arrived: Option<Instant>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let before = std::mem::replace(&mut job.output_watermark, watermark);
        if output.as_ref().is_some_and(Vec::is_empty) && watermark == before {
            return;
        }
        let is_read = !self.tables.contains_key(&id) && self.readers(id).any(|j| j.failure().is_none());
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match output {
            _ if !is_read => {
                job.output.trim(epoch);
                job.output.set_watermark(watermark);
            }
            None => job.output.lose(epoch, watermark),
            Some(mut batches) => {
                batches.retain(|b| !b.changes.is_empty());
                let bytes = batches.iter().map(|b| b.changes.bytes()).sum();
                let arrived = arrived.unwrap_or_else(Instant::now);
                job.output.push(RingEntry { epoch, batches, watermark, bytes, arrived, ends: None });
            }
        }
    }

    pub(super) fn on_job_failed(&mut self, id: RelationId, epoch: Epoch, error: SqlError) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        tracing::error!(view = %job.relation.name, epoch = epoch.0, "job stopped: {error}");
        *job.stats.error.write() = Some(error.to_string());
        job.running = None;
        job.mode = Mode::Failed(error);
        self.engine.drop_job(id);
        if self.tables.contains_key(&id) {
            self.on_table_stopped();
        }
        self.forget_in_checkpoint(id);
        self.readers_changed = true;
        // Readers of a table take its writes, which go on; readers of a view have nothing to read any more.
        if !self.tables.contains_key(&id) {
            let readers: Vec<RelationId> = self.readers(id).filter(|j| j.failure().is_none()).map(Job::id).collect();
            readers.into_iter().for_each(|reader| self.fail_with_inputs(reader, epoch));
        }
    }

    /// Stops a job if a view that it reads has stopped.
    pub(super) fn fail_with_inputs(&mut self, id: RelationId, epoch: Epoch) {
        let Some(job) = self.jobs.get(&id) else { return };
        let stopped = job.inputs.iter().filter(|i| !self.tables.contains_key(i)).find_map(|i| self.is_running(*i).err());
        if let Some(error) = stopped {
            let error = SqlError { message: format!("it reads {}", error.message), ..error };
            self.on_job_failed(id, epoch, error);
        }
    }
}
