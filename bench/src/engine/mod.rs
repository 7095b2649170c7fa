//! Rows per second through planner and engine in this process: steps bounded as the coordinator bounds them, checkpoints
//! every second, and what a view holds in the end compared with DataFusion's result over the same rows.
//!
//! - `cases`: the queries, their input and their goals
//! - `catalog`: SQL text to relations
//! - `run`: one job driven through all of the input, under the clock
//! - `checkpoints`: the background thread that makes it durable meanwhile

mod cases;
pub mod catalog;
mod checkpoints;
mod run;

use crate::batch::{self, Checksum};
use crate::report::{Figure, Goal};
use crate::{Result, server};
use cases::{Batches, Case, Sink};
use clap::{Args, ValueEnum};
use datafusion::prelude::SessionContext;
use eddyline_common::types::arrow_schema;
use eddyline_planner::RULES;
use run::{Harness, Outcome};
use tokio::runtime::Runtime;

/// The counting sink shows no rows, so a case that ends in one is run once more, off the clock, over this many into a view.
const CHECKED_ROWS: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CaseName {
    Filter,
    Tumble,
    Group,
    Few,
    All,
    Pass,
    Join,
}

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub settings: server::Settings,
    /// Input rows of each case
    #[arg(long, default_value_t = 10_000_000)]
    pub rows: u64,
    /// Which cases to run [default: all]
    #[arg(long, value_enum)]
    pub case: Vec<CaseName>,
    /// Settings of the optimiser to switch off, such as enable_two_phase_aggregation
    #[arg(long)]
    pub without: Vec<String>,
}

impl Options {
    fn disabled_rules(&self) -> Result<Vec<&'static str>> {
        let rule = |name: &String| -> Result<&'static str> {
            Ok(RULES.into_iter().find(|rule| *rule == name.as_str()).ok_or_else(|| format!("there is no rule {name}"))?)
        };
        self.without.iter().map(rule).collect()
    }
}

pub fn run(options: &Options, runtime: &Runtime) -> Result<()> {
    for case in cases::all() {
        if options.case.is_empty() || options.case.contains(&case.name) {
            measure(&case, options, runtime)?;
        }
    }
    Ok(())
}

fn measure(case: &Case, options: &Options, runtime: &Runtime) -> Result<()> {
    let workers = options.settings.workers();
    let input = case.batches(options.rows)?;
    let rows: u64 = input.iter().map(|(_, b)| b.num_rows() as u64).sum();
    let disabled_rules = options.disabled_rules()?;
    let harness = Harness { workers, backend: options.settings.backend, runtime: runtime.handle().clone(), disabled_rules };
    let outcome = harness.run(case, case.sink, &input)?;
    check_counts(&outcome, rows)?;
    let context = session(case, &input, workers)?;
    let (theirs, their_rows) = batch::fastest(&context, case.batch, runtime)?;
    match case.sink {
        Sink::View => check_content(case, &outcome, &input, workers, runtime)?,
        Sink::Counter => {
            let some = input[..input.len().min(CHECKED_ROWS / cases::BATCH_ROWS)].to_vec();
            check_content(case, &harness.run(case, Sink::View, &some)?, &some, workers, runtime)?;
            if outcome.rows_out != their_rows {
                return Err(format!("{}: {} rows came out, DataFusion has {their_rows}", case.title, outcome.rows_out).into());
            }
        }
    }
    let mut figure = Figure::new(case.title, rows as f64 / outcome.elapsed.as_secs_f64(), "rows/s", Goal::AtLeast(case.goal))
        .datafusion(outcome.elapsed, theirs)
        .beside(format!("{rows} rows in {:.2} s", outcome.elapsed.as_secs_f64()))
        .beside(format!("{} steps, {} checkpoints", outcome.steps, outcome.checkpoints))
        .beside(format!("out {}, checked", outcome.rows_out));
    if outcome.state_bytes > 0 {
        figure = figure.beside(format!("state {:.0} bytes per row taken", outcome.state_bytes as f64 / rows as f64));
    }
    figure.print();
    Ok(())
}

fn check_counts(outcome: &Outcome, rows: u64) -> Result<()> {
    let seen = (outcome.rows_in, outcome.late, outcome.rejected);
    if seen == (rows, 0, 0) { Ok(()) } else { Err(format!("of {rows} rows, taken, late and rejected are {seen:?}").into()) }
}

/// What the view holds is what DataFusion makes of the same rows.
fn check_content(case: &Case, outcome: &Outcome, input: &Batches, workers: usize, runtime: &Runtime) -> Result<()> {
    let schema = arrow_schema(&outcome.view.columns);
    let mut ours = Checksum::default();
    for batch in outcome.view.rows()? {
        ours.add(&batch?, &schema)?;
    }
    let context = session(case, input, workers)?;
    let theirs = Checksum::of(&batch::collect(&context, case.batch, runtime)?, &schema)?;
    if ours == theirs { Ok(()) } else { Err(format!("{}: the view holds {ours:?}, DataFusion has {theirs:?}", case.title).into()) }
}

/// A session that knows each input by its name.
fn session(case: &Case, input: &Batches, workers: usize) -> Result<SessionContext> {
    let rows_of = |place: usize| input.iter().filter(|(of, _)| *of == place).map(|(_, rows)| rows.clone()).collect::<Vec<_>>();
    let tables: Vec<_> = case.inputs.iter().enumerate().map(|(place, input)| (input.relation, rows_of(place))).collect();
    batch::session(&tables, workers)
}
