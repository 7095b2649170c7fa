//! The rows of `information_schema`, for user relations.

use super::objects::{has_constraint, is_materialized, is_source, is_view, key_numbers};
use super::rows::{Rows, Value};
use super::{DATABASE, OWNER, SystemContext, describe, indexes, objects, spec};
use eddyline_common::SqlType;
use eddyline_common::postgres::types::{oid_of, wire_type_of};
use eddyline_planner::Relation;

pub fn fill(name: &str, context: &SystemContext, rows: &mut Rows) {
    let relations = || context.catalog.relations().map(|r| r.as_ref());
    match name {
        "schemata" => {
            for schema in ["pg_catalog", "public", "information_schema", "eddyline"] {
                rows.add([("catalog_name", DATABASE.into()), ("schema_name", schema.into()), ("schema_owner", OWNER.into())]);
            }
        }
        "information_schema_catalog_name" => rows.add([("catalog_name", DATABASE.into())]),
        "enabled_roles" => rows.add([("role_name", OWNER.into())]),
        "tables" => relations().for_each(|r| table(r, rows)),
        "views" => relations().filter(|r| is_view(r)).for_each(|r| {
            rows.add([
                ("table_catalog", DATABASE.into()),
                ("table_schema", "public".into()),
                ("table_name", (&r.name).into()),
                ("view_definition", describe::definition(r).into()),
                ("check_option", "NONE".into()),
                ("is_updatable", "NO".into()),
                ("is_insertable_into", "NO".into()),
            ])
        }),
        "columns" => relations().for_each(|r| columns(r, rows)),
        "table_constraints" => relations().filter(|r| has_constraint(r)).for_each(|r| {
            rows.add([
                ("constraint_catalog", DATABASE.into()),
                ("constraint_schema", "public".into()),
                ("constraint_name", indexes::key_name(r).into()),
                ("table_catalog", DATABASE.into()),
                ("table_schema", "public".into()),
                ("table_name", (&r.name).into()),
                ("constraint_type", "PRIMARY KEY".into()),
                ("is_deferrable", "NO".into()),
                ("initially_deferred", "NO".into()),
                ("enforced", "YES".into()),
                ("nulls_distinct", Value::Null),
            ])
        }),
        "key_column_usage" | "constraint_column_usage" => {
            relations().filter(|r| has_constraint(r)).for_each(|r| key_columns(name, r, rows))
        }
        _ => {}
    }
}

fn table(r: &Relation, rows: &mut Rows) {
    let ty = if is_view(r) || is_materialized(r) {
        "VIEW"
    } else if is_source(r) {
        "FOREIGN"
    } else {
        "BASE TABLE"
    };
    rows.add([
        ("table_catalog", DATABASE.into()),
        ("table_schema", "public".into()),
        ("table_name", (&r.name).into()),
        ("table_type", ty.into()),
        ("is_insertable_into", if ty == "BASE TABLE" { "YES" } else { "NO" }.into()),
        ("is_typed", "NO".into()),
    ]);
}

fn columns(r: &Relation, rows: &mut Rows) {
    for (index, visible) in r.visible.iter().enumerate() {
        let column = &visible.column;
        let wire = wire_type_of(&column.ty);
        let internal = spec::type_by_oid(wire.oid).map(|t| t.name);
        let data_type = match &column.ty {
            SqlType::Array(_) => "ARRAY".to_string(),
            _ => spec::format_type(oid_of(&column.ty), None),
        };
        let (precision, radix, scale) = numeric_facts(&column.ty);
        let time_precision = match column.ty {
            SqlType::Timestamp | SqlType::TimestampTz | SqlType::Time | SqlType::Interval => Value::Int(6),
            SqlType::Date => Value::Int(0),
            _ => Value::Null,
        };
        rows.add([
            ("table_catalog", DATABASE.into()),
            ("table_schema", "public".into()),
            ("table_name", (&r.name).into()),
            ("column_name", (&column.name).into()),
            ("ordinal_position", (index + 1).into()),
            ("column_default", objects::default_of(r, index).into()),
            ("is_nullable", if objects::is_not_null(r, index) { "NO" } else { "YES" }.into()),
            ("data_type", data_type.into()),
            ("numeric_precision", precision.into()),
            ("numeric_precision_radix", radix.into()),
            ("numeric_scale", scale.into()),
            ("datetime_precision", time_precision),
            ("udt_catalog", DATABASE.into()),
            ("udt_schema", "pg_catalog".into()),
            ("udt_name", internal.into()),
            ("dtd_identifier", (index + 1).to_string().into()),
            ("is_self_referencing", "NO".into()),
            ("is_identity", "NO".into()),
            ("identity_cycle", "NO".into()),
            ("is_generated", "NEVER".into()),
            ("is_updatable", if objects::is_table(r) { "YES" } else { "NO" }.into()),
        ]);
    }
}

/// Precision, its radix, and scale.
fn numeric_facts(ty: &SqlType) -> (Option<i64>, Option<i64>, Option<i64>) {
    match ty {
        SqlType::SmallInt => (Some(16), Some(2), Some(0)),
        SqlType::Integer => (Some(32), Some(2), Some(0)),
        SqlType::BigInt => (Some(64), Some(2), Some(0)),
        SqlType::Real => (Some(24), Some(2), None),
        SqlType::Double => (Some(53), Some(2), None),
        SqlType::Decimal { precision, scale } => (Some(*precision as i64), Some(10), Some(*scale as i64)),
        _ => (None, None, None),
    }
}

fn key_columns(name: &str, r: &Relation, rows: &mut Rows) {
    for (position, number) in key_numbers(r).into_iter().enumerate() {
        let column = &r.visible[number as usize - 1].column.name;
        rows.add([
            ("constraint_catalog", DATABASE.into()),
            ("constraint_schema", "public".into()),
            ("constraint_name", indexes::key_name(r).into()),
            ("table_catalog", DATABASE.into()),
            ("table_schema", "public".into()),
            ("table_name", (&r.name).into()),
            ("column_name", column.into()),
        ]);
        if name == "key_column_usage" {
            rows.set_last("ordinal_position", (position + 1).into());
        }
    }
}
