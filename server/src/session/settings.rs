//! A session's settings: PostgreSQL's usual parameters with PostgreSQL 15's defaults, and free names with a dot
//! in them. Values are checked when they are set. It knows nothing of transactions, which keep what they go back to.

use arrow::array::timezone::Tz;
use eddyline_common::{Result, SqlError, SqlState, options};
use eddyline_planner::check_default;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

pub const SERVER_VERSION: &str = "15.0";
pub const SERVER_VERSION_NUM: &str = "150000";

/// How a value is checked and spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Bool,
    Integer,
    /// Milliseconds; accepts `5s`, `1min`. Zero is off.
    Duration,
    Enum(&'static [&'static str]),
    /// Only one value is possible here; setting it to that one is accepted.
    Fixed,
    /// Cannot be set at all.
    ReadOnly,
    Zone,
    Encoding,
    DateStyle,
    /// The option of this name, of what the session creates.
    OfCreated(&'static str),
}

pub struct Definition {
    pub name: &'static str,
    pub default: &'static str,
    pub kind: Kind,
    /// Told to the client whenever it changes.
    pub reported: bool,
}

const fn setting(name: &'static str, default: &'static str, kind: Kind) -> Definition {
    Definition { name, default, kind, reported: false }
}

const fn reported(name: &'static str, default: &'static str, kind: Kind) -> Definition {
    Definition { name, default, kind, reported: true }
}

const ISOLATION: &[&str] = &["serializable", "repeatable read", "read committed", "read uncommitted"];
const LEVELS: &[&str] = &["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"];

/// Sorted by lower-case name.
pub const DEFINITIONS: &[Definition] = &[
    reported("application_name", "", Kind::Text),
    setting("array_nulls", "on", Kind::Fixed),
    setting("backslash_quote", "safe_encoding", Kind::Text),
    setting("block_size", "8192", Kind::ReadOnly),
    setting("bytea_output", "hex", Kind::Fixed),
    setting("check_function_bodies", "on", Kind::Bool),
    reported("client_encoding", "UTF8", Kind::Encoding),
    setting("client_min_messages", "notice", Kind::Enum(LEVELS)),
    setting("constraint_exclusion", "partition", Kind::Text),
    setting("cursor_tuple_fraction", "0.1", Kind::Text),
    setting("data_checksums", "on", Kind::ReadOnly),
    reported("DateStyle", "ISO, MDY", Kind::DateStyle),
    setting("default_table_access_method", "heap", Kind::Text),
    setting("default_tablespace", "", Kind::Text),
    setting("default_transaction_deferrable", "off", Kind::Fixed),
    setting("default_transaction_isolation", "repeatable read", Kind::Enum(ISOLATION)),
    reported("default_transaction_read_only", "off", Kind::Bool),
    setting("enable_common_subexpressions", "on", Kind::Bool),
    setting("enable_filter_pushdown", "on", Kind::Bool),
    setting("enable_join_reordering", "on", Kind::Bool),
    setting("enable_nestloop", "on", Kind::Bool),
    setting("enable_null_key_filter", "on", Kind::Bool),
    setting("enable_outer_join_elimination", "on", Kind::Bool),
    setting("enable_plan_sharing", "on", Kind::Bool),
    setting("enable_projection_pushdown", "on", Kind::Bool),
    setting("enable_two_phase_aggregation", "on", Kind::Bool),
    setting("escape_string_warning", "on", Kind::Bool),
    setting("extra_float_digits", "1", Kind::Integer),
    setting("idle_in_transaction_session_timeout", "0", Kind::Duration),
    setting("idle_session_timeout", "0", Kind::Duration),
    reported("in_hot_standby", "off", Kind::ReadOnly),
    reported("integer_datetimes", "on", Kind::ReadOnly),
    reported("IntervalStyle", "postgres", Kind::Fixed),
    reported("is_superuser", "on", Kind::ReadOnly),
    setting("jit", "off", Kind::Bool),
    setting("lc_collate", "C.UTF-8", Kind::ReadOnly),
    setting("lc_ctype", "C.UTF-8", Kind::ReadOnly),
    setting("lc_messages", "C.UTF-8", Kind::Text),
    setting("lc_monetary", "C.UTF-8", Kind::Text),
    setting("lc_numeric", "C.UTF-8", Kind::Text),
    setting("lc_time", "C.UTF-8", Kind::Text),
    setting("lock_timeout", "0", Kind::Duration),
    setting("max_connections", "100", Kind::ReadOnly),
    setting("max_identifier_length", "63", Kind::ReadOnly),
    setting("max_index_keys", "32", Kind::ReadOnly),
    setting("parallelism.default", "", Kind::OfCreated(options::PARALLELISM)),
    setting("password_encryption", "scram-sha-256", Kind::ReadOnly),
    setting("pipeline.name", "", Kind::Text),
    setting("quote_all_identifiers", "off", Kind::Bool),
    setting("role", "none", Kind::Text),
    setting("row_security", "on", Kind::Bool),
    setting("search_path", "\"$user\", public", Kind::Text),
    reported("server_encoding", "UTF8", Kind::ReadOnly),
    reported("server_version", SERVER_VERSION, Kind::ReadOnly),
    setting("server_version_num", SERVER_VERSION_NUM, Kind::ReadOnly),
    reported("session_authorization", "eddyline", Kind::Text),
    setting("session_replication_role", "origin", Kind::Fixed),
    setting("ssl", "off", Kind::ReadOnly),
    reported("standard_conforming_strings", "on", Kind::Fixed),
    setting("statement_timeout", "0", Kind::Duration),
    setting("synchronize_seqscans", "on", Kind::Bool),
    setting("synchronous_commit", "on", Kind::Text),
    setting("table.exec.source.idle-timeout", "0 ms", Kind::OfCreated(options::IDLE_TIMEOUT)),
    setting("table.exec.state.ttl", "0 ms", Kind::OfCreated(options::STATE_TTL)),
    reported("TimeZone", "UTC", Kind::Zone),
    setting("timezone_abbreviations", "Default", Kind::Text),
    setting("transaction_deferrable", "off", Kind::Bool),
    setting("transaction_isolation", "repeatable read", Kind::Enum(ISOLATION)),
    setting("transaction_read_only", "off", Kind::Bool),
    setting("transaction_timeout", "0", Kind::Fixed),
    setting("transform_null_equals", "off", Kind::Fixed),
    setting("wal_level", "replica", Kind::ReadOnly),
    setting("work_mem", "4MB", Kind::Text),
    setting("xmloption", "content", Kind::Text),
];

fn definition(name: &str) -> Option<&'static Definition> {
    fn lower(text: &str) -> impl Iterator<Item = u8> {
        text.bytes().map(|b| b.to_ascii_lowercase())
    }
    let found = DEFINITIONS.binary_search_by(|d| lower(d.name).cmp(lower(name)));
    found.ok().map(|place| &DEFINITIONS[place])
}

/// The setting's name as one word: `SHOW TIME ZONE` and kin have names of several.
fn canonical(name: &str) -> String {
    match name.to_lowercase().as_str() {
        "time zone" | "time_zone" | "table.local-time-zone" => "timezone".into(),
        "session authorization" => "session_authorization".into(),
        "transaction isolation level" => "transaction_isolation".into(),
        "names" => "client_encoding".into(),
        "table.exec.resource.default-parallelism" => "parallelism.default".into(),
        lower => lower.into(),
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// By lower-case name, only what is not the default.
    values: BTreeMap<String, String>,
    /// What RESET goes back to: from the startup message.
    initial: BTreeMap<String, String>,
    zone: Tz,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { values: BTreeMap::new(), initial: BTreeMap::new(), zone: utc() }
    }
}

pub fn utc() -> Tz {
    Tz::from_str("+00:00").expect("UTC is a time zone")
}

impl Settings {
    pub fn new(user: &str) -> Self {
        let mut settings = Settings::default();
        settings.values.insert("session_authorization".into(), user.into());
        settings.initial = settings.values.clone();
        settings
    }

    /// What the server runs with, where a session is told it.
    pub fn of_server(mut self, settings: &[(&'static str, String)]) -> Self {
        let told = settings.iter().filter(|(name, _)| definition(name).is_some_and(|d| d.kind == Kind::ReadOnly));
        self.values.extend(told.map(|(name, value)| (name.to_string(), value.clone())));
        self.initial = self.values.clone();
        self
    }

    /// From the startup message: what RESET goes back to. Names that are not settings are left out.
    pub fn set_initial(&mut self, name: &str, value: &str) -> Result<()> {
        self.set(name, Some(value))?;
        self.initial = self.values.clone();
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let name = canonical(name);
        match self.values.get(&name) {
            Some(value) => Some(value),
            None => definition(&name).map(|d| d.default),
        }
    }

    pub fn show(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| unknown(name))
    }

    /// `None` resets.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let name = canonical(name);
        let Some(definition) = definition(&name) else { return self.set_free(name, value) };
        let value = match value {
            Some(value) if !value.eq_ignore_ascii_case("default") => check(definition, value)?,
            _ => self.initial.get(&name).cloned().unwrap_or_else(|| definition.default.to_string()),
        };
        if definition.kind == Kind::Zone {
            self.zone = zone(&value)?;
        }
        self.values.insert(name, value);
        Ok(())
    }

    /// Names with a dot belong to the user and to tools: they are kept, and mean nothing; see `notice`.
    fn set_free(&mut self, name: String, value: Option<&str>) -> Result<()> {
        if !name.contains('.') {
            return Err(unknown(&name));
        }
        match value {
            Some(value) => self.values.insert(name, value.to_string()),
            None => self.values.remove(&name),
        };
        Ok(())
    }

    /// What the client is told at the start.
    pub fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        DEFINITIONS.iter().filter(|d| d.reported).map(|d| (d.name, self.get(d.name).unwrap_or(d.default)))
    }

    /// Every setting, free ones last.
    pub fn all(&self) -> Vec<(String, String)> {
        let known = DEFINITIONS.iter().map(|d| (d.name.to_string(), self.get(d.name).unwrap_or(d.default).to_string()));
        let free = self.values.iter().filter(|(name, _)| definition(name).is_none()).map(|(n, v)| (n.clone(), v.clone()));
        known.chain(free).collect()
    }

    pub fn zone(&self) -> Tz {
        self.zone
    }

    pub fn timeout(&self, name: &str) -> Option<Duration> {
        let millis = self.get(name).and_then(millis)?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// The value of a setting that is not at its default.
    pub fn changed(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| definition(&canonical(name)).is_none_or(|d| d.default != *value))
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("on")
    }

    /// Resets everything, as `DISCARD ALL` and `RESET ALL` do.
    pub fn reset_all(&mut self) {
        self.values = self.initial.clone();
        self.zone = self.get("timezone").and_then(|z| zone(z).ok()).unwrap_or_else(utc);
    }

    /// What to report to a client that was told of other ones.
    pub fn reports_after(&self, before: &Settings) -> Vec<(&'static str, String)> {
        self.reported().filter(|(name, now)| before.get(name) != Some(*now)).map(|(name, now)| (name, now.to_string())).collect()
    }
}

fn unknown(name: &str) -> SqlError {
    let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""));
    let nearest = DEFINITIONS.iter().map(|d| (strsim::damerau_levenshtein(&d.name.to_lowercase(), &name.to_lowercase()), d.name)).min();
    match nearest {
        Some((distance, near)) if distance <= 3 => error.with_hint(format!("Perhaps you meant \"{near}\".")),
        _ => error,
    }
}

/// Settings of Flink's that mean nothing here, by how they begin, with what says the same.
const ELSEWHERE: [(&str, &str); 7] = [
    ("execution.checkpointing.interval", "ALTER SYSTEM SET checkpoint_interval = ... says it for the server."),
    ("execution.checkpointing", "Checkpoints are the server's; see its flags."),
    ("execution.runtime-mode", "A SELECT ends; materialized views, sinks and running INSERTs go on."),
    ("state.", "Where state lies is said by the server's flags."),
    ("table.exec.emit.allow-lateness", "The option allowed_lateness of a view or sink says it."),
    ("table.exec.mini-batch", "The option emit_interval of a view or sink lets it collect changes."),
    ("table.exec.", "What a view or sink can be told is among its options: CREATE ... WITH (...)."),
];

/// What a client should know that sets this: that it means nothing, or from when on it counts.
pub fn notice(name: &str) -> Option<SqlError> {
    let name = canonical(name);
    let success = |message: String| SqlError::new(SqlState("00000"), message);
    if let Some(definition) = definition(&name) {
        let of_inputs = definition.kind == Kind::OfCreated(options::IDLE_TIMEOUT);
        return of_inputs.then(|| success(format!("parameter \"{name}\" counts for sources and tables that are created from now on")));
    }
    let error = success(format!("parameter \"{name}\" means nothing here"));
    let near = DEFINITIONS.iter().map(|d| d.name).find(|known| known.contains('.') && strsim::damerau_levenshtein(known, &name) <= 3);
    let elsewhere = ELSEWHERE.iter().find(|(start, _)| name.starts_with(start));
    Some(match (near, elsewhere) {
        (Some(near), _) => error.with_hint(format!("Perhaps you meant \"{near}\".")),
        (None, Some((_, hint))) => error.with_hint(*hint),
        (None, None) => error,
    })
}

fn check(definition: &Definition, value: &str) -> Result<String> {
    let name = definition.name;
    let invalid = |hint: String| {
        SqlError::new(SqlState::INVALID_PARAMETER, format!("invalid value for parameter \"{name}\": \"{value}\"")).with_hint(hint)
    };
    match definition.kind {
        Kind::Text => Ok(value.to_string()),
        Kind::Bool => boolean(value)
            .map(|on| if on { "on" } else { "off" }.to_string())
            .ok_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER, format!("parameter \"{name}\" requires a Boolean value"))),
        Kind::Integer => value.parse::<i64>().map(|v| v.to_string()).map_err(|_| invalid("Give an integer.".into())),
        Kind::Duration => millis(value)
            .map(|_| value.to_string())
            .ok_or_else(|| invalid("Valid units are \"ms\", \"s\", \"min\", \"h\" and \"d\".".into())),
        Kind::Enum(values) => {
            let found = values.iter().find(|v| v.eq_ignore_ascii_case(value));
            found.map(|v| v.to_string()).ok_or_else(|| invalid(format!("Available values: {}.", values.join(", "))))
        }
        Kind::Fixed => {
            let same =
                value.eq_ignore_ascii_case(definition.default) || boolean(value).is_some() && boolean(value) == boolean(definition.default);
            match same {
                true => Ok(definition.default.to_string()),
                false => Err(SqlError::unsupported(format!("parameter \"{name}\" can only be \"{}\"", definition.default))),
            }
        }
        Kind::ReadOnly => Err(SqlError::new(SqlState("55P02"), format!("parameter \"{name}\" cannot be changed"))),
        Kind::Zone => zone(value).map(|_| zone_name(value)),
        Kind::Encoding => match value.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "").as_str() {
            "utf8" | "unicode" | "sqlascii" => Ok("UTF8".into()),
            _ => Err(invalid("Only UTF8 is spoken here.".into())),
        },
        // Flink's word for: not given.
        Kind::OfCreated(options::PARALLELISM) if value == "-1" => Ok(definition.default.to_string()),
        Kind::OfCreated(option) => check_default(name, option, value).map(|()| value.to_string()),
        Kind::DateStyle => {
            let mut parts = value.split(',').map(|p| p.trim().to_ascii_lowercase());
            match parts
                .all(|p| matches!(p.as_str(), "iso" | "mdy" | "us" | "dmy" | "ymd" | "european" | "noneuropean" | "euro" | "default"))
            {
                true => Ok("ISO, MDY".into()),
                false => {
                    Err(SqlError::unsupported(format!("date style \"{value}\" is not supported"))
                        .with_hint("Dates are always shown as ISO."))
                }
            }
        }
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" | "y" => Some(true),
        "off" | "false" | "no" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

/// A duration as settings have it, in milliseconds.
pub fn millis(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let number: u64 = value[..digits].parse().ok()?;
    let factor = match value[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn zone_name(value: &str) -> String {
    match value.to_ascii_lowercase().as_str() {
        "utc" | "gmt" | "z" | "zulu" | "local" | "default" => "UTC".into(),
        _ => value.to_string(),
    }
}

/// A named zone, or a fixed offset. A bare number is hours east of Greenwich.
fn zone(value: &str) -> Result<Tz> {
    let name = zone_name(value);
    if name == "UTC" || name == "Etc/UTC" {
        return Ok(utc());
    }
    let unknown = || {
        SqlError::new(SqlState::INVALID_PARAMETER, format!("invalid value for parameter \"TimeZone\": \"{value}\""))
            .with_hint("Give a name such as Europe/Berlin, or an offset such as +02:00.")
    };
    if let Ok(hours) = name.parse::<f64>() {
        let minutes = (hours.abs() * 60.0).round() as i64;
        let sign = if hours < 0.0 { '-' } else { '+' };
        return Tz::from_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)).map_err(|_| unknown());
    }
    Tz::from_str(&name).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_found_by_its_name() {
        for known in DEFINITIONS {
            assert_eq!(definition(&known.name.to_uppercase()).map(|d| d.name), Some(known.name));
        }
    }

    #[test]
    fn values_are_checked_and_reported() {
        let mut settings = Settings::new("eddyline");
        assert_eq!(settings.get("SERVER_VERSION"), Some(SERVER_VERSION));
        settings.set("application_name", Some("psql")).unwrap();
        settings.set("statement_timeout", Some("5s")).unwrap();
        assert_eq!(settings.reports_after(&Settings::default()), [("application_name", "psql".to_string())]);
        assert_eq!(settings.timeout("statement_timeout"), Some(Duration::from_secs(5)));
        assert_eq!(settings.set("server_version", Some("1")).unwrap_err().state.0, "55P02");
        assert_eq!(
            settings.set("stetement_timeout", Some("1")).unwrap_err().hint.as_deref(),
            Some("Perhaps you meant \"statement_timeout\".")
        );
        assert!(settings.set("client_encoding", Some("LATIN1")).is_err());
        // As what PostgreSQL 17 dumps begins.
        settings.set("transaction_timeout", Some("0")).unwrap();
        assert_eq!(settings.set("transaction_timeout", Some("5s")).unwrap_err().state.0, "0A000");
        settings.set("my.own", Some("x")).unwrap();
        assert_eq!(settings.show("my.own").unwrap(), "x");
        settings.reset_all();
        assert_eq!(settings.timeout("statement_timeout"), None);
    }

    #[test]
    fn zones_are_names_and_offsets() {
        let mut settings = Settings::default();
        settings.set("TimeZone", Some("Europe/Berlin")).unwrap();
        settings.set("time zone", Some("-3")).unwrap();
        assert!(settings.set("TimeZone", Some("Nowhere/At all")).is_err());
    }
}
