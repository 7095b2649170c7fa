//! Cases about the time at which rows arrive, or are valid: among their columns, in lookup joins, temporal joins, and windows over processing time.

use super::case::{Case, Scenario};
use super::rows::Row;
use super::tables::{Domain, Kind, SECOND, TableSpec};
use super::versions::{Helper, Versions};
use datafusion::common::ScalarValue;

/// `e` only grows; rows of `d`, which has a key, and of `q`, which has none, are looked up. `v` has versions, and `o` is joined with them too.
fn tables() -> Vec<TableSpec> {
    let columns = |first: Option<(&'static str, Domain)>| {
        let values = [("k", Domain::Int), ("i", Domain::BigInt), ("g", Domain::Text), ("ts", Domain::EventTime)];
        first.into_iter().chain(values).collect()
    };
    vec![
        TableSpec { name: "e", kind: Kind::AppendOnly, columns: columns(None), watermark: Some((3, 5 * SECOND)) },
        TableSpec { name: "d", kind: Kind::Keyed, columns: columns(Some(("id", Domain::Id))), watermark: None },
        TableSpec { name: "q", kind: Kind::Keyless, columns: columns(None), watermark: None },
        TableSpec { name: "v", kind: Kind::Keyed, columns: columns(Some(("id", Domain::Id))), watermark: Some((4, 5 * SECOND)) },
        TableSpec { name: "o", kind: Kind::Keyed, columns: columns(Some(("oid", Domain::Id))), watermark: Some((4, 5 * SECOND)) },
    ]
}

pub fn scenario() -> Scenario {
    let cases = [arrivals(), lookups(), versions(), windows()].concat();
    Scenario { name: "arriving", tables: tables(), cases, epochs: 16, changes: 10, checkpoints: 0.3, kills: 0.2, backfills: 0.0 }
}

/// When a row arrived stays what it was, also where a condition on the present time takes the row back.
fn arrivals() -> Vec<Case> {
    let case = |name: &str, sql: &str, batch: &str| Case::new(name, sql).helper(Helper::Arrived("e"), batch);
    vec![
        case("arrival", "SELECT k, i, PROCTIME() AS p FROM e", "SELECT k, i, arrived FROM e_arrived"),
        case("arrival_day", "SELECT i, CURRENT_DATE AS d FROM e WHERE k > 0", "SELECT i, CAST(arrived AS DATE) FROM e_arrived WHERE k > 0"),
        case(
            "arrival_recent",
            "SELECT k, i, now() AS p FROM e WHERE ts > now() - INTERVAL '20 seconds'",
            "SELECT k, i, arrived FROM e_arrived WHERE ts > now() - INTERVAL '20 seconds'",
        ),
        case(
            "arrival_condition",
            "SELECT i, p FROM (SELECT *, PROCTIME() AS p FROM e) AS x WHERE p > ts + INTERVAL '10 seconds' AND i > 0",
            "SELECT i, arrived FROM e_arrived WHERE arrived > ts + INTERVAL '10 seconds' AND i > 0",
        ),
        case(
            "arrival_both",
            "SELECT p, COUNT(*) AS n FROM (SELECT *, PROCTIME() AS p FROM e) AS x WHERE p > ts AND ts < now() - INTERVAL '8 seconds' GROUP BY p",
            "SELECT arrived, COUNT(*) FROM e_arrived WHERE arrived > ts AND ts < now() - INTERVAL '8 seconds' GROUP BY arrived",
        ),
    ]
}

fn less(left: &Row, right: &Row) -> bool {
    match (&left[1], &right[2]) {
        (ScalarValue::Int64(Some(l)), ScalarValue::Int64(Some(r))) => l < r,
        _ => false,
    }
}

fn lookups() -> Vec<Case> {
    let always: fn(&Row, &Row) -> bool = |_, _| true;
    let with = |right, on, residual, outer| Helper::Versions(Versions { left: "e", right, on, residual, outer, times: None });
    let (by_id, by_key) = ((0, 0), (0, 0));
    let case = |name: &str, sql: &str, helper: Helper, batch: &str| Case::new(name, sql).helper(helper, batch);
    vec![
        case(
            "lookup",
            "SELECT e.k, e.i, d.id, d.g FROM (SELECT *, PROCTIME() AS p FROM e) AS e JOIN d FOR SYSTEM_TIME AS OF e.p ON e.k = d.id",
            with("d", by_id, always, false),
            "SELECT k, i, r_id, r_g FROM e_with_d",
        ),
        case(
            "lookup_left",
            "SELECT e.k, e.i, x.id, x.g, x.i AS j FROM (SELECT *, PROCTIME() AS p FROM e) AS e LEFT JOIN d FOR SYSTEM_TIME AS OF e.p AS x ON e.k = x.id",
            with("d", by_id, always, true),
            "SELECT k, i, r_id, r_g, r_i FROM e_with_d",
        ),
        case(
            "lookup_residual",
            "SELECT e.i, d.id, d.i AS j FROM e JOIN d FOR SYSTEM_TIME AS OF PROCTIME() ON e.k = d.id AND e.i < d.i",
            with("d", by_id, less, false),
            "SELECT i, r_id, r_i FROM e_with_d",
        ),
        case(
            "lookup_left_residual",
            "SELECT e.k, e.i, d.id, d.i AS j FROM e LEFT JOIN d FOR SYSTEM_TIME AS OF PROCTIME() ON e.k = d.id AND e.i < d.i",
            with("d", by_id, less, true),
            "SELECT k, i, r_id, r_i FROM e_with_d",
        ),
        case(
            "lookup_many",
            "SELECT e.i, q.k, q.i AS j, q.ts FROM e JOIN q FOR SYSTEM_TIME AS OF PROCTIME() ON e.k = q.k",
            with("q", by_key, always, false),
            "SELECT i, r_k, r_i, r_ts FROM e_with_q",
        ),
        case(
            "lookup_many_left",
            "SELECT e.k, e.i, q.g FROM e LEFT JOIN q FOR SYSTEM_TIME AS OF PROCTIME() ON q.k = e.k",
            with("q", by_key, always, true),
            "SELECT k, i, r_g FROM e_with_q",
        ),
        case(
            "lookup_groups",
            "SELECT d.g, COUNT(*) AS n, SUM(e.i) AS s FROM e JOIN d FOR SYSTEM_TIME AS OF PROCTIME() ON e.k = d.id GROUP BY d.g",
            with("d", by_id, always, false),
            "SELECT r_g, COUNT(*), SUM(i) FROM e_with_d GROUP BY r_g",
        ),
        case(
            "lookup_filtered",
            "SELECT e.i, d.id FROM e JOIN d FOR SYSTEM_TIME AS OF PROCTIME() ON e.k = d.id WHERE d.i > 0 AND e.i > 0",
            with("d", by_id, always, false),
            "SELECT i, r_id FROM e_with_d WHERE r_i > 0 AND i > 0",
        ),
    ]
}

fn versions() -> Vec<Case> {
    let always: fn(&Row, &Row) -> bool = |_, _| true;
    let of_e = |residual, outer| Helper::Versions(Versions { left: "e", right: "v", on: (0, 0), residual, outer, times: Some((3, 4)) });
    let of_o = |outer| Helper::Versions(Versions { left: "o", right: "v", on: (1, 0), residual: always, outer, times: Some((4, 4)) });
    let case = |name: &str, sql: &str, helper: Helper, batch: &str| Case::new(name, sql).helper(helper, batch);
    vec![
        case(
            "version",
            "SELECT e.k, e.i, e.ts, v.id, v.g, v.ts AS since FROM e JOIN v FOR SYSTEM_TIME AS OF e.ts ON e.k = v.id",
            of_e(always, false),
            "SELECT k, i, ts, r_id, r_g, r_ts FROM e_with_v",
        ),
        case(
            "version_left",
            "SELECT e.k, e.i, e.ts, x.id, x.i AS j FROM e LEFT JOIN v FOR SYSTEM_TIME AS OF e.ts AS x ON e.k = x.id",
            of_e(always, true),
            "SELECT k, i, ts, r_id, r_i FROM e_with_v",
        ),
        case(
            "version_residual",
            "SELECT e.i, v.id, v.i AS j FROM e LEFT JOIN v FOR SYSTEM_TIME AS OF e.ts ON e.k = v.id AND e.i < v.i",
            of_e(less, true),
            "SELECT i, r_id, r_i FROM e_with_v",
        ),
        case(
            "version_filtered",
            "SELECT e.i, v.id FROM e JOIN v FOR SYSTEM_TIME AS OF e.ts ON e.k = v.id WHERE v.i > 0 AND e.i > 0",
            of_e(always, false),
            "SELECT i, r_id FROM e_with_v WHERE r_i > 0 AND i > 0",
        ),
        case(
            "version_groups",
            "SELECT v.g, COUNT(*) AS n FROM e JOIN v FOR SYSTEM_TIME AS OF e.ts ON e.k = v.id GROUP BY v.g",
            of_e(always, false),
            "SELECT r_g, COUNT(*) FROM e_with_v GROUP BY r_g",
        ),
        case(
            "version_windows",
            "SELECT window_start, COUNT(*) AS n, SUM(j) AS s FROM TABLE(TUMBLE((SELECT e.ts, v.i AS j FROM e LEFT JOIN v FOR SYSTEM_TIME AS OF e.ts ON e.k = v.id), \
             DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end",
            of_e(always, true),
            "SELECT window_start, COUNT(*), SUM(r_i) FROM TABLE(TUMBLE(TABLE e_with_v, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end",
        ),
        case(
            "version_changing",
            "SELECT o.oid, o.i, v.id, v.i AS j FROM o JOIN v FOR SYSTEM_TIME AS OF o.ts ON o.k = v.id",
            of_o(false),
            "SELECT oid, i, r_id, r_i FROM o_with_v",
        ),
        case(
            "version_changing_left",
            "SELECT o.oid, o.k, o.ts, v.id FROM o LEFT JOIN v FOR SYSTEM_TIME AS OF o.ts ON o.k = v.id",
            of_o(true),
            "SELECT oid, k, ts, r_id FROM o_with_v",
        ),
    ]
}

fn windows() -> Vec<Case> {
    let rows = "(SELECT *, PROCTIME() AS p FROM e)";
    let case = |name: &str, sql: &str, closed: bool| {
        let batch = sql
            .replace("{rows}", "TABLE e_arrived")
            .replace("{p}", "arrived")
            .replace("{where}", if closed { "WHERE window_end <= now()" } else { "" });
        let emit = if closed { " EMIT ON WINDOW CLOSE" } else { "" };
        let name = format!("{name}_{}", if closed { "closed" } else { "changes" });
        Case::new(name, sql.replace("{rows}", rows).replace("{p}", "p").replace("{where}", "") + emit).helper(Helper::Arrived("e"), batch)
    };
    let grouped = |from: &str| {
        format!(
            "SELECT window_start, window_end, k, COUNT(*) AS n, SUM(i) AS s, MAX(g) AS m FROM TABLE({from}) {{where}} GROUP BY window_start, window_end, k"
        )
    };
    let mut cases = Vec::new();
    for closed in [false, true] {
        cases.extend([
            case("tumble", &grouped("TUMBLE({rows}, DESCRIPTOR({p}), INTERVAL '10' SECOND)"), closed),
            case("hop", &grouped("HOP({rows}, DESCRIPTOR({p}), INTERVAL '5' SECOND, INTERVAL '15' SECOND)"), closed),
            case("cumulate", &grouped("CUMULATE({rows}, DESCRIPTOR({p}), INTERVAL '5' SECOND, INTERVAL '20' SECOND)"), closed),
            case("session", &grouped("SESSION({rows} PARTITION BY k, DESCRIPTOR({p}), INTERVAL '6' SECOND)"), closed),
            case(
                "top",
                "SELECT window_end, k, i FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY i DESC, k, g, ts) AS n \
                 FROM TABLE(TUMBLE({rows}, DESCRIPTOR({p}), INTERVAL '10' SECOND)) {where}) AS x WHERE n <= 2",
                closed,
            ),
        ]);
    }
    cases
}
