//! - `tidy`: house rules that the compiler does not check
//! - `slt`: SQL behaviour, by feature, in every mode
//! - `crash`: kills at failpoints and at random moments
//! - `oracle`: incremental against batch, in process

mod crash;
mod oracle;
mod slt;
mod tidy;
