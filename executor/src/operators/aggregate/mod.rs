//! Group aggregate and window aggregate: any number of calls per group, with DISTINCT and FILTER, over append-only and
//! retracting input.
//!
//! A row's group key is interned to a slot, the slot's old result is noted the first time a step touches it, and the
//! row is added to columnar accumulators; at the end of the step each touched slot emits `-old +new` if they differ. A
//! group exists while its rows' weights sum to more than zero; the group of an empty key always exists.
//!
//! # Parts
//! - `routing`: by which columns the rows came here, for the virtual shard of a group
//! - `calls`: which accumulators a list of calls needs and what feeds them
//! - `groups`: the values of the group table
//! - `multiset`: (group, value) -> count, for DISTINCT and for MIN and MAX under retraction
//! - `ordered`: (group, order, value) -> count, for ARRAY_AGG, STRING_AGG, FIRST_VALUE
//! - `memo`: what a step touched, and the net changes at its end
//! - `window`: lateness and closing
//! - `forget`: groups that were not touched for their time to live, and what is retracted from them later
//!
//! # Invariants
//! - State of a window is dropped when the watermark reaches its end plus the allowed lateness; a row or retraction that
//!   had arrived after that is late and changes nothing.
//! - Sums below zero rows within a step are fine; at its end they mean that something was retracted that was never there,
//!   which is an internal error, unless rows may have been forgotten: then the group or the value counts as not there.
//!
//! It knows nothing of workers, exchanges or of where its output goes.

mod calls;
mod forget;
mod groups;
mod memo;
mod multiset;
mod ordered;
mod routing;
pub(crate) mod window;

pub(crate) use memo::{nullable, out_of_range};
pub use routing::routing;
pub(crate) use window::{split_late, without_late};

use crate::accumulators::Output;
use crate::operator::{Operator, StepContext};
use crate::operators::routing::Routing;
use crate::operators::state::StateSpec;
use arrow::array::{ArrayRef, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, SchemaRef};
use calls::{Feed, Target};
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::{ChangeBatch, Result, SqlError, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{AggregateCall, AggregateWindow, ChangelogMode, Emit};
use eddyline_storage::state::{ROW_KINDS, Shards, StateCounters, StateSpace, StateTable, TableShape, Ttl};
use groups::GroupValues;
use memo::{Chunk, Memo};
use multiset::Multiset;
use ordered::Ordered;

pub struct AggregateSpec {
    /// Input columns.
    pub group: Vec<usize>,
    pub calls: Vec<AggregateCall>,
    pub window: Option<AggregateWindow>,
    pub input: SchemaRef,
    pub output: SchemaRef,
    pub input_mode: ChangelogMode,
    /// Input columns whose key decided that a row came to this worker; see `routing`.
    pub routing: Vec<usize>,
    pub state: StateSpec,
}

/// Kind of the group table within the operator's state; multisets and ordered values follow.
const GROUPS: u8 = 0;

/// Groups that are told of, or closed, in one go: other jobs have their turn in between.
const SLICE_ROWS: usize = if cfg!(test) { 7 } else { 64 * 1024 };

/// Where the end of a step is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Rest,
    /// The net changes of touched groups are emitted. `existed`: the group of an empty key was there before.
    Settling {
        existed: bool,
    },
    /// Windows are closed.
    Closing,
}

pub struct Aggregate {
    stage: Stage,
    group: Vec<usize>,
    window: Option<AggregateWindow>,
    output: SchemaRef,
    retract: bool,
    /// Positions within `group` in the order of the state key: a window's end first.
    key_order: Vec<usize>,
    codec: KeyCodec,
    routing: Routing,
    /// Group columns can be taken from the input; otherwise equal keys may look different (-0.0 and 0.0), and the key
    /// decides.
    group_from_input: bool,
    space: StateSpace,
    table: StateTable,
    values: GroupValues,
    feeds: Vec<Feed>,
    multisets: Vec<Multiset>,
    ordered: Vec<Ordered>,
    memo: Memo,
    /// Of groups.
    ttl: Option<Ttl>,
    /// Rows may be retracted that were forgotten, here or below.
    forgetful: bool,
    /// Groups that the step removed, whose values may still be there.
    gone: forget::Groups,
    /// The group of an empty key is there (or not on this worker).
    started: bool,
    keys: KeyRows,
    slots: Vec<u32>,
}

impl Aggregate {
    /// Fails with 0A000 if a call cannot be computed over its argument.
    pub fn new(spec: AggregateSpec) -> Result<Box<Self>> {
        let AggregateSpec { group, calls, window, input, output, input_mode, routing, .. } = spec;
        if group.iter().chain(&routing).any(|c| *c >= input.fields().len()) || output.fields().len() != group.len() + calls.len() {
            return Err(SqlError::internal("an aggregate's columns do not fit its input"));
        }
        let retract = input_mode == ChangelogMode::Retract;
        let key_order = key_order(&group, window);
        let key: Vec<usize> = key_order.iter().map(|i| group[*i]).collect();
        let codec = KeyCodec::new(key.iter().map(|c| input.field(*c).data_type().clone()).collect())?;
        let routing = Routing::new(routing, &key, &input)?;
        let plan = calls::arrange(&calls, &input, retract)?;
        let (forgetful, ttl) = (spec.state.forgetful, spec.state.ttl[0]);
        let space = spec.state.open()?;
        let ttl = ttl.map(|micros| Ttl::open(&space, GROUPS, micros)).transpose()?;
        let mut values = plan.values;
        let shape = TableShape { expiry: window.is_some(), ordered: false };
        let table = space.table(GROUPS, shape, &mut values)?;
        let open = |(i, shape): (usize, multiset::Shape)| {
            let shape = multiset::Shape { ordered: shape.ordered || forgetful, ..shape };
            Multiset::open(&space, GROUPS + 1 + i as u8, shape, window.is_some(), retract)
        };
        let multisets = plan.multisets.into_iter().enumerate().map(open).collect::<Result<Vec<_>>>()?;
        let first_kind = GROUPS + 1 + multisets.len() as u8;
        let open =
            |(i, call): (usize, ordered::OrderedCall)| call.open(&space, first_kind + ROW_KINDS * i as u8, window.is_some(), retract);
        let ordered = plan.ordered.into_iter().enumerate().map(open).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(Aggregate {
            stage: Stage::Rest,
            group_from_input: codec.types().iter().all(|ty| !ty.is_floating() && !ty.is_nested()),
            started: !group.is_empty() || !space.owns_empty_key(),
            group,
            window,
            output,
            retract,
            key_order,
            codec,
            routing,
            space,
            table,
            values,
            feeds: plan.feeds,
            multisets,
            ordered,
            memo: Memo::default(),
            ttl,
            forgetful,
            gone: forget::Groups::default(),
            keys: KeyRows::default(),
            slots: Vec::new(),
        }))
    }

    /// What happened to the state since the operator was built.
    pub fn counters(&self) -> StateCounters {
        let mut counters = self.table.counters();
        self.multisets.iter().for_each(|m| counters += m.table.counters());
        self.ordered.iter().for_each(|o| counters += o.counters());
        counters
    }

    fn on_close(&self) -> bool {
        self.window.is_some_and(|w| w.emit == Emit::OnClose)
    }

    /// The result of every call for some slots.
    fn outputs(&mut self, slots: &[u32]) -> Result<Vec<Output>> {
        let Aggregate { values, ordered, table, .. } = self;
        values.outputs(slots, &mut |index| ordered[index].output(slots, table))
    }

    fn intern(&mut self, changes: &ChangeBatch) -> Result<()> {
        let columns: Vec<ArrayRef> = self.key_order.iter().map(|i| changes.rows.column(self.group[*i]).clone()).collect();
        self.codec.encode(&columns, changes.num_rows(), &mut self.keys);
        let shard = self.routing.shard(&changes.rows);
        let shards = match &shard {
            Some(shard) => Shards::Of(shard),
            None => Shards::OfKey,
        };
        self.table.intern(&self.keys, shards, &mut self.values, &mut self.slots)?;
        let (table, slots) = (&self.table, &self.slots);
        self.ttl.as_mut().map_or(Ok(()), |ttl| ttl.touch(&self.keys, Shards::Of(&|row| table.shard(slots[row]))))
    }

    /// Notes slots that this step had not touched before, with what they hold now.
    fn note(&mut self, changes: &ChangeBatch) -> Result<()> {
        let (slots, rows) = self.memo.touch(&self.slots, self.table.slots());
        if slots.is_empty() {
            return Ok(());
        }
        let mut chunk = Chunk { slots, ..Chunk::default() };
        if !self.on_close() {
            chunk.old_weights = self.values.weights_of(&chunk.slots);
            chunk.old = self.outputs(&chunk.slots)?;
            if self.group_from_input {
                let rows = UInt32Array::from(rows);
                let take = |c: &usize| arrow::compute::take(changes.rows.column(*c), &rows, None);
                chunk.groups = Some(self.group.iter().map(take).collect::<Result<_, _>>()?);
            }
        }
        self.memo.push(chunk);
        Ok(())
    }

    fn feed(&mut self, changes: &ChangeBatch) -> Result<()> {
        let weights = changes.weights.as_ref().map(|w| w.values().as_ref());
        for feed in &self.feeds {
            let mask: Option<BooleanBuffer> = feed.mask(&changes.rows);
            let values = changes.rows.column(feed.argument);
            let updates = crate::accumulators::Updates { slots: &self.slots, weights, mask: mask.as_ref() };
            match &feed.target {
                Target::Accumulator(index) => self.values.accumulators[*index].update(&updates, values),
                Target::Extreme { multiset, .. } => {
                    self.multisets[*multiset].update(&self.keys, &self.table, &updates, values)?;
                }
                Target::Ordered(index) => self.ordered[*index].update(&self.keys, &self.table, &updates, &changes.rows, values)?,
                Target::Distinct { multiset, accumulators } => {
                    let appeared = self.multisets[*multiset].update(&self.keys, &self.table, &updates, values)?;
                    let updates = crate::accumulators::Updates { weights: Some(appeared), ..updates };
                    for index in accumulators {
                        self.values.accumulators[*index].update(&updates, values);
                    }
                }
            }
        }
        Ok(())
    }

    /// The group columns of slots, in output order.
    fn groups_of(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let decoded = self.codec.decode(slots.iter().map(|slot| self.table.key(*slot)))?;
        let mut groups = decoded.clone();
        for (column, position) in decoded.into_iter().zip(&self.key_order) {
            groups[*position] = column;
        }
        Ok(groups)
    }

    /// Brings the group of an empty key into being; says whether it was there before this step.
    fn start(&mut self) -> Result<bool> {
        if self.started {
            return Ok(true);
        }
        self.started = true;
        let mut key = KeyRows::default();
        key.push(&[]);
        let mut slots = Vec::new();
        self.table.intern(&key, Shards::OfKey, &mut self.values, &mut slots)?;
        if self.table.is_stored(slots[0]) {
            return Ok(true);
        }
        let (slots, _) = self.memo.touch(&slots, self.table.slots());
        if !slots.is_empty() {
            let (old_weights, old) = (self.values.weights_of(&slots), self.outputs(&slots)?);
            self.memo.push(Chunk { slots, groups: Some(Vec::new()), old_weights, old });
        }
        Ok(false)
    }

    /// Brings what came together; says whether the group of an empty key was there before.
    fn begin_to_settle(&mut self, now: Timestamp) -> Result<bool> {
        self.forget_expired(now)?;
        let existed = self.start()?;
        let forgetful = self.forgetful;
        self.multisets.iter_mut().try_for_each(|multiset| multiset.check(forgetful))?;
        if forgetful {
            self.ordered.iter_mut().for_each(Ordered::ignore_missing);
        }
        for feed in &self.feeds {
            if let Target::Extreme { multiset, extreme } = feed.target {
                self.multisets[multiset].refresh(&self.table, &mut self.values.extremes[extreme])?;
            }
        }
        Ok(existed)
    }

    /// Emits the net change of touched groups, and removes those that are gone; a slice of them.
    fn settle(&mut self, existed: bool, ctx: &mut StepContext) -> Result<()> {
        let (always, mut rows) = (self.group.is_empty(), 0);
        while rows < SLICE_ROWS
            && let Some(chunk) = self.memo.take()
        {
            rows += chunk.slots.len();
            let mut weights = self.values.weights_of(&chunk.slots);
            if self.forgetful {
                self.ignore_missing(&chunk.slots, &mut weights, ctx)?;
            }
            if weights.iter().any(|w| *w < 0) {
                return Err(SqlError::internal("an aggregate was told to retract rows that were never there"));
            }
            chunk.slots.iter().for_each(|slot| self.table.mark_dirty(*slot));
            if !self.on_close() {
                let groups = match &chunk.groups {
                    Some(groups) => groups.clone(),
                    None => self.groups_of(&chunk.slots)?,
                };
                let new = self.outputs(&chunk.slots)?;
                let presence = memo::Presence { always, existed };
                chunk.emit_changes(presence, &weights, &new, &groups, &self.output, ctx)?;
            }
            if !always {
                for (slot, _) in chunk.slots.iter().zip(&weights).filter(|(_, w)| **w == 0) {
                    self.table.remove(*slot, &mut self.values);
                }
            }
        }
        Ok(())
    }
}

impl Operator for Aggregate {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        self.forget_expired(ctx.now)?;
        let changes = match self.window {
            Some(window) => window::on_time(batch, self.group[window.end], window, ctx)?,
            None => batch.changes,
        };
        if changes.is_empty() {
            return Ok(());
        }
        if !self.retract && changes.weights.as_ref().is_some_and(|w| w.values().iter().any(|w| *w < 0)) {
            return Err(SqlError::internal("an append-only input has a retraction"));
        }
        self.intern(&changes)?;
        self.note(&changes)?;
        self.values.add_rows(&self.slots, changes.weights.as_ref().map(|w| w.values().as_ref()));
        self.feed(&changes)
    }

    fn finish(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        if self.stage == Stage::Rest {
            self.stage = Stage::Settling { existed: self.begin_to_settle(ctx.now)? };
        }
        if let Stage::Settling { existed } = self.stage {
            self.settle(existed, ctx)?;
            if !self.memo.is_empty() {
                return Ok(());
            }
            self.multisets.iter_mut().for_each(Multiset::sweep);
            self.ordered.iter_mut().try_for_each(Ordered::settle)?;
            self.sweep_gone()?;
            self.stage = Stage::Closing;
        }
        if let Some(window) = self.window
            && !self.close_windows(window, watermark, ctx)?
        {
            return Ok(());
        }
        self.stage = Stage::Rest;
        self.shrink()
    }

    fn unfinished(&self) -> bool {
        self.stage != Stage::Rest
    }

    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        let mut runs = vec![(self.space.id(), self.table.freeze(&mut self.values)?)];
        for multiset in &mut self.multisets {
            runs.push((self.space.id(), multiset.freeze()?));
        }
        for ordered in &mut self.ordered {
            runs.extend(ordered.freeze()?);
        }
        if let Some(ttl) = &mut self.ttl {
            runs.extend(ttl.freeze()?);
        }
        Ok(runs)
    }

    fn shrink(&mut self) -> Result<()> {
        self.table.maintain(&mut self.values)?;
        self.multisets.iter_mut().try_for_each(Multiset::maintain)?;
        self.ordered.iter_mut().try_for_each(Ordered::maintain)?;
        self.ttl.as_mut().map_or(Ok(()), Ttl::maintain)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.ttl.as_ref().and_then(Ttl::next)
    }

    fn next_close(&self) -> Option<Timestamp> {
        let window = self.window?;
        self.table.first_end().map(|end| Timestamp(end.saturating_add(window.allowed_lateness)))
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes(&self.values)
            + self.multisets.iter().map(Multiset::bytes).sum::<usize>()
            + self.ordered.iter().map(Ordered::bytes).sum::<usize>()
            + self.ttl.as_ref().map_or(0, Ttl::bytes)
    }
}

/// The end of the window first, then the other group columns as they come.
fn key_order(group: &[usize], window: Option<AggregateWindow>) -> Vec<usize> {
    let end = window.map(|w| w.end);
    end.into_iter().chain((0..group.len()).filter(|i| Some(*i) != end)).collect()
}

/// Whether batches of this type compare with arrow's kernels.
fn is_flat(ty: &DataType) -> bool {
    !ty.is_nested() && *ty != DataType::Null
}

#[cfg(test)]
mod tests;
