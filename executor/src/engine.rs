//! The engine: the handle through which the coordinator runs jobs on worker threads. Its calls hand over work and
//! return; results come as events. Dropping it stops the workers between two turns and joins them.

use crate::build::{StateResources, build_instance};
use crate::instance::Instance;
use crate::job::{EngineEvent, FreezeRun, JobShared, JobSpec, OperatorStats, Step, StepInput, StepRun};
use crate::operator::Wake;
use crate::placement::Placement;
use crate::worker::{Mailboxes, Message, StepShare, Worker};
use crossbeam_channel::{Receiver, Sender, unbounded};
use eddyline_common::kv::KeyValueStore;
use eddyline_common::runtime::{Thread, Threads};
use eddyline_common::{RelationId, Result, TaggedBatch};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_storage::state::{SpillGate, StateBudget};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Input batches are cut to this size: vectors that fit the cache, and turns that end in time.
const BATCH_ROWS_MAX: usize = 16 * 1024;
/// Smaller pieces are not worth a second worker.
const BATCH_ROWS_MIN: usize = 1024;
/// A step with no more rows than this is not worth a second worker if there are other steps for that one.
const LOCAL_ROWS_MAX: usize = 8 * 1024;
/// What a step costs beside its rows, in rows: for spreading steps over workers.
const STEP_ROWS: usize = 4 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateBackend {
    /// All state stays in memory; the key-value store is for recovery.
    Memory,
    /// A bounded hot set in memory, the rest in the key-value store.
    Rocksdb,
}

#[derive(Clone, Debug)]
pub struct EngineConfig {
    pub workers: usize,
    pub backend: StateBackend,
    /// State that all jobs together keep in memory (backend `Rocksdb`).
    pub cache_bytes: usize,
    /// Where the workers run.
    pub threads: Arc<dyn Threads>,
}

pub struct Engine {
    state: StateResources,
    mailboxes: Mailboxes,
    threads: Vec<Box<dyn Thread>>,
    jobs: Mutex<HashMap<RelationId, Arc<JobShared>>>,
    events: (Sender<EngineEvent>, Receiver<EngineEvent>),
}

impl Engine {
    pub fn start(config: EngineConfig, kv: Arc<dyn KeyValueStore>) -> Engine {
        assert!(config.workers > 0, "an engine has a worker");
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..config.workers).map(|_| unbounded()).unzip();
        let mailboxes = Mailboxes::new(senders);
        let (budget, gate) = (StateBudget::new(config.cache_bytes), Arc::new(SpillGate::new()));
        let events = unbounded();
        let threads = inboxes
            .into_iter()
            .enumerate()
            .map(|(index, inbox)| {
                let worker = Worker::new(mailboxes.clone(), inbox, events.0.clone(), budget.clone(), gate.clone());
                let thread = config.threads.spawn(&format!("worker-{index}"), Box::new(worker));
                thread.expect("the system has threads for the workers at start")
            })
            .collect();
        let state = StateResources { kv, gate, backend: config.backend, budget };
        Engine { state, mailboxes, threads, jobs: Mutex::default(), events }
    }

    fn workers(&self) -> usize {
        self.mailboxes.workers()
    }

    /// Builds the job's operators for every worker, reading their state if it is restored, and hands them over. Fails,
    /// leaving nothing behind, if the plan or an expression in it cannot be run, or an operator panics. Returns what its operators, in
    /// the order of the plan's nodes, will have done.
    pub fn create_job(&self, spec: JobSpec) -> Result<Arc<[OperatorStats]>> {
        let workers = self.workers();
        let shared = Arc::new(JobShared::new(&spec, workers, self.events.0.clone()));
        let wakes: Vec<Wake> = (0..workers).map(|worker| wake(&self.mailboxes, worker, spec.job)).collect();
        let build = |worker: usize| build_instance(&spec, shared.clone(), &self.state, &wakes[worker], worker);
        let instances = if spec.restore.is_none() {
            (0..workers).map(build).collect::<Result<Vec<_>>>()?
        } else {
            // Reading state back takes long; the workers' shards are read side by side.
            std::thread::scope(|scope| {
                let builds: Vec<_> = (0..workers).map(|worker| scope.spawn(move || build(worker))).collect();
                builds.into_iter().map(|b| b.join().expect("a build gives its panics as errors")).collect::<Result<Vec<_>>>()
            })?
        };
        let operators = shared.operators.clone();
        self.install(shared, instances);
        Ok(operators)
    }

    pub(crate) fn install(&self, shared: Arc<JobShared>, instances: Vec<Instance>) {
        assert_eq!(instances.len(), self.workers(), "an instance for every worker");
        assert!(self.jobs.lock().insert(shared.job, shared.clone()).is_none(), "ids of jobs are never reused");
        for (worker, instance) in instances.into_iter().enumerate() {
            self.mailboxes.send(worker, Message::Create(Box::new(instance)));
        }
    }

    /// Forgets a job, also in the middle of a step, of which an event may still come. Its state tables in the key-value
    /// store are the caller's to drop.
    pub fn drop_job(&self, job: RelationId) {
        if self.jobs.lock().remove(&job).is_some() {
            self.mailboxes.send_all(|| Message::Drop(job));
        }
    }

    /// Starts a step, answered by `StepDone` or `JobFailed`. Never blocks. A job has one step in flight at most; steps of
    /// jobs that failed or were dropped are ignored.
    pub fn step(&self, step: Step) {
        self.steps(vec![step]);
    }

    /// Starts steps of several jobs, none of them large: a worker takes its share of all of them in one go, and what it ends it
    /// tells of in one event, `StepsDone`.
    pub fn steps(&self, steps: Vec<Step>) {
        let workers = self.workers();
        let found: Vec<(Arc<JobShared>, Step)> = {
            let jobs = self.jobs.lock();
            let found = |step: Step| Some((jobs.get(&step.job).filter(|shared| !shared.failed())?.clone(), step));
            steps.into_iter().filter_map(found).collect()
        };
        let local_rows = if found.len() > 1 { LOCAL_ROWS_MAX } else { BATCH_ROWS_MIN };
        let mut shares: Vec<Vec<StepShare>> = (0..workers).map(|_| Vec::with_capacity(found.len())).collect();
        let mut load = vec![0; workers];
        for (shared, step) in found {
            let placement = shared.placement;
            let rows: usize = step.inputs.iter().flat_map(|i| &i.batches).map(|b| b.changes.num_rows()).sum();
            if shared.is_stateless && rows <= local_rows {
                // Of equals the one that had the job before, whose cache it may still be in.
                let usual = shared.job.0 as usize;
                let chosen = (0..placement.parts())
                    .map(|part| placement.worker((usual + part) % placement.parts()))
                    .min_by_key(|w| load[*w] / STEP_ROWS);
                let worker = chosen.unwrap_or_default();
                load[worker] += rows + STEP_ROWS;
                let run = Arc::new(StepRun::new(shared, &step, 1));
                let inputs = step.inputs.into_iter().map(|input| (input.relation, input.batches)).collect();
                shares[worker].push(StepShare { run, inputs });
                continue;
            }
            let run = Arc::new(StepRun::new(shared, &step, workers));
            for (share, inputs) in shares.iter_mut().zip(distribute(step.inputs, placement)) {
                share.push(StepShare { run: run.clone(), inputs });
            }
        }
        for (worker, share) in shares.into_iter().enumerate().filter(|(_, share)| !share.is_empty()) {
            self.mailboxes.send(worker, Message::Steps(share));
        }
    }

    /// Freezes the job's state as of its last step, answered by `Frozen` or `JobFailed`. Called between steps. Ignored
    /// for jobs that failed or were dropped. Fails if another checkpoint is pending.
    pub fn freeze(&self, job: RelationId, checkpoint: u64) -> Result<()> {
        let Some(shared) = self.job(job) else { return Ok(()) };
        self.state.gate.begin(checkpoint)?;
        if shared.is_stateless {
            // No worker has anything of it.
            shared.send(EngineEvent::Frozen { job, checkpoint, runs: Vec::new() });
            return Ok(());
        }
        let run = Arc::new(FreezeRun::new(shared, checkpoint, self.workers()));
        self.mailboxes.send_all(|| Message::Freeze(run.clone()));
        Ok(())
    }

    /// What row errors do in the job's next steps. Called between steps.
    pub fn set_on_error(&self, job: RelationId, policy: ErrorPolicy) {
        if let Some(shared) = self.job(job) {
            shared.set_on_error(policy);
        }
    }

    fn job(&self, job: RelationId) -> Option<Arc<JobShared>> {
        self.jobs.lock().get(&job).filter(|shared| !shared.failed()).cloned()
    }

    /// At most one event per job is outstanding, so the channel needs no bound of its own.
    pub fn events(&self) -> Receiver<EngineEvent> {
        self.events.1.clone()
    }

    /// Memory of all operators' state (backend `Rocksdb`).
    pub fn state_bytes(&self) -> usize {
        self.state.budget.used_bytes()
    }

    pub fn gate(&self) -> &Arc<SpillGate> {
        &self.state.gate
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.mailboxes.send_all(|| Message::Stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

fn wake(mailboxes: &Mailboxes, worker: usize, job: RelationId) -> Wake {
    let mailboxes = mailboxes.clone();
    Arc::new(move || mailboxes.send(worker, Message::Wake(job)))
}

type Share = Vec<(RelationId, Vec<TaggedBatch>)>;

/// Spreads the batches over the job's workers, each piece to the one with the fewest rows so far.
fn distribute(inputs: Vec<StepInput>, placement: Placement) -> Vec<Share> {
    let parts = placement.parts();
    let mut shares: Vec<Share> = vec![Vec::new(); placement.workers()];
    let mut rows = vec![0usize; parts];
    for input in inputs {
        for share in &mut shares {
            share.push((input.relation, Vec::new()));
        }
        for batch in input.batches {
            let total = batch.changes.num_rows();
            let piece = total.div_ceil(parts).clamp(BATCH_ROWS_MIN, BATCH_ROWS_MAX);
            for start in (0..total).step_by(piece) {
                let length = piece.min(total - start);
                let changes = if length == total { batch.changes.clone() } else { batch.changes.slice(start, length) };
                let part = (0..parts).min_by_key(|part| rows[*part]).unwrap_or(0);
                rows[part] += length;
                let tagged = TaggedBatch { changes, arrival_watermark: batch.arrival_watermark, now: batch.now };
                shares[placement.worker(part)].last_mut().expect("it was pushed above").1.push(tagged);
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests;
