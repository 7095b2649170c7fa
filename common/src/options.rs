//! Every option a source, table or view may carry: one table per owner with canonical names, both
//! accents' spellings, and value types. Pure: the planner and the connectors read the same table, and
//! neither learns from here what an option does. Invariant: a canonicalised map holds canonical keys
//! only, each with a value that its typed getter accepts.

mod altered;
mod columns;
mod database;
mod idle;
mod known;
mod overridden;
mod sinks;
mod value;

pub use altered::{Changes, altered_sink, altered_source, altered_table, altered_view};
pub use columns::{check_metadata, default_columns, metadata_type};
pub use idle::idle_notices;
pub use overridden::{Overridden, overridden_source};
pub use sinks::{
    bytes, can_read, can_write, canonicalize_sink, canonicalize_sink_into, names, sink_format_of_clause, sink_options_of_table,
};
pub use value::{bytes_of_size, micros_of_duration, retention, specific_offsets};

use crate::error::{Result, SqlError, SqlState};
use known::{CONNECTORS, OWNER_STORE, OWNER_TABLE, OWNER_VIEW, Owner};
use std::collections::BTreeMap;
use value::OptionDef;

pub const CONNECTOR: &str = "connector";
/// The connector of a sink that writes into a table of ours. No statement can spell it.
pub const INTO_TABLE: &str = "table";
/// What stands in front of each row that is printed.
pub const PRINT_IDENTIFIER: &str = "print-identifier";
pub const FORMAT: &str = "format";
pub const TOPIC: &str = "topic";
pub const BOOTSTRAP_SERVERS: &str = "properties.bootstrap.servers";
pub const GROUP_ID: &str = "properties.group.id";
pub const AUTO_OFFSET_RESET: &str = "properties.auto.offset.reset";
/// Keys below this prefix go to librdkafka as they are, without the prefix.
pub const PASS_THROUGH_PREFIX: &str = "properties.";
pub const STARTUP_MODE: &str = "scan.startup.mode";
pub const STARTUP_TIMESTAMP: &str = "scan.startup.timestamp-millis";
pub const STARTUP_OFFSETS: &str = "scan.startup.specific-offsets";
/// How often a source looks for new partitions; `none` or 0: never.
pub const DISCOVERY_INTERVAL: &str = "scan.topic-partition-discovery.interval";
/// What a source does about offsets that retention removed before they were read.
pub const LOST_OFFSETS: &str = "scan.lost-offsets";
pub const JSON_FAIL_ON_MISSING: &str = "json.fail-on-missing-field";
/// What a number counts in the place of a timestamp.
pub const TIMESTAMP_UNIT: &str = "timestamp.number-unit";
pub const CSV_DELIMITER: &str = "csv.field-delimiter";
pub const CSV_QUOTE: &str = "csv.quote-character";
pub const CSV_NO_QUOTE: &str = "csv.disable-quote-character";
pub const CSV_ESCAPE: &str = "csv.escape-character";
pub const CSV_NULL: &str = "csv.null-literal";
pub const CSV_ARRAY_DELIMITER: &str = "csv.array-element-delimiter";
pub const CSV_COMMENTS: &str = "csv.allow-comments";
/// The first record of a file names the columns.
pub const CSV_HEADER: &str = "csv.header";
pub const RAW_ENDIANNESS: &str = "raw.endianness";
pub const AVRO_SCHEMA: &str = "avro.schema";
pub const REGISTRY_URL: &str = "avro-confluent.url";
pub const REGISTRY_USER: &str = "avro-confluent.basic-auth.user";
pub const REGISTRY_PASSWORD: &str = "avro-confluent.basic-auth.password";
/// Where a registry has the newest schema, for the columns.
pub const REGISTRY_SUBJECT: &str = "schema.registry.subject";
/// The message type of a record's value; and of its key.
pub const PROTOBUF_MESSAGE: &str = "protobuf.message-name";
pub const PROTOBUF_KEY_MESSAGE: &str = "key.protobuf.message-name";
/// A file of the server's with a descriptor set. It is read once, at CREATE: `PROTOBUF_DESCRIPTOR_SET` has its content from then on.
pub const PROTOBUF_DESCRIPTOR: &str = "protobuf.descriptor-file";
/// A descriptor set in base64.
pub const PROTOBUF_DESCRIPTOR_SET: &str = "protobuf.descriptor-set";
/// The text of a `.proto` file.
pub const PROTOBUF_SCHEMA: &str = "protobuf.schema";
/// Fields that are absent have their declared defaults, not NULL.
pub const PROTOBUF_DEFAULTS: &str = "protobuf.read-default-values";
/// The format of a record's key, where the source is keyed.
pub const KEY_FORMAT: &str = "key.format";
/// Whether values hold the key's columns too.
pub const VALUE_FIELDS: &str = "value.fields-include";
/// Where a database is, and the table in it.
pub const HOSTNAME: &str = "hostname";
pub const PORT: &str = "port";
pub const DATABASE: &str = "database-name";
pub const SCHEMA: &str = "schema-name";
pub const TABLE: &str = "table-name";
pub const USERNAME: &str = "username";
pub const PASSWORD: &str = "password";
/// All of where it is in one, as JDBC has it. Its parts are options of their own in a canonicalised map.
pub const JDBC_URL: &str = "url";
/// How long an answer may be used again; without it none is.
pub const LOOKUP_TTL: &str = "lookup.cache.ttl";
pub const LOOKUP_ROWS: &str = "lookup.cache.max-rows";
/// How often a question is asked again before its rows are given up; without it, until there is an answer.
pub const LOOKUP_RETRIES: &str = "lookup.max-retries";
/// How long one attempt may take.
pub const LOOKUP_TIMEOUT: &str = "lookup.timeout";
/// What a sender to a webhook must know.
pub const WEBHOOK_TOKEN: &str = "webhook.token";
pub const ROWS_PER_SECOND: &str = "rows-per-second";
pub const NUMBER_OF_ROWS: &str = "number-of-rows";
pub const SEED: &str = "seed";
pub const PATH: &str = "path";
/// Which files of a directory: a glob.
pub const FILE_PATTERN: &str = "source.path.pattern";
pub const FILE_ORDER: &str = "source.file-order";
/// How often to look for new files; `none`: the files there are at CREATE are all.
pub const MONITOR_INTERVAL: &str = "source.monitor-interval";
/// How files of lines are compressed; `auto`: as their names say.
pub const COMPRESSION: &str = "compression";
pub const PARQUET_COMPRESSION: &str = "parquet.compression";
pub const S3_ENDPOINT: &str = "s3.endpoint";
pub const S3_REGION: &str = "s3.region";
pub const S3_ACCESS_KEY: &str = "s3.access-key";
pub const S3_SECRET_KEY: &str = "s3.secret-key";
pub const S3_SESSION_TOKEN: &str = "s3.session-token";
/// The bucket is in the path of a request, not in its host's name.
pub const S3_PATH_STYLE: &str = "s3.path-style-access";
/// A file of credentials.
pub const GS_SERVICE_ACCOUNT: &str = "gs.service-account";
/// The content of one.
pub const GS_SERVICE_ACCOUNT_KEY: &str = "gs.service-account-key";
pub const GS_ENDPOINT: &str = "gs.endpoint";
pub const AZURE_ACCOUNT: &str = "azure.account";
pub const AZURE_ACCESS_KEY: &str = "azure.access-key";
pub const AZURE_SAS_TOKEN: &str = "azure.sas-token";
pub const AZURE_CLIENT_ID: &str = "azure.client-id";
pub const AZURE_CLIENT_SECRET: &str = "azure.client-secret";
pub const AZURE_TENANT_ID: &str = "azure.tenant-id";
pub const AZURE_ENDPOINT: &str = "azure.endpoint";
/// Keys below this prefix go to the object store as they are, without the prefix.
pub const STORE_PREFIX: &str = "store.";
pub const IDLE_TIMEOUT: &str = "scan.watermark.idle-timeout";
pub const FUTURE_GUARD: &str = "watermark.future-guard";
pub const WATERMARK_MODE: &str = "watermark.mode";
pub const ON_ERROR: &str = "on_error";
pub const ALLOWED_LATENESS: &str = "allowed_lateness";
/// How many workers do a job's work, at most.
pub const PARALLELISM: &str = "parallelism";
/// How long a job may collect changes before it takes them in one step.
pub const EMIT_INTERVAL: &str = "emit_interval";
/// How long an operator keeps state that is not touched.
pub const STATE_TTL: &str = "state_ttl";
/// How long a view keeps rows, by a time of theirs: a duration, and `on "column"` behind it.
pub const RETENTION: &str = "retention";
/// Columns by which a sink's rows are identified, with commas or semicolons between.
pub const SINK_KEY: &str = "primary_key";
/// What may wait on disk to be sent before a sink's job stops taking input.
pub const SINK_LOG_BYTES: &str = "sink.log-size";
pub const JSON_TIMES: &str = "json.timestamp-format.standard";
pub const DELIVERY: &str = "sink.delivery-guarantee";
/// Columns by whose values files lie in folders.
pub const PARTITION_BY: &str = "partition_by";
pub const ROLL_BYTES: &str = "sink.rolling-policy.file-size";
pub const ROLL_INTERVAL: &str = "sink.rolling-policy.rollover-interval";

/// How far a record of an outside system may lie ahead of `now` by default: wide enough for local
/// times of every time zone, narrow enough that one broken clock does not close years of windows.
pub const DEFAULT_FUTURE_GUARD_MICROS: i64 = 24 * 3600 * 1_000_000;

/// Partitions come up rarely; a request in five minutes costs nothing.
pub const DEFAULT_DISCOVERY_MICROS: i64 = 5 * 60 * 1_000_000;

/// What the options say about the watermark of a source or table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatermarkOptions {
    pub idle_timeout_micros: Option<i64>,
    pub future_guard_micros: Option<i64>,
    pub manual: bool,
}

/// Brings the options of a source, or of a table if no `connector` is among them, to canonical keys
/// and values. Unknown or doubled options, missing required ones and ill-typed values are errors that
/// name the option as the user spelled it.
pub fn canonicalize(raw: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let connector = raw.iter().find(|(key, _)| key.eq_ignore_ascii_case(CONNECTOR)).map(|(_, value)| value.trim().to_ascii_lowercase());
    let connector = connector.map(canonical_connector);
    let owner = match &connector {
        None => &OWNER_TABLE,
        Some(name) => {
            let find = |owners: &'static [Owner]| owners.iter().find(|c| c.name == name);
            find(CONNECTORS).or_else(|| find(sinks::SINKS)).ok_or_else(|| unknown_connector(name))?
        }
    };
    let mut options = canonicalize_for(owner, raw)?;
    finish_format(&mut options);
    if let Some(connector) = connector {
        options.insert(CONNECTOR.to_string(), connector);
    }
    if matches!(owner.name, "kafka" | "upsert-kafka") {
        finish_kafka(&mut options)?;
    }
    if owner.name == "postgres" {
        database::finish(&mut options)?;
    }
    sinks::check_fixed(&options)?;
    Ok(options)
}

/// Connectors that go by several names.
fn canonical_connector(name: String) -> String {
    match name.as_str() {
        "http" => "webhook".to_string(),
        // JDBC speaks to others too; what the address says is looked at later.
        "jdbc" | "postgresql" => "postgres".to_string(),
        _ => name,
    }
}

/// The same for `WITH (...)` of a view: `on_error`, `allowed_lateness` and kin.
pub fn canonicalize_view(raw: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    canonicalize_for(&OWNER_VIEW, raw)
}

/// The same for what may be said of an object store where there is no connector: `s3.endpoint` and kin.
pub fn canonicalize_store(raw: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    canonicalize_for(&OWNER_STORE, raw)
}

/// Whether an option's value is nobody's business.
pub fn is_secret(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    // Of a pair of keys this one is the name of the other.
    lower != S3_ACCESS_KEY && !lower.ends_with("access_key_id") && mentions_secret(&lower)
}

/// Whether a text may have the name of such an option in it.
pub fn mentions_secret(text: &str) -> bool {
    const MARKS: [&str; 12] = [
        "password",
        "secret",
        "token",
        "credential",
        "jaas",
        "key.pem",
        "private.key",
        "access-key",
        "access_key",
        "account-key",
        "account_key",
        "sas_key",
    ];
    let lower = text.to_ascii_lowercase();
    MARKS.iter().any(|mark| lower.contains(mark))
}

/// The `format` value that `FORMAT <format> ENCODE <encode>` stands for.
pub fn format_of_clause(format: &str, encode: &str) -> Result<&'static str> {
    match (format.to_ascii_lowercase().as_str(), encode.to_ascii_lowercase().as_str()) {
        ("plain" | "upsert", "json") => Ok("json"),
        ("plain" | "upsert", "csv") => Ok("csv"),
        ("plain" | "upsert", "bytes" | "text" | "raw") => Ok("raw"),
        // A registry's address says which of the two: see `finish_format`.
        ("plain" | "upsert", "avro") => Ok("avro"),
        ("plain" | "upsert", "protobuf") => Ok("protobuf"),
        ("plain" | "upsert", "parquet") => Ok("parquet"),
        ("debezium", "json") => Ok("debezium-json"),
        (f, e) => Err(SqlError::unsupported(format!("FORMAT {} ENCODE {} is not supported", f.to_uppercase(), e.to_uppercase()))
            .with_hint(
                "Supported: FORMAT PLAIN or UPSERT ENCODE JSON, CSV, AVRO, PROTOBUF, PARQUET or BYTES, and FORMAT DEBEZIUM ENCODE JSON.",
            )),
    }
}

/// Whether a declared primary key makes a source of this connector overwrite by it. Generators make up rows; a key of theirs
/// is not looked at.
pub fn overwrites_by_key(connector: &str) -> bool {
    CONNECTORS.iter().any(|c| c.name == connector && c.external)
}

/// Whether a connector's rows are pushed to us and cannot be asked for again: its source is a table that is written over HTTP.
pub fn is_pushed(options: &BTreeMap<String, String>) -> bool {
    options.get(CONNECTOR).is_some_and(|connector| connector == "webhook")
}

/// Whether a table of this connector is asked for the rows of some keys, and cannot be read or followed.
pub fn is_looked_up(options: &BTreeMap<String, String>) -> bool {
    options.get(CONNECTOR).is_some_and(|connector| connector == "postgres")
}

/// Whether the format knows a record's columns, or reads their definition from elsewhere.
pub fn is_described(options: &BTreeMap<String, String>) -> bool {
    options.get(FORMAT).is_some_and(|format| matches!(format.as_str(), "protobuf" | "upsert-protobuf" | "avro" | "avro-confluent"))
}

/// Whether the source's records say what becomes of rows, deletions included, whether it has a key or not.
pub fn is_changelog(options: &BTreeMap<String, String>) -> bool {
    options.get(FORMAT).is_some_and(|format| format == "debezium-json")
}

/// Reads the watermark options out of a canonicalised map. A guard applies by default to outside
/// systems only: what tables and generators hold is their owner's doing.
pub fn watermark_options(options: &BTreeMap<String, String>) -> Result<WatermarkOptions> {
    let external = options.get(CONNECTOR).is_some_and(|c| CONNECTORS.iter().any(|o| o.name == c && o.external));
    let future_guard_micros = match options.get(FUTURE_GUARD).map(String::as_str) {
        Some("none") => None,
        Some(text) => Some(value::duration_option(FUTURE_GUARD, text)?),
        None => external.then_some(DEFAULT_FUTURE_GUARD_MICROS),
    };
    Ok(WatermarkOptions {
        idle_timeout_micros: duration_micros(options, IDLE_TIMEOUT)?.filter(|micros| *micros > 0),
        future_guard_micros,
        manual: options.get(WATERMARK_MODE).is_some_and(|mode| mode == "manual"),
    })
}

/// An integer option of a canonicalised map.
pub fn integer(options: &BTreeMap<String, String>, key: &str) -> Result<Option<i64>> {
    options.get(key).map(|text| value::integer_option(key, text)).transpose()
}

/// A boolean option of a canonicalised map.
pub fn boolean(options: &BTreeMap<String, String>, key: &str) -> bool {
    options.get(key).is_some_and(|text| text == "true")
}

/// A whole number that an option `key` holds, for options whose names are not fixed.
pub fn whole(key: &str, text: &str) -> Result<i64> {
    value::integer_option(key, text)
}

/// A duration that an option `key` holds, in microseconds.
pub fn duration(key: &str, text: &str) -> Result<i64> {
    value::duration_option(key, text)
}

/// A duration option of a canonicalised map, in microseconds.
pub fn duration_micros(options: &BTreeMap<String, String>, key: &str) -> Result<Option<i64>> {
    options.get(key).map(|text| value::duration_option(key, text)).transpose()
}

/// How often to look for new partitions, in microseconds; `None`: never.
pub fn discovery_micros(options: &BTreeMap<String, String>) -> Result<Option<i64>> {
    let micros = match options.get(DISCOVERY_INTERVAL).map(String::as_str) {
        Some("none") => return Ok(None),
        Some(text) => value::duration_option(DISCOVERY_INTERVAL, text)?,
        None => DEFAULT_DISCOVERY_MICROS,
    };
    Ok(Some(micros).filter(|m| *m > 0))
}

/// The candidate nearest to `name`, if any is near enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&name, candidate).max(same_tail(&name, candidate)), candidate))
        .filter(|(score, _)| *score >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `rate` is meant as `nexmark.rate`: a score for a name that is the tail of a dotted one.
fn same_tail(name: &str, candidate: &str) -> f64 {
    let tail = candidate.strip_suffix(name).is_some_and(|head| head.ends_with(['.', '-']));
    if tail && !name.is_empty() { 0.9 } else { 0.0 }
}

fn canonicalize_for(owner: &Owner, raw: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    let mut spelled: BTreeMap<String, String> = BTreeMap::new();
    for (key, text) in raw.into_iter().filter(|(key, text)| !idle::is_idle(key, text)) {
        let (canonical, def) = canonical_key(owner, &key)?;
        let text = canonical_value(def, &key, text)?;
        if let Some(other) = spelled.insert(canonical.clone(), key.clone()) {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("option \"{canonical}\" is given twice"))
                .with_detail(format!("\"{other}\" and \"{key}\" are spellings of one option.")));
        }
        options.insert(canonical, text);
    }
    if let Some(missing) = owner.options().find(|def| def.required && !options.contains_key(def.name)) {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("{} needs the option \"{}\"", owner.title, missing.name)));
    }
    Ok(options)
}

/// The canonical key of an option as the user spelled it, and what it is; `None` for one that goes on to an outside system.
fn canonical_key(owner: &Owner, key: &str) -> Result<(String, Option<&'static OptionDef>)> {
    let lower = key.trim().to_ascii_lowercase();
    match (owner.find(&lower), owner.find_in_family(&lower)) {
        (Some(def), _) => Ok((def.name.to_string(), Some(def))),
        (None, Some(def)) => {
            let of = lower.rsplit_once('.').map_or("", |(of, _)| of);
            Ok((format!("{of}.{}", def.name), Some(def)))
        }
        (None, None) if owner.passes(&lower) => Ok((lower, None)),
        (None, None) => Err(unknown_option(owner, key)),
    }
}

fn canonical_value(def: Option<&OptionDef>, key: &str, text: String) -> Result<String> {
    match def {
        // A blank may be what separates fields.
        Some(def) if def.kind.keeps_blanks() => def.kind.canonical(key, &text),
        Some(def) => def.kind.canonical(key, text.trim()),
        None => Ok(text),
    }
}

/// Avro with a registry is another format; the Postgres accent spells both `ENCODE AVRO`.
fn finish_format(options: &mut BTreeMap<String, String>) {
    if !options.contains_key(REGISTRY_URL) {
        return;
    }
    for key in [FORMAT, KEY_FORMAT] {
        if let Some(format) = options.get_mut(key).filter(|format| *format == "avro") {
            *format = "avro-confluent".to_string();
        }
    }
}

/// Rules between Kafka's options, and the default that the catalog must not leave open.
fn finish_kafka(options: &mut BTreeMap<String, String>) -> Result<()> {
    let mode = options.entry(STARTUP_MODE.to_string()).or_insert_with(|| "earliest-offset".to_string()).clone();
    let invalid = |message: String| Err(SqlError::new(SqlState::INVALID_PARAMETER, message));
    for (key, needed_by) in [(STARTUP_TIMESTAMP, "timestamp"), (STARTUP_OFFSETS, "specific-offsets")] {
        match (options.contains_key(key), mode == needed_by) {
            (false, true) => return invalid(format!("startup mode \"{needed_by}\" needs the option \"{key}\"")),
            (true, false) => return invalid(format!("option \"{key}\" needs \"{STARTUP_MODE}\" to be \"{needed_by}\", not \"{mode}\"")),
            _ => {}
        }
    }
    if mode == "group-offsets" && !options.contains_key(GROUP_ID) {
        return invalid(format!("startup mode \"group-offsets\" needs the option \"{GROUP_ID}\""));
    }
    if options.get(TOPIC).is_some_and(|topic| topic.is_empty() || topic.contains([',', ';'])) {
        return invalid("option \"topic\" must name exactly one topic".to_string());
    }
    Ok(())
}

fn unknown_connector(name: &str) -> SqlError {
    let mut names: Vec<&str> = CONNECTORS.iter().map(|c| c.name).collect();
    names.extend(sinks::SINKS.iter().map(|c| c.name).filter(|name| !can_read(name)));
    let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unknown connector \"{name}\""))
        .with_detail(format!("Connectors are: {}.", names.join(", ")));
    match nearest(name, names) {
        Some(meant) => error.with_hint(format!("Perhaps you meant \"{meant}\".")),
        None => error,
    }
}

fn unknown_option(owner: &Owner, key: &str) -> SqlError {
    let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unknown option \"{key}\" for {}", owner.title));
    if let Some((of, meant)) = owner.nearest_in_family(&key.trim().to_ascii_lowercase()) {
        return error.with_hint(format!("Perhaps you meant \"{of}.{meant}\"."));
    }
    let spellings = owner.options().flat_map(|def| std::iter::once((def.name, def)).chain(def.aliases.iter().map(move |a| (*a, def))));
    let spellings: Vec<(&str, &OptionDef)> = spellings.collect();
    match nearest(key.trim(), spellings.iter().map(|(spelling, _)| *spelling)) {
        Some(meant) => {
            let name = spellings.iter().find(|(spelling, _)| *spelling == meant).map_or(meant, |(_, def)| def.name);
            error.with_hint(format!("Perhaps you meant \"{name}\"."))
        }
        None => {
            let names: Vec<&str> = owner.options().map(|def| def.name).collect();
            error.with_detail(format!("Options are: {}.", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests;
