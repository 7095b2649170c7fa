//! INTERSECT and EXCEPT as grouping: rows of both sides, tagged with the side they are of, are grouped by all their columns, and a
//! group is kept by which sides it has rows of. Equal rows of ALL are told apart by a number first. So nulls equal each other, ALL
//! counts as SQL says (DataFusion's own plan is a semi join, which does not), and a view needs no operator of its own. In a view's subquery of which one side alone names the query around, that
//! semi join stays where it says the same: grouped, the other side would be there for each row around.

use super::Mode;
use crate::functions::registry;
use crate::walk::WalkPlan;
use datafusion::arrow::datatypes::DataType;
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
pub fn rewrite(plan: LogicalPlan, mode: Mode) -> DfResult<LogicalPlan> {
    let plan = plan.up_with_subqueries(|node| match &node {
        LogicalPlan::Join(join) if is_set_operation(join) => match of_one_side(join, mode)? {
            Some(joined) => Ok(Transformed::yes(joined)),
            None => Ok(Transformed::yes(grouped(join)?)),
        },
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(plan.data)
}

/// A semi or anti join of distinct rows that name the query around with rows that do not.
fn of_one_side(join: &Join, mode: Mode) -> DfResult<Option<LogicalPlan>> {
    let LogicalPlan::Distinct(Distinct::All(left)) = join.left.as_ref() else { return Ok(None) };
    let is_named = |side: &LogicalPlan| !side.all_out_ref_exprs().is_empty();
    Ok(match (mode, is_named(left), is_named(&join.right)) {
        (Mode::Streaming, true, false) => Some(LogicalPlan::Join(join.clone())),
        (Mode::Streaming, false, true) if join.join_type == JoinType::LeftSemi => Some(turned(join, left)?),
        _ => None,
    })
}

/// INTERSECT with its sides the other way around.
fn turned(join: &Join, left: &Arc<LogicalPlan>) -> DfResult<LogicalPlan> {
    let rows = Arc::new(LogicalPlan::Distinct(Distinct::All(join.right.clone())));
    let on = join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect();
    let (constraint, nulls) = (join.join_constraint, join.null_equality);
    let found = Join::try_new(rows, left.clone(), on, None, JoinType::LeftSemi, constraint, nulls, false)?;
    let columns = found.schema.columns().into_iter().zip(found.schema.fields()).zip(join.schema.iter());
    let columns: Vec<Expr> = columns
        .map(|((column, found), (qualifier, field))| {
            as_type(Expr::Column(column), found.data_type(), field.data_type()).alias_qualified(qualifier.cloned(), field.name())
        })
        .collect();
    LogicalPlanBuilder::from(LogicalPlan::Join(found)).project(columns)?.build()
}

fn as_type(value: Expr, ty: &DataType, wanted: &DataType) -> Expr {
    if ty == wanted { value } else { Expr::Cast(Cast::new(Box::new(value), wanted.clone())) }
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
        let column =
            |(i, column): (usize, Column)| as_type(Expr::Column(column), fields[i].data_type(), &types[i]).alias(format!("{COLUMN}{i}"));
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
        // What is kept is a row of the left side, so it fits.
        as_type(named(&format!("{COLUMN}{i}")), ty, field.data_type()).alias_qualified(qualifier.cloned(), field.name())
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
