//! The operators, one file each. They meet the worker only through `crate::operator`.

pub mod aggregate;
pub mod exchange;
pub mod filter;
pub mod materialize;
pub mod project;
pub mod scan;
pub mod sink;
pub mod union;
pub mod values;
pub mod window_assign;
