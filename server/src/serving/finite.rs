//! SUM and AVG of floats that fail where finite ones are too large together, as PostgreSQL's do. DataFusion's are infinite then; that they are is known to be wrong unless an infinity or NaN was among what was
//! summed. It does not know how floats are summed.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature};
use eddyline_planner::functions::checked::overflow;
use std::sync::{Arc, LazyLock};

pub static SUM: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::new_from_impl(Finite { of: sum_udaf() })));
pub static AVERAGE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::new_from_impl(Finite { of: avg_udaf() })));

#[derive(Debug, PartialEq, Eq, Hash)]
struct Finite {
    of: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Finite {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.of.return_type(types)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.of.coerce_types(types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.of.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OfAll { of: self.of.accumulator(args)?, marked: false }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OfFrame { of: self.of.create_sliding_accumulator(args)?, nan: 0, infinite: 0, negative_infinite: 0 }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.of.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(OfGroups { of: self.of.create_groups_accumulator(args)?, marked: Vec::new() }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.of.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// Whether there is an infinity or NaN among floats, or those of lists, which the values of DISTINCT are in between.
fn has_marks(values: &ArrayRef) -> bool {
    if let Some(lists) = values.as_list_opt::<i32>() {
        return lists.iter().flatten().any(|values| has_marks(&values));
    }
    marked(values).is_some_and(|floats| floats.iter().flatten().any(|value| !value.is_finite()))
}

/// Floats, if any of them is an infinity or NaN.
fn marked(values: &ArrayRef) -> Option<&Float64Array> {
    let floats = values.as_primitive_opt::<Float64Type>()?;
    floats.values().iter().any(|value| !value.is_finite()).then_some(floats)
}

fn too_large() -> DataFusionError {
    DataFusionError::External(Box::new(overflow()))
}

fn is_too_large(value: &ScalarValue) -> bool {
    matches!(value, ScalarValue::Float64(Some(value)) if !value.is_finite())
}

#[derive(Debug)]
struct OfAll {
    of: Box<dyn Accumulator>,
    /// Whether there is an infinity or NaN among what it is of.
    marked: bool,
}

impl OfAll {
    fn check(&self, value: &ScalarValue) -> Result<()> {
        if is_too_large(value) && !self.marked { Err(too_large()) } else { Ok(()) }
    }
}

impl Accumulator for OfAll {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.marked |= has_marks(&values[0]);
        self.of.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.of.evaluate()?;
        self.check(&value)?;
        Ok(value)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.of.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let state = self.of.state()?;
        state.iter().try_for_each(|value| self.check(value))?;
        Ok(state)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.marked |= states.iter().any(has_marks);
        self.of.merge_batch(states)
    }
}

/// Over a frame that rows leave. No subtraction takes back infinities and NaN, so they are counted beside the others.
#[derive(Debug)]
struct OfFrame {
    of: Box<dyn Accumulator>,
    nan: i64,
    infinite: i64,
    negative_infinite: i64,
}

impl OfFrame {
    /// The others of some values.
    fn count(&mut self, values: &[ArrayRef], weight: i64) -> Vec<ArrayRef> {
        let Some(floats) = marked(&values[0]) else { return values.to_vec() };
        for value in floats.iter().flatten() {
            match value {
                f64::INFINITY => self.infinite += weight,
                f64::NEG_INFINITY => self.negative_infinite += weight,
                value if value.is_nan() => self.nan += weight,
                _ => {}
            }
        }
        let others: Float64Array = floats.iter().map(|value| value.filter(|value| value.is_finite())).collect();
        vec![Arc::new(others)]
    }
}

impl Accumulator for OfFrame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let others = self.count(values, 1);
        self.of.update_batch(&others)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let others = self.count(values, -1);
        self.of.retract_batch(&others)
    }

    fn supports_retract_batch(&self) -> bool {
        self.of.supports_retract_batch()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match (self.nan > 0, self.infinite > 0, self.negative_infinite > 0) {
            (true, _, _) | (_, true, true) => Ok(ScalarValue::from(f64::NAN)),
            (_, true, _) => Ok(ScalarValue::from(f64::INFINITY)),
            (_, _, true) => Ok(ScalarValue::from(f64::NEG_INFINITY)),
            _ => self.of.evaluate().and_then(|value| if is_too_large(&value) { Err(too_large()) } else { Ok(value) }),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.of.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(DataFusionError::Internal("a frame is not part of another one".to_string()))
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        Err(DataFusionError::Internal("a frame is not merged of others".to_string()))
    }
}

struct OfGroups {
    of: Box<dyn GroupsAccumulator>,
    /// Which groups have an infinity or NaN among what they are of.
    marked: Vec<bool>,
}

impl OfGroups {
    fn note(&mut self, values: &ArrayRef, groups: &[usize], filter: Option<&BooleanArray>, total: usize) {
        self.marked.resize(total.max(self.marked.len()), false);
        let Some(floats) = marked(values) else { return };
        for (row, group) in groups.iter().enumerate() {
            let counts = floats.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            self.marked[*group] |= counts && !floats.value(row).is_finite();
        }
    }
}

/// Fails if floats of groups are none without having been made of others that are none.
fn check(values: &ArrayRef, of_marked: &[bool]) -> Result<()> {
    let Some(floats) = marked(values) else { return Ok(()) };
    let is_new = |(value, of_marked): (Option<f64>, &bool)| !of_marked && value.is_some_and(|value| !value.is_finite());
    if floats.iter().zip(of_marked).any(is_new) { Err(too_large()) } else { Ok(()) }
}

impl GroupsAccumulator for OfGroups {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.note(&values[0], groups, filter, total);
        self.of.update_batch(values, groups, filter, total)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        states.iter().for_each(|state| self.note(state, groups, None, total));
        self.of.merge_batch(states, groups, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (marked, values) = (emit.take_needed(&mut self.marked), self.of.evaluate(emit)?);
        check(&values, &marked)?;
        Ok(values)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (marked, state) = (emit.take_needed(&mut self.marked), self.of.state(emit)?);
        state.iter().try_for_each(|values| check(values, &marked))?;
        Ok(state)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.of.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.of.size() + self.marked.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};
    use datafusion::physical_expr::expressions::col;

    fn groups() -> Box<dyn GroupsAccumulator> {
        let schema = Schema::new(vec![Field::new("v", DataType::Float64, true)]);
        let field: FieldRef = Arc::new(schema.field(0).clone());
        let args = AccumulatorArgs {
            return_field: field.clone(),
            schema: &schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: "sum",
            is_distinct: false,
            exprs: &[col("v", &schema).unwrap()],
            expr_fields: &[field],
        };
        SUM.create_groups_accumulator(args).unwrap()
    }

    fn sums(rows: &[(usize, f64)], emit: EmitTo) -> Result<Vec<f64>> {
        let mut sums = groups();
        for half in rows.chunks(2) {
            let values: ArrayRef = Arc::new(Float64Array::from_iter_values(half.iter().map(|(_, value)| *value)));
            let of: Vec<usize> = half.iter().map(|(group, _)| *group).collect();
            sums.update_batch(&[values], &of, None, 3)?;
        }
        let mut merged = groups();
        let states = sums.state(EmitTo::All)?;
        merged.merge_batch(&states, &(0..states[0].len()).collect::<Vec<_>>(), 3)?;
        Ok(merged.evaluate(emit)?.as_primitive::<Float64Type>().values().to_vec())
    }

    #[test]
    fn sums_of_finite_floats_are_finite_or_fail() {
        let infinite = (1, f64::INFINITY);
        assert_eq!(sums(&[(0, 1.5), infinite, (2, 2.0), (1, 1e308), (1, 1e308)], EmitTo::All).unwrap(), [1.5, f64::INFINITY, 2.0]);
        assert_eq!(sums(&[(0, 1.5), infinite, (2, 2.0)], EmitTo::First(2)).unwrap(), [1.5, f64::INFINITY]);
        let error = sums(&[infinite, (0, 1e308), (2, 1.0), (0, 1e308)], EmitTo::All).unwrap_err();
        assert!(error.to_string().contains("overflow"), "{error}");
    }
}
