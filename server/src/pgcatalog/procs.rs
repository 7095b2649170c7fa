//! Functions as PostgreSQL shows them: `pg_proc`, names and oids of functions, and what `\df` asks of a user's function by its oid.

use super::objects::{OWNER_OID, PG_CATALOG, PUBLIC};
use super::rows::{Rows, Value};
use super::{SystemContext, describe};
use crate::catalog::{relation_of_oid, relation_oid};
use eddyline_common::postgres::procs::{self, Proc};
use eddyline_common::postgres::types::oid_of;
use eddyline_planner::catalog::SqlFunction;
use std::sync::Arc;

/// The oid of `pg_proc` itself, and of the language.
pub const PG_PROC: u32 = 1255;
const SQL: u32 = 14;
const INTERNAL: u32 = 12;

pub fn row(function: &SqlFunction, rows: &mut Rows) {
    let types: Vec<i64> = function.arguments.iter().map(|a| oid_of(&a.ty).into()).collect();
    let names: Vec<String> = function.arguments.iter().map(|a| a.name.clone().unwrap_or_default()).collect();
    let named = names.iter().any(|name| !name.is_empty());
    rows.add([
        ("oid", relation_oid(function.id).into()),
        ("proname", (&function.name).into()),
        ("pronamespace", PUBLIC.into()),
        ("proowner", OWNER_OID.into()),
        ("prolang", SQL.into()),
        ("prokind", "f".into()),
        ("proisstrict", function.strict.into()),
        ("provolatile", "i".into()),
        ("proparallel", "s".into()),
        ("pronargs", function.arguments.len().into()),
        ("prorettype", oid_of(&function.returns).into()),
        ("proargtypes", Value::Vector(types)),
        ("proargnames", if named { names.into() } else { Value::Null }),
        ("prosrc", (&function.body).into()),
    ]);
}

pub fn builtin_row(proc: &Proc, rows: &mut Rows) {
    rows.add([
        ("oid", proc.oid.into()),
        ("proname", proc.name.into()),
        ("pronamespace", PG_CATALOG.into()),
        ("proowner", OWNER_OID.into()),
        ("prolang", INTERNAL.into()),
        ("prokind", "f".into()),
        ("proisstrict", true.into()),
        ("provolatile", proc.volatility.into()),
        ("proparallel", "s".into()),
        ("pronargs", proc.arguments.len().into()),
        ("prorettype", proc.returns.into()),
        ("proargtypes", Value::Vector(proc.arguments.iter().map(|ty| i64::from(*ty)).collect())),
        ("prosrc", proc.name.into()),
    ]);
}

/// The oid of a function by its possibly qualified and quoted name, perhaps with the types of its arguments behind it: a name has one function.
pub fn oid_by_name(context: &SystemContext, name: &str) -> Option<u32> {
    let (schema, name) = describe::split_name(name.split('(').next().unwrap_or_default());
    let user = || context.catalog.function(&name).map(|function| relation_oid(function.id));
    match schema.as_deref() {
        None => procs::oid_of(&name).or_else(user),
        Some("pg_catalog") => procs::oid_of(&name),
        Some("public") => user(),
        Some(_) => None,
    }
}

/// A function's name, or its oid if there is none.
pub fn name(context: &SystemContext, oid: u32) -> String {
    let known = procs::name_of(oid.into()).map(str::to_string);
    let user = || by_oid(context, Some(oid)).map(|function| describe::quote_ident(&function.name));
    known.or_else(user).unwrap_or_else(|| oid.to_string())
}

/// The function of an oid.
fn by_oid(context: &SystemContext, oid: Option<u32>) -> Option<&Arc<SqlFunction>> {
    context.catalog.function_by_id(relation_of_oid(oid?)?)
}

pub fn result(context: &SystemContext, oid: Option<u32>) -> Value {
    by_oid(context, oid).map(|f| f.returns.to_string()).into()
}

/// `name type, name type`.
pub fn arguments(context: &SystemContext, oid: Option<u32>) -> Value {
    let one = |argument: &eddyline_planner::catalog::FunctionArgument| match &argument.name {
        Some(name) => format!("{} {}", describe::quote_ident(name), argument.ty),
        None => argument.ty.to_string(),
    };
    by_oid(context, oid).map(|f| f.arguments.iter().map(one).collect::<Vec<_>>().join(", ")).into()
}

pub fn definition(context: &SystemContext, oid: Option<u32>) -> Value {
    by_oid(context, oid).map(|f| f.sql.clone()).into()
}
