//! Walks over expressions and logical plans. They do not know what is done at a node.

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

type Step<'a, N> = &'a mut dyn FnMut(N) -> DfResult<Transformed<N>>;
type Look<'a, 'n, N> = &'a mut dyn FnMut(&'n N) -> DfResult<TreeNodeRecursion>;

/// What DataFusion's `TreeNode` does, but for its price.
pub trait Walk: TreeNode {
    /// `TreeNode::transform_up`: each node after those below it.
    fn up(self, mut step: impl FnMut(Self) -> DfResult<Transformed<Self>>) -> DfResult<Transformed<Self>> {
        self.up_by(&mut step)
    }

    /// `TreeNode::transform_down`: each node before those below it.
    fn down(self, mut step: impl FnMut(Self) -> DfResult<Transformed<Self>>) -> DfResult<Transformed<Self>> {
        self.down_by(&mut step)
    }

    /// `TreeNode::apply`: looks at each node before those below it.
    fn each<'n>(&'n self, mut look: impl FnMut(&'n Self) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        self.each_by(&mut look)
    }

    /// Whether there is such a node.
    fn any(&self, is: impl Fn(&Self) -> bool) -> bool {
        let mut found = false;
        // It fails only where `look` does.
        let _never_fails = self.each(|node| {
            found = is(node);
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        found
    }

    #[doc(hidden)]
    fn up_by(self, step: Step<'_, Self>) -> DfResult<Transformed<Self>>;
    #[doc(hidden)]
    fn down_by(self, step: Step<'_, Self>) -> DfResult<Transformed<Self>>;
    #[doc(hidden)]
    fn each_by<'n>(&'n self, look: Look<'_, 'n, Self>) -> DfResult<TreeNodeRecursion>;
}

macro_rules! walk {
    ($($node:ty),*) => {
        $(impl Walk for $node {
            #[inline(never)]
            fn up_by(self, step: Step<'_, Self>) -> DfResult<Transformed<Self>> {
                self.transform_up(step)
            }

            #[inline(never)]
            fn down_by(self, step: Step<'_, Self>) -> DfResult<Transformed<Self>> {
                self.transform_down(step)
            }

            #[inline(never)]
            fn each_by<'n>(&'n self, look: Look<'_, 'n, Self>) -> DfResult<TreeNodeRecursion> {
                self.apply(look)
            }
        })*
    };
}

walk!(Expr, LogicalPlan);

/// The walks that only plans have.
pub trait WalkPlan: Sized {
    /// `Walk::up`, also into the plans of subqueries.
    fn up_with_subqueries(self, step: impl FnMut(Self) -> DfResult<Transformed<Self>>) -> DfResult<Transformed<Self>>;
    /// `Walk::down`, also into the plans of subqueries.
    fn down_with_subqueries(self, step: impl FnMut(Self) -> DfResult<Transformed<Self>>) -> DfResult<Transformed<Self>>;
    /// `Walk::each`, also into the plans of subqueries.
    fn each_with_subqueries(&self, look: impl FnMut(&Self) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion>;
    /// Changes the node's own expressions, whole.
    fn map_own(self, step: impl FnMut(Expr) -> DfResult<Transformed<Expr>>) -> DfResult<Transformed<Self>>;
    /// Looks at the node's own expressions, whole.
    fn each_own(&self, look: impl FnMut(&Expr) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion>;
}

impl WalkPlan for LogicalPlan {
    fn up_with_subqueries(self, mut step: impl FnMut(Self) -> DfResult<Transformed<Self>>) -> DfResult<Transformed<Self>> {
        up_with_subqueries(self, &mut step)
    }

    fn down_with_subqueries(self, mut step: impl FnMut(Self) -> DfResult<Transformed<Self>>) -> DfResult<Transformed<Self>> {
        down_with_subqueries(self, &mut step)
    }

    fn each_with_subqueries(&self, mut look: impl FnMut(&Self) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        each_with_subqueries(self, &mut look)
    }

    fn map_own(self, mut step: impl FnMut(Expr) -> DfResult<Transformed<Expr>>) -> DfResult<Transformed<Self>> {
        map_own(self, &mut step)
    }

    fn each_own(&self, mut look: impl FnMut(&Expr) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        each_own(self, &mut look)
    }
}

#[inline(never)]
fn up_with_subqueries(plan: LogicalPlan, step: Step<'_, LogicalPlan>) -> DfResult<Transformed<LogicalPlan>> {
    plan.transform_up_with_subqueries(step)
}

#[inline(never)]
fn down_with_subqueries(plan: LogicalPlan, step: Step<'_, LogicalPlan>) -> DfResult<Transformed<LogicalPlan>> {
    plan.transform_down_with_subqueries(step)
}

#[inline(never)]
fn each_with_subqueries(
    plan: &LogicalPlan,
    look: &mut dyn FnMut(&LogicalPlan) -> DfResult<TreeNodeRecursion>,
) -> DfResult<TreeNodeRecursion> {
    plan.apply_with_subqueries(look)
}

#[inline(never)]
fn map_own(plan: LogicalPlan, step: Step<'_, Expr>) -> DfResult<Transformed<LogicalPlan>> {
    plan.map_expressions(step)
}

#[inline(never)]
fn each_own(plan: &LogicalPlan, look: &mut dyn FnMut(&Expr) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
    plan.apply_expressions(look)
}
