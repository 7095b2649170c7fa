//! Tables outside that rows are looked up in: a job's ways to them, and what trouble it has with them, which the job's counters show and
//! the log tells. How they are asked is the connector's affair, and when the job's.

use super::core::Core;
use super::stats::JobStats;
use eddyline_common::{RelationId, Result, SqlError};
use eddyline_executor::JobLookup;
use eddyline_planner::plan::StreamPlan;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Core {
    /// The ways to the tables outside that a plan looks rows up in. What trouble they meet is the job's, for whoever looks at it.
    pub(super) fn lookups_of(&self, plan: &StreamPlan, stats: &Arc<JobStats>) -> Result<BTreeMap<RelationId, JobLookup>> {
        let of = |id: RelationId| -> Result<(RelationId, JobLookup)> {
            let table = self.sources.get(&id).and_then(|source| source.relation.source_spec());
            let table = table.ok_or_else(|| SqlError::internal(format!("relation {id} is looked up and not there")))?;
            let (stats, name) = (stats.clone(), table.name.clone());
            let on_trouble = Arc::new(move |trouble: Option<String>| stats.note_trouble(id, &name, trouble));
            Ok((id, JobLookup { connector: eddyline_connectors::open_lookup(table)?, on_trouble }))
        };
        plan.external().into_iter().map(of).collect()
    }
}

impl JobStats {
    /// A table outside does not answer and is asked again (`Some`), or no more. Said in the log when it changes.
    pub(super) fn note_trouble(&self, table: RelationId, name: &str, trouble: Option<String>) {
        let mut troubles = self.troubles.write();
        match trouble {
            Some(trouble) if troubles.get(&table) == Some(&trouble) => {}
            Some(trouble) => {
                tracing::warn!(relation = name, job = %self.name.read(), "its rows cannot be looked up, asking again: {trouble}");
                troubles.insert(table, trouble);
            }
            None => {
                if troubles.remove(&table).is_some() {
                    tracing::info!(relation = name, job = %self.name.read(), "its rows can be looked up again, or are not asked for any more");
                }
            }
        }
    }
}
