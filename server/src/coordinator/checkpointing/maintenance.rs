//! The maintenance thread: writes checkpoints, vacuums views (so that the two never meet) and drops state tables. It
//! knows jobs and sources only as what is to be written.

use super::super::Event;
use super::super::history::History;
use super::super::sink::SinkFiles;
use super::super::stats::Stats;
use super::body::{Body, SinkFile, read_body};
use crossbeam_channel::{Receiver, Sender};
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::{Epoch, RelationId, Result, SqlError, StateTableId, failpoint};
use eddyline_storage::checkpoint::{BlockingCheckpointStore, FileRef, Manifest};
use eddyline_storage::log::{Log, LogFile};
use eddyline_storage::state::SpillGate;
use eddyline_storage::view::{View, ViewFile, ViewManifest};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Checkpoints that recovery can fall back on.
const KEPT: usize = 3;

pub enum Task {
    Write(Box<WriteTask>),
    /// Answered by `Event::Vacuumed`.
    Vacuum(Vec<Arc<View>>, Epoch),
    /// What a job leaves behind.
    Drop(Vec<StateTableId>, Arc<View>),
}

pub struct WriteTask {
    pub id: u64,
    pub body: Body,
    pub runs: Vec<(StateTableId, SortedRun)>,
    pub views: Vec<ViewTask>,
    pub histories: BTreeMap<RelationId, History>,
    pub known_views: BTreeMap<String, FileRef>,
    pub known_kv: BTreeMap<String, FileRef>,
    pub sinks: Vec<(RelationId, SinkFiles)>,
    pub known_sinks: Vec<SinkFile>,
    pub is_final: bool,
}

pub struct ViewTask {
    pub id: RelationId,
    pub view: Arc<View>,
    pub known: ViewManifest,
    /// Its job waits for the view to be written.
    pub is_held: bool,
}

/// A checkpoint that is durable.
pub struct Written {
    pub views: BTreeMap<RelationId, ViewManifest>,
    pub view_files: BTreeMap<String, FileRef>,
    pub kv: BTreeMap<String, FileRef>,
    pub sinks: Vec<SinkFile>,
    /// Bytes of the files that no earlier checkpoint had.
    pub bytes: u64,
}

/// What the thread works with.
pub struct Maintenance {
    pub store: BlockingCheckpointStore,
    pub kv: Arc<dyn KeyValueStore>,
    pub gate: Arc<SpillGate>,
    pub log: Arc<Log>,
    pub image_dir: PathBuf,
    pub events: Sender<Event>,
    pub stats: Arc<Stats>,
}

impl Maintenance {
    pub fn run(self, tasks: &Receiver<Task>) {
        for task in tasks {
            match task {
                Task::Write(task) => {
                    let id = task.id;
                    let result = self.write(*task);
                    // A coordinator that is gone needs no news.
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
        self.stats.view_bytes.store(views.iter().map(|v| v.bytes() as u64).sum(), Ordering::Relaxed);
        for view in views {
            let done = failpoint::hit("view.vacuum").and_then(|()| view.vacuum(oldest));
            if let Err(error) = done {
                tracing::warn!("old row versions stay: {error}");
            }
        }
    }

    fn write(&self, task: WriteTask) -> Result<Written> {
        // The manifest points at the log's end as it was; that must not be lost when the manifest is not.
        self.log.sync()?;
        let WriteTask { id, mut body, runs, mut views, histories, known_views, known_kv, sinks, known_sinks, is_final } = task;
        self.stats.view_bytes.store(views.iter().map(|v| v.view.bytes() as u64).sum(), Ordering::Relaxed);
        let old: BTreeSet<String> = known_views.values().chain(known_kv.values()).map(|f| f.name.clone()).collect();
        views.sort_by_key(|v| !v.is_held);
        let held = views.partition_point(|v| v.is_held);
        let others = views.split_off(held);
        self.write_views(views, &known_views, &mut body)?;
        if held > 0 {
            let _gone = self.events.send(Event::HeldAreWritten(id));
        }
        self.write_state(id, runs, &known_kv, &mut body)?;
        self.write_views(others, &known_views, &mut body)?;
        let mut bytes = 0;
        for (source, history) in histories {
            let put = &mut |content: bytes::Bytes| self.store.put_bytes(content).inspect(|file| bytes += file.bytes);
            if let Some(progress) = body.sources.get_mut(&source) {
                progress.history = history.save(put)?;
            }
        }
        for (sink, files) in &sinks {
            self.write_sink(*sink, files, &known_sinks, &mut body.sink_files)?;
        }
        bytes += body.kv.values().chain(body.view_files.values()).filter(|f| !old.contains(&f.name)).map(|f| f.bytes).sum::<u64>();
        let json = serde_json::to_value(&body).map_err(SqlError::internal)?;
        self.store.commit(&Manifest::new(id, body.epoch, body.files(), json))?;
        self.clean_up(is_final)?;
        let views = body.jobs.into_iter().map(|(id, j)| (id, j.view)).collect();
        Ok(Written { views, view_files: body.view_files, kv: body.kv, sinks: body.sink_files, bytes })
    }

    /// Operator state: the frozen runs go into the store, of which an image is taken.
    fn write_state(&self, id: u64, runs: Vec<(StateTableId, SortedRun)>, known: &BTreeMap<String, FileRef>, body: &mut Body) -> Result<()> {
        let runs = SortedRun::merge(runs);
        let abandoned = || SqlError::internal("abandoned: operator state needed its memory");
        if !self.gate.ingest(id, || self.kv.ingest(runs))? {
            return Err(abandoned());
        }
        let dir = self.image_dir.join(format!("{id:020}"));
        if !self.gate.image(id, || self.kv.checkpoint(&dir))? {
            return Err(abandoned());
        }
        body.kv = self.store.upload_dir(&dir, known)?;
        std::fs::remove_dir_all(&dir)?;
        Ok(())
    }

    fn write_views(&self, views: Vec<ViewTask>, known_files: &BTreeMap<String, FileRef>, body: &mut Body) -> Result<()> {
        for ViewTask { id, view, known, .. } in views {
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
                let file = fresh.get(name).or_else(|| known_files.get(name));
                let file = file.ok_or_else(|| SqlError::internal(format!("view file {name} is nowhere")))?;
                body.view_files.insert(name.to_string(), file.clone());
            }
            if let Some(job) = body.jobs.get_mut(&id) {
                job.view = checkpoint.manifest;
            }
        }
        Ok(())
    }

    /// A sink's log: whole segments once, of the last one what is durable.
    fn write_sink(&self, sink: RelationId, files: &SinkFiles, known: &[SinkFile], written: &mut Vec<SinkFile>) -> Result<()> {
        for LogFile { segment, path, durable_bytes } in files.list()? {
            let same = |k: &&SinkFile| (k.sink, k.segment, k.durable_bytes) == (sink, segment, durable_bytes);
            if let Some(same) = known.iter().find(same) {
                written.push(same.clone());
                continue;
            }
            let put = match durable_bytes {
                None => self.store.put_file(&path),
                Some(bytes) => std::fs::read(&path).map_err(SqlError::from).and_then(|mut content| {
                    content.truncate(bytes as usize);
                    self.store.put_bytes(content.into())
                }),
            };
            match put {
                Ok(file) => written.push(SinkFile { sink, segment, durable_bytes, file }),
                // All of it was sent meanwhile.
                Err(_) if !path.exists() => written.retain(|w| w.sink != sink || w.segment > segment),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes what no kept checkpoint needs: files, and the log before the oldest of them.
    fn clean_up(&self, is_final: bool) -> Result<()> {
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
        if is_final {
            tracing::info!("last checkpoint written");
        }
        Ok(())
    }
}
