//! The statements that psql sends for its `\d` family, through parser, planner and DataFusion, over a catalog
//! with one relation of each kind: every statement must plan, run and give the columns it gave on
//! PostgreSQL 15.

use super::SystemContext;
use super::functions::SessionFunctions;
use crate::catalog::{CatalogSnapshot, relation_oid};
use crate::serving::engine::EngineOptions;
use crate::serving::{Bindings, QueryEngine, RelationSource};
use crate::session::planning::query_schema;
use arrow::array::RecordBatch;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::TableSource;
use eddyline_common::{RelationId, Timestamp};
use eddyline_planner::{Catalog, Parsed, Planned, Relation, Settings, StateTableIds, parse};
use std::sync::Arc;

struct TestCatalog {
    snapshot: Arc<CatalogSnapshot>,
    context: Arc<SystemContext>,
    functions: SessionFunctions,
}

impl TestCatalog {
    fn new(snapshot: CatalogSnapshot) -> Self {
        let snapshot = Arc::new(snapshot);
        let session = super::SessionFacts { user: "eddyline".into(), process: 1, ..Default::default() };
        let context =
            SystemContext { catalog: snapshot.clone(), session, coordinator: None, set_config: Default::default(), now_micros: 0 };
        let context = Arc::new(context);
        TestCatalog { functions: SessionFunctions::new(context.clone()), snapshot, context }
    }
}

impl Catalog for TestCatalog {
    fn relation(&self, schema: Option<&str>, name: &str) -> Option<Arc<Relation>> {
        matches!(schema, None | Some("public")).then(|| self.snapshot.by_name(name).cloned()).flatten()
    }

    fn relations(&self) -> Vec<Arc<Relation>> {
        self.snapshot.relations().cloned().collect()
    }

    fn table_source(&self, schema: Option<&str>, name: &str) -> Option<Arc<dyn TableSource>> {
        match self.relation(schema, name) {
            Some(relation) => Some(Arc::new(RelationSource::new(relation))),
            None => super::table_source(&self.context, schema, name),
        }
    }

    fn functions(&self) -> &dyn FunctionRegistry {
        &self.functions
    }
}

fn plan_on(snapshot: &CatalogSnapshot, parsed: &Parsed) -> eddyline_common::Result<Planned> {
    eddyline_planner::plan(parsed, &TestCatalog::new(snapshot.clone()), &Settings::default(), &mut StateTableIds(0), &[])
}

/// A catalog made by DDL.
fn catalog() -> CatalogSnapshot {
    let ddl = "CREATE TABLE orders (id INT PRIMARY KEY, amount NUMERIC(10,2) NOT NULL DEFAULT 1, note TEXT, ts TIMESTAMP);
        CREATE MATERIALIZED VIEW totals AS SELECT note, COUNT(*) AS n FROM orders GROUP BY note;
        CREATE VIEW v_orders AS SELECT id, amount FROM orders";
    let mut snapshot = CatalogSnapshot::default();
    for (index, parsed) in parse(ddl).unwrap().iter().enumerate() {
        match plan_on(&snapshot, parsed).unwrap() {
            Planned::Create { mut relation, .. } => {
                relation.id = RelationId(index as u32 + 1);
                snapshot = snapshot.with(relation);
            }
            other => panic!("{other:?}"),
        }
    }
    snapshot
}

struct Runner {
    snapshot: CatalogSnapshot,
    engine: QueryEngine,
    runtime: tokio::runtime::Runtime,
}

impl Runner {
    fn new() -> Self {
        let engine = QueryEngine::new(EngineOptions { threads: 1, memory_bytes: 64 << 20 }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Runner { snapshot: catalog(), engine, runtime }
    }

    /// Column names and oids, and the rows as text.
    fn run(&self, sql: &str) -> Result<(Vec<(String, u32)>, Vec<Vec<Option<String>>>), String> {
        let parsed = parse(sql).map_err(|e| e.to_string())?.remove(0);
        let Planned::Query(query) = plan_on(&self.snapshot, &parsed).map_err(|e| e.to_string())? else { return Err("not a query".into()) };
        let schema = query_schema(&query);
        let columns = schema.fields().iter().map(|f| (f.name().clone(), eddyline_common::postgres::types::wire_type(f).oid)).collect();
        let batches =
            self.runtime.block_on(self.engine.collect(query.plan, Bindings::none(Timestamp(0)), 1 << 30)).map_err(|e| e.to_string())?;
        let format = eddyline_common::postgres::encode::RowFormat::text(schema, crate::session::settings::utc());
        let rows = batches.iter().flat_map(|batch| shown(&format, batch)).collect();
        Ok((columns, rows))
    }
}

fn shown(format: &eddyline_common::postgres::encode::RowFormat, batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let bound = format.bind(batch).unwrap();
    let writers = bound.text_writers();
    let cell = |writer: &eddyline_common::postgres::encode::ValueWriter, row| {
        let mut text = bytes::BytesMut::new();
        (!writer.is_null(row)).then(|| {
            writer.text(row, &mut text);
            String::from_utf8(text.to_vec()).unwrap()
        })
    };
    (0..batch.num_rows()).map(|row| writers.iter().map(|w| cell(w, row)).collect()).collect()
}

/// A recorded statement with the columns it gave.
struct Recorded {
    heading: String,
    sql: String,
    reply: Vec<(String, u32)>,
}

/// The format is described in `clients' notes`: headings, replies, statements, repeats.
fn recorded(text: &str) -> Vec<Recorded> {
    let (mut heading, mut reply, mut sql, mut all) = (String::new(), Vec::new(), String::new(), Vec::new());
    for line in text.lines().chain(["-- [end]"]) {
        if line.starts_with("-- ") {
            if !sql.trim().is_empty() {
                all.push(Recorded { heading: heading.clone(), sql: std::mem::take(&mut sql), reply: std::mem::take(&mut reply) });
            }
            sql.clear();
            if let Some(name) = line.strip_prefix("-- ==================== ") {
                heading = name.to_string();
            } else if let Some(columns) = line.strip_prefix("--   reply: ") {
                reply = columns
                    .split(", ")
                    .filter_map(|c| c.rsplit_once(':'))
                    .map(|(n, oid)| (n.to_string(), oid.trim_end_matches('b').parse().unwrap_or(0)))
                    .collect();
            }
        } else {
            sql.push_str(line);
            sql.push('\n');
        }
    }
    all
}

/// The commands of psql that this server answers.
const HEADINGS: &[&str] =
    &["psql_connect", "\\d", "\\d orders", "\\d v_orders", "\\d mv_orders", "\\dt", "\\dv", "\\dm", "\\dn", "\\l", "\\df", "\\di"];

#[test]
fn psql_describes_relations() {
    let runner = Runner::new();
    let oid = relation_oid(RelationId(1)).to_string();
    let statements = recorded(include_str!("recorded/psql15.txt"));
    let mut failures = Vec::new();
    let mut ran = 0;
    for Recorded { heading, sql, reply } in statements.iter().filter(|r| HEADINGS.contains(&r.heading.as_str())) {
        ran += 1;
        let sql = sql
            .replace("16385", &oid)
            .replace("16406", &relation_oid(RelationId(2)).to_string())
            .replace("16412", &relation_oid(RelationId(3)).to_string());
        match runner.run(&sql) {
            Err(error) => failures.push(format!("{heading}: {error}\n  {}", sql.lines().next().unwrap_or_default())),
            Ok((columns, _)) if columns.iter().map(|c| &c.0).ne(reply.iter().map(|c| &c.0)) => {
                failures.push(format!("{heading}: columns {columns:?}, not {reply:?}"))
            }
            Ok(_) => {}
        }
    }
    assert!(ran > 20, "only {ran} statements were found");
    assert!(failures.is_empty(), "{} of {ran} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn relations_show_as_their_kinds() {
    let runner = Runner::new();
    let (_, rows) =
        runner.run("SELECT relname, relkind, pg_get_viewdef(oid) FROM pg_catalog.pg_class WHERE relnamespace = 2200 ORDER BY oid").unwrap();
    let shown: Vec<(&str, &str)> = rows.iter().map(|r| (r[0].as_deref().unwrap(), r[1].as_deref().unwrap())).collect();
    assert_eq!(shown[..2], [("orders", "r"), ("orders_pkey", "i")]);
    assert!(shown.contains(&("totals", "m")) && shown.contains(&("v_orders", "v")), "{shown:?}");
    let view = rows.iter().find(|r| r[0].as_deref() == Some("v_orders")).unwrap();
    assert_eq!(view[2].as_deref(), Some(" SELECT id, amount FROM orders;"));
}

#[test]
fn every_system_relation_can_be_read() {
    let runner = Runner::new();
    for spec in super::spec::relations() {
        let result = runner.run(&format!("SELECT * FROM {}.{}", spec.schema, spec.name));
        let (columns, _) = result.unwrap_or_else(|e| panic!("{}: {e}", spec.name));
        assert_eq!(columns.len(), spec.columns.len());
    }
}

#[test]
fn columns_have_postgres_types() {
    let runner = Runner::new();
    let (columns, rows) = runner
        .run("SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull FROM pg_attribute a WHERE a.attrelid = 'orders'::regclass AND a.attnum > 0 ORDER BY a.attnum")
        .unwrap();
    assert_eq!(columns.iter().map(|c| c.1).collect::<Vec<_>>(), [19, 25, 16]);
    let shown: Vec<String> = rows.iter().map(|r| r.iter().map(|c| c.clone().unwrap_or_default()).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(shown, ["id integer t", "amount numeric(10,2) t", "note text f", "ts timestamp without time zone f"]);
}
