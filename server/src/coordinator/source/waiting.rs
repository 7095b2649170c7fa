//! What has arrived of a source and waits for a cut. It is bounded: when it is full, nothing more is taken from the inbox, which fills and
//! holds up the readers. It does not know when a cut is due, nor what takes the rows.

use super::super::Event;
use super::super::inbox::Reader;
use super::super::stats::PartitionOffsets;
use super::Source;
use super::partition::Partition;
use eddyline_common::{Offset, PartitionId};
use std::sync::atomic::Ordering;

impl Source {
    /// Moves what has arrived to its partition; true if a cut would have something to take.
    pub fn receive(&mut self, waiting_max: usize) -> bool {
        let Some(inbox) = self.inbox.clone() else { return self.has_input() };
        let arrived = if self.note_room(waiting_max) { inbox.drain(self.room(waiting_max)) } else { inbox.leave() };
        for arrived in arrived {
            let start = arrived.batch.start;
            let discovered = || Partition { discovered: Some(start), ..Partition::at(start, arrived.at) };
            let partition = self.partitions.entry(arrived.batch.partition).or_insert_with(discovered);
            partition.last_arrival = arrived.at;
            partition.waiting.push_back(arrived);
        }
        self.note_room(waiting_max);
        let (was_troubled, problem) = (self.is_troubled(), inbox.problem());
        if was_troubled && problem.is_none() {
            self.listen_anew();
        }
        *self.stats.problem.write() = problem;
        for (id, end) in inbox.present_ends() {
            self.partitions.entry(id).and_modify(|p| p.present_end = Some(end));
        }
        for (id, end) in inbox.all_read() {
            self.partitions.entry(id).and_modify(|p| p.all_read = Some(end));
        }
        self.note_offsets();
        self.has_input()
    }

    /// If it was full and is not any more: what has arrived since is announced again, which `receive` then takes.
    pub fn listen_again(&mut self, waiting_max: usize) {
        if self.full_since.is_some() && self.note_room(waiting_max) {
            // A coordinator that is gone needs no news.
            let _gone = self.events.send(Event::Arrived(Reader::Source(self.id())));
        }
    }

    /// Bytes that may be taken of what has arrived. Of a recorded cut all must be here before any of it can go.
    fn room(&self, waiting_max: usize) -> usize {
        if self.is_replaying() { waiting_max } else { waiting_max.saturating_sub(self.waiting_bytes()) }
    }

    /// Whether there is room. The time without any is no silence of partitions that may have had something to say.
    fn note_room(&mut self, waiting_max: usize) -> bool {
        let (has_room, now) = (self.room(waiting_max) > 0, self.clock.instant());
        if !has_room {
            self.full_since = self.full_since.or(Some(now));
        } else if let Some(since) = self.full_since.take() {
            for partition in self.partitions.values_mut().filter(|p| !p.has_arrived()) {
                partition.last_arrival += now - since;
            }
        }
        has_room
    }

    /// Where a partition ends outside, if the connector knows.
    pub fn present_end(&self, partition: PartitionId) -> Option<Offset> {
        self.partitions.get(&partition)?.present_end
    }

    /// Where partitions stand, and the offsets between what cuts have taken and what there is, as far as the connector knows.
    pub(super) fn note_offsets(&self) {
        let known = self.partitions.iter().filter(|(_, p)| p.discovered.is_none());
        let mut offsets = self.stats.offsets.write();
        offsets.clear();
        offsets.extend(known.map(|(id, p)| PartitionOffsets { partition: *id, next: p.end, end: p.present_end }));
        drop(offsets);
        let behind = |p: &Partition| p.present_end.map(|end| (end.0 - p.end.0).max(0));
        let lag = self.partitions.values().filter_map(behind).reduce(|a, b| a + b);
        self.stats.lag.store(lag.unwrap_or(-1), Ordering::Relaxed);
    }

    pub fn has_input(&self) -> bool {
        !self.is_replaying() && (self.advance.is_some() || self.partitions.values().any(|p| !p.waiting.is_empty() || self.turns_idle(p)))
    }

    pub fn waiting_bytes(&self) -> usize {
        self.partitions.values().map(|p| p.waiting.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{IDLE_AFTER, bid, empty_batch, idling, pass};
    use super::*;
    use eddyline_common::connector::BatchSink;
    use eddyline_common::runtime::{Clock, SystemClock};
    use eddyline_common::{Epoch, Timestamp};

    /// A job that is slower than its source must not have the whole of it in memory, and a partition whose records wait behind others' is
    /// not idle.
    #[test]
    fn what_waits_for_cuts_is_bounded_and_nobody_is_idle_who_is_not_heard() {
        let (_reaper, mut source, inbox, told, clock) = idling();
        let is_announced = || matches!(told.try_iter().last(), Some(Event::Arrived(Reader::Source(_))));
        let max = {
            inbox.push(empty_batch(1, 0, 1));
            source.receive(usize::MAX);
            source.waiting_bytes()
        };
        assert!(max > 0 && is_announced());
        for offset in 0..3 {
            inbox.push(empty_batch(0, offset, offset + 1));
        }
        source.receive(max);
        assert_eq!(source.waiting_bytes(), max, "it was full");
        source.cut(Epoch(2), Timestamp(0), max);
        pass(&clock, 2 * IDLE_AFTER);
        assert!(!source.has_input() && source.next_idle().is_none(), "its records may be among those that were not taken");
        assert!(is_announced(), "of what came first");
        source.listen_again(max);
        assert!(is_announced(), "there is room again");
        assert!(!source.has_input() && source.next_idle().is_some_and(|at| at > source.clock.instant()));
        source.receive(max);
        assert_eq!(source.waiting_bytes(), max, "as much as there is room for");
        source.listen_again(max);
        source.receive(max);
        assert!(source.waiting_bytes() == max && inbox.drain(usize::MAX).len() == 2);
    }

    /// The broker may go away while there is no room: that is shown, and so is how much there is to read.
    #[test]
    fn what_readers_say_is_heard_while_there_is_no_room_for_what_they_read() {
        let (_reaper, mut source, inbox, told, _clock) = idling();
        let mut hears = || {
            let is_told = told.try_iter().count() > 0;
            source.receive(1);
            let problem = source.stats.problem.read().clone();
            (is_told, problem.is_some(), source.stats.lag.load(Ordering::Relaxed))
        };
        inbox.push(empty_batch(0, 0, 1));
        inbox.push(empty_batch(0, 1, 2));
        assert_eq!(hears(), (true, false, -1));
        hears();
        assert_eq!(hears(), (false, false, -1), "it is full");
        inbox.report(Some("the broker is away".to_string()));
        assert_eq!(hears(), (true, true, -1));
        inbox.note_end(PartitionId(0), Offset(100));
        assert_eq!(hears(), (true, true, 100));
    }

    #[test]
    fn a_source_lags_by_what_no_cut_has_taken() {
        let mut source = bid();
        let at = |end: i64, present_end: Option<i64>| Partition {
            present_end: present_end.map(Offset),
            ..Partition::at(Offset(end), SystemClock.instant())
        };
        let mut lag = |partitions: [Partition; 2]| {
            source.partitions = partitions.into_iter().enumerate().map(|(id, p)| (PartitionId(id as i32), p)).collect();
            source.note_offsets();
            source.stats.lag.load(Ordering::Relaxed)
        };
        assert_eq!(lag([at(10, Some(30)), at(5, Some(6))]), 21);
        // What the connector said of an end may be older than what was read since.
        assert_eq!(lag([at(10, Some(30)), at(9, Some(6))]), 20);
        assert_eq!(lag([at(10, Some(30)), at(5, None)]), 20, "of the ends that are known");
        assert_eq!(lag([at(10, None), at(5, None)]), -1);
    }
}
