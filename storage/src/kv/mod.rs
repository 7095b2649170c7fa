//! The implementations of [`KeyValueStore`](eddyline_common::kv::KeyValueStore): the durable form of operator state.
//!
//! - `rocks`: [`RocksKv`], spills to disk and checkpoints by hard links
//! - `memory`: [`MemoryKv`], for tests and simulation
//!
//! Neither knows what keys and values mean. Both start from an image that an earlier `checkpoint` wrote, or empty;
//! a live directory never outlives its process.

mod memory;
mod rocks;

#[cfg(test)]
mod tests;

pub use memory::MemoryKv;
pub use rocks::RocksKv;

use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlError, StateTableId};

/// Asserts the contract of `ingest` before anything is changed: one run per table, keys strictly ascending.
fn check_runs(runs: &[(StateTableId, SortedRun)]) -> Result<()> {
    if let Some(pair) = runs.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        return Err(SqlError::internal(format!("state table {} has two runs in one ingest", pair[1].0)));
    }
    match runs.iter().find(|(_, run)| !run.is_sorted()) {
        Some((table, _)) => Err(SqlError::internal(format!("the run of state table {table} is not sorted by key"))),
        None => Ok(()),
    }
}
