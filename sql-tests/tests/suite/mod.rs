//! - `tidy`: house rules that the compiler does not check
//! - `slt`: SQL behaviour, by feature, in every mode
//! - `backfill`: private readings through restarts
//! - `crash`: kills at failpoints and at random moments
//! - `docs`: the examples of README and docs/
//! - `kafka`: the main job on a real broker
//! - `lateness`: the same rows are late for every view
//! - `metrics`: what Prometheus sees
//! - `oracle`: incremental against batch, in process

mod backfill;
mod crash;
mod docs;
mod kafka;
mod lateness;
mod metrics;
mod oracle;
mod slt;
mod tidy;
