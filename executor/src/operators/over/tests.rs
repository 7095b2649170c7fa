//! OVER windows against their definition, row by row over whole partitions at every step: random functions and frames, in both
//! directions, with nulls, ties and rows that are there several times, random splitting into batches, in memory and on a store
//! with next to no cache, with restores in between. Pages are so small here that every partition has many.

use super::*;
use crate::testing::split;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{ChangeBatch, Epoch, SqlType};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_planner::plan::{
    AggregateCall, AggregateFunction, Frame, FrameBound, FrameUnit, Literal, LiteralValue, OverFunction, RankFunction,
};
use eddyline_storage::kv::MemoryKv;
use eddyline_storage::state::{SpillGate, StateBudget};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

/// (partition, order, value). The columns of the input behind these follow from the value: its text, and whether it is even.
type Row = Vec<Option<i64>>;
const TEXT: usize = 3;
const EVEN: usize = 4;
const SEPARATOR: &str = ", ";
type Bag = BTreeMap<Row, i64>;

fn columns(calls: &[OverCall]) -> Vec<Column> {
    use SqlType::*;
    let own = [("k", BigInt), ("o", BigInt), ("v", BigInt), ("t", Text), ("e", Boolean)].map(|(name, ty)| Column::new(name, ty, true));
    let results = calls.iter().enumerate().map(|(i, call)| Column::new(format!("r{i}"), call.output.clone(), true));
    own.into_iter().chain(results).collect()
}

fn number(value: i64) -> Literal {
    Literal { ty: SqlType::BigInt, value: LiteralValue::Int(value) }
}

fn any_frame(random: &mut StdRng) -> Frame {
    use FrameBound::*;
    let unit = if random.random_bool(0.5) { FrameUnit::Rows } else { FrameUnit::Range };
    let bounds = [
        (Unbounded, CurrentRow),
        (Unbounded, Offset(-2)),
        (Unbounded, Offset(1)),
        (Unbounded, Unbounded),
        (CurrentRow, Unbounded),
        (Offset(-1), Unbounded),
        (Offset(-2), CurrentRow),
        (Offset(-5), Offset(-2)),
        (CurrentRow, Offset(3)),
        (Offset(1), Offset(2)),
        (Offset(-1), Offset(1)),
        (CurrentRow, CurrentRow),
    ];
    let (start, end) = *bounds.choose(random).unwrap();
    Frame { unit, start, end }
}

fn any_call(random: &mut StdRng) -> OverCall {
    let aggregate = |function, argument: Option<usize>| OverFunction::Aggregate(AggregateCall::new(function, argument, SqlType::BigInt));
    let distinct =
        |function| OverFunction::Aggregate(AggregateCall { distinct: true, ..AggregateCall::new(function, Some(2), SqlType::BigInt) });
    let ignore_nulls = random.random_bool(0.4);
    let function = match random.random_range(0..20) {
        0 => OverFunction::Rank(RankFunction::RowNumber),
        1 => OverFunction::Rank(RankFunction::Rank),
        2 => OverFunction::Rank(RankFunction::DenseRank),
        3 => {
            let (offset, places) = (random.random_range(-3..=3), random.random_bool(0.3).then_some(2));
            OverFunction::Lag { argument: 2, offset, places, default: number(-99), ignore_nulls }
        }
        4 => {
            let default = Literal { value: LiteralValue::Null, ..number(0) };
            OverFunction::Lag { argument: 1, offset: 1, places: None, default, ignore_nulls }
        }
        5 => OverFunction::NthValue { argument: 2, n: 1, ignore_nulls },
        6 => OverFunction::NthValue { argument: 2, n: -1, ignore_nulls },
        7 => OverFunction::NthValue { argument: 2, n: *[2, 3, -2].choose(random).unwrap(), ignore_nulls },
        8 => OverFunction::Ntile { buckets: 3 },
        9 => aggregate(AggregateFunction::Count, None),
        10 => aggregate(AggregateFunction::Count, Some(2)),
        11 => aggregate(AggregateFunction::Sum, Some(2)),
        12 => aggregate(AggregateFunction::Min, Some(2)),
        13 => aggregate(AggregateFunction::Max, Some(2)),
        14 => distinct(AggregateFunction::Count),
        15 => distinct(AggregateFunction::Sum),
        16 => distinct(AggregateFunction::Max),
        17 => text(),
        _ => array(ignore_nulls),
    };
    let function = match function {
        OverFunction::Aggregate(call) if random.random_bool(0.3) => OverFunction::Aggregate(AggregateCall { filter: Some(EVEN), ..call }),
        other => other,
    };
    let output = if let OverFunction::Aggregate(call) = &function { call.output.clone() } else { SqlType::BigInt };
    OverCall { function, frame: any_frame(random), output }
}

fn array(ignore_nulls: bool) -> OverFunction {
    let call = AggregateCall::new(AggregateFunction::ArrayAgg, Some(2), SqlType::Array(Box::new(SqlType::BigInt)));
    OverFunction::Aggregate(AggregateCall { ignore_nulls, ..call })
}

fn text() -> OverFunction {
    let call = AggregateCall::new(AggregateFunction::StringAgg, Some(TEXT), SqlType::Text);
    OverFunction::Aggregate(AggregateCall { separator: Some(SEPARATOR.to_string()), ..call })
}

/// A number in the place of a list, so that all results are numbers; it tells lists apart by their items and the order of these.
fn listed(items: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    items.fold(None, |list, item| Some(list.unwrap_or(1i64).wrapping_mul(1_000_003).wrapping_add(item.map_or(-1, |item| item + 1))))
}

/// How rows compare in the order.
fn direction(order: OrderKey) -> impl Fn(Option<i64>) -> (i64, i64) {
    move |value| match value {
        None => (if order.nulls_first { -1 } else { 1 }, 0),
        Some(value) => (0, if order.descending { -value } else { value }),
    }
}

/// Whether row `j` is in the frame of row `i`.
fn is_in(frame: Frame, keys: &[(i64, i64)], i: usize, j: usize) -> bool {
    let moved = |n: i64| if keys[i].0 == 0 { (0, keys[i].1 + n) } else { keys[i] };
    let after_start = match (frame.unit, frame.start) {
        (_, FrameBound::Unbounded) => true,
        (FrameUnit::Rows, FrameBound::CurrentRow) => j >= i,
        (FrameUnit::Rows, FrameBound::Offset(n)) => j as i64 >= i as i64 + n,
        (FrameUnit::Range, FrameBound::CurrentRow) => keys[j] >= keys[i],
        (FrameUnit::Range, FrameBound::Offset(n)) => keys[j] >= moved(n),
    };
    let before_end = match (frame.unit, frame.end) {
        (_, FrameBound::Unbounded) => true,
        (FrameUnit::Rows, FrameBound::CurrentRow) => j <= i,
        (FrameUnit::Rows, FrameBound::Offset(n)) => j as i64 <= i as i64 + n,
        (FrameUnit::Range, FrameBound::CurrentRow) => keys[j] <= keys[i],
        (FrameUnit::Range, FrameBound::Offset(n)) => keys[j] <= moved(n),
    };
    after_start && before_end
}

fn result(call: &OverCall, rows: &[Row], keys: &[(i64, i64)], i: usize) -> Option<i64> {
    let frame: Vec<&Row> = (0..rows.len()).filter(|j| is_in(call.frame, keys, i, *j)).map(|j| &rows[j]).collect();
    let before = keys.iter().filter(|key| **key < keys[i]);
    match &call.function {
        OverFunction::Rank(RankFunction::RowNumber) => Some(i as i64 + 1),
        OverFunction::Rank(RankFunction::Rank) => Some(before.count() as i64 + 1),
        OverFunction::Rank(RankFunction::DenseRank) => Some(before.collect::<std::collections::BTreeSet<_>>().len() as i64 + 1),
        OverFunction::Ntile { buckets } => {
            let (n, buckets) = (rows.len() as i64, *buckets);
            let size = |bucket: i64| n / buckets + (bucket < n % buckets) as i64;
            let mut last = 0;
            (0..buckets).find(|bucket| {
                last += size(*bucket);
                (i as i64) < last
            })
        }
        .map(|bucket| bucket + 1),
        OverFunction::Lag { argument, offset, places, default, ignore_nulls } => {
            let counts = |row: &&Row| !ignore_nulls || row[*argument].is_some();
            let offset = offset * places.map_or(Some(1), |places| rows[i][places])?;
            let row = match offset {
                0 => rows.get(i),
                1.. => rows[..i].iter().rev().filter(counts).nth(offset.unsigned_abs() as usize - 1),
                _ => rows[i + 1..].iter().filter(counts).nth(offset.unsigned_abs() as usize - 1),
            };
            match (row, &default.value) {
                (Some(row), _) => row[*argument],
                (None, LiteralValue::Int(value)) => Some(*value),
                (None, _) => None,
            }
        }
        OverFunction::NthValue { argument, n, ignore_nulls } => {
            let values: Vec<Option<i64>> = frame.iter().map(|row| row[*argument]).filter(|v| !ignore_nulls || v.is_some()).collect();
            let at = if *n > 0 { n - 1 } else { values.len() as i64 + n };
            usize::try_from(at).ok().and_then(|at| values.get(at).copied()).flatten()
        }
        OverFunction::Aggregate(aggregate) => {
            let counts = |value: &Option<i64>| aggregate.filter.is_none() || value.is_some_and(is_even);
            aggregated(aggregate, frame.iter().map(|row| row[2]).filter(counts).collect())
        }
        other => panic!("{other:?} is not defined here"),
    }
}

fn is_even(value: i64) -> bool {
    value % 2 == 0
}

/// Of the values in a frame that its filter lets pass, in the window's order.
fn aggregated(call: &AggregateCall, values: Vec<Option<i64>>) -> Option<i64> {
    let mut present: Vec<i64> = values.iter().flatten().copied().collect();
    match call.function {
        AggregateFunction::ArrayAgg if !call.ignore_nulls => return listed(values.into_iter()),
        AggregateFunction::ArrayAgg | AggregateFunction::StringAgg => return listed(present.into_iter().map(Some)),
        _ => {}
    }
    if call.distinct {
        present.sort_unstable();
        present.dedup();
    }
    match call.function {
        AggregateFunction::Count if call.argument.is_none() => Some(values.len() as i64),
        AggregateFunction::Count => Some(present.len() as i64),
        AggregateFunction::Sum => present.into_iter().reduce(|a, b| a + b),
        AggregateFunction::Min => present.into_iter().min(),
        _ => present.into_iter().max(),
    }
}

/// What the calls give for every row of a bag.
fn defined(calls: &[OverCall], order: OrderKey, bag: &Bag) -> Bag {
    let mut partitions: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
    for (row, weight) in bag {
        (0..*weight).for_each(|_| partitions.entry(row[0]).or_default().push(row.clone()));
    }
    let key = direction(order);
    let mut out = Bag::new();
    for mut rows in partitions.into_values() {
        rows.sort_by_key(|row| (key(row[1]), row.clone()));
        let keys: Vec<(i64, i64)> = rows.iter().map(|row| key(row[1])).collect();
        for i in 0..rows.len() {
            let results = calls.iter().map(|call| result(call, &rows, &keys, i));
            *out.entry(rows[i].iter().copied().chain(results).collect()).or_default() += 1;
        }
    }
    out
}

struct Harness {
    calls: Vec<OverCall>,
    order: OrderKey,
    kv: Arc<MemoryKv>,
    gate: Arc<SpillGate>,
    cache_bytes: Option<usize>,
}

impl Harness {
    fn operator(&self, restore: bool) -> Box<Over> {
        let backend = if self.cache_bytes.is_some() { crate::StateBackend::Rocksdb } else { crate::StateBackend::Memory };
        let budget = StateBudget::new(self.cache_bytes.unwrap_or(1 << 30));
        let (table, kv, gate) = (StateTableId(1), self.kv.clone(), self.gate.clone());
        Over::new(OverSpec {
            partition: vec![0],
            order: vec![self.order],
            calls: self.calls.clone(),
            window: None,
            input: arrow_schema(&columns(&[])),
            output: arrow_schema(&columns(&self.calls)),
            routing: vec![0],
            state: StateSpec { table, worker: 0, workers: 1, kv, backend, budget, gate, restore, ttl: [None; 2], forgetful: false },
        })
        .unwrap()
    }
}

fn to_batch(rows: &[(Row, i64)]) -> ChangeBatch {
    let numbers = (0..3).map(|c| Arc::new(Int64Array::from_iter(rows.iter().map(|(row, _)| row[c]))) as ArrayRef);
    let texts = StringArray::from_iter(rows.iter().map(|(row, _)| row[2].map(|value| value.to_string())));
    let even = BooleanArray::from_iter(rows.iter().map(|(row, _)| row[2].map(is_even)));
    let arrays = numbers.chain([Arc::new(texts) as ArrayRef, Arc::new(even) as ArrayRef]).collect();
    let batch = RecordBatch::try_new(arrow_schema(&columns(&[])), arrays).unwrap();
    ChangeBatch::with_weights(batch, Int64Array::from_iter_values(rows.iter().map(|(_, w)| *w)))
}

fn apply(view: &mut Bag, changes: &ChangeBatch) {
    let value = |column: &ArrayRef, at: usize| match column.data_type() {
        _ if column.is_null(at) => None,
        DataType::List(_) => listed(column.as_list::<i32>().value(at).as_primitive::<Int64Type>().iter()),
        DataType::Utf8 => listed(column.as_string::<i32>().value(at).split(SEPARATOR).map(|item| Some(item.parse().unwrap()))),
        _ => Some(column.as_primitive::<Int64Type>().value(at)),
    };
    let (own, results) = changes.rows.columns().split_at(EVEN + 1);
    for at in 0..changes.num_rows() {
        let row: Row = own[..TEXT].iter().chain(results).map(|column| value(column, at)).collect();
        *view.entry(row).or_default() += changes.weight(at);
    }
    view.retain(|_, weight| *weight != 0);
}

fn any_row(random: &mut StdRng, wide: bool) -> Row {
    let any = |random: &mut StdRng, n: i64| (!random.random_bool(0.1)).then(|| random.random_range(0..n));
    let order = any(random, if wide { 400 } else { 12 });
    vec![Some(random.random_range(0..2)), order, any(random, 30)]
}

fn run(seed: u64, cache_bytes: Option<usize>) {
    let mut random = StdRng::seed_from_u64(seed);
    let calls: Vec<OverCall> = (0..random.random_range(1..=3)).map(|_| any_call(&mut random)).collect();
    let order = OrderKey { column: 1, descending: random.random_bool(0.5), nulls_first: random.random_bool(0.5) };
    let mut harness = Harness { calls, order, kv: Arc::default(), gate: Arc::default(), cache_bytes };
    let mut operator = harness.operator(false);
    let (mut bag, mut view) = (Bag::new(), Bag::new());
    let wide = random.random_bool(0.5);
    for step in 0..14 {
        let mut changes = Vec::new();
        for _ in 0..random.random_range(1..=if step == 0 { 60 } else { 4 }) {
            let gone = if step > 0 && random.random_bool(0.45) { bag.keys().nth(random.random_range(0..bag.len().max(1))) } else { None };
            let (row, weight) = match gone {
                Some(row) => (row.clone(), -1),
                None => (any_row(&mut random, wide), if random.random_bool(0.9) { 1 } else { 2 }),
            };
            *bag.entry(row.clone()).or_default() += weight;
            bag.retain(|_, weight| *weight != 0);
            changes.push((row, weight));
        }
        let mut ctx = StepContext::new(Epoch(step + 1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Stop);
        let batch = TaggedBatch { changes: to_batch(&changes), arrival_watermark: Timestamp::MIN, now: Timestamp(0) };
        split(batch, seed ^ step).into_iter().for_each(|piece| operator.push(0, piece, &mut ctx).unwrap());
        operator.finish(Timestamp::MIN, &mut ctx).unwrap();
        assert!(!operator.unfinished());
        let mut net = Bag::new();
        let mut gross = 0;
        for batch in ctx.take_output() {
            gross += (0..batch.changes.num_rows()).map(|at| batch.changes.weight(at).abs()).sum::<i64>();
            apply(&mut net, &batch.changes);
            apply(&mut view, &batch.changes);
        }
        assert_eq!(net.values().map(|w| w.abs()).sum::<i64>(), gross, "the output is net: seed {seed}, step {step}");
        let expected = defined(&harness.calls, harness.order, &bag);
        assert_eq!(view, expected, "seed {seed}, step {step}, {:?} {:?}\n{changes:?}", harness.calls, harness.order);
        if random.random_bool(0.2) {
            use eddyline_common::kv::KeyValueStore;
            harness.gate.begin(1).unwrap();
            let runs = operator.freeze().unwrap();
            let copy = Arc::new(MemoryKv::default());
            copy.ingest(SortedRun::merge(all_of(harness.kv.as_ref()))).unwrap();
            copy.ingest(SortedRun::merge(runs)).unwrap();
            (harness.kv, harness.gate) = (copy, Arc::default());
            operator = harness.operator(true);
        }
    }
}

/// Everything in the operator's table.
fn all_of(kv: &MemoryKv) -> Vec<(StateTableId, SortedRun)> {
    use eddyline_common::kv::KeyValueStore;
    let mut run = SortedRun::default();
    kv.scan(StateTableId(1), &[], None, &mut |key, value| {
        run.push(key, Some(value));
        Ok(true)
    })
    .unwrap();
    vec![(StateTableId(1), run)]
}

#[test]
fn in_memory() {
    (0..400).for_each(|seed| run(seed, None));
}

#[test]
fn in_a_store_with_next_to_no_cache() {
    (1000..1300).for_each(|seed| run(seed, Some(1)));
}

#[test]
fn so_many_values_in_lists_are_made_at_once() {
    assert_eq!([computed_at_once(&[20, 1]), computed_at_once(&[8, 8, 1]), computed_at_once(&[0; 9])], [1, 2, 6]);
}

/// Only what a change can reach is read.
#[test]
fn rows_out_of_reach_are_not_read() {
    let lag = OverCall {
        function: OverFunction::Lag { argument: 2, offset: 1, places: None, default: number(0), ignore_nulls: false },
        frame: Frame { unit: FrameUnit::Rows, start: FrameBound::Unbounded, end: FrameBound::CurrentRow },
        output: SqlType::BigInt,
    };
    let order = OrderKey { column: 1, descending: false, nulls_first: false };
    let harness = Harness { calls: vec![lag], order, kv: Arc::default(), gate: Arc::default(), cache_bytes: Some(1) };
    let mut operator = harness.operator(false);
    let mut step = |rows: Vec<(Row, i64)>| {
        let mut ctx = StepContext::new(Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Stop);
        let batch = TaggedBatch { changes: to_batch(&rows), arrival_watermark: Timestamp::MIN, now: Timestamp(0) };
        operator.push(0, batch, &mut ctx).unwrap();
        operator.finish(Timestamp::MIN, &mut ctx).unwrap();
        let before = operator.rows.counters().fetched;
        (ctx.take_output().iter().map(|b| b.changes.num_rows()).sum::<usize>(), before)
    };
    let row = |n: i64| vec![Some(1), Some(n), Some(n)];
    let (_, loaded) = step((0..5_000).map(|n| (row(2 * n), 1)).collect());
    let (emitted, fetched) = step(vec![(row(5_001), 1), (row(9_000), -1)]);
    assert_eq!(emitted, 6, "two rows with their successors: one new, one gone, two changed");
    assert!(fetched - loaded < 100, "{} rows were read", fetched - loaded);
}
