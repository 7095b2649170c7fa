//! The key-value store under spilled and checkpointed operator state. RocksDB is one
//! implementation, an in-memory one the other; this trait is where tests inject faults.

use crate::error::Result;
use crate::ids::StateTableId;
use std::path::Path;

/// A key and its value; `None` deletes the key.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

/// Entries for one state table, sorted by key without duplicates.
#[derive(Clone, Debug, Default)]
pub struct SortedRun {
    pub entries: Vec<Entry>,
}

/// Contract: keys are compared as bytes. `ingest` is atomic per call and visible to later reads; it is
/// durable only as part of a `checkpoint`. All methods may block on disk; none may be called with a lock
/// held that a client waits for. Implementations are safe to share between workers.
pub trait KeyValueStore: Send + Sync {
    /// One value per key, in the order of `keys`. Costs a block read per key that is not cached; a
    /// key that was never written usually costs a bloom filter test.
    fn multi_get(&self, table: StateTableId, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>>;

    /// Calls `visit` for every entry with `start <= key < end` in key order until it returns false.
    /// `end == None` means to the end of the table.
    fn scan(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()>;

    /// Adds runs, one per state table, all or none of them.
    fn ingest(&self, runs: Vec<(StateTableId, SortedRun)>) -> Result<()>;

    /// Deletes every key of the table with `start <= key < end`.
    fn delete_range(&self, table: StateTableId, start: &[u8], end: &[u8]) -> Result<()>;

    /// Deletes a whole table (its job was dropped).
    fn drop_table(&self, table: StateTableId) -> Result<()>;

    /// Writes a consistent image of everything ingested so far into the new directory `dir`, by hard
    /// links where possible. Files are immutable from then on, and a file that is unchanged since an
    /// earlier image has the same name and length there.
    fn checkpoint(&self, dir: &Path) -> Result<()>;

    /// Reads served from disk rather than from a cache since the store was opened; 0 for memory.
    fn disk_reads(&self) -> u64;
}
