//! Joins with one version of a table's row: `JOIN t FOR SYSTEM_TIME AS OF o.ts ON ...`. The parser's tree cannot carry the clause through
//! DataFusion's planner, so the rewriter puts a mark into the ON condition, and here the join that has the mark becomes a node
//! of its own (`ChosenJoin`). Where the table is a view that keeps the newest row of each key, the join is with all of them (`versions`).

use super::chosen::{Choice, ChosenJoin};
use super::local_days::is_of_instants;
use super::versions::{self, Versions};
use super::{Mode, RelationSource, marked};
use crate::catalog::RelationKind;
use crate::error::into_datafusion;
use crate::functions::{AS_OF, NOW};
use crate::lower::event_time;
use crate::walk::Walk;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self as sql, JoinConstraint, JoinOperator, TableFactor, TableVersion};
use eddyline_common::{SqlError, SqlState};
use std::sync::Arc;

/// Moves `FOR SYSTEM_TIME AS OF` from the tables of a FROM list's joins into their conditions. What is left elsewhere is refused.
pub fn mark_joins(select: &mut sql::Select) {
    for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
        let TableFactor::Table { version, .. } = &mut join.relation else { continue };
        let condition = match &mut join.join_operator {
            JoinOperator::Join(JoinConstraint::On(condition))
            | JoinOperator::Inner(JoinConstraint::On(condition))
            | JoinOperator::Left(JoinConstraint::On(condition))
            | JoinOperator::LeftOuter(JoinConstraint::On(condition)) => condition,
            _ => continue,
        };
        if let Some(TableVersion::ForSystemTimeAsOf(time)) = version {
            let nothing = sql::Expr::Value(sql::Value::Null.with_empty_span());
            let left = Box::new(sql::Expr::Nested(Box::new(std::mem::replace(condition, nothing))));
            let right = Box::new(super::rewrite::call(AS_OF, vec![time.clone()]));
            *condition = sql::Expr::BinaryOp { left, op: sql::BinaryOperator::And, right };
            *version = None;
        }
    }
}

/// Replaces every join whose condition has the mark.
pub fn rewrite(plan: LogicalPlan, mode: Mode) -> DfResult<LogicalPlan> {
    marked::replace_joins(plan, AS_OF, |join| version_join(join, mode))
}

/// What the mark marks.
fn mark(e: &Expr) -> Option<&Expr> {
    marked::argument(e, AS_OF)
}

fn version_join(join: Join, mode: Mode) -> DfResult<LogicalPlan> {
    let (marks, rest): (Vec<Expr>, Vec<Expr>) =
        split_conjunction_owned(join.filter.clone().unwrap_or_default()).into_iter().partition(|e| mark(e).is_some());
    let Some(time) = marks.first().and_then(mark) else {
        return Err(DataFusionError::Internal("the mark of a version is no conjunct".to_string()));
    };
    let equalities = join.on.iter().map(|(l, r)| l.clone().eq(r.clone()));
    let Some(condition) = conjunction(equalities.chain(rest)) else {
        return refuse("FOR SYSTEM_TIME AS OF needs a condition that says which rows belong together", "Write ON o.k = t.k.");
    };
    let arrival = is_now(time, &join.left);
    if mode == Mode::Batch {
        if !arrival {
            return refuse(
                "FOR SYSTEM_TIME AS OF an event time is supported in materialized views only",
                "A query finds a table's present rows alone; create a materialized view, which follows the versions.",
            );
        }
        // All rows arrive now.
        let Join { left, right, on, join_type, join_constraint, schema, null_equality, null_aware, .. } = join;
        let plain =
            Join { left, right, on: vec![], filter: Some(condition), join_type, join_constraint, schema, null_equality, null_aware };
        drop(on);
        return Ok(LogicalPlan::Join(plain));
    }
    let (right, choice) = if arrival { (join.right, Choice::OfArrival) } else { versioned(join.right, time.clone())? };
    Ok(ChosenJoin::try_new([join.left, right], join.join_type, condition, choice)?.into_plan())
}

/// The rows that are the versions, and how one of them is chosen for a time.
fn versioned(right: Arc<LogicalPlan>, time: Expr) -> DfResult<(Arc<LogicalPlan>, Choice)> {
    if let Some(of_right) = event_time(&right) {
        return Ok((right, Choice::OfTime { times: [time, Expr::Column(of_right)], key: vec![] }));
    }
    if let Some(Versions { plan, key, time: of_right }) = versions::of_newest(&right)? {
        let key = key.into_iter().map(Expr::Column).collect();
        return Ok((Arc::new(plan), Choice::OfTime { times: [time, Expr::Column(of_right)], key }));
    }
    let refused =
        SqlError::unsupported("FOR SYSTEM_TIME AS OF an event time needs a versioned table: one with a primary key and a watermark");
    Err(into_datafusion(if is_materialized(&right) {
        refused.with_detail("Of several versions that come together, this materialized view shows the last one alone.").with_hint(
            "Name a plain view over an APPEND ONLY table or a source: \
                 SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM t) AS x WHERE rn = 1.",
        )
    } else {
        refused.with_hint("Declare PRIMARY KEY and WATERMARK FOR the time from which on a row is valid, or join AS OF PROCTIME().")
    }))
}

/// Whether the rows are those of a materialized view.
fn is_materialized(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => is_materialized(&alias.input),
        LogicalPlan::Projection(projection) => is_materialized(&projection.input),
        LogicalPlan::TableScan(scan) => {
            let source = scan.source.downcast_ref::<RelationSource>();
            source.is_some_and(|source| matches!(source.relation.kind, RelationKind::MaterializedView { .. }))
        }
        _ => false,
    }
}

fn refuse<T>(message: &str, hint: &str) -> DfResult<T> {
    Err(into_datafusion(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).with_hint(hint)))
}

/// Whether an expression over a plan is the time at which a row arrives: `PROCTIME()`, or a column that is.
pub fn is_now(e: &Expr, plan: &LogicalPlan) -> bool {
    leads_to(e, plan, &is_arrival)
}

/// Whether an expression over a plan is computed of that time.
pub fn reads_now(e: &Expr, plan: &LogicalPlan) -> bool {
    leads_to(e, plan, &|e| e.any(is_arrival))
}

/// Whether an expression is that time itself: `now()`, or what the clock of a zone shows then, if that is UTC's.
pub fn is_arrival(e: &Expr) -> bool {
    let Expr::ScalarFunction(f) = e else { return false };
    match (f.func.name(), f.args.as_slice()) {
        (NOW, _) => true,
        ("timezone", [Expr::Literal(zone, _), at]) => zone.try_as_str().flatten().is_some_and(is_of_instants) && is_arrival(at),
        _ => false,
    }
}

fn leads_to(e: &Expr, plan: &LogicalPlan, found: &dyn Fn(&Expr) -> bool) -> bool {
    match e {
        e if found(e) => true,
        Expr::Alias(alias) => leads_to(&alias.expr, plan, found),
        Expr::Column(column) => plan.schema().maybe_index_of_column(column).is_some_and(|at| column_leads_to(at, plan, found)),
        _ => false,
    }
}

fn column_leads_to(at: usize, plan: &LogicalPlan, found: &dyn Fn(&Expr) -> bool) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.get(at).is_some_and(|e| leads_to(e, &projection.input, found)),
        LogicalPlan::SubqueryAlias(alias) => column_leads_to(at, &alias.input, found),
        LogicalPlan::Filter(filter) => column_leads_to(at, &filter.input, found),
        LogicalPlan::Sort(sort) => column_leads_to(at, &sort.input, found),
        LogicalPlan::Extension(Extension { node }) => {
            let input = node.inputs().into_iter().next();
            input.is_some_and(|input| at < input.schema().fields().len() && column_leads_to(at, input, found))
        }
        _ => false,
    }
}
