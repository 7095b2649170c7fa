//! Readers that wait: for an epoch at which everything they name is exact and durable.

use super::core::{Core, reply_to};
use super::handle::{ReadSnapshot, Reply, new_snapshot};
use super::job::{Job, common_epoch};
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState};

pub(super) struct WaitingRead {
    relations: Vec<RelationId>,
    at_least: Epoch,
    pub reply: Reply<ReadSnapshot>,
}

impl Core {
    pub(super) fn on_snapshot(&mut self, relations: Vec<RelationId>, at_least: Epoch, reply: Reply<ReadSnapshot>) {
        self.reads_waiting.push(WaitingRead { relations, at_least, reply });
    }

    /// Takes all that has arrived into cuts, and answers once every view that is not stopped has it.
    pub(super) fn on_flush(&mut self, reply: Reply<Epoch>) {
        let sources: Vec<RelationId> = self.sources.keys().copied().collect();
        sources.into_iter().for_each(|s| self.receive(s));
        while self.sources.values().any(|s| s.has_input()) || self.tables.values().any(|t| t.has_input()) {
            self.take_cut();
        }
        let relations = self.jobs.values().filter(|j| j.failure().is_none()).map(Job::id).collect();
        let (inner, answer) = tokio::sync::oneshot::channel::<Result<ReadSnapshot>>();
        self.reads_waiting.push(WaitingRead { relations, at_least: self.last_cut, reply: inner });
        self.config.runtime.spawn(async move {
            let answer = answer.await.unwrap_or_else(|_| Err(super::core::stopping()));
            reply_to(reply, answer.map(|snapshot| snapshot.epoch));
        });
    }

    pub(super) fn answer_reads(&mut self) {
        let mut index = 0;
        while index < self.reads_waiting.len() {
            let waiting = &self.reads_waiting[index];
            if waiting.reply.is_closed() {
                self.reads_waiting.swap_remove(index);
                continue;
            }
            match self.readable(&waiting.relations, waiting.at_least) {
                Ok(None) => index += 1,
                Ok(Some(snapshot)) => reply_to(self.reads_waiting.swap_remove(index).reply, Ok(snapshot)),
                Err(error) => reply_to(self.reads_waiting.swap_remove(index).reply, Err(error)),
            }
        }
    }

    fn readable(&self, relations: &[RelationId], at_least: Epoch) -> Result<Option<ReadSnapshot>> {
        let jobs = relations.iter().map(|id| self.job_to_read(*id)).collect::<Result<Vec<&Job>>>()?;
        let Some(epoch) = common_epoch(jobs.iter().map(|j| &j.exact), self.durable).filter(|e| *e >= at_least) else { return Ok(None) };
        let views = jobs.iter().map(|j| (j.id(), j.view.clone())).collect();
        Ok(Some(new_snapshot(epoch, views, &self.pins)))
    }

    fn job_to_read(&self, id: RelationId) -> Result<&Job> {
        let job = self.jobs.get(&id).ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, "a relation of the query was dropped"))?;
        match job.failure() {
            None => Ok(job),
            Some(error) => Err(SqlError::new(SqlState::OBJECT_NOT_READY, format!("materialized view \"{}\" has stopped", job.relation.name))
                .with_detail(error.message.clone())
                .with_hint("Drop it and create it again; WITH (on_error = 'reject') lets a view go on without the rows that fail.")),
        }
    }
}
