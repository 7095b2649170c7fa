//! Changes of a plan that forgets, to those that its view can take: what was forgotten is still shown, and what comes for it anew
//! comes without taking the old back.
//!
//! Of a view with a key, a key's new row takes the place of the one that is shown, and a row is taken away only if it is the one
//! that is shown. Of one without, a row is taken away as often as it is shown at most. So readers of the view get exactly what
//! changed in it.

use super::{Materialize, consolidate, settle};
use crate::operator::StepContext;
use crate::operators::scan::assemble;
use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::row::RowConverter;
use eddyline_common::key::{KeyCodec, KeyRows, hash128};
use eddyline_common::{ChangeBatch, Result, TaggedBatch};
use eddyline_storage::view::{View, ViewKey};
use hashbrown::HashMap;
use std::sync::Arc;

/// What is known of a key that a step changes.
#[derive(Clone, Copy, Default)]
struct Key {
    /// The row that the view shows.
    shown: Option<u32>,
    /// It is taken away.
    taken: bool,
    /// The row that comes; of several, the last in the order of bytes.
    new: Option<u32>,
}

impl Materialize {
    /// All rows leave under the lowest of their arrival watermarks: what they replace came under any.
    pub(super) fn finish_forgetful(
        &self,
        view: &Arc<View>,
        net: &RowConverter,
        pending: Vec<TaggedBatch>,
        ctx: &mut StepContext,
    ) -> Result<()> {
        let Some(arrival_watermark) = pending.iter().map(|b| b.arrival_watermark).min() else { return Ok(()) };
        let width = self.output.fields().len();
        let mut changes: Vec<ChangeBatch> = pending.into_iter().map(|b| b.changes).collect();
        if changes.iter().any(|b| b.weights.is_some()) {
            changes = vec![consolidate(net, width, &ChangeBatch::concat(&self.output, &changes)?)?];
        }
        let changes = settle(&self.output, width, None, changes)?;
        let changes = match view.key() {
            ViewKey::Keyed(key) => self.by_key(view, key, net, changes, ctx)?,
            _ => as_often_as_shown(view, changes)?,
        };
        view.apply(self.worker, ctx.epoch, &self.stored(view, &changes, arrival_watermark)?)?;
        changes.into_iter().for_each(|changes| ctx.emit_tagged(TaggedBatch { changes, arrival_watermark, now: ctx.now }));
        Ok(())
    }

    fn by_key(
        &self,
        view: &View,
        key: &[usize],
        net: &RowConverter,
        changes: Vec<ChangeBatch>,
        ctx: &StepContext,
    ) -> Result<Vec<ChangeBatch>> {
        if changes.iter().all(ChangeBatch::is_empty) {
            return Ok(Vec::new());
        }
        let changes = ChangeBatch::concat(&self.output, &changes)?;
        let columns: Vec<ArrayRef> = key.iter().map(|c| changes.rows.column(*c).clone()).collect();
        let shown = view.lookup(ctx.epoch, &columns)?;
        let of_shown: Vec<ArrayRef> = key.iter().map(|c| shown.column(*c).clone()).collect();
        let codec = KeyCodec::rows(columns.iter().map(|c| c.data_type().clone()).collect())?;
        let (mut keys, mut shown_keys) = (KeyRows::default(), KeyRows::default());
        codec.encode(&columns, changes.num_rows(), &mut keys);
        codec.encode(&of_shown, shown.num_rows(), &mut shown_keys);
        let (rows, shown_rows) = (net.convert_columns(changes.rows.columns())?, net.convert_columns(shown.columns())?);
        let mut places: HashMap<u128, usize> = HashMap::with_capacity(keys.len());
        let mut all: Vec<Key> = Vec::new();
        for (at, key) in shown_keys.iter().enumerate() {
            places.insert(hash128(key), all.len());
            all.push(Key { shown: Some(at as u32), ..Key::default() });
        }
        for (row, key) in keys.iter().enumerate() {
            let place = *places.entry(hash128(key)).or_insert(all.len());
            if place == all.len() {
                all.push(Key::default());
            }
            let key = &mut all[place];
            if changes.weight(row) > 0 {
                let is_last = key.new.is_none_or(|other| rows.row(row) > rows.row(other as usize));
                key.new = if is_last { Some(row as u32) } else { key.new };
            } else {
                key.taken |= key.shown.is_some_and(|shown| shown_rows.row(shown as usize) == rows.row(row));
            }
        }
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for Key { shown, taken, new: row } in all {
            let same = shown.zip(row).is_some_and(|(shown, row)| shown_rows.row(shown as usize) == rows.row(row as usize));
            if !same {
                old.extend(shown.filter(|_| taken || row.is_some()));
                new.extend(row);
            }
        }
        let old =
            ChangeBatch::insertions(assemble(&self.output, shown.columns().to_vec(), shown.num_rows())?).take(&UInt32Array::from(old))?;
        let new = ChangeBatch::insertions(changes.rows).take(&UInt32Array::from(new))?;
        Ok(vec![old.negate(), new])
    }
}

/// Net changes without what would take away more rows than are shown.
fn as_often_as_shown(view: &View, changes: Vec<ChangeBatch>) -> Result<Vec<ChangeBatch>> {
    let fit = |changes: ChangeBatch| {
        let Some(weights) = changes.weights.as_ref().filter(|w| w.values().iter().any(|w| *w < 0)) else { return Ok(changes) };
        let there = view.multiplicities(&changes.rows)?;
        let fitting: Vec<i64> = weights.values().iter().zip(there).map(|(weight, there)| (*weight).max(-(there as i64))).collect();
        let kept = UInt32Array::from_iter_values((0..fitting.len() as u32).filter(|row| fitting[*row as usize] != 0));
        Ok(ChangeBatch::with_weights(changes.rows, Int64Array::from(fitting)).take(&kept)?)
    };
    changes.into_iter().map(fit).collect()
}
