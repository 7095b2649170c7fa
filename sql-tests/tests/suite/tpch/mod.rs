//! TPC-H: the 22 queries as materialized views over tables that are written, changed and deleted from; checked against their own
//! text at every epoch, through a kill, and at the end against PostgreSQL, which was sent the same. The queries are in `tpch/`, a file each.
//!
//! `standard` has the benchmark's own rows and parameters, at scale factor 0.01. That takes as long as all else here together, so it runs in one mode. The
//! four modes run over `data`, 500 orders at first, with some parameters that are not the benchmark's, so that every query has rows at this size.

mod data;
mod standard;

use super::oracle::compare::{Cell, near_rows};
use super::oracle::postgres::Cluster;
use super::scripts::Differences;
use data::Data;
use eddyline_sql_tests::client::rows;
use eddyline_sql_tests::tpch::{self, QUERIES};
use eddyline_sql_tests::{Server, ServerOptions};
use tokio_postgres::Client;

/// What a query has in place of a parameter of the benchmark, in this order.
const SMALLER: &[(usize, &str, &str)] = &[
    (2, "p_size = 15", "p_size < 25"),
    (5, "INTERVAL '1' YEAR", "INTERVAL '2' YEAR"),
    (7, "DATE '1995-01-01'", "DATE '1993-01-01'"),
    (8, "DATE '1995-01-01'", "DATE '1993-01-01'"),
    (8, "p_type = 'ECONOMY ANODIZED STEEL'", "p_type LIKE 'ECONOMY%'"),
    (17, "p_container = 'MED BOX'", "p_container LIKE 'MED%'"),
    (17, "0.2 * AVG", "0.5 * AVG"),
    (18, "> 300", "> 200"),
    (19, "'AIR REG'", "'REG AIR'"),
    (19, "+ 10", "+ 20"),
    (19, "BETWEEN 1 AND 15", "BETWEEN 1 AND 45"),
    (19, "BETWEEN 1 AND 10", "BETWEEN 1 AND 30"),
    (19, "BETWEEN 1 AND 5", "BETWEEN 1 AND 15"),
    (20, "INTERVAL '1' YEAR", "INTERVAL '2' YEAR"),
    (20, "n_name = 'CANADA'", "n_name IN ('CANADA', 'GERMANY', 'FRANCE', 'BRAZIL', 'CHINA')"),
    (21, "n_name = 'SAUDI ARABIA'", "n_name IN ('CHINA', 'FRANCE', 'GERMANY')"),
];
/// The scale factor at which the parameter that depends on it suits this size.
const SCALE: f64 = 0.01;
const ROUNDS: usize = 6;
const KILL_AFTER: usize = 3;

/// The query with the parameters for few rows.
pub fn query(number: usize) -> String {
    let mut text = tpch::query(number, SCALE);
    for (_, standard, smaller) in SMALLER.iter().filter(|(of, _, _)| *of == number) {
        assert!(text.contains(standard), "q{number} has no {standard}");
        text = text.replace(standard, smaller);
    }
    text
}

async fn execute(client: &Client, statement: &str) {
    let shown: String = statement.chars().take(300).collect();
    client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{shown}: {e:?}"));
}

async fn check_all(client: &Client, round: usize) {
    for number in QUERIES {
        let differences = Differences::of_view(client, &format!("q{number}")).await;
        assert!(differences.is_empty(), "q{number} after round {round}: {differences}");
    }
}

/// Gives the statements that made the tables what they are at the end.
async fn run(options: ServerOptions, seed: u64) -> (Server, Client, Vec<String>) {
    let mut server = Server::start(options);
    let mut client = server.connect().await;
    let mut data = Data::new(seed);
    let mut sent = tpch::tables();
    for statement in &sent {
        execute(&client, statement).await;
    }
    // Half the views read what is there already, the others see it come.
    for number in QUERIES.filter(|n| n % 2 == 1) {
        execute(&client, &format!("CREATE MATERIALIZED VIEW q{number} AS {}", query(number))).await;
    }
    for statement in data.initial() {
        execute(&client, &statement).await;
        sent.push(statement);
    }
    for number in QUERIES.filter(|n| n % 2 == 0) {
        execute(&client, &format!("CREATE MATERIALIZED VIEW q{number} AS {}", query(number))).await;
    }
    check_all(&client, 0).await;
    for round in 1..=ROUNDS {
        let changes = data.changes();
        if round % 2 == 0 {
            let block = format!("BEGIN; {}; COMMIT", changes.join("; "));
            execute(&client, &block).await;
        } else {
            for statement in &changes {
                execute(&client, statement).await;
            }
        }
        sent.extend(changes);
        if round == KILL_AFTER {
            server.kill_and_restart();
            client = server.connect().await;
        }
        check_all(&client, round).await;
    }
    (server, client, sent)
}

fn cells(rows: Vec<Vec<Option<String>>>) -> Vec<Vec<Cell>> {
    let cell = |text: Option<String>| match text {
        None => Cell::Null,
        Some(text) => text.parse().map_or(Cell::Text(text), Cell::Number),
    };
    rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect()
}

/// The views' rows are PostgreSQL's, and all views have some but for those in `empty`, which may have none.
async fn compare(client: &Client, postgres: &Client, query: fn(usize) -> String, empty: &[usize]) {
    let mut wrong = Vec::new();
    for number in QUERIES {
        let theirs = cells(rows(postgres, &query(number)).await);
        let ours = cells(rows(client, &format!("SELECT * FROM q{number}")).await);
        let tells = empty.contains(&number) || theirs.iter().any(|row| row.iter().any(|cell| !matches!(cell, Cell::Null)));
        if !tells || !near_rows(theirs.clone(), ours.clone()) {
            wrong.push(format!("q{number}\nPostgreSQL: {theirs:?}\nEddyline: {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

async fn compare_with_postgres(client: &Client, sent: &[String]) {
    let cluster = Cluster::start();
    let postgres = cluster.connect().await;
    for statement in sent {
        execute(&postgres, statement).await;
    }
    compare(client, &postgres, query, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_with_1_worker() {
    run(ServerOptions { workers: 1, backend: "memory", ..Default::default() }, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_with_2_workers() {
    run(ServerOptions { workers: 2, backend: "memory", ..Default::default() }, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_rocksdb_with_1_worker() {
    run(ServerOptions { workers: 1, state_cache: "1MiB", checkpoint_interval: "100ms", ..Default::default() }, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_rocksdb_with_2_workers_and_as_in_postgresql() {
    let options = ServerOptions { workers: 2, state_cache: "1MiB", checkpoint_interval: "100ms", ..Default::default() };
    let (_server, client, sent) = run(options, 4).await;
    compare_with_postgres(&client, &sent).await;
}
