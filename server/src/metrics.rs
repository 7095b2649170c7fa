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
    pub rows_sent: Counter,
    pub rows_written: Counter,
}

impl Metrics {
    /// Name, help, type and value of each, for Prometheus.
    pub fn samples(&self) -> [(&'static str, &'static str, &'static str, u64); 6] {
        [
            ("eddyline_sessions", "Open client connections", "gauge", self.sessions.load(Ordering::Relaxed)),
            ("eddyline_statements_total", "Statements run", "counter", self.statements.get()),
            ("eddyline_statement_errors_total", "Statements that failed", "counter", self.statement_errors.get()),
            ("eddyline_statement_microseconds_total", "Time that statements took", "counter", self.statement_micros.get()),
            ("eddyline_rows_sent_total", "Rows sent to clients", "counter", self.rows_sent.get()),
            ("eddyline_rows_written_total", "Rows written by statements", "counter", self.rows_written.get()),
        ]
    }
}
