//! Columns that a join merges (USING, NATURAL): in PostgreSQL such a column is the value of the side that is there. DataFusion's binder takes the left one
//! always, so a FROM with such a RIGHT or FULL JOIN gets conditions in their place, and what names a merged column without a relation in front becomes
//! the value. `*` has the merged columns first. Where the columns are not known before binding, a query stays as it is.

use super::columns::{Known, Named};
use super::rewrite::call;
use super::{level, names};
use crate::error::fold;
use crate::walk::sql::Tree;
use datafusion::sql::sqlparser::ast::*;
use std::collections::HashMap;

/// What one item of FROM yields.
#[derive(Default)]
pub struct Joined {
    /// In the order of `*`.
    pub columns: Vec<Named>,
    /// The values of merged columns.
    merged: HashMap<String, Expr>,
}

/// The sides of a join of which there are always rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Left,
    Right,
    Neither,
}

/// Rewrites one SELECT, and the ORDER BY of the query that it is.
pub fn rewrite(select: &mut Select, order: &mut [OrderByExpr], known: &Known) {
    let of_outer = select.from.iter().any(|table| merges(table, true));
    let is_starred = select.projection.iter().any(is_star);
    if !(of_outer || is_starred && select.from.iter().any(|table| merges(table, false))) {
        return;
    }
    let mut from = select.from.clone();
    let Some(joined) = from.iter_mut().map(|table| known.joined(table)).collect::<Option<Vec<_>>>() else { return };
    let mut all = Joined::default();
    for joined in joined {
        all.columns.extend(joined.columns);
        all.merged.extend(joined.merged);
    }
    if is_starred {
        expand(&mut select.projection, &all.columns);
    }
    if of_outer {
        replace_in(select, order, &all.merged);
        select.from = from;
    }
}

impl Known<'_> {
    /// The columns of an item of FROM. Its merging joins become joins with conditions.
    pub fn joined(&self, table: &mut TableWithJoins) -> Option<Joined> {
        let mut joined = self.joined_factor(&mut table.relation)?;
        for join in &mut table.joins {
            let right = self.joined_factor(&mut join.relation)?;
            joined = merge(joined, right, &mut join.join_operator)?;
        }
        Some(joined)
    }

    fn joined_factor(&self, factor: &mut TableFactor) -> Option<Joined> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joined(table_with_joins),
            other => Some(Joined { columns: self.of_factor(other)?, merged: HashMap::new() }),
        }
    }
}

fn merge(left: Joined, right: Joined, operator: &mut JoinOperator) -> Option<Joined> {
    let (constraint, kept) = match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => (c, Kept::Left),
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (c, Kept::Left),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (c, Kept::Right),
        JoinOperator::FullOuter(c) => (c, Kept::Neither),
        _ => return None,
    };
    let names = match constraint {
        JoinConstraint::Using(names) => names.iter().map(single).collect::<Option<Vec<_>>>()?,
        JoinConstraint::Natural => {
            let of_right = |name: &String| right.columns.iter().any(|column| column.name == *name);
            left.columns.iter().map(|column| column.name.clone()).filter(of_right).collect()
        }
        JoinConstraint::On(condition) => {
            replace(condition, &left.merged);
            vec![]
        }
        JoinConstraint::None => vec![],
    };
    let mut columns = Vec::new();
    let mut merged = left.merged;
    merged.extend(right.merged);
    let mut conditions = Vec::new();
    for name in &names {
        let (of_left, of_right) = (only(&left.columns, name)?, only(&right.columns, name)?);
        conditions.push(binary(of_left.clone(), BinaryOperator::Eq, of_right.clone()));
        let value = match kept {
            Kept::Left => of_left.clone(),
            Kept::Right => of_right.clone(),
            Kept::Neither => call("coalesce", vec![of_left.clone(), of_right.clone()]),
        };
        merged.insert(name.clone(), value.clone());
        columns.push(Named { name: name.clone(), value });
    }
    if let Some(condition) = conditions.into_iter().reduce(|all, next| binary(all, BinaryOperator::And, next)) {
        *constraint = JoinConstraint::On(condition);
    }
    columns.extend(left.columns.into_iter().chain(right.columns).filter(|column| !names.contains(&column.name)));
    Some(Joined { columns, merged })
}

fn single(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(fold),
        _ => None,
    }
}

/// The column of this name, if there is one and no other.
fn only<'a>(columns: &'a [Named], name: &str) -> Option<&'a Expr> {
    let mut found = columns.iter().filter(|column| column.name == name);
    let first = found.next()?;
    found.next().is_none().then_some(&first.value)
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// Whether columns are merged, by an outer join or by any.
fn merges(table: &TableWithJoins, outer: bool) -> bool {
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => merges(table_with_joins, outer),
        _ => false,
    };
    let is_merging = |c: &JoinConstraint| matches!(c, JoinConstraint::Using(_) | JoinConstraint::Natural);
    let of_join = |join: &Join| match &join.join_operator {
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) | JoinOperator::FullOuter(c) => is_merging(c),
        JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => !outer && is_merging(c),
        _ => false,
    };
    nested(&table.relation) || table.joins.iter().any(|join| of_join(join) || nested(&join.relation))
}

fn is_star(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(options) if *options == WildcardAdditionalOptions::default())
}

/// Puts the columns in the place of `*`.
fn expand(items: &mut Vec<SelectItem>, columns: &[Named]) {
    let item = |column: &Named| match &column.value {
        plain @ Expr::CompoundIdentifier(_) => SelectItem::UnnamedExpr(plain.clone()),
        value => SelectItem::ExprWithAlias { expr: value.clone(), alias: Ident::with_quote('"', &column.name) },
    };
    let expanded = |written: SelectItem| if is_star(&written) { columns.iter().map(item).collect() } else { vec![written] };
    *items = std::mem::take(items).into_iter().flat_map(expanded).collect();
}

/// Puts the values of merged columns wherever a SELECT names one alone. FROM has been seen to.
fn replace_in(select: &mut Select, order: &mut [OrderByExpr], merged: &HashMap<String, Expr>) {
    let (mut items, from) = (std::mem::take(&mut select.projection), std::mem::take(&mut select.from));
    replace(select, merged);
    for item in &mut items {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let name = names::of_expr(expr);
                replace(expr, merged);
                if names::of_expr(expr) != name {
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
                }
            }
            SelectItem::ExprWithAlias { expr, .. } => replace(expr, merged),
            _ => {}
        }
    }
    for by in order {
        // A name alone is first that of a column that is put out.
        let is_output = matches!(&by.expr, Expr::Identifier(ident) if items.iter().any(|item| names::of_item(item) == Some(fold(ident))));
        if !is_output {
            replace(&mut by.expr, merged);
        }
    }
    (select.projection, select.from) = (items, from);
}

/// A name in a subquery may be a column of its own.
fn replace(tree: &mut impl Tree, merged: &HashMap<String, Expr>) {
    level::after(tree, |expr| {
        if let Expr::Identifier(ident) = expr
            && let Some(value) = merged.get(&fold(ident))
        {
            *expr = value.clone();
        }
    });
}
