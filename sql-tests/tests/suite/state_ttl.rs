//! State that is forgotten, on the server: what a view shows after kills, from checkpoints or from the log alone, is what it showed before.

use eddyline_sql_tests::client::rows;
use eddyline_sql_tests::{Server, ServerOptions};
use std::time::Duration;
use tokio_postgres::Client;

const STATEMENTS: [&str; 7] = [
    "CREATE TABLE hit (k INT, v INT)",
    "CREATE TABLE person (id INT PRIMARY KEY, name TEXT)",
    "CREATE MATERIALIZED VIEW counts AS SELECT k, COUNT(*) AS n, SUM(v) AS s, COUNT(DISTINCT v) AS d FROM hit GROUP BY k \
     WITH (state_ttl = '800 ms')",
    "CREATE MATERIALIZED VIEW by_count AS SELECT n, COUNT(*) AS c, MAX(k) AS k FROM counts GROUP BY n WITH (state_ttl = '1500 ms')",
    "CREATE MATERIALIZED VIEW total AS SELECT SUM(n) AS n, COUNT(*) AS c, SUM(s) AS s FROM counts",
    "CREATE MATERIALIZED VIEW best AS SELECT k, v FROM (SELECT k, v, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) AS n FROM hit) AS x \
     WHERE n <= 2 WITH (state_ttl = '800 ms')",
    "CREATE MATERIALIZED VIEW named AS SELECT h.k, h.v, p.name FROM hit AS h LEFT JOIN person AS p ON h.k = p.id \
     WITH (state_ttl = '800 ms')",
];

const VIEWS: [&str; 5] = ["counts", "by_count", "total", "best", "named"];

async fn shown(client: &Client) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for view in VIEWS {
        let mut found: Vec<String> =
            rows(client, &format!("SELECT * FROM {view}")).await.into_iter().map(|row| format!("{row:?}")).collect();
        found.sort();
        all.push(found);
    }
    all
}

async fn through_kills(checkpoint_interval: &'static str) {
    let mut server = Server::start(ServerOptions { checkpoint_interval, state_cache: "1MiB", ..Default::default() });
    let client = server.connect().await;
    for statement in STATEMENTS {
        client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
    for round in 0..6 {
        let client = server.connect().await;
        for sql in [
            format!("INSERT INTO hit SELECT n % 7, n * {round} FROM generate_series(1, 40) AS n WHERE n % 7 <= {round}"),
            format!("INSERT INTO person VALUES ({round}, 'person {round}')"),
            format!("DELETE FROM hit WHERE k = {} - 3", round),
            format!("UPDATE hit SET v = v + 1 WHERE k = {round} AND v < 20"),
        ] {
            client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
            tokio::time::sleep(Duration::from_millis(120 * (round % 3))).await;
        }
        let before = shown(&client).await;
        server.kill_and_restart();
        let client = server.connect().await;
        assert_eq!(shown(&client).await, before, "round {round}");
        tokio::time::sleep(Duration::from_millis(400 * (round % 3))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_forgotten_is_so_after_a_restart() {
    through_kills("200ms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_forgotten_follows_from_the_log() {
    through_kills("1h").await;
}
