//! Views with a `state_ttl`. Their rows depend on when others came, so there is no batch result. Runs of the same cuts (other workers, the
//! other store, other splits, checkpoints and kills elsewhere) must come to the same at every epoch; and where a few lines
//! can say what that is, to that.

use super::case::{Case, Scenario};
use super::compare::difference;
use super::run::{Run, Seen, run_alike};
use super::tables::{Domain, Kind, SECOND, Table, TableSpec};
use super::{assert_eventful, memory, rocksdb, run_seed, seeds};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::common::ScalarValue;
use eddyline_common::Epoch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const TTL: i64 = 16 * SECOND;

/// Over any one table: name, query.
const QUERIES: &[(&str, &str)] = &[
    ("counts", "SELECT k, COUNT(*) AS n, SUM(g) AS s FROM {t} GROUP BY k"),
    ("values", "SELECT k, MIN(g) AS l, MAX(g) AS h, COUNT(DISTINCT g) AS d, ARRAY_AGG(g ORDER BY g) AS e FROM {t} GROUP BY k"),
    ("pairs", "SELECT DISTINCT k, g FROM {t}"),
    ("unnamed", "SELECT COUNT(*) AS n FROM {t} GROUP BY k"),
    ("first", "SELECT k, g FROM (SELECT k, g, ROW_NUMBER() OVER (PARTITION BY k ORDER BY g) AS n FROM {t}) AS x WHERE n = 1"),
    ("top", "SELECT k, g, n FROM (SELECT k, g, ROW_NUMBER() OVER (PARTITION BY k ORDER BY g DESC) AS n FROM {t}) AS x WHERE n <= 3"),
    ("ranks", "SELECT k, g FROM (SELECT k, g, RANK() OVER (PARTITION BY k ORDER BY g) AS n FROM {t}) AS x WHERE n <= 2"),
    ("sums", "SELECT k, g, SUM(g) OVER (PARTITION BY k ORDER BY g ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM {t}"),
    ("sizes", "SELECT n, COUNT(*) AS groups, MIN(k) AS least FROM (SELECT k, COUNT(*) AS n FROM {t} GROUP BY k) AS x GROUP BY n"),
    ("all", "SELECT COUNT(*) AS n, COUNT(DISTINCT k) AS d, MAX(n) AS m FROM (SELECT k, COUNT(*) AS n FROM {t} GROUP BY k) AS x"),
    ("inner", "SELECT x.k, x.g, v.g AS h FROM {t} AS x JOIN v ON x.k = v.k"),
    ("nearly", "SELECT x.k, x.g, v.g AS h FROM {t} AS x JOIN v ON x.k = v.k AND x.g < v.g"),
    ("left", "SELECT x.k, x.g, v.g AS h FROM {t} AS x LEFT JOIN v ON x.k = v.k"),
    ("full", "SELECT x.k, x.g, v.k AS l, v.g AS h FROM {t} AS x FULL JOIN v ON x.k = v.k AND x.g <= v.g"),
    ("there", "SELECT k, g FROM {t} WHERE k IN (SELECT k FROM v)"),
    ("not_there", "SELECT k, g FROM {t} AS x WHERE NOT EXISTS (SELECT * FROM v WHERE v.k = x.k)"),
    (
        "joined_counts",
        "SELECT k, COUNT(*) AS n, SUM(h) AS s FROM (SELECT x.k, v.g AS h FROM {t} AS x LEFT JOIN v ON x.k = v.k) AS x GROUP BY k",
    ),
    ("kept_right", "SELECT /*+ STATE_TTL('x' = '16 s', 'v' = '0') */ x.k, x.g, v.g AS h FROM {t} AS x JOIN v ON x.k = v.k"),
    ("both", "SELECT k, g FROM {t} EXCEPT SELECT k, g FROM v"),
];

fn tables() -> Vec<TableSpec> {
    let columns =
        |first: Option<(&'static str, Domain)>| first.into_iter().chain([("k", Domain::Below(9)), ("g", Domain::Below(7))]).collect();
    let table = |name, kind, first| TableSpec { name, kind, columns: columns(first), watermark: None };
    vec![
        table("t", Kind::Keyed, Some(("id", Domain::Id))),
        table("u", Kind::Keyless, None),
        table("a", Kind::AppendOnly, None),
        table("v", Kind::Keyed, Some(("id", Domain::Id))),
    ]
}

fn scenario() -> Scenario {
    let with_ttl = |case: Case| case.with("state_ttl = '16 seconds'");
    let over = |table: &str| {
        let case = |(name, sql): &(&str, &str)| with_ttl(Case::new(format!("{name}_{table}"), sql.replace("{t}", table)));
        QUERIES.iter().map(case).collect::<Vec<_>>()
    };
    let mut cases = ["t", "u", "a"].map(over).concat();
    for table in ["t", "u", "a"] {
        let (counts, inner) = (format!("counts_{table}"), format!("inner_{table}"));
        cases.push(Case::new(format!("sum_{table}"), format!("SELECT SUM(n) AS n, COUNT(*) AS c FROM {counts}")).over(&[&counts]));
        let sql = format!("SELECT n, COUNT(*) AS c, SUM(s) AS s FROM {counts} GROUP BY n");
        cases.push(with_ttl(Case::new(format!("by_count_{table}"), sql)).over(&[&counts]));
        cases.push(Case::new(format!("inner_groups_{table}"), format!("SELECT k, COUNT(*) AS n FROM {inner} GROUP BY k")).over(&[&inner]));
    }
    Scenario { name: "forgetting", tables: tables(), cases, epochs: 40, changes: 5, checkpoints: 0.2, kills: 0.08, backfills: 0.0 }
}

pub(super) fn verify(usual: u64) {
    let scenario = scenario();
    let mut totals = Vec::new();
    for seed in seeds(scenario.name, memory(1), usual) {
        let mut seen = Seen::default();
        for (number, mode) in [memory(1), memory(2), rocksdb(1), rocksdb(2)].into_iter().enumerate() {
            let given = std::mem::take(&mut seen);
            run_seed(scenario.name, mode, seed, || {
                let mut run = run_alike(&scenario, mode, seed, number as u64, given);
                ["t", "u", "a"].iter().for_each(|table| compare_counts(&run, table));
                totals.push(run.totals);
                seen = run.alike.take().map(|alike| alike.seen).unwrap_or_default();
                run.totals
            });
        }
        assert!(seen.late.values().any(|late| *late != 0), "nothing was taken back that was forgotten");
    }
    assert_eventful(&totals);
}

/// A group as the model has it.
#[derive(Clone, Copy, Default)]
struct Group {
    count: i64,
    sum: i64,
    deadline: i64,
}

/// `counts` of a table, cut by cut: what its groups are, and what the view shows of them.
fn compare_counts(run: &Run, table: &str) {
    let name = format!("counts_{table}");
    let relation = run.world.view(&name);
    let Table { log, spec, .. } = run.world.tables.iter().find(|t| t.spec.name == table).expect("a table of the scenario");
    let column = |name: &str| spec.columns.iter().position(|(column, _)| *column == name).expect("a column of the table");
    let (k, g) = (column("k"), column("g"));
    let number = |value: &ScalarValue| if let ScalarValue::Int64(Some(value)) = value { *value } else { panic!("not a number: {value}") };
    let span = TTL / 16;
    let (mut groups, mut shown) = (BTreeMap::<i64, Group>::new(), BTreeMap::<i64, (i64, i64)>::new());
    let mut forgotten = 0;
    for (epoch, entry) in (1..).map(Epoch).zip(log) {
        let now = run.world.now(epoch).0;
        let before = groups.len();
        groups.retain(|_, group| group.deadline > now);
        forgotten += before - groups.len();
        let touched: BTreeSet<i64> = entry.changes.iter().map(|(row, _)| number(&row[k])).collect();
        for key in touched {
            let old = groups.get(&key).map(|group| (group.count, group.sum));
            let mut group = groups.remove(&key).unwrap_or_default();
            for (row, weight) in entry.changes.iter().filter(|(row, _)| number(&row[k]) == key) {
                group.count += weight;
                group.sum += weight * number(&row[g]);
            }
            group.deadline = (now + TTL + span - 1).div_euclid(span) * span;
            if group.count > 0 {
                shown.insert(key, (group.count, group.sum));
                groups.insert(key, group);
            } else if old.is_some() && shown.get(&key) == old.as_ref() {
                shown.remove(&key);
            }
        }
        let columns: [fn((&i64, &(i64, i64))) -> i64; 3] = [|(k, _)| *k, |(_, (n, _))| *n, |(_, (_, s))| *s];
        let columns = columns.map(|of| Arc::new(Int64Array::from_iter_values(shown.iter().map(of))) as ArrayRef).to_vec();
        let schema = eddyline_common::types::arrow_schema(&relation.columns);
        let expected = RecordBatch::try_new(schema, columns).expect("three numbers");
        let Some(actual) = run.alike.as_ref().and_then(|alike| alike.seen.rows.get(&(name.clone(), epoch))) else { continue };
        if let Some(difference) = difference(&expected, actual, false) {
            panic!("{name} is not what the model says at epoch {epoch}: {difference}");
        }
    }
    assert!(forgotten > 0, "no group of {name} was forgotten");
}
