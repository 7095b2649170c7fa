//! What left rows were joined with, for as long as they may be taken back. All columns of a left row are the key; under it are how many of
//! it are there, and either the rows it was joined with or why that is not known.

use super::{Found, Row};
use crate::operators::routing::Routing;
use crate::operators::state::StateSpec;
use arrow::datatypes::SchemaRef;
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState, StateTableId};
use eddyline_storage::state::{KeyedRows, NO_SLOT, RowBatch, RowChunk, RowShape, Shards};
use std::sync::Arc;

/// First bytes of the rows of a key. The weight of the first is how many left rows there are; of the second, how often the row behind
/// it was found; of the third, which has the reason behind it, again how many left rows there are.
const COUNT: u8 = 0;
const ROW: u8 = 1;
const REFUSED: u8 = 2;

/// Rows that are read together.
const PAGE: usize = 1024;

pub(super) struct Kept {
    rows: KeyedRows,
    /// Of left rows.
    identity: KeyCodec,
    routing: Routing,
}

/// The rows of a batch as keys of the state.
#[derive(Default)]
pub(super) struct Identities {
    keys: KeyRows,
    shards: Vec<u8>,
}

/// Changes of the state.
#[derive(Default)]
struct Edits {
    keys: KeyRows,
    rows: KeyRows,
    weights: Vec<i64>,
    shards: Vec<u8>,
}

impl Edits {
    fn push(&mut self, key: &[u8], shard: u8, row: &[&[u8]], weight: i64) {
        self.keys.push(&[key]);
        self.rows.push(row);
        self.weights.push(weight);
        self.shards.push(shard);
    }
}

impl Kept {
    pub(super) fn open(state: StateSpec, routing: Vec<usize>, input: &SchemaRef) -> Result<Self> {
        let space = state.open()?;
        Ok(Kept {
            rows: KeyedRows::open(&space, 0, RowShape::default())?,
            identity: KeyCodec::exact(input.fields().iter().map(|f| f.data_type().clone()).collect())?,
            routing: Routing::by(routing, input)?,
        })
    }

    /// By row: how many equal ones are there, and what they were joined with; and what `change` wants to know the rows by.
    pub(super) fn find(&mut self, left: &ChangeBatch) -> Result<(Identities, Vec<Option<(i64, Found)>>)> {
        let mut identities = Identities::default();
        let Identities { keys, shards } = &mut identities;
        self.identity.encode(left.rows.columns(), left.num_rows(), keys);
        self.routing.shards(&left.rows, keys, shards);
        let mut heads = Vec::new();
        self.rows.lookup(keys, Shards::Of(&|row| shards[row]), &mut heads)?;
        let found = heads.into_iter().map(|head| self.of_head(head)).collect::<Result<_>>()?;
        Ok((identities, found))
    }

    fn of_head(&mut self, head: u32) -> Result<Option<(i64, Found)>> {
        if head == NO_SLOT {
            return Ok(None);
        }
        let mut chunk = RowChunk::default();
        let mut cursor = self.rows.scan(head)?;
        while self.rows.next_rows(&mut cursor, PAGE, &mut chunk)? {}
        let (mut count, mut found, mut refused) = (0, Vec::new(), None);
        for (at, weight) in chunk.weights().iter().enumerate() {
            match chunk.row(at).split_first() {
                Some((&COUNT, _)) => count = *weight,
                Some((&ROW, row)) => found.extend((0..*weight).map(|_| Box::<[u8]>::from(row))),
                Some((&REFUSED, reason)) => {
                    count = *weight;
                    let reason = String::from_utf8_lossy(reason).into_owned();
                    refused = Some(Arc::new(SqlError::new(SqlState::CONNECTION_FAILURE, reason)));
                }
                _ => return Err(SqlError::corrupt("a stored row of a lookup join is none")),
            }
        }
        Ok((count > 0).then(|| (count, refused.map_or_else(|| Found::Rows(found.into()), Found::Refused))))
    }

    /// Rows of a batch, none of which is there twice, came or were taken back.
    pub(super) fn change(&mut self, identities: &Identities, rows: &[Row]) -> Result<()> {
        let mut edits = Edits::default();
        for Row { at, weight, before, found } in rows {
            let (key, shard) = (identities.keys.row(*at as usize), identities.shards[*at as usize]);
            let found = match found {
                Found::Refused(error) => {
                    edits.push(key, shard, &[&[REFUSED], error.message.as_bytes()], *weight);
                    continue;
                }
                Found::Rows(found) => found,
            };
            edits.push(key, shard, &[&[COUNT]], *weight);
            // What was found comes with the first and goes with the last.
            let times = match (*before, before + weight) {
                (0, _) => 1,
                (_, 0) => -1,
                _ => continue,
            };
            found.iter().for_each(|row| edits.push(key, shard, &[&[ROW], row], times));
        }
        let Edits { keys, rows, weights, shards } = &edits;
        let batch = RowBatch { keys, orders: None, rows, weights: Some(weights.as_slice()) };
        self.rows.add(batch, Shards::Of(&|row| shards[row]))
    }

    pub(super) fn settle(&mut self) -> Result<()> {
        self.rows.settle()
    }

    pub(super) fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        self.rows.freeze()
    }

    pub(super) fn shrink(&mut self) -> Result<()> {
        self.rows.maintain()
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes()
    }
}
