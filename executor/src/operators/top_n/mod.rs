//! Top-N: the rows at some places of their partition's order, with their place or without it; over input that only grows and
//! over retracting input. LIMIT, deduplication and conditions on a rank are this.
//!
//! A partition's rows are kept in order. At the end of a step one pass over the first rows of each touched partition finds
//! their places before and after it, and what differs is emitted. If rows only come, those beyond the last place are dropped.
//! A partition that is a window's is dropped when the window closes, and shown only then if that is asked for. With a time to live, a
//! partition that was not touched for it is forgotten.
//!
//! - `place`: places of rows that come in order

mod place;

use crate::layout::{EncodedRows, RowLayout};
use crate::operator::{Operator, StepContext};
use crate::operators::aggregate::window::{closes, is_closed, on_time};
use crate::operators::missing::ignore_missing;
use crate::operators::routing::Routing;
use crate::operators::state::StateSpec;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use eddyline_common::key::{ColumnOrder, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::{ChangeBatch, Result, SqlError, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{AggregateWindow, ChangelogMode, Emit, OrderKey, RankFunction};
use eddyline_storage::state::{KeyedRows, RowBatch, RowChunk, RowShape, RowTtl, Shards};
use place::{Bounds, Span, Walk};

/// Rows emitted in one batch.
const OUTPUT_ROWS: usize = 16 * 1024;
/// Rows of a partition read at once.
const PAGE_ROWS: usize = 1024;

pub struct TopNSpec {
    pub partition: Vec<usize>,
    pub order: Vec<OrderKey>,
    pub function: RankFunction,
    pub offset: u64,
    pub limit: Option<u64>,
    pub with_rank: bool,
    /// The partition's first column is the end of a window.
    pub window: Option<AggregateWindow>,
    pub input: SchemaRef,
    pub output: SchemaRef,
    pub input_mode: ChangelogMode,
    /// Input columns whose key decided that a row came to this worker.
    pub routing: Vec<usize>,
    pub state: StateSpec,
}

pub struct TopN {
    function: RankFunction,
    bounds: Bounds,
    with_rank: bool,
    window: Option<AggregateWindow>,
    window_column: usize,
    output: SchemaRef,
    append: bool,
    /// Rows may be retracted that were forgotten, here or below.
    forgetful: bool,
    input: SchemaRef,
    layout: RowLayout,
    rows: KeyedRows,
    routing: Routing,
    encoded: EncodedRows,
    shards: Vec<u8>,
    page: RowChunk,
    emitted: Emitted,
}

/// Output in the making.
#[derive(Default)]
struct Emitted {
    rows: KeyRows,
    ranks: Vec<i64>,
    weights: Vec<i64>,
}

/// Rows to be dropped, as state has them: key, and all that follows it.
#[derive(Default)]
struct Stale {
    keys: KeyRows,
    rows: KeyRows,
    weights: Vec<i64>,
    shards: Vec<u8>,
}

impl TopN {
    pub fn new(spec: TopNSpec) -> Result<Box<Self>> {
        let TopNSpec { partition, order, function, window, input, output, .. } = spec;
        let width = input.fields().len() + spec.with_rank as usize;
        if output.fields().len() != width || partition.iter().chain(&spec.routing).any(|c| *c >= input.fields().len()) {
            return Err(SqlError::internal("the columns of a Top-N do not fit its input"));
        }
        let window_column = match window {
            Some(_) => *partition.first().ok_or_else(|| SqlError::internal("a windowed Top-N has no partition"))?,
            None => 0,
        };
        let routing = Routing::new(spec.routing, &partition, &input)?;
        let order = order.iter().map(|o| (o.column, ColumnOrder { descending: o.descending, nulls_first: o.nulls_first })).collect();
        let layout = RowLayout::new(&input, partition, order)?;
        let (forgetful, ttl) = (spec.state.forgetful, spec.state.ttl[0].map(RowTtl::Keys));
        let space = spec.state.open()?;
        let rows = KeyedRows::open(&space, 0, RowShape { ordered: true, expiry: window.is_some(), ttl, ..RowShape::default() })?;
        let end = spec.limit.map_or(u64::MAX - 1, |limit| spec.offset.saturating_add(limit).min(u64::MAX - 1));
        Ok(Box::new(TopN {
            function,
            bounds: Bounds { offset: spec.offset, end },
            with_rank: spec.with_rank,
            window,
            window_column,
            output,
            append: spec.input_mode == ChangelogMode::Append,
            forgetful,
            input,
            layout,
            rows,
            routing,
            encoded: EncodedRows::default(),
            shards: Vec::new(),
            page: RowChunk::default(),
            emitted: Emitted::default(),
        }))
    }

    fn on_close(&self) -> bool {
        self.window.is_some_and(|w| w.emit == Emit::OnClose)
    }

    /// Walks over the first rows of a partition. `visit` gets a row's places before and after the step; rows that nothing will
    /// ever show go to `stale`.
    fn walk(&mut self, head: u32, mut stale: Option<&mut Stale>, visit: &mut dyn FnMut(&mut Emitted, &[u8], Span, Span)) -> Result<()> {
        let (mut old, mut new) = (Walk::new(self.function, self.bounds), Walk::new(self.function, self.bounds));
        let key = self.rows.key(head).len();
        let mut start = Vec::new();
        // Few rows are asked for most of the time.
        let mut limit = (self.bounds.end.saturating_add(8)).min(PAGE_ROWS as u64) as usize;
        loop {
            self.page.clear();
            self.rows.range(head, &start, limit, &mut self.page)?;
            let page = &self.page;
            for at in 0..page.len() {
                let entry = page.key(at);
                let order = &entry[key..entry.len() - page.row(at).len()];
                let past = new.is_past(order);
                if past && old.is_past(order) {
                    let Some(stale) = &mut stale else { return Ok(()) };
                    stale.push(&entry[..key], &entry[key..], page.weights()[at], self.rows.shard(head));
                    continue;
                }
                if let (true, Some(stale)) = (past, &mut stale) {
                    stale.push(&entry[..key], &entry[key..], page.weights()[at], self.rows.shard(head));
                }
                let (before, after) = (old.take(order, page.old_weights()[at]), new.take(order, page.weights()[at]));
                visit(&mut self.emitted, self.layout.stored(page, at), before, after);
            }
            if page.len() < limit {
                return Ok(());
            }
            start.clear();
            start.extend_from_slice(&page.key(limit - 1)[key..]);
            start.push(0);
            limit = PAGE_ROWS;
        }
    }

    /// Emits how the shown rows of a partition changed.
    fn compare(&mut self, head: u32, stale: Option<&mut Stale>) -> Result<()> {
        let with_rank = self.with_rank;
        self.walk(head, stale, &mut |emitted, row, before, after| {
            if before == after {
                return;
            }
            if !with_rank {
                return emitted.push(row, 0, after.rows() - before.rows());
            }
            for place in before.from..before.to {
                emitted.push(row, place, after.at(place) - before.at(place));
            }
            for place in (after.from..after.to).filter(|place| before.at(*place) == 0) {
                emitted.push(row, place, after.at(place));
            }
        })
    }

    fn flush(&mut self, at_least: usize, ctx: &mut StepContext) -> Result<()> {
        if self.emitted.weights.len() < at_least.max(1) {
            return Ok(());
        }
        let Emitted { rows, ranks, weights } = std::mem::take(&mut self.emitted);
        let mut columns = self.layout.decode(&rows)?;
        if self.with_rank {
            columns.push(std::sync::Arc::new(Int64Array::from(ranks)) as ArrayRef);
        }
        let batch = RecordBatch::try_new(self.output.clone(), columns)?;
        ctx.emit(if self.on_close() {
            ChangeBatch::insertions(batch)
        } else {
            ChangeBatch::with_weights(batch, Int64Array::from(weights))
        });
        Ok(())
    }

    fn settle(&mut self, ctx: &mut StepContext) -> Result<()> {
        let bounded = self.bounds.end < u64::MAX - 1;
        let mut stale = (self.append && bounded).then(Stale::default);
        if !self.on_close() || stale.is_some() {
            for touched in self.rows.touched_heads().to_vec() {
                if self.on_close() {
                    self.walk(touched.head, stale.as_mut(), &mut |_, _, _, _| {})?;
                } else {
                    self.compare(touched.head, stale.as_mut())?;
                    self.flush(OUTPUT_ROWS, ctx)?;
                }
            }
        }
        self.flush(1, ctx)?;
        if let Some(stale) = stale {
            let batch = RowBatch { keys: &stale.keys, orders: None, rows: &stale.rows, weights: Some(&stale.weights) };
            self.rows.add(batch, Shards::Of(&|at| stale.shards[at]))?;
        }
        self.rows.settle()
    }

    fn close_windows(&mut self, window: AggregateWindow, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        if !closes(window.session, watermark, ctx) {
            return Ok(());
        }
        while let Some(end) = self.rows.first_window().filter(|end| is_closed(*end, window.allowed_lateness, watermark)) {
            if self.on_close() {
                for head in self.rows.window_heads(end)? {
                    self.show_all(head)?;
                    self.flush(OUTPUT_ROWS, ctx)?;
                }
                self.flush(1, ctx)?;
            }
            self.rows.drop_windows(end)?;
        }
        Ok(())
    }

    fn show_all(&mut self, head: u32) -> Result<()> {
        let with_rank = self.with_rank;
        self.walk(head, None, &mut |emitted, row, _, shown| {
            for place in shown.from..shown.to {
                for _ in 0..shown.copies {
                    emitted.push(row, if with_rank { place } else { 0 }, 1);
                }
            }
        })
    }
}

impl Emitted {
    fn push(&mut self, row: &[u8], place: u64, weight: i64) {
        if weight != 0 {
            self.rows.push(&[row]);
            self.ranks.push(place as i64);
            self.weights.push(weight);
        }
    }
}

impl Stale {
    fn push(&mut self, key: &[u8], row: &[u8], weight: i64, shard: u8) {
        self.keys.push(&[key]);
        self.rows.push(&[row]);
        self.weights.push(-weight);
        self.shards.push(shard);
    }
}

impl Operator for TopN {
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
        if self.append && weights.is_some_and(|w| w.iter().any(|w| *w < 0)) {
            return Err(SqlError::internal("an append-only input has a retraction"));
        }
        self.layout.encode(&changes.rows, &mut self.encoded);
        self.routing.shards(&changes.rows, &self.encoded.keys, &mut self.shards);
        self.rows.add(self.layout.batch(&self.encoded, weights), Shards::Of(&|row| self.shards[row]))
    }

    fn finish(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        self.rows.forget_expired(ctx.now)?;
        if self.forgetful {
            ignore_missing(&mut self.rows, &self.layout, &self.input, ctx)?;
        }
        self.settle(ctx)?;
        match self.window {
            Some(window) => self.close_windows(window, watermark, ctx),
            None => Ok(()),
        }
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

/// Whether equal rows of these columns are stored as equal bytes and the other way round.
pub fn is_exact(columns: &SchemaRef) -> bool {
    columns.fields().iter().all(|f| !f.data_type().is_floating() && !f.data_type().is_nested() && *f.data_type() != DataType::Null)
}
