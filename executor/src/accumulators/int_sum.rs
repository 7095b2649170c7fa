//! SUM and AVG of integers. The sum is exact in 128 bits (2^63 rows of the largest value fit), so a result that was out of
//! BIGINT's range comes back when rows are retracted.

use super::{Accumulator, Output, Updates, null_buffer};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};
use eddyline_common::Result;
use eddyline_storage::state::{get_varint, get_varint_u128, put_varint, put_varint_u128, unzigzag, unzigzag128, zigzag, zigzag128};
use std::sync::Arc;

pub(super) struct IntSum {
    sums: Vec<i128>,
    /// Weight of the values that are not null.
    counts: Vec<i64>,
    average: bool,
}

impl IntSum {
    pub(super) fn new(average: bool) -> Self {
        IntSum { sums: Vec::new(), counts: Vec::new(), average }
    }

    fn add<T: ArrowPrimitiveType<Native: Into<i64>>>(&mut self, updates: &Updates, values: &ArrayRef) {
        let values = values.as_primitive::<T>();
        let (sums, counts, natives) = (&mut self.sums, &mut self.counts, values.values());
        updates.for_each(values.nulls(), |row, slot, weight| {
            let value: i64 = natives[row].into();
            sums[slot] += value as i128 * weight as i128;
            counts[slot] += weight;
        });
    }
}

impl Accumulator for IntSum {
    fn reserve(&mut self, slots: usize) {
        self.sums.resize(slots, 0);
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, updates: &Updates, values: &ArrayRef) {
        match values.data_type() {
            DataType::Int16 => self.add::<Int16Type>(updates, values),
            DataType::Int32 => self.add::<Int32Type>(updates, values),
            DataType::Int64 => self.add::<Int64Type>(updates, values),
            _ => {
                let wide = arrow::compute::cast(values, &DataType::Int64).expect("an integer of 64 bits holds it");
                self.add::<Int64Type>(updates, &wide);
            }
        }
    }

    fn output(&self, slots: &[u32]) -> Result<Output> {
        let at = |s: &u32| (self.sums[*s as usize], self.counts[*s as usize]);
        let counted: Vec<bool> = slots.iter().map(|s| at(s).1 != 0).collect();
        if self.average {
            let averages = slots.iter().map(at).map(|(sum, count)| if count == 0 { 0.0 } else { sum as f64 / count as f64 });
            return Ok(Output::of(Arc::new(Float64Array::new(averages.collect(), null_buffer(counted)))));
        }
        let fits: Vec<bool> = slots.iter().map(|s| i64::try_from(at(s).0).is_ok()).collect();
        let valid = counted.iter().zip(&fits).map(|(counted, fits)| *counted && *fits).collect();
        let sums = slots.iter().map(|s| at(s).0 as i64).collect();
        Ok(Output::checked(Arc::new(Int64Array::new(sums, null_buffer(valid))), &fits))
    }

    fn clear(&mut self, slot: u32) {
        self.sums[slot as usize] = 0;
        self.counts[slot as usize] = 0;
    }

    fn copy(&mut self, from: u32, to: u32) {
        self.sums[to as usize] = self.sums[from as usize];
        self.counts[to as usize] = self.counts[from as usize];
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        put_varint(zigzag(self.counts[slot as usize]), out);
        put_varint_u128(zigzag128(self.sums[slot as usize]), out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts[slot as usize] = unzigzag(get_varint(bytes)?);
        self.sums[slot as usize] = unzigzag128(get_varint_u128(bytes)?);
        Ok(())
    }

    fn slot_bytes(&self) -> usize {
        24
    }
}
