//! Cuts of the log that a source is to take again, oldest first. They are packed, by what each changes of the one before: a log that no
//! checkpoint has shortened for hours has millions of them, and each takes some twenty bytes here. Knows nothing of rows.

use eddyline_common::cut::PartitionCut;
use eddyline_common::{Epoch, InputCut, Offset, PartitionId, Result, Timestamp};
use eddyline_storage::state::{get_varint, put_varint, unzigzag, zigzag};
use std::collections::{BTreeMap, VecDeque};

/// What is given back at once as cuts are taken.
const CHUNK_BYTES: usize = 64 << 10;

/// A source's part of a cut; its notes, and where partitions begin, are known before.
#[derive(Debug, PartialEq)]
pub struct RecordedCut {
    pub epoch: Epoch,
    pub now: Timestamp,
    pub watermark: Timestamp,
    pub partitions: Vec<PartitionCut>,
}

#[derive(Default)]
pub struct Recorded {
    /// Unpacked; there is one unless there are none.
    first: Option<RecordedCut>,
    chunks: VecDeque<Vec<u8>>,
    /// So much of the first chunk has been unpacked.
    read: usize,
    packed: Last,
    unpacked: Last,
}

/// The cut that was packed, or unpacked, last: what the next one is told by.
#[derive(Default)]
struct Last {
    epoch: i64,
    now: i64,
    watermark: i64,
    /// Their ends and watermarks.
    partitions: BTreeMap<PartitionId, (i64, i64)>,
}

impl Recorded {
    pub fn push(&mut self, epoch: Epoch, now: Timestamp, cut: &InputCut) {
        if self.chunks.back().is_none_or(|chunk| chunk.len() >= CHUNK_BYTES) {
            self.chunks.push_back(Vec::new());
        }
        if let Some(chunk) = self.chunks.back_mut() {
            self.packed.pack(epoch, now, cut, chunk);
        }
        if self.first.is_none() {
            self.unpack();
        }
    }

    /// The oldest.
    pub fn front(&self) -> Option<&RecordedCut> {
        self.first.as_ref()
    }

    pub fn pop(&mut self) -> Option<RecordedCut> {
        let first = self.first.take();
        self.unpack();
        if self.first.is_none() {
            *self = Recorded::default();
        }
        first
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Where the newest leave the partitions that any of them moves.
    pub fn end(&self, partition: PartitionId) -> Option<Offset> {
        self.packed.partitions.get(&partition).map(|(end, _)| Offset(*end))
    }

    fn unpack(&mut self) {
        if self.chunks.front().is_some_and(|chunk| chunk.len() == self.read) {
            self.chunks.pop_front();
            self.read = 0;
        }
        let Some(chunk) = self.chunks.front() else { return };
        let mut rest = &chunk[self.read..];
        self.first = Some(self.unpacked.unpack(&mut rest).expect("it was packed here"));
        self.read = chunk.len() - rest.len();
    }
}

impl Last {
    fn pack(&mut self, epoch: Epoch, now: Timestamp, cut: &InputCut, out: &mut Vec<u8>) {
        put_change(&mut self.epoch, epoch.0 as i64, out);
        put_change(&mut self.now, now.0, out);
        put_change(&mut self.watermark, cut.watermark.0, out);
        put_varint(cut.partitions.len() as u64, out);
        for moved in &cut.partitions {
            put_varint((zigzag(i64::from(moved.partition.0)) << 1) | u64::from(moved.idle), out);
            let (end, watermark) = self.partitions.entry(moved.partition).or_default();
            put_change(end, moved.end.0, out);
            put_change(watermark, moved.watermark.0, out);
        }
    }

    fn unpack(&mut self, bytes: &mut &[u8]) -> Result<RecordedCut> {
        let epoch = Epoch(get_changed(&mut self.epoch, bytes)? as u64);
        let now = Timestamp(get_changed(&mut self.now, bytes)?);
        let watermark = Timestamp(get_changed(&mut self.watermark, bytes)?);
        let mut partitions = Vec::new();
        for _ in 0..get_varint(bytes)? {
            let tagged = get_varint(bytes)?;
            let partition = PartitionId(unzigzag(tagged >> 1) as i32);
            let (end, watermark) = self.partitions.entry(partition).or_default();
            let end = Offset(get_changed(end, bytes)?);
            let watermark = Timestamp(get_changed(watermark, bytes)?);
            partitions.push(PartitionCut { partition, start: None, end, watermark, idle: tagged & 1 == 1 });
        }
        Ok(RecordedCut { epoch, now, watermark, partitions })
    }
}

fn put_change(last: &mut i64, value: i64, out: &mut Vec<u8>) {
    put_varint(zigzag(value.wrapping_sub(*last)), out);
    *last = value;
}

fn get_changed(last: &mut i64, bytes: &mut &[u8]) -> Result<i64> {
    *last = last.wrapping_add(unzigzag(get_varint(bytes)?));
    Ok(*last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(watermark: i64, moved: &[(i32, i64, i64, bool)]) -> InputCut {
        let partition = |(partition, end, watermark, idle): &(i32, i64, i64, bool)| PartitionCut {
            partition: PartitionId(*partition),
            start: None,
            end: Offset(*end),
            watermark: Timestamp(*watermark),
            idle: *idle,
        };
        InputCut { watermark: Timestamp(watermark), partitions: moved.iter().map(partition).collect(), notes: Vec::new() }
    }

    #[test]
    fn cuts_come_back_as_they_were() {
        let cuts = [
            cut(i64::MIN, &[(0, 10, i64::MIN, false), (7, i64::MAX, 5, true)]),
            cut(i64::MAX, &[]),
            cut(3, &[(-1, -4, i64::MAX, false), (i32::MAX, 0, i64::MIN, true), (i32::MIN, 1, 1, false)]),
            cut(4, &[(0, 11, i64::MAX, true)]),
        ];
        let mut recorded = Recorded::default();
        for round in 0..2 {
            for (index, cut) in cuts.iter().enumerate() {
                recorded.push(Epoch(9 + 3 * index as u64), Timestamp(-(index as i64)), cut);
            }
            assert_eq!([0, 7, 1].map(|p| recorded.end(PartitionId(p))), [Some(Offset(11)), Some(Offset(i64::MAX)), None]);
            for (index, cut) in cuts.iter().enumerate() {
                assert!(!recorded.is_empty(), "round {round}");
                let expected = RecordedCut {
                    epoch: Epoch(9 + 3 * index as u64),
                    now: Timestamp(-(index as i64)),
                    watermark: cut.watermark,
                    partitions: cut.partitions.clone(),
                };
                assert_eq!(recorded.front(), Some(&expected));
                assert_eq!(recorded.pop(), Some(expected));
            }
            assert!(recorded.is_empty() && recorded.pop().is_none());
            assert_eq!(recorded.end(PartitionId(0)), None);
        }
    }

    #[test]
    fn a_cut_takes_little_and_gives_it_back() {
        const CUTS: i64 = 100_000;
        let mut recorded = Recorded::default();
        let bytes = |recorded: &Recorded| recorded.chunks.iter().map(Vec::len).sum::<usize>();
        let second = 1_000_000;
        let of = |n: i64| cut((1_700_000_000 + n) * second, &[((n % 4) as i32, n * 500, (1_700_000_001 + n) * second, false)]);
        (0..CUTS).for_each(|n| recorded.push(Epoch(n as u64 + 1), Timestamp((1_700_000_000 + n) * second), &of(n)));
        let all = bytes(&recorded);
        assert!(all < 24 * CUTS as usize, "{all}");
        for n in 0..CUTS / 2 {
            assert_eq!(recorded.pop().map(|cut| cut.partitions), Some(of(n).partitions));
        }
        assert!(bytes(&recorded) < all / 2 + 2 * CHUNK_BYTES);
    }
}
