//! What a log is worth at start: nothing that was committed is lost, nothing that will come again is sent twice.

use super::super::frames::{KIND_COMMIT, encode_rows};
use super::*;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use eddyline_common::connector::SinkStep;
use eddyline_common::runtime::SystemFs;
use eddyline_common::{ChangeBatch, Timestamp};
use std::path::Path;

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn rows(log: &Log, number: u64, epoch: u64) {
    let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![number as i64]))]).unwrap();
    let step = SinkStep { number, epoch: Epoch(epoch), now: Timestamp(0) };
    log.append(KIND_ROWS, &encode_rows(step, &ChangeBatch::insertions(batch)).unwrap()).unwrap();
}

fn commit(log: &Log, up_to: u64, epoch: u64, complete: bool) {
    let commit = Commit { up_to, from: Epoch::ZERO, epoch: Epoch(epoch), complete, sources: Default::default() };
    log.append(KIND_COMMIT, &json(&commit)).unwrap();
}

fn reopen(dir: &Path) -> Opened {
    open(Arc::new(SystemFs), dir.to_path_buf()).unwrap()
}

/// Steps 1 and 2 committed at epochs 10 and 20, the first one sent; step 3 without a commit.
fn written(dir: &Path) {
    let opened = reopen(dir);
    rows(&opened.log, 1, 10);
    commit(&opened.log, 1, 10, true);
    opened.log.append(KIND_SENT, &json(&Sent { up_to: 1, complete: Some(Epoch(10)) })).unwrap();
    rows(&opened.log, 2, 20);
    commit(&opened.log, 2, 20, true);
    rows(&opened.log, 3, 30);
    opened.log.sync().unwrap();
}

fn numbers(opened: &Opened) -> Vec<u64> {
    let mut numbers: Vec<u64> = opened.records.iter().map(|(number, _)| *number).collect();
    numbers.dedup();
    numbers
}

#[test]
fn rows_without_a_commit_come_again() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let mut opened = reopen(dir.path());
    assert_eq!(opened.last, 3);
    assert_eq!(opened.settle(Back::AtEpoch, Epoch(40)).unwrap(), Some(Epoch(20)));
    assert_eq!(numbers(&opened), [1, 2]);
    assert_eq!(opened.commits.iter().map(|c| c.up_to).collect::<Vec<_>>(), [2]);
    let of_two: u64 = opened.records.iter().filter(|(number, _)| *number == 2).map(|(_, bytes)| bytes).sum();
    assert_eq!(opened.waiting().bytes(), of_two, "rows and commit");
    drop(opened);
    // What was made void stays void, and its number is not given again.
    let mut again = reopen(dir.path());
    assert_eq!((again.last, numbers(&again)), (3, vec![1, 2]));
    rows(&again.log, 4, 30);
    commit(&again.log, 4, 30, true);
    again.log.sync().unwrap();
    drop(again);
    again = reopen(dir.path());
    assert_eq!(again.settle(Back::AtEpoch, Epoch(40)).unwrap(), Some(Epoch(30)));
    assert_eq!(numbers(&again), [1, 2, 4]);
}

#[test]
fn a_commit_whose_cut_was_lost_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let mut opened = reopen(dir.path());
    assert_eq!(opened.settle(Back::AtEpoch, Epoch(15)).unwrap(), Some(Epoch(10)));
    assert_eq!(numbers(&opened), [1]);
    assert_eq!(opened.waiting().bytes(), 0);
}

#[test]
fn a_reading_goes_on_after_the_rows_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let mut opened = reopen(dir.path());
    assert_eq!(opened.settle(Back::Reading { logged: 2 }, Epoch(40)).unwrap(), None, "what it emits next is new");
    assert_eq!(numbers(&opened), [1, 2]);
    drop(opened);
    let mut opened = reopen(dir.path());
    assert_eq!(opened.settle(Back::Reading { logged: 0 }, Epoch(40)).unwrap(), None);
    assert_eq!(numbers(&opened), [1], "what was sent cannot be taken back");
}

#[test]
fn what_a_stopped_job_had_committed_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let opened = reopen(dir.path());
    commit(&opened.log, 3, 30, false);
    rows(&opened.log, 4, 30);
    opened.log.sync().unwrap();
    drop(opened);
    let mut opened = reopen(dir.path());
    assert_eq!(opened.settle(Back::Stopped, Epoch(40)).unwrap(), None, "it emits nothing");
    assert_eq!(numbers(&opened), [1, 2, 3]);
    assert_eq!(opened.commits.iter().map(|c| c.up_to).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn what_is_outside_is_known_after_its_commit_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let opened = reopen(dir.path());
    opened.log.append(KIND_SENT, &json(&Sent { up_to: 7, complete: Some(Epoch(70)) })).unwrap();
    opened.log.sync().unwrap();
    drop(opened);
    let mut opened = reopen(dir.path());
    assert_eq!(opened.last, 7);
    assert_eq!(opened.settle(Back::AtEpoch, Epoch(80)).unwrap(), Some(Epoch(70)));
}

#[test]
fn a_table_comes_to_where_a_log_may_be_complete() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let opened = reopen(dir.path());
    commit(&opened.log, 3, 30, false);
    opened.log.sync().unwrap();
    drop(opened);
    let returning = Returning::open(Arc::new(SystemFs), dir.path().to_path_buf(), Back::AtEpoch);
    assert_eq!(returning.complete().collect::<Vec<_>>(), [10, 20, 10].map(Epoch));
    let after = |epoch: u64| returning.complete_after(Epoch(epoch));
    assert_eq!([0, 9, 10, 19, 20].map(after), [10, 10, 20, 20, 0].map(|epoch| (epoch > 0).then_some(Epoch(epoch))));
}
