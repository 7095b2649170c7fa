//! Materialize: the end of a plan. Makes the step's changes net, applies them to this worker's shard of the view, exactly
//! once per step, and passes them on as the job's output. Old rows come before new ones, so that a key is free
//! before it is taken again.
//!
//! What arrived under different watermarks leaves apart, each part net by itself and with its own watermark: what reads the
//! view must find the same rows late whichever cuts were taken into one step here. A view that keeps arrival watermarks
//! gets each row's, so that this holds for what reads its rows later too. Rows that only come leave with the `now` of their cut.
//!
//! As long as the rows of a step only come, and are new to the view, many of them are applied and passed on in pieces: nobody sees any of
//! them before the step is done, and one that fails ends the job. What is taken back of them later in the step never was. The rest of a step
//! that takes rows back is applied as a whole.
//!
//! Without a view it is a counting sink: its batches pass through as they come.
//!
//! - `reconcile`: changes of a plan that forgets, to those that the view can take

mod reconcile;

use crate::operator::{Operator, StepContext};
use crate::operators::pending::Pending;
use crate::operators::scan::{assemble, rename};
use arrow::array::{BooleanArray, Int64Array, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use eddyline_common::{ChangeBatch, Result, SqlError, TaggedBatch, Timestamp, key};
use eddyline_storage::view::{View, ViewKey};
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pieces are put together when they are smaller than this on average: a view keeps a header per batch.
const PIECE_ROWS: usize = 1024;

/// What is applied at once where rows only come: a few segments of the view.
const PIECE_BYTES: usize = 64 << 20;

/// With this much that is not in files yet, over all views, the next piece waits for the disk, as steps do.
const TAILS_BYTES_MAX: usize = 256 << 20;

pub struct Materialize {
    view: Option<Arc<View>>,
    worker: usize,
    output: SchemaRef,
    /// `None` if the input is net already.
    net: Option<RowConverter>,
    /// What comes may not fit what the view has.
    forgetful: bool,
    pending: Pending,
    /// The step was applied in part.
    is_begun: bool,
    /// The rest of the step is to be applied at once.
    is_rest: bool,
}

/// What a step's rows say of the cuts they came with.
enum Cuts {
    One(Timestamp),
    /// Output by cut.
    Many(Vec<TaggedBatch>),
    Mixed,
}

impl Materialize {
    /// `input_is_net`: within a step, no row comes both with a positive and with a negative weight. `forgetful`: an operator below
    /// forgets rows.
    pub fn new(view: Option<Arc<View>>, worker: usize, output: SchemaRef, input_is_net: bool, forgetful: bool) -> Result<Self> {
        let forgetful = forgetful && view.as_ref().is_some_and(|view| *view.key() != ViewKey::Append);
        let net = if input_is_net && !forgetful { None } else { Some(net_converter(&output)?) };
        Ok(Materialize { view, worker, output, net, forgetful, pending: Pending::default(), is_begun: false, is_rest: false })
    }

    /// The rows apart by the cuts they came with, unless some are taken back: then what the step comes to counts.
    fn by_cut(&self, pending: &[TaggedBatch]) -> Result<Cuts> {
        let Some(first) = pending.first() else { return Ok(Cuts::Mixed) };
        if pending.iter().any(|b| b.changes.weights.is_some()) {
            return Ok(Cuts::Mixed);
        }
        if pending.iter().all(|b| b.now == first.now) {
            return Ok(Cuts::One(first.now));
        }
        let mut cuts: BTreeMap<(Timestamp, Timestamp), Vec<ChangeBatch>> = BTreeMap::new();
        for batch in pending {
            cuts.entry((batch.now, batch.arrival_watermark)).or_default().push(batch.changes.clone());
        }
        let mut batches = Vec::new();
        for ((now, arrival_watermark), part) in cuts {
            let merged = merge_small(&self.output, part)?.into_iter();
            batches.extend(merged.map(|changes| TaggedBatch { changes, arrival_watermark, now }));
        }
        Ok(Cuts::Many(batches))
    }

    /// Applies a step's changes, or a piece of them, and passes them on.
    fn apply(&self, pending: Vec<TaggedBatch>, ctx: &mut StepContext) -> Result<()> {
        let by_cut = self.by_cut(&pending)?;
        let parts = by_arrival(pending);
        let takes_back = |b: &ChangeBatch| b.weights.is_some();
        let across = parts.len() > 1 && parts.values().flatten().any(takes_back);
        let mut changes = Vec::new();
        if let Some(view) = self.view.as_ref().filter(|_| across) {
            for (arrival, part) in &parts {
                changes.extend(self.stored(view, part, *arrival)?);
            }
            changes = settle(view.stored_schema(), self.output.fields().len(), self.net.as_ref(), changes)?;
        }
        let width = self.output.fields().len();
        let settled = parts.into_iter().map(|(arrival, part)| Ok((arrival, settle(&self.output, width, self.net.as_ref(), part)?)));
        let parts = settled.collect::<Result<Vec<_>>>()?;
        if let Some(view) = &self.view {
            for (arrival, part) in parts.iter().filter(|_| !across) {
                changes.extend(self.stored(view, part, *arrival)?);
            }
            view.apply(self.worker, ctx.epoch, &changes)?;
        }
        let now = match by_cut {
            Cuts::One(now) => now,
            Cuts::Mixed => ctx.now,
            Cuts::Many(batches) => {
                batches.into_iter().for_each(|batch| ctx.emit_tagged(batch));
                return Ok(());
            }
        };
        for (arrival_watermark, part) in parts {
            part.into_iter().for_each(|changes| ctx.emit_tagged(TaggedBatch { changes, arrival_watermark, now }));
        }
        Ok(())
    }

    /// The changes as the view stores them.
    fn stored(&self, view: &View, part: &[ChangeBatch], arrival: Timestamp) -> Result<Vec<ChangeBatch>> {
        if !view.keeps_arrivals() {
            return Ok(part.to_vec());
        }
        let with_arrival = |changes: &ChangeBatch| {
            let mut columns = changes.rows.columns().to_vec();
            columns.push(Arc::new(Int64Array::from_value(arrival.0, changes.num_rows())));
            Ok(changes.with_rows(assemble(view.stored_schema(), columns, changes.num_rows())?))
        };
        part.iter().map(with_arrival).collect()
    }
}

impl Operator for Materialize {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        let Some(view) = &self.view else {
            ctx.emit_tagged(batch);
            return Ok(());
        };
        self.pending.push(TaggedBatch { changes: rename(batch.changes, &self.output)?, ..batch })?;
        if self.pending.bytes() < PIECE_BYTES || self.is_rest || self.forgetful {
            return Ok(());
        }
        self.is_rest = self.pending.takes_back() || !view.are_new(self.pending.rows());
        if !self.is_rest {
            let piece = self.pending.take();
            self.apply(piece, ctx)?;
            self.is_begun = true;
        }
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        (self.is_begun, self.is_rest) = (false, false);
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = self.pending.take();
        match (self.forgetful, &self.view, &self.net) {
            (true, Some(view), Some(net)) => self.finish_forgetful(view, net, pending, ctx),
            _ => self.apply(pending, ctx),
        }
    }

    fn is_behind(&self) -> bool {
        self.is_begun && self.view.as_ref().is_some_and(|view| view.tails_bytes() >= TAILS_BYTES_MAX)
    }
}

/// What compares whole rows.
pub(crate) fn net_converter(output: &SchemaRef) -> Result<RowConverter> {
    let fields = output.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
    RowConverter::new(fields).map_err(|error| SqlError::unsupported(error.to_string()))
}

/// Net changes, old rows first. Rows are equal if they are in their first `width` columns; without `net` no row comes with
/// both signs.
pub(crate) fn settle(
    schema: &SchemaRef,
    width: usize,
    net: Option<&RowConverter>,
    mut pending: Vec<ChangeBatch>,
) -> Result<Vec<ChangeBatch>> {
    if pending.iter().all(|b| b.weights.is_none()) {
        return merge_small(schema, pending);
    }
    if let Some(converter) = net
        && has_both_signs(&pending)
    {
        pending = vec![consolidate(converter, width, &ChangeBatch::concat(schema, &pending)?)?];
    }
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for batch in pending {
        separate(batch, &mut old, &mut new)?;
    }
    let mut settled = merge_small(schema, old)?;
    settled.extend(merge_small(schema, new)?);
    Ok(settled)
}

/// Mostly one part: a step takes several only if it coalesces cuts of an input whose watermark moves.
fn by_arrival(batches: Vec<TaggedBatch>) -> BTreeMap<Timestamp, Vec<ChangeBatch>> {
    let mut parts: BTreeMap<Timestamp, Vec<ChangeBatch>> = BTreeMap::new();
    for batch in batches {
        parts.entry(batch.arrival_watermark).or_default().push(batch.changes);
    }
    parts
}

fn has_both_signs(batches: &[ChangeBatch]) -> bool {
    let weights = || batches.iter().filter(|b| !b.is_empty());
    let any_negative = weights().any(|b| b.weights.as_ref().is_some_and(|w| w.values().iter().any(|w| *w < 0)));
    any_negative && weights().any(|b| b.weights.as_ref().is_none_or(|w| w.values().iter().any(|w| *w > 0)))
}

/// Sums the weights of rows that are equal in their first `width` columns, and leaves out those that come to zero. What
/// further columns say is that of the last row put in.
fn consolidate(converter: &RowConverter, width: usize, changes: &ChangeBatch) -> Result<ChangeBatch> {
    let rows = converter.convert_columns(&changes.rows.columns()[..width])?;
    let mut table: HashTable<u32> = HashTable::with_capacity(changes.num_rows());
    let mut sums = vec![0i64; changes.num_rows()];
    let mut shown: Vec<u32> = (0..changes.num_rows() as u32).collect();
    // Rows that stand for their equals, in order of appearance.
    let mut distinct: Vec<u32> = Vec::with_capacity(changes.num_rows());
    let hash = |row: u32| key::hash64(rows.row(row as usize).data());
    for row in 0..changes.num_rows() as u32 {
        let bytes = rows.row(row as usize);
        let entry = table.entry(key::hash64(bytes.data()), |other| rows.row(*other as usize) == bytes, |other| hash(*other));
        let first = match entry {
            hashbrown::hash_table::Entry::Occupied(entry) => *entry.get(),
            hashbrown::hash_table::Entry::Vacant(entry) => {
                entry.insert(row);
                distinct.push(row);
                row
            }
        };
        let weight = changes.weight(row as usize);
        sums[first as usize] += weight;
        if weight > 0 {
            shown[first as usize] = row;
        }
    }
    distinct.retain(|row| sums[*row as usize] != 0);
    let weights = Int64Array::from_iter_values(distinct.iter().map(|row| sums[*row as usize]));
    let kept = changes.take(&UInt32Array::from_iter_values(distinct.iter().map(|row| shown[*row as usize])))?;
    Ok(ChangeBatch::with_weights(kept.rows, weights))
}

/// Puts the rows with negative weights into `old`, the others into `new`; without copying if they are apart already.
fn separate(batch: ChangeBatch, old: &mut Vec<ChangeBatch>, new: &mut Vec<ChangeBatch>) -> Result<()> {
    let Some(weights) = batch.weights.clone() else {
        new.push(batch);
        return Ok(());
    };
    let values = weights.values();
    let split = values.iter().position(|w| *w > 0).unwrap_or(values.len());
    if values[..split].iter().all(|w| *w < 0) && values[split..].iter().all(|w| *w > 0) {
        old.push(batch.slice(0, split));
        new.push(unweighted(batch.slice(split, values.len() - split)));
    } else {
        let negative = BooleanArray::from_unary(&weights, |w| w < 0);
        let positive = BooleanArray::from_unary(&weights, |w| w > 0);
        old.push(batch.filter(&negative)?);
        new.push(unweighted(batch.filter(&positive)?));
    }
    Ok(())
}

/// Leaves the weights out if all are +1.
fn unweighted(batch: ChangeBatch) -> ChangeBatch {
    let plain = batch.weights.as_ref().is_some_and(|w| w.values().iter().all(|w| *w == 1));
    if plain { ChangeBatch::insertions(batch.rows) } else { batch }
}

/// Without empty batches; in one piece if the pieces are small.
fn merge_small(schema: &SchemaRef, mut batches: Vec<ChangeBatch>) -> Result<Vec<ChangeBatch>> {
    batches.retain(|b| !b.is_empty());
    let rows: usize = batches.iter().map(|b| b.num_rows()).sum();
    if batches.len() > 1 && rows / batches.len() < PIECE_ROWS {
        return Ok(vec![ChangeBatch::concat(schema, &batches)?]);
    }
    Ok(batches)
}

#[cfg(test)]
mod tests;
