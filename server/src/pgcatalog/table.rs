//! The table provider of `pg_catalog` and `information_schema`: rows are made when the plan runs.

use super::rows::Rows;
use super::spec::RelationSpec;
use super::{SystemContext, builtin, information_schema, objects};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
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

pub(super) fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

pub(super) fn exec(schema: SchemaRef, rows: RecordBatch, projection: Option<&Vec<usize>>) -> DfResult<Arc<dyn ExecutionPlan>> {
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
