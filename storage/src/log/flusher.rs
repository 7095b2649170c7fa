//! The thread that makes the log durable. It takes all that is pending, writes it in one go, syncs once, and
//! resolves the waiters: a group commit whose size follows from how long a sync takes.
//!
//! Records are written over zeros that are durable already, wherever that can be, so that a sync has nothing but them to make
//! durable. A failed write is repaired by writing the same bytes to the same place again, after a pause, until it succeeds. A failed sync is never tried again: the kernel may have dropped the pages it could
//! not write, and a second sync would report success for them.

use super::frame::{self, SEGMENT_HEADER_BYTES};
use super::spare::Spares;
use super::writer::{Chunk, DurableCallback, Health, Shared, closed};
use super::{LogPosition, Recovered, segment};
use crate::io::failed;
use eddyline_common::runtime::{FileSystem, Process, Turn, WriteFile};
use eddyline_common::{Result, SqlError, SqlState, failpoint};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The least room that is made at once, a few hundred records.
const ROOM_BYTES_MIN: u64 = 64 << 10;

pub(super) struct Flusher {
    shared: Arc<Shared>,
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    segment: u64,
    /// What is durable of the segment; 0 before its header is.
    durable: u64,
    /// The file is durable zeros from there to here.
    allocated: u64,
    /// `None` at first, and after a failure.
    file: Option<Box<dyn WriteFile>>,
    spares: Arc<Spares>,
    /// What could not be written yet.
    stalled: Option<Chunk>,
}

enum Next {
    Chunk(Chunk),
    Nothing,
    /// The log closes, and nothing is pending.
    Closed,
}

enum Failure {
    Write(SqlError),
    Sync(SqlError),
}

impl Process for Flusher {
    fn turn(&mut self, may_wait: bool) -> Turn {
        match self.take(may_wait) {
            Next::Chunk(chunk) => self.write_out(chunk, may_wait),
            Next::Nothing => Turn::Idle,
            Next::Closed => {
                self.close();
                Turn::Ended
            }
        }
    }
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>, fs: Arc<dyn FileSystem>, recovered: &Recovered, dir: PathBuf, spares: Arc<Spares>) -> Flusher {
        let LogPosition { segment, offset: durable } = recovered.end();
        Flusher { shared, fs, dir, segment, durable, allocated: recovered.allocated(), file: None, spares, stalled: None }
    }

    /// One attempt at writing a chunk.
    fn write_out(&mut self, mut chunk: Chunk, may_wait: bool) -> Turn {
        let last_attempt = self.shared.state.lock().closing;
        match self.flush(&mut chunk) {
            Ok(()) => self.succeeded(&chunk),
            Err(Failure::Sync(error)) => {
                self.poison(error);
                return Turn::Ended;
            }
            Err(Failure::Write(_)) if last_attempt => {
                self.close();
                return Turn::Ended;
            }
            Err(Failure::Write(error)) => {
                self.stall(error, may_wait);
                self.stalled = Some(chunk);
                return Turn::Idle;
            }
        }
        Turn::Worked
    }

    /// The oldest chunk that is not durable.
    fn take(&mut self, may_wait: bool) -> Next {
        if let Some(chunk) = self.stalled.take() {
            return Next::Chunk(chunk);
        }
        let mut state = self.shared.state.lock();
        loop {
            if let Some(chunk) = state.pending.pop_front() {
                return Next::Chunk(chunk);
            }
            if state.closing {
                return Next::Closed;
            }
            if !may_wait {
                return Next::Nothing;
            }
            self.shared.work.wait(&mut state);
        }
    }

    fn flush(&mut self, chunk: &mut Chunk) -> Result<(), Failure> {
        if chunk.segment != self.segment {
            // The segment before is durable in full: its chunks came first.
            (self.segment, self.durable, self.allocated, self.file) = (chunk.segment, 0, 0, None);
        }
        frame::stamp(&mut chunk.bytes, chunk.segment, chunk.offset, self.durable);
        let mut file = self.write(chunk).map_err(Failure::Write)?;
        let path = segment::path(&self.dir, self.segment);
        let begun = Instant::now();
        file.sync().map_err(failed("sync log segment", &path)).map_err(Failure::Sync)?;
        let stats = &self.shared.stats;
        stats.syncs.fetch_add(1, Ordering::Relaxed);
        stats.sync_micros.fetch_add(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
        stats.bytes.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        if self.durable < SEGMENT_HEADER_BYTES {
            self.fs.sync_dir(&self.dir).map_err(failed("sync log directory", &self.dir)).map_err(Failure::Sync)?;
        }
        failpoint::hit(self.shared.options.sync_failpoint).map_err(Failure::Sync)?;
        self.durable = chunk.offset + chunk.bytes.len() as u64;
        self.file = Some(file);
        if self.durable > self.shared.options.segment_bytes / 2 {
            self.spares.want();
        }
        Ok(())
    }

    fn write(&mut self, chunk: &Chunk) -> Result<Box<dyn WriteFile>> {
        let path = segment::path(&self.dir, self.segment);
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open(&path)?,
        };
        if self.durable < SEGMENT_HEADER_BYTES {
            file.write_at(0, &frame::segment_header(self.segment)).map_err(failed("write log segment", &path))?;
        }
        file.write_at(chunk.offset, &chunk.bytes).map_err(failed("write log segment", &path))?;
        let end = chunk.offset + chunk.bytes.len() as u64;
        if end > self.allocated {
            self.allocated = self.make_room(&mut *file, end);
        }
        failpoint::hit("log.before_sync")?;
        Ok(file)
    }

    fn open(&mut self, path: &Path) -> Result<Box<dyn WriteFile>> {
        if self.allocated == 0
            && let Some(bytes) = self.spares.take(path)?
        {
            self.allocated = bytes;
        }
        self.fs.open(path).map_err(failed("open log segment", path))
    }

    /// Zeros after the record that made the file grow, so that those after it do not; up to where they are. More of them the
    /// larger the file is: a server with little to log needs little room.
    fn make_room(&self, file: &mut dyn WriteFile, end: u64) -> u64 {
        let max = self.shared.options.room_bytes_max;
        let to = (end + (end / 2).clamp(ROOM_BYTES_MIN.min(max), max)).min(self.shared.options.segment_bytes);
        if to <= end {
            return end;
        }
        match file.write_at(end, &vec![0; (to - end) as usize]) {
            Ok(()) => to,
            // The record itself found room, which is all it needs.
            Err(_) => end,
        }
    }

    fn succeeded(&self, chunk: &Chunk) {
        let durable = LogPosition { segment: chunk.segment, offset: chunk.offset + chunk.bytes.len() as u64 };
        let mut state = self.shared.state.lock();
        if matches!(state.health, Health::Stalled(_)) {
            tracing::info!("the log can be written again");
            *self.shared.stats.problem.lock() = None;
            state.health = Health::Good;
        }
        state.durable = durable;
        state.unsynced_bytes -= chunk.bytes.len();
        let waiters = state.take_waiters_before(durable);
        drop(state);
        self.shared.moved.notify_all();
        resolve(waiters, Ok(()));
    }

    /// Says that a write failed, and pauses if it may and the log does not close. Waiters go on waiting.
    fn stall(&self, error: SqlError, may_wait: bool) {
        let mut state = self.shared.state.lock();
        if matches!(state.health, Health::Good) {
            tracing::error!(%error, "the log cannot be written; it is tried again until it can");
            *self.shared.stats.problem.lock() = Some(error.message.clone());
        }
        state.health = Health::Stalled(error);
        self.shared.moved.notify_all();
        if may_wait && !state.closing {
            self.shared.work.wait_for(&mut state, self.shared.options.retry_after);
        }
    }

    fn poison(&self, cause: SqlError) {
        let error = SqlError::new(SqlState::IO_ERROR, "the log is closed for writing since a sync failed")
            .with_detail(format!("{}.", cause.message))
            .with_hint("Restart the server: it recovers everything that was acknowledged. What was under way may be there or not.");
        tracing::error!(%cause, "a sync of the log failed; nothing is written to it until the server is started again");
        *self.shared.stats.problem.lock() = Some(error.message.clone());
        self.fail_all(Health::Poisoned(error.clone()), error);
    }

    fn close(&self) {
        let unsynced_bytes = self.shared.state.lock().unsynced_bytes;
        if unsynced_bytes > 0 {
            tracing::error!(unsynced_bytes, "the log closes with records that could not be written");
        }
        self.fail_all(Health::Poisoned(closed()), closed());
    }

    fn fail_all(&self, health: Health, error: SqlError) {
        let mut state = self.shared.state.lock();
        state.health = health;
        state.pending.clear();
        let waiters = std::mem::take(&mut state.waiters).into_values().flatten().collect();
        drop(state);
        self.shared.moved.notify_all();
        resolve(waiters, Err(error));
    }
}

fn resolve(waiters: Vec<DurableCallback>, outcome: Result<()>) {
    for waiter in waiters {
        waiter(outcome.clone());
    }
}
