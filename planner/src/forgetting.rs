//! What a job that forgets state asks of the jobs that it reads: what is forgotten follows from the cuts only if every one of them
//! is seen, so none of those jobs may collect changes of many.

use crate::catalog::{Catalog, Relation, ViewOptions};
use crate::plan::StreamPlan;
use eddyline_common::{RelationId, Result, SqlError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Of a new job.
pub fn check(plan: &StreamPlan, options: &ViewOptions, catalog: &dyn Catalog) -> Result<()> {
    if !plan.forgets() {
        return Ok(());
    }
    let collects = |relation: &Relation| relation.job_options().is_some_and(|options| options.emit_interval > 0);
    if options.emit_interval > 0 {
        return Err(refused("state_ttl together with emit_interval is not supported"));
    }
    match read_by(plan, catalog).iter().find(|relation| collects(relation)) {
        Some(relation) => Err(refused(&format!("state_ttl over \"{}\", which has an emit_interval, is not supported", relation.name))),
        None => Ok(()),
    }
}

/// Of a job that is to have other options.
pub fn check_altered(relation: &Relation, options: &ViewOptions, catalog: &dyn Catalog) -> Result<()> {
    if options.emit_interval == 0 {
        return Ok(());
    }
    let reads = |plan: &StreamPlan| read_by(plan, catalog).iter().any(|read| read.id == relation.id);
    let relations = catalog.relations();
    let reader = relations.iter().find(|r| r.plan().is_some_and(|plan| plan.forgets() && (r.id == relation.id || reads(plan))));
    match reader {
        Some(reader) if reader.id == relation.id => Err(refused("state_ttl together with emit_interval is not supported")),
        Some(reader) => Err(refused(&format!("emit_interval below \"{}\", which has a state_ttl, is not supported", reader.name))),
        None => Ok(()),
    }
}

fn refused(message: &str) -> SqlError {
    SqlError::unsupported(message)
        .with_detail("What is forgotten when would depend on how changes were put together.")
        .with_hint("Leave one of the two out.")
}

/// All that a plan reads, and what that reads in turn.
fn read_by(plan: &StreamPlan, catalog: &dyn Catalog) -> Vec<Arc<Relation>> {
    let relations = catalog.relations();
    let mut open: Vec<RelationId> = plan.inputs();
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    while let Some(id) = open.pop() {
        if let Some(relation) = relations.iter().find(|r| r.id == id && seen.insert(id)) {
            open.extend(relation.plan().map(StreamPlan::inputs).unwrap_or_default());
            found.push(relation.clone());
        }
    }
    found
}
