//! Reads at an epoch: scans, lookups by key, and changes between two epochs.

use super::identity::Identity;
use super::index::Location;
use super::segment::{Segment, Visible, batch_of, filter, take};
use super::{View, ViewKey};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use eddyline_common::{ChangeBatch, Epoch, Result, SqlError};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Rows of a batch that a scan returns, at most: enough to amortise its cost, few enough to stay in cache.
const BATCH_ROWS: usize = 65_536;

/// The rows of a view at one epoch. Keeps its segments alive, and nothing else.
pub struct Snapshot {
    segments: Vec<Arc<Vec<Arc<Segment>>>>,
    epoch: u64,
    projection: Option<Vec<usize>>,
    schema: SchemaRef,
    /// The next batch starts at this shard, segment, row.
    at: (usize, usize, usize),
}

impl Snapshot {
    pub(super) fn new(schema: &SchemaRef, segments: Vec<Arc<Vec<Arc<Segment>>>>, epoch: u64, projection: Option<&[usize]>) -> Result<Self> {
        let schema = match projection {
            None => schema.clone(),
            Some(columns) => Arc::new(schema.project(columns)?),
        };
        Ok(Snapshot { segments, epoch, projection: projection.map(<[usize]>::to_vec), schema, at: (0, 0, 0) })
    }

    /// The schema of its batches.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn read(&self, segment: &Segment, offset: usize, visible: Visible) -> Result<Option<RecordBatch>> {
        let len = BATCH_ROWS.min(segment.len() - offset);
        let keep = (visible == Visible::Masked).then(|| segment.outlives(self.epoch, offset, len));
        if keep.as_ref().is_some_and(|k| k.count_set_bits() == 0) {
            return Ok(None);
        }
        let rows = segment.rows();
        let rows = match &self.projection {
            None => rows.slice(offset, len),
            Some(columns) => {
                let wanted = columns.iter().map(|c| rows.column(*c).slice(offset, len)).collect();
                batch_of(&self.schema, wanted, len)?
            }
        };
        Ok(Some(match keep {
            None => rows,
            Some(keep) => filter(&rows, keep)?,
        }))
    }
}

impl Iterator for Snapshot {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (shard, index, offset) = self.at;
            let list = self.segments.get(shard)?;
            let Some(segment) = list.get(index) else {
                self.at = (shard + 1, 0, 0);
                continue;
            };
            let visible = segment.visible(self.epoch);
            if visible == Visible::Nothing || offset >= segment.len() {
                self.at = (shard, index + 1, 0);
                continue;
            }
            self.at = (shard, index, offset + BATCH_ROWS);
            match self.read(segment, offset, visible) {
                Ok(None) => continue,
                Ok(Some(rows)) => return Some(Ok(rows)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

pub(super) fn lookup(view: &View, epoch: Epoch, keys: &[ArrayRef]) -> Result<RecordBatch> {
    let (ViewKey::Keyed(_), Some(identity)) = (&view.key, &view.identity) else {
        return Err(SqlError::internal("only a view with a key can be looked into by key"));
    };
    if keys.iter().map(|k| k.data_type()).ne(identity.codec().types()) {
        return Err(SqlError::internal("the columns of a lookup are not those of the view's key"));
    }
    let hashes = identity.hashes_of(keys, keys.first().map_or(1, |k| k.len()));
    let mut wanted: HashSet<u128> = hashes.into_iter().collect();
    let mut found: Vec<(Arc<Segment>, usize)> = Vec::with_capacity(wanted.len());
    for shard in &view.shards {
        if wanted.is_empty() {
            break;
        }
        let state = shard.lock();
        let mut see = |at: Location| {
            let segment = state.segment(at);
            let visible = segment.born <= epoch.0;
            if visible {
                found.push((segment.clone(), at.row as usize));
            }
            visible
        };
        wanted.retain(|hash| !state.index.get(*hash).is_some_and(&mut see) && !state.graves.find(*hash, epoch.0).any(&mut see));
    }
    view.check_horizon(epoch)?;
    let (mut batches, mut places): (Vec<RecordBatch>, HashMap<*const Segment, usize>) = Default::default();
    let place = |(segment, row): &(Arc<Segment>, usize)| {
        let batch = *places.entry(Arc::as_ptr(segment)).or_insert_with(|| {
            batches.push(segment.rows());
            batches.len() - 1
        });
        (batch, *row)
    };
    let rows: Vec<(usize, usize)> = found.iter().map(place).collect();
    gather(&view.visible, &batches, &rows)
}

/// Rows of many batches in one; of each, in which batch it is and where.
pub(super) fn gather(schema: &SchemaRef, batches: &[RecordBatch], rows: &[(usize, usize)]) -> Result<RecordBatch> {
    if rows.is_empty() {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    let column = |c: usize| {
        let values: Vec<&dyn Array> = batches.iter().map(|b| b.column(c).as_ref()).collect();
        compute::interleave(&values, rows)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>, _>>()?;
    batch_of(schema, columns, rows.len())
}

/// The rows that came and went between two epochs, as they are stored, segment by segment: first all that went, with weight
/// -1, then all that came. A row that came back is in both. Keeps its segments alive, and nothing else.
pub struct Changes {
    segments: Vec<Arc<Segment>>,
    after: u64,
    to: u64,
    /// The next segment, and whether what went is through.
    at: usize,
    births: bool,
}

impl Changes {
    pub(super) fn new(segments: Vec<Arc<Vec<Arc<Segment>>>>, after: u64, to: u64) -> Self {
        let segments = segments.iter().flat_map(|list| list.iter().cloned()).filter(|s| s.born <= to).collect();
        Changes { segments, after, to, at: 0, births: false }
    }

    /// How many rows it gives.
    pub fn num_rows(&self) -> u64 {
        let rows = |s: &Arc<Segment>| if s.born > self.after { s.count_at(self.to) } else { s.count_at(self.after) - s.count_at(self.to) };
        self.segments.iter().map(|s| rows(s) as u64).sum()
    }

    fn read(&self, segment: &Segment) -> Result<Option<(i64, RecordBatch)>> {
        let (after, to) = (self.after, self.to);
        let keep = match segment.born > after {
            true if self.births => segment.outlives(to, 0, segment.len()),
            false if !self.births && segment.may_die_in(after, to) => segment.deaths(0, segment.len(), |died| died > after && died <= to),
            _ => return Ok(None),
        };
        let rows = filter(&segment.rows(), keep)?;
        Ok((rows.num_rows() > 0).then_some((if self.births { 1 } else { -1 }, rows)))
    }
}

impl Iterator for Changes {
    type Item = Result<(i64, RecordBatch)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(segment) = self.segments.get(self.at) else {
                if std::mem::replace(&mut self.births, true) {
                    return None;
                }
                self.at = 0;
                continue;
            };
            self.at += 1;
            if let Some(rows) = self.read(segment).transpose() {
                return Some(rows);
            }
        }
    }
}

pub(super) fn changes(schema: &SchemaRef, segments: Vec<Arc<Vec<Arc<Segment>>>>, after: u64, to: u64) -> Result<Vec<ChangeBatch>> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    let seen = |segment: &Segment| batch_of(schema, segment.rows().columns()[..schema.fields().len()].to_vec(), segment.len());
    for segment in segments.iter().flat_map(|list| list.iter()) {
        if segment.born > after && segment.born <= to {
            new.push(filter(&seen(segment)?, segment.outlives(to, 0, segment.len()))?);
        } else if segment.born <= after && segment.may_die_in(after, to) {
            old.push(filter(&seen(segment)?, segment.deaths(0, segment.len(), |died| died > after && died <= to))?);
        }
    }
    old.retain(|rows: &RecordBatch| rows.num_rows() > 0);
    new.retain(|rows: &RecordBatch| rows.num_rows() > 0);
    if !old.is_empty() && !new.is_empty() {
        let whole = Identity::new(schema, (0..schema.fields().len()).collect())?;
        let (all_old, all_new) = (compute::concat_batches(schema, &old)?, compute::concat_batches(schema, &new)?);
        (old, new) = cancel(&whole, all_old, all_new)?;
    }
    let retraction = |rows: RecordBatch| {
        let weights = Int64Array::from_value(-1, rows.num_rows());
        ChangeBatch::with_weights(rows, weights)
    };
    Ok(old.into_iter().map(retraction).chain(new.into_iter().map(ChangeBatch::insertions)).collect())
}

/// Takes out of `old` and `new`, in pairs, rows that are equal: a row that changed and changed back.
fn cancel(whole: &Identity, old: RecordBatch, new: RecordBatch) -> Result<(Vec<RecordBatch>, Vec<RecordBatch>)> {
    let (old_hashes, new_hashes) = (whole.hashes(&old), whole.hashes(&new));
    // Copies in `old` not yet matched by one in `new`.
    let mut unmatched: HashMap<u128, usize> = HashMap::with_capacity(old_hashes.len());
    old_hashes.iter().for_each(|hash| *unmatched.entry(*hash).or_default() += 1);
    let mut spend = |hash: &u128| match unmatched.get_mut(hash) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    };
    let keep_new: Vec<u32> = (0..new_hashes.len() as u32).filter(|row| !spend(&new_hashes[*row as usize])).collect();
    // What is left now are the copies to keep.
    let keep_old: Vec<u32> = (0..old_hashes.len() as u32).filter(|row| spend(&old_hashes[*row as usize])).collect();
    let kept = |rows: RecordBatch, keep: Vec<u32>| match keep.len() {
        0 => Ok(Vec::new()),
        n if n == rows.num_rows() => Ok(vec![rows]),
        _ => Ok::<_, SqlError>(vec![take(&rows, &UInt32Array::from(keep))?]),
    };
    Ok((kept(old, keep_old)?, kept(new, keep_new)?))
}
