//! [`Log`]: appending frames to memory, waiting for them to be durable, removing old segments. Shared between threads;
//! writing and syncing is the flusher's.

use super::flusher::Flusher;
use super::frame::{self, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use super::spare::{Preparer, Spares};
use super::{Frames, LogOptions, LogPosition, Recovered, segment};
use crate::io::failed;
use bytes::Bytes;
use eddyline_common::runtime::{FileSystem, Thread};
use eddyline_common::{Result, SqlError, SqlState, failpoint};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::oneshot;

/// Called once: when the frame is durable, or with an error when it never will be as far as this process knows. Runs on the
/// flusher thread, so it must neither block nor wait for the log.
pub type DurableCallback = Box<dyn FnOnce(Result<()>) + Send>;

/// A handle to an open log; share it in an `Arc`. Dropping it writes what is buffered and stops the flusher.
pub struct Log {
    shared: Arc<Shared>,
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    flusher: Option<Box<dyn Thread>>,
    pub(super) spares: Arc<Spares>,
    preparer: Option<Box<dyn Thread>>,
}

/// A segment, for a copy of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub segment: u64,
    /// How much of it is durable, if it still grows; otherwise it has its seal and never changes again.
    pub durable_bytes: Option<u64>,
}

/// What the log has done since it was opened.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Written and durable.
    pub bytes: AtomicU64,
    pub syncs: AtomicU64,
    /// Time that syncs took, all of them together.
    pub sync_micros: AtomicU64,
    /// Why records are not written at present, for whoever must not ask the log itself.
    pub problem: Mutex<Option<String>>,
}

/// What appenders, waiters and the flusher share.
pub(super) struct Shared {
    pub stats: Arc<LogStats>,
    pub options: LogOptions,
    pub state: Mutex<State>,
    /// For the flusher: something is pending, or the log closes.
    pub work: Condvar,
    /// For those that wait for all of it: something became durable, or failed.
    pub moved: Condvar,
}

/// Encoded frames that follow each other in one segment, from `offset`.
pub(super) struct Chunk {
    pub segment: u64,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

pub(super) struct State {
    /// Not yet taken by the flusher, in order; at most one chunk per segment.
    pub pending: VecDeque<Chunk>,
    /// Bytes that are not durable, pending or being written.
    pub unsynced_bytes: usize,
    /// Where the next frame goes, unless it does not fit into the segment.
    pub next: LogPosition,
    /// Everything before this position is durable.
    pub durable: LogPosition,
    pub waiters: BTreeMap<LogPosition, Vec<DurableCallback>>,
    pub health: Health,
    pub closing: bool,
}

#[derive(Clone)]
pub(super) enum Health {
    Good,
    /// The last write failed and is tried again; nothing new is begun meanwhile.
    Stalled(SqlError),
    /// A sync failed. For good.
    Poisoned(SqlError),
}

impl Health {
    fn check(&self) -> Result<()> {
        match self {
            Health::Good => Ok(()),
            Health::Stalled(error) | Health::Poisoned(error) => Err(error.clone()),
        }
    }

    fn check_alive(&self) -> Result<()> {
        match self {
            Health::Good | Health::Stalled(_) => Ok(()),
            Health::Poisoned(error) => Err(error.clone()),
        }
    }
}

impl Log {
    /// Opens or creates the log in `dir`. A torn tail is cut off; damage before it is an error.
    pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf, options: LogOptions) -> Result<(Log, Recovered)> {
        Log::open_needed(fs, dir, options, LogPosition::default())
    }

    /// The same for whoever has what was in the log before `needed`: damage there is only warned of.
    pub fn open_needed(fs: Arc<dyn FileSystem>, dir: PathBuf, options: LogOptions, needed: LogPosition) -> Result<(Log, Recovered)> {
        let recovered = Recovered::open(fs.clone(), dir.clone(), needed)?;
        let end = recovered.end();
        let state = State {
            pending: VecDeque::new(),
            unsynced_bytes: 0,
            next: end,
            durable: end,
            waiters: BTreeMap::new(),
            health: Health::Good,
            closing: false,
        };
        let shared =
            Arc::new(Shared { stats: Arc::default(), options, state: Mutex::new(state), work: Condvar::new(), moved: Condvar::new() });
        let spares = Spares::new(fs.clone(), &dir, shared.options.segment_bytes);
        let flusher = Flusher::new(shared.clone(), fs.clone(), &recovered, dir.clone(), spares.clone());
        let failed = |error| SqlError::io(format!("cannot start the log's threads: {error}"));
        let threads = shared.options.threads.clone();
        let flusher = threads.spawn("log-flusher", Box::new(flusher)).map_err(failed)?;
        let mut log = Log { shared, fs, dir, flusher: Some(flusher), spares, preparer: None };
        log.preparer = Some(threads.spawn("log-spare", Box::new(Preparer(log.spares.clone()))).map_err(failed)?);
        Ok((log, recovered))
    }

    /// Buffers a frame and gives its position. Copies the payload and never waits: whoever appends bounds what is not durable
    /// yet. After an error the frame is not in the log: while writes fail (a full disk), all appends are refused with that
    /// failure.
    pub fn append(&self, kind: u8, payload: &[u8]) -> Result<LogPosition> {
        self.append_if(Health::check, kind, payload)
    }

    /// [`Log::append`] of what has been done already and cannot be taken back: accepted also while writes fail. Whoever does
    /// such things looks at `health` before.
    pub fn append_done(&self, kind: u8, payload: &[u8]) -> Result<LogPosition> {
        self.append_if(Health::check_alive, kind, payload)
    }

    fn append_if(&self, check: impl Fn(&Health) -> Result<()>, kind: u8, payload: &[u8]) -> Result<LogPosition> {
        let max = self.shared.options.record_bytes_max;
        if payload.len() > max {
            let message = format!("a log record of {} bytes is too large", payload.len());
            return Err(SqlError::new(SqlState::LIMIT_EXCEEDED, message).with_detail(format!("The maximum is {max} bytes.")));
        }
        assert_ne!(kind, frame::SEAL, "the kind of the log's own frames");
        failpoint::hit("log.appended")?;
        let mut state = self.shared.state.lock();
        check(&state.health)?;
        let position = state.push(kind, payload, self.shared.options.segment_bytes);
        drop(state);
        self.shared.work.notify_one();
        Ok(position)
    }

    /// The position after the last appended frame: replay from here sees only later ones. It may not be durable yet.
    pub fn end(&self) -> LogPosition {
        self.shared.state.lock().next
    }

    /// Everything before this position is durable.
    pub fn durable_end(&self) -> LogPosition {
        self.shared.state.lock().durable
    }

    /// The durable frames at and after `from`, which is where a frame that is still there starts. Reads whole segments back from the
    /// disk.
    pub fn frames(&self, from: LogPosition) -> Frames {
        Frames::between(self.fs.clone(), self.dir.clone(), from, self.durable_end())
    }

    /// The segments that are there, oldest first.
    pub fn files(&self) -> Result<Vec<LogFile>> {
        let end = self.durable_end();
        let segments = segment::list(&*self.fs, &self.dir)?;
        let file = |segment: u64| LogFile { segment, durable_bytes: (segment == end.segment).then_some(end.offset) };
        Ok(segments.into_iter().filter(|segment| *segment <= end.segment).map(file).collect())
    }

    /// The durable content of a segment, without the zeros after it: as a file of that name it is a log again. `None` if the segment
    /// was removed meanwhile. It is a copy, because the file itself becomes another segment later.
    pub fn read_file(&self, file: LogFile) -> Result<Option<Bytes>> {
        let path = segment::path(&self.dir, file.segment);
        let read = self.read_prefix(file, &path);
        // Its file may have been given another use while it was read.
        if read.is_err() && !self.fs.exists(&path) { Ok(None) } else { read.map(Some) }
    }

    fn read_prefix(&self, file: LogFile, path: &Path) -> Result<Bytes> {
        let mut bytes = segment::read(&*self.fs, path)?;
        if let Some(durable) = file.durable_bytes {
            bytes.truncate(durable as usize);
        }
        let extent = segment::extent(&bytes, file.segment, path)?;
        let is_whole = file.durable_bytes.map_or(extent.is_sealed, |durable| extent.valid == durable);
        if !is_whole || extent.torn > 0 {
            return Err(segment::damaged(path, extent.valid, "What follows was durable, or should be zeros."));
        }
        bytes.truncate(extent.valid as usize);
        Ok(bytes.into())
    }

    pub fn stats(&self) -> Arc<LogStats> {
        self.shared.stats.clone()
    }

    /// Why appends are refused at present, if they are.
    pub fn health(&self) -> Result<()> {
        self.shared.state.lock().health.check()
    }

    /// A sync failed: nothing can be appended until it is opened again.
    pub fn is_lost(&self) -> bool {
        matches!(self.shared.state.lock().health, Health::Poisoned(_))
    }

    /// Calls back when the frame at `position` is durable: on this thread if it is already. An error says that the log is
    /// poisoned or closed; whether the frame is there when it is opened again is not known. A write that fails for now (a full
    /// disk) is no reason to call.
    pub fn on_durable(&self, position: LogPosition, callback: DurableCallback) {
        let mut state = self.shared.state.lock();
        assert!(position < state.next, "position {position} was never appended");
        let outcome = match &state.health {
            _ if position < state.durable => Ok(()),
            Health::Poisoned(error) => Err(error.clone()),
            _ => {
                state.waiters.entry(position).or_default().push(callback);
                return;
            }
        };
        drop(state);
        callback(outcome);
    }

    /// [`Log::on_durable`] for async code.
    pub async fn durable(&self, position: LogPosition) -> Result<()> {
        let (done, wait) = oneshot::channel();
        // The receiver may be gone: its task was cancelled.
        self.on_durable(position, Box::new(move |outcome| drop(done.send(outcome))));
        wait.await.unwrap_or_else(|_| Err(closed()))
    }

    /// [`Log::on_durable`], blocking.
    pub fn wait_durable(&self, position: LogPosition) -> Result<()> {
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        self.on_durable(position, Box::new(move |outcome| drop(done.send(outcome))));
        wait.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Waits, blocking, until everything appended so far is durable. An error as soon as an attempt to write it fails.
    pub fn sync(&self) -> Result<()> {
        let mut state = self.shared.state.lock();
        let end = state.next;
        while state.durable < end {
            let others_ran = MutexGuard::unlocked(&mut state, || self.shared.options.threads.run_others());
            // Looked at under the lock in which the wait begins, as whoever changes it tells of that once.
            state.health.check()?;
            if !others_ran && state.durable < end {
                self.shared.moved.wait(&mut state);
            }
        }
        Ok(())
    }

    /// Removes the segments that lie wholly before `position` and before the end of the durable log. Removing is in order, so that
    /// a crash in between leaves no gap.
    pub fn truncate_before(&self, position: LogPosition) -> Result<()> {
        let keep = position.segment.min(self.durable_end().segment);
        let old: Vec<u64> = segment::list(&*self.fs, &self.dir)?.into_iter().filter(|segment| *segment < keep).collect();
        for segment in &old {
            let path = segment::path(&self.dir, *segment);
            if !self.spares.give(&path)? {
                self.fs.remove_file(&path).map_err(failed("remove log segment", &path))?;
            }
        }
        if old.is_empty() { Ok(()) } else { self.fs.sync_dir(&self.dir).map_err(failed("sync log directory", &self.dir)) }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(flusher) = self.flusher.take() {
            // A callback may hold the last handle, and then this is the flusher itself.
            let panicked = !flusher.is_current() && flusher.join().is_err();
            if panicked {
                tracing::error!("the log's flusher panicked");
            }
        }
        self.spares.close();
        if self.preparer.take().is_some_and(|preparer| preparer.join().is_err()) {
            tracing::error!("the thread that prepares log segments panicked");
        }
    }
}

impl State {
    fn push(&mut self, kind: u8, payload: &[u8], segment_bytes: u64) -> LogPosition {
        let bytes = (FRAME_HEADER_BYTES + payload.len()) as u64;
        if self.next.offset + bytes > segment_bytes && self.next.offset > SEGMENT_HEADER_BYTES {
            self.encode(frame::SEAL, &[]);
            self.next = LogPosition { segment: self.next.segment + 1, offset: SEGMENT_HEADER_BYTES };
        }
        let position = self.next;
        self.encode(kind, payload);
        position
    }

    fn encode(&mut self, kind: u8, payload: &[u8]) {
        let (position, bytes) = (self.next, FRAME_HEADER_BYTES + payload.len());
        if self.pending.back().is_none_or(|chunk| chunk.segment != position.segment) {
            self.pending.push_back(Chunk { segment: position.segment, offset: position.offset, bytes: Vec::new() });
        }
        let chunk = self.pending.back_mut().expect("was just added");
        frame::encode(&mut chunk.bytes, kind, payload);
        self.unsynced_bytes += bytes;
        self.next.offset += bytes as u64;
    }

    /// The waiters for frames before `durable`.
    pub fn take_waiters_before(&mut self, durable: LogPosition) -> Vec<DurableCallback> {
        let later = self.waiters.split_off(&durable);
        std::mem::replace(&mut self.waiters, later).into_values().flatten().collect()
    }
}

pub(super) fn closed() -> SqlError {
    SqlError::new(SqlState::ADMIN_SHUTDOWN, "the log was closed before the record was durable")
}
