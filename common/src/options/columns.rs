//! Columns that connectors bring along: the generator's tables and record metadata, with the SQL types
//! they may be declared as.

use super::nearest;
use crate::error::{Result, SqlError, SqlState};
use crate::types::SqlType;
use std::collections::BTreeMap;

/// The columns of a source that was declared without any, if its connector knows them.
pub fn default_columns(options: &BTreeMap<String, String>) -> Option<Vec<(String, SqlType)>> {
    if options.get(super::CONNECTOR).map(String::as_str) != Some("nexmark") {
        return None;
    }
    let table_type = options.get("nexmark.table.type").map_or("all", String::as_str);
    Some(match table_type {
        "person" => person(),
        "auction" => auction(),
        "bid" => bid(),
        _ => vec![
            ("event_type".to_string(), SqlType::BigInt),
            ("person".to_string(), SqlType::Struct(person())),
            ("auction".to_string(), SqlType::Struct(auction())),
            ("bid".to_string(), SqlType::Struct(bid())),
        ],
    })
}

fn typed(fields: &[(&str, SqlType)]) -> Vec<(String, SqlType)> {
    fields.iter().map(|(name, ty)| (name.to_string(), ty.clone())).collect()
}

fn person() -> Vec<(String, SqlType)> {
    use SqlType::*;
    let text = ["name", "email_address", "credit_card", "city", "state"].map(|name| (name.to_string(), Text));
    let mut fields = typed(&[("id", BigInt)]);
    fields.extend(text);
    fields.extend(typed(&[("date_time", Timestamp), ("extra", Text)]));
    fields
}

fn auction() -> Vec<(String, SqlType)> {
    use SqlType::*;
    typed(&[
        ("id", BigInt),
        ("item_name", Text),
        ("description", Text),
        ("initial_bid", BigInt),
        ("reserve", BigInt),
        ("date_time", Timestamp),
        ("expires", Timestamp),
        ("seller", BigInt),
        ("category", BigInt),
        ("extra", Text),
    ])
}

fn bid() -> Vec<(String, SqlType)> {
    use SqlType::*;
    typed(&[
        ("auction", BigInt),
        ("bidder", BigInt),
        ("price", BigInt),
        ("channel", Text),
        ("url", Text),
        ("date_time", Timestamp),
        ("extra", Text),
    ])
}

const KAFKA_METADATA: &[&str] = &["key", "partition", "offset", "timestamp", "topic", "headers"];
const FILE_METADATA: &[&str] = &["partition", "offset", "file", "timestamp"];

/// The canonical key of a metadata column and the type it has unless declared otherwise
/// (`INCLUDE TIMESTAMP AS ts`). Errors name the nearest key.
pub fn metadata_type(connector: &str, key: &str) -> Result<(&'static str, SqlType)> {
    let lower = key.to_ascii_lowercase();
    let known = match connector {
        "kafka" | "upsert-kafka" => KAFKA_METADATA,
        "filesystem" => FILE_METADATA,
        _ => &[],
    };
    let canonical = match lower.as_str() {
        "header" => "headers",
        "file.path" | "file_path" if connector == "filesystem" => "file",
        "file.modification-time" if connector == "filesystem" => "timestamp",
        other => other,
    };
    let Some(name) = known.iter().find(|name| **name == canonical) else {
        let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("connector \"{connector}\" has no metadata \"{key}\""));
        return Err(match nearest(&lower, known.iter().copied()) {
            Some(meant) => error.with_hint(format!("Perhaps you meant \"{meant}\".")),
            None if known.is_empty() => error,
            None => error.with_detail(format!("Metadata keys are: {}.", known.join(", "))),
        });
    };
    let ty = match *name {
        "key" => SqlType::Bytes,
        "partition" => SqlType::Integer,
        "offset" => SqlType::BigInt,
        "timestamp" => SqlType::TimestampTz,
        "topic" | "file" => SqlType::Text,
        _ => SqlType::Map(Box::new(SqlType::Text), Box::new(SqlType::Bytes)),
    };
    Ok((name, ty))
}

/// Refuses a metadata column declared with a type that its values do not have.
pub fn check_metadata(connector: &str, key: &str, ty: &SqlType) -> Result<()> {
    let (name, default) = metadata_type(connector, key)?;
    let fits = match (name, ty) {
        (_, ty) if *ty == default => true,
        ("key", SqlType::Text) => true,
        ("partition" | "offset", SqlType::BigInt | SqlType::Text) => true,
        ("timestamp", SqlType::Timestamp) => true,
        ("headers", SqlType::Json) => true,
        ("headers", SqlType::Map(k, v)) => **k == SqlType::Text && **v == SqlType::Text,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(SqlError::new(SqlState::DATATYPE_MISMATCH, format!("metadata \"{name}\" cannot be of type {ty}"))
        .with_hint(format!("Declare it as {default}.")))
}
