//! Prepared statements: those that are bound again and again, whose plans are kept and follow whatever changes beneath them; and what is said of their columns.

use eddyline_sql_tests::client::{number, refused, rows, run};
use eddyline_sql_tests::{Server, ServerOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

async fn one(client: &Client, statement: &Statement, key: i64) -> Vec<String> {
    let rows = client.query(statement, &[&key]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_reads_what_is_there() {
    let server = Server::start(ServerOptions::default());
    let (client, other) = (server.connect().await, server.connect().await);
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
    run(&client, "CREATE MATERIALIZED VIEW m AS SELECT v, COUNT(*) AS n FROM t GROUP BY v").await;
    let by_key = client.prepare("SELECT v FROM t WHERE k = $1").await.expect("a statement");
    let scanned = client.prepare("SELECT v FROM t WHERE k >= $1 ORDER BY k").await.expect("a statement");
    let many = client.prepare("SELECT k FROM t WHERE k = ANY ($1) ORDER BY k").await.expect("a statement");
    let of_view = client.prepare("SELECT n FROM m WHERE v = $1").await.expect("a statement");
    for round in 0..3 {
        assert_eq!(one(&client, &by_key, 1).await, ["one"]);
        assert_eq!(one(&client, &by_key, 9).await, Vec::<String>::new());
        assert_eq!(one(&client, &scanned, 2).await, ["two"]);
        let found = client.query(&many, &[&vec![2i64, 7, 1, 2]]).await.expect("rows");
        assert_eq!(found.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1, 2]);
        let counts = client.query(&of_view, &[&"one"]).await.expect("rows");
        assert_eq!(counts.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1], "round {round}");
    }
    let plan = client.query("EXPLAIN ANALYZE SELECT v FROM t WHERE k IN (1, 2)", &[]).await.expect("a plan");
    assert_eq!(plan[1].get::<_, String>(0), "look-up in t by its key, 2 keys");
    run(&other, "UPDATE t SET v = 'eins' WHERE k = 1; FLUSH").await;
    assert_eq!(one(&client, &by_key, 1).await, ["eins"]);
    assert_eq!(one(&client, &scanned, 1).await, ["eins", "two"]);
    // What the transaction itself wrote, and its end.
    run(&client, "BEGIN; UPDATE t SET v = 'uno' WHERE k = 1").await;
    assert_eq!(one(&client, &by_key, 1).await, ["uno"]);
    run(&client, "ROLLBACK").await;
    assert_eq!(one(&client, &by_key, 1).await, ["eins"]);
    // Another table of the name.
    run(&other, "DROP TABLE t CASCADE; CREATE TABLE t (v TEXT, k BIGINT PRIMARY KEY); INSERT INTO t VALUES ('new', 1)").await;
    assert_eq!(one(&client, &by_key, 1).await, ["new"]);
    assert!(client.query(&of_view, &[&"one"]).await.is_err_and(|e| e.code().is_some_and(|code| code.code() == "42P01")));
}

/// A statement that is bound to what has another in its place when it runs is planned again: it finds the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replaced_between_bind_and_execute_is_planned_again() {
    const REPLACE: &str = "CREATE OR REPLACE MATERIALIZED VIEW m AS SELECT COUNT(*)";
    let server = Server::start(ServerOptions::default());
    let (mut client, other) = (server.connect().await, server.connect().await);
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY); CREATE TABLE u (k BIGINT); INSERT INTO t VALUES (1), (2)").await;
    run(&client, "CREATE MATERIALIZED VIEW m AS SELECT COUNT(*) AS n FROM t").await;
    let read = client.prepare("SELECT n FROM m WHERE n > $1").await.expect("a statement");
    let all = client.prepare("SELECT * FROM m").await.expect("a statement");
    let write = client.prepare("INSERT INTO u VALUES ($1)").await.expect("a statement");
    let block = client.transaction().await.expect("a block");
    let (rows, written) = (block.bind(&read, &[&0i64]).await.expect("a portal"), block.bind(&write, &[&7i64]).await.expect("a portal"));
    run(&other, &format!("{REPLACE} + 10 AS n FROM t; ALTER TABLE u ADD COLUMN v BIGINT DEFAULT 5")).await;
    block.query_portal(&written, 0).await.expect("a write");
    let found = block.query_portal(&rows, 0).await.expect("rows");
    assert_eq!(found.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [12]);
    // By now the block reads at its epoch, at which there is no other view.
    let late = block.bind(&read, &[&0i64]).await.expect("a portal");
    run(&other, "INSERT INTO t VALUES (3)").await;
    run(&other, "FLUSH").await;
    run(&other, &format!("{REPLACE} + 20 AS n FROM t")).await;
    let refused = block.query_portal(&late, 0).await.expect_err("another epoch");
    assert_eq!(refused.code().map(|code| code.code()), Some("40001"));
    block.rollback().await.expect("the end");
    // The result has to be what was described.
    let block = client.transaction().await.expect("a block");
    let described = block.bind(&all, &[]).await.expect("a portal");
    run(&other, &format!("{REPLACE}::text AS n FROM t")).await;
    let refused = block.query_portal(&described, 0).await.expect_err("another type");
    assert_eq!(refused.code().map(|code| code.code()), Some("0A000"));
    block.rollback().await.expect("the end");
}

/// So is a definition, over what has another in its place by then, or over a view of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_over_what_is_replaced_are_planned_again() {
    let server = Server::start(ServerOptions::default());
    let (mut client, other) = (server.connect().await, server.connect().await);
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY); INSERT INTO t VALUES (1), (2); CREATE VIEW beneath AS SELECT k FROM t").await;
    run(&client, "CREATE TABLE r (k BIGINT); CREATE MATERIALIZED VIEW m AS SELECT COUNT(*) AS n FROM r").await;
    let block = client.transaction().await.expect("a block");
    let mut bound = Vec::new();
    for definition in [
        "CREATE INDEX by_k ON t (k)",
        "CREATE TABLE copied AS SELECT n FROM m",
        "CREATE MATERIALIZED VIEW over_view AS SELECT SUM(k)::bigint AS n FROM beneath",
        "CREATE MATERIALIZED VIEW over_m AS SELECT n FROM m",
    ] {
        let statement = block.prepare(definition).await.expect("a statement");
        bound.push(block.bind(&statement, &[]).await.expect("a portal"));
    }
    run(&other, "ALTER TABLE t ADD COLUMN v BIGINT DEFAULT 5; CREATE OR REPLACE MATERIALIZED VIEW m AS SELECT COUNT(*) + 10 AS n FROM r")
        .await;
    for portal in &bound {
        block.query_portal(portal, 0).await.expect("a definition");
    }
    block.commit().await.expect("the end");
    for (query, expected) in [
        ("SELECT n FROM copied", 10),
        ("SELECT n FROM over_m", 10),
        ("SELECT n FROM over_view", 3),
        ("SELECT v FROM t WHERE k = 1", 5),
        ("SELECT COUNT(*) FROM pg_indexes WHERE indexname = 'by_k' AND tablename = 't'", 1),
    ] {
        assert_eq!(number(&client, query).await, expected, "{query}");
    }
}

/// All wait for one writer, and the later ones find another table than they were planned for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_table_that_is_widened_is_planned_again() {
    let server = Server::start(ServerOptions::default());
    let (writer, first, second, third) = (server.connect().await, server.connect().await, server.connect().await, server.connect().await);
    run(&writer, "CREATE TABLE t (k BIGINT)").await;
    run(&writer, "BEGIN; INSERT INTO t VALUES (1)").await;
    let ends = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        run(&writer, "COMMIT").await;
    };
    let (v, w) = ("ALTER TABLE t ADD COLUMN v BIGINT DEFAULT 5", "ALTER TABLE t ADD COLUMN w BIGINT DEFAULT 6");
    tokio::join!(run(&first, v), run(&second, w), run(&third, "TRUNCATE t"), ends);
    run(&writer, "INSERT INTO t (k) VALUES (2)").await;
    let rows = writer.query("SELECT k + v + w FROM t", &[]).await.expect("rows");
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [13]);
}

/// The wider table would have the definition of another name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_altered_while_it_is_widened_is_not_replaced() {
    let server = Server::start(ServerOptions::default());
    let (writer, widens, renames) = (server.connect().await, server.connect().await, server.connect().await);
    run(&writer, "CREATE TABLE t (k BIGINT)").await;
    run(&writer, "BEGIN; INSERT INTO t VALUES (1)").await;
    let meanwhile = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        run(&renames, "ALTER TABLE t RENAME TO u").await;
        run(&writer, "COMMIT").await;
    };
    let (error, ()) = tokio::join!(refused(&widens, "ALTER TABLE t ADD COLUMN v BIGINT DEFAULT 5"), meanwhile);
    assert_eq!((error.code().code(), error.message()), ("55000", "relation \"t\" was changed meanwhile"));
    run(&widens, "ALTER TABLE u ADD COLUMN v BIGINT DEFAULT 5").await;
    assert_eq!(number(&widens, "SELECT k + v FROM u").await, 6);
    assert!(rows(&widens, "SHOW CREATE TABLE u").await.iter().flatten().flatten().all(|text| !text.contains("CREATE TABLE t")));
}

/// However often a view is replaced, its readers find one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_of_a_view_that_is_replaced_find_it() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY); INSERT INTO t SELECT g FROM generate_series(1, 1000) AS g").await;
    run(&client, "CREATE MATERIALIZED VIEW m AS SELECT k FROM t").await;
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut readers = Vec::new();
    for prepared in [false, true] {
        let (reader, done) = (server.connect().await, done.clone());
        readers.push(tokio::spawn(async move {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let found = match prepared {
                    true => number(&reader, "SELECT COUNT(*) FROM m").await.to_string(),
                    false => rows(&reader, "SELECT COUNT(*) FROM m").await.swap_remove(0).swap_remove(0).unwrap_or_default(),
                };
                assert_eq!(found, "1000");
            }
        }));
    }
    for _ in 0..20 {
        run(&client, "CREATE OR REPLACE MATERIALIZED VIEW m AS SELECT k FROM t").await;
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("a reader that found the view each time");
    }
}

/// What is one of several types of numbers is described as what these have in common, and sent as that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_are_described_as_they_are_sent() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE typed (u UUID, us UUID[], j JSONB)").await;
    for (query, ty) in [
        ("SELECT CASE WHEN true THEN 1::int ELSE 2.5::numeric END", Type::NUMERIC),
        ("SELECT 1::int UNION ALL SELECT 2.5", Type::NUMERIC),
        ("SELECT 1::int UNION SELECT 2.5::double precision", Type::FLOAT8),
        ("SELECT NULL UNION ALL SELECT 1", Type::INT4),
        ("SELECT coalesce(NULL::smallint, 1::bigint)", Type::INT8),
        ("SELECT least('2024-01-01'::date, '2024-01-01'::timestamp)", Type::TIMESTAMP),
        ("SELECT round(7)", Type::FLOAT8),
        ("SELECT round(7, 1)", Type::NUMERIC),
        ("SELECT rank() OVER (ORDER BY x) / 2 FROM (VALUES (1)) AS t(x)", Type::INT8),
        ("SELECT 'ab'::char(4)::text", Type::TEXT),
        ("SELECT array_agg(u) FROM typed", Type::UUID_ARRAY),
        ("SELECT array_agg(j ->> 'a') FROM typed", Type::TEXT_ARRAY),
        ("SELECT array_agg(DISTINCT j) FROM typed", Type::JSONB_ARRAY),
        ("SELECT ARRAY[u, NULL] FROM typed", Type::UUID_ARRAY),
        ("SELECT ARRAY(SELECT u FROM typed)", Type::UUID_ARRAY),
        ("SELECT us || u FROM typed", Type::UUID_ARRAY),
        ("SELECT us[1] FROM typed", Type::UUID),
        ("SELECT unnest(us) FROM typed", Type::UUID),
        ("SELECT coalesce(us, '{}'::uuid[]) FROM typed", Type::UUID_ARRAY),
        ("SELECT max(u) FROM typed", Type::UUID),
        ("SELECT max(u::text) FROM typed", Type::TEXT),
    ] {
        let statement = client.prepare(query).await.expect(query);
        assert_eq!(statement.columns()[0].type_(), &ty, "{query}");
    }
    let numbers = client.query("SELECT 1::int AS x UNION ALL SELECT 2.5::double precision ORDER BY x", &[]).await.expect("rows");
    assert_eq!(numbers.iter().map(|row| row.get(0)).collect::<Vec<f64>>(), [1.0, 2.5]);
    let prepared = client.prepare("SELECT array_agg($1::uuid), $2::uuid[]").await.expect("a statement");
    assert_eq!((prepared.params(), prepared.columns()[0].type_()), (&[Type::UUID, Type::UUID_ARRAY][..], &Type::UUID_ARRAY));
}

/// (times planned, times a kept plan was taken) since the server's start.
fn plans(server: &Server) -> (f64, f64) {
    let of = |name: &str| tokio::task::block_in_place(|| server.metric(name)).expect("the counter is there");
    (of("eddyline_plans_total"), of("eddyline_plans_reused_total"))
}

/// However often it runs, a prepared query is planned at its first run, and once more when its relation has changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_made_once_for_many_runs() {
    const RUNS: usize = 20;
    let server = Server::start(ServerOptions::default());
    let (client, other) = (server.connect().await, server.connect().await);
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
    let queries = ["SELECT v FROM t WHERE k = $1", "SELECT max(v) FROM t WHERE k <= $1 GROUP BY k"];
    let mut prepared = Vec::new();
    for query in queries {
        prepared.push(client.prepare(query).await.expect("a statement"));
    }
    for (table, expected) in
        [("", "one"), ("DROP TABLE t; CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'new')", "new")]
    {
        run(&other, table).await;
        for statement in &prepared {
            let (planned, reused) = plans(&server);
            for _ in 0..RUNS {
                assert_eq!(one(&client, statement, 1).await, [expected]);
            }
            assert_eq!(plans(&server), (planned + 1.0, reused + RUNS as f64 - 1.0), "after {table:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_follows_the_session() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY, at TIMESTAMPTZ); INSERT INTO t VALUES (1, '2026-01-01 12:00:00+00')").await;
    let read = client.prepare("SELECT k FROM t WHERE at = CAST(CAST($1 AS TEXT) AS TIMESTAMPTZ) OR at = TIMESTAMPTZ '2026-01-01 12:00:00'");
    let read = read.await.expect("a statement");
    let count = async || client.query(&read, &[&"2026-01-01 12:00:00"]).await.expect("rows").len();
    assert_eq!(count().await, 1, "in UTC");
    run(&client, "SET timezone = 'Asia/Tokyo'").await;
    assert_eq!(count().await, 0, "texts are read in the session's zone");
    run(&client, "RESET timezone").await;
    assert_eq!(count().await, 1);

    let zone = client.prepare("SELECT current_setting('timezone'), k FROM t WHERE k = $1").await.expect("a statement");
    let seen = async || client.query_one(&zone, &[&1i64]).await.expect("a row").get::<_, String>(0);
    assert_eq!(seen().await, "UTC");
    run(&client, "SET timezone = 'Asia/Tokyo'").await;
    assert_eq!(seen().await, "Asia/Tokyo");

    // A temporary view hides the table, and goes.
    let by_key = client.prepare("SELECT k FROM t WHERE k = $1").await.expect("a statement");
    let found = async || client.query(&by_key, &[&1i64]).await.expect("rows").len();
    assert_eq!(found().await, 1);
    run(&client, "CREATE TEMPORARY VIEW t AS SELECT CAST(5 AS BIGINT) AS k").await;
    assert_eq!(found().await, 0);
    run(&client, "DROP VIEW t").await;
    assert_eq!(found().await, 1);

    // The clock goes on.
    let now = client.prepare("SELECT CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT) FROM t WHERE k = $1").await.expect("a statement");
    let first: i64 = client.query_one(&now, &[&1i64]).await.expect("a row").get(0);
    let second: i64 = client.query_one(&now, &[&1i64]).await.expect("a row").get(0);
    assert!(second > first, "{first} and {second}");
    assert_eq!(number(&client, "SELECT count(*) FROM t").await, 1);
}

/// A client reads rows as they were described to it: those of other types are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_as_it_was_described() {
    let server = Server::start(ServerOptions::default());
    let (client, other) = (server.connect().await, server.connect().await);
    run(&other, "CREATE TABLE t (a INT, b TEXT NOT NULL)").await;
    let read = client.prepare("SELECT * FROM t").await.expect("a statement");
    run(&client, "PREPARE p AS SELECT * FROM t; EXECUTE p").await;
    for changed in ["a BIGINT, b TEXT", "a INT, b TEXT, c INT", "a INT", "b TEXT, a INT"] {
        run(&other, &format!("DROP TABLE t; CREATE TABLE t ({changed})")).await;
        let refused = [client.query(&read, &[]).await.map(drop), client.batch_execute("EXECUTE p").await];
        for result in refused {
            let Err(error) = result else { panic!("rows of {changed}") };
            let error = error.as_db_error().expect("the server says it");
            assert_eq!((error.code().code(), error.message()), ("0A000", "cached plan must not change result type"), "{changed}");
            assert_eq!(error.routine(), Some("RevalidateCachedQuery"), "{changed}");
        }
    }
    run(&other, "DROP TABLE t; CREATE TABLE t (a INT PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'one')").await;
    assert_eq!(client.query(&read, &[]).await.expect("rows").len(), 1);
    run(&client, "EXECUTE p").await;
}

/// A pattern that is a parameter is known when the statement runs, and so may its escape be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_that_comes_with_the_call_has_its_escape() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, '50%'), (2, '50x'), (3, 'A_'), (4, NULL)").await;
    let like = client.prepare("SELECT k FROM t WHERE v LIKE $1 ESCAPE '/' ORDER BY k").await.expect("a statement");
    for (pattern, expected) in [(Some("50/%"), vec![1]), (Some("50%"), vec![1, 2]), (None, vec![])] {
        let found = client.query(&like, &[&pattern]).await.expect("rows");
        assert_eq!(found.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), expected, "{pattern:?}");
    }
    let by_both = client.prepare("SELECT k FROM t WHERE v NOT ILIKE $1 ESCAPE $2 ORDER BY k").await.expect("a statement");
    let found = client.query(&by_both, &[&"a#_", &"#"]).await.expect("rows");
    assert_eq!(found.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1, 2]);
    let refused = client.query(&by_both, &[&"a", &"##"]).await;
    assert!(refused.is_err_and(|e| e.code().is_some_and(|code| code.code() == "22025")));
    run(&client, "PREPARE p (TEXT) AS SELECT v FROM t WHERE v LIKE $1 ESCAPE '/'").await;
    assert_eq!(rows(&client, "EXECUTE p ('50/%')").await, [[Some("50%".to_string())]]);
}

/// A parameter that is written to a column has the column's type, so that drivers send it as that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_have_the_types_of_columns() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT PRIMARY KEY, u UUID, j JSONB, f REAL); CREATE TABLE l (a INT[], b TEXT[])").await;
    for (statement, types) in [
        ("INSERT INTO t VALUES ($1, $2, $3, $4)", &[Type::INT4, Type::UUID, Type::JSONB, Type::FLOAT4][..]),
        ("INSERT INTO t (j, id, u) VALUES ($1, 1, $2), ('{}', $3, NULL)", &[Type::JSONB, Type::UUID, Type::INT4][..]),
        ("INSERT INTO t (u, j, id) SELECT $1, $2, id + $3 FROM t", &[Type::UUID, Type::JSONB, Type::INT4][..]),
        ("INSERT INTO t (id, u) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET j = $3", &[Type::INT4, Type::UUID, Type::JSONB][..]),
        ("UPDATE t SET u = $1, j = $2 WHERE id = $3", &[Type::UUID, Type::JSONB, Type::INT4][..]),
        ("INSERT INTO l VALUES ($1, $2)", &[Type::INT4_ARRAY, Type::TEXT_ARRAY][..]),
        ("UPDATE l SET a = $1, b = $2", &[Type::INT4_ARRAY, Type::TEXT_ARRAY][..]),
    ] {
        let prepared = client.prepare(statement).await.expect(statement);
        assert_eq!(prepared.params(), types, "{statement}");
    }
    run(&client, "PREPARE p (INT, TEXT, JSONB) AS INSERT INTO t VALUES ($1, $2, $3)").await;
    run(&client, "EXECUTE p(1, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{\"a\": [1]}')").await;
    let written = rows(&client, "SELECT u, j FROM t WHERE id = 1").await;
    assert_eq!(written, [["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{\"a\": [1]}"].map(|text| Some(text.to_string()))]);
}

/// A parameter beside an operand has the type that a literal in quotes would have there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_have_the_types_that_operators_want() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (d DATE, at TIMESTAMP, n INT)").await;
    for (expression, parameter, result) in [
        ("d - $1", Type::DATE, Type::INT4),
        ("$1 - d", Type::DATE, Type::INT4),
        ("at + $1", Type::INTERVAL, Type::TIMESTAMP),
        ("n * $1", Type::INT4, Type::INT4),
        ("TIME '10:00' + $1", Type::INTERVAL, Type::TIME),
        ("$1 + TIME '10:00'", Type::INTERVAL, Type::TIME),
        ("TIME '10:00' - $1", Type::TIME, Type::INTERVAL),
        ("COALESCE(n, $1)", Type::INT4, Type::INT4),
        ("GREATEST($1, at)", Type::TIMESTAMP, Type::TIMESTAMP),
        ("NULLIF($1, n)", Type::INT4, Type::INT4),
        ("CASE WHEN n > 1 THEN $1 ELSE d END", Type::DATE, Type::DATE),
        ("CASE n WHEN $1 THEN 1 END", Type::INT4, Type::INT4),
        ("CASE WHEN $1 THEN n END", Type::BOOL, Type::INT4),
        ("NOT $1", Type::BOOL, Type::BOOL),
        ("LAG(n, 1, $1) OVER (ORDER BY d)", Type::INT4, Type::INT4),
    ] {
        let prepared = client.prepare(&format!("SELECT {expression} FROM t")).await.expect(expression);
        assert_eq!((prepared.params(), prepared.columns()[0].type_()), (&[parameter][..], &result), "{expression}");
    }
}

/// Nor is it stored so: what a column's texts may have does not count for a parameter that stands in their place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parameter_is_not_cut_to_the_length_of_its_alternatives() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(3), x TEXT); INSERT INTO t VALUES (1, NULL, NULL)").await;
    for expression in ["COALESCE(v, $1)", "GREATEST(v, $1)", "CASE WHEN id = 2 THEN v ELSE $1 END"] {
        let prepared = client.prepare(&format!("SELECT {expression} FROM t")).await.expect(expression);
        assert_eq!((prepared.params(), prepared.columns()[0].type_()), (&[Type::TEXT][..], &Type::TEXT), "{expression}");
        let row = client.query_one(&prepared, &[&"longer"]).await.expect(expression);
        assert_eq!(row.get::<_, &str>(0), "longer", "{expression}");
    }
    client.execute("UPDATE t SET x = COALESCE(v, $1) WHERE COALESCE(v, $1) = 'longer'", &[&"longer"]).await.expect("it is written");
    assert_eq!(rows(&client, "SELECT x FROM t").await, [[Some("longer".to_string())]]);
}

/// Drivers ask for what they know of types by arrays of oids, whose type they must know themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_may_be_arrays_of_oids() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    let query = "SELECT oid, $1::oid[] AS given FROM pg_type WHERE oid = ANY ($1::oid[]) AND oid <> $2::oid ORDER BY oid";
    let statement = client.prepare(query).await.expect("a statement");
    assert_eq!(statement.params(), [Type::OID_ARRAY, Type::OID]);
    assert_eq!(statement.columns().iter().map(|column| column.type_().clone()).collect::<Vec<_>>(), [Type::OID, Type::OID_ARRAY]);
    let rows = client.query(&statement, &[&vec![20u32, 23, 1007], &23u32]).await.expect("rows");
    let found: Vec<(u32, Vec<u32>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found, [(20, vec![20, 23, 1007]), (1007, vec![20, 23, 1007])]);
}

async fn oid(client: &Client, relation: &str) -> u32 {
    let query = format!("SELECT oid FROM pg_class WHERE relname = '{relation}'");
    client.query_one(&query, &[]).await.expect("the relation is there").get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_come_from_relations() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k INT PRIMARY KEY, v TEXT, w AS k + 1); CREATE VIEW p AS SELECT v, k FROM t").await;
    run(&client, "CREATE MATERIALIZED VIEW m AS SELECT v, COUNT(*) AS n FROM t GROUP BY v").await;
    let (t, m) = (oid(&client, "t").await, oid(&client, "m").await);
    for (query, expected) in [
        ("SELECT * FROM t", vec![Some((t, 1i16)), Some((t, 2)), None]),
        ("SELECT x.v AS y, k + 1, k FROM t x WHERE k = $1 ORDER BY 1 LIMIT 3", vec![Some((t, 2)), None, Some((t, 1))]),
        ("SELECT m.n, b.v FROM m LEFT JOIN (SELECT v FROM t) b ON m.v = b.v", vec![Some((m, 2)), Some((t, 2))]),
        ("SELECT v, COUNT(*) FROM t GROUP BY v", vec![Some((t, 2)), None]),
        ("SELECT k FROM p", vec![Some((t, 1))]),
        ("SELECT v FROM t UNION ALL SELECT v FROM m", vec![None]),
        ("SELECT 1, now()", vec![None, None]),
    ] {
        let statement = client.prepare(query).await.expect(query);
        let origins: Vec<Option<(u32, i16)>> =
            statement.columns().iter().map(|column| column.table_oid().zip(column.column_id())).collect();
        assert_eq!(origins, expected, "{query}");
    }
}

/// A kept plan holds its own statement, and not the texts of all the others: with 400 of 20 KB each these would be 1.6 GB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_do_not_hold_one_another() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'one')").await;
    let resident = || tokio::task::block_in_place(|| server.metric("process_resident_memory_bytes")).expect("the gauge is there");
    let (before, long, mut held) = (resident(), "x".repeat(20_000), Vec::new());
    for at in 0..400 {
        let statement = client.prepare(&format!("SELECT v FROM t WHERE k = $1 AND v <> '{long}{at}'")).await.expect("a statement");
        assert_eq!(one(&client, &statement, 1).await, ["one"]);
        held.push(statement);
    }
    let grown = resident() - before;
    assert!(grown < 500e6, "{grown} bytes more");
    let listed = "SELECT COUNT(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT v FROM t WHERE k = $1 AND%'";
    assert_eq!(number(&client, listed).await, 400);
    assert_eq!(one(&client, &held[0], 1).await, ["one"]);
}

/// Texts of statements that stay are bounded; what is not given a name is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_statements_are_bounded() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    let long = "x".repeat(20 << 20);
    run(&client, &format!("PREPARE a AS SELECT '{long}'")).await;
    let error = client.batch_execute(&format!("PREPARE b AS SELECT '{long}'")).await.expect_err("too much text");
    assert_eq!(error.code().map(|code| code.code()), Some("53400"));
    run(&client, "DEALLOCATE a").await;
    run(&client, &format!("PREPARE b AS SELECT '{long}'")).await;
}

/// Rows that were sent before are not counted again. No client tells the tag of a portal that it asks for more, so these are the messages themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_execution_counts_its_own_rows() {
    let server = Server::start(ServerOptions::default());
    let mut client = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    let startup = b"\0\x03\0\0user\0eddyline\0database\0eddyline\0\0";
    let mut sent = (startup.len() as u32 + 4).to_be_bytes().to_vec();
    sent.extend(startup);
    let two_rows = (b'E', &b"\0\0\0\0\x02"[..]);
    let (parse, bind) = ((b'P', &b"\0SELECT * FROM generate_series(1, 3)\0\0\0"[..]), (b'B', &b"\0\0\0\0\0\0\0\0"[..]));
    for (kind, body) in [parse, bind, two_rows, two_rows, two_rows, (b'S', &b""[..])] {
        sent.push(kind);
        sent.extend((body.len() as u32 + 4).to_be_bytes());
        sent.extend(body);
    }
    client.write_all(&sent).expect("the socket takes it");
    let (mut answers, mut piece) = (String::new(), [0; 4096]);
    while !answers.contains("SELECT 0\0") {
        let read = client.read(&mut piece).expect("an answer");
        answers.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    assert!(answers.contains("SELECT 1\0"), "{answers}");
}
