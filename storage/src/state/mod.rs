//! Operator state: keys interned to dense slots, values owned by the operator in columns of its own, and
//! one durable form for both backends.
//!
//! # Layout
//! - `gate`: who may write to the durable store while a checkpoint is being taken.
//! - `budget`: how much memory all tables of a server may have together.
//! - `space`: the durable key space of one operator on one worker; opens its tables.
//! - `table`: `StateTable`, from key bytes to slots; what is dirty, frozen, evicted, fetched.
//! - `index`: open addressing from hash to slot.
//! - `keys`: key bytes by slot, short ones inline, long ones in an arena.
//! - `ordered`: slots in the order of their keys.
//! - `expiry`: slots by the window end that their key begins with.
//! - `rows`: `KeyedRows`, many rows under a key, in order if wanted.
//! - `ttl`: which keys were not touched for how long.
//! - `present`: the values of tables whose keys say all.
//! - `codec`: what the owner of the values implements, and the numbers of compact values.
//!
//! # Durable form
//! Table `StateTableId`; key = virtual shard (1 byte) ++ kind (1 byte, which of the operator's tables) ++ key bytes
//! (`common::key`); value = the owner's compact encoding. The shard is that of the exchange that routed the row, so
//! that state can be split anew when parallelism changes. Window tables put the window end first in the key, so the
//! entries of one window of one shard are neighbours.
//!
//! # Invariants
//! 1. An entry that is not in memory is in the store as the operator last left it: only entries that are neither dirty nor
//!    frozen are evicted.
//! 2. A frozen run is never ingested over newer entries: between a table's freeze and the end of that checkpoint the
//!    table writes nothing to the store itself (`SpillGate`).
//! 3. An abandoned checkpoint loses nothing: its frozen entries become dirty again.

mod budget;
mod codec;
mod expiry;
mod gate;
mod index;
mod keys;
mod ordered;
mod present;
mod rows;
mod space;
mod table;
mod ttl;

pub use budget::StateBudget;
pub use codec::{SlotCodec, get_varint, get_varint_u128, put_varint, put_varint_u128, unzigzag, unzigzag128, zigzag, zigzag128};
pub use gate::{Outcome, SpillGate};
pub use rows::{Cursor, KeyedRows, ROW_KINDS, RowBatch, RowChunk, RowShape, RowTtl, TouchedHead, TouchedRow};
pub use space::{Residency, StateSpace};
pub use table::{NO_SLOT, Shards, StateCounters, StateTable, TableShape};
pub use ttl::Ttl;

#[cfg(test)]
mod tests;
