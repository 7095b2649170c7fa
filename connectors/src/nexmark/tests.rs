//! Tests of the generator.

use super::*;
use crate::testing::CollectingSink;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use eddyline_common::{Offset, PartitionId, SqlState, SqlType};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

fn spec(more: &[(&str, &str)]) -> SourceSpec {
    let mut raw: BTreeMap<String, String> = BTreeMap::from([("connector".to_string(), "nexmark".to_string())]);
    raw.extend(more.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let options = options::canonicalize(raw).unwrap();
    let columns = options::default_columns(&options).unwrap();
    let columns = columns.into_iter().map(|(external_name, ty)| SourceColumn {
        external_name,
        ty,
        nullable: true,
        length: None,
        origin: ColumnOrigin::Payload,
    });
    SourceSpec { name: "s".to_string(), columns: columns.collect(), options, key: vec![] }
}

fn range(partition: i32, start: i64, end: Option<i64>) -> PartitionRange {
    PartitionRange { partition: PartitionId(partition), start: Offset(start), end: end.map(Offset) }
}

/// Reads ranges to their ends and gives the batches by partition.
fn read(spec: &SourceSpec, ranges: &[PartitionRange]) -> HashMap<i32, Vec<SourceBatch>> {
    read_columns(spec, ranges, &vec![true; spec.columns.len()])
}

fn read_columns(spec: &SourceSpec, ranges: &[PartitionRange], kept: &[bool]) -> HashMap<i32, Vec<SourceBatch>> {
    let sink = CollectingSink::new(64);
    let reader = connector(spec).unwrap().read_columns(ranges.to_vec(), kept, sink.clone()).unwrap();
    let mut batches: HashMap<i32, Vec<SourceBatch>> = HashMap::new();
    let mut open = ranges.len();
    while open > 0 {
        let batch = sink.next(Duration::from_secs(20)).expect("a batch");
        let wanted = ranges.iter().find(|r| r.partition == batch.partition).unwrap().end;
        open -= (batch.finished || Some(batch.end) == wanted) as usize;
        batches.entry(batch.partition.0).or_default().push(batch);
    }
    drop(reader);
    batches
}

fn joined(batches: &[SourceBatch]) -> RecordBatch {
    concat_batches(&batches[0].rows.schema(), batches.iter().map(|b| &b.rows)).unwrap()
}

#[test]
fn batches_are_gapless_and_bounded() {
    let spec = spec(&[("nexmark.table.type", "bid"), ("nexmark.event.num", "100000"), ("nexmark.split.num", "3")]);
    let ranges: Vec<_> = (0..3).map(|p| range(p, 0, None)).collect();
    let mut rows = 0;
    for (split, batches) in read(&spec, &ranges) {
        let mut next = Offset(0);
        for batch in &batches {
            assert_eq!(batch.start, next);
            assert_eq!(batch.rows.num_rows(), batch.offsets.len());
            assert!(batch.rows.num_rows() <= 8_192);
            assert!(batch.offsets.is_sorted() && batch.offsets.iter().all(|o| (batch.start.0..batch.end.0).contains(o)));
            next = batch.end;
            rows += batch.rows.num_rows();
        }
        assert_eq!(next.0, if split == 0 { 33_334 } else { 33_333 });
        assert!(batches.last().unwrap().finished);
    }
    assert_eq!(rows, 92_000);
    let present = connector(&spec).unwrap().present().unwrap().unwrap();
    assert_eq!(present.iter().map(|r| (r.start.0, r.end.unwrap().0)).collect::<Vec<_>>(), [(0, 33_334), (0, 33_333), (0, 33_333)]);
}

#[test]
fn columns_that_nobody_reads_are_not_made() {
    for table in ["bid", "all"] {
        let mut spec = spec(&[("nexmark.table.type", table), ("nexmark.event.num", "500")]);
        spec.columns[0].nullable = false;
        let whole = joined(&read(&spec, &[range(0, 0, None)])[&0]);
        let kept: Vec<bool> = (0..spec.columns.len()).map(|column| column == 2).collect();
        let some = joined(&read_columns(&spec, &[range(0, 0, None)], &kept)[&0]);
        for (column, kept) in kept.iter().enumerate() {
            match *kept || column == 0 {
                true => assert_eq!(some.column(column), whole.column(column)),
                false => assert_eq!(some.column(column).null_count(), whole.num_rows()),
            }
        }
    }
}

#[test]
fn columns_go_by_their_letters() {
    let table = |name: &str| {
        let column = SourceColumn {
            external_name: name.to_string(),
            ty: SqlType::Timestamp,
            nullable: true,
            length: None,
            origin: ColumnOrigin::Payload,
        };
        let only = SourceSpec { columns: vec![column], ..spec(&[("nexmark.table.type", "bid"), ("nexmark.event.num", "100")]) };
        connector(&only).map(|_| joined(&read(&only, &[range(0, 0, None)])[&0]).column(0).clone())
    };
    let times = table("date_time").unwrap();
    assert_eq!((table("dateTime").unwrap(), table("DATETIME").unwrap()), (times.clone(), times));
    let error = table("date_tme").unwrap_err();
    assert!(error.hint.is_some_and(|hint| hint.contains("date_time")));
}

#[test]
fn a_range_read_again_gives_the_same_rows() {
    for table in ["bid", "auction", "person", "all"] {
        let spec = spec(&[("nexmark.table.type", table), ("nexmark.split.num", "2"), ("nexmark.out-of-order.group-size", "100")]);
        let whole = joined(&read(&spec, &[range(1, 0, Some(20_000))])[&1]);
        let parts = read(&spec, &[range(1, 0, Some(7_777))]).remove(&1).unwrap();
        let rest = read(&spec, &[range(1, 7_777, Some(20_000))]).remove(&1).unwrap();
        assert_eq!(joined(&[parts, rest].concat()), whole, "{table}");
    }
}

#[test]
fn columns_do_not_depend_on_each_other() {
    let all = spec(&[("nexmark.table.type", "auction")]);
    let mut some = all.clone();
    some.columns = vec![all.columns[7].clone(), all.columns[3].clone()];
    let (all, some) = (joined(&read(&all, &[range(0, 0, Some(5_000))])[&0]), joined(&read(&some, &[range(0, 0, Some(5_000))])[&0]));
    assert_eq!((some.column(0), some.column(1)), (all.column(7), all.column(3)));
}

#[test]
fn proportions_and_distributions() {
    let count = 500_000;
    let of = |table: &str| joined(&read(&spec(&[("nexmark.table.type", table)]), &[range(0, 0, Some(count))])[&0]);
    let (person, auction, bid) = (of("person"), of("auction"), of("bid"));
    assert_eq!((person.num_rows(), auction.num_rows(), bid.num_rows()), (10_000, 30_000, 460_000));
    let ids = person.column(0).as_primitive::<Int64Type>();
    assert!(ids.values().iter().enumerate().all(|(i, id)| *id == 1_000 + i as i64));
    let ids = auction.column(0).as_primitive::<Int64Type>();
    assert!(ids.values().iter().enumerate().all(|(i, id)| *id == 1_000 + i as i64));
    let hot = bid.column(0).as_primitive::<Int64Type>().values().iter().filter(|id| **id % 100 == 0).count() as f64;
    assert!((0.48..0.54).contains(&(hot / 460_000.0)), "{hot}");
    let hot = bid.column(1).as_primitive::<Int64Type>().values().iter().filter(|id| **id % 100 == 1).count() as f64;
    assert!((0.73..0.78).contains(&(hot / 460_000.0)), "{hot}");
    let prices = bid.column(2).as_primitive::<Int64Type>().values();
    let dear = prices.iter().filter(|p| **p > 100_000).count() as f64 / 460_000.0;
    assert!(prices.iter().all(|p| (100..=100_000_001).contains(p)) && (0.49..0.51).contains(&dear), "{dear}");
    let times = bid.column(5).as_primitive::<TimestampMicrosecondType>().values();
    assert_eq!((times[0], times[1]), (1_436_918_400_000_400, 1_436_918_400_000_500));
    let google = bid.column(3).as_string::<i32>().iter().flatten().filter(|c| *c == "Google").count() as f64;
    assert!((0.12..0.13).contains(&(google / 460_000.0)), "{google}");
    let expires = auction.column(6).as_primitive::<TimestampMicrosecondType>().values();
    let begins = auction.column(5).as_primitive::<TimestampMicrosecondType>().values();
    assert!(expires.iter().zip(begins).all(|(e, b)| e > b));
}

#[test]
fn all_kinds_in_one_table() {
    let all = joined(&read(&spec(&[]), &[range(0, 0, Some(5_000))])[&0]);
    let bid = joined(&read(&spec(&[("nexmark.table.type", "bid")]), &[range(0, 0, Some(5_000))])[&0]);
    assert_eq!(all.num_rows(), 5_000);
    let (types, bids) = (all.column(0).as_primitive::<Int64Type>(), all.column(3).as_struct());
    assert_eq!((types.value(0), types.value(1), types.value(4)), (0, 1, 2));
    assert_eq!(bids.null_count(), 400);
    assert_eq!(bids.column(0).as_primitive::<Int64Type>().value(4), bid.column(0).as_primitive::<Int64Type>().value(0));
}

#[test]
fn out_of_order_groups_are_permutations() {
    for group in [2i64, 7, 100, 953, 1_906] {
        let spec =
            spec(&[("nexmark.table.type", "bid"), ("nexmark.out-of-order.group-size", &group.to_string()), ("nexmark.event.num", "5000")]);
        let model = &connector(&spec).unwrap().generator.model;
        let mut numbers: Vec<i64> = (0..5_000).map(|place| model.number_at(place)).collect();
        assert!(!numbers.is_sorted() || group == 2, "{group}");
        numbers.sort();
        assert_eq!(numbers, (0..5_000).collect::<Vec<_>>(), "{group}");
    }
}

#[test]
fn a_rate_is_kept_and_emitted_promptly() {
    let spec = spec(&[("nexmark.rate", "20000"), ("nexmark.split.num", "2")]);
    let sink = CollectingSink::new(1_000);
    let start = Instant::now();
    let reader = connector(&spec).unwrap().read(vec![range(0, 500, None), range(1, 0, None)], sink.clone()).unwrap();
    let mut rows = 0;
    while rows < 10_000 {
        let batch = sink.next(Duration::from_secs(5)).expect("a batch");
        rows += batch.rows.num_rows();
        assert!(batch.rows.num_rows() < 5_000, "emitted in small steps");
    }
    let elapsed = start.elapsed().as_secs_f64();
    assert!((0.45..2.0).contains(&elapsed), "{elapsed}");
    sink.close();
    drop(reader);
}

#[test]
fn back_pressure_and_stopping() {
    let sink = CollectingSink::new(2);
    let reader = connector(&spec(&[])).unwrap().read(vec![range(0, 0, None)], sink.clone()).unwrap();
    sink.next(Duration::from_secs(5)).expect("a batch");
    sink.close();
    drop(reader); // returns although the generator is endless and the sink is full
}

#[test]
fn declared_columns_are_checked() {
    let with = |name: &str, ty: SqlType| {
        let mut spec = spec(&[("nexmark.table.type", "bid")]);
        spec.columns =
            vec![SourceColumn { external_name: name.to_string(), ty, nullable: true, length: None, origin: ColumnOrigin::Payload }];
        connector(&spec).map(|_| ())
    };
    assert_eq!(with("pric", SqlType::BigInt).unwrap_err().hint.unwrap(), "Perhaps you meant \"price\".");
    assert_eq!(with("price", SqlType::Boolean).unwrap_err().state, SqlState::DATATYPE_MISMATCH);
    for (name, ty) in
        [("price", SqlType::Decimal { precision: 18, scale: 2 }), ("auction", SqlType::Integer), ("date_time", SqlType::TimestampTz)]
    {
        let mut spec = spec(&[("nexmark.table.type", "bid")]);
        spec.columns = vec![SourceColumn {
            external_name: name.to_string(),
            ty: ty.clone(),
            nullable: false,
            length: None,
            origin: ColumnOrigin::Payload,
        }];
        assert_eq!(joined(&read(&spec, &[range(0, 0, Some(100))])[&0]).column(0).data_type(), &ty.to_arrow());
    }
}

#[test]
fn empty_ranges_end_at_once() {
    let spec = spec(&[("nexmark.event.num", "10")]);
    let batches = read(&spec, &[range(0, 10, None)]).remove(&0).unwrap();
    assert!(batches.len() == 1 && batches[0].finished && batches[0].rows.num_rows() == 0);
    let batches = read(&spec, &[range(0, 4, Some(4))]).remove(&0).unwrap();
    assert!(batches.len() == 1 && !batches[0].finished && batches[0].end == Offset(4));
}

#[test]
fn generating_speed_is_sane() {
    let spec = spec(&[("nexmark.table.type", "bid"), ("nexmark.event.num", "4000000")]);
    let start = Instant::now();
    let rows: usize = read(&spec, &[range(0, 0, None)])[&0].iter().map(|b| b.rows.num_rows()).sum();
    let rate = rows as f64 / start.elapsed().as_secs_f64();
    tracing::info!(rate, "bids generated per second");
    assert!(rate > 100_000.0, "{rate} rows/s");
}
