//! Indexes as PostgreSQL's catalog shows them: those of keys, which follow from their relations, and those that were created.

use super::describe::quote_ident;
use super::objects::{BTREE, HASH, has_constraint, is_materialized, is_table, key_numbers};
use crate::catalog::{CatalogSnapshot, index_oid, relation_oid};
use eddyline_planner::Relation;
use eddyline_planner::catalog::Index;

pub struct IndexEntry<'a> {
    pub oid: u32,
    pub name: String,
    pub relation: &'a Relation,
    /// As numbers of attributes: what rows are found by, and behind it what INCLUDE names.
    pub columns: Vec<i64>,
    pub num_keys: usize,
    /// That of its relation's key.
    pub is_of_key: bool,
}

pub fn all(catalog: &CatalogSnapshot) -> impl Iterator<Item = IndexEntry<'_>> {
    catalog.relations().flat_map(move |relation| of(catalog, relation))
}

pub fn of<'a>(catalog: &'a CatalogSnapshot, relation: &'a Relation) -> impl Iterator<Item = IndexEntry<'a>> {
    let created = catalog.indexes_of(relation.id).map(move |index| IndexEntry::created(index, relation));
    IndexEntry::of_key(relation).into_iter().chain(created)
}

pub fn by_oid(catalog: &CatalogSnapshot, oid: u32) -> Option<IndexEntry<'_>> {
    all(catalog).find(|index| index.oid == oid)
}

/// An index's definition, or one column of it.
pub fn definition_by_oid(catalog: &CatalogSnapshot, oid: u32, column: usize) -> Option<String> {
    let index = by_oid(catalog, oid)?;
    match column {
        0 => Some(index.definition()),
        n => index.columns.get(n - 1).map(|number| index.column_name(*number)),
    }
}

/// What the index of a relation's key is called, and its constraint.
pub fn key_name(relation: &Relation) -> String {
    format!("{}_{}", relation.name, if is_table(relation) { "pkey" } else { "key" })
}

impl<'a> IndexEntry<'a> {
    /// Tables and materialized views are indexed by their key, if its columns can be seen.
    pub fn of_key(relation: &'a Relation) -> Option<Self> {
        let columns = key_numbers(relation);
        let has_one = (is_table(relation) || is_materialized(relation)) && !columns.is_empty();
        let (oid, name, num_keys) = (index_oid(relation.id), key_name(relation), columns.len());
        has_one.then_some(IndexEntry { oid, name, relation, columns, num_keys, is_of_key: true })
    }

    fn created(index: &Index, relation: &'a Relation) -> Self {
        let columns = index.columns.iter().chain(&index.include).map(|column| *column as i64 + 1).collect();
        let (oid, name, num_keys) = (relation_oid(index.id), index.name.clone(), index.columns.len());
        IndexEntry { oid, name, relation, columns, num_keys, is_of_key: false }
    }

    pub fn is_primary(&self) -> bool {
        self.is_of_key && has_constraint(self.relation)
    }

    /// The oid of its access method.
    pub fn method(&self) -> u32 {
        if self.is_of_key { BTREE } else { HASH }
    }

    pub fn definition(&self) -> String {
        let names = |numbers: &[i64]| numbers.iter().map(|number| self.column_name(*number)).collect::<Vec<_>>().join(", ");
        let (keys, include) = self.columns.split_at(self.num_keys);
        let (unique, method) = if self.is_of_key { ("UNIQUE ", "btree") } else { ("", "hash") };
        let (name, relation) = (quote_ident(&self.name), quote_ident(&self.relation.name));
        let include = if include.is_empty() { String::new() } else { format!(" INCLUDE ({})", names(include)) };
        format!("CREATE {unique}INDEX {name} ON public.{relation} USING {method} ({}){include}", names(keys))
    }

    fn column_name(&self, number: i64) -> String {
        quote_ident(&self.relation.visible[number as usize - 1].column.name)
    }
}
