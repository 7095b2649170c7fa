//! Values that are compared with several others or of which one is taken: BETWEEN, IN, ANY, ALL, IS DISTINCT FROM, CASE, COALESCE, NULLIF, GREATEST and LEAST. DataFusion
//! binds them without asking whether their types go together, so a bound plan is gone through: a literal in quotes takes the type of what stands beside it, values become
//! what they are compared as (`common`), and what does not go together is refused, all as PostgreSQL does it. So do the columns of set operations.

use super::any;
use super::casts::COMPARISONS;
use super::common::{averaged, compared, difference, float, float_of, instant, is_temporal, literal_as, quoted, sorted};
use super::matching::{cannot_be_matched, check_operands, go_together, is_text_literal, is_untyped};
use super::operands::typed_as;
use super::outer;
use super::set_operations::is_set_operation;
use crate::walk::{Walk, WalkPlan};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, Cast, InList, InSubquery, Placeholder, ScalarFunction, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::expr_schema::cast_subquery;
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, Operator, Projection, Subquery, Union};
use eddyline_common::SqlType;
use std::fmt;
use std::sync::Arc;

pub fn in_plan(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut any = false;
    outer::transform_up(plan, |node, schema| {
        let node = node.transform_data(|node| of_node(node, schema))?;
        // A column's type may be that of what was a literal, for all nodes above.
        any |= node.transformed;
        if any { recomputed(node.data) } else { Ok(node.data) }
    })
}

fn of_node(node: LogicalPlan, schema: &DFSchema) -> DfResult<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    let sorts = matches!(node, LogicalPlan::Sort(_));
    let node = node.map_own(|expr| {
        let name = names.save(&expr);
        let typed = in_expr(expr, schema)?;
        let typed = if sorts { typed.transform_data(|e| sorted(e, schema))? } else { typed };
        Ok(typed.update_data(|e| name.restore(e)))
    })?;
    node.transform_data(of_set_operation)
}

fn recomputed(node: LogicalPlan) -> DfResult<LogicalPlan> {
    match node {
        LogicalPlan::Union(Union { inputs, .. }) => Ok(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)),
        other => other.recompute_schema(),
    }
}

/// What a column of a set operation becomes in an input that is something else there.
struct Settled {
    /// Floats and numerics.
    float: Option<DataType>,
    /// A column of nothing but literals in quotes.
    literals: Option<FieldRef>,
}

impl Settled {
    fn of(inputs: &[&LogicalPlan], column: usize) -> Settled {
        let (untyped, typed): (Vec<&LogicalPlan>, Vec<&LogicalPlan>) = inputs.iter().copied().partition(|input| is_untyped(input, column));
        let fields: Vec<FieldRef> = typed.iter().map(|input| input.schema().fields()[column].clone()).collect();
        let types: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
        let is_other = |field: &FieldRef| !matches!(field.data_type(), DataType::Null | DataType::Utf8) || is_uuid(field);
        let literals = if untyped.is_empty() { None } else { fields.into_iter().find(is_other) };
        Settled { float: float_of(&types), literals }
    }

    fn changes_nothing(&self) -> bool {
        self.float.is_none() && self.literals.is_none()
    }

    fn value(&self, value: Expr, own: &DataType, is_untyped: bool) -> Expr {
        match (&self.literals, &self.float) {
            (Some(field), _) if is_untyped && is_text_literal(&value) => literal_as(value, field),
            (Some(field), _) if is_untyped => Expr::Cast(Cast { expr: Box::new(value), field: field.clone() }),
            (_, Some(float_type)) => float(value, own, float_type),
            _ => value,
        }
    }
}

fn is_uuid(field: &FieldRef) -> bool {
    SqlType::from_field(field) == Some(SqlType::Uuid)
}

/// The inputs of a set operation with floats in the columns that are floats and numerics, and literals in quotes as what stands in their column elsewhere.
fn of_set_operation(node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let is_one = match &node {
        LogicalPlan::Union(_) => true,
        LogicalPlan::Join(join) => is_set_operation(join),
        _ => false,
    };
    let inputs = node.inputs();
    if !is_one || inputs.iter().any(|input| input.schema().fields().len() != inputs[0].schema().fields().len()) {
        return Ok(Transformed::no(node));
    }
    let columns: Vec<Settled> = (0..inputs[0].schema().fields().len()).map(|column| Settled::of(&inputs, column)).collect();
    if columns.iter().all(Settled::changes_nothing) {
        return Ok(Transformed::no(node));
    }
    let inputs = inputs.into_iter().map(|input| with_settled(input, &columns)).collect::<DfResult<Vec<_>>>()?;
    node.with_new_exprs(node.expressions(), inputs).map(Transformed::yes)
}

fn with_settled(plan: &LogicalPlan, columns: &[Settled]) -> DfResult<LogicalPlan> {
    if let LogicalPlan::Distinct(Distinct::All(input)) = plan {
        return Ok(LogicalPlan::Distinct(Distinct::All(Arc::new(with_settled(input, columns)?))));
    }
    // In the projection that is there: literals in quotes are still to be seen in it.
    let (mut exprs, input) = match plan {
        LogicalPlan::Projection(projection) => (projection.expr.clone(), projection.input.clone()),
        other => (other.schema().columns().into_iter().map(Expr::Column).collect(), Arc::new(other.clone())),
    };
    for (i, ((expr, (qualifier, field)), settled)) in exprs.iter_mut().zip(plan.schema().iter()).zip(columns).enumerate() {
        if !settled.changes_nothing() {
            let value = settled.value(expr.clone().unalias(), field.data_type(), is_untyped(plan, i));
            *expr = value.alias_qualified(qualifier.cloned(), field.name());
        }
    }
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, input)?))
}

pub fn in_expr(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    expr.up(|e| {
        let mut typing = Typing { schema, changed: false };
        let typed = typing.typed(e)?;
        Ok(Transformed::new_transformed(typed, typing.changed))
    })
}

struct Typing<'a> {
    schema: &'a DFSchema,
    changed: bool,
}

type Operand = Box<Expr>;

impl Typing<'_> {
    fn typed(&mut self, expr: Expr) -> DfResult<Expr> {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if COMPARISONS.contains(&op) => {
                let of_distinct = matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom);
                let (left, right) = self.pair(if of_distinct { Operator::Eq } else { op }, left, right)?;
                let (left, mut right) = self.compared_each(*left, vec![*right])?;
                let right = Box::new(right.remove(0));
                Expr::BinaryExpr(BinaryExpr { left, op, right })
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => match difference(&left, &right, self.schema)? {
                Some(difference) => self.replaced(difference),
                None => Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }),
            },
            Expr::Between(Between { expr, negated, low, high }) => {
                let (below, above) = if negated { ("<", ">") } else { (">=", "<=") };
                let (expr, low) = self.pair(below, expr, low)?;
                let (expr, high) = self.pair(above, expr, high)?;
                let (expr, mut bounds) = self.compared_each(*expr, vec![*low, *high])?;
                let (high, low) = (Box::new(bounds.remove(1)), Box::new(bounds.remove(0)));
                Expr::Between(Between { expr, negated, low, high })
            }
            Expr::InList(InList { expr, list, negated }) => {
                let (expr, list) = self.each(if negated { "<>" } else { "=" }, expr, list)?;
                Expr::InList(InList { expr, list, negated })
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                let (expr, subquery) = self.of_subquery(if negated { "<>" } else { "=" }, expr, subquery)?;
                Expr::InSubquery(InSubquery { expr, subquery, negated })
            }
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
                let (expr, subquery) = self.of_subquery(op, expr, subquery)?;
                Expr::SetComparison(SetComparison { expr, subquery, op, quantifier })
            }
            Expr::Cast(Cast { expr, field }) if SqlType::from_field(&field) == Some(SqlType::TimestampTz) => {
                match quoted(&expr).map(instant) {
                    Some(instant) => self.replaced(instant),
                    None => Expr::Cast(Cast { expr, field }),
                }
            }
            Expr::AggregateFunction(mut call) if call.func.name() == "avg" => {
                call.params.args = self.averaged(std::mem::take(&mut call.params.args))?;
                Expr::AggregateFunction(call)
            }
            Expr::WindowFunction(mut call) if call.fun.name() == "avg" => {
                call.params.args = self.averaged(std::mem::take(&mut call.params.args))?;
                Expr::WindowFunction(call)
            }
            Expr::Case(case) => Expr::Case(self.case(case)?),
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                let args = match (func.name(), args.as_slice()) {
                    ("coalesce" | "greatest" | "least", _) => self.alternatives(&func.name().to_uppercase(), args)?,
                    ("nullif", [left, right]) => {
                        let (left, right) = self.pair("=", Box::new(left.clone()), Box::new(right.clone()))?;
                        self.floats(vec![*left, *right], DataType::Float64)
                    }
                    // `item = ANY (list)`.
                    ("array_has", [list, item]) => {
                        let list = self.list_of(list.clone(), item);
                        let (as_list, as_item) = any::searched(list.clone(), item.clone(), self.schema)?;
                        self.changed |= as_list != list || as_item != *item;
                        vec![as_list, as_item]
                    }
                    _ => args,
                };
                Expr::ScalarFunction(ScalarFunction { func, args })
            }
            other => other,
        })
    }

    /// What cannot be typed here is reported by whoever needs its type.
    fn field(&self, expr: &Expr) -> Option<FieldRef> {
        expr.to_field(self.schema).ok().map(|(_, field)| field)
    }

    fn beside(&mut self, expr: Expr, field: &Field) -> Expr {
        let typed = if is_temporal(field.data_type()) { literal_as(expr.clone(), field) } else { typed_as(expr.clone(), field) };
        self.changed |= typed != expr;
        typed
    }

    fn replaced(&mut self, by: Expr) -> Expr {
        self.changed = true;
        by
    }

    fn averaged(&mut self, args: Vec<Expr>) -> DfResult<Vec<Expr>> {
        let lengths = averaged(&args, self.schema)?;
        self.changed |= lengths.is_some();
        Ok(lengths.unwrap_or(args))
    }

    fn types(&self, values: &[Expr]) -> Option<Vec<DataType>> {
        values.iter().map(|value| value.get_type(self.schema).ok()).collect()
    }

    fn compared(&mut self, values: Vec<Expr>) -> DfResult<Vec<Expr>> {
        let Some(types) = self.types(&values) else { return Ok(values) };
        let compared = compared(&values, &types)?;
        self.changed |= compared.is_some();
        Ok(compared.unwrap_or(values))
    }

    /// A value and those that it is compared with.
    fn compared_each(&mut self, expr: Expr, list: Vec<Expr>) -> DfResult<(Operand, Vec<Expr>)> {
        let mut all = self.compared(std::iter::once(expr).chain(list).collect())?;
        Ok((Box::new(all.remove(0)), all))
    }

    /// Floats and numerics as the type of floats that is given, whatever else as it is.
    fn floats(&mut self, values: Vec<Expr>, ty: DataType) -> Vec<Expr> {
        let Some(types) = self.types(&values).filter(|types| float_of(types).is_some()) else { return values };
        self.changed = true;
        values.into_iter().zip(&types).map(|(value, own)| float(value, own, &ty)).collect()
    }

    /// A list that is a parameter, of items such as the one it is searched for.
    fn list_of(&mut self, list: Expr, item: &Expr) -> Expr {
        let of_item = self.field(item).and_then(|field| SqlType::from_field(&field));
        let Some(ty) = of_item.filter(|ty| *ty != SqlType::Null) else { return list };
        let field = Arc::new(SqlType::Array(Box::new(ty.unlimited())).field("", true));
        match list {
            Expr::Placeholder(Placeholder { id, field: None }) => {
                self.replaced(Expr::Placeholder(Placeholder::new_with_field(id, Some(field))))
            }
            list => list,
        }
    }

    /// Two operands of an operator that compares.
    fn pair(&mut self, operator: impl fmt::Display, left: Operand, right: Operand) -> DfResult<(Operand, Operand)> {
        let (Some(left_field), Some(right_field)) = (self.field(&left), self.field(&right)) else { return Ok((left, right)) };
        check_operands(operator, (&left, &left_field), (&right, &right_field))?;
        Ok((Box::new(self.beside(*left, &right_field)), Box::new(self.beside(*right, &left_field))))
    }

    fn each(&mut self, operator: impl fmt::Display, mut expr: Operand, list: Vec<Expr>) -> DfResult<(Operand, Vec<Expr>)> {
        let mut typed = Vec::with_capacity(list.len());
        for item in list {
            let one;
            (expr, one) = self.pair(&operator, expr, Box::new(item))?;
            typed.push(*one);
        }
        self.compared_each(*expr, typed)
    }

    fn of_subquery(&mut self, operator: impl fmt::Display, expr: Operand, subquery: Subquery) -> DfResult<(Operand, Subquery)> {
        let schema = subquery.subquery.schema().clone();
        let Some(field) = self.field(&expr) else { return Ok((expr, subquery)) };
        let Some(column) = schema.columns().into_iter().next() else { return Ok((expr, subquery)) };
        check_operands(operator, (&expr, &field), (&Expr::Column(column), schema.field(0)))?;
        let expr = self.beside(*expr, schema.field(0));
        if float_of(&[field.data_type().clone(), schema.field(0).data_type().clone()]).is_none() {
            return Ok((Box::new(expr), subquery));
        }
        self.changed = true;
        Ok((Box::new(float(expr, field.data_type(), &DataType::Float64)), cast_subquery(subquery, &DataType::Float64)?))
    }

    fn case(&mut self, case: Case) -> DfResult<Case> {
        let Case { expr, when_then_expr, else_expr } = case;
        let (mut whens, thens): (Vec<Expr>, Vec<Expr>) = when_then_expr.into_iter().map(|(when, then)| (*when, *then)).unzip();
        let expr = match expr {
            Some(operand) => {
                let typed;
                (typed, whens) = self.each("=", operand, whens)?;
                Some(typed)
            }
            None => None,
        };
        // In the order in which PostgreSQL looks at them.
        let has_else = else_expr.is_some();
        let mut results = self.alternatives("CASE", else_expr.map(|e| *e).into_iter().chain(thens).collect())?;
        let else_expr = has_else.then(|| Box::new(results.remove(0)));
        let when_then_expr = whens.into_iter().map(Box::new).zip(results.into_iter().map(Box::new)).collect();
        Ok(Case { expr, when_then_expr, else_expr })
    }

    /// Values of which one is taken.
    fn alternatives(&mut self, name: &str, values: Vec<Expr>) -> DfResult<Vec<Expr>> {
        let is_untyped = |e: &Expr| is_text_literal(e) || matches!(e, Expr::Placeholder(_));
        let typed: Vec<FieldRef> =
            values.iter().filter(|e| !is_untyped(e)).filter_map(|e| self.field(e)).filter(|f| !f.data_type().is_null()).collect();
        for (i, field) in typed.iter().enumerate() {
            if let Some(other) = typed[..i].iter().find(|other| !go_together(other, field)) {
                return Err(cannot_be_matched(name, other, field, None));
            }
        }
        let types: Vec<_> = typed.iter().map(|f| f.data_type().clone()).collect();
        let floating = float_of(&types);
        let Some(ty) = floating.clone().or_else(|| type_union_resolution(&types)) else { return Ok(values) };
        // One that is there says more than its type.
        let common = typed.iter().find(|f| *f.data_type() == ty).cloned().unwrap_or_else(|| Arc::new(Field::new("", ty, true)));
        let mut one = |value: Expr| {
            if !is_text_literal(&value) {
                return self.widened(value, &common);
            }
            let cast = literal_as(value.clone(), &common);
            self.changed |= cast != value;
            cast
        };
        let values = values.into_iter().map(&mut one).collect();
        Ok(match floating {
            Some(ty) => self.floats(values, ty),
            None => values,
        })
    }

    /// An integer as one of the type that is given: a column has the type of the first value, and subqueries ask for it before DataFusion settles it.
    fn widened(&mut self, value: Expr, to: &FieldRef) -> Expr {
        match self.field(&value) {
            Some(field) if field.data_type().is_integer() && to.data_type().is_integer() && field.data_type() != to.data_type() => {
                self.replaced(Expr::Cast(Cast::new(Box::new(value), to.data_type().clone())))
            }
            _ => value,
        }
    }
}
