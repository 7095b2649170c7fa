//! Rows of a partition that follow each other, as columns, with their weights before and after the step: what of the partition
//! is in memory while its results are computed. Rows are appended behind and dropped in front.
//!
//! It knows what is far enough from its ends to be computed, and what may be dropped; not what is computed.

use super::frame::Extent;
use crate::layout::RowLayout;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Int64Type};
use eddyline_common::Result;
use eddyline_planner::plan::OrderKey;
use eddyline_storage::state::{NO_SLOT, RowChunk};

/// The column that distances are of.
#[derive(Clone, Copy)]
pub(super) struct OrderValue {
    pub key: OrderKey,
}

pub(super) struct Buffer {
    order: Option<OrderValue>,
    /// All rows are taken as new.
    fresh: bool,
    pub columns: Vec<ArrayRef>,
    /// Before the step and after it.
    pub weights: [Vec<i64>; 2],
    touched: Vec<bool>,
    /// Numbers of groups of peers, growing.
    pub groups: Vec<u64>,
    /// Numbers that grow in the order's direction, and whether the value is null. Empty unless distances are asked for.
    pub values: Vec<i64>,
    pub nulls: Vec<bool>,
    last_order: Vec<u8>,
    last_group: u64,
}

impl Buffer {
    pub(super) fn new(order: Option<OrderValue>, fresh: bool) -> Self {
        Buffer {
            order,
            fresh,
            columns: Vec::new(),
            weights: [Vec::new(), Vec::new()],
            touched: Vec::new(),
            groups: Vec::new(),
            values: Vec::new(),
            nulls: Vec::new(),
            last_order: Vec::new(),
            last_group: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.touched.len()
    }

    pub(super) fn any_touched(&self) -> bool {
        self.touched.contains(&true)
    }

    pub(super) fn nulls_first(&self) -> bool {
        self.order.is_some_and(|o| o.key.nulls_first)
    }

    /// Appends the rows of a page; `key` is the length of the partition's key.
    pub(super) fn append(&mut self, page: &RowChunk, key: usize, layout: &RowLayout) -> Result<()> {
        if page.is_empty() {
            return Ok(());
        }
        let columns = layout.columns(page)?;
        if let Some(OrderValue { key }) = self.order {
            let values = cast(&columns[key.column], &DataType::Int64)?;
            let values = values.as_primitive::<Int64Type>();
            // The complement turns the order around, and does not overflow.
            self.values.extend(values.values().iter().map(|v| if key.descending { !v } else { *v }));
            self.nulls.extend((0..values.len()).map(|at| values.is_null(at)));
        }
        for at in 0..page.len() {
            let order = order_of(page, at, key);
            if self.last_group == 0 || self.last_order != order {
                self.last_group += 1;
                self.last_order.clear();
                self.last_order.extend_from_slice(order);
            }
            self.groups.push(self.last_group);
            self.touched.push(self.fresh || page.touched()[at] != NO_SLOT);
        }
        match self.fresh {
            true => self.weights[0].resize(self.len(), 0),
            false => self.weights[0].extend_from_slice(page.old_weights()),
        }
        self.weights[1].extend_from_slice(page.weights());
        if self.columns.is_empty() {
            self.columns = columns;
            return Ok(());
        }
        for (own, more) in self.columns.iter_mut().zip(columns) {
            *own = concat(&[own.as_ref(), more.as_ref()])?;
        }
        Ok(())
    }

    /// Drops the first rows.
    pub(super) fn drop_front(&mut self, rows: usize) {
        if rows == 0 {
            return;
        }
        let kept = self.len() - rows;
        self.columns.iter_mut().for_each(|column| *column = column.slice(rows, kept));
        self.weights.iter_mut().for_each(|weights| drop(weights.drain(..rows)));
        self.touched.drain(..rows);
        self.groups.drain(..rows);
        if self.order.is_some() {
            self.values.drain(..rows);
            self.nulls.drain(..rows);
        }
    }

    /// Whether a row is there both before and after the step.
    fn stays(&self, at: usize) -> bool {
        (self.fresh || self.weights[0][at] > 0) && self.weights[1][at] > 0
    }

    /// Before which row every row has all in the buffer that comes after it within `after`, if more rows follow.
    pub(super) fn complete(&self, after: Extent) -> usize {
        let Some(last) = self.len().checked_sub(1) else { return 0 };
        let mut end = self.len();
        let mut rows = 0;
        while rows < after.rows && end > 0 {
            end -= 1;
            rows += self.stays(end) as u64;
        }
        if rows < after.rows {
            return 0;
        }
        if after.peers {
            end = end.min(self.groups.partition_point(|group| *group < self.groups[last]));
        }
        if let Some(distance) = after.distance
            && !self.nulls[last]
        {
            let reaches = |at: usize| !self.nulls[at] && self.values[at].saturating_add(distance) >= self.values[last];
            while end > 0 && reaches(end - 1) {
                end -= 1;
            }
        }
        end
    }

    /// How many rows in front the rows from `at` on do not need: neither for their results, nor because they were not
    /// counted yet, which those before `counted` were.
    pub(super) fn droppable(&self, before: Extent, at: usize, counted: usize) -> usize {
        let start = self.needed(before, at).min(counted);
        match before.peers && start < self.len() {
            true => self.groups.partition_point(|group| *group < self.groups[start]),
            false => start,
        }
    }

    /// The first row that is within `before` of the row at `at` or of any after it.
    pub(super) fn needed(&self, before: Extent, at: usize) -> usize {
        let Some(last) = self.len().checked_sub(1) else { return 0 };
        let mut start = at;
        let mut rows = 0;
        while rows < before.rows && start > 0 {
            start -= 1;
            rows += self.stays(start) as u64;
        }
        let next = at.min(last);
        if let Some(distance) = before.distance
            && !self.nulls[next]
        {
            let from = self.values[next].saturating_sub(distance);
            while start > 0 && !self.nulls[start - 1] && self.values[start - 1] >= from {
                start -= 1;
            }
        }
        if before.peers {
            start = self.groups.partition_point(|group| *group < self.groups[start.min(next)]);
        }
        start
    }
}

/// The bytes that order a row within its partition.
pub(super) fn order_of(page: &RowChunk, at: usize, key: usize) -> &[u8] {
    let entry = page.key(at);
    &entry[key..entry.len() - page.row(at).len()]
}
