//! Checkpoints: a common epoch, every job frozen right after it, everything written in the background, one manifest at the
//! end. A job that is still reading on its own is frozen between two of its steps, with its positions.
//!
//! - `due`: when one is taken, and what it waits for
//! - `freezing`: how jobs come into it; `behind`: those that it does not wait for
//! - `body`: what a manifest says
//! - `vacuuming`: how views are cleaned between checkpoints
//! - `background`: the threads: `maintenance`, which freezes views and cleans them, and `writer`, which uploads and commits

mod background;
mod behind;
mod body;
mod due;
mod freezing;
mod maintenance;
mod vacuuming;
mod writer;

pub(super) use background::Background;
pub(super) use behind::restore_state;
pub(super) use body::{Body, JobBody, Positions, Replayed, known_body};
pub(super) use writer::{Means, Written, stored_bytes};

use super::core::Core;
use super::history::History;
use super::job::Job;
use super::system::SystemRows;
use behind::Behind;
use body::{BEHIND_VERSION, BODY_VERSION};
use eddyline_common::kv::SortedRun;
use eddyline_common::{Epoch, RelationId, Result, StateTableId, failpoint};
use eddyline_planner::catalog::{Relation, RelationKind};
use eddyline_storage::view::View;
use maintenance::{FreezeTask, FreezeView, MaintenanceTask};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use writer::{WriteTask, WriterTask};

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

    /// Jobs that have still to come to its epoch.
    pub(super) fn unreached(&self) -> impl Iterator<Item = RelationId> {
        self.unreached.iter().copied()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Recent {
    pub id: u64,
    pub epoch: Epoch,
    pub micros: u64,
    pub problem: Option<String>,
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
    /// Jobs that were told to freeze and have not answered, also for a checkpoint that was given up since. What they are at would count for the
    /// next one, so that one waits.
    freezing: BTreeSet<RelationId>,
    /// The last one that is durable.
    saved: Option<Box<Body>>,
    recent: VecDeque<Recent>,
    /// After this checkpoint the store did not remove what none needs any more.
    uncleaned: Option<(u64, String)>,
    is_final: bool,
    /// One was under way when the server was told to stop, and does not have what was done since it began: another one follows.
    owes_last: bool,
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
            freezing: BTreeSet::new(),
            saved: restored.map(|body| Box::new(body.kept_by_start())),
            recent: VecDeque::new(),
            uncleaned: None,
            is_final: false,
            owes_last: false,
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
        views.into_iter().for_each(|view| self.background.maintain(MaintenanceTask::Discard(view)));
        self.background.write(WriterTask::DropTables(tables));
    }
}

impl Core {
    fn last_checkpoint(&self) -> Option<&Body> {
        self.checkpoints.saved.as_deref()
    }

    pub(super) fn checkpoint_if_due(&mut self) {
        self.stats.tail_bytes.store(self.segments.tail_bytes() as u64, Ordering::Relaxed);
        self.stats.state_bytes.store(self.engine.state_bytes() as u64, Ordering::Relaxed);
        self.vacuum_if_due();
        let due = self.shutdown.is_none() && self.next_checkpoint().is_some_and(|at| at <= self.instant());
        if due && self.log_is_cut() {
            self.begin_checkpoint();
        }
        self.give_up_if_held_up();
        self.freeze_backfills();
        self.write_checkpoint_if_frozen();
    }

    pub(super) fn begin_last_checkpoint(&mut self) {
        let left = self.not_awaited();
        if self.jobs.values().any(|j| self.must_finish(j) && !left.contains(&j.id())) {
            // Its reading may take long; the log brings everything back from the checkpoint before.
            if let Some(run) = self.checkpoint.take_if(|run| !run.writing) {
                self.engine.gate().give_up(run.id);
            }
            return;
        }
        self.checkpoints.owes_last = self.checkpoint.is_some();
        if self.may_begin() && self.log_is_cut() {
            self.checkpoints.is_final = true;
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
        self.checkpoints.background.maintain(MaintenanceTask::Freeze(freeze));
        self.checkpoints.background.write(WriterTask::Write(Box::new(task)));
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
        let is_written = problem.is_none();
        books.recent.push_back(Recent { id, epoch: run.epoch, micros, problem });
        if std::mem::take(&mut books.owes_last) && is_written {
            self.begin_last_checkpoint();
        }
    }

    pub(super) fn on_checkpoints_cleaned(&mut self, id: u64, result: Result<()>) {
        self.checkpoints.uncleaned = result.err().map(|error| (id, error.to_string()));
    }
}

/// Whether a relation has a job.
pub(super) fn has_job(relation: &Relation) -> bool {
    relation.has_rows() || matches!(relation.kind, RelationKind::Sink(_))
}
