//! Two-phase aggregation: below the exchange for an aggregate, its rows become few (`Op::PreAggregate`), if each of its calls makes the same of
//! those. That is so for COUNT, SUM and AVG of integers and decimals, BOOL_AND and BOOL_OR, and of rows that only come for MIN and MAX; not
//! for sums of floats, whose values cannot stand for others, nor for what looks at every value. What forgets (`state_ttl`) must see what touches it.

use super::Lowering;
use crate::plan::{AggregateCall, AggregateFunction, AggregateWindow, ChangelogMode, Expr, LateRows, Merge, Node, NodeId, Op};
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlType};

/// Columns of the rows below the exchange, and how they merge.
struct Columns {
    exprs: Vec<Expr>,
    columns: Vec<Column>,
    merged: Vec<(usize, Merge)>,
    /// The argument that each of those is of.
    sources: Vec<usize>,
}

impl Lowering<'_> {
    /// The input exchanged for an aggregate by `routing`, pre-aggregated if it can be. Calls then name other columns.
    pub(super) fn exchanged_for(
        &mut self,
        mut input: NodeId,
        routing: Vec<usize>,
        group: &[usize],
        calls: &mut [AggregateCall],
        window: Option<AggregateWindow>,
    ) -> Result<NodeId> {
        let exchanges = !self.facts[input].distribution.serves(&routing);
        if exchanges && self.emission.rewrites.two_phase && self.emission.ttl.is_none() {
            input = self.pre_aggregated(input, group, calls, window)?;
        }
        Ok(self.exchanged(input, routing))
    }

    /// A projection of its own, as others may read the input.
    fn with_other_columns(&mut self, input: NodeId, exprs: Vec<Expr>, columns: Vec<Column>) -> Result<NodeId> {
        let windows = self.facts[input].windows.clone();
        let projected = self.projection_node(input, exprs, columns)?;
        // An end that was added to the group is none that a projection would know.
        self.facts[projected].windows[..windows.len()].clone_from_slice(&windows);
        Ok(projected)
    }

    fn pre_aggregated(
        &mut self,
        input: NodeId,
        group: &[usize],
        calls: &mut [AggregateCall],
        window: Option<AggregateWindow>,
    ) -> Result<NodeId> {
        let source = &self.nodes[input];
        let Some(merges) = calls.iter().map(|call| merge_of(call, source)).collect::<Option<Vec<_>>>() else { return Ok(input) };
        let of_calls = calls.iter().zip(&merges).flat_map(|(call, merge)| [call.filter, call.argument.filter(|_| merge.is_none())]);
        let mut keys: Vec<usize> = group.iter().copied().chain(of_calls.flatten()).collect();
        keys.sort_unstable();
        keys.dedup();
        let exprs = (0..source.columns.len()).map(Expr::Column).collect();
        let mut columns = Columns { exprs, columns: source.columns.clone(), merged: vec![], sources: vec![] };
        let is_only_summed =
            |argument| calls.iter().zip(&merges).all(|(call, merge)| call.argument != Some(argument) || *merge == Some(Merge::Sum));
        let places: Vec<Option<usize>> = (calls.iter().zip(&merges))
            .map(|(call, merge)| match (call.argument, merge) {
                (Some(argument), Some(merge)) if !keys.contains(&argument) => {
                    Some(columns.place(argument, *merge, is_only_summed(argument)))
                }
                (argument, _) => argument,
            })
            .collect();
        calls.iter_mut().zip(places).for_each(|(call, place)| call.argument = place);
        let Columns { exprs, columns, merged, .. } = columns;
        let as_it_is = exprs.iter().enumerate().all(|(i, e)| *e == Expr::Column(i)) && exprs.len() == self.nodes[input].columns.len();
        let input = if as_it_is { input } else { self.with_other_columns(input, exprs, columns)? };
        let window = window.filter(|w| !w.session).map(|w| LateRows { end: group[w.end], allowed_lateness: w.allowed_lateness });
        let op = Op::PreAggregate { keys, merged, window };
        let node = Node { op, inputs: vec![input], unique_keys: vec![], ..self.nodes[input].clone() };
        let facts = self.facts[input].clone();
        Ok(self.push(node, facts))
    }
}

impl Columns {
    /// Where an argument is that merges so: one that merges in two ways is there twice. One whose sums need more room gets it where it is
    /// only if nothing else is asked of it.
    fn place(&mut self, argument: usize, merge: Merge, is_only_summed: bool) -> usize {
        if let Some((_, at)) = self.sources.iter().zip(&self.merged).find(|(source, (_, of))| (**source, *of) == (argument, merge)) {
            return at.0;
        }
        let widened = merge == Merge::Sum && matches!(self.columns[argument].ty, SqlType::SmallInt | SqlType::Integer);
        let at = if widened && !is_only_summed || self.sources.contains(&argument) { self.exprs.len() } else { argument };
        if at == self.exprs.len() {
            self.exprs.push(Expr::Column(argument));
            self.columns.push(self.columns[argument].clone());
        }
        if widened {
            self.exprs[at] = Expr::Cast { expr: Box::new(Expr::Column(argument)), ty: SqlType::BigInt, try_cast: false };
            self.columns[at].ty = SqlType::BigInt;
        }
        self.sources.push(argument);
        self.merged.push((at, merge));
        at
    }
}

/// How a call's argument merges, if it may be another one in rows that are equal otherwise; `None` for a call that must see all rows.
fn merge_of(call: &AggregateCall, input: &Node) -> Option<Option<Merge>> {
    use AggregateFunction::{Avg, BoolAnd, BoolOr, Count, Max, Min, Sum};
    if call.distinct {
        return None;
    }
    let ty = call.argument.map(|argument| &input.columns[argument].ty);
    let exact = || matches!(ty, Some(SqlType::SmallInt | SqlType::Integer | SqlType::BigInt | SqlType::Decimal { .. }));
    let ordered =
        || exact() || matches!(ty, Some(SqlType::Text | SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::TimestampTz));
    match call.function {
        Count => Some(call.argument.map(|_| Merge::Count)),
        Sum | Avg if exact() => Some(Some(Merge::Sum)),
        // There are few values.
        BoolAnd | BoolOr => Some(None),
        Min | Max if input.mode == ChangelogMode::Append && ordered() => {
            Some(Some(if call.function == Min { Merge::Min } else { Merge::Max }))
        }
        _ => None,
    }
}
