//! The thread that writes checkpoints: operator state goes into the store, its image and the views' files are uploaded, and
//! one manifest makes them a checkpoint. It may wait for a slow object store; nothing else waits for it. It knows jobs
//! and sources only as what is to be written.

use super::super::Event;
use super::super::history::History;
use super::super::recovery::clear_dir;
use super::super::sink::SinkFiles;
use super::super::stats::Stats;
use super::background::guarded;
use super::body::{Body, SinkFile, known_body};
use super::maintenance::{Content, FrozenView};
use crossbeam_channel::{Receiver, Sender};
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::runtime::{Process, Threads, Turn, next_of, wait_for};
use eddyline_common::{RelationId, Result, SqlError, SqlState, StateTableId};
use eddyline_planner::catalog::Relation;
use eddyline_planner::plan::StreamPlan;
use eddyline_storage::checkpoint::{BlockingCheckpointStore, FileRef, Manifest};
use eddyline_storage::log::{Log, LogFile, LogPosition};
use eddyline_storage::priority;
use eddyline_storage::state::SpillGate;
use eddyline_storage::view::ViewFile;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Checkpoints that recovery can fall back on.
const KEPT: usize = 3;

pub enum WriterTask {
    Write(Box<WriteTask>),
    /// Of a job that is gone from the engine.
    DropTables(Vec<StateTableId>),
}

pub struct WriteTask {
    pub id: u64,
    pub body: Body,
    pub runs: Vec<(StateTableId, SortedRun)>,
    /// From the maintenance thread.
    pub frozen: Receiver<Result<Vec<FrozenView>>>,
    pub histories: BTreeMap<RelationId, History>,
    pub known_views: BTreeMap<String, FileRef>,
    pub known_kv: BTreeMap<String, FileRef>,
    /// Their logs have all that the jobs emitted until they were frozen.
    pub sinks: Vec<(RelationId, SinkFiles)>,
    pub known_sinks: Vec<SinkFile>,
    pub is_final: bool,
}

/// A checkpoint that is durable.
pub struct Written {
    /// What of it the next one may need.
    pub body: Box<Body>,
    /// Bytes of the files that no earlier checkpoint had.
    pub bytes: u64,
}

/// What the thread works with.
pub struct Means {
    pub store: BlockingCheckpointStore,
    pub kv: Arc<dyn KeyValueStore>,
    pub gate: Arc<SpillGate>,
    pub log: Arc<Log>,
    pub image_dir: PathBuf,
    pub events: Sender<Event>,
}

pub struct Writer {
    pub tasks: Receiver<WriterTask>,
    pub threads: Arc<dyn Threads>,
    pub means: Means,
    pub stats: Arc<Stats>,
    /// From where recovery would replay the log, by checkpoint; those that are known. Earlier processes wrote others.
    pub positions: BTreeMap<u64, LogPosition>,
}

impl Process for Writer {
    fn turn(&mut self, may_wait: bool) -> Turn {
        match next_of(&self.tasks, may_wait) {
            Ok(Some(WriterTask::Write(task))) => self.checkpoint(*task),
            Ok(Some(WriterTask::DropTables(tables))) => self.drop_tables(tables),
            Ok(None) => return Turn::Idle,
            Err(_) => return Turn::Ended,
        }
        Turn::Worked
    }

    fn begin(&mut self) {
        priority::lower();
    }
}

impl Writer {
    fn drop_tables(&self, tables: Vec<StateTableId>) {
        for table in tables {
            if let Err(error) = guarded("dropping a state table", || self.means.kv.drop_table(table)) {
                tracing::warn!("state table {table} of a dropped view stays on disk: {error}");
            }
        }
    }

    fn checkpoint(&mut self, task: WriteTask) {
        let (id, log, is_final) = (task.id, task.body.oldest_log(), task.is_final);
        let written = guarded("writing a checkpoint", || self.write(task));
        let is_written = written.is_ok();
        // Before the next one begins to upload, which it may once this one is known to have failed.
        let in_vain = if is_written { Vec::new() } else { self.means.store.uncommitted() };
        // A coordinator that is gone needs no news.
        let _gone = self.means.events.send(Event::CheckpointDone(id, written));
        if !is_written {
            if let Err(error) = guarded("removing a failed checkpoint", || self.means.store.discard(&in_vain)) {
                tracing::warn!(checkpoint = id, "what a failed checkpoint has uploaded stays until the next one is written: {error}");
            }
            return;
        }
        self.positions.insert(id, log);
        // It is there, whatever becomes of the old ones.
        let cleaned = guarded("removing old checkpoints", || self.clean_up());
        if let Err(error) = &cleaned {
            tracing::warn!(checkpoint = id, "what no checkpoint needs any more stays until the next one: {error}");
        }
        let _gone = self.means.events.send(Event::CheckpointsCleaned(id, cleaned));
        if is_final {
            tracing::info!("last checkpoint written");
        }
    }

    fn write(&self, task: WriteTask) -> Result<Written> {
        // The manifest points at the log's end as it was; that must not be lost when the manifest is not.
        self.means.log.sync()?;
        let WriteTask { id, mut body, runs, frozen, histories, known_views, known_kv, sinks, known_sinks, .. } = task;
        let old: BTreeSet<String> = known_views.values().chain(known_kv.values()).map(|f| f.name.clone()).collect();
        self.write_state(id, runs, &known_kv, &mut body)?;
        let frozen = wait_for(&*self.threads, &frozen).map_err(|_| SqlError::internal("the views were not frozen"))??;
        frozen.into_iter().try_for_each(|view| self.write_view(view, &known_views, &mut body))?;
        let mut bytes = 0;
        for (source, history) in &histories {
            let put = &mut |content: bytes::Bytes| self.means.store.put_bytes(content).inspect(|file| bytes += file.bytes);
            if let Some(progress) = body.sources.get_mut(source) {
                progress.history = history.save(put)?;
            }
        }
        for (sink, files) in &sinks {
            bytes += self.write_sink(*sink, files, &known_sinks, &mut body.sink_files)?;
        }
        bytes += body.kv.values().chain(body.view_files.values()).filter(|f| !old.contains(&f.name)).map(|f| f.bytes).sum::<u64>();
        self.means.store.commit(&Manifest::new(id, body.epoch, body.files(), &body))?;
        for (source, history) in &histories {
            body.sources.get(source).into_iter().for_each(|progress| history.note_saved(&progress.history));
        }
        Ok(Written { body: Box::new(body.kept()), bytes })
    }

    /// Operator state: the frozen runs go into the store, of which an image is taken and uploaded. There is one image at most: it keeps
    /// files that RocksDB has done with, so it goes whatever became of the upload.
    fn write_state(&self, id: u64, runs: Vec<(StateTableId, SortedRun)>, known: &BTreeMap<String, FileRef>, body: &mut Body) -> Result<()> {
        let runs = SortedRun::merge(runs);
        let abandoned = || SqlError::internal("abandoned: operator state needed its memory");
        if !self.means.gate.ingest(id, || self.means.kv.ingest(runs))? {
            return Err(abandoned());
        }
        // What could not be removed before.
        clear_dir(&self.means.image_dir)?;
        let dir = self.means.image_dir.join(format!("{id:020}"));
        if !self.means.gate.image(id, || self.means.kv.checkpoint(&dir))? {
            return Err(abandoned());
        }
        self.note_stored(&body.catalog);
        let uploaded = self.means.store.upload_dir(&dir, known);
        let removed = clear_dir(&dir);
        body.kv = uploaded?;
        removed
    }

    /// Tells how much of each job's state is in the store now; whoever shows it asks nobody.
    fn note_stored(&self, catalog: &[Relation]) {
        // The coordinator adds and removes jobs meanwhile.
        let jobs = self.stats.jobs.read().clone();
        for relation in catalog {
            if let Some(job) = jobs.get(&relation.id) {
                job.stored_bytes.store(stored_bytes(&*self.means.kv, relation), Ordering::Relaxed);
            }
        }
    }

    fn write_view(&self, view: FrozenView, known_files: &BTreeMap<String, FileRef>, body: &mut Body) -> Result<()> {
        let FrozenView { id, manifests, files } = view;
        let mut fresh = BTreeMap::new();
        for (name, content) in files {
            let file = match content {
                Content::Stored(file) => file,
                Content::Here(ViewFile { bytes, .. }) => self.means.store.put_bytes(bytes)?,
            };
            fresh.insert(name, file);
        }
        for name in manifests.rows.file_names().chain(manifests.rejects.file_names()) {
            let file = fresh.get(name).or_else(|| known_files.get(name));
            let file = file.ok_or_else(|| SqlError::internal(format!("view file {name} is nowhere")))?;
            body.view_files.insert(name.to_string(), file.clone());
        }
        if let Some(job) = body.jobs.get_mut(&id) {
            (job.view, job.rejects) = (manifests.rows, manifests.rejects);
        }
        Ok(())
    }

    /// A sink's log: whole segments once, of the last one what is durable. Returns the bytes that are new. Copies, never links: a segment
    /// that was sent is written over as a later one.
    fn write_sink(&self, sink: RelationId, files: &SinkFiles, known: &[SinkFile], written: &mut Vec<SinkFile>) -> Result<u64> {
        let mut bytes = 0;
        for log_file in files.list()? {
            let LogFile { segment, durable_bytes } = log_file;
            let same = |k: &&SinkFile| (k.sink, k.segment, k.durable_bytes) == (sink, segment, durable_bytes);
            if let Some(same) = known.iter().find(same) {
                written.push(same.clone());
                continue;
            }
            match files.read(log_file)? {
                Some(content) => {
                    let file = self.means.store.put_bytes(content)?;
                    bytes += file.bytes;
                    written.push(SinkFile { sink, segment, durable_bytes, file });
                }
                // All of it was sent meanwhile, and all before it.
                None => written.retain(|w| w.sink != sink),
            }
        }
        Ok(bytes)
    }

    /// Removes what no kept checkpoint needs: files, and the log before the oldest of them. A store that keeps what it is told to remove does
    /// not make the log keep anything.
    fn clean_up(&mut self) -> Result<()> {
        let pruned = self.means.store.prune(KEPT);
        self.truncate_log()?;
        pruned.map(drop)
    }

    fn truncate_log(&mut self) -> Result<()> {
        let mut kept = BTreeMap::new();
        for id in self.means.store.list()? {
            let position = match self.positions.get(&id) {
                Some(known) => Some(*known),
                None => position_of(&self.means.store, id)?,
            };
            kept.extend(position.map(|position| (id, position)));
            if kept.len() == KEPT {
                break;
            }
        }
        self.positions = kept;
        match self.positions.values().min() {
            Some(oldest) => self.means.log.truncate_before(*oldest),
            None => Ok(()),
        }
    }
}

/// What the store has of a job's state, in its own, compressed form.
pub fn stored_bytes(kv: &dyn KeyValueStore, relation: &Relation) -> u64 {
    let tables = relation.plan().map(StreamPlan::state_tables).unwrap_or_default();
    tables.into_iter().map(|table| kv.stored_bytes(table)).sum()
}

/// Of a checkpoint that an earlier process wrote. Recovery passes over a damaged one, so it needs no log.
fn position_of(store: &BlockingCheckpointStore, id: u64) -> Result<Option<LogPosition>> {
    match store.load(id).and_then(known_body) {
        Ok(body) => Ok(Some(body.oldest_log())),
        Err(error) if error.state == SqlState::DATA_CORRUPTED => Ok(None),
        Err(error) => Err(error),
    }
}
