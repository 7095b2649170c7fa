//! Sinks: CREATE SINK, and INSERT INTO a table with a connector, which is a running job (or, of VALUES, written
//! once). What the format can say of a change must cover what the query's changes are, and the key that is
//! declared must be one; both are checked here, before anything runs.

use crate::bind::{Binder, Mode};
use crate::catalog::{Relation, RelationKind, SinkDefinition, ViewOptions, VisibleColumn};
use crate::create::{object_name, optimized, output_names};
use crate::dml::{misfit, wrong_width};
use crate::error::{fold, suggest};
use crate::lower::{Emission, Refusal, Rewrites, StateTableIds, StateTtls, columns_of, lower_sink};
use crate::parse::ast::{CreateSink, SinkFrom};
use crate::parse::{Parsed, select_all_from, table_factor};
use crate::plan::{ChangelogMode, Emit, Expr, Literal, LiteralValue, Node};
use crate::query::{Context, cast_columns};
use crate::settings::OF_JOBS;
use crate::spelling;
use crate::statement::{Planned, Query, RowLocks, StreamingQuery};
use datafusion::common::Column as DfColumn;
use datafusion::logical_expr::{Expr as DfExpr, LogicalPlan};
use datafusion::sql::sqlparser::ast;
use eddyline_common::connector::{ColumnOrigin, SinkColumn, SinkMode, SinkSpec, SourceSpec};
use eddyline_common::types::Column;
use eddyline_common::{RelationId, Result, SqlError, SqlState, SqlType, options};
use std::collections::BTreeMap;

/// What waits on disk for an external system that is away: hours of a busy stream, and a small part of a disk.
const LOG_BYTES_MAX: u64 = 4 << 30;

/// A sink before its query is lowered.
pub struct Target {
    pub spec: SinkSpec,
    pub options: ViewOptions,
    pub log_bytes_max: u64,
}

pub fn create_sink(create: &CreateSink, parsed: &Parsed, context: &Context, ids: &mut StateTableIds) -> Result<(Relation, StreamingQuery)> {
    if let Some(into) = &create.into {
        return context.create_sink_into(create, into, parsed, ids);
    }
    let name = object_name(&create.name, &parsed.text)?;
    let mut raw = create.options.clone();
    if let Some(format) = &create.format {
        let value = options::sink_format_of_clause(&format.format, &format.encode)?;
        if raw.insert(options::FORMAT.to_string(), value.to_string()).is_some() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "the format is given twice")
                .with_hint("Write either FORMAT ... ENCODE or the option."));
        }
    }
    let mut options = options::canonicalize_sink(raw)?;
    context.settings.complete(&mut options, &OF_JOBS);
    let binder = context.binder(Mode::Streaming);
    let query = context.sink_query(&create.from)?;
    RowLocks::refuse(&query, "a sink")?;
    let (bound, found) = binder.query(&query)?;
    let names = output_names(&query, &bound);
    let columns = columns_of(bound.schema())?;
    distinct(&names)?;
    let depends_on = binder.named_lasting(&found)?;
    let spelled = spelling::of_query(&names, &query, &depends_on, &context.catalog.relations());
    let columns = names.into_iter().zip(spelled).zip(columns).map(|((name, field), column)| (name, field, text_for_null(column.ty)));
    let target = target(&name, options, columns.collect())?;
    let definition = Definition { name, is_insert: false, name_is_free: false, depends_on, into: None };
    finish(definition, target, bound, create.emit, parsed, &binder, ids)
}

fn text_for_null(ty: SqlType) -> SqlType {
    if ty == SqlType::Null { SqlType::Text } else { ty }
}

fn distinct(names: &[String]) -> Result<()> {
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once"))
                .with_hint("Give the columns different names with AS."));
        }
    }
    Ok(())
}

/// The sink that options describe, over columns as (name, external name, type).
fn target(name: &str, options: BTreeMap<String, String>, columns: Vec<(String, String, SqlType)>) -> Result<Target> {
    let connector = options.get(options::CONNECTOR).map_or("", String::as_str);
    let mode = match (connector, options.get(options::FORMAT).map(String::as_str)) {
        ("upsert-kafka", _) | (_, Some("upsert-json" | "upsert-protobuf")) => SinkMode::Upsert,
        ("blackhole" | "print", _) | (_, Some("debezium-json")) => SinkMode::Changelog,
        _ => SinkMode::Append,
    };
    let named = |option: &str| -> Result<Vec<usize>> {
        let names = options.get(option).map(|text| options::names(text)).unwrap_or_default();
        names.iter().map(|n| column_named(n, option, &columns)).collect()
    };
    let key = named(options::SINK_KEY)?;
    named(options::PARTITION_BY)?;
    if connector == "upsert-kafka" && key.is_empty() {
        return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, "connector \"upsert-kafka\" needs a primary key")
            .with_hint("Declare PRIMARY KEY (...) NOT ENFORCED."));
    }
    let view = ViewOptions::of(&options)?;
    let log_bytes_max = log_bytes_max(&options)?;
    let columns = columns.into_iter().map(|(_, external_name, ty)| SinkColumn { external_name, ty }).collect();
    let spec = SinkSpec { name: name.to_string(), incarnation: String::new(), options, columns, key, mode };
    Ok(Target { spec, options: view, log_bytes_max })
}

pub fn log_bytes_max(options: &BTreeMap<String, String>) -> Result<u64> {
    Ok(options::bytes(options, options::SINK_LOG_BYTES)?.unwrap_or(LOG_BYTES_MAX))
}

fn column_named(name: &str, option: &str, columns: &[(String, String, SqlType)]) -> Result<usize> {
    let found = columns.iter().position(|(n, external, _)| n == name || external == name);
    found.or_else(|| columns.iter().position(|(n, ..)| *n == name.to_lowercase())).ok_or_else(|| {
        let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" named in \"{option}\" does not exist"));
        suggest(error, name, columns.iter().map(|(n, ..)| n.as_str()))
    })
}

pub struct Definition {
    pub name: String,
    pub is_insert: bool,
    pub name_is_free: bool,
    pub depends_on: Vec<RelationId>,
    /// The table of ours that the rows go into.
    pub into: Option<RelationId>,
}

pub fn finish(
    definition: Definition,
    mut target: Target,
    bound: LogicalPlan,
    emit: Option<Emit>,
    parsed: &Parsed,
    binder: &Binder,
    ids: &mut StateTableIds,
) -> Result<(Relation, StreamingQuery)> {
    let logical = optimized(bound, binder)?;
    let names: Vec<String> = target.spec.columns.iter().map(|c| c.external_name.clone()).collect();
    let spec = &target.spec;
    let lowered = |emit: Emit, ids: &mut StateTableIds| {
        let (allowed_lateness, rewrites) = (target.options.allowed_lateness, Rewrites::of(binder.settings));
        let ttl = StateTtls::of(target.options.state_ttl, &parsed.ttl_hints);
        let emission = Emission { emit, allowed_lateness, rewrites, retention: None, ttl };
        lower_sink(&logical, &names, ids, emission, &|output| sink_key(output, spec))
    };
    let plan = match emit {
        Some(emit) => lowered(emit, ids)?,
        // As in Flink: what a window aggregate sends is final, unless the statement says otherwise.
        None => {
            let mut closing = *ids;
            match lowered(Emit::OnClose, &mut closing) {
                Ok(plan) => {
                    *ids = closing;
                    plan
                }
                Err(Refusal::NeverCloses(_)) => lowered(Emit::Changes, ids)?,
                Err(Refusal::Other(error)) => return Err(error),
            }
        }
    };
    crate::forgetting::check(&plan, &target.options, binder.catalog)?;
    target.options.own_sources = binder.own_sources();
    let output = plan.output_node();
    for (column, planned) in target.spec.columns.iter_mut().zip(&output.columns) {
        column.ty = planned.ty.clone();
    }
    if let crate::plan::Op::Sink { key } = &output.op
        && target.spec.key.is_empty()
        && target.spec.mode != SinkMode::Append
    {
        target.spec.key = key.clone();
    }
    let visible = |(i, c): (usize, &Column)| VisibleColumn { column: c.clone(), value: Expr::Column(i) };
    let relation = Relation {
        id: RelationId(0),
        name: definition.name,
        sql: parsed.sql.clone(),
        columns: output.columns.clone(),
        visible: output.columns.iter().enumerate().map(visible).collect(),
        key: vec![],
        mode: output.mode,
        watermark: None,
        time_columns: vec![],
        depends_on: definition.depends_on,
        named: BTreeMap::new(),
        kind: RelationKind::Sink(Box::new(SinkDefinition {
            spec: target.spec,
            plan: plan.clone(),
            options: target.options,
            is_insert: definition.is_insert,
            name_is_free: definition.name_is_free,
            paused: false,
            into: definition.into,
            log_bytes_max: target.log_bytes_max,
        })),
    };
    Ok((relation, StreamingQuery { logical, plan }))
}

/// The columns by which the sink's rows are identified; an error if the format cannot say what the query does to its rows, or
/// if the declared key is none.
fn sink_key(output: &Node, spec: &SinkSpec) -> Result<Vec<usize>> {
    let changes = output.mode == ChangelogMode::Retract;
    if spec.mode == SinkMode::Append {
        if changes {
            let message = format!("sink \"{}\" takes new rows only, but the query changes and removes rows", spec.name);
            let hint = match spec.options.get(options::CONNECTOR).map(String::as_str) {
                Some(options::INTO_TABLE) => "Declare a PRIMARY KEY on the table; a window aggregate can EMIT ON WINDOW CLOSE.",
                _ => {
                    "Use FORMAT UPSERT with a primary_key, FORMAT DEBEZIUM or connector 'upsert-kafka'; a window aggregate can EMIT ON WINDOW CLOSE."
                }
            };
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).with_hint(hint));
        }
        return Ok(vec![]);
    }
    let names = |key: &[usize]| key.iter().map(|i| output.columns[*i].name.as_str()).collect::<Vec<_>>().join(", ");
    let keys: Vec<&Vec<usize>> = output.unique_keys.iter().filter(|k| !k.is_empty()).collect();
    let derived = keys.iter().min_by_key(|k| k.len());
    if spec.key.is_empty() {
        return match derived {
            Some(key) => Ok((*key).clone()),
            None if spec.mode == SinkMode::Upsert => Err(SqlError::new(
                SqlState::INVALID_TABLE_DEFINITION,
                format!("sink \"{}\" needs a key, and its query has none", spec.name),
            )
            .with_hint("GROUP BY the columns that identify a row, or use FORMAT DEBEZIUM or PLAIN.")),
            None => Ok(vec![]),
        };
    }
    if let Some(json) = spec.key.iter().find(|i| matches!(output.columns[**i].ty, SqlType::Struct(_) | SqlType::Map(_, _))) {
        let column = &output.columns[*json];
        return Err(SqlError::unsupported(format!("a sink's key of type {} (column \"{}\") is not supported", column.ty, column.name)));
    }
    if keys.iter().any(|k| k.iter().all(|c| spec.key.contains(c))) {
        return Ok(spec.key.clone());
    }
    let message = format!("the key ({}) of sink \"{}\" does not identify the rows of its query", names(&spec.key), spec.name);
    let error = SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message);
    Err(match derived {
        Some(key) => {
            error.with_detail(format!("The query's rows are identified by ({}).", names(key))).with_hint("Declare that as the key.")
        }
        None => error
            .with_detail("The query's rows have no key: several of them may be equal in these columns.")
            .with_hint(format!("GROUP BY {}, so that there is one row for each.", names(&spec.key))),
    })
}

/// What a table's options say of writing: as its records are read, so they are written.
fn options_of_table(table: &Relation, source: &SourceSpec) -> Result<BTreeMap<String, String>> {
    let mut options = options::sink_options_of_table(&source.options)?;
    let is_kafka = options.get(options::CONNECTOR).is_some_and(|c| c == "kafka");
    if is_kafka
        && !table.key.is_empty()
        && let Some(format) = options.get_mut(options::FORMAT).filter(|format| *format == "json" || *format == "protobuf")
    {
        *format = format!("upsert-{format}");
    }
    Ok(options)
}

/// That an INSERT gives more values than there are columns for, or fewer: all of a table outside are given, unless a list says which.
fn misfit_of(more: bool, payload: &[(String, String, SqlType)], given: &[usize], insert: &ast::Insert) -> SqlError {
    let wanted = given.iter().map(|i| payload[*i].0.as_str()).collect::<Vec<_>>().join(", ");
    let error = wrong_width(more).with_detail(format!("The target columns are: {wanted}."));
    match more || !insert.columns.is_empty() {
        true => error,
        false => error.with_hint("Name the columns that the query gives: INSERT INTO t (a, b) ..."),
    }
}

impl Context<'_> {
    /// What CREATE SINK reads: a query, or all of a relation.
    pub fn sink_query(&self, from: &SinkFrom) -> Result<Box<ast::Query>> {
        match from {
            SinkFrom::Query(query) => Ok(query.clone()),
            SinkFrom::Relation(name) => {
                self.relation(name)?;
                Ok(Box::new(select_all_from(table_factor(name, None))))
            }
        }
    }

    /// INSERT INTO a table with a connector: of VALUES once, else a job.
    pub fn insert_outside(
        &self,
        insert: &ast::Insert,
        emit: Option<Emit>,
        table: &Relation,
        source: &SourceSpec,
        parsed: &Parsed,
        ids: &mut StateTableIds,
    ) -> Result<(Planned, Option<StreamingQuery>)> {
        if insert.on.is_some() || insert.returning.is_some() {
            return Err(SqlError::unsupported("ON CONFLICT and RETURNING are not supported for a table with a connector"));
        }
        let Some(query) = &insert.source else {
            return Err(SqlError::unsupported("INSERT ... DEFAULT VALUES is not supported for a table with a connector"));
        };
        let written = || source.columns.iter().zip(&table.columns).filter(|(s, _)| s.origin == ColumnOrigin::Payload);
        let payload: Vec<(String, String, SqlType)> =
            written().map(|(s, c)| (c.name.clone(), s.external_name.clone(), s.ty.clone())).collect();
        let given = self.given_columns(insert, table, &payload)?;
        let mut options = options_of_table(table, source)?;
        self.settings.complete(&mut options, &OF_JOBS);
        let mut target = target(&table.name, options, payload.clone())?;
        if let ast::SetExpr::Values(values) = query.body.as_ref() {
            if emit.is_some() {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "EMIT belongs to a query that runs"));
            }
            if let Some((more, span)) = misfit(values, given.len(), true) {
                return Err(self.text.at(misfit_of(more, &payload, &given, insert), span.start));
            }
            self.check_values(values, &given.iter().map(|i| (payload[*i].0.as_str(), &payload[*i].2)).collect::<Vec<_>>())?;
            let types: Vec<Column> = given.iter().map(|i| Column::new(payload[*i].0.clone(), payload[*i].2.clone(), true)).collect();
            let schema = datafusion::common::DFSchema::try_from(eddyline_common::types::arrow_schema(&types))
                .map_err(|e| crate::error::from_datafusion(e, Some(self.text)))?;
            let rows = self.bind(query, Some(&schema))?.0;
            let rows = self.payload_rows(rows, &payload, &given, insert)?;
            let names = payload.iter().map(|(n, ..)| n.clone()).collect();
            let source = Query { locks: RowLocks::of(query)?, ..self.finish(rows, names) };
            return Ok((Planned::WriteOut { table: table.id, spec: Box::new(target.spec), source }, None));
        }
        let binder = self.binder(Mode::Streaming);
        RowLocks::refuse(query, "an INSERT that keeps running")?;
        let (bound, found) = binder.query(query)?;
        let bound = self.not_null(self.payload_rows(bound, &payload, &given, insert)?, written().map(|(_, column)| column))?;
        let (name, name_is_free) = self.job_name(&table.name);
        target.spec.name = name.clone();
        let mut depends_on = binder.named_lasting(&found)?;
        if !depends_on.contains(&table.id) {
            depends_on.push(table.id);
        }
        let definition = Definition { name, is_insert: true, name_is_free, depends_on, into: None };
        let (relation, streaming) = finish(definition, target, bound, emit, parsed, &binder, ids)?;
        Ok((Planned::create(relation), Some(streaming)))
    }

    /// `SET 'pipeline.name'`, or one that tells what it does; and whether another one does as well if it is taken.
    pub fn job_name(&self, table: &str) -> (String, bool) {
        if let Some(name) = self.settings.pipeline_name.as_ref().filter(|n| !n.is_empty()) {
            return (name.clone(), true);
        }
        let free = (1..).map(|n| format!("insert_into_{table}_{n}")).find(|n| self.catalog.relation(None, n).is_none());
        (free.unwrap_or_default(), true)
    }

    /// Which payload columns the statement gives, in its order.
    fn given_columns(&self, insert: &ast::Insert, table: &Relation, payload: &[(String, String, SqlType)]) -> Result<Vec<usize>> {
        let mut given = Vec::new();
        for ident in insert.columns.iter().filter_map(|name| name.0.last().and_then(|p| p.as_ident())) {
            let name = fold(ident);
            let at = |e: SqlError| self.text.at(e, ident.span.start);
            let Some(index) = payload.iter().position(|(n, ..)| *n == name) else {
                let message = format!("column \"{name}\" of relation \"{}\" does not exist, or cannot be written", table.name);
                return Err(at(suggest(
                    SqlError::new(SqlState::UNDEFINED_COLUMN, message),
                    &name,
                    payload.iter().map(|(n, ..)| n.as_str()),
                )));
            };
            if given.contains(&index) {
                return Err(at(SqlError::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once"))));
            }
            given.push(index);
        }
        Ok(if given.is_empty() { (0..payload.len()).collect() } else { given })
    }

    /// Every payload column: what the query gives, else null.
    fn payload_rows(
        &self,
        rows: LogicalPlan,
        payload: &[(String, String, SqlType)],
        given: &[usize],
        insert: &ast::Insert,
    ) -> Result<LogicalPlan> {
        let columns: Vec<DfColumn> = rows.schema().columns();
        if columns.len() != given.len() {
            return Err(misfit_of(columns.len() > given.len(), payload, given, insert));
        }
        if let Some(query) = &insert.source {
            self.check_assigned(query, &rows, given.iter().map(|i| (payload[*i].0.as_str(), &payload[*i].2)))?;
        }
        let cell = |(index, (name, _, ty)): (usize, &(String, String, SqlType))| {
            let value = match given.iter().position(|g| *g == index) {
                Some(at) => DfExpr::Column(columns[at].clone()),
                None => {
                    let null = Literal { ty: ty.clone(), value: LiteralValue::Null };
                    DfExpr::Literal(crate::expr::to_scalar(&null)?, None)
                }
            };
            Ok((name.clone(), value, ty.clone()))
        };
        let targets = payload.iter().enumerate().map(cell).collect::<Result<Vec<_>>>()?;
        cast_columns(rows, &targets, &self.settings.time_zone)
    }
}
