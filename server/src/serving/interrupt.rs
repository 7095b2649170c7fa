//! What ends a query that nobody waits for any more: a flag that its conditions look at. A filter or a nested loop that keeps no row gives no batch for as
//! long as it goes on, and yields to nobody meanwhile, so that its task would go on when it is aborted. It knows nothing of who waits.

use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use eddyline_common::{SqlError, SqlState};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once nobody wants the rows of a query.
#[derive(Clone, Debug, Default)]
pub struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The same plan, which ends with an error at the next batch of a condition once the flag is set.
pub fn watching(plan: Arc<dyn ExecutionPlan>, abandoned: &Abandoned) -> Result<Arc<dyn ExecutionPlan>> {
    let watched = |inner: &Arc<dyn PhysicalExpr>| -> Arc<dyn PhysicalExpr> {
        Arc::new(Watched { inner: inner.clone(), abandoned: abandoned.clone() })
    };
    let node = |node: Arc<dyn ExecutionPlan>| -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            let watching = FilterExecBuilder::from(filter).with_predicate(watched(filter.predicate())).build()?;
            return Ok(Transformed::yes(Arc::new(watching)));
        }
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
            && let Some(filter) = join.filter()
        {
            let filter = JoinFilter::new(watched(filter.expression()), filter.column_indices().to_vec(), filter.schema().clone());
            let watching = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build()?;
            return Ok(Transformed::yes(Arc::new(watching)));
        }
        Ok(Transformed::no(node))
    };
    plan.transform_up(node).map(|plan| plan.data)
}

/// A condition that fails once nobody wants its outcome.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn PhysicalExpr>,
    abandoned: Abandoned,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.inner.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.inner.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.abandoned.0.load(Ordering::Relaxed) {
            let error = SqlError::new(SqlState::QUERY_CANCELED, "the query was given up");
            return Err(DataFusionError::External(Box::new(error)));
        }
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Watched { inner: children.remove(0), abandoned: self.abandoned.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
