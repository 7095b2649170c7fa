//! Subqueries where no join can stand for them: in VALUES, in ORDER BY and DISTINCT ON, in groups, aggregates and windows, and in the condition of a join. VALUES become queries of a row each.
//! A sort finds what it sorts by in a column that is computed below it, and so do DISTINCT ON,
//! aggregates and windows what they are of. In the condition of an
//! inner join they become a condition above it. In that of an outer join they become one below it, if nothing but the side is asked that has nulls where nothing joins, and else a column of
//! the side whose values they test. It does not know what becomes of them there.

use super::{membership, outer};
use crate::error::into_datafusion;
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, Result as DfResult};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, Sort as SortKey};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, EmptyRelation, Expr, Filter, Join, LogicalPlan, Projection, Sort, Subquery, Union, Values, Window, not,
};
use eddyline_common::SqlError;
use std::sync::Arc;

/// What a computed column is called, with its number behind.
const COLUMN: &str = "__placed";

pub fn in_plan(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let placed = plan.up_with_subqueries(|node| match node {
        LogicalPlan::Sort(sort) if sort.expr.iter().any(|key| key.expr.any(|e| subquery(e).is_some())) => {
            sorted(sort).map(Transformed::yes)
        }
        LogicalPlan::Values(values) if values.values.iter().flatten().any(|cell| cell.any(|e| subquery(e).is_some())) => {
            one_by_one(values).map(Transformed::yes)
        }
        LogicalPlan::Distinct(Distinct::On(distinct)) if has_subquery_in_order(&distinct) => first_of(distinct).map(Transformed::yes),
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) if has_subquery(&node)? => computed(node).map(Transformed::yes),
        LogicalPlan::Join(join) if !outer::is_lateral(&join.right) && join.filter.as_ref().is_some_and(is_tested) => {
            joined(join).map(Transformed::yes)
        }
        other => Ok(Transformed::no(other)),
    });
    placed.map(|t| t.data)
}

/// The query that an expression is, or tests.
pub fn subquery(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery)
        | Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. }) => Some(subquery),
        _ => None,
    }
}

/// Whether a condition has a subquery that a join cannot answer. A value that is the same for all rows it can.
fn is_tested(condition: &Expr) -> bool {
    condition.any(|e| match e {
        Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
        other => subquery(other).is_some(),
    })
}

/// The columns that an expression names, in its subqueries too.
fn named(expr: &Expr) -> DfResult<Vec<Column>> {
    let mut columns = Vec::new();
    expr.each(|e| {
        let within = subquery(e).map_or(&[][..], |subquery| subquery.outer_ref_columns.as_slice());
        columns.extend(within.iter().chain([e]).filter_map(|e| match e {
            Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => Some(column.clone()),
            _ => None,
        }));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}

/// What is computed below a node, what it is called there, and the highest number that columns of the node's input have in their names.
struct Placed(Vec<(Expr, String)>, usize);

impl Placed {
    fn beside_those_of(input: &LogicalPlan) -> Self {
        let number = |name: &str| name.strip_prefix(COLUMN)?.strip_prefix('_')?.parse().ok();
        Placed(Vec::new(), input.schema().fields().iter().filter_map(|field| number(field.name())).max().unwrap_or(0))
    }

    fn next_number(&self) -> usize {
        self.1 + self.0.len() + 1
    }

    fn column(&mut self, value: Expr, number: usize) -> DfResult<Expr> {
        let value = selectable(value)?;
        let known = self.0.iter().find(|(known, _)| *known == value).map(|(_, name)| name.clone());
        let name = known.unwrap_or_else(|| format!("{COLUMN}_{number}"));
        if !self.0.iter().any(|(_, known)| *known == name) {
            self.0.push((value, name.clone()));
        }
        Ok(Expr::Column(Column::new_unqualified(name)))
    }

    /// An expression with columns in the places of its subqueries.
    fn over(&mut self, expr: Expr) -> DfResult<Expr> {
        let over = expr.down(|e| {
            if subquery(&e).is_none() {
                return Ok(Transformed::no(e));
            }
            let number = self.next_number();
            self.column(e, number).map(Transformed::yes)
        });
        over.map(|t| t.data)
    }

    fn order(&mut self, order: Vec<SortKey>) -> DfResult<Vec<SortKey>> {
        order.into_iter().map(|key| Ok(SortKey { expr: self.over(key.expr)?, ..key })).collect()
    }

    /// The columns of `input`, and the computed ones behind them.
    fn beside(self, columns: Vec<Expr>, input: Arc<LogicalPlan>) -> DfResult<Arc<LogicalPlan>> {
        let computed = self.0.into_iter().map(|(value, name)| value.alias(name));
        Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns.into_iter().chain(computed).collect(), input)?)))
    }

    /// A node's input with the computed columns, if there are any.
    fn below(self, input: Arc<LogicalPlan>) -> DfResult<Arc<LogicalPlan>> {
        if self.0.is_empty() { Ok(input) } else { self.beside(columns(&input), input) }
    }

    /// Whether what is computed is of the columns below a select list, and not of those that it makes.
    fn is_of(&self, selected: &Projection) -> DfResult<bool> {
        let named = self.0.iter().map(|(value, _)| named(value)).collect::<DfResult<Vec<_>>>()?;
        let is_below = |column: &Column| selected.input.schema().has_column(column) || !selected.schema.has_column(column);
        Ok(named.iter().flatten().all(is_below))
    }
}

/// What a select list takes in the place of a subquery.
fn selectable(expr: Expr) -> DfResult<Expr> {
    match expr {
        Expr::Exists(Exists { subquery, negated }) => {
            let any = membership::has_rows(&subquery)?;
            Ok(if negated { not(any) } else { any })
        }
        other => Ok(other),
    }
}

fn columns(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

/// The cells have their columns' types already.
fn one_by_one(values: Values) -> DfResult<LogicalPlan> {
    let Values { schema, values } = values;
    let nothing = Arc::new(LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, schema: Arc::new(DFSchema::empty()) }));
    let row = |cells: Vec<Expr>| {
        let named = cells.into_iter().zip(schema.fields()).map(|(cell, field)| -> DfResult<Expr> {
            let cell = cell.up(|e| if subquery(&e).is_some() { selectable(e).map(Transformed::yes) } else { Ok(Transformed::no(e)) })?;
            Ok(cell.data.alias(field.name()))
        });
        Projection::try_new(named.collect::<DfResult<_>>()?, nothing.clone()).map(|row| Arc::new(LogicalPlan::Projection(row)))
    };
    let rows = values.into_iter().map(row).collect::<DfResult<Vec<_>>>()?;
    match rows.as_slice() {
        [only] => Ok(only.as_ref().clone()),
        _ => Union::try_new_with_loose_types(rows).map(LogicalPlan::Union),
    }
}

fn sorted(sort: Sort) -> DfResult<LogicalPlan> {
    let Sort { expr, input, fetch } = sort;
    let (output, mut placed) = (columns(&input), Placed::beside_those_of(&input));
    let expr = placed.order(expr)?;
    let below = match input.as_ref() {
        // What the query selects of may have columns that it does not select.
        LogicalPlan::Projection(selected) if placed.is_of(selected)? => placed.beside(selected.expr.clone(), selected.input.clone())?,
        _ => placed.below(input)?,
    };
    let sorted = LogicalPlan::Sort(Sort { expr, input: below, fetch });
    Ok(LogicalPlan::Projection(Projection::try_new(output, Arc::new(sorted))?))
}

fn has_subquery_in_order(distinct: &DistinctOn) -> bool {
    let order = distinct.sort_expr.iter().flatten().map(|key| &key.expr);
    distinct.on_expr.iter().chain(order).any(|expr| expr.any(|e| subquery(e).is_some()))
}

/// DISTINCT ON, in an order, of columns that are computed below it. What it selects stays as it is.
fn first_of(distinct: DistinctOn) -> DfResult<LogicalPlan> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, schema } = distinct;
    let mut placed = Placed::beside_those_of(&input);
    let on_expr = on_expr.into_iter().map(|expr| placed.over(expr)).collect::<DfResult<_>>()?;
    let sort_expr = sort_expr.map(|order| placed.order(order)).transpose()?;
    let input = placed.below(input)?;
    Ok(LogicalPlan::Distinct(Distinct::On(DistinctOn { on_expr, select_expr, sort_expr, input, schema })))
}

/// The items of a select list over columns, and its input with their subqueries in these: for what stands between the two.
pub fn items_over(items: Vec<Expr>, input: Arc<LogicalPlan>) -> DfResult<(Vec<Expr>, Arc<LogicalPlan>)> {
    let (names, mut placed) = (NamePreserver::new_for_projection(), Placed::beside_those_of(&input));
    let over = items.into_iter().map(|item| -> DfResult<Expr> {
        let name = names.save(&item);
        Ok(name.restore(placed.over(item)?))
    });
    let items = over.collect::<DfResult<_>>()?;
    Ok((items, placed.below(input)?))
}

/// Whether an expression of a node has one.
pub fn has_subquery(node: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    node.each_own(|expr| {
        found |= expr.any(|e| subquery(e).is_some());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// An aggregation or a window of columns that are computed below it, with the columns that it had.
fn computed(node: LogicalPlan) -> DfResult<LogicalPlan> {
    let input = match &node {
        LogicalPlan::Aggregate(Aggregate { input, .. }) | LogicalPlan::Window(Window { input, .. }) => input.clone(),
        _ => return Ok(node),
    };
    let (schema, width, mut placed) = (node.schema().clone(), input.schema().fields().len(), Placed::beside_those_of(&input));
    let own = node.expressions().into_iter().map(|expr| placed.over(expr)).collect::<DfResult<_>>()?;
    let (is_window, computed) = (matches!(node, LogicalPlan::Window(_)), placed.0.len());
    let over = node.with_new_exprs(own, vec![Arc::unwrap_or_clone(placed.below(input)?)])?;
    // What is computed is among the columns of a window's input.
    let columns = over.schema().columns().into_iter().enumerate();
    let columns = columns.filter(|(at, _)| !is_window || *at < width || *at >= width + computed);
    let restored = columns.zip(schema.iter()).map(|((_, column), (qualifier, field))| {
        let is_as_it_was = column.relation.as_ref() == qualifier && column.name == *field.name();
        let column = Expr::Column(column);
        if is_as_it_was { column } else { column.alias_qualified(qualifier.cloned(), field.name()) }
    });
    Ok(LogicalPlan::Projection(Projection::try_new(restored.collect(), Arc::new(over))?))
}

/// Which side of a join is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Both,
}

impl Side {
    /// What names nothing of either is as good on the left.
    fn of(expr: &Expr, join: &Join) -> DfResult<Side> {
        let named = named(expr)?;
        let any = |side: &LogicalPlan| named.iter().any(|column| side.schema().has_column(column));
        Ok(match (any(&join.left), any(&join.right)) {
            (true, true) => Side::Both,
            (false, true) => Side::Right,
            _ => Side::Left,
        })
    }
}

fn joined(mut join: Join) -> DfResult<LogicalPlan> {
    let conditions = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
    let (tests, mut others): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(is_tested);
    if join.join_type == JoinType::Inner {
        join.filter = conjunction(others);
        return filtered(Arc::new(LogicalPlan::Join(join)), tests).map(Arc::unwrap_or_clone);
    }
    let output = join.schema.columns().into_iter().map(Expr::Column).collect();
    let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
    let (mut left, mut right) = (Placed::beside_those_of(&join.left), Placed::beside_those_of(&join.right));
    for test in tests {
        match (join.join_type, Side::of(&test, &join)?) {
            (JoinType::Left, Side::Right) => of_right.push(test),
            (JoinType::Right, Side::Left) => of_left.push(test),
            _ => others.push(split(test, &join, &mut left, &mut right)?),
        }
    }
    let Join { left: left_input, right: right_input, on, join_type, join_constraint, null_equality, null_aware, .. } = join;
    let left = left.below(filtered(left_input, of_left)?)?;
    let right = right.below(filtered(right_input, of_right)?)?;
    let joined = Join::try_new(left, right, on, conjunction(others), join_type, join_constraint, null_equality, null_aware)?;
    Ok(LogicalPlan::Projection(Projection::try_new(output, Arc::new(LogicalPlan::Join(joined)))?))
}

fn filtered(input: Arc<LogicalPlan>, tests: Vec<Expr>) -> DfResult<Arc<LogicalPlan>> {
    match conjunction(tests) {
        Some(condition) => Ok(Arc::new(LogicalPlan::Filter(Filter::try_new(condition, input)?))),
        None => Ok(input),
    }
}

/// A condition whose subqueries are columns of the sides.
fn split(condition: Expr, join: &Join, left: &mut Placed, right: &mut Placed) -> DfResult<Expr> {
    let split = condition.down(|e| {
        if !is_tested(&e) || subquery(&e).is_none() {
            return Ok(Transformed::no(e));
        }
        let number = left.next_number() + right.next_number();
        let side = match Side::of(&e, join)? {
            Side::Left => &mut *left,
            Side::Right => &mut *right,
            Side::Both => return Err(into_datafusion(of_both())),
        };
        side.column(e, number).map(Transformed::yes)
    });
    split.map(|t| t.data)
}

fn of_both() -> SqlError {
    SqlError::unsupported("a subquery that is asked about both sides is not supported in the condition of an outer join")
        .with_hint("Ask it about one side, or compute what it is asked about in a subquery in FROM.")
}
