//! What sorts, windows and aggregates of plans that run once compute of their input is columns of a projection below them. So it is computed as any projection's columns are: the left side
//! of an AND guards the right one, and an aggregate's FILTER its arguments. And DataFusion knows rows to be sorted by a column that it sorted by, which it does
//! not of `abs(a) > 2`: a function has no range of values that it could compare, so that it would refuse its own plan.

use super::correlation::names_outer;
use crate::walk::Walk;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchemaRef, Result as DfResult};
use datafusion::logical_expr::expr::{AggregateFunction, Case, Sort as SortKey, WindowFunction};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection, Sort, Window};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// The last rule of a pass.
#[derive(Debug, Default)]
pub struct Operands;

impl OptimizerRule for Operands {
    fn name(&self) -> &str {
        "project_operands"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Sort(_) | LogicalPlan::Window(_) | LogicalPlan::Aggregate(_)) {
            return Ok(Transformed::no(plan));
        }
        let (schema, mut computed) = (plan.schema().clone(), Computed::default());
        let mut name = || config.alias_generator().next("__operand");
        let changed = match plan.clone() {
            LogicalPlan::Sort(Sort { expr, input, fetch }) => {
                let expr = expr.into_iter().map(|key| computed.key(key, None, &mut name)).collect();
                LogicalPlan::Sort(Sort { expr, input: computed.below(&input)?, fetch })
            }
            LogicalPlan::Window(Window { input, window_expr, .. }) => {
                let calls = window_expr.into_iter().map(|call| computed.call(call, &mut name)).collect();
                LogicalPlan::Window(Window::try_new(calls, computed.below(&input)?)?)
            }
            LogicalPlan::Aggregate(Aggregate { input, group_expr, aggr_expr, .. }) => {
                let groups = group_expr.into_iter().map(|group| computed.group(group, &mut name)).collect();
                let calls = aggr_expr.into_iter().map(|call| computed.call(call, &mut name)).collect();
                LogicalPlan::Aggregate(Aggregate::try_new(computed.below(&input)?, groups, calls)?)
            }
            other => other,
        };
        // What is correlated may be decorrelated yet, by what its nodes are.
        if computed.0.is_empty() || names_outer(&plan)? {
            return Ok(Transformed::no(plan));
        }
        restored(changed, &computed, schema).map(Transformed::yes)
    }
}

/// What is computed below a node, and the names it has there.
#[derive(Default)]
struct Computed(Vec<(Expr, String)>);

impl Computed {
    /// What stands for an expression, which matters only where `filter` is true.
    fn operand(&mut self, expr: Expr, filter: Option<&Expr>, name: &mut dyn FnMut() -> String) -> Expr {
        if !is_computed(&expr) {
            return expr;
        }
        let expr = match filter.filter(|filter| !filter.is_volatile()) {
            Some(filter) => Expr::Case(Case::new(None, vec![(Box::new(filter.clone()), Box::new(expr))], None)),
            None => expr,
        };
        if let Some((_, known)) = self.0.iter().find(|(known, _)| *known == expr) {
            return Expr::Column(Column::from_name(known));
        }
        let name = name();
        self.0.push((expr, name.clone()));
        Expr::Column(Column::from_name(name))
    }

    fn key(&mut self, key: SortKey, filter: Option<&Expr>, name: &mut dyn FnMut() -> String) -> SortKey {
        SortKey { expr: self.operand(key.expr, filter, name), ..key }
    }

    /// Grouping sets stay as they are.
    fn group(&mut self, group: Expr, name: &mut dyn FnMut() -> String) -> Expr {
        if matches!(group, Expr::GroupingSet(_)) { group } else { self.operand(group, None, name) }
    }

    /// The call of an aggregate or a window function.
    fn call(&mut self, call: Expr, name: &mut dyn FnMut() -> String) -> Expr {
        match call {
            Expr::Alias(mut alias) => {
                alias.expr = Box::new(self.call(*alias.expr, name));
                Expr::Alias(alias)
            }
            Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
                let filter = params.filter.take();
                params.args = params.args.into_iter().map(|arg| self.operand(arg, filter.as_deref(), name)).collect();
                params.order_by = params.order_by.into_iter().map(|key| self.key(key, filter.as_deref(), name)).collect();
                params.filter = filter.map(|filter| Box::new(self.operand(*filter, None, name)));
                Expr::AggregateFunction(AggregateFunction { func, params })
            }
            Expr::WindowFunction(call) => {
                let WindowFunction { fun, mut params } = *call;
                let filter = params.filter.take();
                params.args = params.args.into_iter().map(|arg| self.operand(arg, filter.as_deref(), name)).collect();
                params.partition_by = params.partition_by.into_iter().map(|key| self.operand(key, None, name)).collect();
                params.order_by = params.order_by.into_iter().map(|key| self.key(key, None, name)).collect();
                params.filter = filter.map(|filter| Box::new(self.operand(*filter, None, name)));
                Expr::WindowFunction(Box::new(WindowFunction { fun, params }))
            }
            other => other,
        }
    }

    /// A node's input, and behind its columns what is computed of them.
    fn below(&self, input: &Arc<LogicalPlan>) -> DfResult<Arc<LogicalPlan>> {
        if self.0.is_empty() {
            return Ok(input.clone());
        }
        let columns = input.schema().columns().into_iter().map(Expr::Column);
        let computed = self.0.iter().map(|(expr, name)| expr.clone().alias(name));
        let projection = Projection::try_new(columns.chain(computed).collect(), input.clone())?;
        Ok(Arc::new(LogicalPlan::Projection(projection)))
    }
}

/// A column of the input is none, nor is what no row decides; what a random number is part of is not moved.
fn is_computed(expr: &Expr) -> bool {
    let is_fixed = |e: &Expr| -> bool {
        matches!(
            e,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::OuterReferenceColumn(..)
        )
    };
    !matches!(expr, Expr::Column(_)) && !expr.column_refs().is_empty() && !expr.is_volatile() && !expr.any(is_fixed)
}

/// The columns that a node had before, under their names. What a sort and a window have of what was computed below them is left out.
fn restored(plan: LogicalPlan, computed: &Computed, schema: DFSchemaRef) -> DfResult<LogicalPlan> {
    let is_own = |column: &Column| column.relation.is_some() || !computed.0.iter().any(|(_, name)| *name == column.name);
    let is_grouped = matches!(plan, LogicalPlan::Aggregate(_));
    let columns = plan.schema().columns().into_iter().filter(|column| is_grouped || is_own(column));
    let exprs = columns.zip(schema.iter()).map(|(column, (qualifier, field))| {
        let same = column.relation.as_ref() == qualifier && column.name == *field.name();
        let column = Expr::Column(column);
        if same { column } else { column.alias_qualified(qualifier.cloned(), field.name()) }
    });
    let exprs = exprs.collect();
    Projection::try_new_with_schema(exprs, Arc::new(plan), schema).map(LogicalPlan::Projection)
}
