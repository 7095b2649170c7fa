//! Subscripts of the catalog's vectors (`int2vector`, `oidvector`), which begin at zero where those of arrays begin at one.

use datafusion::common::DFSchema;
use datafusion::common::Result;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{ExprSchemable, GetFieldAccess, lit};
use eddyline_common::types::TYPE_METADATA_KEY;

#[derive(Debug)]
pub struct VectorSubscripts;

impl ExprPlanner for VectorSubscripts {
    fn plan_field_access(&self, access: RawFieldAccessExpr, schema: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let field = access.expr.to_field(schema)?.1;
        let is_vector = field.metadata().get(TYPE_METADATA_KEY).is_some_and(|mark| mark.ends_with("vector"));
        Ok(match access {
            RawFieldAccessExpr { expr, field_access: GetFieldAccess::ListIndex { key } } if is_vector => {
                PlannerResult::Planned(array_element(expr, *key + lit(1i64)))
            }
            other => PlannerResult::Original(other),
        })
    }
}
