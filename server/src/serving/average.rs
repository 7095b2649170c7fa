//! AVG of decimals that rounds, as PostgreSQL's and the views' does; DataFusion's cuts off. The sum is as wide as it must be.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal256Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Int64Type, i256};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};
use eddyline_planner::functions::checked::out_of_range;
use std::sync::{Arc, LazyLock};

pub static AVERAGE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::new_from_impl(Average::new())));

/// Digits that an average has more than its values, of the 38 that there are.
const MORE_DIGITS: u8 = 4;
const DIGITS_MAX: u8 = 38;
const SUM_DIGITS: u8 = 76;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Average {
    signature: Signature,
}

impl Average {
    fn new() -> Self {
        Average { signature: Signature::any(1, Volatility::Immutable) }
    }
}

/// From the scale of the values to that of the result.
#[derive(Clone, Copy, Debug)]
struct Scales {
    factor: i256,
    precision: u8,
    from: i8,
    to: i8,
}

impl Scales {
    fn of(args: &AccumulatorArgs) -> Result<Scales> {
        match (args.expr_fields[0].data_type(), args.return_field.data_type()) {
            (DataType::Decimal128(_, from), DataType::Decimal128(precision, to)) if to >= from => {
                let factor = i256::from_i128(10i128.pow((to - from) as u32));
                Ok(Scales { factor, precision: *precision, from: *from, to: *to })
            }
            (from, to) => Err(DataFusionError::Internal(format!("no average of {from} as {to}"))),
        }
    }

    /// Rounds half away from zero.
    fn average(&self, sum: i256, count: i64) -> Result<Option<i128>> {
        if count == 0 {
            return Ok(None);
        }
        let scaled = sum.checked_mul(self.factor).ok_or_else(|| out_of_range("numeric"))?;
        let count = i256::from_i128(count.into());
        let (quotient, rest) = (scaled.wrapping_div(count), scaled.wrapping_rem(count));
        let rounded = match rest.wrapping_abs() >= count.wrapping_sub(rest.wrapping_abs()) {
            false => quotient,
            true if scaled.is_negative() => quotient.wrapping_sub(i256::ONE),
            true => quotient.wrapping_add(i256::ONE),
        };
        let bound = 10i128.pow(self.precision.into());
        let fits = rounded.to_i128().filter(|v| v.abs() < bound);
        fits.map(Some).ok_or_else(|| out_of_range("numeric"))
    }

    fn array(&self, averages: Vec<Option<i128>>) -> Result<ArrayRef> {
        Ok(Arc::new(Decimal128Array::from(averages).with_precision_and_scale(self.precision, self.to)?))
    }

    fn sums(&self, sums: Vec<i256>) -> Result<ArrayRef> {
        Ok(Arc::new(Decimal256Array::from(sums).with_precision_and_scale(SUM_DIGITS, self.from)?))
    }
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &str {
        "avg"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Decimal128(precision, scale)] => {
                let precision = DIGITS_MAX.min(precision + MORE_DIGITS);
                Ok(DataType::Decimal128(precision, (DIGITS_MAX as i8).min(scale + MORE_DIGITS as i8)))
            }
            other => Err(DataFusionError::Internal(format!("no average of {other:?}"))),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = args.input_fields[0].data_type();
        if args.is_distinct {
            let values = DataType::new_list(value.clone(), true);
            return Ok(vec![Arc::new(Field::new(format!("{}[values]", args.name), values, true))]);
        }
        let scale = if let DataType::Decimal128(_, scale) = value { *scale } else { 0 };
        let sum = Field::new(format!("{}[sum]", args.name), DataType::Decimal256(SUM_DIGITS, scale), false);
        Ok(vec![Arc::new(sum), Arc::new(Field::new(format!("{}[count]", args.name), DataType::Int64, false))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let scales = Scales::of(&args)?;
        if args.is_distinct {
            let ty = args.expr_fields[0].data_type().clone();
            return Ok(Box::new(OfDistinct { scales, ty, seen: hashbrown::HashSet::new() }));
        }
        Ok(Box::new(OfAll { scales, sum: i256::ZERO, count: 0 }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(OfGroups { scales: Scales::of(&args)?, sums: Vec::new(), counts: Vec::new() }))
    }
}

#[derive(Debug)]
struct OfAll {
    scales: Scales,
    sum: i256,
    count: i64,
}

impl OfAll {
    fn add(&mut self, values: &ArrayRef, sign: i64) {
        let values = values.as_primitive::<Decimal128Type>();
        for value in values.iter().flatten() {
            let value = i256::from_i128(value);
            self.sum = if sign > 0 { self.sum.wrapping_add(value) } else { self.sum.wrapping_sub(value) };
            self.count += sign;
        }
    }
}

impl Accumulator for OfAll {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], 1);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], -1);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let average = self.scales.average(self.sum, self.count)?;
        Ok(ScalarValue::Decimal128(average, self.scales.precision, self.scales.to))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Decimal256(Some(self.sum), SUM_DIGITS, self.scales.from), ScalarValue::Int64(Some(self.count))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (sums, counts) = (states[0].as_primitive::<Decimal256Type>(), states[1].as_primitive::<Int64Type>());
        for (sum, count) in sums.iter().zip(counts) {
            self.sum = self.sum.wrapping_add(sum.unwrap_or(i256::ZERO));
            self.count += count.unwrap_or(0);
        }
        Ok(())
    }
}

/// `avg(DISTINCT x)`.
#[derive(Debug)]
struct OfDistinct {
    scales: Scales,
    ty: DataType,
    seen: hashbrown::HashSet<i128>,
}

impl Accumulator for OfDistinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.seen.extend(values[0].as_primitive::<Decimal128Type>().iter().flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.seen.iter().fold(i256::ZERO, |sum, v| sum.wrapping_add(i256::from_i128(*v)));
        let average = self.scales.average(sum, self.seen.len() as i64)?;
        Ok(ScalarValue::Decimal128(average, self.scales.precision, self.scales.to))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.seen.capacity() * size_of::<i128>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let DataType::Decimal128(precision, scale) = self.ty else { return Ok(vec![]) };
        let values: Vec<ScalarValue> = self.seen.iter().map(|v| ScalarValue::Decimal128(Some(*v), precision, scale)).collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &self.ty))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for list in states[0].as_list::<i32>().iter().flatten() {
            self.seen.extend(list.as_primitive::<Decimal128Type>().iter().flatten());
        }
        Ok(())
    }
}

#[derive(Debug)]
struct OfGroups {
    scales: Scales,
    sums: Vec<i256>,
    counts: Vec<i64>,
}

impl OfGroups {
    fn grow(&mut self, groups: usize) {
        self.sums.resize(groups.max(self.sums.len()), i256::ZERO);
        self.counts.resize(groups.max(self.counts.len()), 0);
    }

    fn take(&mut self, emit: EmitTo) -> (Vec<i256>, Vec<i64>) {
        (emit.take_needed(&mut self.sums), emit.take_needed(&mut self.counts))
    }
}

fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|f| f.is_valid(row) && f.value(row))
}

impl GroupsAccumulator for OfGroups {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.grow(total);
        let values = values[0].as_primitive::<Decimal128Type>();
        for (row, group) in groups.iter().enumerate() {
            if values.is_valid(row) && passes(filter, row) {
                self.sums[*group] = self.sums[*group].wrapping_add(i256::from_i128(values.value(row)));
                self.counts[*group] += 1;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let (sums, counts) = (states[0].as_primitive::<Decimal256Type>(), states[1].as_primitive::<Int64Type>());
        for (row, group) in groups.iter().enumerate() {
            self.sums[*group] = self.sums[*group].wrapping_add(sums.value(row));
            self.counts[*group] += counts.value(row);
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, counts) = self.take(emit);
        let averages = sums.into_iter().zip(counts).map(|(sum, count)| self.scales.average(sum, count));
        self.scales.array(averages.collect::<Result<_>>()?)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, counts) = self.take(emit);
        Ok(vec![self.scales.sums(sums)?, Arc::new(Int64Array::from(counts))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<Decimal128Type>();
        let counts = (0..values.len()).map(|row| (values.is_valid(row) && passes(filter, row)) as i64);
        let counts: Vec<i64> = counts.collect();
        let sums = counts.iter().enumerate().map(|(row, count)| if *count == 1 { i256::from_i128(values.value(row)) } else { i256::ZERO });
        Ok(vec![self.scales.sums(sums.collect())?, Arc::new(Int64Array::from(counts))])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i256>() + self.counts.capacity() * size_of::<i64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_is_rounded_half_away_from_zero() {
        let scales = Scales { factor: i256::from_i128(100), precision: 10, from: 2, to: 4 };
        let average = |sum: i128, count| scales.average(i256::from_i128(sum), count).unwrap();
        assert_eq!(average(200, 3), Some(6667));
        assert_eq!(average(-200, 3), Some(-6667));
        assert_eq!(average(1, 200), Some(1), "a half goes up");
        assert_eq!(average(-1, 200), Some(-1));
        assert_eq!(average(1, 300), Some(0));
        assert_eq!(average(0, 0), None);
        assert!(scales.average(i256::from_i128(10i128.pow(10)), 1).is_err());
    }
}
