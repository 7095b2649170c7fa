//! Catalog objects as SQL text: names, keys, definitions, expressions.

use super::objects::{has_constraint, key_numbers};
use super::{indexes, spec};
use crate::catalog::{CatalogSnapshot, constraint_oid};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use bytes::BytesMut;
use eddyline_common::SqlType;
use eddyline_common::postgres::encode::RowFormat;
use eddyline_common::postgres::types::oid_of;
use eddyline_planner::plan::{Expr, Literal};
use eddyline_planner::{Relation, RelationKind, literal_to_scalar};
use std::sync::Arc;

/// Quoted if it has to be.
pub fn quote_ident(name: &str) -> String {
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && !RESERVED.contains(&name) { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// PostgreSQL's reserved key words.
pub const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

fn key_columns(r: &Relation) -> String {
    let names = key_numbers(r).into_iter().map(|n| quote_ident(&r.visible[n as usize - 1].column.name));
    names.collect::<Vec<_>>().join(", ")
}

pub fn constraint_by_oid(catalog: &CatalogSnapshot, oid: u32) -> Option<String> {
    let relation = catalog.relations().find(|r| constraint_oid(r.id) == oid && has_constraint(r))?;
    Some(format!("PRIMARY KEY ({})", key_columns(relation)))
}

/// A view's query.
pub fn definition(catalog: &CatalogSnapshot, r: &Relation) -> Option<String> {
    let query = match &r.kind {
        RelationKind::View { query } => query.as_str(),
        RelationKind::MaterializedView { .. } => after_as(&r.sql),
        _ => return None,
    };
    Some(format!(" {}", with_semicolon(&catalog.noted(r, query))))
}

fn with_semicolon(query: &str) -> String {
    format!("{};", query.trim().trim_end_matches(';'))
}

/// What follows the first AS of a CREATE statement that stands outside quotes and parentheses.
fn after_as(sql: &str) -> &str {
    let (mut depth, mut quote) = (0usize, None);
    let bytes = sql.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (Some(q), b) if b == q => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"' | b'`') => quote = Some(byte),
            (None, b'(') => depth += 1,
            (None, b')') => depth = depth.saturating_sub(1),
            (None, b'a' | b'A') if depth == 0 && at > 0 && is_word(bytes, at, b"as") => return sql[at + 2..].trim_start(),
            _ => {}
        }
    }
    sql
}

fn is_word(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    let end = at + word.len();
    let boundary = |b: Option<&u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_');
    bytes.len() >= end && bytes[at..end].eq_ignore_ascii_case(word) && boundary(bytes.get(at - 1)) && boundary(bytes.get(end))
}

/// A stored expression as SQL.
pub fn expression(e: &Expr, column: &dyn Fn(usize) -> String) -> String {
    eddyline_planner::explain::expr_with(e, column, &constant)
}

/// A constant as PostgreSQL shows it: truths, and numbers without a sign, bare; all else in quotes and with its type.
fn constant(literal: &Literal) -> String {
    let named = match &literal.ty {
        SqlType::Char(_) => "bpchar".to_string(),
        ty => spec::format_type(oid_of(ty), None),
    };
    match text_of(literal) {
        None => format!("NULL::{named}"),
        Some(text) if literal.ty == SqlType::Boolean => (text == "t").to_string(),
        Some(text) if literal.ty.to_arrow().is_numeric() && text.starts_with(|c: char| c.is_ascii_digit()) => text,
        Some(text) => format!("'{}'::{named}", text.replace('\'', "''")),
    }
}

/// A constant's text, with times in UTC; `None` for null.
fn text_of(literal: &Literal) -> Option<String> {
    let values = literal_to_scalar(literal).ok()?.to_array_of_size(1).ok()?;
    let field = literal.ty.field("", true).with_data_type(values.data_type().clone());
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema.clone(), vec![values]).ok()?;
    let format = RowFormat::text(schema, crate::session::settings::utc());
    let bound = format.bind(&batch).ok()?;
    let writers = bound.text_writers();
    let writer = writers.first().filter(|writer| !writer.is_null(0))?;
    let mut text = BytesMut::new();
    writer.text(0, &mut text);
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The name of a relation or index by oid, as `regclass` shows it.
pub fn class_name(catalog: &CatalogSnapshot, oid: u32) -> Option<String> {
    if let Some(relation) = catalog.by_oid(oid) {
        return Some(quote_ident(&relation.name));
    }
    if let Some(index) = indexes::by_oid(catalog, oid) {
        return Some(quote_ident(&index.name));
    }
    let system = spec::relations().iter().find(|r| r.oid == oid)?;
    Some(if system.schema == "pg_catalog" { system.name.to_string() } else { format!("{}.{}", system.schema, system.name) })
}

/// The oid of a relation or index by its possibly qualified and quoted name.
pub fn class_oid(catalog: &CatalogSnapshot, name: &str) -> Option<u32> {
    let (schema, name) = split_name(name);
    if matches!(schema.as_deref(), None | Some("public")) {
        if let Some(relation) = catalog.by_name(&name) {
            return Some(crate::catalog::relation_oid(relation.id));
        }
        if let Some(index) = indexes::all(catalog).find(|index| index.name == name) {
            return Some(index.oid);
        }
    }
    spec::relation(schema.as_deref().unwrap_or("pg_catalog"), &name).map(|r| r.oid)
}

/// `schema.name` in folded parts.
pub fn split_name(text: &str) -> (Option<String>, String) {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => parts.last_mut().expect("never empty").push(c),
            c => parts.last_mut().expect("never empty").extend(c.to_lowercase()),
        }
    }
    let name = parts.pop().unwrap_or_default();
    (parts.pop(), name)
}

/// The oid of a type by any of its spellings.
pub fn type_oid(name: &str) -> Option<u32> {
    let (_, name) = split_name(name);
    if let Some(element) = name.strip_suffix("[]") {
        return type_oid(element).and_then(spec::type_by_oid).map(|t| t.array).filter(|oid| *oid != 0);
    }
    let base = name.split('(').next().unwrap_or_default().trim().to_string();
    let by_spelling = || spec::types().iter().find(|t| spec::format_type(t.oid, None) == base);
    let alias = match base.as_str() {
        "int" => "int4",
        "decimal" => "numeric",
        "string" => "text",
        "float" => "float8",
        other => other,
    };
    spec::type_by_name(alias).or_else(by_spelling).map(|t| t.oid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_when_needed() {
        assert_eq!(quote_ident("orders"), "orders");
        assert_eq!(quote_ident("select"), "\"select\"");
        assert_eq!(quote_ident("Order s"), "\"Order s\"");
        assert_eq!(split_name("public.\"My.Table\""), (Some("public".into()), "My.Table".into()));
    }

    #[test]
    fn types_by_every_spelling() {
        for (name, oid) in
            [("integer", 23), ("int4", 23), ("pg_catalog.int8", 20), ("double precision", 701), ("text[]", 1009), ("numeric(10,2)", 1700)]
        {
            assert_eq!(type_oid(name), Some(oid), "{name}");
        }
    }

    #[test]
    fn a_materialized_views_query_is_found() {
        assert_eq!(after_as("CREATE MATERIALIZED VIEW \"as\" AS SELECT 1 AS x"), "SELECT 1 AS x");
    }
}
