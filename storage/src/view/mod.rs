//! The view store: the rows of tables and materialized views, with versions.
//!
//! A view is split into shards. A shard is a list of immutable Arrow segments and, unless the view is append-only, an
//! index from the hash of a row's identity to where its live copy is. All rows of a segment were born at one epoch; the
//! epoch at which a row died is written next to it. A read at epoch E sees `born <= E < died`.
//!
//! Who does what:
//! - writers (`apply`) hold their shard's lock, append segments, mark rows dead, and never merge;
//! - readers take the lock only to clone the list of segments, then filter on their own;
//! - one maintenance thread (`vacuum`, `checkpoint`) merges segments, freezes them and makes them durable.
//!
//! A frozen segment's rows are in a file that is mapped: its memory is page cache. In memory are the tail (what came since the
//! last freeze), eight bytes per row of a segment in which rows died, the index, and eight bytes per row of each secondary index.
//!
//! What holds: a view's steps come in order of epochs; a reader at E starts after every `apply` up to E; `vacuum(H)` is
//! called only when nobody reads below H and no step at or below H is to come. From then on epochs up to H cannot be told
//! apart, so rows merged at H are born at one epoch again, and reads below H are refused.
//!
//! Which worker writes a key is the caller's choice: a row is looked for in its writer's shard first, and then in the
//! others, so routing may change over a restart. The store knows nothing of SQL or plans.

mod deletions;
mod file;
mod freeze;
mod graves;
mod identity;
mod index;
mod mapping;
mod merge;
mod persist;
mod read;
mod restore;
mod secondary;
mod segment;
mod shard;

pub use file::SegmentDir;
pub use persist::{DeletionFile, SegmentFile, ViewCheckpoint, ViewFile, ViewManifest};
pub use read::{Changes, Snapshot};
pub use restore::Fetch;
pub use secondary::{Found, Secondary};

use crate::priority;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use eddyline_common::{ChangeBatch, Epoch, Result, SqlError, SqlState};
use identity::Identity;
use merge::Merger;
use parking_lot::RwLock;
use segment::Segment;
use shard::Shard;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What makes two rows of a view the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewKey {
    /// Rows are only ever added; nothing is indexed.
    Append,
    /// These columns are unique among live rows.
    Keyed(Vec<usize>),
    /// Rows without a key, each present as often as its multiplicity.
    Multiset,
}

/// The name of a last column that says under which watermark (microseconds) each row arrived. It is part of what is applied
/// and stored; readers see it only when they ask for it, and it does not tell rows apart. No statement can spell it.
pub const ARRIVAL: &str = "\0arrival";

pub struct View {
    /// What is stored, and what readers see of it.
    schema: SchemaRef,
    visible: SchemaRef,
    key: ViewKey,
    /// `None` for append-only views.
    identity: Option<Identity>,
    /// Replaced, not changed.
    secondaries: RwLock<Arc<Vec<Arc<Secondary>>>>,
    shards: Vec<Shard>,
    /// Where segments are frozen. `None`: everything stays in memory.
    dir: Option<Arc<SegmentDir>>,
    /// Reads below it are refused. Only grows; set before anything it allows is dropped.
    horizon: AtomicU64,
    /// Of rows that died, ever.
    died_bytes: AtomicU64,
}

impl View {
    /// Fails with 0A000 if the identity has columns that cannot be compared. Without a directory all rows stay in memory.
    pub fn new(schema: SchemaRef, key: ViewKey, shards: usize, dir: Option<Arc<SegmentDir>>) -> Result<Arc<View>> {
        Ok(Arc::new(View::empty(schema, key, shards, dir, Epoch::ZERO)?))
    }

    fn empty(schema: SchemaRef, key: ViewKey, shards: usize, dir: Option<Arc<SegmentDir>>, horizon: Epoch) -> Result<View> {
        assert!(shards > 0, "a view has at least one shard");
        let width = schema.fields().len() - usize::from(schema.fields().last().is_some_and(|f| f.name() == ARRIVAL));
        let visible = Arc::new(schema.project(&(0..width).collect::<Vec<_>>())?);
        let identity = match &key {
            ViewKey::Append => None,
            ViewKey::Keyed(columns) => Some(Identity::new(&schema, columns.clone())?),
            ViewKey::Multiset => Some(Identity::new(&schema, (0..width).collect())?),
        };
        let shards = (0..shards).map(|_| Shard::new(&key, dir.clone())).collect();
        let (secondaries, horizon) = (RwLock::default(), AtomicU64::new(horizon.0));
        Ok(View { schema, visible, key, identity, secondaries, shards, dir, horizon, died_bytes: AtomicU64::new(0) })
    }

    /// What readers see.
    #[expect(clippy::misnamed_getters, reason = "inside, a view's schema is that of its segments")]
    pub fn schema(&self) -> &SchemaRef {
        &self.visible
    }

    /// What `apply` takes: the same, and the arrival watermark if it is kept.
    pub fn stored_schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn keeps_arrivals(&self) -> bool {
        self.schema.fields().len() > self.visible.fields().len()
    }

    pub fn key(&self) -> &ViewKey {
        &self.key
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Applies the net changes of one step, or a part of them, as the writer of `shard`: first all retractions, then all
    /// insertions. A retraction of a row that is not there, or a second live row for a key, is an internal error, and
    /// leaves the step half applied.
    pub fn apply(&self, shard: usize, epoch: Epoch, changes: &[ChangeBatch]) -> Result<()> {
        if epoch.0 < self.horizon.load(Ordering::Acquire) {
            return Err(SqlError::internal(format!("a change at epoch {epoch} came after the view was vacuumed to a later epoch")));
        }
        eddyline_common::failpoint::hit("view.apply")?;
        shard::apply(self, shard, epoch.0, changes)
    }

    /// The rows at `epoch`, filtered while iterating. `projection` gives the columns wanted, in order.
    pub fn snapshot(&self, epoch: Epoch, projection: Option<&[usize]>) -> Result<Snapshot> {
        let segments = self.segments_at(epoch)?;
        let all: Vec<usize>;
        let projection = match projection {
            None if self.keeps_arrivals() => {
                all = (0..self.visible.fields().len()).collect();
                Some(all.as_slice())
            }
            projection => projection,
        };
        Snapshot::new(&self.schema, segments, epoch.0, projection)
    }

    /// The rows at `epoch` as they are stored, with their arrival watermarks if these are kept.
    pub fn stored_rows(&self, epoch: Epoch) -> Result<Snapshot> {
        Snapshot::new(&self.schema, self.segments_at(epoch)?, epoch.0, None)
    }

    /// The rows at `epoch` that have one of these keys, all columns, each row once. `keys` are the key columns of a
    /// keyed view, in the order of its key.
    pub fn lookup(&self, epoch: Epoch, keys: &[ArrayRef]) -> Result<RecordBatch> {
        read::lookup(self, epoch, keys)
    }

    /// Declares an index over these columns of what readers see, unless there is one of this name. Costs nothing by row:
    /// `build_indexes` does. Fails with 0A000 if the columns cannot be compared.
    pub fn add_index(&self, name: &str, columns: &[usize]) -> Result<()> {
        let secondary = Arc::new(Secondary::new(name, &self.visible, columns)?);
        let mut secondaries = self.secondaries.write();
        if !secondaries.iter().any(|known| known.name() == name) {
            let all = secondaries.iter().cloned().chain([secondary]).collect();
            *secondaries = Arc::new(all);
        }
        Ok(())
    }

    /// What it kept goes with the next vacuum.
    pub fn drop_index(&self, name: &str) {
        let mut secondaries = self.secondaries.write();
        let others = secondaries.iter().filter(|known| known.name() != name).cloned().collect();
        *secondaries = Arc::new(others);
    }

    /// In the order in which they were declared.
    pub fn indexes(&self) -> Arc<Vec<Arc<Secondary>>> {
        self.secondaries.read().clone()
    }

    /// Reads all rows for indexes that lack them. Neither writers nor readers wait for it.
    pub fn build_indexes(&self) {
        let secondaries = self.indexes();
        self.shards.iter().for_each(|shard| shard.segments().iter().for_each(|segment| segment.sort_by(&secondaries)));
    }

    /// The rows at `epoch` that have one of these values in the columns of an index, all columns, batch by batch. `values` are
    /// an array per column of the index. A null is found nowhere.
    pub fn find(&self, epoch: Epoch, index: &Arc<Secondary>, values: &[ArrayRef]) -> Result<Found> {
        Found::new(&self.visible, index, self.segments_at(epoch)?, epoch.0, values)
    }

    /// Whether rows can be added before anything else of their step is: of a view with a key none has the key of another one, or of a row
    /// that lives. Rows of a view without one always can.
    pub fn are_new<'a>(&self, rows: impl IntoIterator<Item = &'a RecordBatch>) -> bool {
        let (ViewKey::Keyed(_), Some(identity)) = (&self.key, &self.identity) else { return true };
        let mut seen = HashSet::new();
        rows.into_iter().all(|rows| {
            let hashes = identity.hashes(rows);
            let is_free = |shard: &Shard| {
                let state = shard.lock();
                hashes.iter().all(|hash| state.index.count(*hash) == 0)
            };
            self.shards.iter().all(is_free) && hashes.iter().all(|hash| seen.insert(*hash))
        })
    }

    /// How often each of these rows, all columns that readers see, is there at present; of a view without a key that is not
    /// append-only.
    pub fn multiplicities(&self, rows: &RecordBatch) -> Result<Vec<usize>> {
        let (ViewKey::Multiset, Some(identity)) = (&self.key, &self.identity) else {
            return Err(SqlError::internal("only rows of a view without a key are counted"));
        };
        let hashes = identity.hashes(rows);
        let mut counts = vec![0; hashes.len()];
        for shard in &self.shards {
            let state = shard.lock();
            counts.iter_mut().zip(&hashes).for_each(|(count, hash)| *count += state.index.count(*hash));
        }
        Ok(counts)
    }

    /// The net changes in `(after, to]`, retractions first.
    pub fn changes(&self, after: Epoch, to: Epoch) -> Result<Vec<ChangeBatch>> {
        let segments = self.segments_at(after)?;
        read::changes(&self.visible, segments, after.0, to.0)
    }

    /// What came and went in `(after, to]` as it is stored, with arrival watermarks if these are kept.
    pub fn stored_changes(&self, after: Epoch, to: Epoch) -> Result<Changes> {
        Ok(Changes::new(self.segments_at(after)?, after.0, to.0))
    }

    /// Drops rows that died at or before `oldest_needed`, merges small segments and freezes large ones. From now on nobody
    /// reads below it. Writers wait for at most a slice of a merge. Reads rows for indexes that lack them. Works on a bounded
    /// number of bytes; true if there is more to do.
    pub fn vacuum(&self, oldest_needed: Epoch) -> Result<bool> {
        let horizon = oldest_needed.0.max(self.horizon.fetch_max(oldest_needed.0, Ordering::AcqRel));
        eddyline_common::failpoint::hit("view.vacuum")?;
        let (secondaries, identity) = (self.indexes(), self.identity.as_ref());
        let merger = Merger { schema: &self.schema, identity, secondaries: &secondaries, dir: self.dir.as_ref(), horizon };
        let mut more = false;
        for shard in &self.shards {
            let merged = merge::vacuum(shard, &merger);
            // Also after an error: the tail must not grow for it.
            if let Some(dir) = self.dir.as_ref().filter(|_| !shard.segments().is_empty()) {
                priority::lowered(|| freeze::freeze_tail(dir, &self.schema, shard))?;
            }
            more |= merged?;
            more |= secondary::complete(&shard.segments(), &secondaries);
        }
        Ok(more)
    }

    /// Removes the files of a view that was dropped. Whoever still reads it keeps what is mapped. Called by the maintenance
    /// thread.
    pub fn discard(&self) {
        self.shards.iter().for_each(|shard| shard.segments().iter().for_each(|segment| segment.retire(self.dir.as_ref())));
    }

    /// How many rows there are at `epoch`. Exact; reads a segment's deaths only if some came after `epoch`.
    pub fn num_rows(&self, epoch: Epoch) -> u64 {
        self.shards.iter().map(|shard| shard.segments().iter().map(|s| s.count_at(epoch.0) as u64).sum::<u64>()).sum()
    }

    /// Memory of rows that are not frozen, deaths and indexes.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(Shard::bytes).sum()
    }

    /// Bytes of all rows that have died since the start: what has died since an epoch is what is kept for who reads there.
    pub fn died_bytes(&self) -> u64 {
        self.died_bytes.load(Ordering::Relaxed)
    }

    fn rows_died(&self, bytes: usize) {
        self.died_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.dir.iter().for_each(|dir| dir.rows_died(bytes));
    }

    /// Memory of rows that are not in files yet, over all views of its directory.
    pub fn tails_bytes(&self) -> usize {
        self.dir.as_ref().map_or(0, |dir| dir.tail_bytes())
    }

    pub fn segments(&self) -> usize {
        self.shards.iter().map(|shard| shard.segments().len()).sum()
    }

    /// The view's durable form at `epoch`, which every writer has passed; freezes what it consists of. `known` is the
    /// manifest of the last checkpoint that was committed (empty if there is none); `files` are those it lacks.
    pub fn checkpoint(&self, epoch: Epoch, known: &ViewManifest) -> Result<ViewCheckpoint> {
        let segments = self.segments_at(epoch)?;
        persist::checkpoint(&self.schema, self.dir.as_deref(), &segments, epoch, known)
    }

    /// The view as it was at the manifest's epoch, on any number of shards. `fetch` gives a file's content by name. Content
    /// that is mapped from `dir` stays there and is neither copied nor decoded; every file is verified.
    pub fn restore(
        schema: SchemaRef,
        key: ViewKey,
        shards: usize,
        dir: Option<Arc<SegmentDir>>,
        manifest: &ViewManifest,
        fetch: Fetch,
    ) -> Result<Arc<View>> {
        let view = View::empty(schema, key, shards, dir, manifest.epoch)?;
        restore::restore(&view, manifest, fetch)?;
        Ok(Arc::new(view))
    }

    /// The segments of all shards, good for reading at `epoch`. The horizon is looked at after the lists are taken: what
    /// `vacuum` drops, it drops after it has moved the horizon.
    fn segments_at(&self, epoch: Epoch) -> Result<Vec<Arc<Vec<Arc<Segment>>>>> {
        let segments = self.shards.iter().map(Shard::segments).collect();
        self.check_horizon(epoch)?;
        Ok(segments)
    }

    fn check_horizon(&self, epoch: Epoch) -> Result<()> {
        let horizon = self.horizon.load(Ordering::Acquire);
        if epoch.0 < horizon {
            return Err(SqlError::new(SqlState::SNAPSHOT_TOO_OLD, "snapshot too old")
                .with_detail(format!("Epoch {epoch} was asked for; the oldest that is kept is {horizon}.")));
        }
        Ok(())
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
