//! A source in replay: the recorded cuts say where to split what is read again, and how far it is read. It does not know where they are
//! recorded.

use super::super::recorded::RecordedCut;
use super::super::ring::Ring;
use super::Source;
use super::partition::Partition;
use eddyline_common::connector::{PartitionStart, UndecodableRecord};
use eddyline_common::{Epoch, InputCut, Offset, PartitionId, Result, Timestamp};
use std::collections::BTreeSet;

impl Source {
    /// The epoch through which this source's rows are in the ring, given the last cut.
    pub fn frontier(&self, last_cut: Epoch) -> Epoch {
        self.replay.front().map_or(last_cut, |cut| Epoch(cut.epoch.0 - 1))
    }

    pub fn is_replaying(&self) -> bool {
        !self.replay.is_empty()
    }

    /// A cut of the log that is to be taken again.
    pub fn push_replay(&mut self, epoch: Epoch, now: Timestamp, cut: &InputCut) -> Result<()> {
        self.remember(&cut.notes)?;
        for moved in &cut.partitions {
            if let Some(start) = moved.start {
                self.partitions.insert(moved.partition, Partition::at(start, self.clock.instant()));
                self.starts.push(PartitionStart { partition: moved.partition, start });
            }
        }
        self.replay.push(epoch, now, cut);
        Ok(())
    }

    /// Replays recorded cuts whose rows have all been read again; the epochs of those entered. After the last one the reader has read what it
    /// was to read, and `start` opens one for what comes.
    pub fn cut_replayed(&mut self) -> Vec<(Epoch, Vec<(PartitionId, UndecodableRecord)>)> {
        let mut entered = Vec::new();
        while let Some(cut) = self.replay.front()
            && cut.partitions.iter().all(|c| self.arrived_up_to(c.partition) >= c.end)
        {
            let RecordedCut { epoch, now, watermark, partitions } = self.replay.pop().expect("just seen");
            let mut taken = Vec::new();
            for moved in &partitions {
                let partition = self.partitions.entry(moved.partition).or_insert_with(|| Partition::at(moved.end, self.clock.instant()));
                partition.take_up_to(moved.end, &mut taken);
                partition.watermark = moved.watermark;
                partition.idle = moved.idle;
            }
            let undecodable = self.enter(epoch, now, watermark, taken);
            entered.push((epoch, undecodable));
        }
        if !entered.is_empty() && !self.is_replaying() {
            self.stop();
        }
        entered
    }

    /// Lets partitions rest once much of them waits for others' rows of recorded cuts, and reads them again when that has gone. True if another
    /// reader is to be started for it.
    pub fn rest(&mut self, waiting_max: usize) -> bool {
        let Some(next) = self.replay.front() else { return false };
        let lacking: BTreeSet<PartitionId> =
            next.partitions.iter().filter(|moved| self.arrived_up_to(moved.partition) < moved.end).map(|moved| moved.partition).collect();
        let (waiting, share) = (self.waiting_bytes(), waiting_max / self.partitions.len().max(1));
        let mut resting = if waiting < waiting_max / 2 { BTreeSet::new() } else { self.resting.clone() };
        if waiting >= waiting_max {
            resting.extend(self.partitions.iter().filter(|(_, p)| p.waiting.bytes() >= share).map(|(id, _)| *id));
        }
        resting.retain(|id| !lacking.contains(id));
        if resting == self.resting {
            return false;
        }
        self.resting = resting;
        self.close();
        true
    }

    fn arrived_up_to(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(i64::MIN), Partition::arrived_up_to)
    }

    /// Takes the recorded cuts as read, without their rows: nobody needs them.
    pub fn skip_replay(&mut self) {
        while let Some(RecordedCut { epoch, watermark, partitions, .. }) = self.replay.pop() {
            for moved in &partitions {
                let at = Partition { watermark: moved.watermark, idle: moved.idle, ..Partition::at(moved.end, self.clock.instant()) };
                self.partitions.insert(moved.partition, at);
            }
            let before = self.watermark;
            self.watermark = watermark;
            self.history.push(epoch, before, watermark, self.ends(), 0, true);
            self.ring = Ring::of_source(epoch, watermark, self.ends());
            self.note_present(epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::reaper::Reaper;
    use super::super::testing::{Opened, empty_batch, source};
    use super::*;
    use eddyline_common::connector::{BatchSink, PartitionRange};
    use eddyline_common::cut::PartitionCut;
    use eddyline_common::runtime::{Clock, SystemClock, SystemThreads};
    use std::sync::Arc;

    /// One partition's broker may be away when the server starts again: of the others no more is read than the cuts have that wait for it.
    #[test]
    fn recorded_cuts_are_read_again_before_anything_else() {
        let (reaper, connector) = (Reaper::start(&SystemThreads).unwrap(), Arc::new(Opened::default()));
        let create = "CREATE SOURCE bid (auction BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid')";
        let mut source = source(create, connector.clone());
        let moved = |partition, start: Option<i64>, end| PartitionCut {
            start: start.map(Offset),
            ..Partition::at(Offset(end), SystemClock.instant()).cut(PartitionId(partition))
        };
        for (epoch, partitions) in [(2, vec![moved(0, None, 10)]), (3, vec![moved(0, None, 20), moved(1, Some(0), 5)])] {
            source.push_replay(Epoch(epoch), Timestamp(0), &InputCut { watermark: Timestamp::MIN, partitions, notes: Vec::new() }).unwrap();
        }
        let range = |partition, start, end: Option<i64>| PartitionRange {
            partition: PartitionId(partition),
            start: Offset(start),
            end: end.map(Offset),
        };
        let read = |source: &mut Source, batches: &[(i32, i64, i64)]| {
            source.start(&reaper);
            let inbox = source.inbox.clone().unwrap();
            for (partition, start, end) in batches {
                inbox.push(empty_batch(*partition, *start, *end));
            }
            source.receive(1);
            source.receive(1);
            let entered: Vec<u64> = source.cut_replayed().into_iter().map(|(epoch, _)| epoch.0).collect();
            (connector.ranges.lock().last().cloned().unwrap(), entered)
        };
        assert_eq!(read(&mut source, &[(0, 0, 20)]), (vec![range(0, 0, Some(20)), range(1, 0, Some(5))], vec![2]));
        source.stop();
        assert_eq!(read(&mut source, &[(0, 10, 20)]), (vec![range(0, 10, Some(20)), range(1, 0, Some(5))], Vec::new()));
        assert_eq!(read(&mut source, &[(1, 0, 5)]).1, [3]);
        assert_eq!(read(&mut source, &[]).0, [range(0, 20, None), range(1, 5, None)]);
    }

    /// While one partition's broker is away the others wait, and that they do in no more memory than they have otherwise.
    #[test]
    fn what_waits_for_recorded_cuts_is_bounded() {
        let (reaper, connector) = (Reaper::start(&SystemThreads).unwrap(), Arc::new(Opened::default()));
        let create = "CREATE SOURCE bid (auction BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid')";
        let mut source = source(create, connector.clone());
        source.partitions.insert(PartitionId(1), Partition::at(Offset(0), SystemClock.instant()));
        for end in 1..=8 {
            let moved = |partition| Partition::at(Offset(end), SystemClock.instant()).cut(PartitionId(partition));
            let cut = InputCut { watermark: Timestamp::MIN, partitions: vec![moved(0), moved(1)], notes: Vec::new() };
            source.push_replay(Epoch(1 + end as u64), Timestamp(0), &cut).unwrap();
        }
        let max = {
            source.start(&reaper);
            source.inbox.as_ref().unwrap().push(empty_batch(0, 0, 1));
            source.receive(usize::MAX);
            2 * source.waiting_bytes()
        };
        let mut comes = |partition, start: i64| {
            source.inbox.as_ref().unwrap().push(empty_batch(partition, start, start + 1));
            source.receive(max);
            let entered = source.cut_replayed().len();
            let is_another = source.rest(max);
            source.start(&reaper);
            let read = connector.ranges.lock().last().unwrap().iter().map(|r| (r.partition.0, r.start.0)).collect::<Vec<_>>();
            (entered, is_another, read)
        };
        assert_eq!(comes(0, 1), (0, true, vec![(1, 0)]), "it is full");
        assert_eq!(comes(1, 0), (1, false, vec![(1, 0)]));
        assert_eq!(comes(1, 1), (1, true, vec![(0, 2), (1, 2)]), "there is room again");
        assert_eq!(comes(0, 2), (0, false, vec![(0, 2), (1, 2)]));
    }
}
