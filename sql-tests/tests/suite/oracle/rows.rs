//! Rows as values, batches of them, and their random splitting. Knows no tables and no queries.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, new_empty_array};
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use eddyline_common::ChangeBatch;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

pub type Row = Vec<ScalarValue>;
/// A row and its weight.
pub type Change = (Row, i64);

pub fn to_batch<'a>(schema: &SchemaRef, rows: impl Iterator<Item = &'a Row>) -> RecordBatch {
    let rows: Vec<&Row> = rows.collect();
    let column = |c: usize| -> ArrayRef {
        match rows.is_empty() {
            true => new_empty_array(schema.field(c).data_type()),
            false => ScalarValue::iter_to_array(rows.iter().map(|row| row[c].clone())).expect("values of one column have one type"),
        }
    };
    let columns = (0..schema.fields().len()).map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).expect("generated rows fit their table")
}

/// The changes in random order and random pieces. `noisy`: with rows that come and go within the step, and with equal
/// changes folded into one of a larger weight.
pub fn split(random: &mut StdRng, schema: &SchemaRef, changes: &[Change], noisy: bool) -> Vec<ChangeBatch> {
    let mut changes = changes.to_vec();
    if noisy {
        add_noise(random, &mut changes);
    }
    changes.shuffle(random);
    let whole = to_batch(schema, changes.iter().map(|(row, _)| row));
    let weights: Vec<i64> = changes.iter().map(|(_, weight)| *weight).collect();
    pieces(random, changes.len())
        .map(|(start, len)| {
            let (rows, weights) = (whole.slice(start, len), &weights[start..start + len]);
            match weights.iter().all(|w| *w == 1) && random.random_bool(0.8) {
                true => ChangeBatch::insertions(rows),
                false => ChangeBatch::with_weights(rows, Int64Array::from(weights.to_vec())),
            }
        })
        .collect()
}

fn add_noise(random: &mut StdRng, changes: &mut Vec<Change>) {
    if changes.is_empty() || random.random_bool(0.5) {
        return;
    }
    for _ in 0..random.random_range(1..=3) {
        let row = changes[random.random_range(0..changes.len())].0.clone();
        let weight = random.random_range(1..=3);
        changes.push((row.clone(), weight));
        changes.push((row, -weight));
    }
}

/// Changes of another batch in random order and random pieces.
pub fn resplit(random: &mut StdRng, changes: &ChangeBatch) -> Vec<ChangeBatch> {
    let mut order: Vec<u32> = (0..changes.num_rows() as u32).collect();
    order.shuffle(random);
    let pieces: Vec<(usize, usize)> = pieces(random, order.len()).collect();
    pieces.into_iter().map(|(start, len)| changes.take(&UInt32Array::from(order[start..start + len].to_vec())).unwrap()).collect()
}

/// Random ranges that cover `0..rows`, as (start, length).
fn pieces(random: &mut StdRng, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    let mut cuts: Vec<usize> = (0..random.random_range(0..=3)).map(|_| random.random_range(0..=rows)).collect();
    cuts.extend([0, rows]);
    cuts.sort_unstable();
    cuts.dedup();
    let starts = cuts.clone();
    starts.into_iter().zip(cuts.into_iter().skip(1)).map(|(start, end)| (start, end - start))
}
