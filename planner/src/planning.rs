//! From a parsed statement to what the session layer does: the one place that knows all kinds of statements.

use crate::alter::comments;
use crate::bind::Mode;
use crate::catalog::{Catalog, Meant, OwnSource, Relation, RelationKind, ViewOptions};
use crate::check::check_view;
use crate::create::{create_relation, create_view, object_name, output_names, streaming_plan};
use crate::error::{from_datafusion, suggest};
use crate::explain;
use crate::function::create_function;
use crate::lower::{Emission, Rewrites, StateTableIds, StateTtls, has_empty_interval};
use crate::optimize;
use crate::parse::ast::{Ast, CreateRelation, CreateView, InsertClauses, ShowAst};
use crate::parse::hints::{misplaced_options, misplaced_ttl};
use crate::parse::{Parsed, with_stack};
use crate::plan::{Emit, LiteralValue, StreamPlan};
use crate::query::Context;
use crate::settings::{OF_JOBS, Settings};
use crate::sink::create_sink;
use crate::statement::{ObjectKind, OnConflict, Planned, Query, Returning, Show, StreamingQuery, TableAs, TableRows};
use crate::walk::{Walk, WalkPlan};
use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, ParamValues, ScalarValue};
use datafusion::logical_expr::{Cast, Expr as DfExpr, LogicalPlan};
use datafusion::sql::sqlparser::ast as sql;
use eddyline_common::{RelationId, Result, SqlError, SqlState, SqlType, options};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Plans one statement. `parameter_types` are those the client declared for `$1`, `$2`, ...
pub fn plan(
    parsed: &Parsed,
    catalog: &dyn Catalog,
    settings: &Settings,
    ids: &mut StateTableIds,
    parameter_types: &[Option<SqlType>],
) -> Result<Planned> {
    with_stack(|| {
        if let Some(hint) = parsed.option_hints.first().filter(|_| !takes_options(&parsed.ast)) {
            return Err(parsed.text.at(misplaced_options(), hint.at));
        }
        let context = Context { catalog, settings, text: &parsed.text, parameters: parameter_types, hints: &parsed.option_hints };
        let mut planned = statement(&parsed.ast, parsed, &context, ids)?;
        note_names(&mut planned, catalog);
        let runs = match &planned {
            Planned::Create { relation, .. } => relation.plan().is_some(),
            // Whether its query runs is told when its rows are inserted.
            Planned::CreateTableAs(_) => true,
            Planned::Explain(_) | Planned::ExplainQuery { analyze: false, .. } => true,
            _ => false,
        };
        if parsed.ttl_hints.is_empty() || runs { Ok(planned) } else { Err(misplaced_ttl()) }
    })
}

/// What a definition means by the names in its text is settled: others that get these names later are not meant, nor columns that come later. Which temporary
/// relations are meant, its session keeps.
fn note_names(planned: &mut Planned, catalog: &dyn Catalog) {
    match planned {
        Planned::Create { relation, .. } if !relation.depends_on.is_empty() => {
            let named = catalog.relations().into_iter().filter(|r| relation.depends_on.contains(&r.id) && !r.is_temporary());
            relation.named = named.map(|r| (r.name.clone(), Meant { relation: r.id, columns: r.visible.len() })).collect();
        }
        Planned::StatementSet(statements) => statements.iter_mut().for_each(|planned| note_names(planned, catalog)),
        _ => {}
    }
}

/// Whether a statement has a query of its own that reads sources.
fn takes_options(ast: &Ast) -> bool {
    match ast {
        Ast::Query(_) | Ast::CopyTo { .. } | Ast::Declare { .. } | Ast::CreateSink(_) | Ast::Insert(..) | Ast::CreateTableAs(_) => true,
        Ast::CreateView(create) => create.materialized,
        Ast::Explain { statement, .. } => takes_options(statement),
        _ => false,
    }
}

fn statement(ast: &Ast, parsed: &Parsed, context: &Context, ids: &mut StateTableIds) -> Result<Planned> {
    if let Some((kind, name)) = parsed.existing(context.catalog) {
        return Ok(Planned::Exists { kind, name });
    }
    Ok(match ast {
        Ast::Empty => Planned::Empty,
        Ast::Query(query) => Planned::Query(context.query(query)?),
        Ast::Insert(insert, clauses) => insert_statement(insert, *clauses, parsed, context, ids)?.0,
        Ast::StatementSet { inserts, .. } => {
            Planned::StatementSet(inserts.iter().map(|insert| statement(insert, parsed, context, ids)).collect::<Result<_>>()?)
        }
        Ast::CreateSink(create) => {
            let (relation, _) = create_sink(create, parsed, context, ids)?;
            let notices = options::idle_notices(&create.options);
            Planned::Create { relation, if_not_exists: create.if_not_exists, comments: vec![], notices }
        }
        Ast::PauseJob { kind, name, pause } => {
            let job = context.job(name)?;
            let is_view = matches!(job.kind, RelationKind::MaterializedView { .. });
            if *kind == ObjectKind::MaterializedView && !is_view {
                return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a materialized view", job.name)));
            }
            Planned::PauseJob { job: job.id, pause: *pause }
        }
        Ast::Update(update) => context.update(update)?,
        Ast::Delete(delete) => context.delete(delete)?,
        Ast::Truncate { names, restart } => {
            Planned::Truncate(names.iter().map(|name| context.truncate(name, *restart)).collect::<Result<_>>()?)
        }
        Ast::CreateTableAs(create) => context.create_table_as(create, parsed)?,
        Ast::CreateRelation(create) if create.like.is_some() => create_like(create, context, ids)?,
        Ast::CreateRelation(create) => {
            let relation = create_relation(create, parsed, context.catalog, context.settings)?;
            let comments = comments(&create.comments, &relation);
            let notices = relation_notices(create, &relation);
            Planned::Create { relation, if_not_exists: create.if_not_exists, comments, notices }
        }
        Ast::CreateView(create) => {
            let (relation, _) = create_view(create, parsed, context.catalog, context.settings, ids)?;
            let comments = comments(&create.comments, &relation);
            let notices = view_notices(create, &relation);
            Planned::Create { relation, if_not_exists: create.if_not_exists, comments, notices }
        }
        Ast::CreateIndex(create) => {
            Planned::CreateIndex { index: context.create_index(create, parsed)?, if_not_exists: create.if_not_exists }
        }
        Ast::CreateFunction(create) => Planned::CreateFunction {
            function: create_function(create, parsed, context.catalog, context.settings)?,
            replace: create.replace,
        },
        Ast::Drop { kind, names, if_exists, cascade, temporary } => Planned::Drop {
            kind: *kind,
            names: names.iter().map(|n| object_name(n, &parsed.text)).collect::<Result<_>>()?,
            if_exists: *if_exists,
            cascade: *cascade,
            temporary: *temporary,
        },
        Ast::AlterSystem { name, value } => Planned::AlterSystem { name: name.clone(), value: value.clone() },
        Ast::AlterOptions { kind, name, changes } => context.alter(*kind, name, changes)?,
        Ast::IfThere { kind, name, alter } => match context.relation(name) {
            Err(lacking) if lacking.state == SqlState::UNDEFINED_TABLE => {
                Planned::Idle { tag: alter_tag(*kind), notices: vec![SqlError::notice(lacking.skipped().message)] }
            }
            _ => statement(alter, parsed, context, ids)?,
        },
        Ast::AddColumns { added, if_not_exists } => context.add_columns(added, if_not_exists)?,
        Ast::Rename { kind, name, to } => context.rename(*kind, name, to)?,
        Ast::Comment { kind, name, column, text } => context.comment(*kind, name, column.as_ref(), text.clone())?,
        Ast::AdvanceWatermark { name, to } => advance_watermark(name, to, context)?,
        Ast::CopyFrom { table, columns, format } => context.copy_from(table, columns, format.clone())?,
        Ast::CopyTo { query, format } => Planned::CopyTo { query: context.query(query)?, format: format.clone() },
        Ast::Explain { analyze, streaming, json, statement } => match &**statement {
            Ast::Query(query) if *analyze || !streaming => {
                Planned::ExplainQuery { query: context.query(query)?, analyze: *analyze, json: *json }
            }
            _ if *analyze => return Err(SqlError::unsupported("EXPLAIN ANALYZE is supported for queries only")),
            _ if *json => return Err(SqlError::unsupported("EXPLAIN in the format json is supported for queries that run once only")),
            going_on => explain(going_on, parsed, context, ids)?,
        },
        Ast::ExplainJob { name, analyze: true } => Planned::ExplainJob(context.job(name)?.id),
        Ast::ExplainJob { name, analyze: false } => {
            let job = context.job(name)?;
            Planned::Explain(explain_job(&job, context))
        }
        Ast::Show(show) => Planned::Show(plan_show(show, context)?),
        Ast::Set { name, value, local } => Planned::Set { name: name.clone(), value: value.clone(), local: *local },
        Ast::Begin(modes) => Planned::Begin(modes.clone()),
        Ast::SetTransaction { modes, of_session } => Planned::SetTransaction { modes: modes.clone(), of_session: *of_session },
        Ast::Commit { chain } => Planned::Commit { chain: *chain },
        Ast::Rollback { chain } => Planned::Rollback { chain: *chain },
        Ast::Savepoint(name) => Planned::Savepoint(name.clone()),
        Ast::ReleaseSavepoint(name) => Planned::ReleaseSavepoint(name.clone()),
        Ast::RollbackToSavepoint(name) => Planned::RollbackToSavepoint(name.clone()),
        Ast::Declare { name, query, hold } => Planned::DeclareCursor { name: name.clone(), query: context.query(query)?, hold: *hold },
        Ast::Subscribe { name, snapshot, as_of, to } => Planned::Subscribe(context.subscribe(name, *snapshot, *as_of, to.clone())?),
        Ast::Fetch { name, count, move_only } => Planned::Fetch { name: name.clone(), count: *count, move_only: *move_only },
        Ast::Close(name) => Planned::CloseCursor(name.clone()),
        Ast::Prepare { name, types, statement } => {
            Planned::Prepare { name: name.clone(), statement: statement.clone(), types: types.clone() }
        }
        Ast::Execute { name, arguments } => Planned::ExecutePrepared {
            name: name.clone(),
            arguments: arguments.iter().map(|e| one_value(e, context)).collect::<Result<_>>()?,
        },
        Ast::Deallocate(name) => Planned::Deallocate(name.clone()),
        Ast::Discard { all } => Planned::Discard { all: *all },
        Ast::Flush => Planned::Flush,
        Ast::Idle { tag, tables, notice } => {
            tables.iter().try_for_each(|table| context.relation(table).map(drop))?;
            Planned::Idle { tag, notices: notice.iter().cloned().collect() }
        }
        Ast::Refresh(name) => {
            let view = context.object(ObjectKind::MaterializedView, name)?;
            let notice = SqlError::notice(format!("materialized view \"{}\" is always fresh", view.name));
            Planned::Idle { tag: "REFRESH MATERIALIZED VIEW", notices: vec![notice] }
        }
        Ast::Check(name) => Planned::Query(check_view(name, context)?),
    })
}

fn alter_tag(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Source => "ALTER SOURCE",
        ObjectKind::View => "ALTER VIEW",
        ObjectKind::MaterializedView => "ALTER MATERIALIZED VIEW",
        ObjectKind::Sink => "ALTER SINK",
        ObjectKind::Table | ObjectKind::Function | ObjectKind::Index => "ALTER TABLE",
    }
}

/// CREATE TABLE ... LIKE, as the statement that it stands for.
fn create_like(create: &CreateRelation, context: &Context, ids: &mut StateTableIds) -> Result<Planned> {
    let Some(like) = &create.like else { return Err(SqlError::internal("no LIKE")) };
    let parsed = context.without_like(create, like)?;
    let Context { catalog, settings, parameters, hints, .. } = *context;
    // What is wrong has no place in the client's text.
    let planned = statement(&parsed.ast, &parsed, &Context { catalog, settings, text: &parsed.text, parameters, hints }, ids);
    match planned.map_err(|error| SqlError { position: None, ..error })? {
        Planned::Create { relation, comments, notices, .. } => {
            Ok(Planned::Create { relation, if_not_exists: create.if_not_exists, comments, notices })
        }
        _ => Err(SqlError::internal("the definition of no table")),
    }
}

/// What is not as the statement has it.
fn relation_notices(create: &CreateRelation, relation: &Relation) -> Vec<String> {
    let name = &relation.name;
    let stays =
        (create.temporary && !relation.is_temporary()).then(|| format!("table \"{name}\" is not temporary: it stays until it is dropped"));
    let is_own = matches!(relation.kind, RelationKind::Table { webhook: None, .. });
    let unenforced = create.primary_key.as_ref().is_some_and(|key| is_own && !key.enforced);
    let enforced = unenforced.then(|| format!("the primary key of table \"{name}\" is enforced"));
    stays.into_iter().chain(enforced).chain(options::idle_notices(&create.options)).collect()
}

/// What a view is that nobody would mean, or that its statement does not say.
fn view_notices(create: &CreateView, relation: &Relation) -> Vec<String> {
    let name = &relation.name;
    let goes = (relation.is_temporary() && !create.temporary).then(|| format!("view \"{name}\" will be a temporary view"));
    let is_empty = relation.plan().is_some_and(has_empty_interval);
    let empty = is_empty.then(|| format!("a join of view \"{name}\" finds nothing: the interval between its times ends before it begins"));
    goes.into_iter().chain(empty).collect()
}

/// INSERT: into a table at once, into one with a connector as its query says.
fn insert_statement(
    insert: &sql::Insert,
    clauses: InsertClauses,
    parsed: &Parsed,
    context: &Context,
    ids: &mut StateTableIds,
) -> Result<(Planned, Option<StreamingQuery>)> {
    let InsertClauses { emit, overriding } = clauses;
    if let Some(long) = &parsed.long_values {
        let wrong = match context.long_insert(insert, long, overriding) {
            Ok(Some(planned)) => return Ok((planned, None)),
            Ok(None) => None,
            Err(wrong) => Some(wrong),
        };
        let whole = parsed.whole(long).map_err(|too_long| wrong.unwrap_or(too_long))?;
        let Ast::Insert(insert, clauses) = &whole.ast else { return Err(SqlError::internal("not an INSERT")) };
        return insert_statement(insert, *clauses, &whole, context, ids);
    }
    if insert.overwrite {
        return Err(SqlError::unsupported("INSERT OVERWRITE is not supported").with_hint("TRUNCATE the table first."));
    }
    let whole;
    let insert = match &insert.partitioned {
        Some(partition) => {
            whole = context.without_partition(insert, partition)?;
            &whole
        }
        None => insert,
    };
    if let sql::TableObject::TableName(name) = &insert.table {
        let table = context.relation(name)?;
        if let Some(source) = table.source_spec() {
            return context.insert_outside(insert, emit, &table, source, parsed, ids);
        }
    }
    if let Some(query) = context.running_query(insert) {
        return context.insert_running(insert, query, emit, parsed, ids);
    }
    if emit.is_some() {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "EMIT belongs to an INSERT that keeps running")
            .with_hint("An INSERT into a table without a connector runs once, unless its query reads a source."));
    }
    Ok((context.insert(insert, overriding)?, None))
}

impl Context<'_> {
    /// A relation whose query runs.
    fn job(&self, name: &sql::ObjectName) -> Result<Arc<Relation>> {
        let relation = self.relation(name)?;
        if relation.plan().is_none() {
            let message = format!("\"{}\" is no materialized view, sink or running INSERT", relation.name);
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        Ok(relation)
    }
}

/// `SELECT expression`.
fn one_value(e: &sql::Expr, context: &Context) -> Result<LogicalPlan> {
    let mut query = crate::parse::parse_query("SELECT 1")?;
    if let sql::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = vec![sql::SelectItem::UnnamedExpr(e.clone())];
    }
    Ok(context.query(&query)?.plan)
}

fn plan_show(show: &ShowAst, context: &Context) -> Result<Show> {
    Ok(match show {
        ShowAst::Objects(kind) => Show::Objects(*kind),
        ShowAst::Jobs => Show::Jobs,
        ShowAst::Columns(name) => Show::Columns(context.relation(name)?.id),
        ShowAst::Create(name) => Show::Create(context.relation(name)?.id),
        ShowAst::CreateFunction(name) => {
            let name = object_name(name, context.text)?;
            let function = context.catalog.user_function(&name).ok_or_else(|| {
                let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function \"{name}\" does not exist"));
                suggest(error, &name, context.catalog.user_functions().iter().map(|f| f.name.as_str()))
            })?;
            Show::CreateFunction(function.id)
        }
        ShowAst::Setting(name) => Show::Setting(name.clone()),
        ShowAst::All => Show::AllSettings,
        ShowAst::Name { column, value } => Show::Name { column, value },
    })
}

fn advance_watermark(name: &sql::ObjectName, to: &sql::Expr, context: &Context) -> Result<Planned> {
    let relation = context.relation(name)?;
    let refuse = |message: &str| {
        SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("cannot advance the watermark of \"{}\": {message}", relation.name))
            .with_hint("Declare a WATERMARK, and the option watermark.mode = 'manual'.")
    };
    match &relation.watermark {
        None => return Err(refuse("it has none")),
        Some(watermark) if !watermark.manual => return Err(refuse("it advances by itself")),
        Some(_) => {}
    }
    let bound = context.binder(Mode::Batch).expr(to, &DFSchema::empty())?;
    let time = DfExpr::Cast(Cast::new(Box::new(bound), SqlType::Timestamp.to_arrow()));
    let folded = optimize::fold_constant(time).map_err(|e| from_datafusion(e, Some(context.text)))?;
    match crate::expr::from_datafusion(&folded, &DFSchema::empty())? {
        crate::plan::Expr::Literal(crate::plan::Literal { value: LiteralValue::Int(to_micros), .. }) => {
            Ok(Planned::AdvanceWatermark { relation: relation.id, to_micros })
        }
        _ => Err(SqlError::new(SqlState::INVALID_PARAMETER, "a watermark advances to a constant timestamp")
            .with_hint("Write TO TIMESTAMP '2024-01-01 00:00:00'.")),
    }
}

/// EXPLAIN of a statement that makes something, or changes it; of a query, as if it went on.
fn explain(inner: &Ast, parsed: &Parsed, context: &Context, ids: &mut StateTableIds) -> Result<Planned> {
    let mut lines = Vec::new();
    match inner {
        Ast::Query(query) => {
            let binder = context.binder(Mode::Streaming);
            let (bound, _) = binder.query(query)?;
            let names = output_names(query, &bound);
            let mut options = BTreeMap::new();
            context.settings.complete(&mut options, &OF_JOBS);
            let view = ViewOptions::of(&options)?;
            let ttl = StateTtls::of(view.state_ttl, &parsed.ttl_hints);
            let rewrites = Rewrites::of(context.settings);
            let emission = Emission { emit: Emit::Changes, allowed_lateness: 0, rewrites, retention: None, ttl };
            let (logical, plan) = streaming_plan(bound, &names, &mut ids.clone(), emission, &binder)?;
            stages(&mut lines, view.parallelism, &binder.own_sources(), &StreamingQuery { logical, plan }, context);
        }
        Ast::CreateView(create) => {
            let (view, streaming) = create_view(create, parsed, context.catalog, context.settings, &mut ids.clone())?;
            match streaming {
                Some(streaming) => stages(&mut lines, parallelism(&view), view.own_sources(), &streaming, context),
                None => section(&mut lines, "Logical plan:", &context.query(&create.query)?.plan),
            }
        }
        Ast::CreateTableAs(create) => section(&mut lines, "Logical plan:", &context.query(&create.query)?.plan),
        Ast::CreateSink(create) => {
            let (sink, streaming) = create_sink(create, parsed, context, &mut ids.clone())?;
            stages(&mut lines, parallelism(&sink), sink.own_sources(), &streaming, context);
        }
        Ast::Insert(insert, clauses) => match insert_statement(insert, *clauses, parsed, context, &mut ids.clone())? {
            (Planned::Create { relation, .. }, Some(streaming)) => {
                stages(&mut lines, parallelism(&relation), relation.own_sources(), &streaming, context);
            }
            (planned, _) => plans(&planned).into_iter().for_each(|plan| section(&mut lines, "Logical plan:", plan)),
        },
        Ast::Update(_) | Ast::Delete(_) | Ast::CopyTo { .. } | Ast::Declare { .. } => {
            for plan in plans(&statement(inner, parsed, context, ids)?) {
                section(&mut lines, "Logical plan:", plan);
            }
        }
        _ => return Err(SqlError::unsupported("EXPLAIN of this statement is not supported")),
    }
    Ok(Planned::Explain(lines))
}

/// What a job runs. Its logical plan is that of its text as it would be planned today, without temporary views that it was made over.
fn explain_job(job: &Relation, context: &Context) -> Vec<String> {
    let mut lines = vec![workers(parallelism(job))];
    match logical_plan(job, context) {
        Ok(Some(logical)) => section(&mut lines, "Logical plan:", &logical),
        Ok(None) => {}
        Err(error) => lines.push(format!("Logical plan: none any more, {}", error.message)),
    }
    job.plan().into_iter().for_each(|plan| streaming_section(&mut lines, plan, job.own_sources(), context));
    lines
}

/// `None` if the job's text is that of several.
fn logical_plan(job: &Relation, context: &Context) -> Result<Option<LogicalPlan>> {
    let Some(parsed) = crate::parse::parse(&job.sql)?.pop() else { return Ok(None) };
    let time_zone = job.job_options().and_then(|options| options.time_zone.clone()).unwrap_or_else(|| "UTC".to_string());
    let settings = Settings { time_zone, ..context.settings.clone() };
    let scope = context.catalog.of_view(job);
    let catalog = scope.as_deref().unwrap_or(context.catalog);
    let context = Context { catalog, settings: &settings, text: &parsed.text, parameters: &[], hints: &parsed.option_hints };
    let mut ids = StateTableIds(0);
    let streaming = match &parsed.ast {
        Ast::CreateView(create) => create_view(create, &parsed, catalog, &settings, &mut ids)?.1,
        Ast::CreateSink(create) => Some(create_sink(create, &parsed, &context, &mut ids)?.1),
        Ast::Insert(insert, clauses) => insert_statement(insert, *clauses, &parsed, &context, &mut ids)?.1,
        _ => None,
    };
    Ok(streaming.map(|streaming| streaming.logical))
}

fn parallelism(job: &Relation) -> Option<u32> {
    job.job_options().and_then(|options| options.parallelism)
}

fn workers(parallelism: Option<u32>) -> String {
    match parallelism {
        Some(workers) => format!("Parallelism: {workers}"),
        None => "Parallelism: all workers".to_string(),
    }
}

fn stages(lines: &mut Vec<String>, parallelism: Option<u32>, own: &[OwnSource], streaming: &StreamingQuery, context: &Context) {
    lines.push(workers(parallelism));
    section(lines, "Logical plan:", &streaming.logical);
    streaming_section(lines, &streaming.plan, own, context);
}

fn streaming_section(lines: &mut Vec<String>, plan: &StreamPlan, own: &[OwnSource], context: &Context) {
    lines.push("Streaming plan:".to_string());
    let mut relations = context.catalog.relations();
    relations.extend(own.iter().map(|own| Arc::new(own.relation.clone())));
    let relation = |id: RelationId| relations.iter().find(|r| r.id == id).cloned();
    lines.extend(explain::stream_plan(plan, &relation).into_iter().map(|line| format!("  {line}")));
}

fn section(lines: &mut Vec<String>, title: &str, plan: &LogicalPlan) {
    lines.push(title.to_string());
    lines.extend(plan.display_indent().to_string().lines().map(|line| format!("  {line}")));
}

/// Every logical plan in a statement.
fn plans(planned: &Planned) -> Vec<&LogicalPlan> {
    match planned {
        Planned::Query(query) | Planned::ExplainQuery { query, analyze: true, .. } => vec![&query.plan],
        Planned::CopyTo { query, .. } | Planned::DeclareCursor { query, .. } => vec![&query.plan],
        Planned::Insert(insert) => vec![&insert.source.plan],
        Planned::CreateTableAs(TableAs { rows: TableRows::Of(query), .. }) => vec![&query.plan],
        Planned::WriteOut { source, .. } => vec![&source.plan],
        Planned::Update(mutation) | Planned::Delete(mutation) => vec![&mutation.source.plan],
        Planned::ExecutePrepared { arguments, .. } => arguments.iter().collect(),
        _ => vec![],
    }
}

/// The types of `$1`, `$2`, ... in order: declared or inferred, text where nothing tells.
pub fn parameter_types(planned: &Planned) -> Vec<SqlType> {
    parameter_fields(planned).iter().filter_map(|field| SqlType::from_field(field)).collect()
}

/// The same as fields, which also say what only types of the catalog have (`oid`, `oid[]`, `name`). Each has an SQL type.
pub fn parameter_fields(planned: &Planned) -> Vec<FieldRef> {
    let mut fields: Vec<Option<FieldRef>> = Vec::new();
    let mut note = |id: &str, field: Option<&FieldRef>| {
        let Some(number) = number(id) else { return };
        if fields.len() < number {
            fields.resize(number, None);
        }
        let known = &mut fields[number - 1];
        let field = field.filter(|field| SqlType::from_field(field).is_some_and(|ty| ty != SqlType::Null));
        *known = match (known.take(), field) {
            (Some(known), Some(other)) => Some(with_digits(known, other)),
            (known, field) => known.or_else(|| field.cloned()),
        };
    };
    let mut visit = |expr: &DfExpr, fallback: Option<&FieldRef>| {
        let _ = expr.each(|e| {
            // A parameter that is cast at once has the type it is cast to, and a numeric at least as many digits behind the point.
            if let DfExpr::Cast(Cast { expr, field }) = e
                && let DfExpr::Placeholder(placeholder) = expr.as_ref()
                && placeholder.field.as_ref().is_none_or(|own| own.data_type().is_decimal() && field.data_type().is_decimal())
            {
                note(&placeholder.id, Some(field));
            }
            if let DfExpr::Placeholder(placeholder) = e {
                note(&placeholder.id, placeholder.field.as_ref().or(fallback));
            }
            Ok(TreeNodeRecursion::Continue)
        });
    };
    let count = Arc::new(SqlType::BigInt.field("", true));
    for plan in plans(planned) {
        let _ = plan.each_with_subqueries(|node| {
            let fallback = matches!(node, LogicalPlan::Limit(_)).then_some(&count);
            node.each_own(|expr| {
                visit(expr, fallback);
                Ok(TreeNodeRecursion::Continue)
            })
        });
    }
    for expr in row_exprs(planned) {
        visit(expr, None);
    }
    fields.into_iter().map(|field| field.unwrap_or_else(|| Arc::new(SqlType::Text.field("", true)))).collect()
}

/// A numeric that keeps what both keep behind the point; any other type as it is.
fn with_digits(field: FieldRef, other: &Field) -> FieldRef {
    match (SqlType::from_field(&field), SqlType::from_field(other)) {
        (Some(SqlType::Decimal { scale, .. }), Some(SqlType::Decimal { scale: others, .. })) if scale != others => {
            Arc::new(SqlType::Decimal { precision: 38, scale: scale.max(others) }.field("", true))
        }
        _ => field,
    }
}

/// Expressions outside of any plan.
fn row_exprs(planned: &Planned) -> Vec<&DfExpr> {
    let (returning, conflict) = match planned {
        Planned::Insert(insert) => (&insert.returning, Some(&insert.on_conflict)),
        Planned::Update(mutation) | Planned::Delete(mutation) => (&mutation.returning, None),
        _ => return vec![],
    };
    let mut exprs: Vec<&DfExpr> = returning.iter().flat_map(|r| &r.exprs).collect();
    if let Some(OnConflict::DoUpdate { assignments, filter }) = conflict {
        exprs.extend(assignments.iter().map(|(_, e)| e));
        exprs.extend(filter);
    }
    exprs
}

/// Puts values in the place of parameters. `values[i]` has the type that `parameter_types` gave for it.
pub fn bind_parameters(planned: Planned, values: Vec<ScalarValue>) -> Result<Planned> {
    let expected = parameter_types(&planned).len();
    if values.len() < expected {
        let message = format!("bind message supplies {} parameters, but the statement requires {expected}", values.len());
        return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, message));
    }
    if values.is_empty() {
        return Ok(planned);
    }
    let constants = values.clone();
    let values = ParamValues::from(values);
    let bind = |plan: LogicalPlan| plan.replace_params_with_values(&values).map_err(|e| from_datafusion(e, None));
    let query = |q: Query| Ok::<_, SqlError>(Query { plan: bind(q.plan)?, ..q });
    Ok(match planned {
        Planned::Query(q) => Planned::Query(query(q)?),
        Planned::ExplainQuery { query: q, analyze: true, json } => Planned::ExplainQuery { query: query(q)?, analyze: true, json },
        Planned::CopyTo { query: q, format } => Planned::CopyTo { query: query(q)?, format },
        Planned::DeclareCursor { name, query: q, hold } => Planned::DeclareCursor { name, query: query(q)?, hold },
        Planned::CreateTableAs(TableAs { name, definition, rows: TableRows::Of(q) }) => {
            Planned::CreateTableAs(TableAs { name, definition, rows: TableRows::Of(Box::new(query(*q)?)) })
        }
        Planned::WriteOut { table, spec, source } => Planned::WriteOut { table, spec, source: query(source)? },
        Planned::Insert(mut insert) => {
            insert.source = query(insert.source)?;
            fill_returning(&mut insert.returning, &constants)?;
            if let OnConflict::DoUpdate { assignments, filter } = &mut insert.on_conflict {
                fill(assignments.iter_mut().map(|(_, e)| e).chain(filter), &constants)?;
            }
            Planned::Insert(insert)
        }
        Planned::Update(mut mutation) => {
            mutation.source = query(mutation.source)?;
            fill_returning(&mut mutation.returning, &constants)?;
            Planned::Update(mutation)
        }
        Planned::Delete(mut mutation) => {
            mutation.source = query(mutation.source)?;
            fill_returning(&mut mutation.returning, &constants)?;
            Planned::Delete(mutation)
        }
        other => other,
    })
}

fn fill_returning(returning: &mut Option<Returning>, values: &[ScalarValue]) -> Result<()> {
    fill(returning.iter_mut().flat_map(|r| &mut r.exprs), values)
}

/// Puts values in the place of the parameters of expressions outside of any plan.
fn fill<'a>(exprs: impl Iterator<Item = &'a mut DfExpr>, values: &[ScalarValue]) -> Result<()> {
    for expr in exprs {
        let filled = std::mem::take(expr).up(|e| match &e {
            DfExpr::Placeholder(placeholder) => match number(&placeholder.id).and_then(|n| values.get(n - 1)) {
                Some(value) => Ok(Transformed::yes(DfExpr::Literal(value.clone(), None))),
                None => Ok(Transformed::no(e)),
            },
            _ => Ok(Transformed::no(e)),
        });
        *expr = filled.map_err(|e| from_datafusion(e, None))?.data;
    }
    Ok(())
}

/// The number of the parameter `$n`.
fn number(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse().ok().filter(|n| *n > 0)
}
