//! COUNT(x): the weight of the rows whose argument is not null.

use super::{Accumulator, Output, Updates};
use arrow::array::{Array, ArrayRef, Int64Array};
use eddyline_common::Result;
use eddyline_storage::state::{get_varint, put_varint, unzigzag, zigzag};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn reserve(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, updates: &Updates, values: &ArrayRef) {
        let counts = &mut self.counts;
        updates.for_each(values.logical_nulls().as_ref(), |_, slot, weight| counts[slot] += weight);
    }

    fn output(&self, slots: &[u32]) -> Result<Output> {
        Ok(Output::of(Arc::new(Int64Array::from_iter_values(slots.iter().map(|s| self.counts[*s as usize])))))
    }

    fn clear(&mut self, slot: u32) {
        self.counts[slot as usize] = 0;
    }

    fn copy(&mut self, from: u32, to: u32) {
        self.counts[to as usize] = self.counts[from as usize];
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        put_varint(zigzag(self.counts[slot as usize]), out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts[slot as usize] = unzigzag(get_varint(bytes)?);
        Ok(())
    }

    fn slot_bytes(&self) -> usize {
        8
    }
}
