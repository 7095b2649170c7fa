//! Calls of aggregates and window functions that DataFusion would give one name though they differ: it names a call by its arguments, and by its window, without their casts.

use super::rewrite::{arguments, call, cast};
use super::{json, level};
use crate::catalog::Catalog;
use crate::error::fold;
use crate::functions::VALUES;
use crate::walk::sql;
use datafusion::sql::sqlparser::ast::*;
use std::collections::HashMap;

/// `count(1)` counts rows, as `count(*)` does.
pub fn count_of_rows(function: &mut Function) {
    if !function.name.to_string().eq_ignore_ascii_case("count") {
        return;
    }
    let FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, .. }) = &mut function.args else { return };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(counted)))] = args.as_slice() else { return };
    if matches!(counted.value, Value::Number(..) | Value::Boolean(_) | Value::SingleQuotedString(_)) {
        *args = vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)];
    }
}

/// `count(DISTINCT a, b)` counts the different values of both, where neither is null: one value stands for them.
pub fn count_of_values(function: &mut Function) {
    if !function.name.to_string().eq_ignore_ascii_case("count") {
        return;
    }
    let values: Vec<Expr> = arguments(function).into_iter().map(|value| cast(value.clone(), DataType::Text)).collect();
    if let FunctionArguments::List(FunctionArgumentList { duplicate_treatment: Some(DuplicateTreatment::Distinct), args, .. }) =
        &mut function.args
        && args.len() > 1
        && args.len() == values.len()
    {
        *args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(call(VALUES, values)))];
    }
}

/// Whether a call is of an aggregate, and not over a window.
pub fn is_aggregate(function: &Function, catalog: &dyn Catalog) -> bool {
    let [part] = function.name.0.as_slice() else { return false };
    let is_one = |name: String| json::is_aggregate(&name) || catalog.functions().udaf(&name).is_ok();
    function.over.is_none() && part.as_ident().is_some_and(|name| is_one(fold(name)))
}

/// Of calls in a SELECT that differ in casts alone, each kind gets a name of its own, by COALESCEs of one value each.
pub fn tell_apart(select: &mut Select, order: &mut [OrderByExpr], catalog: &dyn Catalog) {
    let mut calls = Calls { catalog, kinds: HashMap::new(), rename: false };
    calls.visit(select, order);
    calls.kinds.retain(|_, kinds| kinds.len() > 1);
    if !calls.kinds.is_empty() {
        calls.rename = true;
        calls.visit(select, order);
    }
}

struct Calls<'a> {
    catalog: &'a dyn Catalog,
    /// The calls, by what they are without casts. One that has none is the first.
    kinds: HashMap<String, Vec<String>>,
    rename: bool,
}

impl Calls<'_> {
    fn visit(&mut self, select: &mut Select, order: &mut [OrderByExpr]) {
        level::before(&mut select.projection, |expr| self.call(expr));
        level::before(&mut select.having, |expr| self.call(expr));
        for by in order {
            level::before(&mut by.expr, |expr| self.call(expr));
        }
    }

    fn call(&mut self, expr: &mut Expr) {
        let Expr::Function(function) = expr else { return };
        if function.over.is_none() && !is_aggregate(function, self.catalog) {
            return;
        }
        let (written, plain) = (function.to_string().to_lowercase(), without_casts(function));
        let is_plain = written == plain;
        let kinds = self.kinds.entry(plain).or_default();
        match kinds.iter().position(|kind| *kind == written) {
            Some(kind) if self.rename => rename(function, kind),
            None if !self.rename && is_plain => kinds.insert(0, written),
            None if !self.rename => kinds.push(written),
            _ => {}
        }
    }
}

/// What a call is of, and what its window is made by.
fn values(function: &mut Function) -> impl Iterator<Item = &mut Expr> {
    let args: &mut [FunctionArg] = match &mut function.args {
        FunctionArguments::List(list) => list.args.as_mut_slice(),
        _ => &mut [],
    };
    let (partition, order): (&mut [Expr], &mut [OrderByExpr]) = match &mut function.over {
        Some(WindowType::WindowSpec(window)) => (window.partition_by.as_mut_slice(), window.order_by.as_mut_slice()),
        _ => Default::default(),
    };
    let args = args.iter_mut().filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
        _ => None,
    });
    args.chain(partition).chain(order.iter_mut().map(|by| &mut by.expr))
}

fn without_casts(function: &Function) -> String {
    let mut function = function.clone();
    for value in values(&mut function) {
        sql::expressions_mut(value, |part| {
            while let Expr::Cast { expr, .. } | Expr::Nested(expr) = part {
                *part = (**expr).clone();
            }
        });
    }
    function.to_string().to_lowercase()
}

fn rename(function: &mut Function, times: usize) {
    for value in values(function).filter(|value| sql::any(&**value, |part| matches!(part, Expr::Cast { .. } | Expr::Nested(_)))) {
        for _ in 0..times {
            *value = call("coalesce", vec![value.clone()]);
        }
    }
}
