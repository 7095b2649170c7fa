//! OVER windows: appends to each row what functions give for it over the rows of its partition in an order, over input that grows
//! or changes.
//!
//! A partition's rows are kept in order. At the end of a step each touched partition is read around its changes: from the first
//! row that a row affected by a change needs, to the last row that is affected. These rows are computed as they were before
//! the step and as they are after it, in pieces, and where the results differ the old row is taken back and the new one
//! shown. As a result is a pure function of the rows it is of, nothing of the output needs to be kept.
//!
//! What is counted from a partition's first row on (ranks, frames without a start) is read from there, but only counted up to the
//! first change; and computed until both sides count the same again, or to the end. A frame to the partition's end, PERCENT_RANK,
//! CUME_DIST, NTILE, lists from the partition's start, and LAG, LEAD and values from the partition's start that pass over nulls hold a
//! partition in memory while it is computed; others a page and what their frames reach. DISTINCT holds a hash for each value of a frame.
//!
//! - `frame`: which rows a result is of, and how far it reaches
//! - `buffer`: the rows that are in memory, before and after the step; `piece`: one of both, by position
//! - `call`: the functions; `gathered`: aggregates; `list`: aggregates that are lists; `counted`: rows that are passed over
//! - `side`: what is carried from piece to piece
//! - `start`: where to begin; `output`: what changed

mod buffer;
mod call;
mod counted;
mod frame;
mod gathered;
mod list;
mod output;
mod piece;
mod side;
mod start;

use crate::layout::{EncodedRows, RowLayout};
use crate::operator::{Operator, StepContext};
use crate::operators::aggregate::window::{closes, is_closed, on_time};
use crate::operators::missing::ignore_missing;
use crate::operators::routing::Routing;
use crate::operators::state::StateSpec;
use arrow::datatypes::SchemaRef;
use buffer::{Buffer, OrderValue};
use call::Call;
use eddyline_common::key::ColumnOrder;
use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlError, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{AggregateWindow, Emit, OrderKey, OverCall};
use eddyline_storage::state::{KeyedRows, RowChunk, RowShape, RowTtl, Shards};
use frame::Reach;
use output::Changes;
use piece::Piece;
use side::Side;
use start::{Mark, Start};
use std::ops::Range;

/// Rows of a partition read at once, at least.
const PAGE_ROWS: usize = if cfg!(test) { 4 } else { 1024 };
/// Rows computed at once.
const COMPUTED_ROWS: usize = if cfg!(test) { 6 } else { 16 * 1024 };
/// Values in lists that are made at once, unless a single one is longer: each may be a text.
const LISTED_VALUES: usize = if cfg!(test) { 16 } else { 128 * 1024 };
/// Rows emitted before those downstream are worked off.
const EMITTED_ROWS_MAX: usize = 64 * 1024;

pub struct OverSpec {
    pub partition: Vec<usize>,
    pub order: Vec<OrderKey>,
    pub calls: Vec<OverCall>,
    /// The partition's first column is the end of a window.
    pub window: Option<AggregateWindow>,
    pub input: SchemaRef,
    pub output: SchemaRef,
    /// Input columns whose key decided that a row came to this worker.
    pub routing: Vec<usize>,
    pub state: StateSpec,
}

pub struct Over {
    calls: Vec<Call>,
    reach: Reach,
    order_value: Option<OrderValue>,
    window: Option<AggregateWindow>,
    window_column: usize,
    /// Rows may be retracted that were forgotten, here or below.
    forgetful: bool,
    input: SchemaRef,
    layout: RowLayout,
    rows: KeyedRows,
    routing: Routing,
    start: Start,
    changes: Changes,
    encoded: EncodedRows,
    shards: Vec<u8>,
    page: RowChunk,
    /// Partitions of the step that are still to be computed.
    pending: Option<Vec<u32>>,
}

impl Over {
    pub fn new(spec: OverSpec) -> Result<Box<Self>> {
        let OverSpec { partition, order, window, input, output, .. } = spec;
        let width = input.fields().len();
        if output.fields().len() != width + spec.calls.len() || partition.iter().chain(&spec.routing).any(|c| *c >= width) {
            return Err(SqlError::internal("the columns of an OVER window do not fit its input"));
        }
        let window_column = match window {
            Some(_) => *partition.first().ok_or_else(|| SqlError::internal("a windowed OVER has no partition"))?,
            None => 0,
        };
        let calls = spec.calls.iter().map(|call| Call::new(call, &input)).collect::<Result<Vec<_>>>()?;
        let reach = Reach::of(&spec.calls);
        let measured = reach.before.distance.is_some() || reach.after.distance.is_some();
        let order_value = match (measured, order.as_slice()) {
            (false, _) => None,
            (true, [key]) => Some(OrderValue { key: *key }),
            (true, _) => return Err(SqlError::internal("a frame of a distance has one order")),
        };
        let routing = Routing::new(spec.routing, &partition, &input)?;
        let start = Start::new(order_value, reach, &input)?;
        let order = order.iter().map(|o| (o.column, ColumnOrder { descending: o.descending, nulls_first: o.nulls_first })).collect();
        let layout = RowLayout::new(&input, partition, order)?;
        let (forgetful, ttl) = (spec.state.forgetful, spec.state.ttl[0].map(RowTtl::Keys));
        let space = spec.state.open()?;
        let rows = KeyedRows::open(&space, 0, RowShape { ordered: true, expiry: window.is_some(), ttl, ..RowShape::default() })?;
        let changes = Changes::new(output, width, window.is_some_and(|w| w.emit == Emit::OnClose))?;
        Ok(Box::new(Over {
            calls,
            reach,
            order_value,
            window,
            window_column,
            forgetful,
            input,
            layout,
            rows,
            routing,
            start,
            changes,
            encoded: EncodedRows::default(),
            shards: Vec::new(),
            page: RowChunk::default(),
            pending: None,
        }))
    }

    fn on_close(&self) -> bool {
        self.window.is_some_and(|w| w.emit == Emit::OnClose)
    }

    /// Emits what this step changed in a partition.
    fn recompute(&mut self, head: u32, ctx: &mut StepContext) -> Result<()> {
        let touched = self.start.marks(&self.rows, &self.layout, head)?;
        let mut next = 0;
        while next < touched.len() {
            let from = self.start.before(&mut self.rows, &self.layout, head, &touched[next])?;
            next = self.run(head, from, &touched, next, ctx)?;
        }
        Ok(())
    }

    /// Computes a partition from a row on; gives the first change that it did not get to. `touched`: where the changes are, in
    /// order; with none of them all rows are taken as new.
    fn run(&mut self, head: u32, mut from: Vec<u8>, touched: &[Mark], mut next: usize, ctx: &mut StepContext) -> Result<usize> {
        let key = self.rows.key(head).len();
        let mut buffer = Buffer::new(self.order_value, touched.is_empty());
        let mut sides = [Side::new(&self.calls)?, Side::new(&self.calls)?];
        // Whether the sides differ; until then only the first one is kept.
        let mut apart = false;
        let mut done = 0;
        loop {
            let limit = PAGE_ROWS.max(buffer.len());
            self.page.clear();
            self.rows.range(head, &from, limit, &mut self.page)?;
            let at_end = self.page.len() < limit;
            if let Some(last) = self.page.len().checked_sub(1) {
                from.clear();
                from.extend_from_slice(&self.page.key(last)[key..]);
                from.push(0);
            }
            while next < touched.len() && (at_end || touched[next].entry < from) {
                next += 1;
            }
            buffer.append(&self.page, key, &self.layout)?;
            if self.reach.whole && !at_end {
                continue;
            }
            let complete = if at_end { buffer.len() } else { buffer.complete(self.reach.after).max(done) };
            if !apart && buffer.any_touched() {
                let [first, second] = &mut sides;
                second.copy_from(first)?;
                apart = true;
            }
            let pieces = [Piece::new(&buffer, 0), Piece::new(&buffer, 1)];
            if apart {
                self.compute(&mut sides, &pieces, done..complete, ctx)?;
            } else {
                sides[0].advance(&self.calls, &pieces[0], done..complete)?;
            }
            if at_end {
                return Ok(touched.len());
            }
            let counted = sides.iter().zip(&pieces).take(if apart { 2 } else { 1 }).map(|(side, piece)| side.counted(&self.calls, piece));
            let dropped = buffer.droppable(self.reach.before, complete, counted.min().unwrap_or(complete));
            for (side, piece) in sides.iter_mut().zip(&pieces).take(if apart { 2 } else { 1 }) {
                side.shift(piece, dropped);
            }
            drop(pieces);
            buffer.drop_front(dropped);
            done = complete - dropped;
            if apart && !buffer.any_touched() && sides[0].is_same(&sides[1], &self.calls) {
                apart = false;
            }
            if !apart && !buffer.any_touched() {
                if next == touched.len() {
                    return Ok(next);
                }
                // What is between here and the next change is not computed if nothing is counted.
                let start = self.start.before(&mut self.rows, &self.layout, head, &touched[next])?;
                if start > from {
                    return Ok(next);
                }
            }
        }
    }

    /// Emits what differs between the sides for some rows of the buffer.
    fn compute(&mut self, sides: &mut [Side; 2], pieces: &[Piece; 2], rows: Range<usize>, ctx: &mut StepContext) -> Result<()> {
        let mut listed = vec![0; rows.len()];
        for call in &self.calls {
            pieces.iter().for_each(|piece| call.count_listed(piece, rows.clone(), &mut listed));
        }
        let mut start = rows.start;
        while start < rows.end {
            let at_once = start..start + computed_at_once(&listed[start - rows.start..]);
            let results =
                [sides[0].results(&self.calls, &pieces[0], at_once.clone())?, sides[1].results(&self.calls, &pieces[1], at_once.clone())?];
            start = at_once.end;
            self.changes.emit(pieces, results, at_once, ctx)?;
        }
        Ok(())
    }

    fn close_windows(&mut self, window: AggregateWindow, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        if !closes(window.session, watermark, ctx) {
            return Ok(());
        }
        while let Some(end) = self.rows.first_window().filter(|end| is_closed(*end, window.allowed_lateness, watermark)) {
            if self.on_close() {
                for head in self.rows.window_heads(end)? {
                    self.run(head, Vec::new(), &[], 0, ctx)?;
                }
            }
            self.rows.drop_windows(end)?;
        }
        Ok(())
    }
}

/// How many of the first rows are computed at once, given how many values each has in its lists.
fn computed_at_once(listed: &[usize]) -> usize {
    let mut values = 0;
    let fits = |of: &&usize| {
        values += **of;
        values <= LISTED_VALUES
    };
    listed.iter().take(COMPUTED_ROWS).take_while(fits).count().max(1)
}

impl Operator for Over {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        self.rows.forget_expired(ctx.now)?;
        let changes = match self.window {
            Some(window) => on_time(batch, self.window_column, window, ctx)?,
            None => batch.changes,
        };
        if changes.is_empty() {
            return Ok(());
        }
        let weights = changes.weights.as_ref().map(|w| w.values().as_ref());
        self.layout.encode(&changes.rows, &mut self.encoded);
        self.routing.shards(&changes.rows, &self.encoded.keys, &mut self.shards);
        self.rows.add(self.layout.batch(&self.encoded, weights), Shards::Of(&|row| self.shards[row]))
    }

    fn finish(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        if self.pending.is_none() {
            self.rows.forget_expired(ctx.now)?;
            if self.forgetful {
                ignore_missing(&mut self.rows, &self.layout, &self.input, ctx)?;
            }
        }
        let mut pending = match self.pending.take() {
            Some(pending) => pending,
            None if self.on_close() => Vec::new(),
            None => {
                self.rows.forget_unchanged();
                self.rows.touched_heads().iter().map(|touched| touched.head).collect()
            }
        };
        self.changes.emitted = 0;
        while let Some(head) = pending.pop() {
            self.recompute(head, ctx)?;
            if self.changes.emitted >= EMITTED_ROWS_MAX && !pending.is_empty() {
                self.pending = Some(pending);
                return Ok(());
            }
        }
        self.rows.settle()?;
        match self.window {
            Some(window) => self.close_windows(window, watermark, ctx),
            None => Ok(()),
        }
    }

    fn unfinished(&self) -> bool {
        self.pending.is_some()
    }

    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        self.rows.freeze()
    }

    fn shrink(&mut self) -> Result<()> {
        self.rows.maintain()
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.rows.next_expiry()
    }

    fn next_close(&self) -> Option<Timestamp> {
        let window = self.window?;
        self.rows.first_window().map(|end| Timestamp(end.saturating_add(window.allowed_lateness)))
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes()
    }
}

#[cfg(test)]
mod tests;
