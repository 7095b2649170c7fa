//! The simulated server and its clients. What clients ask is under way until the core's turns have answered it; what is answered is held
//! against the model.

use super::feed::{self, Ends, Feed};
use super::model::{self, FED, Model, Rows, SHARES, SLOTS_FROM, TABLES, VIEWS, Write};
use crate::catalog::CatalogSnapshot;
use crate::coordinator::handle::{Ddl, DdlOutcome, ReadSnapshot, Resolved, SystemAnswer, SystemRelation, TableWrite};
use crate::coordinator::{CheckpointLocation, CoordinatorConfig, CoordinatorHandle, PinLimits, Running, start};
use crate::pgcatalog::tests::plan_on;
use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use eddyline_common::runtime::{ManualClock, MemoryFs, OneThread};
use eddyline_common::{ChangeBatch, Epoch, RelationId, Result, SqlState, Timestamp};
use eddyline_executor::StateBackend;
use eddyline_planner::statement::ObjectKind;
use eddyline_planner::{Planned, parse};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Turns between two happenings, at most.
const TURNS_MAX: usize = 60;

/// How long a client may wait when nothing else happens, in the clock's time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a client did, and what it was told.
enum Answer {
    Written(i64, Result<Epoch>),
    Defined(&'static str, Result<DdlOutcome>),
    Read(Result<ReadSnapshot>),
    Flushed(Result<Epoch>),
    Stopped,
}

/// What a client waits for.
struct UnderWay {
    answer: Pin<Box<dyn Future<Output = Answer>>>,
    /// What a reader must see at least: the epochs that any client was told, and the writes that were acknowledged, before it asked.
    at_least: Epoch,
    sees: BTreeSet<i64>,
    reads: Vec<(String, RelationId)>,
}

/// Whether a view is there, as far as clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    There,
    Gone,
    /// Being created or dropped.
    Unknown,
}

pub struct World {
    random: StdRng,
    dir: tempfile::TempDir,
    fs: MemoryFs,
    clock: Arc<ManualClock>,
    runtime: tokio::runtime::Runtime,
    backend: StateBackend,
    threads: OneThread,
    handle: CoordinatorHandle,
    model: Model,
    views: BTreeMap<&'static str, Known>,
    /// The newest epoch that a client was told.
    told: Epoch,
    /// Which writes readers saw at which epochs, whatever happened since.
    epochs: BTreeMap<Epoch, BTreeSet<i64>>,
    feed: Feed,
    /// How many records of the source readers saw at which epochs, whatever happened since.
    fed: BTreeMap<Epoch, Ends>,
    /// How many rows the view of shares rejected when it was read last; `None` if it was not there, or had stopped.
    rejected: Option<usize>,
    syncs_fail: bool,
    under_way: Vec<UnderWay>,
    trace: Vec<String>,
}

impl World {
    /// A server with two tables and a source.
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let backend = if random.random() { StateBackend::Memory } else { StateBackend::Rocksdb };
        // What is synced for real takes no time in memory.
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() };
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000_000_000)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (fs, feed) = (MemoryFs::default(), Feed::default());
        let (threads, handle) = start_server(&mut random, dir.path(), &fs, &clock, &runtime, backend, &feed);
        let views = VIEWS.iter().map(|(name, ..)| (*name, Known::Gone)).collect();
        let (model, told, under_way, trace) = (Model::default(), Epoch::ZERO, Vec::new(), Vec::new());
        let (epochs, rejected, syncs_fail) = (BTreeMap::new(), None, false);
        let mut world = World {
            random,
            dir,
            fs,
            clock,
            runtime,
            backend,
            threads,
            handle,
            model,
            views,
            told,
            epochs,
            feed,
            fed: BTreeMap::new(),
            rejected,
            syncs_fail,
            under_way,
            trace,
        };
        for table in TABLES {
            world.define(table, &format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, k BIGINT NOT NULL, v BIGINT NOT NULL)"));
            world.until_answered();
        }
        world.define("s", "CREATE SOURCE s (p BIGINT, o BIGINT, k BIGINT, v BIGINT) WITH (connector = 'datagen')");
        world.until_answered();
        world
    }

    /// Something happens, and some turns pass.
    pub fn happen(&mut self) {
        match self.below(100) {
            0..30 => self.write(),
            30..45 => {
                let partition = self.below(feed::PARTITIONS);
                self.feed.write(partition, self.random.random_range(1..20));
            }
            45..70 => self.read(),
            70..85 => self.change_a_view(),
            85..88 => self.flush(),
            88..91 => self.clock.advance(self.random.random_range(1..400_000)),
            91 => self.fs.set_full(true),
            92..94 => self.fs.set_full(false),
            94 => self.fail_to_sync(),
            95..97 => self.kill(false),
            97 => self.kill(true),
            _ => self.stop(),
        }
        let turns = self.below(TURNS_MAX);
        self.turns(turns);
    }

    /// Nothing happens any more: everybody gets an answer, and the last reader sees everything.
    pub fn settle(&mut self) {
        self.until_answered();
        self.flush();
        self.until_answered();
        self.rejected = None;
        self.read_all();
        self.until_answered();
        self.check_rejected();
        self.until_fed();
        self.kill(false);
    }

    /// All records that there are come to be seen.
    fn until_fed(&mut self) {
        if self.views[FED] != Known::There {
            return;
        }
        for _ in 0..1_000 {
            if self.fed.values().last() == Some(&self.feed.ends()) {
                return;
            }
            self.turns(TURNS_MAX);
            self.read_these(&[FED]);
            self.until_answered();
        }
        panic!("of {:?} records only {:?} are seen", self.feed.ends(), self.fed.values().last());
    }

    /// Nobody writes meanwhile.
    fn check_rejected(&mut self) {
        let Some(expected) = self.rejected else { return };
        let handle = self.handle.clone();
        let answer = async move { handle.system_rows(SystemRelation::RejectedRows).await };
        let Ok(SystemAnswer::Rejected(rows)) = self.wait_for(answer) else { panic!("rejected rows are shown") };
        let weights = |batch: RecordBatch| arrow::compute::sum(batch["weight"].as_primitive::<Int64Type>()).unwrap_or_default();
        let rejected: i64 = Arc::new(rows).batches().map(|batch| weights(batch.unwrap())).sum();
        assert_eq!(rejected, expected as i64, "rejected rows");
    }

    pub fn into_trace(mut self) -> Vec<String> {
        std::mem::take(&mut self.trace)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }

    fn note(&mut self, what: String) {
        self.trace.push(what);
    }

    fn ask(&mut self, reads: Vec<(String, RelationId)>, answer: impl Future<Output = Answer> + 'static) {
        let (at_least, sees) = (self.told, self.model.acknowledged());
        self.under_way.push(UnderWay { answer: Box::pin(answer), at_least, sees, reads });
    }

    fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            if !self.threads.step() {
                let micros = self.random.random_range(1..20_000);
                self.clock.advance(micros);
            }
            self.take_answers();
        }
    }

    fn until_answered(&mut self) {
        self.fs.set_full(false);
        let mut idle = Duration::ZERO;
        while !self.under_way.is_empty() {
            if !self.threads.step() {
                self.clock.advance(20_000);
                idle += Duration::from_millis(20);
                assert!(idle < PATIENCE, "{} clients wait for ever; after {:?}", self.under_way.len(), self.trace.last());
            }
            self.take_answers();
        }
    }

    fn take_answers(&mut self) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut index = 0;
        while index < self.under_way.len() {
            match self.under_way[index].answer.as_mut().poll(&mut context) {
                Poll::Pending => index += 1,
                Poll::Ready(answer) => {
                    let client = self.under_way.remove(index);
                    self.on_answer(client, answer);
                }
            }
        }
    }

    fn on_answer(&mut self, client: UnderWay, answer: Answer) {
        match answer {
            Answer::Written(number, Ok(epoch)) => {
                self.note(format!("write {number} is in epoch {epoch}"));
                self.model.acknowledge(number);
                self.told = self.told.max(epoch);
            }
            // Nobody knows what became of it.
            Answer::Written(_, Err(error)) if self.syncs_fail => self.note(format!("not synced: {:?}", error.state)),
            Answer::Written(number, Err(error)) => {
                assert_eq!(error.state, SqlState::DISK_FULL, "{error}");
                self.model.refuse(number);
                self.note(format!("write {number} is refused"));
            }
            Answer::Defined(name, outcome) => self.on_defined(name, outcome),
            Answer::Read(Ok(snapshot)) => self.check(&client, &snapshot),
            Answer::Read(Err(error)) => {
                let reads_shares = client.reads.iter().any(|(name, _)| name == SHARES);
                let may_stop = || reads_shares && error.state == SqlState::OBJECT_NOT_READY && self.model.has_failing();
                // It may have been dropped meanwhile.
                assert!(self.syncs_fail || error.state == SqlState::UNDEFINED_TABLE || may_stop(), "{error}");
                self.note(format!("not read: {:?}", error.state));
            }
            Answer::Flushed(Ok(epoch)) => self.told = self.told.max(epoch),
            Answer::Flushed(Err(error)) => assert!(self.syncs_fail || error.state == SqlState::DISK_FULL, "{error}"),
            Answer::Stopped => {}
        }
    }

    fn on_defined(&mut self, name: &'static str, outcome: Result<DdlOutcome>) {
        let is_there = self.handle.catalog().by_name(name).is_some();
        let told = outcome.as_ref().map(|_| ()).map_err(|error| error.state);
        self.note(format!("{name} is {}: {told:?}", if is_there { "there" } else { "gone" }));
        if self.syncs_fail {
            return;
        }
        for (view, known) in &mut self.views {
            *known = if self.handle.catalog().by_name(view).is_some() { Known::There } else { Known::Gone };
        }
    }

    /// Holds what a reader sees against the model.
    fn check(&mut self, client: &UnderWay, snapshot: &ReadSnapshot) {
        assert!(snapshot.epoch >= client.at_least, "a reader went back to epoch {}", snapshot.epoch);
        let read: BTreeMap<&str, Rows> = client.reads.iter().map(|(name, id)| (name.as_str(), rows_of(snapshot, *id))).collect();
        let seen = self.model.seen(&read["t"]);
        assert!(client.sees.is_subset(&seen), "a reader misses writes {:?}", &client.sees - &seen);
        for (name, rows) in &read {
            let expected = match *name {
                name if TABLES.contains(&name) => self.model.table(name, &seen),
                name if model::is_fed(name) => model::fed_view(name, model::fed_ends(&read[FED]), &read["t"]),
                name => model::view(name, &read["t"], &read["u"]),
            };
            assert_eq!(*rows, expected, "{name} at epoch {}", snapshot.epoch);
        }
        if read.contains_key(SHARES) {
            self.rejected = Some(model::rejected(&read["t"]));
        }
        self.note(format!("epoch {} has {} writes", snapshot.epoch, seen.len()));
        for (epoch, others) in &self.epochs {
            assert!(*epoch > snapshot.epoch || others.is_subset(&seen), "epoch {} lacks writes of epoch {epoch}", snapshot.epoch);
            assert!(*epoch < snapshot.epoch || seen.is_subset(others), "epoch {epoch} had no writes that epoch {} has", snapshot.epoch);
        }
        self.epochs.insert(snapshot.epoch, seen);
        if let Some(fed) = read.get(FED) {
            self.check_fed(snapshot.epoch, model::fed_ends(fed));
        }
    }

    /// What an epoch has of the source it has for ever, and a later one has it too.
    fn check_fed(&mut self, epoch: Epoch, ends: Ends) {
        assert!(ends.iter().zip(self.feed.ends()).all(|(seen, written)| *seen <= written), "{ends:?} was never written");
        self.note(format!("epoch {epoch} has {ends:?} records"));
        let within = |a: &Ends, b: &Ends| a.iter().zip(b).all(|(a, b)| a <= b);
        for (other, seen) in &self.fed {
            assert!(*other > epoch || within(seen, &ends), "epoch {epoch} has {ends:?} records, epoch {other} had {seen:?}");
            assert!(*other < epoch || within(&ends, seen), "epoch {epoch} has {ends:?} records, epoch {other} had {seen:?}");
        }
        self.fed.insert(epoch, ends);
    }

    fn relation(&self, name: &str) -> Option<(String, RelationId)> {
        self.handle.catalog().by_name(name).map(|relation| (name.to_string(), relation.id))
    }

    fn write(&mut self) {
        let Some(tables) = TABLES.iter().map(|table| self.relation(table)).collect::<Option<Vec<_>>>() else { return };
        let write = self.model.begin(&mut |bound| self.random.random_range(0..bound));
        let before = write.slot.and_then(|(slot, ..)| self.model.slot_before(slot));
        let changes = tables.iter().map(|(name, id)| (*id, changes(&write, before, if name == "t" { 0 } else { 1000 }))).collect();
        let (handle, number) = (self.handle.clone(), write.number);
        self.ask(Vec::new(), async move {
            let written = async { handle.write_admitted(handle.admit(TableWrite { changes }).await?).await };
            Answer::Written(number, written.await)
        });
    }

    fn read(&mut self) {
        let views: Vec<&str> = VIEWS.iter().map(|(name, ..)| *name).filter(|name| self.views[name] == Known::There).collect();
        let chosen: Vec<&str> = views.into_iter().filter(|_| self.random.random()).collect();
        self.read_these(&chosen);
    }

    fn read_all(&mut self) {
        let views: Vec<&str> = VIEWS.iter().map(|(name, ..)| *name).filter(|name| self.views[name] == Known::There).collect();
        self.read_these(&views);
    }

    /// The view that may have stopped apart, so that the others are read in any case.
    fn read_these(&mut self, views: &[&str]) {
        let (apart, mut views): (Vec<&str>, Vec<&str>) = views.iter().partition(|view| **view == SHARES);
        // Views over the source are judged by the one that has all of it.
        let is_fed = views.iter().any(|view| model::is_fed(view));
        views.retain(|view| !model::is_fed(view) || *view != FED && self.views[FED] == Known::There);
        views.extend((is_fed && self.views[FED] == Known::There).then_some(FED));
        self.read_together(&views);
        if !apart.is_empty() {
            self.read_together(&apart);
        }
    }

    fn read_together(&mut self, views: &[&str]) {
        let reads: Vec<(String, RelationId)> = TABLES.iter().chain(views).filter_map(|name| self.relation(name)).collect();
        let relations: Vec<RelationId> = reads.iter().map(|(_, id)| *id).collect();
        let (handle, at_least) = (self.handle.clone(), self.told);
        self.ask(reads, async move { Answer::Read(handle.snapshot(&relations, at_least).await) });
    }

    fn flush(&mut self) {
        let handle = self.handle.clone();
        self.ask(Vec::new(), async move { Answer::Flushed(handle.flush().await) });
    }

    /// A flush takes what had arrived before it was asked for, also what there was no room for: whoever reads at its epoch finds that.
    pub fn check_flushes(&mut self) {
        self.define(FED, "CREATE MATERIALIZED VIEW fed AS SELECT p, o, v FROM s");
        self.until_answered();
        let (_, fed) = self.relation(FED).expect("it was created");
        let handle = self.handle.clone();
        for _ in 0..50 {
            self.feed.write(0, 20);
            self.turns(TURNS_MAX / 2);
            let arrived = self.feed.pushed();
            let epoch = self.wait_for(handle.flush()).unwrap();
            let snapshot = self.wait_for(handle.snapshot(&[fed], epoch)).unwrap();
            // Its rows at that epoch may not be kept apart from later ones any more.
            let Ok(flushed) = snapshot.views[&fed].snapshot(epoch, None) else { continue };
            let rows: usize = flushed.map(|batch| batch.unwrap().num_rows()).sum();
            assert!(rows as i64 >= arrived[0], "epoch {epoch} has {rows} records, {arrived:?} had arrived");
        }
    }

    /// Creates a view whose inputs are there, or drops one with all that reads it; one change at a time.
    fn change_a_view(&mut self) {
        if self.views.values().any(|known| *known == Known::Unknown) {
            return;
        }
        let (name, query, options) = VIEWS[self.below(VIEWS.len())];
        let policy = if self.random.random() { "stop" } else { "reject" };
        match self.views[name] {
            Known::There if name == SHARES && self.random.random() => {
                self.views.insert(name, Known::Unknown);
                self.define(name, &format!("ALTER MATERIALIZED VIEW {name} SET (on_error = '{policy}')"));
            }
            Known::There => {
                let gone = |view: &str| view == name || model::inputs_of(view).contains(&name);
                self.views.iter_mut().filter(|(view, _)| gone(view)).for_each(|(_, known)| *known = Known::Unknown);
                let drop = Ddl::Drop { kind: ObjectKind::MaterializedView, names: vec![name.to_string()], if_exists: true, cascade: true };
                self.ask_ddl(name, drop);
            }
            Known::Gone if model::inputs_of(name).iter().all(|input| self.views[input] == Known::There) => {
                self.views.insert(name, Known::Unknown);
                self.define(name, &format!("CREATE MATERIALIZED VIEW {name} AS {query} WITH ({}on_error = '{policy}')", comma(options)));
            }
            _ => {}
        }
    }

    fn define(&mut self, name: &'static str, sql: &str) {
        let catalog: Arc<CatalogSnapshot> = self.handle.catalog();
        let parsed = parse(sql).unwrap();
        let ddl = match plan_on(&catalog, &parsed[0]).unwrap() {
            Planned::Create { relation, if_not_exists, comments, .. } => {
                Ddl::Create { relation: Box::new(relation), if_not_exists, comments }
            }
            Planned::Alter { before, after } => Ddl::Alter { before, after },
            _ => panic!("{sql}"),
        };
        self.ask_ddl(name, ddl);
    }

    fn ask_ddl(&mut self, name: &'static str, ddl: Ddl) {
        let handle = self.handle.clone();
        let starts = if name == "s" { Feed::starts() } else { Vec::new() };
        let resolved = Resolved { starts, ..Default::default() };
        self.ask(Vec::new(), async move { Answer::Defined(name, handle.ddl(ddl, resolved).await) });
    }

    /// The disk does not sync any more. The server goes on reading for a while, and is killed.
    fn fail_to_sync(&mut self) {
        self.fs.set_failing_syncs(true);
        self.syncs_fail = true;
        (0..3).for_each(|_| self.write());
        self.read();
        self.turns(TURNS_MAX);
        let with_the_power = self.random.random();
        self.kill(with_the_power);
    }

    /// The process ends where it is; perhaps the whole machine does.
    fn kill(&mut self, with_the_power: bool) {
        self.threads.kill();
        self.fs.set_failing_syncs(false);
        self.fs.set_full(false);
        self.syncs_fail = false;
        if with_the_power {
            self.fs.fail_power(&mut |bound| self.random.random_range(0..bound));
        }
        let manifests = self.dir.path().join("checkpoints").join("manifests");
        let checkpoints = std::fs::read_dir(manifests).map_or(0, Iterator::count);
        self.note(format!("killed, power lost: {with_the_power}, with {checkpoints} checkpoints"));
        self.restart();
    }

    fn stop(&mut self) {
        let handle = self.handle.clone();
        self.ask(Vec::new(), async move {
            handle.shutdown().await;
            Answer::Stopped
        });
        // Who asked before it gets an answer, or is told that the server stops: as with a kill, nobody knows what became of that.
        let stop = self.under_way.pop().expect("was just asked");
        self.under_way = vec![stop];
        self.until_answered();
        self.threads.kill();
        self.note("stopped".to_string());
        self.restart();
    }

    /// Starts the server again, and finds out what became of what was under way.
    fn restart(&mut self) {
        self.under_way.clear();
        (self.threads, self.handle) =
            start_server(&mut self.random, self.dir.path(), &self.fs, &self.clock, &self.runtime, self.backend, &self.feed);
        for (name, known) in &mut self.views {
            let is_there = if self.handle.catalog().by_name(name).is_some() { Known::There } else { Known::Gone };
            assert!(*known == Known::Unknown || *known == is_there, "{name} was {known:?}, and is {is_there:?} after a restart");
            *known = is_there;
        }
        self.flush();
        self.until_answered();
        let Some((_, t)) = self.relation("t").filter(|_| self.relation("u").is_some()) else { return };
        let (handle, at_least) = (self.handle.clone(), self.told);
        let snapshot = async move { handle.snapshot(&[t], at_least).await };
        let snapshot = self.wait_for(snapshot).unwrap();
        let seen: BTreeSet<i64> = rows_of(&snapshot, t).iter().map(|row| row[0]).filter(|id| *id < SLOTS_FROM).collect();
        drop(snapshot);
        self.model.restarted(&seen);
        self.note(format!("back with {} writes", seen.len()));
        self.read_all();
    }

    fn wait_for<T>(&mut self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        let mut context = Context::from_waker(std::task::Waker::noop());
        loop {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut context) {
                return answer;
            }
            self.turns(1);
        }
    }
}

/// A simulation that fails tells how it came to that.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told: Vec<&str> = self.trace.iter().map(String::as_str).collect();
            let _unseen = writeln!(std::io::stderr(), "{}", told.join("\n"));
        }
    }
}

fn start_server(
    random: &mut StdRng,
    dir: &std::path::Path,
    fs: &MemoryFs,
    clock: &Arc<ManualClock>,
    runtime: &tokio::runtime::Runtime,
    backend: StateBackend,
    feed: &Feed,
) -> (OneThread, CoordinatorHandle) {
    let threads = OneThread::new(random.random());
    let config = CoordinatorConfig {
        data_dir: dir.to_path_buf(),
        checkpoint_store: CheckpointLocation::Directory(dir.join("checkpoints")),
        workers: random.random_range(1..=3),
        backend,
        state_cache_bytes: 32 << 10,
        ring_bytes: random.random_range(1..=64) << 8,
        waiting_bytes: random.random_range(1..=16) << 8,
        pin_limits: PinLimits { age: Duration::from_secs(3600), bytes: 1 << 30 },
        checkpoint_interval: Duration::from_millis(random.random_range(5..500)),
        open_source: Arc::new({
            let (feed, threads) = (feed.clone(), threads.clone());
            move |_| Ok(feed.connector(&threads))
        }),
        clock: clock.clone(),
        fs: Arc::new(fs.clone()),
        runtime: runtime.handle().clone(),
        threads: Arc::new(threads.clone()),
        log_segment_bytes: random.random_range(1..=16) << 10,
        given_up: CancellationToken::new(),
    };
    let Running { handle, .. } = start(config).unwrap();
    (threads, handle)
}

/// Options before another one.
fn comma(options: &str) -> String {
    if options.is_empty() { String::new() } else { format!("{options}, ") }
}

/// A write's changes of one of the tables.
fn changes(write: &Write, before: Option<(i64, i64)>, more: i64) -> ChangeBatch {
    let mut rows = vec![(1, [write.number, write.k, write.number + more])];
    if let Some((slot, k, v)) = write.slot {
        let id = SLOTS_FROM + slot as i64;
        rows.extend(before.map(|(k, v)| (-1, [id, k, v + more])));
        rows.extend((!write.deletes).then_some((1, [id, k, v + more])));
    }
    let column = |c: usize| Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, row)| row[c]))) as Arc<dyn Array>;
    let fields: Vec<Field> = ["id", "k", "v"].iter().map(|name| Field::new(*name, DataType::Int64, false)).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), (0..3).map(column).collect()).unwrap();
    ChangeBatch::with_weights(batch, Int64Array::from_iter_values(rows.iter().map(|(weight, _)| *weight)))
}

fn rows_of(snapshot: &ReadSnapshot, id: RelationId) -> Rows {
    let mut rows = Rows::new();
    for batch in snapshot.views[&id].snapshot(snapshot.epoch, None).unwrap() {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let value = |column: &Arc<dyn Array>| if column.is_null(row) { -1 } else { column.as_primitive::<Int64Type>().value(row) };
            assert!(rows.insert(batch.columns().iter().map(value).collect()), "a row is there twice");
        }
    }
    rows
}
