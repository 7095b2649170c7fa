//! DataFusion's rewrites that are sound for a query that never ends: an explicit list. Left out on purpose:
//! limit push-down (unsound under retraction), single-distinct-to-group-by (adds a stateful stage), and anything that
//! folds `now()`. Subqueries become joins; the order of joins stays as written, but for cross joins that a condition
//! above connects.
//!
//! - `batch`: the rules for plans that run once
//! - `clock`: what must be left of `now()`
//! - `constants`: those that are compared, in plans that run once too
//! - `copies`: how often expressions come to have one of their parts
//! - `corrected`: a rule of DataFusion's, but for what it gets wrong
//! - `correlation`: which correlated subqueries must not become joins, in plans that run once too
//! - `cross_joins`: in which order inner joins are made, in plans that run once too
//! - `empty`: inputs without rows, in plans that run once too
//! - `failing`: constants that fail whatever the rows are
//! - `grouped`: what follows from what is grouped by, in plans that run once
//! - `keys`: which conditions of a join are its keys, in plans that run once too
//! - `long_case`: CASE of many WHENs, in plans that run once too
//! - `operands`: what sorts, windows and aggregates compute of their input, in plans that run once
//! - `projections`: which columns there are, in plans that run once too
//! - `push_down`: how far conditions go down, in plans that run once too
//! - `repeated`: window functions that are called twice, in plans that run once too
//! - `single_distinct`: what is counted by groups, in plans that run once

mod batch;
mod clock;
mod constants;
pub mod copies;
mod corrected;
pub mod correlation;
mod cross_joins;
mod empty;
mod failing;
mod grouped;
mod keys;
mod long_case;
mod operands;
mod projections;
mod push_down;
mod repeated;
mod single_distinct;

pub use batch::rules as batch_rules;
pub use constants::Simplify;
pub use failing::failure;
pub use long_case::simplified;
pub use operands::Operands;
pub use projections::Projections;
pub use push_down::PushDown;

use crate::bind::options;
use crate::casts::{self, PostgresCasts};
use crate::functions::checked;
use cross_joins::CrossJoins;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::analyzer::{Analyzer, AnalyzerRule};
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::filter_null_join_keys::FilterNullJoinKeys;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};
use empty::PropagateEmpty;
use keys::{EqualKeys, NullEqualConditions, NullEqualKeys};
use push_down::PushDownToKeyless;
use std::sync::Arc;

/// Passes over the rules; plans here are small and settle in two.
const MAX_PASSES: u8 = 3;

fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(Simplify::default()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(EqualKeys::default()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(CrossJoins),
        Arc::new(PropagateEmpty::default()),
        Arc::new(FilterNullJoinKeys::default()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(PushDown::default()),
        Arc::new(PushDownToKeyless::default()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(Projections::default()),
        Arc::new(NullEqualConditions::default()),
        Arc::new(NullEqualKeys::default()),
    ]
}

/// The rule that a setting of `settings::RULES` switches. Those that make a plan possible have none; but without `eliminate_cross_join`, joins
/// stay in the order written, and a query whose neighbours are not connected is refused.
fn rule_of(setting: &str) -> Option<&'static str> {
    Some(match setting {
        "enable_common_subexpressions" => "common_sub_expression_eliminate",
        "enable_filter_pushdown" => "push_down_filter",
        "enable_join_reordering" => "eliminate_cross_join",
        "enable_null_key_filter" => "filter_null_join_keys",
        "enable_outer_join_elimination" => "eliminate_outer_join",
        "enable_projection_pushdown" => "optimize_projections",
        _ => return None,
    })
}

/// GROUPING(), type coercion, the casts that are PostgreSQL's own, and arithmetic that does not wrap.
pub fn analyze(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
        vec![Arc::new(ResolveGroupingFunction::new()), Arc::new(TypeCoercion::new()), Arc::new(PostgresCasts)];
    let coerced = Analyzer::with_rules(rules).execute_and_check(plan, options(), |_, _| {})?;
    checked::rewrite_plan(coerced, &|e, _| Ok(Transformed::no(e)))
}

/// Type coercion and the rules above. Constants that fail and are still there are refused.
pub fn optimize(plan: LogicalPlan, disabled: &[&str]) -> DfResult<LogicalPlan> {
    let plan = clock::fix_arrivals(analyze(plan)?)?;
    let disabled: Vec<&str> = disabled.iter().filter_map(|setting| rule_of(setting)).collect();
    let rules = rules().into_iter().filter(|rule| !disabled.contains(&rule.name())).collect();
    let mut options = options().clone();
    options.optimizer.filter_null_join_keys = true;
    // A scalar subquery changes as time goes on, so it is joined too.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    let plan = clock::settle(run(rules, options, plan)?)?;
    failing::check(&plan)?;
    Ok(plan)
}

fn run(rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>, options: ConfigOptions, plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let context = OptimizerContext::new_with_config_options(Arc::new(options));
    let context = context.without_query_execution_start_time().with_max_passes(MAX_PASSES).with_skip_failing_rules(false);
    Optimizer::with_rules(rules).optimize(plan, &context, |_, _| {})
}

/// A plan that runs once, as far as a row's expressions decide: coerced, with nothing that is not read, and with the keys of joins apart from their conditions.
pub fn settle(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> =
        vec![Arc::new(Simplify::default()), Arc::new(EqualKeys::default()), Arc::new(CrossJoins), Arc::new(Projections::default())];
    run(rules, options().clone(), analyze(plan)?)
}

/// An expression with the casts that its operands need.
pub fn coerce(expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).with_config_options(Arc::new(options().clone())).build();
    ExprSimplifier::new(context).coerce(expr, schema)
}

/// An expression coerced and simplified the way it will be inside a plan.
pub fn simplify(expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
    copies::check_expr(&expr)?;
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).with_config_options(Arc::new(options().clone())).build();
    let simplifier = ExprSimplifier::new(context);
    let cast = casts::rewrite_expr(simplifier.coerce(expr, schema)?, schema)?;
    long_case::simplified(&simplifier, checked::rewrite_expr(cast, schema)?)
}

/// The same for an expression without columns; one with columns stays as it is.
pub fn fold_constant(expr: Expr) -> DfResult<Expr> {
    if expr.column_refs().is_empty() { simplify(expr, &DFSchema::empty()) } else { Ok(expr) }
}
