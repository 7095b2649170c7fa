//! Backfills that a restart interrupts go on from where the last checkpoint found them: a server that dies after every second
//! checkpoint comes to the end, which one that started over each time would never see; and what it comes to is what a
//! run without interruption gives.

use eddyline_sql_tests::client::{number, rows, run};
use eddyline_sql_tests::process::{NotReady, was_killed};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::time::Duration;
use tokio_postgres::Client;

const SOURCE: &str = "CREATE SOURCE bid (auction BIGINT, price BIGINT, channel VARCHAR, date_time TIMESTAMP, \
     WATERMARK FOR date_time AS date_time - INTERVAL '20 milliseconds') \
     WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '1500000', nexmark.split.num = '2', \
     nexmark.out-of-order.group-size = '5000')";

/// Group state, window state with late rows, a view that only grows, and the rows that came behind the watermark.
const VIEWS: [(&str, &str); 4] = [
    ("groups", "SELECT auction, channel, COUNT(*) AS n, SUM(price) AS s, MAX(date_time) AS m FROM bid GROUP BY auction, channel"),
    (
        "windows",
        "SELECT window_start, COUNT(*) AS n, SUM(price) AS s \
         FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '100' MILLISECOND)) GROUP BY window_start, window_end",
    ),
    ("dear", "SELECT auction, price FROM bid WHERE price > 50000000"),
    ("behind", "SELECT date_time, auction, price FROM bid WHERE date_time <= CURRENT_WATERMARK(date_time)"),
];

/// A life is two checkpoints long, with three steps of backfills before each; all backfills here take many more.
const SHORT_LIFE: &str = "backfill.step=hold@3,checkpoint.after_manifest=kill@2";
/// More than any backfill here needs.
const DEATHS_MAX: u32 = 200;

async fn create_views(client: &Client, suffix: &str) {
    for (name, query) in VIEWS {
        client.batch_execute(&format!("CREATE MATERIALIZED VIEW {name}_{suffix} AS {query}")).await.expect("the view is accepted");
    }
}

/// (late rows, rows in) of a view.
async fn counters(client: &Client, view: &str) -> (i64, i64) {
    let row = client.query_one("SELECT late, rows_in FROM eddyline.jobs WHERE job = $1", &[&view]).await.expect("the job is there");
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_backfill_goes_on_with_the_same_result() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "20ms", ..Default::default() });
    let client = server.connect().await;
    client.batch_execute(SOURCE).await.expect("the source is accepted");
    create_views(&client, "first").await;
    let total: i64 = client.query_one("SELECT COUNT(*) FROM bid", &[]).await.expect("the source can be read").get(0);
    until("the first views have everything", || async {
        let (_, rows_in) = counters(&client, "windows_first").await;
        (rows_in == total).then_some(())
    })
    .await;
    client.batch_execute("FLUSH").await.expect("the views are there");
    // The restart empties the rings, so that all of the second views' input comes through private readers.
    server.options.failpoints = SHORT_LIFE.to_string();
    server.kill_and_restart();
    let client = server.connect().await;
    create_views(&client, "second").await;
    // The first life ends before the backfills do. The last one, as short, sees their end: it did not begin at the start.
    let deaths = live_and_die(&mut server).await;
    assert!(deaths >= 2, "the server died {deaths} times");
    server.options.failpoints.clear();
    server.kill_and_restart();
    let client = server.connect().await;
    for (name, _) in VIEWS {
        let of = |suffix: &str| format!("SELECT * FROM {name}_{suffix} ORDER BY 1, 2, 3");
        let columns = |query: String| if name == "dear" { query.replace(", 3", "") } else { query };
        let (first, second) = (rows(&client, &columns(of("first"))).await, rows(&client, &columns(of("second"))).await);
        assert!(!first.is_empty());
        assert!(first == second, "{name}: {} rows, {} after the interruptions", first.len(), second.len());
        let (first, second) = (format!("{name}_first"), format!("{name}_second"));
        assert_eq!(counters(&client, &first).await, counters(&client, &second).await, "{name}: late rows and rows in");
    }
    assert!(counters(&client, "windows_second").await.0 > 0, "some rows are late");
}

/// Starts the server again each time it dies, until no view reads on its own any more; how often it died.
async fn live_and_die(server: &mut Server) -> u32 {
    let mut deaths = 0;
    loop {
        if !server.is_running() {
            let status = server.wait_for_end();
            assert!(was_killed(status), "the failpoint kills the server: {status}");
            deaths += 1;
            // The failpoint may come before `ready`.
            while deaths < DEATHS_MAX && tokio::task::block_in_place(|| server.launch()).inspect_err(NotReady::assert_killed).is_err() {
                deaths += 1;
            }
            assert!(deaths < DEATHS_MAX, "the backfills get nowhere");
        }
        if let Ok(client) = server.try_connect().await {
            let reading = client.query_one("SELECT COUNT(*) FROM eddyline.jobs WHERE state = 'backfilling'", &[]).await;
            if reading.is_ok_and(|row| row.get::<_, i64>(0) == 0) {
                return deaths;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stops_in_the_middle_of_a_backfill_and_goes_on() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "1s", ..Default::default() });
    let client = server.connect().await;
    client.batch_execute(SOURCE).await.expect("the source is accepted");
    create_views(&client, "first").await;
    client.batch_execute("FLUSH").await.expect("the views are there");
    until("the first views have come far", || async { (counters(&client, "windows_first").await.1 > 1_000_000).then_some(()) }).await;
    server.kill_and_restart();
    let client = server.connect().await;
    create_views(&client, "second").await;
    let seen = until("a second view has come some way", || async {
        Some(counters(&client, "groups_second").await.1).filter(|rows_in| *rows_in > 400_000)
    })
    .await;
    let status = tokio::task::block_in_place(|| server.stop());
    assert!(status.success(), "{status}");
    server.launch().expect("the server starts again");
    let client = server.connect().await;
    let (_, rows_in) = counters(&client, "groups_second").await;
    assert!(rows_in >= seen, "{rows_in} rows, {seen} before the stop");
    until("the views agree", || async {
        client.batch_execute("FLUSH").await.ok()?;
        let counted = "SELECT (SELECT SUM(n)::bigint FROM groups_first), (SELECT SUM(n)::bigint FROM groups_second)";
        let row = client.query_one(counted, &[]).await.ok()?;
        let (first, second): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(first, second);
        (first > 1_000_000).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_fell_off_the_ring_goes_on_after_kills() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "20ms", ring_size: "64KiB", ..Default::default() });
    let client = server.connect().await;
    client.batch_execute(&SOURCE.replace("'1500000'", "'200000', nexmark.rate = '100000'")).await.expect("the source is accepted");
    let slow = "SELECT window_start, auction, COUNT(*) AS n FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), \
                INTERVAL '20' MILLISECOND, INTERVAL '1' SECOND)) GROUP BY window_start, window_end, auction";
    // The quick view keeps the cuts coming.
    let views = [("quick", "SELECT auction, price FROM bid WHERE price > 90000000"), ("slow", slow)];
    for (name, query) in views {
        client.batch_execute(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await.expect("the view is accepted");
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        tokio::task::block_in_place(|| server.kill_and_restart());
    }
    let client = server.connect().await;
    let total: i64 = client.query_one("SELECT COUNT(*) FROM bid", &[]).await.expect("the source can be read").get(0);
    until("both views have every row", || async {
        let (quick, slow) = (counters(&client, "quick").await, counters(&client, "slow").await);
        assert!(quick.1 <= total && slow.1 <= total, "no row is taken twice: {quick:?}, {slow:?} of {total}");
        (quick.1 == total && slow.1 == total).then_some(())
    })
    .await;
    assert!(server.log().contains("fell behind the ring"), "the test does what it is for");
    client.batch_execute(&format!("CREATE MATERIALIZED VIEW again AS {slow}")).await.expect("the view is accepted");
    let sums =
        |view: &str| format!("SELECT COUNT(*), SUM(n), SUM(n * n), SUM(n * auction), MIN(window_start), MAX(window_start) FROM {view}");
    assert_eq!(rows(&client, &sums("slow")).await, rows(&client, &sums("again")).await);
    assert_eq!(counters(&client, "slow").await, counters(&client, "again").await, "late rows and rows in");
}

/// A query of the first view over a source waits for what the source held when the view was made, as a query of a later view does; so does one of
/// a view above, and one after a kill in the middle of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_of_the_first_view_waits_for_what_is_there() {
    const ALL: i64 = 460_000;
    let mut server = Server::start(ServerOptions { checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    let source = |name: &str, options: &str| {
        format!("CREATE SOURCE {name} (price BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid', {options})")
    };
    const COUNT: &str = "SELECT COUNT(*) AS n FROM";
    run(&client, &source("bid", "nexmark.event.num = '500000', nexmark.split.num = '2'")).await;
    run(&client, &format!("CREATE MATERIALIZED VIEW first AS {COUNT} bid")).await;
    assert_eq!(number(&client, "SELECT n::bigint FROM first").await, ALL);
    assert_eq!(number(&client, "SELECT backfill_permille FROM eddyline.jobs WHERE job = 'first'").await, 1000);
    // A second source, whose reading a kill interrupts; and views that come when it has begun.
    run(&client, &source("again", "nexmark.event.num = '500000'")).await;
    run(&client, &format!("CREATE MATERIALIZED VIEW interrupted AS {COUNT} again")).await;
    run(&client, "CREATE MATERIALIZED VIEW above AS SELECT n FROM interrupted").await;
    run(&client, &format!("CREATE MATERIALIZED VIEW beside AS {COUNT} again")).await;
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    for view in ["above", "interrupted", "beside", "first"] {
        assert_eq!(number(&client, &format!("SELECT n::bigint FROM {view}")).await, ALL, "{view}");
    }
    // Where there is no end, or rows come as time goes on, nothing is waited for.
    for (name, options) in [("endless", "nexmark.rate = '100'"), ("timed", "nexmark.rate = '100', nexmark.event.num = '1000000'")] {
        run(&client, &source(name, options)).await;
        run(&client, &format!("CREATE MATERIALIZED VIEW of_{name} AS {COUNT} {name}")).await;
        let n = number(&client, &format!("SELECT COALESCE(MAX(n), 0)::bigint FROM of_{name}")).await;
        assert!(n < 100_000, "{n} rows of {name}");
    }
}
