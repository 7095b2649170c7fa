//! Values that are compared with several others or of which one is taken: BETWEEN, IN, ANY, ALL, IS DISTINCT FROM, CASE, COALESCE, NULLIF, GREATEST and LEAST, defaults of LAG and LEAD, and what ROUND is of. DataFusion
//! binds them without asking whether their types go together, so a bound plan is gone through: a literal in quotes takes the type of what stands beside it, values become
//! what they are compared as (`common`), and what does not go together is refused, all as PostgreSQL does it. So do the columns of set operations.

use super::casts::COMPARISONS;
use super::common::{
    averaged, common_field, compared, difference, float, float_of, instant, is_temporal, literal_as, quoted, sorted, widened,
};
use super::matching::{cannot_be_matched, check_operands, go_together, is_text_literal, is_untyped};
use super::operands::{parameter_as, typed_as};
use super::set_operations::is_set_operation;
use super::{any, outer, rounding};
use crate::functions::checked::rewrite_own;
use crate::functions::typed::{field_of, type_of};
use crate::types::cast_field;
use crate::walk::Walk;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::expr::{
    Between, BinaryExpr, Case, Cast, InList, InSubquery, Placeholder, ScalarFunction, SetComparison, Sort, WindowFunctionParams,
};
use datafusion::logical_expr::expr_schema::cast_subquery;
use datafusion::logical_expr::{
    Distinct, Expr, LogicalPlan, Operator, Projection, Subquery, Union, WindowFrame, WindowFrameBound, WindowFrameUnits,
};
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
    let sorts = matches!(node, LogicalPlan::Sort(_));
    let node = rewrite_own(node, &|expr| {
        let typed = in_expr(expr, schema)?;
        if sorts { typed.transform_data(|e| sorted(e, schema)) } else { Ok(typed) }
    })?;
    node.transform_data(of_set_operation)
}

/// The node with the columns that its expressions have now.
pub(super) fn recomputed(node: LogicalPlan) -> DfResult<LogicalPlan> {
    match node {
        LogicalPlan::Union(Union { inputs, .. }) => Ok(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)),
        other => other.recompute_schema(),
    }
}

/// What a column of a set operation becomes in an input that is something else there.
struct Settled {
    /// What the column's values have in common, if they are not that already.
    common: Option<FieldRef>,
    /// A column of nothing but literals in quotes.
    literals: Option<FieldRef>,
}

impl Settled {
    fn of(inputs: &[&LogicalPlan], column: usize) -> Settled {
        let (untyped, typed): (Vec<&LogicalPlan>, Vec<&LogicalPlan>) = inputs.iter().copied().partition(|input| is_untyped(input, column));
        let fields = typed.iter().map(|input| input.schema().fields()[column].clone());
        let (nulls, fields): (Vec<FieldRef>, Vec<FieldRef>) = fields.partition(|field| field.data_type().is_null());
        // What does not go together is refused later on.
        let matched = fields.iter().all(|field| go_together(&fields[0], field));
        let common = if matched { common_field(&fields) } else { None };
        let is_other = |field: &FieldRef| *field.data_type() != DataType::Utf8 || is_uuid(field);
        let literals = if untyped.is_empty() { None } else { common.clone().filter(is_other) };
        let differ = |to: &FieldRef| !nulls.is_empty() || fields.iter().any(|field| becomes(field, to));
        Settled { common: common.filter(differ), literals }
    }

    fn changes_nothing(&self) -> bool {
        self.common.is_none() && self.literals.is_none()
    }

    fn value(&self, value: Expr, own: &Field, is_untyped: bool) -> Expr {
        let cast = |value: Expr, field: &FieldRef| Expr::Cast(Cast { expr: Box::new(value), field: field.clone() });
        match (&self.literals, &self.common) {
            (Some(field), _) if is_untyped && is_text_literal(&value) => literal_as(value, field),
            (Some(field), _) if is_untyped => cast(value, field),
            (_, Some(field)) if own.data_type().is_null() => cast(value, field),
            (_, Some(field)) if !is_untyped => widened(&value, own, field).unwrap_or(value),
            _ => value,
        }
    }
}

/// Whether a value of one type is another thing once it is of what it has in common with others.
fn becomes(own: &FieldRef, to: &FieldRef) -> bool {
    own.data_type() != to.data_type() || SqlType::from_field(own) != SqlType::from_field(to)
}

fn is_uuid(field: &FieldRef) -> bool {
    SqlType::from_field(field) == Some(SqlType::Uuid)
}

/// The inputs of a set operation with columns of one type each, and literals in quotes as what stands in their column elsewhere.
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
            let value = settled.value(expr.clone().unalias(), field, is_untyped(plan, i));
            *expr = value.alias_qualified(qualifier.cloned(), field.name());
        }
    }
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, input)?))
}

/// Whether a frame of RANGE or GROUPS counts.
fn has_distance(frame: &WindowFrame) -> bool {
    let counts = |bound: &WindowFrameBound| !bound.is_unbounded() && *bound != WindowFrameBound::CurrentRow;
    frame.units != WindowFrameUnits::Rows && (counts(&frame.start_bound) || counts(&frame.end_bound))
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
            Expr::AggregateFunction(mut call) => {
                if call.func.name() == "avg" {
                    call.params.args = self.averaged(std::mem::take(&mut call.params.args))?;
                }
                // The order of others is that of what they are of.
                if !call.params.distinct && !call.func.supports_within_group_clause() {
                    call.params.order_by = self.sorted(std::mem::take(&mut call.params.order_by))?;
                }
                Expr::AggregateFunction(call)
            }
            Expr::WindowFunction(mut call) => {
                let args = std::mem::take(&mut call.params.args);
                call.params.args = match call.fun.name() {
                    "avg" => self.averaged(args)?,
                    "lag" | "lead" => self.with_default(args),
                    _ => args,
                };
                if !has_distance(&call.params.window_frame) {
                    self.frame(&mut call.params)?;
                }
                Expr::WindowFunction(call)
            }
            Expr::Case(case) => Expr::Case(self.case(case)?),
            Expr::Not(condition) => Expr::Not(Box::new(self.parameter(*condition, SqlType::Boolean))),
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                let args = match (func.name(), args.as_slice()) {
                    ("coalesce" | "greatest" | "least", _) => self.alternatives(&func.name().to_uppercase(), args)?,
                    ("nullif", [left, right]) => {
                        let (left, right) = self.pair("=", Box::new(left.clone()), Box::new(right.clone()))?;
                        self.floats(vec![*left, *right], DataType::Float64)
                    }
                    ("round" | "trunc", _) => self.rounded(args),
                    ("generate_series", [_, _, _, ..]) => self.ends(args),
                    // `item = ANY (list)`.
                    ("array_has", [list, item]) => {
                        let list = self.list_of(list.clone(), item);
                        let item = self.item_of(item.clone(), &list);
                        let (as_list, as_item) = any::searched(list.clone(), item.clone(), self.schema)?;
                        self.changed |= as_list != list || as_item != item;
                        vec![as_list, as_item]
                    }
                    ("json_get_path" | "json_get_path_text", [json, path]) => {
                        vec![json.clone(), self.parameter(path.clone(), SqlType::Array(Box::new(SqlType::Text)))]
                    }
                    ("array_append", [list, item]) => {
                        let list = self.list_of(list.clone(), item);
                        let item = self.item_of(item.clone(), &list);
                        vec![list, item]
                    }
                    ("array_prepend", [item, list]) => {
                        let list = self.list_of(list.clone(), item);
                        let item = self.item_of(item.clone(), &list);
                        vec![item, list]
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
        field_of(expr, self.schema).ok()
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

    fn sorted(&mut self, order: Vec<Sort>) -> DfResult<Vec<Sort>> {
        let key = |by: Sort| -> DfResult<Sort> {
            let expr = sorted(by.expr, self.schema)?;
            self.changed |= expr.transformed;
            Ok(Sort { expr: expr.data, ..by })
        };
        order.into_iter().map(key).collect()
    }

    /// The order of a window, and a frame in it without a distance: the analyzer refuses RANGE over values that have none, where GROUPS says the same.
    fn frame(&mut self, window: &mut WindowFunctionParams) -> DfResult<()> {
        use DataType::{Binary, Struct, Time64};
        window.order_by = self.sorted(std::mem::take(&mut window.order_by))?;
        let frame = &mut window.window_frame;
        if frame.units == WindowFrameUnits::Range
            && let Some(first) = window.order_by.first()
            && matches!(type_of(&first.expr, self.schema), Ok(Binary | Struct(_) | Time64(_)))
        {
            *frame = WindowFrame::new_bounds(WindowFrameUnits::Groups, frame.start_bound.clone(), frame.end_bound.clone());
            self.changed = true;
        }
        Ok(())
    }

    /// The arguments of LAG or LEAD.
    fn with_default(&mut self, mut args: Vec<Expr>) -> Vec<Expr> {
        if let [value, _, default] = args.as_mut_slice()
            && let Some(field) = self.field(value)
        {
            *default = self.as_other(default.clone(), value);
            *default = self.beside(default.clone(), &field);
        }
        args
    }

    fn rounded(&mut self, args: Vec<Expr>) -> Vec<Expr> {
        let given = self.types(&args).and_then(|types| rounding::arguments(&args, &types));
        self.changed |= given.is_some();
        given.unwrap_or(args)
    }

    fn types(&self, values: &[Expr]) -> Option<Vec<DataType>> {
        values.iter().map(|value| type_of(value, self.schema).ok()).collect()
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
        self.parameter(list, SqlType::Array(Box::new(ty.unlimited())))
    }

    /// An item that is a parameter, of the type of a list's items.
    fn item_of(&mut self, item: Expr, list: &Expr) -> Expr {
        match self.field(list).and_then(|field| SqlType::from_field(&field)) {
            Some(SqlType::Array(ty)) => self.parameter(item, ty.unlimited()),
            _ => item,
        }
    }

    fn parameter(&mut self, expr: Expr, ty: SqlType) -> Expr {
        match &expr {
            Expr::Placeholder(Placeholder { field: None, .. }) => self.replaced(parameter_as(expr, ty)),
            _ => expr,
        }
    }

    /// A parameter as a value of the type that another one has.
    fn as_other(&mut self, expr: Expr, other: &Expr) -> Expr {
        match self.field(other).and_then(|field| SqlType::from_field(&field)).filter(|ty| *ty != SqlType::Null) {
            Some(ty) => self.parameter(expr, ty.unlimited()),
            None => expr,
        }
    }

    /// Two operands of an operator that compares.
    fn pair(&mut self, operator: impl fmt::Display, mut left: Operand, mut right: Operand) -> DfResult<(Operand, Operand)> {
        *left = self.as_other(std::mem::take(left.as_mut()), &right);
        *right = self.as_other(std::mem::take(right.as_mut()), &left);
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

    /// The ends of a series of times: a literal in quotes is an instant beside one, and beside another literal.
    fn ends(&mut self, mut args: Vec<Expr>) -> Vec<Expr> {
        for (own, other) in [(0, 1), (1, 0)] {
            let is_instant = matches!(type_of(&args[other], self.schema), Ok(DataType::Timestamp(_, Some(_))));
            if let Some(text) = quoted(&args[own]).filter(|_| is_instant || quoted(&args[other]).is_some()) {
                args[own] = instant(text);
                self.changed = true;
            }
        }
        args
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
            None => {
                whens = whens.into_iter().map(|when| self.parameter(when, SqlType::Boolean)).collect();
                None
            }
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
        let Some(common) = common_field(&typed) else { return Ok(values) };
        // A text that comes as a parameter has any length, whatever the others may have.
        let has_parameter = values.iter().any(|e| matches!(e, Expr::Placeholder(_)));
        let common = match SqlType::from_field(&common) {
            Some(ty) if has_parameter && ty.is_text() => Arc::new(cast_field(&SqlType::Text)),
            _ => common,
        };
        let one = |value: Expr| {
            if is_text_literal(&value) {
                let cast = literal_as(value.clone(), &common);
                self.changed |= cast != value;
                return cast;
            }
            let value = match SqlType::from_field(&common) {
                Some(ty) => self.parameter(value, ty.unlimited()),
                None => value,
            };
            match self.field(&value).and_then(|own| widened(&value, &own, &common)) {
                Some(widened) => self.replaced(widened),
                None => value,
            }
        };
        Ok(values.into_iter().map(one).collect())
    }
}
