//! What leaves the server, against batch: random transactions on a server that is killed in their midst, while sinks write to
//! Kafka, to files and into tables, and subscriptions follow.
//!
//! Each transaction leaves its number in both tables, and every view's content shows it. So whatever adds up to a view's content says
//! which state of the tables it must be the batch result of:
//! - of a subscription, at every epoch that it reports, through kills; and neither epochs nor numbers go back;
//! - of a sink, at the end: outside the last state by key (a row may come twice), in files and in tables every row exactly once.

mod follow;
mod model;
mod received;

use super::super::brokers::broker;
use eddyline_connectors::testing::KafkaBroker;
use eddyline_sql_tests::client::{number, rows, run};
use eddyline_sql_tests::{Server, ServerOptions};
use follow::{Followed, Follower, Seen};
use model::{Batches, Model, NULL, Rows, TABLES, VIEWS, number_in};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;

const KILLS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
struct Mode {
    name: &'static str,
    workers: usize,
    backend: &'static str,
    state_cache: &'static str,
    seed: u64,
}

const MODES: [Mode; 4] = [
    Mode { name: "m1", workers: 1, backend: "memory", state_cache: "64MiB", seed: 1 },
    Mode { name: "m2", workers: 2, backend: "memory", state_cache: "64MiB", seed: 2 },
    Mode { name: "r1", workers: 1, backend: "rocksdb", state_cache: "1MiB", seed: 3 },
    Mode { name: "r2", workers: 2, backend: "rocksdb", state_cache: "1MiB", seed: 4 },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_and_subscriptions_add_up_through_kills() {
    let topics: Vec<String> = MODES.iter().flat_map(|mode| ["up", "best", "dbz", "app"].map(|sink| topic(sink, *mode))).collect();
    let broker = broker(&topics.iter().map(|topic| (topic.as_str(), 2)).collect::<Vec<_>>());
    let given = std::env::var("EDDYLINE_ORACLE_SEED").ok().and_then(|seed| seed.parse().ok());
    for mode in MODES {
        in_mode(Mode { seed: given.unwrap_or(mode.seed), ..mode }, &broker).await;
    }
}

fn topic(sink: &str, mode: Mode) -> String {
    format!("{sink}_{}", mode.name)
}

async fn in_mode(mode: Mode, broker: &KafkaBroker) {
    let out = tempfile::tempdir().expect("a folder");
    let Mode { workers, backend, state_cache, .. } = mode;
    let mut server = Server::start(ServerOptions { workers, backend, state_cache, checkpoint_interval: "300ms", ..Default::default() });
    let mut client = server.connect().await;
    let mut model = Model::new(mode.seed);
    create(&client, mode, broker, out.path()).await;
    write(&client, &mut model).await;
    let follower = Arc::new(Follower::new(server.port));
    let names: Vec<&'static str> = TABLES.iter().chain(&VIEWS).map(|(name, _)| *name).collect();
    let following: Vec<_> = names.iter().map(|name| tokio::spawn(follower.clone().follow(name))).collect();
    let mut chance = StdRng::seed_from_u64(mode.seed + 1_000);
    for _ in 0..KILLS {
        let lives_for = Duration::from_millis(chance.random_range(300..1_000));
        let writing = async {
            loop {
                write(&client, &mut model).await;
            }
        };
        // It ends in the middle of a transaction, whose fate is known afterwards.
        let _ended: Result<(), _> = tokio::time::timeout(lives_for, writing).await;
        tokio::task::block_in_place(|| server.kill_and_restart());
        follower.port.store(server.port, Ordering::SeqCst);
        client = server.connect().await;
        model.settle(number(&client, "SELECT i FROM t WHERE id = 0").await);
    }
    for _ in 0..20 {
        write(&client, &mut model).await;
    }
    // A subscription knows that an epoch is whole when the next one begins.
    follower.last.store(model.number(), Ordering::SeqCst);
    let deadline = Instant::now() + PATIENCE;
    while !following.iter().all(tokio::task::JoinHandle::is_finished) {
        assert!(Instant::now() < deadline, "not every subscription has come to the end: {mode:?}, {:?}", follower.progress());
        write(&client, &mut model).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut batches = Batches::new();
    for (name, following) in names.into_iter().zip(following) {
        let followed = following.await.unwrap_or_else(|e| panic!("following {name}: {e}, {mode:?}"));
        check_followed(name, &followed, &model, &mut batches, mode).await;
    }
    check_sinks(&client, mode, broker, out.path(), &model, &mut batches).await;
}

async fn create(client: &Client, mode: Mode, broker: &KafkaBroker, out: &Path) {
    for (_, sql) in TABLES {
        run(client, sql).await;
    }
    for (name, sql) in VIEWS {
        run(client, &format!("CREATE MATERIALIZED VIEW {name} AS {sql}")).await;
    }
    let kafka = |sink: &str, from: &str, format: &str, more: &str| {
        let (topic, bootstrap) = (topic(sink, mode), &broker.bootstrap);
        format!(
            "CREATE SINK {sink}_out FROM {from} WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '{bootstrap}'{more}) {format}"
        )
    };
    for statement in [
        kafka("up", "sums", "FORMAT UPSERT ENCODE JSON", ", primary_key = 'k'"),
        kafka("best", "best", "FORMAT UPSERT ENCODE JSON", ", primary_key = 'id'"),
        kafka("dbz", "sums", "FORMAT DEBEZIUM ENCODE JSON", ""),
        kafka("app", "grown", "FORMAT PLAIN ENCODE JSON", ""),
        format!(
            "CREATE SINK files_out FROM grown WITH (connector = 'filesystem', path = '{}', sink.rolling-policy.rollover-interval = '100 ms') \
             FORMAT PLAIN ENCODE JSON",
            out.display()
        ),
        "CREATE TABLE sums_copy (k BIGINT PRIMARY KEY, n BIGINT, s BIGINT)".to_string(),
        "CREATE TABLE best_copy (id BIGINT PRIMARY KEY, i BIGINT, g TEXT)".to_string(),
        "CREATE TABLE grown_copy (n BIGINT, w BIGINT)".to_string(),
        "CREATE SINK into_sums INTO sums_copy FROM sums".to_string(),
        "CREATE SINK into_best INTO best_copy FROM best".to_string(),
        "CREATE SINK into_grown INTO grown_copy FROM grown".to_string(),
    ] {
        run(client, &statement).await;
    }
}

async fn write(client: &Client, model: &mut Model) {
    let transaction = model.begin();
    run(client, &transaction).await;
    model.committed();
}

/// What a subscription gave is, up to each of its epochs, what batch makes of the tables' state that it shows.
async fn check_followed(name: &str, followed: &Followed, model: &Model, batches: &mut Batches, mode: Mode) {
    let (mut content, mut newest, mut epoch_before, mut checked, mut kills) = (Rows::new(), 0, 0, 0, 0);
    for seen in &followed.seen {
        match seen {
            Seen::GoesOn => kills += 1,
            Seen::BeginsAnew => content.clear(),
            Seen::Epoch(epoch, changes) => {
                assert!(*epoch >= epoch_before, "{name} went back from epoch {epoch_before} to {epoch}: {mode:?}");
                epoch_before = *epoch;
                follow::apply(&mut content, changes);
                let number =
                    number_in(name, &content).unwrap_or_else(|| panic!("{name} shows no number at epoch {epoch}: {content:?}, {mode:?}"));
                assert!(number >= newest, "{name} went back from transaction {newest} to {number} at epoch {epoch}: {mode:?}");
                newest = number;
                let expected = batches.rows(name, number, model.state(number)).await;
                let wrong = difference(&expected, &content);
                assert!(wrong.is_empty(), "{name} at epoch {epoch}, transaction {number}, {mode:?}: {wrong}");
                checked += 1;
            }
        }
    }
    assert!(kills >= KILLS && checked > kills, "{name} was followed through {kills} kills and checked {checked} times: {mode:?}");
}

/// Rows with how often they should be there and are.
fn difference(expected: &Rows, found: &Rows) -> String {
    let all = expected.keys().chain(found.keys());
    let of = |rows: &Rows, row: &Vec<String>| rows.get(row).copied().unwrap_or(0);
    let mut wrong: Vec<String> = all
        .filter(|row| of(expected, row) != of(found, row))
        .map(|row| format!("{row:?}: {} times, not {}", of(found, row), of(expected, row)))
        .collect();
    wrong.sort();
    wrong.dedup();
    wrong.truncate(20);
    wrong.join("; ")
}

async fn check_sinks(client: &Client, mode: Mode, broker: &KafkaBroker, out: &Path, model: &Model, batches: &mut Batches) {
    let last = model.number();
    let mut expected = async |view: &str| batches.rows(view, last, model.state(last)).await;
    let (sums, best, grown) = (expected("sums").await, expected("best").await, expected("grown").await);
    let once = |rows: Rows| rows.into_keys().map(|row| (row, 1)).collect::<Rows>();
    let read = |topic: String| tokio::task::block_in_place(|| broker.read_all(&topic).expect("the topic is read"));
    let up = async || received::newest_by_key(read(topic("up", mode)), &["k", "n", "s"]);
    let dbz = async || received::debezium_by_key(read(topic("dbz", mode)), &["k", "n", "s"]);
    let best_out = async || received::newest_by_key(read(topic("best", mode)), &["id", "i", "g"]);
    let app = async || once(received::all(read(topic("app", mode)), &["n", "w"]));
    let files = async || received::lines(out, &["n", "w"]);
    let table = async |query: &str| {
        let mut found = Rows::new();
        for row in rows(client, query).await {
            *found.entry(row.into_iter().map(|cell| cell.unwrap_or_else(|| NULL.to_string())).collect()).or_default() += 1;
        }
        found
    };
    settled("the newest records of sums", mode, &sums, up).await;
    settled("the changes of sums", mode, &sums, dbz).await;
    settled("the newest records of best", mode, &best, best_out).await;
    settled("the records of grown", mode, &once(grown.as_ref().clone()), app).await;
    settled("the files of grown", mode, &grown, files).await;
    settled("the table of sums", mode, &sums, async || table("SELECT k, n, s FROM sums_copy").await).await;
    settled("the table of best", mode, &best, async || table("SELECT id, i, g FROM best_copy").await).await;
    settled("the table of grown", mode, &grown, async || table("SELECT n, w FROM grown_copy").await).await;
    for (name, _) in VIEWS {
        let wrong = rows(client, &format!("CHECK MATERIALIZED VIEW {name}")).await;
        assert!(wrong.is_empty(), "{name} differs from its own query: {wrong:?}, {mode:?}");
    }
}

/// Waits until what was received is what is expected, and says otherwise what is wrong with it.
async fn settled(what: &str, mode: Mode, expected: &Rows, found: impl AsyncFn() -> Rows) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let wrong = difference(expected, &found().await);
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{what}, {mode:?}: {wrong}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
