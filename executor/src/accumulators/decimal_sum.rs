//! SUM and AVG of decimals. The unscaled sum is exact in 192 bits: a 128-bit low part and a 64-bit high part, two's
//! complement; room for 2^64 of the largest decimals. AVG rounds half away from zero to the scale of its type.

use super::{Accumulator, Output, Updates, null_buffer};
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{Decimal128Type, i256};
use eddyline_common::{Result, SqlError};
use eddyline_storage::state::{get_varint, get_varint_u128, put_varint, put_varint_u128, unzigzag, zigzag};
use std::sync::Arc;

const DIGITS_MAX: u32 = 38;

pub(super) struct DecimalSum {
    low: Vec<u128>,
    high: Vec<i64>,
    counts: Vec<i64>,
    precision: u8,
    scale: i8,
    /// 10 to the number of digits that the result has more than the argument.
    factor: i256,
    /// 10 to the precision.
    bound: i256,
    average: bool,
}

impl DecimalSum {
    pub(super) fn new(input_scale: i8, precision: u8, scale: i8, average: bool) -> Result<Self> {
        let digits = u32::try_from(scale as i32 - input_scale as i32).ok().filter(|d| *d <= 19);
        let digits =
            digits.ok_or_else(|| SqlError::unsupported(format!("a sum of scale {input_scale} cannot be computed in scale {scale}")))?;
        let power = |digits: u32| i256::from_i128(10i128.pow(digits.min(DIGITS_MAX)));
        let (factor, bound) = (power(digits), power(precision as u32));
        Ok(DecimalSum { low: Vec::new(), high: Vec::new(), counts: Vec::new(), precision, scale, factor, bound, average })
    }

    fn result(&self, slot: u32) -> Option<i128> {
        let slot = slot as usize;
        let scaled = i256::from_parts(self.low[slot], self.high[slot] as i128).checked_mul(self.factor)?;
        let result = if self.average && self.counts[slot] != 0 { divide(scaled, self.counts[slot]) } else { scaled };
        (result < self.bound && result.wrapping_neg() < self.bound).then(|| result.as_i128())
    }
}

/// Rounds half away from zero.
fn divide(value: i256, by: i64) -> i256 {
    let by = i256::from_i128(by as i128);
    let (quotient, rest) = (value.wrapping_div(by), value.wrapping_rem(by));
    let away = rest.wrapping_abs() >= by.wrapping_abs().wrapping_sub(rest.wrapping_abs());
    let negative = value.is_negative() != by.is_negative();
    match (away, negative) {
        (false, _) => quotient,
        (true, false) => quotient.wrapping_add(i256::ONE),
        (true, true) => quotient.wrapping_sub(i256::ONE),
    }
}

impl Accumulator for DecimalSum {
    fn reserve(&mut self, slots: usize) {
        self.low.resize(slots, 0);
        self.high.resize(slots, 0);
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, updates: &Updates, values: &ArrayRef) {
        let values = values.as_primitive::<Decimal128Type>();
        let (low, high, counts, natives) = (&mut self.low, &mut self.high, &mut self.counts, values.values());
        updates.for_each(values.nulls(), |row, slot, weight| {
            let (add_low, add_high) = match weight {
                1 => (natives[row] as u128, (natives[row] >> 127) as i64),
                _ => {
                    let (low, high) = i256::from_i128(natives[row]).wrapping_mul(i256::from_i128(weight as i128)).to_parts();
                    (low, high as i64)
                }
            };
            let (sum, carry) = low[slot].overflowing_add(add_low);
            low[slot] = sum;
            high[slot] = high[slot].wrapping_add(add_high).wrapping_add(carry as i64);
            counts[slot] += weight;
        });
    }

    fn output(&self, slots: &[u32]) -> Result<Output> {
        let results: Vec<Option<i128>> = slots.iter().map(|s| self.result(*s)).collect();
        let fits: Vec<bool> = results.iter().map(Option::is_some).collect();
        let valid = slots.iter().zip(&fits).map(|(s, fits)| *fits && self.counts[*s as usize] != 0).collect();
        let values = results.iter().map(|r| r.unwrap_or(0)).collect();
        let array = Decimal128Array::new(values, null_buffer(valid)).with_precision_and_scale(self.precision, self.scale)?;
        Ok(Output::checked(Arc::new(array), &fits))
    }

    fn clear(&mut self, slot: u32) {
        self.low[slot as usize] = 0;
        self.high[slot as usize] = 0;
        self.counts[slot as usize] = 0;
    }

    fn copy(&mut self, from: u32, to: u32) {
        self.low[to as usize] = self.low[from as usize];
        self.high[to as usize] = self.high[from as usize];
        self.counts[to as usize] = self.counts[from as usize];
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let slot = slot as usize;
        // A small negative sum has a long low part: fold the sign in, so that it stays short.
        let sign = self.high[slot] >> 63;
        put_varint(zigzag(self.counts[slot]), out);
        put_varint(zigzag(self.high[slot]), out);
        put_varint_u128(self.low[slot] ^ sign as i128 as u128, out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let slot = slot as usize;
        self.counts[slot] = unzigzag(get_varint(bytes)?);
        self.high[slot] = unzigzag(get_varint(bytes)?);
        self.low[slot] = get_varint_u128(bytes)? ^ (self.high[slot] >> 63) as i128 as u128;
        Ok(())
    }

    fn slot_bytes(&self) -> usize {
        32
    }
}
