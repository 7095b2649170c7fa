//! Hundreds of views over one input, whose steps go to the workers together: some keep nothing of it, some are stepped by one worker,
//! some have state on all of them, some read the others, one has a timer. Each holds what its query gives, while rows come in many small
//! writes, while views go, and after kills.

use super::scripts::Differences;
use eddyline_sql_tests::client::{number, run};
use eddyline_sql_tests::{Server, ServerOptions};
use tokio_postgres::Client;

const FILTERS: i64 = 240;
const GROUPS: i64 = 20;
const WRITES: i64 = 120;
const ROWS: i64 = 40;

async fn create(client: &Client) {
    run(
        client,
        "CREATE TABLE event (id BIGINT, k BIGINT, v BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '5 seconds') APPEND ONLY",
    )
    .await;
    for i in 0..FILTERS {
        // Every third keeps nothing.
        let k = if i % 3 == 0 { -1 - i } else { i };
        run(client, &format!("CREATE MATERIALIZED VIEW f{i} AS SELECT id, v + {i} AS v FROM event WHERE k % {FILTERS} = {k}")).await;
    }
    for i in 0..GROUPS {
        let grouped = format!("SELECT k, COUNT(*) AS n, SUM(v) AS v FROM event WHERE k % {GROUPS} = {i} GROUP BY k");
        run(client, &format!("CREATE MATERIALIZED VIEW g{i} AS {grouped}")).await;
        run(client, &format!("CREATE MATERIALIZED VIEW h{i} AS SELECT COUNT(*) AS keys, SUM(n) AS n FROM g{i}")).await;
    }
    run(client, "CREATE MATERIALIZED VIEW w AS SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE event, DESCRIPTOR(at), INTERVAL '10' SECOND)) GROUP BY window_start, window_end").await;
    run(client, "CREATE MATERIALIZED VIEW recent AS SELECT id FROM event WHERE now() < at + INTERVAL '100 years'").await;
}

async fn write(client: &Client, write: i64) {
    let first = write * ROWS;
    let rows = (first..first + ROWS)
        .map(|id| format!("({id}, {}, {}, TIMESTAMP '2024-01-01 00:00:00' + INTERVAL '{id}' SECOND)", id * 7 % 1_009, id % 13));
    run(client, &format!("INSERT INTO event VALUES {}", rows.collect::<Vec<_>>().join(", "))).await;
}

async fn check(client: &Client, written: i64, dropped: i64) {
    run(client, "FLUSH").await;
    assert_eq!(number(client, "SELECT COUNT(*) FROM event").await, written * ROWS);
    let filters = (0..FILTERS).filter(|i| *i >= dropped && i % 7 < 2).map(|i| format!("f{i}"));
    let groups = (0..GROUPS).flat_map(|i| [format!("g{i}"), format!("h{i}")]);
    for view in filters.chain(groups).chain(["w".to_string()]) {
        let differences = Differences::of_view(client, &view).await;
        assert!(differences.is_empty(), "{view} after {written} writes: {differences}");
    }
    assert_eq!(number(client, "SELECT COUNT(*) FROM recent").await, written * ROWS);
    let taken = "SELECT CAST(MIN(rows_in) AS BIGINT) FROM eddyline.jobs WHERE job LIKE 'f%'";
    assert_eq!(number(client, taken).await, written * ROWS, "every view has taken every row");
}

async fn run_with(options: ServerOptions) {
    let mut server = Server::start(options);
    let mut client = server.connect().await;
    create(&client).await;
    let mut dropped = 0;
    for round in 0..3 {
        for i in round * WRITES / 3..(round + 1) * WRITES / 3 {
            write(&client, i).await;
        }
        if round == 1 {
            dropped = 10;
            for i in 0..dropped {
                run(&client, &format!("DROP MATERIALIZED VIEW f{i}")).await;
            }
        }
        if round > 0 {
            server.kill_and_restart();
            client = server.connect().await;
        }
        check(&client, (round + 1) * WRITES / 3, dropped).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_1_worker_in_memory() {
    run_with(ServerOptions { workers: 1, backend: "memory", ..Default::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_2_workers_and_many_checkpoints() {
    run_with(ServerOptions { workers: 2, state_cache: "1MiB", checkpoint_interval: "200ms", ..Default::default() }).await;
}
