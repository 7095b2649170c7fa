//! Data files: the rows of frozen segments as an uncompressed Arrow IPC file, written once and then mapped, so that a read
//! takes its columns from the page cache without decoding or copying them. The same file goes into checkpoints.
//!
//! A view without a directory keeps its files in memory; then nothing is bounded, and nothing else differs.

use super::mapping::Mapping;
use crate::io::failed;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::root_as_footer;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use eddyline_common::{Result, SqlError, failpoint};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use uuid::Uuid;

/// A file is written anew when more than one in so many of its rows belong to no segment any more.
const UNCOVERED_PART: u64 = 4;
/// So many bytes at a time are handed on to the disk while a file is written.
const PACE_BYTES: u64 = 4 << 20;
/// The length of the footer and the magic that end a file.
const TRAILER_BYTES: usize = 10;

/// Where all views of a server keep their frozen segments, and how many bytes of rows are not frozen yet. Working space:
/// what no checkpoint names is gone after a restart.
#[derive(Debug)]
pub struct SegmentDir {
    path: PathBuf,
    tail_bytes: AtomicUsize,
    /// Of rows that died, ever.
    died_bytes: AtomicU64,
    /// Of segments that only readers still have.
    held_bytes: AtomicUsize,
}

impl SegmentDir {
    /// Creates the directory if it is missing.
    pub fn open(path: &Path) -> Result<Arc<SegmentDir>> {
        fs::create_dir_all(path).map_err(failed("create directory", path))?;
        let path = path.to_path_buf();
        Ok(Arc::new(SegmentDir { path, tail_bytes: AtomicUsize::new(0), died_bytes: AtomicU64::new(0), held_bytes: AtomicUsize::new(0) }))
    }

    /// Memory of rows that are not in files yet, over all views.
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of all rows that have died since the start, over all views: what has died since a reader's epoch is what is kept
    /// for it.
    pub fn died_bytes(&self) -> u64 {
        self.died_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of rows that views have let go of and readers still hold, in memory or as disk space.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The content of a file that is there, not yet verified.
    pub fn map(&self, name: &str) -> Result<Bytes> {
        map(&self.path_of(name))
    }

    /// Removes every file that is not among `names`: what an earlier process left.
    pub fn keep_only(&self, names: &HashSet<&str>) -> Result<()> {
        for entry in fs::read_dir(&self.path).map_err(failed("list", &self.path))? {
            let entry = entry.map_err(failed("list", &self.path))?;
            if !entry.file_name().to_str().is_some_and(|name| names.contains(name)) {
                fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    pub(super) fn tail_grew(&self, bytes: usize) {
        self.tail_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn tail_shrank(&self, bytes: usize) {
        self.tail_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn rows_died(&self, bytes: usize) {
        self.died_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn held_grew(&self, bytes: usize) {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn held_shrank(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// One file of rows of one shard.
#[derive(Debug)]
pub(super) struct DataFile {
    pub name: String,
    pub bytes: Bytes,
    /// `None`: it is in memory only.
    pub path: Option<PathBuf>,
    pub crc32: u32,
    pub rows: u64,
    /// Rows that listed segments answer for. The file is unlinked when there are none.
    covered: AtomicU64,
}

/// Where a segment's rows are: in this file, from this row on.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub file: Arc<DataFile>,
    pub first: u32,
}

impl DataFile {
    /// A file from a checkpoint, which the caller has verified, and its batches. None of its rows is covered yet.
    pub(super) fn restored(
        dir: Option<&SegmentDir>,
        schema: &SchemaRef,
        name: &str,
        bytes: Bytes,
        crc32: u32,
    ) -> Result<(Arc<DataFile>, Vec<RecordBatch>)> {
        let batches = decode(schema, &bytes)?;
        let path = dir.map(|dir| dir.path_of(name));
        Ok((Arc::new(DataFile::new(name.to_string(), bytes, path, crc32, &batches)), batches))
    }

    fn new(name: String, bytes: Bytes, path: Option<PathBuf>, crc32: u32, batches: &[RecordBatch]) -> Self {
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        DataFile { name, bytes, path, crc32, rows, covered: AtomicU64::new(0) }
    }

    pub(super) fn cover(&self, rows: usize) {
        self.covered.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// A segment leaves the file. Whoever still reads there keeps the mapping.
    pub(super) fn uncover(&self, rows: usize) {
        let before = self.covered.fetch_sub(rows as u64, Ordering::Relaxed);
        let Some(path) = self.path.as_ref().filter(|_| before == rows as u64) else { return };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("a file of rows that are gone stays until the next start: \"{}\": {error}", path.display());
            }
            _ => {}
        }
    }

    /// Is it worth writing the covered rows anew?
    pub(super) fn is_sparse(&self) -> bool {
        (self.rows - self.covered.load(Ordering::Relaxed)) * UNCOVERED_PART > self.rows
    }
}

/// Writes batches as a new file and gives them back as they are there. None of its rows is covered yet.
pub(super) fn write(
    dir: Option<&SegmentDir>,
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<(Arc<DataFile>, Vec<RecordBatch>)> {
    let name = format!("view-{}", Uuid::new_v4());
    let Some(dir) = dir else {
        let (content, crc32) = encode(Vec::new(), schema, batches)?;
        let bytes = Bytes::from(content);
        let batches = decode(schema, &bytes)?;
        return Ok((Arc::new(DataFile::new(name, bytes, None, crc32, &batches)), batches));
    };
    let path = dir.path_of(&name);
    let written = write_file(&path, schema, batches);
    if written.is_err() {
        // The start after next would remove it too; an error here says nothing that the first one does not.
        let _gone = fs::remove_file(&path);
    }
    let (bytes, crc32) = written?;
    let batches = decode(schema, &bytes)?;
    Ok((Arc::new(DataFile::new(name, bytes, Some(path), crc32, &batches)), batches))
}

fn write_file(path: &Path, schema: &SchemaRef, batches: impl Iterator<Item = Result<RecordBatch>>) -> Result<(Bytes, u32)> {
    let file = File::create_new(path).map_err(failed("create", path))?;
    let (buffered, crc32) = encode(BufWriter::new(Paced { file, written: 0, handed_on: 0 }), schema, batches)?;
    buffered.into_inner().map_err(|error| failed("write", path)(error.into_error()))?;
    failpoint::hit("view.freeze")?;
    Ok((map(path)?, crc32))
}

fn map(path: &Path) -> Result<Bytes> {
    let mapping = File::open(path).and_then(|file| Mapping::of(&file));
    Ok(Bytes::from_owner(mapping.map_err(failed("map", path))?))
}

fn encode<W: Write>(out: W, schema: &SchemaRef, batches: impl Iterator<Item = Result<RecordBatch>>) -> Result<(W, u32)> {
    let summed = Checksummed { out, crc: crc32fast::Hasher::new() };
    let mut writer = FileWriter::try_new(summed, schema).map_err(write_error)?;
    for batch in batches {
        writer.write(&batch?).map_err(write_error)?;
    }
    let Checksummed { out, crc } = writer.into_inner().map_err(write_error)?;
    Ok((out, crc.finalize()))
}

/// A full disk keeps its own SQLSTATE.
fn write_error(error: ArrowError) -> SqlError {
    match error {
        ArrowError::IoError(_, cause) => SqlError::from(cause),
        other => SqlError::internal(format!("cannot write rows of a view: {other}")),
    }
}

/// Has the system write a file's pages while more of them come, so that the sync of a checkpoint finds little left to do and
/// the log's syncs are not behind many megabytes at once.
struct Paced {
    file: File,
    written: u64,
    handed_on: u64,
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        if self.written - self.handed_on >= PACE_BYTES {
            // SAFETY: no memory is involved; the file is open. It begins to write and waits for nothing. That it cannot, on
            // some file systems, changes nothing but the pace.
            let _hint = unsafe {
                let (from, len) = (self.handed_on as libc::off64_t, (self.written - self.handed_on) as libc::off64_t);
                libc::sync_file_range(self.file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE)
            };
            self.handed_on = self.written;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Checksummed<W> {
    out: W,
    crc: crc32fast::Hasher,
}

impl<W: Write> Write for Checksummed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.crc.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The batches of a file, which borrow its bytes. They have been verified, or were written by this process.
fn decode(schema: &SchemaRef, bytes: &Bytes) -> Result<Vec<RecordBatch>> {
    let damaged = |why: String| SqlError::corrupt(format!("a file of a view's rows is damaged: {why}"));
    let trailer = bytes.len().checked_sub(TRAILER_BYTES).ok_or_else(|| damaged("it is too short".into()))?;
    let last: [u8; TRAILER_BYTES] = bytes[trailer..].try_into().expect("it has this length");
    let footer_len = read_footer_length(last).map_err(|e| damaged(e.to_string()))?;
    let footer_start = trailer.checked_sub(footer_len).ok_or_else(|| damaged("its footer is too long".into()))?;
    let footer = root_as_footer(&bytes[footer_start..trailer]).map_err(|e| damaged(e.to_string()))?;
    let stored = footer.schema().ok_or_else(|| damaged("it has no columns".into()))?;
    if types(&fb_to_schema(stored)) != types(schema) {
        return Err(damaged("its columns are not those of the view".into()));
    }
    let buffer = Buffer::from(bytes.clone());
    // SAFETY: the file is as our writer wrote it: its checksum was verified, or it has just been written.
    let decoder = unsafe { FileDecoder::new(schema.clone(), footer.version()).with_skip_validation(true) };
    let mut batches = Vec::new();
    for block in footer.recordBatches().iter().flatten() {
        let (start, len) = (block.offset() as usize, block.metaDataLength() as usize + block.bodyLength() as usize);
        if start.checked_add(len).is_none_or(|end| end > footer_start) {
            return Err(damaged("a batch lies outside of it".into()));
        }
        let batch = decoder.read_record_batch(block, &buffer.slice_with_length(start, len)).map_err(|e| damaged(e.to_string()))?;
        batches.extend(batch);
    }
    Ok(batches)
}

fn types(schema: &Schema) -> Vec<&arrow::datatypes::DataType> {
    schema.fields().iter().map(|field| field.data_type()).collect()
}
