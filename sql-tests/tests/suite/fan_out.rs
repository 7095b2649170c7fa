//! A step whose rows match many others each: operator state keeps near `state_cache` while it is under way, and what comes of it is right, also when
//! it is taken back and after a kill.

use eddyline_sql_tests::client::{number, numbers, run};
use eddyline_sql_tests::{Server, ServerOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_bounded_within_a_step() {
    let mut server = Server::start(ServerOptions { state_cache: "8MiB", checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    run(&client, "CREATE TABLE l (id BIGINT PRIMARY KEY, k BIGINT)").await;
    run(&client, "CREATE TABLE r (k BIGINT, b BIGINT, PRIMARY KEY (k, b))").await;
    run(&client, "CREATE TABLE s (id BIGINT, b BIGINT, PRIMARY KEY (id, b))").await;
    // Each pair is a group, and a row of the second join.
    let groups = "SELECT l.id, r.b, COUNT(*) AS c FROM l JOIN r ON l.k = r.k GROUP BY l.id, r.b";
    let sums = "SUM(c)::bigint AS n, SUM(id)::bigint AS ids";
    run(&client, &format!("CREATE MATERIALIZED VIEW pairs AS SELECT {sums} FROM ({groups}) AS g")).await;
    let joined = "SELECT COUNT(*) AS n FROM l JOIN r ON l.k = r.k JOIN s ON s.id = l.id AND s.b = r.b";
    run(&client, &format!("CREATE MATERIALIZED VIEW matching AS {joined}")).await;
    run(&client, "INSERT INTO r SELECT g % 1000, g / 1000 FROM generate_series(0, 39999) AS t(g)").await;
    run(&client, "INSERT INTO s VALUES (1, 0), (2, 39), (3, 77), (7500, 20)").await;
    run(&client, "INSERT INTO l SELECT g, g % 1000 FROM generate_series(1, 10000) AS t(g)").await;
    let is = async |client: &tokio_postgres::Client, rows: i64, matching: i64| {
        assert_eq!(numbers(client, "SELECT n, ids FROM pairs").await, Some(vec![40 * rows, 20 * rows * (rows + 1)]));
        assert_eq!(number(client, "SELECT n FROM matching").await, matching);
    };
    is(&client, 10_000, 3).await;
    run(&client, "DELETE FROM l WHERE id > 5000").await;
    is(&client, 5_000, 2).await;
    let most = server.metric("eddyline_state_bytes_max").expect("it is told");
    assert!(most < 80e6, "400,000 groups, and as many rows of a join, were in memory: {most} bytes");
    server.kill_and_restart();
    let client = server.connect().await;
    is(&client, 5_000, 2).await;
    let most = server.metric("eddyline_state_bytes_max").expect("it is told");
    assert!(most < 80e6, "nor are they in a replay: {most} bytes");
}
