//! From a Kafka broker into a view, end to end: JSON records of about 200 bytes that lie in the broker before the clock
//! starts; it runs from CREATE SOURCE until the view, polled over the wire, has them all. Then back: from CREATE SINK until the half of
//! the records that a filter lets pass is in another topic.

use crate::report::{Figure, Goal};
use crate::{Result, server};
use clap::Args;
use eddyline_connectors::testing::{KafkaBroker, KafkaClient};
use std::fmt::Write;
use std::time::{Duration, Instant};

const GOAL_RECORDS_PER_SECOND: f64 = 400_000.0;
const GOAL_BACK_RECORDS_PER_SECOND: f64 = 300_000.0;
const PRICES: u64 = 1_000_000;
/// What the sink's filter lets pass.
const PRICE_MIN: u64 = PRICES / 2;
const TOPIC: &str = "bench-bid";
/// Far longer than the goal allows; then something is wrong.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    settings: server::Settings,
    /// A broker [default: one of its own, through scripts/kafka.sh]
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Records, produced before the clock starts
    #[arg(long, default_value_t = 4_000_000)]
    records: u64,
    #[arg(long, default_value_t = 2)]
    partitions: i32,
}

/// A broker of one's own, or somebody else's.
pub enum Broker {
    Own(KafkaBroker),
    Given(KafkaClient),
}

impl Broker {
    pub fn open(bootstrap: Option<&str>) -> Result<Broker> {
        Ok(match bootstrap {
            Some(bootstrap) => Broker::Given(KafkaClient::new(bootstrap.to_string())?),
            None => Broker::Own(KafkaBroker::start()?),
        })
    }

    pub fn client(&self) -> &KafkaClient {
        match self {
            Broker::Own(broker) => broker,
            Broker::Given(client) => client,
        }
    }
}

pub async fn run(options: &Options) -> Result<()> {
    // The helpers drive their own futures: not on a runtime's thread.
    let (given, records, partitions) = (options.bootstrap.clone(), options.records, options.partitions);
    let produced = tokio::task::spawn_blocking(move || -> Result<(Broker, String, Produced)> {
        let broker = Broker::open(given.as_deref())?;
        let topic = format!("{TOPIC}-{}", std::process::id());
        broker.client().create_topic(&topic, partitions, &[])?;
        let produced = produce(broker.client(), &topic, records, partitions)?;
        Ok((broker, topic, produced))
    });
    let (broker, topic, produced) = produced.await??;
    let server = options.settings.start();
    let client = server.connect().await;
    let source = create_source(&topic, &broker.client().bootstrap);
    let begun = Instant::now();
    server::execute(&client, &[&source, "CREATE MATERIALIZED VIEW total AS SELECT COUNT(*) AS n, SUM(price) AS price FROM bid"]).await?;
    server::wait_for(&client, "SELECT n, price FROM total", &[records as i64, produced.price], PATIENCE).await?;
    let elapsed = begun.elapsed().as_secs_f64();
    Figure::new("Kafka JSON into a view", records as f64 / elapsed, "records/s", Goal::AtLeast(GOAL_RECORDS_PER_SECOND))
        .beside(format!("{records} records of {} bytes in {elapsed:.2} s from {partitions} partitions", produced.bytes / records.max(1)))
        .beside("count and sum checked")
        .print();
    let broker = back(&client, broker, &topic, options, produced.passing).await?;
    tokio::task::spawn_blocking(move || drop(broker)).await?;
    Ok(())
}

/// From the topic through a filter into another one, acknowledged by the broker.
async fn back(client: &tokio_postgres::Client, broker: Broker, topic: &str, options: &Options, passing: i64) -> Result<Broker> {
    let (out, bootstrap) = (format!("{topic}-back"), broker.client().bootstrap.clone());
    let (made, partitions) = (out.clone(), options.partitions);
    let broker = tokio::task::spawn_blocking(move || broker.client().create_topic(&made, partitions, &[]).map(|()| broker)).await??;
    let sink = format!(
        "CREATE SINK back AS SELECT auction, bidder, price, channel, url, extra FROM bid WHERE price >= {PRICE_MIN} \
         WITH (connector = 'kafka', topic = '{out}', properties.bootstrap.servers = '{bootstrap}') FORMAT PLAIN ENCODE JSON"
    );
    let begun = Instant::now();
    server::execute(client, &[&sink]).await?;
    let waited = tokio::task::spawn_blocking(move || -> Result<Broker> {
        loop {
            let there = broker.client().records_in(&out)?;
            if there >= passing {
                return if there == passing { Ok(broker) } else { Err(format!("{there} records and not {passing} came back").into()) };
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("after {PATIENCE:?} {there} of {passing} records have come back").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let broker = waited.await??;
    let elapsed = begun.elapsed().as_secs_f64();
    Figure::new("Kafka to Kafka, filter", options.records as f64 / elapsed, "records/s", Goal::AtLeast(GOAL_BACK_RECORDS_PER_SECOND))
        .beside(format!("{passing} records written in {elapsed:.2} s, counted in the topic"))
        .print();
    Ok(broker)
}

/// Auctions of the records.
const AUCTIONS: u64 = 20_011;
const AUCTION_FIRST: u64 = 1_000;

pub struct Produced {
    records: u64,
    /// How many the sink's filter lets pass.
    passing: i64,
    price: i64,
    bytes: u64,
}

impl Produced {
    /// Records whose auction is `remainder` modulo a hundred.
    pub fn with_remainder(&self, remainder: usize) -> i64 {
        (0..self.records).filter(|i| (AUCTION_FIRST + i % AUCTIONS) % 100 == remainder as u64).count() as i64
    }
}

/// Over the records of `produce`.
pub fn create_source(topic: &str, bootstrap: &str) -> String {
    format!(
        "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, \
         extra VARCHAR, WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds') WITH (connector = 'kafka', topic = '{topic}', \
         properties.bootstrap.servers = '{bootstrap}', scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON"
    )
}

/// Puts the records into the topic's partitions in turn.
pub fn produce(client: &KafkaClient, topic: &str, records: u64, partitions: i32) -> Result<Produced> {
    let mut produced = Produced { records, passing: 0, price: 0, bytes: 0 };
    let mut line = String::with_capacity(256);
    for i in 0..records {
        let price = i.wrapping_mul(2_654_435_761) % PRICES;
        line.clear();
        write_record(&mut line, i, price as i64)?;
        produced.passing += i64::from(price >= PRICE_MIN);
        produced.price += price as i64;
        produced.bytes += line.len() as u64;
        client.send(topic, (i % partitions as u64) as i32, None, Some(line.as_bytes()));
    }
    client.flush()?;
    Ok(produced)
}

fn write_record(line: &mut String, i: u64, price: i64) -> std::fmt::Result {
    const CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
    let (minute, second, milli) = (i / 600_000 % 60, i / 10_000 % 60, i / 10 % 1_000);
    let (auction, bidder) = (AUCTION_FIRST + i % AUCTIONS, 1_000 + i % 100_003);
    let channel = CHANNELS[i as usize % CHANNELS.len()];
    write!(line, r#"{{"auction":{auction},"bidder":{bidder},"price":{price},"channel":"{channel}","#)?;
    write!(line, r#""url":"https://www.auction.example/item.htm?query=1&channel={}","#, i % 10_000)?;
    write!(
        line,
        r#""date_time":"2015-07-15 00:{minute:02}:{second:02}.{milli:03}","extra":"{:024x}"}}"#,
        i.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_json_of_about_200_bytes() {
        for i in [0, 9_999_999] {
            let mut line = String::new();
            write_record(&mut line, i, 123_456).unwrap();
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(parsed["price"], 123_456);
            assert!((180..=220).contains(&line.len()), "{} bytes: {line}", line.len());
        }
    }
}
