//! Start-up: the newest intact checkpoint, then the log after it. Replaying its cuts brings back the same epochs with
//! the same content; sources are read again from the checkpoint's offsets and split where the cuts say.

use super::checkpointing::{Background, Body, Checkpointing, Means, Replayed, has_job, known_body, restore_state, stored_bytes};
use super::core::{Core, Loop};
use super::ddl::{StoredViews, view_key, view_schema};
use super::handle::CoordinatorHandle;
use super::history::History;
use super::inbox::InboxRoom;
use super::job::{Exact, Mode};
use super::pausing::paused_at;
use super::pins::Pins;
use super::reaper::Reaper;
use super::records::{self, DdlRecord, Record};
use super::replaying::Brought;
use super::settings::Tunable;
use super::sink::{sink_dir, sinks_dir};
use super::stats::Stats;
use super::system::SystemRows;
use super::table::Table;
use super::{CheckpointLocation, CoordinatorConfig, backfill::Backfill};
use crate::catalog::CatalogSnapshot;
use eddyline_common::runtime::Thread;
use eddyline_common::{ChangeBatch, Cut, Epoch, RelationId, Result, SqlError, SqlState, Timestamp, failpoint};
use eddyline_executor::{Engine, EngineConfig, rejects};
use eddyline_planner::catalog::{Relation, RelationKind};
use eddyline_storage::checkpoint::{BlockingCheckpointStore, CheckpointStore};
use eddyline_storage::kv::RocksKv;
use eddyline_storage::lock::DataDirLock;
use eddyline_storage::log::{Log, LogOptions, LogPosition, Recovered, segment_path};
use eddyline_storage::view::{SegmentDir, View};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a start waits for an object store that is away, and between attempts.
const STORE_PATIENCE: Duration = Duration::from_secs(60);
const STORE_RETRY_MIN: Duration = Duration::from_millis(500);
const STORE_RETRY_MAX: Duration = Duration::from_secs(10);

/// What a checkpoint gave back.
struct Restored {
    body: Body,
    views: BTreeMap<RelationId, StoredViews>,
    histories: BTreeMap<RelationId, History>,
    kv: RocksKv,
}

/// A coordinator at work.
pub struct Running {
    pub handle: CoordinatorHandle,
    pub thread: Box<dyn Thread>,
    /// Resolves when the thread has ended, for whatever reason.
    pub ended: oneshot::Receiver<()>,
}

/// Recovers from `config.data_dir` and starts the coordinator's thread. When this returns, acknowledged writes
/// are replayed; sources may still be reading what the last cuts had taken.
pub fn start(config: CoordinatorConfig) -> Result<Running> {
    let mut core = open(config)?;
    let handle = core.handle.clone();
    core.settle();
    let (alive, ended) = oneshot::channel();
    let threads = core.config.threads.clone();
    let thread = threads.spawn("coordinator", Box::new(Loop::new(core, alive)))?;
    Ok(Running { handle, thread, ended })
}

fn open(config: CoordinatorConfig) -> Result<Core> {
    let lock = DataDirLock::acquire(&config.data_dir)?;
    let (store, store_lock) = open_checkpoints(&config)?;
    let segments = SegmentDir::open(&config.data_dir.join("state").join("views"))?;
    let restored = match store.restore_newest(|manifest| restore(&config, &store, &segments, known_body(manifest)?)) {
        Err(error) if error.state == SqlState::DATA_CORRUPTED => without_checkpoints(&config, error).map(|()| None)?,
        restored => restored?,
    };
    segments.keep_only(&restored.as_ref().map(|restored| segment_files(&restored.body)).unwrap_or_default())?;
    failpoint::hit("recovery.manifest_loaded")?;
    let from = restored.as_ref().map_or(LogPosition::default(), |restored| restored.body.oldest_log());
    let replayed = restored.as_ref().map_or_else(Replayed::default, |restored| restored.body.replayed());
    let (log, recovered) = Log::open_needed(config.fs.clone(), config.data_dir.join("log"), log_options(&config), from)?;
    let log = Arc::new(log);
    let (contents, kv) = match restored {
        Some(Restored { body, views, histories, kv }) => (Some((body, views, histories)), kv),
        None => (None, open_kv(&config, None)?),
    };
    let body = contents.as_ref().map(|(body, ..)| body);
    let locks = std::iter::once(lock).chain(store_lock).collect();
    let mut core = assemble(config, locks, log, Arc::new(kv), store, segments, body)?;
    if let Some((body, views, histories)) = contents {
        core.restore_body(&body, views, histories)?;
    }
    core.replay(&recovered, from, &replayed)?;
    failpoint::hit("recovery.replayed")?;
    Ok(core)
}

/// No checkpoint is intact. A log that still has its beginning has all that was ever done, and everything is built from it as if there had been
/// none; but for sinks, which have sent nothing before there was one.
fn without_checkpoints(config: &CoordinatorConfig, error: SqlError) -> Result<()> {
    let sinks = sinks_dir(&config.data_dir);
    let has_sent = config.fs.list(&sinks).is_ok_and(|logs| !logs.is_empty());
    let hint = match config.fs.exists(&segment_path(&config.data_dir.join("log"), 1)) {
        true if has_sent => format!(
            "No checkpoint is intact: restore the data directory and the checkpoint store from a backup of both. Without \"{}\" everything is built \
             from the log, and sinks send all of it again.",
            sinks.display()
        ),
        true => {
            tracing::error!(%error, "no checkpoint is intact; everything is built anew from the log, which goes back to the beginning");
            return Ok(());
        }
        false => {
            "No checkpoint is intact, and the log does not go back to the beginning: restore the data directory and the checkpoint store \
                  from a backup of both."
                .to_string()
        }
    };
    Err(error.with_hint(hint))
}

/// The place of checkpoints, which is this server's alone from now on.
fn open_checkpoints(config: &CoordinatorConfig) -> Result<(BlockingCheckpointStore, Option<DataDirLock>)> {
    match &config.checkpoint_store {
        CheckpointLocation::Store { store, prefix, runtime } => {
            let checkpoints = BlockingCheckpointStore::new(CheckpointStore::new(store.clone(), prefix), runtime.clone());
            let id = data_dir_id(&config.data_dir, None)?;
            let where_it_is = |error: SqlError| match error.detail {
                None => error.with_detail(format!("The checkpoint store is {store}, prefix \"{prefix}\".")),
                Some(_) => error,
            };
            patiently(config, || checkpoints.claim(&id)).map_err(where_it_is)?;
            Ok((checkpoints, None))
        }
        CheckpointLocation::Directory(dir) => open_local_checkpoints(config, dir),
    }
}

/// A directory is locked, as the data directory that it may be in, since other servers may be told to use it; and has an owner, which counts while none runs.
fn open_local_checkpoints(config: &CoordinatorConfig, dir: &Path) -> Result<(BlockingCheckpointStore, Option<DataDirLock>)> {
    let resolved = |dir: &Path| dir.canonicalize().ok();
    let data_dir = resolved(&config.data_dir);
    // What is the data directory itself is locked already.
    let lock = match resolved(dir) == data_dir {
        true => None,
        false => Some(DataDirLock::acquire_for(dir, "checkpoint store", "--checkpoint-store")?),
    };
    let store = CheckpointStore::local(dir)?;
    store.remove_staged()?;
    let checkpoints = BlockingCheckpointStore::new(store, config.runtime.clone());
    let is_within = data_dir.zip(resolved(dir)).is_some_and(|(data_dir, dir)| dir.starts_with(data_dir));
    // A copy of log and checkpoints alone goes on as what it was copied from.
    let known = if is_within { checkpoints.owner()? } else { None };
    checkpoints.claim(&data_dir_id(&config.data_dir, known)?)?;
    Ok((checkpoints, lock))
}

/// What tells a data directory from all others, made when it is first needed: `known`, if its own checkpoints have it.
fn data_dir_id(dir: &Path, known: Option<String>) -> Result<String> {
    let path = dir.join("id");
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.is_empty() => return Ok(id),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(SqlError::io(format!("cannot read \"{}\": {error}", path.display()))),
    }
    let id = known.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let unfinished = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&unfinished)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &path)?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|error| SqlError::io(format!("cannot write \"{}\": {error}", path.display())))?;
    Ok(id)
}

/// A store that is away may come back soon: servers are often started together.
fn patiently<T>(config: &CoordinatorConfig, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let (begun, mut pause) = (Instant::now(), STORE_RETRY_MIN);
    loop {
        match ask() {
            Err(error) if error.state == SqlState::CONNECTION_FAILURE && begun.elapsed() < STORE_PATIENCE => {
                tracing::warn!("the checkpoint store is away, trying again in {pause:?}: {error}");
                let given_up = async { tokio::time::timeout(pause, config.given_up.cancelled()).await.is_ok() };
                if config.runtime.block_on(given_up) {
                    return Err(given_up_error());
                }
                pause = (pause * 2).min(STORE_RETRY_MAX);
            }
            other => return other,
        }
    }
}

/// A start may be given up between any two of its parts: what it leaves is what a kill would leave.
pub(super) fn check_wanted(config: &CoordinatorConfig) -> Result<()> {
    if config.given_up.is_cancelled() { Err(given_up_error()) } else { Ok(()) }
}

fn given_up_error() -> SqlError {
    SqlError::new(SqlState::ADMIN_SHUTDOWN, "the start was given up")
}

fn log_options(config: &CoordinatorConfig) -> LogOptions {
    LogOptions { segment_bytes: config.log_segment_bytes, threads: config.threads.clone(), ..LogOptions::default() }
}

/// Views and operator state of one checkpoint; an error of state `DATA_CORRUPTED` means that an older one must do.
fn restore(config: &CoordinatorConfig, store: &BlockingCheckpointStore, segments: &Arc<SegmentDir>, body: Body) -> Result<Restored> {
    let rows = segment_files(&body);
    let mut views = BTreeMap::new();
    for relation in body.catalog.iter().filter(|r| has_job(r)) {
        let Some(job) = body.jobs.get(&relation.id).filter(|j| j.progress.is_some()) else { continue };
        check_wanted(config)?;
        let mut fetch = |name: &str| {
            let file = body.view_files.get(name).ok_or_else(|| SqlError::corrupt(format!("the manifest lacks view file {name}")))?;
            if !rows.contains(name) {
                return store.get_bytes(file);
            }
            store.place_file(file, &segments.path_of(name))?;
            segments.map(name)
        };
        let dir = || Some(segments.clone());
        let rows = View::restore(view_schema(relation), view_key(relation), config.workers, dir(), &job.view, &mut fetch)?;
        for index in body.indexes.iter().filter(|index| index.relation == relation.id) {
            rows.add_index(&index.name, &index.stored_columns(relation))?;
        }
        rows.build_indexes();
        let rejects = View::restore(rejects::schema(), rejects::key(), rejects::SHARDS, dir(), &job.rejects, &mut fetch)?;
        views.insert(relation.id, StoredViews { rows, rejects });
    }
    drop(rows);
    let mut histories = BTreeMap::new();
    for (id, (_, source)) in body.sources.keys().filter_map(|id| Some((*id, body.source(*id)?))) {
        histories.insert(id, History::load(&source.history, &mut |file| store.get_bytes(file))?);
    }
    restore_sinks(config, store, &body)?;
    let image = config.data_dir.join("state").join("restored");
    clear_dir(&image)?;
    store.download_dir(&body.kv, &image)?;
    let kv = open_kv(config, Some(&image))?;
    restore_state(&config.data_dir.join("state"), store, &body, &kv)?;
    Ok(Restored { body, views, histories, kv })
}

/// Logs of sinks that this data directory does not have: what waits in them to be sent goes with the checkpoint. A log that is
/// here knows more than the checkpoint's.
fn restore_sinks(config: &CoordinatorConfig, store: &BlockingCheckpointStore, body: &Body) -> Result<()> {
    let ids: BTreeSet<RelationId> = body.sink_files.iter().map(|f| f.sink).collect();
    for id in ids {
        let dir = sink_dir(&config.data_dir, id);
        if config.fs.exists(&dir) {
            continue;
        }
        // Under another name until it is whole.
        let partial = dir.with_extension("partial");
        if config.fs.exists(&partial) {
            config.fs.remove_dir_all(&partial)?;
        }
        config.fs.create_dir_all(&partial)?;
        for file in body.sink_files.iter().filter(|f| f.sink == id) {
            let mut copy = config.fs.open(&segment_path(&partial, file.segment))?;
            copy.write_at(0, &store.get_bytes(&file.file)?)?;
            copy.sync()?;
        }
        config.fs.sync_dir(&partial)?;
        config.fs.rename(&partial, &dir)?;
        config.fs.sync_dir(&sinks_dir(&config.data_dir))?;
    }
    Ok(())
}

/// The files of rows that a checkpoint's views are mapped from.
fn segment_files(body: &Body) -> HashSet<&str> {
    body.jobs.values().flat_map(|job| job.view.segments.iter().chain(&job.rejects.segments)).map(|file| file.name.as_str()).collect()
}

pub(super) fn clear_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// The block cache is a share of the state budget: most of it is better spent on decoded state.
fn open_kv(config: &CoordinatorConfig, image: Option<&Path>) -> Result<RocksKv> {
    let live = config.data_dir.join("state").join("live");
    std::fs::create_dir_all(&live)?;
    RocksKv::open(&live, image, (config.state_cache_bytes / 4).clamp(1 << 20, 256 << 20))
}

fn assemble(
    config: CoordinatorConfig,
    locks: Vec<DataDirLock>,
    log: Arc<Log>,
    kv: Arc<RocksKv>,
    store: BlockingCheckpointStore,
    segments: Arc<SegmentDir>,
    body: Option<&Body>,
) -> Result<Core> {
    let (workers, backend, cache_bytes, threads) = (config.workers, config.backend, config.state_cache_bytes, config.threads.clone());
    let engine = Engine::start(EngineConfig { workers, backend, cache_bytes, threads }, kv.clone());
    let engine_events = engine.events();
    let (sender, events) = crossbeam_channel::unbounded();
    let stats = Arc::new(Stats { log: log.stats(), ..Stats::default() });
    let handle = CoordinatorHandle {
        commands: sender.clone(),
        catalog: Arc::new(RwLock::new(Arc::new(CatalogSnapshot::default()))),
        locks: Arc::new(Mutex::new(HashMap::new())),
        stats: stats.clone(),
        starts: Arc::new(RwLock::new(HashMap::new())),
        write_room: CoordinatorHandle::write_room(),
        settings: Arc::new(RwLock::new(BTreeMap::new())),
        clock: config.clock.clone(),
    };
    let next_id = store.next_id()?;
    let image_dir = config.data_dir.join("state").join("images");
    clear_dir(&image_dir)?;
    let gate = engine.gate().clone();
    let means = Means { store, kv: kv.clone(), gate, log: log.clone(), image_dir, events: sender.clone() };
    let background = Background::start(&config.threads, means, stats.clone())?;
    let now = config.clock.instant();
    let started = Tunable { checkpoint_interval: config.checkpoint_interval, ring_bytes: config.ring_bytes, pin_limits: config.pin_limits };
    *handle.settings.write() = started.listed();
    Ok(Core {
        started,
        altered: BTreeMap::new(),
        checkpoints: Checkpointing::start(background, now, next_id, body),
        log,
        engine,
        engine_events,
        kv,
        segments,
        events,
        sender,
        handle,
        stats,
        pins: Arc::new(Pins::default()),
        catalog: Arc::new(CatalogSnapshot::default()),
        next_relation: 1,
        sources: BTreeMap::new(),
        inboxes: InboxRoom::default(),
        private_inboxes: InboxRoom::default(),
        tables: BTreeMap::new(),
        jobs: BTreeMap::new(),
        readers: HashMap::new(),
        timed: BTreeSet::new(),
        collecting: BTreeSet::new(),
        steps_begun: Vec::new(),
        unscheduled: true,
        scheduled: now,
        sinks: BTreeMap::new(),
        sinks_back: BTreeMap::new(),
        sink_writes: BTreeMap::new(),
        system: SystemRows::default(),
        last_cut: Epoch::ZERO,
        now: Timestamp::MIN,
        cut_at: None,
        nows: Default::default(),
        durable: Epoch::ZERO,
        recovered: Epoch::ZERO,
        replayed: None,
        cuts_in_flight: Default::default(),
        ring_share: config.ring_bytes,
        log_lost: None,
        keeping: Default::default(),
        readers_changed: false,
        by_cut: None,
        marks: BTreeSet::new(),
        joint: BTreeSet::new(),
        joined: None,
        filling: BTreeSet::new(),
        last_mark: now,
        trimmed: now,
        owes_trim: false,
        owes_schedule: false,
        overdue: false,
        checkpoint: None,
        ddl_waiting: HashMap::new(),
        next_ddl: 0,
        writes_waiting: Vec::new(),
        reads_waiting: Vec::new(),
        shutdown: None,
        reaper: Reaper::start(&*config.threads)?,
        config,
        _locks: locks,
    })
}

fn missing(id: RelationId) -> SqlError {
    SqlError::corrupt(format!("the manifest lacks relation {id}"))
}

impl Core {
    fn restore_body(
        &mut self,
        body: &Body,
        mut views: BTreeMap<RelationId, StoredViews>,
        mut histories: BTreeMap<RelationId, History>,
    ) -> Result<()> {
        self.last_cut = body.epoch;
        self.durable = body.epoch;
        self.stats.epoch.store(body.epoch.0, Ordering::Relaxed);
        self.now = body.now;
        let (oldest, now) = body.oldest();
        self.replayed = Some(oldest);
        self.nows.push(oldest, now, &self.marks);
        self.stats.cut_times.push(oldest, now);
        self.next_relation = body.next_relation;
        self.system = body.system.clone();
        self.sink_writes = body.sink_writes.clone();
        self.altered = body.settings.clone();
        self.apply_settings();
        body.bases.keys().chain([&body.epoch]).for_each(|epoch| self.mark(*epoch));
        let relations = CatalogSnapshot::new(body.catalog.iter().cloned());
        let catalog = body.functions.iter().fold(relations, |catalog, function| catalog.with_function(function.clone()));
        let commented = |catalog: CatalogSnapshot, (relation, column, text): &(RelationId, Option<usize>, String)| {
            catalog.with_comment(*relation, *column, Some(text.clone()))
        };
        let catalog = body.indexes.iter().fold(catalog, |catalog, index| catalog.with_index(index.clone()));
        self.catalog = Arc::new(body.comments.iter().fold(catalog, commented));
        *self.handle.catalog.write() = self.catalog.clone();
        for relation in &body.catalog {
            match &relation.kind {
                RelationKind::Source(_) => {
                    let (epoch, progress) = body.source(relation.id).ok_or_else(|| missing(relation.id))?;
                    let history = histories.remove(&relation.id).unwrap_or_default();
                    self.add_source(Arc::new(relation.clone()), progress.clone(), history, epoch)?;
                }
                RelationKind::KeyedSource { feed, .. } => {
                    self.restore_feed(relation, body, histories.remove(feed))?;
                    self.restore_job(relation, body, views.remove(&relation.id))?;
                }
                RelationKind::View { .. } => {}
                RelationKind::Table { .. } => {
                    let (epoch, watermark) = body.table(relation.id).ok_or_else(|| missing(relation.id))?;
                    self.tables.insert(relation.id, Table::new(Arc::new(relation.clone()), epoch, watermark)?);
                    self.restore_job(relation, body, views.remove(&relation.id))?;
                }
                RelationKind::MaterializedView { .. } => {
                    self.restore_own_sources(relation, body, &mut histories)?;
                    self.restore_job(relation, body, views.remove(&relation.id))?;
                }
                RelationKind::Sink(_) => {
                    self.restore_own_sources(relation, body, &mut histories)?;
                    self.restore_sink(relation, body.jobs.get(&relation.id))?;
                    self.restore_job(relation, body, views.remove(&relation.id))?;
                }
            }
        }
        Ok(())
    }

    fn restore_job(&mut self, relation: &Relation, body: &Body, views: Option<StoredViews>) -> Result<()> {
        let id = relation.id;
        let relation = Arc::new(relation.clone());
        let epoch = body.epoch_of(id);
        let backfilling = |from| Mode::Backfilling(Backfill::new(from, epoch));
        // A relation that was dropped while the checkpoint was taken has no job in it; the log drops it again.
        let Some(job) = body.jobs.get(&id) else { return self.add_job(relation, None, backfilling(None), epoch) };
        match (&job.progress, views) {
            (Some(progress), Some(views)) => {
                let stays = job.stands && paused_at(&relation).is_some();
                let mode = if job.positions.is_some() && !stays { backfilling(Some(progress.epoch)) } else { Mode::Live };
                self.add_job(relation, Some((progress.clone(), views)), mode, epoch)?;
            }
            _ => {
                self.drop_state(&relation);
                self.system.forget(id);
                self.add_job(relation, None, backfilling(None), epoch)?;
            }
        }
        if let Some(policy) = body.policy(id) {
            self.engine.set_on_error(id, policy);
        }
        let positions = job.positions.clone().unwrap_or_else(|| body.positions(epoch));
        let Some(restored) = self.jobs.get_mut(&id) else { return Ok(()) };
        if let Some(progress) = job.progress.as_ref().filter(|_| job.stands && paused_at(&restored.relation).is_some()) {
            // It stays where it was, and not at the checkpoint's epoch.
            restored.stepped = progress.epoch;
            restored.exact = Exact::default();
            restored.exact.step(progress.epoch);
            restored.stats.epoch.store(progress.epoch.0, Ordering::Relaxed);
        }
        restored.source_ends = positions.into_iter().map(|(source, ends)| (source, Arc::new(ends))).collect();
        restored.output_watermark = job.output_watermark;
        restored.output.set_watermark(job.output_watermark);
        let stats = restored.stats.clone();
        stats.rows_in.store(job.counters.rows_in, Ordering::Relaxed);
        stats.rows_out.store(job.counters.rows_out, Ordering::Relaxed);
        stats.late.store(job.counters.late, Ordering::Relaxed);
        stats.rejected.store(job.counters.rejected, Ordering::Relaxed);
        stats.stored_bytes.store(stored_bytes(&*self.kv, &restored.relation), Ordering::Relaxed);
        if let Some(reason) = &job.failed {
            self.on_job_failed(id, epoch, SqlError::from_shown(reason, SqlState::OBJECT_NOT_READY));
        } else {
            self.fail_with_inputs(id, epoch);
        }
        Ok(())
    }

    /// A job that starts over must not find what an earlier attempt left.
    fn drop_state(&self, relation: &Relation) {
        if let Some(plan) = relation.plan() {
            for state in plan.state_tables() {
                if let Err(error) = self.kv.drop_table(state) {
                    tracing::warn!("state table {state} could not be cleared: {error}");
                }
            }
        }
    }

    fn replay(&mut self, recovered: &Recovered, from: LogPosition, replayed: &Replayed) -> Result<()> {
        let (mut cuts, mut writes) = (0u64, 0u64);
        let mut brought = Brought::default();
        let together = "The data directory and the checkpoint store belong together: a server that is moved takes both with it.";
        for frame in recovered.frames(from).map_err(|error| error.with_hint(together))? {
            let frame = frame?;
            check_wanted(&self.config)?;
            let is_new = replayed.has(frame.position);
            let is_lacking = |input: &RelationId| replayed.has_input(*input, frame.position);
            match records::decode(frame.kind, &frame.payload)? {
                Record::Ddl(ddl) if is_new => self.replay_ddl(ddl)?,
                Record::Ddl(DdlRecord::Alter { relation, epoch }) => self.replay_policy(&relation, epoch),
                Record::Ddl(_) => {}
                Record::Write(mut changes) => {
                    writes += 1;
                    changes.retain(|(table, _)| is_lacking(table));
                    self.replay_write(changes, &mut brought);
                }
                Record::SinkWrite { sink, up_to, mut changes } => {
                    writes += 1;
                    if is_new {
                        self.sink_writes.insert(sink, up_to);
                    }
                    changes.retain(|(table, _)| is_lacking(table));
                    self.replay_write(changes, &mut brought);
                }
                Record::Cut(mut cut) => {
                    cuts += 1;
                    cut.inputs.retain(|input, _| is_lacking(input));
                    self.replay_cut(cut, is_new)?;
                    self.take_in_if_much(&mut brought)?;
                }
            }
        }
        self.replayed = None;
        self.recovered = self.last_cut;
        self.recover_sinks()?;
        self.refresh_after_replay();
        if cuts > 0 || writes > 0 {
            tracing::info!(cuts, writes, epoch = self.last_cut.0, "replayed the log");
        }
        Ok(())
    }

    fn replay_write(&mut self, changes: Vec<(RelationId, ChangeBatch)>, brought: &mut Brought) {
        for (table, changes) in changes {
            self.note_filled(table);
            if let Some(table) = self.tables.get_mut(&table).filter(|_| !changes.is_empty()) {
                brought.0 += changes.bytes();
                table.write_replayed(changes, self.now);
            }
        }
    }

    fn replay_ddl(&mut self, ddl: DdlRecord) -> Result<()> {
        match ddl {
            DdlRecord::Create { relation, epoch, starts, own_starts, present, replaces, comments } => {
                self.apply_create(*relation, epoch, starts, own_starts, replaces, &comments)?;
                self.expect(present, epoch);
                Ok(())
            }
            DdlRecord::CreateFunction { function } => {
                self.apply_create_function(*function);
                Ok(())
            }
            DdlRecord::CreateIndex { index } => self.replay_create_index(*index),
            DdlRecord::Drop { relations } => {
                self.apply_drop(&relations);
                Ok(())
            }
            DdlRecord::Pause { relation, pause, epoch } => {
                self.apply_pause(relation, pause, epoch);
                Ok(())
            }
            DdlRecord::Alter { relation, epoch } => {
                let prepared = self.prepare_alter(&relation)?;
                self.apply_alter(*relation, epoch, prepared);
                Ok(())
            }
            DdlRecord::AlterSystem { name, value } => {
                self.apply_alter_system(name, value);
                Ok(())
            }
            DdlRecord::Comment { relation, column, text } => {
                self.apply_comment(relation, column, text);
                Ok(())
            }
            DdlRecord::AdvanceWatermark { relation, to_micros } => {
                self.apply_advance(relation, to_micros);
                Ok(())
            }
        }
    }

    /// `is_new`: it is after the checkpoint, and not only for jobs that are behind.
    fn replay_cut(&mut self, cut: Cut, is_new: bool) -> Result<()> {
        let epoch = cut.epoch;
        for (id, input) in cut.inputs {
            if let Some(source) = self.sources.get_mut(&id) {
                source.push_replay(epoch, cut.now, &input)?;
                self.handle.starts.write().insert(id, source.starts().to_vec());
            } else if let Some(table) = self.tables.get_mut(&id) {
                table.cut_replayed(epoch, cut.now, self.config.clock.instant(), &input);
            }
        }
        self.nows.push(epoch, cut.now, &self.marks);
        self.stats.cut_times.push(epoch, cut.now);
        self.replayed = Some(epoch);
        if is_new {
            self.last_cut = epoch;
            self.durable = epoch;
            self.now = self.now.max(cut.now);
            self.stats.epoch.store(epoch.0, Ordering::Relaxed);
        }
        Ok(())
    }

    fn refresh_after_replay(&mut self) {
        self.refresh_readers();
        // Cuts that took no rows of a source need no reading.
        for id in self.sources.keys().copied().collect::<Vec<_>>() {
            self.receive(id);
        }
    }
}
