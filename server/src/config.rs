//! The server's settings: flag over environment variable over configuration file over default. Every setting has
//! one name in three spellings: `--state-cache`, `EDDYLINE_STATE_CACHE`, `state_cache` in TOML.

use crate::coordinator::settings::size_text;
use clap::{Args, ValueEnum};
use eddyline_common::options::{is_secret, nearest};
use eddyline_common::{Result, SqlError, SqlState};
use eddyline_planner::catalog::duration_text;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As given on the command line or in the environment; what is absent may be in the file.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Where the log, state and checkpoints are kept [default: ./eddyline-data]
    #[arg(long, env = "EDDYLINE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where checkpoints go: a directory, or a URL with file://, s3://, gs://, az:// or hdfs:// [default: checkpoints in the data directory]
    #[arg(long, env = "EDDYLINE_CHECKPOINT_STORE", value_name = "PLACE")]
    pub checkpoint_store: Option<String>,
    /// Of an object store, for instance 's3.endpoint=http://10.0.0.1:9000, s3.region=eu'; keys come from the environment
    #[arg(long, env = "EDDYLINE_CHECKPOINT_STORE_OPTIONS", value_name = "KEY=VALUE,...")]
    pub checkpoint_store_options: Option<String>,
    /// Address for Postgres clients; port 0 picks a free one [default: 127.0.0.1:4510]
    #[arg(long, env = "EDDYLINE_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address for /healthz and /metrics; port 0 picks a free one [default: 127.0.0.1:4511]
    #[arg(long, env = "EDDYLINE_HTTP", value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// TOML file with any of these settings
    #[arg(long, env = "EDDYLINE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Worker threads that run views [default: the number of cores]
    #[arg(long, env = "EDDYLINE_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Where operator state lives: all in memory, or a bounded part with the rest in RocksDB [default: rocksdb]
    #[arg(long, env = "EDDYLINE_STATE_BACKEND", value_enum)]
    pub state_backend: Option<Backend>,
    /// Operator state of all views that stays in memory, for instance 256MiB [default: 256MiB]
    #[arg(long, env = "EDDYLINE_STATE_CACHE", value_name = "BYTES")]
    pub state_cache: Option<String>,
    /// Changes that wait for slow views, per relation [default: 256MiB]
    #[arg(long, env = "EDDYLINE_RING_SIZE", value_name = "BYTES")]
    pub ring_size: Option<String>,
    /// How long a transaction, cursor or slow client may read at one moment in time [default: 1h]
    #[arg(long, env = "EDDYLINE_SNAPSHOT_AGE", value_name = "TIME")]
    pub snapshot_age: Option<String>,
    /// Rows that have changed since and are kept for such a reader [default: 1GiB]
    #[arg(long, env = "EDDYLINE_SNAPSHOT_SIZE", value_name = "BYTES")]
    pub snapshot_size: Option<String>,
    /// Time between checkpoints while something changes, for instance 5s [default: 5s]
    #[arg(long, env = "EDDYLINE_CHECKPOINT_INTERVAL", value_name = "TIME")]
    pub checkpoint_interval: Option<String>,
    /// Client connections at a time [default: 200]
    #[arg(long, env = "EDDYLINE_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Memory that queries may use together [default: 1GiB]
    #[arg(long, env = "EDDYLINE_QUERY_MEMORY", value_name = "BYTES")]
    pub query_memory: Option<String>,
    /// Memory of the rows that sessions have written and not committed yet, all together [default: 2GiB]
    #[arg(long, env = "EDDYLINE_WRITE_MEMORY", value_name = "BYTES")]
    pub write_memory: Option<String>,
    /// Disk that queries may use together when memory does not do [default: 10GiB]
    #[arg(long, env = "EDDYLINE_QUERY_SPILL", value_name = "BYTES")]
    pub query_spill: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    Memory,
    Rocksdb,
}

/// The configuration file. Unknown keys are errors.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    data_dir: Option<PathBuf>,
    checkpoint_store: Option<String>,
    checkpoint_store_options: Option<String>,
    listen: Option<String>,
    http: Option<String>,
    workers: Option<usize>,
    state_backend: Option<Backend>,
    state_cache: Option<Measure>,
    ring_size: Option<Measure>,
    snapshot_age: Option<Measure>,
    snapshot_size: Option<Measure>,
    checkpoint_interval: Option<Measure>,
    max_connections: Option<usize>,
    query_memory: Option<Measure>,
    write_memory: Option<Measure>,
    query_spill: Option<Measure>,
}

/// A size or a time as its flag takes it; without a unit it may be a number.
#[derive(Clone, Debug)]
struct Measure(String);

impl<'de> Deserialize<'de> for Measure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MeasureVisitor)
    }
}

struct MeasureVisitor;

impl Visitor<'_> for MeasureVisitor {
    type Value = Measure;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a text with a unit")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Measure, E> {
        Ok(Measure(text.to_string()))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Measure, E> {
        Ok(Measure(number.to_string()))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Measure, E> {
        Ok(Measure(number.to_string()))
    }
}

/// As many as PostgreSQL takes.
const CONNECTIONS_MAX: usize = 262_143;

const FILE_KEYS: [&str; 16] = [
    "data_dir",
    "checkpoint_store",
    "checkpoint_store_options",
    "listen",
    "http",
    "workers",
    "state_backend",
    "state_cache",
    "ring_size",
    "snapshot_age",
    "snapshot_size",
    "checkpoint_interval",
    "max_connections",
    "query_memory",
    "write_memory",
    "query_spill",
];

/// Where checkpoints go.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckpointPlace {
    Directory(PathBuf),
    /// Canonical options of the store.
    Store {
        url: String,
        options: BTreeMap<String, String>,
    },
}

/// Every setting with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub checkpoint_store: CheckpointPlace,
    pub listen: SocketAddr,
    pub http: SocketAddr,
    pub workers: usize,
    pub state_backend: Backend,
    pub state_cache_bytes: usize,
    pub ring_bytes: usize,
    pub snapshot_age: Duration,
    pub snapshot_bytes: usize,
    pub checkpoint_interval: Duration,
    pub max_connections: usize,
    pub query_memory_bytes: usize,
    pub write_memory_bytes: usize,
    pub query_spill_bytes: usize,
}

/// What sizes at least are at a start: small ones are for trying what is done then.
const BYTES_MIN: u64 = 4 << 10;

impl Config {
    pub fn load(flags: &Flags) -> Result<Config> {
        let file = flags.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let bytes = |flag: &Option<String>, file: &Option<Measure>, name: &str, default: &str| {
            let text = flag.as_ref().or(file.as_ref().map(|m| &m.0)).map_or(default, String::as_str);
            parse_bytes(text).ok_or_else(|| invalid(name, text, "a size such as 64MiB"))
        };
        // With nothing, or nearly so, nothing would be done.
        let enough = |flag: &Option<String>, file: &Option<Measure>, name: &str, default: &str| {
            let found = bytes(flag, file, name, default)?;
            let too_small = || invalid(name, &size_text(found), "a size of at least 4 KiB, such as 64MiB");
            Some(found).filter(|bytes| *bytes as u64 >= BYTES_MIN).ok_or_else(too_small)
        };
        let time = |flag: &Option<String>, file: &Option<Measure>, name: &str, default: &str| {
            let text = flag.as_ref().or(file.as_ref().map(|m| &m.0)).map_or(default, String::as_str);
            parse_duration(text).filter(|time| !time.is_zero()).ok_or_else(|| invalid(name, text, "a time such as 5s or 200ms"))
        };
        let address = |flag: &Option<String>, file: &Option<String>, name: &str, default: &str| {
            address_of(name, flag.as_ref().or(file.as_ref()).map_or(default, String::as_str))
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = flags.workers.or(file.workers).unwrap_or(cores);
        if !(1..=256).contains(&workers) {
            return Err(invalid("workers", &workers.to_string(), "a number from 1 to 256"));
        }
        let max_connections = flags.max_connections.or(file.max_connections).unwrap_or(200);
        if !(1..=CONNECTIONS_MAX).contains(&max_connections) {
            return Err(invalid("max_connections", &max_connections.to_string(), &format!("a number from 1 to {CONNECTIONS_MAX}")));
        }
        let data_dir = absolute(flags.data_dir.clone().or(file.data_dir.clone()).unwrap_or_else(|| "eddyline-data".into()))?;
        let checkpoint_store = match flags.checkpoint_store.as_ref().or(file.checkpoint_store.as_ref()) {
            Some(place) => place_of(place, flags.checkpoint_store_options.as_ref().or(file.checkpoint_store_options.as_ref()))?,
            None => CheckpointPlace::Directory(data_dir.join("checkpoints")),
        };
        Ok(Config {
            data_dir,
            checkpoint_store,
            listen: address(&flags.listen, &file.listen, "listen", "127.0.0.1:4510")?,
            http: address(&flags.http, &file.http, "http", "127.0.0.1:4511")?,
            workers,
            state_backend: flags.state_backend.or(file.state_backend).unwrap_or(Backend::Rocksdb),
            state_cache_bytes: enough(&flags.state_cache, &file.state_cache, "state_cache", "256MiB")?,
            ring_bytes: enough(&flags.ring_size, &file.ring_size, "ring_size", "256MiB")?,
            snapshot_age: time(&flags.snapshot_age, &file.snapshot_age, "snapshot_age", "1h")?,
            snapshot_bytes: enough(&flags.snapshot_size, &file.snapshot_size, "snapshot_size", "1GiB")?,
            checkpoint_interval: time(&flags.checkpoint_interval, &file.checkpoint_interval, "checkpoint_interval", "5s")?,
            max_connections,
            query_memory_bytes: enough(&flags.query_memory, &file.query_memory, "query_memory", "1GiB")?,
            write_memory_bytes: enough(&flags.write_memory, &file.write_memory, "write_memory", "2GiB")?,
            query_spill_bytes: bytes(&flags.query_spill, &file.query_spill, "query_spill", "10GiB")?,
        })
    }
}

impl Config {
    /// Every setting by name with its value, without secrets.
    pub fn listed(&self) -> Vec<(&'static str, String)> {
        let time = |time: Duration| duration_text(time.as_micros() as i64);
        let (store, store_options) = match &self.checkpoint_store {
            CheckpointPlace::Directory(dir) => (dir.display().to_string(), String::new()),
            CheckpointPlace::Store { url, options } => (url.clone(), shown(options)),
        };
        let backend = match self.state_backend {
            Backend::Memory => "memory",
            Backend::Rocksdb => "rocksdb",
        };
        vec![
            ("checkpoint_interval", time(self.checkpoint_interval)),
            ("checkpoint_store", store),
            ("checkpoint_store_options", store_options),
            ("data_dir", self.data_dir.display().to_string()),
            ("http", self.http.to_string()),
            ("listen", self.listen.to_string()),
            ("max_connections", self.max_connections.to_string()),
            ("query_memory", size_text(self.query_memory_bytes)),
            ("query_spill", size_text(self.query_spill_bytes)),
            ("ring_size", size_text(self.ring_bytes)),
            ("snapshot_age", time(self.snapshot_age)),
            ("snapshot_size", size_text(self.snapshot_bytes)),
            ("state_backend", backend.to_string()),
            ("state_cache", size_text(self.state_cache_bytes)),
            ("workers", self.workers.to_string()),
            ("write_memory", size_text(self.write_memory_bytes)),
        ]
    }
}

/// Environment variables that are no settings but nearly named as one, each with that one's name.
pub fn misspelt(variables: impl IntoIterator<Item = String>) -> Vec<(String, String)> {
    const PREFIX: &str = "EDDYLINE_";
    let known = || FILE_KEYS.into_iter().chain(["config"]);
    let meant = |variable: String| {
        let name = variable.strip_prefix(PREFIX)?.to_ascii_lowercase();
        let meant = nearest(&name, known()).filter(|meant| *meant != name)?;
        Some((variable, format!("{PREFIX}{}", meant.to_ascii_uppercase())))
    };
    variables.into_iter().filter_map(meant).collect()
}

/// Options of a store, those that are secret without their values.
fn shown(options: &BTreeMap<String, String>) -> String {
    let one = |(key, value): (&String, &String)| format!("{key}={}", if is_secret(key) { "***" } else { value });
    options.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A directory by its path or as a `file://` URL, or a place in an object store.
fn place_of(place: &str, options: Option<&String>) -> Result<CheckpointPlace> {
    let Some((scheme, rest)) = place.split_once("://") else { return Ok(CheckpointPlace::Directory(absolute(place.into())?)) };
    if !scheme.eq_ignore_ascii_case("file") {
        let options = eddyline_common::options::canonicalize_store(store_options(options)?)?;
        return Ok(CheckpointPlace::Store { url: place.to_string(), options });
    }
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    match path.starts_with('/') {
        true => Ok(CheckpointPlace::Directory(absolute(path.into())?)),
        false => Err(invalid("checkpoint_store", place, "a file:// URL with an absolute path, such as file:///mnt/checkpoints")),
    }
}

/// `key=value`, with commas between.
fn store_options(text: Option<&String>) -> Result<BTreeMap<String, String>> {
    let pairs = text.map_or("", String::as_str).split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let split = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some((key.trim().to_string(), value.trim().to_string()))
    };
    pairs
        .map(|pair| split(pair).ok_or_else(|| invalid("checkpoint_store_options", pair, "options such as s3.region=eu, s3.endpoint=...")))
        .collect()
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

fn read_file(path: &Path) -> Result<File> {
    let text =
        std::fs::read_to_string(path).map_err(|e| SqlError::io(format!("cannot read configuration file {}: {e}", path.display())))?;
    let bad = |error: toml::de::Error| malformed(path, &text, &error);
    let table: toml::Table = toml::from_str(&text).map_err(bad)?;
    if let Some(unknown) = table.keys().find(|k| !FILE_KEYS.contains(&k.as_str())) {
        let error =
            SqlError::new(SqlState::INVALID_PARAMETER, format!("configuration file {}: unknown setting \"{unknown}\"", path.display()));
        return Err(error.with_hint(match nearest(unknown, FILE_KEYS) {
            Some(meant) => format!("Did you mean \"{meant}\"?"),
            None => format!("The settings are {}.", FILE_KEYS.join(", ")),
        }));
    }
    // Only from the text itself does an error know its place.
    toml::from_str(&text).map_err(bad)
}

/// With the line, and the setting that stands on it.
fn malformed(path: &Path, text: &str, error: &toml::de::Error) -> SqlError {
    let line = error.span().map(|span| text.bytes().take(span.start).filter(|b| *b == b'\n').count());
    let key = line.and_then(|line| text.lines().nth(line)?.split('=').next()).map(|key| key.trim().trim_matches(['"', '\'']));
    let place = line.map_or(String::new(), |line| format!(", line {}", line + 1));
    let setting = key.filter(|key| FILE_KEYS.contains(key)).map_or(String::new(), |key| format!("setting {key}: "));
    let message = format!("configuration file {}{place}: {setting}{}", path.display(), error.message().trim_end());
    SqlError::new(SqlState::INVALID_PARAMETER, message)
}

/// A host may have several addresses: the server listens on the first of IPv4, if it has one.
fn address_of(name: &str, text: &str) -> Result<SocketAddr> {
    let unknown = || invalid(name, text, "a host and a port, such as 127.0.0.1:4510 or localhost:4510");
    let found: Vec<SocketAddr> = text.to_socket_addrs().map_err(|error| unknown().with_detail(format!("{error}.")))?.collect();
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied().ok_or_else(unknown)
}

fn invalid(name: &str, value: &str, wanted: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, format!("setting {name} is \"{value}\"")).with_hint(format!("It takes {wanted}."))
}

/// `64MiB`, `1 GB`, `4096`. Powers of 1024 for both spellings.
fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// `5s`, `200ms`, `1min`, `2h`.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match text[digits..].trim() {
        "ms" => 1,
        "" | "s" => 1000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn with_file(text: &str, flags: Flags) -> Result<Config> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Config::load(&Flags { config: Some(file.path().to_path_buf()), ..flags })
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let flags = Flags { workers: Some(3), ..Default::default() };
        let config = with_file("workers = 2\nstate_cache = '1MiB'\ncheckpoint_interval = '200ms'", flags).unwrap();
        assert_eq!((config.workers, config.state_cache_bytes, config.max_connections), (3, 1 << 20, 200));
        assert_eq!(config.checkpoint_interval, Duration::from_millis(200));
    }

    #[test]
    fn an_unknown_setting_names_the_nearest() {
        let error = with_file("worker = 2", Flags::default()).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("Did you mean \"workers\"?"));
        let error = with_file("config = 'x'", Flags::default()).unwrap_err();
        assert!(error.hint.is_some_and(|hint| hint.starts_with("The settings are data_dir, ")), "none is near");
    }

    #[test]
    fn misspelt_variables_are_found() {
        let given =
            ["EDDYLINE_WORKER", "EDDYLINE_STATE_CASHE", "EDDYLINE_WORKERS", "EDDYLINE_CONFIG", "EDDYLINE_PORT", "EDDYLINE_BIN", "PATH"];
        let found = misspelt(given.map(String::from));
        let expected = [("EDDYLINE_WORKER", "EDDYLINE_WORKERS"), ("EDDYLINE_STATE_CASHE", "EDDYLINE_STATE_CACHE")];
        assert_eq!(found, expected.map(|(given, meant)| (given.to_string(), meant.to_string())));
    }

    #[test]
    fn checkpoints_go_to_a_directory() {
        let store = |place: Option<&str>| {
            let flags = Flags { checkpoint_store: place.map(String::from), data_dir: Some("/data".into()), ..Default::default() };
            Config::load(&flags).map(|config| config.checkpoint_store)
        };
        let directory = |path: &str| CheckpointPlace::Directory(path.into());
        assert_eq!(store(None).unwrap(), directory("/data/checkpoints"));
        assert_eq!(store(Some("/mnt/a")).unwrap(), directory("/mnt/a"));
        assert_eq!(store(Some("file:///mnt/a")).unwrap(), directory("/mnt/a"));
        assert_eq!(store(Some("FILE://localhost/mnt/a")).unwrap(), directory("/mnt/a"));
        assert!(store(Some("file://mnt/a")).is_err());
        let from_file = with_file("checkpoint_store = 'file:///x'", Flags::default()).unwrap();
        assert_eq!(from_file.checkpoint_store, directory("/x"));
    }

    #[test]
    fn checkpoints_go_to_an_object_store() {
        let text = "checkpoint_store = 's3://bucket/a'\ncheckpoint_store_options = 's3.endpoint_url = http://h:1, s3.region=eu'";
        let CheckpointPlace::Store { url, options } = with_file(text, Flags::default()).unwrap().checkpoint_store else { panic!() };
        assert_eq!((url.as_str(), options["s3.endpoint"].as_str(), options["s3.region"].as_str()), ("s3://bucket/a", "http://h:1", "eu"));
        for wrong in ["s3.regoin=eu", "eu"] {
            assert!(with_file(&format!("checkpoint_store = 's3://b'\ncheckpoint_store_options = '{wrong}'"), Flags::default()).is_err());
        }
    }

    #[test]
    fn sizes_and_times_may_be_numbers() {
        let config = with_file("ring_size = 1048576\nsnapshot_age = 90", Flags::default()).unwrap();
        assert_eq!((config.ring_bytes, config.snapshot_age), (1 << 20, Duration::from_secs(90)));
    }

    #[test]
    fn a_wrong_type_is_told_with_its_place() {
        for (wrong, line) in [
            ("workers = 2\nmax_connections = 'x'", "line 2: setting max_connections: "),
            ("ring_size = true", "line 1: setting ring_size: "),
        ] {
            let error = with_file(wrong, Flags::default()).unwrap_err();
            assert!(error.message.contains(line), "{error}");
        }
        let error = with_file("workers = 2\nring_size =", Flags::default()).unwrap_err();
        assert!(error.message.contains("line 2"), "{error}");
    }

    #[test]
    fn hosts_have_names() {
        let listen = |text: &str| Config::load(&Flags { listen: Some(text.to_string()), ..Default::default() }).map(|config| config.listen);
        assert_eq!(listen("localhost:4510").unwrap().port(), 4510);
        assert_eq!(listen("[::1]:0").unwrap().to_string(), "[::1]:0");
        assert!(listen("localhost").unwrap_err().hint.is_some());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(with_file("state_cache = 'lots'", Flags::default()).is_err());
        for nothing in [
            "workers",
            "max_connections",
            "query_memory",
            "write_memory",
            "state_cache",
            "ring_size",
            "snapshot_size",
            "checkpoint_interval",
            "snapshot_age",
        ] {
            let error = with_file(&format!("{nothing} = 0"), Flags::default()).unwrap_err();
            assert!(error.message.contains(nothing) && error.hint.is_some(), "{error}");
        }
        assert_eq!(with_file("query_spill = 0", Flags::default()).unwrap().query_spill_bytes, 0);
    }
}
