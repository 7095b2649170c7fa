//! One run of a scenario from one seed: random cuts, random steps of the jobs (together, coalesced, in any order), random
//! checkpoints and kills; after every step the content of the view is compared with the batch result.

use super::batch::{Batch, World};
use super::case::{Case, Scenario};
use super::catalog::OracleCatalog;
use super::compare::{difference, encode};
use super::process::{Emitted, Files, Image, Mode, Process, Store, Totals};
use super::rows::{resplit, split};
use super::tables::{SECOND, START, Table};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use eddyline_common::kv::SortedRun;
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Epoch, RelationId, StateTableId, TaggedBatch, Timestamp};
use eddyline_executor::{SideRows, StateBackend, Step, StepDone, StepInput};
use eddyline_planner::Catalog;
use eddyline_planner::catalog::Relation;
use eddyline_planner::plan::ChangelogMode;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// A job that may lag does so in this part of the rounds.
const LAG: f64 = 0.35;

pub struct Run {
    random: StdRng,
    mode: Mode,
    store: Store,
    pub world: World,
    batch: Batch,
    process: Process,
    epoch: Epoch,
    /// Views not created yet.
    waiting: Vec<Case>,
    next_checkpoint: u64,
    pending: Option<Pending>,
    last: Option<Checkpoint>,
    files: Files,
    pub totals: Totals,
    /// Set: every run of a seed gets the same cuts, all jobs take one in a step, and each run is compared with those before it.
    pub alike: Option<Alike>,
    dir: TempDir,
}

/// What runs of the same cuts have in common.
pub struct Alike {
    cuts: StdRng,
    /// By view and epoch: its content, and how many rows were late so far.
    pub seen: Seen,
}

#[derive(Default)]
pub struct Seen {
    pub rows: HashMap<(String, Epoch), RecordBatch>,
    pub late: HashMap<(String, Epoch), i64>,
}

/// A checkpoint under way. It was frozen at `epoch`; the jobs go on meanwhile.
struct Pending {
    id: u64,
    epoch: Epoch,
    images: BTreeMap<RelationId, Image>,
    /// `None`: they are in the store.
    runs: Option<Vec<(StateTableId, SortedRun)>>,
}

struct Checkpoint {
    epoch: Epoch,
    dir: PathBuf,
    images: BTreeMap<RelationId, Image>,
}

/// Runs a scenario to its end, without some rules of the optimiser.
pub fn run(scenario: &Scenario, mode: Mode, seed: u64, rules: Vec<&'static str>) -> Totals {
    let mut run = Run::start_without(scenario, mode, seed, rules);
    run.through(scenario);
    run.totals
}

/// The same, but the cuts depend on `seed` alone, and the views must be at every epoch what `seen` says of earlier runs. `number` tells
/// the runs apart.
pub fn run_alike(scenario: &Scenario, mode: Mode, seed: u64, number: u64, seen: Seen) -> Run {
    let mut run = Run::start(scenario, mode, seed * 1000 + number);
    run.alike = Some(Alike { cuts: StdRng::seed_from_u64(seed), seen });
    run.through(scenario);
    run
}

impl Run {
    fn through(&mut self, scenario: &Scenario) {
        for number in 1..=scenario.epochs {
            self.cut(scenario.changes, number == scenario.epochs);
            self.round(false);
            if self.random.random_bool(0.1) {
                self.vacuum();
            }
            if self.pending.is_some() {
                if self.random.random_bool(0.5) {
                    self.continue_checkpoint();
                }
            } else if self.random.random_bool(scenario.checkpoints) {
                self.round(true);
                self.create_waiting(false);
                self.begin_checkpoint();
            }
            // Whatever chance brings, one checkpoint and one kill.
            if number == scenario.epochs / 2 && self.last.is_none() {
                self.checkpoint_now();
            }
            let due = number == scenario.epochs - 1 && self.totals.kills == 0;
            if self.last.is_some() && (due || self.random.random_bool(scenario.kills)) {
                self.kill();
            }
        }
        self.finish();
    }

    pub fn start(scenario: &Scenario, mode: Mode, seed: u64) -> Run {
        Run::start_without(scenario, mode, seed, Vec::new())
    }

    /// The views are planned without some rules of the optimiser.
    fn start_without(scenario: &Scenario, mode: Mode, seed: u64, rules: Vec<&'static str>) -> Run {
        let mut random = StdRng::seed_from_u64(seed);
        let mut catalog = OracleCatalog::without(rules);
        let mut create = |sql: &str| catalog.create(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let mut tables = Vec::new();
        for spec in scenario.tables.clone() {
            if spec.watermark.is_some() {
                create(&spec.windowed_sql());
            }
            let relation = create(&spec.create_sql(false));
            tables.push(Table::new(spec, relation));
        }
        let dir = TempDir::new().unwrap();
        let store = if mode.backend == StateBackend::Rocksdb || random.random_bool(0.5) { Store::Rocks } else { Store::Memory };
        let mut process = Process::start(mode, store, dir.path(), None);
        // Midnight is not far.
        let world = World { catalog, tables, cases: HashMap::new(), nows: vec![Timestamp(START - 25 * SECOND)] };
        for table in &world.tables {
            process.create(&table.relation, &|id| world.catalog.get(id).clone(), None);
        }
        let mut waiting = scenario.cases.clone();
        let mut late = BTreeSet::new();
        for case in &waiting {
            // What reads a view can only be created after it.
            if case.window.is_none() && case.helper.is_none() && random.random_bool(scenario.backfills)
                || case.over.iter().any(|v| late.contains(v))
            {
                late.insert(case.name.clone());
            }
        }
        let now: Vec<Case> = waiting.extract_if(.., |case| !late.contains(&case.name)).collect();
        let mut run = Run {
            random,
            mode,
            store,
            world,
            batch: Batch::new(),
            process,
            epoch: Epoch::ZERO,
            waiting,
            next_checkpoint: 1,
            pending: None,
            last: None,
            files: Files::new(),
            totals: Totals::default(),
            alike: None,
            dir,
        };
        now.into_iter().for_each(|case| {
            let relation = run.define(case);
            run.create_job(&relation);
        });
        run
    }

    fn define(&mut self, case: Case) -> Arc<Relation> {
        if let Some(helper) = case.helper.filter(|h| self.world.catalog.relation(None, &h.name()).is_none()) {
            let sql = helper.create_sql(&self.world);
            self.world.catalog.create(&sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        }
        let sql = case.create_sql();
        let relation = self.world.catalog.create(&sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        self.world.cases.insert(relation.id, case);
        relation
    }

    fn create_job(&mut self, relation: &Arc<Relation>) {
        self.process.create(relation, &|id| self.world.catalog.get(id).clone(), None);
    }

    /// One cut of every table.
    pub fn cut(&mut self, changes: usize, last: bool) {
        self.epoch = self.epoch.next();
        let random = self.alike.as_mut().map_or(&mut self.random, |alike| &mut alike.cuts);
        let passed = random.random_range(0..10) * SECOND + random.random_range(1..3);
        let now = Timestamp(self.world.now(Epoch(self.epoch.0 - 1)).0 + passed);
        self.world.nows.push(now);
        self.world.tables.iter_mut().for_each(|table| table.advance(random, changes, last));
    }

    /// Lets the jobs step. `to_the_end`: all of them, to the present epoch; otherwise some lag.
    pub fn round(&mut self, to_the_end: bool) {
        let ids: Vec<RelationId> = self.process.jobs.keys().copied().collect();
        let lagging: BTreeSet<RelationId> = ids.iter().copied().filter(|_| !to_the_end && self.random.random_bool(LAG)).collect();
        loop {
            let mut expected = BTreeMap::new();
            let mut moved = false;
            for id in ids.iter().filter(|id| !lagging.contains(id)) {
                let Some(target) = self.target(*id) else { continue };
                moved = true;
                if let Some(rows) = self.step(*id, target) {
                    expected.insert(*id, (target, rows));
                }
            }
            for _ in 0..expected.len() {
                let done = self.process.next_step();
                let (target, rows) = expected[&done.job];
                assert_eq!((done.epoch, done.rows_in), (target, rows), "epoch and input rows of a step");
                self.on_step_done(done);
            }
            if !moved {
                break;
            }
        }
        if to_the_end {
            let behind = self.process.jobs.values().find(|j| j.stepped != self.epoch);
            assert!(behind.is_none_or(|j| j.stepped == self.epoch), "every job reaches a mark");
        }
    }

    /// An epoch that the job can step to: one at which every view it reads is exact.
    fn target(&mut self, id: RelationId) -> Option<Epoch> {
        let job = &self.process.jobs[&id];
        let candidates: Vec<Epoch> = (job.stepped.0 + 1..=self.epoch.0)
            .map(Epoch)
            .filter(|e| job.inputs.iter().all(|input| self.world.table(*input).is_some() || self.process.jobs[input].exact.contains(e)))
            .collect();
        if self.alike.is_some() {
            return candidates.first().copied();
        }
        let newest = candidates.last().copied()?;
        Some(if self.random.random_bool(0.6) { newest } else { *candidates.choose(&mut self.random).unwrap() })
    }

    /// Starts a step to `target` and gives the number of its input rows; `None` if there is nothing to do.
    fn step(&mut self, id: RelationId, target: Epoch) -> Option<u64> {
        let job = &self.process.jobs[&id];
        let (stepped, started) = (job.stepped, job.progress.started);
        let mut inputs = Vec::new();
        for input in job.inputs.clone() {
            inputs.extend(self.input(input, stepped, target));
        }
        let idle = inputs
            .iter()
            .all(|i| i.batches.is_empty() && self.process.jobs[&id].progress.watermarks.get(&i.relation) == Some(&i.watermark));
        let timer = self.process.jobs[&id].progress.next_timer.is_some_and(|timer| timer <= self.world.now(target));
        if started && idle && !timer && self.random.random_bool(0.5) {
            self.reach(id, target);
            return None;
        }
        let rows = inputs.iter().flat_map(|i| &i.batches).map(|b| b.changes.num_rows() as u64).sum();
        self.process.jobs.get_mut(&id).unwrap().taken += weight_of_input(&inputs);
        self.process.engine.step(Step { job: id, epoch: target, now: self.world.now(target), inputs });
        self.totals.steps += 1;
        Some(rows)
    }

    /// What `relation` has in `(after, to]`, split at random.
    fn input(&mut self, relation: RelationId, after: Epoch, to: Epoch) -> Option<StepInput> {
        let random = &mut self.random;
        let mut batches = Vec::new();
        let watermark = match self.world.table(relation) {
            Some(table) => {
                // What comes and goes within a cut is no noise where it counts that it came.
                let noisy = table.relation.mode == ChangelogMode::Retract && self.alike.is_none();
                for (epoch, entry) in (after.0 + 1..).zip(table.entries(after, to)).filter(|(_, e)| !e.changes.is_empty()) {
                    let pieces = split(random, &table.schema, &entry.changes, noisy);
                    let now = self.world.now(Epoch(epoch));
                    batches.extend(pieces.into_iter().map(|changes| TaggedBatch { changes, arrival_watermark: entry.arrival, now }));
                }
                table.watermark_at(to)
            }
            None => {
                let emitted = self.process.jobs[&relation].output.iter().filter(|e| e.epoch > after && e.epoch <= to);
                let mut watermark = None;
                for entry in emitted {
                    watermark = Some(entry.watermark);
                    for batch in &entry.batches {
                        let pieces = resplit(random, &batch.changes).into_iter();
                        let TaggedBatch { arrival_watermark, now, .. } = *batch;
                        batches.extend(pieces.map(|changes| TaggedBatch { changes, arrival_watermark, now }));
                    }
                }
                watermark?
            }
        };
        batches.retain(|b| !b.changes.is_empty());
        Some(StepInput { relation, batches, watermark })
    }

    fn reach(&mut self, id: RelationId, epoch: Epoch) {
        let job = self.process.jobs.get_mut(&id).unwrap();
        job.stepped = epoch;
        job.progress.epoch = epoch;
        job.exact.insert(epoch);
        self.check(id);
    }

    fn on_step_done(&mut self, done: StepDone) {
        let id = done.job;
        self.check_output(&done);
        let job = self.process.jobs.get_mut(&id).unwrap();
        assert!(done.output.iter().all(|b| b.changes.schema().fields() == job.view.schema().fields()), "output in the view's columns");
        job.progress = done.progress;
        assert!(done.watermark >= job.output_watermark, "watermarks never go back");
        job.output_watermark = done.watermark;
        job.output.push(Emitted { epoch: done.epoch, batches: done.output, watermark: done.watermark });
        job.late += weight_of(&done.late);
        job.rejected += weight_of(&done.rejected);
        let rows = |side: &[SideRows]| side.iter().map(|s| s.changes.num_rows() as u64).sum::<u64>();
        self.totals.late += rows(&done.late);
        self.totals.rejected += rows(&done.rejected);
        self.reach(id, done.epoch);
    }

    /// A step's output is net within a tag, and leads from the view's content before to that after.
    fn check_output(&self, done: &StepDone) {
        let job = &self.process.jobs[&done.job];
        let mut tagged: HashMap<(Timestamp, Box<[u8]>), (i64, i64)> = HashMap::new();
        for TaggedBatch { changes, arrival_watermark, .. } in &done.output {
            for (row, key) in encode(&changes.rows).into_iter().enumerate() {
                let entry = tagged.entry((*arrival_watermark, key)).or_default();
                entry.0 += changes.weight(row);
                entry.1 += changes.weight(row).abs();
            }
        }
        let mut changes: HashMap<Box<[u8]>, i64> = HashMap::new();
        for ((_, key), (net, gross)) in tagged {
            assert_eq!(net.abs(), gross, "the output of {} is not net: weights of a row, summed and without their signs", job.relation.sql);
            *changes.entry(key).or_default() += net;
        }
        let before = if job.progress.started { content(job, job.stepped) } else { RecordBatch::new_empty(job.view.schema().clone()) };
        let after = content(job, done.epoch);
        for (rows, sign) in [(before, 1), (after, -1)] {
            encode(&rows).into_iter().for_each(|key| *changes.entry(key).or_default() += sign);
        }
        let wrong = changes.values().filter(|net| **net != 0).count();
        assert_eq!(
            wrong, 0,
            "the output of a step to {} does not lead from the old content to the new of {}",
            done.epoch, job.relation.sql
        );
    }

    /// Compares a view at the epoch it is at, and now and then at one before.
    fn check(&mut self, id: RelationId) {
        let epoch = self.process.jobs[&id].stepped;
        self.check_at(id, epoch);
        if self.random.random_bool(0.2) {
            let job = &self.process.jobs[&id];
            let readable: Vec<Epoch> = job.exact.iter().copied().filter(|e| *e >= job.vacuumed).collect();
            let earlier = *readable.choose(&mut self.random).unwrap();
            self.check_at(id, earlier);
        }
        let job = &self.process.jobs[&id];
        let Some(case) = self.world.cases.get(&id) else { return };
        if let Some(alike) = &mut self.alike {
            let late = *alike.seen.late.entry((case.name.clone(), epoch)).or_insert(job.late);
            return assert_eq!(job.late, late, "late rows at epoch {epoch} of {}", case.sql);
        }
        let expected = self.batch.expected(&job.relation, epoch, &self.world);
        let found = (job.late, job.rejected);
        assert_eq!(found, (expected.late, expected.rejected), "late and rejected rows at epoch {epoch} of {}", case.sql);
        if case.counts_rows {
            self.totals.accounted += 1;
            let accepted = sum_of(&content(job, epoch), "n");
            let (taken, late, rejected) = (job.taken, job.late, job.rejected);
            assert_eq!(
                taken,
                accepted + late + rejected,
                "taken = {accepted} accepted + {late} late + {rejected} rejected of {}",
                case.sql
            );
        }
    }

    fn check_at(&mut self, id: RelationId, epoch: Epoch) {
        let job = &self.process.jobs[&id];
        let actual = content(job, epoch);
        assert_eq!(actual.num_rows() as u64, job.view.num_rows(epoch), "rows counted and read of {}", job.relation.sql);
        let (expected, approximate) = match self.world.cases.get(&id) {
            None => (self.world.table(id).unwrap().content(epoch).clone(), false),
            Some(case) if self.alike.is_some() => {
                let seen = &mut self.alike.as_mut().expect("just looked").seen.rows;
                (seen.entry((case.name.clone(), epoch)).or_insert_with(|| actual.clone()).clone(), case.approximate)
            }
            Some(case) => (self.batch.expected(&job.relation, epoch, &self.world).rows.clone(), case.approximate),
        };
        self.totals.checks += 1;
        if let Some(difference) = difference(&expected, &actual, approximate) {
            panic!("at epoch {epoch} (present {}) {difference}{}\n{:?}", self.epoch, job.relation.sql, job.progress);
        }
    }

    /// Creates views that read what is there already.
    fn create_waiting(&mut self, all: bool) {
        while !self.waiting.is_empty() && (all || self.random.random_bool(0.8)) {
            let case = self.waiting.remove(0);
            let relation = self.define(case);
            self.create_job(&relation);
            self.backfill(relation.id, self.epoch);
        }
    }

    /// A new job reads snapshots of its inputs at `epoch`, in several steps that all carry it.
    fn backfill(&mut self, id: RelationId, epoch: Epoch) {
        let inputs = self.process.jobs[&id].inputs.clone();
        let mut all: Vec<(RelationId, TaggedBatch)> = Vec::new();
        for input in &inputs {
            let rows = content(&self.process.jobs[input], epoch);
            let pieces = resplit(&mut self.random, &ChangeBatch::insertions(rows)).into_iter().filter(|c| !c.is_empty());
            let now = self.world.now(epoch);
            all.extend(pieces.map(|changes| (*input, TaggedBatch { changes, arrival_watermark: Timestamp::MIN, now })));
        }
        let mut parts: Vec<Vec<(RelationId, TaggedBatch)>> = vec![Vec::new(); self.random.random_range(1..=3)];
        for piece in all {
            let part = self.random.random_range(0..parts.len());
            parts[part].push(piece);
        }
        let last = parts.len() - 1;
        for (number, part) in parts.into_iter().enumerate() {
            let input = |relation: RelationId| {
                let batches = part.iter().filter(|(r, _)| *r == relation).map(|(_, b)| b.clone()).collect();
                let watermark = if number == last { self.watermark_of(relation, epoch) } else { Timestamp::MIN };
                StepInput { relation, batches, watermark }
            };
            let inputs: Vec<StepInput> = inputs.iter().map(|i| input(*i)).collect();
            let taken = weight_of_input(&inputs);
            self.process.engine.step(Step { job: id, epoch, now: self.world.now(epoch), inputs });
            let done = self.process.next_step();
            let job = self.process.jobs.get_mut(&id).unwrap();
            job.taken += taken;
            job.progress = done.progress;
            job.output_watermark = done.watermark;
            job.late += weight_of(&done.late);
            job.rejected += weight_of(&done.rejected);
        }
        self.reach(id, epoch);
    }

    fn watermark_of(&self, relation: RelationId, epoch: Epoch) -> Timestamp {
        match self.world.table(relation) {
            Some(table) => table.watermark_at(epoch),
            None => self.process.jobs[&relation].output_watermark,
        }
    }

    fn vacuum(&mut self) {
        let pending = self.pending.as_ref().map_or(Epoch::MAX, |p| p.epoch);
        for job in self.process.jobs.values_mut() {
            let horizon = job.stepped.min(pending);
            job.view.vacuum(horizon).unwrap();
            job.vacuumed = job.vacuumed.max(horizon);
        }
    }

    /// Freezes every job; all are at the present epoch.
    fn begin_checkpoint(&mut self) {
        let id = self.next_checkpoint;
        self.next_checkpoint += 1;
        self.process.engine.gate().begin(id).unwrap();
        let runs = Some(self.process.freeze(id));
        let image = |job: &super::process::Job| Image {
            progress: job.progress.clone(),
            view: Default::default(),
            output_watermark: job.output_watermark,
            taken: job.taken,
            late: job.late,
            rejected: job.rejected,
        };
        let images = self.process.jobs.iter().map(|(id, job)| (*id, image(job))).collect();
        self.pending = Some(Pending { id, epoch: self.epoch, images, runs });
        if self.random.random_bool(0.4) {
            self.continue_checkpoint();
        }
    }

    /// A whole checkpoint between two cuts; nothing asks to abandon it.
    fn checkpoint_now(&mut self) {
        while self.pending.is_some() {
            self.continue_checkpoint();
        }
        self.round(true);
        self.begin_checkpoint();
        while self.pending.is_some() {
            self.continue_checkpoint();
        }
    }

    fn continue_checkpoint(&mut self) {
        let Some(mut pending) = self.pending.take() else { return };
        let gate = self.process.engine.gate();
        if let Some(runs) = pending.runs.take() {
            if !gate.ingest(pending.id, || self.process.kv.ingest(runs)).unwrap() {
                self.totals.abandoned += 1;
                return;
            }
            self.pending = Some(pending);
            return;
        }
        let dir = self.dir.path().join(format!("image-{}", pending.id));
        if !gate.image(pending.id, || self.process.kv.checkpoint(&dir)).unwrap() {
            self.totals.abandoned += 1;
            return;
        }
        let nothing = BTreeMap::new();
        let known = self.last.as_ref().map_or(&nothing, |last| &last.images);
        for (id, checkpoint) in self.process.image(pending.epoch, known) {
            if let Some(image) = pending.images.get_mut(&id) {
                image.view = checkpoint.manifest;
            }
            self.files.extend(checkpoint.files.into_iter().map(|file| (file.name.clone(), file)));
        }
        self.totals.checkpoints += 1;
        self.last = Some(Checkpoint { epoch: pending.epoch, dir, images: pending.images });
    }

    /// Throws the process away and starts the next one from the last checkpoint.
    fn kill(&mut self) {
        let Some(last) = self.last.take() else { return };
        self.pending = None;
        self.totals.kills += 1;
        self.process.add_to(&mut self.totals);
        let mode = Mode { workers: self.random.random_range(1..=3), backend: self.mode.backend };
        let store = self.store;
        let defined: Vec<RelationId> = self.process.jobs.keys().copied().collect();
        // The live directory is locked until the old process is gone.
        self.process = {
            let stopped = std::mem::replace(&mut self.process, Process::start(mode, Store::Memory, self.dir.path(), None));
            drop(stopped);
            Process::start(mode, store, self.dir.path(), Some(&last.dir))
        };
        for id in defined {
            let relation = self.world.catalog.get(id).clone();
            let image = last.images.get(&id);
            self.process.create(&relation, &|id| self.world.catalog.get(id).clone(), image.map(|image| (image, &self.files)));
            match image {
                Some(_) => self.check(id),
                None => self.backfill(id, last.epoch),
            }
        }
        self.last = Some(last);
    }

    /// Everything to the end, all views created, all compared.
    pub fn finish(&mut self) {
        self.round(true);
        self.create_waiting(true);
        let ids: Vec<RelationId> = self.process.jobs.keys().copied().collect();
        ids.into_iter().for_each(|id| self.check(id));
        self.process.add_to(&mut self.totals);
    }

    /// What a view holds at the present epoch, after `finish`.
    pub fn view_content(&self, name: &str) -> RecordBatch {
        content(&self.process.jobs[&self.world.view(name).id], self.epoch)
    }
}

/// What a job's view holds at an epoch.
pub fn content(job: &super::process::Job, epoch: Epoch) -> RecordBatch {
    let rows: Vec<RecordBatch> = job.view.snapshot(epoch, None).unwrap().collect::<Result<_, _>>().unwrap();
    concat_batches(&arrow_schema(&job.relation.columns), &rows).unwrap()
}

fn sum_of(rows: &RecordBatch, column: &str) -> i64 {
    let column = rows.column_by_name(column).unwrap_or_else(|| panic!("no column {column}"));
    arrow::compute::sum(column.as_primitive::<Int64Type>()).unwrap_or(0)
}

fn weight_of_input(inputs: &[StepInput]) -> i64 {
    let batches = inputs.iter().flat_map(|i| &i.batches);
    batches.map(|b| (0..b.changes.num_rows()).map(|row| b.changes.weight(row)).sum::<i64>()).sum()
}

fn weight_of(side: &[SideRows]) -> i64 {
    side.iter().map(|s| (0..s.changes.num_rows()).map(|row| s.changes.weight(row)).sum::<i64>()).sum()
}
