//! Open addressing from key hash to slot: linear probing over 8-byte entries (32 bits of hash, slot + 1), deletion by
//! backward shift, so there are no tombstones. It never sees a key: callers compare.

/// One entry in use per 5/3 at most: probes stay short while a cache line holds eight of them.
const LOAD_NUMERATOR: usize = 3;
const LOAD_DENOMINATOR: usize = 5;
const CAPACITY_MIN: usize = 64;

#[derive(Debug)]
pub(super) struct Index {
    entries: Vec<u64>,
    mask: usize,
    len: usize,
}

impl Index {
    pub(super) fn new() -> Self {
        Index { entries: vec![0; CAPACITY_MIN], mask: CAPACITY_MIN - 1, len: 0 }
    }

    /// Makes room for `more` entries, so that none of the following inserts moves the table.
    pub(super) fn reserve(&mut self, more: usize) {
        let needed = (self.len + more) * LOAD_DENOMINATOR / LOAD_NUMERATOR + 1;
        if needed <= self.entries.len() {
            return;
        }
        let capacity = needed.next_power_of_two();
        let old = std::mem::replace(&mut self.entries, vec![0; capacity]);
        self.mask = capacity - 1;
        for entry in old.into_iter().filter(|e| *e != 0) {
            self.place(entry);
        }
    }

    /// The first slot in probe order with the hash's bits, without comparing keys; `None` when the home entry is empty or
    /// another's. One load, so a loop over many hashes keeps many cache misses in flight.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        let entry = self.entries[hash as usize & self.mask];
        (entry != 0 && (entry >> 32) as u32 == hash as u32).then(|| entry as u32 - 1)
    }

    /// The first entry in probe order of a hash with this lower half, whosever it is; 0 if there is none.
    #[inline]
    pub(super) fn first(&self, hash: u32) -> u64 {
        self.entries[hash as usize & self.mask]
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let entry = self.entries[at];
            if entry == 0 {
                return None;
            }
            if (entry >> 32) as u32 == hash as u32 && same(entry as u32 - 1) {
                return Some(entry as u32 - 1);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// The key of `slot` must not be present.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        self.reserve(1);
        self.place((hash as u32 as u64) << 32 | (slot as u64 + 1));
        self.len += 1;
    }

    fn place(&mut self, entry: u64) {
        let mut at = (entry >> 32) as usize & self.mask;
        while self.entries[at] != 0 {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = entry;
    }

    /// `slot` is present under a hash with this lower half.
    pub(super) fn remove(&mut self, hash: u32, slot: u32) {
        let wanted = (hash as u64) << 32 | (slot as u64 + 1);
        let mut hole = hash as usize & self.mask;
        while self.entries[hole] != wanted {
            assert_ne!(self.entries[hole], 0, "a removed slot is in the index");
            hole = (hole + 1) & self.mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let entry = self.entries[at];
            if entry == 0 {
                break;
            }
            let home = (entry >> 32) as usize & self.mask;
            if at.wrapping_sub(home) & self.mask >= at.wrapping_sub(hole) & self.mask {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = 0;
        self.len -= 1;
    }
}
