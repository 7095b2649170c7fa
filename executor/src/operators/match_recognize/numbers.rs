//! How many matches each partition has had: MATCH_NUMBER(). An entry per partition that ever had one.

use eddyline_common::key::KeyRows;
use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlError, StateTableId};
use eddyline_storage::state::{Shards, SlotCodec, StateSpace, StateTable, TableShape, get_varint, put_varint};

/// Changes whenever the stored form (this byte, then the number) does.
const VERSION: u8 = 1;

pub(super) struct Numbers {
    table: StateTable,
    counts: Counts,
    key: KeyRows,
    slots: Vec<u32>,
}

impl Numbers {
    pub(super) fn open(space: &StateSpace, kind: u8) -> Result<Self> {
        let mut counts = Counts::default();
        let table = space.table(kind, TableShape::default(), &mut counts)?;
        Ok(Numbers { table, counts, key: KeyRows::default(), slots: Vec::new() })
    }

    /// The number of a partition's next match, from 1 on.
    pub(super) fn next(&mut self, partition: &[u8], shard: u8) -> Result<i64> {
        self.key.clear();
        self.key.push(&[partition]);
        self.table.intern(&self.key, Shards::Of(&|_| shard), &mut self.counts, &mut self.slots)?;
        let slot = self.slots[0];
        let count = &mut self.counts.0[slot as usize];
        *count += 1;
        self.table.mark_dirty(slot);
        Ok(*count as i64)
    }

    pub(super) fn maintain(&mut self) -> Result<()> {
        self.table.maintain(&mut self.counts)
    }

    pub(super) fn freeze(&mut self) -> Result<(StateTableId, SortedRun)> {
        Ok((self.table.id(), self.table.freeze(&mut self.counts)?))
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes(&self.counts)
    }
}

#[derive(Default)]
struct Counts(Vec<u64>);

impl SlotCodec for Counts {
    fn reserve(&mut self, slots: usize) {
        self.0.resize(slots, 0);
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_varint(self.0[slot as usize], out);
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<()> {
        let Some((&VERSION, mut bytes)) = bytes.split_first() else {
            return Err(SqlError::corrupt("a stored number of matches has an unknown version"));
        };
        self.0[slot as usize] = get_varint(&mut bytes)?;
        Ok(())
    }

    fn clear(&mut self, slot: u32, _key: &[u8]) {
        self.0[slot as usize] = 0;
    }

    fn slot_bytes(&self) -> usize {
        8
    }
}
