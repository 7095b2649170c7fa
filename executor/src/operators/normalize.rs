//! Normalize: records that overwrite each other by key become changes of rows. Of each key's records in a step the last one
//! counts; the row that it replaces is looked up in the job's own view, so the operator keeps no state.
//!
//! Input: the output's columns, then the record's partition and offset; weight +1 for the row that its key has from now
//! on, -1 for a key that is gone. The last record is that of the greatest (partition, offset), and of one record's rows
//! that with the greater weight. The input is exchanged by the key.

use crate::operator::{Operator, StepContext};
use crate::operators::scan::assemble;
use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use eddyline_common::key::{self, KeyCodec, KeyRows};
use eddyline_common::{ChangeBatch, Epoch, Result, SqlError, TaggedBatch, Timestamp};
use eddyline_storage::view::View;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::sync::Arc;

pub struct Normalize {
    view: Arc<View>,
    key: Vec<usize>,
    codec: KeyCodec,
    output: SchemaRef,
    pending: Vec<TaggedBatch>,
}

/// A batch of the step with its keys and places.
struct Records<'a> {
    batch: &'a TaggedBatch,
    keys: KeyRows,
    partitions: &'a Int32Array,
    offsets: &'a Int64Array,
}

impl Records<'_> {
    fn rank(&self, row: u32) -> (i32, i64, i64) {
        let row = row as usize;
        (self.partitions.value(row), self.offsets.value(row), self.batch.changes.weight(row))
    }
}

impl Normalize {
    pub fn new(view: Option<Arc<View>>, key: Vec<usize>, output: SchemaRef) -> Result<Self> {
        let view = view.ok_or_else(|| SqlError::internal("a keyed source without a view"))?;
        let codec = KeyCodec::new(key.iter().map(|k| output.field(*k).data_type().clone()).collect())?;
        Ok(Normalize { view, key, codec, output, pending: Vec::new() })
    }

    fn records<'a>(&self, batch: &'a TaggedBatch) -> Result<Records<'a>> {
        let rows = &batch.changes.rows;
        let width = self.output.fields().len();
        let place = |index: usize| rows.columns().get(width + index).ok_or_else(|| SqlError::internal("records without their places"));
        let (partitions, offsets) = (place(0)?.as_primitive_opt::<Int32Type>(), place(1)?.as_primitive_opt::<Int64Type>());
        let (Some(partitions), Some(offsets)) = (partitions, offsets) else {
            return Err(SqlError::internal("a record's place is of another type"));
        };
        let columns: Vec<ArrayRef> = self.key.iter().map(|k| rows.column(*k).clone()).collect();
        let mut keys = KeyRows::default();
        self.codec.encode(&columns, rows.num_rows(), &mut keys);
        Ok(Records { batch, keys, partitions, offsets })
    }

    /// The rows that `winners` of a batch replace, and those they are from now on.
    fn changes(&self, records: &Records, mut winners: Vec<u32>, epoch: Epoch) -> Result<Vec<ChangeBatch>> {
        winners.sort_unstable();
        let rows = &records.batch.changes.rows;
        let keys = UInt32Array::from(winners.clone());
        let keys = self.key.iter().map(|k| take(rows.column(*k), &keys, None)).collect::<Result<Vec<_>, _>>()?;
        let old = self.view.lookup(epoch, &keys)?;
        winners.retain(|row| records.batch.changes.weight(*row as usize) > 0);
        let kept = UInt32Array::from(winners);
        let columns = rows.columns()[..self.output.fields().len()].iter();
        let new = columns.map(|c| take(c, &kept, None)).collect::<Result<Vec<_>, _>>()?;
        let old = assemble(&self.output, old.columns().to_vec(), old.num_rows())?;
        let weights = Int64Array::from_value(-1, old.num_rows());
        Ok(vec![ChangeBatch::with_weights(old, weights), ChangeBatch::insertions(assemble(&self.output, new, kept.len())?)])
    }
}

/// For each batch, the rows that are the last record of their key.
fn winners(all: &[Records]) -> Vec<Vec<u32>> {
    let bytes = |(batch, row): (u32, u32)| all[batch as usize].keys.row(row as usize);
    let mut last: HashTable<(u32, u32)> = HashTable::with_capacity(all.iter().map(|r| r.keys.len()).sum());
    for (batch, records) in all.iter().enumerate() {
        for row in 0..records.keys.len() as u32 {
            let here = (batch as u32, row);
            let key = bytes(here);
            match last.entry(key::hash64(key), |other| bytes(*other) == key, |other| key::hash64(bytes(*other))) {
                Entry::Vacant(entry) => drop(entry.insert(here)),
                Entry::Occupied(mut entry) => {
                    let (batch, other) = *entry.get();
                    if records.rank(row) > all[batch as usize].rank(other) {
                        *entry.get_mut() = here;
                    }
                }
            }
        }
    }
    let mut winners = vec![Vec::new(); all.len()];
    last.iter().for_each(|(batch, row)| winners[*batch as usize].push(*row));
    winners
}

impl Operator for Normalize {
    fn push(&mut self, _port: usize, batch: TaggedBatch, _ctx: &mut StepContext) -> Result<()> {
        self.pending.push(batch);
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let all = pending.iter().map(|batch| self.records(batch)).collect::<Result<Vec<_>>>()?;
        for (records, rows) in all.iter().zip(winners(&all)).filter(|(_, rows)| !rows.is_empty()) {
            for changes in self.changes(records, rows, ctx.epoch)? {
                let TaggedBatch { arrival_watermark, now, .. } = *records.batch;
                ctx.emit_tagged(TaggedBatch { changes, arrival_watermark, now });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, schema};
    use arrow::array::RecordBatch;
    use eddyline_common::SqlType;
    use eddyline_storage::view::ViewKey;
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeMap;

    /// (key, value, partition, offset, weight)
    type Given = (i64, i64, i32, i64, i64);

    fn batch(rows: &[Given]) -> TaggedBatch {
        let bigint = |of: fn(&Given) -> i64| Arc::new(Int64Array::from_iter_values(rows.iter().map(of))) as ArrayRef;
        let partitions = Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.2))) as ArrayRef;
        let columns = [("k", bigint(|r| r.0)), ("v", bigint(|r| r.1)), ("p", partitions), ("o", bigint(|r| r.3))];
        let weights = Int64Array::from_iter_values(rows.iter().map(|r| r.4));
        let changes = ChangeBatch::with_weights(RecordBatch::try_from_iter(columns).unwrap(), weights);
        TaggedBatch { changes, arrival_watermark: Timestamp::MIN, now: Timestamp(0) }
    }

    /// Runs steps of batches in the orders given, and gives the view after each step.
    fn run(steps: &[&[&[Given]]]) -> Vec<BTreeMap<i64, i64>> {
        let output = schema(&[("k", SqlType::BigInt), ("v", SqlType::BigInt)]);
        let view = View::new(output.clone(), ViewKey::Keyed(vec![0]), 1, None).unwrap();
        let mut operator = Normalize::new(Some(view.clone()), vec![0], output).unwrap();
        let mut shown = Vec::new();
        for (step, batches) in steps.iter().enumerate() {
            let epoch = Epoch(step as u64 + 1);
            let mut ctx = context();
            ctx.epoch = epoch;
            batches.iter().for_each(|rows| operator.push(0, batch(rows), &mut ctx).unwrap());
            operator.finish(Timestamp::MIN, &mut ctx).unwrap();
            let (mut old, mut new): (Vec<_>, Vec<_>) = ctx.take_output().into_iter().map(|b| b.changes).partition(|c| c.weights.is_some());
            old.append(&mut new);
            view.apply(0, epoch, &old).unwrap();
            let pairs = |rows: RecordBatch| {
                let column = |c: usize| rows.column(c).as_primitive::<Int64Type>().values().to_vec();
                column(0).into_iter().zip(column(1)).collect::<Vec<_>>()
            };
            shown.push(view.snapshot(epoch, None).unwrap().flat_map(|rows| pairs(rows.unwrap())).collect());
        }
        shown
    }

    #[test]
    fn the_last_record_of_a_key_counts_in_any_order_of_batches() {
        let a: &[Given] = &[(1, 10, 0, 0, 1), (2, 20, 0, 1, 1), (1, 11, 0, 2, 1)];
        let b: &[Given] = &[(2, 0, 0, 3, -1), (3, 30, 1, 0, 1), (3, 31, 1, 1, 1)];
        let c: &[Given] = &[(1, 0, 0, 4, -1), (1, 12, 0, 4, 1), (9, 0, 0, 5, -1)];
        let expected = BTreeMap::from([(1, 12), (3, 31)]);
        for steps in [&[&[a, b, c][..]][..], &[&[c, b, a][..]][..], &[&[b, a][..], &[c][..]][..], &[&[a][..], &[b][..], &[c][..]][..]] {
            assert_eq!(run(steps).last(), Some(&expected));
        }
        assert_eq!(run(&[&[a], &[b], &[c]])[..2], [BTreeMap::from([(1, 11), (2, 20)]), BTreeMap::from([(1, 11), (3, 31)])]);
    }

    /// Random records, cut anywhere into steps and batches, in random order within a step: after each step the view is what
    /// the records so far leave, and the changes are exactly the difference.
    #[test]
    fn equals_the_records_applied_one_by_one() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            // Each key stays in one partition.
            let mut next = [0i64; 3];
            let records: Vec<Given> = (0..random.random_range(0..120))
                .map(|n| {
                    let key = random.random_range(0..10);
                    let partition = (key % 3) as usize;
                    next[partition] += 1;
                    (key, n, partition as i32, next[partition], if random.random_bool(0.3) { -1 } else { 1 })
                })
                .collect();
            let (mut expected, mut model, mut steps, mut rest) = (Vec::new(), BTreeMap::new(), Vec::new(), &records[..]);
            while !rest.is_empty() {
                let (step, after) = rest.split_at(random.random_range(1..=rest.len()));
                for (key, value, _, _, weight) in step {
                    match *weight > 0 {
                        true => model.insert(*key, *value),
                        false => model.remove(key),
                    };
                }
                expected.push(model.clone());
                let mut shuffled = step.to_vec();
                shuffled.shuffle(&mut random);
                steps.push(shuffled.chunks(random.random_range(1..=20)).map(<[Given]>::to_vec).collect::<Vec<_>>());
                rest = after;
            }
            let steps: Vec<Vec<&[Given]>> = steps.iter().map(|batches| batches.iter().map(Vec::as_slice).collect()).collect();
            let steps: Vec<&[&[Given]]> = steps.iter().map(Vec::as_slice).collect();
            assert_eq!(run(&steps), expected, "seed {seed}");
        }
    }

    #[test]
    fn a_key_that_is_gone_can_come_back() {
        let steps: &[&[&[Given]]] = &[&[&[(1, 10, 0, 0, 1)]], &[&[(1, 0, 0, 1, -1)]], &[&[(1, 0, 0, 2, -1)]], &[&[(1, 11, 0, 3, 1)]]];
        assert_eq!(run(steps), [BTreeMap::from([(1, 10)]), BTreeMap::new(), BTreeMap::new(), BTreeMap::from([(1, 11)])]);
    }
}
