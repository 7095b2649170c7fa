//! Streaming plan to running dataflow: workers, operators, exchanges, steps.
//!
//! # Layout
//! - `engine`: the handle; starts workers, distributes steps, gathers their results into events.
//! - `job`: what a job is, in and out: its specification, a step, progress, results.
//! - `worker`: a thread that owns its shard of every job.
//! - `instance`: one job on one worker, a state machine over the plan's nodes.
//! - `exchange`: routing rows to the workers that own them.
//! - `build`: plan node to operator.
//! - `operator`, `operators`: the operator contract, and one file per operator.
//! - `placement`: which workers do a job's work.
//! - `accumulators`: weighted columnar accumulators of the aggregates.
//! - `rejects`: rows that could not be evaluated, kept until they are taken back.
//! - `layout`: rows as the byte strings that state keeps of them.
//! - `expr`: plan expressions to vectorised evaluators.
//!
//! It knows no SQL text, no connectors and no clients.

pub mod accumulators;
mod build;
pub mod engine;
pub mod exchange;
pub mod expr;
mod instance;
pub mod job;
pub mod layout;
pub mod operator;
pub mod operators;
pub mod placement;
pub mod rejects;
#[cfg(test)]
mod testing;
mod worker;

pub use engine::{Engine, EngineConfig, StateBackend};
pub use job::{EngineEvent, JobLookup, JobProgress, JobSpec, OperatorStats, SideRows, Step, StepDone, StepInput};
pub use operator::{Operator, StepContext};
