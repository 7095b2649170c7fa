//! Cases of rows by their place: Top-N per group and over all, with the rank and without, deduplication, DISTINCT ON, LIMIT. What
//! an order leaves equal is equal in all that is selected.

use super::case::{Case, Scenario};
use super::relational;

/// Over any one table: name, query.
const QUERIES: &[(&str, &str)] = &[
    ("top", "SELECT k, i, g FROM (SELECT k, i, g, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i DESC, g) AS n FROM {t}) AS x WHERE n <= 2"),
    (
        "top_numbered",
        "SELECT n, k, i, g FROM (SELECT k, i, g, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i, g DESC) AS n FROM {t}) AS x WHERE n < 4",
    ),
    (
        "top_of_many",
        "SELECT * FROM (SELECT b, s, i, ROW_NUMBER() OVER (PARTITION BY b, s ORDER BY i NULLS FIRST) AS n FROM {t}) AS x WHERE 2 >= n",
    ),
    (
        "top_by_expression",
        "SELECT m, i FROM (SELECT i % 3 AS m, i, ROW_NUMBER() OVER (PARTITION BY i % 3 ORDER BY ABS(i), i) AS n FROM {t}) AS x WHERE n <= 2",
    ),
    ("ranked", "SELECT b, s, n FROM (SELECT b, s, RANK() OVER (PARTITION BY b ORDER BY s) AS n FROM {t}) AS x WHERE n <= 3"),
    ("ranked_hidden", "SELECT b, s, i FROM (SELECT b, s, i, RANK() OVER (PARTITION BY b ORDER BY s DESC) AS n FROM {t}) AS x WHERE n <= 2"),
    ("dense", "SELECT k, g, n FROM (SELECT k, g, DENSE_RANK() OVER (PARTITION BY k ORDER BY g) AS n FROM {t}) AS x WHERE n <= 2"),
    ("top_of_unselected", "SELECT i FROM (SELECT i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY g, i) AS n FROM {t}) AS x WHERE n <= 2"),
    ("second_of_unselected", "SELECT n FROM (SELECT i, RANK() OVER (PARTITION BY k ORDER BY g) AS n FROM {t}) AS x WHERE n = 2 AND i > 0"),
    ("second", "SELECT k, i FROM (SELECT k, i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i) AS n FROM {t}) AS x WHERE n = 2"),
    (
        "between",
        "SELECT k, i, n FROM (SELECT k, i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i) AS n FROM {t}) AS x WHERE n BETWEEN 2 AND 3",
    ),
    ("none", "SELECT k, i FROM (SELECT k, i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i) AS n FROM {t}) AS x WHERE n <= 0"),
    ("top_of_all", "SELECT i, n FROM (SELECT i, ROW_NUMBER() OVER (ORDER BY i DESC) AS n FROM {t}) AS x WHERE n <= 3"),
    (
        "top_and_more",
        "SELECT k, i, n FROM (SELECT k, i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i) AS n FROM {t}) AS x WHERE n <= 3 AND i > 0 AND k > 0",
    ),
    ("first", "SELECT k, ts FROM (SELECT k, ts, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts) AS n FROM {t}) AS x WHERE n = 1"),
    ("last", "SELECT k, ts, n FROM (SELECT k, ts, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS n FROM {t}) AS x WHERE n = 1"),
    ("distinct_on", "SELECT DISTINCT ON (k) k, i, g FROM {t} ORDER BY k, i DESC, g"),
    ("distinct_on_limited", "SELECT DISTINCT ON (k) k, i, g FROM {t} ORDER BY k, i DESC, g LIMIT 3"),
    ("distinct_on_offset", "SELECT DISTINCT ON (b, s) s, d FROM {t} ORDER BY b DESC, s, d LIMIT 2 OFFSET 1"),
    ("distinct_on_many", "SELECT DISTINCT ON (b, s) s, b, d FROM {t} ORDER BY b, s, d"),
    ("limited", "SELECT i, k FROM {t} ORDER BY i DESC, k LIMIT 5"),
    ("limited_hidden", "SELECT i * 2 AS x FROM {t} ORDER BY i NULLS FIRST LIMIT 4"),
    ("offset", "SELECT i, g FROM {t} ORDER BY i, g LIMIT 3 OFFSET 2"),
    ("offset_alone", "SELECT i FROM {t} ORDER BY i DESC OFFSET 3"),
    ("limit_zero", "SELECT i FROM {t} ORDER BY i LIMIT 0"),
    ("limit_of_groups", "SELECT k, COUNT(*) AS n FROM {t} GROUP BY k ORDER BY n DESC, k LIMIT 2"),
    ("sum_of_limit", "SELECT SUM(i) AS s, COUNT(*) AS n FROM (SELECT i FROM {t} ORDER BY i DESC LIMIT 4) AS x"),
    (
        "groups_of_top",
        "SELECT g, COUNT(*) AS n FROM (SELECT g, i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i, g) AS n FROM {t}) AS x WHERE n <= 2 GROUP BY g",
    ),
    (
        "top_of_top",
        "SELECT k, i FROM (SELECT k, i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i DESC) AS n FROM {t}) AS x WHERE n <= 2 ORDER BY i DESC, k LIMIT 3",
    ),
    ("limit_of_union", "SELECT x FROM (SELECT k AS x FROM {t} UNION ALL SELECT s FROM {t}) AS u ORDER BY x LIMIT 4"),
    ("counted_limit", "SELECT COUNT(*) AS n FROM (SELECT 1 AS one FROM {t} LIMIT 3) AS x"),
];

pub fn scenario() -> Scenario {
    let over = |table: &str| {
        let case = |(name, sql): &(&str, &str)| Case::new(format!("{name}_{table}"), sql.replace("{t}", table)).postgres();
        QUERIES.iter().map(case).collect::<Vec<_>>()
    };
    let mut cases = ["t", "u", "a"].map(over).concat();
    cases.push(Case::new(
        "top_with_floats",
        "SELECT k, f, r FROM (SELECT k, f, r, ROW_NUMBER() OVER (PARTITION BY k ORDER BY f, r) AS n FROM t) AS x WHERE n <= 2",
    ));
    Scenario { name: "ranked", tables: relational::tables(), cases, epochs: 12, changes: 12, checkpoints: 0.3, kills: 0.2, backfills: 0.2 }
}
