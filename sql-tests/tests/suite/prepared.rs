//! Prepared statements that are bound again and again: their plans are kept, and what they give follows whatever changes beneath them.

use eddyline_sql_tests::client::{number, rows, run};
use eddyline_sql_tests::{Server, ServerOptions};
use tokio_postgres::{Client, Statement};

async fn one(client: &Client, statement: &Statement, key: i64) -> Vec<String> {
    let rows = client.query(statement, &[&key]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_reads_what_is_there() {
    let server = Server::start(ServerOptions::default());
    let (client, other) = (server.connect().await, server.connect().await);
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
    run(&client, "CREATE MATERIALIZED VIEW m AS SELECT v, COUNT(*) AS n FROM t GROUP BY v").await;
    let by_key = client.prepare("SELECT v FROM t WHERE k = $1").await.expect("a statement");
    let scanned = client.prepare("SELECT v FROM t WHERE k >= $1 ORDER BY k").await.expect("a statement");
    let many = client.prepare("SELECT k FROM t WHERE k = ANY ($1) ORDER BY k").await.expect("a statement");
    let of_view = client.prepare("SELECT n FROM m WHERE v = $1").await.expect("a statement");
    for round in 0..3 {
        assert_eq!(one(&client, &by_key, 1).await, ["one"]);
        assert_eq!(one(&client, &by_key, 9).await, Vec::<String>::new());
        assert_eq!(one(&client, &scanned, 2).await, ["two"]);
        let found = client.query(&many, &[&vec![2i64, 7, 1, 2]]).await.expect("rows");
        assert_eq!(found.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1, 2]);
        let counts = client.query(&of_view, &[&"one"]).await.expect("rows");
        assert_eq!(counts.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1], "round {round}");
    }
    let plan = client.query("EXPLAIN ANALYZE SELECT v FROM t WHERE k IN (1, 2)", &[]).await.expect("a plan");
    assert_eq!(plan[1].get::<_, String>(0), "look-up in t by its key, 2 keys");
    run(&other, "UPDATE t SET v = 'eins' WHERE k = 1; FLUSH").await;
    assert_eq!(one(&client, &by_key, 1).await, ["eins"]);
    assert_eq!(one(&client, &scanned, 1).await, ["eins", "two"]);
    // What the transaction itself wrote, and its end.
    run(&client, "BEGIN; UPDATE t SET v = 'uno' WHERE k = 1").await;
    assert_eq!(one(&client, &by_key, 1).await, ["uno"]);
    run(&client, "ROLLBACK").await;
    assert_eq!(one(&client, &by_key, 1).await, ["eins"]);
    // Another table of the name.
    run(&other, "DROP TABLE t CASCADE; CREATE TABLE t (v TEXT, k BIGINT PRIMARY KEY); INSERT INTO t VALUES ('new', 1)").await;
    assert_eq!(one(&client, &by_key, 1).await, ["new"]);
    assert!(client.query(&of_view, &[&"one"]).await.is_err_and(|e| e.code().is_some_and(|code| code.code() == "42P01")));
}

/// (times planned, times a kept plan was taken) since the server's start.
fn plans(server: &Server) -> (f64, f64) {
    let of = |name: &str| tokio::task::block_in_place(|| server.metric(name)).expect("the counter is there");
    (of("eddyline_plans_total"), of("eddyline_plans_reused_total"))
}

/// However often it runs, a prepared query is planned at its first run, and once more when its relation has changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_made_once_for_many_runs() {
    const RUNS: usize = 20;
    let server = Server::start(ServerOptions::default());
    let (client, other) = (server.connect().await, server.connect().await);
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
    let queries = ["SELECT v FROM t WHERE k = $1", "SELECT max(v) FROM t WHERE k <= $1 GROUP BY k"];
    let mut prepared = Vec::new();
    for query in queries {
        prepared.push(client.prepare(query).await.expect("a statement"));
    }
    for (table, expected) in
        [("", "one"), ("DROP TABLE t; CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'new')", "new")]
    {
        run(&other, table).await;
        for statement in &prepared {
            let (planned, reused) = plans(&server);
            for _ in 0..RUNS {
                assert_eq!(one(&client, statement, 1).await, [expected]);
            }
            assert_eq!(plans(&server), (planned + 1.0, reused + RUNS as f64 - 1.0), "after {table:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_follows_the_session() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY, at TIMESTAMPTZ); INSERT INTO t VALUES (1, '2026-01-01 12:00:00+00')").await;
    let read = client.prepare("SELECT k FROM t WHERE at = CAST(CAST($1 AS TEXT) AS TIMESTAMPTZ) OR at = TIMESTAMPTZ '2026-01-01 12:00:00'");
    let read = read.await.expect("a statement");
    let count = async || client.query(&read, &[&"2026-01-01 12:00:00"]).await.expect("rows").len();
    assert_eq!(count().await, 1, "in UTC");
    run(&client, "SET timezone = 'Asia/Tokyo'").await;
    assert_eq!(count().await, 0, "texts are read in the session's zone");
    run(&client, "RESET timezone").await;
    assert_eq!(count().await, 1);

    let zone = client.prepare("SELECT current_setting('timezone'), k FROM t WHERE k = $1").await.expect("a statement");
    let seen = async || client.query_one(&zone, &[&1i64]).await.expect("a row").get::<_, String>(0);
    assert_eq!(seen().await, "UTC");
    run(&client, "SET timezone = 'Asia/Tokyo'").await;
    assert_eq!(seen().await, "Asia/Tokyo");

    // A temporary view hides the table, and goes.
    let by_key = client.prepare("SELECT k FROM t WHERE k = $1").await.expect("a statement");
    let found = async || client.query(&by_key, &[&1i64]).await.expect("rows").len();
    assert_eq!(found().await, 1);
    run(&client, "CREATE TEMPORARY VIEW t AS SELECT CAST(5 AS BIGINT) AS k").await;
    assert_eq!(found().await, 0);
    run(&client, "DROP VIEW t").await;
    assert_eq!(found().await, 1);

    // The clock goes on.
    let now = client.prepare("SELECT CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT) FROM t WHERE k = $1").await.expect("a statement");
    let first: i64 = client.query_one(&now, &[&1i64]).await.expect("a row").get(0);
    let second: i64 = client.query_one(&now, &[&1i64]).await.expect("a row").get(0);
    assert!(second > first, "{first} and {second}");
    assert_eq!(number(&client, "SELECT count(*) FROM t").await, 1);
}

/// A client reads rows as they were described to it: those of other types are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_as_it_was_described() {
    let server = Server::start(ServerOptions::default());
    let (client, other) = (server.connect().await, server.connect().await);
    run(&other, "CREATE TABLE t (a INT, b TEXT NOT NULL)").await;
    let read = client.prepare("SELECT * FROM t").await.expect("a statement");
    run(&client, "PREPARE p AS SELECT * FROM t; EXECUTE p").await;
    for changed in ["a BIGINT, b TEXT", "a INT, b TEXT, c INT", "a INT", "b TEXT, a INT"] {
        run(&other, &format!("DROP TABLE t; CREATE TABLE t ({changed})")).await;
        let refused = [client.query(&read, &[]).await.map(drop), client.batch_execute("EXECUTE p").await];
        for result in refused {
            let Err(error) = result else { panic!("rows of {changed}") };
            let error = error.as_db_error().expect("the server says it");
            assert_eq!((error.code().code(), error.message()), ("0A000", "cached plan must not change result type"), "{changed}");
        }
    }
    run(&other, "DROP TABLE t; CREATE TABLE t (a INT PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'one')").await;
    assert_eq!(client.query(&read, &[]).await.expect("rows").len(), 1);
    run(&client, "EXECUTE p").await;
}

/// A pattern that is a parameter is known when the statement runs, and so may its escape be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_that_comes_with_the_call_has_its_escape() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, '50%'), (2, '50x'), (3, 'A_'), (4, NULL)").await;
    let like = client.prepare("SELECT k FROM t WHERE v LIKE $1 ESCAPE '/' ORDER BY k").await.expect("a statement");
    for (pattern, expected) in [(Some("50/%"), vec![1]), (Some("50%"), vec![1, 2]), (None, vec![])] {
        let found = client.query(&like, &[&pattern]).await.expect("rows");
        assert_eq!(found.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), expected, "{pattern:?}");
    }
    let by_both = client.prepare("SELECT k FROM t WHERE v NOT ILIKE $1 ESCAPE $2 ORDER BY k").await.expect("a statement");
    let found = client.query(&by_both, &[&"a#_", &"#"]).await.expect("rows");
    assert_eq!(found.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1, 2]);
    let refused = client.query(&by_both, &[&"a", &"##"]).await;
    assert!(refused.is_err_and(|e| e.code().is_some_and(|code| code.code() == "22025")));
    run(&client, "PREPARE p (TEXT) AS SELECT v FROM t WHERE v LIKE $1 ESCAPE '/'").await;
    assert_eq!(rows(&client, "EXECUTE p ('50/%')").await, [[Some("50%".to_string())]]);
}
