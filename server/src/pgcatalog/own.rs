//! The schema `eddyline`: what the coordinator tells of the dataflow, and what the server's other parts tell of themselves (sessions, settings,
//! warnings and errors).

use super::SystemContext;
use super::table::{exec, external};
use crate::coordinator::system::{self, Cell, RejectedRows, SYSTEM_RELATIONS, to_batch};
use crate::coordinator::{SystemAnswer, SystemRelation};
use crate::session::Services;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use eddyline_common::types::arrow_schema;
use eddyline_common::{Column, SqlType};
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

/// A relation of the schema `eddyline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnRelation {
    /// The coordinator has its rows.
    Core(SystemRelation),
    Sessions,
    Settings,
    Errors,
}

/// All with their names, in the order of their oids: new ones come last.
pub fn own_relations() -> impl Iterator<Item = (OwnRelation, &'static str)> {
    let core = SYSTEM_RELATIONS.iter().map(|(relation, name)| (OwnRelation::Core(*relation), *name));
    core.chain([(OwnRelation::Sessions, "sessions"), (OwnRelation::Settings, "settings"), (OwnRelation::Errors, "errors")])
}

impl OwnRelation {
    pub fn schema(self) -> SchemaRef {
        let columns: &[(&str, SqlType)] = match self {
            OwnRelation::Core(relation) => return system::schema(relation),
            OwnRelation::Sessions => &[
                ("pid", SqlType::BigInt),
                ("role", SqlType::Text),
                ("application", SqlType::Text),
                ("client", SqlType::Text),
                ("connected", SqlType::Timestamp),
                ("state", SqlType::Text),
                ("since", SqlType::Timestamp),
                ("statement", SqlType::Text),
            ],
            OwnRelation::Settings => &[("name", SqlType::Text), ("value", SqlType::Text), ("changed_by", SqlType::Text)],
            OwnRelation::Errors => &[
                ("at", SqlType::Timestamp),
                ("level", SqlType::Text),
                ("part", SqlType::Text),
                ("relation", SqlType::Text),
                ("message", SqlType::Text),
            ],
        };
        arrow_schema(&columns.iter().map(|(name, ty)| Column::new(*name, ty.clone(), true)).collect::<Vec<_>>())
    }

    /// Of what the coordinator is not asked for.
    fn rows(self, services: &Services) -> RecordBatch {
        let rows = match self {
            OwnRelation::Core(_) => Vec::new(),
            OwnRelation::Sessions => sessions(services),
            OwnRelation::Settings => settings(services),
            OwnRelation::Errors => errors(services),
        };
        to_batch(&self.schema(), rows)
    }
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(Some(text.into()))
}

fn sessions(services: &Services) -> Vec<Vec<Cell>> {
    let row = |client: Arc<crate::sessions::Client>| {
        let activity = client.activity();
        vec![
            Cell::Int(client.process.into()),
            text(&client.user),
            text(&activity.application),
            Cell::Text(client.address.map(|address| address.to_string())),
            Cell::Time(Some(client.connected.0)),
            text(activity.state()),
            Cell::Time(Some(activity.since.0)),
            text(activity.statement),
        ]
    };
    services.sessions.all().into_iter().map(row).collect()
}

/// Those that ALTER SYSTEM changes have the value that counts now.
fn settings(services: &Services) -> Vec<Vec<Cell>> {
    services.present_settings().into_iter().map(|(name, value, changed_by)| vec![text(name), text(value), text(changed_by)]).collect()
}

fn errors(services: &Services) -> Vec<Vec<Cell>> {
    let row = |problem: crate::problems::Problem| {
        let level = crate::problems::Problem::level(problem.is_error);
        vec![Cell::Time(Some(problem.at.0)), text(level), text(problem.part), Cell::Text(problem.relation), text(problem.text)]
    };
    services.problems.all().into_iter().map(row).collect()
}

/// The table provider of such a relation.
pub struct OwnTable {
    relation: OwnRelation,
    schema: SchemaRef,
    context: Arc<SystemContext>,
}

impl OwnTable {
    pub fn new(relation: OwnRelation, context: Arc<SystemContext>) -> Self {
        OwnTable { relation, schema: relation.schema(), context }
    }
}

impl Debug for OwnTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnTable({:?})", self.relation)
    }
}

#[async_trait]
impl TableProvider for OwnTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let answer = match (self.relation, &self.context.services) {
            (_, None) => SystemAnswer::Rows(RecordBatch::new_empty(self.schema())),
            (OwnRelation::Core(relation), Some(services)) => services.coordinator.system_rows(relation).await.map_err(external)?,
            (relation, Some(services)) => SystemAnswer::Rows(relation.rows(services)),
        };
        match answer {
            SystemAnswer::Rows(rows) => exec(self.schema(), rows, projection),
            SystemAnswer::Rejected(rows) => {
                let partition: Arc<dyn PartitionStream> = Arc::new(RejectedPartition { schema: self.schema(), rows: Arc::new(rows) });
                Ok(Arc::new(StreamingTableExec::try_new(self.schema(), vec![partition], projection, [], false, limit)?))
            }
        }
    }
}

/// Rejected rows, read as they are wanted.
struct RejectedPartition {
    schema: SchemaRef,
    rows: Arc<RejectedRows>,
}

impl Debug for RejectedPartition {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("RejectedPartition")
    }
}

impl PartitionStream for RejectedPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.rows.clone().batches().map(|batch| batch.map_err(external));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::iter(batches)))
    }
}
