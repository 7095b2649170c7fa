//! Sessions as their cuts come in steps of one or of many: what is late, what closes, what a retraction leaves.

use super::*;
use crate::testing::{changes_of, net, net_changes, schema, weighted};
use eddyline_common::{Epoch, SqlType};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_storage::kv::MemoryKv;
use eddyline_storage::state::{SpillGate, StateBudget};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

type Weighted = Vec<(Vec<i64>, i64)>;

/// A cut: its rows, the watermark before it and after.
type Cut = (Weighted, i64, i64);

const GAP: i64 = 4;

fn operator(emit: Emit) -> Box<SessionAssign> {
    let columns = [("k", SqlType::BigInt), ("ts", SqlType::Timestamp)];
    let windows = [("s", SqlType::Timestamp), ("e", SqlType::Timestamp), ("t", SqlType::Timestamp)];
    let state = StateSpec {
        table: StateTableId(1),
        worker: 0,
        workers: 1,
        kv: Arc::new(MemoryKv::default()),
        backend: crate::StateBackend::Memory,
        budget: StateBudget::new(1 << 30),
        gate: Arc::new(SpillGate::new()),
        restore: false,
        ttl: [None; 2],
        forgetful: false,
    };
    SessionAssign::new(SessionSpec {
        partition: vec![0],
        time_column: 1,
        gap: GAP,
        emit,
        allowed_lateness: 0,
        input: schema(&columns),
        output: schema(&[columns.as_slice(), windows.as_slice()].concat()),
        routing: vec![0],
        state,
    })
    .unwrap()
}

/// The net output and the late rows of cuts that are taken in steps of the given sizes. What is above keeps a session until the watermark before a step
/// is its gap behind its end: no step changes one of those.
fn run(emit: Emit, cuts: &[Cut], steps: &[usize]) -> (Weighted, Weighted) {
    let mut operator = operator(emit);
    let input = schema(&[("k", SqlType::BigInt), ("ts", SqlType::Timestamp)]);
    let (mut output, mut late, mut watermark, mut rest) = (Vec::new(), Vec::new(), Timestamp::MIN, cuts);
    for size in steps {
        let (taken, later) = rest.split_at(*size);
        rest = later;
        let mut ctx = StepContext::new(Epoch(1), Timestamp(0), watermark, ErrorPolicy::Stop);
        for (rows, before, after) in taken {
            if !rows.is_empty() {
                operator.push(0, weighted(&input, rows, *before), &mut ctx).unwrap();
            }
            watermark = Timestamp(*after);
        }
        operator.finish(watermark, &mut ctx).unwrap();
        for batch in ctx.take_output() {
            let is_kept = |(row, _): &(Vec<i64>, i64)| row[3].saturating_add(GAP) > batch.arrival_watermark.0;
            assert!(changes_of(&batch.changes).iter().all(is_kept), "{:?} under {:?}", batch.changes, batch.arrival_watermark);
            output.push(batch);
        }
        late.extend(ctx.take_late());
    }
    (net(&output), net_changes(late.iter()))
}

#[test]
fn a_row_is_late_by_itself() {
    let cuts = [(vec![(vec![1, 95], 1)], 100, 100), (vec![(vec![1, 98], 1)], 100, 100)];
    let expected = (vec![(vec![1, 98, 98, 102, 102 - 1_000], 1)], vec![(vec![1, 95], 1)]);
    assert_eq!(run(Emit::Changes, &cuts, &[1, 1]), expected);
    assert_eq!(run(Emit::Changes, &cuts, &[2]), expected);
}

#[test]
fn a_session_that_became_shorter_closes_when_the_watermark_rises() {
    let row = |time: i64, weight: i64| (vec![1, time], weight);
    let shorter = vec![(vec![row(93, 1)], 90, 90), (vec![row(96, 1)], 90, 96), (vec![row(96, -1)], 96, 97)];
    let grown = vec![(vec![row(93, 1)], 90, 90), (vec![row(97, 1)], 90, 100), (vec![row(97, -1)], 100, 100), (vec![row(97, 1)], 100, 100)];
    for (cuts, steps) in [(shorter, vec![vec![1, 1, 1], vec![2, 1], vec![3]]), (grown, vec![vec![1, 1, 1, 1], vec![2, 2], vec![4]])] {
        let results: Vec<_> = steps.iter().map(|steps| run(Emit::Changes, &cuts, steps)).collect();
        assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    }
}

/// Steps of one cut and steps of many come to the same, with rows that go again.
#[test]
fn steps_of_many_cuts_decide_as_steps_of_one() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut cuts, mut there, mut watermark): (Vec<Cut>, BTreeMap<Vec<i64>, i64>, i64) = (Vec::new(), BTreeMap::new(), 0);
        for _ in 0..12 {
            let before = watermark;
            let mut rows = Vec::new();
            for _ in 0..random.random_range(0..4) {
                let known = there.keys().nth(random.random_range(0..there.len().max(1))).cloned();
                let row = match known.filter(|_| random.random_bool(0.4)) {
                    Some(row) => (row, -1),
                    None => (vec![1, before + random.random_range(-7..6)], 1),
                };
                *there.entry(row.0.clone()).or_default() += row.1;
                there.retain(|_, weight| *weight != 0);
                rows.push(row);
            }
            if random.random_bool(0.5) {
                watermark += random.random_range(0..4);
            }
            cuts.push((rows, before, watermark));
        }
        cuts.push((Vec::new(), watermark, 1_000));
        for emit in [Emit::Changes, Emit::OnClose] {
            let single = run(emit, &cuts, &[1; 13]);
            for steps in [vec![13], vec![2, 3, 4, 4], vec![6, 7]] {
                assert_eq!(run(emit, &cuts, &steps), single, "seed {seed}, {emit:?}, steps {steps:?}: {cuts:?}");
            }
        }
    }
}
