//! Checkpoints: a common epoch, every job frozen right after it, everything written in the background, one manifest at the
//! end. A job that is still reading on its own is frozen between two of its steps, with its positions.
//!
//! - `behind`: jobs that it does not wait for
//! - `body`: what a manifest says
//! - `maintenance`: the thread that freezes views, and cleans them between checkpoints
//! - `writer`: the thread that uploads and commits

mod behind;
mod body;
mod maintenance;
mod writer;

pub(super) use behind::restore_state;
pub(super) use body::{Body, JobBody, Positions, Replayed, known_body};
pub(super) use writer::{Means, Written, stored_bytes};

use super::core::Core;
use super::history::History;
use super::job::Job;
use super::stats::Stats;
use super::system::{JobCounters, SystemRows};
use behind::Behind;
use body::{BEHIND_VERSION, BODY_VERSION};
use crossbeam_channel::Sender;
use eddyline_common::kv::SortedRun;
use eddyline_common::runtime::{Thread, Threads};
use eddyline_common::{Epoch, RelationId, Result, SqlError, StateTableId, failpoint};
use eddyline_planner::catalog::{Relation, RelationKind};
use eddyline_storage::view::{View, ViewManifest};
use maintenance::{FreezeTask, FreezeView, Maintenance, MaintenanceTask};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use writer::{WriteTask, Writer, WriterTask};

/// How often old row versions are cleaned away while something changes.
const VACUUM_INTERVAL: Duration = Duration::from_secs(2);

/// When views have this much that is not frozen, they are cleaned at once: a few steps' output, so that writing stays ahead.
const TAILS_BYTES_HIGH: usize = 64 << 20;

/// How often that may be, so that a full disk is not asked without pause.
const VACUUM_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// With this much not frozen, jobs wait until the disk has taken it. Bounds the memory of views whatever the input.
const TAILS_BYTES_MAX: usize = 256 << 20;

/// A new sink sends nothing before a checkpoint has its job; one is taken this soon.
const AWAITED_INTERVAL: Duration = Duration::from_millis(500);

/// After a checkpoint that failed: a store that is away is asked less and less often.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Finished checkpoints that `eddyline.checkpoints` shows.
const RECENT_MAX: usize = 100;

/// A checkpoint being taken.
pub(super) struct Run {
    pub id: u64,
    pub epoch: Epoch,
    body: Body,
    /// As of the epoch; the body gets their files.
    histories: BTreeMap<RelationId, History>,
    /// Jobs that have not come to the epoch yet, or were not frozen yet.
    unreached: BTreeSet<RelationId>,
    unfrozen: BTreeSet<RelationId>,
    /// Frozen in the middle of a backfill, all steps of which share an epoch: they take no step until their views are
    /// in files, where a later step could not be told from those before.
    held: BTreeSet<RelationId>,
    runs: BTreeMap<RelationId, Vec<(StateTableId, SortedRun)>>,
    started: Instant,
    /// The catalog's version that it contains.
    catalog: u64,
    writing: bool,
    /// Its views are in files; what is left to do reads nothing at its epoch.
    views_frozen: bool,
}

impl Run {
    /// The epoch at which views must stay readable for it.
    pub fn needs(&self) -> Option<Epoch> {
        (!self.views_frozen).then_some(self.epoch)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Recent {
    pub id: u64,
    pub epoch: Epoch,
    pub micros: u64,
    pub problem: Option<String>,
}

/// The threads in the background. Dropped, it waits for what they were told to do.
pub(super) struct Background {
    writer: Option<Sender<WriterTask>>,
    maintenance: Option<Sender<MaintenanceTask>>,
    threads: Vec<Box<dyn Thread>>,
}

impl Background {
    pub fn start(threads: &Arc<dyn Threads>, means: Means, stats: Arc<Stats>) -> Result<Background> {
        let (to_maintenance, tasks) = crossbeam_channel::unbounded();
        let (store, events) = (means.store.clone(), means.events.clone());
        let maintenance =
            Maintenance { tasks, store, events, stats: stats.clone(), vacuuming: Default::default(), told: Default::default() };
        let (to_writer, tasks) = crossbeam_channel::unbounded();
        let writer = Writer { tasks, threads: threads.clone(), means, stats, positions: BTreeMap::new() };
        let threads = vec![threads.spawn("checkpoints", Box::new(writer))?, threads.spawn("maintenance", Box::new(maintenance))?];
        Ok(Background { writer: Some(to_writer), maintenance: Some(to_maintenance), threads })
    }
}

/// The books between checkpoints.
pub(super) struct Checkpointing {
    background: Background,
    next_id: u64,
    last: Instant,
    last_epoch: Epoch,
    last_catalog: u64,
    vacuumed: Instant,
    vacuuming: bool,
    /// Between checkpoints at least; none after one that was written.
    pause: Duration,
    /// The last vacuum stopped before it was through.
    unclean: bool,
    /// The last one that is durable.
    saved: Option<Box<Body>>,
    recent: VecDeque<Recent>,
    /// After this checkpoint the store did not remove what none needs any more.
    uncleaned: Option<(u64, String)>,
    is_final: bool,
}

impl Checkpointing {
    pub fn start(background: Background, now: Instant, next_id: u64, restored: Option<&Body>) -> Self {
        Checkpointing {
            background,
            next_id,
            last: now,
            last_epoch: restored.map_or(Epoch::ZERO, |b| b.epoch),
            last_catalog: 0,
            vacuumed: now,
            vacuuming: false,
            pause: Duration::ZERO,
            unclean: false,
            saved: restored.map(|body| Box::new(body.clone().kept())),
            recent: VecDeque::new(),
            uncleaned: None,
            is_final: false,
        }
    }

    pub fn recent(&self) -> impl Iterator<Item = &Recent> {
        self.recent.iter()
    }

    /// The last checkpoint, if what none needs any more could not be removed after it, and why.
    pub fn uncleaned(&self) -> Option<(u64, String)> {
        self.uncleaned.as_ref().map(|(id, error)| (*id, format!("durable, but what no checkpoint needs any more stays: {error}")))
    }

    /// The job is gone from the engine, and no later task names its view.
    pub fn drop_job(&self, tables: Vec<StateTableId>, views: Vec<Arc<View>>) {
        views.into_iter().for_each(|view| self.maintain(MaintenanceTask::Discard(view)));
        self.write(WriterTask::DropTables(tables));
    }

    fn maintain(&self, task: MaintenanceTask) {
        send(self.background.maintenance.as_ref(), task);
    }

    fn write(&self, task: WriterTask) {
        send(self.background.writer.as_ref(), task);
    }
}

fn send<T>(thread: Option<&Sender<T>>, task: T) {
    if thread.is_some_and(|tasks| tasks.send(task).is_err()) {
        tracing::error!("a thread in the background is gone; checkpoints have stopped");
    }
}

/// Work of a thread in the background. A panic ends the work it happened in, as an error does, and nothing else.
fn guarded<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let text = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| panic.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "no message".to_string())
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(SqlError::internal(format!("{what} panicked: {}", text(panic)))))
}

impl Drop for Background {
    fn drop(&mut self) {
        (self.writer, self.maintenance) = (None, None);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread in the background panicked");
            }
        }
    }
}

impl Run {
    /// Jobs that have still to come to its epoch.
    pub(super) fn unreached(&self) -> impl Iterator<Item = RelationId> {
        self.unreached.iter().copied()
    }
}

impl Core {
    pub(super) fn next_checkpoint(&self) -> Option<Instant> {
        let awaited = self.is_awaited_by_sink();
        let interval = self.config.checkpoint_interval;
        let interval = if awaited { interval.min(AWAITED_INTERVAL) } else { interval };
        let interval = interval.max(self.checkpoints.pause);
        (self.checkpoint.is_none() && self.has_news() && !self.a_table_has_stopped()).then(|| self.checkpoints.last + interval)
    }

    /// Its rows are in the checkpoint before and in the log since, which a later one would let go of. What it stopped at may be gone
    /// after a restart.
    fn a_table_has_stopped(&self) -> bool {
        self.stopped_table().is_some()
    }

    fn stopped_table(&self) -> Option<&Job> {
        self.tables.keys().filter_map(|table| self.jobs.get(table)).find(|job| job.failure().is_some())
    }

    /// What the checkpoint under way, or else the next one, has to wait for, and its number.
    pub(super) fn checkpoint_waits_for(&self) -> Option<(u64, String)> {
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

    /// A checkpoint is not complete without the job's progress.
    fn is_awaited(&self, job: &Job) -> bool {
        job.is_live() || self.resume_point(job).is_some() || self.must_finish(job)
    }

    /// No checkpoint is taken without the table's rows.
    pub(super) fn on_table_stopped(&mut self) {
        if let Some(run) = self.checkpoint.as_ref().filter(|run| !run.writing) {
            let id = run.id;
            self.on_checkpoint_done(id, Err(SqlError::internal("a table has stopped")));
        }
        tracing::error!("no checkpoint is taken until the table that has stopped is dropped or the server is started again");
    }

    fn has_news(&self) -> bool {
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

    fn last_checkpoint(&self) -> Option<&Body> {
        self.checkpoints.saved.as_deref()
    }

    pub(super) fn checkpoint_if_due(&mut self) {
        self.stats.tail_bytes.store(self.segments.tail_bytes() as u64, Ordering::Relaxed);
        self.stats.state_bytes.store(self.engine.state_bytes() as u64, Ordering::Relaxed);
        self.stats.state_bytes_max.store(self.engine.state_bytes_max() as u64, Ordering::Relaxed);
        self.vacuum_if_due();
        let due = self.shutdown.is_none() && self.next_checkpoint().is_some_and(|at| at <= self.instant());
        if due && self.log_is_cut() {
            self.begin_checkpoint();
        }
        self.give_up_if_held_up();
        self.freeze_backfills();
        self.write_checkpoint_if_frozen();
    }

    pub(super) fn vacuum_if_due(&mut self) {
        let waited = self.instant() - self.checkpoints.vacuumed;
        let due = waited >= VACUUM_INTERVAL && self.last_cut > self.checkpoints.last_epoch;
        let much = self.checkpoints.unclean || self.segments.tail_bytes() >= TAILS_BYTES_HIGH;
        let pressing = waited >= VACUUM_INTERVAL_MIN && much;
        if self.checkpoints.vacuuming || !(due || pressing) {
            return;
        }
        self.checkpoints.vacuuming = true;
        self.checkpoints.vacuumed = self.instant();
        self.note_kept();
        let views = self.jobs.values().flat_map(|j| j.views().map(|view| (view.clone(), j.kept_from))).collect();
        self.checkpoints.maintain(MaintenanceTask::Vacuum(views));
    }

    pub(super) fn on_vacuumed(&mut self, more: bool) {
        self.checkpoints.vacuuming = false;
        self.checkpoints.unclean = more;
    }

    /// Too many rows wait for being frozen: no step may add more.
    pub(super) fn tails_are_full(&self) -> bool {
        self.segments.tail_bytes() >= TAILS_BYTES_MAX
    }

    pub(super) fn begin_last_checkpoint(&mut self) {
        self.checkpoints.is_final = true;
        let left = self.not_awaited();
        if self.jobs.values().any(|j| self.must_finish(j) && !left.contains(&j.id())) {
            // Its reading may take long; the log brings everything back from the checkpoint before.
            if let Some(run) = self.checkpoint.take_if(|run| !run.writing) {
                self.engine.gate().give_up(run.id);
            }
            return;
        }
        if self.checkpoint.is_none() && self.has_news() && self.log_is_cut() && !self.a_table_has_stopped() {
            self.begin_checkpoint();
        }
    }

    /// Everything in the log belongs to a cut whose rows are here, so that a manifest may point at the log's end.
    fn log_is_cut(&self) -> bool {
        !self.sources.values().any(|s| s.is_replaying() || s.has_advance()) && !self.tables.values().any(|t| t.has_input())
    }

    /// Makes the last cut a common epoch: from now on no job steps past it without being frozen at it.
    fn begin_checkpoint(&mut self) {
        let epoch = self.last_cut;
        let id = self.checkpoints.next_id;
        self.checkpoints.next_id += 1;
        if let Err(error) = self.engine.gate().begin(id) {
            tracing::error!("checkpoint {id} cannot begin: {error}");
            return;
        }
        self.mark(epoch);
        let Behind { left, jobs, epochs, bases, view_files } = self.behind();
        let awaited = self.jobs.values().filter(|job| self.is_awaited(job) && !left.contains(&job.id()));
        let unreached: BTreeSet<RelationId> = awaited.map(Job::id).collect();
        let body = Body {
            version: if epochs.is_empty() { BODY_VERSION } else { BEHIND_VERSION },
            epoch,
            now: self.now,
            next_relation: self.next_relation,
            catalog: self.catalog.relations().map(|r| (**r).clone()).collect(),
            functions: self.catalog.functions().map(|f| (**f).clone()).collect(),
            indexes: self.catalog.indexes().map(|i| (**i).clone()).collect(),
            comments: self.catalog.comments().map(|(relation, column, text)| (relation, column, text.to_string())).collect(),
            sources: self.sources.iter().map(|(id, s)| (*id, s.progress())).collect(),
            tables: self.tables.iter().map(|(id, t)| (*id, t.watermark)).collect(),
            jobs,
            system: SystemRows::default(),
            log: self.log.end(),
            kv: BTreeMap::new(),
            view_files,
            sink_files: Vec::new(),
            sink_writes: self.sink_writes.clone(),
            settings: self.altered.clone(),
            behind: epochs,
            bases,
            policies: BTreeMap::new(),
        };
        self.checkpoint = Some(Run {
            id,
            epoch,
            body,
            histories: self.sources.iter().map(|(id, s)| (*id, s.history.clone())).collect(),
            unfrozen: unreached.clone(),
            unreached,
            held: BTreeSet::new(),
            runs: BTreeMap::new(),
            started: self.instant(),
            catalog: self.catalog.version(),
            writing: false,
            views_frozen: false,
        });
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            self.note_unfinished(id);
            self.freeze_if_due(id);
        }
    }

    /// A job that cannot be frozen goes into the manifest without its progress: it starts over, or stays stopped.
    fn note_unfinished(&mut self, id: RelationId) {
        let failed = self.jobs[&id].failure().map(ToString::to_string);
        if let Some(run) = self.checkpoint.as_mut().filter(|r| !r.unreached.contains(&id) && !r.body.behind.contains_key(&id)) {
            run.body.jobs.insert(id, JobBody::without_progress(failed));
        }
    }

    /// Freezes a job that stands exactly at the checkpoint's epoch. Commands to the engine are in order, so its next
    /// step comes after.
    pub(super) fn freeze_if_due(&mut self, id: RelationId) {
        let Some(run) = &self.checkpoint else { return };
        let Some(job) = self.jobs.get(&id) else { return };
        if job.stepped == run.epoch && job.running.is_none() && job.is_live() {
            self.freeze(id, None);
        }
    }

    /// Freezes backfilling jobs between two of their steps, once no other job is waited for.
    fn freeze_backfills(&mut self) {
        let Some(run) = &self.checkpoint else { return };
        for id in run.unreached.iter().copied().collect::<Vec<_>>() {
            let positions = self.jobs.get(&id).filter(|j| j.running.is_none()).and_then(|j| self.resume_point(j));
            if positions.is_some() && self.is_held(id) {
                self.freeze(id, positions);
            }
        }
    }

    /// The epoch of the checkpoint being taken, if a job has still to come to it.
    pub(super) fn checkpoint_ahead(&self, id: RelationId) -> Option<Epoch> {
        self.checkpoint.as_ref().filter(|run| run.unreached.contains(&id)).map(|run| run.epoch)
    }

    /// Whether a backfilling job must not step now: it is about to be frozen, or was, and its view is not written yet.
    pub(super) fn is_held(&self, id: RelationId) -> bool {
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
        if let Err(error) = self.engine.freeze(id, checkpoint) {
            tracing::error!(checkpoint, "a job cannot be frozen: {error}");
            self.forget_in_checkpoint(id);
        }
    }

    /// The views of jobs in the middle of a backfill are in files: these go on.
    pub(super) fn on_held_are_written(&mut self, checkpoint: u64) {
        if let Some(run) = self.checkpoint.as_mut().filter(|r| r.id == checkpoint) {
            run.held.clear();
        }
    }

    pub(super) fn on_views_are_frozen(&mut self, checkpoint: u64) {
        if let Some(run) = self.checkpoint.as_mut().filter(|r| r.id == checkpoint) {
            run.views_frozen = true;
        }
    }

    pub(super) fn on_frozen(&mut self, job: RelationId, checkpoint: u64, runs: Vec<(StateTableId, SortedRun)>) {
        let Some(run) = self.checkpoint.as_mut().filter(|r| r.id == checkpoint) else { return };
        if run.unfrozen.remove(&job) {
            run.runs.insert(job, runs);
        }
    }

    /// A job that was dropped or stopped is no part of the checkpoint any more.
    pub(super) fn forget_in_checkpoint(&mut self, job: RelationId) {
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

    fn write_checkpoint_if_frozen(&mut self) {
        let log = self.log_health();
        let Some(run) = &mut self.checkpoint else { return };
        for (id, job) in run.body.jobs.iter_mut().filter(|_| !run.writing) {
            if job.sink.is_some_and(|body| self.sinks.get(id).is_some_and(|sink| sink.is_lost(body))) {
                *job = JobBody::without_progress(None);
            }
        }
        let sinks = || run.body.jobs.iter().filter_map(|(id, job)| Some((self.sinks.get(id)?, job.sink?)));
        let sink_logs = || sinks().filter(|(sink, body)| !sink.has_logged(*body)).map(|(sink, _)| sink.log_health());
        if let (Err(error), true, false) = (log.and_then(|()| sink_logs().collect::<Result<()>>()), self.shutdown.is_some(), run.writing) {
            // It would wait for what may never be durable. What is there is enough to start from.
            let id = run.id;
            return self.on_checkpoint_done(id, Err(error));
        }
        let waits_for_log = self.durable < run.epoch || sink_logs().next().is_some();
        if run.writing || !run.unfrozen.is_empty() || waits_for_log {
            return;
        }
        run.writing = true;
        let mut body = run.body.clone();
        let of_source = |id| body.source(id).map_or(run.epoch, |(epoch, _)| epoch);
        body.system = self.system.up_to(|id| body.epoch_of(id), of_source);
        let saved = self.checkpoints.saved.as_deref();
        let mut views = Vec::new();
        let is_frozen = |id: &RelationId, job: &JobBody| job.progress.is_some() && !body.behind.contains_key(id);
        for id in body.jobs.iter().filter(|(id, job)| is_frozen(id, job)).map(|(id, _)| *id) {
            if let Some(job) = self.jobs.get(&id) {
                let known = saved.and_then(|saved| saved.jobs.get(&id)).map(JobBody::manifests).unwrap_or_default();
                let (view, rejects) = (job.view.clone(), job.rejects.clone());
                views.push(FreezeView { id, view, rejects, known, is_held: run.held.contains(&id) });
            }
        }
        let (to_writer, frozen) = crossbeam_channel::bounded(1);
        let freeze = FreezeTask { checkpoint: run.id, epoch: run.epoch, views, frozen: to_writer };
        let task = WriteTask {
            id: run.id,
            body,
            runs: std::mem::take(&mut run.runs).into_values().flatten().collect(),
            frozen,
            histories: std::mem::take(&mut run.histories),
            known_views: saved.map(|saved| saved.view_files.clone()).unwrap_or_default(),
            known_kv: saved.map(|saved| saved.kv.clone()).unwrap_or_default(),
            sinks: run.body.jobs.keys().filter_map(|id| Some((*id, self.sinks.get(id)?.files()))).collect(),
            known_sinks: saved.map(|saved| saved.sink_files.clone()).unwrap_or_default(),
            is_final: self.checkpoints.is_final,
        };
        self.checkpoints.maintain(MaintenanceTask::Freeze(freeze));
        self.checkpoints.write(WriterTask::Write(Box::new(task)));
    }

    pub(super) fn on_checkpoint_done(&mut self, id: u64, result: Result<Written>) {
        let Some(run) = self.checkpoint.take_if(|r| r.id == id) else { return };
        failpoint::release("backfill.step");
        let now = self.instant();
        let micros = (now - run.started).as_micros() as u64;
        let problem = result.as_ref().err().map(|e| e.to_string());
        let books = &mut self.checkpoints;
        books.last = now;
        match result {
            Ok(written) => {
                books.pause = Duration::ZERO;
                books.last_epoch = run.epoch;
                books.last_catalog = run.catalog;
                books.saved = Some(written.body);
                self.stats.checkpoints.fetch_add(1, Ordering::Relaxed);
                self.stats.checkpoint_epoch.store(run.epoch.0, Ordering::Relaxed);
                self.stats.checkpoint_micros.store(micros, Ordering::Relaxed);
                self.stats.checkpoint_micros_total.fetch_add(micros, Ordering::Relaxed);
                self.stats.checkpoint_bytes.fetch_add(written.bytes, Ordering::Relaxed);
                for (id, job) in &run.body.jobs {
                    if let (Some(sink), Some(back)) = (self.sinks.get_mut(id), job.sink_back()) {
                        sink.on_checkpoint(back);
                    }
                }
                tracing::debug!(checkpoint = id, epoch = run.epoch.0, micros, "checkpoint done");
            }
            Err(error) => {
                books.pause = (books.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
                self.stats.checkpoint_failures.fetch_add(1, Ordering::Relaxed);
                self.engine.gate().give_up(id);
                tracing::warn!(checkpoint = id, "checkpoint failed, the next one follows in its time: {error}");
            }
        }
        if books.recent.len() == RECENT_MAX {
            books.recent.pop_front();
        }
        books.recent.push_back(Recent { id, epoch: run.epoch, micros, problem });
    }

    pub(super) fn on_checkpoints_cleaned(&mut self, id: u64, result: Result<()>) {
        self.checkpoints.uncleaned = result.err().map(|error| (id, error.to_string()));
    }
}

/// Whether a relation has a job.
pub(super) fn has_job(relation: &Relation) -> bool {
    relation.has_rows() || matches!(relation.kind, RelationKind::Sink(_))
}
