//! A source's live reader: what it is to read and with which columns, when it ends, when it is tried again; and private ones. It does not
//! know what becomes of what they read.
//!
//! Columns that no view reads are checked and not kept. A view that reads more of them is made at a cut; what had arrived and is in no cut is
//! then read again, so that from that cut on they are there. What it lacks before it reads on its own. What nobody reads any more is left out
//! from the next time that a reader is opened: to open one for that alone would hold up those who go on.

use super::super::history;
use super::super::inbox::{Inbox, InboxRoom, Reader};
use super::super::reaper::Reaper;
use super::partition::{Partition, Waiting};
use super::{Source, patient};
use eddyline_common::connector::{PartitionRange, PartitionStart, SourceReader};
use eddyline_common::{Offset, PartitionId, RelationId, Result, Timestamp};
use eddyline_planner::catalog::Relation;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Until a reader that could not be started is tried again.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Which columns are filled for somebody who reads some. A source whose records overwrite each other is read whole.
pub(super) fn columns_kept(relation: &Relation, read: &BTreeSet<usize>) -> Vec<bool> {
    let is_keyed = relation.source_spec().is_some_and(|spec| !spec.key.is_empty());
    let of_watermark = relation.watermark_columns();
    (0..relation.columns.len()).map(|column| is_keyed || read.contains(&column) || of_watermark.contains(&column)).collect()
}

impl Source {
    /// Somebody reads it.
    pub fn is_read(&self) -> bool {
        self.reader.is_some()
    }

    /// Starts reading after the last cut, if not already. A reader that cannot be started is tried again by `retry`.
    pub fn start(&mut self, reaper: &Reaper) {
        if self.reader.is_some() {
            return;
        }
        let ranges = self.unread();
        if ranges.is_empty() {
            return;
        }
        self.retry = None;
        if let Err(error) = self.open_reader(ranges, reaper) {
            tracing::warn!(source = %self.relation.name, "cannot be read, retrying: {error}");
            *self.stats.problem.write() = Some(error.to_string());
            self.retry = Some(self.clock.instant() + RETRY_AFTER);
        }
    }

    /// These are the columns that somebody reads from the last cut on.
    pub fn keep(&mut self, read: &BTreeSet<usize>, reaper: &Reaper) {
        self.wanted = columns_kept(&self.relation, read);
        let lacks = self.wanted.iter().zip(&self.kept).any(|(wanted, kept)| *wanted && !kept);
        if lacks && (self.reader.is_some() || self.retry.is_some()) {
            self.stop();
            self.start(reaper);
        }
    }

    /// What there is to read: as long as there are recorded cuts, no more than they have. What comes after would wait here until the slowest
    /// partition has been read again.
    fn unread(&self) -> Vec<PartitionRange> {
        let is_replaying = self.is_replaying();
        let range = |(id, p): (&PartitionId, &Partition)| {
            let (start, end) = (p.arrived_up_to(), self.replay.end(*id));
            let is_unread = if is_replaying { end.is_some_and(|end| start < end) } else { p.watermark != Timestamp::MAX };
            is_unread.then_some(PartitionRange { partition: *id, start, end })
        };
        self.partitions.iter().filter(|(id, _)| !self.resting.contains(id)).filter_map(range).collect()
    }

    fn open_reader(&mut self, ranges: Vec<PartitionRange>, reaper: &Reaper) -> Result<()> {
        self.listen_anew();
        let inbox = Inbox::new(Reader::Source(self.id()), &self.room, &self.relation, self.clock.clone(), self.events.clone())?;
        self.kept.clone_from(&self.wanted);
        self.reader = reaper.watch(self.connector.read_columns(ranges, &self.kept, inbox.clone())?);
        self.inbox = Some(inbox);
        *self.stats.problem.write() = None;
        Ok(())
    }

    /// Nobody was silent while nobody listened, or nobody could be heard.
    pub(super) fn listen_anew(&mut self) {
        let now = self.clock.instant();
        self.partitions.values_mut().for_each(|partition| partition.last_arrival = now);
    }

    /// Whether `start` is to be called once more.
    pub fn is_retry_due(&self) -> bool {
        self.retry.is_some_and(|at| at <= self.clock.instant())
    }

    /// A private reader of some columns from `from` to `to`, for a backfill, and its inbox.
    pub fn read_privately(
        &self,
        job: RelationId,
        read: &BTreeSet<usize>,
        from: &[PartitionStart],
        to: &[PartitionStart],
        room: &InboxRoom,
    ) -> Result<(Arc<Inbox>, Option<Box<dyn SourceReader>>)> {
        let reader = Reader::Backfill(job, self.id());
        let inbox = Inbox::new(reader, room, &self.relation, self.clock.clone(), self.events.clone())?;
        let range = |end: &PartitionStart| {
            let start =
                history::offset_of(from, end.partition).or_else(|| history::offset_of(&self.starts, end.partition)).unwrap_or(Offset(0));
            (start < end.start).then_some(PartitionRange { partition: end.partition, start, end: Some(end.start) })
        };
        let ranges: Vec<_> = to.iter().filter_map(range).collect();
        let reader = if ranges.is_empty() {
            None
        } else {
            Some(patient::read(&self.connector, ranges, columns_kept(&self.relation, read), inbox.clone())?)
        };
        Ok((inbox, reader))
    }

    /// Stops the reader; what had arrived is forgotten and will be read again.
    pub fn stop(&mut self) {
        self.close();
        (self.retry, self.full_since) = (None, None);
        self.resting.clear();
        for partition in self.partitions.values_mut() {
            partition.waiting = Waiting::default();
            partition.all_read = None;
        }
    }

    /// Ends the reader. What is in its inbox will be read again.
    pub(super) fn close(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            inbox.close();
        }
        self.reader = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Failing, Opened, bid, source};
    use super::*;
    use eddyline_common::runtime::SystemThreads;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn columns_come_as_they_are_read_and_go_when_a_reader_is_opened() {
        let create = "CREATE SOURCE bid (auction BIGINT, price BIGINT, date_time TIMESTAMP, WATERMARK FOR date_time AS date_time) \
                      WITH (connector = 'nexmark', nexmark.table.type = 'bid')";
        let (reaper, connector) = (Reaper::start(&SystemThreads).unwrap(), Arc::new(Opened::default()));
        let mut source = source(create, connector.clone());
        let mut filled = |read: &[usize]| {
            source.keep(&read.iter().copied().collect(), &reaper);
            source.start(&reaper);
            let opened = connector.columns.lock();
            (opened.len(), opened.last().cloned().unwrap_or_default())
        };
        assert_eq!(filled(&[0]), (1, vec![true, false, true]), "and what the watermark is made of");
        assert_eq!(filled(&[0, 1]), (2, vec![true, true, true]));
        assert_eq!(filled(&[1]), (2, vec![true, true, true]), "who goes on is not held up");
        assert_eq!(filled(&[0]), (2, vec![true, true, true]));
        // What nobody reads goes with the next reader that is opened, for whatever reason.
        source.stop();
        source.start(&reaper);
        assert_eq!(connector.columns.lock().last(), Some(&vec![true, false, true]));
        source.keep(&BTreeSet::from([1]), &reaper);
        assert_eq!(*connector.columns.lock().last().unwrap(), [false, true, true], "one column for the other");
    }

    #[test]
    fn a_reader_that_cannot_be_started_is_tried_again() {
        let mut source = bid();
        let reaper = Reaper::start(&SystemThreads).unwrap();
        let connector = Arc::new(Failing { attempts: AtomicUsize::new(0), fails: 2 });
        source.alter(source.relation.clone(), connector.clone(), &reaper).unwrap();
        source.start(&reaper);
        assert!(source.stats.problem.read().as_deref().is_some_and(|p| p.contains("no such file")));
        assert!(source.next_timer().is_some() && !source.is_retry_due());
        // Other options: with them it is tried at once.
        source.alter(source.relation.clone(), connector.clone(), &reaper).unwrap();
        assert!(source.next_timer().is_some());
        source.start(&reaper);
        assert_eq!((source.next_timer(), connector.attempts.load(Ordering::Relaxed)), (None, 3));
        assert!(!source.receive(1 << 20));
        assert_eq!(*source.stats.problem.read(), None);
        // What nobody reads is not tried again.
        source.alter(source.relation.clone(), Arc::new(Failing { attempts: AtomicUsize::new(0), fails: 1 }), &reaper).unwrap();
        source.stop();
        assert_eq!(source.next_timer(), None);
    }
}
