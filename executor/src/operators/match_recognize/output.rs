//! What matches come to: columns of their rows, and values. Positions are collected match by match, and become columns once for many.

use super::piece::{Bounds, Piece, Place, accumulator, out_of_range, place};
use super::search::Path;
use crate::accumulators::Updates;
use crate::operator::StepContext;
use crate::operators::scan::assemble;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, UInt32Array};
use arrow::compute::{not, take};
use arrow::datatypes::SchemaRef;
use eddyline_common::{ChangeBatch, Result};
use eddyline_planner::plan::{AggregateCall, MatchValue, MatchValueOf};
use std::sync::Arc;

pub(super) struct Matches {
    keep: Vec<usize>,
    values: Vec<MatchValue>,
    all_rows: bool,
    /// Names of variables.
    names: Vec<String>,
    input: SchemaRef,
    output: SchemaRef,
    /// By output row: the row whose columns are kept.
    rows: Vec<u32>,
    positions: Vec<Positions>,
}

/// What of the input makes the values of all output rows.
enum Positions {
    Rows(Vec<Option<u32>>),
    Variables(Vec<u16>),
    Numbers(Vec<i64>),
    /// Rows, each with the output row that it counts for.
    Aggregated {
        slots: Vec<u32>,
        rows: Vec<u32>,
    },
}

impl Positions {
    fn of(value: &MatchValue) -> Self {
        match value.of {
            MatchValueOf::Row { .. } => Positions::Rows(Vec::new()),
            MatchValueOf::Classifier => Positions::Variables(Vec::new()),
            MatchValueOf::Number => Positions::Numbers(Vec::new()),
            MatchValueOf::Aggregate(_) => Positions::Aggregated { slots: Vec::new(), rows: Vec::new() },
        }
    }
}

impl Matches {
    pub(super) fn new(
        keep: Vec<usize>,
        values: Vec<MatchValue>,
        all_rows: bool,
        names: Vec<String>,
        input: SchemaRef,
        output: SchemaRef,
    ) -> Self {
        let positions = values.iter().map(Positions::of).collect();
        Matches { keep, values, all_rows, names, input, output, rows: Vec::new(), positions }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether rows to come say what a match's values are.
    pub(super) fn is_open(&self, path: &Path, bounds: &Bounds, times: &[i64]) -> bool {
        let ahead = |value: &MatchValue| match value.of {
            MatchValueOf::Row { offset, .. } if offset > 0 => place(&path.rows, (false, 0, offset), bounds, times) == Place::Unknown,
            _ => false,
        };
        self.values.iter().any(ahead)
    }

    /// `number`: which of its partition's matches it is.
    pub(super) fn add(&mut self, path: &Path, bounds: &Bounds, times: &[i64], number: i64) {
        let last = path.rows.len() - 1;
        for at in if self.all_rows { 0..last + 1 } else { last..last + 1 } {
            let slot = self.rows.len() as u32;
            self.rows.push(if self.all_rows { path.rows[at] } else { path.rows[0] });
            for (value, positions) in self.values.iter().zip(&mut self.positions) {
                let at = if value.whole { last } else { at };
                let rows = match value.variable {
                    None => &path.rows[..=at],
                    Some(variable) => {
                        let of = &path.of[variable];
                        &of[..of.partition_point(|row| *row <= path.rows[at])]
                    }
                };
                match (&value.of, positions) {
                    (MatchValueOf::Row { first, nth, offset, .. }, Positions::Rows(all)) => {
                        all.push(match place(rows, (*first, *nth, *offset), bounds, times) {
                            Place::Row(row) => Some(row),
                            _ => None,
                        });
                    }
                    (_, Positions::Variables(all)) => all.push(path.variables[at]),
                    (_, Positions::Numbers(all)) => all.push(number),
                    (_, Positions::Aggregated { slots, rows: all }) => {
                        slots.extend(std::iter::repeat_n(slot, rows.len()));
                        all.extend_from_slice(rows);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Emits what was added; `piece` is what the positions are in.
    pub(super) fn emit(&mut self, piece: &Piece, ctx: &mut StepContext) -> Result<usize> {
        let rows = std::mem::take(&mut self.rows);
        let count = rows.len();
        if count == 0 {
            return Ok(0);
        }
        let kept = UInt32Array::from(rows);
        let mut columns: Vec<ArrayRef> = self.keep.iter().map(|c| take(&piece.columns[*c], &kept, None)).collect::<Result<_, _>>()?;
        let mut failed: Option<(BooleanArray, AggregateCall)> = None;
        for (value, positions) in self.values.iter().zip(&mut self.positions) {
            let positions = std::mem::replace(positions, Positions::of(value));
            columns.push(match (&value.of, positions) {
                (MatchValueOf::Row { column, .. }, Positions::Rows(all)) => take(&piece.columns[*column], &UInt32Array::from(all), None)?,
                (MatchValueOf::Aggregate(call), Positions::Aggregated { slots, rows }) => {
                    let (argument, mut accumulator) = accumulator(call, &self.input)?;
                    accumulator.reserve(count);
                    let values = take(&piece.columns[argument], &UInt32Array::from(rows), None)?;
                    accumulator.update(&Updates { slots: &slots, weights: None, mask: None }, &values);
                    let output = accumulator.output(&(0..count as u32).collect::<Vec<_>>())?;
                    if let Some(out) = output.out_of_range {
                        failed.get_or_insert((BooleanArray::new(out, None), call.clone()));
                    }
                    output.values
                }
                (_, Positions::Variables(all)) => {
                    Arc::new(StringArray::from_iter_values(all.iter().map(|v| self.names[*v as usize].to_uppercase())))
                }
                (_, Positions::Numbers(all)) => Arc::new(Int64Array::from(all)),
                _ => return Err(eddyline_common::SqlError::internal("a value of a match is not what it was")),
            });
        }
        let mut changes = ChangeBatch::insertions(assemble(&self.output, columns, count)?);
        if let Some((failed, call)) = failed {
            ctx.reject(changes.filter(&failed)?, out_of_range(&call))?;
            changes = changes.filter(&not(&failed)?)?;
        }
        ctx.emit(changes);
        Ok(count)
    }
}
