//! The write-ahead log: an ordered sequence of frames (kind, payload) in bounded segment files, group-committed by
//! one flusher thread. It knows nothing of what the frames mean.
//!
//! - `frame`: the format on disk, byte by byte
//! - `segment`: names of segment files, finding the end of the last one
//! - `recovered`: reading frames back from a position
//! - `writer`: [`Log`], appending and waiting
//! - `flusher`: the thread that writes and syncs
//! - `spare`: the next segment's file, prepared in the background
//!
//! Invariants:
//! 1. Positions grow strictly in the order of `append`; a frame is durable only if all before it are.
//! 2. A segment is durable in full, with a seal at its end, before the next one is named, so only the last can have a torn
//!    tail. What follows the last record of a file is zeros, or was never durable.
//! 3. A frame whose `append` failed is not in the log and never will be. One that was accepted is written again until
//!    it is durable, the log is poisoned, or the process ends; its waiters hear of it only then.
//! 4. After a failed sync nothing is known of what the disk holds, so nothing is written any more: the log is poisoned
//!    until it is opened again.

mod flusher;
mod frame;
mod recovered;
mod segment;
mod spare;
mod writer;

#[cfg(test)]
mod tests;

pub use recovered::{Frame, Frames, Recovered};
pub use segment::path as segment_path;
pub use writer::{DurableCallback, Log, LogFile, LogStats};

use eddyline_common::runtime::{SystemThreads, Threads};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where a frame starts. The default is before every frame of a log that still has its first segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// The number of the segment file, from 1.
    pub segment: u64,
    /// Bytes from the start of that file.
    pub offset: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

#[derive(Clone, Debug)]
pub struct LogOptions {
    /// A segment that would grow beyond this is followed by a new one; a larger frame has a segment for itself.
    pub segment_bytes: u64,
    /// Room that is made at once at the end of a segment that grows, in bytes.
    pub room_bytes_max: u64,
    /// What one record holds at most; a larger one is refused.
    pub record_bytes_max: usize,
    /// Pause before a failed write is tried again.
    pub retry_after: Duration,
    /// Where a test makes a sync fail.
    pub sync_failpoint: &'static str,
    /// Where it is written and prepared.
    pub threads: Arc<dyn Threads>,
}

/// Recovery reads a segment at a time into memory, and old ones go when a checkpoint passes them: large enough
/// to create a file rarely, small enough to read in a fraction of a second and to prepare at little cost.
pub const SEGMENT_BYTES: u64 = 16 << 20;
/// A quarter of a segment: each time the file grows, its sync takes as long as several others.
pub const ROOM_BYTES_MAX: u64 = 4 << 20;
/// Long enough to cost nothing while the disk is full, short enough that its end is noticed at once.
pub const RETRY_AFTER: Duration = Duration::from_millis(250);

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes: SEGMENT_BYTES,
            room_bytes_max: ROOM_BYTES_MAX,
            record_bytes_max: frame::PAYLOAD_BYTES_MAX,
            retry_after: RETRY_AFTER,
            sync_failpoint: "log.synced",
            threads: Arc::new(SystemThreads),
        }
    }
}
