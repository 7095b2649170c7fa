//! What goes on around a reader's records: trouble that has not passed yet, the connection's health, whether the topic is still the one that
//! is read, and partitions that come up meanwhile. One thread per reader; it decodes nothing.

use super::client::{Settings, trace};
use super::identity::ask;
use crossbeam_channel::Sender;
use eddyline_common::connector::*;
use eddyline_common::{Offset, PartitionId};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the thread serves the client's events before it looks around.
const TICK: Duration = Duration::from_millis(50);
/// How long a question to brokers may take.
pub const PROBE: Duration = Duration::from_millis(500);
/// The same where they were away: while a question waits, librdkafka connects again at half of `reconnect.backoff.ms`, whatever the back-off has come
/// to. What is connected by then is found by the next one.
pub const PROBE_AWAY: Duration = Duration::from_millis(250);
/// Between questions to brokers that are away.
pub const PROBE_AGAIN: Duration = Duration::from_secs(1);
/// How often brokers are asked whether the topic is still the one that is read. What is read of another one until then is in views.
const IDENTIFY_AGAIN: Duration = Duration::from_secs(2);
/// After a search for partitions that failed: a new one may still have no leader.
const SEARCH_AGAIN: Duration = Duration::from_secs(1);

/// Whose trouble it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Connection,
    Partition(i32),
}

/// Trouble that has not passed yet. The sink hears of the first of them, and of the end of the last.
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

    pub fn set(&self, scope: Scope, reason: String) {
        let mut open = self.open.lock();
        if open.get(&scope) != Some(&reason) {
            tracing::warn!("{reason}");
            open.insert(scope, reason);
            self.sink.report(open.values().next().cloned());
        }
    }

    pub fn clear(&self, scope: Scope) {
        let mut open = self.open.lock();
        if open.remove(&scope).is_some() {
            self.sink.report(open.values().next().cloned());
        }
    }

    pub fn any(&self) -> bool {
        !self.open.lock().is_empty()
    }

    fn has(&self, scope: Scope) -> bool {
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
            Some(Authentication | SSL | TopicAuthorizationFailed | UnknownTopicOrPartition | UnknownTopic) => {
                self.0.set(Scope::Connection, format!("Kafka: {reason}"));
            }
            _ => *self.0.connection.lock() = reason.to_string(),
        }
    }
}

impl ConsumerContext for Watch {}

/// Looks for partitions that the reader does not have, and deals them to its workers.
pub struct Discovery {
    interval: Duration,
    due: Instant,
    known: BTreeSet<i32>,
    workers: Vec<Sender<PartitionRange>>,
}

impl Discovery {
    /// The first search is at once: partitions may have come up while nobody read.
    pub fn new(interval: Duration, known: impl Iterator<Item = i32>, workers: Vec<Sender<PartitionRange>>) -> Self {
        Discovery { interval, due: Instant::now(), known: known.collect(), workers }
    }

    fn search_if_due(&mut self, settings: &Settings, client: &BaseConsumer<Watch>) {
        if Instant::now() < self.due {
            return;
        }
        let found = self.search(settings, client);
        self.due = Instant::now() + if found.is_ok() { self.interval } else { SEARCH_AGAIN.min(self.interval) };
        if let Err(error) = found {
            tracing::debug!(topic = settings.topic, "new partitions cannot be looked for: {error}");
        }
    }

    fn search(&mut self, settings: &Settings, client: &BaseConsumer<Watch>) -> KafkaResult<()> {
        let metadata = client.fetch_metadata(Some(&settings.topic), PROBE)?;
        let topic = metadata.topics().iter().find(|t| t.name() == settings.topic && t.error().is_none());
        let there: Vec<i32> = topic.iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
        for partition in there.into_iter().filter(|p| !self.known.contains(p)).collect::<Vec<_>>() {
            let (first, _) = client.fetch_watermarks(&settings.topic, partition, PROBE)?;
            tracing::info!(topic = settings.topic, partition, offset = first, "a new partition is read");
            let range = PartitionRange { partition: PartitionId(partition), start: Offset(first), end: None };
            let worker = &self.workers[self.known.len() % self.workers.len()];
            // A worker that is gone takes the whole reader with it.
            let _gone = worker.send(range);
            self.known.insert(partition);
        }
        Ok(())
    }
}

/// Serves the client's events, and while the connection is in trouble asks whether it has come back.
pub fn watch(settings: &Settings, client: &BaseConsumer<Watch>, problems: &Problems, mut discovery: Option<Discovery>, stop: &AtomicBool) {
    let (mut probed, mut identified) = (Instant::now(), Instant::now());
    while !stop.load(Ordering::SeqCst) && !problems.sink.is_closed() {
        client.poll(TICK);
        let is_away = problems.has(Scope::Connection);
        if !is_away && settings.identity.is_known() && identified.elapsed() >= IDENTIFY_AGAIN {
            if let Ok(Some(found)) = ask(client, &settings.topic, PROBE) {
                settings.identity.compare(&settings.topic, found);
            }
            identified = Instant::now();
        }
        if settings.identity.replaced().is_some() {
            discovery = None;
        }
        if !is_away {
            discovery.iter_mut().for_each(|d| d.search_if_due(settings, client));
        } else if probed.elapsed() >= PROBE_AGAIN {
            let answered = client.fetch_metadata(Some(&settings.topic), PROBE_AWAY);
            probed = Instant::now();
            if answered.is_ok_and(|metadata| metadata.topics().iter().any(|t| t.name() == settings.topic && t.error().is_none())) {
                problems.clear(Scope::Connection);
            }
        }
    }
}
