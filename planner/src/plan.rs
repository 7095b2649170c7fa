//! The streaming plan: what a job runs, and what is persisted and run again after a restart. Data only:
//! nodes in topological order, expressions as our own durable tree. It knows neither SQL text nor how
//! anything is executed. Changing its meaning means raising `PLAN_VERSION`.

use eddyline_common::types::{Column, SqlType};
use eddyline_common::{RelationId, StateTableId};
use serde::{Deserialize, Serialize};

pub const PLAN_VERSION: u32 = 1;

/// Index into `StreamPlan::nodes`; inputs always have smaller indices.
pub type NodeId = usize;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamPlan {
    pub version: u32,
    pub nodes: Vec<Node>,
    /// Always the last node, a `Materialize` or a `Sink`.
    pub output: NodeId,
}

impl StreamPlan {
    pub fn output_node(&self) -> &Node {
        &self.nodes[self.output]
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
    /// Only insertions: every weight is +1.
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
    Project {
        exprs: Vec<Expr>,
    },
    /// Appends `window_start`, `window_end`, `window_time` (= end - 1 ms) to each row, once per window
    /// that covers `time_column`; rows whose time is null are rejected.
    WindowAssign {
        time_column: usize,
        kind: WindowKind,
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
}

/// Makes an aggregate a window aggregate: the window's start and end are among the group columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateWindow {
    /// Position within `group` of the window end column. A group is closed once the watermark has
    /// reached its end plus the lateness: then its state is dropped and it is final. A row is late if its
    /// group was closed by its arrival watermark.
    pub end: usize,
    pub emit: Emit,
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
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
