//! Counters that others read without asking the coordinator: for `/metrics`, the demo and SHOW JOBS.

use eddyline_common::{Epoch, Offset, PartitionId, RelationId, Timestamp};
use eddyline_executor::OperatorStats;
use eddyline_storage::log::LogStats;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

#[derive(Debug, Default)]
pub struct Stats {
    /// The newest durable cut.
    pub epoch: AtomicU64,
    pub cuts: AtomicU64,
    pub cut_times: CutTimes,
    pub checkpoints: AtomicU64,
    pub checkpoint_failures: AtomicU64,
    pub checkpoint_epoch: AtomicU64,
    /// Of the newest one, and of all since start.
    pub checkpoint_micros: AtomicU64,
    pub checkpoint_micros_total: AtomicU64,
    /// Written by all since start, files shared with earlier ones not counted again.
    pub checkpoint_bytes: AtomicU64,
    pub log: Arc<LogStats>,
    /// Memory of all views' rows, deaths and indexes, as of the last vacuum.
    pub view_bytes: AtomicU64,
    pub ring_bytes: AtomicU64,
    /// Epochs that readers hold: how many, since when the oldest, rows kept for them, and how many were let go of.
    pub pins: AtomicU64,
    pub pin_micros: AtomicU64,
    pub pin_bytes: AtomicU64,
    pub pins_let_go: AtomicU64,
    /// Rows of views that are in memory because they are in no file yet.
    pub tail_bytes: AtomicU64,
    /// Operator state of all jobs in memory (backend `rocksdb`).
    pub state_bytes: AtomicU64,
    pub sources: RwLock<BTreeMap<RelationId, Arc<SourceStats>>>,
    pub jobs: RwLock<BTreeMap<RelationId, Arc<JobStats>>>,
    pub sinks: RwLock<BTreeMap<RelationId, Arc<SinkStats>>>,
}

#[derive(Debug, Default)]
pub struct SinkStats {
    pub name: String,
    /// Acknowledged by the outside since start, each once however often it was sent, and up to which epoch.
    pub records: AtomicU64,
    pub epoch: AtomicU64,
    /// In the log, not acknowledged; and how much that may be.
    pub waiting_bytes: AtomicU64,
    pub log_bytes_max: AtomicU64,
    /// Its job reads nothing but sources, so that it can stand still while the log is full and everything else goes on; others stop.
    pub waits_when_full: AtomicBool,
    /// Times that sending had to begin again.
    pub failures: AtomicU64,
    pub paused: AtomicBool,
    /// What is being retried, if the outside or the disk is in trouble.
    pub problem: RwLock<Option<String>>,
}

impl SinkStats {
    pub fn is_full(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) >= self.log_bytes_max.load(Ordering::Relaxed)
    }

    /// A live job waits for room in the log.
    pub fn holds_job(&self) -> bool {
        self.waits_when_full.load(Ordering::Relaxed) && self.is_full()
    }

    /// What its sending is at, whatever its job does.
    pub fn state(&self) -> JobState {
        if self.paused.load(Ordering::Relaxed) {
            JobState::Paused
        } else if self.problem.read().is_some() {
            JobState::Retrying
        } else {
            JobState::Running
        }
    }
}

#[derive(Debug, Default)]
pub struct SourceStats {
    pub name: String,
    /// Records taken into cuts, undecodable ones included.
    pub records: AtomicU64,
    pub rate: Rate,
    pub undecodable: AtomicU64,
    /// Rows whose times are too far in the future to move the watermark.
    pub ahead: AtomicU64,
    /// Decoded, in memory.
    pub bytes: AtomicU64,
    /// Offsets that no cut has taken yet; -1 if the connector does not know.
    pub lag: AtomicI64,
    pub offsets: RwLock<Vec<PartitionOffsets>>,
    /// Microseconds since the epoch; i64::MIN before the first row.
    pub watermark: AtomicI64,
    /// What the reader is retrying, if it is in trouble.
    pub problem: RwLock<Option<String>>,
}

/// Where one of a source's partitions stands.
#[derive(Debug)]
pub struct PartitionOffsets {
    pub partition: PartitionId,
    /// The first that no cut has taken.
    pub next: Offset,
    /// Where it ends outside, if the connector knows.
    pub end: Option<Offset>,
}

#[derive(Debug, Default)]
pub struct JobStats {
    pub name: RwLock<Arc<str>>,
    /// A view that stays where it is.
    pub paused: AtomicBool,
    pub rows_in: AtomicU64,
    pub rate: Rate,
    pub rows_out: AtomicU64,
    pub late: AtomicU64,
    pub rejected: AtomicU64,
    pub steps: AtomicU64,
    pub busy_micros: AtomicU64,
    pub busy_rate: Rate,
    pub state_bytes: AtomicU64,
    /// Its state in the key-value store, as of the newest checkpoint.
    pub stored_bytes: AtomicU64,
    /// Rows that have died since the epoch that it stands at, in its view and those that it reads: they are kept for it.
    pub held_bytes: AtomicU64,
    /// The epoch that it has come to, of which the disk may not know yet.
    pub epoch: AtomicU64,
    /// Microseconds from the arrival of the oldest input of the newest step to its commit.
    pub freshness_micros: AtomicI64,
    /// Share of the backfill that is done, in thousandths; 1000 once live.
    pub backfill_permille: AtomicU64,
    pub error: RwLock<Option<String>>,
    /// What is being asked again, by table outside that does not answer.
    pub(super) troubles: RwLock<BTreeMap<RelationId, String>>,
    /// By node of the job's plan, since start.
    pub operators: OnceLock<Arc<[OperatorStats]>>,
}

/// What a job is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It failed.
    Stopped,
    /// A view stays at an epoch, or is on its way there; a sink sends nothing.
    Paused,
    /// It has not yet what there was before it, or what it has missed.
    Backfilling,
    /// There is no room for what it would emit.
    WaitingForSink,
    /// The sink finds nobody to send to, or rows are looked up and nobody answers.
    Retrying,
    Running,
}

impl JobState {
    pub fn text(self) -> &'static str {
        match self {
            JobState::Stopped => "stopped",
            JobState::Paused => "paused",
            JobState::Backfilling => "backfilling",
            JobState::WaitingForSink => "waiting for the sink",
            JobState::Retrying => "retrying",
            JobState::Running => "running",
        }
    }
}

impl JobStats {
    /// The job's state, for whoever shows it; with the counters of its sink if it is one's.
    pub fn state(&self, sink: Option<&SinkStats>) -> JobState {
        match sink {
            _ if self.error.read().is_some() => JobState::Stopped,
            _ if self.paused.load(Ordering::Relaxed) => JobState::Paused,
            _ if self.backfill_permille.load(Ordering::Relaxed) < 1000 => JobState::Backfilling,
            Some(sink) if sink.holds_job() => JobState::WaitingForSink,
            Some(sink) if sink.state() != JobState::Running => sink.state(),
            _ if self.trouble().is_some() => JobState::Retrying,
            _ => JobState::Running,
        }
    }

    /// The same for people, with how far a backfill is.
    pub fn state_and_progress(&self, sink: Option<&SinkStats>) -> String {
        match self.state(sink) {
            state @ JobState::Backfilling => {
                format!("{} {:.1} %", state.text(), self.backfill_permille.load(Ordering::Relaxed) as f64 / 10.0)
            }
            state => state.text().to_string(),
        }
    }

    /// Why a table outside does not answer.
    pub fn trouble(&self) -> Option<String> {
        self.troubles.read().values().next().cloned()
    }

    /// The newest epoch that it has come to and that is durable.
    pub fn committed(&self, stats: &Stats) -> Epoch {
        Epoch(self.epoch.load(Ordering::Relaxed)).min(stats.epoch())
    }

    /// How long there has been a cut that the job has not come to, in microseconds; `None` while it reads on its own, or has stopped.
    pub fn lag_micros(&self, stats: &Stats, now: Timestamp) -> Option<i64> {
        let is_live = self.backfill_permille.load(Ordering::Relaxed) >= 1000 && self.error.read().is_none();
        is_live.then(|| stats.cut_times.lag_micros(Epoch(self.epoch.load(Ordering::Relaxed)), now))
    }
}

/// A rate's counts are by second.
const SECOND_MICROS: i64 = 1_000_000;
const SECONDS: usize = 10;

/// How many a second, over the last ten whole seconds.
#[derive(Debug, Default)]
pub struct Rate(Mutex<[(i64, u64); SECONDS + 1]>);

impl Rate {
    pub fn add(&self, count: u64, now: Timestamp) {
        let second = now.0.div_euclid(SECOND_MICROS);
        let mut counts = self.0.lock();
        let slot = &mut counts[second.rem_euclid(SECONDS as i64 + 1) as usize];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += count;
    }

    pub fn per_second(&self, now: Timestamp) -> u64 {
        let second = now.0.div_euclid(SECOND_MICROS);
        let counts = self.0.lock();
        let whole = counts.iter().filter(|(at, _)| *at < second && second - at <= SECONDS as i64);
        whole.map(|(_, count)| count).sum::<u64>() / SECONDS as u64
    }
}

/// Cuts within this are one moment, and so many moments are known: at least ten minutes.
const MOMENT_MICROS: i64 = 10_000;
const MOMENTS_MAX: usize = 60_000;

/// When cuts were taken, which tells how far behind somebody is.
#[derive(Debug, Default)]
pub struct CutTimes(Mutex<Moments>);

#[derive(Debug, Default)]
struct Moments {
    /// The first cut of each moment, oldest first.
    first: VecDeque<(Epoch, Timestamp)>,
    last: Epoch,
}

impl CutTimes {
    pub fn push(&self, epoch: Epoch, now: Timestamp) {
        let mut moments = self.0.lock();
        moments.last = epoch;
        if moments.first.back().is_some_and(|(_, at)| now.0 - at.0 < MOMENT_MICROS) {
            return;
        }
        if moments.first.len() == MOMENTS_MAX {
            moments.first.pop_front();
        }
        moments.first.push_back((epoch, now));
    }

    /// Since when there is a cut after `epoch`: 0 if there is none, and the time of the oldest that is known if it is before that.
    fn lag_micros(&self, epoch: Epoch, now: Timestamp) -> i64 {
        let moments = self.0.lock();
        if epoch >= moments.last {
            return 0;
        }
        let after = moments.first.partition_point(|(first, _)| *first <= epoch.next());
        moments.first.get(after.saturating_sub(1)).map_or(0, |(_, at)| (now.0 - at.0).max(0))
    }
}

impl Stats {
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Relaxed))
    }

    pub(crate) fn add_source(&self, id: RelationId, name: &str) -> Arc<SourceStats> {
        let stats = Arc::new(SourceStats {
            name: name.to_string(),
            watermark: AtomicI64::new(i64::MIN),
            lag: AtomicI64::new(-1),
            ..Default::default()
        });
        self.sources.write().insert(id, stats.clone());
        stats
    }

    pub(crate) fn add_job(&self, id: RelationId, name: &str) -> Arc<JobStats> {
        let stats = Arc::new(JobStats { name: RwLock::new(name.into()), ..Default::default() });
        self.jobs.write().insert(id, stats.clone());
        stats
    }

    pub(crate) fn add_sink(&self, id: RelationId, name: &str) -> Arc<SinkStats> {
        let stats = Arc::new(SinkStats { name: name.to_string(), ..Default::default() });
        self.sinks.write().insert(id, stats.clone());
        stats
    }

    pub(super) fn remove(&self, id: RelationId) {
        self.sinks.write().remove(&id);
        self.sources.write().remove(&id);
        self.jobs.write().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_whole_seconds() {
        let (rate, at) = (Rate::default(), |millis: i64| Timestamp(millis * 1000));
        (0..50).for_each(|n| rate.add(20, at(n * 100)));
        assert_eq!([at(4_999), at(5_000), at(10_500), at(14_999), at(15_000)].map(|now| rate.per_second(now)), [80, 100, 100, 20, 0]);
        rate.add(1_000, at(11_000));
        assert_eq!(rate.per_second(at(12_000)), 100 + 60);
    }

    #[test]
    fn what_keeps_a_job_from_running_comes_first() {
        let (job, sink) = (JobStats::default(), SinkStats::default());
        let state = || job.state_and_progress(Some(&sink));
        job.backfill_permille.store(425, Ordering::Relaxed);
        assert_eq!(state(), "backfilling 42.5 %");
        job.backfill_permille.store(1000, Ordering::Relaxed);
        assert_eq!(state(), "running");
        *sink.problem.write() = Some("the broker is away".into());
        assert_eq!(state(), "retrying");
        *sink.problem.write() = None;
        job.note_trouble(RelationId(7), "customers", Some("nobody is there".into()));
        assert_eq!((state().as_str(), job.trouble().as_deref()), ("retrying", Some("nobody is there")));
        job.note_trouble(RelationId(7), "customers", None);
        assert_eq!((state().as_str(), job.trouble()), ("running", None));
        *sink.problem.write() = Some("the broker is away".into());
        sink.paused.store(true, Ordering::Relaxed);
        assert_eq!(state(), "paused");
        // One that cannot wait stops when its log is full.
        [&sink.waiting_bytes, &sink.log_bytes_max].iter().for_each(|bytes| bytes.store(10, Ordering::Relaxed));
        assert_eq!(state(), "paused");
        sink.waits_when_full.store(true, Ordering::Relaxed);
        assert_eq!(state(), "waiting for the sink");
        job.paused.store(true, Ordering::Relaxed);
        assert_eq!(state(), "paused");
        *job.error.write() = Some("division by zero".into());
        assert_eq!((state().as_str(), job.state(None)), ("stopped", JobState::Stopped));
    }

    #[test]
    fn a_job_lags_since_the_first_cut_that_it_lacks() {
        let (stats, job) = (Stats::default(), JobStats::default());
        job.backfill_permille.store(1000, Ordering::Relaxed);
        let lag = |epoch: u64, now: i64| {
            job.epoch.store(epoch, Ordering::Relaxed);
            job.lag_micros(&stats, Timestamp(now))
        };
        assert_eq!(lag(0, 5), Some(0), "there was no cut");
        [(3, 1_000_000), (4, 1_001_000), (5, 9_000_000)].into_iter().for_each(|(e, now)| stats.cut_times.push(Epoch(e), Timestamp(now)));
        assert_eq!(lag(5, 20_000_000), Some(0), "an idle server has no lag");
        assert_eq!((lag(4, 9_500_000), lag(3, 9_500_000), lag(2, 9_500_000)), (Some(500_000), Some(8_500_000), Some(8_500_000)));
        job.backfill_permille.store(10, Ordering::Relaxed);
        assert_eq!(lag(2, 9_500_000), None, "it reads on its own");
    }
}
