//! State tables against a hash map: random steps under tiny budgets, with freezes, slow ingestions, abandoned
//! checkpoints and restores from images. Catches lost, stale and resurrected entries.

use super::*;
use eddyline_common::key::{KeyRows, VSHARDS, hash64, vshard};
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::{Result, SqlError, SqlState, StateTableId};
use parking_lot::Mutex;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) type Entries = BTreeMap<(StateTableId, Vec<u8>), Vec<u8>>;

#[derive(Default)]
pub(super) struct TestKv(pub(super) Mutex<Entries>, AtomicBool);

impl TestKv {
    fn set_full(&self, full: bool) {
        self.1.store(full, Ordering::Relaxed);
    }
}

impl KeyValueStore for TestKv {
    fn multi_get(&self, table: StateTableId, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let entries = self.0.lock();
        Ok(keys.iter().map(|k| entries.get(&(table, k.to_vec())).cloned()).collect())
    }

    fn scan(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let all = self.0.lock().clone();
        for ((_, key), value) in
            all.range((table, start.to_vec())..).take_while(|((t, k), _)| *t == table && end.is_none_or(|e| k.as_slice() < e))
        {
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut found = Vec::new();
        self.scan(table, start, end, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(true)
        })?;
        for (key, value) in found.iter().rev() {
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn ingest(&self, runs: Vec<(StateTableId, SortedRun)>) -> Result<()> {
        if self.1.load(Ordering::Relaxed) {
            return Err(SqlError::new(SqlState::DISK_FULL, "no space left on device"));
        }
        let mut entries = self.0.lock();
        for (table, run) in runs {
            assert!(run.is_sorted());
            for (key, value) in run.iter() {
                match value {
                    Some(value) => entries.insert((table, key.to_vec()), value.to_vec()),
                    None => entries.remove(&(table, key.to_vec())),
                };
            }
        }
        Ok(())
    }

    fn delete_range(&self, table: StateTableId, start: &[u8], end: &[u8]) -> Result<()> {
        self.0.lock().retain(|(t, k), _| *t != table || k.as_slice() < start || k.as_slice() >= end);
        Ok(())
    }

    fn drop_table(&self, table: StateTableId) -> Result<()> {
        self.0.lock().retain(|(t, _), _| *t != table);
        Ok(())
    }

    fn checkpoint(&self, _: &Path) -> Result<()> {
        Err(SqlError::internal("not in this test"))
    }

    fn stored_bytes(&self, _: StateTableId) -> u64 {
        0
    }

    fn disk_reads(&self) -> u64 {
        0
    }
}

#[derive(Default)]
struct Counts(Vec<i64>);

impl SlotCodec for Counts {
    fn reserve(&mut self, slots: usize) {
        self.0.resize(slots, 0);
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        put_varint(zigzag(self.0[slot as usize]), out);
    }

    fn decode(&mut self, slot: u32, mut bytes: &[u8]) -> Result<()> {
        assert_eq!(self.0[slot as usize], 0, "a slot is empty before it is filled");
        self.0[slot as usize] = unzigzag(get_varint(&mut bytes)?);
        Ok(())
    }

    fn clear(&mut self, slot: u32, _key: &[u8]) {
        self.0[slot as usize] = 0;
    }

    fn slot_bytes(&self) -> usize {
        8
    }
}

const TABLE: StateTableId = StateTableId(7);
const KIND: u8 = 3;

/// Keys as window tables have them: an end, then text of varying length.
fn key(end: i64, number: u32) -> Vec<u8> {
    let mut key = vec![1];
    key.extend((end as u64 ^ (1 << 63)).to_be_bytes());
    key.extend(format!("{number:0width$}", width = 1 + number as usize % 9).bytes());
    key
}

struct Run {
    kv: Arc<TestKv>,
    gate: Arc<SpillGate>,
    table: StateTable,
    counts: Counts,
    model: HashMap<Vec<u8>, i64>,
    budget: Option<usize>,
    checkpoint: u64,
    pending: Option<(SortedRun, HashMap<Vec<u8>, i64>)>,
    image: (Entries, HashMap<Vec<u8>, i64>),
}

fn open(kv: &Arc<TestKv>, gate: &Arc<SpillGate>, budget: Option<usize>, restored: bool) -> (StateTable, Counts) {
    let residency = budget.map_or(Residency::Resident, |limit| Residency::Bounded { budget: StateBudget::new(limit) });
    let space = StateSpace::open(TABLE, kv.clone(), gate.clone(), 0, 1, residency, restored).unwrap();
    let mut counts = Counts::default();
    let table = space.table(KIND, TableShape { expiry: true, ordered: true }, &mut counts).unwrap();
    (table, counts)
}

impl Run {
    fn new(budget: Option<usize>) -> Self {
        let (kv, gate) = (Arc::new(TestKv::default()), Arc::new(SpillGate::new()));
        let (table, counts) = open(&kv, &gate, budget, false);
        let image = Default::default();
        Run { kv, gate, table, counts, model: HashMap::new(), budget, checkpoint: 0, pending: None, image }
    }

    fn step(&mut self, rng: &mut StdRng, rows: usize, keys: u32) {
        for _ in 0..rng.random_range(1..3) {
            let mut batch = KeyRows::default();
            for _ in 0..rows {
                batch.push(&[&key(rng.random_range(0..4), rng.random_range(0..keys))]);
            }
            let mut slots = Vec::new();
            self.table.intern(&batch, Shards::OfKey, &mut self.counts, &mut slots).unwrap();
            for (row, slot) in slots.iter().enumerate() {
                assert_eq!(self.table.key(*slot), batch.row(row));
                let model = self.model.entry(batch.row(row).to_vec()).or_default();
                assert_eq!(self.counts.0[*slot as usize], *model, "the value that the key had");
                let change = if *model > 0 && rng.random_bool(0.4) { -*model } else { rng.random_range(0..3) };
                *model += change;
                self.counts.0[*slot as usize] += change;
                if change != 0 {
                    self.table.mark_dirty(*slot);
                }
            }
            slots.sort_unstable();
            slots.dedup();
            for slot in slots.into_iter().filter(|s| self.counts.0[*s as usize] == 0).collect::<Vec<_>>() {
                self.table.remove(slot, &mut self.counts);
            }
            self.model.retain(|_, count| *count != 0);
        }
        self.table.maintain(&mut self.counts).unwrap();
        if let Some(budget) = self.budget
            && self.gate.pending().is_none()
        {
            assert!(self.table.bytes(&self.counts) <= budget, "no checkpoint pending, so memory is in bounds");
        }
    }

    fn close_first_window(&mut self) {
        let Some(end) = self.table.first_end() else { return assert!(self.model.is_empty()) };
        let mut found = HashMap::new();
        loop {
            for slot in self.table.window_slots(end) {
                assert!(found.insert(self.table.key(slot).to_vec(), self.counts.0[slot as usize]).is_none());
                self.table.remove(slot, &mut self.counts);
            }
            if !self.table.load_window(end, &mut self.counts).unwrap() {
                break;
            }
        }
        let closed = |k: &Vec<u8>| k[..9] == key(end, 0)[..9];
        let expected: HashMap<_, _> = self.model.extract_if(|k, _| closed(k)).collect();
        assert_eq!(found, expected, "the entries of window {end}");
        self.table.maintain(&mut self.counts).unwrap();
    }

    fn check_order(&mut self, rng: &mut StdRng) {
        let start = key(rng.random_range(0..4), rng.random_range(0..50));
        let shard = vshard(hash64(&start));
        // A group's entries share a shard in real tables; here those of the shard are the group.
        let expected =
            self.model.keys().filter(|k| k.starts_with(&start[..9]) && **k >= start && vshard(hash64(k)) == shard).min().cloned();
        let counts = &self.counts.0;
        let shards: Vec<u8> = (0..self.table.slots()).map(|s| self.table.shard(s as u32)).collect();
        let found = self.table.first_from(&start[..9], &start, shard, |s| counts[s as usize] != 0 && shards[s as usize] == shard).unwrap();
        assert_eq!(found, expected);
    }

    fn freeze(&mut self) {
        if self.pending.is_some() {
            return;
        }
        self.checkpoint += 1;
        self.gate.begin(self.checkpoint).unwrap();
        let run = self.table.freeze(&mut self.counts).unwrap();
        self.pending = Some((run, self.model.clone()));
    }

    fn finish_checkpoint(&mut self, rng: &mut StdRng) {
        let Some((mut run, model)) = self.pending.take() else { return };
        if rng.random_bool(0.2) {
            return self.gate.give_up(self.checkpoint);
        }
        run.sort();
        let ingested = self.gate.ingest(self.checkpoint, || self.kv.ingest(vec![(TABLE, run)])).unwrap();
        if rng.random_bool(0.2) {
            return self.gate.give_up(self.checkpoint);
        }
        if rng.random_bool(0.5) {
            self.step(rng, 10, 50);
        }
        let mut image = None;
        let imaged = self.gate.image(self.checkpoint, || {
            image = Some(self.kv.0.lock().clone());
            Ok(())
        });
        if imaged.unwrap() {
            assert!(ingested);
            self.image = (image.unwrap(), model);
        }
    }

    fn crash(&mut self) {
        self.gate.give_up(self.checkpoint);
        self.pending = None;
        *self.kv.0.lock() = self.image.0.clone();
        self.gate = Arc::new(SpillGate::new());
        (self.table, self.counts) = open(&self.kv, &self.gate, self.budget, true);
        self.model = self.image.1.clone();
    }
}

fn random_run(seed: u64, budget: Option<usize>) -> StateCounters {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut run = Run::new(budget);
    let mut counters = StateCounters::default();
    let keys = [20, 200, 2000][rng.random_range(0..3)];
    for _ in 0..60 {
        match rng.random_range(0..20) {
            0..=11 => {
                let rows = [1, 30, 300][rng.random_range(0..3)];
                run.step(&mut rng, rows, keys);
            }
            12..=13 => run.freeze(),
            14..=15 => run.finish_checkpoint(&mut rng),
            16 => run.close_first_window(),
            17..=18 => run.check_order(&mut rng),
            _ => {
                counters += run.table.counters();
                run.crash();
            }
        }
    }
    while !run.model.is_empty() {
        run.close_first_window();
    }
    counters += run.table.counters();
    counters
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn behaves_like_a_map(seed in any::<u64>(), budget in prop_oneof![Just(None), Just(Some(12_000)), Just(Some(30_000)), Just(Some(1 << 20))]) {
        random_run(seed, budget);
    }
}

#[test]
fn small_budgets_evict_fetch_and_spill() {
    let mut counters = StateCounters::default();
    (0..40).for_each(|seed| counters += random_run(seed, Some(12_000)));
    assert!(counters.evictions > 1000 && counters.fetched > 1000 && counters.spills > 10, "{counters:?}");
}

#[test]
fn a_table_that_may_not_spill_abandons_the_checkpoint_but_not_forever() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut run = Run::new(Some(12_000));
    let mut abandoned = 0;
    for _ in 0..4 {
        run.pending = None;
        run.freeze();
        for _ in 0..20 {
            run.step(&mut rng, 300, 2000);
        }
        abandoned += run.gate.pending().is_none() as u32;
    }
    assert_eq!(abandoned, 3);
    assert!(run.gate.pressed());
    let (mut frozen, _) = run.pending.take().unwrap();
    frozen.sort();
    assert!(run.gate.ingest(run.checkpoint, || run.kv.ingest(vec![(TABLE, frozen)])).unwrap());
    assert!(run.gate.image(run.checkpoint, || Ok(())).unwrap());
    assert!(!run.gate.pressed());
    run.step(&mut rng, 1, 2000);
}

#[test]
fn an_abandoned_checkpoint_is_neither_ingested_nor_imaged() {
    let gate = SpillGate::new();
    gate.begin(5).unwrap();
    assert!(gate.abandon(5));
    let never = || panic!("the checkpoint is gone");
    assert!(!gate.ingest(5, never).unwrap());
    assert_eq!(gate.outcome(5), Outcome::Abandoned);
    gate.begin(6).unwrap();
    assert!(gate.begin(7).is_err(), "one checkpoint at a time");
    assert!(gate.ingest(6, || Err(SqlError::io("disk full"))).is_err());
    assert_eq!(gate.outcome(6), Outcome::Abandoned);
    gate.begin(7).unwrap();
    assert!(gate.ingest(7, || Ok(())).unwrap());
    assert!(!gate.may_spill(Some(7)), "the image is still to be taken");
    assert!(gate.may_spill(Some(6)), "a table not frozen for it may");
    gate.give_up(7);
    assert!(!gate.image(7, never).unwrap());
    assert_eq!(gate.outcome(7), Outcome::Ingested);
}

#[test]
fn new_state_removes_leftovers_of_its_own_shards_only() {
    let kv = Arc::new(TestKv::default());
    let run: SortedRun = (0..VSHARDS).map(|shard| ([shard as u8, KIND, 9], Some([1]))).collect();
    kv.ingest(vec![(TABLE, run)]).unwrap();
    StateSpace::open(TABLE, kv.clone(), Arc::default(), 1, 2, Residency::Resident, false).unwrap();
    let left: Vec<u8> = kv.0.lock().keys().map(|(_, key)| key[0]).collect();
    assert_eq!(left, (0..128).collect::<Vec<u8>>());
}

#[test]
fn numbers_survive_their_encoding() {
    for value in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
        let mut bytes = Vec::new();
        put_varint(zigzag(value), &mut bytes);
        put_varint_u128(zigzag128(value as i128 * i64::MAX as i128), &mut bytes);
        let mut rest = bytes.as_slice();
        assert_eq!(unzigzag(get_varint(&mut rest).unwrap()), value);
        assert_eq!(unzigzag128(get_varint_u128(&mut rest).unwrap()), value as i128 * i64::MAX as i128);
        assert!(rest.is_empty());
        assert!(get_varint(&mut rest).is_err());
    }
    for value in [i128::MIN, i128::MAX] {
        assert_eq!(unzigzag128(zigzag128(value)), value);
    }
}

/// Fills a table with keys of its own, one step each time.
fn fill(table: &mut StateTable, counts: &mut Counts, keys: std::ops::Range<u32>) {
    let mut batch = KeyRows::default();
    keys.for_each(|number| batch.push(&[&key(0, number)]));
    let mut slots = Vec::new();
    table.intern(&batch, Shards::OfKey, counts, &mut slots).unwrap();
    for slot in slots {
        counts.0[slot as usize] += 1;
        table.mark_dirty(slot);
    }
    table.maintain(counts).unwrap();
}

#[test]
fn tables_of_different_jobs_share_one_budget() {
    const LIMIT: usize = 400_000;
    let (kv, gate, budget) = (Arc::new(TestKv::default()), Arc::new(SpillGate::new()), StateBudget::new(LIMIT));
    let open = |id| {
        let residency = Residency::Bounded { budget: budget.clone() };
        let space = StateSpace::open(StateTableId(id), kv.clone(), gate.clone(), 0, 1, residency, false).unwrap();
        let mut counts = Counts::default();
        let table = space.table(KIND, TableShape::default(), &mut counts).unwrap();
        (table, counts)
    };
    let (mut large, mut large_counts) = open(1);
    let (mut small, mut small_counts) = open(2);
    let (mut late, mut late_counts) = open(3);
    fill(&mut small, &mut small_counts, 0..500);
    let small_bytes = small.bytes(&small_counts);
    for step in 0..20 {
        fill(&mut large, &mut large_counts, step * 1000..(step + 1) * 1000);
        assert!(!budget.is_exceeded());
    }
    assert!(large.counters().evictions > 0 && large.bytes(&large_counts) > LIMIT / 2, "it may have what the others do not use");
    for step in 0..20 {
        fill(&mut late, &mut late_counts, step * 1000..(step + 1) * 1000);
    }
    // The one that rests gives back when it is asked.
    large.maintain(&mut large_counts).unwrap();
    late.maintain(&mut late_counts).unwrap();
    assert!(!budget.is_exceeded());
    assert!(late.bytes(&late_counts) >= LIMIT / 4, "every table gets its share");
    assert_eq!((small.bytes(&small_counts), small.counters().evictions), (small_bytes, 0), "who has little is left alone");
    assert_eq!(budget.used_bytes(), [large.bytes(&large_counts), late.bytes(&late_counts), small_bytes].iter().sum::<usize>());
    drop((large, small, late));
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn a_spill_without_room_keeps_everything_and_is_tried_again() {
    const LIMIT: usize = 100_000;
    let (kv, gate) = (Arc::new(TestKv::default()), Arc::new(SpillGate::new()));
    let (mut table, mut counts) = open(&kv, &gate, Some(LIMIT), false);
    fill(&mut table, &mut counts, 0..100);
    assert!(!gate.pressed());
    kv.set_full(true);
    for _ in 0..3 {
        fill(&mut table, &mut counts, 0..5000);
        assert!(gate.is_held() && gate.pressed(), "no more is begun");
    }
    let gone = table.find(&key(0, 7)).expect("nothing was evicted");
    table.remove(gone, &mut counts);
    counts.0[gone as usize] = 0;
    assert!(table.bytes(&counts) > LIMIT && kv.0.lock().is_empty());
    kv.set_full(false);
    table.maintain(&mut counts).unwrap();
    assert!(!gate.is_held() && !gate.pressed());
    assert!(table.bytes(&counts) <= LIMIT && table.counters().spills == 1);

    // One more for every key, on top of what it had.
    let mut batch = KeyRows::default();
    (0..5000).for_each(|number| batch.push(&[&key(0, number)]));
    let mut slots = Vec::new();
    table.intern(&batch, Shards::OfKey, &mut counts, &mut slots).unwrap();
    for (number, slot) in slots.iter().enumerate() {
        let expected = if number == 7 { 0 } else { 3 + i64::from(number < 100) };
        assert_eq!(counts.0[*slot as usize], expected, "key {number}");
    }

    kv.set_full(true);
    slots.iter().for_each(|slot| table.mark_dirty(*slot));
    table.maintain(&mut counts).unwrap();
    assert!(gate.is_held());
    drop(table);
    assert!(!gate.is_held(), "a table that is dropped waits for nothing");
}
