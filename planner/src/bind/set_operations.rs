//! INTERSECT and EXCEPT as grouping: rows of both sides, tagged with the side they are of, are grouped by all their columns, and a
//! group is kept by which sides it has rows of. Equal rows of ALL are told apart by a number first. So nulls equal each other, ALL
//! counts as SQL says (DataFusion's own plan is a semi join, which does not), and a view needs no operator of its own.

use crate::functions::registry;
use crate::walk::WalkPlan;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DataFusionError, JoinType, NullEquality, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{Cast, Distinct, Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder, lit};
use std::sync::Arc;

const COLUMN: &str = "__set_";
const LEFT: &str = "__set_left";
const RIGHT: &str = "__set_right";

/// Replaces every set operation of a bound plan.
pub fn rewrite(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let plan = plan.up_with_subqueries(|node| match &node {
        LogicalPlan::Join(join) if is_set_operation(join) => Ok(Transformed::yes(grouped(join)?)),
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(plan.data)
}

/// The join that the binder makes of a set operation; nothing that a user writes becomes one like it.
pub fn is_set_operation(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && join.on.len() == join.left.schema().fields().len()
}

fn grouped(join: &Join) -> DfResult<LogicalPlan> {
    let except = join.join_type == JoinType::LeftAnti;
    // Rows that are distinct anyway need no numbers.
    let all = !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)));
    let left = match join.left.as_ref() {
        LogicalPlan::Distinct(Distinct::All(input)) => input,
        _ => &join.left,
    };
    let schema = join.left.schema();
    let types = schema
        .fields()
        .iter()
        .zip(join.right.schema().fields())
        .map(|(l, r)| {
            let message = || DataFusionError::Plan(format!("{} and {} cannot be matched in a set operation", l.data_type(), r.data_type()));
            comparison_coercion(l.data_type(), r.data_type()).ok_or_else(message)
        })
        .collect::<DfResult<Vec<_>>>()?;
    let side = |plan: &Arc<LogicalPlan>, is_left: bool| -> DfResult<LogicalPlan> {
        let fields = plan.schema().fields().clone();
        let column = |(i, column): (usize, Column)| {
            let same = fields[i].data_type() == &types[i];
            let value = Expr::Column(column);
            let value = if same { value } else { Expr::Cast(Cast::new(Box::new(value), types[i].clone())) };
            value.alias(format!("{COLUMN}{i}"))
        };
        let mut exprs: Vec<Expr> = plan.schema().columns().into_iter().enumerate().map(column).collect();
        exprs.push(lit(is_left as i64).alias(LEFT));
        exprs.push(lit(!is_left as i64).alias(RIGHT));
        let rows = LogicalPlanBuilder::from(plan.clone()).project(exprs)?;
        if all { numbered(rows, types.len())?.build() } else { rows.build() }
    };
    let columns: Vec<Expr> = (0..types.len() + all as usize).map(|i| named(&format!("{COLUMN}{i}"))).collect();
    let sum = |column: &str| -> DfResult<Expr> {
        let call = AggregateFunction::new_udf(registry().udaf("sum")?, vec![named(column)], false, None, vec![], None);
        Ok(Expr::AggregateFunction(call).alias(format!("{column}_rows")))
    };
    let rows = |column: &str| named(&format!("{column}_rows"));
    let of_right = if except { rows(RIGHT).eq(lit(0i64)) } else { rows(RIGHT).gt(lit(0i64)) };
    let output = schema.iter().zip(&types).enumerate().map(|(i, ((qualifier, field), ty))| {
        let value = named(&format!("{COLUMN}{i}"));
        // What is kept is a row of the left side, so it fits.
        let value = if ty == field.data_type() { value } else { Expr::Cast(Cast::new(Box::new(value), field.data_type().clone())) };
        value.alias_qualified(qualifier.cloned(), field.name())
    });
    LogicalPlanBuilder::from(side(left, true)?)
        .union(side(&join.right, false)?)?
        .aggregate(columns, vec![sum(LEFT)?, sum(RIGHT)?])?
        .filter(rows(LEFT).gt(lit(0i64)).and(of_right))?
        .project(output.collect::<Vec<_>>())?
        .build()
}

/// Numbers equal rows; the number is one more column.
fn numbered(rows: LogicalPlanBuilder, width: usize) -> DfResult<LogicalPlanBuilder> {
    let columns: Vec<Expr> = (0..width).map(|i| named(&format!("{COLUMN}{i}"))).collect();
    let number = Expr::from(WindowFunction::new(registry().udwf("row_number")?, vec![])).partition_by(columns.clone()).build()?;
    let name = number.schema_name().to_string();
    let numbered = named(&name).alias(format!("{COLUMN}{width}"));
    rows.window(vec![number])?.project(columns.into_iter().chain([numbered, named(LEFT), named(RIGHT)]).collect::<Vec<_>>())
}

fn named(column: &str) -> Expr {
    Expr::Column(Column::new_unqualified(column))
}
