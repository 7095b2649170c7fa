//! Key bytes by slot. Keys of up to 12 bytes live in the slot's 16-byte reference, longer ones in segments, beside their
//! hash. A segment is filled once and given back when the last of its keys is gone, so that neither growth nor keys that leave
//! in the order they came in move any bytes; of other segments `compact` moves what is left. It knows nothing of values.

use eddyline_common::key::hash64;

const INLINE_MAX: usize = 12;
/// Waste below this is not worth moving keys for.
const COMPACT_MIN_BYTES: usize = 4 << 10;
/// A segment is as large as all keys before it together, within these.
const SEGMENT_BYTES_MIN: usize = 256;
const SEGMENT_BYTES_MAX: usize = if cfg!(test) { 1 << 10 } else { 256 << 10 };

/// Four bytes of length, then the key itself, zero-padded, or its hash's lower half, its segment and where it begins in that.
type KeyRef = [u8; 4 + INLINE_MAX];

const FREE: KeyRef = [0; 4 + INLINE_MAX];

fn number(key: &KeyRef, at: usize) -> u32 {
    u32::from_le_bytes([key[at], key[at + 1], key[at + 2], key[at + 3]])
}

fn length(key: &KeyRef) -> usize {
    number(key, 0) as usize
}

fn inline(key: &[u8]) -> KeyRef {
    let mut reference = FREE;
    reference[0] = key.len() as u8;
    reference[4..4 + key.len()].copy_from_slice(key);
    reference
}

fn in_segment(length: u32, hash: u32, segment: u32, start: u32) -> KeyRef {
    let mut reference = FREE;
    for (part, number) in reference.chunks_exact_mut(4).zip([length, hash, segment, start]) {
        part.copy_from_slice(&number.to_le_bytes());
    }
    reference
}

#[derive(Debug, Default)]
struct Segment {
    /// Never grows beyond what was allocated for it.
    bytes: Vec<u8>,
    /// Bytes of keys that are still there.
    live: usize,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    refs: Vec<KeyRef>,
    segments: Vec<Segment>,
    /// Segments that hold nothing and may be given bytes again.
    vacant: Vec<u32>,
    /// Takes new keys, if they fit.
    open: Option<u32>,
    /// Of all segments: bytes allocated, and those that belong to a key.
    allocated: usize,
    live: usize,
}

impl Keys {
    pub(super) fn resize(&mut self, slots: usize) {
        self.refs.resize(slots, FREE);
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &[u8] {
        let key = &self.refs[slot as usize];
        let len = length(key);
        if len <= INLINE_MAX { &key[4..4 + len] } else { self.in_segment(key) }
    }

    fn in_segment(&self, key: &KeyRef) -> &[u8] {
        &self.segments[number(key, 8) as usize].bytes[number(key, 12) as usize..][..length(key)]
    }

    /// Is `key` the slot's? Short keys are compared in one piece, without following a pointer.
    #[inline]
    pub(super) fn is(&self, slot: u32, key: &[u8]) -> bool {
        if key.len() <= INLINE_MAX { self.refs[slot as usize] == inline(key) } else { self.get(slot) == key }
    }

    /// The lower half of the key's hash, without a look at the bytes of a long one.
    #[inline]
    pub(super) fn hash(&self, slot: u32) -> u32 {
        let key = &self.refs[slot as usize];
        let len = length(key);
        if len <= INLINE_MAX { hash64(&key[4..4 + len]) as u32 } else { number(key, 4) }
    }

    pub(super) fn set(&mut self, slot: u32, key: &[u8], hash: u32) {
        self.refs[slot as usize] = if key.len() <= INLINE_MAX { inline(key) } else { self.put(key, hash) };
    }

    fn put(&mut self, key: &[u8], hash: u32) -> KeyRef {
        let fits = |segment: &Segment| segment.bytes.capacity() - segment.bytes.len() >= key.len();
        let at = match self.open.filter(|at| fits(&self.segments[*at as usize])) {
            Some(at) => at,
            None => self.begin(key.len()),
        };
        let segment = &mut self.segments[at as usize];
        let start = segment.bytes.len() as u32;
        segment.bytes.extend_from_slice(key);
        segment.live += key.len();
        self.live += key.len();
        in_segment(u32::try_from(key.len()).expect("a key is far below 4 GiB"), hash, at, start)
    }

    /// Opens a segment that has room for `least` bytes.
    fn begin(&mut self, least: usize) -> u32 {
        if let Some(full) = self.open.take() {
            self.free_if_empty(full);
        }
        let at = self.vacant.pop().unwrap_or(self.segments.len() as u32);
        if at as usize == self.segments.len() {
            self.segments.push(Segment::default());
        }
        let bytes = Vec::with_capacity(self.live.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).max(least));
        self.allocated += bytes.capacity();
        self.segments[at as usize].bytes = bytes;
        self.open = Some(at);
        at
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let key = std::mem::replace(&mut self.refs[slot as usize], FREE);
        if length(&key) > INLINE_MAX {
            self.leave(&key);
        }
    }

    /// The bytes of a long key are not looked at any more.
    fn leave(&mut self, key: &KeyRef) {
        let (len, at) = (length(key), number(key, 8));
        self.live -= len;
        self.segments[at as usize].live -= len;
        self.free_if_empty(at);
    }

    fn free_if_empty(&mut self, at: u32) {
        let segment = &mut self.segments[at as usize];
        if segment.live == 0 && self.open != Some(at) {
            self.allocated -= std::mem::take(&mut segment.bytes).capacity();
            self.vacant.push(at);
        }
    }

    /// When more than half of the closed segments is waste, moves what is left in those that are mostly waste. An open one that
    /// is far larger than all keys together is closed first.
    pub(super) fn compact(&mut self) {
        let far_too_large = |at: &u32| self.segments[*at as usize].bytes.capacity() > 2 * self.live + COMPACT_MIN_BYTES;
        if let Some(open) = self.open.take_if(|at| far_too_large(at)) {
            self.free_if_empty(open);
        }
        let (room, held) = self.open.map_or((0, 0), |at| {
            let open = &self.segments[at as usize];
            (open.bytes.capacity(), open.live)
        });
        if self.allocated - room <= 2 * (self.live - held) + COMPACT_MIN_BYTES {
            return;
        }
        let is_sparse = |(at, segment): (usize, &Segment)| self.open != Some(at as u32) && 2 * segment.live < segment.bytes.capacity();
        let sparse: Vec<bool> = self.segments.iter().enumerate().map(is_sparse).collect();
        let mut moved = Vec::new();
        for slot in 0..self.refs.len() {
            let key = self.refs[slot];
            if length(&key) > INLINE_MAX && sparse[number(&key, 8) as usize] {
                moved.clear();
                moved.extend_from_slice(self.in_segment(&key));
                self.refs[slot] = self.put(&moved, number(&key, 4));
                self.leave(&key);
            }
        }
    }

    /// Memory of long keys, waste included.
    pub(super) fn arena_bytes(&self) -> usize {
        self.allocated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32, length: usize) -> Vec<u8> {
        let mut key = vec![slot as u8; length];
        key[..4].copy_from_slice(&slot.to_be_bytes());
        key
    }

    fn set(keys: &mut Keys, slot: u32, length: usize) {
        let key = key(slot, length);
        keys.set(slot, &key, hash64(&key) as u32);
    }

    #[test]
    fn keys_come_and_go_and_leave_no_memory() {
        let mut keys = Keys::default();
        keys.resize(1000);
        let length = |slot: u32| [4, 12, 13, 100, 3000][slot as usize % 5];
        for round in 0..3 {
            (0..1000).for_each(|slot| set(&mut keys, slot, length(slot)));
            for slot in 0..1000 {
                let key = key(slot, length(slot));
                assert!(keys.get(slot) == key && keys.is(slot, &key) && keys.hash(slot) == hash64(&key) as u32);
            }
            // All but each seventh, from the front or from the back.
            let order = |slot: u32| if round % 2 == 0 { slot } else { 999 - slot };
            (0..1000).map(order).filter(|slot| slot % 7 != 0).for_each(|slot| keys.remove(slot));
            keys.compact();
            assert!(keys.allocated <= 2 * keys.live + COMPACT_MIN_BYTES + 3000, "{} of {}", keys.allocated, keys.live);
            for slot in (0..1000).filter(|slot| slot % 7 == 0) {
                assert_eq!(keys.get(slot), key(slot, length(slot)));
                keys.remove(slot);
            }
            assert_eq!(keys.live, 0);
            assert!(keys.arena_bytes() <= 3000, "the open segment is all that is left");
            keys.compact();
            assert!(keys.arena_bytes() <= COMPACT_MIN_BYTES);
        }
    }

    #[test]
    fn keys_that_leave_as_they_came_are_not_moved() {
        let mut keys = Keys::default();
        keys.resize(100_000);
        let most = (0..100_000u32).map(|slot| {
            set(&mut keys, slot, 40);
            if slot >= 500 {
                keys.remove(slot - 500);
            }
            keys.arena_bytes()
        });
        assert!(most.max().unwrap() <= 500 * 40 + 2 * SEGMENT_BYTES_MAX);
    }
}
