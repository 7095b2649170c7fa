//! ASOF joins: both inputs to where rows with equal keys meet, and whether event time bounds what is kept of them.

use super::calls::unaliased;
use super::chosen::{Asked, Chosen};
use super::join::output_columns;
use super::{Lowering, keys};
use crate::bind::asof::comparison;
use crate::bind::chosen::ChosenJoin;
use crate::expr;
use crate::plan::{BinaryOp, ChangelogMode, Expr, Node, Op};
use datafusion::logical_expr::{Expr as DfExpr, LogicalPlan, Operator};
use eddyline_common::{Result, SqlError};

impl Lowering<'_> {
    pub(super) fn asof_join(&mut self, join: &ChosenJoin, asked: Asked, compared: &DfExpr, order: &[DfExpr]) -> Result<Chosen> {
        let Asked { kind, equalities: on, rest } = asked;
        let broken = || SqlError::internal("the comparison of an ASOF join is none any more");
        let compared = comparison(unaliased(compared), join.left.schema(), join.right.schema());
        let (op, of_left, of_right) = compared.ok_or_else(broken)?;
        // The places are the last ones of the keys, for now.
        let mut left = self.input(&join.left, on.iter().map(|(l, _)| l).chain([&of_left]))?;
        let mut right = self.input(&join.right, on.iter().map(|(_, r)| r).chain([&of_right]))?;
        self.check_key_types(&left, &right)?;
        let (Some(of_left), Some(of_right)) = (left.keys.pop(), right.keys.pop()) else { return Err(broken()) };
        let condition = self.rest(rest, &left, right.plan)?;
        let order = order_in_place(order, right.plan, &right.keys, of_right)?;
        let offset = self.nodes[left.node].columns.len();
        let [left_node, right_node] = self.together(&left, &right, kind, false);
        let (places, keys) = ([of_left, of_right], [left.keys, right.keys]);
        let before = matches!(op, Operator::GtEq | Operator::Gt);
        let bounded =
            before && [(left_node, of_left), (right_node, of_right)].iter().all(|(n, place)| self.times_of_rows(*n).contains(place));
        let (l, r) = (&self.nodes[left_node], &self.nodes[right_node]);
        let node = Node {
            mode: ChangelogMode::Retract,
            columns: output_columns(l, r, kind),
            // A left row has one right row at most.
            unique_keys: if bounded { keys::without_late(l, of_left) } else { l.unique_keys.clone() },
            // Behind the watermark both sides are final, and so is what comes of them.
            time_columns: if bounded { vec![of_left] } else { vec![] },
            inputs: vec![left_node, right_node],
            op: Op::AsofJoin { kind, keys, condition, places, compared: compared_by(op), order, bounded, state: self.ids.allocate() },
        };
        let facts = self.joined_facts(left_node, right_node, kind, None);
        Ok(Chosen { node: self.push(node, facts), of_left: offset })
    }
}

/// The right columns that order rows of one key in one place.
fn order_in_place(by: &[DfExpr], right: &LogicalPlan, keys: &[usize], place: usize) -> Result<Vec<usize>> {
    let mut order = Vec::new();
    for column in by {
        match expr::from_datafusion(unaliased(column), right.schema())? {
            Expr::Column(column) if column == place || keys.contains(&column) => {}
            Expr::Column(column) => order.push(column),
            _ => return Err(SqlError::internal("an ASOF join orders rows by what is no column")),
        }
    }
    Ok(order)
}

fn compared_by(op: Operator) -> BinaryOp {
    match op {
        Operator::GtEq => BinaryOp::GtEq,
        Operator::Gt => BinaryOp::Gt,
        Operator::LtEq => BinaryOp::LtEq,
        _ => BinaryOp::Lt,
    }
}
