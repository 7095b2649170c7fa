//! What goes on around a reader's records: trouble that has not passed yet, the connection's health, whether the topic is still the one that
//! is read, partitions that come up meanwhile, and where partitions end. One thread per reader, which alone asks brokers such things; it decodes
//! nothing, and is not held up when the sink is full.

use super::client::{Settings, trace};
use super::identity::{Named, ask};
use super::queue::last_known_end;
use crossbeam_channel::Sender;
use eddyline_common::connector::*;
use eddyline_common::{Offset, PartitionId, Result, SqlError};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaRespErr;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the thread serves the client's events before it looks around.
const TICK: Duration = Duration::from_millis(50);
/// How long a question to brokers may take.
pub const PROBE: Duration = Duration::from_millis(500);
/// The same where they were away: while a question waits, librdkafka connects again at half of `reconnect.backoff.ms`, whatever the back-off has come
/// to. What is connected by then is found by the next one.
const PROBE_AWAY: Duration = Duration::from_millis(250);
/// Between questions to brokers that are away.
const PROBE_AGAIN: Duration = Duration::from_secs(1);
/// How long brokers may take to say which topic it is, before anything is read.
const IDENTIFIED_WITHIN: Duration = Duration::from_secs(1);
/// How often brokers are asked whether the topic is still the one that is read. What is read of another one until then is in views.
const IDENTIFY_AGAIN: Duration = Duration::from_secs(2);
/// After a search for partitions that failed: a new one may still have no leader.
const SEARCH_AGAIN: Duration = Duration::from_secs(1);
/// How often the sink hears where partitions end.
const NOTE_ENDS: Duration = Duration::from_secs(1);

/// Whose trouble it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// A thread of the reader has ended.
    Reader,
    Connection,
    Topic,
    Partition(i32),
}

/// Trouble that has not passed yet. The sink hears of the first of them, whenever that is another one, and of the end of the last.
pub struct Problems {
    sink: Arc<dyn BatchSink>,
    open: Mutex<BTreeMap<Scope, String>>,
    /// What librdkafka last said about a broker.
    connection: Mutex<String>,
}

impl Problems {
    pub fn new(sink: Arc<dyn BatchSink>) -> Arc<Self> {
        Arc::new(Problems { sink, open: Mutex::default(), connection: Mutex::default() })
    }

    /// Each reason is logged once: by the sink if it hears of it.
    pub fn set(&self, scope: Scope, reason: String) {
        let mut open = self.open.lock();
        if open.get(&scope) == Some(&reason) {
            return;
        }
        let told = open.values().next().cloned();
        let is_new = !open.values().any(|other| *other == reason);
        open.insert(scope, reason.clone());
        if !self.tell(&open, told) && is_new {
            tracing::warn!("{reason}");
        }
    }

    pub fn clear(&self, scope: Scope) {
        let mut open = self.open.lock();
        let told = open.values().next().cloned();
        if open.remove(&scope).is_some() {
            self.tell(&open, told);
        }
    }

    /// Whether the sink heard something that it was not told before.
    fn tell(&self, open: &BTreeMap<Scope, String>, told: Option<String>) -> bool {
        let first = open.values().next().cloned();
        let is_news = first != told;
        if is_news {
            self.sink.report(first);
        }
        is_news
    }

    pub fn any(&self) -> bool {
        !self.open.lock().is_empty()
    }

    pub fn has(&self, scope: Scope) -> bool {
        self.open.lock().contains_key(&scope)
    }
}

/// Hears what librdkafka says of the connection.
pub struct Watch(pub Arc<Problems>);

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode::*;
        match error.rdkafka_error_code() {
            Some(AllBrokersDown) => {
                let last = self.0.connection.lock().clone();
                self.0.set(Scope::Connection, format!("no Kafka broker answers: {}", if last.is_empty() { reason } else { &last }));
            }
            Some(Authentication | SSL | TopicAuthorizationFailed) => self.0.set(Scope::Connection, format!("Kafka: {reason}")),
            // Whether the topic is there is asked for.
            Some(UnknownTopicOrPartition | UnknownTopic) => {}
            _ => *self.0.connection.lock() = reason.to_string(),
        }
    }
}

impl ConsumerContext for Watch {}

/// Looks for partitions that the reader does not have, and deals them to its workers.
pub struct Discovery {
    interval: Duration,
    due: Instant,
    workers: Vec<Sender<PartitionRange>>,
}

impl Discovery {
    /// The first search is at once: partitions may have come up while nobody read.
    pub fn new(interval: Duration, workers: Vec<Sender<PartitionRange>>) -> Self {
        Discovery { interval, due: Instant::now(), workers }
    }

    fn search_if_due(&mut self, settings: &Settings, client: &BaseConsumer<Watch>, known: &mut BTreeSet<i32>) {
        if Instant::now() < self.due {
            return;
        }
        let found = self.search(settings, client, known);
        self.due = Instant::now() + if found.is_ok() { self.interval } else { SEARCH_AGAIN.min(self.interval) };
        if let Err(error) = found {
            tracing::debug!(topic = settings.topic, "new partitions cannot be looked for: {error}");
        }
    }

    fn search(&self, settings: &Settings, client: &BaseConsumer<Watch>, known: &mut BTreeSet<i32>) -> KafkaResult<()> {
        let metadata = client.fetch_metadata(Some(&settings.topic), PROBE)?;
        let topic = metadata.topics().iter().find(|t| t.name() == settings.topic && t.error().is_none());
        let there: Vec<i32> = topic.iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
        for partition in there.into_iter().filter(|p| !known.contains(p)).collect::<Vec<_>>() {
            let (first, _) = client.fetch_watermarks(&settings.topic, partition, PROBE)?;
            tracing::info!(topic = settings.topic, partition, offset = first, "a new partition is read");
            let range = PartitionRange { partition: PartitionId(partition), start: Offset(first), end: None };
            let worker = &self.workers[known.len() % self.workers.len()];
            // A worker that is gone takes the whole reader with it.
            let _gone = worker.send(range);
            known.insert(partition);
        }
        Ok(())
    }
}

/// One reader's thread beside its workers.
pub struct Watcher {
    settings: Arc<Settings>,
    client: Arc<BaseConsumer<Watch>>,
    topic: CString,
    /// Those that are read.
    partitions: BTreeSet<i32>,
    /// When the sink last heard where they end.
    noted: Instant,
    problems: Arc<Problems>,
    pub discovery: Option<Discovery>,
    /// Whether the topic must be the one that was read before: what has an end, and was never begun, is of what is there now.
    pub identifies: bool,
    /// Dropped once workers may begin: it is known which topic it is, or brokers that answer do not tell.
    pub begins: Option<Sender<Infallible>>,
    stop: Arc<AtomicBool>,
    /// When brokers that are away were last asked.
    probed: Instant,
    /// When they were last asked which topic it is.
    identified: Instant,
    /// They said that there is none. That is believed when they say it twice: one that has only just started may not know its topics yet.
    is_missing: bool,
}

impl Watcher {
    pub fn new(
        settings: Arc<Settings>,
        client: Arc<BaseConsumer<Watch>>,
        partitions: BTreeSet<i32>,
        problems: Arc<Problems>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        let now = Instant::now();
        Ok(Watcher {
            topic: CString::new(settings.topic.as_str()).map_err(SqlError::internal)?,
            settings,
            client,
            partitions,
            noted: now,
            problems,
            discovery: None,
            identifies: false,
            begins: None,
            stop,
            probed: now,
            identified: now,
            is_missing: false,
        })
    }

    /// Asks what there is to ask, and serves the client's events.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::SeqCst) && !self.problems.sink.is_closed() {
            if self.problems.has(Scope::Connection) {
                self.probe();
            } else if self.begins.is_some() {
                self.begin();
            } else {
                self.look_around();
            }
            self.note_ends();
            self.client.poll(TICK);
        }
    }

    fn note_ends(&mut self) {
        if self.noted.elapsed() < NOTE_ENDS {
            return;
        }
        self.noted = Instant::now();
        for partition in &self.partitions {
            if let Some(end) = last_known_end(&self.client, &self.topic, *partition) {
                self.problems.sink.note_end(PartitionId(*partition), Offset(end));
            }
        }
    }

    /// Before anything is read.
    fn begin(&mut self) {
        let Some(_turn) = self.settings.asking.enter(Duration::ZERO) else { return };
        match self.client.fetch_metadata(Some(&self.settings.topic), PROBE) {
            Ok(_) => {
                self.identify(IDENTIFIED_WITHIN);
                self.begins = None;
            }
            Err(error) => {
                self.probed = Instant::now();
                self.problems.set(Scope::Connection, format!("no Kafka broker answers: {error}"));
            }
        }
    }

    /// Asks brokers that are away whether they have come back.
    fn probe(&mut self) {
        if self.probed.elapsed() < PROBE_AGAIN {
            return;
        }
        let Some(_turn) = self.settings.asking.enter(Duration::ZERO) else { return };
        let answered = self.client.fetch_metadata(Some(&self.settings.topic), PROBE_AWAY);
        self.probed = Instant::now();
        let Ok(metadata) = answered else { return };
        // Whether the topic is there is another question.
        let is_denied = |t: &MetadataTopic| t.error() == Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
        if metadata.topics().iter().any(|t| t.name() == self.settings.topic && !is_denied(t)) {
            self.problems.clear(Scope::Connection);
            self.is_missing = false;
        }
    }

    fn look_around(&mut self) {
        if self.identified.elapsed() >= IDENTIFY_AGAIN {
            self.identify(PROBE);
        }
        if self.settings.identity.replaced().is_some() {
            self.discovery = None;
        }
        if let Some(discovery) = &mut self.discovery {
            discovery.search_if_due(&self.settings, &self.client, &mut self.partitions);
        }
    }

    /// Whether the topic is there, and is still the one that is read.
    fn identify(&mut self, within: Duration) {
        let topic = &self.settings.topic;
        match self.named(within) {
            Ok(Named::Nothing) if self.is_missing => self.problems.set(Scope::Topic, self.settings.deleted_topic()),
            Ok(Named::Nothing) => self.is_missing = true,
            Ok(Named::Topic(id)) => {
                self.is_missing = false;
                if let Some(found) = id.filter(|_| self.identifies) {
                    self.settings.identity.compare(topic, found);
                }
                self.found();
            }
            Err(error) => tracing::debug!(topic, "it cannot be asked for: {error}"),
        }
        self.identified = Instant::now();
    }

    /// One broker alone is asked for ids. Where it does not answer, the others say at least whether there is such a topic.
    fn named(&self, within: Duration) -> KafkaResult<Named> {
        let topic = &self.settings.topic;
        ask(&self.client, topic, within).or_else(|error| {
            tracing::debug!(topic, "its id cannot be asked for: {error}");
            let metadata = self.client.fetch_metadata(Some(topic), within)?;
            let is_missing = |t: &MetadataTopic| t.error() == Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
            let is_there = metadata.topics().iter().any(|t| t.name() == topic && !is_missing(t));
            Ok(if is_there { Named::Topic(None) } else { Named::Nothing })
        })
    }

    /// A topic of the name is there. If it was away and is another one now, the trouble is not over.
    fn found(&self) {
        match self.settings.identity.replaced() {
            Some(reason) if self.problems.has(Scope::Topic) => self.problems.set(Scope::Topic, reason),
            _ => self.problems.clear(Scope::Topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CollectingSink;

    #[test]
    fn the_first_trouble_is_told_and_nothing_twice() {
        let sink = CollectingSink::new(1);
        let problems = Problems::new(sink.clone());
        problems.set(Scope::Partition(1), "a".to_string());
        problems.set(Scope::Partition(2), "b".to_string());
        problems.set(Scope::Topic, "gone".to_string());
        problems.set(Scope::Topic, "gone".to_string());
        problems.clear(Scope::Partition(1));
        assert!(problems.has(Scope::Topic) && !problems.has(Scope::Partition(1)));
        problems.set(Scope::Topic, "b".to_string());
        // The same is told of the partition.
        problems.clear(Scope::Topic);
        assert!(problems.any());
        problems.clear(Scope::Partition(2));
        assert_eq!(sink.problems(), [Some("a"), Some("gone"), Some("b"), None].map(|problem| problem.map(str::to_string)));
    }
}
