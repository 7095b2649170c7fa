//! Physical expressions that DataFusion has no match for: the cut's `now` and the watermark before it, arithmetic of floats that fails, and of integers that names the type it left.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use eddyline_common::{SqlError, SqlState, Timestamp};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The `now` of the step being run and the watermark that the present batch came under, shared by the expressions of one job on one worker.
#[derive(Clone, Debug, Default)]
pub struct NowHandle(Arc<Moment>);

#[derive(Debug)]
struct Moment {
    now: AtomicI64,
    arrival_watermark: AtomicI64,
}

impl Default for Moment {
    fn default() -> Self {
        Moment { now: AtomicI64::new(0), arrival_watermark: AtomicI64::new(Timestamp::MIN.micros()) }
    }
}

impl NowHandle {
    pub fn set(&self, now: Timestamp) {
        self.0.now.store(now.micros(), Ordering::Relaxed);
    }

    pub fn set_arrival_watermark(&self, watermark: Timestamp) {
        self.0.arrival_watermark.store(watermark.micros(), Ordering::Relaxed);
    }

    fn get(&self) -> i64 {
        self.0.now.load(Ordering::Relaxed)
    }

    fn arrival_watermark(&self) -> i64 {
        self.0.arrival_watermark.load(Ordering::Relaxed)
    }
}

/// Whether a time lies before the watermark that its batch came under. Where that is none, or the time is null, it does not.
#[derive(Debug)]
pub(crate) struct BehindWatermark {
    time: Arc<dyn PhysicalExpr>,
    now: NowHandle,
}

impl BehindWatermark {
    pub(crate) fn new(time: Arc<dyn PhysicalExpr>, now: NowHandle) -> Self {
        BehindWatermark { time, now }
    }
}

impl PartialEq for BehindWatermark {
    fn eq(&self, other: &Self) -> bool {
        self.time.eq(&other.time) && Arc::ptr_eq(&self.now.0, &other.now.0)
    }
}

impl Eq for BehindWatermark {}

impl Hash for BehindWatermark {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.time.hash(state);
        Arc::as_ptr(&self.now.0).hash(state);
    }
}

impl fmt::Display for BehindWatermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "behind_watermark({})", self.time)
    }
}

impl PhysicalExpr for BehindWatermark {
    fn return_field(&self, _input: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.to_string(), DataType::Boolean, false)))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let times = self.time.evaluate(batch)?.into_array(batch.num_rows())?;
        let watermark = self.now.arrival_watermark();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let behind = BooleanBuffer::collect_bool(times.len(), |row| times.is_valid(row) && times.value(row) < watermark);
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(behind, None))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.time]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(BehindWatermark::new(children[0].clone(), self.now.clone())))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `now()`: the same for all rows of a step.
#[derive(Clone, Debug)]
pub(crate) struct CutNow(pub(crate) NowHandle);

impl PartialEq for CutNow {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.0, &other.0.0)
    }
}

impl Eq for CutNow {}

impl Hash for CutNow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0.0).hash(state);
    }
}

impl fmt::Display for CutNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("now()")
    }
}

impl PhysicalExpr for CutNow {
    fn return_field(&self, _input: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(eddyline_common::SqlType::TimestampTz.field("now", false)))
    }

    fn evaluate(&self, _batch: &RecordBatch) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(self.0.get()), Some("+00:00".into()))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an operator makes of two columns of floats.
type Compute = fn(Operator, &ArrayRef, &ArrayRef) -> Result<ArrayRef, ArrowError>;

/// Arithmetic over floats of one type that fails.
#[derive(Debug)]
pub(crate) struct FloatArithmetic {
    unchecked: BinaryExpr,
    compute: Compute,
}

impl FloatArithmetic {
    pub(crate) fn new(left: Arc<dyn PhysicalExpr>, op: Operator, right: Arc<dyn PhysicalExpr>, compute: Compute) -> Self {
        FloatArithmetic { unchecked: BinaryExpr::new(left, op, right), compute }
    }
}

impl PartialEq for FloatArithmetic {
    fn eq(&self, other: &Self) -> bool {
        self.unchecked == other.unchecked && std::ptr::fn_addr_eq(self.compute, other.compute)
    }
}

impl Eq for FloatArithmetic {}

impl Hash for FloatArithmetic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.unchecked.hash(state);
    }
}

impl fmt::Display for FloatArithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.unchecked, f)
    }
}

impl PhysicalExpr for FloatArithmetic {
    // What these are by default asks for both at each level: twice the work for each level of a long chain.
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.unchecked.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.unchecked.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.unchecked.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let left = self.unchecked.left().evaluate(batch)?.into_array(batch.num_rows())?;
        let right = self.unchecked.right().evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array((self.compute)(*self.unchecked.op(), &left, &right)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![self.unchecked.left(), self.unchecked.right()]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(FloatArithmetic::new(children[0].clone(), *self.unchecked.op(), children[1].clone(), self.compute)))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unchecked.fmt_sql(f)
    }
}

/// Arithmetic over integers whose overflow is told in PostgreSQL's words.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct InRange {
    checked: BinaryExpr,
    /// The SQL name of the result's type.
    ty: &'static str,
}

impl InRange {
    /// `None` for a result that is no integer.
    pub(crate) fn type_name(ty: &DataType) -> Option<&'static str> {
        match ty {
            DataType::Int16 => Some("smallint"),
            DataType::Int32 => Some("integer"),
            DataType::Int64 => Some("bigint"),
            _ => None,
        }
    }

    pub(crate) fn new(left: Arc<dyn PhysicalExpr>, op: Operator, right: Arc<dyn PhysicalExpr>, ty: &'static str) -> Self {
        InRange { checked: BinaryExpr::new(left, op, right).with_fail_on_overflow(true), ty }
    }
}

impl fmt::Display for InRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.checked, f)
    }
}

impl PhysicalExpr for InRange {
    // What these are by default asks for both at each level: twice the work for each level of a long chain.
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.checked.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.checked.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.checked.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.checked.evaluate(batch).map_err(|error| match &error {
            DataFusionError::ArrowError(inner, _) if matches!(**inner, ArrowError::ArithmeticOverflow(_)) => {
                let message = format!("{} out of range", self.ty);
                DataFusionError::External(Box::new(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, message)))
            }
            _ => error,
        })
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![self.checked.left(), self.checked.right()]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(InRange::new(children[0].clone(), *self.checked.op(), children[1].clone(), self.ty)))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checked.fmt_sql(f)
    }
}
