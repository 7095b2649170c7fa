//! JSON records into columns, on one thread of this process: all ten columns of a record, and then two of them, as a source does of which
//! nobody reads the others. These are checked all the same.

use crate::Result;
use crate::report::{Figure, Goal};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::sum;
use arrow::datatypes::Int64Type;
use clap::Args;
use eddyline_common::{SqlType, options};
use eddyline_connectors::format::{self, PayloadColumn, Record};
use std::collections::BTreeMap;
use std::time::Instant;

/// Records of a batch, as readers of sources make them.
const BATCH_RECORDS: usize = 8_192;
/// What a view reads that sums the price of each.
const READ: [&str; 2] = ["id", "price"];
/// The fastest counts.
const RUNS: usize = 3;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Records of each run
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
}

pub fn run(options: &Options) -> Result<()> {
    let records: Vec<String> = (0..BATCH_RECORDS).map(record).collect();
    let bytes = records.iter().map(String::len).sum::<usize>() / records.len();
    let all = fastest(&records, options.records, |_| true)?;
    let some = fastest(&records, options.records, |name| READ.contains(&name))?;
    Figure::new("JSON decoding, 10 of 10 columns", 1e9 / all, "records/s", Goal::None)
        .beside(format!("{all:.0} ns a record of {bytes} bytes, one thread"))
        .print();
    Figure::new("JSON decoding, 2 of 10 columns", 1e9 / some, "records/s", Goal::None)
        .beside(format!("{some:.0} ns, {:.2} x of what all columns take; sums and nulls checked", some / all))
        .print();
    Ok(())
}

fn fastest(records: &[String], total: u64, is_read: impl Fn(&str) -> bool) -> Result<f64> {
    let mut fastest = f64::MAX;
    for _ in 0..RUNS {
        fastest = fastest.min(nanos_per_record(records, total, &is_read)?);
    }
    Ok(fastest)
}

/// Decodes a batch's records again and again, about `total` of them.
fn nanos_per_record(records: &[String], total: u64, is_read: impl Fn(&str) -> bool) -> Result<f64> {
    let columns = columns();
    let kept: Vec<bool> = columns.iter().map(|column| is_read(&column.external_name)).collect();
    let of_json = BTreeMap::from([(options::FORMAT.to_string(), "json".to_string())]);
    let mut decoder = format::decoder(&of_json, columns, false)?;
    decoder.keep(&kept);
    let batches = (total / records.len() as u64).max(1);
    let begun = Instant::now();
    for _ in 0..batches {
        for record in records {
            decoder.push(Record::of(record.as_bytes()))?;
        }
        check(&decoder.finish()?.columns, &kept, records.len())?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / (batches * records.len() as u64) as f64)
}

/// Columns that are read have all values, the others none.
fn check(columns: &[ArrayRef], kept: &[bool], records: usize) -> Result<()> {
    let ids = sum(columns[0].as_primitive::<Int64Type>());
    let is_right = |(column, kept): (&ArrayRef, &bool)| column.len() == records && column.null_count() == if *kept { 0 } else { records };
    if ids == Some((records * (records - 1) / 2) as i64) && columns.iter().zip(kept).all(is_right) {
        return Ok(());
    }
    Err(format!("of {records} records the ids add up to {ids:?}, or a column is not as it should be").into())
}

fn columns() -> Vec<PayloadColumn> {
    let device = SqlType::Struct(vec![("os".to_string(), SqlType::Text), ("version".to_string(), SqlType::Integer)]);
    let columns = [
        ("id", SqlType::BigInt),
        ("user_id", SqlType::BigInt),
        ("price", SqlType::Decimal { precision: 10, scale: 2 }),
        ("channel", SqlType::Text),
        ("url", SqlType::Text),
        ("at", SqlType::Timestamp),
        ("tags", SqlType::Array(Box::new(SqlType::Text))),
        ("device", device),
        ("rating", SqlType::Double),
        ("extra", SqlType::Text),
    ];
    let column =
        |(name, ty): (&str, SqlType)| PayloadColumn { external_name: name.to_string(), ty, nullable: true, length: None, is_key: false };
    columns.into_iter().map(column).collect()
}

fn record(i: usize) -> String {
    let parts = [
        format!(r#"{{"id":{i},"user_id":{},"price":{}.{:02},"channel":"channel {}""#, i % 1_003, i * 7 % 9_973, i % 100, i % 11),
        format!(r#""url":"https://www.auction.example/item.htm?query=1&channel={}""#, i * 31 % 10_000),
        format!(r#""at":"2015-07-15 00:{:02}:{:02}.{:03}""#, i / 60 % 60, i % 60, i % 1_000),
        format!(r#""tags":["new","tag {}","sale"],"device":{{"os":"linux","version":{}}}"#, i % 13, i % 40),
        format!(r#""rating":{}.{},"extra":"{:024x}"}}"#, i % 5, i % 10, i.wrapping_mul(0x9E37_79B9)),
    ];
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_a_field_for_each_column() {
        for i in [0, BATCH_RECORDS - 1] {
            let parsed: serde_json::Value = serde_json::from_str(&record(i)).unwrap();
            let fields = parsed.as_object().unwrap();
            assert!(fields.len() == 10 && columns().iter().all(|c| fields.contains_key(&c.external_name)), "{parsed}");
        }
    }

    #[test]
    fn both_ways_are_right() {
        let records: Vec<String> = (0..100).map(record).collect();
        assert!(nanos_per_record(&records, 1, |_| true).unwrap() > 0.0);
        assert!(nanos_per_record(&records, 1, |name| READ.contains(&name)).unwrap() > 0.0);
    }
}
