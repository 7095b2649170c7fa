//! Scan: the entry of a relation's changelog into a plan. Projects stored columns and gives them the node's names. Rows are rejected that lack
//! a value here because their source could not read it.

use crate::operator::{Operator, StepContext};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use eddyline_common::connector::missing_values;
use eddyline_common::{ChangeBatch, Result, SqlError, TaggedBatch, Timestamp};

pub struct Scan {
    projection: Vec<usize>,
    output: SchemaRef,
}

impl Scan {
    /// `stored` is what the relation's batches carry.
    pub fn new(projection: Vec<usize>, stored: &SchemaRef, output: SchemaRef) -> Result<Self> {
        let types_agree = projection.len() == output.fields().len()
            && projection
                .iter()
                .zip(output.fields())
                .all(|(i, field)| stored.fields().get(*i).is_some_and(|stored| stored.data_type() == field.data_type()));
        if !types_agree {
            return Err(SqlError::internal("a scan does not fit the stored columns of its relation"));
        }
        Ok(Scan { projection, output })
    }
}

impl Operator for Scan {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        let rows = &batch.changes.rows;
        let columns = self.projection.iter().map(|i| rows.column(*i).clone()).collect();
        let changes = batch.changes.with_rows(assemble(&self.output, columns, rows.num_rows())?);
        if let Some(why) = self.projection.iter().find_map(|i| missing_values(rows.schema_ref(), *i)) {
            return ctx.reject(changes, SqlError::corrupt(why));
        }
        ctx.emit_tagged(TaggedBatch { changes, ..batch });
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, _ctx: &mut StepContext) -> Result<()> {
        Ok(())
    }
}

/// A batch of `columns` under `schema`, which may have none.
pub(crate) fn assemble(schema: &SchemaRef, columns: Vec<arrow::array::ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(SqlError::internal)
}

/// The same columns under another schema (names, nullability).
pub(crate) fn rename(changes: ChangeBatch, schema: &SchemaRef) -> Result<ChangeBatch> {
    if changes.rows.schema_ref() == schema {
        return Ok(changes);
    }
    let rows = assemble(schema, changes.rows.columns().to_vec(), changes.num_rows())?;
    Ok(changes.with_rows(rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, context, rows_of, schema};
    use eddyline_common::SqlType;
    use eddyline_common::connector::without_values;

    #[test]
    fn projects_and_renames() {
        let stored = schema(&[("a", SqlType::BigInt), ("b", SqlType::BigInt)]);
        let output = schema(&[("x", SqlType::BigInt)]);
        let mut scan = Scan::new(vec![1], &stored, output.clone()).unwrap();
        let mut ctx = context();
        scan.push(0, batch(&stored, &[&[1, 2], &[3, 4]], 7), &mut ctx).unwrap();
        let out = ctx.take_output();
        assert_eq!(out[0].changes.schema(), output);
        assert_eq!(out[0].arrival_watermark, Timestamp(7));
        assert_eq!(rows_of(&out), vec![(vec![2], 1), (vec![4], 1)]);
    }

    #[test]
    fn rows_without_a_value_that_is_read_are_rejected() {
        let stored = schema(&[("a", SqlType::BigInt), ("b", SqlType::BigInt)]);
        let mut rows = batch(&stored, &[&[1, 2], &[3, 4]], 0);
        let lacking = without_values(&stored, [(1, "column b: it is damaged".to_string())].into_iter());
        rows.changes.rows = rows.changes.rows.with_schema(lacking).unwrap();
        for (column, emitted) in [(0, 2), (1, 0)] {
            let mut ctx = context();
            let mut scan = Scan::new(vec![column], &stored, schema(&[("x", SqlType::BigInt)])).unwrap();
            scan.push(0, rows.clone(), &mut ctx).unwrap();
            assert_eq!(ctx.take_output().iter().map(|b| b.changes.num_rows()).sum::<usize>(), emitted);
            let rejected = ctx.take_rejected();
            assert_eq!(rejected.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>(), 2 - emitted);
            assert!(rejected.iter().all(|(why, _)| why == "column b: it is damaged"));
        }
    }

    #[test]
    fn keeps_the_count_of_rows_without_columns() {
        let stored = schema(&[("a", SqlType::BigInt)]);
        let mut scan = Scan::new(vec![], &stored, schema(&[])).unwrap();
        let mut ctx = context();
        scan.push(0, batch(&stored, &[&[1], &[3]], 0), &mut ctx).unwrap();
        assert_eq!(ctx.take_output()[0].changes.num_rows(), 2);
    }

    #[test]
    fn refuses_other_types() {
        let stored = schema(&[("a", SqlType::BigInt)]);
        assert!(Scan::new(vec![0], &stored, schema(&[("a", SqlType::Text)])).is_err());
        assert!(Scan::new(vec![1], &stored, schema(&[("a", SqlType::BigInt)])).is_err());
    }
}
