//! The server: pgwire, sessions, catalog, coordinator, serving queries, HTTP.

pub mod catalog;
pub mod config;
pub mod coordinator;
pub mod http;
