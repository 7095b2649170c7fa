//! Counters that others read without asking the coordinator: for `/metrics`, the demo and SHOW JOBS.

use eddyline_common::{Epoch, RelationId};
use eddyline_executor::OperatorStats;
use eddyline_storage::log::LogStats;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

#[derive(Debug, Default)]
pub struct Stats {
    /// The newest durable cut.
    pub epoch: AtomicU64,
    pub cuts: AtomicU64,
    pub checkpoints: AtomicU64,
    pub checkpoint_failures: AtomicU64,
    pub checkpoint_epoch: AtomicU64,
    /// Of the newest one, and of all since start.
    pub checkpoint_micros: AtomicU64,
    pub checkpoint_micros_total: AtomicU64,
    /// Written by all since start, files shared with earlier ones not counted again.
    pub checkpoint_bytes: AtomicU64,
    pub log: Arc<LogStats>,
    /// Memory of all views' rows, deaths and indexes, as of the last vacuum.
    pub view_bytes: AtomicU64,
    pub ring_bytes: AtomicU64,
    /// Epochs that readers hold: how many, since when the oldest, rows kept for them, and how many were let go of.
    pub pins: AtomicU64,
    pub pin_micros: AtomicU64,
    pub pin_bytes: AtomicU64,
    pub pins_let_go: AtomicU64,
    /// Rows of views that are in memory because they are in no file yet.
    pub tail_bytes: AtomicU64,
    /// Operator state of all jobs in memory (backend `rocksdb`).
    pub state_bytes: AtomicU64,
    pub sources: RwLock<BTreeMap<RelationId, Arc<SourceStats>>>,
    pub jobs: RwLock<BTreeMap<RelationId, Arc<JobStats>>>,
    pub sinks: RwLock<BTreeMap<RelationId, Arc<SinkStats>>>,
}

#[derive(Debug, Default)]
pub struct SinkStats {
    pub name: String,
    /// Acknowledged by the outside since start, and up to which epoch.
    pub rows: AtomicU64,
    pub epoch: AtomicU64,
    /// In the log, not acknowledged; and how much that may be.
    pub waiting_bytes: AtomicU64,
    pub log_bytes_max: AtomicU64,
    /// Times that sending had to begin again.
    pub failures: AtomicU64,
    pub paused: AtomicBool,
    /// What is being retried, if the outside or the disk is in trouble.
    pub problem: RwLock<Option<String>>,
}

impl SinkStats {
    pub fn is_full(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) >= self.log_bytes_max.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub struct SourceStats {
    pub name: String,
    /// Records taken into cuts, undecodable ones included.
    pub records: AtomicU64,
    pub undecodable: AtomicU64,
    /// Decoded, in memory.
    pub bytes: AtomicU64,
    /// Offsets that no cut has taken yet; -1 if the connector does not know.
    pub lag: AtomicI64,
    /// Microseconds since the epoch; i64::MIN before the first row.
    pub watermark: AtomicI64,
    /// What the reader is retrying, if it is in trouble.
    pub problem: RwLock<Option<String>>,
}

#[derive(Debug, Default)]
pub struct JobStats {
    pub name: String,
    /// A view that stays where it is.
    pub paused: AtomicBool,
    pub rows_in: AtomicU64,
    pub rows_out: AtomicU64,
    pub late: AtomicU64,
    pub rejected: AtomicU64,
    pub steps: AtomicU64,
    pub busy_micros: AtomicU64,
    pub state_bytes: AtomicU64,
    pub epoch: AtomicU64,
    /// Microseconds from the arrival of the oldest input of the newest step to its commit.
    pub freshness_micros: AtomicI64,
    /// Share of the backfill that is done, in thousandths; 1000 once live.
    pub backfill_permille: AtomicU64,
    pub error: RwLock<Option<String>>,
    /// By node of the job's plan, since start.
    pub operators: OnceLock<Arc<[OperatorStats]>>,
}

impl Stats {
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Relaxed))
    }

    pub(crate) fn add_source(&self, id: RelationId, name: &str) -> Arc<SourceStats> {
        let stats = Arc::new(SourceStats {
            name: name.to_string(),
            watermark: AtomicI64::new(i64::MIN),
            lag: AtomicI64::new(-1),
            ..Default::default()
        });
        self.sources.write().insert(id, stats.clone());
        stats
    }

    pub(crate) fn add_job(&self, id: RelationId, name: &str) -> Arc<JobStats> {
        let stats = Arc::new(JobStats { name: name.to_string(), ..Default::default() });
        self.jobs.write().insert(id, stats.clone());
        stats
    }

    pub(crate) fn add_sink(&self, id: RelationId, name: &str) -> Arc<SinkStats> {
        let stats = Arc::new(SinkStats { name: name.to_string(), ..Default::default() });
        self.sinks.write().insert(id, stats.clone());
        stats
    }

    pub(super) fn remove(&self, id: RelationId) {
        self.sinks.write().remove(&id);
        self.sources.write().remove(&id);
        self.jobs.write().remove(&id);
    }
}
