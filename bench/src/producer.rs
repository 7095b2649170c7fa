//! The process that stamps events into Kafka at a steady rate. Event `i` is due at `start + i / rate`, goes out no earlier,
//! and carries the wall-clock time of its sending; its key is a fixed permutation of `i`, so that whoever knows the start
//! knows which key is due when, without talking to the producer.

use crate::Result;
use clap::Args;
use eddyline_common::runtime::{Clock, SystemClock};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::fmt::Write;
use std::process::{Child, Command};
use std::time::Duration;

/// A prime that divides no power of ten: a step through the keys that visits each once.
const STRIDE: u64 = 7_368_787;
/// Events are sent in groups this far apart; adds at most as much to the time an event waits for its group, before its stamp.
const TICK: Duration = Duration::from_millis(1);
const FLUSH_WITHIN: Duration = Duration::from_secs(20);

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[arg(long)]
    pub bootstrap: String,
    #[arg(long)]
    pub topic: String,
    #[arg(long)]
    pub partitions: i32,
    #[arg(long)]
    pub keys: u64,
    /// Events per second
    #[arg(long)]
    pub rate: u64,
    #[arg(long)]
    pub events: u64,
    /// When event 0 is due, in microseconds since 1970
    #[arg(long)]
    pub start_micros: i64,
    #[command(flatten)]
    pub batching: Batching,
}

#[derive(Args, Clone, Copy, Debug)]
pub struct Batching {
    /// How long the producer gathers events for a batch, which is part of their age; 5 is what Kafka's clients have
    #[arg(long, default_value_t = 5.0)]
    pub linger_ms: f64,
}

/// That process, seen from the one that measures; killed if it is still there when this is dropped.
pub struct Producer(Child);

impl Producer {
    pub fn spawn(options: &Options) -> Result<Producer> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["produce", "--bootstrap", &options.bootstrap, "--topic", &options.topic]);
        let numbers = [
            ("--partitions", options.partitions as i64),
            ("--keys", options.keys as i64),
            ("--rate", options.rate as i64),
            ("--events", options.events as i64),
            ("--start-micros", options.start_micros),
        ];
        command.args(["--linger-ms", &options.batching.linger_ms.to_string()]);
        for (name, value) in numbers {
            command.args([name.to_string(), value.to_string()]);
        }
        Ok(Producer(command.spawn()?))
    }

    pub fn wait(&mut self) -> Result<()> {
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the producer ended with {status}").into()) }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // An error means that it has ended, which is what is wanted.
        let _ended = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// The key of event `i`.
pub fn key_of(i: u64, keys: u64) -> u64 {
    (i % keys) * STRIDE % keys
}

/// When event `i` is due, in microseconds since the start.
pub fn due_micros(i: u64, rate: u64) -> i64 {
    (i as u128 * 1_000_000 / rate as u128) as i64
}

pub fn run(options: &Options) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.bootstrap).set("linger.ms", options.batching.linger_ms.to_string()).set("acks", "1");
    let producer: BaseProducer = config.create()?;
    let clock = SystemClock;
    let mut line = String::with_capacity(64);
    let mut next = 0;
    while next < options.events {
        let now = clock.now().micros();
        while next < options.events && options.start_micros + due_micros(next, options.rate) <= now {
            line.clear();
            write!(line, r#"{{"k":{},"stamp":{}}}"#, key_of(next, options.keys), clock.now().micros())?;
            let partition = (next % options.partitions as u64) as i32;
            send(&producer, BaseRecord::to(&options.topic).partition(partition).payload(line.as_bytes()))?;
            next += 1;
        }
        producer.poll(Duration::ZERO);
        std::thread::sleep(TICK);
    }
    Ok(producer.flush(FLUSH_WITHIN)?)
}

fn send(producer: &BaseProducer, record: BaseRecord<'_, (), [u8]>) -> Result<()> {
    let mut record = record;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
            Err((error, _)) => return Err(error.into()),
        }
        producer.poll(TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_key_comes_once_in_a_round() {
        for keys in [10, 1_000, 100_000] {
            let seen: HashSet<u64> = (0..keys).map(|i| key_of(i, keys)).collect();
            assert_eq!(seen.len() as u64, keys);
        }
    }

    #[test]
    fn events_are_due_evenly() {
        assert_eq!((due_micros(0, 50_000), due_micros(1, 50_000), due_micros(50_000, 50_000)), (0, 20, 1_000_000));
    }
}
