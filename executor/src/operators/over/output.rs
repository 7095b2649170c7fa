//! What a step changed: results before and after it, compared row by row. A row is emitted where they differ, taken back with
//! the old results and shown with the new ones. Rows with a result that does not fit its type are rejected.

use super::piece::Piece;
use crate::accumulators::Output;
use crate::operator::StepContext;
use crate::operators::aggregate::{nullable, out_of_range};
use crate::operators::scan::assemble;
use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::SchemaRef;
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::{ChangeBatch, Result, SqlError};
use std::cmp::Ordering;
use std::ops::Range;

pub(super) struct Changes {
    output: SchemaRef,
    /// The same, but all of it nullable.
    rejected: SchemaRef,
    codec: KeyCodec,
    append: bool,
    /// Rows emitted since this was last set to zero.
    pub emitted: usize,
    keys: [KeyRows; 2],
}

/// Rows to emit: the buffer's row, side and position among the results.
#[derive(Default)]
struct Picked {
    rows: Vec<u32>,
    results: Vec<(usize, usize)>,
}

impl Changes {
    /// `width`: of the input. `append`: what is emitted is final.
    pub(super) fn new(output: SchemaRef, width: usize, append: bool) -> Result<Self> {
        let types = output.fields()[width..].iter().map(|f| f.data_type().clone()).collect();
        Ok(Changes { rejected: nullable(&output), output, codec: KeyCodec::exact(types)?, append, emitted: 0, keys: Default::default() })
    }

    /// Emits what differs between the results before and after the step for some rows of the buffer.
    pub(super) fn emit(&mut self, pieces: &[Piece; 2], results: [Vec<Output>; 2], rows: Range<usize>, ctx: &mut StepContext) -> Result<()> {
        let at = [pieces[0].positions(rows.clone()), pieces[1].positions(rows.clone())];
        let mut unfit: [Option<(BooleanBuffer, SqlError)>; 2] = [None, None];
        for side in 0..2 {
            let columns: Vec<ArrayRef> = results[side].iter().map(|r| r.values.clone()).collect();
            self.codec.encode(&columns, at[side].len(), &mut self.keys[side]);
            unfit[side] = out_of_range(&results[side], at[side].len());
        }
        let is_unfit = |side: usize, index: usize| unfit[side].as_ref().is_some_and(|(of, _)| of.value(index));
        let (mut shown, mut rejected) = (Picked::default(), Picked::default());
        let mut pick = |row: usize, side: usize, index: usize| {
            let into = if is_unfit(side, index) { &mut rejected } else { &mut shown };
            into.rows.push(row as u32);
            into.results.push((side, index));
        };
        let compare = |old: usize, new: usize| {
            let by_unfit = is_unfit(0, old).cmp(&is_unfit(1, new));
            by_unfit.then_with(|| self.keys[0].row(old).cmp(self.keys[1].row(new)))
        };
        for row in rows {
            let of = |side: usize| {
                let of: Range<usize> = pieces[side].positions(row..row + 1);
                of.start - at[side].start..of.end - at[side].start
            };
            if let (Range { start: old, .. }, Range { start: new, .. }, 1, 1) = (of(0), of(1), of(0).len(), of(1).len()) {
                if compare(old, new).is_ne() {
                    pick(row, 0, old);
                    pick(row, 1, new);
                }
                continue;
            }
            // A row that is there several times: equal results cancel out.
            let (mut old, mut new): (Vec<usize>, Vec<usize>) = (of(0).collect(), of(1).collect());
            let key = |side: usize, index: usize| (is_unfit(side, index), self.keys[side].row(index));
            old.sort_by(|a, b| key(0, *a).cmp(&key(0, *b)));
            new.sort_by(|a, b| key(1, *a).cmp(&key(1, *b)));
            let (mut before, mut after) = (old.into_iter().peekable(), new.into_iter().peekable());
            loop {
                let order = match (before.peek(), after.peek()) {
                    (None, None) => break,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(old), Some(new)) => compare(*old, *new),
                };
                match order {
                    Ordering::Equal => drop((before.next(), after.next())),
                    Ordering::Less => before.next().into_iter().for_each(|index| pick(row, 0, index)),
                    Ordering::Greater => after.next().into_iter().for_each(|index| pick(row, 1, index)),
                }
            }
        }
        self.emitted += shown.rows.len();
        if !shown.rows.is_empty() {
            let changes = shown.changes(pieces, &results, &self.output)?;
            ctx.emit(if self.append { ChangeBatch::insertions(changes.rows) } else { changes });
        }
        if !rejected.rows.is_empty() {
            let changes = rejected.changes(pieces, &results, &self.rejected)?;
            let [old, new] = unfit;
            let reason = new.or(old).map_or_else(|| SqlError::internal("a row was rejected without a reason"), |(_, reason)| reason);
            ctx.reject(changes, reason)?;
        }
        Ok(())
    }
}

impl Picked {
    fn changes(&self, pieces: &[Piece; 2], results: &[Vec<Output>; 2], schema: &SchemaRef) -> Result<ChangeBatch> {
        let rows = UInt32Array::from(self.rows.clone());
        let mut columns = pieces[0].buffer.columns.iter().map(|c| take(c, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        for (old, new) in results[0].iter().zip(&results[1]) {
            columns.push(interleave(&[old.values.as_ref(), new.values.as_ref()], &self.results)?);
        }
        let weights = Int64Array::from_iter_values(self.results.iter().map(|(side, _)| 2 * *side as i64 - 1));
        Ok(ChangeBatch::with_weights(assemble(schema, columns, self.rows.len())?, weights))
    }
}
