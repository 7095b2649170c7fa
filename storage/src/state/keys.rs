//! Key bytes by slot. Keys of up to 12 bytes live in the slot's 16-byte reference, longer ones in an arena; what
//! removed keys leave behind there is squeezed out by `compact`. It knows nothing of hashes or values.

const INLINE_MAX: usize = 12;
/// Waste below this is not worth moving keys for.
const COMPACT_MIN_BYTES: usize = 4 << 10;

/// Four bytes of length, then the key itself, zero-padded, or four zeros and its offset in the arena.
type KeyRef = [u8; 4 + INLINE_MAX];

const FREE: KeyRef = [0; 4 + INLINE_MAX];

fn length(key: &KeyRef) -> usize {
    u32::from_le_bytes([key[0], key[1], key[2], key[3]]) as usize
}

fn offset(key: &KeyRef) -> usize {
    let [.., a, b, c, d, e, f, g, h] = *key;
    u64::from_le_bytes([a, b, c, d, e, f, g, h]) as usize
}

fn inline(key: &[u8]) -> KeyRef {
    let mut reference = FREE;
    reference[0] = key.len() as u8;
    reference[4..4 + key.len()].copy_from_slice(key);
    reference
}

fn in_arena(length: usize, offset: usize) -> KeyRef {
    let mut reference = FREE;
    reference[..4].copy_from_slice(&u32::try_from(length).expect("a key is far below 4 GiB").to_le_bytes());
    reference[8..].copy_from_slice(&(offset as u64).to_le_bytes());
    reference
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    refs: Vec<KeyRef>,
    arena: Vec<u8>,
    /// Bytes of the arena that belong to a key.
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
        if len <= INLINE_MAX { &key[4..4 + len] } else { &self.arena[offset(key)..offset(key) + len] }
    }

    /// Is `key` the slot's? Short keys are compared in one piece, without following a pointer.
    #[inline]
    pub(super) fn is(&self, slot: u32, key: &[u8]) -> bool {
        if key.len() <= INLINE_MAX { self.refs[slot as usize] == inline(key) } else { self.get(slot) == key }
    }

    pub(super) fn set(&mut self, slot: u32, key: &[u8]) {
        self.refs[slot as usize] = if key.len() <= INLINE_MAX {
            inline(key)
        } else {
            let offset = self.arena.len();
            self.arena.extend_from_slice(key);
            self.live += key.len();
            in_arena(key.len(), offset)
        };
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let len = length(&self.refs[slot as usize]);
        if len > INLINE_MAX {
            self.live -= len;
        }
        self.refs[slot as usize] = FREE;
    }

    /// Squeezes the arena when more than half of it is waste.
    pub(super) fn compact(&mut self) {
        if self.arena.len() - self.live <= self.live + COMPACT_MIN_BYTES {
            return;
        }
        let old = std::mem::replace(&mut self.arena, Vec::with_capacity(self.live));
        for key in self.refs.iter_mut().filter(|k| length(k) > INLINE_MAX) {
            let (start, len) = (offset(key), length(key));
            *key = in_arena(len, self.arena.len());
            self.arena.extend_from_slice(&old[start..start + len]);
        }
    }

    /// Memory of long keys, waste included.
    pub(super) fn arena_bytes(&self) -> usize {
        self.arena.len()
    }
}
