//! The narrow handle through which sessions reach the coordinator: DDL, writes, snapshots, statistics.
//! Cheap to clone. It knows nothing of pgwire, and the coordinator knows nothing of sessions.

use super::inbox::EventTimes;
use super::pins::Pin;
use super::stats::Stats;
use super::system::RejectedRows;
use crate::catalog::CatalogSnapshot;
use arrow::array::RecordBatch;
use crossbeam_channel::Sender;
use eddyline_common::connector::{PartitionRange, PartitionStart, SourceSpec};
use eddyline_common::options::ROWS_PER_SECOND;
use eddyline_common::runtime::Clock;
use eddyline_common::{ChangeBatch, Epoch, RelationId, Result, SqlError, SqlState, Timestamp};
use eddyline_planner::catalog::{Index, Relation, RelationKind, SqlFunction};
use eddyline_planner::statement::{Comments, ObjectKind};
use eddyline_storage::view::View;
use futures::future::join_all;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};

/// Table writes under way, in bytes over all sessions: a few hundred milliseconds of a slow disk. What they pile up in
/// memory before the next writer waits.
const WRITES_BYTES_MAX: usize = 32 << 20;

/// A permit's worth, so that the count of permits stays small.
const WRITE_UNIT_BYTES: usize = 1 << 10;

/// A change of the catalog, planned.
#[derive(Debug)]
pub enum Ddl {
    Create {
        relation: Box<Relation>,
        if_not_exists: bool,
        comments: Comments,
    },
    CreateIndex {
        index: Box<Index>,
        if_not_exists: bool,
    },
    CreateFunction {
        function: Box<SqlFunction>,
        replace: bool,
    },
    Drop {
        kind: ObjectKind,
        names: Vec<String>,
        if_exists: bool,
        cascade: bool,
    },
    AdvanceWatermark {
        relation: RelationId,
        to_micros: i64,
    },
    PauseJob {
        job: RelationId,
        pause: bool,
    },
    Alter {
        before: Arc<Relation>,
        after: Box<Relation>,
    },
    /// A table takes the place of another, which goes.
    Replace {
        old: Arc<Relation>,
        new: RelationId,
    },
    Comment {
        relation: RelationId,
        column: Option<usize>,
        text: Option<String>,
    },
    /// Without a value: what the server was started with.
    AlterSystem {
        name: String,
        value: Option<String>,
    },
}

/// What a statement did to the catalog; `notices` are for the client.
#[derive(Clone, Debug, Default)]
pub struct DdlOutcome {
    pub created: Option<RelationId>,
    pub notices: Vec<SqlError>,
    /// A view that has a new index: to be read for it by whoever asked for that.
    pub indexed: Option<Arc<View>>,
}

/// The evaluated effects of one transaction: per table, net changes over its stored columns.
#[derive(Debug)]
pub struct TableWrite {
    pub changes: Vec<(RelationId, ChangeBatch)>,
}

/// Serialises the writers of one table while held.
pub struct TableLock(#[allow(dead_code)] OwnedMutexGuard<()>);

/// Views pinned at one epoch: what a query reads, all of it at `epoch`.
pub struct ReadSnapshot {
    pub epoch: Epoch,
    pub views: HashMap<RelationId, Arc<View>>,
    /// What changed after an earlier epoch is not known: replay took many epochs in one step.
    pub replayed: Epoch,
    pin: Option<Pin>,
}

impl ReadSnapshot {
    /// A snapshot of nothing, for queries over system relations and constants only.
    pub fn empty(epoch: Epoch) -> Self {
        ReadSnapshot { epoch, views: HashMap::new(), replayed: Epoch::ZERO, pin: None }
    }

    pub fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }

    /// Fails once the epoch is not kept for this reader any more.
    pub fn check(&self) -> Result<()> {
        self.pin.as_ref().map_or(Ok(()), Pin::check)
    }

    /// Calls once when that happens.
    pub fn on_let_go(&self, wake: impl FnOnce() + Send + 'static) {
        if let Some(pin) = &self.pin {
            pin.on_let_go(wake);
        }
    }
}

pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// A write, the watermark that its rows propose for each table, its encoded form for the log, and its part of the room for
/// those under way.
pub struct AdmittedWrite {
    pub(super) write: TableWrite,
    pub(super) proposed: Vec<Option<Timestamp>>,
    pub(super) encoded: Vec<u8>,
    /// Of a sink, and up to which of its steps it goes.
    pub(super) sink: Option<(RelationId, u64)>,
    pub(super) room: OwnedSemaphorePermit,
}

/// What sessions ask of the coordinator.
pub(super) enum Command {
    /// With a new source's resolved start.
    Ddl(Ddl, Resolved, Reply<DdlOutcome>),
    Write(AdmittedWrite, Reply<Epoch>),
    WrittenBySink(RelationId, Reply<u64>),
    Snapshot {
        relations: Wanted,
        at_least: Epoch,
        for_write: Option<RelationId>,
        /// No job steps sooner for it.
        in_time: bool,
        reply: Reply<ReadSnapshot>,
    },
    /// Answers once every view has all input that had arrived.
    Flush(Reply<Epoch>),
    SystemRows(SystemRelation, oneshot::Sender<SystemAnswer>),
    Shutdown(oneshot::Sender<()>),
}

/// What outside systems say of a change before it is made.
#[derive(Default)]
pub struct Resolved {
    /// Where a new source starts.
    pub starts: Vec<PartitionStart>,
    /// Where it ends at present, if it is read from the moment it is made.
    pub ends: Vec<PartitionStart>,
    /// Where each source of a new view's or sink's own starts.
    pub own_starts: Vec<Vec<PartitionStart>>,
    /// Where sources end that the new view or sink reads and nobody has read before.
    pub present: Vec<(RelationId, Vec<PartitionStart>)>,
}

/// What a snapshot is to hold.
pub(super) struct Wanted {
    pub named: Vec<RelationId>,
    /// Those of them that can be read are pinned too.
    pub others: Vec<RelationId>,
    /// As the reader knows it: it has the names of what is dropped meanwhile.
    pub catalog: Arc<CatalogSnapshot>,
}

/// Relations of the schema `eddyline` whose rows the coordinator holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SystemRelation {
    Sources,
    Jobs,
    Sinks,
    LateRows,
    RejectedRows,
    UndecodableRecords,
    Checkpoints,
    Operators,
    Options,
    Comments,
}

/// The rows of a system relation.
pub enum SystemAnswer {
    Rows(RecordBatch),
    /// There may be many.
    Rejected(RejectedRows),
}

#[derive(Clone)]
pub struct CoordinatorHandle {
    pub(super) commands: Sender<super::Event>,
    pub(super) catalog: Arc<RwLock<Arc<CatalogSnapshot>>>,
    pub(super) locks: Arc<Mutex<HashMap<RelationId, Arc<tokio::sync::Mutex<()>>>>>,
    pub(super) stats: Arc<Stats>,
    pub(super) starts: Arc<RwLock<HashMap<RelationId, Vec<PartitionStart>>>>,
    pub(super) write_room: Arc<Semaphore>,
    pub(super) clock: Arc<dyn Clock>,
    /// Of the server, those that may be altered.
    pub(super) settings: Arc<RwLock<BTreeMap<String, String>>>,
}

/// Asks a sink's external system whether it will take rows, on the caller's side as well.
async fn check_sink(relation: &Relation) -> Result<()> {
    let RelationKind::Sink(sink) = &relation.kind else { return Ok(()) };
    if sink.into.is_some() {
        return Ok(());
    }
    let spec = sink.spec.clone();
    let checked = tokio::task::spawn_blocking(move || eddyline_connectors::open_sink(&spec)?.check()).await;
    checked.map_err(|e| SqlError::internal(format!("the connector failed: {e}")))?
}

async fn resolve_start(relation: &Relation) -> Result<Vec<PartitionStart>> {
    let Some(spec) = relation.source_spec() else { return Ok(Vec::new()) };
    let spec = spec.clone();
    // A table may be there to be written to: its topic or folder comes up as a sink's would.
    let is_table = relation.sql.trim_start().get(..12).is_some_and(|head| head.eq_ignore_ascii_case("create table"));
    let resolve = move || match eddyline_connectors::open(&spec)?.resolve_start() {
        Err(error) if is_table && error.state == SqlState::UNDEFINED_OBJECT => {
            let options = eddyline_common::options::sink_options_of_table(&spec.options)?;
            eddyline_connectors::prepare_place(&options).map_err(|_| error)?;
            eddyline_connectors::open(&spec)?.empty_start()
        }
        resolved => resolved,
    };
    let resolved = tokio::task::spawn_blocking(resolve).await;
    resolved.map_err(|e| SqlError::internal(format!("the connector failed: {e}")))?
}

/// A reader finds at once what there is, and comes to its end: a generator with a rate has nothing yet.
fn comes_to_its_end(spec: &SourceSpec) -> bool {
    ["nexmark.rate", ROWS_PER_SECOND].iter().all(|option| !spec.options.contains_key(*option))
}

/// Where a source ends at present whose first reader comes. Without an end, or an answer, nothing of it is waited for.
async fn look_at_end(spec: &SourceSpec) -> Vec<PartitionStart> {
    if !comes_to_its_end(spec) {
        return Vec::new();
    }
    let asked = spec.clone();
    let present = tokio::task::spawn_blocking(move || eddyline_connectors::open(&asked)?.present()).await;
    let end_of = |range: PartitionRange| Some(PartitionStart { partition: range.partition, start: range.end? });
    match present.map_err(SqlError::internal).flatten() {
        Ok(ranges) => ranges.unwrap_or_default().into_iter().filter_map(end_of).collect(),
        Err(error) => {
            tracing::warn!(source = %spec.name, "what it holds is not known: {error}");
            Vec::new()
        }
    }
}

impl CoordinatorHandle {
    /// The catalog as it is now; immutable.
    pub fn catalog(&self) -> Arc<CatalogSnapshot> {
        self.catalog.read().clone()
    }

    /// Asks a new source's connector where it starts, and a new sink's whether it will take rows. On the caller's side: the
    /// coordinator never waits for an external system.
    pub async fn resolve(&self, ddl: &mut Ddl) -> Result<Resolved> {
        if let Ddl::Create { relation, .. } = ddl
            && let RelationKind::Sink(sink) = &mut relation.kind
        {
            sink.spec.incarnation = uuid::Uuid::new_v4().simple().to_string();
        }
        match ddl {
            Ddl::Create { relation, if_not_exists, .. } if !(*if_not_exists && self.catalog().by_name(&relation.name).is_some()) => {
                let relation: &Relation = relation;
                check_sink(relation).await?;
                // All at once: who is away keeps the statement no longer than one question may take.
                let (present, starts, own_starts) =
                    tokio::join!(self.look_at_unread(relation), resolve_start(relation), self.starts_of_own(relation));
                let (starts, own_starts) = (starts?, own_starts?);
                let ends = match &relation.kind {
                    RelationKind::KeyedSource { spec, .. } => look_at_end(spec).await,
                    _ => Vec::new(),
                };
                Ok(Resolved { starts, ends, own_starts, present })
            }
            _ => Ok(Resolved::default()),
        }
    }

    /// Where sources start that are read under a hint: where that says, or where they start for all. With other options there may be other partitions.
    async fn starts_of_own(&self, relation: &Relation) -> Result<Vec<Vec<PartitionStart>>> {
        let mut all = Vec::new();
        let resolved = join_all(relation.own_sources().iter().map(|own| resolve_start(&own.relation))).await;
        for (own, starts) in relation.own_sources().iter().zip(resolved) {
            let mut starts = starts?;
            let of_all = if own.starts_anew { Vec::new() } else { self.source_starts(own.of) };
            for PartitionStart { partition, start } in &mut starts {
                *start = of_all.iter().find(|known| known.partition == *partition).map_or(*start, |known| known.start);
            }
            all.push(starts);
        }
        Ok(all)
    }

    /// Asks sources that nobody reads yet where they end, if a new view or sink is to read them.
    async fn look_at_unread(&self, relation: &Relation) -> Vec<(RelationId, Vec<PartitionStart>)> {
        let (catalog, mut unread) = (self.catalog(), Vec::new());
        for input in relation.plan().map(|plan| plan.inputs()).unwrap_or_default() {
            let is_job = |kind: ObjectKind| matches!(kind, ObjectKind::MaterializedView | ObjectKind::Sink);
            let is_unread = || !catalog.dependents(input).iter().any(|user| is_job(user.kind));
            let own = relation.own_sources().iter().map(|own| &own.relation).find(|source| source.id == input);
            let shared = || catalog.get(input).filter(|r| matches!(r.kind, RelationKind::Source(_)) && is_unread());
            let source = own.or_else(|| shared().map(|source| source.as_ref()));
            let Some(spec) = source.and_then(|source| source.source_spec()) else { continue };
            unread.push((input, spec.clone()));
        }
        let ends = join_all(unread.iter().map(|(_, spec)| look_at_end(spec))).await;
        let present = unread.iter().zip(ends).map(|((input, _), ends)| (*input, ends));
        present.filter(|(_, ends)| !ends.is_empty()).collect()
    }

    /// Changes the catalog; durable when it returns. Given up while it waits, it may be done all the same.
    pub async fn ddl(&self, ddl: Ddl, resolved: Resolved) -> Result<DdlOutcome> {
        self.ask(|reply| Command::Ddl(ddl, resolved, reply)).await
    }

    /// Where each partition of a source begins for all its readers; empty for an unknown source.
    pub fn source_starts(&self, source: RelationId) -> Vec<PartitionStart> {
        self.starts.read().get(&source).cloned().unwrap_or_default()
    }

    /// Waits, here and not in the coordinator, while too much is under way. A write larger than all the room goes alone.
    pub async fn admit(&self, write: TableWrite) -> Result<AdmittedWrite> {
        self.admit_of(write, None).await
    }

    /// The same for a sink's rows, up to one of its steps.
    pub(super) async fn admit_of_sink(&self, write: TableWrite, sink: RelationId, up_to: u64) -> Result<AdmittedWrite> {
        self.admit_of(write, Some((sink, up_to))).await
    }

    async fn admit_of(&self, write: TableWrite, sink: Option<(RelationId, u64)>) -> Result<AdmittedWrite> {
        let bytes: usize = write.changes.iter().map(|(_, changes)| changes.bytes()).sum();
        let units = bytes.div_ceil(WRITE_UNIT_BYTES).min(WRITES_BYTES_MAX / WRITE_UNIT_BYTES);
        let room = self.write_room.clone().acquire_many_owned(units as u32).await.map_err(|_| stopping())?;
        let encoded = super::records::encode_write(&write, sink)?;
        let proposed = write.changes.iter().map(|(table, changes)| self.proposed(*table, changes)).collect::<Result<_>>()?;
        Ok(AdmittedWrite { write, proposed, encoded, sink, room })
    }

    /// The watermark that rows propose for their table, if it has one.
    fn proposed(&self, table: RelationId, changes: &ChangeBatch) -> Result<Option<Timestamp>> {
        let catalog = self.catalog();
        let Some(relation) = catalog.get(table).filter(|r| r.watermark.is_some()) else { return Ok(None) };
        Ok(EventTimes::new(relation)?.and_then(|times| times.of_changes(changes, self.clock.now()).watermark))
    }

    /// Commits the effects in one epoch. When it returns they are durable and the tables show them; the session passes the
    /// epoch to its next `snapshot`. Given up while it waits, the write may be done all the same.
    pub async fn write_admitted(&self, write: AdmittedWrite) -> Result<Epoch> {
        self.ask(|reply| Command::Write(write, reply)).await
    }

    /// Up to which of a sink's steps the tables have what it wrote.
    pub(super) async fn written_by_sink(&self, sink: RelationId) -> Result<u64> {
        self.ask(|reply| Command::WrittenBySink(sink, reply)).await
    }

    pub(super) fn write_room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(WRITES_BYTES_MAX / WRITE_UNIT_BYTES))
    }

    /// All of it for one table.
    pub async fn write_one(&self, table: RelationId, changes: ChangeBatch) -> Result<Epoch> {
        self.write_admitted(self.admit(TableWrite { changes: vec![(table, changes)] }).await?).await
    }

    /// Waits for the table's other writers.
    pub async fn lock_table(&self, table: RelationId) -> TableLock {
        let lock = self.locks.lock().entry(table).or_default().clone();
        TableLock(lock.lock_owned().await)
    }

    /// Waits for a committed epoch of at least `at_least` that all the relations have, and pins it.
    /// Only tables and materialized views may be named. Dropping the future cancels the wait.
    pub async fn snapshot(&self, relations: &[RelationId], at_least: Epoch) -> Result<ReadSnapshot> {
        self.snapshot_with(relations, Vec::new(), at_least).await
    }

    /// The same, and with it those of `others` that can be read at that moment: for a reader that does not know yet what it will name.
    pub async fn snapshot_with(&self, relations: &[RelationId], others: Vec<RelationId>, at_least: Epoch) -> Result<ReadSnapshot> {
        let relations = Wanted { others, ..self.wanted(relations) };
        self.ask(|reply| Command::Snapshot { relations, at_least, for_write: None, in_time: false, reply }).await
    }

    /// The same for one who is in no hurry: a view that collects changes (`emit_interval`) goes on doing so.
    pub async fn snapshot_in_time(&self, relations: &[RelationId], at_least: Epoch) -> Result<ReadSnapshot> {
        let relations = self.wanted(relations);
        self.ask(|reply| Command::Snapshot { relations, at_least, for_write: None, in_time: true, reply }).await
    }

    /// The same for the holder of a table's lock: every write to the table that was accepted from anybody is in it. Refused
    /// while the log cannot be written, as the write would be.
    pub async fn snapshot_to_write(&self, table: RelationId, relations: &[RelationId], at_least: Epoch) -> Result<ReadSnapshot> {
        let relations = self.wanted(relations);
        self.ask(|reply| Command::Snapshot { relations, at_least, for_write: Some(table), in_time: false, reply }).await
    }

    fn wanted(&self, named: &[RelationId]) -> Wanted {
        Wanted { named: named.to_vec(), others: Vec::new(), catalog: self.catalog() }
    }

    pub async fn flush(&self) -> Result<Epoch> {
        self.ask(Command::Flush).await
    }

    /// The present rows of a system relation; see `super::system` for its columns.
    pub async fn system_rows(&self, relation: SystemRelation) -> Result<SystemAnswer> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::SystemRows(relation, reply))?;
        answer.await.map_err(|_| stopping())
    }

    /// Settings of the server that may be altered, with their values.
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.settings.read().clone()
    }

    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Takes a last checkpoint and stops the coordinator.
    pub async fn shutdown(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(Command::Shutdown(reply)).is_ok() {
            // An error means that the coordinator is already gone, which is what was asked for.
            let _gone = answer.await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        answer.await.map_err(|_| stopping())?
    }

    fn send(&self, command: Command) -> Result<()> {
        self.commands.send(super::Event::Command(command)).map_err(|_| stopping())
    }
}

fn stopping() -> SqlError {
    SqlError::new(SqlState::ADMIN_SHUTDOWN, "the server is shutting down")
}

pub(super) fn new_snapshot(epoch: Epoch, views: HashMap<RelationId, Arc<View>>, replayed: Epoch, pin: Pin) -> ReadSnapshot {
    ReadSnapshot { epoch, views, replayed, pin: Some(pin) }
}
