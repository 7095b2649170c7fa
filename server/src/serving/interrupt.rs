//! What ends a query that nobody waits for any more: a flag that its conditions look at. A filter or a join that keeps no row gives no batch for as
//! long as it goes on, and yields to nobody meanwhile, so that its task would go on when it is aborted. Tasks that the aborted one does not hold wait for the flag.
//! It knows nothing of who waits for rows.

use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use eddyline_common::{SqlError, SqlState};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tokio::sync::watch;

/// Set once nobody wants the rows of a query.
#[derive(Clone, Debug, Default)]
pub struct Abandoned(Arc<watch::Sender<bool>>);

impl Abandoned {
    pub fn set(&self) {
        self.0.send_replace(true);
    }

    /// What `work` makes, or an error once the flag is set: then the work is dropped.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut flag = self.0.subscribe();
        tokio::select! {
            biased;
            _is_set = flag.wait_for(|is_set| *is_set) => Err(given_up()),
            made = work => made,
        }
    }
}

fn given_up() -> DataFusionError {
    DataFusionError::External(Box::new(SqlError::new(SqlState::QUERY_CANCELED, "the query was given up")))
}

/// The same plan, which ends with an error at the next batch of a condition once the flag is set.
pub fn watching(plan: Arc<dyn ExecutionPlan>, abandoned: &Abandoned) -> Result<Arc<dyn ExecutionPlan>> {
    let watch: Arc<dyn PhysicalExpr> = Arc::new(Watch(abandoned.clone()));
    // What follows from the condition stays known, as its parts are seen behind this one.
    let watched = |condition: &Arc<dyn PhysicalExpr>| -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(watch.clone(), Operator::And, condition.clone()))
    };
    let of_join =
        |filter: &JoinFilter| JoinFilter::new(watched(filter.expression()), filter.column_indices().to_vec(), filter.schema().clone());
    let node = |node: Arc<dyn ExecutionPlan>| -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            let watching = FilterExecBuilder::from(filter).with_predicate(watched(filter.predicate())).build()?;
            return Ok(Transformed::yes(Arc::new(watching)));
        }
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
            && let Some(filter) = join.filter()
        {
            let watching = NestedLoopJoinExecBuilder::from(join).with_filter(Some(of_join(filter))).build()?;
            return Ok(Transformed::yes(Arc::new(watching)));
        }
        if let Some(join) = node.downcast_ref::<HashJoinExec>()
            && let Some(filter) = join.filter()
        {
            return Ok(Transformed::yes(HashJoinExecBuilder::from(join).with_filter(Some(of_join(filter))).build_exec()?));
        }
        Ok(Transformed::no(node))
    };
    plan.transform_up(node).map(|plan| plan.data)
}

/// True, until nobody wants the outcome: then an error.
#[derive(Debug)]
struct Watch(Abandoned);

impl PartialEq for Watch {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.0, &other.0.0)
    }
}

impl Eq for Watch {}

impl Hash for Watch {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0.0).hash(state);
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true")
    }
}

impl PhysicalExpr for Watch {
    fn data_type(&self, _input: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _input: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, _batch: &RecordBatch) -> Result<ColumnarValue> {
        if *self.0.0.borrow() {
            return Err(given_up());
        }
        Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn what_waits_for_the_flag_ends_with_it() {
        let abandoned = Abandoned::default();
        assert_eq!(abandoned.or(async { Ok(1) }).await.unwrap(), 1);
        let (ended, ()) = tokio::join!(abandoned.or(pending::<Result<()>>()), async { abandoned.set() });
        assert!(ended.is_err());
        assert!(abandoned.or(async { Ok(1) }).await.is_err(), "it is set for good");
    }
}
