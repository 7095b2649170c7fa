//! TPC-H's 22 queries as materialized views, with the benchmark's own rows and parameters, each on a server of its own whose tables are filled before. Two
//! times are taken of each: from CREATE MATERIALIZED VIEW until the view answers, and from the first statement of a change of one in a hundred orders (half
//! of them come, with their lines, the other half go) until it answers with all of that.
//!
//! A view is compared with its own query, run at once, after both.

use crate::report::{Figure, Goal, millis};
use crate::{Result, server};
use clap::Args;
use eddyline_sql_tests::Server;
use eddyline_sql_tests::tpch::{self, Data, QUERIES, Refresh, Rows};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Of the orders, that many come and that many go.
const CHANGED_PER_CENT: f64 = 0.5;

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    settings: server::Settings,
    /// Scale factor of the tables
    #[arg(long, default_value_t = 0.1)]
    scale: f64,
    /// Numbers of the queries to run [default: all]
    #[arg(long)]
    query: Vec<usize>,
}

/// What every server gets.
struct Input {
    initial: Vec<Rows>,
    change: Refresh,
}

impl Input {
    fn new(scale: f64) -> Input {
        let mut data = Data::new(scale);
        let initial = data.initial();
        let orders = (data.orders() as f64 * CHANGED_PER_CENT / 100.0).ceil() as usize;
        Input { initial, change: data.refresh(orders) }
    }
}

struct Run {
    tables: Duration,
    load: Duration,
    load_cpu: f64,
    change: Duration,
    change_cpu: f64,
    peak_bytes: u64,
    state_bytes: i64,
    rows: i64,
}

pub async fn run(options: &Options) -> Result<()> {
    let scale = options.scale;
    let input = tokio::task::spawn_blocking(move || Input::new(scale)).await?;
    let rows: usize = input.initial.iter().map(|rows| rows.count).sum();
    let changed: usize = input.change.new.iter().map(|rows| rows.count).sum();
    for number in QUERIES.filter(|number| options.query.is_empty() || options.query.contains(number)) {
        let run = measure(options, number, &input).await?;
        Figure::new(format!("TPC-H q{number}, from CREATE to the first answer"), run.load.as_secs_f64(), "s", Goal::None)
            .beside(format!(
                "scale factor {scale}; CPU {:.2} s; {rows} rows, which the tables took {:.1} s for",
                run.load_cpu,
                run.tables.as_secs_f64()
            ))
            .print();
        Figure::new(format!("TPC-H q{number}, a change of 1 % of the orders"), millis(run.change), "ms", Goal::None)
            .beside(format!("CPU {:.2} s; {changed} rows of new orders came, as many orders went with theirs", run.change_cpu))
            .beside(format!("peak {:.0} MiB, state {:.0} MiB", mebibytes(run.peak_bytes as f64), mebibytes(run.state_bytes as f64)))
            .beside(format!("{} rows, checked", run.rows))
            .print();
    }
    Ok(())
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / 1_048_576.0
}

async fn measure(options: &Options, number: usize, input: &Input) -> Result<Run> {
    let server = options.settings.start();
    let client = server.connect().await;
    let pid = server.pid().ok_or("the server is not running")?;
    let begun = Instant::now();
    for table in tpch::tables() {
        server::execute(&client, &[&table]).await?;
    }
    copy(&client, &input.initial).await?;
    let tables = begun.elapsed();
    let create = format!("CREATE MATERIALIZED VIEW q{number} AS {}", tpch::query(number, options.scale));
    let answer = format!("SELECT COUNT(*) FROM q{number}");
    let (before, begun) = (server::cpu_seconds(pid)?, Instant::now());
    server::execute(&client, &[&create, &answer]).await?;
    let (load, load_cpu) = (begun.elapsed(), server::cpu_seconds(pid)? - before);
    let (before, begun) = (server::cpu_seconds(pid)?, Instant::now());
    copy(&client, &input.change.new).await?;
    for statement in &input.change.old {
        server::execute(&client, &[statement]).await?;
    }
    let rows = server::integers(&client, &answer).await?;
    let (change, change_cpu) = (begun.elapsed(), server::cpu_seconds(pid)? - before);
    let peak_bytes = server::peak_bytes(pid)?;
    let state = format!("SELECT state_bytes, late + rejected FROM eddyline.jobs WHERE job = 'q{number}'");
    let seen = server::integers(&client, &state).await?;
    let [state_bytes, 0] = seen[..] else {
        return Err(format!("q{number} has no job, or rows that were late or rejected").into());
    };
    if let [first, ..] = server::rows(&client, &format!("CHECK MATERIALIZED VIEW q{number}")).await?.as_slice() {
        return Err(format!("q{number} differs from its query, at first in {first:?}").into());
    }
    stop(server).await?;
    let rows = rows.first().copied().unwrap_or(0);
    Ok(Run { tables, load, load_cpu, change, change_cpu, peak_bytes, state_bytes, rows })
}

async fn copy(client: &Client, all: &[Rows]) -> Result<()> {
    for rows in all {
        rows.copy(client).await?;
    }
    Ok(())
}

/// Off the runtime's threads: the directory takes a while to be removed.
async fn stop(server: Server) -> Result<()> {
    Ok(tokio::task::spawn_blocking(move || drop(server)).await?)
}
