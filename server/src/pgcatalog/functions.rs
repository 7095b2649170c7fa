//! `pg_*` functions and their kin: what clients ask about the catalog and the session. Each is a row of one
//! table: name, type of the result, and how a row's arguments become a value. They see one statement's
//! context, so a registry of them is made per statement; making one costs nothing until a function is named.

use super::rows::{Value, array_of};
use super::values::{bounds, format_text, parse_ident, size_bytes, size_pretty};
use super::{DATABASE, OWNER, SystemContext, advisory, describe, indexes, objects, procs, sleep, spec};
use crate::advisory::Mode;
use crate::session::settings::SERVER_VERSION;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DataFusionError;
use datafusion::error::Result as DfResult;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, HigherOrderUDF, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility, WindowUDF,
};
use eddyline_common::{SqlError, SqlState};
use eddyline_planner::functions::arguments;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

type Body = fn(&SystemContext, &[Value]) -> Result<Value, SqlError>;

struct Definition {
    name: &'static str,
    returns: &'static str,
    body: Body,
}

const fn define(name: &'static str, returns: &'static str, body: Body) -> Definition {
    Definition { name, returns, body }
}

fn arg(args: &[Value], index: usize) -> &Value {
    args.get(index).unwrap_or(&Value::Null)
}

fn null(_: &SystemContext, _: &[Value]) -> Result<Value, SqlError> {
    Ok(Value::Null)
}

fn yes(_: &SystemContext, args: &[Value]) -> Result<Value, SqlError> {
    Ok(if args.contains(&Value::Null) { Value::Null } else { true.into() })
}

fn no(_: &SystemContext, _: &[Value]) -> Result<Value, SqlError> {
    Ok(false.into())
}

fn zero(_: &SystemContext, _: &[Value]) -> Result<Value, SqlError> {
    Ok(Value::Int(0))
}

/// Sorted by what they are about.
const DEFINITIONS: &[Definition] = &[
    // The server and the session.
    define("version", "text", |_, _| Ok(version().into())),
    define("current_database", "name", |_, _| Ok(DATABASE.into())),
    define("current_catalog", "name", |_, _| Ok(DATABASE.into())),
    define("current_schema", "name", |_, _| Ok("public".into())),
    define("current_schemas", "_name", |_, args| {
        let implicit = arg(args, 0).is_true().then(|| "pg_catalog".to_string());
        Ok(Value::Texts(implicit.into_iter().chain(["public".to_string()]).collect()))
    }),
    define("current_user", "name", |c, _| Ok((&c.session.user).into())),
    define("current_role", "name", |c, _| Ok((&c.session.user).into())),
    define("session_user", "name", |c, _| Ok((&c.session.user).into())),
    define("user", "name", |c, _| Ok((&c.session.user).into())),
    define("current_setting", "text", current_setting),
    define("set_config", "text", set_config),
    define("pg_backend_pid", "int4", |c, _| Ok(c.session.process.into())),
    define("pg_cancel_backend", "bool", |c, args| on_session(c, args, |client| client.cancel.request())),
    define("pg_terminate_backend", "bool", |c, args| on_session(c, args, |client| client.cancel.stop())),
    define("pg_is_in_recovery", "bool", no),
    define("pg_is_wal_replay_paused", "bool", no),
    define("pg_my_temp_schema", "oid", zero),
    define("pg_is_other_temp_schema", "bool", no),
    define("inet_server_addr", "inet", null),
    define("inet_server_port", "int4", null),
    define("inet_client_addr", "inet", null),
    define("txid_current", "int8", |c, _| Ok(c.now_micros.into())),
    // Who waits for an advisory lock is not told.
    define("pg_blocking_pids", "_int4", |_, _| Ok(Value::Ints(vec![]))),
    define("pg_safe_snapshot_blocking_pids", "_int4", |_, _| Ok(Value::Ints(vec![]))),
    define("txid_current_if_assigned", "int8", null),
    define("pg_current_xact_id_if_assigned", "int8", null),
    define("pg_current_xact_id", "int8", |c, _| Ok(c.now_micros.into())),
    define("clock_timestamp", "timestamptz", |c, _| Ok(c.services.as_ref().map_or(c.now_micros, |s| s.clock.now().micros()).into())),
    define("pg_conf_load_time", "timestamptz", |c, _| Ok(c.now_micros.into())),
    define("pg_postmaster_start_time", "timestamptz", |c, _| {
        Ok(c.services.as_ref().map_or(c.now_micros, |services| services.started.micros()).into())
    }),
    define("pg_try_advisory_lock", "bool", |c, args| advisory::try_lock(c, args, Mode::OF_SESSION)),
    define("pg_try_advisory_lock_shared", "bool", |c, args| advisory::try_lock(c, args, Mode::OF_SESSION.shared())),
    define("pg_try_advisory_xact_lock", "bool", |c, args| advisory::try_lock(c, args, Mode::OF_TRANSACTION)),
    define("pg_try_advisory_xact_lock_shared", "bool", |c, args| advisory::try_lock(c, args, Mode::OF_TRANSACTION.shared())),
    define("pg_advisory_unlock", "bool", |c, args| advisory::unlock(c, args, Mode::OF_SESSION)),
    define("pg_advisory_unlock_shared", "bool", |c, args| advisory::unlock(c, args, Mode::OF_SESSION.shared())),
    define("pg_advisory_unlock_all", "void", |c, _| advisory::unlock_all(c)),
    // Names, oids and types.
    define("format_type", "text", |_, args| match arg(args, 0).as_oid() {
        Some(oid) => Ok(spec::format_type(oid, arg(args, 1).as_int()).into()),
        None => Ok(Value::Null),
    }),
    define("pg_get_userbyid", "name", |c, args| {
        Ok(match arg(args, 0).as_oid() {
            Some(objects::OWNER_OID) => OWNER.into(),
            Some(objects::USER_OID) => (&c.session.user).into(),
            Some(oid) => format!("unknown (OID={oid})").into(),
            None => Value::Null,
        })
    }),
    define("getdatabaseencoding", "name", |_, _| Ok("UTF8".into())),
    define("pg_client_encoding", "name", |_, _| Ok("UTF8".into())),
    define("pg_encoding_to_char", "name", |_, args| Ok(if arg(args, 0).as_int() == Some(6) { "UTF8" } else { "" }.into())),
    define("pg_char_to_encoding", "int4", |_, args| {
        Ok(Value::Int(if arg(args, 0).as_text().is_some_and(|t| t.eq_ignore_ascii_case("utf8")) { 6 } else { -1 }))
    }),
    define("to_regclass", "regclass", |c, args| Ok(arg(args, 0).as_text().and_then(|n| describe::class_oid(&c.catalog, &n)).into())),
    define("to_regtype", "oid", |_, args| Ok(arg(args, 0).as_text().and_then(|n| describe::type_oid(&n)).into())),
    define("to_regnamespace", "oid", |_, args| Ok(arg(args, 0).as_text().and_then(|n| namespace_oid(&n)).into())),
    define("to_regproc", "regproc", |c, args| Ok(arg(args, 0).as_text().and_then(|n| procs::oid_by_name(c, &n)).into())),
    define("to_regrole", "oid", |_, args| Ok((arg(args, 0).as_text().as_deref() == Some(OWNER)).then_some(objects::OWNER_OID).into())),
    define("eddyline_regclass", "oid", |c, args| {
        oid_of(args, "relation", SqlState::UNDEFINED_TABLE, |n| describe::class_oid(&c.catalog, n))
    }),
    define("eddyline_regtype", "oid", |_, args| oid_of(args, "type", SqlState::UNDEFINED_OBJECT, describe::type_oid)),
    define("eddyline_regnamespace", "oid", |_, args| oid_of(args, "schema", SqlState::INVALID_SCHEMA_NAME, namespace_oid)),
    define("eddyline_regrole", "oid", |c, args| {
        // Whoever asks is the owner by another name.
        oid_of(args, "role", SqlState::UNDEFINED_OBJECT, |n| (n == OWNER || n == c.session.user).then_some(objects::OWNER_OID))
    }),
    define("eddyline_regproc", "regproc", regproc),
    define("eddyline_regproc_oid", "oid", regproc),
    define("eddyline_regprocedure", "oid", regproc),
    define("eddyline_regoper", "oid", |_, args| oid_of(args, "operator", SqlState::UNDEFINED_FUNCTION, |_| None)),
    define("eddyline_regclass_name", "regclass_text", |c, args| {
        let oid = oid_of(args, "relation", SqlState::UNDEFINED_TABLE, |n| describe::class_oid(&c.catalog, n))?;
        let name = |oid: u32| match oid {
            0 => "-".into(),
            oid => describe::class_name(&c.catalog, oid).unwrap_or_else(|| oid.to_string()),
        };
        Ok(oid.as_oid().map(name).into())
    }),
    define("eddyline_regtype_name", "text", |_, args| {
        let oid = oid_of(args, "type", SqlState::UNDEFINED_OBJECT, describe::type_oid)?;
        Ok(oid.as_oid().map(|oid| spec::format_type(oid, None)).into())
    }),
    define("eddyline_regproc_name", "regproc_text", |c, args| Ok(name_of(args, |oid| procs::name(c, oid)))),
    define("eddyline_regnamespace_name", "text", |_, args| Ok(name_of(args, namespace_name))),
    define("eddyline_regrole_name", "text", |_, args| Ok(name_of(args, role_name))),
    define("quote_ident", "text", |_, args| Ok(arg(args, 0).as_text().map(|t| describe::quote_ident(&t)).into())),
    define("quote_literal", "text", |_, args| Ok(arg(args, 0).as_text().map(|t| describe::quote_literal(&t)).into())),
    define("quote_nullable", "text", |_, args| {
        Ok(arg(args, 0).as_text().map_or("NULL".to_string(), |t| describe::quote_literal(&t)).into())
    }),
    define("parse_ident", "_text", |_, args| match arg(args, 0).as_text() {
        Some(name) => parse_ident(&name, args.len() < 2 || arg(args, 1).is_true()).map(Value::Texts),
        None => Ok(Value::Null),
    }),
    define("array_lower", "int4", |_, args| Ok(bounds(arg(args, 0)).map(|b| *b.start()).into())),
    define("array_upper", "int4", |_, args| Ok(bounds(arg(args, 0)).map(|b| *b.end()).into())),
    define("generate_subscripts", "_int4", |_, args| Ok(Value::Ints(bounds(arg(args, 0)).map_or(vec![], |b| b.collect())))),
    define("format", "text", |_, args| format_text(args)),
    // Definitions and descriptions.
    define("pg_get_expr", "text", |_, args| Ok(arg(args, 0).as_text().into())),
    define("pg_get_viewdef", "text", |c, args| {
        let oid = arg(args, 0).as_oid().or_else(|| arg(args, 0).as_text().and_then(|n| describe::class_oid(&c.catalog, &n)));
        Ok(oid.and_then(|oid| c.catalog.by_oid(oid)).and_then(|r| describe::definition(&c.catalog, r)).into())
    }),
    define("pg_get_indexdef", "text", |c, args| {
        let column = arg(args, 1).as_int().unwrap_or(0).max(0) as usize;
        Ok(arg(args, 0).as_oid().and_then(|oid| indexes::definition_by_oid(&c.catalog, oid, column)).into())
    }),
    define("pg_get_constraintdef", "text", |c, args| {
        Ok(arg(args, 0).as_oid().and_then(|oid| describe::constraint_by_oid(&c.catalog, oid)).into())
    }),
    define("pg_get_ruledef", "text", null),
    define("pg_get_triggerdef", "text", null),
    define("pg_get_partkeydef", "text", null),
    define("pg_get_statisticsobjdef_columns", "text", null),
    define("pg_get_serial_sequence", "text", null),
    define("pg_get_function_result", "text", |c, args| Ok(procs::result(c, arg(args, 0).as_oid()))),
    define("pg_get_function_arguments", "text", |c, args| Ok(procs::arguments(c, arg(args, 0).as_oid()))),
    define("pg_get_function_identity_arguments", "text", |c, args| Ok(procs::arguments(c, arg(args, 0).as_oid()))),
    define("pg_get_function_sqlbody", "text", null),
    define("pg_get_functiondef", "text", |c, args| Ok(procs::definition(c, arg(args, 0).as_oid()))),
    define("obj_description", "text", |c, args| Ok(comment(c, arg(args, 0), None).into())),
    define("col_description", "text", |c, args| {
        let column = arg(args, 1).as_int().and_then(|number| usize::try_from(number - 1).ok());
        Ok(column.and_then(|column| comment(c, arg(args, 0), Some(column))).into())
    }),
    define("shobj_description", "text", null),
    define("pg_partition_ancestors", "_oid", |_, _| Ok(Value::Ints(Vec::new()))),
    define("pg_relation_is_publishable", "bool", no),
    define("pg_tablespace_location", "text", |_, _| Ok("".into())),
    define("pg_relation_is_updatable", "int4", zero),
    define("pg_column_is_updatable", "bool", no),
    // Visibility and privileges: everything is the one role's.
    define("pg_table_is_visible", "bool", |c, args| {
        Ok(arg(args, 0).as_oid().map(|oid| describe::class_name(&c.catalog, oid).is_some_and(|n| !n.contains('.'))).into())
    }),
    define("pg_type_is_visible", "bool", yes),
    define("pg_function_is_visible", "bool", yes),
    define("pg_operator_is_visible", "bool", yes),
    define("pg_opclass_is_visible", "bool", yes),
    define("pg_opfamily_is_visible", "bool", yes),
    define("pg_collation_is_visible", "bool", yes),
    define("pg_conversion_is_visible", "bool", yes),
    define("pg_statistics_obj_is_visible", "bool", yes),
    define("pg_ts_config_is_visible", "bool", yes),
    define("pg_ts_dict_is_visible", "bool", yes),
    define("has_table_privilege", "bool", yes),
    define("has_column_privilege", "bool", yes),
    define("has_any_column_privilege", "bool", yes),
    define("has_schema_privilege", "bool", yes),
    define("has_database_privilege", "bool", yes),
    define("has_function_privilege", "bool", yes),
    define("has_sequence_privilege", "bool", yes),
    define("has_tablespace_privilege", "bool", yes),
    define("has_type_privilege", "bool", yes),
    define("has_server_privilege", "bool", yes),
    define("has_language_privilege", "bool", yes),
    define("has_foreign_data_wrapper_privilege", "bool", yes),
    define("pg_has_role", "bool", yes),
    define("acldefault", "_aclitem", |_, _| {
        let error = SqlError::unsupported("acldefault() is not supported: there are no privileges to list");
        Err(error
            .with_hint("This is what pg_dump asks first, which cannot dump Eddyline. SHOW CREATE gives the statements, COPY the rows."))
    }),
    // Sizes.
    define("pg_relation_size", "int8", zero),
    define("pg_table_size", "int8", zero),
    define("pg_total_relation_size", "int8", zero),
    define("pg_indexes_size", "int8", zero),
    define("pg_database_size", "int8", zero),
    define("pg_tablespace_size", "int8", zero),
    define("pg_size_pretty", "text", |_, args| Ok(arg(args, 0).as_int().map(size_pretty).into())),
    define("pg_size_bytes", "int8", |_, args| match arg(args, 0).as_text() {
        Some(size) => Ok(size_bytes(&size)?.into()),
        None => Ok(Value::Null),
    }),
    define("pg_stat_get_numscans", "int8", zero),
];

fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (Eddyline {})", env!("CARGO_PKG_VERSION"))
}

fn comment(context: &SystemContext, oid: &Value, column: Option<usize>) -> Option<String> {
    let relation = context.catalog.by_oid(oid.as_oid()?)?;
    context.catalog.comment(relation.id, column).map(str::to_string)
}

fn current_setting(context: &SystemContext, args: &[Value]) -> Result<Value, SqlError> {
    let Some(name) = arg(args, 0).as_text() else { return Ok(Value::Null) };
    match context.setting(&name) {
        Some(value) => Ok(value.into()),
        None if arg(args, 1).is_true() => Ok(Value::Null),
        None => Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))),
    }
}

/// Does something to the session with the process id in the first argument; whether there is one.
fn on_session(context: &SystemContext, args: &[Value], act: fn(&crate::sessions::Client)) -> Result<Value, SqlError> {
    let Some(process) = arg(args, 0).as_int() else { return Ok(Value::Null) };
    let sessions = context.services.as_ref().map(|services| &services.sessions);
    let client = i32::try_from(process).ok().and_then(|process| sessions?.get(process));
    client.iter().for_each(|client| act(client));
    Ok(client.is_some().into())
}

fn set_config(context: &SystemContext, args: &[Value]) -> Result<Value, SqlError> {
    let (Some(name), Some(value)) = (arg(args, 0).as_text(), arg(args, 1).as_text()) else { return Ok(Value::Null) };
    context.set_config.lock().push((name, value.clone(), arg(args, 2).is_true()));
    Ok(value.into())
}

/// A name's oid; a number is taken as it is.
fn oid_of(args: &[Value], what: &str, missing: SqlState, find: impl Fn(&str) -> Option<u32>) -> Result<Value, SqlError> {
    match arg(args, 0) {
        Value::Text(name) if name == "-" => Ok(Value::Int(0)),
        Value::Text(name) => match name.parse::<u32>() {
            Ok(oid) => Ok(oid.into()),
            Err(_) => {
                let found = find(name).ok_or_else(|| SqlError::new(missing, format!("{what} \"{name}\" does not exist")))?;
                Ok(found.into())
            }
        },
        other => Ok(other.as_oid().into()),
    }
}

/// An oid's name; a name is taken as it is.
fn name_of(args: &[Value], find: impl Fn(u32) -> String) -> Value {
    match arg(args, 0) {
        Value::Text(name) if name.parse::<u32>().is_err() => name.into(),
        value => value.as_oid().map(find).into(),
    }
}

fn role_name(oid: u32) -> String {
    if oid == objects::OWNER_OID { OWNER.to_string() } else { oid.to_string() }
}

fn namespace_oid(name: &str) -> Option<u32> {
    Some(match name.trim_matches('"') {
        "pg_catalog" => objects::PG_CATALOG,
        "public" => objects::PUBLIC,
        "information_schema" => objects::INFORMATION_SCHEMA,
        "eddyline" => objects::EDDYLINE,
        _ => return None,
    })
}

fn namespace_name(oid: u32) -> String {
    match oid {
        objects::PG_CATALOG => "pg_catalog".into(),
        objects::PUBLIC => "public".into(),
        objects::INFORMATION_SCHEMA => "information_schema".into(),
        objects::EDDYLINE => "eddyline".into(),
        other => other.to_string(),
    }
}

/// A function's oid by its name; a number is taken as it is.
fn regproc(context: &SystemContext, args: &[Value]) -> Result<Value, SqlError> {
    oid_of(args, "function", SqlState::UNDEFINED_FUNCTION, |name| procs::oid_by_name(context, name))
}

static BY_NAME: LazyLock<HashMap<&'static str, &'static Definition>> = LazyLock::new(|| DEFINITIONS.iter().map(|d| (d.name, d)).collect());

/// One function with its statement's context.
struct SystemFunction {
    definition: &'static Definition,
    signature: Signature,
    context: Arc<SystemContext>,
}

impl std::fmt::Debug for SystemFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.definition.name)
    }
}

impl PartialEq for SystemFunction {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name == other.definition.name && Arc::ptr_eq(&self.context, &other.context)
    }
}

impl Eq for SystemFunction {}

impl Hash for SystemFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
    }
}

impl SystemFunction {
    fn field(&self) -> arrow::datatypes::Field {
        // Shown by name, announced as regclass or regproc.
        let named = |mark: &str| {
            let mark = HashMap::from([(eddyline_common::types::TYPE_METADATA_KEY.to_string(), mark.to_string())]);
            spec::field("", "text").with_metadata(mark)
        };
        match self.definition.returns {
            "regclass_text" => named("regclass"),
            "regproc_text" => named("regproc"),
            ty => spec::field("", ty),
        }
    }
}

impl ScalarUDFImpl for SystemFunction {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(self.field().data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(self.field().with_name(self.definition.name)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let (rows, columns) = (arguments::rows(&args), arguments::columns(&args)?);
        let external = |e: SqlError| DataFusionError::External(Box::new(e));
        let mut values = Vec::with_capacity(rows);
        let mut row_args = Vec::with_capacity(columns.len());
        for row in 0..rows {
            row_args.clear();
            row_args.extend(columns.iter().zip(&args.arg_fields).map(|(c, field)| Value::of_field(c, row, field)));
            values.push((self.definition.body)(&self.context, &row_args).map_err(external)?);
        }
        let ty = match self.definition.returns {
            "regclass_text" | "regproc_text" => "text",
            ty => ty,
        };
        let array = array_of(&values, ty).map_err(external)?;
        arguments::result(array, &args)
    }
}

/// The planner's functions with the system's before them.
pub struct SessionFunctions {
    base: Arc<eddyline_planner::functions::Functions>,
    context: Arc<SystemContext>,
}

impl SessionFunctions {
    pub fn new(context: Arc<SystemContext>) -> Self {
        SessionFunctions { base: eddyline_planner::functions::registry(), context }
    }
}

impl FunctionRegistry for SessionFunctions {
    fn udfs(&self) -> HashSet<String> {
        let own =
            DEFINITIONS.iter().map(|d| d.name.to_string()).chain([sleep::NAME.to_string()]).chain(advisory::NAMES.map(str::to_string));
        self.base.udfs().into_iter().chain(own).collect()
    }

    fn higher_order_function_names(&self) -> HashSet<String> {
        self.base.higher_order_function_names()
    }

    fn udafs(&self) -> HashSet<String> {
        self.base.udafs()
    }

    fn udwfs(&self) -> HashSet<String> {
        self.base.udwfs()
    }

    fn udf(&self, name: &str) -> DfResult<Arc<ScalarUDF>> {
        if name == sleep::NAME {
            return Ok(sleep::function());
        }
        if let Some(lock) = advisory::function(name, &self.context) {
            return Ok(lock);
        }
        let Some(definition) = BY_NAME.get(name) else { return self.base.udf(name) };
        // These act, or answer differently within a statement; the others only tell.
        let acts = ["set_config", "pg_cancel_backend", "pg_terminate_backend", "clock_timestamp"].contains(&definition.name);
        let is_volatile = acts || definition.name.contains("_advisory_");
        let volatility = if is_volatile { Volatility::Volatile } else { Volatility::Stable };
        let signature = Signature::one_of(vec![TypeSignature::VariadicAny, TypeSignature::Nullary], volatility);
        Ok(Arc::new(ScalarUDF::new_from_impl(SystemFunction { definition, signature, context: self.context.clone() })))
    }

    fn higher_order_function(&self, name: &str) -> DfResult<Arc<HigherOrderUDF>> {
        self.base.higher_order_function(name)
    }

    fn udaf(&self, name: &str) -> DfResult<Arc<AggregateUDF>> {
        self.base.udaf(name)
    }

    fn udwf(&self, name: &str) -> DfResult<Arc<WindowUDF>> {
        self.base.udwf(name)
    }

    fn expr_planners(&self) -> Vec<Arc<dyn ExprPlanner>> {
        self.base.expr_planners()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_defined_once() {
        assert_eq!(BY_NAME.len(), DEFINITIONS.len());
        assert!(version().starts_with("PostgreSQL 15"));
    }
}
