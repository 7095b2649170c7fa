//! Subqueries that stand for a value. DataFusion makes joins of them, in which several rows of a subquery would each make a row. So one that may have several
//! becomes a list of them, and what names it takes the value out of the list: where there are several, that fails (21000), for the row that asks and as
//! long as it is so. Correlated by anything but equalities there is no such list, and the subquery is refused later.

use crate::bind::RelationSource;
use crate::functions::checked::rewrite_expressions;
use crate::functions::{FEW_ROWS, ONLY_ROW, registry};
use crate::optimize::correlation::{Place, misread};
use crate::walk::Walk;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, ExprSchemable, FetchType, LogicalPlan, Operator, Subquery, TableScan};
use std::collections::HashSet;
use std::sync::Arc;

pub fn with_one_row(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    rewrite_expressions(plan, &|expr, _| {
        expr.up(|e| match e {
            Expr::ScalarSubquery(subquery) if may_have_several(&subquery)? => Ok(Transformed::yes(only_row(subquery)?)),
            other => Ok(Transformed::no(other)),
        })
    })
}

fn may_have_several(subquery: &Subquery) -> DfResult<bool> {
    let plan = subquery.subquery.as_ref();
    if subquery.outer_ref_columns.is_empty() {
        return Ok(!has_one_row(plan, &HashSet::new()));
    }
    // Of correlated ones DataFusion joins an aggregate alone. What has a row of no rows below another node would lose it in a list.
    Ok(!is_one_group(plan) && misread(plan, Place::Tested)?.is_none())
}

/// Whether nothing but a condition and a choice of columns is above an aggregate without GROUP BY.
fn is_one_group(plan: &LogicalPlan) -> bool {
    let one_group = |plan: &LogicalPlan| matches!(plan, LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty());
    match plan {
        LogicalPlan::Projection(projection) => is_one_group(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_one_group(&alias.input),
        LogicalPlan::Filter(filter) => one_group(&filter.input),
        other => one_group(other),
    }
}

fn only_row(subquery: Subquery) -> DfResult<Expr> {
    only(Expr::ScalarSubquery(list_of(subquery)?))
}

/// The subquery of which the one row is a list of a subquery's values, two at most.
pub(super) fn list_of(subquery: Subquery) -> DfResult<Subquery> {
    let Subquery { subquery: rows, outer_ref_columns, spans } = subquery;
    let value = Expr::Column(Column::from(rows.schema().qualified_field(0)));
    let few = Aggregate::try_new(rows, vec![], vec![registry().udaf(FEW_ROWS)?.call(vec![value])])?;
    Ok(Subquery { subquery: Arc::new(LogicalPlan::Aggregate(few)), outer_ref_columns, spans })
}

/// The value out of such a list.
pub(super) fn only(list: Expr) -> DfResult<Expr> {
    Ok(registry().udf(ONLY_ROW)?.call(vec![list]))
}

/// Whether a plan never has more than one row in which the columns `fixed` have given values.
pub(super) fn has_one_row(plan: &LogicalPlan, fixed: &HashSet<Column>) -> bool {
    let is_fixed = |e: &Expr| matches!(e, Expr::Column(column) if fixed.contains(column));
    match plan {
        LogicalPlan::Projection(projection) => {
            let outputs = projection.schema.columns().into_iter().zip(&projection.expr);
            let outputs = outputs.filter(|(output, _)| fixed.contains(output));
            let inputs: HashSet<Column> = outputs.filter_map(|(_, e)| e.try_as_col().cloned()).collect();
            has_one_row(&projection.input, &inputs)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let columns = alias.schema.columns().into_iter().zip(alias.input.schema().columns());
            let inputs: HashSet<Column> = columns.filter(|(output, _)| fixed.contains(output)).map(|(_, input)| input).collect();
            has_one_row(&alias.input, &inputs)
        }
        LogicalPlan::Filter(filter) => {
            let mut fixed = fixed.clone();
            fixed.extend(split_conjunction(&filter.predicate).into_iter().filter_map(|e| fixed_by(e, &filter.input)));
            has_one_row(&filter.input, &fixed)
        }
        LogicalPlan::Limit(limit) => {
            matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1)))) || has_one_row(&limit.input, fixed)
        }
        LogicalPlan::Aggregate(Aggregate { group_expr, .. }) => group_expr.iter().all(is_fixed),
        LogicalPlan::Distinct(Distinct::All(input)) => has_one_row(input, fixed),
        LogicalPlan::Sort(sort) => has_one_row(&sort.input, fixed),
        LogicalPlan::TableScan(scan) => has_key(scan, fixed),
        LogicalPlan::Values(values) => values.values.len() <= 1,
        LogicalPlan::EmptyRelation(_) => true,
        _ => false,
    }
}

/// The column that a condition holds equal to what is the same for all rows. A comparison of other types than one may take several values for equal.
fn fixed_by(condition: &Expr, input: &LogicalPlan) -> Option<Column> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let schema: &DFSchema = input.schema();
    let varies =
        |e: &Expr| matches!(e, Expr::Column(_) | Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)) || e.is_volatile_node();
    let of = |column: &Expr, value: &Expr| {
        let (column_type, value_type) = (column.get_type(schema).ok()?, value.get_type(schema).ok()?);
        let exact = column_type == value_type || column_type.is_integer() && value_type.is_integer();
        column.try_as_col().filter(|_| exact && !value.any(varies)).cloned()
    };
    of(left, right).or_else(|| of(right, left))
}

/// Whether the whole key of what is read is among the columns.
fn has_key(scan: &TableScan, fixed: &HashSet<Column>) -> bool {
    let Some(source) = scan.source.downcast_ref::<RelationSource>() else { return false };
    let key = &source.relation.key;
    let place = |stored: usize| match &scan.projection {
        Some(columns) => columns.iter().position(|column| *column == stored),
        None => Some(stored),
    };
    let is_fixed =
        |stored: &usize| place(*stored).is_some_and(|at| fixed.contains(&Column::from(scan.projected_schema.qualified_field(at))));
    !key.is_empty() && key.iter().all(is_fixed)
}
