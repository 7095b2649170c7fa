//! DDL: checked, built, logged, installed in the order of the log, acknowledged once durable. What cannot be logged leaves no
//! trace: a relation is in the catalog only, and out of it only, once its record is in the log.
//!
//! - `creating`, `dropping`: what comes, and what goes

mod creating;
mod dropping;

use super::Event;
use super::core::{Core, reply_to};
use super::handle::{Ddl, DdlOutcome, Reply, Resolved};
use super::records::{self, DdlRecord, KIND_DDL};
use crate::catalog::{kind_name, object_kind};
use eddyline_common::{RelationId, Result, SqlError, SqlState, Timestamp, failpoint};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_storage::log::LogPosition;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A statement whose record is on its way to the disk.
pub(super) struct Waiting {
    reply: Reply<DdlOutcome>,
    outcome: DdlOutcome,
}

/// What a statement came to, and where its record is; `None` if there was nothing to do.
pub(super) type Done = (DdlOutcome, Option<LogPosition>);

impl Core {
    pub(super) fn on_ddl(&mut self, ddl: Ddl, resolved: Resolved, reply: Reply<DdlOutcome>) {
        let outcome = match ddl {
            Ddl::Create { relation, if_not_exists, comments } => self.create(*relation, if_not_exists, resolved, comments),
            Ddl::CreateIndex { index, if_not_exists } => self.create_index(*index, if_not_exists),
            Ddl::CreateFunction { function, replace } => self.create_function(*function, replace),
            Ddl::Drop { kind, names, if_exists, cascade } => self.drop_relations(kind, &names, if_exists, cascade),
            Ddl::AdvanceWatermark { relation, to_micros } => self.advance(relation, to_micros),
            Ddl::PauseJob { job, pause } => self.pause(job, pause),
            Ddl::Replace { old, new } => self.replace_table(&old, new),
            Ddl::Alter { before, after } => self.alter(&before, *after),
            Ddl::AlterSystem { name, value } => self.alter_system(name, value),
            Ddl::Comment { relation, column, text } => self.comment(relation, column, text),
        };
        match outcome {
            Err(error) => reply_to(reply, Err(error)),
            Ok((outcome, None)) => reply_to(reply, Ok(outcome)),
            Ok((outcome, Some(logged))) => {
                let id = self.next_ddl;
                self.next_ddl += 1;
                self.ddl_waiting.insert(id, Waiting { reply, outcome });
                let sender = self.sender.clone();
                self.log.on_durable(logged, Box::new(move |result| drop(sender.send(Event::DdlDurable(id, result)))));
            }
        }
    }

    /// Once this has given a position, the change is what a restart finds, and must be what this process shows.
    pub(super) fn log_ddl(&mut self, record: &DdlRecord) -> Result<LogPosition> {
        self.log_health()?;
        failpoint::hit("ddl.log")?;
        let position = self.log.append(KIND_DDL, &records::encode_json(record)?)?;
        failpoint::pass("ddl.logged");
        Ok(position)
    }

    pub(super) fn on_ddl_durable(&mut self, id: u64, result: Result<()>) {
        if let Some(waiting) = self.ddl_waiting.remove(&id) {
            reply_to(waiting.reply, result.map(|()| waiting.outcome));
        }
    }

    /// An error if a table's or view's job has stopped.
    pub(super) fn is_running(&self, id: RelationId) -> Result<()> {
        let Some((job, error)) = self.jobs.get(&id).and_then(|j| Some((j, j.failure()?))) else { return Ok(()) };
        let kind = kind_name(object_kind(&job.relation));
        Err(SqlError::new(SqlState::OBJECT_NOT_READY, format!("{kind} \"{}\" has stopped", job.relation.name))
            .with_detail(error.message.clone())
            .with_hint(match job.relation.job_options().map(|options| options.on_error) {
                Some(ErrorPolicy::Reject) => {
                    "It does not go on. Mend what it reads, if on_error did not set aside what fails; then CREATE OR REPLACE it, or drop and create it."
                }
                Some(ErrorPolicy::Stop) | None => {
                    "Drop it and create it again; WITH (on_error = 'reject') lets a view go on without the rows that fail."
                }
            }))
    }

    fn advance(&mut self, relation: RelationId, to_micros: i64) -> Result<Done> {
        let manual = self.catalog.get(relation).and_then(|r| r.watermark.as_ref()).is_some_and(|w| w.manual);
        if !manual {
            let hint = "Declare the source or table WITH (watermark.mode = 'manual').";
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, "only a manual watermark can be advanced").with_hint(hint));
        }
        let logged = self.log_ddl(&DdlRecord::AdvanceWatermark { relation, to_micros })?;
        self.apply_advance(relation, to_micros);
        Ok((DdlOutcome::default(), Some(logged)))
    }

    pub(super) fn apply_advance(&mut self, relation: RelationId, to_micros: i64) {
        let to = Timestamp(to_micros);
        let relation = self.source_of(relation);
        if let Some(source) = self.sources.get_mut(&relation) {
            source.advance_watermark(to);
        } else if let Some(table) = self.tables.get_mut(&relation) {
            table.advance_watermark(to);
        }
    }

    /// Sources are read while somebody wants their rows; without a reader recorded cuts need not be read again.
    pub(super) fn refresh_readers(&mut self) {
        let wanted: Vec<(RelationId, bool)> =
            self.sources.keys().map(|id| (*id, self.readers(*id).any(|j| j.failure().is_none()))).collect();
        for (id, wanted) in wanted {
            let read: BTreeSet<usize> =
                self.readers(id).filter(|j| j.failure().is_none()).flat_map(|job| self.columns_read(job, id)).collect();
            let Some(source) = self.sources.get_mut(&id) else { continue };
            if wanted {
                source.keep(&read, &self.reaper);
                source.start(&self.reaper);
            } else {
                source.stop();
                source.skip_replay();
            }
        }
    }

    pub(super) fn set_catalog(&mut self, catalog: crate::catalog::CatalogSnapshot) {
        self.catalog = Arc::new(catalog);
        *self.handle.catalog.write() = self.catalog.clone();
    }
}

/// There is a relation or an index of this name.
pub(super) fn taken(name: &str, if_not_exists: bool) -> Result<Done> {
    let exists = SqlError::new(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists"));
    if if_not_exists {
        return Ok((DdlOutcome { notices: vec![exists.skipped()], ..DdlOutcome::default() }, None));
    }
    Err(exists)
}
