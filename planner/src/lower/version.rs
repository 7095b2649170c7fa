//! Joins with one version of a row: lookup joins, with what is there when a left row arrives, and temporal joins, with what was
//! valid at its time. What comes out only grows: a row that was joined stays as it was.

use super::Lowering;
use super::chosen::{Asked, Chosen};
use super::external::External;
use super::join::{Input, output_columns, unique_keys};
use crate::bind::chosen::ChosenJoin;
use crate::expr;
use crate::plan::{BinaryOp, ChangelogMode, Expr, JoinKind, Node, NodeId, Op};
use datafusion::logical_expr::Expr as DfExpr;
use eddyline_common::{Result, SqlError};

impl Lowering<'_> {
    /// `valid`: the times of a left row and of a version, and the key of versions that are rows of their own; `None`: the one that is there.
    pub(super) fn version_join(&mut self, join: &ChosenJoin, asked: Asked, valid: Option<(&[DfExpr; 2], &[DfExpr])>) -> Result<Chosen> {
        if asked.equalities.is_empty() {
            return Err(SqlError::unsupported("FOR SYSTEM_TIME AS OF without an equality between the two sides is not supported")
                .with_hint("Write ON o.k = t.k, with the key of the right side."));
        }
        if let Some(external) = External::of(&join.right) {
            return self.external_lookup(join, asked, external);
        }
        let Asked { kind, equalities: on, rest } = asked;
        let left = self.input(&join.left, on.iter().map(|(l, _)| l))?;
        let right = self.input(&join.right, on.iter().map(|(_, r)| r))?;
        let residual = self.rest(rest, &left, right.plan)?;
        self.check_key_types(&left, &right)?;
        let of_left = self.nodes[left.node].columns.len();
        let node = match valid {
            None => self.lookup_join(left, right, kind, residual)?,
            Some(([l, r], key)) => {
                let of_right = |e: &DfExpr| expr::from_datafusion(e, join.right.schema());
                let times = [expr::from_datafusion(l, join.left.schema())?, of_right(r)?];
                let key = key.iter().map(of_right).collect::<Result<Vec<Expr>>>()?;
                self.temporal_join(left, right, kind, residual, times, &key)?
            }
        };
        Ok(Chosen { node, of_left })
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
    fn temporal_join(
        &mut self,
        mut left: Input,
        mut right: Input,
        kind: JoinKind,
        mut residual: Option<Expr>,
        times: [Expr; 2],
        key: &[Expr],
    ) -> Result<NodeId> {
        let [Expr::Column(left_time), Expr::Column(right_time)] = times else {
            return Err(SqlError::unsupported("FOR SYSTEM_TIME AS OF takes a column of the left side, or PROCTIME()")
                .with_hint("Compute the time in a subquery or a view, as event time with a watermark."));
        };
        let (l, r) = (&self.nodes[left.node], &self.nodes[right.node]);
        if !l.time_columns.contains(&left_time) {
            let message = format!("\"{}\" in FOR SYSTEM_TIME AS OF is no event time", l.columns[left_time].name);
            return Err(SqlError::unsupported(message).with_hint("Declare WATERMARK FOR it on the left side, or join AS OF PROCTIME()."));
        }
        let unique = self.keys_of_versions(right.node, right_time, key)?;
        if l.columns[left_time].ty != r.columns[right_time].ty {
            let message =
                format!("a version as of a {} of rows that are valid from a {} on", l.columns[left_time].ty, r.columns[right_time].ty);
            return Err(SqlError::unsupported(format!("{message} is not supported")).with_hint("Declare both times with one type."));
        }
        let Some(key) = unique.iter().find(|key| key.iter().all(|column| right.keys.contains(column))) else {
            return Err(SqlError::unsupported(
                "FOR SYSTEM_TIME AS OF without the primary key of the right side in its condition is not supported",
            )
            .with_detail("Versions are of the rows that a key tells apart.")
            .with_hint("Declare PRIMARY KEY on the right side, and write ON with all its columns."));
        };
        let others = beside_key([&mut left.keys, &mut right.keys], key, l.columns.len());
        residual = residual.into_iter().chain(others).reduce(|a, b| expr::binary_of(BinaryOp::And, a, b));
        // Rows that wait are kept on the worker of their key, also where that is null.
        let [left_node, right_node] = self.together(&left, &right, kind, true);
        let keys = [left.keys, right.keys];
        // A left row is joined with one version at most, however many there are of a key.
        let versions = Node { unique_keys: unique, ..self.nodes[right_node].clone() };
        let (l, r) = (&self.nodes[left_node], &versions);
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

    /// The keys of what a node's rows are versions of, each valid from a time on: those that tell its rows apart, or `key` if the rows only grow.
    fn keys_of_versions(&self, node: NodeId, time: usize, key: &[Expr]) -> Result<Vec<Vec<usize>>> {
        let Node { unique_keys, time_columns, mode, .. } = &self.nodes[node];
        let own: Option<Vec<usize>> = key.iter().map(|e| if let Expr::Column(at) = e { Some(*at) } else { None }).collect();
        let own = own.filter(|own| !own.is_empty());
        if own.is_some() && *mode == ChangelogMode::Retract {
            return Err(SqlError::unsupported("FOR SYSTEM_TIME AS OF what a view keeps of rows that may change is not supported")
                .with_hint(
                    "Name the table itself, with a primary key and a watermark, or let the view read an APPEND ONLY table or a source.",
                ));
        }
        if !time_columns.contains(&time) || own.is_none() && !self.is_versioned(node) {
            return Err(SqlError::unsupported("FOR SYSTEM_TIME AS OF needs a versioned table: one with a primary key and a watermark")
                .with_hint("Name a table, keyed source or materialized view that has both."));
        }
        Ok(own.map_or_else(|| unique_keys.clone(), |own| vec![own]))
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

/// Takes what is compared beside the key out of the keys, as conditions over the columns of both sides: a version is chosen by its key alone, whose next one ends it.
fn beside_key([left, right]: [&mut Vec<usize>; 2], key: &[usize], of_left: usize) -> Vec<Expr> {
    let (chosen, others): (Vec<_>, Vec<_>) = left.iter().copied().zip(right.iter().copied()).partition(|(_, r)| key.contains(r));
    (*left, *right) = chosen.into_iter().unzip();
    others.into_iter().map(|(l, r)| expr::binary_of(BinaryOp::Eq, Expr::Column(l), Expr::Column(of_left + r))).collect()
}
