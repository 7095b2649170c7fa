//! The catalog of a run: relations planned from SQL text, and what a batch query sees in them.

use arrow::array::RecordBatch;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::TableSource;
use eddyline_common::types::arrow_schema;
use eddyline_common::{RelationId, Result};
use eddyline_planner::catalog::Relation;
use eddyline_planner::functions::{Functions, registry};
use eddyline_planner::{Catalog, Planned, Settings, StateTableIds};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

pub struct OracleCatalog {
    relations: BTreeMap<RelationId, Arc<Relation>>,
    contents: Mutex<HashMap<String, RecordBatch>>,
    functions: Arc<Functions>,
    ids: StateTableIds,
    settings: Settings,
}

impl OracleCatalog {
    /// Plans without some rules of the optimiser.
    pub fn without(disabled_rules: Vec<&'static str>) -> Self {
        let settings = Settings { disabled_rules, ..Settings::default() };
        OracleCatalog { relations: BTreeMap::new(), contents: Mutex::default(), functions: registry(), ids: StateTableIds(1), settings }
    }

    /// Runs one CREATE.
    pub fn create(&mut self, sql: &str) -> Result<Arc<Relation>> {
        let parsed = eddyline_planner::parse(sql)?.pop().expect("a text has a statement");
        let mut ids = self.ids;
        let planned = eddyline_planner::plan(&parsed, self, &self.settings, &mut ids, &[])?;
        self.ids = ids;
        let Planned::Create { mut relation, .. } = planned else { panic!("not a CREATE: {sql}") };
        relation.id = RelationId(self.relations.len() as u32 + 1);
        let relation = Arc::new(relation);
        self.relations.insert(relation.id, relation.clone());
        Ok(relation)
    }

    pub fn get(&self, id: RelationId) -> &Arc<Relation> {
        &self.relations[&id]
    }

    /// What a batch query reads from now on.
    pub fn set_content(&self, name: &str, rows: RecordBatch) {
        self.contents.lock().unwrap().insert(name.to_string(), rows);
    }
}

impl Catalog for OracleCatalog {
    fn relation(&self, schema: Option<&str>, name: &str) -> Option<Arc<Relation>> {
        schema.is_none_or(|s| s == "public").then(|| self.relations.values().find(|r| r.name == name).cloned())?
    }

    fn relations(&self) -> Vec<Arc<Relation>> {
        self.relations.values().cloned().collect()
    }

    fn table_source(&self, schema: Option<&str>, name: &str) -> Option<Arc<dyn TableSource>> {
        let relation = self.relation(schema, name)?;
        let schema = arrow_schema(&relation.columns);
        let rows = self.contents.lock().unwrap().get(name).cloned();
        let rows = rows.unwrap_or_else(|| RecordBatch::new_empty(schema.clone()));
        let table = MemTable::try_new(schema, vec![vec![rows]]).expect("content has the columns of its relation");
        Some(provider_as_source(Arc::new(table)))
    }

    fn functions(&self) -> &dyn FunctionRegistry {
        self.functions.as_ref()
    }
}
