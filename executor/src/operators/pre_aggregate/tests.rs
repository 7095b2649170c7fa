//! Pre-aggregated rows against the rows they stand for: what an aggregate can see of a group is the same, over random rows with nulls and
//! retractions.

use super::*;
use crate::testing::{batch, columns, context, rows_of, schema};
use arrow::array::StringArray;
use eddyline_common::SqlType;
use eddyline_common::types::arrow_schema;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

const MERGED: [(usize, Merge); 5] = [(1, Merge::Sum), (2, Merge::Sum), (3, Merge::Count), (4, Merge::Min), (5, Merge::Max)];

fn input() -> SchemaRef {
    let decimal = SqlType::Decimal { precision: 12, scale: 2 };
    let types = [SqlType::BigInt, SqlType::BigInt, decimal, SqlType::Text, SqlType::BigInt, SqlType::Text];
    let mut columns = columns(&["k", "v", "d", "t", "lo", "hi"].map(|name| (name, SqlType::BigInt)));
    columns.iter_mut().zip(types).for_each(|(column, ty)| column.ty = ty);
    // Of this one every row has a value.
    columns[2].nullable = false;
    arrow_schema(&columns)
}

/// Rows of few groups. `retract`: with weights of either sign; else all +1, or larger.
fn random(random: &mut StdRng, rows: usize, retract: bool) -> ChangeBatch {
    let numbers = |random: &mut StdRng, nulls: f64| -> Vec<Option<i64>> {
        (0..rows).map(|_| (!random.random_bool(nulls)).then(|| random.random_range(-3..4))).collect()
    };
    let texts =
        |numbers: Vec<Option<i64>>| -> ArrayRef { Arc::new(StringArray::from_iter(numbers.iter().map(|n| n.map(|n| n.to_string())))) };
    let keys = numbers(random, 0.1);
    let decimals = numbers(random, 0.0).into_iter().map(|n| n.map(i128::from));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(keys)),
        Arc::new(Int64Array::from_iter(numbers(random, 0.3))),
        Arc::new(Decimal128Array::from_iter(decimals).with_precision_and_scale(12, 2).unwrap()),
        texts(numbers(random, 0.6)),
        Arc::new(Int64Array::from_iter(numbers(random, 0.5))),
        texts(numbers(random, 0.5)),
    ];
    let rows_of = RecordBatch::try_new(input(), arrays).unwrap();
    let weight = |random: &mut StdRng| -> i64 { if retract { random.random_range(-2..=2) } else { random.random_range(1..3) } };
    match random.random_bool(0.3) && !retract {
        true => ChangeBatch::insertions(rows_of),
        false => ChangeBatch::with_weights(rows_of, (0..rows).map(|_| weight(random)).collect::<Vec<_>>().into()),
    }
}

/// All that an aggregate sees of a group: weights, sums and counts, and extremes if rows only come.
type Seen = BTreeMap<Option<i64>, (i64, i64, i64, i128, i64, Option<i64>, Option<String>)>;

fn seen(batches: &[ChangeBatch], retract: bool) -> Seen {
    let mut seen = Seen::new();
    for changes in batches {
        let numbers = |column: usize| changes.rows.column(column).as_primitive::<Int64Type>();
        let number = |column: usize, row: usize| numbers(column).is_valid(row).then(|| numbers(column).value(row));
        let text = |column: usize, row: usize| {
            let texts = changes.rows.column(column).as_string::<i32>();
            texts.is_valid(row).then(|| texts.value(row).to_string())
        };
        for row in 0..changes.num_rows() {
            let weight = changes.weight(row);
            assert!(retract || weight > 0, "rows only come");
            let (total, count, sum, decimals, texts, least, greatest) = seen.entry(number(0, row)).or_default();
            *total += weight;
            *count += number(1, row).map_or(0, |_| weight);
            *sum += number(1, row).unwrap_or(0) * weight;
            *decimals += changes.rows.column(2).as_primitive::<Decimal128Type>().value(row) * weight as i128;
            *texts += text(3, row).map_or(0, |_| weight);
            if !retract {
                *least = least.iter().copied().chain(number(4, row)).min();
                *greatest = greatest.take().into_iter().chain(text(5, row)).max();
            }
        }
    }
    // What is not there and what adds up to nothing is one.
    seen.retain(|_, of| *of != Default::default());
    seen
}

#[test]
fn few_rows_say_what_many_did() {
    let mut merged = 0;
    for seed in 0..400 {
        let random_of = &mut StdRng::seed_from_u64(seed);
        let retract = seed % 2 == 0;
        let mut pre = PreAggregate::new(vec![0], MERGED.to_vec(), None, &input(), false).unwrap();
        let (mut given, mut got) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let rows = random_of.random_range(1..200);
            let changes = random(random_of, rows, retract);
            let mut ctx = context();
            let tag = TaggedBatch { changes: changes.clone(), arrival_watermark: Timestamp(7), now: Timestamp(8) };
            pre.push(0, tag, &mut ctx).unwrap();
            let out = ctx.take_output();
            assert!(out.iter().all(|b| (b.arrival_watermark, b.now) == (Timestamp(7), Timestamp(8))));
            merged += usize::from(out.iter().map(|b| b.changes.num_rows()).sum::<usize>() < changes.num_rows());
            given.push(changes);
            got.extend(out.into_iter().map(|b| b.changes));
        }
        assert_eq!(seen(&got, retract), seen(&given, retract), "seed {seed}");
    }
    assert!(merged > 400, "nothing was merged: {merged}");
}

#[test]
fn rows_without_arguments_are_counted() {
    let schema = schema(&[("k", SqlType::BigInt)]);
    let rows: Vec<[i64; 1]> = (0..90).map(|i| [i % 3]).collect();
    let rows: Vec<&[i64]> = rows.iter().map(|row| row.as_slice()).collect();
    let mut ctx = context();
    PreAggregate::new(vec![0], vec![], None, &schema, false).unwrap().push(0, batch(&schema, &rows, 0), &mut ctx).unwrap();
    assert_eq!(rows_of(&ctx.take_output()), [(vec![0], 30), (vec![1], 30), (vec![2], 30)]);
}

#[test]
fn sums_that_do_not_fit_are_left_to_the_aggregate() {
    let schema = schema(&[("v", SqlType::BigInt)]);
    let rows: [&[i64]; 4] = [&[i64::MAX], &[1], &[2], &[3]];
    let mut ctx = context();
    PreAggregate::new(vec![], vec![(0, Merge::Sum)], None, &schema, false).unwrap().push(0, batch(&schema, &rows, 0), &mut ctx).unwrap();
    assert_eq!(rows_of(&ctx.take_output()).len(), 4);
}

#[test]
fn late_rows_stay_as_they_are() {
    let schema = schema(&[("end", SqlType::Timestamp), ("v", SqlType::BigInt)]);
    let rows: Vec<[i64; 2]> = (0..20).map(|i| [10 * (i % 2 + 1), i]).collect();
    let rows: Vec<&[i64]> = rows.iter().map(|row| row.as_slice()).collect();
    let window = Some(LateRows { end: 0, allowed_lateness: 5 });
    let mut ctx = context();
    PreAggregate::new(vec![0], vec![(1, Merge::Sum)], window, &schema, false)
        .unwrap()
        .push(0, batch(&schema, &rows, 15), &mut ctx)
        .unwrap();
    let out = rows_of(&ctx.take_output());
    assert_eq!(out.iter().filter(|(row, weight)| row[0] == 10 && *weight == 1).count(), 10);
    assert_eq!(out[10..], [(vec![20, 100], 1), (vec![20, 0], 9)]);
}

#[test]
fn many_groups_pass_and_are_tried_more_and_more_seldom() {
    let schema = schema(&[("k", SqlType::BigInt)]);
    let many: Vec<[i64; 1]> = (0..100).map(|i| [i]).collect();
    let many: Vec<&[i64]> = many.iter().map(|row| row.as_slice()).collect();
    let mut pre = PreAggregate::new(vec![0], vec![], None, &schema, false).unwrap();
    let mut tried = 0;
    for _ in 0..1_000 {
        tried += u32::from(pre.passing == 0);
        let mut ctx = context();
        pre.push(0, batch(&schema, &many, 0), &mut ctx).unwrap();
        assert_eq!(rows_of(&ctx.take_output()).len(), 100);
    }
    assert!((7..25).contains(&tried), "{tried}");
    let mut ctx = context();
    PreAggregate::new(vec![0], vec![], None, &schema, true).unwrap().push(0, batch(&schema, &[&[1][..]; 50], 0), &mut ctx).unwrap();
    assert_eq!(rows_of(&ctx.take_output()).len(), 50, "one worker exchanges nothing");
}
