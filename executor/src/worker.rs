//! A worker: one thread that owns its shard of every job. It empties its mailbox, gives one runnable job a turn, and looks
//! into the mailbox again; with nothing runnable it sleeps on the mailbox. It never waits for another worker.
//!
//! A panic or an error ends the job it happened in, on all workers, and nothing else.

use crate::exchange::Delivery;
use crate::instance::{Instance, Turn};
use crate::job::{EngineEvent, FreezeRun, StepDone, StepRun};
use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender};
use eddyline_common::runtime::{self, Process, next_of};
use eddyline_common::{RelationId, Result, SqlError, TaggedBatch, failpoint, panic_text};
use eddyline_storage::state::{SpillGate, StateBudget};
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How often a worker that has nothing to do tries again to give out state for which the disk had no room.
const SPILL_RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Of steps that were begun together so many are told of together: what waits for the first of them waits for all.
const REPORTED_TOGETHER: usize = 32;

/// A worker's part of a step.
pub(crate) struct StepShare {
    pub run: Arc<StepRun>,
    pub inputs: Vec<(RelationId, Vec<TaggedBatch>)>,
}

/// Messages to a worker. Mailboxes have no fixed capacity, as a full one would make workers wait for each other; what is
/// in them is bounded by one step in flight per job, and by what of it may be on its way between workers (`exchange::Transit`).
pub(crate) enum Message {
    Create(Box<Instance>),
    /// More than one, if they are small.
    Steps(Vec<StepShare>),
    Deliver(Delivery),
    /// What the job, or an operator of it, waited for is here.
    Wake(RelationId),
    Freeze(Arc<FreezeRun>),
    /// Forget the job: it was dropped, or it failed on another worker.
    Drop(RelationId),
    Stop,
}

/// The mailboxes of all workers.
#[derive(Clone)]
pub(crate) struct Mailboxes(Arc<[Sender<Message>]>);

impl Mailboxes {
    pub(crate) fn new(senders: Vec<Sender<Message>>) -> Self {
        Mailboxes(senders.into())
    }

    pub(crate) fn workers(&self) -> usize {
        self.0.len()
    }

    /// A worker that is gone was stopped together with all others.
    pub(crate) fn send(&self, worker: usize, message: Message) {
        let _ = self.0[worker].send(message);
    }

    pub(crate) fn send_all(&self, message: impl Fn() -> Message) {
        (0..self.workers()).for_each(|worker| self.send(worker, message()));
    }
}

pub(crate) struct Worker {
    mailboxes: Mailboxes,
    inbox: Receiver<Message>,
    events: Sender<EngineEvent>,
    instances: HashMap<RelationId, Instance>,
    runnable: VecDeque<RelationId>,
    budget: Arc<StateBudget>,
    gate: Arc<SpillGate>,
    /// Steps begun; tells which jobs are cold.
    steps: u64,
}

impl Process for Worker {
    fn turn(&mut self, may_wait: bool) -> runtime::Turn {
        let message = if may_wait && self.runnable.is_empty() { self.sleep() } else { next_of(&self.inbox, false) };
        match message {
            Ok(Some(Message::Stop)) | Err(RecvError) => return runtime::Turn::Ended,
            Ok(Some(message)) => self.handle(message),
            Ok(None) if self.runnable.is_empty() => return runtime::Turn::Idle,
            Ok(None) => self.give_turn(),
        }
        runtime::Turn::Worked
    }
}

impl Worker {
    pub(crate) fn new(
        mailboxes: Mailboxes,
        inbox: Receiver<Message>,
        events: Sender<EngineEvent>,
        budget: Arc<StateBudget>,
        gate: Arc<SpillGate>,
    ) -> Self {
        Worker { mailboxes, inbox, events, instances: HashMap::new(), runnable: VecDeque::new(), budget, gate, steps: 0 }
    }

    /// The next message, waiting for it; an error if none will come any more.
    fn sleep(&mut self) -> Result<Option<Message>, RecvError> {
        while self.gate.is_held() {
            match self.inbox.recv_timeout(SPILL_RETRY_INTERVAL) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
                Err(RecvTimeoutError::Timeout) => self.retry_spills(),
            }
        }
        next_of(&self.inbox, true)
    }

    fn retry_spills(&mut self) {
        let resting: Vec<RelationId> = self.instances.values().filter(|i| i.rests()).map(Instance::job).collect();
        for job in resting {
            self.guarded(job, |instance| instance.shrink().map(|()| false));
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Create(instance) => {
                self.instances.insert(instance.job(), *instance);
            }
            Message::Steps(steps) => self.begin(steps),
            Message::Deliver(delivery) => self.guarded(delivery.job, |instance| Ok(instance.deliver(delivery))),
            // It may have gone on by itself.
            Message::Wake(job) => self.guarded(job, |_| Ok(true)),
            Message::Freeze(freeze) => self.guarded(freeze.job(), |instance| {
                failpoint::hit("job.freeze")?;
                freeze.complete(instance.freeze()?);
                Ok(false)
            }),
            Message::Drop(job) => self.forget(job),
            Message::Stop => unreachable!("handled by the loop"),
        }
    }

    /// Steps that come together get their turns at once, while what begins them is in the cache. They are small, and so is what the
    /// mailbox waits for.
    fn begin(&mut self, steps: Vec<StepShare>) {
        let is_one = steps.len() == 1;
        let mut done = Vec::new();
        for StepShare { run, inputs } in steps {
            let job = run.shared.job;
            self.steps += 1;
            let step = self.steps;
            self.guarded(job, |instance| {
                instance.last_step = step;
                instance.start(run, inputs);
                Ok(is_one)
            });
            if is_one {
                return;
            }
            done.extend(self.take_turn(job));
            self.shrink_after(job);
            if done.len() == REPORTED_TOGETHER {
                self.report(std::mem::take(&mut done));
            }
        }
        self.report(done);
    }

    fn give_turn(&mut self) {
        let Some(job) = self.runnable.pop_front() else { return };
        if let Some(instance) = self.instances.get_mut(&job) {
            instance.queued = false;
        }
        let done = self.take_turn(job);
        self.report(done.into_iter().collect());
        self.shrink_after(job);
    }

    /// The step, if that was the end of it.
    fn take_turn(&mut self, job: RelationId) -> Option<StepDone> {
        let (mailboxes, mut done) = (self.mailboxes.clone(), None);
        self.guarded(job, |instance| {
            Ok(match instance.turn(&mailboxes)? {
                Turn::Again => true,
                Turn::Idle => false,
                Turn::Done(step) => {
                    done = Some(step);
                    false
                }
            })
        });
        done
    }

    fn report(&self, mut done: Vec<StepDone>) {
        let event = match done.len() {
            0 => return,
            1 => EngineEvent::StepDone(done.remove(0)),
            _ => EngineEvent::StepsDone(done),
        };
        // A receiver that is gone belongs to an engine that is being dropped.
        let _gone = self.events.send(event);
    }

    fn shrink_after(&mut self, job: RelationId) {
        let rests = self.instances.get(&job).is_some_and(Instance::rests);
        if rests && self.budget.is_exceeded() {
            self.shrink();
        }
    }

    /// Jobs give back state that is over their share, the coldest first.
    fn shrink(&mut self) {
        let mut resting: Vec<(u64, RelationId)> = self.instances.values().filter(|i| i.rests()).map(|i| (i.last_step, i.job())).collect();
        resting.sort_unstable();
        for (_, job) in resting {
            if !self.budget.is_exceeded() {
                return;
            }
            self.guarded(job, |instance| instance.shrink().map(|()| false));
        }
    }

    /// Runs `action` on a job that may be gone by now. If it says true, the job is runnable.
    fn guarded(&mut self, job: RelationId, action: impl FnOnce(&mut Instance) -> Result<bool>) {
        let Some(instance) = self.instances.get_mut(&job) else { return };
        let outcome = catch_unwind(AssertUnwindSafe(|| action(instance))).unwrap_or_else(|panic| Err(panic_error(panic.as_ref())));
        match outcome {
            Ok(true) if !instance.queued => {
                instance.queued = true;
                self.runnable.push_back(job);
            }
            Ok(_) => {}
            Err(error) => {
                if instance.shared().fail(error) {
                    self.mailboxes.send_all(|| Message::Drop(job));
                }
                self.forget(job);
            }
        }
    }

    fn forget(&mut self, job: RelationId) {
        self.runnable.retain(|runnable| *runnable != job);
        if let Some(instance) = self.instances.remove(&job)
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(instance)))
        {
            tracing::error!(%job, error = %panic_error(panic.as_ref()), "a job could not be released");
        }
    }
}

/// What a job's own code said as it panicked, as the error of whatever it was doing.
pub(crate) fn panic_error(panic: &(dyn Any + Send)) -> SqlError {
    SqlError::internal(format!("an operator panicked: {}", panic_text(panic)))
}
