//! The operators of a plan: what each of them does with its inputs' changes, and how these are distributed.

use super::{
    AggregateCall, AggregateWindow, BinaryOp, Emit, Expr, JoinInterval, JoinKind, JoinWindow, LateRows, Literal, MatchPattern, MatchSkip,
    MatchValue, MatchVariable, Merge, OrderKey, OverCall, RankFunction, WindowKind,
};
use eddyline_common::{RelationId, StateTableId};
use serde::{Deserialize, Serialize};

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

/// Where an operator names the tables that it keeps its state in, by reference as it is given.
macro_rules! named_tables {
    ($op:expr) => {
        match $op {
            Op::Aggregate { state, .. }
            | Op::Join { state, .. }
            | Op::LookupJoin { state, .. }
            | Op::TemporalJoin { state, .. }
            | Op::AsofJoin { state, .. }
            | Op::TopN { state, .. }
            | Op::Over { state, .. }
            | Op::SessionAssign { state, .. }
            | Op::MatchRecognize { state, .. }
            | Op::TemporalFilter { state, .. } => vec![state],
            Op::ExternalLookup { state, .. } => Vec::from_iter(state),
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
    };
}

impl Op {
    /// The tables this operator keeps its state in.
    pub fn state_tables(&self) -> Vec<StateTableId> {
        named_tables!(self).into_iter().copied().collect()
    }

    /// Gives every state table the id that `id` has for it.
    pub fn assign_state_tables(&mut self, id: &mut dyn FnMut() -> StateTableId) {
        for state in named_tables!(self) {
            *state = id();
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
