//! Users' functions as PostgreSQL shows them: `pg_proc`, and what `\df` asks of a function by its oid.

use super::objects::{OWNER_OID, PUBLIC};
use super::rows::{Rows, Value};
use super::{SystemContext, describe};
use crate::catalog::{relation_of_oid, relation_oid};
use eddyline_common::postgres::types::oid_of;
use eddyline_planner::catalog::SqlFunction;
use std::sync::Arc;

/// The oid of `pg_proc` itself, and of the language.
pub const PG_PROC: u32 = 1255;
const SQL: u32 = 14;

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
