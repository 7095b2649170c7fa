//! Generator threads: each owns some splits and goes round them, a bounded batch at a time. With a rate, what is due
//! is measured against a steady clock since the reader's start; a range with an end has been generated once before
//! and is read again as fast as it is taken.

use super::Generator;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use eddyline_common::connector::*;
use eddyline_common::{Offset, Result};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Rows of a batch: enough to spread a batch's fixed costs, few enough for a processor cache.
const ROWS_MAX: usize = 8_192;
/// Events looked at for one batch, for tables that keep few of them.
const EVENTS_MAX: i64 = 65_536;
/// How often a rated generator emits.
const TICK: Duration = Duration::from_millis(20);

pub struct NexmarkReader {
    /// Closed to stop the threads.
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl SourceReader for NexmarkReader {}

impl NexmarkReader {
    pub fn start(generator: Arc<Generator>, ranges: Vec<PartitionRange>, sink: Arc<dyn BatchSink>) -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(ranges.len());
        let (stop, stopped) = bounded(0);
        let mut reader = NexmarkReader { stop: Some(stop), threads: Vec::new() };
        for thread in 0..threads {
            let splits = ranges.iter().skip(thread).step_by(threads).map(|range| Split::new(&generator, *range)).collect();
            let (generator, sink, stopped) = (generator.clone(), sink.clone(), stopped.clone());
            let work = move || generate(&generator, splits, &*sink, &stopped);
            reader.threads.push(std::thread::Builder::new().name("nexmark".to_string()).spawn(work)?);
        }
        Ok(reader)
    }
}

impl Drop for NexmarkReader {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a nexmark generator thread panicked");
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
    fn new(generator: &Generator, range: PartitionRange) -> Split {
        let split_end = generator.split_end(range.partition.0 as i64);
        let asked = range.end.map(|end| end.0);
        let end = match (asked, split_end) {
            (Some(asked), Some(split_end)) => Some(asked.min(split_end)),
            (asked, split_end) => asked.or(split_end),
        };
        let rate = generator.rate.filter(|_| asked.is_none()).map(|rate| rate as f64 / generator.splits as f64);
        Split { range, next: range.start.0, end, finishes: split_end.is_some() && end == split_end, rate }
    }

    /// The offset up to which the split may go now.
    fn limit(&self, elapsed: Duration) -> i64 {
        let due = self.rate.map_or(i64::MAX, |rate| self.range.start.0.saturating_add((elapsed.as_secs_f64() * rate) as i64));
        due.min(self.end.unwrap_or(i64::MAX)).min(self.next.saturating_add(EVENTS_MAX))
    }

    /// The next batch, up to `limit` at most.
    fn batch(&mut self, generator: &Generator, limit: i64) -> Result<SourceBatch> {
        let start = self.next;
        let (mut numbers, mut offsets) = (Vec::new(), Vec::new());
        while self.next < limit && numbers.len() < ROWS_MAX {
            let number = generator.model.number_at(self.next * generator.splits + self.range.partition.0 as i64);
            if generator.table.holds(number) {
                numbers.push(number);
                offsets.push(self.next);
            }
            self.next += 1;
        }
        Ok(SourceBatch {
            partition: self.range.partition,
            start: Offset(start),
            end: Offset(self.next),
            rows: generator.table.rows(&generator.model, &numbers)?,
            offsets,
            undecodable: Vec::new(),
            finished: self.finishes && Some(self.next) == self.end,
        })
    }

    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

fn generate(generator: &Generator, mut splits: Vec<Split>, sink: &dyn BatchSink, stopped: &Receiver<()>) {
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
            match split.batch(generator, limit) {
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
