//! What is late is decided by the cuts as they were taken, for every view alike: one that was there when the rows came, one
//! that reads them from a table or view afterwards, and one that does so after old versions were cleaned away and
//! the server was killed.

use eddyline_sql_tests::client::run;
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use tokio_postgres::{Client, SimpleQueryMessage};

const SCHEMA: [&str; 3] = [
    "CREATE TABLE event (id BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 second') APPEND ONLY",
    "CREATE TABLE reading (id BIGINT PRIMARY KEY, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 second')",
    "CREATE MATERIALIZED VIEW even AS SELECT id, at FROM event WHERE id % 2 = 0",
];

const RELATIONS: [&str; 3] = ["event", "reading", "even"];

async fn create(client: &Client, suffix: &str) {
    for relation in RELATIONS {
        let windows = format!(
            "CREATE MATERIALIZED VIEW {relation}_{suffix} AS SELECT window_start, COUNT(*) AS n, SUM(id) AS ids \
             FROM TABLE(TUMBLE(TABLE {relation}, DESCRIPTOR(at), INTERVAL '2' SECOND)) GROUP BY window_start, window_end"
        );
        run(client, &windows).await;
    }
}

/// A view's windows, and how many rows it found late.
async fn windows(client: &Client, view: &str) -> (Vec<String>, i64) {
    let row = |message| match message {
        SimpleQueryMessage::Row(r) => Some((0..r.len()).map(|i| r.get(i).unwrap_or("").to_string()).collect::<Vec<_>>().join(" ")),
        _ => None,
    };
    let query = format!("SELECT window_start, n, ids FROM {view} ORDER BY 1");
    let rows = client.simple_query(&query).await.expect("the view can be read").into_iter().filter_map(row).collect();
    let late = client.query_one("SELECT late FROM eddyline.jobs WHERE job = $1", &[&view]).await.expect("the job is there").get(0);
    (rows, late)
}

/// Time goes on by a second with every third row; rows between come up to six seconds late, some of them too late.
async fn insert(client: &Client, ids: std::ops::Range<i64>) {
    for id in ids {
        let second = if id % 3 == 0 { id / 3 } else { id / 3 - id * 7 % 6 };
        for table in ["event", "reading"] {
            let row = format!("INSERT INTO {table} VALUES ({id}, TIMESTAMP '2024-01-01 00:01:00' + INTERVAL '{second} seconds')");
            run(client, &row).await;
        }
    }
}

async fn compare(client: &Client, suffixes: &[&str]) {
    for relation in RELATIONS {
        let first = windows(client, &format!("{relation}_{}", suffixes[0])).await;
        assert!(first.1 > 5 && first.0.len() > 10, "{relation}: {first:?}");
        for suffix in &suffixes[1..] {
            assert_eq!(windows(client, &format!("{relation}_{suffix}")).await, first, "{relation}_{suffix}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_made_later_finds_the_same_rows_late() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let client = server.connect().await;
    for statement in SCHEMA {
        run(&client, statement).await;
    }
    create(&client, "before").await;
    insert(&client, 0..90).await;
    create(&client, "after").await;
    compare(&client, &["before", "after"]).await;
    // Cleaning comes every two seconds while something happens; then the rows of many epochs are in few segments.
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    insert(&client, 90..93).await;
    until("a checkpoint has everything", || async {
        let query = "SELECT COUNT(*) FROM eddyline.checkpoints WHERE epoch >= (SELECT MAX(epoch) FROM eddyline.jobs)";
        (client.query_one(query, &[]).await.ok()?.get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    create(&client, "cleaned").await;
    compare(&client, &["before", "after", "cleaned"]).await;
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    create(&client, "restarted").await;
    insert(&client, 93..120).await;
    compare(&client, &["before", "after", "cleaned", "restarted"]).await;
}
