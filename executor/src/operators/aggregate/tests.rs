//! The aggregate against recomputation at every step: random rows with nulls and retractions, random splitting into
//! cuts and batches, on one and two workers, updating, windowed and emitted on close, in memory and on RocksDB with
//! next to no cache, with checkpoints, kills and restores in between. Asserts that nothing is lost on the way:
//! rows in = accepted + late.

use super::*;
use crate::engine::StateBackend;
use crate::operators::aggregate::AggregateSpec;
use arrow::array::*;
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use eddyline_common::key::{hash64, vshard};
use eddyline_common::kv::KeyValueStore;
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{Epoch, SqlType};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_planner::plan::{AggregateFunction, Emit, OrderKey};
use eddyline_storage::kv::{MemoryKv, RocksKv};
use eddyline_storage::state::{SpillGate, StateBudget};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

const SIZE: i64 = 10;
const TABLE: StateTableId = StateTableId(3);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    k: Option<i64>,
    t: Option<String>,
    v: Option<i64>,
    d: Option<i128>,
    /// Quarters: floats whose sums are exact however they are added.
    f: Option<i64>,
    b: Option<bool>,
    end: i64,
}

fn input_columns() -> Vec<Column> {
    let decimal = SqlType::Decimal { precision: 12, scale: 2 };
    let types = [
        SqlType::BigInt,
        SqlType::Text,
        SqlType::BigInt,
        decimal,
        SqlType::Double,
        SqlType::Boolean,
        SqlType::Timestamp,
        SqlType::Timestamp,
    ];
    ["k", "t", "v", "d", "f", "b", "start", "end"].iter().zip(types).map(|(name, ty)| Column::new(*name, ty, true)).collect()
}

const V: usize = 2;
const B: usize = 5;
const END: usize = 7;

fn calls() -> Vec<AggregateCall> {
    use AggregateFunction::*;
    let call =
        |function, argument, distinct, filter, output| AggregateCall { distinct, filter, ..AggregateCall::new(function, argument, output) };
    let wide = |scale| SqlType::Decimal { precision: 22, scale };
    let percentile = |function, column, distinct, share, output| AggregateCall {
        distinct,
        share: Some(share),
        order: vec![OrderKey { column, descending: false, nulls_first: false }],
        ignore_nulls: true,
        ..AggregateCall::new(function, Some(column), output)
    };
    vec![
        call(Count, None, false, None, SqlType::BigInt),
        call(Count, Some(V), false, None, SqlType::BigInt),
        call(Sum, Some(V), false, None, SqlType::BigInt),
        call(Avg, Some(V), false, None, SqlType::Double),
        call(Min, Some(V), false, None, SqlType::BigInt),
        call(Max, Some(V), false, Some(B), SqlType::BigInt),
        call(Min, Some(1), false, None, SqlType::Text),
        call(Max, Some(1), true, None, SqlType::Text),
        call(Sum, Some(3), false, None, wide(2)),
        call(Avg, Some(3), false, None, wide(6)),
        call(Count, Some(V), true, None, SqlType::BigInt),
        call(Sum, Some(V), true, None, SqlType::BigInt),
        call(Count, None, false, Some(B), SqlType::BigInt),
        call(Sum, Some(4), true, Some(B), SqlType::Double),
        call(Max, Some(4), false, None, SqlType::Double),
        percentile(PercentileDisc, V, false, 0.1, SqlType::BigInt),
        percentile(PercentileDisc, V, false, 0.8, SqlType::BigInt),
        percentile(PercentileDisc, V, true, 0.7, SqlType::BigInt),
        percentile(PercentileCont, 4, false, 0.9, SqlType::Double),
        percentile(Mode, V, false, 0.0, SqlType::BigInt),
    ]
}

fn to_batch(rows: &[(Row, i64)], weighted: bool) -> ChangeBatch {
    let schema = arrow_schema(&input_columns());
    let rows_of = rows.iter().map(|(row, _)| row);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(rows_of.clone().map(|r| r.k))),
        Arc::new(StringArray::from_iter(rows_of.clone().map(|r| r.t.clone()))),
        Arc::new(Int64Array::from_iter(rows_of.clone().map(|r| r.v))),
        Arc::new(Decimal128Array::from_iter(rows_of.clone().map(|r| r.d)).with_precision_and_scale(12, 2).unwrap()),
        Arc::new(Float64Array::from_iter(rows_of.clone().map(|r| r.f.map(|f| f as f64 / 4.0)))),
        Arc::new(BooleanArray::from_iter(rows_of.clone().map(|r| r.b))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows_of.clone().map(|r| r.end - SIZE))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows_of.map(|r| r.end))),
    ];
    let batch = RecordBatch::try_new(schema, columns).unwrap();
    if weighted {
        ChangeBatch::with_weights(batch, rows.iter().map(|(_, w)| *w).collect::<Vec<_>>().into())
    } else {
        ChangeBatch::insertions(batch)
    }
}

fn show(array: &ArrayRef, i: usize) -> String {
    if array.is_null(i) {
        return "null".into();
    }
    match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(i).to_string(),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(i)),
        DataType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().value(i).to_string(),
        DataType::Timestamp(_, _) => array.as_primitive::<TimestampMicrosecondType>().value(i).to_string(),
        _ => array.as_string::<i32>().value(i).to_string(),
    }
}

fn or_null<T: ToString>(value: Option<T>) -> String {
    value.map_or("null".into(), |v| v.to_string())
}

/// Values in order, each as often as it is there.
fn all(values: impl Iterator<Item = (i64, i64)>) -> Vec<i64> {
    let mut all: Vec<i64> = values.flat_map(|(value, weight)| std::iter::repeat_n(value, weight as usize)).collect();
    all.sort_unstable();
    all
}

/// The first value up to which there is a share of all.
fn first_of(values: &[i64], share: f64) -> Option<i64> {
    (1..=values.len()).find(|count| *count as f64 >= share * values.len() as f64).map(|count| values[count - 1])
}

/// The value that is there most often, the first of several.
fn most_frequent(values: impl Iterator<Item = (i64, i64)>) -> Option<i64> {
    let mut counts = BTreeMap::new();
    values.for_each(|(value, weight)| *counts.entry(value).or_insert(0) += weight);
    counts.into_iter().max_by_key(|(value, count)| (*count, std::cmp::Reverse(*value))).map(|(value, _)| value)
}

/// What is a share of the way through quarters.
fn within(quarters: &[i64], share: f64) -> Option<f64> {
    let at = share * quarters.len().checked_sub(1)? as f64;
    let [lower, upper] = [at.floor(), at.ceil()].map(|at| quarters[at as usize] as f64 / 4.0);
    Some(if lower == upper { lower } else { lower + (upper - lower) * (at - at.floor()) })
}

/// One group's results from its rows; `Err` if the sum does not fit.
fn recompute(rows: &[(&Row, i64)]) -> Result<Vec<String>, Vec<String>> {
    let values = || rows.iter().filter_map(|(r, w)| r.v.map(|v| (v, *w)));
    let passed = || rows.iter().filter(|(r, _)| r.b == Some(true));
    let count: i64 = values().map(|(_, w)| w).sum();
    let sum: i128 = values().map(|(v, w)| v as i128 * w as i128).sum();
    let distinct: std::collections::BTreeSet<i64> = values().map(|(v, _)| v).collect();
    let distinct_sum: i128 = distinct.iter().map(|v| *v as i128).sum();
    let decimals = || rows.iter().filter_map(|(r, w)| r.d.map(|d| (d, *w as i128)));
    let (decimal_sum, decimal_count) = decimals().fold((0, 0), |(s, c), (d, w)| (s + d * w, c + w));
    let average = |sum: i128, count: i128| {
        let (scaled, sign) = (sum.abs() * 10_000, sum.signum());
        sign * ((2 * scaled + count) / (2 * count))
    };
    let quarters: std::collections::BTreeSet<i64> = passed().filter_map(|(r, _)| r.f).collect();
    let sum_or_null = |sum: i128, any: bool| or_null(any.then_some(sum).and_then(|s| i64::try_from(s).ok()));
    let results = vec![
        rows.iter().map(|(_, w)| w).sum::<i64>().to_string(),
        count.to_string(),
        sum_or_null(sum, count > 0),
        if count > 0 { format!("{:?}", sum as f64 / count as f64) } else { "null".into() },
        or_null(values().map(|(v, _)| v).min()),
        or_null(passed().filter_map(|(r, _)| r.v).max()),
        or_null(rows.iter().filter_map(|(r, _)| r.t.clone()).min()),
        or_null(rows.iter().filter_map(|(r, _)| r.t.clone()).max()),
        or_null((decimal_count > 0).then_some(decimal_sum)),
        or_null((decimal_count > 0).then(|| average(decimal_sum, decimal_count))),
        distinct.len().to_string(),
        sum_or_null(distinct_sum, count > 0),
        passed().map(|(_, w)| w).sum::<i64>().to_string(),
        if quarters.is_empty() { "null".into() } else { format!("{:?}", quarters.iter().sum::<i64>() as f64 / 4.0) },
        rows.iter().filter_map(|(r, _)| r.f).max().map_or("null".into(), |f| format!("{:?}", f as f64 / 4.0)),
        or_null(first_of(&all(values()), 0.1)),
        or_null(first_of(&all(values()), 0.8)),
        or_null(first_of(&distinct.iter().copied().collect::<Vec<_>>(), 0.7)),
        within(&all(rows.iter().filter_map(|(r, w)| r.f.map(|f| (f, *w)))), 0.9).map_or("null".into(), |f| format!("{f:?}")),
        or_null(most_frequent(values())),
    ];
    let fits = i64::try_from(sum).is_ok() && i64::try_from(distinct_sum).is_ok();
    if fits { Ok(results) } else { Err(results) }
}

type ZSet = BTreeMap<Vec<String>, i64>;

#[derive(Clone, Copy, Debug)]
struct Setup {
    group: &'static [usize],
    /// Positions are input columns.
    routing: &'static [usize],
    window: Option<AggregateWindow>,
    retract: bool,
    rocks: bool,
    workers: usize,
    cache_bytes: usize,
    keys: i64,
}

/// What is true after a step; a checkpoint keeps a copy.
#[derive(Clone, Default)]
struct Truth {
    rows: BTreeMap<Row, i64>,
    closed: ZSet,
    closed_rejected: ZSet,
    view: ZSet,
    rejected: ZSet,
    watermark: i64,
    started: bool,
}

struct Harness {
    setup: Setup,
    rng: StdRng,
    kv: Arc<dyn KeyValueStore>,
    gate: Arc<SpillGate>,
    workers: Vec<Box<Aggregate>>,
    truth: Truth,
    late: (u64, u64),
    checkpoint: u64,
    frozen: Option<(Vec<(StateTableId, SortedRun)>, Truth)>,
    image: Option<(tempfile::TempDir, Truth)>,
    live: tempfile::TempDir,
    counters: StateCounters,
}

fn output_columns(setup: &Setup) -> Vec<Column> {
    let input = input_columns();
    let results = calls().into_iter().enumerate().map(|(i, c)| Column::new(format!("c{i}"), c.output, true));
    setup.group.iter().map(|c| input[*c].clone()).chain(results).collect()
}

impl Harness {
    fn new(setup: Setup, seed: u64) -> Self {
        let mut harness = Harness {
            setup,
            rng: StdRng::seed_from_u64(seed),
            kv: Arc::new(MemoryKv::new()),
            gate: Arc::default(),
            workers: Vec::new(),
            truth: Truth { watermark: i64::MIN, ..Truth::default() },
            late: (0, 0),
            checkpoint: 0,
            frozen: None,
            image: None,
            live: tempfile::tempdir().unwrap(),
            counters: StateCounters::default(),
        };
        harness.open(false);
        harness
    }

    fn open(&mut self, restore: bool) {
        let image = self.image.as_ref().map(|(dir, _)| dir.path().join("image"));
        self.kv = match (self.setup.rocks, &image) {
            (true, image) => Arc::new(RocksKv::open(&self.live.path().join("live"), image.as_deref(), 1 << 20).unwrap()),
            (false, Some(image)) => Arc::new(MemoryKv::open(image).unwrap()),
            (false, None) => Arc::new(MemoryKv::new()),
        };
        self.gate = Arc::default();
        let backend = if self.setup.cache_bytes == 0 { StateBackend::Memory } else { StateBackend::Rocksdb };
        let budget = StateBudget::new(self.setup.cache_bytes);
        let open = |worker| {
            Aggregate::new(AggregateSpec {
                group: self.setup.group.to_vec(),
                calls: calls(),
                window: self.setup.window,
                input: arrow_schema(&input_columns()),
                output: arrow_schema(&output_columns(&self.setup)),
                input_mode: if self.setup.retract { ChangelogMode::Retract } else { ChangelogMode::Append },
                routing: self.setup.routing.to_vec(),
                state: StateSpec {
                    table: TABLE,
                    worker,
                    workers: self.setup.workers,
                    kv: self.kv.clone(),
                    backend,
                    budget: budget.clone(),
                    gate: self.gate.clone(),
                    restore,
                    ttl: [None; 2],
                    forgetful: false,
                },
            })
            .unwrap()
        };
        self.workers = (0..self.setup.workers).map(open).collect();
    }

    fn random_row(&mut self) -> Row {
        let rng = &mut self.rng;
        let around = self.truth.watermark.max(0) / SIZE;
        Row {
            k: rng.random_bool(0.95).then(|| rng.random_range(0..self.setup.keys)),
            t: rng.random_bool(0.8).then(|| "xyz\0ü".chars().take(rng.random_range(0..6)).collect()),
            v: rng
                .random_bool(0.8)
                .then(|| if rng.random_bool(0.02) { i64::MAX - rng.random_range(0..2) } else { rng.random_range(-9..9) }),
            d: rng.random_bool(0.8).then(|| rng.random_range(-9999..9999)),
            f: rng.random_bool(0.8).then(|| rng.random_range(-20..20)),
            b: rng.random_bool(0.8).then(|| rng.random_bool(0.5)),
            end: (around + rng.random_range(-3..5)) * SIZE,
        }
    }

    fn is_late(&self, row: &Row, watermark: i64) -> bool {
        self.setup.window.is_some_and(|w| row.end.saturating_add(w.allowed_lateness) <= watermark)
    }

    /// Rows of one cut, applied to the truth.
    fn cut(&mut self, arrival: i64) -> Vec<(Row, i64)> {
        let mut rows = Vec::new();
        let most = [5, 40, 400][self.rng.random_range(0..3)];
        for _ in 0..self.rng.random_range(0..most) {
            let retract = self.setup.retract && !self.truth.rows.is_empty() && self.rng.random_bool(0.45);
            let (row, weight) = if retract {
                let nth = self.rng.random_range(0..self.truth.rows.len());
                let (row, weight) = self.truth.rows.iter().nth(nth).unwrap();
                (row.clone(), if self.rng.random_bool(0.7) { -weight } else { -1 })
            } else {
                (self.random_row(), if self.setup.retract { self.rng.random_range(1..3) } else { 1 })
            };
            if self.is_late(&row, arrival) {
                self.late.0 += 1;
            } else {
                *self.truth.rows.entry(row.clone()).or_default() += weight;
                self.truth.rows.retain(|_, w| *w != 0);
            }
            rows.push((row, weight));
        }
        rows
    }

    fn worker_of(&self, row: &ChangeBatch) -> usize {
        let columns: Vec<ArrayRef> = self.setup.routing.iter().map(|c| row.rows.column(*c).clone()).collect();
        let codec = KeyCodec::new(columns.iter().map(|c| c.data_type().clone()).collect()).unwrap();
        let mut key = KeyRows::default();
        codec.encode(&columns, 1, &mut key);
        eddyline_common::key::worker_of(vshard(hash64(key.row(0))), self.setup.workers)
    }

    fn step(&mut self, last: bool) {
        let mut batches: Vec<(usize, TaggedBatch)> = Vec::new();
        let start = self.truth.watermark;
        for _ in 0..self.rng.random_range(1..4) {
            let arrival = self.truth.watermark;
            let mut rows = self.cut(arrival);
            rows.shuffle(&mut self.rng);
            let weighted = self.setup.retract || self.rng.random_bool(0.3);
            let mut pieces = vec![Vec::new(); self.setup.workers];
            for row in rows {
                pieces[self.worker_of(&to_batch(std::slice::from_ref(&row), true))].push(row);
            }
            for (worker, rows) in pieces.iter().enumerate() {
                let size = self.rng.random_range(1..100);
                batches.extend(rows.chunks(size).map(|rows| {
                    let changes = to_batch(rows, weighted);
                    (worker, TaggedBatch { changes, arrival_watermark: Timestamp(arrival), now: Timestamp(0) })
                }));
            }
            self.truth.watermark = if last { i64::MAX } else { arrival.max(0) + [0, 3, 12][self.rng.random_range(0..3)] };
        }
        batches.shuffle(&mut self.rng);
        let mut contexts: Vec<StepContext> =
            (0..self.setup.workers).map(|_| StepContext::new(Epoch(1), Timestamp(0), Timestamp(start), ErrorPolicy::Reject)).collect();
        for (worker, batch) in batches {
            self.workers[worker].push(0, batch, &mut contexts[worker]).unwrap();
        }
        for (worker, mut ctx) in contexts.into_iter().enumerate() {
            finish(&mut self.workers[worker], Timestamp(self.truth.watermark), &mut ctx);
            self.take(&mut ctx);
        }
        self.truth.started = true;
        self.close_windows();
        self.check();
    }

    fn take(&mut self, ctx: &mut StepContext) {
        let on_close = self.setup.window.is_some_and(|w| w.emit == Emit::OnClose);
        let add = |set: &mut ZSet, changes: &ChangeBatch| {
            for i in 0..changes.num_rows() {
                let row = changes.rows.columns().iter().map(|c| show(c, i)).collect();
                *set.entry(row).or_default() += changes.weight(i);
            }
            set.retain(|_, w| *w != 0);
        };
        let mut step = ZSet::new();
        let mut emitted = 0;
        for batch in ctx.take_output() {
            assert!(!on_close || batch.changes.weights.is_none(), "what is emitted on close only grows");
            emitted += batch.changes.num_rows();
            add(&mut step, &batch.changes);
            add(&mut self.truth.view, &batch.changes);
        }
        assert_eq!(emitted, step.len(), "net changes only, each once");
        for (reason, changes) in ctx.take_rejected() {
            assert_eq!(reason, "bigint out of range");
            add(&mut self.truth.rejected, &changes);
        }
        self.late.1 += ctx.take_late().iter().map(|c| c.num_rows() as u64).sum::<u64>();
    }

    /// Group rows (as shown) to the results of their groups, those that fit and those that do not.
    fn groups(&self, rows: &BTreeMap<Row, i64>) -> (ZSet, ZSet) {
        let mut groups: BTreeMap<Vec<String>, Vec<(&Row, i64)>> = BTreeMap::new();
        if self.setup.group.is_empty() && self.truth.started {
            groups.insert(Vec::new(), Vec::new());
        }
        for (row, weight) in rows {
            let columns = [or_null(row.k), or_null(row.t.clone()), String::new(), String::new(), String::new(), String::new()];
            let columns = [&columns[..], &[(row.end - SIZE).to_string(), row.end.to_string()]].concat();
            let key = self.setup.group.iter().map(|c| columns[*c].clone()).collect();
            groups.entry(key).or_default().push((row, *weight));
        }
        let (mut fit, mut unfit) = (ZSet::new(), ZSet::new());
        for (key, rows) in groups {
            match recompute(&rows) {
                Ok(results) => fit.insert([key, results].concat(), 1),
                Err(results) => unfit.insert([key, results].concat(), 1),
            };
        }
        (fit, unfit)
    }

    fn close_windows(&mut self) {
        let (setup, watermark) = (self.setup, self.truth.watermark);
        let Some(window) = setup.window else { return };
        let rows = std::mem::take(&mut self.truth.rows);
        let (closed, open) = rows.into_iter().partition(|(row, _)| row.end.saturating_add(window.allowed_lateness) <= watermark);
        let (fit, unfit) = self.groups(&closed);
        self.truth.closed.extend(fit);
        self.truth.closed_rejected.extend(unfit);
        self.truth.rows = open;
    }

    fn check(&self) {
        let (mut fit, mut unfit) = match self.setup.window {
            Some(window) if window.emit == Emit::OnClose => Default::default(),
            _ => self.groups(&self.truth.rows),
        };
        fit.extend(self.truth.closed.clone());
        unfit.extend(self.truth.closed_rejected.clone());
        assert_eq!(self.truth.view, fit, "{:?}", self.setup);
        assert_eq!(self.truth.rejected, unfit, "{:?}", self.setup);
        assert_eq!(self.late.0, self.late.1, "rows in = accepted + late");
    }

    fn freeze(&mut self) {
        if self.frozen.is_some() {
            return;
        }
        self.checkpoint += 1;
        self.gate.begin(self.checkpoint).unwrap();
        let runs: Vec<_> = self.workers.iter_mut().flat_map(|worker| worker.freeze().unwrap()).collect();
        assert!(runs.iter().all(|(id, _)| *id == TABLE));
        self.frozen = Some((SortedRun::merge(runs), self.truth.clone()));
    }

    fn finish_checkpoint(&mut self) {
        let Some((runs, truth)) = self.frozen.take() else { return };
        self.gate.ingest(self.checkpoint, || self.kv.ingest(runs)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        if self.gate.image(self.checkpoint, || self.kv.checkpoint(&dir.path().join("image"))).unwrap() {
            self.image = Some((dir, truth));
        }
    }

    fn crash(&mut self) {
        self.workers.iter().for_each(|w| self.counters += w.counters());
        self.workers.clear();
        self.frozen = None;
        self.checkpoint = 0;
        self.kv = Arc::new(MemoryKv::new());
        self.truth = self.image.as_ref().map_or(Truth { watermark: i64::MIN, ..Truth::default() }, |(_, truth)| truth.clone());
        self.open(self.image.is_some());
    }

    fn run(mut self, steps: usize) -> StateCounters {
        for _ in 0..steps {
            match self.rng.random_range(0..10) {
                0 => self.freeze(),
                1 | 2 => self.finish_checkpoint(),
                3 if self.rng.random_bool(0.4) => self.crash(),
                _ => self.step(false),
            }
        }
        self.step(true);
        self.workers.iter().for_each(|w| self.counters += w.counters());
        self.counters
    }
}

const K: usize = 0;
const GROUPS: &[(&[usize], &[usize])] = &[(&[], &[]), (&[K], &[K]), (&[1, K], &[K]), (&[K, 1], &[K, 1])];
const WINDOWS: &[(&[usize], &[usize])] =
    &[(&[K, 6, END], &[K]), (&[6, K, END], &[6, K, END]), (&[6, END], &[END, 6]), (&[END, K, 6, 1], &[END, K, 6, 1])];

fn random_setup(rng: &mut StdRng, window: bool) -> Setup {
    let (group, routing) = if window { WINDOWS } else { GROUPS }[rng.random_range(0..4)];
    let emit = [Emit::Changes, Emit::OnClose][rng.random_range(0..2)];
    let end = group.iter().position(|c| *c == END).unwrap_or(0);
    Setup {
        group,
        routing,
        window: window.then(|| AggregateWindow { end, emit, allowed_lateness: [0, 7, 25][rng.random_range(0..3)], session: false }),
        retract: rng.random_bool(0.6),
        rocks: false,
        workers: rng.random_range(1..3),
        cache_bytes: [0, 20_000, 200_000, 1 << 20][rng.random_range(0..4)],
        keys: [1, 5, 100][rng.random_range(0..3)],
    }
}

fn random_runs(seeds: std::ops::Range<u64>, window: bool) {
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        Harness::new(random_setup(&mut rng, window), seed).run(25);
    }
}

#[test]
fn updating_groups_equal_recomputation() {
    random_runs(0..120, false);
}

#[test]
fn windows_equal_recomputation() {
    random_runs(1000..1120, true);
}

#[test]
fn spilled_state_on_rocksdb_equals_recomputation() {
    let mut counters = StateCounters::default();
    for seed in 2000..2012 {
        let mut rng = StdRng::seed_from_u64(seed);
        let setup = Setup { rocks: true, cache_bytes: 30_000, keys: 100, ..random_setup(&mut rng, seed % 2 == 0) };
        counters += Harness::new(setup, seed).run(20);
    }
    assert!(counters.evictions > 1000 && counters.fetched > 1000 && counters.spills > 10, "{counters:?}");
}

fn single(setup: Setup) -> Harness {
    Harness::new(setup, 1)
}

const PLAIN: Setup = Setup { group: &[K], routing: &[K], window: None, retract: true, rocks: false, workers: 1, cache_bytes: 0, keys: 3 };

fn row(k: i64, v: i64) -> Row {
    Row { k: Some(k), t: None, v: Some(v), d: None, f: None, b: None, end: 10 }
}

/// To the end of the step; how many slices it took.
fn finish(worker: &mut Aggregate, watermark: Timestamp, ctx: &mut StepContext) -> usize {
    let mut slices = 0;
    loop {
        worker.finish(watermark, ctx).unwrap();
        slices += 1;
        if !worker.unfinished() {
            return slices;
        }
    }
}

fn push(harness: &mut Harness, rows: &[(Row, i64)], ctx: &mut StepContext) -> Result<()> {
    harness.workers[0].push(0, TaggedBatch { changes: to_batch(rows, true), arrival_watermark: Timestamp::MIN, now: Timestamp(0) }, ctx)
}

#[test]
fn a_retraction_of_what_was_never_there_is_an_internal_error() {
    let mut harness = single(PLAIN);
    let mut ctx = crate::testing::context();
    push(&mut harness, &[(row(1, 5), -1)], &mut ctx).unwrap();
    assert_eq!(harness.workers[0].finish(Timestamp::MIN, &mut ctx).unwrap_err().state.0, "XX000");
    let mut harness = single(PLAIN);
    let rows = [(row(1, 5), -1), (row(1, 6), 1)];
    push(&mut harness, &rows, &mut ctx).unwrap();
    assert_eq!(harness.workers[0].finish(Timestamp::MIN, &mut ctx).unwrap_err().state.0, "XX000", "a value may not go below zero either");
}

#[test]
fn the_empty_group_has_a_row_from_the_first_step_on() {
    let mut harness = single(Setup { group: &[], routing: &[], workers: 2, ..PLAIN });
    let mut emitted = 0;
    for worker in &mut harness.workers {
        let mut ctx = crate::testing::context();
        finish(worker, Timestamp::MIN, &mut ctx);
        finish(worker, Timestamp::MIN, &mut ctx);
        emitted += ctx.take_output().len();
    }
    assert_eq!(emitted, 1);
}

#[test]
fn a_sum_out_of_range_rejects_its_group_until_it_fits_again() {
    let mut harness = single(PLAIN);
    let mut step = |rows: &[(Row, i64)]| {
        let mut ctx = crate::testing::context();
        push(&mut harness, rows, &mut ctx).unwrap();
        finish(&mut harness.workers[0], Timestamp::MIN, &mut ctx);
        let weights = |c: &ChangeBatch| (0..c.num_rows()).map(|i| c.weight(i)).collect::<Vec<_>>();
        let out: Vec<i64> = ctx.take_output().iter().flat_map(|b| weights(&b.changes)).collect();
        let rejected: Vec<i64> = ctx.take_rejected().iter().flat_map(|(_, c)| weights(c)).collect();
        (out, rejected)
    };
    assert_eq!(step(&[(row(1, i64::MAX), 1)]), (vec![1], vec![]));
    assert_eq!(step(&[(row(1, 1), 1)]), (vec![-1], vec![1]));
    assert_eq!(step(&[(row(1, -1), 1)]), (vec![1], vec![-1]));
    assert_eq!(step(&[(row(1, 1), 1), (row(1, 1), -1)]), (vec![], vec![]));
}

/// Many groups are told of, and closed, in slices, between which a worker has time for other jobs.
#[test]
fn the_end_of_a_step_comes_in_slices() {
    const GROUPS: i64 = 5 * SLICE_ROWS as i64;
    let rows: Vec<(Row, i64)> = (0..GROUPS).map(|k| (row(k, 1), 1)).collect();
    for (window, slices) in [(None, 5), (Some(AggregateWindow { end: 1, allowed_lateness: 0, emit: Emit::OnClose, session: false }), 5)] {
        let group: &'static [usize] = if window.is_some() { &[K, END] } else { &[K] };
        let mut harness = single(Setup { group, window, retract: false, keys: GROUPS, ..PLAIN });
        let mut ctx = crate::testing::context();
        for rows in rows.chunks(SLICE_ROWS) {
            push(&mut harness, rows, &mut ctx).unwrap();
        }
        let taken = finish(&mut harness.workers[0], Timestamp(i64::MAX), &mut ctx);
        assert!(taken >= slices, "{taken} slices");
        let output = ctx.take_output();
        assert!(output.iter().all(|batch| batch.changes.num_rows() <= SLICE_ROWS));
        assert_eq!(output.iter().map(|batch| batch.changes.num_rows()).sum::<usize>(), GROUPS as usize);
    }
}
