//! The operators, one file each. They meet the worker only through `crate::operator`.

pub mod aggregate;
pub mod exchange;
pub mod filter;
pub mod join;
pub mod materialize;
pub mod normalize;
pub mod over;
pub mod project;
pub mod routing;
pub mod scan;
pub mod session;
pub mod sink;
pub mod top_n;
pub mod union;
pub mod values;
pub mod window_assign;
