//! Row patterns: what a condition says of its row alone is computed below, with the arguments of all values, once for each row; rows are
//! exchanged by their partition; then the operator that finds matches.

use super::aggregate::Inputs;
use super::calls::call;
use super::node::Facts;
use super::{Lowering, needs_watermark};
use crate::bind::as_of::reads_now;
use crate::bind::match_recognize::{MatchRecognize, Value, ValueOf, pattern, values_schema};
use crate::error::from_datafusion;
use crate::expr;
use crate::functions::registry;
use crate::plan::{BinaryOp, ChangelogMode, Expr, MatchPattern, MatchValue, MatchValueOf, MatchVariable, Node, NodeId, Op, OrderKey};
use datafusion::common::DFSchema;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::Expr as DfExpr;
use datafusion::logical_expr::expr::AggregateFunction as DfAggregate;
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlType};

impl Lowering<'_> {
    pub(super) fn match_recognize(&mut self, node: &MatchRecognize) -> Result<NodeId> {
        let input = self.node(&node.input)?;
        let schema = node.input.schema();
        let source = &self.nodes[input];
        if source.mode == ChangelogMode::Retract {
            return Err(SqlError::unsupported("MATCH_RECOGNIZE over rows that may change is not supported")
                .with_detail("A match that has been found is final.")
                .with_hint("Read a source, a table that is APPEND ONLY, or a view over one that only grows."));
        }
        let time = match &node.order()[0] {
            DfExpr::Column(column) => expr::position(column, schema)?,
            other => return Err(SqlError::internal(format!("rows are ordered by {other}, which is no column"))),
        };
        if reads_now(&node.order()[0], &node.input) {
            return Err(not_by_time(&source.columns[time].name)
                .with_detail("It is read off the clock.")
                .with_hint("Order by a column of the record, with WATERMARK FOR it where the source is created."));
        }
        if !source.time_columns.contains(&time) {
            return Err(match needs_watermark(&source.columns[time].name, self.facts[input].unwatermarked.as_deref()) {
                SqlError { hint: Some(hint), .. } => not_by_time(&source.columns[time].name).with_hint(hint),
                _ => not_by_time(&source.columns[time].name),
            });
        }
        let mut inputs = Inputs::default();
        if node.spec.all_rows {
            inputs = Inputs::of(&source.columns);
        }
        let partition = node.partition().iter().map(|e| inputs.add_key(e, schema)).collect::<Result<Vec<_>>>()?;
        let keep = if node.spec.all_rows { (0..source.columns.len()).collect() } else { partition.clone() };
        let mut order = Vec::new();
        for (e, (descending, nulls_first)) in node.order().iter().zip(&node.spec.directions) {
            let column = inputs.add_key(e, schema)?;
            order.push(OrderKey { column, descending: *descending, nulls_first: *nulls_first });
        }
        let mut exchanged = partition.clone();
        exchanged.sort_unstable();
        exchanged.dedup();
        let op = self.pattern_op(node, schema, &mut inputs, (exchanged.clone(), keep, order))?;
        let input = self.project(input, inputs.exprs, inputs.columns)?;
        let input = self.exchanged(input, exchanged);
        Ok(self.pattern_node(input, op))
    }

    /// The operator over columns that are added to `inputs`.
    fn pattern_op(
        &mut self,
        node: &MatchRecognize,
        schema: &DFSchema,
        inputs: &mut Inputs,
        (partition, keep, order): (Vec<usize>, Vec<usize>, Vec<OrderKey>),
    ) -> Result<Op> {
        let spec = &node.spec;
        for argument in node.arguments() {
            refuse_clock(&expr::from_datafusion(argument, schema)?)?;
        }
        let all = spec.values.iter().map(|v| value(v, node, schema, inputs, order[0].column)).collect::<Result<Vec<_>>>()?;
        let of_values = values_schema(spec.values.iter().map(|v| v.field.clone())).map_err(|e| from_datafusion(e, None))?;
        let mut variables = Vec::new();
        for (number, (name, condition)) in spec.variables.iter().zip(&spec.conditions).enumerate() {
            let variable = MatchVariable { name: name.clone(), flag: None, values: vec![], local: None, rest: None };
            variables.push(match condition {
                None => variable,
                Some(condition) => conditioned(variable, number, &expr::from_datafusion(condition, &of_values)?, &all, inputs)?,
            });
        }
        let mut shown = spec.values.iter().map(|value| value.shown);
        let mut values = all;
        values.retain(|_| shown.next().unwrap_or(false));
        let before = rows_before(&spec.pattern, &variables, &values);
        Ok(Op::MatchRecognize {
            partition,
            order,
            pattern: spec.pattern.clone(),
            variables,
            keep,
            values,
            all_rows: spec.all_rows,
            skip: spec.skip,
            within: spec.within,
            before,
            state: self.ids.allocate(),
        })
    }

    fn pattern_node(&mut self, input: NodeId, op: Op) -> NodeId {
        let Op::MatchRecognize { keep, values, order, within, pattern: of, all_rows, variables, .. } = &op else { return input };
        let (source, facts) = (&self.nodes[input], &self.facts[input]);
        let mut columns: Vec<Column> = keep.iter().map(|c| source.columns[*c].clone()).collect();
        columns.extend(values.iter().enumerate().map(|(i, v)| Column::new(format!("match_value_{i}"), v.ty.clone(), true)));
        let time = order[0].column;
        let (shortest, longest) = pattern::length(of);
        // Without WITHIN a match is known at its last row only if no other may be longer.
        let looks_ahead = |value: &MatchValue| matches!(value.of, MatchValueOf::Row { offset, .. } if offset > 0);
        let mut all = variables.iter().flat_map(|v| &v.values).chain(values);
        let ends_at_once = longest == Some(shortest) && !all.any(looks_ahead);
        let is_time = |value: &MatchValue| match &value.of {
            MatchValueOf::Row { column, offset: 0, first, nth } if *column == time => {
                within.is_some() || (ends_at_once && !all_rows && !first && *nth == 0 && value.variable.is_none())
            }
            _ => false,
        };
        let kept = keep.iter().enumerate().filter(|(_, c)| within.is_some() && **c == time).map(|(i, _)| i);
        let of_values = values.iter().enumerate().filter(|(_, v)| is_time(v)).map(|(i, _)| keep.len() + i);
        let time_columns = kept.chain(of_values).collect();
        let mut constants: Vec<_> = keep.iter().map(|c| facts.constants[*c].clone()).collect();
        constants.resize(columns.len(), None);
        let facts = Facts {
            distribution: facts.distribution.project(&|c| keep.iter().position(|k| *k == c)),
            windows: vec![None; columns.len()],
            constants,
            event_time: None,
            unwatermarked: None,
        };
        let node = Node { op, inputs: vec![input], columns, mode: ChangelogMode::Append, unique_keys: vec![], time_columns };
        self.push(node, facts)
    }
}

fn not_by_time(column: &str) -> SqlError {
    SqlError::unsupported(format!("MATCH_RECOGNIZE needs rows in the order of an event time with a watermark, which \"{column}\" is not"))
}

fn refuse_clock(e: &Expr) -> Result<()> {
    match expr::reads_clock(e) {
        false => Ok(()),
        true => Err(SqlError::unsupported("the current time in MATCH_RECOGNIZE is not supported")
            .with_hint("Compare with the rows' own time, or use now() in the SELECT over it.")),
    }
}

/// A value over columns that are added to `inputs`.
fn value(value: &Value, node: &MatchRecognize, schema: &DFSchema, inputs: &mut Inputs, time: usize) -> Result<MatchValue> {
    let ty = SqlType::from_field(&value.field)
        .ok_or_else(|| SqlError::unsupported(format!("values of type {} in MATCH_RECOGNIZE are not supported", value.field.data_type())))?;
    let of = match &value.of {
        ValueOf::Row { argument, first, nth, offset } => {
            let column = inputs.add_df(&node.arguments()[*argument], schema)?;
            MatchValueOf::Row { column, first: *first, nth: *nth, offset: *offset }
        }
        ValueOf::Classifier => MatchValueOf::Classifier,
        ValueOf::Number => MatchValueOf::Number,
        ValueOf::Aggregate { function, argument } => {
            let udaf = registry().udaf(function).map_err(|e| from_datafusion(e, None))?;
            let argument = node.arguments()[*argument].clone();
            let bound = DfExpr::AggregateFunction(DfAggregate::new_udf(udaf, vec![argument], false, None, vec![], None));
            let mut call = call(&bound, schema, inputs, ty.clone())?;
            if call.distinct || call.function.is_ordered() {
                return Err(SqlError::unsupported(format!("{function}() in MATCH_RECOGNIZE is not supported"))
                    .with_hint("COUNT, SUM, AVG, MIN, MAX, STDDEV, VARIANCE, BOOL_AND and BOOL_OR are; FIRST and LAST give single rows."));
            }
            // A row's time is never null: counting it counts rows.
            call.argument.get_or_insert(time);
            MatchValueOf::Aggregate(call)
        }
    };
    Ok(MatchValue { of, variable: value.variable, whole: value.whole, ty })
}

/// A variable's condition, in what is known of a row alone, of it and those before it, and of the match so far.
fn conditioned(
    mut variable: MatchVariable,
    number: usize,
    condition: &Expr,
    all: &[MatchValue],
    inputs: &mut Inputs,
) -> Result<MatchVariable> {
    refuse_clock(condition)?;
    let mut conjuncts = Vec::new();
    split(condition, &mut conjuncts);
    let (mut flag, mut local, mut rest) = (None, None, None);
    for conjunct in conjuncts {
        let mut distance = Some(0);
        expr::any(conjunct, &mut |e| {
            if let Expr::Column(value) = e {
                distance = distance.zip(offset_in_own(&all[*value], number)).map(|(a, b): (i64, i64)| a.min(b));
            }
            false
        });
        let place = match distance {
            Some(0) => &mut flag,
            Some(_) => &mut local,
            None => &mut rest,
        };
        let conjunct = conjunct.clone();
        *place = Some(match place.take() {
            Some(before) => expr::binary_of(BinaryOp::And, before, conjunct),
            None => conjunct,
        });
    }
    if let Some(flag) = flag {
        let argument = |value: usize| match &all[value].of {
            MatchValueOf::Row { column, .. } => Some(inputs.exprs[*column].clone()),
            _ => None,
        };
        let over_row =
            expr::map_columns(&flag, &argument).ok_or_else(|| SqlError::internal("a condition over one row has other values"))?;
        let name = format!("is_{}", variable.name);
        variable.flag = Some(inputs.add(over_row, Column::new(name, SqlType::Boolean, true)));
    }
    let mut used: Vec<usize> = Vec::new();
    for e in local.iter().chain(&rest) {
        expr::any(e, &mut |part| {
            if let Expr::Column(value) = part
                && !used.contains(value)
            {
                used.push(*value);
            }
            false
        });
    }
    let moved = |e: Expr| expr::map_columns(&e, &|value| used.iter().position(|u| *u == value).map(Expr::Column));
    variable.local = local.and_then(moved);
    variable.rest = rest.and_then(moved);
    variable.values = used.into_iter().map(|value| all[value].clone()).collect();
    Ok(variable)
}

fn split<'a>(e: &'a Expr, into: &mut Vec<&'a Expr>) {
    match e {
        Expr::Binary { op: BinaryOp::And, left, right } => {
            split(left, into);
            split(right, into);
        }
        other => into.push(other),
    }
}

/// How far from the row that a condition of variable `own` is of a value is found, if that is all it depends on: 0 or before.
fn offset_in_own(value: &MatchValue, own: usize) -> Option<i64> {
    let of_row = value.variable.is_none_or(|v| v == own);
    match value.of {
        MatchValueOf::Row { first: false, nth: 0, offset, .. } if of_row && offset <= 0 => Some(offset),
        _ => None,
    }
}

/// How many rows in front of a match its conditions and values may look at.
fn rows_before(of: &MatchPattern, variables: &[MatchVariable], values: &[MatchValue]) -> usize {
    let reach = |value: &MatchValue, row: usize| match value.of {
        MatchValueOf::Row { first, nth, offset, .. } if offset < 0 => {
            let least = match (value.variable, first) {
                (Some(v), true) => pattern::rows_before(of, v).unwrap_or(0) + nth,
                (Some(v), false) => pattern::rows_before(of, v).unwrap_or(0),
                (None, true) => nth,
                (None, false) => row.saturating_sub(nth),
            };
            (offset.unsigned_abs() as usize).saturating_sub(least)
        }
        _ => 0,
    };
    let of_conditions = variables.iter().enumerate().flat_map(|(number, variable)| {
        let row = pattern::rows_before(of, number).unwrap_or(0);
        variable.values.iter().map(move |value| reach(value, row))
    });
    of_conditions.chain(values.iter().map(|value| reach(value, 0))).max().unwrap_or(0)
}
