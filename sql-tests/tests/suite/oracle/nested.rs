//! Views over views: aggregates over aggregates, unions of views and tables, windows over windows.

use super::case::{Case, Scenario};
use super::tables::{SECOND, TableSpec};
use super::windows::Windowing;
use super::{relational, windowed};

fn tables() -> Vec<TableSpec> {
    relational::tables().into_iter().chain(windowed::tables()).collect()
}

pub fn scenario() -> Scenario {
    let tumble = |table, on_close| Windowing {
        table,
        size: 5 * SECOND,
        slide: 5 * SECOND,
        step: None,
        session: None,
        sets: 1,
        offset: 0,
        lateness: 0,
        on_close,
    };
    let by_window = "SELECT window_start, window_end, window_time, k, COUNT(*) AS n FROM";
    let groups = "GROUP BY window_start, window_end, window_time, k";
    let small = |name: &str, table, on_close| {
        let sql = format!("{by_window} tumble({table}, ts, INTERVAL '5 seconds') {groups}");
        Case::new(name, sql).window(tumble(table, on_close), format!("{by_window} {table}_windowed {groups}"))
    };
    let cases = vec![
        Case::new("counts", "SELECT k, COUNT(*) AS n, SUM(i) AS s FROM t GROUP BY k"),
        Case::new("pass", "SELECT id, k, g, i FROM t WHERE i IS NOT NULL"),
        Case::new("bag", "SELECT k, g, b FROM u WHERE k > 0"),
        Case::new("added", "SELECT k, i * 2 AS i FROM a"),
        Case::new("failing", "SELECT id, 12 / k AS q FROM t")
            .batch("SELECT id, 12 / NULLIF(k, 0) FROM t WHERE k IS NULL OR k <> 0")
            .rejected("SELECT COUNT(*) FROM t WHERE k = 0"),
        Case::new("by_count", "SELECT n, COUNT(*) AS groups, MIN(s) AS a, MAX(s) AS b FROM counts GROUP BY n").over(&["counts"]),
        Case::new("largest", "SELECT MAX(n) AS n, SUM(s) AS s FROM counts").over(&["counts"]),
        Case::new("filtered_counts", "SELECT k, s FROM counts WHERE n > 1").over(&["counts"]),
        Case::new("distinct_counts", "SELECT DISTINCT n FROM counts").over(&["counts"]),
        Case::new("passed_groups", "SELECT g, COUNT(*) AS n, MIN(i) AS m FROM pass GROUP BY g").over(&["pass"]),
        Case::new("bag_groups", "SELECT g, COUNT(*) AS n, COUNT(DISTINCT k) AS d FROM bag GROUP BY g").over(&["bag"]),
        Case::new("bag_again", "SELECT g FROM bag").over(&["bag"]),
        Case::new("added_groups", "SELECT k, SUM(i) AS s, MAX(i) AS m FROM added GROUP BY k").over(&["added"]),
        Case::new("quotients", "SELECT q, COUNT(*) AS n FROM failing GROUP BY q").over(&["failing"]),
        Case::new("both", "SELECT k, n FROM counts UNION ALL SELECT k, 1 FROM added UNION ALL SELECT k, i FROM u")
            .over(&["counts", "added"]),
        Case::new("of_both", "SELECT k, COUNT(*) AS c, SUM(n) AS n FROM both GROUP BY k").over(&["both"]),
        Case::new("third_floor", "SELECT c, COUNT(*) AS x FROM of_both GROUP BY c").over(&["of_both"]),
        small("small_bids", "bid", false),
        small("small_orders", "orders", false),
        small("closed_bids", "bid", true),
        small("closed_orders", "orders", true),
        // What was late for the table is late for what reads a view of it, however that view's steps were cut.
        Case::new("passed_bids", "SELECT auction, k, price, g, ts FROM bid"),
        Case::new("passed_orders", "SELECT id, k, price, g, ts FROM orders"),
        small("windows_of_passed_bids", "bid", false).reading("bid", "passed_bids"),
        small("windows_of_passed_orders", "orders", false).reading("orders", "passed_orders"),
        small("closed_passed_bids", "bid", true).reading("bid", "passed_bids"),
        large("large_bids", "small_bids"),
        large("large_orders", "small_orders"),
        large("large_closed_bids", "closed_bids"),
        large("large_closed_orders", "closed_orders"),
        Case::new("keys_of_bids", "SELECT k, COUNT(*) AS windows, MAX(n) AS n FROM small_bids GROUP BY k").over(&["small_bids"]),
    ];
    Scenario { name: "nested", tables: tables(), cases, epochs: 14, changes: 10, checkpoints: 0.3, kills: 0.2, backfills: 0.0 }
}

/// Windows over the event time of windows. What the lower view accepts is never late here.
fn large(name: &str, over: &str) -> Case {
    let sql = format!(
        "SELECT window_start, window_end, k, SUM(n) AS n, COUNT(*) AS c FROM tumble((SELECT window_time AS at, k, n FROM {over}), at, INTERVAL '15 seconds') GROUP BY window_start, window_end, k"
    );
    Case::new(name, sql).over(&[over])
}
