//! SQL text to relations, through the planner alone. The only catalog is the one that planning a view over one input needs.

use crate::Result;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::TableSource;
use eddyline_common::RelationId;
use eddyline_common::connector::SourceSpec;
use eddyline_common::types::arrow_schema;
use eddyline_planner::catalog::{Relation, RelationKind};
use eddyline_planner::functions::{Functions, registry};
use eddyline_planner::{Catalog, Planned, Settings, StateTableIds};
use std::sync::Arc;

pub struct BenchCatalog {
    relations: Vec<Arc<Relation>>,
    functions: Arc<Functions>,
    ids: StateTableIds,
    settings: Settings,
}

impl Default for BenchCatalog {
    fn default() -> Self {
        BenchCatalog::without(Vec::new())
    }
}

impl BenchCatalog {
    /// Plans without some rules of the optimiser.
    pub fn without(disabled_rules: Vec<&'static str>) -> Self {
        let settings = Settings { disabled_rules, ..Settings::default() };
        BenchCatalog { relations: Vec::new(), functions: registry(), ids: StateTableIds(1), settings }
    }

    /// Plans and keeps what one CREATE defines.
    pub fn create(&mut self, sql: &str) -> Result<Arc<Relation>> {
        let parsed = eddyline_planner::parse(sql)?.pop().ok_or("an empty statement")?;
        let mut ids = self.ids;
        let planned = eddyline_planner::plan(&parsed, self, &self.settings, &mut ids, &[])?;
        self.ids = ids;
        let Planned::Create { mut relation, .. } = planned else { return Err(format!("not a CREATE: {sql}").into()) };
        relation.id = RelationId(self.relations.len() as u32 + 1);
        let relation = Arc::new(relation);
        self.relations.push(relation.clone());
        Ok(relation)
    }

    /// What a CREATE SOURCE asks of its connector.
    pub fn source(&mut self, sql: &str) -> Result<SourceSpec> {
        match &self.create(sql)?.kind {
            RelationKind::Source(spec) => Ok(spec.clone()),
            _ => Err(format!("not a source: {sql}").into()),
        }
    }
}

impl Catalog for BenchCatalog {
    fn relation(&self, schema: Option<&str>, name: &str) -> Option<Arc<Relation>> {
        schema.is_none_or(|s| s == "public").then(|| self.relations.iter().find(|r| r.name == name).cloned())?
    }

    fn relations(&self) -> Vec<Arc<Relation>> {
        self.relations.clone()
    }

    fn table_source(&self, schema: Option<&str>, name: &str) -> Option<Arc<dyn TableSource>> {
        let relation = self.relation(schema, name)?;
        Some(provider_as_source(Arc::new(EmptyTable::new(arrow_schema(&relation.columns)))))
    }

    fn functions(&self) -> &dyn FunctionRegistry {
        self.functions.as_ref()
    }
}
