//! Kills the real server at every named failpoint and at random moments, while writes and a source keep coming, and looks
//! at what is there afterwards: no acknowledged write is lost, views agree with their tables in one SELECT, and a
//! bounded source ends in the result of a run that was never interrupted.

use eddyline_sql_tests::process::{NotReady, was_killed};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio_postgres::Client;

/// Reached while serving; the number of hits survived before the kill differs from round to round.
const WHILE_SERVING: [&str; 13] = [
    "log.appended",
    "log.before_sync",
    "log.synced",
    "cut.logged",
    "ddl.logged",
    "checkpoint.upload",
    "checkpoint.before_manifest",
    "checkpoint.after_manifest",
    "checkpoint.prune",
    "view.freeze",
    "view.vacuum",
    "workload.none",
    "workload.random",
];

/// Reached before `ready`.
const WHILE_RECOVERING: [&str; 2] = ["recovery.manifest_loaded", "recovery.replayed"];

const ROUNDS: [u64; 3] = [1, 2, 5];

const BIDS: i64 = 40_000;

const SCHEMA: [&str; 6] = [
    "CREATE TABLE IF NOT EXISTS ledger (id BIGINT PRIMARY KEY, account BIGINT, amount BIGINT)",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS total AS SELECT COUNT(*) AS n, SUM(amount) AS amount FROM ledger",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS accounts AS SELECT account, COUNT(*) AS n, SUM(amount) AS amount FROM ledger GROUP BY account",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS spread AS SELECT n, COUNT(*) AS accounts FROM accounts GROUP BY n",
    "CREATE SOURCE IF NOT EXISTS bid (auction BIGINT, price BIGINT, channel VARCHAR, date_time TIMESTAMP, \
     WATERMARK FOR date_time AS date_time - INTERVAL '1 second') \
     WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '40000', nexmark.rate = '4000', nexmark.split.num = '2')",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS windows AS SELECT window_start, channel, COUNT(*) AS n, SUM(price) AS s \
     FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '1' SECOND)) GROUP BY window_start, window_end, channel",
];

/// What the clients know of the server's promises.
#[derive(Default)]
struct Ledger {
    /// Ids 1..=acknowledged were acknowledged; the one after may have been written.
    acknowledged: AtomicI64,
    /// Definitions were brought to this round, one after the other; some may be at the next.
    round: AtomicI64,
    stop: AtomicBool,
}

/// Inserts one row after the other until the server is gone or the writer told to stop.
async fn write(client: Client, ledger: Arc<Ledger>) {
    while !ledger.stop.load(Ordering::SeqCst) {
        let id = ledger.acknowledged.load(Ordering::SeqCst) + 1;
        let insert = format!("INSERT INTO ledger VALUES ({id}, {}, {}) ON CONFLICT DO NOTHING", id % 7, id * 3);
        if client.batch_execute(&insert).await.is_err() {
            return;
        }
        ledger.acknowledged.store(id, Ordering::SeqCst);
    }
}

/// The definitions of a round, in their order, and a query that tells of each what round it is of.
fn definitions(round: i64) -> [(String, &'static str); 6] {
    [
        (format!("CREATE OR REPLACE VIEW face AS SELECT {round} AS n"), "SELECT MAX(n)::text FROM face"),
        (
            format!("CREATE OR REPLACE MATERIALIZED VIEW replaced AS SELECT {round} AS n, COUNT(*) AS rows FROM ledger"),
            "SELECT MAX(n)::text FROM replaced",
        ),
        (format!("CREATE OR REPLACE FUNCTION round_now() RETURNS BIGINT LANGUAGE SQL AS 'SELECT {round}'"), "SELECT round_now()::text"),
        (format!("COMMENT ON TABLE ledger IS '{round}'"), "SELECT comment FROM eddyline.comments WHERE relation = 'ledger'"),
        (
            format!("ALTER MATERIALIZED VIEW spread SET (emit_interval = '{} ms')", round + 1),
            "SELECT (split_part(value, ' ', 1)::bigint - 1)::text FROM eddyline.options WHERE relation = 'spread' AND option = 'emit_interval'",
        ),
        (
            format!("ALTER SYSTEM SET snapshot_size = '{}GiB'", round + 1),
            "SELECT (split_part(value, 'G', 1)::bigint - 1)::text FROM eddyline.settings WHERE name = 'snapshot_size'",
        ),
    ]
}

/// A definition is that of the last round that was acknowledged or of the one after; no later one is ahead of an earlier one.
async fn check_definitions(client: &Client, ledger: &Ledger) {
    let round = ledger.round.load(Ordering::SeqCst);
    let mut before = round + 1;
    for (statement, query) in definitions(round) {
        let answer = client.query_opt(query, &[]).await;
        let text = answer.ok().flatten().and_then(|row| row.get::<_, Option<String>>(0));
        let found: i64 = text.and_then(|text| text.parse().ok()).unwrap_or_default();
        assert!((round..=before).contains(&found), "{found} where round {round} was acknowledged, and {before} before it: {statement}");
        before = found;
        client.batch_execute(&statement).await.expect("it can be brought to the round");
    }
}

/// Creates what is missing and keeps creating, replacing, altering and dropping, so that DDL is under way at every moment.
async fn define(client: Client, ledger: Arc<Ledger>) {
    while !ledger.stop.load(Ordering::SeqCst) {
        for statement in SCHEMA {
            if client.batch_execute(statement).await.is_err() {
                return;
            }
        }
        let passing = "CREATE MATERIALIZED VIEW IF NOT EXISTS passing AS SELECT account, MAX(amount) AS m FROM ledger GROUP BY account";
        for statement in [passing, "SELECT * FROM passing", "DROP MATERIALIZED VIEW passing"] {
            if client.batch_execute(statement).await.is_err() {
                return;
            }
        }
        let round = ledger.round.load(Ordering::SeqCst) + 1;
        for (statement, _) in definitions(round) {
            if client.batch_execute(&statement).await.is_err() {
                return;
            }
        }
        ledger.round.store(round, Ordering::SeqCst);
    }
}

async fn work(server: &Server, ledger: &Arc<Ledger>) -> Vec<tokio::task::JoinHandle<()>> {
    ledger.stop.store(false, Ordering::SeqCst);
    // The server may be gone already: its failpoint was in its start.
    let Ok(client) = server.try_connect().await else { return Vec::new() };
    for statement in SCHEMA {
        if client.batch_execute(statement).await.is_err() {
            return Vec::new();
        }
    }
    let mut tasks = vec![tokio::spawn(write(client, ledger.clone()))];
    if let Ok(client) = server.try_connect().await {
        tasks.push(tokio::spawn(define(client, ledger.clone())));
    }
    tasks
}

/// What must hold after every restart.
async fn check(server: &Server, ledger: &Ledger) {
    let client = server.connect().await;
    for statement in SCHEMA {
        client.batch_execute(statement).await.expect("the schema is there or can be made");
    }
    let acknowledged = ledger.acknowledged.load(Ordering::SeqCst);
    let row = client
        .query_one(
            "SELECT (SELECT COUNT(*) FROM ledger), (SELECT SUM(amount)::bigint FROM ledger), (SELECT n FROM total), (SELECT amount FROM total), \
             (SELECT SUM(n)::bigint FROM accounts), (SELECT SUM(n * accounts)::bigint FROM spread), (SELECT MAX(id) FROM ledger)",
            &[],
        )
        .await
        .expect("the views can be read");
    let get = |i: usize| row.get::<_, Option<i64>>(i).unwrap_or(0);
    let (rows, amount) = (get(0), get(1));
    assert!(rows == acknowledged || rows == acknowledged + 1, "{acknowledged} writes were acknowledged, {rows} are there");
    assert_eq!(get(6), rows, "the ids have no gaps");
    assert_eq!(amount, 3 * rows * (rows + 1) / 2, "every row has its amount once");
    assert_eq!((get(2), get(3)), (rows, amount), "the total follows the table");
    assert_eq!((get(4), get(5)), (rows, rows), "the deeper views follow too");
    ledger.acknowledged.store(rows, Ordering::SeqCst);
    check_definitions(&client, ledger).await;
}

/// One failpoint, killed in each round, with the data of the rounds before.
async fn survive(point: &str, recovering: bool, seed: u64) {
    let options = ServerOptions { checkpoint_interval: "50ms", state_cache: "1MiB", ..Default::default() };
    let mut server = Server::start(options);
    let ledger = Arc::new(Ledger::default());
    check(&server, &ledger).await;
    let mut random = StdRng::seed_from_u64(seed);
    for nth in ROUNDS {
        if recovering {
            let tasks = work(&server, &ledger).await;
            let before = ledger.acknowledged.load(Ordering::SeqCst);
            until("some writes are acknowledged", || async { (ledger.acknowledged.load(Ordering::SeqCst) > before + 5).then_some(()) })
                .await;
            server.kill();
            futures::future::join_all(tasks).await;
            server.options.failpoints = format!("{point}=kill@1");
            server.launch().expect_err("the failpoint kills the server before it is ready").assert_killed();
        } else {
            server.kill();
            server.options.failpoints = format!("{point}=kill@{}", nth + random.random_range(0..3));
            // Some points are passed on the way up; then the start itself dies.
            let launched = server.launch().inspect_err(NotReady::assert_killed).is_ok();
            let tasks = if launched { work(&server, &ledger).await } else { Vec::new() };
            if launched && point.starts_with("workload.") {
                tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
                server.kill();
            } else if launched {
                let status = tokio::task::block_in_place(|| server.wait_for_end());
                assert!(was_killed(status), "{point} kills the server: {status}");
            }
            ledger.stop.store(true, Ordering::SeqCst);
            futures::future::join_all(tasks).await;
        }
        server.options.failpoints.clear();
        server.launch().expect("the server starts again");
        check(&server, &ledger).await;
    }
    finish(&server).await;
}

/// The source runs to its end; the windows are those of the source read as a table.
async fn finish(server: &Server) {
    let client = server.connect().await;
    until("the windows have every bid", || async {
        let row = client.query_one("SELECT SUM(n)::bigint FROM windows", &[]).await.expect("the view can be read");
        let total: i64 = client.query_one("SELECT COUNT(*) FROM bid", &[]).await.expect("the source can be read").get(0);
        assert!(total > BIDS / 2, "most events are bids");
        (row.get::<_, Option<i64>>(0) == Some(total)).then_some(())
    })
    .await;
    let windows = "SELECT window_start, channel, n, s FROM windows ORDER BY 1, 2";
    let batch = "SELECT window_start, channel, COUNT(*), SUM(price) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '1' SECOND)) \
                 GROUP BY window_start, window_end, channel ORDER BY 1, 2";
    let rows = |messages: Vec<tokio_postgres::SimpleQueryMessage>| {
        let row = |m| {
            if let tokio_postgres::SimpleQueryMessage::Row(r) = m {
                Some((0..r.len()).map(|i| r.get(i).map(str::to_string)).collect::<Vec<_>>())
            } else {
                None
            }
        };
        messages.into_iter().filter_map(row).collect::<Vec<_>>()
    };
    let view = rows(client.simple_query(windows).await.expect("the view can be read"));
    let expected = rows(client.simple_query(batch).await.expect("the source can be read"));
    assert!(!view.is_empty());
    assert_eq!(view, expected, "the view is what an uninterrupted run gives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_failpoint_and_random_moments() {
    let serving = WHILE_SERVING.iter().map(|p| (*p, false));
    let points: Vec<(&str, bool)> = serving.chain(WHILE_RECOVERING.iter().map(|p| (*p, true))).collect();
    // Two servers at a time keep both cores busy without starving each other.
    let mut waiting = points.into_iter().enumerate();
    let mut running = tokio::task::JoinSet::new();
    loop {
        while running.len() < 2
            && let Some((seed, (point, recovering))) = waiting.next()
        {
            running.spawn(async move {
                survive(point, recovering, seed as u64).await;
                point
            });
        }
        match running.join_next().await {
            None => break,
            Some(Ok(_)) => {}
            Some(Err(failed)) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

/// Killed after the table is made, and after it is filled: what is left is a table with its rows or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_table_of_a_query_is_never_half_there() {
    let create = "CREATE TABLE IF NOT EXISTS numbers AS SELECT g AS n FROM generate_series(1, 1000) AS t(g)";
    for point in ["ddl.logged", "table_as.filled"] {
        let mut server = Server::start(ServerOptions { failpoints: format!("{point}=kill@1"), ..Default::default() });
        let client = server.connect().await;
        client.batch_execute(create).await.expect_err("the server is killed");
        let status = tokio::task::block_in_place(|| server.wait_for_end());
        assert!(was_killed(status), "{point} kills the server: {status}");
        server.options.failpoints.clear();
        server.launch().expect("the server starts again");
        let client = server.connect().await;
        let left = "SELECT COUNT(*) FROM pg_class WHERE relname LIKE '%filling%' OR relname = 'numbers'";
        let left: i64 = client.query_one(left, &[]).await.expect("the catalog can be read").get(0);
        assert_eq!(left, 0, "nothing is left of it after {point}");
        client.batch_execute(create).await.expect("the table is made");
        let rows: i64 = client.query_one("SELECT COUNT(*) FROM numbers", &[]).await.expect("the table can be read").get(0);
        assert_eq!(rows, 1000);
    }
}

/// In a block its rows are the transaction's: killed before the COMMIT nothing is left of either, and after it both are there, also if there are no rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_table_of_a_query_is_its_transactions() {
    let mut server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE seen (n INT)").await.expect("the table is made");
    let whole = "BEGIN; CREATE TABLE kept AS SELECT g AS n FROM generate_series(1, 1000) AS t(g); \
                 CREATE TABLE rowless AS SELECT 1 AS n WHERE false; INSERT INTO seen VALUES (1); COMMIT";
    client.batch_execute(whole).await.expect("the transaction is committed");
    let open = "BEGIN; CREATE TABLE lost AS SELECT 1 AS n; CREATE TABLE lost_too AS SELECT 1 AS n WHERE false; INSERT INTO seen VALUES (2)";
    client.batch_execute(open).await.expect("the block is open");
    for _ in 0..2 {
        server.kill_and_restart();
        let client = server.connect().await;
        let tables = client.query("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200 ORDER BY 1", &[]).await;
        let tables: Vec<String> = tables.expect("the catalog can be read").iter().map(|row| row.get(0)).collect();
        assert_eq!(tables, ["kept", "rowless", "seen"]);
        for (table, expected) in [("kept", 1000), ("rowless", 0), ("seen", 1)] {
            let rows: i64 = client.query_one(&format!("SELECT COUNT(*) FROM {table}"), &[]).await.expect("it can be read").get(0);
            assert_eq!(rows, expected, "{table}");
        }
    }
}
