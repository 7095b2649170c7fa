//! Text to planned statement, over the catalog as this session sees it: user relations from the snapshot, system
//! relations and functions with the session's own facts.

use super::Session;
use super::temporary::TemporaryRelations;
use crate::catalog::CatalogSnapshot;
use crate::pgcatalog::functions::SessionFunctions;
use crate::pgcatalog::{self, DATABASE, SessionFacts, SystemContext};
use crate::serving::RelationSource;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::TableSource;
use eddyline_common::types::arrow_schema;
use eddyline_common::{Result, SqlType};
use eddyline_planner::catalog::{Meant, SqlFunction};
use eddyline_planner::statement::{Planned, Query, Returning, Subscriber, Subscription};
use eddyline_planner::{Catalog, DEFAULTS, Parsed, RULES, Relation, RelationKind, StateTableIds};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The planner's view of everything a statement may name.
pub struct SessionCatalog {
    /// What is durable; with what is the session's own it is in `context`.
    pub snapshot: Arc<CatalogSnapshot>,
    pub context: Arc<SystemContext>,
    functions: SessionFunctions,
    temporary: TemporaryRelations,
    /// What the text that is planned means by names, whoever has them by now.
    named: BTreeMap<String, Meant>,
}

impl SessionCatalog {
    fn new(snapshot: Arc<CatalogSnapshot>, context: Arc<SystemContext>, temporary: TemporaryRelations) -> Self {
        SessionCatalog { snapshot, functions: SessionFunctions::new(context.clone()), context, temporary, named: BTreeMap::new() }
    }

    fn find(&self, schema: Option<&str>, name: &str, durable: impl FnOnce() -> Option<Arc<Relation>>) -> Option<Arc<Relation>> {
        let own = self.temporary.get(name).map(|own| own.present(&self.snapshot));
        match schema {
            None => own.unwrap_or_else(durable),
            Some("public") => durable(),
            Some("pg_temp") => own.flatten(),
            Some(_) => None,
        }
    }

    fn present(&self, name: &str) -> Option<Arc<Relation>> {
        self.snapshot.by_name(name).cloned()
    }
}

impl Catalog for SessionCatalog {
    fn relation(&self, schema: Option<&str>, name: &str) -> Option<Arc<Relation>> {
        let meant = || self.named.get(name).and_then(|meant| self.snapshot.meant(meant));
        self.find(schema, name, || meant().or_else(|| self.present(name)))
    }

    fn relations(&self) -> Vec<Arc<Relation>> {
        self.snapshot.relations().chain(self.temporary.views()).cloned().collect()
    }

    fn of_view(&self, view: &Relation) -> Option<Box<dyn Catalog + '_>> {
        if self.temporary.is_empty() && self.named.is_empty() && !self.snapshot.means_otherwise(view) {
            return None;
        }
        let beneath = self.temporary.by_id(view.id).map(|own| own.beneath.clone()).unwrap_or_default();
        let scope = SessionCatalog::new(self.snapshot.clone(), self.context.clone(), beneath);
        Some(Box::new(SessionCatalog { named: view.named.clone(), ..scope }))
    }

    fn table_source(&self, schema: Option<&str>, name: &str) -> Option<Arc<dyn TableSource>> {
        // What has been found already is asked for by its present name.
        if let Some(relation) = self.find(schema, name, || self.present(name))
            && !matches!(relation.kind, RelationKind::View { .. } | RelationKind::Sink(_))
        {
            return Some(Arc::new(RelationSource::new(relation)));
        }
        pgcatalog::table_source(&self.context, schema, name)
    }

    fn overridden_source(&self, source: Arc<Relation>, starts_anew: bool) -> Option<Arc<dyn TableSource>> {
        Some(Arc::new(RelationSource::overridden(source, starts_anew)))
    }

    fn functions(&self) -> &dyn FunctionRegistry {
        &self.functions
    }

    fn user_function(&self, name: &str) -> Option<Arc<SqlFunction>> {
        self.snapshot.function(name).cloned()
    }

    fn user_functions(&self) -> Vec<Arc<SqlFunction>> {
        self.snapshot.functions().cloned().collect()
    }
}

/// A statement ready to run, with the catalog it was planned over.
pub struct PlannedStatement {
    pub planned: Planned,
    pub context: Arc<SystemContext>,
}

impl Session {
    pub fn catalog(&self) -> SessionCatalog {
        let snapshot = self.services.coordinator.catalog();
        let temporary = self.temporary.living(&snapshot);
        let session = SessionFacts {
            user: self.user.clone(),
            process: self.process,
            transaction: self.services.sessions.advisory.asker(self.process).transaction,
            settings: self.shown_settings(),
            cursors: self.portals.described(),
            statements: self.statements.described(),
        };
        let context = Arc::new(SystemContext {
            catalog: temporary.over(snapshot.clone()),
            session,
            services: Some(self.services.clone()),
            set_config: Default::default(),
            now_micros: self.services.clock.now().micros(),
        });
        SessionCatalog::new(snapshot, context, temporary)
    }

    /// What planning follows from, beside the catalog.
    pub(super) fn planning_settings(&self) -> eddyline_planner::Settings {
        eddyline_planner::Settings {
            time_zone: self.settings.get("timezone").unwrap_or("UTC").to_string(),
            search_path: vec!["public".to_string()],
            database: DATABASE.to_string(),
            disabled_rules: RULES.into_iter().filter(|rule| self.settings.get(rule) == Some("off")).collect(),
            pipeline_name: self.settings.get("pipeline.name").map(str::to_string),
            defaults: DEFAULTS.into_iter().filter_map(|(name, option)| Some((option, self.settings.changed(name)?.to_string()))).collect(),
        }
    }

    /// Plans a statement; `parameters` are the types the client declared.
    pub fn plan(&self, parsed: &Parsed, parameters: &[Option<SqlType>]) -> Result<PlannedStatement> {
        self.services.metrics.plans.add(1);
        let catalog = self.catalog();
        let settings = self.planning_settings();
        let plan = || eddyline_planner::plan(parsed, &catalog, &settings, &mut StateTableIds(0), parameters);
        let planned = without_stalling(parsed.sql.len(), plan)?;
        Ok(PlannedStatement { planned, context: catalog.context })
    }
}

/// Statements of this size may take so long to parse and plan that other clients would notice: hundreds of operators or joins.
const LONG_STATEMENT_BYTES: usize = 1 << 10;

/// Runs work whose cost grows with the length of a statement; a long one hands the thread's other clients to another thread.
pub fn without_stalling<T>(statement_bytes: usize, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let can_move = Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
    if statement_bytes > LONG_STATEMENT_BYTES && can_move { tokio::task::block_in_place(work) } else { work() }
}

/// The rows a planned statement will give; `None` if it gives none.
pub fn result_schema(planned: &Planned, session: &Session) -> Option<SchemaRef> {
    let returning = |r: &Option<Returning>| r.as_ref().map(|r| arrow_schema(&r.columns));
    match planned {
        Planned::Query(query) => Some(query_schema(query)),
        Planned::Insert(insert) => returning(&insert.returning),
        Planned::Update(mutation) | Planned::Delete(mutation) => returning(&mutation.returning),
        Planned::ExplainQuery { json, .. } => Some(query_plan(*json)),
        Planned::Explain(_) | Planned::ExplainJob(_) => Some(query_plan(false)),
        Planned::Show(show) => Some(super::show::schema(show)),
        Planned::Subscribe(Subscription { columns, to: Subscriber::Client, .. }) => Some(arrow_schema(columns)),
        Planned::Fetch { name, move_only: false, .. } => session.portals.schema(name),
        Planned::ExecutePrepared { name, .. } => session.statements.schema(name),
        _ => None,
    }
}

/// What EXPLAIN gives.
pub fn query_plan(json: bool) -> SchemaRef {
    Arc::new(Schema::new(vec![pgcatalog::spec::field("QUERY PLAN", if json { "json" } else { "text" })]))
}

/// A query's columns: the plan's types and marks under the names that clients see, and where they come from.
pub fn query_schema(query: &Query) -> SchemaRef {
    let schema = super::renamed(&pgcatalog::typing::schema(&query.plan), query.columns.iter().map(|c| c.name.clone()));
    pgcatalog::origins::noted(schema, &query.plan)
}
