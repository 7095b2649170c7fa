//! Rows of columns encoded as bytes that compare as an ORDER BY says: each column ascending or descending, with its nulls
//! first or last. It is durable as part of state keys; it cannot be decoded.
//!
//! A column is `common::key`'s form of it with another tag for a null that is last (2), and complemented after the tag if it
//! descends. No column's form is the beginning of another of its form, so the forms of several columns can follow each other.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::{Result, SqlError};
use eddyline_planner::plan::OrderKey;

const NULL: u8 = 0;
const NULL_LAST: u8 = 2;

pub struct OrderCodec {
    columns: Vec<(OrderKey, KeyCodec)>,
    encoded: Vec<KeyRows>,
}

impl OrderCodec {
    /// An order of rows of `input`. Fails with 0A000 for a type that has none.
    pub fn new(order: &[OrderKey], input: &SchemaRef) -> Result<Self> {
        let column = |key: &OrderKey| {
            let field = input.fields().get(key.column).ok_or_else(|| SqlError::internal("an order does not fit its input"))?;
            Ok((*key, KeyCodec::new(vec![field.data_type().clone()])?))
        };
        let columns = order.iter().map(column).collect::<Result<Vec<_>>>()?;
        Ok(OrderCodec { encoded: vec![KeyRows::default(); columns.len()], columns })
    }

    /// Encodes the order columns of a batch, to be taken by `put`.
    pub fn encode(&mut self, rows: &RecordBatch) {
        for ((key, codec), encoded) in self.columns.iter().zip(&mut self.encoded) {
            let column: &ArrayRef = rows.column(key.column);
            codec.encode(std::slice::from_ref(column), rows.num_rows(), encoded);
        }
    }

    /// Appends the form of one row of the batch that was encoded last.
    pub fn put(&self, row: usize, out: &mut Vec<u8>) {
        for ((key, _), encoded) in self.columns.iter().zip(&self.encoded) {
            match encoded.row(row).split_first() {
                Some((&NULL, _)) => out.push(if key.nulls_first { NULL } else { NULL_LAST }),
                Some((tag, value)) => {
                    out.push(*tag);
                    if key.descending {
                        out.extend(value.iter().map(|byte| !byte));
                    } else {
                        out.extend_from_slice(value);
                    }
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::schema;
    use arrow::array::{Int64Array, StringArray};
    use eddyline_common::SqlType;
    use std::sync::Arc;

    #[test]
    fn bytes_compare_as_the_order_says() {
        let schema = schema(&[("a", SqlType::Text), ("b", SqlType::BigInt)]);
        let a = StringArray::from(vec![Some("x"), Some("x"), None, Some(""), Some("xy"), Some("x"), None]);
        let b = Int64Array::from(vec![Some(1), None, Some(1), Some(-5), Some(0), Some(-1), Some(2)]);
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(a), Arc::new(b)]).unwrap();
        let sorted = |order: &[OrderKey]| {
            let mut codec = OrderCodec::new(order, &schema).unwrap();
            codec.encode(&rows);
            let mut keys: Vec<(Vec<u8>, usize)> = (0..rows.num_rows())
                .map(|row| {
                    let mut key = Vec::new();
                    codec.put(row, &mut key);
                    (key, row)
                })
                .collect();
            keys.sort();
            keys.into_iter().map(|(_, row)| row).collect::<Vec<_>>()
        };
        let key = |column, descending, nulls_first| OrderKey { column, descending, nulls_first };
        assert_eq!(sorted(&[key(0, false, false), key(1, false, false)]), [3, 5, 0, 1, 4, 2, 6]);
        assert_eq!(sorted(&[key(0, true, true), key(1, true, true)]), [6, 2, 4, 1, 0, 5, 3]);
        assert_eq!(sorted(&[key(0, true, false), key(1, false, true)]), [4, 1, 5, 0, 3, 2, 6]);
    }
}
