//! Exchange between workers: what a worker holds back for the others until a pile is worth sending, and what it still
//! expects from them in this step.
//!
//! Within a step every worker sends every other any number of piles, the last one marked, also when it is empty. An
//! exchange is complete once the worker has sent its own last piles and got one from each other worker.

use crate::operators::exchange::Partitioner;
use arrow::datatypes::SchemaRef;
use eddyline_common::{ChangeBatch, Epoch, RelationId, Result, TaggedBatch};

/// Rows for one worker that are collected before they are sent: large enough that the receiver works on full vectors,
/// small enough that it starts before the step is over.
const PILE_ROWS: usize = 8 * 1024;
/// Pieces of a pile are put together when they are smaller than this on average.
const PIECE_ROWS: usize = 1024;

/// Rows on their way to one worker.
pub(crate) struct Delivery {
    pub job: RelationId,
    pub epoch: Epoch,
    pub node: usize,
    pub batches: Vec<TaggedBatch>,
    /// Nothing else comes from this sender in this step.
    pub last: bool,
}

#[derive(Default)]
struct Pile {
    rows: usize,
    batches: Vec<TaggedBatch>,
}

/// One exchange node on one worker.
pub(crate) struct Exchange {
    partitioner: Partitioner,
    schema: SchemaRef,
    worker: usize,
    piles: Vec<Pile>,
    sent: bool,
    lasts: usize,
}

impl Exchange {
    pub(crate) fn new(partitioner: Partitioner, schema: SchemaRef, worker: usize, workers: usize) -> Self {
        let piles = (0..workers).map(|_| Pile::default()).collect();
        Exchange { partitioner, schema, worker, piles, sent: false, lasts: 0 }
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
            pile.batches.push(TaggedBatch { changes, arrival_watermark, now });
            if pile.rows >= PILE_ROWS {
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

    pub(crate) fn received_last(&mut self) {
        self.lasts += 1;
    }

    pub(crate) fn closed(&self) -> bool {
        self.sent
    }

    pub(crate) fn complete(&self) -> bool {
        self.sent && self.lasts + 1 == self.piles.len()
    }
}

impl Pile {
    /// The rows of the pile; small pieces with the same tag become one.
    fn take(&mut self, schema: &SchemaRef) -> Result<Vec<TaggedBatch>> {
        let Pile { rows, batches } = std::mem::take(self);
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
