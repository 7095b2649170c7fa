//! Private readings: of a new job, of one that fell off a ring, and of one that a restart interrupted in either. How each
//! begins, what it needs, and how it ends in the job going with the cuts.

use super::arrivals::StoredRows;
use super::backfill::{Backfill, Reading, RelationReading, SourceReading};
use super::checkpointing::Positions;
use super::core::Core;
use super::history::{Replay, offset_of};
use super::inbox::Reader;
use super::job::{Job, Mode};
use super::prefetch::{Open, Prefetch};
use super::scheduling::Move;
use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, Offset, RelationId, Result, Timestamp, failpoint};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

impl Core {
    /// The job's input is no longer in a ring: it reads on its own up to the last cut and joins again there; or up to the
    /// next epoch that it or a job that reads it must come to. Never further than a view that it reads, which may have no room for more until
    /// this job has what is there.
    pub(super) fn fall_off(&mut self, id: RelationId) -> Move {
        let Some(job) = self.jobs.get(&id) else { return Move::None };
        let met = self.epochs_met(id).into_iter().filter(|epoch| *epoch > job.stepped).min().unwrap_or(self.last_cut);
        let to = self.exact_in_views(job, met.min(self.known(job))).filter(|epoch| *epoch > job.stepped);
        let Some(to) = to else { return Move::None };
        self.mark(to);
        let Some(job) = self.jobs.get_mut(&id) else { return Move::None };
        tracing::info!(view = %job.relation.name, "fell behind the ring; reading on its own");
        job.mode = Mode::Backfilling(Backfill::new(Some(job.stepped), to));
        // It lacks something; how much is known once it reads.
        job.stats.backfill_permille.store(999, Ordering::Relaxed);
        Move::Some
    }

    /// Epochs at which a job, or one that reads it, directly or not, must be exact: where these are filled or were altered, up to
    /// where a sink's log is complete, that of a checkpoint that waits for them, and where these stand, if a restart brought the job back
    /// at an earlier one than them.
    pub(super) fn epochs_met(&self, id: RelationId) -> BTreeSet<Epoch> {
        let (mut open, mut seen, mut epochs) = (vec![id], BTreeSet::new(), BTreeSet::new());
        while let Some(id) = open.pop() {
            let Some(job) = self.jobs.get(&id).filter(|_| seen.insert(id)) else { continue };
            epochs.extend(job.meets());
            epochs.extend(job.is_live().then_some(job.stepped));
            epochs.extend(self.replayed_up_to(job));
            epochs.extend(self.checkpoint_ahead(id));
            open.extend(self.readers(id).filter(|reader| reader.failure().is_none()).map(Job::id));
        }
        epochs
    }

    pub(super) fn schedule_backfill(&mut self, id: RelationId) -> Result<Move> {
        // A server that stops does not wait for long backfills: they go on after the next start.
        if self.is_held(id) || self.shutdown.is_some() || self.holds_backfill(id) {
            return Ok(Move::None);
        }
        let Mode::Backfilling(backfill) = &self.jobs[&id].mode else { return Ok(Move::None) };
        let (from, to, begun) = (backfill.from, backfill.to, backfill.reading.is_some());
        if !begun {
            let ready = self.jobs[&id].inputs.iter().all(|i| self.has_come_to(*i, to));
            if !ready {
                return Ok(Move::None);
            }
            let reading = self.begin_reading(id, from, to)?;
            if let Some(Mode::Backfilling(backfill)) = self.jobs.get_mut(&id).map(|j| &mut j.mode) {
                backfill.reading = Some(reading);
            }
        }
        if failpoint::holds("backfill.step") {
            return Ok(Move::None);
        }
        let bytes_max = self.jobs[&id].step_bytes_max();
        let reading = self.jobs.get_mut(&id).and_then(Job::reading_mut);
        let Some(inputs) = reading.map(|reading| reading.next_inputs(bytes_max)).transpose()?.flatten() else { return Ok(Move::None) };
        failpoint::hit("backfill.step")?;
        self.begin_step(id, to, None, inputs, usize::MAX);
        Ok(Move::Some)
    }

    /// Whether all of a relation up to `epoch` can be read: a source's rows are in its ring, a table's or view's in its
    /// view store.
    fn has_come_to(&self, relation: RelationId, epoch: Epoch) -> bool {
        match self.jobs.get(&relation) {
            Some(job) => job.is_live() && job.stepped >= epoch,
            None => self.frontier(relation) >= epoch,
        }
    }

    /// Opens every input of a backfill: snapshots of tables and views, or what came and went in them since `from`, out of
    /// their rings as long as these have it; private readers of sources.
    fn begin_reading(&mut self, id: RelationId, from: Option<Epoch>, to: Epoch) -> Result<Reading> {
        let job = &self.jobs[&id];
        let mut reading = Reading::beginning_with(job.relation.plan().map_or_else(Vec::new, |plan| plan.looked_up()));
        for input in &job.inputs {
            if self.sources.contains_key(input) {
                let start = if from.is_none() { Vec::new() } else { job.source_ends(*input) };
                self.begin_source(job, *input, &start, to, &mut reading)?;
            } else if let Some(ring) = self.ring(*input) {
                let watermark = ring.watermark_at(to);
                let (batches, rest) = match (from, self.jobs.get(input)) {
                    (Some(from), _) if ring.start() <= from => (ring.take(from, to).batches, None),
                    (from, Some(read)) => (Vec::new(), Some(self.prefetch(job, read, from, to)?)),
                    (_, None) => (Vec::new(), None),
                };
                reading.total += batches.iter().map(|b| b.changes.num_rows() as u64).sum::<u64>();
                reading.relations.push(RelationReading { relation: *input, batches: batches.into(), rest, watermark });
            }
        }
        if from.is_some() {
            tracing::info!(view = %job.relation.name, done = reading.done, total = reading.total, "reading goes on from where it was");
        }
        Ok(reading)
    }

    /// Reads a table's or view's rows at `to`, or their changes since `from`, on a thread of their own.
    fn prefetch(&self, job: &Job, read: &Job, from: Option<Epoch>, to: Epoch) -> Result<Prefetch> {
        let (view, times, now) = (read.view.clone(), read.relation.time_columns.clone(), self.nows.at(to));
        let reached = job.progress.watermarks.get(&read.id()).copied().unwrap_or(Timestamp::MIN);
        let open: Open = match from {
            Some(from) => Box::new(move || {
                let rows = StoredRows::changes(&view, (from, to), now, &times, reached)?;
                let total = rows.num_changes();
                Ok((rows, total))
            }),
            None => Box::new(move || Ok((StoredRows::new(&view, to, now, &times)?, view.num_rows(to)))),
        };
        Prefetch::start(&*self.config.threads, Reader::Backfill(job.id(), read.id()), self.sender.clone(), open)
    }

    /// The columns of a source that a job reads; one whose records overwrite each other is read whole.
    pub(super) fn columns_read(&self, job: &Job, source: RelationId) -> BTreeSet<usize> {
        job.relation.plan().map_or_else(BTreeSet::new, |plan| plan.columns_of(source))
    }

    /// Opens a private reader of one source, from `start` (its own start where that names no offset) to epoch `to`.
    fn begin_source(&self, job: &Job, input: RelationId, start: &[PartitionStart], to: Epoch, reading: &mut Reading) -> Result<()> {
        let Some(source) = self.sources.get(&input) else { return Ok(()) };
        let first = |p| offset_of(source.starts(), p).unwrap_or_default();
        let begins = |p| offset_of(start, p).unwrap_or(first(p));
        let end = source.ring.ends_at(to);
        let start: Vec<_> = end.iter().map(|e| PartitionStart { partition: e.partition, start: begins(e.partition) }).collect();
        let watermark = job.progress.watermarks.get(&input).copied().unwrap_or(Timestamp::MIN);
        let (inbox, reader) = source.read_privately(job.id(), &self.columns_read(job, input), &start, &end, &self.private_inboxes)?;
        let between = |from: Offset, to: Offset| (to.0 - from.0).max(0) as u64;
        for (start, end) in start.iter().zip(end.iter()) {
            reading.total += between(first(end.partition), end.start);
            reading.done += between(first(end.partition), start.start);
        }
        let left = start.iter().zip(end.iter()).filter(|(start, end)| start.start < end.start);
        reading.sources.push(SourceReading {
            source: input,
            inbox,
            _reader: reader.and_then(|r| self.reaper.watch(r)),
            left: left.map(|(_, end)| (end.partition, end.start)).collect(),
            replay: Replay::new(&source.history, &start, &end, watermark, self.nows.at(to)),
            watermark: source.ring.watermark_at(to),
        });
        Ok(())
    }

    /// Where a restart would let a backfilling job go on: its positions in its sources. `None` if it has read nothing, or
    /// reads tables or views too: of those a restart brings back a later epoch than the one it is reading.
    pub(super) fn resume_point(&self, job: &Job) -> Option<Positions> {
        if self.stands_still(job) {
            return Some(job.source_ends.iter().map(|(s, e)| (*s, e.to_vec())).collect());
        }
        let Mode::Backfilling(backfill) = &job.mode else { return None };
        if self.sinks.get(&job.id()).is_some_and(|sink| !sink.sends_early()) {
            return None;
        }
        match &backfill.reading {
            Some(reading) => reading.can_resume().then(|| reading.positions()),
            None => {
                let only_sources = job.inputs.iter().all(|i| self.sources.contains_key(i));
                (backfill.from.is_some() && only_sources).then(|| job.source_ends.iter().map(|(s, e)| (*s, e.to_vec())).collect())
            }
        }
    }

    pub(super) fn on_backfill_step(&mut self, id: RelationId, watermark: Timestamp) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Mode::Backfilling(backfill) = &job.mode else { return };
        let to = backfill.to;
        let reading = backfill.reading.as_ref();
        job.stats.backfill_permille.store(reading.map_or(0, Reading::permille), Ordering::Relaxed);
        if !reading.is_some_and(Reading::is_finished) {
            return;
        }
        tracing::info!(view = %job.relation.name, epoch = to.0, "backfill done");
        job.stats.backfill_permille.store(1000, Ordering::Relaxed);
        job.mode = Mode::Live;
        job.output_watermark = watermark;
        job.output.trim(to);
        job.output.set_watermark(watermark);
        job.exact.step(to);
        self.reach(id, to);
    }
}
