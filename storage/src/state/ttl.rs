//! Time to live: which keys were touched when, so that those that were not for a time are found without looking at others.
//! It knows only keys; what is kept under one, its owner forgets.
//!
//! Time is what the owner says it is, the `now` of the step; so what is forgotten when follows from the steps alone. It is counted in
//! spans of a sixteenth of the time to live: a key is forgotten when it was not touched for that time, or up to a span longer.
//!
//! # Tables
//! - `deadlines`: key -> the moment at which it is forgotten. It is written when that moves, once a span at most.
//! - `queue`: an entry per key (a moment, then the key), in the order of moments. A key that was touched since moves on when its
//!   moment comes, so that a touch costs no entry.

use super::SlotCodec;
use super::codec::{get_varint, put_varint, unzigzag, zigzag};
use super::expiry::{END_BYTES, end_prefix};
use super::present::Present;
use super::space::StateSpace;
use super::table::{NO_SLOT, Shards, StateTable, TableShape};
use eddyline_common::key::KeyRows;
use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlError, StateTableId, Timestamp};

/// Kinds of the operator's state space from here on are those of times to live: two for each kind that has one.
const FIRST_KIND: u8 = 128;
/// Spans of a time to live: what is kept too long is a sixteenth at most, and a key is written so often at most.
const SPANS: i64 = 16;
/// Keys handed out at once: bounded in memory, enough to amortise a look into the store.
const PAGE_KEYS: usize = if cfg!(test) { 7 } else { 4096 };
/// No moment.
const NEVER: i64 = i64::MIN;

pub struct Ttl {
    id: StateTableId,
    deadlines: StateTable,
    moments: Moments,
    queue: StateTable,
    present: Present,
    micros: i64,
    span: i64,
    now: i64,
    /// What is left of the queue's entries of the moment that is being worked off.
    due: Vec<u32>,
    /// Entries to come into the queue, and the slots of their keys.
    entries: KeyRows,
    fresh: Vec<u32>,
    slots: Vec<u32>,
}

impl Ttl {
    /// Of the keys of the tables from `kind` on.
    pub fn open(space: &StateSpace, kind: u8, micros: i64) -> Result<Self> {
        assert!(micros > 0 && kind < FIRST_KIND - 2, "a time to live is a time, and its kinds are free");
        let (mut moments, mut present) = (Moments::default(), Present::default());
        let deadlines = space.table(FIRST_KIND + kind, TableShape::default(), &mut moments)?;
        let queue = space.table(FIRST_KIND + kind + 1, TableShape { expiry: true, ordered: false }, &mut present)?;
        Ok(Ttl {
            id: space.id(),
            deadlines,
            moments,
            queue,
            present,
            micros,
            span: (micros / SPANS).max(1),
            now: NEVER,
            due: Vec::new(),
            entries: KeyRows::default(),
            fresh: Vec::new(),
            slots: Vec::new(),
        })
    }

    /// A step begins; false if nothing can have come to its end since the last call.
    pub fn advance(&mut self, now: Timestamp) -> bool {
        let advanced = now.0 > self.now;
        self.now = self.now.max(now.0);
        advanced && self.queue.first_end().is_some_and(|end| end <= self.now)
    }

    /// The keys are in use as of now.
    pub fn touch(&mut self, keys: &KeyRows, shards: Shards) -> Result<()> {
        let deadline = self.deadline();
        self.deadlines.intern(keys, shards, &mut self.moments, &mut self.slots)?;
        self.entries.clear();
        self.fresh.clear();
        for (row, slot) in self.slots.iter().enumerate() {
            let moment = &mut self.moments.0[*slot as usize];
            if *moment == deadline {
                continue;
            }
            if *moment == NEVER {
                self.entries.push(&[&end_prefix(deadline), keys.row(row)]);
                self.fresh.push(*slot);
            }
            *moment = deadline;
            self.deadlines.mark_dirty(*slot);
        }
        self.enqueue()
    }

    /// When a key is forgotten that is touched now: on the grid of spans.
    fn deadline(&self) -> i64 {
        let at = self.now.saturating_add(self.micros);
        at.saturating_add(self.span - 1).div_euclid(self.span).saturating_mul(self.span)
    }

    fn enqueue(&mut self) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let (deadlines, fresh) = (&self.deadlines, &self.fresh);
        self.queue.intern(&self.entries, Shards::Of(&|at| deadlines.shard(fresh[at])), &mut self.present, &mut self.slots)?;
        for slot in &self.slots {
            if self.present.enter(*slot) {
                self.queue.mark_dirty(*slot);
            }
        }
        Ok(())
    }

    /// Replaces `keys` and `shards` by some keys whose time is over; none of them is known here any more. False when there are no
    /// more. Between steps, or before anything is touched in one; to be called until it says false.
    pub fn take_expired(&mut self, keys: &mut KeyRows, shards: &mut Vec<u8>) -> Result<bool> {
        keys.clear();
        shards.clear();
        if !self.find_due()? {
            return Ok(false);
        }
        let (mut page, mut of_page) = (KeyRows::default(), Vec::new());
        for slot in self.due.split_off(self.due.len().saturating_sub(PAGE_KEYS)) {
            page.push(&[&self.queue.key(slot)[END_BYTES..]]);
            of_page.push(self.queue.shard(slot));
            self.queue.remove(slot, &mut self.present);
        }
        self.deadlines.lookup(&page, Shards::Of(&|at| of_page[at]), &mut self.moments, &mut self.slots)?;
        self.entries.clear();
        self.fresh.clear();
        for (row, slot) in self.slots.iter().enumerate().filter(|(_, slot)| **slot != NO_SLOT) {
            let moment = self.moments.0[*slot as usize];
            if moment > self.now {
                self.entries.push(&[&end_prefix(moment), page.row(row)]);
                self.fresh.push(*slot);
            } else {
                self.deadlines.remove(*slot, &mut self.moments);
                keys.push(&[page.row(row)]);
                shards.push(of_page[row]);
            }
        }
        self.enqueue()?;
        self.deadlines.maintain(&mut self.moments)?;
        Ok(true)
    }

    /// Makes sure that `due` has entries; false if no moment has come.
    fn find_due(&mut self) -> Result<bool> {
        while self.due.is_empty() {
            let Some(end) = self.queue.first_end().filter(|end| *end <= self.now) else { return Ok(false) };
            self.due = self.queue.window_slots(end);
            if self.due.is_empty() {
                self.queue.maintain(&mut self.present)?;
                self.queue.load_window(end, &mut self.present)?;
            }
        }
        Ok(true)
    }

    /// The first moment at which a key may be forgotten.
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first_end().map(Timestamp)
    }

    pub fn maintain(&mut self) -> Result<()> {
        self.deadlines.maintain(&mut self.moments)?;
        self.queue.maintain(&mut self.present)
    }

    pub fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        Ok(vec![(self.id, self.deadlines.freeze(&mut self.moments)?), (self.id, self.queue.freeze(&mut self.present)?)])
    }

    pub fn bytes(&self) -> usize {
        self.deadlines.bytes(&self.moments) + self.queue.bytes(&self.present)
    }
}

/// Moments by slot. Stored form: version byte, moment.
#[derive(Default)]
struct Moments(Vec<i64>);

/// Changes whenever the stored form does.
const VERSION: u8 = 1;

impl SlotCodec for Moments {
    fn reserve(&mut self, slots: usize) {
        self.0.resize(slots, NEVER);
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_varint(zigzag(self.0[slot as usize]), out);
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<()> {
        let Some((&VERSION, mut bytes)) = bytes.split_first() else {
            return Err(SqlError::corrupt("a stored moment has an unknown version"));
        };
        self.0[slot as usize] = unzigzag(get_varint(&mut bytes)?);
        Ok(())
    }

    fn clear(&mut self, slot: u32, _key: &[u8]) {
        self.0[slot as usize] = NEVER;
    }

    fn slot_bytes(&self) -> usize {
        8
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Residency, SpillGate, StateBudget};
    use super::*;
    use crate::kv::MemoryKv;
    use eddyline_common::kv::KeyValueStore;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    const TTL: i64 = 1_600;

    fn keys(of: &BTreeSet<u64>) -> KeyRows {
        let mut keys = KeyRows::default();
        of.iter().for_each(|key| keys.push(&[&key.to_be_bytes(), b"a key that is longer than what is kept inline"]));
        keys
    }

    fn expired(ttl: &mut Ttl, now: i64) -> BTreeSet<u64> {
        let (mut found, mut keys, mut shards) = (BTreeSet::new(), KeyRows::default(), Vec::new());
        if !ttl.advance(Timestamp(now)) {
            return found;
        }
        while ttl.take_expired(&mut keys, &mut shards).unwrap() {
            assert_eq!(keys.len(), shards.len());
            let number = |key: &[u8]| u64::from_be_bytes(*key.first_chunk().unwrap());
            keys.iter().for_each(|key| assert!(found.insert(number(key)), "a key expires once"));
        }
        found
    }

    /// Keys are touched and expire as a map of deadlines says, also when they do not fit the memory and are restored.
    #[test]
    fn keys_expire_when_they_were_not_touched() {
        for bounded in [false, true] {
            for seed in 0..10 {
                let mut random = StdRng::seed_from_u64(seed);
                let (kv, gate) = (Arc::new(MemoryKv::default()), Arc::new(SpillGate::new()));
                let open = |restored| {
                    let residency = if bounded { Residency::Bounded { budget: StateBudget::new(2_000) } } else { Residency::Resident };
                    let store: Arc<dyn KeyValueStore> = kv.clone();
                    let space = StateSpace::open(StateTableId(1), store, gate.clone(), 0, 1, residency, restored).unwrap();
                    Ttl::open(&space, 3, TTL).unwrap()
                };
                let (mut ttl, mut model, mut now) = (open(false), BTreeMap::<u64, i64>::new(), 1_000_000_000_i64);
                for step in 1..200 {
                    now += random.random_range(0..250);
                    let due: BTreeSet<u64> = model.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
                    assert_eq!(expired(&mut ttl, now), due, "seed {seed}, step {step}");
                    model.retain(|_, at| *at > now);
                    let touched: BTreeSet<u64> = (0..random.random_range(0..12)).map(|_| random.random_range(0..60)).collect();
                    ttl.touch(&keys(&touched), Shards::OfKey).unwrap();
                    model.extend(touched.into_iter().map(|key| (key, (now + TTL + 99) / 100 * 100)));
                    ttl.maintain().unwrap();
                    if step % 23 == 0 {
                        gate.begin(step).unwrap();
                        let runs = ttl.freeze().unwrap();
                        gate.ingest(step, || kv.ingest(SortedRun::merge(runs))).unwrap();
                        gate.image(step, || Ok(())).unwrap();
                        if random.random_bool(0.5) {
                            ttl = open(true);
                        }
                    }
                }
                now += 2 * TTL;
                assert_eq!(expired(&mut ttl, now), model.into_keys().collect());
                assert_eq!(ttl.next(), None);
            }
        }
    }
}
