//! `UNNEST` in FROM of lists whose elements are rows: the rows' fields are its columns. What the elements are is known only when the list has been
//! bound, so `set_returning` marks the subquery that it makes of the call, and here its columns are looked at. A map has entries, a key and a value each.

use crate::functions::registry;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, lit};
use datafusion::sql::sqlparser::ast::{Ident, TableAlias, TableFactor};
use std::sync::Arc;

/// The mark of such a subquery. No statement can spell it.
const MARK: &str = "\0unnest";

pub fn mark(alias: &mut TableAlias) {
    alias.at = Some(Ident::new(MARK));
}

#[derive(Debug)]
pub struct Spread;

impl RelationPlanner for Spread {
    fn plan_relation(&self, mut relation: TableFactor, context: &mut dyn RelationPlannerContext) -> DfResult<RelationPlanning> {
        let TableFactor::Derived { alias, .. } = &mut relation else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let Some(alias) = alias.take_if(|alias| alias.at.as_ref().is_some_and(|at| at.value == MARK)) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plan = context.plan(relation)?;
        let has_rows = plan.schema().fields().iter().any(|field| matches!(field.data_type(), DataType::Struct(_)));
        let given = alias.columns.len();
        let alias = TableAlias { at: None, ..alias };
        if !has_rows {
            // The columns have their names already, as far as there are some.
            let columns = if given <= plan.schema().fields().len() { vec![] } else { alias.columns.clone() };
            return Ok(planned(plan, TableAlias { columns, ..alias }));
        }
        let (mut exprs, mut names) = (Vec::new(), Vec::new());
        spread(plan.schema(), &mut exprs, &mut names)?;
        if given > names.len() {
            let message = format!("table \"{}\" has {} columns available but {given} columns specified", alias.name.value, names.len());
            return Err(DataFusionError::Plan(message));
        }
        for (name, given) in names.iter_mut().zip(&alias.columns) {
            *name = context.normalize_ident(given.name.clone());
        }
        let exprs = exprs.into_iter().zip(names).map(|(expr, name): (Expr, String)| expr.alias(name)).collect();
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
        Ok(planned(plan, TableAlias { columns: vec![], ..alias }))
    }
}

fn planned(plan: LogicalPlan, alias: TableAlias) -> RelationPlanning {
    RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, Some(alias))))
}

/// The columns of a schema, and in the place of rows their fields.
fn spread(schema: &DFSchema, exprs: &mut Vec<Expr>, names: &mut Vec<String>) -> DfResult<()> {
    let field_of = registry().udf("get_field")?;
    for (column, field) in schema.columns().into_iter().zip(schema.fields()) {
        let DataType::Struct(fields) = field.data_type() else {
            exprs.push(Expr::Column(column));
            names.push(field.name().clone());
            continue;
        };
        for inner in fields {
            exprs.push(field_of.call(vec![Expr::Column(column.clone()), lit(inner.name().as_str())]));
            names.push(inner.name().clone());
        }
    }
    Ok(())
}
