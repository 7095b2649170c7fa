//! MIN and MAX of floats by groups, with NaN above all others, as in PostgreSQL. DataFusion's compare as floats do, so that what comes after a NaN takes its place. The floats become integers
//! of the same order, on which DataFusion's do right. It does not know of other types, and of groups one at a time, which are right as they are.

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};
use std::sync::Arc;

/// The functions, for the registry: in the place of DataFusion's of the same names.
pub fn functions() -> [AggregateUDF; 2] {
    [max_udaf(), min_udaf()].map(|of| AggregateUDF::new_from_impl(Extreme { of }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    of: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.of.inner().return_type(types)
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.of.inner().coerce_types(types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        self.of.inner().state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        self.of.inner().accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        self.of.inner().create_sliding_accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.of.inner().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        let ty = args.return_field.data_type().clone();
        if !matches!(ty, DataType::Float32 | DataType::Float64) {
            return self.of.inner().create_groups_accumulator(args);
        }
        let keys = Arc::new(Field::new(args.return_field.name(), DataType::Int64, true));
        let of = self.of.inner().create_groups_accumulator(AccumulatorArgs { return_field: keys, ..args })?;
        Ok(Box::new(OfFloats { of, ty }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.of.inner().order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn is_descending(&self) -> Option<bool> {
        self.of.inner().is_descending()
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.of.inner().value_from_stats(args)
    }

    fn set_monotonicity(&self, ty: &DataType) -> SetMonotonicity {
        self.of.inner().set_monotonicity(ty)
    }
}

/// Groups of floats, over integers of their order.
struct OfFloats {
    of: Box<dyn GroupsAccumulator>,
    ty: DataType,
}

impl OfFloats {
    fn floats(&self, keys: &ArrayRef) -> DfResult<ArrayRef> {
        let floats: Float64Array = keys.as_primitive::<Int64Type>().unary(float);
        Ok(cast(&floats, &self.ty)?)
    }

    fn all_floats(&self, keys: &[ArrayRef]) -> DfResult<Vec<ArrayRef>> {
        keys.iter().map(|keys| self.floats(keys)).collect()
    }
}

fn keys(floats: &[ArrayRef]) -> DfResult<Vec<ArrayRef>> {
    let of = |floats: &ArrayRef| -> DfResult<ArrayRef> {
        let floats = cast(floats, &DataType::Float64)?;
        let keys: Int64Array = floats.as_primitive::<Float64Type>().unary(key);
        Ok(Arc::new(keys))
    };
    floats.iter().map(of).collect()
}

/// All NaN are one, the greatest.
fn key(float: f64) -> i64 {
    let float = if float.is_nan() { f64::NAN } else { float };
    ordered(float.to_bits().cast_signed())
}

fn float(key: i64) -> f64 {
    f64::from_bits(ordered(key).cast_unsigned())
}

/// The bits of a float as an integer of its order, and back: those of negative ones go the other way.
fn ordered(bits: i64) -> i64 {
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

impl GroupsAccumulator for OfFloats {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DfResult<()> {
        self.of.update_batch(&keys(values)?, group_indices, opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        let found = self.of.evaluate(emit_to)?;
        self.floats(&found)
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let states = self.of.state(emit_to)?;
        self.all_floats(&states)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> DfResult<()> {
        self.of.merge_batch(&keys(values)?, group_indices, total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        self.all_floats(&self.of.convert_to_state(&keys(values)?, opt_filter)?)
    }

    fn size(&self) -> usize {
        self.of.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_floats() {
        let sorted = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 2.0, f64::INFINITY, f64::NAN];
        let keys: Vec<i64> = sorted.iter().copied().map(key).collect();
        assert!(keys.is_sorted());
        assert!(keys.iter().zip(sorted).all(|(key, value)| float(*key).to_bits() == value.to_bits()));
        assert_eq!(key(-f64::NAN), key(f64::NAN));
    }
}
