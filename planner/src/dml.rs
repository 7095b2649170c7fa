//! INSERT, UPDATE, DELETE and COPY FROM: which table, which columns, and a query that yields the rows.

use crate::bind::Mode;
use crate::catalog::{Relation, RelationKind};
use crate::create::output_names;
use crate::error::{fold, from_datafusion, suggest};
use crate::expr;
use crate::lower::columns_of;
use crate::optimize;
use crate::parse::ast::{Ast, ColumnValue};
use crate::parse::{Parsed, parse, select_all_from};
use crate::plan::Expr as PlanExpr;
use crate::query::{Context, cast_columns};
use crate::statement::{CopyFormat, Insert, Mutation, OnConflict, Planned, Returning};
use datafusion::common::{Column as DfColumn, DFSchema};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Span;
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{Result, SqlError, SqlState};
use std::collections::HashMap;
use std::sync::Arc;

const GENERATED_ALWAYS: SqlState = SqlState("428C9");
const INVALID_CONFLICT_TARGET: SqlState = SqlState("42P10");

impl Context<'_> {
    fn at(&self, error: SqlError, span: Span) -> SqlError {
        self.text.at(error, span.start)
    }

    /// A table that may be written.
    fn table(&self, name: &ast::ObjectName, verb: &str) -> Result<Arc<Relation>> {
        let relation = self.relation(name)?;
        let what = match &relation.kind {
            RelationKind::Table { append_only: true, .. } if verb != "insert into" => "an append-only table",
            RelationKind::Table { .. } => return Ok(relation),
            RelationKind::Source(_) => "a source",
            RelationKind::View { .. } => "a view",
            RelationKind::MaterializedView { .. } => "a materialized view",
            RelationKind::Sink(_) => "a sink",
        };
        let error = SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("cannot {verb} \"{}\": it is {what}", relation.name));
        Err(self.at(error, name_span(name)))
    }

    pub fn relation(&self, name: &ast::ObjectName) -> Result<Arc<Relation>> {
        let idents: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(fold).collect();
        let (last, schema) = idents.split_last().ok_or_else(|| SqlError::new(SqlState::INVALID_NAME, "a name is missing"))?;
        self.catalog
            .relation(schema.last().map(String::as_str), last)
            .ok_or_else(|| self.at(crate::bind::unknown_relation(self.catalog, &idents.join("."), last), name_span(name)))
    }

    /// The stored columns that a list names; all of them for an empty list.
    fn column_list(&self, table: &Relation, list: &[ast::Ident]) -> Result<Vec<usize>> {
        if list.is_empty() {
            return Ok((0..table.columns.len()).collect());
        }
        let mut columns = Vec::new();
        for ident in list {
            let at = self.stored_column(table, ident)?;
            if columns.contains(&at) {
                let message = format!("column \"{}\" specified more than once", table.columns[at].name);
                return Err(self.at(SqlError::new(SqlState::DUPLICATE_COLUMN, message), ident.span));
            }
            columns.push(at);
        }
        Ok(columns)
    }

    fn stored_column(&self, table: &Relation, ident: &ast::Ident) -> Result<usize> {
        let name = fold(ident);
        if let Some(at) = table.columns.iter().position(|c| c.name == name) {
            return Ok(at);
        }
        let error = if table.visible.iter().any(|v| v.column.name == name) {
            SqlError::new(GENERATED_ALWAYS, format!("column \"{name}\" is computed and cannot be written"))
        } else {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", table.name);
            let error = SqlError::new(SqlState::UNDEFINED_COLUMN, message);
            suggest(error, &name, table.columns.iter().map(|c| c.name.as_str()))
        };
        Err(self.at(error, ident.span))
    }

    pub fn insert(&self, insert: &ast::Insert) -> Result<Planned> {
        let ast::TableObject::TableName(name) = &insert.table else {
            return Err(SqlError::unsupported("INSERT INTO a function is not supported"));
        };
        let table = self.table(name, "insert into")?;
        let list: Vec<ast::Ident> = insert.columns.iter().filter_map(last_ident).collect();
        let explicit = !list.is_empty();
        let mut columns = self.column_list(&table, &list)?;
        let defaults = Defaults::of(&table)?;
        let source = match &insert.source {
            Some(query) => {
                let query = self.with_defaults(query, &table, &mut columns, explicit, &defaults)?;
                self.insert_rows(&query, &table, &columns)?
            }
            None => self.bind(&*crate::parse::parse_query("SELECT 1")?, None)?.0,
        };
        let width = source.schema().fields().len();
        if insert.source.is_some() && width != columns.len() {
            if width > columns.len() || explicit {
                let message =
                    if width > columns.len() { "more expressions than target columns" } else { "more target columns than expressions" };
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("INSERT has {message}")));
            }
            columns.truncate(width);
        }
        if insert.source.is_none() {
            columns.clear();
        }
        let source = self.stored_rows(source, &table, &columns)?;
        let names = table.columns.iter().map(|c| c.name.clone()).collect();
        let source = self.finish(source, names);
        self.refuse_sources(&source.relations)?;
        let alias = insert.table_alias.as_ref().map(|a| a.alias.clone());
        let on_conflict = self.on_conflict(insert.on.as_ref(), &table, name, alias.as_ref())?;
        let returning = self.returning(insert.returning.as_deref(), name, alias.as_ref())?;
        Ok(Planned::Insert(Insert { table: table.id, source, on_conflict, returning }))
    }

    /// A table is written by statements that end.
    fn refuse_sources(&self, relations: &[eddyline_common::RelationId]) -> Result<()> {
        let all = self.catalog.relations();
        match all.iter().find(|r| relations.contains(&r.id) && matches!(r.kind, RelationKind::Source(_))) {
            Some(source) => Err(SqlError::unsupported(format!("INSERT from source \"{}\" into a table is not supported", source.name))
                .with_hint("Create a materialized view over the source.")),
            None => Ok(()),
        }
    }

    /// Puts default expressions in the place of DEFAULT in VALUES.
    fn with_defaults(
        &self,
        query: &ast::Query,
        table: &Relation,
        columns: &mut [usize],
        explicit: bool,
        defaults: &Defaults,
    ) -> Result<ast::Query> {
        let mut query = query.clone();
        let ast::SetExpr::Values(values) = query.body.as_mut() else { return Ok(query) };
        for row in &mut values.rows {
            if row.content.len() > columns.len() || (explicit && row.content.len() < columns.len()) {
                let more = row.content.len() > columns.len();
                let message = if more { "more expressions than target columns" } else { "more target columns than expressions" };
                let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("INSERT has {message}"));
                let span = row.content.get(columns.len()).or(row.content.first()).map(ast::Spanned::span);
                return Err(span.map_or(error.clone(), |span| self.at(error, span)));
            }
            for (cell, column) in row.content.iter_mut().zip(columns.iter()) {
                if matches!(cell, ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default")) {
                    *cell = defaults.expr(&table.columns[*column]);
                }
            }
        }
        Ok(query)
    }

    fn insert_rows(&self, query: &ast::Query, table: &Relation, columns: &[usize]) -> Result<LogicalPlan> {
        let target = match query.body.as_ref() {
            ast::SetExpr::Values(values) => {
                let width = values.rows.first().map_or(0, |r| r.content.len());
                let columns: Vec<Column> =
                    columns.iter().take(width).map(|i| Column { nullable: true, ..table.columns[*i].clone() }).collect();
                Some(DFSchema::try_from(arrow_schema(&columns)).map_err(|e| from_datafusion(e, None))?)
            }
            _ => None,
        };
        Ok(self.bind(query, target.as_ref())?.0)
    }

    /// Every stored column of the table: what the source gives, else the default, else null.
    fn stored_rows(&self, source: LogicalPlan, table: &Relation, columns: &[usize]) -> Result<LogicalPlan> {
        let given = source.schema().columns();
        let RelationKind::Table { defaults, .. } = &table.kind else { return Err(SqlError::internal("not a table")) };
        let targets = table
            .columns
            .iter()
            .enumerate()
            .map(|(i, column)| {
                let value = match (columns.iter().position(|c| *c == i), defaults.get(&i)) {
                    (Some(at), _) => Expr::Column(given[at].clone()),
                    (None, Some(default)) => expr::to_datafusion(default, &|_| unreachable!("a default has no columns"))?,
                    (None, None) => {
                        let null = crate::plan::Literal { ty: column.ty.clone(), value: crate::plan::LiteralValue::Null };
                        Expr::Literal(expr::to_scalar(&null)?, None)
                    }
                };
                Ok((column.name.clone(), value, column.ty.clone()))
            })
            .collect::<Result<Vec<_>>>()?;
        cast_columns(source, &targets)
    }

    fn on_conflict(
        &self,
        on: Option<&ast::OnInsert>,
        table: &Relation,
        name: &ast::ObjectName,
        alias: Option<&ast::Ident>,
    ) -> Result<OnConflict> {
        let conflict = match on {
            None => return Ok(OnConflict::Error),
            Some(ast::OnInsert::OnConflict(conflict)) => conflict,
            Some(_) => return Err(SqlError::unsupported("ON DUPLICATE KEY is not supported").with_hint("Write ON CONFLICT.")),
        };
        match &conflict.conflict_target {
            Some(ast::ConflictTarget::Columns(columns)) => {
                let mut target = self.column_list(table, columns)?;
                target.sort_unstable();
                let mut key = table.key.clone();
                key.sort_unstable();
                if target != key {
                    let message = "there is no unique constraint matching the ON CONFLICT specification";
                    return Err(SqlError::new(INVALID_CONFLICT_TARGET, message).with_hint("Name the columns of the primary key."));
                }
            }
            Some(ast::ConflictTarget::OnConstraint(_)) => {
                return Err(
                    SqlError::unsupported("ON CONFLICT ON CONSTRAINT is not supported").with_hint("Name the columns of the primary key.")
                );
            }
            None => {}
        }
        let update = match &conflict.action {
            ast::OnConflictAction::DoNothing => return Ok(OnConflict::DoNothing),
            ast::OnConflictAction::DoUpdate(update) => update,
        };
        if table.key.is_empty() || conflict.conflict_target.is_none() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "ON CONFLICT DO UPDATE requires the columns of a primary key"));
        }
        let assigned = self.assignments(table, &update.assignments)?;
        let defaults = Defaults::of(table)?;
        let mut items: Vec<ast::SelectItem> = assigned.iter().map(|(at, e)| item(defaults.or(e, &table.columns[*at]), "v", *at)).collect();
        items.extend(update.selection.iter().map(|e| item(e.clone(), "filter", 0)));
        let mut query = select_all_from(table_factor(name, alias));
        let ast::SetExpr::Select(select) = query.body.as_mut() else { return Err(SqlError::internal("not a select")) };
        select.projection = items;
        let excluded = table_factor(name, Some(&ast::Ident::new("excluded")));
        select.from.push(ast::TableWithJoins { relation: excluded, joins: vec![] });
        let (mut exprs, _) = self.inlined(&query)?;
        let filter = if update.selection.is_some() { exprs.pop() } else { None };
        let as_row = |e: &PlanExpr| row_expr(e);
        let assignments = assigned
            .iter()
            .zip(&exprs)
            .map(|((at, _), e)| {
                let cast = PlanExpr::Cast { expr: Box::new(e.clone()), ty: table.columns[*at].ty.clone(), try_cast: false };
                Ok((*at, as_row(&cast)?))
            })
            .collect::<Result<_>>()?;
        Ok(OnConflict::DoUpdate { assignments, filter: filter.as_ref().map(as_row).transpose()? })
    }

    fn assignments(&self, table: &Relation, assignments: &[ast::Assignment]) -> Result<Vec<(usize, ast::Expr)>> {
        let mut assigned: Vec<(usize, ast::Expr)> = Vec::new();
        for assignment in assignments {
            let ast::AssignmentTarget::ColumnName(name) = &assignment.target else {
                return Err(SqlError::unsupported("SET (a, b) = (...) is not supported").with_hint("Assign each column by itself."));
            };
            let ident = last_ident(name).ok_or_else(|| SqlError::new(SqlState::INVALID_NAME, "a column name is missing"))?;
            let at = self.stored_column(table, &ident)?;
            if assigned.iter().any(|(a, _)| *a == at) {
                let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("multiple assignments to column \"{}\"", fold(&ident)));
                return Err(self.at(error, ident.span));
            }
            assigned.push((at, assignment.value.clone()));
        }
        Ok(assigned)
    }

    pub fn update(&self, update: &ast::Update) -> Result<Planned> {
        if update.from.is_some() || !update.table.joins.is_empty() {
            return Err(SqlError::unsupported("UPDATE ... FROM is not supported").with_hint("Use a subquery in SET or WHERE."));
        }
        let (name, alias) = factor_name(&update.table.relation)?;
        let table = self.table(&name, "update")?;
        let assigned = self.assignments(&table, &update.assignments)?;
        let defaults = Defaults::of(&table)?;
        let scope = alias.clone().or_else(|| last_ident(&name)).ok_or_else(|| SqlError::internal("a table without a name"))?;
        let n = table.columns.len();
        let old = |i: usize| ast::Expr::CompoundIdentifier(vec![scope.clone(), quoted(&table.columns[i].name)]);
        let new = |i: usize| match assigned.iter().find(|(at, _)| *at == i) {
            Some((_, e)) => typed_parameter(defaults.or(e, &table.columns[i]), &table.columns[i]),
            None => old(i),
        };
        let items = (0..n).map(|i| item(old(i), "c", i)).chain((0..n).map(|i| item(new(i), "c", n + i))).collect();
        let source = self.changed_rows(&table, &name, alias.as_ref(), items, update.selection.clone(), 2)?;
        let returning = self.returning(update.returning.as_deref(), &name, alias.as_ref())?;
        Ok(Planned::Update(Mutation { table: table.id, source, returning }))
    }

    pub fn delete(&self, delete: &ast::Delete) -> Result<Planned> {
        let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
        let [ast::TableWithJoins { relation, joins }] = from.as_slice() else {
            return Err(SqlError::unsupported("DELETE from several tables is not supported"));
        };
        if delete.using.is_some() || !joins.is_empty() {
            return Err(SqlError::unsupported("DELETE ... USING is not supported").with_hint("Use a subquery in WHERE."));
        }
        let (name, alias) = factor_name(relation)?;
        let table = self.table(&name, "delete from")?;
        let scope = alias.clone().or_else(|| last_ident(&name)).ok_or_else(|| SqlError::internal("a table without a name"))?;
        let old = |i: usize| ast::Expr::CompoundIdentifier(vec![scope.clone(), quoted(&table.columns[i].name)]);
        let items = (0..table.columns.len()).map(|i| item(old(i), "c", i)).collect();
        let source = self.changed_rows(&table, &name, alias.as_ref(), items, delete.selection.clone(), 1)?;
        let returning = self.returning(delete.returning.as_deref(), &name, alias.as_ref())?;
        Ok(Planned::Delete(Mutation { table: table.id, source, returning }))
    }

    /// `SELECT items FROM table WHERE selection`, each item in the type of its column.
    fn changed_rows(
        &self,
        table: &Relation,
        name: &ast::ObjectName,
        alias: Option<&ast::Ident>,
        items: Vec<ast::SelectItem>,
        selection: Option<ast::Expr>,
        copies: usize,
    ) -> Result<crate::statement::Query> {
        let mut query = select_all_from(table_factor(name, alias));
        let ast::SetExpr::Select(select) = query.body.as_mut() else { return Err(SqlError::internal("not a select")) };
        select.projection = items;
        select.selection = selection;
        let (plan, _) = self.bind(&query, None)?;
        let bound = plan.schema().columns();
        let n = table.columns.len();
        let targets: Vec<_> =
            (0..n * copies).map(|i| (format!("c{i}"), Expr::Column(bound[i].clone()), table.columns[i % n].ty.clone())).collect();
        let plan = cast_columns(plan, &targets)?;
        let names = (0..n * copies).map(|i| table.columns[i % n].name.clone()).collect();
        Ok(self.finish(plan, names))
    }

    fn returning(
        &self,
        items: Option<&[ast::SelectItem]>,
        name: &ast::ObjectName,
        alias: Option<&ast::Ident>,
    ) -> Result<Option<Returning>> {
        let Some(items) = items else { return Ok(None) };
        let mut query = select_all_from(table_factor(name, alias));
        let ast::SetExpr::Select(select) = query.body.as_mut() else { return Err(SqlError::internal("not a select")) };
        select.projection = items.to_vec();
        let (exprs, columns) = self.inlined(&query)?;
        let exprs = exprs.iter().map(row_expr).collect::<Result<_>>()?;
        Ok(Some(Returning { exprs, columns }))
    }

    /// A select list over tables as expressions over their stored columns, one table's after the other's.
    fn inlined(&self, query: &ast::Query) -> Result<(Vec<PlanExpr>, Vec<Column>)> {
        let (plan, _) = self.binder(Mode::Streaming).query(query)?;
        let names = output_names(query, &plan);
        let plan = optimize::analyze(plan).map_err(|e| from_datafusion(e, Some(self.text)))?;
        let mut columns = columns_of(plan.schema())?;
        for (column, name) in columns.iter_mut().zip(names) {
            column.name = name;
        }
        Ok((stored_exprs(&plan)?, columns))
    }

    pub fn copy_from(&self, name: &ast::ObjectName, list: &[ast::Ident], format: CopyFormat) -> Result<Planned> {
        let table = self.table(name, "copy into")?;
        let columns = self.column_list(&table, list)?;
        Ok(Planned::CopyFrom { table: table.id, columns, format })
    }
}

fn stored_exprs(plan: &LogicalPlan) -> Result<Vec<PlanExpr>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let inputs = stored_exprs(&projection.input)?;
            let schema = projection.input.schema();
            projection.expr.iter().map(|e| expr::inline(e, schema, &inputs)).collect()
        }
        LogicalPlan::SubqueryAlias(alias) => stored_exprs(&alias.input),
        LogicalPlan::TableScan(scan) => Ok((0..scan.projected_schema.fields().len()).map(PlanExpr::Column).collect()),
        LogicalPlan::Join(join) if join.on.is_empty() && join.filter.is_none() => {
            let mut exprs = stored_exprs(&join.left)?;
            let LogicalPlan::TableScan(left) = innermost(&join.left) else { return Err(refused()) };
            let shift = left.projected_schema.fields().len();
            for e in stored_exprs(&join.right)? {
                exprs.push(expr::map_columns(&e, &|i| Some(PlanExpr::Column(i + shift))).expect("every column shifts"));
            }
            Ok(exprs)
        }
        _ => Err(refused()),
    }
}

fn innermost(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => innermost(&alias.input),
        LogicalPlan::Projection(projection) => innermost(&projection.input),
        other => other,
    }
}

fn refused() -> SqlError {
    SqlError::unsupported("only expressions over the table's columns are supported here")
}

/// Over a row of columns named `c0`, `c1`, ...
fn row_expr(e: &PlanExpr) -> Result<Expr> {
    expr::to_datafusion(e, &|i| Expr::Column(DfColumn::new_unqualified(format!("c{i}"))))
}

/// A table's DEFAULT expressions as written.
struct Defaults(HashMap<String, ast::Expr>);

impl Defaults {
    fn of(table: &Relation) -> Result<Self> {
        let Some(Parsed { ast: Ast::CreateRelation(create), .. }) = parse(&table.sql)?.pop() else { return Ok(Defaults(HashMap::new())) };
        let defaults = create.columns.into_iter().filter_map(|c| match c.value {
            ColumnValue::Plain { default: Some(e) } => Some((fold(&c.name), e)),
            _ => None,
        });
        Ok(Defaults(defaults.collect()))
    }

    /// What DEFAULT means for a column: its default, or a null.
    fn expr(&self, column: &Column) -> ast::Expr {
        let null = || ast::Expr::Value(ast::Value::Null.with_empty_span());
        self.0.get(&column.name).cloned().unwrap_or_else(null)
    }

    /// The expression, or the default if it is the word DEFAULT.
    fn or(&self, e: &ast::Expr, column: &Column) -> ast::Expr {
        match e {
            ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default") => self.expr(column),
            other => other.clone(),
        }
    }
}

/// A bare `$n` that is assigned to a column has the column's type.
fn typed_parameter(e: ast::Expr, column: &Column) -> ast::Expr {
    let bare = matches!(&e, ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Placeholder(_), .. }));
    match crate::types::to_ast(&column.ty) {
        Some(data_type) if bare => crate::bind::cast(e, data_type),
        _ => e,
    }
}

fn item(expr: ast::Expr, prefix: &str, number: usize) -> ast::SelectItem {
    ast::SelectItem::ExprWithAlias { expr, alias: quoted(&format!("{prefix}{number}")) }
}

fn quoted(name: &str) -> ast::Ident {
    ast::Ident::with_quote('"', name)
}

fn last_ident(name: &ast::ObjectName) -> Option<ast::Ident> {
    name.0.last().and_then(|p| p.as_ident()).cloned()
}

fn name_span(name: &ast::ObjectName) -> Span {
    ast::Spanned::span(name)
}

fn factor_name(factor: &ast::TableFactor) -> Result<(ast::ObjectName, Option<ast::Ident>)> {
    match factor {
        ast::TableFactor::Table { name, alias, args: None, .. } => Ok((name.clone(), alias.as_ref().map(|a| a.name.clone()))),
        other => Err(SqlError::unsupported(format!("writing to {other} is not supported"))),
    }
}

fn table_factor(name: &ast::ObjectName, alias: Option<&ast::Ident>) -> ast::TableFactor {
    ast::TableFactor::Table {
        name: name.clone(),
        alias: alias.map(|name| ast::TableAlias { explicit: true, name: name.clone(), columns: vec![], at: None }),
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}
