//! A bound plan from its leaves up, where a change of a column's type is seen by the subqueries that name the column from within. A column of a query around a subquery
//! comes with a type of its own there; DataFusion leaves it as it was when it was bound. It does not know what is changed.

use crate::functions::checked::schema_of_inputs;
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Subquery};
use std::sync::Arc;

/// Changes every node, its inputs and then its subqueries before it. `change` is also given what the node's expressions see.
pub fn transform_up(
    plan: LogicalPlan,
    change: impl FnMut(Transformed<LogicalPlan>, &DFSchema) -> DfResult<LogicalPlan>,
) -> DfResult<LogicalPlan> {
    Upwards { around: Vec::new(), change }.up(plan)
}

struct Upwards<F> {
    /// What the queries around see, the outermost first.
    around: Vec<Arc<DFSchema>>,
    change: F,
}

impl<F: FnMut(Transformed<LogicalPlan>, &DFSchema) -> DfResult<LogicalPlan>> Upwards<F> {
    fn up(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        const RED_ZONE: usize = 128 << 10;
        const STACK: usize = 2 << 20;
        stacker::maybe_grow(RED_ZONE, STACK, || {
            let plan = match plan {
                LogicalPlan::Join(join) if is_lateral(&join.right) => self.lateral(join)?,
                other => other.map_children(|input| self.up(input).map(Transformed::yes))?.data,
            };
            let schema = Arc::new(schema_of_inputs(&plan)?);
            let plan = self.within(schema.clone(), |walk| plan.map_subqueries(|subquery| walk.up(subquery).map(Transformed::yes)))?.data;
            let plan = self.refreshed(plan)?;
            (self.change)(plan, &schema)
        })
    }

    /// The right side of the join names columns of the left one.
    fn lateral(&mut self, join: Join) -> DfResult<LogicalPlan> {
        let left = self.up(Arc::unwrap_or_clone(join.left))?;
        let right = self.within(left.schema().clone(), |walk| walk.up(Arc::unwrap_or_clone(join.right)))?;
        Ok(LogicalPlan::Join(Join { left: Arc::new(left), right: Arc::new(right), ..join }))
    }

    fn within<T>(&mut self, schema: Arc<DFSchema>, work: impl FnOnce(&mut Self) -> T) -> T {
        self.around.push(schema);
        let done = work(self);
        self.around.pop();
        done
    }

    fn refreshed(&self, plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
        if self.around.is_empty() {
            return Ok(Transformed::no(plan));
        }
        match plan {
            LogicalPlan::Subquery(subquery) => {
                let outer_ref_columns = subquery.outer_ref_columns.into_iter().map(|e| self.column(e).map(|e| e.data));
                let outer_ref_columns = outer_ref_columns.collect::<DfResult<_>>()?;
                Ok(Transformed::no(LogicalPlan::Subquery(Subquery { outer_ref_columns, ..subquery })))
            }
            other => other.map_own(|e| self.column(e)),
        }
    }

    /// The expression with the types that outer columns have now.
    fn column(&self, expr: Expr) -> DfResult<Transformed<Expr>> {
        expr.up(|e| match e {
            Expr::OuterReferenceColumn(was, column) => {
                let found = self.around.iter().rev().find_map(|schema| schema.maybe_index_of_column(&column).map(|at| schema.field(at)));
                match found {
                    Some(is) if is.data_type() != was.data_type() || is.is_nullable() != was.is_nullable() => {
                        Ok(Transformed::yes(Expr::OuterReferenceColumn(is.clone(), column)))
                    }
                    _ => Ok(Transformed::no(Expr::OuterReferenceColumn(was, column))),
                }
            }
            other => Ok(Transformed::no(other)),
        })
    }
}

/// Whether the right side of a join names columns of the left one.
pub fn is_lateral(side: &LogicalPlan) -> bool {
    match side {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => matches!(alias.input.as_ref(), LogicalPlan::Subquery(_)),
        _ => false,
    }
}
