//! What fell out of the dataflow, kept bounded and queryable: late rows and undecodable records; and the rows of the schema
//! `eddyline`. Nothing is dropped without a count: the counters go on when the kept rows have reached their bound. Rejected
//! rows are a view beside each job's (`eddyline_executor::rejects`), without a bound, and are read by whoever asks for them.

use super::core::Core;
use super::ddl::job_plan;
use super::handle::SystemRelation;
use super::job::Mode;
use super::pausing::paused_at;
use super::pins::Pin;
use super::sink::{SinkJob, definition};
use super::stats::JobStats;
use crate::catalog::{kind_name, object_kind};
use arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::SchemaRef;
use eddyline_common::connector::UndecodableRecord;
use eddyline_common::options::{FUTURE_GUARD, IDLE_TIMEOUT};
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Column, Epoch, PartitionId, RelationId, Result, SqlType};
use eddyline_executor::SideRows;
use eddyline_executor::rejects::{self, json_lines};
use eddyline_planner::catalog::{Relation, RelationKind, duration_text};
use eddyline_planner::explain;
use eddyline_storage::view::{Snapshot, View};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Rows kept of each kind; enough to see what is wrong, small enough for every checkpoint.
const KEPT_MAX: usize = 1_000;

/// Rows of one step that are looked at to be kept.
const KEPT_PER_STEP_MAX: usize = 100;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SideRow {
    view: RelationId,
    epoch: Epoch,
    reason: String,
    row: String,
    weight: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Undecodable {
    source: RelationId,
    epoch: Epoch,
    partition: PartitionId,
    offset: i64,
    reason: String,
    excerpt: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SystemRows {
    late: VecDeque<SideRow>,
    undecodable: VecDeque<Undecodable>,
}

impl SystemRows {
    /// Keeps some of a step's late rows; returns how many there were.
    pub fn late_rows(&mut self, view: RelationId, epoch: Epoch, late: &[SideRows]) -> u64 {
        let mut room = KEPT_PER_STEP_MAX;
        for side in late {
            let kept = side.changes.slice(0, side.changes.num_rows().min(room));
            room -= kept.num_rows();
            for (index, row) in json_lines(&kept.rows).into_iter().enumerate() {
                push_bounded(&mut self.late, SideRow { view, epoch, reason: side.reason.clone(), row, weight: kept.weight(index) });
            }
        }
        count(late)
    }

    pub fn undecodable(&mut self, source: RelationId, epoch: Epoch, records: Vec<(PartitionId, UndecodableRecord)>) {
        for (partition, record) in records {
            let UndecodableRecord { offset, reason, excerpt } = record;
            push_bounded(&mut self.undecodable, Undecodable { source, epoch, partition, offset: offset.0, reason, excerpt });
        }
    }

    /// Its relation was dropped.
    pub fn forget(&mut self, id: RelationId) {
        self.late.retain(|r| r.view != id);
        self.undecodable.retain(|r| r.source != id);
    }

    /// What belongs to epochs up to `epoch`, for a checkpoint: the rest comes again by replay.
    pub fn up_to(&self, epoch: Epoch) -> SystemRows {
        let mut kept = self.clone();
        kept.late.retain(|r| r.epoch <= epoch);
        kept.undecodable.retain(|r| r.epoch <= epoch);
        kept
    }
}

fn push_bounded<T>(rows: &mut VecDeque<T>, row: T) {
    if rows.len() == KEPT_MAX {
        rows.pop_front();
    }
    rows.push_back(row);
}

fn count(sides: &[SideRows]) -> u64 {
    let weight = |c: &ChangeBatch| c.weights.as_ref().map_or(c.num_rows() as u64, |w| w.values().iter().map(|w| w.unsigned_abs()).sum());
    sides.iter().map(|s| weight(&s.changes)).sum()
}

/// The name in schema `eddyline` and the columns of each system relation.
pub const SYSTEM_RELATIONS: [(SystemRelation, &str); 10] = [
    (SystemRelation::Sources, "sources"),
    (SystemRelation::Jobs, "jobs"),
    (SystemRelation::Sinks, "sinks"),
    (SystemRelation::LateRows, "late_rows"),
    (SystemRelation::RejectedRows, "rejected_rows"),
    (SystemRelation::UndecodableRecords, "undecodable_records"),
    (SystemRelation::Checkpoints, "checkpoints"),
    (SystemRelation::Operators, "operators"),
    (SystemRelation::Options, "options"),
    (SystemRelation::Comments, "comments"),
];

pub fn columns(relation: SystemRelation) -> Vec<Column> {
    let column = |name: &str, ty: SqlType| Column::new(name, ty, true);
    let (text, bigint) = (SqlType::Text, SqlType::BigInt);
    match relation {
        SystemRelation::Sources => vec![
            column("source", text.clone()),
            column("partition", bigint.clone()),
            column("next_offset", bigint.clone()),
            column("watermark", SqlType::Timestamp),
            column("records", bigint.clone()),
            column("undecodable", bigint),
            column("problem", text),
        ],
        SystemRelation::Jobs => vec![
            column("job", text.clone()),
            column("state", text.clone()),
            column("epoch", bigint.clone()),
            column("rows_in", bigint.clone()),
            column("rows_out", bigint.clone()),
            column("late", bigint.clone()),
            column("rejected", bigint.clone()),
            column("busy_micros", bigint.clone()),
            column("state_bytes", bigint.clone()),
            column("freshness_micros", bigint.clone()),
            column("backfill_permille", bigint),
            column("error", text),
        ],
        SystemRelation::Operators => vec![
            column("job", text.clone()),
            column("node", bigint.clone()),
            column("operator", text),
            column("rows_in", bigint.clone()),
            column("rows_out", bigint.clone()),
            column("busy_micros", bigint.clone()),
            column("state_bytes", bigint),
        ],
        SystemRelation::Options => {
            vec![column("relation", text.clone()), column("kind", text.clone()), column("option", text.clone()), column("value", text)]
        }
        SystemRelation::Comments => vec![column("relation", text.clone()), column("column", text.clone()), column("comment", text)],
        SystemRelation::Sinks => vec![
            column("sink", text.clone()),
            column("connector", text.clone()),
            column("state", text.clone()),
            column("sent_epoch", bigint.clone()),
            column("rows_sent", bigint.clone()),
            column("waiting_bytes", bigint.clone()),
            column("failures", bigint),
            column("problem", text),
        ],
        SystemRelation::LateRows | SystemRelation::RejectedRows => vec![
            column("view", text.clone()),
            column("epoch", bigint.clone()),
            column("reason", text.clone()),
            column("row", text),
            column("weight", bigint),
        ],
        SystemRelation::UndecodableRecords => vec![
            column("source", text.clone()),
            column("topic", text.clone()),
            column("partition", bigint.clone()),
            column("offset", bigint.clone()),
            column("epoch", bigint),
            column("reason", text.clone()),
            column("excerpt", text),
        ],
        SystemRelation::Checkpoints => {
            vec![column("checkpoint", bigint.clone()), column("epoch", bigint.clone()), column("micros", bigint), column("problem", text)]
        }
    }
}

pub fn schema(relation: SystemRelation) -> SchemaRef {
    arrow_schema(&columns(relation))
}

/// All rejected rows at one moment, read a batch at a time.
pub struct RejectedRows {
    /// With the names of their views.
    jobs: Vec<(String, Arc<View>, Epoch)>,
    pin: Pin,
}

impl RejectedRows {
    /// Batches in the columns of the relation.
    pub fn batches(self: Arc<Self>) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        let (mut next, mut open): (usize, Option<Snapshot>) = (0, None);
        std::iter::from_fn(move || {
            loop {
                if let Err(too_old) = self.pin.check() {
                    return Some(Err(too_old));
                }
                if let Some(batch) = open.as_mut().and_then(Iterator::next) {
                    let name = &self.jobs[next - 1].0;
                    return Some(batch.and_then(|batch| with_name(name, &batch)));
                }
                let (_, view, epoch) = self.jobs.get(next)?;
                next += 1;
                match view.snapshot(*epoch, Some(&[rejects::EPOCH, rejects::REASON, rejects::ROW, rejects::WEIGHT])) {
                    Ok(rows) => open = Some(rows),
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }
}

fn with_name(name: &str, rows: &RecordBatch) -> Result<RecordBatch> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(name, rows.num_rows())));
    let columns = std::iter::once(names).chain(rows.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(schema(SystemRelation::RejectedRows), columns)?)
}

enum Cell {
    Text(Option<String>),
    Int(i64),
    Time(Option<i64>),
}

impl Core {
    pub(super) fn system_rows(&self, relation: SystemRelation) -> RecordBatch {
        let rows = match relation {
            SystemRelation::Sources => self.source_rows(),
            SystemRelation::Jobs => self.job_rows(),
            SystemRelation::Operators => self.operator_rows(),
            SystemRelation::Options => self.option_rows(),
            SystemRelation::Comments => self.comment_rows(),
            SystemRelation::Sinks => self.sink_rows(),
            SystemRelation::LateRows => self.system.late.iter().map(|r| self.side_row(r)).collect(),
            SystemRelation::RejectedRows => Vec::new(),
            SystemRelation::UndecodableRecords => self.system.undecodable.iter().map(|r| self.undecodable_row(r)).collect(),
            SystemRelation::Checkpoints => self
                .checkpoints
                .recent()
                .map(|c| {
                    vec![Cell::Int(c.id as i64), Cell::Int(c.epoch.0 as i64), Cell::Int(c.micros as i64), Cell::Text(c.problem.clone())]
                })
                .collect(),
        };
        to_batch(&schema(relation), rows)
    }

    /// Where the rejected rows are: those of a view that goes with the cuts as of its epoch, of others as far as they have come.
    pub(super) fn rejected_rows(&self) -> RejectedRows {
        let of = |job: &super::job::Job| {
            let epoch = match &job.mode {
                Mode::Live => job.stepped,
                Mode::Backfilling(backfill) => backfill.to,
                // Rows that live die at no epoch, which is the last one.
                Mode::Failed(_) => Epoch(Epoch::MAX.0 - 1),
            };
            Some((job.relation.name.clone(), job.rejects.clone()?, epoch))
        };
        let jobs: Vec<_> = self.jobs.values().filter_map(of).collect();
        let oldest = jobs.iter().map(|(_, _, epoch)| *epoch).min().unwrap_or(self.durable).min(self.durable);
        RejectedRows { jobs, pin: self.pins.pin(oldest, self.kept().died) }
    }

    fn name_of(&self, id: RelationId) -> Cell {
        Cell::Text(self.catalog.get(id).map(|r| r.name.clone()))
    }

    fn side_row(&self, row: &SideRow) -> Vec<Cell> {
        vec![
            self.name_of(row.view),
            Cell::Int(row.epoch.0 as i64),
            Cell::Text(Some(row.reason.clone())),
            Cell::Text(Some(row.row.clone())),
            Cell::Int(row.weight),
        ]
    }

    fn undecodable_row(&self, row: &Undecodable) -> Vec<Cell> {
        let spec = self.sources.get(&row.source).and_then(|s| s.relation.source_spec());
        let topic = spec.and_then(|spec| spec.options.get("topic").or(spec.options.get("path")).cloned());
        vec![
            Cell::Text(self.name_of_source(row.source)),
            Cell::Text(topic),
            Cell::Int(row.partition.0 as i64),
            Cell::Int(row.offset),
            Cell::Int(row.epoch.0 as i64),
            Cell::Text(Some(row.reason.clone())),
            Cell::Text(Some(row.excerpt.clone())),
        ]
    }

    fn source_rows(&self) -> Vec<Vec<Cell>> {
        let mut rows = Vec::new();
        for source in self.sources.values() {
            let watermark = source.watermark().0;
            let watermark = (watermark != i64::MIN && watermark != i64::MAX).then_some(watermark);
            let problem = source.stats.problem.read().clone().or_else(|| self.backfill_problem(source.id()));
            for end in source.ends() {
                rows.push(vec![
                    Cell::Text(Some(source.relation.name.clone())),
                    Cell::Int(end.partition.0 as i64),
                    Cell::Int(end.start.0),
                    Cell::Time(watermark),
                    Cell::Int(source.stats.records.load(Relaxed) as i64),
                    Cell::Int(source.stats.undecodable.load(Relaxed) as i64),
                    Cell::Text(problem.clone()),
                ]);
            }
        }
        rows
    }

    /// What a view that reads the source on its own is waiting for.
    fn backfill_problem(&self, source: RelationId) -> Option<String> {
        let of = |job: &super::job::Job| {
            let reading = job.reading()?.sources.iter().find(|s| s.source == source)?;
            Some(format!("for view \"{}\": {}", job.relation.name, reading.inbox.problem()?))
        };
        self.jobs.values().find_map(of)
    }

    fn job_rows(&self) -> Vec<Vec<Cell>> {
        let row = |job: &super::job::Job| {
            let sink = self.sinks.get(&job.id());
            let problem = sink.and_then(|s| s.stats.problem.read().clone());
            let state = match &job.mode {
                Mode::Failed(_) => "stopped",
                // Also while it comes to the epoch it stays at.
                _ if paused_at(&job.relation).is_some() => "paused",
                Mode::Backfilling(_) => "backfilling",
                Mode::Live if self.stands_still(job) => "waiting for the sink",
                Mode::Live if sink.is_some_and(|s| s.stats.paused.load(Relaxed)) => "paused",
                Mode::Live if problem.is_some() => "retrying",
                Mode::Live => "running",
            };
            let s = &job.stats;
            let int = |v: u64| Cell::Int(v as i64);
            vec![
                Cell::Text(Some(job.relation.name.clone())),
                Cell::Text(Some(state.to_string())),
                int(job.stepped.0),
                int(s.rows_in.load(Relaxed)),
                int(s.rows_out.load(Relaxed)),
                int(s.late.load(Relaxed)),
                int(s.rejected.load(Relaxed)),
                int(s.busy_micros.load(Relaxed)),
                int(s.state_bytes.load(Relaxed)),
                Cell::Int(s.freshness_micros.load(Relaxed)),
                int(s.backfill_permille.load(Relaxed)),
                Cell::Text(s.error.read().clone().or(problem)),
            ]
        };
        self.jobs.values().map(row).collect()
    }

    fn operator_rows(&self) -> Vec<Vec<Cell>> {
        let mut rows = Vec::new();
        let name = |id: RelationId| self.name_of_source(id).unwrap_or_else(|| id.to_string());
        for job in self.jobs.values() {
            let plan = job_plan(&job.relation);
            for (node, line) in explain::operators(&plan, &name) {
                let Some(done) = job.stats.operators.get().and_then(|o| o.get(node)) else { continue };
                let int = |v: u64| Cell::Int(v as i64);
                rows.push(vec![
                    Cell::Text(Some(job.relation.name.clone())),
                    Cell::Int(node as i64),
                    Cell::Text(Some(line)),
                    int(done.rows_in.load(Relaxed)),
                    int(done.rows_out.load(Relaxed)),
                    int(done.busy_nanos.load(Relaxed) / 1000),
                    int(done.state_bytes.load(Relaxed)),
                ]);
            }
        }
        rows
    }

    fn option_rows(&self) -> Vec<Vec<Cell>> {
        let mut rows = Vec::new();
        for relation in self.catalog.relations() {
            let kind = kind_name(object_kind(relation));
            for (option, value) in listed_options(relation) {
                let cells = [relation.name.as_str(), kind, option.as_str(), value.as_str()];
                rows.push(cells.into_iter().map(|text| Cell::Text(Some(text.to_string()))).collect());
            }
        }
        rows
    }

    fn comment_rows(&self) -> Vec<Vec<Cell>> {
        let row = |(id, column, text): (RelationId, Option<usize>, &str)| {
            let relation = self.catalog.get(id)?;
            let column = column.and_then(|c| relation.visible.get(c)).map(|v| v.column.name.clone());
            Some(vec![Cell::Text(Some(relation.name.clone())), Cell::Text(column), Cell::Text(Some(text.to_string()))])
        };
        self.catalog.comments().filter_map(row).collect()
    }

    fn sink_rows(&self) -> Vec<Vec<Cell>> {
        let row = |(id, sink): (&RelationId, &SinkJob)| {
            let s = &sink.stats;
            let connector = self.catalog.get(*id).and_then(|r| definition(r)?.spec.options.get("connector").cloned());
            let problem = s.problem.read().clone();
            let state = match (s.paused.load(Relaxed), &problem) {
                (true, _) => "paused",
                (_, Some(_)) => "retrying",
                _ => "running",
            };
            vec![
                Cell::Text(Some(s.name.clone())),
                Cell::Text(connector),
                Cell::Text(Some(state.to_string())),
                Cell::Int(s.epoch.load(Relaxed) as i64),
                Cell::Int(s.rows.load(Relaxed) as i64),
                Cell::Int(s.waiting_bytes.load(Relaxed) as i64),
                Cell::Int(s.failures.load(Relaxed) as i64),
                Cell::Text(problem),
            ]
        };
        self.sinks.iter().map(row).collect()
    }
}

/// What is in force of a relation's options, those left out that have their default. What is secret is not shown.
fn listed_options(relation: &Relation) -> Vec<(String, String)> {
    let of = |options: &BTreeMap<String, String>| options.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut listed: Vec<(String, String)> = match &relation.kind {
        RelationKind::Source(spec) | RelationKind::KeyedSource { spec, .. } => of(&spec.options),
        RelationKind::Table { webhook: Some(spec), .. } => of(&spec.options),
        RelationKind::Sink(sink) => of(&sink.spec.options),
        RelationKind::MaterializedView { options, .. } => options.listed().into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
        RelationKind::Table { webhook: None, .. } => {
            let micros = relation.watermark.iter().flat_map(|w| [(IDLE_TIMEOUT, w.idle_timeout), (FUTURE_GUARD, w.future_guard)]);
            micros.filter_map(|(key, micros)| Some((key.to_string(), duration_text(micros?)))).collect()
        }
        RelationKind::View { .. } => Vec::new(),
    };
    listed.iter_mut().filter(|(key, _)| eddyline_common::options::is_secret(key)).for_each(|(_, value)| *value = "***".to_string());
    listed
}

/// Counters that survive a restart, so that produced = accepted + late + rejected goes on holding.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct JobCounters {
    pub rows_in: u64,
    pub rows_out: u64,
    pub late: u64,
    pub rejected: u64,
}

impl JobCounters {
    pub fn of(stats: &JobStats) -> Self {
        JobCounters {
            rows_in: stats.rows_in.load(Relaxed),
            rows_out: stats.rows_out.load(Relaxed),
            late: stats.late.load(Relaxed),
            rejected: stats.rejected.load(Relaxed),
        }
    }
}

fn to_batch(schema: &SchemaRef, rows: Vec<Vec<Cell>>) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        let cells = rows.iter().map(|r| &r[index]);
        columns.push(match SqlType::from_field(field) {
            Some(SqlType::BigInt) => {
                let mut b = Int64Builder::new();
                cells.for_each(|c| b.append_option(if let Cell::Int(v) = c { Some(*v) } else { None }));
                Arc::new(b.finish())
            }
            Some(SqlType::Timestamp) => {
                let mut b = TimestampMicrosecondBuilder::new();
                cells.for_each(|c| b.append_option(if let Cell::Time(v) = c { *v } else { None }));
                Arc::new(b.finish())
            }
            _ => {
                let mut b = StringBuilder::new();
                cells.for_each(|c| b.append_option(if let Cell::Text(v) = c { v.as_deref() } else { None }));
                Arc::new(b.finish())
            }
        });
    }
    RecordBatch::try_new(schema.clone(), columns).expect("cells follow the relation's columns")
}
