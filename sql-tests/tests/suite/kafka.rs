//! The main job on real input: JSON from a Kafka broker into a window view and an updating view, read over pgwire while
//! the server is killed in mid-stream. Every record counts once; bad ones are found with their place and reason.

use super::brokers::broker;
use eddyline_connectors::testing::KafkaBroker;
use eddyline_sql_tests::client::{numbers, problem_of, refused};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use tokio_postgres::Client;

const PARTITIONS: i32 = 2;
const PER_ROUND: i64 = 5_000;

/// The n-th record: 50 users in turn, a hundredth of a second apart.
fn record(n: i64) -> String {
    let micros = 1_700_000_000_000_000 + n * 10_000;
    format!("{{\"user_id\": {}, \"url\": \"/p/{}\", \"at\": {}, \"ignored\": [1, {{}}]}}", n % 50, n % 7, micros / 1000)
}

fn produce(broker: &KafkaBroker, from: i64, to: i64) {
    for n in from..to {
        broker.send("clicks", (n % PARTITIONS as i64) as i32, None, Some(record(n).as_bytes()));
    }
    broker.flush().expect("the broker takes the records");
}

async fn create(client: &Client, bootstrap: &str) {
    let source = format!(
        "CREATE SOURCE clicks (user_id BIGINT NOT NULL, url VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '5 seconds') \
         INCLUDE PARTITION AS p INCLUDE OFFSET AS o \
         WITH (connector = 'kafka', topic = 'clicks', properties.bootstrap.server = '{bootstrap}', scan.startup.mode = 'earliest', \
         scan.topic-partition-discovery.interval = '200 ms') FORMAT PLAIN ENCODE JSON"
    );
    let views = [
        "CREATE MATERIALIZED VIEW per_user AS SELECT user_id, COUNT(*) AS n, MAX(at) AS latest FROM clicks GROUP BY user_id",
        "CREATE MATERIALIZED VIEW per_second AS SELECT window_start, COUNT(*) AS n \
         FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' SECOND)) GROUP BY window_start, window_end",
        "CREATE MATERIALIZED VIEW seen AS SELECT p, o FROM clicks",
    ];
    for statement in std::iter::once(source.as_str()).chain(views) {
        client.batch_execute(statement).await.expect("the definitions are accepted");
    }
}

const COUNTS: &str = "SELECT (SELECT SUM(n)::bigint FROM per_user), (SELECT SUM(n)::bigint FROM per_second), (SELECT COUNT(*) FROM seen), \
     (SELECT COUNT(*) FROM (SELECT DISTINCT p, o FROM seen) AS d)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_kafka_to_views_through_kills() {
    let broker = broker(&[("clicks", PARTITIONS)]);
    produce(&broker, 0, PER_ROUND);
    let mut server = Server::start(ServerOptions { checkpoint_interval: "200ms", ..Default::default() });
    create(&server.connect().await, &broker.bootstrap).await;
    for round in 1..=4 {
        let total = (round + 1) * PER_ROUND;
        // The kill comes while the records do.
        std::thread::scope(|scope| {
            scope.spawn(|| produce(&broker, round * PER_ROUND, total));
            server.kill();
            server.launch().expect("the server starts again");
        });
        let client = server.connect().await;
        until("every record is in every view once", || async {
            let counts = numbers(&client, COUNTS).await?;
            assert_eq!(counts[0], counts[1], "the views are read at one epoch");
            assert_eq!(counts[2], counts[3], "no record is there twice");
            assert!(counts[0] <= total, "no record counts twice");
            assert_eq!(numbers(&client, WRONG_LAGS).await?, [0]);
            (counts == [total, total, total, total]).then_some(())
        })
        .await;
    }
    caught_up(&server, 5 * PER_ROUND).await;
    bad_records(&broker, &server).await;
    silent_partition(&broker, &server).await;
    new_partitions(&broker, &mut server).await;
}

/// Partitions whose lag is not what there is beyond the next offset.
const WRONG_LAGS: &str =
    "SELECT COUNT(*) FROM eddyline.sources WHERE (end_offset IS NULL) <> (lag IS NULL) OR lag <> GREATEST(end_offset - next_offset, 0)";

/// What `eddyline.sources` says of `total` records that are all read: each partition has half of them, and the watermark is five seconds
/// behind the last of the one that ends first.
async fn caught_up(server: &Server, total: i64) {
    let client = server.connect().await;
    let offsets = "SELECT MIN(next_offset), MAX(next_offset), MIN(end_offset), MAX(end_offset), MAX(lag), COUNT(*) FROM eddyline.sources \
                   WHERE source = 'clicks'";
    let half = total / 2;
    let wanted = [half, half, half, half, 0, i64::from(PARTITIONS)];
    until("the ends are known", || async { (numbers(&client, offsets).await? == wanted).then_some(()) }).await;
    let millis = (total - i64::from(PARTITIONS)) * 10 - 5_000;
    let watermark = format!("TIMESTAMP '2023-11-14 22:13:20' + INTERVAL '{millis} milliseconds'");
    let there = format!("SELECT COUNT(*) FROM eddyline.sources WHERE source = 'clicks' AND watermark = {watermark}");
    assert_eq!(numbers(&client, &there).await, Some(vec![i64::from(PARTITIONS)]));
    assert_eq!(server.metric("eddyline_source_lag_records"), Some(0.0));
    // The sum over partitions.
    assert_eq!(server.metric("eddyline_source_next_offset"), Some(total as f64));
    assert_eq!(server.metric("eddyline_source_end_offset"), Some(total as f64));
    let seconds = 1_700_000_000.0 + millis as f64 / 1000.0;
    assert_eq!(server.metric("eddyline_source_watermark_timestamp_seconds"), Some(seconds));
}

/// A partition that is silent holds windows open, unless its source has an idle timeout.
async fn silent_partition(broker: &KafkaBroker, server: &Server) {
    let tick = |partition: i32, second: i64| {
        let record = format!("{{\"id\": {second}, \"at\": {}}}", 1_700_000_000_000 + second * 1_000);
        broker.send("ticks", partition, None, Some(record.as_bytes()));
    };
    tokio::task::block_in_place(|| {
        broker.create_topic("ticks", 2, &[]).expect("a topic");
        (0..5).for_each(|second| tick(0, second));
        broker.flush().expect("the broker takes the records");
    });
    let client = server.connect().await;
    for (source, idle) in [("patient", ""), ("impatient", ", scan.watermark.idle-timeout = '300 ms'")] {
        let statements = format!(
            "CREATE SOURCE {source} (id BIGINT, at TIMESTAMP, WATERMARK FOR at AS at) WITH (connector = 'kafka', topic = 'ticks', \
             properties.bootstrap.server = '{}', scan.startup.mode = 'earliest'{idle}) FORMAT PLAIN ENCODE JSON; \
             CREATE MATERIALIZED VIEW {source}_closed AS SELECT window_end, COUNT(*) AS n \
             FROM TABLE(TUMBLE(TABLE {source}, DESCRIPTOR(at), INTERVAL '1' SECOND)) GROUP BY window_start, window_end EMIT ON WINDOW CLOSE",
            broker.bootstrap
        );
        client.batch_execute(&statements).await.expect("the definitions are accepted");
    }
    let closed = "SELECT (SELECT COUNT(*) FROM patient_closed), (SELECT COUNT(*) FROM impatient_closed)";
    until("windows close without the silent partition", || async { (numbers(&client, closed).await? == [0, 4]).then_some(()) }).await;
    tokio::task::block_in_place(|| {
        tick(1, 4);
        broker.flush().expect("the broker takes the record");
    });
    until("they close once it has spoken", || async { (numbers(&client, closed).await? == [4, 4]).then_some(()) }).await;
}

/// A partition that comes up while the source runs is read from its start; after a kill the same records are there, each
/// once, also in a view that is made then and in the source read as a table.
async fn new_partitions(broker: &KafkaBroker, server: &mut Server) {
    let total = 5 * PER_ROUND;
    tokio::task::block_in_place(|| {
        broker.add_partitions("clicks", PARTITIONS + 2).expect("the topic grows");
        for n in total..total + PER_ROUND {
            broker.send("clicks", PARTITIONS + (n % 2) as i32, None, Some(record(n).as_bytes()));
        }
        broker.flush().expect("the broker takes the records");
    });
    let all = total + PER_ROUND;
    let client = server.connect().await;
    until("the new partitions are read", || async { (numbers(&client, COUNTS).await? == [all + 1, all, all + 1, all + 1]).then_some(()) })
        .await;
    for _ in 0..2 {
        tokio::task::block_in_place(|| server.kill_and_restart());
        let client = server.connect().await;
        assert_eq!(numbers(&client, COUNTS).await, Some(vec![all + 1, all, all + 1, all + 1]), "nothing is lost and nothing twice");
    }
    let client = server.connect().await;
    let again = "CREATE MATERIALIZED VIEW again AS SELECT p, COUNT(*) AS n FROM clicks GROUP BY p";
    client.batch_execute(again).await.expect("the view is accepted");
    let counts = "SELECT (SELECT SUM(n)::bigint FROM again), (SELECT COUNT(*) FROM again), (SELECT COUNT(*) FROM clicks)";
    until("a new view has them too", || async { (numbers(&client, counts).await? == [all + 1, 4, all + 1]).then_some(()) }).await;
    lost_offsets(broker, server).await;
}

/// Records that retention removed before they were read are an error that says so, or are left out on demand, with a
/// line about it.
async fn lost_offsets(broker: &KafkaBroker, server: &Server) {
    tokio::task::block_in_place(|| broker.create_topic("short", 1, &[]).expect("a topic"));
    let client = server.connect().await;
    for (name, more) in [("waits", ""), ("skips", ", scan.lost-offsets = 'skip'")] {
        let source = format!(
            "CREATE SOURCE {name} (user_id BIGINT) WITH (connector = 'kafka', topic = 'short', \
             properties.bootstrap.server = '{}'{more}) FORMAT PLAIN ENCODE JSON",
            broker.bootstrap
        );
        client.batch_execute(&source).await.expect("the source is accepted");
    }
    tokio::task::block_in_place(|| {
        (0..100).for_each(|n| broker.send("short", 0, None, Some(record(n).as_bytes())));
        broker.flush().expect("the broker takes the records");
        broker.delete_records("short", 0, 60).expect("records are removed");
    });
    for name in ["waits", "skips"] {
        let view = format!("CREATE MATERIALIZED VIEW of_{name} AS SELECT COUNT(*) AS n FROM {name}");
        client.batch_execute(&view).await.expect("the view is accepted");
    }
    let skipped = "SELECT n, (SELECT COUNT(*) FROM eddyline.undecodable_records WHERE source = 'skips' AND \"offset\" = 0 \
                   AND reason = 'offsets 0 to 59 were removed from the topic before they were read') FROM of_skips";
    until("the rest is read, and what is gone is put down", || async { (numbers(&client, skipped).await? == [40, 1]).then_some(()) }).await;
    // A query reads what there is.
    assert_eq!(numbers(&client, "SELECT COUNT(*), MIN(user_id), MAX(user_id) FROM waits").await, Some(vec![40, 10, 49]));
    let problem = until("the source says what it waits for", || problem_of(&client, "waits")).await;
    let says = "partition 0 of topic \"short\" does not have offset 0 any more, the earliest is 60";
    assert!(problem.contains(says) && problem.contains("HINT: "), "{problem}");
}

async fn bad_records(broker: &KafkaBroker, server: &Server) {
    let client = server.connect().await;
    for bad in ["{\"user_id\": \"x\"", "{\"url\": \"/no/user\"}", "[]"] {
        broker.send("clicks", 0, None, Some(bad.as_bytes()));
    }
    broker.send("clicks", 0, None, Some(record(3).as_bytes()));
    broker.flush().expect("the broker takes the records");
    let query = "SELECT COUNT(*), COUNT(DISTINCT \"offset\"), COUNT(reason) FROM eddyline.undecodable_records WHERE source = 'clicks' AND topic = 'clicks'";
    until("the bad records are shown", || async { (numbers(&client, query).await? == [3, 3, 3]).then_some(()) }).await;
    let late = "SELECT COUNT(*) FROM eddyline.late_rows WHERE view = 'per_second'";
    until("the late record is shown", || async { (numbers(&client, late).await? == [1]).then_some(()) }).await;
    let total = 5 * PER_ROUND;
    // Only the window view refuses the late one.
    until("the good record counts", || async {
        (numbers(&client, COUNTS).await? == [total + 1, total, total + 1, total + 1]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_an_error_at_create() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    let away = "CREATE SOURCE s (a BIGINT) WITH (connector = 'kafka', topic = 't', properties.bootstrap.server = '127.0.0.1:9') FORMAT PLAIN ENCODE JSON";
    let begun = std::time::Instant::now();
    let error = refused(&client, away).await;
    assert_eq!(error.code().code(), "08006");
    assert!(error.hint().is_some());
    assert!(begun.elapsed() < std::time::Duration::from_secs(15));
    client.batch_execute("SELECT 1").await.expect("the session lives");
}
