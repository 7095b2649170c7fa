//! Cuts: what an epoch is a pure function of. A cut names the input one epoch takes, with which
//! watermarks and which `now`. Cuts are logged before their effects are seen; replaying them gives
//! the same epochs with the same content.

use crate::connector::SourceNote;
use crate::ids::{Epoch, Offset, PartitionId, RelationId};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One epoch's input. Relations that it does not name have nothing new in this epoch. A table's new
/// rows are the effects logged for it since the previous cut, by position in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    pub epoch: Epoch,
    /// What `now()` and processing time mean in this epoch.
    pub now: Timestamp,
    pub inputs: BTreeMap<RelationId, InputCut>,
}

/// One source's or table's part of a cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputCut {
    /// The input's watermark after this cut: the minimum over its partitions that are not idle, the maximum
    /// where all are, never less than before.
    pub watermark: Timestamp,
    /// Partitions that moved. Empty for tables.
    pub partitions: Vec<PartitionCut>,
    /// Notes of the batches taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<SourceNote>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionCut {
    pub partition: PartitionId,
    /// In the first cut with a partition that was discovered while the source ran: where its rows begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Offset>,
    /// The epoch takes the rows from the previous cut's `end` up to here.
    pub end: Offset,
    /// This partition's own watermark after the cut.
    pub watermark: Timestamp,
    /// Out of the minimum for now: nothing came within the idle timeout.
    pub idle: bool,
}
