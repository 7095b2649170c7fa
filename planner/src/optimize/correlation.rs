//! Correlated subqueries that DataFusion would turn into joins of another meaning. Its rewrite moves the condition on the outer row
//! above everything that the subquery does with its rows: right for filters, projections and groups, but not for what looks at
//! all rows of one outer row together, or makes a row of none, or compares columns of one name. It does not know what is done with such a subquery instead.

use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{Limit, SkipType};
use datafusion::logical_expr::utils::{enumerate_grouping_sets, split_conjunction};
use datafusion::logical_expr::{Expr, GroupingSet, LogicalPlan, Subquery};
use std::collections::BTreeSet;

/// What a subquery's rows are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// They are joined to the outer row.
    Lateral,
    Scalar,
    /// EXISTS and IN.
    Tested,
}

/// What in a correlated subquery is not what it would be as a join.
pub fn misread(subquery: &LogicalPlan, place: Place) -> DfResult<Option<&'static str>> {
    if mixes_names(subquery)? {
        return Ok(Some("comparing columns of one name"));
    }
    misread_below(subquery, place, true)
}

/// The same for the subquery that an expression is.
pub fn misread_expr(expr: &Expr) -> DfResult<Option<&'static str>> {
    match expr {
        Expr::ScalarSubquery(subquery) => misread(&subquery.subquery, Place::Scalar),
        Expr::Exists(Exists { subquery, .. }) | Expr::InSubquery(InSubquery { subquery, .. }) => misread(&subquery.subquery, Place::Tested),
        _ => Ok(None),
    }
}

/// The first such construct of a plan, subqueries of subqueries included.
pub fn first_misread(plan: &LogicalPlan) -> DfResult<Option<&'static str>> {
    let mut found = None;
    plan.each_with_subqueries(|node| {
        if let LogicalPlan::Subquery(Subquery { subquery, .. }) = node {
            found = found.or(misread(subquery, Place::Lateral)?);
        }
        node.each_own(|expr| {
            expr.each(|e| {
                found = found.or(misread_expr(e)?);
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })?;
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// What the outer row is compared with becomes columns of the subquery, behind its own, and the rewrite then knows them by their names alone: it takes
/// the first one of a name.
fn mixes_names(subquery: &LogicalPlan) -> DfResult<bool> {
    let mut compared: BTreeSet<Column> = BTreeSet::new();
    subquery.each(|node| {
        if let LogicalPlan::Filter(filter) = node {
            let correlated = split_conjunction(&filter.predicate).into_iter().filter(|e| e.contains_outer());
            compared.extend(correlated.flat_map(|e| e.column_refs()).cloned());
        }
        // What is beneath has names of its own.
        Ok(if matches!(node, LogicalPlan::SubqueryAlias(_)) { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
    })?;
    let schema = subquery.schema();
    let first_of = |name: &str| schema.fields().iter().position(|field| field.name() == name);
    let mut behind: BTreeSet<&str> = BTreeSet::new();
    Ok(compared.iter().any(|column| match schema.maybe_index_of_column(column) {
        Some(at) => first_of(&column.name) != Some(at),
        None => first_of(&column.name).is_some() || !behind.insert(&column.name),
    }))
}

fn is_correlated(plan: &LogicalPlan) -> bool {
    !plan.all_out_ref_exprs().is_empty()
}

/// `bare`: nothing above has changed the columns, or kept rows back.
fn misread_below(node: &LogicalPlan, place: Place, bare: bool) -> DfResult<Option<&'static str>> {
    let inputs = node.inputs();
    if !inputs.iter().any(|input| is_correlated(input)) {
        return Ok(None);
    }
    let mut bare_below = bare;
    match node {
        LogicalPlan::Window(_) => return Ok(Some("a window function")),
        LogicalPlan::Limit(limit) if skips(limit)? => return Ok(Some("OFFSET")),
        LogicalPlan::Aggregate(aggregate) if has_row_of_none(&aggregate.group_expr)? => {
            let grouping_sets = !aggregate.group_expr.is_empty();
            let misread = place == Place::Tested || grouping_sets || !bare;
            return Ok(misread.then_some("an aggregate of no rows"));
        }
        LogicalPlan::Filter(_) => bare_below &= place == Place::Scalar,
        LogicalPlan::Projection(projection) => bare_below &= projection.expr.iter().all(Expr::any_column_refs),
        _ => {}
    }
    for input in inputs {
        if let Some(what) = misread_below(input, place, bare_below)? {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

fn skips(limit: &Limit) -> DfResult<bool> {
    Ok(!matches!(limit.get_skip_type()?, SkipType::Literal(0)))
}

/// Whether there is a group even where there are no rows.
fn has_row_of_none(group: &[Expr]) -> DfResult<bool> {
    if group.is_empty() {
        return Ok(true);
    }
    let sets = enumerate_grouping_sets(group.to_vec())?;
    Ok(matches!(sets.as_slice(), [Expr::GroupingSet(set)] if has_empty(set)))
}

fn has_empty(set: &GroupingSet) -> bool {
    match set {
        GroupingSet::Rollup(_) | GroupingSet::Cube(_) => true,
        GroupingSet::GroupingSets(sets) => sets.iter().any(Vec::is_empty),
    }
}
