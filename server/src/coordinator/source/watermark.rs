//! What a source's watermark comes to: the least of its partitions that are not idle, the greatest where all are, or what it is advanced to by hand. A partition
//! is idle that was silent for its timeout although it could have been heard. Nothing here moves the watermark: a cut does.

use super::Source;
use super::partition::Partition;
use eddyline_common::Timestamp;
use eddyline_planner::catalog::Relation;
use std::time::{Duration, Instant};

pub(super) fn idle_timeout(relation: &Relation) -> Option<Duration> {
    relation.watermark.as_ref().and_then(|w| w.idle_timeout).map(|us| Duration::from_micros(us as u64))
}

impl Source {
    pub fn advance_watermark(&mut self, to: Timestamp) {
        self.advance = Some(self.advance.map_or(to, |a| a.max(to)));
    }

    pub fn has_advance(&self) -> bool {
        self.advance.is_some()
    }

    pub(super) fn turns_idle(&self, partition: &Partition) -> bool {
        self.idle_from(partition).is_some_and(|at| self.clock.instant() >= at)
    }

    /// Whether there is something that its reader could not read when it last said.
    pub(super) fn is_troubled(&self) -> bool {
        self.stats.problem.read().is_some()
    }

    /// When a partition turns idle, if it stays silent. Not as long as nobody listens or it may not be heard, nor if what it says may be
    /// among what there is no room for.
    fn idle_from(&self, partition: &Partition) -> Option<Instant> {
        let may_be_idle = !partition.idle && partition.watermark != Timestamp::MAX && self.partitions.len() > 1;
        let is_heard = self.reader.is_some() && !self.is_troubled() && (self.full_since.is_none() || partition.has_arrived());
        self.idle_timeout.filter(|_| may_be_idle && is_heard).map(|timeout| partition.last_arrival + timeout)
    }

    pub(super) fn next_idle(&self) -> Option<Instant> {
        self.partitions.values().filter_map(|p| self.idle_from(p)).min()
    }

    pub(super) fn next_watermark(&mut self) -> Timestamp {
        let manual = self.advance.take();
        let finished = !self.partitions.is_empty() && self.partitions.values().all(|p| p.watermark == Timestamp::MAX);
        if finished {
            return Timestamp::MAX;
        }
        if self.relation.watermark.is_none() {
            return self.watermark;
        }
        let is_manual = self.relation.watermark.as_ref().is_some_and(|w| w.manual);
        let proposed = if is_manual { manual } else { self.of_partitions() };
        self.watermark.max(proposed.unwrap_or(Timestamp::MIN))
    }

    /// Of partitions that fall silent together, any may be the first to turn idle: it does not matter which, since the one that is ahead counts in the end.
    fn of_partitions(&self) -> Option<Timestamp> {
        let open = || self.partitions.values().filter(|p| p.watermark != Timestamp::MAX);
        let heard = open().filter(|p| !p.idle).map(|p| p.watermark).min();
        heard.or_else(|| open().map(|p| p.watermark).max())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{IDLE_AFTER, Opened, empty_batch, idling, pass, source};
    use super::*;
    use eddyline_common::connector::BatchSink;
    use eddyline_common::{Epoch, Offset, PartitionId};
    use std::sync::Arc;

    /// A view that lags for hours has room for a moment only, again and again. The watermark must not wait for who has nothing to say.
    #[test]
    fn a_partition_that_is_read_to_its_end_turns_idle_while_others_wait_for_room() {
        for (end, is_idle) in [(1, true), (5, false)] {
            let (_reaper, mut source, inbox, _told, clock) = idling();
            inbox.push(empty_batch(1, 0, 1));
            inbox.note_end(PartitionId(1), Offset(end));
            source.receive(usize::MAX);
            let max = source.waiting_bytes();
            source.cut(Epoch(2), Timestamp(0), max);
            for offset in 0..8 {
                assert!(!source.partitions[&PartitionId(1)].idle || offset >= 4, "it was silent for {offset} quarters of the time");
                inbox.push(empty_batch(0, offset, offset + 1));
                source.receive(max);
                pass(&clock, IDLE_AFTER / 4);
                source.cut(Epoch(3 + offset as u64), Timestamp(0), max);
                source.listen_again(max);
            }
            assert_eq!(source.partitions[&PartitionId(1)].idle, is_idle, "it ends at {end}");
        }
    }

    /// What was written while its broker was away comes when that is back, and must not be late.
    #[test]
    fn a_partition_that_cannot_be_read_is_not_idle() {
        let (_reaper, mut source, inbox, _told, clock) = idling();
        for partition in 0..2 {
            inbox.push(empty_batch(partition, 0, 1));
            inbox.note_end(PartitionId(partition), Offset(1));
        }
        source.receive(usize::MAX);
        source.cut(Epoch(2), Timestamp(0), usize::MAX);
        pass(&clock, IDLE_AFTER / 2);
        inbox.report(Some("no broker answers".into()));
        assert!(!source.receive(usize::MAX));
        pass(&clock, 2 * IDLE_AFTER);
        assert!(!source.receive(usize::MAX) && source.next_idle().is_none(), "the broker is away");
        inbox.report(None);
        assert!(!source.receive(usize::MAX));
        pass(&clock, IDLE_AFTER / 2);
        assert!(!source.receive(usize::MAX), "it has been heard again for half of the time only");
        pass(&clock, IDLE_AFTER / 2);
        assert!(source.receive(usize::MAX));
        source.cut(Epoch(3), Timestamp(0), usize::MAX);
        assert!(source.partitions[&PartitionId(1)].idle);
    }

    /// Which of the timers fires first is chance.
    #[test]
    fn partitions_that_fall_silent_come_to_one_watermark_in_any_order() {
        for first in 0..2 {
            let (_reaper, mut source, inbox, _told, clock) = idling();
            let say = |source: &mut Source, partition: i32, offset: i64| {
                inbox.push(empty_batch(partition, offset, offset + 1));
                inbox.note_end(PartitionId(partition), Offset(offset + 1));
                source.receive(usize::MAX);
            };
            say(&mut source, 0, 0);
            say(&mut source, 1, 0);
            source.cut(Epoch(2), Timestamp(0), usize::MAX);
            for (partition, at) in [(0, 39), (1, 3)] {
                source.partitions.get_mut(&PartitionId(partition)).unwrap().watermark = Timestamp(at);
            }
            pass(&clock, IDLE_AFTER / 2);
            say(&mut source, 1 - first, 1);
            assert_eq!(source.cut(Epoch(3), Timestamp(0), usize::MAX).input.watermark, Timestamp(3));
            pass(&clock, IDLE_AFTER / 2);
            source.cut(Epoch(4), Timestamp(0), usize::MAX);
            assert!(source.partitions[&PartitionId(first)].idle && !source.partitions[&PartitionId(1 - first)].idle);
            pass(&clock, IDLE_AFTER / 2);
            assert_eq!(source.cut(Epoch(5), Timestamp(0), usize::MAX).input.watermark, Timestamp(39), "{first} was the first");
        }
    }

    /// What it says later is not late because others have ended.
    #[test]
    fn a_silent_partition_beside_one_that_has_ended_holds_the_watermark() {
        let (_reaper, mut source, inbox, _told, clock) = idling();
        for partition in 0..2 {
            inbox.push(empty_batch(partition, 0, 1));
            inbox.note_end(PartitionId(partition), Offset(1));
        }
        source.receive(usize::MAX);
        source.cut(Epoch(2), Timestamp(0), usize::MAX);
        for (partition, at) in [(0, Timestamp::MAX), (1, Timestamp(3))] {
            source.partitions.get_mut(&PartitionId(partition)).unwrap().watermark = at;
        }
        pass(&clock, IDLE_AFTER);
        assert_eq!(source.cut(Epoch(3), Timestamp(0), usize::MAX).input.watermark, Timestamp(3));
        assert!(source.partitions[&PartitionId(1)].idle);
    }

    /// What is advanced where nothing is to come is taken by one cut, and then it is no input any more.
    #[test]
    fn a_finished_source_that_is_advanced_makes_one_cut() {
        let create = "CREATE SOURCE bid (auction BIGINT, date_time TIMESTAMP, WATERMARK FOR date_time AS date_time) \
                      WITH (connector = 'nexmark', nexmark.table.type = 'bid', watermark.mode = 'manual')";
        let mut source = source(create, Arc::new(Opened::default()));
        let finished = Partition { watermark: Timestamp::MAX, ..Partition::at(Offset(1), source.clock.instant()) };
        source.partitions.insert(PartitionId(0), finished);
        source.advance_watermark(Timestamp(5));
        assert!(source.has_input());
        assert_eq!(source.cut(Epoch(2), Timestamp(0), 1).input.watermark, Timestamp::MAX);
        assert!(!source.has_input() && !source.has_advance());
    }
}
