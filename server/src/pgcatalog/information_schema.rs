//! The rows of `information_schema`, for user relations.

use super::objects::{has_constraint, is_materialized, is_source, is_view, key_numbers};
use super::rows::{Rows, Value};
use super::{DATABASE, OWNER, SystemContext, describe, indexes, objects, spec};
use crate::catalog::relation_oid;
use eddyline_common::SqlType;
use eddyline_common::postgres::types::oid_of;
use eddyline_planner::Relation;
use eddyline_planner::catalog::SqlFunction;

pub fn fill(name: &str, context: &SystemContext, rows: &mut Rows) {
    let relations = || context.catalog.relations().map(|r| r.as_ref());
    match name {
        "schemata" => {
            for schema in ["pg_catalog", "public", "information_schema", "eddyline"] {
                rows.add([("catalog_name", DATABASE.into()), ("schema_name", schema.into()), ("schema_owner", OWNER.into())]);
            }
        }
        "information_schema_catalog_name" => rows.add([("catalog_name", DATABASE.into())]),
        "character_sets" => rows.add([
            ("character_set_name", "UTF8".into()),
            ("character_repertoire", "UCS".into()),
            ("form_of_use", "UTF8".into()),
            ("default_collate_catalog", DATABASE.into()),
        ]),
        "routines" => context.catalog.functions().for_each(|f| routine(f, rows)),
        "parameters" => context.catalog.functions().for_each(|f| parameters(f, rows)),
        "foreign_tables" => relations().filter(|r| is_source(r)).for_each(|r| {
            rows.add([
                ("foreign_table_catalog", DATABASE.into()),
                ("foreign_table_schema", "public".into()),
                ("foreign_table_name", (&r.name).into()),
                ("foreign_server_catalog", DATABASE.into()),
                ("foreign_server_name", "connectors".into()),
            ])
        }),
        "view_table_usage" => relations().filter(|r| is_view(r)).for_each(|r| table_usage(r, context, rows)),
        "enabled_roles" => rows.add([("role_name", OWNER.into())]),
        "tables" => relations().for_each(|r| table(r, rows)),
        "views" => relations().filter(|r| is_view(r)).for_each(|r| {
            rows.add([
                ("table_catalog", DATABASE.into()),
                ("table_schema", "public".into()),
                ("table_name", (&r.name).into()),
                ("view_definition", describe::definition(&context.catalog, r).into()),
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
        let (precision, radix, scale) = numeric_facts(&column.ty);
        let (characters, octets) = text_facts(&column.ty);
        let time_precision = match column.ty {
            SqlType::Timestamp | SqlType::TimestampTz | SqlType::Time | SqlType::Interval => {
                Value::Int(column.precision.map_or(6, i64::from))
            }
            SqlType::Date => Value::Int(0),
            _ => Value::Null,
        };
        let numbered = objects::numbered(r, index);
        rows.add([
            ("table_catalog", DATABASE.into()),
            ("table_schema", "public".into()),
            ("table_name", (&r.name).into()),
            ("column_name", (&column.name).into()),
            ("ordinal_position", (index + 1).into()),
            ("column_default", objects::default_of(r, index).into()),
            ("is_nullable", if objects::is_not_null(r, index) { "NO" } else { "YES" }.into()),
            ("data_type", data_type(&column.ty).into()),
            ("character_maximum_length", characters.into()),
            ("character_octet_length", octets.into()),
            ("numeric_precision", precision.into()),
            ("numeric_precision_radix", radix.into()),
            ("numeric_scale", scale.into()),
            ("datetime_precision", time_precision),
            ("udt_catalog", DATABASE.into()),
            ("udt_schema", "pg_catalog".into()),
            ("udt_name", internal_name(&column.ty).into()),
            ("dtd_identifier", (index + 1).to_string().into()),
            ("is_self_referencing", "NO".into()),
            ("is_identity", if numbered.is_some() { "YES" } else { "NO" }.into()),
            ("identity_generation", numbered.map(|numbered| if numbered.always { "ALWAYS" } else { "BY DEFAULT" }).into()),
            ("identity_increment", numbered.map(|_| "1").into()),
            ("identity_cycle", "NO".into()),
            ("is_generated", "NEVER".into()),
            ("is_updatable", if objects::is_table(r) { "YES" } else { "NO" }.into()),
        ]);
    }
}

fn data_type(ty: &SqlType) -> String {
    match ty {
        SqlType::Array(_) => "ARRAY".to_string(),
        _ => spec::format_type(oid_of(ty), None),
    }
}

/// How many characters a text may have, and how many bytes: four for each, or PostgreSQL's bound on any.
fn text_facts(ty: &SqlType) -> (Option<i64>, Option<i64>) {
    match ty {
        SqlType::Varchar(length) | SqlType::Char(length) => (Some((*length).into()), Some(i64::from(*length) * 4)),
        SqlType::Text => (None, Some(1 << 30)),
        _ => (None, None),
    }
}

/// A user's function.
fn routine(function: &SqlFunction, rows: &mut Rows) {
    rows.add([
        ("specific_catalog", DATABASE.into()),
        ("specific_schema", "public".into()),
        ("specific_name", specific_name(function).into()),
        ("routine_catalog", DATABASE.into()),
        ("routine_schema", "public".into()),
        ("routine_name", (&function.name).into()),
        ("routine_type", "FUNCTION".into()),
        ("data_type", data_type(&function.returns).into()),
        ("type_udt_catalog", DATABASE.into()),
        ("type_udt_schema", "pg_catalog".into()),
        ("type_udt_name", internal_name(&function.returns).into()),
        ("dtd_identifier", "0".into()),
        ("routine_body", "SQL".into()),
        ("routine_definition", (&function.body).into()),
        ("external_language", "SQL".into()),
        ("parameter_style", "GENERAL".into()),
        ("is_deterministic", "YES".into()),
        ("sql_data_access", "MODIFIES".into()),
        ("is_null_call", if function.strict { "YES" } else { "NO" }.into()),
        ("schema_level_routine", "YES".into()),
        ("max_dynamic_result_sets", 0.into()),
        ("security_type", "INVOKER".into()),
        ("as_locator", "NO".into()),
        ("is_udt_dependent", "NO".into()),
    ]);
}

fn parameters(function: &SqlFunction, rows: &mut Rows) {
    for (position, argument) in function.arguments.iter().enumerate() {
        rows.add([
            ("specific_catalog", DATABASE.into()),
            ("specific_schema", "public".into()),
            ("specific_name", specific_name(function).into()),
            ("ordinal_position", (position + 1).into()),
            ("parameter_mode", "IN".into()),
            ("is_result", "NO".into()),
            ("as_locator", "NO".into()),
            ("parameter_name", argument.name.clone().into()),
            ("data_type", data_type(&argument.ty).into()),
            ("udt_catalog", DATABASE.into()),
            ("udt_schema", "pg_catalog".into()),
            ("udt_name", internal_name(&argument.ty).into()),
            ("dtd_identifier", (position + 1).to_string().into()),
        ]);
    }
}

/// A name that functions of one name would not share.
fn specific_name(function: &SqlFunction) -> String {
    format!("{}_{}", function.name, relation_oid(function.id))
}

fn internal_name(ty: &SqlType) -> Option<&'static str> {
    spec::type_by_oid(oid_of(ty)).map(|ty| ty.name)
}

/// The relations that a view names.
fn table_usage(view: &Relation, context: &SystemContext, rows: &mut Rows) {
    for used in view.depends_on.iter().filter_map(|id| context.catalog.get(*id)) {
        rows.add([
            ("view_catalog", DATABASE.into()),
            ("view_schema", "public".into()),
            ("view_name", (&view.name).into()),
            ("table_catalog", DATABASE.into()),
            ("table_schema", "public".into()),
            ("table_name", (&used.name).into()),
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
