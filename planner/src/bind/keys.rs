//! Expressions in GROUP BY that DataFusion would give one name though they differ: it names a cast by what is cast. Of those that are alike without their casts, all but one get names of their
//! own, by COALESCEs of one value each, wherever they stand. It does not know what names mean.

use super::distinct::plain;
use super::grouping::at_position;
use super::rewrite::call;
use super::{level, names};
use crate::error::fold;
use crate::walk::sql;
use datafusion::sql::sqlparser::ast::*;

/// Rewrites one SELECT; ORDER BY is that of the query that it is.
pub fn tell_apart(select: &mut Select, order: &mut [OrderByExpr]) {
    let keys = alike(select);
    if keys.is_empty() {
        return;
    }
    let times = |expr: &Expr| {
        let expr = plain(expr, false);
        keys.iter().find(|(key, _)| *key == expr).map_or(0, |(_, times)| *times)
    };
    let rename = |expr: &mut Expr| {
        for _ in 0..times(expr) {
            *expr = call("coalesce", vec![expr.clone()]);
        }
    };
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = &*item else { continue };
        if times(expr) > 0
            && let Some(name) = names::of_item(item)
        {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
        }
    }
    level::after(&mut select.projection, rename);
    level::after(&mut select.having, rename);
    if let GroupByExpr::Expressions(grouped, _) = &mut select.group_by {
        grouped.iter_mut().for_each(|expr| level::after(expr, rename));
    }
    order.iter_mut().for_each(|by| level::after(&mut by.expr, rename));
}

/// What is grouped by and is like another one but for casts, and how many have the name before it. One without casts is the first.
fn alike(select: &Select) -> Vec<(Expr, usize)> {
    let GroupByExpr::Expressions(grouped, _) = &select.group_by else { return vec![] };
    let grouped = grouped.iter().flat_map(|expr| match expr {
        Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => sets.iter().flatten().collect(),
        other => vec![other],
    });
    let mut kinds: Vec<(Expr, Vec<Expr>)> = Vec::new();
    for expr in grouped {
        let item = at_position(expr, &select.projection).or_else(|| called(expr, &select.projection));
        let key = plain(item.unwrap_or(expr), false);
        let bare = without_casts(key.clone());
        let at = kinds.iter().position(|(known, _)| *known == bare).unwrap_or(kinds.len());
        if at == kinds.len() {
            kinds.push((bare.clone(), Vec::new()));
        }
        let keys = &mut kinds[at].1;
        match keys.contains(&key) {
            true => {}
            false if key == bare => keys.insert(0, key),
            false => keys.push(key),
        }
    }
    kinds.into_iter().flat_map(|(_, keys)| keys.into_iter().enumerate().skip(1).map(|(times, key)| (key, times))).collect()
}

/// The item that a name in GROUP BY may mean.
fn called<'a>(expr: &Expr, items: &'a [SelectItem]) -> Option<&'a Expr> {
    let Expr::Identifier(name) = expr else { return None };
    items.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if fold(alias) == fold(name) => Some(expr),
        _ => None,
    })
}

fn without_casts(mut expr: Expr) -> Expr {
    sql::expressions_mut(&mut expr, |part| {
        while let Expr::Cast { expr, .. } = part {
            *part = (**expr).clone();
        }
    });
    expr
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> String {
        let mut query = crate::parse::parse_query(text).expect("a constant query parses");
        if let SetExpr::Select(select) = query.body.as_mut() {
            tell_apart(select, &mut []);
        }
        query.to_string()
    }

    #[test]
    fn casts_of_one_value_have_names_of_their_own() {
        for (text, expected) in [
            (
                "SELECT a::text, a::int + 1 AS b FROM t GROUP BY a::text, a::int HAVING a::int > 1",
                "SELECT a::TEXT, coalesce(a::INT) + 1 AS b FROM t GROUP BY a::TEXT, coalesce(a::INT) HAVING coalesce(a::INT) > 1",
            ),
            ("SELECT a::text AS b, a::int AS c FROM t GROUP BY 1, c", "SELECT a::TEXT AS b, coalesce(a::INT) AS c FROM t GROUP BY 1, c"),
            ("SELECT a::int FROM t GROUP BY a::int, t.a", "SELECT coalesce(a::INT) AS \"a\" FROM t GROUP BY coalesce(a::INT), t.a"),
            ("SELECT a::text FROM t GROUP BY a::text, b::int", "SELECT a::TEXT FROM t GROUP BY a::TEXT, b::INT"),
        ] {
            assert_eq!(rewritten(text), expected, "{text}");
        }
    }
}
