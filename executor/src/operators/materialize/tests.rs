//! Tests of materialisation: consolidation and what reaches the view.

use super::*;
use crate::testing::{changes_of, context, net, net_changes, schema, split, weighted};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use eddyline_common::{Epoch, SqlType};
use eddyline_storage::view::{ARRIVAL, ViewKey};

fn view(schema: &SchemaRef) -> Arc<View> {
    View::new(schema.clone(), ViewKey::Keyed(vec![0]), 1, None).unwrap()
}

#[test]
fn settles_to_net_changes_old_before_new() {
    let schema = schema(&[("k", SqlType::BigInt), ("v", SqlType::BigInt)]);
    // Each key goes from its number to a final value over several updates, some back to where they were.
    let mut rows = Vec::new();
    for key in 0..300 {
        let path = if key % 3 == 0 { vec![key, key + 1, key] } else { vec![key, 7, 8, key + 1000] };
        for pair in path.windows(2) {
            rows.push((vec![key, pair[0]], -1));
            rows.push((vec![key, pair[1]], 1));
        }
    }
    let all = weighted(&schema, &rows, 0);
    let expected = net(std::slice::from_ref(&all));
    for seed in 0..10 {
        let converter = net_converter(&schema).unwrap();
        let mut random = split(all.clone(), seed);
        // Insertions without weights mix with weighted batches.
        random.push(crate::testing::batch(&schema, &[&[9_000 + seed as i64, 1]], 0));
        let settled = settle(&schema, 2, Some(&converter), random.into_iter().map(|b| b.changes).collect()).unwrap();
        let mut wanted = expected.clone();
        wanted.push((vec![9_000 + seed as i64, 1], 1));
        assert_eq!(net_changes(settled.iter()), wanted);
        let flat: Vec<_> = settled.iter().flat_map(changes_of).collect();
        assert_eq!(flat.len(), wanted.len(), "every row appears once");
        let first_new = flat.iter().position(|(_, w)| *w > 0).unwrap();
        assert!(flat[first_new..].iter().all(|(_, w)| *w > 0), "old rows come first");
    }
}

#[test]
fn orders_net_input_without_consolidating() {
    let schema = schema(&[("k", SqlType::BigInt)]);
    let view = view(&schema);
    view.apply(0, eddyline_common::Epoch(0), &[weighted(&schema, &[(vec![2], 1), (vec![3], 1)], 0).changes]).unwrap();
    let mut materialize = Materialize::new(Some(view), 0, schema.clone(), true, false).unwrap();
    let mut ctx = context();
    for rows in [vec![(vec![1], 1), (vec![2], -1)], vec![(vec![3], -1), (vec![4], 1)]] {
        materialize.push(0, weighted(&schema, &rows, 0), &mut ctx).unwrap();
    }
    materialize.finish(Timestamp(9), &mut ctx).unwrap();
    let out: Vec<_> = ctx.take_output().iter().flat_map(|b| changes_of(&b.changes)).collect();
    assert_eq!(out, vec![(vec![2], -1), (vec![3], -1), (vec![1], 1), (vec![4], 1)]);
    materialize.finish(Timestamp(9), &mut ctx).unwrap();
    assert!(ctx.take_output().is_empty());
}

#[test]
fn sums_weights_of_equal_rows() {
    let schema = schema(&[("k", SqlType::Text)]);
    let converter = net_converter(&schema).unwrap();
    let changes = weighted(&schema, &[(vec![1], 2), (vec![2], -1), (vec![1], 1), (vec![2], 1), (vec![3], -2)], 0).changes;
    let settled = settle(&schema, 1, Some(&converter), vec![changes]).unwrap();
    assert_eq!(net_changes(settled.iter()), vec![(vec![1], 3), (vec![3], -2)]);
}

#[test]
fn keeps_apart_what_arrived_under_different_watermarks() {
    let schema = schema(&[("k", SqlType::BigInt), ("v", SqlType::BigInt)]);
    let view = view(&schema);
    let mut materialize = Materialize::new(Some(view.clone()), 0, schema.clone(), false, false).unwrap();
    let mut ctx = context();
    let cuts = [(vec![(vec![1, 1], 1), (vec![2, 1], 1)], 0), (vec![(vec![1, 1], -1), (vec![1, 2], 1)], 5), (vec![(vec![2, 1], -1)], 5)];
    for (rows, arrival) in &cuts {
        materialize.push(0, weighted(&schema, rows, *arrival), &mut ctx).unwrap();
    }
    materialize.finish(Timestamp(9), &mut ctx).unwrap();
    let mut out = ctx.take_output();
    let later = out.split_off(out.iter().position(|b| b.arrival_watermark == Timestamp(5)).unwrap());
    assert!(out.iter().all(|b| b.arrival_watermark == Timestamp(0)));
    assert_eq!(net(&out), vec![(vec![1, 1], 1), (vec![2, 1], 1)]);
    assert_eq!(net(&later), vec![(vec![1, 1], -1), (vec![1, 2], 1), (vec![2, 1], -1)]);
    let rows: Vec<_> =
        view.snapshot(ctx.epoch, None).unwrap().flat_map(|rows| changes_of(&ChangeBatch::insertions(rows.unwrap()))).collect();
    assert_eq!(rows, vec![(vec![1, 2], 1)]);
}

#[test]
fn counts_without_a_view() {
    let schema = schema(&[("k", SqlType::BigInt)]);
    let mut materialize = Materialize::new(None, 0, schema.clone(), true, false).unwrap();
    let mut ctx = context();
    materialize.push(0, weighted(&schema, &[(vec![1], 1), (vec![2], -1)], 0), &mut ctx).unwrap();
    assert_eq!(ctx.take_output()[0].changes.num_rows(), 2);
    assert!(materialize.pending.is_empty());
}

/// A key with a megabyte of text.
fn large(schema: &SchemaRef, key: i64, text: &ArrayRef, weight: i64) -> TaggedBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![key]));
    let rows = RecordBatch::try_new(schema.clone(), vec![keys, text.clone()]).unwrap();
    let changes = ChangeBatch::with_weights(rows, Int64Array::from(vec![weight]));
    TaggedBatch { changes, arrival_watermark: Timestamp::MIN, now: Timestamp(0) }
}

/// However many they are, and nobody sees any of them before the step is complete.
#[test]
fn rows_that_are_new_are_applied_in_pieces() {
    let schema = schema(&[("k", SqlType::BigInt), ("v", SqlType::Text)]);
    let old: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20)]));
    for key in [ViewKey::Append, ViewKey::Multiset, ViewKey::Keyed(vec![0])] {
        let view = View::new(schema.clone(), key.clone(), 2, None).unwrap();
        let mut materialize = Materialize::new(Some(view.clone()), 0, schema.clone(), false, false).unwrap();
        let mut ctx = context();
        (0..70).for_each(|k| materialize.push(0, large(&schema, k, &old, 1), &mut ctx).unwrap());
        assert_eq!(view.num_rows(ctx.epoch), 64, "{key:?}");
        let is_append = key == ViewKey::Append;
        if !is_append {
            // Of the first piece.
            materialize.push(0, large(&schema, 3, &old, -1), &mut ctx).unwrap();
        }
        materialize.finish(Timestamp(9), &mut ctx).unwrap();
        let left = if is_append { 70 } else { 69 };
        assert_eq!((view.num_rows(Epoch(0)), view.num_rows(ctx.epoch)), (0, left), "{key:?}");
        let passed: i64 = ctx.take_output().iter().flat_map(|b| (0..b.changes.num_rows()).map(move |row| b.changes.weight(row))).sum();
        assert_eq!(passed, left as i64);
    }
}

/// Another worker's shard has the old rows, and what takes them back comes last.
#[test]
fn rows_that_take_the_place_of_others_wait_for_these_to_go() {
    let schema = schema(&[("k", SqlType::BigInt), ("v", SqlType::Text)]);
    let text = |letter: &str| -> ArrayRef { Arc::new(StringArray::from(vec![letter.repeat(1 << 20)])) };
    let (old, new) = (text("x"), text("y"));
    let view = View::new(schema.clone(), ViewKey::Keyed(vec![0]), 2, None).unwrap();
    for k in 0..70 {
        view.apply(1, Epoch(1), &[large(&schema, k, &old, 1).changes]).unwrap();
    }
    let mut materialize = Materialize::new(Some(view.clone()), 0, schema.clone(), false, false).unwrap();
    let mut ctx = context();
    ctx.epoch = Epoch(2);
    (0..70).for_each(|k| materialize.push(0, large(&schema, k, &new, 1), &mut ctx).unwrap());
    assert!(ctx.take_output().is_empty());
    (0..70).for_each(|k| materialize.push(0, large(&schema, k, &old, -1), &mut ctx).unwrap());
    materialize.finish(Timestamp(9), &mut ctx).unwrap();
    assert_eq!((view.num_rows(Epoch(1)), view.num_rows(ctx.epoch)), (70, 70));
    let shown = view.lookup(ctx.epoch, &[Arc::new(Int64Array::from(vec![7])) as ArrayRef]).unwrap();
    assert_eq!(shown.column(1).as_string::<i32>().value(0), "y".repeat(1 << 20));
}

#[test]
fn a_view_that_keeps_arrivals_gets_each_rows_own() {
    let output = schema(&[("k", SqlType::BigInt)]);
    let fields = output.fields().iter().cloned().chain([Arc::new(Field::new(ARRIVAL, DataType::Int64, false))]);
    let stored = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let view = View::new(stored, ViewKey::Multiset, 1, None).unwrap();
    let mut materialize = Materialize::new(Some(view.clone()), 0, output.clone(), false, false).unwrap();
    let mut ctx = context();
    // Two watermarks in one step, without and with something taken back; 3 comes again under the later one.
    for rows in [vec![(vec![1], 1), (vec![3], 1)], vec![(vec![2], 1), (vec![1], -1), (vec![3], 1)]] {
        let arrival = if rows.len() == 2 { 5 } else { 7 };
        materialize.push(0, weighted(&output, &rows, arrival), &mut ctx).unwrap();
    }
    materialize.finish(Timestamp(9), &mut ctx).unwrap();
    assert!(ctx.take_output().iter().all(|b| b.changes.rows.num_columns() == 1), "readers do not see the arrival");
    let rows = |snapshot: eddyline_storage::view::Snapshot| {
        let mut rows: Vec<Vec<i64>> = snapshot.flat_map(|b| changes_of(&ChangeBatch::insertions(b.unwrap()))).map(|(row, _)| row).collect();
        rows.sort();
        rows
    };
    assert_eq!(rows(view.stored_rows(ctx.epoch).unwrap()), [vec![2, 7], vec![3, 7], vec![3, 7]]);
    assert_eq!(rows(view.snapshot(ctx.epoch, None).unwrap()), [vec![2], vec![3], vec![3]]);
    // A row is taken back whatever its arrival was.
    materialize.push(0, weighted(&output, &[(vec![3], -2)], 8), &mut ctx).unwrap();
    materialize.finish(Timestamp(9), &mut ctx).unwrap();
    assert_eq!(rows(view.stored_rows(ctx.epoch).unwrap()), [vec![2, 7]]);
}
