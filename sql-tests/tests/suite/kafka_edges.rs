//! Kafka at its edges, through SQL: where a sink places keys, what a record brings along, which of its fields views read, where a source
//! starts, topics that are missing or deleted, brokers that go away or say nothing. One broker serves all cases, because starting one takes seconds.

use super::brokers::broker;
use eddyline_connectors::testing::KafkaBroker;
use eddyline_sql_tests::client::{number, problem_of, refused, rows, run};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::ops::Range;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use tokio_postgres::error::DbError;

/// Settings of topics whose records are older than a broker keeps them by default.
const KEEP: [(&str, &str); 1] = [("retention.ms", "-1")];
/// Partitions of the topic that a sink places keys in.
const PLACES: i32 = 7;
/// A broker that does not answer is told of within ten seconds; the rest is for a machine that is busy.
const TOLD_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_broker() {
    let broker = broker(&[]);
    tokio::task::block_in_place(|| {
        for (topic, partitions) in [("placed", PLACES), ("meta", 2), ("plain", 1), ("wide", 2), ("modes", 2), ("brief", 1), ("away", 1)] {
            broker.create_topic(topic, partitions, &KEEP).expect("a topic");
        }
    });
    let mut server = Server::start(ServerOptions { checkpoint_interval: "200ms", ..Default::default() });
    let client = server.connect().await;
    keys_are_placed_as_by_java(&broker, &client).await;
    missing_topics(&broker, &client).await;
    what_a_record_brings_along(&broker, &client).await;
    raw_records(&broker, &client).await;
    views_that_read_some_columns(&broker, &mut server).await;
    where_a_source_starts(&broker, &mut server).await;
    let client = server.connect().await;
    a_topic_that_is_deleted(&broker, &client).await;
    a_source_whose_broker_goes_and_comes_back(&broker, &client).await;
}

/// `CREATE SOURCE name (columns) ... WITH (... more) FORMAT PLAIN ENCODE encoding` over a topic.
fn source(broker: &KafkaBroker, name: &str, topic: &str, columns: &str, more: &str, encoding: &str) -> String {
    format!(
        "CREATE SOURCE {name} {columns} WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '{}'{more}) \
         FORMAT PLAIN ENCODE {encoding}",
        broker.bootstrap
    )
}

fn is(error: &DbError, code: &str, message: &str, hint: &str) {
    assert!(error.code().code() == code && error.message().contains(message), "{error:?}");
    assert!(error.hint().is_some_and(|h| h.contains(hint)), "{error:?}");
}

/// Rows as `rows` gives them.
fn texts(wanted: &[&[Option<&str>]]) -> Vec<Vec<Option<String>>> {
    wanted.iter().map(|row| row.iter().map(|cell| cell.map(str::to_string)).collect()).collect()
}

/// What `org.apache.kafka.common.utils.Utils.murmur2` computes.
fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let (fours, rest) = data.as_chunks::<4>();
    for four in fours {
        let k = u32::from_le_bytes(*four).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M);
    }
    for (at, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

/// `BuiltInPartitioner.partitionForKey`.
fn place(key: &str) -> i32 {
    (murmur2(key.as_bytes()) & 0x7fff_ffff) % PLACES
}

async fn keys_are_placed_as_by_java(broker: &KafkaBroker, client: &Client) {
    // Values that Kafka's own tests have.
    for (text, hash) in [("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536), ("abc", 479_470_107)] {
        assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
    }
    run(client, "CREATE TABLE person (who TEXT PRIMARY KEY, n INT)").await;
    let sink = format!(
        "CREATE SINK placed FROM person WITH (connector = 'kafka', topic = 'placed', properties.bootstrap.server = '{}', \
         primary_key = 'who') FORMAT UPSERT ENCODE JSON",
        broker.bootstrap
    );
    run(client, &sink).await;
    run(client, "INSERT INTO person VALUES ('ada', 1), ('cyd', 2), ('grace', 3)").await;
    run(client, "INSERT INTO person SELECT 'p' || x, x FROM generate_series(1, 97) AS s(x)").await;
    let columns = "(who VARCHAR, k VARCHAR METADATA FROM 'key', p INT METADATA FROM 'partition')";
    run(client, &source(broker, "placed_there", "placed", columns, "", "JSON")).await;
    let placed = until("all keys are there", || async {
        // A record may be there twice.
        let placed = client.query("SELECT DISTINCT k, p FROM placed_there", &[]).await.ok()?;
        (placed.len() >= 100).then(|| placed.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(String, i32)>>())
    })
    .await;
    assert_eq!(placed.len(), 100, "each key is in one partition: {placed:?}");
    for (key, partition) in &placed {
        assert_eq!(*partition, place(key), "{key}");
    }
    for (who, partition) in [("ada", 0), ("cyd", 5), ("grace", 6)] {
        assert!(placed.contains(&(format!("{{\"who\":\"{who}\"}}"), partition)), "{who}: {placed:?}");
    }
}

/// This broker creates no topics by itself.
async fn missing_topics(broker: &KafkaBroker, client: &Client) {
    let begun = Instant::now();
    let sink = format!(
        "CREATE SINK lost FROM person WITH (connector = 'kafka', topic = 'nowhere-at-all', properties.bootstrap.server = '{}', \
         primary_key = 'who') FORMAT UPSERT ENCODE JSON",
        broker.bootstrap
    );
    let error = refused(client, &sink).await;
    is(&error, "42704", "topic \"nowhere-at-all\" does not exist", "Create the topic first: this broker does not create topics by itself");
    assert!(begun.elapsed() < TOLD_WITHIN);
    assert_eq!(number(client, "SELECT COUNT(*) FROM eddyline.sinks WHERE sink = 'lost'").await, 0);
    let error = refused(client, &source(broker, "lost", "nowhere-at-all", "(id BIGINT)", "", "JSON")).await;
    is(&error, "42704", "topic \"nowhere-at-all\" does not exist", "Create the topic first");
    let error = refused(client, &source(broker, "lost", "mode", "(id BIGINT)", "", "JSON")).await;
    is(&error, "42704", "topic \"mode\" does not exist", "Perhaps you meant \"modes\"");
    run(client, "CREATE TABLE lost (id BIGINT)").await;
}

async fn what_a_record_brings_along(broker: &KafkaBroker, client: &Client) {
    let headers = OwnedHeaders::new().insert(Header { key: "h", value: Some("v") }).insert(Header::<&str> { key: "n", value: None });
    let first = BaseRecord::to("meta").partition(1).key(&b"k1"[..]).payload(&b"{\"id\":1}"[..]).timestamp(1_700_000_000_123);
    broker.send_record(first.headers(headers));
    broker.send_record(BaseRecord::to("meta").partition(1).payload(&b"{\"id\":2}"[..]).timestamp(1_700_000_000_456));
    broker.send_record(BaseRecord::to("meta").partition(0).key(&b"\xff"[..]).payload(&b"{\"id\":3}"[..]).timestamp(1_700_000_001_000));
    broker.flush().expect("the broker takes the records");
    let included = "(id BIGINT) INCLUDE KEY AS k INCLUDE PARTITION AS p INCLUDE OFFSET AS o INCLUDE TIMESTAMP AS at INCLUDE TOPIC AS t \
                    INCLUDE HEADER AS h";
    run(client, &source(broker, "meta", "meta", included, "", "JSON")).await;
    run(client, "CREATE MATERIALIZED VIEW brought AS SELECT id, k, p, o, at, t, h FROM meta").await;
    let wanted = texts(&[
        &[Some("1"), Some("\\x6b31"), Some("1"), Some("0"), Some("2023-11-14 22:13:20.123+00"), Some("meta"), Some("\\x76")],
        &[Some("2"), None, Some("1"), Some("1"), Some("2023-11-14 22:13:20.456+00"), Some("meta"), None],
        &[Some("3"), Some("\\xff"), Some("0"), Some("0"), Some("2023-11-14 22:13:21+00"), Some("meta"), None],
    ]);
    let brought = "SELECT id, k, p, o, at, t, h['h'] FROM brought ORDER BY id";
    assert_eq!(rows(client, brought).await, wanted);
    // In Flink's accent, as texts; a key that is no text is put down with its place.
    let columns = "id BIGINT, k STRING METADATA FROM 'key', p BIGINT METADATA FROM 'partition' VIRTUAL, \
                   at TIMESTAMP(3) METADATA FROM 'timestamp', h MAP<STRING, STRING> METADATA FROM 'headers'";
    let table = format!(
        "CREATE TABLE flinks ({columns}) WITH ('connector' = 'kafka', 'topic' = 'meta', 'properties.bootstrap.servers' = '{}', \
         'scan.startup.mode' = 'earliest-offset', 'format' = 'json')",
        broker.bootstrap
    );
    run(client, &table).await;
    run(client, "CREATE MATERIALIZED VIEW brought_to_flink AS SELECT id, k, p, at, h FROM flinks").await;
    let wanted = texts(&[
        &[Some("1"), Some("k1"), Some("1"), Some("2023-11-14 22:13:20.123"), Some("v")],
        &[Some("2"), None, Some("1"), Some("2023-11-14 22:13:20.456"), None],
    ]);
    assert_eq!(rows(client, "SELECT id, k, p, at, h['h'] FROM brought_to_flink ORDER BY id").await, wanted);
    let put_down = "SELECT COUNT(*) FROM eddyline.undecodable_records WHERE source = 'flinks' AND \"partition\" = 0 AND \"offset\" = 0 \
                    AND reason = 'column k: the key is not UTF-8'";
    until("the key is put down", || async { (number(client, put_down).await == 1).then_some(()) }).await;
    let error = refused(client, &source(broker, "wrong", "meta", "(k INT METADATA FROM 'key')", "", "JSON")).await;
    is(&error, "42804", "metadata \"key\" cannot be of type integer", "Declare it as bytea");
}

async fn raw_records(broker: &KafkaBroker, client: &Client) {
    broker.produce("plain", 0, [&b"hello"[..], &b"\x00\xff"[..]]).expect("the broker takes the records");
    run(client, &source(broker, "as_bytes", "plain", "(b BYTEA) INCLUDE OFFSET AS o", "", "BYTES")).await;
    run(client, &source(broker, "as_text", "plain", "(line VARCHAR) INCLUDE OFFSET AS o", "", "BYTES")).await;
    run(client, "CREATE MATERIALIZED VIEW of_bytes AS SELECT o, b FROM as_bytes").await;
    run(client, "CREATE MATERIALIZED VIEW of_text AS SELECT o, line FROM as_text").await;
    let wanted = texts(&[&[Some("0"), Some("\\x68656c6c6f")], &[Some("1"), Some("\\x00ff")]]);
    assert_eq!(rows(client, "SELECT o, b FROM of_bytes ORDER BY o").await, wanted);
    assert_eq!(rows(client, "SELECT o, line FROM of_text").await, texts(&[&[Some("0"), Some("hello")]]));
    let put_down =
        "SELECT COUNT(*) FROM eddyline.undecodable_records WHERE source = 'as_text' AND \"offset\" = 1 AND reason LIKE '%not UTF-8%'";
    until("what is no text is put down", || async { (number(client, put_down).await == 1).then_some(()) }).await;
}

/// Ten columns of all kinds.
const WIDE: &str = "(n BIGINT, a VARCHAR, b INT, c BIGINT[], d STRUCT<x BIGINT, y VARCHAR>, e BIGINT, f NUMERIC(10, 2), g BOOLEAN, \
                    h TIMESTAMP, i BIGINT NOT NULL)";

/// Views over them: names, and what they read.
const WIDE_VIEWS: [(&str, &str); 3] =
    [("wide_two", "n, b"), ("wide_nested", "n, a, c[1] AS c, (d).y AS y, h"), ("wide_more", "n, e, f, g, (d).x AS x")];

/// What happens while records come.
enum Meanwhile {
    Make(usize),
    Drop(usize),
    Kill,
}

/// A view that reads more than those before, also after a restart; one column for another; all of it again.
const WIDE_STEPS: [Meanwhile; 8] = [
    Meanwhile::Make(0),
    Meanwhile::Make(1),
    Meanwhile::Kill,
    Meanwhile::Drop(1),
    Meanwhile::Make(2),
    Meanwhile::Kill,
    Meanwhile::Drop(0),
    Meanwhile::Make(1),
];
const WIDE_PER_STEP: i64 = 4_000;

/// Of every tenth record `e` is no number, and it cannot be decoded, whether somebody reads `e` or not.
fn send_wide(broker: &KafkaBroker, numbers: Range<i64>) {
    for n in numbers {
        let e = if n % 10 == 3 { "\"none\"".to_string() } else { n.to_string() };
        let (b, f, g, second) = (n % 100, n % 1_000, n % 2 == 0, n % 60);
        let start = format!(r#"{{"n":{n},"a":"text of {n}","b":{b},"c":[{n},null],"d":{{"x":{n},"y":"of {n}"}},"e":{e},"#);
        let value = format!(r#"{start}"f":{f}.25,"g":{g},"h":"2024-01-01 00:00:{second:02}","i":1}}"#);
        broker.send("wide", (n % 2) as i32, None, Some(value.as_bytes()));
    }
    broker.flush().expect("the broker takes the records");
}

/// Columns that no view reads are not there for those who read the source together. Each view has its own of every record, whatever is made or
/// dropped while they come, and shows what a SELECT over the source does.
async fn views_that_read_some_columns(broker: &KafkaBroker, server: &mut Server) {
    run(&server.connect().await, &source(broker, "wide", "wide", WIDE, "", "JSON")).await;
    let mut there = BTreeSet::new();
    let mut sent = 0;
    for step in WIDE_STEPS {
        let numbers = sent..sent + WIDE_PER_STEP;
        sent = numbers.end;
        let client = server.connect().await;
        let statement = match step {
            Meanwhile::Make(view) => {
                there.insert(view);
                let (name, columns) = WIDE_VIEWS[view];
                Some(format!("CREATE MATERIALIZED VIEW {name} AS SELECT {columns} FROM wide"))
            }
            Meanwhile::Drop(view) => {
                there.remove(&view);
                Some(format!("DROP MATERIALIZED VIEW {}", WIDE_VIEWS[view].0))
            }
            Meanwhile::Kill => None,
        };
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| send_wide(broker, numbers));
                match statement {
                    Some(statement) => tokio::runtime::Handle::current().block_on(run(&client, &statement)),
                    None => server.kill_and_restart(),
                }
            })
        });
        let client = server.connect().await;
        let (bad, good) = (sent / 10, sent - sent / 10);
        for (name, columns) in there.iter().map(|view| WIDE_VIEWS[*view]) {
            let count = format!("SELECT COUNT(*) FROM {name}");
            until(&format!("{name} has {good} rows"), || async { (number(&client, &count).await == good).then_some(()) }).await;
            for (rows, others) in [("view", "source"), ("source", "view")] {
                let of =
                    |which: &str| if which == "view" { format!("SELECT * FROM {name}") } else { format!("SELECT {columns} FROM wide") };
                let differing = format!("SELECT COUNT(*) FROM ({} EXCEPT {}) AS rest", of(rows), of(others));
                assert_eq!(number(&client, &differing).await, 0, "{name}: what the {rows} has and the {others} has not, of {sent} records");
            }
        }
        assert_eq!(number(&client, "SELECT MAX(undecodable) FROM eddyline.sources WHERE source = 'wide'").await, bad);
    }
}

/// Even ids to the first partition, odd ones to the second: the id at offset n is 2n, or 2n + 1.
fn send_ids(broker: &KafkaBroker, ids: Range<i64>) {
    for id in ids {
        let value = format!("{{\"id\":{id}}}");
        broker.send_record(BaseRecord::to("modes").partition((id % 2) as i32).payload(value.as_bytes()).timestamp(1_000_000 + id));
    }
    broker.flush().expect("the broker takes the records");
}

/// Leaves the group `g` at offset 7 of the first partition.
fn commit(broker: &KafkaBroker) {
    let consumer: BaseConsumer = broker.config().set("group.id", "g").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("modes", 0, Offset::Offset(7)).expect("a partition");
    consumer.commit(&list, CommitMode::Sync).expect("the broker keeps the offset");
}

async fn ids(client: &Client, view: &str) -> Option<Vec<i64>> {
    let rows = client.query(&format!("SELECT id FROM {view} ORDER BY id"), &[]).await.ok()?;
    Some(rows.iter().map(|row| row.get(0)).collect())
}

/// A name, options, and which ids are at or behind the start.
const STARTS: [(&str, &str, fn(i64) -> bool); 5] = [
    ("from_earliest", "scan.startup.mode = 'earliest'", |_| true),
    ("from_latest", "scan.startup.mode = 'latest'", |id| id >= 100),
    ("from_time", "scan.startup.mode = 'timestamp', scan.startup.timestamp.millis = '1000031'", |id| id >= 31),
    ("from_offset", "scan.startup.mode = 'specific-offsets', scan.startup.specific-offsets = 'partition:1,offset:42'", |id| {
        id % 2 == 0 || id >= 85
    }),
    ("from_group", "scan.startup.mode = 'group-offsets', properties.group.id = 'g', properties.auto.offset.reset = 'latest'", |id| {
        id >= 100 || (id % 2 == 0 && id >= 14)
    }),
];

/// Options of a hint behind a source that starts at 100, and which ids are read under them. None are behind its end.
const HINTS: [(&str, fn(i64) -> bool); 5] = [
    ("'scan.startup.mode' = 'earliest-offset'", |_| true),
    ("'scan.startup.mode' = 'timestamp', 'scan.startup.timestamp-millis' = '1000031'", |id| id >= 31),
    ("'scan.startup.mode' = 'specific-offsets', 'scan.startup.specific-offsets' = 'partition:1,offset:42'", |id| id % 2 == 0 || id >= 85),
    ("'scan.startup.mode' = 'latest-offset'", |_| false),
    ("'properties.fetch.wait.max.ms' = '10'", |id| id >= 100),
];

/// It is settled when the source is created: all views of it have the same rows, whenever they are made, and so has the source itself,
/// unless a hint says otherwise for one query.
async fn where_a_source_starts(broker: &KafkaBroker, server: &mut Server) {
    let client = server.connect().await;
    send_ids(broker, 0..100);
    tokio::task::block_in_place(|| commit(broker));
    let group = ", scan.startup.mode = 'group-offsets', properties.group.id = 'g'";
    let error = refused(&client, &source(broker, "from_nowhere", "modes", "(id BIGINT)", group, "JSON")).await;
    is(&error, "55000", "group \"g\" has no committed offset in partition 1", "properties.auto.offset.reset");
    for (name, options, _) in STARTS {
        run(&client, &source(broker, name, "modes", "(id BIGINT)", &format!(", {options}"), "JSON")).await;
    }
    send_ids(broker, 100..110);
    for (name, ..) in STARTS {
        run(&client, &format!("CREATE MATERIALIZED VIEW {name}_early AS SELECT id FROM {name}")).await;
    }
    send_ids(broker, 110..120);
    for (name, ..) in STARTS {
        run(&client, &format!("CREATE MATERIALIZED VIEW {name}_late AS SELECT id FROM {name}")).await;
    }
    for life in 0..2 {
        let client = server.connect().await;
        for (name, _, is_behind) in STARTS {
            let wanted: Vec<i64> = (0..120).filter(|id| is_behind(*id)).collect();
            for relation in [format!("{name}_early"), format!("{name}_late"), name.to_string()] {
                let what = format!("{relation} has its rows in life {life}");
                until(&what, || async { (ids(&client, &relation).await? == wanted).then_some(()) }).await;
            }
        }
        for (hint, is_behind) in HINTS {
            let read = ids(&client, &format!("from_latest /*+ OPTIONS({hint}) */")).await;
            assert_eq!(read, Some((0..120).filter(|id| is_behind(*id)).collect()), "{hint}");
        }
        tokio::task::block_in_place(|| server.kill_and_restart());
    }
}

/// It is told of, once, also when it is made anew.
async fn a_topic_that_is_deleted(broker: &KafkaBroker, client: &Client) {
    broker.produce("brief", 0, ["{\"id\":1}"]).expect("the broker takes the record");
    run(client, &source(broker, "brief", "brief", "(id BIGINT)", "", "JSON")).await;
    run(client, "CREATE MATERIALIZED VIEW briefly AS SELECT COUNT(*) AS n FROM brief").await;
    until("the record is read", || async { (number(client, "SELECT n FROM briefly").await == 1).then_some(()) }).await;
    tokio::task::block_in_place(|| broker.delete_topic("brief")).expect("the topic is deleted");
    until("the source says so", || async {
        problem_of(client, "brief").await.filter(|told| told.starts_with("topic \"brief\" no longer exists at the broker"))
    })
    .await;
    assert_eq!(number(client, "SELECT n FROM briefly").await, 1);
    let told = "SELECT COUNT(*) FROM eddyline.errors WHERE message LIKE '%\"brief\" no longer exists%'";
    assert_eq!(number(client, told).await, 1);
    tokio::task::block_in_place(|| broker.create_topic("brief", 1, &KEEP)).expect("a topic");
    until("it is another one", || async {
        problem_of(client, "brief").await.filter(|told| told.contains("\"brief\" was deleted and created again"))
    })
    .await;
    assert_eq!(number(client, told).await, 1);
    run(client, "DROP MATERIALIZED VIEW briefly").await;
    run(client, "DROP SOURCE brief").await;
}

async fn a_source_whose_broker_goes_and_comes_back(broker: &KafkaBroker, client: &Client) {
    broker.produce("away", 0, ["{\"id\":1}", "{\"id\":2}"]).expect("the broker takes the records");
    run(client, &source(broker, "away", "away", "(id BIGINT)", "", "JSON")).await;
    run(client, "CREATE MATERIALIZED VIEW seen AS SELECT COUNT(*) AS n FROM away").await;
    run(client, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    run(client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM t").await;
    until("the first records are read", || async { (number(client, "SELECT n FROM seen").await == 2).then_some(()) }).await;
    assert_eq!(problem_of(client, "away").await, None);
    tokio::task::block_in_place(|| broker.kill());
    until("the source says what it waits for", || async { problem_of(client, "away").await.filter(|told| told.contains("Kafka broker")) })
        .await;
    let told = "SELECT COUNT(*) FROM eddyline.errors WHERE relation = 'away' AND level = 'warning'";
    assert_eq!(number(client, told).await, 1);
    // What was read is there, and nothing else waits.
    run(client, "INSERT INTO t VALUES (1)").await;
    assert_eq!(number(client, "SELECT n FROM counted").await, 1);
    assert_eq!(number(client, "SELECT n FROM seen").await, 2);
    tokio::task::block_in_place(|| broker.restart());
    until("the trouble is over by itself", || async { problem_of(client, "away").await.is_none().then_some(()) }).await;
    broker.produce("away", 0, ["{\"id\":3}"]).expect("the broker takes the record");
    until("reading goes on", || async { (number(client, "SELECT n FROM seen").await == 3).then_some(()) }).await;
}

/// An address that takes connections and never answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_says_nothing_is_an_error_at_create() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let kafka = format!("connector = 'kafka', topic = 't', properties.bootstrap.server = '{}'", silent.local_addr().expect("an address"));
    let server = Server::start(ServerOptions::default());
    let (source, sink) = (server.connect().await, server.connect().await);
    run(&source, "CREATE TABLE log (id BIGINT) APPEND ONLY").await;
    let new_source = format!("CREATE SOURCE s (id BIGINT) WITH ({kafka}) FORMAT PLAIN ENCODE JSON");
    let new_sink = format!("CREATE SINK o FROM log WITH ({kafka}) FORMAT PLAIN ENCODE JSON");
    let begun = Instant::now();
    let (of_source, of_sink) = tokio::join!(refused(&source, &new_source), refused(&sink, &new_sink));
    assert!(begun.elapsed() < TOLD_WITHIN, "{:?}", begun.elapsed());
    for error in [of_source, of_sink] {
        is(&error, "08006", "does not answer", "properties.bootstrap.servers");
    }
    run(&source, "INSERT INTO log VALUES (1)").await;
}
