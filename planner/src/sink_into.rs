//! Sinks into tables of our own: CREATE SINK ... INTO, and INSERT INTO a table from a query that reads a source. The sink's rows are the table's stored
//! columns. A table with a primary key is overwritten by it, so the query's rows must be identified by that key; any other table only grows.

use crate::assign::written_columns;
use crate::bind::{Binder, Found, Mode};
use crate::catalog::{Relation, RelationKind};
use crate::create::object_name;
use crate::functions::{NOT_NULL, registry};
use crate::lower::StateTableIds;
use crate::parse::Parsed;
use crate::parse::ast::CreateSink;
use crate::plan::Emit;
use crate::query::{Context, relations_of};
use crate::settings::OF_JOBS;
use crate::sink::{Definition, Target, finish, log_bytes_max};
use crate::statement::{Planned, RowLocks, StreamingQuery};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::sql::sqlparser::ast;
use eddyline_common::connector::{SinkColumn, SinkMode, SinkSpec};
use eddyline_common::types::Column;
use eddyline_common::{RelationId, Result, SqlError, SqlState, options};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A query whose rows go into a table, bound and in no particular columns yet.
struct Rows<'q> {
    query: &'q ast::Query,
    bound: LogicalPlan,
    depends_on: Vec<RelationId>,
}

impl Context<'_> {
    /// `CREATE SINK name INTO table`.
    pub fn create_sink_into(
        &self,
        create: &CreateSink,
        into: &ast::ObjectName,
        parsed: &Parsed,
        ids: &mut StateTableIds,
    ) -> Result<(Relation, StreamingQuery)> {
        if create.format.is_some() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "a sink INTO a table has no format"));
        }
        let name = object_name(&create.name, &parsed.text)?;
        let table = self.table(into, "insert into")?;
        let mut options = options::canonicalize_sink_into(create.options.clone())?;
        self.settings.complete(&mut options, &OF_JOBS);
        let binder = self.binder(Mode::Streaming);
        let query = self.sink_query(&create.from)?;
        RowLocks::refuse(&query, "a sink")?;
        let (bound, found) = binder.query(&query)?;
        let rows = Rows { query: &query, bound, depends_on: binder.named_lasting(&found)? };
        let columns: Vec<usize> = (0..table.columns.len()).collect();
        let definition = Definition { name, is_insert: false, name_is_free: false, depends_on: vec![], into: Some(table.id) };
        self.sink_of_table(&table, columns, false, rows, (definition, options), create.emit, parsed, &binder, ids)
    }

    /// The query of an INSERT that keeps running, because it reads a source, and who bound it; `None` for one that ends.
    pub fn running_query(&self, insert: &ast::Insert) -> Option<(Binder<'_>, LogicalPlan, Found)> {
        let query = insert.source.as_ref().filter(|q| !matches!(q.body.as_ref(), ast::SetExpr::Values(_)))?;
        // One that cannot run in a view either ends, or is wrong: then it is told by who runs it.
        let binder = self.binder(Mode::Streaming);
        let (bound, found) = binder.query(query).ok()?;
        let is_source = |r: &Arc<Relation>| matches!(r.kind, RelationKind::Source(_) | RelationKind::KeyedSource { .. });
        let sources: BTreeSet<RelationId> = self.catalog.relations().iter().filter(|r| is_source(r)).map(|r| r.id).collect();
        relations_of(&bound, self.catalog).iter().any(|id| sources.contains(id)).then_some((binder, bound, found))
    }

    /// `INSERT INTO table SELECT ... FROM source`.
    pub fn insert_running(
        &self,
        insert: &ast::Insert,
        (binder, bound, found): (Binder<'_>, LogicalPlan, Found),
        emit: Option<Emit>,
        parsed: &Parsed,
        ids: &mut StateTableIds,
    ) -> Result<(Planned, Option<StreamingQuery>)> {
        let ast::TableObject::TableName(name) = &insert.table else {
            return Err(SqlError::unsupported("INSERT INTO a function is not supported"));
        };
        if insert.on.is_some() || insert.returning.is_some() {
            return Err(SqlError::unsupported("ON CONFLICT and RETURNING are not supported for an INSERT that keeps running")
                .with_hint("It overwrites rows by the table's primary key, if the table has one."));
        }
        let table = self.table(name, "insert into")?;
        let list: Vec<ast::Ident> = insert.columns.iter().filter_map(|n| n.0.last().and_then(|p| p.as_ident()).cloned()).collect();
        let columns = self.column_list(&table, &list)?;
        let query = insert.source.as_deref().ok_or_else(|| SqlError::internal("an INSERT without a query"))?;
        RowLocks::refuse(query, "an INSERT that keeps running")?;
        let rows = Rows { query, bound, depends_on: binder.named_lasting(&found)? };
        let (name, name_is_free) = self.job_name(&table.name);
        let definition = Definition { name, is_insert: true, name_is_free, depends_on: vec![], into: Some(table.id) };
        let mut options = options::canonicalize_sink_into(BTreeMap::new())?;
        self.settings.complete(&mut options, &OF_JOBS);
        let (relation, streaming) =
            self.sink_of_table(&table, columns, !list.is_empty(), rows, (definition, options), emit, parsed, &binder, ids)?;
        Ok((Planned::create(relation), Some(streaming)))
    }

    #[allow(clippy::too_many_arguments)] // what both statements have found out
    fn sink_of_table(
        &self,
        table: &Arc<Relation>,
        mut columns: Vec<usize>,
        explicit: bool,
        rows: Rows<'_>,
        (mut definition, options): (Definition, BTreeMap<String, String>),
        emit: Option<Emit>,
        parsed: &Parsed,
        binder: &Binder,
        ids: &mut StateTableIds,
    ) -> Result<(Relation, StreamingQuery)> {
        if matches!(&table.kind, RelationKind::Table { webhook: Some(_), .. }) {
            let message = format!("cannot insert into \"{}\": its rows come over HTTP", table.name);
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        if reaches(&self.catalog.relations(), &rows.depends_on, table.id) {
            let message = format!("rows of table \"{}\" cannot go into the table itself", table.name);
            return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message)
                .with_detail("The query reads the table, or something that is made of its rows.")
                .with_hint("Write into another table, and read both together."));
        }
        let width = rows.bound.schema().fields().len();
        if width > columns.len() || width < columns.len() && explicit {
            let more = if width > columns.len() { "more expressions than target columns" } else { "more target columns than expressions" };
            let what = if definition.is_insert { "INSERT".to_string() } else { format!("sink \"{}\"", definition.name) };
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("{what} has {more}")));
        }
        columns.truncate(width);
        if table.numbered().is_some_and(|numbered| numbered.always || !columns.contains(&numbered.column)) {
            let error = SqlError::unsupported(format!("rows that keep coming are not numbered by table \"{}\"", table.name));
            return Err(error.with_hint("Give its numbers in the query, or write into a table that has none."));
        }
        self.check_assigned(rows.query, &rows.bound, written_columns(table, &columns))?;
        let bound = self.not_null(self.stored_rows(rows.bound, table, &columns)?, &table.columns)?;
        let column = |c: &eddyline_common::Column| SinkColumn { external_name: c.name.clone(), ty: c.ty.clone() };
        let spec = SinkSpec {
            name: definition.name.clone(),
            incarnation: String::new(),
            columns: table.columns.iter().map(column).collect(),
            key: table.key.clone(),
            mode: if table.key.is_empty() { SinkMode::Append } else { SinkMode::Upsert },
            options,
        };
        let view = crate::catalog::ViewOptions::of(&spec.options)?;
        let target = Target { log_bytes_max: log_bytes_max(&spec.options)?, spec, options: view };
        definition.depends_on = rows.depends_on;
        definition.depends_on.push(table.id);
        finish(definition, target, bound, emit, parsed, binder, ids)
    }

    /// A row with a null where the table, of these columns, takes none is rejected.
    pub fn not_null<'c>(&self, rows: LogicalPlan, columns: impl IntoIterator<Item = &'c Column>) -> Result<LogicalPlan> {
        let failed = |e| crate::error::from_datafusion(e, Some(self.text));
        let schema = rows.schema().clone();
        let mut exprs = Vec::with_capacity(schema.fields().len());
        for (bound, column) in schema.columns().into_iter().zip(columns) {
            let value = Expr::Column(bound);
            let checked = !column.nullable && value.nullable(schema.as_ref()).map_err(failed)?;
            exprs.push(match checked {
                true => {
                    let function = datafusion::execution::FunctionRegistry::udf(registry().as_ref(), NOT_NULL).map_err(failed)?;
                    let checked = ScalarFunction::new_udf(function, vec![value, lit(column.name.as_str())]);
                    Expr::ScalarFunction(checked).alias(column.name.as_str())
                }
                false => value,
            });
        }
        LogicalPlanBuilder::from(rows).project(exprs).and_then(|b| b.build()).map_err(failed)
    }
}

/// Whether something that these relations are made of is `table`; a table is also made of what sinks write into it.
pub fn reaches(relations: &[Arc<Relation>], from: &[RelationId], table: RelationId) -> bool {
    let (mut open, mut seen) = (from.to_vec(), BTreeSet::new());
    while let Some(id) = open.pop() {
        if id == table {
            return true;
        }
        if !seen.insert(id) {
            continue;
        }
        open.extend(relations.iter().filter(|r| r.id == id).flat_map(|r| &r.depends_on));
        for sink in relations.iter().filter(|r| r.sink_table() == Some(id)) {
            open.extend(sink.plan().map(|plan| plan.inputs()).unwrap_or_default());
        }
    }
    false
}
