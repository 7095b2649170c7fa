//! Where a source's reader threads leave decoded batches for the coordinator: bounded in bytes, with the
//! event times already computed on the reader's side. Knows nothing of cuts.

use super::Event;
use arrow::array::{Array, AsArray, BooleanArray};
use arrow::datatypes::TimestampMicrosecondType;
use crossbeam_channel::Sender;
use eddyline_common::connector::{BatchSink, SourceBatch};
use eddyline_common::runtime::Clock;
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Column, Offset, PartitionId, RelationId, Result, Timestamp};
use eddyline_executor::expr::{NowHandle, Projection};
use eddyline_planner::catalog::Relation;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Decoded but not yet cut: enough to keep the decoders busy for some tens of milliseconds.
pub const INBOX_BYTES_MAX: usize = 32 << 20;

/// A full sink looks this often whether it was closed.
const CLOSED_POLL: Duration = Duration::from_millis(100);

/// A batch that waits for its cut.
#[derive(Debug)]
pub struct Arrived {
    pub batch: SourceBatch,
    pub bytes: usize,
    /// The greatest watermark its rows propose, those too far in the future left out.
    pub watermark: Option<Timestamp>,
    /// The smallest event time among its rows.
    pub oldest: Option<Timestamp>,
    pub at: Instant,
}

/// Computes a batch's proposed watermark and oldest event time.
pub struct EventTimes {
    projection: Projection,
    future_guard: Option<i64>,
    manual: bool,
}

impl EventTimes {
    /// `None` for a relation without a watermark.
    pub fn new(relation: &Relation) -> Result<Option<Self>> {
        let Some(definition) = &relation.watermark else { return Ok(None) };
        let time = &relation.visible[definition.column];
        let column = |name: &str| Column::new(name, time.column.ty.clone(), true);
        let output = arrow_schema(&[column("watermark"), column("time")]);
        let exprs = [definition.expression.clone(), time.value.clone()];
        let projection = Projection::new(&exprs, &arrow_schema(&relation.columns), output, &NowHandle::default())?;
        Ok(Some(EventTimes { projection, future_guard: definition.future_guard, manual: definition.manual }))
    }

    /// The same for changes: what is taken back says nothing about how far time has come, but can be late.
    pub fn of_changes(&self, changes: &ChangeBatch, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
        let all = self.of(&changes.rows, now);
        let Some(weights) = &changes.weights else { return all };
        let inserted = BooleanArray::from_unary(weights, |w| w > 0);
        let proposed = changes.filter(&inserted).ok().and_then(|inserted| self.of(&inserted.rows, now).0);
        (proposed, all.1)
    }

    /// (proposed watermark, oldest event time). Rows whose time cannot be computed propose nothing; they are found by halving.
    pub fn of(&self, rows: &arrow::array::RecordBatch, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
        let Ok(times) = self.projection.project(rows) else {
            if rows.num_rows() < 2 {
                return (None, None);
            }
            let half = rows.num_rows() / 2;
            let (left, right) = (self.of(&rows.slice(0, half), now), self.of(&rows.slice(half, rows.num_rows() - half), now));
            return (left.0.max(right.0), left.1.into_iter().chain(right.1).min());
        };
        let limit = self.future_guard.map_or(i64::MAX, |guard| now.0.saturating_add(guard));
        let proposed = micros(times.column(0)).and_then(|v| max_below(v, limit)).filter(|_| !self.manual);
        let oldest = micros(times.column(1)).and_then(arrow::compute::min);
        (proposed.map(Timestamp), oldest.map(Timestamp))
    }
}

fn micros(column: &arrow::array::ArrayRef) -> Option<&arrow::array::PrimitiveArray<TimestampMicrosecondType>> {
    column.as_primitive_opt::<TimestampMicrosecondType>()
}

fn max_below(values: &arrow::array::PrimitiveArray<TimestampMicrosecondType>, limit: i64) -> Option<i64> {
    match arrow::compute::max(values) {
        Some(max) if max > limit => values.iter().flatten().filter(|v| *v <= limit).max(),
        max => max,
    }
}

/// Who is told that something arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The live reader of a source.
    Source(RelationId),
    /// A private reader of a job's backfill, of this source.
    Backfill(RelationId, RelationId),
}

pub struct Inbox {
    reader: Reader,
    times: Option<EventTimes>,
    clock: Arc<dyn Clock>,
    events: Sender<Event>,
    state: Mutex<State>,
    space: Condvar,
    /// An event is under way that the coordinator has not yet acted on.
    announced: AtomicBool,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Arrived>,
    bytes: usize,
    closed: bool,
    problem: Option<String>,
    present_ends: BTreeMap<PartitionId, Offset>,
}

impl Inbox {
    pub fn new(reader: Reader, relation: &Relation, clock: Arc<dyn Clock>, events: Sender<Event>) -> Result<Arc<Self>> {
        let times = EventTimes::new(relation)?;
        Ok(Arc::new(Inbox {
            reader,
            times,
            clock,
            events,
            state: Mutex::default(),
            space: Condvar::new(),
            announced: AtomicBool::new(false),
        }))
    }

    /// Everything that has arrived, at most about `bytes_max`.
    pub fn drain(&self, bytes_max: usize) -> Vec<Arrived> {
        self.announced.store(false, Ordering::SeqCst);
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(arrived) = state.batches.pop_front()
        {
            bytes += arrived.bytes;
            taken.push(arrived);
        }
        state.bytes -= bytes;
        let left = !state.batches.is_empty();
        drop(state);
        self.space.notify_all();
        if left {
            self.announce();
        }
        taken
    }

    pub fn problem(&self) -> Option<String> {
        self.state.lock().problem.clone()
    }

    /// What the readers last said of where partitions end.
    pub fn present_ends(&self) -> BTreeMap<PartitionId, Offset> {
        self.state.lock().present_ends.clone()
    }

    /// Ends the readers that push here.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.space.notify_all();
    }

    fn announce(&self) {
        if !self.announced.swap(true, Ordering::SeqCst) {
            // A coordinator that is gone needs no news.
            let _gone = self.events.send(Event::Arrived(self.reader));
        }
    }
}

impl BatchSink for Inbox {
    fn push(&self, batch: SourceBatch) -> bool {
        let (watermark, oldest) = match &self.times {
            Some(times) if batch.rows.num_rows() > 0 => times.of_changes(&batch.changes(), self.clock.now()),
            _ => (None, None),
        };
        let bytes = batch_bytes(&batch);
        let arrived = Arrived { batch, bytes, watermark, oldest, at: self.clock.instant() };
        let mut state = self.state.lock();
        while state.bytes > 0 && state.bytes + bytes > INBOX_BYTES_MAX && !state.closed {
            self.space.wait_for(&mut state, CLOSED_POLL);
        }
        if state.closed {
            return false;
        }
        state.bytes += bytes;
        state.batches.push_back(arrived);
        drop(state);
        self.announce();
        true
    }

    fn report(&self, problem: Option<String>) {
        match &problem {
            Some(problem) => tracing::warn!(reader = ?self.reader, "source in trouble, retrying: {problem}"),
            None => tracing::info!(reader = ?self.reader, "source is well again"),
        }
        self.state.lock().problem = problem;
        self.announce();
    }

    fn note_end(&self, partition: PartitionId, end: Offset) {
        let before = self.state.lock().present_ends.insert(partition, end);
        if before != Some(end) {
            self.announce();
        }
    }

    fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

fn batch_bytes(batch: &SourceBatch) -> usize {
    let rows: usize = batch.rows.columns().iter().map(|c| c.get_array_memory_size()).sum();
    let bad: usize = batch.undecodable.iter().map(|u| u.reason.len() + u.excerpt.len() + 64).sum();
    rows + bad + batch.offsets.len() * 8 + 256
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("reader", &self.reader).finish_non_exhaustive()
    }
}
