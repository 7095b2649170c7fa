//! Unnest: a row for each element of its lists, which go side by side, the shorter ones filled with nulls; the other columns stay as
//! they are, and so does the weight. A row without elements has none. It keeps nothing: a row's retraction takes back what the row gave.

use crate::operator::{Operator, StepContext};
use crate::operators::scan::assemble;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use eddyline_common::{ChangeBatch, Result, SqlError, TaggedBatch, Timestamp};

/// Rows that leave together.
const OUTPUT_ROWS: usize = if cfg!(test) { 3 } else { 16 * 1024 };

pub struct Unnest {
    lists: Vec<usize>,
    output: SchemaRef,
}

/// Where output rows come from.
struct Piece {
    rows: Vec<u32>,
    /// By list: positions among its elements.
    elements: Vec<Vec<Option<u32>>>,
}

impl Unnest {
    pub fn new(lists: Vec<usize>, input: &SchemaRef, output: SchemaRef) -> Result<Self> {
        let fits = |(at, field): (usize, &arrow::datatypes::FieldRef)| {
            let given = input.field(at).data_type();
            match given {
                DataType::List(element) if lists.contains(&at) => element.data_type() == field.data_type(),
                given => !lists.contains(&at) && given == field.data_type(),
            }
        };
        if input.fields().len() != output.fields().len() || lists.is_empty() || !output.fields().iter().enumerate().all(fits) {
            return Err(SqlError::internal("an unnest does not fit the columns of its input"));
        }
        Ok(Unnest { lists, output })
    }

    fn emit(&self, batch: &TaggedBatch, lists: &[&ListArray], piece: Piece, ctx: &mut StepContext) -> Result<()> {
        let Piece { rows, elements } = piece;
        let changes = &batch.changes;
        let weights = changes.weights.as_ref().map(|w| rows.iter().map(|row| w.value(*row as usize)).collect::<Int64Array>());
        let (count, rows) = (rows.len(), UInt32Array::from(rows));
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(changes.rows.num_columns());
        for (at, column) in changes.rows.columns().iter().enumerate() {
            columns.push(match self.lists.iter().position(|list| *list == at) {
                Some(list) => take(lists[list].values(), &UInt32Array::from(elements[list].clone()), None)?,
                None => take(column, &rows, None)?,
            });
        }
        let rows = assemble(&self.output, columns, count)?;
        let changes = match weights {
            Some(weights) => ChangeBatch::with_weights(rows, weights),
            None => ChangeBatch::insertions(rows),
        };
        ctx.emit_tagged(TaggedBatch { changes, arrival_watermark: batch.arrival_watermark, now: batch.now });
        Ok(())
    }
}

impl Operator for Unnest {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        let of = |at: &usize| batch.changes.rows.column(*at).as_list_opt::<i32>();
        let lists: Vec<&ListArray> = self
            .lists
            .iter()
            .map(of)
            .collect::<Option<_>>()
            .ok_or_else(|| SqlError::internal("an unnest is over a column that is no list"))?;
        let empty = || Piece { rows: Vec::new(), elements: vec![Vec::new(); lists.len()] };
        let length = |list: &ListArray, row: usize| if list.is_null(row) { 0 } else { list.value_length(row) as usize };
        let mut piece = empty();
        for row in 0..batch.changes.num_rows() {
            let longest = lists.iter().map(|list| length(list, row)).max().unwrap_or(0);
            for element in 0..longest {
                piece.rows.push(row as u32);
                for (list, elements) in lists.iter().zip(&mut piece.elements) {
                    let there = element < length(list, row);
                    elements.push(there.then(|| list.value_offsets()[row] as u32 + element as u32));
                }
                if piece.rows.len() >= OUTPUT_ROWS {
                    self.emit(&batch, &lists, std::mem::replace(&mut piece, empty()), ctx)?;
                }
            }
        }
        if !piece.rows.is_empty() {
            self.emit(&batch, &lists, piece, ctx)?;
        }
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, _ctx: &mut StepContext) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, net, schema};
    use arrow::array::RecordBatch;
    use arrow::datatypes::Int64Type;
    use eddyline_common::SqlType;
    use std::sync::Arc;

    #[test]
    fn lists_go_side_by_side_with_the_weight_of_their_row() {
        let list = || SqlType::Array(Box::new(SqlType::BigInt));
        let input = schema(&[("k", SqlType::BigInt), ("a", list()), ("b", list())]);
        let output = schema(&[("k", SqlType::BigInt), ("a", SqlType::BigInt), ("b", SqlType::BigInt)]);
        let of = |rows: Vec<Option<Vec<i64>>>| {
            let rows = rows.into_iter().map(|row| row.map(|row| row.into_iter().map(Some).collect::<Vec<_>>()));
            let list = ListArray::from_iter_primitive::<Int64Type, _, _>(rows);
            arrow::compute::cast(&list, input.field(1).data_type()).unwrap()
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
            of(vec![Some(vec![10, 11, 12, 13]), Some(vec![]), None, Some(vec![40])]),
            of(vec![Some(vec![20, 21, 22, 23]), None, Some(vec![]), Some(vec![41])]),
        ];
        let rows = RecordBatch::try_new(input.clone(), columns).unwrap();
        let changes = ChangeBatch::with_weights(rows, Int64Array::from(vec![2, 1, 1, -1]));
        let mut unnest = Unnest::new(vec![1, 2], &input, output).unwrap();
        let mut ctx = context();
        unnest.push(0, TaggedBatch { changes, arrival_watermark: Timestamp(5), now: Timestamp(6) }, &mut ctx).unwrap();
        let out = ctx.take_output();
        assert!(out.iter().all(|batch| batch.arrival_watermark == Timestamp(5) && batch.now == Timestamp(6)));
        let expected = [(vec![1, 10, 20], 2), (vec![1, 11, 21], 2), (vec![1, 12, 22], 2), (vec![1, 13, 23], 2), (vec![4, 40, 41], -1)];
        assert_eq!(net(&out), expected);
    }
}
