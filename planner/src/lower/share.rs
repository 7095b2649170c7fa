//! Sub-plans that a statement has more than once run once: nodes that do the same with the same inputs become one, which all
//! that read them read. A common table expression that is used twice, a window that is joined with its own maximum. Functions that give something
//! else each time are in no plan.

use crate::plan::{Node, NodeId, Op, StreamPlan};
use eddyline_common::StateTableId;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

/// The plan with every node once. What a shared node keeps is its first occurrence's, state table and names of columns.
pub(super) fn shared(plan: StreamPlan) -> StreamPlan {
    let StreamPlan { version, nodes, output } = plan;
    let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
    let mut stateless: Vec<Op> = Vec::with_capacity(nodes.len());
    let mut by_shape: HashMap<(Discriminant<Op>, Vec<NodeId>), Vec<NodeId>> = HashMap::new();
    let mut place: Vec<NodeId> = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        node.inputs.iter_mut().for_each(|input| *input = place[*input]);
        let mut op = node.op.clone();
        op.assign_state_tables(&mut || StateTableId(0));
        let alike = by_shape.entry((discriminant(&op), node.inputs.clone())).or_default();
        let same = |at: &&NodeId| stateless[**at] == op && is_same(&kept[**at], &node);
        match alike.iter().find(same) {
            Some(at) => place.push(*at),
            None => {
                alike.push(kept.len());
                place.push(kept.len());
                kept.push(node);
                stateless.push(op);
            }
        }
    }
    StreamPlan { version, nodes: kept, output: place[output] }
}

/// Nodes that do the same; they may call their columns otherwise.
fn is_same(a: &Node, b: &Node) -> bool {
    let types = |node: &Node| node.columns.iter().map(|c| (c.ty.clone(), c.nullable)).collect::<Vec<_>>();
    a.mode == b.mode && a.time_columns == b.time_columns && types(a) == types(b)
}
