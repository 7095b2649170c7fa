//! Exchange: splits batches by the worker that owns the hash of their key columns. How pieces travel between workers
//! is `crate::exchange`'s affair.

use crate::placement::Placement;
use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use eddyline_common::key::{self, KeyCodec, KeyRows, VSHARDS};
use eddyline_common::{ChangeBatch, Result, SqlError};

/// The worker that owns the only group of an empty key.
pub fn owner_of_all(placement: Placement) -> usize {
    placement.owner(key::vshard(key::hash64(&[])))
}

pub struct Partitioner {
    keys: Vec<usize>,
    codec: KeyCodec,
    owners: Vec<u16>,
    placement: Placement,
    encoded: KeyRows,
    /// Rows with a null in a key column go by all their columns.
    all_columns: Option<KeyCodec>,
    all_encoded: KeyRows,
}

impl Partitioner {
    pub fn new(keys: Vec<usize>, input: &SchemaRef, placement: Placement) -> Result<Self> {
        if keys.iter().any(|k| *k >= input.fields().len()) {
            return Err(SqlError::internal("an exchange is keyed by a column that its input has not"));
        }
        let codec = KeyCodec::rows(keys.iter().map(|k| input.field(*k).data_type().clone()).collect())?;
        let owners = (0..VSHARDS).map(|shard| placement.owner(shard as u8) as u16).collect();
        let (encoded, all_encoded) = (KeyRows::default(), KeyRows::default());
        Ok(Partitioner { keys, codec, owners, placement, encoded, all_columns: None, all_encoded })
    }

    /// Rows with a null in a key column, which have no partner to be with, go by all their columns.
    pub fn spreading_nulls(mut self, input: &SchemaRef) -> Result<Self> {
        self.all_columns = Some(KeyCodec::rows(input.fields().iter().map(|f| f.data_type().clone()).collect())?);
        Ok(self)
    }

    /// Calls `deliver` with each worker that owns rows of the batch, and those rows.
    pub fn split(&mut self, changes: ChangeBatch, mut deliver: impl FnMut(usize, ChangeBatch)) -> Result<()> {
        let workers = self.placement.workers();
        if self.placement.parts() == 1 || self.keys.is_empty() {
            deliver(owner_of_all(self.placement), changes);
            return Ok(());
        }
        let columns: Vec<ArrayRef> = self.keys.iter().map(|k| changes.rows.column(*k).clone()).collect();
        self.codec.encode(&columns, changes.num_rows(), &mut self.encoded);
        let owner = |key: &[u8]| self.owners[key::vshard(key::hash64(key)) as usize];
        let mut owners: Vec<u16> = self.encoded.iter().map(owner).collect();
        let nulls = columns.iter().fold(None, |all: Option<NullBuffer>, c| NullBuffer::union(all.as_ref(), c.logical_nulls().as_ref()));
        if let (Some(codec), Some(nulls)) = (&self.all_columns, nulls)
            && nulls.null_count() > 0
        {
            codec.encode(changes.rows.columns(), changes.num_rows(), &mut self.all_encoded);
            for row in (0..owners.len()).filter(|row| nulls.is_null(*row)) {
                owners[row] = owner(self.all_encoded.row(row));
            }
        }
        // A counting sort of the rows by owner; then every worker's rows are one slice.
        let mut starts = vec![0u32; workers + 1];
        for owner in &owners {
            starts[*owner as usize + 1] += 1;
        }
        if let Some(all) = (0..workers).find(|w| starts[w + 1] as usize == changes.num_rows()) {
            deliver(all, changes);
            return Ok(());
        }
        for worker in 0..workers {
            starts[worker + 1] += starts[worker];
        }
        let mut next = starts.clone();
        let mut order = vec![0u32; owners.len()];
        for (row, owner) in owners.iter().enumerate() {
            let place = &mut next[*owner as usize];
            order[*place as usize] = row as u32;
            *place += 1;
        }
        let sorted = changes.take(&UInt32Array::from(order))?;
        for worker in 0..workers {
            let (start, end) = (starts[worker] as usize, starts[worker + 1] as usize);
            if end > start {
                deliver(worker, sorted.slice(start, end - start));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{net, rows_of, schema, weighted};
    use eddyline_common::{SqlType, TaggedBatch, Timestamp};
    use std::collections::HashMap;

    #[test]
    fn every_row_goes_to_one_owner_by_its_key() {
        let schema = schema(&[("k", SqlType::BigInt), ("v", SqlType::BigInt)]);
        let rows: Vec<(Vec<i64>, i64)> = (0..5_000).map(|i| (vec![i % 97, i], if i % 5 == 0 { -1 } else { 1 })).collect();
        let batch = weighted(&schema, &rows, 0);
        for workers in [1, 2, 3, 8] {
            let mut partitioner = Partitioner::new(vec![0], &schema, Placement::all(workers)).unwrap();
            let mut owner: HashMap<i64, usize> = HashMap::new();
            let mut all = Vec::new();
            for piece in [batch.changes.slice(0, 1_234), batch.changes.slice(1_234, 3_766)] {
                let deliver = |worker: usize, changes: ChangeBatch| {
                    assert!(worker < workers);
                    let tagged = TaggedBatch { changes, arrival_watermark: Timestamp(0), now: Timestamp(0) };
                    for (row, _) in rows_of(std::slice::from_ref(&tagged)) {
                        assert_eq!(*owner.entry(row[0]).or_insert(worker), worker);
                    }
                    all.push(tagged);
                };
                partitioner.split(piece, deliver).unwrap();
            }
            assert_eq!(net(&all), net(std::slice::from_ref(&batch)));
            assert_eq!(owner.values().collect::<std::collections::HashSet<_>>().len(), workers);
        }
    }

    #[test]
    fn an_empty_key_has_one_owner() {
        let schema = schema(&[("k", SqlType::BigInt)]);
        let mut partitioner = Partitioner::new(vec![], &schema, Placement::all(4)).unwrap();
        let batch = weighted(&schema, &[(vec![1], 1), (vec![2], 1)], 0);
        let mut seen = Vec::new();
        partitioner.split(batch.changes, |worker, changes| seen.push((worker, changes.num_rows()))).unwrap();
        assert_eq!(seen, vec![(owner_of_all(Placement::all(4)), 2)]);
    }
}
