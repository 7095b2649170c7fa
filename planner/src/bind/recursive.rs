//! The types of WITH RECURSIVE. A column has that of the first term, and DataFusion casts the second term to it, whatever is lost. What the
//! type cannot hold is refused, as in PostgreSQL; but a numeric whose digits nobody said takes any. What says no more of a column than what it is called (an oid, a name) is the first term's.

use super::common::common_field;
use super::matching::shown;
use super::rewrite::cast;
use crate::error::{fold, into_datafusion};
use crate::types::DEFAULT_NUMERIC;
use crate::walk::{WalkPlan, sql};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, Projection, RecursiveQuery};
use datafusion::sql::sqlparser::ast;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A number with a fraction in the first term of a query that names itself is a numeric of any digits: one of its own could not hold what is made of it.
pub fn widen(query: &mut ast::Query) {
    for cte in query.with.iter_mut().filter(|with| with.recursive).flat_map(|with| &mut with.cte_tables) {
        let mut names = Names { name: fold(&cte.alias.name) };
        if sql::visit(&*cte.query, &mut names).is_continue() {
            continue;
        }
        let ast::SetExpr::SetOperation { left, .. } = cte.query.body.as_mut() else { continue };
        match left.as_mut() {
            ast::SetExpr::Select(select) => {
                for item in &mut select.projection {
                    if let ast::SelectItem::UnnamedExpr(value) | ast::SelectItem::ExprWithAlias { expr: value, .. } = item {
                        without_digits(value);
                    }
                }
            }
            ast::SetExpr::Values(values) => values.rows.iter_mut().flat_map(|row| &mut row.content).for_each(without_digits),
            _ => {}
        }
    }
}

/// Stops where a relation is named.
struct Names {
    name: String,
}

impl ast::Visitor for Names {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ast::ObjectName) -> ControlFlow<()> {
        match relation.0.as_slice() {
            [part] if part.as_ident().is_some_and(|ident| fold(ident) == self.name) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn without_digits(value: &mut ast::Expr) {
    if has_fraction(value) {
        *value = cast(value.clone(), ast::DataType::Numeric(ast::ExactNumberInfo::None));
    }
}

fn has_fraction(value: &ast::Expr) -> bool {
    match value {
        ast::Expr::Nested(inner) | ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr: inner } => has_fraction(inner),
        ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Number(number, _), .. }) => number.contains(['.', 'e', 'E']),
        _ => false,
    }
}

/// On a plan as DataFusion's binder made it: its own casts have no name, those that a statement writes have one (`types::cast_field`).
pub fn in_plan(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let typed = plan.up_with_subqueries(|node| match node {
        LogicalPlan::RecursiveQuery(query) => {
            check_types(&query)?;
            marked(query)
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(typed?.data)
}

/// A query whose second term has the marks of the first one's types.
fn marked(query: RecursiveQuery) -> DfResult<Transformed<LogicalPlan>> {
    let (wanted, given) = (query.static_term.schema(), query.recursive_term.schema());
    let is_same = |(wanted, given): (&FieldRef, &FieldRef)| wanted.metadata() == given.metadata();
    if wanted.fields().iter().zip(given.fields()).all(is_same) {
        return Ok(Transformed::no(LogicalPlan::RecursiveQuery(query)));
    }
    let columns = given.columns().into_iter().zip(given.fields()).zip(wanted.fields());
    let columns = columns.map(|((column, given), wanted)| {
        if is_same((wanted, given)) {
            return Expr::Column(column);
        }
        // With a name, a cast says all of the type.
        let field = wanted.as_ref().clone().with_name("cast").with_nullable(given.is_nullable());
        Expr::Cast(Cast { expr: Box::new(Expr::Column(column)), field: Arc::new(field) }).alias(given.name())
    });
    let marked = Projection::try_new(columns.collect(), query.recursive_term.clone())?;
    let recursive_term = Arc::new(LogicalPlan::Projection(marked));
    Ok(Transformed::yes(LogicalPlan::RecursiveQuery(RecursiveQuery { recursive_term, ..query })))
}

fn check_types(query: &RecursiveQuery) -> DfResult<()> {
    let LogicalPlan::Projection(projection) = query.recursive_term.as_ref() else { return Ok(()) };
    for (at, (expr, first)) in projection.expr.iter().zip(query.static_term.schema().fields()).enumerate() {
        let Some(value) = coerced(expr) else { continue };
        let (_, given) = value.to_field(projection.input.schema())?;
        if given.data_type().is_null() || takes_any(first) && is_exact(given.data_type()) {
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

/// A numeric whose digits nobody said.
fn takes_any(field: &Field) -> bool {
    SqlType::from_field(field) == Some(DEFAULT_NUMERIC)
}

fn is_exact(ty: &DataType) -> bool {
    ty.is_numeric() && !ty.is_floating()
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
