//! The rows of the schema `eddyline` as the coordinator sees them at present.

use super::super::building::job_plan;
use super::super::core::Core;
use super::super::job::{Job, Mode};
use super::super::sink::{SinkJob, definition};
use super::{RejectedRows, SideRow, SystemRelation, Undecodable, schema};
use crate::catalog::{kind_name, object_kind};
use arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::SchemaRef;
use eddyline_common::options::{FUTURE_GUARD, IDLE_TIMEOUT};
use eddyline_common::{Epoch, RelationId, SqlType};
use eddyline_planner::catalog::{Relation, RelationKind, duration_text};
use eddyline_planner::explain;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A value of a row, to be put into columns.
pub enum Cell {
    Null,
    Text(Option<String>),
    Int(i64),
    Time(Option<i64>),
}

impl Core {
    pub(in super::super) fn system_rows(&self, relation: SystemRelation) -> RecordBatch {
        let rows = match relation {
            SystemRelation::Sources => self.source_rows(),
            SystemRelation::Jobs => self.job_rows(),
            SystemRelation::Operators => self.operator_rows(),
            SystemRelation::Options => self.option_rows(),
            SystemRelation::Comments => self.comment_rows(),
            SystemRelation::Sinks => self.sink_rows(),
            SystemRelation::LateRows => self.system.late_up_to(self.durable).map(|r| self.side_row(r)).collect(),
            SystemRelation::RejectedRows => Vec::new(),
            SystemRelation::UndecodableRecords => self.system.undecodable_up_to(self.durable).map(|r| self.undecodable_row(r)).collect(),
            SystemRelation::Checkpoints => self.checkpoint_rows(),
        };
        to_batch(&schema(relation), rows)
    }

    /// Where the rejected rows are: those of a view that goes with the cuts as of its epoch, if a crash does not take that back; of others as
    /// far as they have come.
    pub(in super::super) fn rejected_rows(&self) -> RejectedRows {
        let of = |job: &Job| {
            let epoch = match &job.mode {
                // Nothing has come to it since; a restart has it as it was at a later epoch.
                Mode::Live if self.stands_still(job) => job.stepped.max(self.durable),
                Mode::Live => job.stepped.min(self.durable),
                Mode::Backfilling(backfill) => backfill.to.min(self.durable),
                // Rows that live die at no epoch, which is the last one.
                Mode::Failed(_) => Epoch(Epoch::MAX.0 - 1),
            };
            Some((job.relation.name.clone(), job.rejects.clone()?, epoch))
        };
        let jobs: Vec<_> = self.jobs.values().filter_map(of).collect();
        let oldest = jobs.iter().map(|(_, _, epoch)| *epoch).min().unwrap_or(self.durable).min(self.durable);
        RejectedRows { jobs, pin: self.pins.pin(oldest, self.kept().died, self.instant()) }
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
        let held = self.held_by_disk();
        for source in self.sources.values() {
            let watermark = source.watermark().0;
            let watermark = (watermark != i64::MIN && watermark != i64::MAX).then_some(watermark);
            let problem = source.stats.problem.read().clone().or_else(|| self.backfill_problem(source.id())).or_else(|| held.clone());
            let rate = source.stats.rate.per_second(self.config.clock.now());
            for end in source.ends() {
                let present_end = source.present_end(end.partition);
                rows.push(vec![
                    Cell::Text(Some(source.relation.name.clone())),
                    Cell::Int(end.partition.0 as i64),
                    Cell::Int(end.start.0),
                    present_end.map_or(Cell::Null, |present| Cell::Int(present.0)),
                    present_end.map_or(Cell::Null, |present| Cell::Int((present.0 - end.start.0).max(0))),
                    Cell::Time(watermark),
                    Cell::Int(source.stats.records.load(Relaxed) as i64),
                    Cell::Int(rate as i64),
                    Cell::Int(source.stats.undecodable.load(Relaxed) as i64),
                    Cell::Int(source.stats.ahead.load(Relaxed) as i64),
                    Cell::Text(problem.clone()),
                ]);
            }
        }
        rows
    }

    /// What a view that reads the source on its own is waiting for.
    fn backfill_problem(&self, source: RelationId) -> Option<String> {
        let of = |job: &Job| {
            let reading = job.reading()?.sources.iter().find(|s| s.source == source)?;
            Some(format!("for view \"{}\": {}", job.relation.name, reading.inbox.problem()?))
        };
        self.jobs.values().find_map(of)
    }

    fn job_rows(&self) -> Vec<Vec<Cell>> {
        let now = self.config.clock.now();
        let row = |job: &Job| {
            let sink = self.sinks.get(&job.id()).map(|sink| &*sink.stats);
            let s = &job.stats;
            let problem = sink.and_then(|s| s.problem.read().clone()).or_else(|| s.trouble());
            let int = |v: u64| Cell::Int(v as i64);
            vec![
                Cell::Text(Some(job.relation.name.clone())),
                Cell::Text(Some(s.state(sink).text().to_string())),
                int(s.committed(&self.stats).0),
                int(s.rows_in.load(Relaxed)),
                int(s.rows_out.load(Relaxed)),
                int(s.rate.per_second(now)),
                int(s.late.load(Relaxed)),
                int(s.rejected.load(Relaxed)),
                int(s.busy_micros.load(Relaxed)),
                int(s.busy_rate.per_second(now)),
                int(s.state_bytes.load(Relaxed)),
                int(s.stored_bytes.load(Relaxed)),
                int(s.held_bytes.load(Relaxed)),
                Cell::Int(s.freshness_micros.load(Relaxed)),
                s.lag_micros(&self.stats, now).map_or(Cell::Null, Cell::Int),
                int(s.backfill_permille.load(Relaxed)),
                Cell::Text(s.error.read().clone().or(problem)),
            ]
        };
        self.jobs.values().map(row).collect()
    }

    fn checkpoint_rows(&self) -> Vec<Vec<Cell>> {
        let int = |v: u64| Cell::Int(v as i64);
        let taken = self.checkpoints.recent().map(|c| vec![int(c.id), int(c.epoch.0), int(c.micros), Cell::Text(c.problem.clone())]);
        let waiting = self.checkpoints.uncleaned().into_iter().chain(self.checkpoint_waits_for());
        taken.chain(waiting.map(|(id, why)| vec![int(id), Cell::Null, Cell::Null, Cell::Text(Some(why))])).collect()
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
            vec![
                Cell::Text(Some(s.name.clone())),
                Cell::Text(connector),
                Cell::Text(Some(s.state().text().to_string())),
                Cell::Int(s.epoch.load(Relaxed) as i64),
                Cell::Int(s.records.load(Relaxed) as i64),
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

/// Rows of few kinds of values as a batch.
pub fn to_batch(schema: &SchemaRef, rows: Vec<Vec<Cell>>) -> RecordBatch {
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
