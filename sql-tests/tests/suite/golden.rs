//! What Apache Flink makes of the same rows. `golden/` has input, queries, and the rows that each query came to in Flink; how they are made
//! is in its README. The queries run here as they stand there, as views that are updated, and as views that show windows when they close. Rows
//! come one by one, as in Flink, so that both find the same ones late.

use super::scripts::statements;
use eddyline_sql_tests::client::{rows, run};
use eddyline_sql_tests::{Server, ServerOptions};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use tokio_postgres::Client;

/// Tables that queries join are fed together, a row of each in turn.
const FEEDS: &[&[&str]] = &[&["bid"], &["punctual"], &["visit"], &["payment"], &["orders", "shipments"], &["rates", "purchases"]];

/// A last row of each table raises its watermark above everything, as the end of a file does in Flink. What comes of it is not compared.
const LAST: &[(&str, &str)] = &[
    ("bid", "(0, 'end', 0, 0, '2024-06-01 12:00:00')"),
    ("punctual", "(0, 'end', 0, 0, '2024-06-01 12:00:00')"),
    ("visit", "(0, 'end', 0, '2024-06-01 12:00:00')"),
    ("payment", "(0, 'end', 'end', 0, '2024-06-01 12:00:00')"),
    ("orders", "(0, 'end', '2024-06-01 12:00:00')"),
    ("shipments", "(0, -1, '2024-06-01 12:00:00')"),
    ("rates", "('end', 0, '2024-06-01 12:00:00')"),
    ("purchases", "(0, 'end', 0, '2024-06-01 12:00:00')"),
];

/// Queries over which the two differ, on purpose or because Flink is wrong; each says why, and so does docs/sql.md. What they come to here is in `golden/ours`,
/// from a model that shares nothing with either (`golden/model.py`).
const DIFFERS: &str = "differs_";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The queries by name.
fn queries() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(folder().join("queries")).expect("a folder of queries");
    let queries: BTreeMap<_, _> = files
        .map(|file| file.expect("a file").path())
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().to_string();
            let query = statements(&format!("golden/queries/{name}.sql")).pop().expect("a file has its query");
            (name, query)
        })
        .collect();
    assert!(queries.len() > 40, "there are queries");
    queries
}

/// Whether the query has windows that can be shown when they close.
fn closes(sql: &str) -> bool {
    (sql.contains("TABLE(") || sql.contains("_START(")) && !sql.contains("JOIN")
}

/// The statements that write a table's input, a row each.
fn writes(table: &str) -> Vec<String> {
    let literal = |cell: &str| match cell {
        "NULL" => cell.to_string(),
        number if number.parse::<i64>().is_ok() => number.to_string(),
        text => format!("'{text}'"),
    };
    let values = |line: &str| format!("({})", line.split(',').map(literal).collect::<Vec<_>>().join(", "));
    read(&folder().join(format!("input/{table}.csv"))).lines().map(|line| write(table, &values(line))).collect()
}

fn write(table: &str, values: &str) -> String {
    let conflict = if table == "rates" { " ON CONFLICT (currency) DO UPDATE SET rate = excluded.rate, ts = excluded.ts" } else { "" };
    format!("INSERT INTO {table} VALUES {values}{conflict}")
}

/// All rows, those of a feed's tables in turn.
fn all_writes() -> Vec<String> {
    let mut all = Vec::new();
    for feed in FEEDS {
        let mut tables: Vec<_> = feed.iter().map(|table| writes(table).into_iter()).collect();
        loop {
            let turn: Vec<String> = tables.iter_mut().filter_map(Iterator::next).collect();
            if turn.is_empty() {
                break;
            }
            all.extend(turn);
        }
    }
    all.extend(LAST.iter().map(|(table, values)| write(table, values)));
    all
}

/// A query's rows in Flink (`expected`) or in the model (`ours`).
fn golden(of: &str, name: &str) -> Vec<String> {
    let mut rows: Vec<String> = read(&folder().join(format!("{of}/{name}.csv"))).lines().map(str::to_string).collect();
    rows.sort();
    rows
}

/// The rows of a view as Flink's are written, without those that the last rows brought.
async fn found(client: &Client, view: &str) -> Vec<String> {
    let of_the_end = |cell: &String| cell == "end" || cell.starts_with("2024-05-31") || cell.starts_with("2024-06");
    let rows = rows(client, &format!("SELECT * FROM {view}")).await.into_iter();
    let rows = rows.map(|row| row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".to_string())).collect::<Vec<_>>());
    let mut rows: Vec<String> = rows.filter(|row| !row.iter().any(of_the_end)).map(|row| row.join(",")).collect();
    rows.sort();
    rows
}

/// What is in one of two sorted lists only, as text.
fn difference(found: &[String], expected: &[String]) -> String {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    found.iter().for_each(|row| *counts.entry(row).or_default() += 1);
    expected.iter().for_each(|row| *counts.entry(row).or_default() -= 1);
    let mut text = String::new();
    for (row, count) in counts.iter().filter(|(_, count)| **count != 0).take(20) {
        writeln!(text, "  {} {row}", if *count > 0 { "wrong  " } else { "missing" }).expect("a string takes text");
    }
    text
}

async fn create(client: &Client) -> Vec<(String, String)> {
    for statement in statements("golden/tables.eddyline.sql") {
        run(client, &statement).await;
    }
    let mut views = Vec::new();
    for (name, sql) in queries() {
        let view = format!("golden_{name}");
        run(client, &format!("CREATE MATERIALIZED VIEW {view} AS {sql}")).await;
        views.push((view, name.clone()));
        if closes(&sql) {
            let view = format!("golden_{name}_closed");
            run(client, &format!("CREATE MATERIALIZED VIEW {view} AS {sql} EMIT ON WINDOW CLOSE")).await;
            views.push((view, name));
        }
    }
    views
}

/// `killed`: after half of the rows of every feed.
async fn compare(options: ServerOptions, killed: bool) {
    let mut server = Server::start(options);
    let mut client = server.connect().await;
    let views = create(&client).await;
    let writes = all_writes();
    for (number, statement) in writes.iter().enumerate() {
        if killed && number % 500 == 250 {
            server.kill_and_restart();
            client = server.connect().await;
        }
        run(&client, statement).await;
    }
    let mut wrong = Vec::new();
    for (view, name) in views {
        let of = if name.starts_with(DIFFERS) { "ours" } else { "expected" };
        let (found, expected) = (found(&client, &view).await, golden(of, &name));
        if found != expected {
            wrong.push(format!("{view}: {} rows, in {of}/ {}\n{}", found.len(), expected.len(), difference(&found, &expected)));
        }
    }
    assert!(wrong.is_empty(), "{} views are not what they must be:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_differs_from_flink_does_so() {
    let differing: Vec<String> = queries().into_keys().filter(|name| name.starts_with(DIFFERS)).collect();
    assert!(!differing.is_empty(), "there are such queries");
    for name in differing {
        assert_ne!(golden("ours", &name), golden("expected", &name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_in_flink_with_1_worker() {
    compare(ServerOptions { workers: 1, ..Default::default() }, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_in_flink_with_2_workers_and_kills() {
    compare(ServerOptions { workers: 2, state_cache: "1MiB", checkpoint_interval: "100ms", ..Default::default() }, true).await;
}
