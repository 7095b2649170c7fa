//! The binary `eddyline-bench`: the figures of docs/benchmarks.md, one subcommand each. Every subcommand checks that what
//! it measured was right (counts and checksums) before it prints a line; a goal that is not reached is printed, not an
//! error. Input is made before the clock starts.
//!
//! # Layout
//! - `engine`: the dataflow in this process, without a server, beside plain DataFusion; `decode`: the decoder of JSON alone
//! - `kafka`, `freshness`, `statement`, `idle`, `serving`, `views`, `parquet`, `nexmark::queries`, `tpch`: a server process, seen from outside
//! - `producer`: the process that stamps events into Kafka at a steady rate
//! - `server`: starting that server; `nexmark`: the generator's rows; `batch`: DataFusion and checksums
//! - `report`: a figure, its goal, and the line they make

mod batch;
mod decode;
mod engine;
mod freshness;
mod idle;
mod kafka;
mod nexmark;
mod parquet;
mod producer;
mod report;
mod server;
mod serving;
mod statement;
mod tpch;
mod views;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Benchmarks fail for many reasons and only ever report them.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(name = "eddyline-bench", version, about = "Measures Eddyline against its goals")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Rows per second through the dataflow in this process
    Engine(engine::Options),
    /// JSON records per second through the decoder in this process
    Decode(decode::Options),
    /// JSON records per second from a Kafka broker into a view, and back through a filter
    Kafka(kafka::Options),
    /// Time from an event's stamp to its row's being read, under load
    Freshness(freshness::Options),
    /// Latency of small statements on an idle server
    Statement(statement::Options),
    /// What an idle server costs, and how soon it is ready
    Idle(idle::Options),
    /// An aggregate over a large view, beside DataFusion
    Serving(serving::Options),
    /// Many views on one source
    Views(views::Options),
    /// Rows per second from a Parquet file into a view
    Parquet(parquet::Options),
    /// Nexmark's queries, each on a server of its own
    Nexmark(nexmark::queries::Options),
    /// TPC-H's queries as views, each on a server of its own
    Tpch(tpch::Options),
    #[command(hide = true)]
    Produce(producer::Options),
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let done = match Cli::parse().command {
        Command::Engine(options) => engine::run(&options, &runtime),
        Command::Decode(options) => decode::run(&options),
        Command::Kafka(options) => runtime.block_on(kafka::run(&options)),
        Command::Freshness(options) => runtime.block_on(freshness::run(&options)),
        Command::Statement(options) => runtime.block_on(statement::run(&options)),
        Command::Idle(options) => runtime.block_on(idle::run(&options)),
        Command::Serving(options) => serving::run(&options, &runtime),
        Command::Views(options) => runtime.block_on(views::run(&options)),
        Command::Parquet(options) => parquet::run(&options, &runtime),
        Command::Nexmark(options) => runtime.block_on(nexmark::queries::run(&options)),
        Command::Tpch(options) => runtime.block_on(tpch::run(&options)),
        Command::Produce(options) => producer::run(&options),
    };
    done.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

#[allow(clippy::print_stderr)] // a command line tool's way to say what went wrong
fn failed(error: &Box<dyn std::error::Error + Send + Sync>) -> ExitCode {
    eprintln!("eddyline-bench: {error}");
    ExitCode::FAILURE
}
