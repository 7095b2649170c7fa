//! Two tables after each of some random transactions, and views over them by batch.

use super::super::batch::context;
use super::super::catalog::OracleCatalog;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use datafusion::prelude::SessionContext;
use eddyline_common::types::arrow_schema;
use eddyline_planner::{Catalog, oracle_plan};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Rows as texts, and how often each is there.
pub type Rows = BTreeMap<Vec<String>, i64>;

/// As COPY has it.
pub const NULL: &str = "\\N";

/// `t` changes, `e` only grows.
pub const TABLES: [(&str, &str); 2] = [
    ("t", "CREATE TABLE t (id BIGINT PRIMARY KEY, k BIGINT, i BIGINT, g TEXT)"),
    ("e", "CREATE TABLE e (n BIGINT, k BIGINT, v BIGINT) APPEND ONLY"),
];

pub const VIEWS: [(&str, &str); 5] = [
    ("sums", "SELECT k, COUNT(*) AS n, SUM(i) AS s FROM t GROUP BY k"),
    ("pairs", "SELECT t.id, t.g, t.i, e.n FROM t LEFT JOIN e ON t.k = e.k AND e.v > 3"),
    ("best", "SELECT id, i, g FROM t ORDER BY i DESC, id LIMIT 5"),
    ("bag", "SELECT k, g, i % 3 AS r, CASE WHEN id = 0 THEN i END AS mark FROM t"),
    ("grown", "SELECT n, v * 2 AS w FROM e WHERE v >= 0"),
];

/// The number of the newest transaction that a content shows: row 0 of `t` bears it, and the newest row of `e` ten times it.
pub fn number_in(name: &str, content: &Rows) -> Option<i64> {
    let number = |cell: &String| cell.parse::<i64>().ok();
    let marked = |key: &str, place: usize| content.keys().find(|row| row[0] == key).and_then(|row| number(&row[place]));
    match name {
        "t" | "pairs" => marked("0", 2),
        "sums" => marked("-1", 2),
        "best" => marked("0", 1),
        "bag" => content.keys().find_map(|row| number(&row[3])),
        _ => content.keys().filter_map(|row| number(&row[0])).max().map(|n| n / 10),
    }
}

/// The first transaction's number: above every other value.
const FIRST: i64 = 1_000;

#[derive(Clone, Debug, Default)]
pub struct State {
    t: BTreeMap<i64, (i64, i64, Option<&'static str>)>,
    e: Vec<(i64, i64, i64)>,
}

pub struct Model {
    random: StdRng,
    /// After the transactions before `FIRST` (none), `FIRST`, and so on.
    states: Vec<State>,
    /// After the transaction that is under way.
    pending: Option<State>,
}

impl Model {
    pub fn new(seed: u64) -> Self {
        Model { random: StdRng::seed_from_u64(seed), states: vec![State::default()], pending: None }
    }

    /// The number of the newest transaction.
    pub fn number(&self) -> i64 {
        FIRST + self.states.len() as i64 - 2
    }

    pub fn state(&self, number: i64) -> &State {
        let at = usize::try_from(number - FIRST + 1).unwrap_or(usize::MAX);
        self.states.get(at).unwrap_or_else(|| panic!("there was no transaction {number}"))
    }

    /// The next transaction's text.
    pub fn begin(&mut self) -> String {
        let number = self.number() + 1;
        let mut state = self.states.last().cloned().expect("there is a first state");
        let mut text = "BEGIN; ".to_string();
        for _ in 0..self.random.random_range(1..=4) {
            text += &(self.change(&mut state) + "; ");
        }
        state.t.insert(0, (-1, number, Some("mark")));
        text +=
            &format!("INSERT INTO t VALUES (0, -1, {number}, 'mark') ON CONFLICT (id) DO UPDATE SET i = excluded.i; INSERT INTO e VALUES ");
        for j in 0..self.random.random_range(1..=3) {
            let (n, k) = (number * 10 + j, self.random.random_range(0..8));
            let v = self.random.random_range(if j == 0 { 0..9 } else { -3..9 });
            state.e.push((n, k, v));
            text += &format!("{}({n}, {k}, {v})", if j == 0 { "" } else { ", " });
        }
        self.pending = Some(state);
        text + "; COMMIT"
    }

    fn change(&mut self, state: &mut State) -> String {
        let random = &mut self.random;
        let (id, k) = (random.random_range(1..=30), random.random_range(0..8));
        match random.random_range(0..100) {
            0..55 => {
                let (i, g) =
                    (random.random_range(-50..=50), *[None, Some(""), Some("a"), Some("b c")].choose(random).expect("one of four"));
                state.t.insert(id, (k, i, g));
                let g = g.map_or("NULL".to_string(), |g| format!("'{g}'"));
                format!(
                    "INSERT INTO t VALUES ({id}, {k}, {i}, {g}) ON CONFLICT (id) DO UPDATE SET k = excluded.k, i = excluded.i, g = excluded.g"
                )
            }
            55..75 => {
                state.t.remove(&id);
                format!("DELETE FROM t WHERE id = {id}")
            }
            75..88 => {
                state.t.values_mut().filter(|row| row.0 == k).for_each(|row| row.1 += 1);
                format!("UPDATE t SET i = i + 1 WHERE k = {k}")
            }
            88..97 => {
                state.t.iter_mut().filter(|(id, _)| **id > 0 && **id % 5 == k % 5).for_each(|(_, row)| row.0 = k);
                format!("UPDATE t SET k = {k} WHERE id % 5 = {} AND id > 0", k % 5)
            }
            _ => {
                state.t.retain(|id, _| *id == 0);
                "DELETE FROM t WHERE id > 0".to_string()
            }
        }
    }

    pub fn committed(&mut self) {
        self.states.extend(self.pending.take());
    }

    /// What became of the transaction under way: the tables are at this number.
    pub fn settle(&mut self, newest: i64) {
        let pending = self.pending.take();
        if newest == self.number() + 1 {
            self.states.extend(pending);
        }
        assert_eq!(newest, self.number(), "what was acknowledged is there, and nothing else");
    }
}

/// Views over states, each computed once.
pub struct Batches {
    catalog: OracleCatalog,
    context: SessionContext,
    known: HashMap<(String, i64), Arc<Rows>>,
}

impl Batches {
    pub fn new() -> Self {
        let mut catalog = OracleCatalog::without(Vec::new());
        let views = VIEWS.iter().map(|(name, sql)| format!("CREATE MATERIALIZED VIEW {name} AS {sql}"));
        for sql in TABLES.iter().map(|(_, sql)| sql.to_string()).chain(views) {
            catalog.create(&sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        Batches { catalog, context: context(), known: HashMap::new() }
    }

    /// A table's or view's rows after the transaction of this number.
    pub async fn rows(&mut self, name: &str, number: i64, state: &State) -> Arc<Rows> {
        if let Some(known) = self.known.get(&(name.to_string(), number)) {
            return known.clone();
        }
        self.fill(state);
        let relation = self.catalog.relation(None, name).expect("a relation of the model");
        let batches = if TABLES.iter().any(|(table, _)| *table == name) {
            vec![self.table(name, state)]
        } else {
            let plan = oracle_plan(&relation, &self.catalog).unwrap_or_else(|e| panic!("{name}: {e}"));
            let run = async { self.context.execute_logical_plan(plan).await?.collect().await };
            run.await.unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        let mut rows = Rows::new();
        for batch in batches {
            for row in 0..batch.num_rows() {
                let cell = |column: &ArrayRef| match column.is_null(row) {
                    true => NULL.to_string(),
                    false => array_value_to_string(column, row).expect("a value has a text"),
                };
                *rows.entry(batch.columns().iter().map(cell).collect()).or_default() += 1;
            }
        }
        let rows = Arc::new(rows);
        self.known.insert((name.to_string(), number), rows.clone());
        rows
    }

    fn fill(&self, state: &State) {
        for (name, _) in TABLES {
            self.catalog.set_content(name, self.table(name, state));
        }
    }

    fn table(&self, name: &str, state: &State) -> RecordBatch {
        let numbers = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let columns = match name {
            "t" => vec![
                numbers(state.t.keys().copied().collect()),
                numbers(state.t.values().map(|row| row.0).collect()),
                numbers(state.t.values().map(|row| row.1).collect()),
                Arc::new(StringArray::from_iter(state.t.values().map(|row| row.2))),
            ],
            _ => vec![
                numbers(state.e.iter().map(|row| row.0).collect()),
                numbers(state.e.iter().map(|row| row.1).collect()),
                numbers(state.e.iter().map(|row| row.2).collect()),
            ],
        };
        let relation = self.catalog.relation(None, name).expect("a table of the model");
        RecordBatch::try_new(arrow_schema(&relation.columns), columns).expect("rows of the table")
    }
}
