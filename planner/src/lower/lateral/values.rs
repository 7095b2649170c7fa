//! Correlated subqueries that stand for a value, as LATERAL ones: a left join with what is one row at most; and those that are tested for rows, which keep the rows that have one or those that
//! have none, and elsewhere are a value. They are those that DataFusion makes no join of, or another one: with a LIMIT, over columns of one name, correlated beneath an alias or a join, to several
//! queries around, or compared by what is computed or cast, where values that are equal to it may differ. Others are left to it. It does not know how a lateral subquery becomes a join.

use super::pulled::Puller;
use super::{domain, over};
use crate::bind::{has_rows, rows_equal_to};
use crate::lower::one_row::{has_one_row, list_of, only};
use crate::optimize::correlation::{Place, misread};
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, JoinType, NullEquality, Result as DfResult, TableReference};
use datafusion::logical_expr::expr::{BinaryExpr, Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, Join, JoinConstraint, LogicalPlan, Operator, Projection, Subquery, SubqueryAlias, lit, not,
};
use std::collections::HashSet;
use std::sync::Arc;

/// A filter or projection with such subqueries joined to what it is over.
pub(super) fn joined(node: &LogicalPlan, puller: &mut Puller) -> DfResult<Option<LogicalPlan>> {
    let (LogicalPlan::Filter(Filter { input, .. }) | LogicalPlan::Projection(Projection { input, .. })) = node else { return Ok(None) };
    if !has_subquery(node)? {
        return Ok(None);
    }
    let mut values = Values { input: input.clone(), rows: input.clone(), puller, joined: false };
    let exprs = match node {
        LogicalPlan::Filter(filter) => values.conditions(&filter.predicate)?,
        _ => {
            let names = NamePreserver::new(node);
            let named = node.expressions().into_iter().map(|expr| (names.save(&expr), expr));
            named.map(|(name, expr)| Ok(name.restore(values.taken(expr)?))).collect::<DfResult<Vec<_>>>()?
        }
    };
    if !values.joined {
        return Ok(None);
    }
    let (plan, exprs) = match node {
        LogicalPlan::Filter(_) => {
            let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
            let plan = match conjunction(exprs) {
                Some(predicate) => Arc::new(LogicalPlan::Filter(Filter::try_new(predicate, values.rows)?)),
                None => values.rows,
            };
            (plan, columns)
        }
        _ => (values.rows, exprs),
    };
    Ok(Some(LogicalPlan::Projection(Projection::try_new(exprs, plan)?)))
}

fn has_subquery(node: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    node.each_own(|expr| {
        found |= expr.any(|e| matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

struct Values<'a> {
    /// The rows that name the values.
    input: Arc<LogicalPlan>,
    /// The same, joined with the values so far.
    rows: Arc<LogicalPlan>,
    puller: &'a mut Puller,
    joined: bool,
}

impl Values<'_> {
    /// What is left of a condition.
    fn conditions(&mut self, predicate: &Expr) -> DfResult<Vec<Expr>> {
        let mut left = Vec::new();
        for condition in split_conjunction(predicate) {
            let is_tested = match self.test_of(condition)? {
                Some(test) => self.tested(&test)?,
                None => false,
            };
            if !is_tested {
                left.push(self.taken(condition.clone())?);
            }
        }
        Ok(left)
    }

    /// The test for rows that a condition is, unless DataFusion joins it as it should.
    fn test_of(&self, condition: &Expr) -> DfResult<Option<Exists>> {
        let schema = self.rows.schema();
        Ok(match condition {
            Expr::Not(inner) => match self.test_of(inner)? {
                Some(test) if matches!(inner.as_ref(), Expr::Exists(_)) => Some(Exists { negated: !test.negated, ..test }),
                _ => None,
            },
            Expr::Exists(exists) if !is_plain(&exists.subquery, Place::Tested, schema)? => Some(exists.clone()),
            Expr::InSubquery(within) if !is_plain_in(within, schema)? => rows_equal_to(condition, schema)?,
            _ => None,
        })
    }

    /// Keeps the rows that pass a test, if it can be joined.
    fn tested(&mut self, test: &Exists) -> DfResult<bool> {
        let subquery = test.subquery.subquery.as_ref();
        if super::is_named_within(subquery, self.rows.schema())? {
            return Ok(false);
        }
        let pulled = match self.puller.pull(subquery)?.filter(|pulled| pulled.of_none.is_none()) {
            Some(pulled) => Some(pulled),
            None => domain::pull(&self.named(subquery), subquery, self.puller)?,
        };
        let Some(pulled) = pulled else { return Ok(false) };
        let pulled = pulled.aliased(&TableReference::bare(self.puller.column().name))?;
        let mut conditions = Vec::new();
        for condition in pulled.conditions {
            conditions.push(over(condition, self.rows.schema())?);
        }
        let condition = conjunction(conditions).or_else(|| Some(lit(true)));
        let kind = if test.negated { JoinType::LeftAnti } else { JoinType::LeftSemi };
        let nulls = NullEquality::NullEqualsNothing;
        let join = Join::try_new(self.rows.clone(), Arc::new(pulled.plan), vec![], condition, kind, JoinConstraint::On, nulls, false)?;
        self.rows = Arc::new(LogicalPlan::Join(join));
        self.joined = true;
        Ok(true)
    }

    /// Where the values come from that a subquery names: from the rows without what is joined to them if it can be, else every value would double the plan.
    fn named(&self, subquery: &LogicalPlan) -> Arc<LogicalPlan> {
        let (input, rows) = (self.input.schema(), self.rows.schema());
        let is_joined =
            |e: &Expr| matches!(e, Expr::OuterReferenceColumn(_, column) if rows.has_column(column) && !input.has_column(column));
        let outer = subquery.all_out_ref_exprs();
        if outer.iter().any(is_joined) { self.rows.clone() } else { self.input.clone() }
    }

    /// An expression with columns in the places of subqueries.
    fn taken(&mut self, expr: Expr) -> DfResult<Expr> {
        let taken = expr.up(|e| {
            if let Expr::ScalarSubquery(subquery) = &e {
                let is_plain = is_plain(subquery, Place::Scalar, self.rows.schema())?;
                return if is_plain { Ok(Transformed::no(e)) } else { self.value(subquery.clone()).map(Transformed::yes) };
            }
            let test = self.test_of(&e)?.filter(|_| matches!(e, Expr::Exists(_) | Expr::InSubquery(InSubquery { negated: false, .. })));
            let Some(test) = test else { return Ok(Transformed::no(e)) };
            let Expr::ScalarSubquery(counted) = has_rows(&test.subquery)? else { return Ok(Transformed::no(e)) };
            let any = self.value(counted)?;
            Ok(Transformed::yes(if test.negated { not(any) } else { any }))
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
        let rows = self.named(&right);
        let join = Join::try_new(self.rows.clone(), right, vec![], None, kind, JoinConstraint::On, nulls, false)?;
        let Some(plan) = super::joined(&join, &rows, self.puller)? else { return Ok(None) };
        self.rows = Arc::new(plan);
        self.joined = true;
        Ok(Some(column))
    }
}

/// Whether DataFusion joins the subquery as it should, if at all.
fn is_plain(subquery: &Subquery, place: Place, around: &DFSchema) -> DfResult<bool> {
    let plan = subquery.subquery.as_ref();
    let outer = plan.all_out_ref_exprs();
    if outer.is_empty() {
        return Ok(true);
    }
    let is_near = |e: &Expr| matches!(e, Expr::OuterReferenceColumn(_, column) if around.has_column(column));
    let is_plain_within = |node: &LogicalPlan| node.inputs().iter().all(|input| input.all_out_ref_exprs().is_empty());
    let mut plain = outer.iter().all(is_near) && misread(plan, place)?.is_none();
    plan.each(|node| {
        match node {
            // That there are rows is not changed by it.
            LogicalPlan::Limit(_) if place == Place::Tested && std::ptr::eq(node, plan) => {}
            LogicalPlan::Limit(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Union(_) => plain &= is_plain_within(node),
            LogicalPlan::Join(_) => plain &= is_plain_within(node) && !node.contains_outer_reference(),
            LogicalPlan::Filter(filter) if place == Place::Scalar => {
                let mut correlated = split_conjunction(&filter.predicate).into_iter().filter(|e| e.contains_outer());
                plain &= correlated.all(|e| compares_columns(e, filter.input.schema()));
            }
            LogicalPlan::Filter(_) => {}
            _ => plain &= !node.contains_outer_reference(),
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(plain)
}

/// The same of `IN (query)`, where a LIMIT says which rows are looked at. NOT IN DataFusion joins of uncorrelated ones alone; and a column that it casts for the
/// comparison has the name of the one that the subquery is correlated by.
fn is_plain_in(within: &InSubquery, around: &DFSchema) -> DfResult<bool> {
    let query = &within.subquery.subquery;
    let is_correlated = !query.all_out_ref_exprs().is_empty();
    let is_cast = is_correlated && within.expr.get_type(around)? != *query.schema().field(0).data_type();
    let is_other = within.negated || is_cast || matches!(query.as_ref(), LogicalPlan::Limit(_));
    Ok(!(is_correlated && is_other) && is_plain(&within.subquery, Place::Tested, around)?)
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
