//! Columns that a join merges (USING, NATURAL): in PostgreSQL such a column is the value of the side that is there. DataFusion's binder takes the left one
//! always, and of more than two relations none. So a FROM with such joins gets conditions in their place, and what names a merged column without a relation in
//! front becomes the value, in subqueries too where they have no column of the name. `*` has the merged columns first. Where the columns are
//! not known before binding, a query stays as it is.

use super::columns::{Known, Named};
use super::names;
use super::rewrite::call;
use crate::error::fold;
use crate::walk::sql::{self, Tree};
use datafusion::sql::sqlparser::ast::*;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::ops::ControlFlow;

/// What one item of FROM yields.
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
    let merging = |outer: bool| select.from.iter().any(|table| merges(table, outer));
    // A `*` that leaves columns out is expanded by the binder, which knows of USING.
    let is_other_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_)) && !is_star(item);
    if !merging(true) && (!merging(false) || select.projection.iter().any(is_other_star)) {
        return;
    }
    let mut from = select.from.clone();
    let mut joined: Vec<Joined> = Vec::with_capacity(from.len());
    for table in &mut from {
        known.replace_in_lateral(&mut table.relation, &joined.iter().collect::<Vec<_>>());
        let Some(next) = known.joined(table) else { return };
        joined.push(next);
    }
    let merged = named_alone(&joined.iter().collect::<Vec<_>>());
    if select.projection.iter().any(is_star) {
        let columns: Vec<Named> = joined.into_iter().flat_map(|joined| joined.columns).collect();
        expand(&mut select.projection, &columns);
    }
    known.replace_in(select, order, &merged);
    select.from = from;
}

impl Known<'_> {
    /// The columns of an item of FROM. Its merging joins become joins with conditions.
    pub fn joined(&self, table: &mut TableWithJoins) -> Option<Joined> {
        let mut joined = self.joined_factor(&mut table.relation)?;
        for join in &mut table.joins {
            self.replace_in_lateral(&mut join.relation, &[&joined]);
            let right = self.joined_factor(&mut join.relation)?;
            joined = self.merge(joined, right, &mut join.join_operator)?;
        }
        Some(joined)
    }

    fn joined_factor(&self, factor: &mut TableFactor) -> Option<Joined> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joined(table_with_joins),
            other => Some(Joined { columns: self.of_factor(other)?, merged: HashMap::new() }),
        }
    }

    fn merge(&self, left: Joined, right: Joined, operator: &mut JoinOperator) -> Option<Joined> {
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
                self.replace(condition, &named_alone(&[&left, &right]));
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

    /// Puts the values of merged columns wherever a SELECT names one alone. FROM has been seen to.
    fn replace_in(&self, select: &mut Select, order: &mut [OrderByExpr], merged: &HashMap<String, Expr>) {
        let (mut items, from) = (std::mem::take(&mut select.projection), std::mem::take(&mut select.from));
        self.replace(select, merged);
        for item in &mut items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = names::of_expr(expr);
                    self.replace(expr, merged);
                    if names::of_expr(expr) != name {
                        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
                    }
                }
                SelectItem::ExprWithAlias { expr, .. } => self.replace(expr, merged),
                _ => {}
            }
        }
        for by in order {
            if !names_another(&by.expr, &items, merged) {
                self.replace(&mut by.expr, merged);
            }
        }
        (select.projection, select.from) = (items, from);
    }

    /// Those of the relations in front of a lateral subquery.
    fn replace_in_lateral(&self, factor: &mut TableFactor, before: &[&Joined]) {
        if let TableFactor::Derived { lateral: true, subquery, .. } = factor {
            self.replace(subquery.as_mut(), &named_alone(before));
        }
    }

    fn replace(&self, tree: &mut impl Tree, merged: &HashMap<String, Expr>) {
        if merged.is_empty() {
            return;
        }
        let mut replacing = Replacing { merged, known: self, within: Vec::new() };
        let ControlFlow::Continue(()) = sql::visit_mut(tree, &mut replacing);
    }

    /// What names can mean in a query by what is in itself: columns and relations of FROM, and columns that are put out under another name. `None` if that is not known.
    fn own_names(&self, body: &SetExpr) -> Option<HashSet<String>> {
        match body {
            SetExpr::Select(select) => {
                let mut from = select.from.clone();
                let joined = from.iter_mut().map(|table| self.joined(table)).collect::<Option<Vec<_>>>()?;
                let columns = joined.into_iter().flat_map(|joined| joined.columns).map(|column| column.name);
                let aliases = select.projection.iter().filter_map(|item| match item {
                    SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
                    _ => None,
                });
                Some(columns.chain(aliases).chain(names::in_from(&select.from).into_keys()).collect())
            }
            SetExpr::Query(query) => self.own_names(&query.body),
            SetExpr::SetOperation { left, right, .. } => {
                let mut names = self.own_names(left)?;
                names.extend(self.own_names(right)?);
                Some(names)
            }
            SetExpr::Values(_) => Some(HashSet::new()),
            _ => None,
        }
    }
}

/// Puts the values of merged columns in the place of their names.
struct Replacing<'a, 'k> {
    merged: &'a HashMap<String, Expr>,
    known: &'a Known<'k>,
    /// The subqueries around the present place: what is known in each, and its own names.
    within: Vec<(Known<'k>, Option<HashSet<String>>)>,
}

impl Replacing<'_, '_> {
    /// Whether a name in the present place is that of the merged column, and its value means the same there.
    fn reaches(&self, name: &str, value: &Expr) -> bool {
        self.within.iter().all(|(_, own)| {
            let Some(own) = own else { return false };
            let has_relation = |e: &Expr| matches!(e, Expr::CompoundIdentifier(parts) if own.contains(&fold(&parts[0])));
            !own.contains(name) && !sql::any(value, has_relation)
        })
    }
}

impl VisitorMut for Replacing<'_, '_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        let known = self.within.last().map_or(self.known, |(known, _)| known).with_ctes(query);
        let own = known.own_names(&query.body);
        self.within.push((known, own));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Infallible> {
        self.within.pop();
        ControlFlow::Continue(())
    }

    /// What is put out keeps its name.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        let is_replaced = |ident: &Ident| {
            let name = fold(ident);
            self.merged.get(&name).is_some_and(|value| self.reaches(&name, value))
        };
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(Expr::Identifier(ident)) = item
                && is_replaced(ident)
            {
                *item = SelectItem::ExprWithAlias { expr: Expr::Identifier(ident.clone()), alias: ident.clone() };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Expr::Identifier(ident) = expr {
            let name = fold(ident);
            if let Some(value) = self.merged.get(&name).filter(|value| self.reaches(&name, value)) {
                *expr = value.clone();
            }
        }
        ControlFlow::Continue(())
    }
}

/// The merged columns of relations side by side whose names no other column there has.
fn named_alone(sides: &[&Joined]) -> HashMap<String, Expr> {
    let count = |name: &String| sides.iter().flat_map(|side| &side.columns).filter(|column| column.name == *name).count();
    let merged = sides.iter().flat_map(|side| &side.merged).filter(|(name, _)| count(name) == 1);
    merged.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A name alone in ORDER BY is first that of a column that is put out.
fn names_another(by: &Expr, items: &[SelectItem], merged: &HashMap<String, Expr>) -> bool {
    let Expr::Identifier(ident) = by else { return false };
    let name = fold(ident);
    let is_merged = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(expr) if merged.get(&name) == Some(expr));
    items.iter().find(|item| names::of_item(item).as_ref() == Some(&name)).is_some_and(|item| !is_merged(item))
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
