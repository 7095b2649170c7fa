//! Top-N: rows by their place in an order, per partition. It is what a condition on ROW_NUMBER(), RANK() or DENSE_RANK()
//! over the window that computes it becomes, and LIMIT, with ORDER BY below it or not. (DISTINCT ON has become a
//! condition on a row number in `prepare`.)

use super::aggregate::Inputs;
use super::calls::{order, unaliased};
use super::node::{Facts, WindowColumn, WindowPart};
use super::over::check_order;
use super::{Lowering, columns_of, keys};
use crate::expr;
use crate::plan::{AggregateWindow, BinaryOp, ChangelogMode, Emit, Expr, LiteralValue, Node, NodeId, Op, OrderKey, RankFunction};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{NullTreatment, Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::{Expr as DfExpr, FetchType, Filter, Limit, LogicalPlan, Projection, SkipType, Window};
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlType};

/// Which rows stay: those whose place is after `offset` and at most `end`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Places {
    pub offset: u64,
    pub end: Option<u64>,
}

struct Ranking<'a> {
    partition: &'a [DfExpr],
    order: &'a [SortExpr],
    function: RankFunction,
    places: Places,
    with_rank: bool,
}

pub(super) fn rank_function(call: &WindowFunction) -> Option<RankFunction> {
    if call.params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        return None;
    }
    match call.fun.name() {
        "row_number" => Some(RankFunction::RowNumber),
        "rank" => Some(RankFunction::Rank),
        "dense_rank" => Some(RankFunction::DenseRank),
        _ => None,
    }
}

impl Lowering<'_> {
    /// A filter that bounds the rank which the window below it computes; `None` for any other.
    pub(super) fn ranked(&mut self, filter: &Filter) -> Result<Option<NodeId>> {
        let Some((window, chosen)) = window_below(filter) else { return Ok(None) };
        let [call] = window.window_expr.as_slice() else { return Ok(None) };
        let DfExpr::WindowFunction(call) = unaliased(call) else { return Ok(None) };
        let Some(function) = rank_function(call) else { return Ok(None) };
        check_order(call)?;
        let schema = window.input.schema();
        let rank = schema.fields().len();
        let Some(predicate) = over_window(filter, window, chosen)? else { return Ok(None) };
        let (mut places, mut rest) = (Places::default(), Vec::new());
        for conjunct in conjuncts(predicate) {
            if !places.bound(&conjunct, rank) {
                rest.push(conjunct);
            }
        }
        if places.end.is_none() {
            return Ok(None);
        }
        let input = self.node(&window.input)?;
        let params = &call.params;
        let ranking = Ranking { partition: &params.partition_by, order: &params.order_by, function, places, with_rank: true };
        let mut node = self.top_n(input, schema, &ranking, columns_of(&window.schema)?)?;
        if let Some(predicate) = rest.into_iter().reduce(|a, b| expr::binary_of(BinaryOp::And, a, b)) {
            node = self.filter_node(node, predicate)?;
        }
        match chosen {
            Some(projection) => self.projected_by(node, projection).map(Some),
            None => Ok(Some(node)),
        }
    }

    /// An OVER window that only computes the place of each row; `None` for any other.
    pub(super) fn placed(&mut self, window: &Window) -> Result<Option<NodeId>> {
        let [call] = window.window_expr.as_slice() else { return Ok(None) };
        let DfExpr::WindowFunction(call) = unaliased(call) else { return Ok(None) };
        let Some(function) = rank_function(call) else { return Ok(None) };
        let input = self.node(&window.input)?;
        let (params, places) = (&call.params, Places::default());
        let ranking = Ranking { partition: &params.partition_by, order: &params.order_by, function, places, with_rank: true };
        self.top_n(input, window.input.schema(), &ranking, columns_of(&window.schema)?).map(Some)
    }

    pub(super) fn limit(&mut self, limit: &Limit) -> Result<NodeId> {
        let number = |e: datafusion::common::DataFusionError| crate::error::from_datafusion(e, None);
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
            (limit.get_skip_type().map_err(number)?, limit.get_fetch_type().map_err(number)?)
        else {
            return Err(SqlError::unsupported("LIMIT with an expression is not supported in a materialized view")
                .with_hint("Write a constant behind LIMIT and OFFSET."));
        };
        let places = Places { offset: skip as u64, end: fetch.map(|n| (skip as u64).saturating_add(n as u64)) };
        self.limited(&limit.input, places)
    }

    /// The rows of a plan at some places of its order, which may be below projections.
    fn limited(&mut self, plan: &LogicalPlan, places: Places) -> Result<NodeId> {
        let global = |order| Ranking { partition: &[], order, function: RankFunction::RowNumber, places, with_rank: false };
        match plan {
            LogicalPlan::SubqueryAlias(alias) if is_sorted(plan) => self.limited(&alias.input, places),
            LogicalPlan::Projection(projection) if is_sorted(plan) => {
                let input = self.limited(&projection.input, places)?;
                self.projected_by(input, projection)
            }
            LogicalPlan::Sort(sort) => {
                let places = match sort.fetch {
                    Some(fetch) => Places { end: Some(places.end.map_or(fetch as u64, |end| end.min(fetch as u64))), ..places },
                    None => places,
                };
                let input = self.node(&sort.input)?;
                let ranking = Ranking { places, ..global(sort.expr.as_slice()) };
                self.top_n(input, sort.input.schema(), &ranking, columns_of(sort.input.schema())?)
            }
            other => {
                let input = self.node(other)?;
                self.top_n(input, other.schema(), &global(&[]), columns_of(other.schema())?)
            }
        }
    }

    /// `output`: the columns of `schema`, and the rank if it is asked for.
    fn top_n(&mut self, input: NodeId, schema: &DFSchema, ranking: &Ranking, output: Vec<Column>) -> Result<NodeId> {
        let mut inputs = Inputs::of(&self.nodes[input].columns);
        let mut partition = inputs.add_keys(ranking.partition, schema)?;
        let order = order(ranking.order, schema, &mut inputs)?;
        let all = inputs.columns.len();
        let (input, windowed) = self.partitioned(input, inputs, &mut partition)?;
        let node = self.top_n_node(input, partition, order, ranking, windowed);
        let visible = schema.fields().len();
        if visible == all {
            return Ok(node);
        }
        let rank = ranking.with_rank.then_some(all);
        self.project(node, (0..visible).chain(rank).map(Expr::Column).collect(), output)
    }

    fn top_n_node(&mut self, input: NodeId, partition: Vec<usize>, order: Vec<OrderKey>, by: &Ranking, windowed: bool) -> NodeId {
        let source = &self.nodes[input];
        let mut columns = source.columns.clone();
        let limit = by.places.end.map(|end| end.saturating_sub(by.places.offset));
        let mut unique_keys = if windowed { keys::without_late(source, partition[0]) } else { source.unique_keys.clone() };
        let one = by.function == RankFunction::RowNumber && limit == Some(1);
        if one && !partition.is_empty() {
            unique_keys.insert(0, partition.clone());
        }
        let mut facts = self.facts[input].clone();
        if by.with_rank {
            if by.function == RankFunction::RowNumber && !one {
                unique_keys.push(partition.iter().copied().chain([columns.len()]).collect());
            }
            columns.push(Column::new("rank", SqlType::BigInt, false));
            facts.windows.push(None);
            facts.constants.push(None);
        }
        let (window, time_columns, mode) = self.by_window(&mut facts, &partition, windowed);
        let node = Node {
            mode,
            columns,
            unique_keys,
            time_columns,
            inputs: vec![input],
            op: Op::TopN {
                partition,
                order,
                function: by.function,
                offset: by.places.offset,
                limit,
                with_rank: by.with_rank,
                window,
                state: self.ids.allocate(),
            },
        };
        self.push(node, facts)
    }

    /// What an operator over partitions, whose first column is the end of a window if `windowed`, has by that: how the window closes, the columns that
    /// are event time above it, and whether rows only come.
    pub(super) fn by_window(
        &mut self,
        facts: &mut Facts,
        partition: &[usize],
        windowed: bool,
    ) -> (Option<AggregateWindow>, Vec<usize>, ChangelogMode) {
        let window = partition.first().filter(|_| windowed).and_then(|end| facts.windows[*end]).map(|w| self.closing(0, &w));
        let time_columns = facts.within(windowed.then(|| partition[0]));
        self.windowed |= windowed;
        let mode = if window.is_some_and(|w| w.emit == Emit::OnClose) { ChangelogMode::Append } else { ChangelogMode::Retract };
        (window, time_columns, mode)
    }

    /// Rows of some columns, together by their partition. If that names an event-time window, it begins with the window's end then.
    pub(super) fn partitioned(&mut self, input: NodeId, inputs: Inputs, partition: &mut Vec<usize>) -> Result<(NodeId, bool)> {
        let input = self.project(input, inputs.exprs, inputs.columns)?;
        let input = self.exchanged(input, partition.clone());
        let window = self.partition_window(input, partition);
        if let Some(end) = window {
            partition.retain(|c| *c != end);
            partition.insert(0, end);
        }
        Ok((input, window.is_some()))
    }

    /// The column that is the end of an event-time window which the partition names.
    fn partition_window(&self, input: NodeId, partition: &[usize]) -> Option<usize> {
        let windows = &self.facts[input].windows;
        let tells = |w: &&WindowColumn| w.event_time && (w.part == WindowPart::End || w.tells());
        let named = partition.iter().filter_map(|c| windows[*c].as_ref()).find(tells)?;
        let is_end = |w: &WindowColumn| w.window == named.window && w.part == WindowPart::End;
        windows.iter().position(|w| w.as_ref().is_some_and(is_end))
    }

    /// Leaves out the rank if nothing reads it.
    pub(super) fn drop_unused_rank(&mut self, input: NodeId, exprs: &[Expr]) {
        if input + 1 != self.nodes.len() {
            return;
        }
        let node = &mut self.nodes[input];
        let rank = node.columns.len() - 1;
        let mut reads = |e: &Expr| expr::any(e, &mut |part| *part == Expr::Column(rank));
        let Op::TopN { with_rank, .. } = &mut node.op else { return };
        if !*with_rank || exprs.iter().any(&mut reads) {
            return;
        }
        *with_rank = false;
        node.columns.pop();
        node.unique_keys.retain(|key| !key.contains(&rank));
        self.facts[input].windows.pop();
        self.facts[input].constants.pop();
    }
}

/// The window below a filter, and the projection between them by which the optimiser leaves out what only the window needs.
fn window_below(filter: &Filter) -> Option<(&Window, Option<&Projection>)> {
    match filter.input.as_ref() {
        LogicalPlan::Window(window) => Some((window, None)),
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::Window(window) => Some((window, Some(projection))),
            _ => None,
        },
        _ => None,
    }
}

/// The filter's condition over the columns of the window; `None` if it is on what the projection computes.
fn over_window(filter: &Filter, window: &Window, chosen: Option<&Projection>) -> Result<Option<Expr>> {
    let predicate = expr::from_datafusion(&filter.predicate, filter.input.schema())?;
    let Some(projection) = chosen else { return Ok(Some(predicate)) };
    let exprs = projection.expr.iter().map(|e| expr::from_datafusion(e, &window.schema)).collect::<Result<Vec<_>>>()?;
    Ok(expr::map_columns(&predicate, &|at| exprs.get(at).filter(|e| matches!(e, Expr::Column(_))).cloned()))
}

/// Whether the plan's rows have an order that projections do not change.
pub(super) fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(projection) => is_sorted(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_sorted(&alias.input),
        _ => false,
    }
}

fn conjuncts(predicate: Expr) -> Vec<Expr> {
    match predicate {
        Expr::Binary { op: BinaryOp::And, left, right } => [conjuncts(*left), conjuncts(*right)].concat(),
        other => vec![other],
    }
}

impl Places {
    /// Takes over a comparison of the rank with a constant; false for anything else.
    fn bound(&mut self, conjunct: &Expr, rank: usize) -> bool {
        let Expr::Binary { op, left, right } = conjunct else { return false };
        let (op, value) = match (is_rank(left, rank), number(right), number(left), is_rank(right, rank)) {
            (true, Some(value), _, _) => (*op, value),
            (_, _, Some(value), true) => (expr::turned(*op), value),
            _ => return false,
        };
        let at_least = |n: i128| u64::try_from(n.max(0)).unwrap_or(u64::MAX);
        let mut until = |n: i128| self.end = Some(self.end.unwrap_or(u64::MAX).min(at_least(n)));
        match op {
            BinaryOp::LtEq => until(value),
            BinaryOp::Lt => until(value - 1),
            BinaryOp::Eq => {
                until(value);
                self.offset = self.offset.max(at_least(value - 1));
            }
            BinaryOp::Gt => self.offset = self.offset.max(at_least(value)),
            BinaryOp::GtEq => self.offset = self.offset.max(at_least(value - 1)),
            _ => return false,
        }
        true
    }
}

fn is_rank(e: &Expr, rank: usize) -> bool {
    match e {
        Expr::Column(column) => *column == rank,
        Expr::Cast { expr, .. } => is_rank(expr, rank),
        _ => false,
    }
}

fn number(e: &Expr) -> Option<i128> {
    let Expr::Literal(literal) = e else { return None };
    match (&literal.value, &literal.ty) {
        (LiteralValue::Int(n), _) => Some(*n as i128),
        (LiteralValue::Decimal(digits), SqlType::Decimal { scale: 0, .. }) => digits.parse().ok(),
        _ => None,
    }
}
