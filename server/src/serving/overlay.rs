//! A transaction's own effects on one table, laid over what the view store shows: what its later statements see.
//! Keyed tables are overlaid by key, keyless ones by row with a weight. It knows nothing of how rows are
//! read or committed.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Result, SqlError};
use eddyline_planner::Relation;
use hashbrown::HashMap;

/// Where an overlaid row is: batch and row.
type Place = (u32, u32);

#[derive(Clone)]
pub struct Overlay {
    schema: SchemaRef,
    /// The key, or every column of a keyless table.
    columns: Vec<usize>,
    keyed: bool,
    codec: KeyCodec,
    batches: Vec<RecordBatch>,
    /// Keyed: the row's present place, or `None` for a deleted one. Keyless: its place and net weight.
    rows: HashMap<Vec<u8>, (Option<Place>, i64)>,
}

impl Overlay {
    pub fn new(relation: &Relation) -> Result<Self> {
        let schema = arrow_schema(&relation.columns);
        let keyed = !relation.key.is_empty();
        let columns = if keyed { relation.key.clone() } else { (0..relation.columns.len()).collect() };
        let codec = KeyCodec::rows(columns.iter().map(|c| schema.field(*c).data_type().clone()).collect())?;
        Ok(Overlay { schema, columns, keyed, codec, batches: Vec::new(), rows: HashMap::new() })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn encode(&self, rows: &RecordBatch) -> KeyRows {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| rows.column(*c).clone()).collect();
        let mut keys = KeyRows::default();
        self.codec.encode(&columns, rows.num_rows(), &mut keys);
        keys
    }

    /// Adds a statement's effects: -1 old, +1 new.
    pub fn apply(&mut self, changes: &ChangeBatch) -> Result<()> {
        let keys = self.encode(&changes.rows);
        let batch = u32::try_from(self.batches.len()).map_err(SqlError::internal)?;
        self.batches.push(changes.rows.clone());
        // Retractions first, so that an update leaves the new row whatever the order in the batch.
        for retractions in [true, false] {
            for row in 0..changes.num_rows() {
                let weight = changes.weight(row);
                if (weight < 0) != retractions {
                    continue;
                }
                let entry = self.rows.entry_ref(keys.row(row)).or_insert((None, 0));
                entry.1 += weight;
                if weight > 0 {
                    entry.0 = Some((batch, row as u32));
                } else if self.keyed {
                    entry.0 = None;
                } else {
                    entry.0 = entry.0.or(Some((batch, row as u32)));
                }
            }
        }
        Ok(())
    }

    /// The batches from `first` on, all of which only added rows, are `merged` now: their rows, one batch after the other.
    pub fn merge(&mut self, first: usize, merged: &RecordBatch) {
        self.batches.truncate(first);
        self.batches.push(merged.clone());
        // Of rows that are alike the last one counts, as it did.
        for (row, key) in self.encode(merged).iter().enumerate() {
            if let Some((place, _)) = self.rows.get_mut(key) {
                *place = Some((first as u32, row as u32));
            }
        }
    }

    /// Keyed tables: `None` if the transaction has not touched the key, else the row's place if it is there.
    pub fn get(&self, key: &[u8]) -> Option<Option<Place>> {
        self.rows.get(key).map(|(place, _)| *place)
    }

    pub fn row(&self, place: Place) -> RecordBatch {
        self.batches[place.0 as usize].slice(place.1 as usize, 1)
    }

    /// Rows of the base table that the transaction has not replaced or deleted. `deleted` counts, for a keyless
    /// table, what is still to be taken away; one map serves one whole scan.
    pub fn filter_base(&self, base: &RecordBatch, deleted: &mut HashMap<Vec<u8>, i64>) -> Result<RecordBatch> {
        let keys = self.encode(base);
        let keep: BooleanArray = keys
            .iter()
            .map(|key| {
                if self.keyed {
                    return Some(!self.rows.contains_key(key));
                }
                match self.rows.get(key) {
                    Some((_, net)) if *net < 0 => {
                        let taken = deleted.entry_ref(key).or_insert(0);
                        let gone = *taken < -net;
                        *taken += gone as i64;
                        Some(!gone)
                    }
                    _ => Some(true),
                }
            })
            .collect();
        Ok(arrow::compute::filter_record_batch(base, &keep)?)
    }

    /// The rows that the transaction has put in.
    pub fn added(&self) -> Result<RecordBatch> {
        let mut places: Vec<Place> = Vec::new();
        for (place, net) in self.rows.values() {
            let copies = if self.keyed { 1 } else { (*net).max(0) };
            places.extend(place.iter().flat_map(|p| std::iter::repeat_n(*p, copies as usize)));
        }
        places.sort_unstable();
        self.gather(&places)
    }

    fn gather(&self, places: &[Place]) -> Result<RecordBatch> {
        let mut parts = Vec::new();
        for group in places.chunk_by(|a, b| a.0 == b.0) {
            let rows = UInt32Array::from_iter_values(group.iter().map(|p| p.1));
            parts.push(arrow::compute::take_record_batch(&self.batches[group[0].0 as usize], &rows)?);
        }
        Ok(arrow::compute::concat_batches(&self.schema, &parts)?)
    }

    /// Effects of several statements as one net batch: what one put in and another took out again is left
    /// out. Identity is the whole row.
    pub fn net(&self, changes: &[ChangeBatch]) -> Result<Option<ChangeBatch>> {
        let all = ChangeBatch::concat(&self.schema, changes)?;
        if all.weights.is_none() {
            return Ok(Some(all));
        }
        let codec = KeyCodec::rows(self.schema.fields().iter().map(|f| f.data_type().clone()).collect())?;
        let mut keys = KeyRows::default();
        codec.encode(all.rows.columns(), all.num_rows(), &mut keys);
        let mut net: HashMap<&[u8], (u32, i64)> = HashMap::with_capacity(keys.len());
        for row in 0..all.num_rows() {
            net.entry(keys.row(row)).or_insert((row as u32, 0)).1 += all.weight(row);
        }
        let mut left: Vec<(u32, i64)> = net.into_values().filter(|(_, weight)| *weight != 0).collect();
        left.sort_unstable();
        let rows = arrow::compute::take_record_batch(&all.rows, &UInt32Array::from_iter_values(left.iter().map(|l| l.0)))?;
        Ok(Some(ChangeBatch::with_weights(rows, Int64Array::from_iter_values(left.iter().map(|l| l.1)))))
    }
}
