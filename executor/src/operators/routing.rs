//! Which virtual shard a row's state belongs to: that of the exchange which sent the row to this worker, so that state can be
//! split anew when parallelism changes.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use eddyline_common::Result;
use eddyline_common::key::{KeyCodec, KeyRows, hash64, vshard};
use std::cell::OnceCell;

pub struct Routing {
    /// The columns rows were exchanged by; `None`: the state's key itself.
    by: Option<(Vec<usize>, KeyCodec)>,
    keys: KeyRows,
}

impl Routing {
    /// `columns`: those rows were exchanged by; `key`: those that make the key of the state.
    pub fn new(columns: Vec<usize>, key: &[usize], input: &SchemaRef) -> Result<Self> {
        let types = columns.iter().map(|c| input.field(*c).data_type().clone()).collect();
        let by = if columns == key { None } else { Some((columns, KeyCodec::rows(types)?)) };
        Ok(Routing { by, keys: KeyRows::default() })
    }

    /// As `new`, for a state that is not keyed by columns.
    pub fn by(columns: Vec<usize>, input: &SchemaRef) -> Result<Self> {
        let types = columns.iter().map(|c| input.field(*c).data_type().clone()).collect();
        Ok(Routing { by: Some((columns, KeyCodec::rows(types)?)), keys: KeyRows::default() })
    }

    /// The shards of a batch's rows, whose keys are `keys`.
    pub fn shards(&mut self, rows: &RecordBatch, keys: &KeyRows, out: &mut Vec<u8>) {
        let routed = match &self.by {
            None => keys,
            Some((columns, codec)) => {
                encode(columns, codec, rows, &mut self.keys);
                &self.keys
            }
        };
        out.clear();
        out.extend(routed.iter().map(|key| vshard(hash64(key))));
    }

    /// The same of single rows, for a state that asks for few or none of them; `None` if that of the state's key is meant.
    pub fn shard<'a>(&'a self, rows: &'a RecordBatch) -> Option<impl Fn(usize) -> u8 + 'a> {
        let (columns, codec) = self.by.as_ref()?;
        let routed = OnceCell::new();
        Some(move |row: usize| {
            let keys: &KeyRows = routed.get_or_init(|| {
                let mut keys = KeyRows::default();
                encode(columns, codec, rows, &mut keys);
                keys
            });
            vshard(hash64(keys.row(row)))
        })
    }
}

fn encode(columns: &[usize], codec: &KeyCodec, rows: &RecordBatch, out: &mut KeyRows) {
    let columns: Vec<ArrayRef> = columns.iter().map(|c| rows.column(*c).clone()).collect();
    codec.encode(&columns, rows.num_rows(), out);
}
