//! Tests of the JSON decoder.

use super::super::testing::{column, decoder, lines};
use super::super::{PayloadColumn, Record};
use arrow::array::{Array as _, AsArray};
use arrow::datatypes::Int64Type;
use eddyline_common::SqlType::{self, *};

fn decimal() -> SqlType {
    Decimal { precision: 10, scale: 2 }
}

const JSON: &[(&str, &str)] = &[("format", "json")];

/// Decodes records and gives the rows as JSON lines of the Arrow batch.
fn rows(columns: &[PayloadColumn], records: &[&str]) -> Vec<String> {
    lines(JSON, columns, records)
}

fn reason(columns: &[PayloadColumn], record: &str) -> String {
    super::super::testing::reason(JSON, columns, record)
}

#[test]
fn scalars_of_every_type() {
    let columns = [
        column("b", Boolean),
        column("s", SmallInt),
        column("i", Integer),
        column("l", BigInt),
        column("f", Real),
        column("d", Double),
        column("n", decimal()),
        column("t", Text),
        column("y", Bytes),
        column("day", Date),
        column("at", Time),
        column("ts", Timestamp),
        column("tz", TimestampTz),
        column("j", Json),
    ];
    let native = r#"{"b":true,"s":-3,"i":7,"l":9007199254740993,"f":1.5,"d":2.25,"n":12.345,"t":"a\u00e9\ud83d\ude00\n\"","y":"aGk=",
        "day":"2015-07-15","at":"01:02:03.5","ts":"2015-07-15T00:00:00.25","tz":1436918400250,"j":{ "x" : [1,2]}}"#;
    let texts = r#"{"b":"true","s":"-3","i":"7.0","l":"9007199254740993","f":"1.5","d":"2.25e0","n":"12.345","t":"a\u00E9😀\n\"","y":"\\x6869",
        "day":"2015-07-15","at":"01:02:03.5","ts":"2015-07-15 02:00:00.25+02","tz":"1436918400250","j":{ "x" : [1,2]}}"#;
    let rows = rows(&columns, &[native, texts]);
    assert_eq!(rows[0], rows[1]);
    assert_eq!(
        rows[0],
        r#"{"b":true,"s":-3,"i":7,"l":9007199254740993,"f":1.5,"d":2.25,"n":12.35,"t":"aé😀\n\"","y":"6869","day":"2015-07-15","at":"01:02:03.500","ts":"2015-07-15T00:00:00.250","tz":"2015-07-15T00:00:00.250Z","j":"{ \"x\" : [1,2]}"}"#
    );
}

#[test]
fn nested_values() {
    let address = Struct(vec![("City".into(), Text), ("zip".into(), Integer)]);
    let columns = [
        column("a", Array(Box::new(BigInt))),
        column("s", address.clone()),
        column("l", Array(Box::new(address))),
        column("m", Map(Box::new(Text), Box::new(BigInt))),
    ];
    let got = rows(
        &columns,
        &[
            r#"{"a":[1,null,"3"],"s":{"City":"x","zip":1,"more":{}},"l":[{"city":"y"},null],"m":{"k":1,"l":2,"k":3}}"#,
            r#"{"a":[],"s":null,"l":[],"m":{}}"#,
            r#"{}"#,
        ],
    );
    assert_eq!(got[0], r#"{"a":[1,null,3],"s":{"City":"x","zip":1},"l":[{"City":"y"},null],"m":{"k":3,"l":2}}"#);
    assert_eq!(got[1], r#"{"a":[],"l":[],"m":{}}"#);
    assert_eq!(got[2], r#"{}"#);
    assert_eq!(reason(&columns, r#"{"a":[1,true]}"#), "column a[1]: a boolean where bigint is expected");
    assert_eq!(reason(&columns, r#"{"l":[{"zip":"x"}]}"#), "column l[0].zip: \"x\" is not an integer");
    assert_eq!(reason(&columns, r#"{"s":3}"#), "column s: a number where record is expected");
}

#[test]
fn texts_hold_no_nul() {
    let columns =
        [column("t", Text), column("l", Array(Box::new(Text))), column("m", Map(Box::new(Text), Box::new(Text))), column("j", Json)];
    let nul = "the text has a NUL character, which no text can hold";
    assert_eq!(reason(&columns, r#"{"t":"a\u0000b"}"#), format!("column t: {nul}"));
    assert_eq!(reason(&columns, r#"{"l":["a","\u0000"]}"#), format!("column l[1]: {nul}"));
    assert_eq!(reason(&columns, r#"{"m":{"k":"\u0000"}}"#), format!("column m.k: {nul}"));
    // An escaped backslash is none, and JSON stays as it is written.
    let got = rows(&columns, &[r#"{"t":"\\u0000","j":"\u0000"}"#]);
    assert_eq!(got, [r#"{"t":"\\u0000","j":"\"\\u0000\""}"#]);
    let csv = super::super::testing::reason(&[("format", "csv")], &[column("t", Text)], "a\0b");
    assert_eq!(csv, format!("column t: {nul}"));
    let raw = super::super::testing::reason(&[("format", "raw")], &[column("t", Text)], "\0");
    assert_eq!(raw, format!("column t: {nul}"));
}

/// Whoever reads what.
#[test]
fn a_nul_is_refused_in_a_column_that_nobody_reads() {
    let columns = [column("id", BigInt), column("t", Text)];
    let mut decoder = decoder(JSON, &columns, false).unwrap();
    decoder.keep(&[true, false]);
    assert!(decoder.push(Record::of(br#"{"id":1,"t":"a\u0000"}"#)).unwrap_err().contains("NUL"));
    assert_eq!(decoder.push(Record::of(br#"{"id":1,"t":"a\u0001"}"#)), Ok(1));
}

#[test]
fn names_match_exactly_before_they_match_by_letters() {
    let columns = [column("emailAddress", Text), column("id", BigInt)];
    let got = rows(
        &columns,
        &[
            r#"{"emailAddress":"a","ID":1}"#,
            r#"{"EMAILADDRESS":"x","emailAddress":"a","id":1}"#,
            r#"{"emailAddress":"a","EMAILADDRESS":"x","id":1,"Id":2}"#,
            r#"{"id":1,"email\u0041ddress":"a"}"#,
            r#"{"id":7,"id":1,"emailAddress":"b","emailAddress":"a"}"#,
        ],
    );
    assert!(got.iter().all(|row| row == r#"{"emailAddress":"a","id":1}"#), "{got:?}");
    let both = [column("a", BigInt), column("A", BigInt)];
    assert_eq!(rows(&both, &[r#"{"A":2,"a":1}"#]), [r#"{"a":1,"A":2}"#]);
}

#[test]
fn refused_records_leave_no_trace() {
    let columns = [column("id", BigInt), column("t", Text), column("a", Array(Box::new(BigInt)))];
    let mut decoder = decoder(JSON, &columns, false).unwrap();
    let bad = [
        "",
        " ",
        "{",
        r#"{"id":1"#,
        r#"{"id":1,"t":"x"#,
        r#"{"id":1,"t":"\"#,
        r#"{"id":1}}"#,
        r#"{"id":1} x"#,
        r#"{"id":1}{"id":2}"#,
        r#"{"id":1,}"#,
        r#"{"id":01}"#,
        r#"{"id":1.}"#,
        r#"{"id":-}"#,
        r#"{"id":+1}"#,
        r#"{"id":nul}"#,
        r#"{"id" 1}"#,
        r#"{id:1}"#,
        r#"{"a":[1,2,],"id":1}"#,
        r#"{"a":[1,2,"x"],"id":1}"#,
        r#"{"t":"\u12"}"#,
        r#"{"t":"\ud800"}"#,
        r#"{"t":"\q"}"#,
        "{\"t\":\"a\nb\"}",
        r#"[{"id":1}]"#,
        r#"17"#,
        r#"{"other":{"x":[1,}}"#,
        r#"{"id":9223372036854775808}"#,
        r#"{"id":1.5}"#,
        r#"{"id":{}}"#,
        r#"{"id":true}"#,
    ];
    for record in bad {
        decoder.push(Record::of(br#"{"id":1,"t":"good","a":[1,2]}"#)).unwrap();
        decoder.push(Record::of(record.as_bytes())).expect_err(record);
        decoder.push(Record::of(b"{\"t\":\"\xff\"}")).expect_err("not UTF-8");
    }
    assert_eq!(decoder.rows(), bad.len());
    let decoded = decoder.finish().unwrap().columns;
    assert_eq!(decoded[0].len(), bad.len());
    assert!(decoded[0].as_primitive::<Int64Type>().iter().all(|id| id == Some(1)));
    assert!(decoded[1].as_string::<i32>().iter().all(|t| t == Some("good")));
    assert_eq!(decoded[2].as_list::<i32>().values().len(), 2 * bad.len());
    assert_eq!(decoder.rows(), 0);
}

#[test]
fn reasons_say_what_is_wrong() {
    let columns = [column("id", BigInt), column("s", SmallInt), column("n", decimal()), column("ts", Timestamp), column("y", Bytes)];
    for (record, expected) in [
        (r#"{"id":"abc"}"#, "column id: \"abc\" is not a bigint"),
        (r#"{"id":1.5}"#, "column id: 1.5 is not a whole number, which bigint is"),
        (r#"{"s":40000}"#, "column s: 40000 is out of range for smallint"),
        (r#"{"n":123456789.1}"#, "column n: 123456789.1 is out of range for numeric(10,2)"),
        (r#"{"ts":"yesterday"}"#, "column ts: \"yesterday\" is not a timestamp without time zone"),
        (r#"{"ts":true}"#, "column ts: a boolean where timestamp without time zone is expected"),
        (r#"{"y":"?"}"#, "column y: neither base64 nor \\x and hexadecimal digits"),
        (r#"{"id":1} tail"#, "malformed JSON at byte 9: more after the end of the object"),
        (r#"{"id":1"#, "malformed JSON at byte 7 (the end): a comma or the end of the object must come here"),
        (r#"[1]"#, "not a JSON object"),
        ("", "an empty record"),
    ] {
        assert_eq!(reason(&columns, record), expected);
    }
}

#[test]
fn missing_null_and_not_null() {
    let mut required = column("id", BigInt);
    required.nullable = false;
    let columns = vec![required, column("t", Text)];
    assert_eq!(reason(&columns, r#"{"t":"x"}"#), "column id: the field is missing, but the column is NOT NULL");
    assert_eq!(reason(&columns, r#"{"id":null}"#), "column id: null, but the column is NOT NULL");
    assert_eq!(rows(&columns, &[r#"{"id":1}"#, r#"{"id":1,"t":null}"#]), [r#"{"id":1}"#, r#"{"id":1}"#]);
    let mut strict = decoder(&[("format", "json"), ("json.fail-on-missing-field", "true")], &columns, false).unwrap();
    assert_eq!(strict.push(Record::of(br#"{"id":1}"#)).unwrap_err(), "column t: the field is missing");
    strict.push(Record::of(br#"{"id":1,"t":null}"#)).unwrap();
}

/// A column of each kind of type.
fn types() -> Vec<SqlType> {
    let row = Struct(vec![("a".into(), Integer), ("B".into(), Text)]);
    let scalars = [Boolean, SmallInt, Integer, BigInt, Real, Double, decimal(), Text, Bytes, Date, Time, Timestamp, Json];
    let mut types = scalars.to_vec();
    types.extend([BigInt, Text, row.clone()].map(|item| Array(Box::new(item))));
    types.extend([Integer, row.clone()].map(|item| Map(Box::new(Text), Box::new(item))));
    types.extend([Map(Box::new(BigInt), Box::new(Text)), row]);
    types
}

/// Spellings of values, right and wrong for any of the types, some of them no JSON.
const VALUES: [&str; 56] = [
    "null",
    "nul",
    "",
    "true",
    "false",
    "0",
    "-0",
    "01",
    "1.",
    "-",
    "1.5",
    "1e3",
    "1e-3",
    "1E400",
    "40000",
    "2147483648",
    "999999999999999999",
    "9223372036854775807",
    "9223372036854775808",
    "123456789.125",
    "99999999.995",
    "340282350000000000000000000000000000000",
    "999999999999999999999999999999999999999",
    r#""""#,
    r#""x""#,
    r#""17""#,
    r#"" 17""#,
    r#""1.50""#,
    r#""1e999999999""#,
    r#""true""#,
    r#""NaN""#,
    r#""aGk=""#,
    r#""\\x6869""#,
    r#""2015-07-15""#,
    r#""2015-07-15 00:00:01.25+02""#,
    r#""2015-02-30 00:00:00""#,
    r#""1436918400250""#,
    r#""01:02:03.5""#,
    r#""25:00""#,
    r#""\u00e9\n""#,
    r#""\ud800""#,
    r#""\q""#,
    "\"a\nb\"",
    r#""x"#,
    "[]",
    "[1, null, 3]",
    r#"["x", 1]"#,
    r#"[{"a": 1, "b": "x"}, {"A": 1, "a": 2}]"#,
    "[1,]",
    "{}",
    r#"{"a": 1, "b": "x", "c": [{}]}"#,
    r#"{"a": 1, "A": "x"}"#,
    r#"{"A": "x", "a": 1}"#,
    r#"{"1": 2, "1": "x", "2": 3}"#,
    r#"{"k": {"a": "x"}, "k": {"a": 1}}"#,
    r#"{"a": 1"#,
];

/// What a decoder makes of a record when a column is read, and when it is not, as the other column's value or the reason.
fn read_and_unread(options: &[(&str, &str)], columns: &[PayloadColumn], record: &str) -> [Result<Option<i64>, String>; 2] {
    [true, false].map(|is_read| {
        let mut decoder = decoder(options, columns, false).unwrap();
        decoder.keep(&[true, is_read]);
        // What is refused leaves nothing that the next record finds.
        let pushed = decoder.push(Record::of(record.as_bytes())).and_then(|_| decoder.push(Record::of(record.as_bytes())));
        let rows = decoder.rows();
        let decoded = decoder.finish().unwrap().columns;
        assert_eq!((rows, decoded[1].len()), (if pushed.is_ok() { 2 } else { 0 }, rows), "{record}");
        assert!(is_read || decoded[1].null_count() == rows || !columns[1].nullable, "{record}");
        let ids = decoded[0].as_primitive::<Int64Type>();
        pushed.map(|_| ids.iter().next_back().flatten())
    })
}

#[test]
fn whether_a_record_is_refused_does_not_depend_on_who_reads() {
    let strict: &[(&str, &str)] = &[("format", "json"), ("json.fail-on-missing-field", "true"), ("timestamp.number-unit", "second")];
    let mut accepted = 0;
    for (ty, nullable) in types().iter().flat_map(|ty| [(ty, true), (ty, false)]) {
        let columns = [column("id", BigInt), PayloadColumn { nullable, ..column("x", ty.clone()) }];
        let mut check = |options, record: String| {
            let [read, unread] = read_and_unread(options, &columns, &record);
            assert_eq!(read, unread, "{ty}: {record}");
            accepted += usize::from(read.is_ok());
        };
        for options in [JSON, strict] {
            check(options, r#"{"id":1}"#.to_string());
            for value in VALUES {
                check(options, format!(r#"{{"x":{value},"id":7}}"#));
            }
        }
        // Blanks behind it are no text.
        let limited = [columns[0].clone(), PayloadColumn { length: Some(2), ..columns[1].clone() }];
        for value in VALUES.iter().chain(&[r#""abc""#, r#""ab  ""#]).filter(|_| *ty == Text) {
            let [read, unread] = read_and_unread(JSON, &limited, &format!(r#"{{"x":{value},"id":7}}"#));
            assert_eq!(read, unread, "{value}");
        }
        // Of a field given twice the last counts, and each must be right.
        let twice = VALUES.iter().flat_map(|first| VALUES.map(|second| (first, second))).filter(|_| nullable);
        for (first, second) in twice {
            check(JSON, format!(r#"{{"x":{first},"X":{second},"id":7}}"#));
            check(JSON, format!(r#"{{"x":{first},"x":{second},"id":7}}"#));
        }
    }
    assert!(accepted > 5_000, "{accepted}");
}

#[test]
fn what_nobody_reads_is_null_unless_it_must_be_there() {
    let wide =
        [column("id", BigInt), column("url", Text), column("at", Timestamp), column("n", BigInt), column("tags", Array(Box::new(Text)))];
    let mut columns = wide.to_vec();
    columns[3].nullable = false;
    let mut decoder = decoder(JSON, &columns, false).unwrap();
    decoder.keep(&[true, false, false, false, false]);
    let good = r#"{"id":1,"url":"/a\nb","at":"2015-07-15 00:00:00","n":3,"tags":["x","y"]}"#;
    decoder.push(Record::of(good.as_bytes())).unwrap();
    for (record, expected) in [
        (good.replace("2015-07-15", "2015-07-32"), "column at: \"2015-07-32 00:00:00\" is not a timestamp without time zone"),
        (good.replace("[\"x\",", "[true,true,{\"x\":tru},"), "malformed JSON at byte 78: not a JSON value"),
        (good.replace(":3", ":null"), "column n: null, but the column is NOT NULL"),
    ] {
        assert_eq!(decoder.push(Record::of(record.as_bytes())), Err(expected.to_string()), "{record}");
    }
    decoder.push(Record::of(br#"{"n":4,"id":2}"#)).unwrap();
    assert_eq!(
        super::super::testing::finished(&mut *decoder, &wide).into_iter().map(|(_, row)| row).collect::<Vec<_>>(),
        [r#"{"id":1,"n":3}"#, r#"{"id":2,"n":4}"#]
    );
}

#[test]
fn nesting_is_bounded() {
    let columns = [column("j", Json)];
    let nested = |depth: usize| format!("{{\"j\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(reason(&columns, &nested(100_000)).contains("nested too deep"));
    assert_eq!(rows(&columns, &[&nested(100)]).len(), 1);
}

#[test]
fn intervals_are_no_json() {
    assert!(decoder(JSON, &[column("x", Interval)], false).is_err());
}

/// Far below what is reached, to catch a fall by an order of magnitude on the busiest machine.
#[test]
fn decoding_speed_is_sane() {
    let columns = [
        column("auction", BigInt),
        column("bidder", BigInt),
        column("price", decimal()),
        column("channel", Text),
        column("url", Text),
        column("date_time", Timestamp),
        column("extra", Text),
    ];
    let record = br#"{"auction":1023,"bidder":2001,"price":1234.50,"channel":"Google","url":"https://www.example.com/abc/item.htm?query=1","date_time":"2015-07-15 00:00:01.250","extra":"asdfghjklasdfghjkl"}"#;
    let mut decoder = decoder(JSON, &columns, false).unwrap();
    let start = std::time::Instant::now();
    let total = 1_000_000;
    for _ in 0..total / 8_192 {
        (0..8_192).for_each(|_| assert_eq!(decoder.push(Record::of(record)), Ok(1)));
        assert_eq!(decoder.finish().unwrap().columns[0].len(), 8_192);
    }
    let rate = total as f64 / start.elapsed().as_secs_f64();
    tracing::info!(rate, bytes = record.len(), "records decoded per second");
    assert!(rate > 50_000.0, "{rate} records/s");
}
