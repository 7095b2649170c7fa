//! What columns the relations of a FROM have, as far as the catalog and the text of a query tell before it is bound. Where they do not tell,
//! the answer is `None`, and whoever asked leaves the query as it is.

use super::ctes::Ctes;
use super::names;
use crate::catalog::{Catalog, Relation};
use crate::error::fold;
use datafusion::sql::sqlparser::ast::*;
use std::collections::HashSet;
use std::sync::Arc;

/// A column, and what it is in an expression.
#[derive(Clone, Debug)]
pub struct Named {
    pub name: String,
    pub value: Expr,
}

/// What is known at one place of a query.
pub struct Known<'a> {
    pub catalog: &'a dyn Catalog,
    ctes: &'a Ctes,
    /// The columns of common table expressions of subqueries that are looked into.
    inner: Vec<(String, Option<Vec<String>>)>,
}

impl<'a> Known<'a> {
    pub fn new(catalog: &'a dyn Catalog, ctes: &'a Ctes) -> Self {
        Known { catalog, ctes, inner: Vec::new() }
    }

    /// The columns of a query's common table expressions, in their order.
    pub fn of_ctes(&self, query: &Query) -> Vec<Option<Vec<String>>> {
        let before = self.inner.len();
        self.with_ctes(query).inner.drain(before..).map(|(_, columns)| columns).collect()
    }

    /// What is known inside a query.
    pub fn with_ctes(&self, query: &Query) -> Known<'a> {
        let mut known = Known { catalog: self.catalog, ctes: self.ctes, inner: self.inner.clone() };
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let columns = known.of_query(&cte.query).map(|columns| renamed(columns, &cte.alias));
            known.inner.push((fold(&cte.alias.name), columns));
        }
        known
    }

    pub fn of_query(&self, query: &Query) -> Option<Vec<String>> {
        self.with_ctes(query).of_body(&query.body)
    }

    fn of_body(&self, body: &SetExpr) -> Option<Vec<String>> {
        match body {
            SetExpr::Select(select) => {
                let items = select.projection.iter().map(|item| self.of_item(item, select));
                items.collect::<Option<Vec<_>>>().map(|items| items.into_iter().flatten().collect())
            }
            SetExpr::Query(query) => self.of_query(query),
            SetExpr::SetOperation { left, .. } => self.of_body(left),
            SetExpr::Values(values) => Some((1..=values.rows.first()?.content.len()).map(|i| format!("column{i}")).collect()),
            _ => None,
        }
    }

    fn of_item(&self, item: &SelectItem, select: &Select) -> Option<Vec<String>> {
        match item {
            SelectItem::UnnamedExpr(expr) => Some(vec![names::of_expr(expr)]),
            SelectItem::ExprWithAlias { alias, .. } => Some(vec![fold(alias)]),
            SelectItem::ExprWithAliases { .. } => None,
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => self.of_wildcard(item, select),
        }
    }

    /// The names that `*` or `t.*` stands for.
    fn of_wildcard(&self, item: &SelectItem, select: &Select) -> Option<Vec<String>> {
        match item {
            SelectItem::Wildcard(options) if *options == WildcardAdditionalOptions::default() => {
                let mut from = select.from.clone();
                let joined = from.iter_mut().map(|table| self.joined(table)).collect::<Option<Vec<_>>>()?;
                Some(joined.into_iter().flat_map(|joined| joined.columns).map(|column| column.name).collect())
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let qualifier = fold(name.0.last()?.as_ident()?);
                let mut factors = factors(&select.from).into_iter();
                self.names_of_factor(factors.find(|factor| own_name(factor).is_some_and(|own| fold(&own) == qualifier))?)
            }
            _ => None,
        }
    }

    /// The names that the wildcards of a select list stand for, as far as they are known.
    pub fn of_wildcards(&self, select: &Select) -> HashSet<String> {
        let only_wildcards = select.projection.iter().all(is_wildcard);
        if only_wildcards {
            return HashSet::new();
        }
        select.projection.iter().filter_map(|item| self.of_wildcard(item, select)).flatten().collect()
    }

    /// The columns of one relation of FROM that has a name there.
    pub fn of_factor(&self, factor: &TableFactor) -> Option<Vec<Named>> {
        let own = own_name(factor)?;
        let value = |name: &str| Expr::CompoundIdentifier(vec![own.clone(), Ident::with_quote('"', name)]);
        let names = self.names_of_factor(factor)?;
        Some(names.into_iter().map(|name| Named { value: value(&name), name }).collect())
    }

    fn names_of_factor(&self, factor: &TableFactor) -> Option<Vec<String>> {
        let (columns, alias) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => (self.of_relation(name)?, alias),
            TableFactor::Derived { subquery, alias, .. } => (self.of_query(subquery)?, alias),
            _ => return None,
        };
        Some(match alias {
            Some(alias) => renamed(columns, alias),
            None => columns,
        })
    }

    /// The user's relation that a name in FROM means, if it means no common table expression.
    pub fn relation(&self, name: &ObjectName) -> Option<Arc<Relation>> {
        let (table, schema) = name.0.split_last()?;
        let (table, schema) = (fold(table.as_ident()?), schema.last().and_then(|part| part.as_ident()).map(fold));
        let is_cte = schema.is_none() && (self.inner.iter().any(|(cte, _)| *cte == table) || self.ctes.columns(&table).is_some());
        if is_cte { None } else { self.catalog.relation(schema.as_deref(), &table) }
    }

    /// The names of a relation's columns, or those of a common table expression of the name.
    pub fn of_relation(&self, name: &ObjectName) -> Option<Vec<String>> {
        let idents: Vec<String> = name.0.iter().map(|part| part.as_ident().map(fold)).collect::<Option<_>>()?;
        let (table, schema) = idents.split_last()?;
        if schema.is_empty() {
            if let Some((_, columns)) = self.inner.iter().rev().find(|(cte, _)| cte == table) {
                return columns.clone();
            }
            if let Some(columns) = self.ctes.columns(table) {
                return columns.clone();
            }
        }
        let schema = schema.last().map(String::as_str);
        if let Some(relation) = self.relation(name) {
            return Some(relation.visible.iter().map(|visible| visible.column.name.clone()).collect());
        }
        let source = self.catalog.table_source(schema, table)?;
        Some(source.schema().fields().iter().map(|field| field.name().clone()).collect())
    }
}

/// The relations of a FROM, those in parentheses left out.
pub fn factors(from: &[TableWithJoins]) -> Vec<&TableFactor> {
    from.iter().flat_map(|table| std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation))).collect()
}

/// What a relation is called in FROM.
pub fn own_name(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => Some(alias.name.clone()),
        TableFactor::Table { name, alias: None, .. } => name.0.last()?.as_ident().cloned(),
        _ => None,
    }
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

fn renamed(mut columns: Vec<String>, alias: &TableAlias) -> Vec<String> {
    for (column, given) in columns.iter_mut().zip(&alias.columns) {
        *column = fold(&given.name);
    }
    columns
}
