//! CREATE FUNCTION: a scalar function in SQL, which is an expression over its arguments. It is bound here once, so that what is
//! wrong with it is said now; calls are replaced by the expression when they are bound (`bind::inline`).

use crate::assign::is_assignable;
use crate::bind::{Binder, Mode, rewrite_names};
use crate::catalog::{Catalog, FunctionArgument, SqlFunction};
use crate::create::object_name;
use crate::error::fold;
use crate::parse::Parsed;
use crate::parse::ast::{Ast, CreateFunction};
use crate::settings::Settings;
use crate::walk::Walk;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::Expr as DfExpr;
use datafusion::sql::sqlparser::ast::{Expr, GroupByExpr, Query, SelectItem, SetExpr};
use eddyline_common::{RelationId, Result, SqlError, SqlState, SqlType};
use std::collections::HashSet;

const INVALID_DEFINITION: SqlState = SqlState("42P13");
const DUPLICATE_FUNCTION: SqlState = SqlState("42723");

pub fn create_function(create: &CreateFunction, parsed: &Parsed, catalog: &dyn Catalog, settings: &Settings) -> Result<SqlFunction> {
    let name = object_name(&create.name, &parsed.text)?;
    let registry = catalog.functions();
    if registry.udf(&name).is_ok() || registry.udaf(&name).is_ok() || registry.udwf(&name).is_ok() {
        let error = SqlError::new(DUPLICATE_FUNCTION, format!("function \"{name}\" is built in"));
        return Err(error.with_hint("Give yours another name."));
    }
    let mut seen = HashSet::new();
    let mut arguments = Vec::new();
    for argument in &create.arguments {
        let folded = argument.name.as_ref().map(fold);
        if let Some(name) = &folded
            && !seen.insert(name.clone())
        {
            let error = SqlError::new(INVALID_DEFINITION, format!("parameter name \"{name}\" used more than once"));
            return Err(parsed.text.at(error, argument.location));
        }
        arguments.push(FunctionArgument { name: folded, ty: argument.ty.clone() });
    }
    let existing = catalog.user_function(&name);
    let mut function = SqlFunction {
        id: RelationId(0),
        name,
        sql: parsed.sql.clone(),
        arguments,
        returns: create.returns.clone(),
        body: create.body.clone(),
        strict: create.strict,
        depends_on: vec![],
    };
    if let Some(existing) = existing {
        if !create.replace {
            let error = SqlError::new(DUPLICATE_FUNCTION, format!("function \"{}\" already exists", function.name));
            return Err(error.with_hint("A name has one function, whatever its arguments; write CREATE OR REPLACE FUNCTION to change it."));
        }
        check_signature(&existing, &function)?;
        function.id = existing.id;
    }
    let binder = Binder::new(catalog, settings, Mode::Batch);
    function.depends_on = called(&function, &binder)?;
    if function.id != RelationId(0) && reaches(&function, catalog) {
        return Err(SqlError::new(INVALID_DEFINITION, format!("function \"{}\" would call itself", function.name)));
    }
    let (body, ty) = binder.function_body(&function)?;
    check_body(&body)?;
    check_type(&ty, &body, &function.returns)?;
    Ok(function)
}

/// The functions that the body calls, by id.
fn called(function: &SqlFunction, binder: &Binder) -> Result<Vec<RelationId>> {
    let mut body = body_expression(&function.body)?;
    let found = rewrite_names(&mut body, binder)?;
    let mut ids: Vec<RelationId> = found.functions.iter().filter_map(|name| binder.catalog.user_function(name)).map(|f| f.id).collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// Whether a call of the function leads to a call of itself.
fn reaches(function: &SqlFunction, catalog: &dyn Catalog) -> bool {
    let all = catalog.user_functions();
    let mut open = function.depends_on.clone();
    let mut seen = HashSet::new();
    while let Some(id) = open.pop() {
        if id == function.id {
            return true;
        }
        if seen.insert(id) {
            open.extend(all.iter().filter(|f| f.id == id).flat_map(|f| f.depends_on.iter().copied()));
        }
    }
    false
}

/// What is replaced keeps its arguments and its type: callers were bound to them.
fn check_signature(old: &SqlFunction, new: &SqlFunction) -> Result<()> {
    let types = |f: &SqlFunction| f.arguments.iter().map(|a| a.ty.clone()).collect::<Vec<_>>();
    if types(old) == types(new) && old.returns == new.returns {
        return Ok(());
    }
    let error = SqlError::new(INVALID_DEFINITION, format!("cannot change the arguments or the type of function \"{}\"", old.name));
    Err(error
        .with_detail(format!("It is {} and returns {}.", old.signature(), old.returns))
        .with_hint("DROP the function and create it anew."))
}

/// The expression of a body: `SELECT expression`, or an expression.
pub fn body_expression(body: &str) -> Result<Expr> {
    let text = body.trim().trim_end_matches(';').trim_end();
    let is_query = text.split(|c: char| !c.is_alphanumeric()).next().is_some_and(|first| first.eq_ignore_ascii_case("select"));
    let query = if is_query { text.to_string() } else { format!("SELECT {text}") };
    let parsed = crate::parse::parse(&query)?;
    let [Parsed { ast: Ast::Query(query), .. }] = parsed.as_slice() else { return Err(not_an_expression()) };
    expression_of(query).ok_or_else(not_an_expression)
}

fn expression_of(query: &Query) -> Option<Expr> {
    let plain = query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(exprs, modifiers) if exprs.is_empty() && modifiers.is_empty());
    if !plain || !select.from.is_empty() || select.selection.is_some() || select.having.is_some() || select.distinct.is_some() || grouped {
        return None;
    }
    match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. }] => Some(e.clone()),
        _ => None,
    }
}

fn not_an_expression() -> SqlError {
    SqlError::unsupported("a function that is not one expression over its arguments is not supported")
        .with_hint("Write SELECT expression, without FROM; put a query into a view.")
}

/// What a value of one row cannot be computed by.
fn check_body(body: &DfExpr) -> Result<()> {
    let mut found = None;
    let walked = body.each(|e| {
        found = match e {
            DfExpr::AggregateFunction(_) => Some("an aggregate"),
            DfExpr::WindowFunction(_) => Some("a window function"),
            DfExpr::ScalarSubquery(_) | DfExpr::InSubquery(_) | DfExpr::Exists(_) | DfExpr::SetComparison(_) => Some("a subquery"),
            DfExpr::Unnest(_) => Some("a set"),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    });
    walked.map_err(|e| crate::error::from_datafusion(e, None))?;
    match found {
        Some(what) => {
            Err(SqlError::unsupported(format!("{what} in a function is not supported")).with_hint("Pass what it gives as an argument."))
        }
        None => Ok(()),
    }
}

fn check_type(actual: &SqlType, body: &DfExpr, returns: &SqlType) -> Result<()> {
    if is_assignable(actual, returns) || matches!(body, DfExpr::Literal(_, _)) {
        return Ok(());
    }
    let error = SqlError::new(INVALID_DEFINITION, format!("return type mismatch in function declared to return {returns}"));
    Err(error.with_detail(format!("Actual return type is {actual}.")).with_hint(format!("Cast the expression: CAST(... AS {returns}).")))
}
