//! The values of a table whose keys say all: which slots are entries. Stored form: a version byte.

use super::SlotCodec;
use eddyline_common::{Result, SqlError};

const VERSION: u8 = 1;

#[derive(Default)]
pub(super) struct Present(Vec<bool>);

impl Present {
    /// Says that the slot is an entry; true if it was none.
    pub(super) fn enter(&mut self, slot: u32) -> bool {
        !std::mem::replace(&mut self.0[slot as usize], true)
    }
}

impl SlotCodec for Present {
    fn reserve(&mut self, slots: usize) {
        self.0.resize(slots, false);
    }

    fn encode(&self, _slot: u32, out: &mut Vec<u8>) {
        out.push(VERSION);
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<()> {
        self.0[slot as usize] = true;
        if bytes == [VERSION] { Ok(()) } else { Err(SqlError::corrupt("a stored span of time has an unknown version")) }
    }

    fn clear(&mut self, slot: u32, _key: &[u8]) {
        self.0[slot as usize] = false;
    }

    fn slot_bytes(&self) -> usize {
        1
    }
}
