//! Lookup joins with a table outside, whose rows are asked for by key as left rows come. Nothing of it is known but the columns that were
//! declared: no key of it is a fact, and what it answered is not found again, so what was joined is kept where it may be taken back.

use super::Lowering;
use super::calls::unaliased;
use super::chosen::{Asked, Chosen};
use super::join::{Input, output_columns};
use super::node::{Distribution, Facts};
use crate::bind::RelationSource;
use crate::bind::chosen::ChosenJoin;
use crate::catalog::Relation;
use crate::expr;
use crate::plan::{ChangelogMode, Expr, JoinKind, Node, NodeId, Op};
use datafusion::logical_expr::{Expr as DfExpr, LogicalPlan};
use eddyline_common::{Result, SqlError};
use std::sync::Arc;

/// The right side of a lookup join that is a table outside.
pub(super) struct External {
    relation: Arc<Relation>,
    /// By column of the side: which of the table's it is.
    columns: Vec<usize>,
}

impl External {
    /// `None` for a side that is anything else, or more than the table's columns.
    pub(super) fn of(plan: &LogicalPlan) -> Option<External> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let relation = scan.source.downcast_ref::<RelationSource>()?.relation.clone();
                let columns = scan.projection.clone().unwrap_or_else(|| (0..relation.columns.len()).collect());
                relation.is_looked_up().then_some(External { relation, columns })
            }
            LogicalPlan::SubqueryAlias(alias) => External::of(&alias.input),
            LogicalPlan::Projection(projection) => {
                let below = External::of(&projection.input)?;
                let schema = projection.input.schema();
                let place = |e: &DfExpr| match unaliased(e) {
                    DfExpr::Column(column) => Some(below.columns[schema.maybe_index_of_column(column)?]),
                    _ => None,
                };
                let columns = projection.expr.iter().map(place).collect::<Option<_>>()?;
                Some(External { columns, ..below })
            }
            _ => None,
        }
    }
}

impl Lowering<'_> {
    pub(super) fn external_lookup(&mut self, join: &ChosenJoin, asked: Asked, external: External) -> Result<Chosen> {
        let External { relation, columns } = external;
        let Asked { kind, equalities, mut rest } = asked;
        let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
        for (l, r) in equalities {
            match expr::from_datafusion(&r, join.right.schema())? {
                Expr::Column(column) => {
                    of_left.push(l);
                    of_right.push(columns[column]);
                }
                // What is computed of its columns is compared here.
                _ => rest.push(l.eq(r)),
            }
        }
        if of_right.is_empty() {
            let message = format!("no column of \"{}\" by itself is equal to something of the left side", relation.name);
            return Err(
                SqlError::unsupported(message).with_hint("Write ON o.k = c.k; if the types differ, cast the left side, not the column.")
            );
        }
        let left = self.input(&join.left, of_left.iter())?;
        let residual = self.rest(rest, &left, &join.right)?;
        let of_left = self.nodes[left.node].columns.len();
        let node = self.external_node(left, &relation, (columns, of_right), kind, residual)?;
        Ok(Chosen { node, of_left })
    }

    fn external_node(
        &mut self,
        left: Input,
        relation: &Relation,
        (columns, keys): (Vec<usize>, Vec<usize>),
        kind: JoinKind,
        residual: Option<Expr>,
    ) -> Result<NodeId> {
        for (ours, theirs) in left.keys.iter().zip(&keys) {
            let (ours, theirs) = (&self.nodes[left.node].columns[*ours].ty, &relation.columns[*theirs].ty);
            if ours.to_arrow() != theirs.to_arrow() {
                let message = format!("a join of type {ours} with type {theirs} is not supported");
                return Err(SqlError::unsupported(message).with_hint("Cast the left side to the type of the looked up column."));
            }
        }
        let input = self.by_keys(&left, kind);
        let l = self.nodes[input].clone();
        let right = Node { columns: columns.iter().map(|at| relation.columns[*at].clone()).collect(), ..l.clone() };
        let mut facts = self.facts[input].clone();
        facts.windows.extend(columns.iter().map(|_| None));
        facts.constants.extend(columns.iter().map(|_| None));
        let state = (l.mode == ChangelogMode::Retract).then(|| self.ids.allocate());
        let node = Node {
            columns: output_columns(&l, &right, kind),
            unique_keys: vec![],
            inputs: vec![input],
            op: Op::ExternalLookup { relation: relation.id, columns, kind, keys: [left.keys, keys], residual, state },
            ..l
        };
        Ok(self.push(node, facts))
    }

    /// Brings rows with equal keys to one worker, which asks for each key once.
    fn by_keys(&mut self, left: &Input, kind: JoinKind) -> NodeId {
        let nullable = left.keys.iter().any(|k| self.nodes[left.node].columns[*k].nullable);
        if !(nullable && kind.preserves(0)) || self.facts[left.node].distribution.serves(&left.keys) {
            return self.exchanged(left.node, left.keys.clone());
        }
        let facts = Facts { distribution: Distribution::Any, ..self.facts[left.node].clone() };
        let op = Op::JoinExchange { keys: left.keys.clone() };
        let node = Node { op, inputs: vec![left.node], ..self.nodes[left.node].clone() };
        self.push(node, facts)
    }
}
