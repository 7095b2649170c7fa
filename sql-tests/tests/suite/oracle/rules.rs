//! Each rule of the optimiser off by itself, for TPC-H's and Nexmark's queries: whatever a plan loses without a rule, its view is the same at every epoch. What
//! the views with all rules are is held against batch elsewhere (`tpch`, `nexmark`). A query whose plan is the same without a rule is not run for it.
//! Nexmark's q13, whose rows depend on when a table was looked up, is left out.

use super::catalog::OracleCatalog;
use super::compare::difference;
use super::process::{Mode, Process, Store};
use super::run::content;
use super::tables::{SECOND, START};
use crate::suite::scripts::statements;
use crate::suite::tpch::query;
use arrow::array::{AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, max, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use eddyline_common::connector::{BatchSink, SourceBatch, SourceSpec};
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Epoch, Result, SqlState, TaggedBatch, Timestamp};
use eddyline_executor::{SideRows, StateBackend, Step, StepInput};
use eddyline_planner::RULES;
use eddyline_planner::catalog::{Relation, RelationKind};
use eddyline_sql_tests::tpch::{self, Data, QUERIES};
use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use tempfile::TempDir;

const EPOCHS: usize = 3;
const MODE: Mode = Mode { workers: 2, backend: StateBackend::Memory };
/// Without the first one, relations that no condition connects to the one before are refused; without the second, what keeps the time of arrival.
const MAY_BE_NEEDED: [&str; 2] = ["enable_join_reordering", "enable_projection_pushdown"];

const TPCH_SCALE: f64 = 0.002;
/// A table of fewer rows is all there from the first epoch on.
const CHANGED_ROWS: usize = 100;

const EVENTS: usize = 2_500;
/// All of them take a minute and a quarter.
const EVENT_GAP_NANOS: u64 = 30_000_000;
/// What `nexmark/tables.sql` says.
const WATERMARK_DELAY: i64 = 4 * SECOND;

/// A relation and what each epoch takes of its rows.
struct Input {
    relation: Arc<Relation>,
    rows: RecordBatch,
    /// Places of rows and their weights.
    changes: Vec<Vec<(u32, i64)>>,
    /// Before the first epoch and after each.
    watermarks: Vec<Timestamp>,
}

impl Input {
    fn step(&self, at: usize, now: Timestamp) -> StepInput {
        let (places, weights): (Vec<u32>, Vec<i64>) = self.changes[at].iter().copied().unzip();
        let rows = take_record_batch(&self.rows, &UInt32Array::from(places)).unwrap();
        let changes = ChangeBatch::with_weights(rows, Int64Array::from(weights));
        let mut batches = vec![TaggedBatch { changes, arrival_watermark: self.watermarks[at], now }];
        batches.retain(|batch| !batch.changes.is_empty());
        StepInput { relation: self.relation.id, batches, watermark: self.watermarks[at + 1] }
    }
}

/// A catalog without some rules, with the tables and a view. The same definitions have the same ids in each.
fn planned(tables: &[String], rules: Vec<&'static str>, sql: &str) -> Result<(OracleCatalog, Arc<Relation>)> {
    let mut catalog = OracleCatalog::without(rules);
    for table in tables {
        catalog.create(table).unwrap_or_else(|e| panic!("{table}: {e:?}"));
    }
    let view = catalog.create(sql)?;
    Ok((catalog, view))
}

/// What a view holds at each epoch.
fn contents(catalog: &OracleCatalog, view: &Arc<Relation>, inputs: &[Input]) -> Vec<RecordBatch> {
    let dir = TempDir::new().unwrap();
    let mut process = Process::start(MODE, Store::Memory, dir.path(), None);
    process.create(view, &|id| catalog.get(id).clone(), None);
    let read = process.jobs[&view.id].inputs.clone();
    let mut contents = Vec::new();
    for at in 0..EPOCHS {
        let (epoch, now) = (Epoch(at as u64 + 1), Timestamp(START + at as i64 * SECOND));
        let inputs = inputs.iter().filter(|input| read.contains(&input.relation.id)).map(|input| input.step(at, now)).collect();
        process.engine.step(Step { job: view.id, epoch, now, inputs });
        let done = process.next_step();
        let rows = |side: &[SideRows]| side.iter().map(|s| s.changes.num_rows()).sum::<usize>();
        assert_eq!((done.epoch, rows(&done.late), rows(&done.rejected)), (epoch, 0, 0), "epoch, late and rejected rows of {}", view.sql);
        contents.push(content(&process.jobs[&view.id], epoch));
    }
    contents
}

/// Runs every query with all rules and without each of those that its plan needs; without some it may be refused. Gives these rules, and how many queries found something.
fn verify(tables: &[String], inputs: &[Input], queries: &[String], needed: &[&str]) -> (BTreeSet<&'static str>, usize) {
    let (mut rules, mut filled) = (BTreeSet::new(), 0);
    for sql in queries {
        let (catalog, view) = planned(tables, Vec::new(), sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let expected = contents(&catalog, &view, inputs);
        filled += usize::from(expected.iter().any(|rows| rows.num_rows() > 0));
        for rule in RULES {
            let (catalog, other) = match planned(tables, vec![rule], sql) {
                Ok(planned) => planned,
                Err(error) if needed.contains(&rule) && error.state == SqlState::FEATURE_NOT_SUPPORTED => continue,
                Err(error) => panic!("without {rule}: {error:?}\n{sql}"),
            };
            if other.plan() == view.plan() {
                continue;
            }
            rules.insert(rule);
            for (epoch, (expected, actual)) in expected.iter().zip(contents(&catalog, &other, inputs)).enumerate() {
                if let Some(difference) = difference(expected, &actual, true) {
                    panic!("without {rule}, at epoch {}: {difference}\n{sql}", epoch + 1);
                }
            }
        }
    }
    (rules, filled)
}

/// Rows come, go, and come again.
fn changes(rows: usize) -> Vec<Vec<(u32, i64)>> {
    let all = 0..rows as u32;
    if rows < CHANGED_ROWS {
        return vec![all.map(|row| (row, 1)).collect(), Vec::new(), Vec::new()];
    }
    let first = |row: &u32| row % 5 != 0;
    let gone = all.clone().filter(|row| first(row) && row % 7 == 1).map(|row| (row, -1));
    vec![
        all.clone().filter(first).map(|row| (row, 1)).collect(),
        all.clone().filter(|row| !first(row)).map(|row| (row, 1)).chain(gone).collect(),
        all.filter(|row| first(row) && row % 14 == 1).map(|row| (row, 1)).collect(),
    ]
}

/// TPC-H's rows. A table has the id of its place among the definitions.
fn tpch_inputs(tables: &[String]) -> Vec<Input> {
    let mut catalog = OracleCatalog::without(Vec::new());
    let relations = tables.iter().map(|table| catalog.create(table).unwrap_or_else(|e| panic!("{table}: {e:?}")));
    let relations: Vec<Arc<Relation>> = relations.collect();
    let all = Data::new(TPCH_SCALE).initial();
    let input = |relation: Arc<Relation>| {
        let schema = arrow_schema(&relation.columns);
        let text: String = all.iter().filter(|rows| rows.table == relation.name).map(|rows| rows.text()).collect();
        let reader = arrow::csv::ReaderBuilder::new(schema.clone()).with_delimiter(b'\t').build(text.as_bytes()).unwrap();
        let batches: Vec<RecordBatch> = reader.collect::<std::result::Result<_, _>>().unwrap();
        let rows = concat_batches(&schema, &batches).unwrap();
        Input { changes: changes(rows.num_rows()), relation, rows, watermarks: vec![Timestamp::MIN; EPOCHS + 1] }
    };
    relations.into_iter().map(input).collect()
}

#[test]
fn tpch_without_each_rule() {
    let tables = tpch::tables();
    let queries: Vec<String> = QUERIES.map(|number| format!("CREATE MATERIALIZED VIEW q{number} AS {}", query(number))).collect();
    let (rules, filled) = verify(&tables, &tpch_inputs(&tables), &queries, &MAY_BE_NEEDED);
    let idle: Vec<&str> = RULES.into_iter().filter(|rule| !MAY_BE_NEEDED.contains(rule) && !rules.contains(rule)).collect();
    assert!(idle.is_empty(), "no query's plan is another one without {idle:?}");
    assert!(filled >= 14, "{filled} of the queries found something: the others tell nothing");
}

/// Joins by IS NOT DISTINCT FROM alone have their keys without any rule.
#[test]
fn null_equal_keys_without_each_rule() {
    let tables = tpch::tables();
    let queries = [
        "SELECT o_orderkey, c_name FROM orders JOIN customer ON o_custkey IS NOT DISTINCT FROM c_custkey",
        "SELECT o_orderkey, c_name FROM orders, customer WHERE o_custkey IS NOT DISTINCT FROM c_custkey AND o_totalprice > c_acctbal",
        "SELECT o_orderkey, n_name FROM orders JOIN customer ON o_custkey IS NOT DISTINCT FROM c_custkey JOIN nation ON n_nationkey = c_nationkey",
        "SELECT c_name, n_name, r_name FROM customer JOIN nation ON c_nationkey = n_nationkey JOIN region ON n_regionkey IS NOT DISTINCT FROM r_regionkey",
    ];
    let queries: Vec<String> = queries.iter().enumerate().map(|(at, query)| format!("CREATE MATERIALIZED VIEW v{at} AS {query}")).collect();
    let (_, filled) = verify(&tables, &tpch_inputs(&tables), &queries, &[]);
    assert_eq!(filled, queries.len(), "every query finds something");
}

/// What the generator's reader gives, until it has ended.
struct Events(mpsc::Sender<std::result::Result<SourceBatch, String>>);

impl BatchSink for Events {
    fn push(&self, batch: SourceBatch) -> bool {
        self.0.send(Ok(batch)).is_ok()
    }

    fn report(&self, problem: Option<String>) {
        if let Some(problem) = problem {
            let _ = self.0.send(Err(problem));
        }
    }

    fn is_closed(&self) -> bool {
        false
    }
}

fn generated(spec: &SourceSpec) -> Vec<RecordBatch> {
    let connector = eddyline_connectors::open(spec).unwrap();
    let ranges = connector.present().unwrap().expect("the generator ends");
    let mut open = ranges.len();
    let (sender, receiver) = mpsc::channel();
    let _reader = connector.read(ranges, Arc::new(Events(sender))).unwrap();
    let mut batches = Vec::new();
    while open > 0 {
        let batch = receiver.recv().expect("a partition says that it has ended").unwrap();
        open -= usize::from(batch.finished);
        batches.push(batch.rows);
    }
    batches
}

/// A stream of Nexmark, from a definition of `nexmark/tables.sql`: the generator's rows in three parts, in the order of their times.
fn stream(relation: Arc<Relation>, definition: &str) -> Input {
    let name = &relation.name;
    let columns = definition.strip_prefix(&format!("CREATE TABLE {name} ")).and_then(|text| text.strip_suffix("APPEND ONLY"));
    let source = format!(
        "CREATE SOURCE {name} {} WITH (connector = 'nexmark', nexmark.table.type = '{name}', nexmark.event.num = '{EVENTS}', \
         nexmark.min.event.gap.in.ns = '{EVENT_GAP_NANOS}')",
        columns.expect("a stream only grows")
    );
    let source = OracleCatalog::without(Vec::new()).create(&source).unwrap_or_else(|e| panic!("{source}: {e:?}"));
    let RelationKind::Source(spec) = &source.kind else { panic!("{name} is not a source") };
    let schema = arrow_schema(&relation.columns);
    let fitting = |rows: RecordBatch| RecordBatch::try_new(schema.clone(), rows.columns().to_vec()).unwrap();
    let rows = concat_batches(&schema, &generated(spec).into_iter().map(fitting).collect::<Vec<_>>()).unwrap();
    let times = rows.column(relation.time_columns[0]).as_primitive::<TimestampMicrosecondType>();
    let (mut changes, mut watermarks) = (Vec::new(), vec![Timestamp::MIN]);
    for at in 0..EPOCHS {
        let part = rows.num_rows() * at / EPOCHS..rows.num_rows() * (at + 1) / EPOCHS;
        let newest = max(&times.slice(part.start, part.len())).expect("every part has rows");
        watermarks.push(Timestamp(newest - WATERMARK_DELAY));
        changes.push(part.map(|row| (row as u32, 1)).collect());
    }
    Input { relation, rows, changes, watermarks }
}

#[test]
fn nexmark_without_each_rule() {
    let tables = statements("nexmark/tables.sql");
    let mut catalog = OracleCatalog::without(Vec::new());
    let mut inputs = Vec::new();
    for table in &tables {
        let relation = catalog.create(table).unwrap_or_else(|e| panic!("{table}: {e:?}"));
        if relation.name != "side_input" {
            inputs.push(stream(relation, table));
        }
    }
    let view = |number: usize| statements(&format!("nexmark/q{number}.sql")).pop().expect("a file has its query");
    // What its function stands for.
    let inlined = |sql: String| sql.replace("count_char(extra, 'c')", "CHAR_LENGTH(extra) - CHAR_LENGTH(REPLACE(extra, 'c', ''))");
    let queries: Vec<String> = (0..23).filter(|number| *number != 13).map(view).map(inlined).collect();
    let (rules, filled) = verify(&tables, &inputs, &queries, &MAY_BE_NEEDED);
    assert!(rules.len() >= 4, "only {rules:?} are of use");
    assert_eq!(filled, queries.len(), "every query finds something");
}
