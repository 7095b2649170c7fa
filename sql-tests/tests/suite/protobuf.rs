//! Protocol Buffers from a real broker: a descriptor's file that is gone afterwards, a schema registry that goes away and comes back,
//! records that cannot be decoded, and keys, through kills.

use super::brokers::broker;
use eddyline_connectors::testing::KafkaBroker;
use eddyline_sql_tests::client::{problem_of, refused, run, shows};
use eddyline_sql_tests::registry::SchemaRegistry;
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use eddyline_storage::state::put_varint;
use std::path::Path;
use tokio_postgres::Client;

/// `shop.v1.Order`, as protoc wrote it.
const DESCRIPTOR: &str = "../connectors/src/format/protobuf/tests/order.pb";
const SCHEMA: &str = "syntax = \"proto3\"; package clicks; message Click { string url = 1; int64 n = 2; optional string who = 3; \
    message Key { int64 n = 1; } }";

fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(value, &mut bytes);
    bytes
}

fn field(number: u64, wire: u64, value: Vec<u8>) -> Vec<u8> {
    let len = if wire == 2 { varint(value.len() as u64) } else { vec![] };
    [varint(number << 3 | wire), len, value].concat()
}

/// The fields of an order that the tests look at: id, customerName, status, lines, at.
fn order(id: u64) -> Vec<u8> {
    let line = [field(1, 2, b"tea".to_vec()), field(2, 0, varint(id % 7))].concat();
    let at = [field(1, 0, varint(1_700_000_000 + id)), field(2, 0, varint(5_000_000))].concat();
    let name = format!("customer {}", id % 3).into_bytes();
    [field(1, 0, varint(id)), field(2, 2, name), field(3, 0, varint(id % 3)), field(4, 2, line.clone()), field(4, 2, line), field(9, 2, at)]
        .concat()
}

/// Of schema 7; the message is the file's first.
fn click(n: u64, who: Option<&str>) -> Vec<u8> {
    let who = who.map_or(vec![], |who| field(3, 2, who.as_bytes().to_vec()));
    [vec![0, 0, 0, 0, 7, 0], field(1, 2, b"/x".to_vec()), field(2, 0, varint(n)), who].concat()
}

fn produce(broker: &KafkaBroker, topic: &str, records: &[(Option<Vec<u8>>, Option<Vec<u8>>)]) {
    tokio::task::block_in_place(|| {
        records.iter().for_each(|(key, value)| broker.send(topic, 0, key.as_deref(), value.as_deref()));
        broker.flush().expect("the broker takes the records");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_from_kafka_through_kills() {
    let broker = broker(&["orders", "clicks", "keyed", "written", "added"].map(|topic| (topic, 1)));
    let mut server = Server::start(ServerOptions { checkpoint_interval: "200ms", ..Default::default() });
    let client = server.connect().await;
    with_a_descriptor(&broker, &mut server, &client).await;
    // A source that waits holds up checkpoints, and with them new sinks.
    let _registry = with_a_registry(&broker, &mut server).await;
    by_key(&broker, &mut server).await;
    written(&broker, &mut server).await;
}

/// What is written as messages is read back, by key and as it comes.
async fn written(broker: &KafkaBroker, server: &mut Server) {
    let client = server.connect().await;
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("order.pb");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(DESCRIPTOR), &copy).expect("a copy");
    let (bootstrap, copy) = (&broker.bootstrap, copy.display().to_string());
    for statement in [
        "CREATE TABLE made (n BIGINT PRIMARY KEY, url TEXT, who TEXT)".to_string(),
        format!(
            "CREATE TABLE written (n BIGINT, url STRING, who STRING, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', \
             'topic' = 'written', 'properties.bootstrap.servers' = '{bootstrap}', 'key.format' = 'protobuf', 'value.format' = 'protobuf', \
             'protobuf.schema' = '{SCHEMA}', 'message' = 'Click', 'key.protobuf.message-name' = 'clicks.Click.Key')"
        ),
        "INSERT INTO written SELECT n, url, who FROM made".to_string(),
        "INSERT INTO made SELECT x, 'u' || x, CASE WHEN x % 2 = 0 THEN 'w' END FROM generate_series(1, 50) AS s(x)".to_string(),
        "DELETE FROM made WHERE n % 5 = 0; UPDATE made SET who = 'z' WHERE n % 7 = 0".to_string(),
        "CREATE TABLE log (id BIGINT, customername TEXT, status TEXT, at TIMESTAMPTZ, deltas INT[]) APPEND ONLY".to_string(),
        format!(
            "CREATE SINK added_out FROM log WITH (connector = 'kafka', topic = 'added', properties.bootstrap.server = '{bootstrap}', \
             schema.location = '{copy}', message = 'Order') FORMAT PLAIN ENCODE PROTOBUF"
        ),
        "INSERT INTO log VALUES (-1, 'a', 'CLOSED', '2024-01-01 00:00:00.000001+00', ARRAY[1, -2]), (2, '', NULL, NULL, NULL)".to_string(),
        format!(
            "CREATE SOURCE added WITH (connector = 'kafka', topic = 'added', properties.bootstrap.server = '{bootstrap}', \
             schema.location = '{copy}', message = 'Order') FORMAT PLAIN ENCODE PROTOBUF"
        ),
    ] {
        run(&client, &statement).await;
    }
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    for (a, b) in [("made", "written"), ("written", "made")] {
        let differ = format!("SELECT COUNT(*) FROM (SELECT n, url, who FROM {a} EXCEPT SELECT n, url, who FROM {b}) AS d");
        shows(&client, &differ, &[&["0"]]).await;
    }
    let added: &[&[&str]] =
        &[&["-1", "a", "CLOSED", "2024-01-01 00:00:00.000001+00", "{1,-2}"], &["2", "", "STATUS_UNKNOWN", "NULL", "{}"]];
    shows(&client, "SELECT DISTINCT id, customername, status, at, deltas FROM added ORDER BY id", added).await;
    let sink = |columns: &str, more: &str| {
        format!(
            "CREATE SINK s AS SELECT {columns} FROM log WITH (connector = 'kafka', topic = 'added', properties.bootstrap.server = '{bootstrap}'{more}) \
             FORMAT PLAIN ENCODE PROTOBUF"
        )
    };
    let of_order = format!(", schema.location = '{copy}', message = 'Order'");
    for (statement, why) in [
        (sink("id AS idd", &of_order), "message shop.v1.Order has no field idd; perhaps id is meant"),
        (sink("id AS done", &of_order), "column done: bigint does not fit a field of type bool; cast it"),
        (sink("id", ""), "what is written in format \"protobuf\" needs a message type"),
    ] {
        assert_eq!(refused(&client, &statement).await.message(), why);
    }
}

/// Whatever becomes of the descriptor's file, the source reads as it did.
async fn with_a_descriptor(broker: &KafkaBroker, server: &mut Server, client: &Client) {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("order.pb");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(DESCRIPTOR), &copy).expect("a copy");
    let source = |message: &str| {
        format!(
            "CREATE SOURCE orders (WATERMARK FOR at AS at - INTERVAL '1 second') INCLUDE OFFSET AS o WITH (connector = 'kafka', topic = 'orders', \
             properties.bootstrap.server = '{}', schema.location = '{}', message = '{message}') FORMAT PLAIN ENCODE PROTOBUF",
            broker.bootstrap,
            copy.display()
        )
    };
    let unknown = refused(client, &source("shop.v1.Oder")).await;
    assert_eq!((unknown.code().code(), unknown.message()), ("42704", "there is no message shop.v1.Oder; perhaps shop.v1.Order is meant"));
    // By the extended protocol, in which a statement is described before it is run.
    client.execute(&source("shop.v1.Order"), &[]).await.expect("the source is accepted");
    std::fs::remove_file(&copy).expect("the file goes");
    // What exists is not asked for, in either protocol.
    let again = source("shop.v1.Order").replace("CREATE SOURCE", "CREATE SOURCE IF NOT EXISTS");
    run(client, &again).await;
    client.execute(&again, &[]).await.expect("the source exists");
    let other = refused(client, &again.replace("orders (", "others (")).await;
    assert!(format!("{other:?}").contains("order.pb"), "{other:?}");
    run(client, "CREATE MATERIALIZED VIEW spent AS SELECT customername, status, COUNT(*) AS n, SUM((lines[1]).count) AS c, MAX(at) AS latest FROM orders GROUP BY customername, status").await;
    produce(broker, "orders", &(0..300).map(|id| (None, Some(order(id)))).collect::<Vec<_>>());
    let bad = [vec![0x08], field(2, 0, varint(1)), [order(1), vec![0x22, 0x7F]].concat(), field(9, 2, vec![0x08])];
    produce(broker, "orders", &bad.map(|record| (None, Some(record))));
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    produce(broker, "orders", &(300..600).map(|id| (None, Some(order(id)))).collect::<Vec<_>>());
    let expected: &[&[&str]] = &[
        &["customer 0", "STATUS_UNKNOWN", "200", "599", "2023-11-14 22:23:17.005+00"],
        &["customer 1", "OPEN", "200", "596", "2023-11-14 22:23:18.005+00"],
        &["customer 2", "CLOSED", "200", "600", "2023-11-14 22:23:19.005+00"],
    ];
    shows(&client, "SELECT * FROM spent ORDER BY status = 'CLOSED', status = 'OPEN'", expected).await;
    let reasons = "SELECT DISTINCT reason FROM eddyline.undecodable_records WHERE source = 'orders' ORDER BY reason";
    let reasons_expected: &[&[&str]] = &[
        &["column customerName: a varint where a length and bytes is expected"],
        &["malformed Protobuf at byte 1: the record ends early"],
        &["malformed Protobuf at byte 3: the record ends early"],
        &["malformed Protobuf at byte 49: the record ends early"],
    ];
    shows(&client, reasons, reasons_expected).await;
    let types = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'orders' AND ordinal_position <= 3 ORDER BY ordinal_position";
    shows(&client, types, &[&["id", "bigint"], &["customername", "text"], &["status", "text"]]).await;
}

async fn with_a_registry(broker: &KafkaBroker, server: &mut Server) -> SchemaRegistry {
    let client = server.connect().await;
    let mut registry = SchemaRegistry::start();
    registry.register("clicks-value", 7, serde_json::json!({"schemaType": "PROTOBUF", "schema": SCHEMA}));
    let source = format!(
        "CREATE TABLE clicks WITH ('connector' = 'kafka', 'topic' = 'clicks', 'properties.bootstrap.servers' = '{}', 'format' = 'protobuf', \
         'protobuf.schema-registry.url' = '{}')",
        broker.bootstrap,
        registry.url()
    );
    run(&client, &source).await;
    run(&client, "CREATE MATERIALIZED VIEW clicked AS SELECT url, who, COUNT(*) AS c, SUM(n)::bigint AS s FROM clicks GROUP BY url, who")
        .await;
    produce(broker, "clicks", &[(None, Some(click(1, None))), (None, Some(click(2, Some("")))), (None, Some(vec![0, 0, 0, 0, 8, 0]))]);
    let first: &[&[&str]] = &[&["/x", "", "1", "2"], &["/x", "NULL", "1", "1"]];
    shows(&client, "SELECT * FROM clicked ORDER BY who", first).await;
    registry.stop();
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    produce(broker, "clicks", &[(None, Some(click(3, Some("a"))))]);
    let problem = until("it says what it waits for", || problem_of(&client, "clicks")).await;
    assert!(problem.contains("the schema registry at") && problem.contains("does not answer"), "{problem}");
    run(&client, &source.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")).await;
    let away = refused(&client, &source.replace("clicks WITH", "again WITH")).await;
    assert_eq!(away.code().code(), "08006");
    registry.restart();
    let all: &[&[&str]] = &[&["/x", "", "1", "2"], &["/x", "a", "1", "3"], &["/x", "NULL", "1", "1"]];
    shows(&client, "SELECT * FROM clicked ORDER BY who", all).await;
    let reason: &[&[&str]] = &[&["schema 8: the registry does not have it"]];
    shows(&client, "SELECT reason FROM eddyline.undecodable_records WHERE source = 'clicks'", reason).await;
    registry
}

/// Keys are messages too, or of another format.
async fn by_key(broker: &KafkaBroker, server: &mut Server) {
    let client = server.connect().await;
    let source = |name: &str, key: &str| {
        format!(
            "CREATE SOURCE {name} (PRIMARY KEY (n)) WITH (connector = 'kafka', topic = 'keyed', properties.bootstrap.server = '{}', \
             protobuf.schema = '{SCHEMA}', message = 'Click'{key}) FORMAT UPSERT ENCODE PROTOBUF",
            broker.bootstrap
        )
    };
    let no_key = refused(&client, &source("s", "")).await;
    assert!(no_key.hint().is_some_and(|hint| hint.contains("key.protobuf.message-name")), "{no_key:?}");
    run(&client, &source("keyed", ", key.protobuf.message-name = 'clicks.Click.Key'")).await;
    let value = |n: u64, who: &str| Some(click(n, Some(who))[6..].to_vec());
    let key = |n: u64| Some(field(1, 0, varint(n)));
    produce(
        broker,
        "keyed",
        &[(key(1), value(1, "a")), (key(2), value(2, "b")), (key(1), value(1, "c")), (key(2), None), (key(3), value(3, "d"))],
    );
    shows(&client, "SELECT n, who FROM keyed ORDER BY n", &[&["1", "c"], &["3", "d"]]).await;
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    produce(broker, "keyed", &[(key(3), None)]);
    shows(&client, "SELECT n, who FROM keyed ORDER BY n", &[&["1", "c"]]).await;
}
