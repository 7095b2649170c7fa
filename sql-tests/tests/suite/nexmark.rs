//! Nexmark: the queries q0 to q22 as materialized views, fed over the wire with events that are out of order, and checked against
//! their own text at every epoch, through a kill. The queries are in `nexmark/`, a file each. The streams are tables here; with a
//! connector in their place nothing else changes.

use super::scripts::{Differences, statements};
use eddyline_planner::RULES;
use eddyline_sql_tests::{Server, ServerOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, SimpleQueryMessage};

const EVENTS: usize = 2_500;
/// Between two events; all of them take a minute and a quarter of event time.
const GAP_NANOS: u64 = 30_000_000;
/// How far an event may be behind, in microseconds: less than the watermark is.
const DISORDER: i64 = 3_500_000;
const EPOCHS: usize = 8;
const KILL_AFTER: usize = 4;
const QUERIES: usize = 23;

/// Views whose rows depend on when they came, and what they come to whenever that is.
const BY_ARRIVAL: &[(usize, &str, &str)] = &[
    (12, "SELECT bidder, CAST(SUM(bid_count) AS BIGINT) FROM q12 GROUP BY bidder", "SELECT bidder, COUNT(*) FROM bid GROUP BY bidder"),
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
    create_views(&client, plain).await;
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
        let rows: i64 = client.query_one(&format!("SELECT COUNT(*) FROM q{view}"), &[]).await.unwrap().get(0);
        assert!(rows > 0, "q{view} is empty: that tells nothing");
    }
    let late: i64 = client.query_one("SELECT CAST(SUM(late + rejected) AS BIGINT) FROM eddyline.jobs", &[]).await.unwrap().get(0);
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
