//! What a sink's books, its logger and its sender share: what may be sent, rows that need no reading back, and how it fares.

use super::super::stats::SinkStats;
use super::frames::Void;
use super::waiting::Waiting;
use crossbeam_channel::RecvTimeoutError;
use eddyline_common::connector::{SinkConnector, SinkMonitor, SinkStep};
use eddyline_common::{ChangeBatch, Epoch, Result, SqlError};
use eddyline_storage::log::{Log, LogPosition};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Rows in memory that were logged and not sent; what is beyond is read back. A few steps of a sender that keeps up.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// How soon a disk that refuses is noticed by those that wait for it.
const LOOK_AT_LOG: Duration = Duration::from_millis(250);

pub struct Shared {
    pub stats: Arc<SinkStats>,
    state: Mutex<State>,
    wake: Condvar,
    closed: AtomicBool,
    /// A connector waits to take the place of the sender's.
    replaced: AtomicBool,
    /// Its directory goes with it.
    discarded: AtomicBool,
}

struct State {
    log: Option<LogAt>,
    waiting: Waiting,
    /// The last number that may be sent.
    sendable: u64,
    paused: bool,
    connector: Option<Box<dyn SinkConnector>>,
    queue: VecDeque<Logged>,
    queue_bytes: usize,
    /// Numbers with which an epoch is complete, and the epoch.
    complete: VecDeque<(u64, Epoch)>,
    /// Why the log could not be opened.
    unopened: Option<SqlError>,
}

/// The log, where the rows after the last acknowledged step may begin, and what of it is void.
#[derive(Clone)]
pub struct LogAt {
    pub log: Arc<Log>,
    pub start: LogPosition,
    pub void: Arc<Vec<Void>>,
}

/// One step's rows, in the log.
#[derive(Clone)]
pub struct Logged {
    pub step: SinkStep,
    pub changes: ChangeBatch,
    pub position: LogPosition,
    /// In the log.
    pub bytes: u64,
}

/// What the sender finds to do.
pub enum Work {
    /// Steps up to this number may be sent.
    Send(u64),
    Wait,
    Paused,
    /// There is another connector.
    Replaced,
    Closed,
}

impl Shared {
    /// `waiting`: of what was logged and sent before.
    pub fn new(stats: Arc<SinkStats>, waiting: Waiting, paused: bool) -> Arc<Self> {
        stats.waiting_bytes.store(waiting.bytes(), Ordering::Relaxed);
        let state = State {
            log: None,
            sendable: waiting.acknowledged(),
            waiting,
            paused,
            connector: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            complete: VecDeque::new(),
            unopened: None,
        };
        Arc::new(Shared {
            stats,
            state: Mutex::new(state),
            wake: Condvar::new(),
            closed: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
            discarded: AtomicBool::new(false),
        })
    }

    pub fn opened(&self, log: LogAt) {
        self.state.lock().log = Some(log);
        self.wake.notify_all();
    }

    pub fn cannot_open(&self, error: SqlError) {
        self.report(Some(format!("its log cannot be opened: {error}")));
        self.state.lock().unopened = Some(error);
    }

    /// Nobody reads it any more: it closes when its last user is done.
    pub fn let_go_of_log(&self) {
        self.state.lock().log = None;
    }

    pub fn log_health(&self) -> Result<()> {
        let state = self.state.lock();
        match (&state.log, &state.unopened) {
            (Some(at), _) => at.log.health(),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Ok(()),
        }
    }

    /// A sync of the log failed: it takes nothing until the next start.
    pub fn log_is_lost(&self) -> bool {
        self.state.lock().log.as_ref().is_some_and(|at| at.log.is_lost())
    }

    /// Waits until the record at `position` is durable, however long the disk refuses; then the problem is shown. An error if it
    /// never will be, or if the sink was closed and the disk refuses.
    pub fn wait_durable(&self, log: &Log, position: LogPosition) -> Result<()> {
        let (done, wait) = crossbeam_channel::bounded(1);
        // Nobody may wait for it any more.
        log.on_durable(position, Box::new(move |outcome| drop(done.send(outcome))));
        let mut was_refused = false;
        loop {
            match wait.recv_timeout(LOOK_AT_LOG) {
                Ok(outcome) => {
                    if was_refused && outcome.is_ok() {
                        self.report(None);
                    }
                    return outcome;
                }
                Err(RecvTimeoutError::Disconnected) => return Err(SqlError::internal("a sink's log let go of a record")),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(error) = log.health() {
                self.report(Some(format!("its log cannot be written: {error}")));
                was_refused = true;
                if self.is_closed() {
                    return Err(error);
                }
            }
        }
    }

    /// The log, once it is open; `None` when the sink was closed first.
    pub fn log(&self) -> Option<LogAt> {
        let mut state = self.state.lock();
        loop {
            if let Some(log) = &state.log {
                return Some(log.clone());
            }
            if self.is_closed() {
                return None;
            }
            self.wake.wait(&mut state);
        }
    }

    /// The log, if it is open already.
    pub fn log_now(&self) -> Option<Arc<Log>> {
        self.state.lock().log.as_ref().map(|at| at.log.clone())
    }

    pub fn release(&self, up_to: u64, complete: Option<Epoch>) {
        let mut state = self.state.lock();
        state.sendable = state.sendable.max(up_to);
        state.complete.extend(complete.map(|epoch| (up_to, epoch)));
        drop(state);
        self.wake.notify_all();
    }

    /// All that was released is acknowledged.
    pub fn has_sent_all(&self) -> bool {
        let state = self.state.lock();
        state.sendable <= state.waiting.acknowledged()
    }

    pub fn pause(&self, paused: bool) {
        self.state.lock().paused = paused;
        self.stats.paused.store(paused, Ordering::Relaxed);
        self.wake.notify_all();
    }

    /// The sender gives its writer up, and goes on with this one's.
    pub fn replace(&self, connector: Box<dyn SinkConnector>) {
        let mut state = self.state.lock();
        state.connector = Some(connector);
        self.replaced.store(true, Ordering::SeqCst);
        self.wake.notify_all();
    }

    pub fn take_connector(&self) -> Option<Box<dyn SinkConnector>> {
        let mut state = self.state.lock();
        self.replaced.store(false, Ordering::SeqCst);
        state.connector.take()
    }

    pub fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::SeqCst)
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub fn close(&self, discard: bool) {
        self.discarded.fetch_or(discard, Ordering::SeqCst);
        self.closed.store(true, Ordering::SeqCst);
        let _state = self.state.lock();
        self.wake.notify_all();
    }

    pub fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::SeqCst)
    }

    /// The log has this much more that is of use until a number is acknowledged.
    pub fn waits(&self, number: u64, bytes: u64) {
        self.count(|waiting| waiting.add(number, bytes));
    }

    pub fn acknowledged(&self, number: u64) {
        self.count(|waiting| waiting.acknowledge(number));
    }

    fn count(&self, change: impl FnOnce(&mut Waiting)) {
        let mut state = self.state.lock();
        change(&mut state.waiting);
        self.stats.waiting_bytes.store(state.waiting.bytes(), Ordering::Relaxed);
    }

    /// Rows that are in the log: kept for the sender if there is room.
    pub fn queue(&self, logged: Logged) {
        let bytes = logged.changes.bytes();
        let mut state = self.state.lock();
        if state.queue_bytes + bytes <= QUEUE_BYTES_MAX {
            state.queue_bytes += bytes;
            state.queue.push_back(logged);
        }
    }

    /// The rows of this number, if they are at hand.
    pub fn take(&self, number: u64) -> Option<Logged> {
        let mut state = self.state.lock();
        while let Some(front) = state.queue.front()
            && front.step.number <= number
        {
            let found = state.queue.pop_front()?;
            state.queue_bytes -= found.changes.bytes();
            if found.step.number == number {
                return Some(found);
            }
        }
        None
    }

    /// What there is to do for a sender that has sent all up to `sent`. Waits for it until `until`.
    pub fn work(&self, sent: u64, until: Instant) -> Work {
        let mut state = self.state.lock();
        loop {
            if self.is_closed() {
                return Work::Closed;
            }
            if state.connector.is_some() {
                return Work::Replaced;
            }
            if state.paused {
                return Work::Paused;
            }
            if state.sendable > sent {
                return Work::Send(state.sendable);
            }
            if self.wake.wait_until(&mut state, until).timed_out() {
                return Work::Wait;
            }
        }
    }

    /// Waits while paused; false when closed.
    pub fn wait_resumed(&self) -> bool {
        let mut state = self.state.lock();
        while state.paused && !self.is_closed() {
            self.wake.wait(&mut state);
        }
        !self.is_closed()
    }

    /// Sleeps, or less if there is another connector or the sink is closed; false then.
    pub fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !self.is_closed() && state.connector.is_none() && !self.wake.wait_until(&mut state, until).timed_out() {}
        !self.is_closed()
    }

    /// The newest complete epoch among the steps up to a number.
    pub fn complete_up_to(&self, number: u64) -> Option<Epoch> {
        let mut state = self.state.lock();
        let mut newest = None;
        while let Some((up_to, epoch)) = state.complete.front().copied()
            && up_to <= number
        {
            newest = Some(epoch);
            state.complete.pop_front();
        }
        newest
    }
}

impl SinkMonitor for Shared {
    fn report(&self, problem: Option<String>) {
        *self.stats.problem.write() = problem;
    }

    fn is_closed(&self) -> bool {
        Shared::is_closed(self) || self.is_replaced()
    }
}
