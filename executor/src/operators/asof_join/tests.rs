//! The ASOF join against a search through everything at every step: every comparison, inner and left, with and without a condition, bounded by a watermark or
//! not, over inputs that change, in memory and on a store with next to no cache, with checkpoints, kills and restores in between. Pages are so small here
//! that every stretch and every search has many.

use super::*;
use crate::engine::StateBackend;
use crate::testing::{binary, changes_of, column, image, int, net, split};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{Epoch, SqlType};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_storage::kv::MemoryKv;
use eddyline_storage::state::{SpillGate, StateBudget};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

/// (key, time, value).
type Row = Vec<Option<i64>>;
type Bag = BTreeMap<Row, i64>;

#[derive(Clone, Copy, Debug)]
struct Setup {
    kind: JoinKind,
    compared: BinaryOp,
    /// left.v > 1
    condition: bool,
    bounded: bool,
    retract: bool,
    cache_bytes: Option<usize>,
    /// Rows may have been forgotten below.
    forgetful: bool,
}

fn columns() -> Vec<Column> {
    let types = [SqlType::BigInt, SqlType::Timestamp, SqlType::BigInt];
    ["k", "ts", "v"].iter().zip(types).map(|(name, ty)| Column::new(*name, ty, true)).collect()
}

fn qualifies(setup: &Setup, left: &Row, right: &Row) -> bool {
    let (Some(l), Some(r)) = (left[1], right[1]) else { return false };
    let compared = match setup.compared {
        BinaryOp::GtEq => l >= r,
        BinaryOp::Gt => l > r,
        BinaryOp::LtEq => l <= r,
        _ => l < r,
    };
    compared && left[0].is_some() && left[0] == right[0] && (!setup.condition || left[2] > Some(1))
}

/// What the join of two bags is.
fn searched(setup: &Setup, left: &Bag, right: &Bag) -> Bag {
    let place = |row: &&Row| (row[1], row[2].is_none(), row[2]);
    let mut out = Bag::new();
    for (l, weight) in left {
        let all = right.keys().filter(|r| qualifies(setup, l, r));
        let nearest = match setup.compared {
            BinaryOp::GtEq | BinaryOp::Gt => all.max_by_key(place),
            _ => all.min_by_key(place),
        };
        match nearest {
            Some(r) => *out.entry([l.clone(), r.clone()].concat()).or_default() += weight,
            None if setup.kind == JoinKind::Left => *out.entry([l.clone(), vec![None; 3]].concat()).or_default() += weight,
            None => {}
        }
    }
    out
}

fn to_batch(rows: &[(Row, i64)], weighted: bool) -> ChangeBatch {
    let values = |c: usize| rows.iter().map(move |(row, _)| row[c]);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(values(0))),
        Arc::new(TimestampMicrosecondArray::from_iter(values(1))),
        Arc::new(Int64Array::from_iter(values(2))),
    ];
    let batch = RecordBatch::try_new(arrow_schema(&columns()), arrays).unwrap();
    let weights = Int64Array::from_iter_values(rows.iter().map(|(_, w)| *w));
    if weighted { ChangeBatch::with_weights(batch, weights) } else { ChangeBatch::insertions(batch) }
}

fn values_of(array: &ArrayRef) -> Vec<Option<i64>> {
    match array.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) => times.iter().collect(),
        None => array.as_primitive::<Int64Type>().iter().collect(),
    }
}

struct Harness {
    setup: Setup,
    rng: StdRng,
    kv: Arc<MemoryKv>,
    gate: Arc<SpillGate>,
    join: Box<AsofJoin>,
    now: NowHandle,
    bags: [Bag; 2],
    watermark: i64,
    view: Bag,
    checkpoint: u64,
    image: Option<(tempfile::TempDir, [Bag; 2], Bag, i64)>,
    steps: usize,
    pieces: usize,
}

fn open(setup: &Setup, kv: &Arc<MemoryKv>, gate: &Arc<SpillGate>, now: &NowHandle, restore: bool) -> Box<AsofJoin> {
    let condition = binary(BinaryOp::Gt, column(2), int(1));
    let input = arrow_schema(&columns());
    let mode = if setup.retract { ChangelogMode::Retract } else { ChangelogMode::Append };
    let backend = if setup.cache_bytes.is_some() { StateBackend::Rocksdb } else { StateBackend::Memory };
    AsofJoin::new(AsofJoinSpec {
        kind: setup.kind,
        keys: [vec![0], vec![0]],
        condition: setup.condition.then_some(&condition),
        places: [1, 1],
        compared: setup.compared,
        order: vec![2],
        bounded: setup.bounded,
        inputs: [input.clone(), input],
        input_modes: [mode, mode],
        output: arrow_schema(&[columns(), columns()].concat()),
        routing: [vec![0], vec![0]],
        now,
        state: StateSpec {
            table: StateTableId(5),
            worker: 0,
            workers: 1,
            kv: kv.clone(),
            backend,
            budget: StateBudget::new(setup.cache_bytes.unwrap_or(usize::MAX)),
            gate: gate.clone(),
            restore,
            ttl: [None; 2],
            forgetful: setup.forgetful,
        },
    })
    .unwrap()
}

impl Harness {
    fn new(setup: Setup, seed: u64) -> Self {
        let (kv, gate, now) = (Arc::new(MemoryKv::new()), Arc::new(SpillGate::new()), NowHandle::default());
        let join = open(&setup, &kv, &gate, &now, false);
        let (rng, bags) = (StdRng::seed_from_u64(seed), Default::default());
        Harness { setup, rng, kv, gate, join, now, bags, watermark: 0, view: Bag::new(), checkpoint: 0, image: None, steps: 0, pieces: 0 }
    }

    fn row(&mut self) -> Row {
        let some = |rng: &mut StdRng| rng.random_bool(0.9);
        let key = some(&mut self.rng).then(|| self.rng.random_range(0..3));
        let time = self.watermark + self.rng.random_range(0..if self.setup.bounded { 12 } else { 40 });
        let value = some(&mut self.rng).then(|| self.rng.random_range(0..4));
        vec![key, some(&mut self.rng).then_some(time), value]
    }

    fn changes(&mut self, side: usize) -> Vec<(Row, i64)> {
        let mut changes = Vec::new();
        for _ in 0..self.rng.random_range(0..9) {
            let is_final = |row: &Row| self.setup.bounded && row[1].is_some_and(|time| time < self.watermark);
            let open: Vec<Row> = self.bags[side].keys().filter(|row| !is_final(row)).cloned().collect();
            if self.setup.retract && !open.is_empty() && self.rng.random_bool(0.5) {
                let row = open[self.rng.random_range(0..open.len())].clone();
                // Some come back at once.
                if self.rng.random_bool(0.2) {
                    changes.extend([(row.clone(), -1), (row, 1)]);
                    continue;
                }
                let weight = self.bags[side].remove(&row).unwrap_or(0);
                changes.push((row, -weight));
            } else {
                let row = self.row();
                *self.bags[side].entry(row.clone()).or_default() += 1;
                changes.push((row, 1));
            }
        }
        changes
    }

    fn step(&mut self) {
        let mut ctx = StepContext::new(Epoch(1), Timestamp(0), Timestamp(self.watermark), ErrorPolicy::Reject);
        for side in 0..2 {
            let changes = self.changes(side);
            if changes.is_empty() {
                continue;
            }
            let arrival_watermark = Timestamp(self.watermark);
            let batch = TaggedBatch { changes: to_batch(&changes, self.setup.retract), arrival_watermark, now: Timestamp(0) };
            for piece in split(batch, self.rng.random()) {
                self.join.push(side, piece, &mut ctx).unwrap();
            }
        }
        self.watermark += if self.setup.bounded { self.rng.random_range(0..6) } else { 0 };
        self.steps += 1;
        let mut changed = Bag::new();
        loop {
            self.join.finish(Timestamp(self.watermark), &mut ctx).unwrap();
            for batch in ctx.take_output() {
                let columns: Vec<_> = batch.changes.rows.columns().iter().map(values_of).collect();
                for row in 0..batch.changes.num_rows() {
                    let weight = batch.changes.weight(row);
                    let values: Row = columns.iter().map(|c| c[row]).collect();
                    let before = changed.insert(values.clone(), weight);
                    assert!(weight != 0 && before.is_none_or(|before| before.signum() == weight.signum()), "not net: {:?}", self.setup);
                    *self.view.entry(values).or_default() += weight;
                }
            }
            self.pieces += 1;
            if !self.join.unfinished() {
                break;
            }
        }
        self.view.retain(|_, weight| *weight != 0);
        assert!(ctx.take_late().is_empty());
        assert_eq!(self.view, searched(&self.setup, &self.bags[0], &self.bags[1]), "{:?}", self.setup);
    }

    fn checkpoint(&mut self) {
        self.checkpoint += 1;
        self.gate.begin(self.checkpoint).unwrap();
        let runs = self.join.freeze().unwrap();
        let dir = image(&self.kv, &self.gate, self.checkpoint, runs);
        self.image = Some((dir, self.bags.clone(), self.view.clone(), self.watermark));
    }

    fn kill(&mut self) {
        let Some((dir, bags, view, watermark)) = &self.image else { return };
        self.kv = Arc::new(MemoryKv::open(&dir.path().join("image")).unwrap());
        self.gate = Arc::new(SpillGate::new());
        self.checkpoint = 0;
        (self.bags, self.view, self.watermark) = (bags.clone(), view.clone(), *watermark);
        self.join = open(&self.setup, &self.kv, &self.gate, &self.now, true);
    }

    /// Rows in the state of each side.
    fn held(&mut self) -> [u64; 2] {
        [0, 1].map(|side| {
            let rows = &mut self.join.sides[side].rows;
            let mut keys = KeyRows::default();
            (0..3i64).for_each(|key| keys.push(&[&[1], &(key as u64 ^ (1 << 63)).to_be_bytes()]));
            let mut heads = Vec::new();
            rows.lookup(&keys, Shards::OfKey, &mut heads).unwrap();
            heads.into_iter().map(|head| rows.row_count(head)).sum()
        })
    }
}

fn random_runs(bounded: bool, comparisons: &[BinaryOp]) {
    let (mut steps, mut pieces, mut evictions) = (0, 0, 0);
    for (number, compared) in comparisons.iter().enumerate() {
        for variant in 0..16u64 {
            let bit = |bit: u64| variant >> bit & 1 == 1;
            let kind = if bit(0) { JoinKind::Left } else { JoinKind::Inner };
            let cache_bytes = bit(3).then_some(1_000);
            let setup = Setup { kind, compared: *compared, condition: bit(1), bounded, retract: bit(2), cache_bytes, forgetful: false };
            let mut run = Harness::new(setup, 1000 * number as u64 + variant);
            for _ in 0..40 {
                match run.rng.random_range(0..20) {
                    0..=15 => run.step(),
                    16..=18 => run.checkpoint(),
                    _ => run.kill(),
                }
            }
            steps += run.steps;
            pieces += run.pieces;
            evictions += run.join.sides.iter().map(|side| side.rows.counters().evictions).sum::<u64>();
        }
    }
    assert!(evictions > 0, "state left memory");
    assert!(pieces > steps, "{steps} steps ended in {pieces} pieces");
}

#[test]
fn every_comparison_is_what_a_search_gives() {
    random_runs(false, &[BinaryOp::GtEq, BinaryOp::Gt, BinaryOp::LtEq, BinaryOp::Lt]);
}

#[test]
fn what_is_behind_the_watermark_is_not_missed() {
    random_runs(true, &[BinaryOp::GtEq, BinaryOp::Gt]);
}

fn bounded(cache_bytes: Option<usize>) -> Setup {
    Setup { kind: JoinKind::Left, compared: BinaryOp::GtEq, condition: false, bounded: true, retract: true, cache_bytes, forgetful: false }
}

/// Of each key one right row stays behind the watermark, of which there are spans that are not over yet.
#[test]
fn a_watermark_bounds_both_sides() {
    for cache_bytes in [None, Some(3_000)] {
        let mut run = Harness::new(bounded(cache_bytes), 5);
        (0..60).for_each(|_| run.step());
        run.watermark += 100;
        let mut ctx = StepContext::new(Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Reject);
        run.join.finish(Timestamp(run.watermark), &mut ctx).unwrap();
        let [left, right] = run.held();
        assert!(left == 0 && right <= 3, "{left} left and {right} right rows of three keys");
        // The last right rows are the nearest ones of what is to come.
        (0..10).for_each(|_| run.step());
    }
}

#[test]
fn rows_and_retractions_behind_the_watermark_are_late() {
    let mut run = Harness::new(bounded(None), 6);
    let mut ctx = StepContext::new(Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Reject);
    let late = |side: usize, time: i64, weight: i64, join: &mut AsofJoin, ctx: &mut StepContext| {
        let changes = to_batch(&[(vec![Some(1), Some(time), Some(0)], weight)], true);
        join.push(side, TaggedBatch { changes, arrival_watermark: Timestamp(10), now: Timestamp(0) }, ctx).unwrap();
        ctx.take_late().iter().map(|changes| changes.weight(0)).collect::<Vec<_>>()
    };
    for side in 0..2 {
        assert_eq!(late(side, 9, 1, &mut run.join, &mut ctx), [1]);
        assert_eq!(late(side, 9, -1, &mut run.join, &mut ctx), [-1]);
        assert!(late(side, 10, 1, &mut run.join, &mut ctx).is_empty());
    }
    run.join.finish(Timestamp(10), &mut ctx).unwrap();
    assert_eq!(ctx.take_output().iter().map(|batch| batch.changes.num_rows()).sum::<usize>(), 1);
}

#[test]
fn what_was_never_there_cannot_be_retracted() {
    let mut run = Harness::new(Setup { bounded: false, ..bounded(None) }, 1);
    let mut ctx = StepContext::new(Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Reject);
    let changes = to_batch(&[(vec![Some(1), Some(1), Some(0)], -1)], true);
    run.join.push(0, TaggedBatch { changes, arrival_watermark: Timestamp(0), now: Timestamp(0) }, &mut ctx).unwrap();
    assert!(run.join.finish(Timestamp(0), &mut ctx).is_err());
}

#[test]
fn what_was_forgotten_below_is_not_taken_back() {
    let mut run = Harness::new(Setup { bounded: false, forgetful: true, ..bounded(None) }, 1);
    let mut ctx = StepContext::new(Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Reject);
    let row = |time: i64, value: i64| vec![Some(1), Some(time), Some(value)];
    let sides = [[(row(5, 0), 1), (row(6, 0), -2)], [(row(4, 7), 1), (row(5, 8), -1)]];
    for (side, changes) in sides.iter().enumerate() {
        let batch = TaggedBatch { changes: to_batch(changes, true), arrival_watermark: Timestamp(0), now: Timestamp(0) };
        run.join.push(side, batch, &mut ctx).unwrap();
    }
    run.join.finish(Timestamp(0), &mut ctx).unwrap();
    let forgotten: Vec<_> = ctx.take_forgotten().iter().flat_map(changes_of).collect();
    assert_eq!(forgotten, [(vec![1, 6, 0], -2), (vec![1, 5, 8], -1)]);
    assert_eq!(net(&ctx.take_output()), [(vec![1, 5, 0, 1, 4, 7], 1)]);
}
