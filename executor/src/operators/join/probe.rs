//! The work at the end of a step: every key of which a row changed, one after the other, then the changed rows on their own. It
//! stops where much has been emitted and goes on from there.
//!
//! With `T` the rows of a key that changed and `A` all of them, a key's pairs are `T(left) x A(right)` and
//! `(A(left) - T(left)) x T(right)`.

use super::Join;
use super::output::Alone;
use super::pairs::{PAIRS, Scanned};
use super::side::Side;
use crate::operator::StepContext;
use arrow::array::ArrayRef;
use eddyline_common::Result;
use eddyline_common::key::KeyRows;
use eddyline_storage::state::{Cursor, KeyedRows, NO_SLOT, RowChunk, Shards};
use std::ops::Range;

/// Rows taken from a scan at once.
const SCAN_ROWS: usize = if cfg!(test) { 3 } else { 4096 };

pub(super) struct Probe {
    /// The head of each key on both sides, `NO_SLOT` where it has none.
    keys: Vec<[u32; 2]>,
    at: usize,
    stage: Stage,
    /// By side and touched head: the head of the same key on the other side.
    partners: [Vec<u32>; 2],
    /// The touched head whose rows are next shown on their own, by side.
    shown: [usize; 2],
}

#[derive(Debug)]
enum Stage {
    /// Nothing of the key is done.
    New,
    /// Rows of a side are being scanned.
    Scan(usize, Cursor),
    /// The right side has been scanned.
    RightDone,
}

impl Probe {
    pub(super) fn begin(sides: &mut [Side; 2]) -> Result<Self> {
        sides.iter_mut().for_each(|side| side.rows.forget_unchanged());
        let [left, right] = sides;
        let (keys, partners) = changed_keys(&mut left.rows, &mut right.rows)?;
        Ok(Probe { keys, at: 0, stage: Stage::New, partners, shown: [0, 0] })
    }

    /// Works until all is done (true) or much was emitted.
    pub(super) fn run(&mut self, join: &mut Join, ctx: &mut StepContext) -> Result<bool> {
        if self.at == 0 && join.residual.is_some() {
            for side in 0..2 {
                let rows = join.sides[side].rows.touched_rows().len();
                join.pairs.touched_matches[side].resize(rows, [0, 0]);
            }
        }
        while self.at < self.keys.len() {
            self.advance(join, ctx)?;
            if join.output.has_emitted_much() {
                return Ok(false);
            }
        }
        join.flush(ctx)?;
        for side in 0..2 {
            while join.kind.shows_alone(side) && self.shown[side] < self.partners[side].len() {
                self.show_touched(side, join, ctx)?;
                if join.output.has_emitted_much() {
                    return Ok(false);
                }
            }
        }
        join.pairs.touched_matches.iter_mut().for_each(Vec::clear);
        Ok(true)
    }

    /// One piece of the current key.
    fn advance(&mut self, join: &mut Join, ctx: &mut StepContext) -> Result<()> {
        let heads = self.keys[self.at];
        match std::mem::replace(&mut self.stage, Stage::New) {
            Stage::New if needs_scan(join, heads, 1) => self.stage = Stage::Scan(1, join.sides[1].rows.scan(heads[1])?),
            Stage::New => self.stage = Stage::RightDone,
            Stage::RightDone if needs_scan(join, heads, 0) => self.stage = Stage::Scan(0, join.sides[0].rows.scan(heads[0])?),
            Stage::RightDone => self.at += 1,
            Stage::Scan(side, mut cursor) => {
                if join.pairs.is_full() {
                    join.flush(ctx)?;
                }
                let more = scan_piece(join, heads, side, &mut cursor)?;
                match (more, side) {
                    (true, _) => self.stage = Stage::Scan(side, cursor),
                    (false, 1) => self.stage = Stage::RightDone,
                    (false, _) => self.at += 1,
                }
            }
        }
        Ok(())
    }

    /// What some of the changed rows of a side show on their own.
    fn show_touched(&mut self, side: usize, join: &mut Join, ctx: &mut StepContext) -> Result<()> {
        let [left, right] = &mut join.sides;
        let (own, other) = if side == 0 { (left, right) } else { (right, left) };
        let (mut chunk, mut changes) = (RowChunk::default(), Vec::new());
        while self.shown[side] < self.partners[side].len() && chunk.len() < PAIRS {
            let (head, partner) = (own.rows.touched_heads()[self.shown[side]], self.partners[side][self.shown[side]]);
            let of_key = [other.rows.old_weight(partner), other.rows.weight(partner)];
            let mut next = head.first;
            while next != NO_SLOT {
                let mut matches = if join.residual.is_some() { join.pairs.touched_matches[side][next as usize] } else { of_key };
                let row = chunk.len();
                own.rows.push_touched(next, &mut chunk);
                if join.marked && chunk.old_weights()[row] > 0 {
                    let mark = own.rows.touched_mark(next);
                    matches = [mark, mark + matches[1] - matches[0]];
                }
                if join.residual.is_some() {
                    own.rows.set_touched_mark(next, matches[1]);
                }
                let weights = [chunk.old_weights()[row], chunk.weights()[row]];
                join.output.alone_changes(row as u32, Alone { matches, weights }, &mut changes);
                next = own.rows.touched_rows()[next as usize].next;
            }
            self.shown[side] += 1;
        }
        let columns: Vec<ArrayRef> = if changes.is_empty() { Vec::new() } else { own.layout.columns(&chunk)? };
        join.output.emit_alone(side, &columns, &changes, ctx)
    }
}

/// The head of each key of which a row changed on both sides, `NO_SLOT` where it has none; and by side and touched head: the head of the same key on the other side.
pub(in crate::operators) fn changed_keys(left: &mut KeyedRows, right: &mut KeyedRows) -> Result<(Vec<[u32; 2]>, [Vec<u32>; 2])> {
    let (of_left, of_right) = (partners(left, right)?, partners(right, left)?);
    let mut keys: Vec<[u32; 2]> = left.touched_heads().iter().zip(&of_left).map(|(t, partner)| [t.head, *partner]).collect();
    for (touched, partner) in right.touched_heads().iter().zip(&of_right) {
        if left.touched_head(*partner).is_none() {
            keys.push([*partner, touched.head]);
        }
    }
    Ok((keys, [of_left, of_right]))
}

/// The heads on the other side of the keys that changed on one side.
fn partners(own: &KeyedRows, other: &mut KeyedRows) -> Result<Vec<u32>> {
    let heads = own.touched_heads();
    let mut keys = KeyRows::default();
    heads.iter().for_each(|touched| keys.push(&[own.key(touched.head)]));
    let mut partners = Vec::new();
    other.lookup(&keys, Shards::Of(&|at| own.shard(heads[at].head)), &mut partners)?;
    Ok(partners)
}

/// Whether the rows of a side must be looked at because of changes on the other one.
fn needs_scan(join: &Join, heads: [u32; 2], side: usize) -> bool {
    let other = &join.sides[1 - side].rows;
    if heads[side] == NO_SLOT || other.touched_head(heads[1 - side]).is_none() {
        return false;
    }
    let any = |weight: i64| weight > 0;
    let turns = any(other.old_weight(heads[1 - side])) != any(other.weight(heads[1 - side]));
    join.kind.shows_pairs() || join.residual.is_some() || (join.kind.shows_alone(side) && turns)
}

/// Pairs some rows of a side with the changed rows of the other one. True if the scan is not at its end.
fn scan_piece(join: &mut Join, heads: [u32; 2], side: usize, cursor: &mut Cursor) -> Result<bool> {
    let other = 1 - side;
    let touched = push_touched_rows(&join.sides[other].rows, heads[other], &mut join.pairs.pools[other]);
    let limit = (PAIRS / touched.len().max(1)).clamp(1, SCAN_ROWS);
    let start = join.pairs.pools[side].len();
    let more = join.sides[side].rows.next_rows(cursor, limit, &mut join.pairs.pools[side])?;
    let scanned = start..join.pairs.pools[side].len();
    // Who matches whom is asked only if a condition decides it and rows are shown for it.
    let all = join.residual.is_some() && (join.kind.shows_alone(0) || join.kind.shows_alone(1));
    if join.kind.shows_pairs() || all {
        if side == 1 {
            join.pairs.cross(touched, scanned.clone(), all);
        } else {
            // The changed ones among the left rows have met all right rows.
            for row in scanned.clone() {
                if join.pairs.pools[0].touched()[row] == NO_SLOT {
                    join.pairs.cross(row..row + 1, touched.clone(), all);
                }
            }
        }
    }
    if join.kind.shows_alone(side) {
        let partner = &join.sides[other].rows;
        let matches = [partner.old_weight(heads[other]), partner.weight(heads[other])];
        join.pairs.note_scanned(Scanned { side, head: heads[side], rows: scanned, matches });
    }
    Ok(more)
}

/// Appends the rows of a key that this step changed: where they are.
pub(in crate::operators) fn push_touched_rows(rows: &KeyedRows, head: u32, pool: &mut RowChunk) -> Range<usize> {
    let start = pool.len();
    let mut next = rows.touched_head(head).map_or(NO_SLOT, |touched| touched.first);
    while next != NO_SLOT {
        rows.push_touched(next, pool);
        next = rows.touched_rows()[next as usize].next;
    }
    start..pool.len()
}
