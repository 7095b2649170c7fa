//! Aggregates of a query that its subqueries name: `HAVING EXISTS (SELECT 1 FROM u WHERE u.k = sum(t.x))`. In the WHERE of a subquery an aggregate of nothing but columns of a query around it is
//! that query's, as in PostgreSQL, where DataFusion sees one of the subquery. So the rewriter calls a function of ours instead, which the binder takes for one of values, and in the bound plan the
//! calls are columns of the aggregation that is there. It does not know what a subquery becomes.

use super::aggregates::is_aggregate;
use super::columns::{Known, factors};
use super::level;
use super::placed::subquery;
use super::rewrite::arguments;
use crate::catalog::Catalog;
use crate::error::{fold, into_datafusion};
use crate::walk::{Walk, WalkPlan, sql};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, ExprSchema, Result as DfResult};
use datafusion::logical_expr::expr::{AggregateFunction, Exists, InSubquery, ScalarFunction, SetComparison};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, ColumnarValue, Expr, Filter, LogicalPlan, Projection, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Subquery, Volatility,
};
use datafusion::sql::sqlparser::ast;
use eddyline_common::{SqlError, SqlState};
use std::collections::HashMap;
use std::sync::Arc;

const PREFIX: &str = "__of_group_";

/// The names of relations in the FROM of a query.
type Scope = HashMap<String, bool>;

/// Marks the aggregates of queries around in the condition of a subquery; `scopes` are those of the queries, the innermost last. Says whether there are any.
pub fn mark(select: &mut ast::Select, scopes: &[Scope], known: &Known) -> bool {
    let Some((own, around)) = scopes.split_last().filter(|(_, around)| !around.is_empty()) else { return false };
    let ast::Select { selection, from, .. } = select;
    let from: &[ast::TableWithJoins] = from;
    let columns = || factors(from).into_iter().map(|factor| known.of_factor(factor)).collect::<Option<Vec<_>>>();
    let is_outer = |relation: Option<&ast::Ident>, column: &ast::Ident| match relation.map(fold) {
        Some(relation) => !own.contains_key(&relation) && around.iter().any(|scope| scope.contains_key(&relation)),
        None => columns().is_some_and(|all| !all.iter().flatten().any(|own| own.name == fold(column))),
    };
    let mut found = false;
    level::before(selection, |expr| {
        if let ast::Expr::Function(function) = expr
            && is_aggregate(function, known.catalog)
            && is_plain(function)
            && is_of(function, &is_outer)
            && let Some(name) = function.name.0.last().and_then(|part| part.as_ident()).map(fold)
            && known.catalog.functions().udaf(&name).is_ok()
        {
            function.name = ast::ObjectName::from(vec![ast::Ident::with_quote('"', format!("{PREFIX}{name}"))]);
            found = true;
        }
    });
    found
}

fn is_plain(function: &ast::Function) -> bool {
    let is_list = |list: &ast::FunctionArgumentList| list.duplicate_treatment.is_none() && list.clauses.is_empty();
    let has_values = matches!(&function.args, ast::FunctionArguments::List(list) if is_list(list));
    has_values && function.filter.is_none() && function.within_group.is_empty() && function.null_treatment.is_none()
}

/// Whether a call is of columns, and all of them are of queries around.
fn is_of(function: &ast::Function, is_outer: &dyn Fn(Option<&ast::Ident>, &ast::Ident) -> bool) -> bool {
    let (mut any, mut all) = (false, true);
    for argument in arguments(function) {
        sql::expressions(argument, |part| {
            let (relation, column) = match part {
                ast::Expr::Identifier(column) => (None, column),
                ast::Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                    [.., relation, column] => (Some(relation), column),
                    _ => return,
                },
                ast::Expr::Subquery(_) => {
                    all = false;
                    return;
                }
                _ => return,
            };
            any = true;
            all &= is_outer(relation, column);
        });
    }
    any && all
}

/// The function that the binder is given for a mark's name.
pub fn function(name: &str, catalog: &dyn Catalog) -> Option<ScalarUDF> {
    let aggregate = catalog.functions().udaf(name.strip_prefix(PREFIX)?).ok()?;
    let signature = Signature::user_defined(Volatility::Immutable);
    Some(ScalarUDF::new_from_impl(OfGroup { name: name.to_string(), aggregate, signature }))
}

/// A mark. It is never run: `in_plan` replaces its calls.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfGroup {
    name: String,
    aggregate: Arc<AggregateUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for OfGroup {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(given.to_vec())
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Err(DataFusionError::Internal(format!("function {} has a field", self.name)))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.aggregate.return_field(&fields_with_udf(args.arg_fields, self.aggregate.as_ref())?)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(DataFusionError::Internal(format!("function {} was not put in place", self.name)))
    }
}

/// Puts columns of aggregations in the places of the marks.
pub fn in_plan(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let plan = plan.up_with_subqueries(of_node)?.data;
    if marks_within(&plan)?.is_empty() {
        return Ok(plan);
    }
    let error = SqlError::new(SqlState::GROUPING_ERROR, "aggregate functions are not allowed in WHERE");
    Err(into_datafusion(error.with_hint("Use HAVING, or a subquery of the query that the aggregate is of.")))
}

fn of_node(node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let input = match &node {
        LogicalPlan::Filter(Filter { input, .. }) | LogicalPlan::Projection(Projection { input, .. }) => input.clone(),
        _ => return Ok(Transformed::no(node)),
    };
    let mut marks = Vec::new();
    node.each_own(|expr| {
        expr.each(|e| {
            if let Some(subquery) = subquery(e) {
                marks.extend(marks_within(&subquery.subquery)?);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    let (mut below, mut named) = (input, Vec::new());
    for mark in marks {
        if let Some((with, column)) = with_aggregate(&below, &mark)? {
            below = Arc::new(with);
            named.push((mark, column));
        }
    }
    if named.is_empty() {
        return Ok(Transformed::no(node));
    }
    let node = node.map_own(|expr| replaced(expr, &named))?.data;
    let exprs = node.expressions();
    node.with_new_exprs(exprs, vec![Arc::unwrap_or_clone(below)]).map(Transformed::yes)
}

fn mark_of(expr: &Expr) -> Option<(&OfGroup, &[Expr])> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) => func.inner().downcast_ref::<OfGroup>().map(|mark| (mark, args.as_slice())),
        _ => None,
    }
}

/// The calls of marks in a plan, subqueries included, each once.
fn marks_within(plan: &LogicalPlan) -> DfResult<Vec<Expr>> {
    let mut marks: Vec<Expr> = Vec::new();
    plan.each_with_subqueries(|node| {
        node.each_own(|expr| {
            expr.each(|e| {
                if mark_of(e).is_some() && !marks.contains(e) {
                    marks.push(e.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(marks)
}

/// The plan with a mark's aggregate among those that it computes, and what that is called from within a subquery; nothing if it is of another query.
fn with_aggregate(plan: &LogicalPlan, mark: &Expr) -> DfResult<Option<(LogicalPlan, Expr)>> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let Some((input, column)) = with_aggregate(&filter.input, mark)? else { return Ok(None) };
            let filter = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
            Ok(Some((LogicalPlan::Filter(filter), column)))
        }
        LogicalPlan::Aggregate(aggregate) => {
            let Some(call) = call_of(mark, aggregate.input.schema())? else { return Ok(None) };
            let name = call.schema_name().to_string();
            let mut calls = aggregate.aggr_expr.clone();
            if !calls.contains(&call) {
                calls.push(call);
            }
            let aggregate = Aggregate::try_new(aggregate.input.clone(), aggregate.group_expr.clone(), calls)?;
            let column = Column::new_unqualified(name);
            let field = aggregate.schema.field_from_column(&column)?.clone();
            Ok(Some((LogicalPlan::Aggregate(aggregate), Expr::OuterReferenceColumn(field, column))))
        }
        _ => Ok(None),
    }
}

/// The aggregate that a mark stands for, if it is of columns that are there.
fn call_of(mark: &Expr, schema: &DFSchema) -> DfResult<Option<Expr>> {
    let Some((mark, args)) = mark_of(mark) else { return Ok(None) };
    let mut is_there = true;
    let own = args.iter().map(|arg| {
        let own = arg.clone().up(|e| match e {
            Expr::OuterReferenceColumn(_, column) => {
                is_there &= schema.has_column(&column);
                Ok(Transformed::yes(Expr::Column(column)))
            }
            other => Ok(Transformed::no(other)),
        });
        own.map(|own| own.data)
    });
    let own = own.collect::<DfResult<Vec<_>>>()?;
    let call = AggregateFunction::new_udf(mark.aggregate.clone(), own, false, None, vec![], None);
    Ok(is_there.then_some(Expr::AggregateFunction(call)))
}

/// The expression with columns in the places of marks, in its subqueries too.
fn replaced(expr: Expr, named: &[(Expr, Expr)]) -> DfResult<Transformed<Expr>> {
    expr.up(|e| {
        if let Some((_, column)) = named.iter().find(|(mark, _)| *mark == e) {
            return Ok(Transformed::yes(column.clone()));
        }
        Ok(Transformed::yes(match e {
            Expr::ScalarSubquery(subquery) => Expr::ScalarSubquery(within(subquery, named)?),
            Expr::Exists(exists) => Expr::Exists(Exists { subquery: within(exists.subquery, named)?, ..exists }),
            Expr::InSubquery(test) => Expr::InSubquery(InSubquery { subquery: within(test.subquery, named)?, ..test }),
            Expr::SetComparison(test) => Expr::SetComparison(SetComparison { subquery: within(test.subquery, named)?, ..test }),
            other => return Ok(Transformed::no(other)),
        }))
    })
}

fn within(subquery: Subquery, named: &[(Expr, Expr)]) -> DfResult<Subquery> {
    let plan = Arc::unwrap_or_clone(subquery.subquery).up(|node| node.map_own(|expr| replaced(expr, named)))?.data;
    Ok(Subquery { outer_ref_columns: plan.all_out_ref_exprs(), subquery: Arc::new(plan), spans: subquery.spans })
}
