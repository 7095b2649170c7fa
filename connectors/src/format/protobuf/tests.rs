//! Tests of the Protocol Buffers decoder. The descriptors in `tests/` were written by protoc from the files beside them, and the
//! long records by Google's library.

use super::super::testing::{RegistryAnswers, changes, column, decoder, finished};
use super::super::{PayloadColumn, Record};
use super::{describe, source};
use crate::format::registry::base64;
use eddyline_common::SqlType::{self, *};
use eddyline_common::options;
use std::collections::BTreeMap;

const ORDER: &[u8] = include_bytes!("tests/order.pb");
const ORDER_TEXT: &str = include_str!("tests/order.proto");
const MONEY_TEXT: &str = include_str!("tests/money.proto");
const LEGACY: &[u8] = include_bytes!("tests/legacy.pb");
const LEGACY_TEXT: &str = include_str!("tests/legacy.proto");
const DEFAULTS: &[u8] = include_bytes!("tests/defaults.pb");
const DEFAULTS_TEXT: &str = include_str!("tests/defaults.proto");

const FULL: &str = "08fdffffffffffffffff011202c3a9180222130a016110021a070a034555521005220178220022002a0602018092f40131000000000000e03f\
    3100000000000000c03a050a016b10074207080312030a017a4a0908a09acaac0610e807520060007202100982010200018801ffffffffffffffffff019501\
    00286bee9901fbffffffffffffffa5010000c03fa80101b2010400010209ba011108ffffffffffffffffff0110ff93ebdc03c001f9ffffffffffffffff01c2\
    3e050a03555344";

fn bytes(hex: &str) -> Vec<u8> {
    crate::format::json::parse_binary(&format!("\\x{hex}")).unwrap()
}

type Options = Vec<(&'static str, String)>;

fn of_set(set: &[u8], message: &str) -> Options {
    vec![(options::PROTOBUF_DESCRIPTOR_SET, base64(set)), (options::PROTOBUF_MESSAGE, message.to_string())]
}

fn of_text(text: &str) -> Options {
    vec![(options::PROTOBUF_SCHEMA, text.to_string())]
}

fn decode(options: &Options, columns: &[PayloadColumn], record: &[u8]) -> Result<String, String> {
    let all: Vec<(&str, &str)> = [("format", "protobuf")].into_iter().chain(options.iter().map(|(k, v)| (*k, v.as_str()))).collect();
    Ok(changes(&all, columns, &[Record::of(record)], false)?.remove(0).1)
}

fn row(fields: &[(&str, SqlType)]) -> SqlType {
    Struct(fields.iter().map(|(name, ty)| (name.to_string(), ty.clone())).collect())
}

fn array(ty: SqlType) -> SqlType {
    Array(Box::new(ty))
}

/// Of an order, but for the keys of `by_place`, which the tests' JSON has as text.
fn columns() -> Vec<PayloadColumn> {
    let line = row(&[("item", Text), ("count", BigInt), ("price", row(&[("currency", Text), ("units", BigInt)])), ("tags", array(Text))]);
    [
        ("id", BigInt),
        ("customerName", Text),
        ("status", Text),
        ("lines", array(line)),
        ("deltas", array(Integer)),
        ("weights", array(Double)),
        ("counts", Map(Box::new(Text), Box::new(BigInt))),
        ("by_place", Map(Box::new(Text), Box::new(row(&[("item", Text)])))),
        ("at", TimestampTz),
        ("votes", BigInt),
        ("note", Text),
        ("rank", Integer),
        ("card", Text),
        ("cash", row(&[("units", BigInt)])),
        ("free", Boolean),
        ("raw", Bytes),
        ("big", Decimal { precision: 20, scale: 0 }),
        ("f32", BigInt),
        ("s64", BigInt),
        ("ratio", Real),
        ("done", Boolean),
        ("total", row(&[("currency", Text)])),
        ("history", array(Text)),
        ("seen", array(Timestamp)),
        ("small", SmallInt),
    ]
    .map(|(name, ty)| column(name, ty))
    .to_vec()
}

const FULL_ROW: &str = "{\"id\":-3,\"customerName\":\"é\",\"status\":\"CLOSED\",\"lines\":[{\"item\":\"a\",\"count\":2,\"price\":{\"currency\":\
    \"EUR\",\"units\":5},\"tags\":[\"x\",\"\"]},{\"item\":\"\",\"count\":0,\"tags\":[]}],\"deltas\":[1,-1,2000000],\"weights\":[0.5,-2.0],\
    \"counts\":{\"k\":7},\"by_place\":{\"3\":{\"item\":\"z\"}},\"at\":\"2024-01-01T10:00:00.000001Z\",\"votes\":0,\"rank\":0,\"cash\":\
    {\"units\":9},\"raw\":\"0001\",\"big\":18446744073709551615,\"f32\":4000000000,\"s64\":-5,\"ratio\":1.5,\"done\":true,\"total\":\
    {\"currency\":\"USD\"},\"history\":[\"STATUS_UNKNOWN\",\"OPEN\",\"CLOSED\",\"9\"],\"seen\":[\"1969-12-31T23:59:59.999999\"],\"small\":-7}";

const EMPTY_ROW: &str = "{\"id\":0,\"customerName\":\"\",\"status\":\"STATUS_UNKNOWN\",\"lines\":[],\"deltas\":[],\"weights\":[],\"counts\":{},\
    \"by_place\":{},\"raw\":\"\",\"big\":0,\"f32\":0,\"s64\":0,\"ratio\":0.0,\"done\":false,\"history\":[],\"seen\":[],\"small\":0}";

#[test]
fn what_google_wrote() {
    let order = of_set(ORDER, "shop.v1.Order");
    assert_eq!(decode(&order, &columns(), &bytes(FULL)).unwrap(), FULL_ROW);
    assert_eq!(decode(&order, &columns(), &[]).unwrap(), EMPTY_ROW);
    // A few columns of it, in another order and case, and with other types.
    let some = [column("SMALL", Text), column("status", Integer), column("id", Double), column("Total", row(&[("UNITS", Integer)]))];
    assert_eq!(decode(&order, &some, &bytes(FULL)).unwrap(), r#"{"SMALL":"-7","status":2,"id":-3.0,"Total":{"UNITS":0}}"#);
}

#[test]
fn a_record_that_is_cut_leaves_no_trace() {
    let full = bytes(FULL);
    let all: Options = of_set(ORDER, "Order");
    let all: Vec<(&str, &str)> = [("format", "protobuf")].into_iter().chain(all.iter().map(|(k, v)| (*k, v.as_str()))).collect();
    let mut decoder = decoder(&all, &columns(), false).unwrap();
    for cut in 0..full.len() {
        // At the end of a field what is before it is a record too.
        if decoder.push(Record::of(&full[..cut])).is_ok() {
            decoder.finish().unwrap();
        }
        decoder.push(Record::of(&full)).unwrap();
        assert_eq!(finished(&mut *decoder, &columns()), [(1, FULL_ROW.to_string())], "{cut}");
    }
    // Whatever its bytes, a record is a row or an error.
    for at in 0..full.len() {
        for byte in [0x00, 0x7F, 0x80, 0xFF, full[at] ^ 1, full[at] ^ 8] {
            let mut changed = full.clone();
            changed[at] = byte;
            if decoder.push(Record::of(&changed)).is_ok() {
                decoder.finish().unwrap();
            }
        }
    }
    decoder.push(Record::of(&full)).unwrap();
    assert_eq!(finished(&mut *decoder, &columns()), [(1, FULL_ROW.to_string())]);
}

#[test]
fn proto2() {
    let columns = [
        column("id", Integer),
        column("name", Text),
        column("rate", Double),
        column("on", Boolean),
        column("kind", Text),
        column("extra", row(&[("x", Integer), ("deep", array(row(&[("y", Text)])))])),
        column("packed", array(Integer)),
        column("tree", row(&[("v", Integer), ("children", array(row(&[("v", Integer)])))])),
    ];
    let full = bytes("0805330801130a017114343a0301ac024206080112020802");
    let expected = r#"{"id":5,"extra":{"x":1,"deep":[{"y":"q"}]},"packed":[1,300],"tree":{"v":1,"children":[{"v":2}]}}"#;
    let with_defaults = "{\"id\":1,\"name\":\"no\\tname\",\"rate\":-1.5,\"on\":true,\"kind\":\"B\",\"packed\":[]}";
    for mut options in [of_set(LEGACY, "Legacy"), of_text(LEGACY_TEXT)] {
        options.retain(|(key, _)| *key != options::PROTOBUF_MESSAGE);
        assert_eq!(decode(&options, &columns, &full).unwrap(), expected);
        assert_eq!(decode(&options, &columns, &[8, 1]).unwrap(), r#"{"id":1,"packed":[]}"#);
        assert_eq!(decode(&options, &columns, &[]).unwrap_err(), "column id: a required field that is missing");
        options.push((options::PROTOBUF_DEFAULTS, "true".to_string()));
        assert_eq!(decode(&options, &columns, &[8, 1]).unwrap(), with_defaults);
    }
}

#[test]
fn defaults_are_read_as_they_are_written() {
    let columns = [
        column("raw", Bytes),
        column("text", Bytes),
        column("name", Text),
        column("hex", Integer),
        column("octal", BigInt),
        column("large", Decimal { precision: 20, scale: 0 }),
        column("whole", Double),
        column("minus", SmallInt),
        column("none", Bytes),
    ];
    let expected = r#"{"raw":"00017fff0a225c27c3a9310031","text":"610962","name":"tééA\n\\n","hex":-31,"octal":15,"large":18446744073709551615,"whole":16.0,"minus":-5,"none":""}"#;
    for mut options in [of_set(DEFAULTS, "Defaults"), of_text(DEFAULTS_TEXT)] {
        options.push((options::PROTOBUF_DEFAULTS, "true".to_string()));
        assert_eq!(decode(&options, &columns, &[]).unwrap(), expected);
        assert!(decode(&options, &[column("endless", Double)], &[]).is_ok());
    }
    let of = |default: &str| of_text(&format!("syntax = 'proto2'; message M {{ optional bytes b = 1 [default = {default}]; }}"));
    for wrong in [r"'\400'", r"'\q'", r"'\x'"] {
        let error = decode(&of(wrong), &[column("b", Bytes)], &[]).unwrap_err();
        assert!(error.contains("an escape"), "{wrong}: {error}");
    }
}

const SMALL: &str = "syntax = 'proto3'; message M { message P { int32 a = 1; repeated int32 b = 2; } int32 id = 1; repeated int32 l = 2; \
    P p = 3; oneof o { int32 x = 4; string y = 5; P z = 6; } map<string, int32> m = 7; repeated P ps = 300; enum E { A = 0; } E e = 9; }";

#[test]
fn any_order_and_any_number_of_times() {
    let part = row(&[("a", Integer), ("b", array(Integer))]);
    let columns = [
        column("l", array(Integer)),
        column("p", part.clone()),
        column("x", Integer),
        column("z", part.clone()),
        column("m", Map(Box::new(Text), Box::new(Integer))),
        column("ps", array(part)),
        column("id", Integer),
    ];
    let record = [
        &[0x10, 1][..],                     // l: 1
        &[0x1A, 4, 0x08, 1, 0x10, 7],       // p: a = 1, b = [7]
        &[0x08, 9],                         // id: 9
        &[0x12, 3, 2, 0xAC, 0x02],          // l, packed: 2, 300
        &[0x20, 5],                         // x: 5
        &[0x3A, 5, 0x0A, 1, b'k', 0x10, 1], // m: k = 1
        &[0xE2, 0x12, 2, 0x08, 3],          // ps: a = 3
        &[0x2A, 1, b'y'],                   // y, which no column wants, ends x
        &[0x3A, 0],                         // m: "" = 0
        &[0x1A, 4, 0x10, 8, 0x08, 2],       // p goes on: b = 8, a = 2
        &[0x32, 2, 0x08, 4],                // z: a = 4
        &[0x3A, 5, 0x0A, 1, b'k', 0x10, 2], // m: k = 2
        &[0xE2, 0x12, 0],                   // ps: empty
        &[0xF3, 0x3F, 0x08, 1, 0xF4, 0x3F], // a group that the schema does not have
        &[0x08, 0x96, 0x01],                // id: 150
        &[0x10, 4],                         // l: 4
    ]
    .concat();
    let expected =
        r#"{"l":[1,2,300,4],"p":{"a":2,"b":[7,8]},"z":{"a":4,"b":[]},"m":{"k":2,"":0},"ps":[{"a":3,"b":[]},{"a":0,"b":[]}],"id":150}"#;
    assert_eq!(decode(&of_text(SMALL), &columns, &record).unwrap(), expected);
}

#[test]
fn malformed_records_say_why() {
    let columns = [column("id", SmallInt), column("y", Text), column("p", row(&[("a", Integer)])), column("l", array(Integer))];
    for (record, why) in [
        (&[0x08][..], "malformed Protobuf at byte 1: the record ends early"),
        (&[0x08, 1, 0x2A, 9, b'x'], "malformed Protobuf at byte 4: the record ends early"),
        (&[0x2A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], "malformed Protobuf at byte 10: the record ends early"),
        (
            &[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
            "malformed Protobuf at byte 11: a number of more than 64 bits",
        ),
        (&[0x00, 1], "malformed Protobuf at byte 1: not the number of a field"),
        (&[0x0F], "malformed Protobuf at byte 1: a wire type that there is not"),
        (&[0x0C], "malformed Protobuf at byte 1: the end of a group that did not begin"),
        (&[0x7B, 0x0C], "malformed Protobuf at byte 2: the end of another group"),
        (&[0x7B, 0x08, 1], "malformed Protobuf at byte 3: the record ends early"),
        (&[0x08, 0xC0, 0x9A, 0x0C], "column id: 200000 is out of range for smallint"),
        (&[0x0A, 1, b'1'], "column id: a length and bytes where a varint is expected"),
        (&[0x2A, 1, 0xFF], "column y: a string that is not UTF-8"),
        (&[0x1A, 2, 0x0D, 0], "malformed Protobuf at byte 3: the record ends early"),
        (&[0x1A, 5, 0x0D, 0, 0, 0, 0], "column p.a: four bytes where a varint is expected"),
        (&[0x12, 2, 0x01, 0x80], "malformed Protobuf at byte 4: the record ends early"),
        (&[0x11, 0, 0, 0, 0, 0, 0, 0, 0], "column l[0]: eight bytes where a varint is expected"),
    ] {
        assert_eq!(decode(&of_text(SMALL), &columns, record).unwrap_err(), why, "{record:?}");
    }
}

#[test]
fn definitions_that_cannot_be_used_say_why() {
    let id = [column("id", BigInt)];
    let error = |options: Options, columns: &[PayloadColumn]| decode(&options, columns, &[]).unwrap_err();
    for (options, columns, why) in [
        (vec![], &id[..], "22023: format \"protobuf\" needs a message type"),
        (of_set(ORDER, "shop.v1.Oder"), &id, "42704: there is no message shop.v1.Oder; perhaps shop.v1.Order is meant"),
        (of_set(ORDER, "Oder"), &id, "42704: there is no message Oder; perhaps shop.v1.Order is meant"),
        (of_set(b"syntax", "M"), &id, "22023: option \"protobuf.descriptor-set\": not a descriptor set"),
        (of_set(&ORDER[..100], "M"), &id, "22023: the record ends early; write it with protoc --include_imports -o FILE"),
        (of_text("message M { int32 id = 1; } message N {}"), &id, "42704: which of the messages M, N is meant must be said"),
        (of_text("syntax = 'proto3';\nmessage M { int32 id }"), &id, "22023: option \"protobuf.schema\": line 2: \"=\" must come here"),
        (of_text("edition = '2023'; message M {}"), &id, "22023: line 1: editions are not supported"),
        (of_text("message M { optional N id = 1; }"), &id, "42804: column id: the type N is not defined"),
        (of_text("message M { optional int32 ids = 1; }"), &id, "42804: message M has no field id; perhaps ids is meant"),
        (of_text("message M { repeated int32 id = 1; }"), &id, "42804: column id: a repeated field, which is no bigint"),
        (of_text("message M { map<int32, int32> id = 1; }"), &id, "42804: column id: a map, which is no bigint"),
        (of_text("message M { optional M id = 1; }"), &id, "42804: column id: a message M, which is no bigint; declare it as a row"),
        (of_text("message M { optional int32 id = 1; } message M {}"), &id, "22023: option \"protobuf.schema\": type M is defined twice"),
        (of_text(SMALL), &[column("id", array(BigInt))], "42804: column id: a single value, which is no bigint[]"),
    ] {
        let error = error(options, columns);
        let (state, why) = why.split_once(": ").unwrap();
        assert!(error.contains(why) && error.contains(&format!("(SQLSTATE {state})")), "{error}\n{why}");
    }
    // The class that Flink would be given.
    for class in ["com.example.shop.OrderOuterClass$Order", "com.example.shop.OrderOuterClass.Order", ".shop.v1.Order", "Order"] {
        assert_eq!(decode(&of_set(ORDER, class), &id, &[8, 1]).unwrap(), r#"{"id":1}"#);
    }
    // Types that come with Protocol Buffers need no file.
    let text = "import 'google/protobuf/timestamp.proto'; message M { optional google.protobuf.Timestamp at = 1; }";
    let at = decode(&of_text(text), &[column("at", Timestamp)], &[0x0A, 2, 8, 1]).unwrap();
    assert_eq!(at, r#"{"at":"1970-01-01T00:00:01"}"#);
}

/// Rows of all kinds are read back as they were written.
#[test]
fn what_is_written_is_read_back() {
    let options: Options = of_set(ORDER, "Order");
    let given: BTreeMap<String, String> = options.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    // Keys of maps as they are, since nothing is shown as JSON.
    let columns: Vec<PayloadColumn> = derived().into_iter().map(|(name, ty)| column(&name, ty)).collect();
    let all: Vec<(&str, &str)> = [("format", "protobuf")].into_iter().chain(options.iter().map(|(k, v)| (*k, v.as_str()))).collect();
    let mut first = decoder(&all, &columns, false).unwrap();
    first.push(Record::of(&bytes(FULL))).unwrap();
    first.push(Record::of(&[])).unwrap();
    first.push(Record::of(&bytes("720078016a0178"))).unwrap();
    let fields: Vec<arrow::datatypes::Field> = columns.iter().map(|c| c.ty.field(&c.external_name, true)).collect();
    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
    let rows = arrow::array::RecordBatch::try_new(schema, first.finish().unwrap().columns).unwrap();
    let numbered: Vec<(usize, String, SqlType)> =
        columns.iter().enumerate().map(|(at, c)| (at, c.external_name.clone(), c.ty.clone())).collect();
    let encoder = super::encoder(&given, &numbered).unwrap();
    let bound = encoder.bind(&rows).unwrap();
    let mut again = decoder(&all, &columns, false).unwrap();
    for row in 0..rows.num_rows() {
        let mut record = bytes::BytesMut::new();
        bound.write(row, &mut record).unwrap();
        again.push(Record::of(&record)).unwrap();
    }
    assert_eq!(again.finish().unwrap().columns, rows.columns());
}

#[test]
fn what_cannot_be_written_says_why() {
    use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;
    let given = BTreeMap::from([(options::PROTOBUF_SCHEMA.to_string(), SMALL.to_string())]);
    let encoded = |name: &str, ty: SqlType, array: ArrayRef| -> Result<Vec<u8>, String> {
        let encoder = super::encoder(&given, &[(0, name.to_string(), ty)]).map_err(|e| e.to_string())?;
        let rows = RecordBatch::try_from_iter_with_nullable([(name, array, true)]).unwrap();
        let mut record = bytes::BytesMut::new();
        encoder.bind(&rows).unwrap().write(0, &mut record).map_err(|e| e.to_string())?;
        Ok(record.to_vec())
    };
    let numbers = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let texts = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let lists = |items: Vec<Option<i64>>| Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(items)])) as ArrayRef;
    assert_eq!(encoded("id", BigInt, numbers(vec![Some(150)])).unwrap(), [0x08, 0x96, 0x01]);
    assert_eq!(encoded("id", BigInt, numbers(vec![None])).unwrap(), Vec::<u8>::new());
    assert_eq!(encoded("e", Text, texts("A")).unwrap(), [0x48, 0]);
    assert_eq!(encoded("l", array(BigInt), lists(vec![Some(1), Some(-1)])).unwrap()[..3], [0x12, 11, 1]);
    for (found, why) in [
        (encoded("id", BigInt, numbers(vec![Some(1 << 40)])), "column id: 1099511627776 is out of the field's range (SQLSTATE 22003)"),
        (encoded("e", Text, texts("B")), "column e: \"B\" is no name of the enum"),
        (encoded("l", array(BigInt), lists(vec![None])), "column l: null in an array, which a repeated field cannot hold"),
        (encoded("id", Text, texts("1")), "column id: text does not fit a field of type int32; cast it (SQLSTATE 42804)"),
        (encoded("i", BigInt, numbers(vec![])), "message M has no field i; perhaps id is meant (SQLSTATE 42804)"),
        (encoded("p", BigInt, numbers(vec![])), "column p: a message M.P, which is no bigint"),
    ] {
        let error = found.unwrap_err();
        assert!(error.contains(why), "{error}\n{why}");
    }
    let required = BTreeMap::from([(options::PROTOBUF_SCHEMA.to_string(), LEGACY_TEXT.to_string())]);
    let lacks = super::encoder(&required, &[(0, "name".to_string(), Text)]).unwrap_err().to_string();
    assert!(lacks.contains("the required field id of message Legacy has no column"), "{lacks}");
}

fn described(options: &Options) -> Result<Vec<(String, SqlType)>, String> {
    let options: BTreeMap<String, String> = options.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    Ok(describe(&options, true).map_err(|e| e.to_string())?.columns)
}

/// The columns of an order as they are derived.
fn derived() -> Vec<(String, SqlType)> {
    let mut derived: Vec<(String, SqlType)> = columns().into_iter().map(|c| (c.external_name, c.ty)).collect();
    let money = row(&[("currency", Text), ("units", BigInt)]);
    let line = row(&[("item", Text), ("count", BigInt), ("price", money.clone()), ("tags", array(Text))]);
    for (name, ty) in &mut derived {
        match name.as_str() {
            "by_place" => *ty = Map(Box::new(Integer), Box::new(line.clone())),
            "cash" | "total" => *ty = money.clone(),
            "seen" => *ty = array(TimestampTz),
            "small" => *ty = Integer,
            _ => {}
        }
    }
    derived
}

#[test]
fn columns_from_a_descriptor() {
    let mut found = described(&of_set(ORDER, "Order")).unwrap();
    let mut expected = derived();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, expected);
    let error = described(&of_set(LEGACY, "Legacy")).unwrap_err();
    assert!(error.contains("field tree: field children: a column of message Legacy.Node, which holds itself, is not supported"), "{error}");
    // A descriptor's file is read once.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/format/protobuf/tests/order.pb");
    let options = BTreeMap::from([(options::PROTOBUF_DESCRIPTOR.to_string(), path.to_string())]);
    let description = describe(&options, false).unwrap();
    assert_eq!(description.options, BTreeMap::from([(options::PROTOBUF_DESCRIPTOR_SET.to_string(), base64(ORDER))]));
    let missing = BTreeMap::from([(options::PROTOBUF_DESCRIPTOR.to_string(), "/no/such.pb".to_string())]);
    assert!(describe(&missing, false).unwrap_err().to_string().contains("58P01"));
    let elsewhere = BTreeMap::from([(options::PROTOBUF_DESCRIPTOR.to_string(), "s3://b/order.pb".to_string())]);
    assert!(describe(&elsewhere, false).unwrap_err().to_string().contains("0A000"));
    let endless = BTreeMap::from([(options::PROTOBUF_DESCRIPTOR.to_string(), "/dev/zero".to_string())]);
    assert!(describe(&endless, false).unwrap_err().to_string().contains("is not a regular file"));
}

/// A message that is used twice is there twice, and so are those within it.
#[test]
fn columns_from_a_message_type_are_bounded() {
    let chain = |count: usize, field: &dyn Fn(usize) -> String| {
        let messages = (0..count).map(|n| format!("message M{n} {{ {} }} ", field(n + 1)));
        messages.collect::<String>() + &format!("message M{count} {{ optional int32 x = 1; }}")
    };
    let described = |text: String| {
        let first = [(options::PROTOBUF_SCHEMA, text), (options::PROTOBUF_MESSAGE, "M0".to_string())];
        described(&first.to_vec())
    };
    for (count, twice) in [(32, true), (1_000, false)] {
        let field = |n: usize| format!("optional M{n} a = 1; ") + &if twice { format!("optional M{n} b = 2;") } else { String::new() };
        let error = described(chain(count, &field)).unwrap_err();
        assert!(
            error.contains("0A000") && error.contains("has more than 10000 fields, or messages in each other more than 64 deep"),
            "{error}"
        );
    }
    // Maps within maps are planned once each.
    let text = chain(30, &|n| format!("map<string, M{n}> m = 1;"));
    let columns: Vec<PayloadColumn> = described(text.clone()).unwrap().iter().map(|(name, ty)| column(name, ty.clone())).collect();
    let options = vec![(options::PROTOBUF_SCHEMA, text), (options::PROTOBUF_MESSAGE, "M0".to_string())];
    assert_eq!(decode(&options, &columns, &[]).unwrap(), r#"{"m":{}}"#);
}

#[test]
fn source_text_says_what_its_descriptor_says() {
    for (set, text) in [(ORDER, ORDER_TEXT), (LEGACY, LEGACY_TEXT), (DEFAULTS, DEFAULTS_TEXT)] {
        let files = super::descriptor::files(set).unwrap();
        let of_set = super::Schema::new(&files).unwrap();
        let money = source::file("money.proto", MONEY_TEXT).unwrap();
        let mut files = super::with_well_known(source::file("order.proto", text).unwrap());
        files.insert(1, money);
        let of_text = super::Schema::new(&files).unwrap();
        let shown = |schema: &super::Schema, name: &str| {
            let message = schema.message(schema.find(Some(name)).unwrap());
            let field = |f: &super::schema::Field| {
                let ty = match &f.ty {
                    super::schema::Type::Message(id) if schema.message(*id).is_map_entry => "a map".to_string(),
                    super::schema::Type::Message(id) => schema.message(*id).name.clone(),
                    super::schema::Type::Enum(id) => format!("{:?}", schema.enums[*id].values),
                    other => format!("{other:?}"),
                };
                format!("{} {} {:?} {ty} {} {} {:?}", f.name, f.number, f.label, f.has_presence, f.oneof.is_some(), f.default)
            };
            message.fields.iter().map(field).collect::<Vec<_>>()
        };
        let names: Vec<String> =
            of_set.messages.iter().filter(|m| !m.is_map_entry && !m.name.starts_with("google")).map(|m| m.name.clone()).collect();
        assert!(!names.is_empty());
        for name in names {
            let unordered = |mut fields: Vec<String>| {
                fields.sort();
                fields
            };
            assert_eq!(unordered(shown(&of_set, &name)), unordered(shown(&of_text, &name)), "{name}");
        }
    }
}

fn answers() -> Vec<(&'static str, String)> {
    let references = serde_json::json!([{"name": "money.proto", "subject": "money", "version": 2}]);
    let order = serde_json::json!({"schemaType": "PROTOBUF", "schema": ORDER_TEXT, "references": references}).to_string();
    let money = serde_json::json!({"subject": "money", "version": 2, "id": 3, "schemaType": "PROTOBUF", "schema": MONEY_TEXT}).to_string();
    vec![
        ("/schemas/ids/7", order.clone()),
        ("/subjects/money/versions/2", money),
        ("/subjects/orders-value/versions/latest", order),
        ("/schemas/ids/8", r#"{"schema":"\"int\""}"#.to_string()),
        ("/schemas/ids/10", r#"{"schemaType":"PROTOBUF","schema":"message M {"}"#.to_string()),
    ]
}

#[test]
fn records_that_name_their_schema() {
    let registry = RegistryAnswers::start(answers());
    let url = registry.url.clone();
    let options = |message: &str| {
        let mut options = vec![("format", "protobuf".to_string()), (options::REGISTRY_URL, url.clone()), (options::TOPIC, "orders".into())];
        if !message.is_empty() {
            options.push((options::PROTOBUF_MESSAGE, message.to_string()));
        }
        options
    };
    let push = |options: &Options, columns: &[PayloadColumn], record: &[u8]| -> Result<String, String> {
        let options: Vec<(&str, &str)> = options.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let mut decoder = decoder(&options, columns, false).unwrap();
        decoder.prepare(Record::of(record)).map_err(|e| e.to_string())?;
        decoder.push(Record::of(record))?;
        Ok(finished(&mut *decoder, columns).remove(0).1)
    };
    let named = |number: u8, path: &[u8], record: &[u8]| [&[0, 0, 0, 0, number][..], path, record].concat();
    let full = named(7, &[0], &bytes(FULL));
    assert_eq!(push(&options(""), &columns(), &full).unwrap(), FULL_ROW);
    // The same path at length, and that of a message within: Order.Line.
    let line = [column("item", Text), column("count", Integer), column("other", Text)];
    assert_eq!(push(&options("Order"), &columns(), &named(7, &[2, 0], &bytes(FULL))).unwrap(), FULL_ROW);
    assert_eq!(push(&options(""), &line, &named(7, &[4, 0, 0], &[0x10, 3])).unwrap(), r#"{"item":"","count":3}"#);
    for (message, record, why) in [
        ("", named(7, &[2, 8], &[]), "schema 7: the schema has no message at the path [4] that the record names"),
        ("", named(7, &[1], &[]), "the record's path to its message is none"),
        ("Line", full, "schema 7: the record is a message shop.v1.Order, not Line"),
        ("", named(8, &[0], &[]), "schema 8: it is of type AVRO"),
        ("", named(9, &[0], &[]), "schema 9: the registry does not have it"),
        ("", named(10, &[0], &[]), "schema 10: line 1: a field or the end of the message must come here"),
        ("", vec![1, 2, 3], "no schema of a registry is named"),
        ("", vec![0, 0, 0, 0, 7], "malformed Protobuf at byte 5: the record ends early"),
    ] {
        let error = push(&options(message), &columns(), &record).unwrap_err();
        assert!(error.contains(why), "{error}\n{why}");
    }
    let mut found = described(&options("")).unwrap();
    let mut expected = derived();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, expected);
    let mut elsewhere = options("");
    elsewhere.push((options::REGISTRY_SUBJECT, "a b".to_string()));
    assert!(described(&elsewhere).unwrap_err().contains("subject \"a b\" of the registry: the registry does not have it"));
    let asked = registry.stop();
    assert!(asked.contains(&"/subjects/a%20b/versions/latest".to_string()), "{asked:?}");
    // Nobody listens any more: that is trouble, and not the record's.
    let away = push(&options(""), &columns(), &named(7, &[0], &[])).unwrap_err();
    assert!(away.contains("08006"), "{away}");
}
