//! `lag` and `lead` whose number of places differs from row to row. DataFusion's take a constant, and do the work where there is one. It does not know the order of the rows.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use datafusion::arrow::compute::{cast, interleave};
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::function::{ExpressionArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, WindowUDF, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use std::sync::Arc;

const LAG: &str = "lag";
const LEAD: &str = "lead";

/// The functions, for the registry: in the place of DataFusion's of the same names.
pub fn functions() -> Vec<Arc<WindowUDF>> {
    let theirs = SessionStateDefaults::default_window_functions().into_iter();
    let shifts = theirs.filter(|of| [LAG, LEAD].contains(&of.name()));
    shifts.map(|of| Arc::new(WindowUDF::new_from_impl(Shift { of }))).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Shift {
    of: Arc<WindowUDF>,
}

/// Theirs take a constant null for 0.
fn is_computed(args: &[Arc<dyn PhysicalExpr>]) -> bool {
    args.get(1).is_some_and(|places| places.downcast_ref::<Literal>().is_none_or(|places| places.value().is_null()))
}

impl WindowUDFImpl for Shift {
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
        if is_computed(args.input_exprs()) { args.input_exprs().to_vec() } else { self.of.expressions(args) }
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> DfResult<Box<dyn PartitionEvaluator>> {
        if !is_computed(args.input_exprs()) {
            return self.of.partition_evaluator_factory(args);
        }
        if args.ignore_nulls() {
            let what = format!("{} with IGNORE NULLS and a number of places that is no constant is not supported in a query", self.name());
            return Err(DataFusionError::NotImplemented(what));
        }
        Ok(Box::new(Shifted { back: self.name() == LAG }))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> DfResult<FieldRef> {
        self.of.field(args)
    }

    /// Theirs in the other direction would be asked for places that are no constant.
    fn reverse_expr(&self) -> ReversedUDWF {
        ReversedUDWF::NotSupported
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        // Places may be negative.
        if is_computed(args) { LimitEffect::Unknown } else { self.of.inner().limit_effect(args) }
    }
}

#[derive(Debug)]
struct Shifted {
    back: bool,
}

impl PartitionEvaluator for Shifted {
    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> DfResult<ArrayRef> {
        let [value, places, default @ ..] = values else {
            return Err(DataFusionError::Internal("no number of places".to_string()));
        };
        let places = cast(places, &DataType::Int64)?;
        let places = places.as_primitive::<Int64Type>();
        let nulls = new_null_array(value.data_type(), num_rows);
        let default = default.first().map_or_else(|| Ok(nulls.clone()), |default| cast(default, value.data_type()))?;
        let found: Vec<(usize, usize)> = (0..num_rows)
            .map(|row| {
                if places.is_null(row) {
                    return (2, row);
                }
                let places = if self.back { places.value(row).checked_neg() } else { Some(places.value(row)) };
                let at = places.and_then(|places| row.checked_add_signed(isize::try_from(places).ok()?)).filter(|at| *at < num_rows);
                at.map_or((1, row), |at| (0, at))
            })
            .collect();
        Ok(interleave(&[value.as_ref(), default.as_ref(), nulls.as_ref()], &found)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Int64Array;

    #[test]
    fn each_row_says_how_far() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![10, 20, 30]));
        let places: ArrayRef = Arc::new(Int64Array::from(vec![Some(-2), Some(1), None]));
        let default: ArrayRef = Arc::new(Int64Array::from(vec![7, 7, 7]));
        let of = |back, args: &[ArrayRef]| {
            let shifted = Shifted { back }.evaluate_all(args, 3).unwrap();
            shifted.as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
        };
        assert_eq!(of(true, &[values.clone(), places.clone()]), [Some(30), Some(10), None]);
        assert_eq!(of(false, &[values, places, default]), [Some(7), Some(30), None]);
    }

    #[test]
    fn both_are_ours() {
        let mut names: Vec<String> = functions().iter().map(|function| function.name().to_string()).collect();
        names.sort();
        assert_eq!(names, [LAG, LEAD]);
    }
}
