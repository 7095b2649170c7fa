//! The schema that Kafka Connect writes around a JSON record, `{"schema": ..., "payload": ...}`, as far as it says more of a value
//! than the value does: a number may be a day, a time in one of several units, and a string the bytes of a decimal. The names are
//! Connect's own and Debezium's. Knows no columns.

use super::cursor::Cursor;
use super::times::NumberUnit;
use serde_json::Value;

/// What a field's values mean, where they do not say it themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Days since 1970.
    Day,
    /// Since midnight.
    TimeOfDay(NumberUnit),
    /// Since 1970.
    Instant(NumberUnit),
    /// Big-endian bytes in base64: a whole number, of which so many digits are behind the point.
    Decimal(i8),
    /// The same with its scale beside it.
    VariableDecimal,
    /// A string that holds JSON.
    Document,
    /// An array whose items mean something.
    Array(Box<Meaning>),
}

impl Meaning {
    fn of(schema: &Value) -> Option<Meaning> {
        if schema["type"] == "array" {
            return Meaning::of(&schema["items"]).map(|item| Meaning::Array(Box::new(item)));
        }
        Some(match schema["name"].as_str()? {
            "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Meaning::Day,
            "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time" => Meaning::TimeOfDay(NumberUnit::Millis),
            "io.debezium.time.MicroTime" => Meaning::TimeOfDay(NumberUnit::Micros),
            "io.debezium.time.NanoTime" => Meaning::TimeOfDay(NumberUnit::Nanos),
            "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => Meaning::Instant(NumberUnit::Millis),
            "io.debezium.time.MicroTimestamp" => Meaning::Instant(NumberUnit::Micros),
            "io.debezium.time.NanoTimestamp" => Meaning::Instant(NumberUnit::Nanos),
            "org.apache.kafka.connect.data.Decimal" => Meaning::Decimal(schema["parameters"]["scale"].as_str()?.parse().ok()?),
            "io.debezium.data.VariableScaleDecimal" => Meaning::VariableDecimal,
            "io.debezium.data.Json" => Meaning::Document,
            _ => return None,
        })
    }
}

/// What a schema says of a record.
#[derive(Debug, Default)]
pub struct Described {
    /// Of the record itself, if it is no struct.
    pub whole: Option<Meaning>,
    /// Of its fields, by name.
    pub fields: Vec<(String, Option<Meaning>)>,
}

impl Described {
    /// What it says of the first of these fields that is a struct, and without any of the whole record. A text that is no schema
    /// says nothing.
    pub fn by(schema: &str, within: &[&str]) -> Described {
        let Ok(schema) = serde_json::from_str::<Value>(schema) else { return Described::default() };
        let fields = |schema: &Value| schema["fields"].as_array().cloned().unwrap_or_default();
        let inner = |name: &&str| fields(&schema).into_iter().find(|field| field["field"] == **name && field["type"] == "struct");
        let record = match within.iter().find_map(inner) {
            Some(row) => row,
            None if within.is_empty() => schema,
            None => return Described::default(),
        };
        let named = |field: &Value| Some((field["field"].as_str()?.to_string(), Meaning::of(field)));
        Described { whole: Meaning::of(&record), fields: fields(&record).iter().filter_map(named).collect() }
    }
}

/// The schema and the payload of a record that has both, and nothing else.
pub fn enveloped(cursor: Cursor<'_>) -> Option<(&str, Cursor<'_>)> {
    let (mut schema, mut payload) = (None, None);
    let mut members = cursor;
    if !members.is_at(b'{') {
        return None;
    }
    let read = members.read_members(|name, cursor| -> Result<(), String> {
        match name.raw {
            "schema" => schema = Some(cursor.skip_value(1)?),
            "payload" => {
                payload = Some(*cursor);
                cursor.skip_value(1)?;
            }
            _ => return Err("another object".to_string()),
        }
        Ok(())
    });
    schema.zip(payload).filter(|_| read.is_ok() && members.at_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_says_what_fields_mean() {
        let row = r#"{"type":"struct","fields":[
            {"type":"int32","name":"io.debezium.time.Date","version":1,"field":"d"},
            {"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"},"field":"n"},
            {"type":"array","items":{"type":"int64","name":"io.debezium.time.MicroTimestamp"},"field":"a"},
            {"type":"string","name":"io.debezium.data.Enum","parameters":{"allowed":"a,b"},"field":"e"}],"field":"after"}"#;
        let fields = vec![
            ("d".to_string(), Some(Meaning::Day)),
            ("n".to_string(), Some(Meaning::Decimal(2))),
            ("a".to_string(), Some(Meaning::Array(Box::new(Meaning::Instant(NumberUnit::Micros))))),
            ("e".to_string(), None),
        ];
        assert_eq!(Described::by(row, &[]).fields, fields);
        let event = format!(r#"{{"type":"struct","fields":[{{"type":"int64","field":"before"}},{row}]}}"#);
        assert_eq!(Described::by(&event, &["before", "after"]).fields, fields);
        assert_eq!(Described::by(r#"{"type":"int32","name":"io.debezium.time.Date"}"#, &[]).whole, Some(Meaning::Day));
        for nothing in ["", "null", "[1]", r#"{"type":"struct"}"#] {
            assert!(Described::by(nothing, &["after"]).fields.is_empty(), "{nothing}");
        }
    }
}
