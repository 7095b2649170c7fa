//! Rows of a table or view, read for a backfill on a thread of their own: bounded in bytes, in the order in which they come. The
//! coordinator takes what is there and is told when there is more.

use super::Event;
use super::arrivals::StoredRows;
use super::inbox::Reader;
use crossbeam_channel::Sender;
use eddyline_common::runtime::{Process, Threads, Turn};
use eddyline_common::{Result, SqlError, TaggedBatch, failpoint};
use eddyline_storage::priority;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Two steps' worth: one is taken while the next is read.
const READ_BYTES_MAX: usize = 2 * super::job::STEP_BYTES_MAX;

/// Gives the rows and how many they are.
pub type Open = Box<dyn FnOnce() -> Result<(StoredRows, u64)> + Send>;

/// Dropped, it ends the reading.
pub struct Prefetch(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    space: Condvar,
    reader: Reader,
    events: Sender<Event>,
}

#[derive(Default)]
struct State {
    batches: VecDeque<TaggedBatch>,
    bytes: usize,
    /// Rows there will be, once that is known; until it is asked for.
    total: Option<u64>,
    end: Option<Result<()>>,
    closed: bool,
}

/// What was read since the last look.
pub struct Taken {
    pub batches: Vec<TaggedBatch>,
    pub total: Option<u64>,
    pub ended: bool,
}

impl Prefetch {
    pub fn start(threads: &dyn Threads, reader: Reader, events: Sender<Event>, open: Open) -> Result<Prefetch> {
        let shared = Arc::new(Shared { state: Mutex::default(), space: Condvar::new(), reader, events });
        let reading = Reading { shared: shared.clone(), open: Some(open), rows: None, read: VecDeque::new() };
        threads.spawn("snapshot", Box::new(reading))?;
        Ok(Prefetch(shared))
    }

    /// About `bytes_max` of what is there.
    pub fn take(&self, bytes_max: usize) -> Result<Taken> {
        let mut state = self.0.state.lock();
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(batch) = state.batches.pop_front()
        {
            bytes += batch.changes.bytes() + 1;
            batches.push(batch);
        }
        state.bytes -= bytes;
        let ended = match &state.end {
            Some(Err(error)) => return Err(error.clone()),
            end => end.is_some() && state.batches.is_empty(),
        };
        let total = state.total.take();
        drop(state);
        self.0.space.notify_one();
        Ok(Taken { batches, total, ended })
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.space.notify_one();
    }
}

/// The thread that reads.
struct Reading {
    shared: Arc<Shared>,
    open: Option<Open>,
    rows: Option<StoredRows>,
    read: VecDeque<TaggedBatch>,
}

impl Process for Reading {
    fn turn(&mut self, may_wait: bool) -> Turn {
        let turn = catch_unwind(AssertUnwindSafe(|| self.read(may_wait)))
            .unwrap_or_else(|_| Err(SqlError::internal("reading a table or view panicked")));
        let end = match turn {
            Ok(Turn::Ended) => Ok(()),
            Ok(turn) => return turn,
            Err(error) => Err(error),
        };
        self.shared.state.lock().end = Some(end);
        self.shared.tell();
        Turn::Ended
    }

    fn begin(&mut self) {
        priority::lower();
    }
}

impl Reading {
    fn read(&mut self, may_wait: bool) -> Result<Turn> {
        if let Some(open) = self.open.take() {
            failpoint::hit("backfill.read")?;
            let (rows, total) = open()?;
            self.shared.state.lock().total = Some(total);
            self.rows = Some(rows);
        }
        while self.read.is_empty() {
            let more = self.rows.as_mut().map(StoredRows::more).transpose()?.flatten();
            let Some(batches) = more else { return Ok(Turn::Ended) };
            self.read.extend(batches);
        }
        Ok(self.shared.push(&mut self.read, may_wait))
    }
}

impl Shared {
    /// Takes the first of the batches if there is room, or waits for some; the end once nobody wants the rows any more.
    fn push(&self, read: &mut VecDeque<TaggedBatch>, may_wait: bool) -> Turn {
        let mut state = self.state.lock();
        if state.closed {
            return Turn::Ended;
        }
        let Some(bytes) = read.front().map(|batch| batch.changes.bytes() + 1) else { return Turn::Worked };
        if state.bytes > 0 && state.bytes + bytes > READ_BYTES_MAX {
            if may_wait {
                self.space.wait(&mut state);
            }
            return Turn::Idle;
        }
        state.bytes += bytes;
        state.batches.extend(read.pop_front());
        // The coordinator takes all there is each time it looks.
        let is_first = state.batches.len() == 1;
        drop(state);
        if is_first {
            self.tell();
        }
        Turn::Worked
    }

    fn tell(&self) {
        // A coordinator that is gone needs no news.
        let _gone = self.events.send(Event::Arrived(self.reader));
    }
}
