//! Which columns of a query are plain columns of a relation, as `RowDescription` tells: the relation's oid and the column's number. What is computed, and what several
//! queries of a union give, comes from nowhere; a column of a plain view comes from what the view reads.

use crate::catalog::relation_oid;
use crate::serving::RelationSource;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DFSchema, JoinType};
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use eddyline_common::postgres::types::ORIGINS_METADATA_KEY;
use eddyline_planner::plan;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// An oid and an attribute number.
type Origin = Option<(u32, usize)>;

/// The schema of the plan's rows, with the columns' origins noted in it.
pub fn noted(schema: SchemaRef, plan: &LogicalPlan) -> SchemaRef {
    let origins = origins(plan);
    if origins.len() != schema.fields().len() || origins.iter().all(Option::is_none) {
        return schema;
    }
    let mut text = String::new();
    for (table, column) in origins.into_iter().map(Option::unwrap_or_default) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{table}.{column} ");
    }
    let metadata = HashMap::from([(ORIGINS_METADATA_KEY.to_string(), text)]);
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata))
}

fn origins(plan: &LogicalPlan) -> Vec<Origin> {
    let found = match plan {
        LogicalPlan::Projection(p) => each(&p.expr, &p.input),
        LogicalPlan::Aggregate(a) => [each(&a.group_expr, &a.input), vec![None; a.aggr_expr.len()]].concat(),
        LogicalPlan::Window(w) => [origins(&w.input), vec![None; w.window_expr.len()]].concat(),
        LogicalPlan::Filter(f) => origins(&f.input),
        LogicalPlan::Sort(s) => origins(&s.input),
        LogicalPlan::Limit(l) => origins(&l.input),
        LogicalPlan::SubqueryAlias(s) => origins(&s.input),
        LogicalPlan::Distinct(Distinct::All(input)) => origins(input),
        LogicalPlan::Distinct(Distinct::On(on)) => each(&on.select_expr, &on.input),
        LogicalPlan::Join(j) => match j.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => origins(&j.left),
            JoinType::RightSemi | JoinType::RightAnti => origins(&j.right),
            _ => [origins(&j.left), origins(&j.right)].concat(),
        },
        LogicalPlan::TableScan(scan) => of_scan(scan),
        _ => Vec::new(),
    };
    // Grouping sets and marker joins have columns that no expression of theirs stands for.
    let width = plan.schema().fields().len();
    if found.len() == width { found } else { vec![None; width] }
}

fn each(exprs: &[Expr], input: &LogicalPlan) -> Vec<Origin> {
    let known = origins(input);
    exprs.iter().map(|e| of_expr(e, input.schema(), &known)).collect()
}

fn of_expr(expr: &Expr, schema: &DFSchema, known: &[Origin]) -> Origin {
    match expr {
        Expr::Alias(alias) => of_expr(&alias.expr, schema, known),
        Expr::Column(column) => known[schema.maybe_index_of_column(column)?],
        _ => None,
    }
}

/// Queries see a relation's visible columns, of which some are computed.
fn of_scan(scan: &TableScan) -> Vec<Origin> {
    let Some(source) = scan.source.downcast_ref::<RelationSource>() else { return Vec::new() };
    let relation = source.relation();
    let mut stored: Vec<Origin> = vec![None; relation.columns.len()];
    for (at, visible) in relation.visible.iter().enumerate() {
        if let plan::Expr::Column(column) = &visible.value
            && let Some(origin) = stored.get_mut(*column)
        {
            origin.get_or_insert((relation_oid(relation.id), at + 1));
        }
    }
    match &scan.projection {
        Some(columns) => columns.iter().map(|column| stored.get(*column).copied().flatten()).collect(),
        None => stored,
    }
}
