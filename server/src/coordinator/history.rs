//! What is remembered of a source's cuts, so that a view created later decides lateness as the others did.
//! A run is a stretch of cuts that share one arrival watermark: a cut whose rows all lie at or after its own
//! arrival watermark is on time under any earlier one too, so it may join the run before it without changing
//! any decision. Runs are therefore few: a new one starts at a cut with a row behind the watermark, or
//! after `RUN_ROWS_MAX` rows.

use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, Offset, PartitionId, TaggedBatch, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bounds how far a backfill's watermark trails the rows it has read.
const RUN_ROWS_MAX: u64 = 200_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub last_epoch: Epoch,
    /// The watermark under which the run's rows arrived.
    pub arrival_watermark: Timestamp,
    /// The source's watermark after the run.
    pub watermark: Timestamp,
    /// Positions after the run, of every partition.
    pub ends: Vec<PartitionStart>,
    rows: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    runs: Vec<Run>,
}

impl History {
    /// Records a cut. `behind`: one of its rows has a time before `arrival_watermark`.
    pub fn push(
        &mut self,
        epoch: Epoch,
        arrival_watermark: Timestamp,
        watermark: Timestamp,
        ends: Vec<PartitionStart>,
        rows: u64,
        behind: bool,
    ) {
        if let Some(last) = self.runs.last_mut()
            && !behind
            && last.rows + rows <= RUN_ROWS_MAX
        {
            last.last_epoch = epoch;
            last.watermark = watermark;
            last.ends = ends;
            last.rows += rows;
            return;
        }
        self.runs.push(Run { last_epoch: epoch, arrival_watermark, watermark, ends, rows });
    }
}

/// Walks a private reading of a source through its history: tags rows with their arrival watermark and knows
/// the watermark that all partitions have reached.
pub struct Replay {
    runs: Vec<Run>,
    position: BTreeMap<PartitionId, Offset>,
    /// Runs that every partition has passed.
    done: usize,
    watermark: Timestamp,
}

impl Replay {
    /// From `start` to `end`; `watermark` was in force at `start`.
    pub fn new(history: &History, start: &[PartitionStart], end: &[PartitionStart], watermark: Timestamp) -> Self {
        let position: BTreeMap<_, _> = end.iter().map(|p| (p.partition, offset_of(start, p.partition).unwrap_or(Offset(0)))).collect();
        let mut replay = Replay { runs: history.runs.clone(), position, done: 0, watermark };
        replay.settle();
        replay
    }

    /// Splits a batch of one partition by the runs its rows belong to.
    pub fn tag(&self, partition: PartitionId, offsets: &[i64], batch: &eddyline_common::ChangeBatch) -> Vec<TaggedBatch> {
        let mut tagged = Vec::new();
        let mut row = 0;
        for run in &self.runs[self.done..] {
            let end = offset_of(&run.ends, partition).unwrap_or(Offset(i64::MIN));
            let stop = offsets.partition_point(|o| *o < end.0);
            if stop > row {
                tagged.push(TaggedBatch { changes: batch.slice(row, stop - row), arrival_watermark: run.arrival_watermark });
                row = stop;
            }
            if row == offsets.len() {
                return tagged;
            }
        }
        // Past the recorded runs: the last cuts of the range, whose arrival watermark is the last one's.
        let arrival_watermark = self.runs.last().map_or(self.watermark, |r| r.arrival_watermark);
        tagged.push(TaggedBatch { changes: batch.slice(row, offsets.len() - row), arrival_watermark });
        tagged
    }

    /// The partition has been read up to `end`.
    pub fn advance(&mut self, partition: PartitionId, end: Offset) {
        self.position.insert(partition, end);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(run) = self.runs.get(self.done)
            && run.ends.iter().all(|e| self.position.get(&e.partition).is_some_and(|p| *p >= e.end()))
        {
            self.watermark = self.watermark.max(run.watermark);
            self.done += 1;
        }
    }

    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }
}

pub fn offset_of(positions: &[PartitionStart], partition: PartitionId) -> Option<Offset> {
    positions.iter().find(|p| p.partition == partition).map(|p| p.start)
}

/// A `PartitionStart` also serves as "position after": what comes next starts there.
trait Position {
    fn end(&self) -> Offset;
}

impl Position for PartitionStart {
    fn end(&self) -> Offset {
        self.start
    }
}
