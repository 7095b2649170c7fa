//! One shard: its segments, its index, and how a step's changes get into them.

use super::file::{Place, SegmentDir};
use super::graves::Graves;
use super::index::{Index, Location};
use super::segment::{Segment, batch_of, take};
use super::{View, ViewKey};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState, bytes_of};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// Rows of one new segment at most, so that offsets of strings fit and a later merge has room.
const SEGMENT_ROWS_MAX: usize = 1 << 20;
/// How many rows one change may stand for; a larger multiplicity is an error rather than memory without bound.
const WEIGHT_MAX: i64 = 1 << 24;
/// What a row that died takes beside its values: when it died, and where it lies for look-ups in the past.
const DEATH_BYTES: usize = 72;
/// A slice is copied when the buffers it keeps alive are this many times its size.
const PINNED_FACTOR: usize = 2;

pub(super) struct Shard {
    state: Mutex<ShardState>,
}

pub(super) struct ShardState {
    /// Replaced, not changed, while a reader has it.
    pub segments: Arc<Vec<Arc<Segment>>>,
    /// Segments by slot, listed or about to be.
    pub slots: Vec<Option<Arc<Segment>>>,
    free_slots: Vec<u32>,
    pub index: Index,
    /// The view has a key.
    pub unique: bool,
    dir: Option<Arc<SegmentDir>>,
    /// Of a keyed view.
    pub graves: Graves,
    pub moving: Option<Moving>,
}

/// A merge under way: live rows go over to `target` slice by slice, while readers still see `inputs`.
pub(super) struct Moving {
    pub target: Arc<Segment>,
    pub inputs: Arc<Vec<Arc<Segment>>>,
    /// For each row of the target: which input, and which row of it. Ascending.
    pub origin: Arc<Vec<(u32, u32)>>,
}

impl Shard {
    pub(super) fn new(key: &ViewKey, dir: Option<Arc<SegmentDir>>) -> Self {
        let state = ShardState {
            segments: Arc::default(),
            slots: Vec::new(),
            free_slots: Vec::new(),
            index: Index::default(),
            unique: matches!(key, ViewKey::Keyed(_)),
            dir,
            graves: Graves::default(),
            moving: None,
        };
        Shard { state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ShardState> {
        self.state.lock()
    }

    pub(super) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.lock().segments.clone()
    }

    pub(super) fn bytes(&self) -> usize {
        let state = self.lock();
        let rows: usize = state.segments.iter().map(|s| s.bytes()).sum();
        rows + state.index.bytes() + state.graves.bytes()
    }
}

impl ShardState {
    pub(super) fn free_slot(&mut self) -> u32 {
        self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        })
    }

    pub(super) fn release_slot(&mut self, slot: u32) {
        self.slots[slot as usize] = None;
        self.free_slots.push(slot);
    }

    pub(super) fn segment(&self, at: Location) -> &Arc<Segment> {
        self.slots[at.slot as usize].as_ref().expect("a location names a segment that is there")
    }

    pub(super) fn in_memory(&self, slot: u32, rows: RecordBatch, born: u64) -> Segment {
        Segment::new(slot, rows, born, self.dir.clone())
    }

    /// Adds a segment of live rows. `hashes` are of the rows' identities, if the view has any.
    pub(super) fn append(&mut self, rows: RecordBatch, born: u64, hashes: Option<&[u128]>) -> Result<Arc<Segment>> {
        let slot = self.free_slot();
        let segment = Arc::new(self.in_memory(slot, rows, born));
        self.list(segment.clone());
        if let Some(hashes) = hashes {
            self.index.reserve(hashes.len());
            self.enter(slot, hashes.iter().enumerate().map(|(row, hash)| (row as u32, *hash)))?;
        }
        Ok(segment)
    }

    /// Adds a segment whose rows are in a file; none of them is in the index yet.
    pub(super) fn append_frozen(&mut self, rows: RecordBatch, born: u64, place: Place) -> Arc<Segment> {
        let segment = Arc::new(Segment::frozen(self.free_slot(), rows, born, place));
        self.list(segment.clone());
        segment
    }

    fn list(&mut self, segment: Arc<Segment>) {
        self.slots[segment.slot as usize] = Some(segment.clone());
        Arc::make_mut(&mut self.segments).push(segment);
    }

    /// Puts live rows of a segment into the index.
    pub(super) fn enter(&mut self, slot: u32, rows: impl Iterator<Item = (u32, u128)>) -> Result<()> {
        for (row, hash) in rows {
            let at = Location { slot, row };
            if !self.unique {
                self.index.insert(hash, at);
            } else if !self.index.insert_unique(hash, at) {
                return Err(SqlError::internal("a view would have two rows with one key"));
            }
        }
        Ok(())
    }

    /// Ends the life of one row with this identity; false if there is none.
    fn kill(&mut self, hash: u128, epoch: u64) -> bool {
        let Some(at) = self.index.remove(hash) else { return false };
        self.segment(at).kill(at.row, epoch);
        if let Some(moving) = &self.moving
            && moving.target.slot == at.slot
        {
            let (input, row) = moving.origin[at.row as usize];
            moving.inputs[input as usize].kill(row, epoch);
        }
        if self.unique {
            self.graves.dig(epoch, hash, at);
        }
        true
    }
}

/// A batch of changes and the hashes of its rows' identities.
struct Hashed<'a> {
    changes: &'a ChangeBatch,
    hashes: Option<Vec<u128>>,
}

pub(super) fn apply(view: &View, shard: usize, epoch: u64, changes: &[ChangeBatch]) -> Result<()> {
    let unique = matches!(view.key, ViewKey::Keyed(_));
    let mut hashed = Vec::with_capacity(changes.len());
    for batch in changes.iter().filter(|b| !b.is_empty()) {
        check(batch, &view.schema, &view.key)?;
        hashed.push(Hashed { changes: batch, hashes: view.identity.as_ref().map(|identity| identity.hashes(&batch.rows)) });
    }
    let insertions = insertions(&view.schema, &hashed)?;
    let mut home = view.shards[shard].lock();
    let missing = retract(view, &mut home, &hashed, epoch);
    if !missing.is_empty() {
        drop(home);
        retract_elsewhere(view, shard, missing, epoch, unique)?;
        home = view.shards[shard].lock();
    }
    let added: Vec<Arc<Segment>> =
        insertions.into_iter().map(|(rows, hashes)| home.append(rows, epoch, hashes.as_deref())).collect::<Result<_>>()?;
    drop(home);
    // Before anybody reads at this epoch.
    let secondaries = view.indexes();
    added.iter().for_each(|segment| segment.sort_by(&secondaries));
    Ok(())
}

/// Kills the rows with negative weights; the hashes of those that are not in this shard.
fn retract(view: &View, state: &mut ShardState, hashed: &[Hashed], epoch: u64) -> Vec<u128> {
    let mut missing = Vec::new();
    for batch in hashed {
        let (Some(weights), Some(hashes)) = (&batch.changes.weights, &batch.hashes) else { continue };
        let mut deaths = 0;
        for (weight, hash) in weights.values().iter().zip(hashes) {
            for _ in *weight..0 {
                deaths += 1;
                if !state.kill(*hash, epoch) {
                    missing.push(*hash);
                }
            }
        }
        if deaths > 0 {
            view.rows_died(deaths * (bytes_of(&batch.changes.rows) / batch.changes.num_rows() + DEATH_BYTES));
        }
    }
    missing
}

/// Rows that another writer has put where it is: routing may have changed since.
fn retract_elsewhere(view: &View, home: usize, mut missing: Vec<u128>, epoch: u64, unique: bool) -> Result<()> {
    for (_, shard) in view.shards.iter().enumerate().filter(|(other, _)| *other != home) {
        let mut state = shard.lock();
        missing.retain(|hash| !state.kill(*hash, epoch));
    }
    match missing.len() {
        0 => Ok(()),
        n if unique => Err(SqlError::internal(format!("{n} rows to be taken from a view have keys that it does not have"))),
        n => Err(SqlError::internal(format!("{n} rows to be taken from a view are not in it"))),
    }
}

/// Whether the batch is one that this kind of view can take.
fn check(batch: &ChangeBatch, schema: &SchemaRef, key: &ViewKey) -> Result<()> {
    let types = |schema: &SchemaRef| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    if types(&batch.schema()) != types(schema) {
        return Err(SqlError::internal("changes do not have the columns of their view"));
    }
    let Some(weights) = &batch.weights else { return Ok(()) };
    let allowed = match key {
        ViewKey::Append => 0..=WEIGHT_MAX,
        ViewKey::Keyed(_) => -1..=1,
        ViewKey::Multiset => i64::MIN..=WEIGHT_MAX,
    };
    match weights.values().iter().find(|w| !allowed.contains(w)) {
        None => Ok(()),
        Some(w) if *w > WEIGHT_MAX => Err(SqlError::new(SqlState::LIMIT_EXCEEDED, format!("a view would have {w} more copies of one row"))),
        Some(w) => Err(SqlError::internal(format!("a change of weight {w} cannot be applied to a view of this kind"))),
    }
}

/// The rows with positive weights, as often as they say, as the segments they will be.
fn insertions(schema: &SchemaRef, hashed: &[Hashed]) -> Result<Vec<(RecordBatch, Option<Vec<u128>>)>> {
    let mut segments = Vec::new();
    let (mut pieces, mut hashes, mut rows) = (Vec::new(), Vec::new(), 0);
    for batch in hashed {
        let (piece, of_piece) = insertions_of(batch)?;
        for offset in (0..piece.num_rows()).step_by(SEGMENT_ROWS_MAX) {
            let len = SEGMENT_ROWS_MAX.min(piece.num_rows() - offset);
            if rows + len > SEGMENT_ROWS_MAX {
                segments.push((compact(schema, std::mem::take(&mut pieces))?, std::mem::take(&mut hashes)));
                rows = 0;
            }
            pieces.push(piece.slice(offset, len));
            hashes.extend_from_slice(of_piece.get(offset..offset + len).unwrap_or_default());
            rows += len;
        }
    }
    if rows > 0 {
        segments.push((compact(schema, pieces)?, hashes));
    }
    let indexed = hashed.iter().any(|b| b.hashes.is_some());
    Ok(segments.into_iter().map(|(rows, hashes)| (rows, indexed.then_some(hashes))).collect())
}

fn insertions_of(batch: &Hashed) -> Result<(RecordBatch, Vec<u128>)> {
    let all = batch.hashes.as_deref().unwrap_or_default();
    let rows = &batch.changes.rows;
    let Some(weights) = &batch.changes.weights else { return Ok((rows.clone(), all.to_vec())) };
    if weights.values().iter().all(|w| *w == 1) {
        return Ok((rows.clone(), all.to_vec()));
    }
    let copies = |(row, weight): (usize, &i64)| std::iter::repeat_n(row as u32, (*weight).max(0) as usize);
    let indices: Vec<u32> = weights.values().iter().enumerate().flat_map(copies).collect();
    let hashes = if all.is_empty() { Vec::new() } else { indices.iter().map(|row| all[*row as usize]).collect() };
    Ok((take(rows, &UInt32Array::from(indices))?, hashes))
}

/// One batch under the view's schema, which does not keep much more memory alive than it needs.
fn compact(schema: &SchemaRef, pieces: Vec<RecordBatch>) -> Result<RecordBatch> {
    let rows = match pieces.as_slice() {
        [piece] => {
            let held: usize = piece.columns().iter().map(|c| c.get_buffer_memory_size()).sum();
            if held > PINNED_FACTOR * bytes_of(piece) {
                take(piece, &UInt32Array::from_iter_values(0..piece.num_rows() as u32))?
            } else {
                piece.clone()
            }
        }
        pieces => compute::concat_batches(&pieces[0].schema(), pieces)?,
    };
    batch_of(schema, rows.columns().to_vec(), rows.num_rows())
}
