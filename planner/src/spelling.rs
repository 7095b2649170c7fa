//! How the columns of a query are spelled outside: as whoever declared them wrote their names, an alias of the query or the relation that they come from, before the names were
//! folded. It goes by the texts of definitions, and knows nothing of formats.

use crate::catalog::Relation;
use crate::error::fold;
use crate::parse::ast::Ast;
use crate::parse::parse;
use datafusion::sql::sqlparser::ast::{Ident, Query, SelectItem, SetExpr};
use eddyline_common::RelationId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The spelling of each of a query's columns, which are known by these folded names. `reads`: what the query names; `relations`: all there are.
pub fn of_query(names: &[String], query: &Query, reads: &[RelationId], relations: &[Arc<Relation>]) -> Vec<String> {
    let spelled = |name: &String| in_query(name, query, reads, relations).unwrap_or_else(|| name.clone());
    let all: Vec<String> = names.iter().map(spelled).collect();
    // A quoted name may be what another one was declared as.
    if all.iter().collect::<BTreeSet<_>>().len() == names.len() { all } else { names.to_vec() }
}

fn in_query(name: &str, query: &Query, reads: &[RelationId], relations: &[Arc<Relation>]) -> Option<String> {
    let read = || reads.iter().filter_map(|id| relations.iter().find(|relation| relation.id == *id));
    named(name, aliases(&query.body)).or_else(|| read().find_map(|relation| in_relation(name, relation, relations)))
}

fn in_relation(name: &str, relation: &Relation, relations: &[Arc<Relation>]) -> Option<String> {
    if !relation.visible.iter().any(|visible| visible.column.name == name) {
        return None;
    }
    let fields = relation.source_spec().map(|spec| spec.columns.as_slice()).unwrap_or_default();
    if let Some((_, field)) = relation.columns.iter().zip(fields).find(|(column, _)| column.name == name) {
        return Some(field.external_name.clone());
    }
    match parse(&relation.sql).ok()?.pop()?.ast {
        Ast::CreateRelation(create) => named(name, create.columns.iter().map(|column| &column.name)),
        Ast::CreateView(create) => named(name, &create.columns).or_else(|| in_query(name, &create.query, &relation.depends_on, relations)),
        _ => None,
    }
}

/// As the one of these is written that folds to the name.
fn named<'a>(name: &str, idents: impl IntoIterator<Item = &'a Ident>) -> Option<String> {
    idents.into_iter().find(|ident| fold(ident) == name).map(|ident| ident.value.clone())
}

/// Of the select list that names the columns.
fn aliases(body: &SetExpr) -> Vec<&Ident> {
    match body {
        SetExpr::Select(select) => {
            let items = select.projection.iter();
            items.filter_map(|item| if let SelectItem::ExprWithAlias { alias, .. } = item { Some(alias) } else { None }).collect()
        }
        SetExpr::Query(query) => aliases(&query.body),
        SetExpr::SetOperation { left, .. } => aliases(left),
        _ => Vec::new(),
    }
}
