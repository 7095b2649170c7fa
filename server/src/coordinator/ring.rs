//! Bounded queues of what relations emitted, epoch by epoch. Each consumer holds a cursor (its last stepped
//! epoch); the ring knows nothing of who they are.

use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, TaggedBatch, Timestamp};
use std::collections::{BTreeSet, VecDeque};
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

/// All entries with `epoch > start`, oldest first; of those before that some consumer still lacks, the outlines.
#[derive(Debug, Default)]
pub struct Ring {
    entries: VecDeque<RingEntry>,
    start: Epoch,
    bytes: usize,
    /// What entries that were evicted led to. A job whose step is under way, or that reads on its own, asks for it.
    evicted: VecDeque<Outline>,
    /// Before all of those.
    base: Outline,
}

/// A relation's watermark and a source's position after an epoch.
#[derive(Clone, Debug, Default)]
struct Outline {
    epoch: Epoch,
    watermark: Timestamp,
    ends: Option<Arc<Vec<PartitionStart>>>,
}

/// The part of a ring that one step takes.
pub struct Taken {
    pub batches: Vec<TaggedBatch>,
    pub bytes: usize,
    /// `None` when nothing changed.
    pub watermark: Option<Timestamp>,
    pub arrived: Option<Instant>,
}

impl Ring {
    /// An empty ring for what comes after `start`.
    pub fn new(start: Epoch, watermark: Timestamp) -> Self {
        Ring { start, base: Outline { epoch: start, watermark, ends: None }, ..Default::default() }
    }

    pub fn of_source(start: Epoch, watermark: Timestamp, ends: Vec<PartitionStart>) -> Self {
        let base = Outline { epoch: start, watermark, ends: Some(Arc::new(ends)) };
        Ring { start, base, ..Default::default() }
    }

    /// The relation's watermark after `epoch`, to which the ring was not trimmed yet.
    pub fn watermark_at(&self, epoch: Epoch) -> Timestamp {
        match self.first_after(epoch) {
            0 => self.outline_at(epoch).watermark,
            next => self.entries[next - 1].watermark,
        }
    }

    /// A source's position after `epoch`, to which the ring was not trimmed yet.
    pub fn ends_at(&self, epoch: Epoch) -> Arc<Vec<PartitionStart>> {
        let until = self.entries.iter().take(self.first_after(epoch));
        until.rev().find_map(|e| e.ends.clone()).or_else(|| self.outline_at(epoch).ends.clone()).unwrap_or_default()
    }

    fn outline_at(&self, epoch: Epoch) -> &Outline {
        let after = self.evicted.partition_point(|o| o.epoch <= epoch);
        after.checked_sub(1).map_or(&self.base, |last| &self.evicted[last])
    }

    pub fn push(&mut self, entry: RingEntry) {
        assert!(entry.epoch > self.end(), "epoch {} enters a ring after epoch {}", entry.epoch, self.end());
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
    }

    /// The newest entry's epoch; without entries one that every consumer has.
    pub fn end(&self) -> Epoch {
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
        let mut taken = Taken { batches: Vec::new(), bytes: 0, watermark: None, arrived: None };
        for entry in self.entries.iter().skip(self.first_after(after)).take_while(|e| e.epoch <= to) {
            taken.batches.extend(entry.batches.iter().cloned());
            taken.bytes += entry.bytes;
            taken.watermark = Some(entry.watermark);
            taken.arrived.get_or_insert(entry.arrived);
        }
        taken
    }

    /// Forgets entries up to and including `epoch`, which every consumer has.
    pub fn trim(&mut self, epoch: Epoch) {
        while self.evicted.front().is_some_and(|o| o.epoch <= epoch) {
            self.base = self.evicted.pop_front().expect("just seen");
        }
        while self.entries.front().is_some_and(|e| e.epoch <= epoch) {
            self.base = self.pop();
        }
        self.start = self.start.max(epoch);
    }

    /// The watermark at the start of a ring that keeps nothing.
    pub fn set_watermark(&mut self, watermark: Timestamp) {
        if self.entries.is_empty() {
            self.base.watermark = watermark;
        }
    }

    /// Forgets the oldest entries up to `last` until at most `budget` bytes are left; the newest entry stays.
    pub fn evict_to(&mut self, budget: usize, last: Epoch) {
        while self.bytes > budget && self.entries.len() > 1 && self.entries[0].epoch <= last {
            let outline = self.pop();
            self.start = outline.epoch;
            self.evicted.push_back(outline);
        }
    }

    /// What was emitted at `epoch` is not here: consumers that lack it have fallen off.
    pub fn lose(&mut self, epoch: Epoch, watermark: Timestamp) {
        assert!(epoch > self.end(), "epoch {epoch} is lost by a ring after epoch {}", self.end());
        while !self.entries.is_empty() {
            let outline = self.pop();
            self.evicted.push_back(outline);
        }
        self.evicted.push_back(Outline { epoch, watermark, ends: None });
        self.start = epoch;
    }

    /// Forgets outlines that none of the epochs `asked` is answered by: a consumer that lags for long may ask for these only, or for
    /// what is yet to come. So outlines are as few as those epochs.
    pub fn forget_outlines(&mut self, asked: &BTreeSet<Epoch>) {
        let mut next = self.evicted.iter().skip(1).map(|o| o.epoch).collect::<Vec<_>>().into_iter();
        // The last one says where the ring starts.
        self.evicted.retain(|outline| next.next().is_none_or(|next| asked.range(outline.epoch..next).next().is_some()));
    }

    fn pop(&mut self) -> Outline {
        let entry = self.entries.pop_front().expect("the caller saw an entry");
        self.bytes -= entry.bytes;
        let ends = entry.ends.or_else(|| self.evicted.back().unwrap_or(&self.base).ends.clone());
        Outline { epoch: entry.epoch, watermark: entry.watermark, ends }
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
        ring.evict_to(15, Epoch::MAX);
        assert_eq!((ring.start(), ring.bytes()), (Epoch(5), 10));
        ring.trim(Epoch(20));
        assert_eq!((ring.start(), ring.bytes()), (Epoch(20), 0));
    }

    #[test]
    fn what_is_lost_is_read_elsewhere() {
        let mut ring = Ring::new(Epoch(2), Timestamp(2));
        [3, 5].into_iter().for_each(|e| ring.push(entry(e, 10)));
        ring.lose(Epoch(8), Timestamp(8));
        assert_eq!((ring.start(), ring.end(), ring.bytes()), (Epoch(8), Epoch(8), 0));
        let watermarks = |ring: &Ring| [2, 4, 7, 8, 9].map(|e| ring.watermark_at(Epoch(e)).0);
        assert_eq!(watermarks(&ring), [2, 3, 5, 8, 8]);
        ring.push(entry(9, 10));
        assert_eq!((watermarks(&ring)[4], ring.take(Epoch(8), Epoch(9)).bytes), (9, 10));
        ring.trim(Epoch(8));
        assert_eq!((ring.evicted.len(), ring.bytes()), (0, 10));
    }

    #[test]
    fn what_was_evicted_still_says_where_it_ended() {
        let at = |offset: u64| {
            vec![PartitionStart { partition: eddyline_common::PartitionId(0), start: eddyline_common::Offset(offset as i64) }]
        };
        let mut ring = Ring::of_source(Epoch(2), Timestamp(2), at(20));
        [3, 5, 9].into_iter().for_each(|e| ring.push(RingEntry { ends: Some(Arc::new(at(e * 10))), ..entry(e, 10) }));
        ring.evict_to(0, Epoch::MAX);
        assert_eq!(ring.start(), Epoch(5));
        let seen = |ring: &Ring| [2, 3, 4, 5, 8, 9].map(|e| (ring.watermark_at(Epoch(e)).0, ring.ends_at(Epoch(e))[0].start.0));
        assert_eq!(seen(&ring), [(2, 20), (3, 30), (3, 30), (5, 50), (5, 50), (9, 90)]);
        ring.push(RingEntry { ends: Some(Arc::new(at(110))), ..entry(11, 10) });
        ring.evict_to(0, Epoch::MAX);
        ring.forget_outlines(&BTreeSet::from([Epoch(4), Epoch(11)]));
        assert_eq!((ring.evicted.len(), ring.start()), (2, Epoch(9)), "what nobody asks for is forgotten");
        assert_eq!((ring.watermark_at(Epoch(4)).0, ring.watermark_at(Epoch(9)).0, ring.ends_at(Epoch(11))[0].start.0), (3, 9, 110));
        let mut ring = Ring::of_source(Epoch(2), Timestamp(2), at(20));
        [3, 5, 9].into_iter().for_each(|e| ring.push(RingEntry { ends: Some(Arc::new(at(e * 10))), ..entry(e, 10) }));
        ring.evict_to(0, Epoch::MAX);
        ring.trim(Epoch(4));
        assert_eq!(seen(&ring)[1..], [(3, 30), (3, 30), (5, 50), (5, 50), (9, 90)]);
        assert_eq!((ring.start(), ring.evicted.len()), (Epoch(5), 1));
    }
}
