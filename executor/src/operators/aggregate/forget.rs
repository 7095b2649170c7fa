//! Groups that were not touched for their time to live are forgotten as if they had never been: what was emitted for them stays
//! out there, and their next row begins them anew. What is retracted from a group, or of a value, that is not known is ignored, and said to
//! the side where whole groups are concerned.

use super::Aggregate;
use super::multiset::Multiset;
use super::ordered::Ordered;
use crate::operator::StepContext;
use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use eddyline_common::key::KeyRows;
use eddyline_common::{ChangeBatch, Result, Timestamp};
use eddyline_storage::state::{NO_SLOT, Shards, SlotCodec};
use std::sync::Arc;

/// Keys of groups with their shards.
#[derive(Default)]
pub(super) struct Groups {
    keys: KeyRows,
    shards: Vec<u8>,
}

impl Groups {
    pub(super) fn push(&mut self, key: &[u8], shard: u8) {
        self.keys.push(&[key]);
        self.shards.push(shard);
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.shards.clear();
    }
}

impl Aggregate {
    /// At the beginning of a step; does nothing when called again in it.
    pub(super) fn forget_expired(&mut self, now: Timestamp) -> Result<()> {
        let Some(ttl) = &mut self.ttl else { return Ok(()) };
        if !ttl.advance(now) {
            return Ok(());
        }
        let (mut groups, mut slots) = (Groups::default(), Vec::new());
        while ttl.take_expired(&mut groups.keys, &mut groups.shards)? {
            self.table.lookup(&groups.keys, Shards::Of(&|at| groups.shards[at]), &mut self.values, &mut slots)?;
            for slot in slots.iter().filter(|slot| **slot != NO_SLOT) {
                self.table.remove(*slot, &mut self.values);
            }
            remove_values(&mut self.multisets, &mut self.ordered, &groups)?;
            self.table.maintain(&mut self.values)?;
        }
        Ok(())
    }

    /// Removes what is left of the groups that the step removed: values that were retracted when nothing knew them any more leave
    /// others behind.
    pub(super) fn sweep_gone(&mut self) -> Result<()> {
        let mut gone = std::mem::take(&mut self.gone);
        remove_values(&mut self.multisets, &mut self.ordered, &gone)?;
        gone.clear();
        self.gone = gone;
        Ok(())
    }

    /// Groups with less than no rows have none; what else is left of those without rows goes.
    pub(super) fn ignore_missing(&mut self, slots: &[u32], weights: &mut [i64], ctx: &mut StepContext) -> Result<()> {
        for (slot, _) in slots.iter().zip(weights.iter()).filter(|(_, weight)| **weight <= 0) {
            self.gone.push(self.table.key(*slot), self.table.shard(*slot));
            self.values.clear(*slot, self.table.key(*slot));
        }
        let missing: Vec<usize> = (0..slots.len()).filter(|at| weights[*at] < 0).collect();
        let of_missing: Vec<u32> = missing.iter().map(|at| slots[*at]).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let columns = self.groups_of(&of_missing)?;
        let fields: Vec<Arc<Field>> = self.output.fields().iter().take(columns.len()).cloned().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(missing.len()));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        ctx.forgotten(ChangeBatch::with_weights(rows, Int64Array::from_iter_values(missing.iter().map(|at| weights[*at]))));
        missing.into_iter().for_each(|at| weights[at] = 0);
        Ok(())
    }
}

fn remove_values(multisets: &mut [Multiset], ordered: &mut [Ordered], groups: &Groups) -> Result<()> {
    for (key, shard) in groups.keys.iter().zip(&groups.shards) {
        multisets.iter_mut().try_for_each(|multiset| multiset.forget(key, *shard))?;
        ordered.iter_mut().try_for_each(|ordered| ordered.forget(key, *shard))?;
    }
    Ok(())
}
