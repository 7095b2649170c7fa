//! A step's net changes by key: which rows are new, which replace another, which are gone. Keys are compared by their
//! encoded bytes.

use eddyline_common::{ChangeBatch, key};
use hashbrown::HashTable;
use std::ops::Range;

/// What happened to one key, by rows of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    New(usize),
    Replaced { old: usize, new: usize },
    Gone(usize),
}

/// The changes by key, those that are gone first. `key_of` gives each row's key within `keys`.
pub fn by_key(changes: &ChangeBatch, keys: &[u8], key_of: &[Range<usize>]) -> Vec<Change> {
    let bytes = |row: usize| &keys[key_of[row].clone()];
    let hash = |row: usize| key::hash64(bytes(row));
    let mut news: HashTable<(usize, Option<usize>)> = HashTable::new();
    let added = |row: &usize| changes.weight(*row) > 0;
    for row in (0..changes.num_rows()).filter(added) {
        news.insert_unique(hash(row), (row, None), |(other, _)| hash(*other));
    }
    let mut found = Vec::with_capacity(changes.num_rows());
    for row in (0..changes.num_rows()).filter(|row| changes.weight(*row) < 0) {
        match news.find_mut(hash(row), |(other, _)| bytes(*other) == bytes(row)) {
            Some((_, old)) => *old = Some(row),
            None => found.push(Change::Gone(row)),
        }
    }
    for row in (0..changes.num_rows()).filter(added) {
        let old = news.find(hash(row), |(other, _)| *other == row).and_then(|(_, old)| *old);
        found.push(old.map_or(Change::New(row), |old| Change::Replaced { old, new: row }));
    }
    found
}

/// The changes of rows without a key: each row as often as its weight says.
pub fn without_key(changes: &ChangeBatch) -> impl Iterator<Item = Change> + '_ {
    (0..changes.num_rows()).flat_map(|row| {
        let weight = changes.weight(row);
        let change = if weight < 0 { Change::Gone(row) } else { Change::New(row) };
        std::iter::repeat_n(change, weight.unsigned_abs() as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn batch(keys: &[i64], weights: &[i64]) -> ChangeBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, false)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(keys.to_vec()))]).unwrap();
        ChangeBatch::with_weights(rows, Int64Array::from(weights.to_vec()))
    }

    #[test]
    fn rows_of_a_key_come_together() {
        let changes = batch(&[1, 2, 3, 1, 4], &[-1, -1, 1, 1, 1]);
        let keys = b"12314".to_vec();
        let ranges: Vec<Range<usize>> = (0..5).map(|i| i..i + 1).collect();
        let found = by_key(&changes, &keys, &ranges);
        assert_eq!(found, [Change::Gone(1), Change::New(2), Change::Replaced { old: 0, new: 3 }, Change::New(4)]);
    }

    #[test]
    fn without_a_key_weights_repeat() {
        let changes = batch(&[1, 2], &[-2, 1]);
        assert_eq!(without_key(&changes).collect::<Vec<_>>(), [Change::Gone(0), Change::Gone(0), Change::New(1)]);
    }
}
