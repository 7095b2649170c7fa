//! Change batches: the unit of data between operators. A Z-set slice, columnar, with optional weights.

use crate::time::Timestamp;
use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

/// Rows with weights. `weights == None` means every row counts +1, so that append-only streams pay
/// nothing for retraction. An update is the old row at -1 and the new one at +1. Weights are never
/// null and have as many entries as `rows` has rows. The order of rows carries no meaning.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    pub rows: RecordBatch,
    pub weights: Option<Int64Array>,
}

/// A change batch together with what held when its rows arrived. What depends on time is decided by
/// these, never by the present watermark or `now`, so that a coalesced step, a backfill and a replay agree.
#[derive(Clone, Debug)]
pub struct TaggedBatch {
    pub changes: ChangeBatch,
    /// The watermark of its input *before* the cut that took the rows.
    pub arrival_watermark: Timestamp,
    /// The `now` of that cut: what `now()` and `PROCTIME()` are for the rows. No two cuts have the same.
    pub now: Timestamp,
}

/// Memory of what these rows describe, in bytes, whatever buffers they share with others.
pub fn bytes_of(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(bytes_of_column).sum()
}

/// The same of one column.
pub fn bytes_of_column(column: &ArrayRef) -> usize {
    bytes_of_data(&column.to_data())
}

/// Of a slice of lists arrow would count the items of all lists that there are.
fn bytes_of_data(data: &ArrayData) -> usize {
    let nulls = data.nulls().map_or(0, |_| data.len().div_ceil(8));
    match data.data_type() {
        DataType::List(_) | DataType::Map(_, _) => {
            let ends = data.buffer::<i32>(0).get(..=data.len()).unwrap_or_default();
            let (first, last) = (ends.first().copied().unwrap_or(0) as usize, ends.last().copied().unwrap_or(0) as usize);
            size_of_val(ends) + nulls + bytes_of_data(&data.child_data()[0].slice(first, last - first))
        }
        DataType::Struct(_) => nulls + data.child_data().iter().map(bytes_of_data).sum::<usize>(),
        _ => data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size()),
    }
}

impl ChangeBatch {
    /// All rows at +1.
    pub fn insertions(rows: RecordBatch) -> Self {
        ChangeBatch { rows, weights: None }
    }

    pub fn with_weights(rows: RecordBatch, weights: Int64Array) -> Self {
        assert_eq!(rows.num_rows(), weights.len(), "a weight for every row");
        assert_eq!(weights.null_count(), 0, "weights are never null");
        ChangeBatch { rows, weights: Some(weights) }
    }

    pub fn empty(schema: SchemaRef) -> Self {
        ChangeBatch::insertions(RecordBatch::new_empty(schema))
    }

    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.num_rows() == 0
    }

    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    /// The weight of one row. For loops, prefer matching on `weights` once outside the loop.
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |w| w.value(row))
    }

    /// Memory of the row data that this batch alone describes, in bytes.
    pub fn bytes(&self) -> usize {
        bytes_of(&self.rows) + self.weights.as_ref().map_or(0, |w| w.len() * 8)
    }

    /// The rows for which `mask` is true (null counts as false).
    pub fn filter(&self, mask: &BooleanArray) -> Result<ChangeBatch, ArrowError> {
        let rows = compute::filter_record_batch(&self.rows, mask)?;
        let weights = match &self.weights {
            None => None,
            Some(w) => Some(as_weights(&compute::filter(w, mask)?)),
        };
        Ok(ChangeBatch { rows, weights })
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<ChangeBatch, ArrowError> {
        let rows = take_rows(&self.rows, indices)?;
        let weights = match &self.weights {
            None => None,
            Some(w) => Some(as_weights(&compute::take(w, indices, None)?)),
        };
        Ok(ChangeBatch { rows, weights })
    }

    pub fn slice(&self, offset: usize, length: usize) -> ChangeBatch {
        ChangeBatch { rows: self.rows.slice(offset, length), weights: self.weights.as_ref().map(|w| w.slice(offset, length)) }
    }

    /// Same weights over other columns (a projection). `rows` has as many rows as before.
    pub fn with_rows(&self, rows: RecordBatch) -> ChangeBatch {
        assert_eq!(rows.num_rows(), self.num_rows(), "a projection keeps the number of rows");
        ChangeBatch { rows, weights: self.weights.clone() }
    }

    /// One batch out of many of the same schema.
    pub fn concat(schema: &SchemaRef, batches: &[ChangeBatch]) -> Result<ChangeBatch, ArrowError> {
        let rows = compute::concat_batches(schema, batches.iter().map(|b| &b.rows))?;
        let weights = if batches.iter().all(|b| b.weights.is_none()) {
            None
        } else {
            let mut all = Vec::with_capacity(rows.num_rows());
            for batch in batches {
                match &batch.weights {
                    None => all.extend(std::iter::repeat_n(1, batch.num_rows())),
                    Some(w) => all.extend_from_slice(w.values()),
                }
            }
            Some(Int64Array::from(all))
        };
        Ok(ChangeBatch { rows, weights })
    }

    /// The same rows with opposite weights.
    pub fn negate(&self) -> ChangeBatch {
        let weights = match &self.weights {
            None => Int64Array::from(vec![-1; self.num_rows()]),
            Some(w) => Int64Array::from_iter_values(w.values().iter().map(|w| -w)),
        };
        ChangeBatch { rows: self.rows.clone(), weights: Some(weights) }
    }
}

/// The rows at `indices`, in that order: copies, with nothing of other rows in their buffers.
pub fn take_rows(rows: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch, ArrowError> {
    // The kernel refuses batches without columns, which still have a number of rows.
    if rows.num_columns() == 0 {
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        return RecordBatch::try_new_with_options(rows.schema(), Vec::new(), &options);
    }
    compute::take_record_batch(rows, indices)
}

fn as_weights(array: &dyn Array) -> Int64Array {
    Int64Array::from(array.to_data())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ListArray, StringArray};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    #[test]
    fn a_slice_has_its_own_bytes_only() {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(|_| "x".repeat(100))));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..1_000).map(|_| Some((0..100).map(Some))));
        let lists: ArrayRef = Arc::new(lists);
        for (column, value_bytes) in [(texts, 100), (lists, 800)] {
            let (all, one) = (bytes_of_column(&column), bytes_of_column(&column.slice(999, 1)));
            assert!((1_000 * value_bytes..1_100 * value_bytes).contains(&all), "{all}");
            assert!((value_bytes..value_bytes + 100).contains(&one), "{one}");
            assert!(bytes_of_column(&column.slice(500, 0)) < 100);
        }
    }
}
