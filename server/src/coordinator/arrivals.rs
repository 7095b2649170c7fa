//! Stored rows and the watermarks under which they arrived, as batches of one watermark each: so a view that reads a
//! snapshot decides what is late as one that read the rows when they came.

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use eddyline_common::{ChangeBatch, Epoch, Result, SqlError, TaggedBatch, Timestamp};
use eddyline_storage::view::{Changes, Snapshot, View};
use std::collections::BTreeMap;

/// A view's rows at one epoch, or its changes between two, read as they are wanted.
pub struct StoredRows {
    rows: Rows,
    /// The columns of event time, if rows have their arrival watermarks.
    times: Option<Vec<usize>>,
    /// Of the epoch that is read up to.
    now: Timestamp,
}

enum Rows {
    Snapshot(Snapshot),
    /// Retractions arrive under this watermark: when a row went is not kept.
    Changes(Changes, Timestamp),
}

impl StoredRows {
    pub fn new(view: &View, epoch: Epoch, now: Timestamp, times: &[usize]) -> Result<Self> {
        Ok(StoredRows { rows: Rows::Snapshot(view.stored_rows(epoch)?), times: view.keeps_arrivals().then(|| times.to_vec()), now })
    }

    /// What changed in `(after, to]`; `watermark` is the reader's for this input so far.
    pub fn changes(view: &View, (after, to): (Epoch, Epoch), now: Timestamp, times: &[usize], watermark: Timestamp) -> Result<Self> {
        let rows = Rows::Changes(view.stored_changes(after, to)?, watermark);
        Ok(StoredRows { rows, times: view.keeps_arrivals().then(|| times.to_vec()), now })
    }

    /// How many rows it gives; of a snapshot the view knows.
    pub fn num_changes(&self) -> u64 {
        match &self.rows {
            Rows::Snapshot(_) => 0,
            Rows::Changes(changes, _) => changes.num_rows(),
        }
    }

    /// The next rows; `None` after the last.
    pub fn more(&mut self) -> Result<Option<Vec<TaggedBatch>>> {
        let rows = match &mut self.rows {
            Rows::Snapshot(rows) => rows.next().transpose()?,
            Rows::Changes(changes, watermark) => match changes.next().transpose()? {
                Some((weight, rows)) if weight < 0 => {
                    let rows = if self.times.is_some() { rows.project(&(0..rows.num_columns() - 1).collect::<Vec<_>>())? } else { rows };
                    let weights = Int64Array::from_value(weight, rows.num_rows());
                    let changes = ChangeBatch::with_weights(rows, weights);
                    return Ok(Some(vec![TaggedBatch { changes, arrival_watermark: *watermark, now: self.now }]));
                }
                rows => rows.map(|(_, rows)| rows),
            },
        };
        let Some(rows) = rows else { return Ok(None) };
        Ok(Some(match &self.times {
            Some(times) => tagged(&rows, times, self.now)?,
            // Without a time no row is late for anything.
            None => vec![TaggedBatch { changes: ChangeBatch::insertions(rows), arrival_watermark: Timestamp::MIN, now: self.now }],
        }))
    }
}

/// Splits rows whose last column is their arrival watermark; `times` are their columns of event time.
///
/// Rows that are not behind their arrival watermark are on time under any earlier one too: they stay together, under the
/// earliest among them. So only rows that came behind the watermark are apart.
fn tagged(stored: &RecordBatch, times: &[usize], now: Timestamp) -> Result<Vec<TaggedBatch>> {
    let width = stored.num_columns() - 1;
    let arrivals =
        stored.column(width).as_primitive_opt::<Int64Type>().ok_or_else(|| SqlError::internal("arrival watermarks are bigints"))?;
    let rows = ChangeBatch::insertions(stored.project(&(0..width).collect::<Vec<_>>())?);
    let Some(earliest) = arrow::compute::min(arrivals) else { return Ok(Vec::new()) };
    let times: Vec<_> = times.iter().filter_map(|t| stored.column(*t).as_primitive_opt::<TimestampMicrosecondType>()).collect();
    let is_on_time = |row: usize| times.iter().all(|t| t.is_valid(row) && t.value(row) >= arrivals.value(row));
    let on_time = BooleanArray::from_iter((0..stored.num_rows()).map(|row| Some(arrivals.value(row) == earliest || is_on_time(row))));
    if on_time.true_count() == stored.num_rows() {
        return Ok(vec![TaggedBatch { changes: rows, arrival_watermark: Timestamp(earliest), now }]);
    }
    let mut behind: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for row in (!on_time.values()).set_indices() {
        behind.entry(arrivals.value(row)).or_default().push(row as u32);
    }
    let mut batches = vec![TaggedBatch { changes: rows.filter(&on_time)?, arrival_watermark: Timestamp(earliest), now }];
    for (arrival, indices) in behind {
        batches.push(TaggedBatch { changes: rows.take(&UInt32Array::from(indices))?, arrival_watermark: Timestamp(arrival), now });
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, TimestampMicrosecondArray};
    use std::sync::Arc;

    /// (arrival watermark, times) of each batch.
    fn split(rows: &[(i64, i64)]) -> Vec<(i64, Vec<i64>)> {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(time, _)| *time)));
        let arrivals: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, arrival)| *arrival)));
        let stored = RecordBatch::try_from_iter([("at", times), ("arrival", arrivals)]).unwrap();
        let times = |b: &TaggedBatch| b.changes.rows.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec();
        tagged(&stored, &[0], Timestamp(0)).unwrap().iter().map(|b| (b.arrival_watermark.0, times(b))).collect()
    }

    #[test]
    fn only_rows_behind_their_watermark_are_apart() {
        assert_eq!(split(&[(10, 5), (20, 15), (30, 30)]), [(5, vec![10, 20, 30])]);
        assert_eq!(split(&[(10, 5), (3, 15), (30, 25), (4, 15), (9, 25)]), [(5, vec![10, 30]), (15, vec![3, 4]), (25, vec![9])]);
        // All under one watermark need no splitting, behind it or not.
        assert_eq!(split(&[(1, 5), (9, 5)]), [(5, vec![1, 9])]);
        assert!(split(&[]).is_empty());
    }
}
