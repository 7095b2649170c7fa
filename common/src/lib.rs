//! Types every part of Eddyline shares: ids, change batches, cuts, time, keys, errors, and the traits
//! through which the outside world (clock, file system, key-value store, connectors) is reached.
//! No I/O here beyond the thin real implementations of those traits, and no SQL.

pub mod change;
pub mod connector;
pub mod cut;
pub mod error;
pub mod failpoint;
pub mod ids;
pub mod key;
pub mod kv;
pub mod object_store;
pub mod options;
pub mod postgres;
pub mod runtime;
pub mod telling;
pub mod time;
pub mod types;

pub use change::{ChangeBatch, TaggedBatch, bytes_of, bytes_of_column};
pub use cut::{Cut, InputCut, PartitionCut};
pub use error::{About, Result, SqlError, SqlState, panic_text};
pub use ids::{Epoch, Offset, PartitionId, RelationId, StateTableId};
pub use time::Timestamp;
pub use types::{Column, SqlType};
