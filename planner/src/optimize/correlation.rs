//! Correlated subqueries that DataFusion would turn into joins of another meaning. Its rewrite moves the condition on the outer row
//! above everything that the subquery does with its rows: right for filters, projections and groups, but not for what looks at
//! all rows of one outer row together, or makes a row of none, or one of several, or keeps rows that have none beside them, or compares columns of one name.
//! And what the conditions of a lateral join are in its subquery. It does not know what is done with such a subquery instead.

use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, JoinType, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{Limit, SkipType};
use datafusion::logical_expr::utils::{enumerate_grouping_sets, split_conjunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, GroupingSet, Join, LogicalPlan, Operator, Subquery};
use std::collections::BTreeSet;
use std::sync::Arc;

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
        // Those that are no input are met as expressions.
        for input in node.inputs() {
            if let LogicalPlan::Subquery(Subquery { subquery, .. }) = input {
                found = found.or(misread(subquery, Place::Lateral)?);
            }
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
/// the first one of a name. So it does where a column of the outer row goes by the whole name of one of them.
fn mixes_names(subquery: &LogicalPlan) -> DfResult<bool> {
    let (mut compared, mut outer): (BTreeSet<Column>, BTreeSet<Column>) = Default::default();
    subquery.each(|node| {
        if let LogicalPlan::Filter(filter) = node {
            for condition in split_conjunction(&filter.predicate).into_iter().filter(|e| e.contains_outer()) {
                compared.extend(condition.column_refs().into_iter().cloned());
                condition.each(|e| {
                    if let Expr::OuterReferenceColumn(_, column) = e {
                        outer.insert(column.clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
        }
        // What is beneath has names of its own.
        Ok(if matches!(node, LogicalPlan::SubqueryAlias(_)) { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
    })?;
    let schema = subquery.schema();
    let first_of = |name: &str| schema.fields().iter().position(|field| field.name() == name);
    let mut behind: BTreeSet<&str> = BTreeSet::new();
    Ok(!compared.is_disjoint(&outer)
        || compared.iter().any(|column| match schema.maybe_index_of_column(column) {
            Some(at) => first_of(&column.name) != Some(at),
            None => first_of(&column.name).is_some() || !behind.insert(&column.name),
        }))
}

/// The conditions of a join's ON.
pub fn on(join: &Join) -> impl Iterator<Item = Expr> {
    let is_true = |condition: &Expr| matches!(condition, Expr::Literal(ScalarValue::Boolean(Some(true)), _));
    let equalities = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    equalities.chain(join.filter.clone().filter(move |condition| !is_true(condition)))
}

/// The subquery on the right of a lateral join with a condition of that join's as its own: the left side's columns are those of an outer row there.
pub fn conditioned(join: &Join, condition: Expr, subquery: &LogicalPlan) -> DfResult<LogicalPlan> {
    let (left, right, own) = (join.left.schema(), join.right.schema(), subquery.schema().columns());
    let condition = condition.up(|e| match e {
        Expr::Column(column) => match right.maybe_index_of_column(&column) {
            Some(at) => Ok(Transformed::yes(Expr::Column(own[at].clone()))),
            None => {
                let field = left.field_from_column(&column)?.clone();
                Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
            }
        },
        other => Ok(Transformed::no(other)),
    })?;
    Filter::try_new(condition.data, Arc::new(subquery.clone())).map(LogicalPlan::Filter)
}

/// Whether anything in a plan, subqueries included, names a column of a query around what it is in.
pub fn names_outer(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.each_with_subqueries(|node| {
        found |= node.contains_outer_reference();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn is_correlated(plan: &LogicalPlan) -> bool {
    !plan.all_out_ref_exprs().is_empty()
}

/// `bare`: nothing above has changed the columns, or kept rows back.
fn misread_below(node: &LogicalPlan, place: Place, bare: bool) -> DfResult<Option<&'static str>> {
    let inputs = node.inputs();
    if let LogicalPlan::Join(join) = node
        && is_kept_by_correlation(join)
    {
        return Ok(Some("an outer join"));
    }
    if !inputs.iter().any(|input| is_correlated(input)) {
        return Ok(None);
    }
    let mut bare_below = bare;
    match node {
        LogicalPlan::Window(_) => return Ok(Some("a window function")),
        LogicalPlan::Limit(limit) if skips(limit)? => return Ok(Some("OFFSET")),
        LogicalPlan::Limit(_) if place == Place::Tested && !bare => return Ok(Some("LIMIT")),
        LogicalPlan::Aggregate(aggregate) if has_row_of_none(&aggregate.group_expr)? => {
            let grouping_sets = !aggregate.group_expr.is_empty();
            if place == Place::Tested || grouping_sets || !bare {
                return Ok(Some("an aggregate of no rows"));
            }
            bare_below = false;
        }
        LogicalPlan::Distinct(_) if place == Place::Lateral && compares_loosely(node)? => return Ok(Some("DISTINCT")),
        LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.is_empty() && place == Place::Lateral && compares_loosely(node)? => {
            return Ok(Some("GROUP BY without an aggregate"));
        }
        // A scalar subquery's HAVING it drops, or asks of none.
        LogicalPlan::Filter(_) => bare_below = false,
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

/// Whether a join keeps or leaves out rows by a condition on the outer row: above it that condition would leave out others.
fn is_kept_by_correlation(join: &Join) -> bool {
    let (left, right) = (is_correlated(&join.left), is_correlated(&join.right));
    let asks =
        || join.on.iter().any(|(l, r)| l.contains_outer() || r.contains_outer()) || join.filter.as_ref().is_some_and(Expr::contains_outer);
    match join.join_type {
        JoinType::Inner => false,
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => right || asks(),
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => left || asks(),
        JoinType::Full => left || right || asks(),
    }
}

/// Whether rows of one outer row may differ in a column that it is compared with. The rewrite groups by these columns too, and so gives
/// rows that are equal but for them one by one.
fn compares_loosely(plan: &LogicalPlan) -> DfResult<bool> {
    let mut loosely = false;
    plan.each(|node| {
        if let LogicalPlan::Filter(filter) = node {
            let mut compared = split_conjunction(&filter.predicate).into_iter().filter(|e| e.contains_outer() && e.any_column_refs());
            loosely |= compared.any(|e| !fixes_column(e, filter.input.schema()));
        }
        // What it is correlated with is another matter.
        Ok(if matches!(node, LogicalPlan::Subquery(_)) { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
    })?;
    Ok(loosely)
}

/// Whether a condition lets a column have one value for an outer row. A comparison of other types than one may take several values for equal.
fn fixes_column(condition: &Expr, schema: &DFSchema) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq | Operator::IsNotDistinctFrom, right }) = condition else { return false };
    let fixes = |own: &Expr, outer: &Expr| {
        let (Ok(own_type), Ok(outer_type)) = (own.get_type(schema), outer.get_type(schema)) else { return false };
        let exact = own_type == outer_type || own_type.is_integer() && outer_type.is_integer();
        exact && own.try_as_col().is_some() && !outer.any_column_refs()
    };
    fixes(left, right) || fixes(right, left)
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
