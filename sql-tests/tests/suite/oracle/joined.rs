//! Cases with joins: every kind, over relations that change and that only grow, with nulls, duplicates and few keys that many
//! rows share; residual conditions, subqueries, several joins in one query, joins of aggregates and aggregates of joins.

use super::case::{Case, Scenario};
use super::tables::{Domain, Kind, SECOND, TableSpec};
use super::windowed;
use super::windows::Windowing;

/// `p` with a key, `q` without, `r` only ever added to.
fn tables() -> Vec<TableSpec> {
    let columns = |first: Option<(&'static str, Domain)>| {
        let values = [("k", Domain::Int), ("g", Domain::Text), ("i", Domain::BigInt), ("s", Domain::SmallInt), ("f", Domain::Double)];
        first.into_iter().chain(values).collect()
    };
    let plain = [
        TableSpec { name: "p", kind: Kind::Keyed, columns: columns(Some(("id", Domain::Id))), watermark: None },
        TableSpec { name: "q", kind: Kind::Keyless, columns: columns(None), watermark: None },
        TableSpec { name: "r", kind: Kind::AppendOnly, columns: columns(None), watermark: None },
    ];
    plain.into_iter().chain(windowed::tables()).collect()
}

pub fn scenario() -> Scenario {
    let mut cases: Vec<Case> = SAME.iter().map(|(name, sql)| Case::new(*name, *sql).postgres()).collect();
    cases.extend(OURS.iter().map(|(name, sql)| Case::new(*name, *sql)));
    cases.extend(given());
    cases.extend(over_views());
    for table in ["bid", "orders"] {
        cases.extend(windows(table));
        cases.extend(intervals(table));
        cases.extend(nearest(table));
    }
    Scenario { name: "joined", tables: tables(), cases, epochs: 10, changes: 10, checkpoints: 0.3, kills: 0.2, backfills: 0.2 }
}

/// PostgreSQL means the same.
const SAME: &[(&str, &str)] = &[
    ("inner_kinds", "SELECT p.id, p.g, q.i, q.g AS h FROM p JOIN q ON p.k = q.k"),
    ("inner_growing", "SELECT a.k, a.i, b.i AS j FROM r AS a JOIN r AS b ON a.k = b.k AND a.g = b.g"),
    ("inner_types", "SELECT p.id, r.i FROM p JOIN r ON p.k = r.s AND p.i > 0"),
    ("inner_two_keys", "SELECT p.id, q.i FROM p JOIN q ON p.k = q.k AND p.g = q.g"),
    ("inner_residual", "SELECT p.id, q.i FROM p JOIN q ON p.k = q.k AND p.i < q.i"),
    ("inner_expressions", "SELECT p.id, q.i FROM p JOIN q ON p.k + 1 = q.s AND UPPER(p.g) = UPPER(q.g)"),
    ("inner_floats", "SELECT p.id, r.i FROM p JOIN r ON p.f = r.f"),
    ("three_using", "SELECT k, p.id, q.i, r.i AS j FROM p JOIN q USING (k) LEFT JOIN r USING (k) WHERE k > 0"),
    ("three_using_outer", "SELECT k, COUNT(*) AS n FROM p FULL JOIN q USING (k) LEFT JOIN r USING (k) WHERE k < 3 GROUP BY k"),
    ("using_in_subquery", "SELECT k, p.id FROM p JOIN q USING (k) WHERE EXISTS (SELECT 1 FROM (SELECT s AS x FROM r) AS t WHERE t.x = k)"),
    ("inner_using", "SELECT k, p.id, r.i FROM p JOIN r USING (k)"),
    ("comma", "SELECT p.id, q.i FROM p, q WHERE p.k = q.k AND p.i + q.i > 0"),
    ("left_join", "SELECT p.id, p.k, q.i, q.k AS l FROM p LEFT JOIN q ON p.k = q.k"),
    ("left_growing", "SELECT r.k, r.i, p.id FROM r LEFT JOIN p ON r.i = p.i"),
    ("left_residual", "SELECT p.id, p.k, q.i FROM p LEFT JOIN q ON p.k = q.k AND p.i < q.i"),
    ("left_filtered", "SELECT p.id, q.i FROM p LEFT JOIN q ON p.k = q.k AND q.i > 0 WHERE p.i > 0"),
    ("left_without_match", "SELECT p.id FROM p LEFT JOIN q ON p.k = q.k WHERE q.k IS NULL"),
    ("left_constant_side", "SELECT p.id, q.i FROM p LEFT JOIN q ON p.k = q.k AND p.i > 3"),
    ("right_join", "SELECT p.id, q.k, q.i FROM p RIGHT JOIN q ON p.k = q.k"),
    ("right_residual", "SELECT p.id, q.k, q.i FROM p RIGHT JOIN q ON p.k = q.k AND p.i > q.i"),
    ("full_join", "SELECT p.id, p.k, q.k AS l, q.i FROM p FULL JOIN q ON p.k = q.k AND p.g = q.g"),
    ("full_never", "SELECT p.id, p.k, q.k AS l, q.i FROM p FULL JOIN q ON p.k = q.k AND 1 = 0"),
    ("full_never_growing", "SELECT a.k, b.i, COUNT(*) AS n FROM q AS a FULL JOIN r AS b ON a.k = b.s AND 1 > 2 GROUP BY a.k, b.i"),
    ("full_growing", "SELECT a.k, a.g, b.i FROM q AS a FULL JOIN r AS b ON a.k = b.s"),
    ("levels_exists", "SELECT id FROM p WHERE EXISTS (SELECT 1 FROM (SELECT i FROM q WHERE q.k = p.k) AS x WHERE x.i = p.i)"),
    ("levels_not_exists", "SELECT id, k FROM p WHERE NOT EXISTS (SELECT 1 FROM (SELECT i, g FROM q WHERE q.k = p.k) AS x WHERE x.i > p.i)"),
    ("levels_count", "SELECT id, (SELECT COUNT(*) FROM (SELECT i FROM q WHERE q.k = p.k) AS x WHERE x.i >= p.i) AS n FROM p"),
    ("levels_in", "SELECT id FROM p WHERE i IN (SELECT i FROM (SELECT i FROM r WHERE r.k = p.k) AS x WHERE x.i <= p.s)"),
    (
        "levels_nested",
        "SELECT id FROM p WHERE EXISTS (SELECT 1 FROM q WHERE q.k = p.k AND NOT EXISTS (SELECT 1 FROM r WHERE r.g = q.g AND r.i = p.i))",
    ),
    (
        "levels_nested_count",
        "SELECT id, (SELECT COUNT(*) FROM q WHERE q.k = p.k AND EXISTS (SELECT 1 FROM r WHERE r.g = q.g AND r.i > p.i)) AS n FROM p",
    ),
    (
        "levels_left_join",
        "SELECT id, (SELECT COUNT(*) FROM q LEFT JOIN r ON r.k = q.s AND r.g = p.g WHERE q.k = p.k AND r.i IS NULL) AS n FROM p",
    ),
    (
        "levels_union",
        "SELECT id FROM p WHERE EXISTS (SELECT i FROM q WHERE q.k = p.k UNION ALL SELECT i FROM r WHERE r.g = p.g AND r.i = p.i)",
    ),
    ("levels_except", "SELECT id FROM p WHERE EXISTS (SELECT i FROM q WHERE q.k = p.k EXCEPT SELECT i FROM r WHERE r.g = p.g)"),
    ("levels_of_both", "SELECT id, (SELECT SUM(q.k * p.id) FROM q WHERE q.g = p.g) AS n FROM p"),
    (
        "levels_numbered",
        "SELECT id FROM p WHERE EXISTS (SELECT 1 FROM (SELECT i, RANK() OVER (ORDER BY i) AS n FROM q WHERE q.k = p.k) AS x WHERE x.n > 1 AND x.i = p.i)",
    ),
    (
        "levels_lateral",
        "SELECT id, x.m FROM p, LATERAL (SELECT MAX(y.i) AS m FROM (SELECT i FROM q WHERE q.k = p.k) AS y WHERE y.i <= p.i) AS x",
    ),
    ("row_of_query", "SELECT id FROM p WHERE (k, i) = (SELECT MIN(q.k), MAX(q.i) FROM q WHERE q.g = p.g)"),
    ("semi_in", "SELECT id, k FROM p WHERE k IN (SELECT k FROM q WHERE i > 0)"),
    ("semi_in_growing", "SELECT k, i FROM r WHERE k IN (SELECT s FROM r)"),
    ("semi_exists", "SELECT id FROM p WHERE EXISTS (SELECT 1 FROM q WHERE q.k = p.k AND q.g = p.g)"),
    ("semi_residual", "SELECT id FROM p WHERE EXISTS (SELECT 1 FROM q WHERE q.k = p.k AND q.i < p.i)"),
    ("semi_uncorrelated", "SELECT id FROM p WHERE EXISTS (SELECT 1 FROM q WHERE i > 15)"),
    ("anti_exists", "SELECT id, k FROM p WHERE NOT EXISTS (SELECT 1 FROM q WHERE q.k = p.k AND q.i > 5)"),
    ("anti_residual", "SELECT k, i FROM q WHERE NOT EXISTS (SELECT 1 FROM p WHERE q.k = p.k AND q.i < p.i)"),
    ("anti_uncorrelated", "SELECT id FROM p WHERE NOT EXISTS (SELECT 1 FROM q WHERE i > 10)"),
    ("mark_exists", "SELECT id, k FROM p WHERE i > 10 OR EXISTS (SELECT 1 FROM q WHERE q.k = p.k AND q.i > 10)"),
    ("value_all", "SELECT id, i > ALL (SELECT i FROM q) AS w FROM p"),
    (
        "value_any_correlated",
        "SELECT p.id, p.i <= ANY (SELECT q.i FROM q WHERE q.k = p.k) AS w, p.i = ALL (SELECT q.i FROM q WHERE q.k = p.k) AS v FROM p",
    ),
    ("any_beneath_or", "SELECT id FROM p WHERE i > 10 OR NOT i < ANY (SELECT q.i FROM q WHERE q.k = p.k)"),
    ("row_in", "SELECT id, (k, i) IN (SELECT k, i FROM q) AS w FROM p"),
    ("row_not_in", "SELECT id FROM p WHERE (k, i) NOT IN (SELECT k, i FROM q WHERE s > 0)"),
    ("left_not_in", "SELECT p.id, q.i FROM p LEFT JOIN q ON p.k = q.k AND p.i NOT IN (SELECT i FROM r)"),
    ("full_in", "SELECT p.id, q.i FROM p FULL JOIN q ON p.k = q.k AND (q.i IN (SELECT i FROM r) OR p.i NOT IN (SELECT i FROM r))"),
    ("having_of_group", "SELECT k, SUM(i) AS n FROM p GROUP BY k HAVING EXISTS (SELECT 1 FROM q WHERE q.k = COUNT(p.id))"),
    ("top_by_subquery", "SELECT id FROM p ORDER BY (SELECT COUNT(*) FROM q WHERE q.k = p.k) DESC, id LIMIT 3"),
    ("mark_in", "SELECT id, k FROM p WHERE i > 10 OR k IN (SELECT k FROM q WHERE i > 10)"),
    ("self_join", "SELECT a.id, b.id AS other FROM p AS a JOIN p AS b ON a.k = b.k AND a.id < b.id"),
    ("self_join_bag", "SELECT a.g, b.i FROM q AS a JOIN q AS b ON a.k = b.s"),
    ("three_inner", "SELECT p.id, q.i, r.g FROM p JOIN q ON p.k = q.k JOIN r ON q.s = r.s AND r.i > 0"),
    ("three_of_one_key", "SELECT p.id, q.i, r.i AS j FROM p JOIN q ON p.k = q.k JOIN r ON p.k = r.k WHERE q.i > 5 AND r.i > 5"),
    ("three_outer", "SELECT p.id, q.i, r.g FROM p LEFT JOIN q ON p.g = q.g LEFT JOIN r ON q.i = r.i"),
    ("outer_then_inner", "SELECT p.id, x.i FROM p JOIN (SELECT q.k, r.i FROM q LEFT JOIN r ON q.g = r.g AND q.i = r.i) AS x ON p.k = x.k"),
    ("four", "SELECT a.id, b.i FROM p AS a JOIN q AS b ON a.k = b.k JOIN p AS c ON c.id = a.id + 1 LEFT JOIN q AS d ON d.i = c.i"),
    ("group_of_join", "SELECT p.k, COUNT(*) AS n, SUM(q.i) AS s FROM p JOIN q ON p.k = q.k GROUP BY p.k"),
    ("group_of_outer_join", "SELECT p.k, COUNT(q.i) AS n, COUNT(*) AS m, MAX(q.i) AS x FROM p LEFT JOIN q ON p.k = q.k GROUP BY p.k"),
    ("group_of_full_join", "SELECT q.g, COUNT(p.id) AS n FROM p FULL JOIN q ON p.k = q.k GROUP BY q.g"),
    ("distinct_of_join", "SELECT DISTINCT p.g, q.g AS h FROM p JOIN q ON p.k = q.k"),
    (
        "join_of_groups",
        "SELECT x.k, x.n, y.m FROM (SELECT k, COUNT(*) AS n FROM p GROUP BY k) AS x JOIN (SELECT k, MAX(i) AS m FROM q GROUP BY k) AS y ON x.k = y.k",
    ),
    ("row_with_group", "SELECT p.id, x.n FROM p LEFT JOIN (SELECT k, COUNT(*) AS n FROM q GROUP BY k) AS x ON p.k = x.k"),
    (
        "group_by_key_and_more",
        "SELECT k, n, COUNT(*) AS c FROM (SELECT q.k, x.n FROM q JOIN (SELECT k, COUNT(*) AS n FROM p GROUP BY k) AS x ON q.k = x.k) AS y GROUP BY k, n",
    ),
    ("union_of_joins", "SELECT p.id, q.i FROM p JOIN q ON p.k = q.k UNION ALL SELECT p.id, r.i FROM p JOIN r ON p.k = r.k"),
    ("join_of_unions", "SELECT x.k, p.id FROM (SELECT k FROM q UNION ALL SELECT s FROM r) AS x JOIN p ON x.k = p.k"),
    ("cross_with_one_row", "SELECT p.id, x.n FROM p CROSS JOIN (SELECT COUNT(*) AS n FROM q) AS x"),
    ("compare_with_one_row", "SELECT p.id FROM p JOIN (SELECT MAX(i) AS m FROM q) AS x ON p.i > x.m - 10"),
    ("compare_with_pinned", "SELECT p.id FROM p WHERE p.i > (SELECT x.i FROM p AS x WHERE x.id = 3)"),
    ("join_with_pinned", "SELECT p.id, x.i AS j FROM p JOIN p AS x ON x.id = 2 AND p.i < x.i"),
    ("left_with_pinned", "SELECT p.id, x.i AS j FROM p LEFT JOIN p AS x ON x.id = 1 AND p.i < x.i"),
    ("compare_with_pinned_group", "SELECT p.id, x.n FROM p JOIN (SELECT k, COUNT(*) AS n FROM q WHERE k = 2 GROUP BY k) AS x ON p.i > x.n"),
    (
        "ranges_of_values",
        "SELECT p.id, v.name FROM p LEFT JOIN (VALUES (-20, 0, 'low'), (-5, 5, 'middle'), (5, 21, 'high')) AS v(lo, hi, name) ON p.i >= v.lo AND p.i < v.hi",
    ),
    ("cross_with_top", "SELECT q.k, x.i AS j FROM q CROSS JOIN (SELECT i FROM p WHERE i IS NOT NULL ORDER BY i DESC LIMIT 3) AS x"),
    ("right_with_top", "SELECT x.i AS j, q.i FROM (SELECT i FROM p ORDER BY i DESC NULLS LAST LIMIT 3) AS x RIGHT JOIN q ON x.i > q.i"),
    ("cross_with_one_of_many", "SELECT p.id, x.i AS j FROM p CROSS JOIN (SELECT i FROM r ORDER BY i NULLS LAST LIMIT 1) AS x"),
    ("scalar_in_select", "SELECT id, (SELECT MAX(i) FROM q) AS m FROM p"),
    ("scalar_in_filter", "SELECT id, i FROM p WHERE i > (SELECT MIN(i) FROM q) + 5"),
    ("scalar_correlated", "SELECT id, (SELECT MAX(q.i) FROM q WHERE q.k = p.k) AS m FROM p"),
    ("scalar_counts", "SELECT id, (SELECT COUNT(*) FROM q WHERE q.k = p.k) AS n FROM p"),
    ("scalar_having", "SELECT k, SUM(i) AS s FROM p GROUP BY k HAVING SUM(i) > (SELECT MIN(i) FROM q)"),
    ("scalar_correlated_filter", "SELECT id FROM p WHERE i > (SELECT MIN(q.i) FROM q WHERE q.k = p.k)"),
    ("lateral", "SELECT p.id, x.m FROM p CROSS JOIN LATERAL (SELECT MAX(q.i) AS m FROM q WHERE q.k = p.k) AS x"),
    ("intersect", "SELECT k, g FROM p INTERSECT SELECT k, g FROM q"),
    ("except", "SELECT k, g FROM p EXCEPT SELECT k, g FROM q"),
    ("null_safe", "SELECT p.id, r.i FROM p JOIN r ON p.k IS NOT DISTINCT FROM r.k"),
    ("null_safe_left", "SELECT p.id, r.i FROM p LEFT JOIN r ON (p.s IS NOT DISTINCT FROM r.s) AND r.i > 10"),
    ("null_safe_and_equal", "SELECT p.id, r.i FROM p JOIN r ON p.k IS NOT DISTINCT FROM r.k WHERE p.s = r.s"),
    ("null_safe_first", "SELECT p.id, q.i, r.i AS j FROM p JOIN q ON (p.k IS NOT DISTINCT FROM q.k) JOIN r ON q.s = r.s"),
    ("null_safe_last", "SELECT p.id, q.i, r.i AS j FROM p JOIN q ON p.k = q.k JOIN r ON (q.s IS NOT DISTINCT FROM r.s)"),
    ("values_side", "SELECT p.id, v.name FROM p JOIN (VALUES (1, 'one'), (2, 'two'), (NULL, 'none')) AS v(n, name) ON p.k = v.n"),
];

/// Only ours, or with names that PostgreSQL wants otherwise.
const OURS: &[(&str, &str)] = &[
    ("semi_spelled", "SELECT p.id FROM p LEFT SEMI JOIN q ON p.k = q.k"),
    ("anti_spelled", "SELECT p.id FROM p LEFT ANTI JOIN q ON p.k = q.k AND p.i > q.i"),
    ("right_semi_spelled", "SELECT q.i FROM p RIGHT SEMI JOIN q ON p.k = q.k"),
    ("right_anti_spelled", "SELECT q.i FROM p RIGHT ANTI JOIN q ON p.k = q.k"),
    ("semi_with_top", "SELECT p.id FROM p LEFT SEMI JOIN (SELECT i FROM q ORDER BY i NULLS LAST LIMIT 2) AS x ON x.i < p.i"),
    ("anti_with_top", "SELECT p.id FROM p LEFT ANTI JOIN (SELECT i FROM q ORDER BY i DESC NULLS LAST LIMIT 2) AS x ON x.i > p.i"),
    ("full_with_top", "SELECT p.id, x.i AS j FROM p FULL JOIN (SELECT i FROM q ORDER BY i DESC NULLS LAST LIMIT 2) AS x ON x.i < p.i"),
];

/// Lateral subqueries and subqueries for a value that DataFusion makes no join of, or that are not known where there are nulls, and the joins that they are.
const LATERAL: &[(&str, &str, &str)] = &[
    (
        "lateral_top",
        "SELECT q.k, q.i, x.id FROM q CROSS JOIN LATERAL (SELECT p.id FROM p WHERE p.k = q.k AND p.i > -10 ORDER BY p.i DESC, p.id LIMIT 2) AS x",
        "SELECT q.k, q.i, x.id FROM q JOIN (SELECT k, id, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i DESC, id) AS n FROM p WHERE i > -10) AS x ON x.k = q.k AND x.n <= 2",
    ),
    (
        "lateral_top_left",
        "SELECT q.k, q.g, x.id, x.i FROM q LEFT JOIN LATERAL (SELECT p.id, p.i FROM p WHERE q.k = p.k AND p.g = q.g ORDER BY p.i, p.id LIMIT 1) AS x ON TRUE",
        "SELECT q.k, q.g, x.id, x.i FROM q LEFT JOIN (SELECT k, g, id, i, ROW_NUMBER() OVER (PARTITION BY k, g ORDER BY i, id) AS n FROM p) AS x ON x.k = q.k AND x.g = q.g AND x.n = 1",
    ),
    (
        "lateral_top_offset",
        "SELECT r.i, x.id FROM r, LATERAL (SELECT p.id FROM p WHERE p.k IS NOT DISTINCT FROM r.s ORDER BY p.id LIMIT 2 OFFSET 1) AS x",
        "SELECT r.i, x.id FROM r JOIN (SELECT k, id, ROW_NUMBER() OVER (PARTITION BY k ORDER BY id) AS n FROM p) AS x ON x.k IS NOT DISTINCT FROM r.s AND x.n BETWEEN 2 AND 3",
    ),
    (
        "lateral_top_expressions",
        "SELECT q.s, x.id FROM q CROSS JOIN LATERAL (SELECT p.id FROM p WHERE p.k + 1 = q.s * 2 AND q.i > 0 ORDER BY ABS(p.i), p.id LIMIT 1) AS x",
        "SELECT q.s, x.id FROM q JOIN (SELECT k + 1 AS e, id, ROW_NUMBER() OVER (PARTITION BY k + 1 ORDER BY ABS(i), id) AS n FROM p) AS x ON x.e = q.s * 2 AND q.i > 0 AND x.n = 1",
    ),
    (
        "lateral_top_groups",
        "SELECT q.i, x.g, x.n FROM q LEFT JOIN LATERAL (SELECT p.g, COUNT(*) AS n FROM p WHERE p.k = q.k GROUP BY p.g ORDER BY COUNT(*) DESC, MIN(p.id) LIMIT 1) AS x ON TRUE",
        "SELECT q.i, x.g, x.n FROM q LEFT JOIN (SELECT k, g, n, ROW_NUMBER() OVER (PARTITION BY k ORDER BY n DESC, first) AS place FROM (SELECT k, g, COUNT(*) AS n, MIN(id) AS first FROM p GROUP BY k, g) AS c) AS x ON x.k = q.k AND x.place = 1",
    ),
    (
        "lateral_top_names_outer",
        "SELECT q.i, x.id, x.d FROM q LEFT JOIN LATERAL (SELECT p.id, COALESCE(p.i, 0) - q.i AS d FROM p WHERE p.k = q.k ORDER BY p.id DESC LIMIT 2) AS x ON TRUE",
        "SELECT q.i, x.id, CASE WHEN x.id IS NOT NULL THEN COALESCE(x.i, 0) - q.i END AS d FROM q LEFT JOIN (SELECT k, id, i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY id DESC) AS n FROM p) AS x ON x.k = q.k AND x.n <= 2",
    ),
    (
        "lateral_twice",
        "SELECT a.id, x.id AS b, y.i FROM p AS a CROSS JOIN LATERAL (SELECT c.id, c.s FROM p AS c WHERE c.k = a.k AND c.g = a.g ORDER BY c.i, c.id LIMIT 1) AS x \
         LEFT JOIN LATERAL (SELECT q.i FROM q WHERE q.k = x.s ORDER BY q.i DESC LIMIT 1) AS y ON TRUE",
        "SELECT a.id, x.id AS b, y.i FROM p AS a JOIN (SELECT k, g, id, s, ROW_NUMBER() OVER (PARTITION BY k, g ORDER BY i, id) AS n FROM p) AS x ON x.k = a.k AND x.g = a.g AND x.n = 1 LEFT JOIN (SELECT k, i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i DESC) AS n FROM q) AS y ON y.k = x.s AND y.n = 1",
    ),
    (
        "lateral_names_outer",
        "SELECT p.id, x.s, x.h FROM p, LATERAL (SELECT q.i + p.id AS s, p.g AS h FROM q WHERE q.k = p.k) AS x WHERE x.s > 0",
        "SELECT p.id, q.i + p.id AS s, p.g AS h FROM p JOIN q ON q.k = p.k WHERE q.i + p.id > 0",
    ),
    (
        "lateral_names_outer_left",
        "SELECT p.id, x.i, x.h FROM p LEFT JOIN LATERAL (SELECT q.i, COALESCE(p.g, 'none') AS h FROM q WHERE q.k = p.k AND q.i < p.i) AS x ON TRUE",
        "SELECT p.id, x.i, CASE WHEN x.found THEN COALESCE(p.g, 'none') END AS h FROM p LEFT JOIN (SELECT k, i, TRUE AS found FROM q) AS x ON x.k = p.k AND x.i < p.i",
    ),
    (
        "lateral_aggregate_of_computed",
        "SELECT p.id, x.n, x.s FROM p CROSS JOIN LATERAL (SELECT COUNT(*) AS n, SUM(q.i) AS s FROM q WHERE q.k + 1 = p.k) AS x",
        "SELECT p.id, COALESCE(x.n, 0) AS n, x.s FROM p LEFT JOIN (SELECT k + 1 AS k, COUNT(*) AS n, SUM(i) AS s FROM q GROUP BY k + 1) AS x ON x.k = p.k",
    ),
    (
        "lateral_groups_of_subquery",
        "SELECT p.id, x.k, x.n FROM p LEFT JOIN LATERAL (SELECT y.k + 1 AS k, COUNT(*) AS n FROM (SELECT k, i AS g FROM q) AS y WHERE y.k = p.k GROUP BY y.k + 1) AS x ON TRUE",
        "SELECT p.id, x.k + 1 AS k, x.n FROM p LEFT JOIN (SELECT k, COUNT(*) AS n FROM q GROUP BY k) AS x ON x.k = p.k",
    ),
    (
        "lateral_aggregate_names_outer",
        "SELECT p.id, x.n FROM p, LATERAL (SELECT COUNT(*) + p.id AS n FROM (SELECT i AS k, k AS i FROM q) AS q WHERE q.i = p.k AND p.i > 0) AS x",
        "SELECT p.id, COALESCE(x.n, 0) + p.id AS n FROM p LEFT JOIN (SELECT k, COUNT(*) AS n FROM q GROUP BY k) AS x ON x.k = p.k AND p.i > 0",
    ),
    (
        "lateral_aggregate_condition",
        "SELECT p.id, x.n FROM p JOIN LATERAL (SELECT COUNT(*) AS n FROM q WHERE q.k = p.k) AS x ON x.n < 2",
        "SELECT p.id, COALESCE(x.n, 0) AS n FROM p LEFT JOIN (SELECT k, COUNT(*) AS n FROM q GROUP BY k) AS x ON x.k = p.k WHERE COALESCE(x.n, 0) < 2",
    ),
    (
        "lateral_same_name",
        "SELECT p.id, y.k FROM p JOIN LATERAL (SELECT x.i AS k FROM q AS x WHERE x.k = p.k) AS y ON y.k > 0",
        "SELECT p.id, q.i AS k FROM p JOIN q ON q.k = p.k AND q.i > 0",
    ),
    (
        "lateral_of_one_row",
        "SELECT q.i, y.t, z.j FROM q CROSS JOIN LATERAL (SELECT q.i * 2 AS d) AS x CROSS JOIN LATERAL (SELECT x.d + 1 AS t) AS y \
         LEFT JOIN LATERAL (SELECT y.t - q.i AS j WHERE q.i > 5) AS z ON TRUE",
        "SELECT q.i, q.i * 2 + 1 AS t, CASE WHEN q.i > 5 THEN q.i * 2 + 1 - q.i END AS j FROM q",
    ),
    (
        "value_top",
        "SELECT q.k, q.i, (SELECT p.id FROM p WHERE p.k = q.k ORDER BY p.i DESC, p.id LIMIT 1) AS j FROM q",
        "SELECT q.k, q.i, x.id AS j FROM q LEFT JOIN (SELECT k, id, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i DESC, id) AS n FROM p) AS x ON x.k = q.k AND x.n = 1",
    ),
    (
        "lateral_any",
        "SELECT q.i, x.k AS j FROM q LEFT JOIN LATERAL (SELECT p.k FROM p WHERE p.k = q.k LIMIT 1) AS x ON TRUE",
        "SELECT q.i, x.k AS j FROM q LEFT JOIN (SELECT DISTINCT k FROM p) AS x ON x.k = q.k",
    ),
    (
        "value_any",
        "SELECT q.i, (SELECT p.k FROM p WHERE p.k = q.k LIMIT 1) AS j FROM q",
        "SELECT q.i, x.k AS j FROM q LEFT JOIN (SELECT DISTINCT k FROM p) AS x ON x.k = q.k",
    ),
    (
        "value_top_offset",
        "SELECT q.i, q.k FROM q WHERE q.i > (SELECT p.i FROM p WHERE p.k = q.k ORDER BY p.i, p.id LIMIT 1 OFFSET 1)",
        "SELECT q.i, q.k FROM q JOIN (SELECT k, i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i, id) AS n FROM p) AS x ON x.k = q.k AND x.n = 2 WHERE q.i > x.i",
    ),
    (
        "value_in",
        "SELECT p.id, p.i IN (SELECT q.i FROM q WHERE q.k = p.k) AS w FROM p",
        "SELECT p.id, CASE WHEN SUM(CASE WHEN q.i = p.i THEN 1 ELSE 0 END) > 0 THEN TRUE WHEN COUNT(q.k) > 0 AND p.i IS NULL THEN NULL WHEN SUM(CASE WHEN q.k IS NOT NULL AND q.i IS NULL THEN 1 ELSE 0 END) > 0 THEN NULL ELSE FALSE END AS w FROM p LEFT JOIN q ON q.k = p.k GROUP BY p.id, p.i",
    ),
    (
        "value_in_same_names",
        "SELECT p.id, p.i IN (SELECT a.i FROM q AS a JOIN q AS b ON a.s = b.s WHERE b.i = p.i + 1 AND a.k = p.k) AS w FROM p WHERE p.i IS NOT NULL",
        "SELECT p.id, CASE WHEN SUM(CASE WHEN x.i = p.i THEN 1 ELSE 0 END) > 0 THEN TRUE WHEN SUM(CASE WHEN x.k IS NOT NULL AND x.i IS NULL THEN 1 ELSE 0 END) > 0 THEN NULL ELSE FALSE END AS w FROM p LEFT JOIN (SELECT a.k, a.i, b.i AS j FROM q AS a JOIN q AS b ON a.s = b.s) AS x ON x.k = p.k AND x.j = p.i + 1 WHERE p.i IS NOT NULL GROUP BY p.id, p.i",
    ),
    (
        "not_in_beneath_or",
        "SELECT id FROM p WHERE i > 10 OR k NOT IN (SELECT k FROM q WHERE i > 12)",
        "SELECT id FROM p WHERE i > 10 OR (SELECT COUNT(*) FROM q WHERE i > 12) = 0 OR (k IS NOT NULL AND (SELECT COUNT(*) FROM q WHERE i > 12 AND k IS NULL) = 0 AND NOT EXISTS (SELECT 1 FROM q WHERE q.i > 12 AND q.k = p.k))",
    ),
    (
        "not_in_correlated",
        "SELECT id FROM p WHERE i NOT IN (SELECT q.i FROM q WHERE q.k = p.k)",
        "SELECT p.id FROM p LEFT JOIN q ON q.k = p.k GROUP BY p.id, p.i HAVING COUNT(q.k) = 0 OR (p.i IS NOT NULL AND SUM(CASE WHEN q.k IS NOT NULL AND (q.i IS NULL OR q.i = p.i) THEN 1 ELSE 0 END) = 0)",
    ),
];

/// Where the expected result is written down otherwise.
fn given() -> Vec<Case> {
    let not_in = |subquery: &str| {
        format!(
            "SELECT id FROM p WHERE (SELECT COUNT(*) FROM ({subquery}) AS x) = 0 OR (k IS NOT NULL \
             AND (SELECT COUNT(*) FROM ({subquery}) AS y WHERE y.k IS NULL) = 0 AND NOT EXISTS (SELECT 1 FROM ({subquery}) AS z WHERE z.k = p.k))"
        )
    };
    let case = |name: &str, subquery: &str| {
        Case::new(name, format!("SELECT id FROM p WHERE k NOT IN ({subquery})")).batch(not_in(subquery)).postgres()
    };
    let lateral = LATERAL.iter().map(|(name, sql, join)| Case::new(*name, *sql).batch(*join).postgres());
    let mut cases: Vec<Case> = lateral.collect();
    cases.extend([
        case("not_in", "SELECT k FROM q WHERE i > 12"),
        case("not_in_without_nulls", "SELECT k FROM q WHERE k IS NOT NULL AND i > 0"),
        case("not_in_empty", "SELECT k FROM q WHERE i > 1000"),
        Case::new("failing_condition", "SELECT p.id, q.i FROM p JOIN q ON p.k = q.k AND 10 / (p.i - q.i) > 0")
            .batch("SELECT p.id, q.i FROM p JOIN q ON p.k = q.k AND 10 / NULLIF(p.i - q.i, 0) > 0")
            .rejected("SELECT COUNT(*) FROM p JOIN q ON p.k = q.k WHERE p.i = q.i"),
        // DataFusion knows no keys.
        Case::new("value_by_key", "SELECT q.i, (SELECT x.i FROM p AS x WHERE x.id = q.s) AS j FROM q")
            .batch("SELECT q.i, x.i AS j FROM q LEFT JOIN p AS x ON x.id = q.s")
            .postgres(),
        Case::new("compare_with_value_by_key", "SELECT q.i FROM q WHERE q.i > (SELECT x.i FROM p AS x WHERE q.k = x.id)")
            .batch("SELECT q.i FROM q JOIN p AS x ON x.id = q.k WHERE q.i > x.i")
            .postgres(),
        Case::new("value_of_several", "SELECT r.i, (SELECT p.i FROM p WHERE p.k = r.k) AS j FROM r")
            .batch(
                "SELECT r.i, x.j FROM r LEFT JOIN (SELECT k, COUNT(*) AS n, MAX(i) AS j FROM p GROUP BY k) AS x ON x.k = r.k \
                 WHERE x.n IS NULL OR x.n = 1",
            )
            .rejected("SELECT COUNT(*) FROM r JOIN (SELECT k, COUNT(*) AS n FROM p GROUP BY k) AS x ON x.k = r.k WHERE x.n > 1"),
    ]);
    cases
}

fn over_views() -> Vec<Case> {
    vec![
        Case::new("p_groups", "SELECT k, COUNT(*) AS n, MAX(i) AS m FROM p GROUP BY k"),
        Case::new("joined_groups", "SELECT x.k, x.n, p.id FROM p_groups AS x JOIN p ON x.k = p.k").over(&["p_groups"]),
        Case::new("joined_views", "SELECT x.id, y.n FROM inner_kinds AS x LEFT JOIN p_groups AS y ON x.i = y.n")
            .over(&["inner_kinds", "p_groups"]),
        Case::new("groups_of_joined_views", "SELECT n, COUNT(*) AS c FROM joined_views GROUP BY n").over(&["joined_views"]),
    ]
}

fn windows(table: &'static str) -> Vec<Case> {
    let window = |lateness| Windowing {
        table,
        size: 10 * SECOND,
        slide: 10 * SECOND,
        step: None,
        session: None,
        sets: 1,
        offset: 0,
        lateness: lateness * SECOND,
        on_close: false,
    };
    let rows = format!("{table}_windowed");
    let over = |function: &str, name: &str, sql: &str, window: Windowing| {
        let name = format!("{name}_{table}");
        Case::new(name, sql.replace("{w}", &function.replace("{t}", table))).window(window, sql.replace("{w}", &rows))
    };
    let case = |name: &str, sql: &str, lateness: i64| over("tumble({t}, ts, INTERVAL '10 seconds')", name, sql, window(lateness));
    let hop = |name: &str, sql: &str, lateness: i64| {
        let window = Windowing { size: 20 * SECOND, slide: 5 * SECOND, ..window(lateness) };
        over("hop({t}, ts, INTERVAL '5 seconds', INTERVAL '20 seconds')", name, sql, window).read_twice()
    };
    let cumulate = |name: &str, sql: &str, lateness: i64| {
        let window = Windowing { size: 20 * SECOND, slide: 20 * SECOND, step: Some(5 * SECOND), ..window(lateness) };
        over("cumulate({t}, ts, INTERVAL '5 seconds', INTERVAL '20 seconds')", name, sql, window).read_twice()
    };
    let session = |name: &str, sql: &str, lateness: i64| {
        let window = Windowing { size: SECOND, slide: SECOND, session: Some((4 * SECOND, None)), ..window(lateness) };
        over("session({t}, ts, INTERVAL '4 seconds')", name, sql, window).read_twice()
    };
    // No key is null, or nulls match: no filter on nulls keeps rows from being counted as late.
    let groups = "SELECT x.window_end, x.n, y.k, y.m FROM (SELECT window_start, window_end, COUNT(*) AS n FROM {w} GROUP BY window_start, window_end) AS x \
         {kind} (SELECT window_start, window_end, k, MAX(price) AS m FROM {w} GROUP BY window_start, window_end, k HAVING MAX(price) > 5) AS y \
         ON x.window_start = y.window_start AND x.window_end = y.window_end";
    let of_rows = "SELECT x.window_start, x.price, y.g FROM {w} AS x {kind} {w} AS y \
         ON x.window_end = y.window_end AND (x.k IS NOT DISTINCT FROM y.k) AND x.price < y.price";
    // Both sides read other columns: one scan for both would reject a row without a time once.
    let left_rows = "SELECT x.window_start, x.price, x.g FROM {w} AS x {kind} {w} AS y \
         ON x.window_end = y.window_end AND (x.k IS NOT DISTINCT FROM y.k) AND x.price < y.price";
    let dimension = "SELECT x.window_end, x.n, p.g FROM (SELECT window_start, window_end, k, COUNT(*) AS n FROM {w} GROUP BY window_start, window_end, k) AS x \
         {kind} p ON x.k IS NOT DISTINCT FROM p.k";
    vec![
        case("window_groups", &groups.replace("{kind}", "JOIN"), 0).read_twice(),
        case("window_groups_left", &groups.replace("{kind}", "LEFT JOIN"), 10).read_twice(),
        case("window_groups_full", &groups.replace("{kind}", "FULL JOIN"), 0).read_twice(),
        case("window_rows", &of_rows.replace("{kind}", "JOIN"), 0).read_twice(),
        case("window_rows_left", &of_rows.replace("{kind}", "LEFT JOIN"), 10).read_twice(),
        case("window_rows_right", &of_rows.replace("{kind}", "RIGHT JOIN"), 0).read_twice(),
        case("window_groups_right", &groups.replace("{kind}", "RIGHT JOIN"), 10).read_twice(),
        case("window_rows_semi", &left_rows.replace("{kind}", "LEFT SEMI JOIN"), 0).read_twice(),
        case("window_rows_anti", &left_rows.replace("{kind}", "LEFT ANTI JOIN"), 10).read_twice(),
        hop("hop_groups", &groups.replace("{kind}", "LEFT JOIN"), 0),
        hop("hop_rows", &of_rows.replace("{kind}", "JOIN"), 10),
        hop("hop_rows_anti", &left_rows.replace("{kind}", "LEFT ANTI JOIN"), 0),
        cumulate("cumulate_groups", &groups.replace("{kind}", "FULL JOIN"), 10),
        cumulate("cumulate_rows_semi", &left_rows.replace("{kind}", "LEFT SEMI JOIN"), 0),
        session("session_groups", &groups.replace("{kind}", "JOIN"), 0),
        session("session_groups_left", &groups.replace("{kind}", "LEFT JOIN"), 10),
        session("session_groups_full", &groups.replace("{kind}", "FULL JOIN"), 0),
        session("session_rows", &of_rows.replace("{kind}", "JOIN"), 0),
        session("session_rows_right", &of_rows.replace("{kind}", "RIGHT JOIN"), 10),
        session("session_rows_anti", &left_rows.replace("{kind}", "LEFT ANTI JOIN"), 0),
        case("window_with_dimension", &dimension.replace("{kind}", "JOIN"), 0),
        case("window_with_dimension_left", &dimension.replace("{kind}", "LEFT JOIN"), 0),
    ]
}

/// A row is late for an interval join when it is behind the watermark: as if it were in a window of its own moment.
fn intervals(table: &'static str) -> Vec<Case> {
    let moment = Windowing { table, size: 1, slide: 1, step: None, session: None, sets: 1, offset: 0, lateness: 0, on_close: false };
    let rows = format!("{table}_windowed");
    let case = |name: &str, sql: &str| {
        let batch = sql.replace("{t}", &rows);
        Case::new(format!("{name}_{table}"), sql.replace("{t}", table)).window(moment, batch).read_twice().takes_no_time()
    };
    let within = "(a.k IS NOT DISTINCT FROM b.k) AND b.ts BETWEEN a.ts - INTERVAL '4 seconds' AND a.ts + INTERVAL '10 seconds'";
    vec![
        case("interval", &format!("SELECT a.k, a.price, b.g, b.ts FROM {{t}} AS a JOIN {{t}} AS b ON {within} WHERE a.ts IS NOT NULL")),
        case(
            "interval_after",
            "SELECT a.price, b.price AS p FROM {t} AS a JOIN {t} AS b ON (a.k IS NOT DISTINCT FROM b.k) AND a.ts < b.ts AND b.ts <= a.ts + INTERVAL '7 seconds'",
        ),
        case(
            "interval_equal",
            "SELECT a.price, b.price AS p FROM {t} AS a JOIN {t} AS b ON (a.k IS NOT DISTINCT FROM b.k) AND a.ts = b.ts",
        ),
        case("interval_left", &format!("SELECT a.k, a.price, b.g FROM {{t}} AS a LEFT JOIN {{t}} AS b ON {within} WHERE a.ts IS NOT NULL")),
        case(
            "interval_group",
            &format!("SELECT a.k, COUNT(*) AS n, MAX(b.price) AS m FROM {{t}} AS a JOIN {{t}} AS b ON {within} GROUP BY a.k"),
        ),
    ]
}

/// So is it for an ASOF join of event times.
fn nearest(table: &'static str) -> Vec<Case> {
    let moment = Windowing { table, size: 1, slide: 1, step: None, session: None, sets: 1, offset: 0, lateness: 0, on_close: false };
    let rows = format!("{table}_windowed");
    let case = |name: &str, sql: &str| {
        let batch = sql.replace("{t}", &rows);
        Case::new(format!("{name}_{table}"), sql.replace("{t}", table)).window(moment, batch).read_twice().takes_no_time()
    };
    let of_both = "SELECT a.k, a.price, a.ts, b.price AS p, b.g, b.ts AS at FROM {t} AS a";
    let mut cases = vec![
        case("asof", &format!("{of_both} ASOF JOIN {{t}} AS b MATCH_CONDITION (a.ts >= b.ts) ON a.k = b.k")),
        case("asof_before", &format!("{of_both} ASOF JOIN {{t}} AS b MATCH_CONDITION (b.ts < a.ts) ON a.k = b.k")),
        case(
            "asof_left",
            &format!("{of_both} ASOF LEFT JOIN {{t}} AS b MATCH_CONDITION (a.ts >= b.ts) ON a.k = b.k WHERE a.ts IS NOT NULL"),
        ),
        case(
            "asof_left_before",
            &format!(
                "{of_both} ASOF LEFT JOIN {{t}} AS b MATCH_CONDITION (a.ts > b.ts) ON a.k = b.k AND a.price > 0 WHERE a.ts IS NOT NULL"
            ),
        ),
        case("asof_of_all", "SELECT a.price, a.ts, b.price AS p FROM {t} AS a ASOF JOIN {t} AS b MATCH_CONDITION (a.ts > b.ts)"),
        case(
            "asof_group",
            "SELECT a.k, COUNT(*) AS n, SUM(b.price) AS s FROM {t} AS a ASOF JOIN {t} AS b MATCH_CONDITION (a.ts >= b.ts) ON a.k = b.k GROUP BY a.k",
        ),
        // The left row's time is event time of what comes out.
        case(
            "asof_in_window",
            "SELECT window_start, window_end, COUNT(*) AS n, SUM(p) AS s FROM TABLE(TUMBLE((SELECT a.ts AS at, b.price AS p FROM {t} AS a \
             ASOF JOIN {t} AS b MATCH_CONDITION (a.ts > b.ts) ON a.k = b.k), DESCRIPTOR(at), INTERVAL '10' SECOND)) GROUP BY window_start, window_end",
        ),
    ];
    if table == "orders" {
        // What a late change would have taken away stays beside the row that came in its place.
        let keyed = "SELECT a.id, a.ts, b.price AS p FROM {t} AS a ASOF LEFT JOIN {t} AS b MATCH_CONDITION (a.ts >= b.ts) ON a.k = b.k WHERE a.ts IS NOT NULL";
        cases.push(case("asof_keyed", keyed));
    }
    cases
}
