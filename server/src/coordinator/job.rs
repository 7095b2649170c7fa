//! A table's, materialized view's or sink's job as the coordinator sees it: where it stands, at which epochs its
//! content is exact, what it emitted. The engine runs it; this only keeps the books.

use super::backfill::{Backfill, Reading};
use super::collecting::emit_interval;
use super::keeping::Held;
use super::pausing::paused_at;
use super::ring::Ring;
use super::stats::JobStats;
use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, RelationId, SqlError, Timestamp};
use eddyline_executor::JobProgress;
use eddyline_planner::catalog::{ErrorPolicy, Relation};
use eddyline_storage::view::View;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub struct Job {
    pub relation: Arc<Relation>,
    /// What its plan scans; a table scans its own log of writes.
    pub inputs: Vec<RelationId>,
    pub view: Arc<View>,
    /// The rows that its expressions failed on, if it goes on without them.
    pub rejects: Option<Arc<View>>,
    pub mode: Mode,
    /// The epoch its content is at.
    pub stepped: Epoch,
    pub running: Option<Running>,
    pub exact: Exact,
    /// No reader asks for an epoch of its view before this one any more.
    pub kept_from: Epoch,
    /// What was kept for it when that was last looked at.
    pub(super) held: Option<Held>,
    pub progress: JobProgress,
    /// What it emitted, for jobs that read it.
    pub output: Ring,
    pub output_watermark: Timestamp,
    pub stats: Arc<JobStats>,
    /// Positions of its sources at `stepped`, for when it falls off a ring.
    pub source_ends: BTreeMap<RelationId, Arc<Vec<PartitionStart>>>,
    /// What row errors do after an epoch, where it was altered.
    pub policies: VecDeque<(Epoch, ErrorPolicy)>,
    /// It was paused: what it lacks it reads on its own.
    pub rejoins: bool,
    /// When it last took all that it had collected.
    pub emitted: Option<Instant>,
    pub fan_out: FanOut,
}

/// One step's input, in bytes: a job that lags, or reads on its own, takes up to this much. Long enough to be efficient, short enough to share
/// workers.
pub const STEP_BYTES_MAX: usize = 16 << 20;
/// And this much however many rows come of one.
const STEP_BYTES_MIN: usize = 1 << 20;

/// How many rows come of one row of a job's input, at the operator that has most of them: the highest figure of late. What a step has in memory
/// until its end grows with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FanOut(u64);

impl FanOut {
    /// The first steps of a job are small, as nothing is known of it.
    pub const UNKNOWN: FanOut = FanOut(16);

    /// What a step had; earlier ones count half as much.
    pub fn note(&mut self, rows_in: u64, rows_most: u64) {
        if let Some(rows) = rows_most.checked_div(rows_in) {
            self.0 = rows.max(self.0 / 2).max(1);
        }
    }

    /// So much input comes to as many rows as the most where one comes of one.
    fn step_bytes(self) -> usize {
        (STEP_BYTES_MAX / self.0 as usize).max(STEP_BYTES_MIN)
    }
}

pub enum Mode {
    /// Steps with the cuts.
    Live,
    /// Reads on its own until it has caught up with `Backfill::to`.
    Backfilling(Box<Backfill>),
    Failed(SqlError),
}

pub struct Running {
    pub epoch: Epoch,
    pub arrived: Option<Instant>,
    /// `now` of the step.
    pub now: Timestamp,
}

impl Job {
    pub fn id(&self) -> RelationId {
        self.relation.id
    }

    /// How much input its next step has at most, if that is more than one cut.
    pub fn step_bytes_max(&self) -> usize {
        self.fan_out.step_bytes()
    }

    /// When it steps next at the earliest, if it collects changes.
    pub fn emits_at(&self) -> Option<Instant> {
        Some(self.emitted? + emit_interval(&self.relation)?)
    }

    pub fn is_live(&self) -> bool {
        matches!(self.mode, Mode::Live)
    }

    pub fn failure(&self) -> Option<&SqlError> {
        match &self.mode {
            Mode::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Why its step does not end, if that is because a table outside does not answer.
    pub fn trouble(&self) -> Option<String> {
        self.running.as_ref().and_then(|_| self.stats.trouble())
    }

    /// What the job has taken of its inputs' rings, or will have when its backfill ends.
    pub fn ring_cursor(&self) -> Epoch {
        self.backfill_epoch().unwrap_or(self.stepped)
    }

    /// The oldest epoch at which the tables and views that it reads, and its own, must stay readable: it steps on from there, and is read
    /// there until it has.
    pub fn needs(&self) -> Option<Epoch> {
        match &self.mode {
            Mode::Live => Some(self.stepped),
            Mode::Backfilling(backfill) => Some(backfill.from.unwrap_or(backfill.to)),
            Mode::Failed(_) => None,
        }
    }

    /// The epoch that a backfill reads up to, and needs to stay in the rings.
    pub fn backfill_epoch(&self) -> Option<Epoch> {
        match &self.mode {
            Mode::Backfilling(backfill) => Some(backfill.cursor()),
            _ => None,
        }
    }

    /// Epochs that everything it reads must come to exactly, however late: where it is filled, where it was altered, where it stays.
    pub fn meets(&self) -> impl Iterator<Item = Epoch> {
        let filled = match &self.mode {
            Mode::Backfilling(backfill) => Some(backfill.to),
            _ => None,
        };
        let stays = paused_at(&self.relation);
        filled.into_iter().chain(stays).chain(self.policies.iter().map(|(epoch, _)| *epoch))
    }

    /// Its rows and those it rejected.
    pub fn views(&self) -> impl Iterator<Item = &Arc<View>> {
        std::iter::once(&self.view).chain(&self.rejects)
    }

    /// What it reads on its own at present.
    pub fn reading(&self) -> Option<&Reading> {
        if let Mode::Backfilling(backfill) = &self.mode { backfill.reading.as_ref() } else { None }
    }

    pub fn reading_mut(&mut self) -> Option<&mut Reading> {
        if let Mode::Backfilling(backfill) = &mut self.mode { backfill.reading.as_mut() } else { None }
    }

    pub fn source_ends(&self, source: RelationId) -> Vec<PartitionStart> {
        self.source_ends.get(&source).map(|e| e.to_vec()).unwrap_or_default()
    }

    /// The job's content is exact at every epoch from here to `epoch`.
    pub fn advance(&mut self, epoch: Epoch) {
        self.exact.extend(epoch);
        self.stepped = epoch;
        self.progress.epoch = epoch;
        self.stats.epoch.store(epoch.0, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The epochs at which a job's content equals its query over the input up to that cut, as closed ranges,
/// oldest first. A step to `e` begins a range; epochs without input extend it.
#[derive(Debug, Default)]
pub struct Exact(VecDeque<(Epoch, Epoch)>);

impl Exact {
    pub fn step(&mut self, epoch: Epoch) {
        match self.0.back() {
            Some((_, end)) if *end >= epoch => {}
            _ => self.0.push_back((epoch, epoch)),
        }
    }

    pub fn extend(&mut self, epoch: Epoch) {
        match self.0.back_mut() {
            Some((_, end)) => *end = epoch.max(*end),
            None => self.0.push_back((epoch, epoch)),
        }
    }

    /// The newest exact epoch that is at most `bound`.
    pub fn newest_up_to(&self, bound: Epoch) -> Option<Epoch> {
        let after = self.0.partition_point(|(start, _)| *start <= bound);
        let (_, end) = self.0.get(after.checked_sub(1)?)?;
        Some((*end).min(bound))
    }

    /// The oldest exact epoch from `from` on.
    pub fn oldest_from(&self, from: Epoch) -> Option<Epoch> {
        let (start, _) = self.0.get(self.0.partition_point(|(_, end)| *end < from))?;
        Some(from.max(*start))
    }

    /// Forgets ranges that end before `epoch`, but never the newest.
    pub fn forget_before(&mut self, epoch: Epoch) {
        while self.0.len() > 1 && self.0[0].1 < epoch {
            self.0.pop_front();
        }
    }
}

/// The newest epoch up to `bound` at which all of `exacts` are exact.
pub fn common_epoch<'a>(exacts: impl Iterator<Item = &'a Exact> + Clone, mut bound: Epoch) -> Option<Epoch> {
    loop {
        let start = bound;
        for exact in exacts.clone() {
            bound = exact.newest_up_to(bound)?;
        }
        if bound == start {
            return Some(bound);
        }
    }
}

/// The oldest epoch from `from` on at which all of `exacts` are exact.
pub fn next_common_epoch<'a>(exacts: impl Iterator<Item = &'a Exact> + Clone, mut from: Epoch) -> Option<Epoch> {
    loop {
        let start = from;
        for exact in exacts.clone() {
            from = exact.oldest_from(from)?;
        }
        if from == start {
            return Some(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_small_where_many_rows_come_of_one() {
        let mut fan_out = FanOut::UNKNOWN;
        let mut after = |rows_in: u64, rows_most: u64| {
            fan_out.note(rows_in, rows_most);
            fan_out.step_bytes() >> 20
        };
        assert_eq!([(); 5].map(|()| after(1_000, 900)), [2, 4, 8, 16, 16]);
        assert_eq!(after(1_000, 41_000), 1);
        assert_eq!(after(0, 500), 1, "of no input it says nothing");
        assert_eq!([(); 5].map(|()| after(10, 20)), [1, 1, 3, 8, 8], "one step without many says little");
        assert_eq!(after(1, u64::MAX), 1);
    }

    #[test]
    fn a_common_epoch_is_exact_everywhere() {
        let mut fast = Exact::default();
        let mut slow = Exact::default();
        [1, 2, 3, 7].into_iter().for_each(|e| fast.step(Epoch(e)));
        slow.step(Epoch(2));
        slow.extend(Epoch(4));
        slow.step(Epoch(9));
        // Epoch 4 is not exact in `fast`: it went from 3 straight to 7.
        assert_eq!(common_epoch([&fast, &slow].into_iter(), Epoch(8)), Some(Epoch(3)));
        assert_eq!(next_common_epoch([&fast, &slow].into_iter(), Epoch(4)), None);
        fast.extend(Epoch(9));
        assert_eq!(common_epoch([&fast, &slow].into_iter(), Epoch(9)), Some(Epoch(9)));
        assert_eq!(common_epoch([&fast, &slow].into_iter(), Epoch(1)), None);
        let next = |from| next_common_epoch([&fast, &slow].into_iter(), Epoch(from)).map(|epoch| epoch.0);
        assert_eq!([1, 3, 4, 9, 10].map(next), [Some(2), Some(3), Some(9), Some(9), None]);
    }
}
