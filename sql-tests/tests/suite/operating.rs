//! What an operator asks of a server with psql: who is connected and at what, what went wrong, what lags, what is set.

use eddyline_sql_tests::client::{number, rows, run};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

async fn text(client: &Client, query: &str) -> Option<String> {
    rows(client, query).await.into_iter().next()?.into_iter().next()?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_seen_and_ended() {
    let server = Server::start(ServerOptions::default());
    let (operator, other) = (server.connect().await, server.connect().await);
    run(&other, "SET application_name = 'report'").await;
    let pid = number(&other, "SELECT pg_backend_pid()::bigint").await;
    let sleeping = tokio::spawn(async move {
        let ended = other.batch_execute("SELECT pg_sleep(600)").await;
        (other, ended)
    });
    let state = format!("SELECT state || ' ' || application || ' ' || statement FROM eddyline.sessions WHERE pid = {pid}");
    until("it is seen at work", || async {
        (text(&operator, &state).await.as_deref() == Some("active report SELECT pg_sleep(600)")).then_some(())
    })
    .await;
    let activity = format!("SELECT state || ' ' || query FROM pg_stat_activity WHERE pid = {pid} AND client_port > 0");
    assert_eq!(text(&operator, &activity).await.as_deref(), Some("active SELECT pg_sleep(600)"));
    assert_eq!(text(&operator, &format!("SELECT pg_cancel_backend({pid})")).await.as_deref(), Some("t"));
    let (other, ended) = sleeping.await.expect("the task ends");
    assert_eq!(ended.expect_err("it was cancelled").code().map(|c| c.code().to_string()), Some("57014".to_string()));
    run(&other, "CREATE SOURCE hook (a BIGINT) WITH (connector = 'webhook', webhook.token = 'hunter') FORMAT PLAIN ENCODE JSON").await;
    for (column, of) in [("statement", "eddyline.sessions"), ("query", "pg_stat_activity")] {
        let shown = text(&operator, &format!("SELECT {column} FROM {of} WHERE pid = {pid}")).await;
        let without = "CREATE SOURCE hook (a BIGINT) WITH (connector = 'webhook', webhook.token = '***') FORMAT PLAIN ENCODE JSON";
        assert_eq!(shown.as_deref(), Some(without));
    }
    run(&other, "BEGIN").await;
    let state = format!("SELECT state FROM eddyline.sessions WHERE pid = {pid}");
    assert_eq!(text(&operator, &state).await.as_deref(), Some("idle in transaction"));
    assert_eq!(text(&operator, &format!("SELECT pg_terminate_backend({pid})")).await.as_deref(), Some("t"));
    until("the session is gone", || async { text(&operator, &state).await.is_none().then_some(()) }).await;
    assert!(other.batch_execute("SELECT 1").await.is_err(), "its client notices");
    assert_eq!(text(&operator, &format!("SELECT pg_cancel_backend({pid})")).await.as_deref(), Some("f"));
    assert_eq!(number(&operator, "SELECT COUNT(*) FROM eddyline.sessions").await, 1);
}

/// One that sends statements, and reads none of the answers: the server waits until the socket takes more of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_though_its_client_does_not_read() {
    let server = Server::start(ServerOptions::default());
    let operator = server.connect().await;
    let mut silent = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
    let startup = b"\0\x03\0\0user\0eddyline\0database\0eddyline\0\0";
    silent.write_all(&(startup.len() as u32 + 4).to_be_bytes()).expect("the length");
    silent.write_all(startup).expect("the startup message");
    let statement = b"SELECT repeat('x', 30000)\0";
    let mut message = b"Q".to_vec();
    message.extend((statement.len() as u32 + 4).to_be_bytes());
    message.extend(statement);
    silent.set_nonblocking(true).expect("a socket that does not wait");
    // Answers of a gigabyte.
    let _all_that_it_takes = silent.write_all(&message.repeat(30_000));
    let state = "SELECT pid::text || ' ' || state FROM eddyline.sessions WHERE pid <> pg_backend_pid()";
    let since =
        "SELECT COUNT(*) FROM eddyline.sessions WHERE state = 'active' AND pid <> pg_backend_pid() AND since < now() - INTERVAL '1 second'";
    until("it waits", || async { (number(&operator, since).await == 1).then_some(()) }).await;
    let shown = text(&operator, state).await.expect("the session");
    let pid = shown.strip_suffix(" active").expect("it is at work");
    assert_eq!(text(&operator, &format!("SELECT pg_terminate_backend({pid})")).await.as_deref(), Some("t"));
    until("the session is gone", || async { text(&operator, state).await.is_none().then_some(()) }).await;
}

/// A scraper that died in the middle of its request keeps nobody waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stops_though_a_request_is_half_sent() {
    let mut server = Server::start(ServerOptions::default());
    let mut half = TcpStream::connect(("127.0.0.1", server.http_port)).expect("the HTTP port is open");
    half.write_all(b"GET /healthz HT").expect("a part is sent");
    assert!(server.metric("eddyline_epoch").is_some(), "whoever came later is answered");
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(20));
        drop(half);
    });
    let begun = Instant::now();
    let ended = tokio::task::block_in_place(|| server.stop());
    assert!(ended.success() && begun.elapsed() < Duration::from_secs(15), "{ended} after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_show_what_counts() {
    let server = Server::start(ServerOptions { workers: 1, settings: &["--max-connections", "7"], ..Default::default() });
    let client = server.connect().await;
    for told in ["SHOW max_connections", "SELECT current_setting('max_connections')", "RESET ALL; SHOW max_connections"] {
        assert_eq!(text(&client, told).await.as_deref(), Some("7"), "{told}");
    }
    let setting = async |name: &str| rows(&client, &format!("SELECT value, changed_by FROM eddyline.settings WHERE name = '{name}'")).await;
    let row = |value: &str, by: &str| vec![vec![Some(value.to_string()), Some(by.to_string())]];
    assert_eq!(setting("workers").await, row("1", "restart"));
    assert_eq!(setting("snapshot_age").await, row("3600 s", "ALTER SYSTEM"));
    run(&client, "ALTER SYSTEM SET snapshot_age = '10 min'").await;
    assert_eq!(setting("snapshot_age").await, row("600 s", "ALTER SYSTEM"));
    assert_eq!(setting("data_dir").await, row(&server.data_dir().join("data").display().to_string(), "restart"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_wrong_is_told() {
    let mut server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT PRIMARY KEY, n INT)").await;
    run(&client, "CREATE MATERIALIZED VIEW strict AS SELECT id, 100 / n AS share FROM t WITH (on_error = 'stop')").await;
    assert_eq!(number(&client, "SELECT COUNT(*) FROM eddyline.errors").await, 0);
    run(&client, "INSERT INTO t VALUES (1, 0)").await;
    let told =
        "SELECT level, relation, message FROM eddyline.errors WHERE level = 'error' AND at BETWEEN now() - INTERVAL '1 minute' AND now()";
    let found = until("the view stops", || async { rows(&client, told).await.into_iter().next() }).await;
    assert_eq!(found[..2], [Some("error".to_string()), Some("strict".to_string())]);
    assert!(found[2].as_ref().is_some_and(|message| message.contains("division by zero")), "{found:?}");
    // Its state has one name, and its error stays the same through restarts, each of which reads what the last one wrote.
    let mut client = client;
    for _ in 0..3 {
        let listed = rows(&client, "SELECT state, error FROM eddyline.jobs WHERE job = 'strict'").await.swap_remove(0);
        assert_eq!(listed, ["stopped", "division by zero (SQLSTATE 22012)"].map(|text| Some(text.to_string())));
        let shown = rows(&client, "SHOW JOBS").await.swap_remove(0);
        assert_eq!([&shown[1], &shown[7]], [&listed[0], &listed[1]]);
        tokio::task::block_in_place(|| {
            server.stop();
            server.launch().expect("the server starts again");
        });
        client = server.connect().await;
    }
    // Another policy does not bring it back, and whoever asks it to go on is told what does.
    run(&client, "ALTER MATERIALIZED VIEW strict SET (on_error = 'reject')").await;
    let refused = client.batch_execute("ALTER MATERIALIZED VIEW strict RESUME").await.expect_err("it has stopped");
    let refused = refused.as_db_error().expect("an error of the server");
    assert_eq!((refused.code().code(), refused.message()), ("55000", "materialized view \"strict\" has stopped"));
    assert!(refused.hint().is_some_and(|hint| hint.contains("CREATE OR REPLACE")), "{refused:?}");
    run(&client, "CREATE OR REPLACE MATERIALIZED VIEW strict AS SELECT id, 100 / n AS share FROM t").await;
    run(&client, "INSERT INTO t VALUES (2, 5)").await;
    assert_eq!(number(&client, "SELECT SUM(share)::bigint FROM strict").await, 20);
}

/// What tools read of an error instead of its words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn violations_name_what_they_violate() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE kept (id INT PRIMARY KEY, n INT NOT NULL); INSERT INTO kept VALUES (1, 1)").await;
    let duplicate = client.batch_execute("INSERT INTO kept VALUES (1, 2)").await.expect_err("a key that is there");
    let missing = client.batch_execute("INSERT INTO kept VALUES (2, NULL)").await.expect_err("a null");
    for (error, column, constraint) in [(duplicate, None, Some("kept_pkey")), (missing, Some("n"), None)] {
        let error = error.as_db_error().expect("the server says it");
        assert_eq!((error.schema(), error.table()), (Some("public"), Some("kept")));
        assert_eq!((error.column(), error.constraint()), (column, constraint));
    }
}

/// Figures of a source and of what reads it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_lag_and_stored_state() {
    let server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let client = server.connect().await;
    run(
        &client,
        "CREATE SOURCE bid (auction BIGINT, price BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.rate = '2000')",
    )
    .await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT auction, COUNT(*) AS n FROM bid GROUP BY auction").await;
    run(&client, "CREATE MATERIALIZED VIEW stays AS SELECT auction FROM bid").await;
    until("a second is over", || async {
        let source = number(&client, "SELECT MIN(records_per_second) FROM eddyline.sources WHERE source = 'bid'").await;
        let job = number(&client, "SELECT rows_per_second FROM eddyline.jobs WHERE job = 'counted'").await;
        let busy = number(&client, "SELECT busy_micros_per_second FROM eddyline.jobs WHERE job = 'counted'").await;
        assert!(busy <= 1_000_000 * server.options.workers as i64, "{busy} microseconds a second");
        (source > 0 && job > 0 && busy > 0).then_some(())
    })
    .await;
    let stored = "SELECT stored_bytes FROM eddyline.jobs WHERE job = 'counted'";
    until("a checkpoint has its state", || async { (number(&client, stored).await > 0).then_some(()) }).await;
    run(&client, "ALTER MATERIALIZED VIEW stays PAUSE").await;
    let lag = async |job: &str| number(&client, &format!("SELECT lag_micros FROM eddyline.jobs WHERE job = '{job}'")).await;
    until("what is paused lags", || async { (lag("stays").await > 300_000).then_some(()) }).await;
    assert!(lag("counted").await < lag("stays").await);
}

/// A server that has nothing to do after a restart shows its jobs where they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_server_shows_where_its_jobs_are() {
    let mut server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (g INT)").await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT g, COUNT(*) AS n FROM t GROUP BY g").await;
    run(&client, "INSERT INTO t SELECT * FROM generate_series(1, 1000)").await;
    assert_eq!(number(&client, "SELECT COUNT(*) FROM counted").await, 1000);
    let epochs = "SELECT MIN(epoch) FROM eddyline.jobs";
    let before = number(&client, epochs).await;
    assert!(before > 0);
    // The last checkpoint has everything: nothing is replayed.
    tokio::task::block_in_place(|| {
        server.stop();
        server.launch().expect("the server starts again");
    });
    let client = server.connect().await;
    assert!(number(&client, epochs).await >= before, "they are where they were");
    let lag = "SELECT MAX(lag_micros) FROM eddyline.jobs";
    until("none lags", || async { (number(&client, lag).await == 0).then_some(()) }).await;
    assert!(number(&client, "SELECT stored_bytes FROM eddyline.jobs WHERE job = 'counted'").await > 0);
}

/// docs/operations.md names every column of what there is to look at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_column_is_documented() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    let docs = include_str!("../../../docs/operations.md");
    let named = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let relations =
        "sources jobs sinks late_rows rejected_rows undecodable_records checkpoints operators options comments sessions settings errors";
    for relation in relations.split(' ') {
        let (_, row) = named.clone().find(|(name, _)| *name == relation).expect("it has a row");
        let statement = client.prepare(&format!("SELECT * FROM eddyline.{relation}")).await.expect("a relation");
        for column in statement.columns() {
            assert!(row.contains(&format!("`{}`", column.name())), "{relation}.{}", column.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_late_rows_the_newest_are_kept() {
    let server = Server::start(ServerOptions { workers: 1, ..Default::default() });
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT, at TIMESTAMP, WATERMARK FOR at AS at) APPEND ONLY").await;
    let windows = "SELECT window_start, MAX(id) AS m FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end";
    run(&client, &format!("CREATE MATERIALIZED VIEW per_minute AS {windows} EMIT ON WINDOW CLOSE")).await;
    run(&client, "INSERT INTO t VALUES (0, TIMESTAMP '2026-01-02 00:00:00')").await;
    run(&client, "INSERT INTO t SELECT i, TIMESTAMP '2026-01-01 00:00:00' FROM generate_series(1, 1500) AS s(i)").await;
    run(&client, "FLUSH").await;
    let those = |id: u32| format!("COUNT(*) FILTER (WHERE row LIKE '%:{id}%')");
    let kept = rows(&client, &format!("SELECT COUNT(*), {}, {} FROM eddyline.late_rows", those(500), those(501))).await;
    assert_eq!(kept, [["1000", "0", "1"].map(|n| Some(n.to_string()))]);
    assert_eq!(number(&client, "SELECT late FROM eddyline.jobs WHERE job = 'per_minute'").await, 1500);
}
