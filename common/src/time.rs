//! Event time: microseconds since the Unix epoch, and the two ends of a watermark.

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01 00:00:00 UTC. Also the unit of every watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The watermark of an input that has seen nothing.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The watermark of a bounded input that has ended: +infinity.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    pub fn micros(self) -> i64 {
        self.0
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Timestamp::MIN
    }
}

pub const MICROS_PER_MILLI: i64 = 1_000;
pub const MICROS_PER_SECOND: i64 = 1_000_000;
/// Of 24 hours.
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
