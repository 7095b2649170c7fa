//! A source at work: its live reader, the positions and watermarks of its partitions, and the making
//! of its part of a cut. In replay the recorded cuts say where to split; live it takes what has arrived.
//!
//! Columns that no view reads are checked and not kept. A view that reads more of them is made at a cut; what had arrived and is in no cut is
//! then read again, so that from that cut on they are there. What it lacks before it reads on its own. What nobody reads any more is left out
//! from the next time that a reader is opened: to open one for that alone would hold up those who go on.
//!
//! What waits for cuts is bounded: when it is full, nothing more is taken from the inbox, which fills and holds up the readers.

use super::Event;
use super::filling::Present;
use super::history::{self, History, SavedHistory};
use super::inbox::{Arrived, Inbox, InboxRoom, Reader};
use super::partition::{Partition, Waiting};
use super::reaper::{Reaped, Reaper};
use super::recorded::{Recorded, RecordedCut};
use super::ring::{Ring, RingEntry};
use super::stats::SourceStats;
use crossbeam_channel::Sender;
use eddyline_common::connector::{PartitionRange, PartitionStart, SourceConnector, SourceNote, SourceReader, UndecodableRecord};
use eddyline_common::cut::PartitionCut;
use eddyline_common::runtime::Clock;
use eddyline_common::{ChangeBatch, Epoch, InputCut, Offset, PartitionId, RelationId, Result, TaggedBatch, Timestamp};
use eddyline_planner::catalog::{Relation, duration_text};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a checkpoint keeps of a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceProgress {
    pub starts: Vec<PartitionStart>,
    pub watermark: Timestamp,
    pub partitions: Vec<PartitionCut>,
    pub history: SavedHistory,
    #[serde(default)]
    pub notes: Vec<SourceNote>,
    pub records: u64,
    pub undecodable: u64,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub ahead: u64,
    /// Where it ended when its first reader came, if not all up to there has been read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub present: Vec<PartitionStart>,
}

impl SourceProgress {
    /// Of a new source.
    pub fn starting(starts: Vec<PartitionStart>) -> Self {
        let (partitions, history, notes) = (Vec::new(), SavedHistory::default(), Vec::new());
        let (watermark, present) = (Timestamp::MIN, Vec::new());
        SourceProgress { starts, watermark, partitions, history, notes, records: 0, undecodable: 0, bytes: 0, ahead: 0, present }
    }

    /// Positions that its partitions had come to.
    pub fn ends(&self) -> Vec<PartitionStart> {
        let mut ends: BTreeMap<PartitionId, Offset> = self.starts.iter().map(|s| (s.partition, s.start)).collect();
        ends.extend(self.partitions.iter().map(|cut| (cut.partition, cut.end)));
        ends.into_iter().map(|(partition, start)| PartitionStart { partition, start }).collect()
    }
}

/// Until a reader that could not be started is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

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

/// What a source adds to a cut.
pub struct SourceCut {
    pub input: InputCut,
    pub undecodable: Vec<(PartitionId, UndecodableRecord)>,
}

/// From so many rows on a batch is worth what it costs each reader to take it up, and is not copied.
const SMALL_ROWS: usize = 1024;
/// How many rows small ones are merged into, about.
const MERGED_ROWS: usize = 8192;

/// Copies what came in many small batches into few: once, where otherwise every reader would take each of them up.
fn merge_small(batches: Vec<ChangeBatch>) -> Vec<ChangeBatch> {
    // What a batch says of its columns goes with its schema.
    let is_small = |batch: &ChangeBatch| batch.rows.num_rows() < SMALL_ROWS && batch.rows.schema_ref().metadata().is_empty();
    let mut merged = Vec::new();
    let mut rest = batches.into_iter().peekable();
    while let Some(first) = rest.next() {
        if !is_small(&first) || rest.peek().is_none_or(|next| !is_small(next)) {
            merged.push(first);
            continue;
        }
        let (schema, mut rows, mut run) = (first.rows.schema(), first.rows.num_rows(), vec![first]);
        while rows < MERGED_ROWS
            && let Some(next) = rest.next_if(is_small)
        {
            rows += next.rows.num_rows();
            run.push(next);
        }
        match ChangeBatch::concat(&schema, &run) {
            Ok(one) => merged.push(one),
            // They would not fit into one array.
            Err(_) => merged.append(&mut run),
        }
    }
    merged
}

fn idle_timeout(relation: &Relation) -> Option<Duration> {
    relation.watermark.as_ref().and_then(|w| w.idle_timeout).map(|us| Duration::from_micros(us as u64))
}

/// Which columns are filled for somebody who reads some. A source whose records overwrite each other is read whole.
fn columns_kept(relation: &Relation, read: &BTreeSet<usize>) -> Vec<bool> {
    let is_keyed = relation.source_spec().is_some_and(|spec| !spec.key.is_empty());
    let of_watermark = relation.watermark_columns();
    (0..relation.columns.len()).map(|column| is_keyed || read.contains(&column) || of_watermark.contains(&column)).collect()
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
        Ok(source)
    }

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
    fn note_present(&mut self, epoch: Epoch) {
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

    /// The epoch through which this source's rows are in the ring, given the last cut.
    pub fn frontier(&self, last_cut: Epoch) -> Epoch {
        self.replay.front().map_or(last_cut, |cut| Epoch(cut.epoch.0 - 1))
    }

    /// Somebody reads it.
    pub fn is_read(&self) -> bool {
        self.reader.is_some()
    }

    pub fn is_replaying(&self) -> bool {
        !self.replay.is_empty()
    }

    fn remember(&mut self, notes: &[SourceNote]) -> Result<()> {
        self.notes.extend_from_slice(notes);
        self.connector.remember(notes)
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
        // Nobody was silent while nobody listened.
        let now = self.clock.instant();
        self.partitions.values_mut().for_each(|partition| partition.last_arrival = now);
        let inbox = Inbox::new(Reader::Source(self.id()), &self.room, &self.relation, self.clock.clone(), self.events.clone())?;
        self.kept.clone_from(&self.wanted);
        self.reader = reaper.watch(self.connector.read_columns(ranges, &self.kept, inbox.clone())?);
        self.inbox = Some(inbox);
        Ok(())
    }

    /// Whether `start` is to be called once more.
    pub fn is_retry_due(&self) -> bool {
        self.retry.is_some_and(|at| at <= self.clock.instant())
    }

    pub fn advance_watermark(&mut self, to: Timestamp) {
        self.advance = Some(self.advance.map_or(to, |a| a.max(to)));
    }

    pub fn has_advance(&self) -> bool {
        self.advance.is_some()
    }

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
        *self.stats.problem.write() = inbox.problem();
        for (id, end) in inbox.present_ends() {
            self.partitions.entry(id).and_modify(|p| p.present_end = Some(end));
        }
        for (id, end) in inbox.all_read() {
            self.partitions.entry(id).and_modify(|p| p.all_read = Some(end));
        }
        self.note_lag();
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

    /// Offsets between what cuts have taken and what there is, as far as the connector knows.
    fn note_lag(&self) {
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

    fn turns_idle(&self, partition: &Partition) -> bool {
        self.idle_from(partition).is_some_and(|at| self.clock.instant() >= at)
    }

    /// When a partition turns idle, if it stays silent. Not as long as nobody listens, or what it says may be among what there is no room for.
    fn idle_from(&self, partition: &Partition) -> Option<Instant> {
        let may_be_idle = !partition.idle && partition.watermark != Timestamp::MAX && self.partitions.len() > 1;
        let is_heard = self.reader.is_some() && (self.full_since.is_none() || partition.has_arrived());
        self.idle_timeout.filter(|_| may_be_idle && is_heard).map(|timeout| partition.last_arrival + timeout)
    }

    /// When a partition will turn idle, if it stays silent, or the reader is started again.
    pub fn next_timer(&self) -> Option<Instant> {
        self.next_idle().into_iter().chain(self.retry).min()
    }

    fn next_idle(&self) -> Option<Instant> {
        self.partitions.values().filter_map(|p| self.idle_from(p)).min()
    }

    /// Takes up to about `bytes_max` of what waits into epoch `epoch`.
    pub fn cut(&mut self, epoch: Epoch, now: Timestamp, bytes_max: usize) -> SourceCut {
        let mut taken: Vec<Arrived> = Vec::new();
        let mut moved = Vec::new();
        let share = (bytes_max / self.partitions.len().max(1)).max(1);
        let idle: Vec<PartitionId> =
            self.partitions.iter().filter(|(_, p)| p.waiting.is_empty() && self.turns_idle(p)).map(|(id, _)| *id).collect();
        for (id, partition) in &mut self.partitions {
            let mut bytes = 0;
            let before = (partition.end, partition.idle);
            partition.idle = idle.contains(id) || (partition.idle && partition.waiting.is_empty());
            while bytes < share
                && let Some(arrived) = partition.waiting.pop_front()
            {
                bytes += arrived.bytes;
                partition.end = arrived.batch.end;
                let proposed = if arrived.batch.finished { Some(Timestamp::MAX) } else { arrived.times.watermark };
                partition.watermark = partition.watermark.max(proposed.unwrap_or(Timestamp::MIN));
                taken.push(arrived);
            }
            if before != (partition.end, partition.idle) || bytes > 0 {
                let start = partition.discovered.take();
                self.starts.extend(start.map(|start| PartitionStart { partition: *id, start }));
                moved.push(PartitionCut { start, ..partition.cut(*id) });
            }
        }
        let watermark = self.next_watermark();
        let notes: Vec<SourceNote> = taken.iter().flat_map(|a| a.batch.notes.iter().cloned()).collect();
        // A note of this very reader is one it knows.
        if let Err(error) = self.remember(&notes) {
            tracing::error!(source = %self.relation.name, "{error}");
        }
        let input = InputCut { watermark, partitions: moved, notes };
        let undecodable = self.enter(epoch, now, watermark, taken);
        SourceCut { input, undecodable }
    }

    fn next_watermark(&mut self) -> Timestamp {
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

    /// Puts rows into the ring under the watermark that was in force before.
    fn enter(&mut self, epoch: Epoch, now: Timestamp, watermark: Timestamp, taken: Vec<Arrived>) -> Vec<(PartitionId, UndecodableRecord)> {
        let arrival_watermark = self.watermark;
        let arrived = taken.iter().map(|a| a.at).min().unwrap_or_else(|| self.clock.instant());
        let bytes = taken.iter().map(|a| a.bytes).sum();
        let rows: u64 = taken.iter().map(|a| a.batch.rows.num_rows() as u64).sum();
        let behind = taken.iter().any(|a| a.times.oldest.is_some_and(|t| t < arrival_watermark));
        self.count_ahead(taken.iter().map(|a| a.times.ahead).sum());
        let mut undecodable = Vec::new();
        let mut batches = Vec::with_capacity(taken.len());
        for Arrived { batch, .. } in taken {
            undecodable.extend(batch.undecodable.iter().map(|u| (batch.partition, u.clone())));
            if batch.rows.num_rows() > 0 {
                batches.push(batch.changes());
            }
        }
        let tagged = |changes| TaggedBatch { changes, arrival_watermark, now };
        let batches = merge_small(batches).into_iter().map(tagged).collect();
        self.watermark = watermark;
        self.stats.records.fetch_add(rows + undecodable.len() as u64, Ordering::Relaxed);
        self.stats.rate.add(rows + undecodable.len() as u64, self.clock.now());
        self.stats.undecodable.fetch_add(undecodable.len() as u64, Ordering::Relaxed);
        self.stats.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.stats.watermark.store(watermark.0, Ordering::Relaxed);
        self.note_lag();
        let ends = self.ends();
        self.history.push(epoch, arrival_watermark, watermark, ends.clone(), rows, behind);
        self.ring.push(RingEntry { epoch, batches, watermark, bytes, arrived, ends: Some(Arc::new(ends)) });
        self.note_present(epoch);
        undecodable
    }

    /// Rows that would have taken the watermark too far. The first of them since start are told of: what waits for the watermark is silent.
    fn count_ahead(&mut self, rows: u64) {
        self.stats.ahead.fetch_add(rows, Ordering::Relaxed);
        if rows == 0 || std::mem::replace(&mut self.has_told_ahead, true) {
            return;
        }
        let guard = self.relation.watermark.as_ref().and_then(|w| w.future_guard).map(duration_text).unwrap_or_default();
        tracing::warn!(
            source = %self.relation.name,
            "times further in the future than watermark.future-guard allows ({guard}) came, {rows} at first: they do not move the watermark, and \
             windows at those times stay open. eddyline.sources.ahead counts them. Correct what writes them, or give the source another \
             watermark.future-guard with ALTER SOURCE ... SET, if such times are meant"
        );
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
            Some(self.connector.read_columns(ranges, &columns_kept(&self.relation, read), inbox.clone())?)
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
    fn close(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            inbox.close();
        }
        self.reader = None;
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
    use super::*;
    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use eddyline_common::SqlError;
    use eddyline_common::connector::{BatchSink, SourceBatch};
    use eddyline_common::runtime::{ManualClock, SystemClock, SystemThreads};
    use parking_lot::Mutex;
    use std::sync::atomic::AtomicUsize;

    /// Its readers cannot be started at first.
    struct Failing {
        attempts: AtomicUsize,
        fails: usize,
    }

    struct Idle;

    impl SourceReader for Idle {}

    impl SourceConnector for Failing {
        fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
            Ok(Vec::new())
        }

        fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
            Ok(None)
        }

        fn read(&self, _: Vec<PartitionRange>, _: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
            let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
            if attempt < self.fails { Err(SqlError::io("no such file")) } else { Ok(Box::new(Idle)) }
        }
    }

    fn bid() -> Source {
        let create = "CREATE SOURCE bid (auction BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid')";
        source(create, Arc::new(Failing { attempts: AtomicUsize::new(0), fails: 0 }))
    }

    /// The source `bid` that is created.
    fn source(create: &str, connector: Arc<dyn SourceConnector>) -> Source {
        heard(create, connector, Arc::new(SystemClock)).0
    }

    /// The source, and what its coordinator is told.
    fn heard(create: &str, connector: Arc<dyn SourceConnector>, clock: Arc<dyn Clock>) -> (Source, crossbeam_channel::Receiver<Event>) {
        let catalog = crate::pgcatalog::tests::catalog_of(create);
        let relation = catalog.by_name("bid").unwrap().clone();
        let starts = vec![PartitionStart { partition: PartitionId(0), start: Offset(0) }];
        let (events, told) = crossbeam_channel::unbounded();
        let stats = Arc::new(SourceStats::default());
        let (progress, room) = (SourceProgress::starting(starts), InboxRoom::default());
        let source = Source::new(relation, connector, progress, History::default(), Epoch(1), stats, room, clock, events).unwrap();
        (source, told)
    }

    fn empty_batch(partition: i32, start: i64, end: i64) -> SourceBatch {
        SourceBatch {
            partition: PartitionId(partition),
            start: Offset(start),
            end: Offset(end),
            rows: RecordBatch::new_empty(Arc::new(Schema::empty())),
            weights: None,
            offsets: Vec::new(),
            undecodable: Vec::new(),
            notes: Vec::new(),
            finished: false,
        }
    }

    const IDLE_AFTER: Duration = Duration::from_secs(20);

    /// A source of which partitions are idle that are silent for so long; its reaper, its inbox, what its coordinator is told, and the clock.
    fn idling() -> (Reaper, Source, Arc<Inbox>, crossbeam_channel::Receiver<Event>, Arc<ManualClock>) {
        let create = format!(
            "CREATE SOURCE bid (auction BIGINT, date_time TIMESTAMP, WATERMARK FOR date_time AS date_time) \
             WITH (connector = 'nexmark', nexmark.table.type = 'bid', watermark.idle-timeout = '{} s')",
            IDLE_AFTER.as_secs()
        );
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let (mut source, told) = heard(&create, Arc::new(Opened::default()), clock.clone());
        let reaper = Reaper::start(&SystemThreads).unwrap();
        source.start(&reaper);
        let inbox = source.inbox.clone().unwrap();
        (reaper, source, inbox, told, clock)
    }

    fn pass(clock: &ManualClock, time: Duration) {
        clock.advance(time.as_micros() as u64);
    }

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

    #[test]
    fn small_batches_are_merged_in_order() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let sizes = [2000, 300, 500, 400, 100, 5, 1500, 7];
        let mut next = 0..;
        let batches: Vec<ChangeBatch> = sizes
            .iter()
            .map(|size| {
                let numbers = Int64Array::from_iter_values(next.by_ref().take(*size));
                ChangeBatch { rows: RecordBatch::try_new(schema.clone(), vec![Arc::new(numbers)]).unwrap(), weights: None }
            })
            .collect();
        let merged = merge_small(batches);
        assert_eq!(merged.iter().map(|b| b.rows.num_rows()).collect::<Vec<_>>(), [2000, 1305, 1500, 7]);
        let numbers = merged.iter().flat_map(|b| b.rows.column(0).as_primitive::<Int64Type>().values().to_vec());
        assert!(numbers.eq(0..sizes.iter().sum::<usize>() as i64));
    }

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

    #[test]
    fn a_source_lags_by_what_no_cut_has_taken() {
        let mut source = bid();
        let at = |end: i64, present_end: Option<i64>| Partition {
            present_end: present_end.map(Offset),
            ..Partition::at(Offset(end), SystemClock.instant())
        };
        let mut lag = |partitions: [Partition; 2]| {
            source.partitions = partitions.into_iter().enumerate().map(|(id, p)| (PartitionId(id as i32), p)).collect();
            source.note_lag();
            source.stats.lag.load(Ordering::Relaxed)
        };
        assert_eq!(lag([at(10, Some(30)), at(5, Some(6))]), 21);
        // What the connector said of an end may be older than what was read since.
        assert_eq!(lag([at(10, Some(30)), at(9, Some(6))]), 20);
        assert_eq!(lag([at(10, Some(30)), at(5, None)]), 20, "of the ends that are known");
        assert_eq!(lag([at(10, None), at(5, None)]), -1);
    }

    /// Keeps what its readers were to read, and which columns they were to fill.
    #[derive(Default)]
    struct Opened {
        ranges: Mutex<Vec<Vec<PartitionRange>>>,
        columns: Mutex<Vec<Vec<bool>>>,
    }

    impl SourceConnector for Opened {
        fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
            Ok(Vec::new())
        }

        fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
            Ok(None)
        }

        fn read(&self, _: Vec<PartitionRange>, _: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
            Err(SqlError::internal("it is asked for columns"))
        }

        fn read_columns(&self, ranges: Vec<PartitionRange>, kept: &[bool], _: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
            self.ranges.lock().push(ranges);
            self.columns.lock().push(kept.to_vec());
            Ok(Box::new(Idle))
        }
    }

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
