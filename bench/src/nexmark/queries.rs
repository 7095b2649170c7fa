//! Nexmark's queries q0 to q22, as they are in `sql-tests/nexmark`, each on a server of its own whose three streams come from the
//! `nexmark` source. The clock runs from CREATE MATERIALIZED VIEW until the view has taken all events; processor time until a
//! checkpoint has them, too. What making all columns of the events would cost is measured in this process, without a server, and stated
//! beside: the server's source makes those that the query reads.
//!
//! A view is compared with its own query, run at once over the same events. Then the queries whose state does not grow with the stream,
//! or only as its view does, are run over many more events, and what an event costs there is compared.

use super::for_each;
use crate::engine::catalog::BenchCatalog;
use crate::report::{Figure, Goal};
use crate::{Result, server};
use clap::Args;
use eddyline_sql_tests::Server;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const GOAL_EVENTS_PER_SECOND: f64 = 200_000.0;
/// What an event costs in a long stream, to what it costs in a short one.
const GOAL_GROWTH: f64 = 1.2;
const PATIENCE: Duration = Duration::from_secs(900);
/// A look costs the server a millisecond.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const SIDE_ROWS: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Person,
    Auction,
    Bid,
}
use Stream::{Auction, Bid, Person};

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Person => "person",
            Auction => "auction",
            Bid => "bid",
        }
    }

    /// Of 50 events.
    fn share(self) -> u64 {
        match self {
            Person => 1,
            Auction => 3,
            Bid => super::BIDS,
        }
    }
}

struct Query {
    number: usize,
    streams: &'static [Stream],
    /// What an event costs does not depend on how many there were.
    is_steady: bool,
}

/// By number.
fn all() -> Vec<Query> {
    const STEADY: [usize; 15] = [0, 1, 2, 3, 5, 7, 8, 10, 11, 12, 13, 14, 17, 21, 22];
    let streams = |number| -> &'static [Stream] {
        match number {
            3 | 8 => &[Person, Auction],
            4 | 6 | 9 | 20 => &[Auction, Bid],
            _ => &[Bid],
        }
    };
    (0..23).map(|number| Query { number, streams: streams(number), is_steady: STEADY.contains(&number) }).collect()
}

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    settings: server::Settings,
    /// Events of all kinds, from which each query takes those it reads
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Events of the long stream; 0: no long stream
    #[arg(long, default_value_t = 20_000_000)]
    long: u64,
    /// Short streams whose mean cost an event of the long one is compared with
    #[arg(long, default_value_t = 5)]
    short_runs: u64,
    /// Numbers of the queries to run [default: all]
    #[arg(long)]
    query: Vec<usize>,
}

pub async fn run(options: &Options) -> Result<()> {
    let rounds = |events: u64| events.div_ceil(super::EVENTS).max(1) * super::EVENTS;
    let (short, long) = (rounds(options.events), rounds(options.long));
    let mut sources = Vec::new();
    for stream in [Person, Auction, Bid] {
        let seconds = tokio::task::spawn_blocking(move || cost_of_events(stream, short)).await??;
        Figure::new(format!("Nexmark source, {}", stream.name()), seconds / short as f64 * 1e6, "CPU s/M", Goal::None)
            .beside("per million events of all kinds; rows made and dropped, in this process")
            .print();
        sources.push((stream, seconds / short as f64));
    }
    for query in all().iter().filter(|query| options.query.is_empty() || options.query.contains(&query.number)) {
        let run = measure(options, query, short, true).await?;
        let of_source: f64 = sources.iter().filter(|(stream, _)| query.streams.contains(stream)).map(|(_, seconds)| seconds).sum();
        run.figure(query, short, of_source).print();
        if query.is_steady && options.long > 0 {
            let mut costs = vec![run.cpu / short as f64 * 1e6];
            for _ in 1..options.short_runs {
                costs.push(measure(options, query, short, false).await?.cpu / short as f64 * 1e6);
            }
            let grown = measure(options, query, long, false).await?;
            grown.figure(query, long, of_source).print();
            growth(query, &costs, grown.cpu / long as f64 * 1e6).print();
            grown.taken.progress.growth(query, long).print();
        }
    }
    Ok(())
}

/// What an event of the long stream costs to the mean of short ones. A short stream may end before its first checkpoint or meet one
/// or two; a single one of them says little.
fn growth(query: &Query, short: &[f64], long: f64) -> Figure {
    let mean = short.iter().sum::<f64>() / short.len() as f64;
    let each: Vec<String> = short.iter().map(|cost| format!("{cost:.2}")).collect();
    Figure::new(format!("Nexmark q{}, an event's cost, long to short", query.number), long / mean, "x", Goal::AtMost(GOAL_GROWTH))
        .beside(format!("CPU {long:.2} to {mean:.2} s per million events, the mean of {}", each.join(", ")))
}

/// What a server had spent when it had taken so many rows: processor seconds, in the order of time.
#[derive(Default)]
struct Progress(Vec<(i64, f64)>);

impl Progress {
    /// What an event in the last quarter of a stream costs to one in the first, both with the checkpoints that come along.
    fn growth(&self, query: &Query, events: u64) -> Figure {
        let rows = self.0.last().map_or(0, |(rows, _)| *rows);
        let at = |share: f64| self.0.iter().find(|(taken, _)| *taken as f64 >= share * rows as f64).copied().unwrap_or_default();
        let cost = |from: f64, to: f64| {
            let ((rows_before, before), (rows_after, after)) = (at(from), at(to));
            (after - before) / ((rows_after - rows_before).max(1) as f64 / rows as f64 * events as f64) * 1e6
        };
        let (first, last) = (cost(0.0, 0.25), cost(0.75, 1.0));
        Figure::new(format!("Nexmark q{}, an event's cost, last quarter to first", query.number), last / first, "x", Goal::None)
            .beside(format!("CPU {last:.2} to {first:.2} s per million events, within the long stream"))
    }
}

struct Run {
    elapsed: Duration,
    /// Seconds.
    cpu: f64,
    peak_bytes: u64,
    rows: i64,
    is_checked: bool,
    taken: Taken,
}

impl Run {
    fn figure(&self, query: &Query, events: u64, of_source: f64) -> Figure {
        let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / 1_048_576.0);
        let name = format!("Nexmark q{}, {} M events", query.number, events as f64 / 1e6);
        let figure = Figure::new(name, events as f64 / self.elapsed.as_secs_f64(), "events/s", Goal::AtLeast(GOAL_EVENTS_PER_SECOND))
            .beside(format!(
                "CPU {:.2} s per million events; all columns of its streams would be {:.2}",
                self.cpu / events as f64 * 1e6,
                of_source * 1e6
            ))
            .beside(format!("peak {}, state at most {}", mib(self.peak_bytes), mib(self.taken.state_bytes.max(0) as u64)))
            .beside(format!("{} rows", self.rows));
        if self.is_checked { figure.beside("checked") } else { figure }
    }
}

/// Processor seconds for making a stream's rows and dropping them.
fn cost_of_events(stream: Stream, events: u64) -> Result<f64> {
    let create = sources(events)?.into_iter().find(|(of, _)| *of == stream.name()).ok_or("a stream without a definition")?.1;
    let spec = BenchCatalog::default().source(&create)?;
    let before = server::cpu_seconds(std::process::id())?;
    let mut rows = 0;
    for_each(&spec, |batch| {
        rows += batch.num_rows() as u64;
        Ok(())
    })?;
    let expected = rows_of(stream, events);
    if rows == expected {
        Ok(server::cpu_seconds(std::process::id())? - before)
    } else {
        Err(format!("{rows} rows and not {expected}").into())
    }
}

fn rows_of(stream: Stream, events: u64) -> u64 {
    events / super::EVENTS * stream.share()
}

/// The statements of a file of the tests, without comments.
fn statements(file: &str) -> Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql-tests/nexmark").join(file);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let statements = lines.join("\n");
    Ok(statements.split(";\n").map(|s| s.trim().trim_end_matches(';').to_string()).filter(|s| !s.is_empty()).collect())
}

/// The streams, which are tables in the tests, as sources; by name.
fn sources(events: u64) -> Result<Vec<(&'static str, String)>> {
    let tables = statements("tables.sql")?;
    let source = |stream: Stream| {
        let name = stream.name();
        let table = tables.iter().find_map(|table| table.strip_prefix(&format!("CREATE TABLE {name} "))?.strip_suffix("APPEND ONLY"));
        let columns = table.ok_or_else(|| format!("tables.sql has no stream {name}"))?;
        let generator = format!("connector = 'nexmark', nexmark.table.type = '{name}', nexmark.event.num = '{events}'");
        Ok((name, format!("CREATE SOURCE {name} {columns} WITH ({generator})")))
    };
    [Person, Auction, Bid].into_iter().map(source).collect()
}

async fn measure(options: &Options, query: &Query, events: u64, check: bool) -> Result<Run> {
    let server = options.settings.start();
    let client = server.connect().await;
    for (_, source) in sources(events)? {
        server::execute(&client, &[&source]).await?;
    }
    for table in statements("tables.sql")?.iter().filter(|table| table.starts_with("CREATE TABLE side_input ")) {
        let rows: Vec<String> = (0..SIDE_ROWS).map(|key| format!("({key}, 'side {key}')")).collect();
        server::execute(&client, &[table, &format!("INSERT INTO side_input VALUES {}", rows.join(", "))]).await?;
    }
    let side = if query.number == 13 { SIDE_ROWS } else { 0 };
    let expected = query.streams.iter().map(|stream| rows_of(*stream, events)).sum::<u64>() + side;
    let pid = server.pid().ok_or("the server is not running")?;
    let (before, begun) = (server::cpu_seconds(pid)?, Instant::now());
    for statement in statements(&format!("q{}.sql", query.number))? {
        server::execute(&client, &[&statement]).await?;
    }
    let taken = until_taken(&client, query, expected as i64, pid).await?;
    let elapsed = begun.elapsed();
    let saved = format!("SELECT CAST(COUNT(*) > 0 AS INT) FROM eddyline.checkpoints WHERE problem IS NULL AND epoch >= {}", taken.epoch);
    wait_for(&client, &saved, 1).await?;
    let (cpu, peak_bytes) = (server::cpu_seconds(pid)? - before, server::peak_bytes(pid)?);
    if check {
        self::check(&client, query, events).await?;
    }
    let rows = server::integers(&client, &format!("SELECT COUNT(*) FROM q{}", query.number)).await?;
    stop(server).await?;
    Ok(Run { elapsed, cpu, peak_bytes, rows: rows.first().copied().unwrap_or(0), is_checked: check, taken })
}

/// Off the runtime's threads: the directory of a long run takes a while to be removed.
async fn stop(server: Server) -> Result<()> {
    Ok(tokio::task::spawn_blocking(move || drop(server)).await?)
}

struct Taken {
    epoch: i64,
    /// The most that was seen.
    state_bytes: i64,
    progress: Progress,
}

/// Until the view's job has taken all rows of its streams; none may be late or rejected.
async fn until_taken(client: &Client, query: &Query, expected: i64, pid: u32) -> Result<Taken> {
    let look = format!("SELECT rows_in, late + rejected, epoch, state_bytes FROM eddyline.jobs WHERE job = 'q{}'", query.number);
    let (begun, mut state_bytes, mut progress) = (Instant::now(), 0, Progress::default());
    loop {
        let seen = server::integers(client, &look).await?;
        let [rows, bad, epoch, state] = seen[..] else { return Err(format!("q{} has no job", query.number).into()) };
        state_bytes = state.max(state_bytes);
        progress.0.push((rows, server::cpu_seconds(pid)?));
        if bad > 0 {
            return Err(format!("q{}: {bad} rows were late or rejected", query.number).into());
        }
        if rows >= expected {
            let taken = Taken { epoch, state_bytes, progress };
            return if rows == expected { Ok(taken) } else { Err(format!("{rows} of {expected} rows").into()) };
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("q{}: after {PATIENCE:?} {rows} of {expected} rows are taken", query.number).into());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn wait_for(client: &Client, query: &str, wanted: i64) -> Result<()> {
    let begun = Instant::now();
    while server::integers(client, query).await? != [wanted] {
        if begun.elapsed() > PATIENCE {
            return Err(format!("after {PATIENCE:?}, {query} does not give {wanted}").into());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// A query without its view.
fn text_of(number: usize) -> Result<String> {
    let begins = format!("CREATE MATERIALIZED VIEW q{number} AS");
    let text = statements(&format!("q{number}.sql"))?.iter().find_map(|statement| Some(statement.strip_prefix(&begins)?.to_string()));
    text.ok_or_else(|| format!("q{number}.sql makes no view q{number}").into())
}

/// What the view holds is what its query gives. Two queries depend on when rows came; what they come to does not.
async fn check(client: &Client, query: &Query, events: u64) -> Result<()> {
    let bids = rows_of(Bid, events) as i64;
    match query.number {
        12 => wait_for(client, "SELECT CAST(SUM(bid_count) AS BIGINT) FROM q12", bids).await,
        13 => wait_for(client, "SELECT COUNT(*) FROM q13", bids).await,
        number => {
            let (view, query) = (format!("SELECT * FROM q{number}"), text_of(number)?);
            let difference = format!("({view} EXCEPT ALL {query}) UNION ALL ({query} EXCEPT ALL {view})");
            match server::rows(client, &difference).await?.as_slice() {
                [] => Ok(()),
                [first, ..] => Err(format!("q{number} differs from its query, at first in {first:?}").into()),
            }
        }
    }
}
