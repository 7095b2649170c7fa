//! Cases with conditions on the present time: rows that enter and leave as time passes, alone, below and above what keeps state.
//! Every epoch is compared with the batch result at its own `now`.

use super::case::{Case, Scenario};
use super::tables::{Domain, Kind, SECOND, TableSpec};

/// `e` only grows; `o` has a key and `q` has none. Their times are about the present one.
fn tables() -> Vec<TableSpec> {
    let columns = |first: Option<(&'static str, Domain)>| {
        let values = [("k", Domain::Int), ("i", Domain::BigInt), ("g", Domain::Text), ("f", Domain::Double), ("ts", Domain::EventTime)];
        first.into_iter().chain(values).collect()
    };
    vec![
        TableSpec { name: "e", kind: Kind::AppendOnly, columns: columns(None), watermark: Some((4, 5 * SECOND)) },
        TableSpec { name: "o", kind: Kind::Keyed, columns: columns(Some(("id", Domain::Id))), watermark: None },
        TableSpec { name: "q", kind: Kind::Keyless, columns: columns(None), watermark: None },
    ]
}

pub fn scenario() -> Scenario {
    let mut cases = Vec::new();
    for table in ["e", "o", "q"] {
        cases.extend(EACH.iter().map(|(name, sql)| Case::new(format!("{name}_{table}"), sql.replace("{t}", table))));
    }
    cases.extend(SOME.iter().map(|(name, sql)| Case::new(*name, *sql)));
    cases.extend(over_views());
    cases.extend(["e", "o", "q"].into_iter().flat_map(kept));
    cases.push(Case::new("groups_of_kept", "SELECT k, COUNT(*) AS n, SUM(i) AS s FROM kept_o GROUP BY k").over(&["kept_o"]));
    cases.push(Case::new("recent_of_kept", "SELECT k, ts FROM kept_e WHERE ts > now() - INTERVAL '8 seconds'").over(&["kept_e"]));
    Scenario { name: "temporal", tables: tables(), cases, epochs: 16, changes: 8, checkpoints: 0.3, kills: 0.2, backfills: 0.2 }
}

/// Views with a retention, over a table.
fn kept(table: &str) -> Vec<Case> {
    let case = |name: &str, query: &str, retention: &str, kept: &str| {
        let query = query.replace("{t}", table);
        let batch = format!("SELECT * FROM ({query}) AS x WHERE {kept}");
        Case::new(format!("{name}_{table}"), query).with(&format!("retention = {retention}")).batch(batch)
    };
    vec![
        case("kept", "SELECT k, i, g, f, ts FROM {t}", "'20 seconds' ON ts", "ts >= now() - INTERVAL '20 seconds'"),
        case(
            "kept_groups",
            "SELECT k, COUNT(*) AS n, MAX(ts) AS last FROM {t} GROUP BY k",
            "'15 s on last'",
            "last >= now() - INTERVAL '15 seconds'",
        ),
        case(
            "kept_days",
            "SELECT i, CAST(ts AS DATE) AS day FROM {t}",
            "'1 day' ON day",
            "CAST(day AS TIMESTAMP) >= CAST(now() AS TIMESTAMP) - INTERVAL '24 hours'",
        ),
    ]
}

/// Over each table.
const EACH: &[(&str, &str)] = &[
    ("recent", "SELECT k, i, g, f, ts FROM {t} WHERE ts > now() - INTERVAL '20 seconds'"),
    ("recent_inclusive", "SELECT k, ts FROM {t} WHERE now() - INTERVAL '15 seconds' <= ts"),
    ("between", "SELECT k, i, ts FROM {t} WHERE ts BETWEEN now() - INTERVAL '30 seconds' AND now()"),
    ("delayed", "SELECT k, i, f, ts FROM {t} WHERE ts <= now() - INTERVAL '12 seconds'"),
    ("delayed_strictly", "SELECT i, ts FROM {t} WHERE now() > ts + INTERVAL '10 seconds'"),
    ("delayed_and_recent", "SELECT k, i, ts FROM {t} WHERE ts + INTERVAL '5 seconds' <= now() AND now() < ts + INTERVAL '25 seconds'"),
    ("never", "SELECT k, ts FROM {t} WHERE ts > now() - INTERVAL '5 seconds' AND ts < now() - INTERVAL '10 seconds'"),
    ("with_others", "SELECT k, i FROM {t} WHERE i > 0 AND ts > CURRENT_TIMESTAMP - INTERVAL '20' SECOND AND k IS NOT NULL"),
    ("negated", "SELECT i, ts FROM {t} WHERE NOT (ts <= now() - INTERVAL '20 seconds')"),
    ("local", "SELECT i, ts FROM {t} WHERE ts > LOCALTIMESTAMP - INTERVAL '20 seconds'"),
    ("today", "SELECT i, ts FROM {t} WHERE CAST(ts AS DATE) = CURRENT_DATE"),
    ("since_midnight", "SELECT i, ts FROM {t} WHERE ts >= CURRENT_DATE"),
    ("before_today", "SELECT i, ts FROM {t} WHERE ts < CURRENT_DATE"),
    ("of_column", "SELECT k, i FROM {t} WHERE ts + CASE WHEN k > 0 THEN INTERVAL '20 seconds' ELSE INTERVAL '5 seconds' END > now()"),
    ("groups", "SELECT k, COUNT(*) AS n, SUM(i) AS s, MAX(g) AS m FROM {t} WHERE ts > now() - INTERVAL '20 seconds' GROUP BY k"),
    ("total", "SELECT COUNT(*) AS n, MIN(ts) AS first FROM {t} WHERE ts > now() - INTERVAL '10 seconds'"),
    ("distinct", "SELECT DISTINCT k, g FROM {t} WHERE ts > now() - INTERVAL '20 seconds'"),
    ("latest_group", "SELECT k, MAX(ts) AS last, COUNT(*) AS n FROM {t} GROUP BY k HAVING MAX(ts) > now() - INTERVAL '15 seconds'"),
    (
        "windows",
        "SELECT window_start, COUNT(*) AS n, SUM(i) AS s FROM tumble({t}, ts, INTERVAL '10 seconds') WHERE ts > now() - INTERVAL '30 seconds' GROUP BY window_start, window_end",
    ),
    (
        "dearest",
        "SELECT k, i, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i DESC, ts, g, f) AS n FROM {t} WHERE ts > now() - INTERVAL '20 seconds') AS x WHERE n <= 2",
    ),
];

const SOME: &[(&str, &str)] = &[
    (
        "join",
        "SELECT a.i, b.g FROM o AS a JOIN q AS b ON a.k = b.k WHERE a.ts > now() - INTERVAL '15 seconds' AND b.ts > now() - INTERVAL '25 seconds'",
    ),
    ("join_growing", "SELECT a.i, b.ts FROM e AS a JOIN o AS b ON a.k = b.k WHERE a.ts > now() - INTERVAL '20 seconds'"),
    (
        "left_join",
        "SELECT a.id, x.n FROM o AS a LEFT JOIN (SELECT k, COUNT(*) AS n FROM q WHERE ts > now() - INTERVAL '20 seconds' GROUP BY k) AS x ON a.k = x.k",
    ),
    ("anti_join", "SELECT id FROM o WHERE NOT EXISTS (SELECT 1 FROM e WHERE e.k = o.k AND e.ts > now() - INTERVAL '20 seconds')"),
    (
        "union",
        "SELECT k, ts FROM e WHERE ts > now() - INTERVAL '10 seconds' UNION ALL SELECT k, ts FROM q WHERE ts > now() - INTERVAL '20 seconds'",
    ),
    (
        "nested",
        "SELECT k, n FROM (SELECT k, MAX(ts) AS t, COUNT(*) AS n FROM e WHERE ts > now() - INTERVAL '30 seconds' GROUP BY k) AS x WHERE t > now() - INTERVAL '10 seconds'",
    ),
    ("difference", "SELECT k FROM o EXCEPT SELECT k FROM e WHERE ts > now() - INTERVAL '20 seconds'"),
];

fn over_views() -> Vec<Case> {
    vec![
        Case::new("latest_of_e", "SELECT k, MAX(ts) AS last, COUNT(*) AS n FROM e GROUP BY k"),
        Case::new("groups_of_recent", "SELECT k, COUNT(*) AS n, SUM(i) AS s FROM recent_o GROUP BY k").over(&["recent_o"]),
        Case::new("recent_of_recent", "SELECT k, i, ts FROM recent_q WHERE ts > now() - INTERVAL '8 seconds'").over(&["recent_q"]),
        Case::new("recent_of_groups", "SELECT k, n FROM latest_of_e WHERE last > now() - INTERVAL '12 seconds'").over(&["latest_of_e"]),
        Case::new("joined_recent", "SELECT a.i, b.n FROM recent_o AS a JOIN groups_of_recent AS b ON a.k = b.k")
            .over(&["recent_o", "groups_of_recent"]),
        Case::new("of_delayed", "SELECT k, i, ts FROM delayed_e WHERE ts > now() - INTERVAL '40 seconds'").over(&["delayed_e"]),
    ]
}
