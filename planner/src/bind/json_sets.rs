//! Functions that take JSON apart into sets: `json_array_elements`, `json_each`, `json_object_keys` and kin. Each column is a list of ours unnested beside the
//! others. Where a set of one column is called by the name of its relation, that is its value.

use super::columns::factors;
use super::rewrite::{call, cast, string_expr};
use crate::error::fold;
use crate::walk::sql::{self, Tree};
use datafusion::sql::sqlparser::ast::*;

/// A column: the function of its list, its name, or none where it is called as the relation is, and whether it is JSON.
type Column = (&'static str, &'static str, bool);

const VALUE: &str = "value";

const SETS: &[(&str, &[Column])] = &[
    ("json_array_elements", &[("eddyline_json_elements", VALUE, true)]),
    ("jsonb_array_elements", &[("eddyline_jsonb_elements", VALUE, true)]),
    ("json_array_elements_text", &[("eddyline_json_elements_text", VALUE, false)]),
    ("jsonb_array_elements_text", &[("eddyline_jsonb_elements_text", VALUE, false)]),
    ("json_object_keys", &[("eddyline_json_keys", "", false)]),
    ("jsonb_object_keys", &[("eddyline_jsonb_keys", "", false)]),
    ("json_each", &[("eddyline_json_keys", "key", false), ("eddyline_json_values", VALUE, true)]),
    ("jsonb_each", &[("eddyline_jsonb_keys", "key", false), ("eddyline_jsonb_values", VALUE, true)]),
    ("json_each_text", &[("eddyline_json_keys", "key", false), ("eddyline_json_values_text", VALUE, false)]),
    ("jsonb_each_text", &[("eddyline_jsonb_keys", "key", false), ("eddyline_jsonb_values_text", VALUE, false)]),
];

fn columns_of(name: &str) -> Option<&'static [Column]> {
    SETS.iter().find(|(set, _)| *set == name).map(|(_, columns)| *columns)
}

pub fn is_set(name: &str) -> bool {
    columns_of(name).is_some()
}

/// What unnests a column. An unnested list forgets that it is of JSON.
fn unnested((list, _, is_json): &Column, json: &Expr) -> Expr {
    let items = call("unnest", vec![call(list, vec![json.clone()])]);
    if *is_json { cast(items, DataType::JSONB) } else { items }
}

/// The set in a select list: a value, or a row.
pub fn in_list(name: &str, args: &[Expr]) -> Option<Expr> {
    let (columns, [json]) = (columns_of(name)?, args) else { return None };
    Some(match columns {
        [only] => unnested(only, json),
        several => {
            let fields = several.iter().flat_map(|column| [string_expr(column.1), unnested(column, json)]);
            call("named_struct", fields.collect())
        }
    })
}

/// The columns of the set in FROM, under the names of the alias as far as it has some; `positions` makes one more of the first list.
pub fn in_from(
    name: &str,
    args: &[Expr],
    alias: &TableAlias,
    ordinality: bool,
    positions: impl Fn(&Expr) -> Expr,
) -> Option<Vec<SelectItem>> {
    let (columns, [json]) = (columns_of(name)?, args) else { return None };
    let mut items: Vec<(Expr, Ident)> = columns
        .iter()
        .map(|column| (unnested(column, json), if column.1.is_empty() { alias.name.clone() } else { Ident::new(column.1) }))
        .collect();
    if ordinality {
        let first = call(columns.first()?.0, vec![json.clone()]);
        items.push((call("unnest", vec![positions(&first)]), Ident::new("ordinality")));
    }
    for ((_, name), given) in items.iter_mut().zip(&alias.columns) {
        *name = given.name.clone();
    }
    Some(items.into_iter().map(|(expr, alias)| SelectItem::ExprWithAlias { expr, alias }).collect())
}

/// The names in a FROM of sets whose one column is called otherwise.
pub fn named_by_relation(from: &[TableWithJoins]) -> Vec<Ident> {
    let named = factors(from).into_iter().filter_map(|factor| {
        let (name, alias) = match factor {
            TableFactor::Table { name, args: Some(_), alias: Some(alias), .. } | TableFactor::Function { name, alias: Some(alias), .. } => {
                (name, alias)
            }
            _ => return None,
        };
        let name = fold(name.0.last()?.as_ident()?);
        let is_value = matches!(columns_of(&name)?, [(_, VALUE, _)]);
        (is_value && alias.columns.is_empty()).then(|| alias.name.clone())
    });
    named.collect()
}

/// Puts the columns for the names of their relations.
pub fn by_column(select: &mut Select, names: &[Ident]) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(Expr::Identifier(ident)) = item
            && names.iter().any(|name| fold(name) == fold(ident))
        {
            *item = SelectItem::ExprWithAlias { expr: Expr::Identifier(ident.clone()), alias: ident.clone() };
        }
    }
    replace(&mut select.projection, names);
    replace(&mut select.selection, names);
    replace(&mut select.having, names);
    if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
        exprs.iter_mut().for_each(|expr| replace(expr, names));
    }
}

fn replace(tree: &mut impl Tree, names: &[Ident]) {
    sql::expressions_mut(tree, |expr| {
        if let Expr::Identifier(ident) = expr
            && names.iter().any(|name| fold(name) == fold(ident))
        {
            *expr = Expr::CompoundIdentifier(vec![ident.clone(), Ident::new(VALUE)]);
        }
    });
}
