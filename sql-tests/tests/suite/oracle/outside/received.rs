//! What readers of topics and files end up with.

use super::model::{NULL, Rows};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Keys and values, in order.
type Records = Vec<(Option<Vec<u8>>, Option<Vec<u8>>)>;

fn cells(row: &Value, columns: &[&str]) -> Vec<String> {
    let cell = |column: &&str| match &row[*column] {
        Value::Null => NULL.to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    columns.iter().map(cell).collect()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn rows(newest: BTreeMap<Vec<u8>, Vec<String>>) -> Rows {
    let mut rows = Rows::new();
    newest.into_values().for_each(|row| *rows.entry(row).or_default() += 1);
    rows
}

/// Of a compacted topic.
pub fn newest_by_key(records: Records, columns: &[&str]) -> Rows {
    let mut newest = BTreeMap::new();
    for (key, value) in records {
        let key = key.expect("every record has a key");
        match value {
            Some(value) => drop(newest.insert(key, cells(&json(&value), columns))),
            None => drop(newest.remove(&key)),
        }
    }
    rows(newest)
}

/// Of Debezium's envelopes.
pub fn debezium_by_key(records: Records, columns: &[&str]) -> Rows {
    let mut newest = BTreeMap::new();
    for (key, value) in records {
        let (key, change) = (key.expect("every record has a key"), json(&value.expect("a change")));
        match change["op"].as_str() {
            Some("c" | "u") => drop(newest.insert(key, cells(&change["after"], columns))),
            Some("d") => drop(newest.remove(&key)),
            other => panic!("op {other:?}"),
        }
    }
    rows(newest)
}

/// Every record is a row.
pub fn all(records: Records, columns: &[&str]) -> Rows {
    let mut rows = Rows::new();
    for (_, value) in records {
        *rows.entry(cells(&json(&value.expect("a row")), columns)).or_default() += 1;
    }
    rows
}

/// Every line of the files that show is a row.
pub fn lines(dir: &Path, columns: &[&str]) -> Rows {
    let mut rows = Rows::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return rows };
    for path in entries.map(|entry| entry.expect("a readable folder").path()) {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_hidden || path.is_dir() {
            continue;
        }
        // A file may be taken back and come again while this looks.
        for line in std::fs::read_to_string(&path).unwrap_or_default().lines() {
            *rows.entry(cells(&json(line.as_bytes()), columns)).or_default() += 1;
        }
    }
    rows
}
