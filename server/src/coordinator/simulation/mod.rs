//! The core on one thread: coordinator, workers, log and checkpoints take turns in an order that a seed decides, over a disk for the log
//! that loses what was not synced, by a clock that moves when nothing else does. Clients write, read and define; the server
//! is killed, loses its power, is stopped and started again. A failure names its seed, which brings it back. Sinks are not part of it: they
//! are edges, with threads of their own.
//!
//! - `feed`: a source whose records outlive the server
//! - `model`: what the tables and views must hold, given the writes that are in them
//! - `world`: the server, its clients, and what befalls them

mod feed;
mod model;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// Seeds that a test run goes through; `EDDYLINE_SIMULATIONS=from..to` chooses others.
const SEEDS: std::ops::Range<u64> = 0..24;

/// Things that happen in one simulation.
const HAPPENINGS: usize = 120;

fn simulate(seed: u64) -> Vec<String> {
    let mut world = World::new(seed);
    for _ in 0..HAPPENINGS {
        world.happen();
    }
    world.settle();
    world.into_trace()
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(chosen) = std::env::var("EDDYLINE_SIMULATIONS") else { return SEEDS };
    let (from, to) = chosen.split_once("..").expect("EDDYLINE_SIMULATIONS=from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn nothing_is_lost_doubled_torn_or_stuck() {
    for seed in seeds() {
        let run = catch_unwind(AssertUnwindSafe(|| simulate(seed)));
        assert!(run.is_ok(), "the simulation with seed {seed} failed: EDDYLINE_SIMULATIONS={seed}..{} brings it back", seed + 1);
    }
}

#[test]
fn a_flush_takes_all_that_has_arrived() {
    (0..8).for_each(|seed| World::new(seed).check_flushes());
}

#[test]
fn a_seed_brings_back_its_run() {
    let (first, second) = (simulate(3), simulate(3));
    let differs = first.iter().zip(&second).position(|(a, b)| a != b);
    assert!(differs.is_none() && first.len() == second.len(), "from {differs:?}: {:?}", differs.map(|at| (&first[at], &second[at])));
    assert_ne!(first, simulate(4));
}
