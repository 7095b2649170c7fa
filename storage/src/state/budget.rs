//! One budget of memory for all state tables of a server, whichever job and worker they belong to. A table says how much it
//! has at the end of each step of its job; nothing is counted per row, and there is no lock.
//!
//! As long as all of them together fit, a table may have all it wants. When they do not, those that have more than an equal
//! share give back, down to their share at the most; there always is such a table. So a table that has little is left
//! alone, and one that works alone may have nearly everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is given back goes this part below the limit, so that not every step has to evict.
const SLACK_PART: usize = 8;
/// While a checkpoint is pending memory may reach this many quarters of the budget before tables ask to abandon it.
const OVERSHOOT_QUARTERS: usize = 6;

#[derive(Debug)]
pub struct StateBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    tables: AtomicUsize,
}

impl StateBudget {
    pub fn new(limit_bytes: usize) -> Arc<StateBudget> {
        Arc::new(StateBudget { limit_bytes, used_bytes: AtomicUsize::new(0), tables: AtomicUsize::new(0) })
    }

    /// What all tables have, as far as they have said.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    pub fn is_exceeded(&self) -> bool {
        self.used_bytes() > self.limit_bytes
    }
}

/// One table's part of the budget.
#[derive(Debug)]
pub(super) struct Allotment {
    budget: Arc<StateBudget>,
    counted: usize,
}

impl Allotment {
    pub(super) fn open(budget: Arc<StateBudget>) -> Self {
        budget.tables.fetch_add(1, Ordering::Relaxed);
        Allotment { budget, counted: 0 }
    }

    /// The table has this much now.
    pub(super) fn count(&mut self, bytes: usize) {
        if bytes >= self.counted {
            self.budget.used_bytes.fetch_add(bytes - self.counted, Ordering::Relaxed);
        } else {
            self.budget.used_bytes.fetch_sub(self.counted - bytes, Ordering::Relaxed);
        }
        self.counted = bytes;
    }

    /// What the table should come down to; `None` if it may keep all it has.
    pub(super) fn target(&self) -> Option<usize> {
        let limit = self.budget.limit_bytes;
        let share = limit / self.budget.tables.load(Ordering::Relaxed).max(1);
        if !self.budget.is_exceeded() || self.counted <= share {
            return None;
        }
        let excess = self.budget.used_bytes().saturating_sub(limit - limit / SLACK_PART);
        Some(self.counted.saturating_sub(excess).max(share - share / SLACK_PART))
    }

    /// So far over the limit that a checkpoint should rather be lost than waited for.
    pub(super) fn is_urgent(&self) -> bool {
        self.budget.used_bytes() > self.budget.limit_bytes / 4 * OVERSHOOT_QUARTERS
    }
}

impl Drop for Allotment {
    fn drop(&mut self) {
        self.count(0);
        self.budget.tables.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_over_their_share_give_back_and_only_when_all_together_are_over() {
        let budget = StateBudget::new(8000);
        let mut tables: Vec<Allotment> = (0..4).map(|_| Allotment::open(budget.clone())).collect();
        tables[0].count(6500);
        tables[1].count(1500);
        assert_eq!(tables.iter().map(Allotment::target).collect::<Vec<_>>(), [None; 4], "all fit");
        tables[2].count(1000);
        assert_eq!(tables.iter().map(Allotment::target).collect::<Vec<_>>(), [Some(4500), None, None, None]);
        tables[0].count(4500);
        assert_eq!(budget.used_bytes(), 7000);
        tables[1].count(9000);
        // Neither goes below its share for the other's sake.
        assert_eq!((tables[0].target(), tables[1].target()), (Some(1750), Some(1750)));
        assert!(tables[1].is_urgent());
        tables.truncate(2);
        tables.remove(1);
        assert_eq!(budget.used_bytes(), 4500);
        tables[0].count(8001);
        assert_eq!(tables[0].target(), Some(7000), "alone it may have nearly everything");
    }
}
