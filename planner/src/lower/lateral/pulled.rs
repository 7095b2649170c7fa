//! A lateral subquery without the row around it. What it says of that row becomes conditions of a join: an equality's own side is a column that is
//! carried up, and by these columns rows of different outer rows are told apart where a LIMIT, DISTINCT or GROUP BY looks at several rows. What
//! it computes of that row is left to whoever joins. It does not know the outer row, nor the kind of the join.

use crate::functions::registry;
use crate::lower::calls::unaliased;
use crate::lower::top_n::{Places, is_sorted};
use crate::optimize::coerce;
use crate::walk::Walk;
use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result as DfResult, ScalarValue, TableReference};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprFunctionExt, FetchType, Filter, Limit, LogicalPlan, Operator, Projection, SkipType,
    SubqueryAlias, Window, binary_expr, lit,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How the names of hidden columns begin.
const HIDDEN: &str = "__lateral_";

/// A plan that names no outer column: the subquery's columns as they were, and hidden ones behind them.
pub(super) struct Pulled {
    pub plan: LogicalPlan,
    /// What columns, by their place, are of hidden columns and the outer row. The plan has a null there.
    pub lifted: BTreeMap<usize, Expr>,
    /// There is one row for each outer row: what the columns are, of the outer row, where the plan has none for it.
    pub of_none: Option<Vec<Expr>>,
    /// What makes a row one of an outer row's, over hidden columns and outer ones.
    pub conditions: Vec<Expr>,
    /// Hidden columns that a condition compares for equality.
    pub keys: Vec<Column>,
    /// Rows that agree in the keys are rows of the same outer rows: no condition but those of the keys names a column of the plan.
    pub by_keys: bool,
}

/// Makes plans without outer columns, and names for their hidden columns.
#[derive(Default)]
pub(super) struct Puller {
    hidden: usize,
}

/// Hidden columns that a node is about to get, and what they are.
type Added = Vec<(Expr, Column)>;

impl Puller {
    /// A name that no other column has.
    pub fn column(&mut self) -> Column {
        self.hidden += 1;
        Column::new_unqualified(format!("{HIDDEN}{}", self.hidden))
    }

    /// `None` if the subquery does with the outer row what no join does.
    pub fn pull(&mut self, node: &LogicalPlan) -> DfResult<Option<Pulled>> {
        if node.all_out_ref_exprs().is_empty() {
            let (lifted, conditions, keys) = (BTreeMap::new(), vec![], vec![]);
            return Ok(Some(Pulled { plan: node.clone(), lifted, of_none: None, conditions, keys, by_keys: true }));
        }
        if let LogicalPlan::Limit(limit) = node {
            return self.limited(limit);
        }
        let inputs = node.inputs();
        let [input] = inputs.as_slice() else { return Ok(None) };
        let Some(pulled) = self.pull(input)? else { return Ok(None) };
        match node {
            LogicalPlan::SubqueryAlias(alias) => pulled.aliased(&alias.alias).map(Some),
            LogicalPlan::Filter(filter) => self.filtered(pulled, filter),
            LogicalPlan::Projection(projection) => self.projected(pulled, projection),
            LogicalPlan::Aggregate(aggregate) => pulled.grouped(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => pulled.distinct(input.schema()),
            // An order without a LIMIT means nothing.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => Ok(Some(pulled)),
            _ => Ok(None),
        }
    }

    fn filtered(&mut self, mut pulled: Pulled, filter: &Filter) -> DfResult<Option<Pulled>> {
        if pulled.of_none.is_some() {
            return Ok(None);
        }
        let (mut kept, mut added) = (Vec::new(), Added::new());
        for conjunct in split_conjunction(&filter.predicate) {
            let Some(resolved) = pulled.resolved(conjunct, filter.input.schema())? else { return Ok(None) };
            if !resolved.contains_outer() {
                kept.push(resolved);
                continue;
            }
            // Keys are what is compared: two that are equal once they are cast belong together.
            let condition = coerce(resolved, pulled.plan.schema())?;
            let condition = match sides(&condition) {
                Some((own, op, outer)) => {
                    let key = self.hide(own, &mut added);
                    if !pulled.keys.contains(&key) {
                        pulled.keys.push(key.clone());
                    }
                    binary_expr(Expr::Column(key), op, outer)
                }
                None => {
                    pulled.by_keys &= !condition.any_column_refs();
                    self.over_hidden(condition, &mut added)?
                }
            };
            pulled.conditions.push(condition);
        }
        if let Some(kept) = conjunction(kept) {
            pulled.plan = LogicalPlan::Filter(Filter::try_new(kept, Arc::new(pulled.plan))?);
        }
        for (value, column) in added {
            pulled = pulled.with(value, &column)?;
        }
        Ok(Some(pulled))
    }

    fn projected(&mut self, pulled: Pulled, projection: &Projection) -> DfResult<Option<Pulled>> {
        let schema = projection.input.schema();
        let Some(of_none) = pulled.projected_of_none(&projection.expr, schema)? else { return Ok(None) };
        let one_row = is_one_row(&pulled.plan);
        let (mut exprs, mut lifted, mut added) = (Vec::new(), BTreeMap::new(), Added::new());
        for (at, (e, (qualifier, field))) in projection.expr.iter().zip(projection.schema.iter()).enumerate() {
            let Some(resolved) = pulled.resolved(e, schema)? else { return Ok(None) };
            if resolved == *e && !resolved.contains_outer() && (!one_row || resolved.any_column_refs()) {
                exprs.push(resolved);
                continue;
            }
            lifted.insert(at, self.over_hidden(unaliased(&resolved).clone(), &mut added)?);
            let null = Expr::Literal(ScalarValue::try_from(field.data_type())?, None);
            exprs.push(null.alias_qualified(qualifier.cloned(), field.name()));
        }
        let hidden = pulled.plan.schema().columns().into_iter().skip(schema.fields().len());
        exprs.extend(hidden.map(Expr::Column));
        exprs.extend(added.into_iter().map(|(value, column)| value.alias(column.name)));
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(pulled.plan))?);
        Ok(Some(Pulled { plan, lifted, of_none, ..pulled }))
    }

    fn limited(&mut self, limit: &Limit) -> DfResult<Option<Pulled>> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?) else {
            return Ok(None);
        };
        let offset = skip as u64;
        self.placed(&limit.input, Places { offset, end: fetch.map(|n| offset.saturating_add(n as u64)) })
    }

    /// The rows at some places of their order, which may be below projections.
    fn placed(&mut self, node: &LogicalPlan, places: Places) -> DfResult<Option<Pulled>> {
        let below = match node {
            LogicalPlan::SubqueryAlias(alias) if is_sorted(node) => self.placed(&alias.input, places)?,
            LogicalPlan::Projection(projection) if is_sorted(node) => self.placed(&projection.input, places)?,
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.pull(&sort.input)?,
            other => self.pull(other)?,
        };
        let Some(below) = below else { return Ok(None) };
        match node {
            LogicalPlan::SubqueryAlias(alias) if is_sorted(node) => below.aliased(&alias.alias).map(Some),
            LogicalPlan::Projection(projection) if is_sorted(node) => self.projected(below, projection),
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => below.ranked(&sort.expr, sort.input.schema(), places),
            other => below.ranked(&[], other.schema(), places),
        }
    }

    /// The hidden column that is the value of an expression.
    fn hide(&mut self, value: Expr, added: &mut Added) -> Column {
        if let Some((_, column)) = added.iter().find(|(known, _)| *known == value) {
            return column.clone();
        }
        let column = self.column();
        added.push((value, column.clone()));
        column
    }

    /// An expression of which all columns that are not the outer row's are hidden ones.
    fn over_hidden(&mut self, e: Expr, added: &mut Added) -> DfResult<Expr> {
        let over = e.up(|e| match e {
            Expr::Column(column) if !column.name.starts_with(HIDDEN) => {
                Ok(Transformed::yes(Expr::Column(self.hide(Expr::Column(column), added))))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(over.data)
    }
}

impl Pulled {
    /// With a node over the plan, of the same columns.
    pub fn rebuilt(self, over: impl FnOnce(Arc<LogicalPlan>) -> DfResult<LogicalPlan>) -> DfResult<Pulled> {
        let plan = over(Arc::new(self.plan))?;
        Ok(Pulled { plan, ..self })
    }

    /// With one more hidden column.
    pub fn with(self, value: Expr, column: &Column) -> DfResult<Pulled> {
        let columns = self.plan.schema().columns().into_iter().map(Expr::Column);
        let exprs = columns.chain([value.alias(column.name.clone())]).collect();
        self.rebuilt(|plan| Ok(LogicalPlan::Projection(Projection::try_new(exprs, plan)?)))
    }

    pub fn aliased(self, alias: &TableReference) -> DfResult<Pulled> {
        let of_alias = |column: Column| Column::new(Some(alias.clone()), column.name);
        let requalified = |e: Expr| -> DfResult<Expr> {
            let up = e.up(|e| match e {
                Expr::Column(column) => Ok(Transformed::yes(Expr::Column(of_alias(column)))),
                other => Ok(Transformed::no(other)),
            })?;
            Ok(up.data)
        };
        let lifted = self.lifted.into_iter().map(|(at, e)| Ok((at, requalified(e)?))).collect::<DfResult<_>>()?;
        let conditions = self.conditions.into_iter().map(requalified).collect::<DfResult<_>>()?;
        let keys = self.keys.into_iter().map(of_alias).collect();
        let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(self.plan), alias.clone())?);
        Ok(Pulled { plan, lifted, of_none: self.of_none, conditions, keys, by_keys: self.by_keys })
    }

    /// What `of_none` becomes by a projection of `schema`, the subquery's columns. `None` if a subquery stands in it, which names these.
    fn projected_of_none(&self, exprs: &[Expr], schema: &DFSchema) -> DfResult<Option<Option<Vec<Expr>>>> {
        let Some(values) = &self.of_none else { return Ok(Some(None)) };
        let mut projected = Vec::new();
        for e in exprs {
            if e.any(|e| subquery_of(e).is_some()) {
                return Ok(None);
            }
            let of_none = unaliased(e).clone().up(|e| match &e {
                Expr::Column(column) => Ok(Transformed::yes(values[schema.index_of_column(column)?].clone())),
                _ => Ok(Transformed::no(e)),
            })?;
            projected.push(of_none.data);
        }
        Ok(Some(Some(projected)))
    }

    /// An expression over `schema`, the subquery's columns, with what was lifted in their place. `None` if a subquery of its own
    /// would come to stand over other columns than those it was bound to.
    pub fn resolved(&self, e: &Expr, schema: &DFSchema) -> DfResult<Option<Expr>> {
        let resolved = e.clone().up(|e| match &e {
            Expr::Column(column) => match schema.maybe_index_of_column(column).and_then(|at| self.lifted.get(&at)) {
                Some(lifted) => Ok(Transformed::yes(lifted.clone())),
                None => Ok(Transformed::no(e)),
            },
            _ => Ok(Transformed::no(e)),
        })?;
        let resolved = resolved.data;
        let unmoved = self.lifted.is_empty() && !resolved.contains_outer();
        Ok((unmoved || !resolved.any(|e| subquery_of(e).is_some())).then_some(resolved))
    }

    /// Whether all of the expressions are over columns that the plan has.
    fn has_all<'a>(&self, exprs: impl IntoIterator<Item = &'a Expr>, schema: &DFSchema) -> DfResult<bool> {
        for e in exprs {
            if !self.resolved(e, schema)?.is_some_and(|resolved| resolved == *e && !resolved.contains_outer()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The rows at some places among those of equal keys.
    pub fn ranked(self, order: &[SortExpr], schema: &DFSchema, places: Places) -> DfResult<Option<Pulled>> {
        if !self.by_keys || self.of_none.is_some() {
            return Ok(None);
        }
        let mut sorts = Vec::new();
        for sort in order {
            let Some(expr) = self.resolved(&sort.expr, schema)? else { return Ok(None) };
            match (expr.contains_outer(), expr.any_column_refs()) {
                (false, _) => sorts.push(SortExpr::new(expr, sort.asc, sort.nulls_first)),
                // It is the same for all rows of an outer row.
                (true, false) => {}
                (true, true) => return Ok(None),
            }
        }
        let columns = self.plan.schema().columns().into_iter().map(Expr::Column).collect();
        let number = Expr::from(WindowFunction::new(registry().udwf("row_number")?, vec![]));
        let number = number.partition_by(self.keys.iter().cloned().map(Expr::Column).collect());
        // An empty order would be one over which the window ranges.
        let number = if sorts.is_empty() { number.build()? } else { number.order_by(sorts).build()? };
        let place = Expr::Column(Column::new_unqualified(number.schema_name().to_string()));
        let bound = |rows: u64| lit(i64::try_from(rows).unwrap_or(i64::MAX));
        let until = places.end.map(|end| place.clone().lt_eq(bound(end)));
        let after = (places.offset > 0).then(|| place.gt(bound(places.offset)));
        let Some(kept) = conjunction(until.into_iter().chain(after)) else { return Ok(Some(self)) };
        let window = LogicalPlan::Window(Window::try_new(vec![number], Arc::new(self.plan))?);
        let filter = LogicalPlan::Filter(Filter::try_new(kept, Arc::new(window))?);
        let plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(filter))?);
        Ok(Some(Pulled { plan, ..self }))
    }

    /// Groups of the rows of equal keys. Without GROUP BY there is one for outer rows without rows too.
    pub fn grouped(self, aggregate: &Aggregate) -> DfResult<Option<Pulled>> {
        let Aggregate { group_expr, aggr_expr, input, schema, .. } = aggregate;
        let plain = self.of_none.is_none() && !group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
        if !plain || !self.by_keys || !self.has_all(group_expr.iter().chain(aggr_expr), input.schema())? {
            return Ok(None);
        }
        let of_none = match group_expr.is_empty() {
            true => Some(of_no_rows(aggr_expr, schema)?),
            false => None,
        };
        let keys = || self.keys.iter().cloned().map(Expr::Column);
        let groups = group_expr.iter().cloned().chain(keys()).collect();
        let columns = schema.columns().into_iter().map(Expr::Column).chain(keys()).collect();
        let grouped = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(self.plan), groups, aggr_expr.clone())?);
        let plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(grouped))?);
        Ok(Some(Pulled { plan, lifted: BTreeMap::new(), of_none, ..self }))
    }

    pub fn distinct(self, schema: &DFSchema) -> DfResult<Option<Pulled>> {
        if !self.by_keys || !self.lifted.is_empty() || self.of_none.is_some() {
            return Ok(None);
        }
        let columns = schema.columns().into_iter().chain(self.keys.iter().cloned()).map(Expr::Column).collect();
        let projected = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(self.plan))?);
        Ok(Some(Pulled { plan: LogicalPlan::Distinct(Distinct::All(Arc::new(projected))), ..self }))
    }

    /// Whether the plan is there for its one row only, and all that is asked for is of the outer row.
    pub fn is_of_outer_row(&self, schema: &DFSchema) -> bool {
        let of_outer_row = |at: usize| self.lifted.get(&at).is_some_and(|e| !e.any_column_refs());
        is_one_row(&self.plan) && !self.conditions.iter().any(Expr::any_column_refs) && (0..schema.fields().len()).all(of_outer_row)
    }
}

/// What aggregates are of no rows.
fn of_no_rows(calls: &[Expr], schema: &DFSchema) -> DfResult<Vec<Expr>> {
    let of_none = |(call, field): (&Expr, &FieldRef)| match unaliased(call) {
        Expr::AggregateFunction(call) => call.func.default_value(field.data_type()),
        _ => ScalarValue::try_from(field.data_type()),
    };
    calls.iter().zip(schema.fields()).map(|pair| Ok(Expr::Literal(of_none(pair)?, None))).collect()
}

pub(super) fn is_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        LogicalPlan::Projection(projection) => is_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_one_row(&alias.input),
        _ => false,
    }
}

/// An equality of the plan's own rows with the outer row: its own side, and the outer one.
fn sides(condition: &Expr) -> Option<(Expr, Operator, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::IsNotDistinctFrom), right }) = condition else {
        return None;
    };
    let is_own = |e: &Expr| e.any_column_refs() && !e.contains_outer();
    let is_outer = |e: &Expr| !e.any_column_refs() && e.contains_outer();
    let pair = |own: &Expr, outer: &Expr| (is_own(own) && is_outer(outer)).then(|| (own.clone(), *op, outer.clone()));
    pair(left, right).or_else(|| pair(right, left))
}

/// The subquery that an expression is.
pub(super) fn subquery_of(e: &Expr) -> Option<&LogicalPlan> {
    match e {
        Expr::ScalarSubquery(subquery) => Some(&subquery.subquery),
        Expr::Exists(exists) => Some(&exists.subquery.subquery),
        Expr::InSubquery(within) => Some(&within.subquery.subquery),
        Expr::SetComparison(comparison) => Some(&comparison.subquery.subquery),
        _ => None,
    }
}
