//! `IN (query)`, and `ANY (query)` and `ALL (query)` with an operator, where it counts that it may not be known. DataFusion makes joins of IN that know true and false alone. That is right between the
//! ANDs of a condition, and beneath its ORs, where false is as good as unknown; for NOT IN it is right between ANDs, of a value of the row and uncorrelated.
//! Everywhere else, and of rows, the test becomes subqueries that count, or that ask for the least or the greatest value, which of intervals are those of their lengths. It does not know what
//! becomes of them.

use super::common::{is_interval, literal_as};
use super::placed::subquery;
use super::rowless::may_have_no_row;
use crate::error::into_datafusion;
use crate::expr::call;
use crate::functions::checked::schema_of_inputs;
use crate::functions::{INTERVAL_LENGTH, registry};
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, Result as DfResult, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{BinaryExpr, Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, Filter, LogicalPlan, Operator, Projection, Subquery, binary_expr, lit, not,
};
use eddyline_common::SqlError;
use std::sync::Arc;

/// What a query's column is called where values are compared with it: a value around may be of a column that is called as it was.
const AMONG: &str = "__among";

/// The function that a row is a call of, on both sides of its test (`rows`).
pub const ROW: &str = "struct";

/// Of a row's values that may be null, on either side, so many are told apart: what each is multiplies the subqueries.
const UNKNOWN_MAX: usize = 8;

pub fn in_plan(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let rewritten = plan.up_with_subqueries(|node| {
        if !has_any(&node)? {
            return Ok(Transformed::no(node));
        }
        let schema = schema_of_inputs(&node)?;
        match node {
            LogicalPlan::Filter(Filter { predicate, input, .. }) => {
                let predicate = condition(predicate, true, &schema)?;
                Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
            }
            // One that is left there is of a lateral join (`placed`).
            LogicalPlan::Join(_) => Ok(Transformed::no(node)),
            other => {
                let names = NamePreserver::new(&other);
                other.map_own(|expr| {
                    let name = names.save(&expr);
                    Ok(valued(expr, &schema)?.update_data(|e| name.restore(e)))
                })
            }
        }
    });
    rewritten.map(|t| t.data)
}

fn has_any(node: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    node.each_own(|expr| {
        found |= expr.any(|e| matches!(e, Expr::InSubquery(_) | Expr::SetComparison(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// A condition that a row must satisfy; `alone`: nothing but ANDs are around it.
fn condition(expr: Expr, alone: bool, schema: &DFSchema) -> DfResult<Expr> {
    if let Some(test) = Test::of(&expr)? {
        return test.condition(alone, schema);
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if matches!(op, Operator::And | Operator::Or) => {
            let alone = alone && op == Operator::And;
            let (left, right) = (condition(*left, alone, schema)?, condition(*right, alone, schema)?);
            Ok(binary_expr(left, op, right))
        }
        other => Ok(valued(other, schema)?.data),
    }
}

/// An expression without tests.
fn valued(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    expr.up(|e| match Test::of(&e)? {
        Some(test) => test.value(schema).map(Transformed::yes),
        None => Ok(Transformed::no(e)),
    })
}

/// Whether a value, or a row of them, is `=`, `<` or what else to any row of a query, or to all of them; or whether it is not.
struct Test {
    values: Vec<Expr>,
    op: Operator,
    /// It has a column for each value.
    query: Subquery,
    all: bool,
    negated: bool,
}

impl Test {
    fn of(expr: &Expr) -> DfResult<Option<Test>> {
        let (value, op, query, all, negated) = match expr {
            Expr::Not(inner) => return Ok(Test::of(inner)?.map(|test| Test { negated: !test.negated, ..test })),
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => (expr, Operator::Eq, subquery, false, *negated),
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => match (*op, *quantifier == SetQuantifier::All) {
                (Operator::NotEq, true) => (expr, Operator::Eq, subquery, false, true),
                (op, all) => (expr, op, subquery, all, false),
            },
            _ => return Ok(None),
        };
        if !matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) {
            return Ok(None);
        }
        let (values, rows) = match parts(value, &query.subquery) {
            Some(parts) => parts,
            None if is_interval(query.subquery.schema().field(0).data_type()) && (op != Operator::Eq || all) => {
                let (length, lengths) = lengths(value, &query.subquery)?;
                (vec![length], lengths)
            }
            None => (vec![value.as_ref().clone()], query.subquery.clone()),
        };
        let query = Subquery { subquery: rows, ..query.clone() };
        Ok(Some(Test { values, op, query, all, negated }))
    }

    /// Whether it is of equal rows, which are counted; for other comparisons the least and the greatest value decide.
    fn is_equality(&self) -> bool {
        self.op == Operator::Eq && !self.all
    }

    /// As a condition: that it is not known is as good as false.
    fn condition(self, alone: bool, schema: &DFSchema) -> DfResult<Expr> {
        let is_correlated = !self.query.outer_ref_columns.is_empty();
        if let [value] = self.values.as_slice()
            && self.is_equality()
            && (!self.negated || alone && !is_correlated && value.any_column_refs())
        {
            let subquery = match is_of_rows(&self.query.subquery) {
                true => correlated(Arc::unwrap_or_clone(self.renamed()?), &self.query),
                false => self.query,
            };
            let within = InSubquery { expr: Box::new(value.clone()), subquery, negated: self.negated };
            return Ok(Expr::InSubquery(within));
        }
        let stays = self.query.subquery.any(|node| match node {
            LogicalPlan::Limit(_) => true,
            // Of two conditions with a name between them DataFusion loses the columns.
            LogicalPlan::SubqueryAlias(alias) => !alias.input.all_out_ref_exprs().is_empty(),
            _ => false,
        });
        let is_known = (0..self.values.len()).all(|at| !self.may_be_null(at, schema) && !self.may_be_null_within(at));
        // Of a query that is the same for all rows the extremes are found once.
        let is_joined = if self.is_equality() { !self.negated || is_known } else { is_correlated };
        if stays || !is_joined {
            return self.value(schema);
        }
        let matching = self.matching(schema)?;
        let decides = match (self.negated, self.all) {
            (false, true) => matching.is_not_true(),
            (true, true) => matching.is_false(),
            (true, false) if !is_known => matching.is_not_false(),
            _ => matching,
        };
        let rows = LogicalPlan::Filter(Filter::try_new(decides, self.renamed()?)?);
        Ok(Expr::Exists(Exists { subquery: correlated(rows, &self.query), negated: self.negated != self.all }))
    }

    /// As a value: NULL where it is not known.
    fn value(self, schema: &DFSchema) -> DfResult<Expr> {
        let mut any = self.found(schema)?;
        for may_be in self.unknown(schema)? {
            any = any.or(may_be.and(lit(ScalarValue::Boolean(None))));
        }
        Ok(if self.negated == self.all { any } else { not(any) })
    }

    /// Whether a row decides for certain: one that compares so, or of ALL one that does not.
    fn found(&self, schema: &DFSchema) -> DfResult<Expr> {
        let decides = |extreme: &str| self.beside(extreme).map(|compared| if self.all { compared.is_false() } else { compared.is_true() });
        match (self.op, self.all) {
            (Operator::Eq, false) => self.has_rows(self.matching(schema)?),
            (Operator::Lt | Operator::LtEq, false) | (Operator::Gt | Operator::GtEq, true) => decides("max"),
            (Operator::Gt | Operator::GtEq, false) | (Operator::Lt | Operator::LtEq, true) => decides("min"),
            _ => Ok(decides("min")?.or(decides("max")?)),
        }
    }

    /// The comparison with the least or the greatest value of the query.
    fn beside(&self, extreme: &str) -> DfResult<Expr> {
        let call = registry().udaf(extreme)?.call(vec![self.among(0)]);
        let extreme = Aggregate::try_new(self.renamed()?, vec![], vec![call])?;
        let value = Expr::Column(Column::from(extreme.schema.qualified_field(0)));
        let extreme = Projection::try_new(vec![value], Arc::new(LogicalPlan::Aggregate(extreme)))?;
        let extreme = correlated(LogicalPlan::Projection(extreme), &self.query);
        Ok(binary_expr(self.values[0].clone(), self.op, Expr::ScalarSubquery(extreme)))
    }

    /// What may be the case if no row decides and yet it is not known: for each value and its column either one is null, or they are equal, but not all of them are.
    fn unknown(&self, schema: &DFSchema) -> DfResult<Vec<Expr>> {
        let is_row = self.values.len() > 1;
        let mut cases: Vec<(Vec<Expr>, Vec<Expr>, bool)> = vec![(Vec::new(), Vec::new(), false)];
        for (at, value) in self.values.iter().enumerate() {
            let mut longer = Vec::new();
            for (outside, within, is_null) in cases {
                let with = |all: &[Expr], one: Expr| -> Vec<Expr> { all.iter().cloned().chain([one]).collect() };
                if self.may_be_null(at, schema) {
                    longer.push((with(&outside, value.clone().is_null()), within.clone(), true));
                }
                if self.may_be_null_within(at) {
                    longer.push((outside.clone(), with(&within, self.among(at).is_null()), true));
                }
                if is_row {
                    let equal = outer(value, schema)?.eq(self.among(at));
                    longer.push((outside.clone(), with(&within, equal), is_null));
                }
            }
            cases = longer;
        }
        let cases: Vec<_> = cases.into_iter().filter(|(_, _, is_null)| *is_null).collect();
        if cases.len() > UNKNOWN_MAX {
            return Err(into_datafusion(too_many_nulls()));
        }
        let rows = |within: Vec<Expr>| conjunction(within).map_or_else(|| has_rows(&self.query), |condition| self.has_rows(condition));
        cases.into_iter().map(|(outside, within, _)| Ok(outside.into_iter().rfold(rows(within)?, |all, one| one.and(all)))).collect()
    }

    /// Whether the values of the row around compare so with a row of the query.
    fn matching(&self, schema: &DFSchema) -> DfResult<Expr> {
        let pairs =
            self.values.iter().enumerate().map(|(at, value)| outer(value, schema).map(|value| binary_expr(value, self.op, self.among(at))));
        Ok(conjunction(pairs.collect::<DfResult<Vec<_>>>()?).unwrap_or_else(|| lit(true)))
    }

    /// What cannot be typed is reported later, with its place.
    fn may_be_null(&self, at: usize, schema: &DFSchema) -> bool {
        self.values[at].any(may_have_no_row) || self.values[at].nullable(schema).unwrap_or(true)
    }

    fn may_be_null_within(&self, at: usize) -> bool {
        let computes = |node: &LogicalPlan| matches!(node, LogicalPlan::Projection(row) if row.expr.iter().any(|e| e.any(may_have_no_row)));
        self.query.subquery.any(computes) || self.query.subquery.schema().field(at).is_nullable()
    }

    /// The name of a column of the query.
    fn name(&self, at: usize) -> String {
        if self.values.len() == 1 { AMONG.to_string() } else { format!("{AMONG}_{}", at + 1) }
    }

    fn among(&self, at: usize) -> Expr {
        Expr::Column(Column::new_unqualified(self.name(at)))
    }

    /// The query with its columns renamed.
    fn renamed(&self) -> DfResult<Arc<LogicalPlan>> {
        let columns = self.query.subquery.schema().columns().into_iter().enumerate();
        let columns = columns.map(|(at, column)| Expr::Column(column).alias(self.name(at))).collect();
        Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, self.query.subquery.clone())?)))
    }

    fn has_rows(&self, condition: Expr) -> DfResult<Expr> {
        let rows = LogicalPlan::Filter(Filter::try_new(condition, self.renamed()?)?);
        has_rows(&correlated(rows, &self.query))
    }
}

/// Whether a query is VALUES or a set operation, or has distinct values of what is computed: for their columns DataFusion has no expression, or one without a relation, which it would take
/// for a second column.
fn is_of_rows(query: &LogicalPlan) -> bool {
    match query {
        LogicalPlan::Values(_) | LogicalPlan::Union(_) => true,
        LogicalPlan::Projection(Projection { expr, .. }) => matches!(expr.as_slice(), [Expr::Column(Column { relation: None, .. })]),
        LogicalPlan::Distinct(_) if query.schema().qualified_field(0).0.is_none() => true,
        LogicalPlan::Distinct(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => query.inputs().into_iter().any(is_of_rows),
        _ => false,
    }
}

/// The values of a row that is looked for, and the query of such rows that it is looked for in.
fn parts(value: &Expr, query: &LogicalPlan) -> Option<(Vec<Expr>, Arc<LogicalPlan>)> {
    let LogicalPlan::Projection(Projection { expr, input, .. }) = query else { return None };
    let (Expr::ScalarFunction(row), [made]) = (value, expr.as_slice()) else { return None };
    let Expr::ScalarFunction(made) = made.clone().unalias() else { return None };
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let are_rows = row.func.name() == ROW && made.func.name() == ROW;
    (are_rows && made.args == columns && row.args.len() == columns.len()).then(|| (row.args.clone(), input.clone()))
}

/// The lengths of an interval and of those that it is compared with.
fn lengths(value: &Expr, query: &Arc<LogicalPlan>) -> DfResult<(Expr, Arc<LogicalPlan>)> {
    let (relation, field) = query.schema().qualified_field(0);
    let length = |of: Expr| call(INTERVAL_LENGTH, vec![of]).map_err(into_datafusion);
    let column = length(Expr::Column(Column::from((relation, field))))?.alias(field.name());
    let lengths = Projection::try_new(vec![column], query.clone())?;
    Ok((length(literal_as(value.clone(), field))?, Arc::new(LogicalPlan::Projection(lengths))))
}

fn too_many_nulls() -> SqlError {
    SqlError::unsupported("a row of so many values that may be null is not supported in IN (SELECT ...) as a value")
        .with_hint("Write it as a condition of WHERE without NOT, or with EXISTS.")
}

/// A value of the row around, as a subquery names it.
fn outer(value: &Expr, schema: &DFSchema) -> DfResult<Expr> {
    let outer = value.clone().up(|e| match e {
        Expr::Column(column) => {
            let field = schema.field_from_column(&column)?.clone();
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(outer.data)
}

/// `IN (query)` as a test for rows: as a condition, in which what is not known is as good as false. `None` if the value is looked for with a subquery of its own.
pub fn rows_equal_to(expr: &Expr, schema: &DFSchema) -> DfResult<Option<Exists>> {
    let Some(test) = Test::of(expr)?.filter(Test::is_equality) else { return Ok(None) };
    if test.values.iter().any(|value| value.any(|e| subquery(e).is_some())) {
        return Ok(None);
    }
    let matching = test.matching(schema)?;
    let decides = if test.negated { matching.is_not_false() } else { matching };
    let rows = LogicalPlan::Filter(Filter::try_new(decides, test.renamed()?)?);
    Ok(Some(Exists { subquery: correlated(rows, &test.query), negated: test.negated }))
}

/// Whether the query has rows: the number of them is asked for.
pub fn has_rows(query: &Subquery) -> DfResult<Expr> {
    let counted = Aggregate::try_new(query.subquery.clone(), vec![], vec![registry().udaf("count")?.call(vec![lit(1i64)])])?;
    let any = Expr::Column(Column::from(counted.schema.qualified_field(0))).gt(lit(0i64));
    let counted = Projection::try_new(vec![any], Arc::new(LogicalPlan::Aggregate(counted)))?;
    Ok(Expr::ScalarSubquery(correlated(LogicalPlan::Projection(counted), query)))
}

/// A plan in the place of a subquery.
pub(super) fn correlated(plan: impl Into<Arc<LogicalPlan>>, of: &Subquery) -> Subquery {
    let subquery = plan.into();
    Subquery { outer_ref_columns: subquery.all_out_ref_exprs(), subquery, spans: of.spans.clone() }
}
