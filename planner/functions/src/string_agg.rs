//! STRING_AGG is DataFusion's, but needs no order of its input: with ORDER BY its accumulator sorts what a group has, and so several calls with
//! different orders go together. DataFusion's own asks that the input be in its order, of which there is one only. And it goes over frames of windows from which
//! rows leave. Views have theirs (the executor's).

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::functions_aggregate::string_agg::StringAgg as Theirs;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, Signature};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct StringAgg {
    of: Theirs,
}

impl AggregateUDFImpl for StringAgg {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.of.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        self.of.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        self.of.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        match args.is_distinct || !args.order_bys.is_empty() {
            true => self.accumulator(args),
            false => Ok(Box::new(Sliding::default())),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.of.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        self.of.create_groups_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Beneficial
    }

    /// It sorts in any case.
    fn with_beneficial_ordering(self: Arc<Self>, _beneficial: bool) -> DfResult<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }
}

/// What a frame has: the delimiter and the text of each row, the oldest first.
#[derive(Debug, Default)]
struct Sliding {
    rows: VecDeque<(Option<String>, Option<String>)>,
    bytes: usize,
}

impl Accumulator for Sliding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let [texts, delimiters] = values else { return Err(misused()) };
        let (texts, delimiters) = (cast(texts, &DataType::LargeUtf8)?, cast(delimiters, &DataType::LargeUtf8)?);
        for (text, delimiter) in texts.as_string::<i64>().iter().zip(delimiters.as_string::<i64>().iter()) {
            let row = (delimiter.map(str::to_string), text.map(str::to_string));
            self.bytes += bytes(&row);
            self.rows.push_back(row);
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let leaving = values.first().map_or(0, |texts| texts.len()).min(self.rows.len());
        self.bytes -= self.rows.drain(..leaving).map(|row| bytes(&row)).sum::<usize>();
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let mut all: Option<String> = None;
        for (delimiter, text) in &self.rows {
            let Some(text) = text else { continue };
            all = Some(match all {
                Some(before) => before + delimiter.as_deref().unwrap_or_default() + text,
                None => text.clone(),
            });
        }
        Ok(ScalarValue::LargeUtf8(all))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.rows.capacity() * size_of::<(Option<String>, Option<String>)>() + self.bytes
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Err(misused())
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> DfResult<()> {
        Err(misused())
    }
}

fn bytes((delimiter, text): &(Option<String>, Option<String>)) -> usize {
    [delimiter, text].into_iter().flatten().map(String::len).sum()
}

fn misused() -> DataFusionError {
    DataFusionError::Internal("string_agg of a frame has a text and a delimiter, and is of no group".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::StringArray;

    #[test]
    fn rows_leave_a_frame_as_they_came() {
        let mut frame = Sliding::default();
        let arrays = |texts: &[Option<&str>]| -> Vec<ArrayRef> {
            vec![Arc::new(StringArray::from(texts.to_vec())), Arc::new(StringArray::from(vec![", "; texts.len()]))]
        };
        let shown = |frame: &mut Sliding| frame.evaluate().unwrap().try_as_str().flatten().map(str::to_string);
        assert_eq!(shown(&mut frame), None);
        frame.update_batch(&arrays(&[None, Some("a"), None, Some("b"), Some("c")])).unwrap();
        assert_eq!(shown(&mut frame).as_deref(), Some("a, b, c"));
        frame.retract_batch(&arrays(&[None, Some("a")])).unwrap();
        assert_eq!((shown(&mut frame).as_deref(), frame.bytes), (Some("b, c"), 2 + 3 * 2));
        frame.retract_batch(&arrays(&[None, Some("b"), Some("c")])).unwrap();
        assert_eq!((shown(&mut frame), frame.bytes), (None, 0));
    }
}
