//! INSERT, UPDATE, DELETE and COPY FROM: which table, which columns, and a query that yields the rows.
//! - here: what all of them need; `insert`, `change` (UPDATE and DELETE): the statements; `partition`: a clause of INSERT; `long_insert`: long lists of literals
//! - `rows`: expressions over single rows, for RETURNING and DO UPDATE

mod change;
mod insert;
mod long_insert;
mod partition;
mod rows;

use crate::catalog::{Relation, RelationKind};
use crate::error::{fold, suggest};
use crate::parse::ast::{Ast, ColumnValue};
use crate::parse::{Parsed, parse};
use crate::query::Context;
use crate::statement::{CopyFormat, Planned};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Span;
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlState};
pub use insert::{misfit, wrong_width};
use std::collections::HashMap;
use std::sync::Arc;

const GENERATED_ALWAYS: SqlState = SqlState("428C9");

impl Context<'_> {
    fn at(&self, error: SqlError, span: Span) -> SqlError {
        self.text.at(error, span.start)
    }

    /// A table that may be written.
    pub fn table(&self, name: &ast::ObjectName, verb: &str) -> Result<Arc<Relation>> {
        let relation = self.relation(name)?;
        let what = match &relation.kind {
            RelationKind::Table { append_only: true, .. } if matches!(verb, "update" | "delete from" | "truncate") => {
                "an append-only table"
            }
            RelationKind::Table { .. } => return Ok(relation),
            RelationKind::Source(_) | RelationKind::KeyedSource { .. } => "a source",
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
    pub fn column_list(&self, table: &Relation, list: &[ast::Ident]) -> Result<Vec<usize>> {
        if list.is_empty() {
            return Ok((0..table.columns.len()).collect());
        }
        self.each_once(list, |ident| self.stored_column(table, ident))
    }

    /// The columns that a list names, none of them twice.
    pub fn each_once(&self, list: &[ast::Ident], find: impl Fn(&ast::Ident) -> Result<usize>) -> Result<Vec<usize>> {
        let mut columns = Vec::with_capacity(list.len());
        for ident in list {
            let column = find(ident)?;
            if columns.contains(&column) {
                let message = format!("column \"{}\" specified more than once", fold(ident));
                return Err(self.at(SqlError::new(SqlState::DUPLICATE_COLUMN, message), ident.span));
            }
            columns.push(column);
        }
        Ok(columns)
    }

    /// The number of a column among those that queries see.
    pub fn visible_column(&self, relation: &Relation, ident: &ast::Ident) -> Result<usize> {
        let (folded, names) = (fold(ident), || relation.visible.iter().map(|visible| visible.column.name.as_str()));
        names().position(|name| name == folded).ok_or_else(|| self.no_column(relation, ident, names()))
    }

    fn no_column<'a>(&self, relation: &Relation, ident: &ast::Ident, known: impl Iterator<Item = &'a str>) -> SqlError {
        let folded = fold(ident);
        let message = format!("column \"{folded}\" of relation \"{}\" does not exist", relation.name);
        self.at(suggest(SqlError::new(SqlState::UNDEFINED_COLUMN, message), &folded, known), ident.span)
    }

    fn stored_column(&self, table: &Relation, ident: &ast::Ident) -> Result<usize> {
        let name = fold(ident);
        if let Some(at) = table.columns.iter().position(|c| c.name == name) {
            return Ok(at);
        }
        if table.visible.iter().any(|v| v.column.name == name) {
            let error = SqlError::new(GENERATED_ALWAYS, format!("column \"{name}\" is computed and cannot be written"));
            return Err(self.at(error, ident.span));
        }
        Err(self.no_column(table, ident, table.columns.iter().map(|c| c.name.as_str())))
    }

    fn assignments(&self, table: &Relation, assignments: &[ast::Assignment]) -> Result<Vec<(usize, ast::Expr)>> {
        let mut assigned: Vec<(usize, ast::Expr)> = Vec::new();
        for assignment in assignments {
            let ast::AssignmentTarget::ColumnName(name) = &assignment.target else {
                return Err(SqlError::unsupported("SET (a, b) = (...) is not supported").with_hint("Assign each column by itself."));
            };
            let ident = last_ident(name).ok_or_else(|| SqlError::new(SqlState::INVALID_NAME, "a column name is missing"))?;
            let at = self.stored_column(table, &ident)?;
            if let Some(numbered) = table.numbered().filter(|numbered| numbered.column == at)
                && (numbered.always || is_default(&assignment.value))
            {
                let message = format!("column \"{}\" numbers the rows, and cannot be updated so", fold(&ident));
                let error = SqlError::new(GENERATED_ALWAYS, message).with_hint("One that is GENERATED BY DEFAULT can be set to values.");
                return Err(self.at(error, ident.span));
            }
            if assigned.iter().any(|(a, _)| *a == at) {
                let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("multiple assignments to column \"{}\"", fold(&ident)));
                return Err(self.at(error, ident.span));
            }
            assigned.push((at, assignment.value.clone()));
        }
        Ok(assigned)
    }

    pub fn copy_from(&self, name: &ast::ObjectName, list: &[ast::Ident], format: CopyFormat) -> Result<Planned> {
        let table = self.table(name, "copy into")?;
        let columns = self.column_list(&table, list)?;
        Ok(Planned::CopyFrom { table: table.id, columns, format })
    }
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
        if is_default(e) { self.expr(column) } else { e.clone() }
    }
}

/// Whether it is the word DEFAULT.
fn is_default(e: &ast::Expr) -> bool {
    matches!(e, ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}

/// Whether it is a bare `$n`.
fn is_parameter(e: &ast::Expr) -> bool {
    matches!(e, ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Placeholder(_), .. }))
}

/// A bare `$n` that is assigned to a column has the column's type.
fn typed_parameter(e: ast::Expr, column: &Column) -> ast::Expr {
    match crate::types::to_ast(&column.ty) {
        Some(data_type) if is_parameter(&e) => crate::bind::cast(e, data_type),
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
        ast::TableFactor::Table { sample: Some(_), .. } => Err(crate::bind::sampled()),
        ast::TableFactor::Table { name, alias, args: None, .. } => Ok((name.clone(), alias.as_ref().map(|a| a.name.clone()))),
        other => Err(SqlError::unsupported(format!("writing to {other} is not supported"))),
    }
}
