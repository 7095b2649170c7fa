//! What a server without work costs, from `/proc`, and how soon it is ready on an empty directory.

use crate::report::{Figure, Goal, percentile};
use crate::{Result, server};
use clap::Args;
use std::time::{Duration, Instant};

const GOAL_READY_S: f64 = 1.0;
const GOAL_CPU_PERCENT: f64 = 0.5;
const GOAL_RSS_MIB: f64 = 120.0;
/// What starting up leaves behind is over by then.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    settings: server::Settings,
    /// How long it is watched
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[arg(long, default_value_t = 5)]
    starts: usize,
}

pub async fn run(options: &Options) -> Result<()> {
    let mut ready = Vec::new();
    for _ in 0..options.starts.max(1) {
        let begun = Instant::now();
        let server = options.settings.start();
        ready.push(begun.elapsed());
        drop(server);
    }
    ready.sort();
    Figure::new("ready on an empty directory, median", percentile(&ready, 0.5).as_secs_f64(), "s", Goal::AtMost(GOAL_READY_S))
        .beside(format!("slowest of {} starts {:.2} s", ready.len(), percentile(&ready, 1.0).as_secs_f64()))
        .print();

    let server = options.settings.start();
    // A client that is connected and silent is part of an idle server.
    let client = server.connect().await;
    client.simple_query("SELECT 1").await?;
    tokio::time::sleep(SETTLE).await;
    let pid = server.pid().ok_or("the server is not running")?;
    let (before, begun) = (server::cpu_seconds(pid)?, Instant::now());
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let used = server::cpu_seconds(pid)? - before;
    let percent = used / begun.elapsed().as_secs_f64() * 100.0;
    Figure::new("idle server, CPU", percent, "% of core", Goal::AtMost(GOAL_CPU_PERCENT))
        .beside(format!("over {} s", options.seconds))
        .print();
    Figure::new("idle server, resident memory", resident_kib(pid)? as f64 / 1024.0, "MiB", Goal::AtMost(GOAL_RSS_MIB)).print();
    Ok(())
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found() {
        assert!(resident_kib(std::process::id()).unwrap() > 0);
    }
}
