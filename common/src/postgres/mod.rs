//! The forms that values have in PostgreSQL: type oids, text, and the binary format of its protocol. Pure functions from
//! Arrow columns to bytes and back; they know nothing of messages and sockets.
//!
//! - `types`: what a column's type is called
//! - `encode`, `text`: Arrow columns to values
//! - `decode`, `parse`: values to Arrow columns
//! - `procs`: what a function's oid is called

pub mod decode;
pub mod encode;
pub mod parse;
pub mod procs;
pub mod text;
pub mod types;
