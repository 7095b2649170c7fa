//! Aggregates: arguments into a projection below, an exchange by the group, and the window that bounds the
//! state if the group names one. DISTINCT is a group without calls. GROUPING SETS are in `grouping`, the calls in `calls`.

use super::calls::call;
use super::node::{Facts, WindowColumn, WindowPart};
use super::{Emission, Lowering, columns_of, keys, needs_watermark};
use crate::expr;
use crate::plan::{
    AggregateCall, AggregateWindow, BinaryOp, ChangelogMode, Emit, Expr, Literal, LiteralValue, Node, NodeId, Op, WindowKind,
};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Aggregate, Expr as DfExpr, ExprSchemable};
use eddyline_common::time::MICROS_PER_MILLI;
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlState, SqlType};

/// The columns an aggregate reads, as they are collected: group expressions first.
#[derive(Default)]
pub(super) struct Inputs {
    pub exprs: Vec<Expr>,
    pub columns: Vec<Column>,
}

impl Inputs {
    /// All columns as they are.
    pub fn of(columns: &[Column]) -> Self {
        Inputs { exprs: (0..columns.len()).map(Expr::Column).collect(), columns: columns.to_vec() }
    }

    /// The position of an expression, added if it is new.
    pub fn add(&mut self, expr: Expr, column: Column) -> usize {
        match self.exprs.iter().position(|e| *e == expr) {
            Some(at) => at,
            None => {
                self.exprs.push(expr);
                self.columns.push(column);
                self.exprs.len() - 1
            }
        }
    }

    pub fn add_df(&mut self, e: &DfExpr, schema: &DFSchema) -> Result<usize> {
        let converted = expr::from_datafusion(e, schema)?;
        let field = e.to_field(schema).map_err(|e| crate::error::from_datafusion(e, None))?.1;
        let ty =
            SqlType::from_field(&field).ok_or_else(|| SqlError::unsupported(format!("type {} is not supported", field.data_type())))?;
        Ok(self.add(converted, Column::new(field.name().clone(), ty, field.is_nullable())))
    }

    /// The same of an expression whose values are compared.
    pub fn add_key(&mut self, e: &DfExpr, schema: &DFSchema) -> Result<usize> {
        let at = self.add_df(e, schema)?;
        check_key_type(&self.columns[at])?;
        Ok(at)
    }

    /// The same of several, each position once.
    pub fn add_keys(&mut self, exprs: &[DfExpr], schema: &DFSchema) -> Result<Vec<usize>> {
        let mut keys = Vec::new();
        for e in exprs {
            let at = self.add_key(e, schema)?;
            if !keys.contains(&at) {
                keys.push(at);
            }
        }
        Ok(keys)
    }
}

/// The column by which a group's window closes.
#[derive(Clone, Copy)]
struct WindowEnd {
    /// Within the group; behind its last column if the group does not name it.
    position: usize,
    /// Among the inputs.
    column: usize,
    facts: WindowColumn,
}

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<NodeId> {
        let input = self.node(&aggregate.input)?;
        if let [DfExpr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
            return self.grouping_sets(input, aggregate, sets);
        }
        let schema = aggregate.input.schema();
        let mut inputs = Inputs::default();
        let group = aggregate.group_expr.iter().map(|e| inputs.add_key(e, schema)).collect::<Result<Vec<_>>>()?;
        let mut calls = Vec::new();
        let output = columns_of(&aggregate.schema)?;
        for (i, e) in aggregate.aggr_expr.iter().enumerate() {
            calls.push(call(e, schema, &mut inputs, output[group.len() + i].ty.clone())?);
        }
        self.grouped(input, inputs, group, calls, &output)
    }

    /// An aggregate over expressions of the input: those of the group, and the calls' arguments.
    pub(super) fn grouped(
        &mut self,
        input: NodeId,
        mut inputs: Inputs,
        mut group: Vec<usize>,
        mut calls: Vec<AggregateCall>,
        output: &[Column],
    ) -> Result<NodeId> {
        let window = self.group_window(input, &group, &mut inputs)?;
        let added = window.filter(|w| w.position == group.len());
        group.extend(added.map(|w| w.column));
        let input = self.projected(input, inputs)?;
        if let Some(end) = added {
            self.facts[input].windows[end.column] = Some(end.facts);
        }
        let keys = self.group_keys(input, &group);
        let routing = keys[0].iter().map(|i| group[*i]).collect();
        let window = window.map(|w| self.closing(w.position, &w.facts));
        self.windowed |= window.is_some();
        let input = self.exchanged_for(input, routing, &group, &mut calls, window)?;
        let node = self.aggregate_node(input, group, calls, window, output, keys);
        if added.is_some() { self.without_added_end(node, output) } else { Ok(node) }
    }

    /// How a window closes whose end is at a position of a group or partition. The rows of a session that is shown when it closes come then, and stay.
    pub(super) fn closing(&self, end: usize, window: &WindowColumn) -> AggregateWindow {
        let Emission { emit, allowed_lateness, .. } = self.emission;
        let settles = if emit == Emit::Changes { window.settles } else { 0 };
        let session = matches!(window.kind, WindowKind::Session { .. });
        AggregateWindow { end, emit, allowed_lateness: allowed_lateness.saturating_add(settles), session }
    }

    pub(super) fn aggregate_node(
        &mut self,
        input: NodeId,
        group: Vec<usize>,
        calls: Vec<AggregateCall>,
        window: Option<AggregateWindow>,
        output: &[Column],
        unique_keys: Vec<Vec<usize>>,
    ) -> NodeId {
        let source = &self.nodes[input];
        let plain = output.len() - calls.len();
        let mut columns: Vec<Column> = output[..plain].to_vec();
        columns.extend(group[plain..].iter().map(|g| source.columns[*g].clone()));
        columns.extend_from_slice(&output[plain..]);
        let on_close = window.is_some_and(|w| w.emit == Emit::OnClose);
        // The first row of a group adds it, and nothing takes it back if rows only come.
        let distinct_of_append = calls.is_empty() && source.mode == ChangelogMode::Append;
        let facts = &self.facts[input];
        let mut windows: Vec<Option<WindowColumn>> = group.iter().map(|g| facts.windows[*g]).collect();
        let still_event_time = |w: &WindowColumn| window.is_some() && w.event_time && w.part != WindowPart::Start;
        let time_columns = (0..group.len()).filter(|i| windows[*i].as_ref().is_some_and(still_event_time)).collect();
        windows.resize(columns.len(), None);
        let mut constants: Vec<Option<Literal>> = group.iter().map(|g| facts.constants[*g].clone()).collect();
        constants.resize(columns.len(), None);
        let to_output = |c: usize| group.iter().position(|g| *g == c);
        let facts = Facts {
            distribution: facts.distribution.project(&to_output),
            windows,
            constants,
            event_time: None,
            unwatermarked: facts.unwatermarked.clone(),
        };
        let node = Node {
            mode: if on_close || distinct_of_append { ChangelogMode::Append } else { ChangelogMode::Retract },
            unique_keys,
            time_columns,
            columns,
            inputs: vec![input],
            op: Op::Aggregate { group, calls, window, state: self.ids.allocate() },
        };
        self.push(node, facts)
    }

    /// The group's keys as positions within it. Start, end and time of a window follow from each other (but many windows of
    /// CUMULATE have one start, and sessions only with their partition), so one of them is enough; the shortest keys come first.
    fn group_keys(&self, input: NodeId, group: &[usize]) -> Vec<Vec<usize>> {
        let windows: Vec<Option<WindowColumn>> = group.iter().map(|g| self.facts[input].windows[*g]).collect();
        let constants: Vec<Option<Literal>> = group.iter().map(|g| self.facts[input].constants[*g].clone()).collect();
        let Some(window) = windows.iter().flatten().next().map(|w| w.window) else {
            return keys::without_constants(&[(0..group.len()).collect()], &constants);
        };
        let of_window: Vec<usize> = (0..group.len()).filter(|i| windows[*i].is_some_and(|w| w.window == window)).collect();
        let tells = |i: &&usize| windows[**i].is_some_and(|w| w.tells());
        let without_others = |keep: &usize| (0..group.len()).filter(|i| i == keep || !of_window.contains(i)).collect();
        let found: Vec<Vec<usize>> = of_window.iter().filter(tells).map(without_others).collect();
        keys::without_constants(&if found.is_empty() { vec![(0..group.len()).collect()] } else { found }, &constants)
    }

    /// Takes away the window end that was added to the group for the sake of its state.
    fn without_added_end(&mut self, input: NodeId, output: &[Column]) -> Result<NodeId> {
        let width = self.nodes[input].columns.len();
        let calls = match &self.nodes[input].op {
            Op::Aggregate { calls, .. } => calls.len(),
            _ => 0,
        };
        let end = width - calls - 1;
        let exprs = (0..width).filter(|i| *i != end).map(Expr::Column).collect();
        self.project(input, exprs, output.to_vec())
    }

    /// The end of a group's window. It is added to the inputs if the group names only start or time.
    fn group_window(&mut self, input: NodeId, group: &[usize], inputs: &mut Inputs) -> Result<Option<WindowEnd>> {
        let facts = &self.facts[input];
        let of = |at: usize| match inputs.exprs[at] {
            Expr::Column(column) => facts.windows[column].map(|w| (w, column)),
            _ => None,
        };
        let named: Vec<(usize, WindowColumn, usize)> =
            group.iter().enumerate().filter_map(|(i, at)| of(*at).map(|(w, column)| (i, w, column))).collect();
        let Some((_, window, column)) = named.first() else { return Ok(None) };
        if !window.event_time {
            if self.emission.emit == Emit::OnClose || facts.unwatermarked.is_some() {
                let error = needs_watermark(&self.nodes[input].columns[*column].name, facts.unwatermarked.as_deref());
                self.never_closes = facts.unwatermarked.is_none();
                return Err(error);
            }
            return Ok(None);
        }
        if let Some((position, facts, _)) = named.iter().find(|(_, w, _)| w.part == WindowPart::End) {
            return Ok(Some(WindowEnd { position: *position, column: group[*position], facts: *facts }));
        }
        // A group may name the start of one window and the time of another; the one that says more comes first.
        let (window, column) = named.iter().find(|(_, w, _)| w.part == WindowPart::Time).map_or((window, column), |(_, w, c)| (w, c));
        let by = match (window.part, window.kind) {
            (WindowPart::Time, _) => MICROS_PER_MILLI,
            (_, WindowKind::Tumble { size, .. } | WindowKind::Hop { size, .. }) => size,
            // The start alone stands for windows that close one after the other.
            (_, WindowKind::Cumulate { .. } | WindowKind::Session { .. }) if self.emission.emit == Emit::OnClose => {
                self.never_closes = true;
                return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, "grouping by the start of such a window alone never closes")
                    .with_hint("Group by window_start and window_end."));
            }
            (_, WindowKind::Cumulate { .. } | WindowKind::Session { .. }) => return Ok(None),
        };
        let interval = Literal { ty: SqlType::Interval, value: LiteralValue::Interval { months: 0, days: 0, nanos: by * 1_000 } };
        let end = expr::binary_of(BinaryOp::Plus, Expr::Column(*column), Expr::Literal(interval));
        let ty = self.nodes[input].columns[*column].ty.clone();
        let added = inputs.add(end, Column::new("window_end", ty, true));
        Ok(Some(WindowEnd { position: group.len(), column: added, facts: WindowColumn { part: WindowPart::End, ..*window } }))
    }

    /// The collected inputs as columns: a projection, unless they are the input's first columns already.
    fn projected(&mut self, input: NodeId, inputs: Inputs) -> Result<NodeId> {
        if inputs.exprs.is_empty() {
            return Ok(input);
        }
        self.project(input, inputs.exprs, inputs.columns)
    }
}

fn check_key_type(column: &Column) -> Result<()> {
    if matches!(column.ty, SqlType::Struct(_) | SqlType::Map(_, _)) {
        return Err(SqlError::unsupported(format!("grouping by \"{}\" of type {} is not supported", column.name, column.ty))
            .with_hint("Group by its fields."));
    }
    Ok(())
}
