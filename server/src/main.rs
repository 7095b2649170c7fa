//! The binary `eddyline`: reads the command line, runs the server or the demo, returns an exit code.

use clap::{Parser, Subcommand};
use eddyline_server::config::{Config, Flags};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "eddyline", version, about = "A streaming SQL database: materialized views that are always fresh")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve Postgres clients until SIGTERM or SIGINT
    Serve {
        #[command(flatten)]
        flags: Flags,
    },
    /// Serve, with an auction house to look at that reports every second
    Demo {
        #[command(flatten)]
        flags: Flags,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (flags, demo) = match &cli.command {
        Command::Serve { flags } => (flags, false),
        Command::Demo { flags } => (flags, true),
    };
    // What a store repeats in passing is told once it has failed.
    let default_level = if demo { "warn" } else { "info,object_store=warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match Config::load(flags).and_then(|config| eddyline_server::run(config, demo)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
