//! Where a source's reader threads leave decoded batches for the coordinator: bounded in bytes, each inbox and many of them together, with
//! the event times already computed on the reader's side. Knows nothing of cuts.

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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Decoded but not yet cut, at most: enough to keep the decoders busy for some tens of milliseconds.
const INBOX_BYTES_MAX: usize = 32 << 20;

/// What many inboxes hold together, about: all sources may be read at once, and all views of a source may fall behind at once.
const INBOXES_BYTES_MAX: usize = 8 * INBOX_BYTES_MAX;
/// What each of them holds at least.
const INBOX_BYTES_MIN: usize = 1 << 20;

/// As far as rows take a watermark, infinite times too: `Timestamp::MAX` says that an input has ended.
const WATERMARK_MAX: i64 = Timestamp::MAX.0 - 1;

/// A full sink looks this often whether it was closed.
const CLOSED_POLL: Duration = Duration::from_millis(100);

/// The memory that inboxes have together. One that is opened gets a share of what the others leave.
#[derive(Clone, Default)]
pub struct InboxRoom(Arc<AtomicUsize>);

/// What of it one inbox may hold, for as long as there is somebody who may fill it.
struct Share {
    room: InboxRoom,
    bytes: usize,
}

impl InboxRoom {
    fn share(&self) -> Share {
        let others = self.0.load(Ordering::Relaxed);
        let bytes = (INBOXES_BYTES_MAX.saturating_sub(others) / 8).clamp(INBOX_BYTES_MIN, INBOX_BYTES_MAX);
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Share { room: self.clone(), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A batch that waits for its cut.
#[derive(Debug)]
pub struct Arrived {
    pub batch: SourceBatch,
    pub bytes: usize,
    pub times: Observed,
    pub at: Instant,
}

/// What the event times of some rows say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The greatest watermark that they propose, those too far in the future left out.
    pub watermark: Option<Timestamp>,
    /// The smallest event time among them.
    pub oldest: Option<Timestamp>,
    /// How many propose a watermark too far in the future.
    pub ahead: u64,
}

/// Computes what event times say, on the side of whoever brings the rows.
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
    pub fn of_changes(&self, changes: &ChangeBatch, now: Timestamp) -> Observed {
        let all = self.of(&changes.rows, now);
        let Some(weights) = &changes.weights else { return all };
        let inserted = BooleanArray::from_unary(weights, |w| w > 0);
        let inserted = changes.filter(&inserted).map(|inserted| self.of(&inserted.rows, now)).unwrap_or_default();
        Observed { oldest: all.oldest, ..inserted }
    }

    /// Rows whose time cannot be computed propose nothing; they are found by halving.
    pub fn of(&self, rows: &arrow::array::RecordBatch, now: Timestamp) -> Observed {
        let Ok(times) = self.projection.project(rows) else {
            if rows.num_rows() < 2 {
                return Observed::default();
            }
            let half = rows.num_rows() / 2;
            return self.of(&rows.slice(0, half), now).and(self.of(&rows.slice(half, rows.num_rows() - half), now));
        };
        let limit = self.future_guard.map_or(i64::MAX, |guard| now.0.saturating_add(guard));
        let proposed = micros(times.column(0)).filter(|_| !self.manual);
        let (watermark, ahead) = proposed.map_or((None, 0), |proposed| max_up_to(proposed, limit));
        let oldest = micros(times.column(1)).and_then(arrow::compute::min);
        Observed { watermark: watermark.map(|at| Timestamp(at.min(WATERMARK_MAX))), oldest: oldest.map(Timestamp), ahead }
    }
}

impl Observed {
    /// Of these rows and the others.
    fn and(self, other: Observed) -> Observed {
        Observed {
            watermark: self.watermark.max(other.watermark),
            oldest: self.oldest.into_iter().chain(other.oldest).min(),
            ahead: self.ahead + other.ahead,
        }
    }
}

fn micros(column: &arrow::array::ArrayRef) -> Option<&arrow::array::PrimitiveArray<TimestampMicrosecondType>> {
    column.as_primitive_opt::<TimestampMicrosecondType>()
}

/// The greatest value that is not above the limit, and how many are above it.
fn max_up_to(values: &arrow::array::PrimitiveArray<TimestampMicrosecondType>, limit: i64) -> (Option<i64>, u64) {
    match arrow::compute::max(values) {
        Some(max) if max > limit => {
            let above = values.iter().flatten().filter(|v| *v > limit).count() as u64;
            (values.iter().flatten().filter(|v| *v <= limit).max(), above)
        }
        max => (max, 0),
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
    /// Its name.
    source: String,
    share: Share,
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
    all_read: BTreeMap<PartitionId, Offset>,
}

impl Inbox {
    pub fn new(reader: Reader, room: &InboxRoom, relation: &Relation, clock: Arc<dyn Clock>, events: Sender<Event>) -> Result<Arc<Self>> {
        let times = EventTimes::new(relation)?;
        Ok(Arc::new(Inbox {
            reader,
            source: relation.name.clone(),
            share: room.share(),
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

    /// Nothing of it, since there is no room; what comes is announced again.
    pub fn leave(&self) -> Vec<Arrived> {
        self.announced.store(false, Ordering::SeqCst);
        Vec::new()
    }

    pub fn problem(&self) -> Option<String> {
        self.state.lock().problem.clone()
    }

    /// What the readers last said of where partitions end.
    pub fn present_ends(&self) -> BTreeMap<PartitionId, Offset> {
        self.state.lock().present_ends.clone()
    }

    /// Up to where the readers have last said that they have read all there was.
    pub fn all_read(&self) -> BTreeMap<PartitionId, Offset> {
        self.state.lock().all_read.clone()
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
        let times = match &self.times {
            Some(times) if batch.rows.num_rows() > 0 => times.of_changes(&batch.changes(), self.clock.now()),
            _ => Observed::default(),
        };
        let bytes = batch_bytes(&batch);
        let arrived = Arrived { batch, bytes, times, at: self.clock.instant() };
        let mut state = self.state.lock();
        while state.bytes > 0 && state.bytes + bytes > self.share.bytes && !state.closed {
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
        let before = std::mem::replace(&mut self.state.lock().problem, problem.clone());
        match (before, problem) {
            (None, Some(problem)) => tracing::warn!(source = %self.source, "in trouble, retrying: {problem}"),
            // The words for it change with each attempt.
            (Some(_), Some(problem)) => tracing::info!(source = %self.source, "still in trouble: {problem}"),
            (_, None) => tracing::info!(source = %self.source, "well again"),
        }
        self.announce();
    }

    fn note_end(&self, partition: PartitionId, end: Offset) {
        let before = self.state.lock().present_ends.insert(partition, end);
        if before != Some(end) {
            self.announce();
        }
    }

    fn note_all_read(&self, partition: PartitionId, end: Offset) {
        let before = self.state.lock().all_read.insert(partition, end);
        if before != Some(end) {
            self.announce();
        }
    }

    fn bytes_max(&self) -> usize {
        self.share.bytes
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, RecordBatch, TimestampMicrosecondArray};

    #[test]
    fn a_hundred_inboxes_hold_little_more_than_a_few_and_give_it_back() {
        let room = InboxRoom::default();
        let mut shares: Vec<Share> = (0..8).map(|_| room.share()).collect();
        let all = |shares: &[Share]| shares.iter().map(|share| share.bytes).sum::<usize>();
        assert_eq!(shares[0].bytes, INBOX_BYTES_MAX);
        assert!(all(&shares) > INBOXES_BYTES_MAX / 2);
        shares.extend((8..100).map(|_| room.share()));
        assert!(all(&shares) < INBOXES_BYTES_MAX + 100 * INBOX_BYTES_MIN, "{}", all(&shares));
        shares.clear();
        assert_eq!(room.share().bytes, INBOX_BYTES_MAX);
    }

    const SECOND: i64 = 1_000_000;
    const NOW: Timestamp = Timestamp(1_700_000_000 * SECOND);

    #[test]
    fn what_is_too_far_ahead_is_counted_and_moves_nothing() {
        let catalog = crate::pgcatalog::tests::catalog_of(
            "CREATE TABLE t (at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 second') WITH (watermark.future-guard = '1 hour')",
        );
        let relation = catalog.by_name("t").unwrap();
        let times = EventTimes::new(relation).unwrap().unwrap();
        let schema = arrow_schema(&relation.columns);
        let rows = |seconds: &[Option<i64>]| {
            let at = seconds.iter().map(|s| s.map(|s| NOW.0 + s * SECOND)).collect::<TimestampMicrosecondArray>();
            RecordBatch::try_new(schema.clone(), vec![Arc::new(at)]).unwrap()
        };
        let observed = |watermark: Option<i64>, oldest: Option<i64>, ahead| {
            let at = |seconds: i64| Timestamp(NOW.0 + seconds * SECOND);
            Observed { watermark: watermark.map(at), oldest: oldest.map(at), ahead }
        };
        let several = rows(&[Some(-10), Some(7200), None, Some(3601), Some(9000)]);
        assert_eq!(times.of(&several, NOW), observed(Some(3600), Some(-10), 2));
        assert_eq!(times.of(&rows(&[Some(7200)]), NOW), observed(None, Some(7200), 1));
        assert_eq!(times.of(&rows(&[None]), NOW), Observed::default());
        // What is taken back can be late, and is nothing else.
        let changes = ChangeBatch::with_weights(several, Int64Array::from(vec![-1, -1, 1, 1, 1]));
        assert_eq!(times.of_changes(&changes, NOW), observed(Some(3600), Some(-10), 1));
    }

    #[test]
    fn an_infinite_time_ends_no_input() {
        let catalog = crate::pgcatalog::tests::catalog_of("CREATE TABLE t (at TIMESTAMP, WATERMARK FOR at AS at)");
        let relation = catalog.by_name("t").unwrap();
        let times = EventTimes::new(relation).unwrap().unwrap();
        let at: TimestampMicrosecondArray = [Some(5), Some(i64::MAX), Some(i64::MIN)].into_iter().collect();
        let rows = RecordBatch::try_new(arrow_schema(&relation.columns), vec![Arc::new(at)]).unwrap();
        let observed = times.of(&rows, NOW);
        assert_eq!((observed.watermark, observed.oldest), (Some(Timestamp(i64::MAX - 1)), Some(Timestamp(i64::MIN))));
        assert!(observed.watermark < Some(Timestamp::MAX), "the partition is read on");
    }
}
