//! What the rules must leave of the clock. `now()` means two things in a view: in a condition the present time, for which a row is shown as long as it
//! holds; among the columns the time at which the row came, which stays what it was.

use crate::expr::is_clock_function;
use crate::functions::OfArrival;
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, LogicalPlan, Projection, ScalarUDF, SubqueryAlias};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What DataFusion's names of common subexpressions begin with.
const COMMON: &str = "__common_expr";
/// What the columns that `below_conditions` makes begin with.
const ARRIVAL: &str = "__arrival";

/// Before the rules: a condition on a column that is when the row came is none on the present time.
pub fn fix_arrivals(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let fixed = plan.up_with_subqueries(|node| {
        let LogicalPlan::Projection(Projection { expr, input, schema, .. }) = node else { return Ok(Transformed::no(node)) };
        let exprs = expr.into_iter().map(|e| e.up(of_arrival)).collect::<DfResult<Vec<_>>>()?;
        let any = exprs.iter().any(|e| e.transformed);
        let projection = Projection::try_new_with_schema(exprs.into_iter().map(|e| e.data).collect(), input, schema)?;
        Ok(Transformed::new_transformed(LogicalPlan::Projection(projection), any))
    });
    fixed.map(|t| t.data)
}

fn of_arrival(e: Expr) -> DfResult<Transformed<Expr>> {
    let Expr::ScalarFunction(call) = &e else { return Ok(Transformed::no(e)) };
    if !is_clock(&e) {
        return Ok(Transformed::no(e));
    }
    let function = OfArrival::new(call.func.name(), e.get_type(&DFSchema::empty())?);
    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(function)), vec![]))))
}

/// After the rules.
pub fn settle(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    below_conditions(without_unused(inline(plan)?)?)
}

/// What reads the clock is no common subexpression of a condition, which is solved for the time as a whole.
fn inline(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let inlined = plan.up(|node| {
        let LogicalPlan::Filter(filter) = &node else { return Ok(Transformed::no(node)) };
        let mut common = HashMap::new();
        let input = without_common(&filter.input, &mut common)?;
        if common.is_empty() {
            return Ok(Transformed::no(node));
        }
        let predicate = in_place(filter.predicate.clone(), &common)?;
        Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?)))
    });
    inlined.map(|t| t.data)
}

/// The projections that a condition's common subexpressions are in, one over the other, without those that read the clock; these by name.
fn without_common(plan: &LogicalPlan, common: &mut HashMap<String, Expr>) -> DfResult<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(plan.clone()) };
    let input = without_common(&projection.input, common)?;
    let mut kept = Vec::with_capacity(projection.expr.len());
    for e in &projection.expr {
        match e {
            Expr::Column(column) if common.contains_key(&column.name) => {}
            Expr::Alias(alias) if alias.name.starts_with(COMMON) => {
                let whole = in_place(alias.expr.as_ref().clone(), common)?;
                if reads_clock(&whole) {
                    common.insert(alias.name.clone(), whole);
                } else {
                    kept.push(e.clone());
                }
            }
            _ => kept.push(e.clone()),
        }
    }
    if common.is_empty() {
        return Ok(plan.clone());
    }
    Ok(LogicalPlan::Projection(Projection::try_new(kept, Arc::new(input))?))
}

fn in_place(e: Expr, common: &HashMap<String, Expr>) -> DfResult<Expr> {
    let replaced = e.up(|e| match &e {
        Expr::Column(column) => Ok(common.get(&column.name).cloned().map_or_else(|| Transformed::no(e.clone()), Transformed::yes)),
        _ => Ok(Transformed::no(e)),
    });
    replaced.map(|t| t.data)
}

/// Without common subexpressions that read the clock for nobody: a condition that was moved further down leaves them.
fn without_unused(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut used: HashSet<String> = HashSet::new();
    plan.each(|node| {
        node.each_own(|e| {
            used.extend(e.column_refs().into_iter().map(|column| column.name.clone()));
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    let is_unused = |e: &Expr| matches!(e, Expr::Alias(a) if a.name.starts_with(COMMON) && !used.contains(&a.name)) && reads_clock(e);
    let without = plan.up(|node| {
        let LogicalPlan::Projection(projection) = &node else { return Ok(Transformed::no(node)) };
        let kept: Vec<Expr> = projection.expr.iter().filter(|e| !is_unused(e)).cloned().collect();
        if kept.len() == projection.expr.len() {
            return Ok(Transformed::no(node));
        }
        Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(kept, projection.input.clone())?)))
    });
    without.map(|t| t.data)
}

/// When a row came is put down below a condition on the present time: that takes the row back later, as it was.
fn below_conditions(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut next = 0;
    let moved = plan.up(|node| {
        let LogicalPlan::Projection(projection) = &node else { return Ok(Transformed::no(node)) };
        if !projection.expr.iter().any(reads_clock) || !has_condition(&projection.input) {
            return Ok(Transformed::no(node));
        }
        let mut arrivals: Vec<Expr> = Vec::new();
        for e in &projection.expr {
            e.each(|e| {
                if is_clock(e) && !arrivals.contains(e) {
                    arrivals.push(e.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        let named: Vec<Expr> = (next..).zip(&arrivals).map(|(number, e)| e.clone().alias(format!("{ARRIVAL}_{number}"))).collect();
        next += named.len();
        let input = carrying(&projection.input, &named)?;
        let carried = last_columns(&input, named.len());
        let mut exprs = Vec::with_capacity(projection.expr.len());
        for (e, (qualifier, field)) in projection.expr.iter().zip(projection.schema.iter()) {
            let replaced = e.clone().up(|e| {
                Ok(match arrivals.iter().position(|arrival| *arrival == e) {
                    Some(at) => Transformed::yes(carried[at].clone()),
                    None => Transformed::no(e),
                })
            })?;
            let named = |e: Expr| e.unalias().alias_qualified(qualifier.cloned(), field.name());
            exprs.push(if replaced.transformed { named(replaced.data) } else { replaced.data });
        }
        Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)))
    });
    moved.map(|t| t.data)
}

/// Whether rows of a plan go as time passes, by a condition that nothing but projections and other conditions are over.
fn has_condition(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(filter) => reads_clock(&filter.predicate) || has_condition(&filter.input),
        LogicalPlan::Projection(projection) => has_condition(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_condition(&alias.input),
        _ => false,
    }
}

/// The plan with further columns at its end, computed below its conditions.
fn carrying(plan: &LogicalPlan, further: &[Expr]) -> DfResult<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Filter(filter) => {
            LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(carrying(&filter.input, further)?))?)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(carrying(&alias.input, further)?), alias.alias.clone())?)
        }
        LogicalPlan::Projection(projection) => {
            let input = carrying(&projection.input, further)?;
            let exprs = projection.expr.iter().cloned().chain(last_columns(&input, further.len())).collect();
            LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)
        }
        other => {
            let exprs = other.schema().columns().into_iter().map(Expr::Column).chain(further.iter().cloned()).collect();
            LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(other.clone()))?)
        }
    })
}

fn last_columns(plan: &LogicalPlan, count: usize) -> Vec<Expr> {
    let columns = plan.schema().columns();
    columns[columns.len() - count..].iter().cloned().map(Expr::Column).collect()
}

fn is_clock(e: &Expr) -> bool {
    matches!(e, Expr::ScalarFunction(call) if is_clock_function(call.func.name()))
}

fn reads_clock(e: &Expr) -> bool {
    e.any(is_clock)
}
