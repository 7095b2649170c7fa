//! Operator state in RocksDB: one column family, keys are the state table's number (big-endian) and the entry's key.
//!
//! Entries come in as sorted files and are ingested, never put one by one; only range deletions pass through a
//! memtable. There is no write-ahead log: an image is what makes content durable. The live directory is rebuilt
//! from an image at every start, by hard links to its immutable files, and is never read again after its process.

use super::check_runs;
use crate::io::failed;
use crate::priority;
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::{Result, SqlError, SqlState, StateTableId};
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, IngestExternalFileOptions,
    LogLevel, Options, Range, ReadOptions, SstFileWriter, WriteBatch, checkpoint::Checkpoint,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const STATE: &str = "state";

/// Only range deletions are ever in a memtable.
const WRITE_BUFFER_BYTES: usize = 1 << 20;
/// One flush and one compaction: state shares the cores with the views.
const BACKGROUND_JOBS: i32 = 2;
/// Bounds the table readers held open; each pins a few kilobytes outside the block cache.
const OPEN_FILES_MAX: i32 = 512;
/// About one percent of false positives; most look-ups are for keys that were never written.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const BLOCK_BYTES: usize = 8 << 10;
/// Index and filter are partitioned into blocks of this size, so that a small cache can hold the parts in use.
const METADATA_BLOCK_BYTES: usize = 4 << 10;
/// A large ingest is cut into files of this size, so that compaction can move its parts separately.
const INGEST_FILE_BYTES: u64 = 64 << 20;
const INFO_LOG_BYTES: usize = 1 << 20;
/// What flushes and compactions write per second: enough for state that changes at a disk's usual pace, little enough that
/// the log's syncs are not behind a burst of it.
const BACKGROUND_BYTES_PER_SECOND: i64 = 64 << 20;
/// How often the limit is given anew, in microseconds, and how often lower priorities go first: RocksDB's own defaults.
const RATE_REFILL_MICROS: i64 = 100_000;
const RATE_FAIRNESS: i32 = 10;
/// Written pages are handed on to the disk in pieces of this size, not all at the end.
const BYTES_PER_SYNC: u64 = 1 << 20;
/// Each checkpoint and spill adds a file to the first level; a compaction per so many of them is worth its reading.
const LEVEL_ZERO_FILES: i32 = 8;

pub struct RocksKv {
    db: DB,
    options: Options,
    ingest_dir: PathBuf,
    next_ingest: AtomicU64,
    disk_reads: AtomicU64,
}

impl RocksKv {
    /// Wipes `live_dir` and starts from the image in `image_dir`, or empty. `cache_bytes` bounds the cache of
    /// data, index and filter blocks together. The image directory may be removed afterwards.
    pub fn open(live_dir: &Path, image_dir: Option<&Path>, cache_bytes: usize) -> Result<RocksKv> {
        assert!(!image_dir.is_some_and(|image| image.starts_with(live_dir)), "the image would be wiped with the live directory");
        let db_dir = live_dir.join("db");
        let ingest_dir = live_dir.join("ingest");
        if live_dir.exists() {
            fs::remove_dir_all(live_dir).map_err(failed("remove state directory", live_dir))?;
        }
        for dir in [&db_dir, &ingest_dir] {
            fs::create_dir_all(dir).map_err(failed("create state directory", dir))?;
        }
        if let Some(image_dir) = image_dir {
            restore(image_dir, &db_dir)?;
        }
        let options = options(&Cache::new_lru_cache(cache_bytes));
        let family = ColumnFamilyDescriptor::new(STATE, options.clone());
        let open = || {
            priority::lower();
            DB::open_cf_descriptors(&options, &db_dir, [family]).map_err(|error| rocks_error("open operator state", error))
        };
        // Its flushes and compactions run at the priority of the thread that opens it. RocksDB's own setting is so low that a
        // busy machine would never come to the end of a checkpoint.
        let db = std::thread::scope(|scope| scope.spawn(open).join())
            .map_err(|_panic| SqlError::internal("the thread that opens operator state panicked"))??;
        Ok(RocksKv { db, options, ingest_dir, next_ingest: AtomicU64::new(0), disk_reads: AtomicU64::new(0) })
    }

    fn state(&self) -> &ColumnFamily {
        self.db.cf_handle(STATE).expect("the column family is created at open and never dropped")
    }

    /// Runs `read` and counts the blocks it took from files.
    fn counting<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        set_perf_stats(PerfStatsLevel::EnableCount);
        let perf = PerfContext::default();
        let before = perf.metric(PerfMetric::BlockReadCount);
        let result = read();
        let blocks = perf.metric(PerfMetric::BlockReadCount).saturating_sub(before);
        self.disk_reads.fetch_add(blocks, Ordering::Relaxed);
        result
    }

    /// Entries from `start` to before `end`, in order, or from the last one back.
    fn visit_between(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        back: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        if end.is_some_and(|end| end <= start) {
            return Ok(());
        }
        let prefix = table.0.to_be_bytes();
        let mut read = ReadOptions::default();
        if back {
            read.set_iterate_lower_bound(full_key(table, start));
        }
        match end {
            Some(end) => read.set_iterate_upper_bound(full_key(table, end)),
            None => set_table_end(&mut read, table),
        }
        self.counting(|| {
            let mut entries = self.db.raw_iterator_cf_opt(self.state(), read);
            if back {
                entries.seek_to_last()
            } else {
                entries.seek(full_key(table, start))
            }
            while let Some((key, value)) = entries.item() {
                if !visit(&key[prefix.len()..], value)? {
                    return Ok(());
                }
                if back { entries.prev() } else { entries.next() }
            }
            entries.status().map_err(|error| rocks_error("read operator state", error))
        })
    }

    fn delete(&self, start: Vec<u8>, end: Vec<u8>) -> Result<()> {
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(self.state(), start, end);
        self.db.write_without_wal(batch).map_err(|error| rocks_error("delete operator state", error))
    }

    /// Writes the sorted files of an ingest; `paths` has those begun, also after an error.
    fn write_files(&self, runs: &[(StateTableId, SortedRun)], paths: &mut Vec<PathBuf>) -> Result<(), rocksdb::Error> {
        let mut writer: Option<SstFileWriter> = None;
        let mut full_key = Vec::new();
        for (table, run) in runs {
            for (key, value) in run.iter() {
                let file = match &mut writer {
                    Some(file) => file,
                    None => {
                        let number = self.next_ingest.fetch_add(1, Ordering::Relaxed);
                        let path = self.ingest_dir.join(format!("{number:020}.sst"));
                        let file = SstFileWriter::create(&self.options);
                        file.open(&path)?;
                        paths.push(path);
                        writer.insert(file)
                    }
                };
                full_key.clear();
                full_key.extend_from_slice(&table.0.to_be_bytes());
                full_key.extend_from_slice(key);
                match value {
                    Some(value) => file.put(&full_key, value)?,
                    None => file.delete(&full_key)?,
                }
                if file.file_size() >= INGEST_FILE_BYTES {
                    file.finish()?;
                    writer = None;
                }
            }
        }
        writer.map_or(Ok(()), |mut file| file.finish())
    }
}

impl KeyValueStore for RocksKv {
    fn multi_get(&self, table: StateTableId, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let full_keys = FullKeys::new(table, keys);
        self.counting(|| {
            let found = self.db.batched_multi_get_cf(self.state(), full_keys.iter(), false);
            let value = |found: Result<Option<rocksdb::DBPinnableSlice>, _>| Ok(found?.map(|value| value.to_vec()));
            found.into_iter().map(value).collect::<Result<Vec<_>, _>>().map_err(|error| rocks_error("read operator state", error))
        })
    }

    fn scan(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.visit_between(table, start, end, false, visit)
    }

    fn scan_back(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.visit_between(table, start, end, true, visit)
    }

    fn ingest(&self, mut runs: Vec<(StateTableId, SortedRun)>) -> Result<()> {
        runs.sort_by_key(|(table, _)| *table);
        check_runs(&runs)?;
        let mut paths = Vec::new();
        let written = self.write_files(&runs, &mut paths).and_then(|()| {
            let mut options = IngestExternalFileOptions::default();
            options.set_move_files(true);
            if paths.is_empty() { Ok(()) } else { self.db.ingest_external_file_cf_opts(self.state(), &options, paths.clone()) }
        });
        for path in paths.iter().filter(|path| path.exists()) {
            fs::remove_file(path).map_err(failed("remove", path))?;
        }
        written.map_err(|error| rocks_error("write operator state", error))
    }

    fn delete_range(&self, table: StateTableId, start: &[u8], end: &[u8]) -> Result<()> {
        if end <= start { Ok(()) } else { self.delete(full_key(table, start), full_key(table, end)) }
    }

    fn drop_table(&self, table: StateTableId) -> Result<()> {
        let next = table.0.checked_add(1).ok_or_else(|| SqlError::internal("the last state table id is reserved"))?;
        self.delete(full_key(table, &[]), full_key(StateTableId(next), &[]))
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(failed("create image directory", parent))?;
        }
        let image = || {
            self.db.flush_cf(self.state())?;
            Checkpoint::new(&self.db)?.create_checkpoint(dir)
        };
        image().map_err(|error| rocks_error("write the image of operator state", error))
    }

    fn stored_bytes(&self, table: StateTableId) -> u64 {
        let (start, end) = (full_key(table, &[]), full_key(StateTableId(table.0.saturating_add(1)), &[]));
        self.db.get_approximate_sizes_cf(self.state(), &[Range::new(&start, &end)])[0]
    }

    fn disk_reads(&self) -> u64 {
        self.disk_reads.load(Ordering::Relaxed)
    }
}

/// Makes the empty `db_dir` a database with the content of an image. Files which RocksDB may change are copied.
fn restore(image_dir: &Path, db_dir: &Path) -> Result<()> {
    for entry in fs::read_dir(image_dir).map_err(failed("read state image", image_dir))? {
        let from = entry.map_err(failed("read state image", image_dir))?.path();
        let Some(name) = from.file_name() else { continue };
        let to = db_dir.join(name);
        let immutable = from.extension().is_some_and(|extension| extension == "sst");
        if !(immutable && fs::hard_link(&from, &to).is_ok()) {
            fs::copy(&from, &to).map_err(failed("copy state image", &from))?;
        }
    }
    Ok(())
}

fn options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(METADATA_BLOCK_BYTES);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(false);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_ratelimiter(BACKGROUND_BYTES_PER_SECOND, RATE_REFILL_MICROS, RATE_FAIRNESS);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_level_zero_file_num_compaction_trigger(LEVEL_ZERO_FILES);
    // Nothing wakes up on an idle server.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(1);
    options
}

/// The keys of a look-up with their table in front, in one allocation.
struct FullKeys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl FullKeys {
    fn new(table: StateTableId, keys: &[&[u8]]) -> FullKeys {
        let prefix = table.0.to_be_bytes();
        let mut bytes = Vec::with_capacity(keys.iter().map(|key| prefix.len() + key.len()).sum());
        let append = |key: &&[u8]| {
            bytes.extend_from_slice(&prefix);
            bytes.extend_from_slice(key);
            bytes.len()
        };
        let ends = keys.iter().map(append).collect();
        FullKeys { bytes, ends }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().scan(0, |start, end| Some(&self.bytes[std::mem::replace(start, *end)..*end]))
    }
}

fn full_key(table: StateTableId, key: &[u8]) -> Vec<u8> {
    [&table.0.to_be_bytes(), key].concat()
}

fn set_table_end(read: &mut ReadOptions, table: StateTableId) {
    if let Some(next) = table.0.checked_add(1) {
        read.set_iterate_upper_bound(next.to_be_bytes());
    }
}

fn rocks_error(action: &str, error: rocksdb::Error) -> SqlError {
    let message = format!("cannot {action}: {error}");
    match error.kind() {
        rocksdb::ErrorKind::Corruption => SqlError::corrupt(message),
        _ if message.contains("No space left on device") => SqlError::new(SqlState::DISK_FULL, message)
            .with_hint("Free some space on the data directory's file system; work resumes by itself."),
        rocksdb::ErrorKind::IOError => SqlError::io(message),
        _ => SqlError::internal(message),
    }
}
