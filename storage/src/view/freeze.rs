//! Freezing: a segment's rows are written to a file, as they are, and from then on read from there. Nothing else about the
//! segment changes, so neither readers nor writers notice, and the memory of the rows goes back at once.
//!
//! A checkpoint freezes what it needs; vacuum freezes large segments, and all of a shard when its tail has grown, so that
//! memory is bounded also between checkpoints. Only the maintenance thread freezes.

use super::file::{self, DataFile, Place, SegmentDir};
use super::segment::Segment;
use super::shard::Shard;
use arrow::array::RecordBatch;
use arrow::compute;
use arrow::datatypes::SchemaRef;
use eddyline_common::{Result, bytes_of};
use std::sync::Arc;

/// What one file holds at most: bounds the memory for writing it, and what is written anew when most of it is gone.
const FILE_ROWS_MAX: usize = 1 << 22;
const FILE_BYTES_MAX: usize = 16 << 20;
/// Small segments share a batch of this many rows: enough to amortise its header.
const BATCH_ROWS: usize = 65_536;
/// A segment of this size goes to a file of its own when it is made; smaller ones are better merged first.
const LARGE_BYTES: usize = 1 << 20;
/// A shard's tail of this size is frozen without waiting for the checkpoint.
const SHARD_TAIL_BYTES_MAX: usize = 4 << 20;
/// When all tails together reach this size, every one is frozen, however small.
pub(super) const ALL_TAILS_BYTES: usize = 32 << 20;

/// Writes segments of one shard to files.
pub(super) fn freeze(dir: Option<&SegmentDir>, schema: &SchemaRef, segments: &[Arc<Segment>]) -> Result<()> {
    for group in groups(segments) {
        let batches = batches(group);
        let (file, mapped) = file::write(dir, schema, batches.iter().map(|batch| join(schema, batch)))?;
        let mut first = 0;
        for (batch, rows) in batches.iter().zip(mapped) {
            let mut offset = 0;
            for segment in *batch {
                segment.freeze(rows.slice(offset, segment.len()), Place { file: file.clone(), first });
                offset += segment.len();
                first += segment.len() as u32;
            }
        }
    }
    Ok(())
}

/// What a shard should not keep in memory until the next checkpoint.
pub(super) fn freeze_tail(dir: &SegmentDir, schema: &SchemaRef, shard: &Shard) -> Result<()> {
    let listed = shard.segments();
    let tail: Vec<&Arc<Segment>> = listed.iter().filter(|s| s.place().is_none()).collect();
    let bytes: usize = tail.iter().map(|s| s.row_bytes()).sum();
    let all = bytes >= SHARD_TAIL_BYTES_MAX || dir.tail_bytes() >= ALL_TAILS_BYTES;
    let chosen: Vec<Arc<Segment>> = tail.into_iter().filter(|s| all || s.row_bytes() >= LARGE_BYTES).cloned().collect();
    freeze(Some(dir), schema, &chosen)
}

/// Rows of a segment that is being made: if they are many, they go to a file at once.
pub(super) fn settle(dir: Option<&SegmentDir>, schema: &SchemaRef, rows: RecordBatch) -> Result<(RecordBatch, Option<Arc<DataFile>>)> {
    if dir.is_none() || bytes_of(&rows) < LARGE_BYTES {
        return Ok((rows, None));
    }
    let (file, mut mapped) = file::write(dir, schema, std::iter::once(Ok(rows)))?;
    Ok((mapped.remove(0), Some(file)))
}

/// Cuts a list so that each part fits a file.
fn groups(segments: &[Arc<Segment>]) -> Vec<&[Arc<Segment>]> {
    let (mut rows, mut bytes) = (0, 0);
    cut(segments, |segment| {
        (rows, bytes) = (rows + segment.len(), bytes + segment.row_bytes());
        let full = rows > FILE_ROWS_MAX || bytes > FILE_BYTES_MAX;
        if full {
            (rows, bytes) = (segment.len(), segment.row_bytes());
        }
        full
    })
}

/// Cuts a file's segments so that each part makes a batch.
fn batches(segments: &[Arc<Segment>]) -> Vec<&[Arc<Segment>]> {
    let mut rows = 0;
    cut(segments, |segment| {
        rows += segment.len();
        let full = rows > BATCH_ROWS;
        if full {
            rows = segment.len();
        }
        full
    })
}

/// Cuts before every segment, but the first, that begins a new part.
fn cut(segments: &[Arc<Segment>], mut begins: impl FnMut(&Segment) -> bool) -> Vec<&[Arc<Segment>]> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (index, segment) in segments.iter().enumerate() {
        if begins(segment) && index > start {
            parts.push(&segments[start..index]);
            start = index;
        }
    }
    if start < segments.len() {
        parts.push(&segments[start..]);
    }
    parts
}

fn join(schema: &SchemaRef, segments: &[Arc<Segment>]) -> Result<RecordBatch> {
    match segments {
        [one] => Ok(one.rows()),
        many => {
            let rows: Vec<RecordBatch> = many.iter().map(|s| s.rows()).collect();
            Ok(compute::concat_batches(schema, &rows)?)
        }
    }
}
