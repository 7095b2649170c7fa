//! DataFusion's way with inputs that have no rows. Where one input of a UNION is left, it would look for the union's columns in that by their names, which are those of the first one: here they
//! are the columns in their places. It does not know why there are no rows.

use super::corrected::{Corrected, Correction};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Union};
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// In the place of DataFusion's rule.
pub type PropagateEmpty = Corrected<PropagateEmptyRelation>;

impl Correction for PropagateEmptyRelation {
    fn corrected(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Union(union) => match only_input(union) {
                Some(input) => under_names_of(union, input).map(Transformed::yes),
                None => self.rewrite(plan, config),
            },
            _ => self.rewrite(plan, config),
        }
    }
}

/// The one input of several that may have rows.
fn only_input(union: &Union) -> Option<&Arc<LogicalPlan>> {
    let is_empty = |input: &LogicalPlan| matches!(input, LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row);
    let mut left = union.inputs.iter().filter(|input| !is_empty(input));
    left.next().filter(|_| left.next().is_none() && union.inputs.len() > 1)
}

fn under_names_of(union: &Union, input: &Arc<LogicalPlan>) -> DfResult<LogicalPlan> {
    let columns = input.schema().columns().into_iter().zip(union.schema.iter());
    let columns = columns.map(|(column, (qualifier, field))| Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
    Projection::try_new(columns.collect(), input.clone()).map(LogicalPlan::Projection)
}
