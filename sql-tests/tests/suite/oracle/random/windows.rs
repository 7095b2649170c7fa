//! Windows over event time of every kind and of random sizes, with what can be done with them, over rows of which some are late; and joins on intervals. What a window takes
//! in is found by `windows`, so the truth is the same query over rows that have their windows already.

use super::super::case::Case;
use super::super::tables::SECOND;
use super::super::windows::Windowing;
use super::{Columns, Queries, Type};
use rand::Rng;

const COLUMNS: [(&str, Type); 3] = [("k", Type::Int), ("price", Type::Int), ("g", Type::Text)];
/// All columns of a row that is in a window.
const ALL: &str = "window_start, window_end, {first}, k, price, g, ts";

/// A table's first column, the key of one whose rows change.
fn first_column(table: &str) -> &'static str {
    if table == "bid" { "auction" } else { "id" }
}

fn columns() -> Columns {
    COLUMNS.iter().map(|(name, ty)| (name.to_string(), *ty)).collect()
}

fn interval(micros: i64) -> String {
    format!("INTERVAL '{}' SECOND", micros / SECOND)
}

impl Queries {
    /// A query over windows, or over an interval.
    pub(super) fn windowed(&mut self, name: String) -> Case {
        let table = self.one_of(&["bid", "orders"]);
        if self.chance(0.2) {
            return self.interval_join(name, table);
        }
        let (window, from) = self.window(table);
        let (sql, sets, batch) = match self.random.random_range(0..6) {
            0 | 1 => self.window_groups(window.on_close),
            2 => self.window_sets(),
            3 => self.window_top(),
            4 => self.window_over(),
            _ => self.groups_of_windows(),
        };
        // A query over closed windows alone would have to take windows as they close.
        let window = Windowing { sets, on_close: window.on_close && batch.is_none(), ..window };
        let rows = format!("{table}_windowed");
        let [sql, batch] = [sql.clone(), batch.unwrap_or(sql)].map(|sql| sql.replace("{first}", first_column(table)));
        Case::new(name, sql.replace("{w}", &from)).window(window, batch.replace("{w}", &rows))
    }

    fn seconds(&mut self, range: std::ops::RangeInclusive<i64>) -> i64 {
        self.random.random_range(range) * SECOND
    }

    fn window(&mut self, table: &'static str) -> (Windowing, String) {
        let lateness = if self.chance(0.4) { self.seconds(1..=12) } else { 0 };
        let size = self.seconds(2..=20);
        let offset = if self.chance(0.4) { self.seconds(-7..=7) } else { 0 };
        let on_close = self.chance(0.4);
        let plain = Windowing { table, size, slide: size, step: None, session: None, sets: 1, offset, lateness, on_close };
        let shown = if offset == 0 { String::new() } else { format!(", {}", interval(offset)) };
        match self.random.random_range(0..4) {
            0 => (plain, format!("TABLE(TUMBLE(TABLE {table}, DESCRIPTOR(ts), {}{shown}))", interval(size))),
            1 => {
                let slide = self.seconds(1..=15).max(size / 6 / SECOND * SECOND).max(SECOND);
                let from = format!("TABLE(HOP(TABLE {table}, DESCRIPTOR(ts), {}, {}{shown}))", interval(slide), interval(size));
                (Windowing { slide, ..plain }, from)
            }
            2 => {
                let step = self.seconds(1..=6);
                let size = step * self.random.random_range(1..=4);
                let from = format!("TABLE(CUMULATE(TABLE {table}, DESCRIPTOR(ts), {}, {}{shown}))", interval(step), interval(size));
                (Windowing { size, slide: size, step: Some(step), ..plain }, from)
            }
            _ => {
                let gap = self.seconds(1..=8);
                let by_key = self.chance(0.6);
                let partition = if by_key { " PARTITION BY k" } else { "" };
                let session = Some((gap, by_key.then_some(1)));
                let from = format!("TABLE(SESSION(TABLE {table}{partition}, DESCRIPTOR(ts), {}))", interval(gap));
                (Windowing { size: SECOND, slide: SECOND, offset: 0, session, ..plain }, from)
            }
        }
    }

    fn calls(&mut self) -> String {
        let calls: Vec<String> =
            (0..self.random.random_range(1..=3)).map(|i| format!("{} AS a{i}", self.aggregate(&columns()).0)).collect();
        calls.join(", ")
    }

    fn window_groups(&mut self, on_close: bool) -> (String, i64, Option<String>) {
        let keys = self.one_of(&["", ", k", ", g", ", k, g"]);
        let windows = if on_close || self.chance(0.7) { "window_start, window_end" } else { "window_end" };
        let having = if self.chance(0.3) { " HAVING COUNT(*) > 1" } else { "" };
        let calls = self.calls();
        (format!("SELECT {windows}{keys}, {calls} FROM {{w}} GROUP BY {windows}{keys}{having}"), 1, None)
    }

    fn window_sets(&mut self) -> (String, i64, Option<String>) {
        let (sets, count) = self.one_of(&[("ROLLUP (k)", 2), ("CUBE (k, g)", 4), ("GROUPING SETS ((k), (g))", 2)]);
        let shown = if sets.contains('g') { "k, g" } else { "k" };
        let calls = self.calls();
        let windows = "window_start, window_end";
        (format!("SELECT {windows}, {shown}, {calls}, GROUPING(k) AS of_all FROM {{w}} GROUP BY {windows}, {sets}"), count, None)
    }

    fn window_top(&mut self) -> (String, i64, Option<String>) {
        let key = self.one_of(&["", ", k", ", g"]);
        let rank = self.one_of(&["ROW_NUMBER", "RANK", "DENSE_RANK"]);
        let order = self.one_of(&["price DESC, k, g, ts", "ts, price, k, g", "k, g DESC, ts, price"]);
        let most = self.random.random_range(1..=3);
        let inner = format!("SELECT {ALL}, {rank}() OVER (PARTITION BY window_start, window_end{key} ORDER BY {order}) AS n FROM {{w}}");
        (format!("SELECT {ALL} FROM ({inner}) AS x WHERE n <= {most}"), 1, None)
    }

    fn window_over(&mut self) -> (String, i64, Option<String>) {
        let key = self.one_of(&["", ", k"]);
        let frame = self.one_of(&["", " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", " ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING"]);
        let order = "price, k, g, ts";
        let over = format!("OVER (PARTITION BY window_start, window_end{key} ORDER BY {order}{frame})");
        let call = self.one_of(&["COUNT(*)", "MIN(g)", "MAX(price)", "LAST_VALUE(price)"]);
        let lag = format!("LAG(price, 2) OVER (PARTITION BY window_start, window_end{key} ORDER BY {order})");
        (format!("SELECT {ALL}, {call} {over} AS x, {lag} AS y FROM {{w}}"), 1, None)
    }

    /// An aggregate over windows that are still open.
    fn groups_of_windows(&mut self) -> (String, i64, Option<String>) {
        let inner = "SELECT window_start, window_end, k, COUNT(*) AS n FROM {w} GROUP BY window_start, window_end, k";
        let sql = match self.random.random_range(0..3) {
            0 => format!("SELECT k, COUNT(*) AS windows, MAX(n) AS most FROM ({inner}) AS x GROUP BY k"),
            1 => format!("SELECT n, COUNT(*) AS windows, MIN(window_start) AS first FROM ({inner}) AS x WHERE n > 1 GROUP BY n"),
            _ => format!("SELECT window_end, MAX(n) AS most, COUNT(DISTINCT k) AS keys FROM ({inner}) AS x GROUP BY window_end"),
        };
        (sql.clone(), 1, Some(sql))
    }

    /// A row is late when it is behind the watermark: as if it were in a window of its own moment.
    fn interval_join(&mut self, name: String, table: &'static str) -> Case {
        let window = Windowing { table, size: 1, slide: 1, step: None, session: None, sets: 1, offset: 0, lateness: 0, on_close: false };
        let from = self.seconds(-8..=3);
        // Equal bounds are an equality, and the join has no end then.
        let to = from + self.seconds(1..=10);
        let bound = |micros: i64| {
            let sign = if micros < 0 { '-' } else { '+' };
            format!("a.ts {sign} {}", interval(micros.abs()))
        };
        let between = match self.chance(0.5) {
            true => format!("b.ts BETWEEN {} AND {}", bound(from), bound(to)),
            false => format!("b.ts > {} AND b.ts <= {}", bound(from), bound(to + SECOND)),
        };
        let key = self.one_of(&["k", "g"]);
        let residual = self.one_of(&["", " AND a.price < b.price", " AND (a.k IS NOT DISTINCT FROM b.k)"]);
        let (kind, filter) =
            self.one_of(&[("JOIN", ""), ("LEFT JOIN", " WHERE a.ts IS NOT NULL"), ("RIGHT JOIN", " WHERE b.ts IS NOT NULL")]);
        let condition = format!("(a.{key} IS NOT DISTINCT FROM b.{key}) AND {between}{residual}");
        let first = first_column(table);
        let columns = format!("a.{first}, b.{first} AS other, a.k, a.price, a.ts, b.g, b.price AS p, b.ts AS t");
        let sql = format!("SELECT {columns} FROM {{t}} AS a {kind} {{t}} AS b ON {condition}{filter}");
        let batch = sql.replace("{t}", &format!("{table}_windowed"));
        Case::new(name, sql.replace("{t}", table)).window(window, batch).read_twice().takes_no_time()
    }
}
