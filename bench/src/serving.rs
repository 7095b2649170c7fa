//! Aggregates over a large view through pgwire, beside DataFusion over the same rows in memory in this process. The two never
//! run at the same time, and every result is compared.

use crate::report::{Figure, Goal, percentile};
use crate::{Result, batch, nexmark, server};
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::Args;
use eddyline_common::connector::{ColumnOrigin, SourceColumn, SourceSpec};
use eddyline_common::{SqlType, options};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_postgres::Client;

const GOAL_RATIO: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(300);

/// Over columns of both the view and the table in memory, which have the same name.
const QUERIES: [(&str, &str); 3] = [
    ("global", "SELECT count(*), sum(price), min(bidder), max(bidder) FROM bids"),
    ("filtered", "SELECT count(*), sum(price) FROM bids WHERE price > 1000000 AND auction % 2 = 0"),
    ("grouped", "SELECT auction % 100 AS bucket, count(*), sum(price), max(bidder) FROM bids GROUP BY auction % 100 ORDER BY 1"),
];

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    settings: server::Settings,
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Runs of each query; the median counts
    #[arg(long, default_value_t = 7)]
    runs: usize,
}

pub fn run(options: &Options, runtime: &Runtime) -> Result<()> {
    let (events, rows) = nexmark::events_for(options.rows);
    let server = options.settings.start();
    let client = runtime.block_on(server.connect());
    let source = format!(
        "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT) \
         WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '{events}')"
    );
    let view = "CREATE MATERIALIZED VIEW bids AS SELECT auction, bidder, price FROM bid";
    runtime.block_on(async {
        server::execute(&client, &[&source, view]).await?;
        server::wait_for(&client, "SELECT count(*) FROM bids", &[rows as i64], PATIENCE).await
    })?;
    let in_memory = nexmark::read(&spec(events)?)?;
    let context = batch::session(&[("bids", in_memory)], options.settings.workers())?;
    for (name, query) in QUERIES {
        let (ours, our_rows) = runtime.block_on(time_ours(&client, query, options.runs))?;
        let mut theirs = Vec::new();
        // The first run is not counted, here and there.
        let their_rows = text(&batch::collect(&context, query, runtime)?)?;
        for _ in 0..options.runs.max(1) {
            theirs.push(batch::time(&context, query, runtime)?.0);
        }
        theirs.sort();
        if our_rows != their_rows {
            return Err(format!("{query}\n  gives {our_rows:?},\n  DataFusion {their_rows:?}").into());
        }
        let theirs = percentile(&theirs, 0.5);
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        Figure::new(format!("SELECT over a large view, {name}"), ratio, "x", Goal::AtMost(GOAL_RATIO))
            .beside(format!("{rows} rows; {:.1} ms, DataFusion {:.1} ms", ours.as_secs_f64() * 1e3, theirs.as_secs_f64() * 1e3))
            .print();
    }
    Ok(())
}

async fn time_ours(client: &Client, query: &str, runs: usize) -> Result<(Duration, Vec<Vec<String>>)> {
    let rows = server::rows(client, query).await?;
    let mut times = Vec::new();
    for _ in 0..runs.max(1) {
        let begun = Instant::now();
        client.simple_query(query).await?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok((percentile(&times, 0.5), rows))
}

/// What CREATE SOURCE asks of the generator.
fn spec(events: u64) -> Result<SourceSpec> {
    let pairs =
        [("connector", "nexmark".to_string()), ("nexmark.table.type", "bid".to_string()), ("nexmark.event.num", events.to_string())];
    let raw: BTreeMap<String, String> = pairs.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    let column = |name: &str| SourceColumn {
        external_name: name.to_string(),
        ty: SqlType::BigInt,
        nullable: true,
        length: None,
        origin: ColumnOrigin::Payload,
    };
    let columns = ["auction", "bidder", "price"].map(column).to_vec();
    Ok(SourceSpec { name: "bid".to_string(), options: options::canonicalize(raw)?, columns, key: vec![] })
}

/// Rows as the simple protocol shows integers.
fn text(batches: &[RecordBatch]) -> Result<Vec<Vec<String>>> {
    let format = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &format)).collect::<std::result::Result<Vec<_>, _>>()?;
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()));
    }
    Ok(rows)
}
