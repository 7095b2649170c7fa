//! `IN (query)` where it counts that it may not be known. DataFusion makes joins of it that know true and false alone. That is right for IN between the ANDs of a
//! condition, and beneath its ORs, where false is as good as unknown; for NOT IN it is right between ANDs, of a value of the row and uncorrelated.
//! Everywhere else the value becomes subqueries that count. It does not know what becomes of those.

use crate::functions::checked::schema_of_inputs;
use crate::functions::registry;
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, Result as DfResult, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{BinaryExpr, Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, Filter, LogicalPlan, Operator, Projection, Subquery, lit, when};
use std::sync::Arc;

/// What a query's column is called where values are compared with it: a value around may be of a column that is called as it was.
const AMONG: &str = "__among";

pub fn in_plan(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let rewritten = plan.up_with_subqueries(|node| {
        if !has_any(&node)? {
            return Ok(Transformed::no(node));
        }
        let schema = schema_of_inputs(&node)?;
        match node {
            LogicalPlan::Filter(Filter { predicate, input, .. }) => {
                let predicate = condition(predicate, true, &schema)?;
                Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
            }
            // What is said of one side goes below the join, and is a condition there.
            LogicalPlan::Join(_) => Ok(Transformed::no(node)),
            other => {
                let names = NamePreserver::new(&other);
                other.map_own(|expr| {
                    let name = names.save(&expr);
                    Ok(valued(expr, &schema)?.update_data(|e| name.restore(e)))
                })
            }
        }
    });
    rewritten.map(|t| t.data)
}

fn has_any(node: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    node.each_own(|expr| {
        found |= expr.any(|e| matches!(e, Expr::InSubquery(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// A condition that a row must satisfy; `alone`: nothing but ANDs are around it.
fn condition(expr: Expr, alone: bool, schema: &DFSchema) -> DfResult<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if matches!(op, Operator::And | Operator::Or) => {
            let alone = alone && op == Operator::And;
            let (left, right) = (condition(*left, alone, schema)?, condition(*right, alone, schema)?);
            Ok(Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) }))
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(within) => within_condition(InSubquery { negated: !within.negated, ..within }, alone, schema),
            other => Ok(valued(Expr::Not(Box::new(other)), schema)?.data),
        },
        Expr::InSubquery(within) => within_condition(within, alone, schema),
        other => Ok(valued(other, schema)?.data),
    }
}

fn within_condition(within: InSubquery, alone: bool, schema: &DFSchema) -> DfResult<Expr> {
    let InSubquery { expr, subquery, negated } = &within;
    let is_joined = !negated || alone && subquery.outer_ref_columns.is_empty() && expr.any_column_refs();
    if is_joined {
        return Ok(Expr::InSubquery(within));
    }
    let has_limit = subquery.subquery.any(|node| matches!(node, LogicalPlan::Limit(_)));
    if has_limit || may_be_null(expr, schema) || may_be_null_within(subquery) {
        return value(within, schema);
    }
    let matching = Filter::try_new(equality(expr, schema)?, renamed(subquery)?)?;
    Ok(Expr::Exists(Exists { subquery: correlated(LogicalPlan::Filter(matching), subquery), negated: true }))
}

/// An expression without `IN (query)`.
fn valued(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    expr.up(|e| match e {
        Expr::InSubquery(within) => value(within, schema).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })
}

/// Whether the value is among those of the query; NULL where that is not known.
fn value(within: InSubquery, schema: &DFSchema) -> DfResult<Expr> {
    let InSubquery { expr, subquery, negated } = within;
    let unknown = || lit(ScalarValue::Boolean(None));
    let mut case = when(has_rows(&subquery, Some(equality(&expr, schema)?))?, lit(!negated));
    if may_be_null(&expr, schema) {
        case = case.when(expr.is_null().and(has_rows(&subquery, None)?), unknown());
    }
    if may_be_null_within(&subquery) {
        case = case.when(has_rows(&subquery, Some(among().is_null()))?, unknown());
    }
    case.otherwise(lit(negated))
}

/// What cannot be typed is reported later, with its place.
fn may_be_null(e: &Expr, schema: &DFSchema) -> bool {
    e.nullable(schema).unwrap_or(true)
}

fn may_be_null_within(subquery: &Subquery) -> bool {
    subquery.subquery.schema().field(0).is_nullable()
}

fn among() -> Expr {
    Expr::Column(Column::new_unqualified(AMONG))
}

/// The query with its column renamed.
fn renamed(query: &Subquery) -> DfResult<Arc<LogicalPlan>> {
    let column = Expr::Column(Column::from(query.subquery.schema().qualified_field(0)));
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(vec![column.alias(AMONG)], query.subquery.clone())?)))
}

/// Whether a value of the row around is the query's.
fn equality(value: &Expr, schema: &DFSchema) -> DfResult<Expr> {
    let outer = value.clone().up(|e| match e {
        Expr::Column(column) => {
            let field = schema.field_from_column(&column)?.clone();
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(outer.data.eq(among()))
}

/// Whether the query has rows, or such rows: the number of them is asked for.
fn has_rows(query: &Subquery, condition: Option<Expr>) -> DfResult<Expr> {
    let rows = match condition {
        Some(condition) => Arc::new(LogicalPlan::Filter(Filter::try_new(condition, renamed(query)?)?)),
        None => query.subquery.clone(),
    };
    let counted = Aggregate::try_new(rows, vec![], vec![registry().udaf("count")?.call(vec![lit(1i64)])])?;
    let any = Expr::Column(Column::from(counted.schema.qualified_field(0))).gt(lit(0i64));
    let counted = Projection::try_new(vec![any], Arc::new(LogicalPlan::Aggregate(counted)))?;
    Ok(Expr::ScalarSubquery(correlated(LogicalPlan::Projection(counted), query)))
}

/// A plan in the place of a subquery.
fn correlated(plan: LogicalPlan, of: &Subquery) -> Subquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: of.spans.clone() }
}
