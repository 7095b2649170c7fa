//! Sources for the tests beside: connectors that read nothing, readers that fail at first, a clock that is moved.

use super::super::Event;
use super::super::history::History;
use super::super::inbox::{Inbox, InboxRoom};
use super::super::reaper::Reaper;
use super::super::stats::SourceStats;
use super::{Source, SourceProgress};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use crossbeam_channel::Receiver;
use eddyline_common::connector::{BatchSink, PartitionRange, PartitionStart, SourceBatch, SourceConnector, SourceReader};
use eddyline_common::runtime::{Clock, ManualClock, SystemClock, SystemThreads};
use eddyline_common::{Epoch, Offset, PartitionId, Result, SqlError, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Its readers cannot be started at first.
pub struct Failing {
    pub attempts: AtomicUsize,
    pub fails: usize,
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

pub fn bid() -> Source {
    let create = "CREATE SOURCE bid (auction BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid')";
    source(create, Arc::new(Failing { attempts: AtomicUsize::new(0), fails: 0 }))
}

/// The source `bid` that is created.
pub fn source(create: &str, connector: Arc<dyn SourceConnector>) -> Source {
    heard(create, connector, Arc::new(SystemClock)).0
}

/// The source, and what its coordinator is told.
fn heard(create: &str, connector: Arc<dyn SourceConnector>, clock: Arc<dyn Clock>) -> (Source, Receiver<Event>) {
    let catalog = crate::pgcatalog::tests::catalog_of(create);
    let relation = catalog.by_name("bid").unwrap().clone();
    let starts = vec![PartitionStart { partition: PartitionId(0), start: Offset(0) }];
    let (events, told) = crossbeam_channel::unbounded();
    let stats = Arc::new(SourceStats::default());
    let (progress, room) = (SourceProgress::starting(starts), InboxRoom::default());
    let source = Source::new(relation, connector, progress, History::default(), Epoch(1), stats, room, clock, events).unwrap();
    (source, told)
}

pub fn empty_batch(partition: i32, start: i64, end: i64) -> SourceBatch {
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

pub const IDLE_AFTER: Duration = Duration::from_secs(20);

/// A source of which partitions are idle that are silent for so long; its reaper, its inbox, what its coordinator is told, and the clock.
pub fn idling() -> (Reaper, Source, Arc<Inbox>, Receiver<Event>, Arc<ManualClock>) {
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

pub fn pass(clock: &ManualClock, time: Duration) {
    clock.advance(time.as_micros() as u64);
}

/// Keeps what its readers were to read, and which columns they were to fill.
#[derive(Default)]
pub struct Opened {
    pub ranges: Mutex<Vec<Vec<PartitionRange>>>,
    pub columns: Mutex<Vec<Vec<bool>>>,
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
