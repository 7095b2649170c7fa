//! The rules by which DataFusion optimises physical plans, without those that push filters further down. They look columns up by their names, so that
//! above a join of tables that share one, a filter may be moved to the wrong side and compare a column with itself (apache/datafusion#21246, #25296). What can be
//! pushed is pushed in the logical plan, and our scans take no filters while they run.

use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use std::sync::Arc;

/// Of the rules that push filters.
const FILTERS: &str = "FilterPushdown";

pub fn rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    PhysicalOptimizer::new().rules.into_iter().filter(|rule| !rule.name().starts_with(FILTERS)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_rules_that_push_filters_are_left_out() {
        assert_eq!(PhysicalOptimizer::new().rules.len(), rules().len() + 2);
    }
}
