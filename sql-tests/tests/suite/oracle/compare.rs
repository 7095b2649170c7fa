//! Results compared as multisets of rows: exactly, or with a tolerance in numbers where a query's true result is not a
//! single value (sums of floats, averages).

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// Rows shown of either side of a difference.
const SHOWN: usize = 20;

/// Encoded rows; equal bytes are equal rows. Zeros are one zero, NaNs one NaN.
pub fn encode(rows: &RecordBatch) -> Vec<Box<[u8]>> {
    if rows.num_columns() == 0 {
        return vec![Box::default(); rows.num_rows()];
    }
    let fields = rows.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let converter = RowConverter::new(fields).unwrap();
    let columns: Vec<ArrayRef> = rows.columns().iter().map(canonical).collect();
    converter.convert_columns(&columns).unwrap().iter().map(|row| Box::from(row.as_ref())).collect()
}

fn canonical(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let one = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 };
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        DataType::Float32 => {
            let one = |v: f32| if v.is_nan() { f32::NAN } else { v + 0.0 };
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        _ => column.clone(),
    }
}

/// What is wrong with `actual`, if anything. `approximate`: numbers may differ a little.
pub fn difference(expected: &RecordBatch, actual: &RecordBatch, approximate: bool) -> Option<String> {
    let types = |rows: &RecordBatch| rows.columns().iter().map(|c| c.data_type().clone()).collect::<Vec<_>>();
    if types(expected) != types(actual) {
        return Some(format!("types differ: expected {:?}, got {:?}", types(expected), types(actual)));
    }
    let mut left: HashMap<Box<[u8]>, Vec<usize>> = HashMap::new();
    for (row, key) in encode(expected).into_iter().enumerate() {
        left.entry(key).or_default().push(row);
    }
    let mut extra = Vec::new();
    for (row, key) in encode(actual).into_iter().enumerate() {
        if left.get_mut(&key).and_then(Vec::pop).is_none() {
            extra.push(row);
        }
    }
    let mut missing: Vec<usize> = left.into_values().flatten().collect();
    if missing.is_empty() && extra.is_empty() {
        return None;
    }
    missing.sort_unstable();
    if approximate && near_rows(cells(expected, &missing), cells(actual, &extra)) {
        return None;
    }
    let mut text =
        format!("{} of {} rows are missing, {} of {} are wrong\n", missing.len(), expected.num_rows(), extra.len(), actual.num_rows());
    show(&mut text, "missing", expected, &missing);
    show(&mut text, "wrong", actual, &extra);
    Some(text)
}

fn show(text: &mut String, title: &str, rows: &RecordBatch, of: &[usize]) {
    for row in of.iter().take(SHOWN) {
        let values: Vec<String> = rows.columns().iter().map(|c| ScalarValue::try_from_array(c, *row).unwrap().to_string()).collect();
        writeln!(text, "  {title}: {}", values.join(" | ")).unwrap();
    }
}

/// A value for a comparison with tolerance, or with a database that only shares text.
#[derive(Clone, Debug)]
pub enum Cell {
    Null,
    Text(String),
    Number(f64),
}

fn cells(rows: &RecordBatch, of: &[usize]) -> Vec<Vec<Cell>> {
    of.iter().map(|row| rows.columns().iter().map(|c| cell(&ScalarValue::try_from_array(c, *row).unwrap())).collect()).collect()
}

pub fn cell(value: &ScalarValue) -> Cell {
    if value.is_null() {
        return Cell::Null;
    }
    match value.data_type() {
        ty if ty.is_numeric() => match value.cast_to(&DataType::Float64).unwrap() {
            ScalarValue::Float64(Some(number)) => Cell::Number(number),
            other => Cell::Text(other.to_string()),
        },
        _ => match value.cast_to(&DataType::Utf8).unwrap() {
            ScalarValue::Utf8(Some(text)) => Cell::Text(text),
            other => Cell::Text(other.to_string()),
        },
    }
}

/// Whether two multisets of rows agree but for a tolerance in numbers.
pub fn near_rows(mut expected: Vec<Vec<Cell>>, mut actual: Vec<Vec<Cell>>) -> bool {
    let sort =
        |rows: &mut Vec<Vec<Cell>>| rows.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| numbers(a).partial_cmp(&numbers(b)).unwrap()));
    sort(&mut expected);
    sort(&mut actual);
    expected.len() == actual.len()
        && expected.iter().zip(&actual).all(|(e, a)| e.len() == a.len() && e.iter().zip(a).all(|(e, a)| near(e, a)))
}

/// What sorts first: everything but numbers, and numbers that are whole.
fn order(row: &[Cell]) -> Vec<String> {
    let one = |cell: &Cell| match cell {
        Cell::Null => "\u{0}".to_string(),
        Cell::Text(text) => format!("t{text}"),
        Cell::Number(number) if number.fract() == 0.0 => format!("w{number:e}"),
        Cell::Number(_) => "n".to_string(),
    };
    row.iter().map(one).collect()
}

fn numbers(row: &[Cell]) -> Vec<f64> {
    let number = |cell: &Cell| match cell {
        Cell::Number(number) if !number.is_nan() => Some(*number),
        _ => None,
    };
    row.iter().filter_map(number).collect()
}

pub fn near(a: &Cell, b: &Cell) -> bool {
    match (a, b) {
        (Cell::Null, Cell::Null) => true,
        (Cell::Text(a), Cell::Text(b)) => a == b,
        (Cell::Number(a), Cell::Number(b)) => a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 2e-6 + 1e-9 * a.abs().max(b.abs()),
        _ => false,
    }
}
