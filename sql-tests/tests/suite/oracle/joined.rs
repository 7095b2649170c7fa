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
    }
    Scenario { name: "joined", tables, cases, epochs: 10, changes: 10, checkpoints: 0.3, kills: 0.2, backfills: 0.2 }
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
    ("full_growing", "SELECT a.k, a.g, b.i FROM q AS a FULL JOIN r AS b ON a.k = b.s"),
    ("semi_in", "SELECT id, k FROM p WHERE k IN (SELECT k FROM q WHERE i > 0)"),
    ("semi_in_growing", "SELECT k, i FROM r WHERE k IN (SELECT s FROM r)"),
    ("semi_exists", "SELECT id FROM p WHERE EXISTS (SELECT 1 FROM q WHERE q.k = p.k AND q.g = p.g)"),
    ("semi_residual", "SELECT id FROM p WHERE EXISTS (SELECT 1 FROM q WHERE q.k = p.k AND q.i < p.i)"),
    ("semi_uncorrelated", "SELECT id FROM p WHERE EXISTS (SELECT 1 FROM q WHERE i > 15)"),
    ("anti_exists", "SELECT id, k FROM p WHERE NOT EXISTS (SELECT 1 FROM q WHERE q.k = p.k AND q.i > 5)"),
    ("anti_residual", "SELECT k, i FROM q WHERE NOT EXISTS (SELECT 1 FROM p WHERE q.k = p.k AND q.i < p.i)"),
    ("anti_uncorrelated", "SELECT id FROM p WHERE NOT EXISTS (SELECT 1 FROM q WHERE i > 10)"),
    ("mark_exists", "SELECT id, k FROM p WHERE i > 10 OR EXISTS (SELECT 1 FROM q WHERE q.k = p.k AND q.i > 10)"),
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
    ("null_safe_left", "SELECT p.id, r.i FROM p LEFT JOIN r ON p.s IS NOT DISTINCT FROM r.s AND r.i > 10"),
    ("values_side", "SELECT p.id, v.name FROM p JOIN (VALUES (1, 'one'), (2, 'two'), (NULL, 'none')) AS v(n, name) ON p.k = v.n"),
];

/// Only ours, or with names that PostgreSQL wants otherwise.
const OURS: &[(&str, &str)] = &[
    ("semi_spelled", "SELECT p.id FROM p LEFT SEMI JOIN q ON p.k = q.k"),
    ("anti_spelled", "SELECT p.id FROM p LEFT ANTI JOIN q ON p.k = q.k AND p.i > q.i"),
    ("right_semi_spelled", "SELECT q.i FROM p RIGHT SEMI JOIN q ON p.k = q.k"),
    ("right_anti_spelled", "SELECT q.i FROM p RIGHT ANTI JOIN q ON p.k = q.k"),
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
    vec![
        case("not_in", "SELECT k FROM q WHERE i > 12"),
        case("not_in_without_nulls", "SELECT k FROM q WHERE k IS NOT NULL AND i > 0"),
        case("not_in_empty", "SELECT k FROM q WHERE i > 1000"),
        Case::new("failing_condition", "SELECT p.id, q.i FROM p JOIN q ON p.k = q.k AND 10 / (p.i - q.i) > 0")
            .batch("SELECT p.id, q.i FROM p JOIN q ON p.k = q.k AND 10 / NULLIF(p.i - q.i, 0) > 0")
            .rejected("SELECT COUNT(*) FROM p JOIN q ON p.k = q.k WHERE p.i = q.i"),
    ]
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
        offset: 0,
        lateness: lateness * SECOND,
        on_close: false,
    };
    let tumble = format!("tumble({table}, ts, INTERVAL '10 seconds')");
    let rows = format!("{table}_windowed");
    let case = |name: &str, sql: &str, lateness: i64| {
        let name = format!("{name}_{table}");
        Case::new(name, sql.replace("{w}", &tumble)).window(window(lateness), sql.replace("{w}", &rows))
    };
    let groups = "SELECT x.window_end, x.k, x.n, y.m FROM (SELECT window_start, window_end, k, COUNT(*) AS n FROM {w} GROUP BY window_start, window_end, k) AS x \
         {kind} (SELECT window_start, window_end, k, MAX(price) AS m FROM {w} WHERE price > 0 GROUP BY window_start, window_end, k) AS y \
         ON x.window_start = y.window_start AND x.window_end = y.window_end AND x.k = y.k";
    let of_rows = "SELECT x.window_start, x.price, y.g FROM {w} AS x {kind} {w} AS y ON x.window_end = y.window_end AND x.k = y.k AND x.price < y.price";
    let dimension = "SELECT x.window_end, x.n, p.g FROM (SELECT window_start, window_end, k, COUNT(*) AS n FROM {w} GROUP BY window_start, window_end, k) AS x \
         {kind} p ON x.k = p.k";
    vec![
        case("window_groups", &groups.replace("{kind}", "JOIN"), 0).read_twice(),
        case("window_groups_left", &groups.replace("{kind}", "LEFT JOIN"), 10).read_twice(),
        case("window_groups_full", &groups.replace("{kind}", "FULL JOIN"), 0).read_twice(),
        case("window_rows", &of_rows.replace("{kind}", "JOIN"), 0).read_twice(),
        case("window_rows_left", &of_rows.replace("{kind}", "LEFT JOIN"), 10).read_twice(),
        case("window_with_dimension", &dimension.replace("{kind}", "JOIN"), 0),
        case("window_with_dimension_left", &dimension.replace("{kind}", "LEFT JOIN"), 0),
    ]
}

/// A row is late for an interval join when it is behind the watermark: as if it were in a window of its own moment.
fn intervals(table: &'static str) -> Vec<Case> {
    let moment = Windowing { table, size: 1, slide: 1, step: None, session: None, offset: 0, lateness: 0, on_close: false };
    let rows = format!("{table}_windowed");
    let case = |name: &str, sql: &str| {
        let batch = sql.replace("{t}", &rows);
        Case::new(format!("{name}_{table}"), sql.replace("{t}", table)).window(moment, batch).read_twice().takes_no_time()
    };
    let within = "a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '4 seconds' AND a.ts + INTERVAL '10 seconds'";
    vec![
        case("interval", &format!("SELECT a.k, a.price, b.g, b.ts FROM {{t}} AS a JOIN {{t}} AS b ON {within} WHERE a.ts IS NOT NULL")),
        case(
            "interval_after",
            "SELECT a.price, b.price AS p FROM {t} AS a JOIN {t} AS b ON a.k = b.k AND a.ts < b.ts AND b.ts <= a.ts + INTERVAL '7 seconds'",
        ),
        case("interval_equal", "SELECT a.price, b.price AS p FROM {t} AS a JOIN {t} AS b ON a.k = b.k AND a.ts = b.ts"),
        case("interval_left", &format!("SELECT a.k, a.price, b.g FROM {{t}} AS a LEFT JOIN {{t}} AS b ON {within} WHERE a.ts IS NOT NULL")),
        case(
            "interval_group",
            &format!("SELECT a.k, COUNT(*) AS n, MAX(b.price) AS m FROM {{t}} AS a JOIN {{t}} AS b ON {within} GROUP BY a.k"),
        ),
    ]
}
