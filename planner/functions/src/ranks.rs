//! `row_number`, `rank`, `dense_rank` and `ntile` as PostgreSQL has them: bigints. DataFusion's give unsigned numbers, which are numerics beside others, so that a half of a rank had a
//! fraction. What they count is DataFusion's; only the type is ours.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::{SortOptions, cast};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::function::{ExpressionArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, WindowUDF, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use std::ops::Range;
use std::sync::Arc;

const NAMES: [&str; 4] = ["row_number", "rank", "dense_rank", "ntile"];

/// The functions, for the registry: in the place of DataFusion's of the same names.
pub fn functions() -> Vec<Arc<WindowUDF>> {
    let theirs = SessionStateDefaults::default_window_functions().into_iter();
    let counting = theirs.filter(|of| NAMES.contains(&of.name()));
    counting.map(|of| Arc::new(WindowUDF::new_from_impl(Signed { of }))).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Signed {
    of: Arc<WindowUDF>,
}

impl WindowUDFImpl for Signed {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn aliases(&self) -> &[String] {
        self.of.aliases()
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn expressions(&self, args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        self.of.expressions(args)
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> DfResult<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(SignedEvaluator { of: self.of.partition_evaluator_factory(args)? }))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Int64, false)))
    }

    fn sort_options(&self) -> Option<SortOptions> {
        self.of.sort_options()
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        self.of.reverse_expr()
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.of.inner().limit_effect(args)
    }
}

#[derive(Debug)]
struct SignedEvaluator {
    of: Box<dyn PartitionEvaluator>,
}

fn signed(numbers: &ArrayRef) -> DfResult<ArrayRef> {
    Ok(cast(numbers, &DataType::Int64)?)
}

impl PartitionEvaluator for SignedEvaluator {
    fn memoize(&mut self, state: &mut WindowAggState) -> DfResult<()> {
        self.of.memoize(state)
    }

    fn get_range(&self, idx: usize, n_rows: usize) -> DfResult<Range<usize>> {
        self.of.get_range(idx, n_rows)
    }

    fn is_causal(&self) -> bool {
        self.of.is_causal()
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> DfResult<ArrayRef> {
        signed(&self.of.evaluate_all(values, num_rows)?)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> DfResult<ScalarValue> {
        self.of.evaluate(values, range)?.cast_to(&DataType::Int64)
    }

    fn evaluate_all_with_rank(&self, num_rows: usize, ranks_in_partition: &[Range<usize>]) -> DfResult<ArrayRef> {
        signed(&self.of.evaluate_all_with_rank(num_rows, ranks_in_partition)?)
    }

    fn supports_bounded_execution(&self) -> bool {
        self.of.supports_bounded_execution()
    }

    fn uses_window_frame(&self) -> bool {
        self.of.uses_window_frame()
    }

    fn include_rank(&self) -> bool {
        self.of.include_rank()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;

    #[test]
    fn ranks_are_bigints() {
        let functions = functions();
        assert_eq!(functions.len(), NAMES.len());
        for function in functions {
            let field = function.field(WindowUDFFieldArgs::new(&[], "place")).unwrap();
            assert_eq!((field.name().as_str(), field.data_type()), ("place", &DataType::Int64), "{}", function.name());
        }
    }

    #[test]
    fn values_are_of_the_type_that_is_told() {
        let functions = functions();
        let evaluator = |name: &str| {
            let function = functions.iter().find(|f| f.name() == name).unwrap();
            function.partition_evaluator_factory(PartitionEvaluatorArgs::default()).unwrap()
        };
        assert_eq!(evaluator("row_number").evaluate(&[], &(0..1)).unwrap(), ScalarValue::Int64(Some(1)));
        let ranks = evaluator("rank").evaluate_all_with_rank(3, &[0..2, 2..3]).unwrap();
        assert_eq!(ranks.as_primitive::<Int64Type>().values(), &[1, 1, 3]);
    }
}
