//! What holds on every store: checkpoints in it outlive the local state, and what leaves by a sink comes back by a source, each row
//! once, through kills and a store that goes away.

pub use eddyline_sql_tests::client::run;
use eddyline_sql_tests::client::{problem_of, refused};
use eddyline_sql_tests::stores::Store;
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::time::Duration;
use tokio::task::block_in_place;
use tokio_postgres::Client;
use tokio_postgres::error::DbError;

/// A server that finds the store by its environment.
pub fn options(store: &dyn Store) -> ServerOptions {
    ServerOptions { checkpoint_interval: "100ms", variables: store.variables(), ..Default::default() }
}

pub fn with_checkpoints(store: &dyn Store, path: &str) -> ServerOptions {
    ServerOptions { checkpoint_store: Some(store.url(path)), ..options(store) }
}

pub async fn number(client: &Client, query: &str) -> Option<i64> {
    client.query_one(query, &[]).await.ok()?.try_get::<_, Option<i64>>(0).ok().flatten()
}

pub async fn text(client: &Client, query: &str) -> Option<String> {
    client.query_opt(query, &[]).await.ok()??.try_get::<_, Option<String>>(0).ok().flatten()
}

/// A checkpoint that has everything which is there now.
pub async fn checkpoint(client: &Client) {
    let good = "SELECT MAX(checkpoint) FROM eddyline.checkpoints WHERE problem IS NULL";
    let before = number(client, good).await.unwrap_or(0);
    run(client, "INSERT INTO ticks VALUES (1)").await;
    until("a checkpoint is written", || async { number(client, good).await.filter(|id| *id > before) }).await;
}

pub async fn checkpoints_outlive_the_local_state(store: &dyn Store) {
    let mut server = Server::start(with_checkpoints(store, "checkpoints/one"));
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
        assert!(!server.data_dir().join("data/state/restored").exists(), "what a start was given takes no room after it");
        let client = server.connect().await;
        let wanted = rows - round;
        assert_eq!(number(&client, "SELECT SUM(n)::bigint FROM per_length").await, Some(wanted), "round {round}");
        let differing =
            "SELECT COUNT(*) FROM (SELECT length(v), COUNT(*), MAX(k) FROM t GROUP BY length(v) EXCEPT SELECT * FROM per_length) AS d";
        assert_eq!(number(&client, differing).await, Some(0));
    }
    assert!(!server.data_dir().join("data/checkpoints").exists(), "there are no local checkpoints");
    assert!(!block_in_place(|| store.files("checkpoints/one/manifests")).is_empty());
}

/// Leaves the checkpoints of a server at `checkpoints/two`.
pub async fn a_store_that_goes_away_holds_up_checkpoints_only(store: &mut dyn Store) {
    let mut server = Server::start(with_checkpoints(store, "checkpoints/two"));
    let client = server.connect().await;
    run(&client, "CREATE TABLE ticks (n INT) APPEND ONLY; CREATE MATERIALIZED VIEW v AS SELECT COUNT(*) AS n FROM ticks").await;
    checkpoint(&client).await;
    block_in_place(|| store.stop());
    run(&client, "INSERT INTO ticks VALUES (2)").await;
    let problem = "SELECT problem FROM eddyline.checkpoints WHERE problem IS NOT NULL ORDER BY checkpoint DESC LIMIT 1";
    let told = until("the failure is told", || async { text(&client, problem).await }).await;
    assert!(told.contains("08006") && told.contains("Check the endpoint"), "{told}");
    assert_eq!(number(&client, "SELECT n FROM v").await, Some(2), "nothing else waits");
    let failed = || server.metric("eddyline_checkpoint_failures_total");
    until("it is tried again", || async { (failed()? >= 2.0).then_some(()) }).await;
    // That of an attempt under way. Those of others would keep files that RocksDB has done with.
    let images = std::fs::read_dir(server.data_dir().join("data/state/images")).map_or(0, Iterator::count);
    assert!(images <= 1, "{images} images of operator state");
    block_in_place(|| store.restart());
    checkpoint(&client).await;
    // A start waits for a store that comes up later.
    block_in_place(|| store.stop());
    server.kill();
    block_in_place(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(1_500));
                store.restart();
            });
            server.launch().expect("the server starts once the store is there");
        });
    });
    let client = server.connect().await;
    assert_eq!(number(&client, "SELECT n FROM v").await, Some(3));
}

/// How a statement goes wrong at a store.
pub struct Wrong<'a> {
    /// In a bucket that is not there.
    pub url: &'a str,
    /// An option of the store's with credentials that it refuses.
    pub key: (&'a str, &'a str),
    /// An option with an endpoint where nobody is.
    pub endpoint: (&'a str, &'a str),
}

/// All of it, one after the other.
pub async fn as_any_other_store(store: &mut dyn Store, wrong: &Wrong<'_>) {
    checkpoints_outlive_the_local_state(store).await;
    a_store_that_goes_away_holds_up_checkpoints_only(store).await;
    there_and_back(store, Vec::new(), "PARQUET").await;
    let server = Server::start(options(store));
    let client = server.connect().await;
    an_object_of_many_parts(store, &client).await;
    a_right_that_is_lost(store, &client, wrong.key).await;
    what_is_refused(store, &client, wrong).await;
    let error = refused_start(options(store), &store.url("checkpoints/two"));
    assert!(error.contains("belongs to another server's data directory"), "{error}");
}

/// Why a server with its checkpoints there does not start.
pub fn refused_start(options: ServerOptions, place: &str) -> String {
    let options = ServerOptions { checkpoint_store: Some(place.to_string()), ..options };
    block_in_place(|| Server::prepare(options).launch().expect_err("the start is refused").to_string())
}

/// Code, message and hint of a source that is refused.
pub async fn refused_source(client: &Client, path: &str, more: &str) -> (String, String) {
    let statement = format!("CREATE SOURCE no (id BIGINT) WITH (connector = 'filesystem', path = '{path}'{more}) FORMAT PLAIN ENCODE JSON");
    told(&refused(client, &statement).await)
}

/// What is refused says what to do.
pub async fn what_is_refused(store: &dyn Store, client: &Client, wrong: &Wrong<'_>) {
    let given = |(name, value): (&str, &str)| format!(", {name} = '{value}'");
    for (url, more, code, words) in [
        (wrong.url.to_string(), String::new(), "42704", "Create the bucket"),
        (store.url("none/*.json"), String::new(), "42704", "no file fits"),
        (store.url("big/*.json"), given(wrong.key), "42501", "refuses these credentials"),
        (store.url("big/*.json"), given(wrong.endpoint), "08006", "Check the endpoint"),
    ] {
        let (found, said) = refused_source(client, &url, &more).await;
        assert!(found == code && said.contains(words), "{url}{more}: {found} {said}");
    }
}

fn told(error: &DbError) -> (String, String) {
    (error.code().code().to_string(), format!("{} {}", error.message(), error.hint().unwrap_or_default()))
}

fn with(store: &dyn Store, path: &str, more: &str) -> String {
    let options: String = store.options().iter().map(|(name, value)| format!("{name} = '{value}', ")).collect();
    format!("WITH (connector = 'filesystem', path = '{}', {options}{more})", store.url(path))
}

const COLUMNS: &str = "id BIGINT, part TEXT, price DECIMAL(10,2), at TIMESTAMP, tags INT[]";

/// Rows that go out while the server is killed and the store goes away; how many there are.
async fn out_through_kills(server: &mut Server, store: &mut dyn Store, path: &str, format: &str) -> i64 {
    let mut client = server.connect().await;
    run(&client, &format!("CREATE TABLE log ({COLUMNS}) APPEND ONLY")).await;
    let sink = with(store, path, "partition_by = 'part', sink.rolling-policy.rollover-interval = '100 ms'");
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
            block_in_place(|| server.kill_and_restart());
            client = server.connect().await;
            continue;
        }
        block_in_place(|| store.stop());
        run(&client, "INSERT INTO log VALUES (-1, 'x', NULL, NULL, NULL)").await;
        let problem = "SELECT problem FROM eddyline.sinks WHERE sink = 'leaving'";
        let told = until("the sink says what it waits for", || async { text(&client, problem).await }).await;
        assert!(told.contains("08006"), "{told}");
        block_in_place(|| store.restart());
    }
    let idle = "SELECT COUNT(*) FROM eddyline.sinks WHERE waiting_bytes = 0 AND problem IS NULL";
    until("all rows are sent", || async { (number(&client, idle).await? == 1).then_some(()) }).await;
    next + 1
}

/// What leaves by a sink comes back by a source: each row once, through kills and a store that goes away. `variables` are the server's;
/// the statements say the store's options.
pub async fn there_and_back(store: &mut dyn Store, variables: Vec<(String, String)>, format: &str) {
    let path = format!("out/{format}");
    let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", variables, ..Default::default() });
    let rows = out_through_kills(&mut server, store, &path, format).await;
    let client = server.connect().await;
    let source = with(store, &path, "partition_by = 'part', source.monitor-interval = '50 ms'");
    run(&client, &format!("CREATE SOURCE back ({COLUMNS}) {source} FORMAT PLAIN ENCODE {format}")).await;
    run(&client, "CREATE MATERIALIZED VIEW seen AS SELECT * FROM back").await;
    for _ in 0..2 {
        block_in_place(|| server.kill_and_restart());
    }
    let client = server.connect().await;
    block_in_place(|| store.stop());
    let told = until("the source says what it waits for", || problem_of(&client, "back")).await;
    assert!(told.contains("Check the endpoint"), "{told}");
    block_in_place(|| store.restart());
    // One more, behind those that were read.
    run(&client, "INSERT INTO log VALUES (-2, 'x', 1.5, NULL, ARRAY[1])").await;
    until("every row is back, once", || async {
        let count = number(&client, "SELECT COUNT(*) FROM seen").await?;
        let differing = "SELECT COUNT(*) FROM (SELECT * FROM log EXCEPT SELECT * FROM seen) AS d";
        (count == rows + 1 && number(&client, differing).await? == 0).then_some(())
    })
    .await;
    until("the source is well again", || async { problem_of(&client, "back").await.is_none().then_some(()) }).await;
    // What was not finished is gone.
    let is_hidden = |name: &str| name.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
    until("there are finished files only", || async {
        let files = block_in_place(|| store.files(&path));
        files.iter().all(|(name, _)| !is_hidden(name)).then_some(())
    })
    .await;
}

pub async fn an_object_of_many_parts(store: &dyn Store, client: &Client) {
    let url = store.url("big");
    run(client, "CREATE TABLE log (id BIGINT, v TEXT) APPEND ONLY").await;
    let sink = format!(
        "CREATE SINK big FROM log WITH (connector = 'filesystem', path = '{url}', sink.rolling-policy.rollover-interval = '1 s') \
         FORMAT PLAIN ENCODE JSON"
    );
    run(client, &sink).await;
    run(client, "INSERT INTO log SELECT x, repeat('y', 1000) FROM generate_series(1, 20000) AS s(x)").await;
    let finished = || store.files("big").iter().filter(|(name, _)| name.ends_with(".json")).map(|(_, bytes)| bytes).sum::<u64>();
    until("all rows are there", || async { (block_in_place(finished) > 20_000_000).then_some(()) }).await;
    let source = format!(
        "CREATE SOURCE big_back (id BIGINT, v TEXT) WITH (connector = 'filesystem', path = '{url}/*.json') FORMAT PLAIN ENCODE JSON"
    );
    run(client, &source).await;
    let query = "SELECT SUM(id)::bigint FROM big_back WHERE length(v) = 1000";
    assert_eq!(number(client, query).await, Some(20_000 * 20_001 / 2));
}

/// A sink whose credentials are taken away while it runs says so and goes on with others: no row is lost, none is there twice. One that is
/// made without the right is refused.
pub async fn a_right_that_is_lost(store: &dyn Store, client: &Client, (option, wrong): (&str, &str)) {
    let right = store.options().into_iter().find_map(|(name, value)| (name == option).then_some(value)).expect("an option of the store");
    run(client, "CREATE TABLE sent (id BIGINT) APPEND ONLY").await;
    let sink = format!(
        "CREATE SINK rights FROM sent {} FORMAT PLAIN ENCODE JSON",
        with(store, "rights", "sink.rolling-policy.rollover-interval = '100 ms'")
    );
    let (code, said) = told(&refused(client, &sink.replace(&right, wrong)).await);
    assert!(code == "42501" && said.contains("refuses these credentials"), "{code} {said}");
    run(client, &sink).await;
    let send = |from: i64| format!("INSERT INTO sent SELECT x FROM generate_series({from}, {}) AS s(x)", from + 99);
    run(client, &send(1)).await;
    let finished = || store.files("rights").iter().any(|(name, _)| name.ends_with(".json"));
    until("the first rows are there", || async { block_in_place(finished).then_some(()) }).await;
    run(client, &format!("ALTER SINK rights SET ({option} = '{wrong}')")).await;
    run(client, &send(101)).await;
    let problem = "SELECT problem FROM eddyline.sinks WHERE sink = 'rights'";
    let denied = |told: &String| told.contains("42501") && told.contains("refuses these credentials");
    until("the sink says that it may not write", || async { text(client, problem).await.filter(denied) }).await;
    run(client, "CREATE MATERIALIZED VIEW count_of_sent AS SELECT COUNT(*) AS n FROM sent").await;
    assert_eq!(number(client, "SELECT n FROM count_of_sent").await, Some(200), "nothing else waits");
    run(client, &format!("ALTER SINK rights SET ({option} = '{right}')")).await;
    run(client, &send(201)).await;
    until("the sink is well again", || async { text(client, problem).await.is_none().then_some(()) }).await;
    let source = with(store, "rights", "source.monitor-interval = '50 ms'");
    run(client, &format!("CREATE SOURCE rights_back (id BIGINT) {source} FORMAT PLAIN ENCODE JSON")).await;
    run(client, "CREATE MATERIALIZED VIEW of_rights AS SELECT id FROM rights_back").await;
    until("every row is there, once", || async {
        let count = number(client, "SELECT COUNT(*) FROM of_rights").await?;
        assert!(count <= 300, "{count} rows");
        (count == 300 && number(client, "SELECT COUNT(DISTINCT id) FROM of_rights").await? == 300).then_some(())
    })
    .await;
    let shown = format!("SELECT COUNT(*) FROM eddyline.options WHERE value = '{right}'");
    assert_eq!(number(client, &shown).await, Some(0), "secrets are not shown");
}
