//! The streaming plan: what a job runs, and what is persisted and run again after a restart. Data only:
//! nodes in topological order, expressions as our own durable tree. It knows neither SQL text nor how
//! anything is executed. Changing its meaning means raising `PLAN_VERSION`.

use crate::expr::{reads_arrival, reads_clock};
use eddyline_common::types::{Column, SqlType};
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// The changelog of a source, table or materialized view, `projection` of its stored columns.
    /// The node's watermark is the relation's.
    Scan {
        relation: RelationId,
        projection: Vec<usize>,
    },
    /// Constant rows, emitted once, in the job's first step. The watermark is +infinity.
    Values {
        rows: Vec<Vec<Literal>>,
    },
    Filter {
        predicate: Expr,
    },
    /// The rows for which `from <= now < until` holds at the epoch's `now`: a row comes and goes as time passes. A null in a bound
    /// says never. The input is exchanged by (a subset of) its columns, so that a row and its retraction meet.
    TemporalFilter {
        /// All of them are in the past, or present.
        from: Vec<TimeBound>,
        /// All of them are to come.
        until: Vec<TimeBound>,
        state: StateTableId,
    },
    Project {
        exprs: Vec<Expr>,
    },
    /// Passes rows on with processing time in the place of event time: `column` is the row's `now`, and the node's watermark the epoch's.
    ProcessingTime {
        column: usize,
    },
    /// Appends `window_start`, `window_end`, `window_time` (= end - 1 ms) to each row, once per window
    /// that covers `time_column`; rows whose time is null are rejected.
    WindowAssign {
        time_column: usize,
        kind: WindowKind,
    },
    /// Appends the bounds of the session that each row is in: rows of a partition, each less than `gap` after the one before
    /// it; rows whose time is null are rejected. A row is late if it alone would be a session that had ended, with the lateness,
    /// by its arrival watermark. A session is closed when the watermark rises to its end plus the lateness or beyond. Its input is exchanged by (a subset of) `partition`, or is on one worker when that is empty.
    SessionAssign {
        partition: Vec<usize>,
        time_column: usize,
        /// Microseconds, as is the lateness.
        gap: i64,
        emit: Emit,
        allowed_lateness: i64,
        state: StateTableId,
    },
    /// A row for each element of its arrays `lists`, which go side by side, the shorter ones filled with nulls; other columns stay. None
    /// for a row without elements.
    Unnest {
        lists: Vec<usize>,
    },
    /// Sends each row to the worker that owns the hash of the key columns.
    Exchange {
        keys: Vec<usize>,
    },
    Union,
    /// Emits per group: the group columns, then one column per call. Emits net changes once per
    /// step. Its input is exchanged by (a subset of) `group`, or is on one worker when `group` is empty; an
    /// empty `group` always has exactly one output row.
    Aggregate {
        group: Vec<usize>,
        calls: Vec<AggregateCall>,
        window: Option<AggregateWindow>,
        state: StateTableId,
    },
    /// Makes few rows of many, each worker of its own ones, before they are exchanged for an `Aggregate`: rows that are equal in `keys` become one
    /// or two that add as much to it in the columns `merged`; other columns have the value of any of them. `window`: rows that are late for it
    /// stay as they are.
    PreAggregate {
        keys: Vec<usize>,
        merged: Vec<(usize, Merge)>,
        window: Option<LateRows>,
    },
    /// The rows at some places of their partition's order: those after `offset`, `limit` of them. Rows that are equal in
    /// `order` are ordered by all their columns. Emits the input's columns, and the place as a bigint with `with_rank`. Its
    /// input is exchanged by (a subset of) `partition`, or is on one worker when that is empty.
    TopN {
        partition: Vec<usize>,
        order: Vec<OrderKey>,
        function: RankFunction,
        offset: u64,
        limit: Option<u64>,
        with_rank: bool,
        /// The partition's first column is the end of a window; see `AggregateWindow`.
        window: Option<AggregateWindow>,
        state: StateTableId,
    },
    /// Appends to each row what `calls` give for it, over the rows of its partition in this order. Rows that are equal in `order`
    /// are ordered by all their columns, but are peers. Its input is exchanged by (a subset of) `partition`, or is on one
    /// worker when that is empty.
    Over {
        partition: Vec<usize>,
        order: Vec<OrderKey>,
        calls: Vec<OverCall>,
        /// The partition's first column is the end of a window; see `AggregateWindow`.
        window: Option<AggregateWindow>,
        state: StateTableId,
    },
    /// Joins its inputs, 0 the left one and 1 the right one, on equality of `keys` and on `residual`, a condition over the
    /// left columns and then the right ones. Emits net changes once per step. A key with a null in it equals nothing,
    /// itself neither, unless `nulls_equal`. Rows with equal keys are on one worker, of both inputs on the same: each input is
    /// exchanged by the same positions of its keys, or `keys` are empty and both are on one worker.
    Join {
        kind: JoinKind,
        keys: [Vec<usize>; 2],
        nulls_equal: bool,
        residual: Option<Expr>,
        window: Option<JoinWindow>,
        interval: Option<JoinInterval>,
        state: StateTableId,
    },
    /// Joins each row of input 0, which only grows, with the rows of input 1 that are there when it arrives; what comes of it stays. `kind`
    /// is Inner or Left; keys, residual and distribution are as in `Join`. A row's `now` says which changes of input 1 were before
    /// it, those of its own cut among them. The node's watermark is that of input 0.
    LookupJoin {
        kind: JoinKind,
        keys: [Vec<usize>; 2],
        residual: Option<Expr>,
        state: StateTableId,
    },
    /// Joins each row with the rows of a table outside that has them under its key, asked for when the row comes. Emits the input's
    /// columns and then `columns` of the table's, once per step. `keys` are columns of the input and those of the table that they are equal to;
    /// `kind` is Inner or Left; `residual` is over what is emitted. The answers are not the cuts': rows that are equal in all columns share
    /// those of the first of them, and in `Retract` mode `state` keeps them until all of these rows are taken back. The input is exchanged by
    /// (a subset of) its keys, or rows with a null among them lie anywhere.
    ExternalLookup {
        relation: RelationId,
        columns: Vec<usize>,
        kind: JoinKind,
        keys: [Vec<usize>; 2],
        residual: Option<Expr>,
        state: Option<StateTableId>,
    },
    /// Joins each row of input 0 with the version of input 1's row that was valid at its time: the last one of its key whose time is not after it,
    /// once the watermark has passed it. The keys of input 1 include a unique key of it; `kind` is Inner or Left, keys and residual are as in
    /// `Join`. Rows with equal keys are on one worker.
    TemporalJoin {
        kind: JoinKind,
        keys: [Vec<usize>; 2],
        residual: Option<Expr>,
        /// Time column of each input.
        times: [usize; 2],
        state: StateTableId,
    },
    /// Joins each row of input 0 with the row of input 1 that is nearest to it by a place of each: the last one for which `compared`
    /// (`>=` or `>`) holds of the left place and the right one, or the first one (`<=` or `<`). Of right rows in one place that is
    /// the last, or first, one in the order of the columns `order`, ascending, nulls last. `condition` is over the left columns: rows
    /// for which it is not true match nothing, nor do those with a null in their keys or place. `kind` is Inner or Left; keys and
    /// distribution are as in `Join`, and keys may be empty. Emits net changes once per step.
    ///
    /// `bounded`: both places are event time, and the right one is not after the left one. A row of either side, or its retraction,
    /// whose time is before the watermark that it arrived under is late. So left rows behind the watermark are final, and of right
    /// rows there all but the last one of each key are dropped.
    AsofJoin {
        kind: JoinKind,
        keys: [Vec<usize>; 2],
        condition: Option<Expr>,
        places: [usize; 2],
        compared: BinaryOp,
        order: Vec<usize>,
        bounded: bool,
        state: StateTableId,
    },
    /// Finds matches of a row pattern among the rows of a partition, in this order, of which the first column is event time, ascending; rows that are
    /// equal in all of it are ordered by all their columns. A row counts once the watermark has passed its time; the input only grows. Emits
    /// for each match (`all_rows`: each row of a match) the columns `keep` of its first row (that row) and `values`. With `within` the node's
    /// watermark is so much behind its input's. Its input is exchanged by (a subset of) `partition`, or is on one worker when that is empty.
    MatchRecognize {
        partition: Vec<usize>,
        order: Vec<OrderKey>,
        pattern: MatchPattern,
        variables: Vec<MatchVariable>,
        keep: Vec<usize>,
        values: Vec<MatchValue>,
        all_rows: bool,
        skip: MatchSkip,
        /// All rows of a match lie less than this after its first. Microseconds.
        within: Option<i64>,
        /// Rows before a match that its conditions and values may look at.
        before: usize,
        state: StateTableId,
    },
    /// As `Exchange`, but rows with a null in a key column, which match nothing in the join above, go by all their
    /// columns, so that they are not all on one worker.
    JoinExchange {
        keys: Vec<usize>,
    },
    /// Records that overwrite each other by `key` to changes of rows. The input has the node's columns, then the record's
    /// partition (Integer) and offset (BigInt); its weights are +1 for a key's new row and -1 for a key that is gone. It is
    /// exchanged by `key`; the output goes to a `Materialize` with the same key.
    Normalize {
        key: Vec<usize>,
    },
    /// Writes the job's relation. `key`: the columns by which rows are identified; empty means keyless
    /// (row -> weight) in `Retract` mode and no index at all in `Append` mode. The input is exchanged by
    /// `key`, or by all columns if keyless in `Retract` mode.
    Materialize {
        key: Vec<usize>,
    },
    /// The end of a sink's plan: the step's net changes leave the job and are kept by nobody in it. Old rows come before new
    /// ones. `key`: the columns by which rows are identified, by which the input is exchanged; empty means keyless,
    /// exchanged by all columns in `Retract` mode.
    Sink {
        key: Vec<usize>,
    },
}

impl Op {
    /// The tables this operator keeps its state in.
    pub fn state_tables(&self) -> Vec<StateTableId> {
        match self {
            Op::Aggregate { state, .. }
            | Op::Join { state, .. }
            | Op::LookupJoin { state, .. }
            | Op::TemporalJoin { state, .. }
            | Op::AsofJoin { state, .. }
            | Op::TopN { state, .. }
            | Op::Over { state, .. }
            | Op::SessionAssign { state, .. }
            | Op::MatchRecognize { state, .. }
            | Op::TemporalFilter { state, .. } => vec![*state],
            Op::ExternalLookup { state, .. } => state.iter().copied().collect(),
            Op::Scan { .. }
            | Op::Values { .. }
            | Op::Filter { .. }
            | Op::Project { .. }
            | Op::ProcessingTime { .. }
            | Op::WindowAssign { .. }
            | Op::Unnest { .. }
            | Op::PreAggregate { .. }
            | Op::Exchange { .. }
            | Op::JoinExchange { .. }
            | Op::Normalize { .. }
            | Op::Union
            | Op::Materialize { .. }
            | Op::Sink { .. } => vec![],
        }
    }

    /// Gives every state table the id that `id` has for it.
    pub fn assign_state_tables(&mut self, id: &mut dyn FnMut() -> StateTableId) {
        match self {
            Op::Aggregate { state, .. }
            | Op::Join { state, .. }
            | Op::LookupJoin { state, .. }
            | Op::TemporalJoin { state, .. }
            | Op::AsofJoin { state, .. }
            | Op::TopN { state, .. }
            | Op::Over { state, .. }
            | Op::SessionAssign { state, .. }
            | Op::MatchRecognize { state, .. }
            | Op::TemporalFilter { state, .. } => *state = id(),
            Op::ExternalLookup { state, .. } => state.iter_mut().for_each(|state| *state = id()),
            Op::Scan { .. }
            | Op::Values { .. }
            | Op::Filter { .. }
            | Op::Project { .. }
            | Op::ProcessingTime { .. }
            | Op::WindowAssign { .. }
            | Op::Unnest { .. }
            | Op::PreAggregate { .. }
            | Op::Exchange { .. }
            | Op::JoinExchange { .. }
            | Op::Normalize { .. }
            | Op::Union
            | Op::Materialize { .. }
            | Op::Sink { .. } => {}
        }
    }
}

/// A moment that a row names: a column of it, and what is added to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeBound {
    /// A Timestamp or TimestampTz.
    pub column: usize,
    /// Microseconds; the sum stays within the range of time.
    pub shift: i64,
}

/// Which rows a join shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JoinKind {
    /// Pairs that match: the left columns, then the right ones.
    Inner,
    /// And left rows that match nothing, with nulls for the right columns.
    Left,
    /// And right rows that match nothing.
    Right,
    /// And both.
    Full,
    /// Left rows that match something; the left columns.
    Semi,
    /// Left rows that match nothing.
    Anti,
    /// All left rows, and a boolean column: whether they match something.
    Mark,
}

impl JoinKind {
    /// Whether the join shows rows of a side (0 left, 1 right) on their own, by whether they match.
    pub fn shows_alone(self, side: usize) -> bool {
        match self {
            JoinKind::Inner => false,
            JoinKind::Full => true,
            JoinKind::Right => side == 1,
            JoinKind::Left | JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => side == 0,
        }
    }

    /// Whether rows of a side that match nothing are shown.
    pub fn preserves(self, side: usize) -> bool {
        self != JoinKind::Semi && self.shows_alone(side)
    }

    pub fn shows_pairs(self) -> bool {
        matches!(self, JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full)
    }
}

/// Makes a join one of an interval: the residual condition or the keys imply `lower <= right - left <= upper` for the event times
/// of both sides, and a row is dropped when its side's watermark says that nothing to come can match it. A row whose time
/// is before the watermark that it arrived under is late; one without a time matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinInterval {
    /// Time column of each input.
    pub times: [usize; 2],
    /// Microseconds.
    pub lower: i64,
    pub upper: i64,
}

/// Makes a join one of windows: rows that can still match are those of windows that are not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinWindow {
    /// Position within the keys of the window's end, never null. Closed and late as in `AggregateWindow`; no row is late for a session.
    pub end: usize,
    /// Microseconds. Of sessions that may become shorter with their gap, by which one may have ended before the watermark and still change.
    pub allowed_lateness: i64,
}

/// All times in microseconds. Windows are `[start, start + size)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WindowKind {
    Tumble {
        size: i64,
        offset: i64,
    },
    /// A window starts at every multiple of `slide` plus `offset`; `size` need not be a multiple.
    Hop {
        size: i64,
        slide: i64,
        offset: i64,
    },
    /// Windows that grow: within each `[start, start + size)` one that ends at each multiple of `step`.
    Cumulate {
        size: i64,
        step: i64,
        offset: i64,
    },
    /// Not of `WindowAssign`: what `SessionAssign` makes.
    Session {
        gap: i64,
    },
}

/// Makes an aggregate a window aggregate: the window's start and end are among the group columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateWindow {
    /// Position of the window end column within `group` (of a Top-N: within `partition`). A group is closed once the watermark has
    /// reached its end plus the lateness: then its state is dropped and it is final. A row is late if its
    /// group was closed by its arrival watermark.
    pub end: usize,
    pub emit: Emit,
    /// Microseconds. Of sessions that may become shorter and are shown as they change: with their gap, as in `JoinWindow`.
    pub allowed_lateness: i64,
    /// The window is a session: which rows are late was decided where they got it, so that none is here. A session that has
    /// become shorter may have ended by the present watermark, and is closed when that rises.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub session: bool,
}

/// How the values of rows that become one are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// Added, each as often as its row's weight says: a BigInt or a Decimal.
    Sum,
    /// That there are so many is all that counts.
    Count,
    /// The smallest stays; rows only come. As with `Max`, of a type that is no float and not nested.
    Min,
    Max,
}

/// Which rows are late for a window whose end is a column, never null: as in `AggregateWindow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateRows {
    pub end: usize,
    /// Microseconds.
    pub allowed_lateness: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Emit {
    /// On every step in which the group changed.
    Changes,
    /// Once, when the window closes; the output is append-only.
    OnClose,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// Input column; `None` only for COUNT(*). Arguments are computed by a Project below.
    pub argument: Option<usize>,
    pub distinct: bool,
    /// A boolean input column; rows where it is not true do not count.
    pub filter: Option<usize>,
    /// SUM and COUNT of integers: BigInt, checked. AVG of integers: Double. SUM and AVG of decimals:
    /// Decimal. MIN, MAX: the argument's type.
    pub output: SqlType,
    /// In which order the rows count, for `StringAgg`, `ArrayAgg` and `FirstValue`; rows that are equal in it are ordered by
    /// the argument.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<OrderKey>,
    /// Between the values of `StringAgg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// Of a percentile, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Rows with a null argument do not count, for `ArrayAgg` and `FirstValue`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_nulls: bool,
    /// So many values at most, for `ArrayAgg` that is no window's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl AggregateCall {
    /// A call over all rows, of no particular order.
    pub fn new(function: AggregateFunction, argument: Option<usize>, output: SqlType) -> Self {
        AggregateCall {
            function,
            argument,
            distinct: false,
            filter: None,
            output,
            order: vec![],
            separator: None,
            share: None,
            ignore_nulls: false,
            limit: None,
        }
    }
}

/// One column of an order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OrderKey {
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    /// Of doubles, to Double; null of fewer than one (population) or two (sample) values.
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
    BoolAnd,
    BoolOr,
    /// Of Text; nulls do not count.
    StringAgg,
    ArrayAgg,
    /// The first in the call's order. LAST_VALUE is the first in the opposite order.
    FirstValue,
    /// What is a share of the way through the values in the call's order, between two of them if need be; of Doubles. Nulls do not count.
    PercentileCont,
    /// The first of the values in the call's order up to which there are at least that share of them. Nulls do not count.
    PercentileDisc,
    /// The value that is there most often, the first of several in the call's order. Nulls do not count.
    Mode,
}

impl AggregateFunction {
    /// Whether it is computed of its values in their order.
    pub fn is_ordered(self) -> bool {
        use AggregateFunction::*;
        matches!(self, StringAgg | ArrayAgg | FirstValue) || self.picks()
    }

    /// Whether it is one of its values in the order of themselves.
    pub fn picks(self) -> bool {
        self.is_percentile() || self == AggregateFunction::Mode
    }

    pub fn is_percentile(self) -> bool {
        matches!(self, AggregateFunction::PercentileCont | AggregateFunction::PercentileDisc)
    }
}

/// What a row's place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RankFunction {
    RowNumber,
    /// Rows that are equal in the order share the place of the first.
    Rank,
    /// The same, counted without gaps.
    DenseRank,
}

/// One function of an OVER window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverCall {
    pub function: OverFunction,
    /// Which rows it is of; ranks, LAG and LEAD are of their own ones.
    pub frame: Frame,
    pub output: SqlType,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OverFunction {
    Rank(RankFunction),
    PercentRank,
    CumeDist,
    Ntile {
        buckets: i64,
    },
    /// The argument of the row that is so many places before (LAG) or, if negative, after (LEAD); a constant if there is none.
    Lag {
        argument: usize,
        offset: i64,
        /// A bigint by which `offset` is multiplied for each row; where it is null, so is the result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        places: Option<usize>,
        default: Literal,
        /// Only rows count whose argument is not null.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ignore_nulls: bool,
    },
    /// The argument of a row of the frame, counted from 1, or from its end by -1 and below.
    NthValue {
        argument: usize,
        n: i64,
        /// Only rows count whose argument is not null.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ignore_nulls: bool,
    },
    /// An aggregate over the frame, without an order of its own: lists are in the window's. Neither `FirstValue` nor what picks one of its values, and
    /// no list of distinct values.
    Aggregate(AggregateCall),
}

/// The rows around one that a function is of. The start is not after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    pub unit: FrameUnit,
    pub start: FrameBound,
    pub end: FrameBound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameUnit {
    Rows,
    /// Distances are between values of the order's only column.
    Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameBound {
    /// The partition's start or its end.
    Unbounded,
    /// For `FrameUnit::Range` with all its peers.
    CurrentRow,
    /// So many rows after the row, before it if negative; or units of the order's column: one, a day, a microsecond.
    Offset(i64),
}

/// What the rows of a match are, one after the other. Variables are numbered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MatchPattern {
    Variable(usize),
    Concat(Vec<MatchPattern>),
    /// The first that matches.
    Alternation(Vec<MatchPattern>),
    /// As often as possible, or as seldom if `reluctant`. What is repeated without end matches at least one row.
    Repeat {
        pattern: Box<MatchPattern>,
        min: u32,
        max: Option<u32>,
        reluctant: bool,
    },
}

/// Where the search goes on behind a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MatchSkip {
    PastLastRow,
    ToNextRow,
    /// The first, or last, row of a variable.
    ToFirst(usize),
    ToLast(usize),
}

/// Which rows may be a variable's. A row is if all of these are true of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatchVariable {
    pub name: String,
    /// A boolean input column.
    pub flag: Option<usize>,
    /// What `local` and `rest` are over.
    pub values: Vec<MatchValue>,
    /// Over values of the row itself and of rows before it, by their distance.
    pub local: Option<Expr>,
    /// Over other values too, of the match as far as the row.
    pub rest: Option<Expr>,
}

/// Something of a match as far as one of its rows, that row included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatchValue {
    pub of: MatchValueOf,
    /// Of the rows of this variable; of all rows if none is given.
    pub variable: Option<usize>,
    /// Of the whole match, whatever the row.
    #[serde(rename = "final")]
    pub whole: bool,
    pub ty: SqlType,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MatchValueOf {
    /// An input column of one row: the `nth` from the first, or else back from the last one, counted from 0, and from there `offset` rows of the
    /// partition onwards. Null if there is none.
    Row { column: usize, first: bool, nth: usize, offset: i64 },
    /// Of the input's columns; a call that knows no order, without DISTINCT and filter. Its argument is given.
    Aggregate(AggregateCall),
    /// The variable of the last row.
    Classifier,
    /// Which of its partition's matches it is, from 1 on: a bigint.
    Number,
}

/// A scalar expression over the columns of one input. Every operand already has the type its operator
/// wants: casts are explicit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Expr {
    Column(usize),
    Literal(Literal),
    /// The cut's `now`, a TimestampTz.
    CutNow,
    Binary {
        op: BinaryOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Not(Box<Expr>),
    Negate(Box<Expr>),
    IsNull(Box<Expr>),
    IsNotNull(Box<Expr>),
    /// `IS TRUE`, `IS NOT FALSE` and kin.
    IsBool {
        expr: Box<Expr>,
        value: Option<bool>,
        negated: bool,
    },
    /// CASE; `operand` form is already rewritten into conditions.
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    /// `try_cast`: null instead of a row error.
    Cast {
        expr: Box<Expr>,
        ty: SqlType,
        try_cast: bool,
    },
    Like {
        expr: Box<Expr>,
        pattern: Box<Expr>,
        negated: bool,
        case_insensitive: bool,
    },
    InList {
        expr: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    /// A scalar function by its name in the function registry, with the type it returns here.
    Call {
        name: String,
        args: Vec<Expr>,
        returns: SqlType,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BinaryOp {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
    Plus,
    Minus,
    Multiply,
    Divide,
    Modulo,
    And,
    Or,
    IsDistinctFrom,
    IsNotDistinctFrom,
    Concat,
    RegexMatch,
    RegexIMatch,
    RegexNotMatch,
    RegexNotIMatch,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
}

/// A constant: its type and its value, null as `LiteralValue::Null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Literal {
    pub ty: SqlType,
    pub value: LiteralValue,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LiteralValue {
    Null,
    Boolean(bool),
    /// SmallInt, Integer, BigInt; days of a Date; microseconds of Time and Timestamps.
    Int(i64),
    /// Real and Double, by their bits, so that NaN and infinities survive every encoding.
    FloatBits(u64),
    /// The unscaled value of a Decimal, in decimal digits.
    Decimal(String),
    /// Text and Json.
    Text(String),
    Bytes(Vec<u8>),
    Interval {
        months: i32,
        days: i32,
        nanos: i64,
    },
    List(Vec<LiteralValue>),
}
