//! MIN and MAX. `NumberExtreme` keeps numbers and times natively, for input that only grows; `KeyExtreme` any comparable
//! type as its order-preserving key. Floats order as in PostgreSQL: NaN is above all, and -0.0 is 0.0.

use super::{Accumulator, Output, Updates, null_buffer};
use arrow::array::*;
use arrow::datatypes::*;
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::{Result, SqlError};
use eddyline_storage::state::{get_varint, get_varint_u128, put_varint, put_varint_u128, unzigzag128, zigzag128};
use std::sync::Arc;

/// For input that only grows.
pub(super) fn create(ty: &DataType, max: bool) -> Result<Box<dyn Accumulator>> {
    use DataType::*;
    Ok(match ty {
        Int16 | Int32 | Int64 | Date32 | Float32 | Float64 | Timestamp(TimeUnit::Microsecond, _) | Time64(TimeUnit::Microsecond) => {
            Box::new(NumberExtreme::<i64>::new(ty, max))
        }
        Decimal128(_, _) => Box::new(NumberExtreme::<i128>::new(ty, max)),
        _ => Box::new(KeyExtreme::new(ty, max)?),
    })
}

trait Number: Ord + Copy + Default + Send + Into<i128> + 'static {
    fn from_wide(value: i128) -> Self;
}

impl Number for i64 {
    fn from_wide(value: i128) -> Self {
        value as i64
    }
}

impl Number for i128 {
    fn from_wide(value: i128) -> Self {
        value
    }
}

struct NumberExtreme<V> {
    ty: DataType,
    max: bool,
    values: Vec<V>,
    valid: Vec<bool>,
}

impl<V: Number> NumberExtreme<V> {
    fn new(ty: &DataType, max: bool) -> Self {
        NumberExtreme { ty: ty.clone(), max, values: Vec::new(), valid: Vec::new() }
    }

    fn fold<T: ArrowPrimitiveType>(&mut self, updates: &Updates, values: &ArrayRef, number: impl Fn(T::Native) -> V) {
        let array = values.as_primitive::<T>();
        let (natives, present, valid) = (array.values(), &mut self.values, &mut self.valid);
        let mut add = |row: usize, slot: usize, better: fn(&V, &V) -> bool| {
            let value = number(natives[row]);
            if !valid[slot] || better(&value, &present[slot]) {
                present[slot] = value;
                valid[slot] = true;
            }
        };
        if self.max {
            updates.for_each(array.nulls(), |row, slot, _| add(row, slot, V::gt));
        } else {
            updates.for_each(array.nulls(), |row, slot, _| add(row, slot, V::lt));
        }
    }
}

/// Integers that order as the floats do; its own inverse on the bits.
fn flip(bits: i64) -> i64 {
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn float_order(value: f64) -> i64 {
    flip(if value.is_nan() { f64::NAN } else { value + 0.0 }.to_bits() as i64)
}

impl<V: Number> Accumulator for NumberExtreme<V> {
    fn reserve(&mut self, slots: usize) {
        self.values.resize(slots, V::default());
        self.valid.resize(slots, false);
    }

    fn update(&mut self, updates: &Updates, values: &ArrayRef) {
        let from = |v: i64| V::from_wide(v as i128);
        match values.data_type() {
            DataType::Int16 => self.fold::<Int16Type>(updates, values, |v| from(v as i64)),
            DataType::Int32 => self.fold::<Int32Type>(updates, values, |v| from(v as i64)),
            DataType::Date32 => self.fold::<Date32Type>(updates, values, |v| from(v as i64)),
            DataType::Int64 => self.fold::<Int64Type>(updates, values, from),
            DataType::Timestamp(_, _) => self.fold::<TimestampMicrosecondType>(updates, values, from),
            DataType::Time64(_) => self.fold::<Time64MicrosecondType>(updates, values, from),
            DataType::Float32 => self.fold::<Float32Type>(updates, values, |v| from(float_order(v as f64))),
            DataType::Float64 => self.fold::<Float64Type>(updates, values, |v| from(float_order(v))),
            DataType::Decimal128(_, _) => self.fold::<Decimal128Type>(updates, values, V::from_wide),
            other => unreachable!("{other} is not kept as a number"),
        }
    }

    fn output(&self, slots: &[u32]) -> Result<Output> {
        let nulls = null_buffer(slots.iter().map(|s| self.valid[*s as usize]).collect());
        let wide = slots.iter().map(|s| -> i128 { self.values[*s as usize].into() });
        let float = |v: i128| f64::from_bits(flip(v as i64) as u64);
        let array: ArrayRef = match &self.ty {
            DataType::Int16 => Arc::new(Int16Array::new(wide.map(|v| v as i16).collect(), nulls)),
            DataType::Int32 => Arc::new(Int32Array::new(wide.map(|v| v as i32).collect(), nulls)),
            DataType::Date32 => Arc::new(Date32Array::new(wide.map(|v| v as i32).collect(), nulls)),
            DataType::Int64 => Arc::new(Int64Array::new(wide.map(|v| v as i64).collect(), nulls)),
            DataType::Timestamp(_, zone) => {
                Arc::new(TimestampMicrosecondArray::new(wide.map(|v| v as i64).collect(), nulls).with_timezone_opt(zone.clone()))
            }
            DataType::Time64(_) => Arc::new(Time64MicrosecondArray::new(wide.map(|v| v as i64).collect(), nulls)),
            DataType::Float32 => Arc::new(Float32Array::new(wide.map(|v| float(v) as f32).collect(), nulls)),
            DataType::Float64 => Arc::new(Float64Array::new(wide.map(float).collect(), nulls)),
            ty => Arc::new(Decimal128Array::new(wide.collect(), nulls).with_data_type(ty.clone())),
        };
        Ok(Output::of(array))
    }

    fn clear(&mut self, slot: u32) {
        self.values[slot as usize] = V::default();
        self.valid[slot as usize] = false;
    }

    fn copy(&mut self, from: u32, to: u32) {
        self.values[to as usize] = self.values[from as usize];
        self.valid[to as usize] = self.valid[from as usize];
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(self.valid[slot as usize] as u8);
        if self.valid[slot as usize] {
            put_varint_u128(zigzag128(self.values[slot as usize].into()), out);
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let (valid, rest) = bytes.split_first().ok_or_else(damaged)?;
        *bytes = rest;
        if *valid == 1 {
            self.values[slot as usize] = V::from_wide(unzigzag128(get_varint_u128(bytes)?));
            self.valid[slot as usize] = true;
        }
        Ok(())
    }

    fn slot_bytes(&self) -> usize {
        size_of::<V>() + 1
    }
}

/// The present extreme of each slot as a key (`common::key`, one column).
pub struct KeyExtreme {
    codec: KeyCodec,
    max: bool,
    values: Vec<Option<Box<[u8]>>>,
    heap_bytes: usize,
    encoded: KeyRows,
}

/// The key of a null.
const NULL_KEY: &[u8] = &[0];

impl KeyExtreme {
    pub fn new(ty: &DataType, max: bool) -> Result<Self> {
        let codec = KeyCodec::new(vec![ty.clone()])?;
        Ok(KeyExtreme { codec, max, values: Vec::new(), heap_bytes: 0, encoded: KeyRows::default() })
    }

    pub fn get(&self, slot: u32) -> Option<&[u8]> {
        self.values[slot as usize].as_deref()
    }

    pub fn set(&mut self, slot: u32, value: Option<&[u8]>) {
        let present = &mut self.values[slot as usize];
        // Values that rise with time would else be an allocation for each row.
        if let (Some(present), Some(value)) = (present.as_mut(), value)
            && present.len() == value.len()
        {
            return present.copy_from_slice(value);
        }
        self.heap_bytes -= present.as_ref().map_or(0, |v| v.len());
        self.heap_bytes += value.map_or(0, <[u8]>::len);
        *present = value.map(Into::into);
    }

    /// Makes `value` the extreme if there is none or it is better.
    pub fn offer(&mut self, slot: u32, value: &[u8]) {
        let better = self.get(slot).is_none_or(|present| if self.max { value > present } else { value < present });
        if better {
            self.set(slot, Some(value));
        }
    }
}

impl Accumulator for KeyExtreme {
    fn reserve(&mut self, slots: usize) {
        self.values.resize(slots, None);
    }

    fn update(&mut self, updates: &Updates, values: &ArrayRef) {
        let mut encoded = std::mem::take(&mut self.encoded);
        self.codec.encode(std::slice::from_ref(values), values.len(), &mut encoded);
        updates.for_each(values.logical_nulls().as_ref(), |row, slot, _| self.offer(slot as u32, encoded.row(row)));
        self.encoded = encoded;
    }

    fn output(&self, slots: &[u32]) -> Result<Output> {
        let mut columns = self.codec.decode(slots.iter().map(|s| self.get(*s).unwrap_or(NULL_KEY)))?;
        Ok(Output::of(columns.pop().ok_or_else(damaged)?))
    }

    fn clear(&mut self, slot: u32) {
        self.set(slot, None);
    }

    fn copy(&mut self, from: u32, to: u32) {
        let value = self.get(from).map(<[u8]>::to_vec);
        self.set(to, value.as_deref());
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let value = self.get(slot);
        put_varint(value.map_or(0, |v| v.len() as u64 + 1), out);
        out.extend_from_slice(value.unwrap_or_default());
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let Some(length) = get_varint(bytes)?.checked_sub(1) else { return Ok(()) };
        let (value, rest) = bytes.split_at_checked(length as usize).ok_or_else(damaged)?;
        *bytes = rest;
        self.set(slot, Some(value));
        Ok(())
    }

    fn slot_bytes(&self) -> usize {
        size_of::<Option<Box<[u8]>>>()
    }

    fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }
}

fn damaged() -> SqlError {
    SqlError::corrupt("a stored extreme is damaged")
}
