//! One conformance suite for every key-value store: random operations against a model of ordered maps, through images
//! and re-openings; and what only RocksDB promises: hard links, stable file names, counted reads.

use super::{MemoryKv, RocksKv};
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::{SqlState, StateTableId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CACHE_BYTES: usize = 1 << 20;
const TABLES: u32 = 3;

/// How a store is started from an image or empty, in a directory it may use.
type Open = fn(live_dir: &Path, image_dir: Option<&Path>) -> Box<dyn KeyValueStore>;

fn open_memory(_: &Path, image_dir: Option<&Path>) -> Box<dyn KeyValueStore> {
    Box::new(image_dir.map_or_else(MemoryKv::new, |dir| MemoryKv::open(dir).unwrap()))
}

fn open_rocks(live_dir: &Path, image_dir: Option<&Path>) -> Box<dyn KeyValueStore> {
    Box::new(RocksKv::open(live_dir, image_dir, CACHE_BYTES).unwrap())
}

type Key = Vec<u8>;

#[derive(Clone, Debug)]
enum Operation {
    Ingest(BTreeMap<u32, BTreeMap<Key, Option<Vec<u8>>>>),
    DeleteRange(u32, Key, Key),
    DropTable(u32),
    /// Image and go on.
    Checkpoint,
    /// Image, go on with the image in a new process.
    Reopen,
    /// Go on with the last image: what came after it is gone.
    Crash,
}

fn keys() -> impl Strategy<Value = Key> {
    // Few distinct keys, prefixes of each other, the extreme bytes.
    prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0x7F), Just(0xFF)], 0..4)
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let run = prop::collection::btree_map(keys(), prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..20)), 0..30);
    let operation = prop_oneof![
        6 => prop::collection::btree_map(0..TABLES, run, 0..3).prop_map(Operation::Ingest),
        2 => (0..TABLES, keys(), keys()).prop_map(|(table, start, end)| Operation::DeleteRange(table, start, end)),
        1 => (0..TABLES).prop_map(Operation::DropTable),
        1 => Just(Operation::Checkpoint),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Crash),
    ];
    prop::collection::vec(operation, 1..25)
}

type Model = BTreeMap<(u32, Key), Vec<u8>>;

/// A store next to its model.
struct Checked {
    open: Open,
    dir: TempDir,
    store: Option<Box<dyn KeyValueStore>>,
    model: Model,
    image: Option<(PathBuf, Model)>,
    images: usize,
}

impl Checked {
    fn new(open: Open) -> Checked {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(open(&dir.path().join("live"), None));
        Checked { open, dir, store, model: Model::new(), image: None, images: 0 }
    }

    fn store(&self) -> &dyn KeyValueStore {
        self.store.as_deref().unwrap()
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Ingest(runs) => self.ingest(runs),
            Operation::DeleteRange(table, start, end) => {
                self.store().delete_range(StateTableId(table), &start, &end).unwrap();
                self.model.retain(|(of, key), _| *of != table || *key < start || *key >= end);
            }
            Operation::DropTable(table) => {
                self.store().drop_table(StateTableId(table)).unwrap();
                self.model.retain(|(of, _), _| *of != table);
            }
            Operation::Checkpoint => self.checkpoint(),
            Operation::Reopen => {
                self.checkpoint();
                self.crash();
            }
            Operation::Crash => self.crash(),
        }
    }

    fn ingest(&mut self, runs: BTreeMap<u32, BTreeMap<Key, Option<Vec<u8>>>>) {
        for (table, run) in &runs {
            for (key, value) in run {
                match value {
                    Some(value) => self.model.insert((*table, key.clone()), value.clone()),
                    None => self.model.remove(&(*table, key.clone())),
                };
            }
        }
        // Tables in any order.
        let runs = runs.into_iter().rev().map(|(table, run)| (StateTableId(table), run.into_iter().collect()));
        self.store().ingest(runs.collect()).unwrap();
    }

    fn checkpoint(&mut self) {
        self.images += 1;
        let image = self.dir.path().join("images").join(self.images.to_string());
        self.store().checkpoint(&image).unwrap();
        self.image = Some((image, self.model.clone()));
    }

    fn crash(&mut self) {
        self.store = None;
        let image = self.image.as_ref().map(|(image, _)| image.as_path());
        self.store = Some((self.open)(&self.dir.path().join("live"), image));
        self.model = self.image.as_ref().map_or_else(Model::new, |(_, model)| model.clone());
    }

    fn check(&self) {
        for table in 0..TABLES {
            let expected: Vec<(Key, Vec<u8>)> =
                self.model.iter().filter(|((of, _), _)| *of == table).map(|((_, key), value)| (key.clone(), value.clone())).collect();
            assert_eq!(scan(self.store(), table, &[], None), expected);
            for (start, end) in [(vec![0u8], vec![1u8, 0xFF]), (vec![1], vec![1]), (vec![0xFF], vec![0]), (vec![], vec![0xFF, 0xFF])] {
                let part: Vec<_> = expected.iter().filter(|(key, _)| *key >= start && *key < end).cloned().collect();
                assert_eq!(scan(self.store(), table, &start, Some(&end)), part);
            }
            let probes: Vec<Key> = [vec![], vec![0], vec![1, 1], vec![0xFF], vec![0x7F, 0, 1], vec![9], vec![0]].to_vec();
            let probe_refs: Vec<&[u8]> = probes.iter().map(Vec::as_slice).collect();
            let found = self.store().multi_get(StateTableId(table), &probe_refs).unwrap();
            let expected: Vec<_> = probes.iter().map(|key| self.model.get(&(table, key.clone())).cloned()).collect();
            assert_eq!(found, expected);
        }
    }
}

fn scan(store: &dyn KeyValueStore, table: u32, start: &[u8], end: Option<&[u8]>) -> Vec<(Key, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        entries.push((key.to_vec(), value.to_vec()));
        Ok(true)
    };
    store.scan(StateTableId(table), start, end, &mut visit).unwrap();
    entries
}

fn check_against_the_model(open: Open, operations: Vec<Operation>) {
    let mut checked = Checked::new(open);
    for operation in operations {
        checked.apply(operation);
        checked.check();
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn memory_behaves_like_ordered_maps(operations in operations()) {
        check_against_the_model(open_memory, operations);
    }
}

proptest! {
    // Fewer: every ingest and every opening waits for the disk.
    #![proptest_config(config(25))]

    #[test]
    fn rocks_behaves_like_ordered_maps(operations in operations()) {
        check_against_the_model(open_rocks, operations);
    }
}

fn both(test: impl Fn(Box<dyn KeyValueStore>)) {
    for open in [open_memory as Open, open_rocks] {
        let dir = tempfile::tempdir().unwrap();
        test(open(&dir.path().join("live"), None));
    }
}

fn run(entries: &[(&str, Option<&str>)]) -> SortedRun {
    entries.iter().map(|(key, value)| (key.as_bytes(), value.map(str::as_bytes))).collect()
}

#[test]
fn a_scan_stops_when_told_and_passes_on_errors() {
    both(|store| {
        store.ingest(vec![(StateTableId(1), run(&[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]))]).unwrap();
        let mut seen = 0;
        let mut stop_at_two = |_: &[u8], _: &[u8]| {
            seen += 1;
            Ok(seen < 2)
        };
        store.scan(StateTableId(1), b"", None, &mut stop_at_two).unwrap();
        assert_eq!(seen, 2);
        let mut fail = |_: &[u8], _: &[u8]| Err(eddyline_common::SqlError::internal("stop"));
        assert_eq!(store.scan(StateTableId(1), b"", None, &mut fail).unwrap_err().message, "stop");
    });
}

#[test]
fn a_bad_ingest_changes_nothing() {
    both(|store| {
        let unsorted = vec![(StateTableId(1), run(&[("x", Some("1"))])), (StateTableId(2), run(&[("b", Some("1")), ("a", None)]))];
        let duplicate = vec![(StateTableId(1), run(&[("x", Some("1")), ("x", None)]))];
        let twice = vec![(StateTableId(1), run(&[("x", Some("1"))])), (StateTableId(1), run(&[("y", None)]))];
        for bad in [unsorted, duplicate, twice] {
            assert_eq!(store.ingest(bad).unwrap_err().state, SqlState::INTERNAL_ERROR);
            assert_eq!(scan(&*store, 1, b"", None), []);
        }
        store.ingest(vec![]).unwrap();
        store.ingest(vec![(StateTableId(1), SortedRun::default())]).unwrap();
    });
}

#[test]
fn the_largest_table_number_can_be_read() {
    both(|store| {
        store.ingest(vec![(StateTableId(u32::MAX), run(&[("a", Some("1"))]))]).unwrap();
        assert_eq!(scan(&*store, u32::MAX, b"", None).len(), 1);
    });
}

/// A run too large for the cache.
fn large_run(from: u32, to: u32) -> SortedRun {
    // Values that do not compress away.
    let value = |key: u32| {
        (0..8u64).flat_map(|word| (u64::from(key) * 8 + word + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).collect::<Vec<u8>>()
    };
    (from..to).map(|key| (key.to_be_bytes(), Some(value(key)))).collect()
}

#[test]
fn reads_from_files_are_counted_and_cached_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksKv::open(&dir.path().join("live"), None, CACHE_BYTES).unwrap();
    store.ingest(vec![(StateTableId(1), large_run(0, 100_000))]).unwrap();
    let read = |keys: &[u32]| {
        let keys: Vec<_> = keys.iter().map(|key| key.to_be_bytes()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
        let before = store.disk_reads();
        assert!(store.multi_get(StateTableId(1), &keys).unwrap().iter().all(Option::is_some));
        store.disk_reads() - before
    };
    assert!(read(&[50_000]) > 0, "the first read comes from the file");
    assert_eq!(read(&[50_000]), 0, "the second one from the cache");
    // 6.4 MB through a cache of 1 MiB.
    let every: Vec<u32> = (0..100_000).step_by(50).collect();
    assert!(read(&every) > 500);
    assert!(read(&every) > 300, "most of it was evicted");
    assert_eq!(MemoryKv::new().disk_reads(), 0);
}

#[test]
fn an_image_shares_its_files_with_the_store_and_with_the_next_image() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let store = RocksKv::open(&dir.path().join("live"), None, CACHE_BYTES).unwrap();
    store.ingest(vec![(StateTableId(1), large_run(0, 1000))]).unwrap();
    store.checkpoint(&first).unwrap();
    store.ingest(vec![(StateTableId(1), large_run(2000, 3000))]).unwrap();
    store.checkpoint(&second).unwrap();
    drop(store);

    let files = |dir: &Path| -> BTreeMap<String, u64> {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let named = files.map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().ino()));
        named.filter(|(name, _)| name.ends_with(".sst")).collect()
    };
    assert_eq!((files(&first).len(), files(&second).len()), (1, 2));
    assert!(files(&first).iter().all(|(name, inode)| files(&second).get(name) == Some(inode)));

    // The image is usable again and again, and what a store does with it does not change it.
    for _ in 0..2 {
        let live = dir.path().join("live");
        std::fs::create_dir_all(live.join("db")).unwrap();
        std::fs::write(live.join("db/CURRENT"), "what a killed process left").unwrap();
        let store = RocksKv::open(&live, Some(&first), CACHE_BYTES).unwrap();
        assert!(files(&live.join("db")).iter().all(|(name, inode)| files(&first).get(name) == Some(inode)));
        assert_eq!(scan(&store, 1, b"", None).len(), 1000);
        store.drop_table(StateTableId(1)).unwrap();
    }
}

#[test]
fn nothing_is_left_of_ingested_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksKv::open(&dir.path().join("live"), None, CACHE_BYTES).unwrap();
    store.ingest(vec![(StateTableId(1), large_run(0, 100))]).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("live/ingest")).unwrap().count(), 0);
}

#[test]
fn damaged_images_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let store = MemoryKv::new();
    store.ingest(vec![(StateTableId(1), run(&[("key", Some("value"))]))]).unwrap();
    store.checkpoint(&image).unwrap();
    let path = image.join("state.kv");
    let bytes = std::fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(MemoryKv::open(&image).err().unwrap().state, SqlState::DATA_CORRUPTED, "byte {at}");
        std::fs::write(&path, &bytes[..at]).unwrap();
        assert!(MemoryKv::open(&image).is_err(), "length {at}");
    }

    let store = RocksKv::open(&dir.path().join("live"), None, CACHE_BYTES).unwrap();
    store.ingest(vec![(StateTableId(1), run(&[("key", Some("value"))]))]).unwrap();
    let image = dir.path().join("rocks");
    store.checkpoint(&image).unwrap();
    for entry in std::fs::read_dir(&image).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("MANIFEST") {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, [&bytes[..bytes.len() / 2], b"damage", &bytes[bytes.len() / 2..]].concat()).unwrap();
        }
    }
    let error = RocksKv::open(&dir.path().join("other"), Some(&image), CACHE_BYTES).err().unwrap();
    assert_eq!(error.state, SqlState::DATA_CORRUPTED, "{error}");
}
