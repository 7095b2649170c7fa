//! Catalog queries of the kinds that clients send, through parser, planner and DataFusion, over a catalog with one
//! relation of each kind: every statement must plan, run and give the columns it gives on PostgreSQL 15.

use super::SystemContext;
use super::functions::SessionFunctions;
use crate::catalog::CatalogSnapshot;
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
        let context = SystemContext { catalog: snapshot.clone(), session, services: None, set_config: Default::default(), now_micros: 0 };
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

pub fn plan_on(snapshot: &CatalogSnapshot, parsed: &Parsed) -> eddyline_common::Result<Planned> {
    eddyline_planner::plan(parsed, &TestCatalog::new(snapshot.clone()), &Settings::default(), &mut StateTableIds(0), &[])
}

fn catalog() -> CatalogSnapshot {
    let ddl = "CREATE TABLE orders (id INT PRIMARY KEY, amount NUMERIC(10,2) NOT NULL DEFAULT 1, note TEXT, ts TIMESTAMP);
        CREATE MATERIALIZED VIEW totals AS SELECT note, COUNT(*) AS n FROM orders GROUP BY note;
        CREATE VIEW v_orders AS SELECT id, amount FROM orders";
    catalog_of(ddl)
}

/// A catalog made by DDL.
pub fn catalog_of(ddl: &str) -> CatalogSnapshot {
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
    _spill: tempfile::TempDir,
}

impl Runner {
    fn new() -> Self {
        let spill = tempfile::tempdir().unwrap();
        let (spill_dir, spill_bytes) = (spill.path().to_path_buf(), 64 << 20);
        let engine = QueryEngine::new(EngineOptions { threads: 1, memory_bytes: 64 << 20, spill_dir, spill_bytes }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Runner { snapshot: catalog(), engine, runtime, _spill: spill }
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

/// Statements of the kinds that clients send, and the columns PostgreSQL 15 gives for them.
const STATEMENTS: &[(&str, &str)] = &[
    // Names, oids and one-byte characters keep their types through joins, CASE, COALESCE, unions and subqueries.
    ("SELECT c.relname, c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace", "relname:19 oid:26 relkind:18"),
    ("SELECT CASE WHEN c.relkind = 'r' THEN 'table' ELSE c.relname END AS x FROM pg_class c", "x:19"),
    ("SELECT CASE c.relkind WHEN 'r' THEN 'table' END AS kind FROM pg_catalog.pg_class c", "kind:25"),
    ("SELECT nullif(attidentity, '') AS i, coalesce(attname, 'x') AS n FROM pg_attribute", "i:18 n:19"),
    ("SELECT relname, NULL::text FROM pg_class UNION ALL SELECT NULL::text, nspname FROM pg_namespace", "relname:19 text:25"),
    ("SELECT (SELECT nspname FROM pg_namespace n WHERE n.oid = c.relnamespace) AS s FROM pg_class c", "s:19"),
    (
        "SELECT min(relname) AS first, max(oid) AS last, array_agg(relname) AS names, array_agg(oid) AS oids FROM pg_class",
        "first:25 last:26 names:1003 oids:1028",
    ),
    ("SELECT relname::text, relname::varchar, oid::bigint FROM pg_class", "relname:25 relname:1043 oid:20"),
    ("SELECT row_number() OVER (ORDER BY oid) AS n FROM pg_class", "n:20"),
    // From names to oids and back.
    ("SELECT c.oid::regclass, 'orders'::regclass::oid, 23::regtype::text FROM pg_class c", "oid:2205 oid:26 text:25"),
    ("SELECT c.oid::regclass::text, 'orders'::regclass::text FROM pg_class c", "oid:25 text:25"),
    ("SELECT typinput = 'array_in'::regproc AS is_array, typname FROM pg_type", "is_array:16 typname:19"),
    ("SELECT t.oid FROM pg_type t WHERE t.oid = to_regtype('integer')", "oid:26"),
    ("SELECT conrelid::regclass AS t FROM pg_constraint WHERE conrelid::regclass = 'orders'::regclass", "t:2205"),
    (
        "SELECT typreceive, typreceive = 0 AS none, typsend::oid, typinput::text, typoutput::regproc FROM pg_type",
        "typreceive:24 none:16 typsend:26 typinput:25 typoutput:24",
    ),
    // Arrays and sets.
    (
        "SELECT '{1}'::oid[] AS a, ARRAY[1]::pg_catalog.oid[] AS b, ARRAY[oid] AS c, NULL::_oid AS d, '{x}'::name[] AS e FROM pg_class",
        "a:1028 b:1028 c:1028 d:1028 e:1003",
    ),
    (
        "WITH RECURSIVE t(base, items) AS (
           SELECT CASE WHEN typtype = 'd' THEN typbasetype END, (SELECT array_agg(oid) FROM pg_class) FROM pg_type
           UNION ALL SELECT CASE WHEN p.typtype = 'd' THEN p.typbasetype END, t.items FROM t, pg_type p WHERE p.oid = t.base
         ) SELECT base, items FROM t",
        "base:26 items:1028",
    ),
    (
        "SELECT ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid ORDER BY a.attnum DESC) AS names FROM pg_class c",
        "names:1003",
    ),
    ("SELECT (s.k).x AS col, (s.k).n FROM (SELECT information_schema._pg_expandarray(indkey) AS k FROM pg_index) s", "col:21 n:23"),
    (
        "SELECT a.attname, i.n FROM pg_index x, unnest(x.indkey) WITH ORDINALITY AS i(k, n), pg_attribute a WHERE a.attrelid = x.indrelid AND a.attnum = i.k",
        "attname:19 n:20",
    ),
    ("SELECT s.i, x.indkey[s.i] FROM pg_index x, LATERAL generate_subscripts(x.indkey, 1) AS s(i)", "i:23 indkey:21"),
    ("SELECT generate_series FROM generate_series(1, 3)", "generate_series:23"),
    ("SELECT x FROM pg_catalog.unnest('{a,b}'::text[]) x", "x:25"),
    ("SELECT word FROM pg_get_keywords() WHERE word <> ALL ('{a,all}'::text[])", "word:25"),
    (
        "SELECT c.relname, a.* FROM pg_class c LEFT JOIN LATERAL aclexplode(c.relacl) AS a ON true",
        "relname:19 grantor:26 grantee:26 privilege_type:25 is_grantable:16",
    ),
    // Operators, collations, literals without a type.
    ("SELECT relname FROM pg_class WHERE relname OPERATOR(pg_catalog.~) '^(ord.*)$' COLLATE pg_catalog.default", "relname:19"),
    ("SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg/_' || '%' ESCAPE '/'", "nspname:19"),
    ("SELECT indrelid FROM pg_index WHERE indisprimary = 't'", "indrelid:26"),
    ("SELECT polname FROM pg_policy WHERE polroles = '{0}'", "polname:19"),
    ("SELECT trim(trailing ';' from 'x;'), v FROM (VALUES ('26'::oid)) AS t(v)", "rtrim:25 v:26"),
    // Subqueries that no join stands for.
    (
        "SELECT i.indexrelid, (NOT i.indimmediate) AND EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid) AS e FROM pg_index i",
        "indexrelid:26 e:16",
    ),
    (
        "SELECT c.relname, (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid ORDER BY a.attnum LIMIT 1) AS first FROM pg_class c",
        "relname:19 first:19",
    ),
    (
        "SELECT c.relname, c.oid IN (SELECT i.indrelid FROM pg_index i WHERE i.indrelid = c.oid OR i.indexrelid = c.oid) AS indexed FROM pg_class c",
        "relname:19 indexed:16",
    ),
    (
        "SELECT d.description FROM (SELECT c.tableoid AS t, c.oid FROM pg_constraint c) x JOIN pg_description d ON d.classoid = x.t",
        "description:25",
    ),
];

#[test]
fn columns_have_the_types_that_clients_expect() {
    let runner = Runner::new();
    let mut failures = Vec::new();
    for (sql, expected) in STATEMENTS {
        match runner.run(sql) {
            Err(error) => failures.push(format!("{sql}\n  {error}")),
            Ok((columns, _)) => {
                let shown = columns.iter().map(|(name, oid)| format!("{name}:{oid}")).collect::<Vec<_>>().join(" ");
                if shown != *expected {
                    failures.push(format!("{sql}\n  {shown}, not {expected}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// The rows as text, with a dash for null.
fn rows(runner: &Runner, sql: &str) -> Vec<String> {
    let (_, rows) = runner.run(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    rows.into_iter().map(|r| r.into_iter().map(|c| c.unwrap_or("-".into())).collect::<Vec<_>>().join("|")).collect()
}

#[test]
fn correlated_subqueries_give_what_a_join_would() {
    let runner = Runner::new();
    let table = "FROM pg_class c WHERE c.relname IN ('orders', 'v_orders') ORDER BY c.relname";
    let names = "ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum DESC)";
    assert_eq!(rows(&runner, &format!("SELECT {names} {table}")), ["{ts,note,amount,id}", "{amount,id}"]);
    let first = "(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum LIMIT 1)";
    assert_eq!(rows(&runner, &format!("SELECT c.relname, {first} {table}")), ["orders|id", "v_orders|id"]);
    let keyed = "EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid) AND c.relkind = 'r'";
    assert_eq!(
        rows(&runner, &format!("SELECT {keyed}, NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid LIMIT 1) {table}")),
        ["t|f", "f|t"]
    );
    assert_eq!(
        rows(&runner, &format!("SELECT ARRAY(SELECT m.roleid FROM pg_auth_members m WHERE m.member = c.oid) {table}")),
        ["{}", "{}"]
    );
    let nested = "(SELECT array_to_string(ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = x.oid AND a.attnum > c.relnatts - 1 ORDER BY 1), '+')
        FROM pg_class x WHERE x.oid = c.oid ORDER BY 1 LIMIT 1)";
    assert_eq!(rows(&runner, &format!("SELECT {nested} {table}")), ["ts", "amount"]);
    let lateral = "SELECT c.relname, k.n, k.k FROM pg_class c LEFT JOIN pg_index i ON i.indrelid = c.oid
        LEFT JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(k, n) ON true WHERE c.relname IN ('orders', 'v_orders') ORDER BY 1";
    assert_eq!(rows(&runner, lateral), ["orders|1|1", "v_orders|-|-"]);
    let error = runner
        .run(&format!("SELECT (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid ORDER BY 1 LIMIT 2) {table}"))
        .unwrap_err();
    assert!(error.contains("more than one row"), "{error}");
}

#[test]
fn functions_that_return_sets() {
    let runner = Runner::new();
    assert_eq!(rows(&runner, "SELECT s.n, s.n * 2 FROM generate_series(1, 3) AS s(n)"), ["1|2", "2|4", "3|6"]);
    assert_eq!(rows(&runner, "SELECT generate_series(1, 2) AS a, unnest(ARRAY['x', 'y', 'z']) AS b"), ["1|x", "2|y", "-|z"]);
    assert_eq!(rows(&runner, "SELECT * FROM unnest(ARRAY[7, 8]) WITH ORDINALITY AS u(v, n)"), ["7|1", "8|2"]);
    assert_eq!(rows(&runner, "SELECT (SELECT (regexp_matches('abc', '(b)(c)'))[2])"), ["c"]);
    let vector = "SELECT s.i, x.indkey[s.i], array_upper(x.indkey, 1) FROM pg_index x, generate_subscripts(x.indkey, 1) AS s(i)";
    assert_eq!(rows(&runner, vector)[0], "0|1|0");
    assert_eq!(rows(&runner, "SELECT (x.indkey::int2[])[0], (x.indclass::oid[])[0] = x.indclass[0] FROM pg_index x")[0], "1|t");
    assert_eq!(rows(&runner, "SELECT ARRAY(SELECT g FROM generate_series(3, 1, -1) g), ARRAY(SELECT 1 WHERE false)"), ["{3,2,1}|{}"]);
}

#[test]
fn names_of_roles_and_schemas_stay_names() {
    let runner = Runner::new();
    let names = "SELECT current_user::regrole::text, 'public'::regnamespace::text, nspowner::regrole::text, n.oid::regnamespace::text
        FROM pg_namespace n WHERE n.nspname = 'public'";
    assert_eq!(rows(&runner, names), ["eddyline|public|eddyline|public"]);
    let indexes = "SELECT relname, indexrelname, idx_scan FROM pg_stat_user_indexes WHERE relname = 'orders'";
    assert_eq!(rows(&runner, indexes), ["orders|orders_pkey|0"]);
}

#[test]
fn dumping_is_refused_with_a_sentence() {
    let error = Runner::new().run("SELECT acldefault('n', n.nspowner) AS acldefault FROM pg_namespace n").unwrap_err();
    assert!(error.contains("acldefault() is not supported"), "{error}");
}

#[test]
fn rows_of_the_catalog_are_of_no_transaction() {
    let runner = Runner::new();
    let (columns, rows) = runner
        .run("SELECT n.xmin, n.xmin AS state, pg_catalog.age(n.xmin), n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid = 2200")
        .unwrap();
    let columns: Vec<(&str, u32)> = columns.iter().map(|(name, oid)| (name.as_str(), *oid)).collect();
    assert_eq!(columns, [("xmin", 28), ("state", 28), ("age", 23), ("nspname", 19)]);
    let row: Vec<&str> = rows[0].iter().map(|value| value.as_deref().unwrap()).collect();
    assert_eq!(row, ["0", "0", "0", "public"]);
    assert!(runner.run("SELECT xmin::varchar::bigint FROM pg_class").is_ok());
    assert!(runner.run("SELECT o.xmin FROM orders o").is_err());
}

#[test]
fn functions_of_types_are_oids_that_show_as_names() {
    let runner = Runner::new();
    let joined = "SELECT t.typname, t.typreceive, p.proname, t.typreceive <> 0, t.typinput::text, t.typinput::regproc::text
        FROM pg_type t LEFT JOIN pg_proc p ON p.oid = t.typreceive WHERE t.typname IN ('_int4', 'int4', 'trigger') ORDER BY 1";
    assert_eq!(
        rows(&runner, joined),
        [
            "_int4|array_recv|array_recv|t|array_in|array_in",
            "int4|int4recv|int4recv|t|int4in|int4in",
            "trigger|-|-|f|trigger_in|trigger_in"
        ]
    );
    let named = "SELECT 'array_in'::regproc, 'pg_catalog.array_in'::regproc::oid, to_regproc('nope'), typinput = 'array_in'
        FROM pg_type WHERE typname = '_int4'";
    assert_eq!(rows(&runner, named), ["array_in|750|-|t"]);
    assert_eq!(rows(&runner, "SELECT 'pg_catalog.trigger'::regtype::oid, amhandler FROM pg_am WHERE amname = 'btree'"), ["2279|bthandler"]);
    let of_types = "SELECT 'int4'::regtype::text, t::regtype::text, 0::regclass::text, 'public.orders'::regclass::text FROM (VALUES ('_text')) AS v(t)";
    assert_eq!(rows(&runner, of_types), ["integer|text[]|-|orders"]);
    for nothing in ["'nope'::regtype::text", "'nope'::regclass::text"] {
        assert!(runner.run(&format!("SELECT {nothing}")).unwrap_err().contains("\"nope\" does not exist"), "{nothing}");
    }
    assert!(runner.run("SELECT 'nope'::regproc").unwrap_err().contains("function \"nope\" does not exist"));
}

#[test]
fn types_are_followed_to_what_they_are_made_of() {
    let tree = "WITH RECURSIVE tree(oid, elem, depth) AS (
          SELECT t.oid, t.typelem, 0 FROM pg_type t WHERE t.oid = any('{1007}'::oid[])
          UNION ALL
          SELECT t.oid, t.typelem, tree.depth + 1 FROM pg_type t, tree WHERE tree.elem IS NOT NULL AND t.oid = tree.elem
        ) SELECT DISTINCT oid, elem, depth, elem::regtype::text FROM tree ORDER BY depth";
    assert_eq!(rows(&Runner::new(), tree), ["1007|23|0|integer", "23|0|1|-"]);
}

#[test]
fn text_and_values_are_cast_as_postgres_does() {
    let runner = Runner::new();
    for (sql, expected) in [
        ("SELECT '\\x00ff'::bytea, '\\x00ff'::bytea::text", "\\x00ff|\\x00ff"),
        ("SELECT true::text, 't'::boolean, false::text", "true|t|false"),
        ("SELECT DATE '2024-01-02'::text, TIMESTAMP '2024-01-02 03:04:05.5'::text", "2024-01-02|2024-01-02 03:04:05.5"),
        ("SELECT TIMESTAMPTZ '2024-01-02 03:04:05+02'::text, TIME '01:02:03.5'::text", "2024-01-02 01:04:05+00|01:02:03.5"),
        ("SELECT INTERVAL '1 day 02:03:04'::text, '1 year 2 mons -3 days'::interval", "1 day 02:03:04|1 year 2 mons -3 days"),
        ("SELECT 1.5::float8::text, 1::float8 || 'x', 1e20::float8::text", "1.5|1x|1e+20"),
        ("SELECT '{1,NULL,3}'::int[], ARRAY['a', 'b c']::text", "{1,NULL,3}|{a,\"b c\"}"),
        ("SELECT format('%s %I %L', 1, 'A', 'b'), json_build_object('a', 1, 'b', 'x')", "1 \"A\" 'b'|{\"a\" : 1, \"b\" : \"x\"}"),
    ] {
        assert_eq!(rows(&runner, sql), [expected], "{sql}");
    }
    assert!(runner.run("SELECT '\\x0'::bytea").is_err());
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
