//! UNION ALL: what its inputs have in common.

use super::node::{Distribution, Facts, WindowColumn};
use super::{Lowering, columns_of, keys};
use crate::plan::{ChangelogMode, Literal, Node, NodeId, Op};
use datafusion::logical_expr::Union;
use eddyline_common::Result;
use eddyline_common::types::Column;

impl Lowering<'_> {
    pub(super) fn union(&mut self, union: &Union) -> Result<NodeId> {
        let columns = columns_of(&union.schema)?;
        let mut inputs = Vec::new();
        for plan in &union.inputs {
            let mut input = self.node(plan)?;
            if columns.is_empty() {
                input = self.project(input, vec![], vec![])?;
            }
            inputs.push(input);
        }
        let columns = if columns.is_empty() { self.nodes[inputs[0]].columns.clone() } else { columns };
        Ok(self.union_node(inputs, columns))
    }

    pub(super) fn union_node(&mut self, inputs: Vec<NodeId>, columns: Vec<Column>) -> NodeId {
        let first = self.facts[inputs[0]].clone();
        let windows = self.union_windows(&inputs, columns.len());
        let each: Vec<&[Option<Literal>]> = inputs.iter().map(|i| self.facts[*i].constants.as_slice()).collect();
        let input_keys: Vec<&[Vec<usize>]> = inputs.iter().map(|i| self.nodes[*i].unique_keys.as_slice()).collect();
        let all = |test: &dyn Fn(NodeId) -> bool| inputs.iter().all(|i| test(*i));
        let facts = Facts {
            distribution: if all(&|i| self.facts[i].distribution == first.distribution) { first.distribution } else { Distribution::Any },
            windows,
            constants: keys::common_constants(&each, columns.len()),
            event_time: None,
            unwatermarked: inputs.iter().find_map(|i| self.facts[*i].unwatermarked.clone()),
        };
        let retract = inputs.iter().any(|i| self.nodes[*i].mode == ChangelogMode::Retract);
        let time_columns = (0..columns.len()).filter(|c| all(&|i| self.nodes[i].time_columns.contains(c))).collect();
        let node = Node {
            op: Op::Union,
            columns,
            mode: if retract { ChangelogMode::Retract } else { ChangelogMode::Append },
            unique_keys: keys::of_union(&input_keys, &each).into_iter().collect(),
            time_columns,
            inputs,
        };
        self.push(node, facts)
    }

    /// The window columns of a union: those that are the same part of the same kind of window in every input.
    fn union_windows(&mut self, inputs: &[NodeId], width: usize) -> Vec<Option<WindowColumn>> {
        let mut merged: Vec<(Vec<usize>, usize)> = Vec::new();
        let mut windows = Vec::with_capacity(width);
        for column in 0..width {
            let each: Option<Vec<WindowColumn>> = inputs.iter().map(|i| self.facts[*i].windows.get(column).copied().flatten()).collect();
            let Some(each) = each.filter(|e| e.iter().all(|w| WindowColumn { window: e[0].window, settles: e[0].settles, ..*w } == e[0]))
            else {
                windows.push(None);
                continue;
            };
            let ids: Vec<usize> = each.iter().map(|w| w.window).collect();
            let window = match merged.iter().find(|(known, _)| *known == ids) {
                Some((_, window)) => *window,
                None => {
                    let window = self.new_window();
                    merged.push((ids, window));
                    window
                }
            };
            let settles = each.iter().map(|w| w.settles).fold(0, i64::max);
            windows.push(Some(WindowColumn { window, settles, ..each[0] }));
        }
        windows
    }
}
