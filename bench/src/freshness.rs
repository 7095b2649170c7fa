//! How old an event is when its row can be read: a producer process stamps events into Kafka, and this process looks rows of
//! a grouped view of a million keys up over pgwire.
//!
//! A sample is one event, chosen beforehand, every ten milliseconds. One query after the other, at most one every five
//! milliseconds, asks for the keys of all samples that are due; the sample is the time of the answer that carries its stamp, less
//! the stamp. A stall counts for all events it delays, and both the pause between two queries and the time for which the producer
//! gathers a batch are part of the figure. Both processes read the same machine's clock.

use crate::kafka::Broker;
use crate::producer::{self, Producer, due_micros, key_of};
use crate::report::{Figure, Goal, millis, percentile, trace};
use crate::{Result, server};
use clap::Args;
use eddyline_common::runtime::{Clock, SystemClock};
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::{Client, Statement};

const GOAL_MEDIAN_MS: f64 = 15.0;
const GOAL_P99_MS: f64 = 50.0;
const CHECKPOINTS_MIN: i64 = 10;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// More than are ever due at once unless something stands still.
const KEYS_PER_LOOK_MAX: usize = 500;
/// The producer is up by then.
const LEAD: Duration = Duration::from_secs(2);
/// Events come, at the same rate, but are not sampled: clients connect, caches fill, and a broker of our own, whose JVM is new,
/// compiles what it runs most, which takes more of a core than the server under measurement does.
const WARM_UP: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);
const TOPIC: &str = "bench-event";

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    settings: server::Settings,
    /// A broker [default: one of its own, through scripts/kafka.sh]
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// How long events are sampled, after ten seconds in which they are not
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    #[arg(long, default_value_t = 2)]
    partitions: i32,
    #[command(flatten)]
    batching: producer::Batching,
    /// Prints a line per look: microseconds since 1970, how long the query took, events still awaited, the age of the oldest
    #[arg(long)]
    looks: bool,
}

pub async fn run(options: &Options) -> Result<()> {
    let (given, keys, partitions) = (options.bootstrap.clone(), options.keys, options.partitions);
    let filled = tokio::task::spawn_blocking(move || -> Result<(Broker, String)> {
        let broker = Broker::open(given.as_deref())?;
        let topic = format!("{TOPIC}-{}", std::process::id());
        broker.client().create_topic(&topic, partitions, &[])?;
        // Every key once, so that the view has its size before the run.
        for k in 0..keys {
            broker.client().send(&topic, (k % partitions as u64) as i32, None, Some(format!(r#"{{"k":{k},"stamp":0}}"#).as_bytes()));
        }
        broker.client().flush()?;
        Ok((broker, topic))
    });
    let (broker, topic) = filled.await??;
    let server = options.settings.start();
    let client = server.connect().await;
    let source = format!(
        "CREATE SOURCE event (k BIGINT, stamp BIGINT) WITH (connector = 'kafka', topic = '{topic}', \
         properties.bootstrap.servers = '{}', scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON",
        broker.client().bootstrap
    );
    let view = "CREATE MATERIALIZED VIEW latest AS SELECT k, COUNT(*) AS n, MAX(stamp) AS stamp FROM event GROUP BY k";
    server::execute(&client, &[&source, view]).await?;
    server::wait_for(&client, "SELECT count(*), sum(n) FROM latest", &[keys as i64, keys as i64], PATIENCE).await?;

    let start = SystemClock.now().micros() + LEAD.as_micros() as i64;
    let mut producer = Producer::spawn(&producer::Options {
        bootstrap: broker.client().bootstrap.clone(),
        topic,
        partitions: options.partitions,
        keys: options.keys,
        rate: options.rate,
        events: events(options),
        start_micros: start,
        batching: options.batching,
    })?;
    let (mut samples, checkpoints) = sample(&client, options, start).await?;
    tokio::task::spawn_blocking(move || producer.wait()).await??;
    let all = (options.keys + events(options)) as i64;
    server::wait_for(&client, "SELECT count(*), sum(n) FROM latest", &[keys as i64, all], PATIENCE).await?;
    samples.sort();
    print(&samples, checkpoints, options);
    tokio::task::spawn_blocking(move || drop(broker)).await?;
    if checkpoints < CHECKPOINTS_MIN {
        return Err(format!("only {checkpoints} checkpoints came inside the run, the figure asks for {CHECKPOINTS_MIN}").into());
    }
    Ok(())
}

fn print(samples: &[Duration], checkpoints: i64, options: &Options) {
    let figure = |name: &str, value: Duration, goal| Figure::new(format!("freshness, {name}"), millis(value), "ms", goal);
    let load = format!("{} events/s over {} keys, {} samples, {checkpoints} checkpoints", options.rate, options.keys, samples.len());
    figure("median", percentile(samples, 0.5), Goal::AtMost(GOAL_MEDIAN_MS)).beside(load).print();
    figure("p99", percentile(samples, 0.99), Goal::AtMost(GOAL_P99_MS)).print();
    figure("maximum", percentile(samples, 1.0), Goal::None).print();
}

/// Ids of checkpoints count up.
async fn newest_checkpoint(client: &Client) -> Result<i64> {
    let newest = server::integers(client, "SELECT max(checkpoint) FROM eddyline.checkpoints WHERE problem IS NULL").await?;
    Ok(newest.first().copied().unwrap_or_default())
}

/// How many the producer makes.
fn events(options: &Options) -> u64 {
    options.rate * (WARM_UP.as_secs() + options.seconds)
}

/// An event that is waited for.
struct Awaited {
    key: i64,
    /// Its stamp is this or later, in microseconds since 1970.
    due: i64,
}

/// Asks for the due events until all are seen. Also gives the number of checkpoints between the first and the last sample.
async fn sample(client: &Client, options: &Options, start: i64) -> Result<(Vec<Duration>, i64)> {
    let per_sample = (options.rate as u128 * SAMPLE_INTERVAL.as_micros() / 1_000_000).max(1) as usize;
    let first = options.rate * WARM_UP.as_secs();
    let sampled = (first..events(options)).step_by(per_sample);
    let mut coming = sampled.map(|i| Awaited { key: key_of(i, options.keys) as i64, due: start + due_micros(i, options.rate) }).peekable();
    until(start + due_micros(first, options.rate)).await;
    let before = newest_checkpoint(client).await?;
    let query = client.prepare("SELECT k, stamp FROM latest WHERE k = ANY($1)").await?;
    let (mut awaited, mut samples) = (Vec::new(), Vec::new());
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while coming.peek().is_some() || !awaited.is_empty() {
        looks.tick().await;
        let now = SystemClock.now().micros();
        awaited.extend(std::iter::from_fn(|| coming.next_if(|a| a.due <= now)));
        if let Some(oldest) = awaited.first().filter(|a| now - a.due > PATIENCE.as_micros() as i64) {
            return Err(format!("the event of key {} did not come", oldest.key).into());
        }
        look(client, &query, &mut awaited, &mut samples).await?;
        if options.looks {
            let after = SystemClock.now().micros();
            let age = awaited.first().map_or(0, |a| after - a.due);
            trace(&format!("look {now} query {} awaited {} age {age}", after - now, awaited.len()));
        }
    }
    Ok((samples, newest_checkpoint(client).await? - before))
}

/// Moves the events whose row is there to the samples.
async fn look(client: &Client, query: &Statement, awaited: &mut Vec<Awaited>, samples: &mut Vec<Duration>) -> Result<()> {
    if awaited.is_empty() {
        return Ok(());
    }
    let keys: Vec<i64> = awaited.iter().take(KEYS_PER_LOOK_MAX).map(|a| a.key).collect();
    let rows = client.query(query, &[&keys]).await?;
    let now = SystemClock.now().micros();
    let stamps: HashMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    awaited.retain(|a| match stamps.get(&a.key) {
        Some(stamp) if *stamp >= a.due => {
            samples.push(Duration::from_micros((now - stamp).max(0) as u64));
            false
        }
        _ => true,
    });
    Ok(())
}

async fn until(micros: i64) {
    tokio::time::sleep(Duration::from_micros((micros - SystemClock.now().micros()).max(0) as u64)).await;
}
