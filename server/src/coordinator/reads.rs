//! Readers that wait: for an epoch at which everything they name is exact and durable.

use super::core::{Core, reply_to};
use super::handle::{ReadSnapshot, Reply, SystemAnswer, SystemRelation, Wanted, new_snapshot};
use super::job::{Job, Mode, common_epoch};
use super::pausing::paused_at;
use crate::catalog::CatalogSnapshot;
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::oneshot;

pub(super) struct WaitingRead {
    relations: Vec<RelationId>,
    /// What its snapshot has too if it can be read.
    others: Vec<RelationId>,
    /// The one by which it named them.
    catalog: Option<Arc<CatalogSnapshot>>,
    at_least: Epoch,
    /// Of a statement that writes: it has to see writes that may be neither durable nor in a cut yet.
    for_write: bool,
    /// Nothing is done for it that would not be done without it.
    in_time: bool,
    /// What has left or entered by the time of the read does not show otherwise in it; `None` until that was looked at.
    fresh: Option<Epoch>,
    /// Where jobs that collect, and pass marks otherwise, come to for it.
    meets: Option<Epoch>,
    answer: Answer,
}

impl WaitingRead {
    fn new(relations: Vec<RelationId>, at_least: Epoch, answer: Answer) -> Self {
        WaitingRead {
            relations,
            others: Vec::new(),
            catalog: None,
            at_least,
            for_write: false,
            in_time: false,
            fresh: None,
            meets: None,
            answer,
        }
    }

    fn was_dropped(&self, id: RelationId) -> SqlError {
        let name = self.catalog.as_ref().and_then(|catalog| catalog.get(id)).map(|relation| &relation.name);
        let message =
            name.map_or("a relation of the query was dropped".to_string(), |name| format!("relation \"{name}\" does not exist any more"));
        SqlError::new(SqlState::UNDEFINED_TABLE, message)
    }

    /// Whether it waits for a cut that nothing else may lead to.
    pub fn wants_cut_after(&self, last_cut: Epoch) -> bool {
        !self.in_time && self.fresh.is_some_and(|epoch| epoch > last_cut)
    }
}

/// What the reader gets once the epoch is there.
enum Answer {
    Snapshot(Reply<ReadSnapshot>),
    Flushed(Reply<Epoch>),
    SystemRows(SystemRelation, oneshot::Sender<SystemAnswer>),
}

impl Answer {
    fn is_unwanted(&self) -> bool {
        match self {
            Answer::Snapshot(reply) => reply.is_closed(),
            Answer::Flushed(reply) => reply.is_closed(),
            Answer::SystemRows(_, reply) => reply.is_closed(),
        }
    }
}

impl Core {
    /// `for_write`: the caller holds this table's lock and must see every write to it.
    pub(super) fn on_snapshot(
        &mut self,
        relations: Wanted,
        at_least: Epoch,
        for_write: Option<RelationId>,
        in_time: bool,
        reply: Reply<ReadSnapshot>,
    ) {
        let written = for_write.and_then(|t| self.tables.get(&t)).map_or(Epoch::ZERO, |t| t.written(self.last_cut));
        let at_least = at_least.max(written);
        let Wanted { named, others, catalog } = relations;
        let read = WaitingRead::new(named, at_least, Answer::Snapshot(reply));
        self.reads_waiting.push(WaitingRead { others, catalog: Some(catalog), for_write: for_write.is_some(), in_time, ..read });
    }

    /// Takes all that has arrived into cuts, and answers once every view that is not stopped has it.
    pub(super) fn on_flush(&mut self, reply: Reply<Epoch>) {
        let sources: Vec<RelationId> = self.sources.keys().copied().collect();
        // All that inboxes hold, which are bounded, if it goes on into cuts.
        let waiting_max = if self.log_health().is_ok() { usize::MAX } else { self.waiting_max() };
        sources.into_iter().for_each(|s| self.receive_up_to(s, waiting_max));
        while self.sources.values().any(|s| s.has_input()) || self.tables.values().any(|t| t.has_input()) {
            if let Err(error) = self.take_cut() {
                return reply_to(reply, Err(error));
            }
        }
        let relations = self.jobs.keys().copied().collect();
        self.reads_waiting.push(WaitingRead::new(relations, self.last_cut, Answer::Flushed(reply)));
    }

    /// Late and rejected rows are those of the cuts taken so far, so that a session finds what its own writes led to, and a restart takes
    /// none of them away; everything else is shown as it is at this moment, also when a job is stuck.
    pub(super) fn on_system_rows(&mut self, relation: SystemRelation, reply: oneshot::Sender<SystemAnswer>) {
        let waits = matches!(relation, SystemRelation::LateRows | SystemRelation::RejectedRows);
        let relations = self.jobs.values().filter(|j| waits && (self.keeps_up(j) || self.comes_back(j))).map(Job::id).collect();
        let at_least = if waits { self.last_cut } else { Epoch::ZERO };
        self.reads_waiting.push(WaitingRead::new(relations, at_least, Answer::SystemRows(relation, reply)));
    }

    pub(super) fn answer_reads(&mut self) {
        let log = if self.reads_waiting.is_empty() { Ok(()) } else { self.log_health() };
        let mut index = 0;
        while index < self.reads_waiting.len() {
            let waiting = &self.reads_waiting[index];
            if waiting.answer.is_unwanted() {
                self.reads_waiting.swap_remove(index);
                continue;
            }
            let refused = log.as_ref().err().filter(|_| waiting.for_write).cloned();
            // Without a log there are no more cuts to wait for.
            let fresh = waiting.fresh.filter(|_| log.is_ok()).unwrap_or(Epoch::ZERO);
            let relations = self.waits_for(waiting);
            let at_least = self.first_epoch(waiting, &relations).max(fresh);
            let result = refused.map_or_else(|| self.readable(waiting, &relations, at_least), Err);
            match result.transpose() {
                None => {
                    self.let_meet(index, relations, at_least);
                    index += 1;
                }
                Some(Ok(snapshot)) if waiting.fresh.is_none() => {
                    // It is looked at again right away.
                    let epoch = self.fresh_epoch(relations).unwrap_or(snapshot.epoch);
                    self.reads_waiting[index].fresh = Some(epoch);
                }
                Some(result) => {
                    let answer = self.reads_waiting.swap_remove(index).answer;
                    self.answer(answer, result);
                }
            }
        }
    }

    /// Jobs that a reader waits for might pass each other for ever if some of them collect.
    fn let_meet(&mut self, index: usize, relations: Vec<RelationId>, at_least: Epoch) {
        let waiting = &self.reads_waiting[index];
        if waiting.in_time || waiting.meets.is_some() || at_least > self.last_cut || self.collecting.is_empty() {
            return;
        }
        if self.with_inputs(relations).iter().any(|id| self.collecting.contains(id)) {
            self.mark(self.last_cut);
            self.reads_waiting[index].meets = Some(self.last_cut);
        }
    }

    /// Where a job comes to for readers that wait for it.
    pub(super) fn epochs_read(&self, id: RelationId) -> impl Iterator<Item = Epoch> {
        let waits = move |read: &WaitingRead| self.with_inputs(self.waits_for(read)).contains(&id);
        self.reads_waiting.iter().filter(|read| read.meets.is_some()).filter(move |read| waits(read)).filter_map(|read| read.meets)
    }

    /// The first epoch at which nothing is shown of the relations, or of what they read, that has changed by now as time passed.
    /// `None` if nothing has.
    fn fresh_epoch(&self, mut open: Vec<RelationId>) -> Option<Epoch> {
        let now = self.config.clock.now();
        let (mut seen, mut fresh) = (BTreeSet::new(), None);
        while let Some(id) = open.pop() {
            let Some(job) = self.jobs.get(&id).filter(|_| seen.insert(id)) else { continue };
            let timer = job.progress.next_timer.filter(|timer| job.is_live() && !self.is_paused(job) && *timer <= now);
            fresh = fresh.max(timer.map(|timer| self.nows.first_from(timer).unwrap_or(self.last_cut.next())));
            open.extend(&job.inputs);
        }
        fresh
    }

    /// What readers name that cannot be answered as things are.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = RelationId> {
        let relations = self.reads_waiting.iter().filter(|read| !read.in_time).map(move |read| (read, self.waits_for(read)));
        relations
            .filter(move |(read, relations)| {
                let at_least = self.first_epoch(read, relations).max(read.fresh.unwrap_or_default());
                matches!(self.readable(read, relations, at_least), Ok(None))
            })
            .flat_map(|(_, relations)| relations)
    }

    /// The first epoch that a reader takes: a query finds what was in sources when their first reader came.
    fn first_epoch(&self, read: &WaitingRead, relations: &[RelationId]) -> Epoch {
        let filled = if matches!(read.answer, Answer::Snapshot(_)) { self.filled_from(relations) } else { Epoch::ZERO };
        read.at_least.max(filled)
    }

    /// It reads on its own what had been there: a restart fills it again, or it fell behind.
    fn comes_back(&self, job: &Job) -> bool {
        matches!(&job.mode, Mode::Backfilling(backfill) if backfill.from.is_some() || backfill.to <= self.recovered)
    }

    /// Some source of its does not give what it has still to read.
    fn waits_outside(&self, job: &Job) -> bool {
        let replayed = job.inputs.iter().filter_map(|input| self.sources.get(input)).filter(|source| source.is_replaying());
        let private = job.reading().into_iter().flat_map(|reading| &reading.sources);
        private.into_iter().any(|read| read.inbox.problem().is_some())
            || replayed.into_iter().any(|source| source.stats.problem.read().is_some())
    }

    /// Who waits for all that moves waits for what was dropped, stopped or stands still meanwhile no longer; nor does a snapshot for what was
    /// not named: it goes without what a table outside holds up, or, if that was named, without what has no epoch in common with that.
    fn waits_for(&self, read: &WaitingRead) -> Vec<RelationId> {
        let names_them = matches!(read.answer, Answer::Snapshot(_));
        let shows_rows = matches!(read.answer, Answer::SystemRows(..));
        // A table outside that does not answer holds up those that read from who asks it too.
        let asking: BTreeSet<RelationId> = match shows_rows || !read.others.is_empty() {
            true => self.jobs.values().filter(|job| job.trouble().is_some()).map(Job::id).collect(),
            false => BTreeSet::new(),
        };
        let waits_for_answer = |job: &Job| !asking.is_empty() && !self.with_inputs(vec![job.id()]).is_disjoint(&asking);
        let moves = |job: &Job| !(self.is_stuck(job) || shows_rows && (self.waits_outside(job) || waits_for_answer(job)));
        let moves = |id: &RelationId| names_them || self.jobs.get(id).is_some_and(moves);
        let named: Vec<&Job> = read.relations.iter().filter_map(|id| self.jobs.get(id)).collect();
        let named_waits = named.iter().any(|job| waits_for_answer(job));
        let shares = |job: &Job| {
            let all: Vec<&Job> = named.iter().copied().chain([job]).collect();
            let kept = all.iter().map(|job| job.kept_from).max().unwrap_or_default();
            common_epoch(all.iter().map(|job| &job.exact), self.durable).is_some_and(|epoch| epoch >= kept)
        };
        let goes_along = |job: &Job| if named_waits { shares(job) } else { !waits_for_answer(job) };
        let others = read.others.iter().copied().filter(|id| self.jobs.get(id).is_some_and(|job| self.can_be_read(job) && goes_along(job)));
        read.relations.iter().copied().filter(moves).chain(others).collect()
    }

    /// A reader neither fails by it nor waits until it has been filled.
    fn can_be_read(&self, job: &Job) -> bool {
        job.is_live() && !self.is_stuck(job) && paused_at(&job.relation).is_none()
    }

    fn answer(&self, answer: Answer, result: Result<ReadSnapshot>) {
        match answer {
            Answer::Snapshot(reply) => reply_to(reply, result),
            Answer::Flushed(reply) => reply_to(reply, result.map(|snapshot| snapshot.epoch)),
            Answer::SystemRows(relation, reply) => {
                // A job that was dropped or stopped meanwhile is no reason to show nothing; nor is a client that left.
                let _gone = reply.send(match relation {
                    SystemRelation::RejectedRows => SystemAnswer::Rejected(self.rejected_rows()),
                    _ => SystemAnswer::Rows(self.system_rows(relation)),
                });
            }
        }
    }

    fn readable(&self, read: &WaitingRead, relations: &[RelationId], at_least: Epoch) -> Result<Option<ReadSnapshot>> {
        let jobs = relations.iter().map(|id| self.job_to_read(read, *id)).collect::<Result<Vec<&Job>>>()?;
        if let [job] = jobs.as_slice()
            && self.is_paused(job)
        {
            // It has not changed since.
            let (epoch, views) = (self.durable, HashMap::from([(job.id(), job.view.clone())]));
            return Ok(Some(new_snapshot(epoch, views, self.recovered, self.pins.pin(epoch, self.kept().died, self.instant()))));
        }
        if jobs.len() > 1 {
            jobs.iter().filter(|job| self.is_paused(job)).try_for_each(|job| self.check_unpaused(job.id()))?;
        }
        // One that has lagged waits until it meets the others at an epoch that they still have.
        let kept = jobs.iter().map(|job| job.kept_from).max();
        let at_least = kept.map_or(Epoch::ZERO, |kept| kept.max(at_least).max(self.replayed_floor(&jobs)));
        let Some(epoch) = common_epoch(jobs.iter().map(|j| &j.exact), self.durable).filter(|e| *e >= at_least) else { return Ok(None) };
        let views = jobs.iter().map(|j| (j.id(), j.view.clone())).collect();
        Ok(Some(new_snapshot(epoch, views, self.recovered, self.pins.pin(epoch, self.kept().died, self.instant()))))
    }

    /// After a restart readers wait for the epochs that were there before it, unless an external system that they
    /// have to be read from again, or that their rows are looked up in, is away: then what the checkpoint holds is better than nothing.
    fn replayed_floor(&self, jobs: &[&Job]) -> Epoch {
        let stuck = self.sources.values().any(|s| s.is_replaying() && s.stats.problem.read().is_some());
        let comes_back = jobs.iter().any(|job| job.stepped < self.recovered);
        let is_in_trouble = |id: &RelationId| self.jobs.get(id).is_some_and(|job| job.trouble().is_some());
        let stuck = stuck || comes_back && self.with_inputs(jobs.iter().map(|job| job.id()).collect()).iter().any(is_in_trouble);
        if stuck { Epoch::ZERO } else { self.recovered }
    }

    fn job_to_read(&self, read: &WaitingRead, id: RelationId) -> Result<&Job> {
        let job = self.jobs.get(&id).ok_or_else(|| read.was_dropped(id))?;
        self.is_running(id)?;
        Ok(job)
    }
}
