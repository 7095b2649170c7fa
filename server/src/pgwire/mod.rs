//! The PostgreSQL protocol: sockets to sessions and back. The pgwire crate decodes what clients send; the loop, the
//! writing of rows and cancelling are ours, because a portal must stream and a cancel must work meanwhile.
//!
//! - `listener`: accepting, limits, shutdown
//! - `connection`: startup and the message loop
//! - `simple`, `extended`, `copy`: the three dialogues
//! - `guard`: cancel, timeouts, panics, clients that are gone
//! - `wire`, `messages`: bytes
//! - `encode`, `text`: Arrow columns to values; `decode`, `parse`: values to Arrow columns; `types`: oids

pub mod cancel;
mod connection;
mod copy;
pub mod decode;
pub mod encode;
mod extended;
mod guard;
pub mod listener;
pub mod messages;
pub mod parse;
mod simple;
mod text;
pub mod types;
mod wire;

#[cfg(test)]
mod tests;
