//! Joins with one version of a row: lookup joins, with what is there when a left row arrives, and temporal joins, with what was
//! valid at its time. What comes out only grows: a row that was joined stays as it was.

use super::calls::unaliased;
use super::join::{Input, output_columns, unique_keys};
use super::{Lowering, columns_of};
use crate::bind::as_of::{Version, VersionJoin};
use crate::error::from_datafusion;
use crate::plan::{ChangelogMode, Expr, JoinKind, Node, NodeId, Op};
use datafusion::common::JoinType;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::{conjunction, find_valid_equijoin_key_pair, split_conjunction};
use datafusion::logical_expr::{Expr as DfExpr, Operator};
use eddyline_common::{Result, SqlError};

impl Lowering<'_> {
    pub(super) fn version_join(&mut self, join: &VersionJoin) -> Result<NodeId> {
        let kind = if join.join_type == JoinType::Left { JoinKind::Left } else { JoinKind::Inner };
        let (on, rest) = equalities(join)?;
        if on.is_empty() {
            return Err(SqlError::unsupported("FOR SYSTEM_TIME AS OF without an equality between the two sides is not supported")
                .with_hint("Write ON o.k = t.k, with the key of the right side."));
        }
        let left = self.input(&join.left, on.iter().map(|(l, _)| l))?;
        let right = self.input(&join.right, on.iter().map(|(_, r)| r))?;
        let residual = match conjunction(rest) {
            Some(rest) => self.residual(&rest, &left, &right)?,
            None => None,
        };
        self.check_key_types(&left, &right)?;
        let columns = columns_of(join.output())?;
        let widths = [&join.left, &join.right].map(|side| side.schema().fields().len());
        let offset = self.nodes[left.node].columns.len();
        let node = match &join.version {
            Version::OfArrival => self.lookup_join(left, right, kind, residual)?,
            Version::OfTime(..) => {
                return Err(
                    SqlError::unsupported("FOR SYSTEM_TIME AS OF an event time is not supported").with_hint("Join AS OF PROCTIME().")
                );
            }
        };
        let exprs = (0..widths[0]).chain(offset..offset + widths[1]).map(Expr::Column).collect();
        self.project(node, exprs, columns)
    }

    fn lookup_join(&mut self, left: Input, right: Input, kind: JoinKind, residual: Option<Expr>) -> Result<NodeId> {
        if self.nodes[left.node].mode == ChangelogMode::Retract {
            return Err(SqlError::unsupported("a lookup join of rows that may change is not supported in a materialized view")
                .with_detail("A row that is taken back would have to be joined with what was there when it came.")
                .with_hint("Use a source or an APPEND ONLY table on the left, or join without FOR SYSTEM_TIME AS OF."));
        }
        let [left_node, right_node] = self.together(&left, &right, kind, false);
        let keys = [left.keys, right.keys];
        let (l, r) = (&self.nodes[left_node], &self.nodes[right_node]);
        let mut facts = self.joined_facts(left_node, right_node, kind, None);
        // A left row comes out in the step it came in, under the same watermark.
        let of_left = &self.facts[left_node];
        facts.windows[..of_left.windows.len()].clone_from_slice(&of_left.windows);
        facts.event_time = of_left.event_time.clone();
        facts.unwatermarked = of_left.unwatermarked.clone();
        let node = Node {
            mode: ChangelogMode::Append,
            columns: output_columns(l, r, kind),
            unique_keys: unique_keys(l, r, kind, &keys),
            time_columns: l.time_columns.clone(),
            inputs: vec![left_node, right_node],
            op: Op::LookupJoin { kind, keys, residual, state: self.ids.allocate() },
        };
        Ok(self.push(node, facts))
    }
}

/// The equal expressions of both sides, and the rest of the condition.
#[allow(clippy::type_complexity)] // said in the line above
fn equalities(join: &VersionJoin) -> Result<(Vec<(DfExpr, DfExpr)>, Vec<DfExpr>)> {
    let (mut on, mut rest) = (Vec::new(), Vec::new());
    for condition in split_conjunction(unaliased(&join.condition)) {
        let pair = match condition {
            DfExpr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                find_valid_equijoin_key_pair(left, right, join.left.schema(), join.right.schema()).map_err(|e| from_datafusion(e, None))?
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
