//! Cases of OVER windows: every function, frames of ROWS and RANGE, in both directions, with nulls and ties, over input that
//! changes. What an order leaves equal is equal in all that is selected, or is ordered by the key.

use super::case::{Case, Scenario};
use super::relational;

/// Over any one table: name, query.
const QUERIES: &[(&str, &str)] = &[
    (
        "ranks",
        "SELECT k, i, RANK() OVER w AS r, DENSE_RANK() OVER w AS d, ROW_NUMBER() OVER w AS n FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i)",
    ),
    ("numbered", "SELECT k, i, g, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i DESC, g) AS n FROM {t}"),
    (
        "relative",
        "SELECT g, i, PERCENT_RANK() OVER w AS p, CUME_DIST() OVER w AS c, NTILE(3) OVER w AS t FROM {t} WINDOW w AS (PARTITION BY g ORDER BY i DESC NULLS LAST)",
    ),
    ("lag", "SELECT k, i, LAG(i) OVER (PARTITION BY k ORDER BY i) AS a, LEAD(i, 2, 7) OVER (PARTITION BY k ORDER BY i) AS b FROM {t}"),
    (
        "lag_texts",
        "SELECT k, g, ts, LAG(g, 3, 'none') OVER w AS a, LEAD(ts) OVER w AS b FROM {t} WINDOW w AS (PARTITION BY k ORDER BY ts DESC, g)",
    ),
    ("lag_of_all", "SELECT i, k, LAG(i) OVER (ORDER BY i, k) AS a, LEAD(k) OVER (ORDER BY i, k) AS b FROM {t}"),
    (
        "lag_of_columns",
        "SELECT k, g, i, LAG(i, 1, k) OVER w AS a, LEAD(k, 2, i) OVER w AS b FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i, g)",
    ),
    (
        "values",
        "SELECT k, i, FIRST_VALUE(i) OVER w AS f, LAST_VALUE(i) OVER w AS l, NTH_VALUE(i, 2) OVER w AS n FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i)",
    ),
    (
        "values_of_rows",
        "SELECT k, i, g, FIRST_VALUE(g) OVER w AS f, LAST_VALUE(i) OVER w AS l, NTH_VALUE(i, 3) OVER w AS n FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i, g ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING)",
    ),
    (
        "values_to_the_end",
        "SELECT k, i, g, FIRST_VALUE(g) OVER w AS f, LAST_VALUE(g) OVER w AS l FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i, g ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)",
    ),
    (
        "running",
        "SELECT k, i, SUM(i) OVER w AS s, COUNT(*) OVER w AS n, MIN(i) OVER w AS a, MAX(i) OVER w AS b FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i)",
    ),
    (
        "running_rows",
        "SELECT k, ts, i, SUM(i) OVER w AS s, MAX(i) OVER w AS b FROM {t} WINDOW w AS (PARTITION BY k ORDER BY ts, i ROWS UNBOUNDED PRECEDING)",
    ),
    (
        "running_behind",
        "SELECT k, i, COUNT(i) OVER w AS n, LAST_VALUE(i) OVER w AS l, MAX(i) OVER w AS m FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING)",
    ),
    (
        "running_ahead",
        "SELECT k, i, SUM(i) OVER w AS s, FIRST_VALUE(i) OVER w AS f, LAST_VALUE(i) OVER w AS l FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING)",
    ),
    ("counted_alone", "SELECT COUNT(*) OVER () AS n FROM {t}"),
    ("numbered_alone", "SELECT ROW_NUMBER() OVER () AS n FROM {t}"),
    ("first_of_numbered", "SELECT n + 1 AS n FROM (SELECT ROW_NUMBER() OVER () AS n FROM {t}) AS x WHERE n <= 3"),
    ("both_alone", "SELECT COUNT(*) OVER () AS n, ROW_NUMBER() OVER () + 0 AS m FROM {t}"),
    ("counted_of_counted", "SELECT SUM(n) AS s FROM (SELECT COUNT(*) OVER () AS n FROM {t}) AS x"),
    ("whole", "SELECT g, i, SUM(i) OVER (PARTITION BY g) AS s, COUNT(*) OVER () AS n, i - MIN(i) OVER (PARTITION BY g) AS d FROM {t}"),
    (
        "sliding",
        "SELECT k, i, SUM(i) OVER w AS s, COUNT(g) OVER w AS n, MIN(i) OVER w AS a, MAX(i) OVER w AS b FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i, g ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
    ),
    ("sliding_behind", "SELECT k, i, SUM(i) OVER (PARTITION BY k ORDER BY i ROWS BETWEEN 4 PRECEDING AND 2 PRECEDING) AS s FROM {t}"),
    ("sliding_ahead", "SELECT k, i, MAX(i) OVER (PARTITION BY k ORDER BY i DESC ROWS BETWEEN 1 FOLLOWING AND 3 FOLLOWING) AS m FROM {t}"),
    ("remaining", "SELECT k, i, SUM(i) OVER (PARTITION BY k ORDER BY i RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS s FROM {t}"),
    ("near", "SELECT k, i, COUNT(*) OVER (PARTITION BY k ORDER BY i RANGE BETWEEN 5 PRECEDING AND 5 FOLLOWING) AS n FROM {t}"),
    (
        "near_behind",
        "SELECT s, i, SUM(s) OVER w AS x, MIN(i) OVER w AS m FROM {t} WINDOW w AS (ORDER BY i DESC NULLS LAST RANGE BETWEEN 6 PRECEDING AND 2 PRECEDING)",
    ),
    ("near_small", "SELECT k, s, COUNT(*) OVER (PARTITION BY k ORDER BY s RANGE 1 PRECEDING) AS n FROM {t}"),
    (
        "near_times",
        "SELECT k, ts, COUNT(*) OVER w AS n, MAX(ts) OVER w AS m FROM {t} WINDOW w AS (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '10 seconds' PRECEDING AND INTERVAL '1 second' FOLLOWING)",
    ),
    (
        "near_days",
        "SELECT k, day, COUNT(*) OVER (PARTITION BY k ORDER BY day DESC RANGE BETWEEN INTERVAL '3 days' PRECEDING AND CURRENT ROW) AS n FROM {t}",
    ),
    (
        "until_near",
        "SELECT k, i, COUNT(*) OVER (PARTITION BY k ORDER BY i RANGE BETWEEN UNBOUNDED PRECEDING AND 3 PRECEDING) AS n, COUNT(*) OVER (PARTITION BY k ORDER BY i RANGE BETWEEN UNBOUNDED PRECEDING AND 3 FOLLOWING) AS m FROM {t}",
    ),
    (
        "filtered",
        "SELECT k, i, COUNT(*) FILTER (WHERE b) OVER w AS n, SUM(i) FILTER (WHERE i > 0) OVER w AS s FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i)",
    ),
    ("truths", "SELECT k, i, b, BOOL_AND(b) OVER w AS a, BOOL_OR(b) OVER w AS o FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i, b)"),
    (
        "two_windows",
        "SELECT k, g, i, SUM(i) OVER (PARTITION BY k ORDER BY i) AS a, COUNT(*) OVER (PARTITION BY g ORDER BY i DESC) AS b FROM {t}",
    ),
    ("over_groups", "SELECT k, n, n - LAG(n, 1, 0) OVER (ORDER BY k) AS d FROM (SELECT k, COUNT(*) AS n FROM {t} GROUP BY k) AS x"),
    ("groups_of_over", "SELECT r, COUNT(*) AS n FROM (SELECT i - LAG(i) OVER (PARTITION BY k ORDER BY i) AS r FROM {t}) AS x GROUP BY r"),
    ("filter_of_over", "SELECT k, i, s FROM (SELECT k, i, SUM(i) OVER (PARTITION BY k ORDER BY i) AS s FROM {t}) AS x WHERE s > 0"),
    (
        "top_and_over",
        "SELECT k, i, s FROM (SELECT k, i, SUM(i) OVER (PARTITION BY k ORDER BY i) AS s, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i DESC) AS n FROM {t}) AS x WHERE n <= 2",
    ),
    (
        "q6",
        "SELECT k, day, AVG(top) OVER (PARTITION BY k ORDER BY day, g ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS a FROM (SELECT k, g, day, MAX(i) AS top FROM {t} GROUP BY k, g, day) AS x",
    ),
];

/// Lists and texts in the window's order.
const LISTS: &[(&str, &str)] = &[
    ("list_running", "SELECT k, i, ARRAY_AGG(i) OVER (PARTITION BY k ORDER BY i) AS l FROM {t}"),
    (
        "list_sliding",
        "SELECT k, i, g, ARRAY_AGG(g) OVER w AS l, ARRAY_AGG(i) OVER w AS m FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i, g ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING)",
    ),
    (
        "list_behind",
        "SELECT k, i, g, ARRAY_AGG(g) OVER w AS l, COUNT(g) OVER w AS n FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i DESC, g ROWS BETWEEN 4 PRECEDING AND 2 PRECEDING)",
    ),
    (
        "list_near",
        "SELECT k, i, ARRAY_AGG(i) OVER (PARTITION BY k ORDER BY i DESC RANGE BETWEEN 5 PRECEDING AND 5 FOLLOWING) AS l FROM {t}",
    ),
    (
        "list_remaining",
        "SELECT k, i, g, ARRAY_AGG(g) OVER (PARTITION BY k ORDER BY i, g ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS l FROM {t}",
    ),
    (
        "list_filtered",
        "SELECT k, i, g, ARRAY_AGG(g) FILTER (WHERE i > 0) OVER w AS l, SUM(i) OVER w AS s FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i, g ROWS 3 PRECEDING)",
    ),
    ("text_running", "SELECT k, g, STRING_AGG(g, ', ') OVER (PARTITION BY k ORDER BY g) AS l FROM {t}"),
    (
        "text_running_rows",
        "SELECT k, i, g, STRING_AGG(g, '') FILTER (WHERE i > 0) OVER (PARTITION BY k ORDER BY i, g ROWS UNBOUNDED PRECEDING) AS l FROM {t}",
    ),
];

/// What PostgreSQL has not: DISTINCT, and values that are not null.
const OURS: &[(&str, &str)] = &[
    (
        "distinct_running",
        "SELECT k, i, COUNT(DISTINCT g) OVER w AS n, SUM(DISTINCT s) OVER w AS x, MAX(DISTINCT g) OVER w AS m FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i)",
    ),
    (
        "distinct_running_rows",
        "SELECT k, i, g, COUNT(DISTINCT g) OVER w AS n, COUNT(*) OVER w AS c FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i DESC, g ROWS UNBOUNDED PRECEDING)",
    ),
    ("distinct_whole", "SELECT k, g, COUNT(DISTINCT g) OVER (PARTITION BY k) AS n, COUNT(DISTINCT k) OVER () AS m FROM {t}"),
    (
        "distinct_sliding",
        "SELECT k, i, g, COUNT(DISTINCT g) OVER w AS n, SUM(DISTINCT i) OVER w AS s FROM {t} WINDOW w AS (PARTITION BY k ORDER BY g, i ROWS BETWEEN 3 PRECEDING AND 1 FOLLOWING)",
    ),
    (
        "distinct_behind",
        "SELECT k, i, g, COUNT(DISTINCT g) OVER (PARTITION BY k ORDER BY i, g ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING) AS n FROM {t}",
    ),
    (
        "distinct_near",
        "SELECT k, i, COUNT(DISTINCT g) OVER (PARTITION BY k ORDER BY i RANGE BETWEEN 5 PRECEDING AND 5 FOLLOWING) AS n FROM {t}",
    ),
    (
        "distinct_remaining",
        "SELECT k, i, COUNT(DISTINCT s) OVER (PARTITION BY k ORDER BY i RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS n FROM {t}",
    ),
    (
        "distinct_filtered",
        "SELECT k, i, COUNT(DISTINCT g) FILTER (WHERE b) OVER w AS n, COUNT(g) FILTER (WHERE b) OVER w AS m FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i)",
    ),
    ("filled", "SELECT k, g, i, LAST_VALUE(i) IGNORE NULLS OVER (PARTITION BY k ORDER BY g, i) AS l FROM {t}"),
    (
        "not_null_sliding",
        "SELECT k, g, i, FIRST_VALUE(i) IGNORE NULLS OVER w AS f, LAST_VALUE(i) IGNORE NULLS OVER w AS l, NTH_VALUE(i, 2) IGNORE NULLS OVER w AS n FROM {t} WINDOW w AS (PARTITION BY k ORDER BY g, i ROWS BETWEEN 3 PRECEDING AND 1 FOLLOWING)",
    ),
    ("lag_not_null", "SELECT k, g, i, LAG(i, 2, -1) IGNORE NULLS OVER (PARTITION BY k ORDER BY g, i) AS a FROM {t}"),
];

/// What DataFusion has not over such frames, or gets wrong: name, query, what is the same.
const REWRITTEN: &[(&str, &str, &str)] = &[
    (
        "text_sliding",
        "SELECT k, i, g, STRING_AGG(g, '|') OVER (PARTITION BY k ORDER BY i, g ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) AS l FROM {t}",
        "SELECT k, i, g, ARRAY_TO_STRING(ARRAY_AGG(g) FILTER (WHERE g IS NOT NULL) OVER (PARTITION BY k ORDER BY i, g ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING), '|') FROM {t}",
    ),
    (
        "lead_not_null",
        "SELECT k, g, i, LEAD(i, 2) IGNORE NULLS OVER (PARTITION BY k ORDER BY g, i) AS a FROM {t}",
        "SELECT k, g, i, ARRAY_ELEMENT(ARRAY_AGG(i) FILTER (WHERE i IS NOT NULL) OVER (PARTITION BY k ORDER BY g, i ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING), 2) FROM {t}",
    ),
    (
        "approximate_running",
        "SELECT k, i, APPROX_DISTINCT(g) OVER (PARTITION BY k ORDER BY i) AS n FROM {t}",
        "SELECT k, i, COUNT(DISTINCT g) OVER (PARTITION BY k ORDER BY i) FROM {t}",
    ),
];

/// Numbers that a database rounds elsewhere.
const APPROXIMATE: &[(&str, &str)] = &[
    (
        "averages",
        "SELECT k, i, d, AVG(i) OVER w AS a, AVG(d) OVER w AS b, SUM(d) OVER w AS s FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i, d ROWS 3 PRECEDING)",
    ),
    ("spreads", "SELECT k, i, STDDEV(i) OVER w AS a, VAR_POP(i) OVER w AS b FROM {t} WINDOW w AS (PARTITION BY k ORDER BY i)"),
];

const AVERAGES_OF_DISTINCT: &str = "SELECT k, i, AVG(DISTINCT s) OVER (PARTITION BY k ORDER BY i) AS a FROM {t}";

pub fn scenario() -> Scenario {
    let over = |table: &str| {
        let own = |name: &str, sql: &str| Case::new(format!("{name}_{table}"), sql.replace("{t}", table));
        let exact = QUERIES.iter().chain(LISTS).map(|(name, sql)| own(name, sql).postgres());
        let ours = OURS.iter().map(|(name, sql)| own(name, sql));
        let rewritten = REWRITTEN.iter().map(|(name, sql, same)| own(name, sql).batch(same.replace("{t}", table)));
        let approximate = APPROXIMATE.iter().map(|(name, sql)| own(name, sql).postgres().approximate());
        let averages = own("averages_of_distinct", AVERAGES_OF_DISTINCT).approximate();
        exact.chain(ours).chain(rewritten).chain(approximate).chain([averages]).collect::<Vec<_>>()
    };
    let mut cases = ["t", "u", "a"].map(over).concat();
    // Sums that do not fit.
    cases.push(
        Case::new("huge_sums", "SELECT id, SUM(h) OVER (ORDER BY id ROWS 1 PRECEDING) AS s FROM t")
            .batch("SELECT id, CAST(s AS BIGINT) FROM (SELECT id, SUM(CAST(h AS DECIMAL(25,0))) OVER (ORDER BY id ROWS 1 PRECEDING) AS s FROM t) AS x WHERE s IS NULL OR s BETWEEN -9223372036854775808 AND 9223372036854775807")
            .rejected("SELECT COUNT(*) FROM (SELECT SUM(CAST(h AS DECIMAL(25,0))) OVER (ORDER BY id ROWS 1 PRECEDING) AS s FROM t) AS x WHERE s < -9223372036854775808 OR s > 9223372036854775807"),
    );
    cases.push(Case::new(
        "floats",
        "SELECT k, f, COUNT(*) OVER (PARTITION BY k ORDER BY f) AS n, MAX(f) OVER (PARTITION BY k ORDER BY f) AS m FROM t",
    ));
    Scenario { name: "over", tables: relational::tables(), cases, epochs: 12, changes: 12, checkpoints: 0.3, kills: 0.2, backfills: 0.2 }
}
