//! Tests of the CSV decoder.

use super::super::testing::{changes, column, keyed, lines, reason};
use super::super::{PayloadColumn, Record};
use eddyline_common::SqlType::*;

const CSV: &[(&str, &str)] = &[("format", "csv")];

#[test]
fn fields_in_order() {
    let columns =
        [column("id", BigInt), column("name", Text), column("price", Decimal { precision: 10, scale: 2 }), column("at", Timestamp)];
    let rows = lines(
        CSV,
        &columns,
        &["1,plain,1.50,2015-07-15 00:00:01", "2,\"a, \"\"b\"\"\nc\", 2 ,2015-07-15T00:00:01Z\r\n", "3,,,", "4,\"\",,"],
    );
    assert_eq!(
        rows,
        [
            r#"{"id":1,"name":"plain","price":1.50,"at":"2015-07-15T00:00:01"}"#,
            r#"{"id":2,"name":"a, \"b\"\nc","price":2.00,"at":"2015-07-15T00:00:01"}"#,
            r#"{"id":3}"#,
            r#"{"id":4,"name":""}"#,
        ]
    );
}

#[test]
fn other_characters() {
    let options = &[
        ("format", "csv"),
        ("csv.field-delimiter", "\\t"),
        ("csv.quote-character", "'"),
        ("csv.escape-character", "\\"),
        ("csv.null-literal", "NULL"),
    ];
    let columns = [column("a", Text), column("b", Integer), column("c", Text)];
    let rows = lines(options, &columns, &["'it\\'s'\tNULL\t", "'NULL'\t1\tNULL"]);
    assert_eq!(rows, [r#"{"a":"it's","c":""}"#, r#"{"a":"NULL","b":1}"#]);
}

#[test]
fn comments_are_no_records() {
    let options = &[("format", "csv"), ("csv.allow-comments", "true")];
    let columns = [column("id", BigInt), column("name", Text)];
    assert_eq!(lines(options, &columns, &["# id, name\n", "1,#a", "#"]), [r##"{"id":1,"name":"#a"}"##]);
    assert_eq!(reason(CSV, &columns, "#"), r##"column id: "#" is not a bigint"##);
    let columns = [keyed(column("id", BigInt)), column("name", Text)];
    assert_eq!(changes(options, &columns, &[Record::of(b"# id, name")], true), Ok(vec![]));
}

#[test]
fn texts_of_limited_length() {
    let columns = [PayloadColumn { length: Some(3), ..column("a", Text) }, column("b", Text)];
    let rows = lines(CSV, &columns, &["\u{e4}\u{f6}\u{fc},abcdef", "ab    ,x", ","]);
    assert_eq!(rows, ["{\"a\":\"\u{e4}\u{f6}\u{fc}\",\"b\":\"abcdef\"}", r#"{"a":"ab ","b":"x"}"#, "{}"]);
    for (options, record) in [(CSV, "abcd,x"), (&[("format", "json")][..], r#"{"b":"x","a":"abcd"}"#)] {
        assert_eq!(reason(options, &columns, record), "column a: the text is longer than 3 characters");
    }
}

#[test]
fn nested_fields_are_json() {
    let columns = [column("a", Array(Box::new(Integer))), column("s", Struct(vec![("x".into(), Integer)])), column("j", Json)];
    let rows = lines(CSV, &columns, &[r#"1;2,"{""x"":3}","[1]""#, r#""[4,null]",,"#]);
    assert_eq!(rows, [r#"{"a":[1,2],"s":{"x":3},"j":"[1]"}"#, r#"{"a":[4,null]}"#]);
    assert_eq!(reason(CSV, &columns, ",,{"), "malformed JSON at byte 1 (the end): a string must come here");
}

#[test]
fn malformed_records_say_why() {
    let columns = [column("id", BigInt), column("name", Text)];
    for (record, why) in [
        ("1", "1 fields where 2 are expected"),
        ("1,a,b", "3 fields where 2 are expected"),
        ("1,\"a", "a quoted field without end"),
        ("1,\"a\"b", "field 2: text after the closing quote"),
        ("x,a", "column id: \"x\" is not a bigint"),
        ("", "an empty record"),
    ] {
        assert_eq!(reason(CSV, &columns, record), why, "{record}");
    }
}
