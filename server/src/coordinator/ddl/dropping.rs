//! DROP: what a name means to it, what goes with it, and what of the coordinator has to do with a relation.

use super::super::core::Core;
use super::super::handle::DdlOutcome;
use super::super::records::DdlRecord;
use super::Done;
use crate::catalog::{Dependent, kind_name, object_kind};
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_planner::catalog::RelationKind;
use eddyline_planner::plan::StreamPlan;
use eddyline_planner::statement::ObjectKind;

impl Core {
    pub(super) fn drop_relations(&mut self, kind: ObjectKind, names: &[String], if_exists: bool, cascade: bool) -> Result<Done> {
        let mut outcome = DdlOutcome::default();
        let mut dropped: Vec<RelationId> = Vec::new();
        for name in names {
            match self.named(kind, name)? {
                Some(id) => dropped.push(id),
                None if if_exists => {
                    outcome.notices.push(SqlError::notice(format!("{} \"{name}\" does not exist, skipping", kind_name(kind))));
                }
                None => {
                    let state = match kind {
                        ObjectKind::Function => SqlState::UNDEFINED_FUNCTION,
                        ObjectKind::Index => SqlState::UNDEFINED_OBJECT,
                        _ => SqlState::UNDEFINED_TABLE,
                    };
                    return Err(SqlError::new(state, format!("{} \"{name}\" does not exist", kind_name(kind))));
                }
            }
        }
        let users: Vec<Dependent> =
            dropped.iter().flat_map(|id| self.catalog.dependents(*id)).filter(|r| !dropped.contains(&r.id)).collect();
        if !users.is_empty() && !cascade {
            return Err(in_use(&names.join(", "), kind, &users));
        }
        for user in users {
            if !dropped.contains(&user.id) {
                outcome.notices.push(SqlError::notice(format!("drop cascades to {} {}", kind_name(user.kind), user.name)));
                dropped.push(user.id);
            }
        }
        if dropped.is_empty() {
            return Ok((outcome, None));
        }
        let logged = self.log_ddl(&DdlRecord::Drop { relations: dropped.clone() })?;
        self.apply_drop(&dropped);
        self.refresh_readers();
        Ok((outcome, Some(logged)))
    }

    /// What DROP of this kind means by a name; an error if something else has it.
    fn named(&self, kind: ObjectKind, name: &str) -> Result<Option<RelationId>> {
        if kind == ObjectKind::Function {
            return Ok(self.catalog.function(name).map(|function| function.id));
        }
        let relation = self.catalog.by_name(name);
        let index = || self.catalog.index(name).map(|index| (index.id, ObjectKind::Index));
        let Some((id, found)) = relation.map(|relation| (relation.id, object_kind(relation))).or_else(index) else { return Ok(None) };
        // A source may be declared by CREATE TABLE, and what rows are pushed to is a table.
        let is_webhook = relation.is_some_and(|relation| matches!(relation.kind, RelationKind::Table { webhook: Some(_), .. }));
        let is_flink_table = kind == ObjectKind::Table && found == ObjectKind::Source || kind == ObjectKind::Source && is_webhook;
        if found == kind || is_flink_table {
            return Ok(Some(id));
        }
        let article = if kind == ObjectKind::Index { "an" } else { "a" };
        let hint = format!("Use DROP {} to remove it.", kind_name(found).to_uppercase());
        Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{name}\" is not {article} {}", kind_name(kind))).with_hint(hint))
    }

    pub(in super::super) fn apply_drop(&mut self, ids: &[RelationId]) {
        for id in ids {
            self.forget_index(*id);
            let source = self.source_of(*id);
            if let Some(job) = self.take_job(*id) {
                self.engine.drop_job(*id);
                self.drop_own_sources(&job.relation);
                let states = job.relation.plan().map(StreamPlan::state_tables).unwrap_or_default();
                self.checkpoints.drop_job(states, job.views().cloned().collect());
            }
            self.drop_sink(*id);
            self.tables.remove(id);
            self.drop_source(source);
            self.stats.remove(*id);
            self.handle.locks.lock().remove(id);
            self.system.forget(source);
            self.system.forget(*id);
            self.forget_in_checkpoint(*id);
        }
        self.set_catalog(self.catalog.without(ids));
    }
}

fn in_use(name: &str, kind: ObjectKind, users: &[Dependent]) -> SqlError {
    let mut lines: Vec<String> =
        users.iter().map(|u| format!("{} {} depends on {} {name}", kind_name(u.kind), u.name, kind_name(kind))).collect();
    lines.sort();
    lines.dedup();
    SqlError::new(SqlState::DEPENDENT_OBJECTS, format!("cannot drop {} {name} because other objects depend on it", kind_name(kind)))
        .with_detail(lines.join("\n"))
        .with_hint("Use DROP ... CASCADE to drop the dependent objects too.")
}
