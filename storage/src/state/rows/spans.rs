//! Rows in memory by the span of time that theirs falls into, so that those of a span are found without asking for their keys. It does
//! not know which rows are in the store only (`retention` does), nor what a time means.

use crate::state::expiry::{Expiry, end_of};
use eddyline_common::Result;

pub(super) struct Spans {
    /// Microseconds.
    step: i64,
    slots: Expiry,
    /// By slot: the end of its span.
    ends: Vec<i64>,
}

impl Spans {
    pub(super) const SLOT_BYTES: usize = size_of::<i64>() + 2 * size_of::<u32>();

    pub(super) fn new(step: i64) -> Self {
        assert!(step > 0, "time goes on");
        Spans { step, slots: Expiry::default(), ends: Vec::new() }
    }

    /// The end of the span of a row whose order is, or begins with, `order`.
    pub(super) fn end(&self, order: &[u8]) -> Result<i64> {
        Ok(end_of(order)?.div_euclid(self.step).saturating_add(1).saturating_mul(self.step))
    }

    pub(super) fn resize(&mut self, slots: usize) {
        self.slots.resize(slots);
        self.ends.resize(slots, 0);
    }

    pub(super) fn enter(&mut self, slot: u32, end: i64) {
        self.ends[slot as usize] = end;
        self.slots.insert(end, slot);
    }

    /// The slot was entered.
    pub(super) fn leave(&mut self, slot: u32) {
        self.slots.remove(self.ends[slot as usize], slot);
    }

    pub(super) fn end_of_slot(&self, slot: u32) -> i64 {
        self.ends[slot as usize]
    }

    pub(super) fn first(&self) -> Option<i64> {
        self.slots.first()
    }

    pub(super) fn slots(&self, end: i64) -> &[u32] {
        self.slots.slots(end)
    }
}
