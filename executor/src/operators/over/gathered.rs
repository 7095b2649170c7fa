//! What an aggregate gathers of a frame: an accumulator, which values are added to and taken back from. With DISTINCT it is also known
//! how often each value is there, so that the accumulator is told of the first one that comes and of the last one that goes.
//!
//! Values are equal if their keys are, as in GROUP BY. Nulls are counted like values here; the accumulator passes over them.

use super::piece::Piece;
use crate::accumulators::{self, Accumulator, Output, Updates};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{nullif, take};
use arrow::datatypes::{DataType, SchemaRef};
use eddyline_common::Result;
use eddyline_common::key::{KeyCodec, KeyRows, hash128};
use eddyline_planner::plan::{AggregateCall, AggregateFunction};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

/// An aggregate whose value follows from which values are in the frame, in whatever order.
pub(super) struct Aggregate {
    call: AggregateCall,
    ty: DataType,
    /// Of the argument, if only distinct values count; of the least and the greatest that says nothing.
    codec: Option<KeyCodec>,
}

impl Aggregate {
    /// Fails with 0A000 if the call cannot be computed over its argument.
    pub(super) fn new(call: &AggregateCall, input: &SchemaRef) -> Result<Self> {
        let ty = call.argument.map_or(DataType::Boolean, |c| input.field(c).data_type().clone());
        accumulators::create(call, &ty)?;
        let distinct = call.distinct && !matches!(call.function, AggregateFunction::Min | AggregateFunction::Max);
        let codec = distinct.then(|| KeyCodec::new(vec![ty.clone()])).transpose()?;
        Ok(Aggregate { call: call.clone(), ty, codec })
    }

    pub(super) fn ty(&self) -> &DataType {
        &self.ty
    }

    /// Nothing yet.
    pub(super) fn start(&self) -> Result<Gathered> {
        let mut accumulator = accumulators::create(&self.call, &self.ty)?;
        accumulator.reserve(1);
        Ok(Gathered { accumulator, distinct: self.codec.as_ref().map(|_| Distinct::default()), weights: Vec::new() })
    }

    /// The argument at some positions.
    pub(super) fn values(&self, piece: &Piece, at: Range<usize>) -> Result<Values> {
        let column = argument(piece, &self.call, at)?;
        let mut hashes = Vec::new();
        if let Some(codec) = &self.codec {
            let mut keys = KeyRows::default();
            codec.encode(std::slice::from_ref(&column), column.len(), &mut keys);
            hashes.extend(keys.iter().map(hash128));
        }
        Ok(Values { column, hashes })
    }
}

/// An aggregate's argument at some positions; null where its filter is not true. COUNT(*) counts trues.
pub(super) fn argument(piece: &Piece, call: &AggregateCall, at: Range<usize>) -> Result<ArrayRef> {
    let start = at.start.min(at.end);
    let rows = UInt32Array::from(piece.rows[start..at.end].to_vec());
    let values = match call.argument {
        Some(column) => take(&piece.buffer.columns[column], &rows, None)?,
        None => Arc::new(BooleanArray::new(BooleanBuffer::new_set(rows.len()), None)) as ArrayRef,
    };
    let Some(filter) = call.filter else { return Ok(values) };
    let filter = take(&piece.buffer.columns[filter], &rows, None)?;
    let filter = filter.as_boolean();
    let left_out = BooleanArray::from_iter((0..filter.len()).map(|at| Some(filter.is_null(at) || !filter.value(at))));
    Ok(nullif(&values, &left_out)?)
}

pub(super) struct Values {
    column: ArrayRef,
    /// Of their keys; none unless values have to be told apart.
    hashes: Vec<u128>,
}

impl Values {
    pub(super) fn len(&self) -> usize {
        self.column.len()
    }
}

pub(super) struct Gathered {
    /// Slot 0 is the frame's; others are results to be read.
    accumulator: Box<dyn Accumulator>,
    distinct: Option<Distinct>,
    weights: Vec<i64>,
}

impl Gathered {
    /// Makes room for so many results.
    pub(super) fn reserve(&mut self, results: usize) {
        self.accumulator.reserve(1 + results);
    }

    pub(super) fn clear(&mut self) {
        self.accumulator.clear(0);
        self.distinct.iter_mut().for_each(Distinct::clear);
    }

    /// Adds values, or takes them back: `weight` is 1 or -1.
    pub(super) fn add(&mut self, values: &Values, at: Range<usize>, weight: i64) {
        const AT_ONCE: usize = 1024;
        const SLOTS: [u32; AT_ONCE] = [0; AT_ONCE];
        let Gathered { accumulator, distinct, weights } = self;
        let mut start = at.start;
        while start < at.end {
            let rows = (at.end - start).min(AT_ONCE);
            weights.clear();
            match distinct {
                Some(distinct) => weights.extend(values.hashes[start..start + rows].iter().map(|hash| distinct.add(*hash, weight))),
                None if weight == 1 => {}
                None => weights.resize(rows, weight),
            }
            let weights = (!weights.is_empty()).then_some(weights.as_slice());
            accumulator.update(&Updates { slots: &SLOTS[..rows], weights, mask: None }, &values.column.slice(start, rows));
            start += rows;
        }
    }

    /// Keeps what there is now as a result, counted from 0.
    pub(super) fn keep(&mut self, result: usize) {
        self.accumulator.copy(0, 1 + result as u32);
    }

    /// The first of the results that were kept.
    pub(super) fn results(&self, results: usize) -> Result<Output> {
        let slots: Vec<u32> = (1..=results as u32).collect();
        self.accumulator.output(&slots)
    }

    pub(super) fn copy_from(&mut self, other: &Gathered) -> Result<()> {
        self.clear();
        self.accumulator.decode(0, &mut other.encoded().as_slice())?;
        self.distinct.clone_from(&other.distinct);
        Ok(())
    }

    /// Whether whatever is added to both leads to the same.
    pub(super) fn is_same(&self, other: &Gathered) -> bool {
        let same_values = match (&self.distinct, &other.distinct) {
            (Some(own), Some(other)) => own.has_values_of(other),
            (own, other) => own.is_none() && other.is_none(),
        };
        same_values && self.encoded() == other.encoded()
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.accumulator.encode(0, &mut bytes);
        bytes
    }
}

/// How often each value is there.
#[derive(Clone, Default)]
struct Distinct {
    counts: HashMap<u128, i64>,
    /// The sum of the values' hashes: where it differs, so do the values.
    sum: u128,
}

impl Distinct {
    /// Adds a value, or takes it back; by how much that changes how many different ones there are.
    fn add(&mut self, value: u128, weight: i64) -> i64 {
        match self.counts.entry(value) {
            Entry::Vacant(new) => {
                new.insert(weight);
                self.sum = self.sum.wrapping_add(value);
                weight
            }
            Entry::Occupied(mut count) => {
                *count.get_mut() += weight;
                if *count.get() != 0 {
                    return 0;
                }
                count.remove();
                self.sum = self.sum.wrapping_sub(value);
                weight
            }
        }
    }

    fn clear(&mut self) {
        self.counts.clear();
        self.sum = 0;
    }

    fn has_values_of(&self, other: &Distinct) -> bool {
        let same = self.sum == other.sum && self.counts.len() == other.counts.len();
        same && self.counts.keys().all(|value| other.counts.contains_key(value))
    }
}
