//! Tests of the generator.

use super::*;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use eddyline_common::SqlType::{self, *};
use eddyline_common::{Offset, PartitionId, SqlError};
use std::collections::BTreeMap;

fn spec(options: &[(&str, &str)], columns: &[(&str, SqlType)]) -> Result<SourceSpec> {
    let raw: BTreeMap<String, String> =
        [("connector", "datagen")].iter().chain(options).map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let column = |(name, ty): &(&str, SqlType)| SourceColumn {
        external_name: name.to_string(),
        ty: ty.clone(),
        nullable: true,
        length: None,
        origin: ColumnOrigin::Payload,
    };
    let columns = columns.iter().map(column).collect();
    Ok(SourceSpec { name: "g".into(), options: options::canonicalize(raw)?, columns, key: vec![] })
}

fn rows(options: &[(&str, &str)], columns: &[(&str, SqlType)], offsets: &[i64]) -> RecordBatch {
    connector(&spec(options, columns).unwrap()).unwrap().generator.rows(0, offsets, &vec![true; columns.len()]).unwrap()
}

fn refused(options: &[(&str, &str)], columns: &[(&str, SqlType)]) -> SqlError {
    spec(options, columns).and_then(|spec| connector(&spec)).err().unwrap()
}

#[test]
fn rows_depend_on_offset_and_seed_alone() {
    let columns = [
        ("b", Boolean),
        ("s", SmallInt),
        ("l", BigInt),
        ("d", Double),
        ("n", Decimal { precision: 10, scale: 2 }),
        ("t", Text),
        ("y", Bytes),
        ("day", Date),
        ("time", Time),
        ("ts", Timestamp),
        ("a", Array(Box::new(Integer))),
        ("m", Map(Box::new(Text), Box::new(BigInt))),
        ("r", Struct(vec![("x".into(), Integer), ("y".into(), Text)])),
    ];
    let options = &[("fields.t.var-len", "true"), ("fields.l.null-rate", "0.5")];
    let all: Vec<i64> = (0..1_000).collect();
    let whole = rows(options, &columns, &all);
    assert_eq!(rows(options, &columns, &all[300..400]), whole.slice(300, 100));
    let nulls = whole.column(2).null_count();
    assert!((400..600).contains(&nulls), "{nulls}");
    let kept: Vec<bool> = (0..columns.len()).map(|column| column == 5).collect();
    let one = connector(&spec(options, &columns).unwrap()).unwrap().generator.rows(0, &all, &kept).unwrap();
    assert_eq!((one.column(5), one.column(4).null_count()), (whole.column(5), all.len()));
    let other_seed = rows(&[("seed", "7")], &columns, &all);
    assert_ne!(other_seed.column(3), whole.column(3));
}

#[test]
fn values_keep_to_their_bounds() {
    let columns = [("id", BigInt), ("amount", Decimal { precision: 10, scale: 2 }), ("n", Integer), ("t", Text), ("at", Timestamp)];
    let options = &[
        ("fields.id.kind", "sequence"),
        ("fields.id.start", "5"),
        ("fields.id.end", "1000"),
        ("fields.amount.min", "1"),
        ("fields.amount.max", "1.05"),
        ("fields.n.min", "-2"),
        ("fields.n.max", "2"),
        ("fields.t.length", "7"),
        ("rows-per-second", "1000"),
    ];
    let offsets: Vec<i64> = (0..500).collect();
    let batch = rows(options, &columns, &offsets);
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values()[..3], [5, 6, 7]);
    assert!(batch.column(1).as_primitive::<Decimal128Type>().values().iter().all(|v| (100..=105).contains(v)));
    let mut seen: Vec<i32> = batch.column(2).as_primitive::<Int32Type>().values().to_vec();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [-2, -1, 0, 1, 2]);
    assert!(batch.column(3).as_string::<i32>().iter().all(|t| t.is_some_and(|t| t.len() == 7)));
    let times = batch.column(4).as_primitive::<TimestampMicrosecondType>().values().to_vec();
    assert_eq!((times[0], times[1] - times[0]), (1_436_918_400_000_000, 1_000));
    let connector = connector(&spec(options, &columns).unwrap()).unwrap();
    let range = PartitionRange { partition: PartitionId(0), start: Offset(0), end: Some(Offset(996)) };
    assert_eq!(connector.present().unwrap(), Some(vec![range]));
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let columns = [("id", BigInt), ("at", Timestamp)];
    let hint = |options| refused(options, &columns).hint.unwrap_or_default();
    assert_eq!(hint(&[("fields.id.knd", "sequence")]), "Perhaps you meant \"fields.id.kind\".");
    assert_eq!(hint(&[("fields.ids.kind", "sequence")]), "Perhaps you meant \"fields.id.kind\".");
    assert!(hint(&[("row-per-second", "1")]).contains("rows-per-second"));
    for options in [
        &[("fields.id.kind", "sequence")][..],
        &[("fields.id.kind", "sequence"), ("fields.id.start", "3"), ("fields.id.end", "2")],
        &[("fields.id.min", "3"), ("fields.id.max", "2")],
        &[("fields.id.min", "x")],
        &[("fields.id.length", "3")],
        &[("fields.at.kind", "sequence"), ("fields.at.start", "1"), ("fields.at.end", "2")],
        &[("fields.id.null-rate", "2")],
    ] {
        refused(options, &columns);
    }
}
