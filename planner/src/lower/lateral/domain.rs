//! Correlated subqueries that cannot be told apart from the row around them by conditions alone: of several queries around, through joins and set operations, with windows, with several
//! conditions between which rows are looked at together. They are run for all outer rows at once: the *domain*, the distinct values that outer rows have in the columns that are named, is
//! joined to what the subquery reads, and stays beside it as keys ("Unnesting Arbitrary Queries", Neumann and Kemper, BTW 2015). What is named of queries further out is left for these. It does
//! not know how the rows are joined to the outer ones, but by which condition.

use super::is_null;
use super::pulled::{Pulled, Puller, is_one_row};
use crate::lower::calls::unaliased;
use crate::lower::top_n::{Places, is_sorted};
use crate::walk::Walk;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result as DfResult};
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, FetchType, Filter, Join, JoinConstraint, LogicalPlan, Operator, Projection, SkipType, Union, Values, Window,
    binary_expr, lit, when,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A subquery over the values that the rows of `left` have where it names them. `None` if it does something with them that is not for all of them at once.
pub(super) fn pull(left: &LogicalPlan, subquery: &LogicalPlan, puller: &mut Puller) -> DfResult<Option<Pulled>> {
    let (mut outer, mut columns): (Vec<Expr>, Vec<Expr>) = Default::default();
    for e in subquery.all_out_ref_exprs() {
        let own = outer_column(&e).filter(|column| left.schema().has_column(column)).cloned().map(Expr::Column);
        if let Some(own) = own.filter(|own| !columns.contains(own)) {
            columns.push(own);
            outer.push(e);
        }
    }
    let rows = match columns.is_empty() {
        true => None,
        false => {
            let values = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(left.clone()))?);
            Some(Arc::new(LogicalPlan::Distinct(Distinct::All(Arc::new(values)))))
        }
    };
    let mut domain = Domain { rows, outer, puller };
    let Some(mut pulled) = domain.over(subquery)? else { return Ok(None) };
    let keys = pulled.keys.iter().cloned().map(Expr::Column);
    pulled.conditions = domain.outer.iter().cloned().zip(keys).map(|(outer, key)| same(outer, key)).collect();
    Ok(Some(pulled))
}

/// The column of a query around that an expression is.
fn outer_column(e: &Expr) -> Option<&Column> {
    match e {
        Expr::OuterReferenceColumn(_, column) => Some(column),
        _ => None,
    }
}

fn same(left: Expr, right: Expr) -> Expr {
    binary_expr(left, Operator::IsNotDistinctFrom, right)
}

struct Domain<'a> {
    /// The distinct values; nothing where the subquery names queries further out only.
    rows: Option<Arc<LogicalPlan>>,
    /// What names them, in their order.
    outer: Vec<Expr>,
    puller: &'a mut Puller,
}

impl Domain<'_> {
    /// A part of the subquery beside the domain: its columns, and a key for each outer column behind them.
    fn over(&mut self, node: &LogicalPlan) -> DfResult<Option<Pulled>> {
        if !self.is_named(node) {
            return self.beside(node).map(Some);
        }
        match node {
            LogicalPlan::Limit(limit) => {
                let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?) else {
                    return Ok(None);
                };
                let offset = skip as u64;
                return self.placed(&limit.input, Places { offset, end: fetch.map(|n| offset.saturating_add(n as u64)) });
            }
            LogicalPlan::Join(join) => return self.joined(join),
            LogicalPlan::Union(union) => return self.united(union),
            LogicalPlan::Values(values) => return self.listed(values),
            _ => {}
        }
        let inputs = node.inputs();
        let [input] = inputs.as_slice() else { return Ok(None) };
        let Some(below) = self.over(input)? else { return Ok(None) };
        match node {
            LogicalPlan::SubqueryAlias(alias) => below.aliased(&alias.alias).map(Some),
            LogicalPlan::Filter(filter) => {
                let kept = self.keyed(&filter.predicate, &below)?;
                below.rebuilt(|plan| Ok(LogicalPlan::Filter(Filter::try_new(kept, plan)?))).map(Some)
            }
            LogicalPlan::Projection(projection) => self.projected(below, projection).map(Some),
            LogicalPlan::Aggregate(aggregate) => self.grouped(below, aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => below.distinct(input.schema()),
            LogicalPlan::Window(window) => self.windowed(below, window).map(Some),
            // An order without a LIMIT means nothing.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => Ok(Some(below)),
            _ => Ok(None),
        }
    }

    fn is_named(&self, node: &LogicalPlan) -> bool {
        node.all_out_ref_exprs().iter().any(|e| self.place(e).is_some())
    }

    /// Which of the domain's columns an expression names.
    fn place(&self, e: &Expr) -> Option<usize> {
        let column = outer_column(e)?;
        self.outer.iter().position(|outer| outer_column(outer) == Some(column))
    }

    /// The domain, under names of its own.
    fn instance(&mut self, rows: &Arc<LogicalPlan>) -> DfResult<Pulled> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for column in rows.schema().columns() {
            let key = self.puller.column();
            values.push(Expr::Column(column).alias(key.name.clone()));
            keys.push(key);
        }
        let plan = LogicalPlan::Projection(Projection::try_new(values, rows.clone())?);
        Ok(Pulled { plan, lifted: BTreeMap::new(), of_none: None, conditions: vec![], keys, by_keys: true })
    }

    fn beside(&mut self, node: &LogicalPlan) -> DfResult<Pulled> {
        let Some(rows) = self.rows.clone() else {
            let (lifted, conditions, keys) = (BTreeMap::new(), vec![], vec![]);
            return Ok(Pulled { plan: node.clone(), lifted, of_none: None, conditions, keys, by_keys: true });
        };
        let values = self.instance(&rows)?;
        if node.schema().fields().is_empty() && is_one_row(node) {
            return Ok(values);
        }
        values.rebuilt(|values| joined(Arc::new(node.clone()), values, JoinType::Inner, None))
    }

    /// An expression with keys in the places of outer columns.
    fn keyed(&self, e: &Expr, pulled: &Pulled) -> DfResult<Expr> {
        let keyed = e.clone().up(|e| match self.place(&e) {
            Some(at) => Ok(Transformed::yes(Expr::Column(pulled.keys[at].clone()))),
            None => Ok(Transformed::no(e)),
        })?;
        Ok(keyed.data)
    }

    fn projected(&self, below: Pulled, projection: &Projection) -> DfResult<Pulled> {
        let mut exprs = Vec::new();
        for (e, (qualifier, field)) in projection.expr.iter().zip(projection.schema.iter()) {
            let keyed = self.keyed(e, &below)?;
            let is_called_so = keyed == *e || matches!(keyed, Expr::Alias(_));
            exprs.push(if is_called_so { keyed } else { keyed.alias_qualified(qualifier.cloned(), field.name()) });
        }
        exprs.extend(below.keys.iter().cloned().map(Expr::Column));
        below.rebuilt(|plan| Ok(LogicalPlan::Projection(Projection::try_new(exprs, plan)?)))
    }

    /// Groups for each of the domain's values; without GROUP BY there is one for those too that have no rows.
    fn grouped(&mut self, below: Pulled, aggregate: &Aggregate) -> DfResult<Option<Pulled>> {
        let named = |e: &Expr| -> DfResult<Expr> {
            let keyed = self.keyed(e, &below)?;
            let is_called_so = keyed == *e || matches!(keyed, Expr::Alias(_));
            Ok(if is_called_so { keyed } else { keyed.alias(e.schema_name().to_string()) })
        };
        let groups = aggregate.group_expr.iter().map(named).collect::<DfResult<Vec<_>>>()?;
        let calls = aggregate.aggr_expr.iter().map(named).collect::<DfResult<Vec<_>>>()?;
        let of_values = Aggregate::try_new_with_schema(aggregate.input.clone(), groups, calls, aggregate.schema.clone())?;
        let Some(mut groups) = below.grouped(&of_values)? else { return Ok(None) };
        let (Some(of_none), Some(rows)) = (groups.of_none.take(), self.rows.clone()) else { return Ok(Some(groups)) };
        let there = self.puller.column();
        let groups = groups.with(lit(true), &there)?;
        let values = self.instance(&rows)?;
        let pairs = values.keys.iter().zip(&groups.keys).map(|(value, key)| same(Expr::Column(value.clone()), Expr::Column(key.clone())));
        let condition = conjunction(pairs);
        let there = Expr::Column(there).is_not_null();
        let mut columns = Vec::new();
        for ((qualifier, field), of_none) in aggregate.schema.iter().zip(of_none) {
            let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            columns.push(match is_null(&of_none) {
                true => column,
                false => when(there.clone(), column).otherwise(of_none)?.alias_qualified(qualifier.cloned(), field.name()),
            });
        }
        columns.extend(values.keys.iter().cloned().map(Expr::Column));
        let groups = Arc::new(groups.plan);
        let all = values.rebuilt(|values| {
            let joined = joined(values, groups, JoinType::Left, condition)?;
            Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(joined))?))
        })?;
        Ok(Some(all))
    }

    /// Windows over the rows of each of the domain's values.
    fn windowed(&self, below: Pulled, window: &Window) -> DfResult<Pulled> {
        let within = |e: Expr| match e {
            Expr::WindowFunction(call) => {
                let WindowFunction { fun, mut params } = *call;
                params.partition_by.extend(below.keys.iter().cloned().map(Expr::Column));
                Expr::from(WindowFunction { fun, params })
            }
            other => other,
        };
        let mut calls = Vec::new();
        for e in &window.window_expr {
            calls.push(within(unaliased(&self.keyed(e, &below)?).clone()));
        }
        let width = below.plan.schema().fields().len();
        let keys = below.keys.clone();
        below.rebuilt(|plan| {
            let over = LogicalPlan::Window(Window::try_new(calls, plan)?);
            let own = window.input.schema().fields().len();
            let computed = over.schema().columns().into_iter().skip(width).zip(window.schema.iter().skip(own));
            let computed =
                computed.map(|(column, (qualifier, field))| Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
            let columns = window.input.schema().columns().into_iter().map(Expr::Column);
            let columns = columns.chain(computed).chain(keys.into_iter().map(Expr::Column)).collect();
            Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(over))?))
        })
    }

    /// The rows at some places of their order among those of a value, which may be below projections.
    fn placed(&mut self, node: &LogicalPlan, places: Places) -> DfResult<Option<Pulled>> {
        match node {
            LogicalPlan::SubqueryAlias(alias) if is_sorted(node) => {
                let below = self.placed(&alias.input, places)?;
                below.map(|below| below.aliased(&alias.alias)).transpose()
            }
            LogicalPlan::Projection(projection) if is_sorted(node) => {
                let below = self.placed(&projection.input, places)?;
                below.map(|below| self.projected(below, projection)).transpose()
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                let Some(below) = self.over(&sort.input)? else { return Ok(None) };
                let mut order = Vec::new();
                for key in &sort.expr {
                    order.push(SortExpr::new(self.keyed(&key.expr, &below)?, key.asc, key.nulls_first));
                }
                below.ranked(&order, sort.input.schema(), places)
            }
            other => {
                let Some(below) = self.over(other)? else { return Ok(None) };
                below.ranked(&[], other.schema(), places)
            }
        }
    }

    /// A join has its keys of the side whose rows it keeps, or of one that has some anyway; the other side's are compared with them.
    fn joined(&mut self, join: &Join) -> DfResult<Option<Pulled>> {
        let (left_named, right_named) = (self.is_named(&join.left), self.is_named(&join.right));
        let by_right = match join.join_type {
            JoinType::Inner => right_named && !left_named,
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => false,
            JoinType::Right => true,
            _ => return Ok(None),
        };
        if join.null_aware {
            return Ok(None);
        }
        let (main, other, other_named) =
            if by_right { (&join.right, &join.left, left_named) } else { (&join.left, &join.right, right_named) };
        let Some(main) = self.over(main)? else { return Ok(None) };
        let nulls_equal = join.null_equality == NullEquality::NullEqualsNull;
        let (mut on, mut conditions, mut other_plan) = (Vec::new(), Vec::new(), other.clone());
        if other_named {
            let Some(other) = self.over(other)? else { return Ok(None) };
            for (of_main, of_other) in main.keys.iter().cloned().map(Expr::Column).zip(other.keys.into_iter().map(Expr::Column)) {
                match (nulls_equal, by_right) {
                    (false, _) => conditions.push(same(of_main, of_other)),
                    (true, false) => on.push((of_main, of_other)),
                    (true, true) => on.push((of_other, of_main)),
                }
            }
            other_plan = Arc::new(other.plan);
        }
        let equal = if nulls_equal { Operator::IsNotDistinctFrom } else { Operator::Eq };
        for (left, right) in join.on.iter().cloned() {
            if left.contains_outer() || right.contains_outer() {
                conditions.push(self.keyed(&binary_expr(left, equal, right), &main)?);
            } else {
                on.push((left, right));
            }
        }
        for condition in join.filter.iter().flat_map(split_conjunction) {
            conditions.push(self.keyed(condition, &main)?);
        }
        let columns = join.schema.columns().into_iter().chain(main.keys.iter().cloned()).map(Expr::Column).collect();
        let (kind, nulls) = (join.join_type, join.null_equality);
        let condition = conjunction(conditions).or_else(|| (on.is_empty() && kind != JoinType::Inner).then(|| lit(true)));
        let pulled = main.rebuilt(|main| {
            let (left, right) = if by_right { (other_plan, main) } else { (main, other_plan) };
            let joined = LogicalPlan::Join(Join::try_new(left, right, on, condition, kind, JoinConstraint::On, nulls, false)?);
            Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(joined))?))
        })?;
        Ok(Some(pulled))
    }

    fn united(&mut self, union: &Union) -> DfResult<Option<Pulled>> {
        let mut parts = Vec::new();
        for input in &union.inputs {
            let Some(part) = self.over(input)? else { return Ok(None) };
            parts.push(part);
        }
        self.stacked(parts, &union.schema).map(Some)
    }

    /// Each row of VALUES for each of the domain's values.
    fn listed(&mut self, values: &Values) -> DfResult<Option<Pulled>> {
        let Some(rows) = self.rows.clone() else { return Ok(None) };
        let mut parts = Vec::new();
        for cells in &values.values {
            let row = self.instance(&rows)?;
            let mut exprs = Vec::new();
            for (cell, field) in cells.iter().zip(values.schema.fields()) {
                exprs.push(self.keyed(cell, &row)?.alias(field.name()));
            }
            exprs.extend(row.keys.iter().cloned().map(Expr::Column));
            parts.push(row.rebuilt(|plan| Ok(LogicalPlan::Projection(Projection::try_new(exprs, plan)?)))?);
        }
        match <[Pulled; 1]>::try_from(parts) {
            Ok([only]) => Ok(Some(only)),
            Err(parts) => self.stacked(parts, &values.schema).map(Some),
        }
    }

    /// The rows of all parts, with the columns of a schema. Below it they have the same names in all parts, since the optimiser takes what is above a union for what is above its parts.
    fn stacked(&mut self, parts: Vec<Pulled>, schema: &DFSchema) -> DfResult<Pulled> {
        let width = schema.fields().len();
        let names: Vec<Column> = (0..width + self.outer.len()).map(|_| self.puller.column()).collect();
        let named = |part: Pulled| -> DfResult<Arc<LogicalPlan>> {
            let columns = part.plan.schema().columns().into_iter().zip(&names);
            let columns = columns.map(|(column, name)| Expr::Column(column).alias(name.name.clone())).collect();
            Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(part.plan))?)))
        };
        let parts = parts.into_iter().map(named).collect::<DfResult<Vec<_>>>()?;
        let all = Arc::new(LogicalPlan::Union(Union::try_new_with_loose_types(parts)?));
        let (own, keys) = names.split_at(width);
        let own = own.iter().cloned().zip(schema.iter());
        let own = own.map(|(name, (qualifier, field))| Expr::Column(name).alias_qualified(qualifier.cloned(), field.name()));
        let columns = own.chain(keys.iter().cloned().map(Expr::Column)).collect();
        let plan = LogicalPlan::Projection(Projection::try_new(columns, all)?);
        let (lifted, conditions, keys) = (BTreeMap::new(), vec![], keys.to_vec());
        Ok(Pulled { plan, lifted, of_none: None, conditions, keys, by_keys: true })
    }
}

fn joined(left: Arc<LogicalPlan>, right: Arc<LogicalPlan>, kind: JoinType, condition: Option<Expr>) -> DfResult<LogicalPlan> {
    let condition = condition.or_else(|| (kind != JoinType::Inner).then(|| lit(true)));
    let nulls = NullEquality::NullEqualsNothing;
    Ok(LogicalPlan::Join(Join::try_new(left, right, vec![], condition, kind, JoinConstraint::On, nulls, false)?))
}
