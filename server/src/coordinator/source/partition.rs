//! One partition of a source: where cuts stand in it, its watermark, and what has arrived and waits for a cut.

use super::super::inbox::{Arrived, Observed};
use eddyline_common::cut::PartitionCut;
use eddyline_common::{Offset, PartitionId, Timestamp};
use std::collections::VecDeque;
use std::time::Instant;

pub struct Partition {
    /// Where it starts, until a cut has recorded that: it was discovered while the source ran.
    pub discovered: Option<Offset>,
    pub end: Offset,
    /// Where it ends outside, if the connector knows.
    pub present_end: Option<Offset>,
    /// Up to there its reader has read all there was when it last looked.
    pub all_read: Option<Offset>,
    pub watermark: Timestamp,
    pub idle: bool,
    pub last_arrival: Instant,
    pub waiting: Waiting,
}

/// Batches in the order in which they arrived, and their bytes.
#[derive(Default)]
pub struct Waiting {
    batches: VecDeque<Arrived>,
    bytes: usize,
}

impl Waiting {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The newest.
    pub fn back(&self) -> Option<&Arrived> {
        self.batches.back()
    }

    pub fn push_back(&mut self, arrived: Arrived) {
        self.bytes += arrived.bytes;
        self.batches.push_back(arrived);
    }

    fn push_front(&mut self, arrived: Arrived) {
        self.bytes += arrived.bytes;
        self.batches.push_front(arrived);
    }

    pub fn pop_front(&mut self) -> Option<Arrived> {
        let arrived = self.batches.pop_front()?;
        self.bytes -= arrived.bytes;
        Some(arrived)
    }
}

impl Partition {
    /// Of which nothing has arrived yet.
    pub fn at(end: Offset, now: Instant) -> Self {
        Partition {
            discovered: None,
            end,
            present_end: None,
            all_read: None,
            watermark: Timestamp::MIN,
            idle: false,
            last_arrival: now,
            waiting: Waiting::default(),
        }
    }

    pub fn arrived_up_to(&self) -> Offset {
        self.waiting.back().map_or(self.end, |arrived| arrived.batch.end)
    }

    /// All that it is known to have outside has arrived.
    pub fn has_arrived(&self) -> bool {
        self.present_end.is_some_and(|end| self.arrived_up_to() >= end)
    }

    pub fn cut(&self, partition: PartitionId) -> PartitionCut {
        PartitionCut { partition, start: None, end: self.end, watermark: self.watermark, idle: self.idle }
    }

    /// Moves rows before `end` out, splitting a batch that crosses it.
    pub fn take_up_to(&mut self, end: Offset, taken: &mut Vec<Arrived>) {
        while let Some(mut arrived) = self.waiting.pop_front() {
            if arrived.batch.start >= end {
                self.waiting.push_front(arrived);
                break;
            }
            if arrived.batch.end > end {
                let rest = split_at(&mut arrived, end);
                self.waiting.push_front(rest);
            }
            taken.push(arrived);
        }
        self.end = end;
    }
}

/// Cuts a batch in two at an offset; returns the later part. Both parts keep the whole's event times,
/// which replay does not use; what is counted of them goes with the earlier part.
fn split_at(arrived: &mut Arrived, at: Offset) -> Arrived {
    let row = arrived.batch.offsets.partition_point(|o| *o < at.0);
    let mut later = arrived.batch.clone();
    let rows = &arrived.batch.rows;
    later.rows = rows.slice(row, rows.num_rows() - row);
    arrived.batch.rows = rows.slice(0, row);
    if let Some(weights) = &arrived.batch.weights {
        later.weights = Some(weights.slice(row, weights.len() - row));
        arrived.batch.weights = Some(weights.slice(0, row));
    }
    later.offsets = arrived.batch.offsets.split_off(row);
    later.start = at;
    arrived.batch.end = at;
    arrived.batch.finished = false;
    later.undecodable.retain(|u| u.offset >= at);
    arrived.batch.undecodable.retain(|u| u.offset < at);
    later.notes.retain(|n| n.offset >= at);
    arrived.batch.notes.retain(|n| n.offset < at);
    let bytes = arrived.bytes / 2;
    arrived.bytes -= bytes;
    Arrived { batch: later, bytes, times: Observed { ahead: 0, ..arrived.times }, at: arrived.at }
}
