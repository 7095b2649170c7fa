//! The order of SELECT DISTINCT is of what is selected, as in PostgreSQL: of rows that are equal there is one, and what else it was made of is gone. An expression that is an item is
//! named by its position, or by its name behind a wildcard, since DataFusion would look for its columns. It does not know what names mean.

use super::rewrite::{Broken, broken};
use crate::error::fold;
use crate::walk::sql;
use datafusion::sql::sqlparser::ast::*;
use eddyline_common::{SqlError, SqlState};
use std::ops::ControlFlow;

/// Rewrites the order of a query that is one SELECT.
pub fn rewrite(select: &Select, order: &mut [OrderByExpr]) -> ControlFlow<Broken> {
    if !matches!(select.distinct, Some(Distinct::Distinct)) {
        return ControlFlow::Continue(());
    }
    for by in order {
        if is_named(&by.expr) {
            continue;
        }
        let Some(at) = select.projection.iter().position(|item| is_item(item, &by.expr)) else {
            let message = "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
            return broken(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message), by.expr.span());
        };
        let is_one = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
        by.expr = match &select.projection[at] {
            _ if select.projection[..at].iter().all(is_one) => Expr::Value(Value::Number((at + 1).to_string(), true).with_empty_span()),
            SelectItem::ExprWithAlias { alias, .. } => Expr::Identifier(alias.clone()),
            _ => continue,
        };
    }
    ControlFlow::Continue(())
}

/// A column, or a position.
fn is_named(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_named(inner),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        Expr::Value(value) => matches!(value.value, Value::Number(..)),
        _ => false,
    }
}

fn is_item(item: &SelectItem, expr: &Expr) -> bool {
    match item {
        SelectItem::UnnamedExpr(selected) | SelectItem::ExprWithAlias { expr: selected, .. } => is_same(selected, expr),
        _ => false,
    }
}

/// Whether two expressions of one SELECT are written alike. A column may have its relation's name in front in one of them.
fn is_same(left: &Expr, right: &Expr) -> bool {
    let is_qualified = |expr: &Expr| sql::any(expr, |part| matches!(part, Expr::CompoundIdentifier(_)));
    plain(left, true) == plain(right, true) || !(is_qualified(left) && is_qualified(right)) && plain(left, false) == plain(right, false)
}

/// The expression without what makes no difference.
pub fn plain(expr: &Expr, qualified: bool) -> Expr {
    let mut expr = expr.clone();
    let folded = |ident: &Ident| Ident::with_quote('"', fold(ident));
    sql::expressions_mut(&mut expr, |part| match part {
        Expr::Nested(inner) => *part = inner.as_ref().clone(),
        Expr::Identifier(ident) => *ident = folded(ident),
        Expr::CompoundIdentifier(parts) if qualified => parts.iter_mut().for_each(|ident| *ident = folded(ident)),
        Expr::CompoundIdentifier(parts) => {
            if let Some(ident) = parts.last() {
                *part = Expr::Identifier(folded(ident));
            }
        }
        Expr::Function(function) => {
            for name in &mut function.name.0 {
                if let ObjectNamePart::Identifier(ident) = name {
                    *ident = folded(ident);
                }
            }
        }
        Expr::Cast { kind, .. } => *kind = CastKind::Cast,
        _ => {}
    });
    expr
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that stands for what it says ends in `L`.
    fn order(text: &str) -> Option<Vec<String>> {
        let mut query = crate::parse::parse_query(text).expect("a constant query parses");
        let SetExpr::Select(select) = query.body.as_ref() else { panic!("not a select") };
        let Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) = &mut query.order_by else { panic!("no order") };
        let rewritten = rewrite(select, order);
        rewritten.is_continue().then(|| order.iter().map(|by| by.expr.to_string()).collect())
    }

    #[test]
    fn what_is_sorted_by_is_selected() {
        for (text, expected) in [
            ("SELECT DISTINCT lower(a), b FROM t ORDER BY LOWER(t.a), b", Some(vec!["1L", "b"])),
            ("SELECT DISTINCT b, (b + 1) * 2 AS c FROM t ORDER BY (B + 1) * 2", Some(vec!["2L"])),
            ("SELECT DISTINCT *, lower(a) AS c FROM t ORDER BY lower(a)", Some(vec!["c"])),
            ("SELECT DISTINCT a::int FROM t ORDER BY CAST(a AS int) DESC", Some(vec!["1L"])),
            ("SELECT DISTINCT b FROM t ORDER BY 1, (b)", Some(vec!["1", "(b)"])),
            ("SELECT b FROM t ORDER BY b + 1", Some(vec!["b + 1"])),
            ("SELECT DISTINCT b, b + 1 * 2 FROM t ORDER BY (b + 1) * 2", None),
            ("SELECT DISTINCT lower(t.a) FROM t, u ORDER BY lower(u.a)", None),
            ("SELECT DISTINCT * FROM t ORDER BY b + 1", None),
            ("SELECT DISTINCT b FROM t ORDER BY 'b'", None),
        ] {
            assert_eq!(order(text), expected.map(|order| order.into_iter().map(String::from).collect()), "{text}");
        }
    }
}
