//! Rows that are the same in every Eddyline: schemas, roles, the database, types, settings and what clients look
//! up beside them.

use super::objects::{BTREE, EDDYLINE, HASH, HEAP, INFORMATION_SCHEMA, OWNER_OID, PG_CATALOG, PUBLIC, USER_OID};
use super::rows::{Rows, Value};
use super::{DATABASE, OWNER, SystemContext, describe, procs, spec};
use crate::session::settings::DEFINITIONS;

pub const PG_CLASS: u32 = 1259;
pub const PG_REWRITE: u32 = 2618;
pub const DATABASE_OID: u32 = 5;
pub const SERVER: u32 = 13_100;
const TABLESPACE: u32 = 1663;
const UTF8: i64 = 6;

pub fn fill(name: &str, context: &SystemContext, rows: &mut Rows) {
    match name {
        "pg_namespace" => namespaces(rows),
        "pg_database" => database(rows),
        "pg_roles" | "pg_authid" | "pg_user" | "pg_shadow" => roles(name, context, rows),
        "pg_type" => types(rows),
        "pg_proc" => eddyline_common::postgres::procs::all().iter().for_each(|proc| procs::builtin_row(proc, rows)),
        "pg_am" => access_methods(rows),
        "pg_settings" => settings(context, rows),
        "pg_collation" => {}
        "pg_tablespace" => {
            rows.add([("oid", TABLESPACE.into()), ("spcname", "pg_default".into()), ("spcowner", OWNER_OID.into())]);
            rows.add([("oid", 1664.into()), ("spcname", "pg_global".into()), ("spcowner", OWNER_OID.into())]);
        }
        "pg_language" => {
            let language = |rows: &mut Rows, oid: i64, name: &str| {
                rows.add([("oid", oid.into()), ("lanname", name.into()), ("lanowner", OWNER_OID.into())]);
            };
            language(rows, 12, "internal");
            language(rows, 14, "sql");
        }
        "pg_foreign_server" => {
            rows.add([
                ("oid", SERVER.into()),
                ("srvname", "connectors".into()),
                ("srvowner", OWNER_OID.into()),
                ("srvfdw", (SERVER + 1).into()),
            ]);
        }
        "pg_foreign_data_wrapper" => {
            rows.add([("oid", (SERVER + 1).into()), ("fdwname", "connectors".into()), ("fdwowner", OWNER_OID.into())]);
        }
        "pg_cursors" => context.session.cursors.iter().for_each(|(name, statement)| {
            rows.add([
                ("name", name.into()),
                ("statement", (&statement.sql).into()),
                ("creation_time", context.now_micros.into()),
                ("is_holdable", false.into()),
                ("is_binary", false.into()),
                ("is_scrollable", false.into()),
            ]);
        }),
        "pg_prepared_statements" => context.session.statements.iter().for_each(|(name, statement, oids)| {
            let types: Vec<String> = oids.iter().map(|oid| spec::format_type(*oid, None)).collect();
            rows.add([
                ("name", name.into()),
                ("statement", (&statement.sql).into()),
                ("prepare_time", context.now_micros.into()),
                ("parameter_types", types.into()),
                ("from_sql", false.into()),
            ]);
        }),
        "pg_stat_activity" => context.services.iter().flat_map(|services| services.sessions.all()).for_each(|client| {
            let activity = client.activity();
            rows.add([
                ("datid", DATABASE_OID.into()),
                ("datname", DATABASE.into()),
                ("pid", client.process.into()),
                ("usename", (&client.user).into()),
                ("application_name", (&activity.application).into()),
                ("client_addr", client.address.map(|address| address.ip().to_string()).into()),
                ("client_port", client.address.map(|address| i64::from(address.port())).into()),
                ("backend_start", client.connected.0.into()),
                ("query_start", activity.began.map(|began| began.0).into()),
                ("state_change", activity.since.0.into()),
                ("state", activity.state().into()),
                ("query", (&activity.statement).into()),
                ("backend_type", "client backend".into()),
            ])
        }),
        "pg_get_keywords" => describe::RESERVED.iter().for_each(|word| {
            rows.add([
                ("word", (*word).into()),
                ("catcode", "R".into()),
                ("barelabel", true.into()),
                ("catdesc", "reserved".into()),
                ("baredesc", "can be bare label".into()),
            ])
        }),
        "pg_timezone_names" => {
            rows.add([("name", "UTC".into()), ("abbrev", "UTC".into()), ("is_dst", false.into())]);
        }
        "pg_timezone_abbrevs" => rows.add([("abbrev", "UTC".into()), ("utc_offset", "00:00:00".into()), ("is_dst", false.into())]),
        // Nothing was counted yet.
        "pg_stat_bgwriter" => rows.add([]),
        _ => {}
    }
}

fn namespaces(rows: &mut Rows) {
    let all = [(PG_CATALOG, "pg_catalog"), (PUBLIC, "public"), (INFORMATION_SCHEMA, "information_schema"), (EDDYLINE, "eddyline")];
    for (oid, name) in all {
        rows.add([("oid", oid.into()), ("nspname", name.into()), ("nspowner", OWNER_OID.into())]);
    }
}

fn database(rows: &mut Rows) {
    rows.add([
        ("oid", DATABASE_OID.into()),
        ("datname", DATABASE.into()),
        ("datdba", OWNER_OID.into()),
        ("encoding", UTF8.into()),
        ("datlocprovider", "c".into()),
        ("datallowconn", true.into()),
        ("datconnlimit", Value::Int(-1)),
        ("dattablespace", TABLESPACE.into()),
        ("datcollate", "C.UTF-8".into()),
        ("datctype", "C.UTF-8".into()),
    ]);
}

/// The owner, and whoever asks, under the name that it came with.
fn roles(name: &str, context: &SystemContext, rows: &mut Rows) {
    role(name, OWNER, OWNER_OID, rows);
    let user = context.session.user.as_str();
    if !user.is_empty() && user != OWNER {
        role(name, user, USER_OID, rows);
    }
}

fn role(name: &str, user: &str, oid: u32, rows: &mut Rows) {
    if matches!(name, "pg_user" | "pg_shadow") {
        return rows.add([
            ("usename", user.into()),
            ("usesysid", oid.into()),
            ("usecreatedb", true.into()),
            ("usesuper", true.into()),
            ("userepl", false.into()),
            ("usebypassrls", true.into()),
        ]);
    }
    rows.add([
        ("oid", oid.into()),
        ("rolname", user.into()),
        ("rolsuper", true.into()),
        ("rolinherit", true.into()),
        ("rolcreaterole", true.into()),
        ("rolcreatedb", true.into()),
        ("rolcanlogin", true.into()),
        ("rolbypassrls", true.into()),
        ("rolconnlimit", Value::Int(-1)),
    ]);
}

fn types(rows: &mut Rows) {
    for ty in spec::types() {
        rows.add([
            ("oid", ty.oid.into()),
            ("typname", ty.name.into()),
            ("typnamespace", PG_CATALOG.into()),
            ("typowner", OWNER_OID.into()),
            ("typlen", ty.length.into()),
            ("typbyval", ty.by_value.into()),
            ("typtype", ty.kind.into()),
            ("typcategory", ty.category.into()),
            ("typispreferred", ty.preferred.into()),
            ("typisdefined", true.into()),
            ("typdelim", ",".into()),
            ("typelem", ty.element.into()),
            ("typarray", ty.array.into()),
            ("typinput", ty.input.into()),
            ("typoutput", ty.output.into()),
            ("typreceive", ty.receive.into()),
            ("typsend", ty.send.into()),
            ("typmodin", ty.modifier_in.into()),
            ("typmodout", ty.modifier_out.into()),
            ("typalign", ty.alignment.into()),
            ("typstorage", ty.storage.into()),
            ("typtypmod", Value::Int(-1)),
            ("typcollation", ty.collation.into()),
        ]);
    }
}

fn access_methods(rows: &mut Rows) {
    rows.add([("oid", HEAP.into()), ("amname", "heap".into()), ("amhandler", "heap_tableam_handler".into()), ("amtype", "t".into())]);
    rows.add([("oid", BTREE.into()), ("amname", "btree".into()), ("amhandler", "bthandler".into()), ("amtype", "i".into())]);
    rows.add([("oid", HASH.into()), ("amname", "hash".into()), ("amhandler", "hashhandler".into()), ("amtype", "i".into())]);
}

fn settings(context: &SystemContext, rows: &mut Rows) {
    for (name, value) in &context.session.settings {
        let definition = DEFINITIONS.iter().find(|d| d.name == name);
        let default = definition.map_or("", |d| d.default);
        rows.add([
            ("name", name.into()),
            ("setting", value.into()),
            ("category", "Eddyline".into()),
            ("short_desc", "".into()),
            ("context", "user".into()),
            ("vartype", "string".into()),
            ("source", if value == default { "default" } else { "session" }.into()),
            ("boot_val", default.into()),
            ("reset_val", default.into()),
        ]);
    }
}
