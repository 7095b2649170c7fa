//! Checkpoints of a view: immutable data files of rows, and deletion files that say which of those rows are gone.
//!
//! Frozen segments are checkpoint files as they are; a checkpoint freezes those of its rows that are not yet. What a file
//! contributes to the view afterwards changes little: its rows die, or move into a merged segment, which is in another file.
//! So a file's deletions are the rows that no segment answers for any more. When its segments are mostly gone, the rest is
//! frozen anew and the file left out.
//!
//! Whether a file is in the store for good, only the manifest last committed can tell: a file that it does not name is
//! taken for new.

use super::deletions;
use super::file::{DataFile, SegmentDir};
use super::freeze;
use super::segment::{Segment, Visible};
use arrow::array::BooleanBufferBuilder;
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use eddyline_common::{Epoch, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

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
    /// Which shard its rows belong to.
    #[serde(default)]
    pub shard: u32,
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
    /// Its content; mapped, if it has a path, and then there also after the file is unlinked.
    pub bytes: Bytes,
    pub crc32: u32,
    /// Where it is, until the next `vacuum` or `checkpoint` of the view.
    pub path: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct ViewCheckpoint {
    pub manifest: ViewManifest,
    /// Those of the manifest's files that the known manifest does not name.
    pub files: Vec<ViewFile>,
}

pub(super) fn checkpoint(
    schema: &SchemaRef,
    dir: Option<&SegmentDir>,
    shards: &[Arc<Vec<Arc<Segment>>>],
    epoch: Epoch,
    known: &ViewManifest,
) -> Result<ViewCheckpoint> {
    let mut made = ViewCheckpoint { manifest: ViewManifest { epoch, ..ViewManifest::default() }, files: Vec::new() };
    let known_files: HashMap<&str, &SegmentFile> = known.segments.iter().map(|file| (file.name.as_str(), file)).collect();
    let mut gone: Vec<(usize, BooleanBuffer)> = Vec::new();
    for (shard, segments) in shards.iter().enumerate() {
        let visible: Vec<Arc<Segment>> = segments.iter().filter(|s| s.visible(epoch.0) != Visible::Nothing).cloned().collect();
        let wanting = |s: &&Arc<Segment>| s.place().is_none_or(|place| place.file.is_sparse());
        let unfrozen: Vec<Arc<Segment>> = visible.iter().filter(wanting).cloned().collect();
        freeze::freeze(dir, schema, &unfrozen)?;
        for part in by_file(&visible) {
            let old = known_files.get(part.file.name.as_str()).copied();
            let live = part.live(epoch.0);
            let unchanged = old.filter(|old| old.live == live && part.segments.iter().all(|(_, s)| s.born <= known.epoch.0));
            if let Some(old) = unchanged {
                made.manifest.segments.push(old.clone());
                continue;
            }
            if live < part.file.rows {
                gone.push((made.manifest.segments.len(), part.gone(epoch.0)));
            }
            if old.is_none() {
                let DataFile { name, bytes, path, crc32, .. } = part.file.as_ref();
                made.files.push(ViewFile { name: name.clone(), bytes: bytes.clone(), crc32: *crc32, path: path.clone() });
            }
            made.manifest.segments.push(part.entry(shard, live));
        }
    }
    add_deletions(&mut made, &gone, known);
    Ok(made)
}

/// Writes a deletion file for the entries at these places, and keeps the known ones that others still need.
fn add_deletions(made: &mut ViewCheckpoint, gone: &[(usize, BooleanBuffer)], known: &ViewManifest) {
    let manifest = &mut made.manifest;
    if !gone.is_empty() {
        let name = format!("view-deletions-{}", Uuid::new_v4());
        gone.iter().for_each(|(index, _)| manifest.segments[*index].deletions = Some(name.clone()));
        let bytes = deletions::encode(gone.iter().map(|(index, rows)| (manifest.segments[*index].name.as_str(), rows)));
        let crc32 = crc32fast::hash(&bytes);
        manifest.deletions.push(DeletionFile { name: name.clone(), crc32 });
        made.files.push(ViewFile { name, bytes: bytes.into(), crc32, path: None });
    }
    let used = |d: &&DeletionFile| manifest.segments.iter().any(|s| s.deletions.as_deref() == Some(d.name.as_str()));
    let still: Vec<DeletionFile> = known.deletions.iter().filter(used).cloned().collect();
    manifest.deletions.extend(still);
}

/// A file and the segments that are in it, by their first rows there.
struct Part<'a> {
    file: Arc<DataFile>,
    segments: Vec<(u32, &'a Segment)>,
}

/// The frozen segments of a shard, by file.
fn by_file(segments: &[Arc<Segment>]) -> Vec<Part<'_>> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for segment in segments {
        let Some(place) = segment.place() else { continue };
        let part = parts.entry(place.file.name.clone()).or_insert_with(|| Part { file: place.file, segments: Vec::new() });
        part.segments.push((place.first, segment));
    }
    parts.values_mut().for_each(|part| part.segments.sort_unstable_by_key(|(first, _)| *first));
    parts.into_values().collect()
}

impl Part<'_> {
    fn live(&self, epoch: u64) -> u64 {
        self.segments.iter().map(|(_, segment)| segment.count_at(epoch) as u64).sum()
    }

    /// The file's rows that are no rows of the view.
    fn gone(&self, epoch: u64) -> BooleanBuffer {
        let mut gone = BooleanBufferBuilder::new(self.file.rows as usize);
        for (first, segment) in &self.segments {
            gone.append_n(*first as usize - gone.len(), true);
            gone.append_buffer(&segment.deaths(0, segment.len(), |died| died <= epoch));
        }
        gone.append_n(self.file.rows as usize - gone.len(), true);
        gone.finish()
    }

    fn entry(&self, shard: usize, live: u64) -> SegmentFile {
        let DataFile { name, crc32, rows, .. } = self.file.as_ref();
        SegmentFile { name: name.clone(), crc32: *crc32, shard: shard as u32, rows: *rows, live, deletions: None }
    }
}
