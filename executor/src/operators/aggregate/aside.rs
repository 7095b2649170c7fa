//! Rows of a step for whose groups there is no room: which those are, and when they are taken in.

use super::{Aggregate, Multiset, Ordered};
use crate::operator::Operator;
use crate::operators::aside::TOUCHED_MIN;
use eddyline_common::{ChangeBatch, Result};

impl Aggregate {
    /// The rows that are taken in now: without those that are set aside.
    pub(super) fn set_aside(&mut self, changes: ChangeBatch) -> Result<ChangeBatch> {
        if !self.aside.is_begun() && !self.is_full() {
            return Ok(changes);
        }
        self.encode(&changes);
        let Aggregate { aside, keys, table, memo, .. } = self;
        let is_touched = |key: &[u8]| table.find(key).is_some_and(|slot| memo.has(slot));
        aside.divide(0, &changes, keys, is_touched, table.may_write())
    }

    fn is_full(&mut self) -> bool {
        !self.group.is_empty()
            && self.memo.rows() >= TOUCHED_MIN
            && (self.table.is_full(&self.values)
                || self.multisets.iter_mut().any(Multiset::is_full)
                || self.ordered.iter_mut().any(Ordered::is_full))
    }

    /// Takes in the next part of what was set aside, now that nothing of the step is held; false if there is none.
    pub(super) fn take_aside(&mut self) -> Result<bool> {
        if !self.aside.is_begun() {
            return Ok(false);
        }
        self.shrink()?;
        let part = self.aside.next_part()?;
        for (_, changes) in part.iter().flatten() {
            self.take(changes)?;
        }
        Ok(part.is_some())
    }
}
