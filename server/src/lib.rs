//! The server: sockets, sessions, catalog, coordinator, serving queries, HTTP.
//!
//! # Layout, in the order of a statement's life
//! - `pgwire`: messages to statements, rows to messages
//! - `session`: what a statement does; transactions, cursors, settings
//! - `catalog`, `pgcatalog`: relations, and how clients look at them
//! - `serving`: queries over snapshots, and the evaluation of writes
//! - `coordinator`: single owner of the catalog and of the order of cuts and DDL
//! - `http`, `metrics`: what is measured; `sessions`, `advisory`, `problems`: who is connected, what they agree on, what went wrong
//! - `config`, `startup`, `demo`: the process

pub mod advisory;
pub mod catalog;
pub mod config;
pub mod coordinator;
pub mod demo;
pub mod http;
pub mod metrics;
pub mod pgcatalog;
pub mod pgwire;
pub mod problems;
pub mod serving;
pub mod session;
pub mod sessions;
mod startup;

pub use startup::run;
