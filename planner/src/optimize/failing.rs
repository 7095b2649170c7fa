//! Constants that fail whatever the rows are: `1 / 0`, or a text that is no value of the type of what it is compared with. A view would put every row aside, and whoever made it would not hear
//! of it, so they are errors of its statement. What stands in CASE or COALESCE is left to the rows: it is evaluated for some of them only. It does not know
//! where a constant stands in the text.

use crate::error::into_datafusion;
use crate::functions::failed::{evaluation_error, is_row_error};
use crate::walk::{Walk, WalkPlan};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::Schema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_expr::create_physical_expr;
use eddyline_common::{SqlError, SqlState};
use std::sync::Arc;

/// Functions that evaluate what stands behind for some rows only.
const LAZY: [&str; 3] = ["coalesce", "nvl", "nvl2"];

/// Fails with what a constant of an optimised plan does: what nothing reads is gone.
pub fn check(plan: &LogicalPlan) -> DfResult<()> {
    plan.each_with_subqueries(|node| {
        node.each_own(|expr| {
            expr.each(look)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn look(expr: &Expr) -> DfResult<TreeNodeRecursion> {
    let is_lazy = match expr {
        Expr::Case(_) => true,
        Expr::ScalarFunction(call) => LAZY.contains(&call.func.name()),
        _ => false,
    };
    if is_lazy || matches!(expr, Expr::Literal(..)) {
        return Ok(TreeNodeRecursion::Jump);
    }
    if expr.any(varies) {
        return Ok(TreeNodeRecursion::Continue);
    }
    // What only stands for something else says 22023.
    match failure(expr).filter(|error| is_row_error(error) && error.state != SqlState::INVALID_PARAMETER) {
        Some(error) => Err(into_datafusion(error)),
        None => Ok(TreeNodeRecursion::Jump),
    }
}

/// Whether something is, or may be, another thing for each row or at another time.
fn varies(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
        Expr::Literal(..) | Expr::BinaryExpr(_) | Expr::Cast(_) | Expr::TryCast(_) | Expr::Negative(_) | Expr::Not(_) => false,
        Expr::IsNull(_) | Expr::IsNotNull(_) | Expr::Between(_) | Expr::InList(_) | Expr::Case(_) => false,
        _ => true,
    }
}

/// Why a constant that the optimiser leaves as it is fails.
pub fn failure(constant: &Expr) -> Option<SqlError> {
    let (properties, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    let compiled = create_physical_expr(constant, &DFSchema::empty(), &properties, &context).ok()?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let one_row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).ok()?;
    compiled.evaluate(&one_row).err().map(evaluation_error)
}
