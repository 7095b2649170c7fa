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
    assert_eq!(reason(&columns, r#"{"l":[{"zip":"x"}]}"#), "column l[0].zip: \"x\" is not a integer");
    assert_eq!(reason(&columns, r#"{"s":3}"#), "column s: a number where record is expected");
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
