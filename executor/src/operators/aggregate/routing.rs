//! By which of its columns the rows of a node were sent to this worker: the keys of the nearest exchange below, followed
//! upwards through the nodes between.

use eddyline_common::{Result, SqlError};
use eddyline_planner::plan::{Expr, JoinKind, NodeId, Op, StreamPlan};

/// Columns of `node`, in the order of the exchange's keys.
pub fn routing(plan: &StreamPlan, node: NodeId) -> Result<Vec<usize>> {
    let inputs = &plan.nodes[node].inputs;
    let below = |input: usize| routing(plan, inputs[input]);
    let moved = |columns: Vec<usize>, place: &dyn Fn(usize) -> Option<usize>| {
        let columns: Option<Vec<usize>> = columns.into_iter().map(place).collect();
        columns.ok_or_else(|| SqlError::internal("a node leaves out the columns that rows were exchanged by"))
    };
    match &plan.nodes[node].op {
        Op::Exchange { keys } | Op::JoinExchange { keys } => Ok(keys.clone()),
        // These keep columns where they are; a union is over inputs that are exchanged alike.
        Op::Filter { .. }
        | Op::TemporalFilter { .. }
        | Op::ProcessingTime { .. }
        | Op::WindowAssign { .. }
        | Op::SessionAssign { .. }
        | Op::TopN { .. }
        | Op::Over { .. }
        | Op::PreAggregate { .. }
        | Op::ExternalLookup { .. }
        | Op::Normalize { .. }
        | Op::Union => below(0),
        Op::Unnest { lists } => moved(below(0)?, &|column| (!lists.contains(&column)).then_some(column)),
        Op::Project { exprs } => moved(below(0)?, &|column| exprs.iter().position(|e| *e == Expr::Column(column))),
        Op::MatchRecognize { keep, .. } => moved(below(0)?, &|column| keep.iter().position(|k| *k == column)),
        Op::Aggregate { group, .. } => moved(below(0)?, &|column| group.iter().position(|g| *g == column)),
        Op::Join { kind: JoinKind::Right, .. } => {
            let offset = plan.nodes[inputs[0]].columns.len();
            moved(below(1)?, &|column| Some(column + offset))
        }
        Op::Join { .. } | Op::LookupJoin { .. } | Op::TemporalJoin { .. } | Op::AsofJoin { .. } => below(0),
        Op::Scan { .. } | Op::Values { .. } | Op::Materialize { .. } | Op::Sink { .. } => {
            Err(SqlError::internal("the input of an operator with state is not exchanged"))
        }
    }
}
