//! PERCENTILE_CONT, PERCENTILE_DISC and MODE as PostgreSQL has them: `f(values, share [, descending])` and `mode(values [, descending])`, which the planner's
//! `bind::spellings` makes of `f(share) WITHIN GROUP (ORDER BY values)` and of `mode() WITHIN GROUP ...`. Views keep the values in order and share `place` with what is here; in a SELECT
//! all values of a group are in memory.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use datafusion::arrow::compute::{self, SortOptions};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use eddyline_common::{SqlError, SqlState};
use std::collections::VecDeque;
use std::sync::Arc;

pub const CONTINUOUS: &str = "percentile_cont";
pub const DISCRETE: &str = "percentile_disc";
pub const MODE: &str = "mode";

/// Which of a group's values in order a percentile is: the one at `lower`, and of the way to the one at `upper` so much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    pub lower: usize,
    pub upper: usize,
    pub between: f64,
}

/// The place of a share of `count` values, of which there are some.
pub fn place(share: f64, count: usize, continuous: bool) -> Place {
    if !continuous {
        let at = ((share * count as f64).ceil() as usize).clamp(1, count) - 1;
        return Place { lower: at, upper: at, between: 0.0 };
    }
    let at = share * (count - 1) as f64;
    Place { lower: at.floor() as usize, upper: at.ceil() as usize, between: at - at.floor() }
}

/// What is at a place, given the values there.
pub fn value_between(lower: f64, upper: f64, between: f64) -> f64 {
    if between == 0.0 || lower == upper { lower } else { lower + (upper - lower) * between }
}

/// An error unless the share is one.
pub fn check_share(share: f64) -> eddyline_common::Result<f64> {
    match (0.0..=1.0).contains(&share) {
        true => Ok(share),
        false => Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("percentile value {share} is not between 0 and 1"))),
    }
}

pub(super) fn functions() -> [AggregateUDF; 3] {
    [(CONTINUOUS, Pick::Continuous), (DISCRETE, Pick::Discrete), (MODE, Pick::Mode)].map(|(name, pick)| {
        let aliases = if name == CONTINUOUS { vec!["quantile_cont".to_string()] } else { vec![] };
        AggregateUDF::new_from_impl(Percentile { name, pick, aliases, signature: Signature::user_defined(Volatility::Immutable) })
    })
}

/// Which of its values in order an aggregate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pick {
    Continuous,
    Discrete,
    /// The one that is there most often, the first of several.
    Mode,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Percentile {
    name: &'static str,
    pick: Pick,
    aliases: Vec<String>,
    signature: Signature,
}

impl AggregateUDFImpl for Percentile {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        // A null has no type yet; it is a text, as in PostgreSQL.
        let typed = |value: &DataType| if value.is_null() { DataType::Utf8 } else { value.clone() };
        let value = match (self.pick, types) {
            (Pick::Mode, [value] | [value, DataType::Boolean]) => {
                return Ok([typed(value)].into_iter().chain(types.get(1).cloned()).collect());
            }
            (Pick::Mode, _) => {
                let error = super::native::no_such_function(self.name, types);
                return Err(crate::error::into_datafusion(error.with_hint("Write mode() WITHIN GROUP (ORDER BY value).")));
            }
            (_, [value, _] | [value, _, DataType::Boolean]) => value,
            _ => return Err(DataFusionError::Plan(format!("{}() takes a share WITHIN GROUP (ORDER BY value)", self.name))),
        };
        let value = match self.pick == Pick::Continuous {
            true if value.is_numeric() || value.is_null() => DataType::Float64,
            true => return Err(DataFusionError::Plan(format!("{}() is of numbers, not of {value}", self.name))),
            false => typed(value),
        };
        Ok([value, DataType::Float64].into_iter().chain(types.get(2).cloned()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |what: &str, ty: DataType| Arc::new(Field::new(format!("{}[{what}]", args.name), ty, true));
        let values = DataType::new_list(args.input_fields[0].data_type().clone(), true);
        Ok(vec![field("values", values), field("share", DataType::Float64), field("descending", DataType::Boolean)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Values {
            ty: args.expr_fields[0].data_type().clone(),
            pick: self.pick,
            distinct: args.is_distinct,
            arrays: VecDeque::new(),
            share: None,
            descending: false,
        }))
    }
}

#[derive(Debug)]
struct Values {
    ty: DataType,
    pick: Pick,
    distinct: bool,
    /// In the order in which they came.
    arrays: VecDeque<ArrayRef>,
    /// Constant; unknown until there is a row, and of a mode.
    share: Option<f64>,
    descending: bool,
}

impl Values {
    fn note(&mut self, shares: Option<&Float64Array>, descending: Option<&BooleanArray>) -> Result<()> {
        self.descending |= descending.is_some_and(|flags| flags.true_count() > 0);
        let Some(shares) = shares else { return Ok(()) };
        for row in (0..shares.len()).filter(|row| shares.is_valid(*row)) {
            let share = *self.share.get_or_insert(shares.value(row));
            if share != shares.value(row) {
                let error = SqlError::unsupported("a percentile whose share is not the same for all rows is not supported");
                return Err(crate::error::into_datafusion(error));
            }
        }
        Ok(())
    }

    fn all(&self) -> Result<ArrayRef> {
        let arrays: Vec<&dyn Array> = self.arrays.iter().map(|a| a.as_ref()).collect();
        Ok(if arrays.is_empty() { datafusion::arrow::array::new_empty_array(&self.ty) } else { compute::concat(&arrays)? })
    }

    /// In order, without nulls, and without doubles if only distinct ones count.
    fn sorted(&self) -> Result<ArrayRef> {
        let all = self.all()?;
        let sorted = compute::sort(&all, Some(SortOptions { descending: self.descending, nulls_first: false }))?;
        let sorted = sorted.slice(0, sorted.len() - sorted.null_count());
        if !self.distinct || sorted.len() < 2 {
            return Ok(sorted);
        }
        let runs = compute::partition(std::slice::from_ref(&sorted))?.ranges();
        let firsts: datafusion::arrow::array::UInt64Array = runs.into_iter().map(|run| run.start as u64).collect();
        Ok(compute::take(&sorted, &firsts, None)?)
    }
}

/// Where the first of the longest runs of equal values begins.
fn most_frequent(sorted: &ArrayRef) -> Result<usize> {
    let runs = compute::partition(std::slice::from_ref(sorted))?.ranges();
    let longest = runs.iter().map(|run| run.len()).max();
    Ok(runs.iter().find(|run| Some(run.len()) == longest).map_or(0, |run| run.start))
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (shares, descending) = match self.pick {
            Pick::Mode => (None, values.get(1)),
            _ => (Some(values[1].as_primitive::<Float64Type>()), values.get(2)),
        };
        self.note(shares, descending.map(|flags| flags.as_boolean()))?;
        self.arrays.push_back(values[0].clone());
        Ok(())
    }

    /// What leaves a frame is what came first.
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut rest = values[0].len();
        while rest > 0
            && let Some(first) = self.arrays.pop_front()
        {
            let gone = rest.min(first.len());
            rest -= gone;
            if gone < first.len() {
                self.arrays.push_front(first.slice(gone, first.len() - gone));
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sorted = self.sorted()?;
        if self.pick == Pick::Mode && !sorted.is_empty() {
            return ScalarValue::try_from_array(&sorted, most_frequent(&sorted)?);
        }
        let Some(share) = self.share.filter(|_| !sorted.is_empty()) else { return ScalarValue::try_from(&self.ty) };
        let share = check_share(share).map_err(crate::error::into_datafusion)?;
        let continuous = self.pick == Pick::Continuous;
        let place = place(share, sorted.len(), continuous);
        if !continuous {
            return ScalarValue::try_from_array(&sorted, place.lower);
        }
        let values = sorted.as_primitive::<Float64Type>();
        Ok(ScalarValue::Float64(Some(value_between(values.value(place.lower), values.value(place.upper), place.between))))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.arrays.iter().map(|a| a.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = datafusion::common::utils::SingleRowListArrayBuilder::new(self.all()?).build_list_scalar();
        Ok(vec![list, ScalarValue::Float64(self.share), ScalarValue::Boolean(Some(self.descending))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.note(Some(states[1].as_primitive::<Float64Type>()), Some(states[2].as_boolean()))?;
        self.arrays.extend(states[0].as_list::<i32>().iter().flatten());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_values_that_are_equally_frequent_the_first_is_the_mode() {
        let sorted = Arc::new(Float64Array::from(vec![1.0, 2.0, 2.0, 3.0, 3.0])) as ArrayRef;
        assert_eq!(most_frequent(&sorted).unwrap(), 1);
        assert_eq!(most_frequent(&sorted.slice(2, 3)).unwrap(), 1);
    }

    #[test]
    fn places_are_postgres_ones() {
        assert_eq!(place(0.5, 4, true), Place { lower: 1, upper: 2, between: 0.5 });
        assert_eq!(place(1.0, 4, true), Place { lower: 3, upper: 3, between: 0.0 });
        assert_eq!(place(0.5, 4, false).lower, 1);
        assert_eq!(place(0.51, 4, false).lower, 2);
        assert_eq!((place(0.0, 4, false).lower, place(1.0, 4, false).lower), (0, 3));
        assert_eq!(value_between(f64::NEG_INFINITY, f64::INFINITY, 0.0), f64::NEG_INFINITY);
    }
}
