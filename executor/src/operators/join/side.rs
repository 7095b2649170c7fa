//! One input of a join: its rows by key, and how they are encoded and routed.

use crate::layout::{EncodedRows, RowLayout};
use crate::operator::StepContext;
use crate::operators::matched::without_nulls;
use crate::operators::missing::ignore_missing;
use crate::operators::net::NetChanges;
use crate::operators::routing::Routing;
use arrow::datatypes::SchemaRef;
use eddyline_common::key::ColumnOrder;
use eddyline_common::{ChangeBatch, Result, SqlError};
use eddyline_storage::state::{KeyedRows, RowShape, Shards, StateSpace};

pub(in crate::operators) struct SideSpec<'a> {
    pub space: &'a StateSpace,
    /// First kind of the side's tables within the space.
    pub kind: u8,
    pub shape: RowShape,
    pub input: SchemaRef,
    pub keys: Vec<usize>,
    /// Of the rows of a key.
    pub order: Vec<(usize, ColumnOrder)>,
    pub routing: Vec<usize>,
    /// Columns in which a null matches nothing.
    pub compared: Vec<usize>,
    /// Rows that match nothing are shown.
    pub preserved: bool,
    pub retract: bool,
}

pub(in crate::operators) struct Side {
    pub rows: KeyedRows,
    pub layout: RowLayout,
    routing: Routing,
    input: SchemaRef,
    compared: Vec<usize>,
    retract: bool,
    /// Rows of this step that match nothing, whatever the other side has; `None`: nobody sees them.
    unmatched: Option<NetChanges>,
    encoded: EncodedRows,
}

impl Side {
    pub fn open(spec: SideSpec) -> Result<Self> {
        let SideSpec { space, kind, shape, input, keys, order, routing, compared, preserved, retract } = spec;
        Ok(Side {
            rows: KeyedRows::open(space, kind, shape)?,
            routing: Routing::new(routing, &keys, &input)?,
            layout: RowLayout::new(&input, keys, order)?,
            compared,
            retract,
            unmatched: if preserved { Some(NetChanges::new(&input, retract)?) } else { None },
            input,
            encoded: EncodedRows::default(),
        })
    }

    /// Adds the rows of a batch, but for those that match nothing.
    pub fn add(&mut self, changes: &ChangeBatch) -> Result<()> {
        let changes = self.comparable(changes)?;
        self.add_rows(&changes)
    }

    /// The rows of a batch without those that match nothing because of a null, which are set aside.
    pub fn comparable(&mut self, changes: &ChangeBatch) -> Result<ChangeBatch> {
        if !self.retract && changes.weights.as_ref().is_some_and(|w| w.values().iter().any(|w| *w < 0)) {
            return Err(SqlError::internal("an append-only input has a retraction"));
        }
        let (changes, without) = without_nulls(changes, &self.compared)?;
        if let Some(without) = without {
            self.set_aside(without);
        }
        Ok(changes)
    }

    /// Rows that match nothing.
    pub fn set_aside(&mut self, changes: ChangeBatch) {
        if let Some(unmatched) = &mut self.unmatched {
            unmatched.add(changes);
        }
    }

    pub fn add_rows(&mut self, changes: &ChangeBatch) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.layout.encode(&changes.rows, &mut self.encoded);
        let weights = changes.weights.as_ref().map(|w| w.values().as_ref());
        let batch = self.layout.batch(&self.encoded, weights);
        match self.routing.shard(&changes.rows) {
            Some(shard) => self.rows.add(batch, Shards::Of(&shard)),
            None => self.rows.add(batch, Shards::OfKey),
        }
    }

    /// Takes out what this step retracted though it was forgotten.
    pub fn ignore_missing(&mut self, ctx: &mut StepContext) -> Result<()> {
        ignore_missing(&mut self.rows, &self.layout, &self.input, ctx)
    }

    /// Net changes of this step's rows that match nothing.
    pub fn take_unmatched(&mut self) -> Result<Vec<ChangeBatch>> {
        self.unmatched.as_mut().map_or(Ok(Vec::new()), NetChanges::take)
    }
}
