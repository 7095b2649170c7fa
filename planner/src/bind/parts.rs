//! Tests of a UNION of which only some parts name the row around become tests of its parts. By what the one part compares it can be joined, and what the other has is the same for all rows:
//! together they would be there for each. IN as a condition is joined by what is looked for, so it stays. It does not know what becomes of the tests.

use super::membership::correlated;
use super::placed::{has_subquery, subquery};
use crate::walk::{Walk, WalkPlan};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, disjunction, split_conjunction_owned};
use datafusion::logical_expr::{Distinct, Expr, Filter, LogicalPlan, Operator, Subquery, lit};
use std::sync::Arc;

pub fn in_plan(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let apart = plan.up_with_subqueries(|node| {
        if matches!(node, LogicalPlan::Join(_)) || !has_subquery(&node)? {
            return Ok(Transformed::no(node));
        }
        match node {
            LogicalPlan::Filter(Filter { predicate, input, .. }) => {
                let predicate = condition(predicate)?;
                Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
            }
            other => {
                let names = NamePreserver::new(&other);
                other.map_own(|expr| {
                    let name = names.save(&expr);
                    Ok(expr.up(of_parts)?.update_data(|expr| name.restore(expr)))
                })
            }
        }
    });
    apart.map(|t| t.data)
}

fn condition(predicate: Expr) -> DfResult<Expr> {
    let tests = split_conjunction_owned(predicate).into_iter();
    let apart = tests.map(|test| -> DfResult<Expr> {
        if is_joined(&test) { Ok(test) } else { Ok(test.up(of_parts)?.data) }
    });
    Ok(conjunction(apart.collect::<DfResult<Vec<_>>>()?).unwrap_or_else(|| lit(true)))
}

fn is_joined(test: &Expr) -> bool {
    match test {
        Expr::InSubquery(test) => !test.negated,
        Expr::SetComparison(test) => test.op == Operator::Eq && test.quantifier == SetQuantifier::Any,
        _ => false,
    }
}

fn of_parts(test: Expr) -> DfResult<Transformed<Expr>> {
    let of_all = match &test {
        Expr::Exists(Exists { negated, .. }) | Expr::InSubquery(InSubquery { negated, .. }) => *negated,
        Expr::SetComparison(SetComparison { quantifier, .. }) => *quantifier == SetQuantifier::All,
        _ => return Ok(Transformed::no(test)),
    };
    let parts = subquery(&test).and_then(|query| parts(query, matches!(test, Expr::Exists(_)))).unwrap_or_default();
    let tests = parts.into_iter().map(|part| of_part(&test, part));
    let tests = if of_all { conjunction(tests) } else { disjunction(tests) };
    Ok(tests.map_or_else(|| Transformed::no(test), Transformed::yes))
}

fn of_part(test: &Expr, subquery: Subquery) -> Expr {
    match test.clone() {
        Expr::Exists(test) => Expr::Exists(Exists { subquery, ..test }),
        Expr::InSubquery(test) => Expr::InSubquery(InSubquery { subquery, ..test }),
        Expr::SetComparison(test) => Expr::SetComparison(SetComparison { subquery, ..test }),
        other => other,
    }
}

/// The parts of a query, if only some of them name the row around. `rows`: it is asked for rows only, whatever they are; else what is compared is compared with each part as with the whole.
fn parts(query: &Subquery, rows: bool) -> Option<Vec<Subquery>> {
    let mut parts = Vec::new();
    collect(&query.subquery, rows, &mut parts);
    let is_named = |part: &Arc<LogicalPlan>| !part.all_out_ref_exprs().is_empty();
    let compares_alike = |part: &Arc<LogicalPlan>| {
        let (ty, whole) = (part.schema().field(0).data_type(), query.subquery.schema().field(0).data_type());
        ty == whole || is_exact(ty) && is_exact(whole)
    };
    let is_mixed = parts.iter().any(is_named) && !parts.iter().all(is_named) && (rows || parts.iter().all(compares_alike));
    is_mixed.then(|| parts.into_iter().map(|part| correlated(part, query)).collect())
}

fn is_exact(ty: &DataType) -> bool {
    ty.is_integer() || ty.is_decimal()
}

fn collect(plan: &Arc<LogicalPlan>, rows: bool, parts: &mut Vec<Arc<LogicalPlan>>) {
    match plan.as_ref() {
        LogicalPlan::Union(union) => union.inputs.iter().for_each(|input| collect(input, rows, parts)),
        LogicalPlan::Distinct(Distinct::All(input)) => collect(input, rows, parts),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => collect(&sort.input, rows, parts),
        LogicalPlan::SubqueryAlias(alias) if rows => collect(&alias.input, rows, parts),
        LogicalPlan::Projection(projection) if rows && !projection.expr.iter().any(|e| e.any(|e| matches!(e, Expr::Unnest(_)))) => {
            collect(&projection.input, rows, parts);
        }
        _ => parts.push(plan.clone()),
    }
}
