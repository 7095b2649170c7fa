//! The rows of a piece that count for a function: those that its filter lets pass, and of these those with a value where nulls are
//! ignored. It knows positions; what is made of the rows it does not.

use super::piece::Piece;
use arrow::array::{Array, ArrayRef, AsArray};

pub(super) struct Counted {
    /// The buffer's row of each of them.
    rows: Vec<u32>,
    /// How many of them are before each position of the piece, and in all.
    before: Vec<u32>,
}

impl Counted {
    /// `filter`: a column of booleans.
    pub(super) fn new(piece: &Piece, argument: &ArrayRef, filter: Option<&ArrayRef>, skip_nulls: bool) -> Self {
        let nulls = argument.logical_nulls().filter(|_| skip_nulls);
        let filter = filter.map(|f| f.as_boolean());
        let counts = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row)) && filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        let (mut rows, mut before) = (Vec::with_capacity(piece.len()), Vec::with_capacity(piece.len() + 1));
        for row in &piece.rows {
            before.push(rows.len() as u32);
            if counts(*row as usize) {
                rows.push(*row);
            }
        }
        before.push(rows.len() as u32);
        Counted { rows, before }
    }

    /// The buffer's rows of those from one position up to another, without it.
    pub(super) fn between(&self, from: usize, to: usize) -> &[u32] {
        &self.rows[self.before[from] as usize..self.before[to] as usize]
    }
}
