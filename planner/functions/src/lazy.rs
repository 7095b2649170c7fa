//! AND and OR whose outcome for a row does not depend on its neighbours: the left side guards the right one. DataFusion evaluates both for all rows of a batch unless the left
//! side decides nearly all of them.

use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use std::fmt;
use std::sync::Arc;

/// Of so many rows, one that is undecided: fewer are taken out of their batch, as DataFusion does.
const FEW: usize = 5;

/// AND and OR. The right side is evaluated over the whole batch at first, unless the left one decides nearly all of it. Where that fails, it is
/// evaluated for those rows alone that the left side does not decide: whether a row fails is thus its own doing. The left side is evaluated once: in a
/// chain, each level would double the work of a left end that fails.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct LazyLogic {
    whole: BinaryExpr,
}

impl LazyLogic {
    /// `op` is one of the two.
    pub fn new(left: Arc<dyn PhysicalExpr>, op: Operator, right: Arc<dyn PhysicalExpr>) -> Self {
        debug_assert!(matches!(op, Operator::And | Operator::Or));
        LazyLogic { whole: BinaryExpr::new(left, op, right) }
    }

    /// The rows that the left side does not decide: AND is decided by false, OR by true, and nothing by null.
    fn open(&self, left: &BooleanArray) -> Result<BooleanArray> {
        let decided_by = *self.whole.op() == Operator::Or;
        Ok(match (left.null_count(), decided_by) {
            (0, true) => compute::not(left)?,
            (0, false) => left.clone(),
            _ => {
                let open = BooleanArray::from_unary(left, |value| value != decided_by);
                compute::or(&compute::prep_null_mask_filter(&open), &compute::is_null(left)?)?
            }
        })
    }

    fn right(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        booleans(self.whole.right().evaluate(batch)?, batch.num_rows())
    }
}

fn booleans(value: ColumnarValue, rows: usize) -> Result<BooleanArray> {
    let values = value.into_array(rows)?;
    // A null alone may have no type.
    Ok(compute::cast(&values, &DataType::Boolean)?.as_boolean().clone())
}

/// Spreads `values` over the true places of `mask`; elsewhere stands `fill`.
fn scatter(mask: &BooleanArray, values: &BooleanArray, fill: bool) -> BooleanArray {
    let mut next = 0;
    mask.values()
        .iter()
        .map(|open| {
            if !open {
                return Some(fill);
            }
            let value = values.is_valid(next).then(|| values.value(next));
            next += 1;
            value
        })
        .collect()
}

impl fmt::Display for LazyLogic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.whole, f)
    }
}

impl PhysicalExpr for LazyLogic {
    // What these are by default asks for both at each level: twice the work for each level of a long chain.
    fn data_type(&self, _input: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.whole.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.to_string(), DataType::Boolean, self.whole.nullable(input)?)))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let and = *self.whole.op() == Operator::And;
        let left = booleans(self.whole.left().evaluate(batch)?, batch.num_rows())?;
        let open = self.open(&left)?;
        let (undecided, rows) = (open.true_count(), batch.num_rows());
        if undecided == 0 {
            return Ok(ColumnarValue::Array(Arc::new(left)));
        }
        let right = match (undecided * FEW > rows).then(|| self.right(batch)) {
            Some(Ok(right)) => right,
            Some(Err(error)) if undecided == rows => return Err(error),
            _ => scatter(&open, &self.right(&compute::filter_record_batch(batch, &open)?)?, !and),
        };
        let result = if and { compute::and_kleene(&left, &right)? } else { compute::or_kleene(&left, &right)? };
        Ok(ColumnarValue::Array(Arc::new(result)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![self.whole.left(), self.whole.right()]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(LazyLogic::new(children[0].clone(), *self.whole.op(), children[1].clone())))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int32Array};
    use datafusion::common::DataFusionError;
    use datafusion::physical_expr::expressions::{binary, col, lit};
    use std::hash::{Hash, Hasher};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A condition that no row can be asked, and how often it was.
    #[derive(Debug)]
    struct Failing(Arc<AtomicUsize>);

    impl PartialEq for Failing {
        fn eq(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.0, &other.0)
        }
    }

    impl Eq for Failing {}

    impl Hash for Failing {
        fn hash<H: Hasher>(&self, state: &mut H) {
            Arc::as_ptr(&self.0).hash(state);
        }
    }

    impl fmt::Display for Failing {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("failing")
        }
    }

    impl PhysicalExpr for Failing {
        fn return_field(&self, _input: &Schema) -> Result<FieldRef> {
            Ok(Arc::new(Field::new("failing", DataType::Boolean, true)))
        }

        fn evaluate(&self, _batch: &RecordBatch) -> Result<ColumnarValue> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(DataFusionError::Execution("failed".to_string()))
        }

        fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
            vec![]
        }

        fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
            Ok(self)
        }

        fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("failing")
        }
    }

    fn batch(values: Vec<Option<i32>>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("k", Arc::new(Int32Array::from(values)) as ArrayRef, true)]).unwrap()
    }

    #[test]
    fn a_left_end_that_fails_is_asked_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut chain: Arc<dyn PhysicalExpr> = Arc::new(Failing(asked.clone()));
        for op in [Operator::And, Operator::Or].into_iter().cycle().take(20) {
            chain = Arc::new(LazyLogic::new(chain, op, lit(true)));
        }
        assert!(chain.evaluate(&batch(vec![Some(1), None])).is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    /// `k <> 0 AND 10 / k > 2` and its like with OR, over batches in which few and many rows are undecided.
    #[test]
    fn the_left_side_guards_the_right_one() {
        for repeated in [1, 20] {
            let zeros = std::iter::repeat_n(Some(0), repeated);
            let batch = batch(zeros.chain([Some(1), Some(5), None]).collect());
            let schema = batch.schema();
            let k = || col("k", &schema).unwrap();
            let quotient = binary(lit(10i32), Operator::Divide, k(), &schema).unwrap();
            let large = binary(quotient, Operator::Gt, lit(2i32), &schema).unwrap();
            for (guard, op, decided) in [(Operator::NotEq, Operator::And, false), (Operator::Eq, Operator::Or, true)] {
                let guard = binary(k(), guard, lit(0i32), &schema).unwrap();
                let value = LazyLogic::new(guard, op, large.clone()).evaluate(&batch).unwrap();
                let values = value.into_array(batch.num_rows()).unwrap();
                let expected = std::iter::repeat_n(Some(decided), repeated).chain([Some(true), Some(false), None]);
                assert_eq!(values.as_boolean().iter().collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{op}");
            }
        }
    }
}
