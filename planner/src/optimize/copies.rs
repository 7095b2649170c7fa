//! How often optimised expressions would have one of their parts: COALESCE becomes a CASE that has each value but the last twice, and BETWEEN two comparisons of one value, so that what is nested
//! in itself there doubles with every level. There is an end to it before it is made. It does not know how large the parts are.

use crate::error::{into_datafusion, too_deep};
use crate::walk::WalkPlan;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::logical_expr::{Expr, LogicalPlan};

const COPIES_MAX: u64 = 1 << 16;
/// Of what a COALESCE may have in the end.
const OF_COALESCE: u64 = 2;
/// Of what is between two others: rules go through both comparisons, and through what they make of them.
const OF_BETWEEN: u64 = 4;

pub fn check(plan: &LogicalPlan) -> DfResult<()> {
    plan.each_with_subqueries(|node| node.each_own(check_expr))?;
    Ok(())
}

pub fn check_expr(expr: &Expr) -> DfResult<TreeNodeRecursion> {
    expr.visit(&mut Copies::default())?;
    Ok(TreeNodeRecursion::Continue)
}

/// How often there are the parts of the expressions around the present place that have been gone through.
#[derive(Default)]
struct Copies(Vec<Vec<u64>>);

impl<'n> TreeNodeVisitor<'n> for Copies {
    type Node = Expr;

    fn f_down(&mut self, _expr: &'n Expr) -> DfResult<TreeNodeRecursion> {
        self.0.push(Vec::new());
        Ok(TreeNodeRecursion::Continue)
    }

    fn f_up(&mut self, expr: &'n Expr) -> DfResult<TreeNodeRecursion> {
        let parts = self.0.pop().unwrap_or_default();
        let most = |parts: &[u64]| parts.iter().copied().max().unwrap_or(1);
        let copies = match (expr, parts.as_slice()) {
            (Expr::ScalarFunction(call), [tested @ .., last]) if call.func.name() == "coalesce" && !tested.is_empty() => {
                (OF_COALESCE * most(tested)).max(*last)
            }
            (Expr::Between(_), [value, bounds @ ..]) => (OF_BETWEEN * value).max(most(bounds)),
            (_, parts) => most(parts),
        };
        if copies > COPIES_MAX {
            return Err(into_datafusion(too_deep()));
        }
        if let Some(around) = self.0.last_mut() {
            around.push(copies);
        }
        Ok(TreeNodeRecursion::Continue)
    }
}
