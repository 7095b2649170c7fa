//! Debezium's change events in JSON: `{"before": ..., "after": ..., "op": ...}`, with or without the schema around, which says what
//! numbers in times' places count and how decimals are written.
//!
//! Without a primary key an event's rows count as they say: `c` and `r` add `after`, `d` takes `before` away, `u` does both;
//! so `before` must be complete (REPLICA IDENTITY FULL in PostgreSQL). With a primary key a row is overwritten by its key,
//! which also bears events that are delivered twice, and `before` need hold no more than the key.

pub mod encode;

use super::json::{Cursor, JsonParser, enveloped, text_of};
use super::rows::{Completeness, RowBuilder};
use super::upsert::weights;
use super::{DecodedRows, PayloadParser, Record, RecordDecoder};
use eddyline_common::Result;

pub struct DebeziumDecoder {
    row: RowBuilder,
    parser: JsonParser,
    key: JsonParser,
    keyed: bool,
    weights: Vec<i64>,
}

/// What an event says.
#[derive(Default)]
struct Event<'a> {
    /// Empty if there is none.
    schema: &'a str,
    before: Option<Cursor<'a>>,
    after: Option<Cursor<'a>>,
    op: Option<&'a str>,
}

impl<'a> Event<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let whole = Cursor::new(text);
        let (schema, mut cursor) = enveloped(whole).unwrap_or(("", whole));
        let mut event = Event { schema, ..Event::default() };
        if !cursor.is_at(b'{') {
            cursor.skip_value(0)?;
            return Err("not a JSON object".to_string());
        }
        cursor.read_members(|name, cursor| -> Result<(), String> {
            let object = Some(*cursor).filter(|c| c.clone().is_at(b'{'));
            match name.raw {
                "before" => event.before = object,
                "after" => event.after = object,
                "op" if cursor.is_at(b'"') => {
                    event.op = Some(cursor.string()?.raw);
                    return Ok(());
                }
                _ => {}
            }
            cursor.skip_value(1).map(drop)
        })?;
        Ok(event)
    }
}

impl DebeziumDecoder {
    pub fn new(row: RowBuilder, keyed: bool) -> Self {
        let columns = row.columns();
        let all: Vec<usize> = (0..columns.len()).collect();
        let in_key: Vec<usize> = all.iter().copied().filter(|c| columns[*c].is_key).collect();
        let (parser, key) = (JsonParser::new(columns, &all), JsonParser::of_key(columns, &in_key));
        DebeziumDecoder { row, parser, key, keyed, weights: Vec::new() }
    }

    fn push_event(&mut self, record: Record, value: &[u8]) -> Result<(), String> {
        let event = Event::read(text_of(value)?)?;
        self.parser.meet(event.schema, &["after", "before"]);
        match event.op {
            Some("c" | "r") => self.insert(event.after),
            Some("u") if self.keyed => self.overwrite(event),
            Some("u") => {
                self.take_back(event.before)?;
                self.insert(event.after)
            }
            Some("d") if self.keyed => self.delete(event.before, record.key),
            Some("d") => self.take_back(event.before),
            Some("m") => Ok(()),
            Some("t") => Err("a truncation cannot be taken as changes of rows".to_string()),
            Some(other) => Err(format!("an operation \"{other}\" that Debezium does not have")),
            None => Err("not an event of Debezium: the field op is missing".to_string()),
        }
    }

    fn put(&mut self, object: Option<Cursor>, weight: i64, completeness: Completeness, missing: &str) -> Result<(), String> {
        let mut cursor = object.ok_or(missing)?;
        self.parser.read_object(&mut cursor, &mut self.row)?;
        self.row.end_row(completeness)?;
        self.weights.push(weight);
        Ok(())
    }

    fn insert(&mut self, after: Option<Cursor>) -> Result<(), String> {
        self.put(after, 1, Completeness::Whole, "the field after is missing")
    }

    fn take_back(&mut self, before: Option<Cursor>) -> Result<(), String> {
        let missing =
            "the field before is missing: the database must log whole rows (REPLICA IDENTITY FULL), or the source needs a primary key";
        self.put(before, -1, Completeness::Whole, missing)
    }

    /// The row that its key has from now on; if the key itself changed, the old key's row is gone.
    fn overwrite(&mut self, event: Event) -> Result<(), String> {
        let first = self.row.rows();
        if event.before.is_some() {
            self.put(event.before, -1, Completeness::KeyOnly, "")?;
        }
        self.insert(event.after)?;
        if event.before.is_some() && self.row.same_key(first, first + 1) {
            self.row.roll_back(first);
            self.weights.truncate(first);
            self.insert(event.after)?;
        }
        Ok(())
    }

    fn delete(&mut self, before: Option<Cursor>, key: Option<&[u8]>) -> Result<(), String> {
        if before.is_some() {
            return self.put(before, -1, Completeness::KeyOnly, "");
        }
        let key = key.ok_or("neither the field before nor the record's key says which row is gone")?;
        self.key.parse(key, &mut self.row).map_err(|reason| format!("key: {reason}"))?;
        self.row.end_row(Completeness::KeyOnly)?;
        self.weights.push(-1);
        Ok(())
    }
}

impl RecordDecoder for DebeziumDecoder {
    fn push(&mut self, record: Record) -> Result<usize, String> {
        // Behind a deletion comes a tombstone, for the topic's compaction.
        let Some(value) = record.value else { return Ok(0) };
        let rows = self.row.rows();
        match self.push_event(record, value) {
            Ok(()) => Ok(self.row.rows() - rows),
            Err(reason) => {
                self.row.roll_back(rows);
                self.weights.truncate(rows);
                Err(reason)
            }
        }
    }

    fn rows(&self) -> usize {
        self.row.rows()
    }

    fn finish(&mut self) -> Result<DecodedRows> {
        Ok(DecodedRows { columns: self.row.finish()?, weights: weights(&mut self.weights) })
    }

    fn keep(&mut self, kept: &[bool]) {
        self.row.keep(kept);
    }

    fn header(&mut self, _record: &[u8]) -> Result<(), String> {
        Err("the format has no header".to_string())
    }

    fn is_comment(&self, _record: &[u8]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::PayloadColumn;
    use super::super::Record;
    use super::super::testing::{changes, column, keyed};
    use eddyline_common::SqlType::*;
    use serde_json::{Value, json};

    const DEBEZIUM: &[(&str, &str)] = &[("format", "debezium-json")];

    fn columns(with_key: bool) -> Vec<PayloadColumn> {
        let id = column("id", BigInt);
        vec![if with_key { keyed(id) } else { id }, column("v", Text)]
    }

    fn decode(with_key: bool, events: &[&str]) -> Result<Vec<(i64, String)>, String> {
        let records: Vec<Record> = events.iter().map(|e| Record::of(e.as_bytes())).collect();
        changes(DEBEZIUM, &columns(with_key), &records, with_key)
    }

    fn rows(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
        expected.iter().map(|(weight, row)| (*weight, row.to_string())).collect()
    }

    const EVENTS: &[&str] = &[
        r#"{"before":null,"after":{"id":1,"v":"a"},"op":"r","source":{"ts_ms":1},"ts_ms":2}"#,
        r#"{"schema":{"type":"struct"},"payload":{"before":null,"after":{"id":2,"v":"b"},"op":"c"}}"#,
        r#"{"op":"u","before":{"id":1,"v":"a"},"after":{"id":1,"v":"c"}}"#,
        r#"{"op":"u","before":{"id":2,"v":"b"},"after":{"id":3,"v":"b"}}"#,
        r#"{"op":"d","before":{"id":1,"v":"c"},"after":null}"#,
        r#"{"op":"m","message":{}}"#,
    ];

    #[test]
    fn without_a_key_rows_count_as_events_say() {
        let (a, b, c, d) = (r#"{"id":1,"v":"a"}"#, r#"{"id":2,"v":"b"}"#, r#"{"id":1,"v":"c"}"#, r#"{"id":3,"v":"b"}"#);
        assert_eq!(decode(false, EVENTS).unwrap(), rows(&[(1, a), (1, b), (-1, a), (1, c), (-1, b), (1, d), (-1, c)]));
    }

    #[test]
    fn with_a_key_rows_are_overwritten() {
        let (a, b, c, d) = (r#"{"id":1,"v":"a"}"#, r#"{"id":2,"v":"b"}"#, r#"{"id":1,"v":"c"}"#, r#"{"id":3,"v":"b"}"#);
        assert_eq!(decode(true, EVENTS).unwrap(), rows(&[(1, a), (1, b), (1, c), (-1, b), (1, d), (-1, c)]));
        // The database logs keys only.
        let terse = [r#"{"op":"u","before":null,"after":{"id":1,"v":"c"}}"#, r#"{"op":"d","before":{"id":1,"v":null},"after":null}"#];
        assert_eq!(decode(true, &terse).unwrap(), rows(&[(1, c), (-1, r#"{"id":1}"#)]));
        let by_key = Record { key: Some(br#"{"id":1}"#), value: Some(br#"{"op":"d","before":null,"after":null}"#) };
        let tombstone = Record { value: None, ..by_key };
        assert_eq!(changes(DEBEZIUM, &columns(true), &[by_key, tombstone], true).unwrap(), rows(&[(-1, r#"{"id":1}"#)]));
    }

    fn field(name: &str, ty: &str, meaning: &str) -> Value {
        json!({"type": ty, "optional": true, "name": meaning, "version": 1, "field": name})
    }

    fn with_schema(fields: &[Value], after: &Value) -> String {
        let row = |name: &str| json!({"type": "struct", "fields": fields, "name": "db.t.Value", "field": name});
        let schema = json!({"type": "struct", "fields": [row("before"), row("after"), {"type": "string", "field": "op"}]});
        json!({"schema": schema, "payload": {"before": null, "after": after, "op": "c"}}).to_string()
    }

    #[test]
    fn the_schema_says_what_values_mean() {
        let mut decimal = field("n", "bytes", "org.apache.kafka.connect.data.Decimal");
        decimal["parameters"] = json!({"scale": "2"});
        let moment = "io.debezium.time.MicroTimestamp";
        let fields = [
            field("d", "int32", "io.debezium.time.Date"),
            field("start", "int32", "io.debezium.time.Date"),
            field("t", "int64", "io.debezium.time.MicroTime"),
            field("At", "int64", moment),
            field("raw", "int64", moment),
            field("day", "int64", "org.apache.kafka.connect.data.Timestamp"),
            decimal,
            field("v", "struct", "io.debezium.data.VariableScaleDecimal"),
            field("j", "string", "io.debezium.data.Json"),
            json!({"type": "array", "items": {"type": "int64", "name": moment}, "field": "a"}),
            field("e", "string", "io.debezium.data.Enum"),
            field("z", "string", "io.debezium.time.ZonedTimestamp"),
        ];
        let columns = [
            column("d", Date),
            column("start", Timestamp),
            column("t", Time),
            column("at", Timestamp),
            column("raw", BigInt),
            column("day", Date),
            column("n", Decimal { precision: 10, scale: 2 }),
            column("v", Text),
            column("j", Json),
            column("a", Array(Box::new(Timestamp))),
            column("e", Text),
            column("z", TimestampTz),
        ];
        let micros = 1_704_067_200_000_001i64;
        let after = json!({"d": 19_723, "start": 19_723, "t": 3_723_500_000i64, "At": micros, "raw": micros, "day": 1_704_067_201_000i64, "n": "z8c=",
            "v": {"scale": 3, "value": "MDk="}, "j": "{\"a\":1}", "a": [micros, null], "e": "x", "z": "2024-01-01T00:00:00Z"});
        // Without one, a number counts what the source's options say.
        let plain = r#"{"op":"c","after":{"at":1704067200000,"n":"-123.45","t":"01:02:03.5"}}"#;
        let events = [with_schema(&fields, &after), plain.to_string()];
        let records: Vec<Record> = events.iter().map(|event| Record::of(event.as_bytes())).collect();
        let first = r#"{"d":"2024-01-01","start":"2024-01-01T00:00:00","t":"01:02:03.500","at":"2024-01-01T00:00:00.000001","raw":1704067200000001,"day":"2024-01-01","n":-123.45,"v":"12.345","j":"{\"a\":1}","a":["2024-01-01T00:00:00.000001",null],"e":"x","z":"2024-01-01T00:00:00Z"}"#;
        let second = r#"{"t":"01:02:03.500","at":"2024-01-01T00:00:00","n":-123.45}"#;
        assert_eq!(changes(DEBEZIUM, &columns, &records, false).unwrap(), rows(&[(1, first), (1, second)]));
        for (after, why) in [
            (json!({"n": "?"}), "column n: a decimal's bytes are not in base64"),
            (json!({"v": {"scale": 3}}), "column v: a decimal without its scale or value"),
            (json!({"j": "{"}), "column j: the string holds no JSON"),
            (json!({"t": 86_400_000_000i64}), "column t: 86400000000 is out of range for time without time zone"),
            (json!({"a": [i64::MAX.to_string()]}), "column a[0]: \"9223372036854775807\" is not a timestamp without time zone"),
        ] {
            let event = with_schema(&fields, &after);
            assert_eq!(changes(DEBEZIUM, &columns, &[Record::of(event.as_bytes())], false).unwrap_err(), why);
        }
    }

    #[test]
    fn a_key_has_a_schema_of_its_own() {
        let columns = [keyed(column("at", Timestamp)), keyed(column("id", BigInt))];
        let fields = [field("at", "int64", "io.debezium.time.MicroTimestamp"), json!({"type": "int64", "field": "id"})];
        let key = json!({"schema": {"type": "struct", "fields": fields}, "payload": {"at": 1, "id": 7}}).to_string();
        let deleted = Record { key: Some(key.as_bytes()), value: Some(br#"{"op":"d","before":null,"after":null}"#) };
        let row = r#"{"at":"1970-01-01T00:00:00.000001","id":7}"#;
        assert_eq!(changes(DEBEZIUM, &columns, &[deleted], true).unwrap(), rows(&[(-1, row)]));
        let key = json!({"schema": {"type": "int32", "name": "io.debezium.time.Date"}, "payload": 1}).to_string();
        let deleted = Record { key: Some(key.as_bytes()), ..deleted };
        let row = r#"{"at":"1970-01-02T00:00:00"}"#;
        assert_eq!(changes(DEBEZIUM, &columns[..1], &[deleted], true).unwrap(), rows(&[(-1, row)]));
    }

    #[test]
    fn columns_that_nobody_reads_are_checked_and_not_kept() {
        for with_key in [false, true] {
            let columns = [columns(with_key), vec![column("n", BigInt)]].concat();
            let mut decoder = super::super::testing::decoder(DEBEZIUM, &columns, with_key).unwrap();
            decoder.keep(&[true, false, false]);
            let update = br#"{"op":"u","before":{"id":1,"v":"a","n":1},"after":{"id":2,"v":"b","n":2}}"#;
            assert_eq!(decoder.push(Record::of(update)), Ok(2));
            decoder.push(Record::of(br#"{"op":"c","after":{"id":4,"v":"c","n":"none"}}"#)).unwrap_err();
            assert_eq!(decoder.push(Record::of(br#"{"op":"c","after":{"id":3,"v":"c","n":3}}"#)), Ok(1));
            let got = super::super::testing::finished(&mut *decoder, &columns);
            assert_eq!(got, rows(&[(-1, r#"{"id":1}"#), (1, r#"{"id":2}"#), (1, r#"{"id":3}"#)]));
        }
    }

    #[test]
    fn malformed_events_say_why() {
        for (event, why) in [
            (r#"{"id":1}"#, "not an event of Debezium: the field op is missing"),
            (r#"{"op":"t"}"#, "a truncation cannot be taken as changes of rows"),
            (r#"{"op":"x"}"#, "an operation \"x\" that Debezium does not have"),
            (r#"{"op":"c"}"#, "the field after is missing"),
            (r#"[1]"#, "not a JSON object"),
            (r#"{"op":"c","after":{"id":"x"}}"#, "column id: \"x\" is not a bigint"),
            (r#"{"op":"c","after":{"id":1"#, "malformed JSON at byte 25 (the end): a comma or the end of the object must come here"),
        ] {
            assert_eq!(decode(false, &[event]).unwrap_err(), why);
        }
        let without_before = decode(false, &[r#"{"op":"u","before":null,"after":{"id":1,"v":"c"}}"#]).unwrap_err();
        assert!(without_before.contains("REPLICA IDENTITY FULL"), "{without_before}");
    }

    #[test]
    fn a_refused_update_leaves_no_trace() {
        let events = [r#"{"op":"c","after":{"id":1,"v":"a"}}"#, r#"{"op":"u","before":{"id":1,"v":"a"},"after":{"id":{}}}"#];
        let mut decoder = super::super::testing::decoder(DEBEZIUM, &columns(false), false).unwrap();
        decoder.push(Record::of(events[0].as_bytes())).unwrap();
        decoder.push(Record::of(events[1].as_bytes())).unwrap_err();
        let decoded = decoder.finish().unwrap();
        assert_eq!((decoded.columns[0].len(), decoded.weights.is_none()), (1, true));
    }
}
