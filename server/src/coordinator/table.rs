//! A table as an input: writes that wait for their cut, and the ring that its own job and its readers take from.

use super::inbox::EventTimes;
use super::ring::{Ring, RingEntry};
use eddyline_common::{ChangeBatch, Epoch, InputCut, RelationId, Result, TaggedBatch, Timestamp};
use eddyline_planner::catalog::Relation;
use std::sync::Arc;
use std::time::Instant;

pub struct Table {
    pub relation: Arc<Relation>,
    pub ring: Ring,
    pub watermark: Timestamp,
    /// The epoch of its newest write that is in a cut.
    written: Epoch,
    times: Option<EventTimes>,
    /// Logged, not yet cut.
    waiting: Vec<ChangeBatch>,
    proposed: Timestamp,
    advanced: bool,
}

impl Table {
    pub fn new(relation: Arc<Relation>, epoch: Epoch, watermark: Timestamp) -> Result<Self> {
        let times = EventTimes::new(&relation)?;
        let ring = Ring::new(epoch, watermark);
        Ok(Table { relation, ring, watermark, written: epoch, times, waiting: Vec::new(), proposed: watermark, advanced: false })
    }

    /// Goes on with other options.
    pub fn alter(&mut self, relation: Arc<Relation>) -> Result<()> {
        self.times = EventTimes::new(&relation)?;
        self.relation = relation;
        Ok(())
    }

    pub fn id(&self) -> RelationId {
        self.relation.id
    }

    /// A write that is in the log.
    pub fn write(&mut self, changes: ChangeBatch, now: Timestamp) {
        if let Some(times) = &self.times {
            let inserted = insertions_of(&changes);
            self.proposed = self.proposed.max(times.of(&inserted, now).0.unwrap_or(Timestamp::MIN));
        }
        self.waiting.push(changes);
    }

    /// The epoch at which every write to it shows.
    pub fn written(&self, last_cut: Epoch) -> Epoch {
        if self.waiting.is_empty() { self.written } else { last_cut.next() }
    }

    pub fn advance_watermark(&mut self, to: Timestamp) {
        self.proposed = self.proposed.max(to);
        self.advanced = true;
    }

    pub fn has_input(&self) -> bool {
        self.advanced || !self.waiting.is_empty()
    }

    pub fn cut(&mut self, epoch: Epoch) -> InputCut {
        let watermark = self.proposed;
        self.enter(epoch, watermark);
        InputCut { watermark, partitions: Vec::new(), notes: Vec::new() }
    }

    /// Takes what waits into an epoch of the log, with the watermark recorded there.
    pub fn cut_replayed(&mut self, epoch: Epoch, cut: &InputCut) {
        self.enter(epoch, cut.watermark);
        self.proposed = cut.watermark;
    }

    fn enter(&mut self, epoch: Epoch, watermark: Timestamp) {
        let arrival_watermark = self.watermark;
        if !self.waiting.is_empty() {
            self.written = epoch;
        }
        let batches: Vec<_> = self.waiting.drain(..).map(|changes| TaggedBatch { changes, arrival_watermark }).collect();
        let bytes = batches.iter().map(|b| b.changes.bytes()).sum();
        self.watermark = watermark;
        self.advanced = false;
        self.ring.push(RingEntry { epoch, batches, watermark, bytes, arrived: Instant::now(), ends: None });
    }
}

/// Retracted rows say nothing about how far time has come.
fn insertions_of(changes: &ChangeBatch) -> arrow::array::RecordBatch {
    let Some(weights) = &changes.weights else { return changes.rows.clone() };
    let mask = arrow::array::BooleanArray::from_unary(weights, |w| w > 0);
    arrow::compute::filter_record_batch(&changes.rows, &mask).unwrap_or_else(|_| changes.rows.clone())
}
