//! Session windows: rows exchanged by their partition, then the operator that keeps the rows of open sessions.

use super::aggregate::Inputs;
use super::node::{WindowColumn, WindowPart};
use super::{Emission, Lowering, columns_of, keys, needs_watermark, of_clock};
use crate::bind::session::SessionAssign;
use crate::expr;
use crate::plan::{ChangelogMode, Emit, Expr, Node, NodeId, Op, WindowKind};
use eddyline_common::Result;
use eddyline_common::types::Column;

impl Lowering<'_> {
    pub(super) fn session(&mut self, session: &SessionAssign) -> Result<NodeId> {
        let input = self.node(&session.input)?;
        let schema = session.input.schema();
        let time_column = expr::position(&session.time, schema)?;
        let input = self.processing_time(input, time_column, &session.input, &session.time);
        let source = &self.nodes[input];
        if !source.time_columns.contains(&time_column) {
            let error = needs_watermark(&source.columns[time_column].name, self.facts[input].unwatermarked.as_deref());
            return Err(of_clock(error, &session.time, &session.input));
        }
        let width = source.columns.len();
        let mut inputs = Inputs::of(&source.columns);
        let partition = inputs.add_keys(&session.partition, schema)?;
        let all = inputs.columns.len();
        let input = self.project(input, inputs.exprs, inputs.columns)?;
        let input = self.exchanged(input, partition.clone());
        let node = self.session_node(input, partition, time_column, session);
        if all == width {
            return Ok(node);
        }
        let columns = columns_of(session.output())?;
        self.project(node, (0..width).chain(all..all + 3).map(Expr::Column).collect(), columns)
    }

    fn session_node(&mut self, input: NodeId, partition: Vec<usize>, time_column: usize, session: &SessionAssign) -> NodeId {
        let Emission { emit, allowed_lateness, .. } = self.emission;
        let source = &self.nodes[input];
        let (width, ty) = (source.columns.len(), source.columns[time_column].ty.clone());
        let mut columns = source.columns.clone();
        columns.extend(session.names.iter().map(|name| Column::new(*name, ty.clone(), true)));
        let unique_keys = keys::without_late(source, time_column);
        let settles = if source.mode == ChangelogMode::Retract { session.gap } else { 0 };
        let kind = WindowKind::Session { gap: session.gap };
        let mut facts = self.facts[input].clone();
        // Rows are shown again when their session changes, whatever their time.
        facts.event_time = None;
        facts.windows.iter_mut().flatten().for_each(|w| w.event_time = false);
        let window = self.new_window();
        let part = |part| Some(WindowColumn { window, part, kind, event_time: true, settles });
        facts.windows.extend([part(WindowPart::Start), part(WindowPart::End), part(WindowPart::Time)]);
        facts.constants.extend([None, None, None]);
        let node = Node {
            mode: if emit == Emit::OnClose { ChangelogMode::Append } else { ChangelogMode::Retract },
            inputs: vec![input],
            columns,
            unique_keys,
            time_columns: vec![width + 1, width + 2],
            op: Op::SessionAssign { partition, time_column, gap: session.gap, emit, allowed_lateness, state: self.ids.allocate() },
        };
        self.push(node, facts)
    }
}
