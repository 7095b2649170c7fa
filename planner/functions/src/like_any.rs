//! `eddyline_like_any(text, patterns, operator)`: whether a text matches any pattern of an array, as `LIKE ANY` asks. Beside a pattern that is null nobody
//! knows, unless another one matches.

use super::LIKE_ANY;
use super::native::{Arg, Native, texts};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, UInt32Array};
use datafusion::arrow::compute::kernels::comparison::{ilike, like, nilike, nlike};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::DataType;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[Native::partial(LIKE_ANY, &[Arg::Text, Arg::Any, Arg::Text], &[], |_| SqlType::Boolean, like_any)];

fn like_any(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let rows = args[0].len();
    let Some(lists) = args[1].as_list_opt::<i32>() else {
        return match args[1].data_type() {
            DataType::Null => Ok(Arc::new(BooleanArray::new_null(rows))),
            _ => Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, "op ANY/ALL (array) requires array on right side")),
        };
    };
    let mut answers: Vec<Option<bool>> = (0..rows).map(|row| lists.is_valid(row).then_some(false)).collect();
    let (mut of, mut places) = (Vec::new(), Vec::new());
    for row in (0..rows).filter(|row| lists.is_valid(*row)) {
        for place in lists.value_offsets()[row]..lists.value_offsets()[row + 1] {
            of.push(row as u32);
            places.push(place);
        }
    }
    if !of.is_empty() {
        let of = UInt32Array::from(of);
        let values = take(&args[0], &of, None)?;
        let patterns = take(&cast(lists.values(), &DataType::Utf8)?, &Int32Array::from(places), None)?;
        let matched = match texts(&args[2]).value(0) {
            "~~" => like(&values, &patterns)?,
            "~~*" => ilike(&values, &patterns)?,
            "!~~" => nlike(&values, &patterns)?,
            _ => nilike(&values, &patterns)?,
        };
        for (row, matched) in of.values().iter().zip(matched.iter()) {
            let answer = &mut answers[*row as usize];
            *answer = match (*answer, matched) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (None, _) | (_, None) => None,
                _ => Some(false),
            };
        }
    }
    Ok(Arc::new(BooleanArray::from(answers)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ListBuilder, StringArray, StringBuilder};

    #[test]
    fn a_null_pattern_leaves_open_what_no_other_one_matches() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for patterns in [vec![Some("a%"), None], vec![Some("b%"), None], vec![Some("b%"), Some("c%")], vec![]] {
            patterns.into_iter().for_each(|pattern| lists.values().append_option(pattern));
            lists.append(true);
        }
        lists.append(false);
        let column = |text: &str| Arc::new(StringArray::from(vec![text; 5])) as ArrayRef;
        let answers = |op: &str, lists: &ArrayRef| {
            let answers = like_any(&[column("abc"), lists.clone(), column(op)]).unwrap();
            answers.as_boolean().iter().collect::<Vec<_>>()
        };
        let lists: ArrayRef = Arc::new(lists.finish());
        assert_eq!(answers("~~", &lists), [Some(true), None, Some(false), Some(false), None]);
        assert_eq!(answers("!~~", &lists), [None, Some(true), Some(true), Some(false), None]);
    }
}
