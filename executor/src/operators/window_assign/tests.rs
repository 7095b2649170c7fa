//! Tests of window assignment.

use super::*;
use crate::testing::{context, net, split};
use arrow::array::{Int64Array, RecordBatch};
use eddyline_common::types::{Column, SqlType, arrow_schema};

fn columns(names: &[&str]) -> SchemaRef {
    let mut columns = vec![Column::new("ts", SqlType::Timestamp, true), Column::new("v", SqlType::BigInt, true)];
    columns.extend(names.iter().map(|n| Column::new(*n, SqlType::Timestamp, false)));
    arrow_schema(&columns)
}

fn assign(kind: WindowKind) -> WindowAssign {
    WindowAssign::new(0, kind, &columns(&[]), columns(&["window_start", "window_end", "window_time"])).unwrap()
}

fn input(times: &[Option<i64>]) -> TaggedBatch {
    let values = Int64Array::from_iter_values(0..times.len() as i64);
    let rows =
        RecordBatch::try_new(columns(&[]), vec![Arc::new(TimestampMicrosecondArray::from(times.to_vec())), Arc::new(values)]).unwrap();
    TaggedBatch { changes: ChangeBatch::insertions(rows), arrival_watermark: Timestamp(5), now: Timestamp(0) }
}

/// The windows of one time by the definition, tried one by one.
fn windows(time: i64, size: i64, slide: i64, offset: i64) -> Vec<i64> {
    (time - size + 1..=time).filter(|start| (start - offset).rem_euclid(slide) == 0).collect()
}

fn check(kind: WindowKind, size: i64, slide: i64, offset: i64) {
    let times: Vec<i64> = (-60..60).chain([7, 7, 1_000, -1_000]).collect();
    let optional: Vec<Option<i64>> = times.iter().copied().map(Some).collect();
    let mut expected = Vec::new();
    for (v, time) in times.iter().enumerate() {
        for start in windows(*time, size, slide, offset) {
            expected.push((vec![*time, v as i64, start, start + size, start + size - 1_000], 1));
        }
    }
    expected.sort();
    for seed in 0..5 {
        let mut operator = assign(kind);
        let mut ctx = context();
        for piece in split(input(&optional), seed) {
            operator.push(0, piece, &mut ctx).unwrap();
        }
        let out = ctx.take_output();
        assert!(out.iter().all(|b| b.arrival_watermark == Timestamp(5)));
        assert_eq!(net(&out), expected, "{kind:?}");
        assert!(ctx.take_rejected().is_empty());
    }
}

#[test]
fn tumbling_windows_floor_towards_the_past() {
    check(WindowKind::Tumble { size: 10, offset: 0 }, 10, 10, 0);
    check(WindowKind::Tumble { size: 10, offset: 3 }, 10, 10, 3);
    check(WindowKind::Tumble { size: 7, offset: -2 }, 7, 7, -2);
}

#[test]
fn hopping_windows_of_any_proportion() {
    check(WindowKind::Hop { size: 10, slide: 5, offset: 0 }, 10, 5, 0);
    check(WindowKind::Hop { size: 10, slide: 3, offset: 1 }, 10, 3, 1);
    check(WindowKind::Hop { size: 3, slide: 10, offset: 0 }, 3, 10, 0);
    check(WindowKind::Hop { size: 25, slide: 1, offset: 0 }, 25, 1, 0);
}

#[test]
fn cumulating_windows_share_their_start() {
    let times = [Some(3), Some(10), Some(-1), Some(12), Some(29)];
    let mut operator = assign(WindowKind::Cumulate { size: 30, step: 10, offset: 2 });
    let mut ctx = context();
    operator.push(0, input(&times), &mut ctx).unwrap();
    let mut expected: Vec<(Vec<i64>, i64)> = Vec::new();
    for (v, (time, start, ends)) in
        [(3, 2, vec![12, 22, 32]), (10, 2, vec![12, 22, 32]), (-1, -28, vec![2]), (12, 2, vec![22, 32]), (29, 2, vec![32])]
            .into_iter()
            .enumerate()
    {
        expected.extend(ends.into_iter().map(|end| (vec![time, v as i64, start, end, end - 1_000], 1)));
    }
    expected.sort();
    assert_eq!(net(&ctx.take_output()), expected);
}

#[test]
fn rejects_null_and_out_of_range_times() {
    let mut ctx = context();
    assign(WindowKind::Tumble { size: 10, offset: 0 })
        .push(0, input(&[None, Some(i64::MAX), Some(i64::MIN), Some(15), Some(i64::MAX - 1)]), &mut ctx)
        .unwrap();
    assert_eq!(net(&ctx.take_output()), vec![(vec![15, 3, 10, 20, -980], 1)]);
    let rejected: Vec<(String, usize)> = ctx.take_rejected().into_iter().map(|(r, c)| (r, c.num_rows())).collect();
    assert_eq!(rejected, vec![("null time in a windowed row".to_string(), 1), ("window out of the range of time".to_string(), 3)]);
}

#[test]
fn refuses_absurd_windows() {
    let output = columns(&["window_start", "window_end", "window_time"]);
    for kind in [
        WindowKind::Tumble { size: 0, offset: 0 },
        WindowKind::Hop { size: 1_000_000, slide: 1, offset: 0 },
        WindowKind::Cumulate { size: 10, step: 3, offset: 0 },
    ] {
        assert!(WindowAssign::new(0, kind, &columns(&[]), output.clone()).is_err());
    }
}
