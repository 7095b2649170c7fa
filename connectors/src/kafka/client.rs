//! Client settings, and what librdkafka's errors mean to us. Clients are created here and nowhere else.

use super::asking::{Asking, Turn};
use super::identity::Identity;
use super::properties;
use eddyline_common::connector::SourceSpec;
use eddyline_common::{Result, SqlError, SqlState, options};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaConfRes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that all of a reader's threads together let librdkafka fetch ahead; or as much as the sink holds, if that is less.
const PREFETCH_KBYTES_MAX: usize = 32 * 1024;
/// Records fetched ahead by one thread: an eighth of a second at full speed, so that a fetch's round trip hides.
const PREFETCH_RECORDS: usize = 65_536;

/// A source's options as this connector needs them.
pub struct Settings {
    pub topic: String,
    pub brokers: String,
    pub options: BTreeMap<String, String>,
    /// How often to look for new partitions.
    pub discovery: Option<Duration>,
    /// Go on without records that retention removed, rather than wait.
    pub skips_lost: bool,
    /// Partitions that turned out not to be the ones that were read before, and how: who begins to read on does not either.
    pub replaced: Mutex<BTreeMap<i32, String>>,
    pub identity: Identity,
    /// Who else asks these brokers.
    pub asking: Arc<Asking>,
    config: ClientConfig,
}

/// Tuned for latency at little idle cost; any of these may be overridden by the user's `properties.*`.
const DEFAULTS: [(&str, &str); 11] = [
    ("client.id", "eddyline"),
    ("isolation.level", "read_committed"),
    ("fetch.min.bytes", "1"),
    // A broker answers as soon as it has a record; this bounds how long a partition that could not be asked for in
    // the present request (its queue was full) waits for the next one.
    ("fetch.wait.max.ms", "100"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "100"),
    ("fetch.max.bytes", "8388608"),
    ("reconnect.backoff.ms", "100"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.keepalive.enable", "true"),
    ("log.connection.close", "false"),
];

/// What the reader's correctness rests on.
const FORCED: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("allow.auto.create.topics", "false"),
];

impl Settings {
    pub fn new(spec: &SourceSpec) -> Result<Settings> {
        let option = |key: &str| {
            let missing = || SqlError::new(SqlState::INVALID_PARAMETER, format!("connector \"kafka\" needs the option \"{key}\""));
            spec.options.get(key).cloned().ok_or_else(missing)
        };
        let mut config = ClientConfig::new();
        let own = [options::GROUP_ID, options::AUTO_OFFSET_RESET];
        for (key, value) in DEFAULTS {
            config.set(key, value);
        }
        for (key, value) in spec.options.iter().filter(|(key, _)| !own.contains(&key.as_str())) {
            if let Some(property) = key.strip_prefix(options::PASS_THROUGH_PREFIX) {
                config.set(property, value);
            }
        }
        for (key, value) in FORCED {
            config.set(key, value);
        }
        // Past the log's end or before its start is for us to report, not for the client to jump.
        config.set("auto.offset.reset", "error").set_log_level(RDKafkaLogLevel::Warning);
        config.create_native_config().map_err(config_error)?;
        let brokers = option(options::BOOTSTRAP_SERVERS)?;
        Ok(Settings {
            topic: option(options::TOPIC)?,
            asking: Asking::of(&brokers),
            brokers,
            discovery: options::discovery_micros(&spec.options)?.map(|micros| Duration::from_micros(micros as u64)),
            skips_lost: spec.options.get(options::LOST_OFFSETS).is_some_and(|policy| policy == "skip"),
            replaced: Mutex::default(),
            identity: Identity::default(),
            options: spec.options.clone(),
            config,
        })
    }

    /// A client for asking questions.
    pub fn inquirer(&self) -> Result<BaseConsumer<Reasons>> {
        let mut config = self.config.clone();
        if let Some(group) = self.options.get(options::GROUP_ID) {
            config.set("group.id", group);
        }
        config.create_with_context(Reasons::default()).map_err(config_error)
    }

    /// A client for reading with so many threads into a sink that holds so many bytes, which has no group.
    pub fn consumer<C: ConsumerContext>(&self, threads: usize, bytes_max: usize, context: C) -> Result<BaseConsumer<C>> {
        let mut config = self.config.clone();
        let share = (PREFETCH_KBYTES_MAX.min(bytes_max / 1024) / threads.max(1)).max(1024).to_string();
        let ours = [("queued.max.messages.kbytes", share), ("queued.min.messages", PREFETCH_RECORDS.to_string())];
        for (key, value) in ours {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        config.create_with_context(context).map_err(config_error)
    }

    /// The right to ask the brokers something, for who can wait for it. 08006 if so many have no answer that it does not come.
    pub fn turn(&self, within: Duration) -> Result<Turn> {
        self.asking.enter(within).ok_or_else(|| self.away("As many questions as may wait for it at once have no answer yet"))
    }

    /// 08006 for a broker that is away.
    pub fn away(&self, reason: &str) -> SqlError {
        let error = SqlError::new(SqlState::CONNECTION_FAILURE, format!("Kafka at \"{}\" does not answer", self.brokers));
        let error = if reason.is_empty() { error } else { error.with_detail(format!("{}.", reason.trim_end_matches('.'))) };
        error.with_hint(format!("Check the option \"{}\", and that a broker listens there.", options::BOOTSTRAP_SERVERS))
    }

    /// What a failed request means to the user.
    pub fn request_error(&self, error: &KafkaError, reason: &str) -> SqlError {
        use RDKafkaErrorCode::*;
        match error.rdkafka_error_code() {
            Some(UnknownTopicOrPartition | UnknownTopic) => self.missing_topic(None),
            Some(TopicAuthorizationFailed | GroupAuthorizationFailed | ClusterAuthorizationFailed) => {
                SqlError::new(SqlState("42501"), format!("Kafka denies access to topic \"{}\"", self.topic))
                    .with_detail(format!("{error}."))
            }
            Some(BrokerTransportFailure | AllBrokersDown | OperationTimedOut | RequestTimedOut | Resolve | Authentication | SSL) => {
                self.away(if reason.is_empty() { "No broker answered in time" } else { reason })
            }
            _ => SqlError::new(SqlState::CONNECTION_FAILURE, format!("Kafka refused a request: {error}")),
        }
    }

    /// What is told of a topic that was there when reading began.
    pub fn deleted_topic(&self) -> String {
        format!(
            "topic \"{}\" no longer exists at the broker. HINT: The source waits here. Drop it. If the topic is created again it is \
             another one, and the source must be created again too.",
            self.topic
        )
    }

    /// 42704 for a missing topic, naming a like one.
    pub fn missing_topic(&self, like: Option<&str>) -> SqlError {
        let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("topic \"{}\" does not exist", self.topic));
        match like {
            Some(like) => error.with_hint(format!("Perhaps you meant \"{like}\".")),
            None => error.with_hint("Create the topic first: a source does not create it."),
        }
    }
}

pub fn config_error(error: KafkaError) -> SqlError {
    let refused = |key: &str| format!("Kafka's client refuses the option \"properties.{key}\"");
    match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, key, _) => {
            let error = SqlError::new(SqlState::INVALID_PARAMETER, refused(&key)).with_detail("It has none of this name.");
            match properties::nearest(&key) {
                Some(near) => error.with_hint(format!("Perhaps you meant \"properties.{near}\".")),
                None => error,
            }
        }
        // What librdkafka says of it quotes the value.
        KafkaError::ClientConfig(_, _, key, _) if options::is_secret(&key) => SqlError::new(SqlState::INVALID_PARAMETER, refused(&key)),
        KafkaError::ClientConfig(_, description, key, value) => {
            SqlError::new(SqlState::INVALID_PARAMETER, format!("{} = \"{value}\"", refused(&key)))
                .with_detail(format!("{}.", description.trim_end_matches('.')))
        }
        KafkaError::ClientCreation(reason) => {
            SqlError::new(SqlState::INVALID_PARAMETER, format!("Kafka's client refuses its options: {reason}"))
        }
        other => SqlError::internal(other),
    }
}

/// librdkafka's log lines in ours.
pub fn trace(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => tracing::error!(facility, "{message}"),
        // Brokers that come and go are reported as a source's problem.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::debug!(facility, "{message}"),
        _ => tracing::trace!(facility, "{message}"),
    }
}

/// Keeps what librdkafka last said about a broker, which its error codes leave out.
#[derive(Default)]
pub struct Reasons(Mutex<String>);

impl Reasons {
    pub fn last(&self) -> String {
        self.0.lock().clone()
    }
}

impl ClientContext for Reasons {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // "All brokers are down" follows the reason why.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock() = reason.to_string();
        }
    }
}

impl ConsumerContext for Reasons {}
