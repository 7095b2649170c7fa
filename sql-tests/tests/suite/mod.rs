//! - `tidy`: house rules that the compiler does not check

mod tidy;
