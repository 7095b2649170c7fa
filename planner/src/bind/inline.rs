//! Calls of users' functions become their expressions. It happens on bound expressions, where a column is a column whatever it is
//! called, so an argument cannot be taken for something of the same name.

use super::user::UserFunction;
use super::{Binder, rewrite};
use crate::catalog::SqlFunction;
use crate::error::too_deep;
use crate::function::body_expression;
use crate::functions::checked::rewrite_expressions;
use crate::types::cast_field;
use crate::walk::Walk;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, when};
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{Result, SqlError, SqlType};
use std::sync::Arc;

/// Parts of one call's expression, functions that it calls put in place: what doubles with each of them grows fast.
const PARTS_MAX: usize = 20_000;

impl Binder<'_> {
    /// Replaces the calls in a bound plan.
    pub(super) fn inline_plan(&self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        rewrite_expressions(plan, &|expr, schema| expr.up(|e| self.inline_call(e, schema)))
    }

    pub(super) fn inline_expr(&self, expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
        Ok(expr.up(|e| self.inline_call(e, schema))?.data)
    }

    fn inline_call(&self, expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
        let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
        let Some(user) = call.func.inner().downcast_ref::<UserFunction>() else { return Ok(Transformed::no(expr)) };
        let function = &user.definition;
        let (body, _) = self.function_body(function).map_err(crate::error::into_datafusion)?;
        let args: Vec<Expr> = call.args.iter().zip(&function.arguments).map(|(arg, of)| typed(arg.clone(), &of.ty, schema)).collect();
        let parts = parts(&body)? + args.iter().map(parts).sum::<DfResult<usize>>()?;
        if parts > PARTS_MAX {
            return Err(crate::error::into_datafusion(too_deep()));
        }
        let name = |i: usize| argument_name(function, i);
        let inlined = body.up(|part| {
            let at = match &part {
                Expr::Column(column) => (0..args.len()).find(|i| column.name == name(*i)),
                Expr::Placeholder(placeholder) => placeholder.id.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()?.checked_sub(1)),
                _ => None,
            };
            Ok(match at.and_then(|i| args.get(i)) {
                Some(arg) => Transformed::yes(arg.clone()),
                None => Transformed::no(part),
            })
        })?;
        let value = typed(inlined.data, &function.returns, schema);
        let any_null = args.into_iter().map(Expr::is_null).reduce(Expr::or);
        let value = match any_null {
            Some(any_null) if function.strict => {
                when(any_null, Expr::Literal(ScalarValue::try_from(&function.returns.to_arrow())?, None)).otherwise(value)?
            }
            _ => value,
        };
        Ok(Transformed::yes(value))
    }

    /// A function's expression over columns that are its arguments, and its type.
    pub(crate) fn function_body(&self, function: &SqlFunction) -> Result<(Expr, SqlType)> {
        let columns: Vec<Column> =
            function.arguments.iter().enumerate().map(|(i, a)| Column::new(argument_name(function, i), a.ty.clone(), true)).collect();
        let schema = DFSchema::try_from_qualified_schema(function.name.as_str(), &arrow_schema(&columns)).map_err(|e| self.error(e))?;
        let types: Vec<Option<SqlType>> = function.arguments.iter().map(|a| Some(a.ty.clone())).collect();
        let binder = Binder::new(self.catalog, self.settings, self.mode).with_parameters(&types);
        let in_function = |e: SqlError| {
            let detail = format!("In the body of function {}.", function.signature());
            if e.detail.is_some() { e } else { e.with_detail(detail) }
        };
        let body = binder.expr(&body_expression(&function.body)?, &schema).map_err(in_function)?;
        body.each(|e| match e {
            Expr::Placeholder(p)
                if !p.id.strip_prefix('$').is_some_and(|n| n.parse().is_ok_and(|n: usize| (1..=types.len()).contains(&n))) =>
            {
                let error = SqlError::new(eddyline_common::SqlState("42P02"), format!("there is no parameter {}", p.id));
                Err(crate::error::into_datafusion(error))
            }
            _ => Ok(TreeNodeRecursion::Continue),
        })
        .map_err(|e| in_function(self.error(e)))?;
        let coerced = crate::optimize::coerce(body.clone(), &schema).map_err(|e| in_function(self.error(e)))?;
        let field = coerced.to_field(&schema).map_err(|e| in_function(self.error(e)))?.1;
        let ty = SqlType::from_field(&field)
            .ok_or_else(|| SqlError::unsupported(format!("a function of type {} is not supported", field.data_type())))?;
        Ok((body, ty))
    }
}

/// An argument without a name has one that nobody can write.
fn argument_name(function: &SqlFunction, i: usize) -> String {
    function.arguments[i].name.clone().unwrap_or_else(|| format!("\0{}", i + 1))
}

fn typed(expr: Expr, ty: &SqlType, schema: &DFSchema) -> Expr {
    match expr.to_field(schema) {
        Ok((_, field)) if SqlType::from_field(&field).as_ref() == Some(ty) && *field.data_type() == ty.to_arrow() => expr,
        _ => Expr::Cast(Cast { expr: Box::new(expr), field: Arc::new(cast_field(ty)) }),
    }
}

fn parts(expr: &Expr) -> DfResult<usize> {
    let mut count = 0;
    expr.each(|_| {
        count += 1;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(count)
}

/// Rewrites an expression's spellings, and says what it names.
pub fn rewrite_names(expr: &mut datafusion::sql::sqlparser::ast::Expr, binder: &Binder) -> Result<super::Found> {
    rewrite::rewrite(expr, binder.catalog, &binder.settings.time_zone, None)
}
