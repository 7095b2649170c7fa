//! `eddyline demo`: an auction house on the built-in generator, so that the first view is a minute away. A client of
//! the server like any other: it talks SQL over the wire, and prints what a user would look at.

use crate::coordinator::Stats;
use eddyline_common::{Result, SqlError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Loaded on the first start; the second one finds it all in place.
const SCHEMA: &[&str] = &[
    "CREATE SOURCE IF NOT EXISTS bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, \
     date_time TIMESTAMP, extra VARCHAR, WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds') \
     WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.rate = '5000', nexmark.min.event.gap.in.ns = '200000')",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS channel_totals AS \
     SELECT channel, COUNT(*) AS bids, SUM(price) AS turnover, MAX(price) AS highest FROM bid GROUP BY channel",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS auction_totals AS \
     SELECT auction, COUNT(*) AS bids, MAX(price) AS price FROM bid GROUP BY auction",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS bids_per_10s AS \
     SELECT window_start, window_end, COUNT(*) AS bids, AVG(price) AS average_price \
     FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECONDS)) GROUP BY window_start, window_end",
];

const HOTTEST: &str = "SELECT auction, bids, price FROM auction_totals ORDER BY bids DESC, auction LIMIT 3";
const NEWEST_WINDOWS: &str = "SELECT window_start, window_end, bids, round(average_price) AS average_price \
     FROM bids_per_10s ORDER BY window_start DESC LIMIT 2";

/// Loads the demo and reports every second, until the server stops.
pub async fn drive(address: SocketAddr, stats: Arc<Stats>) -> Result<()> {
    let client = connect(address).await?;
    for statement in SCHEMA {
        client.batch_execute(statement).await.map_err(failed)?;
    }
    say(&format!(
        "\n  Connect with:   psql -h {} -p {} -U eddyline\n  and try:        {HOTTEST};\n  Ctrl-C stops; the data stays.\n",
        address.ip(),
        address.port()
    ));
    let mut before = (Instant::now(), records(&stats));
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = (Instant::now(), records(&stats));
        let seconds = (now.0 - before.0).as_secs_f64();
        report(&client, &stats, (now.1 - before.1) as f64 / seconds).await?;
        before = now;
    }
}

async fn connect(address: SocketAddr) -> Result<Client> {
    let url = format!("host={} port={} user=eddyline dbname=eddyline", address.ip(), address.port());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.map_err(failed)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("the demo's connection ended: {error}");
        }
    });
    Ok(client)
}

async fn report(client: &Client, stats: &Stats, rate: f64) -> Result<()> {
    let freshness: Vec<String> = stats
        .jobs
        .read()
        .values()
        .map(|j| format!("{} {:.1} ms", j.name.read(), j.freshness_micros.load(Relaxed) as f64 / 1000.0))
        .collect();
    say(&format!("in: {rate:.0} bids/s, {} in all | epoch {} | freshness: {}", records(stats), stats.epoch(), freshness.join(", ")));
    for (title, query) in [("hottest auctions", HOTTEST), ("newest windows", NEWEST_WINDOWS)] {
        for row in client.simple_query(query).await.map_err(failed)? {
            if let SimpleQueryMessage::Row(row) = row {
                let cells: Vec<String> =
                    (0..row.len()).map(|i| format!("{}={}", row.columns()[i].name(), row.get(i).unwrap_or("null"))).collect();
                say(&format!("    {title}: {}", cells.join("  ")));
            }
        }
    }
    Ok(())
}

fn records(stats: &Stats) -> u64 {
    stats.sources.read().values().map(|s| s.records.load(Relaxed)).sum()
}

fn failed(error: tokio_postgres::Error) -> SqlError {
    match error.as_db_error() {
        Some(db) => SqlError::io(format!("demo: {} {}", db.message(), db.hint().unwrap_or_default())),
        None => SqlError::io(format!("demo: {error}")),
    }
}

#[allow(clippy::print_stdout)] // the demo's whole purpose
fn say(line: &str) {
    println!("{line}");
}
