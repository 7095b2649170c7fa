//! Random changes and moments, split at random, against the rows that the spans leave; with checkpoints, kills and a tiny cache.

use super::*;
use crate::engine::StateBackend;
use crate::testing::{image, net, schema, split, weighted};
use eddyline_common::{Epoch, SqlType};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_storage::kv::MemoryKv;
use eddyline_storage::state::{SpillGate, StateBudget};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

type Bag = BTreeMap<Vec<i64>, i64>;

#[derive(Clone, Copy, Debug)]
struct Setup {
    from: bool,
    until: bool,
    retract: bool,
    cache_bytes: Option<usize>,
}

/// (value, when it comes, when it leaves)
fn columns() -> SchemaRef {
    schema(&[("v", SqlType::BigInt), ("a", SqlType::Timestamp), ("b", SqlType::TimestampTz)])
}

struct Harness {
    setup: Setup,
    rng: StdRng,
    kv: Arc<MemoryKv>,
    gate: Arc<SpillGate>,
    filter: Box<TemporalFilter>,
    rows: Bag,
    view: Bag,
    now: i64,
    checkpoints: u64,
    image: Option<(tempfile::TempDir, Bag, Bag, i64)>,
    pieces: usize,
}

fn open(setup: Setup, kv: &Arc<MemoryKv>, gate: &Arc<SpillGate>, restore: bool) -> Box<TemporalFilter> {
    let mode = |append: bool| if append { ChangelogMode::Append } else { ChangelogMode::Retract };
    let bound = |is: bool, column: usize, shift: i64| if is { vec![TimeBound { column, shift }] } else { vec![] };
    TemporalFilter::new(TemporalFilterSpec {
        from: bound(setup.from, 1, 2),
        until: bound(setup.until, 2, -1),
        input: columns(),
        input_mode: mode(!setup.retract),
        output: columns(),
        output_mode: mode(!setup.retract && !setup.until),
        routing: vec![0],
        state: StateSpec {
            table: StateTableId(5),
            worker: 0,
            workers: 1,
            kv: kv.clone(),
            backend: if setup.cache_bytes.is_some() { StateBackend::Rocksdb } else { StateBackend::Memory },
            budget: StateBudget::new(setup.cache_bytes.unwrap_or(usize::MAX)),
            gate: gate.clone(),
            restore,
            ttl: [None; 2],
            forgetful: false,
        },
    })
    .unwrap()
}

impl Harness {
    fn new(setup: Setup, seed: u64) -> Self {
        let (kv, gate) = (Arc::new(MemoryKv::new()), Arc::new(SpillGate::new()));
        let filter = open(setup, &kv, &gate, false);
        let (rng, rows, view) = (StdRng::seed_from_u64(seed), Bag::new(), Bag::new());
        Harness { setup, rng, kv, gate, filter, rows, view, now: 0, checkpoints: 0, image: None, pieces: 0 }
    }

    fn span(&self, row: &[i64]) -> (i64, i64) {
        (if self.setup.from { row[1] + 2 } else { i64::MIN }, if self.setup.until { row[2] - 1 } else { i64::MAX })
    }

    fn expected(&self) -> Bag {
        let shown = |row: &Vec<i64>| (self.span(row).0..self.span(row).1).contains(&self.now);
        self.rows.iter().filter(|(row, _)| shown(row)).map(|(row, weight)| (row.clone(), *weight)).collect()
    }

    fn changes(&mut self) -> Vec<(Vec<i64>, i64)> {
        let mut changes = Vec::new();
        for _ in 0..self.rng.random_range(0..15) {
            let known: Vec<Vec<i64>> = self.rows.keys().cloned().collect();
            if self.setup.retract && !known.is_empty() && self.rng.random_bool(0.5) {
                let row = known[self.rng.random_range(0..known.len())].clone();
                if self.rng.random_bool(0.2) {
                    changes.extend([(row.clone(), -1), (row, 1)]);
                    continue;
                }
                let weight = self.rows.remove(&row).unwrap();
                changes.push((row, -weight));
            } else {
                let from = self.now + self.rng.random_range(-20..20);
                let row = vec![self.rng.random_range(0..3), from, from + self.rng.random_range(-2..40)];
                *self.rows.entry(row.clone()).or_default() += 1;
                changes.push((row, 1));
            }
        }
        changes
    }

    /// A step over some cuts, to the last one's `now`.
    fn step(&mut self) {
        let cuts = self.rng.random_range(1..4);
        let mut batches = Vec::new();
        for _ in 0..cuts {
            self.now += self.rng.random_range(1..8);
            let changes = self.changes();
            if !changes.is_empty() {
                batches.extend(split(weighted(&columns(), &changes, 0), self.rng.random()));
            }
        }
        let mut ctx = StepContext::new(Epoch(1), Timestamp(self.now), Timestamp::MIN, ErrorPolicy::Reject);
        batches.into_iter().for_each(|batch| self.filter.push(0, batch, &mut ctx).unwrap());
        let mut out = Vec::new();
        loop {
            self.filter.finish(Timestamp::MIN, &mut ctx).unwrap();
            self.pieces += 1;
            out.extend(ctx.take_output());
            if !self.filter.unfinished() {
                break;
            }
        }
        assert!(!self.filter.append || out.iter().all(|b| b.changes.weights.is_none()));
        let gross: i64 = out.iter().flat_map(|b| (0..b.changes.num_rows()).map(|row| b.changes.weight(row).abs())).sum();
        let net = net(&out);
        assert_eq!(gross, net.iter().map(|(_, weight)| weight.abs()).sum::<i64>(), "what leaves is net: {:?}", self.setup);
        net.into_iter().for_each(|(row, weight)| *self.view.entry(row).or_default() += weight);
        self.view.retain(|_, weight| *weight != 0);
        assert_eq!(self.view, self.expected(), "{:?} at {}", self.setup, self.now);
        // Until the timer nothing changes, and then something may.
        let moments = self.rows.keys().filter(|row| self.span(row).0 < self.span(row).1).flat_map(|row| {
            let (from, until) = self.span(row);
            [from, until].into_iter().filter(|t| *t > self.now && *t < i64::MAX).min()
        });
        let (first, timer) = (moments.min(), self.filter.next_timer().map(|t| t.0));
        assert!(timer.unwrap_or(i64::MAX) <= first.unwrap_or(i64::MAX), "{timer:?} is after {first:?}");
        if self.setup.cache_bytes.is_none() {
            assert_eq!(timer, first);
        }
    }

    fn checkpoint(&mut self) {
        self.checkpoints += 1;
        self.gate.begin(self.checkpoints).unwrap();
        let runs = self.filter.freeze().unwrap();
        let dir = image(&self.kv, &self.gate, self.checkpoints, runs);
        self.image = Some((dir, self.rows.clone(), self.view.clone(), self.now));
    }

    fn kill(&mut self) {
        let Some((dir, rows, view, now)) = &self.image else { return };
        self.kv = Arc::new(MemoryKv::open(&dir.path().join("image")).unwrap());
        self.gate = Arc::new(SpillGate::new());
        self.checkpoints = 0;
        (self.rows, self.view, self.now) = (rows.clone(), view.clone(), *now);
        self.filter = open(self.setup, &self.kv, &self.gate, true);
    }
}

#[test]
fn rows_are_shown_in_their_time() {
    let (mut steps, mut pieces) = (0, 0);
    for variant in 0..64u64 {
        let bit = |bit: u64| variant >> bit & 1 == 1;
        let (from, until) = if bit(0) && bit(1) { (true, true) } else { (bit(0), !bit(0)) };
        let setup = Setup { from, until, retract: bit(2), cache_bytes: bit(3).then_some(2_000) };
        let mut run = Harness::new(setup, variant);
        for _ in 0..40 {
            match run.rng.random_range(0..20) {
                0..=15 => {
                    run.step();
                    steps += 1;
                }
                16..=18 => run.checkpoint(),
                _ => run.kill(),
            }
        }
        pieces += run.pieces;
    }
    assert!(pieces > steps * 9 / 8, "{steps} steps ended in {pieces} pieces");
}

#[test]
fn nothing_is_kept_of_rows_whose_time_is_over() {
    let setup = Setup { from: true, until: true, retract: true, cache_bytes: None };
    let mut run = Harness::new(setup, 1);
    (0..10).for_each(|_| run.step());
    assert!(run.filter.next_timer().is_some());
    run.now = 1_000;
    let mut ctx = StepContext::new(Epoch(1), Timestamp(run.now), Timestamp::MIN, ErrorPolicy::Reject);
    // A row that is over before it comes, and its retraction.
    let over = weighted(&columns(), &[(vec![1, 10, 20], 2), (vec![1, 11, 21], -1)], 0);
    run.filter.push(0, over, &mut ctx).unwrap();
    while {
        run.filter.finish(Timestamp::MIN, &mut ctx).unwrap();
        run.filter.unfinished()
    } {}
    assert_eq!(run.filter.next_timer(), None);
}

#[test]
fn a_row_without_a_time_is_never_shown() {
    use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
    let setup = Setup { from: true, until: true, retract: false, cache_bytes: None };
    let mut run = Harness::new(setup, 1);
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None, Some(0), Some(0)]));
    let ends: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(90), None, Some(90)]).with_timezone("+00:00"));
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let rows = RecordBatch::try_new(columns(), vec![values, times, ends]).unwrap();
    let mut ctx = StepContext::new(Epoch(1), Timestamp(50), Timestamp::MIN, ErrorPolicy::Reject);
    let batch = TaggedBatch { changes: ChangeBatch::insertions(rows), arrival_watermark: Timestamp::MIN, now: Timestamp(50) };
    run.filter.push(0, batch, &mut ctx).unwrap();
    run.filter.finish(Timestamp::MIN, &mut ctx).unwrap();
    assert_eq!(net(&ctx.take_output()), vec![(vec![3, 0, 90], 1)]);
}
