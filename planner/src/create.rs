//! CREATE: from a parsed definition to the `Relation` that the catalog keeps. Ids are the coordinator's; a
//! relation leaves here with id 0 and no start offsets.

use crate::bind::as_of::is_arrival;
use crate::bind::{Binder, Mode, cast, query_names, resolve_names};
use crate::catalog::{Catalog, FIRST_TEMPORARY, Numbered, Relation, RelationKind, ViewOptions, VisibleColumn, WatermarkDefinition};
use crate::error::{SourceText, fold, suggest};
use crate::expr;
use crate::lower::{
    Emission, Rewrites, StateTableIds, StateTtls, check, check_correlated, check_unnested, columns_of, join_laterals, lower, prepare,
    with_orders,
};
use crate::optimize;
use crate::parse::Parsed;
use crate::parse::ast::{ColumnValue, CreateRelation, CreateView};
use crate::plan::{ChangelogMode, Emit, Expr, Node, Op, PLAN_VERSION, StreamPlan};
use crate::settings::{OF_JOBS, Settings};
use crate::statement::{RowLocks, StreamingQuery};
use crate::types::to_ast;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{Expr as DfExpr, ExprSchemable, LogicalPlan, lit};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query};
use eddyline_common::connector::{ColumnOrigin, SourceColumn, SourceSpec};
use eddyline_common::options;
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{RelationId, Result, SqlError, SqlState, SqlType};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The name of a new or named user object: folded, in `public`.
pub fn object_name(name: &ObjectName, text: &SourceText) -> Result<String> {
    let idents: Vec<&Ident> = name.0.iter().filter_map(|p| p.as_ident()).collect();
    let Some((last, schema)) = idents.split_last() else {
        return Err(SqlError::new(SqlState::INVALID_NAME, format!("\"{name}\" is not a name")));
    };
    if let Some(schema) = schema.last()
        && fold(schema) != "public"
    {
        let error = SqlError::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{}\" does not hold user objects", fold(schema)));
        return Err(text.at(error.with_hint("All user objects are in schema public."), schema.span.start));
    }
    Ok(fold(last))
}

/// The stored and visible columns while they are collected.
struct Columns {
    stored: Vec<Column>,
    source: Vec<SourceColumn>,
    /// Name, and the stored column it is, or `None` for a computed one that is bound later.
    visible: Vec<(Ident, Option<usize>)>,
}

pub fn create_relation(create: &CreateRelation, parsed: &Parsed, catalog: &dyn Catalog, settings: &Settings) -> Result<Relation> {
    let text = &parsed.text;
    let name = object_name(&create.name, text)?;
    let mut raw = create.options.clone();
    if let Some(format) = &create.format {
        let value = options::format_of_clause(&format.format, &format.encode)?;
        if raw.insert(options::FORMAT.to_string(), value.to_string()).is_some() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "the format is given twice")
                .with_hint("Write either FORMAT ... ENCODE or the option."));
        }
    }
    let is_source = create.source || raw.keys().any(|k| k.eq_ignore_ascii_case(options::CONNECTOR));
    if is_source && !raw.keys().any(|k| k.eq_ignore_ascii_case(options::CONNECTOR)) {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER, "a source needs the option connector")
            .with_hint("Write WITH (connector = 'kafka', ...) or WITH (connector = 'nexmark', ...)."));
    }
    let mut options = options::canonicalize(raw)?;
    if create.watermark.is_some() {
        settings.complete(&mut options, &[options::IDLE_TIMEOUT]);
    }
    let use_of_key = use_of_key(create, is_source, &options)?;
    let key = primary_key(create, use_of_key, text)?;
    if options.get(options::CONNECTOR).is_some_and(|c| options::can_write(c)) && !key.is_empty() {
        // What a sink of this table identifies rows by.
        let names = key.iter().map(fold).collect::<Vec<_>>().join(";");
        options.entry(options::SINK_KEY.to_string()).or_insert(names);
    }
    let of_facts: &[Ident] = if use_of_key == UseOfKey::None { &[] } else { &key };
    let mut columns = collect(create, is_source, &options, of_facts, text)?;
    if !is_source {
        take_precisions(create, &mut columns.stored);
    }
    if columns.visible.is_empty() {
        return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, format!("relation \"{name}\" must have at least one column")));
    }
    if options::is_looked_up(&options) && (create.watermark.is_some() || columns.visible.iter().any(|(_, stored)| stored.is_none())) {
        return Err(SqlError::unsupported("a table that is looked up has neither a watermark nor computed columns")
            .with_hint("Compute them in the query that looks its rows up."));
    }
    let key = key_columns(&key, &mut columns, use_of_key, text)?;
    let binder = Binder::new(catalog, settings, Mode::Streaming).with_text(text);
    let visible = bind_visible(create, &columns, &binder)?;
    let watermark = watermark(create, &columns.stored, &visible, &options, &binder)?;
    let time_columns = match &watermark {
        Some(w) => match visible[w.column].value {
            Expr::Column(stored) => vec![stored],
            _ => vec![],
        },
        None => vec![],
    };
    let append = create.append_only || is_source && use_of_key == UseOfKey::None && !options::is_changelog(&options);
    let mode = if append { ChangelogMode::Append } else { ChangelogMode::Retract };
    let kind = if is_source {
        let is_pushed = options::is_pushed(&options);
        let spec = SourceSpec { name: name.clone(), options, columns: columns.source, key: key.clone() };
        if is_pushed {
            let is_binary = |format: &String| format.starts_with("avro") || format == "protobuf" || format == "parquet";
            if spec.options.get(options::FORMAT).is_some_and(is_binary) {
                return Err(
                    SqlError::unsupported("a webhook does not take Avro, Protobuf or Parquet").with_hint("Send JSON, CSV or raw bytes.")
                );
            }
            if key.is_empty() && !append {
                return Err(SqlError::unsupported("a webhook that takes changes needs a primary key"));
            }
            RelationKind::Table {
                append_only: append,
                defaults: BTreeMap::new(),
                webhook: Some(spec),
                awaits_rows: false,
                temporary: false,
                numbered: None,
            }
        } else if key.is_empty() {
            RelationKind::Source(spec)
        } else {
            RelationKind::KeyedSource { spec, feed: RelationId(0) }
        }
    } else {
        let defaults = defaults(create, &columns.stored, &binder)?;
        let (append_only, temporary, numbered) = (create.append_only, create.temporary, numbered(create, &columns.stored, text)?);
        RelationKind::Table { append_only, defaults, webhook: None, awaits_rows: false, temporary, numbered }
    };
    Ok(Relation {
        id: RelationId(0),
        name,
        sql: parsed.sql.clone(),
        columns: columns.stored,
        visible,
        key,
        mode,
        watermark,
        time_columns,
        kind,
        depends_on: vec![],
        named: BTreeMap::new(),
    })
}

/// What a declared primary key does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UseOfKey {
    /// A table's: no two rows have the same.
    Enforced,
    /// A source's: of two rows with the same the later one stays.
    Overwrites,
    /// There is none, or it is only said (NOT ENFORCED) of rows that are made up or only ever added.
    None,
}

fn use_of_key(create: &CreateRelation, is_source: bool, options: &BTreeMap<String, String>) -> Result<UseOfKey> {
    if !is_source {
        return Ok(UseOfKey::Enforced);
    }
    let connector = options.get(options::CONNECTOR).map_or("", String::as_str);
    let can = options::overwrites_by_key(connector);
    let needed_by = match &create.format {
        Some(format) if format.format.eq_ignore_ascii_case("upsert") => Some("FORMAT UPSERT".to_string()),
        _ if connector == "upsert-kafka" => Some("connector \"upsert-kafka\"".to_string()),
        // With key.fields it is for writing.
        _ if options.contains_key(options::SINK_KEY) && !options.contains_key(options::VALUE_FIELDS) => None,
        _ => [options::KEY_FORMAT, options::VALUE_FIELDS].iter().find(|o| options.contains_key(**o)).map(|o| format!("option \"{o}\"")),
    };
    match (&create.primary_key, needed_by) {
        (None, Some(what)) => Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, format!("{what} needs a primary key"))
            .with_hint("Write PRIMARY KEY (...), in the Flink accent with NOT ENFORCED.")),
        (Some(_), Some(_)) if can => Ok(UseOfKey::Overwrites),
        (Some(key), None) if can && (key.enforced || options::is_changelog(options)) => Ok(UseOfKey::Overwrites),
        // Said of records that are only ever added: checked by nobody.
        _ => Ok(UseOfKey::None),
    }
}

/// The declared key's column names.
fn primary_key(create: &CreateRelation, use_of_key: UseOfKey, text: &SourceText) -> Result<Vec<Ident>> {
    let Some(key) = &create.primary_key else { return Ok(vec![]) };
    let problem = if use_of_key == UseOfKey::None && key.enforced {
        Some(("this connector cannot enforce a primary key", "Write PRIMARY KEY (...) NOT ENFORCED."))
    } else if create.append_only {
        Some(("an append-only table cannot have a primary key", "Leave out either APPEND ONLY or PRIMARY KEY."))
    } else {
        None
    };
    match problem {
        Some((message, hint)) => {
            let error = SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message).with_hint(hint);
            Err(text.at(error, key.location))
        }
        None => Ok(key.columns.clone()),
    }
}

fn collect(
    create: &CreateRelation,
    is_source: bool,
    options: &BTreeMap<String, String>,
    key: &[Ident],
    text: &SourceText,
) -> Result<Columns> {
    let mut columns = Columns { stored: vec![], source: vec![], visible: vec![] };
    let mut seen = HashSet::new();
    let connector = options.get(options::CONNECTOR).map_or("", String::as_str);
    let mut add = |columns: &mut Columns, ident: &Ident, stored: Option<(SqlType, bool, ColumnOrigin)>| -> Result<()> {
        let name = fold(ident);
        if !seen.insert(name.clone()) {
            let error = SqlError::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once"));
            return Err(text.at(error, ident.span.start));
        }
        let at = stored.map(|(ty, nullable, origin)| {
            // What is read is text of any length to its format, which is checked as it comes.
            let is_read = is_source && origin == ColumnOrigin::Payload;
            let (ty, length) = if is_read { (ty.clone().unlimited(), ty.length()) } else { (ty, None) };
            columns.stored.push(Column::new(name, ty.clone(), nullable));
            columns.source.push(SourceColumn { external_name: ident.value.clone(), ty, nullable, length, origin });
            columns.stored.len() - 1
        });
        columns.visible.push((ident.clone(), at));
        Ok(())
    };
    for column in &create.columns {
        let is_key = key.iter().any(|k| fold(k) == fold(&column.name));
        let nullable = column.nullable && !is_key;
        let at = |e: SqlError| text.at(e, column.name.span.start);
        let stored = match (&column.value, &column.ty) {
            (ColumnValue::Computed(_), _) => None,
            (ColumnValue::Plain { default: Some(_) }, _) if is_source => {
                return Err(at(SqlError::unsupported("DEFAULT on a column of a source is not supported")));
            }
            (ColumnValue::Plain { .. }, Some(SqlType::Uuid)) if is_source => {
                let error = SqlError::unsupported("a column of type uuid in a source is not supported");
                return Err(at(error.with_hint("Declare it as text, and cast it in the view.")));
            }
            (ColumnValue::Plain { .. }, Some(ty)) => Some((ty.clone(), nullable, ColumnOrigin::Payload)),
            (ColumnValue::Numbered { .. }, _) if is_source => {
                return Err(at(SqlError::unsupported("a column of a source cannot number its rows")));
            }
            (ColumnValue::Numbered { start, .. }, Some(ty)) => {
                check_start(*start, ty).map_err(at)?;
                Some((ty.clone(), false, ColumnOrigin::Payload))
            }
            (ColumnValue::Metadata { .. }, _) if !is_source => {
                return Err(at(SqlError::unsupported("METADATA columns belong to sources")));
            }
            (ColumnValue::Metadata { key }, Some(ty)) => {
                let key = key.clone().unwrap_or_else(|| fold(&column.name));
                let canonical = metadata(connector, &key, ty).map_err(at)?;
                Some((ty.clone(), nullable, ColumnOrigin::Metadata(canonical)))
            }
            (_, None) => return Err(SqlError::internal("a stored column without a type")),
        };
        add(&mut columns, &column.name, stored)?;
    }
    if create.columns.is_empty() && is_source {
        for (name, ty) in options::default_columns(options).unwrap_or_default() {
            add(&mut columns, &Ident::new(name), Some((ty, true, ColumnOrigin::Payload)))?;
        }
    }
    for include in &create.include {
        let at = |e: SqlError| text.at(e, include.what.span.start);
        if !is_source {
            return Err(at(SqlError::unsupported("INCLUDE belongs to CREATE SOURCE")));
        }
        let (canonical, ty) = options::metadata_type(connector, &include.what.value).map_err(at)?;
        let name = include.alias.clone().unwrap_or_else(|| Ident::new(canonical));
        add(&mut columns, &name, Some((ty, true, ColumnOrigin::Metadata(canonical.to_string()))))?;
    }
    Ok(columns)
}

/// A table rounds the times that are written to it. What a source reads is as it came.
fn take_precisions(create: &CreateRelation, stored: &mut [Column]) {
    for column in stored {
        let declared = create.columns.iter().find(|declared| fold(&declared.name) == column.name);
        column.precision = declared.and_then(|declared| declared.precision);
    }
}

fn metadata(connector: &str, key: &str, ty: &SqlType) -> Result<String> {
    let (canonical, _) = options::metadata_type(connector, key)?;
    options::check_metadata(connector, canonical, ty)?;
    Ok(canonical.to_string())
}

/// The columns a query sees, computed ones bound over those that are not.
fn bind_visible(create: &CreateRelation, columns: &Columns, binder: &Binder) -> Result<Vec<VisibleColumn>> {
    let schema = DFSchema::try_from(arrow_schema(&columns.stored)).map_err(|e| binder.error(e))?;
    let mut visible = Vec::new();
    for (ident, stored) in &columns.visible {
        if let Some(stored) = stored {
            visible.push(VisibleColumn { column: columns.stored[*stored].clone(), value: Expr::Column(*stored) });
            continue;
        }
        let declared = create.columns.iter().find(|c| c.name == *ident);
        let Some(ColumnValue::Computed(sql)) = declared.map(|c| &c.value) else {
            return Err(SqlError::internal("a column is neither stored nor computed"));
        };
        let mut bound = binder.expr(sql, &schema)?;
        if let Some(ty) = declared.and_then(|c| c.ty.as_ref()) {
            let own = bound.get_type(&schema).map_err(|e| binder.error(e))?;
            if own != ty.to_arrow() {
                bound = DfExpr::Cast(datafusion::logical_expr::Cast::new(Box::new(bound), ty.to_arrow()));
            }
        }
        let (value, ty, nullable) = durable(bound, &schema, binder)?;
        let ty = declared.and_then(|c| c.ty.clone()).unwrap_or(ty);
        visible.push(VisibleColumn { column: Column::new(fold(ident), ty, nullable), value });
    }
    Ok(visible)
}

/// An expression coerced, simplified and converted, with its type.
fn durable(bound: DfExpr, schema: &DFSchema, binder: &Binder) -> Result<(Expr, SqlType, bool)> {
    let simplified = optimize::simplify(bound, schema).map_err(|e| binder.error(e))?;
    let field = simplified.to_field(schema).map_err(|e| binder.error(e))?.1;
    let ty = SqlType::from_field(&field)
        .ok_or_else(|| SqlError::unsupported(format!("an expression of type {} is not supported", field.data_type())))?;
    let value = expr::from_datafusion(&simplified, schema)?;
    if expr::reads_arrival(&value) {
        return Err(SqlError::unsupported("CURRENT_WATERMARK in a column's definition is not supported")
            .with_hint("Write it into the query that reads the column."));
    }
    Ok((value, ty, field.is_nullable()))
}

fn watermark(
    create: &CreateRelation,
    stored: &[Column],
    visible: &[VisibleColumn],
    options: &BTreeMap<String, String>,
    binder: &Binder,
) -> Result<Option<WatermarkDefinition>> {
    let Some(watermark) = &create.watermark else { return Ok(None) };
    let text = binder.text();
    let name = fold(&watermark.column);
    let at = |e: SqlError| match text {
        Some(text) => text.at(e, watermark.column.span.start),
        None => e,
    };
    let Some(column) = visible.iter().position(|v| v.column.name == name) else {
        let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"));
        return Err(at(suggest(error, &name, visible.iter().map(|v| v.column.name.as_str()))));
    };
    let ty = &visible[column].column.ty;
    if !ty.is_time() {
        let error = SqlError::new(SqlState::DATATYPE_MISMATCH, format!("watermark column \"{name}\" must be a timestamp, not {ty}"));
        return Err(at(error.with_hint("Declare the column as timestamp, or add a computed column that casts it.")));
    }
    let of_clock = expr::reads_clock(&visible[column].value);
    if of_clock && !is_arrival(&expr::to_datafusion(&visible[column].value, &|_| lit(true))?) {
        return Err(at(SqlError::unsupported("a watermark on processing time is not supported").with_hint(format!(
            "Declare {name} AS PROCTIME(): windows over it close by the clock. An event time is a column of the record."
        ))));
    }
    let all: Vec<Column> = visible.iter().map(|v| v.column.clone()).collect();
    let schema = DFSchema::try_from(arrow_schema(&all)).map_err(|e| binder.error(e))?;
    let (over_visible, expr_type, _) = durable(binder.expr(&watermark.expr, &schema)?, &schema, binder)?;
    if !expr_type.is_time() {
        let error = SqlError::new(SqlState::DATATYPE_MISMATCH, format!("the watermark must be a timestamp, not {expr_type}"));
        return Err(at(error.with_hint(format!("Write WATERMARK FOR {name} AS {name} - INTERVAL '5 seconds'."))));
    }
    let settings = options::watermark_options(options)?;
    if of_clock {
        // Windows over such a column close by the clock, which no row is behind.
        return Ok(None);
    }
    let expression = expr::map_columns(&over_visible, &|i| Some(visible[i].value.clone())).expect("every column is visible");
    debug_assert!(!expr::any(&expression, &mut |e| matches!(e, Expr::Column(i) if *i >= stored.len())));
    Ok(Some(WatermarkDefinition {
        column,
        expression,
        idle_timeout: settings.idle_timeout_micros,
        future_guard: settings.future_guard_micros,
        manual: settings.manual,
    }))
}

fn key_columns(key: &[Ident], columns: &mut Columns, use_of_key: UseOfKey, text: &SourceText) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for ident in key {
        let name = fold(ident);
        let at = |e: SqlError| text.at(e, ident.span.start);
        let stored = &columns.stored;
        let Some(i) = stored.iter().position(|c| c.name == name) else {
            let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" named in key does not exist"));
            return Err(at(suggest(error, &name, stored.iter().map(|c| c.name.as_str()))));
        };
        if found.contains(&i) {
            return Err(at(SqlError::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" appears twice in the primary key"))));
        }
        if matches!(stored[i].ty, SqlType::Json | SqlType::Struct(_) | SqlType::Map(_, _)) {
            return Err(at(SqlError::unsupported(format!("a primary key of type {} is not supported", stored[i].ty))));
        }
        found.push(i);
    }
    if use_of_key == UseOfKey::None {
        return Ok(vec![]); // what is said of made-up rows is checked by nobody
    }
    for i in &found {
        columns.stored[*i].nullable = false;
        columns.source[*i].nullable = false;
    }
    Ok(found)
}

/// Refuses a column that numbers rows if it is of a type that has no number to begin with.
fn check_start(start: i64, ty: &SqlType) -> Result<()> {
    let greatest = match ty {
        SqlType::SmallInt => i64::from(i16::MAX),
        SqlType::Integer => i64::from(i32::MAX),
        SqlType::BigInt => i64::MAX,
        _ => return Err(SqlError::new(SqlState::INVALID_PARAMETER, "identity column type must be smallint, integer, or bigint")),
    };
    if start > greatest {
        let message = format!("START value ({start}) cannot be greater than MAXVALUE ({greatest})");
        return Err(SqlError::new(SqlState::INVALID_PARAMETER, message));
    }
    Ok(())
}

/// The column that numbers the rows of a table.
fn numbered(create: &CreateRelation, stored: &[Column], text: &SourceText) -> Result<Option<Numbered>> {
    let mut found = None;
    for declared in &create.columns {
        let ColumnValue::Numbered { always, start } = declared.value else { continue };
        if found.is_some() {
            let error = SqlError::unsupported("a second column that numbers the rows of a table is not supported");
            return Err(text.at(error, declared.name.span.start));
        }
        let column = stored.iter().position(|column| column.name == fold(&declared.name));
        found = column.map(|column| Numbered { column, always, next: start });
    }
    Ok(found)
}

fn defaults(create: &CreateRelation, stored: &[Column], binder: &Binder) -> Result<BTreeMap<usize, Expr>> {
    let schema = DFSchema::empty();
    let mut defaults = BTreeMap::new();
    for column in &create.columns {
        let ColumnValue::Plain { default: Some(sql) } = &column.value else { continue };
        let Some(at) = stored.iter().position(|c| c.name == fold(&column.name)) else { continue };
        let mut bound = binder.expr(sql, &schema)?;
        crate::assign::check_default(&bound, &schema, &stored[at])?;
        if bound.is_volatile() {
            let message = format!("the default of column \"{}\" differs each time it is computed, which is not supported", stored[at].name);
            return Err(SqlError::unsupported(message).with_hint("Leave it out, and write the function into INSERT."));
        }
        let ty = stored[at].ty.to_arrow();
        let is_other = |bound: &DfExpr| bound.get_type(&schema).map(|own| own != ty).map_err(|e| binder.error(e));
        if is_other(&bound)?
            && let Some(named) = to_ast(&stored[at].ty)
        {
            bound = binder.expr(&cast(sql.clone(), named), &schema)?;
        }
        if is_other(&bound)? {
            bound = DfExpr::Cast(datafusion::logical_expr::Cast::new(Box::new(bound), ty));
        }
        defaults.insert(at, durable(bound, &schema, binder)?.0);
    }
    Ok(defaults)
}

pub fn create_view(
    create: &CreateView,
    parsed: &Parsed,
    catalog: &dyn Catalog,
    settings: &Settings,
    ids: &mut StateTableIds,
) -> Result<(Relation, Option<StreamingQuery>)> {
    let text = &parsed.text;
    let name = object_name(&create.name, text)?;
    RowLocks::refuse(&create.query, "a view")?;
    if !create.materialized {
        let binder = Binder::new(catalog, settings, Mode::Batch).with_text(text);
        let (plan, found) = binder.query(&create.query)?;
        let columns = view_columns(create, &plan, text)?;
        let temporary = binder.named_temporary(&found);
        // As in PostgreSQL, what stands on a temporary relation is temporary.
        let (schema, new) = match create.temporary || !temporary.is_empty() {
            true => ("pg_temp", FIRST_TEMPORARY),
            false => ("public", RelationId(0)),
        };
        let id = if create.replace { replaced_view(&name, &columns, catalog, schema)?.unwrap_or(new) } else { new };
        let relation = Relation {
            id,
            kind: RelationKind::View { query: create.query_text.clone() },
            depends_on: binder.named(&found),
            ..view_relation(name, parsed, columns)
        };
        return Ok((relation, None));
    }
    let (mut emission, mut options) = view_options(create, settings)?;
    emission.ttl = StateTtls::of(options.state_ttl, &parsed.ttl_hints);
    options.time_zone = (settings.time_zone != "UTC").then(|| settings.time_zone.clone());
    let binder = Binder::new(catalog, settings, Mode::Streaming).with_text(text).with_option_hints(&parsed.option_hints);
    let (bound, found) = binder.query(&create.query)?;
    let names: Vec<String> = view_columns(create, &bound, text)?.into_iter().map(|c| c.name).collect();
    let (logical, plan) = streaming_plan(bound, &names, ids, emission, &binder)?;
    crate::forgetting::check(&plan, &options, catalog)?;
    options.of_temporary = !binder.named_temporary(&found).is_empty();
    options.own_sources = binder.own_sources();
    let output = plan.output_node();
    let key = match &output.op {
        Op::Materialize { key } => key.clone(),
        _ => vec![],
    };
    let relation = Relation {
        id: if create.replace { replaced(&name, catalog, "public", true)?.map_or(RelationId(0), |old| old.id) } else { RelationId(0) },
        key,
        mode: output.mode,
        time_columns: output.time_columns.clone(),
        depends_on: binder.named_lasting(&found)?,
        kind: RelationKind::MaterializedView { plan: plan.clone(), options },
        ..view_relation(name, parsed, output.columns.clone())
    };
    Ok((relation, Some(StreamingQuery { logical, plan })))
}

/// The view that takes a new definition, if there is one: the columns it has stay, others may follow them.
fn replaced_view(name: &str, columns: &[Column], catalog: &dyn Catalog, schema: &str) -> Result<Option<RelationId>> {
    let Some(old) = replaced(name, catalog, schema, false)? else { return Ok(None) };
    let refuse =
        |message: String| SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message).with_hint("DROP the view and create it anew.");
    if columns.len() < old.columns.len() {
        return Err(refuse("cannot drop columns from view".to_string()));
    }
    for (old, new) in old.columns.iter().zip(columns) {
        if old.name != new.name {
            return Err(refuse(format!("cannot change name of view column \"{}\" to \"{}\"", old.name, new.name)));
        }
        if old.ty != new.ty {
            return Err(refuse(format!("cannot change data type of view column \"{}\" from {} to {}", old.name, old.ty, new.ty)));
        }
    }
    Ok(Some(old.id))
}

/// What CREATE OR REPLACE finds under the name.
fn replaced(name: &str, catalog: &dyn Catalog, schema: &str, materialized: bool) -> Result<Option<Arc<Relation>>> {
    let Some(old) = catalog.relation(Some(schema), name) else { return Ok(None) };
    let is_same = match old.kind {
        RelationKind::View { .. } => !materialized,
        RelationKind::MaterializedView { .. } => materialized,
        _ => false,
    };
    let what = if materialized { "materialized view" } else { "view" };
    if !is_same {
        return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{name}\" is not a {what}")));
    }
    Ok(Some(old))
}

/// A bound query as it is lowered: its LATERALs are joins, what no job can run is refused, the rest is optimised.
pub fn optimized(bound: LogicalPlan, binder: &Binder) -> Result<LogicalPlan> {
    let bound = with_orders(bound).and_then(join_laterals).map_err(|e| binder.error(e))?;
    check(&bound)?;
    let bound = prepare(bound).map_err(|e| binder.error(e))?;
    let logical = match optimize::optimize(bound.clone(), &binder.settings.disabled_rules) {
        Ok(logical) => logical,
        Err(error) => {
            // All names were found when the query was bound.
            if matches!(error.find_root(), DataFusionError::SchemaError(..)) {
                check_correlated(&bound)?;
            }
            return Err(binder.error(error));
        }
    };
    check_unnested(&logical)?;
    Ok(logical)
}

/// Checks, optimises and lowers a bound query.
pub fn streaming_plan(
    bound: LogicalPlan,
    names: &[String],
    ids: &mut StateTableIds,
    emission: Emission,
    binder: &Binder,
) -> Result<(LogicalPlan, StreamPlan)> {
    let logical = optimized(bound, binder)?;
    let plan = lower(&logical, names, ids, emission)?;
    Ok((logical, plan))
}

fn view_relation(name: String, parsed: &Parsed, columns: Vec<Column>) -> Relation {
    let visible = columns.iter().enumerate().map(|(i, c)| VisibleColumn { column: c.clone(), value: Expr::Column(i) }).collect();
    Relation {
        id: RelationId(0),
        name,
        sql: parsed.sql.clone(),
        columns,
        visible,
        key: vec![],
        mode: ChangelogMode::Retract,
        watermark: None,
        time_columns: vec![],
        kind: RelationKind::View { query: String::new() },
        depends_on: vec![],
        named: BTreeMap::new(),
    }
}

/// The view's columns: declared names, else the query's.
fn view_columns(create: &CreateView, plan: &LogicalPlan, text: &SourceText) -> Result<Vec<Column>> {
    let mut columns = columns_of(plan.schema())?;
    for (column, name) in columns.iter_mut().zip(output_names(&create.query, plan)) {
        column.name = name;
    }
    if create.columns.len() > columns.len() {
        let error = SqlError::new(SqlState::SYNTAX_ERROR, "CREATE VIEW specifies more column names than columns");
        return Err(text.at(error, create.columns[columns.len()].span.start));
    }
    for (column, ident) in columns.iter_mut().zip(&create.columns) {
        column.name = fold(ident);
    }
    let mut seen = HashSet::new();
    for column in &columns {
        if !seen.insert(column.name.as_str()) {
            let message = format!("column \"{}\" specified more than once", column.name);
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message).with_hint("Give the columns different names with AS."));
        }
    }
    Ok(columns)
}

/// The names of a bound query's columns as clients see them.
pub fn output_names(query: &Query, plan: &LogicalPlan) -> Vec<String> {
    let bound: Vec<String> = plan.schema().fields().iter().map(|f| f.name().clone()).collect();
    resolve_names(&query_names(query), &bound)
}

fn view_options(create: &CreateView, settings: &Settings) -> Result<(Emission, ViewOptions)> {
    let mut options = options::canonicalize_view(create.options.clone())?;
    settings.complete(&mut options, &OF_JOBS);
    let view = ViewOptions::of(&options)?;
    let emit = create.emit.unwrap_or(Emit::Changes);
    let emission = Emission {
        emit,
        allowed_lateness: view.allowed_lateness,
        rewrites: Rewrites::of(settings),
        retention: view.retention.clone(),
        ttl: StateTtls::default(),
    };
    Ok((emission, view))
}

/// The job of a table: its writes, each row sent to the worker that owns its key.
pub fn table_plan(relation: &Relation) -> StreamPlan {
    let columns = relation.columns.clone();
    let width = columns.len();
    let unique_keys = if relation.key.is_empty() { vec![] } else { vec![relation.key.clone()] };
    let node = |op, inputs| Node {
        op,
        inputs,
        columns: columns.clone(),
        mode: relation.mode,
        unique_keys: unique_keys.clone(),
        time_columns: relation.time_columns.clone(),
    };
    let mut nodes = vec![node(Op::Scan { relation: relation.id, projection: (0..width).collect() }, vec![])];
    let keys = match (relation.key.is_empty(), relation.mode) {
        (false, _) => Some(relation.key.clone()),
        (true, ChangelogMode::Retract) => Some((0..width).collect()),
        (true, ChangelogMode::Append) => None,
    };
    if let Some(keys) = keys {
        nodes.push(node(Op::Exchange { keys }, vec![0]));
    }
    let input = nodes.len() - 1;
    nodes.push(node(Op::Materialize { key: relation.key.clone() }, vec![input]));
    StreamPlan { version: PLAN_VERSION, output: nodes.len() - 1, nodes, state_ttl: vec![] }
}
