//! The coordinator: single owner of the catalog, of the order of cuts and DDL, and of where every job stands.
//! One thread, fed by events; it never waits for a disk, a network or a worker.
//!
//! - `handle`: how sessions reach it
//! - `records`: what it logs
//! - `inbox`, `source`, `table`, `history`: inputs and their parts of a cut; `recorded`: those that a source takes again
//! - `ring`: what relations emitted, by epoch; `nows`: what time it was at which epoch
//! - `keyed`: sources whose records overwrite each other; `own_sources`: those that one view alone reads
//! - `pins`: epochs that readers hold, and for how long; `keeping`: back to where each view is kept for them and for jobs
//! - `building`: what stands for a relation at work
//! - `job`, `backfill`, `arrivals`: where jobs stand, and what they read on their own
//! - `prefetch`, `reaper`: threads that read rows for it, and on which readers end, so that the coordinator does neither
//! - `sink`: what leaves the server, by way of a log of its own
//! - `core`: the event loop; `cutting`, `scheduling`, `backfilling`, `sinking`, `pausing`, `reads`, `ddl`, `indexing`, `altering`, `collecting`,
//!   `filling`, `settings`, `replacing`, `checkpointing`, `recovery`, `replaying`: its chapters
//! - `system`: late, rejected and undecodable rows, and the relations that show them
//! - `unopened`: connectors of a server that starts which cannot be opened yet
//! - `lookups`: a job's ways to tables outside that it asks, and its trouble with them
//! - `stats`: counters for everybody
//!
//! Invariants:
//! 1. A cut is logged before anything it causes is seen: an epoch is visible once its cut is durable and the job has
//!    stepped to it.
//! 2. No step of a job that does not collect crosses a mark, so every such job is exact at every mark, and views can be read together.
//! 3. A job's step takes each input exactly once, whether from a ring, a snapshot or a private reader.

mod altering;
mod arrivals;
mod backfill;
mod backfilling;
mod building;
mod checkpointing;
mod collecting;
mod core;
mod cutting;
mod ddl;
mod filling;
mod handle;
mod history;
mod inbox;
mod indexing;
mod job;
mod keeping;
mod keyed;
mod lookups;
mod nows;
mod own_sources;
mod pausing;
mod pins;
mod prefetch;
mod reads;
mod reaper;
mod recorded;
mod records;
mod recovery;
mod replacing;
mod replaying;
mod ring;
mod scheduling;
pub mod settings;
#[cfg(test)]
mod simulation;
mod sink;
mod sinking;
mod source;
mod stats;
pub mod system;
mod table;
mod unopened;

pub use cutting::WAITING_BYTES_MAX;
pub use handle::{
    AdmittedWrite, CoordinatorHandle, Ddl, DdlOutcome, ReadSnapshot, Resolved, SystemAnswer, SystemRelation, TableLock, TableWrite,
};
pub use indexing::store_without_rows;
pub use pins::PinLimits;
pub use recovery::{Running, start};
pub use stats::{JobStats, PartitionOffsets, SinkStats, SourceStats, Stats};

use eddyline_common::connector::{SourceConnector, SourceSpec};
use eddyline_common::runtime::{Clock, FileSystem, Threads};
use eddyline_common::{Epoch, RelationId, Result, SqlError};
use eddyline_executor::StateBackend;
use object_store::ObjectStore;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A place for checkpoints.
#[derive(Clone)]
pub enum CheckpointLocation {
    /// A directory, which takes files by hard links where it can.
    Directory(PathBuf),
    /// A prefix of an object store, which is asked on a runtime of its own.
    Store { store: Arc<dyn ObjectStore>, prefix: String, runtime: tokio::runtime::Handle },
}

pub type OpenSource = Arc<dyn Fn(&SourceSpec) -> Result<Box<dyn SourceConnector>> + Send + Sync>;

/// What a coordinator is started with.
#[derive(Clone)]
pub struct CoordinatorConfig {
    pub data_dir: PathBuf,
    /// Where checkpoints go.
    pub checkpoint_store: CheckpointLocation,
    pub workers: usize,
    pub backend: StateBackend,
    /// Operator state of all jobs that stays in memory, in bytes.
    pub state_cache_bytes: usize,
    /// Emitted rows that wait for slow jobs, in bytes per relation.
    pub ring_bytes: usize,
    /// What waits of a source for its cuts, in bytes.
    pub waiting_bytes: usize,
    /// How long a reader keeps an epoch, and what it may cost.
    pub pin_limits: PinLimits,
    pub checkpoint_interval: Duration,
    /// What opens a source's connector.
    pub open_source: OpenSource,
    pub clock: Arc<dyn Clock>,
    pub fs: Arc<dyn FileSystem>,
    pub runtime: tokio::runtime::Handle,
    /// Where the core runs.
    pub threads: Arc<dyn Threads>,
    /// The size of the log's files, in bytes.
    pub log_segment_bytes: u64,
    /// Cancelled when a start that is under way is not wanted any more; without effect once it is complete.
    pub given_up: CancellationToken,
}

/// What wakes the coordinator.
enum Event {
    Command(handle::Command),
    Arrived(inbox::Reader),
    /// The log is durable up to this cut, or could not be written.
    Durable(Epoch, Result<()>),
    /// A DDL record is durable, or not.
    DdlDurable(u64, Result<()>),
    /// The views of jobs that wait for this checkpoint in the middle of a backfill are in files.
    HeldAreWritten(u64),
    /// All views of this checkpoint are, so that it needs nothing of its epoch any more.
    ViewsAreFrozen(u64),
    CheckpointDone(u64, Result<checkpointing::Written>),
    /// What no checkpoint needs since this one is gone, or is still there for a reason.
    CheckpointsCleaned(u64, Result<()>),
    /// Views have been cleaned, and their tails frozen; whether there is more to do at once.
    Vacuumed {
        more: bool,
    },
    /// A sink's log has so many more pieces of what its job emitted; or can never have them.
    SinkLogged(RelationId, u64),
    SinkFailed(RelationId, SqlError),
}
