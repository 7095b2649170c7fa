//! Cases over tables with a watermark: TUMBLE, HOP, CUMULATE and SESSION in every spelling, on change and on close, with late rows.

use super::case::{Case, Scenario};
use super::tables::{Domain, Kind, SECOND, TableSpec};
use super::windows::Windowing;

/// `bid` only grows; `orders` has a key, and its rows change.
pub fn tables() -> Vec<TableSpec> {
    let columns = |first| vec![first, ("k", Domain::Int), ("price", Domain::BigInt), ("g", Domain::Text), ("ts", Domain::EventTime)];
    vec![
        TableSpec {
            name: "bid",
            kind: Kind::AppendOnly,
            columns: columns(("auction", Domain::SmallInt)),
            watermark: Some((4, 5 * SECOND)),
        },
        TableSpec { name: "orders", kind: Kind::Keyed, columns: columns(("id", Domain::Id)), watermark: Some((4, 5 * SECOND)) },
    ]
}

pub fn scenario() -> Scenario {
    let mut cases = Vec::new();
    for table in ["bid", "orders"] {
        for (kind, size, slide, step, offset) in KINDS {
            for (emission, lateness, on_close) in
                [("changes", 0, false), ("close", 0, true), ("patient", 10, false), ("patient_close", 10, true)]
            {
                let window = Windowing {
                    table,
                    size: size * SECOND,
                    slide: slide * SECOND,
                    step: (step > 0).then_some(step * SECOND),
                    session: None,
                    sets: 1,
                    offset: offset * SECOND,
                    lateness: lateness * SECOND,
                    on_close,
                };
                let name = format!("{kind}_{emission}_{table}");
                let from = from(&window);
                let case =
                    Case::new(name, QUERY.replace("{from}", &from)).window(window, QUERY.replace("{from}", &format!("{table}_windowed")));
                let is_in_one_window = size == slide && step == 0;
                cases.push(if is_in_one_window && !on_close { case.counts_rows() } else { case });
            }
        }
        cases.extend(spellings(table));
        cases.extend(sessions(table));
    }
    Scenario { name: "windowed", tables: tables(), cases, epochs: 14, changes: 10, checkpoints: 0.3, kills: 0.2, backfills: 0.0 }
}

/// Name, size, slide, step of CUMULATE or 0, offset in seconds.
const KINDS: [(&str, i64, i64, i64, i64); 8] = [
    ("tumble", 10, 10, 0, 0),
    ("tumble_offset", 10, 10, 0, 3),
    ("hop", 10, 5, 0, 0),
    ("hop_uneven", 12, 5, 0, 0),
    ("hop_gaps", 4, 10, 0, 1),
    ("hop_offset", 20, 10, 0, -7),
    ("cumulate", 15, 15, 5, 0),
    ("cumulate_offset", 20, 20, 4, -3),
];

const QUERY: &str = "SELECT window_start, window_end, k, COUNT(*) AS n, SUM(price) AS s, MIN(price) AS a, MAX(g) AS b, COUNT(DISTINCT g) AS e \
                     FROM {from} GROUP BY window_start, window_end, k";

fn from(window: &Windowing) -> String {
    let interval = |micros: i64| format!("INTERVAL '{}' SECOND", micros / SECOND);
    let Windowing { table, size, slide, step, offset, .. } = *window;
    let offset = if offset == 0 { String::new() } else { format!(", {}", interval(offset)) };
    if let Some(step) = step {
        return format!("TABLE(CUMULATE(TABLE {table}, DESCRIPTOR(ts), {}, {}{offset}))", interval(step), interval(size));
    }
    match size == slide {
        true => format!("TABLE(TUMBLE(TABLE {table}, DESCRIPTOR(ts), {}{offset}))", interval(size)),
        false => format!("TABLE(HOP(TABLE {table}, DESCRIPTOR(ts), {}, {}{offset}))", interval(slide), interval(size)),
    }
}

fn spellings(table: &'static str) -> Vec<Case> {
    let tumble = |seconds: i64, on_close| Windowing {
        table,
        size: seconds * SECOND,
        slide: seconds * SECOND,
        step: None,
        session: None,
        sets: 1,
        offset: 0,
        lateness: 0,
        on_close,
    };
    let hop = |on_close| Windowing {
        table,
        size: 20 * SECOND,
        slide: 5 * SECOND,
        step: None,
        session: None,
        sets: 1,
        offset: 0,
        lateness: 0,
        on_close,
    };
    let cumulate = |on_close| Windowing {
        table,
        size: 20 * SECOND,
        slide: 20 * SECOND,
        step: Some(5 * SECOND),
        session: None,
        sets: 1,
        offset: 0,
        lateness: 0,
        on_close,
    };
    let rows = format!("{table}_windowed");
    let case = |name: &str, sql: &str, window: Windowing, batch: &str| {
        Case::new(format!("{name}_{table}"), sql.replace("{t}", table)).window(window, batch.replace("{w}", &rows))
    };
    let by_start = "SELECT window_start, COUNT(*), SUM(price) FROM {w} GROUP BY window_start";
    vec![
        case(
            "postgres_tumble",
            "SELECT window_start, COUNT(*) AS n, SUM(price) AS s FROM tumble({t}, ts, INTERVAL '10 seconds') GROUP BY window_start",
            tumble(10, false),
            by_start,
        ),
        case(
            "postgres_hop",
            "SELECT window_start, COUNT(*) AS n, SUM(price) AS s FROM hop({t}, ts, INTERVAL '5 seconds', INTERVAL '20 seconds') GROUP BY window_start",
            hop(false),
            by_start,
        ),
        case(
            "by_end",
            "SELECT window_end, COUNT(*) AS n FROM tumble({t}, ts, INTERVAL '10 seconds') GROUP BY window_end",
            tumble(10, true),
            "SELECT window_end, COUNT(*) FROM {w} GROUP BY window_end",
        ),
        case(
            "by_time",
            "SELECT window_time, k, COUNT(*) AS n FROM hop({t}, ts, INTERVAL '5 seconds', INTERVAL '20 seconds') GROUP BY window_time, k",
            hop(false),
            "SELECT window_time, k, COUNT(*) FROM {w} GROUP BY window_time, k",
        ),
        case(
            "group_tumble",
            "SELECT TUMBLE_START(ts, INTERVAL '10' SECOND) AS s, TUMBLE_END(ts, INTERVAL '10' SECOND) AS e, k, COUNT(*) AS n FROM {t} GROUP BY TUMBLE(ts, INTERVAL '10' SECOND), k",
            tumble(10, false),
            "SELECT window_start, window_end, k, COUNT(*) FROM {w} GROUP BY window_start, window_end, k",
        ),
        case(
            "group_hop",
            "SELECT HOP_START(ts, INTERVAL '5' SECOND, INTERVAL '20' SECOND) AS s, MAX(price) AS m FROM {t} GROUP BY HOP(ts, INTERVAL '5' SECOND, INTERVAL '20' SECOND)",
            hop(true),
            "SELECT window_start, MAX(price) FROM {w} GROUP BY window_start",
        ),
        case(
            "top_in_window",
            "SELECT window_start, window_end, k, price, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY price DESC, k) AS n FROM TABLE(TUMBLE(TABLE {t}, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS x WHERE n <= 2",
            tumble(10, false),
            "SELECT window_start, window_end, k, price, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY price DESC, k) AS n FROM {w}) AS x WHERE n <= 2",
        ),
        case(
            "top_in_closed_window",
            "SELECT window_end, k, price FROM (SELECT *, RANK() OVER (PARTITION BY window_start, window_end, k ORDER BY price) AS n FROM hop({t}, ts, INTERVAL '5 seconds', INTERVAL '20 seconds')) AS x WHERE n <= 2",
            hop(true),
            "SELECT window_end, k, price FROM (SELECT *, RANK() OVER (PARTITION BY window_start, window_end, k ORDER BY price) AS n FROM {w}) AS x WHERE n <= 2",
        ),
        case(
            "top_of_windows",
            "SELECT window_end, k, c, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY c DESC, k) AS n FROM (SELECT window_start, window_end, k, COUNT(*) AS c FROM cumulate({t}, ts, INTERVAL '5 seconds', INTERVAL '20 seconds') GROUP BY window_start, window_end, k) AS y) AS x WHERE n <= 2",
            cumulate(true),
            "SELECT window_end, k, c, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY c DESC, k) AS n FROM (SELECT window_start, window_end, k, COUNT(*) AS c FROM {w} GROUP BY window_start, window_end, k) AS y) AS x WHERE n <= 2",
        ),
        case(
            "top_of_changing_windows",
            "SELECT window_end, k, c FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY c DESC, k) AS n FROM (SELECT window_end, k, COUNT(*) AS c FROM tumble({t}, ts, INTERVAL '10 seconds') GROUP BY window_start, window_end, k) AS y) AS x WHERE n = 1",
            tumble(10, false),
            "SELECT window_end, k, c FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY c DESC, k) AS n FROM (SELECT window_end, k, COUNT(*) AS c FROM {w} GROUP BY window_start, window_end, k) AS y) AS x WHERE n = 1",
        ),
        case(
            "over_in_window",
            "SELECT window_end, k, price, SUM(price) OVER (PARTITION BY window_start, window_end ORDER BY price, k) AS s, COUNT(*) OVER (PARTITION BY window_start, window_end) AS n FROM tumble({t}, ts, INTERVAL '10 seconds')",
            tumble(10, false),
            "SELECT window_end, k, price, SUM(price) OVER (PARTITION BY window_start, window_end ORDER BY price, k) AS s, COUNT(*) OVER (PARTITION BY window_start, window_end) AS n FROM {w}",
        ),
        case(
            "over_in_closed_window",
            "SELECT window_end, k, price, LAG(price) OVER (PARTITION BY window_start, window_end, k ORDER BY price) AS l, LAST_VALUE(price) OVER (PARTITION BY window_start, window_end, k ORDER BY price ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS x FROM hop({t}, ts, INTERVAL '5 seconds', INTERVAL '20 seconds')",
            hop(true),
            "SELECT window_end, k, price, LAG(price) OVER (PARTITION BY window_start, window_end, k ORDER BY price) AS l, LAST_VALUE(price) OVER (PARTITION BY window_start, window_end, k ORDER BY price ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS x FROM {w}",
        ),
        case(
            "rollup_in_window",
            "SELECT window_start, window_end, k, COUNT(*) AS n, GROUPING(k) AS g FROM tumble({t}, ts, INTERVAL '10 seconds') GROUP BY window_start, window_end, ROLLUP (k)",
            Windowing { sets: 2, ..tumble(10, true) },
            "SELECT window_start, window_end, k, COUNT(*), GROUPING(k) FROM {w} GROUP BY window_start, window_end, ROLLUP (k)",
        ),
        case(
            "ordered_in_window",
            "SELECT window_end, k, ARRAY_AGG(price ORDER BY price DESC) AS a, STRING_AGG(g, ',' ORDER BY g) AS b, FIRST_VALUE(g ORDER BY price, g) AS c, STDDEV(price) IS NULL AS e FROM hop({t}, ts, INTERVAL '5 seconds', INTERVAL '20 seconds') GROUP BY window_end, k",
            hop(false),
            "SELECT window_end, k, ARRAY_AGG(price ORDER BY price DESC), STRING_AGG(g, ',' ORDER BY g), FIRST_VALUE(g ORDER BY price, g), STDDEV(price) IS NULL FROM {w} GROUP BY window_end, k",
        ),
        case(
            "ordered_in_closed_window",
            "SELECT window_end, LAST_VALUE(price ORDER BY ts, price) AS l, ARRAY_AGG(k ORDER BY k) AS a FROM tumble({t}, ts, INTERVAL '10 seconds') GROUP BY window_end",
            tumble(10, true),
            "SELECT window_end, FIRST_VALUE(price ORDER BY ts DESC NULLS FIRST, price DESC NULLS FIRST), ARRAY_AGG(k ORDER BY k) FROM {w} GROUP BY window_end",
        ),
        case(
            "by_event_time",
            "SELECT window_end, LAST_VALUE(price) AS l, FIRST_VALUE(k) AS f FROM tumble({t}, ts, INTERVAL '10 seconds') GROUP BY window_end",
            tumble(10, true),
            "SELECT window_end, FIRST_VALUE(price ORDER BY ts DESC NULLS FIRST, price DESC NULLS LAST), FIRST_VALUE(k ORDER BY ts, k NULLS FIRST) FROM {w} GROUP BY window_end",
        ),
        case(
            "postgres_cumulate",
            "SELECT window_end, k, COUNT(*) AS n FROM cumulate({t}, ts, INTERVAL '5 seconds', INTERVAL '20 seconds') GROUP BY window_end, k",
            cumulate(true),
            "SELECT window_end, k, COUNT(*) FROM {w} GROUP BY window_end, k",
        ),
        case(
            "named_cumulate",
            "SELECT window_start, window_time, k, COUNT(*) AS n FROM TABLE(CUMULATE(DATA => TABLE {t}, TIMECOL => DESCRIPTOR(ts), STEP => INTERVAL '5' SECOND, SIZE => INTERVAL '20' SECOND, `OFFSET` => INTERVAL '0' SECOND)) GROUP BY window_start, window_time, k",
            cumulate(false),
            "SELECT window_start, window_time, k, COUNT(*) FROM {w} GROUP BY window_start, window_time, k",
        ),
        case(
            "named_hop",
            "SELECT window_start, MAX(g) AS m FROM TABLE(HOP(DATA => TABLE {t}, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '5' SECOND, SIZE => INTERVAL '20' SECOND)) GROUP BY window_start",
            hop(false),
            "SELECT window_start, MAX(g) FROM {w} GROUP BY window_start",
        ),
        case(
            "window_over_window",
            "SELECT window_start, window_end, k, SUM(n) AS n, COUNT(*) AS c FROM TABLE(TUMBLE((SELECT window_time AS at, k, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE {t}, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, window_time, k), DESCRIPTOR(at), INTERVAL '30' SECOND)) GROUP BY window_start, window_end, k",
            tumble(10, false),
            "SELECT window_start, window_end, k, SUM(n), COUNT(*) FROM TABLE(TUMBLE((SELECT window_time AS at, k, COUNT(*) AS n FROM {w} GROUP BY window_start, window_end, window_time, k), DESCRIPTOR(at), INTERVAL '30' SECOND)) GROUP BY window_start, window_end, k",
        ),
        case(
            "distinct_in_window",
            "SELECT DISTINCT window_start, window_end, g FROM tumble({t}, ts, INTERVAL '10 seconds')",
            tumble(10, false),
            "SELECT DISTINCT window_start, window_end, g FROM {w}",
        ),
        case(
            "having_in_window",
            "SELECT window_start, window_end, COUNT(*) AS n FROM tumble({t}, ts, INTERVAL '10 seconds') GROUP BY window_start, window_end HAVING COUNT(*) > 2",
            tumble(10, false),
            "SELECT window_start, window_end, COUNT(*) FROM {w} GROUP BY window_start, window_end HAVING COUNT(*) > 2",
        ),
        case(
            "empty_group_columns",
            "SELECT COUNT(*) AS n, MAX(window_end) AS e FROM (SELECT window_start, window_end, COUNT(*) AS c FROM tumble({t}, ts, INTERVAL '10 seconds') GROUP BY window_start, window_end) AS x",
            tumble(10, false),
            "SELECT COUNT(*), MAX(window_end) FROM (SELECT window_start, window_end, COUNT(*) AS c FROM {w} GROUP BY window_start, window_end) AS x",
        ),
    ]
}

/// Sessions with a gap of 4 seconds, by `k` (column 1) or over all rows.
fn sessions(table: &'static str) -> Vec<Case> {
    let session = |partition: Option<usize>, lateness: i64, on_close| Windowing {
        table,
        size: SECOND,
        slide: SECOND,
        step: None,
        session: Some((4 * SECOND, partition)),
        sets: 1,
        offset: 0,
        lateness: lateness * SECOND,
        on_close,
    };
    let rows = format!("{table}_windowed");
    let case = |name: &str, sql: &str, window: Windowing, batch: &str| {
        Case::new(format!("session_{name}_{table}"), sql.replace("{t}", table)).window(window, batch.replace("{w}", &rows))
    };
    let by_key = Some(1);
    let tvf = "TABLE(SESSION(TABLE {t} PARTITION BY k, DESCRIPTOR(ts), INTERVAL '4' SECOND))";
    let grouped = |from: &str| {
        format!(
            "SELECT window_start, window_end, k, COUNT(*) AS n, SUM(price) AS s, MAX(g) AS m FROM {from} GROUP BY window_start, window_end, k"
        )
    };
    let mut cases = Vec::new();
    for (name, lateness, on_close) in [("changes", 0, false), ("close", 0, true), ("patient", 10, false), ("patient_close", 10, true)] {
        cases.push(case(name, &grouped(tvf), session(by_key, lateness, on_close), &grouped("{w}")));
    }
    let rows_of = |from: &str| format!("SELECT k, price, ts, window_start, window_end, window_time FROM {from}");
    let group_window = "SELECT k, SESSION_START(ts, INTERVAL '4' SECOND) AS s, SESSION_END(ts, INTERVAL '4' SECOND) AS e, COUNT(*) AS n FROM {t} GROUP BY SESSION(ts, INTERVAL '4' SECOND), k";
    let by_group = "SELECT k, window_start, window_end, COUNT(*) FROM {w} GROUP BY window_start, window_end, k";
    cases.extend([
        case("rows", &rows_of(tvf), session(by_key, 0, false), &rows_of("{w}")),
        case("rows_of_all", &rows_of("session({t}, ts, INTERVAL '4 seconds')"), session(None, 0, false), &rows_of("{w}")),
        case("group", group_window, session(by_key, 0, false), by_group),
        case("group_closed", group_window, session(by_key, 0, true), by_group),
        case(
            "named",
            "SELECT window_end, COUNT(*) AS n FROM TABLE(SESSION(DATA => TABLE {t} PARTITION BY k, TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '4' SECOND)) GROUP BY window_start, window_end",
            session(by_key, 0, true),
            "SELECT window_end, COUNT(*) FROM {w} GROUP BY window_start, window_end",
        ),
        case(
            "without_partition",
            "SELECT window_start, window_end, COUNT(*) AS n, MIN(price) AS m FROM session({t}, ts, INTERVAL '4 seconds') GROUP BY window_start, window_end",
            session(None, 0, false),
            "SELECT window_start, window_end, COUNT(*), MIN(price) FROM {w} GROUP BY window_start, window_end",
        ),
        case(
            "top",
            "SELECT window_end, k, price FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY price DESC) AS n FROM session({t} PARTITION BY k, ts, INTERVAL '4 seconds')) AS x WHERE n = 1",
            session(by_key, 0, false),
            "SELECT window_end, k, price FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY price DESC) AS n FROM {w}) AS x WHERE n = 1",
        ),
        case(
            "of_one_key",
            "SELECT window_start, window_end, k, COUNT(*) AS n FROM session({t} PARTITION BY k, ts, INTERVAL '4 seconds') WHERE price > 0 GROUP BY window_start, window_end, k",
            session(by_key, 0, false),
            "SELECT window_start, window_end, k, COUNT(*) FROM {w} WHERE price > 0 GROUP BY window_start, window_end, k",
        ),
    ]);
    cases
}
