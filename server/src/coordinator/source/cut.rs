//! A source's part of a cut: what of that which waits goes into an epoch, and how it comes into the ring, the history and the counters. It
//! does not know when a cut is due.

use super::super::inbox::Arrived;
use super::super::ring::RingEntry;
use super::Source;
use super::merging::merge_small;
use eddyline_common::connector::{PartitionStart, SourceNote, UndecodableRecord};
use eddyline_common::cut::PartitionCut;
use eddyline_common::{Epoch, InputCut, PartitionId, TaggedBatch, Timestamp};
use eddyline_planner::catalog::duration_text;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a source adds to a cut.
pub struct SourceCut {
    pub input: InputCut,
    pub undecodable: Vec<(PartitionId, UndecodableRecord)>,
}

impl Source {
    /// Takes up to about `bytes_max` of what waits into epoch `epoch`.
    pub fn cut(&mut self, epoch: Epoch, now: Timestamp, bytes_max: usize) -> SourceCut {
        let mut taken: Vec<Arrived> = Vec::new();
        let mut moved = Vec::new();
        let share = (bytes_max / self.partitions.len().max(1)).max(1);
        let idle: Vec<PartitionId> =
            self.partitions.iter().filter(|(_, p)| p.waiting.is_empty() && self.turns_idle(p)).map(|(id, _)| *id).collect();
        for (id, partition) in &mut self.partitions {
            let mut bytes = 0;
            let before = (partition.end, partition.idle);
            partition.idle = idle.contains(id) || (partition.idle && partition.waiting.is_empty());
            while bytes < share
                && let Some(arrived) = partition.waiting.pop_front()
            {
                bytes += arrived.bytes;
                partition.end = arrived.batch.end;
                let proposed = if arrived.batch.finished { Some(Timestamp::MAX) } else { arrived.times.watermark };
                partition.watermark = partition.watermark.max(proposed.unwrap_or(Timestamp::MIN));
                taken.push(arrived);
            }
            if before != (partition.end, partition.idle) || bytes > 0 {
                let start = partition.discovered.take();
                self.starts.extend(start.map(|start| PartitionStart { partition: *id, start }));
                moved.push(PartitionCut { start, ..partition.cut(*id) });
            }
        }
        let watermark = self.next_watermark();
        let notes: Vec<SourceNote> = taken.iter().flat_map(|a| a.batch.notes.iter().cloned()).collect();
        // A note of this very reader is one it knows.
        if let Err(error) = self.remember(&notes) {
            tracing::error!(source = %self.relation.name, "{error}");
        }
        let input = InputCut { watermark, partitions: moved, notes };
        let undecodable = self.enter(epoch, now, watermark, taken);
        SourceCut { input, undecodable }
    }

    /// Puts rows into the ring under the watermark that was in force before.
    pub(super) fn enter(
        &mut self,
        epoch: Epoch,
        now: Timestamp,
        watermark: Timestamp,
        taken: Vec<Arrived>,
    ) -> Vec<(PartitionId, UndecodableRecord)> {
        let arrival_watermark = self.watermark;
        let arrived = taken.iter().map(|a| a.at).min().unwrap_or_else(|| self.clock.instant());
        let bytes = taken.iter().map(|a| a.bytes).sum();
        let rows: u64 = taken.iter().map(|a| a.batch.rows.num_rows() as u64).sum();
        let behind = taken.iter().any(|a| a.times.oldest.is_some_and(|t| t < arrival_watermark));
        self.count_ahead(taken.iter().map(|a| a.times.ahead).sum());
        let mut undecodable = Vec::new();
        let mut batches = Vec::with_capacity(taken.len());
        for Arrived { batch, .. } in taken {
            undecodable.extend(batch.undecodable.iter().map(|u| (batch.partition, u.clone())));
            if batch.rows.num_rows() > 0 {
                batches.push(batch.changes());
            }
        }
        let tagged = |changes| TaggedBatch { changes, arrival_watermark, now };
        let batches = merge_small(batches).into_iter().map(tagged).collect();
        self.watermark = watermark;
        self.stats.records.fetch_add(rows + undecodable.len() as u64, Ordering::Relaxed);
        self.stats.rate.add(rows + undecodable.len() as u64, self.clock.now());
        self.stats.undecodable.fetch_add(undecodable.len() as u64, Ordering::Relaxed);
        self.stats.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.stats.watermark.store(watermark.0, Ordering::Relaxed);
        self.note_offsets();
        let ends = self.ends();
        self.history.push(epoch, arrival_watermark, watermark, ends.clone(), rows, behind);
        self.ring.push(RingEntry { epoch, batches, watermark, bytes, arrived, ends: Some(Arc::new(ends)) });
        self.note_present(epoch);
        undecodable
    }

    /// Rows that would have taken the watermark too far. The first of them since start are told of: what waits for the watermark is silent.
    fn count_ahead(&mut self, rows: u64) {
        self.stats.ahead.fetch_add(rows, Ordering::Relaxed);
        if rows == 0 || std::mem::replace(&mut self.has_told_ahead, true) {
            return;
        }
        let guard = self.relation.watermark.as_ref().and_then(|w| w.future_guard).map(duration_text).unwrap_or_default();
        tracing::warn!(
            source = %self.relation.name,
            "times further in the future than watermark.future-guard allows ({guard}) came, {rows} at first: they do not move the watermark, and \
             windows at those times stay open. eddyline.sources.ahead counts them. Correct what writes them, or give the source another \
             watermark.future-guard with ALTER SOURCE ... SET, if such times are meant"
        );
    }
}
