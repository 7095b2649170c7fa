//! The PostgreSQL protocol: sockets to sessions and back. The pgwire crate decodes what clients send; the loop, the
//! writing of rows and cancelling are ours, because a portal must stream and a cancel must work meanwhile.
//!
//! - `listener`: accepting, limits, shutdown
//! - `connection`: startup and the message loop
//! - `simple`, `extended`, `copy`: the three dialogues
//! - `cancel`: one token for each session
//! - `guard`: cancel, timeouts, panics, clients that are gone
//! - `wire`, `shape`, `messages`: bytes
//!
//! The forms of values are those of `eddyline_common::postgres`.

pub mod cancel;
mod connection;
mod copy;
mod extended;
mod guard;
pub mod listener;
pub mod messages;
mod shape;
mod simple;
mod wire;

#[cfg(test)]
mod tests;
