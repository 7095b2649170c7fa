//! Queries that need more memory than there is: they spill into the data directory, within a bound, and clean up after themselves.

use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::time::Duration;

/// Two million rows sorted by what they do not come in; one number of all of them.
const SORT: &str = "SELECT SUM(n * id)::bigint % 1000 FROM
    (SELECT id, ROW_NUMBER() OVER (ORDER BY pad, id) % 10 AS n FROM
        (SELECT i AS id, 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' || (i::bigint * 7919) % 1000003 AS pad FROM generate_series(0, 1999999) AS s(i)))";

fn spilled_bytes(server: &Server) -> u64 {
    fn below(dir: &std::path::Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
        // A file that a query removes meanwhile has no bytes.
        let size = |e: std::fs::DirEntry| e.metadata().map_or(0, |m| if m.is_dir() { below(&e.path()) } else { m.len() });
        entries.filter_map(Result::ok).map(size).sum()
    }
    below(&server.data_dir().join("data").join("state").join("spill"))
}

async fn nothing_is_left(server: &Server) {
    until("what a query spilled goes with it", || async { (spilled_bytes(server) == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sort_larger_than_memory_gives_the_same_rows() {
    let mut server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    let in_memory: i64 = client.query_one(SORT, &[]).await.expect("memory does").get(0);
    server.options.settings = &["--query-memory", "64MiB"];
    server.kill_and_restart();
    let client = server.connect().await;
    let sorting = tokio::spawn(async move { client.query_one(SORT, &[]).await.map(|row| row.get::<_, i64>(0)) });
    let mut spilled = 0;
    while !sorting.is_finished() {
        spilled = spilled.max(spilled_bytes(&server));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(sorting.await.expect("it is asked").expect("the disk does"), in_memory);
    assert!(spilled > 1 << 20, "it spilled {spilled} bytes");
    nothing_is_left(&server).await;

    server.options.settings = &["--query-memory", "64MiB", "--query-spill", "4MiB"];
    server.kill_and_restart();
    let client = server.connect().await;
    let error = client.query_one(SORT, &[]).await.expect_err("neither does");
    let error = error.as_db_error().expect("the server says so");
    assert_eq!(error.code().code(), "53400", "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("query_spill")), "{error:?}");
    let one: i64 = client.query_one("SELECT 1::bigint", &[]).await.expect("the session goes on").get(0);
    assert_eq!(one, 1);
    nothing_is_left(&server).await;
}

/// What a join without equal columns holds of one side is not spilled: whatever that side is made by, the query ends with an error of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_does_not_fit_is_out_of_memory() {
    let server = Server::start(ServerOptions { settings: &["--query-memory", "4MiB"], ..Default::default() });
    let client = server.connect().await;
    let large = "SELECT COUNT(*) FROM generate_series(1, 2000000) AS a(x), generate_series(1, 3000) AS b(y) WHERE x * y = -1";
    let small = "SELECT COUNT(*) FROM generate_series(1, 1000) AS a(x), generate_series(1, 3000) AS b(y) WHERE x * y = -1";
    let outer = "SELECT COUNT(*) FROM generate_series(1, 2000000) AS a(x) LEFT JOIN generate_series(1, 3000000) AS b(y) ON x * y = -1";
    for query in [large, outer] {
        let error = client.query_one(query, &[]).await.expect_err("it does not fit");
        let error = error.as_db_error().expect("the server says so");
        assert_eq!(error.code().code(), "53200", "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("query_memory")), "{error:?}");
    }
    let none: i64 = client.query_one(small, &[]).await.expect("it fits").get(0);
    assert_eq!(none, 0);
    assert!(!server.log().contains("panicked"), "{}", server.log());
    nothing_is_left(&server).await;
}

/// A window whose frames go on to the end holds all rows at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_window_holds_counts() {
    let server = Server::start(ServerOptions { settings: &["--query-memory", "8MiB"], ..Default::default() });
    let client = server.connect().await;
    let of = |rows: i64, over: &str| {
        format!("SELECT MAX(s)::bigint FROM (SELECT SUM(x) OVER ({over}) AS s FROM generate_series(1, {rows}) AS t(x)) AS w")
    };
    for over in ["", "PARTITION BY x % 10"] {
        let error = client.query_one(of(3_000_000, over).as_str(), &[]).await.expect_err("it does not fit");
        let error = error.as_db_error().expect("the server says so");
        assert!(error.code().code() == "53200" && error.hint().is_some_and(|hint| hint.contains("query_memory")), "{error:?}");
    }
    // What ended has given all of it back.
    for _ in 0..20 {
        let sum: i64 = client.query_one(of(100_000, "").as_str(), &[]).await.expect("it fits").get(0);
        assert_eq!(sum, 5_000_050_000);
    }
    // Nor does a run of a recursive query keep what the one before it took.
    let again = format!(
        "WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM r, ({}) AS w(m) WHERE n < 20 AND m > 0) SELECT COUNT(*) FROM r",
        of(100_000, "")
    );
    let count: i64 = client.query_one(again.as_str(), &[]).await.expect("it fits").get(0);
    assert_eq!(count, 21);
    let last: i64 = client.query_one(of(100_000, "ORDER BY x").as_str(), &[]).await.expect("it needs one row at a time").get(0);
    assert_eq!(last, 5_000_050_000);
}

/// What subqueries give that are run row by row counts, and no more of it is asked for than says what is wanted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_correlated_subqueries_count() {
    let server = Server::start(ServerOptions { settings: &["--query-memory", "8MiB"], ..Default::default() });
    let client = server.connect().await;
    let lateral = |rows: i32| {
        format!(
            "SELECT COUNT(*) FROM generate_series(1, 300) AS t(x),
                LATERAL (SELECT b.y + t.x AS z FROM generate_series(1, 20000) AS b(y) LIMIT {rows}) AS s"
        )
    };
    let several = "SELECT (SELECT b.y + t.x FROM generate_series(1, 3000000) AS b(y) LIMIT 3000000) FROM generate_series(1, 2) AS t(x)";
    for (query, code) in [(lateral(20_000), "53200"), (several.to_string(), "21000")] {
        let error = client.query(query.as_str(), &[]).await.expect_err("too much, or too many");
        assert_eq!(error.code().map(|state| state.code()), Some(code), "{error:?}");
    }
    let exists = "SELECT COUNT(*) FROM generate_series(1, 300) AS t(x)
        WHERE EXISTS (SELECT b.y + t.x FROM generate_series(1, 3000000) AS b(y) WHERE b.y > t.x OR t.x IS NULL LIMIT 3000000)";
    for (query, rows) in [(lateral(20), 6000), (exists.to_string(), 300)] {
        let count: i64 = client.query_one(query.as_str(), &[]).await.expect("it fits").get(0);
        assert_eq!(count, rows);
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
