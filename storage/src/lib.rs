//! Durable storage of the server: the write-ahead log, the key-value stores of operator state, checkpoints in an object
//! store, the lock on a data directory, operator state tables and materialized views.
//!
//! Knows bytes, files and epochs; knows nothing of SQL, plans, sessions or connectors.

mod io;

pub mod checkpoint;
pub mod kv;
pub mod lock;
pub mod log;
pub mod priority;
pub mod state;
pub mod view;
