//! Rows about relations: `pg_class`, `pg_attribute`, indexes, constraints, and the views over them. User
//! relations come from the catalog snapshot, system relations from their own specifications.

use super::describe;
use super::indexes::{self, IndexEntry};
use super::own::own_relations;
use super::rows::{Rows, Value};
use super::spec::{self, ColumnSpec};
use super::{OWNER, SystemContext, builtin, procs};
use crate::catalog::{CatalogSnapshot, constraint_oid, index_oid, relation_oid, relkind, row_type_oid, rule_oid};
use arrow::datatypes::Schema;
use eddyline_common::SqlType;
use eddyline_common::options::{PROTOBUF_DESCRIPTOR_SET, is_secret};
use eddyline_common::postgres::types::{WireType, wire_type, wire_type_of_column};
use eddyline_planner::catalog::Numbered;
use eddyline_planner::plan::{Expr, Literal};
use eddyline_planner::{Relation, RelationKind};

pub const PG_CATALOG: u32 = 11;
pub const PUBLIC: u32 = 2200;
pub const INFORMATION_SCHEMA: u32 = 13_000;
pub const EDDYLINE: u32 = 13_001;
pub const OWNER_OID: u32 = 10;
/// Of a session's user who is not named as the owner is.
pub const USER_OID: u32 = 16_383;
pub const HEAP: u32 = 2;
pub const BTREE: u32 = 403;
pub const HASH: u32 = 405;
/// Oids of the relations in schema `eddyline` begin here.
const OWN_RELATIONS: u32 = 15_000;

pub fn fill(name: &str, context: &SystemContext, rows: &mut Rows) {
    // A sink has no rows that a client could ask for.
    let relations = || context.catalog.relations().map(|r| r.as_ref()).filter(|r| !matches!(r.kind, RelationKind::Sink(_)));
    match name {
        "pg_class" => {
            relations().for_each(|r| class_row(r, has_index(r, &context.catalog), rows));
            indexes::all(&context.catalog).for_each(|index| index_class_row(&index, rows));
            system_relations().for_each(|r| system_class_row(&r, rows));
        }
        "pg_attribute" => {
            relations().for_each(|r| attribute_rows(r, rows));
            indexes::all(&context.catalog).for_each(|index| index_attribute_rows(&index, rows));
            system_relations().for_each(|r| system_attribute_rows(&r, rows));
        }
        "pg_attrdef" => relations().for_each(|r| default_rows(r, rows)),
        "pg_description" => context.catalog.comments().for_each(|(relation, column, text)| {
            let number = column.map_or(0, |c| c as i64 + 1);
            rows.add([
                ("objoid", relation_oid(relation).into()),
                ("classoid", builtin::PG_CLASS.into()),
                ("objsubid", number.into()),
                ("description", text.into()),
            ]);
        }),
        "pg_type" => relations().for_each(|r| row_type(r, rows)),
        "pg_index" => indexes::all(&context.catalog).for_each(|index| index_row(&index, rows)),
        "pg_constraint" => relations().filter(|r| has_constraint(r)).for_each(|r| constraint_row(r, rows)),
        "pg_rewrite" => relations().filter(|r| has_rule(r)).for_each(|r| rewrite_row(r, rows)),
        "pg_depend" => relations().for_each(|r| depend_rows(r, context, rows)),
        "pg_proc" => context.catalog.functions().for_each(|f| procs::row(f, rows)),
        "pg_foreign_table" => relations().filter(|r| is_source(r)).for_each(|r| foreign_table_row(r, rows)),
        "pg_tables" => relations().filter(|r| is_table(r)).for_each(|r| {
            rows.add([
                ("schemaname", "public".into()),
                ("tablename", (&r.name).into()),
                ("tableowner", OWNER.into()),
                ("hasindexes", has_index(r, &context.catalog).into()),
            ])
        }),
        "pg_views" => relations().filter(|r| is_view(r)).for_each(|r| {
            let definition = describe::definition(&context.catalog, r);
            rows.add([
                ("schemaname", "public".into()),
                ("viewname", (&r.name).into()),
                ("viewowner", OWNER.into()),
                ("definition", definition.into()),
            ])
        }),
        "pg_matviews" => relations().filter(|r| is_materialized(r)).for_each(|r| {
            rows.add([
                ("schemaname", "public".into()),
                ("matviewname", (&r.name).into()),
                ("matviewowner", OWNER.into()),
                ("hasindexes", has_index(r, &context.catalog).into()),
                ("ispopulated", true.into()),
                ("definition", describe::definition(&context.catalog, r).into()),
            ])
        }),
        "pg_indexes" => indexes::all(&context.catalog).for_each(|index| {
            rows.add([
                ("schemaname", "public".into()),
                ("tablename", (&index.relation.name).into()),
                ("indexname", (&index.name).into()),
                ("indexdef", index.definition().into()),
            ])
        }),
        "pg_stat_user_indexes" | "pg_stat_all_indexes" | "pg_statio_user_indexes" | "pg_statio_all_indexes" => {
            indexes::all(&context.catalog).for_each(|index| {
                rows.add([
                    ("relid", relation_oid(index.relation.id).into()),
                    ("indexrelid", index.oid.into()),
                    ("schemaname", "public".into()),
                    ("relname", (&index.relation.name).into()),
                    ("indexrelname", (&index.name).into()),
                ])
            })
        }
        "pg_stat_user_tables" | "pg_stat_all_tables" | "pg_statio_user_tables" | "pg_statio_all_tables" => relations()
            .filter(|r| is_table(r) || is_materialized(r))
            .for_each(|r| rows.add([("relid", relation_oid(r.id).into()), ("schemaname", "public".into()), ("relname", (&r.name).into())])),
        _ => {}
    }
}

pub fn is_source(r: &Relation) -> bool {
    r.is_source()
}

pub fn is_table(r: &Relation) -> bool {
    matches!(r.kind, RelationKind::Table { .. })
}

pub fn is_view(r: &Relation) -> bool {
    matches!(r.kind, RelationKind::View { .. })
}

pub fn is_materialized(r: &Relation) -> bool {
    matches!(r.kind, RelationKind::MaterializedView { .. })
}

/// Whether a query stands behind the relation, which PostgreSQL keeps as a rule.
fn has_rule(r: &Relation) -> bool {
    is_view(r) || is_materialized(r)
}

fn has_index(r: &Relation, catalog: &CatalogSnapshot) -> bool {
    indexes::of(catalog, r).next().is_some()
}

pub fn has_constraint(r: &Relation) -> bool {
    is_table(r) && !key_numbers(r).is_empty()
}

/// The key's columns as attribute numbers; empty if there is no key or part of it is hidden.
pub fn key_numbers(r: &Relation) -> Vec<i64> {
    let visible = |stored: &usize| r.visible.iter().position(|v| v.value == Expr::Column(*stored)).map(|i| i as i64 + 1);
    r.key.iter().map(visible).collect::<Option<_>>().unwrap_or_default()
}

/// Whether a column is declared NOT NULL. Those of views are not, whatever can be told of their queries, as in PostgreSQL.
pub fn is_not_null(r: &Relation, column: usize) -> bool {
    (is_table(r) || is_source(r)) && !r.visible[column].column.nullable
}

/// A system relation as `pg_class` shows it.
struct SystemRelation {
    oid: u32,
    name: &'static str,
    namespace: u32,
    kind: &'static str,
    columns: Vec<(String, WireType)>,
}

fn system_relations() -> impl Iterator<Item = SystemRelation> {
    let known = spec::relations().iter().filter(|r| r.kind != "F").map(|r| SystemRelation {
        oid: r.oid,
        name: r.name,
        namespace: if r.schema == "pg_catalog" { PG_CATALOG } else { INFORMATION_SCHEMA },
        kind: r.kind,
        columns: r.columns.iter().map(|c| (c.name.to_string(), column_type(c))).collect(),
    });
    let own = own_relations().enumerate().map(|(i, (relation, name))| SystemRelation {
        oid: OWN_RELATIONS + i as u32,
        name,
        namespace: EDDYLINE,
        kind: "v",
        columns: of_schema(&relation.schema()),
    });
    known.chain(own)
}

fn of_schema(schema: &Schema) -> Vec<(String, WireType)> {
    schema.fields().iter().map(|f| (f.name().clone(), wire_type(f))).collect()
}

fn column_type(column: &ColumnSpec) -> WireType {
    match spec::type_by_name(column.ty) {
        Some(ty) => WireType { oid: ty.oid, length: ty.length, modifier: -1 },
        None => wire_type(&spec::field(column.name, column.ty)),
    }
}

fn class_row(r: &Relation, has_index: bool, rows: &mut Rows) {
    let method = if is_table(r) || is_materialized(r) { HEAP } else { 0 };
    rows.add([
        ("oid", relation_oid(r.id).into()),
        ("relname", (&r.name).into()),
        ("relnamespace", PUBLIC.into()),
        ("reltype", row_type_oid(r.id).into()),
        ("relowner", OWNER_OID.into()),
        ("relam", method.into()),
        ("relfilenode", if method == 0 { 0.into() } else { relation_oid(r.id).into() }),
        ("reltuples", Value::Int(-1)),
        ("relhasindex", has_index.into()),
        ("relpersistence", if r.is_temporary() { "t" } else { "p" }.into()),
        ("relkind", relkind(r).into()),
        ("relnatts", r.visible.len().into()),
        ("relhasrules", has_rule(r).into()),
        ("relispopulated", true.into()),
        ("relreplident", if method == 0 { "n" } else { "d" }.into()),
    ]);
}

fn index_class_row(index: &IndexEntry, rows: &mut Rows) {
    rows.add([
        ("oid", index.oid.into()),
        ("relname", (&index.name).into()),
        ("relnamespace", PUBLIC.into()),
        ("relowner", OWNER_OID.into()),
        ("relam", index.method().into()),
        ("relfilenode", index.oid.into()),
        ("relpersistence", "p".into()),
        ("relkind", "i".into()),
        ("relnatts", index.columns.len().into()),
        ("relispopulated", true.into()),
        ("relreplident", "n".into()),
    ]);
}

fn system_class_row(r: &SystemRelation, rows: &mut Rows) {
    rows.add([
        ("oid", r.oid.into()),
        ("relname", r.name.into()),
        ("relnamespace", r.namespace.into()),
        ("relowner", OWNER_OID.into()),
        ("relam", if r.kind == "r" { HEAP } else { 0 }.into()),
        ("relpersistence", "p".into()),
        ("relkind", r.kind.into()),
        ("relnatts", r.columns.len().into()),
        ("relhasrules", (r.kind == "v").into()),
        ("relispopulated", true.into()),
        ("relreplident", "n".into()),
    ]);
}

fn attribute(relation: u32, number: usize, name: &str, ty: WireType, not_null: bool, has_default: bool, rows: &mut Rows) {
    let known = spec::type_by_oid(ty.oid);
    rows.add([
        ("attrelid", relation.into()),
        ("attname", name.into()),
        ("atttypid", ty.oid.into()),
        ("attstattarget", Value::Int(-1)),
        ("attlen", ty.length.into()),
        ("attnum", number.into()),
        ("attndims", i64::from(known.is_some_and(|t| t.category == "A")).into()),
        ("attcacheoff", Value::Int(-1)),
        ("atttypmod", ty.modifier.into()),
        ("attbyval", known.is_some_and(|t| t.by_value).into()),
        ("attalign", known.map_or("i", |t| t.alignment).into()),
        ("attstorage", known.map_or("p", |t| t.storage).into()),
        ("attnotnull", not_null.into()),
        ("atthasdef", has_default.into()),
        ("attislocal", true.into()),
        ("attcollation", known.map_or(0, |t| t.collation).into()),
    ]);
}

fn attribute_rows(r: &Relation, rows: &mut Rows) {
    for (index, visible) in r.visible.iter().enumerate() {
        let column = &visible.column;
        attribute(
            relation_oid(r.id),
            index + 1,
            &column.name,
            wire_type_of_column(column),
            is_not_null(r, index),
            default_of(r, index).is_some(),
            rows,
        );
        if let Some(numbered) = numbered(r, index) {
            rows.set_last("attidentity", if numbered.always { "a" } else { "d" }.into());
        }
    }
}

/// How a visible column numbers the rows, if it does.
pub fn numbered(r: &Relation, visible: usize) -> Option<&Numbered> {
    r.numbered().filter(|numbered| matches!(r.visible[visible].value, Expr::Column(stored) if stored == numbered.column))
}

fn index_attribute_rows(index: &IndexEntry, rows: &mut Rows) {
    for (position, number) in index.columns.iter().enumerate() {
        let column = &index.relation.visible[*number as usize - 1].column;
        attribute(index.oid, position + 1, &column.name, wire_type_of_column(column), false, false, rows);
    }
}

fn system_attribute_rows(r: &SystemRelation, rows: &mut Rows) {
    for (index, (name, ty)) in r.columns.iter().enumerate() {
        attribute(r.oid, index + 1, name, *ty, name == "oid", false, rows);
    }
}

/// The default or the computed value of a visible column, as SQL.
pub fn default_of(r: &Relation, visible: usize) -> Option<String> {
    let name = |stored: usize| r.columns.get(stored).map_or_else(|| format!("column{stored}"), |c| describe::quote_ident(&c.name));
    match (&r.visible[visible].value, &r.kind) {
        (Expr::Column(stored), RelationKind::Table { defaults, .. }) => {
            defaults.get(stored).map(|e| describe::expression(&of_type(e, &r.columns[*stored].ty), &name))
        }
        (Expr::Column(_), _) => None,
        (computed, _) => Some(describe::expression(computed, &name)),
    }
}

/// A default as its column takes it: a constant that is stored as it is has the column's type.
fn of_type(default: &Expr, ty: &SqlType) -> Expr {
    match default {
        Expr::Literal(literal) if literal.ty.to_arrow() == ty.to_arrow() => {
            Expr::Literal(Literal { ty: ty.clone(), value: literal.value.clone() })
        }
        other => other.clone(),
    }
}

fn default_rows(r: &Relation, rows: &mut Rows) {
    for index in 0..r.visible.len() {
        if let Some(text) = default_of(r, index) {
            rows.add([
                ("oid", (relation_oid(r.id) * 16 + index as u32).into()),
                ("adrelid", relation_oid(r.id).into()),
                ("adnum", (index + 1).into()),
                ("adbin", text.into()),
            ]);
        }
    }
}

fn row_type(r: &Relation, rows: &mut Rows) {
    rows.add([
        ("oid", row_type_oid(r.id).into()),
        ("typname", (&r.name).into()),
        ("typnamespace", PUBLIC.into()),
        ("typowner", OWNER_OID.into()),
        ("typlen", Value::Int(-1)),
        ("typtype", "c".into()),
        ("typcategory", "C".into()),
        ("typisdefined", true.into()),
        ("typdelim", ",".into()),
        ("typrelid", relation_oid(r.id).into()),
        ("typinput", "record_in".into()),
        ("typoutput", "record_out".into()),
        ("typreceive", "record_recv".into()),
        ("typsend", "record_send".into()),
        ("typalign", "d".into()),
        ("typstorage", "x".into()),
        ("typtypmod", Value::Int(-1)),
    ]);
}

fn index_row(index: &IndexEntry, rows: &mut Rows) {
    let zeros = vec![0; index.num_keys];
    rows.add([
        ("indexrelid", index.oid.into()),
        ("indrelid", relation_oid(index.relation.id).into()),
        ("indnatts", index.columns.len().into()),
        ("indnkeyatts", index.num_keys.into()),
        ("indisunique", index.is_of_key.into()),
        ("indisprimary", index.is_primary().into()),
        ("indimmediate", true.into()),
        ("indisvalid", true.into()),
        ("indisready", true.into()),
        ("indislive", true.into()),
        ("indkey", index.columns.clone().into()),
        ("indcollation", zeros.clone().into()),
        ("indclass", zeros.clone().into()),
        ("indoption", zeros.into()),
    ]);
}

fn constraint_row(r: &Relation, rows: &mut Rows) {
    rows.add([
        ("oid", constraint_oid(r.id).into()),
        ("conname", indexes::key_name(r).into()),
        ("connamespace", PUBLIC.into()),
        ("contype", "p".into()),
        ("convalidated", true.into()),
        ("conrelid", relation_oid(r.id).into()),
        ("conindid", index_oid(r.id).into()),
        ("confupdtype", " ".into()),
        ("confdeltype", " ".into()),
        ("confmatchtype", " ".into()),
        ("conislocal", true.into()),
        ("connoinherit", true.into()),
        ("conkey", key_numbers(r).into()),
    ]);
}

fn rewrite_row(r: &Relation, rows: &mut Rows) {
    rows.add([
        ("oid", rule_oid(r.id).into()),
        ("rulename", "_RETURN".into()),
        ("ev_class", relation_oid(r.id).into()),
        ("ev_type", "1".into()),
        ("ev_enabled", "O".into()),
        ("is_instead", true.into()),
    ]);
}

/// What a relation reads. With a view it is the view's rule that does, which belongs to the view and names its columns.
fn depend_rows(r: &Relation, context: &SystemContext, rows: &mut Rows) {
    let has_rule = has_rule(r);
    let (class, object) = if has_rule { (builtin::PG_REWRITE, rule_oid(r.id)) } else { (builtin::PG_CLASS, relation_oid(r.id)) };
    let mut row = |of: u32, used: u32, kind: &str| {
        rows.add([
            ("classid", class.into()),
            ("objid", object.into()),
            ("refclassid", of.into()),
            ("refobjid", used.into()),
            ("deptype", kind.into()),
        ]);
    };
    if has_rule {
        row(builtin::PG_CLASS, relation_oid(r.id), "i");
        row(builtin::PG_CLASS, relation_oid(r.id), "n");
    }
    for used in &r.depends_on {
        let of = if context.catalog.function_by_id(*used).is_some() { procs::PG_PROC } else { builtin::PG_CLASS };
        row(of, relation_oid(*used), "n");
    }
}

fn foreign_table_row(r: &Relation, rows: &mut Rows) {
    let Some(source) = r.source_spec() else { return };
    let options: Vec<String> =
        source.options.iter().filter(|(k, _)| !is_secret(k) && *k != PROTOBUF_DESCRIPTOR_SET).map(|(k, v)| format!("{k}={v}")).collect();
    rows.add([("ftrelid", relation_oid(r.id).into()), ("ftserver", builtin::SERVER.into()), ("ftoptions", options.into())]);
}
