//! The `now` of every cut that a job may still step to: what a view shows at an epoch follows from the input up to it and from its
//! `now`, not from that of the newest cut.
//!
//! Of what lies far back only marks are kept: a job that lags so far goes from mark to mark.

use eddyline_common::{Epoch, Timestamp};
use std::collections::{BTreeSet, VecDeque};

/// Cuts beyond this many are thinned out to marks: 2 MiB.
const DENSE_MAX: usize = 128 * 1024;

#[derive(Debug, Default)]
pub struct Nows {
    /// Oldest first.
    cuts: VecDeque<(Epoch, Timestamp)>,
    /// How many there may be until they are thinned out again.
    limit: usize,
}

impl Nows {
    pub fn push(&mut self, epoch: Epoch, now: Timestamp, marks: &BTreeSet<Epoch>) {
        self.cuts.push_back((epoch, now));
        if self.cuts.len() > self.limit.max(DENSE_MAX) {
            let dense = self.cuts.split_off(self.cuts.len() - DENSE_MAX / 2);
            self.cuts.retain(|(epoch, _)| marks.contains(epoch));
            self.cuts.extend(dense);
            self.limit = self.cuts.len() + DENSE_MAX / 2;
        }
    }

    /// The `now` of the newest cut up to `epoch`.
    pub fn at(&self, epoch: Epoch) -> Timestamp {
        let after = self.cuts.partition_point(|(cut, _)| *cut <= epoch);
        let known = after.checked_sub(1).or((!self.cuts.is_empty()).then_some(0));
        known.map_or(Timestamp::MIN, |at| self.cuts[at].1)
    }

    /// The first cut whose `now` is not before `time`.
    pub fn first_from(&self, time: Timestamp) -> Option<Epoch> {
        self.cuts.get(self.cuts.partition_point(|(_, now)| *now < time)).map(|(epoch, _)| *epoch)
    }

    /// Nobody asks for an epoch before this one any more.
    pub fn forget_before(&mut self, epoch: Epoch) {
        while self.cuts.get(1).is_some_and(|(next, _)| *next <= epoch) {
            self.cuts.pop_front();
        }
        if self.cuts.len() < DENSE_MAX {
            self.limit = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_the_now_of_its_cut() {
        let (mut nows, marks) = (Nows::default(), BTreeSet::new());
        assert_eq!(nows.at(Epoch(7)), Timestamp::MIN);
        [(3, 30), (4, 40), (6, 60)].into_iter().for_each(|(e, now)| nows.push(Epoch(e), Timestamp(now), &marks));
        assert_eq!([3, 4, 5, 6, 9].map(|e| nows.at(Epoch(e)).0), [30, 40, 40, 60, 60]);
        assert_eq!([40, 41, 61].map(|now| nows.first_from(Timestamp(now)).map(|e| e.0)), [Some(4), Some(6), None]);
        nows.forget_before(Epoch(5));
        assert_eq!([5, 6].map(|e| nows.at(Epoch(e)).0), [40, 60]);
        nows.forget_before(Epoch(8));
        assert_eq!(nows.at(Epoch(8)), Timestamp(60));
    }

    #[test]
    fn what_lies_far_back_is_known_at_marks() {
        let (mut nows, mut marks) = (Nows::default(), BTreeSet::new());
        let last = 3 * DENSE_MAX as u64;
        for epoch in 1..=last {
            if epoch % 1000 == 0 {
                marks.insert(Epoch(epoch));
            }
            nows.push(Epoch(epoch), Timestamp(epoch as i64), &marks);
        }
        assert!(nows.cuts.len() <= 2 * DENSE_MAX);
        assert_eq!((nows.at(Epoch(5000)), nows.at(Epoch(last - 1))), (Timestamp(5000), Timestamp(last as i64 - 1)));
    }
}
