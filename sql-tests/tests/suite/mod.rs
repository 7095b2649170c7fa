//! - `tidy`: house rules that the compiler does not check
//! - `slt`: SQL behaviour, by feature, in every mode

mod slt;
mod tidy;
