//! - `tidy`: house rules that the compiler does not check
//! - `slt`: SQL behaviour, by feature, in every mode
//! - `crash`: kills at failpoints and at random moments
//! - `docs`: the examples of README and docs/
//! - `kafka`: the main job on a real broker
//! - `oracle`: incremental against batch, in process
//! - `psql`: the real psql and its commands

mod crash;
mod docs;
mod kafka;
mod oracle;
mod psql;
mod slt;
mod tidy;
