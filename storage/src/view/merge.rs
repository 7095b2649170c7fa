//! Vacuum: leaves out rows that nobody can see any more, and merges small segments into larger ones, so that their number
//! stays logarithmic in the number of rows, at a cost per row that is logarithmic too.
//!
//! Only segments born at or before the horizon are merged: their rows can no longer be told apart by when they were born,
//! so the merged segment has one birth epoch again, and any later checkpoint may contain all of it.
//!
//! A merge is built without the lock and at a lower priority, and goes to a file at once if it is large. Its live rows then go
//! over slice by slice: under the lock a slice takes over the deaths since, and the index is turned to the new places. What
//! takes the lock runs at the usual priority: a worker waits for it. Meanwhile readers still see the inputs, so a death at a new
//! place is written at the old one too. At the end the lists are exchanged at once.

use super::file::{Place, SegmentDir};
use super::freeze;
use super::identity::Identity;
use super::index::Location;
use super::secondary::Secondary;
use super::segment::{LIVE, Segment, filter};
use super::shard::{Moving, Shard, ShardState};
use crate::priority;
use arrow::array::RecordBatch;
use arrow::compute;
use arrow::datatypes::SchemaRef;
use eddyline_common::{Result, SqlError};
use parking_lot::MutexGuard;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many segments of one size make a larger one; a size is a power of it, in rows.
pub(super) const FANOUT: usize = 4;
/// Below this segments are all of the smallest size.
const SMALL_ROWS: usize = 1024;
/// What a merged segment holds at most: bounds a merge's memory and what is written anew for a few dead rows, and keeps the
/// offsets of strings in 32 bits.
const MERGED_ROWS_MAX: usize = 1 << 21;
const MERGED_BYTES_MAX: usize = 8 << 20;
/// A segment is rewritten alone when one in so many of its rows can be dropped.
const DROPPABLE_PART: usize = 4;
/// What one vacuum of a shard rewrites at most, so that a checkpoint that waits for it gets its turn.
const VACUUM_BYTES_MAX: usize = 16 << 20;
/// Rows moved, or graves forgotten, under one hold of the lock: some tenths of a millisecond, for which a step may wait.
const SLICE_ROWS: usize = 1024;
/// Rows hashed at a time, without the lock: bounds the memory for the hashes.
const HASHED_ROWS: usize = 65_536;

/// What a merge needs of the view.
pub(super) struct Merger<'a> {
    pub schema: &'a SchemaRef,
    pub identity: Option<&'a Identity>,
    pub secondaries: &'a [Arc<Secondary>],
    pub dir: Option<&'a Arc<SegmentDir>>,
    pub horizon: u64,
}

/// True if there is more to do.
pub(super) fn vacuum(shard: &Shard, merger: &Merger) -> Result<bool> {
    if shard.lock().moving.is_some() {
        return Err(SqlError::internal("a merge of this view's rows was interrupted; it is cleaned again after a restart"));
    }
    forget_dead(shard, merger.horizon);
    let mut left = VACUUM_BYTES_MAX;
    // A round makes fewer segments out of more, or drops rows, so there is a last one.
    let more = 'rounds: loop {
        let segments = shard.segments();
        if segments.is_empty() {
            break false;
        }
        let chosen = priority::lowered(|| choose(&segments, merger.horizon));
        drop(segments);
        if chosen.is_empty() {
            break false;
        }
        for inputs in chosen {
            if left == 0 {
                break 'rounds true;
            }
            left = left.saturating_sub(inputs.iter().filter(|s| s.dead() < s.len()).map(|s| s.row_bytes()).sum());
            merge(shard, merger, inputs)?;
        }
    };
    Ok(more)
}

/// Nobody looks for who died at or before the horizon. Afterwards there are none: later deaths have later epochs.
fn forget_dead(shard: &Shard, horizon: u64) {
    loop {
        let mut state = shard.lock();
        let more = state.graves.forget_before(horizon, SLICE_ROWS);
        // To whoever waits, if somebody does.
        MutexGuard::unlock_fair(state);
        if !more {
            return;
        }
    }
}

/// Which segments to merge with each other, each at most once.
fn choose(segments: &[Arc<Segment>], horizon: u64) -> Vec<Vec<Arc<Segment>>> {
    let mut gone = Vec::new();
    let mut rewritten = Vec::new();
    let mut sizes: BTreeMap<u32, Vec<Candidate>> = BTreeMap::new();
    for segment in segments.iter().filter(|s| s.born <= horizon) {
        let droppable = if segment.dead() * DROPPABLE_PART > segment.len() { segment.count_dead(horizon) } else { 0 };
        let left = segment.len() - droppable;
        if left == 0 {
            gone.push(segment.clone());
        } else if left * 2 <= MERGED_ROWS_MAX && segment.row_bytes() * 2 <= MERGED_BYTES_MAX {
            sizes.entry((left / SMALL_ROWS).max(1).ilog(FANOUT)).or_default().push(Candidate { segment: segment.clone(), left });
        } else if droppable * DROPPABLE_PART > segment.len() {
            rewritten.push(vec![segment.clone()]);
        }
    }
    let mut chosen = rewritten;
    if !gone.is_empty() {
        chosen.push(gone);
    }
    for same in sizes.into_values() {
        if same.len() >= FANOUT {
            chosen.extend(bounded(same));
        } else {
            let worth = |c: &Candidate| (c.segment.len() - c.left) * DROPPABLE_PART > c.segment.len();
            chosen.extend(same.into_iter().filter(worth).map(|c| vec![c.segment]));
        }
    }
    chosen
}

/// A segment small enough to be merged, and how many of its rows cannot be dropped.
struct Candidate {
    segment: Arc<Segment>,
    left: usize,
}

/// Cuts a list into groups that fit one merged segment; a group of one is left out.
fn bounded(candidates: Vec<Candidate>) -> Vec<Vec<Arc<Segment>>> {
    let mut groups: Vec<Vec<Arc<Segment>>> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for Candidate { segment, left } in candidates {
        rows += left;
        bytes += segment.row_bytes();
        if groups.is_empty() || rows > MERGED_ROWS_MAX || bytes > MERGED_BYTES_MAX {
            (rows, bytes) = (left, segment.row_bytes());
            groups.push(Vec::new());
        }
        groups.last_mut().expect("the first segment opens a group").push(segment);
    }
    groups.retain(|group| group.len() > 1);
    groups
}

fn merge(shard: &Shard, merger: &Merger, inputs: Vec<Arc<Segment>>) -> Result<()> {
    let Merger { schema, identity, secondaries, dir, horizon } = *merger;
    let ((rows, file), origin) = priority::lowered(|| {
        let (rows, origin) = build(schema, &inputs, horizon)?;
        Ok::<_, SqlError>((freeze::settle(dir.map(AsRef::as_ref), schema, rows)?, origin))
    })?;
    let born = inputs.iter().map(|s| s.born).max().expect("a merge has inputs");
    let target = {
        let mut state = shard.lock();
        let slot = state.free_slot();
        let target = Arc::new(match file {
            Some(file) => Segment::frozen(slot, rows, born, Place { file, first: 0 }),
            None => state.in_memory(slot, rows, born),
        });
        state.slots[slot as usize] = Some(target.clone());
        let (inputs, origin) = (Arc::new(inputs), Arc::new(origin));
        state.moving = Some(Moving { target: target.clone(), inputs, origin });
        target
    };
    if !secondaries.is_empty() {
        priority::lowered(|| target.sort_by(secondaries));
    }
    if let Some(identity) = identity {
        let rows = target.rows();
        for from in (0..target.len()).step_by(HASHED_ROWS) {
            let hashed = rows.slice(from, HASHED_ROWS.min(target.len() - from));
            let hashes = priority::lowered(|| identity.hashes(&hashed));
            for (index, slice) in hashes.chunks(SLICE_ROWS).enumerate() {
                let mut state = shard.lock();
                move_rows(&mut state, from + index * SLICE_ROWS, slice);
                MutexGuard::unlock_fair(state);
            }
        }
    }
    let inputs = exchange(&mut shard.lock());
    // Without the lock: this may unlink files.
    inputs.iter().for_each(|input| input.retire(dir));
    Ok(())
}

/// The rows of the inputs that did not die at or before the horizon, and where they came from.
fn build(schema: &SchemaRef, inputs: &[Arc<Segment>], horizon: u64) -> Result<(RecordBatch, Vec<(u32, u32)>)> {
    let mut pieces = Vec::with_capacity(inputs.len());
    let mut origin = Vec::with_capacity(inputs.iter().map(|s| s.len()).sum());
    for (input, segment) in inputs.iter().enumerate() {
        let kept = segment.outlives(horizon, 0, segment.len());
        origin.extend(kept.set_indices().map(|row| (input as u32, row as u32)));
        pieces.push(filter(&segment.rows(), kept)?);
    }
    pieces.retain(|rows| rows.num_rows() > 0);
    Ok((compute::concat_batches(schema, &pieces)?, origin))
}

/// Moves the target's rows from `offset`, whose hashes these are.
fn move_rows(state: &mut ShardState, offset: usize, hashes: &[u128]) {
    let moving = state.moving.as_ref().expect("a merge is under way");
    for (row, hash) in (offset..).zip(hashes) {
        let (input, old_row) = moving.origin[row];
        let input = &moving.inputs[input as usize];
        let to = Location { slot: moving.target.slot, row: row as u32 };
        let from = Location { slot: input.slot, row: old_row };
        match input.died(old_row as usize) {
            LIVE => state.index.relocate(*hash, from, to),
            died => {
                moving.target.kill(to.row, died);
                if state.unique {
                    state.graves.relocate(*hash, from, to);
                }
            }
        }
    }
}

/// Puts the target in the place of the inputs, and gives these back.
fn exchange(state: &mut ShardState) -> Arc<Vec<Arc<Segment>>> {
    let Moving { target, inputs, .. } = state.moving.take().expect("a merge is under way");
    let slots: BTreeSet<u32> = inputs.iter().map(|s| s.slot).collect();
    let listed = |s: &Arc<Segment>| !slots.contains(&s.slot);
    let mut segments: Vec<Arc<Segment>> = state.segments.iter().filter(|s| listed(s)).cloned().collect();
    if target.len() > 0 {
        segments.push(target);
    } else {
        state.release_slot(target.slot);
    }
    state.segments = Arc::new(segments);
    inputs.iter().for_each(|s| state.release_slot(s.slot));
    inputs
}
