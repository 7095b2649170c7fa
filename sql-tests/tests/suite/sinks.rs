//! What leaves the server: through kills in mid-stream and outages of the broker nothing is lost, and what the outside makes
//! of it equals what the view shows.

use super::brokers::broker;
use super::scripts::Differences;
use eddyline_connectors::testing::KafkaBroker;
use eddyline_sql_tests::client::{number, refused, run};
use eddyline_sql_tests::process::NotReady;
use eddyline_sql_tests::wait::{until, until_within};
use eddyline_sql_tests::{Server, ServerOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tokio_postgres::Client;

const ROUNDS: i64 = 4;
const WRITES_PER_ROUND: i64 = 60;

fn options() -> ServerOptions {
    ServerOptions { checkpoint_interval: "200ms", ..Default::default() }
}

/// The view's rows as JSON texts by key, as an upsert sink writes them.
async fn shown(client: &Client) -> Option<BTreeMap<String, String>> {
    let rows = client.query("SELECT g, n, s FROM sums", &[]).await.ok()?;
    let entry = |row: &tokio_postgres::Row| {
        let (g, n, s): (i32, i64, i64) = (row.get(0), row.get(1), row.get(2));
        (format!("{{\"g\":{g}}}"), format!("{{\"g\":{g},\"n\":{n},\"s\":{s}}}"))
    };
    Some(rows.iter().map(entry).collect())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8")
}

/// What a reader of a compacted topic ends up with.
fn newest_by_key(broker: &KafkaBroker, topic: &str) -> BTreeMap<String, String> {
    let mut newest = BTreeMap::new();
    for (key, value) in broker.read_all(topic).expect("the topic is read") {
        let key = text(&key.expect("every record has a key"));
        match value {
            Some(value) => drop(newest.insert(key, text(&value))),
            None => drop(newest.remove(&key)),
        }
    }
    newest
}

/// What a reader of Debezium's envelopes ends up with.
fn debezium_by_key(broker: &KafkaBroker, topic: &str) -> BTreeMap<String, String> {
    let mut newest = BTreeMap::new();
    for (key, value) in broker.read_all(topic).expect("the topic is read") {
        let change: serde_json::Value = serde_json::from_slice(&value.expect("a change")).expect("JSON");
        let key = text(&key.expect("every record has a key"));
        let after = match change["op"].as_str() {
            Some("c" | "u") => Some(&change["after"]),
            Some("d") => None,
            other => panic!("op {other:?}"),
        };
        assert!(change["ts_ms"].as_i64().is_some_and(|ms| ms > 0));
        match after {
            Some(row) => drop(newest.insert(key, format!("{{\"g\":{},\"n\":{},\"s\":{}}}", row["g"], row["n"], row["s"]))),
            None => drop(newest.remove(&key)),
        }
    }
    newest
}

fn ids(broker: &KafkaBroker, topic: &str) -> BTreeSet<i64> {
    let records = broker.read_all(topic).expect("the topic is read");
    let id = |(_, value): (Option<Vec<u8>>, Option<Vec<u8>>)| {
        serde_json::from_slice::<serde_json::Value>(&value.expect("a row")).expect("JSON")["id"].as_i64().expect("an id")
    };
    records.into_iter().map(id).collect()
}

/// Writes until the server dies or all are done; what was acknowledged is in `logged`.
async fn write(client: &Client, from: i64, logged: &mut BTreeSet<i64>) {
    for n in from..from + WRITES_PER_ROUND {
        let log = format!("INSERT INTO log VALUES ({n}, 'row {n}')");
        // Groups come and go: an update moves a row, a delete may end a group.
        let table = format!(
            "INSERT INTO t VALUES ({0}, {1}, {n}) ON CONFLICT (id) DO UPDATE SET g = excluded.g, v = excluded.v; DELETE FROM t WHERE id = {2}",
            n % 40,
            n % 13,
            (n * 7) % 40
        );
        if client.batch_execute(&log).await.is_ok() {
            logged.insert(n);
        }
        if client.batch_execute(&table).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_kafka_through_kills() {
    let broker = broker(&[("up", 2), ("dbz", 2), ("app", 2)]);
    let mut server = Server::start(options());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT PRIMARY KEY, g INT, v BIGINT)").await;
    run(&client, "CREATE TABLE log (id BIGINT, what TEXT) APPEND ONLY").await;
    run(&client, "INSERT INTO t SELECT x, x % 5, x FROM generate_series(1, 20) AS s(x)").await;
    run(&client, "CREATE MATERIALIZED VIEW sums AS SELECT g, COUNT(*) AS n, SUM(v) AS s FROM t GROUP BY g").await;
    let to = |name: &str, from: &str, format: &str, more: &str| {
        format!(
            "CREATE SINK {name} FROM {from} WITH (connector = 'kafka', topic = '{name}', properties.bootstrap.server = '{}'{more}) {format}",
            broker.bootstrap
        )
    };
    run(&client, &to("up", "sums", "FORMAT UPSERT ENCODE JSON", ", primary_key = 'g'")).await;
    run(&client, &to("dbz", "sums", "FORMAT DEBEZIUM ENCODE JSON", "")).await;
    run(&client, &to("app", "log", "FORMAT PLAIN ENCODE JSON", "")).await;
    let mut logged = BTreeSet::new();
    let mut client = client;
    for round in 0..ROUNDS {
        let from = round * WRITES_PER_ROUND;
        let kill_after = std::time::Duration::from_millis(150 + 170 * round as u64);
        // The kill comes while rows are written and sent.
        let writing = write(&client, from, &mut logged);
        if tokio::time::timeout(kill_after, writing).await.is_err() {
            // The statement under way may or may not have been acknowledged.
        }
        tokio::task::block_in_place(|| server.kill_and_restart());
        client = server.connect().await;
    }
    write(&client, ROUNDS * WRITES_PER_ROUND, &mut logged).await;
    let wanted = until("the view is readable", || async { shown(&client).await }).await;
    assert!(!wanted.is_empty());
    let all_sent = || async {
        let rows = client.query("SELECT sink FROM eddyline.sinks WHERE waiting_bytes = 0 AND problem IS NULL", &[]).await.ok()?;
        (rows.len() == 3).then_some(())
    };
    until("everything is acknowledged", all_sent).await;
    until("the newest by key are the view", || async {
        tokio::task::block_in_place(|| newest_by_key(&broker, "up") == wanted && debezium_by_key(&broker, "dbz") == wanted).then_some(())
    })
    .await;
    let sent = tokio::task::block_in_place(|| ids(&broker, "app"));
    let stored = client.query("SELECT id FROM log", &[]).await.expect("the log is readable");
    let stored: BTreeSet<i64> = stored.iter().map(|row| row.get(0)).collect();
    assert!(logged.is_subset(&stored), "acknowledged writes are there");
    assert_eq!(sent, stored, "every row was sent, and no other");
    drop_and_create(&broker, &client, &wanted).await;
}

/// A sink that is made later starts with what is there; one that is dropped sends nothing any more.
async fn drop_and_create(broker: &KafkaBroker, client: &Client, wanted: &BTreeMap<String, String>) {
    tokio::task::block_in_place(|| broker.create_topic("late", 1, &[]).expect("a topic"));
    let sink = format!(
        "CREATE SINK late AS SELECT g, n, s FROM sums WITH (connector = 'kafka', topic = 'late', properties.bootstrap.server = '{}', \
         primary_key = 'g') FORMAT UPSERT ENCODE JSON",
        broker.bootstrap
    );
    run(client, &sink).await;
    until("a later sink has the view", || async {
        (tokio::task::block_in_place(|| newest_by_key(broker, "late")) == *wanted).then_some(())
    })
    .await;
    run(client, "DROP SINK up, dbz, late").await;
    run(client, "DELETE FROM t").await;
    let rows = client.query("SELECT sink FROM eddyline.sinks", &[]).await.expect("the relation is readable");
    assert_eq!(rows.iter().map(|r| r.get(0)).collect::<Vec<String>>(), ["app"]);
    assert_eq!(tokio::task::block_in_place(|| newest_by_key(broker, "late")), *wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_and_comes_back() {
    let broker = broker(&[("out", 1)]);
    let server = Server::start(options());
    let client = server.connect().await;
    run(&client, "CREATE TABLE log (id BIGINT, what TEXT) APPEND ONLY").await;
    let sink = format!(
        "CREATE SINK out FROM log WITH (connector = 'kafka', topic = 'out', properties.bootstrap.server = '{}') FORMAT PLAIN ENCODE JSON",
        broker.bootstrap
    );
    run(&client, &sink).await;
    run(&client, "INSERT INTO log SELECT x, 'a' FROM generate_series(1, 100) AS s(x)").await;
    until("the first rows are there", || async { (tokio::task::block_in_place(|| ids(&broker, "out")).len() == 100).then_some(()) }).await;
    tokio::task::block_in_place(|| broker.kill());
    run(&client, "INSERT INTO log SELECT x, 'b' FROM generate_series(101, 200) AS s(x)").await;
    let problem = until("the sink says what it waits for", || async {
        let row = client.query_one("SELECT state, problem, waiting_bytes FROM eddyline.sinks", &[]).await.ok()?;
        let problem: Option<String> = row.get(1);
        problem.map(|problem| (row.get::<_, String>(0), problem, row.get::<_, i64>(2)))
    })
    .await;
    assert_eq!(problem.0, "retrying");
    assert!(problem.1.contains("Kafka broker"), "{}", problem.1);
    assert!(problem.2 > 0);
    let jobs = client.simple_query("SHOW JOBS").await.expect("jobs are shown");
    assert!(format!("{jobs:?}").contains("retrying"), "{jobs:?}");
    // Nothing else waits.
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM log").await;
    let counted: i64 = client.query_one("SELECT n FROM counted", &[]).await.expect("the view is there").get(0);
    assert_eq!(counted, 200);
    run(&client, "ALTER SINK out PAUSE").await;
    tokio::task::block_in_place(|| broker.restart());
    run(&client, "ALTER SINK out RESUME").await;
    until("the rest is there", || async { (tokio::task::block_in_place(|| ids(&broker, "out")).len() == 200).then_some(()) }).await;
    until("all is well", || async {
        let row = client.query_one("SELECT problem IS NULL AND waiting_bytes = 0 FROM eddyline.sinks", &[]).await.ok()?;
        row.get::<_, bool>(0).then_some(())
    })
    .await;
}

/// From soon after its topic was deleted a sink says so, until a record is taken again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted() {
    let broker = broker(&[("gone", 1)]);
    let server = Server::start(options());
    let client = server.connect().await;
    run(&client, "CREATE TABLE log (id BIGINT, what TEXT) APPEND ONLY; INSERT INTO log VALUES (1, 'a')").await;
    let sink = format!(
        "CREATE SINK gone FROM log WITH (connector = 'kafka', topic = 'gone', properties.bootstrap.server = '{}', \
         properties.topic.metadata.propagation.max.ms = '3000') FORMAT PLAIN ENCODE JSON",
        broker.bootstrap
    );
    run(&client, &sink).await;
    until("the first row is there", || async { (tokio::task::block_in_place(|| ids(&broker, "gone")).len() == 1).then_some(()) }).await;
    tokio::task::block_in_place(|| broker.delete_topic("gone")).expect("the topic is deleted");
    run(&client, "INSERT INTO log VALUES (2, 'b')").await;
    let told = || async {
        let row = client.query_one("SELECT problem FROM eddyline.sinks WHERE state = 'retrying'", &[]).await.ok()?;
        row.get::<_, Option<String>>(0)
    };
    // What librdkafka gives up may be told first.
    let says_so = || async { told().await.filter(|problem| problem.contains("\"gone\" no longer exists")) };
    until("the sink says what it waits for", says_so).await;
    let failures = || server.metric("eddyline_sink_failures_total").unwrap_or_default();
    until("sending began again", || async { (failures() >= 2.0).then_some(()) }).await;
    until("it is not over for that", told).await;
    tokio::task::block_in_place(|| broker.create_topic("gone", 1, &[])).expect("a topic");
    until("all is well", || async {
        let row = client.query_one("SELECT state = 'running' AND waiting_bytes = 0 FROM eddyline.sinks", &[]).await.ok()?;
        row.get::<_, bool>(0).then_some(())
    })
    .await;
    assert!(tokio::task::block_in_place(|| ids(&broker, "gone")).contains(&2));
}

/// Flink's accent: tables with a connector, statement sets, windows that send when they close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_inserts_from_kafka_to_kafka() {
    let broker = broker(&[("bids", 2), ("made", 1), ("latest", 2)]);
    let mut server = Server::start(options());
    let client = server.connect().await;
    let kafka =
        |topic: &str| format!("'topic' = '{topic}', 'properties.bootstrap.servers' = '{}', 'properties.group.id' = 'g'", broker.bootstrap);
    run(
        &client,
        &format!(
            "CREATE TABLE bid (auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) \
             WITH ('connector' = 'kafka', {}, 'scan.startup.mode' = 'earliest-offset', 'format' = 'json')",
            kafka("bids")
        ),
    )
    .await;
    run(
        &client,
        &format!(
            "CREATE TABLE seconds (s TIMESTAMP(3), bidCount BIGINT) WITH ('connector' = 'kafka', {}, 'format' = 'json')",
            kafka("made")
        ),
    )
    .await;
    run(
        &client,
        &format!(
            "CREATE TABLE highest (auction BIGINT, price BIGINT, PRIMARY KEY (auction) NOT ENFORCED) \
             WITH ('connector' = 'upsert-kafka', {}, 'key.format' = 'json', 'value.format' = 'json')",
            kafka("latest").replace(", 'properties.group.id' = 'g'", "")
        ),
    )
    .await;
    run(
        &client,
        "EXECUTE STATEMENT SET BEGIN \
         INSERT INTO seconds SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' SECOND)) \
         GROUP BY window_start, window_end; \
         INSERT INTO highest SELECT auction, MAX(price) FROM bid GROUP BY auction; END",
    )
    .await;
    let total: i64 = 4_000;
    let produce = |from: i64, to: i64| {
        for n in from..to {
            let bid = format!("{{\"auction\": {}, \"price\": {n}, \"ts\": {}}}", n % 7, 1_700_000_000_000 + n * 10);
            broker.send("bids", (n % 2) as i32, None, Some(bid.as_bytes()));
        }
        broker.flush().expect("the broker takes the records");
    };
    for round in 0..4 {
        std::thread::scope(|scope| {
            scope.spawn(|| produce(round * total / 4, (round + 1) * total / 4));
            std::thread::sleep(std::time::Duration::from_millis(300));
            server.kill();
            server.launch().expect("the server starts again");
        });
    }
    let wanted: BTreeMap<String, String> = (0..7)
        .map(|a| {
            let price = (0..total).filter(|n| n % 7 == a).max().unwrap_or_default();
            (format!("{{\"auction\":{a}}}"), format!("{{\"auction\":{a},\"price\":{price}}}"))
        })
        .collect();
    until("the highest prices are there", || async {
        (tokio::task::block_in_place(|| newest_by_key(&broker, "latest")) == wanted).then_some(())
    })
    .await;
    // Every second but the last ones has closed, with all of its 100 bids, and was sent with that count only.
    until("the seconds are there", || async {
        let records = tokio::task::block_in_place(|| broker.read_all("made")).ok()?;
        let rows: BTreeSet<String> = records.iter().map(|(_, value)| text(value.as_ref().expect("a row"))).collect();
        assert!(rows.iter().all(|row| row.ends_with("\"bidCount\":100}")), "{rows:?}");
        (rows.len() >= 38).then_some(())
    })
    .await;
    let client = server.connect().await;
    let jobs = client.query("SELECT job FROM eddyline.jobs WHERE job LIKE 'insert%' ORDER BY job", &[]).await.expect("jobs are shown");
    assert_eq!(jobs.iter().map(|r| r.get(0)).collect::<Vec<String>>(), ["insert_into_highest_1", "insert_into_seconds_1"]);
    run(&client, "INSERT INTO highest VALUES (99, 1), (100, NULL)").await;
    let newest = tokio::task::block_in_place(|| newest_by_key(&broker, "latest"));
    assert_eq!(newest.get("{\"auction\":99}").map(String::as_str), Some("{\"auction\":99,\"price\":1}"));
    assert_eq!(newest.get("{\"auction\":100}").map(String::as_str), Some("{\"auction\":100,\"price\":null}"));
    let in_use = client.batch_execute("DROP TABLE highest").await.expect_err("a job writes to it");
    assert_eq!(in_use.code().map(|c| c.code()), Some("2BP01"));
    run(&client, "DROP JOB insert_into_highest_1; DROP TABLE highest").await;
}

/// A table that is written is read as it was written, by key and as files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_back() {
    let broker = broker(&[("by_key", 2), ("changes", 2)]);
    let out = tempfile::tempdir().expect("a folder");
    let server = Server::start(options());
    let client = server.connect().await;
    let kafka = |topic: &str| format!("'topic' = '{topic}', 'properties.bootstrap.servers' = '{}'", broker.bootstrap);
    run(&client, "CREATE TABLE t (k INT PRIMARY KEY, v TEXT, at TIMESTAMP)").await;
    run(&client, "CREATE TABLE log (id BIGINT, what TEXT, list INT[], at TIMESTAMP) APPEND ONLY").await;
    let columns = "k INT, v STRING, at TIMESTAMP(3), PRIMARY KEY (k) NOT ENFORCED";
    let tables = [
        format!(
            "CREATE TABLE by_key ({columns}) WITH ('connector' = 'upsert-kafka', {}, 'key.format' = 'json', 'value.format' = 'json', \
             'value.fields-include' = 'EXCEPT_KEY')",
            kafka("by_key")
        ),
        format!("CREATE TABLE changes ({columns}) WITH ('connector' = 'kafka', {}, 'format' = 'debezium-json')", kafka("changes")),
        format!(
            "CREATE TABLE files (id BIGINT, what STRING, list ARRAY<INT>, at TIMESTAMP(3)) WITH ('connector' = 'filesystem', \
             'path' = '{}', 'format' = 'csv', 'csv.field-delimiter' = ';', 'sink.rolling-policy.rollover-interval' = '100 ms')",
            out.path().join("made").display()
        ),
    ];
    for table in &tables {
        run(&client, table).await;
    }
    run(&client, "INSERT INTO by_key SELECT * FROM t; INSERT INTO changes SELECT * FROM t; INSERT INTO files SELECT * FROM log").await;
    run(
        &client,
        "INSERT INTO t SELECT x, 'v ' || x, TIMESTAMP '2024-01-01 00:00:00.123' FROM generate_series(1, 40) AS s(x); \
         UPDATE t SET v = NULL WHERE k % 3 = 0; DELETE FROM t WHERE k % 5 = 0; \
         INSERT INTO log VALUES (1, 'a;\"b\"', ARRAY[1, 2], TIMESTAMP '2024-01-01 00:00:00'), (2, '', NULL, NULL), (3, NULL, ARRAY[]::INT[], NULL)",
    )
    .await;
    for (written, read) in [("t", "by_key"), ("t", "changes"), ("log", "files")] {
        let missing = format!("SELECT COUNT(*) FROM (SELECT * FROM {written} EXCEPT SELECT * FROM {read}) AS d");
        let more = format!("SELECT COUNT(*) FROM (SELECT * FROM {read} EXCEPT SELECT * FROM {written}) AS d");
        let count = async |query: &str| Some(client.query_one(query, &[]).await.ok()?.get::<_, i64>(0));
        until(&format!("{read} has the rows of {written}"), || async {
            (count(&missing).await? == 0 && count(&more).await? == 0).then_some(())
        })
        .await;
    }
}

/// All lines of the files that show; each is there once.
pub(super) fn lines(dir: &Path) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return lines };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            lines.extend(self::lines(&path).into_iter().map(|line| format!("{}/{line}", path.file_name().unwrap_or_default().display())));
            continue;
        }
        // A file may be taken back and come again while this looks.
        for line in std::fs::read_to_string(&path).unwrap_or_default().lines() {
            assert!(lines.insert(line.to_string()), "{line} is there twice");
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_complete_after_kills() {
    let out = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(options());
    let client = server.connect().await;
    run(&client, "CREATE TABLE log (id BIGINT, parity TEXT) APPEND ONLY").await;
    let sink = format!(
        "CREATE SINK files FROM log WITH (connector = 'filesystem', path = '{}', partition_by = 'parity', \
         sink.rolling-policy.rollover-interval = '100 ms') FORMAT PLAIN ENCODE JSON",
        out.path().display()
    );
    run(&client, &sink).await;
    let mut client = client;
    let mut next = 0;
    for round in 0..5 {
        let until_kill = tokio::time::Instant::now() + std::time::Duration::from_millis(200 + round * 150);
        while tokio::time::Instant::now() < until_kill {
            let insert = format!(
                "INSERT INTO log SELECT x, CASE WHEN x % 2 = 0 THEN 'even' ELSE 'odd' END FROM generate_series({next}, {}) AS s(x)",
                next + 9
            );
            run(&client, &insert).await;
            next += 10;
        }
        tokio::task::block_in_place(|| server.kill_and_restart());
        client = server.connect().await;
    }
    let wanted: BTreeSet<String> =
        (0..next).map(|x| format!("parity={}/{{\"id\":{x}}}", if x % 2 == 0 { "even" } else { "odd" })).collect();
    until("every row is in a file, once", || async { (lines(out.path()) == wanted).then_some(()) }).await;
}

async fn state_of(client: &Client, job: &str) -> Option<(String, String)> {
    let row = client.query_one("SELECT state, coalesce(error, '') FROM eddyline.jobs WHERE job = $1", &[&job]).await.ok()?;
    Some((row.get(0), row.get(1)))
}

/// A folder that cannot be written to is tried again, and nothing else waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_goes_and_comes_back() {
    let out = tempfile::tempdir().expect("a folder");
    let (folder, away) = (out.path().join("made"), out.path().join("away"));
    let server = Server::start(options());
    let client = server.connect().await;
    run(&client, "CREATE TABLE log (id BIGINT) APPEND ONLY").await;
    std::fs::write(out.path().join("file"), "").expect("a file");
    let sink = |path: &Path| {
        format!(
            "CREATE SINK files FROM log WITH (connector = 'filesystem', path = '{}', sink.rolling-policy.rollover-interval = '50 ms') \
             FORMAT PLAIN ENCODE JSON",
            path.display()
        )
    };
    let error = refused(&client, &sink(&out.path().join("file/below"))).await;
    assert_eq!((error.code().code(), error.message().contains("cannot create folder")), ("58030", true), "{error:?}");
    run(&client, &sink(&folder)).await;
    run(&client, "INSERT INTO log VALUES (1)").await;
    let wanted = |to: i64| (1..=to).map(|id| format!("{{\"id\":{id}}}")).collect::<BTreeSet<String>>();
    until("the first row is there", || async { (lines(&folder) == wanted(1)).then_some(()) }).await;
    std::fs::rename(&folder, &away).expect("the folder moves");
    std::fs::write(&folder, "").expect("a file in its place");
    run(&client, "INSERT INTO log VALUES (2)").await;
    let (_, error) =
        until("the job shows what it waits for", || async { state_of(&client, "files").await.filter(|(state, _)| state == "retrying") })
            .await;
    assert!(error.contains("made"), "{error}");
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM log").await;
    run(&client, "INSERT INTO log VALUES (3)").await;
    let counted: i64 = client.query_one("SELECT n FROM counted", &[]).await.expect("nothing else waits").get(0);
    assert_eq!(counted, 3);
    std::fs::remove_file(&folder).expect("the file goes");
    std::fs::rename(&away, &folder).expect("the folder is back");
    until("all rows are there, once", || async { (lines(&folder) == wanted(3)).then_some(()) }).await;
    until("the job runs again", || async { state_of(&client, "files").await.filter(|(state, _)| state == "running") }).await;
}

/// A sink's log of which a sync failed takes nothing more until the next start; checkpoints and other jobs go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_lost_holds_up_its_own_job_only() {
    let out = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(ServerOptions { failpoints: "sink.log_synced=error@4".to_string(), ..options() });
    let client = server.connect().await;
    run(&client, "CREATE TABLE log (id BIGINT) APPEND ONLY").await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM log").await;
    let sink = format!(
        "CREATE SINK files FROM log WITH (connector = 'filesystem', path = '{}', sink.rolling-policy.rollover-interval = '50 ms') \
         FORMAT PLAIN ENCODE JSON",
        out.path().display()
    );
    run(&client, &sink).await;
    let mut next = 0;
    let (_, error) = loop {
        next += 1;
        run(&client, &format!("INSERT INTO log VALUES ({next})")).await;
        if let Some(found) = state_of(&client, "files").await.filter(|(state, _)| state == "retrying") {
            break found;
        }
        assert!(next < 2000, "the log fails");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    // Whichever of its threads meets it first says so.
    assert!(error.contains("its log cannot be written") || error.contains("the log is closed for writing"), "{error}");
    let checkpoints = async || {
        let row = client.query_one("SELECT COUNT(*) FROM eddyline.checkpoints WHERE problem IS NULL", &[]).await.ok()?;
        Some(row.get::<_, i64>(0))
    };
    let before = until("checkpoints are shown", || async { checkpoints().await }).await;
    let mut more = next;
    while checkpoints().await.is_some_and(|n| n < before + 3) {
        more += 1;
        run(&client, &format!("INSERT INTO log VALUES ({more})")).await;
        assert!(more < next + 2000, "checkpoints go on");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let counted: i64 = client.query_one("SELECT n FROM counted", &[]).await.expect("views go on").get(0);
    assert_eq!(counted, more);
    server.options.failpoints.clear();
    tokio::task::block_in_place(|| server.kill_and_restart());
    let wanted: BTreeSet<String> = (1..=more).map(|id| format!("{{\"id\":{id}}}")).collect();
    until("after the next start all rows are sent", || async { (lines(out.path()) == wanted).then_some(()) }).await;
}

/// The way outside can be changed while it does not work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_broker_takes_what_waits() {
    let broker = broker(&[("out", 1)]);
    let server = Server::start(options());
    let client = server.connect().await;
    run(&client, "CREATE TABLE log (id BIGINT) APPEND ONLY").await;
    let sink = format!(
        "CREATE SINK out FROM log WITH (connector = 'kafka', topic = 'out', properties.bootstrap.server = '{}') FORMAT PLAIN ENCODE JSON",
        broker.bootstrap
    );
    run(&client, &sink).await;
    run(&client, "ALTER SINK out SET (properties.bootstrap.server = 'localhost:1')").await;
    run(&client, "INSERT INTO log VALUES (1), (2)").await;
    until("the sink finds nobody", || async { state_of(&client, "out").await.filter(|(state, _)| state == "retrying") }).await;
    run(&client, &format!("ALTER SINK out SET (properties.bootstrap.server = '{}', properties.linger.ms = '1')", broker.bootstrap)).await;
    until("the rows are there", || async { (tokio::task::block_in_place(|| ids(&broker, "out")) == BTreeSet::from([1, 2])).then_some(()) })
        .await;
    until("all is well", || async { state_of(&client, "out").await.filter(|(state, _)| state == "running") }).await;
}

/// A log that may grow no further stops or pauses its own job, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_log_holds_up_nobody_else() {
    let server = Server::start(ServerOptions { ring_size: "1MiB", ..options() });
    let client = server.connect().await;
    run(
        &client,
        "CREATE SOURCE bid (auction BIGINT, price BIGINT, url VARCHAR, extra VARCHAR) \
         WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '200000')",
    )
    .await;
    run(&client, "CREATE TABLE log (id BIGINT, what TEXT) APPEND ONLY").await;
    run(&client, "CREATE SINK out AS SELECT * FROM bid WITH (connector = 'blackhole', sink.log-size = '1MB')").await;
    run(&client, "ALTER JOB out PAUSE").await;
    run(&client, "CREATE SINK logged FROM log WITH (connector = 'blackhole', sink.log-size = '1')").await;
    run(&client, "ALTER JOB logged PAUSE").await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM bid").await;
    until("the view has everything", || async {
        let row = client.query_one("SELECT n FROM counted", &[]).await.ok()?;
        (row.get::<_, i64>(0) == 184_000).then_some(())
    })
    .await;
    until("the job over a table stops", || async {
        run(&client, "INSERT INTO log VALUES (1, 'a')").await;
        let row = client.query_one("SELECT state, error FROM eddyline.jobs WHERE job = 'logged'", &[]).await.ok()?;
        (row.get::<_, String>(0) == "stopped").then(|| assert!(row.get::<_, String>(1).contains("wait to be sent")))
    })
    .await;
    let n: i64 = client.query_one("SELECT COUNT(*) FROM log", &[]).await.expect("the table is readable").get(0);
    assert!(n >= 2, "the table goes on");
    run(&client, "ALTER JOB out RESUME").await;
    run(&client, "ALTER JOB logged RESUME").await;
    until("the sink over a source has sent everything", || async {
        let row = client.query_one("SELECT rows_sent FROM eddyline.sinks WHERE sink = 'out'", &[]).await.ok()?;
        (row.get::<_, i64>(0) >= 184_000).then_some(())
    })
    .await;
    until("what the stopped job had emitted is sent", || async {
        let row = client.query_one("SELECT rows_sent FROM eddyline.sinks WHERE sink = 'logged'", &[]).await.ok()?;
        (row.get::<_, i64>(0) >= 1).then_some(())
    })
    .await;
}

/// A row that takes another's place is one, though it is two changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_went_out_are_counted() {
    let server = Server::start(options());
    let client = server.connect().await;
    for statement in [
        "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE copy (id INT PRIMARY KEY, v INT)",
        "CREATE SINK into_copy INTO copy FROM t",
    ] {
        run(&client, statement).await;
    }
    let steps = [
        ("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)", 3),
        ("UPDATE t SET v = v + 1", 6),
        ("DELETE FROM t WHERE id = 1", 7),
        ("INSERT INTO t VALUES (4, 4)", 8),
    ];
    for (statement, records) in steps {
        run(&client, statement).await;
        until(statement, || async {
            let sent = number(&client, "SELECT rows_sent FROM eddyline.sinks WHERE sink = 'into_copy'").await;
            assert!(sent <= records, "{statement}: {sent}");
            (sent == records).then_some(())
        })
        .await;
    }
}

/// Rows that go from tables and a source into tables are there exactly once, wherever the server is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_tables_through_kills() {
    let mut server = Server::start(options());
    let mut client = server.connect().await;
    for statement in [
        "CREATE TABLE t (id INT PRIMARY KEY, g INT, v BIGINT)",
        "CREATE TABLE log (id BIGINT, what TEXT) APPEND ONLY",
        "CREATE SOURCE bid (auction BIGINT, price BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '60000', \
         nexmark.rate = '12000')",
        "CREATE TABLE copy (id BIGINT, what TEXT)",
        "CREATE TABLE sums (g INT PRIMARY KEY, n BIGINT, s BIGINT)",
        "CREATE TABLE bids (auction BIGINT, price BIGINT) APPEND ONLY",
        "CREATE SINK into_copy INTO copy FROM log",
        "CREATE SINK into_sums INTO sums AS SELECT g, COUNT(*), CAST(SUM(v) AS BIGINT) FROM t WHERE g IS NOT NULL GROUP BY g",
        "CREATE MATERIALIZED VIEW totals AS SELECT COUNT(*) AS n, SUM(s) AS s FROM sums",
        "INSERT INTO bids SELECT auction, price FROM bid",
    ] {
        run(&client, statement).await;
    }
    let mut logged = BTreeSet::new();
    let points = ["sink.flushed", "sink.before_flush", "cut.logged", "sink.write", "sink.log_synced", "sink.flushed"];
    for (round, point) in points.iter().enumerate() {
        let from = round as i64 * WRITES_PER_ROUND;
        let _killed = tokio::time::timeout(std::time::Duration::from_millis(400), write(&client, from, &mut logged)).await;
        server.kill();
        server.options.failpoints = format!("{point}=kill@{}", 2 + round * 3);
        // It may be gone before it is ready.
        if server.launch().inspect_err(NotReady::assert_killed).is_ok()
            && let Ok(connected) = server.try_connect().await
        {
            client = connected;
        }
    }
    server.kill();
    server.options.failpoints.clear();
    server.launch().expect("without failpoints it starts");
    client = server.connect().await;
    write(&client, points.len() as i64 * WRITES_PER_ROUND, &mut logged).await;
    for (left, right) in [
        ("SELECT * FROM copy", "SELECT * FROM log"),
        ("SELECT * FROM sums", "SELECT g, COUNT(*), CAST(SUM(v) AS BIGINT) FROM t WHERE g IS NOT NULL GROUP BY g"),
        ("SELECT * FROM totals", "SELECT COUNT(*) AS n, SUM(s) AS s FROM sums"),
    ] {
        let equal = || async { Differences::between(&client, left, right).await.is_empty().then_some(()) };
        until(left, equal).await;
    }
    let all = || async { (number(&client, "SELECT COUNT(*) FROM bids").await == 55_200).then_some(()) };
    until_within(std::time::Duration::from_secs(60), "all bids", all).await;
    let equal = Differences::between(&client, "SELECT auction, price FROM bids", "SELECT auction, price FROM bid").await;
    assert!(equal.is_empty(), "{equal}");
    let copied = number(&client, "SELECT COUNT(*) FROM copy").await;
    assert!(copied >= logged.len() as i64, "acknowledged writes are there");
    assert_eq!(copied, number(&client, "SELECT COUNT(DISTINCT id) FROM copy").await, "none twice");
}
