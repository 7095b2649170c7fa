//! Tests of files as a source, on a real directory.

use super::*;
use crate::testing::CollectingSink;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use eddyline_common::SqlType;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

fn connector(dir: &Path, path: &str, options: &[(&str, &str)]) -> Result<FileConnector> {
    let path = format!("{}/{path}", dir.display());
    let given = [("connector", "filesystem"), ("path", path.as_str()), ("format", "json")];
    let mut raw: BTreeMap<String, String> = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    raw.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let column = |name: &str, ty, origin| SourceColumn { external_name: name.to_string(), ty, nullable: true, origin };
    let columns = vec![
        column("n", SqlType::BigInt, ColumnOrigin::Payload),
        column("t", SqlType::Text, ColumnOrigin::Payload),
        column("f", SqlType::Text, ColumnOrigin::Metadata("file".into())),
    ];
    FileConnector::new(&SourceSpec { name: "s".into(), options: options::canonicalize(raw)?, columns, key: vec![] })
}

/// Reads until `finished`, or until there is nothing for a moment.
fn read(connector: &FileConnector, from: i64, to: Option<i64>) -> Vec<SourceBatch> {
    let sink = CollectingSink::new(10_000);
    let range = PartitionRange { partition: PARTITION, start: Offset(from), end: to.map(Offset) };
    let _reader = connector.read(vec![range], sink.clone()).unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = sink.next(Duration::from_secs(if batches.is_empty() { 10 } else { 1 })) {
        let over = batch.finished || to.is_some_and(|to| batch.end.0 >= to);
        batches.push(batch);
        if over {
            break;
        }
    }
    sink.close();
    batches
}

fn numbers(batches: &[SourceBatch]) -> Vec<i64> {
    batches.iter().flat_map(|b| b.rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn lines(numbers: std::ops::Range<i64>) -> String {
    numbers.map(|n| format!("{{\"n\":{n},\"t\":\"x\"}}\n")).collect()
}

#[test]
fn files_are_read_in_order_and_any_part_of_them_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    for (name, text) in
        [("a.json", lines(0..20_000)), ("b.json", String::new()), ("sub/c.json", lines(20_000..20_003).trim_end().to_string())]
    {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    std::fs::write(dir.path().join("_hidden.json"), lines(0..5)).unwrap();
    let source = connector(dir.path(), "", &[]).unwrap();
    let batches = read(&source, 0, None);
    assert_eq!(numbers(&batches), (0..20_003).collect::<Vec<_>>());
    assert!(batches.windows(2).all(|pair| pair[0].end == pair[1].start));
    assert!(batches.last().unwrap().finished && batches[0].notes.len() == 3);
    let last = batches.iter().rev().find(|b| b.rows.num_rows() > 0).unwrap();
    assert!(last.rows.column(2).as_string::<i32>().value(0).ends_with("sub/c.json"));
    // Another process, which was told the notes, reads what lies between any two ends.
    std::fs::write(dir.path().join("0.json"), lines(7..9)).unwrap();
    let again = connector(dir.path(), "", &[]).unwrap();
    again.remember(&batches[0].notes).unwrap();
    let (from, to) = (batches[0].end.0, batches.last().unwrap().end.0);
    assert_eq!(numbers(&read(&again, from, Some(to))), numbers(&batches[1..]));
    assert_eq!(numbers(&read(&again, 0, Some(from))), numbers(&batches[..1]));
    // A bounded source ends with the files of its first look.
    assert_eq!(numbers(&read(&again, from, None)), numbers(&batches[1..]));
}

#[test]
fn new_files_are_read_once_in_order_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    put("b.json", lines(0..2));
    let source = connector(dir.path(), "*.json", &[("source.monitor-interval", "20 ms"), ("source.file-order", "time")]).unwrap();
    let sink = CollectingSink::new(100);
    let range = PartitionRange { partition: PARTITION, start: Offset(0), end: None };
    let reader = source.read(vec![range], sink.clone()).unwrap();
    let next = || sink.next(Duration::from_secs(10)).unwrap();
    assert_eq!(numbers(&[next()]), [0, 1]);
    put("a.json", lines(2..4));
    put("ignored.txt", lines(9..10));
    let second = next();
    assert_eq!((numbers(std::slice::from_ref(&second)), second.notes.len()), (vec![2, 3], 1));
    assert!(sink.next(Duration::from_millis(100)).is_none());
    // A file that has been read and then changes is told.
    put("b.json", lines(0..3));
    let patience = Instant::now();
    while sink.problems().is_empty() && patience.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(sink.problems()[0].as_ref().is_some_and(|p| p.contains("b.json\" was changed")), "{:?}", sink.problems());
    sink.close();
    drop(reader);
}

#[test]
fn what_changed_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.json");
    std::fs::write(&file, lines(0..10)).unwrap();
    let source = connector(dir.path(), "a.json", &[]).unwrap();
    let batches = read(&source, 0, None);
    assert_eq!(numbers(&batches).len(), 10);
    for (change, expected) in [(lines(0..5), "was cut from"), (lines(0..11), "was changed"), (String::new(), "was cut from")] {
        std::fs::write(&file, change).unwrap();
        let sink = CollectingSink::new(10);
        let range = PartitionRange { partition: PARTITION, start: Offset(0), end: Some(batches[0].end) };
        let reader = source.read(vec![range], sink.clone()).unwrap();
        assert!(sink.next(Duration::from_millis(200)).is_none());
        assert!(sink.problems().iter().flatten().any(|p| p.contains(expected)), "{:?}", sink.problems());
        sink.close();
        drop(reader);
    }
}

#[test]
fn csv_with_a_header_and_bad_records() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.csv"), "t,other,n\n\"a\nb\",x,1\n\nbad\nc,y,2\n").unwrap();
    std::fs::write(dir.path().join("b.csv"), "N,T\n3,d").unwrap();
    let source = connector(dir.path(), "{a,b}.csv", &[("format", "csv"), ("csv.header", "true")]).unwrap();
    let batches = read(&source, 0, None);
    assert_eq!(numbers(&batches), [1, 2, 3]);
    let bad: Vec<_> = batches.iter().flat_map(|b| &b.undecodable).collect();
    assert_eq!((bad.len(), bad[0].reason.as_str(), bad[0].excerpt.as_str()), (1, "1 fields where 3 are expected", "bad"));
    // From the middle of a file its header still counts.
    let second_row = batches[0].offsets[1];
    assert_eq!(numbers(&read(&source, second_row, Some(batches[0].end.0))), [2]);
    std::fs::write(dir.path().join("c.csv"), "n,x\n1,2\n").unwrap();
    let source = connector(dir.path(), "c.csv", &[("format", "csv"), ("csv.header", "true")]).unwrap();
    let sink = CollectingSink::new(10);
    let range = PartitionRange { partition: PARTITION, start: Offset(0), end: None };
    let _reader = source.read(vec![range], sink.clone()).unwrap();
    assert!(sink.next(Duration::from_millis(200)).is_none());
    assert!(sink.problems()[0].as_ref().is_some_and(|p| p.contains("the header names no column t")), "{:?}", sink.problems());
    sink.close();
}

#[test]
fn a_path_without_files_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(connector(dir.path(), "missing/*.json", &[]).unwrap().resolve_start().unwrap_err().state, SqlState::UNDEFINED_OBJECT);
    let waiting = connector(dir.path(), "", &[("source.monitor-interval", "1s")]).unwrap();
    assert_eq!(waiting.resolve_start().unwrap().len(), 1);
    assert!(connector(dir.path(), "*.json", &[("source.path.pattern", "*.csv")]).is_err());
}
