//! A real schema registry (Apicurio's, by Confluent's HTTP API: `scripts/registry.sh`): columns and records by schemas that refer to
//! others, in Avro and Protocol Buffers, what it does not have, and that it goes away. In one test because starting it takes seconds.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use eddyline_common::{Result, SqlState, SqlType, options};
use eddyline_connectors::format::{PayloadColumn, Record, RecordDecoder, decoder, describe};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[path = "../../sql-tests/src/program.rs"]
mod program;

/// Registers a version of a subject, as a producer does, and gives the number that records name.
fn register(registry: &str, subject: &str, body: Value) -> u32 {
    let request = ureq::post(format!("{registry}/subjects/{subject}/versions")).header("Content-Type", "application/json");
    let answer = request.send(body.to_string()).unwrap().body_mut().read_to_string().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
}

fn of_topic(registry: &str, topic: &str, format: &str) -> BTreeMap<String, String> {
    let all = [(options::FORMAT, format), (options::REGISTRY_URL, registry), (options::TOPIC, topic)];
    all.map(|(key, value)| (key.to_string(), value.to_string())).into()
}

fn columns(options: &BTreeMap<String, String>) -> Result<Vec<(String, SqlType)>> {
    Ok(describe(options, true)?.columns)
}

/// A decoder of the columns that a registry's schema has.
fn described_decoder(options: &BTreeMap<String, String>) -> Box<dyn RecordDecoder> {
    let column = |(external_name, ty)| PayloadColumn { external_name, ty, nullable: true, length: None, is_key: false };
    decoder(options, columns(options).unwrap().into_iter().map(column).collect(), false).unwrap()
}

fn named(number: u32, rest: &[u8]) -> Vec<u8> {
    [&[0][..], &number.to_be_bytes(), rest].concat()
}

/// The first column of a record that is one row.
fn first_of(decoder: &mut dyn RecordDecoder, record: &[u8]) -> Result<i64, String> {
    decoder.prepare(Record::of(record)).unwrap();
    decoder.push(Record::of(record))?;
    Ok(decoder.finish().unwrap().columns[0].as_primitive::<Int64Type>().value(0))
}

fn avro(registry: &str) -> BTreeMap<String, String> {
    let amount = json!({"type": "record", "name": "Amount", "namespace": "money", "fields": [{"name": "cents", "type": "long"}]});
    register(registry, "amounts", json!({"schema": amount.to_string()}));
    let order = |more: &[Value]| {
        let both = [json!({"name": "id", "type": "long"}), json!({"name": "total", "type": "money.Amount"})];
        let fields = [&both[..], more].concat();
        let order = json!({"type": "record", "name": "Order", "namespace": "shop", "fields": fields});
        json!({"schema": order.to_string(), "references": [{"name": "money.Amount", "subject": "amounts", "version": 1}]})
    };
    let first = register(registry, "orders-value", order(&[]));
    let second = register(registry, "orders-value", order(&[json!({"name": "note", "type": ["null", "string"], "default": null})]));
    assert_ne!(first, second);
    let options = of_topic(registry, "orders", "avro-confluent");
    let amount = SqlType::Struct(vec![("cents".to_string(), SqlType::BigInt)]);
    let expected = [("id", SqlType::BigInt), ("total", amount), ("note", SqlType::Text)];
    assert_eq!(columns(&options).unwrap(), expected.map(|(name, ty)| (name.to_string(), ty)));
    let mut decoder = described_decoder(&options);
    // Zigzag: 7 and 250 cents; 8, 1 cent and no note.
    assert_eq!(first_of(&mut *decoder, &named(first, &[14, 0xF4, 0x03])), Ok(7));
    assert_eq!(first_of(&mut *decoder, &named(second, &[16, 2, 0])), Ok(8));
    let unknown = first_of(&mut *decoder, &named(987_654, &[2]));
    assert_eq!(unknown, Err("schema 987654: the registry does not have it".to_string()));
    options
}

fn protobuf(registry: &str) {
    let money = "syntax = \"proto3\"; package money; message Amount { int64 cents = 1; }";
    register(registry, "money", json!({"schemaType": "PROTOBUF", "schema": money}));
    let order = "syntax = \"proto3\"; package shop; import \"money.proto\"; message Order { int64 id = 1; money.Amount total = 2; }";
    let references = json!([{"name": "money.proto", "subject": "money", "version": 1}]);
    let number = register(registry, "messages-value", json!({"schemaType": "PROTOBUF", "schema": order, "references": references}));
    let options = of_topic(registry, "messages", "protobuf");
    let amount = SqlType::Struct(vec![("cents".to_string(), SqlType::BigInt)]);
    assert_eq!(columns(&options).unwrap(), [("id".to_string(), SqlType::BigInt), ("total".to_string(), amount)]);
    // The file's first message: id 9, and 5 cents.
    assert_eq!(first_of(&mut *described_decoder(&options), &named(number, &[0, 0x08, 9, 0x12, 2, 0x08, 5])), Ok(9));
}

#[test]
fn a_registry_of_schemas() {
    let mut program = program::Program::start("registry.sh").unwrap_or_else(|complaint| panic!("{complaint}"));
    let registry = format!("http://127.0.0.1:{}/apis/ccompat/v7", program.port);
    let options = avro(&registry);
    protobuf(&registry);
    let nobody = columns(&of_topic(&registry, "nobody", "avro-confluent")).unwrap_err();
    assert_eq!(nobody.state, SqlState::UNDEFINED_OBJECT, "{nobody}");
    program.obey("stop");
    assert_eq!(columns(&options).unwrap_err().state, SqlState::CONNECTION_FAILURE);
    program.obey("start");
    assert_eq!(columns(&options).unwrap().len(), 3);
}
