//! The rules by which DataFusion optimises physical plans, as far as they are right.
//!
//! - Those that push filters further down are left out. They look columns up by their names, so that above a join of tables that share one, a filter may be moved to
//!   the wrong side and compare a column with itself (apache/datafusion#21246, #25296). What can be pushed is pushed in the logical plan, and our scans take no
//!   filters while they run.
//! - So is the one that answers aggregates by statistics. Our scans have none, and beside a count that is always zero it makes a plan that fails.
//! - What is known of rows is forgotten where wrong conclusions follow from it (`forgetting`).
//! - What a join by nested loops holds is not spilled by reading it again (`once`).
//! - Groups of floats are all made before the first of them are taken (`top_groups`).
//! - What a condition keeps from failing is not computed before it: projections stay above it (`projections`), and so does the right side of an AND (`guards`).

use super::forgetting::Forget;
use super::guards::Guards;
use super::once::Once;
use super::projections::Projections;
use super::top_groups::TopGroups;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use std::sync::Arc;

/// What the names of rules that are left out begin with.
const LEFT_OUT: [&str; 2] = ["FilterPushdown", "aggregate_statistics"];
/// The last rule that chooses joins.
const JOINS: &str = "join_selection";

pub fn rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.retain(|rule| !LEFT_OUT.iter().any(|name| rule.name().starts_with(name)));
    let joins = rules.iter().position(|rule| rule.name() == JOINS).map_or(0, |place| place + 1);
    rules.insert(joins, Arc::new(Forget));
    rules.insert(joins, Arc::new(Guards));
    rules.push(Arc::new(Once));
    let ours: [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 2] = [Arc::new(Projections), Arc::new(TopGroups::default())];
    rules.into_iter().map(|rule| ours.iter().find(|own| own.name() == rule.name()).cloned().unwrap_or(rule)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_where_they_belong() {
        let rules = rules();
        assert_eq!(PhysicalOptimizer::new().rules.len(), rules.len(), "three are left out, three are added");
        for own in ["Projections", "TopGroups(TopKAggregation)"] {
            assert!(rules.iter().any(|rule| format!("{rule:?}") == own), "the rule that {own} replaces has another name");
        }
        let place = |name: &str| rules.iter().position(|rule| rule.name() == name).expect("a rule of this name");
        assert_eq!((place(JOINS) + 1, place(JOINS) + 2), (place("Guards"), place("Forget")));
        assert!(place("Forget") < place("EnsureRequirements"));
        assert_eq!(place("Once") + 1, rules.len());
    }
}
