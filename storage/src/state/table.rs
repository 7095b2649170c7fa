//! `StateTable`: keys to dense slots, with everything that happens to an entry between memory and store.
//!
//! A slot is *live* (its key exists), *dead* (its key was removed but the store may still hold it, so a tombstone has to
//! be written) or free. A live or dead slot may be *dirty* (differs from what was last copied) and *frozen* (copied for a
//! checkpoint that is not in the store yet). Live slots that are neither are evicted when memory is short, least recently
//! used first by a clock. A key that is not in memory is fetched when it is interned, unless the table is *complete*.
//!
//! The owner releases all slots at the end of each step by calling `maintain`; only there do slots leave memory.

mod residency;
mod stored;

use super::budget::Allotment;
use super::codec::SlotCodec;
use super::expiry::{END_BYTES, Expiry, end_of, end_prefix};
use super::gate::{Hold, Outcome};
use super::index::Index;
use super::keys::Keys;
use super::ordered::{self, Ordered};
use super::space::{Residency, StateSpace};
use eddyline_common::key::{KeyRows, VSHARDS, hash64, vshard};
use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlError, SqlState, StateTableId};

const LIVE: u8 = 1;
const DEAD: u8 = 2;
const DIRTY: u8 = 4;
const FROZEN: u8 = 8;
/// The store may hold this key, or a frozen run that will be ingested does.
const STORED: u8 = 16;
/// Used since the clock last passed.
const USED: u8 = 32;
/// In the list of dirty slots (also while the slot is free, so that none is listed twice).
const LISTED: u8 = 64;

/// Key reference, flags, shard and index entries at their load.
const FIXED_BYTES: usize = 16 + 1 + 1 + 24;
/// What `lookup` gives for a key that does not exist.
pub const NO_SLOT: u32 = u32::MAX;

/// Keys fetched by one `multi_get`: enough to amortise the call, bounded in memory.
const FETCH_KEYS: usize = 4096;

/// Which extra orders a table keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableShape {
    /// Keys begin with a window end; entries are found and dropped by it.
    pub expiry: bool,
    /// `first_from` is available.
    pub ordered: bool,
}

/// The virtual shard of each key of a batch.
#[derive(Clone, Copy)]
pub enum Shards<'a> {
    /// Rows were routed by exactly this key.
    OfKey,
    /// By row of the batch; asked only for keys that are not in memory.
    Of(&'a dyn Fn(usize) -> u8),
}

/// What happened since the table was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounters {
    pub evictions: u64,
    /// Keys looked for in the store, and those it had.
    pub fetches: u64,
    pub fetched: u64,
    pub spills: u64,
}

impl StateCounters {
    fn since(self, earlier: Self) -> Self {
        StateCounters {
            evictions: self.evictions - earlier.evictions,
            fetches: self.fetches - earlier.fetches,
            fetched: self.fetched - earlier.fetched,
            spills: self.spills - earlier.spills,
        }
    }
}

impl std::ops::AddAssign for StateCounters {
    fn add_assign(&mut self, other: Self) {
        self.evictions += other.evictions;
        self.fetches += other.fetches;
        self.fetched += other.fetched;
        self.spills += other.spills;
    }
}

pub struct StateTable {
    space: StateSpace,
    kind: u8,
    /// `None`: everything stays in memory.
    allotment: Option<Allotment>,
    index: Index,
    keys: Keys,
    flags: Vec<u8>,
    shards: Vec<u8>,
    free: Vec<u32>,
    occupied: usize,
    dirty: Vec<u32>,
    frozen: Vec<u32>,
    /// The checkpoint whose outcome decides about `frozen`.
    frozen_for: Option<u64>,
    last_frozen: Option<u64>,
    /// Every key of this table is in memory.
    complete: bool,
    /// There was no room for the last spill.
    held: Option<Hold>,
    clock_hand: usize,
    /// The clock found no more entries that could leave when this many had been fetched, and none became clean since but those fetched.
    none_left: Option<u64>,
    expiry: Option<Expiry>,
    ordered: Option<Ordered>,
    counters: StateCounters,
    /// Those that the gate has been told of.
    reported: StateCounters,
    hashes: Vec<u64>,
    misses: Vec<(u32, usize)>,
}

impl StateTable {
    pub(super) fn open(space: StateSpace, kind: u8, shape: TableShape, codec: &mut dyn SlotCodec) -> Result<Self> {
        assert!(kind < u8::MAX, "255 bounds the kinds in a range");
        let allotment = match &space.residency {
            Residency::Resident => None,
            Residency::Bounded { budget } => Some(Allotment::open(budget.clone())),
        };
        let mut table = StateTable {
            kind,
            allotment,
            index: Index::new(),
            keys: Keys::default(),
            flags: Vec::new(),
            shards: Vec::new(),
            free: Vec::new(),
            occupied: 0,
            dirty: Vec::new(),
            frozen: Vec::new(),
            frozen_for: None,
            last_frozen: None,
            complete: true,
            held: None,
            clock_hand: 0,
            none_left: None,
            expiry: shape.expiry.then(Expiry::default),
            ordered: shape.ordered.then(Ordered::default),
            counters: StateCounters::default(),
            reported: StateCounters::default(),
            hashes: Vec::new(),
            misses: Vec::new(),
            space,
        };
        if table.space.restored {
            match table.space.residency {
                Residency::Resident => table.load_all(codec)?,
                Residency::Bounded { .. } => table.note_stored_windows()?,
            }
        }
        Ok(table)
    }

    pub fn id(&self) -> StateTableId {
        self.space.id
    }

    /// One past the largest slot that was ever in use.
    pub fn slots(&self) -> usize {
        self.flags.len()
    }

    /// Live and dead slots in memory.
    pub fn occupied(&self) -> usize {
        self.occupied
    }

    pub fn counters(&self) -> StateCounters {
        self.counters
    }

    #[inline]
    pub fn key(&self, slot: u32) -> &[u8] {
        self.keys.get(slot)
    }

    /// The slot's virtual shard.
    #[inline]
    pub fn shard(&self, slot: u32) -> u8 {
        self.shards[slot as usize]
    }

    pub fn is_live(&self, slot: u32) -> bool {
        self.flags[slot as usize] & LIVE != 0
    }

    /// Memory of keys, values and bookkeeping, counted by entries in memory.
    pub fn bytes(&self, codec: &dyn SlotCodec) -> usize {
        let per_slot = FIXED_BYTES + codec.slot_bytes() + if self.expiry.is_some() { 8 } else { 0 };
        let ordered = self.ordered.as_ref().map_or(0, |o| o.len() * ordered::ENTRY_BYTES + self.keys.arena_bytes());
        self.occupied * per_slot + self.keys.arena_bytes() + ordered + codec.heap_bytes()
    }

    /// Replaces `out` by the slot of every key, creating those that do not exist (empty, and not dirty until marked) and
    /// fetching those that are in the store only. Slots stay valid until `maintain` or `remove`.
    pub fn intern(&mut self, keys: &KeyRows, shards: Shards, codec: &mut dyn SlotCodec, out: &mut Vec<u32>) -> Result<()> {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        hashes.extend(keys.iter().map(hash64));
        out.clear();
        out.extend(hashes.iter().map(|hash| self.index.guess(*hash).unwrap_or(u32::MAX)));
        for (row, slot) in out.iter_mut().enumerate() {
            let key = keys.row(row);
            let found = *slot != u32::MAX && self.keys.is(*slot, key);
            if !found {
                *slot = self.find_or_create(key, hashes[row], row, shards, codec)?;
            }
            let flags = &mut self.flags[*slot as usize];
            if *flags & DEAD != 0 {
                self.revive(*slot)?;
            } else {
                *flags |= USED;
            }
        }
        self.hashes = hashes;
        self.fetch_misses(keys, codec)
    }

    /// As `intern`, but a key that does not exist gets no slot: `NO_SLOT`.
    pub fn lookup(&mut self, keys: &KeyRows, shards: Shards, codec: &mut dyn SlotCodec, out: &mut Vec<u32>) -> Result<()> {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        hashes.extend(keys.iter().map(hash64));
        out.clear();
        out.extend(hashes.iter().map(|hash| self.index.guess(*hash).unwrap_or(NO_SLOT)));
        let mut misses = std::mem::take(&mut self.misses);
        for (row, slot) in out.iter_mut().enumerate() {
            let key = keys.row(row);
            if *slot == NO_SLOT || !self.keys.is(*slot, key) {
                *slot = self.index.find(hashes[row], |slot| self.keys.is(slot, key)).unwrap_or(NO_SLOT);
            }
            match *slot {
                NO_SLOT if !self.complete => misses.push((NO_SLOT, row)),
                NO_SLOT => {}
                found if self.flags[found as usize] & DEAD != 0 => *slot = NO_SLOT,
                found => self.flags[found as usize] |= USED,
            }
        }
        for chunk in misses.chunks(FETCH_KEYS) {
            let shard = |row: usize| match shards {
                Shards::OfKey => vshard(hashes[row]),
                Shards::Of(of) => of(row),
            };
            let values = self.fetch(chunk.iter().map(|(_, row)| (shard(*row), keys.row(*row))))?;
            self.counters.fetches += chunk.len() as u64;
            for ((_, row), value) in chunk.iter().zip(values) {
                let Some(value) = value else { continue };
                let key = keys.row(*row);
                // The same key may have come twice.
                out[*row] = match self.index.find(hashes[*row], |slot| self.keys.is(slot, key)) {
                    Some(slot) => slot,
                    None => self.admit(key, hashes[*row], shard(*row), &value, codec)?,
                };
            }
        }
        misses.clear();
        (self.misses, self.hashes) = (misses, hashes);
        Ok(())
    }

    /// Makes resident what the store has under `key`.
    fn admit(&mut self, key: &[u8], hash: u64, shard: u8, value: &[u8], codec: &mut dyn SlotCodec) -> Result<u32> {
        let slot = self.create(key, hash, shard, codec)?;
        self.flags[slot as usize] |= STORED;
        self.counters.fetched += 1;
        codec.decode(slot, value)?;
        Ok(slot)
    }

    /// The slot of a key that is in memory.
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        self.index.find(hash64(key), |slot| self.keys.is(slot, key))
    }

    fn find_or_create(&mut self, key: &[u8], hash: u64, row: usize, shards: Shards, codec: &mut dyn SlotCodec) -> Result<u32> {
        if let Some(slot) = self.index.find(hash, |slot| self.keys.is(slot, key)) {
            return Ok(slot);
        }
        let shard = match shards {
            Shards::OfKey => vshard(hash),
            Shards::Of(of) => of(row),
        };
        let slot = self.create(key, hash, shard, codec)?;
        if !self.complete {
            self.misses.push((slot, row));
        }
        Ok(slot)
    }

    fn create(&mut self, key: &[u8], hash: u64, shard: u8, codec: &mut dyn SlotCodec) -> Result<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.extend(codec)?,
        };
        self.keys.set(slot, key, hash as u32);
        self.index.insert(hash, slot);
        let flags = &mut self.flags[slot as usize];
        *flags = *flags & LISTED | LIVE | USED;
        self.shards[slot as usize] = shard;
        self.occupied += 1;
        self.enter_orders(slot)?;
        Ok(slot)
    }

    /// Grows all columns by a step that keeps the cost per slot constant.
    fn extend(&mut self, codec: &mut dyn SlotCodec) -> Result<u32> {
        let old = self.flags.len();
        let new = old + (old / 4).clamp(64, 1 << 16);
        if new >= u32::MAX as usize {
            return Err(SqlError::internal("an operator's state has more than 2^32 keys on one worker"));
        }
        self.flags.resize(new, 0);
        self.shards.resize(new, 0);
        self.keys.resize(new);
        if let Some(expiry) = &mut self.expiry {
            expiry.resize(new);
        }
        codec.reserve(new);
        self.free.extend((old as u32 + 1..new as u32).rev());
        Ok(old as u32)
    }

    fn enter_orders(&mut self, slot: u32) -> Result<()> {
        let key = self.keys.get(slot);
        if let Some(expiry) = &mut self.expiry {
            expiry.insert(end_of(key)?, slot);
        }
        if let Some(ordered) = &mut self.ordered {
            ordered.insert(key, slot);
        }
        Ok(())
    }

    fn leave_orders(&mut self, slot: u32) {
        let key = self.keys.get(slot);
        if let Some(expiry) = &mut self.expiry {
            expiry.remove(end_of(key).expect("it was entered under its end"), slot);
        }
        if let Some(ordered) = &mut self.ordered {
            ordered.remove(key);
        }
    }

    fn revive(&mut self, slot: u32) -> Result<()> {
        let flags = &mut self.flags[slot as usize];
        *flags = *flags & !DEAD | LIVE | USED;
        self.enter_orders(slot)
    }

    fn fetch_misses(&mut self, keys: &KeyRows, codec: &mut dyn SlotCodec) -> Result<()> {
        let misses = std::mem::take(&mut self.misses);
        for chunk in misses.chunks(FETCH_KEYS) {
            let values = self.fetch(chunk.iter().map(|(slot, row)| (self.shards[*slot as usize], keys.row(*row))))?;
            self.counters.fetches += chunk.len() as u64;
            for ((slot, _), value) in chunk.iter().zip(values) {
                if let Some(value) = value {
                    codec.decode(*slot, &value)?;
                    self.flags[*slot as usize] |= STORED;
                    self.counters.fetched += 1;
                }
            }
        }
        self.misses = misses;
        self.misses.clear();
        Ok(())
    }

    /// What the store has under keys, each with its shard.
    fn fetch<'a>(&self, keys: impl Iterator<Item = (u8, &'a [u8])>) -> Result<Vec<Option<Vec<u8>>>> {
        let (mut buffer, mut ends) = (Vec::new(), Vec::new());
        for (shard, key) in keys {
            self.put_durable_key(shard, key, &mut buffer);
            ends.push(buffer.len());
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let wanted: Vec<&[u8]> = starts.zip(&ends).map(|(start, end)| &buffer[start..*end]).collect();
        self.space.kv.multi_get(self.space.id, &wanted)
    }

    fn put_durable_key(&self, shard: u8, key: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&[shard, self.kind]);
        out.extend_from_slice(key);
    }

    fn durable_key(&self, shard: u8, key: &[u8]) -> Vec<u8> {
        let mut durable = Vec::with_capacity(2 + key.len());
        self.put_durable_key(shard, key, &mut durable);
        durable
    }

    /// Has the store, or a run on its way there, ever held this slot's key?
    pub fn is_stored(&self, slot: u32) -> bool {
        self.flags[slot as usize] & STORED != 0
    }

    /// The slot's value changed.
    #[inline]
    pub fn mark_dirty(&mut self, slot: u32) {
        let flags = &mut self.flags[slot as usize];
        if *flags & LISTED == 0 {
            self.dirty.push(slot);
        }
        *flags |= DIRTY | LISTED;
    }

    /// Loads what the removal of slots looks at, so that the cache misses of many happen at once and not one after the other.
    pub(super) fn warm(&self, slots: &[u32]) {
        let entries = slots.iter().map(|slot| self.index.first(self.keys.hash(*slot)));
        std::hint::black_box(entries.fold(0, |seen, entry| seen ^ entry));
    }

    /// Removes the key. The slot is empty from here on and may be given to another key by the next `intern`.
    pub fn remove(&mut self, slot: u32, codec: &mut dyn SlotCodec) {
        debug_assert!(self.is_live(slot), "only a live slot can be removed");
        codec.clear(slot, self.keys.get(slot));
        self.leave_orders(slot);
        if self.flags[slot as usize] & STORED == 0 {
            return self.release(slot);
        }
        let flags = &mut self.flags[slot as usize];
        *flags = *flags & !LIVE | DEAD;
        self.mark_dirty(slot);
    }

    /// Gives back an emptied slot that is in no order any more.
    fn release(&mut self, slot: u32) {
        self.index.remove(self.keys.hash(slot), slot);
        self.keys.remove(slot);
        self.flags[slot as usize] &= LISTED;
        self.free.push(slot);
        self.occupied -= 1;
    }

    /// Is every key in memory?
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

const _: () = assert!(VSHARDS == 256, "a shard is one byte");
