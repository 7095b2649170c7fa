//! Tests of the engine: exchange, isolation of failures, both error policies, dropping in flight.

use super::*;
use crate::expr::NowHandle;
use crate::instance::Work;
use crate::job::{JobLookup, JobProgress, StepDone};
use crate::operator::{Operator, StepContext};
use crate::operators::exchange::Partitioner;
use crate::operators::materialize::Materialize;
use crate::operators::scan::Scan;
use crate::testing::{binary, column, columns, int, net, net_changes, schema, split, weighted};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use eddyline_common::connector::{LookupAnswer, LookupCache, LookupClient, LookupConnector, LookupShape, OnAnswer, OnTrouble};
use eddyline_common::kv::SortedRun;
use eddyline_common::runtime::SystemThreads;
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{Epoch, SqlError, SqlState, SqlType, StateTableId, Timestamp, key};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_planner::plan::{
    AggregateCall, AggregateFunction, BinaryOp, ChangelogMode, Expr, JoinKind, Literal, LiteralValue, Merge, Node, Op, PLAN_VERSION,
    StreamPlan, WindowKind,
};
use eddyline_storage::kv::MemoryKv;
use eddyline_storage::view::{View, ViewKey};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SOURCE: RelationId = RelationId(1);
const OTHER: RelationId = RelationId(2);
const JOB: RelationId = RelationId(10);
/// Far more than any step here takes, so that a test that hangs ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store for jobs without state.
struct NoStore;

impl KeyValueStore for NoStore {
    fn multi_get(&self, _: StateTableId, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        Ok(vec![None; keys.len()])
    }
    fn scan(&self, _: StateTableId, _: &[u8], _: Option<&[u8]>, _: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>) -> Result<()> {
        Ok(())
    }
    fn scan_back(&self, _: StateTableId, _: &[u8], _: Option<&[u8]>, _: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>) -> Result<()> {
        Ok(())
    }
    fn ingest(&self, _: Vec<(StateTableId, SortedRun)>) -> Result<()> {
        Ok(())
    }
    fn delete_range(&self, _: StateTableId, _: &[u8], _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn drop_table(&self, _: StateTableId) -> Result<()> {
        Ok(())
    }
    fn checkpoint(&self, _: &Path) -> Result<()> {
        Ok(())
    }
    fn stored_bytes(&self, _: StateTableId) -> u64 {
        0
    }
    fn disk_reads(&self) -> u64 {
        0
    }
}

fn config(workers: usize, backend: StateBackend, cache_bytes: usize) -> EngineConfig {
    EngineConfig { workers, backend, cache_bytes, threads: Arc::new(SystemThreads) }
}

fn engine(workers: usize) -> Engine {
    Engine::start(config(workers, StateBackend::Memory, 1 << 20), Arc::new(NoStore))
}

fn node(op: Op, inputs: &[usize], columns: Vec<Column>, mode: ChangelogMode) -> Node {
    Node { op, inputs: inputs.to_vec(), columns, mode, unique_keys: Vec::new(), time_columns: Vec::new() }
}

fn plan(nodes: Vec<Node>) -> Arc<StreamPlan> {
    Arc::new(StreamPlan { version: PLAN_VERSION, output: nodes.len() - 1, nodes, state_ttl: vec![] })
}

fn kv() -> Vec<Column> {
    columns(&[("k", SqlType::BigInt), ("v", SqlType::BigInt)])
}

fn scan(relation: RelationId) -> Node {
    node(Op::Scan { relation, projection: vec![0, 1] }, &[], kv(), ChangelogMode::Retract)
}

/// Scan -> Exchange by k -> Materialize by k.
fn table_plan() -> Arc<StreamPlan> {
    plan(vec![
        scan(SOURCE),
        node(Op::Exchange { keys: vec![0] }, &[0], kv(), ChangelogMode::Retract),
        node(Op::Materialize { key: vec![0] }, &[1], kv(), ChangelogMode::Retract),
    ])
}

/// Scan -> Project 100 / v -> Exchange -> Materialize.
fn dividing_plan() -> Arc<StreamPlan> {
    let exprs = vec![column(0), binary(BinaryOp::Divide, int(100), column(1))];
    plan(vec![
        scan(SOURCE),
        node(Op::Project { exprs }, &[0], kv(), ChangelogMode::Retract),
        node(Op::Exchange { keys: vec![0, 1] }, &[1], kv(), ChangelogMode::Retract),
        node(Op::Materialize { key: vec![] }, &[2], kv(), ChangelogMode::Retract),
    ])
}

fn spec(job: RelationId, plan: Arc<StreamPlan>, key: ViewKey, workers: usize) -> JobSpec {
    let view = View::new(arrow_schema(&plan.output_node().columns), key, workers, None).unwrap();
    let stored = arrow_schema(&kv());
    let inputs = [(SOURCE, stored.clone()), (OTHER, stored)].into();
    JobSpec {
        job,
        plan,
        view: Some(view),
        inputs,
        on_error: ErrorPolicy::Reject,
        parallelism: None,
        rejects: None,
        lookups: BTreeMap::new(),
        restore: None,
    }
}

fn step(job: RelationId, epoch: u64, inputs: Vec<(RelationId, Vec<TaggedBatch>)>, watermark: i64) -> Step {
    let inputs = inputs.into_iter().map(|(relation, batches)| StepInput { relation, batches, watermark: Timestamp(watermark) }).collect();
    Step { job, epoch: Epoch(epoch), now: Timestamp(77), inputs }
}

fn next(engine: &Engine) -> EngineEvent {
    engine.events().recv_timeout(PATIENCE).expect("an event comes")
}

fn done(engine: &Engine) -> StepDone {
    match next(engine) {
        EngineEvent::StepDone(done) => done,
        EngineEvent::StepsDone(_) => panic!("one job was stepped"),
        EngineEvent::JobFailed { error, .. } => panic!("the job failed: {error}"),
        EngineEvent::Frozen { .. } => panic!("nothing was frozen"),
    }
}

fn failed(engine: &Engine) -> (RelationId, Epoch, SqlError) {
    match next(engine) {
        EngineEvent::JobFailed { job, epoch, error } => (job, epoch, error),
        _ => panic!("the job did not fail"),
    }
}

fn batch(rows: &[(Vec<i64>, i64)]) -> TaggedBatch {
    weighted(&arrow_schema(&kv()), rows, 0)
}

fn rows(range: std::ops::Range<i64>) -> Vec<(Vec<i64>, i64)> {
    range.map(|i| (vec![i, i * 2], 1)).collect()
}

/// The view's rows at an epoch.
fn content(view: &View, epoch: u64) -> Vec<(Vec<i64>, i64)> {
    let changes = view.changes(Epoch::ZERO, Epoch(epoch)).unwrap();
    net_changes(changes.iter())
}

#[test]
fn a_table_follows_its_changes_over_an_exchange() {
    for workers in [1, 2, 3] {
        let engine = engine(workers);
        let spec = spec(JOB, table_plan(), ViewKey::Keyed(vec![0]), workers);
        let view = spec.view.clone().unwrap();
        engine.create_job(spec).unwrap();
        let all = rows(0..50_000);
        engine.step(step(JOB, 3, vec![(SOURCE, split(batch(&all), 1))], 5));
        let first = done(&engine);
        assert_eq!((first.job, first.epoch, first.watermark), (JOB, Epoch(3), Timestamp(5)));
        assert_eq!((first.rows_in, first.rows_out), (50_000, 50_000));
        assert_eq!(net(&first.output), all);
        let now = first.progress.now;
        let progress = JobProgress { epoch: Epoch(3), started: true, watermarks: [(SOURCE, Timestamp(5))].into(), now, next_timer: None };
        assert_eq!(first.progress, progress);
        // Two updates of one key and one that comes to nothing, coalesced.
        let changes = [(vec![1, 2], -1), (vec![1, 9], 1), (vec![1, 9], -1), (vec![1, 10], 1), (vec![2, 4], -1), (vec![2, 4], 1)];
        engine.step(step(JOB, 4, vec![(SOURCE, split(batch(&changes), 2))], 6));
        let second = done(&engine);
        assert_eq!(net(&second.output), vec![(vec![1, 2], -1), (vec![1, 10], 1)]);
        assert_eq!(second.rows_out, 2);
        assert_eq!(view.num_rows(Epoch(4)), 50_000);
        assert_eq!(content(&view, 4)[..3], [(vec![0, 0], 1), (vec![1, 10], 1), (vec![2, 4], 1)]);
        assert_eq!(content(&view, 3)[1], (vec![1, 2], 1));
        // A step without rows only moves time; watermarks never go back.
        engine.step(step(JOB, 5, vec![(SOURCE, vec![])], 2));
        let third = done(&engine);
        assert_eq!((third.watermark, third.rows_in, third.rows_out), (Timestamp(6), 0, 0));
    }
}

#[test]
fn stateless_operators_compose() {
    let time = Expr::Cast { expr: Box::new(column(1)), ty: SqlType::Timestamp, try_cast: false };
    let timed = columns(&[("k", SqlType::BigInt), ("ts", SqlType::Timestamp)]);
    let windowed: Vec<Column> =
        timed.iter().cloned().chain(["ws", "we", "wt"].map(|n| Column::new(n, SqlType::Timestamp, false))).collect();
    let literal = |v| Literal { ty: SqlType::BigInt, value: LiteralValue::Int(v) };
    let plan = plan(vec![
        scan(SOURCE),
        scan(OTHER),
        node(Op::Values { rows: vec![vec![literal(-1), literal(-2)]] }, &[], kv(), ChangelogMode::Append),
        node(Op::Filter { predicate: binary(BinaryOp::Lt, column(0), int(100)) }, &[0], kv(), ChangelogMode::Retract),
        node(Op::Union, &[3, 1, 2], kv(), ChangelogMode::Retract),
        node(Op::Project { exprs: vec![column(0), time] }, &[4], timed, ChangelogMode::Retract),
        node(
            Op::WindowAssign { time_column: 1, kind: WindowKind::Tumble { size: 1_000, offset: 0 } },
            &[5],
            windowed.clone(),
            ChangelogMode::Retract,
        ),
        node(Op::Exchange { keys: vec![0, 1, 2, 3, 4] }, &[6], windowed.clone(), ChangelogMode::Retract),
        node(Op::Materialize { key: vec![] }, &[7], windowed, ChangelogMode::Retract),
    ]);
    let expect =
        |k: i64, t: i64| (vec![k, t, t.div_euclid(1_000) * 1_000, t.div_euclid(1_000) * 1_000 + 1_000, t.div_euclid(1_000) * 1_000], 1);
    for workers in [1, 2] {
        let engine = engine(workers);
        engine.create_job(spec(JOB, plan.clone(), ViewKey::Multiset, workers)).unwrap();
        engine.step(step(JOB, 1, vec![(SOURCE, split(batch(&rows(0..3_000)), 3)), (OTHER, vec![batch(&rows(500..1_500))])], 8));
        let out = done(&engine);
        let mut expected: Vec<_> = (0..100).chain(500..1_500).map(|i| expect(i, 2 * i)).collect();
        expected.push(expect(-1, -2));
        expected.sort();
        assert_eq!(net(&out.output), expected);
        assert_eq!((out.rows_in, out.rows_out, out.watermark), (4_000, 1_101, Timestamp(8)));
        // Constants come once; the watermark is the minimum of the inputs.
        engine.step(step(JOB, 2, vec![(SOURCE, vec![batch(&[(vec![0, 0], -1)])])], 100));
        let out = done(&engine);
        assert_eq!(net(&out.output), vec![(expect(0, 0).0, -1)]);
        assert_eq!(out.watermark, Timestamp(8));
    }
}

#[test]
fn restored_jobs_do_not_emit_constants_again_and_keep_watermarks() {
    let literal = |v| Literal { ty: SqlType::BigInt, value: LiteralValue::Int(v) };
    let plan = plan(vec![
        scan(SOURCE),
        node(Op::Values { rows: vec![vec![literal(1), literal(1)]] }, &[], kv(), ChangelogMode::Append),
        node(Op::Union, &[0, 1], kv(), ChangelogMode::Retract),
        node(Op::Materialize { key: vec![] }, &[2], kv(), ChangelogMode::Append),
    ]);
    let engine = engine(2);
    let progress = JobProgress { epoch: Epoch(5), started: true, watermarks: [(SOURCE, Timestamp(40))].into(), ..JobProgress::default() };
    engine.create_job(JobSpec { restore: Some(progress), ..spec(JOB, plan, ViewKey::Append, 2) }).unwrap();
    engine.step(step(JOB, 6, vec![], 0));
    let out = done(&engine);
    assert_eq!((out.rows_out, out.watermark), (0, Timestamp(40)));
}

#[test]
fn failing_rows_are_rejected_and_taken_back() {
    for workers in [1, 2] {
        let engine = engine(workers);
        engine.create_job(spec(JOB, dividing_plan(), ViewKey::Multiset, workers)).unwrap();
        let input: Vec<_> = (0..5_000).map(|i| (vec![i, i % 5], 1)).collect();
        engine.step(step(JOB, 1, vec![(SOURCE, split(batch(&input), 4))], 0));
        let out = done(&engine);
        assert_eq!(out.rows_out, 4_000);
        let rejected = net_changes(out.rejected.iter().map(|r| &r.changes));
        assert_eq!(rejected, (0..5_000).step_by(5).map(|i| (vec![i, 0], 1)).collect::<Vec<_>>());
        assert!(out.rejected.iter().all(|r| r.node == 1 && r.reason == "division by zero"));
        engine.step(step(JOB, 2, vec![(SOURCE, vec![batch(&[(vec![5, 0], -1), (vec![6, 1], -1)])])], 0));
        let out = done(&engine);
        assert_eq!(net_changes(out.rejected.iter().map(|r| &r.changes)), vec![(vec![5, 0], -1)]);
        assert_eq!(net(&out.output), vec![(vec![6, 100], -1)]);
    }
}

#[test]
fn failing_rows_stop_the_job_by_policy_and_no_other() {
    for workers in [1, 2] {
        let engine = engine(workers);
        engine.create_job(JobSpec { on_error: ErrorPolicy::Stop, ..spec(JOB, dividing_plan(), ViewKey::Multiset, workers) }).unwrap();
        engine.create_job(spec(RelationId(11), table_plan(), ViewKey::Keyed(vec![0]), workers)).unwrap();
        engine.step(step(JOB, 1, vec![(SOURCE, vec![batch(&[(vec![1, 1], 1), (vec![2, 0], 1)])])], 0));
        let (job, epoch, error) = failed(&engine);
        assert_eq!((job, epoch, error.state.0), (JOB, Epoch(1), "22012"));
        engine.step(step(JOB, 2, vec![(SOURCE, vec![batch(&rows(0..10))])], 0));
        engine.freeze(JOB, 1).unwrap();
        engine.step(step(RelationId(11), 2, vec![(SOURCE, vec![batch(&rows(0..10))])], 0));
        assert_eq!(done(&engine).job, RelationId(11));
        engine.drop_job(JOB);
        engine.drop_job(JOB);
    }
}

/// Panics on the row `k = 13`, and once more when it is dropped.
struct Bomb {
    armed: bool,
}

impl Operator for Bomb {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        if net(std::slice::from_ref(&batch)).iter().any(|(row, _)| row[0] == 13) {
            self.armed = true;
            panic!("thirteen");
        }
        ctx.emit_tagged(batch);
        Ok(())
    }
    fn finish(&mut self, _watermark: Timestamp, _ctx: &mut StepContext) -> Result<()> {
        Ok(())
    }
    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        Ok(vec![(StateTableId(4), SortedRun::from_iter([([1], None::<[u8; 0]>)]))])
    }
    fn state_bytes(&self) -> usize {
        100
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.armed {
            panic!("thirteen again");
        }
    }
}

/// A job whose filter is the bomb.
fn install_bomb(engine: &Engine, job: RelationId) {
    let plan = plan(vec![
        scan(SOURCE),
        node(Op::Filter { predicate: column(0) }, &[0], kv(), ChangelogMode::Retract),
        node(Op::Exchange { keys: vec![0] }, &[1], kv(), ChangelogMode::Retract),
        node(Op::Materialize { key: vec![0] }, &[2], kv(), ChangelogMode::Retract),
    ]);
    let schema: SchemaRef = arrow_schema(&kv());
    let workers = engine.workers();
    let spec = spec(job, plan, ViewKey::Keyed(vec![0]), workers);
    let shared = Arc::new(JobShared::new(&spec, workers, engine.events.0.clone()));
    let build = |worker: usize| {
        let partitioner = Partitioner::new(vec![0], &schema, shared.placement).unwrap();
        let work = vec![
            Work::Operator(Box::new(Scan::new(vec![0, 1], &schema, schema.clone()).unwrap())),
            Work::Operator(Box::new(Bomb { armed: false })),
            Work::Exchange(crate::exchange::Exchange::new(partitioner, schema.clone(), worker, workers)),
            Work::Operator(Box::new(Materialize::new(spec.view.clone(), worker, schema.clone(), false, false).unwrap())),
        ];
        Instance::new(shared.clone(), work, NowHandle::default())
    };
    engine.install(shared.clone(), (0..workers).map(build).collect());
}

/// Passes on what comes, and takes its time for it.
struct Leisurely(Duration);

impl Operator for Leisurely {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        std::thread::sleep(self.0);
        ctx.emit_tagged(batch);
        Ok(())
    }
    fn finish(&mut self, _watermark: Timestamp, _ctx: &mut StepContext) -> Result<()> {
        Ok(())
    }
}

/// Two exchanges, one after the other, and one worker that is slower than the others, which therefore have to wait; also those that have
/// something for each other.
#[test]
fn what_workers_have_for_each_other_is_bounded() {
    const ROWS: i64 = 1_000;
    let schema: SchemaRef = arrow_schema(&kv());
    let plan = plan(vec![
        scan(SOURCE),
        node(Op::Exchange { keys: vec![0] }, &[0], kv(), ChangelogMode::Retract),
        node(Op::Exchange { keys: vec![1] }, &[1], kv(), ChangelogMode::Retract),
        node(Op::Filter { predicate: column(0) }, &[2], kv(), ChangelogMode::Retract),
        node(Op::Materialize { key: vec![] }, &[3], kv(), ChangelogMode::Retract),
    ]);
    for workers in [2, 3] {
        let engine = engine(workers);
        let spec = spec(JOB, plan.clone(), ViewKey::Multiset, workers);
        let shared = Arc::new(JobShared::new(&spec, workers, engine.events.0.clone()));
        let build = |worker: usize| {
            let exchange = |key: usize| {
                let partitioner = Partitioner::new(vec![key], &schema, shared.placement).unwrap();
                Work::Exchange(crate::exchange::Exchange::new(partitioner, schema.clone(), worker, workers))
            };
            let work = vec![
                Work::Operator(Box::new(Scan::new(vec![0, 1], &schema, schema.clone()).unwrap())),
                exchange(0),
                exchange(1),
                Work::Operator(Box::new(Leisurely(Duration::from_millis(if worker == 0 { 2 } else { 0 })))),
                Work::Operator(Box::new(Materialize::new(spec.view.clone(), worker, schema.clone(), false, false).unwrap())),
            ];
            Instance::new(shared.clone(), work, NowHandle::default())
        };
        engine.install(shared.clone(), (0..workers).map(build).collect());
        for epoch in 1..3 {
            let from = epoch * 1_000_000;
            let batches: Vec<TaggedBatch> = (0..400).map(|i| batch(&rows(from + i * ROWS..from + (i + 1) * ROWS))).collect();
            // Piles that are sent at the moment when it becomes full: what was collected, and a batch that may have been one.
            let pile = 3 * 8 * 1024 * 24;
            let bound = crate::exchange::TRANSIT_BYTES_MAX + workers * (workers - 1) * pile;
            engine.step(step(JOB, epoch as u64, vec![(SOURCE, batches)], 0));
            let done = done(&engine);
            assert!((1..=bound).contains(&done.transit_bytes_max), "{} of {bound}", done.transit_bytes_max);
            assert_eq!(net(&done.output), rows(from..from + 400 * ROWS));
        }
    }
}

#[test]
fn a_panic_ends_its_job_alone() {
    for workers in [1, 2] {
        let engine = engine(workers);
        install_bomb(&engine, JOB);
        engine.create_job(spec(RelationId(11), table_plan(), ViewKey::Keyed(vec![0]), workers)).unwrap();
        engine.step(step(JOB, 1, vec![(SOURCE, vec![batch(&rows(20..30))])], 0));
        let first = done(&engine);
        assert_eq!((first.rows_out, first.state_bytes), (10, 100 * workers as u64));
        engine.step(step(JOB, 2, vec![(SOURCE, vec![batch(&rows(0..10_000))])], 0));
        let (job, _, error) = failed(&engine);
        assert_eq!(job, JOB);
        assert!(error.message.contains("thirteen"), "{error}");
        for epoch in 3..6 {
            engine.step(step(JOB, epoch, vec![(SOURCE, vec![batch(&rows(0..10))])], 0));
            engine.step(step(RelationId(11), epoch, vec![(SOURCE, vec![batch(&rows(epoch as i64 * 10..epoch as i64 * 10 + 10))])], 0));
            assert_eq!(done(&engine).rows_out, 10);
        }
        engine.drop_job(JOB);
        assert!(engine.events().try_recv().is_err());
    }
}

#[test]
fn freeze_gathers_the_runs_of_all_workers() {
    for workers in [1, 2] {
        let engine = engine(workers);
        install_bomb(&engine, JOB);
        engine.step(step(JOB, 1, vec![(SOURCE, vec![batch(&rows(20..30))])], 0));
        done(&engine);
        engine.freeze(JOB, 7).unwrap();
        let EngineEvent::Frozen { job, checkpoint, runs } = next(&engine) else { panic!("it is frozen") };
        assert_eq!((job, checkpoint, engine.gate().latest()), (JOB, 7, 7));
        assert_eq!(runs.iter().map(|(table, run)| (*table, run.len())).collect::<Vec<_>>(), vec![(StateTableId(4), 1); workers]);
    }
}

/// Scan -> Filter v < 100 -> Materialize: no row has to be on a certain worker.
fn filtering_plan() -> Arc<StreamPlan> {
    let predicate = binary(BinaryOp::Lt, column(1), int(100));
    plan(vec![
        node(Op::Scan { relation: SOURCE, projection: vec![0, 1] }, &[], kv(), ChangelogMode::Append),
        node(Op::Filter { predicate }, &[0], kv(), ChangelogMode::Append),
        node(Op::Materialize { key: vec![] }, &[1], kv(), ChangelogMode::Append),
    ])
}

#[test]
fn steps_that_begin_together_come_to_what_they_come_to_alone() {
    for workers in [1, 2, 3] {
        let engine = engine(workers);
        let all = rows(0..3_000);
        let kept: Vec<_> = all.iter().filter(|(row, _)| row[1] < 100).cloned().collect();
        let jobs: Vec<(RelationId, bool)> = (20..60).map(|id| (RelationId(id), id % 5 > 0)).collect();
        let mut views = Vec::new();
        for (job, filters) in &jobs {
            let (plan, key) = if *filters { (filtering_plan(), ViewKey::Append) } else { (table_plan(), ViewKey::Keyed(vec![0])) };
            let spec = spec(*job, plan, key, workers);
            views.push(spec.view.clone().unwrap());
            engine.create_job(spec).unwrap();
        }
        for epoch in 1..4 {
            let batches = if epoch == 1 { split(batch(&all), 7) } else { Vec::new() };
            engine.steps(jobs.iter().map(|(job, _)| step(*job, epoch, vec![(SOURCE, batches.clone())], epoch as i64)).collect());
            let (mut together, mut seen) = (0, std::collections::BTreeMap::new());
            while seen.len() < jobs.len() {
                match next(&engine) {
                    EngineEvent::StepDone(done) => drop(seen.insert(done.job, done)),
                    EngineEvent::StepsDone(done) => {
                        together += done.len();
                        seen.extend(done.into_iter().map(|done| (done.job, done)));
                    }
                    _ => panic!("a job failed, or was frozen"),
                }
            }
            assert!(together > 1, "what ends together is told of together");
            for ((job, filters), view) in jobs.iter().zip(&views) {
                let (done, expected) = (&seen[job], if *filters { &kept } else { &all });
                assert_eq!((done.epoch, done.watermark), (Epoch(epoch), Timestamp(epoch as i64)));
                assert_eq!(done.rows_in, if epoch == 1 { 3_000 } else { 0 });
                assert_eq!(net(&done.output), if epoch == 1 { expected.clone() } else { Vec::new() });
                assert_eq!(content(view, epoch), *expected);
            }
        }
        // Nobody is asked for the state of a job that has none.
        engine.freeze(jobs[1].0, 1).unwrap();
        let EngineEvent::Frozen { job, runs, .. } = next(&engine) else { panic!("it is frozen") };
        assert_eq!((job, runs.len()), (jobs[1].0, 0));
    }
}

#[test]
fn jobs_are_dropped_in_flight() {
    for workers in [1, 2] {
        let engine = engine(workers);
        for round in 0..20 {
            let job = RelationId(100 + round);
            engine.create_job(spec(job, table_plan(), ViewKey::Keyed(vec![0]), workers)).unwrap();
            engine.step(step(job, 1, vec![(SOURCE, split(batch(&rows(0..20_000)), round as u64))], 0));
            engine.drop_job(job);
            engine.step(step(job, 2, vec![], 0));
        }
        engine.create_job(spec(JOB, table_plan(), ViewKey::Keyed(vec![0]), workers)).unwrap();
        engine.step(step(JOB, 1, vec![(SOURCE, vec![batch(&rows(0..100))])], 0));
        while done(&engine).job != JOB {}
    }
}

#[test]
fn engines_stop_in_the_middle_of_a_step() {
    let engine = engine(2);
    engine.create_job(spec(JOB, table_plan(), ViewKey::Keyed(vec![0]), 2)).unwrap();
    engine.step(step(JOB, 1, vec![(SOURCE, split(batch(&rows(0..100_000)), 1))], 0));
}

#[test]
fn a_short_job_does_not_wait_for_a_long_one() {
    let engine = engine(1);
    engine.create_job(spec(JOB, table_plan(), ViewKey::Keyed(vec![0]), 1)).unwrap();
    engine.create_job(spec(RelationId(11), table_plan(), ViewKey::Keyed(vec![0]), 1)).unwrap();
    let heavy: Vec<_> = (0..4).flat_map(|i| split(batch(&rows(i * 100_000..(i + 1) * 100_000)), i as u64)).collect();
    engine.step(step(JOB, 1, vec![(SOURCE, heavy)], 0));
    engine.step(step(RelationId(11), 1, vec![(SOURCE, vec![batch(&rows(0..10))])], 0));
    assert_eq!(done(&engine).job, RelationId(11));
    assert_eq!(done(&engine).job, JOB);
}

/// Scan -> Exchange by k -> Aggregate count(*), sum(v) by k -> Materialize by k.
fn grouping_plan(group: Vec<usize>) -> Arc<StreamPlan> {
    let call = |function, argument| AggregateCall::new(function, argument, SqlType::BigInt);
    let calls = vec![call(AggregateFunction::Count, None), call(AggregateFunction::Sum, Some(1))];
    let mut out: Vec<Column> = group.iter().map(|g| kv()[*g].clone()).collect();
    out.extend(columns(&[("count", SqlType::BigInt), ("sum", SqlType::BigInt)]));
    let key: Vec<usize> = (0..group.len()).collect();
    plan(vec![
        scan(SOURCE),
        node(Op::Exchange { keys: group.clone() }, &[0], kv(), ChangelogMode::Retract),
        node(Op::Aggregate { group, calls, window: None, state: StateTableId(1) }, &[1], out.clone(), ChangelogMode::Retract),
        node(Op::Materialize { key }, &[2], out, ChangelogMode::Retract),
    ])
}

#[test]
fn groups_are_kept_over_freeze_and_restore() {
    for workers in [1, 2] {
        let store: Arc<dyn KeyValueStore> = Arc::new(MemoryKv::default());
        let config = config(workers, StateBackend::Memory, 1 << 20);
        let before = Engine::start(config.clone(), store.clone());
        let spec = spec(JOB, grouping_plan(vec![0]), ViewKey::Keyed(vec![0]), workers);
        before.create_job(spec.clone()).unwrap();
        let input: Vec<_> = (0..20_000).map(|i| (vec![i % 1_000, i], 1)).collect();
        before.step(step(JOB, 1, vec![(SOURCE, split(batch(&input), 5))], 0));
        let first = done(&before);
        assert_eq!(first.rows_out, 1_000);
        before.freeze(JOB, 1).unwrap();
        let EngineEvent::Frozen { runs, .. } = next(&before) else { panic!("it is frozen") };
        assert!(before.gate().ingest(1, || store.ingest(SortedRun::merge(runs))).unwrap());
        drop(before);

        let after = Engine::start(config, store);
        after.create_job(JobSpec { restore: Some(first.progress), ..spec }).unwrap();
        // All of group 0 goes, group 1 gets a row.
        let mut changes: Vec<_> = input.iter().filter(|(row, _)| row[0] == 0).map(|(row, _)| (row.clone(), -1)).collect();
        changes.push((vec![1, 1_000_000], 1));
        after.step(step(JOB, 2, vec![(SOURCE, split(batch(&changes), 6))], 0));
        let second = done(&after);
        let sum = |k: i64| (0..20).map(|i| i * 1_000 + k).sum::<i64>();
        assert_eq!(net(&second.output), vec![(vec![0, 20, sum(0)], -1), (vec![1, 20, sum(1)], -1), (vec![1, 21, sum(1) + 1_000_000], 1)]);
    }
}

/// Rows of both inputs that have the same `k`, counted by their `v`.
fn joined_groups_plan() -> Arc<StreamPlan> {
    let pairs = columns(&[("k", SqlType::BigInt), ("v", SqlType::BigInt), ("other_k", SqlType::BigInt), ("w", SqlType::BigInt)]);
    let counts = columns(&[("v", SqlType::BigInt), ("w", SqlType::BigInt), ("count", SqlType::BigInt)]);
    let exchange = |keys: &[usize], input: usize, columns: Vec<Column>| {
        node(Op::Exchange { keys: keys.to_vec() }, &[input], columns, ChangelogMode::Retract)
    };
    let join = Op::Join {
        kind: JoinKind::Inner,
        keys: [vec![0], vec![0]],
        nulls_equal: false,
        residual: None,
        window: None,
        interval: None,
        state: StateTableId(1),
    };
    let calls = vec![AggregateCall::new(AggregateFunction::Count, None, SqlType::BigInt)];
    let aggregate = Op::Aggregate { group: vec![1, 3], calls, window: None, state: StateTableId(2) };
    plan(vec![
        scan(SOURCE),
        scan(OTHER),
        exchange(&[0], 0, kv()),
        exchange(&[0], 1, kv()),
        node(join, &[2, 3], pairs.clone(), ChangelogMode::Retract),
        exchange(&[1, 3], 4, pairs),
        node(aggregate, &[5], counts.clone(), ChangelogMode::Retract),
        node(Op::Materialize { key: vec![0, 1] }, &[6], counts, ChangelogMode::Retract),
    ])
}

/// Each row matches forty others, and each pair is a group.
#[test]
fn a_step_makes_many_groups_of_few_rows() {
    for workers in [1, 2] {
        let engine = Engine::start(config(workers, StateBackend::Rocksdb, 1 << 20), Arc::new(MemoryKv::default()));
        let spec = spec(JOB, joined_groups_plan(), ViewKey::Keyed(vec![0, 1]), workers);
        let view = spec.view.clone().unwrap();
        engine.create_job(spec).unwrap();
        let few: Vec<_> = (0..400).map(|i| (vec![i % 10, i], 1)).collect();
        let many: Vec<_> = (0..2_000).map(|i| (vec![i % 10, i], 1)).collect();
        engine.step(step(JOB, 1, vec![(OTHER, vec![batch(&few)])], 0));
        assert_eq!(done(&engine).rows_out, 0);
        engine.step(step(JOB, 2, vec![(SOURCE, vec![batch(&many)])], 0));
        let joined = done(&engine);
        assert_eq!((joined.rows_in, joined.rows_out), (2_000, 80_000));
        assert!((80_000..160_000).contains(&joined.rows_most), "what came of its rows is told: {}", joined.rows_most);
        let gone: Vec<_> = many.iter().take(1_000).map(|(row, _)| (row.clone(), -1)).collect();
        engine.step(step(JOB, 3, vec![(SOURCE, vec![batch(&gone)])], 0));
        let taken_back = done(&engine).output;
        assert!(taken_back.iter().all(|b| (0..b.changes.num_rows()).all(|row| b.changes.weight(row) == -1)), "each group is told of once");
        assert_eq!(taken_back.iter().map(|b| b.changes.num_rows()).sum::<usize>(), 40_000);
        let left: Vec<_> = (1_000..2_000).flat_map(|v| (0..40).map(move |n| (vec![v, n * 10 + v % 10, 1], 1))).collect();
        assert_eq!(content(&view, 3), left);
    }
}

/// `grouping_plan` with a pre-aggregation below the exchange.
fn two_phase_plan(group: Vec<usize>) -> Arc<StreamPlan> {
    let mut plan = (*grouping_plan(group.clone())).clone();
    let merge = Op::PreAggregate { keys: group, merged: vec![(1, Merge::Sum)], window: None };
    plan.nodes.insert(1, node(merge, &[0], kv(), ChangelogMode::Retract));
    plan.nodes[2..].iter_mut().for_each(|node| node.inputs[0] += 1);
    plan.output += 1;
    Arc::new(plan)
}

/// Rows come and go, in a few groups and in many, in batches of any size.
#[test]
fn two_phases_come_to_what_one_does() {
    for (workers, keys) in [(1, 3), (2, 3), (2, 50), (3, 5_000), (3, 1)] {
        let engine = engine(workers);
        let jobs = [(JOB, grouping_plan(vec![0]), 1), (RelationId(11), two_phase_plan(vec![0]), 2)];
        let views = jobs.map(|(job, plan, table)| {
            let mut plan = (*plan).clone();
            plan.nodes.iter_mut().for_each(|node| node.op.assign_state_tables(&mut || StateTableId(table)));
            let spec = spec(job, Arc::new(plan), ViewKey::Keyed(vec![0]), workers);
            engine.create_job(spec.clone()).unwrap();
            (job, spec.view.unwrap())
        });
        let row = |i: i64| vec![i * i % keys, i % 1_000 - 500];
        for epoch in 1..=4 {
            let added = (epoch * 2_000 - 2_000..epoch * 2_000).map(|i| (row(i), 1 + i % 2));
            let gone = (epoch * 1_000 - 1_000..epoch * 1_000 - 500).map(|i| (row(i), -1)).filter(|_| epoch > 1);
            let changes: Vec<_> = added.chain(gone).collect();
            for (job, _) in &views {
                engine.step(step(*job, epoch as u64, vec![(SOURCE, split(batch(&changes), epoch as u64))], 0));
                done(&engine);
            }
            let [one, two] = views.each_ref().map(|(_, view)| content(view, epoch as u64));
            assert!(!one.is_empty());
            assert_eq!(one, two, "{workers} workers, {keys} keys, epoch {epoch}");
        }
    }
}

#[test]
fn jobs_that_rest_give_state_back_to_those_that_work() {
    const LIMIT: usize = 1 << 20;
    let (other, keys) = (RelationId(11), 20_000);
    for workers in [1, 2] {
        let config = config(workers, StateBackend::Rocksdb, LIMIT);
        let engine = Engine::start(config, Arc::new(MemoryKv::default()));
        for (job, table) in [(JOB, 1), (other, 2)] {
            let mut plan = (*grouping_plan(vec![0])).clone();
            if let Op::Aggregate { state, .. } = &mut plan.nodes[2].op {
                *state = StateTableId(table);
            }
            engine.create_job(spec(job, Arc::new(plan), ViewKey::Keyed(vec![0]), workers)).unwrap();
        }
        for job in [JOB, other] {
            for part in 0..8 {
                let batches = split(batch(&rows(part * keys / 8..(part + 1) * keys / 8)), 7);
                engine.step(step(job, part as u64 + 1, vec![(SOURCE, batches)], 0));
                done(&engine);
            }
        }
        // A step is reported before the workers turn to those that rest.
        engine.step(step(other, 9, vec![], 0));
        done(&engine);
        assert!(engine.state_bytes() > LIMIT / 2 && engine.state_bytes() <= LIMIT, "{} bytes", engine.state_bytes());
        assert!(engine.gate().counters().evictions > 0);
        let gone: Vec<_> = rows(0..keys).into_iter().map(|(row, _)| (row, -1)).collect();
        engine.step(step(JOB, 9, vec![(SOURCE, split(batch(&gone), 7))], 0));
        let last = net(&done(&engine).output);
        assert!(last.len() == keys as usize && last.iter().all(|(_, weight)| *weight == -1), "no group was lost");
    }
}

/// A store in memory whose disk may be full.
#[derive(Default)]
struct FullStore {
    inner: MemoryKv,
    full: AtomicBool,
}

impl KeyValueStore for FullStore {
    fn multi_get(&self, table: StateTableId, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        self.inner.multi_get(table, keys)
    }
    fn scan(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.inner.scan(table, start, end, visit)
    }
    fn scan_back(
        &self,
        table: StateTableId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.inner.scan_back(table, start, end, visit)
    }
    fn ingest(&self, runs: Vec<(StateTableId, SortedRun)>) -> Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(SqlError::new(SqlState::DISK_FULL, "no space left on device"));
        }
        self.inner.ingest(runs)
    }
    fn delete_range(&self, table: StateTableId, start: &[u8], end: &[u8]) -> Result<()> {
        self.inner.delete_range(table, start, end)
    }
    fn drop_table(&self, table: StateTableId) -> Result<()> {
        self.inner.drop_table(table)
    }
    fn checkpoint(&self, dir: &Path) -> Result<()> {
        self.inner.checkpoint(dir)
    }
    fn stored_bytes(&self, table: StateTableId) -> u64 {
        self.inner.stored_bytes(table)
    }
    fn disk_reads(&self) -> u64 {
        self.inner.disk_reads()
    }
}

#[test]
fn a_full_disk_stops_no_job_and_workers_go_on_by_themselves() {
    let store = Arc::new(FullStore::default());
    store.full.store(true, Ordering::SeqCst);
    let config = config(2, StateBackend::Rocksdb, 1 << 20);
    let engine = Engine::start(config, store.clone());
    engine.create_job(spec(JOB, grouping_plan(vec![0]), ViewKey::Keyed(vec![0]), 2)).unwrap();
    engine.step(step(JOB, 1, vec![(SOURCE, split(batch(&rows(0..40_000)), 7))], 0));
    assert_eq!(net(&done(&engine).output).len(), 40_000);
    assert!(engine.gate().is_held());
    store.full.store(false, Ordering::SeqCst);
    let begun = std::time::Instant::now();
    while engine.gate().is_held() {
        assert!(begun.elapsed() < PATIENCE, "idle workers try again");
        std::thread::sleep(Duration::from_millis(5));
    }
    let gone: Vec<_> = rows(0..40_000).into_iter().map(|(row, _)| (row, -1)).collect();
    engine.step(step(JOB, 2, vec![(SOURCE, split(batch(&gone), 7))], 0));
    let last = net(&done(&engine).output);
    assert!(last.len() == 40_000 && last.iter().all(|(_, weight)| *weight == -1), "no group was lost");
}

#[test]
fn counting_jobs_keep_no_rows() {
    let engine = engine(2);
    let plan = plan(vec![scan(SOURCE), node(Op::Materialize { key: vec![] }, &[0], kv(), ChangelogMode::Append)]);
    engine.create_job(JobSpec { view: None, ..spec(JOB, plan, ViewKey::Append, 2) }).unwrap();
    engine.step(step(JOB, 1, vec![(SOURCE, vec![batch(&rows(0..40_000))])], 0));
    let out = done(&engine);
    assert_eq!(out.rows_out, 40_000);
    assert!(out.output.is_empty());
}

#[test]
fn plans_that_cannot_run_are_refused() {
    let engine = engine(2);
    let call = Expr::Call { name: "no_such_function".into(), args: vec![column(0)], returns: SqlType::BigInt };
    let bad = |exprs: Vec<Expr>| {
        plan(vec![
            scan(SOURCE),
            node(Op::Project { exprs }, &[0], kv(), ChangelogMode::Append),
            node(Op::Materialize { key: vec![] }, &[1], kv(), ChangelogMode::Append),
        ])
    };
    let error = engine.create_job(spec(JOB, bad(vec![column(0), call]), ViewKey::Append, 2)).unwrap_err();
    assert_eq!(error.state.0, "42883");
    assert!(engine.create_job(spec(JOB, bad(vec![column(0)]), ViewKey::Append, 2)).is_err());
    assert!(engine.create_job(spec(JOB, bad(vec![column(0), column(7)]), ViewKey::Append, 2)).is_err());
    assert!(engine.create_job(spec(JOB, plan(vec![scan(SOURCE)]), ViewKey::Append, 2)).is_err());
    let mut newer = (*table_plan()).clone();
    newer.version += 1;
    assert!(engine.create_job(spec(JOB, Arc::new(newer), ViewKey::Append, 2)).is_err());
    // The id is still free.
    engine.create_job(spec(JOB, table_plan(), ViewKey::Keyed(vec![0]), 2)).unwrap();
}

#[test]
fn inputs_are_spread_evenly() {
    let schema = schema(&[("k", SqlType::BigInt), ("v", SqlType::BigInt)]);
    for workers in [1, 2, 5] {
        let batches =
            vec![weighted(&schema, &rows(0..50_000), 0), weighted(&schema, &rows(0..10), 0), weighted(&schema, &rows(0..3_000), 0)];
        let input = StepInput { relation: SOURCE, batches: batches.clone(), watermark: Timestamp(0) };
        let shares = distribute(vec![input], Placement::all(workers));
        let counts: Vec<usize> = shares.iter().map(|s| s[0].1.iter().map(|b| b.changes.num_rows()).sum()).collect();
        assert!(counts.iter().all(|c| *c <= 53_010 / workers + BATCH_ROWS_MAX), "{counts:?}");
        let all: Vec<TaggedBatch> = shares.into_iter().flat_map(|s| s.into_iter().flat_map(|(_, b)| b)).collect();
        assert!(all.iter().all(|b| b.changes.num_rows() <= BATCH_ROWS_MAX));
        assert_eq!(net(&all), net(&batches));
    }
    assert!(crate::operators::exchange::owner_of_all(Placement::all(4)) < 4 && key::VSHARDS == 256);
}

/// A table outside without rows, whose answers the test gives.
#[derive(Clone)]
struct Slow(Sender<OnAnswer>);

impl LookupConnector for Slow {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn cache(&self) -> Option<LookupCache> {
        None
    }

    fn open(&self, shape: LookupShape, _on_trouble: OnTrouble) -> Result<Box<dyn LookupClient>> {
        assert_eq!((shape.keys, shape.columns), (vec![1], vec![0]));
        Ok(Box::new(self.clone()))
    }
}

impl LookupClient for Slow {
    fn ask(&mut self, keys: Vec<ArrayRef>, on_answer: OnAnswer) {
        assert_eq!((keys.len(), keys[0].len()), (1, 1));
        self.0.send(on_answer).unwrap();
    }
}

#[test]
fn a_job_that_waits_for_an_answer_keeps_nobody_waiting() {
    const TABLE: RelationId = RelationId(3);
    let columns: Vec<Column> = kv().into_iter().chain([Column::new("r", SqlType::BigInt, true)]).collect();
    let keys = [vec![0], vec![1]];
    let lookup = Op::ExternalLookup { relation: TABLE, columns: vec![0], kind: JoinKind::Left, keys, residual: None, state: None };
    let plan = plan(vec![
        node(Op::Scan { relation: SOURCE, projection: vec![0, 1] }, &[], kv(), ChangelogMode::Append),
        node(Op::Exchange { keys: vec![0] }, &[0], kv(), ChangelogMode::Append),
        node(lookup, &[1], columns.clone(), ChangelogMode::Append),
        node(Op::Materialize { key: vec![] }, &[2], columns, ChangelogMode::Append),
    ]);
    for workers in [1, 2] {
        let engine = engine(workers);
        let (sender, questions) = unbounded();
        let lookup = JobLookup { connector: Arc::new(Slow(sender)), on_trouble: Arc::new(|_| {}) };
        let (dropped, other) = (RelationId(11), RelationId(12));
        for job in [JOB, dropped] {
            engine
                .create_job(JobSpec { lookups: [(TABLE, lookup.clone())].into(), ..spec(job, plan.clone(), ViewKey::Append, workers) })
                .unwrap();
        }
        engine.create_job(spec(other, table_plan(), ViewKey::Keyed(vec![0]), workers)).unwrap();
        let asked = |job: RelationId| {
            engine.step(step(job, 1, vec![(SOURCE, vec![batch(&rows(7..8))])], 5));
            questions.recv_timeout(PATIENCE).expect("it asks")
        };
        let (first, second) = (asked(JOB), asked(dropped));
        for epoch in 1..4 {
            let from = 10 * epoch as i64;
            engine.step(step(other, epoch, vec![(SOURCE, vec![batch(&rows(from..from + 10))])], 5));
            assert_eq!(done(&engine).job, other);
            engine.drop_job(dropped);
        }
        let nothing = || LookupAnswer { rows: RecordBatch::new_empty(schema(&[("r", SqlType::BigInt)])), keys: vec![], refused: vec![] };
        second(Ok(nothing()));
        first(Ok(nothing()));
        let done = done(&engine);
        assert_eq!((done.job, net(&done.output)), (JOB, vec![(vec![7, 14, 0], 1)]));
    }
}
