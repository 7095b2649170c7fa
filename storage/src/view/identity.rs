//! A row's identity: the columns that tell live rows apart, and their 128-bit hash, which stands for them.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use eddyline_common::Result;
use eddyline_common::key::{self, KeyCodec, KeyRows};

#[derive(Clone, Debug)]
pub(super) struct Identity {
    columns: Vec<usize>,
    codec: KeyCodec,
}

impl Identity {
    pub(super) fn new(schema: &SchemaRef, columns: Vec<usize>) -> Result<Self> {
        let codec = KeyCodec::rows(columns.iter().map(|c| schema.field(*c).data_type().clone()).collect())?;
        Ok(Identity { columns, codec })
    }

    pub(super) fn codec(&self) -> &KeyCodec {
        &self.codec
    }

    pub(super) fn hashes(&self, rows: &RecordBatch) -> Vec<u128> {
        let mut keys = KeyRows::default();
        self.encode(rows, &mut keys);
        keys.iter().map(key::hash128).collect()
    }

    /// Hashes of key columns that stand alone.
    pub(super) fn hashes_of(&self, columns: &[ArrayRef], rows: usize) -> Vec<u128> {
        let mut keys = KeyRows::default();
        self.codec.encode(columns, rows, &mut keys);
        keys.iter().map(key::hash128).collect()
    }

    pub(super) fn encode(&self, rows: &RecordBatch, keys: &mut KeyRows) {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| rows.column(*c).clone()).collect();
        self.codec.encode(&columns, rows.num_rows(), keys);
    }
}
