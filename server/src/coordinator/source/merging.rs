//! Many small batches in few. It knows of no source.

use eddyline_common::ChangeBatch;

/// From so many rows on a batch is worth what it costs each reader to take it up, and is not copied.
const SMALL_ROWS: usize = 1024;
/// How many rows small ones are merged into, about.
const MERGED_ROWS: usize = 8192;

/// Copies what came in many small batches into few: once, where otherwise every reader would take each of them up.
pub(super) fn merge_small(batches: Vec<ChangeBatch>) -> Vec<ChangeBatch> {
    // What a batch says of its columns goes with its schema.
    let is_small = |batch: &ChangeBatch| batch.rows.num_rows() < SMALL_ROWS && batch.rows.schema_ref().metadata().is_empty();
    let mut merged = Vec::new();
    let mut rest = batches.into_iter().peekable();
    while let Some(first) = rest.next() {
        if !is_small(&first) || rest.peek().is_none_or(|next| !is_small(next)) {
            merged.push(first);
            continue;
        }
        let (schema, mut rows, mut run) = (first.rows.schema(), first.rows.num_rows(), vec![first]);
        while rows < MERGED_ROWS
            && let Some(next) = rest.next_if(is_small)
        {
            rows += next.rows.num_rows();
            run.push(next);
        }
        match ChangeBatch::concat(&schema, &run) {
            Ok(one) => merged.push(one),
            // They would not fit into one array.
            Err(_) => merged.append(&mut run),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use std::sync::Arc;

    #[test]
    fn small_batches_are_merged_in_order() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let sizes = [2000, 300, 500, 400, 100, 5, 1500, 7];
        let mut next = 0..;
        let batches: Vec<ChangeBatch> = sizes
            .iter()
            .map(|size| {
                let numbers = Int64Array::from_iter_values(next.by_ref().take(*size));
                ChangeBatch { rows: RecordBatch::try_new(schema.clone(), vec![Arc::new(numbers)]).unwrap(), weights: None }
            })
            .collect();
        let merged = merge_small(batches);
        assert_eq!(merged.iter().map(|b| b.rows.num_rows()).collect::<Vec<_>>(), [2000, 1305, 1500, 7]);
        let numbers = merged.iter().flat_map(|b| b.rows.column(0).as_primitive::<Int64Type>().values().to_vec());
        assert!(numbers.eq(0..sizes.iter().sum::<usize>() as i64));
    }
}
