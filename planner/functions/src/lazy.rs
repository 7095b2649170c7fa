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

/// AND and OR. Both sides are evaluated over the whole batch at first. Where that fails, the right side is
/// evaluated for those rows alone that the left side does not decide: whether a row fails is thus its own doing.
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

    fn evaluate_lazily(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let and = *self.whole.op() == Operator::And;
        let left = self.whole.left().evaluate(batch)?.into_array(batch.num_rows())?;
        let left = left.as_boolean();
        // AND is decided by false, OR by true; null decides nothing.
        let open = BooleanArray::from_unary(left, |decided| decided == and);
        let open =
            if left.null_count() == 0 { open } else { compute::or(&compute::prep_null_mask_filter(&open), &compute::is_null(left)?)? };
        let rest = compute::filter_record_batch(batch, &open)?;
        let right = if rest.num_rows() == 0 {
            BooleanArray::new_null(0)
        } else {
            self.whole.right().evaluate(&rest)?.into_array(rest.num_rows())?.as_boolean().clone()
        };
        let right = scatter(&open, &right, !and);
        let result = if and { compute::and_kleene(left, &right)? } else { compute::or_kleene(left, &right)? };
        Ok(ColumnarValue::Array(Arc::new(result)))
    }
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
        self.whole.evaluate(batch).or_else(|_| self.evaluate_lazily(batch))
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
