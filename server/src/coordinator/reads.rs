//! Readers that wait: for an epoch at which everything they name is exact and durable.

use super::core::{Core, reply_to};
use super::handle::{ReadSnapshot, Reply, SystemRelation, new_snapshot};
use super::job::{Job, common_epoch};
use arrow::array::RecordBatch;
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState};
use tokio::sync::oneshot;

pub(super) struct WaitingRead {
    relations: Vec<RelationId>,
    at_least: Epoch,
    answer: Answer,
}

/// What the reader gets once the epoch is there.
enum Answer {
    Snapshot(Reply<ReadSnapshot>),
    Flushed(Reply<Epoch>),
    SystemRows(SystemRelation, oneshot::Sender<RecordBatch>),
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
        relations: Vec<RelationId>,
        at_least: Epoch,
        for_write: Option<RelationId>,
        reply: Reply<ReadSnapshot>,
    ) {
        let written = for_write.and_then(|t| self.tables.get(&t)).map_or(Epoch::ZERO, |t| t.written(self.last_cut));
        let at_least = at_least.max(written);
        self.reads_waiting.push(WaitingRead { relations, at_least, answer: Answer::Snapshot(reply) });
    }

    /// Takes all that has arrived into cuts, and answers once every view that is not stopped has it.
    pub(super) fn on_flush(&mut self, reply: Reply<Epoch>) {
        let sources: Vec<RelationId> = self.sources.keys().copied().collect();
        sources.into_iter().for_each(|s| self.receive(s));
        while self.sources.values().any(|s| s.has_input()) || self.tables.values().any(|t| t.has_input()) {
            if let Err(error) = self.take_cut() {
                return reply_to(reply, Err(error));
            }
        }
        let relations = self.jobs.values().filter(|j| j.failure().is_none() && !self.stands_still(j)).map(Job::id).collect();
        self.reads_waiting.push(WaitingRead { relations, at_least: self.last_cut, answer: Answer::Flushed(reply) });
    }

    /// Late and rejected rows are those of the cuts taken so far, so that a session finds what its own writes led to;
    /// everything else is shown as it is at this moment, also when a job is stuck.
    pub(super) fn on_system_rows(&mut self, relation: SystemRelation, reply: oneshot::Sender<RecordBatch>) {
        let waits = matches!(relation, SystemRelation::LateRows | SystemRelation::RejectedRows);
        let relations = self.jobs.values().filter(|j| waits && self.keeps_up(j)).map(Job::id).collect();
        let at_least = if waits { self.last_cut } else { Epoch::ZERO };
        self.reads_waiting.push(WaitingRead { relations, at_least, answer: Answer::SystemRows(relation, reply) });
    }

    pub(super) fn answer_reads(&mut self) {
        let mut index = 0;
        while index < self.reads_waiting.len() {
            let waiting = &self.reads_waiting[index];
            if waiting.answer.is_unwanted() {
                self.reads_waiting.swap_remove(index);
                continue;
            }
            match self.readable(&waiting.relations, waiting.at_least).transpose() {
                None => index += 1,
                Some(result) => {
                    let answer = self.reads_waiting.swap_remove(index).answer;
                    self.answer(answer, result);
                }
            }
        }
    }

    /// What readers name that cannot be answered as things are.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = RelationId> {
        let waits = move |read: &&WaitingRead| matches!(self.readable(&read.relations, read.at_least), Ok(None));
        self.reads_waiting.iter().filter(waits).flat_map(|read| read.relations.iter().copied())
    }

    fn answer(&self, answer: Answer, result: Result<ReadSnapshot>) {
        match answer {
            Answer::Snapshot(reply) => reply_to(reply, result),
            Answer::Flushed(reply) => reply_to(reply, result.map(|snapshot| snapshot.epoch)),
            Answer::SystemRows(relation, reply) => {
                // A job that was dropped or stopped meanwhile is no reason to show nothing; nor is a client that left.
                let _gone = reply.send(self.system_rows(relation));
            }
        }
    }

    fn readable(&self, relations: &[RelationId], at_least: Epoch) -> Result<Option<ReadSnapshot>> {
        let jobs = relations.iter().map(|id| self.job_to_read(*id)).collect::<Result<Vec<&Job>>>()?;
        let at_least = if jobs.is_empty() { Epoch::ZERO } else { at_least.max(self.replayed_floor()) };
        let Some(epoch) = common_epoch(jobs.iter().map(|j| &j.exact), self.durable).filter(|e| *e >= at_least) else { return Ok(None) };
        let views = jobs.iter().map(|j| (j.id(), j.view.clone())).collect();
        Ok(Some(new_snapshot(epoch, views, &self.pins)))
    }

    /// After a restart readers wait for the epochs that were there before it, unless an external system that they
    /// have to be read from again is away: then what the checkpoint holds is better than nothing.
    fn replayed_floor(&self) -> Epoch {
        let stuck = self.sources.values().any(|s| s.is_replaying() && s.stats.problem.read().is_some());
        if stuck { Epoch::ZERO } else { self.recovered }
    }

    fn job_to_read(&self, id: RelationId) -> Result<&Job> {
        let job = self.jobs.get(&id).ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, "a relation of the query was dropped"))?;
        self.is_running(id)?;
        Ok(job)
    }
}
