//! Tests of the Avro decoder, on hand-encoded records.

use super::super::testing::{RegistryAnswers, changes, column, decoder, finished, keyed};
use super::super::{PayloadColumn, Record, describe};
use eddyline_common::SqlType::{self, *};
use eddyline_common::options;
use serde_json::{Value, json};

/// Bytes of a zigzag number.
fn long(value: i64) -> Vec<u8> {
    let mut bits = (value << 1 ^ value >> 63) as u64;
    let mut bytes = Vec::new();
    while bits >= 0x80 {
        bytes.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    bytes.push(bits as u8);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [long(value.len() as i64), value.as_bytes().to_vec()].concat()
}

fn decode(options: &[(&str, &str)], columns: &[PayloadColumn], record: &[u8]) -> Result<String, String> {
    let all = [&[("format", "avro")][..], options].concat();
    Ok(changes(&all, columns, &[Record::of(record)], false)?.remove(0).1)
}

fn required(name: &str, ty: SqlType) -> PayloadColumn {
    PayloadColumn { nullable: false, ..column(name, ty) }
}

const SCHEMA: &str = r#"{"type":"record","name":"r","namespace":"n","fields":[
    {"name":"id","type":"long"},
    {"name":"unused","type":{"type":"map","values":{"type":"array","items":["null","string"]}}},
    {"name":"Name","type":["null","string"]},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":3}},
    {"name":"day","type":{"type":"int","logicalType":"date"}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"kind","type":{"type":"enum","name":"k","symbols":["A","B"]}},
    {"name":"inner","type":{"type":"record","name":"i","fields":[{"name":"x","type":"float"},{"name":"next","type":["null","i"]}]}},
    {"name":"tags","type":{"type":"array","items":"string"}},
    {"name":"counts","type":{"type":"map","values":"int"}}]}"#;

#[test]
fn a_writers_schema_against_columns() {
    let columns = [
        column("counts", Map(Box::new(Text), Box::new(BigInt))),
        column("id", BigInt),
        column("name", Text),
        column("price", Decimal { precision: 10, scale: 2 }),
        column("day", Date),
        column("at", Timestamp),
        column("kind", Text),
        column("inner", Struct(vec![("x".into(), Double)])),
        column("tags", Array(Box::new(Text))),
        column("missing", Integer),
    ];
    let record = [
        long(-3),
        [long(1), text("k"), long(-2), long(3), long(0), long(1), text("v"), long(0), long(0)].concat(),
        [long(1), text("é")].concat(),
        [long(2), vec![0xCF, 0xC7]].concat(), // -12345
        long(16_436),
        long(1_704_103_200_000_001),
        long(1),
        [1.5f32.to_le_bytes().to_vec(), long(1), 2.0f32.to_le_bytes().to_vec(), long(0)].concat(),
        [long(2), text("a"), text(""), long(0)].concat(),
        [long(1), text("c"), long(7), long(0)].concat(),
    ]
    .concat();
    let row = decode(&[("avro.schema", SCHEMA)], &columns, &record).unwrap();
    let expected = r#"{"counts":{"c":7},"id":-3,"name":"é","price":-12.35,"day":"2015-01-01","at":"2024-01-01T10:00:00.000001","kind":"B","inner":{"x":1.5},"tags":["a",""]}"#;
    assert_eq!(row, expected);
    // Cut anywhere, it is refused, and what comes next is whole.
    let mut decoder = decoder(&[("format", "avro"), ("avro.schema", SCHEMA)], &columns, false).unwrap();
    for cut in 0..record.len() {
        decoder.push(Record::of(&record[..cut])).unwrap_err();
    }
    decoder.push(Record::of(&[&record[..], &[0]].concat())).unwrap_err();
    decoder.push(Record::of(&record)).unwrap();
    assert_eq!(finished(&mut *decoder, &columns), [(1, expected.to_string())]);
}

#[test]
fn the_schema_of_the_columns() {
    let columns = [required("id", Integer), column("t", Text), column("at", Timestamp), column("a", Array(Box::new(BigInt)))];
    let record = [long(5), long(1), text("x"), long(1), long(1_704_103_200_123), long(1), long(1), long(1), long(9), long(0)].concat();
    assert_eq!(decode(&[], &columns, &record).unwrap(), r#"{"id":5,"t":"x","at":"2024-01-01T10:00:00.123","a":[9]}"#);
    let nulls = [long(5), long(0), long(0), long(0)].concat();
    assert_eq!(decode(&[], &columns, &nulls).unwrap(), r#"{"id":5}"#);
    assert!(decode(&[], &[column("j", Json)], &nulls).unwrap_err().contains("has no Avro type"));
}

#[test]
fn malformed_records_and_schemas_say_why() {
    let columns = [required("id", SmallInt), column("t", Text)];
    for (record, why) in [
        (vec![], "malformed Avro at byte 0: the record ends early"),
        ([long(70_000), long(0)].concat(), "column id: 70000 is out of range for smallint"),
        ([long(1), long(2)].concat(), "malformed Avro at byte 2: a branch that the union does not have"),
        ([long(1), long(1), long(-1)].concat(), "malformed Avro at byte 3: a negative length"),
        (vec![0xFF; 12], "malformed Avro at byte 10: a number of more than 64 bits"),
        ([long(1), long(1), long(1), vec![0xFF]].concat(), "malformed Avro at byte 4: a string that is not UTF-8"),
    ] {
        assert_eq!(decode(&[], &columns, &record).unwrap_err(), why);
    }
    for schema in [
        "",
        "\"long\"",
        "{\"type\":\"record\",\"name\":\"r\"}",
        "{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"a\",\"type\":\"b\"}]}",
    ] {
        assert!(decode(&[("avro.schema", schema)], &columns, &[]).unwrap_err().contains("22023"), "{schema}");
    }
}

const AMOUNT: &str = r#"{"type":"record","name":"Amount","namespace":"money","fields":[
    {"name":"cents","type":"long"},{"name":"currency","type":{"type":"enum","name":"Currency","symbols":["EUR","USD"]}}]}"#;
const LINE: &str = r#"{"type":"record","name":"Line","namespace":"shop","fields":[
    {"name":"item","type":"string"},{"name":"price","type":"money.Amount"}]}"#;
const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
    {"name":"id","type":"long"},{"name":"lines","type":{"type":"array","items":"Line"}},{"name":"total","type":["null","money.Amount"]}]}"#;

fn answers() -> Vec<(&'static str, String)> {
    let amount = json!({"name": "money.Amount", "subject": "amounts", "version": 1});
    let line = json!({"name": "shop.Line", "subject": "shop lines", "version": 3});
    let order = json!({"schema": ORDER, "references": [line, amount]}).to_string();
    let to = |subject: &str| json!([{"name": "shop.Line", "subject": subject, "version": 1}]);
    vec![
        ("/schemas/ids/1", order.clone()),
        ("/subjects/orders-value/versions/latest", order),
        ("/subjects/shop%20lines/versions/3", json!({"schema": LINE, "references": [amount]}).to_string()),
        ("/subjects/amounts/versions/1", json!({"schema": AMOUNT}).to_string()),
        ("/schemas/ids/2", json!({"schema": ORDER, "references": to("nowhere")}).to_string()),
        ("/schemas/ids/3", json!({"schema": ORDER, "references": to("broken")}).to_string()),
        ("/subjects/broken/versions/1", json!({"schema": "{\"type\":\"record\",\"name\":\"Line\"}"}).to_string()),
        ("/schemas/ids/4", json!({"schema": ORDER}).to_string()),
        ("/schemas/ids/5", json!({"schema": "message M {}", "schemaType": "PROTOBUF"}).to_string()),
        ("/schemas/ids/6", json!({"schema": "\"long\""}).to_string()),
    ]
}

fn row(fields: &[(&str, SqlType)]) -> SqlType {
    Struct(fields.iter().map(|(name, ty)| (name.to_string(), ty.clone())).collect())
}

/// The columns of an order.
fn order() -> [PayloadColumn; 3] {
    let amount = row(&[("cents", BigInt), ("currency", Text)]);
    let line = row(&[("item", Text), ("price", amount.clone())]);
    [column("id", BigInt), column("lines", Array(Box::new(line))), column("total", amount)]
}

#[test]
fn records_whose_schemas_refer_to_others() {
    let registry = RegistryAnswers::start(answers());
    let options = [("format", "avro-confluent"), (options::REGISTRY_URL, registry.url.as_str())];
    let push = |number: u8| -> Result<String, String> {
        let lines = [long(1), text("tea"), long(250), long(1), long(0)].concat();
        let record = [vec![0, 0, 0, 0, number], long(7), lines, [long(1), long(500), long(0)].concat()].concat();
        let mut decoder = decoder(&options, &order(), false).unwrap();
        decoder.prepare(Record::of(&record)).map_err(|e| e.to_string())?;
        decoder.push(Record::of(&record))?;
        Ok(finished(&mut *decoder, &order()).remove(0).1)
    };
    let expected = r#"{"id":7,"lines":[{"item":"tea","price":{"cents":250,"currency":"USD"}}],"total":{"cents":500,"currency":"EUR"}}"#;
    assert_eq!(push(1).unwrap(), expected);
    for (number, why) in [
        (2, "schema 2: version 1 of nowhere, which it refers to: the registry does not have it"),
        (3, "schema 3: shop.Line, which it refers to: a record without fields"),
        (4, "schema 4: type Line is not defined"),
        (5, "schema 5: it is of type PROTOBUF"),
        (6, "schema 6: the Avro schema is not of a record"),
        (7, "schema 7: the registry does not have it"),
    ] {
        assert_eq!(push(number).unwrap_err(), why);
    }
    // What two of them refer to is fetched once.
    let asked = registry.stop();
    assert_eq!(asked[..3], ["/schemas/ids/1", "/subjects/shop%20lines/versions/3", "/subjects/amounts/versions/1"], "{asked:?}");
    assert!(asked[3].ends_with("/2"), "{asked:?}");
}

/// Keys have schemas of their own: a record's, or a bare value's. Without a registry the key's columns say it, not the value's schema.
#[test]
fn keys_of_records() {
    let columns = [keyed(required("id", BigInt)), column("v", Text)];
    let value = [long(1), text("a")].concat();
    let schema = r#"{"type":"record","name":"r","fields":[{"name":"v","type":["null","string"]}]}"#;
    let options = [("format", "avro"), ("avro.schema", schema), ("value.fields-include", "except_key")];
    let of = |key: &[u8], value: Option<&[u8]>| changes(&options, &columns, &[Record { key: Some(key), value }], true);
    assert_eq!(of(&long(7), Some(&value)).unwrap(), [(1, r#"{"id":7,"v":"a"}"#.to_string())]);
    assert_eq!(of(&long(7), None).unwrap(), [(-1, r#"{"id":7}"#.to_string())]);
    let answers = vec![
        ("/schemas/ids/1", json!({"schema": schema}).to_string()),
        ("/schemas/ids/2", json!({"schema": "\"long\""}).to_string()),
        ("/schemas/ids/3", json!({"schema": r#"{"type":"record","name":"k","fields":[{"name":"ID","type":"int"}]}"#}).to_string()),
    ];
    let registry = RegistryAnswers::start(answers);
    let options = [("format", "avro-confluent"), ("value.fields-include", "except_key"), (options::REGISTRY_URL, registry.url.as_str())];
    let mut decoder = decoder(&options, &columns, true).unwrap();
    let named = |number: u8, datum: &[u8]| [&[0, 0, 0, 0, number][..], datum].concat();
    for (key, value) in [(2, Some(named(1, &value))), (3, Some(named(1, &long(0)))), (3, None)] {
        let key = named(key, &long(key.into()));
        let record = Record { key: Some(&key), value: value.as_deref() };
        decoder.prepare(record).unwrap();
        assert_eq!(decoder.push(record), Ok(1));
    }
    let expected = [(1, r#"{"id":2,"v":"a"}"#), (1, r#"{"id":3}"#), (-1, r#"{"id":3}"#)];
    assert_eq!(finished(&mut *decoder, &columns), expected.map(|(weight, row)| (weight, row.to_string())));
    registry.stop();
}

fn described(options: &[(&str, &str)]) -> Result<Vec<(String, SqlType)>, String> {
    let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let description = describe(&options, true).map_err(|e| e.to_string())?;
    assert!(description.options.is_empty());
    Ok(description.columns)
}

/// The columns of a schema of one field `f`.
fn of_field(ty: Value) -> Result<SqlType, String> {
    let schema = json!({"type": "record", "name": "r", "namespace": "n", "fields": [{"name": "f", "type": ty}]}).to_string();
    described(&[("format", "avro"), ("avro.schema", schema.as_str())]).map(|mut columns| columns.remove(0).1)
}

const ALL_TYPES: &str = r#"{"type":"record","name":"r","namespace":"n","fields":[
    {"name":"customerId","type":"long"},
    {"name":"n","type":["int","null"]},
    {"name":"ok","type":["null","boolean"]},
    {"name":"x","type":"float"},
    {"name":"y","type":"double"},
    {"name":"s","type":{"type":"string","logicalType":"uuid"}},
    {"name":"b","type":"bytes"},
    {"name":"h","type":{"type":"fixed","name":"Hash","size":2}},
    {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["A","B"]}},
    {"name":"other","type":["null","Kind"]},
    {"name":"day","type":{"type":"int","logicalType":"date"}},
    {"name":"t","type":{"type":"long","logicalType":"time-micros"}},
    {"name":"at","type":["null", {"type":"long","logicalType":"timestamp-millis"}]},
    {"name":"shown","type":{"type":"long","logicalType":"local-timestamp-micros"}},
    {"name":"changed","type":{"type":"long","connect.name":"io.debezium.time.MicroTimestamp"}},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
    {"name":"units","type":{"type":"fixed","name":"Units","size":4,"logicalType":"decimal","precision":9}},
    {"name":"place","type":["null", {"type":"record","name":"Place","fields":[
        {"name":"City","type":"string"}, {"name":"zip","type":["null","int"]}]}]},
    {"name":"places","type":{"type":"array","items":"Place"}},
    {"name":"tags","type":{"type":"map","values":["null", {"type":"array","items":"long"}]}}]}"#;

#[test]
fn columns_of_a_schema() {
    let place = row(&[("city", Text), ("zip", Integer)]);
    let expected = [
        ("customerId", BigInt),
        ("n", Integer),
        ("ok", Boolean),
        ("x", Real),
        ("y", Double),
        ("s", Text),
        ("b", Bytes),
        ("h", Bytes),
        ("kind", Text),
        ("other", Text),
        ("day", Date),
        ("t", Time),
        ("at", TimestampTz),
        ("shown", Timestamp),
        ("changed", Timestamp),
        ("price", Decimal { precision: 10, scale: 2 }),
        ("units", Decimal { precision: 9, scale: 0 }),
        ("place", place.clone()),
        ("places", Array(Box::new(place))),
        ("tags", Map(Box::new(Text), Box::new(Array(Box::new(BigInt))))),
    ]
    .map(|(name, ty)| (name.to_string(), ty));
    let found = described(&[("format", "avro"), ("avro.schema", ALL_TYPES)]).unwrap();
    assert_eq!(found, expected);
    // Columns so derived hold what the schema's records have.
    let columns: Vec<PayloadColumn> = found.into_iter().map(|(name, ty)| column(&name, ty)).collect();
    let place = [long(1), text("Ulm"), long(1), long(89_073)].concat();
    let record = [
        [long(7), long(1), long(0), 1.5f32.to_le_bytes().to_vec(), 2.5f64.to_le_bytes().to_vec(), text("u"), text("b")].concat(),
        [vec![1, 2], long(1), long(1), long(0), long(16_436), long(1_000_000), long(1), long(1_704_103_200_123)].concat(),
        [long(1_704_103_200_000_001), long(1_704_103_200_000_002), long(2), vec![0xFB, 0x2E], vec![0, 0, 0, 9]].concat(),
        [place.clone(), long(1), place[1..].to_vec(), long(0), long(1), text("k"), long(1), long(1), long(3), long(0), long(0)].concat(),
    ]
    .concat();
    let row = decode(&[("avro.schema", ALL_TYPES)], &columns, &record).unwrap();
    for part in [
        r#""customerId":7,"x":1.5,"y":2.5,"s":"u","#,
        r#""kind":"B","other":"A","day":"2015-01-01","t":"00:00:01","#,
        r#""price":-12.34,"units":9,"place":{"city":"Ulm","zip":89073},"places":[{"city":"Ulm","zip":89073}],"tags":{"k":[3]}}"#,
    ] {
        assert!(row.contains(part), "{row}\n{part}");
    }
}

fn decimal(precision: Value, scale: i64) -> Value {
    json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
}

#[test]
fn what_has_no_column_is_refused() {
    let node = json!({"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]});
    for (ty, why) in [
        (json!(["null", "int", "string"]), "field f: a union of several types beside null is of no one type"),
        (json!("null"), "field f: no column has the type null"),
        (json!({"type": "array", "items": ["null"]}), "field f: no column has the type null"),
        (node, "field f: field next: a column of record n.Node, which holds itself, is not supported"),
        (decimal(json!(64), 2), "field f: a decimal of 64 digits with 2 behind the point; numeric has 1 to 38"),
        (decimal(json!(4), 5), "field f: a decimal of 4 digits with 5 behind the point; numeric has 1 to 38"),
        (decimal(json!(null), 0), "field f: a decimal without a precision"),
    ] {
        let error = of_field(ty).unwrap_err();
        assert!(error.contains("0A000") && error.contains(why), "{error}\n{why}");
    }
    // Records that are used twice are there twice.
    let mut nested = json!({"type": "record", "name": "R13", "fields": [{"name": "a", "type": "int"}]});
    for n in (0..13).rev() {
        let again = json!({"name": "b", "type": format!("R{}", n + 1)});
        nested = json!({"type": "record", "name": format!("R{n}"), "fields": [{"name": "a", "type": nested}, again]});
    }
    let error = of_field(nested).unwrap_err();
    assert!(error.contains("has more than 10000 fields, or records in each other more than 64 deep"), "{error}");
    for (schema, why) in [
        (Some("\"long\""), "the Avro schema is not of a record"),
        (Some("{"), "option \"avro.schema\": not a schema"),
        (None, "format \"avro\" needs columns or a schema"),
    ] {
        let options: Vec<(&str, &str)> = [("format", "avro")].into_iter().chain(schema.map(|text| ("avro.schema", text))).collect();
        let error = described(&options).unwrap_err();
        assert!(error.contains("22023") && error.contains(why), "{error}\n{why}");
    }
}

#[test]
fn columns_from_a_registry() {
    let registry = RegistryAnswers::start(answers());
    let options = [("format", "avro-confluent"), (options::REGISTRY_URL, registry.url.as_str()), (options::TOPIC, "orders")];
    let expected: Vec<(String, SqlType)> = order().into_iter().map(|c| (c.external_name, c.ty)).collect();
    assert_eq!(described(&options).unwrap(), expected);
    let elsewhere = [&options[..], &[(options::REGISTRY_SUBJECT, "amounts of money")]].concat();
    let error = described(&elsewhere).unwrap_err();
    assert!(
        error.contains("42704") && error.contains("subject \"amounts of money\" of the registry: the registry does not have it"),
        "{error}"
    );
    let asked = registry.stop();
    assert!(asked.contains(&"/subjects/amounts%20of%20money/versions/latest".to_string()), "{asked:?}");
}

/// A megabyte of blocks that say a million each would keep a reader for hours.
#[test]
fn items_that_take_no_bytes_are_no_more_than_the_record_has() {
    let schema =
        r#"{"type":"record","name":"r","fields":[{"name":"nothing","type":{"type":"array","items":"null"}},{"name":"id","type":"long"}]}"#;
    let read = |counts: &[i64]| {
        let blocks: Vec<u8> = counts.iter().chain(&[0, 7]).flat_map(|count| long(*count)).collect();
        decode(&[("avro.schema", schema)], &[column("id", BigInt)], &blocks)
    };
    assert_eq!(read(&[3]).unwrap(), r#"{"id":7}"#);
    assert!(read(&[4, 4, 4]).unwrap_err().contains("more items than the record has bytes"));
}
