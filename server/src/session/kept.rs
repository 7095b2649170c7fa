//! Plans that are kept: a prepared query is planned once for any number of times that it is bound, as long as nothing has changed that its plan follows from. A plan that
//! holds something of the session or of one moment is not kept: system relations, functions that ask for the session, series whose bounds were worked out. So nothing of the session is
//! kept with it either.

use super::Session;
use super::cursor::Prepared;
use super::planning::{PlannedStatement, result_schema};
use crate::pgcatalog::SystemContext;
use crate::serving::RelationSource;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use eddyline_common::{Result, SqlType};
use eddyline_planner::Settings;
use eddyline_planner::statement::{Planned, Query};
use eddyline_planner::walk::WalkPlan;
use std::sync::Arc;

pub struct Kept {
    /// Of the catalog that it was planned over.
    version: u64,
    settings: Settings,
    query: Query,
}

impl Kept {
    fn of(version: u64, settings: Settings, statement: &PlannedStatement) -> Option<Kept> {
        let PlannedStatement { planned: Planned::Query(query), context } = statement else { return None };
        // Whatever asks for the session has its own hold on it.
        let is_free = Arc::strong_count(context) == 1 && reads_relations_only(&query.plan);
        is_free.then(|| Kept { version, settings, query: query.clone() })
    }
}

impl Session {
    /// A prepared statement's plan, its parameters still in it, for the result that was described.
    pub(super) fn plan_prepared(&self, prepared: &Prepared) -> Result<PlannedStatement> {
        let (catalog, settings) = (self.services.coordinator.catalog(), self.planning_settings());
        let version = catalog.version();
        let is_same = |kept: &&Kept| kept.version == version && kept.settings == settings && self.temporary.is_empty();
        if let Some(kept) = prepared.kept.lock().as_ref().filter(is_same) {
            self.services.metrics.plans_reused.add(1);
            let context = Arc::new(SystemContext::unasked(catalog));
            return Ok(PlannedStatement { planned: Planned::Query(kept.query.clone()), context });
        }
        let types: Vec<Option<SqlType>> = match prepared.parameters.as_slice() {
            [] => prepared.declared.clone(),
            types => types.iter().cloned().map(Some).collect(),
        };
        let statement = self.plan(&prepared.parsed, &types)?;
        prepared.check_result(result_schema(&statement.planned, self))?;
        *prepared.kept.lock() = if self.temporary.is_empty() { Kept::of(version, settings, &statement) } else { None };
        Ok(statement)
    }
}

fn reads_relations_only(plan: &LogicalPlan) -> bool {
    let mut only = true;
    let walked = plan.each_with_subqueries(|node| {
        only &= !matches!(node, LogicalPlan::TableScan(scan) if !scan.source.is::<RelationSource>());
        Ok(if only { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    only && walked.is_ok()
}
