//! Reader threads. Each takes records of its partitions from a queue of its own, decodes them and passes on a batch
//! per partition as soon as the queue is empty or the batch is full. A full sink blocks the thread, the queue fills to
//! its bound, and librdkafka stops fetching. One more thread watches the connection: trouble is reported,
//! librdkafka retries with back-off, and the next good answer reports that all is well.

use super::client::{Settings, trace};
use super::queue::{Event, Record, RecordQueue};
use super::record::{PartitionBuffer, RECORDS_MAX, RecordLayout};
use eddyline_common::Result;
use eddyline_common::connector::*;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread waits for a first record before it looks whether it should end.
const WAIT: Duration = Duration::from_millis(50);
/// How long it waits for more once it has one, so that a trickle does not come as a batch per record.
const LINGER: Duration = Duration::from_millis(1);
/// Between attempts at a partition whose offset the broker does not have.
const RETRY: Duration = Duration::from_secs(2);
/// Between probes of a broker that is away, and how long one may take.
const PROBE: Duration = Duration::from_millis(500);

pub struct KafkaReader {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl SourceReader for KafkaReader {}

impl KafkaReader {
    pub fn start(
        settings: Arc<Settings>,
        layout: &Arc<RecordLayout>,
        ranges: Vec<PartitionRange>,
        sink: Arc<dyn BatchSink>,
    ) -> Result<Self> {
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get()).min(ranges.len());
        let problems = Arc::new(Problems { sink: sink.clone(), open: Mutex::default(), connection: Mutex::default() });
        let client = Arc::new(settings.consumer(workers, Watch(problems.clone()))?);
        let mut reader = KafkaReader { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        for index in 0..workers {
            let mut worker = Worker {
                queue: RecordQueue::new(client.clone(), &settings.topic)?,
                partitions: HashMap::new(),
                retries: HashMap::new(),
                problems: problems.clone(),
                sink: sink.clone(),
                stop: reader.stop.clone(),
            };
            for range in ranges.iter().skip(index).step_by(workers) {
                worker.partitions.insert(range.partition.0, PartitionBuffer::new(layout, *range)?);
            }
            reader.spawn("kafka-read", move || worker.run())?;
        }
        let stop = reader.stop.clone();
        reader.spawn("kafka-watch", move || watch(&settings.topic, &client, &problems, &stop))?;
        Ok(reader)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.to_string()).spawn(work)?);
        Ok(())
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a Kafka reader thread panicked");
            }
        }
    }
}

/// Whose trouble it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Connection,
    Partition(i32),
}

/// Trouble that has not passed yet. The sink hears of the first of them, and of the end of the last.
struct Problems {
    sink: Arc<dyn BatchSink>,
    open: Mutex<BTreeMap<Scope, String>>,
    /// What librdkafka last said about a broker.
    connection: Mutex<String>,
}

impl Problems {
    fn set(&self, scope: Scope, reason: String) {
        let mut open = self.open.lock();
        if open.get(&scope) != Some(&reason) {
            tracing::warn!("{reason}");
            open.insert(scope, reason);
            self.sink.report(open.values().next().cloned());
        }
    }

    fn clear(&self, scope: Scope) {
        let mut open = self.open.lock();
        if open.remove(&scope).is_some() {
            self.sink.report(open.values().next().cloned());
        }
    }

    fn has(&self, scope: Scope) -> bool {
        self.open.lock().contains_key(&scope)
    }
}

/// Hears what librdkafka says of the connection.
struct Watch(Arc<Problems>);

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

/// Serves the client's events, and while the connection is in trouble asks whether it has come back.
fn watch(topic: &str, client: &BaseConsumer<Watch>, problems: &Problems, stop: &AtomicBool) {
    let mut probed = Instant::now();
    while !stop.load(Ordering::SeqCst) && !problems.sink.is_closed() {
        client.poll(WAIT);
        if problems.has(Scope::Connection) && probed.elapsed() >= PROBE {
            probed = Instant::now();
            let answered = client.fetch_metadata(Some(topic), PROBE);
            if answered.is_ok_and(|metadata| metadata.topics().iter().any(|t| t.name() == topic && t.error().is_none())) {
                problems.clear(Scope::Connection);
            }
        }
    }
}

struct Worker {
    queue: RecordQueue<Watch>,
    /// Partitions that are not read to their end.
    partitions: HashMap<i32, PartitionBuffer>,
    /// When to ask again for a partition whose fetching failed.
    retries: HashMap<i32, Instant>,
    problems: Arc<Problems>,
    sink: Arc<dyn BatchSink>,
    stop: Arc<AtomicBool>,
}

/// Nobody wants more.
struct Closed;

impl Worker {
    fn run(mut self) {
        for (partition, buffer) in &self.partitions {
            if !buffer.is_done()
                && let Err(error) = self.queue.start(*partition, buffer.position())
            {
                self.problems.set(Scope::Partition(*partition), error.to_string());
                self.retries.insert(*partition, Instant::now() + RETRY);
            }
        }
        let mut records = Vec::with_capacity(RECORDS_MAX);
        // Empty ranges are done before the first record.
        if self.flush().is_err() {
            return;
        }
        while !self.partitions.is_empty() && !self.stop.load(Ordering::SeqCst) && !self.sink.is_closed() {
            self.queue.take(1, WAIT, &mut records);
            if !records.is_empty() {
                self.queue.take(RECORDS_MAX - 1, LINGER, &mut records);
            }
            if self.accept(&mut records).is_err() || self.flush().is_err() {
                return;
            }
            self.retry();
        }
    }

    fn accept(&mut self, records: &mut Vec<Record>) -> Result<(), Closed> {
        let troubled = !self.problems.open.lock().is_empty();
        for record in records.drain(..) {
            let partition = record.partition();
            let Some(buffer) = self.partitions.get_mut(&partition) else { continue };
            match record.event() {
                Event::Record => buffer.push(&record),
                Event::EndOfPartition { offset } => {
                    buffer.advance_to(offset);
                    if let Some(end) = buffer.range.end.filter(|end| offset < end.0) {
                        let reason = format!("partition {partition} ends at offset {offset}, before {end}: its records are gone");
                        self.problems.set(Scope::Partition(partition), reason);
                    }
                }
                Event::Error { code, reason } => {
                    self.failed(partition, code, &reason);
                    continue;
                }
            }
            let full = buffer.is_full();
            if troubled {
                self.well(partition, &record);
            }
            if full {
                self.pass_on(partition)?;
            }
        }
        Ok(())
    }

    fn failed(&mut self, partition: i32, code: RDKafkaErrorCode, reason: &str) {
        let position = self.partitions.get(&partition).map_or(0, PartitionBuffer::position);
        let reason = match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                format!("partition {partition}: offset {position} is not in the topic any more (or not yet): {reason}")
            }
            _ => format!("partition {partition}: {reason}"),
        };
        self.problems.set(Scope::Partition(partition), reason);
        self.retries.insert(partition, Instant::now() + RETRY);
    }

    /// A record or an end of partition came: unless the end comes before the range's, all is well.
    fn well(&mut self, partition: i32, record: &Record) {
        self.problems.clear(Scope::Connection);
        let Some(buffer) = self.partitions.get(&partition) else { return };
        match (record.event(), buffer.range.end) {
            (Event::EndOfPartition { offset }, Some(end)) if offset < end.0 => {}
            _ => {
                self.retries.remove(&partition);
                self.problems.clear(Scope::Partition(partition));
            }
        }
    }

    /// Begins again, from where they stand, with partitions whose fetching ended in an error.
    fn retry(&mut self) {
        let now = Instant::now();
        let due: Vec<i32> = self.retries.iter().filter(|(_, at)| **at <= now).map(|(partition, _)| *partition).collect();
        for partition in due {
            self.retries.insert(partition, now + RETRY);
            let Some(buffer) = self.partitions.get(&partition) else { continue };
            self.queue.stop(partition);
            if let Err(error) = self.queue.start(partition, buffer.position()) {
                self.problems.set(Scope::Partition(partition), error.to_string());
            }
        }
    }

    /// Passes on every partition's batch, and lets go of partitions that are done.
    fn flush(&mut self) -> Result<(), Closed> {
        let partitions: Vec<i32> = self.partitions.keys().copied().collect();
        partitions.into_iter().try_for_each(|partition| self.pass_on(partition))
    }

    fn pass_on(&mut self, partition: i32) -> Result<(), Closed> {
        let Some(buffer) = self.partitions.get_mut(&partition) else { return Ok(()) };
        match buffer.take() {
            Ok(None) => {}
            Ok(Some(batch)) => {
                if !self.sink.push(batch) {
                    return Err(Closed);
                }
            }
            // Building arrays from checked values cannot fail; if it does, stop rather than skip records.
            Err(error) => {
                self.problems.set(Scope::Partition(partition), error.to_string());
                return Err(Closed);
            }
        }
        if self.partitions.get(&partition).is_some_and(PartitionBuffer::is_done) {
            self.queue.stop(partition);
            self.partitions.remove(&partition);
            self.retries.remove(&partition);
        }
        Ok(())
    }
}
