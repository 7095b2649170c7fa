//! A row multiset against a map from rows to weights: random steps under tiny budgets, with scans and ranges in the middle of
//! steps, freezes, abandoned checkpoints, restores from images and drops by time. Keys with more rows than become resident
//! together are among them.

use super::*;
use crate::state::tests::{Entries, TestKv};
use crate::state::{Residency, SpillGate, StateBudget};
use eddyline_common::key::{hash64, vshard};
use eddyline_common::kv::KeyValueStore;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const TABLE: StateTableId = StateTableId(9);
const STEP_MICROS: i64 = 10;

/// (key, time, row) -> (weight, mark).
type Model = BTreeMap<(u8, i64, u16), (i64, i64)>;

fn key_bytes(key: u8) -> Vec<u8> {
    // Of different lengths, none the beginning of another.
    [vec![key], vec![7; key as usize % 3], vec![0]].concat()
}

fn order_bytes(time: i64) -> Vec<u8> {
    let mut order = vec![1];
    order.extend((time as u64 ^ (1 << 63)).to_be_bytes());
    order
}

fn row_bytes(row: u16) -> Vec<u8> {
    format!("row {row}").into_bytes()
}

fn keys_of(keys: impl IntoIterator<Item = Vec<u8>>) -> KeyRows {
    let mut all = KeyRows::default();
    keys.into_iter().for_each(|key| all.push(&[&key]));
    all
}

struct Run {
    kv: Arc<TestKv>,
    gate: Arc<SpillGate>,
    table: KeyedRows,
    model: Model,
    budget: Option<usize>,
    ordered: bool,
    checkpoint: u64,
    pending: Option<(Vec<(StateTableId, SortedRun)>, Model)>,
    image: (Entries, Model),
}

/// `ordered`: rows are asked for in their order; joins do not.
fn open(kv: &Arc<TestKv>, gate: &Arc<SpillGate>, budget: Option<usize>, ordered: bool, restored: bool) -> KeyedRows {
    let residency = budget.map_or(Residency::Resident, |limit| Residency::Bounded { budget: StateBudget::new(limit) });
    let space = StateSpace::open(TABLE, kv.clone(), gate.clone(), 0, 1, residency, restored).unwrap();
    let shape = RowShape { ordered, marks: true, retention_micros: Some(STEP_MICROS), ..RowShape::default() };
    KeyedRows::open(&space, 4, shape).unwrap()
}

impl Run {
    fn new(budget: Option<usize>, ordered: bool) -> Self {
        let (kv, gate) = (Arc::new(TestKv::default()), Arc::new(SpillGate::new()));
        let table = open(&kv, &gate, budget, ordered, false);
        Run { kv, gate, table, model: Model::new(), budget, ordered, checkpoint: 0, pending: None, image: Default::default() }
    }

    fn heads(&mut self, keys: &[u8]) -> Vec<u32> {
        let mut heads = Vec::new();
        self.table.lookup(&keys_of(keys.iter().map(|k| key_bytes(*k))), Shards::OfKey, &mut heads).unwrap();
        heads
    }

    fn step(&mut self, rng: &mut StdRng, rows: usize) {
        let before = self.model.clone();
        for _ in 0..rng.random_range(1..4) {
            let mut batch = Vec::new();
            for _ in 0..rows {
                let known = self.model.len();
                let row = if known > 0 && rng.random_bool(0.5) {
                    *self.model.keys().nth(rng.random_range(0..known)).unwrap()
                } else {
                    (rng.random_range(0..12u8).min(5), rng.random_range(0..40), rng.random_range(0..4))
                };
                let has = self.model.get(&row).map_or(0, |m| m.0);
                let weight = if has > 0 && rng.random_bool(0.6) { -has } else { rng.random_range(1..3) };
                self.model.entry(row).or_default().0 += weight;
                batch.push((row, weight));
            }
            let keys = keys_of(batch.iter().map(|((k, _, _), _)| key_bytes(*k)));
            let orders = keys_of(batch.iter().map(|((_, t, _), _)| order_bytes(*t)));
            let rows = keys_of(batch.iter().map(|((_, _, r), _)| row_bytes(*r)));
            let weights: Vec<i64> = batch.iter().map(|(_, w)| *w).collect();
            let batch = RowBatch { keys: &keys, orders: Some(&orders), rows: &rows, weights: Some(&weights) };
            self.table.add(batch, Shards::OfKey).unwrap();
        }
        if rng.random_bool(0.5) {
            self.table.forget_unchanged();
        }
        self.check_changes(&before);
        let keys = [rng.random_range(0..7), rng.random_range(0..7)];
        keys.iter().for_each(|key| self.check_scan(*key, &before, rng));
        if self.ordered {
            self.check_range(keys[0], rng);
            self.check_range_back(keys[0], rng);
        }
        if rng.random_bool(0.3) {
            self.take_away(keys[1], rng);
        }
        self.model.retain(|_, (weight, _)| *weight != 0);
        self.table.settle().unwrap();
        if let Some(budget) = self.budget
            && self.gate.pending().is_none()
        {
            assert!(self.table.bytes() <= budget, "{} bytes are in memory and no checkpoint is pending", self.table.bytes());
        }
    }

    /// What the table says has changed, by key.
    fn check_changes(&mut self, before: &Model) {
        let weight_in = |model: &Model, row| model.get(row).map_or(0, |m: &(i64, i64)| m.0);
        let mut seen = BTreeSet::new();
        for touched in self.table.touched_heads() {
            let mut at = touched.first;
            while at != NONE {
                let row = self.table.touched_rows()[at as usize];
                assert_eq!(row.head, touched.head);
                assert!(seen.insert((self.table.key(row.head).to_vec(), at)));
                at = row.next;
            }
            let key = self.table.key(touched.head);
            let sum = |model: &Model| model.iter().filter(|((k, ..), _)| key_bytes(*k) == key).map(|(_, (w, _))| w).sum::<i64>();
            assert_eq!((touched.old_weight, self.table.weight(touched.head)), (sum(before), sum(&self.model)));
            assert_eq!(self.table.old_weight(touched.head), touched.old_weight);
        }
        assert_eq!(seen.len(), self.table.touched_rows().len());
        let changed = self.model.keys().filter(|row| weight_in(before, row) != weight_in(&self.model, row)).count();
        assert!(seen.len() >= changed);
    }

    fn check_scan(&mut self, key: u8, before: &Model, rng: &mut StdRng) {
        let head = self.heads(&[key])[0];
        let mut cursor = self.table.scan(head).unwrap();
        let (mut chunk, mut found) = (RowChunk::default(), BTreeMap::new());
        loop {
            chunk.clear();
            let more = self.table.next_rows(&mut cursor, rng.random_range(1..9), &mut chunk).unwrap();
            let mut marks = Vec::new();
            for at in 0..chunk.len() {
                let (now, old, mark) = (chunk.weights()[at], chunk.old_weights()[at], chunk.marks()[at]);
                if rng.random_bool(0.1) && now != 0 {
                    marks.push((at, mark + 1));
                }
                if now != 0 || old != 0 {
                    assert!(found.insert(chunk.key(at).to_vec(), (now, old, mark)).is_none(), "a row comes once");
                }
            }
            self.table.set_marks(head, &chunk, &marks).unwrap();
            let marked: Vec<Vec<u8>> = marks.iter().map(|(at, _)| chunk.key(*at).to_vec()).collect();
            for ((k, time, row), (_, mark)) in self.model.iter_mut().filter(|((k, ..), _)| *k == key) {
                let bytes = [key_bytes(*k), order_bytes(*time), row_bytes(*row)].concat();
                if marked.contains(&bytes) {
                    *mark += 1;
                    found.get_mut(&bytes).unwrap().2 += 1;
                }
            }
            if !more {
                break;
            }
        }
        let mut expected = BTreeMap::new();
        for ((k, time, row), (weight, mark)) in self.model.iter().filter(|((k, ..), _)| *k == key) {
            let old = before.get(&(*k, *time, *row)).map_or(0, |m| m.0);
            if *weight != 0 || old != 0 {
                expected.insert([key_bytes(*k), order_bytes(*time), row_bytes(*row)].concat(), (*weight, old, *mark));
            }
        }
        assert_eq!(found, expected);
    }

    /// Some of a key's rows go, wherever they are.
    fn take_away(&mut self, key: u8, rng: &mut StdRng) {
        let head = self.heads(&[key])[0];
        let mut cursor = self.table.scan(head).unwrap();
        let mut chunk = RowChunk::default();
        while self.table.next_rows(&mut cursor, 7, &mut chunk).unwrap() {}
        let rows: Vec<usize> = (0..chunk.len()).filter(|_| rng.random_bool(0.4)).collect();
        self.table.take_away(head, &chunk, &rows).unwrap();
        let gone: BTreeSet<&[u8]> = rows.iter().map(|at| chunk.key(*at)).collect();
        for ((k, time, row), (weight, _)) in &mut self.model {
            if gone.contains([key_bytes(*k), order_bytes(*time), row_bytes(*row)].concat().as_slice()) {
                *weight = 0;
            }
        }
        let left = self.model.iter().filter(|((k, ..), _)| *k == key).map(|(_, (weight, _))| weight).sum::<i64>();
        assert_eq!(self.table.weight(head), left);
    }

    fn check_range(&mut self, key: u8, rng: &mut StdRng) {
        let head = self.heads(&[key])[0];
        let (time, limit) = (rng.random_range(0..40), rng.random_range(1..12));
        let start = order_bytes(time);
        let mut rows = Vec::new();
        let mut from = start.clone();
        // Pages, so that rows that are gone do not matter.
        loop {
            let mut page = RowChunk::default();
            self.table.range(head, &from, limit, &mut page).unwrap();
            rows.extend((0..page.len()).filter(|at| page.weights()[*at] != 0).map(|at| (page.key(at).to_vec(), page.row(at).to_vec())));
            if page.len() < limit {
                break;
            }
            let last = page.key(page.len() - 1);
            from = [&last[key_bytes(key).len()..], &[0]].concat();
        }
        let live = self.model.iter().filter(|((k, t, _), (w, _))| *k == key && *t >= time && *w != 0);
        let mut expected: Vec<_> =
            live.map(|((k, t, r), _)| ([key_bytes(*k), order_bytes(*t), row_bytes(*r)].concat(), row_bytes(*r))).collect();
        expected.sort();
        assert_eq!(rows, expected);
    }

    fn check_range_back(&mut self, key: u8, rng: &mut StdRng) {
        let head = self.heads(&[key])[0];
        let (time, limit) = (rng.random_range(0..41), rng.random_range(1..12));
        let (mut rows, mut end) = (Vec::new(), order_bytes(time));
        loop {
            let mut page = RowChunk::default();
            self.table.range_back(head, &end, limit, &mut page).unwrap();
            rows.extend((0..page.len()).filter(|at| page.weights()[*at] != 0).map(|at| page.key(at).to_vec()));
            if page.len() < limit {
                break;
            }
            end = page.key(page.len() - 1)[key_bytes(key).len()..].to_vec();
        }
        let live = self.model.iter().filter(|((k, t, _), (w, _))| *k == key && *t < time && *w != 0);
        let mut expected: Vec<_> = live.map(|((k, t, r), _)| [key_bytes(*k), order_bytes(*t), row_bytes(*r)].concat()).collect();
        expected.sort();
        expected.reverse();
        assert_eq!(rows, expected);
    }

    fn drop_key(&mut self, key: u8) {
        let bytes = key_bytes(key);
        self.table.drop_key(&bytes, vshard(hash64(&bytes))).unwrap();
        self.model.retain(|(k, ..), _| *k != key);
    }

    fn drop_before(&mut self, time: i64) {
        self.table.drop_before(time).unwrap();
        let bound = time.div_euclid(STEP_MICROS) * STEP_MICROS;
        self.model.retain(|(_, t, _), _| *t >= bound);
    }

    fn freeze(&mut self) {
        if self.pending.is_none() {
            self.checkpoint += 1;
            self.gate.begin(self.checkpoint).unwrap();
            self.pending = Some((self.table.freeze().unwrap(), self.model.clone()));
        }
    }

    fn finish_checkpoint(&mut self, rng: &mut StdRng) {
        let Some((runs, model)) = self.pending.take() else { return };
        if rng.random_bool(0.2) {
            return self.gate.give_up(self.checkpoint);
        }
        self.gate.ingest(self.checkpoint, || self.kv.ingest(SortedRun::merge(runs))).unwrap();
        let mut image = None;
        let imaged = self.gate.image(self.checkpoint, || {
            image = Some(self.kv.0.lock().clone());
            Ok(())
        });
        if imaged.unwrap() {
            self.image = (image.unwrap(), model);
        }
    }

    fn crash(&mut self) {
        self.gate.give_up(self.checkpoint);
        self.pending = None;
        *self.kv.0.lock() = self.image.0.clone();
        self.gate = Arc::new(SpillGate::new());
        self.table = open(&self.kv, &self.gate, self.budget, self.ordered, true);
        self.model = self.image.1.clone();
    }
}

fn random_run(seed: u64, budget: Option<usize>) -> StateCounters {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut run = Run::new(budget, rng.random_bool(0.7));
    let mut counters = StateCounters::default();
    for _ in 0..60 {
        match rng.random_range(0..21) {
            0..=12 => {
                let rows = [1, 10, 60][rng.random_range(0..3)];
                run.step(&mut rng, rows);
            }
            13..=14 => run.freeze(),
            15..=16 => run.finish_checkpoint(&mut rng),
            17 => run.drop_before(rng.random_range(0..45)),
            18 => run.drop_key(rng.random_range(0..6)),
            _ => {
                counters += run.table.counters();
                run.crash();
            }
        }
    }
    run.drop_before(50);
    assert!(run.model.is_empty());
    assert_eq!(run.heads(&[0, 1, 2, 3, 4, 5]), vec![NO_SLOT; 6], "keys without rows have no head");
    counters += run.table.counters();
    counters
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn behaves_like_a_multiset(seed in any::<u64>(), budget in prop_oneof![Just(None), Just(Some(25_000)), Just(Some(1 << 20))]) {
        random_run(seed, budget);
    }
}

#[test]
fn small_budgets_evict_fetch_and_spill() {
    let mut counters = StateCounters::default();
    (0..30).for_each(|seed| counters += random_run(seed, Some(25_000)));
    assert!(counters.evictions > 1000 && counters.fetched > 1000 && counters.spills > 10, "{counters:?}");
}

#[test]
fn a_step_on_a_key_of_many_rows_writes_what_changed() {
    let mut run = Run::new(Some(60_000), true);
    let add = |table: &mut KeyedRows, rows: std::ops::Range<u16>| {
        let keys = keys_of(rows.clone().map(|_| key_bytes(1)));
        let orders = keys_of(rows.clone().map(|row| order_bytes(row as i64)));
        let bytes = keys_of(rows.map(row_bytes));
        table.add(RowBatch { keys: &keys, orders: Some(&orders), rows: &bytes, weights: None }, Shards::OfKey).unwrap();
        table.settle().unwrap();
    };
    for step in 0..20 {
        add(&mut run.table, step * 500..(step + 1) * 500);
        assert!(run.table.bytes() <= 60_000);
    }
    run.freeze();
    let runs = run.pending.take().unwrap().0;
    run.gate.ingest(1, || run.kv.ingest(SortedRun::merge(runs))).unwrap();
    run.gate.image(1, || Ok(())).unwrap();
    add(&mut run.table, 20_000..20_003);
    run.freeze();
    let written: usize = run.pending.take().unwrap().0.iter().map(|(_, run)| run.len()).sum();
    assert_eq!(written, 3 + 1 + 1, "three rows, their head and the span of their times");
    run.gate.give_up(2);
    let head = run.heads(&[1])[0];
    assert_eq!(run.table.row_count(head), 10_003);
    let (mut cursor, mut chunk, mut rows) = (run.table.scan(head).unwrap(), RowChunk::default(), 0);
    while run.table.next_rows(&mut cursor, 100, &mut chunk).unwrap() {
        rows += std::mem::take(&mut chunk).len();
    }
    assert_eq!(rows + chunk.len(), 10_003);
    run.table.settle().unwrap();
    assert!(run.table.bytes() <= 60_000, "what was read does not stay");
}

#[test]
fn windows_are_dropped_as_a_whole() {
    for budget in [None, Some(20_000)] {
        let (kv, gate) = (Arc::new(TestKv::default()), Arc::new(SpillGate::new()));
        let residency = budget.map_or(Residency::Resident, |limit| Residency::Bounded { budget: StateBudget::new(limit) });
        let space = StateSpace::open(TABLE, kv, gate, 0, 1, residency, false).unwrap();
        let mut table = KeyedRows::open(&space, 0, RowShape { expiry: true, ..RowShape::default() }).unwrap();
        for end in [10, 20, 30] {
            let keys = keys_of((0..300u16).map(|i| [order_bytes(end), vec![(i % 50) as u8]].concat()));
            let rows = keys_of((0..300u16).map(row_bytes));
            table.add(RowBatch { keys: &keys, orders: None, rows: &rows, weights: None }, Shards::OfKey).unwrap();
            table.settle().unwrap();
        }
        assert_eq!(table.first_window(), Some(10));
        table.drop_windows(20).unwrap();
        assert_eq!(table.first_window(), Some(30));
        let probe = keys_of([10, 20, 30].map(|end| [order_bytes(end), vec![7]].concat()));
        let mut heads = Vec::new();
        table.lookup(&probe, Shards::Of(&|row| vshard(hash64(probe.row(row)))), &mut heads).unwrap();
        assert_eq!((heads[0], heads[1], table.row_count(heads[2])), (NO_SLOT, NO_SLOT, 6));
        table.settle().unwrap();
    }
}
