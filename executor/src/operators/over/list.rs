//! ARRAY_AGG and STRING_AGG over frames: the values of a frame one after the other, in the window's order. Nothing is carried from
//! one frame to the next, as each result holds all of its values anyway; how many are made at once the caller bounds.

use super::counted::Counted;
use super::frame::Frames;
use super::piece::Piece;
use arrow::array::{ArrayRef, AsArray, ListArray, StringBuilder, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef};
use eddyline_common::{Result, SqlError, SqlState, SqlType};
use eddyline_planner::plan::{AggregateCall, AggregateFunction};
use std::ops::Range;
use std::sync::Arc;

pub(super) struct List {
    argument: usize,
    filter: Option<usize>,
    skip_nulls: bool,
    form: Form,
}

enum Form {
    /// The items' field.
    Array(FieldRef),
    /// What is between the texts.
    Text(String),
}

impl List {
    /// Fails with 0A000 if the call does not make lists of its argument, which has type `input`.
    pub(super) fn new(call: &AggregateCall, input: &DataType) -> Result<Self> {
        let form = match (call.function, call.output.to_arrow(), input) {
            (AggregateFunction::ArrayAgg, DataType::List(field), input) if field.data_type() == input => Form::Array(field),
            (AggregateFunction::StringAgg, _, DataType::Utf8) if call.output == SqlType::Text => {
                Form::Text(call.separator.clone().unwrap_or_default())
            }
            (function, _, _) => {
                return Err(SqlError::unsupported(format!("{function:?} of {input} over a frame cannot be computed as {}", call.output)));
            }
        };
        if call.distinct {
            return Err(SqlError::internal("a list over a frame is of all values"));
        }
        let argument = call.argument.ok_or_else(|| SqlError::internal("a list has no argument"))?;
        Ok(List { argument, filter: call.filter, skip_nulls: call.ignore_nulls || matches!(form, Form::Text(_)), form })
    }

    /// The lists of the frames at some positions; null where a frame has no value that counts.
    pub(super) fn results(&self, piece: &Piece, mut frames: Frames, at: Range<usize>) -> Result<ArrayRef> {
        let column = &piece.buffer.columns[self.argument];
        let counted = Counted::new(piece, column, self.filter.map(|f| &piece.buffer.columns[f]), self.skip_nulls);
        let rows = at.map(|at| {
            let (from, to) = frames.of(at);
            counted.between(from, to)
        });
        match &self.form {
            Form::Array(field) => arrays(field, column, rows),
            Form::Text(separator) => texts(separator, column, rows),
        }
    }
}

fn arrays<'a>(field: &FieldRef, column: &ArrayRef, lists: impl Iterator<Item = &'a [u32]>) -> Result<ArrayRef> {
    let (mut rows, mut lengths) = (Vec::new(), Vec::new());
    for list in lists {
        rows.extend_from_slice(list);
        lengths.push(list.len());
    }
    let values = take(column, &UInt32Array::from(rows), None)?;
    let nulls = lengths.contains(&0).then(|| NullBuffer::from_iter(lengths.iter().map(|length| *length > 0)));
    Ok(Arc::new(ListArray::try_new(field.clone(), OffsetBuffer::from_lengths(lengths), values, nulls)?))
}

fn texts<'a>(separator: &str, column: &ArrayRef, lists: impl Iterator<Item = &'a [u32]>) -> Result<ArrayRef> {
    let values = column.as_string::<i32>();
    let (mut texts, mut text, mut bytes) = (StringBuilder::new(), String::new(), 0);
    for list in lists {
        let Some((first, others)) = list.split_first() else {
            texts.append_null();
            continue;
        };
        text.clear();
        text.push_str(values.value(*first as usize));
        for row in others {
            text.push_str(separator);
            text.push_str(values.value(*row as usize));
        }
        bytes += text.len();
        if bytes > i32::MAX as usize {
            return Err(too_long());
        }
        texts.append_value(&text);
    }
    Ok(Arc::new(texts.finish()))
}

fn too_long() -> SqlError {
    SqlError::new(SqlState::LIMIT_EXCEEDED, "the texts that string_agg() makes over a window's frames are too long")
        .with_hint("Bound the frame: ROWS BETWEEN n PRECEDING AND CURRENT ROW.")
}
