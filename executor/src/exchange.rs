//! Exchange between workers: what a worker holds back for the others until a pile is worth sending, what came from them and is
//! not worked off, and what it still expects from them in this step.
//!
//! Within a step every worker sends every other any number of piles, the last one marked, also when it is empty. An
//! exchange is complete once the worker has sent its own last piles, got one from each other worker, and taken up what came.
//!
//! What is on its way through an exchange is bounded (`Transit`): when it is full, no worker works on what leads there. Nodes are in the plan's
//! order, so what comes out of the furthest full exchange leads to none that is full: somebody always has something that he may do.

use crate::operators::exchange::Partitioner;
use arrow::datatypes::SchemaRef;
use eddyline_common::{ChangeBatch, Epoch, RelationId, Result, TaggedBatch};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows for one worker that are collected before they are sent: large enough that the receiver works on full vectors,
/// small enough that it starts before the step is over.
const PILE_ROWS: usize = 8 * 1024;
/// Fewer of them, if they are wide.
const PILE_BYTES: usize = 4 << 20;
/// Pieces of a pile are put together when they are smaller than this on average.
const PIECE_ROWS: usize = 1024;

/// What may be on its way through one exchange of a job, between all its workers; the piles that were being sent when it became full
/// come on top. Enough that nobody waits who has not got far ahead.
pub(crate) const TRANSIT_BYTES_MAX: usize = if cfg!(test) { 64 << 10 } else { 32 << 20 };
/// Those who waited go on when it has come down to this.
const TRANSIT_BYTES_LOW: usize = TRANSIT_BYTES_MAX / 2;

/// Rows on their way to one worker.
pub(crate) struct Delivery {
    pub job: RelationId,
    pub epoch: Epoch,
    pub node: usize,
    pub batches: Vec<TaggedBatch>,
    /// Nothing else comes from this sender in this step.
    pub last: bool,
}

impl Delivery {
    fn bytes(&self) -> usize {
        self.batches.iter().map(|b| b.changes.bytes()).sum()
    }
}

/// How much is on its way through each exchange of a job: sent, and not taken up yet by the worker that it is for.
pub(crate) struct Transit {
    /// By node of the plan.
    bytes: Box<[AtomicUsize]>,
    /// The most there was in the step of any of them.
    most: AtomicUsize,
}

impl Transit {
    pub(crate) fn new(nodes: usize) -> Self {
        Transit { bytes: (0..nodes).map(|_| AtomicUsize::new(0)).collect(), most: AtomicUsize::new(0) }
    }

    pub(crate) fn send(&self, delivery: &Delivery) {
        let more = delivery.bytes();
        let bytes = self.bytes[delivery.node].fetch_add(more, Ordering::AcqRel) + more;
        self.most.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Rows have come to who works on them next. True if those who waited for it are to be told that there is room again.
    fn take_up(&self, delivery: &Delivery) -> bool {
        let less = delivery.bytes();
        let before = self.bytes[delivery.node].fetch_sub(less, Ordering::AcqRel);
        before >= TRANSIT_BYTES_LOW && before - less < TRANSIT_BYTES_LOW
    }

    /// The furthest exchange that is full.
    pub(crate) fn full(&self) -> Option<usize> {
        self.bytes.iter().rposition(|bytes| bytes.load(Ordering::Acquire) >= TRANSIT_BYTES_MAX)
    }

    /// The most that was on its way since it was last asked.
    pub(crate) fn take_most(&self) -> usize {
        self.most.swap(0, Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Pile {
    rows: usize,
    bytes: usize,
    batches: Vec<TaggedBatch>,
}

/// One exchange node on one worker.
pub(crate) struct Exchange {
    partitioner: Partitioner,
    schema: SchemaRef,
    worker: usize,
    piles: Vec<Pile>,
    /// From other workers.
    arrived: VecDeque<Delivery>,
    sent: bool,
    lasts: usize,
}

impl Exchange {
    pub(crate) fn new(partitioner: Partitioner, schema: SchemaRef, worker: usize, workers: usize) -> Self {
        let piles = (0..workers).map(|_| Pile::default()).collect();
        Exchange { partitioner, schema, worker, piles, arrived: VecDeque::new(), sent: false, lasts: 0 }
    }

    pub(crate) fn start(&mut self) {
        self.sent = false;
        self.lasts = 0;
    }

    /// Splits a batch. Calls `send` with every pile that is full; returns the rows this worker owns itself.
    pub(crate) fn push(&mut self, batch: TaggedBatch, mut send: impl FnMut(usize, Vec<TaggedBatch>)) -> Result<Option<TaggedBatch>> {
        let TaggedBatch { changes, arrival_watermark, now } = batch;
        let (worker, schema, piles) = (self.worker, &self.schema, &mut self.piles);
        let mut own = None;
        let mut outcome = Ok(());
        self.partitioner.split(changes, |owner, changes| {
            if owner == worker {
                own = Some(TaggedBatch { changes, arrival_watermark, now });
                return;
            }
            let pile = &mut piles[owner];
            pile.rows += changes.num_rows();
            pile.bytes += changes.bytes();
            pile.batches.push(TaggedBatch { changes, arrival_watermark, now });
            if pile.rows >= PILE_ROWS || pile.bytes >= PILE_BYTES {
                match pile.take(schema) {
                    Ok(batches) => send(owner, batches),
                    Err(error) => outcome = Err(error),
                }
            }
        })?;
        outcome.map(|()| own)
    }

    /// The input of the step is complete: hands over what is left for each other worker.
    pub(crate) fn close(&mut self, mut send: impl FnMut(usize, Vec<TaggedBatch>)) -> Result<()> {
        self.sent = true;
        for (owner, pile) in self.piles.iter_mut().enumerate() {
            if owner != self.worker {
                send(owner, pile.take(&self.schema)?);
            }
        }
        Ok(())
    }

    pub(crate) fn arrive(&mut self, delivery: Delivery) {
        self.lasts += usize::from(delivery.last);
        self.arrived.push_back(delivery);
    }

    pub(crate) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// The rows that came first, and whether those who waited for room are to be told that there is some.
    pub(crate) fn take_up(&mut self, transit: &Transit) -> Option<(Vec<TaggedBatch>, bool)> {
        let delivery = self.arrived.pop_front()?;
        let has_room = transit.take_up(&delivery);
        Some((delivery.batches, has_room))
    }

    pub(crate) fn closed(&self) -> bool {
        self.sent
    }

    pub(crate) fn complete(&self) -> bool {
        self.sent && self.lasts + 1 == self.piles.len() && self.arrived.is_empty()
    }
}

impl Pile {
    /// The rows of the pile; small pieces with the same tag become one.
    fn take(&mut self, schema: &SchemaRef) -> Result<Vec<TaggedBatch>> {
        let Pile { rows, batches, .. } = std::mem::take(self);
        if batches.len() < 2 || rows / batches.len() >= PIECE_ROWS {
            return Ok(batches);
        }
        let mut merged = Vec::new();
        for group in batches.chunk_by(|a, b| (a.arrival_watermark, a.now) == (b.arrival_watermark, b.now)) {
            let pieces: Vec<ChangeBatch> = group.iter().map(|b| b.changes.clone()).collect();
            let changes = if pieces.len() == 1 { pieces[0].clone() } else { ChangeBatch::concat(schema, &pieces)? };
            merged.push(TaggedBatch { changes, arrival_watermark: group[0].arrival_watermark, now: group[0].now });
        }
        Ok(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Placement;
    use crate::testing::{batch, schema};
    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use eddyline_common::{SqlType, Timestamp};
    use std::sync::Arc;

    #[test]
    fn wide_rows_are_sent_in_small_piles() {
        const ROWS: usize = 64;
        let schema = schema(&[("k", SqlType::BigInt), ("t", SqlType::Text)]);
        let keys = Int64Array::from_iter_values(0..ROWS as i64);
        let texts = StringArray::from_iter_values((0..ROWS).map(|_| "x".repeat(PILE_BYTES / 4)));
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(keys), Arc::new(texts)]).unwrap();
        let all = ChangeBatch::insertions(rows);
        let partitioner = Partitioner::new(vec![0], &schema, Placement::new(RelationId(1), None, 2)).unwrap();
        let mut exchange = Exchange::new(partitioner, schema, 0, 2);
        let mut sent = Vec::new();
        for row in 0..ROWS {
            let one = TaggedBatch { changes: all.slice(row, 1), arrival_watermark: Timestamp::MIN, now: Timestamp(0) };
            exchange.push(one, |_, batches| sent.push(batches.iter().map(|b| b.changes.num_rows()).sum::<usize>())).unwrap();
        }
        assert!(!sent.is_empty() && sent.iter().all(|rows| *rows == 4), "{sent:?}");
    }

    #[test]
    fn the_furthest_full_exchange_is_told_of_and_room_once() {
        let schema = schema(&[("k", SqlType::BigInt)]);
        let one = batch(&schema, &[&[1][..]; 1024], 0);
        let delivery = |node| Delivery { job: RelationId(1), epoch: Epoch(1), node, batches: vec![one.clone()], last: false };
        let bytes = delivery(0).bytes();
        let fits = TRANSIT_BYTES_MAX.div_ceil(bytes);
        let transit = Transit::new(3);
        let send = |node| (0..fits).for_each(|_| transit.send(&delivery(node)));
        assert_eq!(transit.full(), None);
        send(1);
        assert_eq!(transit.full(), Some(1));
        send(2);
        assert_eq!(transit.full(), Some(2));
        let told: Vec<bool> = (0..fits).map(|_| transit.take_up(&delivery(2))).collect();
        assert_eq!((told.iter().filter(|told| **told).count(), transit.full()), (1, Some(1)));
        assert_eq!((transit.take_most(), transit.take_most()), (fits * bytes, 0));
    }
}
