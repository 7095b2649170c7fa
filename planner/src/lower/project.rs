//! Projections: what of an input's facts its columns keep, and two projections in a row as one.

use super::node::Facts;
use super::{Lowering, keys};
use crate::expr;
use crate::plan::{ChangelogMode, Expr, Literal, LiteralValue, Node, NodeId, Op};
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlType};

impl Lowering<'_> {
    /// A projection, or just other names if that is all it does.
    pub(super) fn project(&mut self, input: NodeId, mut exprs: Vec<Expr>, mut columns: Vec<Column>) -> Result<NodeId> {
        if exprs.is_empty() {
            exprs.push(Expr::Literal(Literal { ty: SqlType::Boolean, value: LiteralValue::Boolean(true) }));
            columns.push(Column::new("", SqlType::Boolean, false));
        }
        let width = self.nodes[input].columns.len();
        if exprs.len() == width && exprs.iter().enumerate().all(|(i, e)| *e == Expr::Column(i)) {
            for (column, named) in self.nodes[input].columns.iter_mut().zip(columns) {
                column.name = named.name;
            }
            return Ok(input);
        }
        if let Some((below, merged)) = self.merged_with_projection_below(input, &exprs) {
            return self.project(below, merged, columns);
        }
        self.drop_unused_rank(input, &exprs);
        self.projection_node(input, exprs, columns)
    }

    /// A projection as a node of its own.
    pub(super) fn projection_node(&mut self, input: NodeId, exprs: Vec<Expr>, columns: Vec<Column>) -> Result<NodeId> {
        if self.nodes[input].mode == ChangelogMode::Retract && exprs.iter().any(expr::reads_clock) {
            return Err(SqlError::unsupported("the current time over rows that may change is not supported in a materialized view")
                .with_detail("A row that is taken back must be computed as it was when it was added.")
                .with_hint("Add the time when the row is written, or read now() in the SELECT over the view."));
        }
        self.check_arrival(input, exprs.iter())?;
        let outputs_of = |column: usize| exprs.iter().position(|e| *e == Expr::Column(column));
        let source = &self.nodes[input];
        let facts = &self.facts[input];
        let of_time = |e: &Expr| match e {
            Expr::Column(i) => source.time_columns.contains(i),
            other => facts.event_time.as_ref() == Some(other),
        };
        let node = Node {
            inputs: vec![input],
            mode: source.mode,
            unique_keys: keys::through(&source.unique_keys, facts, &exprs, &source.columns),
            time_columns: exprs.iter().enumerate().filter(|(_, e)| of_time(e)).map(|(i, _)| i).collect(),
            columns,
            op: Op::Project { exprs: exprs.clone() },
        };
        let windows = exprs.iter().map(|e| if let Expr::Column(i) = e { facts.windows[*i] } else { None }).collect();
        let constants = exprs.iter().map(|e| keys::constant(e, &facts.constants)).collect();
        let projected = Facts {
            constants,
            distribution: facts.distribution.project(&outputs_of),
            windows,
            event_time: facts.event_time.as_ref().and_then(|e| expr::map_columns(e, &|i| outputs_of(i).map(Expr::Column))),
            unwatermarked: facts.unwatermarked.clone(),
        };
        Ok(self.push(node, projected))
    }

    /// Two projections in a row as one, if that computes nothing twice. Takes the lower one off the plan.
    fn merged_with_projection_below(&mut self, input: NodeId, exprs: &[Expr]) -> Option<(NodeId, Vec<Expr>)> {
        let Op::Project { exprs: inner } = &self.nodes[input].op else { return None };
        if input + 1 != self.nodes.len() {
            return None;
        }
        let mut uses = vec![0; inner.len()];
        for e in exprs {
            expr::any(e, &mut |part| {
                if let Expr::Column(i) = part {
                    uses[*i] += 1;
                }
                false
            });
        }
        let cheap = |e: &Expr| matches!(e, Expr::Column(_) | Expr::Literal(_) | Expr::CutNow);
        if !inner.iter().zip(&uses).all(|(e, uses)| cheap(e) || *uses <= 1) {
            return None;
        }
        let merged = exprs.iter().map(|e| expr::map_columns(e, &|i| Some(inner[i].clone()))).collect::<Option<_>>()?;
        let below = self.nodes[input].inputs[0];
        self.nodes.pop();
        self.facts.pop();
        Some((below, merged))
    }
}
