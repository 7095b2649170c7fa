//! Rows of some partitions as columns, one partition after the other, and the conditions over them: those of a row and the rows before
//! it for all rows at once, the others for a row of a path when they are asked for.

use super::search::{Path, Rows};
use crate::accumulators::{self, Accumulator, Updates};
use crate::expr::{NowHandle, Predicate};
use crate::operators::scan::assemble;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{take, take_arrays};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use eddyline_common::change::take_rows;
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{Result, SqlError, Timestamp};
use eddyline_planner::functions::failed::is_row_error;
use eddyline_planner::plan::{AggregateCall, AggregateFunction, MatchValue, MatchValueOf, MatchVariable};
use std::ops::Range;

/// Where a match may lie.
pub(super) struct Bounds {
    /// Rows of the partition.
    pub rows: Range<u32>,
    /// The time from which on there is no row of the match.
    pub until: Option<i64>,
    /// No more rows come that could be of it.
    pub complete: bool,
}

impl Bounds {
    pub(super) fn new(rows: Range<u32>, start: u32, times: &[i64], within: Option<i64>, watermark: Timestamp) -> Self {
        let until = within.map(|within| times[start as usize].saturating_add(within));
        let complete = watermark == Timestamp::MAX || until.is_some_and(|until| until <= watermark.0);
        Bounds { rows, until, complete }
    }
}

/// Which row a value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Row(u32),
    Nowhere,
    /// Rows to come say so.
    Unknown,
}

/// The row that is `offset` after the `nth` of some.
pub(super) fn place(of: &[u32], (first, nth, offset): (bool, usize, i64), bounds: &Bounds, times: &[i64]) -> Place {
    let base = if first { of.get(nth) } else { of.len().checked_sub(nth + 1).map(|at| &of[at]) };
    let Some(row) = base.and_then(|base| i64::from(*base).checked_add(offset)).filter(|row| *row >= i64::from(bounds.rows.start)) else {
        return Place::Nowhere;
    };
    if row < i64::from(bounds.rows.end) {
        let row = row as u32;
        return if offset > 0 && bounds.until.is_some_and(|until| times[row as usize] >= until) { Place::Nowhere } else { Place::Row(row) };
    }
    if bounds.complete { Place::Nowhere } else { Place::Unknown }
}

/// Whether each row of a piece satisfies what of a condition does not depend on the match.
enum Fits {
    All,
    Some(BooleanBuffer),
    /// There are rows on which it fails.
    Each(Vec<std::result::Result<bool, SqlError>>),
}

pub(super) struct Piece {
    pub columns: Vec<ArrayRef>,
    pub times: Vec<i64>,
    fits: Vec<Fits>,
}

/// A variable's condition, made executable.
pub(super) struct Condition {
    number: usize,
    flag: Option<usize>,
    values: Vec<MatchValue>,
    schema: SchemaRef,
    local: Option<Predicate>,
    rest: Option<Predicate>,
    running: Vec<Option<Running>>,
}

impl Condition {
    pub(super) fn new(number: usize, variable: &MatchVariable, input: &SchemaRef, now: &NowHandle) -> Result<Self> {
        let columns: Vec<Column> =
            variable.values.iter().enumerate().map(|(i, v)| Column::new(format!("value_{i}"), v.ty.clone(), true)).collect();
        let schema = arrow_schema(&columns);
        let compiled = |e: &Option<_>| e.as_ref().map(|e| Predicate::new(e, &schema, now)).transpose();
        let running = variable.values.iter().map(|v| Running::of(v, input)).collect::<Result<_>>()?;
        let (local, rest) = (compiled(&variable.local)?, compiled(&variable.rest)?);
        Ok(Condition { number, flag: variable.flag, values: variable.values.clone(), schema, local, rest, running })
    }

    pub(super) fn is_independent(&self) -> bool {
        self.rest.is_none()
    }

    /// Forgets the rows of the last piece.
    pub(super) fn clear(&mut self) {
        self.running.iter_mut().flatten().for_each(Running::clear);
    }

    fn over_piece(&self, columns: &[ArrayRef], firsts: &[u32]) -> Result<Fits> {
        let rows = firsts.len();
        let flag = self.flag.map(|flag| {
            let flag = columns[flag].as_boolean();
            flag.nulls().map_or_else(|| flag.values().clone(), |nulls| flag.values() & nulls.inner())
        });
        let Some(local) = &self.local else { return Ok(flag.map_or(Fits::All, Fits::Some)) };
        let batch = assemble(&self.schema, self.local_values(columns, firsts)?, rows)?;
        match local.holds(&batch) {
            Ok(holds) => Ok(Fits::Some(flag.map_or_else(|| holds.clone(), |flag| &flag & &holds))),
            Err(error) if !is_row_error(&error) => Err(error),
            Err(_) => {
                let mut each = Vec::with_capacity(rows);
                for row in 0..rows {
                    each.push(match flag.as_ref().is_none_or(|flag| flag.value(row)) {
                        false => Ok(false),
                        true => row_outcome(local.holds(&take_rows(&batch, &UInt32Array::from(vec![row as u32]))?))?,
                    });
                }
                Ok(Fits::Each(each))
            }
        }
    }

    /// Columns of the row itself, or of one some rows before it in its partition.
    fn local_values(&self, columns: &[ArrayRef], firsts: &[u32]) -> Result<Vec<ArrayRef>> {
        let of = |value: &MatchValue| match value.of {
            MatchValueOf::Row { column, first: false, nth: 0, offset }
                if offset <= 0 && value.variable.is_none_or(|v| v == self.number) =>
            {
                if offset == 0 {
                    return Ok(columns[column].clone());
                }
                let back = |(row, first): (usize, &u32)| {
                    (row as i64).checked_add(offset).filter(|at| *at >= i64::from(*first)).map(|at| at as u32)
                };
                let at: UInt32Array = firsts.iter().enumerate().map(back).collect();
                Ok(take(&columns[column], &at, None)?)
            }
            _ => Ok(new_null_array(&value.ty.to_arrow(), firsts.len())),
        };
        self.values.iter().map(of).collect()
    }

    /// What depends on the match so far; `None` if rows to come say so.
    fn holds(&mut self, path: &Path, piece: &Piece, bounds: &Bounds) -> Result<std::result::Result<Option<bool>, SqlError>> {
        let Some(rest) = &self.rest else { return Ok(Ok(Some(true))) };
        let mut columns = Vec::with_capacity(self.values.len());
        for (value, running) in self.values.iter().zip(&mut self.running) {
            let of = rows_of(path, value.variable);
            columns.push(match (&value.of, running) {
                (MatchValueOf::Row { column, first, nth, offset }, _) => match place(of, (*first, *nth, *offset), bounds, &piece.times) {
                    Place::Row(row) => piece.columns[*column].slice(row as usize, 1),
                    Place::Nowhere => new_null_array(&value.ty.to_arrow(), 1),
                    Place::Unknown => return Ok(Ok(None)),
                },
                (MatchValueOf::Aggregate(_), Some(running)) => match running.value(of, &piece.columns)? {
                    Ok(value) => value,
                    Err(error) => return Ok(Err(error)),
                },
                _ => return Err(SqlError::internal("a condition has a value that conditions do not have")),
            });
        }
        let row = assemble(&self.schema, columns, 1)?;
        Ok(match row_outcome(rest.holds(&row))? {
            Ok(holds) => Ok(Some(holds)),
            // The row alone: there was a slice of its columns.
            Err(_) => row_outcome(rest.holds(&take_rows(&row, &UInt32Array::from(vec![0]))?))?.map(Some),
        })
    }
}

/// A row's fault is one outcome, anything else ends the job.
fn row_outcome(held: Result<BooleanBuffer>) -> Result<std::result::Result<bool, SqlError>> {
    match held {
        Ok(held) => Ok(Ok(held.value(0))),
        Err(error) if is_row_error(&error) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

/// The rows that a value is of.
pub(super) fn rows_of(path: &Path, variable: Option<usize>) -> &[u32] {
    variable.map_or(path.rows.as_slice(), |v| path.of[v].as_slice())
}

impl Piece {
    /// `firsts`: of each row the first of its partition.
    pub(super) fn new(columns: Vec<ArrayRef>, time: usize, firsts: &[u32], conditions: &mut [Condition]) -> Result<Self> {
        let times = columns[time].as_primitive::<TimestampMicrosecondType>().values().to_vec();
        conditions.iter_mut().for_each(Condition::clear);
        let fits = conditions.iter().map(|c| c.over_piece(&columns, firsts)).collect::<Result<_>>()?;
        Ok(Piece { columns, times, fits })
    }

    /// Rows as a batch of the input.
    pub(super) fn rows(&self, input: &SchemaRef, rows: Vec<u32>) -> Result<RecordBatch> {
        let count = rows.len();
        assemble(input, take_arrays(&self.columns, &UInt32Array::from(rows), None)?, count)
    }
}

/// The rows of a piece as a search asks for them.
pub(super) struct View<'a> {
    pub piece: &'a Piece,
    pub conditions: &'a mut [Condition],
    pub bounds: &'a Bounds,
}

impl Rows for View<'_> {
    fn reachable(&self, row: u32) -> Option<bool> {
        if row < self.bounds.rows.end {
            return Some(self.bounds.until.is_none_or(|until| self.piece.times[row as usize] < until));
        }
        self.bounds.complete.then_some(false)
    }

    fn fits(&mut self, path: &Path) -> Result<std::result::Result<Option<bool>, SqlError>> {
        let (Some(row), Some(variable)) = (path.rows.last(), path.variables.last()) else { return Ok(Ok(Some(false))) };
        let known = match &self.piece.fits[*variable as usize] {
            Fits::All => true,
            Fits::Some(fits) => fits.value(*row as usize),
            Fits::Each(each) => match &each[*row as usize] {
                Ok(fits) => *fits,
                Err(error) => return Ok(Err(error.clone())),
            },
        };
        if !known {
            return Ok(Ok(Some(false)));
        }
        self.conditions[*variable as usize].holds(path, self.piece, self.bounds)
    }
}

/// An aggregate over the rows of a path, which follows the path.
struct Running {
    call: AggregateCall,
    argument: usize,
    accumulator: Box<dyn Accumulator>,
    included: Vec<u32>,
}

impl Running {
    fn of(value: &MatchValue, input: &SchemaRef) -> Result<Option<Self>> {
        let MatchValueOf::Aggregate(call) = &value.of else { return Ok(None) };
        let (argument, mut accumulator) = accumulator(call, input)?;
        accumulator.reserve(1);
        Ok(Some(Running { call: call.clone(), argument, accumulator, included: Vec::new() }))
    }

    fn clear(&mut self) {
        self.accumulator.clear(0);
        self.included.clear();
    }

    fn value(&mut self, rows: &[u32], columns: &[ArrayRef]) -> Result<std::result::Result<ArrayRef, SqlError>> {
        let mut same = self.included.iter().zip(rows).take_while(|(a, b)| a == b).count();
        if same < self.included.len() {
            if matches!(self.call.function, AggregateFunction::Min | AggregateFunction::Max) {
                self.clear();
                same = 0;
            } else {
                let gone = self.included.split_off(same);
                self.update(&gone, -1, columns)?;
            }
        }
        self.update(&rows[same..], 1, columns)?;
        self.included.extend_from_slice(&rows[same..]);
        let output = self.accumulator.output(&[0])?;
        match output.out_of_range.is_some_and(|out| out.value(0)) {
            false => Ok(Ok(output.values)),
            true => Ok(Err(out_of_range(&self.call))),
        }
    }

    fn update(&mut self, rows: &[u32], weight: i64, columns: &[ArrayRef]) -> Result<()> {
        let values = match rows {
            [] => return Ok(()),
            [row] => columns[self.argument].slice(*row as usize, 1),
            rows => take(&columns[self.argument], &UInt32Array::from(rows.to_vec()), None)?,
        };
        let (slots, weights) = (vec![0; rows.len()], vec![weight; rows.len()]);
        self.accumulator.update(&Updates { slots: &slots, weights: Some(&weights), mask: None }, &values);
        Ok(())
    }
}

/// An aggregate's argument and its accumulator.
pub(super) fn accumulator(call: &AggregateCall, input: &SchemaRef) -> Result<(usize, Box<dyn Accumulator>)> {
    let argument = call.argument.filter(|a| *a < input.fields().len());
    let argument = argument.ok_or_else(|| SqlError::internal("an aggregate of a match lacks its argument"))?;
    Ok((argument, accumulators::create(call, input.field(argument).data_type())?))
}

pub(super) fn out_of_range(call: &AggregateCall) -> SqlError {
    accumulators::unfit(&call.output)
}
