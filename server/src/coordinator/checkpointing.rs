//! Checkpoints: a common epoch, every job frozen right after it, everything written in the background by one
//! maintenance thread (which also vacuums views, so that the two never meet), one manifest at the end.

use super::core::Core;
use super::job::Mode;
use super::source::SourceProgress;
use super::system::{JobCounters, SystemRows};
use super::{CoordinatorConfig, Event};
use crossbeam_channel::{Receiver, Sender};
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::{Epoch, RelationId, Result, SqlError, StateTableId, Timestamp};
use eddyline_executor::JobProgress;
use eddyline_planner::catalog::{Relation, RelationKind};
use eddyline_storage::checkpoint::{BlockingCheckpointStore, FileRef, Manifest};
use eddyline_storage::log::{Log, LogPosition};
use eddyline_storage::state::SpillGate;
use eddyline_storage::view::{View, ViewFile, ViewManifest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Checkpoints that recovery can fall back on.
const KEPT: usize = 3;

/// How often old row versions are cleaned away while something changes.
const VACUUM_INTERVAL: Duration = Duration::from_secs(2);

/// When views have this much that is not frozen, they are cleaned at once: a few steps' output, so that writing stays ahead.
const TAILS_BYTES_HIGH: usize = 64 << 20;

/// How often that may be, so that a full disk is not asked without pause.
const VACUUM_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// With this much not frozen, jobs wait until the disk has taken it. Bounds the memory of views whatever the input.
const TAILS_BYTES_MAX: usize = 256 << 20;

/// Finished checkpoints that `eddyline.checkpoints` shows.
const RECENT_MAX: usize = 100;

/// Everything a manifest says about the server. Durable: fields are only added, with defaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Body {
    pub version: u32,
    pub epoch: Epoch,
    pub now: Timestamp,
    pub next_relation: u32,
    pub catalog: Vec<Relation>,
    pub sources: BTreeMap<RelationId, SourceProgress>,
    pub tables: BTreeMap<RelationId, Timestamp>,
    pub jobs: BTreeMap<RelationId, JobBody>,
    pub system: SystemRows,
    /// Recovery replays the log from here.
    pub log: LogPosition,
    pub kv: BTreeMap<String, FileRef>,
    pub view_files: BTreeMap<String, FileRef>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct JobBody {
    /// `None`: it was still reading its inputs for the first time, and starts over.
    pub progress: Option<JobProgress>,
    pub output_watermark: Timestamp,
    pub counters: JobCounters,
    pub view: ViewManifest,
    pub failed: Option<String>,
}

pub(super) const BODY_VERSION: u32 = 1;

/// A checkpoint being taken.
pub(super) struct Run {
    pub id: u64,
    pub epoch: Epoch,
    body: Body,
    /// Jobs that have not come to the epoch yet, or were not frozen yet.
    unreached: BTreeSet<RelationId>,
    unfrozen: BTreeSet<RelationId>,
    runs: BTreeMap<RelationId, Vec<(StateTableId, SortedRun)>>,
    started: Instant,
    writing: bool,
}

/// A checkpoint that is durable.
pub(crate) struct Written {
    views: BTreeMap<RelationId, ViewManifest>,
    view_files: BTreeMap<String, FileRef>,
    kv: BTreeMap<String, FileRef>,
}

#[derive(Clone, Debug)]
pub(super) struct Recent {
    pub id: u64,
    pub epoch: Epoch,
    pub micros: u64,
    pub problem: Option<String>,
}

/// The books between checkpoints, and the maintenance thread.
pub(super) struct Checkpointing {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    next_id: u64,
    last: Instant,
    last_epoch: Epoch,
    last_catalog: u64,
    vacuumed: Instant,
    vacuuming: bool,
    views: BTreeMap<RelationId, ViewManifest>,
    view_files: BTreeMap<String, FileRef>,
    kv: BTreeMap<String, FileRef>,
    recent: VecDeque<Recent>,
    is_final: bool,
}

enum Task {
    Write(Box<WriteTask>),
    /// Answered by `Event::Vacuumed`.
    Vacuum(Vec<Arc<View>>, Epoch),
    /// What a job leaves behind.
    Drop(Vec<StateTableId>, Arc<View>),
}

struct WriteTask {
    id: u64,
    body: Body,
    runs: Vec<(StateTableId, SortedRun)>,
    views: Vec<(RelationId, Arc<View>, ViewManifest)>,
    known_views: BTreeMap<String, FileRef>,
    known_kv: BTreeMap<String, FileRef>,
    final_one: bool,
}

/// What the maintenance thread works with.
pub(super) struct Maintenance {
    pub store: BlockingCheckpointStore,
    pub kv: Arc<dyn KeyValueStore>,
    pub gate: Arc<SpillGate>,
    pub log: Arc<Log>,
    pub image_dir: PathBuf,
    pub events: Sender<Event>,
}

impl Checkpointing {
    pub fn start(maintenance: Maintenance, next_id: u64, restored: Option<&Body>) -> Result<Self> {
        let (tasks, receiver) = crossbeam_channel::unbounded();
        let thread = std::thread::Builder::new().name("maintenance".into()).spawn(move || maintenance.run(&receiver))?;
        let views = restored.map(|b| b.jobs.iter().map(|(id, j)| (*id, j.view.clone())).collect()).unwrap_or_default();
        Ok(Checkpointing {
            tasks: Some(tasks),
            thread: Some(thread),
            next_id,
            last: Instant::now(),
            last_epoch: restored.map_or(Epoch::ZERO, |b| b.epoch),
            last_catalog: 0,
            vacuumed: Instant::now(),
            vacuuming: false,
            views,
            view_files: restored.map(|b| b.view_files.clone()).unwrap_or_default(),
            kv: restored.map(|b| b.kv.clone()).unwrap_or_default(),
            recent: VecDeque::new(),
            is_final: false,
        })
    }

    pub fn recent(&self) -> impl Iterator<Item = &Recent> {
        self.recent.iter()
    }

    /// The job is gone from the engine, and no later task names its view.
    pub fn drop_job(&self, tables: Vec<StateTableId>, view: Arc<View>) {
        self.send(Task::Drop(tables, view));
    }

    fn send(&self, task: Task) {
        if let Some(tasks) = &self.tasks
            && tasks.send(task).is_err()
        {
            tracing::error!("the maintenance thread is gone; checkpoints have stopped");
        }
    }
}

impl Drop for Checkpointing {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the maintenance thread panicked");
        }
    }
}

impl Core {
    pub(super) fn next_checkpoint(&self) -> Option<Instant> {
        (self.checkpoint.is_none() && self.has_news()).then(|| self.checkpoints.last + self.config.checkpoint_interval)
    }

    fn has_news(&self) -> bool {
        self.last_cut > self.checkpoints.last_epoch || self.catalog.version() != self.checkpoints.last_catalog
    }

    pub(super) fn checkpoint_if_due(&mut self) {
        self.stats.tail_bytes.store(self.segments.tail_bytes() as u64, Ordering::Relaxed);
        self.stats.state_bytes.store(self.engine.state_bytes() as u64, Ordering::Relaxed);
        self.vacuum_if_due();
        let due = self.shutdown.is_none() && self.next_checkpoint().is_some_and(|at| at <= Instant::now());
        if due && self.log_is_cut() {
            self.begin_checkpoint();
        }
        self.write_checkpoint_if_frozen();
    }

    fn vacuum_if_due(&mut self) {
        let waited = self.checkpoints.vacuumed.elapsed();
        let due = waited >= VACUUM_INTERVAL && self.last_cut > self.checkpoints.last_epoch;
        let pressing = waited >= VACUUM_INTERVAL_MIN && self.segments.tail_bytes() >= TAILS_BYTES_HIGH;
        if self.checkpoints.vacuuming || !(due || pressing) {
            return;
        }
        self.checkpoints.vacuuming = true;
        self.checkpoints.vacuumed = Instant::now();
        let views = self.jobs.values().map(|j| j.view.clone()).collect();
        self.checkpoints.send(Task::Vacuum(views, self.oldest_needed()));
    }

    pub(super) fn on_vacuumed(&mut self) {
        self.checkpoints.vacuuming = false;
    }

    /// Too many rows wait for being frozen: no step may add more.
    pub(super) fn tails_are_full(&self) -> bool {
        self.segments.tail_bytes() >= TAILS_BYTES_MAX
    }

    pub(super) fn begin_last_checkpoint(&mut self) {
        self.checkpoints.is_final = true;
        if self.checkpoint.is_none() && self.has_news() && self.log_is_cut() {
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
        let body = Body {
            version: BODY_VERSION,
            epoch,
            now: self.now,
            next_relation: self.next_relation,
            catalog: self.catalog.relations().map(|r| (**r).clone()).collect(),
            sources: self.sources.iter().map(|(id, s)| (*id, s.progress())).collect(),
            tables: self.tables.iter().map(|(id, t)| (*id, t.watermark)).collect(),
            jobs: BTreeMap::new(),
            system: SystemRows::default(),
            log: self.log.end(),
            kv: BTreeMap::new(),
            view_files: BTreeMap::new(),
        };
        let unreached: BTreeSet<RelationId> = self.jobs.values().filter(|j| j.is_live()).map(|j| j.id()).collect();
        let unfrozen = unreached.clone();
        self.checkpoint =
            Some(Run { id, epoch, body, unreached, unfrozen, runs: BTreeMap::new(), started: Instant::now(), writing: false });
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            self.note_unfinished(id);
            self.freeze_if_due(id);
        }
    }

    /// A job that is not live goes into the manifest without its progress: it starts over, or stays stopped.
    fn note_unfinished(&mut self, id: RelationId) {
        let job = &self.jobs[&id];
        let failed = match &job.mode {
            Mode::Live => return,
            Mode::Backfilling(_) => None,
            Mode::Failed(error) => Some(error.to_string()),
        };
        let body = JobBody {
            progress: None,
            output_watermark: Timestamp::MIN,
            counters: JobCounters::default(),
            view: ViewManifest::default(),
            failed,
        };
        if let Some(run) = &mut self.checkpoint {
            run.body.jobs.insert(id, body);
        }
    }

    /// Freezes a job that stands exactly at the checkpoint's epoch. Commands to the engine are in order, so its next
    /// step comes after.
    pub(super) fn freeze_if_due(&mut self, id: RelationId) {
        let Some(run) = &mut self.checkpoint else { return };
        let Some(job) = self.jobs.get(&id) else { return };
        if job.stepped != run.epoch || job.running.is_some() || !job.is_live() || !run.unreached.remove(&id) {
            return;
        }
        let s = &job.stats;
        let read = |v: &std::sync::atomic::AtomicU64| v.load(Ordering::Relaxed);
        let counters =
            JobCounters { rows_in: read(&s.rows_in), rows_out: read(&s.rows_out), late: read(&s.late), rejected: read(&s.rejected) };
        let body = JobBody {
            progress: Some(job.progress.clone()),
            output_watermark: job.output_watermark,
            counters,
            view: ViewManifest::default(),
            failed: None,
        };
        run.body.jobs.insert(id, body);
        let checkpoint = run.id;
        if let Err(error) = self.engine.freeze(id, checkpoint) {
            tracing::error!(checkpoint, "a job cannot be frozen: {error}");
            self.forget_in_checkpoint(id);
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
        run.runs.remove(&job);
        if dropped {
            // The manifest must not name it: replay of the log after the manifest drops it again.
            return;
        }
        self.note_unfinished(job);
    }

    fn write_checkpoint_if_frozen(&mut self) {
        let Some(run) = &mut self.checkpoint else { return };
        if run.writing || !run.unfrozen.is_empty() || self.durable < run.epoch {
            return;
        }
        run.writing = true;
        let mut body = run.body.clone();
        body.system = self.system.up_to(run.epoch);
        let mut views = Vec::new();
        for id in body.jobs.iter().filter(|(_, j)| j.progress.is_some()).map(|(id, _)| *id) {
            if let Some(job) = self.jobs.get(&id) {
                views.push((id, job.view.clone(), self.checkpoints.views.get(&id).cloned().unwrap_or_default()));
            }
        }
        let task = WriteTask {
            id: run.id,
            body,
            runs: std::mem::take(&mut run.runs).into_values().flatten().collect(),
            views,
            known_views: self.checkpoints.view_files.clone(),
            known_kv: self.checkpoints.kv.clone(),
            final_one: self.checkpoints.is_final,
        };
        self.checkpoints.send(Task::Write(Box::new(task)));
    }

    pub(super) fn on_checkpoint_done(&mut self, id: u64, result: Result<Written>) {
        let Some(run) = self.checkpoint.take_if(|r| r.id == id) else { return };
        let micros = run.started.elapsed().as_micros() as u64;
        let problem = result.as_ref().err().map(|e| e.to_string());
        let books = &mut self.checkpoints;
        books.last = Instant::now();
        match result {
            Ok(written) => {
                books.last_epoch = run.epoch;
                books.last_catalog = self.catalog.version();
                books.views = written.views;
                books.view_files = written.view_files;
                books.kv = written.kv;
                self.stats.checkpoints.fetch_add(1, Ordering::Relaxed);
                self.stats.checkpoint_epoch.store(run.epoch.0, Ordering::Relaxed);
                self.stats.checkpoint_micros.store(micros, Ordering::Relaxed);
                tracing::debug!(checkpoint = id, epoch = run.epoch.0, micros, "checkpoint done");
            }
            Err(error) => {
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
}

impl Maintenance {
    fn run(self, tasks: &Receiver<Task>) {
        for task in tasks {
            match task {
                Task::Write(task) => {
                    let id = task.id;
                    let result = self.write(*task);
                    let _gone = self.events.send(Event::CheckpointDone(id, result));
                }
                Task::Vacuum(views, oldest) => {
                    self.vacuum(&views, oldest);
                    let _gone = self.events.send(Event::Vacuumed);
                }
                Task::Drop(tables, view) => {
                    view.discard();
                    for table in tables {
                        if let Err(error) = self.kv.drop_table(table) {
                            tracing::warn!("state table {table} of a dropped view stays on disk: {error}");
                        }
                    }
                }
            }
        }
    }

    fn vacuum(&self, views: &[Arc<View>], oldest: Epoch) {
        for view in views {
            let done = eddyline_common::failpoint::hit("view.vacuum").and_then(|()| view.vacuum(oldest));
            if let Err(error) = done {
                tracing::warn!("old row versions stay: {error}");
            }
        }
    }

    fn write(&self, task: WriteTask) -> Result<Written> {
        // The manifest points at the log's end as it was; that must not be lost when the manifest is not.
        self.log.sync()?;
        let mut body = task.body;
        let runs = SortedRun::merge(task.runs);
        let abandoned = || SqlError::internal("abandoned: operator state needed its memory");
        if !self.gate.ingest(task.id, || self.kv.ingest(runs))? {
            return Err(abandoned());
        }
        let dir = self.image_dir.join(format!("{:020}", task.id));
        if !self.gate.image(task.id, || self.kv.checkpoint(&dir))? {
            return Err(abandoned());
        }
        body.kv = self.store.upload_dir(&dir, &task.known_kv)?;
        std::fs::remove_dir_all(&dir)?;
        for (id, view, known) in task.views {
            let checkpoint = view.checkpoint(body.epoch, &known)?;
            let mut fresh = BTreeMap::new();
            for ViewFile { name, bytes, path } in checkpoint.files {
                let file = match path {
                    Some(path) => self.store.put_file(&path)?,
                    None => self.store.put_bytes(bytes)?,
                };
                fresh.insert(name, file);
            }
            for name in checkpoint.manifest.file_names() {
                let file = fresh.get(name).or_else(|| task.known_views.get(name));
                let file = file.ok_or_else(|| SqlError::internal(format!("view file {name} is nowhere")))?;
                body.view_files.insert(name.to_string(), file.clone());
            }
            if let Some(job) = body.jobs.get_mut(&id) {
                job.view = checkpoint.manifest;
            }
        }
        let files = body.kv.values().chain(body.view_files.values()).cloned().collect();
        let json = serde_json::to_value(&body).map_err(SqlError::internal)?;
        self.store.commit(&Manifest::new(task.id, body.epoch, files, json))?;
        self.clean_up(task.final_one)?;
        let views = body.jobs.into_iter().map(|(id, j)| (id, j.view)).collect();
        Ok(Written { views, view_files: body.view_files, kv: body.kv })
    }

    /// Removes what no kept checkpoint needs: files, and the log before the oldest of them.
    fn clean_up(&self, final_one: bool) -> Result<()> {
        self.store.prune(KEPT)?;
        let mut positions = Vec::new();
        for id in self.store.list()? {
            if let Ok(body) = read_body(&self.store.load(id)?) {
                positions.push(body.log);
            }
        }
        if let Some(oldest) = positions.into_iter().min() {
            self.log.truncate_before(oldest)?;
        }
        if final_one {
            tracing::info!("last checkpoint written");
        }
        Ok(())
    }
}

pub(super) fn read_body(manifest: &Manifest) -> Result<Body> {
    let body: Body =
        serde_json::from_value(manifest.body.clone()).map_err(|e| SqlError::corrupt(format!("manifest {}: {e}", manifest.id)))?;
    if body.version > BODY_VERSION {
        return Err(SqlError::corrupt(format!("manifest {} has version {}, this server knows {BODY_VERSION}", manifest.id, body.version)));
    }
    Ok(body)
}

/// Whether a relation has a job.
pub(super) fn has_job(relation: &Relation) -> bool {
    matches!(relation.kind, RelationKind::Table { .. } | RelationKind::MaterializedView { .. })
}

pub(super) fn checkpoint_dir(config: &CoordinatorConfig) -> PathBuf {
    config.data_dir.join("checkpoints")
}
