//! DataFusion's rules for a plan that runs once, as far as they are right: what they get wrong is ours. It does not know what the plan reads.

use super::constants::Simplify;
use super::cross_joins::CrossJoins;
use super::empty::PropagateEmpty;
use super::grouped::GroupedOnce;
use super::keys::{EqualKeys, NullEqualKeys};
use super::operands::Operands;
use super::projections::Projections;
use super::push_down::PushDown;
use super::single_distinct::SingleDistinct;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use std::sync::Arc;

/// In DataFusion's order; ours take the places of those that have their names.
pub fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let ours: [Arc<dyn OptimizerRule + Send + Sync>; 8] = [
        Arc::new(CrossJoins),
        Arc::new(EqualKeys::default()),
        Arc::new(GroupedOnce::default()),
        Arc::new(Projections::default()),
        Arc::new(PropagateEmpty::default()),
        Arc::new(PushDown::default()),
        Arc::new(Simplify::default()),
        Arc::new(SingleDistinct::default()),
    ];
    let own = |rule: Arc<dyn OptimizerRule + Send + Sync>| ours.iter().find(|own| own.name() == rule.name()).cloned().unwrap_or(rule);
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = Optimizer::new().rules.into_iter().map(own).collect();
    rules.push(Arc::new(NullEqualKeys::default()));
    rules.push(Arc::new(Operands));
    rules
}
