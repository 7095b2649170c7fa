//! Rejected rows are a Z-set without a bound: every row on which a view's expression fails is shown, through restarts, until a
//! retraction takes it out again, whenever that is and however many there were.

use eddyline_sql_tests::client::number;
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use tokio_postgres::Client;

/// More than any buffer of rows for display would hold.
const ROWS: i64 = 20_000;

/// (rows, copies, smallest weight) that a view rejects at present.
async fn rejected(client: &Client, view: &str) -> (i64, i64, i64) {
    let query =
        "SELECT COUNT(*), COALESCE(SUM(weight), 0)::bigint, COALESCE(MIN(weight), 0)::bigint FROM eddyline.rejected_rows WHERE view = $1";
    let row = client.query_one(query, &[&view]).await.expect("the query runs");
    (row.get(0), row.get(1), row.get(2))
}

/// What the view and its rejected rows must be, by the table.
async fn agrees(client: &Client) {
    let bad = number(client, "SELECT COUNT(*) FROM t WHERE b = 0").await;
    let good = number(client, "SELECT COUNT(*) FROM t WHERE b <> 0").await;
    assert_eq!(rejected(client, "v").await, (bad, bad, bad.min(1)));
    assert_eq!(number(client, "SELECT COUNT(*) FROM v").await, good);
    let of_rows = "SELECT COUNT(DISTINCT r.row) FROM eddyline.rejected_rows r WHERE r.view = 'v' AND r.reason = 'division by zero'";
    assert_eq!(number(client, of_rows).await, bad);
    // The same values in many rows are one row with a weight.
    let copies = number(client, "SELECT COUNT(DISTINCT a % 7) FROM t WHERE b = 0").await;
    let (rows, weights, _) = rejected(client, "w").await;
    assert_eq!((rows, weights), (copies, bad));
}

async fn change(client: &Client, statement: &str) {
    client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    agrees(client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rejected_row_is_taken_back_by_its_retraction() {
    for backend in ["memory", "rocksdb"] {
        let mut server = Server::start(ServerOptions { backend, state_cache: "1MiB", checkpoint_interval: "200ms", ..Default::default() });
        let mut client = server.connect().await;
        client.batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, a BIGINT, b BIGINT)").await.expect("a table");
        client.batch_execute("CREATE MATERIALIZED VIEW v AS SELECT id, a / b AS q FROM t").await.expect("a view");
        client.batch_execute("CREATE MATERIALIZED VIEW few AS SELECT a % 7 AS a, b FROM t").await.expect("a view");
        client.batch_execute("CREATE MATERIALIZED VIEW w AS SELECT SUM(a / b) AS s FROM few").await.expect("a view");
        let all = format!("SELECT i, i, CASE WHEN i % 10 = 0 THEN 1 ELSE 0 END FROM generate_series(1, {ROWS}) AS s(i)");
        change(&client, &format!("INSERT INTO t {all}")).await;
        let entered = number(&client, "SELECT rejected FROM eddyline.jobs WHERE job = 'v'").await;
        assert_eq!(entered, number(&client, "SELECT COUNT(*) FROM t WHERE b = 0").await);
        change(&client, &format!("DELETE FROM t WHERE id > {ROWS} - 100")).await;
        let after = number(&client, "SELECT rejected FROM eddyline.jobs WHERE job = 'v'").await;
        assert_eq!(after, entered, "a row that is taken back is not rejected once more");
        change(&client, "UPDATE t SET b = 1 WHERE id % 3 = 0").await;
        change(&client, "UPDATE t SET a = a + 1 WHERE id % 5 = 0").await;
        let made = number(&client, "SELECT COALESCE(MAX(checkpoint), 0) FROM eddyline.checkpoints").await;
        until("a checkpoint holds them", || async {
            client.batch_execute("UPDATE t SET a = a + 7 WHERE id <= 10").await.ok()?;
            (number(&client, "SELECT COALESCE(MAX(checkpoint), 0) FROM eddyline.checkpoints").await > made + 1).then_some(())
        })
        .await;
        for _ in 0..2 {
            tokio::task::block_in_place(|| server.kill_and_restart());
            client = server.connect().await;
            agrees(&client).await;
            change(&client, "UPDATE t SET b = 1 - b WHERE id % 4 = 0").await;
            change(&client, "DELETE FROM t WHERE id % 11 = 0").await;
        }
        // A view that is made now rejects what is rejected now.
        client.batch_execute("CREATE MATERIALIZED VIEW late AS SELECT id, a / b AS q FROM t").await.expect("a view");
        assert_eq!(number(&client, "SELECT COUNT(*) FROM late").await, number(&client, "SELECT COUNT(*) FROM v").await);
        assert_eq!(rejected(&client, "late").await, rejected(&client, "v").await);
        change(&client, "UPDATE t SET b = 2").await;
        assert_eq!(number(&client, "SELECT COUNT(*) FROM eddyline.rejected_rows").await, 0, "all are taken back");
        change(&client, "DELETE FROM t").await;
    }
}
