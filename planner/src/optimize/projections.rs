//! DataFusion's pruning of columns, but for what it gets wrong: of two projections one over the other whose expressions are the same it leaves one out, though `v + 1 AS v` of what is
//! `v + 1 AS v` itself is another value. So a projection below another one gives nothing that it computes the name of what it reads; then the same expressions are the same values.

use super::corrected::{Corrected, Correction};
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::collections::HashSet;
use std::sync::Arc;

/// In the place of DataFusion's rule.
pub type Projections = Corrected<OptimizeProjections>;

impl Correction for OptimizeProjections {
    fn corrected(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let mut name = || config.alias_generator().next("__computed");
        let named = plan.up_with_subqueries(|node| named_apart(node, &mut name))?;
        let pruned = self.rewrite(named.data, config)?;
        Ok(Transformed::new_transformed(pruned.data, named.transformed || pruned.transformed))
    }
}

fn named_apart(plan: LogicalPlan, name: &mut dyn FnMut() -> String) -> DfResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Projection(above) = &plan else { return Ok(Transformed::no(plan)) };
    let LogicalPlan::Projection(below) = above.input.as_ref() else { return Ok(Transformed::no(plan)) };
    let names = names_of_computed(below, name);
    // What a subquery names of the row around it stays as it is.
    if names.iter().all(Option::is_none) || above.expr.iter().any(|expr| expr.any(is_subquery)) {
        return Ok(Transformed::no(plan));
    }
    let renamed = |(expr, name): (&Expr, &Option<String>)| match name {
        Some(name) => expr.clone().alias(name),
        None => expr.clone(),
    };
    let exprs = below.expr.iter().zip(&names).map(renamed).collect();
    // A column may be named with its relation or without.
    let name_of = |column: &Column| names.get(below.schema.maybe_index_of_column(column)?)?.as_ref();
    let input = LogicalPlan::Projection(Projection::try_new(exprs, below.input.clone())?);
    let exprs = above.expr.iter().zip(above.schema.iter()).map(|(expr, (qualifier, field))| -> DfResult<Expr> {
        let read = expr.clone().up(|e| match &e {
            Expr::Column(column) => Ok(match name_of(column) {
                Some(name) => Transformed::yes(Expr::Column(Column::from_name(name))),
                None => Transformed::no(e),
            }),
            _ => Ok(Transformed::no(e)),
        })?;
        let keeps_name = !read.transformed || matches!(read.data, Expr::Alias(_));
        Ok(if keeps_name { read.data } else { read.data.alias_qualified(qualifier.cloned(), field.name()) })
    });
    let exprs = exprs.collect::<DfResult<Vec<Expr>>>()?;
    let projection = Projection::try_new_with_schema(exprs, Arc::new(input), above.schema.clone())?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

/// Names for what a projection computes under a name that it reads, by column.
fn names_of_computed(below: &Projection, name: &mut dyn FnMut() -> String) -> Vec<Option<String>> {
    let read: HashSet<&Column> = below.expr.iter().flat_map(|expr| expr.column_refs()).collect();
    let computes = |(expr, column): &(&Expr, Column)| read.contains(column) && !matches!(expr, Expr::Column(own) if own == column);
    below.expr.iter().zip(below.schema.columns()).map(|computed| computes(&computed).then(&mut *name)).collect()
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_))
}
