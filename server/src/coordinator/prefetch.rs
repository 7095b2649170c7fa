//! Rows of a table or view, read for a backfill on a thread of their own: bounded in bytes, in the order in which they come. The
//! coordinator takes what is there and is told when there is more.

use super::Event;
use super::arrivals::StoredRows;
use super::inbox::Reader;
use crossbeam_channel::Sender;
use eddyline_common::{Result, SqlError, TaggedBatch, failpoint};
use eddyline_storage::priority;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Two steps' worth: one is taken while the next is read.
const READ_BYTES_MAX: usize = 2 * super::backfill::STEP_BYTES_MAX;

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
    pub fn start(reader: Reader, events: Sender<Event>, open: Open) -> Result<Prefetch> {
        let shared = Arc::new(Shared { state: Mutex::default(), space: Condvar::new(), reader, events });
        let of_thread = shared.clone();
        std::thread::Builder::new().name("snapshot".into()).spawn(move || of_thread.run(open))?;
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

impl Shared {
    fn run(&self, open: Open) {
        priority::lower();
        let read = catch_unwind(AssertUnwindSafe(|| self.read(open)));
        let end = read.unwrap_or_else(|_| Err(SqlError::internal("reading a table or view panicked")));
        self.state.lock().end = Some(end);
        self.tell();
    }

    fn read(&self, open: Open) -> Result<()> {
        failpoint::hit("backfill.read")?;
        let (mut rows, total) = open()?;
        self.state.lock().total = Some(total);
        while let Some(batches) = rows.more()? {
            for batch in batches {
                if !self.push(batch) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Waits for room; false once nobody wants the rows any more.
    fn push(&self, batch: TaggedBatch) -> bool {
        let bytes = batch.changes.bytes() + 1;
        let mut state = self.state.lock();
        while state.bytes > 0 && state.bytes + bytes > READ_BYTES_MAX && !state.closed {
            self.space.wait(&mut state);
        }
        if state.closed {
            return false;
        }
        state.bytes += bytes;
        state.batches.push_back(batch);
        // The coordinator takes all there is each time it looks.
        let is_first = state.batches.len() == 1;
        drop(state);
        if is_first {
            self.tell();
        }
        true
    }

    fn tell(&self) {
        // A coordinator that is gone needs no news.
        let _gone = self.events.send(Event::Arrived(self.reader));
    }
}
