//! Avro from a real broker, whose schemas a registry has (a stand-in, see `eddyline_sql_tests::registry`): schemas that evolve and that
//! refer to others, columns that come from them, records that cannot be decoded, a registry that goes away and comes back, through kills.
//! And keys in Avro, and records of one schema, which no registry has.

use super::brokers::broker;
use eddyline_connectors::testing::KafkaBroker;
use eddyline_sql_tests::client::{problem_of, refused, run, shows};
use eddyline_sql_tests::registry::SchemaRegistry;
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use eddyline_storage::state::{put_varint, zigzag};
use serde_json::{Value, json};
use tokio::task::block_in_place;
use tokio_postgres::Client;

/// Bytes of a zigzag number.
fn long(value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(zigzag(value), &mut bytes);
    bytes
}

fn bytes(value: &[u8]) -> Vec<u8> {
    [long(value.len() as i64), value.to_vec()].concat()
}

fn text(value: &str) -> Vec<u8> {
    bytes(value.as_bytes())
}

/// What stands before the datum of a record: the number of its schema.
fn named(number: u8) -> Vec<u8> {
    vec![0, 0, 0, 0, number]
}

fn record(name: &str, fields: Value) -> Value {
    json!({"type": "record", "name": name, "namespace": "shop", "fields": fields})
}

/// What a producer posts to a registry.
fn posted(schema: &Value) -> Value {
    json!({"schema": schema.to_string()})
}

/// The fields of the first schema, of which `customer` is of the type given.
fn fields(customer: Value) -> Vec<Value> {
    vec![
        json!({"name": "id", "type": "long"}),
        json!({"name": "customer", "type": customer}),
        json!({"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}}),
        json!({"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}),
    ]
}

/// Other places of the fields, another form of amounts and times, a field that may be null, and one that no column wants.
fn second_schema() -> Value {
    let cents = json!({"type": "fixed", "name": "Cents", "size": 8, "logicalType": "decimal", "precision": 10, "scale": 2});
    record(
        "Payment",
        json!([
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "id", "type": "long"},
            {"name": "note", "type": ["null", "string"], "default": null},
            {"name": "customer", "type": "string"},
            {"name": "amount", "type": cents},
            {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["WEB", "SHOP"]}, "default": "WEB"}
        ]),
    )
}

fn third_schema() -> Value {
    let mut third = fields(json!("string"));
    third.push(json!({"name": "lines", "type": {"type": "array", "items": "shop.Line"}}));
    let references = json!([{"name": "shop.Line", "subject": "shop.Line", "version": 1}]);
    json!({"schema": record("Payment", json!(third)).to_string(), "references": references})
}

/// What a producer has registered before its first record: 1, 2 and 4 are versions of the topic's subject.
fn register_all(registry: &SchemaRegistry) {
    registry.register("payments-value", 1, posted(&record("Payment", json!(fields(json!("string"))))));
    registry.register("payments-value", 2, posted(&second_schema()));
    let line = record("Line", json!([{"name": "item", "type": "string"}, {"name": "n", "type": "int"}]));
    registry.register("shop.Line", 3, posted(&line));
    registry.register("payments-value", 4, third_schema());
    registry.register("other-value", 5, posted(&record("Other", json!([{"name": "id", "type": "string"}]))));
    registry.register("other-value", 6, posted(&record("Payment", json!(fields(json!({"type": "array", "items": "string"}))))));
    registry.register("other-value", 8, posted(&record("Other", json!([{"name": "customer", "type": "string"}]))));
}

fn customer(n: i64) -> String {
    format!("customer {}", n % 3)
}

fn millis(n: i64) -> i64 {
    1_700_000_000_005 + n * 1_000
}

/// The fields of the first schema: the n-th payment is of n cents, at second n.
fn payment(n: i64) -> Vec<u8> {
    [long(n), text(&customer(n)), bytes(&(n as i32).to_be_bytes()), long(millis(n))].concat()
}

fn of_first(n: i64) -> Vec<u8> {
    [named(1), payment(n)].concat()
}

fn of_second(n: i64) -> Vec<u8> {
    let note = if n % 2 == 0 { [long(1), text("even")].concat() } else { long(0) };
    [named(2), long(millis(n) * 1_000), long(n), note, text(&customer(n)), n.to_be_bytes().to_vec(), long(1)].concat()
}

fn of_third(n: i64) -> Vec<u8> {
    [named(4), payment(n), long(2), text("tea"), long(n % 7), text("milk"), long(1), long(0)].concat()
}

/// The customer may be null.
fn of_fourth(n: i64) -> Vec<u8> {
    [named(7), long(n), long(1), text(&customer(n)), bytes(&(n as i32).to_be_bytes()), long(millis(n))].concat()
}

/// Records that are none, with the reasons.
fn bad() -> Vec<(Vec<u8>, String)> {
    let good = of_first(1);
    let cut = good[..good.len() - 1].to_vec();
    let unnamed = "no schema of a registry is named: the record does not begin with a zero byte and a number";
    let early = format!("malformed Avro at byte {}: the record ends early", cut.len() - 5);
    let list = [long(1), text("a"), long(0)].concat();
    vec![
        ([vec![1], good[1..].to_vec()].concat(), unnamed.to_string()),
        (vec![0, 0, 0], unnamed.to_string()),
        ([named(99), payment(1)].concat(), "schema 99: the registry does not have it".to_string()),
        (cut, early),
        ([good, vec![0]].concat(), "malformed Avro: more after the end of the record".to_string()),
        ([named(5), text("twelve")].concat(), "column id: \"twelve\" is not a bigint".to_string()),
        ([named(6), long(1), list, bytes(&[1]), long(0)].concat(), "column customer: an array where text is expected".to_string()),
        ([named(8), text("a")].concat(), "column id: the field is missing, but the column is NOT NULL".to_string()),
    ]
}

fn produce(broker: &KafkaBroker, topic: &str, records: Vec<Vec<u8>>) {
    block_in_place(|| broker.produce(topic, 0, records).expect("the broker takes the records"));
}

async fn waits_for_the_registry(client: &Client) {
    let problem = until("it says what it waits for", || problem_of(client, "payments")).await;
    assert!(problem.contains("the schema registry at") && problem.contains("does not answer"), "{problem}");
}

const PAID: &str = "SELECT * FROM paid ORDER BY customer";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_registrys_schemas_through_kills() {
    let broker = broker(&[("payments", 1), ("keyed", 1), ("plain", 1)]);
    let mut registry = SchemaRegistry::start();
    register_all(&registry);
    let mut server = Server::start(ServerOptions { checkpoint_interval: "200ms", ..Default::default() });
    of_many_schemas(&broker, &mut server, &registry).await;
    without_the_registry(&broker, &mut server, &mut registry).await;
    with_derived_columns(&broker, &mut server, &mut registry).await;
    by_key(&broker, &mut server, &registry).await;
    of_one_schema(&broker, &mut server).await;
}

/// Every record of any schema counts once; what is none is put down with its reason.
async fn of_many_schemas(broker: &KafkaBroker, server: &mut Server, registry: &SchemaRegistry) {
    let client = server.connect().await;
    let source = format!(
        "CREATE SOURCE payments (id BIGINT NOT NULL, customer VARCHAR, amount NUMERIC(10,2), at TIMESTAMPTZ, note VARCHAR, \
         lines ARRAY<ROW<item VARCHAR, n INT>>) WITH (connector = 'kafka', topic = 'payments', properties.bootstrap.server = '{}', \
         schema.registry = '{}') FORMAT PLAIN ENCODE AVRO",
        broker.bootstrap,
        registry.url()
    );
    run(&client, &source).await;
    let paid = "CREATE MATERIALIZED VIEW paid AS SELECT customer, COUNT(*) AS n, SUM(amount) AS amount, COUNT(note) AS noted, \
                SUM((lines[1]).n) AS items, MAX(at) AS latest FROM payments GROUP BY customer";
    run(&client, paid).await;
    produce(broker, "payments", (0..100).flat_map(|n| [of_first(n), of_second(100 + n)]).collect());
    produce(broker, "payments", bad().into_iter().map(|(record, _)| record).collect());
    shows(&client, "SELECT SUM(n)::bigint FROM paid", &[&["200"]]).await;
    block_in_place(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| broker.produce("payments", 0, (200..300).map(of_third)).expect("the broker takes the records"));
            server.kill_and_restart();
        })
    });
    let client = server.connect().await;
    let expected: &[&[&str]] = &[
        &["customer 0", "100", "148.50", "17", "97", "2023-11-14 22:18:17.005+00"],
        &["customer 1", "100", "149.50", "17", "102", "2023-11-14 22:18:18.005+00"],
        &["customer 2", "100", "150.50", "16", "104", "2023-11-14 22:18:19.005+00"],
    ];
    shows(&client, PAID, expected).await;
    shows_reasons(&client).await;
}

async fn shows_reasons(client: &Client) {
    let reasons: Vec<String> = bad().into_iter().map(|(_, reason)| reason).collect();
    let reasons: Vec<[&str; 1]> = reasons.iter().map(|reason| [reason.as_str()]).collect();
    let reasons: Vec<&[&str]> = reasons.iter().map(|reason| &reason[..]).collect();
    shows(client, "SELECT reason FROM eddyline.undecodable_records WHERE source = 'payments' ORDER BY \"offset\"", &reasons).await;
}

/// A schema that nobody has asked for before is waited for, through a kill too, and what comes behind it is not lost.
async fn without_the_registry(broker: &KafkaBroker, server: &mut Server, registry: &mut SchemaRegistry) {
    let client = server.connect().await;
    registry.register("payments-value", 7, posted(&record("Payment", json!(fields(json!(["null", "string"]))))));
    registry.stop();
    produce(broker, "payments", vec![of_fourth(300)]);
    waits_for_the_registry(&client).await;
    block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    produce(broker, "payments", vec![of_first(301), of_third(302)]);
    waits_for_the_registry(&client).await;
    registry.restart();
    let expected: &[&[&str]] = &[
        &["customer 0", "101", "151.50", "17", "97", "2023-11-14 22:18:20.005+00"],
        &["customer 1", "101", "152.51", "17", "102", "2023-11-14 22:18:21.005+00"],
        &["customer 2", "101", "153.52", "16", "105", "2023-11-14 22:18:22.005+00"],
    ];
    shows(&client, PAID, expected).await;
    shows_reasons(&client).await;
    until("it waits for nothing any more", || async { problem_of(&client, "payments").await.is_none().then_some(()) }).await;
    // A view that is made now reads all of it anew, of every schema.
    run(&client, "CREATE MATERIALIZED VIEW ids AS SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids, SUM(id)::bigint AS s FROM payments")
        .await;
    shows(&client, "SELECT * FROM ids", &[&["303", "303", "45753"]]).await;
}

/// What a source without columns has is settled when it is created, by the newest schema of a subject.
async fn with_derived_columns(broker: &KafkaBroker, server: &mut Server, registry: &mut SchemaRegistry) {
    let client = server.connect().await;
    let source = |name: &str, more: &str| {
        format!(
            "CREATE SOURCE {name} WITH (connector = 'kafka', topic = 'payments', properties.bootstrap.server = '{}', \
             schema.registry = '{}'{more}) FORMAT PLAIN ENCODE AVRO",
            broker.bootstrap,
            registry.url()
        )
    };
    run(&client, &source("newest", "")).await;
    // A column of the record is not NOT NULL: what has no id is a row.
    shows(&client, "SELECT COUNT(*), COUNT(id), COUNT(DISTINCT id), SUM(amount) FROM newest", &[&["304", "303", "303", "457.53"]]).await;
    registry.register("with-lines", 4, third_schema());
    let lined = "lined (WATERMARK FOR at AS at - INTERVAL '1 second') INCLUDE OFFSET AS o";
    run(&client, &source(lined, ", schema.registry.subject = 'with-lines'")).await;
    let lines = "SELECT id, (lines[1]).item, (lines[1]).n, (lines[2]).item FROM lined WHERE id IN (199, 200, 299) ORDER BY id";
    let expected: &[&[&str]] = &[&["199", "NULL", "NULL", "NULL"], &["200", "tea", "4", "milk"], &["299", "tea", "5", "milk"]];
    shows(&client, lines, expected).await;
    let nobody = refused(&client, &source("s", ", schema.registry.subject = 'nobody'")).await;
    let says = "subject \"nobody\" of the registry: the registry does not have it";
    assert_eq!((nobody.code().code(), nobody.message().contains(says)), ("42704", true));
    assert!(nobody.hint().is_some_and(|hint| hint.contains("schema.registry.subject")), "{nobody:?}");
    registry.register("odd", 9, posted(&record("Odd", json!([{"name": "what", "type": ["null", "long", "string"]}]))));
    let odd = refused(&client, &source("s", ", schema.registry.subject = 'odd'")).await;
    assert_eq!((odd.code().code(), odd.message()), ("0A000", "field what: a union of several types beside null is of no one type"));
    assert_eq!(odd.hint(), Some("Declare the columns that are wanted."));
    let (again, another) = (source("IF NOT EXISTS newest", ""), source("another", ""));
    registry.stop();
    block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    run(&client, &again).await;
    assert_eq!(refused(&client, &another).await.code().code(), "08006");
    let columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'newest' ORDER BY ordinal_position";
    let expected: &[&[&str]] = &[&["id", "bigint"], &["customer", "text"], &["amount", "numeric"], &["at", "timestamp with time zone"]];
    shows(&client, columns, expected).await;
    registry.restart();
    shows(&client, "SELECT MAX(id) FROM newest WHERE customer = 'customer 2'", &[&["302"]]).await;
}

/// Keys are bare values, with a schema of their own.
async fn by_key(broker: &KafkaBroker, server: &mut Server, registry: &SchemaRegistry) {
    let client = server.connect().await;
    let value = record("Value", json!([{"name": "id", "type": "long"}, {"name": "v", "type": ["null", "string"]}]));
    registry.register("keyed-value", 11, posted(&value));
    registry.register("keyed-key", 12, posted(&json!("long")));
    let source = format!(
        "CREATE SOURCE keyed (PRIMARY KEY (id)) WITH (connector = 'kafka', topic = 'keyed', properties.bootstrap.server = '{}', \
         schema.registry = '{}') FORMAT UPSERT ENCODE AVRO",
        broker.bootstrap,
        registry.url()
    );
    run(&client, &source).await;
    let send = |id: i64, v: Option<&str>| {
        let key = [named(12), long(id)].concat();
        let value = v.map(|v| [named(11), long(id), long(1), text(v)].concat());
        broker.send("keyed", 0, Some(&key), value.as_deref());
    };
    block_in_place(|| {
        [(1, Some("a")), (2, Some("b")), (1, Some("c")), (2, None), (3, Some("d"))].into_iter().for_each(|(id, v)| send(id, v));
        broker.flush().expect("the broker takes the records");
    });
    shows(&client, "SELECT * FROM keyed ORDER BY id", &[&["1", "c"], &["3", "d"]]).await;
    block_in_place(|| {
        server.kill_and_restart();
        send(3, None);
        broker.flush().expect("the broker takes the record");
    });
    let client = server.connect().await;
    shows(&client, "SELECT * FROM keyed ORDER BY id", &[&["1", "c"]]).await;
}

/// The schema is an option, and says the columns; or the columns say the schema.
async fn of_one_schema(broker: &KafkaBroker, server: &mut Server) {
    let client = server.connect().await;
    let schema = record("Named", json!([{"name": "Id", "type": "long"}, {"name": "name", "type": ["null", "string"]}]));
    let with = format!("connector = 'kafka', topic = 'plain', properties.bootstrap.server = '{}'", broker.bootstrap);
    for statement in [
        format!("CREATE SOURCE plain WITH ({with}, avro.schema = '{schema}') FORMAT PLAIN ENCODE AVRO"),
        format!("CREATE SOURCE declared (id BIGINT NOT NULL, name VARCHAR) WITH ({with}) FORMAT PLAIN ENCODE AVRO"),
        "CREATE MATERIALIZED VIEW by_name AS SELECT name, COUNT(*) AS n, SUM(id)::bigint AS s FROM plain GROUP BY name".to_string(),
        "CREATE MATERIALIZED VIEW declared_by_name AS SELECT name, COUNT(*) AS n, SUM(id)::bigint AS s FROM declared GROUP BY name"
            .to_string(),
    ] {
        run(&client, &statement).await;
    }
    let datum = |n: i64| [long(n), if n % 2 == 0 { [long(1), text("even")].concat() } else { long(0) }].concat();
    produce(broker, "plain", (0..50).map(datum).collect());
    produce(broker, "plain", vec![[long(5), long(1), long(9)].concat(), [long(5), long(2)].concat(), [datum(1), vec![7]].concat()]);
    block_in_place(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| broker.produce("plain", 0, (50..100).map(datum)).expect("the broker takes the records"));
            server.kill_and_restart();
        })
    });
    let client = server.connect().await;
    for view in ["by_name", "declared_by_name"] {
        let expected: &[&[&str]] = &[&["even", "50", "2450"], &["NULL", "50", "2500"]];
        shows(&client, &format!("SELECT * FROM {view} ORDER BY name"), expected).await;
    }
    let reasons: &[&[&str]] = &[
        &["malformed Avro at byte 3: the record ends early"],
        &["malformed Avro at byte 2: a branch that the union does not have"],
        &["malformed Avro: more after the end of the record"],
    ];
    for source in ["plain", "declared"] {
        let query = format!("SELECT reason FROM eddyline.undecodable_records WHERE source = '{source}' ORDER BY \"offset\"");
        shows(&client, &query, reasons).await;
    }
}
