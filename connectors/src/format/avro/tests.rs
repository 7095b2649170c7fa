//! Tests of the Avro decoder, on hand-encoded records.

use super::super::testing::{changes, column, decoder, finished};
use super::super::{PayloadColumn, Record};
use eddyline_common::SqlType::{self, *};

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
