//! Rows of a step for whose keys an operator has no room. As long as state fits, all keys that a step touches are in memory. When it does not, the
//! keys that it has touched go on, and rows of all others are set aside, in parts by their keys. At the end of the step, when what is there has
//! been told of and may leave memory, one part after the other is taken in, told of, and may leave. So each key is told of once, with all its
//! rows, and a step needs memory for a part of its keys, however many rows come to it. It knows nothing of what its operator makes of rows.

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use eddyline_common::key::{KeyRows, hash64};
use eddyline_common::{ChangeBatch, Result, SqlError};
use eddyline_storage::state::{Aside, StateSpace};
use std::sync::Arc;

/// A step that touches fewer keys needs no look at the memory of all.
pub(super) const TOUCHED_MIN: usize = if cfg!(test) { 7 } else { 8 * 1024 };

/// So many that each has a fraction of the keys even of a step that makes a hundred times its input.
const PARTS: usize = if cfg!(test) { 8 } else { 64 };
/// Rows of a part that become a record, in number and in bytes: what all parts have that is no record yet is bounded by it.
const RECORD_ROWS: usize = if cfg!(test) { 5 } else { 4096 };
const RECORD_BYTES: usize = 256 << 10;
/// What an array takes beside its values: a batch may have few rows for each part.
const ARRAY_BYTES: usize = 256;
/// Records in memory.
const MEMORY_BYTES: usize = if cfg!(test) { 20_000 } else { 16 << 20 };

pub(super) struct SetAside {
    records: Aside,
    /// By port.
    inputs: Vec<SchemaRef>,
    /// By part and port.
    loose: Vec<Loose>,
    is_begun: bool,
    /// The part that is taken in next.
    next: usize,
}

/// Rows of a part that are no record yet.
#[derive(Clone, Default)]
struct Loose {
    pieces: Vec<ChangeBatch>,
    rows: usize,
    bytes: usize,
}

impl Loose {
    /// True if they are enough for a record.
    fn add(&mut self, piece: ChangeBatch) -> bool {
        self.rows += piece.num_rows();
        self.bytes += piece.bytes() + piece.rows.num_columns() * ARRAY_BYTES;
        self.pieces.push(piece);
        self.rows >= RECORD_ROWS || self.bytes >= RECORD_BYTES
    }
}

impl SetAside {
    pub(super) fn new(space: &StateSpace, inputs: Vec<SchemaRef>) -> Self {
        let loose = vec![Loose::default(); PARTS * inputs.len()];
        SetAside { records: Aside::new(space, MEMORY_BYTES), inputs, loose, is_begun: false, next: 0 }
    }

    /// This step has set rows aside: it goes on with that, so that no key is both here and there.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Sets the rows aside whose keys the step has not touched; the others are returned. `may_write`: nothing forbids to give some to the store.
    pub(super) fn divide(
        &mut self,
        port: usize,
        changes: &ChangeBatch,
        keys: &KeyRows,
        is_touched: impl Fn(&[u8]) -> bool,
        may_write: bool,
    ) -> Result<ChangeBatch> {
        self.is_begun = true;
        let (mut touched, mut others) = (Vec::new(), vec![Vec::new(); PARTS]);
        for (row, key) in keys.iter().enumerate() {
            if is_touched(key) {
                touched.push(row as u32);
            } else {
                others[part_of(key)].push(row as u32);
            }
        }
        for (part, rows) in others.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let at = part * self.inputs.len() + port;
            if self.loose[at].add(changes.take(&UInt32Array::from(rows))?) {
                self.pack(at)?;
            }
        }
        self.records.spill(may_write)?;
        Ok(changes.take(&UInt32Array::from(touched))?)
    }

    /// The rows of the next part, with their ports; `None` after the last. Until then nothing is set aside.
    pub(super) fn next_part(&mut self) -> Result<Option<Vec<(usize, ChangeBatch)>>> {
        if !self.is_begun {
            return Ok(None);
        }
        (0..self.loose.len()).try_for_each(|at| self.pack(at))?;
        while self.next < PARTS {
            let first = self.next * self.inputs.len();
            self.next += 1;
            let mut part = Vec::new();
            for (port, input) in self.inputs.iter().enumerate() {
                for record in self.records.of_part((first + port) as u8)? {
                    part.push((port, decode(&record, input)?));
                }
            }
            if !part.is_empty() {
                return Ok(Some(part));
            }
        }
        self.records.clear()?;
        (self.is_begun, self.next) = (false, 0);
        Ok(None)
    }

    fn pack(&mut self, at: usize) -> Result<()> {
        let Loose { pieces, .. } = std::mem::take(&mut self.loose[at]);
        if !pieces.is_empty() {
            let changes = ChangeBatch::concat(&self.inputs[at % self.inputs.len()], &pieces)?;
            self.records.push(at as u8, &encode(&changes)?);
        }
        Ok(())
    }
}

/// By other bits than those that say which worker has the key.
fn part_of(key: &[u8]) -> usize {
    (hash64(key) >> 32) as usize % PARTS
}

fn encode(changes: &ChangeBatch) -> Result<Vec<u8>> {
    let mut fields: Vec<Arc<Field>> = changes.rows.schema_ref().fields().iter().cloned().collect();
    let mut columns = changes.rows.columns().to_vec();
    if let Some(weights) = &changes.weights {
        fields.push(Arc::new(Field::new("weight", DataType::Int64, false)));
        columns.push(Arc::new(weights.clone()) as ArrayRef);
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

fn decode(record: &[u8], input: &SchemaRef) -> Result<ChangeBatch> {
    let mut reader = StreamReader::try_new(record, None)?;
    let batch = reader.next().ok_or_else(|| SqlError::internal("what was set aside has no rows"))??;
    let (columns, weights) = batch.columns().split_at(input.fields().len());
    let rows = RecordBatch::try_new(input.clone(), columns.to_vec())?;
    Ok(match weights.first() {
        Some(weights) => ChangeBatch::with_weights(rows, weights.as_primitive::<Int64Type>().clone()),
        None => ChangeBatch::insertions(rows),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{changes_of, schema, weighted};
    use eddyline_common::key::KeyCodec;
    use eddyline_common::{SqlType, StateTableId};
    use eddyline_storage::kv::MemoryKv;
    use eddyline_storage::state::Residency;
    use std::collections::BTreeMap;

    type Row = (Vec<i64>, i64);

    /// Rows of two ports with the same keys.
    #[test]
    fn every_row_comes_back_in_the_part_of_its_key() {
        let inputs = [schema(&[("k", SqlType::BigInt)]), schema(&[("k", SqlType::BigInt), ("v", SqlType::BigInt)])];
        let kv = Arc::new(MemoryKv::new());
        let space = StateSpace::open(StateTableId(1), kv, Arc::default(), 0, 1, Residency::Resident, false).unwrap();
        let mut aside = SetAside::new(&space, inputs.to_vec());
        let codec = KeyCodec::new(vec![DataType::Int64]).unwrap();
        for round in 0..2 {
            let mut expected: [Vec<Row>; 2] = Default::default();
            for batch in 0..200 {
                let port = batch as usize % 2;
                let rows: Vec<Row> = (0..20)
                    .map(|i| {
                        let key = batch * i % 97;
                        (if port == 0 { vec![key] } else { vec![key, batch] }, if i % 3 == 0 { -1 } else { 2 })
                    })
                    .collect();
                let mut changes = weighted(&inputs[port], &rows, 0).changes;
                if batch % 7 == 0 {
                    changes = ChangeBatch::insertions(changes.rows);
                }
                let mut keys = KeyRows::default();
                codec.encode(&[changes.rows.column(0).clone()], 20, &mut keys);
                let is_touched = |key: &[u8]| hash64(key) % 5 == 0;
                let left = aside.divide(port, &changes, &keys, is_touched, round == 0).unwrap();
                let is_left = |row: &usize| is_touched(keys.row(*row));
                let kept: Vec<u32> = (0..20).filter(is_left).map(|row| row as u32).collect();
                assert_eq!(changes_of(&left), changes_of(&changes.take(&UInt32Array::from(kept)).unwrap()));
                let gone: Vec<u32> = (0..20).filter(|row| !is_left(row)).map(|row| row as u32).collect();
                expected[port].extend(changes_of(&changes.take(&UInt32Array::from(gone)).unwrap()));
            }
            let (mut found, mut seen): ([Vec<Row>; 2], BTreeMap<i64, usize>) = Default::default();
            let mut parts = 0;
            while let Some(part) = aside.next_part().unwrap() {
                for (port, changes) in part {
                    let rows = changes_of(&changes);
                    rows.iter().for_each(|(row, _)| assert_eq!(*seen.entry(row[0]).or_insert(parts), parts, "a key is in one part"));
                    found[port].extend(rows);
                }
                parts += 1;
            }
            assert!(parts > 1 && !aside.is_begun());
            for rows in expected.iter_mut().chain(&mut found) {
                rows.sort();
            }
            assert_eq!(found, expected);
        }
    }
}
