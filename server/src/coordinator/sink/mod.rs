//! A sink's books: what its job emitted, how much of that is in the sink's log, and how far it may be sent. What leaves the
//! job goes to the log first; a commit says that rows belong together; they are sent once the commit is in the log, the
//! cut of its epoch is durable, and the newest checkpoint brings the job back at a point after which none of them comes out again.
//!
//! - `frames`: the log's records; `into_table`: what writes into a table of ours
//! - `opening`: the log as it is found at start
//! - `logger`, `sender`: the two threads of a sink
//! - `shared`: what they and the books share; `waiting`: how much of the log that is
//!
//! Invariants:
//! 1. Rows are sent in the order of their numbers, and only what can never come out differently: a restart brings
//!    the job back at a point from which it emits again exactly what the log has up to `complete`, which is dropped.
//! 2. What is acknowledged outside is noted after it is; so rows are sent at least once.

mod frames;
mod into_table;
mod logger;
mod opening;
mod sender;
mod shared;
mod waiting;

pub use frames::Commit;
pub use opening::{Back, Returning};

use super::Event;
use super::handle::CoordinatorHandle;
use super::stats::SinkStats;
use super::unopened::open_sink;
use bytes::Bytes;
use crossbeam_channel::Sender;
use eddyline_common::connector::{PartitionStart, SinkConnector, SinkStep};
use eddyline_common::runtime::FileSystem;
use eddyline_common::{ChangeBatch, Epoch, RelationId, Result, SqlError, Timestamp};
use eddyline_planner::catalog::{Relation, RelationKind, SinkDefinition};
use eddyline_storage::log::LogFile;
use into_table::TableSink;
use logger::{Logger, Piece};
use opening::Opened;
use serde::{Deserialize, Serialize};
use shared::Shared;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// Emitted and not yet in the log: what a slow disk may hold back before the job waits.
const UNLOGGED_BYTES_MAX: usize = 64 << 20;

/// What a checkpoint keeps of a sink besides its job.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkBody {
    /// The job's state has taken everything up to this number.
    pub logged: u64,
    /// The job was at the content of an epoch, and not in the middle of a private reading.
    pub at_epoch: bool,
    /// What must be in the log before the checkpoint is written.
    #[serde(skip)]
    pub piece: u64,
}

pub struct SinkJob {
    pub stats: Arc<SinkStats>,
    shared: Arc<Shared>,
    pieces: Option<Sender<Piece>>,
    thread: Option<JoinHandle<()>>,
    /// The newest number.
    last: u64,
    /// Given to the logger, and in the log.
    given: u64,
    logged: u64,
    /// Pieces on their way, with their bytes.
    unlogged: VecDeque<(u64, usize)>,
    unlogged_bytes: usize,
    /// Not yet released to the sender.
    commits: VecDeque<Pending>,
    /// The last number that a commit covers, and whether one with which an epoch is complete does.
    committed: (u64, bool),
    /// The log has everything up to this epoch: what the job emits again until there is dropped.
    pub complete: Option<Epoch>,
    /// At which point the newest checkpoint brings the job back; `None`: a restart begins it anew.
    back: Option<Back>,
    /// Its job was put into a checkpoint at an epoch behind it: the next step must not end before the checkpoint's.
    pub rejoins: bool,
    /// Rows only come.
    append_only: bool,
    /// Its rows go into a table of ours, exactly once.
    into_table: bool,
}

/// A sink's log as files. A sink that is dropped meanwhile has none.
pub struct SinkFiles(Arc<Shared>);

impl SinkFiles {
    pub fn list(&self) -> Result<Vec<LogFile>> {
        let Some(log) = self.0.log_now() else { return Ok(Vec::new()) };
        log.files().or_else(|error| if self.0.is_discarded() { Ok(Vec::new()) } else { Err(error) })
    }

    /// `None` if all of it was sent meanwhile.
    pub fn read(&self, file: LogFile) -> Result<Option<Bytes>> {
        self.0.log_now().map_or(Ok(None), |log| log.read_file(file))
    }
}

/// A commit on its way to the sender.
struct Pending {
    piece: u64,
    up_to: u64,
    epoch: Epoch,
    complete: bool,
}

/// What a sink is opened with.
pub struct SinkPlace {
    pub data_dir: PathBuf,
    pub fs: Arc<dyn FileSystem>,
    pub events: Sender<Event>,
    /// For rows that go into a table of ours.
    pub coordinator: CoordinatorHandle,
    pub runtime: tokio::runtime::Handle,
    /// The server starts: what cannot be opened yet is opened later.
    pub starting: bool,
}

impl SinkPlace {
    fn connector(&self, id: RelationId, definition: &SinkDefinition) -> Result<Box<dyn SinkConnector>> {
        match definition.into {
            Some(table) => {
                let (coordinator, runtime) = (self.coordinator.clone(), self.runtime.clone());
                Ok(Box::new(TableSink { sink: id, table, coordinator, runtime }))
            }
            None => open_sink(&definition.spec, self.starting),
        }
    }

    pub fn dir(&self, id: RelationId) -> PathBuf {
        sink_dir(&self.data_dir, id)
    }
}

pub fn sinks_dir(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("sinks")
}

pub fn sink_dir(data_dir: &std::path::Path, id: RelationId) -> PathBuf {
    sinks_dir(data_dir).join(id.to_string())
}

pub fn definition(relation: &Relation) -> Option<&SinkDefinition> {
    match &relation.kind {
        RelationKind::Sink(definition) => Some(definition),
        _ => None,
    }
}

impl SinkJob {
    /// A sink that has sent nothing.
    pub fn new(relation: &Relation, only_sources: bool, append_only: bool, stats: Arc<SinkStats>, place: &SinkPlace) -> Result<Self> {
        Self::start(relation, only_sources, append_only, stats, place, None)
    }

    /// A sink whose job a restart brings back. Returns also the epoch up to which the log has what the job will emit.
    pub fn recover(
        relation: &Relation,
        only_sources: bool,
        append_only: bool,
        stats: Arc<SinkStats>,
        place: &SinkPlace,
        returning: Returning,
        last_cut: Epoch,
    ) -> Result<Self> {
        let mut opened = returning.opened?;
        let back = returning.back;
        let complete = opened.settle(back, last_cut)?;
        let mut sink = Self::start(relation, only_sources, append_only, stats, place, Some(opened))?;
        sink.complete = complete;
        sink.back = Some(back);
        // What ends a reading is said even if it finds no more rows: those before count only with it.
        sink.committed.1 = !matches!(back, Back::Reading { .. });
        Ok(sink)
    }

    fn start(
        relation: &Relation,
        only_sources: bool,
        append_only: bool,
        stats: Arc<SinkStats>,
        place: &SinkPlace,
        opened: Option<Opened>,
    ) -> Result<Self> {
        let definition = definition(relation).ok_or_else(|| SqlError::internal("not a sink"))?;
        let connector = place.connector(relation.id, definition)?;
        stats.log_bytes_max.store(definition.log_bytes_max, Ordering::Relaxed);
        stats.waits_when_full.store(only_sources, Ordering::Relaxed);
        stats.paused.store(definition.paused, Ordering::Relaxed);
        let last = opened.as_ref().map_or(0, |o| o.last);
        let pending = |c: &Commit| Pending { piece: 0, up_to: c.up_to, epoch: c.epoch, complete: c.complete };
        let commits: VecDeque<Pending> = opened.iter().flat_map(|o| &o.commits).map(pending).collect();
        let waiting = opened.as_ref().map(Opened::waiting).unwrap_or_default();
        let shared = Shared::new(stats.clone(), waiting, definition.paused);
        let logger = Logger {
            id: relation.id,
            name: relation.name.clone(),
            shared: shared.clone(),
            fs: place.fs.clone(),
            dir: place.dir(relation.id),
            opened,
            connector: Some(connector),
            events: place.events.clone(),
        };
        let (pieces, receiver) = crossbeam_channel::unbounded();
        let thread = std::thread::Builder::new().name("sink-logger".into()).spawn(move || logger.run_guarded(&receiver))?;
        Ok(SinkJob {
            stats,
            shared,
            pieces: Some(pieces),
            thread: Some(thread),
            last,
            given: 0,
            logged: 0,
            unlogged: VecDeque::new(),
            unlogged_bytes: 0,
            commits,
            committed: (last, true),
            complete: None,
            back: None,
            rejoins: false,
            append_only,
            into_table: definition.into.is_some(),
        })
    }

    /// A table of ours has steps up to this number. If its own log knows none of the last of them (it is an older copy, or made anew), what comes
    /// is nevertheless not one of them.
    pub fn number_after(&mut self, written: u64) {
        if written > self.last {
            self.last = written;
            self.committed.0 = written;
        }
    }

    /// The net changes of one step.
    pub fn rows(&mut self, epoch: Epoch, now: Timestamp, mut changes: Vec<ChangeBatch>) {
        changes.retain(|c| !c.is_empty());
        if changes.is_empty() {
            return;
        }
        self.last += 1;
        self.give(Piece::Rows(SinkStep { number: self.last, epoch, now }, changes));
    }

    /// What was emitted up to now belongs together. Nothing to say if nothing was.
    pub fn commit(&mut self, from: Epoch, epoch: Epoch, complete: bool, sources: BTreeMap<RelationId, Vec<PartitionStart>>) {
        if complete {
            self.complete = self.complete.max(Some(epoch));
        }
        let (covered, completed) = self.committed;
        if self.last > covered || (complete && !completed) {
            self.committed = (self.last, complete);
            let piece = self.give(Piece::Commit(Commit { up_to: self.last, from, epoch, complete, sources }));
            self.commits.push_back(Pending { piece, up_to: self.last, epoch, complete });
        }
    }

    fn give(&mut self, piece: Piece) -> u64 {
        let bytes = piece.bytes();
        self.given += 1;
        self.unlogged.push_back((self.given, bytes));
        self.unlogged_bytes += bytes;
        if let Some(pieces) = &self.pieces
            && pieces.send(piece).is_err()
        {
            tracing::error!(sink = %self.stats.name, "its log has stopped");
        }
        self.given
    }

    /// The log has this many more pieces.
    pub fn on_logged(&mut self, pieces: u64) {
        self.logged += pieces;
        while let Some((piece, bytes)) = self.unlogged.front().copied()
            && piece <= self.logged
        {
            self.unlogged_bytes -= bytes;
            self.unlogged.pop_front();
        }
    }

    /// Lets the sender have what can never come out differently, given the newest durable cut.
    pub fn release(&mut self, durable: Epoch) {
        let there = self.commits.partition_point(|c| c.piece <= self.logged && c.epoch <= durable);
        let certain = self.commits.range(..there).rposition(|c| self.is_certain(c)).map_or(0, |at| at + 1);
        for commit in self.commits.drain(..certain) {
            self.shared.release(commit.up_to, commit.complete.then_some(commit.epoch));
        }
    }

    /// A restart emits none of what the commit covers again: the job comes back after it, or the log says that an epoch is complete
    /// with it. In the middle of a reading it says nothing, as that may end at another epoch, by other steps.
    fn is_certain(&self, commit: &Pending) -> bool {
        match self.back {
            None => false,
            Some(Back::AtEpoch) => commit.complete,
            Some(Back::Reading { logged }) => commit.up_to <= logged,
            Some(Back::Stopped) => true,
        }
    }

    /// It has rows that the next checkpoint lets go, and is new, at the end of a reading, or has no room for more of one.
    pub fn waits_for_checkpoint(&self) -> bool {
        let Some(commit) = self.commits.back().filter(|c| !self.is_certain(c)) else { return false };
        self.back.is_none() || commit.complete || (self.stats.is_full() && self.shared.has_sent_all())
    }

    /// For a checkpoint that takes the job as it is now.
    pub fn body(&mut self, at_epoch: bool) -> SinkBody {
        if !at_epoch && self.back == Some(Back::AtEpoch) {
            // That checkpoint may be the newest before this is known here.
            self.back = Some(Back::Reading { logged: 0 });
        }
        SinkBody { logged: self.last, at_epoch, piece: self.given }
    }

    /// A checkpoint that is durable has the job.
    pub fn on_checkpoint(&mut self, back: Back) {
        self.back = Some(back);
    }

    /// What a checkpoint copies.
    pub fn files(&self) -> SinkFiles {
        SinkFiles(self.shared.clone())
    }

    pub fn has_logged(&self, body: SinkBody) -> bool {
        self.logged >= body.piece
    }

    /// Why its log cannot be written at present, if it cannot.
    pub fn log_health(&self) -> Result<()> {
        self.shared.log_health()
    }

    /// Its log will never have what the job emitted: after the next start the job begins anew.
    pub fn is_lost(&self, body: SinkBody) -> bool {
        !self.has_logged(body) && self.shared.log_is_lost()
    }

    /// The disk is behind: the job must not emit more now.
    pub fn is_behind(&self) -> bool {
        self.unlogged_bytes >= UNLOGGED_BYTES_MAX
    }

    /// What a private reading found goes before it is done, as far as a checkpoint has it: rows only come, and a restart can go on in the
    /// middle.
    pub fn sends_early(&self) -> bool {
        self.append_only && self.stats.waits_when_full.load(Ordering::Relaxed) && !self.into_table
    }

    /// It does, and there is no room for more of it.
    pub fn holds_reading(&self) -> bool {
        self.stats.is_full() && self.sends_early()
    }

    /// What waits to be sent has reached its bound, and what a job that has come to `stepped` would emit is not in the log yet.
    pub fn has_no_room(&self, stepped: Epoch) -> bool {
        self.stats.is_full() && Some(stepped) >= self.complete
    }

    /// The same of a job that waits for room: it stands still.
    pub fn holds_job(&self, stepped: Epoch) -> bool {
        self.stats.holds_job() && self.has_no_room(stepped)
    }

    pub fn pause(&self, paused: bool) {
        self.shared.pause(paused);
    }

    /// Goes on with another bound, and with another connector if the way outside has changed.
    pub fn alter(&self, log_bytes_max: u64, connector: Option<Box<dyn SinkConnector>>) {
        self.stats.log_bytes_max.store(log_bytes_max, Ordering::Relaxed);
        if let Some(connector) = connector {
            self.shared.replace(connector);
        }
    }

    /// The sink is dropped, and its log with it, by its own threads.
    pub fn discard(mut self) {
        self.shared.close(true);
        self.pieces = None;
        self.thread = None;
    }

    /// Ends the threads in order and waits for them.
    pub fn stop(mut self) {
        self.pieces = None;
        self.shared.close(false);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(sink = %self.stats.name, "the logger panicked");
        }
    }
}
