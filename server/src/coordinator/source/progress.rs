//! What a checkpoint keeps of a source, and what it starts from.

use super::super::history::SavedHistory;
use eddyline_common::connector::{PartitionStart, SourceNote};
use eddyline_common::cut::PartitionCut;
use eddyline_common::{Offset, PartitionId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a checkpoint keeps of a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceProgress {
    pub starts: Vec<PartitionStart>,
    pub watermark: Timestamp,
    pub partitions: Vec<PartitionCut>,
    pub history: SavedHistory,
    #[serde(default)]
    pub notes: Vec<SourceNote>,
    pub records: u64,
    pub undecodable: u64,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub ahead: u64,
    /// Where it ended when its first reader came, if not all up to there has been read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub present: Vec<PartitionStart>,
}

impl SourceProgress {
    /// Of a new source.
    pub fn starting(starts: Vec<PartitionStart>) -> Self {
        let (partitions, history, notes) = (Vec::new(), SavedHistory::default(), Vec::new());
        let (watermark, present) = (Timestamp::MIN, Vec::new());
        SourceProgress { starts, watermark, partitions, history, notes, records: 0, undecodable: 0, bytes: 0, ahead: 0, present }
    }

    /// Positions that its partitions had come to.
    pub fn ends(&self) -> Vec<PartitionStart> {
        let mut ends: BTreeMap<PartitionId, Offset> = self.starts.iter().map(|s| (s.partition, s.start)).collect();
        ends.extend(self.partitions.iter().map(|cut| (cut.partition, cut.end)));
        ends.into_iter().map(|(partition, start)| PartitionStart { partition, start }).collect()
    }
}
