//! Checkpoints of a view: immutable data files of rows, and deletion files that say which of those rows are gone.
//!
//! Segments without a file are written together, as one file per checkpoint unless they are large, with the rows that are
//! alive at its epoch. What a file contributes to the view can only shrink afterwards: its rows die, or move into a merged
//! segment, which is written anew. So a file's deletions are simply the rows that no segment answers for any more. When
//! these are more than a quarter, the rest is rewritten and the file left out.
//!
//! A segment remembers the file it went to. Whether that file exists for good, only the manifest last committed can tell:
//! a file that it does not name is taken for lost, and its segments are written again.

use super::deletions;
use super::segment::{Segment, Visible, filter};
use arrow::array::{BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use eddyline_common::{Epoch, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// What one data file holds at most: a file is made and read in memory.
const FILE_ROWS_MAX: usize = 1 << 22;
const FILE_BYTES_MAX: usize = 256 << 20;
/// Rows of one record batch in a file: enough to amortise its header.
const BATCH_ROWS: usize = 65_536;
/// A file is rewritten when more than one in so many of its rows are gone.
const GONE_PART: u64 = 4;
/// A segment may remember one run for so many of its rows; with more it is written anew instead.
const ROWS_PER_RUN_MIN: usize = 4;

/// What makes up a view at an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewManifest {
    pub epoch: Epoch,
    pub segments: Vec<SegmentFile>,
    pub deletions: Vec<DeletionFile>,
}

/// A data file: an Arrow IPC file of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFile {
    pub name: String,
    pub crc32: u32,
    /// Rows in the file, and how many of them are rows of the view.
    pub rows: u64,
    pub live: u64,
    /// The deletion file that tells which, if not all are.
    pub deletions: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionFile {
    pub name: String,
    pub crc32: u32,
}

impl ViewManifest {
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(|f| f.name.as_str()).chain(self.deletions.iter().map(|f| f.name.as_str()))
    }
}

/// A new, immutable file; its name is never used again.
#[derive(Clone, Debug)]
pub struct ViewFile {
    pub name: String,
    pub bytes: Bytes,
}

#[derive(Clone, Debug)]
pub struct ViewCheckpoint {
    pub manifest: ViewManifest,
    /// Those of the manifest's files that the known manifest does not name.
    pub files: Vec<ViewFile>,
}

/// Where a segment's rows are in a data file. Rows outside the runs were dead when it was written.
pub(super) struct Persisted {
    pub file: Arc<str>,
    pub runs: Vec<Run>,
}

/// `len` rows of a segment from `row`, which are those of the file from `file_row`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub row: u32,
    pub file_row: u32,
    pub len: u32,
}

impl Persisted {
    /// `None` if the rows are too scattered to be worth remembering.
    pub(super) fn new(file: Arc<str>, runs: Vec<Run>) -> Option<Self> {
        let rows: usize = runs.iter().map(|r| r.len as usize).sum();
        (runs.len() <= 1 || runs.len() * ROWS_PER_RUN_MIN <= rows).then_some(Persisted { file, runs })
    }

    /// How many rows of the file the segment answers for at `epoch`.
    fn live(&self, segment: &Segment, epoch: u64) -> u64 {
        match segment.visible(epoch) {
            Visible::Nothing => 0,
            Visible::Everything => self.runs.iter().map(|r| r.len as u64).sum(),
            Visible::Masked => segment.count_at(epoch) as u64,
        }
    }

    /// Sets their bits.
    fn mark(&self, segment: &Segment, epoch: u64, bits: &mut BooleanBufferBuilder) {
        for run in &self.runs {
            let alive = segment.outlives(epoch, run.row as usize, run.len as usize);
            alive.set_indices().for_each(|i| bits.set_bit(run.file_row as usize + i, true));
        }
    }
}

/// Adds a row to runs, in ascending order.
pub(super) fn extend_runs(runs: &mut Vec<Run>, row: u32, file_row: u32, len: u32) {
    match runs.last_mut() {
        Some(last) if last.row + last.len == row && last.file_row + last.len == file_row => last.len += len,
        _ => runs.push(Run { row, file_row, len }),
    }
}

pub(super) fn checkpoint(
    schema: &SchemaRef,
    segments: &[Arc<Vec<Arc<Segment>>>],
    epoch: Epoch,
    known: &ViewManifest,
) -> Result<ViewCheckpoint> {
    let mut files = Vec::new();
    let mut manifest = ViewManifest { epoch, ..ViewManifest::default() };
    let (kept, fresh) = partition(segments, epoch.0, known);
    let mut gone: Vec<(usize, BooleanBuffer)> = Vec::new();
    for (file, live, segments) in kept {
        let mut entry = file.clone();
        if live != file.live {
            entry.live = live;
            gone.push((manifest.segments.len(), rows_gone(&segments, epoch.0, file.rows as usize)));
        }
        manifest.segments.push(entry);
    }
    if !gone.is_empty() {
        let name = new_name();
        gone.iter().for_each(|(index, _)| manifest.segments[*index].deletions = Some(name.clone()));
        let bytes = deletions::encode(gone.iter().map(|(index, rows)| (manifest.segments[*index].name.as_str(), rows)));
        manifest.deletions.push(DeletionFile { name: name.clone(), crc32: crc32fast::hash(&bytes) });
        files.push(ViewFile { name, bytes: bytes.into() });
    }
    let used = |d: &&DeletionFile| manifest.segments.iter().any(|s| s.deletions.as_deref() == Some(d.name.as_str()));
    let still: Vec<DeletionFile> = known.deletions.iter().filter(used).cloned().collect();
    manifest.deletions.extend(still);
    for group in groups(fresh) {
        write(schema, &group, epoch.0, &mut manifest.segments, &mut files)?;
    }
    Ok(ViewCheckpoint { manifest, files })
}

type Kept<'a> = (&'a SegmentFile, u64, Vec<&'a Segment>);

/// Which known files are kept, with how many rows are left in them and who answers for these; and which segments are to be
/// written.
fn partition<'a>(segments: &'a [Arc<Vec<Arc<Segment>>>], epoch: u64, known: &'a ViewManifest) -> (Vec<Kept<'a>>, Vec<&'a Segment>) {
    let places: HashMap<&str, usize> = known.segments.iter().enumerate().map(|(place, f)| (f.name.as_str(), place)).collect();
    let mut by_file: BTreeMap<usize, (u64, Vec<&Segment>)> = BTreeMap::new();
    let mut fresh = Vec::new();
    let visible = segments.iter().flat_map(|list| list.iter()).filter(|s| s.visible(epoch) != Visible::Nothing);
    for segment in visible {
        let persisted = segment.persisted.lock();
        match persisted.as_ref().and_then(|p| Some((p, *places.get(p.file.as_ref())?))) {
            None => fresh.push(segment.as_ref()),
            Some((persisted, place)) => {
                let (live, users) = by_file.entry(place).or_default();
                *live += persisted.live(segment, epoch);
                users.push(segment);
            }
        }
    }
    let mut kept = Vec::new();
    for (place, (live, users)) in by_file {
        let file = &known.segments[place];
        if (file.rows - live) * GONE_PART > file.rows {
            fresh.extend(users);
        } else {
            kept.push((file, live, users));
        }
    }
    (kept, fresh)
}

fn rows_gone(segments: &[&Segment], epoch: u64, rows: usize) -> BooleanBuffer {
    let mut there = BooleanBufferBuilder::new(rows);
    there.append_n(rows, false);
    for segment in segments {
        if let Some(persisted) = segment.persisted.lock().as_ref() {
            persisted.mark(segment, epoch, &mut there);
        }
    }
    !&there.finish()
}

/// Segments that share a file.
fn groups(segments: Vec<&Segment>) -> Vec<Vec<&Segment>> {
    let mut groups: Vec<Vec<&Segment>> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for segment in segments {
        rows += segment.len();
        bytes += segment.row_bytes();
        if groups.is_empty() || rows > FILE_ROWS_MAX || bytes > FILE_BYTES_MAX {
            (rows, bytes) = (segment.len(), segment.row_bytes());
            groups.push(Vec::new());
        }
        groups.last_mut().expect("the first segment opens a group").push(segment);
    }
    groups
}

/// Writes the rows alive at `epoch` as one file, and tells the segments.
fn write(schema: &SchemaRef, segments: &[&Segment], epoch: u64, entries: &mut Vec<SegmentFile>, files: &mut Vec<ViewFile>) -> Result<()> {
    let name: Arc<str> = new_name().into();
    let mut writer = FileWriter::try_new(Vec::new(), schema)?;
    let mut pending: Vec<RecordBatch> = Vec::new();
    let (mut pending_rows, mut rows) = (0, 0u32);
    for segment in segments {
        let mut runs = Vec::new();
        for offset in (0..segment.len()).step_by(BATCH_ROWS) {
            let alive = segment.outlives(epoch, offset, BATCH_ROWS.min(segment.len() - offset));
            for (start, end) in alive.set_slices() {
                extend_runs(&mut runs, (offset + start) as u32, rows, (end - start) as u32);
                rows += (end - start) as u32;
            }
            let piece = filter(&segment.rows.slice(offset, alive.len()), alive)?;
            if pending_rows + piece.num_rows() > BATCH_ROWS {
                write_batch(&mut writer, schema, &mut pending)?;
                pending_rows = 0;
            }
            pending_rows += piece.num_rows();
            pending.push(piece);
        }
        *segment.persisted.lock() = Some(Persisted { file: name.clone(), runs });
    }
    write_batch(&mut writer, schema, &mut pending)?;
    let bytes = Bytes::from(writer.into_inner()?);
    let (rows, crc32) = (rows as u64, crc32fast::hash(&bytes));
    entries.push(SegmentFile { name: name.to_string(), crc32, rows, live: rows, deletions: None });
    files.push(ViewFile { name: name.to_string(), bytes });
    Ok(())
}

fn write_batch(writer: &mut FileWriter<Vec<u8>>, schema: &SchemaRef, pending: &mut Vec<RecordBatch>) -> Result<()> {
    let rows = match pending.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => compute::concat_batches(schema, many)?,
    };
    pending.clear();
    if rows.num_rows() > 0 {
        writer.write(&rows)?;
    }
    Ok(())
}

fn new_name() -> String {
    format!("view-{}", Uuid::new_v4())
}
