//! INSERT, with its defaults and its ON CONFLICT.

use super::{Defaults, GENERATED_ALWAYS, is_default, is_parameter, item, last_ident, typed_parameter};
use crate::assign::written_columns;
use crate::bind::stored_text;
use crate::catalog::{Relation, RelationKind};
use crate::error::from_datafusion;
use crate::expr;
use crate::parse::{LongValues, select_all_from, table_factor};
use crate::query::{Context, cast_columns};
use crate::statement::{Insert, OnConflict, Planned, Query, RowLocks};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Span;
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{Result, SqlError, SqlState, SqlType};

const INVALID_CONFLICT_TARGET: SqlState = SqlState("42P10");

/// The first row of VALUES with more cells than there are columns, or with fewer if all are to be given: whether there are more, and where it is.
pub fn misfit(values: &ast::Values, columns: usize, all: bool) -> Option<(bool, Span)> {
    let row = values.rows.iter().find(|row| row.content.len() > columns || all && row.content.len() < columns)?;
    let cell = row.content.get(columns).or(row.content.first());
    Some((row.content.len() > columns, cell.map_or(Span::empty(), ast::Spanned::span)))
}

pub fn wrong_width(more: bool) -> SqlError {
    let message = if more { "more expressions than target columns" } else { "more target columns than expressions" };
    SqlError::new(SqlState::SYNTAX_ERROR, format!("INSERT has {message}"))
}

/// Parameters in a select list, up to a star, whose width is not known yet.
fn type_parameters(items: &mut [ast::SelectItem], table: &Relation, columns: &[usize]) {
    for (item, column) in items.iter_mut().zip(columns) {
        let (ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }) = item else { return };
        if is_parameter(expr) {
            *expr = typed_parameter(expr.clone(), &table.columns[*column]);
        }
    }
}

/// No statement writes the values of a column that always numbers the rows. `rows`: what an INSERT writes into `columns`.
fn check_numbered(rows: Option<&ast::SetExpr>, table: &Relation, columns: &[usize]) -> Result<()> {
    let Some(numbered) = table.numbered().filter(|numbered| numbered.always) else { return Ok(()) };
    let Some(place) = columns.iter().position(|column| *column == numbered.column) else { return Ok(()) };
    if let Some(ast::SetExpr::Values(values)) = rows
        && values.rows.iter().all(|row| row.content.get(place).is_some_and(is_default))
    {
        return Ok(());
    }
    let name = &table.columns[numbered.column].name;
    let error = SqlError::new(GENERATED_ALWAYS, format!("cannot insert a non-DEFAULT value into column \"{name}\""));
    Err(error
        .with_detail(format!("Column \"{name}\" is an identity column defined as GENERATED ALWAYS."))
        .with_hint("Use OVERRIDING SYSTEM VALUE to override."))
}

impl Context<'_> {
    /// `overriding`: a column that always numbers the rows is written all the same.
    pub fn insert(&self, insert: &ast::Insert, overriding: bool) -> Result<Planned> {
        self.insert_with(insert, None, overriding)
    }

    /// `long`: the rows behind those in its VALUES.
    pub(super) fn insert_with(&self, insert: &ast::Insert, long: Option<&LongValues>, overriding: bool) -> Result<Planned> {
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
                return Err(wrong_width(width > columns.len()));
            }
            columns.truncate(width);
        }
        match &insert.source {
            Some(query) => self.check_assigned(query, &source, written_columns(&table, &columns))?,
            None => columns.clear(),
        }
        let values = insert.source.as_deref().filter(|_| long.is_none()).map(|query| query.body.as_ref());
        if !overriding {
            check_numbered(values, &table, &columns)?;
        }
        let source = match long {
            Some(long) => self.long_rows(source, long, &table, &columns)?,
            None => source,
        };
        let source = self.stored_rows(source, &table, &columns)?;
        let names = table.columns.iter().map(|c| c.name.clone()).collect();
        let locks = insert.source.as_deref().map_or(Ok(None), RowLocks::of)?;
        let source = Query { locks, ..self.finish(source, names) };
        let alias = insert.table_alias.as_ref().map(|a| a.alias.clone());
        let on_conflict = self.on_conflict(insert.on.as_ref(), &table, name, alias.as_ref())?;
        let returning = self.returning(insert.returning.as_deref(), name, alias.as_ref(), false)?;
        Ok(Planned::Insert(Insert { table: table.id, source, on_conflict, returning }))
    }

    /// Puts default expressions in the place of DEFAULT in VALUES, and casts to the columns' types around parameters.
    fn with_defaults(
        &self,
        query: &ast::Query,
        table: &Relation,
        columns: &mut [usize],
        explicit: bool,
        defaults: &Defaults,
    ) -> Result<ast::Query> {
        let mut query = query.clone();
        let values = match query.body.as_mut() {
            ast::SetExpr::Values(values) => values,
            ast::SetExpr::Select(select) => {
                type_parameters(&mut select.projection, table, columns);
                return Ok(query);
            }
            _ => return Ok(query),
        };
        if let Some((more, span)) = misfit(values, columns.len(), explicit) {
            return Err(self.at(wrong_width(more), span));
        }
        for row in &mut values.rows {
            for (cell, column) in row.content.iter_mut().zip(columns.iter()) {
                if is_default(cell) {
                    *cell = defaults.expr(&table.columns[*column]);
                }
                // Of other types a cell of VALUES is bound as what its column has.
                if is_parameter(cell) && matches!(table.columns[*column].ty, SqlType::Uuid | SqlType::Json) {
                    *cell = typed_parameter(cell.clone(), &table.columns[*column]);
                }
            }
        }
        Ok(query)
    }

    pub(super) fn insert_rows(&self, query: &ast::Query, table: &Relation, columns: &[usize]) -> Result<LogicalPlan> {
        let target = match query.body.as_ref() {
            ast::SetExpr::Values(values) => {
                self.check_values(values, &written_columns(table, columns).collect::<Vec<_>>())?;
                let width = values.rows.first().map_or(0, |r| r.content.len());
                // What does not fit a text, or is no value of its type, is an error when it is stored: it is neither cut, as a cast would do, nor taken as it is.
                let ty = |i: usize| match table.columns[i].ty.clone().unlimited() {
                    SqlType::Uuid | SqlType::Json => SqlType::Text,
                    ty => ty,
                };
                let columns: Vec<Column> = columns.iter().take(width).map(|i| Column::new(&table.columns[*i].name, ty(*i), true)).collect();
                Some(DFSchema::try_from(arrow_schema(&columns)).map_err(|e| from_datafusion(e, None))?)
            }
            _ => None,
        };
        Ok(self.bind(query, target.as_ref())?.0)
    }

    /// Every stored column of the table: what the source gives, else the default, else null.
    pub fn stored_rows(&self, source: LogicalPlan, table: &Relation, columns: &[usize]) -> Result<LogicalPlan> {
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
        cast_columns(source, &targets, &self.settings.time_zone)
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
        let mut items: Vec<ast::SelectItem> = assigned
            .iter()
            .map(|(at, e)| item(typed_parameter(defaults.or(e, &table.columns[*at]), &table.columns[*at]), "v", *at))
            .collect();
        items.extend(update.selection.iter().map(|e| item(e.clone(), "filter", 0)));
        let mut query = select_all_from(table_factor(name, alias));
        let ast::SetExpr::Select(select) = query.body.as_mut() else { return Err(SqlError::internal("not a select")) };
        select.projection = items;
        let excluded = table_factor(name, Some(&ast::Ident::new("excluded")));
        select.from.push(ast::TableWithJoins { relation: excluded, joins: vec![] });
        let targets: Vec<usize> = assigned.iter().map(|(at, _)| *at).collect();
        let (mut exprs, _) = self.row_exprs(&query, written_columns(table, &targets))?;
        let filter = if update.selection.is_some() { exprs.pop() } else { None };
        let cast = |at: usize, e: Expr| {
            let ty = &table.columns[at].ty;
            let stored = stored_text(Expr::Cast(Cast::new(Box::new(e), ty.to_arrow())), ty);
            stored.map(|stored| (at, stored)).map_err(|e| from_datafusion(e, None))
        };
        let assignments = assigned.iter().zip(exprs).map(|((at, _), e)| cast(*at, e)).collect::<Result<_>>()?;
        Ok(OnConflict::DoUpdate { assignments, filter })
    }
}
