//! Test support, used by this crate's tests and by the end-to-end ones: a sink that collects, and a real Kafka
//! broker run by `scripts/kafka.sh`.

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use eddyline_common::connector::{BatchSink, SinkMonitor, SourceBatch};
use eddyline_common::{Offset, PartitionId};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A bounded sink that hands batches to a test.
pub struct CollectingSink {
    sender: Sender<SourceBatch>,
    receiver: Receiver<SourceBatch>,
    closed: AtomicBool,
    problems: Mutex<Vec<Option<String>>>,
    all_read: Mutex<Option<Offset>>,
    ends: Mutex<BTreeMap<PartitionId, Offset>>,
    /// As a query's does.
    reads_what_is_there: bool,
}

impl CollectingSink {
    /// A sink that holds at most `batches` that nobody has taken.
    pub fn new(batches: usize) -> Arc<Self> {
        Self::with(batches, false)
    }

    /// The same for a query, which does without what was removed from the source.
    pub fn of_a_query(batches: usize) -> Arc<Self> {
        Self::with(batches, true)
    }

    fn with(batches: usize, reads_what_is_there: bool) -> Arc<Self> {
        let (sender, receiver) = bounded(batches);
        let (problems, all_read, ends) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(CollectingSink { sender, receiver, closed: AtomicBool::new(false), problems, all_read, ends, reads_what_is_there })
    }

    /// The next batch, or `None` if none comes in time.
    pub fn next(&self, timeout: Duration) -> Option<SourceBatch> {
        self.receiver.recv_timeout(timeout).ok()
    }

    /// Batches that wait to be taken.
    pub fn waiting(&self) -> usize {
        self.receiver.len()
    }

    /// Everything reported so far, in order.
    pub fn problems(&self) -> Vec<Option<String>> {
        self.problems.lock().clone()
    }

    /// Up to where the reader has last said that it has read all there was.
    pub fn all_read(&self) -> Option<Offset> {
        *self.all_read.lock()
    }

    /// Where the reader has last said that a partition ends.
    pub fn end_of(&self, partition: PartitionId) -> Option<Offset> {
        self.ends.lock().get(&partition).copied()
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

impl BatchSink for CollectingSink {
    fn push(&self, batch: SourceBatch) -> bool {
        let mut batch = batch;
        loop {
            if self.is_closed() {
                return false;
            }
            match self.sender.send_timeout(batch, Duration::from_millis(10)) {
                Ok(()) => return true,
                Err(SendTimeoutError::Timeout(back)) => batch = back,
                Err(SendTimeoutError::Disconnected(_)) => return false,
            }
        }
    }

    fn report(&self, problem: Option<String>) {
        self.problems.lock().push(problem);
    }

    fn note_end(&self, partition: PartitionId, end: Offset) {
        self.ends.lock().insert(partition, end);
    }

    fn note_all_read(&self, _partition: PartitionId, end: Offset) {
        *self.all_read.lock() = Some(end);
    }

    fn reads_what_is_there(&self) -> bool {
        self.reads_what_is_there
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

/// Whom a sink's writer tells how it fares, where nobody looks.
pub struct Nobody;

impl SinkMonitor for Nobody {
    fn report(&self, _problem: Option<String>) {}

    fn is_closed(&self) -> bool {
        false
    }
}

/// How long the helpers wait for the broker.
const PATIENCE: Duration = Duration::from_secs(20);

/// A Kafka broker of one's own, with nothing in it. Stopped and removed when dropped. Topics and records through
/// the client it dereferences to.
pub struct KafkaBroker {
    client: KafkaClient,
    dir: PathBuf,
}

impl Deref for KafkaBroker {
    type Target = KafkaClient;

    fn deref(&self) -> &KafkaClient {
        &self.client
    }
}

impl KafkaBroker {
    /// Starts a broker on a free port. Fails with the script's reason where there can be none: no Java, no Maven, or
    /// no network on the first run.
    pub fn start() -> Result<KafkaBroker, String> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("eddyline-kafka-{}-{number}", std::process::id()));
        let started = script(&["start", "--dir", &dir.to_string_lossy()]);
        let port = started.inspect_err(|_| remove(&dir))?;
        let client = KafkaClient::new(format!("127.0.0.1:{port}"))?;
        Ok(KafkaBroker { client, dir })
    }

    /// Kills the broker as a crash would. Its data and port stay.
    pub fn kill(&self) {
        self.command(&["stop", "--kill"]);
    }

    /// Stops the broker in order.
    pub fn stop(&self) {
        self.command(&["stop"]);
    }

    /// Starts a stopped broker again, on the same port with the same data.
    pub fn restart(&self) {
        self.command(&["start"]);
    }

    fn command(&self, words: &[&str]) {
        let dir = self.dir.to_string_lossy();
        let words: Vec<&str> = words.iter().copied().chain(["--dir", &dir]).collect();
        if let Err(error) = script(&words) {
            tracing::error!("kafka.sh: {error}");
        }
    }
}

impl Drop for KafkaBroker {
    fn drop(&mut self) {
        self.kill();
        remove(&self.dir);
    }
}

/// Creates topics and produces records, at any broker.
pub struct KafkaClient {
    pub bootstrap: String,
    producer: BaseProducer,
}

impl KafkaClient {
    pub fn new(bootstrap: String) -> Result<Self, String> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &bootstrap).set("linger.ms", "2").set("batch.size", "262144");
        config.set("queue.buffering.max.messages", "1000000").set("queue.buffering.max.kbytes", "262144");
        let producer = config.create().map_err(|error| error.to_string())?;
        Ok(KafkaClient { bootstrap, producer })
    }

    /// Creates a topic with settings such as `("cleanup.policy", "compact")`, and waits until it can be used.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<(), String> {
        let admin: AdminClient<DefaultClientContext> = self.config().create().map_err(|error| error.to_string())?;
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        topic.config = settings.to_vec();
        let done = wait(admin.create_topics([&topic], &AdminOptions::new().operation_timeout(Some(PATIENCE))))?;
        let each = done.map_err(|error| error.to_string())?;
        each.into_iter().try_for_each(|result| result.map(drop).map_err(|(_, code)| code.to_string()))?;
        self.await_topic(name, partitions)
    }

    /// Adds partitions to a topic, so that it has `partitions` of them.
    pub fn add_partitions(&self, name: &str, partitions: i32) -> Result<(), String> {
        let admin: AdminClient<DefaultClientContext> = self.config().create().map_err(|error| error.to_string())?;
        let more = NewPartitions::new(name, partitions as usize);
        let done = wait(admin.create_partitions([&more], &AdminOptions::new().operation_timeout(Some(PATIENCE))))?;
        let each = done.map_err(|error| error.to_string())?;
        each.into_iter().try_for_each(|result| result.map(drop).map_err(|(_, code)| code.to_string()))?;
        self.await_topic(name, partitions)
    }

    /// Deletes a topic; what of that goes on behind the answer is not waited for.
    pub fn delete_topic(&self, name: &str) -> Result<(), String> {
        let admin: AdminClient<DefaultClientContext> = self.config().create().map_err(|error| error.to_string())?;
        let done = wait(admin.delete_topics(&[name], &AdminOptions::new().operation_timeout(Some(PATIENCE))))?;
        let each = done.map_err(|error| error.to_string())?;
        each.into_iter().try_for_each(|result| result.map(drop).map_err(|(_, code)| code.to_string()))
    }

    /// Deletes a topic and waits until it is gone, then creates it again, with nothing in it.
    pub fn recreate_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<(), String> {
        self.delete_topic(name)?;
        let begun = Instant::now();
        loop {
            match self.create_topic(name, partitions, settings) {
                // Deleting goes on behind the answer.
                Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
                created => return created,
            }
        }
    }

    fn await_topic(&self, name: &str, partitions: i32) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let metadata = self.producer.client().fetch_metadata(Some(name), PATIENCE).map_err(|error| error.to_string())?;
            let ready = |t: &MetadataTopic| t.partitions().len() == partitions as usize && t.partitions().iter().all(|p| p.leader() >= 0);
            if metadata.topics().iter().any(|t| t.error().is_none() && ready(t)) {
                return Ok(());
            }
            self.producer.poll(Duration::from_millis(20));
        }
        Err(format!("topic {name} did not come up"))
    }

    /// Deletes records before an offset, as retention would.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<(), String> {
        let admin: AdminClient<DefaultClientContext> = self.config().create().map_err(|error| error.to_string())?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, KafkaOffset::Offset(before)).map_err(|error| error.to_string())?;
        wait(admin.delete_records(&list, &AdminOptions::new()))?.map(drop).map_err(|error| error.to_string())
    }

    /// Puts a record into the producer's queue; `flush` makes sure of it.
    pub fn send(&self, topic: &str, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
        record.key = key;
        record.payload = value;
        self.send_record(record);
    }

    /// The same for a record with headers or a time.
    pub fn send_record(&self, mut record: BaseRecord<'_, [u8], [u8]>) {
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                // The queue is full: serve it.
                Err((_, back)) => record = back,
            }
            self.producer.poll(Duration::from_millis(10));
        }
    }

    /// Waits until everything sent is in the broker.
    pub fn flush(&self) -> Result<(), String> {
        self.producer.flush(PATIENCE).map_err(|error| error.to_string())
    }

    /// Produces values to one partition and waits until the broker has them.
    pub fn produce<V: AsRef<[u8]>>(&self, topic: &str, partition: i32, values: impl IntoIterator<Item = V>) -> Result<(), String> {
        values.into_iter().for_each(|value| self.send(topic, partition, None, Some(value.as_ref())));
        self.flush()
    }

    /// How many records a topic's partitions hold at present; those of open transactions count.
    pub fn records_in(&self, topic: &str) -> Result<i64, String> {
        let consumer: BaseConsumer = self.config().set("group.id", "records-in").create().map_err(|e| e.to_string())?;
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(|e| e.to_string())?;
        let partitions = metadata.topics().iter().flat_map(|t| t.partitions());
        let held = partitions.map(|p| consumer.fetch_watermarks(topic, p.id(), PATIENCE).map(|(low, high)| high - low));
        held.sum::<Result<i64, _>>().map_err(|e| e.to_string())
    }

    /// Everything in a topic, partition by partition in order: keys and values.
    pub fn read_all(&self, topic: &str) -> Result<Vec<(Option<Vec<u8>>, Option<Vec<u8>>)>, String> {
        let mut config = self.config();
        config.set("group.id", "tests").set("enable.partition.eof", "true").set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().map_err(|error| error.to_string())?;
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(|error| error.to_string())?;
        let partitions: Vec<i32> = metadata.topics().iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition_offset(topic, *partition, KafkaOffset::Beginning).map_err(|error| error.to_string())?;
        }
        consumer.assign(&list).map_err(|error| error.to_string())?;
        let mut records: BTreeMap<i32, Vec<(Option<Vec<u8>>, Option<Vec<u8>>)>> = BTreeMap::new();
        let mut ended = BTreeSet::new();
        let begun = Instant::now();
        while ended.len() < partitions.len() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("topic {topic} was not read to its end"));
            }
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok(record)) => {
                    let owned = (record.key().map(<[u8]>::to_vec), record.payload().map(<[u8]>::to_vec));
                    records.entry(record.partition()).or_default().push(owned);
                }
            }
        }
        Ok(records.into_values().flatten().collect())
    }

    /// Client settings for this broker, for a producer or consumer of a test's own.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!("{}: {error}", dir.display());
    }
}

/// Runs `scripts/kafka.sh` and gives what it prints.
fn script(words: &[&str]) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka.sh");
    let output = Command::new(path).args(words).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_string();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Drives one of rdkafka's futures, whose callbacks come from threads of its own.
fn wait<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    Ok(runtime.block_on(future))
}
