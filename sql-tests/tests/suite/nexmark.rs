//! Nexmark: the queries q0 to q22 as materialized views, fed over the wire with events that are out of order, and checked against
//! their own text at every epoch, through a kill. The queries are in `nexmark/`, a file each. The streams are tables here; with a
//! connector in their place nothing else changes. q10 is also what it is in Flink: an INSERT that keeps running, into files whose folders are named by day and
//! minute, which are read back.

use super::scripts::{Differences, statements};
use eddyline_planner::RULES;
use eddyline_sql_tests::client::{number, rows, run as execute};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tokio_postgres::{Client, SimpleQueryMessage};

const EVENTS: usize = 2_500;
/// Between two events; all of them take a minute and a quarter of event time.
const GAP_NANOS: u64 = 30_000_000;
/// How far an event may be behind, in microseconds: less than the watermark is.
const DISORDER: i64 = 3_500_000;
const EPOCHS: usize = 8;
const KILL_AFTER: usize = 4;
const QUERIES: usize = 23;

/// Every bid with the `now` of its cut, as it was recorded.
const ARRIVED: &str = "CREATE MATERIALIZED VIEW arrived AS SELECT bidder, p_time FROM bid";

/// Views whose rows depend on when they came, and what they are over that, or whenever it is.
const BY_ARRIVAL: &[(usize, &str, &str)] = &[
    (
        12,
        "SELECT * FROM q12",
        "SELECT bidder, COUNT(*), window_start, window_end FROM TABLE(TUMBLE(TABLE arrived, DESCRIPTOR(p_time), INTERVAL '10' SECOND)) \
         GROUP BY bidder, window_start, window_end",
    ),
    (
        13,
        "SELECT * FROM q13",
        "SELECT b.auction, b.bidder, b.price, b.dateTime, s.`value` FROM bid AS b JOIN side_input AS s ON MOD(b.auction, 100) = s.key",
    ),
];

/// A row for one of the tables.
struct Event {
    order: i64,
    table: &'static str,
    values: String,
}

/// The generator's events, each somewhat out of its place.
async fn events(client: &Client) -> Vec<Event> {
    let mut random = StdRng::seed_from_u64(7);
    let mut events = Vec::new();
    for (table, time) in [("person", 6), ("auction", 5), ("bid", 5)] {
        let create = format!(
            "CREATE SOURCE generated_{table} WITH (connector = 'nexmark', nexmark.table.type = '{table}', \
             nexmark.event.num = '{EVENTS}', nexmark.min.event.gap.in.ns = '{GAP_NANOS}')"
        );
        client.batch_execute(&create).await.unwrap_or_else(|e| panic!("{create}: {e:?}"));
        let query = format!("SELECT * FROM generated_{table}");
        for message in client.simple_query(&query).await.unwrap_or_else(|e| panic!("{query}: {e:?}")) {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let literal = |i| row.get(i).map_or("NULL".to_string(), |text: &str| format!("'{}'", text.replace('\'', "''")));
            let values = (0..row.len()).map(literal).collect::<Vec<_>>().join(", ");
            let order = micros(row.get(time).expect("an event has a time")) + random.random_range(0..DISORDER);
            events.push(Event { order, table, values: format!("({values})") });
        }
    }
    events.sort_by_key(|event| event.order);
    assert_eq!(events.len(), EVENTS);
    events
}

/// Microseconds within the day of `YYYY-MM-DD hh:mm:ss[.f]`.
fn micros(time: &str) -> i64 {
    let (hours, rest) = time.split_once(' ').and_then(|(_, clock)| clock.split_once(':')).expect("a timestamp");
    let (minutes, seconds) = rest.split_once(':').expect("a timestamp");
    let whole: i64 = hours.parse::<i64>().unwrap() * 3600 + minutes.parse::<i64>().unwrap() * 60;
    whole * 1_000_000 + (seconds.parse::<f64>().unwrap() * 1e6) as i64
}

/// `plain`: with the rules off that only make plans faster, but for the one that takes processing time out of views without it, and the one that
/// lets relations be joined with commas.
async fn create_views(client: &Client, plain: bool) {
    let kept = ["enable_projection_pushdown", "enable_join_reordering"];
    for rule in RULES.into_iter().filter(|rule| plain && !kept.contains(rule)) {
        client.batch_execute(&format!("SET {rule} = off")).await.unwrap();
    }
    for query in 0..QUERIES {
        for statement in statements(&format!("nexmark/q{query}.sql")) {
            client.batch_execute(&statement).await.unwrap_or_else(|e| panic!("q{query}: {e:?}"));
        }
    }
}

/// q10 as files below a folder: the table that they are, and the INSERT that keeps running.
fn files(folder: &Path) -> [String; 2] {
    let create = format!(
        "CREATE TABLE bids_by_minute (auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), extra VARCHAR, dt VARCHAR, hm VARCHAR) \
         PARTITIONED BY (dt, hm) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', \
         'sink.rolling-policy.rollover-interval' = '100 ms')",
        folder.display()
    );
    let query = statements("nexmark/q10.sql").pop().expect("a file has its query");
    let insert = query.replace("CREATE MATERIALIZED VIEW q10 AS", "INSERT INTO bids_by_minute");
    [create, insert]
}

/// The files come to hold what the view q10 does, each row once, in the folder of its minute.
async fn check_files(client: &Client, folder: &Path) {
    let count = async |left: &str, right: &str| {
        let query = format!("SELECT COUNT(*) FROM (SELECT * FROM {left} EXCEPT ALL SELECT * FROM {right}) AS d");
        Some(client.query_one(&query, &[]).await.ok()?.get::<_, i64>(0))
    };
    until("the files have the rows of q10", || async {
        (count("q10", "bids_by_minute").await? == 0 && count("bids_by_minute", "q10").await? == 0).then_some(())
    })
    .await;
    let minutes = rows(client, "SELECT DISTINCT dt, hm FROM q10").await;
    let text = |cell: &Option<String>| cell.clone().expect("every bid has a time");
    let expected: BTreeSet<String> =
        minutes.iter().map(|row| format!("dt={}/hm={}", text(&row[0]), text(&row[1]).replace(':', "%3A"))).collect();
    let below = |folder: &Path| -> Vec<PathBuf> {
        let paths = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a readable folder").path());
        // What is hidden is not finished.
        paths.filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))).collect()
    };
    let found = below(folder).iter().flat_map(|day| below(day)).collect::<Vec<_>>();
    let found: BTreeSet<String> = found.iter().map(|path| path.strip_prefix(folder).expect("it is below").display().to_string()).collect();
    assert_eq!(found, expected, "folders of the files");
}

async fn check(client: &Client, query: usize, epoch: usize) {
    let differences = match BY_ARRIVAL.iter().find(|(of, _, _)| *of == query) {
        Some((_, view, batch)) => Differences::between(client, view, batch).await,
        None => Differences::of_view(client, &format!("q{query}")).await,
    };
    assert!(differences.is_empty(), "q{query} after {epoch} epochs: {differences}");
}

async fn run(options: ServerOptions, plain: bool) {
    let mut server = Server::start(options);
    let mut client = server.connect().await;
    let events = events(&client).await;
    for statement in statements("nexmark/tables.sql") {
        client.batch_execute(&statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
    let sides: Vec<String> = (0..100).map(|key| format!("({key}, 'side {key}')")).collect();
    client.batch_execute(&format!("INSERT INTO side_input VALUES {}", sides.join(", "))).await.unwrap();
    execute(&client, ARRIVED).await;
    create_views(&client, plain).await;
    let out = tempfile::tempdir().expect("a folder");
    let folder = out.path().join("bids");
    for statement in files(&folder) {
        execute(&client, &statement).await;
    }
    for (epoch, part) in events.chunks(EVENTS.div_ceil(EPOCHS)).enumerate() {
        for table in ["person", "auction", "bid"] {
            let rows: Vec<&str> = part.iter().filter(|e| e.table == table).map(|e| e.values.as_str()).collect();
            if table == "bid" {
                // A table whose last column is computed takes the others by name.
                let columns = "auction, bidder, price, channel, url, dateTime, extra";
                client.batch_execute(&format!("INSERT INTO bid ({columns}) VALUES {}", rows.join(", "))).await.unwrap();
            } else if !rows.is_empty() {
                client.batch_execute(&format!("INSERT INTO {table} VALUES {}", rows.join(", "))).await.unwrap();
            }
        }
        if epoch == KILL_AFTER {
            server.kill_and_restart();
            client = server.connect().await;
        }
        for query in 0..QUERIES {
            check(&client, query, epoch + 1).await;
        }
    }
    for view in 0..QUERIES {
        assert!(number(&client, &format!("SELECT COUNT(*) FROM q{view}")).await > 0, "q{view} is empty: that tells nothing");
    }
    assert_eq!(number(&client, "SELECT COUNT(DISTINCT p_time) FROM arrived").await, EPOCHS as i64, "each INSERT is in a cut of its own");
    check_files(&client, &folder).await;
    let late = number(&client, "SELECT CAST(SUM(late + rejected) AS BIGINT) FROM eddyline.jobs").await;
    assert_eq!(late, 0, "nothing came later than the watermark allows, and nothing failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_with_1_worker_and_plain_plans() {
    run(ServerOptions { workers: 1, backend: "memory", ..Default::default() }, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_with_2_workers() {
    run(ServerOptions { workers: 2, backend: "memory", ..Default::default() }, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_rocksdb_with_1_worker() {
    run(ServerOptions { workers: 1, state_cache: "1MiB", checkpoint_interval: "100ms", ..Default::default() }, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_rocksdb_with_2_workers() {
    run(ServerOptions { workers: 2, state_cache: "1MiB", checkpoint_interval: "100ms", ..Default::default() }, false).await;
}
