//! Which workers do the work of a job: all of them, or as many as its `parallelism` says. Whatever a job has in parts (input, keys of
//! an exchange, shards of state) is in one part per worker of its placement; the others step with nothing to do.

use eddyline_common::RelationId;
use eddyline_common::key::worker_of;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The worker of the first part; the others follow.
    first: usize,
    parts: usize,
    workers: usize,
}

impl Placement {
    pub fn all(workers: usize) -> Self {
        Placement { first: 0, parts: workers, workers }
    }

    /// Of a job of so many parts at most, if it says so. Jobs of few parts begin at different workers.
    pub fn new(job: RelationId, parallelism: Option<u32>, workers: usize) -> Self {
        match parallelism.map(|parts| (parts as usize).max(1)) {
            Some(parts) if parts < workers => Placement { first: job.0 as usize % workers, parts, workers },
            _ => Placement::all(workers),
        }
    }

    pub fn parts(self) -> usize {
        self.parts
    }

    pub fn workers(self) -> usize {
        self.workers
    }

    /// The worker of a part.
    pub fn worker(self, part: usize) -> usize {
        (self.first + part) % self.workers
    }

    /// The part of a worker; one that has none gets a number that no part has.
    pub fn part_of(self, worker: usize) -> usize {
        let part = (worker + self.workers - self.first) % self.workers;
        if part < self.parts { part } else { self.workers }
    }

    /// The worker that a virtual shard belongs to.
    pub fn owner(self, shard: u8) -> usize {
        self.worker(worker_of(shard, self.parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_shard_has_one_of_the_jobs_workers() {
        for workers in 1..=5 {
            for parallelism in [None, Some(1), Some(2), Some(4), Some(100)] {
                let placement = Placement::new(RelationId(7), parallelism, workers);
                let parts = parallelism.map_or(workers, |p| workers.min(p as usize));
                let owners: BTreeSet<usize> = (0..=255).map(|shard| placement.owner(shard)).collect();
                assert_eq!((placement.parts(), owners.len()), (parts, parts));
                let mine: BTreeSet<usize> = (0..workers).filter(|w| placement.part_of(*w) < parts).collect();
                assert_eq!(mine, owners);
                assert!((0..parts).all(|part| placement.part_of(placement.worker(part)) == part));
            }
        }
    }
}
