//! Weighted columnar accumulators: one column of state per aggregate call, a slot per group. Updates add rows with
//! weights, so a retraction is an update too, and the order of updates never matters. They know nothing of keys, of
//! steps or of what is emitted.
//!
//! - `count`: COUNT(x)
//! - `int_sum`: SUM and AVG of integers, exact in 128 bits
//! - `decimal_sum`: SUM and AVG of decimals, exact in 192 bits
//! - `float_sum`: SUM and AVG of floats, exact in `fixed`-point numbers
//! - `variance`: VARIANCE and STDDEV, exact until the last division
//! - `truth`: BOOL_AND and BOOL_OR
//! - `extreme`: MIN and MAX of append-only input; `KeyExtreme` is also where retracting ones keep the present extreme

mod count;
mod decimal_sum;
mod extreme;
mod fixed;
mod float_sum;
mod int_sum;
mod truth;
mod variance;

pub use extreme::KeyExtreme;

use arrow::array::ArrayRef;
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;
use eddyline_common::{Result, SqlError, SqlState, SqlType};
use eddyline_planner::functions::checked::overflow;
use eddyline_planner::plan::{AggregateCall, AggregateFunction};

/// Rows of a batch and where they go.
#[derive(Clone, Copy)]
pub struct Updates<'a> {
    /// The slot of each row.
    pub slots: &'a [u32],
    /// `None`: all +1.
    pub weights: Option<&'a [i64]>,
    /// Rows to leave out are unset.
    pub mask: Option<&'a BooleanBuffer>,
}

impl Updates<'_> {
    /// Calls `add(row, slot, weight)` for each row that is in the mask and not null.
    #[inline(always)]
    fn for_each(&self, nulls: Option<&NullBuffer>, mut add: impl FnMut(usize, usize, i64)) {
        let nulls = nulls.filter(|n| n.null_count() > 0).map(|n| n.inner());
        let mask = match (self.mask, nulls) {
            (Some(mask), Some(valid)) => Some(mask & valid),
            (Some(mask), None) => Some(mask.clone()),
            (None, valid) => valid.cloned(),
        };
        match (mask, self.weights) {
            (None, None) => self.slots.iter().enumerate().for_each(|(row, slot)| add(row, *slot as usize, 1)),
            (None, Some(weights)) => self.slots.iter().zip(weights).enumerate().for_each(|(row, (slot, w))| add(row, *slot as usize, *w)),
            (Some(mask), None) => mask.set_indices().for_each(|row| add(row, self.slots[row] as usize, 1)),
            (Some(mask), Some(weights)) => mask.set_indices().for_each(|row| add(row, self.slots[row] as usize, weights[row])),
        }
    }
}

/// Results of some slots.
#[derive(Clone, Debug)]
pub struct Output {
    pub values: ArrayRef,
    /// Set where the true result does not fit the type; the value is null there.
    pub out_of_range: Option<BooleanBuffer>,
}

impl Output {
    pub(crate) fn of(values: ArrayRef) -> Self {
        Output { values, out_of_range: None }
    }

    /// `fits(i)`: whether the i-th result fits.
    fn checked(values: ArrayRef, fits: &[bool]) -> Self {
        let out_of_range = fits.contains(&false).then(|| fits.iter().map(|f| !f).collect());
        Output { values, out_of_range }
    }
}

/// What is said of a result that does not fit its type.
pub(crate) fn unfit(ty: &SqlType) -> SqlError {
    let name = match ty {
        SqlType::Real | SqlType::Double => return overflow(),
        SqlType::Decimal { .. } => "numeric".to_string(),
        ty => ty.to_string(),
    };
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("{name} out of range"))
}

/// State of one aggregate call for many groups. Slots below `reserve`d ones exist; a cleared slot is as a new one.
pub trait Accumulator: Send {
    fn reserve(&mut self, slots: usize);
    /// Adds `values`, one for each row of `updates`; nulls do not count.
    fn update(&mut self, updates: &Updates, values: &ArrayRef);
    fn output(&self, slots: &[u32]) -> Result<Output>;
    fn clear(&mut self, slot: u32);
    /// Makes one slot as another is.
    fn copy(&mut self, from: u32, to: u32);
    /// Appends the state; `decode` takes it off again, into a clear slot.
    fn encode(&self, slot: u32, out: &mut Vec<u8>);
    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()>;
    fn slot_bytes(&self) -> usize;
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// The accumulator of a call over arguments of type `input`. MIN and MAX only ever grow here: under retraction the caller
/// keeps a multiset beside a `KeyExtreme`.
pub fn create(call: &AggregateCall, input: &DataType) -> Result<Box<dyn Accumulator>> {
    use AggregateFunction::*;
    let refused = || SqlError::unsupported(format!("{:?} of {input} cannot be computed as {}", call.function, call.output));
    Ok(match (call.function, &call.output) {
        (Count, _) => Box::new(count::Count::default()),
        (Sum | Avg, output) if is_integer(input) => {
            let average = call.function == Avg;
            if *output != if average { SqlType::Double } else { SqlType::BigInt } {
                return Err(refused());
            }
            Box::new(int_sum::IntSum::new(average))
        }
        (Sum | Avg, SqlType::Decimal { precision, scale }) if matches!(input, DataType::Decimal128(_, _)) => {
            let DataType::Decimal128(_, input_scale) = input else { return Err(refused()) };
            Box::new(decimal_sum::DecimalSum::new(*input_scale, *precision, *scale, call.function == Avg)?)
        }
        (Sum | Avg, SqlType::Real | SqlType::Double) if matches!(input, DataType::Float32 | DataType::Float64) => {
            Box::new(float_sum::FloatSum::new(call.function == Avg, call.output == SqlType::Real))
        }
        (VarPop | VarSamp | StddevPop | StddevSamp, SqlType::Double) if *input == DataType::Float64 => {
            Box::new(variance::Variance::new(call.function))
        }
        (BoolAnd | BoolOr, SqlType::Boolean) if *input == DataType::Boolean => Box::new(truth::Truth::new(call.function == BoolAnd)),
        (Min | Max, output) if output.to_arrow() == *input => extreme::create(input, call.function == Max)?,
        _ => return Err(refused()),
    })
}

fn is_integer(ty: &DataType) -> bool {
    matches!(
        ty,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32
    )
}

/// `Some` nulls if any of `valid` is false.
fn null_buffer(valid: Vec<bool>) -> Option<NullBuffer> {
    valid.contains(&false).then(|| NullBuffer::from(valid))
}

#[cfg(test)]
mod tests;
