//! Between DataFusion's logical expressions and our durable ones. Conversion runs after type coercion,
//! so that every operand already has its type; what has no durable form is refused by name.

use crate::functions;
use crate::plan::{BinaryOp, Expr, Literal, LiteralValue};
use datafusion::arrow::array::{Array, ArrayRef, ListArray};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, InList, Like, ScalarFunction, TryCast};
use datafusion::logical_expr::{Expr as DfExpr, Operator, Volatility};
use eddyline_common::types::TYPE_METADATA_KEY;
use eddyline_common::{Result, SqlError, SqlState, SqlType};
use std::sync::Arc;

pub fn is_clock_function(name: &str) -> bool {
    clock_function(name).is_some()
}

/// Functions of the clock, and what each is of the cut's `now`.
fn clock_function(name: &str) -> Option<Expr> {
    let cast = |ty| Expr::Cast { expr: Box::new(Expr::CutNow), ty, try_cast: false };
    match name {
        functions::NOW => Some(Expr::CutNow),
        "current_date" | "today" => Some(cast(SqlType::Date)),
        "current_time" => Some(cast(SqlType::Time)),
        _ => None,
    }
}

/// Converts, resolving columns to positions in `schema`.
pub fn from_datafusion(expr: &DfExpr, schema: &DFSchema) -> Result<Expr> {
    Converter { schema }.convert(expr)
}

struct Converter<'a> {
    schema: &'a DFSchema,
}

impl Converter<'_> {
    fn boxed(&self, expr: &DfExpr) -> Result<Box<Expr>> {
        self.convert(expr).map(Box::new)
    }

    fn convert(&self, expr: &DfExpr) -> Result<Expr> {
        let truth = |inner: &DfExpr, value, negated| Ok(Expr::IsBool { expr: self.boxed(inner)?, value, negated });
        match expr {
            DfExpr::Alias(alias) => self.convert(&alias.expr),
            DfExpr::Column(column) => Ok(Expr::Column(position(column, self.schema)?)),
            DfExpr::Literal(value, _) => Ok(Expr::Literal(literal(value)?)),
            DfExpr::BinaryExpr(binary) => self.binary(binary),
            DfExpr::Not(inner) => Ok(Expr::Not(self.boxed(inner)?)),
            DfExpr::Negative(inner) => Ok(Expr::Negate(self.boxed(inner)?)),
            DfExpr::IsNull(inner) => Ok(Expr::IsNull(self.boxed(inner)?)),
            DfExpr::IsNotNull(inner) => Ok(Expr::IsNotNull(self.boxed(inner)?)),
            DfExpr::IsTrue(inner) => truth(inner, Some(true), false),
            DfExpr::IsNotTrue(inner) => truth(inner, Some(true), true),
            DfExpr::IsFalse(inner) => truth(inner, Some(false), false),
            DfExpr::IsNotFalse(inner) => truth(inner, Some(false), true),
            DfExpr::IsUnknown(inner) => truth(inner, None, false),
            DfExpr::IsNotUnknown(inner) => truth(inner, None, true),
            DfExpr::Between(between) => {
                let value = self.convert(&between.expr)?;
                let low = binary_of(BinaryOp::GtEq, value.clone(), self.convert(&between.low)?);
                let high = binary_of(BinaryOp::LtEq, value, self.convert(&between.high)?);
                let both = binary_of(BinaryOp::And, low, high);
                Ok(if between.negated { Expr::Not(Box::new(both)) } else { both })
            }
            DfExpr::Case(case) => self.case(case),
            DfExpr::Cast(Cast { expr, field }) => self.cast(expr, field, false),
            DfExpr::TryCast(TryCast { expr, field }) => self.cast(expr, field, true),
            DfExpr::Like(like) => self.like(like),
            DfExpr::InList(InList { expr, list, negated }) => Ok(Expr::InList {
                expr: self.boxed(expr)?,
                list: list.iter().map(|e| self.convert(e)).collect::<Result<_>>()?,
                negated: *negated,
            }),
            DfExpr::ScalarFunction(call) => self.call(expr, call),
            other => Err(refuse(other)),
        }
    }

    fn binary(&self, binary: &BinaryExpr) -> Result<Expr> {
        let (left, right) = (self.boxed(&binary.left)?, self.boxed(&binary.right)?);
        let like = |negated, case_insensitive, left, right| Expr::Like { expr: left, pattern: right, negated, case_insensitive };
        Ok(match binary.op {
            Operator::LikeMatch => like(false, false, left, right),
            Operator::NotLikeMatch => like(true, false, left, right),
            Operator::ILikeMatch => like(false, true, left, right),
            Operator::NotILikeMatch => like(true, true, left, right),
            op => Expr::Binary { op: binary_op(op)?, left, right },
        })
    }

    fn case(&self, case: &Case) -> Result<Expr> {
        let operand = case.expr.as_deref().map(|e| self.convert(e)).transpose()?;
        let branches = case
            .when_then_expr
            .iter()
            .map(|(when, then)| {
                let when = self.convert(when)?;
                let condition = match &operand {
                    Some(operand) => binary_of(BinaryOp::Eq, operand.clone(), when),
                    None => when,
                };
                Ok((condition, self.convert(then)?))
            })
            .collect::<Result<_>>()?;
        let otherwise = case.else_expr.as_deref().map(|e| self.boxed(e)).transpose()?;
        Ok(Expr::Case { branches, otherwise })
    }

    fn cast(&self, expr: &DfExpr, field: &datafusion::arrow::datatypes::Field, try_cast: bool) -> Result<Expr> {
        let ty = SqlType::from_field(field).ok_or_else(|| no_type(field.data_type()))?;
        Ok(Expr::Cast { expr: self.boxed(expr)?, ty, try_cast })
    }

    fn like(&self, like: &Like) -> Result<Expr> {
        debug_assert_eq!(like.escape_char, None, "an ESCAPE is a part of the pattern since names were bound");
        Ok(Expr::Like {
            expr: self.boxed(&like.expr)?,
            pattern: self.boxed(&like.pattern)?,
            negated: like.negated,
            case_insensitive: like.case_insensitive,
        })
    }

    fn json(&self, constant: &DfExpr) -> Result<Expr> {
        Ok(Expr::Call { name: "eddyline_json".to_string(), args: vec![self.convert(constant)?], returns: SqlType::Json })
    }

    fn call(&self, expr: &DfExpr, call: &ScalarFunction) -> Result<Expr> {
        let name = call.func.name();
        if let Some(clock) = clock_function(name) {
            return Ok(clock);
        }
        if let (Some(op), [left, right]) = (functions::checked::operator(name), call.args.as_slice()) {
            let (left_side, right_side) = (self.convert(left)?, self.convert(right)?);
            // Both sides are of one type, and of a chain the right one is short. A plan's operator over floats may make an infinity: see the executor.
            let float =
                functions::typed::type_of(right, self.schema).ok().filter(DataType::is_floating).and_then(|ty| SqlType::from_arrow(&ty));
            return Ok(match float {
                Some(returns) => Expr::Call { name: name.to_string(), args: vec![left_side, right_side], returns },
                None => binary_of(binary_op(op)?, left_side, right_side),
            });
        }
        // What it gives for a row is in the history of the cuts.
        let is_kept = name == functions::BEHIND_WATERMARK;
        if call.func.signature().volatility == Volatility::Volatile && !is_kept {
            return Err(SqlError::unsupported(format!("function {name}() is not supported in a materialized view"))
                .with_detail("Its value would differ when the view is recovered or backfilled."));
        }
        if functions::registry().udf(name).is_err() {
            return Err(SqlError::unsupported(format!("function {name}() is not supported in a materialized view")));
        }
        let field = functions::typed::field_of(expr, self.schema).map_err(|e| crate::error::from_datafusion(e, None))?;
        let returns = SqlType::from_field(&field).ok_or_else(|| no_type(field.data_type()))?;
        let is_told = |arg: &DfExpr| name.starts_with(functions::json::made::PREFIX) && is_json(arg);
        let args = call.args.iter().map(|arg| if is_told(arg) { self.json(arg) } else { self.convert(arg) }).collect::<Result<_>>()?;
        Ok(Expr::Call { name: name.to_string(), args, returns })
    }
}

/// Whether a constant is JSON, which a text in a plan does not say of itself.
fn is_json(expr: &DfExpr) -> bool {
    let DfExpr::Literal(value, Some(metadata)) = expr else { return false };
    !value.is_null() && metadata.inner().get(TYPE_METADATA_KEY).is_some_and(|mark| mark == "json")
}

/// The position of a column in a schema.
pub fn position(column: &Column, schema: &DFSchema) -> Result<usize> {
    schema.index_of_column(column).map_err(|e| crate::error::from_datafusion(e, None))
}

pub fn binary_of(op: BinaryOp, left: Expr, right: Expr) -> Expr {
    Expr::Binary { op, left: Box::new(left), right: Box::new(right) }
}

/// A comparison with its sides exchanged.
pub fn turned(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Lt => BinaryOp::Gt,
        BinaryOp::LtEq => BinaryOp::GtEq,
        BinaryOp::Gt => BinaryOp::Lt,
        BinaryOp::GtEq => BinaryOp::LtEq,
        other => other,
    }
}

fn no_type(ty: &DataType) -> SqlError {
    SqlError::unsupported(format!("values of type {ty} are not supported in a materialized view"))
}

fn refuse(expr: &DfExpr) -> SqlError {
    let what = match expr {
        DfExpr::ScalarSubquery(_) | DfExpr::InSubquery(_) | DfExpr::Exists(_) | DfExpr::SetComparison(_) => "a subquery in an expression",
        DfExpr::WindowFunction(_) => "an OVER window",
        DfExpr::GroupingSet(_) => "GROUPING SETS",
        DfExpr::Placeholder(_) => "a parameter",
        DfExpr::Unnest(_) => "UNNEST",
        DfExpr::SimilarTo(_) => "SIMILAR TO",
        DfExpr::AggregateFunction(_) => "an aggregate in this place",
        DfExpr::HigherOrderFunction(_) | DfExpr::Lambda(_) | DfExpr::LambdaVariable(_) => "a lambda function",
        DfExpr::OuterReferenceColumn(_, _) => "a correlated subquery",
        other => return SqlError::unsupported(format!("the expression {other} is not supported in a materialized view")),
    };
    SqlError::unsupported(format!("{what} is not supported in a materialized view"))
}

const BINARY_OPS: &[(Operator, BinaryOp)] = &[
    (Operator::Eq, BinaryOp::Eq),
    (Operator::NotEq, BinaryOp::NotEq),
    (Operator::Lt, BinaryOp::Lt),
    (Operator::LtEq, BinaryOp::LtEq),
    (Operator::Gt, BinaryOp::Gt),
    (Operator::GtEq, BinaryOp::GtEq),
    (Operator::Plus, BinaryOp::Plus),
    (Operator::Minus, BinaryOp::Minus),
    (Operator::Multiply, BinaryOp::Multiply),
    (Operator::Divide, BinaryOp::Divide),
    (Operator::Modulo, BinaryOp::Modulo),
    (Operator::And, BinaryOp::And),
    (Operator::Or, BinaryOp::Or),
    (Operator::IsDistinctFrom, BinaryOp::IsDistinctFrom),
    (Operator::IsNotDistinctFrom, BinaryOp::IsNotDistinctFrom),
    (Operator::StringConcat, BinaryOp::Concat),
    (Operator::RegexMatch, BinaryOp::RegexMatch),
    (Operator::RegexIMatch, BinaryOp::RegexIMatch),
    (Operator::RegexNotMatch, BinaryOp::RegexNotMatch),
    (Operator::RegexNotIMatch, BinaryOp::RegexNotIMatch),
    (Operator::BitwiseAnd, BinaryOp::BitAnd),
    (Operator::BitwiseOr, BinaryOp::BitOr),
    (Operator::BitwiseXor, BinaryOp::BitXor),
    (Operator::BitwiseShiftLeft, BinaryOp::ShiftLeft),
    (Operator::BitwiseShiftRight, BinaryOp::ShiftRight),
];

fn binary_op(op: Operator) -> Result<BinaryOp> {
    BINARY_OPS
        .iter()
        .find(|(theirs, _)| *theirs == op)
        .map(|(_, ours)| *ours)
        .ok_or_else(|| SqlError::unsupported(format!("the operator {op} is not supported in a materialized view")))
}

/// DataFusion's operator for one of ours.
pub fn operator(op: BinaryOp) -> Operator {
    BINARY_OPS.iter().find(|(_, ours)| *ours == op).map(|(theirs, _)| *theirs).expect("every operator is in the table")
}

/// A DataFusion constant as ours.
pub fn literal(value: &ScalarValue) -> Result<Literal> {
    let ty = SqlType::from_arrow(&value.data_type()).ok_or_else(|| no_type(&value.data_type()))?;
    Ok(Literal { value: literal_value(value)?, ty })
}

pub fn literal_value(value: &ScalarValue) -> Result<LiteralValue> {
    use ScalarValue::*;
    if value.is_null() {
        return Ok(LiteralValue::Null);
    }
    let int = |v: Option<i64>| v.map_or(LiteralValue::Null, LiteralValue::Int);
    Ok(match value {
        Boolean(Some(b)) => LiteralValue::Boolean(*b),
        Int8(v) => int(v.map(i64::from)),
        Int16(v) => int(v.map(i64::from)),
        Int32(v) => int(v.map(i64::from)),
        Int64(v) => int(*v),
        UInt8(v) => int(v.map(i64::from)),
        UInt16(v) => int(v.map(i64::from)),
        UInt32(v) => int(v.map(i64::from)),
        UInt64(Some(v)) => LiteralValue::Int(
            i64::try_from(*v)
                .map_err(|_| SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("value {v} is out of range for bigint")))?,
        ),
        Float16(Some(v)) => LiteralValue::FloatBits(f64::from(v.to_f32()).to_bits()),
        Float32(Some(v)) => LiteralValue::FloatBits(f64::from(*v).to_bits()),
        Float64(Some(v)) => LiteralValue::FloatBits(v.to_bits()),
        Decimal32(Some(v), _, _) => LiteralValue::Decimal(v.to_string()),
        Decimal64(Some(v), _, _) => LiteralValue::Decimal(v.to_string()),
        Decimal128(Some(v), _, _) => LiteralValue::Decimal(v.to_string()),
        Utf8(Some(s)) | LargeUtf8(Some(s)) | Utf8View(Some(s)) => LiteralValue::Text(s.clone()),
        Binary(Some(b)) | LargeBinary(Some(b)) | BinaryView(Some(b)) => LiteralValue::Bytes(b.clone()),
        Date32(v) => int(v.map(i64::from)),
        Date64(v) => int(v.map(|ms| ms.div_euclid(86_400_000))),
        Time32Second(v) => int(v.map(|s| i64::from(s) * 1_000_000)),
        Time32Millisecond(v) => int(v.map(|ms| i64::from(ms) * 1_000)),
        Time64Microsecond(v) => int(*v),
        Time64Nanosecond(v) => int(v.map(|ns| ns.div_euclid(1_000))),
        TimestampSecond(v, _) => int(v.map(|s| s.saturating_mul(1_000_000))),
        TimestampMillisecond(v, _) => int(v.map(|ms| ms.saturating_mul(1_000))),
        TimestampMicrosecond(v, _) => int(*v),
        TimestampNanosecond(v, _) => int(v.map(|ns| ns.div_euclid(1_000))),
        IntervalYearMonth(Some(months)) => LiteralValue::Interval { months: *months, days: 0, nanos: 0 },
        IntervalDayTime(Some(v)) => LiteralValue::Interval { months: 0, days: v.days, nanos: i64::from(v.milliseconds) * 1_000_000 },
        IntervalMonthDayNano(Some(v)) => LiteralValue::Interval { months: v.months, days: v.days, nanos: v.nanoseconds },
        DurationSecond(Some(v)) => nanos(v.saturating_mul(1_000_000_000)),
        DurationMillisecond(Some(v)) => nanos(v.saturating_mul(1_000_000)),
        DurationMicrosecond(Some(v)) => nanos(v.saturating_mul(1_000)),
        DurationNanosecond(Some(v)) => nanos(*v),
        List(list) => items(&list.value(0))?,
        LargeList(list) => items(&list.value(0))?,
        FixedSizeList(list) => items(&list.value(0))?,
        Dictionary(_, inner) => literal_value(inner)?,
        other => return Err(no_type(&other.data_type())),
    })
}

fn nanos(nanos: i64) -> LiteralValue {
    LiteralValue::Interval { months: 0, days: 0, nanos }
}

fn items(array: &ArrayRef) -> Result<LiteralValue> {
    let item = |i| ScalarValue::try_from_array(array, i).map_err(|e| crate::error::from_datafusion(e, None));
    (0..array.len()).map(|i| literal_value(&item(i)?)).collect::<Result<_>>().map(LiteralValue::List)
}

/// Our constant as DataFusion's, in the Arrow form of its SQL type.
pub fn to_scalar(literal: &Literal) -> Result<ScalarValue> {
    scalar(&literal.ty, &literal.value)
}

fn scalar(ty: &SqlType, value: &LiteralValue) -> Result<ScalarValue> {
    let bad = || SqlError::corrupt(format!("a plan holds {value:?} as a constant of type {ty}"));
    if *value == LiteralValue::Null {
        return ScalarValue::try_from(&ty.to_arrow()).map_err(|e| crate::error::from_datafusion(e, None));
    }
    Ok(match (ty, value) {
        (SqlType::Boolean, LiteralValue::Boolean(b)) => ScalarValue::Boolean(Some(*b)),
        (SqlType::SmallInt, LiteralValue::Int(v)) => ScalarValue::Int16(Some(i16::try_from(*v).map_err(|_| bad())?)),
        (SqlType::Integer, LiteralValue::Int(v)) => ScalarValue::Int32(Some(i32::try_from(*v).map_err(|_| bad())?)),
        (SqlType::BigInt, LiteralValue::Int(v)) => ScalarValue::Int64(Some(*v)),
        (SqlType::Real, LiteralValue::FloatBits(bits)) => ScalarValue::Float32(Some(f64::from_bits(*bits) as f32)),
        (SqlType::Double, LiteralValue::FloatBits(bits)) => ScalarValue::Float64(Some(f64::from_bits(*bits))),
        (SqlType::Decimal { precision, scale }, LiteralValue::Decimal(digits)) => {
            ScalarValue::Decimal128(Some(digits.parse().map_err(|_| bad())?), *precision, *scale)
        }
        (SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid | SqlType::Json, LiteralValue::Text(s)) => {
            ScalarValue::Utf8(Some(s.clone()))
        }
        (SqlType::Bytes, LiteralValue::Bytes(b)) => ScalarValue::Binary(Some(b.clone())),
        (SqlType::Date, LiteralValue::Int(v)) => ScalarValue::Date32(Some(i32::try_from(*v).map_err(|_| bad())?)),
        (SqlType::Time, LiteralValue::Int(v)) => ScalarValue::Time64Microsecond(Some(*v)),
        (SqlType::Timestamp, LiteralValue::Int(v)) => ScalarValue::TimestampMicrosecond(Some(*v), None),
        (SqlType::TimestampTz, LiteralValue::Int(v)) => ScalarValue::TimestampMicrosecond(Some(*v), Some("+00:00".into())),
        (SqlType::Interval, LiteralValue::Interval { months, days, nanos }) => {
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months: *months, days: *days, nanoseconds: *nanos }))
        }
        (SqlType::Array(item), LiteralValue::List(values)) => {
            let values = values.iter().map(|v| scalar(item, v)).collect::<Result<Vec<_>>>()?;
            let list = ScalarValue::new_list_nullable(&values, &item.to_arrow());
            // Its own field does not say what texts are: uuids, JSON.
            let field = Arc::new(item.field("item", true));
            ScalarValue::List(Arc::new(ListArray::try_new(field, list.offsets().clone(), list.values().clone(), list.nulls().cloned())?))
        }
        _ => return Err(bad()),
    })
}

/// Our expression as DataFusion's, with `column` giving what stands for each input column.
pub fn to_datafusion(expr: &Expr, column: &dyn Fn(usize) -> DfExpr) -> Result<DfExpr> {
    let boxed = |e: &Expr| to_datafusion(e, column).map(Box::new);
    Ok(match expr {
        Expr::Column(index) => column(*index),
        Expr::Literal(literal) => DfExpr::Literal(to_scalar(literal)?, None),
        Expr::CutNow => call(functions::NOW, vec![])?,
        Expr::Binary { op, left, right } => DfExpr::BinaryExpr(BinaryExpr::new(boxed(left)?, operator(*op), boxed(right)?)),
        Expr::Not(inner) => DfExpr::Not(boxed(inner)?),
        Expr::Negate(inner) => DfExpr::Negative(boxed(inner)?),
        Expr::IsNull(inner) => DfExpr::IsNull(boxed(inner)?),
        Expr::IsNotNull(inner) => DfExpr::IsNotNull(boxed(inner)?),
        Expr::IsBool { expr, value, negated } => {
            let inner = boxed(expr)?;
            match (value, negated) {
                (Some(true), false) => DfExpr::IsTrue(inner),
                (Some(true), true) => DfExpr::IsNotTrue(inner),
                (Some(false), false) => DfExpr::IsFalse(inner),
                (Some(false), true) => DfExpr::IsNotFalse(inner),
                (None, false) => DfExpr::IsUnknown(inner),
                (None, true) => DfExpr::IsNotUnknown(inner),
            }
        }
        Expr::Case { branches, otherwise } => {
            let branches = branches.iter().map(|(when, then)| Ok((boxed(when)?, boxed(then)?))).collect::<Result<_>>()?;
            DfExpr::Case(Case::new(None, branches, otherwise.as_deref().map(boxed).transpose()?))
        }
        Expr::Cast { expr, ty, try_cast: false } => DfExpr::Cast(Cast::new_from_field(boxed(expr)?, Arc::new(ty.field("", true)))),
        Expr::Cast { expr, ty, try_cast: true } => DfExpr::TryCast(TryCast::new_from_field(boxed(expr)?, Arc::new(ty.field("", true)))),
        Expr::Like { expr, pattern, negated, case_insensitive } => {
            DfExpr::Like(Like::new(*negated, boxed(expr)?, boxed(pattern)?, None, *case_insensitive))
        }
        Expr::InList { expr, list, negated } => {
            let list = list.iter().map(|e| to_datafusion(e, column)).collect::<Result<_>>()?;
            DfExpr::InList(InList::new(boxed(expr)?, list, *negated))
        }
        Expr::Call { name, args, .. } => call(name, args.iter().map(|a| to_datafusion(a, column)).collect::<Result<_>>()?)?,
    })
}

/// A call of a function in our registry.
pub fn call(name: &str, args: Vec<DfExpr>) -> Result<DfExpr> {
    let udf = functions::registry()
        .udf(name)
        .map_err(|_| SqlError::corrupt(format!("a plan calls function {name}(), which this version does not have")))?;
    Ok(DfExpr::ScalarFunction(ScalarFunction::new_udf(udf, args)))
}

/// Whether an expression reads the cut's time.
pub fn reads_clock(expr: &Expr) -> bool {
    any(expr, &mut |e| matches!(e, Expr::CutNow))
}

/// Whether an expression asks for the watermark that a row came under.
pub fn reads_arrival(expr: &Expr) -> bool {
    any(expr, &mut |e| matches!(e, Expr::Call { name, .. } if name == functions::BEHIND_WATERMARK))
}

/// Whether `test` holds for an expression or one within it.
pub fn any(expr: &Expr, test: &mut dyn FnMut(&Expr) -> bool) -> bool {
    test(expr)
        || match expr {
            Expr::Column(_) | Expr::Literal(_) | Expr::CutNow => false,
            Expr::Binary { left, right, .. } => any(left, test) || any(right, test),
            Expr::Not(e) | Expr::Negate(e) | Expr::IsNull(e) | Expr::IsNotNull(e) => any(e, test),
            Expr::IsBool { expr, .. } | Expr::Cast { expr, .. } => any(expr, test),
            Expr::Case { branches, otherwise } => {
                branches.iter().any(|(w, t)| any(w, test) || any(t, test)) || otherwise.as_deref().is_some_and(|e| any(e, test))
            }
            Expr::Like { expr, pattern, .. } => any(expr, test) || any(pattern, test),
            Expr::InList { expr, list, .. } => any(expr, test) || list.iter().any(|e| any(e, test)),
            Expr::Call { args, .. } => args.iter().any(|e| any(e, test)),
        }
}

/// The expression with each column replaced by what `column` gives; `None` if it gives none for one.
pub fn map_columns(expr: &Expr, column: &dyn Fn(usize) -> Option<Expr>) -> Option<Expr> {
    let boxed = |e: &Expr| map_columns(e, column).map(Box::new);
    Some(match expr {
        Expr::Column(index) => column(*index)?,
        Expr::Literal(_) | Expr::CutNow => expr.clone(),
        Expr::Binary { op, left, right } => Expr::Binary { op: *op, left: boxed(left)?, right: boxed(right)? },
        Expr::Not(e) => Expr::Not(boxed(e)?),
        Expr::Negate(e) => Expr::Negate(boxed(e)?),
        Expr::IsNull(e) => Expr::IsNull(boxed(e)?),
        Expr::IsNotNull(e) => Expr::IsNotNull(boxed(e)?),
        Expr::IsBool { expr, value, negated } => Expr::IsBool { expr: boxed(expr)?, value: *value, negated: *negated },
        Expr::Case { branches, otherwise } => Expr::Case {
            branches: branches.iter().map(|(w, t)| Some((map_columns(w, column)?, map_columns(t, column)?))).collect::<Option<_>>()?,
            otherwise: match otherwise {
                Some(e) => Some(boxed(e)?),
                None => None,
            },
        },
        Expr::Cast { expr, ty, try_cast } => Expr::Cast { expr: boxed(expr)?, ty: ty.clone(), try_cast: *try_cast },
        Expr::Like { expr, pattern, negated, case_insensitive } => {
            Expr::Like { expr: boxed(expr)?, pattern: boxed(pattern)?, negated: *negated, case_insensitive: *case_insensitive }
        }
        Expr::InList { expr, list, negated } => Expr::InList {
            expr: boxed(expr)?,
            list: list.iter().map(|e| map_columns(e, column)).collect::<Option<_>>()?,
            negated: *negated,
        },
        Expr::Call { name, args, returns } => Expr::Call {
            name: name.clone(),
            args: args.iter().map(|e| map_columns(e, column)).collect::<Option<_>>()?,
            returns: returns.clone(),
        },
    })
}
