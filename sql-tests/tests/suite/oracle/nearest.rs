//! Cases of ASOF joins. The truth is the first of all rows that qualify, by a number in their order.

use super::case::{Case, Scenario};
use super::relational;

/// Name, comparison, and the order in which the first right row is the nearest.
const COMPARED: &[(&str, &str, &str)] = &[
    ("at_or_before", "x.ts >= y.ts", "y.ts DESC, y.i DESC NULLS FIRST"),
    ("before", "y.ts < x.ts", "y.ts DESC, y.i DESC NULLS FIRST"),
    ("at_or_after", "x.ts <= y.ts", "y.ts, y.i NULLS LAST"),
    ("after", "x.ts < y.ts", "y.ts, y.i NULLS LAST"),
];

pub fn scenario() -> Scenario {
    let mut cases = Vec::new();
    for (left, right) in [("t", "u"), ("a", "t"), ("u", "a"), ("a", "a")] {
        for (name, compared, order) in COMPARED {
            for (outer, further) in [(false, ""), (true, ""), (false, " AND y.b")] {
                let (kind, join) = if outer { ("left_", "LEFT JOIN") } else { ("", "JOIN") };
                let asof = if outer { "ASOF LEFT JOIN" } else { "ASOF JOIN" };
                let name = format!("{kind}{name}_{left}_{right}{}", if further.is_empty() { "" } else { "_if" });
                let (x, y) = (format!("(SELECT k, i, ts FROM {left}) AS x"), format!("(SELECT k, i, ts, b FROM {right}) AS y"));
                let sql = format!(
                    "SELECT x.k, x.i, x.ts, y.i AS j, y.ts AS at FROM {x} {asof} {y} MATCH_CONDITION ({compared}) ON x.k = y.k{further}"
                );
                let batch = format!(
                    "SELECT k, i, ts, j, at FROM (SELECT x.k, x.i, x.ts, y.i AS j, y.ts AS at, ROW_NUMBER() OVER (PARTITION BY x.rn ORDER BY {order}) AS n \
                     FROM (SELECT *, ROW_NUMBER() OVER () AS rn FROM {x}) AS x {join} {y} ON x.k = y.k AND {compared}{further}) AS z WHERE n = 1"
                );
                cases.push(Case::new(name, sql).batch(batch));
            }
        }
    }
    Scenario { name: "nearest", tables: relational::tables(), cases, epochs: 10, changes: 12, checkpoints: 0.3, kills: 0.2, backfills: 0.2 }
}
