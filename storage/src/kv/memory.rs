//! The key-value store without a disk: ordered maps under one lock. An image is one file:
//!
//! ```text
//! magic "EDDYKV\n\0" (8) | version (4) | entry* | crc32 of everything before (4)
//! entry = table (4) | key length (4) | key | value length (4) | value        (little-endian)
//! ```

use super::check_runs;
use crate::io::failed;
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::{Result, SqlError, StateTableId};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Bound;
use std::path::Path;

const MAGIC: &[u8; 8] = b"EDDYKV\n\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;
const IMAGE_FILE: &str = "state.kv";

type Table = BTreeMap<Vec<u8>, Vec<u8>>;
type Tables = BTreeMap<StateTableId, Table>;

#[derive(Default)]
pub struct MemoryKv {
    tables: RwLock<Tables>,
}

impl MemoryKv {
    pub fn new() -> MemoryKv {
        MemoryKv::default()
    }

    /// Starts from the image an earlier `checkpoint` wrote into `image_dir`.
    pub fn open(image_dir: &Path) -> Result<MemoryKv> {
        let path = image_dir.join(IMAGE_FILE);
        let bytes = fs::read(&path).map_err(failed("read state image", &path))?;
        let tables = decode(&bytes).ok_or_else(|| SqlError::corrupt(format!("state image \"{}\" is damaged", path.display())))?;
        Ok(MemoryKv { tables: RwLock::new(tables) })
    }
}

impl KeyValueStore for MemoryKv {
    fn multi_get(&self, table: StateTableId, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let tables = self.tables.read();
        let table = tables.get(&table);
        Ok(keys.iter().map(|key| table?.get(*key).cloned()).collect())
    }

    fn scan(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let tables = self.tables.read();
        let Some(table) = tables.get(&table).filter(|_| end.is_none_or(|end| start < end)) else { return Ok(()) };
        visit_all(table.range::<[u8], _>((Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded))), visit)
    }

    fn scan_back(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let tables = self.tables.read();
        let Some(table) = tables.get(&table).filter(|_| end.is_none_or(|end| start < end)) else { return Ok(()) };
        visit_all(table.range::<[u8], _>((Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded))).rev(), visit)
    }

    fn ingest(&self, mut runs: Vec<(StateTableId, SortedRun)>) -> Result<()> {
        runs.sort_by_key(|(table, _)| *table);
        check_runs(&runs)?;
        let mut tables = self.tables.write();
        for (id, run) in runs {
            let table = tables.entry(id).or_default();
            for (key, value) in run.iter() {
                match value {
                    Some(value) => table.insert(key.to_vec(), value.to_vec()),
                    None => table.remove(key),
                };
            }
        }
        Ok(())
    }

    fn delete_range(&self, table: StateTableId, start: &[u8], end: &[u8]) -> Result<()> {
        if let Some(table) = self.tables.write().get_mut(&table)
            && start < end
        {
            let mut middle = table.split_off(start);
            table.append(&mut middle.split_off(end));
        }
        Ok(())
    }

    fn drop_table(&self, table: StateTableId) -> Result<()> {
        self.tables.write().remove(&table);
        Ok(())
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).map_err(failed("create image directory", dir))?;
        let path = dir.join(IMAGE_FILE);
        encode(&self.tables.read(), &path).map_err(failed("write state image", &path))
    }

    fn stored_bytes(&self, table: StateTableId) -> u64 {
        let tables = self.tables.read();
        tables.get(&table).map_or(0, |table| table.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum())
    }

    fn disk_reads(&self) -> u64 {
        0
    }
}

fn visit_all<'a>(
    entries: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
) -> Result<()> {
    for (key, value) in entries {
        if !visit(key, value)? {
            break;
        }
    }
    Ok(())
}

fn encode(tables: &Tables, path: &Path) -> io::Result<()> {
    let mut out = Checksummed { out: BufWriter::new(File::create_new(path)?), crc: crc32fast::Hasher::new() };
    out.write(MAGIC)?;
    out.write(&VERSION.to_le_bytes())?;
    for (id, table) in tables {
        for (key, value) in table {
            out.write(&id.0.to_le_bytes())?;
            out.write(&(key.len() as u32).to_le_bytes())?;
            out.write(key)?;
            out.write(&(value.len() as u32).to_le_bytes())?;
            out.write(value)?;
        }
    }
    let Checksummed { mut out, crc } = out;
    out.write_all(&crc.finalize().to_le_bytes())?;
    out.into_inner()?.sync_all()
}

struct Checksummed {
    out: BufWriter<File>,
    crc: crc32fast::Hasher,
}

impl Checksummed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.out.write_all(bytes)
    }
}

/// `None` if the bytes are not a whole image.
fn decode(bytes: &[u8]) -> Option<Tables> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*crc) || content.get(..8)? != MAGIC {
        return None;
    }
    let mut rest = content.get(HEADER_BYTES..).filter(|_| content[8..HEADER_BYTES] == VERSION.to_le_bytes())?;
    let mut tables = Tables::new();
    while !rest.is_empty() {
        let id = StateTableId(take_u32(&mut rest)?);
        let key = take_bytes(&mut rest)?;
        let value = take_bytes(&mut rest)?;
        tables.entry(id).or_default().insert(key, value);
    }
    Some(tables)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}

fn take_bytes(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = take_u32(rest)? as usize;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes.to_vec())
}
