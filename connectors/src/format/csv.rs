//! CSV records (RFC 4180).

pub mod encode;
