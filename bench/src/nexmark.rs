//! The generator's rows in this process, through the same connector that the server opens.
//!
//! - `queries`: the benchmark of Nexmark's own queries, on a server

pub mod queries;

use crate::Result;
use arrow::array::RecordBatch;
use eddyline_common::connector::{BatchSink, SourceBatch, SourceSpec};
use std::sync::{Arc, Mutex, mpsc};

/// Of 50 events, this many are bids.
const BIDS: u64 = 46;
const EVENTS: u64 = 50;

/// How many events hold about `rows` bids, and how many bids they hold exactly.
pub fn events_for(rows: u64) -> (u64, u64) {
    let rounds = rows.div_ceil(BIDS);
    (rounds * EVENTS, rounds * BIDS)
}

/// Batches that the generator made and nobody has taken yet; it is faster than whoever takes them.
const WAITING_MAX: usize = 64;

struct Channel(Mutex<mpsc::SyncSender<std::result::Result<SourceBatch, String>>>);

impl BatchSink for Channel {
    fn push(&self, batch: SourceBatch) -> bool {
        self.send(Ok(batch))
    }
    fn report(&self, problem: Option<String>) {
        if let Some(problem) = problem {
            self.send(Err(problem));
        }
    }
    fn is_closed(&self) -> bool {
        false
    }
}

impl Channel {
    fn send(&self, item: std::result::Result<SourceBatch, String>) -> bool {
        self.0.lock().is_ok_and(|sender| sender.send(item).is_ok())
    }
}

/// All rows of a bounded source, in the order of its splits' batches.
pub fn read(spec: &SourceSpec) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for_each(spec, |batch| {
        batches.push(batch);
        Ok(())
    })?;
    Ok(batches)
}

/// Hands over all rows of a bounded source, a batch at a time.
pub fn for_each(spec: &SourceSpec, mut take: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
    let connector = eddyline_connectors::open(spec)?;
    let ranges = connector.present()?.ok_or("the generator is endless")?;
    let mut open = ranges.len();
    let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
    let _reader = connector.read(ranges, Arc::new(Channel(Mutex::new(sender))))?;
    while open > 0 {
        let batch = receiver.recv()??;
        open -= usize::from(batch.finished);
        take(batch.rows)?;
    }
    Ok(())
}
