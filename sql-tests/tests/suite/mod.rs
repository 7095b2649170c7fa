//! - `tidy`: house rules that the compiler does not check
//! - `slt`: SQL behaviour, by feature, in every mode
//! - `crash`: kills at failpoints and at random moments
//! - `faults`: full disks, damaged files, clients that vanish
//! - `docs`: the examples of README and docs/
//! - `kafka`: the main job on a real broker
//! - `oracle`: incremental against batch, in process

mod crash;
mod docs;
mod faults;
mod kafka;
mod oracle;
mod slt;
mod tidy;
