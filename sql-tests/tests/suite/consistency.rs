//! What several views say together is true at one moment: views of different depth over the same input agree in every SELECT and
//! across the SELECTs of a transaction, while input runs, while views come and go among them, and after a kill.

use eddyline_sql_tests::client::{rows, run};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::Client;

const TRANSFERS: i64 = 1_000_000;
const BATCH: i64 = 4_000;
const ACCOUNTS: i64 = 1_000;

async fn numbers(client: &Client, query: &str) -> Vec<Option<i64>> {
    let row = client.query_one(query, &[]).await.unwrap_or_else(|e| panic!("{query}: {e:?}"));
    (0..row.len()).map(|i| row.get(i)).collect()
}

/// Books over `transfer`: what went in and out of each account, the balances, their sums by branch, the total of all. Each a view
/// over the one before, with an exchange between; so a change reaches the last a few steps after the first.
const BOOKS: &str = "
    CREATE TABLE transfer (id BIGINT, payer BIGINT, payee BIGINT, amount BIGINT) APPEND ONLY;
    CREATE MATERIALIZED VIEW received AS SELECT payee AS account, SUM(amount)::bigint AS s, COUNT(*) AS n FROM transfer GROUP BY payee;
    CREATE MATERIALIZED VIEW paid AS SELECT payer AS account, SUM(amount)::bigint AS s, COUNT(*) AS n FROM transfer GROUP BY payer;
    CREATE MATERIALIZED VIEW balance AS SELECT account, SUM(s)::bigint AS b FROM
        (SELECT account, s FROM received UNION ALL SELECT account, -s FROM paid) GROUP BY account;
    CREATE MATERIALIZED VIEW branch AS SELECT account % 7 AS branch, SUM(b)::bigint AS b FROM balance GROUP BY account % 7;
    CREATE MATERIALIZED VIEW total AS SELECT SUM(b)::bigint AS b FROM branch;
    CREATE MATERIALIZED VIEW moved AS SELECT SUM(n)::bigint AS n FROM paid;
    CREATE MATERIALIZED VIEW both AS SELECT r.account, r.n + p.n AS n FROM received r JOIN paid p ON r.account = p.account";

/// In one statement: the total is nothing at every depth, and every view has seen the same transfers.
const AT_ONCE: &str = "SELECT (SELECT b FROM total), (SELECT SUM(b)::bigint FROM branch), (SELECT SUM(b)::bigint FROM balance),
    (SELECT n FROM moved) - (SELECT COUNT(*) FROM transfer), (SELECT n FROM moved) - (SELECT SUM(n)::bigint FROM received)";

fn transfers(from: i64, to: i64) -> String {
    format!(
        "INSERT INTO transfer SELECT i, (i::bigint * 7919) % {ACCOUNTS}, (i::bigint * 104729 + 13) % {ACCOUNTS}, 1 + i::bigint % 97 FROM generate_series({from}, {}) AS s(i)",
        to - 1
    )
}

/// Reads until `done`; returns how often.
async fn watch(client: Client, done: Arc<AtomicBool>) -> usize {
    let mut seen = 0;
    while !done.load(Ordering::Acquire) {
        let together = numbers(&client, AT_ONCE).await;
        assert!(together.iter().all(|n| n.is_none_or(|n| n == 0)), "one SELECT: {together:?}");
        run(&client, "BEGIN").await;
        let moved = numbers(&client, "SELECT COALESCE(n, 0) FROM moved").await;
        let received = numbers(&client, "SELECT COALESCE(SUM(n), 0)::bigint FROM received").await;
        let rows = numbers(&client, "SELECT COUNT(*) FROM transfer").await;
        let total = numbers(&client, "SELECT COALESCE(SUM(b), 0)::bigint FROM balance").await;
        run(&client, "COMMIT").await;
        assert!(moved == received && moved == rows, "one transaction: {moved:?}, {received:?}, {rows:?}");
        assert_eq!(total, [Some(0)]);
        seen += 1;
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_balance_at_every_moment() {
    let options = ServerOptions { state_cache: "1MiB", checkpoint_interval: "300ms", ..Default::default() };
    let mut server = Server::start(options);
    let client = server.connect().await;
    run(&client, BOOKS).await;
    let mut next = 0;
    let mut seen = 0;
    for end in [TRANSFERS / 2, TRANSFERS] {
        let done = Arc::new(AtomicBool::new(false));
        let client = server.connect().await;
        let watching = tokio::spawn(watch(server.connect().await, done.clone()));
        while next < end {
            run(&client, &transfers(next, next + BATCH)).await;
            next += BATCH;
        }
        done.store(true, Ordering::Release);
        seen += watching.await.expect("the books balance");
        server.kill_and_restart();
    }
    assert!(seen >= 20, "the books were looked at {seen} times");
    let client = server.connect().await;
    assert_eq!(numbers(&client, "SELECT n FROM moved").await, [Some(TRANSFERS)]);
    assert_eq!(numbers(&client, AT_ONCE).await, vec![Some(0); 5]);
    for view in ["received", "paid", "balance", "branch", "total", "moved", "both"] {
        let wrong = rows(&client, &format!("CHECK MATERIALIZED VIEW {view}")).await;
        assert!(wrong.is_empty(), "{view}: {wrong:?}");
    }
}

/// How many views stand on one another.
const DEPTH: usize = 10;

/// Every view adds one to each row, every third joins with the one two below it: a tower of diamonds.
fn floor(level: usize) -> String {
    let below = level - 1;
    match level % 3 {
        0 => format!("SELECT a.id, a.x + 1 AS x FROM v{below} a JOIN v{} b ON a.id = b.id WHERE a.x = b.x + 1", level - 2),
        _ => format!("SELECT id, x + 1 AS x FROM v{below}"),
    }
}

/// The rows of the topmost view by another plan.
fn other_roof() -> String {
    let (below, two_below) = (DEPTH - 1, DEPTH - 2);
    format!("SELECT a.id, a.x + 1 AS x FROM v{below} a JOIN v{two_below} b ON a.id = b.id WHERE a.x = b.x + 1")
}

/// The sum of a floor without what it added: the same for all of them.
fn height(level: usize) -> String {
    format!("(SELECT SUM(x)::bigint FROM v{level}) - {level} * (SELECT COUNT(*) FROM v{level})")
}

/// Sums of all floors as one row.
fn tower() -> String {
    format!("SELECT {}", (0..=DEPTH).map(height).collect::<Vec<_>>().join(", "))
}

type Sums = Result<Vec<Option<i64>>, tokio_postgres::Error>;

async fn at_once(client: &Client) -> Sums {
    let row = client.query_one(&tower(), &[]).await?;
    Ok((0..=DEPTH).map(|i| row.get(i)).collect())
}

/// The same sums, each by a SELECT of its own, in one transaction. It begins at the ground, which is always there.
async fn floor_by_floor(client: &Client) -> Sums {
    let mut sums = Vec::new();
    run(client, "BEGIN").await;
    for level in 0..=DEPTH {
        match client.query_one(&format!("SELECT {}", height(level)), &[]).await {
            Ok(row) => sums.push(row.get(0)),
            Err(error) => {
                run(client, "ROLLBACK").await;
                return Err(error);
            }
        }
    }
    run(client, "COMMIT").await;
    Ok(sums)
}

/// How often the whole tower was seen, in one SELECT and in one transaction.
#[derive(Default)]
struct Seen {
    at_once: usize,
    floor_by_floor: usize,
}

async fn climb(client: Client, done: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    while !done.load(Ordering::Acquire) {
        seen.at_once += climbed("one SELECT", at_once(&client).await);
        seen.floor_by_floor += climbed("one transaction", floor_by_floor(&client).await);
    }
    seen
}

fn climbed(how: &str, sums: Sums) -> usize {
    match sums {
        Ok(sums) => {
            assert!(sums.iter().all(|s| *s == sums[0]), "{how}: {sums:?}");
            1
        }
        // The top of the tower is being rebuilt, or was since the transaction began.
        Err(error) => {
            assert!(matches!(error.code().map(|c| c.code()), Some("42P01" | "40001")), "{how}: {error:?}");
            0
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tower_of_views_agrees_while_it_is_rebuilt() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", ring_size: "256KiB", ..Default::default() });
    let client = server.connect().await;
    run(&client, "CREATE TABLE v0 (id BIGINT PRIMARY KEY, x BIGINT)").await;
    for level in 1..=DEPTH {
        run(&client, &format!("CREATE MATERIALIZED VIEW v{level} AS {}", floor(level))).await;
    }
    let mut seen = Seen::default();
    for life in 0..3 {
        let done = Arc::new(AtomicBool::new(false));
        let client = server.connect().await;
        let watching = tokio::spawn(climb(server.connect().await, done.clone()));
        let writer = server.connect().await;
        let writing = tokio::spawn(async move {
            for round in 0..60 {
                let from = life * 6_000 + round * 100;
                run(&writer, &format!("INSERT INTO v0 SELECT i, i % 1000 FROM generate_series({from}, {}) AS s(i)", from + 99)).await;
                run(&writer, &format!("UPDATE v0 SET x = x + 3 WHERE id % 17 = {}", round % 17)).await;
                run(&writer, &format!("DELETE FROM v0 WHERE id % 101 = {}", round % 101)).await;
            }
        });
        for _ in 0..3 {
            run(&client, &format!("DROP MATERIALIZED VIEW v{} CASCADE", DEPTH - 3)).await;
            for level in DEPTH - 3..=DEPTH {
                run(&client, &format!("CREATE MATERIALIZED VIEW v{level} AS {}", floor(level))).await;
            }
            run(&client, &format!("CREATE OR REPLACE MATERIALIZED VIEW v{DEPTH} AS {}", other_roof())).await;
        }
        writing.await.expect("the input runs");
        done.store(true, Ordering::Release);
        let more = watching.await.expect("the floors agree");
        seen.at_once += more.at_once;
        seen.floor_by_floor += more.floor_by_floor;
        server.kill_and_restart();
    }
    assert!(seen.at_once >= 10, "the tower was seen at once {} times", seen.at_once);
    assert!(seen.floor_by_floor >= 3, "the tower was seen floor by floor {} times", seen.floor_by_floor);
    let client = server.connect().await;
    let sums = until("the tower is there again", || async { at_once(&client).await.ok() }).await;
    assert!(sums[0].is_some() && sums.iter().all(|s| *s == sums[0]), "{sums:?}");
}
