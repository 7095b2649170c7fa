//! Cases of UNNEST and of series, in FROM and in select lists. The truth is the same list unnested in a select list.

use super::case::{Case, Scenario};
use super::relational;

/// Name, query, and one that says the same.
const EACH: &[(&str, &str, &str)] = &[
    (
        "cross",
        "SELECT x.k, x.i, e.v FROM {t} AS x CROSS JOIN UNNEST(generate_series(1, x.k)) AS e(v)",
        "SELECT k, i, unnest(generate_series(1, k)) FROM {t}",
    ),
    (
        "two",
        "SELECT x.i, e.v, f.w FROM {t} AS x, UNNEST(string_to_array(x.g, 'a')) AS e(v), UNNEST(ARRAY[x.i, x.k]) AS f(w) WHERE f.w > 0",
        "SELECT i, v, w FROM (SELECT i, v, unnest(ARRAY[i, k]) AS w FROM (SELECT i, k, unnest(string_to_array(g, 'a')) AS v FROM {t}) AS y) AS z WHERE w > 0",
    ),
    (
        "with_ordinality",
        "SELECT x.i, e.v, e.n FROM {t} AS x CROSS JOIN UNNEST(string_to_array(x.g, 'a')) WITH ORDINALITY AS e(v, n)",
        "SELECT i, unnest(l), unnest(generate_series(1, coalesce(CAST(array_length(l) AS BIGINT), 0))) FROM (SELECT i, string_to_array(g, 'a') AS l FROM {t}) AS y",
    ),
    (
        "left_join",
        "SELECT x.k, x.i, e.v FROM {t} AS x LEFT JOIN UNNEST(generate_series(1, x.k)) AS e(v) ON TRUE",
        "SELECT k, i, unnest(generate_series(1, k)) FROM {t} UNION ALL SELECT k, i, NULL FROM {t} WHERE k < 1 OR k IS NULL",
    ),
    (
        "left_ordinality",
        "SELECT x.k, e.v, e.n FROM {t} AS x LEFT JOIN UNNEST(generate_series(2, x.k)) WITH ORDINALITY AS e(v, n) ON TRUE",
        "SELECT k, unnest(generate_series(2, k)), unnest(generate_series(1, GREATEST(k - 1, 0))) FROM {t} UNION ALL SELECT k, NULL, NULL FROM {t} WHERE k < 2 OR k IS NULL",
    ),
    (
        "side_by_side",
        "SELECT x.i, e.a, e.b FROM {t} AS x, UNNEST(generate_series(1, x.k), string_to_array(x.g, 'a')) AS e(a, b)",
        "SELECT i, unnest(generate_series(1, k)), unnest(string_to_array(g, 'a')) FROM {t}",
    ),
    (
        "elements",
        "SELECT e.v, COUNT(*) AS n, SUM(x.i) AS s FROM {t} AS x CROSS JOIN UNNEST(string_to_array(x.g, 'a')) AS e(v) GROUP BY e.v",
        "SELECT v, COUNT(*), SUM(i) FROM (SELECT unnest(string_to_array(g, 'a')) AS v, i FROM {t}) AS y GROUP BY v",
    ),
    (
        "rows",
        "SELECT x.i, e.a, e.b FROM {t} AS x CROSS JOIN UNNEST(ARRAY[named_struct('p', x.i, 'q', x.g), named_struct('p', x.k, 'q', x.g)]) AS e(a, b)",
        "SELECT i, i, g FROM {t} UNION ALL SELECT i, k, g FROM {t}",
    ),
    ("select_list", "SELECT k, unnest(ARRAY[i, s]) AS v FROM {t}", "SELECT k, unnest(ARRAY[i, s]) FROM {t}"),
    ("series", "SELECT x.i, n FROM {t} AS x, generate_series(1, x.k, 2) AS n", "SELECT i, unnest(generate_series(1, k, 2)) FROM {t}"),
    (
        "constant_series",
        "SELECT x.i, n FROM {t} AS x JOIN generate_series(1, 3) AS n ON x.k >= n",
        "SELECT i, n FROM (SELECT i, k, unnest(generate_series(1, 3)) AS n FROM {t}) AS y WHERE k >= n",
    ),
    (
        "lateral",
        "SELECT x.i, e.v FROM {t} AS x, LATERAL (SELECT unnest(ARRAY[x.i, x.k]) * 2 AS v) AS e",
        "SELECT i, v * 2 FROM (SELECT i, unnest(ARRAY[i, k]) AS v FROM {t}) AS y",
    ),
    (
        "joined",
        "SELECT x.i, a.s FROM {t} AS x CROSS JOIN UNNEST(ARRAY[x.k, x.s]) AS e(v) JOIN a ON a.s = e.v",
        "SELECT x.i, a.s FROM (SELECT i, unnest(ARRAY[k, s]) AS v FROM {t}) AS x JOIN a ON a.s = x.v",
    ),
];

pub fn scenario() -> Scenario {
    let mut cases = Vec::new();
    for table in ["t", "u", "a"] {
        let of = |text: &str| text.replace("{t}", table);
        cases.extend(EACH.iter().map(|(name, sql, batch)| Case::new(format!("{name}_{table}"), of(sql)).batch(of(batch))));
    }
    Scenario {
        name: "unnested",
        tables: relational::tables(),
        cases,
        epochs: 12,
        changes: 12,
        checkpoints: 0.3,
        kills: 0.2,
        backfills: 0.2,
    }
}
