//! The streaming plan: what a job runs, and what is persisted and run again after a restart. Data only:
//! nodes in topological order, expressions as our own durable tree. It knows neither SQL text nor how
//! anything is executed. Changing its meaning means raising `PLAN_VERSION`.
//!
//! - `op`: the operators
//! - `join`, `window`, `aggregate`, `over`, `match_recognize`: what these are made of
//! - `expr`: scalar expressions and constants

mod aggregate;
mod expr;
mod join;
mod match_recognize;
mod op;
mod over;
mod window;

pub use aggregate::{AggregateCall, AggregateFunction, Merge, OrderKey};
pub use expr::{BinaryOp, Expr, Literal, LiteralValue};
pub use join::{JoinInterval, JoinKind, JoinWindow};
pub use match_recognize::{MatchPattern, MatchSkip, MatchValue, MatchValueOf, MatchVariable};
pub use op::{Op, TimeBound};
pub use over::{Frame, FrameBound, FrameUnit, OverCall, OverFunction, RankFunction};
pub use window::{AggregateWindow, Emit, LateRows, WindowKind};

use crate::expr::{reads_arrival, reads_clock};
use eddyline_common::types::Column;
use eddyline_common::{RelationId, StateTableId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub const PLAN_VERSION: u32 = 1;

/// Index into `StreamPlan::nodes`; inputs always have smaller indices.
pub type NodeId = usize;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamPlan {
    pub version: u32,
    pub nodes: Vec<Node>,
    /// Always the last node, a `Materialize` or a `Sink`.
    pub output: NodeId,
    /// Operators that forget what was not touched for a time, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_ttl: Vec<StateTtl>,
}

/// How long an operator keeps what is not touched: groups, partitions, and rows of a join. Once it has forgotten some, it takes
/// retractions of rows that it does not know, and so does all that is above it. A view that is identified by a key then
/// overwrites a key's row by what comes for it anew.
///
/// Time is the step's `now`. For what is forgotten to follow from the cuts alone, such a job, and those it reads, take one cut in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateTtl {
    pub node: NodeId,
    /// Microseconds, of the state of each input; `None`: it is kept.
    pub micros: [Option<i64>; 2],
}

impl StreamPlan {
    /// Whether its operators may forget rows that were not taken back.
    pub fn forgets(&self) -> bool {
        !self.state_ttl.is_empty()
    }

    /// How long a node keeps what comes from each of its inputs.
    pub fn ttl_of(&self, node: NodeId) -> [Option<i64>; 2] {
        self.state_ttl.iter().find(|ttl| ttl.node == node).map_or([None; 2], |ttl| ttl.micros)
    }

    /// Whether what it shows depends on `now`.
    pub fn reads_clock(&self) -> bool {
        self.nodes.iter().any(|node| match &node.op {
            Op::TemporalFilter { .. } => true,
            Op::Filter { predicate } => reads_clock(predicate),
            Op::Project { exprs } => exprs.iter().any(reads_clock),
            _ => false,
        })
    }

    /// Whether what it shows depends on the watermark under which rows arrived.
    pub fn reads_arrival(&self) -> bool {
        self.nodes.iter().any(|node| match &node.op {
            Op::Filter { predicate } => reads_arrival(predicate),
            Op::Project { exprs } => exprs.iter().any(reads_arrival),
            _ => false,
        })
    }

    /// Its result depends on when its rows arrived, so reading them again gives another one.
    pub fn reads_history(&self) -> bool {
        let reads =
            |op: &Op| matches!(op, Op::LookupJoin { .. } | Op::ExternalLookup { .. } | Op::TemporalJoin { .. } | Op::ProcessingTime { .. });
        self.nodes.iter().any(|node| reads(&node.op))
    }

    /// The relations that must be read to their end before rows that are looked up in them.
    pub fn looked_up(&self) -> Vec<RelationId> {
        let mut nodes: Vec<NodeId> = self.nodes.iter().filter(|n| matches!(n.op, Op::LookupJoin { .. })).map(|n| n.inputs[1]).collect();
        let mut relations = Vec::new();
        while let Some(node) = nodes.pop() {
            if let Op::Scan { relation, .. } = self.nodes[node].op {
                relations.push(relation);
            }
            nodes.extend(&self.nodes[node].inputs);
        }
        relations
    }

    pub fn output_node(&self) -> &Node {
        &self.nodes[self.output]
    }

    /// The tables its operators keep their state in.
    pub fn state_tables(&self) -> Vec<StateTableId> {
        self.nodes.iter().flat_map(|node| node.op.state_tables()).collect()
    }

    /// The stored columns of a relation that this plan reads.
    pub fn columns_of(&self, read: RelationId) -> BTreeSet<usize> {
        let of = |node: &Node| match &node.op {
            Op::Scan { relation, projection } if *relation == read => projection.clone(),
            _ => Vec::new(),
        };
        self.nodes.iter().flat_map(of).collect()
    }

    /// Gives relations that this plan reads, or looks rows up in, other ids.
    pub fn rename_inputs(&mut self, ids: &BTreeMap<RelationId, RelationId>) {
        for node in &mut self.nodes {
            if let Op::Scan { relation, .. } | Op::ExternalLookup { relation, .. } = &mut node.op
                && let Some(id) = ids.get(relation)
            {
                *relation = *id;
            }
        }
    }

    /// The tables outside that rows are looked up in, each once.
    pub fn external(&self) -> BTreeSet<RelationId> {
        let of = |node: &Node| if let Op::ExternalLookup { relation, .. } = node.op { Some(relation) } else { None };
        self.nodes.iter().filter_map(of).collect()
    }

    /// The relations this plan reads, each once, in order of first use.
    pub fn inputs(&self) -> Vec<RelationId> {
        let mut inputs = Vec::new();
        for node in &self.nodes {
            if let Op::Scan { relation, .. } = &node.op
                && !inputs.contains(relation)
            {
                inputs.push(*relation);
            }
        }
        inputs
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<NodeId>,
    /// The columns this node emits.
    pub columns: Vec<Column>,
    pub mode: ChangelogMode,
    /// Derived unique keys, each a set of column indices. Never from a NOT ENFORCED declaration.
    pub unique_keys: Vec<Vec<usize>>,
    /// Columns that are event time: the node's watermark bounds them from below.
    pub time_columns: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangelogMode {
    /// Only insertions: every weight is +1, or more behind a `PreAggregate`.
    Append,
    /// Insertions and retractions.
    Retract,
}
