//! Joins with one version of a row: lookup joins, with what is there when a left row arrives, and temporal joins, with what was
//! valid at its time. What comes out only grows: a row that was joined stays as it was.

use super::calls::unaliased;
use super::external::External;
use super::join::{Input, output_columns, unique_keys};
use super::{Lowering, columns_of};
use crate::bind::as_of::{Version, VersionJoin};
use crate::error::from_datafusion;
use crate::expr;
use crate::plan::{ChangelogMode, Expr, JoinKind, Node, NodeId, Op};
use datafusion::common::JoinType;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::{conjunction, find_valid_equijoin_key_pair, split_conjunction};
use datafusion::logical_expr::{Expr as DfExpr, LogicalPlan, Operator};
use eddyline_common::{Result, SqlError};

impl Lowering<'_> {
    pub(super) fn version_join(&mut self, join: &VersionJoin) -> Result<NodeId> {
        let kind = if join.join_type == JoinType::Left { JoinKind::Left } else { JoinKind::Inner };
        let (on, rest) = equalities(&join.condition, [&join.left, &join.right])?;
        if on.is_empty() {
            return Err(SqlError::unsupported("FOR SYSTEM_TIME AS OF without an equality between the two sides is not supported")
                .with_hint("Write ON o.k = t.k, with the key of the right side."));
        }
        if let Some(external) = External::of(&join.right) {
            return self.external_lookup(join, kind, external, (on, rest));
        }
        let left = self.input(&join.left, on.iter().map(|(l, _)| l))?;
        let right = self.input(&join.right, on.iter().map(|(_, r)| r))?;
        let residual = match conjunction(rest) {
            Some(rest) => self.residual(&rest, &left, right.plan)?,
            None => None,
        };
        self.check_key_types(&left, &right)?;
        let columns = columns_of(join.output())?;
        let widths = [&join.left, &join.right].map(|side| side.schema().fields().len());
        let offset = self.nodes[left.node].columns.len();
        let node = match &join.version {
            Version::OfArrival => self.lookup_join(left, right, kind, residual)?,
            Version::OfTime(l, r) => {
                let times = [expr::from_datafusion(l, join.left.schema())?, expr::from_datafusion(r, join.right.schema())?];
                self.temporal_join(left, right, kind, residual, times)?
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
            unique_keys: unique_keys([l, r], kind, &keys, None),
            time_columns: l.time_columns.clone(),
            inputs: vec![left_node, right_node],
            op: Op::LookupJoin { kind, keys, residual, state: self.ids.allocate() },
        };
        Ok(self.push(node, facts))
    }
}

impl Lowering<'_> {
    fn temporal_join(&mut self, left: Input, right: Input, kind: JoinKind, residual: Option<Expr>, times: [Expr; 2]) -> Result<NodeId> {
        let [Expr::Column(left_time), Expr::Column(right_time)] = times else {
            return Err(SqlError::unsupported("FOR SYSTEM_TIME AS OF takes a column of the left side, or PROCTIME()")
                .with_hint("Compute the time in a subquery or a view, as event time with a watermark."));
        };
        let (l, r) = (&self.nodes[left.node], &self.nodes[right.node]);
        if !l.time_columns.contains(&left_time) {
            let message = format!("\"{}\" in FOR SYSTEM_TIME AS OF is no event time", l.columns[left_time].name);
            return Err(SqlError::unsupported(message).with_hint("Declare WATERMARK FOR it on the left side, or join AS OF PROCTIME()."));
        }
        if !r.time_columns.contains(&right_time) || !self.is_versioned(right.node) {
            return Err(SqlError::unsupported("FOR SYSTEM_TIME AS OF needs a versioned table: one with a primary key and a watermark")
                .with_hint("Name a table, keyed source or materialized view that has both."));
        }
        if l.columns[left_time].ty != r.columns[right_time].ty {
            let message =
                format!("a version as of a {} of rows that are valid from a {} on", l.columns[left_time].ty, r.columns[right_time].ty);
            return Err(SqlError::unsupported(format!("{message} is not supported")).with_hint("Declare both times with one type."));
        }
        if !r.unique_keys.iter().any(|key| key.iter().all(|column| right.keys.contains(column))) {
            return Err(SqlError::unsupported(
                "FOR SYSTEM_TIME AS OF without the primary key of the right side in its condition is not supported",
            )
            .with_detail("Versions are of the rows that a key tells apart.")
            .with_hint("Declare PRIMARY KEY on the right side, and write ON with all its columns."));
        }
        // Rows that wait are kept on the worker of their key, also where that is null.
        let [left_node, right_node] = self.together(&left, &right, kind, true);
        let keys = [left.keys, right.keys];
        let (l, r) = (&self.nodes[left_node], &self.nodes[right_node]);
        let mut facts = self.joined_facts(left_node, right_node, kind, None);
        facts.unwatermarked = None;
        let node = Node {
            mode: ChangelogMode::Append,
            columns: output_columns(l, r, kind),
            // What was emitted of a row stays when its key gets another one.
            unique_keys: if l.mode == ChangelogMode::Append { unique_keys([l, r], kind, &keys, None) } else { vec![] },
            time_columns: vec![left_time],
            inputs: vec![left_node, right_node],
            op: Op::TemporalJoin { kind, keys, residual, times: [left_time, right_time], state: self.ids.allocate() },
        };
        Ok(self.push(node, facts))
    }

    /// Whether every row that a relation stored is in a node, as a version of its key.
    fn is_versioned(&self, node: NodeId) -> bool {
        match &self.nodes[node].op {
            Op::Scan { .. } => true,
            Op::Project { .. } | Op::Exchange { .. } => self.is_versioned(self.nodes[node].inputs[0]),
            _ => false,
        }
    }
}

/// An expression of the left side and the one of the right side that it equals.
pub(super) type Equality = (DfExpr, DfExpr);

/// The equal expressions of both sides in a condition, and the rest of it.
pub(super) fn equalities(condition: &DfExpr, [left, right]: [&LogicalPlan; 2]) -> Result<(Vec<Equality>, Vec<DfExpr>)> {
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
