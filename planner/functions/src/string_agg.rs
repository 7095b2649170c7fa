//! STRING_AGG is DataFusion's, but needs no order of its input: with ORDER BY its accumulator sorts what a group has, and so several calls with
//! different orders go together. DataFusion's own asks that the input be in its order, of which there is one only. Views have theirs (the executor's).

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::functions_aggregate::string_agg::StringAgg as Theirs;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, Signature};
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
