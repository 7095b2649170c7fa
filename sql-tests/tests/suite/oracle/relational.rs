//! Cases over tables without a watermark: expressions, filters, unions, group aggregates, failing rows. Each is a line;
//! what is to hold for any changelog runs over a keyed table, a keyless one and an append-only one.

use super::case::{Case, Scenario};
use super::tables::{Domain, Kind, TableSpec};

const VALUES: [(&str, Domain); 11] = [
    ("k", Domain::Int),
    ("g", Domain::Text),
    ("i", Domain::BigInt),
    ("s", Domain::SmallInt),
    ("d", Domain::Decimal),
    ("f", Domain::Double),
    ("r", Domain::Real),
    ("b", Domain::Boolean),
    ("ts", Domain::Time),
    ("day", Domain::Date),
    ("w", Domain::Numeral),
];

/// `t` with a key, `u` without, `a` only ever added to.
pub fn tables() -> Vec<TableSpec> {
    let columns =
        |first: Option<(&'static str, Domain)>, last: Option<(&'static str, Domain)>| first.into_iter().chain(VALUES).chain(last).collect();
    vec![
        TableSpec { name: "t", kind: Kind::Keyed, columns: columns(Some(("id", Domain::Id)), Some(("h", Domain::Huge))), watermark: None },
        TableSpec { name: "u", kind: Kind::Keyless, columns: columns(None, None), watermark: None },
        TableSpec { name: "a", kind: Kind::AppendOnly, columns: columns(None, None), watermark: None },
    ]
}

pub fn scenario() -> Scenario {
    let mut cases = Vec::new();
    for table in ["t", "u", "a"] {
        cases.extend(expressions(table));
        cases.extend(aggregates(table));
    }
    cases.extend(unions());
    cases.extend(failing_rows());
    cases.extend(few_workers());
    Scenario { name: "relational", tables: tables(), cases, epochs: 10, changes: 12, checkpoints: 0.3, kills: 0.2, backfills: 0.2 }
}

/// Jobs that some of the workers do, among how many there are in each life.
fn few_workers() -> Vec<Case> {
    let joined = "SELECT t.k, COUNT(*) AS n, SUM(t.i) AS s, MIN(a.g) AS g FROM t LEFT JOIN a ON t.k = a.k GROUP BY t.k";
    vec![
        Case::new("one_worker", joined).with("parallelism = 1"),
        Case::new("two_workers", joined).with("parallelism = 2"),
        Case::new("one_worker_of_all_rows", "SELECT COUNT(*) AS n, SUM(i) AS s FROM u").with("parallelism = 1"),
        Case::new("one_worker_of_constants", "SELECT k, g FROM t WHERE i > 0 UNION ALL SELECT 1, 'one'").with("parallelism = 1"),
    ]
}

/// Over any one table: name, query. All but those in `OURS` mean the same in PostgreSQL.
const EXPRESSIONS: &[(&str, &str)] = &[
    ("all_columns", "SELECT * FROM {t}"),
    ("filter", "SELECT k, g FROM {t} WHERE i > 0 AND (g <> 'a' OR b)"),
    ("filter_null", "SELECT k, i FROM {t} WHERE k IS NULL OR i IS NOT NULL AND b IS NOT TRUE"),
    ("filter_lists", "SELECT k, g, i FROM {t} WHERE k IN (1, 2, 4) AND g NOT IN ('a', 'b') AND i BETWEEN -10 AND 12"),
    ("filter_two_lists", "SELECT k, i FROM {t} WHERE k NOT IN (1, 2) OR k NOT IN (3, 4)"),
    ("filter_no_two_lists", "SELECT k, i FROM {t} WHERE NOT (k IN (1, 2) AND k IN (3, 4, 5))"),
    ("filter_lists_of_columns", "SELECT k, i FROM {t} WHERE k IN (i, s, 1) AND k IN (1, 2, 3)"),
    ("filter_list_without_columns", "SELECT k, i FROM {t} WHERE (k = 1 OR k = 2 OR k = 3) AND k NOT IN (i, s)"),
    ("filter_lists_with_null", "SELECT k, i FROM {t} WHERE k IN (1, 2, 3) AND k NOT IN (2, NULL) OR i NOT IN (1, NULL)"),
    ("lists_with_null", "SELECT k IN (1, NULL) AS a, k NOT IN (1, NULL) AS b, k IN (1, 2) AND k NOT IN (1, 2, 3) AS c FROM {t}"),
    ("filter_text", "SELECT g FROM {t} WHERE g LIKE 'a%' OR g ILIKE '%BET%' OR g ~ '^ *p'"),
    ("filter_false", "SELECT k FROM {t} WHERE 1 = 2"),
    ("arithmetic", "SELECT i + k AS a, i - s AS b, i * 3 AS c, -i AS e, i % 7 AS m, d * 2 AS dd, d + d AS ds, r + 1 AS rr FROM {t}"),
    (
        "compare",
        "SELECT i < k AS a, d >= 0 AS b, f > 1 AS c, g = 'a' AS e, i IS DISTINCT FROM k AS x, ts > TIMESTAMP '2024-01-01 00:00:30' AS y FROM {t}",
    ),
    ("logic", "SELECT b AND i > 0 AS x, b OR i > 0 AS y, NOT b AS z, b IS UNKNOWN AS u FROM {t}"),
    (
        "case",
        "SELECT CASE WHEN i > 5 THEN 'big' WHEN i < -5 THEN 'small' ELSE g END AS c, CASE k WHEN 1 THEN 10 WHEN 2 THEN 20 END AS x FROM {t}",
    ),
    (
        "null_functions",
        "SELECT COALESCE(g, 'none') AS c, NULLIF(k, 1) AS n, COALESCE(i, k, 0) AS x, GREATEST(i, k) AS hi, LEAST(i, k) AS lo FROM {t}",
    ),
    (
        "text_functions",
        "SELECT UPPER(g) AS up, LOWER(g) AS lo, LENGTH(g) AS n, TRIM(g) AS t, g || '-' || g AS c, REPLACE(g, 'a', 'xx') AS r, REVERSE(g) AS v FROM {t}",
    ),
    (
        "text_parts",
        "SELECT SUBSTRING(g FROM 2 FOR 2) AS s, LEFT(g, 2) AS l, RIGHT(g, 1) AS r, LPAD(g, 6, '*') AS p, STRPOS(g, 'a') AS at, STARTS_WITH(g, 'a') AS st FROM {t}",
    ),
    (
        "number_functions",
        "SELECT ABS(i) AS a, FLOOR(f) AS fl, CEIL(f) AS ce, ROUND(f) AS ro FROM {t} WHERE f BETWEEN -1000 AND 1000 AND f * 2 <> FLOOR(f * 2)",
    ),
    (
        "casts",
        "SELECT CAST(i AS TEXT) AS a, CAST(k AS BIGINT) AS b, CAST(i AS DECIMAL(20,4)) AS c, CAST(s AS DOUBLE PRECISION) AS e, CAST(b AS TEXT) AS x, CAST(ts AS DATE) AS y FROM {t}",
    ),
    (
        "time_functions",
        "SELECT DATE_TRUNC('minute', ts) AS m, ts + INTERVAL '1 hour' AS h, EXTRACT(YEAR FROM ts) AS y, EXTRACT(SECOND FROM DATE_TRUNC('second', ts)) AS sec, day FROM {t}",
    ),
    ("constants", "SELECT 1 AS one, 'x' AS x, k FROM {t}"),
    ("repeated_columns", "SELECT k AS a, k AS b, k + 1 AS c, g FROM {t}"),
    ("subquery", "SELECT x.n + 1 AS n, x.g FROM (SELECT i * 2 AS n, g FROM {t} WHERE i IS NOT NULL) AS x WHERE x.n > 0"),
    ("cte", "WITH x AS (SELECT k, i FROM {t} WHERE i > 0), y AS (SELECT k + 1 AS k, i FROM x) SELECT k, i FROM y WHERE k > 0"),
    ("distinct", "SELECT DISTINCT k, b FROM {t}"),
    ("distinct_filtered", "SELECT DISTINCT g FROM {t} WHERE i > 0"),
    ("union_all_self", "SELECT k FROM {t} WHERE i > 0 UNION ALL SELECT s FROM {t} WHERE i <= 0 UNION ALL SELECT k FROM {t}"),
    ("union_self", "SELECT k, g FROM {t} WHERE i > 0 UNION SELECT k, g FROM {t} WHERE i < 5"),
    ("count", "SELECT k, COUNT(*) AS n FROM {t} GROUP BY k"),
    ("counts", "SELECT g, COUNT(i) AS i, COUNT(f) AS f, COUNT(b) AS b, COUNT(ts) AS ts FROM {t} GROUP BY g"),
    ("sums", "SELECT k, SUM(i) AS i, SUM(s) AS s, SUM(d) AS d FROM {t} GROUP BY k"),
    ("average_int", "SELECT g, AVG(i) AS i, AVG(s) AS s FROM {t} GROUP BY g"),
    ("extremes", "SELECT k, MIN(i) AS a, MAX(i) AS b, MIN(g) AS c, MAX(g) AS e, MIN(d) AS x, MAX(d) AS y, MIN(s) AS z FROM {t} GROUP BY k"),
    (
        "extremes_more",
        "SELECT k, MIN(r) AS r1, MAX(r) AS r2, MIN(ts) AS t1, MAX(ts) AS t2, MIN(day) AS d1, MAX(day) AS d2 FROM {t} GROUP BY k",
    ),
    (
        "distinct_calls",
        "SELECT k, COUNT(DISTINCT g) AS a, COUNT(DISTINCT i) AS b, SUM(DISTINCT i) AS c, AVG(DISTINCT s) AS e, MIN(DISTINCT i) AS m FROM {t} GROUP BY k",
    ),
    (
        "filters",
        "SELECT k, COUNT(*) FILTER (WHERE b) AS a, SUM(i) FILTER (WHERE i > 0) AS c, MIN(g) FILTER (WHERE NOT b) AS e, COUNT(DISTINCT g) FILTER (WHERE i > 0) AS x FROM {t} GROUP BY k",
    ),
    ("having", "SELECT k, SUM(i) AS s FROM {t} GROUP BY k HAVING COUNT(*) > 2 AND SUM(i) > 0"),
    ("having_hidden", "SELECT g FROM {t} GROUP BY g HAVING MAX(i) > 10 OR MIN(i) < -10"),
    ("global", "SELECT COUNT(*) AS n, SUM(i) AS s, MIN(g) AS a, MAX(ts) AS b, AVG(i) AS c, COUNT(DISTINCT k) AS e FROM {t}"),
    ("global_filtered", "SELECT COUNT(*) AS n, MAX(i) AS m FROM {t} WHERE i > 1000"),
    ("global_having", "SELECT COUNT(*) AS n FROM {t} HAVING COUNT(*) > 5"),
    ("group_by_many", "SELECT k, g, b, COUNT(*) AS n, SUM(d) AS d FROM {t} GROUP BY k, g, b"),
    ("group_by_expression", "SELECT i % 3 AS m, UPPER(g) AS g, COUNT(*) AS n FROM {t} GROUP BY i % 3, UPPER(g)"),
    ("group_by_types", "SELECT d, r, b, day, COUNT(*) AS n FROM {t} GROUP BY d, r, b, day"),
    ("group_by_float", "SELECT f, COUNT(*) AS n, MIN(i) AS m FROM {t} GROUP BY f"),
    ("group_by_time", "SELECT DATE_TRUNC('minute', ts) AS m, day, COUNT(*) AS n FROM {t} GROUP BY DATE_TRUNC('minute', ts), day"),
    ("group_hidden_key", "SELECT COUNT(*) AS n, MAX(i) AS m FROM {t} GROUP BY k, b"),
    ("aggregate_arithmetic", "SELECT k, SUM(i) + COUNT(*) AS x, MAX(i) - MIN(i) AS y, COUNT(*) * 2 AS z FROM {t} GROUP BY k"),
    ("aggregate_of_aggregate", "SELECT n, COUNT(*) AS groups FROM (SELECT k, COUNT(*) AS n FROM {t} GROUP BY k) AS x GROUP BY n"),
    ("aggregate_of_distinct", "SELECT COUNT(*) AS n, MIN(g) AS g FROM (SELECT DISTINCT g FROM {t}) AS x"),
    ("aggregate_of_union", "SELECT k, COUNT(*) AS n FROM (SELECT k FROM {t} UNION ALL SELECT s FROM {t}) AS x GROUP BY k"),
    ("filter_of_aggregate", "SELECT k, n FROM (SELECT k, COUNT(*) AS n FROM {t} GROUP BY k) AS x WHERE n > 1 AND k > 0"),
    ("case_in_aggregate", "SELECT k, SUM(CASE WHEN b THEN i ELSE 0 END) AS s, COUNT(CASE WHEN b THEN 1 END) AS c FROM {t} GROUP BY k"),
    ("booleans", "SELECT k, BOOL_AND(b) AS a, BOOL_OR(b) AS o, EVERY(b) AS e, BOOL_AND(b) FILTER (WHERE i > 0) AS f FROM {t} GROUP BY k"),
    ("boolean_global", "SELECT BOOL_AND(b) AS a, BOOL_OR(b) AS o FROM {t}"),
    (
        "array_aggregate",
        "SELECT k, ARRAY_AGG(i ORDER BY i) AS a, ARRAY_AGG(g ORDER BY i DESC NULLS LAST, g) AS b, ARRAY_AGG(s ORDER BY s DESC) FILTER (WHERE b) AS c FROM {t} GROUP BY k",
    ),
    (
        "array_distinct",
        "SELECT k, ARRAY_AGG(DISTINCT i ORDER BY i) AS a, ARRAY_AGG(DISTINCT g ORDER BY g DESC NULLS FIRST) AS b FROM {t} GROUP BY k",
    ),
    ("array_global", "SELECT ARRAY_AGG(k ORDER BY k DESC) AS a, STRING_AGG(g, '|' ORDER BY g) AS s FROM {t} WHERE i > 5"),
    ("string_aggregate", "SELECT k, STRING_AGG(g, ', ' ORDER BY g) AS a, COUNT(*) AS n FROM {t} GROUP BY k"),
    ("string_ordered", "SELECT k, STRING_AGG(g, '' ORDER BY i, g DESC) AS b FROM {t} GROUP BY k"),
    (
        "string_orders",
        "SELECT k, STRING_AGG(g, '' ORDER BY i, g) AS a, STRING_AGG(g, '' ORDER BY g DESC, i) AS b, ARRAY_AGG(i ORDER BY ts, i) AS c FROM {t} GROUP BY k",
    ),
    ("string_distinct", "SELECT k, STRING_AGG(DISTINCT g, ';' ORDER BY g) AS a FROM {t} GROUP BY k"),
    (
        "percentiles",
        "SELECT k, PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY i) AS a, PERCENTILE_CONT(0.3) WITHIN GROUP (ORDER BY i DESC) FILTER (WHERE b) AS c, PERCENTILE_DISC(0.75) WITHIN GROUP (ORDER BY g) AS e FROM {t} GROUP BY k",
    ),
    (
        "percentile_global",
        "SELECT PERCENTILE_CONT(0.9) WITHIN GROUP (ORDER BY s) AS a, PERCENTILE_DISC(0.1) WITHIN GROUP (ORDER BY i DESC NULLS LAST) AS c FROM {t}",
    ),
    (
        "modes",
        "SELECT k, MODE() WITHIN GROUP (ORDER BY i) AS a, MODE() WITHIN GROUP (ORDER BY g DESC) AS c, MODE() WITHIN GROUP (ORDER BY s DESC NULLS LAST) FILTER (WHERE b) AS e FROM {t} GROUP BY k",
    ),
    ("mode_global", "SELECT MODE() WITHIN GROUP (ORDER BY k) AS a, MODE() WITHIN GROUP (ORDER BY b) AS c FROM {t}"),
    ("rollup", "SELECT k, b, COUNT(*) AS n, SUM(i) AS s FROM {t} GROUP BY ROLLUP (k, b)"),
    (
        "rollup_of_computed",
        "SELECT x, COUNT(i) AS n, SUM(i) AS s, AVG(s) AS a FROM (SELECT k + 1 AS x, i, s FROM {t}) AS q GROUP BY ROLLUP (x)",
    ),
    ("small_numbers", "SELECT g, AVG(s) AS a, MAX(s) AS hi, SUM(k) AS k, MIN(k) AS lo, COUNT(s) AS n FROM {t} GROUP BY g"),
    ("small_numbers_summed", "SELECT SUM(s) AS s, AVG(s) AS a, SUM(k) AS k, COUNT(k) AS n FROM {t}"),
    ("cube", "SELECT k, g, COUNT(*) AS n, MIN(k) AS m, COUNT(DISTINCT g) AS d FROM {t} GROUP BY CUBE (k, g)"),
    (
        "grouping_sets",
        "SELECT GROUPING(k) AS gk, GROUPING(b, k) AS gb, k, b, COUNT(*) AS n, MAX(i) AS m FROM {t} GROUP BY GROUPING SETS ((k), (b), (k, b))",
    ),
    ("grouping_repeated", "SELECT s, COUNT(*) AS n FROM {t} GROUP BY GROUPING SETS ((s), (s))"),
    ("grouping_mixed", "SELECT k, b, s, COUNT(i) AS n FROM {t} GROUP BY k, ROLLUP (b, s) HAVING COUNT(*) > 1"),
    ("guarded", "SELECT k, CASE WHEN i <> 0 THEN 100 / i ELSE 0 END AS q FROM {t}"),
];

/// What PostgreSQL does otherwise, or not.
const OURS: &[&str] = &[
    "array_aggregate",
    "array_distinct",
    "array_global",
    "cube",
    "string_aggregate",
    "string_ordered",
    "string_distinct",
    "casts",
    "sums",
    "time_functions",
    "number_functions",
    "aggregate_arithmetic",
    "case_in_aggregate",
    "average_int",
];

/// Over any one table, compared with a tolerance.
const APPROXIMATE: &[(&str, &str)] = &[
    ("float_sums", "SELECT k, SUM(f) AS s, AVG(f) AS a, SUM(r) AS r, COUNT(*) AS n FROM {t} GROUP BY k"),
    ("float_distinct", "SELECT k, SUM(DISTINCT f) AS s, AVG(DISTINCT f) AS a FROM {t} GROUP BY k"),
    ("float_global", "SELECT SUM(f) AS s, AVG(f) AS a, AVG(r) AS r FROM {t}"),
    ("average_decimal", "SELECT g, AVG(d) AS a FROM {t} GROUP BY g"),
    (
        "variances",
        "SELECT k, VAR_POP(f) AS a, VAR_SAMP(f) AS b, STDDEV(f) AS c, STDDEV_POP(f) AS e, VARIANCE(r) AS x FROM {t} WHERE f BETWEEN -1000 AND 1000 GROUP BY k",
    ),
    (
        "float_percentiles",
        "SELECT k, PERCENTILE_CONT(0.35) WITHIN GROUP (ORDER BY f) AS a, PERCENTILE_DISC(0.6) WITHIN GROUP (ORDER BY d) AS b FROM {t} WHERE f BETWEEN -1000 AND 1000 GROUP BY k",
    ),
    ("variances_of_integers", "SELECT STDDEV_SAMP(i) AS a, VAR_POP(s) AS b, VARIANCE(d) AS c FROM {t}"),
    ("sums_of_all", "SELECT SUM(i) AS i, SUM(s) AS s, SUM(d) AS d, AVG(i) AS a FROM {t}"),
];

fn expressions(table: &str) -> Vec<Case> {
    let name = |name: &str| format!("{name}_{table}");
    let exact = EXPRESSIONS.iter().map(|(n, sql)| {
        let case = Case::new(name(n), sql.replace("{t}", table));
        if OURS.contains(n) { case } else { case.postgres() }
    });
    exact.collect()
}

fn aggregates(table: &str) -> Vec<Case> {
    let case = |(name, sql): &(&str, &str)| Case::new(format!("{name}_{table}"), sql.replace("{t}", table)).approximate().postgres();
    let extremes = Case::new(format!("extremes_bool_{table}"), format!("SELECT k, MIN(b) AS x, MAX(b) AS y FROM {table} GROUP BY k"));
    // DataFusion's own MIN and MAX stumble over infinities and NaN; its sort order is that of PostgreSQL and ours.
    let lowest = "FIRST_VALUE(f ORDER BY f ASC NULLS LAST)";
    let highest = "FIRST_VALUE(f ORDER BY f DESC NULLS LAST)";
    let doubles = Case::new(format!("extremes_double_{table}"), format!("SELECT k, MIN(f) AS x, MAX(f) AS y FROM {table} GROUP BY k"));
    let doubles = doubles.batch(format!("SELECT k, {lowest}, {highest} FROM {table} GROUP BY k")).postgres();
    APPROXIMATE.iter().map(case).chain([extremes, doubles]).chain(ordered(table)).collect()
}

/// What DataFusion's text leaves open is said in the batch query.
fn ordered(table: &str) -> Vec<Case> {
    let case = |name: &str, sql: &str, batch: &str| {
        Case::new(format!("{name}_{table}"), sql.replace("{t}", table)).batch(batch.replace("{t}", table))
    };
    vec![
        case(
            "first_last",
            "SELECT k, FIRST_VALUE(i ORDER BY i) AS a, LAST_VALUE(i ORDER BY i) AS b, FIRST_VALUE(g ORDER BY s DESC, g) AS c, LAST_VALUE(g ORDER BY s NULLS FIRST, g DESC) AS e FROM {t} GROUP BY k",
            "SELECT k, FIRST_VALUE(i ORDER BY i NULLS LAST), FIRST_VALUE(i ORDER BY i DESC NULLS FIRST), FIRST_VALUE(g ORDER BY s DESC NULLS FIRST, g NULLS LAST), FIRST_VALUE(g ORDER BY s DESC NULLS LAST, g NULLS LAST) FROM {t} GROUP BY k",
        ),
        case(
            "first_not_null",
            "SELECT k, FIRST_VALUE(i ORDER BY i DESC) IGNORE NULLS AS a, ANY_VALUE(s) IS NOT NULL AS b FROM {t} GROUP BY k",
            "SELECT k, MAX(i), COUNT(s) > 0 FROM {t} GROUP BY k",
        ),
        case(
            "first_unordered",
            "SELECT k, FIRST_VALUE(i) IGNORE NULLS AS a, LAST_VALUE(i) IGNORE NULLS AS b FROM {t} GROUP BY k",
            "SELECT k, MIN(i), MAX(i) FROM {t} GROUP BY k",
        ),
        case(
            "unordered",
            "SELECT k, ARRAY_AGG(i) AS a, STRING_AGG(g, '-') AS b, LISTAGG(g) WITHIN GROUP (ORDER BY g DESC) AS c FROM {t} GROUP BY k",
            "SELECT k, ARRAY_AGG(i ORDER BY i NULLS FIRST), STRING_AGG(g, '-' ORDER BY g), STRING_AGG(g, ',' ORDER BY g DESC) FROM {t} GROUP BY k",
        ),
        case(
            "approximate",
            "SELECT k, APPROX_DISTINCT(i) AS a, APPROX_COUNT_DISTINCT(g) AS b FROM {t} GROUP BY k",
            "SELECT k, COUNT(DISTINCT i), COUNT(DISTINCT g) FROM {t} GROUP BY k",
        ),
        case(
            "approximate_percentiles",
            "SELECT k, APPROX_PERCENTILE_CONT(i, 0.3) AS a, APPROX_PERCENTILE_CONT(0.8) WITHIN GROUP (ORDER BY i DESC) AS b, APPROX_PERCENTILE(i, 0.95) AS c, \
             APPROX_QUANTILE(s, 0.5) FILTER (WHERE b) AS e, APPROX_MEDIAN(i) AS f FROM {t} GROUP BY k",
            "SELECT k, a::double precision, b::double precision, c::double precision, e::double precision, f::double precision FROM (SELECT k, \
             PERCENTILE_DISC(0.3) WITHIN GROUP (ORDER BY i) AS a, PERCENTILE_DISC(0.8) WITHIN GROUP (ORDER BY i DESC) AS b, PERCENTILE_DISC(0.95) WITHIN GROUP (ORDER BY i) AS c, \
             PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY s) FILTER (WHERE b) AS e, PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY i) AS f FROM {t} GROUP BY k) AS x",
        ),
        case(
            "grouping_total",
            "SELECT GROUPING(k) AS g, k, COUNT(*) AS n, SUM(i) AS s FROM {t} GROUP BY GROUPING SETS ((), (k), ())",
            "SELECT 0, k, COUNT(*), SUM(i) FROM {t} GROUP BY k UNION ALL SELECT 1, NULL, COUNT(*), SUM(i) FROM {t} UNION ALL SELECT 1, NULL, COUNT(*), SUM(i) FROM {t}",
        ),
    ]
}

fn unions() -> Vec<Case> {
    vec![
        Case::new("union_tables", "SELECT k, g, i FROM t UNION ALL SELECT k, g, i FROM u UNION ALL SELECT k, g, i FROM a").postgres(),
        Case::new("union_types", "SELECT s AS x, d FROM t UNION ALL SELECT i, i FROM a").postgres(),
        Case::new("union_constants", "SELECT k, 't' AS origin FROM t UNION ALL SELECT k, 'a' FROM a UNION ALL SELECT 7, 'c'").postgres(),
        Case::new("union_values", "SELECT k, g FROM u UNION ALL VALUES (1, 'one'), (2, NULL), (1, 'one')").postgres(),
        Case::new("values", "SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (2, 'b')) AS v(x, y)").postgres(),
        Case::new(
            "count_union",
            "SELECT g, COUNT(*) AS n, SUM(i) AS s FROM (SELECT g, i FROM t UNION ALL SELECT g, i FROM u) AS x GROUP BY g",
        ),
        Case::new("union_of_aggregates", "SELECT k, COUNT(*) AS n FROM t GROUP BY k UNION ALL SELECT k, COUNT(*) FROM a GROUP BY k")
            .postgres(),
        Case::new("distinct_union", "SELECT k FROM t UNION SELECT k FROM u UNION SELECT k FROM a").postgres(),
    ]
}

/// Rows that cannot be computed are set aside, and come back out when they are retracted.
fn failing_rows() -> Vec<Case> {
    vec![
        Case::new("divide", "SELECT id, 10 / k AS q FROM t")
            .batch("SELECT id, 10 / NULLIF(k, 0) FROM t WHERE k IS NULL OR k <> 0")
            .rejected("SELECT COUNT(*) FROM t WHERE k = 0"),
        Case::new("divide_filter", "SELECT id FROM t WHERE 10 / k > 2")
            .batch("SELECT id FROM t WHERE 10 / NULLIF(k, 0) > 2")
            .rejected("SELECT COUNT(*) FROM t WHERE k = 0"),
        Case::new("divide_keyless", "SELECT g, i % s AS m FROM u")
            .batch("SELECT g, i % NULLIF(s, 0) FROM u WHERE s IS NULL OR s <> 0 OR i IS NULL")
            .rejected("SELECT COUNT(*) FROM u WHERE s = 0 AND i IS NOT NULL"),
        Case::new("divide_aggregate", "SELECT k, SUM(100 / i) AS s, COUNT(*) AS n FROM t GROUP BY k")
            .batch("SELECT k, SUM(100 / NULLIF(i, 0)), COUNT(*) FROM t WHERE i IS NULL OR i <> 0 GROUP BY k")
            .rejected("SELECT COUNT(*) FROM t WHERE i = 0")
            .counts_rows(),
        Case::new("divide_after_aggregate", "SELECT k, 100 / SUM(i) AS q FROM t GROUP BY k")
            .batch("SELECT k, 100 / NULLIF(SUM(i), 0) FROM t GROUP BY k HAVING SUM(i) IS NULL OR SUM(i) <> 0")
            .rejected("SELECT COUNT(*) FROM (SELECT k FROM t GROUP BY k HAVING SUM(i) = 0) AS x"),
        Case::new("guarded_filter", "SELECT id FROM t WHERE k <> 0 AND 10 / k > 2").batch("SELECT id FROM t WHERE 10 / NULLIF(k, 0) > 2"),
        Case::new("cast_text", "SELECT id, CAST(w AS INT) AS n FROM t")
            .batch("SELECT id, TRY_CAST(w AS INT) FROM t WHERE w IS NULL OR TRY_CAST(w AS INT) IS NOT NULL")
            .rejected("SELECT COUNT(*) FROM t WHERE w IS NOT NULL AND TRY_CAST(w AS INT) IS NULL"),
        Case::new("try_cast_text", "SELECT id, TRY_CAST(w AS INT) AS n, TRY_CAST(w AS DOUBLE PRECISION) AS f FROM t"),
        Case::new("overflow", "SELECT id, i + 9223372036854775800 AS x FROM t")
            .batch("SELECT id, CASE WHEN i <= 7 THEN i ELSE NULL END + 9223372036854775800 FROM t WHERE i IS NULL OR i <= 7")
            .rejected("SELECT COUNT(*) FROM t WHERE i > 7"),
        Case::new("overflow_cast", "SELECT id, CAST(i * 3000 AS SMALLINT) AS x FROM t")
            .batch("SELECT id, TRY_CAST(i * 3000 AS SMALLINT) FROM t WHERE i IS NULL OR i BETWEEN -10 AND 10")
            .rejected("SELECT COUNT(*) FROM t WHERE i NOT BETWEEN -10 AND 10"),
        Case::new("overflow_sum", "SELECT k, SUM(h) AS s, COUNT(*) AS n FROM t GROUP BY k")
            .batch(format!("SELECT k, CAST(s AS BIGINT), n FROM ({HUGE_SUMS}) AS x WHERE s IS NULL OR s {IN_RANGE}"))
            .rejected(format!("SELECT COUNT(*) FROM ({HUGE_SUMS}) AS x WHERE NOT (s {IN_RANGE})")),
    ]
}

const HUGE_SUMS: &str = "SELECT k, SUM(CAST(h AS DECIMAL(25,0))) AS s, COUNT(*) AS n FROM t GROUP BY k";
const IN_RANGE: &str = "BETWEEN -9223372036854775808 AND 9223372036854775807";
