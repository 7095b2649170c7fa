//! Lookup join with a table outside: each row with the rows that are there under its key when it is asked for. A step asks for its distinct
//! keys together, and ends when they are answered; meanwhile the worker does other jobs' work.
//!
//! Answers are no input that a replay brings back. So where rows may be taken back, what they were joined with is kept, until all rows that are
//! equal to them are gone: an equal row that comes meanwhile shares it. Where rows only come nothing is kept, and rows that are
//! replayed after a restart are asked for anew.
//!
//! # Parts
//! - `cache`: answers that may be used again
//! - `question`: keys on their way, and their answer
//! - `kept`: what rows were joined with
//!
//! State: as `kept` has it; none where the input only grows.

mod cache;
mod kept;
mod question;

use crate::expr::NowHandle;
use crate::operator::{Operator, StepContext, Wake};
use crate::operators::matched::{Matched, columns_at, without_nulls};
use crate::operators::net::NetChanges;
use crate::operators::state::StateSpec;
use arrow::array::{Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use cache::Cache;
use eddyline_common::connector::{LookupAnswer, LookupCache, LookupClient};
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{Expr, JoinKind};
use hashbrown::HashMap;
use kept::{Identities, Kept};
use question::Question;
use std::collections::VecDeque;
use std::sync::Arc;

/// Distinct keys in a question, about: what a database takes at once, and what an answer brings into memory.
const KEYS_MAX: usize = if cfg!(test) { 4 } else { 8 * 1024 };
/// Rows after which what is below in the plan gets its turn.
const EMIT_ROWS: usize = if cfg!(test) { 8 } else { 256 * 1024 };
/// Pairs that are tested and emitted together.
const PAIRS: usize = if cfg!(test) { 5 } else { 16 * 1024 };

pub struct ExternalLookupSpec<'a> {
    /// Inner or Left.
    pub kind: JoinKind,
    /// Input columns, in the order of the keys that the client is asked for.
    pub keys: Vec<usize>,
    /// Over the input's columns and then the table's.
    pub residual: Option<&'a Expr>,
    pub input: SchemaRef,
    pub output: SchemaRef,
    pub now: &'a NowHandle,
    pub client: Box<dyn LookupClient>,
    /// This worker's part of it.
    pub cache: Option<LookupCache>,
    pub wake: Wake,
    /// Where rows may be taken back: the state, and the input columns whose key decided that a row came to this worker.
    pub kept: Option<(StateSpec, Vec<usize>)>,
}

/// The rows of the table that a key has, each as its bytes; or why that is not known.
#[derive(Clone, Debug)]
enum Found {
    Rows(Arc<[Box<[u8]>]>),
    Refused(Arc<SqlError>),
}

/// Where what a row is joined with comes from.
enum Place {
    /// From the answer to a key of the group.
    Key(usize),
    /// From the state: so many equal rows are there.
    Kept { count: i64, found: Found },
    /// Nothing is known of a row that is taken back.
    Nowhere,
}

/// A key as its bytes, which the group and the cache share.
type Key = Arc<[u8]>;

/// Batches whose keys are asked for together.
#[derive(Default)]
struct Group {
    batches: Vec<(TaggedBatch, Placed)>,
    /// Their keys, and what was found of each.
    keys: Vec<(Key, Option<Found>)>,
    places: HashMap<Key, usize>,
    question: Option<Question>,
}

/// By row of a batch.
struct Placed {
    places: Vec<Place>,
    /// What the state knows the rows by; of no rows if there is none.
    identities: Identities,
}

pub struct ExternalLookup {
    keys: Vec<usize>,
    codec: KeyCodec,
    /// Of the table's columns.
    right: KeyCodec,
    output: Matched,
    client: Box<dyn LookupClient>,
    wake: Wake,
    cache: Option<Cache>,
    kept: Option<Kept>,
    /// What is taken away may have been forgotten below.
    forgetful: bool,
    /// Of this step, where rows only come; and where they may be taken back.
    held: Vec<TaggedBatch>,
    changes: NetChanges,
    /// What is left to do of it.
    work: Option<VecDeque<TaggedBatch>>,
    group: Option<Group>,
    encoded: KeyRows,
}

/// Pairs of left rows and right ones in a pool.
#[derive(Default)]
struct Pairs {
    pool: KeyRows,
    left: Vec<u32>,
    right: Vec<u32>,
    weights: Vec<i64>,
}

impl ExternalLookup {
    pub fn new(spec: ExternalLookupSpec) -> Result<Box<Self>> {
        let ExternalLookupSpec { kind, keys, residual, input, output, now, client, cache, wake, kept } = spec;
        let width = input.fields().len();
        if output.fields().len() < width || keys.is_empty() || keys.iter().any(|key| *key >= width) {
            return Err(SqlError::internal("a lookup join does not fit its input"));
        }
        let right = Arc::new(Schema::new(output.fields()[width..].to_vec()));
        let key_types: Vec<DataType> = keys.iter().map(|key| input.field(*key).data_type().clone()).collect();
        Ok(Box::new(ExternalLookup {
            codec: KeyCodec::new(key_types)?,
            right: KeyCodec::exact(right.fields().iter().map(|f| f.data_type().clone()).collect())?,
            changes: NetChanges::new(&input, kept.is_some())?,
            forgetful: kept.as_ref().is_some_and(|(state, _)| state.forgetful),
            kept: kept.map(|(state, routing)| Kept::open(state, routing, &input)).transpose()?,
            output: Matched::new(kind, &[input, right], output, residual, now)?,
            cache: cache.map(Cache::new),
            keys,
            client,
            wake,
            held: Vec::new(),
            work: None,
            group: None,
            encoded: KeyRows::default(),
        }))
    }

    /// The step's rows that have a key; those without one match nothing.
    fn begin(&mut self, ctx: &mut StepContext) -> Result<VecDeque<TaggedBatch>> {
        let (arrival_watermark, now) = (ctx.start_watermark, ctx.now);
        let mut batches = std::mem::take(&mut self.held);
        batches.extend(self.changes.take()?.into_iter().map(|changes| TaggedBatch { changes, arrival_watermark, now }));
        let mut work = VecDeque::with_capacity(batches.len());
        for TaggedBatch { changes, arrival_watermark, now } in batches {
            let (changes, without) = without_nulls(&changes, &self.keys)?;
            if let Some(alone) = without.filter(|_| self.output.outer) {
                let changes = self.alone(&alone, (0..alone.num_rows()).map(|row| (row as u32, alone.weight(row))))?;
                ctx.emit_tagged(TaggedBatch { changes, arrival_watermark, now });
            }
            if !changes.is_empty() {
                work.push_back(TaggedBatch { changes, arrival_watermark, now });
            }
        }
        Ok(work)
    }

    /// Takes batches until enough keys are unknown, and asks for those.
    fn next_group(&mut self, now: Timestamp) -> Result<Option<Group>> {
        let (mut group, mut unknown) = (Group::default(), Vec::new());
        while unknown.len() < KEYS_MAX
            && let Some(batch) = self.work.as_mut().and_then(VecDeque::pop_front)
        {
            let placed = self.places(&batch.changes, &mut group, &mut unknown, now)?;
            group.batches.push((batch, placed));
        }
        if group.batches.is_empty() {
            return Ok(None);
        }
        if !unknown.is_empty() {
            let keys = self.codec.decode(unknown.iter().map(|place| &*group.keys[*place].0))?;
            group.question = Some(Question::ask(self.client.as_mut(), keys, unknown, self.wake.clone()));
        }
        Ok(Some(group))
    }

    /// Where what each row is joined with comes from; keys that nothing is known of are added to `unknown`.
    fn places(&mut self, changes: &ChangeBatch, group: &mut Group, unknown: &mut Vec<usize>, now: Timestamp) -> Result<Placed> {
        let (identities, kept) = match &mut self.kept {
            Some(kept) => kept.find(changes)?,
            None => Default::default(),
        };
        let mut kept = kept.into_iter();
        self.codec.encode(&columns_at(changes, &self.keys), changes.num_rows(), &mut self.encoded);
        let mut places = Vec::with_capacity(changes.num_rows());
        for (row, key) in self.encoded.iter().enumerate() {
            if let Some((count, found)) = kept.next().flatten() {
                places.push(Place::Kept { count, found });
                continue;
            }
            if changes.weight(row) < 0 {
                places.push(Place::Nowhere);
                continue;
            }
            let place = match group.places.get(key) {
                Some(place) => *place,
                None => {
                    let found = self.cache.as_ref().and_then(|cache| cache.get(key, now)).map(Found::Rows);
                    let place = group.keys.len();
                    if found.is_none() {
                        unknown.push(place);
                    }
                    let key = Key::from(key);
                    group.keys.push((key.clone(), found));
                    group.places.insert(key, place);
                    place
                }
            };
            places.push(Place::Key(place));
        }
        Ok(Placed { places, identities })
    }

    /// Notes what was found of the keys that were asked for.
    fn note(&mut self, group: &mut Group, now: Timestamp) -> Result<()> {
        let Some(question) = group.question.take() else { return Ok(()) };
        let (asked, answer) = question.take();
        let LookupAnswer { rows, keys, refused } = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let error = Arc::new(error);
                asked.into_iter().for_each(|place| group.keys[place].1 = Some(Found::Refused(error.clone())));
                return Ok(());
            }
        };
        self.right.encode(rows.columns(), rows.num_rows(), &mut self.encoded);
        let mut found: Vec<Vec<Box<[u8]>>> = vec![Vec::new(); asked.len()];
        for (row, key) in keys.into_iter().enumerate() {
            let of_key = found.get_mut(key as usize).ok_or_else(|| SqlError::internal("an answer is to no question"))?;
            of_key.push(self.encoded.row(row).into());
        }
        for (place, rows) in asked.iter().zip(found) {
            let rows: Arc<[Box<[u8]>]> = rows.into();
            group.keys[*place].1 = Some(Found::Rows(rows));
        }
        for (key, why) in refused {
            let error = SqlError::new(SqlState::INVALID_TEXT, why);
            group.keys[asked[key as usize]].1 = Some(Found::Refused(Arc::new(error)));
        }
        if let Some(cache) = &mut self.cache {
            for (key, found) in asked.iter().map(|place| &group.keys[*place]) {
                if let Some(Found::Rows(rows)) = found {
                    cache.put(key, rows.clone(), now);
                }
            }
        }
        Ok(())
    }

    /// Joins a group whose keys are answered; the number of rows emitted.
    fn join(&mut self, group: Group, ctx: &mut StepContext) -> Result<usize> {
        let mut emitted = 0;
        for (TaggedBatch { changes, arrival_watermark, now }, Placed { places, identities }) in group.batches {
            let mut rows = Vec::with_capacity(places.len());
            let mut gone = Vec::new();
            for (row, place) in places.iter().enumerate() {
                let weight = changes.weight(row);
                let (there, found) = match place {
                    Place::Key(key) => (0, group.keys[*key].1.as_ref()),
                    Place::Kept { count, found } => (*count, Some(found)),
                    Place::Nowhere => (0, None),
                };
                let taken = weight.max(-there);
                if taken != weight {
                    gone.push((row as u32, weight - taken));
                }
                if let Some(found) = found.filter(|_| taken != 0) {
                    rows.push(Row { at: row as u32, weight: taken, before: there, found });
                }
            }
            if !gone.is_empty() {
                if !self.forgetful {
                    return Err(SqlError::internal("rows were retracted that were never there"));
                }
                ctx.forgotten(weighted(&changes, &gone)?);
            }
            self.reject(&changes, &rows, ctx)?;
            for changes in self.pairs_of(&changes, &rows, ctx)? {
                emitted += changes.num_rows();
                ctx.emit_tagged(TaggedBatch { changes, arrival_watermark, now });
            }
            if let Some(kept) = &mut self.kept {
                kept.change(&identities, &rows)?;
            }
        }
        Ok(emitted)
    }

    /// Rows of which it is not known what they are joined with; one that is taken back takes its rejection back.
    fn reject(&self, changes: &ChangeBatch, rows: &[Row], ctx: &mut StepContext) -> Result<()> {
        let mut refused: Vec<(&Arc<SqlError>, Vec<(u32, i64)>)> = Vec::new();
        for row in rows {
            let Found::Refused(error) = row.found else { continue };
            match refused.iter_mut().find(|(known, _)| known.message == error.message) {
                Some((_, rows)) => rows.push((row.at, row.weight)),
                None => refused.push((error, vec![(row.at, row.weight)])),
            }
        }
        refused.into_iter().try_for_each(|(error, rows)| ctx.reject(weighted(changes, &rows)?, SqlError::clone(error)))
    }

    /// What comes of the rows of a batch.
    fn pairs_of(&self, changes: &ChangeBatch, rows: &[Row], ctx: &mut StepContext) -> Result<Vec<ChangeBatch>> {
        let (mut outputs, mut pairs, mut matched) = (Vec::new(), Pairs::default(), vec![false; changes.num_rows()]);
        for Row { at, weight, found, .. } in rows {
            let Found::Rows(found) = found else { continue };
            for right in found.iter() {
                let place = pairs.pool.len() as u32;
                pairs.pool.push(&[right]);
                self.repeated(*weight, &mut |weight| {
                    pairs.left.push(*at);
                    pairs.right.push(place);
                    pairs.weights.push(weight);
                });
                if pairs.left.len() >= PAIRS {
                    outputs.extend(self.flush(changes, std::mem::take(&mut pairs), &mut matched, ctx)?);
                }
            }
        }
        outputs.extend(self.flush(changes, pairs, &mut matched, ctx)?);
        if self.output.outer {
            let is_alone = |row: &&Row| matches!(row.found, Found::Rows(_)) && !matched[row.at as usize];
            outputs.push(self.alone(changes, rows.iter().filter(is_alone).map(|row| (row.at, row.weight)))?);
        }
        Ok(outputs)
    }

    /// Where rows only come each is there once, as its readers expect; elsewhere its weight says how often.
    fn repeated(&self, weight: i64, emit: &mut dyn FnMut(i64)) {
        match self.kept {
            Some(_) => emit(weight),
            None => (0..weight).for_each(|_| emit(1)),
        }
    }

    /// The pairs that pass the condition.
    fn flush(&self, left: &ChangeBatch, pairs: Pairs, matched: &mut [bool], ctx: &mut StepContext) -> Result<Option<ChangeBatch>> {
        let right = self.right.decode(pairs.pool.iter())?;
        let weights = self.kept.as_ref().map(|_| pairs.weights);
        self.output.weighted_pairs(left, &right, (pairs.left, pairs.right), weights, matched, ctx)
    }

    /// Left rows that match nothing.
    fn alone(&self, left: &ChangeBatch, rows: impl Iterator<Item = (u32, i64)>) -> Result<ChangeBatch> {
        let mut alone = Vec::new();
        rows.for_each(|(at, weight)| self.repeated(weight, &mut |weight| alone.push((at, weight))));
        let mut changes = weighted(left, &alone)?;
        if self.kept.is_none() {
            changes.weights = None;
        }
        self.output.widened(&changes)
    }
}

/// A row of a batch, and what it is joined with.
struct Row<'a> {
    at: u32,
    weight: i64,
    /// How many equal ones are there.
    before: i64,
    found: &'a Found,
}

/// Some rows of a batch, with weights of their own.
fn weighted(changes: &ChangeBatch, rows: &[(u32, i64)]) -> Result<ChangeBatch> {
    let at = UInt32Array::from_iter_values(rows.iter().map(|(at, _)| *at));
    let taken = ChangeBatch::insertions(changes.rows.clone()).take(&at)?;
    Ok(ChangeBatch::with_weights(taken.rows, Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight))))
}

impl Operator for ExternalLookup {
    fn push(&mut self, _port: usize, batch: TaggedBatch, _ctx: &mut StepContext) -> Result<()> {
        match self.kept {
            Some(_) => self.changes.add(batch.changes),
            None => self.held.push(batch),
        }
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        if self.work.is_none() {
            self.work = Some(self.begin(ctx)?);
        }
        let mut emitted = 0;
        while emitted < EMIT_ROWS {
            let group = match self.group.take() {
                Some(group) => Some(group),
                None => self.next_group(ctx.now)?,
            };
            let Some(mut group) = group else {
                self.work = None;
                return self.kept.as_mut().map_or(Ok(()), Kept::settle);
            };
            if group.question.as_ref().is_some_and(Question::is_open) {
                self.group = Some(group);
                return Ok(());
            }
            self.note(&mut group, ctx.now)?;
            emitted += self.join(group, ctx)?;
        }
        Ok(())
    }

    fn unfinished(&self) -> bool {
        self.work.is_some()
    }

    fn waits(&self) -> bool {
        self.group.as_ref().and_then(|group| group.question.as_ref()).is_some_and(Question::is_open)
    }

    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        self.kept.as_mut().map_or_else(|| Ok(Vec::new()), Kept::freeze)
    }

    fn shrink(&mut self) -> Result<()> {
        self.kept.as_mut().map_or(Ok(()), Kept::shrink)
    }

    fn state_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, Kept::bytes) + self.cache.as_ref().map_or(0, Cache::bytes)
    }
}

#[cfg(test)]
mod tests;
