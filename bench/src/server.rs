//! The server process under measurement, and clients for it: the tests' own `Server`, with the settings that all figures
//! share. The binary is `EDDYLINE_BIN`, or `eddyline` beside this one.

use crate::Result;
use clap::ValueEnum;
use eddyline_sql_tests::{Server, ServerOptions};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Memory,
    Rocksdb,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::Memory => "memory",
            Backend::Rocksdb => "rocksdb",
        }
    }
}

#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    /// Worker threads [default: the number of cores]
    #[arg(long)]
    workers: Option<usize>,
    #[arg(long, value_enum, default_value = "rocksdb")]
    pub backend: Backend,
    /// Operator state of all views together that stays in memory
    #[arg(long, default_value = "256MiB")]
    state_cache: String,
}

impl Settings {
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(cores)
    }

    /// A server on an empty directory, checkpoints every second.
    pub fn start(&self) -> Server {
        Server::start(ServerOptions {
            workers: self.workers(),
            backend: self.backend.name(),
            // The options live as long as the process.
            state_cache: Box::leak(self.state_cache.clone().into_boxed_str()),
            checkpoint_interval: "1s",
            // Results are compared by queries over all rows.
            settings: &["--query-memory", "8GiB"],
            ..ServerOptions::default()
        })
    }
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs statements and says which one failed, and why.
pub async fn execute(client: &Client, statements: &[&str]) -> Result<()> {
    for statement in statements {
        client.batch_execute(statement).await.map_err(|e| explain(statement, &e))?;
    }
    Ok(())
}

/// The rows of a query as text, NULL as the empty string.
pub async fn rows(client: &Client, query: &str) -> Result<Vec<Vec<String>>> {
    let messages = client.simple_query(query).await.map_err(|e| explain(query, &e))?;
    let cells = |row: &tokio_postgres::SimpleQueryRow| (0..row.len()).map(|i| row.get(i).unwrap_or_default().to_string()).collect();
    Ok(messages.iter().filter_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(cells(row)) } else { None }).collect())
}

/// The integers of a query's first row, if it has one; NULL as 0.
pub async fn integers(client: &Client, query: &str) -> Result<Vec<i64>> {
    let rows = rows(client, query).await?;
    rows.iter().take(1).flatten().map(|cell| if cell.is_empty() { Ok(0) } else { Ok(cell.parse()?) }).collect()
}

/// Polls a query until its first row is `wanted`, and says what it is instead when it does not get there in time.
pub async fn wait_for(client: &Client, query: &str, wanted: &[i64], within: Duration) -> Result<()> {
    const POLL: Duration = Duration::from_millis(5);
    let begun = Instant::now();
    loop {
        let seen = integers(client, query).await?;
        if seen == wanted {
            return Ok(());
        }
        if begun.elapsed() > within {
            return Err(format!("after {within:?}, {query} gives {seen:?} and not {wanted:?}").into());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn explain(statement: &str, error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{}: {} {}\n  in: {statement}", db.code().code(), db.message(), db.detail().or(db.hint()).unwrap_or_default()),
        None => format!("{error}\n  in: {statement}"),
    }
}

/// `/proc/PID/stat` counts in hundredths of a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks_of(&stat).map(|ticks| ticks as f64 / TICKS_PER_SECOND).ok_or_else(|| format!("/proc/{pid}/stat reads {stat}").into())
}

/// The most memory that a process has had resident at a time.
pub fn peak_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.ok_or_else(|| format!("/proc/{pid}/status reads {status}"))? << 10)
}

/// Fields 14 and 15; the name in field 2 may have spaces, and ends at the last parenthesis.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        assert_eq!(ticks_of("42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 17 5 0 0 20 0 9 0 1 2 3"), Some(22));
        assert!(cpu_seconds(std::process::id()).is_ok());
        assert!(peak_bytes(std::process::id()).unwrap() > 1 << 20);
    }
}
