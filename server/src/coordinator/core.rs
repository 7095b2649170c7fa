//! The event loop. Each turn takes every event that waits, then cuts, schedules and answers until nothing moves.

use super::checkpointing::{Checkpointing, Run};
use super::handle::{Command, CoordinatorHandle, Reply};
use super::inbox::{InboxRoom, Reader};
use super::job::Job;
use super::nows::Nows;
use super::pins::{Kept, Pins};
use super::reaper::Reaper;
use super::ring::Ring;
use super::settings::Tunable;
use super::sink::{Returning, SinkJob};
use super::source::Source;
use super::stats::Stats;
use super::system::SystemRows;
use super::table::Table;
use super::{CoordinatorConfig, Event};
use crate::catalog::CatalogSnapshot;
use crossbeam_channel::{Receiver, Sender, select};
use eddyline_common::kv::KeyValueStore;
use eddyline_common::runtime::{Process, Turn};
use eddyline_common::{Epoch, RelationId, Result, SqlError, Timestamp};
use eddyline_executor::{Engine, EngineEvent, Step};
use eddyline_storage::lock::DataDirLock;
use eddyline_storage::log::Log;
use eddyline_storage::view::SegmentDir;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Events taken per turn before the consequences are worked out.
const EVENTS_PER_TURN: usize = 1024;

/// How long a server that stops waits for its last checkpoint. What that would save is replayed at the next start.
const STOPPING_MAX: Duration = Duration::from_secs(30);

/// The longest sleep: bounds how late a timer computed from stale state can be.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What a timer is for that stays overdue cannot be done yet, and what that waits for wakes the coordinator.
const SLEEP_OVERDUE: Duration = Duration::from_millis(10);

/// While events wait, what readers have taken is let go of this often only: it means looking at every job.
const TRIM_INTERVAL: Duration = Duration::from_millis(1);

/// With so many jobs that this comes to more, it is done this often only, whether events wait or not: it takes a thirtieth of that.
const TRIM_INTERVAL_PER_JOB: Duration = Duration::from_micros(10);

/// Jobs are looked at this often at least, if there is a turn at all: what some of them wait for tells nobody that it has come.
const SCHEDULE_INTERVAL: Duration = Duration::from_millis(5);

pub(super) struct Core {
    pub config: CoordinatorConfig,
    /// What of the configuration may change, as the server was started, and what was altered of it.
    pub started: Tunable,
    pub altered: BTreeMap<String, String>,
    pub log: Arc<Log>,
    pub engine: Engine,
    pub engine_events: Receiver<EngineEvent>,
    pub kv: Arc<dyn KeyValueStore>,
    /// Where views are frozen.
    pub segments: Arc<SegmentDir>,
    pub events: Receiver<Event>,
    pub sender: Sender<Event>,
    pub handle: CoordinatorHandle,
    pub stats: Arc<Stats>,
    pub pins: Arc<Pins>,

    pub catalog: Arc<CatalogSnapshot>,
    pub next_relation: u32,
    pub sources: BTreeMap<RelationId, Source>,
    /// What of their readers waits, and of those that jobs have for themselves.
    pub inboxes: InboxRoom,
    pub private_inboxes: InboxRoom,
    pub tables: BTreeMap<RelationId, Table>,
    pub jobs: BTreeMap<RelationId, Job>,
    /// Which of them read a relation, a table's own job included.
    pub readers: HashMap<RelationId, BTreeSet<RelationId>>,
    /// Those that have a timer, and those that collect changes for an interval.
    pub timed: BTreeSet<RelationId>,
    pub collecting: BTreeSet<RelationId>,
    /// Steps on their way to the engine.
    pub steps_begun: Vec<Step>,
    /// Something other than rows has come since jobs were last looked at: some of them may be able to go on.
    pub unscheduled: bool,
    /// When they were.
    pub scheduled: Instant,
    /// Of the jobs whose rows go outside.
    pub sinks: BTreeMap<RelationId, SinkJob>,
    /// Sinks of a checkpoint until the log has been replayed, which may drop them.
    pub sinks_back: BTreeMap<RelationId, Returning>,
    /// Of sinks into tables: up to which of their steps the log has what they wrote.
    pub sink_writes: BTreeMap<RelationId, u64>,
    pub system: SystemRows,

    /// The newest cut, and its `now`.
    pub last_cut: Epoch,
    pub now: Timestamp,
    /// When it was taken.
    pub cut_at: Option<Instant>,
    pub nows: Nows,
    /// Cuts up to here survive a crash.
    pub durable: Epoch,
    pub cuts_in_flight: super::cutting::CutsInFlight,
    /// What each ring may keep at present.
    pub ring_share: usize,
    /// The newest cut of the log at start.
    pub recovered: Epoch,
    /// While the log is replayed, the cut up to which that is done.
    pub replayed: Option<Epoch>,
    /// What the log brings back is not all there yet.
    pub starting: bool,
    /// Why no cut will be durable any more.
    pub log_lost: Option<SqlError>,
    pub keeping: super::keeping::Keeping,
    /// Jobs have stopped: some sources may have no reader left.
    pub readers_changed: bool,
    /// Jobs that take one cut in a step; `None` until it is worked out, as jobs come and go.
    pub by_cut: Option<BTreeSet<RelationId>>,
    pub marks: BTreeSet<Epoch>,
    /// Those of them that all views that collect come to, and when they last did.
    pub joint: BTreeSet<Epoch>,
    pub joined: Option<Instant>,
    /// Sources that have not been read up to where they ended when their first reader came, or were only lately.
    pub filling: BTreeSet<RelationId>,
    pub last_mark: Instant,
    /// When what all readers have taken was last let go of.
    pub trimmed: Instant,
    /// It was put off since.
    pub owes_trim: bool,
    /// So was looking at the jobs.
    pub owes_schedule: bool,
    /// A timer was overdue when the coordinator last went to sleep.
    pub overdue: bool,
    pub checkpoints: Checkpointing,
    pub checkpoint: Option<Run>,

    pub ddl_waiting: HashMap<u64, super::ddl::Waiting>,
    pub next_ddl: u64,
    pub writes_waiting: Vec<super::cutting::WaitingWrite>,
    pub reads_waiting: Vec<super::reads::WaitingRead>,
    pub shutdown: Option<oneshot::Sender<()>>,
    /// Ends after the sources and jobs whose readers it ends.
    pub reaper: Reaper,
    /// Held for as long as the core lives.
    pub _locks: Vec<DataDirLock>,
}

/// The coordinator's thread: turns until it is shut down.
pub(super) struct Loop {
    core: Option<Core>,
    /// Since when it stops.
    stopping: Option<Instant>,
    /// Dropped when the thread ends, by a panic too.
    _alive: oneshot::Sender<()>,
}

impl Loop {
    pub fn new(core: Core, alive: oneshot::Sender<()>) -> Self {
        Loop { core: Some(core), stopping: None, _alive: alive }
    }
}

impl Process for Loop {
    fn turn(&mut self, may_wait: bool) -> Turn {
        let Some(core) = &mut self.core else { return Turn::Ended };
        let has_come = core.take_events(may_wait);
        core.settle();
        if core.shutdown.is_none() {
            return if has_come { Turn::Worked } else { Turn::Idle };
        }
        let now = core.instant();
        let takes_long = now - *self.stopping.get_or_insert(now) > STOPPING_MAX;
        if takes_long {
            tracing::warn!("stopping without a last checkpoint: some view did not come to it; the log has everything");
        }
        if !takes_long && !core.is_at_rest() {
            return if has_come { Turn::Worked } else { Turn::Idle };
        }
        if let Some(core) = self.core.take() {
            core.stop();
        }
        Turn::Ended
    }
}

impl Core {
    /// What the clock says, for spans of time.
    pub fn instant(&self) -> Instant {
        self.config.clock.instant()
    }

    /// Takes the events that have come; if it may, it waits for one or a timer first. Says whether something has come.
    fn take_events(&mut self, may_wait: bool) -> bool {
        let due = self.next_timer().saturating_duration_since(self.instant());
        // What came due since the last turn is done now.
        let was_overdue = std::mem::replace(&mut self.overdue, due.is_zero());
        let is_new = self.overdue && !was_overdue;
        let timeout = match may_wait {
            false => Duration::ZERO,
            true if self.overdue && was_overdue => SLEEP_OVERDUE,
            true => due.min(SLEEP_MAX),
        };
        let mut has_come = true;
        select! {
            recv(self.events) -> event => if let Ok(event) = event { self.on_event(event) },
            recv(self.engine_events) -> event => if let Ok(event) = event { self.on_engine_event(event) },
            default(timeout) => {
                self.unscheduled = true;
                has_come = is_new;
            }
        }
        for _ in 0..EVENTS_PER_TURN {
            if let Ok(event) = self.engine_events.try_recv() {
                self.on_engine_event(event);
            } else if let Ok(event) = self.events.try_recv() {
                self.on_event(event);
            } else {
                break;
            }
        }
        has_come
    }

    /// Works out everything that has become possible.
    pub fn settle(&mut self) {
        let has_changed = std::mem::take(&mut self.readers_changed) || self.sources.values().any(Source::is_retry_due);
        // A server that stops begins to read nothing.
        if has_changed && self.shutdown.is_none() {
            self.refresh_readers();
        }
        loop {
            let cut = self.shutdown.is_none() && self.cut_if_due();
            let is_due = cut || self.unscheduled || self.instant() - self.scheduled >= SCHEDULE_INTERVAL;
            let scheduled = is_due && self.schedule();
            self.owes_schedule = !is_due;
            self.unscheduled = scheduled || self.holds_steps();
            if !cut && !scheduled {
                break;
            }
        }
        self.listen_again();
        self.release_sinks();
        self.answer_writes();
        self.answer_reads();
        self.enforce_pins();
        self.tell_held();
        self.trim_if_due();
        self.checkpoint_if_due();
    }

    fn trim_if_due(&mut self) {
        let interval = self.trim_interval();
        let is_due = self.instant() - self.trimmed >= interval || interval == TRIM_INTERVAL && self.is_quiet();
        if is_due {
            self.trim();
            self.trimmed = self.instant();
            // A ring that was full may have room again.
            self.unscheduled = true;
        }
        self.owes_trim = !is_due;
    }

    fn trim_interval(&self) -> Duration {
        TRIM_INTERVAL.max(TRIM_INTERVAL_PER_JOB * self.jobs.len() as u32)
    }

    fn is_quiet(&self) -> bool {
        self.events.is_empty() && self.engine_events.is_empty()
    }

    fn on_event(&mut self, event: Event) {
        self.unscheduled |= !matches!(event, Event::Arrived(Reader::Source(_)));
        match event {
            Event::Command(command) => self.on_command(command),
            Event::Arrived(Reader::Source(source)) => self.receive(source),
            // The scheduler looks into a backfill's inbox by itself.
            Event::Arrived(Reader::Backfill(..)) => {}
            Event::Durable(epoch, Ok(())) => {
                self.durable = self.durable.max(epoch);
                self.cuts_in_flight.durable(epoch);
                self.stats.epoch.store(self.durable.0, Ordering::Relaxed);
            }
            Event::Durable(_, Err(error)) => self.on_log_lost(error),
            Event::DdlDurable(id, result) => self.on_ddl_durable(id, result),
            Event::HeldAreWritten(id) => self.on_held_are_written(id),
            Event::ViewsAreFrozen(id) => self.on_views_are_frozen(id),
            Event::CheckpointDone(id, result) => self.on_checkpoint_done(id, result),
            Event::CheckpointsCleaned(id, result) => self.on_checkpoints_cleaned(id, result),
            Event::Vacuumed { more } => self.on_vacuumed(more),
            Event::SinkLogged(id, pieces) => self.on_sink_logged(id, pieces),
            Event::SinkFailed(id, error) => self.on_job_failed(id, self.last_cut, error),
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Ddl(ddl, resolved, reply) => self.on_ddl(ddl, resolved, reply),
            Command::Write(write, reply) => self.on_write(write, reply),
            Command::WrittenBySink(sink, reply) => {
                let written = self.log_health().map(|()| self.written_by_sink(sink));
                reply_to(reply, written);
            }
            Command::Snapshot { relations, at_least, for_write, in_time, reply } => {
                self.on_snapshot(relations, at_least, for_write, in_time, reply)
            }
            Command::Flush(reply) => self.on_flush(reply),
            Command::SystemRows(relation, reply) => self.on_system_rows(relation, reply),
            Command::Shutdown(reply) => {
                tracing::info!("shutting down");
                self.shutdown = Some(reply);
                self.sources.values_mut().for_each(Source::stop);
                if self.tables.values().any(Table::has_input)
                    && let Err(error) = self.take_cut()
                {
                    tracing::error!("writes under way are not finished: {error}");
                }
                self.begin_last_checkpoint();
            }
        }
    }

    pub(super) fn on_engine_event(&mut self, event: EngineEvent) {
        self.unscheduled = true;
        match event {
            EngineEvent::StepDone(done) => self.on_step_done(done),
            EngineEvent::StepsDone(done) => done.into_iter().for_each(|done| self.on_step_done(done)),
            EngineEvent::JobFailed { job, epoch, error } => self.on_job_failed(job, epoch, error),
            EngineEvent::Frozen { job, checkpoint, runs } => self.on_frozen(job, checkpoint, runs),
        }
    }

    fn next_timer(&self) -> Instant {
        let sources = self.sources.values().filter_map(Source::next_timer);
        let far = self.instant() + SLEEP_MAX;
        let trim = self.owes_trim.then(|| self.trimmed + self.trim_interval());
        let schedule = self.owes_schedule.then(|| self.scheduled + SCHEDULE_INTERVAL);
        let log = self.next_checkpoint().into_iter().chain(self.next_look_at_log()).chain(trim).chain(schedule);
        sources.chain(log).chain(self.next_job_timer()).chain(self.next_emission()).chain(self.next_paced_cut()).min().unwrap_or(far)
    }

    /// Nothing is under way that comes to an end by itself. A job that a table outside does not answer does not.
    fn is_at_rest(&self) -> bool {
        self.checkpoint.is_none() && self.jobs.values().all(|job| job.running.is_none() || job.trouble().is_some())
    }

    fn stop(mut self) {
        // Dropping a waiting read tells its session that the server stops.
        self.reads_waiting.clear();
        self.sources.clear();
        self.jobs.clear();
        std::mem::take(&mut self.sinks).into_values().for_each(SinkJob::stop);
        let done = self.shutdown.take();
        drop(self);
        if let Some(done) = done {
            let _gone = done.send(());
        }
        tracing::info!("stopped");
    }

    /// What a relation emits: a source's or table's input, or a view's output.
    pub fn ring(&self, relation: RelationId) -> Option<&Ring> {
        let source = self.sources.get(&relation).map(|s| &s.ring);
        let table = || self.tables.get(&relation).map(|t| &t.ring);
        source.or_else(table).or_else(|| self.jobs.get(&relation).map(|j| &j.output))
    }

    /// The epoch through which a relation's emissions are known.
    pub fn frontier(&self, relation: RelationId) -> Epoch {
        let last_cut = self.replayed.unwrap_or(self.last_cut);
        if let Some(source) = self.sources.get(&relation) {
            return source.frontier(last_cut);
        }
        if self.tables.contains_key(&relation) {
            return last_cut;
        }
        self.jobs.get(&relation).filter(|j| j.is_live()).map_or(Epoch::ZERO, |j| j.stepped)
    }

    /// Jobs that read a relation, a table's own job included.
    pub fn readers(&self, relation: RelationId) -> impl Iterator<Item = &Job> {
        self.readers.get(&relation).into_iter().flatten().filter_map(|id| self.jobs.get(id))
    }

    pub fn keep_job(&mut self, job: Job) {
        for input in &job.inputs {
            self.readers.entry(*input).or_default().insert(job.id());
        }
        self.note_timer(job.id(), job.progress.next_timer.is_some());
        self.note_interval(&job.relation);
        self.by_cut = None;
        self.jobs.insert(job.id(), job);
    }

    pub fn take_job(&mut self, id: RelationId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.by_cut = None;
        self.timed.remove(&id);
        self.collecting.remove(&id);
        for input in &job.inputs {
            if let Some(readers) = self.readers.get_mut(input) {
                readers.remove(&id);
                if readers.is_empty() {
                    self.readers.remove(input);
                }
            }
        }
        Some(job)
    }

    /// What views keep for readers only.
    pub fn kept(&self) -> Kept {
        Kept { died: self.segments.died_bytes(), held: self.segments.held_bytes() }
    }

    fn enforce_pins(&self) {
        let kept = self.kept();
        let now = self.instant();
        self.pins.enforce(self.config.pin_limits, kept, now);
        let (pins, age, bytes, let_go) = self.pins.figures(kept, now);
        self.stats.pins.store(pins as u64, Ordering::Relaxed);
        self.stats.pin_micros.store(age.as_micros() as u64, Ordering::Relaxed);
        self.stats.pin_bytes.store(bytes, Ordering::Relaxed);
        self.stats.pins_let_go.store(let_go, Ordering::Relaxed);
    }

    pub fn mark(&mut self, epoch: Epoch) {
        self.marks.insert(epoch);
    }
}

/// Answers a session; one that went away needs no answer.
pub(super) fn reply_to<T>(reply: Reply<T>, result: Result<T>) {
    let _gone = reply.send(result);
}
