//! The table providers of system relations: rows are made when the plan runs.

use super::rows::Rows;
use super::spec::RelationSpec;
use super::{SystemContext, builtin, information_schema, objects};
use crate::coordinator::system::RejectedRows;
use crate::coordinator::{SystemAnswer, SystemRelation, system};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use eddyline_common::{Result, SqlError};
use std::fmt::{Debug, Formatter};
use std::sync::{Arc, OnceLock};

pub struct SystemTable {
    spec: Arc<RelationSpec>,
    context: Arc<SystemContext>,
    /// Made by the first scan: a statement's subqueries scan a table many times.
    rows: OnceLock<RecordBatch>,
}

impl SystemTable {
    pub fn new(spec: Arc<RelationSpec>, context: Arc<SystemContext>) -> Self {
        SystemTable { spec, context, rows: OnceLock::new() }
    }

    fn rows(&self) -> Result<RecordBatch> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows.clone());
        }
        let rows = self.make_rows()?;
        Ok(self.rows.get_or_init(|| rows).clone())
    }

    fn make_rows(&self) -> Result<RecordBatch> {
        let mut rows = Rows::new(self.spec.clone());
        match self.spec.schema {
            "information_schema" => information_schema::fill(self.spec.name, &self.context, &mut rows),
            _ => {
                objects::fill(self.spec.name, &self.context, &mut rows);
                builtin::fill(self.spec.name, &self.context, &mut rows);
            }
        }
        rows.finish()
    }
}

impl Debug for SystemTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "SystemTable({})", self.spec.name)
    }
}

fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn exec(schema: SchemaRef, rows: RecordBatch, projection: Option<&Vec<usize>>) -> DfResult<Arc<dyn ExecutionPlan>> {
    Ok(MemorySourceConfig::try_new_exec(&[vec![rows]], schema, projection.cloned())?)
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.spec.arrow.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        exec(self.schema(), self.rows().map_err(external)?, projection)
    }
}

/// A relation of schema `eddyline`: the coordinator has its rows.
pub struct OwnTable {
    relation: SystemRelation,
    schema: SchemaRef,
    context: Arc<SystemContext>,
}

impl OwnTable {
    pub fn new(relation: SystemRelation, context: Arc<SystemContext>) -> Self {
        OwnTable { relation, schema: system::schema(relation), context }
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
        let answer = match &self.context.coordinator {
            Some(coordinator) => coordinator.system_rows(self.relation).await.map_err(external)?,
            None => SystemAnswer::Rows(RecordBatch::new_empty(self.schema())),
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
