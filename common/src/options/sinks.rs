//! Options of sinks: what `WITH (...)` of a CREATE SINK may say, and which options of a table with a connector are for
//! writing. One table per connector, as in `known`.

use super::known::{Owner, PARQUET_COMPRESSIONS, PROTOBUF, STORES, VIEW, outside};
use super::value::{Kind, OptionDef};
use super::*;

const fn sink(
    name: &'static str,
    title: &'static str,
    own: &'static [&'static [OptionDef]],
    pass_through: &'static [&'static str],
) -> Owner {
    Owner { shared: VIEW, ..outside(name, title, own, pass_through) }
}

/// Connectors that can be written to.
pub(super) static SINKS: &[Owner] = &[
    sink("kafka", "a sink of connector \"kafka\"", &[TOPICS, KAFKA, PROTOBUF, LOG], &[PASS_THROUGH_PREFIX]),
    sink("upsert-kafka", "a sink of connector \"upsert-kafka\"", &[TOPICS, UPSERT_KAFKA, PROTOBUF, LOG], &[PASS_THROUGH_PREFIX]),
    sink("filesystem", "a sink of connector \"filesystem\"", &[FILESYSTEM, STORES, LOG], &[STORE_PREFIX]),
    sink("blackhole", "connector \"blackhole\"", &[BLACKHOLE, LOG], &[]),
    sink("print", "connector \"print\"", &[PRINT, LOG], &[]),
];

/// What writes into a table of ours.
pub(super) static INTO: Owner = sink(INTO_TABLE, "a sink into a table", &[INTO_OPTIONS, LOG], &[]);
const INTO_OPTIONS: &[OptionDef] = &[OptionDef::new(CONNECTOR, Kind::Text)];

/// The formats of a sink, by `FORMAT <format> ENCODE <encode>`, and their names in Flink.
const FORMATS: &[(&str, &str, &str)] = &[
    ("plain", "json", "json"),
    ("upsert", "json", "upsert-json"),
    ("debezium", "json", "debezium-json"),
    ("plain", "protobuf", "protobuf"),
    ("upsert", "protobuf", "upsert-protobuf"),
    ("plain", "csv", "csv"),
    ("plain", "parquet", "parquet"),
];

/// What any sink may say of its log.
const LOG: &[OptionDef] = &[OptionDef::new(SINK_LOG_BYTES, Kind::Bytes).also(&["sink.log.size", "sink_log_size", "log_size"])];

/// What a producer is set to whatever is asked for, since the guarantee rests on it, and the other spellings of that.
const FIXED: &[(&str, &[&str])] =
    &[("acks", &["all", "-1"]), ("request.required.acks", &["all", "-1"]), ("enable.idempotence", &["true", "t", "1"])];

/// An option that would not have the value that is asked for is refused. Tables of Kafka's are written by their options.
pub(super) fn check_fixed(options: &BTreeMap<String, String>) -> Result<()> {
    let is_kafka = options.get(CONNECTOR).is_some_and(|connector| matches!(connector.as_str(), "kafka" | "upsert-kafka"));
    for (property, values) in FIXED.iter().filter(|_| is_kafka) {
        let key = format!("{PASS_THROUGH_PREFIX}{property}");
        if let Some(asked) = options.get(&key).filter(|asked| !values.contains(&asked.trim().to_ascii_lowercase().as_str())) {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("option \"{key}\" cannot be \"{asked}\"")).with_hint(
                "Leave it out. Rows are sent with acks = all and enable.idempotence = true, so that what counts as written is not lost \
                 and a record that is sent again is not there twice.",
            ));
        }
    }
    Ok(())
}

const KEY: OptionDef = OptionDef::new(SINK_KEY, Kind::Text).also(&["primary-key", "primary.key", "key.fields", "key"]);
const TIMES: OptionDef = OptionDef::new(JSON_TIMES, Kind::OneOf(&[("sql", &[]), ("iso-8601", &[])])).also(&[
    "value.json.timestamp-format.standard",
    "debezium-json.timestamp-format.standard",
    "key.json.timestamp-format.standard",
]);

const TOPICS: &[OptionDef] = &[
    OptionDef::new(CONNECTOR, Kind::Text).required(),
    OptionDef::new(TOPIC, Kind::Text).also(&["kafka.topic"]).required(),
    OptionDef::new(BOOTSTRAP_SERVERS, Kind::Text)
        .also(&["properties.bootstrap.server", "bootstrap.servers", "bootstrap.server", "kafka.brokers"])
        .required(),
    OptionDef::new(KEY_FORMAT, Kind::OneOf(&[("json", &[]), ("protobuf", &[])])).also(&["key.encode"]),
    OptionDef::new(VALUE_FIELDS, Kind::OneOf(&[("all", &[]), ("except_key", &["except-key"])])).also(&["value.fields.include"]),
    // The one guarantee there is; what asks for another is refused.
    OptionDef::new(DELIVERY, Kind::OneOf(&[("at-least-once", &[])])),
    KEY,
    TIMES,
];

const KAFKA: &[OptionDef] = &[OptionDef::new(FORMAT, Kind::OneOf(WRITTEN)).also(&["value.format"]).required()];

const WRITTEN: &[value::Choice] =
    &[("json", &[]), ("upsert-json", &[]), ("debezium-json", &["debezium"]), ("protobuf", &[]), ("upsert-protobuf", &[])];

const UPSERT_KAFKA: &[OptionDef] =
    &[OptionDef::new(FORMAT, Kind::OneOf(&[("json", &[]), ("protobuf", &[])])).also(&["value.format"]).required()];

const FILESYSTEM: &[OptionDef] = &[
    OptionDef::new(CONNECTOR, Kind::Text).required(),
    OptionDef::new(PATH, Kind::Text).also(&["filesystem.path", "fs.path"]).required(),
    OptionDef::new(FORMAT, Kind::OneOf(&[("json", &["ndjson", "jsonl"]), ("csv", &[]), ("parquet", &[])])).required(),
    OptionDef::new(PARTITION_BY, Kind::Text).also(&["partition-by", "partition.by", "partitioned_by"]),
    OptionDef::new(ROLL_BYTES, Kind::Bytes).also(&["sink.rolling.policy.file.size", "roll_size"]),
    OptionDef::new(ROLL_INTERVAL, Kind::Duration).also(&["sink.rolling.policy.rollover.interval", "roll_interval"]),
    OptionDef::new(PARQUET_COMPRESSION, PARQUET_COMPRESSIONS).also(&["parquet_compression"]),
    OptionDef::new(CSV_HEADER, Kind::Boolean).also(&["csv.with-header", "csv.write-header"]),
    OptionDef::new(CSV_DELIMITER, Kind::Character).also(&["csv.delimiter", "delimiter"]),
    OptionDef::new(CSV_QUOTE, Kind::Character).also(&["csv.quote"]),
    OptionDef::new(CSV_ESCAPE, Kind::Character).also(&["csv.escape"]),
    OptionDef::new(CSV_NULL, Kind::Text).also(&["csv.null"]),
    TIMES,
];

const BLACKHOLE: &[OptionDef] = &[OptionDef::new(CONNECTOR, Kind::Text).required(), KEY];
const PRINT: &[OptionDef] =
    &[OptionDef::new(CONNECTOR, Kind::Text).required(), OptionDef::new(PRINT_IDENTIFIER, Kind::Text).also(&["print_identifier"]), KEY];

/// Brings the options of a CREATE SINK to canonical keys and values.
pub fn canonicalize_sink(raw: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let connector = raw.iter().find(|(key, _)| key.eq_ignore_ascii_case(CONNECTOR)).map(|(_, value)| value.trim().to_ascii_lowercase());
    let connector = connector.ok_or_else(|| {
        SqlError::new(SqlState::INVALID_PARAMETER, "a sink needs the option connector")
            .with_hint("Write WITH (connector = 'kafka', topic = ..., properties.bootstrap.server = ...).")
    })?;
    let owner = SINKS.iter().find(|c| c.name == connector).ok_or_else(|| unknown_sink(&connector))?;
    let options = super::canonicalize_for(owner, raw)?;
    check_fixed(&options)?;
    Ok(options)
}

/// The same for a sink INTO a table.
pub fn canonicalize_sink_into(raw: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    if raw.keys().any(|key| key.eq_ignore_ascii_case(CONNECTOR)) {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER, "a sink INTO a table has no connector")
            .with_hint("Leave out INTO, or the option connector."));
    }
    let mut options = super::canonicalize_for(&INTO, raw)?;
    options.insert(CONNECTOR.to_string(), INTO_TABLE.to_string());
    Ok(options)
}

/// The `format` value that `FORMAT <format> ENCODE <encode>` of a sink stands for.
pub fn sink_format_of_clause(format: &str, encode: &str) -> Result<&'static str> {
    let (lower_format, lower_encode) = (format.to_ascii_lowercase(), encode.to_ascii_lowercase());
    let found = FORMATS.iter().find(|(f, e, _)| *f == lower_format && *e == lower_encode);
    found.map(|(_, _, name)| *name).ok_or_else(|| {
        SqlError::unsupported(format!("FORMAT {} ENCODE {} is not supported in a sink", format.to_uppercase(), encode.to_uppercase()))
            .with_hint(
                "Supported: FORMAT PLAIN or UPSERT ENCODE JSON or PROTOBUF, FORMAT DEBEZIUM ENCODE JSON, FORMAT PLAIN ENCODE CSV or PARQUET.",
            )
    })
}

/// Whether a table with this connector can be read.
pub fn can_read(connector: &str) -> bool {
    CONNECTORS.iter().any(|c| c.name == connector)
}

/// Whether a table with this connector can be written to.
pub fn can_write(connector: &str) -> bool {
    SINKS.iter().any(|c| c.name == connector)
}

/// The options of a table with a connector as its sink has them: those that are about reading are left out. Fails if the
/// connector cannot be written to.
pub fn sink_options_of_table(options: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let connector = options.get(CONNECTOR).map_or("", String::as_str);
    let owner = SINKS.iter().find(|c| c.name == connector).ok_or_else(|| unknown_sink(connector))?;
    let is_written = |format: &&String| owner.find(FORMAT).is_none_or(|def| def.kind.canonical(FORMAT, format).is_ok());
    if let Some(format) = options.get(FORMAT).filter(|format| !is_written(format)) {
        let error = SqlError::unsupported(format!("a table of connector \"{connector}\" and format \"{format}\" can only be read"));
        return Err(error.with_hint("What can be written is in docs/connectors.md."));
    }
    if boolean(options, CSV_NO_QUOTE) {
        let error = SqlError::unsupported(format!("option \"{CSV_NO_QUOTE}\" of a table that is written is not supported"));
        return Err(error.with_hint("Fields are quoted where they must be, so that they can be read back."));
    }
    if options.get(COMPRESSION).is_some_and(|how| how != "auto" && how != "none") {
        let error = SqlError::unsupported(format!("option \"{COMPRESSION}\" of a table that is written is not supported"));
        return Err(error.with_hint("Lines are written as they are; Parquet is compressed: \"parquet.compression\"."));
    }
    let writes = |key: &str| owner.find(key).is_some() || owner.passes(key);
    let reads = [GROUP_ID, AUTO_OFFSET_RESET];
    let kept = options.iter().filter(|(key, _)| writes(key) && !reads.contains(&key.as_str()));
    super::canonicalize_for(owner, kept.map(|(k, v)| (k.clone(), v.clone())).collect())
}

/// A size option of a canonicalised map, in bytes.
pub fn bytes(options: &BTreeMap<String, String>, key: &str) -> Result<Option<u64>> {
    options.get(key).map(|text| value::bytes_option(key, text)).transpose()
}

/// Names in a list such as `a, b` or `a;b`.
pub fn names(text: &str) -> Vec<String> {
    text.split([',', ';']).map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).collect()
}

fn unknown_sink(connector: &str) -> SqlError {
    let names: Vec<&str> = SINKS.iter().map(|c| c.name).collect();
    if can_read(connector) {
        return SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("connector \"{connector}\" can only be read"))
            .with_detail(format!("Connectors of sinks are: {}.", names.join(", ")));
    }
    let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unknown connector \"{connector}\""))
        .with_detail(format!("Connectors of sinks are: {}.", names.join(", ")));
    match nearest(connector, names) {
        Some(meant) => error.with_hint(format!("Perhaps you meant \"{meant}\".")),
        None => error,
    }
}
