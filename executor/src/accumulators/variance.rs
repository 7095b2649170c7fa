//! VARIANCE and STDDEV, of a population and of a sample. Sum and sum of squares are exact fixed-point numbers, and so is
//! `n * sum of squares - sum^2`; only then is anything rounded. So the result does not depend on order, does not drift
//! under retraction, and does not cancel where the mean is large; infinities and NaNs are counted, and give NaN.
//!
//! As in `float_sum`, values from about 1e-32 to 1e28 go to numbers every slot has, others to wider ones few slots have.

use super::fixed::{add, add_fixed, magnitude, parts, product, round, subtract};
use super::float_sum::{damaged, get_limbs, put_limbs};
use super::{Accumulator, Output, Updates, null_buffer};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use eddyline_common::Result;
use eddyline_planner::plan::AggregateFunction;
use eddyline_storage::state::{get_varint, put_varint, unzigzag, zigzag};
use std::collections::HashMap;
use std::sync::Arc;

const LOWEST: i32 = -160;
/// Values stay below 2^95, their squares below 2^190: 64 bits for weights and one for the sign remain in both.
const HIGHEST: i32 = 95;
const SUM: usize = 5;
const SQUARES: usize = 10;
/// For every finite value, from 2^-1074 to 2^1024.
const WIDE_LOWEST: i32 = -1074;
const WIDE_SUM: usize = 34;
const WIDE_SQUARES: usize = 67;

/// What few slots have.
#[derive(Clone, Default)]
struct Rare {
    sum: Vec<u64>,
    squares: Vec<u64>,
    /// Values that are infinite or NaN.
    special: i64,
}

impl Rare {
    fn is_zero(&self) -> bool {
        self.special == 0 && self.sum.iter().chain(&self.squares).all(|limb| *limb == 0)
    }
}

pub(super) struct Variance {
    sums: Vec<[u64; SUM]>,
    squares: Vec<[u64; SQUARES]>,
    counts: Vec<i64>,
    rare: HashMap<u32, Rare>,
    sample: bool,
    root: bool,
}

impl Variance {
    pub(super) fn new(function: AggregateFunction) -> Self {
        use AggregateFunction::{StddevPop, StddevSamp, VarSamp};
        Variance {
            sums: Vec::new(),
            squares: Vec::new(),
            counts: Vec::new(),
            rare: HashMap::new(),
            sample: matches!(function, VarSamp | StddevSamp),
            root: matches!(function, StddevPop | StddevSamp),
        }
    }

    fn add(&mut self, slot: usize, value: f64, weight: i64) {
        self.counts[slot] += weight;
        let (mantissa, exponent) = parts(value);
        let highest = exponent + 64 - mantissa.unsigned_abs().leading_zeros() as i32;
        if value.is_finite() && exponent >= LOWEST && highest <= HIGHEST {
            add(&mut self.sums[slot], LOWEST, mantissa, exponent, weight);
            return add_square(&mut self.squares[slot], 2 * LOWEST, mantissa, exponent, weight);
        }
        let rare = self.rare.entry(slot as u32).or_default();
        if value.is_finite() {
            rare.sum.resize(WIDE_SUM, 0);
            rare.squares.resize(WIDE_SQUARES, 0);
            add(&mut rare.sum, WIDE_LOWEST, mantissa, exponent, weight);
            add_square(&mut rare.squares, 2 * WIDE_LOWEST, mantissa, exponent, weight);
        } else {
            rare.special += weight;
        }
        if rare.is_zero() {
            self.rare.remove(&(slot as u32));
        }
    }

    /// `n * sum of squares - sum^2`.
    fn spread(&self, slot: u32, count: i64) -> f64 {
        let (sum, squares) = (&self.sums[slot as usize], &self.squares[slot as usize]);
        match self.rare.get(&slot) {
            None => spread(sum, squares, count, LOWEST),
            Some(rare) if rare.special != 0 => f64::NAN,
            Some(rare) => {
                let (mut wide_sum, mut wide_squares) = (rare.sum.clone(), rare.squares.clone());
                wide_sum.resize(WIDE_SUM, 0);
                wide_squares.resize(WIDE_SQUARES, 0);
                add_fixed(&mut wide_sum, WIDE_LOWEST, sum, LOWEST);
                add_fixed(&mut wide_squares, 2 * WIDE_LOWEST, squares, 2 * LOWEST);
                spread(&wide_sum, &wide_squares, count, WIDE_LOWEST)
            }
        }
    }

    fn result(&self, slot: u32) -> Option<f64> {
        let count = self.counts[slot as usize];
        if count < 1 + self.sample as i64 {
            return None;
        }
        let divisor = count as f64 * (count - self.sample as i64) as f64;
        let variance = self.spread(slot, count) / divisor;
        Some(if self.root { variance.sqrt() } else { variance })
    }
}

/// Adds `(mantissa * 2^exponent)^2 * weight`; the square of a mantissa of 53 bits in two halves.
fn add_square(limbs: &mut [u64], lowest: i32, mantissa: i64, exponent: i32, weight: i64) {
    let square = mantissa.unsigned_abs() as u128 * mantissa.unsigned_abs() as u128;
    add(limbs, lowest, (square & ((1 << 53) - 1)) as i64, 2 * exponent, weight);
    add(limbs, lowest, (square >> 53) as i64, 2 * exponent + 53, weight);
}

fn spread(sum: &[u64], squares: &[u64], count: i64, lowest: i32) -> f64 {
    let sum = magnitude(sum);
    let mut spread = product(&magnitude(squares), &[count as u64]);
    let square = product(&sum, &sum);
    spread.resize(spread.len().max(square.len()) + 1, 0);
    subtract(&mut spread, &square);
    round(&spread, 2 * lowest)
}

impl Accumulator for Variance {
    fn reserve(&mut self, slots: usize) {
        self.sums.resize(slots, [0; SUM]);
        self.squares.resize(slots, [0; SQUARES]);
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, updates: &Updates, values: &ArrayRef) {
        let values = values.as_primitive::<Float64Type>();
        updates.for_each(values.nulls(), |row, slot, weight| self.add(slot, values.value(row), weight));
    }

    fn output(&self, slots: &[u32]) -> Result<Output> {
        let results: Vec<Option<f64>> = slots.iter().map(|slot| self.result(*slot)).collect();
        let valid = null_buffer(results.iter().map(Option::is_some).collect());
        Ok(Output::of(Arc::new(Float64Array::new(results.iter().map(|r| r.unwrap_or(0.0)).collect(), valid))))
    }

    fn clear(&mut self, slot: u32) {
        self.sums[slot as usize] = [0; SUM];
        self.squares[slot as usize] = [0; SQUARES];
        self.counts[slot as usize] = 0;
        self.rare.remove(&slot);
    }

    fn copy(&mut self, from: u32, to: u32) {
        self.sums[to as usize] = self.sums[from as usize];
        self.squares[to as usize] = self.squares[from as usize];
        self.counts[to as usize] = self.counts[from as usize];
        match self.rare.get(&from).cloned() {
            None => drop(self.rare.remove(&to)),
            Some(rare) => drop(self.rare.insert(to, rare)),
        }
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        put_varint(zigzag(self.counts[slot as usize]), out);
        put_limbs(&self.sums[slot as usize], out);
        put_limbs(&self.squares[slot as usize], out);
        match self.rare.get(&slot) {
            None => out.push(0),
            Some(rare) => {
                out.push(1);
                put_limbs(&rare.sum, out);
                put_limbs(&rare.squares, out);
                put_varint(zigzag(rare.special), out);
            }
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts[slot as usize] = unzigzag(get_varint(bytes)?);
        get_limbs(&mut self.sums[slot as usize], bytes)?;
        get_limbs(&mut self.squares[slot as usize], bytes)?;
        let (rare, rest) = bytes.split_first().ok_or_else(damaged)?;
        *bytes = rest;
        if *rare == 1 {
            let mut rare = Rare { sum: vec![0; WIDE_SUM], squares: vec![0; WIDE_SQUARES], special: 0 };
            get_limbs(&mut rare.sum, bytes)?;
            get_limbs(&mut rare.squares, bytes)?;
            rare.special = unzigzag(get_varint(bytes)?);
            self.rare.insert(slot, rare);
        }
        Ok(())
    }

    fn slot_bytes(&self) -> usize {
        8 * (SUM + SQUARES) + 8
    }

    fn heap_bytes(&self) -> usize {
        self.rare.len() * (8 * (WIDE_SUM + WIDE_SQUARES) + 64)
    }
}
