//! Options that are changed while things run, and what EXPLAIN ANALYZE shows of them.

use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

async fn run(client: &Client, statement: &str) {
    client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
}

/// How many steps a view's job has made, as EXPLAIN ANALYZE has it, and the lines of its operators.
async fn explained(client: &Client, view: &str) -> (u64, Vec<String>) {
    let rows = client.simple_query(&format!("EXPLAIN ANALYZE MATERIALIZED VIEW {view}")).await.expect("a plan");
    let line = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
        _ => None,
    };
    let lines: Vec<String> = rows.into_iter().filter_map(line).collect();
    let steps = lines[0].split("steps=").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok());
    (steps.unwrap_or_else(|| panic!("steps in {lines:?}")), lines[1..].to_vec())
}

/// A view that collects makes few steps of many writes; whoever needs the rows has them at once all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_collects_makes_few_steps() {
    let server = Server::start(ServerOptions { checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT PRIMARY KEY, g INT)").await;
    run(&client, "CREATE MATERIALIZED VIEW eager AS SELECT g, COUNT(*) AS n FROM t GROUP BY g").await;
    run(&client, "CREATE MATERIALIZED VIEW patient AS SELECT g, COUNT(*) AS n FROM t GROUP BY g WITH (emit_interval = '30 s')").await;
    for id in 0..60 {
        run(&client, &format!("INSERT INTO t VALUES ({id}, {})", id % 3)).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    until("the view that does not collect has all", || async {
        let row = client.query_one("SELECT SUM(n)::bigint FROM eager", &[]).await.ok()?;
        (row.get::<_, Option<i64>>(0) == Some(60)).then_some(())
    })
    .await;
    let (each, lines) = explained(&client, "eager").await;
    let (some, _) = explained(&client, "patient").await;
    assert!(each >= 10 && some <= 4, "{each} steps of one, {some} of the other");
    let scan = lines.iter().find(|l| l.contains("Scan t")).unwrap_or_else(|| panic!("a scan in {lines:?}"));
    assert!(scan.contains("since start: in=60 out=60"), "{scan}");
    let n: i64 = client.query_one("SELECT SUM(n)::bigint FROM patient", &[]).await.expect("own writes are there").get(0);
    assert_eq!(n, 60);
    // A view over it, and FLUSH, do not wait either.
    run(&client, "CREATE MATERIALIZED VIEW above AS SELECT SUM(n) AS n FROM patient").await;
    run(&client, "INSERT INTO t VALUES (60, 0); FLUSH").await;
    let n: i64 = client.query_one("SELECT n::bigint FROM above", &[]).await.expect("the view is there").get(0);
    assert_eq!(n, 61);
}
