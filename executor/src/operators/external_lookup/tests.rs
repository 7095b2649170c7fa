//! Random changes of left rows against a table in memory that changes meanwhile and answers when it is told to. What comes out must be what each
//! row found when it came, whatever became of the table, and taken back as it was; with checkpoints, kills and a tiny cache of state.

use super::*;
use crate::engine::StateBackend;
use crate::testing::{binary, changes_of, column, image, int, net, schema, split, weighted};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use eddyline_common::connector::OnAnswer;
use eddyline_common::{Epoch, SqlType};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_planner::plan::BinaryOp;
use eddyline_storage::kv::MemoryKv;
use eddyline_storage::state::{SpillGate, StateBudget};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

type Bag = BTreeMap<Vec<i64>, i64>;
type Changes = Vec<(Vec<i64>, i64)>;
/// By key: the values of its rows.
type Table = BTreeMap<i64, Vec<i64>>;

const TTL: i64 = 10;

/// What of the table is outside, and the questions that wait for it.
#[derive(Default)]
struct Outside {
    table: Mutex<Table>,
    /// Keys with a row that a column here cannot hold.
    refused: Mutex<Vec<i64>>,
    waiting: Mutex<Vec<(Vec<i64>, OnAnswer)>>,
    questions: AtomicUsize,
    keys: AtomicUsize,
}

struct Client(Arc<Outside>);

impl LookupClient for Client {
    fn ask(&mut self, keys: Vec<ArrayRef>, on_answer: OnAnswer) {
        let keys = keys[0].as_primitive::<Int64Type>().values().to_vec();
        let distinct: std::collections::BTreeSet<i64> = keys.iter().copied().collect();
        assert_eq!(distinct.len(), keys.len(), "keys are asked for once");
        self.0.questions.fetch_add(1, Ordering::Relaxed);
        self.0.keys.fetch_add(keys.len(), Ordering::Relaxed);
        self.0.waiting.lock().push((keys, on_answer));
    }
}

impl Outside {
    /// Answers all that wait.
    fn answer(&self) {
        let (table, refused) = (self.table.lock(), self.refused.lock());
        for (keys, on_answer) in self.waiting.lock().drain(..) {
            let (unfit, fit): (Vec<_>, Vec<_>) = keys.iter().enumerate().partition(|(_, key)| refused.contains(key));
            let found = fit.into_iter().flat_map(|(at, key)| table.get(key).into_iter().flatten().map(move |v| (at, *key, *v)));
            let found: Vec<(usize, i64, i64)> = found.collect();
            let column = |of: fn(&(usize, i64, i64)) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(found.iter().map(of))) };
            let columns = vec![column(|row| row.1), column(|row| row.2)];
            let rows = RecordBatch::try_new(schema(&[("id", SqlType::BigInt), ("name", SqlType::BigInt)]), columns).unwrap();
            let keys = found.iter().map(|row| row.0 as u32).collect();
            let refused = unfit.into_iter().map(|(at, key)| (at as u32, format!("{key} does not fit"))).collect();
            on_answer(Ok(LookupAnswer { rows, keys, refused }));
        }
    }

    fn fail(&self) {
        for (_, on_answer) in self.waiting.lock().drain(..) {
            on_answer(Err(SqlError::new(SqlState::CONNECTION_FAILURE, "nobody is there")));
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    kind: JoinKind,
    residual: bool,
    cached: bool,
    retract: bool,
    state_bytes: Option<usize>,
    /// Rows may have been forgotten below.
    forgetful: bool,
}

const PLAIN: Setup = Setup { kind: JoinKind::Inner, residual: false, cached: false, retract: true, state_bytes: None, forgetful: false };

fn left() -> SchemaRef {
    schema(&[("v", SqlType::BigInt), ("k", SqlType::BigInt)])
}

/// A lookup, and how often it was woken.
fn open(
    setup: Setup,
    outside: &Arc<Outside>,
    kv: &Arc<MemoryKv>,
    gate: &Arc<SpillGate>,
    restore: bool,
) -> (Box<ExternalLookup>, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let wakes = woken.clone();
    let condition = binary(BinaryOp::Lt, column(3), int(50));
    let state = StateSpec {
        table: StateTableId(5),
        worker: 0,
        workers: 1,
        kv: kv.clone(),
        backend: if setup.state_bytes.is_some() { StateBackend::Rocksdb } else { StateBackend::Memory },
        budget: StateBudget::new(setup.state_bytes.unwrap_or(usize::MAX)),
        gate: gate.clone(),
        restore,
        ttl: [None; 2],
        forgetful: setup.forgetful,
    };
    let lookup = ExternalLookup::new(ExternalLookupSpec {
        kind: setup.kind,
        keys: vec![1],
        residual: setup.residual.then_some(&condition),
        input: left(),
        output: schema(&[("v", SqlType::BigInt), ("k", SqlType::BigInt), ("id", SqlType::BigInt), ("name", SqlType::BigInt)]),
        now: &NowHandle::default(),
        client: Box::new(Client(outside.clone())),
        cache: setup.cached.then_some(LookupCache { keys_max: 1_000, ttl_micros: TTL }),
        wake: Arc::new(move || {
            wakes.fetch_add(1, Ordering::Relaxed);
        }),
        kept: setup.retract.then(|| (state, vec![1])),
    });
    (lookup.unwrap(), woken)
}

struct Harness {
    setup: Setup,
    rng: StdRng,
    kv: Arc<MemoryKv>,
    gate: Arc<SpillGate>,
    outside: Arc<Outside>,
    lookup: Box<ExternalLookup>,
    woken: Arc<AtomicUsize>,
    model: Model,
    now: i64,
    checkpoints: u64,
    image: Option<(tempfile::TempDir, Model)>,
}

/// What rows there are, what each was joined with, and what comes of it.
#[derive(Clone, Default)]
struct Model {
    rows: Bag,
    joined: BTreeMap<Vec<i64>, Vec<i64>>,
    /// By key: until when an answer is used again.
    cache: BTreeMap<i64, (i64, Vec<i64>)>,
    /// What has come out, all in all; and what should have, where nothing is taken back.
    view: Bag,
    grown: Bag,
}

impl Harness {
    fn new(setup: Setup, seed: u64) -> Self {
        let (kv, gate, outside) = (Arc::new(MemoryKv::new()), Arc::new(SpillGate::new()), Arc::new(Outside::default()));
        let (lookup, woken) = open(setup, &outside, &kv, &gate, false);
        let (rng, model) = (StdRng::seed_from_u64(seed), Model::default());
        Harness { setup, rng, kv, gate, outside, lookup, woken, model, now: 0, checkpoints: 0, image: None }
    }

    /// What a row is shown as.
    fn shown(&self, row: &[i64], found: &[i64]) -> Vec<Vec<i64>> {
        let matches: Vec<i64> = found.iter().copied().filter(|name| !self.setup.residual || *name < 50).collect();
        let pair = |name: &i64| vec![row[0], row[1], row[1], *name];
        match (matches.is_empty(), self.setup.kind) {
            // A null is read as 0.
            (true, JoinKind::Left) => vec![vec![row[0], row[1], 0, 0]],
            _ => matches.iter().map(pair).collect(),
        }
    }

    fn change_table(&mut self) {
        let mut table = self.outside.table.lock();
        for _ in 0..self.rng.random_range(0..3) {
            let rows = (0..self.rng.random_range(0..3)).map(|_| self.rng.random_range(1..100)).collect();
            table.insert(self.rng.random_range(0..8), rows);
        }
    }

    /// Changes of left rows, and what they come to.
    fn changes(&mut self) -> (Changes, Bag) {
        let (mut changes, mut net) = (Vec::new(), Bag::new());
        for _ in 0..self.rng.random_range(0..20) {
            let known: Vec<Vec<i64>> = self.model.rows.keys().cloned().collect();
            let fresh = vec![self.rng.random_range(0..5), self.rng.random_range(0..8)];
            let (row, weight) = match known.is_empty() || !self.setup.retract || self.rng.random_bool(0.5) {
                true => (fresh, self.rng.random_range(1..3)),
                false => {
                    let row = known[self.rng.random_range(0..known.len())].clone();
                    let there = self.model.rows[&row] + net.get(&row).copied().unwrap_or(0);
                    (row, if there > 0 { -self.rng.random_range(1..=there) } else { 1 })
                }
            };
            *net.entry(row.clone()).or_default() += weight;
            changes.push((row, weight));
        }
        (changes, net)
    }

    fn step(&mut self) {
        self.now += self.rng.random_range(1..6);
        self.change_table();
        let (changes, came) = self.changes();
        let mut ctx = StepContext::new(Epoch(1), Timestamp(self.now), Timestamp::MIN, ErrorPolicy::Reject);
        if !changes.is_empty() {
            let batches = split(weighted(&left(), &changes, 0), self.rng.random());
            batches.into_iter().for_each(|batch| self.lookup.push(0, batch, &mut ctx).unwrap());
        }
        let out = self.finish(&mut ctx);
        assert!(self.setup.retract || out.iter().all(|b| b.changes.weights.is_none()));
        net(&out).into_iter().for_each(|(row, weight)| *self.model.view.entry(row).or_default() += weight);
        self.model.view.retain(|_, weight| *weight != 0);
        self.follow(came);
        assert_eq!(self.model.view, self.expected(), "{:?} at {}", self.setup, self.now);
    }

    fn finish(&mut self, ctx: &mut StepContext) -> Vec<TaggedBatch> {
        let mut out = Vec::new();
        loop {
            self.lookup.finish(Timestamp::MIN, ctx).unwrap();
            out.extend(ctx.take_output());
            if self.lookup.waits() {
                let before = self.woken.load(Ordering::Relaxed);
                self.outside.answer();
                assert_eq!((self.woken.load(Ordering::Relaxed), self.lookup.waits()), (before + 1, false));
            } else if !self.lookup.unfinished() {
                return out;
            }
        }
    }

    fn follow(&mut self, came: Bag) {
        let table = self.outside.table.lock().clone();
        for (row, weight) in came.into_iter().filter(|(_, weight)| *weight != 0) {
            let before = self.model.rows.get(&row).copied().unwrap_or(0);
            if before == 0 || !self.setup.retract {
                let now = table.get(&row[1]).cloned().unwrap_or_default();
                let cached = self.model.cache.get(&row[1]).filter(|(until, _)| self.setup.cached && *until > self.now).cloned();
                let (until, found) = cached.unwrap_or((self.now + TTL, now));
                self.model.cache.insert(row[1], (until, found.clone()));
                self.model.joined.insert(row.clone(), found.clone());
                for shown in self.shown(&row, &found) {
                    *self.model.grown.entry(shown).or_default() += weight;
                }
            }
            self.model.rows.insert(row, before + weight);
        }
        self.model.rows.retain(|_, weight| *weight != 0);
    }

    fn expected(&self) -> Bag {
        if !self.setup.retract {
            return self.model.grown.clone();
        }
        let mut expected = Bag::new();
        for (row, count) in &self.model.rows {
            for shown in self.shown(row, &self.model.joined[row]) {
                *expected.entry(shown).or_default() += count;
            }
        }
        expected
    }

    fn checkpoint(&mut self) {
        self.checkpoints += 1;
        self.gate.begin(self.checkpoints).unwrap();
        let runs = self.lookup.freeze().unwrap();
        self.image = Some((image(&self.kv, &self.gate, self.checkpoints, runs), self.model.clone()));
    }

    /// The table goes on; what was cached is gone.
    fn kill(&mut self) {
        let Some((dir, model)) = &self.image else { return };
        self.kv = Arc::new(MemoryKv::open(&dir.path().join("image")).unwrap());
        self.gate = Arc::new(SpillGate::new());
        self.checkpoints = 0;
        self.model = Model { cache: BTreeMap::new(), ..model.clone() };
        (self.lookup, self.woken) = open(self.setup, &self.outside, &self.kv, &self.gate, true);
    }
}

#[test]
fn rows_are_joined_with_what_was_there_and_taken_back_as_they_were() {
    for variant in 0..48u64 {
        let bit = |bit: u64| variant >> bit & 1 == 1;
        let setup = Setup {
            kind: if bit(0) { JoinKind::Left } else { JoinKind::Inner },
            residual: bit(1),
            cached: bit(2),
            retract: !bit(3),
            state_bytes: bit(4).then_some(2_000),
            forgetful: false,
        };
        let mut run = Harness::new(setup, variant);
        for _ in 0..40 {
            match run.rng.random_range(0..20) {
                0..=15 => run.step(),
                16..=18 => run.checkpoint(),
                _ => run.kill(),
            }
        }
    }
}

fn rejected(ctx: &mut StepContext) -> Vec<(String, Changes)> {
    ctx.take_rejected().into_iter().map(|(reason, changes)| (reason, changes_of(&changes))).collect()
}

/// One step of a lookup.
fn push(run: &mut Harness, rows: &[(Vec<i64>, i64)], now: i64) -> StepContext {
    let mut ctx = StepContext::new(Epoch(1), Timestamp(now), Timestamp::MIN, ErrorPolicy::Reject);
    run.lookup.push(0, weighted(&left(), rows, 0), &mut ctx).unwrap();
    ctx
}

#[test]
fn a_step_asks_once_for_all_its_keys_and_goes_on_when_it_is_answered() {
    let mut run = Harness::new(PLAIN, 1);
    run.outside.table.lock().insert(1, vec![10, 10]);
    let mut ctx = push(&mut run, &[(vec![1, 1], 1), (vec![2, 1], 1), (vec![3, 2], 1)], 1);
    run.lookup.finish(Timestamp::MIN, &mut ctx).unwrap();
    assert!(run.lookup.waits() && run.lookup.unfinished() && ctx.take_output().is_empty());
    assert_eq!((run.outside.questions.load(Ordering::Relaxed), run.outside.keys.load(Ordering::Relaxed)), (1, 2));
    assert_eq!(net(&run.finish(&mut ctx)), [(vec![1, 1, 1, 10], 2), (vec![2, 1, 1, 10], 2)]);
    // A row that is there already is not asked for, nor one that goes.
    let mut ctx = push(&mut run, &[(vec![1, 1], 1), (vec![2, 1], -1)], 2);
    assert_eq!(net(&run.finish(&mut ctx)), [(vec![1, 1, 1, 10], 2), (vec![2, 1, 1, 10], -2)]);
    assert_eq!(run.outside.questions.load(Ordering::Relaxed), 1);
    // More keys than one question takes.
    let many: Vec<_> = (0..4 * KEYS_MAX as i64).map(|k| (vec![9, 100 + k], 1)).collect();
    let mut ctx = StepContext::new(Epoch(1), Timestamp(3), Timestamp::MIN, ErrorPolicy::Reject);
    many.chunks(3).for_each(|rows| run.lookup.push(0, weighted(&left(), rows, 0), &mut ctx).unwrap());
    assert!(run.finish(&mut ctx).is_empty());
    assert!(run.outside.questions.load(Ordering::Relaxed) > 2);
}

#[test]
fn a_row_whose_question_was_given_up_is_rejected_until_it_is_taken_back() {
    let mut run = Harness::new(Setup { kind: JoinKind::Left, ..PLAIN }, 1);
    let mut ctx = push(&mut run, &[(vec![1, 1], 2)], 1);
    run.lookup.finish(Timestamp::MIN, &mut ctx).unwrap();
    run.outside.fail();
    assert!(run.finish(&mut ctx).is_empty());
    assert_eq!(rejected(&mut ctx), [("nobody is there".to_string(), vec![(vec![1, 1], 2)])]);
    run.checkpoint();
    run.kill();
    let mut ctx = push(&mut run, &[(vec![1, 1], -2)], 2);
    assert!(run.finish(&mut ctx).is_empty());
    assert_eq!(rejected(&mut ctx), [("nobody is there".to_string(), vec![(vec![1, 1], -2)])]);
    let one = weighted(&left(), &[(vec![1, 1], 1)], 0);
    assert!(run.lookup.kept.as_mut().unwrap().find(&one.changes).unwrap().1[0].is_none(), "nothing is kept of it");
    // A policy that stops does.
    let mut ctx = StepContext::new(Epoch(1), Timestamp(3), Timestamp::MIN, ErrorPolicy::Stop);
    run.lookup.push(0, weighted(&left(), &[(vec![5, 5], 1)], 0), &mut ctx).unwrap();
    run.lookup.finish(Timestamp::MIN, &mut ctx).unwrap();
    run.outside.fail();
    assert_eq!(run.lookup.finish(Timestamp::MIN, &mut ctx).unwrap_err().state, SqlState::CONNECTION_FAILURE);
}

#[test]
fn a_row_whose_answer_does_not_fit_is_rejected_and_others_are_not() {
    for retract in [true, false] {
        let mut run = Harness::new(Setup { kind: JoinKind::Left, cached: true, retract, ..PLAIN }, 1);
        run.outside.table.lock().extend([(1, vec![10]), (2, vec![20])]);
        run.outside.refused.lock().push(2);
        let mut ctx = push(&mut run, &[(vec![7, 1], 1), (vec![7, 2], 1), (vec![7, 3], 1)], 1);
        assert_eq!(net(&run.finish(&mut ctx)), [(vec![7, 1, 1, 10], 1), (vec![7, 3, 0, 0], 1)]);
        assert_eq!(rejected(&mut ctx), [("2 does not fit".to_string(), vec![(vec![7, 2], 1)])]);
        // No answer that is used again.
        run.outside.refused.lock().clear();
        let mut ctx = push(&mut run, &[(vec![8, 1], 1), (vec![8, 2], 1)], 2);
        assert_eq!(net(&run.finish(&mut ctx)), [(vec![8, 1, 1, 10], 1), (vec![8, 2, 2, 20], 1)]);
        assert_eq!((rejected(&mut ctx).len(), run.outside.keys.load(Ordering::Relaxed)), (0, 4));
    }
}

#[test]
fn what_was_forgotten_below_is_not_taken_back() {
    let mut run = Harness::new(Setup { forgetful: true, ..PLAIN }, 1);
    run.outside.table.lock().extend([(1, vec![10]), (2, vec![20])]);
    let mut ctx = push(&mut run, &[(vec![7, 1], 2)], 1);
    assert_eq!(net(&run.finish(&mut ctx)), [(vec![7, 1, 1, 10], 2)]);
    let mut ctx = push(&mut run, &[(vec![7, 1], -3), (vec![7, 2], -2), (vec![8, 2], 1)], 2);
    assert_eq!(net(&run.finish(&mut ctx)), [(vec![7, 1, 1, 10], -2), (vec![8, 2, 2, 20], 1)]);
    let forgotten: Changes = ctx.take_forgotten().iter().flat_map(changes_of).collect();
    assert_eq!(forgotten, [(vec![7, 1], -1), (vec![7, 2], -2)]);
    let mut run = Harness::new(PLAIN, 1);
    let mut ctx = push(&mut run, &[(vec![7, 1], -1)], 1);
    assert!(run.lookup.finish(Timestamp::MIN, &mut ctx).is_err(), "where nothing is forgotten it is an error of ours");
}

#[test]
fn whoever_goes_away_without_an_answer_has_failed() {
    let mut run = Harness::new(PLAIN, 1);
    let mut ctx = push(&mut run, &[(vec![1, 1], 1)], 1);
    run.lookup.finish(Timestamp::MIN, &mut ctx).unwrap();
    run.outside.waiting.lock().clear();
    assert!(!run.lookup.waits() && run.woken.load(Ordering::Relaxed) == 1);
    run.lookup.finish(Timestamp::MIN, &mut ctx).unwrap();
    assert_eq!(ctx.take_rejected().len(), 1);
}

#[test]
fn an_answer_is_used_again_for_its_time() {
    let mut run = Harness::new(Setup { cached: true, retract: false, ..PLAIN }, 1);
    run.outside.table.lock().insert(1, vec![10]);
    let joined = |run: &mut Harness, now: i64| {
        let mut ctx = push(run, &[(vec![now, 1], 1)], now);
        net(&run.finish(&mut ctx)).into_iter().map(|(row, _)| row[3]).collect::<Vec<_>>()
    };
    assert_eq!(joined(&mut run, 1), [10]);
    run.outside.table.lock().insert(1, vec![20]);
    assert_eq!((joined(&mut run, 1 + TTL - 1), joined(&mut run, 1 + TTL)), (vec![10], vec![20]));
}

#[test]
fn a_row_without_a_key_matches_nothing_and_is_not_asked_for() {
    for retract in [true, false] {
        let mut run = Harness::new(Setup { kind: JoinKind::Left, retract, ..PLAIN }, 1);
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![7])), Arc::new(Int64Array::from(vec![None]))];
        let changes = ChangeBatch::insertions(RecordBatch::try_new(left(), columns).unwrap());
        let mut ctx = StepContext::new(Epoch(1), Timestamp(1), Timestamp::MIN, ErrorPolicy::Reject);
        let batch = TaggedBatch { changes, arrival_watermark: Timestamp::MIN, now: Timestamp(1) };
        run.lookup.push(0, batch, &mut ctx).unwrap();
        let out = run.finish(&mut ctx);
        assert!(out[0].changes.rows.columns()[1..].iter().all(|c| c.is_null(0)) && out.len() == 1);
        assert_eq!(run.outside.questions.load(Ordering::Relaxed), 0);
    }
}
