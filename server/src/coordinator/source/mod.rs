//! A source at work: the positions and watermarks of its partitions, and how it starts, is altered and is kept. It does not know who reads
//! it, nor when a cut is due.
//!
//! - `reading`: its live reader, and which columns that fills
//! - `patient`: private readers that cannot be started yet
//! - `waiting`: what has arrived and waits for a cut, bounded
//! - `partition`: one of its partitions
//! - `watermark`: what its watermark comes to, and which partitions are idle
//! - `cut`: its part of a cut; `merging`: many small batches in few
//! - `replay`: recorded cuts, whose rows are read again
//! - `present`: what it held before anybody read it
//! - `progress`: what a checkpoint keeps of it

mod cut;
mod merging;
mod partition;
mod patient;
mod present;
mod progress;
mod reading;
mod replay;
#[cfg(test)]
mod testing;
mod waiting;
mod watermark;

pub use progress::SourceProgress;

use super::Event;
use super::history::{History, SavedHistory};
use super::inbox::{Inbox, InboxRoom};
use super::reaper::{Reaped, Reaper};
use super::recorded::Recorded;
use super::ring::Ring;
use super::stats::SourceStats;
use crossbeam_channel::Sender;
use eddyline_common::connector::{PartitionStart, SourceConnector, SourceNote};
use eddyline_common::runtime::Clock;
use eddyline_common::{Epoch, PartitionId, RelationId, Result, Timestamp};
use eddyline_planner::catalog::Relation;
use partition::Partition;
use present::Present;
use reading::columns_kept;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use watermark::idle_timeout;

pub struct Source {
    pub relation: Arc<Relation>,
    pub ring: Ring,
    pub history: History,
    pub stats: Arc<SourceStats>,
    connector: Arc<dyn SourceConnector>,
    /// All that the connector has noted, and must be told again after a restart.
    notes: Vec<SourceNote>,
    starts: Vec<PartitionStart>,
    /// Columns that somebody reads, and those of the watermark and of keys.
    wanted: Vec<bool>,
    /// Those that the reader fills, which are no fewer.
    kept: Vec<bool>,
    partitions: BTreeMap<PartitionId, Partition>,
    watermark: Timestamp,
    /// Recorded cuts whose rows have not been read again yet.
    replay: Recorded,
    /// Partitions that are not read at present: much of them waits for others' rows of recorded cuts.
    resting: BTreeSet<PartitionId>,
    inbox: Option<Arc<Inbox>>,
    /// Of all sources' inboxes.
    room: InboxRoom,
    reader: Option<Reaped>,
    /// When to start a reader again that could not be started.
    retry: Option<Instant>,
    clock: Arc<dyn Clock>,
    events: Sender<Event>,
    idle_timeout: Option<Duration>,
    /// `ADVANCE WATERMARK` since the last cut.
    advance: Option<Timestamp>,
    present: Option<Present>,
    has_told_ahead: bool,
    /// Since when there is no room for what has arrived.
    full_since: Option<Instant>,
}

impl Source {
    pub fn new(
        relation: Arc<Relation>,
        connector: Arc<dyn SourceConnector>,
        progress: SourceProgress,
        history: History,
        epoch: Epoch,
        stats: Arc<SourceStats>,
        room: InboxRoom,
        clock: Arc<dyn Clock>,
        events: Sender<Event>,
    ) -> Result<Self> {
        connector.remember(&progress.notes)?;
        let mut partitions: BTreeMap<_, _> =
            progress.starts.iter().map(|s| (s.partition, Partition::at(s.start, clock.instant()))).collect();
        for cut in &progress.partitions {
            partitions
                .insert(cut.partition, Partition { watermark: cut.watermark, idle: cut.idle, ..Partition::at(cut.end, clock.instant()) });
        }
        stats.records.store(progress.records, Ordering::Relaxed);
        stats.undecodable.store(progress.undecodable, Ordering::Relaxed);
        stats.bytes.store(progress.bytes, Ordering::Relaxed);
        stats.ahead.store(progress.ahead, Ordering::Relaxed);
        stats.watermark.store(progress.watermark.0, Ordering::Relaxed);
        let idle_timeout = idle_timeout(&relation);
        let wanted = columns_kept(&relation, &BTreeSet::new());
        let mut source = Source {
            ring: Ring::of_source(
                epoch,
                progress.watermark,
                partitions.iter().map(|(id, p)| PartitionStart { partition: *id, start: p.end }).collect(),
            ),
            history,
            stats,
            connector,
            notes: progress.notes,
            starts: progress.starts,
            kept: wanted.clone(),
            wanted,
            partitions,
            watermark: progress.watermark,
            replay: Recorded::default(),
            resting: BTreeSet::new(),
            inbox: None,
            room,
            reader: None,
            retry: None,
            clock,
            events,
            idle_timeout,
            advance: None,
            present: None,
            has_told_ahead: false,
            full_since: None,
            relation,
        };
        if !progress.present.is_empty() {
            source.expect(progress.present, epoch);
        }
        source.note_offsets();
        Ok(source)
    }

    /// Goes on with other options: what had arrived is read again with them.
    pub fn alter(&mut self, relation: Arc<Relation>, connector: Arc<dyn SourceConnector>, reaper: &Reaper) -> Result<()> {
        connector.remember(&self.notes)?;
        let reads = self.reader.is_some() || self.retry.is_some();
        self.stop();
        self.idle_timeout = idle_timeout(&relation);
        (self.relation, self.connector) = (relation, connector);
        if reads {
            self.start(reaper);
        }
        Ok(())
    }

    pub fn id(&self) -> RelationId {
        self.relation.id
    }

    pub fn starts(&self) -> &[PartitionStart] {
        &self.starts
    }

    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// For a checkpoint; the history comes with its files.
    pub fn progress(&self) -> SourceProgress {
        let partition = |(id, p): (&PartitionId, &Partition)| p.cut(*id);
        SourceProgress {
            starts: self.starts.clone(),
            watermark: self.watermark,
            partitions: self.partitions.iter().filter(|(_, p)| p.discovered.is_none()).map(partition).collect(),
            history: SavedHistory::default(),
            notes: self.notes.clone(),
            records: self.stats.records.load(Ordering::Relaxed),
            undecodable: self.stats.undecodable.load(Ordering::Relaxed),
            bytes: self.stats.bytes.load(Ordering::Relaxed),
            ahead: self.stats.ahead.load(Ordering::Relaxed),
            present: self.present.iter().filter(|p| p.reached.is_none()).flat_map(|p| p.ends.iter().copied()).collect(),
        }
    }

    /// Positions after the last cut whose rows are here.
    pub fn ends(&self) -> Vec<PartitionStart> {
        let known = self.partitions.iter().filter(|(_, p)| p.discovered.is_none());
        known.map(|(id, p)| PartitionStart { partition: *id, start: p.end }).collect()
    }

    /// When a partition will turn idle, if it stays silent, or the reader is started again.
    pub fn next_timer(&self) -> Option<Instant> {
        self.next_idle().into_iter().chain(self.retry).min()
    }

    fn remember(&mut self, notes: &[SourceNote]) -> Result<()> {
        self.notes.extend_from_slice(notes);
        self.connector.remember(notes)
    }
}
