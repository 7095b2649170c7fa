//! Whether a row came behind its watermark, in views. A row's arrival watermark travels with it from the scan of a source, or of a table that only grows, through conditions and
//! projections, and no further: behind an operator with state it is the step's, which depends on how cuts were put together. So the question is
//! allowed there alone. On the bound plan, because the optimizer moves conditions, also to the other side of an equality; and again when
//! the plan is lowered, where it is known what the row's event time is.

use super::Lowering;
use crate::bind::RelationSource;
use crate::catalog::Relation;
use crate::expr;
use crate::functions::BEHIND_WATERMARK;
use crate::plan::{ChangelogMode, Expr, NodeId, Op};
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{Expr as DfExpr, LogicalPlan};
use eddyline_common::{Result, SqlError};

/// Of a node of the bound plan.
pub fn check(node: &LogicalPlan) -> DfResult<()> {
    let (mut asks, mut has_subquery) = (false, false);
    node.each_own(|e| {
        asks |= e.any(|e| matches!(e, DfExpr::ScalarFunction(call) if call.func.name() == BEHIND_WATERMARK));
        has_subquery |= e.any(|e| matches!(e, DfExpr::ScalarSubquery(_) | DfExpr::InSubquery(_) | DfExpr::Exists(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    let is_above_scan = match node {
        LogicalPlan::Filter(filter) => !has_subquery && reads_as_it_comes(&filter.input),
        LogicalPlan::Projection(projection) => !has_subquery && reads_as_it_comes(&projection.input),
        _ => false,
    };
    if asks && !is_above_scan { Err(DataFusionError::External(Box::new(refused()))) } else { Ok(()) }
}

/// Whether rows come from a scan, and nothing keeps them on the way.
fn reads_as_it_comes(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => reads_as_it_comes(&alias.input),
        LogicalPlan::Filter(filter) => reads_as_it_comes(&filter.input),
        LogicalPlan::Projection(projection) => reads_as_it_comes(&projection.input),
        LogicalPlan::TableScan(scan) => scan.source.downcast_ref::<RelationSource>().is_some_and(|source| keeps_arrivals(&source.relation)),
        _ => false,
    }
}

/// Whether a view that reads the relation's past finds the same rows behind the watermark as one that read them when they came. A table keeps that
/// beside a stored column; a view has put rows together; and what takes a row back comes under another watermark than the row did.
fn keeps_arrivals(relation: &Relation) -> bool {
    let keeps = relation.is_source() || !relation.time_columns.is_empty();
    relation.mode == ChangelogMode::Append && relation.watermark.is_some() && keeps
}

fn refused() -> SqlError {
    SqlError::unsupported("CURRENT_WATERMARK is supported of the event time of a source, or of a table that only grows, right where it is read")
        .with_detail("A row carries the watermark it came under no further; behind a join or an aggregate it would depend on how rows were put together.")
        .with_hint("Write it in a subquery: (SELECT * FROM t WHERE CURRENT_WATERMARK(ts) IS NULL OR ts > CURRENT_WATERMARK(ts)).")
}

impl Lowering<'_> {
    /// Of what is computed of the rows of `input`.
    pub(super) fn check_arrival<'e>(&self, input: NodeId, mut exprs: impl Iterator<Item = &'e Expr>) -> Result<()> {
        let is_amiss = |part: &Expr| match part {
            Expr::Call { name, args, .. } => name == BEHIND_WATERMARK && !self.knows_arrival(input, args),
            _ => false,
        };
        let asks_amiss = |e: &Expr| expr::any(e, &mut |part| is_amiss(part));
        if exprs.any(asks_amiss) { Err(refused()) } else { Ok(()) }
    }

    fn knows_arrival(&self, input: NodeId, args: &[Expr]) -> bool {
        let of_node = |time: &Expr| matches!(time, Expr::Column(i) if self.nodes[input].time_columns.contains(i));
        let is_event_time = matches!(args, [time] if of_node(time) || self.facts[input].event_time.as_ref() == Some(time));
        let mut node = input;
        while let Op::Filter { .. } | Op::Project { .. } = self.nodes[node].op {
            node = self.nodes[node].inputs[0];
        }
        is_event_time && matches!(self.nodes[node].op, Op::Scan { .. }) && self.nodes[node].mode == ChangelogMode::Append
    }
}
