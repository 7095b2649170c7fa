//! The rows of a buffer as they are before the step or after it: each as often as it is there, by position.

use super::buffer::Buffer;
use std::ops::Range;

pub(super) struct Piece<'a> {
    pub buffer: &'a Buffer,
    /// The buffer's row at each position.
    pub rows: Vec<u32>,
    /// The first position of each row of the buffer, and the number of positions.
    pub starts: Vec<u32>,
    /// The first position of each position's peers, and the one after the last; which group of peers it is of, counted from 1.
    firsts: Vec<u32>,
    ends: Vec<u32>,
    pub groups: Vec<u32>,
}

impl<'a> Piece<'a> {
    /// `side`: 0 before the step, 1 after it.
    pub(super) fn new(buffer: &'a Buffer, side: usize) -> Self {
        let weights = &buffer.weights[side];
        let (mut rows, mut starts) = (Vec::with_capacity(weights.len()), Vec::with_capacity(weights.len() + 1));
        for (row, weight) in weights.iter().enumerate() {
            starts.push(rows.len() as u32);
            rows.extend(std::iter::repeat_n(row as u32, (*weight).max(0) as usize));
        }
        starts.push(rows.len() as u32);
        let group = |at: usize| buffer.groups[rows[at] as usize];
        let (mut firsts, mut ends, mut groups) = (vec![0; rows.len()], vec![0; rows.len()], vec![0; rows.len()]);
        let (mut first, mut number) = (0, 0);
        while first < rows.len() {
            let mut end = first + 1;
            while end < rows.len() && group(end) == group(first) {
                end += 1;
            }
            number += 1;
            firsts[first..end].fill(first as u32);
            ends[first..end].fill(end as u32);
            groups[first..end].fill(number);
            first = end;
        }
        Piece { buffer, rows, starts, firsts, ends, groups }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The positions of some rows of the buffer.
    pub(super) fn positions(&self, rows: Range<usize>) -> Range<usize> {
        self.starts[rows.start] as usize..self.starts[rows.end] as usize
    }

    pub(super) fn peers(&self, at: usize) -> (usize, usize) {
        (self.firsts[at] as usize, self.ends[at] as usize)
    }

    pub(super) fn is_null(&self, at: usize) -> bool {
        self.buffer.nulls[self.rows[at] as usize]
    }

    pub(super) fn value(&self, at: usize) -> i64 {
        self.buffer.values[self.rows[at] as usize]
    }

    /// The first position from `from` on that is not before `value`, or after it.
    pub(super) fn skip(&self, from: usize, value: i64, after: bool) -> usize {
        let nulls_first = self.buffer.nulls_first();
        let is_before = |at: usize| match self.is_null(at) {
            true => nulls_first,
            false if after => self.value(at) <= value,
            false => self.value(at) < value,
        };
        let mut at = from;
        while at < self.len() && is_before(at) {
            at += 1;
        }
        at
    }
}
