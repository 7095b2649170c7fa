//! UPDATE and DELETE, with the other tables that their FROM or USING names.

use super::{Defaults, factor_name, item, last_ident, quoted, typed_parameter};
use crate::catalog::Relation;
use crate::parse::{select_all_from, table_factor};
use crate::query::{Context, cast_columns};
use crate::statement::{Mutation, Planned, Query, RowLocks};
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast;
use eddyline_common::{Result, SqlError, SqlType};

/// What numbers a table's rows are called.
const NUMBER: &str = "__number";

/// The table that a statement changes, and by what name its text calls it.
struct Changed<'a> {
    table: &'a Relation,
    name: &'a ast::ObjectName,
    alias: Option<&'a ast::Ident>,
    /// Its rows are numbered, which are told apart by nothing else beside those of other tables.
    numbered: bool,
}

impl Changed<'_> {
    fn scope(&self) -> Result<ast::Ident> {
        self.alias.cloned().or_else(|| last_ident(self.name)).ok_or_else(|| SqlError::internal("a table without a name"))
    }

    /// A column of its rows as the statement may name it.
    fn named(&self, column: &str) -> Result<ast::Expr> {
        Ok(ast::Expr::CompoundIdentifier(vec![self.scope()?, quoted(column)]))
    }

    /// A stored one.
    fn column(&self, index: usize) -> Result<ast::Expr> {
        self.named(&self.table.columns[index].name)
    }

    fn rows(&self) -> Result<ast::TableFactor> {
        if !self.numbered {
            return Ok(table_factor(self.name, self.alias));
        }
        let mut rows = crate::parse::parse_query(&format!("SELECT *, ROW_NUMBER() OVER () AS {NUMBER} FROM t"))?;
        let ast::SetExpr::Select(select) = rows.body.as_mut() else { return Err(SqlError::internal("not a select")) };
        // Its star stands in no statement, so it has no place.
        select.projection[0] = ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default());
        select.from[0].relation = table_factor(self.name, None);
        let alias = ast::TableAlias { explicit: true, name: self.scope()?, columns: vec![], at: None };
        Ok(ast::TableFactor::Derived { lateral: false, subquery: rows, alias: Some(alias), sample: None })
    }

    fn columns(&self) -> Result<Vec<ast::SelectItem>> {
        (0..self.table.columns.len()).map(|i| Ok(item(self.column(i)?, "c", i))).collect()
    }

    /// `SELECT items FROM table, others WHERE selection`.
    fn select(&self, items: Vec<ast::SelectItem>, others: &[ast::TableWithJoins], selection: Option<ast::Expr>) -> Result<ast::Query> {
        let mut query = select_all_from(self.rows()?);
        let ast::SetExpr::Select(select) = query.body.as_mut() else { return Err(SqlError::internal("not a select")) };
        select.projection = items;
        select.from.extend_from_slice(others);
        select.selection = selection;
        Ok(query)
    }
}

impl Context<'_> {
    pub fn update(&self, update: &ast::Update) -> Result<Planned> {
        if !update.table.joins.is_empty() {
            return Err(SqlError::unsupported("UPDATE of a join is not supported").with_hint("Name the other tables in FROM."));
        }
        let (name, alias) = factor_name(&update.table.relation)?;
        let table = self.table(&name, "update")?;
        let others = match &update.from {
            None => &[],
            Some(ast::UpdateTableFromKind::BeforeSet(from) | ast::UpdateTableFromKind::AfterSet(from)) => from.as_slice(),
        };
        let numbered = !others.is_empty() && table.key.is_empty();
        let changed = Changed { table: &table, name: &name, alias: alias.as_ref(), numbered };
        let assigned = self.assignments(&table, &update.assignments)?;
        let defaults = Defaults::of(&table)?;
        let n = table.columns.len();
        let mut items = changed.columns()?;
        for i in 0..n {
            let new = match assigned.iter().find(|(at, _)| *at == i) {
                Some((_, e)) => typed_parameter(defaults.or(e, &table.columns[i]), &table.columns[i]),
                None => changed.column(i)?,
            };
            items.push(item(new, "c", n + i));
        }
        if numbered {
            items.push(item(changed.named(NUMBER)?, "c", 2 * n));
        }
        let query = changed.select(items, others, update.selection.clone())?;
        let source = self.rows_of(&table, &query, 2)?;
        let returning = self.returning(update.returning.as_deref(), &name, alias.as_ref(), !others.is_empty())?;
        Ok(Planned::Update(Mutation { table: table.id, source, returning }))
    }

    pub fn delete(&self, delete: &ast::Delete) -> Result<Planned> {
        let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
        let [ast::TableWithJoins { relation, joins }] = from.as_slice() else {
            return Err(SqlError::unsupported("DELETE from several tables is not supported"));
        };
        if !joins.is_empty() {
            return Err(SqlError::unsupported("DELETE from a join is not supported").with_hint("Name the other tables in USING."));
        }
        let (name, alias) = factor_name(relation)?;
        let table = self.table(&name, "delete from")?;
        let changed = Changed { table: &table, name: &name, alias: alias.as_ref(), numbered: false };
        let others = delete.using.as_deref().unwrap_or_default();
        let selection = match others {
            [] => delete.selection.clone(),
            others => Some(self.matched(&changed, others, delete.selection.clone())?),
        };
        let query = changed.select(changed.columns()?, &[], selection)?;
        let source = self.rows_of(&table, &query, 1)?;
        let returning = self.returning(delete.returning.as_deref(), &name, alias.as_ref(), !others.is_empty())?;
        Ok(Planned::Delete(Mutation { table: table.id, source, returning }))
    }

    /// What takes every row out of a table.
    /// `restart`: the numbers of the table's rows are to begin anew.
    pub fn truncate(&self, name: &ast::ObjectName, restart: bool) -> Result<Mutation> {
        let table = self.table(name, "truncate")?;
        if restart && table.numbered().is_some() {
            let error = SqlError::unsupported(format!("RESTART IDENTITY is not supported: the numbers of \"{}\" go on", table.name));
            return Err(error.with_hint("Leave it out, or DROP the table and CREATE it anew."));
        }
        let changed = Changed { table: &table, name, alias: None, numbered: false };
        let query = changed.select(changed.columns()?, &[], None)?;
        Ok(Mutation { table: table.id, source: self.rows_of(&table, &query, 1)?, returning: None })
    }

    /// `EXISTS (SELECT 1 FROM others WHERE selection)`: a row goes once, however many others match it.
    fn matched(&self, changed: &Changed, others: &[ast::TableWithJoins], selection: Option<ast::Expr>) -> Result<ast::Expr> {
        // Bound as a join first, where a name that two tables have is ambiguous; in the subquery it would not be.
        self.bind(&changed.select(changed.columns()?, others, selection.clone())?, None)?;
        let mut subquery = crate::parse::parse_query("SELECT 1")?;
        let ast::SetExpr::Select(select) = subquery.body.as_mut() else { return Err(SqlError::internal("not a select")) };
        select.from = others.to_vec();
        select.selection = selection;
        Ok(ast::Expr::Exists { subquery, negated: false })
    }

    /// The rows of a query over stored columns, `copies` of them side by side, each in the type of its column, and their numbers if they have any.
    fn rows_of(&self, table: &Relation, query: &ast::Query, copies: usize) -> Result<Query> {
        let (plan, _) = self.bind(query, None)?;
        let bound = plan.schema().columns();
        let n = table.columns.len();
        self.check_assigned(query, &plan, (0..n * copies).map(|i| (table.columns[i % n].name.as_str(), &table.columns[i % n].ty)))?;
        let stored = (0..n * copies).map(|i| (table.columns[i % n].name.clone(), table.columns[i % n].ty.clone()));
        let (names, types): (Vec<_>, Vec<_>) = stored.chain([(NUMBER.to_string(), SqlType::BigInt)]).take(bound.len()).unzip();
        let target = |(i, (column, ty)): (usize, (_, _))| (format!("c{i}"), Expr::Column(column), ty);
        let targets: Vec<_> = bound.into_iter().zip(types).enumerate().map(target).collect();
        let plan = cast_columns(plan, &targets, &self.settings.time_zone)?;
        Ok(Query { locks: RowLocks::of(query)?, ..self.finish(plan, names) })
    }
}
