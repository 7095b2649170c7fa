//! One job on one worker: a state machine over the plan's nodes. It never waits, but for a moment at a time while the disk is behind with what the
//! step has given to it. It runs until its turn is over, its step
//! is done, or all that is left depends on rows of other workers or on answers from outside; their delivery makes it runnable again.
//!
//! Batches move depth first: the node furthest down that has one goes next, so that what a batch turns into is worked
//! off while it is in the cache and little waits between nodes. A node is finished when its inputs are finished and
//! nothing waits for it. When an exchange is full, only what comes after it goes on, here and on all other workers.

use crate::exchange::{Delivery, Exchange, Transit};
use crate::expr::NowHandle;
use crate::job::{JobShared, OperatorPart, SideRows, StepDone, StepPart, StepRun};
use crate::operator::{Operator, StepContext};
use crate::worker::{Mailboxes, Message};
use eddyline_common::kv::SortedRun;
use eddyline_common::{RelationId, Result, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::plan::{Node, Op};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows a job works off before other jobs get their turn: a few milliseconds.
const TURN_ROWS: usize = 64 * 1024;

/// How long a turn is in which a job waits for the disk: no other job feels it, and it costs little.
const BEHIND_TURN: Duration = Duration::from_millis(1);

const LATE: &str = "arrived after its window had closed";
const FORGOTTEN: &str = "was taken back after its state_ttl";

pub(crate) enum Work {
    Operator(Box<dyn Operator>),
    Exchange(Exchange),
}

struct NodeState {
    work: Work,
    inputs: Vec<usize>,
    /// Nodes that read this one, and at which port.
    consumers: Vec<(usize, usize)>,
    queue: VecDeque<(usize, TaggedBatch)>,
    finished: bool,
    done: OperatorPart,
}

struct Active {
    run: Arc<StepRun>,
    part: StepPart,
}

/// What is done next, at a node.
enum Task {
    /// Rows of another worker go on to the nodes that read the exchange.
    TakeUp(usize),
    Push(usize),
    Finish(usize),
}

/// How a turn ended.
pub(crate) enum Turn {
    /// More to do.
    Again,
    /// Nothing to do until a message comes.
    Idle,
    /// As `Idle`; this worker was the last one to end the step, and tells of it.
    Done(StepDone),
}

pub(crate) struct Instance {
    shared: Arc<JobShared>,
    nodes: Vec<NodeState>,
    /// Nodes that read a relation.
    scans: Vec<(RelationId, usize)>,
    /// By node: its watermark is the present time.
    by_clock: Vec<bool>,
    now: NowHandle,
    active: Option<Active>,
    /// Deliveries of a step that this worker has not been told of yet.
    early: Vec<Delivery>,
    /// In the worker's queue of runnable instances.
    pub(crate) queued: bool,
    /// Which of the worker's steps was the last of this job.
    pub(crate) last_step: u64,
}

impl Instance {
    pub(crate) fn new(shared: Arc<JobShared>, work: Vec<Work>, now: NowHandle) -> Self {
        let plan = shared.plan.clone();
        let mut nodes: Vec<NodeState> = work
            .into_iter()
            .zip(&plan.nodes)
            .map(|(work, node)| NodeState {
                work,
                inputs: node.inputs.clone(),
                consumers: Vec::new(),
                queue: VecDeque::new(),
                finished: true,
                done: OperatorPart::default(),
            })
            .collect();
        for (index, node) in plan.nodes.iter().enumerate() {
            for (port, input) in node.inputs.iter().enumerate() {
                nodes[*input].consumers.push((index, port));
            }
        }
        let mut by_clock: Vec<bool> = Vec::with_capacity(plan.nodes.len());
        for node in &plan.nodes {
            let below = match node.op {
                Op::LookupJoin { .. } => &node.inputs[..1],
                _ => node.inputs.as_slice(),
            };
            let all = !below.is_empty() && below.iter().all(|input| by_clock[*input]);
            by_clock.push(all || matches!(node.op, Op::ProcessingTime { .. }));
        }
        let scan = |(index, node): (usize, &Node)| if let Op::Scan { relation, .. } = node.op { Some((relation, index)) } else { None };
        let scans = plan.nodes.iter().enumerate().filter_map(scan).collect();
        Instance { shared, nodes, scans, by_clock, now, active: None, early: Vec::new(), queued: false, last_step: 0 }
    }

    pub(crate) fn job(&self) -> RelationId {
        self.shared.job
    }

    pub(crate) fn shared(&self) -> &Arc<JobShared> {
        &self.shared
    }

    /// Is it between two steps?
    pub(crate) fn rests(&self) -> bool {
        self.active.is_none()
    }

    /// Begins a step with this worker's share of the inputs.
    pub(crate) fn start(&mut self, run: Arc<StepRun>, inputs: Vec<(RelationId, Vec<TaggedBatch>)>) {
        assert!(self.active.is_none(), "a job has one step in flight at most");
        let mut part = StepPart::default();
        for (relation, batches) in inputs {
            part.rows_in += batches.iter().map(|b| b.changes.num_rows() as u64).sum::<u64>();
            let mut scans = self.scans.iter().filter(|(scanned, _)| *scanned == relation).map(|(_, index)| *index);
            let last = scans.next();
            for index in scans {
                self.nodes[index].queue.extend(batches.iter().map(|b| (0, b.clone())));
            }
            if let Some(last) = last {
                self.nodes[last].queue.extend(batches.into_iter().map(|b| (0, b)));
            }
        }
        for node in &mut self.nodes {
            node.finished = false;
            if let Work::Exchange(exchange) = &mut node.work {
                exchange.start();
            }
        }
        self.active = Some(Active { run, part });
        for delivery in std::mem::take(&mut self.early) {
            self.deliver(delivery);
        }
    }

    /// Takes rows of another worker; true if there is work now.
    pub(crate) fn deliver(&mut self, delivery: Delivery) -> bool {
        let Some(active) = &self.active else {
            self.early.push(delivery);
            return false;
        };
        assert_eq!(delivery.epoch, active.run.epoch, "a delivery belongs to the step in flight");
        if let Work::Exchange(exchange) = &mut self.nodes[delivery.node].work {
            exchange.arrive(delivery);
        }
        true
    }

    /// Works until the turn is over.
    pub(crate) fn turn(&mut self, mailboxes: &Mailboxes) -> Result<Turn> {
        let started = Instant::now();
        let outcome = self.work(mailboxes);
        if let Some(active) = &mut self.active {
            active.part.busy_micros += started.elapsed().as_micros() as u64;
        }
        if !outcome? {
            return Ok(Turn::Again);
        }
        if self.nodes.iter().all(|n| n.finished)
            && let Some(Active { run, mut part }) = self.active.take()
        {
            for (node, stats) in self.nodes.iter_mut().zip(self.shared.operators.iter()) {
                let state_bytes = if let Work::Operator(operator) = &node.work { operator.state_bytes() as u64 } else { 0 };
                part.state_bytes += state_bytes;
                part.rows_most = part.rows_most.max(node.done.rows_in);
                node.done.add_to(stats, state_bytes);
            }
            part.next_timer = self.next_timer();
            return Ok(run.complete(part)?.map_or(Turn::Idle, Turn::Done));
        }
        Ok(Turn::Idle)
    }

    /// False when the turn ran out, true when nothing is left that can be done now.
    fn work(&mut self, mailboxes: &Mailboxes) -> Result<bool> {
        if self.active.is_none() {
            return Ok(true);
        }
        let mut rows = 0;
        while rows < TURN_ROWS {
            if self.is_behind() {
                std::thread::sleep(BEHIND_TURN);
                return Ok(false);
            }
            match self.next_task() {
                Some(Task::TakeUp(index)) => self.take_up(index, mailboxes),
                Some(Task::Push(index)) => {
                    let (port, batch) = self.nodes[index].queue.pop_front().expect("it is not empty");
                    // A batch costs something even when it is tiny.
                    rows += batch.changes.num_rows().max(64);
                    self.push(index, port, batch, mailboxes)?;
                }
                Some(Task::Finish(index)) => {
                    self.finish(index, mailboxes)?;
                    // A slice costs something even when nothing comes of it.
                    rows += if self.nodes[index].finished { 0 } else { TURN_ROWS / 4 };
                }
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    fn is_behind(&self) -> bool {
        matches!(&self.nodes[self.shared.plan.output].work, Work::Operator(operator) if operator.is_behind())
    }

    /// Of an exchange that is full only what arrived is taken up, and nothing is done at the nodes before it: they lead to it, or can wait.
    fn next_task(&self) -> Option<Task> {
        let full = self.shared.transit.full();
        let first = full.map_or(0, |full| full + 1);
        for index in (full.unwrap_or(0)..self.nodes.len()).rev() {
            let node = &self.nodes[index];
            if matches!(&node.work, Work::Exchange(exchange) if exchange.has_arrived()) {
                return Some(Task::TakeUp(index));
            }
            if index >= first && !node.queue.is_empty() {
                return Some(Task::Push(index));
            }
        }
        (first..self.nodes.len()).find(|index| self.can_finish(&self.nodes[*index])).map(Task::Finish)
    }

    fn can_finish(&self, node: &NodeState) -> bool {
        let waits = match &node.work {
            Work::Exchange(exchange) => exchange.closed() && !exchange.complete(),
            Work::Operator(operator) => operator.waits(),
        };
        !node.finished && !waits && node.inputs.iter().all(|i| self.nodes[*i].finished)
    }

    /// What came first of other workers.
    fn take_up(&mut self, index: usize, mailboxes: &Mailboxes) {
        let Work::Exchange(exchange) = &mut self.nodes[index].work else { return };
        let Some((batches, has_room)) = exchange.take_up(&self.shared.transit) else { return };
        self.route(index, batches);
        if has_room {
            mailboxes.send_all(|| Message::Wake(self.shared.job));
        }
    }

    fn push(&mut self, index: usize, port: usize, batch: TaggedBatch, mailboxes: &Mailboxes) -> Result<()> {
        if batch.changes.is_empty() {
            return Ok(());
        }
        let mut ctx = self.context(index);
        let (job, epoch) = (self.shared.job, ctx.epoch);
        let (rows, started) = (batch.changes.num_rows() as u64, Instant::now());
        match &mut self.nodes[index].work {
            Work::Operator(operator) => {
                self.now.set(batch.now);
                self.now.set_arrival_watermark(batch.arrival_watermark);
                operator.push(port, batch, &mut ctx)?;
                self.collect(index, ctx);
            }
            Work::Exchange(exchange) => {
                let transit = &self.shared.transit;
                let send = |owner: usize, batches| {
                    deliver_to(owner, Delivery { job, epoch, node: index, batches, last: false }, transit, mailboxes);
                };
                let own = exchange.push(batch, send)?;
                self.nodes[index].done.rows_out += rows;
                self.route(index, own.into_iter().collect());
            }
        }
        let done = &mut self.nodes[index].done;
        done.rows_in += rows;
        done.busy_nanos += started.elapsed().as_nanos() as u64;
        Ok(())
    }

    fn finish(&mut self, index: usize, mailboxes: &Mailboxes) -> Result<()> {
        let mut ctx = self.context(index);
        let (job, epoch) = (self.shared.job, ctx.epoch);
        let watermark = self.active.as_ref().expect("a step is in flight").run.after[index];
        let started = Instant::now();
        match &mut self.nodes[index].work {
            Work::Operator(operator) => {
                self.now.set(ctx.now);
                operator.finish(watermark, &mut ctx)?;
                let finished = !operator.unfinished();
                self.nodes[index].finished = finished;
                self.collect(index, ctx);
            }
            Work::Exchange(exchange) => {
                if !exchange.closed() {
                    let transit = &self.shared.transit;
                    exchange.close(|owner, batches| {
                        deliver_to(owner, Delivery { job, epoch, node: index, batches, last: true }, transit, mailboxes);
                    })?;
                }
                let complete = exchange.complete();
                self.nodes[index].finished = complete;
            }
        }
        self.nodes[index].done.busy_nanos += started.elapsed().as_nanos() as u64;
        Ok(())
    }

    fn context(&self, index: usize) -> StepContext {
        let run = &self.active.as_ref().expect("a step is in flight").run;
        StepContext::new(run.epoch, run.now, run.before[index], self.shared.on_error())
    }

    /// Takes what an operator left in its context.
    fn collect(&mut self, index: usize, mut ctx: StepContext) {
        let part = &mut self.active.as_mut().expect("a step is in flight").part;
        part.late.extend(ctx.take_late().into_iter().map(|changes| SideRows { node: index, reason: LATE.to_string(), changes }));
        part.late.extend(ctx.take_forgotten().into_iter().map(|changes| SideRows { node: index, reason: FORGOTTEN.to_string(), changes }));
        part.rejected.extend(ctx.take_rejected().into_iter().map(|(reason, changes)| SideRows { node: index, reason, changes }));
        let output = ctx.take_output();
        self.nodes[index].done.rows_out += output.iter().map(|b| b.changes.num_rows() as u64).sum::<u64>();
        if index == self.shared.plan.output {
            part.rows_out += output.iter().map(|b| b.changes.num_rows() as u64).sum::<u64>();
            if let Some(bytes_max) = self.shared.keeps_output {
                part.hand_on(output, bytes_max);
            }
            return;
        }
        self.route(index, output);
    }

    /// Queues batches for every node that reads `index`.
    fn route(&mut self, index: usize, batches: Vec<TaggedBatch>) {
        let Some((last, port)) = self.nodes[index].consumers.first().copied() else { return };
        for batch in batches {
            for at in 1..self.nodes[index].consumers.len() {
                let (consumer, port) = self.nodes[index].consumers[at];
                self.nodes[consumer].queue.push_back((port, batch.clone()));
            }
            self.nodes[last].queue.push_back((port, batch));
        }
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let timers = self.nodes.iter().zip(&self.by_clock).filter_map(|(node, by_clock)| match &node.work {
            Work::Operator(operator) => {
                let close = if *by_clock { operator.next_close() } else { None };
                operator.next_timer().into_iter().chain(close).min()
            }
            Work::Exchange(_) => None,
        });
        timers.min().filter(|timer| *timer < Timestamp::MAX)
    }

    /// Gives back state that is over its share of the memory. Called between steps.
    pub(crate) fn shrink(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if let Work::Operator(operator) = &mut node.work {
                operator.shrink()?;
            }
        }
        Ok(())
    }

    pub(crate) fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        let mut runs = Vec::new();
        for node in &mut self.nodes {
            if let Work::Operator(operator) = &mut node.work {
                runs.extend(operator.freeze()?);
            }
        }
        Ok(runs)
    }
}

fn deliver_to(owner: usize, delivery: Delivery, transit: &Transit, mailboxes: &Mailboxes) {
    transit.send(&delivery);
    mailboxes.send(owner, Message::Deliver(delivery));
}
