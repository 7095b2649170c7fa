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

    /// A write that is in the log, and the watermark that its rows propose. One without rows takes part in a cut too, which whoever made it waits for.
    pub fn write(&mut self, changes: ChangeBatch, proposed: Option<Timestamp>) {
        self.proposed = self.proposed.max(proposed.unwrap_or(Timestamp::MIN));
        match changes.is_empty() {
            true => self.advanced = true,
            false => self.waiting.push(changes),
        }
    }

    /// The same out of the log, as of `now`.
    pub fn write_replayed(&mut self, changes: ChangeBatch, now: Timestamp) {
        let proposed = self.times.as_ref().and_then(|times| times.of_changes(&changes, now).watermark);
        self.write(changes, proposed);
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

    /// `arrived`: the present instant.
    pub fn cut(&mut self, epoch: Epoch, now: Timestamp, arrived: Instant) -> InputCut {
        let watermark = self.proposed;
        self.enter(epoch, now, arrived, watermark);
        InputCut { watermark, partitions: Vec::new(), notes: Vec::new() }
    }

    /// Takes what waits into an epoch of the log, with the watermark recorded there.
    pub fn cut_replayed(&mut self, epoch: Epoch, now: Timestamp, arrived: Instant, cut: &InputCut) {
        self.enter(epoch, now, arrived, cut.watermark);
        self.proposed = cut.watermark;
    }

    fn enter(&mut self, epoch: Epoch, now: Timestamp, arrived: Instant, watermark: Timestamp) {
        let arrival_watermark = self.watermark;
        if !self.waiting.is_empty() {
            self.written = epoch;
        }
        let batches: Vec<_> = self.waiting.drain(..).map(|changes| TaggedBatch { changes, arrival_watermark, now }).collect();
        let bytes = batches.iter().map(|b| b.changes.bytes()).sum();
        self.watermark = watermark;
        self.advanced = false;
        self.ring.push(RingEntry { epoch, batches, watermark, bytes, arrived, ends: None });
    }
}
