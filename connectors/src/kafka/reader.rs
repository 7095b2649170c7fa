//! Reader threads. Each takes records of its partitions from a queue of its own, decodes them and passes on a batch
//! per partition as soon as the queue is empty or the batch is full. A full sink blocks the thread, the queue fills to
//! its bound, and librdkafka stops fetching. Trouble is reported, librdkafka retries with back-off, and the next good
//! answer reports that all is well. Offsets that are gone are never skipped without a word: see `out_of_range`. The offsets of a topic that was
//! made anew mean other records, so that it is not read on. Its id tells (`identity`), for which `watch` asks before anything is read and every so
//! often; and a partition that ends before the offset wanted.

use super::client::Settings;
use super::queue::{Event, Record, RecordQueue};
use super::record::{PartitionBuffer, RECORDS_MAX, RecordLayout};
use super::watch::{Discovery, PROBE, Problems, Scope, Watch, Watcher};
use crate::threads;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};
use eddyline_common::connector::*;
use eddyline_common::{Result, options};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
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
/// Between attempts at a schema that cannot be had.
const PREPARE_AGAIN: Duration = Duration::from_millis(500);

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
        let problems = Problems::new(sink.clone());
        let client = Arc::new(settings.consumer(workers, sink.bytes_max(), Watch(problems.clone()))?);
        let mut reader = KafkaReader { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        let mut senders = Vec::with_capacity(workers);
        let (begins, identified) = bounded(0);
        for index in 0..workers {
            let (sender, discovered) = unbounded();
            senders.push(sender);
            let mut worker = Worker {
                settings: settings.clone(),
                client: client.clone(),
                layout: layout.clone(),
                queue: RecordQueue::new(client.clone(), &settings.topic)?,
                partitions: HashMap::new(),
                discovered,
                identified: identified.clone(),
                retries: HashMap::new(),
                replaced: HashSet::new(),
                rests: false,
                problems: problems.clone(),
                sink: sink.clone(),
                stop: reader.stop.clone(),
            };
            for range in ranges.iter().skip(index).step_by(workers) {
                worker.partitions.insert(range.partition.0, PartitionBuffer::new(layout, *range)?);
            }
            reader.spawn("kafka-read", problems.clone(), move || worker.run())?;
        }
        let is_endless = workers > 0 && ranges.iter().all(|r| r.end.is_none());
        let discovery = settings.discovery.filter(|_| is_endless).map(|interval| Discovery::new(interval, senders));
        let identifies = is_endless || settings.identity.is_known();
        let partitions = ranges.iter().map(|r| r.partition.0).collect();
        let mut watcher = Watcher::new(settings, client, partitions, problems.clone(), reader.stop.clone())?;
        (watcher.discovery, watcher.identifies, watcher.begins) = (discovery, identifies, identifies.then_some(begins));
        reader.spawn("kafka-watch", problems, move || watcher.run())?;
        Ok(reader)
    }

    fn spawn(&mut self, name: &str, problems: Arc<Problems>, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.threads.push(threads::spawn(name, work, move |problem| problems.set(Scope::Reader, problem))?);
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

struct Worker {
    settings: Arc<Settings>,
    client: Arc<BaseConsumer<Watch>>,
    layout: Arc<RecordLayout>,
    queue: RecordQueue<Watch>,
    /// Partitions that are not read to their end.
    partitions: HashMap<i32, PartitionBuffer>,
    /// Partitions that came up while the reader was at work.
    discovered: Receiver<PartitionRange>,
    /// Ends once it is known which topic is read.
    identified: Receiver<Infallible>,
    /// When to ask again for a partition whose fetching failed.
    retries: HashMap<i32, Instant>,
    /// Partitions that are not the ones that were read before. They stay in trouble.
    replaced: HashSet<i32>,
    /// The topic is gone.
    rests: bool,
    problems: Arc<Problems>,
    sink: Arc<dyn BatchSink>,
    stop: Arc<AtomicBool>,
}

/// Nobody wants more.
struct Closed;

impl Worker {
    fn run(mut self) {
        while let Err(RecvTimeoutError::Timeout) = self.identified.recv_timeout(WAIT) {
            if self.stop.load(Ordering::SeqCst) || self.sink.is_closed() {
                return;
            }
        }
        self.leave_if_replaced();
        self.begin();
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
            self.leave_if_replaced();
            self.rest_while_gone();
            if self.rests {
                records.clear();
            }
            if self.accept(&mut records).is_err() || self.flush().is_err() {
                return;
            }
            self.retry();
            self.adopt();
        }
    }

    /// Another topic has the name now: none of its partitions is read.
    fn leave_if_replaced(&mut self) {
        let Some(reason) = self.settings.identity.replaced() else { return };
        let read: Vec<i32> = self.partitions.keys().copied().filter(|partition| !self.replaced.contains(partition)).collect();
        for partition in read {
            self.leave(partition, &reason);
            self.problems.set(Scope::Partition(partition), reason.clone());
        }
    }

    /// Nothing is taken of a topic that is gone: what has its name next may be another one.
    fn rest_while_gone(&mut self) {
        let is_gone = self.problems.has(Scope::Topic);
        if is_gone == self.rests {
            return;
        }
        self.rests = is_gone;
        self.retries.clear();
        for partition in self.partitions.keys().copied().filter(|partition| !self.replaced.contains(partition)) {
            self.queue.stop(partition);
            if !is_gone {
                self.retries.insert(partition, Instant::now());
            }
        }
    }

    fn begin(&mut self) {
        let known = self.settings.replaced.lock().clone();
        for (partition, buffer) in self.partitions.iter().filter(|(_, buffer)| !buffer.is_done()) {
            if self.replaced.contains(partition) {
                continue;
            }
            // A bounded range may be one of what is there now.
            if let Some(reason) = known.get(partition).filter(|_| buffer.range.end.is_none()) {
                self.replaced.insert(*partition);
                self.problems.set(Scope::Partition(*partition), reason.clone());
            } else if let Err(error) = self.queue.start(*partition, buffer.position()) {
                self.problems.set(Scope::Partition(*partition), error.to_string());
                self.retries.insert(*partition, Instant::now() + RETRY);
            }
        }
    }

    /// Begins to read partitions that were discovered.
    fn adopt(&mut self) {
        while let Ok(range) = self.discovered.try_recv() {
            let partition = range.partition.0;
            let started = PartitionBuffer::new(&self.layout, range).and_then(|buffer| {
                self.partitions.insert(partition, buffer);
                self.queue.start(partition, range.start.0)
            });
            if let Err(error) = started {
                self.problems.set(Scope::Partition(partition), error.to_string());
                self.retries.insert(partition, Instant::now() + RETRY);
            }
        }
    }

    fn accept(&mut self, records: &mut Vec<Record>) -> Result<(), Closed> {
        let troubled = self.problems.any() || !self.retries.is_empty();
        for record in records.drain(..) {
            let partition = record.partition();
            if self.replaced.contains(&partition) {
                continue;
            }
            if matches!(record.event(), Event::Record) {
                self.prepare(partition, &record)?;
            }
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

    /// Waits until a record can be decoded: its schema may be somewhere that does not answer.
    fn prepare(&mut self, partition: i32, record: &Record) -> Result<(), Closed> {
        let mut waited = false;
        while let Some(buffer) = self.partitions.get_mut(&partition)
            && let Err(error) = buffer.prepare(record)
        {
            waited = true;
            self.problems.set(Scope::Partition(partition), error.to_string());
            std::thread::sleep(PREPARE_AGAIN);
            if self.stop.load(Ordering::SeqCst) || self.sink.is_closed() {
                return Err(Closed);
            }
        }
        if waited {
            self.problems.clear(Scope::Partition(partition));
        }
        Ok(())
    }

    fn failed(&mut self, partition: i32, code: RDKafkaErrorCode, reason: &str) {
        self.retries.insert(partition, Instant::now() + RETRY);
        let reason = match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => match self.out_of_range(partition, reason) {
                Some(reason) => reason,
                None => return,
            },
            _ => format!("partition {partition}: {reason}"),
        };
        self.problems.set(Scope::Partition(partition), reason);
    }

    /// The broker does not have the offset wanted. What to report; `None` if the source is to go on without what is gone.
    fn out_of_range(&mut self, partition: i32, reason: &str) -> Option<String> {
        let topic = &self.settings.topic;
        let skips_lost = self.settings.skips_lost || self.sink.reads_what_is_there();
        let buffer = self.partitions.get_mut(&partition)?;
        let wanted = buffer.position();
        let absent = format!("partition {partition} of topic \"{topic}\" does not have offset {wanted}");
        match self.client.fetch_watermarks(topic, partition, PROBE) {
            Ok((earliest, _)) if wanted < earliest && skips_lost => {
                let reason = format!("offsets {wanted} to {} were removed from the topic before they were read", earliest - 1);
                tracing::warn!(topic, partition, "{reason}; going on at {earliest}");
                buffer.skip_to(earliest, reason);
                self.retries.insert(partition, Instant::now());
                None
            }
            Ok((earliest, _)) if wanted < earliest => Some(format!(
                "{absent} any more, the earliest is {earliest}: records were removed before they were read. HINT: The source waits here. \
                 Drop and create it again to begin with what is left, or with \"{}\" = 'skip' to go on without what is gone.",
                options::LOST_OFFSETS
            )),
            Ok((_, end)) if wanted > end => {
                let reason = format!(
                    "{absent}, it ends at {end}: the topic is not the one that was read before. HINT: The source waits here. If the topic \
                     was deleted and created again, drop the source and create it again too."
                );
                self.leave(partition, &reason);
                Some(reason)
            }
            Ok(_) => Some(format!("partition {partition}: {reason}")),
            Err(error) => Some(format!("{absent} any more (or not yet): {error}")),
        }
    }

    /// Reads a partition no more, nor does a later reader that would go on with it.
    fn leave(&mut self, partition: i32, reason: &str) {
        self.settings.replaced.lock().insert(partition, reason.to_string());
        self.replaced.insert(partition);
        self.retries.remove(&partition);
        self.queue.stop(partition);
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
            Ok(Some(mut batch)) => {
                if buffer.range.end.is_none() {
                    batch.notes.extend(self.settings.identity.note(batch.partition, batch.start));
                }
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
