//! Where to begin to read a partition, so that every row that a change affects has all the rows in front of it that its
//! results are of.

use super::buffer::{OrderValue, order_of};
use super::frame::{Extent, Reach};
use crate::layout::RowLayout;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use eddyline_common::Result;
use eddyline_common::key::{ColumnOrder, KeyRows, OrderCodec};
use eddyline_storage::state::{KeyedRows, RowChunk};

/// Rows read back at once.
const PAGE_ROWS: usize = if cfg!(test) { 3 } else { 256 };

/// A place in a partition: order and row as they are kept, or an order alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub entry: Vec<u8>,
    order: usize,
    /// The order's value, growing in its direction.
    value: Option<i64>,
}

pub(super) struct Start {
    reach: Reach,
    value: Option<(OrderValue, DataType, OrderCodec)>,
    page: RowChunk,
}

impl Start {
    pub(super) fn new(order: Option<OrderValue>, reach: Reach, input: &SchemaRef) -> Result<Self> {
        let value = match order {
            None => None,
            Some(order) => {
                let ty = input.field(order.key.column).data_type().clone();
                let direction = ColumnOrder { descending: order.key.descending, nulls_first: order.key.nulls_first };
                let codec = OrderCodec::new(vec![(ty.clone(), direction)])?;
                Some((order, ty, codec))
            }
        };
        Ok(Start { reach, value, page: RowChunk::default() })
    }

    /// The changes of a partition, in order.
    pub(super) fn marks(&mut self, rows: &KeyedRows, layout: &RowLayout, head: u32) -> Result<Vec<Mark>> {
        self.page.clear();
        let Some(touched) = rows.touched_head(head) else { return Ok(Vec::new()) };
        let mut at = touched.first;
        while let Some(row) = rows.touched_rows().get(at as usize) {
            rows.push_touched(at, &mut self.page);
            at = row.next;
        }
        let mut marks = self.page_marks(rows.key(head).len(), layout)?;
        marks.sort_unstable_by(|a, b| a.entry.cmp(&b.entry));
        Ok(marks)
    }

    fn page_marks(&self, key: usize, layout: &RowLayout) -> Result<Vec<Mark>> {
        let values: Vec<Option<i64>> = match &self.value {
            None => vec![None; self.page.len()],
            Some((order, _, _)) => {
                let values = cast(&layout.columns(&self.page)?[order.key.column], &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>();
                let value = |at: usize| if order.key.descending { !values.value(at) } else { values.value(at) };
                (0..values.len()).map(|at| values.is_valid(at).then(|| value(at))).collect()
            }
        };
        let mark = |(at, value): (usize, Option<i64>)| Mark {
            entry: self.page.key(at)[key..].to_vec(),
            order: order_of(&self.page, at, key).len(),
            value,
        };
        Ok(values.into_iter().enumerate().map(mark).collect())
    }

    /// Where to read from for a change: order and row, or less.
    pub(super) fn before(&mut self, rows: &mut KeyedRows, layout: &RowLayout, head: u32, change: &Mark) -> Result<Vec<u8>> {
        if self.reach.running || self.reach.whole {
            return Ok(Vec::new());
        }
        let affected = self.back(rows, layout, head, change.clone(), self.reach.after)?;
        Ok(self.back(rows, layout, head, affected, self.reach.before)?.entry)
    }

    /// The first place within an extent before another.
    fn back(&mut self, rows: &mut KeyedRows, layout: &RowLayout, head: u32, from: Mark, extent: Extent) -> Result<Mark> {
        let mut first = from.clone();
        if extent.peers {
            first.entry.truncate(first.order);
        }
        if let (Some(distance), Some(value)) = (extent.distance, from.value) {
            let mark = self.at(value.saturating_sub(distance));
            if mark.entry < first.entry {
                first = mark;
            }
        }
        if extent.rows > 0 {
            let mark = self.rows_back(rows, layout, head, &from, extent.rows)?;
            if mark.entry < first.entry {
                first = mark;
            }
        }
        Ok(first)
    }

    /// The place of a value.
    fn at(&self, value: i64) -> Mark {
        let Some((order, ty, codec)) = &self.value else { return Mark { entry: Vec::new(), order: 0, value: None } };
        let own = if order.key.descending { !value } else { value };
        let own = match ty {
            DataType::Int16 => own.clamp(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 | DataType::Date32 => own.clamp(i32::MIN.into(), i32::MAX.into()),
            _ => own,
        };
        let wide: ArrayRef = std::sync::Arc::new(Int64Array::from(vec![own]));
        let mut encoded = KeyRows::default();
        let narrow = match ty {
            DataType::Date32 => cast(&wide, &DataType::Int32).and_then(|days| cast(&days, ty)),
            ty => cast(&wide, ty),
        };
        // A place too far in front only costs reading.
        let Ok(column) = narrow else { return Mark { entry: Vec::new(), order: 0, value: None } };
        codec.encode(&[column], 1, &mut encoded);
        Mark { entry: encoded.row(0).to_vec(), order: encoded.row(0).len(), value: Some(value) }
    }

    /// The row that is so many rows before a place that were there all the time; the partition's start if there are fewer.
    fn rows_back(&mut self, rows: &mut KeyedRows, layout: &RowLayout, head: u32, from: &Mark, count: u64) -> Result<Mark> {
        let key = rows.key(head).len();
        let mut end = from.entry.clone();
        let mut found = 0;
        loop {
            self.page.clear();
            rows.range_back(head, &end, PAGE_ROWS, &mut self.page)?;
            for at in 0..self.page.len() {
                found += (self.page.weights()[at] > 0 && self.page.old_weights()[at] > 0) as u64;
                if found == count {
                    return Ok(self.page_marks(key, layout)?.swap_remove(at));
                }
            }
            if self.page.len() < PAGE_ROWS {
                return Ok(Mark { entry: Vec::new(), order: 0, value: None });
            }
            end.clear();
            end.extend_from_slice(&self.page.key(self.page.len() - 1)[key..]);
        }
    }
}
