//! What stands for a relation at work: its source, or its job with its plan and its view. A statement that makes one and a restart that finds
//! one come to the same; it does not know which of them asks.

use super::core::Core;
use super::history::History;
use super::job::{Exact, FanOut, Job, Mode};
use super::pausing::paused_at;
use super::ring::Ring;
use super::source::{Source, SourceProgress};
use super::stats::JobStats;
use super::unopened::open_source;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use eddyline_common::types::arrow_schema;
use eddyline_common::{Epoch, RelationId, Result, SqlError, Timestamp};
use eddyline_executor::{JobProgress, JobSpec, rejects};
use eddyline_planner::catalog::{ErrorPolicy, Relation, RelationKind};
use eddyline_planner::keyed_plan;
use eddyline_planner::plan::{ChangelogMode, Node, Op, PLAN_VERSION, StreamPlan};
use eddyline_storage::view::{ARRIVAL, View, ViewKey};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a checkpoint gave back of a job.
pub(super) struct StoredViews {
    pub rows: Arc<View>,
    pub rejects: Arc<View>,
}

impl Core {
    pub(super) fn add_source(&mut self, relation: Arc<Relation>, progress: SourceProgress, history: History, epoch: Epoch) -> Result<()> {
        let RelationKind::Source(spec) = &relation.kind else { return Err(SqlError::internal("not a source")) };
        let connector = open_source(spec, &self.config.open_source, self.starting)?;
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
        let schemas = self.schemas_of(&inputs, &relation);
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
        stats.paused.store(paused_at(&relation).is_some(), Ordering::Relaxed);
        self.keep_job(begun(relation, inputs, view, rejects, mode, progress, stats, epoch));
        Ok(())
    }

    /// The columns of what a relation's job reads; a table's reads its own.
    fn schemas_of(&self, inputs: &[RelationId], relation: &Arc<Relation>) -> BTreeMap<RelationId, SchemaRef> {
        let schema_of = |id: &RelationId| {
            let read = self.sources.get(id).map(|s| &s.relation).or_else(|| self.catalog.get(*id));
            (*id, arrow_schema(&read.unwrap_or(relation).columns))
        };
        inputs.iter().map(schema_of).collect()
    }
}

/// A job as it begins: at `epoch` if it goes with the cuts.
fn begun(
    relation: Arc<Relation>,
    inputs: Vec<RelationId>,
    view: Arc<View>,
    rejects: Option<Arc<View>>,
    mode: Mode,
    progress: Option<JobProgress>,
    stats: Arc<JobStats>,
    epoch: Epoch,
) -> Job {
    let mut exact = Exact::default();
    let live = matches!(mode, Mode::Live);
    if live {
        exact.step(epoch);
        stats.backfill_permille.store(1000, Ordering::Relaxed);
    }
    let stepped = if live { epoch } else { Epoch::ZERO };
    stats.epoch.store(stepped.0, Ordering::Relaxed);
    let progress = progress.unwrap_or_else(|| JobProgress { epoch: stepped, started: false, ..JobProgress::default() });
    let output_watermark = Timestamp::MIN;
    let output = Ring::new(epoch, output_watermark);
    Job {
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
    }
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
fn table_plan(relation: &Relation) -> StreamPlan {
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
