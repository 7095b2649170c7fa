//! Start-up: the newest intact checkpoint, then the log after it. Replaying its cuts brings back the same epochs with
//! the same content; sources are read again from the checkpoint's offsets and split where the cuts say.
//!
//! - `place`: where checkpoints are, which is this server's alone
//! - `restoring`: what one of them gives back
//! - `log`: what came after it

mod log;
mod place;
mod restoring;

use super::CoordinatorConfig;
use super::checkpointing::{Background, Body, Checkpointing, Means, Replayed, known_body};
use super::core::{Core, Loop};
use super::handle::CoordinatorHandle;
use super::inbox::InboxRoom;
use super::pins::Pins;
use super::reaper::Reaper;
use super::settings::Tunable;
use super::sink::sinks_dir;
use super::stats::Stats;
use super::system::SystemRows;
use crate::catalog::CatalogSnapshot;
use eddyline_common::runtime::Thread;
use eddyline_common::{Epoch, Result, SqlError, SqlState, Timestamp, failpoint};
use eddyline_executor::{Engine, EngineConfig};
use eddyline_storage::checkpoint::BlockingCheckpointStore;
use eddyline_storage::kv::RocksKv;
use eddyline_storage::lock::DataDirLock;
use eddyline_storage::log::{Log, LogOptions, LogPosition, segment_path};
use eddyline_storage::view::SegmentDir;
use parking_lot::{Mutex, RwLock};
use place::open_checkpoints;
use restoring::{Restored, restore, segment_files};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

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
        starting: true,
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
