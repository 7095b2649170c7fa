//! Changes that an operator passes on without keeping state of their rows, such as the rows of an outer join that have a null in
//! their key: what passes within one step is netted.

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::datatypes::SchemaRef;
use eddyline_common::key::{KeyCodec, KeyRows, hash128};
use eddyline_common::{ChangeBatch, Result};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

pub(super) struct NetChanges {
    batches: Vec<ChangeBatch>,
    /// Rows come back in the same step they came; `None` if they cannot.
    net: Option<Net>,
}

struct Net {
    codec: KeyCodec,
    /// Row identity to its first place: (batch, row).
    first: HashMap<u128, (u32, u32)>,
    keys: KeyRows,
}

impl NetChanges {
    pub(super) fn new(input: &SchemaRef, retract: bool) -> Result<Self> {
        let net = if retract {
            let codec = KeyCodec::exact(input.fields().iter().map(|f| f.data_type().clone()).collect())?;
            Some(Net { codec, first: HashMap::new(), keys: KeyRows::default() })
        } else {
            None
        };
        Ok(NetChanges { batches: Vec::new(), net })
    }

    pub(super) fn add(&mut self, changes: ChangeBatch) {
        if !changes.is_empty() {
            self.batches.push(changes);
        }
    }

    /// The net changes of the step.
    pub(super) fn take(&mut self) -> Result<Vec<ChangeBatch>> {
        let batches = std::mem::take(&mut self.batches);
        let Some(net) = &mut self.net else { return Ok(batches) };
        if batches.is_empty() {
            return Ok(batches);
        }
        let mut weights: Vec<Vec<i64>> = Vec::with_capacity(batches.len());
        for (index, batch) in batches.iter().enumerate() {
            let columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
            net.codec.encode(&columns, batch.num_rows(), &mut net.keys);
            weights.push(vec![0; batch.num_rows()]);
            for (row, key) in net.keys.iter().enumerate() {
                let (batch_of, row_of) = match net.first.entry(hash128(key)) {
                    Entry::Occupied(place) => *place.get(),
                    Entry::Vacant(place) => *place.insert((index as u32, row as u32)),
                };
                weights[batch_of as usize][row_of as usize] += batch.weight(row);
            }
        }
        net.first.clear();
        let mut changes = Vec::with_capacity(batches.len());
        for (batch, weights) in batches.into_iter().zip(weights) {
            let kept: Vec<u32> = (0..weights.len() as u32).filter(|row| weights[*row as usize] != 0).collect();
            let of_kept = Int64Array::from_iter_values(kept.iter().map(|row| weights[*row as usize]));
            let rows = ChangeBatch::insertions(batch.rows).take(&UInt32Array::from(kept))?.rows;
            changes.push(ChangeBatch::with_weights(rows, of_kept));
        }
        Ok(changes)
    }
}
