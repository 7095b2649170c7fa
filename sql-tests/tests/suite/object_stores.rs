//! Checkpoints, sources and sinks on a server that speaks S3, which goes away in between: nothing is lost, nothing is there twice,
//! and what is wrong is told where one looks.

use eddyline_sql_tests::s3::{S3Server, SECRET_KEY};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::path::Path;
use tokio_postgres::Client;

fn options(s3: &S3Server) -> ServerOptions {
    ServerOptions { checkpoint_interval: "100ms", variables: s3.variables(), ..Default::default() }
}

fn in_s3(s3: &S3Server) -> ServerOptions {
    ServerOptions { checkpoint_store: Some("s3://bucket/checkpoints/one".to_string()), ..options(s3) }
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn number(client: &Client, query: &str) -> Option<i64> {
    client.query_one(query, &[]).await.ok()?.try_get::<_, Option<i64>>(0).ok().flatten()
}

async fn text(client: &Client, query: &str) -> Option<String> {
    client.query_opt(query, &[]).await.ok()??.try_get::<_, Option<String>>(0).ok().flatten()
}

/// A checkpoint that has everything which is there now.
async fn checkpoint(client: &Client) {
    let good = "SELECT MAX(checkpoint) FROM eddyline.checkpoints WHERE problem IS NULL";
    let before = number(client, good).await.unwrap_or(0);
    run(client, "INSERT INTO ticks VALUES (1)").await;
    until("a checkpoint is written", || async { number(client, good).await.filter(|id| *id > before) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_in_s3_outlive_the_local_state() {
    let s3 = S3Server::start();
    let mut server = Server::start(in_s3(&s3));
    let client = server.connect().await;
    run(&client, "CREATE TABLE ticks (n INT) APPEND ONLY; CREATE TABLE t (k INT PRIMARY KEY, v TEXT)").await;
    run(&client, "CREATE MATERIALIZED VIEW per_length AS SELECT length(v) AS l, COUNT(*) AS n, MAX(k) AS k FROM t GROUP BY length(v)")
        .await;
    let mut rows = 0;
    for round in 1..=3 {
        let client = server.connect().await;
        // Enough for more than one part of an upload.
        let insert = format!(
            "INSERT INTO t SELECT x, repeat('x', 150 + (x % 10)::int) FROM generate_series({rows}, {}) AS s(x); DELETE FROM t WHERE k = {rows}",
            rows + 29_999
        );
        run(&client, &insert).await;
        rows += 30_000;
        checkpoint(&client).await;
        server.kill();
        // What a checkpoint brings back; the log, which goes on after it, stays.
        std::fs::remove_dir_all(server.data_dir().join("data/state")).expect("the state goes");
        server.launch().expect("the server starts again");
        let client = server.connect().await;
        let wanted = rows - round;
        assert_eq!(number(&client, "SELECT SUM(n)::bigint FROM per_length").await, Some(wanted), "round {round}");
        let differing =
            "SELECT COUNT(*) FROM (SELECT length(v), COUNT(*), MAX(k) FROM t GROUP BY length(v) EXCEPT SELECT * FROM per_length) AS d";
        assert_eq!(number(&client, differing).await, Some(0));
        assert!(server.log().contains("checkpoint") || s3.folder("checkpoints/one/manifests").is_dir());
    }
    assert!(!server.data_dir().join("data/checkpoints").exists(), "there are no local checkpoints");
    assert!(s3.folder("checkpoints/one/manifests").read_dir().expect("manifests are there").count() >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_away_holds_up_checkpoints_only() {
    let mut s3 = S3Server::start();
    let mut server = Server::start(in_s3(&s3));
    let client = server.connect().await;
    run(&client, "CREATE TABLE ticks (n INT) APPEND ONLY; CREATE MATERIALIZED VIEW v AS SELECT COUNT(*) AS n FROM ticks").await;
    checkpoint(&client).await;
    s3.stop();
    run(&client, "INSERT INTO ticks VALUES (2)").await;
    let problem = "SELECT problem FROM eddyline.checkpoints WHERE problem IS NOT NULL ORDER BY checkpoint DESC LIMIT 1";
    let told = until("the failure is told", || async { text(&client, problem).await }).await;
    assert!(told.contains("08006") && told.contains("Check the endpoint"), "{told}");
    assert_eq!(number(&client, "SELECT n FROM v").await, Some(2), "nothing else waits");
    s3.restart();
    checkpoint(&client).await;
    // A start waits for a store that comes up later.
    s3.stop();
    server.kill();
    let s3 = tokio::task::block_in_place(|| {
        let later = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(1_500));
            s3.restart();
            s3
        });
        server.launch().expect("the server starts once the store is there");
        later.join().expect("the store is there")
    });
    let client = server.connect().await;
    assert_eq!(number(&client, "SELECT n FROM v").await, Some(3));
    drop(client);
    // What a start is refused for says what to do.
    let refused = |mut options: ServerOptions, store: &str, secret: &str| {
        options.checkpoint_store = Some(store.to_string());
        options.variables.push(("AWS_SECRET_ACCESS_KEY".to_string(), secret.to_string()));
        Server::prepare(options).launch().expect_err("the start is refused")
    };
    let error = refused(options(&s3), "s3://nowhere/a", SECRET_KEY);
    assert!(error.contains("Create the bucket"), "{error}");
    let error = refused(options(&s3), "s3://bucket/a", "wrong");
    assert!(error.contains("The store refuses these credentials"), "{error}");
    let error = refused(options(&s3), "s3://bucket/checkpoints/one", SECRET_KEY);
    assert!(error.contains("belongs to another server's data directory"), "{error}");
    let error = refused(options(&s3), "viewfs://name/a", SECRET_KEY);
    assert!(error.contains("there is no viewfs:// store"), "{error}");
}

fn with(s3: &S3Server, path: &str, more: &str) -> String {
    format!(
        "WITH (connector = 'filesystem', path = 's3://bucket/{path}', s3.endpoint = '{}', s3.access-key = 'test-key', \
         s3.secret-key = '{SECRET_KEY}', {more})",
        s3.endpoint()
    )
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = dir.read_dir() else { return Vec::new() };
    let entries = entries.map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { names(&path) } else { vec![path.display().to_string()] }).collect()
}

const COLUMNS: &str = "id BIGINT, part TEXT, price DECIMAL(10,2), at TIMESTAMP, tags INT[]";

/// Rows that go out while the server is killed and the store goes away; how many there are.
async fn out_through_kills(server: &mut Server, s3: &mut S3Server, format: &str) -> i64 {
    let mut client = server.connect().await;
    run(&client, &format!("CREATE TABLE log ({COLUMNS}) APPEND ONLY")).await;
    let sink = with(s3, "out", "partition_by = 'part', sink.rolling-policy.rollover-interval = '100 ms'");
    run(&client, &format!("CREATE SINK leaving FROM log {sink} FORMAT PLAIN ENCODE {format}")).await;
    let mut next = 0;
    for round in 0..4 {
        for _ in 0..10 {
            let insert = format!(
                "INSERT INTO log SELECT x, CASE WHEN x % 3 = 0 THEN NULL ELSE 'p/' || x % 3 END, x / 8.0, TIMESTAMP '2024-01-01' + x * \
                 INTERVAL '1 second', ARRAY[x::int, NULL] FROM generate_series({next}, {}) AS s(x)",
                next + 9
            );
            run(&client, &insert).await;
            next += 10;
        }
        if round != 1 {
            tokio::task::block_in_place(|| server.kill_and_restart());
            client = server.connect().await;
            continue;
        }
        s3.stop();
        run(&client, "INSERT INTO log VALUES (-1, 'x', NULL, NULL, NULL)").await;
        let problem = "SELECT problem FROM eddyline.sinks WHERE sink = 'leaving'";
        let told = until("the sink says what it waits for", || async { text(&client, problem).await }).await;
        assert!(told.contains("08006"), "{told}");
        s3.restart();
    }
    let idle = "SELECT COUNT(*) FROM eddyline.sinks WHERE waiting_bytes = 0 AND problem IS NULL";
    until("all rows are sent", || async { (number(&client, idle).await? == 1).then_some(()) }).await;
    next + 1
}

/// What leaves by a sink comes back by a source: each row once, through kills and a store that goes away.
async fn there_and_back(format: &str) {
    let mut s3 = S3Server::start();
    // Options of the statements say where the store is.
    let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let rows = out_through_kills(&mut server, &mut s3, format).await;
    let client = server.connect().await;
    let source = with(&s3, "out", "partition_by = 'part', source.monitor-interval = '50 ms'");
    run(&client, &format!("CREATE SOURCE back ({COLUMNS}) {source} FORMAT PLAIN ENCODE {format}")).await;
    run(&client, "CREATE MATERIALIZED VIEW seen AS SELECT * FROM back").await;
    for _ in 0..2 {
        tokio::task::block_in_place(|| server.kill_and_restart());
    }
    let client = server.connect().await;
    s3.stop();
    let problem = "SELECT problem FROM eddyline.sources WHERE source = 'back'";
    let told = until("the source says what it waits for", || async { text(&client, problem).await }).await;
    assert!(told.contains("Check the endpoint"), "{told}");
    s3.restart();
    // One more, behind those that were read.
    run(&client, "INSERT INTO log VALUES (-2, 'x', 1.5, NULL, ARRAY[1])").await;
    until("every row is back, once", || async {
        let count = number(&client, "SELECT COUNT(*) FROM seen").await?;
        let differing = "SELECT COUNT(*) FROM (SELECT * FROM log EXCEPT SELECT * FROM seen) AS d";
        (count == rows + 1 && number(&client, differing).await? == 0).then_some(())
    })
    .await;
    until("the source is well again", || async { text(&client, problem).await.is_none().then_some(()) }).await;
    let names = names(&s3.folder("out"));
    assert!(names.iter().all(|name| !name.contains("inprogress")), "{names:?}");
    let secrets = number(&client, &format!("SELECT COUNT(*) FROM eddyline.options WHERE value = '{SECRET_KEY}'")).await;
    assert_eq!(secrets, Some(0), "secrets are not shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parquet_to_s3_and_back() {
    there_and_back("PARQUET").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_to_s3_and_back() {
    there_and_back("JSON").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_many_parts() {
    let s3 = S3Server::start();
    let server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..options(&s3) });
    let client = server.connect().await;
    run(&client, "CREATE TABLE log (id BIGINT, v TEXT) APPEND ONLY").await;
    let sink = "CREATE SINK big FROM log WITH (connector = 'filesystem', path = 's3://bucket/big', sink.rolling-policy.rollover-interval = '1 s') \
                FORMAT PLAIN ENCODE JSON";
    run(&client, sink).await;
    run(&client, "INSERT INTO log SELECT x, repeat('y', 1000) FROM generate_series(1, 20000) AS s(x)").await;
    let size = || names(&s3.folder("big")).iter().map(|name| std::fs::metadata(name).map_or(0, |m| m.len())).sum::<u64>();
    until("all rows are there", || async { (size() > 20_000_000).then_some(()) }).await;
    run(&client, "CREATE SOURCE big_back (id BIGINT, v TEXT) WITH (connector = 'filesystem', path = 's3://bucket/big/*.json') FORMAT PLAIN ENCODE JSON")
        .await;
    let query = "SELECT SUM(id)::bigint FROM big_back WHERE length(v) = 1000";
    assert_eq!(number(&client, query).await, Some(20_000 * 20_001 / 2));
    // What a source is refused for says what to do.
    let refused = async |path: &str, more: &str| {
        let statement =
            format!("CREATE SOURCE no (id BIGINT) WITH (connector = 'filesystem', path = '{path}'{more}) FORMAT PLAIN ENCODE JSON");
        let error = client.batch_execute(&statement).await.expect_err("it is refused");
        let error = error.as_db_error().expect("an error of the server");
        (error.code().code().to_string(), format!("{} {}", error.message(), error.hint().unwrap_or_default()))
    };
    for (path, more, code, words) in [
        ("s3://nowhere/a", "", "42704", "Create the bucket"),
        ("s3://bucket/none/*.json", "", "42704", "no file fits"),
        ("s3://bucket/big/*.json", ", s3.secret-key = 'wrong'", "42501", "refuses these credentials"),
        ("s3://bucket/big/*.json", ", s3.endpoint = 'http://127.0.0.1:1'", "08006", "Check the endpoint"),
        ("s3://bucket/big/*.json", ", s3.endpont = 'x'", "42704", "Perhaps you meant \"s3.endpoint\""),
    ] {
        let (found, said) = refused(path, more).await;
        assert!(found == code && said.contains(words), "{path}{more}: {found} {said}");
    }
}
