//! By which of an operator's input columns rows were sent to this worker: the keys of the nearest exchange below,
//! followed upwards through the nodes between.

use eddyline_common::{Result, SqlError};
use eddyline_planner::plan::{Expr, NodeId, Op, StreamPlan};

/// Columns of `node`, in the order of the exchange's keys.
pub fn routing(plan: &StreamPlan, node: NodeId) -> Result<Vec<usize>> {
    let below = |input: usize| routing(plan, plan.nodes[node].inputs[input]);
    match &plan.nodes[node].op {
        Op::Exchange { keys } => Ok(keys.clone()),
        // These keep columns where they are.
        Op::Filter { .. } | Op::WindowAssign { .. } | Op::TopN { .. } | Op::SessionAssign { .. } => below(0),
        Op::Aggregate { group, .. } => {
            let place = |column: usize| group.iter().position(|g| *g == column);
            let columns: Option<Vec<usize>> = below(0)?.into_iter().map(place).collect();
            columns.ok_or_else(|| SqlError::internal("an aggregate is not exchanged by its group"))
        }
        Op::Project { exprs } => {
            let place = |column: usize| exprs.iter().position(|e| *e == Expr::Column(column));
            let columns: Option<Vec<usize>> = below(0)?.into_iter().map(place).collect();
            columns.ok_or_else(|| SqlError::internal("a projection leaves out the columns that rows were exchanged by"))
        }
        _ => Err(SqlError::internal("the input of an aggregate is not exchanged")),
    }
}
