//! Forgetting rows, or keys with all their rows, that were not touched for their time to live; and what comes of that: retractions
//! of rows that are not here any more.

use super::values::{Heads, NONE};
use super::{KeyedRows, RowChunk};
use crate::state::table::{NO_SLOT, Shards};
use crate::state::ttl::Ttl;
use eddyline_common::key::KeyRows;
use eddyline_common::{Result, Timestamp};

/// What is forgotten that was not touched for so many microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowTtl {
    /// Each row by itself.
    Rows(i64),
    /// All rows of a key, when none of them was touched.
    Keys(i64),
}

impl RowTtl {
    pub(super) fn micros(self) -> i64 {
        let (RowTtl::Rows(micros) | RowTtl::Keys(micros)) = self;
        micros
    }
}

impl KeyedRows {
    /// A step begins: forgets what its `now` is too late for. Before anything is added in it; calling it again in the same step does
    /// nothing.
    pub fn forget_expired(&mut self, now: Timestamp) -> Result<()> {
        let Some((ttl, _)) = &mut self.ttl else { return Ok(()) };
        if !ttl.advance(now) {
            return Ok(());
        }
        let Some((mut ttl, of)) = self.ttl.take() else { return Ok(()) };
        let forgotten = self.forget_all(&mut ttl, of);
        self.ttl = Some((ttl, of));
        forgotten?;
        self.maintain()
    }

    fn forget_all(&mut self, ttl: &mut Ttl, of: RowTtl) -> Result<()> {
        let (mut keys, mut shards) = (KeyRows::default(), Vec::new());
        while ttl.take_expired(&mut keys, &mut shards)? {
            match of {
                RowTtl::Rows(_) => self.forget_rows(&keys, &shards)?,
                RowTtl::Keys(_) => (0..keys.len()).try_for_each(|at| self.drop_key(keys.row(at), shards[at]))?,
            }
        }
        Ok(())
    }

    /// Drops rows by their keys, orders and themselves in one piece.
    fn forget_rows(&mut self, rows: &KeyRows, shards: &[u8]) -> Result<()> {
        let mut slots = Vec::new();
        self.rows.lookup(rows, Shards::Of(&|at| shards[at]), &mut self.values, &mut slots)?;
        let (mut found, mut keys, mut of_found) = (Vec::new(), KeyRows::default(), Vec::new());
        for (at, slot) in slots.into_iter().enumerate().filter(|(_, slot)| *slot != NO_SLOT) {
            keys.push(&[&rows.row(at)[..self.values.key_length(slot)]]);
            of_found.push(shards[at]);
            found.push(slot);
        }
        let mut heads = Vec::new();
        self.lookup(&keys, Shards::Of(&|at| of_found[at]), &mut heads)?;
        for (slot, head) in found.into_iter().zip(heads) {
            if head == NO_SLOT {
                return Err(eddyline_common::SqlError::corrupt("a stored row has no head"));
            }
            if self.values.head_of(slot) == NONE {
                self.link(slot, head)?;
            }
            self.remove_row(slot, head);
            self.remove_head_if_empty(head);
        }
        self.rows.maintain(&mut self.values)?;
        self.heads.maintain(&mut Heads(&mut self.values))
    }

    /// Rows that this step took away more often than they are here are not here; `missing` gets them, with what they lack as
    /// their weight. For an owner whose rows may have been forgotten; when all changes of the step are in.
    pub fn ignore_missing(&mut self, missing: &mut RowChunk) {
        for touched in &self.touched {
            let weight = self.values.weight(touched.slot);
            if weight < 0 {
                self.push_slot(touched.slot, missing);
                self.values.add_weight(touched.slot, touched.head, -weight);
            }
        }
    }

    /// The first moment at which something is to be forgotten.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.ttl.as_ref().and_then(|(ttl, _)| ttl.next())
    }
}
