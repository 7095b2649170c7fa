//! Integer arithmetic that fails instead of wrapping: an analyzer rule, which runs after type coercion, puts in the
//! planner's checked functions, for DataFusion's `sum` of integers, and of floats, and its `avg` of these ones that report 22003, for its `avg` of decimals one that rounds, and one of ours for its
//! `count` of different rows, lists and maps. On the way aggregates over windows become those of any frame (`sliding`).

use super::average::AVERAGE;
use super::counted::COUNT;
use super::finite;
use super::sliding::{is_over_windows, over_windows};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray};
use arrow::datatypes::*;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, ExprSchemable, GroupsAccumulator, LogicalPlan, Signature, Volatility,
    WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;
use eddyline_planner::functions::checked::{out_of_range, rewrite_plan};
use hashbrown::hash_map::Entry;
use std::sync::{Arc, LazyLock};

#[derive(Debug)]
pub struct CheckedArithmetic;

impl AnalyzerRule for CheckedArithmetic {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_plan(plan, &check_sum)
    }

    fn name(&self) -> &str {
        "checked_arithmetic"
    }
}

fn check_sum(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            let ours = ours(&func, &params.args, params.distinct, schema);
            let expr = Expr::AggregateFunction(AggregateFunction { func: ours.clone().unwrap_or(func), params });
            Ok(Transformed::new_transformed(expr, ours.is_some()))
        }
        Expr::WindowFunction(mut call) => {
            let func = match &call.fun {
                WindowFunctionDefinition::AggregateUDF(func) if !is_over_windows(func) => func.clone(),
                _ => return Ok(Transformed::no(Expr::WindowFunction(call))),
            };
            let ours = ours(&func, &call.params.args, false, schema).unwrap_or(func);
            call.fun = WindowFunctionDefinition::AggregateUDF(over_windows(ours));
            Ok(Transformed::yes(Expr::WindowFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The aggregate that takes the place of DataFusion's. Over windows its count of different values stays.
fn ours(func: &AggregateUDF, args: &[Expr], distinct: bool, schema: &DFSchema) -> Option<Arc<AggregateUDF>> {
    let [arg] = args else { return None };
    match (func.name(), arg.get_type(schema).ok()?) {
        ("sum", DataType::Int64) => Some(SUM.clone()),
        ("sum", DataType::Float64) => Some(finite::SUM.clone()),
        ("avg", DataType::Float64) => Some(finite::AVERAGE.clone()),
        ("avg", DataType::Decimal128(_, _)) => Some(AVERAGE.clone()),
        ("count", ty) if distinct && ty.is_nested() => Some(COUNT.clone()),
        _ => None,
    }
}

static SUM: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::new_from_impl(CheckedSum::new())));

/// `sum` of bigint. The running sum is wider than its result, so that only the result must fit.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    signature: Signature,
}

impl CheckedSum {
    fn new() -> Self {
        CheckedSum { signature: Signature::exact(vec![DataType::Int64], Volatility::Immutable) }
    }
}

const STATE: DataType = DataType::Decimal128(38, 0);

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let state = match args.is_distinct {
            true => DataType::new_list(DataType::Int64, true),
            false => STATE,
        };
        Ok(vec![Arc::new(Field::new(format!("{}[sum]", args.name), state, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return Ok(Box::new(DistinctSum::default()));
        }
        Ok(Box::new(Sum::default()))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(GroupSums::default()))
    }
}

fn narrow(sum: i128) -> Result<i64> {
    i64::try_from(sum).map_err(|_| out_of_range("bigint"))
}

#[derive(Debug, Default)]
struct Sum {
    sum: i128,
    count: i64,
}

impl Accumulator for Sum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<Int64Type>();
        self.sum += values.iter().flatten().map(i128::from).sum::<i128>();
        self.count += (values.len() - values.null_count()) as i64;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<Int64Type>();
        self.sum -= values.iter().flatten().map(i128::from).sum::<i128>();
        self.count -= (values.len() - values.null_count()) as i64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(if self.count > 0 { Some(narrow(self.sum)?) } else { None }))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Decimal128((self.count > 0).then_some(self.sum), 38, 0)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for sum in states[0].as_primitive::<Decimal128Type>().iter().flatten() {
            self.sum += sum;
            self.count += 1;
        }
        Ok(())
    }
}

/// `sum(DISTINCT x)`; runs after the engine has gathered all rows of a group in one place, or over a frame that rows leave.
#[derive(Debug, Default)]
struct DistinctSum {
    /// How often each value is there.
    counts: hashbrown::HashMap<i64, usize>,
    sum: i128,
}

impl DistinctSum {
    fn add(&mut self, value: i64) {
        let count = self.counts.entry(value).or_insert(0);
        *count += 1;
        if *count == 1 {
            self.sum += i128::from(value);
        }
    }

    fn take_back(&mut self, value: i64) {
        let Entry::Occupied(mut count) = self.counts.entry(value) else { return };
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
            self.sum -= i128::from(value);
        }
    }
}

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Int64Type>().iter().flatten().for_each(|value| self.add(value));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Int64Type>().iter().flatten().for_each(|value| self.take_back(value));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(if self.counts.is_empty() { None } else { Some(narrow(self.sum)?) }))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(i64, usize)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<ScalarValue> = self.counts.keys().map(|value| ScalarValue::Int64(Some(*value))).collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Int64))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for list in states[0].as_list::<i32>().iter().flatten() {
            list.as_primitive::<Int64Type>().iter().flatten().for_each(|value| self.add(value));
        }
        Ok(())
    }
}

/// Sums of many groups: one wide integer and a flag each.
#[derive(Debug, Default)]
struct GroupSums {
    sums: Vec<i128>,
    seen: Vec<bool>,
}

impl GroupSums {
    fn grow(&mut self, groups: usize) {
        self.sums.resize(groups.max(self.sums.len()), 0);
        self.seen.resize(groups.max(self.seen.len()), false);
    }

    fn add(&mut self, group: usize, value: i128) {
        self.sums[group] += value;
        self.seen[group] = true;
    }

    fn take(&mut self, emit: EmitTo) -> (Vec<i128>, Vec<bool>) {
        (emit.take_needed(&mut self.sums), emit.take_needed(&mut self.seen))
    }
}

fn passes(filter: Option<&arrow::array::BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|f| f.is_valid(row) && f.value(row))
}

impl GroupsAccumulator for GroupSums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&arrow::array::BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        let values = values[0].as_primitive::<Int64Type>();
        if filter.is_none() && values.null_count() == 0 {
            values.values().iter().zip(groups).for_each(|(v, g)| self.add(*g, *v as i128));
            return Ok(());
        }
        for (row, group) in groups.iter().enumerate() {
            if values.is_valid(row) && passes(filter, row) {
                self.add(*group, values.value(row) as i128);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let sums = states[0].as_primitive::<Decimal128Type>();
        for (row, group) in groups.iter().enumerate() {
            if sums.is_valid(row) {
                self.add(*group, sums.value(row));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, seen) = self.take(emit);
        let values = sums.into_iter().zip(seen).map(|(sum, seen)| if seen { narrow(sum).map(Some) } else { Ok(None) });
        Ok(Arc::new(values.collect::<Result<Int64Array>>()?))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, seen) = self.take(emit);
        let sums = sums.into_iter().zip(seen).map(|(sum, seen)| seen.then_some(sum));
        Ok(vec![Arc::new(sums.collect::<PrimitiveArray<Decimal128Type>>().with_data_type(STATE))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&arrow::array::BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<Int64Type>();
        let kept = |(row, value): (usize, Option<i64>)| value.filter(|_| passes(filter, row)).map(i128::from);
        let sums = values.iter().enumerate().map(kept);
        Ok(vec![Arc::new(sums.collect::<PrimitiveArray<Decimal128Type>>().with_data_type(STATE))])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.seen.capacity()
    }
}
