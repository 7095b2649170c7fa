//! Counters of the serving side. Single atomics, read one by one; `/metrics` prints them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub struct Metrics {
    /// Open client connections; shared with whoever shows it.
    pub sessions: Arc<AtomicU64>,
    pub statements: Counter,
    pub statement_errors: Counter,
    /// Microseconds that statements took, rows sent included.
    pub statement_micros: Counter,
    /// How often a statement was planned: when it is prepared, when it first runs, and when what its plan follows from has changed.
    pub plans: Counter,
    /// Runs of prepared statements with the plan of an earlier one.
    pub plans_reused: Counter,
    pub rows_sent: Counter,
    pub rows_written: Counter,
}
