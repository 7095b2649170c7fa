//! What the columns of a plan are called in its query, as far as the plan tells: a name that was made up on the way stands for an expression, which
//! is shown in SQL's notation instead.

use super::{aggregate_call, expr};
use crate::bind::window::{GROUP_WINDOW_COLUMNS, WINDOW_COLUMNS};
use crate::plan::{NodeId, Op, StreamPlan};

/// What a column of a node's input is called, by its name in the plan.
pub fn called(plan: &StreamPlan, node: NodeId, name: &str) -> String {
    let place = |input: &NodeId| Some((*input, plan.nodes[*input].columns.iter().position(|column| column.name == name)?));
    let found = plan.nodes.get(node).and_then(|node| node.inputs.iter().find_map(place));
    found.map_or_else(|| name.to_string(), |(input, column)| bare(&column_called(plan, input, column)).to_string())
}

fn column_called(plan: &StreamPlan, id: NodeId, column: usize) -> String {
    let node = &plan.nodes[id];
    let name = node.columns.get(column).map_or("", |column| column.name.as_str());
    if is_of_the_query(name) {
        return name.to_string();
    }
    let below = |column: usize| node.inputs.first().map_or_else(|| format!("#{column}"), |input| column_called(plan, *input, column));
    match &node.op {
        Op::Project { exprs } => exprs.get(column).map_or_else(|| name.to_string(), |e| expr(e, &below)),
        Op::Filter { .. } | Op::TemporalFilter { .. } | Op::PreAggregate { .. } | Op::Exchange { .. } | Op::JoinExchange { .. } => {
            below(column)
        }
        Op::Aggregate { group, calls, .. } => match (group.get(column), calls.get(column.saturating_sub(group.len()))) {
            (Some(at), _) => below(*at),
            (None, Some(call)) => aggregate_call(call, &|at: &usize| below(*at)),
            (None, None) => name.to_string(),
        },
        _ => of_window(name).to_string(),
    }
}

/// The columns of a group window are called as those of a window in FROM.
fn of_window(name: &str) -> &str {
    GROUP_WINDOW_COLUMNS.iter().position(|column| *column == name).map_or(name, |at| WINDOW_COLUMNS[at])
}

/// Names of DataFusion's making are expressions in its notation, of which those that only have words can be read, or begin with two underscores.
fn is_of_the_query(name: &str) -> bool {
    !name.is_empty() && !name.starts_with("__") && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | ' '))
}

/// Without the parentheses around the whole.
fn bare(text: &str) -> &str {
    text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{BinaryOp, ChangelogMode, Expr, Node, PLAN_VERSION};
    use eddyline_common::types::Column;
    use eddyline_common::{RelationId, SqlType};

    #[test]
    fn names_that_were_made_up_are_expressions() {
        let node = |op, inputs, names: &[&str]| Node {
            op,
            inputs,
            columns: names.iter().map(|name| Column::new(*name, SqlType::BigInt, true)).collect(),
            mode: ChangelogMode::Append,
            unique_keys: vec![],
            time_columns: vec![],
        };
        let sum = |left, right| Expr::Binary { op: BinaryOp::Plus, left: Box::new(left), right: Box::new(right) };
        let column = Expr::Column;
        let below = vec![column(0), sum(column(0), column(1)), column(1)];
        let above = vec![sum(column(1), column(0)), column(0), column(1), column(2)];
        let nodes = vec![
            node(Op::Scan { relation: RelationId(1), projection: vec![0, 1] }, vec![], &["a", "my column"]),
            node(Op::Project { exprs: below }, vec![0], &["a", "__common_expr_1", "alias of mine"]),
            node(Op::Exchange { keys: vec![0] }, vec![1], &["a", "__common_expr_1", "alias of mine"]),
            node(Op::Project { exprs: above }, vec![2], &["t.a + t.b", "renamed", "__common_expr_1", "alias of mine"]),
            node(Op::Materialize { key: vec![] }, vec![3], &["x", "y", "z", "u"]),
        ];
        let plan = StreamPlan { version: PLAN_VERSION, nodes, output: 4, state_ttl: vec![] };
        let names = ["t.a + t.b", "renamed", "__common_expr_1", "alias of mine", "not there"].map(|name| called(&plan, 4, name));
        assert_eq!(names, ["(a + my column) + a", "renamed", "a + my column", "alias of mine", "not there"]);
    }
}
