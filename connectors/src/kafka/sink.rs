//! Kafka topics as sinks: records (JSON or Protocol Buffers) of new rows, of the newest row by key with tombstones, or of changes in
//! Debezium's envelope. Records of one key go to one partition, in order, as Kafka's Java clients place them.
//!
//! The producer is idempotent: its own retries add nothing twice. A record counts as written once all in-sync
//! replicas have it; `flush` waits for that.

use super::client::{Settings, config_error, trace};
use crate::changes::{self, Change};
use crate::format::debezium;
use crate::format::encoder::{RecordEncoder, RecordRows};
use bytes::BytesMut;
use eddyline_common::connector::*;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState, options};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaRespErr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A broker that has not answered by then is away.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);
/// One attempt at a question.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How long a wait goes on before it looks whether anybody still wants the sink.
const TICK: Duration = Duration::from_millis(100);
/// Who waits longer for records to be taken asks whether the topic is there, again and again. librdkafka by itself gives them up after half a minute.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// What is not overridden by the user's `properties.*`.
const DEFAULTS: [(&str, &str); 8] = [
    ("client.id", "eddyline"),
    ("linger.ms", "5"),
    // Records that wait in memory for the broker.
    ("queue.buffering.max.kbytes", "32768"),
    // As the Java clients place keys, so that topics can be shared and joined with theirs.
    ("partitioner", "murmur2_random"),
    ("message.timeout.ms", "120000"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.keepalive.enable", "true"),
    ("log.connection.close", "false"),
];

/// What to do about a record that is too large.
const TOO_LARGE: &str = "Raise the topic's max.message.bytes, and properties.message.max.bytes of the sink (ALTER SINK ... SET) if a record has more than that. \
                         The sink goes on by itself.";

/// What the guarantee rests on.
const FORCED: [(&str, &str); 2] = [("enable.idempotence", "true"), ("acks", "all")];

pub struct KafkaSink {
    settings: Arc<Settings>,
    config: ClientConfig,
    mode: SinkMode,
    has_key: bool,
    value: RecordEncoder,
    key: RecordEncoder,
}

impl KafkaSink {
    pub fn new(spec: &SinkSpec) -> Result<Self> {
        let as_source = SourceSpec { name: spec.name.clone(), options: spec.options.clone(), columns: vec![], key: vec![] };
        let field = |i: usize| (i, spec.columns[i].external_name.clone(), spec.columns[i].ty.clone());
        let mut config = ClientConfig::new();
        for (key, value) in DEFAULTS {
            config.set(key, value);
        }
        for (key, value) in &spec.options {
            if let Some(property) = key.strip_prefix(options::PASS_THROUGH_PREFIX) {
                config.set(property, value);
            }
        }
        for (key, value) in FORCED {
            config.set(key, value);
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
        config.create_native_config().map_err(config_error)?;
        if spec.mode == SinkMode::Upsert && spec.key.is_empty() {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("sink \"{}\" needs a key", spec.name)));
        }
        let only_in_key = |i: &usize| spec.options.get(options::VALUE_FIELDS).is_some_and(|f| f == "except_key") && spec.key.contains(i);
        Ok(KafkaSink {
            settings: Arc::new(Settings::new(&as_source)?),
            config,
            mode: spec.mode,
            has_key: !spec.key.is_empty(),
            value: RecordEncoder::of_value(&spec.options, (0..spec.columns.len()).filter(|i| !only_in_key(i)).map(field).collect())?,
            key: RecordEncoder::of_key(&spec.options, spec.key.iter().map(|i| field(*i)).collect())?,
        })
    }

    fn producer(&self, monitor: Option<Arc<dyn SinkMonitor>>) -> Result<BaseProducer<Deliveries>> {
        let deliveries = Deliveries { monitor, ..Default::default() };
        self.config.create_with_context(deliveries).map_err(config_error)
    }
}

impl SinkConnector for KafkaSink {
    /// Asks for the topic, which makes a broker that creates topics by itself create it.
    fn check(&self) -> Result<()> {
        let begun = Instant::now();
        // Dropped after the producer.
        let _turn = self.settings.turn(ANSWERED_WITHIN)?;
        let producer = self.producer(None)?;
        loop {
            let answer = producer.client().fetch_metadata(Some(&self.settings.topic), ATTEMPT);
            producer.poll(Duration::ZERO);
            let late = begun.elapsed() >= ANSWERED_WITHIN;
            match answer {
                Err(_) if !late => continue,
                Err(error) => return Err(self.settings.request_error(&error, &producer.context().reason())),
                Ok(metadata) => {
                    let topic = metadata.topics().iter().find(|t| t.name() == self.settings.topic);
                    match topic.map(|t| (t.error(), t.partitions().len())) {
                        Some((None, partitions)) if partitions > 0 => return Ok(()),
                        Some((Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED), _)) => {
                            let denied = KafkaError::MetadataFetch(RDKafkaErrorCode::TopicAuthorizationFailed);
                            return Err(self.settings.request_error(&denied, ""));
                        }
                        _ if late => return Err(self.missing_topic()),
                        _ => std::thread::sleep(TICK),
                    }
                }
            }
        }
    }

    fn open(&self, _after: u64, monitor: Arc<dyn SinkMonitor>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(KafkaWriter {
            producer: self.producer(Some(monitor.clone()))?,
            monitor,
            settings: self.settings.clone(),
            mode: self.mode,
            has_key: self.has_key,
            value: self.value.clone(),
            key: self.key.clone(),
            written: None,
            keys: BytesMut::new(),
            record: BytesMut::new(),
        }))
    }
}

impl KafkaSink {
    fn missing_topic(&self) -> SqlError {
        let mut error = self.settings.missing_topic(None);
        error.hint = Some("Create the topic first: this broker does not create topics by itself.".to_string());
        error
    }
}

struct KafkaWriter {
    producer: BaseProducer<Deliveries>,
    monitor: Arc<dyn SinkMonitor>,
    settings: Arc<Settings>,
    mode: SinkMode,
    has_key: bool,
    value: RecordEncoder,
    key: RecordEncoder,
    /// The newest step that was given to the producer.
    written: Option<u64>,
    /// Kept for their memory.
    keys: BytesMut,
    record: BytesMut,
}

impl KafkaWriter {
    /// The keys of all rows, one after the other, and each one's place.
    fn encode_keys(&mut self, changes: &ChangeBatch) -> Result<Vec<Range<usize>>> {
        self.keys.clear();
        if !self.has_key {
            return Ok(Vec::new());
        }
        let rows = self.key.bind(&changes.rows)?;
        let keys = &mut self.keys;
        let place = |row| {
            let begin = keys.len();
            rows.write(row, keys)?;
            Ok(begin..keys.len())
        };
        (0..changes.num_rows()).map(place).collect()
    }

    fn send(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.settings.topic);
        record.key = key;
        record.payload = value;
        let mut waits = Instant::now();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
                Err((error, _)) => return Err(self.failed(&error)),
            }
            self.producer.poll(TICK);
            self.check_waiting(&mut waits)?;
        }
    }

    /// `check` for one who waits since then, or since it last asked.
    fn check_waiting(&self, since: &mut Instant) -> Result<()> {
        if since.elapsed() >= SLOW_AFTER {
            self.look_for_topic();
            *since = Instant::now();
        }
        self.check()
    }

    fn look_for_topic(&self) {
        let topic = &self.settings.topic;
        let Some(_turn) = self.settings.asking.enter(Duration::ZERO) else { return };
        let Ok(metadata) = self.producer.client().fetch_metadata(Some(topic), ATTEMPT) else { return };
        let is_missing = |t: &MetadataTopic| t.error() == Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
        if metadata.topics().iter().any(|t| t.name() == topic && is_missing(t)) {
            let told = format!("topic \"{topic}\" no longer exists at the broker. HINT: Create it again, and the sink goes on by itself.");
            self.producer.context().trouble(told);
        }
    }

    /// Whether a record could not be delivered, or nobody wants the sink any more.
    fn check(&self) -> Result<()> {
        if let Some(error) = self.producer.context().failed.lock().clone() {
            return Err(self.failed(&error));
        }
        if self.monitor.is_closed() {
            return Err(SqlError::new(SqlState::ADMIN_SHUTDOWN, "the sink was closed"));
        }
        Ok(())
    }

    fn failed(&self, error: &KafkaError) -> SqlError {
        let reason = self.producer.context().reason();
        let failure =
            SqlError::new(SqlState::CONNECTION_FAILURE, format!("topic \"{}\" does not take records: {error}", self.settings.topic));
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
            return failure.with_hint(TOO_LARGE);
        }
        if reason.is_empty() { failure } else { failure.with_detail(format!("{}.", reason.trim_end_matches('.'))) }
    }
}

impl SinkWriter for KafkaWriter {
    fn write(&mut self, step: SinkStep, changes: &ChangeBatch) -> Result<u64> {
        let places = self.encode_keys(changes)?;
        let found: Vec<Change> = if self.has_key && changes.weights.is_some() {
            changes::by_key(changes, &self.keys, &places)
        } else {
            changes::without_key(changes).collect()
        };
        let value = self.value.clone();
        let rows = value.bind(&changes.rows)?;
        let records = found.len() as u64;
        let mut record = std::mem::take(&mut self.record);
        for change in found {
            record.clear();
            let row = match change {
                Change::New(row) | Change::Gone(row) | Change::Replaced { new: row, .. } => row,
            };
            let payload = match (self.mode, change) {
                (SinkMode::Upsert, Change::Gone(_)) => None,
                (SinkMode::Changelog, change) => {
                    let RecordRows::Json(rows) = &rows else { return Err(SqlError::internal("envelopes are of JSON")) };
                    debezium::encode::write(change, rows, step.now, &mut record);
                    Some(&record[..])
                }
                _ => {
                    rows.write(row, &mut record)?;
                    Some(&record[..])
                }
            };
            let key = places.get(row).map(|place| &self.keys[place.clone()]);
            self.send(key, payload)?;
        }
        self.record = record;
        self.written = Some(step.number);
        self.producer.poll(Duration::ZERO);
        self.check()?;
        Ok(records)
    }

    fn flush(&mut self, _all: bool) -> Result<Option<u64>> {
        let mut waits = Instant::now();
        while let Err(error) = self.producer.flush(TICK) {
            let is_late = matches!(error, KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
            if !is_late {
                return Err(self.failed(&error));
            }
            self.check_waiting(&mut waits)?;
        }
        self.check()?;
        Ok(self.written)
    }
}

/// What becomes of the records.
#[derive(Default)]
struct Deliveries {
    monitor: Option<Arc<dyn SinkMonitor>>,
    failed: Mutex<Option<KafkaError>>,
    /// What librdkafka last said about a broker.
    reason: Mutex<String>,
    troubled: AtomicBool,
}

impl Deliveries {
    fn reason(&self) -> String {
        self.reason.lock().clone()
    }

    /// Told until a record is delivered again.
    fn trouble(&self, problem: String) {
        self.troubled.store(true, Ordering::Relaxed);
        if let Some(monitor) = &self.monitor {
            monitor.report(Some(problem));
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.reason.lock() = reason.to_string();
            return;
        }
        let last = self.reason();
        self.trouble(format!("no Kafka broker answers: {}", if last.is_empty() { reason } else { &last }));
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        match result {
            Err((error, _)) => {
                self.failed.lock().get_or_insert_with(|| error.clone());
            }
            Ok(_) => {
                if self.troubled.swap(false, Ordering::Relaxed)
                    && let Some(monitor) = &self.monitor
                {
                    monitor.report(None);
                }
            }
        }
    }
}
