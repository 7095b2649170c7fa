//! One side of a comparison, before the step or after it: the functions' states, and how much is before the piece.

use super::call::{Base, Call, State};
use super::piece::Piece;
use crate::accumulators::Output;
use eddyline_common::Result;
use std::ops::Range;

pub(super) struct Side {
    base: Base,
    states: Vec<State>,
}

impl Side {
    /// At the first row of a partition, or of what is read of it.
    pub(super) fn new(calls: &[Call]) -> Result<Self> {
        Ok(Side { base: Base::default(), states: calls.iter().map(Call::start).collect::<Result<_>>()? })
    }

    pub(super) fn copy_from(&mut self, other: &Side) -> Result<()> {
        self.base = other.base;
        self.states.iter_mut().zip(&other.states).try_for_each(|(own, other)| own.copy_from(other))
    }

    /// The results of every function for some rows of the buffer.
    pub(super) fn results(&mut self, calls: &[Call], piece: &Piece, rows: Range<usize>) -> Result<Vec<Output>> {
        let at = piece.positions(rows);
        calls.iter().zip(&mut self.states).map(|(call, state)| call.results(state, piece, at.clone(), self.base)).collect()
    }

    /// The same without results.
    pub(super) fn advance(&mut self, calls: &[Call], piece: &Piece, rows: Range<usize>) -> Result<()> {
        let at = piece.positions(rows);
        calls.iter().zip(&mut self.states).try_for_each(|(call, state)| call.advance(state, piece, at.clone(), self.base))
    }

    /// The first row of the buffer that some function has not counted yet.
    pub(super) fn counted(&self, calls: &[Call], piece: &Piece) -> usize {
        let counted = calls.iter().zip(&self.states).filter_map(|(call, state)| state.counted(call));
        let first = counted.min().unwrap_or(piece.len());
        piece.rows.get(first).map_or(piece.buffer.len(), |row| *row as usize)
    }

    /// The buffer loses its first rows.
    pub(super) fn shift(&mut self, piece: &Piece, rows: usize) {
        let positions = piece.positions(0..rows).end;
        if let Some(last) = positions.checked_sub(1) {
            self.base.rows += positions as u64;
            self.base.groups += piece.groups[last] as u64;
            self.states.iter_mut().for_each(|state| state.shift(positions));
        }
    }

    /// Whether whatever follows has the same results on both sides.
    pub(super) fn is_same(&self, other: &Side, calls: &[Call]) -> bool {
        let counts = calls.iter().any(Call::counts_rows);
        let states = || calls.iter().zip(self.states.iter().zip(&other.states));
        (!counts || self.base == other.base) && states().all(|(call, (own, other))| own.is_same(other, call))
    }
}
