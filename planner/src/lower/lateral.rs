//! LATERAL subqueries as joins. What compares them with the outer row becomes the join's condition, over columns whose names nothing else has. A LIMIT
//! becomes a condition on the number of a row among those with equal keys; groups are those of equal keys; what is computed of the outer row is computed above
//! the join, and so is what an aggregate without GROUP BY gives of no rows. What these conditions do not tell apart is run over the values of all outer rows at once. What
//! cannot be joined so either is left to the optimiser, or refused later. Queries further out are named in the joins until these are part of a subquery of theirs.
//!
//! - `domain`: the subquery over the values that outer rows have
//! - `pulled`: the subquery without the outer row
//! - `values`: subqueries for a value, and those that are tested for rows, that are joined so too

mod domain;
mod pulled;
mod values;

use crate::optimize::correlation::{self, on};
use crate::walk::{Walk, WalkPlan};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result as DfResult, Spans, TableReference};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Filter, Join, JoinConstraint, LogicalPlan, Projection, Subquery, SubqueryAlias, lit, when};
use pulled::{Pulled, Puller, subquery_of};
use std::sync::Arc;

pub fn join_laterals(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut puller = Puller::default();
    let rewritten = plan.up_with_subqueries(|node| match &node {
        LogicalPlan::Join(join) => match joined(join, &join.left, &mut puller)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(node)),
        },
        _ => match values::joined(&node, &mut puller)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(node)),
        },
    });
    rewritten.map(|t| t.data)
}

/// A join whose right side names columns of its left one, without that.
struct Lateral<'a> {
    join: &'a Join,
    /// Left rows without right ones are there too.
    outer: bool,
    pulled: Pulled,
    /// True in every row of the right side, and null in the row that stands for none; only where something above the join is otherwise for that.
    matched: Option<Expr>,
}

/// `rows`: the left side, or what it has the columns from that are named.
fn joined(join: &Join, rows: &LogicalPlan, puller: &mut Puller) -> DfResult<Option<LogicalPlan>> {
    let Some((subquery, alias)) = lateral_of(&join.right) else { return Ok(None) };
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        _ => return Ok(None),
    };
    if subquery.all_out_ref_exprs().is_empty() || is_named_within(subquery, join.left.schema())? {
        return Ok(None);
    }
    if let Some(condition) = conjunction(on(join)).filter(|_| outer) {
        return match has_subquery(&condition) {
            true => Ok(None),
            false => joined(&conditioned(join, condition, subquery, alias)?, rows, puller),
        };
    }
    let pulled = match puller.pull(subquery)? {
        Some(pulled) => Some(pulled),
        None => domain::pull(rows, subquery, puller)?,
    };
    let Some(mut pulled) = pulled else { return Ok(None) };
    let outer = outer || pulled.of_none.is_some();
    let mut matched = None;
    if outer && !(pulled.lifted.is_empty() && pulled.of_none.is_none()) {
        let column = puller.column();
        pulled = pulled.with(lit(true), &column)?;
        matched = Some(Expr::Column(Column::new(alias.cloned(), column.name)));
    }
    if let Some(alias) = alias {
        pulled = pulled.aliased(alias)?;
    }
    Lateral { join, outer, pulled, matched }.plan()
}

impl Lateral<'_> {
    fn plan(self) -> DfResult<Option<LogicalPlan>> {
        let Some(conditions) = self.conditions()? else { return Ok(None) };
        let left = self.join.left.clone();
        let (plan, there) = match (self.pulled.is_of_outer_row(self.join.right.schema()), self.outer) {
            (true, true) => (left, conjunction(conditions)),
            (true, false) => match conjunction(conditions) {
                Some(condition) => (Arc::new(LogicalPlan::Filter(Filter::try_new(condition, left)?)), None),
                None => (left, None),
            },
            (false, outer) => {
                let condition = conjunction(conditions).or_else(|| outer.then(|| lit(true)));
                let right = Arc::new(self.pulled.plan.clone());
                let (nulls, kind) = (NullEquality::NullEqualsNothing, if outer { JoinType::Left } else { JoinType::Inner });
                let join = Join::try_new(left, right, vec![], condition, kind, JoinConstraint::On, nulls, false)?;
                (Arc::new(LogicalPlan::Join(join)), self.matched.clone())
            }
        };
        let plan = LogicalPlan::Projection(Projection::try_new(self.columns(there)?, plan)?);
        let above = conjunction(on(self.join).filter(|_| self.pulled.of_none.is_some()));
        Ok(Some(match above {
            Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?),
            None => plan,
        }))
    }

    /// What must hold of a pair, those of ON included unless there is a row for each left one: that must satisfy them.
    fn conditions(&self) -> DfResult<Option<Vec<Expr>>> {
        let mut conditions = Vec::new();
        for condition in self.pulled.conditions.iter().cloned() {
            conditions.push(over(condition, self.join.left.schema())?);
        }
        for condition in on(self.join).filter(|_| self.pulled.of_none.is_none()) {
            let Some(resolved) = self.pulled.resolved(&condition, self.join.right.schema())? else { return Ok(None) };
            conditions.push(over(resolved, self.join.left.schema())?);
        }
        Ok(Some(conditions))
    }

    /// The columns that the join had. `there` is true where the right side has a row, if that is asked at all.
    fn columns(&self, there: Option<Expr>) -> DfResult<Vec<Expr>> {
        let left = self.join.left.schema();
        let mut columns: Vec<Expr> = left.columns().into_iter().map(Expr::Column).collect();
        for (at, (qualifier, field)) in self.join.right.schema().iter().enumerate() {
            let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            let of_none = self.pulled.of_none.as_ref().map(|values| &values[at]).filter(|value| !is_null(value));
            let lifted = self.pulled.lifted.get(&at);
            if lifted.is_none() && of_none.is_none() {
                columns.push(column);
                continue;
            }
            let value = over(lifted.cloned().unwrap_or(column), left)?;
            let value = match (&there, of_none) {
                (Some(there), Some(of_none)) => when(there.clone(), value).otherwise(over(of_none.clone(), left)?)?,
                (Some(there), None) => when(there.clone(), value).end()?,
                (None, _) => value,
            };
            // The type may be told by the field alone, which a CASE would lose.
            let metadata = (!field.metadata().is_empty()).then(|| FieldMetadata::new_from_field(field));
            columns.push(value.alias_qualified_with_metadata(qualifier.cloned(), field.name(), metadata));
        }
        Ok(columns)
    }
}

/// A left join whose condition is the subquery's: a left row is there for a condition that none satisfies as for a subquery without rows.
fn conditioned(join: &Join, condition: Expr, subquery: &LogicalPlan, alias: Option<&TableReference>) -> DfResult<Join> {
    let rows = correlation::conditioned(join, condition, subquery)?;
    let outer_ref_columns = rows.all_out_ref_exprs();
    let mut right = LogicalPlan::Subquery(Subquery { subquery: Arc::new(rows), outer_ref_columns, spans: Spans::new() });
    if let Some(alias) = alias {
        right = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(right), alias.clone())?);
    }
    Ok(Join { right: Arc::new(right), on: vec![], filter: None, ..join.clone() })
}

fn has_subquery(condition: &Expr) -> bool {
    condition.any(|e| subquery_of(e).is_some())
}

/// An expression whose outer columns are those of the left side, but for those of queries further out.
fn over(e: Expr, left: &DFSchema) -> DfResult<Expr> {
    let over = e.up(|e| match e {
        Expr::OuterReferenceColumn(_, column) if left.has_column(&column) => Ok(Transformed::yes(Expr::Column(column))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(over.data)
}

/// The subquery on the right of a lateral join, and its name.
fn lateral_of(right: &LogicalPlan) -> Option<(&LogicalPlan, Option<&TableReference>)> {
    match right {
        LogicalPlan::Subquery(subquery) => Some((subquery.subquery.as_ref(), None)),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some((subquery.subquery.as_ref(), Some(&alias.alias))),
            _ => None,
        },
        _ => None,
    }
}

fn is_null(e: &Expr) -> bool {
    matches!(e, Expr::Literal(value, _) if value.is_null())
}

/// Whether a subquery of the subquery may name columns of the left side.
fn is_named_within(subquery: &LogicalPlan, left: &DFSchema) -> DfResult<bool> {
    let mut named = false;
    subquery.each(|node| {
        node.each_own(|expr| {
            expr.each(|e| {
                if let Some(inner) = subquery_of(e) {
                    named |= names(inner, left)?;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(named)
}

fn names(plan: &LogicalPlan, left: &DFSchema) -> DfResult<bool> {
    let mut named = false;
    plan.each_with_subqueries(|node| {
        node.each_own(|expr| {
            named |= expr.any(|e| matches!(e, Expr::OuterReferenceColumn(_, column) if left.has_column(column)));
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(named)
}
