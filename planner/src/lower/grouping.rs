//! GROUPING SETS, ROLLUP and CUBE: every row once per set, with the columns that are not in the set null and a number that
//! says which set it is; then one aggregate by all of these. An empty set is an aggregate of its own, as it has a row even
//! where there is none.

use super::aggregate::Inputs;
use super::calls::call;
use super::{Lowering, columns_of};
use crate::plan::{AggregateCall, Expr, Literal, LiteralValue, NodeId};
use datafusion::logical_expr::{Aggregate, Expr as DfExpr, GroupingSet};
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlType};

/// More would multiply the rows too often.
const SETS_MAX: usize = 128;

impl Lowering<'_> {
    pub(super) fn grouping_sets(&mut self, input: NodeId, aggregate: &Aggregate, sets: &GroupingSet) -> Result<NodeId> {
        let schema = aggregate.input.schema();
        let (mut keys, mut arguments) = (Inputs::default(), Inputs::default());
        let distinct = sets.distinct_expr();
        // Two that come to the same are two columns: a set may have one of them alone.
        for e in &distinct {
            let mut key = Inputs::default();
            key.add_key(e, schema)?;
            keys.exprs.append(&mut key.exprs);
            keys.columns.append(&mut key.columns);
        }
        let output = columns_of(&aggregate.schema)?;
        let width = distinct.len();
        let calls = (aggregate.aggr_expr.iter().enumerate())
            .map(|(i, e)| call(e, schema, &mut arguments, output[width + 1 + i].ty.clone()))
            .collect::<Result<Vec<_>>>()?;
        let masks = masks(sets, &distinct)?;
        // The rows with everything that is computed of them: keys, then arguments.
        let mut columns: Vec<Column> = keys.columns.iter().chain(&arguments.columns).cloned().collect();
        let mut exprs: Vec<Expr> = keys.exprs.into_iter().chain(arguments.exprs).collect();
        if exprs.is_empty() {
            exprs.push(Expr::Literal(Literal { ty: SqlType::Boolean, value: LiteralValue::Boolean(true) }));
            columns.push(Column::new("", SqlType::Boolean, false));
        }
        let base = self.projection_node(input, exprs, columns)?;
        let mut expanded = Vec::new();
        let mut parts = Vec::new();
        for (at, mask) in masks.iter().enumerate() {
            let id = grouping_id(mask, masks[..at].iter().filter(|m| *m == mask).count());
            if mask.iter().all(|absent| *absent) {
                parts.push(self.whole(base, &output, width, id, &calls)?);
            } else {
                expanded.push(self.expanded(base, &output, mask, id)?);
            }
        }
        if !expanded.is_empty() {
            let columns = self.nodes[expanded[0]].columns.clone();
            let union = if expanded.len() == 1 { expanded[0] } else { self.union_node(expanded, columns) };
            let columns = self.nodes[union].columns.clone();
            let inputs = Inputs { exprs: (0..columns.len()).map(Expr::Column).collect(), columns };
            let calls = calls.iter().map(|call| shifted(call, width + 1)).collect();
            parts.push(self.grouped(union, inputs, (0..=width).collect(), calls, &output)?);
        }
        Ok(if parts.len() == 1 { parts[0] } else { self.union_node(parts, output) })
    }

    /// The rows of one set: its keys, nulls for the others, the set's number, the arguments.
    fn expanded(&mut self, base: NodeId, output: &[Column], mask: &[bool], id: u64) -> Result<NodeId> {
        let width = mask.len();
        let key = |(i, absent): (usize, &bool)| match absent {
            true => Expr::Literal(Literal { ty: output[i].ty.clone(), value: LiteralValue::Null }),
            false => Expr::Column(i),
        };
        let arguments = width..self.nodes[base].columns.len();
        let columns = output[..=width].iter().chain(&self.nodes[base].columns[width..]).cloned().collect();
        let mut exprs: Vec<Expr> = mask.iter().enumerate().map(key).collect();
        exprs.push(id_literal(id, &output[width]));
        exprs.extend(arguments.map(Expr::Column));
        self.projection_node(base, exprs, columns)
    }

    /// The aggregate over all rows.
    fn whole(&mut self, base: NodeId, output: &[Column], width: usize, id: u64, calls: &[AggregateCall]) -> Result<NodeId> {
        let results = &output[width + 1..];
        let mut calls: Vec<AggregateCall> = calls.iter().map(|call| shifted(call, width)).collect();
        let input = self.exchanged_for(base, vec![], &[], &mut calls, None)?;
        let node = self.aggregate_node(input, vec![], calls, None, results, vec![vec![]]);
        let null = |column: &Column| Expr::Literal(Literal { ty: column.ty.clone(), value: LiteralValue::Null });
        let mut exprs: Vec<Expr> = output[..width].iter().map(null).collect();
        exprs.push(id_literal(id, &output[width]));
        exprs.extend((0..results.len()).map(Expr::Column));
        self.projection_node(node, exprs, output.to_vec())
    }
}

fn id_literal(id: u64, column: &Column) -> Expr {
    Expr::Literal(Literal { ty: column.ty.clone(), value: LiteralValue::Int(id as i64) })
}

/// For each set, which of the expressions are not in it.
fn masks(sets: &GroupingSet, distinct: &[&DfExpr]) -> Result<Vec<Vec<bool>>> {
    let mask = |of: &[&DfExpr]| distinct.iter().map(|e| !of.contains(e)).collect();
    let masks: Vec<Vec<bool>> = match sets {
        GroupingSet::Rollup(exprs) => (0..=exprs.len()).map(|n| mask(&exprs[..n].iter().collect::<Vec<_>>())).collect(),
        GroupingSet::Cube(exprs) if exprs.len() <= SETS_MAX.ilog2() as usize => (0..1usize << exprs.len())
            .map(|bits| mask(&exprs.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, e)| e).collect::<Vec<_>>()))
            .collect(),
        GroupingSet::Cube(_) => vec![vec![]; SETS_MAX + 1],
        GroupingSet::GroupingSets(sets) => sets.iter().map(|set| mask(&set.iter().collect::<Vec<_>>())).collect(),
    };
    if masks.len() > SETS_MAX || distinct.len() > 60 {
        return Err(SqlError::unsupported(format!("more than {SETS_MAX} grouping sets are not supported in a materialized view")));
    }
    Ok(masks)
}

/// DataFusion's `__grouping_id`: a bit per expression, the first one highest, and above them which of equal sets it is.
fn grouping_id(mask: &[bool], repetition: usize) -> u64 {
    let bits = mask.iter().fold(0, |bits, absent| bits << 1 | *absent as u64);
    bits | (repetition as u64) << mask.len()
}

/// The call with its columns moved to the right.
fn shifted(call: &AggregateCall, by: usize) -> AggregateCall {
    let mut call = call.clone();
    call.argument = call.argument.map(|c| c + by);
    call.filter = call.filter.map(|c| c + by);
    call.order.iter_mut().for_each(|key| key.column += by);
    call
}

const _: () = assert!(SETS_MAX.is_power_of_two(), "so that CUBE can be bounded by its number of expressions");
