//! The oracle: for every view at every committed epoch, the incremental content equals DataFusion's batch result over the
//! input up to that cut, late and rejected rows aside, and those are accounted for.
//!
//! It drives planner, executor and storage in-process, without server and wire, so that it controls every cut (but for `outside`). A seed
//! decides the data, how a cut is split into batches, which jobs lag and coalesce, when checkpoints and kills happen and
//! with how many workers a killed process comes back.
//!
//! # Layout
//! - `random`: queries made by chance
//! - `case`: what a case is; `relational`, `joined`, `ranked`, `over`, `sets`, `windowed`, `temporal`, `arriving`, `patterns`, `unnested`, `nearest`, `nested`, `large`: the cases, a line each
//! - `forgetting`: views that forget state, for which there is no batch result: runs of the same cuts are compared, and with a model
//! - `tables`: input relations, random changes, the log of cuts; `rows`: values, batches, splitting
//! - `batch`: the expected result; `windows`, `versions`, `matches`: windows, lateness, arrival and row patterns, naively; `catalog`: what both sides plan over
//! - `process`: one life of the engine and its views; `run`: a run with all its lives
//! - `rules`: each rule of the optimiser off by itself
//! - `outside`: what sinks and subscriptions give of a server that is killed
//! - `compare`: multisets of rows; `postgres`: the same queries in a database that shares none of our code
//!
//! `EDDYLINE_ORACLE_CASES` multiplies the number of seeds, `EDDYLINE_ORACLE_SEED` runs just one.

mod arriving;
mod batch;
mod case;
mod catalog;
pub mod compare;
mod forgetting;
mod joined;
mod large;
mod matches;
mod nearest;
mod nested;
mod outside;
mod over;
mod patterns;
pub mod postgres;
mod process;
mod random;
mod ranked;
mod relational;
mod rows;
mod rules;
mod run;
mod sets;
mod tables;
mod temporal;
mod unnested;
mod versions;
mod windowed;
mod windows;

use case::Scenario;
use eddyline_executor::StateBackend;
use process::{Mode, Totals};
use random::Grammar;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds that once failed: scenario, seed. They run first, in every mode.
const FAILED: &[(&str, u64)] = &[
    ("arriving", 6),
    ("random", 248),
    ("random", 3013),
    ("random", 3160),
    ("random", 3221),
    ("random", 3265),
    ("random", 3443),
    ("wide", 38),
];

/// The seeds of one mode: no two modes share one, so that more of them are seen in the same time.
fn seeds(scenario: &str, mode: Mode, usual: u64) -> Vec<u64> {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")));
    if let Some(seed) = variable("EDDYLINE_ORACLE_SEED") {
        return vec![seed];
    }
    let times = variable("EDDYLINE_ORACLE_CASES").unwrap_or(1);
    let place = 2 * (mode.workers as u64 - 1) + u64::from(mode.backend == StateBackend::Rocksdb);
    let own = (0..usual * times).map(|i| i * 4 + place + 1);
    FAILED.iter().filter(|(name, _)| *name == scenario).map(|(_, seed)| *seed).chain(own).collect()
}

/// Rules of the optimiser that change neither which rows are late nor which fail: every second seed of a mode does without them.
const NEUTRAL_RULES: [&str; 2] = ["enable_common_subexpressions", "enable_two_phase_aggregation"];

fn rules_off(seed: u64) -> Vec<&'static str> {
    if seed / 4 % 2 == 1 { NEUTRAL_RULES.to_vec() } else { vec![] }
}

/// Runs a scenario for every seed. A failure names what is needed to see it again.
fn verify(scenario: Scenario, mode: Mode, usual: u64) -> Vec<Totals> {
    seeds(scenario.name, mode, usual)
        .into_iter()
        .map(|seed| run_seed(scenario.name, mode, seed, || run::run(&scenario, mode, seed, rules_off(seed))))
        .collect()
}

/// The same with the queries that each seed makes.
fn verify_random(grammar: Grammar, mode: Mode, usual: u64) -> Vec<Totals> {
    let name = grammar.name();
    let run =
        |seed| run_seed(name, mode, seed, || run::run(&random::scenario(grammar, seed), mode, seed, random::rules_off(grammar, seed)));
    seeds(name, mode, usual).into_iter().map(run).collect()
}

fn run_seed(scenario: &str, mode: Mode, seed: u64, run: impl FnOnce() -> Totals) -> Totals {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
        panic!("scenario {scenario}, seed {seed}, {mode:?}: {}", text.unwrap_or_default())
    })
}

fn memory(workers: usize) -> Mode {
    Mode { workers, backend: StateBackend::Memory }
}

fn rocksdb(workers: usize) -> Mode {
    Mode { workers, backend: StateBackend::Rocksdb }
}

/// Kills and replays are part of every set of runs.
fn assert_eventful(totals: &[Totals]) {
    let sum = |of: fn(&Totals) -> u64| totals.iter().map(of).sum::<u64>();
    assert!(sum(|t| t.checkpoints) > 0 && sum(|t| t.kills) > 0, "there were no checkpoints or kills: {totals:?}");
}

/// So is it that rows are followed from a view's input to where they went.
fn assert_accounted(totals: &[Totals]) {
    assert_eventful(totals);
    assert!(totals.iter().all(|t| t.accounted > 0), "no view's rows were accounted for: {totals:?}");
}

macro_rules! modes {
    ($name:ident, $scenario:expr, $seeds:expr, $check:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn in_memory_with_1_worker() {
                $check(&verify($scenario, memory(1), $seeds));
            }

            #[test]
            fn in_memory_with_2_workers() {
                $check(&verify($scenario, memory(2), $seeds));
            }

            #[test]
            fn in_rocksdb_with_1_worker() {
                $check(&verify($scenario, rocksdb(1), $seeds));
            }

            #[test]
            fn in_rocksdb_with_2_workers() {
                $check(&verify($scenario, rocksdb(2), $seeds));
            }
        }
    };
}

modes!(relational_views, relational::scenario(), 2, assert_accounted);
modes!(ranked_views, ranked::scenario(), 2, assert_eventful);
modes!(over_views, over::scenario(), 2, assert_eventful);
modes!(set_views, sets::scenario(), 2, assert_eventful);
modes!(window_views, windowed::scenario(), 2, |totals: &[Totals]| {
    assert_accounted(totals);
    assert!(totals.iter().any(|t| t.late > 0) && totals.iter().any(|t| t.rejected > 0), "nothing was late or rejected: {totals:?}");
});
modes!(asof_views, nearest::scenario(), 2, assert_eventful);
modes!(unnest_views, unnested::scenario(), 2, assert_eventful);
modes!(join_views, joined::scenario(), 2, assert_eventful);
modes!(temporal_views, temporal::scenario(), 2, assert_eventful);
modes!(arriving_views, arriving::scenario(), 3, assert_eventful);
modes!(pattern_views, patterns::scenario(), 2, |totals: &[Totals]| {
    assert_eventful(totals);
    assert!(totals.iter().any(|t| t.late > 0) && totals.iter().any(|t| t.rejected > 0), "nothing was late or rejected: {totals:?}");
});
modes!(views_over_views, nested::scenario(), 3, assert_eventful);

/// What a view has forgotten follows from the cuts: runs with other workers, another store, other splits, checkpoints and kills come to the
/// same.
#[test]
fn what_is_forgotten_follows_from_the_cuts() {
    forgetting::verify(2);
}

/// State that does not fit the cache is written out and read back, and nothing is lost on the way.
fn verify_spilling(workers: usize) {
    let totals = verify(large::scenario(), rocksdb(workers), 1);
    assert_eventful(&totals);
    let moved = |t: &Totals| t.state.evictions > 0 && t.state.fetched > 0 && t.disk_reads > 0;
    assert!(totals.iter().all(moved), "the state never left the cache: {totals:?}");
}

#[test]
fn state_beyond_the_cache_with_1_worker() {
    verify_spilling(1);
}

#[test]
fn state_beyond_the_cache_with_2_workers() {
    verify_spilling(2);
}

#[test]
fn large_state_in_memory() {
    verify(large::scenario(), memory(2), 1);
}

macro_rules! random_modes {
    ($name:ident, $grammar:expr, $seeds:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn in_memory_with_1_worker() {
                assert_eventful(&verify_random($grammar, memory(1), $seeds));
            }

            #[test]
            fn in_memory_with_2_workers() {
                assert_eventful(&verify_random($grammar, memory(2), $seeds));
            }

            #[test]
            fn in_rocksdb_with_1_worker() {
                assert_eventful(&verify_random($grammar, rocksdb(1), $seeds));
            }

            #[test]
            fn in_rocksdb_with_2_workers() {
                assert_eventful(&verify_random($grammar, rocksdb(2), $seeds));
            }
        }
    };
}

random_modes!(random_views, Grammar::Plain, 1);
random_modes!(wide_random_views, Grammar::Wide, 2);
random_modes!(random_schema_views, Grammar::Schemas, 1);
random_modes!(random_window_views, Grammar::Windows, 2);
