//! The operators, one file each. They meet the worker only through `crate::operator`.

pub mod aggregate;
pub mod exchange;
pub mod filter;
pub mod join;
pub mod lookup_join;
pub mod match_recognize;
mod matched;
pub mod materialize;
mod missing;
mod net;
pub mod normalize;
pub mod over;
pub mod pre_aggregate;
pub mod processing_time;
pub mod project;
pub mod routing;
pub mod scan;
pub mod session;
pub mod sink;
pub mod state;
pub mod temporal_filter;
pub mod temporal_join;
pub mod top_n;
pub mod union;
pub mod unnest;
pub mod values;
pub mod window_assign;
