//! Lookup join: each left row with the right rows that are there when it arrives; the pairs stay as they are, whatever becomes of
//! the right rows. A step of many cuts does as many steps would: cut by cut, in the order of their `now`, first the right side's changes
//! and then the left rows, which come out under their own watermark and `now`.
//!
//! State: the right rows by key.

use crate::expr::NowHandle;
use crate::layout::{EncodedRows, RowLayout};
use crate::operator::{Operator, StepContext};
use crate::operators::matched::{Matched, columns_at, key_types, without_nulls};
use crate::operators::routing::Routing;
use crate::operators::state::StateSpec;
use arrow::datatypes::SchemaRef;
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::{ChangeBatch, Result, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{Expr, JoinKind};
use eddyline_storage::state::{KeyedRows, NO_SLOT, RowChunk, RowShape, Shards};
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Rows after which what is below in the plan gets its turn.
const EMIT_ROWS: usize = if cfg!(test) { 8 } else { 256 * 1024 };
/// Pairs that are tested and emitted together, and right rows that are decoded together.
const PAIRS: usize = if cfg!(test) { 5 } else { 16 * 1024 };

pub struct LookupJoinSpec<'a> {
    /// Inner or Left.
    pub kind: JoinKind,
    /// Input columns of each side, in the order in which they are compared.
    pub keys: [Vec<usize>; 2],
    /// Over the left columns and then the right ones.
    pub residual: Option<&'a Expr>,
    pub inputs: [SchemaRef; 2],
    pub output: SchemaRef,
    /// Input columns of each side whose key decided that a row came to this worker.
    pub routing: [Vec<usize>; 2],
    pub now: &'a NowHandle,
    pub state: StateSpec,
}

pub struct LookupJoin {
    left_keys: Vec<usize>,
    codec: KeyCodec,
    output: Matched,
    routing: [Routing; 2],
    rows: KeyedRows,
    layout: RowLayout,
    /// Of this step.
    held: [Vec<TaggedBatch>; 2],
    /// What is left to do of it, in order: (side, batch).
    work: Option<VecDeque<(usize, TaggedBatch)>>,
    encoded: EncodedRows,
    keys: KeyRows,
    shards: Vec<u8>,
}

/// Pairs of left rows and right ones in a pool.
#[derive(Default)]
struct Pairs {
    pool: RowChunk,
    /// Where the rows of a head are in the pool.
    known: HashMap<u32, std::ops::Range<usize>>,
    left: Vec<u32>,
    right: Vec<u32>,
}

impl LookupJoin {
    pub fn new(spec: LookupJoinSpec) -> Result<Box<Self>> {
        let LookupJoinSpec { kind, keys, inputs, output, routing: [of_left, of_right], .. } = spec;
        let compared = key_types(&keys, &inputs)?;
        let [left_keys, right_keys] = keys;
        let space = spec.state.open()?;
        Ok(Box::new(LookupJoin {
            output: Matched::new(kind, &inputs, output, spec.residual, spec.now)?,
            codec: KeyCodec::new(compared)?,
            routing: [Routing::by(of_left, &inputs[0])?, Routing::by(of_right, &inputs[1])?],
            rows: KeyedRows::open(&space, 0, RowShape::default())?,
            layout: RowLayout::new(&inputs[1], right_keys, Vec::new())?,
            left_keys,
            held: Default::default(),
            work: None,
            encoded: EncodedRows::default(),
            keys: KeyRows::default(),
            shards: Vec::new(),
        }))
    }

    /// Changes of the right side.
    fn change(&mut self, changes: &ChangeBatch) -> Result<()> {
        // A null equals nothing.
        let changes = without_nulls(changes, self.layout.keys())?.0;
        self.layout.encode(&changes.rows, &mut self.encoded);
        self.routing[1].shards(&changes.rows, &self.encoded.keys, &mut self.shards);
        let weights = changes.weights.as_ref().map(|w| w.values().as_ref());
        self.rows.add(self.layout.batch(&self.encoded, weights), Shards::Of(&|row| self.shards[row]))
    }

    /// Left rows meet what is there; the number of rows emitted.
    fn look_up(&mut self, batch: TaggedBatch, ctx: &mut StepContext) -> Result<usize> {
        let TaggedBatch { changes, arrival_watermark, now } = batch;
        let (changes, without) = without_nulls(&changes, &self.left_keys)?;
        let mut outputs = Vec::new();
        if let Some(alone) = without.filter(|_| self.output.outer) {
            outputs.push(self.output.alone(&alone, 0..alone.num_rows() as u32)?);
        }
        let columns = columns_at(&changes, &self.left_keys);
        self.codec.encode(&columns, changes.num_rows(), &mut self.keys);
        self.routing[0].shards(&changes.rows, &self.keys, &mut self.shards);
        let mut heads = Vec::new();
        self.rows.lookup(&self.keys, Shards::Of(&|row| self.shards[row]), &mut heads)?;
        let (mut pairs, mut matched) = (Pairs::default(), vec![false; heads.len()]);
        for (row, head) in heads.iter().enumerate().filter(|(_, head)| **head != NO_SLOT) {
            self.pair(row as u32, *head, changes.weight(row), &mut pairs)?;
            if pairs.left.len() >= PAIRS || pairs.pool.len() >= PAIRS {
                outputs.extend(self.flush(&changes, &mut pairs, &mut matched, ctx)?);
            }
        }
        outputs.extend(self.flush(&changes, &mut pairs, &mut matched, ctx)?);
        if self.output.outer && matched.contains(&false) {
            outputs.push(self.output.alone(&changes, (0..matched.len() as u32).filter(|row| !matched[*row as usize]))?);
        }
        let mut emitted = 0;
        for changes in outputs {
            emitted += changes.num_rows();
            ctx.emit_tagged(TaggedBatch { changes, arrival_watermark, now });
        }
        Ok(emitted)
    }

    /// Pairs a left row with all rows of a head, each as often as it is there.
    fn pair(&mut self, row: u32, head: u32, times: i64, pairs: &mut Pairs) -> Result<()> {
        let rows = match pairs.known.get(&head) {
            Some(rows) => rows.clone(),
            None => {
                let start = pairs.pool.len();
                let mut cursor = self.rows.scan(head)?;
                while self.rows.next_rows(&mut cursor, PAIRS, &mut pairs.pool)? {}
                let rows = start..pairs.pool.len();
                pairs.known.insert(head, rows.clone());
                rows
            }
        };
        for at in rows {
            let copies = pairs.pool.weights()[at].max(0) * times;
            pairs.left.extend((0..copies).map(|_| row));
            pairs.right.extend((0..copies).map(|_| at as u32));
        }
        Ok(())
    }

    /// The pairs that pass the condition; which left rows are among them is noted.
    fn flush(&self, left: &ChangeBatch, pairs: &mut Pairs, matched: &mut [bool], ctx: &mut StepContext) -> Result<Option<ChangeBatch>> {
        let Pairs { pool, left: left_rows, right, .. } = std::mem::take(pairs);
        self.output.pairs(left, &self.layout.columns(&pool)?, (left_rows, right), matched, ctx)
    }
}

impl Operator for LookupJoin {
    fn push(&mut self, port: usize, batch: TaggedBatch, _ctx: &mut StepContext) -> Result<()> {
        self.held[port].push(batch);
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        let mut work = match self.work.take() {
            Some(work) => work,
            None => {
                let [left, right] = std::mem::take(&mut self.held);
                let mut work: Vec<(usize, TaggedBatch)> =
                    right.into_iter().map(|b| (1, b)).chain(left.into_iter().map(|b| (0, b))).collect();
                // Stable: right before left within a cut.
                work.sort_by_key(|(_, batch)| batch.now);
                work.into()
            }
        };
        let mut emitted = 0;
        while let Some((side, batch)) = work.pop_front() {
            match side {
                0 => emitted += self.look_up(batch, ctx)?,
                _ => self.change(&batch.changes)?,
            }
            if emitted >= EMIT_ROWS && !work.is_empty() {
                self.work = Some(work);
                return Ok(());
            }
        }
        self.rows.settle()
    }

    fn unfinished(&self) -> bool {
        self.work.is_some()
    }

    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        self.rows.freeze()
    }

    fn shrink(&mut self) -> Result<()> {
        self.rows.maintain()
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes()
    }
}
