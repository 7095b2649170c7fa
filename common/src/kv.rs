//! The key-value store under spilled and checkpointed operator state. RocksDB is one
//! implementation, an in-memory one the other; this trait is where tests inject faults.

use crate::error::Result;
use crate::ids::StateTableId;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::path::Path;

/// Entries for one state table: keys and values one after the other in a buffer, or in several since runs were merged, and where
/// each of them is. `None` for a value deletes the key. Filled in any order; the store takes it sorted by key without duplicates.
#[derive(Clone, Default)]
pub struct SortedRun {
    /// New entries go to the last.
    buffers: Vec<Vec<u8>>,
    entries: Vec<Entry>,
}

/// A key at `start` of a buffer, and its value right after it.
#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    buffer: u32,
    key: u32,
    /// `DELETED`, or a length.
    value: u32,
}

const DELETED: u32 = u32::MAX;

impl SortedRun {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn reserve(&mut self, entries: usize) {
        self.entries.reserve(entries);
    }

    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.push_with(|out| out.extend_from_slice(key), value.map(|value| |out: &mut Vec<u8>| out.extend_from_slice(value)));
    }

    /// Adds an entry whose key and value are appended in place.
    pub fn push_with(&mut self, key: impl FnOnce(&mut Vec<u8>), value: Option<impl FnOnce(&mut Vec<u8>)>) {
        let length = |from: usize, to: usize| {
            u32::try_from(to - from).ok().filter(|length| *length != DELETED).expect("keys and values of state are far below 4 GiB")
        };
        if self.buffers.is_empty() {
            self.buffers.push(Vec::new());
        }
        let buffer = self.buffers.len() - 1;
        let bytes = &mut self.buffers[buffer];
        let start = bytes.len();
        key(bytes);
        let middle = bytes.len();
        let value = match value {
            None => DELETED,
            Some(value) => {
                value(bytes);
                length(middle, bytes.len())
            }
        };
        self.entries.push(Entry { start, buffer: buffer as u32, key: length(start, middle), value });
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        self.entries.iter().map(|entry| (self.key(entry), self.value(entry)))
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.buffers[entry.buffer as usize][entry.start..][..entry.key as usize]
    }

    fn value(&self, entry: &Entry) -> Option<&[u8]> {
        let after = &self.buffers[entry.buffer as usize][entry.start + entry.key as usize..];
        (entry.value != DELETED).then(|| &after[..entry.value as usize])
    }

    /// Whether the store would take it.
    pub fn is_sorted(&self) -> bool {
        self.entries.windows(2).all(|pair| self.key(&pair[0]) < self.key(&pair[1]))
    }

    /// Brings the entries in the order of their keys. Moves no bytes.
    pub fn sort(&mut self) {
        let mut entries = self.by_first_byte();
        // Most keys differ within the bytes that are compared as a number, which lies beside what is sorted.
        let (mut heads, mut rest) = (Vec::new(), entries.as_mut_slice());
        while let Some(first) = rest.first().map(|entry| self.first_byte(entry)) {
            let (group, others) = rest.split_at_mut(rest.partition_point(|entry| self.first_byte(entry) == first));
            heads.clear();
            heads.extend(group.iter().map(|entry| (head(self.key(entry)), *entry)));
            heads.sort_unstable_by(|(a, of_a), (b, of_b)| a.cmp(b).then_with(|| self.key(of_a).cmp(self.key(of_b))));
            group.iter_mut().zip(&heads).for_each(|(place, (_, entry))| *place = *entry);
            rest = others;
        }
        self.entries = entries;
    }

    /// The entries by the first byte of their keys, which is the shard.
    fn by_first_byte(&self) -> Vec<Entry> {
        let mut starts = [0; 257];
        self.entries.iter().for_each(|entry| starts[self.first_byte(entry) as usize + 1] += 1);
        (1..starts.len()).for_each(|byte| starts[byte] += starts[byte - 1]);
        let mut entries = self.entries.clone();
        for entry in &self.entries {
            let place = &mut starts[self.first_byte(entry) as usize];
            entries[*place] = *entry;
            *place += 1;
        }
        entries
    }

    /// Zero for an empty key, which comes before all others.
    fn first_byte(&self, entry: &Entry) -> u8 {
        self.key(entry).first().copied().unwrap_or(0)
    }

    /// Takes over the entries of another.
    fn append(&mut self, mut other: SortedRun) {
        let base = self.buffers.len() as u32;
        self.buffers.append(&mut other.buffers);
        self.entries.extend(other.entries.iter().map(|entry| Entry { buffer: base + entry.buffer, ..*entry }));
    }

    /// One sorted run per state table, without empty ones, from any number of them in any order.
    pub fn merge(runs: Vec<(StateTableId, SortedRun)>) -> Vec<(StateTableId, SortedRun)> {
        let mut merged: BTreeMap<StateTableId, SortedRun> = BTreeMap::new();
        for (table, run) in runs.into_iter().filter(|(_, run)| !run.is_empty()) {
            match merged.entry(table) {
                MapEntry::Vacant(place) => drop(place.insert(run)),
                MapEntry::Occupied(mut place) => place.get_mut().append(run),
            }
        }
        merged.values_mut().for_each(SortedRun::sort);
        merged.into_iter().collect()
    }
}

/// The bytes after the first as a number in whose order keys are, as far as it tells them apart.
fn head(key: &[u8]) -> u128 {
    let mut bytes = [0; size_of::<u128>()];
    let known = key.get(1..).unwrap_or(&[]);
    let known = &known[..known.len().min(bytes.len())];
    bytes[..known.len()].copy_from_slice(known);
    u128::from_be_bytes(bytes)
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, Option<V>)> for SortedRun {
    fn from_iter<I: IntoIterator<Item = (K, Option<V>)>>(entries: I) -> Self {
        let mut run = SortedRun::default();
        entries.into_iter().for_each(|(key, value)| run.push(key.as_ref(), value.as_ref().map(AsRef::as_ref)));
        run
    }
}

impl std::fmt::Debug for SortedRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
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

    /// As `scan`, but from the last entry to the first.
    fn scan_back(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()>;

    /// Adds sorted runs, one per state table, all or none of them.
    fn ingest(&self, runs: Vec<(StateTableId, SortedRun)>) -> Result<()>;

    /// Deletes every key of the table with `start <= key < end`.
    fn delete_range(&self, table: StateTableId, start: &[u8], end: &[u8]) -> Result<()>;

    /// Deletes a whole table (its job was dropped).
    fn drop_table(&self, table: StateTableId) -> Result<()>;

    /// Writes a consistent image of everything ingested so far into the new directory `dir`, by hard
    /// links where possible. Files are immutable from then on, and a file that is unchanged since an
    /// earlier image has the same name and length there.
    fn checkpoint(&self, dir: &Path) -> Result<()>;

    /// What a table takes in the store's files, roughly and as it is stored; in memory, the bytes of its keys and values.
    fn stored_bytes(&self, table: StateTableId) -> u64;

    /// Reads served from disk rather than from a cache since the store was opened; 0 for memory.
    fn disk_reads(&self) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(entries: &[(&str, Option<&str>)]) -> SortedRun {
        entries.iter().map(|(key, value)| (key.as_bytes(), value.map(str::as_bytes))).collect()
    }

    fn text(run: &SortedRun) -> Vec<(&str, Option<&str>)> {
        let utf8 = |bytes| std::str::from_utf8(bytes).unwrap();
        run.iter().map(|(key, value)| (utf8(key), value.map(utf8))).collect()
    }

    #[test]
    fn runs_of_one_table_are_merged_in_order() {
        let (first, second, empty) = (run(&[("d", Some("4")), ("a", None)]), run(&[("c", Some("")), ("", Some("x"))]), run(&[]));
        assert!(!first.is_sorted());
        let (one, two, three) = (StateTableId(1), StateTableId(2), StateTableId(3));
        let merged = SortedRun::merge(vec![(two, run(&[("k", None)])), (one, first), (three, empty), (one, second)]);
        assert_eq!(merged.iter().map(|(table, run)| (*table, run.len())).collect::<Vec<_>>(), [(one, 4), (two, 1)]);
        assert_eq!(text(&merged[0].1), [("", Some("x")), ("a", None), ("c", Some("")), ("d", Some("4"))]);
        assert!(merged[0].1.is_sorted());
        assert!(!run(&[("a", None), ("a", Some("1"))]).is_sorted(), "a key comes once");
    }

    #[test]
    fn keys_of_all_lengths_are_sorted_as_bytes() {
        let mut keys = vec![Vec::new()];
        for length in [1, 2, 16, 17, 18, 40] {
            for (first, last) in [(0, 0), (0, 1), (1, 255), (7, 0), (255, 3), (255, 255)] {
                let mut key = vec![0; length];
                (key[0], key[length - 1]) = (first, last);
                keys.push(key);
            }
        }
        keys.sort();
        keys.dedup();
        let shuffled = (0..keys.len()).map(|at| &keys[at * 17 % keys.len()]);
        assert!(!keys.len().is_multiple_of(17));
        let runs: Vec<(StateTableId, SortedRun)> =
            shuffled.map(|key| (StateTableId(1), [(key, Some(key))].into_iter().collect())).collect();
        let merged = SortedRun::merge(runs);
        assert_eq!(merged.len(), 1);
        assert!(merged[0].1.iter().eq(keys.iter().map(|key| (key.as_slice(), Some(key.as_slice())))));
    }
}
