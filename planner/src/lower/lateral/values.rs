//! Correlated subqueries that stand for a value, as LATERAL ones: a left join with what is one row at most. They are those that DataFusion makes no join of, or another one: with a
//! LIMIT, over columns of one name, correlated beneath an alias, or compared by what is computed or cast, where values that are equal to it may differ. Others are left to it. It does not
//! know how a lateral subquery becomes a join.

use super::pulled::Puller;
use crate::lower::one_row::{has_one_row, list_of, only};
use crate::optimize::correlation::{Place, misread};
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, JoinType, NullEquality, Result as DfResult, TableReference};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, Join, JoinConstraint, LogicalPlan, Operator, Projection, Subquery, SubqueryAlias};
use std::collections::HashSet;
use std::sync::Arc;

/// A filter or projection with such subqueries joined to what it is over.
pub(super) fn joined(node: &LogicalPlan, puller: &mut Puller) -> DfResult<Option<LogicalPlan>> {
    let (LogicalPlan::Filter(Filter { input, .. }) | LogicalPlan::Projection(Projection { input, .. })) = node else { return Ok(None) };
    if !has_subquery(node)? {
        return Ok(None);
    }
    let names = NamePreserver::new(node);
    let mut values = Values { rows: input.clone(), puller, joined: false };
    let mut exprs = Vec::new();
    for expr in node.expressions() {
        let name = names.save(&expr);
        exprs.push(name.restore(values.taken(expr)?));
    }
    if !values.joined {
        return Ok(None);
    }
    let (plan, exprs) = match node {
        LogicalPlan::Filter(_) => match conjunction(exprs) {
            Some(predicate) => {
                let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
                (LogicalPlan::Filter(Filter::try_new(predicate, values.rows)?), columns)
            }
            None => return Ok(None),
        },
        _ => (Arc::unwrap_or_clone(values.rows), exprs),
    };
    Ok(Some(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?)))
}

fn has_subquery(node: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    node.each_own(|expr| {
        found |= expr.any(|e| matches!(e, Expr::ScalarSubquery(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

struct Values<'a> {
    /// The rows that name the values, joined with those so far.
    rows: Arc<LogicalPlan>,
    puller: &'a mut Puller,
    joined: bool,
}

impl Values<'_> {
    /// An expression with columns in the places of subqueries.
    fn taken(&mut self, expr: Expr) -> DfResult<Expr> {
        let taken = expr.up(|e| match e {
            Expr::ScalarSubquery(subquery) if !is_plain(&subquery)? => Ok(Transformed::yes(self.value(subquery)?)),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(taken.data)
    }

    fn value(&mut self, subquery: Subquery) -> DfResult<Expr> {
        if has_one_row(&subquery.subquery, &HashSet::new()) {
            return Ok(self.column(subquery.clone())?.unwrap_or(Expr::ScalarSubquery(subquery)));
        }
        match self.column(list_of(subquery.clone())?)? {
            Some(list) => only(list),
            None => Ok(Expr::ScalarSubquery(subquery)),
        }
    }

    /// The column that a subquery's value is, joined.
    fn column(&mut self, subquery: Subquery) -> DfResult<Option<Expr>> {
        let alias = TableReference::bare(self.puller.column().name);
        let right = SubqueryAlias::try_new(Arc::new(LogicalPlan::Subquery(subquery)), alias)?;
        let column = Expr::Column(Column::from(right.schema.qualified_field(0)));
        let right = Arc::new(LogicalPlan::SubqueryAlias(right));
        let (kind, nulls) = (JoinType::Left, NullEquality::NullEqualsNothing);
        let join = Join::try_new(self.rows.clone(), right, vec![], None, kind, JoinConstraint::On, nulls, false)?;
        let Some(plan) = super::joined(&join, self.puller)? else { return Ok(None) };
        self.rows = Arc::new(plan);
        self.joined = true;
        Ok(Some(column))
    }
}

/// Whether DataFusion joins the subquery as it should, if at all.
fn is_plain(subquery: &Subquery) -> DfResult<bool> {
    if subquery.outer_ref_columns.is_empty() {
        return Ok(true);
    }
    let mut plain = misread(&subquery.subquery, Place::Scalar)?.is_none();
    subquery.subquery.each(|node| {
        match node {
            LogicalPlan::Limit(limit) => plain &= limit.input.all_out_ref_exprs().is_empty(),
            LogicalPlan::SubqueryAlias(alias) => plain &= alias.input.all_out_ref_exprs().is_empty(),
            LogicalPlan::Filter(filter) => {
                let mut correlated = split_conjunction(&filter.predicate).into_iter().filter(|e| e.contains_outer());
                plain &= correlated.all(|e| compares_columns(e, filter.input.schema()));
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(plain)
}

/// Whether a condition holds a column equal to one of the row around, of the same type.
fn compares_columns(condition: &Expr, schema: &DFSchema) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return false };
    let same = |own: &Expr, outer: &Expr| match (own, outer) {
        (Expr::Column(own), Expr::OuterReferenceColumn(outer, _)) => {
            schema.field_from_column(own).is_ok_and(|own| own.data_type() == outer.data_type())
        }
        _ => false,
    };
    same(left, right) || same(right, left)
}
