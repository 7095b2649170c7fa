//! The binary `eddyline`: reads the command line, runs the server or the demo, returns an exit code.

use clap::{Parser, Subcommand};
use eddyline_server::config::{Config, Flags, misspelt};
use eddyline_server::problems::Problems;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

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
    let problems = Arc::new(Problems::default());
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let shown = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(coloured).with_filter(filter);
    tracing_subscriber::registry().with(shown).with(problems.layer()).init();
    for (variable, meant) in misspelt(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        tracing::warn!("environment variable {variable} is no setting; perhaps {meant} was meant");
    }
    match Config::load(flags).and_then(|config| eddyline_server::run(config, demo, problems)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
