//! The types of WITH RECURSIVE. A column has that of the first term, and DataFusion casts the second term to it, whatever is lost. What the
//! type cannot hold is refused, as in PostgreSQL.

use super::common::common_field;
use super::matching::shown;
use crate::error::into_datafusion;
use crate::walk::WalkPlan;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, RecursiveQuery};
use eddyline_common::{SqlError, SqlState};

/// On a plan as DataFusion's binder made it: its own casts have no name, those that a statement writes have one (`types::cast_field`).
pub fn check(plan: &LogicalPlan) -> DfResult<()> {
    plan.each_with_subqueries(|node| {
        if let LogicalPlan::RecursiveQuery(query) = node {
            check_types(query)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn check_types(query: &RecursiveQuery) -> DfResult<()> {
    let LogicalPlan::Projection(projection) = query.recursive_term.as_ref() else { return Ok(()) };
    for (at, (expr, first)) in projection.expr.iter().zip(query.static_term.schema().fields()).enumerate() {
        let Some(value) = coerced(expr) else { continue };
        let (_, given) = value.to_field(projection.input.schema())?;
        if given.data_type().is_null() {
            continue;
        }
        let message = match common_field(&[first.clone(), given.clone()]) {
            Some(overall) if overall.data_type() == first.data_type() => continue,
            Some(overall) => format!(
                "recursive query \"{}\" column {} has type {} in non-recursive term but type {} overall",
                query.name,
                at + 1,
                shown(first),
                shown(&overall)
            ),
            None => format!("UNION types {} and {} cannot be matched", shown(first), shown(&given)),
        };
        let error = SqlError::new(SqlState::DATATYPE_MISMATCH, message);
        return Err(into_datafusion(error.with_hint("Cast the output of the non-recursive term to the correct type.")));
    }
    Ok(())
}

/// What DataFusion casts. A constant and a null take any type.
fn coerced(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Alias(alias) => coerced(&alias.expr),
        Expr::Cast(Cast { expr, field }) => {
            let is_binders = field.name().is_empty() && !matches!(field.data_type(), DataType::List(_));
            let takes_any = matches!(expr.as_ref(), Expr::Literal(..) | Expr::Placeholder(_));
            (is_binders && !takes_any).then_some(expr.as_ref())
        }
        _ => None,
    }
}
