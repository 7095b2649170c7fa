//! A view from its checkpoint: reads the files, leaves out what they say is gone, deals the rows to shards, and rebuilds the
//! index. Every file is checked against the manifest, so a damaged one is an error rather than a wrong row.

use super::View;
use super::deletions::{self, Deletions};
use super::identity::Identity;
use super::persist::{Persisted, Run, SegmentFile, ViewManifest, extend_runs};
use super::segment::{batch_of, filter, take};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::ipc::reader::FileReader;
use bytes::Bytes;
use eddyline_common::key::{KeyRows, hash128};
use eddyline_common::{Result, SqlError};
use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

type Fetch<'a> = &'a mut dyn FnMut(&str) -> Result<Bytes>;

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

/// What of a file falls to one shard.
#[derive(Default)]
struct Part {
    pieces: Vec<RecordBatch>,
    hashes: Vec<u128>,
    runs: Vec<Run>,
    rows: u32,
}

impl Part {
    fn add(&mut self, rows: RecordBatch, hashes: impl Iterator<Item = u128>, file_rows: impl Iterator<Item = u32>) {
        self.pieces.push(rows);
        self.hashes.extend(hashes);
        for file_row in file_rows {
            extend_runs(&mut self.runs, self.rows, file_row, 1);
            self.rows += 1;
        }
    }
}

fn restore_file(view: &View, epoch: u64, file: &SegmentFile, bytes: Bytes, gone: Option<&BooleanBuffer>) -> Result<()> {
    let reader = FileReader::try_new(Cursor::new(bytes), None).map_err(|e| damaged(&file.name, e))?;
    let types = |schema: &arrow::datatypes::Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    if types(&reader.schema()) != types(&view.schema) {
        return Err(damaged(&file.name, "its columns are not those of the view"));
    }
    let mut parts: Vec<Part> = view.shards.iter().map(|_| Part::default()).collect();
    let (mut rows, mut live) = (0, 0);
    for (turn, batch) in reader.enumerate() {
        let batch = batch.map_err(|e| damaged(&file.name, e))?;
        let first = rows;
        rows += batch.num_rows();
        if rows as u64 > file.rows {
            break;
        }
        let alive = match gone {
            None => BooleanBuffer::new_set(batch.num_rows()),
            Some(gone) => !&gone.slice(first, batch.num_rows()),
        };
        let file_rows: Vec<u32> = alive.set_indices().map(|row| (first + row) as u32).collect();
        live += file_rows.len() as u64;
        deal(view.identity.as_ref(), filter(&batch, alive)?, &file_rows, turn, &mut parts)?;
    }
    if rows as u64 != file.rows || live != file.live {
        return Err(damaged(&file.name, "it does not have as many rows as the manifest says"));
    }
    let name: Arc<str> = file.name.as_str().into();
    for (part, shard) in parts.into_iter().zip(&view.shards).filter(|(part, _)| part.rows > 0) {
        let rows = compute::concat_batches(&part.pieces[0].schema(), &part.pieces)?;
        let rows = batch_of(&view.schema, rows.columns().to_vec(), rows.num_rows())?;
        let hashes = view.identity.is_some().then_some(part.hashes.as_slice());
        let appended = shard.lock().append(rows, epoch, hashes);
        let segment = appended.map_err(|e| damaged(&file.name, e.message))?;
        *segment.persisted.lock() = Persisted::new(name.clone(), part.runs);
    }
    Ok(())
}

/// Gives each row to its shard: by its identity, or batch by batch in turn if it has none.
fn deal(identity: Option<&Identity>, rows: RecordBatch, file_rows: &[u32], turn: usize, parts: &mut [Part]) -> Result<()> {
    let Some(identity) = identity else {
        parts[turn % parts.len()].add(rows, std::iter::empty(), file_rows.iter().copied());
        return Ok(());
    };
    let mut keys = KeyRows::default();
    identity.encode(&rows, &mut keys);
    if let [part] = parts {
        part.add(rows, keys.iter().map(hash128), file_rows.iter().copied());
        return Ok(());
    }
    let mut chosen: Vec<Vec<u32>> = vec![Vec::new(); parts.len()];
    for (row, key) in keys.iter().enumerate() {
        chosen[Identity::shard_of(key, parts.len())].push(row as u32);
    }
    for (chosen, part) in chosen.into_iter().zip(parts).filter(|(chosen, _)| !chosen.is_empty()) {
        let chosen = UInt32Array::from(chosen);
        let hashes = chosen.values().iter().map(|row| hash128(keys.row(*row as usize)));
        part.add(take(&rows, &chosen)?, hashes, chosen.values().iter().map(|row| file_rows[*row as usize]));
    }
    Ok(())
}
