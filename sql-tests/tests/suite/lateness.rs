//! What is late is decided by the cuts as they were taken, for every view alike: one that was there when the rows came, one
//! that reads them from a table or view afterwards, and one that does so after old versions were cleaned away and
//! the server was killed. A time far in the future makes nothing late.

use super::sources::put_text;
use eddyline_sql_tests::client::{number, run};
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
    let on_time = "SELECT id FROM event WHERE CURRENT_WATERMARK(at) IS NULL OR at > CURRENT_WATERMARK(at)";
    run(client, &format!("CREATE MATERIALIZED VIEW on_time_{suffix} AS {on_time}")).await;
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
fn second(id: i64) -> i64 {
    if id % 3 == 0 { id / 3 } else { id / 3 - id * 7 % 6 }
}

/// Of the first rows, those that are not behind the watermark that the ones before have made.
fn on_time(rows: i64) -> Vec<i64> {
    let watermark = |id: i64| (0..id).map(|before| second(before) - 1).max();
    (0..rows).filter(|id| watermark(*id).is_none_or(|watermark| second(*id) >= watermark)).collect()
}

async fn insert(client: &Client, ids: std::ops::Range<i64>) {
    for id in ids {
        let second = second(id);
        for table in ["event", "reading"] {
            let row = format!("INSERT INTO {table} VALUES ({id}, TIMESTAMP '2024-01-01 00:01:00' + INTERVAL '{second} seconds')");
            run(client, &row).await;
        }
    }
}

/// After so many rows.
async fn compare(client: &Client, suffixes: &[&str], rows: i64) {
    assert!(on_time(rows).len() < rows as usize);
    for suffix in suffixes {
        let query = format!("SELECT id FROM on_time_{suffix} ORDER BY id");
        let found = client.query(&query, &[]).await.expect("the view can be read");
        assert_eq!(found.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), on_time(rows), "on_time_{suffix}");
    }
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
    compare(&client, &["before", "after"], 90).await;
    // Cleaning comes every two seconds while something happens; then the rows of many epochs are in few segments.
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    insert(&client, 90..93).await;
    until("a checkpoint has everything", || async {
        let query = "SELECT COUNT(*) FROM eddyline.checkpoints WHERE epoch >= (SELECT MAX(epoch) FROM eddyline.jobs)";
        (client.query_one(query, &[]).await.ok()?.get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    create(&client, "cleaned").await;
    compare(&client, &["before", "after", "cleaned"], 93).await;
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    create(&client, "restarted").await;
    insert(&client, 93..120).await;
    compare(&client, &["before", "after", "cleaned", "restarted"], 120).await;
}

/// Rows far in the future are kept, counted and told of, and close no window: what comes after them is not late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_far_in_the_future_closes_no_window() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(ServerOptions { checkpoint_interval: "20ms", ..Default::default() });
    let client = server.connect().await;
    let source = format!(
        "CREATE SOURCE s (id INT, at TIMESTAMP, WATERMARK FOR at AS at) WITH (connector = 'filesystem', path = '{}', \
         source.monitor-interval = '10 ms', watermark.future-guard = '1 day') FORMAT PLAIN ENCODE JSON",
        folder.path().display()
    );
    run(&client, &source).await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM s").await;
    let closed = "CREATE MATERIALIZED VIEW closed AS SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(at), INTERVAL \
                  '10' SECOND)) GROUP BY window_start, window_end EMIT ON WINDOW CLOSE";
    run(&client, closed).await;
    let ahead = "SELECT MAX(ahead) FROM eddyline.sources WHERE source = 's'";
    let told = "SELECT COUNT(*) FROM eddyline.errors WHERE relation = 's' AND message LIKE '%watermark.future-guard%'";
    let far = r#"{"id": 0, "at": "2100-01-01 00:00:00"}"#;
    // The second one brings a row behind the watermark of the first, in a window that must still be open.
    for (file, second) in [(1, 5), (2, 3)] {
        put_text(folder.path(), file, format!("{{\"id\": {file}, \"at\": \"2024-01-01 00:00:0{second}\"}}\n{far}\n"));
        until("the rows are here", || async { (number(&client, "SELECT n FROM counted").await == 2 * file).then_some(()) }).await;
        assert_eq!(number(&client, ahead).await, file, "file {file}");
        assert_eq!(number(&client, told).await, 1, "it is told once");
        assert_eq!(number(&client, "SELECT COUNT(*) FROM closed").await, 0, "file {file}");
    }
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    until("the rows are here again", || async { (number(&client, "SELECT n FROM counted").await == 4).then_some(()) }).await;
    assert_eq!(number(&client, ahead).await, 2, "they are counted once");
    put_text(folder.path(), 3, "{\"id\": 3, \"at\": \"2024-01-01 00:00:15\"}\n".to_string());
    let in_closed = "SELECT COALESCE(SUM(n), 0)::bigint FROM closed";
    until("the window closes", || async { (number(&client, in_closed).await == 2).then_some(()) }).await;
    assert_eq!(number(&client, "SELECT COUNT(*) FROM closed").await, 1, "the far window stays open");
    assert_eq!(number(&client, "SELECT late FROM eddyline.jobs WHERE job = 'closed'").await, 0);
}
