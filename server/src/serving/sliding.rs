//! Aggregates over a frame that rows leave (`ROWS 2 PRECEDING`). Those that can take rows back do; the others, which DataFusion refuses there, keep the rows of the frame and
//! are computed anew of them. It does not know of views, whose aggregates are all retracted.

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ReversedUDAF, SetMonotonicity, Signature};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use std::collections::VecDeque;
use std::sync::Arc;

/// The aggregate for calls over windows.
pub fn over_windows(of: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(OverWindows { of }))
}

/// Whether an aggregate is one of these.
pub fn is_over_windows(aggregate: &AggregateUDF) -> bool {
    aggregate.inner().is::<OverWindows>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OverWindows {
    of: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for OverWindows {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn aliases(&self) -> &[String] {
        self.of.aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.of.schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.of.human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.of.window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.of.display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.of.window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.of.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.of.return_type(types)
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        self.of.return_field(fields)
    }

    fn is_nullable(&self) -> bool {
        self.of.is_nullable()
    }

    fn default_value(&self, ty: &DataType) -> Result<ScalarValue> {
        self.of.default_value(ty)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.of.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.of.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.of.create_sliding_accumulator(args.clone()) {
            Ok(retracting) if retracting.supports_retract_batch() => Ok(retracting),
            _ => Ok(Box::new(Recomputed { of: self.of.clone(), args: Args::of(&args), columns: VecDeque::new() })),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.of.order_sensitivity()
    }

    fn with_beneficial_ordering(self: Arc<Self>, beneficial: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let of = self.of.as_ref().clone().with_beneficial_ordering(beneficial)?;
        Ok(of.map(|of| Arc::new(OverWindows { of: Arc::new(of) }) as Arc<dyn AggregateUDFImpl>))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.of.reverse_udf() {
            ReversedUDAF::Reversed(of) => ReversedUDAF::Reversed(over_windows(of)),
            other => other,
        }
    }

    fn set_monotonicity(&self, ty: &DataType) -> SetMonotonicity {
        self.of.inner().set_monotonicity(ty)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.of.supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.of.supports_within_group_clause()
    }
}

/// What an accumulator is made with.
#[derive(Debug)]
struct Args {
    return_field: FieldRef,
    schema: SchemaRef,
    ignore_nulls: bool,
    order_bys: Vec<PhysicalSortExpr>,
    is_reversed: bool,
    name: String,
    is_distinct: bool,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

impl Args {
    fn of(args: &AccumulatorArgs) -> Self {
        Args {
            return_field: args.return_field.clone(),
            schema: Arc::new(args.schema.clone()),
            ignore_nulls: args.ignore_nulls,
            order_bys: args.order_bys.to_vec(),
            is_reversed: args.is_reversed,
            name: args.name.to_string(),
            is_distinct: args.is_distinct,
            exprs: args.exprs.to_vec(),
            expr_fields: args.expr_fields.to_vec(),
        }
    }

    fn borrowed(&self) -> AccumulatorArgs<'_> {
        AccumulatorArgs {
            return_field: self.return_field.clone(),
            schema: &self.schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &self.order_bys,
            is_reversed: self.is_reversed,
            name: &self.name,
            is_distinct: self.is_distinct,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        }
    }
}

#[derive(Debug)]
struct Recomputed {
    of: Arc<AggregateUDF>,
    args: Args,
    /// The arguments of the frame's rows, in pieces, in the order in which they came.
    columns: VecDeque<Vec<ArrayRef>>,
}

impl Recomputed {
    /// An accumulator of all rows of the frame, which are one piece from then on.
    fn whole(&mut self) -> Result<Box<dyn Accumulator>> {
        let mut whole = self.of.accumulator(self.args.borrowed())?;
        if let Some(first) = self.columns.front() {
            let piece = |column: usize| concat(&self.columns.iter().map(|piece| piece[column].as_ref()).collect::<Vec<_>>());
            let all = if self.columns.len() == 1 { first.clone() } else { (0..first.len()).map(piece).collect::<Result<_, _>>()? };
            whole.update_batch(&all)?;
            self.columns = VecDeque::from([all]);
        }
        Ok(whole)
    }
}

impl Accumulator for Recomputed {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if values.first().is_some_and(|column| !column.is_empty()) {
            self.columns.push_back(values.to_vec());
        }
        Ok(())
    }

    /// What leaves a frame is what came first.
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut rest = values.first().map_or(0, |column| column.len());
        while rest > 0
            && let Some(first) = self.columns.pop_front()
        {
            let rows = first.first().map_or(0, |column| column.len());
            let gone = rest.min(rows);
            rest -= gone;
            if gone < rows {
                self.columns.push_front(first.iter().map(|column| column.slice(gone, rows - gone)).collect());
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.whole()?.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.columns.iter().flatten().map(|column| column.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.whole()?.state()
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        Err(DataFusionError::Internal("a frame is not merged of others".to_string()))
    }
}
