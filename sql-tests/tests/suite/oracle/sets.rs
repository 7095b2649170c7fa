//! Cases of set operations: UNION, INTERSECT and EXCEPT, with ALL and without. The truth of ALL is counted by hand.

use super::case::{Case, Scenario};
use super::relational;

const PLAIN: &[(&str, &str)] = &[
    ("union", "SELECT k, b FROM t UNION SELECT k, b FROM u"),
    ("union_of_three", "SELECT k FROM t UNION SELECT k FROM u UNION ALL SELECT k FROM a"),
    ("intersect", "SELECT k, b FROM t INTERSECT SELECT k, b FROM u"),
    ("intersect_append", "SELECT g FROM a WHERE i > 0 INTERSECT SELECT g FROM a WHERE i < 5"),
    ("intersect_types", "SELECT s FROM t INTERSECT SELECT i FROM u"),
    ("except", "SELECT k, g FROM t EXCEPT SELECT k, g FROM u"),
    ("except_append", "SELECT k, b FROM a EXCEPT SELECT k, b FROM t"),
    ("except_self", "SELECT k FROM t WHERE i > 0 EXCEPT SELECT k FROM t WHERE i < 0"),
    ("except_constants", "SELECT k FROM u EXCEPT VALUES (1), (2)"),
    ("intersect_of_groups", "SELECT k, COUNT(*) AS n FROM t GROUP BY k INTERSECT SELECT k, COUNT(*) FROM u GROUP BY k"),
    ("chained", "SELECT k FROM t EXCEPT SELECT k FROM u WHERE b UNION SELECT s FROM a"),
    ("precedence", "SELECT k FROM t UNION SELECT k FROM u INTERSECT SELECT s FROM a"),
    ("groups_of_except", "SELECT b, COUNT(*) AS n FROM (SELECT k, b FROM t EXCEPT SELECT k, b FROM u) AS x GROUP BY b"),
];

/// Name, column, left and right side.
const COUNTED: &[(&str, &str, &str, &str)] = &[
    ("keys", "k", "SELECT k FROM t", "SELECT k FROM u"),
    ("texts", "g", "SELECT g FROM u WHERE i > -10", "SELECT g FROM a"),
    ("self", "s", "SELECT s FROM t", "SELECT s FROM t WHERE b"),
];

pub fn scenario() -> Scenario {
    let mut cases: Vec<Case> = PLAIN.iter().map(|(name, sql)| Case::new(*name, *sql).postgres()).collect();
    for (name, column, left, right) in COUNTED {
        for (operation, copies) in [("INTERSECT", "LEAST(l, r)"), ("EXCEPT", "l - r")] {
            let counts = format!(
                "SELECT {column}, SUM(l) AS l, SUM(r) AS r FROM (SELECT {column}, 1 AS l, 0 AS r FROM ({left}) AS x UNION ALL SELECT {column}, 0, 1 FROM ({right}) AS y) AS z GROUP BY {column}"
            );
            let batch = format!(
                "SELECT {column} FROM (SELECT {column}, UNNEST(RANGE(0, GREATEST({copies}, 0))) AS copy FROM ({counts}) AS c) AS e"
            );
            let case = Case::new(format!("{operation}_all_{name}").to_lowercase(), format!("{left} {operation} ALL {right}"));
            cases.push(case.batch(batch).postgres());
        }
    }
    Scenario { name: "sets", tables: relational::tables(), cases, epochs: 12, changes: 12, checkpoints: 0.3, kills: 0.2, backfills: 0.2 }
}
