//! Bounded queues of what relations emitted, epoch by epoch. Each consumer holds a cursor (its last stepped
//! epoch); the ring knows nothing of who they are.

use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, TaggedBatch, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// What one relation emitted in one epoch.
#[derive(Debug)]
pub struct RingEntry {
    pub epoch: Epoch,
    pub batches: Vec<TaggedBatch>,
    /// The relation's watermark after the epoch.
    pub watermark: Timestamp,
    pub bytes: usize,
    /// When the oldest of the rows came in.
    pub arrived: Instant,
    /// A source's position after the epoch.
    pub ends: Option<Arc<Vec<PartitionStart>>>,
}

/// All entries with `epoch > start`, oldest first.
#[derive(Debug, Default)]
pub struct Ring {
    entries: VecDeque<RingEntry>,
    start: Epoch,
    bytes: usize,
    /// The relation's watermark and a source's position at `start`.
    start_watermark: Timestamp,
    start_ends: Option<Arc<Vec<PartitionStart>>>,
}

/// The part of a ring that one step takes.
pub struct Taken {
    pub batches: Vec<TaggedBatch>,
    /// `None` when nothing changed.
    pub watermark: Option<Timestamp>,
    pub arrived: Option<Instant>,
}

impl Ring {
    /// An empty ring for what comes after `start`.
    pub fn new(start: Epoch, watermark: Timestamp) -> Self {
        Ring { start, start_watermark: watermark, ..Default::default() }
    }

    pub fn of_source(start: Epoch, watermark: Timestamp, ends: Vec<PartitionStart>) -> Self {
        Ring { start_ends: Some(Arc::new(ends)), ..Ring::new(start, watermark) }
    }

    /// The relation's watermark after `epoch`, which the ring still covers.
    pub fn watermark_at(&self, epoch: Epoch) -> Timestamp {
        let next = self.first_after(epoch);
        if next == 0 { self.start_watermark } else { self.entries[next - 1].watermark }
    }

    /// A source's position after `epoch`, which the ring still covers.
    pub fn ends_at(&self, epoch: Epoch) -> Arc<Vec<PartitionStart>> {
        let until = self.entries.iter().take(self.first_after(epoch));
        until.rev().find_map(|e| e.ends.clone()).or_else(|| self.start_ends.clone()).unwrap_or_default()
    }

    pub fn push(&mut self, entry: RingEntry) {
        assert!(entry.epoch > self.end(), "epochs enter a ring in order");
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
    }

    fn end(&self) -> Epoch {
        self.entries.back().map_or(self.start, |e| e.epoch)
    }

    /// Consumers behind this epoch have fallen off.
    pub fn start(&self) -> Epoch {
        self.start
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether anything was emitted in `after < epoch <= to`.
    pub fn has_changes(&self, after: Epoch, to: Epoch) -> bool {
        self.entries.get(self.first_after(after)).is_some_and(|e| e.epoch <= to)
    }

    /// Epochs of the entries in `after < epoch <= to` with their bytes, oldest first.
    pub fn epochs(&self, after: Epoch, to: Epoch) -> impl Iterator<Item = (Epoch, usize)> + '_ {
        self.entries.iter().skip(self.first_after(after)).take_while(move |e| e.epoch <= to).map(|e| (e.epoch, e.bytes))
    }

    /// Everything in `after < epoch <= to`. Batches are shared, not copied.
    pub fn take(&self, after: Epoch, to: Epoch) -> Taken {
        assert!(after >= self.start, "a consumer that fell off reads on its own");
        let mut taken = Taken { batches: Vec::new(), watermark: None, arrived: None };
        for entry in self.entries.iter().skip(self.first_after(after)).take_while(|e| e.epoch <= to) {
            taken.batches.extend(entry.batches.iter().cloned());
            taken.watermark = Some(entry.watermark);
            taken.arrived.get_or_insert(entry.arrived);
        }
        taken
    }

    /// Forgets entries up to and including `epoch`.
    pub fn trim(&mut self, epoch: Epoch) {
        while self.entries.front().is_some_and(|e| e.epoch <= epoch) {
            self.pop();
        }
        self.start = self.start.max(epoch);
    }

    /// The watermark at the start of a ring that keeps nothing.
    pub fn set_watermark(&mut self, watermark: Timestamp) {
        if self.entries.is_empty() {
            self.start_watermark = watermark;
        }
    }

    /// Forgets the oldest entries until at most `budget` bytes are left; the newest entry stays.
    pub fn evict_to(&mut self, budget: usize) {
        while self.bytes > budget && self.entries.len() > 1 {
            let epoch = self.pop();
            self.start = epoch;
        }
    }

    fn pop(&mut self) -> Epoch {
        let entry = self.entries.pop_front().expect("the caller saw an entry");
        self.bytes -= entry.bytes;
        self.start_watermark = entry.watermark;
        if entry.ends.is_some() {
            self.start_ends = entry.ends;
        }
        entry.epoch
    }

    fn first_after(&self, after: Epoch) -> usize {
        self.entries.partition_point(|e| e.epoch <= after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: u64, bytes: usize) -> RingEntry {
        RingEntry { epoch: Epoch(epoch), batches: vec![], watermark: Timestamp(epoch as i64), bytes, arrived: Instant::now(), ends: None }
    }

    #[test]
    fn consumers_take_ranges_and_fall_off() {
        let mut ring = Ring::new(Epoch(2), Timestamp(2));
        [3, 5, 9].into_iter().for_each(|e| ring.push(entry(e, 10)));
        assert!(!ring.has_changes(Epoch(3), Epoch(4)));
        assert!(ring.has_changes(Epoch(3), Epoch(5)));
        assert_eq!(ring.take(Epoch(2), Epoch(5)).watermark, Some(Timestamp(5)));
        assert_eq!(ring.take(Epoch(5), Epoch(8)).watermark, None);
        assert_eq!((ring.watermark_at(Epoch(2)), ring.watermark_at(Epoch(6))), (Timestamp(2), Timestamp(5)));
        ring.evict_to(15);
        assert_eq!((ring.start(), ring.bytes()), (Epoch(5), 10));
        ring.trim(Epoch(20));
        assert_eq!((ring.start(), ring.bytes()), (Epoch(20), 0));
    }
}
