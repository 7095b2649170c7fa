//! Joins: key expressions into projections below, both inputs to where rows with equal keys meet, and what is known of the
//! rows that come out. A join without an equality is taken only if one side has few rows, whatever comes.

use super::node::{Distribution, Facts, WindowColumn, WindowPart};
use super::{Lowering, columns_of, interval, keys};
use crate::error::from_datafusion;
use crate::expr;
use crate::plan::{
    AggregateCall, AggregateFunction, BinaryOp, ChangelogMode, Expr, JoinKind, JoinWindow, Literal, LiteralValue, Node, NodeId, Op,
    RankFunction, WindowKind,
};
use datafusion::common::{JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::{Expr as DfExpr, ExprSchemable, Join, LogicalPlan};
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlType};

/// How many rows one side of a join without an equality may have at most: with so many each change of the other side is compared.
const KEYLESS_ROWS_MAX: u64 = 1_000;

/// One side of a join while it is lowered.
pub(super) struct Input<'a> {
    pub plan: &'a LogicalPlan,
    pub node: NodeId,
    pub keys: Vec<usize>,
}

/// A join of two lowered inputs.
struct Condition {
    kind: JoinKind,
    nulls_equal: bool,
    /// Over the columns of both nodes.
    residual: Option<Expr>,
}

impl Lowering<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<NodeId> {
        if join.join_type == JoinType::Full && join.filter.as_ref().is_some_and(is_never_true) {
            return self.unmatched(join);
        }
        let (kind, swapped) = kind_of(join.join_type);
        let (left, right): (&LogicalPlan, &LogicalPlan) = if swapped { (&join.right, &join.left) } else { (&join.left, &join.right) };
        let on: Vec<(&DfExpr, &DfExpr)> = join.on.iter().map(|(l, r)| if swapped { (r, l) } else { (l, r) }).collect();
        let left = self.input(left, on.iter().map(|(l, _)| *l))?;
        let right = self.input(right, on.iter().map(|(_, r)| *r))?;
        let nulls_equal = join.null_equality == NullEquality::NullEqualsNull;
        let residual = match &join.filter {
            Some(filter) => self.residual(filter, &left, right.plan)?,
            None => None,
        };
        let columns = columns_of(&join.schema)?;
        let widths = [left.plan.schema().fields().len(), right.plan.schema().fields().len()];
        let offset = self.nodes[left.node].columns.len();
        let node = if join.null_aware {
            self.not_in(left, right, residual)?
        } else {
            self.joined(left, right, Condition { kind, nulls_equal, residual })?
        };
        let mut exprs: Vec<Expr> = (0..widths[0]).map(Expr::Column).collect();
        match kind {
            JoinKind::Semi | JoinKind::Anti => {}
            JoinKind::Mark => exprs.push(Expr::Column(offset)),
            _ => exprs.extend((offset..offset + widths[1]).map(Expr::Column)),
        }
        self.project(node, exprs, columns)
    }

    /// A full join on what is never true: the rows of both sides, with nulls in the other one's columns.
    fn unmatched(&mut self, join: &Join) -> Result<NodeId> {
        let columns = columns_of(&join.schema)?;
        let of_left = join.left.schema().fields().len();
        let mut sides = Vec::with_capacity(2);
        for (plan, own) in [(&join.left, 0..of_left), (&join.right, of_left..columns.len())] {
            let node = self.node(plan)?;
            let value = |(i, column): (usize, &Column)| match own.contains(&i) {
                true => Expr::Column(i - own.start),
                false => Expr::Literal(Literal { ty: column.ty.clone(), value: LiteralValue::Null }),
            };
            let exprs = columns.iter().enumerate().map(value).collect();
            sides.push(self.project(node, exprs, columns.clone())?);
        }
        let columns = if columns.is_empty() { self.nodes[sides[0]].columns.clone() } else { columns };
        Ok(self.union_node(sides, columns))
    }

    /// Lowers one side, with its key expressions as columns.
    pub(super) fn input<'a, 'b>(&mut self, plan: &'a LogicalPlan, keys: impl Iterator<Item = &'b DfExpr>) -> Result<Input<'a>> {
        let mut node = self.node(plan)?;
        if plan.schema().fields().is_empty() {
            node = self.project(node, vec![], vec![])?;
        }
        let mut columns = self.nodes[node].columns.clone();
        let mut exprs: Vec<Expr> = (0..columns.len()).map(Expr::Column).collect();
        let mut positions = Vec::new();
        for key in keys {
            let converted = expr::from_datafusion(key, plan.schema())?;
            let at = match exprs.iter().position(|e| *e == converted) {
                Some(at) => at,
                None => {
                    let field = key.to_field(plan.schema().as_ref()).map_err(|e| from_datafusion(e, None))?.1;
                    let ty = SqlType::from_field(&field)
                        .ok_or_else(|| SqlError::unsupported(format!("a join on type {} is not supported", field.data_type())))?;
                    exprs.push(converted);
                    columns.push(Column::new(field.name().clone(), ty, field.is_nullable()));
                    exprs.len() - 1
                }
            };
            positions.push(at);
        }
        let plain = self.nodes[node].columns.len();
        if exprs.len() > plain {
            let computed = exprs[plain..].to_vec();
            node = self.project(node, exprs, columns)?;
            self.note_wider_keys(node, plain, &computed);
        }
        self.check_columns(node)?;
        Ok(Input { plan, node, keys: positions })
    }

    /// A wider copy of a key's column tells rows apart as the column does. `computed` are the columns from `plain` on.
    fn note_wider_keys(&mut self, node: NodeId, plain: usize, computed: &[Expr]) {
        let Node { unique_keys, columns, .. } = &mut self.nodes[node];
        for (at, expr) in computed.iter().enumerate() {
            let widened = |key: &Vec<usize>| {
                let place = key.iter().position(|c| keys::keeps_apart(expr, *c, &columns[*c].ty))?;
                let mut key = key.clone();
                key[place] = plain + at;
                Some(key)
            };
            let more: Vec<Vec<usize>> = unique_keys.iter().filter_map(widened).collect();
            unique_keys.extend(more);
        }
    }

    /// A join keeps its rows by their columns.
    fn check_columns(&self, node: NodeId) -> Result<()> {
        match self.nodes[node].columns.iter().find(|c| matches!(c.ty, SqlType::Map(_, _))) {
            Some(column) => Err(SqlError::unsupported(format!("a join of rows with a column of type {} is not supported", column.ty))
                .with_hint(format!("Take the values out of \"{}\" before the join.", column.name))),
            None => Ok(()),
        }
    }

    /// The condition beyond the keys, over the columns of both nodes; `None` if it is always true.
    pub(super) fn residual(&self, filter: &DfExpr, left: &Input, right: &LogicalPlan) -> Result<Option<Expr>> {
        let schema = left.plan.schema().join(right.schema()).map_err(|e| from_datafusion(e, None))?;
        let over_schema = expr::from_datafusion(filter, &schema)?;
        if matches!(&over_schema, Expr::Literal(Literal { value: LiteralValue::Boolean(true), .. })) {
            return Ok(None);
        }
        if expr::reads_clock(&over_schema) {
            return Err(SqlError::unsupported("a join on the current time is not supported in a materialized view")
                .with_hint("Put the condition on now() into the SELECT that reads the view."));
        }
        let (of_left, offset) = (left.plan.schema().fields().len(), self.nodes[left.node].columns.len());
        let place = |column: usize| Some(Expr::Column(if column < of_left { column } else { column - of_left + offset }));
        Ok(expr::map_columns(&over_schema, &place))
    }

    fn joined(&mut self, left: Input, right: Input, condition: Condition) -> Result<NodeId> {
        let Condition { kind, nulls_equal, residual } = condition;
        if left.keys.is_empty() {
            self.check_bounded(&left, &right, kind, residual.is_some())?;
        }
        self.check_key_types(&left, &right)?;
        let window = self.window_of(&left, &right);
        let [left_node, right_node] = self.together(&left, &right, kind, nulls_equal);
        let keys = [left.keys, right.keys];
        let (l, r) = (&self.nodes[left_node], &self.nodes[right_node]);
        let append = l.mode == ChangelogMode::Append && r.mode == ChangelogMode::Append && matches!(kind, JoinKind::Inner | JoinKind::Semi);
        let facts = self.joined_facts(left_node, right_node, kind, window.as_ref());
        let interval = match window {
            Some(_) => None,
            None => {
                let [of_left, of_right] = [left_node, right_node].map(|node| self.times_of_rows(node));
                interval::of_join(residual.as_ref(), l.columns.len(), &keys, [&of_left, &of_right])
            }
        };
        let late_by = match &window {
            // What is late for a session was decided below.
            Some(window) if self.is_session(left_node, keys[0][window.end]) => None,
            Some(window) => Some([0, 1].map(|side| keys[side][window.end])),
            None => interval.map(|i| i.times),
        };
        let (columns, unique_keys) = (output_columns(l, r, kind), unique_keys([l, r], kind, &keys, late_by));
        let time_columns = match &window {
            Some(window) => self.window_times(left_node, right_node, kind, window, &keys),
            None => vec![],
        };
        self.windowed |= window.is_some();
        let node = Node {
            mode: if append { ChangelogMode::Append } else { ChangelogMode::Retract },
            columns,
            unique_keys,
            time_columns,
            inputs: vec![left_node, right_node],
            op: Op::Join { kind, keys, nulls_equal, residual, window, interval, state: self.ids.allocate() },
        };
        Ok(self.push(node, facts))
    }

    pub(super) fn check_key_types(&self, left: &Input, right: &Input) -> Result<()> {
        let type_of = |input: &Input, at: usize| self.nodes[input.node].columns[input.keys[at]].ty.clone();
        // Texts are compared as they are stored, whatever their lengths.
        if let Some(at) = (0..left.keys.len()).find(|at| type_of(left, *at).to_arrow() != type_of(right, *at).to_arrow()) {
            let message = format!("a join of type {} with type {} is not supported", type_of(left, at), type_of(right, at));
            return Err(SqlError::unsupported(message).with_hint("Cast one side to the type of the other."));
        }
        Ok(())
    }

    /// Without an equality every row of one side meets every row of the other: fine if one of them has few.
    fn check_bounded(&self, left: &Input, right: &Input, kind: JoinKind, conditional: bool) -> Result<()> {
        let decides_existence = !kind.shows_pairs() && !conditional;
        let few = |side: &Input| self.rows_max(side.node).is_some_and(|rows| rows <= KEYLESS_ROWS_MAX);
        if decides_existence || few(left) || few(right) {
            return Ok(());
        }
        Err(SqlError::unsupported("a join without an equality between its two sides is not supported in a materialized view")
            .with_detail("Every change of one side would have to be compared with all rows of the other one.")
            .with_hint(format!(
                "Add a condition a.x = b.y, or bound the rows of one side: by an aggregate without GROUP BY, by WHERE with its whole key equal to \
                 constants, by LIMIT or VALUES of at most {KEYLESS_ROWS_MAX} rows."
            )))
    }

    /// How many rows a node has at most, at any time; `None` if nothing says so.
    fn rows_max(&self, node: NodeId) -> Option<u64> {
        let Node { op, inputs, unique_keys, .. } = &self.nodes[node];
        let constants = &self.facts[node].constants;
        if unique_keys.iter().any(|key| key.iter().all(|c| constants[*c].is_some())) {
            return Some(1);
        }
        let of = |port: usize| self.rows_max(inputs[port]);
        match op {
            Op::Aggregate { group, .. } if group.is_empty() => Some(1),
            Op::Values { rows } => Some(rows.len() as u64),
            Op::TopN { partition, function: RankFunction::RowNumber, limit: Some(limit), .. } if partition.is_empty() => {
                Some(of(0).map_or(*limit, |rows| rows.min(*limit)))
            }
            Op::Filter { .. }
            | Op::TemporalFilter { .. }
            | Op::Project { .. }
            | Op::ProcessingTime { .. }
            | Op::PreAggregate { .. }
            | Op::Exchange { .. }
            | Op::JoinExchange { .. }
            | Op::Aggregate { .. }
            | Op::TopN { .. }
            | Op::Over { .. } => of(0),
            Op::Union => inputs.iter().try_fold(0u64, |sum, input| Some(sum.saturating_add(self.rows_max(*input)?))),
            Op::Join { kind, .. } if kind.shows_pairs() => {
                let (left, right) = (of(0)?, of(1)?);
                let pairs = left.saturating_mul(right);
                Some(match (kind.preserves(0), kind.preserves(1)) {
                    (false, false) => pairs,
                    (true, false) => pairs.max(left),
                    (false, true) => pairs.max(right),
                    (true, true) => pairs.max(left.saturating_add(right)),
                })
            }
            Op::Join { .. } => of(0),
            _ => None,
        }
    }

    /// Brings rows with equal keys to one worker: by those keys that one side is distributed by already, else by all.
    pub(super) fn together(&mut self, left: &Input, right: &Input, kind: JoinKind, nulls_equal: bool) -> [NodeId; 2] {
        let inputs = [left, right];
        let served = |input: &Input| match &self.facts[input.node].distribution {
            Distribution::Hash(columns) => columns.iter().map(|c| input.keys.iter().position(|k| k == c)).collect::<Option<Vec<usize>>>(),
            _ => None,
        };
        let positions = served(left).or_else(|| served(right)).unwrap_or_else(|| (0..left.keys.len()).collect());
        [0, 1].map(|side| {
            let input = inputs[side];
            let keys: Vec<usize> = positions.iter().map(|at| input.keys[*at]).collect();
            let wanted = Distribution::hash(&keys);
            if self.facts[input.node].distribution == wanted {
                return input.node;
            }
            let nullable = input.keys.iter().any(|k| self.nodes[input.node].columns[*k].nullable);
            // Only with all keys does a null among them say that the row matches nothing.
            let spread = kind.preserves(side) && !nulls_equal && nullable && keys == input.keys;
            let distribution = if spread { Distribution::Any } else { wanted };
            let facts = Facts { distribution, ..self.facts[input.node].clone() };
            let op = if spread { Op::JoinExchange { keys } } else { Op::Exchange { keys } };
            let node = Node { op, inputs: vec![input.node], ..self.nodes[input.node].clone() };
            self.push(node, facts)
        })
    }

    pub(super) fn joined_facts(&self, left: NodeId, right: NodeId, kind: JoinKind, window: Option<&JoinWindow>) -> Facts {
        let (l, r) = (&self.facts[left], &self.facts[right]);
        // Rows of the other side that match nothing have nulls for this one's columns.
        let padded = |side: usize| kind.shows_pairs() && kind.preserves(1 - side);
        let windows_of = |side: usize, facts: &Facts| {
            // Only rows of windows that are not closed change.
            let closes = window.is_some() && !padded(side);
            let bounded = |w: WindowColumn| WindowColumn { event_time: w.event_time && closes, ..w };
            facts.windows.iter().map(|w| w.map(bounded)).collect::<Vec<_>>()
        };
        let constants_of =
            |side: usize, facts: &Facts| if padded(side) { vec![None; facts.constants.len()] } else { facts.constants.clone() };
        let (mut windows, mut constants) = (windows_of(0, l), constants_of(0, l));
        if kind.shows_pairs() {
            windows.extend(windows_of(1, r));
            constants.extend(constants_of(1, r));
        }
        if kind == JoinKind::Mark {
            windows.push(None);
            constants.push(None);
        }
        let shifted = |d: &Distribution| d.project(&|c| Some(c + l.windows.len()));
        let distribution = match kind {
            JoinKind::Full => Distribution::Any,
            JoinKind::Right => shifted(&r.distribution),
            _ => l.distribution.clone(),
        };
        let unwatermarked = l.unwatermarked.clone().or_else(|| r.unwatermarked.clone());
        Facts { distribution, windows, constants, event_time: None, unwatermarked }
    }

    /// The time columns behind which a node's rows do not change once the watermark has passed. A window may change for as long as lateness is allowed, and a
    /// session that became shorter may end where the watermark has been.
    pub(super) fn times_of_rows(&self, node: NodeId) -> Vec<usize> {
        let is_settled = |w: &WindowColumn| self.emission.allowed_lateness == 0 && !matches!(w.kind, WindowKind::Session { .. });
        let windows = &self.facts[node].windows;
        self.nodes[node].time_columns.iter().copied().filter(|c| windows[*c].as_ref().is_none_or(is_settled)).collect()
    }

    /// The window that both sides are joined on, if that bounds the rows that can still match.
    fn window_of(&self, left: &Input, right: &Input) -> Option<JoinWindow> {
        let end_of = |input: &Input, at: usize| {
            let end = |w: &WindowColumn| w.part == WindowPart::End && w.event_time;
            self.facts[input.node].windows[input.keys[at]].filter(end)
        };
        let same = |end: usize| {
            let [l, r] = [end_of(left, end)?, end_of(right, end)?];
            (l.kind == r.kind).then_some((end, l.settles.max(r.settles)))
        };
        let (end, settles) = (0..left.keys.len()).find_map(same)?;
        Some(JoinWindow { end, allowed_lateness: self.emission.allowed_lateness.saturating_add(settles) })
    }

    /// Whether a column is of a session.
    fn is_session(&self, node: NodeId, column: usize) -> bool {
        self.facts[node].windows[column].is_some_and(|w| matches!(w.kind, WindowKind::Session { .. }))
    }

    /// Event time of a windowed join: the end and the time of the window, where they are not null.
    fn window_times(&self, left: NodeId, right: NodeId, kind: JoinKind, window: &JoinWindow, keys: &[Vec<usize>; 2]) -> Vec<usize> {
        let of_side = |node: NodeId, key: usize| {
            let id = self.facts[node].windows[key].map(|w| w.window);
            let still = move |c: &usize| self.facts[node].windows[*c].map(|w| w.window) == id && self.nodes[node].time_columns.contains(c);
            (0..self.nodes[node].columns.len()).filter(still).collect::<Vec<_>>()
        };
        let mut times = Vec::new();
        if !kind.shows_pairs() || !kind.preserves(1) {
            times.extend(of_side(left, keys[0][window.end]));
        }
        if kind.shows_pairs() && !kind.preserves(0) {
            let offset = self.nodes[left].columns.len();
            times.extend(of_side(right, keys[1][window.end]).into_iter().map(|c| c + offset));
        }
        times
    }

    /// `x NOT IN (SELECT k ...)`: rows that match nothing, if no k is null and x is not, or if there is no k at all.
    fn not_in(&mut self, left: Input, right: Input, residual: Option<Expr>) -> Result<NodeId> {
        if left.keys.len() != 1 || residual.is_some() {
            return Err(SqlError::internal("NOT IN compares more than one value"));
        }
        let key = right.keys[0];
        let column = self.nodes[right.node].columns[key].clone();
        let node = self.project(right.node, vec![Expr::Column(key)], vec![column])?;
        let state = self.null_state(node)?;
        let (x, offset) = (left.keys[0], self.nodes[left.node].columns.len());
        let anti = Condition { kind: JoinKind::Anti, nulls_equal: false, residual: None };
        let unmatched = self.joined(left, Input { plan: right.plan, node, keys: vec![0] }, anti)?;
        let (is_empty, no_nulls) = (Expr::Column(offset), Expr::Column(offset + 1));
        let known = expr::binary_of(BinaryOp::And, no_nulls, Expr::IsNotNull(Box::new(Expr::Column(x))));
        let residual = Some(expr::binary_of(BinaryOp::Or, is_empty, known));
        let [left, right] = [(unmatched, right.plan), (state, right.plan)].map(|(node, plan)| Input { plan, node, keys: vec![] });
        self.joined(left, right, Condition { kind: JoinKind::Inner, nulls_equal: false, residual })
    }

    /// One row over a node of one column: whether it has no rows, and whether none of them is null.
    fn null_state(&mut self, input: NodeId) -> Result<NodeId> {
        let source = self.exchanged(input, vec![]);
        let call = |argument| AggregateCall::new(AggregateFunction::Count, argument, SqlType::BigInt);
        let node = Node {
            op: Op::Aggregate { group: vec![], calls: vec![call(None), call(Some(0))], window: None, state: self.ids.allocate() },
            inputs: vec![source],
            columns: ["count", "count_not_null"].map(|name| Column::new(name, SqlType::BigInt, false)).to_vec(),
            mode: ChangelogMode::Retract,
            unique_keys: vec![vec![]],
            time_columns: vec![],
        };
        let counts = self.push(node, Facts::new(Distribution::Single, 2));
        let zero = Expr::Literal(Literal { ty: SqlType::BigInt, value: LiteralValue::Int(0) });
        let is_empty = expr::binary_of(BinaryOp::Eq, Expr::Column(0), zero);
        let no_nulls = expr::binary_of(BinaryOp::Eq, Expr::Column(0), Expr::Column(1));
        let columns = ["is_empty", "no_nulls"].map(|name| Column::new(name, SqlType::Boolean, false)).to_vec();
        self.project(counts, vec![is_empty, no_nulls], columns)
    }
}

/// What simplification leaves of `a = b AND 1 = 0`.
fn is_never_true(filter: &DfExpr) -> bool {
    matches!(filter, DfExpr::Literal(ScalarValue::Boolean(None | Some(false)), _))
}

/// Ours, and whether the sides change places.
fn kind_of(ty: JoinType) -> (JoinKind, bool) {
    match ty {
        JoinType::Inner => (JoinKind::Inner, false),
        JoinType::Left => (JoinKind::Left, false),
        JoinType::Right => (JoinKind::Right, false),
        JoinType::Full => (JoinKind::Full, false),
        JoinType::LeftSemi => (JoinKind::Semi, false),
        JoinType::RightSemi => (JoinKind::Semi, true),
        JoinType::LeftAnti => (JoinKind::Anti, false),
        JoinType::RightAnti => (JoinKind::Anti, true),
        JoinType::LeftMark => (JoinKind::Mark, false),
        JoinType::RightMark => (JoinKind::Mark, true),
    }
}

pub(super) fn output_columns(left: &Node, right: &Node, kind: JoinKind) -> Vec<Column> {
    let padded = |node: &Node, nullable: bool| {
        node.columns.iter().map(move |c| Column { nullable: c.nullable || nullable, ..c.clone() }).collect::<Vec<_>>()
    };
    match kind {
        JoinKind::Semi | JoinKind::Anti => left.columns.clone(),
        JoinKind::Mark => left.columns.iter().cloned().chain([Column::new("mark", SqlType::Boolean, false)]).collect(),
        _ => [padded(left, kind.preserves(1)), padded(right, kind.preserves(0))].concat(),
    }
}

/// A side whose rows each match one row of the other at most keeps its keys; else a key of each side together are one. `late_by`: the columns
/// by which rows of either side are late.
pub(super) fn unique_keys(sides: [&Node; 2], kind: JoinKind, keys: &[Vec<usize>; 2], late_by: Option<[usize; 2]>) -> Vec<Vec<usize>> {
    let lasting = |side: usize| match late_by {
        Some(times) => keys::without_late(sides[side], times[side]),
        None => sides[side].unique_keys.clone(),
    };
    let (of_left, of_right) = (lasting(0), lasting(1));
    if !kind.shows_pairs() {
        return of_left;
    }
    let offset = sides[0].columns.len();
    let shifted = |key: &Vec<usize>| key.iter().map(|c| c + offset).collect::<Vec<_>>();
    let is_unique = |of_side: &[Vec<usize>], side: usize| of_side.iter().any(|key| key.iter().all(|c| keys[side].contains(c)));
    let mut unique = Vec::new();
    // Rows of the other side that match nothing all have nulls for this one's columns.
    if is_unique(&of_right, 1) && !kind.preserves(1) {
        unique.extend(of_left.iter().cloned());
    }
    if is_unique(&of_left, 0) && !kind.preserves(0) {
        unique.extend(of_right.iter().map(shifted));
    }
    if unique.is_empty() {
        let known = |side: usize, key: &[usize]| key.iter().any(|c| !sides[side].columns[*c].nullable);
        for l in &of_left {
            for r in &of_right {
                // Two rows that match nothing, one of each side, look alike if all their key columns are null.
                if kind != JoinKind::Full || known(0, l) || known(1, r) {
                    unique.push([l.clone(), shifted(r)].concat());
                }
            }
        }
    }
    unique
}
