//! What generators share: a connector, and a reader whose threads each own some splits and go round them, a bounded batch at a time. With
//! a rate, what is due is measured against a steady clock since the reader's start; a range with an end has been
//! generated once before and is read again as fast as it is taken.
//!
//! A generator is a pure function from split and offset to a row, so that any range can be read again. Each column is made by itself,
//! so one that nobody reads costs nothing.

use crate::threads;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use eddyline_common::connector::*;
use eddyline_common::{Offset, PartitionId, Result, SqlError, SqlState};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Rows of a batch: enough to spread a batch's fixed costs, few enough for a processor cache.
const ROWS_MAX: usize = 8_192;
/// Events looked at for one batch, for tables that keep few of them.
const EVENTS_MAX: i64 = 65_536;
/// How often a rated generator emits.
const TICK: Duration = Duration::from_millis(20);

pub trait Generator: Send + Sync + 'static {
    /// Of its threads.
    fn name(&self) -> &'static str;

    fn splits(&self) -> i64;

    /// The offset at which a split ends; `None`: endless.
    fn split_end(&self, split: i64) -> Option<i64>;

    /// Offsets of all splits per second; `None`: as fast as they are taken.
    fn rate(&self) -> Option<i64>;

    /// Whether an offset has a row.
    fn holds(&self, split: i64, offset: i64) -> bool;

    /// The columns of its rows.
    fn schema(&self) -> &SchemaRef;

    /// The rows at offsets that have one, in all columns or in those that are `kept`; the others are null.
    fn rows(&self, split: i64, offsets: &[i64], kept: &[bool]) -> Result<RecordBatch>;
}

/// A batch of columns of which only those are made that are kept or NOT NULL.
pub fn batch_of(schema: &SchemaRef, rows: usize, kept: &[bool], mut column: impl FnMut(usize) -> Result<ArrayRef>) -> Result<RecordBatch> {
    let columns = schema.fields().iter().zip(kept).enumerate().map(|(at, (field, kept))| match *kept || !field.is_nullable() {
        true => column(at),
        false => Ok(new_null_array(field.data_type(), rows)),
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// A source of what a generator makes.
pub struct Generated<G> {
    pub generator: Arc<G>,
}

impl<G: Generator> SourceConnector for Generated<G> {
    fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
        let start = |split: i64| PartitionStart { partition: PartitionId(split as i32), start: Offset(0) };
        Ok((0..self.generator.splits()).map(start).collect())
    }

    fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
        let range = |split: i64| {
            let end = Some(Offset(self.generator.split_end(split)?));
            Some(PartitionRange { partition: PartitionId(split as i32), start: Offset(0), end })
        };
        Ok((0..self.generator.splits()).map(range).collect())
    }

    fn read(&self, ranges: Vec<PartitionRange>, sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(GeneratorReader::start(self.generator.clone(), ranges, None, sink)?))
    }

    fn read_columns(&self, ranges: Vec<PartitionRange>, kept: &[bool], sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(GeneratorReader::start(self.generator.clone(), ranges, Some(kept), sink)?))
    }
}

pub struct GeneratorReader {
    /// Closed to stop the threads.
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl SourceReader for GeneratorReader {}

impl GeneratorReader {
    /// `kept`: the columns that anybody reads; `None`: all.
    pub fn start(
        generator: Arc<dyn Generator>,
        ranges: Vec<PartitionRange>,
        kept: Option<&[bool]>,
        sink: Arc<dyn BatchSink>,
    ) -> Result<Self> {
        let kept: Arc<[bool]> = kept.map_or_else(|| vec![true; generator.schema().fields().len()].into(), Arc::from);
        if let Some(range) = ranges.iter().find(|range| !(0..generator.splits()).contains(&(range.partition.0 as i64))) {
            return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("the generator has no split {}", range.partition)));
        }
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(ranges.len());
        let (stop, stopped) = bounded(0);
        let mut reader = GeneratorReader { stop: Some(stop), threads: Vec::new() };
        for thread in 0..threads {
            let splits = ranges.iter().skip(thread).step_by(threads).map(|range| Split::new(&*generator, *range)).collect();
            let (generator, kept, sink, stopped) = (generator.clone(), kept.clone(), sink.clone(), stopped.clone());
            let (name, told) = (generator.name(), sink.clone());
            let work = move || generate(&*generator, splits, &kept, &*sink, &stopped);
            reader.threads.push(threads::spawn(name, work, move |problem| told.report(Some(problem)))?);
        }
        Ok(reader)
    }
}

impl Drop for GeneratorReader {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a generator thread panicked");
            }
        }
    }
}

/// A split being read.
struct Split {
    range: PartitionRange,
    next: i64,
    /// Where the reader stops; `None`: never.
    end: Option<i64>,
    /// The generator ends there too.
    finishes: bool,
    /// Events per second, for what has not been generated before.
    rate: Option<f64>,
}

impl Split {
    fn new(generator: &dyn Generator, range: PartitionRange) -> Split {
        let split_end = generator.split_end(range.partition.0 as i64);
        let asked = range.end.map(|end| end.0);
        let end = match (asked, split_end) {
            (Some(asked), Some(split_end)) => Some(asked.min(split_end)),
            (asked, split_end) => asked.or(split_end),
        };
        let rate = generator.rate().filter(|_| asked.is_none()).map(|rate| rate as f64 / generator.splits() as f64);
        Split { range, next: range.start.0, end, finishes: split_end.is_some() && end == split_end, rate }
    }

    /// The offset up to which the split may go now.
    fn limit(&self, elapsed: Duration) -> i64 {
        let due = self.rate.map_or(i64::MAX, |rate| self.range.start.0.saturating_add((elapsed.as_secs_f64() * rate) as i64));
        due.min(self.end.unwrap_or(i64::MAX)).min(self.next.saturating_add(EVENTS_MAX))
    }

    /// The next batch, up to `limit` at most.
    fn batch(&mut self, generator: &dyn Generator, limit: i64, kept: &[bool]) -> Result<SourceBatch> {
        let (start, split) = (self.next, self.range.partition.0 as i64);
        let mut offsets = Vec::new();
        while self.next < limit && offsets.len() < ROWS_MAX {
            if generator.holds(split, self.next) {
                offsets.push(self.next);
            }
            self.next += 1;
        }
        Ok(SourceBatch {
            partition: self.range.partition,
            start: Offset(start),
            end: Offset(self.next),
            rows: generator.rows(split, &offsets, kept)?,
            weights: None,
            offsets,
            undecodable: Vec::new(),
            notes: Vec::new(),
            finished: self.finishes && Some(self.next) == self.end,
        })
    }

    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

fn generate(generator: &dyn Generator, mut splits: Vec<Split>, kept: &[bool], sink: &dyn BatchSink, stopped: &Receiver<()>) {
    let start = Instant::now();
    // A split that is empty from the start still says so.
    let mut emit_empty = true;
    while !sink.is_closed() {
        let elapsed = start.elapsed();
        let mut behind = false;
        for split in &mut splits {
            let limit = split.limit(elapsed);
            if limit <= split.next && !(emit_empty && split.is_done()) {
                continue;
            }
            match split.batch(generator, limit, kept) {
                Ok(batch) => {
                    if !sink.push(batch) {
                        return;
                    }
                }
                // Generating is arithmetic: this is a defect, which must not look like the end of the data.
                Err(error) => return sink.report(Some(error.to_string())),
            }
            behind |= split.rate.is_none() || split.next < limit;
        }
        emit_empty = false;
        splits.retain(|split| !split.is_done());
        let pause = if behind { Duration::ZERO } else { TICK };
        if splits.is_empty() || stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}
