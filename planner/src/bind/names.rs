//! Output column names as PostgreSQL gives them, made unique inside a select list, since DataFusion demands
//! that. Clients see the names before they were made unique.

use super::aggregates::is_aggregate;
use super::columns::factors;
use crate::catalog::Catalog;
use crate::error::fold;
use crate::walk::sql;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Ident, ObjectName, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins, TrimWhereField,
};
use std::collections::{HashMap, HashSet};

/// What an expression's column is called without AS.
pub fn of_expr(expr: &Expr) -> String {
    strong(expr).or_else(|| weak(expr)).unwrap_or_else(|| "?column?".to_string())
}

/// A name that yields to that of a cast around the expression.
fn weak(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => return weak(inner),
        Expr::Cast { data_type, .. } => type_name(&data_type.to_string()),
        Expr::TypedString(typed) => type_name(&typed.data_type.to_string()),
        Expr::Case { .. } => "case".to_string(),
        Expr::Interval(_) => "interval".to_string(),
        Expr::Subquery(query) => return single_item(query).and_then(weak),
        _ => return None,
    })
}

/// A name that a cast around the expression gives way to.
fn strong(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Identifier(ident) => fold(ident),
        Expr::CompoundIdentifier(parts) => fold(parts.last()?),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => return strong(inner),
        Expr::Function(f) => f.name.0.last()?.as_ident().map(fold)?,
        Expr::Cast { expr, .. } => return strong(expr),
        Expr::Case { else_result, .. } => return else_result.as_deref().and_then(strong),
        Expr::Exists { .. } => "exists".to_string(),
        Expr::Extract { .. } => "extract".to_string(),
        Expr::Substring { shorthand: true, .. } => "substr".to_string(),
        Expr::Substring { .. } => "substring".to_string(),
        Expr::Trim { trim_where: Some(TrimWhereField::Leading), .. } => "ltrim".to_string(),
        Expr::Trim { trim_where: Some(TrimWhereField::Trailing), .. } => "rtrim".to_string(),
        Expr::Trim { .. } => "btrim".to_string(),
        Expr::Position { .. } => "position".to_string(),
        Expr::Overlay { .. } => "overlay".to_string(),
        Expr::Ceil { .. } => "ceil".to_string(),
        Expr::Floor { .. } => "floor".to_string(),
        Expr::Array(_) => "array".to_string(),
        Expr::AtTimeZone { .. } => "timezone".to_string(),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(Expr::Identifier(field)) => Some(fold(field)),
                _ => None,
            });
            return field.or_else(|| strong(root));
        }
        Expr::Subquery(query) => return single_column(query),
        _ => return None,
    })
}

/// PostgreSQL's internal names for the types people write.
fn type_name(written: &str) -> String {
    let lower = written.to_lowercase();
    let base = lower.split(['(', ' ']).next().unwrap_or_default().rsplit('.').next().unwrap_or_default();
    match base {
        "integer" | "int" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "boolean" => "bool",
        "double" | "float" => "float8",
        "real" => "float4",
        "decimal" | "dec" => "numeric",
        "character" | "char" => "bpchar",
        other => other.trim_matches('"'),
    }
    .to_string()
}

fn single_item(query: &Query) -> Option<&Expr> {
    match query.body.as_ref() {
        SetExpr::Select(select) => match select.projection.as_slice() {
            [SelectItem::UnnamedExpr(expr)] => Some(expr),
            _ => None,
        },
        _ => None,
    }
}

fn single_column(query: &Query) -> Option<String> {
    match query.body.as_ref() {
        SetExpr::Select(select) => match select.projection.as_slice() {
            [SelectItem::UnnamedExpr(expr)] => strong(expr),
            [SelectItem::ExprWithAlias { alias, .. }] => Some(fold(alias)),
            _ => None,
        },
        _ => None,
    }
}

/// The names of a query's columns as far as its text tells: `None` stands for a wildcard.
pub fn of_query(query: &Query) -> Vec<Option<String>> {
    of_body(&query.body)
}

fn of_body(body: &SetExpr) -> Vec<Option<String>> {
    match body {
        SetExpr::Select(select) => select.projection.iter().map(of_item).collect(),
        SetExpr::Query(query) => of_query(query),
        SetExpr::SetOperation { left, .. } => of_body(left),
        _ => vec![None],
    }
}

/// What an item's column is called, if it is one column.
pub fn of_item(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expr) => Some(of_expr(expr)),
        SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
        _ => None,
    }
}

/// Fills the names of `width` bound columns: from the text where it tells, else as bound.
pub fn resolve(texts: &[Option<String>], bound: &[String]) -> Vec<String> {
    let wildcards = texts.iter().filter(|t| t.is_none()).count();
    let front = texts.iter().take_while(|t| t.is_some()).count();
    let back = if wildcards == 0 { 0 } else { texts.iter().rev().take_while(|t| t.is_some()).count() };
    if (wildcards == 0 && texts.len() != bound.len()) || front + back > bound.len() {
        return bound.to_vec();
    }
    let mut names = bound.to_vec();
    for (i, text) in texts[..front].iter().enumerate() {
        names[i] = text.clone().expect("before the first wildcard");
    }
    for (i, text) in texts.iter().rev().take(back).enumerate() {
        let at = bound.len() - 1 - i;
        names[at] = text.clone().expect("after the last wildcard");
    }
    names
}

/// A query's names as clients see them: without what `alias_items` put behind those of a function's or a subquery's columns that a wildcard stands for.
pub fn shown(names: Vec<String>) -> Vec<String> {
    let known: HashSet<&str> = names.iter().map(String::as_str).collect();
    let plain = |name: &String| match name.rsplit_once('$') {
        Some((plain, number)) if known.contains(plain) && number.parse::<usize>().is_ok() => plain.to_string(),
        _ => name.clone(),
    };
    names.iter().map(plain).collect()
}

/// What the relations of a FROM are called in it, and whether they are of `public` as far as the text tells.
pub fn in_from(from: &[TableWithJoins]) -> HashMap<String, bool> {
    let mut names = HashMap::new();
    for item in from {
        of_factor(&item.relation, &mut names);
        item.joins.iter().for_each(|join| of_factor(&join.relation, &mut names));
    }
    names
}

fn of_factor(factor: &TableFactor, names: &mut HashMap<String, bool>) {
    let (own, alias) = match factor {
        TableFactor::Table { name, alias, .. } => (name.0.last().and_then(|p| p.as_ident()), alias),
        TableFactor::NestedJoin { table_with_joins, alias } => {
            if alias.is_none() {
                names.extend(in_from(std::slice::from_ref(table_with_joins)));
            }
            (None, alias)
        }
        TableFactor::Derived { alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::MatchRecognize { alias, .. } => (None, alias),
        _ => return,
    };
    let elsewhere = match factor {
        TableFactor::Table { name, alias: None, .. } => {
            name.0.len() > 1 && name.0[name.0.len() - 2].as_ident().is_none_or(|schema| fold(schema) != "public")
        }
        _ => false,
    };
    if let Some(name) = alias.as_ref().map(|a| &a.name).or(own) {
        names.insert(fold(name), !elsewhere);
    }
}

/// A name with a relation in front in ORDER BY is a column of FROM. Where an item computes something of the same name, the item gets a name that
/// nobody writes, since DataFusion would ask which of them is meant.
pub fn keep_apart(select: &mut Select, order: &mut [OrderByExpr], catalog: &dyn Catalog) {
    let mut renamed: HashMap<String, Ident> = HashMap::new();
    for (at, name) in ordered_otherwise(select, order, catalog) {
        let item = &mut select.projection[at];
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            let alias = Ident::with_quote('"', format!("{name}$1"));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: alias.clone() };
            renamed.insert(name, alias);
        }
    }
    for by in order {
        if let Expr::Identifier(ident) = &by.expr
            && let Some(alias) = renamed.get(&fold(ident))
        {
            by.expr = Expr::Identifier(alias.clone());
        }
    }
}

/// The computed items, by place and name, of whose names ORDER BY has columns of FROM. What is computed and an item too, or has an
/// aggregate, is found by what it is.
fn ordered_otherwise(select: &Select, order: &[OrderByExpr], catalog: &dyn Catalog) -> Vec<(usize, String)> {
    let mut ordered: HashSet<String> = HashSet::new();
    let is_item = |expr: &Expr| plain_column(expr).is_none() && select.projection.iter().any(|item| item_expr(item) == Some(expr));
    for by in order.iter().filter(|by| !is_item(&by.expr) && !has_aggregate(&by.expr, catalog)) {
        sql::expressions(&by.expr, |expr| {
            ordered.extend(plain_column(expr).and_then(|(qualifier, name)| qualifier.map(|_| name)));
        });
    }
    let is_computed =
        |item: &SelectItem, name: &String| item_expr(item).is_some_and(|expr| plain_column(expr).is_none_or(|(_, column)| column != *name));
    let named = select.projection.iter().enumerate().filter_map(|(at, item)| Some((at, item, of_item(item)?)));
    named.filter(|(_, item, name)| ordered.contains(name) && is_computed(item, name)).map(|(at, _, name)| (at, name)).collect()
}

fn item_expr(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

fn has_aggregate(expr: &Expr, catalog: &dyn Catalog) -> bool {
    sql::any(expr, |part| matches!(part, Expr::Function(function) if is_aggregate(function, catalog)))
}

/// Gives a subquery's columns their names from outside, where `keep_apart` takes them away inside.
pub fn keep_outside(alias: &mut TableAlias, query: &Query, catalog: &dyn Catalog) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) = &query.order_by else { return };
    if !alias.columns.is_empty() || ordered_otherwise(select, order, catalog).is_empty() {
        return;
    }
    let names: Option<Vec<String>> = of_query(query).into_iter().collect();
    let column = |name: String| TableAliasColumnDef { name: Ident::with_quote('"', name), data_type: None };
    alias.columns = names.into_iter().flatten().map(column).collect();
}

/// The columns of a relation behind those that its alias names keep the names they have.
pub fn name_rest(alias: &mut TableAlias, columns: &[String]) {
    if alias.columns.is_empty() || alias.at.is_some() {
        return;
    }
    let mut taken: HashSet<String> = alias.columns.iter().map(|column| fold(&column.name)).collect();
    for name in columns.iter().skip(alias.columns.len()) {
        let (mut unique, mut suffix) = (name.clone(), 1);
        while !taken.insert(unique.clone()) {
            suffix += 1;
            unique = format!("{name}${suffix}");
        }
        alias.columns.push(TableAliasColumnDef { name: Ident::with_quote('"', unique), data_type: None });
    }
}

/// Gives every computed item of a select list its PostgreSQL name as an alias, made unique. Plain columns
/// get one only where DataFusion would see the same column twice. `starred` are names that wildcards stand for.
pub fn alias_items(select: &mut Select, starred: &HashSet<String>) {
    let star = select.projection.iter().any(|i| matches!(i, SelectItem::Wildcard(_)));
    let qualifiers: HashSet<String> = select.projection.iter().filter_map(wildcard_qualifier).collect();
    let mut taken: HashSet<String> = HashSet::new();
    // Names without a relation in front: no other column may have one of them.
    let mut bare: HashSet<String> = HashSet::new();
    let mut plain_columns: Vec<(Option<String>, String)> = Vec::new();
    for item in &mut select.projection {
        let (name, again) = match item {
            SelectItem::UnnamedExpr(expr) => match plain_column(expr) {
                Some((qualifier, name)) => {
                    let same = |(q, n): &(Option<String>, String)| *n == name && (q.is_none() || qualifier.is_none() || *q == qualifier);
                    let again = star
                        || qualifier.as_ref().is_some_and(|q| qualifiers.contains(q))
                        || plain_columns.iter().any(same)
                        || bare.contains(&name);
                    plain_columns.push((qualifier, name.clone()));
                    if !again {
                        taken.insert(name);
                        continue;
                    }
                    (name, true)
                }
                None => (of_expr(expr), false),
            },
            SelectItem::ExprWithAlias { alias, .. } => (fold(alias), false),
            _ => continue,
        };
        let mut unique = if again { format!("{name}$2") } else { name.clone() };
        let mut suffix = 2;
        while starred.contains(&unique) || !taken.insert(unique.clone()) {
            suffix += 1;
            unique = format!("{name}${suffix}");
        }
        let renamed = unique != name;
        bare.insert(unique.clone());
        let alias = Ident::with_quote('"', unique);
        match item {
            SelectItem::UnnamedExpr(expr) => *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias },
            SelectItem::ExprWithAlias { alias: old, .. } if renamed => *old = alias,
            _ => {}
        }
    }
}

/// Names the items of a subquery's select list that are columns of the queries `around`, of which DataFusion would make names of its own. They are known by the relation in front;
/// without FROM any column is one of theirs. `own`: what is in its FROM.
pub fn alias_outer(select: &mut Select, own: &HashMap<String, bool>, around: &[HashMap<String, bool>]) {
    let has_from = !select.from.is_empty();
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let Some((qualifier, name)) = plain_column(expr) else { continue };
        let is_outer = match qualifier {
            Some(relation) => !own.contains_key(&relation) && around.iter().any(|scope| scope.contains_key(&relation)),
            None => !has_from && !around.is_empty(),
        };
        if is_outer {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
        }
    }
}

fn plain_column(expr: &Expr) -> Option<(Option<String>, String)> {
    match expr {
        Expr::Identifier(ident) => Some((None, fold(ident))),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [.., qualifier, name] => Some((Some(fold(qualifier)), fold(name))),
            _ => None,
        },
        _ => None,
    }
}

/// `t.*` where FROM has `schema.t`, and the other way about, is written as FROM has it: DataFusion compares these as they are.
pub fn qualify_wildcards(select: &mut Select) {
    let named = factors(&select.from).into_iter().filter_map(|factor| match factor {
        TableFactor::Table { name, alias: None, args: None, .. } => Some(name.clone()),
        _ => None,
    });
    let named: Vec<ObjectName> = named.collect();
    for item in &mut select.projection {
        if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
            && let (wanted, is_bare) = (last(name), name.0.len() == 1)
            && let Some(own) = named.iter().find(|own| last(own) == wanted && (is_bare || own.0.len() == 1))
        {
            *name = own.clone();
        }
    }
}

fn last(name: &ObjectName) -> Option<String> {
    name.0.last()?.as_ident().map(fold)
}

/// `t` of `t.*`.
fn wildcard_qualifier(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => last(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_see_names_before_they_were_made_unique() {
        let names = |given: &[&str]| given.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(shown(names(&["unnest", "unnest$3", "ordinality"])), names(&["unnest", "unnest", "ordinality"]));
        assert_eq!(shown(names(&["a$3", "b", "b$c"])), names(&["a$3", "b", "b$c"]));
    }
}
