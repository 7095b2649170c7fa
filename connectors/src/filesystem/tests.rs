//! Tests of files as a source, on a real directory.

use super::*;
use crate::testing::CollectingSink;
use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use eddyline_common::SqlType;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

fn connector(dir: &Path, path: &str, options: &[(&str, &str)]) -> Result<FileConnector> {
    connector_of(dir, path, options, true)
}

/// `nullable`: whether `n` may be.
fn connector_of(dir: &Path, path: &str, options: &[(&str, &str)], nullable: bool) -> Result<FileConnector> {
    FileConnector::new(&spec_of(dir, path, options, nullable)?)
}

fn spec_of(dir: &Path, path: &str, options: &[(&str, &str)], nullable: bool) -> Result<SourceSpec> {
    let path = format!("{}/{path}", dir.display());
    let given = [("connector", "filesystem"), ("path", path.as_str()), ("format", "json")];
    let mut raw: BTreeMap<String, String> = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    raw.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let column = |name: &str, ty, origin| SourceColumn { external_name: name.to_string(), ty, nullable: true, length: None, origin };
    let columns = vec![
        SourceColumn { nullable, ..column("n", SqlType::BigInt, ColumnOrigin::Payload) },
        column("t", SqlType::Text, ColumnOrigin::Payload),
        column("f", SqlType::Text, ColumnOrigin::Metadata("file".into())),
    ];
    Ok(SourceSpec { name: "s".into(), options: options::canonicalize(raw)?, columns, key: vec![] })
}

/// Reads until `finished`, or until there is nothing for a moment.
fn read(connector: &FileConnector, from: i64, to: Option<i64>) -> Vec<SourceBatch> {
    read_columns(connector, from, to, &[true; 3])
}

fn read_columns(connector: &FileConnector, from: i64, to: Option<i64>, kept: &[bool; 3]) -> Vec<SourceBatch> {
    let sink = CollectingSink::new(10_000);
    let range = PartitionRange { partition: PARTITION, start: Offset(from), end: to.map(Offset) };
    let _reader = connector.read_columns(vec![range], kept, sink.clone()).unwrap();
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
    assert_eq!(last.rows.column(2).as_string::<i32>().value(0), format!("{}/sub/c.json", dir.path().display()));
    assert!(!batches[0].notes[0].text.contains("\"/"), "notes keep what they were: {}", batches[0].notes[0].text);
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
    // Files appear whole.
    let put = |name: &str, text: String| {
        let hidden = dir.path().join(".new");
        std::fs::write(&hidden, text).unwrap();
        std::fs::rename(hidden, dir.path().join(name)).unwrap();
    };
    put("b.json", lines(0..2));
    let source = connector(dir.path(), "*.json", &[("source.monitor-interval", "20 ms"), ("source.file-order", "time")]).unwrap();
    let sink = CollectingSink::new(100);
    let range = PartitionRange { partition: PARTITION, start: Offset(0), end: None };
    let reader = source.read(vec![range], sink.clone()).unwrap();
    let next = || sink.next(Duration::from_secs(10)).unwrap();
    let all_is_read = |end: Offset| {
        let patience = Instant::now();
        while sink.all_read() != Some(end) {
            assert!(patience.elapsed() < Duration::from_secs(10), "{:?}, not {end:?}", sink.all_read());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let first = next();
    assert_eq!(numbers(std::slice::from_ref(&first)), [0, 1]);
    all_is_read(first.end);
    put("a.json", lines(2..4));
    put("ignored.txt", lines(9..10));
    let second = next();
    assert_eq!((numbers(std::slice::from_ref(&second)), second.notes.len()), (vec![2, 3], 1));
    all_is_read(second.end);
    assert_eq!(sink.waiting(), 0, "there was one new file");
    // A file that has been read and then changes is told.
    put("b.json", lines(0..3));
    let patience = Instant::now();
    while sink.problems().is_empty() && patience.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(
        sink.problems()[0].as_ref().is_some_and(|p| p.contains(&format!("file \"{}/b.json\" was changed", dir.path().display()))),
        "{:?}",
        sink.problems()
    );
    sink.close();
    drop(reader);
}

/// A file of ten rows is found and read; then it has another content.
fn cannot_be_read_again(format: &str, found: Vec<u8>, changes: &[(Vec<u8>, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    std::fs::write(&file, found).unwrap();
    let source = connector(dir.path(), "a", &[("format", format)]).unwrap();
    let batches = read(&source, 0, None);
    assert_eq!(numbers(&batches).len(), 10);
    for (change, expected) in changes {
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
fn what_changed_is_not_read_again() {
    let text = |numbers| lines(numbers).into_bytes();
    cannot_be_read_again(
        "json",
        text(0..10),
        &[(text(0..5), "was cut from"), (text(0..11), "was changed"), (text(20..30), "was changed"), (Vec::new(), "was cut from")],
    );
    let same_size = parquet(30..40);
    assert_eq!(same_size.len(), parquet(10..20).len(), "only the time tells");
    cannot_be_read_again(
        "parquet",
        parquet(10..20),
        &[
            (parquet(10..15), "was cut from"),
            (parquet(10..1_500), "was changed"),
            (same_size, "was changed"),
            (b"PAR1PAR1".to_vec(), "was cut from"),
        ],
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_record() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.json"), format!("\u{feff}{}", lines(0..2))).unwrap();
    std::fs::write(dir.path().join("b.json"), "\u{feff}\n{\"n\":2}\n\u{feff}{\"n\":3}\n").unwrap();
    let batches = read(&connector(dir.path(), "*.json", &[]).unwrap(), 0, None);
    assert_eq!((numbers(&batches), batches.iter().map(|b| b.undecodable.len()).sum::<usize>()), (vec![0, 1, 2], 1));
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
    let reason = format!("file \"{}/a.csv\": 1 fields where 3 are expected", dir.path().display());
    assert_eq!((bad.len(), bad[0].reason.as_str(), bad[0].excerpt.as_str()), (1, reason.as_str(), "bad"));
    // From the middle of a file its header still counts.
    let second_row = batches[0].offsets[1];
    assert_eq!(numbers(&read(&source, second_row, Some(batches[0].end.0))), [2]);
}

#[test]
fn a_line_of_delimiters_is_a_record() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.csv"), "1\ta\n\t\n \n\n2\tb\n").unwrap();
    let source = connector(dir.path(), "a.csv", &[("format", "csv"), ("csv.field-delimiter", "\\t")]).unwrap();
    let batches = read(&source, 0, None);
    let sum = |of: fn(&SourceBatch) -> usize| batches.iter().map(of).sum::<usize>();
    assert_eq!((sum(|b| b.rows.num_rows()), sum(|b| b.rows.column(0).null_count()), sum(|b| b.undecodable.len())), (3, 1, 0));
}

#[test]
fn a_csv_file_whose_header_does_not_fit_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.csv"), "n,x\n1,2\n").unwrap();
    std::fs::write(dir.path().join("b.csv"), "n,t\n3,d\n").unwrap();
    let options = &[("format", "csv"), ("csv.header", "true")];
    let source = connector(dir.path(), "*.csv", options).unwrap();
    let batches = read(&source, 0, None);
    assert_eq!(numbers(&batches), [3]);
    let bad: Vec<_> = batches.iter().flat_map(|b| &b.undecodable).collect();
    let reason = format!("file \"{}/a.csv\": the header names no column t", dir.path().display());
    assert_eq!((bad.len(), bad[0].reason.as_str()), (1, reason.as_str()));
    // It is the same whenever it is read.
    let again = connector(dir.path(), "*.csv", options).unwrap();
    again.remember(&batches[0].notes).unwrap();
    let batches = read(&again, 0, Some(batches.last().unwrap().end.0));
    assert_eq!((numbers(&batches), batches.iter().map(|b| b.undecodable.len()).sum::<usize>()), (vec![3], 1));
}

/// Somebody takes the connection and says nothing.
#[test]
fn a_store_that_does_not_answer_is_told_soon() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let place = [("connector", "filesystem"), ("path", "s3://bucket/a"), ("format", "json")];
    let keys = [("s3.endpoint", endpoint.as_str()), ("s3.access-key", "a"), ("s3.secret-key", "b")];
    let raw: BTreeMap<String, String> = place.iter().chain(&keys).map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let column = |name: &str| SourceColumn {
        external_name: name.to_string(),
        ty: SqlType::BigInt,
        nullable: true,
        length: None,
        origin: ColumnOrigin::Payload,
    };
    let begun = Instant::now();
    let options = options::canonicalize(raw.clone()).unwrap();
    let source = FileConnector::new(&SourceSpec { name: "s".into(), options, columns: vec![column("n")], key: vec![] }).unwrap();
    let sink = FilesystemSink::new(&SinkSpec {
        name: "s".into(),
        incarnation: "0123456789abcdef".into(),
        options: options::canonicalize_sink(raw).unwrap(),
        columns: vec![SinkColumn { external_name: "n".into(), ty: SqlType::BigInt }],
        key: vec![],
        mode: SinkMode::Append,
    });
    std::thread::scope(|scope| {
        let checked = scope.spawn(|| sink.unwrap().check().unwrap_err());
        let resolved = source.resolve_start().unwrap_err();
        for error in [resolved, checked.join().unwrap()] {
            assert!(error.state == SqlState::CONNECTION_FAILURE && error.hint.is_some(), "{error}");
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_path_without_files_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(connector(dir.path(), "missing/*.json", &[]).unwrap().resolve_start().unwrap_err().state, SqlState::UNDEFINED_OBJECT);
    let waiting = connector(dir.path(), "", &[("source.monitor-interval", "1s")]).unwrap();
    assert_eq!(waiting.resolve_start().unwrap().len(), 1);
    assert!(connector(dir.path(), "*.json", &[("source.path.pattern", "*.csv")]).is_err());
}

/// A file of rows `n`, `t`, in row groups of a thousand; `other` is a column that nobody declares.
fn parquet(numbers: std::ops::Range<i32>) -> Vec<u8> {
    let n: ArrayRef = Arc::new(Int32Array::from_iter_values(numbers.clone()));
    let t: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.clone().map(|n| format!("text {n}"))));
    let rows = RecordBatch::try_from_iter([("other", t.clone()), ("T", t), ("n", n)]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).set_data_page_row_count_limit(100).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn parquet_files_and_any_part_of_them_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.parquet"), parquet(0..2_500)).unwrap();
    std::fs::write(dir.path().join("b.parquet"), parquet(0..0)).unwrap();
    std::fs::write(dir.path().join("c.parquet"), parquet(2_500..12_000)).unwrap();
    let source = connector(dir.path(), "*.parquet", &[("format", "parquet")]).unwrap();
    let batches = read(&source, 0, None);
    assert_eq!(numbers(&batches), (0..12_000).collect::<Vec<_>>());
    assert!(batches.windows(2).all(|pair| pair[0].end == pair[1].start) && batches.last().unwrap().finished);
    assert_eq!(batches[0].rows.column(1).as_string::<i32>().value(7), "text 7");
    let offsets: Vec<i64> = batches.iter().flat_map(|b| b.offsets.clone()).collect();
    assert_eq!((offsets[7], offsets[2_500]), (7, 2 << 40), "an offset is a file and a row of it");
    // Another process reads what lies between any two rows.
    let again = connector(dir.path(), "*.parquet", &[("format", "parquet")]).unwrap();
    again.remember(&batches[0].notes).unwrap();
    for (from, to) in [(0, 1), (999, 1_001), (2_499, 2_500), (1_234, 7_000), (2_500, 12_000)] {
        let wanted: Vec<i64> = (from..to).collect();
        let end = offsets.get(to as usize).copied().unwrap_or(batches.last().unwrap().end.0);
        assert_eq!(numbers(&read(&again, offsets[from as usize], Some(end))), wanted, "{from} to {to}");
    }
    let present = source.present().unwrap().unwrap()[0];
    assert_eq!(present.end, Some(Offset(3 << 40)), "behind the third file");
    assert_eq!(numbers(&read(&source, 0, Some(3 << 40))), (0..12_000).collect::<Vec<_>>());
}

#[test]
fn a_damaged_parquet_file_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let whole = parquet(0..3_000);
    put("a.parquet", &whole[..whole.len() / 2]);
    put("b.parquet", b"n,t\n1,2\n");
    // Its end says what is in it, but a page in the middle is nonsense.
    put("c.parquet", &damaged(&whole, "n"));
    put("d.parquet", &parquet(5_000..5_010));
    let source = connector_of(dir.path(), "*.parquet", &[("format", "parquet")], false).unwrap();
    let batches = read(&source, 0, None);
    let found = numbers(&batches);
    assert!(found.ends_with(&(5_000..5_010).collect::<Vec<_>>()), "{found:?}");
    let bad: Vec<_> = batches.iter().flat_map(|b| &b.undecodable).collect();
    assert_eq!(bad.len(), 3, "{bad:?}");
    for (bad, file) in bad.iter().zip(["a", "b", "c"]) {
        assert!(bad.reason.contains(&format!("{file}.parquet\": it cannot be read as Parquet")), "{}", bad.reason);
    }
    // What is refused is the same whenever it is read, and whatever is read of it.
    let again = connector_of(dir.path(), "*.parquet", &[("format", "parquet")], false).unwrap();
    again.remember(&batches[0].notes).unwrap();
    for t in [true, false] {
        assert_eq!(numbers(&read_columns(&again, 0, Some(batches.last().unwrap().end.0), &[false, t, false])), found);
    }
}

/// The file with nonsense in the second half of a column, in its second row group.
fn damaged(file: &[u8], column: &str) -> Vec<u8> {
    let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(file)).unwrap();
    let group = reader.metadata().row_group(1);
    let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == column).unwrap();
    let (start, len) = chunk.byte_range();
    let mut damaged = file.to_vec();
    damaged[(start + len / 2) as usize..(start + len) as usize].fill(0xff);
    damaged
}

/// A column that no row depends on is not read for nobody, and its damage concerns those who read it.
#[test]
fn columns_of_parquet_files_that_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let whole = parquet(0..3_000);
    let all: Vec<i64> = (0..3_000).collect();
    for (broken, column) in [("T", 1), ("n", 0)] {
        std::fs::write(dir.path().join("a.parquet"), damaged(&whole, broken)).unwrap();
        let source = connector(dir.path(), "a.parquet", &[("format", "parquet")]).unwrap();
        for kept in [[true, true, true], [column != 0, column != 1, true], [false, false, false]] {
            let batches = read_columns(&source, 0, None, &kept);
            let rows: usize = batches.iter().map(|b| b.rows.num_rows()).sum();
            let undecodable: usize = batches.iter().map(|b| b.undecodable.len()).sum();
            assert_eq!((rows, undecodable), (3_000, 0), "{broken} {kept:?}");
            let missing: usize = batches
                .iter()
                .filter(|b| missing_values(b.rows.schema_ref(), column).is_some_and(|why| why.contains("a.parquet\": column")))
                .map(|b| b.rows.num_rows())
                .sum();
            assert_eq!(missing > 0, kept[column], "{broken} {kept:?}: {missing}");
            assert!(batches.iter().all(|b| missing_values(b.rows.schema_ref(), 1 - column).is_none()));
            if column == 1 && kept[0] {
                assert_eq!(numbers(&batches), all);
            }
            let texts = batches.iter().map(|b| b.rows.column(1).len() - b.rows.column(1).null_count()).sum::<usize>();
            assert_eq!(
                texts,
                if !kept[1] {
                    0
                } else if column == 1 {
                    3_000 - missing
                } else {
                    3_000
                }
            );
        }
    }
}

/// Whoever reads on from a checkpoint finds what the one before it would have found.
#[test]
fn a_damaged_column_is_the_same_from_any_row_on() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.parquet"), damaged(&parquet(0..30_000), "T")).unwrap();
    let source = connector(dir.path(), "a.parquet", &[("format", "parquet")]).unwrap();
    let missing = |from: i64| -> usize {
        let batches = read(&source, from, None);
        assert_eq!(batches.iter().map(|b| b.rows.num_rows()).sum::<usize>(), 30_000 - from as usize);
        batches.iter().filter(|b| missing_values(b.rows.schema_ref(), 1).is_some()).map(|b| b.rows.num_rows()).sum()
    };
    let all = missing(0);
    assert!(0 < all && all < 30_000, "{all}");
    assert_eq!(missing(all as i64 / 2), all - all / 2);
    assert_eq!(missing(all as i64), 0);
}

#[test]
fn parquet_columns_that_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let n: ArrayRef = Arc::new(arrow::array::UInt64Array::from(vec![Some(1), Some(u64::MAX), None]));
    let rows = RecordBatch::try_from_iter([("n", n.clone())]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    std::fs::write(dir.path().join("a.parquet"), writer.into_inner().unwrap()).unwrap();
    let wrong: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1.0]));
    let rows = RecordBatch::try_from_iter([("n", wrong)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    std::fs::write(dir.path().join("b.parquet"), writer.into_inner().unwrap()).unwrap();
    let source = connector(dir.path(), "", &[("format", "parquet")]).unwrap();
    let batches = read(&source, 0, None);
    let rows: Vec<_> = batches.iter().filter(|b| b.rows.num_rows() > 0).collect();
    assert_eq!((rows.len(), rows[0].rows.num_rows(), rows[0].rows.column(0).null_count()), (1, 2, 1));
    assert_eq!(rows[0].rows.column(1).null_count(), 2, "a column that the file lacks is NULL");
    let reasons: Vec<&str> = batches.iter().flat_map(|b| &b.undecodable).map(|u| u.reason.as_str()).collect();
    assert!(reasons[0].ends_with("a.parquet\": column n: the value is not a bigint"), "{reasons:?}");
    assert!(reasons[1].ends_with("column n: a column of type Float64 in the file cannot be bigint"), "{reasons:?}");
}

/// Whoever reads the column, a row with a longer text is refused.
#[test]
fn texts_of_a_parquet_file_that_are_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let n: ArrayRef = Arc::new(Int32Array::from_iter_values(0..4));
    let t: ArrayRef = Arc::new(StringArray::from(vec![Some("abc"), Some("abcd"), Some("ab    "), None]));
    let rows = RecordBatch::try_from_iter([("n", n), ("t", t)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    std::fs::write(dir.path().join("a.parquet"), writer.into_inner().unwrap()).unwrap();
    let mut spec = spec_of(dir.path(), "a.parquet", &[("format", "parquet")], true).unwrap();
    spec.columns[1].length = Some(3);
    let source = FileConnector::new(&spec).unwrap();
    for kept in [[true, true, true], [true, false, true]] {
        let batches = read_columns(&source, 0, None, &kept);
        assert_eq!(numbers(&batches), [0, 2, 3]);
        let reasons: Vec<&str> = batches.iter().flat_map(|b| &b.undecodable).map(|u| u.reason.as_str()).collect();
        assert!(reasons.len() == 1 && reasons[0].ends_with("a.parquet\": column t: the text is longer than 3 characters"), "{reasons:?}");
        let texts: Vec<_> = batches.iter().flat_map(|b| b.rows.column(1).as_string::<i32>().iter()).collect();
        assert_eq!(texts, [Some("abc"), Some("ab "), None]);
    }
}

#[test]
fn compressed_lines_and_any_part_of_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let gzip = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    // Two members one after the other are one text.
    put("a.json.gz", &[gzip(&lines(0..30_000)), gzip(&lines(30_000..30_010))].concat());
    put("b.json", lines(30_010..30_020).as_bytes());
    put("c.json.zst", &zstd::encode_all(lines(30_020..60_000).as_bytes(), 1).unwrap());
    let source = connector(dir.path(), "*", &[]).unwrap();
    let batches = read(&source, 0, None);
    assert_eq!(numbers(&batches), (0..60_000).collect::<Vec<_>>());
    let offsets: Vec<i64> = batches.iter().flat_map(|b| b.offsets.clone()).collect();
    let again = connector(dir.path(), "*", &[]).unwrap();
    again.remember(&batches[0].notes).unwrap();
    for (from, to) in [(0, 1), (29_990, 30_025), (45_000, 45_001)] {
        assert_eq!(numbers(&read(&again, offsets[from], Some(offsets[to]))), (from as i64..to as i64).collect::<Vec<_>>());
    }
    // One that was cut gives what is before the cut, and holds up no other.
    let whole = gzip(&lines(0..50_000));
    put("a.json.gz", &whole[..whole.len() / 2]);
    let source = connector(dir.path(), "{a,b}*", &[]).unwrap();
    let batches = read(&source, 0, None);
    let found = numbers(&batches);
    assert!(
        found.len() > 1_000 && found.ends_with(&(30_010..30_020).collect::<Vec<_>>()) && found[..1_000] == (0..1_000).collect::<Vec<_>>()
    );
    let reasons: Vec<&str> = batches.iter().flat_map(|b| &b.undecodable).map(|u| u.reason.as_str()).collect();
    assert!(reasons.len() == 1 && reasons[0].contains("a.json.gz\": it cannot be unpacked"), "{reasons:?}");
}

#[test]
fn columns_from_names_of_folders() {
    let dir = tempfile::tempdir().unwrap();
    let put = |folder: &str, text: String| {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        std::fs::write(dir.path().join(folder).join("a.json"), text).unwrap();
    };
    put("t=x%2Fy", "{\"n\":1}\n{\"n\":2,\"t\":\"not this\"}\n".to_string());
    put("t=__HIVE_DEFAULT_PARTITION__", lines(3..4));
    put("elsewhere", lines(4..5));
    let source = connector(dir.path(), "", &[("partition_by", "t")]).unwrap();
    let batches = read(&source, 0, None);
    let rows = batches.iter().flat_map(|b| {
        let (n, t) = (b.rows.column(0).as_primitive::<Int64Type>(), b.rows.column(1).as_string::<i32>());
        (0..n.len()).map(|row| (n.value(row), t.is_valid(row).then(|| t.value(row).to_string()))).collect::<Vec<_>>()
    });
    let text = Some("x/y".to_string());
    assert_eq!(rows.collect::<Vec<_>>(), [(3, None), (1, text.clone()), (2, text)]);
    let reasons: Vec<&str> = batches.iter().flat_map(|b| &b.undecodable).map(|u| u.reason.as_str()).collect();
    assert!(reasons.len() == 1 && reasons[0].ends_with("no folder of its path names column t"), "{reasons:?}");
}
