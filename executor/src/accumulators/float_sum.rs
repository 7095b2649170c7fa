//! SUM and AVG of floats, exact: the result is the true sum of the values, rounded once. So it does not depend on the order
//! or splitting of input, never drifts under retraction, and comes back from infinities and NaN when those are retracted.
//!
//! Values from about 1e-32 to 1e28 (by their lowest and highest bit) go to a 320-bit fixed-point number per slot; others
//! to a full-range one that only the slots which need it have. A value goes to the same place when it is retracted.
//! Infinities and NaNs are counted. A sum of others beyond the range of the type is out of range.

use super::fixed::{add, add_fixed, parts, round};
use super::{Accumulator, Output, Updates, null_buffer};
use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use eddyline_common::{Result, SqlError};
use eddyline_storage::state::{get_varint, put_varint, unzigzag, zigzag};
use std::collections::HashMap;
use std::sync::Arc;

const NARROW: usize = 5;
const NARROW_LOWEST: i32 = -160;
/// Values stay below 2^95: 64 bits for weights and one for the sign remain.
const NARROW_HIGHEST: i32 = 95;
/// From 2^-1074 to 2^1024, 64 bits for weights and one for the sign.
const WIDE: usize = 34;
const WIDE_LOWEST: i32 = -1074;

/// What few slots have.
#[derive(Clone, Default, PartialEq)]
struct Rare {
    /// Empty, or `WIDE` limbs.
    wide: Vec<u64>,
    infinite: i64,
    negative_infinite: i64,
    nan: i64,
}

impl Rare {
    fn is_zero(&self) -> bool {
        self.infinite == 0 && self.negative_infinite == 0 && self.nan == 0 && self.wide.iter().all(|limb| *limb == 0)
    }
}

pub(super) struct FloatSum {
    narrow: Vec<[u64; NARROW]>,
    counts: Vec<i64>,
    rare: HashMap<u32, Rare>,
    average: bool,
    real: bool,
}

impl FloatSum {
    pub(super) fn new(average: bool, real: bool) -> Self {
        FloatSum { narrow: Vec::new(), counts: Vec::new(), rare: HashMap::new(), average, real }
    }

    #[inline]
    fn add(&mut self, slot: usize, value: f64, weight: i64) {
        self.counts[slot] += weight;
        let (mantissa, exponent) = parts(value);
        let highest = exponent + 64 - mantissa.unsigned_abs().leading_zeros() as i32;
        if value.is_finite() && exponent >= NARROW_LOWEST && highest <= NARROW_HIGHEST {
            add(&mut self.narrow[slot], NARROW_LOWEST, mantissa, exponent, weight);
        } else {
            self.add_rare(slot, value, mantissa, exponent, weight);
        }
    }

    #[cold]
    fn add_rare(&mut self, slot: usize, value: f64, mantissa: i64, exponent: i32, weight: i64) {
        let rare = self.rare.entry(slot as u32).or_default();
        match value {
            _ if value.is_nan() => rare.nan += weight,
            f64::INFINITY => rare.infinite += weight,
            f64::NEG_INFINITY => rare.negative_infinite += weight,
            _ => {
                rare.wide.resize(WIDE, 0);
                add(&mut rare.wide, WIDE_LOWEST, mantissa, exponent, weight);
            }
        }
        if rare.is_zero() {
            self.rare.remove(&(slot as u32));
        }
    }

    /// `None` if finite values are too large together.
    fn sum(&self, slot: u32) -> Option<f64> {
        let narrow = &self.narrow[slot as usize];
        let Some(rare) = self.rare.get(&slot) else { return Some(round(narrow, NARROW_LOWEST)) };
        Some(match (rare.nan != 0, rare.infinite != 0, rare.negative_infinite != 0) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ => {
                let mut wide = rare.wide.clone();
                wide.resize(WIDE, 0);
                add_fixed(&mut wide, WIDE_LOWEST, narrow, NARROW_LOWEST);
                return Some(round(&wide, WIDE_LOWEST)).filter(|sum| sum.is_finite());
            }
        })
    }

    fn result(&self, slot: u32) -> Option<f64> {
        let result = match self.counts[slot as usize] {
            0 => 0.0,
            count if self.average => self.sum(slot)? / count as f64,
            _ => self.sum(slot)?,
        };
        let fits = !self.real || !result.is_finite() || (result as f32).is_finite();
        fits.then_some(result)
    }
}

impl Accumulator for FloatSum {
    fn reserve(&mut self, slots: usize) {
        self.narrow.resize(slots, [0; NARROW]);
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, updates: &Updates, values: &ArrayRef) {
        if values.data_type() == &DataType::Float32 {
            let values = values.as_primitive::<Float32Type>();
            updates.for_each(values.nulls(), |row, slot, weight| self.add(slot, values.value(row) as f64, weight));
        } else {
            let values = values.as_primitive::<Float64Type>();
            updates.for_each(values.nulls(), |row, slot, weight| self.add(slot, values.value(row), weight));
        }
    }

    fn output(&self, slots: &[u32]) -> Result<Output> {
        let results: Vec<Option<f64>> = slots.iter().map(|slot| self.result(*slot)).collect();
        let fits: Vec<bool> = results.iter().map(Option::is_some).collect();
        let valid = slots.iter().zip(&fits).map(|(slot, fits)| *fits && self.counts[*slot as usize] != 0).collect();
        let results = results.into_iter().map(Option::unwrap_or_default);
        let values: ArrayRef = if self.real {
            Arc::new(Float32Array::new(results.map(|r| r as f32).collect(), null_buffer(valid)))
        } else {
            Arc::new(Float64Array::new(results.collect(), null_buffer(valid)))
        };
        Ok(Output::checked(values, &fits))
    }

    fn clear(&mut self, slot: u32) {
        self.narrow[slot as usize] = [0; NARROW];
        self.counts[slot as usize] = 0;
        self.rare.remove(&slot);
    }

    fn copy(&mut self, from: u32, to: u32) {
        self.narrow[to as usize] = self.narrow[from as usize];
        self.counts[to as usize] = self.counts[from as usize];
        match self.rare.get(&from).cloned() {
            None => drop(self.rare.remove(&to)),
            Some(rare) => drop(self.rare.insert(to, rare)),
        }
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        put_varint(zigzag(self.counts[slot as usize]), out);
        put_limbs(&self.narrow[slot as usize], out);
        match self.rare.get(&slot) {
            None => out.push(0),
            Some(rare) => {
                out.push(1);
                put_limbs(&rare.wide, out);
                [rare.infinite, rare.negative_infinite, rare.nan].into_iter().for_each(|n| put_varint(zigzag(n), out));
            }
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts[slot as usize] = unzigzag(get_varint(bytes)?);
        get_limbs(&mut self.narrow[slot as usize], bytes)?;
        let (rare, rest) = bytes.split_first().ok_or_else(damaged)?;
        *bytes = rest;
        if *rare == 1 {
            let mut rare = Rare { wide: vec![0; WIDE], ..Rare::default() };
            get_limbs(&mut rare.wide, bytes)?;
            for count in [&mut rare.infinite, &mut rare.negative_infinite, &mut rare.nan] {
                *count = unzigzag(get_varint(bytes)?);
            }
            self.rare.insert(slot, rare);
        }
        Ok(())
    }

    fn slot_bytes(&self) -> usize {
        8 * NARROW + 8
    }

    fn heap_bytes(&self) -> usize {
        self.rare.len() * (8 * WIDE + 64)
    }
}

/// Without the limbs at either end that follow from the others: first limb, how many, the limbs.
pub(super) fn put_limbs(limbs: &[u64], out: &mut Vec<u8>) {
    let first = limbs.iter().position(|limb| *limb != 0).unwrap_or(limbs.len());
    let mut end = limbs.len();
    while end > first + 1 && limbs[end - 1] == sign_of(limbs[end - 2]) {
        end -= 1;
    }
    out.extend_from_slice(&[first as u8, (end - first) as u8]);
    limbs[first..end].iter().for_each(|limb| out.extend_from_slice(&limb.to_le_bytes()));
}

pub(super) fn get_limbs(limbs: &mut [u64], bytes: &mut &[u8]) -> Result<()> {
    let ([first, count], rest) = bytes.split_first_chunk::<2>().ok_or_else(damaged)?;
    let (first, end) = (*first as usize, *first as usize + *count as usize);
    if end > limbs.len() || rest.len() < 8 * *count as usize {
        return Err(damaged());
    }
    let (stored, rest) = rest.split_at(8 * *count as usize);
    for (limb, bytes) in limbs[first..end].iter_mut().zip(stored.as_chunks::<8>().0) {
        *limb = u64::from_le_bytes(*bytes);
    }
    if first < end {
        let sign = sign_of(limbs[end - 1]);
        limbs[end..].fill(sign);
    }
    *bytes = rest;
    Ok(())
}

fn sign_of(limb: u64) -> u64 {
    (limb as i64 >> 63) as u64
}

pub(super) fn damaged() -> SqlError {
    SqlError::corrupt("a stored sum is damaged")
}
