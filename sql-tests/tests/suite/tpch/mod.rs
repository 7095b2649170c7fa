//! TPC-H: the 22 queries as materialized views over tables that are written, changed and deleted from; checked against their own
//! text at every epoch, through a kill, and at the end against PostgreSQL, which was sent the same statements. The queries are in
//! `tpch/`, a file each; some constants are not the benchmark's, so that every query has rows at this size.

mod data;

use super::oracle::compare::{Cell, near_rows};
use super::oracle::postgres::Cluster;
use super::scripts::{Differences, statements};
use data::Data;
use eddyline_sql_tests::client::rows;
use eddyline_sql_tests::{Server, ServerOptions};
use tokio_postgres::Client;

const QUERIES: std::ops::RangeInclusive<usize> = 1..=22;
const ROUNDS: usize = 6;
const KILL_AFTER: usize = 3;

fn query(number: usize) -> String {
    statements(&format!("tpch/q{number}.sql")).pop().expect("a file has its query")
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
    let mut sent = statements("tpch/tables.sql");
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

/// Every view has rows, and they are PostgreSQL's.
async fn compare_with_postgres(client: &Client, sent: &[String]) {
    let cluster = Cluster::start();
    let postgres = cluster.connect().await;
    for statement in sent {
        execute(&postgres, statement).await;
    }
    let mut wrong = Vec::new();
    for number in QUERIES {
        let theirs = cells(rows(&postgres, &query(number)).await);
        let ours = cells(rows(client, &format!("SELECT * FROM q{number}")).await);
        let tells = theirs.iter().any(|row| row.iter().any(|cell| !matches!(cell, Cell::Null)));
        if !tells || !near_rows(theirs.clone(), ours.clone()) {
            wrong.push(format!("q{number}\nPostgreSQL: {theirs:?}\nEddyline: {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
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
