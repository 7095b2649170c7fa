//! A catalog in memory. Relations are made by planning CREATE statements, with ids in order.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::TableSource;
use eddyline_common::types::arrow_schema;
use eddyline_common::{RelationId, SqlError, SqlType};
use eddyline_planner::functions::{Functions, registry};
use eddyline_planner::{Catalog, Planned, Relation, Settings, StateTableIds, parse, plan};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

pub struct TestCatalog {
    pub relations: BTreeMap<String, Arc<Relation>>,
    pub rows: BTreeMap<String, Vec<RecordBatch>>,
    pub system: BTreeMap<String, SchemaRef>,
    pub functions: Functions,
    /// The sources that were scanned with other options than their own, each with these.
    pub overridden: Mutex<BTreeSet<String>>,
}

impl TestCatalog {
    pub fn empty() -> Self {
        TestCatalog {
            relations: BTreeMap::new(),
            rows: BTreeMap::new(),
            system: BTreeMap::new(),
            functions: registry().as_ref().clone(),
            overridden: Mutex::default(),
        }
    }

    /// The relations that most tests use.
    pub fn new() -> Self {
        let mut catalog = TestCatalog::empty();
        for sql in [
            "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, \
             extra VARCHAR, proc AS PROCTIME(), WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds') \
             WITH (connector='nexmark', nexmark.table.type='bid')",
            "CREATE SOURCE raw (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, \
             extra VARCHAR) WITH (connector='nexmark', nexmark.table.type='bid')",
            "CREATE TABLE t (id INT PRIMARY KEY, v INT, name TEXT DEFAULT 'none', amount NUMERIC(10,2), ts TIMESTAMP)",
            "CREATE TABLE keyless (a BIGINT, b TEXT)",
            "CREATE TABLE log (ts TIMESTAMP, v INT, WATERMARK FOR ts AS ts - INTERVAL '1 minute') APPEND ONLY",
            "CREATE TABLE manual (ts TIMESTAMP, v INT, WATERMARK FOR ts AS ts) APPEND ONLY WITH (watermark.mode = 'manual')",
            "CREATE VIEW cheap AS SELECT auction, price FROM bid WHERE price < 100",
            "CREATE MATERIALIZED VIEW totals AS SELECT auction, COUNT(*) AS n, SUM(price) AS total FROM bid GROUP BY auction",
        ] {
            catalog.create(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        catalog
    }

    pub fn plan(&self, sql: &str) -> Result<Planned, SqlError> {
        self.plan_with(sql, &[])
    }

    pub fn plan_with(&self, sql: &str, parameters: &[Option<SqlType>]) -> Result<Planned, SqlError> {
        let parsed = parse(sql)?.pop().expect("at least one statement");
        plan(&parsed, self, &Settings::default(), &mut StateTableIds(1), parameters)
    }

    pub fn create(&mut self, sql: &str) -> Result<Arc<Relation>, SqlError> {
        let Planned::Create { mut relation, .. } = self.plan(sql)? else { panic!("not a CREATE: {sql}") };
        relation.id = RelationId(self.relations.len() as u32 + 1);
        let relation = Arc::new(relation);
        self.relations.insert(relation.name.clone(), relation.clone());
        Ok(relation)
    }

    pub fn relation(&self, name: &str) -> Arc<Relation> {
        self.relations[name].clone()
    }

    /// A system relation without rows.
    pub fn add_system(&mut self, name: &str, columns: &[(&str, DataType)]) {
        let fields: Vec<Field> = columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect();
        self.system.insert(name.to_string(), Arc::new(Schema::new(fields)));
    }

    pub fn error(&self, sql: &str) -> SqlError {
        match self.plan(sql) {
            Err(error) => error,
            Ok(planned) => panic!("accepted: {sql}\n{planned:?}"),
        }
    }

    pub fn explain(&self, sql: &str) -> Vec<String> {
        self.explain_without(sql, vec![]).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// What EXPLAIN says if some rules are switched off.
    pub fn explain_without(&self, sql: &str, disabled_rules: Vec<&'static str>) -> Result<Vec<String>, SqlError> {
        let parsed = parse(sql)?.pop().expect("at least one statement");
        let settings = Settings { disabled_rules, ..Settings::default() };
        match plan(&parsed, self, &settings, &mut StateTableIds(1), &[])? {
            Planned::Explain(lines) => Ok(lines),
            Planned::ExplainQuery { query, .. } => Ok(query.plan.display_indent().to_string().lines().map(String::from).collect()),
            other => panic!("not an EXPLAIN: {other:?}"),
        }
    }
}

impl Catalog for TestCatalog {
    fn relation(&self, schema: Option<&str>, name: &str) -> Option<Arc<Relation>> {
        match schema {
            None | Some("public") => self.relations.get(name).cloned(),
            _ => None,
        }
    }

    fn relations(&self) -> Vec<Arc<Relation>> {
        self.relations.values().cloned().collect()
    }

    fn table_source(&self, schema: Option<&str>, name: &str) -> Option<Arc<dyn TableSource>> {
        let (schema, rows) = match schema {
            Some("public") => {
                let relation = self.relations.get(name)?;
                (arrow_schema(&relation.columns), self.rows.get(name).cloned().unwrap_or_default())
            }
            None | Some("pg_catalog") => (self.system.get(name)?.clone(), vec![]),
            _ => return None,
        };
        let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(schema, vec![rows]).expect("rows fit their table"));
        Some(provider_as_source(table))
    }

    fn overridden_source(&self, source: Arc<Relation>, _starts_anew: bool) -> Option<Arc<dyn TableSource>> {
        let own = &self.relations.get(&source.name)?.source_spec()?.options;
        let others = source.source_spec()?.options.iter().filter(|(option, value)| own.get(*option) != Some(*value));
        let others: Vec<String> = others.map(|(option, value)| format!("{option}={value}")).collect();
        self.overridden.lock().expect("no test panics meanwhile").insert(format!("{} {}", source.name, others.join(" ")));
        self.table_source(Some("public"), &source.name)
    }

    fn functions(&self) -> &dyn FunctionRegistry {
        &self.functions
    }
}
