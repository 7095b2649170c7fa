//! Secondary indexes: which rows of a segment have given values in some columns, found without reading the segment. A
//! segment's rows never change, so neither does what an index keeps of them: a number per row, half of it from the hash of
//! its values and half of it its place, in order. Who is alive at an epoch is the segment's to say. A look-up searches every
//! segment; vacuum keeps their number logarithmic in the number of rows.
//!
//! What holds: an index is right from the moment it is declared. A segment that it lacks is read by the first look-up that
//! comes there; writers, merges, vacuum and whoever declares an index read it before that, so that look-ups need not.
//!
//! Part of a hash is enough to find candidates; whether they are meant is told by all of it, computed anew from their rows.
//! A row with a null in one of the columns is in no index: nothing is equal to it.

use super::identity::Identity;
use super::read::gather;
use super::segment::{Segment, Visible, filter};
use crate::priority;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::SchemaRef;
use eddyline_common::{Result, SqlError};
use parking_lot::RwLock;
use std::collections::HashSet;
use std::sync::Arc;

/// Rows whose values are hashed at once: bounds the memory for them.
const SLICE_ROWS: usize = 65_536;
/// Rows of a batch that a look-up returns, at most.
const BATCH_ROWS: usize = 8192;
/// A segment of so many rows is read sooner than a query is planned.
const SMALL_ROWS: usize = 1024;
/// What one vacuum of a shard reads for indexes that lack it, so that a checkpoint that waits for it gets its turn.
const VACUUM_ROWS_MAX: usize = if cfg!(test) { 1 << 14 } else { 1 << 20 };

/// An index over columns of a view.
pub struct Secondary {
    name: String,
    columns: Vec<usize>,
    identity: Identity,
}

impl Secondary {
    /// Fails with 0A000 if the columns cannot be compared.
    pub(super) fn new(name: &str, schema: &SchemaRef, columns: &[usize]) -> Result<Self> {
        let identity = Identity::new(schema, columns.to_vec())?;
        Ok(Secondary { name: name.to_string(), columns: columns.to_vec(), identity })
    }

    /// What its owner calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of the view, in the order of the index.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    fn sort(&self, rows: &RecordBatch) -> Arc<[u64]> {
        let mut sorted = Vec::with_capacity(rows.num_rows());
        for offset in (0..rows.num_rows()).step_by(SLICE_ROWS) {
            let slice = rows.slice(offset, SLICE_ROWS.min(rows.num_rows() - offset));
            let nulls_of = |column: &usize| slice.column(*column).logical_nulls();
            let nulls =
                self.columns.iter().fold(None, |nulls: Option<NullBuffer>, c| NullBuffer::union(nulls.as_ref(), nulls_of(c).as_ref()));
            let hashes = self.identity.hashes(&slice).into_iter().enumerate();
            let without_null = hashes.filter(|(row, _)| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row)));
            sorted.extend(without_null.map(|(row, hash)| (u64::from(prefix(hash)) << 32) | (offset + row) as u64));
        }
        sorted.sort_unstable();
        sorted.into()
    }
}

fn prefix(hash: u128) -> u32 {
    (hash >> 96) as u32
}

/// The numbers that begin with this prefix.
fn run(sorted: &[u64], prefix: u32) -> &[u64] {
    let prefix_of = |number: &u64| (*number >> 32) as u32;
    let from = sorted.partition_point(|number| prefix_of(number) < prefix);
    let len = sorted[from..].partition_point(|number| prefix_of(number) == prefix);
    &sorted[from..from + len]
}

/// What indexes keep of one segment.
#[derive(Default)]
pub(super) struct Sorted(RwLock<Vec<(Arc<Secondary>, Arc<[u64]>)>>);

impl Sorted {
    fn get(&self, secondary: &Arc<Secondary>) -> Option<Arc<[u64]>> {
        self.0.read().iter().find(|(known, _)| Arc::ptr_eq(known, secondary)).map(|(_, sorted)| sorted.clone())
    }

    /// What is there, if another thread was faster.
    fn put(&self, secondary: &Arc<Secondary>, made: Arc<[u64]>) -> Arc<[u64]> {
        let mut all = self.0.write();
        if let Some((_, sorted)) = all.iter().find(|(known, _)| Arc::ptr_eq(known, secondary)) {
            return sorted.clone();
        }
        all.push((secondary.clone(), made.clone()));
        made
    }

    /// Forgets what dropped indexes kept.
    fn keep(&self, known: &[Arc<Secondary>]) {
        let is_known = |(secondary, _): &(Arc<Secondary>, Arc<[u64]>)| known.iter().any(|known| Arc::ptr_eq(known, secondary));
        let keeps_all = self.0.read().iter().all(is_known);
        if !keeps_all {
            self.0.write().retain(is_known);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.read().iter().map(|(_, sorted)| sorted.len() * size_of::<u64>()).sum()
    }
}

impl Segment {
    /// Its rows in the order of the index; read now if that was not done before.
    fn sorted_by(&self, secondary: &Arc<Secondary>) -> Arc<[u64]> {
        self.sorted.get(secondary).unwrap_or_else(|| self.sorted.put(secondary, secondary.sort(&self.rows())))
    }

    /// Sees to it that look-ups find it sorted.
    pub(super) fn sort_by(&self, secondaries: &[Arc<Secondary>]) {
        secondaries.iter().for_each(|secondary| drop(self.sorted_by(secondary)));
    }
}

/// Reads a bounded number of rows for indexes that lack them, and forgets what dropped indexes kept; true if there is more to do.
pub(super) fn complete(segments: &[Arc<Segment>], known: &[Arc<Secondary>]) -> bool {
    let mut left = VACUUM_ROWS_MAX;
    for segment in segments {
        segment.sorted.keep(known);
        if known.iter().any(|secondary| segment.sorted.get(secondary).is_none()) {
            if left == 0 {
                return true;
            }
            left = left.saturating_sub(segment.len());
            priority::lowered(|| segment.sort_by(known));
        }
    }
    false
}

/// The rows of a view at one epoch that have given values in the columns of an index, whole, as often as they are there. Keeps
/// its segments alive, and nothing else.
pub struct Found {
    schema: SchemaRef,
    secondary: Arc<Secondary>,
    epoch: u64,
    wanted: HashSet<u128>,
    /// Of what is wanted, each once.
    prefixes: Vec<u32>,
    segments: std::vec::IntoIter<Arc<Segment>>,
    /// The candidates that are left in the segment that was searched last.
    pending: Option<(Arc<Segment>, std::vec::IntoIter<u32>)>,
}

impl Found {
    pub(super) fn new(
        schema: &SchemaRef,
        secondary: &Arc<Secondary>,
        segments: Vec<Arc<Vec<Arc<Segment>>>>,
        epoch: u64,
        values: &[ArrayRef],
    ) -> Result<Self> {
        if values.iter().map(|v| v.data_type()).ne(secondary.identity.codec().types()) {
            return Err(SqlError::internal("the columns of a look-up are not those of the index"));
        }
        let wanted: HashSet<u128> = secondary.identity.hashes_of(values, values.first().map_or(0, |v| v.len())).into_iter().collect();
        let mut prefixes: Vec<u32> = wanted.iter().map(|hash| prefix(*hash)).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        let visible = |segment: &&Arc<Segment>| segment.visible(epoch) != Visible::Nothing;
        let segments: Vec<Arc<Segment>> = segments.iter().flat_map(|list| list.iter()).filter(visible).cloned().collect();
        let (schema, secondary, segments) = (schema.clone(), secondary.clone(), segments.into_iter());
        Ok(Found { schema, secondary, epoch, wanted, prefixes, segments, pending: None })
    }

    /// A bound of the number of rows that are left, if it is `max` at most and there is no large segment to be read first.
    pub fn at_most(&self, max: usize) -> Option<usize> {
        let mut rows = self.pending.as_ref().map_or(0, |(_, rows)| rows.len());
        for segment in self.segments.as_slice() {
            rows += match segment.sorted.get(&self.secondary) {
                Some(sorted) => self.prefixes.iter().map(|prefix| run(&sorted, *prefix).len()).sum::<usize>(),
                None if segment.len() <= SMALL_ROWS => segment.len(),
                None => return None,
            };
            if rows > max {
                return None;
            }
        }
        Some(rows)
    }

    /// Candidates that are alive, in the order of the segment.
    fn candidates(&self, segment: &Segment) -> Vec<u32> {
        let sorted = segment.sorted_by(&self.secondary);
        let rows = self.prefixes.iter().flat_map(|prefix| run(&sorted, *prefix)).map(|number| *number as u32);
        let mut rows: Vec<u32> = rows.filter(|row| segment.died(*row as usize) > self.epoch).collect();
        rows.sort_unstable();
        rows
    }

    /// The next candidates: rows of segments, and of each candidate in which of these it is and where.
    fn next_places(&mut self) -> (Vec<RecordBatch>, Vec<(usize, usize)>) {
        let (mut batches, mut places) = (Vec::new(), Vec::new());
        loop {
            if let Some((segment, rows)) = self.pending.as_mut().filter(|(_, rows)| !rows.as_slice().is_empty()) {
                let batch = batches.len();
                batches.push(segment.rows());
                places.extend(rows.by_ref().take(BATCH_ROWS - places.len()).map(|row| (batch, row as usize)));
            }
            if places.len() == BATCH_ROWS {
                return (batches, places);
            }
            let Some(segment) = self.segments.next() else { return (batches, places) };
            let rows = self.candidates(&segment);
            self.pending = Some((segment, rows.into_iter()));
        }
    }

    /// Those that have the values.
    fn confirmed(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let hashes = self.secondary.identity.hashes(rows);
        filter(rows, BooleanBuffer::collect_bool(hashes.len(), |row| self.wanted.contains(&hashes[row])))
    }
}

impl Iterator for Found {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (batches, places) = self.next_places();
            if places.is_empty() {
                return None;
            }
            match gather(&self.schema, &batches, &places).and_then(|rows| self.confirmed(&rows)) {
                Ok(rows) if rows.num_rows() == 0 => continue,
                rows => return Some(rows),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{View, ViewKey};
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use eddyline_common::{ChangeBatch, Epoch};
    use std::collections::HashMap;

    /// Two values whose hashes begin alike. Among so many there are some.
    fn colliding(schema: &SchemaRef) -> [i64; 2] {
        const VALUES: i64 = 400_000;
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..VALUES));
        let hashes = Identity::new(schema, vec![0]).unwrap().hashes_of(&[values], VALUES as usize);
        let mut known: HashMap<u32, i64> = HashMap::new();
        let pair = hashes.iter().zip(0..).find_map(|(hash, value)| Some([known.insert(prefix(*hash), value)?, value]));
        pair.expect("prefixes of 32 bits collide")
    }

    #[test]
    fn rows_whose_hashes_begin_alike_are_told_apart() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
        let [one, other] = colliding(&schema);
        let view = View::new(schema.clone(), ViewKey::Append, 1, None).unwrap();
        view.add_index("by v", &[0]).unwrap();
        let apply = |epoch: u64, values: Vec<i64>| {
            let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(values)) as ArrayRef]).unwrap();
            view.apply(0, Epoch(epoch), &[ChangeBatch::insertions(rows)]).unwrap();
        };
        apply(1, vec![other]);
        let find = |epoch: u64, value: i64| {
            let values: ArrayRef = Arc::new(Int64Array::from(vec![value]));
            view.find(Epoch(epoch), &view.indexes()[0], &[values]).unwrap()
        };
        let found = |epoch: u64, value: i64| -> Vec<i64> {
            let rows = find(epoch, value).map(|rows| rows.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec());
            rows.collect::<Vec<_>>().concat()
        };
        assert_eq!((find(1, one).at_most(9), found(1, one), found(1, other)), (Some(1), vec![], vec![other]));
        apply(2, vec![one, other, one]);
        assert_eq!((find(2, one).at_most(9), found(2, one), found(2, other)), (Some(4), vec![one; 2], vec![other; 2]));
    }

    #[test]
    fn one_vacuum_reads_a_bounded_number_of_rows() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
        let view = View::new(schema.clone(), ViewKey::Append, 1, None).unwrap();
        for epoch in 1..=3 {
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..VACUUM_ROWS_MAX as i64 / 2 + 1));
            let rows = RecordBatch::try_new(schema.clone(), vec![values]).unwrap();
            view.apply(0, Epoch(epoch), &[ChangeBatch::insertions(rows)]).unwrap();
        }
        view.add_index("by v", &[0]).unwrap();
        let is_complete = || view.shards[0].segments().iter().all(|segment| segment.sorted.get(&view.indexes()[0]).is_some());
        assert!(view.vacuum(Epoch(0)).unwrap() && !is_complete(), "three times half of it and more");
        assert!(!view.vacuum(Epoch(0)).unwrap() && is_complete());
    }
}
