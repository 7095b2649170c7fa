//! A job's private reading: from nothing (a new job) or from where it fell off the ring, to exactly the
//! epoch `to`. Relations come as a snapshot or from their rings, sources from their own readers with the
//! recorded cuts deciding lateness. All steps carry the epoch `to`, so that nothing shows before the end.

use super::checkpointing::Positions;
use super::history::Replay;
use super::inbox::Inbox;
use super::prefetch::Prefetch;
use super::reaper::Reaped;
use eddyline_common::{Epoch, Offset, PartitionId, RelationId, Result, TaggedBatch, Timestamp};
use eddyline_executor::StepInput;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub struct Backfill {
    /// What the job already has; `None` for a new job.
    pub from: Option<Epoch>,
    pub to: Epoch,
    /// `None` until every input has arrived at `to`.
    pub reading: Option<Reading>,
}

impl Backfill {
    pub fn new(from: Option<Epoch>, to: Epoch) -> Box<Self> {
        Box::new(Backfill { from, to, reading: None })
    }

    /// What must stay readable of the inputs: a new job reads at `to` and after, one that fell off what lies between too.
    pub fn cursor(&self) -> Epoch {
        self.from.filter(|_| self.reading.is_none()).unwrap_or(self.to)
    }
}

/// The inputs being read, and how far.
#[derive(Default)]
pub struct Reading {
    pub relations: Vec<RelationReading>,
    pub sources: Vec<SourceReading>,
    /// Rows of relations and offsets of sources.
    pub total: u64,
    pub done: u64,
    /// What is read to its end before anything else: rows of the others are looked up in it.
    pub first: BTreeSet<RelationId>,
    /// It has moved since it was last part of a checkpoint.
    unsaved: bool,
}

pub struct RelationReading {
    pub relation: RelationId,
    pub batches: VecDeque<TaggedBatch>,
    /// What comes after `batches`, while it is being read.
    pub rest: Option<Prefetch>,
    /// The relation's watermark at `to`.
    pub watermark: Timestamp,
}

pub struct SourceReading {
    pub source: RelationId,
    pub inbox: Arc<Inbox>,
    /// Held so that its threads live as long as the reading.
    pub _reader: Option<Reaped>,
    pub replay: Replay,
    /// Partitions not yet read to their end.
    pub left: BTreeMap<PartitionId, Offset>,
    pub watermark: Timestamp,
}

impl Drop for SourceReading {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl Reading {
    /// Nothing yet; of the inputs to come, `first` are read before the others.
    pub fn beginning_with(first: Vec<RelationId>) -> Self {
        Reading { first: first.into_iter().collect(), ..Reading::default() }
    }

    pub fn is_finished(&self) -> bool {
        self.relations.iter().all(RelationReading::is_finished) && self.sources.iter().all(|s| s.left.is_empty())
    }

    /// Something that is to be read first is not read to its end.
    fn first_left(&self) -> bool {
        let is_first = |id: &RelationId| self.first.contains(id);
        self.relations.iter().any(|r| is_first(&r.relation) && !r.is_finished())
            || self.sources.iter().any(|s| is_first(&s.source) && !s.left.is_empty())
    }

    pub fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// It is in a checkpoint as it is now.
    pub fn saved(&mut self) {
        self.unsaved = false;
    }

    /// Whether its positions are all that it takes to go on after a restart.
    pub fn can_resume(&self) -> bool {
        self.relations.is_empty()
    }

    /// How far each source has been taken into steps.
    pub fn positions(&self) -> Positions {
        self.sources.iter().map(|s| (s.source, s.replay.positions())).collect()
    }

    /// The next step's inputs, or `None` when nothing has arrived yet. Once `is_finished` afterwards, these were the last
    /// ones and carry the watermarks at `to`.
    pub fn next_inputs(&mut self, bytes_max: usize) -> Result<Option<Vec<StepInput>>> {
        let mut room = bytes_max;
        let mut inputs = Vec::new();
        let first_left = self.first_left();
        let is_first = |id: &RelationId| self.first.contains(id);
        for relation in self.relations.iter_mut().filter(|r| !first_left || is_first(&r.relation)) {
            let (batches, total) = relation.take(&mut room)?;
            self.total += total;
            self.done += batches.iter().map(|b| b.changes.num_rows() as u64).sum::<u64>();
            inputs.push((relation.relation, batches));
        }
        for source in self.sources.iter_mut().filter(|s| !first_left || is_first(&s.source)) {
            let (batches, offsets) = source.take(room);
            room = room.saturating_sub(batches.iter().map(|b| b.changes.bytes()).sum());
            self.done += offsets;
            inputs.push((source.source, batches));
        }
        if first_left && !self.first_left() && inputs.iter().all(|(_, batches)| batches.is_empty()) {
            return self.next_inputs(bytes_max);
        }
        let finished = self.is_finished();
        if !finished && inputs.iter().all(|(_, batches)| batches.is_empty()) {
            return Ok(None);
        }
        self.unsaved = true;
        let watermark = |id: RelationId| self.watermark_of(id, finished);
        let input = |(relation, batches)| StepInput { relation, batches, watermark: watermark(relation) };
        Ok(Some(inputs.into_iter().map(input).collect()))
    }

    fn watermark_of(&self, id: RelationId, finished: bool) -> Timestamp {
        let relation = self.relations.iter().find(|r| r.relation == id).map(|r| if finished { r.watermark } else { Timestamp::MIN });
        let source = || {
            self.sources.iter().find(|s| s.source == id).map(|s| if finished { s.watermark } else { s.replay.watermark().min(s.watermark) })
        };
        relation.or_else(source).unwrap_or(Timestamp::MIN)
    }

    pub fn permille(&self) -> u64 {
        (self.done * 999).checked_div(self.total).unwrap_or(0).min(999)
    }
}

impl RelationReading {
    fn is_finished(&self) -> bool {
        self.batches.is_empty() && self.rest.is_none()
    }

    /// The next rows, as long as there is room, and how many more there are than was known before.
    fn take(&mut self, room: &mut usize) -> Result<(Vec<TaggedBatch>, u64)> {
        let (mut taken, mut total) = (Vec::new(), 0);
        while *room > 0
            && let Some(batch) = self.batches.pop_front()
        {
            *room = room.saturating_sub(batch.changes.bytes() + 1);
            taken.push(batch);
        }
        if let Some(rest) = self.rest.as_ref().filter(|_| *room > 0) {
            let read = rest.take(*room)?;
            *room = room.saturating_sub(read.batches.iter().map(|b| b.changes.bytes() + 1).sum());
            total = read.total.unwrap_or(0);
            taken.extend(read.batches);
            if read.ended {
                self.rest = None;
            }
        }
        Ok((taken, total))
    }
}

impl SourceReading {
    /// What has arrived, and how many offsets it covers.
    fn take(&mut self, bytes_max: usize) -> (Vec<TaggedBatch>, u64) {
        let mut batches = Vec::new();
        let mut offsets = 0;
        for arrived in self.inbox.drain(bytes_max) {
            let batch = arrived.batch;
            offsets += (batch.end.0 - batch.start.0).max(0) as u64;
            if batch.rows.num_rows() > 0 {
                batches.extend(self.replay.tag(batch.partition, &batch.offsets, &batch.changes()));
            }
            self.replay.advance(batch.partition, batch.end);
            if self.left.get(&batch.partition).is_some_and(|end| batch.end >= *end) {
                self.left.remove(&batch.partition);
            }
        }
        (batches, offsets)
    }
}
