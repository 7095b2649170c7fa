//! Records that an operator sets aside within a step, since its state has no room for what they lead to, and takes up again, part by part, at the
//! step's end. They are in memory until they are many, and then in the store, beside the operator's tables. No checkpoint has any: between steps
//! there are none, and what an operator may not write to the store itself because of a checkpoint stays in memory. What a record means is its
//! owner's affair.

use super::space::StateSpace;
use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlState};

/// Where records are, among the kinds of tables; theirs are below.
pub(super) const KIND: u8 = u8::MAX - 1;

pub struct Aside {
    space: StateSpace,
    /// Those in memory.
    run: SortedRun,
    bytes: usize,
    /// When they go to the store.
    bytes_max: usize,
    /// With so many the store is tried next.
    bytes_next: usize,
    records: u32,
    is_stored: bool,
}

impl Aside {
    /// With about so much in memory.
    pub fn new(space: &StateSpace, bytes_max: usize) -> Self {
        let (run, space) = (SortedRun::default(), space.clone());
        Aside { space, run, bytes: 0, bytes_max, bytes_next: bytes_max, records: 0, is_stored: false }
    }

    /// Parts are below 255.
    pub fn push(&mut self, part: u8, record: &[u8]) {
        let key = [&self.prefix(part)[..], &self.records.to_be_bytes()].concat();
        self.run.push(&key, Some(record));
        self.records += 1;
        self.bytes += key.len() + record.len();
    }

    /// Gives what is in memory to the store, if it is much. `may_write`: no checkpoint forbids it.
    pub fn spill(&mut self, may_write: bool) -> Result<()> {
        if self.bytes < self.bytes_next || !may_write {
            return Ok(());
        }
        self.run.sort();
        match self.space.kv.ingest(vec![(self.space.id, self.run.clone())]) {
            Ok(()) => {
                self.run = SortedRun::default();
                (self.bytes, self.bytes_next, self.is_stored) = (0, self.bytes_max, true);
                Ok(())
            }
            // Then the tables find no room either, and hold up all that would begin.
            Err(error) if error.state == SqlState::DISK_FULL => {
                self.bytes_next = 2 * self.bytes;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The records of a part, in the order in which they came.
    pub fn of_part(&self, part: u8) -> Result<Vec<Vec<u8>>> {
        let mut records = Vec::new();
        let (start, end) = (self.prefix(part), self.prefix(part + 1));
        if self.is_stored {
            self.space.kv.scan(self.space.id, &start, Some(&end[..]), &mut |_, record| {
                records.push(record.to_vec());
                Ok(true)
            })?;
        }
        let in_memory = self.run.iter().filter(|(key, _)| key.starts_with(&start));
        records.extend(in_memory.filter_map(|(_, record)| record.map(<[u8]>::to_vec)));
        Ok(records)
    }

    /// Forgets all of them.
    pub fn clear(&mut self) -> Result<()> {
        if self.is_stored {
            self.space.kv.delete_range(self.space.id, &self.prefix(0), &self.prefix(u8::MAX))?;
        }
        self.run = SortedRun::default();
        (self.bytes, self.bytes_next, self.records, self.is_stored) = (0, self.bytes_max, 0, false);
        Ok(())
    }

    /// Under a shard of this worker.
    fn prefix(&self, part: u8) -> [u8; 3] {
        [self.space.shards.start as u8, KIND, part]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::MemoryKv;
    use crate::state::Residency;
    use eddyline_common::StateTableId;
    use eddyline_common::kv::KeyValueStore;
    use std::sync::Arc;

    #[test]
    fn records_come_back_by_part_from_memory_and_store() {
        let kv = Arc::new(MemoryKv::new());
        let table = StateTableId(3);
        let space = StateSpace::open(table, kv.clone(), Arc::default(), 1, 2, Residency::Resident, false).unwrap();
        let mut aside = Aside::new(&space, 100);
        for (round, may_write) in [(0, true), (1, false), (2, true)] {
            for record in 0..60_u8 {
                aside.push([0, 1, 3][record as usize % 3], &[round, record]);
                aside.spill(may_write && record < 50).unwrap();
            }
            assert_eq!(kv.stored_bytes(table) > 0, may_write, "round {round}");
            for (part, first) in [(0, 0), (1, 1), (3, 2)] {
                let expected: Vec<Vec<u8>> = (first..60).step_by(3).map(|record| vec![round, record]).collect();
                assert_eq!(aside.of_part(part).unwrap(), expected, "round {round}, part {part}");
            }
            assert!(aside.of_part(2).unwrap().is_empty());
            aside.clear().unwrap();
            assert!(aside.of_part(0).unwrap().is_empty());
            assert_eq!(kv.stored_bytes(table), 0, "nothing is left");
        }
    }
}
