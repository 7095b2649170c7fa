//! Scalar expressions and constants, as our own durable tree. What they mean is the executor's to know.

use eddyline_common::types::SqlType;
use serde::{Deserialize, Serialize};

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
