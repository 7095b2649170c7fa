//! Scalar functions by name, as plans call them: exactly those of the planner's registry.

use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub(crate) fn scalar(name: &str) -> Option<Arc<ScalarUDF>> {
    eddyline_planner::functions::registry().udf(name).ok()
}
