//! Joins of each left row with one right row that is chosen for it: what is the same for all, whichever row that is.

use super::calls::unaliased;
use super::join::Input;
use super::{Lowering, columns_of};
use crate::bind::chosen::{Choice, ChosenJoin};
use crate::error::from_datafusion;
use crate::plan::{Expr, JoinKind, NodeId};
use datafusion::common::JoinType;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::{conjunction, find_valid_equijoin_key_pair, split_conjunction};
use datafusion::logical_expr::{Expr as DfExpr, LogicalPlan, Operator};
use eddyline_common::Result;

/// An expression of the left side and the one of the right side that it equals.
pub(super) type Equality = (DfExpr, DfExpr);

/// What is asked of a left row and the one that is chosen.
pub(super) struct Asked {
    pub kind: JoinKind,
    pub equalities: Vec<Equality>,
    pub rest: Vec<DfExpr>,
}

/// A node with the columns of both sides, also those that were added for keys.
pub(super) struct Chosen {
    pub node: NodeId,
    /// How many columns are of the left side.
    pub of_left: usize,
}

impl Lowering<'_> {
    pub(super) fn chosen_join(&mut self, join: &ChosenJoin) -> Result<NodeId> {
        let (equalities, rest) = equalities(&join.condition, [&join.left, &join.right])?;
        let kind = if join.join_type == JoinType::Left { JoinKind::Left } else { JoinKind::Inner };
        let asked = Asked { kind, equalities, rest };
        let Chosen { node, of_left } = match &join.choice {
            Choice::OfArrival => self.version_join(join, asked, None)?,
            Choice::OfTime { times, key } => self.version_join(join, asked, Some((times, key.as_slice())))?,
            Choice::Nearest { compared, order } => self.asof_join(join, asked, compared, order)?,
        };
        let widths = [&join.left, &join.right].map(|side| side.schema().fields().len());
        let exprs = (0..widths[0]).chain(of_left..of_left + widths[1]).map(Expr::Column).collect();
        self.project(node, exprs, columns_of(join.output())?)
    }

    /// The rest of what is asked, over the columns of both nodes.
    pub(super) fn rest(&self, rest: Vec<DfExpr>, left: &Input, right: &LogicalPlan) -> Result<Option<Expr>> {
        conjunction(rest).map_or(Ok(None), |rest| self.residual(&rest, left, right))
    }
}

/// The equal expressions of both sides in a condition, and the rest of it.
fn equalities(condition: &DfExpr, [left, right]: [&LogicalPlan; 2]) -> Result<(Vec<Equality>, Vec<DfExpr>)> {
    let (mut on, mut rest) = (Vec::new(), Vec::new());
    for condition in split_conjunction(unaliased(condition)) {
        let pair = match condition {
            DfExpr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) => {
                find_valid_equijoin_key_pair(a, b, left.schema(), right.schema()).map_err(|e| from_datafusion(e, None))?
            }
            _ => None,
        };
        match pair {
            Some(pair) => on.push(pair),
            None => rest.push(condition.clone()),
        }
    }
    Ok((on, rest))
}
