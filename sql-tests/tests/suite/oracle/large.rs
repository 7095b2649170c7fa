//! Cases with more keys than fit a cache of 1 MiB.

use super::case::{Case, Scenario};
use super::tables::{Domain, Kind, SECOND, TableSpec};
use super::windows::Windowing;

fn tables() -> Vec<TableSpec> {
    vec![
        TableSpec {
            name: "t",
            kind: Kind::Keyed,
            columns: vec![("id", Domain::Id), ("k", Domain::Below(20_000)), ("i", Domain::BigInt)],
            watermark: None,
        },
        TableSpec { name: "u", kind: Kind::Keyless, columns: vec![("k", Domain::Below(30_000)), ("g", Domain::Text)], watermark: None },
        TableSpec {
            name: "bid",
            kind: Kind::AppendOnly,
            columns: vec![("auction", Domain::Below(10_000)), ("ts", Domain::EventTime)],
            watermark: Some((1, 5 * SECOND)),
        },
    ]
}

pub fn scenario() -> Scenario {
    let minute = Windowing {
        table: "bid",
        size: 60 * SECOND,
        slide: 60 * SECOND,
        step: None,
        session: None,
        sets: 1,
        offset: 0,
        lateness: 0,
        on_close: false,
    };
    let by_auction = "SELECT window_start, auction, COUNT(*) AS n FROM";
    let windowed = |name: &str, window: Windowing| {
        let sql = format!("{by_auction} tumble(bid, ts, INTERVAL '60 seconds') GROUP BY window_start, auction");
        Case::new(name, sql).window(window, format!("{by_auction} bid_windowed GROUP BY window_start, auction"))
    };
    let cases = vec![
        Case::new("counts", "SELECT k, COUNT(*) AS n, SUM(i) AS s FROM t GROUP BY k"),
        Case::new("extremes", "SELECT k, MIN(i) AS a, MAX(i) AS b FROM t GROUP BY k"),
        Case::new("one_extreme", "SELECT MIN(id) AS a, MAX(id) AS b FROM t"),
        Case::new("texts", "SELECT k, MAX(g) AS g, COUNT(DISTINCT g) AS n FROM u GROUP BY k"),
        Case::new("pairs", "SELECT DISTINCT k, g FROM u"),
        Case::new("per_minute", "SELECT auction, COUNT(*) AS n FROM bid GROUP BY auction"),
        Case::new("by_count", "SELECT n, COUNT(*) AS groups, MAX(s) AS s FROM counts GROUP BY n").over(&["counts"]),
        Case::new("tops", "SELECT k, i FROM (SELECT k, i, ROW_NUMBER() OVER (PARTITION BY k ORDER BY i) AS n FROM t) AS x WHERE n <= 2"),
        Case::new(
            "lags",
            "SELECT id, k % 10 AS p, LAG(i) OVER w AS a, LEAD(id, 3) OVER w AS b, MIN(i) OVER (PARTITION BY k % 10 ORDER BY id ROWS 9 PRECEDING) AS m FROM t WINDOW w AS (PARTITION BY k % 10 ORDER BY id)",
        ),
        Case::new("near", "SELECT id, COUNT(*) OVER (PARTITION BY k % 3 ORDER BY k RANGE BETWEEN 9 PRECEDING AND 3 FOLLOWING) AS n FROM t"),
        Case::new(
            "running",
            "SELECT id, SUM(i) OVER (PARTITION BY k % 10 ORDER BY id) AS s, RANK() OVER (PARTITION BY k % 10 ORDER BY id) AS r FROM t",
        ),
        Case::new("lists", "SELECT k, ARRAY_AGG(g ORDER BY g) AS a, FIRST_VALUE(g ORDER BY g DESC) AS f FROM u GROUP BY k"),
        Case::new("limited", "SELECT id, k FROM t ORDER BY k, id LIMIT 5 OFFSET 2"),
        Case::new("joined", "SELECT t.id, u.g FROM t JOIN u ON t.k = u.k"),
        Case::new("joined_left", "SELECT t.id, t.i, u.g FROM t LEFT JOIN u ON t.k = u.k AND t.i > 0"),
        Case::new("joined_full", "SELECT t.id, x.k, x.n FROM t FULL JOIN (SELECT k, COUNT(*) AS n FROM u GROUP BY k) AS x ON t.k = x.k"),
        // Ten keys for all rows.
        Case::new(
            "skewed",
            "SELECT x.k, x.n, t.id FROM t JOIN (SELECT k % 10 AS k, COUNT(*) AS n FROM u GROUP BY k % 10) AS x ON t.k % 10 = x.k",
        ),
        Case::new("skewed_semi", "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.k % 10 = t.k % 10 AND u.g = 'émile')"),
        windowed("windows", minute),
        windowed("closed_windows", Windowing { on_close: true, ..minute }),
    ];
    Scenario { name: "large", tables: tables(), cases, epochs: 10, changes: 9_000, checkpoints: 0.5, kills: 0.3, backfills: 0.1 }
}
