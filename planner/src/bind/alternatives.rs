//! Values that are compared with several others or of which one is taken: BETWEEN, IN, ANY, ALL, IS DISTINCT FROM, CASE, COALESCE, NULLIF, GREATEST and LEAST. DataFusion
//! binds them without asking whether their types go together, so a bound plan is gone through: a literal in quotes takes the type of what stands beside it, and what
//! does not go together is refused, both as PostgreSQL does it.

use super::casts::COMPARISONS;
use super::matching::{cannot_be_matched, check_operands, go_together, is_text_literal};
use super::operands::{cast_literal, typed_as};
use crate::functions::checked::schema_of_inputs;
use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, InList, InSubquery, ScalarFunction, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, Subquery};
use std::fmt;
use std::sync::Arc;

pub fn in_plan(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut any = false;
    let typed = plan.transform_up_with_subqueries(|node| {
        let schema = schema_of_inputs(&node)?;
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(in_expr(expr, &schema)?.update_data(|e| name.restore(e)))
        })?;
        // A column's type may be that of what was a literal, for all nodes above.
        any |= node.transformed;
        if any { node.map_data(LogicalPlan::recompute_schema) } else { Ok(node) }
    })?;
    Ok(typed.data)
}

pub fn in_expr(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    expr.transform_up(|e| {
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
                Expr::BinaryExpr(BinaryExpr { left, op, right })
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let (below, above) = if negated { ("<", ">") } else { (">=", "<=") };
                let (expr, low) = self.pair(below, expr, low)?;
                let (expr, high) = self.pair(above, expr, high)?;
                Expr::Between(Between { expr, negated, low, high })
            }
            Expr::InList(InList { expr, list, negated }) => {
                let (expr, list) = self.each(if negated { "<>" } else { "=" }, expr, list)?;
                Expr::InList(InList { expr, list, negated })
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                let expr = self.of_subquery(if negated { "<>" } else { "=" }, expr, &subquery)?;
                Expr::InSubquery(InSubquery { expr, subquery, negated })
            }
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
                let expr = self.of_subquery(op, expr, &subquery)?;
                Expr::SetComparison(SetComparison { expr, subquery, op, quantifier })
            }
            Expr::Case(case) => Expr::Case(self.case(case)?),
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                let args = match (func.name(), args.as_slice()) {
                    ("coalesce" | "greatest" | "least", _) => self.alternatives(&func.name().to_uppercase(), args)?,
                    ("nullif", [left, right]) => {
                        let (left, right) = self.pair("=", Box::new(left.clone()), Box::new(right.clone()))?;
                        vec![*left, *right]
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
        let typed = typed_as(expr.clone(), field);
        self.changed |= typed != expr;
        typed
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
        Ok((expr, typed))
    }

    fn of_subquery(&mut self, operator: impl fmt::Display, expr: Operand, subquery: &Subquery) -> DfResult<Operand> {
        let (Some(field), schema) = (self.field(&expr), subquery.subquery.schema()) else { return Ok(expr) };
        let Some(column) = schema.columns().into_iter().next() else { return Ok(expr) };
        check_operands(operator, (&expr, &field), (&Expr::Column(column), schema.field(0)))?;
        Ok(Box::new(self.beside(*expr, schema.field(0))))
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
        let Some(ty) = type_union_resolution(&types) else { return Ok(values) };
        // One that is there says more than its type.
        let common = typed.iter().find(|f| *f.data_type() == ty).cloned().unwrap_or_else(|| Arc::new(Field::new("", ty, true)));
        let mut one = |value: Expr| {
            if !is_text_literal(&value) {
                return value;
            }
            let cast = cast_literal(value.clone(), &common);
            self.changed |= cast != value;
            cast
        };
        Ok(values.into_iter().map(&mut one).collect())
    }
}
