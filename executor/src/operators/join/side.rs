//! One input of a join: its rows by key, and how they are encoded and routed.

use crate::layout::{EncodedRows, RowLayout};
use crate::operator::StepContext;
use crate::operators::missing::ignore_missing;
use crate::operators::net::NetChanges;
use crate::operators::routing::Routing;
use arrow::array::{Array, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use eddyline_common::key::ColumnOrder;
use eddyline_common::{ChangeBatch, Result, SqlError};
use eddyline_storage::state::{KeyedRows, RowShape, RowTtl, Shards, StateSpace};

pub(super) struct SideSpec<'a> {
    pub space: &'a StateSpace,
    /// First kind of the side's tables within the space.
    pub kind: u8,
    pub input: SchemaRef,
    pub keys: Vec<usize>,
    pub routing: Vec<usize>,
    pub nulls_match: bool,
    /// Rows that match nothing are shown.
    pub preserved: bool,
    pub retract: bool,
    pub marks: bool,
    /// Keys begin with the end of a window.
    pub windowed: bool,
    /// Column of the event time by which rows are dropped, and in which steps.
    pub time: Option<(usize, i64)>,
    /// Microseconds after which a row is forgotten.
    pub ttl: Option<i64>,
}

pub(super) struct Side {
    pub rows: KeyedRows,
    pub layout: RowLayout,
    routing: Routing,
    input: SchemaRef,
    nulls_match: bool,
    time: Option<usize>,
    retract: bool,
    /// Rows of this step that match nothing because of a null; `None`: nobody sees them.
    unmatched: Option<NetChanges>,
    encoded: EncodedRows,
}

impl Side {
    pub(super) fn open(spec: SideSpec) -> Result<Self> {
        let SideSpec { keys, routing, input, .. } = spec;
        let routing = Routing::new(routing, &keys, &input)?;
        let shape = RowShape {
            marks: spec.marks,
            expiry: spec.windowed,
            retention_micros: spec.time.map(|(_, step)| step),
            ttl: spec.ttl.map(RowTtl::Rows),
            ..RowShape::default()
        };
        let ascending = ColumnOrder { descending: false, nulls_first: true };
        let order = spec.time.map(|(column, _)| (column, ascending)).into_iter().collect();
        Ok(Side {
            rows: KeyedRows::open(spec.space, spec.kind, shape)?,
            layout: RowLayout::new(&input, keys, order)?,
            routing,
            nulls_match: spec.nulls_match,
            time: spec.time.map(|(column, _)| column),
            retract: spec.retract,
            unmatched: if spec.preserved { Some(NetChanges::new(&input, spec.retract)?) } else { None },
            input,
            encoded: EncodedRows::default(),
        })
    }

    /// Adds the rows of a batch; those with a null in their key are set aside.
    pub(super) fn add(&mut self, changes: ChangeBatch) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        if !self.retract && changes.weights.as_ref().is_some_and(|w| w.values().iter().any(|w| *w < 0)) {
            return Err(SqlError::internal("an append-only input has a retraction"));
        }
        let Some(valid) = self.null_keys(&changes) else { return self.add_rows(&changes) };
        let valid = BooleanArray::new(valid.into_inner(), None);
        if let Some(unmatched) = &mut self.unmatched {
            unmatched.add(changes.filter(&arrow::compute::not(&valid)?)?);
        }
        self.add_rows(&changes.filter(&valid)?)
    }

    /// Which rows have no null where one matches nothing, if not all.
    fn null_keys(&self, changes: &ChangeBatch) -> Option<NullBuffer> {
        let keys = self.layout.keys().iter().filter(|_| !self.nulls_match);
        let nulls = keys.chain(&self.time).map(|k| changes.rows.column(*k).logical_nulls());
        let all = nulls.fold(None, |all, nulls| NullBuffer::union(all.as_ref(), nulls.as_ref()))?;
        (all.null_count() > 0).then_some(all)
    }

    fn add_rows(&mut self, changes: &ChangeBatch) -> Result<()> {
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
    pub(super) fn ignore_missing(&mut self, ctx: &mut StepContext) -> Result<()> {
        ignore_missing(&mut self.rows, &self.layout, &self.input, ctx)
    }

    /// Net changes of this step's rows that match nothing because of a null.
    pub(super) fn take_unmatched(&mut self) -> Result<Vec<ChangeBatch>> {
        self.unmatched.as_mut().map_or(Ok(Vec::new()), NetChanges::take)
    }
}
