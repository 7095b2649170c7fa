//! What is known of unique keys: columns that are constant add nothing to one, the parts of a window stand for each
//! other, and a projection keeps a key under whatever column tells as much.

use super::node::Facts;
use crate::functions::NOT_NULL;
use crate::plan::{BinaryOp, ChangelogMode, Expr, Literal, LiteralValue, Node};
use eddyline_common::SqlType;
use eddyline_common::types::Column;

/// Marks the columns that a predicate holds equal to a constant.
pub fn note_equalities(predicate: &Expr, constants: &mut [Option<Literal>]) {
    let Expr::Binary { op, left, right } = predicate else { return };
    match (op, left.as_ref(), right.as_ref()) {
        (BinaryOp::And, left, right) => {
            note_equalities(left, constants);
            note_equalities(right, constants);
        }
        (BinaryOp::Eq, Expr::Column(column), Expr::Literal(value)) | (BinaryOp::Eq, Expr::Literal(value), Expr::Column(column)) => {
            constants[*column] = Some(value.clone());
        }
        _ => {}
    }
}

/// The constant that a projected column is.
pub fn constant(expr: &Expr, inputs: &[Option<Literal>]) -> Option<Literal> {
    match expr {
        Expr::Literal(literal) => Some(literal.clone()),
        Expr::Column(column) => inputs[*column].clone(),
        _ => None,
    }
}

/// The keys without their constant columns; one column stays, so that what had a key still has one.
pub fn without_constants(keys: &[Vec<usize>], constants: &[Option<Literal>]) -> Vec<Vec<usize>> {
    let mut reduced: Vec<Vec<usize>> = Vec::new();
    for key in keys {
        let mut shorter: Vec<usize> = key.iter().copied().filter(|c| constants[*c].is_none()).collect();
        if shorter.is_empty() {
            shorter.extend(key.first());
        }
        if !reduced.contains(&shorter) {
            reduced.push(shorter);
        }
    }
    reduced
}

/// The keys of a node's rows without those that are late by a column, the end of a window or a time. What a late retraction would have taken
/// away stays, and a row of the same key may come beside it at another time; at the same time it would be late as well.
pub fn without_late(node: &Node, time: usize) -> Vec<Vec<usize>> {
    if node.mode == ChangelogMode::Append {
        return node.unique_keys.clone();
    }
    let with_time = |key: &Vec<usize>| if key.contains(&time) { key.clone() } else { key.iter().copied().chain([time]).collect() };
    node.unique_keys.iter().map(with_time).collect()
}

/// The keys that a projection keeps, over its own columns.
pub fn through(keys: &[Vec<usize>], input: &Facts, exprs: &[Expr], columns: &[Column]) -> Vec<Vec<usize>> {
    let mut kept: Vec<Vec<usize>> = Vec::new();
    for key in keys {
        let mut projected = Vec::with_capacity(key.len());
        let complete = key.iter().all(|column| match stand_in(*column, input, exprs, columns) {
            Some(at) => {
                if !projected.contains(&at) {
                    projected.push(at);
                }
                true
            }
            // It tells no two rows apart.
            None => input.constants[*column].is_some(),
        });
        if complete && !kept.contains(&projected) {
            kept.push(projected);
        }
    }
    kept
}

/// The projected column that tells rows apart as well as an input column does.
fn stand_in(column: usize, input: &Facts, exprs: &[Expr], columns: &[Column]) -> Option<usize> {
    let itself = |e: &Expr| *e == Expr::Column(column);
    let same_window = |e: &Expr| match (e, input.windows[column]) {
        (Expr::Column(other), Some(window)) => input.windows[*other].is_some_and(|w| w.window == window.window && w.tells()),
        _ => false,
    };
    let position = |test: &dyn Fn(&Expr) -> bool| exprs.iter().position(test);
    position(&itself).or_else(|| position(&same_window)).or_else(|| position(&|e| keeps_apart(e, column, &columns[column].ty)))
}

/// Whether an expression is a cast of the column that gives every value another result, or the column itself, checked.
pub fn keeps_apart(expr: &Expr, column: usize, from: &SqlType) -> bool {
    use SqlType::*;
    if let Expr::Call { name, args, .. } = expr
        && name == NOT_NULL
    {
        return args.first().is_some_and(|value| *value == Expr::Column(column) || keeps_apart(value, column, from));
    }
    let Expr::Cast { expr, ty, try_cast: false } = expr else { return false };
    **expr == Expr::Column(column)
        && matches!(
            (from, ty),
            (SmallInt, Integer | BigInt) | (Integer, BigInt) | (SmallInt | Integer | BigInt | Date | Boolean, Text) | (Date, Timestamp)
        )
}

/// The columns that are the same constant in every input of a union.
pub fn common_constants(inputs: &[&[Option<Literal>]], width: usize) -> Vec<Option<Literal>> {
    let common = |c: usize| {
        let first = inputs[0].get(c)?.clone()?;
        inputs.iter().all(|i| i.get(c) == Some(&Some(first.clone()))).then_some(first)
    };
    (0..width).map(common).collect()
}

/// A union has a key if a column tells its inputs apart and each of them has one.
pub fn of_union(keys: &[&[Vec<usize>]], constants: &[&[Option<Literal>]]) -> Option<Vec<usize>> {
    let width = constants.iter().map(|c| c.len()).min()?;
    let apart = |c: &usize| {
        let values: Option<Vec<&Literal>> = constants.iter().map(|input| input[*c].as_ref()).collect();
        values.is_some_and(|values| {
            let known = |v: &&Literal| v.value != LiteralValue::Null;
            values.iter().all(known) && (1..values.len()).all(|i| !values[..i].iter().any(|v| v.value == values[i].value))
        })
    };
    let mut key = vec![(0..width).find(apart)?];
    for input in keys {
        for column in input.iter().min_by_key(|k| k.len())? {
            if !key.contains(column) {
                key.push(*column);
            }
        }
    }
    Some(key)
}
