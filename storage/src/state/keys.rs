//! Key bytes by slot. Keys of up to 12 bytes live in the slot's 16-byte reference, longer ones in an arena; what
//! removed keys leave behind there is squeezed out by `compact`. It knows nothing of hashes or values.

const INLINE_MAX: usize = 12;
/// Waste below this is not worth moving keys for.
const COMPACT_MIN_BYTES: usize = 4 << 10;

/// Length, then the key itself or its offset in the arena (in the last 8 bytes).
#[derive(Clone, Copy, Debug, Default)]
struct KeyRef {
    len: u32,
    bytes: [u8; INLINE_MAX],
}

impl KeyRef {
    fn offset(&self) -> usize {
        let [.., a, b, c, d, e, f, g, h] = self.bytes;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) as usize
    }
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
        self.refs.resize(slots, KeyRef::default());
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &[u8] {
        let key = &self.refs[slot as usize];
        let len = key.len as usize;
        if len <= INLINE_MAX { &key.bytes[..len] } else { &self.arena[key.offset()..key.offset() + len] }
    }

    pub(super) fn set(&mut self, slot: u32, key: &[u8]) {
        let mut reference = KeyRef { len: u32::try_from(key.len()).expect("a key is far below 4 GiB"), bytes: [0; INLINE_MAX] };
        if key.len() <= INLINE_MAX {
            reference.bytes[..key.len()].copy_from_slice(key);
        } else {
            reference.bytes[4..].copy_from_slice(&(self.arena.len() as u64).to_le_bytes());
            self.arena.extend_from_slice(key);
            self.live += key.len();
        }
        self.refs[slot as usize] = reference;
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let len = self.refs[slot as usize].len as usize;
        if len > INLINE_MAX {
            self.live -= len;
        }
        self.refs[slot as usize] = KeyRef::default();
    }

    /// Squeezes the arena when more than half of it is waste.
    pub(super) fn compact(&mut self) {
        if self.arena.len() - self.live <= self.live + COMPACT_MIN_BYTES {
            return;
        }
        let old = std::mem::replace(&mut self.arena, Vec::with_capacity(self.live));
        for key in self.refs.iter_mut().filter(|k| k.len as usize > INLINE_MAX) {
            let start = key.offset();
            key.bytes[4..].copy_from_slice(&(self.arena.len() as u64).to_le_bytes());
            self.arena.extend_from_slice(&old[start..start + key.len as usize]);
        }
    }

    /// Memory of long keys, waste included.
    pub(super) fn arena_bytes(&self) -> usize {
        self.arena.len()
    }
}
