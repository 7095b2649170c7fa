//! Rows of columns to the byte strings of `storage::state::KeyedRows` and back: which columns are the key, which order the rows
//! of a key, and what else must be stored for a row to come back as it was.
//!
//! It knows nothing of slots, steps or operators.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use eddyline_common::key::{ColumnOrder, KeyCodec, KeyRows, OrderCodec};
use eddyline_common::{Result, SqlError};
use eddyline_storage::state::{RowBatch, RowChunk};

/// The byte strings of a batch, reused from batch to batch.
#[derive(Default)]
pub struct EncodedRows {
    pub keys: KeyRows,
    pub orders: KeyRows,
    pub rows: KeyRows,
}

pub struct RowLayout {
    columns: usize,
    keys: Vec<usize>,
    key_codec: KeyCodec,
    order: Option<(Vec<usize>, OrderCodec)>,
    /// Columns that are stored in the row: those that do not come back from its key.
    stored: Vec<usize>,
    stored_codec: KeyCodec,
    /// Decodes key and row in one piece, or the row alone if orders are between them.
    decoder: KeyCodec,
    /// Where each column is among the decoded ones.
    places: Vec<usize>,
}

impl RowLayout {
    /// Fails with 0A000 for a column of a type that cannot be compared.
    pub fn new(schema: &SchemaRef, keys: Vec<usize>, order: Vec<(usize, ColumnOrder)>) -> Result<Self> {
        let columns = schema.fields().len();
        if keys.iter().chain(order.iter().map(|(c, _)| c)).any(|c| *c >= columns) {
            return Err(SqlError::internal("a state is keyed by a column that its input has not"));
        }
        let ty = |c: &usize| schema.field(*c).data_type().clone();
        let types = |columns: &[usize]| columns.iter().map(ty).collect::<Vec<_>>();
        let from_key =
            |c: &usize| if order.is_empty() && is_exact(schema.field(*c).data_type()) { keys.iter().position(|k| k == c) } else { None };
        let stored: Vec<usize> = (0..columns).filter(|c| from_key(c).is_none()).collect();
        let before = if order.is_empty() { keys.len() } else { 0 };
        let in_row = |c: usize| before + stored.iter().position(|s| *s == c).unwrap_or(0);
        let places = (0..columns).map(|c| from_key(&c).unwrap_or_else(|| in_row(c))).collect();
        let decoded = if order.is_empty() { [types(&keys), types(&stored)].concat() } else { types(&stored) };
        let order = if order.is_empty() {
            None
        } else {
            let codec = OrderCodec::new(order.iter().map(|(c, order)| (ty(c), *order)).collect())?;
            Some((order.into_iter().map(|(c, _)| c).collect(), codec))
        };
        Ok(RowLayout {
            columns,
            key_codec: KeyCodec::new(types(&keys))?,
            stored_codec: KeyCodec::exact(types(&stored))?,
            decoder: KeyCodec::exact(decoded)?,
            keys,
            order,
            stored,
            places,
        })
    }

    pub fn keys(&self) -> &[usize] {
        &self.keys
    }

    pub fn encode(&self, rows: &RecordBatch, out: &mut EncodedRows) {
        let of = |columns: &[usize]| columns.iter().map(|c| rows.column(*c).clone()).collect::<Vec<ArrayRef>>();
        self.key_codec.encode(&of(&self.keys), rows.num_rows(), &mut out.keys);
        if let Some((columns, codec)) = &self.order {
            codec.encode(&of(columns), rows.num_rows(), &mut out.orders);
        }
        self.stored_codec.encode(&of(&self.stored), rows.num_rows(), &mut out.rows);
    }

    /// What `encode` made, for `KeyedRows::add`.
    pub fn batch<'a>(&self, rows: &'a EncodedRows, weights: Option<&'a [i64]>) -> RowBatch<'a> {
        RowBatch { keys: &rows.keys, orders: self.order.as_ref().map(|_| &rows.orders), rows: &rows.rows, weights }
    }

    /// The columns of a chunk's rows, in the order of the schema.
    pub fn columns(&self, chunk: &RowChunk) -> Result<Vec<ArrayRef>> {
        self.decoded((0..chunk.len()).map(|at| self.stored(chunk, at)))
    }

    /// What of a chunk's row `decode` needs.
    pub fn stored<'a>(&self, chunk: &'a RowChunk, at: usize) -> &'a [u8] {
        match self.order {
            None => chunk.key(at),
            Some(_) => chunk.row(at),
        }
    }

    /// The columns of rows that are as `stored` gives them.
    pub fn decode(&self, rows: &KeyRows) -> Result<Vec<ArrayRef>> {
        self.decoded(rows.iter())
    }

    fn decoded<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let decoded = self.decoder.decode(rows)?;
        Ok((0..self.columns).map(|column| decoded[self.places[column]].clone()).collect())
    }
}

/// Whether equal keys come from equal values only.
fn is_exact(ty: &DataType) -> bool {
    !ty.is_floating() && !ty.is_nested()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use eddyline_common::StateTableId;
    use eddyline_storage::kv::MemoryKv;
    use eddyline_storage::state::{KeyedRows, Residency, RowShape, Shards, SpillGate, StateSpace};
    use std::sync::Arc;

    #[test]
    fn rows_come_back_as_they_were() {
        let fields = [("a", DataType::Float64), ("b", DataType::Utf8), ("c", DataType::Int64)];
        let schema = Arc::new(Schema::new(fields.map(|(name, ty)| Field::new(name, ty, true)).to_vec()));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), None])),
            Arc::new(StringArray::from(vec![Some("x\0y"), None, Some("")])),
            Arc::new(Int64Array::from(vec![Some(1), Some(2), None])),
        ];
        let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let descending = ColumnOrder { descending: true, nulls_first: false };
        for (keys, order) in [(vec![0], vec![]), (vec![2, 1], vec![]), (vec![], vec![]), (vec![1], vec![(2, descending)])] {
            let space = StateSpace::open(
                StateTableId(1),
                Arc::new(MemoryKv::default()),
                Arc::new(SpillGate::new()),
                0,
                1,
                Residency::Resident,
                false,
            );
            let shape = RowShape { ordered: !order.is_empty(), ..RowShape::default() };
            let mut table = KeyedRows::open(&space.unwrap(), 0, shape).unwrap();
            let layout = RowLayout::new(&schema, keys.clone(), order).unwrap();
            let mut encoded = EncodedRows::default();
            layout.encode(&rows, &mut encoded);
            table.add(layout.batch(&encoded, None), Shards::OfKey).unwrap();
            let mut chunk = RowChunk::default();
            (0..3).for_each(|touched| table.push_touched(touched, &mut chunk));
            let back = RecordBatch::try_new(schema.clone(), layout.columns(&chunk).unwrap()).unwrap();
            assert_eq!(back, rows);
            let mut heads = Vec::new();
            table.lookup(&encoded.keys, Shards::OfKey, &mut heads).unwrap();
            assert_eq!(heads[0] == heads[1], keys == [0] || keys.is_empty(), "0.0 and -0.0 are one key");
        }
    }
}
