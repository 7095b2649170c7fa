//! Statements whose relations go between their planning and their running, as CREATE OR REPLACE MATERIALIZED VIEW and ALTER TABLE ... ADD COLUMN take them away: they are
//! planned again, over the catalog that there is then. Whoever finds that a relation is gone has read, written and sent nothing yet.

use super::cursor::Prepared;
use super::planning::PlannedStatement;
use super::{Outcome, Session};
use datafusion::common::ScalarValue;
use eddyline_common::{RelationId, Result, SqlState};
use eddyline_planner::statement::{Planned, Query, TableAs, TableRows};
use eddyline_planner::{Parsed, bind_parameters};

/// So many times a statement is planned: each further time something was replaced in the moment before its snapshot, or while it waited for a view to be filled.
const PLANS_MAX: usize = 100;

/// What a statement is planned from.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// Without parameters.
    Text(&'a Parsed),
    Bound(&'a Prepared, &'a [ScalarValue]),
}

impl<'a> Origin<'a> {
    fn parsed(self) -> &'a Parsed {
        match self {
            Origin::Text(parsed) => parsed,
            Origin::Bound(prepared, _) => &prepared.parsed,
        }
    }
}

impl Session {
    pub(super) fn plan_of(&self, origin: Origin<'_>) -> Result<PlannedStatement> {
        match origin {
            Origin::Text(parsed) => self.plan(parsed, &[]),
            Origin::Bound(prepared, values) => {
                let PlannedStatement { planned, context } = self.plan_prepared(prepared)?;
                Ok(PlannedStatement { planned: bind_parameters(planned, values.to_vec())?, context })
            }
        }
    }

    /// Runs a statement that was planned from `origin`, which happens again if something that it names has gone since.
    pub(super) async fn execute_planned(&mut self, mut statement: PlannedStatement, origin: Origin<'_>) -> Result<Outcome> {
        let (mut plans, said) = (1, self.notices.len());
        loop {
            let named = named_by(&statement.planned);
            let outcome = self.execute(statement, origin.parsed()).await;
            match outcome {
                Err(error) if error.state == SqlState::UNDEFINED_TABLE && plans < PLANS_MAX && self.lacks_any(&named) => {
                    // What it said is said again.
                    self.notices.truncate(said);
                    statement = self.plan_of(origin)?;
                    plans += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn lacks_any(&self, relations: &[RelationId]) -> bool {
        let catalog = self.services.coordinator.catalog();
        relations.iter().any(|id| !catalog.contains(*id))
    }
}

/// The relations that a statement needs: whose rows it reads or writes, or that it defines something over.
fn named_by(planned: &Planned) -> Vec<RelationId> {
    let written = |table: RelationId, source: &Query| source.relations.iter().copied().chain([table]).collect();
    match planned {
        Planned::Query(query)
        | Planned::CopyTo { query, .. }
        | Planned::ExplainQuery { query, .. }
        | Planned::DeclareCursor { query, .. } => query.relations.clone(),
        Planned::Insert(insert) => written(insert.table, &insert.source),
        Planned::Update(mutation) | Planned::Delete(mutation) => written(mutation.table, &mutation.source),
        Planned::Truncate(mutations) => mutations.iter().flat_map(|mutation| written(mutation.table, &mutation.source)).collect(),
        Planned::AddColumns(add) => vec![add.table.id],
        Planned::CopyFrom { table, .. } => vec![*table],
        Planned::Subscribe(subscription) => vec![subscription.relation],
        Planned::Create { relation, .. } => relation.needs(),
        Planned::CreateTableAs(TableAs { rows: TableRows::Of(query), .. }) => query.relations.clone(),
        Planned::CreateIndex { index, .. } => vec![index.relation],
        Planned::Comment { relation, .. } => vec![*relation],
        _ => Vec::new(),
    }
}
