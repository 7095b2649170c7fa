//! The join against nested loops over everything at every step: all kinds, with and without a residual condition, with nulls
//! that match and that do not, random splitting into batches, in memory and on a store with next to no cache, with
//! checkpoints, kills and restores in between. Pieces are so small here that every scan and every output has many.

use super::*;
use crate::engine::StateBackend;
use crate::testing::{binary, column, image, int, split};
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{ChangeBatch, Epoch, SqlType};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_planner::plan::BinaryOp;
use eddyline_storage::kv::MemoryKv;
use eddyline_storage::state::{SpillGate, StateBudget};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

/// (key, value, window end).
type Row = Vec<Option<i64>>;
type Bag = BTreeMap<Row, i64>;

const KINDS: [JoinKind; 7] =
    [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti, JoinKind::Mark];

#[derive(Clone, Copy, Debug)]
struct Setup {
    kind: JoinKind,
    /// left.v < right.v
    residual: bool,
    nulls_equal: bool,
    windowed: bool,
    retract: bool,
    cache_bytes: Option<usize>,
}

fn columns() -> Vec<Column> {
    let types = [SqlType::BigInt, SqlType::BigInt, SqlType::Timestamp];
    ["k", "v", "e"].iter().zip(types).map(|(name, ty)| Column::new(*name, ty, true)).collect()
}

fn output_columns(kind: JoinKind) -> Vec<Column> {
    match kind {
        JoinKind::Semi | JoinKind::Anti => columns(),
        JoinKind::Mark => [columns(), vec![Column::new("mark", SqlType::Boolean, false)]].concat(),
        _ => [columns(), columns()].concat(),
    }
}

fn matches(setup: &Setup, left: &Row, right: &Row) -> bool {
    let equal = |l: Option<i64>, r: Option<i64>| if l.is_none() || r.is_none() { setup.nulls_equal && l == r } else { l == r };
    let passes = !setup.residual || matches!((left[1], right[1]), (Some(l), Some(r)) if l < r);
    equal(left[0], right[0]) && (!setup.windowed || left[2] == right[2]) && passes
}

/// What the join of two bags is.
fn nested_loops(setup: &Setup, left: &Bag, right: &Bag) -> Bag {
    let mut out = Bag::new();
    let mut add = |row: Row, weight: i64| *out.entry(row).or_default() += weight;
    let nothing = || vec![None; 3];
    for (l, lw) in left {
        let matching: i64 = right.iter().filter(|(r, _)| matches(setup, l, r)).map(|(_, w)| w).sum();
        match setup.kind {
            JoinKind::Semi if matching > 0 => add(l.clone(), *lw),
            JoinKind::Anti if matching == 0 => add(l.clone(), *lw),
            JoinKind::Mark => add([l.clone(), vec![Some((matching > 0) as i64)]].concat(), *lw),
            JoinKind::Left | JoinKind::Full if matching == 0 => add([l.clone(), nothing()].concat(), *lw),
            _ => {}
        }
        if setup.kind.shows_pairs() {
            for (r, rw) in right.iter().filter(|(r, _)| matches(setup, l, r)) {
                add([l.clone(), r.clone()].concat(), lw * rw);
            }
        }
    }
    if setup.kind.preserves(1) {
        for (r, rw) in right.iter().filter(|(r, _)| !left.keys().any(|l| matches(setup, l, r))) {
            add([nothing(), r.clone()].concat(), *rw);
        }
    }
    out.retain(|_, weight| *weight != 0);
    out
}

fn to_batch(rows: &[(Row, i64)], weighted: bool) -> ChangeBatch {
    let values = |c: usize| rows.iter().map(move |(row, _)| row[c]);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(values(0))),
        Arc::new(Int64Array::from_iter(values(1))),
        Arc::new(TimestampMicrosecondArray::from_iter(values(2))),
    ];
    let batch = RecordBatch::try_new(arrow_schema(&columns()), arrays).unwrap();
    let weights = Int64Array::from_iter_values(rows.iter().map(|(_, w)| *w));
    if weighted { ChangeBatch::with_weights(batch, weights) } else { ChangeBatch::insertions(batch) }
}

fn values_of(array: &ArrayRef) -> Vec<Option<i64>> {
    if let Some(times) = array.as_primitive_opt::<TimestampMicrosecondType>() {
        return times.iter().collect();
    }
    match array.as_boolean_opt() {
        Some(marks) => BooleanArray::iter(marks).map(|m| m.map(i64::from)).collect(),
        None => array.as_primitive::<Int64Type>().iter().collect(),
    }
}

struct Harness {
    setup: Setup,
    rng: StdRng,
    kv: Arc<MemoryKv>,
    gate: Arc<SpillGate>,
    join: Box<Join>,
    now: NowHandle,
    bags: [Bag; 2],
    /// The windows that are closed, and what was shown of them.
    watermark: i64,
    view: Bag,
    checkpoint: u64,
    image: Option<(tempfile::TempDir, [Bag; 2], Bag, i64)>,
    steps: usize,
    pieces: usize,
}

fn open(setup: &Setup, kv: &Arc<MemoryKv>, gate: &Arc<SpillGate>, now: &NowHandle, restore: bool) -> Box<Join> {
    let residual = binary(BinaryOp::Lt, column(1), column(4));
    let keys = if setup.windowed { vec![0, 2] } else { vec![0] };
    let input = arrow_schema(&columns());
    let mode = if setup.retract { ChangelogMode::Retract } else { ChangelogMode::Append };
    let append = !setup.retract && matches!(setup.kind, JoinKind::Inner | JoinKind::Semi);
    let backend = if setup.cache_bytes.is_some() { StateBackend::Rocksdb } else { StateBackend::Memory };
    Join::new(JoinSpec {
        kind: setup.kind,
        routing: [keys.clone(), keys.clone()],
        keys: [keys.clone(), keys],
        nulls_equal: setup.nulls_equal,
        residual: setup.residual.then_some(&residual),
        window: setup.windowed.then_some(JoinWindow { end: 1, allowed_lateness: 0 }),
        interval: None,
        inputs: [input.clone(), input],
        input_modes: [mode, mode],
        output: arrow_schema(&output_columns(setup.kind)),
        output_mode: if append { ChangelogMode::Append } else { ChangelogMode::Retract },
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
            forgetful: false,
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
        let null = self.rng.random_bool(0.15);
        let key = (!null).then(|| self.rng.random_range(0..6i64).min(3));
        let end = self.watermark + 10 * self.rng.random_range(1..4);
        vec![key, Some(self.rng.random_range(0..5)), Some(if self.setup.windowed { end / 10 * 10 } else { 0 })]
    }

    fn changes(&mut self, side: usize) -> Vec<(Row, i64)> {
        let mut changes = Vec::new();
        for _ in 0..self.rng.random_range(0..12) {
            let open: Vec<Row> = self.bags[side].keys().filter(|r| !self.setup.windowed || r[2] > Some(self.watermark)).cloned().collect();
            if self.setup.retract && !open.is_empty() && self.rng.random_bool(0.5) {
                let row = open[self.rng.random_range(0..open.len())].clone();
                // Some come back at once.
                if self.rng.random_bool(0.2) {
                    changes.extend([(row.clone(), -1), (row, 1)]);
                    continue;
                }
                let weight = self.bags[side][&row];
                self.bags[side].remove(&row);
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
        let mut ctx = StepContext::new(Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Reject);
        for side in 0..2 {
            let changes = self.changes(side);
            if changes.is_empty() {
                continue;
            }
            let batch = TaggedBatch {
                changes: to_batch(&changes, self.setup.retract),
                arrival_watermark: Timestamp(self.watermark),
                now: Timestamp(0),
            };
            for piece in split(batch, self.rng.random()) {
                self.join.push(side, piece, &mut ctx).unwrap();
            }
        }
        self.watermark += if self.setup.windowed { self.rng.random_range(0..15) } else { 0 };
        self.steps += 1;
        let mut changed = Bag::new();
        loop {
            self.join.finish(Timestamp(self.watermark), &mut ctx).unwrap();
            for batch in ctx.take_output() {
                let columns: Vec<_> = batch.changes.rows.columns().iter().map(values_of).collect();
                for row in 0..batch.changes.num_rows() {
                    let weight = batch.changes.weight(row);
                    assert!(weight != 0);
                    let values: Row = columns.iter().map(|c| c[row]).collect();
                    let before = changed.insert(values.clone(), weight);
                    assert!(before.is_none_or(|before| before.signum() == weight.signum()), "what leaves is net: {:?}", self.setup);
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
        assert_eq!(self.view, nested_loops(&self.setup, &self.bags[0], &self.bags[1]), "{:?}", self.setup);
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
}

fn random_runs(windowed: bool) {
    let (mut steps, mut pieces, mut evictions) = (0, 0, 0);
    for (number, kind) in KINDS.into_iter().enumerate() {
        for variant in 0..16u64 {
            let bit = |bit: u64| variant >> bit & 1 == 1;
            let cache_bytes = bit(3).then_some(3_000);
            let setup = Setup { kind, residual: bit(0), nulls_equal: bit(1), windowed, retract: bit(2), cache_bytes };
            let mut run = Harness::new(setup, 1000 * number as u64 + variant);
            for _ in 0..25 {
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
    assert!(evictions > 100, "state left memory: {evictions}");
    assert!(pieces > steps * 9 / 8, "{steps} steps ended in {pieces} pieces");
}

#[test]
fn every_kind_is_what_nested_loops_give() {
    random_runs(false);
}

#[test]
fn windowed_joins_forget_closed_windows() {
    random_runs(true);
    let setup = Setup { kind: JoinKind::Left, residual: false, nulls_equal: false, windowed: true, retract: true, cache_bytes: None };
    let mut run = Harness::new(setup, 7);
    (0..20).for_each(|_| run.step());
    let held = run.join.sides.iter().map(|side| side.rows.bytes()).sum::<usize>();
    let mut ctx = StepContext::new(Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Reject);
    run.join.finish(Timestamp(i64::MAX), &mut ctx).unwrap();
    assert!(run.join.sides.iter().all(|side| side.rows.first_window().is_none()) && run.join.state_bytes() < held);
    let late = to_batch(&[(vec![Some(1), Some(1), Some(10)], 1)], true);
    run.join.push(0, TaggedBatch { changes: late, arrival_watermark: Timestamp(10), now: Timestamp(0) }, &mut ctx).unwrap();
    assert_eq!(ctx.take_late().len(), 1);
}

#[test]
fn what_was_never_there_cannot_be_retracted() {
    let setup = Setup { kind: JoinKind::Inner, residual: false, nulls_equal: false, windowed: false, retract: true, cache_bytes: None };
    let mut run = Harness::new(setup, 1);
    let mut ctx = StepContext::new(Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Reject);
    let batch = to_batch(&[(vec![Some(1), Some(1), Some(0)], -1)], true);
    run.join.push(0, TaggedBatch { changes: batch, arrival_watermark: Timestamp(0), now: Timestamp(0) }, &mut ctx).unwrap();
    assert!(run.join.finish(Timestamp(0), &mut ctx).is_err());
}

#[test]
fn a_failing_condition_rejects_the_pair() {
    let now = NowHandle::default();
    let residual = binary(BinaryOp::Gt, binary(BinaryOp::Divide, int(10), binary(BinaryOp::Minus, column(1), column(4))), int(0));
    let input = arrow_schema(&columns());
    let (kv, gate) = (Arc::new(MemoryKv::new()), Arc::new(SpillGate::new()));
    let mut join = Join::new(JoinSpec {
        kind: JoinKind::Left,
        keys: [vec![0], vec![0]],
        nulls_equal: false,
        residual: Some(&residual),
        window: None,
        interval: None,
        inputs: [input.clone(), input],
        input_modes: [ChangelogMode::Append; 2],
        output: arrow_schema(&output_columns(JoinKind::Left)),
        output_mode: ChangelogMode::Retract,
        routing: [vec![0], vec![0]],
        now: &now,
        state: StateSpec {
            table: StateTableId(5),
            worker: 0,
            workers: 1,
            kv,
            backend: StateBackend::Memory,
            budget: StateBudget::new(1 << 20),
            gate,
            restore: false,
            ttl: [None; 2],
            forgetful: false,
        },
    })
    .unwrap();
    let mut ctx = StepContext::new(Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Reject);
    let row = |v: i64| to_batch(&[(vec![Some(1), Some(v), Some(0)], 1)], false);
    for (side, v) in [(0, 3), (1, 3), (1, 1)] {
        join.push(side, TaggedBatch { changes: row(v), arrival_watermark: Timestamp(0), now: Timestamp(0) }, &mut ctx).unwrap();
    }
    join.finish(Timestamp(0), &mut ctx).unwrap();
    assert_eq!(ctx.take_output().iter().map(|b| b.changes.num_rows()).sum::<usize>(), 1);
    let rejected = ctx.take_rejected();
    assert_eq!((rejected.len(), rejected[0].1.num_rows(), rejected[0].1.weight(0)), (1, 1, 1));
}
