//! DDL: checked, built, logged, installed in the order of the log, acknowledged once durable. What cannot be logged leaves no
//! trace: a relation is in the catalog only, and out of it only, once its record is in the log.

use super::core::{Core, reply_to};
use super::handle::{Ddl, DdlOutcome, Reply, Resolved};
use super::history::History;
use super::job::{Exact, FanOut, Job, Mode};
use super::pausing::paused_at;
use super::records::{self, DdlRecord, KIND_DDL};
use super::ring::Ring;
use super::source::{Source, SourceProgress};
use super::table::Table;
use super::{Event, backfill::Backfill};
use crate::catalog::{CatalogSnapshot, Dependent, kind_name, object_kind};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use eddyline_common::connector::PartitionStart;
use eddyline_common::types::arrow_schema;
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState, StateTableId, Timestamp, failpoint};
use eddyline_executor::{JobProgress, JobSpec, rejects};
use eddyline_planner::catalog::{ErrorPolicy, Relation, RelationKind, SqlFunction};
use eddyline_planner::keyed_plan;
use eddyline_planner::plan::{ChangelogMode, Node, Op, PLAN_VERSION, StreamPlan};
use eddyline_planner::statement::{Comments, ObjectKind};
use eddyline_storage::log::LogPosition;
use eddyline_storage::view::{ARRIVAL, View, ViewKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A statement whose record is on its way to the disk.
pub(super) struct Waiting {
    reply: Reply<DdlOutcome>,
    outcome: DdlOutcome,
}

/// What a statement came to, and where its record is; `None` if there was nothing to do.
pub(super) type Done = (DdlOutcome, Option<LogPosition>);

/// What a checkpoint gave back of a job.
pub(super) struct StoredViews {
    pub rows: Arc<View>,
    pub rejects: Arc<View>,
}

impl Core {
    pub(super) fn on_ddl(&mut self, ddl: Ddl, resolved: Resolved, reply: Reply<DdlOutcome>) {
        let outcome = match ddl {
            Ddl::Create { relation, if_not_exists, comments } => self.create(*relation, if_not_exists, resolved, comments),
            Ddl::CreateIndex { index, if_not_exists } => self.create_index(*index, if_not_exists),
            Ddl::CreateFunction { function, replace } => self.create_function(*function, replace),
            Ddl::Drop { kind, names, if_exists, cascade } => self.drop_relations(kind, &names, if_exists, cascade),
            Ddl::AdvanceWatermark { relation, to_micros } => self.advance(relation, to_micros),
            Ddl::PauseJob { job, pause } => self.pause(job, pause),
            Ddl::Alter { before, after } => self.alter(&before, *after),
            Ddl::AlterSystem { name, value } => self.alter_system(name, value),
            Ddl::Comment { relation, column, text } => self.comment(relation, column, text),
        };
        match outcome {
            Err(error) => reply_to(reply, Err(error)),
            Ok((outcome, None)) => reply_to(reply, Ok(outcome)),
            Ok((outcome, Some(logged))) => {
                let id = self.next_ddl;
                self.next_ddl += 1;
                self.ddl_waiting.insert(id, Waiting { reply, outcome });
                let sender = self.sender.clone();
                self.log.on_durable(logged, Box::new(move |result| drop(sender.send(Event::DdlDurable(id, result)))));
            }
        }
    }

    /// Once this has given a position, the change is what a restart finds, and must be what this process shows.
    pub(super) fn log_ddl(&mut self, record: &DdlRecord) -> Result<LogPosition> {
        self.log_health()?;
        failpoint::hit("ddl.log")?;
        let position = self.log.append(KIND_DDL, &records::encode_json(record)?)?;
        failpoint::pass("ddl.logged");
        Ok(position)
    }

    pub(super) fn on_ddl_durable(&mut self, id: u64, result: Result<()>) {
        if let Some(waiting) = self.ddl_waiting.remove(&id) {
            reply_to(waiting.reply, result.map(|()| waiting.outcome));
        }
    }

    fn create(&mut self, mut relation: Relation, if_not_exists: bool, resolved: Resolved, comments: Comments) -> Result<Done> {
        self.find_free_name(&mut relation);
        let existing = self.catalog.by_name(&relation.name).cloned();
        let replaces = existing.as_ref().map(|existing| existing.id).filter(|id| *id == relation.id);
        match (existing, replaces) {
            (Some(existing), Some(_)) if matches!(existing.kind, RelationKind::View { .. }) => {
                return self.replace_view(relation, comments);
            }
            (Some(existing), Some(_)) => self.check_unused(&existing, &relation)?,
            (_, None) if self.catalog.is_taken(&relation.name) => return taken(&relation.name, if_not_exists),
            _ => {}
        }
        if let Some(plan) = relation.plan() {
            plan.inputs().iter().try_for_each(|input| self.is_running(*input).and_then(|()| self.check_unpaused(*input)))?;
        }
        if let Some(gone) = relation.depends_on.iter().find(|d| !self.catalog.contains(**d)) {
            return Err(SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation or function {gone} was dropped meanwhile")));
        }
        if let Some(table) = relation.sink_table() {
            let relations: Vec<Arc<Relation>> = self.catalog.relations().cloned().collect();
            if eddyline_planner::reaches(&relations, &relation.plan().map(StreamPlan::inputs).unwrap_or_default(), table) {
                return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, "rows of a table cannot go into the table itself"));
            }
        }
        // What is made of the present time begins with the present one.
        if relation.plan().is_some_and(|plan| plan.reads_clock()) {
            self.take_cut()?;
        }
        relation.id = RelationId(self.next_relation);
        let Resolved { starts, ends, own_starts, mut present } = resolved;
        self.assign_own_sources(&mut relation, &mut present);
        self.assign_feed(&mut relation);
        // What brings a keyed source its records is its feed.
        if let Some(feed) = relation.feed_id().filter(|_| !ends.is_empty()) {
            present.push((feed, ends));
        }
        self.assign_state_tables(&mut relation);
        let (id, epoch) = (relation.id, self.last_cut);
        let record = DdlRecord::Create {
            relation: Box::new(relation.clone()),
            epoch,
            starts: starts.clone(),
            own_starts: own_starts.clone(),
            present: present.clone(),
            replaces,
            comments: comments.clone(),
        };
        let relation = Arc::new(relation);
        self.build(&relation, epoch, starts, own_starts)?;
        self.refresh_readers();
        let logged = self.log_ddl(&record).inspect_err(|_| self.undo_build(id))?;
        let gone = replaces.into_iter().flat_map(|old| self.catalog.indexes_of(old));
        let notices = gone.map(|index| format!("index \"{}\" goes with what was replaced", index.name)).collect();
        self.apply_drop(replaces.as_slice());
        self.install(&relation, &comments);
        self.expect(present, epoch);
        self.readers_changed = true;
        Ok((DdlOutcome { created: Some(id), notices, indexed: None }, Some(logged)))
    }

    /// A running INSERT whose name is taken gets the next number that nobody has.
    fn find_free_name(&self, relation: &mut Relation) {
        let is_free = |name: &str| !self.catalog.is_taken(name);
        let RelationKind::Sink(definition) = &mut relation.kind else { return };
        if !definition.name_is_free || is_free(&relation.name) {
            return;
        }
        let numbered = relation.name.rsplit_once('_').filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let stem = numbered.map_or(relation.name.as_str(), |(stem, _)| stem).to_string();
        if let Some(name) = (2..).map(|n| format!("{stem}_{n}")).find(|name| is_free(name)) {
            definition.spec.name = name.clone();
            relation.name = name;
        }
    }

    /// CREATE OR REPLACE MATERIALIZED VIEW makes a new one in the place of the old, on which therefore nothing may stand.
    fn check_unused(&self, old: &Relation, new: &Relation) -> Result<()> {
        if let Some(user) = self.catalog.dependents(old.id).first() {
            let message =
                format!("cannot replace materialized view {} because {} {} depends on it", old.name, kind_name(user.kind), user.name);
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS, message).with_hint("Drop it first."));
        }
        if new.depends_on.contains(&old.id) {
            let message = format!("materialized view {} cannot be defined by itself", old.name);
            return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
        }
        Ok(())
    }

    /// CREATE OR REPLACE VIEW. A materialized view keeps the plan it was made with, so none may build on the old definition.
    fn replace_view(&mut self, relation: Relation, comments: Comments) -> Result<Done> {
        let is_job = |user: &&Dependent| matches!(user.kind, ObjectKind::MaterializedView | ObjectKind::Sink);
        if let Some(user) = self.catalog.dependents(relation.id).iter().find(is_job) {
            let message = format!("cannot replace view {} because {} {} depends on it", relation.name, kind_name(user.kind), user.name);
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS, message).with_hint("Drop it first."));
        }
        if self.catalog.dependents(relation.id).iter().any(|user| relation.depends_on.contains(&user.id)) {
            let message = format!("view {} cannot be defined by a view that depends on it", relation.name);
            return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
        }
        let record = DdlRecord::Create {
            relation: Box::new(relation.clone()),
            epoch: self.last_cut,
            starts: Vec::new(),
            own_starts: Vec::new(),
            present: Vec::new(),
            replaces: None,
            comments: comments.clone(),
        };
        let logged = self.log_ddl(&record)?;
        self.install(&Arc::new(relation), &comments);
        Ok((DdlOutcome::default(), Some(logged)))
    }

    /// CREATE [OR REPLACE] FUNCTION. A materialized view keeps the plan it was made with, so none may call the old definition.
    fn create_function(&mut self, mut function: SqlFunction, replace: bool) -> Result<Done> {
        let existing = self.catalog.function(&function.name).map(|f| f.id);
        match existing {
            Some(id) if !replace || id != function.id => {
                return Err(SqlError::new(SqlState("42723"), format!("function \"{}\" already exists", function.name)));
            }
            Some(id) => {
                let is_job = |user: &&Dependent| matches!(user.kind, ObjectKind::MaterializedView | ObjectKind::Sink);
                if let Some(user) = self.catalog.dependents(id).iter().find(is_job) {
                    let (name, kind) = (&function.name, kind_name(user.kind));
                    let message = format!("cannot replace function {name} because {kind} {} depends on it", user.name);
                    return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS, message).with_hint("Drop it first."));
                }
                if self.catalog.dependents(id).iter().any(|user| function.depends_on.contains(&user.id)) {
                    let message = format!("function {} cannot call a function that calls it", function.name);
                    return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
                }
            }
            None => function.id = RelationId(self.next_relation),
        }
        if let Some(gone) = function.depends_on.iter().find(|d| !self.catalog.contains(**d)) {
            return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {gone} was dropped meanwhile")));
        }
        let logged = self.log_ddl(&DdlRecord::CreateFunction { function: Box::new(function.clone()) })?;
        self.apply_create_function(function);
        Ok((DdlOutcome::default(), Some(logged)))
    }

    pub(super) fn apply_create_function(&mut self, function: SqlFunction) {
        self.next_relation = self.next_relation.max(function.id.0 + 1);
        self.set_catalog(self.catalog.with_function(function));
    }

    /// State table ids are derived from relation ids, both never reused: id = relation * 2^12 + index.
    fn assign_state_tables(&self, relation: &mut Relation) {
        let mut ids = (relation.id.0 << 12..).map(StateTableId);
        let Some(plan) = relation.plan_mut() else { return };
        for node in &mut plan.nodes {
            node.op.assign_state_tables(&mut || ids.next().expect("ids of tables go on"));
        }
    }

    /// Makes a new relation work, at `epoch`, and shows it.
    pub(super) fn apply_create(
        &mut self,
        relation: Relation,
        epoch: Epoch,
        starts: Vec<PartitionStart>,
        own_starts: Vec<Vec<PartitionStart>>,
        replaces: Option<RelationId>,
        comments: &Comments,
    ) -> Result<()> {
        let relation = Arc::new(relation);
        self.build(&relation, epoch, starts, own_starts)?;
        self.apply_drop(replaces.as_slice());
        self.install(&relation, comments);
        Ok(())
    }

    /// Makes a new relation work, at `epoch`; nobody finds it yet. Fails without a trace.
    fn build(
        &mut self,
        relation: &Arc<Relation>,
        epoch: Epoch,
        starts: Vec<PartitionStart>,
        own_starts: Vec<Vec<PartitionStart>>,
    ) -> Result<()> {
        let id = relation.id;
        // Never used again, also if nothing comes of it: what is left of its state is cleared in the background.
        self.next_relation = self.next_relation.max(id.0 + 1);
        match &relation.kind {
            RelationKind::Source(_) => {
                self.add_source(relation.clone(), SourceProgress::starting(starts), History::default(), epoch)?;
            }
            RelationKind::KeyedSource { .. } => self.create_keyed(relation, epoch, starts)?,
            RelationKind::Table { .. } => {
                self.mark(epoch);
                self.tables.insert(id, Table::new(relation.clone(), epoch, Timestamp::MIN)?);
                self.add_job(relation.clone(), None, Mode::Live, epoch).inspect_err(|_| drop(self.tables.remove(&id)))?;
            }
            RelationKind::View { .. } => {}
            RelationKind::MaterializedView { .. } | RelationKind::Sink(_) => {
                self.mark(epoch);
                self.add_own_sources(relation, own_starts, epoch)?;
                self.build_job(relation, epoch).inspect_err(|_| self.drop_own_sources(relation))?;
            }
        }
        Ok(())
    }

    fn build_job(&mut self, relation: &Arc<Relation>, epoch: Epoch) -> Result<()> {
        let is_sink = matches!(relation.kind, RelationKind::Sink(_));
        if is_sink {
            self.add_sink(relation)?;
        }
        let added = self.add_job(relation.clone(), None, Mode::Backfilling(Backfill::new(None, epoch)), epoch);
        if added.is_err() && is_sink {
            self.drop_sink(relation.id);
            self.stats.remove(relation.id);
        }
        added
    }

    fn install(&mut self, relation: &Arc<Relation>, comments: &Comments) {
        let with = self.catalog.with((**relation).clone());
        let comment = |catalog: CatalogSnapshot, (column, text): &(Option<usize>, String)| {
            catalog.with_comment(relation.id, *column, Some(text.clone()))
        };
        self.set_catalog(comments.iter().fold(with, comment));
    }

    /// The relation was built and could not be logged.
    fn undo_build(&mut self, id: RelationId) {
        self.apply_drop(&[id]);
        self.refresh_readers();
    }

    pub(super) fn add_source(&mut self, relation: Arc<Relation>, progress: SourceProgress, history: History, epoch: Epoch) -> Result<()> {
        let RelationKind::Source(spec) = &relation.kind else { return Err(SqlError::internal("not a source")) };
        let connector = Arc::from((self.config.open_source)(spec)?);
        let stats = self.stats.add_source(relation.id, &relation.name);
        let (room, clock, events) = (self.inboxes.clone(), self.config.clock.clone(), self.sender.clone());
        let source = Source::new(relation, connector, progress, history, epoch, stats, room, clock, events)?;
        self.handle.starts.write().insert(source.id(), source.starts().to_vec());
        if source.is_filling() {
            self.filling.insert(source.id());
        }
        self.sources.insert(source.id(), source);
        Ok(())
    }

    /// Starts a job: a new one, or with its progress and view from a checkpoint.
    pub(super) fn add_job(
        &mut self,
        relation: Arc<Relation>,
        restored: Option<(JobProgress, StoredViews)>,
        mode: Mode,
        epoch: Epoch,
    ) -> Result<()> {
        let plan = Arc::new(job_plan(&relation));
        let options = relation.job_options();
        let on_error = options.map_or(ErrorPolicy::Stop, |options| options.on_error);
        let parallelism = options.and_then(|options| options.parallelism);
        let dir = Some(self.segments.clone());
        let (progress, view, rejects) = match restored {
            Some((progress, StoredViews { rows, rejects })) => (Some(progress), rows, Some(rejects)),
            None => (None, View::new(view_schema(&relation), view_key(&relation), self.config.workers, dir.clone())?, None),
        };
        self.add_indexes(&relation, &view)?;
        // Also of one that stops at the first: it may be altered.
        let rejects = match options {
            Some(_) => Some(rejects.map_or_else(|| rejects::empty(dir), Ok)?),
            None => None,
        };
        let inputs = plan.inputs();
        let schema_of = |id: &RelationId| {
            let read = self.sources.get(id).map(|s| &s.relation).or_else(|| self.catalog.get(*id));
            (*id, arrow_schema(&read.unwrap_or(&relation).columns))
        };
        let schemas: BTreeMap<_, _> = inputs.iter().map(schema_of).collect();
        // What a sink emits is kept in its log; its view stays empty.
        let is_sink = matches!(relation.kind, RelationKind::Sink(_));
        let shown = (!is_sink).then(|| view.clone());
        let stats = self.stats.add_job(relation.id, &relation.name);
        let forget = |_: &SqlError| drop(self.stats.jobs.write().remove(&relation.id));
        let lookups = self.lookups_of(&plan, &stats).inspect_err(forget)?;
        let spec = JobSpec {
            job: relation.id,
            plan,
            view: shown,
            rejects: rejects.clone(),
            inputs: schemas,
            on_error,
            parallelism,
            lookups,
            restore: progress.clone(),
        };
        let operators = self.engine.create_job(spec).inspect_err(forget)?;
        // Nobody else has the new counters yet.
        let _set = stats.operators.set(operators);
        stats.paused.store(paused_at(&relation).is_some(), std::sync::atomic::Ordering::Relaxed);
        let mut exact = Exact::default();
        let live = matches!(mode, Mode::Live);
        if live {
            exact.step(epoch);
            stats.backfill_permille.store(1000, std::sync::atomic::Ordering::Relaxed);
        }
        let stepped = if live { epoch } else { Epoch::ZERO };
        stats.epoch.store(stepped.0, std::sync::atomic::Ordering::Relaxed);
        let progress = progress.unwrap_or_else(|| JobProgress { epoch: stepped, started: false, ..JobProgress::default() });
        let output_watermark = Timestamp::MIN;
        let output = Ring::new(epoch, output_watermark);
        let job = Job {
            relation,
            inputs,
            view,
            rejects,
            mode,
            stepped,
            running: None,
            exact,
            kept_from: Epoch::ZERO,
            held: None,
            progress,
            output,
            output_watermark,
            stats,
            source_ends: BTreeMap::new(),
            policies: VecDeque::new(),
            rejoins: false,
            emitted: None,
            fan_out: FanOut::UNKNOWN,
        };
        self.keep_job(job);
        Ok(())
    }

    /// An error if a table's or view's job has stopped.
    pub(super) fn is_running(&self, id: RelationId) -> Result<()> {
        let Some((job, error)) = self.jobs.get(&id).and_then(|j| Some((j, j.failure()?))) else { return Ok(()) };
        let kind = kind_name(object_kind(&job.relation));
        Err(SqlError::new(SqlState::OBJECT_NOT_READY, format!("{kind} \"{}\" has stopped", job.relation.name))
            .with_detail(error.message.clone())
            .with_hint(match job.relation.job_options().map(|options| options.on_error) {
                Some(ErrorPolicy::Reject) => {
                    "It does not go on. Mend what it reads, if on_error did not set aside what fails; then CREATE OR REPLACE it, or drop and create it."
                }
                Some(ErrorPolicy::Stop) | None => {
                    "Drop it and create it again; WITH (on_error = 'reject') lets a view go on without the rows that fail."
                }
            }))
    }

    /// What DROP of this kind means by a name; an error if something else has it.
    fn named(&self, kind: ObjectKind, name: &str) -> Result<Option<RelationId>> {
        if kind == ObjectKind::Function {
            return Ok(self.catalog.function(name).map(|function| function.id));
        }
        let relation = self.catalog.by_name(name);
        let index = || self.catalog.index(name).map(|index| (index.id, ObjectKind::Index));
        let Some((id, found)) = relation.map(|relation| (relation.id, object_kind(relation))).or_else(index) else { return Ok(None) };
        // A source may be declared by CREATE TABLE, and what rows are pushed to is a table.
        let is_webhook = relation.is_some_and(|relation| matches!(relation.kind, RelationKind::Table { webhook: Some(_), .. }));
        let is_flink_table = kind == ObjectKind::Table && found == ObjectKind::Source || kind == ObjectKind::Source && is_webhook;
        if found == kind || is_flink_table {
            return Ok(Some(id));
        }
        let article = if kind == ObjectKind::Index { "an" } else { "a" };
        let hint = format!("Use DROP {} to remove it.", kind_name(found).to_uppercase());
        Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{name}\" is not {article} {}", kind_name(kind))).with_hint(hint))
    }

    fn drop_relations(&mut self, kind: ObjectKind, names: &[String], if_exists: bool, cascade: bool) -> Result<Done> {
        let mut outcome = DdlOutcome::default();
        let mut dropped: Vec<RelationId> = Vec::new();
        for name in names {
            match self.named(kind, name)? {
                Some(id) => dropped.push(id),
                None if if_exists => outcome.notices.push(format!("{} \"{name}\" does not exist, skipping", kind_name(kind))),
                None => {
                    let state = match kind {
                        ObjectKind::Function => SqlState::UNDEFINED_FUNCTION,
                        ObjectKind::Index => SqlState::UNDEFINED_OBJECT,
                        _ => SqlState::UNDEFINED_TABLE,
                    };
                    return Err(SqlError::new(state, format!("{} \"{name}\" does not exist", kind_name(kind))));
                }
            }
        }
        let users: Vec<Dependent> =
            dropped.iter().flat_map(|id| self.catalog.dependents(*id)).filter(|r| !dropped.contains(&r.id)).collect();
        if !users.is_empty() && !cascade {
            return Err(in_use(&names.join(", "), kind, &users));
        }
        for user in users {
            if !dropped.contains(&user.id) {
                outcome.notices.push(format!("drop cascades to {} {}", kind_name(user.kind), user.name));
                dropped.push(user.id);
            }
        }
        if dropped.is_empty() {
            return Ok((outcome, None));
        }
        let logged = self.log_ddl(&DdlRecord::Drop { relations: dropped.clone() })?;
        self.apply_drop(&dropped);
        self.refresh_readers();
        Ok((outcome, Some(logged)))
    }

    pub(super) fn apply_drop(&mut self, ids: &[RelationId]) {
        for id in ids {
            self.forget_index(*id);
            let source = self.source_of(*id);
            if let Some(job) = self.take_job(*id) {
                self.engine.drop_job(*id);
                self.drop_own_sources(&job.relation);
                let states = job.relation.plan().map(StreamPlan::state_tables).unwrap_or_default();
                self.checkpoints.drop_job(states, job.views().cloned().collect());
            }
            self.drop_sink(*id);
            self.tables.remove(id);
            self.drop_source(source);
            self.stats.remove(*id);
            self.handle.locks.lock().remove(id);
            self.system.forget(source);
            self.system.forget(*id);
            self.forget_in_checkpoint(*id);
        }
        self.set_catalog(self.catalog.without(ids));
    }

    fn advance(&mut self, relation: RelationId, to_micros: i64) -> Result<Done> {
        let manual = self.catalog.get(relation).and_then(|r| r.watermark.as_ref()).is_some_and(|w| w.manual);
        if !manual {
            let hint = "Declare the source or table WITH (watermark.mode = 'manual').";
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, "only a manual watermark can be advanced").with_hint(hint));
        }
        let logged = self.log_ddl(&DdlRecord::AdvanceWatermark { relation, to_micros })?;
        self.apply_advance(relation, to_micros);
        Ok((DdlOutcome::default(), Some(logged)))
    }

    pub(super) fn apply_advance(&mut self, relation: RelationId, to_micros: i64) {
        let to = Timestamp(to_micros);
        let relation = self.source_of(relation);
        if let Some(source) = self.sources.get_mut(&relation) {
            source.advance_watermark(to);
        } else if let Some(table) = self.tables.get_mut(&relation) {
            table.advance_watermark(to);
        }
    }

    /// Sources are read while somebody wants their rows; without a reader recorded cuts need not be read again.
    pub(super) fn refresh_readers(&mut self) {
        let wanted: Vec<(RelationId, bool)> =
            self.sources.keys().map(|id| (*id, self.readers(*id).any(|j| j.failure().is_none()))).collect();
        for (id, wanted) in wanted {
            let read: BTreeSet<usize> =
                self.readers(id).filter(|j| j.failure().is_none()).flat_map(|job| self.columns_read(job, id)).collect();
            let Some(source) = self.sources.get_mut(&id) else { continue };
            if wanted {
                source.keep(&read, &self.reaper);
                source.start(&self.reaper);
            } else {
                source.stop();
                source.skip_replay();
            }
        }
    }

    pub(super) fn set_catalog(&mut self, catalog: crate::catalog::CatalogSnapshot) {
        self.catalog = Arc::new(catalog);
        *self.handle.catalog.write() = self.catalog.clone();
    }
}

/// There is a relation or an index of this name.
pub(super) fn taken(name: &str, if_not_exists: bool) -> Result<Done> {
    let message = format!("relation \"{name}\" already exists");
    if if_not_exists {
        return Ok((DdlOutcome { notices: vec![message + ", skipping"], ..DdlOutcome::default() }, None));
    }
    Err(SqlError::new(SqlState::DUPLICATE_TABLE, message))
}

fn in_use(name: &str, kind: ObjectKind, users: &[Dependent]) -> SqlError {
    let mut lines: Vec<String> =
        users.iter().map(|u| format!("{} {} depends on {} {name}", kind_name(u.kind), u.name, kind_name(kind))).collect();
    lines.sort();
    lines.dedup();
    SqlError::new(SqlState::DEPENDENT_OBJECTS, format!("cannot drop {} {name} because other objects depend on it", kind_name(kind)))
        .with_detail(lines.join("\n"))
        .with_hint("Use DROP ... CASCADE to drop the dependent objects too.")
}

/// What a relation's view stores: its columns, and with a time among them under which watermark each row arrived, so that a
/// view over it that is made later finds the same rows late as one that was there.
pub(super) fn view_schema(relation: &Relation) -> SchemaRef {
    let schema = arrow_schema(&relation.columns);
    if relation.time_columns.is_empty() {
        return schema;
    }
    let arrival = Arc::new(Field::new(ARRIVAL, DataType::Int64, false));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([arrival]).collect::<Vec<_>>()))
}

/// How the rows of a relation are identified in its view.
pub(super) fn view_key(relation: &Relation) -> ViewKey {
    let key = match &relation.kind {
        RelationKind::MaterializedView { plan, .. } => match &plan.output_node().op {
            Op::Materialize { key } => key.clone(),
            _ => Vec::new(),
        },
        _ => relation.key.clone(),
    };
    match (key.is_empty(), relation.mode) {
        (false, _) => ViewKey::Keyed(key),
        (true, ChangelogMode::Append) => ViewKey::Append,
        (true, ChangelogMode::Retract) => ViewKey::Multiset,
    }
}

/// What a relation's job runs.
pub(crate) fn job_plan(relation: &Relation) -> StreamPlan {
    let own = || keyed_plan(relation).unwrap_or_else(|| table_plan(relation));
    relation.plan().cloned().unwrap_or_else(own)
}

/// A table's job: its writes, routed by key, into its view.
pub(super) fn table_plan(relation: &Relation) -> StreamPlan {
    let all: Vec<usize> = (0..relation.columns.len()).collect();
    let keys = if relation.key.is_empty() { all.clone() } else { relation.key.clone() };
    let node = |op, inputs| Node {
        op,
        inputs,
        columns: relation.columns.clone(),
        mode: relation.mode,
        unique_keys: if relation.key.is_empty() { vec![] } else { vec![relation.key.clone()] },
        time_columns: relation.time_columns.clone(),
    };
    let scan = node(Op::Scan { relation: relation.id, projection: all }, vec![]);
    let exchange = node(Op::Exchange { keys }, vec![0]);
    let materialize = node(Op::Materialize { key: relation.key.clone() }, vec![1]);
    StreamPlan { version: PLAN_VERSION, nodes: vec![scan, exchange, materialize], output: 2, state_ttl: vec![] }
}
