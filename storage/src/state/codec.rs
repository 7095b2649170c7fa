//! What the owner of a table's values implements, and the variable-length numbers that compact values are made of.
//! It knows nothing of what a value means.

use eddyline_common::{Result, SqlError};

/// The values beside a `StateTable`, in columns indexed by slot. The table calls this when a slot is created, leaves
/// memory, comes back from the store or is copied for it; never while the owner holds a slot it has not released.
pub trait SlotCodec {
    /// Slots below `slots` may be used from now on; those that are new are empty.
    fn reserve(&mut self, slots: usize);
    /// Appends the value, starting with a version.
    fn encode(&self, slot: u32, out: &mut Vec<u8>);
    /// Replaces the value of an empty slot by a stored one.
    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<()>;
    /// Empties the slot, which has still its key.
    fn clear(&mut self, slot: u32, key: &[u8]);
    /// May the slot leave memory? Something else that is in memory may refer to it.
    fn may_leave(&self, _slot: u32) -> bool {
        true
    }

    /// Memory per slot.
    fn slot_bytes(&self) -> usize;
    /// Memory of all slots beyond `slot_bytes`.
    fn heap_bytes(&self) -> usize {
        0
    }
}

pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub fn zigzag128(value: i128) -> u128 {
    ((value << 1) ^ (value >> 127)) as u128
}

pub fn unzigzag128(value: u128) -> i128 {
    (value >> 1) as i128 ^ -((value & 1) as i128)
}

/// Seven bits a byte, least significant first; the high bit says that more follow.
pub fn put_varint_u128(mut value: u128, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_varint(value: u64, out: &mut Vec<u8>) {
    put_varint_u128(value as u128, out);
}

pub fn get_varint_u128(bytes: &mut &[u8]) -> Result<u128> {
    let mut value = 0u128;
    for shift in (0..128).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or_else(damaged)?;
        *bytes = rest;
        value |= ((first & 0x7F) as u128) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged())
}

pub fn get_varint(bytes: &mut &[u8]) -> Result<u64> {
    u64::try_from(get_varint_u128(bytes)?).map_err(|_| damaged())
}

fn damaged() -> SqlError {
    SqlError::corrupt("a stored state value is damaged")
}
