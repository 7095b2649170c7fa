//! Rows of a step for whose groups there is no room. As long as state fits, all groups of a step are in memory. When it does not, the groups that
//! the step has touched go on, and rows of all others are set aside, in parts by their keys. At the end of the step, when what is there has been
//! told of and may leave memory, one part after the other is taken in, told of, and may leave. So each group is told of once, with all its rows, and
//! a step needs memory for a part of its groups, however many rows come of it.

use super::{Aggregate, Multiset, Ordered, SLICE_ROWS};
use crate::operator::Operator;
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use eddyline_common::key::hash64;
use eddyline_common::{ChangeBatch, Result, SqlError};
use eddyline_storage::state::{Aside, StateSpace};
use std::sync::Arc;

/// So many that each has a fraction of the groups even of a step that makes a hundred times its input.
const PARTS: u8 = if cfg!(test) { 8 } else { 64 };
/// Rows of a part that become a record.
const RECORD_ROWS: usize = if cfg!(test) { 5 } else { 4096 };
/// Records in memory.
const RECORD_BYTES: usize = if cfg!(test) { 20_000 } else { 16 << 20 };

pub(super) struct SetAside {
    records: Aside,
    input: SchemaRef,
    /// By part: rows that are no record yet.
    pieces: Vec<Vec<ChangeBatch>>,
    is_begun: bool,
}

impl SetAside {
    pub(super) fn new(space: &StateSpace, input: SchemaRef) -> Self {
        let pieces = vec![Vec::new(); PARTS as usize];
        SetAside { records: Aside::new(space, PARTS, RECORD_BYTES), input, pieces, is_begun: false }
    }

    /// Sets the rows aside that have a part.
    fn add(&mut self, changes: &ChangeBatch, part: impl Fn(usize) -> Option<u8>) -> Result<()> {
        self.is_begun = true;
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); PARTS as usize];
        for row in 0..changes.num_rows() {
            if let Some(part) = part(row) {
                rows[part as usize].push(row as u32);
            }
        }
        for (part, rows) in (0..PARTS).zip(rows).filter(|(_, rows)| !rows.is_empty()) {
            let pieces = &mut self.pieces[part as usize];
            pieces.push(changes.take(&UInt32Array::from(rows))?);
            if pieces.iter().map(ChangeBatch::num_rows).sum::<usize>() >= RECORD_ROWS {
                self.pack(part)?;
            }
        }
        Ok(())
    }

    fn pack(&mut self, part: u8) -> Result<()> {
        let pieces = std::mem::take(&mut self.pieces[part as usize]);
        if !pieces.is_empty() {
            self.records.push(part, &encode(&ChangeBatch::concat(&self.input, &pieces)?)?);
        }
        Ok(())
    }

    fn next_part(&mut self) -> Result<Option<Vec<ChangeBatch>>> {
        (0..PARTS).try_for_each(|part| self.pack(part))?;
        let Some(records) = self.records.next_part()? else {
            self.is_begun = false;
            return Ok(None);
        };
        records.iter().map(|record| decode(record, &self.input)).collect::<Result<_>>().map(Some)
    }
}

impl Aggregate {
    /// The rows that are taken in now: without those that are set aside.
    pub(super) fn set_aside(&mut self, changes: ChangeBatch) -> Result<ChangeBatch> {
        if !self.aside.is_begun && !self.is_full() {
            return Ok(changes);
        }
        self.encode(&changes);
        let Aggregate { aside, keys, table, memo, .. } = self;
        let is_touched = |row: usize| table.find(keys.row(row)).is_some_and(|slot| memo.has(slot));
        let touched = BooleanBuffer::collect_bool(changes.num_rows(), is_touched);
        aside.add(&changes, |row| (!touched.value(row)).then(|| part_of(keys.row(row))))?;
        aside.records.spill(table.may_write())?;
        Ok(changes.filter(&BooleanArray::new(touched, None))?)
    }

    /// A step that touches few groups needs no look at the memory of all.
    fn is_full(&mut self) -> bool {
        !self.group.is_empty()
            && self.memo.rows() >= SLICE_ROWS
            && (self.table.is_full(&self.values)
                || self.multisets.iter_mut().any(Multiset::is_full)
                || self.ordered.iter_mut().any(Ordered::is_full))
    }

    /// Takes in the next part of what was set aside, now that nothing of the step is held; false if there is none.
    pub(super) fn take_aside(&mut self) -> Result<bool> {
        if !self.aside.is_begun {
            return Ok(false);
        }
        self.shrink()?;
        let part = self.aside.next_part()?;
        for changes in part.iter().flatten() {
            self.take(changes)?;
        }
        Ok(part.is_some())
    }
}

/// By other bits than those that say which worker has the key.
fn part_of(key: &[u8]) -> u8 {
    (hash64(key) >> 32) as u8 % PARTS
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
