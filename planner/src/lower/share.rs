//! Sub-plans that a statement has more than once run once: nodes that do the same with the same inputs become one, which all
//! that read them read. A common table expression that is used twice, a window that is joined with its own maximum. Functions that give something
//! else each time are in no plan.

use crate::plan::{Node, NodeId, Op, StateTtl, StreamPlan};
use eddyline_common::StateTableId;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

/// The plan with every node once. What a shared node keeps is its first occurrence's, state table and names of columns.
pub(super) fn shared(plan: StreamPlan) -> StreamPlan {
    let ttls: Vec<[Option<i64>; 2]> = (0..plan.nodes.len()).map(|node| plan.ttl_of(node)).collect();
    let StreamPlan { version, nodes, output, state_ttl } = plan;
    let mut first: Vec<NodeId> = Vec::with_capacity(nodes.len());
    let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
    let mut stateless: Vec<Op> = Vec::with_capacity(nodes.len());
    let mut by_shape: HashMap<(Discriminant<Op>, Vec<NodeId>), Vec<NodeId>> = HashMap::new();
    let mut place: Vec<NodeId> = Vec::with_capacity(nodes.len());
    for (id, mut node) in nodes.into_iter().enumerate() {
        node.inputs.iter_mut().for_each(|input| *input = place[*input]);
        let mut op = node.op.clone();
        op.assign_state_tables(&mut || StateTableId(0));
        let alike = by_shape.entry((discriminant(&op), node.inputs.clone())).or_default();
        let same = |at: &&NodeId| stateless[**at] == op && ttls[first[**at]] == ttls[id] && is_same(&kept[**at], &node);
        match alike.iter().find(same) {
            Some(at) => place.push(*at),
            None => {
                alike.push(kept.len());
                place.push(kept.len());
                first.push(id);
                kept.push(node);
                stateless.push(op);
            }
        }
    }
    let state_ttl = state_ttl.into_iter().filter(|ttl| first[place[ttl.node]] == ttl.node);
    let state_ttl = state_ttl.map(|ttl| StateTtl { node: place[ttl.node], ..ttl }).collect();
    StreamPlan { version, nodes: kept, output: place[output], state_ttl }
}

/// Nodes that do the same; they may call their columns otherwise.
fn is_same(a: &Node, b: &Node) -> bool {
    let types = |node: &Node| node.columns.iter().map(|c| (c.ty.clone(), c.nullable)).collect::<Vec<_>>();
    a.mode == b.mode && a.time_columns == b.time_columns && types(a) == types(b)
}
