//! The values of the group table: per slot the weight of the group's rows, and the state of every call.
//!
//! Stored form: version byte, weight, then each accumulator and each extreme in the order of the calls.

use crate::accumulators::{Accumulator, KeyExtreme, Output};
use arrow::array::Int64Array;
use eddyline_common::{Result, SqlError};
use eddyline_storage::state::{SlotCodec, get_varint, put_varint, unzigzag, zigzag};
use std::sync::Arc;

/// Changes whenever the stored form does.
const VALUE_VERSION: u8 = 1;

/// Where a call's result comes from.
pub(super) enum Source {
    /// COUNT(*): the weight of the group itself.
    Rows,
    Accumulator(usize),
    Extreme(usize),
    Ordered(usize),
}

#[derive(Default)]
pub(super) struct GroupValues {
    weights: Vec<i64>,
    pub accumulators: Vec<Box<dyn Accumulator>>,
    pub extremes: Vec<KeyExtreme>,
    pub sources: Vec<Source>,
}

impl GroupValues {
    pub(super) fn add_rows(&mut self, slots: &[u32], weights: Option<&[i64]>) {
        match weights {
            None => slots.iter().for_each(|slot| self.weights[*slot as usize] += 1),
            Some(weights) => slots.iter().zip(weights).for_each(|(slot, weight)| self.weights[*slot as usize] += weight),
        }
    }

    pub(super) fn weights_of(&self, slots: &[u32]) -> Vec<i64> {
        slots.iter().map(|slot| self.weights[*slot as usize]).collect()
    }

    /// The result of every call; `ordered` gives those that are not kept here.
    pub(super) fn outputs(&self, slots: &[u32], ordered: &mut dyn FnMut(usize) -> Result<Output>) -> Result<Vec<Output>> {
        let output = |source: &Source| match source {
            Source::Rows => Ok(Output::of(Arc::new(Int64Array::from(self.weights_of(slots))))),
            Source::Accumulator(index) => self.accumulators[*index].output(slots),
            Source::Extreme(index) => self.extremes[*index].output(slots),
            Source::Ordered(index) => ordered(*index),
        };
        self.sources.iter().map(output).collect()
    }

    fn parts(&self) -> impl Iterator<Item = &dyn Accumulator> {
        self.accumulators.iter().map(|a| a.as_ref() as &dyn Accumulator).chain(self.extremes.iter().map(|e| e as &dyn Accumulator))
    }

    fn parts_mut(&mut self) -> impl Iterator<Item = &mut dyn Accumulator> {
        let accumulators = self.accumulators.iter_mut().map(|a| a.as_mut() as &mut dyn Accumulator);
        accumulators.chain(self.extremes.iter_mut().map(|e| e as &mut dyn Accumulator))
    }
}

impl SlotCodec for GroupValues {
    fn reserve(&mut self, slots: usize) {
        self.weights.resize(slots, 0);
        self.parts_mut().for_each(|part| part.reserve(slots));
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(VALUE_VERSION);
        put_varint(zigzag(self.weights[slot as usize]), out);
        self.parts().for_each(|part| part.encode(slot, out));
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<()> {
        let Some((&VALUE_VERSION, mut bytes)) = bytes.split_first() else {
            return Err(SqlError::corrupt("a stored group has an unknown version"));
        };
        self.weights[slot as usize] = unzigzag(get_varint(&mut bytes)?);
        self.parts_mut().try_for_each(|part| part.decode(slot, &mut bytes))?;
        if bytes.is_empty() { Ok(()) } else { Err(SqlError::corrupt("a stored group is longer than its calls")) }
    }

    fn clear(&mut self, slot: u32, _key: &[u8]) {
        self.weights[slot as usize] = 0;
        self.parts_mut().for_each(|part| part.clear(slot));
    }

    fn slot_bytes(&self) -> usize {
        8 + self.parts().map(|part| part.slot_bytes()).sum::<usize>()
    }

    fn heap_bytes(&self) -> usize {
        self.parts().map(|part| part.heap_bytes()).sum()
    }
}
