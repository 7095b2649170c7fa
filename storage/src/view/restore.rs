//! A view from its checkpoint: every batch of a file is a segment again, as it is, with what the deletion file says dead from
//! the start; only the index is built anew. Every file is checked against the manifest before anything is taken from it, so a
//! damaged one is an error rather than a wrong row.

use super::View;
use super::deletions::{self, Deletions};
use super::file::{DataFile, Place};
use super::persist::{SegmentFile, ViewManifest};
use super::shard::Shard;
use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use eddyline_common::{Result, SqlError};
use std::collections::HashMap;

/// Gives a file's content by its name.
pub type Fetch<'a> = &'a mut dyn FnMut(&str) -> Result<Bytes>;

/// Rows whose keys are hashed at once: bounds the memory for them.
const SLICE_ROWS: usize = 65_536;

pub(super) fn restore(view: &View, manifest: &ViewManifest, fetch: Fetch) -> Result<()> {
    let mut gone: HashMap<&str, HashMap<String, Deletions>> = HashMap::new();
    for file in &manifest.deletions {
        let bytes = checked(&file.name, file.crc32, fetch)?;
        gone.insert(&file.name, deletions::decode(&bytes)?);
    }
    for file in &manifest.segments {
        let gone = match &file.deletions {
            None => None,
            Some(name) => Some(deletions_of(file, gone.get(name.as_str()))?),
        };
        let bytes = checked(&file.name, file.crc32, fetch)?;
        restore_file(view, manifest.epoch.0, file, bytes, gone.as_ref())?;
    }
    Ok(())
}

fn checked(name: &str, crc32: u32, fetch: Fetch) -> Result<Bytes> {
    let bytes = fetch(name)?;
    if crc32fast::hash(&bytes) != crc32 {
        return Err(damaged(name, "its checksum is not the one in the manifest"));
    }
    Ok(bytes)
}

fn damaged(name: &str, why: impl std::fmt::Display) -> SqlError {
    SqlError::corrupt(format!("file \"{name}\" of a view is damaged: {why}"))
}

fn deletions_of(file: &SegmentFile, deletions: Option<&HashMap<String, Deletions>>) -> Result<BooleanBuffer> {
    let deletions = deletions.and_then(|by_file| by_file.get(&file.name));
    let bitmap = deletions.and_then(|d| d.bitmap(file.rows as usize));
    bitmap.ok_or_else(|| damaged(&file.name, "its deletions are missing or of another file"))
}

fn restore_file(view: &View, epoch: u64, file: &SegmentFile, bytes: Bytes, gone: Option<&BooleanBuffer>) -> Result<()> {
    let (data, batches) = DataFile::restored(view.dir.as_deref(), &view.schema, &file.name, bytes, file.crc32)?;
    let live = file.rows - gone.map_or(0, |gone| gone.count_set_bits() as u64);
    if data.rows != file.rows || live != file.live {
        return Err(damaged(&file.name, "it does not have as many rows as the manifest says"));
    }
    // The shard whose writer looks for these rows, unless there are fewer shards now; then they are found all the same.
    let shard = &view.shards[file.shard as usize % view.shards.len()];
    if view.identity.is_some() {
        shard.lock().index.reserve(live as usize);
    }
    let mut first = 0;
    for rows in batches {
        let gone = gone.map(|gone| gone.slice(first, rows.num_rows()));
        let place = Place { file: data.clone(), first: first as u32 };
        first += rows.num_rows();
        let restored = restore_segment(view, shard, epoch, rows, place, gone.as_ref());
        restored.map_err(|e| damaged(&file.name, e.message))?;
    }
    Ok(())
}

fn restore_segment(view: &View, shard: &Shard, epoch: u64, rows: RecordBatch, place: Place, gone: Option<&BooleanBuffer>) -> Result<()> {
    if gone.is_some_and(|gone| gone.count_set_bits() == rows.num_rows()) {
        return Ok(());
    }
    let mut state = shard.lock();
    let segment = state.append_frozen(rows.clone(), epoch, place);
    if let Some(gone) = gone {
        gone.set_indices().for_each(|row| segment.kill(row as u32, epoch));
    }
    let Some(identity) = &view.identity else { return Ok(()) };
    for offset in (0..rows.num_rows()).step_by(SLICE_ROWS) {
        let slice = rows.slice(offset, SLICE_ROWS.min(rows.num_rows() - offset));
        let hashes = identity.hashes(&slice);
        let alive = |(row, _): &(u32, u128)| gone.is_none_or(|gone| !gone.value(*row as usize));
        state.enter(segment.slot, (offset as u32..).zip(hashes).filter(alive))?;
    }
    Ok(())
}
