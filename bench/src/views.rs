//! Many views on one source: what a hundred that each keep a hundredth of its rows cost beside what one more costs, and what a
//! thousand that keep none cost. Records come from Kafka while the views are there, so that one decoding serves all; what
//! is measured is the server's processor time.

use crate::kafka::{Broker, Produced, create_source, produce};
use crate::producer::{self, Producer};
use crate::report::{Figure, Goal};
use crate::{Result, server};
use clap::Args;
use eddyline_common::runtime::{Clock, SystemClock};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Above what one decoding and so many times the cost of one more view would be.
const GOAL_SHARED: f64 = 1.1;
const GOAL_IDLE_VIEWS_PERCENT: f64 = 50.0;
const SHARING_VIEWS: usize = 100;
/// How often each number of views is measured.
const ROUNDS: usize = 3;
const EMPTY_VIEWS: usize = 1_000;
const EMPTY_RATE: u64 = 100_000;
/// The producer is up and the broker warm by then.
const WARM_UP: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);
/// Seldom: a look is work of the server's, too.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Bids are drawn over so many auctions in `kafka::produce`; view `i` keeps those that are `i` modulo a hundred.
const SHARE: usize = 100;

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    settings: server::Settings,
    /// A broker [default: one of its own, through scripts/kafka.sh]
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Records for the views that keep a hundredth
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// How long the views that keep nothing are watched
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

pub async fn run(options: &Options) -> Result<()> {
    let given = options.bootstrap.clone();
    let mut broker = tokio::task::spawn_blocking(move || Broker::open(given.as_deref())).await??;
    let mut runs = 0;
    // The first run warms the broker up. What disturbs a run makes it dearer, so that the cheapest of each number counts.
    let mut cheapest = [f64::INFINITY; 3];
    for round in 0..=ROUNDS {
        for (views, cheapest) in [1, 11, SHARING_VIEWS].into_iter().zip(&mut cheapest) {
            if round == 0 && views > 1 {
                continue;
            }
            let (back, seconds) = sharing(options, broker, views, runs).await?;
            (broker, runs) = (back, runs + 1);
            if round > 0 {
                *cheapest = cheapest.min(seconds);
            }
        }
    }
    let [one, eleven, hundred] = cheapest;
    let marginal = (eleven - one) / 10.0;
    let expected = one + marginal * (SHARING_VIEWS - 1) as f64;
    Figure::new("100 views that keep 1 %, cost to expected", hundred / expected, "x", Goal::AtMost(GOAL_SHARED))
        .beside(format!("{} records; CPU seconds: 1 view {one:.2}, 11 views {eleven:.2}, 100 views {hundred:.2}", options.records))
        .beside(format!("one more view {:.0} ns per record", marginal / options.records as f64 * 1e9))
        .print();
    let broker = empty(options, broker).await?;
    tokio::task::spawn_blocking(move || drop(broker)).await?;
    Ok(())
}

/// Processor seconds of a server whose `views` see all the records come.
async fn sharing(options: &Options, broker: Broker, views: usize, run: usize) -> Result<(Broker, f64)> {
    let topic = format!("bench-views-{}-{run}", std::process::id());
    let broker = with_topic(broker, topic.clone()).await?;
    let server = options.settings.start();
    let client = server.connect().await;
    server::execute(&client, &[&create_source(&topic, &broker.client().bootstrap)]).await?;
    for i in 0..views {
        let view = format!("CREATE MATERIALIZED VIEW v{i} AS SELECT auction, bidder, price FROM bid WHERE auction % {SHARE} = {i}");
        server::execute(&client, &[&view]).await?;
    }
    let pid = server.pid().ok_or("the server is not running")?;
    let before = server::cpu_seconds(pid)?;
    let records = options.records;
    let produced =
        tokio::task::spawn_blocking(move || produce(broker.client(), &topic, records, 1).map(|produced: Produced| (broker, produced)));
    let (broker, produced) = produced.await??;
    wait_for_all(&client, records as i64).await?;
    let used = server::cpu_seconds(pid)? - before;
    let last = views - 1;
    server::wait_for(&client, &format!("SELECT count(*) FROM v{last}"), &[produced.with_remainder(last)], PATIENCE).await?;
    Ok((broker, used))
}

/// Until every view has taken all the records.
async fn wait_for_all(client: &Client, records: i64) -> Result<()> {
    let begun = Instant::now();
    loop {
        let seen = server::integers(client, "SELECT min(rows_in) FROM eddyline.jobs").await?;
        if seen == [records] {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("after {PATIENCE:?} a view has {seen:?} of {records} records").into());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn empty(options: &Options, broker: Broker) -> Result<Broker> {
    let topic = format!("bench-empty-{}", std::process::id());
    let broker = with_topic(broker, topic.clone()).await?;
    let server = options.settings.start();
    let client = server.connect().await;
    let bootstrap = broker.client().bootstrap.clone();
    let source = format!(
        "CREATE SOURCE event (k BIGINT, stamp BIGINT) WITH (connector = 'kafka', topic = '{topic}', \
         properties.bootstrap.servers = '{bootstrap}', scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON"
    );
    server::execute(&client, &[&source]).await?;
    let begun = Instant::now();
    for i in 0..EMPTY_VIEWS {
        server::execute(&client, &[&format!("CREATE MATERIALIZED VIEW v{i} AS SELECT k FROM event WHERE k = -1 - {i}")]).await?;
    }
    let created = begun.elapsed();
    let pid = server.pid().ok_or("the server is not running")?;
    let producer = Producer::spawn(&producer::Options {
        bootstrap,
        topic,
        partitions: 1,
        keys: 1_000_000,
        rate: EMPTY_RATE,
        events: EMPTY_RATE * (options.seconds + 2 * WARM_UP.as_secs()),
        start_micros: SystemClock.now().micros(),
        // Many small batches, which is what the views' steps are to cost little for.
        batching: producer::Batching { linger_ms: 0.5 },
    })?;
    tokio::time::sleep(WARM_UP).await;
    let records = "SELECT records FROM eddyline.sources";
    let (seen, before, begun) = (server::integers(&client, records).await?, server::cpu_seconds(pid)?, Instant::now());
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let (used, elapsed) = (server::cpu_seconds(pid)? - before, begun.elapsed().as_secs_f64());
    let came = server::integers(&client, records).await?.first().unwrap_or(&0) - seen.first().unwrap_or(&0);
    drop(producer);
    Figure::new("1,000 views that keep nothing, CPU", used / elapsed * 100.0, "% of core", Goal::AtMost(GOAL_IDLE_VIEWS_PERCENT))
        .beside(format!("{:.0} records/s came in {elapsed:.1} s; made in {:.1} s", came as f64 / elapsed, created.as_secs_f64()))
        .print();
    Ok(broker)
}

async fn with_topic(broker: Broker, topic: String) -> Result<Broker> {
    Ok(tokio::task::spawn_blocking(move || broker.client().create_topic(&topic, 1, &[]).map(|()| broker)).await??)
}
