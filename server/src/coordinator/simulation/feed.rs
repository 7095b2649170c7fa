//! A source of the simulation: partitions whose records outlive the server, as those of a broker do. What a record holds follows from its
//! place. Its readers are processes of the simulation, which push few rows at a time.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use eddyline_common::connector::{BatchSink, PartitionRange, PartitionStart, SourceBatch, SourceConnector, SourceReader};
use eddyline_common::runtime::{OneThread, Process, Threads, Turn};
use eddyline_common::{Offset, PartitionId, Result};
use parking_lot::Mutex;
use std::sync::Arc;

pub const PARTITIONS: usize = 2;

/// Rows that a reader pushes at a time, at most.
const ROWS_MAX: i64 = 3;

/// How many records each partition has.
pub type Ends = [i64; PARTITIONS];

/// The records that there are, for all servers of a simulation.
#[derive(Clone, Default)]
pub struct Feed {
    written: Arc<Mutex<Ends>>,
    /// Up to where readers have pushed them.
    pushed: Arc<Mutex<Ends>>,
}

impl Feed {
    pub fn write(&self, partition: usize, records: i64) {
        self.written.lock()[partition] += records;
    }

    pub fn ends(&self) -> Ends {
        *self.written.lock()
    }

    pub fn pushed(&self) -> Ends {
        *self.pushed.lock()
    }

    /// Where a source over it starts.
    pub fn starts() -> Vec<PartitionStart> {
        (0..PARTITIONS).map(|p| PartitionStart { partition: PartitionId(p as i32), start: Offset(0) }).collect()
    }

    /// What a server reads it with.
    pub fn connector(&self, threads: &OneThread) -> Box<dyn SourceConnector> {
        Box::new(Connector { feed: self.clone(), threads: threads.clone() })
    }
}

/// The values of a record but for its place.
pub fn record(partition: i64, offset: i64) -> (i64, i64) {
    ((offset * 7 + partition) % super::model::KEYS as i64, offset)
}

struct Connector {
    feed: Feed,
    threads: OneThread,
}

impl SourceConnector for Connector {
    fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
        Ok(Feed::starts())
    }

    fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
        let range =
            |(start, end): (PartitionStart, i64)| PartitionRange { partition: start.partition, start: start.start, end: Some(Offset(end)) };
        Ok(Some(Feed::starts().into_iter().zip(self.feed.ends()).map(range).collect()))
    }

    fn read(&self, ranges: Vec<PartitionRange>, sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.read_columns(ranges, &[true; 4], sink)
    }

    fn read_columns(&self, ranges: Vec<PartitionRange>, kept: &[bool], sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        let reading = Reading { feed: self.feed.clone(), ranges, kept: kept.to_vec(), turn: 0, sink };
        self.threads.spawn("feed", Box::new(reading))?;
        Ok(Box::new(Reader))
    }
}

/// Its process ends once its sink is closed.
struct Reader;

impl SourceReader for Reader {}

struct Reading {
    feed: Feed,
    ranges: Vec<PartitionRange>,
    kept: Vec<bool>,
    turn: usize,
    sink: Arc<dyn BatchSink>,
}

impl Process for Reading {
    fn turn(&mut self, _may_wait: bool) -> Turn {
        if self.sink.is_closed() || self.ranges.iter().all(|r| r.end.is_some_and(|end| r.start >= end)) {
            return Turn::Ended;
        }
        for _ in 0..self.ranges.len() {
            self.turn += 1;
            let index = self.turn % self.ranges.len();
            if let Some(batch) = self.next_of(index) {
                let (partition, end) = (batch.partition.0 as usize, batch.end.0);
                if !self.sink.push(batch) {
                    return Turn::Ended;
                }
                self.feed.pushed.lock()[partition] = end;
                return Turn::Worked;
            }
        }
        Turn::Idle
    }
}

impl Reading {
    fn next_of(&mut self, index: usize) -> Option<SourceBatch> {
        let range = &mut self.ranges[index];
        let written = self.feed.ends()[range.partition.0 as usize];
        self.sink.note_end(range.partition, Offset(written));
        let end = range.end.map_or(written, |end| end.0.min(written)).min(range.start.0 + 1 + self.turn as i64 % ROWS_MAX);
        let start = std::mem::replace(&mut range.start, Offset(end));
        (start.0 < end).then(|| batch(range.partition, start.0, end, &self.kept))
    }
}

/// Records of a partition; columns that nobody reads are null.
fn batch(partition: PartitionId, start: i64, end: i64, kept: &[bool]) -> SourceBatch {
    let p = i64::from(partition.0);
    let values: [&dyn Fn(i64) -> i64; 4] = [&|_| p, &|o| o, &|o| record(p, o).0, &|o| record(p, o).1];
    let column = |(value, kept): (&&dyn Fn(i64) -> i64, &bool)| match kept {
        true => Arc::new(Int64Array::from_iter_values((start..end).map(value))) as ArrayRef,
        false => new_null_array(&DataType::Int64, (end - start) as usize),
    };
    let columns: Vec<ArrayRef> = values.iter().zip(kept).map(column).collect();
    let fields: Vec<Field> = ["p", "o", "k", "v"].iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
    SourceBatch {
        partition,
        start: Offset(start),
        end: Offset(end),
        rows: RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(),
        weights: None,
        offsets: (start..end).collect(),
        undecodable: Vec::new(),
        notes: Vec::new(),
        finished: false,
    }
}
