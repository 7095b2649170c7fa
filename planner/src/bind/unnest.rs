//! Joins with the elements of a row's own lists: `FROM t, UNNEST(t.list) AS u(x)` and kin. The binder makes them a join with a subquery that
//! names columns of its left side; as nothing but lists is read there, the left rows themselves are unnested, and no join is left.

use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result as DfResult, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, Projection, Unnest, lit, when};
use std::sync::Arc;

/// What the left side's columns are called on their way.
const CARRIED: &str = "__carried_";

pub fn rewrite(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let rewritten = plan.up_with_subqueries(|node| match &node {
        LogicalPlan::Join(join) => match unnested(join)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    });
    rewritten.map(|t| t.data)
}

fn unnested(join: &Join) -> DfResult<Option<LogicalPlan>> {
    let is_true = |e: &Expr| matches!(e, Expr::Literal(ScalarValue::Boolean(Some(true)), _));
    let condition = join.filter.as_ref().filter(|e| !is_true(e));
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left if condition.is_none() => true,
        _ => return Ok(None),
    };
    if !join.on.is_empty() || !has_unnest(&join.right) {
        return Ok(None);
    }
    let left = Carried { schema: join.left.schema(), outer };
    let names = (0..left.schema.fields().len()).zip(left.schema.columns());
    let renamed = names.map(|(i, column)| Expr::Column(column).alias(name(i))).collect();
    let base = LogicalPlan::Projection(Projection::try_new(renamed, join.left.clone())?);
    let Some(plan) = left.under(&join.right, base)? else { return Ok(None) };
    let exprs =
        left.schema.iter().enumerate().map(|(i, (qualifier, field))| left.column(i).alias_qualified(qualifier.cloned(), field.name()));
    let right = join.right.schema().columns().into_iter().map(Expr::Column);
    let plan = LogicalPlan::Projection(Projection::try_new(exprs.chain(right).collect(), Arc::new(plan))?);
    Ok(Some(match condition {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition.clone(), Arc::new(plan))?),
        None => plan,
    }))
}

fn has_unnest(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Unnest(_) => true,
        LogicalPlan::Projection(projection) => has_unnest(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_unnest(&alias.input),
        LogicalPlan::Subquery(subquery) => has_unnest(&subquery.subquery),
        _ => false,
    }
}

fn name(column: usize) -> String {
    format!("{CARRIED}{column}")
}

struct Carried<'a> {
    schema: &'a DFSchema,
    /// Rows without elements are there, with nulls.
    outer: bool,
}

impl Carried<'_> {
    fn column(&self, at: usize) -> Expr {
        Expr::Column(Column::new_unqualified(name(at)))
    }

    fn columns(&self) -> impl Iterator<Item = Expr> {
        (0..self.schema.fields().len()).map(|at| self.column(at))
    }

    /// The right side over `base` instead of its one row without columns; `None` if it reads anything else.
    fn under(&self, plan: &LogicalPlan, base: LogicalPlan) -> DfResult<Option<LogicalPlan>> {
        match plan {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => Ok(Some(base)),
            LogicalPlan::Subquery(subquery) => self.under(&subquery.subquery, base),
            LogicalPlan::SubqueryAlias(alias) => {
                let Some(input) = self.under(&alias.input, base)? else { return Ok(None) };
                let own = alias.input.schema().columns().into_iter().zip(alias.schema.iter());
                let own = own.map(|(column, (qualifier, field))| Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
                let exprs = self.columns().chain(own).collect();
                Ok(Some(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)))
            }
            LogicalPlan::Projection(projection) => {
                let Some(input) = self.under(&projection.input, base)? else { return Ok(None) };
                let mut exprs: Vec<Expr> = self.columns().collect();
                for e in &projection.expr {
                    match self.inner(e.clone())? {
                        Some(e) => exprs.push(e),
                        None => return Ok(None),
                    }
                }
                Ok(Some(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)))
            }
            LogicalPlan::Unnest(unnest) => {
                let Some(mut input) = self.under(&unnest.input, base)? else { return Ok(None) };
                if self.outer {
                    let Some(filled) = with_elements(&input, &unnest.exec_columns)? else { return Ok(None) };
                    input = filled;
                }
                let unnest = Unnest::try_new(Arc::new(input), unnest.exec_columns.clone(), unnest.options.clone())?;
                Ok(Some(LogicalPlan::Unnest(unnest)))
            }
            _ => Ok(None),
        }
    }

    /// An expression whose references to the left side are to columns that are carried.
    fn inner(&self, e: Expr) -> DfResult<Option<Expr>> {
        let mut known = true;
        let replaced = e.up(|e| match &e {
            Expr::OuterReferenceColumn(_, column) => match self.schema.maybe_index_of_column(column) {
                Some(at) => Ok(Transformed::yes(self.column(at))),
                None => {
                    known = false;
                    Ok(Transformed::no(e))
                }
            },
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
                known = false;
                Ok(Transformed::no(e))
            }
            _ => Ok(Transformed::no(e)),
        })?;
        Ok(known.then_some(replaced.data))
    }
}

/// Lists without elements get one that is null.
fn with_elements(plan: &LogicalPlan, lists: &[Column]) -> DfResult<Option<LogicalPlan>> {
    use datafusion::arrow::datatypes::DataType;
    let mut exprs = Vec::new();
    for (column, field) in plan.schema().columns().into_iter().zip(plan.schema().fields()) {
        let list = Expr::Column(column.clone());
        if !lists.iter().any(|l| l.name == column.name) {
            exprs.push(list);
            continue;
        }
        let DataType::List(element) = field.data_type() else { return Ok(None) };
        let null = ScalarValue::try_from(element.data_type())?;
        let nothing = Expr::Literal(ScalarValue::List(ScalarValue::new_list_nullable(&[null], element.data_type())), None);
        let length = ScalarFunction::new_udf(crate::functions::registry().udf("array_length")?, vec![list.clone()]);
        let length = Expr::Cast(Cast::new(Box::new(Expr::ScalarFunction(length)), DataType::Int64));
        let filled = when(length.gt(lit(0i64)), list).otherwise(nothing)?;
        exprs.push(filled.alias_qualified(column.relation, column.name));
    }
    Ok(Some(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan.clone()))?)))
}
