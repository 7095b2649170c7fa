//! What a source held before anybody read it, and from which epoch on cuts have all of that. Who waits for it: the chapter `filling`.

use super::super::history;
use super::Source;
use super::partition::Partition;
use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, Timestamp};

/// Where a source ended when its first reader came.
pub(super) struct Present {
    pub ends: Vec<PartitionStart>,
    /// The epoch that first has all of it.
    pub reached: Option<Epoch>,
}

impl Source {
    /// It ended there when its first reader came, at `epoch`. Partitions that it does not know of yet are not waited for.
    pub fn expect(&mut self, mut ends: Vec<PartitionStart>, epoch: Epoch) {
        ends.retain(|end| self.partitions.contains_key(&end.partition));
        self.present = Some(Present { ends, reached: None });
        self.note_present(epoch);
    }

    pub fn is_filling(&self) -> bool {
        self.present.is_some()
    }

    /// Cuts up to `epoch` have been taken: perhaps all that was there.
    pub(super) fn note_present(&mut self, epoch: Epoch) {
        let Some(present) = self.present.as_mut().filter(|present| present.reached.is_none()) else { return };
        // Of files that were there some may be gone, before anybody has read them.
        let has_all = |p: &Partition| p.watermark == Timestamp::MAX || p.all_read.is_some_and(|end| p.end >= end);
        let has = |p: &Partition, end: &PartitionStart| p.end >= end.start || has_all(p);
        if present.ends.iter().all(|end| self.partitions.get(&end.partition).is_some_and(|p| has(p, end))) {
            present.reached = Some(epoch);
        }
    }

    /// Its reader may have come to the end of what there is, of which no cut tells. True if nothing of what was there at first is waited for
    /// any more since then.
    pub fn note_all_read(&mut self) -> bool {
        let lacks = |present: &Option<Present>| present.as_ref().is_some_and(|p| p.reached.is_none());
        let lacked = lacks(&self.present);
        self.note_present(self.ring.end());
        lacked && !lacks(&self.present)
    }

    /// From which epoch on all that was there is. What has come of a source in trouble is better than nothing.
    pub fn filled_from(&self) -> Epoch {
        match &self.present {
            Some(Present { reached: Some(epoch), .. }) => *epoch,
            Some(_) if self.stats.problem.read().is_none() => Epoch::MAX,
            _ => Epoch::ZERO,
        }
    }

    /// How much of what was there comes before `at`, the positions at an epoch.
    pub fn filled_permille(&self, at: &[PartitionStart], epoch: Epoch) -> u64 {
        let Some(present) = self.present.as_ref().filter(|p| p.reached.is_none_or(|reached| reached > epoch)) else { return 1000 };
        let (mut total, mut done) = (0_u64, 0_u64);
        for end in &present.ends {
            let start = history::offset_of(&self.starts, end.partition).unwrap_or_default();
            let come = history::offset_of(at, end.partition).unwrap_or(start).min(end.start);
            total += (end.start.0 - start.0).max(0) as u64;
            done += (come.0 - start.0).max(0) as u64;
        }
        done.saturating_mul(999).checked_div(total).unwrap_or(0).min(999)
    }

    /// True if nobody reads an epoch any more at which something of it lacks.
    pub fn forget_filled(&mut self, oldest: Epoch) -> bool {
        if self.present.as_ref().is_some_and(|present| present.reached.is_some_and(|epoch| epoch <= oldest)) {
            self.present = None;
        }
        self.present.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::reaper::Reaper;
    use super::super::testing::bid;
    use super::*;
    use eddyline_common::connector::BatchSink;
    use eddyline_common::runtime::SystemThreads;
    use eddyline_common::{Offset, PartitionId};

    #[test]
    fn what_was_there_at_first_is_waited_for_until_cuts_have_it() {
        let at = |offset| PartitionStart { partition: PartitionId(0), start: Offset(offset) };
        let mut source = bid();
        assert_eq!((source.filled_from(), source.filled_permille(&[], Epoch(1))), (Epoch::ZERO, 1000));
        source.expect(vec![at(10), PartitionStart { partition: PartitionId(7), start: Offset(5) }], Epoch(1));
        assert_eq!((source.filled_from(), source.filled_permille(&[at(5)], Epoch(1))), (Epoch::MAX, 499));
        *source.stats.problem.write() = Some("the broker is away".into());
        assert_eq!(source.filled_from(), Epoch::ZERO);
        *source.stats.problem.write() = None;
        assert_eq!(source.progress().present, [at(10)]);
        for (epoch, end) in [(2, 9), (3, 12)] {
            source.partitions.insert(PartitionId(0), Partition::at(Offset(end), source.clock.instant()));
            source.enter(Epoch(epoch), Timestamp(0), Timestamp::MIN, Vec::new());
        }
        assert_eq!((source.filled_from(), source.filled_permille(&[at(12)], Epoch(3))), (Epoch(3), 1000));
        assert!(source.progress().present.is_empty());
        assert!(!source.forget_filled(Epoch(2)) && source.forget_filled(Epoch(3)));
        source.expect(vec![at(12)], Epoch(4));
        assert_eq!(source.filled_from(), Epoch(4), "nothing is waited for that has come");
    }

    /// Files may be gone before anybody has read them: then their end is never come to.
    #[test]
    fn what_was_there_at_first_has_come_when_the_reader_has_read_all_there_is() {
        let at = |offset| PartitionStart { partition: PartitionId(0), start: Offset(offset) };
        let mut source = bid();
        let reaper = Reaper::start(&SystemThreads).unwrap();
        source.start(&reaper);
        source.expect(vec![at(10)], Epoch(1));
        let inbox = source.inbox.clone().unwrap();
        let mut said = |end: i64| {
            inbox.note_all_read(PartitionId(0), Offset(end));
            source.receive(1 << 20);
            (source.note_all_read(), source.filled_from())
        };
        assert_eq!(said(5), (false, Epoch::MAX), "what was pushed before must be in a cut");
        assert_eq!(said(0), (true, Epoch(1)));
        source.stop();
        assert!(source.forget_filled(Epoch(1)));
        source.expect(vec![at(10)], Epoch(3));
        assert_eq!(source.filled_from(), Epoch::MAX, "a reader that is gone says nothing of what is there now");
    }
}
