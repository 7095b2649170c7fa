//! Sources that one view or sink reads for itself, under a hint OPTIONS. They are in no catalog: they are made, restored and dropped with their reader, and
//! part of its record. To everything else they are sources. What their options are is the planner's affair.

use super::checkpointing::Body;
use super::core::Core;
use super::history::History;
use super::source::SourceProgress;
use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, RelationId, Result, SqlError};
use eddyline_planner::catalog::Relation;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Core {
    /// Gives a new relation's own sources the ids before its own, and names that say whose they are.
    pub(super) fn assign_own_sources(&self, relation: &mut Relation, present: &mut [(RelationId, Vec<PartitionStart>)]) {
        let (first, reader) = (self.next_relation, relation.name.clone());
        let Some(options) = relation.job_options_mut() else { return };
        let several = options.own_sources.len() > 1;
        let mut ids = BTreeMap::new();
        for (id, own) in (first..).map(RelationId).zip(&mut options.own_sources) {
            ids.insert(own.relation.id, id);
            let number = if several { format!(" ({})", ids.len()) } else { String::new() };
            own.relation.name = format!("{} of {reader}{number}", own.relation.name);
            own.relation.id = id;
        }
        relation.id = RelationId(first + ids.len() as u32);
        if let Some(plan) = relation.plan_mut() {
            plan.rename_inputs(&ids);
        }
        for (source, _) in present {
            *source = ids.get(source).copied().unwrap_or(*source);
        }
    }

    /// Fails without a trace.
    pub(super) fn add_own_sources(&mut self, relation: &Relation, starts: Vec<Vec<PartitionStart>>, epoch: Epoch) -> Result<()> {
        for (own, starts) in relation.own_sources().iter().zip(starts) {
            let progress = SourceProgress::starting(starts);
            if let Err(error) = self.add_source(Arc::new(own.relation.clone()), progress, History::default(), epoch) {
                self.drop_own_sources(relation);
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn restore_own_sources(
        &mut self,
        relation: &Relation,
        body: &Body,
        histories: &mut BTreeMap<RelationId, History>,
    ) -> Result<()> {
        for own in relation.own_sources() {
            let id = own.relation.id;
            let lacks = || SqlError::corrupt(format!("the manifest lacks the source \"{}\"", own.relation.name));
            let (epoch, progress) = body.source(id).ok_or_else(lacks)?;
            self.add_source(Arc::new(own.relation.clone()), progress.clone(), histories.remove(&id).unwrap_or_default(), epoch)?;
        }
        Ok(())
    }

    pub(super) fn drop_own_sources(&mut self, relation: &Relation) {
        for own in relation.own_sources() {
            self.drop_source(own.relation.id);
            self.system.forget(own.relation.id);
        }
    }
}
