//! How old an event is when its row can be read: a producer process stamps events into Kafka, and this process looks rows of
//! a grouped view of a million keys up over pgwire.
//!
//! A sample is one event, chosen beforehand, every ten milliseconds. From the moment it is due its key is looked up every
//! two milliseconds until the row carries the event's stamp; the sample is the time of that answer less the stamp. Samples
//! run independently of each other, so that a stall counts for all events it delays, and the pause between two looks is part of
//! the figure. Both processes read the same machine's clock.

use crate::kafka::Broker;
use crate::producer::{due_micros, key_of};
use crate::report::{Figure, Goal, millis, percentile};
use crate::{Result, server};
use clap::Args;
use eddyline_common::runtime::{Clock, SystemClock};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::{Client, Statement};

const GOAL_MEDIAN_MS: f64 = 15.0;
const GOAL_P99_MS: f64 = 50.0;
const CHECKPOINTS_MIN: i64 = 10;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// The producer is up by then.
const LEAD: Duration = Duration::from_secs(2);
/// The first second is not sampled: clients connect, caches fill.
const WARM_UP: Duration = Duration::from_secs(1);
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
    /// How long the producer runs
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    #[arg(long, default_value_t = 2)]
    partitions: i32,
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
    let client = Arc::new(server.connect().await);
    let source = format!(
        "CREATE SOURCE event (k BIGINT, stamp BIGINT) WITH (connector = 'kafka', topic = '{topic}', \
         properties.bootstrap.servers = '{}', scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON",
        broker.client().bootstrap
    );
    let view = "CREATE MATERIALIZED VIEW latest AS SELECT k, COUNT(*) AS n, MAX(stamp) AS stamp FROM event GROUP BY k";
    server::execute(&client, &[&source, view]).await?;
    server::wait_for(&client, "SELECT count(*), sum(n) FROM latest", &[keys as i64, keys as i64], PATIENCE).await?;

    let start = SystemClock.now().micros() + LEAD.as_micros() as i64;
    let mut producer = Producer(spawn_producer(options, &broker.client().bootstrap, &topic, start)?);
    let (mut samples, checkpoints) = sample(&client, options, start).await?;
    let status = tokio::task::spawn_blocking(move || producer.0.wait()).await??;
    if !status.success() {
        return Err(format!("the producer ended with {status}").into());
    }
    let all = (options.keys + options.rate * options.seconds) as i64;
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
    let newest = server::integers(client, "SELECT max(id) FROM eddyline.checkpoints WHERE problem IS NULL").await?;
    Ok(newest.first().copied().unwrap_or_default())
}

/// Killed if the run fails before it ends.
struct Producer(Child);

impl Drop for Producer {
    fn drop(&mut self) {
        // An error means that it has ended, which is what is wanted.
        let _ended = self.0.kill();
    }
}

fn spawn_producer(options: &Options, bootstrap: &str, topic: &str, start_micros: i64) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["produce", "--bootstrap", bootstrap, "--topic", topic]);
    let numbers = [
        ("--partitions", options.partitions as i64),
        ("--keys", options.keys as i64),
        ("--rate", options.rate as i64),
        ("--events", (options.rate * options.seconds) as i64),
        ("--start-micros", start_micros),
    ];
    for (name, value) in numbers {
        command.args([name.to_string(), value.to_string()]);
    }
    Ok(command.spawn()?)
}

/// One task per sample, all on one connection, which pipelines them. Also gives the number of checkpoints between the first and
/// the last sample.
async fn sample(client: &Arc<Client>, options: &Options, start: i64) -> Result<(Vec<Duration>, i64)> {
    let look = client.prepare("SELECT stamp FROM latest WHERE k = $1").await?;
    let per_sample = (options.rate as u128 * SAMPLE_INTERVAL.as_micros() / 1_000_000).max(1) as usize;
    let first = options.rate * WARM_UP.as_secs();
    let mut tasks = Vec::new();
    for i in (first..options.rate * options.seconds).step_by(per_sample) {
        let due = start + due_micros(i, options.rate);
        tasks.push(tokio::spawn(watch(client.clone(), look.clone(), key_of(i, options.keys) as i64, due)));
    }
    until(start + due_micros(first, options.rate)).await;
    let before = newest_checkpoint(client).await?;
    let mut samples = Vec::new();
    for task in tasks {
        samples.push(task.await??);
    }
    Ok((samples, newest_checkpoint(client).await? - before))
}

async fn until(micros: i64) {
    tokio::time::sleep(Duration::from_micros((micros - SystemClock.now().micros()).max(0) as u64)).await;
}

/// Looks at one key until its row carries a stamp from `due` on.
async fn watch(client: Arc<Client>, look: Statement, key: i64, due: i64) -> Result<Duration> {
    until(due).await;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let stamp: i64 = client.query_one(&look, &[&key]).await?.get(0);
        let now = SystemClock.now().micros();
        if stamp >= due {
            return Ok(Duration::from_micros((now - stamp).max(0) as u64));
        }
        if now - due > PATIENCE.as_micros() as i64 {
            return Err(format!("the event of key {key} did not come").into());
        }
    }
}
