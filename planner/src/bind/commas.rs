//! `FROM a, LATERAL (...) AS x LEFT JOIN y ON ...`: a comma joins last, and the binder looks for what the lateral side names in `x LEFT JOIN y` alone. Where nothing but inner and left joins
//! follows, `a CROSS JOIN LATERAL (...) AS x LEFT JOIN y ON ...` has the same rows. It does not know what the lateral side names.

use datafusion::sql::sqlparser::ast::*;

/// Joins what is lateral behind a comma to what stands before it.
pub fn rewrite(from: &mut Vec<TableWithJoins>) {
    for at in (1..from.len()).rev() {
        if has_lateral(&from[at]) {
            let TableWithJoins { relation, joins } = from.remove(at);
            let join = Join { relation, global: false, join_operator: JoinOperator::CrossJoin(JoinConstraint::None) };
            from[at - 1].joins.extend(std::iter::once(join).chain(joins));
        }
    }
}

fn has_lateral(table: &TableWithJoins) -> bool {
    let is_lateral = |factor: &TableFactor| matches!(factor, TableFactor::Derived { lateral: true, .. });
    let keeps_left = |join: &Join| match &join.join_operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::CrossJoin(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c) => {
            matches!(c, JoinConstraint::On(_) | JoinConstraint::None)
        }
        _ => false,
    };
    let any_lateral = is_lateral(&table.relation) || table.joins.iter().any(|join| is_lateral(&join.relation));
    !table.joins.is_empty() && table.joins.iter().all(keeps_left) && any_lateral
}
