//! BOOL_AND and BOOL_OR: how many values are true and how many are false.

use super::{Accumulator, Output, Updates, null_buffer};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use eddyline_common::Result;
use eddyline_storage::state::{get_varint, put_varint, unzigzag, zigzag};
use std::sync::Arc;

pub(super) struct Truth {
    /// False and true values.
    counts: Vec<[i64; 2]>,
    all: bool,
}

impl Truth {
    /// `all`: BOOL_AND.
    pub(super) fn new(all: bool) -> Self {
        Truth { counts: Vec::new(), all }
    }
}

impl Accumulator for Truth {
    fn reserve(&mut self, slots: usize) {
        self.counts.resize(slots, [0; 2]);
    }

    fn update(&mut self, updates: &Updates, values: &ArrayRef) {
        let values = values.as_boolean();
        updates.for_each(values.nulls(), |row, slot, weight| self.counts[slot][values.value(row) as usize] += weight);
    }

    fn output(&self, slots: &[u32]) -> Result<Output> {
        let at = |slot: &u32| self.counts[*slot as usize];
        let valid = null_buffer(slots.iter().map(|s| at(s) != [0; 2]).collect());
        let values = slots.iter().map(|s| if self.all { at(s)[0] == 0 } else { at(s)[1] != 0 }).collect();
        Ok(Output::of(Arc::new(BooleanArray::new(values, valid))))
    }

    fn clear(&mut self, slot: u32) {
        self.counts[slot as usize] = [0; 2];
    }

    fn copy(&mut self, from: u32, to: u32) {
        self.counts[to as usize] = self.counts[from as usize];
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.counts[slot as usize].iter().for_each(|count| put_varint(zigzag(*count), out));
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts[slot as usize] = [unzigzag(get_varint(bytes)?), unzigzag(get_varint(bytes)?)];
        Ok(())
    }

    fn slot_bytes(&self) -> usize {
        16
    }
}
