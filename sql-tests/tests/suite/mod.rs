//! - `tidy`: house rules that the compiler does not check
//! - `slt`: SQL behaviour, by feature, in every mode
//! - `crash`: kills at failpoints and at random moments
//! - `docs`: the examples of README and docs/
//! - `kafka`: the main job on a real broker
//! - `segments`: rows of views in mapped files
//! - `oracle`: incremental against batch, in process

mod crash;
mod docs;
mod kafka;
mod oracle;
mod segments;
mod slt;
mod tidy;
