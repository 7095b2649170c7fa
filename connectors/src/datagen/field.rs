//! One column of made-up values, from its options `fields.<column>.*`. Nested types hold fields in turn. A value depends
//! on the field's name and on the row's seed alone, a sequence on the row's number.

use crate::format::json::times::{parse_date, parse_time, parse_timestamp};
use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, ListArray, MapArray, StringArray, StructArray};
use arrow::array::{Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, make_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use eddyline_common::key::hash64;
use eddyline_common::time::MICROS_PER_DAY;
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Date of the first row unless said otherwise: 2015-07-15 00:00:00 UTC.
const BASE_MICROS: i64 = 1_436_918_400_000_000;
/// Flink's: characters of a text, elements of an array.
const TEXT_LENGTH: i64 = 100;
const ITEMS: i64 = 3;

/// The finaliser of SplitMix64 (Steele et al., "Fast Splittable Pseudorandom Number Generators").
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A number below `span`.
fn below(random: u64, span: u128) -> u128 {
    if span <= 1 << 64 { (random as u128 * span) >> 64 } else { ((mix(random) as u128) << 64 | random as u128) % span }
}

/// The options of fields, and which of them somebody has asked for.
pub struct Settings<'a> {
    options: &'a BTreeMap<String, String>,
    used: BTreeSet<String>,
    /// Event time between rows.
    gap_micros: i64,
}

impl<'a> Settings<'a> {
    pub fn new(options: &'a BTreeMap<String, String>, rate: i64) -> Self {
        Settings { options, used: BTreeSet::new(), gap_micros: (1_000_000 / rate).max(1) }
    }

    fn get(&mut self, path: &str, option: &str) -> Option<&'a str> {
        let key = format!("fields.{path}.{option}");
        let value = self.options.get(&key).map(String::as_str);
        self.used.insert(key);
        value
    }

    /// Fails for options of columns that there are not, or that mean nothing for their type.
    pub fn refuse_unused(&self) -> Result<()> {
        let Some(unused) = self.options.keys().find(|key| key.starts_with("fields.") && !self.used.contains(*key)) else { return Ok(()) };
        let error = SqlError::new(SqlState::INVALID_PARAMETER, format!("option \"{unused}\" belongs to no column that it could be for"));
        Err(match options::nearest(unused, self.used.iter().map(String::as_str)) {
            Some(meant) => error.with_hint(format!("Perhaps you meant \"{meant}\".")),
            None => error,
        })
    }
}

enum Kind {
    Boolean,
    /// From a least value on, so many; of integers, decimals, dates and times, in their units.
    Whole {
        min: i128,
        span: u128,
    },
    Float {
        min: f64,
        max: f64,
    },
    Text {
        length: i64,
        varies: bool,
    },
    Bytes {
        length: i64,
        varies: bool,
    },
    /// The first row's value and how many there are; `step` for decimals.
    Sequence {
        start: i128,
        step: i128,
        count: i64,
    },
    /// The row's event time, less up to so much.
    Time {
        gap: i64,
        max_past: i64,
    },
    List {
        length: i64,
        varies: bool,
        item: Box<Field>,
    },
    Map {
        length: i64,
        key: Box<Field>,
        value: Box<Field>,
    },
    Row(Vec<Field>),
}

pub struct Field {
    ty: SqlType,
    salt: u64,
    /// Of 2^32 rows, in how many it is NULL.
    nulls: u64,
    kind: Kind,
}

impl Field {
    /// `path` is the column's name, in nested types with the inner one's behind a dot.
    pub fn new(settings: &mut Settings, path: &str, ty: &SqlType, nullable: bool) -> Result<Field> {
        let nulls = match settings.get(path, "null-rate") {
            None => 0,
            Some(text) => match text.parse::<f64>() {
                Ok(rate) if (0.0..=1.0).contains(&rate) && (nullable || rate == 0.0) => (rate * 4_294_967_296.0) as u64,
                _ => return Err(invalid(path, "null-rate", text, "a share from 0 to 1 of a column that may be null")),
            },
        };
        let kind = match settings.get(path, "kind") {
            Some("sequence") => sequence(settings, path, ty)?,
            _ => random(settings, path, ty)?,
        };
        Ok(Field { ty: ty.clone(), salt: hash64(path.as_bytes()), nulls, kind })
    }

    /// How many rows there are, if the field ends.
    pub fn row_count(&self) -> Option<i64> {
        match &self.kind {
            Kind::Sequence { count, .. } => Some(*count),
            Kind::Row(fields) => fields.iter().filter_map(Field::row_count).min(),
            _ => None,
        }
    }

    /// The values of rows with these numbers and seeds.
    pub fn values(&self, rows: &[i64], seeds: &[u64]) -> Result<ArrayRef> {
        let seeds: Vec<u64> = seeds.iter().map(|seed| mix(seed ^ self.salt)).collect();
        let array = self.all(rows, &seeds)?;
        if self.nulls == 0 {
            return Ok(array);
        }
        let valid = NullBuffer::from_iter(seeds.iter().map(|seed| mix(*seed) >> 32 >= self.nulls));
        let data = array.to_data().into_builder().nulls(Some(valid)).build()?;
        Ok(make_array(data))
    }

    fn all(&self, rows: &[i64], seeds: &[u64]) -> Result<ArrayRef> {
        let seeded = seeds.iter().copied();
        Ok(match &self.kind {
            Kind::Boolean => Arc::new(BooleanArray::from_iter(seeded.map(|s| Some(s & 1 == 1)))),
            Kind::Whole { min, span } => self.whole(seeded.map(|s| min + below(s, *span) as i128))?,
            Kind::Sequence { start, step, .. } => self.whole(rows.iter().map(|row| start + *row as i128 * step))?,
            Kind::Time { gap, max_past } => {
                let time = |(row, seed): (&i64, u64)| {
                    BASE_MICROS as i128 + *row as i128 * *gap as i128 - below(seed, *max_past as u128 + 1) as i128
                };
                self.whole(rows.iter().zip(seeded).map(time))?
            }
            Kind::Float { min, max } => {
                // 53 random bits, as many as a double has.
                let values = seeded.map(|s| min + (s >> 11) as f64 / (1u64 << 53) as f64 * (max - min));
                match self.ty {
                    SqlType::Real => Arc::new(Float32Array::from_iter_values(values.map(|v| v as f32))),
                    _ => Arc::new(Float64Array::from_iter_values(values)),
                }
            }
            Kind::Text { length, varies } => {
                Arc::new(StringArray::from_iter_values(seeded.map(|s| characters(s, count(s, *length, *varies)))))
            }
            Kind::Bytes { length, varies } => {
                Arc::new(BinaryArray::from_iter_values(seeded.map(|s| characters(s, count(s, *length, *varies)).into_bytes())))
            }
            Kind::List { length, varies, item } => {
                let DataType::List(field) = self.ty.to_arrow() else { return Err(SqlError::internal("an array of another type")) };
                let (offsets, numbers, inner) = expand(rows, seeds, |s| count(s, *length, *varies));
                Arc::new(ListArray::try_new(field, offsets, item.values(&numbers, &inner)?, None)?)
            }
            Kind::Map { length, key, value } => {
                let DataType::Map(field, sorted) = self.ty.to_arrow() else { return Err(SqlError::internal("a map of another type")) };
                let DataType::Struct(fields) = field.data_type() else { return Err(SqlError::internal("a map without entries")) };
                let (offsets, numbers, inner) = expand(rows, seeds, |_| *length);
                let entries = vec![key.values(&numbers, &inner)?, value.values(&numbers, &inner)?];
                Arc::new(MapArray::try_new(field.clone(), offsets, StructArray::try_new(fields.clone(), entries, None)?, None, sorted)?)
            }
            Kind::Row(inner) => {
                let DataType::Struct(fields) = self.ty.to_arrow() else { return Err(SqlError::internal("a row of another type")) };
                let columns = inner.iter().map(|field| field.values(rows, seeds)).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new(fields, columns, None)?)
            }
        })
    }

    /// Whole numbers in the column's type: numbers, decimals by their digits, days, microseconds, text.
    fn whole(&self, values: impl Iterator<Item = i128>) -> Result<ArrayRef> {
        Ok(match self.ty {
            SqlType::SmallInt => Arc::new(Int16Array::from_iter_values(values.map(|v| v as i16))),
            SqlType::Integer => Arc::new(Int32Array::from_iter_values(values.map(|v| v as i32))),
            SqlType::Text => Arc::new(StringArray::from_iter_values(values.map(|v| v.to_string()))),
            SqlType::Decimal { .. } => Arc::new(Decimal128Array::from_iter_values(values).with_data_type(self.ty.to_arrow())),
            SqlType::Date => cast(&Int32Array::from_iter_values(values.map(|v| v as i32)), &DataType::Date32)?,
            SqlType::Real | SqlType::Double => cast(&Float64Array::from_iter_values(values.map(|v| v as f64)), &self.ty.to_arrow())?,
            _ => cast(&Int64Array::from_iter_values(values.map(|v| v as i64)), &self.ty.to_arrow())?,
        })
    }
}

/// Numbers and seeds of the elements that rows have.
fn expand(rows: &[i64], seeds: &[u64], count: impl Fn(u64) -> i64) -> (OffsetBuffer<i32>, Vec<i64>, Vec<u64>) {
    let (mut lengths, mut numbers, mut inner) = (Vec::with_capacity(rows.len()), Vec::new(), Vec::new());
    for (row, seed) in rows.iter().zip(seeds) {
        let count = count(*seed);
        lengths.push(count as usize);
        numbers.extend(std::iter::repeat_n(*row, count as usize));
        inner.extend((0..count as u64).map(|index| mix(seed ^ mix(index))));
    }
    (OffsetBuffer::from_lengths(lengths), numbers, inner)
}

fn count(seed: u64, length: i64, varies: bool) -> i64 {
    if varies { below(mix(!seed), length as u128 + 1) as i64 } else { length }
}

/// Hexadecimal digits, sixteen to a random number.
fn characters(seed: u64, length: i64) -> String {
    let length = length as usize;
    let mut text = String::with_capacity(length + 16);
    let mut at = seed;
    while text.len() < length {
        text.push_str(&format!("{at:016x}"));
        at = mix(at);
    }
    text.truncate(length);
    text
}

fn invalid(path: &str, option: &str, text: &str, expected: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, format!("invalid value for option \"fields.{path}.{option}\": \"{text}\""))
        .with_detail(format!("The option takes {expected}."))
}

/// A bound, in the type's units.
fn bound(ty: &SqlType, text: &str) -> Option<i128> {
    use crate::format::json::numbers::{parse_decimal, parse_integer};
    match ty {
        SqlType::Decimal { scale, .. } => parse_decimal(text, 38, *scale).ok(),
        SqlType::Date => parse_date(text).map(i128::from),
        SqlType::Time => parse_time(text).map(i128::from),
        SqlType::Timestamp | SqlType::TimestampTz => parse_timestamp(text).map(i128::from),
        _ => parse_integer(text).ok().map(i128::from),
    }
}

/// All that a type can hold, in its units.
fn range_of(ty: &SqlType) -> (i128, i128) {
    match ty {
        SqlType::SmallInt => (i16::MIN.into(), i16::MAX.into()),
        SqlType::Integer => (i32::MIN.into(), i32::MAX.into()),
        SqlType::Decimal { precision, .. } => {
            let end = 10i128.pow(*precision as u32) - 1;
            (-end, end)
        }
        // As in most data: this century's.
        SqlType::Date => (10_957, 47_481),
        SqlType::Time => (0, MICROS_PER_DAY as i128 - 1),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

fn random(settings: &mut Settings, path: &str, ty: &SqlType) -> Result<Kind> {
    let mut length = |default: i64| -> Result<(i64, bool)> {
        let varies = settings.get(path, "var-len") == Some("true");
        Ok((settings.get(path, "length").map_or(Ok(default), |text| options::whole(&format!("fields.{path}.length"), text))?, varies))
    };
    Ok(match ty {
        SqlType::Boolean => Kind::Boolean,
        SqlType::Text => length(TEXT_LENGTH).map(|(length, varies)| Kind::Text { length, varies })?,
        SqlType::Bytes => length(TEXT_LENGTH).map(|(length, varies)| Kind::Bytes { length, varies })?,
        SqlType::Array(item) => {
            let (length, varies) = length(ITEMS)?;
            Kind::List { length, varies, item: Box::new(Field::new(settings, &format!("{path}.element"), item, true)?) }
        }
        SqlType::Map(key, value) => {
            let (length, _) = length(ITEMS)?;
            let key = Field::new(settings, &format!("{path}.key"), key, false)?;
            Kind::Map { length, key: Box::new(key), value: Box::new(Field::new(settings, &format!("{path}.value"), value, true)?) }
        }
        SqlType::Struct(fields) => {
            let field = |(name, ty): &(String, SqlType)| Field::new(settings, &format!("{path}.{}", name.to_lowercase()), ty, true);
            Kind::Row(fields.iter().map(field).collect::<Result<_>>()?)
        }
        SqlType::Real | SqlType::Double => {
            let mut number = |option: &str, default: f64| match settings.get(path, option) {
                None => Ok(default),
                Some(text) => text.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(|| invalid(path, option, text, "a number")),
            };
            let (min, max) = (number("min", 0.0)?, number("max", 1.0)?);
            if min > max {
                return Err(invalid(path, "min", &min.to_string(), "at most the greatest value"));
            }
            Kind::Float { min, max }
        }
        SqlType::Timestamp | SqlType::TimestampTz if !has_bounds(settings, path) => {
            let max_past =
                settings.get(path, "max-past").map_or(Ok(0), |text| options::duration(&format!("fields.{path}.max-past"), text))?;
            Kind::Time { gap: settings.gap_micros, max_past }
        }
        SqlType::Interval | SqlType::Json | SqlType::Null => {
            return Err(SqlError::unsupported(format!("a generator has no values for column \"{path}\" of type {ty}")));
        }
        _ => {
            let whole = |settings: &mut Settings, option: &str, default: i128| match settings.get(path, option) {
                None => Ok(default),
                Some(text) => bound(ty, text).ok_or_else(|| invalid(path, option, text, &format!("a value of type {ty}"))),
            };
            let (least, greatest) = range_of(ty);
            let (min, max) = (whole(settings, "min", least)?, whole(settings, "max", greatest)?);
            if min > max || min < least || max > greatest {
                return Err(invalid(path, "max", &max.to_string(), "at least the least value, and no more than the type can hold"));
            }
            Kind::Whole { min, span: (max - min) as u128 + 1 }
        }
    })
}

fn has_bounds(settings: &mut Settings, path: &str) -> bool {
    settings.get(path, "min").is_some() | settings.get(path, "max").is_some()
}

fn sequence(settings: &mut Settings, path: &str, ty: &SqlType) -> Result<Kind> {
    if !matches!(
        ty,
        SqlType::SmallInt | SqlType::Integer | SqlType::BigInt | SqlType::Decimal { .. } | SqlType::Real | SqlType::Double | SqlType::Text
    ) {
        return Err(SqlError::unsupported(format!("column \"{path}\" of type {ty} cannot be a sequence")));
    }
    let step = if let SqlType::Decimal { scale, .. } = ty { 10i128.pow((*scale).max(0) as u32) } else { 1 };
    let mut edge = |option: &str| {
        let text = settings.get(path, option).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_PARAMETER,
                format!("the sequence of column \"{path}\" needs the option \"fields.{path}.{option}\""),
            )
        })?;
        let (least, greatest) = range_of(ty);
        bound(ty, text)
            .filter(|v| (least..=greatest).contains(v))
            .ok_or_else(|| invalid(path, option, text, &format!("a value of type {ty}")))
    };
    let (start, end) = (edge("start")?, edge("end")?);
    let count = i64::try_from((end - start) / step + 1).ok().filter(|count| *count > 0 && end >= start);
    let count = count.ok_or_else(|| invalid(path, "end", &end.to_string(), "a value that is not before the start"))?;
    Ok(Kind::Sequence { start, step, count })
}
