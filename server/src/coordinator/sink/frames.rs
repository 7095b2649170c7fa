//! What a sink's log holds, each under a kind byte of its own. All integers are little-endian.
//!
//! ```text
//! rows   = number (8) | epoch (8) | now (8) | the step's net changes, as in the log of table writes
//! commit = JSON: the rows up to a number take the outside to an epoch of the job, with where its sources stood
//! sent   = JSON: everything up to a number is durable outside
//! void   = JSON: rows and commits beyond a number, up to another, count for nothing
//! ```
//!
//! Rows are sent once a commit covers them. Commits carry the cut, so that a transaction that takes rows outside can
//! take along how far they go.

use super::super::records::{decode_changes, encode_changes};
use eddyline_common::connector::{PartitionStart, SinkStep};
use eddyline_common::{ChangeBatch, Epoch, RelationId, Result, SqlError, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const KIND_ROWS: u8 = 1;
pub const KIND_COMMIT: u8 = 2;
pub const KIND_SENT: u8 = 3;
pub const KIND_VOID: u8 = 4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The last number it covers.
    pub up_to: u64,
    /// What the job was at before.
    pub from: Epoch,
    pub epoch: Epoch,
    /// With these rows the outside has all of the epoch. Not so in the middle of a backfill.
    pub complete: bool,
    /// Where the job's sources stand after the epoch.
    pub sources: BTreeMap<RelationId, Vec<PartitionStart>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    pub up_to: u64,
    /// The newest complete epoch outside.
    pub complete: Option<Epoch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Void {
    pub after: u64,
    pub up_to: u64,
}

impl Void {
    pub fn covers(&self, number: u64) -> bool {
        number > self.after && number <= self.up_to
    }
}

pub fn encode_rows(step: SinkStep, changes: &ChangeBatch) -> Result<Vec<u8>> {
    let ipc = encode_changes(changes)?;
    let mut payload = Vec::with_capacity(24 + ipc.len());
    payload.extend_from_slice(&step.number.to_le_bytes());
    payload.extend_from_slice(&step.epoch.0.to_le_bytes());
    payload.extend_from_slice(&step.now.0.to_le_bytes());
    payload.extend_from_slice(&ipc);
    Ok(payload)
}

pub fn step_of(payload: &[u8]) -> Result<(SinkStep, &[u8])> {
    let (head, rest) = payload.split_first_chunk::<24>().ok_or_else(|| SqlError::corrupt("rows in a sink's log are cut short"))?;
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    Ok((SinkStep { number: word(0), epoch: Epoch(word(8)), now: Timestamp(word(16) as i64) }, rest))
}

pub fn decode_rows(payload: &[u8]) -> Result<(SinkStep, ChangeBatch)> {
    let (step, ipc) = step_of(payload)?;
    Ok((step, decode_changes(ipc)?))
}

pub fn decode_json<T: for<'a> Deserialize<'a>>(payload: &[u8]) -> Result<T> {
    serde_json::from_slice(payload).map_err(|e| SqlError::corrupt(format!("a record of a sink's log cannot be read: {e}")))
}
