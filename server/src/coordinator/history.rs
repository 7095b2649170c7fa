//! What is remembered of a source's cuts, so that a view created later decides lateness as the others did.
//! A run is a stretch of cuts that share one arrival watermark: a cut whose rows all lie at or after its own
//! arrival watermark is on time under any earlier one too, so it may join the run before it without changing
//! any decision. Runs are therefore few: a new one starts at a cut with a row behind the watermark, or
//! after `RUN_ROWS_MAX` rows.
//!
//! Only the last run still grows. Those before it are kept in chunks, each of which goes into a file of its own once, so
//! that a checkpoint writes what is new and no more than a chunk besides.

use bytes::Bytes;
use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, Offset, PartitionId, Result, SqlError, TaggedBatch, Timestamp};
use eddyline_storage::checkpoint::FileRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Bounds how far a backfill's watermark trails the rows it has read.
const RUN_ROWS_MAX: u64 = 200_000;

/// Runs of one chunk: what a manifest holds at most beside names of files.
const CHUNK_RUNS: usize = 1024;

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

/// Runs that do not change any more, and their file once a checkpoint has one.
#[derive(Debug)]
struct Chunk {
    runs: Vec<Run>,
    file: OnceLock<FileRef>,
}

/// Cheap to clone: chunks are shared.
#[derive(Clone, Debug, Default)]
pub struct History {
    chunks: Vec<Arc<Chunk>>,
    tail: Vec<Run>,
}

/// A history as a manifest has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedHistory {
    /// Files of `CHUNK_RUNS` runs each, as JSON.
    pub chunks: Vec<FileRef>,
    tail: Vec<Run>,
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
        if let Some(last) = self.tail.last_mut()
            && !behind
            && last.rows + rows <= RUN_ROWS_MAX
        {
            last.last_epoch = epoch;
            last.watermark = watermark;
            last.ends = ends;
            last.rows += rows;
            return;
        }
        if self.tail.len() == CHUNK_RUNS {
            let runs = std::mem::replace(&mut self.tail, Vec::with_capacity(CHUNK_RUNS));
            self.chunks.push(Arc::new(Chunk { runs, file: OnceLock::new() }));
        }
        self.tail.push(Run { last_epoch: epoch, arrival_watermark, watermark, ends, rows });
    }

    pub fn len(&self) -> usize {
        self.chunks.len() * CHUNK_RUNS + self.tail.len()
    }

    fn get(&self, index: usize) -> Option<&Run> {
        match self.chunks.get(index / CHUNK_RUNS) {
            Some(chunk) => chunk.runs.get(index % CHUNK_RUNS),
            None => self.tail.get(index - self.chunks.len() * CHUNK_RUNS),
        }
    }

    /// Puts chunks that have no file yet into files, for a checkpoint that may come to nothing.
    pub fn save(&self, put: &mut dyn FnMut(Bytes) -> Result<FileRef>) -> Result<SavedHistory> {
        let mut chunks = Vec::with_capacity(self.chunks.len());
        for chunk in &self.chunks {
            let file = match chunk.file.get() {
                Some(file) => file.clone(),
                None => {
                    let json = serde_json::to_vec(&chunk.runs).map_err(SqlError::internal)?;
                    put(json.into())?
                }
            };
            chunks.push(file);
        }
        Ok(SavedHistory { chunks, tail: self.tail.clone() })
    }

    /// A checkpoint is there that has it so: its files are not written again.
    pub fn note_saved(&self, saved: &SavedHistory) {
        for (chunk, file) in self.chunks.iter().zip(&saved.chunks) {
            chunk.file.get_or_init(|| file.clone());
        }
    }

    pub fn load(saved: &SavedHistory, get: &mut dyn FnMut(&FileRef) -> Result<Bytes>) -> Result<Self> {
        let mut chunks = Vec::with_capacity(saved.chunks.len());
        for file in &saved.chunks {
            let damaged = |why: String| SqlError::corrupt(format!("file {} of a source's history is damaged: {why}", file.name));
            let runs: Vec<Run> = serde_json::from_slice(&get(file)?).map_err(|e| damaged(e.to_string()))?;
            if runs.len() != CHUNK_RUNS {
                return Err(damaged(format!("it has {} runs, not {CHUNK_RUNS}", runs.len())));
            }
            chunks.push(Arc::new(Chunk { runs, file: OnceLock::from(file.clone()) }));
        }
        Ok(History { chunks, tail: saved.tail.clone() })
    }
}

/// Walks a private reading of a source through its history: tags rows with their arrival watermark and knows
/// the watermark that all partitions have reached.
pub struct Replay {
    history: History,
    position: BTreeMap<PartitionId, Offset>,
    /// Runs that every partition has passed.
    done: usize,
    watermark: Timestamp,
    now: Timestamp,
}

impl Replay {
    /// From `start` to `end`; `watermark` was in force at `start`. All rows are of the `now` of the epoch that is read up to.
    pub fn new(history: &History, start: &[PartitionStart], end: &[PartitionStart], watermark: Timestamp, now: Timestamp) -> Self {
        let position: BTreeMap<_, _> = end.iter().map(|p| (p.partition, offset_of(start, p.partition).unwrap_or(Offset(0)))).collect();
        let mut replay = Replay { history: history.clone(), position, done: 0, watermark, now };
        replay.settle();
        replay
    }

    /// Splits a batch of one partition by the runs its rows belong to.
    pub fn tag(&self, partition: PartitionId, offsets: &[i64], batch: &eddyline_common::ChangeBatch) -> Vec<TaggedBatch> {
        let mut tagged = Vec::new();
        let mut row = 0;
        let mut index = offsets.first().map_or(self.done, |first| self.run_after(partition, *first));
        while row < offsets.len() {
            // Past the recorded runs: the last cuts of the range, whose arrival watermark is the last one's.
            let run = self.history.get(index);
            let stop = run.map_or(offsets.len(), |run| offsets.partition_point(|o| *o < end_of(run, partition).0));
            if stop > row {
                let arrival_watermark = run.or(self.history.tail.last()).map_or(self.watermark, |r| r.arrival_watermark);
                tagged.push(TaggedBatch { changes: batch.slice(row, stop - row), arrival_watermark, now: self.now });
                row = stop;
            }
            index += 1;
        }
        tagged
    }

    /// The first run that is not done and ends after an offset.
    fn run_after(&self, partition: PartitionId, offset: i64) -> usize {
        let (mut low, mut high) = (self.done, self.history.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let ends_after = self.history.get(middle).is_some_and(|run| end_of(run, partition).0 > offset);
            if ends_after { high = middle } else { low = middle + 1 }
        }
        low
    }

    /// The partition has been read up to `end`.
    pub fn advance(&mut self, partition: PartitionId, end: Offset) {
        self.position.insert(partition, end);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(run) = self.history.get(self.done)
            && run.ends.iter().all(|e| self.position.get(&e.partition).is_some_and(|p| *p >= e.start))
        {
            self.watermark = self.watermark.max(run.watermark);
            self.done += 1;
        }
    }

    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// How far each partition has been read.
    pub fn positions(&self) -> Vec<PartitionStart> {
        self.position.iter().map(|(partition, start)| PartitionStart { partition: *partition, start: *start }).collect()
    }
}

pub fn offset_of(positions: &[PartitionStart], partition: PartitionId) -> Option<Offset> {
    positions.iter().find(|p| p.partition == partition).map(|p| p.start)
}

/// Where a partition stands after a run; one that was discovered later has nothing in it.
fn end_of(run: &Run, partition: PartitionId) -> Offset {
    offset_of(&run.ends, partition).unwrap_or(Offset(i64::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use eddyline_common::ChangeBatch;

    fn at(partition: i32, offset: i64) -> PartitionStart {
        PartitionStart { partition: PartitionId(partition), start: Offset(offset) }
    }

    /// `runs` cuts of ten rows each, every one with a row behind the watermark.
    fn history(runs: i64) -> History {
        let mut history = History::default();
        for n in 0..runs {
            history.push(Epoch(n as u64 + 1), Timestamp(n * 100), Timestamp((n + 1) * 100), vec![at(0, (n + 1) * 10)], 10, true);
        }
        history
    }

    fn rows(offsets: std::ops::Range<i64>) -> (Vec<i64>, ChangeBatch) {
        let offsets: Vec<i64> = offsets.collect();
        let column: ArrayRef = Arc::new(Int64Array::from(offsets.clone()));
        (offsets, ChangeBatch::insertions(RecordBatch::try_from_iter([("o", column)]).unwrap()))
    }

    #[test]
    fn a_checkpoint_writes_each_chunk_once() {
        let mut files: BTreeMap<String, Bytes> = BTreeMap::new();
        let mut history = history(2 * CHUNK_RUNS as i64 + 7);
        let mut save = |history: &History| {
            let mut puts = 0;
            let saved = history.save(&mut |bytes: Bytes| {
                puts += 1;
                let file = FileRef { name: format!("f{}", files.len()), bytes: bytes.len() as u64, crc32: 0 };
                files.insert(file.name.clone(), bytes);
                Ok(file)
            });
            (saved.unwrap(), puts)
        };
        assert_eq!(save(&history).1, 2);
        let (saved, puts) = save(&history);
        assert_eq!((saved.chunks.len(), saved.tail.len(), puts), (2, 7, 2), "the first checkpoint came to nothing, and its files are gone");
        history.note_saved(&saved);
        assert_eq!(save(&history).1, 0, "nothing new, nothing written");
        for n in 0..CHUNK_RUNS {
            history.push(Epoch(10_000 + n as u64), Timestamp(1), Timestamp(2), vec![at(0, 1_000_000)], 1, true);
        }
        let (saved, puts) = save(&history);
        assert_eq!((saved.chunks.len(), puts), (3, 1));
        let loaded = History::load(&saved, &mut |file| Ok(files[&file.name].clone())).unwrap();
        assert_eq!(loaded.len(), history.len());
        assert!((0..history.len()).all(|i| loaded.get(i) == history.get(i)));
        let cut_short = &mut |file: &FileRef| Ok(files[&file.name].slice(1..));
        assert!(History::load(&saved, cut_short).is_err());
    }

    #[test]
    fn rows_find_their_runs_across_chunks_and_from_a_position() {
        let runs = CHUNK_RUNS as i64 + 3;
        let history = history(runs);
        let end = [at(0, runs * 10)];
        let first = (CHUNK_RUNS as i64 - 1) * 10 + 5;
        let mut replay = Replay::new(&history, &[at(0, first)], &end, Timestamp(0), Timestamp(0));
        let (offsets, batch) = rows(first..first + 20);
        let tagged: Vec<(usize, i64)> =
            replay.tag(PartitionId(0), &offsets, &batch).iter().map(|t| (t.changes.num_rows(), t.arrival_watermark.0)).collect();
        let arrival = |run: i64| run * 100;
        let run = CHUNK_RUNS as i64 - 1;
        assert_eq!(tagged, [(5, arrival(run)), (10, arrival(run + 1)), (5, arrival(run + 2))]);
        replay.advance(PartitionId(0), Offset(first + 20));
        assert_eq!(replay.watermark(), Timestamp((run + 2) * 100));
        assert_eq!(replay.positions(), [at(0, first + 20)]);
    }
}
