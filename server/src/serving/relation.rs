//! What plans scan: `RelationSource` stands for a user relation while a statement is planned; when it runs,
//! each is replaced by a provider over the statement's snapshot. So a plan holds no data, and one plan can
//! be run at many epochs.

use super::overlay::Overlay;
use super::source_scan::SourceTable;
use super::view_scan::ViewTable;
use crate::coordinator::{CoordinatorHandle, ReadSnapshot};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{DefaultTableSource, TableProvider};
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use eddyline_common::types::arrow_schema;
use eddyline_common::{RelationId, Result, SqlError, SqlState, Timestamp};
use eddyline_planner::plan::ChangelogMode;
use eddyline_planner::walk::WalkPlan;
use eddyline_planner::{Relation, RelationKind};
use std::collections::HashMap;
use std::sync::Arc;

/// A user relation's stored columns, not yet bound to data.
pub struct RelationSource {
    relation: Arc<Relation>,
    schema: SchemaRef,
    /// A source that begins where its options say, and not where it does for all its readers.
    starts_anew: bool,
}

impl RelationSource {
    pub fn new(relation: Arc<Relation>) -> Self {
        let schema = arrow_schema(&relation.columns);
        RelationSource { relation, schema, starts_anew: false }
    }

    /// A source with other options than the catalog has.
    pub fn overridden(source: Arc<Relation>, starts_anew: bool) -> Self {
        RelationSource { starts_anew, ..RelationSource::new(source) }
    }

    pub fn relation(&self) -> &Arc<Relation> {
        &self.relation
    }
}

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// What a statement's scans are bound to. Cloning is cheap.
#[derive(Clone)]
pub struct Bindings {
    /// Holds its epoch until the query's last scan is dropped.
    pub snapshot: Option<Arc<ReadSnapshot>>,
    /// What the transaction itself wrote.
    pub overlays: HashMap<RelationId, Arc<Overlay>>,
    pub coordinator: Option<CoordinatorHandle>,
    /// What `now()` means.
    pub now: Timestamp,
}

impl Bindings {
    /// For plans that read no user relation.
    pub fn none(now: Timestamp) -> Self {
        Bindings { snapshot: None, overlays: HashMap::new(), coordinator: None, now }
    }

    fn provider(&self, source: &RelationSource) -> Result<Arc<dyn TableProvider>> {
        let relation = &source.relation;
        if relation.is_looked_up() {
            return Err(relation.cannot_be_read());
        }
        if let RelationKind::Source(spec) = &relation.kind {
            if relation.mode == ChangelogMode::Retract {
                let message = format!("source \"{}\" holds changes, which cannot be read as rows", relation.name);
                return Err(SqlError::unsupported(message).with_hint("Create a materialized view over it, or declare a primary key."));
            }
            let of_all = || self.coordinator.as_ref().map(|c| c.source_starts(relation.id)).unwrap_or_default();
            let starts = (!source.starts_anew).then(of_all);
            return Ok(Arc::new(SourceTable::new(relation.clone(), spec.clone(), starts)));
        }
        let snapshot = self.snapshot.as_ref().ok_or_else(|| unreadable(relation))?;
        let view = snapshot.views.get(&relation.id).ok_or_else(|| unreadable(relation))?;
        let overlay = self.overlays.get(&relation.id).cloned();
        Ok(Arc::new(ViewTable::new(relation.clone(), view.clone(), snapshot.clone(), overlay)))
    }
}

fn unreadable(relation: &Relation) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{}\" does not exist any more", relation.name))
}

/// Replaces every `RelationSource` in the plan, in its subqueries too.
pub fn bind(plan: LogicalPlan, bindings: &Bindings) -> Result<LogicalPlan> {
    let bound = plan.down_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) => {
            let Some(source) = scan.source.downcast_ref::<RelationSource>() else {
                return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
            };
            let provider = bindings.provider(source).map_err(|e| datafusion::common::DataFusionError::External(Box::new(e)))?;
            let source = Arc::new(DefaultTableSource::new(provider));
            Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
        }
        other => Ok(Transformed::no(other)),
    });
    bound.map(|b| b.data).map_err(super::to_sql_error)
}
