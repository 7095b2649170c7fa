//! What a source's watermark comes to: the least of its partitions that are not idle, or what it is advanced to by hand. A partition is idle
//! that was silent for its timeout although it could have been heard. Nothing here moves the watermark: a cut does.

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

    /// When a partition turns idle, if it stays silent. Not as long as nobody listens, or what it says may be among what there is no room for.
    fn idle_from(&self, partition: &Partition) -> Option<Instant> {
        let may_be_idle = !partition.idle && partition.watermark != Timestamp::MAX && self.partitions.len() > 1;
        let is_heard = self.reader.is_some() && (self.full_since.is_none() || partition.has_arrived());
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
        let of_partitions = self.partitions.values().filter(|p| !p.idle).map(|p| p.watermark).min().unwrap_or(Timestamp::MIN);
        let is_manual = self.relation.watermark.as_ref().is_some_and(|w| w.manual);
        let proposed = if is_manual { manual.unwrap_or(Timestamp::MIN) } else { of_partitions };
        self.watermark.max(proposed)
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
