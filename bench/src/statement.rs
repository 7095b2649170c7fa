//! Latency of small statements on an idle server, seen by a client of the simple protocol: one round trip each.

use crate::report::{Figure, Goal, millis, percentile};
use crate::{Result, server};
use clap::Args;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const GOAL_MS: f64 = 2.0;
/// Not counted: the first ones fill caches.
const WARM_UP: usize = 20;

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    settings: server::Settings,
    /// Statements of each kind
    #[arg(long, default_value_t = 500)]
    statements: usize,
}

pub async fn run(options: &Options) -> Result<()> {
    let server = options.settings.start();
    let client = server.connect().await;
    server::execute(&client, &["CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)"]).await?;
    let selects = time(&client, options.statements, |_| "SELECT 1".to_string()).await?;
    print("SELECT 1", &selects);
    let inserts = time(&client, options.statements, |i| format!("INSERT INTO t VALUES ({i}, {})", i * 2)).await?;
    let rows = (options.statements + WARM_UP) as i64;
    let seen = server::integers(&client, "SELECT count(*), sum(v) FROM t").await?;
    if seen != [rows, rows * (rows - 1)] {
        return Err(format!("after {rows} inserts the table holds {seen:?}").into());
    }
    print("INSERT of one row", &inserts);
    let lookups = time(&client, options.statements, |i| format!("SELECT v FROM t WHERE id = {i}")).await?;
    print("SELECT by key", &lookups);
    Ok(())
}

async fn time(client: &Client, count: usize, statement: impl Fn(usize) -> String) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    for i in 0..WARM_UP + count {
        let text = statement(i);
        let begun = Instant::now();
        client.simple_query(&text).await?;
        times.push(begun.elapsed());
    }
    times.drain(..WARM_UP);
    times.sort();
    Ok(times)
}

fn print(name: &str, times: &[Duration]) {
    Figure::new(format!("{name}, median"), millis(percentile(times, 0.5)), "ms", Goal::AtMost(GOAL_MS))
        .beside(format!("p99 {:.2} ms, maximum {:.2} ms", millis(percentile(times, 0.99)), millis(percentile(times, 1.0))))
        .print();
}
