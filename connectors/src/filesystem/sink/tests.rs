//! Files over a folder of their own: nothing shows before it is whole, what comes again takes the place of what was there.

use super::*;
use crate::testing::Nobody;
use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use eddyline_common::{Epoch, SqlType, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn spec(dir: &Path, more: &[(&str, &str)]) -> SinkSpec {
    let mut options = BTreeMap::from([("path".to_string(), dir.display().to_string()), ("format".to_string(), "json".to_string())]);
    options.extend(more.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let column = |name: &str, ty| SinkColumn { external_name: name.to_string(), ty };
    SinkSpec {
        name: "files".into(),
        incarnation: "0123456789abcdef".into(),
        options,
        columns: vec![column("id", SqlType::BigInt), column("city", SqlType::Text)],
        key: vec![],
        mode: SinkMode::Append,
    }
}

fn step(number: u64) -> SinkStep {
    SinkStep { number, epoch: Epoch(number * 10), now: Timestamp(0) }
}

fn rows(ids: &[i64], cities: &[Option<&str>]) -> ChangeBatch {
    let schema = arrow_schema(&[Column::new("id", SqlType::BigInt, true), Column::new("city", SqlType::Text, true)]);
    let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(StringArray::from(cities.to_vec()))];
    ChangeBatch::insertions(RecordBatch::try_new(schema, columns).unwrap())
}

/// The lines of all files that show, with their folders.
fn shown(dir: &Path) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut stack = vec![dir.to_path_buf()];
    while let Some(next) = stack.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
                let folder = next.strip_prefix(dir).unwrap().display().to_string();
                for line in fs::read_to_string(&path).unwrap().lines() {
                    assert!(lines.insert(format!("{folder}:{line}")), "{line} is there twice");
                }
            }
        }
    }
    lines
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|l| l.to_string()).collect()
}

#[test]
fn files_show_when_they_are_whole_and_rows_are_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FilesystemSink::new(&spec(dir.path(), &[])).unwrap();
    sink.check().unwrap();
    let mut writer = sink.open(0, Arc::new(Nobody)).unwrap();
    writer.write(step(1), &rows(&[1], &[Some("Bern")])).unwrap();
    writer.write(step(2), &rows(&[2], &[None])).unwrap();
    assert_eq!(writer.flush(false).unwrap(), None, "neither large nor old");
    assert!(writer.flush_after().unwrap() > Duration::from_secs(50));
    assert!(shown(dir.path()).is_empty());
    assert_eq!(writer.flush(true).unwrap(), Some(2));
    let both = set(&[r#":{"id":1,"city":"Bern"}"#, r#":{"id":2,"city":null}"#]);
    assert_eq!(shown(dir.path()), both);
    writer.write(step(3), &rows(&[3], &[None])).unwrap();
    drop(writer);

    // A crash before the acknowledgement of step 2 was noted: both come again, together with more.
    let mut writer = sink.open(0, Arc::new(Nobody)).unwrap();
    assert!(shown(dir.path()).is_empty());
    writer.write(step(1), &rows(&[1], &[Some("Bern")])).unwrap();
    assert_eq!(writer.flush(true).unwrap(), Some(1));
    writer.write(step(2), &rows(&[2], &[None])).unwrap();
    assert_eq!(writer.flush(true).unwrap(), Some(2));
    assert_eq!(shown(dir.path()), both);
    drop(writer);
    sink.open(2, Arc::new(Nobody)).unwrap();
    assert_eq!(shown(dir.path()), both, "what was acknowledged stays");
}

#[test]
fn folders_by_value_and_csv() {
    let dir = tempfile::tempdir().unwrap();
    let more = [("partition_by", "city"), ("format", "csv"), ("csv.header", "true"), ("sink.rolling-policy.file-size", "1")];
    let sink = FilesystemSink::new(&spec(dir.path(), &more)).unwrap();
    let mut writer = sink.open(0, Arc::new(Nobody)).unwrap();
    writer.write(step(1), &rows(&[1, 2, 3], &[Some("a/b"), None, Some("a/b")])).unwrap();
    assert_eq!(writer.flush(false).unwrap(), Some(1), "large enough");
    let header = |folder: &str| format!("{folder}:id");
    let mut wanted = set(&["city=a%2Fb:1", "city=a%2Fb:3", "city=__HIVE_DEFAULT_PARTITION__:2"]);
    wanted.extend([header("city=a%2Fb"), header("city=__HIVE_DEFAULT_PARTITION__")]);
    assert_eq!(shown(dir.path()), wanted);
    // A text is no NULL, whatever it is.
    writer.write(step(2), &rows(&[4], &[Some("__HIVE_DEFAULT_PARTITION__")])).unwrap();
    assert_eq!(writer.flush(true).unwrap(), Some(2));
    assert!(shown(dir.path()).contains("city=%5F_HIVE_DEFAULT_PARTITION__:4"));
    let long = "x".repeat(300);
    let refused = writer.write(step(3), &rows(&[5], &[Some(long.as_str())])).unwrap_err();
    assert!(refused.hint.is_some_and(|hint| hint.contains("too long for the file system")), "{}", refused.message);
    assert!(FilesystemSink::new(&spec(Path::new("relative"), &[])).is_err());
}

#[test]
fn a_step_of_more_folders_than_may_be_open() {
    for format in ["json", "parquet"] {
        let dir = tempfile::tempdir().unwrap();
        let sink = FilesystemSink::new(&spec(dir.path(), &[("partition_by", "city"), ("format", format)])).unwrap();
        let mut writer = sink.open(0, Arc::new(Nobody)).unwrap();
        writer.write(step(1), &rows(&[-1], &[Some("0")])).unwrap();
        // Each folder twice, far from each other; that of the step before is among them.
        let ids: Vec<i64> = (0..2 * OPEN_FILES_MAX as i64 + 20).collect();
        let names: Vec<String> = ids.iter().map(|id| (id % (OPEN_FILES_MAX as i64 + 10)).to_string()).collect();
        let cities: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
        writer.write(step(2), &rows(&ids, &cities)).unwrap();
        assert_eq!(writer.flush(false).unwrap(), Some(2), "what shows in part is finished");
        if format == "json" {
            let of = |(id, name): (&i64, &String)| format!("city={name}:{{\"id\":{id}}}");
            let wanted: BTreeSet<String> = ids.iter().chain([&-1]).zip(names.iter().chain([&"0".to_string()])).map(of).collect();
            assert_eq!(shown(dir.path()), wanted);
        }
        let files = || {
            let each = fs::read_dir(dir.path()).unwrap().flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
            each.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(files().len(), OPEN_FILES_MAX + 10, "one in each folder");
        drop(writer);
        sink.open(2, Arc::new(Nobody)).unwrap();
        assert_eq!(files().len(), OPEN_FILES_MAX + 10, "what was acknowledged stays");
        sink.open(0, Arc::new(Nobody)).unwrap();
        assert!(files().is_empty(), "what was not comes again");
    }
}

#[test]
fn parquet_by_folder_in_row_groups() {
    for compression in ["snappy", "zstd", "gzip", "lz4", "none"] {
        let dir = tempfile::tempdir().unwrap();
        let more = [("partition_by", "city"), ("format", "parquet"), ("parquet.compression", compression)];
        let sink = FilesystemSink::new(&spec(dir.path(), &more)).unwrap();
        let mut writer = sink.open(0, Arc::new(Nobody)).unwrap();
        writer.write(step(1), &rows(&[1, 2, 3], &[Some("a"), Some("b"), Some("a")])).unwrap();
        writer.write(step(2), &rows(&[4], &[Some("a")])).unwrap();
        assert!(!fs::read_dir(dir.path().join("city=a")).unwrap().any(|f| !f.unwrap().file_name().to_str().unwrap().starts_with('.')));
        assert_eq!(writer.flush(true).unwrap(), Some(2));
        let path = dir.path().join("city=a/part-0123456789ab-00000000000000000001.parquet");
        let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
        assert_eq!(reader.schema().fields().len(), 1, "a folder's column is not in the files");
        let ids: Vec<i64> =
            reader.build().unwrap().flat_map(|b| b.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(ids, [1, 3, 4]);
    }
    let mut interval = spec(Path::new("/x"), &[("format", "parquet")]);
    interval.columns[0].ty = SqlType::Interval;
    assert_eq!(FilesystemSink::new(&interval).err().map(|e| e.state), Some(SqlState::FEATURE_NOT_SUPPORTED));
}
