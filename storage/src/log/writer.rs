//! [`Log`]: appending frames to memory, waiting for them to be durable, removing old segments. Shared between threads;
//! writing and syncing is the flusher's.

use super::flusher::Flusher;
use super::frame::{self, FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX, SEGMENT_HEADER_BYTES};
use super::{Frames, LogOptions, LogPosition, Recovered, segment};
use crate::io::failed;
use eddyline_common::runtime::FileSystem;
use eddyline_common::{Result, SqlError, SqlState, failpoint};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Called once. Runs on the flusher thread, so it must neither block nor wait for the log.
pub type DurableCallback = Box<dyn FnOnce(Result<()>) + Send>;

/// A handle to an open log; share it in an `Arc`. Dropping it writes what is buffered and stops the flusher.
pub struct Log {
    shared: Arc<Shared>,
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    flusher: Option<JoinHandle<()>>,
}

/// A segment's file, for a copy of the log.
#[derive(Clone, Debug)]
pub struct LogFile {
    pub segment: u64,
    pub path: PathBuf,
    /// How much of it is durable, if it still grows; otherwise it never changes again.
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
}

/// What appenders, waiters and the flusher share.
pub(super) struct Shared {
    pub stats: Arc<LogStats>,
    pub options: LogOptions,
    pub state: Mutex<State>,
    /// For the flusher: something is pending, or the log closes.
    pub work: Condvar,
    /// For appenders: something became durable, or failed.
    pub room: Condvar,
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
    /// The frame appended last, since the log was opened.
    pub last: Option<LogPosition>,
    /// Everything before this position is durable.
    pub durable: LogPosition,
    pub waiters: BTreeMap<LogPosition, Vec<DurableCallback>>,
    pub health: Health,
    pub closing: bool,
}

#[derive(Clone)]
pub(super) enum Health {
    Good,
    /// The last write failed and is tried again; nothing new is accepted meanwhile.
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
}

impl Log {
    /// Opens or creates the log in `dir`. A torn tail is cut off; damage before it is an error.
    pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf, options: LogOptions) -> Result<(Log, Recovered)> {
        let recovered = Recovered::open(fs.clone(), dir.clone())?;
        let end = recovered.end();
        let state = State {
            pending: VecDeque::new(),
            unsynced_bytes: 0,
            next: end,
            last: None,
            durable: end,
            waiters: BTreeMap::new(),
            health: Health::Good,
            closing: false,
        };
        let shared =
            Arc::new(Shared { stats: Arc::default(), options, state: Mutex::new(state), work: Condvar::new(), room: Condvar::new() });
        let flusher = Flusher::new(shared.clone(), fs.clone(), dir.clone(), end);
        let flusher = std::thread::Builder::new()
            .name("log-flusher".into())
            .spawn(move || flusher.run())
            .map_err(|error| SqlError::io(format!("cannot start the log's flusher: {error}")))?;
        Ok((Log { shared, fs, dir, flusher: Some(flusher) }, recovered))
    }

    /// Buffers a frame and gives its position. Cheap: copies the payload; waits only while more than
    /// `unsynced_bytes_max` are not yet durable. After an error the frame is not in the log: while writes fail (a
    /// full disk), all appends are refused with that failure.
    pub fn append(&self, kind: u8, payload: &[u8]) -> Result<LogPosition> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            let message = format!("a log record of {} bytes is too large", payload.len());
            return Err(SqlError::new(SqlState::LIMIT_EXCEEDED, message).with_detail(format!("The maximum is {PAYLOAD_BYTES_MAX} bytes.")));
        }
        failpoint::hit("log.appended")?;
        let bytes = FRAME_HEADER_BYTES + payload.len();
        let mut state = self.shared.state.lock();
        loop {
            state.health.check()?;
            // A frame larger than the bound goes alone.
            if state.unsynced_bytes == 0 || state.unsynced_bytes + bytes <= self.shared.options.unsynced_bytes_max {
                break;
            }
            self.shared.room.wait(&mut state);
        }
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

    /// The files that are there, oldest first.
    pub fn files(&self) -> Result<Vec<LogFile>> {
        let end = self.durable_end();
        let segments = segment::list(&*self.fs, &self.dir)?;
        let file = |segment: u64| {
            let is_sealed = segment < end.segment;
            LogFile { segment, path: segment::path(&self.dir, segment), durable_bytes: (!is_sealed).then_some(end.offset) }
        };
        Ok(segments.into_iter().filter(|segment| *segment <= end.segment).map(file).collect())
    }

    pub fn stats(&self) -> Arc<LogStats> {
        self.shared.stats.clone()
    }

    /// Why appends are refused at present, if they are.
    pub fn health(&self) -> Result<()> {
        self.shared.state.lock().health.check()
    }

    /// Calls back when the frame at `position` is durable: on this thread if it is already. An error says that an
    /// attempt to write it failed. Unless the log is poisoned the frame may still become durable, and a new call
    /// learns of the next attempt.
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

    /// Waits, blocking, until everything appended so far is durable.
    pub fn sync(&self) -> Result<()> {
        let last = self.shared.state.lock().last;
        last.map_or(Ok(()), |position| self.wait_durable(position))
    }

    /// Removes the segments that lie wholly before `position` and before the end of the durable log. Removing is in order, so that
    /// a crash in between leaves no gap.
    pub fn truncate_before(&self, position: LogPosition) -> Result<()> {
        let keep = position.segment.min(self.durable_end().segment);
        let old: Vec<u64> = segment::list(&*self.fs, &self.dir)?.into_iter().filter(|segment| *segment < keep).collect();
        for segment in &old {
            let path = segment::path(&self.dir, *segment);
            self.fs.remove_file(&path).map_err(failed("remove log segment", &path))?;
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
            let panicked = flusher.thread().id() != std::thread::current().id() && flusher.join().is_err();
            if panicked {
                tracing::error!("the log's flusher panicked");
            }
        }
    }
}

impl State {
    fn push(&mut self, kind: u8, payload: &[u8], segment_bytes: u64) -> LogPosition {
        let bytes = (FRAME_HEADER_BYTES + payload.len()) as u64;
        if self.next.offset + bytes > segment_bytes && self.next.offset > SEGMENT_HEADER_BYTES {
            self.next = LogPosition { segment: self.next.segment + 1, offset: SEGMENT_HEADER_BYTES };
        }
        let position = self.next;
        if self.pending.back().is_none_or(|chunk| chunk.segment != position.segment) {
            self.pending.push_back(Chunk { segment: position.segment, offset: position.offset, bytes: Vec::new() });
        }
        let chunk = self.pending.back_mut().expect("was just added");
        frame::encode(&mut chunk.bytes, kind, payload);
        self.unsynced_bytes += bytes as usize;
        self.next.offset += bytes;
        self.last = Some(position);
        position
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
