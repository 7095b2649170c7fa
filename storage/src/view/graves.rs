//! Where the rows of a keyed view lie that died, until they are vacuumed: a lookup in the past finds them there. In order of
//! epochs, so that the oldest are forgotten first, and by the hash of a row's identity.

use super::index::Location;
use hashbrown::HashTable;
use std::collections::VecDeque;

struct Grave {
    died: u64,
    hash: u128,
    at: Location,
}

#[derive(Default)]
pub(super) struct Graves {
    queue: VecDeque<Grave>,
    /// How many were forgotten: a grave's number is its place in the queue and this.
    forgotten: u64,
    /// Numbers.
    by_hash: HashTable<u64>,
}

fn low(hash: u128) -> u64 {
    hash as u64
}

impl Graves {
    /// A row died; epochs come in order.
    pub(super) fn dig(&mut self, died: u64, hash: u128, at: Location) {
        let Graves { queue, forgotten, by_hash } = self;
        let number = *forgotten + queue.len() as u64;
        queue.push_back(Grave { died, hash, at });
        by_hash.insert_unique(low(hash), number, |number| low(queue[(*number - *forgotten) as usize].hash));
    }

    /// The rows with this identity that were alive at `epoch` or died before they could be.
    pub(super) fn find(&self, hash: u128, epoch: u64) -> impl Iterator<Item = Location> + '_ {
        let graves = self.by_hash.iter_hash(low(hash)).map(|number| &self.queue[(*number - self.forgotten) as usize]);
        graves.filter(move |grave| grave.hash == hash && grave.died > epoch).map(|grave| grave.at)
    }

    /// A row was moved by a merge.
    pub(super) fn relocate(&mut self, hash: u128, from: Location, to: Location) {
        let Graves { queue, forgotten, by_hash } = self;
        let of = |number: &u64| (*number - *forgotten) as usize;
        let moved = by_hash.find(low(hash), |number| {
            let grave = &queue[of(number)];
            grave.at == from && grave.hash == hash
        });
        let moved = moved.map(of).expect("a row that died after the horizon has a grave");
        queue[moved].at = to;
    }

    /// Forgets up to `count` of those who died at or before `horizon`: nobody reads there any more. True if there may be more.
    pub(super) fn forget_before(&mut self, horizon: u64, count: usize) -> bool {
        for _ in 0..count {
            let Some(grave) = self.queue.front().filter(|grave| grave.died <= horizon) else { break };
            let number = self.forgotten;
            if let Ok(entry) = self.by_hash.find_entry(low(grave.hash), |other| *other == number) {
                entry.remove();
            }
            self.queue.pop_front();
            self.forgotten += 1;
        }
        if self.queue.is_empty() {
            self.queue.shrink_to_fit();
            self.by_hash = HashTable::new();
        }
        self.queue.front().is_some_and(|grave| grave.died <= horizon)
    }

    pub(super) fn bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Grave>() + self.by_hash.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(row: u32) -> Location {
        Location { slot: 1, row }
    }

    #[test]
    fn graves_are_found_by_hash_moved_and_forgotten_in_order() {
        let mut graves = Graves::default();
        let hash = |row: u32| ((row as u128 % 10) << 64) | 7;
        (0..1000).for_each(|row| graves.dig(row as u64, hash(row), at(row)));
        let found = |graves: &Graves, row: u32, epoch| {
            let mut rows: Vec<u32> = graves.find(hash(row), epoch).map(|at| at.row).collect();
            rows.sort_unstable();
            rows
        };
        assert_eq!(found(&graves, 3, 979), [983, 993]);
        graves.relocate(hash(3), at(983), Location { slot: 9, row: 0 });
        assert_eq!(found(&graves, 3, 979), [0, 993]);
        assert!(graves.forget_before(990, 500) && !graves.forget_before(990, 500));
        assert_eq!(found(&graves, 3, 0), [993]);
        assert_eq!(found(&graves, 0, 0), Vec::<u32>::new());
        graves.dig(1000, hash(0), at(5000));
        assert_eq!(found(&graves, 0, 990), [5000]);
        assert!(!graves.forget_before(2000, 500));
        assert_eq!((graves.bytes(), found(&graves, 0, 0).len()), (0, 0));
    }
}
