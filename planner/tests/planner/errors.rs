//! Bad input: SQLSTATE, the primary line, a hint where one helps, and the position in the whole text.

use crate::support::TestCatalog;
use eddyline_common::SqlType;
use eddyline_planner::parse;

/// The error, with the text from its position on in place of the number.
#[track_caller]
fn check(sql: &str, state: &str, message: &str, at: Option<&str>, hint: &str) {
    let error = TestCatalog::new().error(sql);
    assert_eq!(error.state.0, state, "{sql}: {error}");
    assert!(error.message.contains(message), "{sql}: {error}");
    assert!(error.hint.clone().unwrap_or_default().contains(hint), "{sql}: {error}");
    if let Some(at) = at {
        let position = error.position.unwrap_or_else(|| panic!("{sql}: no position: {error}"));
        let rest: String = sql.chars().skip(position - 1).collect();
        assert!(rest.starts_with(at), "{sql}: {position} points at {rest:?}");
    }
    let first = error.message.chars().next().unwrap();
    assert!(!first.is_uppercase() || error.message.chars().nth(1).unwrap().is_uppercase(), "{error}");
    assert!(!error.message.ends_with('.'), "{error}");
}

#[test]
fn names_that_do_not_exist() {
    check("SELECT pricee FROM bid", "42703", "column \"pricee\" does not exist", Some("pricee"), "\"price\"");
    check("SELECT b.pricee FROM bid b", "42703", "pricee", None, "\"price\"");
    check("SELECT x.price FROM bid b", "42P01", "missing FROM-clause entry for table \"x\"", Some("x.price"), "");
    check("SELECT bid.price FROM bid AS bids", "42P01", "missing FROM-clause entry for table \"bid\"", None, "\"bids\"");
    check("SELECT 1 FROM t WHERE EXISTS (SELECT 1 FROM bid WHERE auction = t.idd)", "42703", "idd", None, "");
    check("SELECT bid.pricee FROM TABLE(tumble(TABLE bid, DESCRIPTOR(date_time), INTERVAL '1' MINUTE))", "42703", "pricee", None, "");
    check("SELECT * FROM bids", "42P01", "relation \"bids\" does not exist", Some("bids"), "\"bid\"");
    check("SELECT * FROM no_such_thing_at_all", "42P01", "no_such_thing_at_all", Some("no_such"), "");
    check("SELECT uper(channel) FROM bid", "42883", "function uper(text) does not exist", Some("uper"), "\"upper\"");
    let unknown = "function foo(integer, unknown, numeric, timestamp without time zone, unknown) does not exist";
    check("SELECT 1 FROM t WHERE foo(1, 'a', amount, ts, NULL) > 0", "42883", unknown, Some("foo"), "explicit type casts");
    check("SELECT foo() FROM t", "42883", "function foo() does not exist", Some("foo"), "explicit type casts");
    check("SELECT foo(DISTINCT v) OVER (ORDER BY id) FROM t", "42883", "function foo(integer) does not exist", Some("foo"), "");
    check("SELECT (SELECT foo(o.v, a) FROM keyless) FROM t o", "42883", "function foo(integer, bigint) does not exist", Some("foo"), "");
    check("SELECT foo($1, name || 'x') FROM t", "42883", "function foo(unknown, text)", Some("foo"), "");
    check("CREATE MATERIALIZED VIEW m AS SELECT foo(channel) AS x FROM bid", "42883", "function foo(text) does not exist", Some("foo"), "");
    check("SELECT * FROM TABLE(tumbel(bid, date_time))", "42883", "function tumbel() does not exist", Some("tumbel"), "");
    check("SELECT id FROM t WHERE id = (SELECT max(x) FROM keyless)", "42703", "\"x\"", Some("x)"), "");
    check("SELECT a FROM keyless k, keyless l", "42702", "ambiguous", None, "");
    check("CREATE MATERIALIZED VIEW m AS SELECT zzz FROM bid", "42703", "zzz", Some("zzz"), "");
    check("SELECT 1;\n  SELECT pricee FROM bid", "42703", "pricee", Some("pricee"), "");
    check("INSERT INTO t (idd) VALUES (1)", "42703", "column \"idd\" of relation \"t\" does not exist", Some("idd"), "\"id\"");
    check("UPDATE t SET vv = 1", "42703", "vv", Some("vv"), "\"v\"");
    check("DROP TABLE nope.t", "3F000", "nope", Some("nope"), "public");
    check("DESCRIBE tt", "42P01", "tt", Some("tt"), "\"t\"");
}

#[test]
fn constants_that_no_row_could_be_worked_on_by() {
    let view = "CREATE MATERIALIZED VIEW m AS SELECT DATE_FORMAT(date_time, 'YYYYww') AS x FROM bid";
    check(view, "22023", "means another thing in every locale", Some("'YYYYww'"), "yyyy");
    check("SELECT TO_DATE(channel, 'bb') FROM bid", "22023", "unknown field \"bb\"", Some("'bb') FROM"), "yyyy-MM-dd");
    let too_large = "value \"99999999999\" is out of range for type integer";
    check("SELECT price, '99999999999'::int FROM bid", "22003", too_large, Some("'99999999999'"), "");
    check("CREATE MATERIALIZED VIEW m AS SELECT DATE '2023-02-29' AS d FROM bid", "22008", "out of range", Some("'2023-02-29'"), "");
    let view = |condition: &str| format!("CREATE MATERIALIZED VIEW m AS SELECT price FROM bid WHERE {condition}");
    check(&view("date_time = 'abc'"), "22007", "type timestamp", None, "");
    check(&view("date_time > '2024-02-30'"), "22008", "out of range", None, "");
    check(&view("date_time IN ('2024-01-01', 'abc')"), "22007", "type timestamp", None, "");
    check(&view("CAST(date_time AS DATE) = 'abc'"), "22007", "type date", None, "");
    check(&view("price = 1 / 0"), "22012", "division by zero", None, "");
    check(&view("price > 1 AND NULLIF(price, 1) < 5 % 0"), "22012", "division by zero", None, "");
    check("SELECT CASE WHEN price > 1 THEN CAST('{' AS JSONB) END FROM bid", "22P02", "type json", Some("'{'"), "");
    check("SELECT channel FROM bid WHERE channel ~ '(?=x)'", "2201B", "look-ahead", Some("'(?=x)'"), "");
    check("SELECT JSON_VALUE(channel, '$.a[') FROM bid", "22023", "JSON path", Some("'$.a['"), "[index]");
    check("SELECT date_trunc('dow', date_time) FROM bid", "22023", "unit \"dow\" not recognized", Some("'dow'"), "");
    check("SELECT EXTRACT(fortnight FROM date_time) FROM bid", "22023", "unit \"fortnight\" not recognized", Some("fortnight"), "");
    check("SELECT to_char(date_time, 'bb') FROM bid", "22023", "unknown field \"b\"", Some("'bb'"), "YYYY");
    check("SELECT TIMESTAMPADD(FORTNIGHT, 1, date_time) FROM bid", "22023", "FORTNIGHT", Some("FORTNIGHT"), "");
    check("SELECT date_time AT TIME ZONE 'Nowhere' FROM bid", "22023", "not recognized", Some("'Nowhere'"), "");
    let source = "CREATE SOURCE s (a TEXT, at AS TO_TIMESTAMP(a, 'yyyy-bb')) WITH (connector = 'datagen')";
    check(source, "22023", "unknown field \"bb\"", Some("'yyyy-bb'"), "yyyy-MM-dd");
}

#[test]
fn syntax() {
    check("SELEC 1", "42601", "syntax error at or near \"SELEC\"", Some("SELEC"), "\"select\"");
    check("SELECT 1 +", "42601", "syntax error at end of input", Some(""), "");
    check("SELECT * FROM t WHERE ; SELECT 2", "42601", "syntax error at end of input", Some(" ; SELECT 2"), "");
    assert_eq!(TestCatalog::new().error("SELECT *\n FROM").position, Some(15));
    check("SELECT 'abc", "42601", "unterminated", None, "");
    check("CREATE TABLE x (a INT,, b INT)", "42601", "syntax error at or near \",\"", Some(", b"), "");
    check("CREATE SOURCE s (a INT) WITH (connector = )", "42601", "syntax error at or near \")\"", Some(")"), "");
    check("SELECT 1 SELECT 2", "42601", "syntax error", None, "");
    check("CREATE MATERIALIZED VIEW m AS SELECT 1 EMIT ON", "42601", "syntax error", None, "");
}

#[test]
fn statements_without_end() {
    for name in ["a".repeat(1_025), format!("\"{}\"", "é".repeat(513))] {
        check(&format!("SELECT v FROM {name}"), "42622", "name is too long", Some(name.as_str()), "");
        check(&format!("SELECT {name}(v) FROM t"), "42622", "name is too long", Some(name.as_str()), "");
    }
    check(&format!("SELECT {} FROM t", "a".repeat(1_024)), "42703", "does not exist", Some("aaa"), "");
    let deep = TestCatalog::new().error(&format!("SELECT 'é', {}", "(".repeat(20_000)));
    assert_eq!((deep.state.0, deep.position), ("54001", Some("SELECT 'e', ".len() + 10_001)));
}

#[test]
fn indexes() {
    check("CREATE UNIQUE INDEX i ON t (v)", "0A000", "unique indexes are not supported", Some("UNIQUE"), "PRIMARY KEY");
    check("CREATE INDEX i ON tt (v)", "42P01", "relation \"tt\" does not exist", Some("tt"), "\"t\"");
    check("CREATE INDEX i ON totals (totl)", "42703", "\"totl\" of relation \"totals\" does not exist", Some("totl"), "\"total\"");
    check("CREATE INDEX i ON t (v) INCLUDE (nam)", "42703", "\"nam\"", Some("nam"), "\"name\"");
    check("CREATE INDEX i ON t (v, v)", "42701", "\"v\" specified more than once", Some("v)"), "");
    check("CREATE INDEX i ON cheap (price)", "42809", "cannot create index on relation \"cheap\"", None, "index what it reads");
    check("CREATE INDEX i ON bid (price)", "42809", "cannot create index on relation \"bid\"", None, "materialized view");
    check("CREATE INDEX i ON t ((v + 1))", "0A000", "over an expression", Some("(v"), "materialized view");
    check("CREATE INDEX i ON t (lower(name))", "0A000", "over an expression", Some("lower"), "materialized view");
    check("CREATE INDEX i ON t (v + 1)", "0A000", "over an expression", Some("+"), "materialized view");
    check("CREATE INDEX i ON t (v DESC)", "0A000", "DESC is not supported in an index", Some("DESC"), "no order");
    check("CREATE INDEX i ON t (name COLLATE \"C\")", "0A000", "COLLATE is not supported in an index", Some("COLLATE"), "no order");
    check("CREATE INDEX i ON t (v) WHERE v > 1", "0A000", "part of the rows", Some("WHERE"), "condition");
    check("CREATE INDEX i ON t (v) WITH (fillfactor = 70)", "0A000", "WITH is not supported", Some("WITH"), "leave it out");
    check("CREATE INDEX i ON t USING gin (name)", "0A000", "access method \"gin\"", Some("gin"), "USING hash");
    check("CREATE INDEX i ON t", "42601", "syntax error at end of input", None, "");
    check("CREATE INDEX i ON t (v", "42601", "syntax error at end of input", None, "");
    check("CREATE INDEX i ON other.t (v)", "42P01", "other.t", Some("other"), "");
    check("CREATE TEMPORARY INDEX i ON t (v)", "0A000", "only tables and views can be temporary", None, "");
}

#[test]
fn types_and_options() {
    check("CREATE TABLE x (a bignt)", "42704", "type \"bignt\" does not exist", Some("bignt"), "\"bigint\"");
    check("CREATE TABLE x (a inet)", "42704", "inet", Some("inet"), "text");
    check("CREATE TABLE x (id TEXT GENERATED ALWAYS AS IDENTITY)", "22023", "identity column type must be", Some("id TEXT"), "");
    check("CREATE TABLE x (id INT GENERATED ALWAYS AS IDENTITY (INCREMENT BY 2))", "0A000", "this option", Some("INCREMENT"), "by one");
    check("CREATE TABLE x (id SERIAL, n BIGSERIAL)", "0A000", "a second column that numbers", Some("n BIGSERIAL"), "");
    check(
        "CREATE SOURCE s (id SERIAL) WITH (connector = 'datagen')",
        "0A000",
        "a column of a source cannot number its rows",
        Some("id SERIAL"),
        "",
    );
    check("CREATE SEQUENCE s START WITH 3", "0A000", "CREATE SEQUENCE", Some("SEQUENCE"), "bigint");
    check("CREATE TABLE x (a numeric(50,2))", "22023", "precision 50", None, "");
    check("SELECT CAST(id AS bignt) FROM t", "42704", "bignt", None, "\"bigint\"");
    check("CREATE SOURCE s (a INT) WITH (connector = 'kafak')", "42704", "kafak", None, "kafka");
    check("CREATE SOURCE s (a INT) WITH (topic = 'x')", "22023", "connector", None, "connector");
    let error =
        TestCatalog::new().error("CREATE SOURCE s (a INT) WITH (connector = 'kafka', topik = 'x', properties.bootstrap.servers = 'b:1')");
    assert!(error.to_string().contains("topic"), "{error}");
    assert!(TestCatalog::new().plan("CREATE TABLE x (a INT) WITH (compaction = 'x')").is_err());
}

#[test]
fn definitions() {
    check("CREATE TABLE x (a INT, a TEXT)", "42701", "\"a\" specified more than once", None, "");
    check("CREATE TABLE x (a INT, PRIMARY KEY (b))", "42703", "\"b\" named in key", Some("b)"), "");
    check("CREATE TABLE x (a INT PRIMARY KEY, PRIMARY KEY (a))", "42P16", "multiple primary keys", None, "");
    check("CREATE TABLE x (a INT PRIMARY KEY) APPEND ONLY", "42P16", "append-only", None, "APPEND ONLY");
    check("CREATE TABLE x (a INT UNIQUE)", "0A000", "UNIQUE", Some("UNIQUE"), "PRIMARY KEY");
    check("CREATE TABLE x (a INT, WATERMARK FOR a AS a)", "42804", "must be a timestamp, not integer", Some("a AS"), "");
    check("CREATE TABLE x (ts TIMESTAMP, WATERMARK FOR tz AS ts)", "42703", "\"tz\"", Some("tz"), "\"ts\"");
    check("CREATE TABLE x (ts TIMESTAMP, WATERMARK FOR ts AS 5)", "42804", "watermark must be a timestamp", None, "INTERVAL");
    check("CREATE TABLE x ()", "42P16", "at least one column", None, "");
    check("CREATE VIEW v AS SELECT 1 AS a, 2 AS a", "42701", "\"a\" specified more than once", None, "AS");
    check("CREATE VIEW v (x, y) AS SELECT 1", "42601", "more column names than columns", None, "");
    check("CREATE SINK s FROM t WITH (connector = 'kafka')", "22023", "needs the option \"topic\"", None, "");
    check("CREATE SINK s FROM nowhere WITH (connector = 'blackhole')", "42P01", "\"nowhere\"", None, "");
    check("CREATE SINK s WITH (connector = 'blackhole')", "42601", "syntax error", None, "");
    check(
        "CREATE SINK s FROM bid WITH (connector = 'kafka', topic = 't', format = 'upsert-json', properties.bootstrap.server = 'b')",
        "42P16",
        "needs a key",
        None,
        "GROUP BY",
    );
    check(
        "CREATE SINK s FROM t WITH (connector = 'filesystem', path = '/x', format = 'json')",
        "0A000",
        "takes new rows only",
        None,
        "UPSERT",
    );
    check("CREATE FUNCTION f AS 'x'", "0A000", "other languages", None, "LANGUAGE SQL");
    check("CREATE OR REPLACE SOURCE s (a INT) WITH (connector = 'nexmark')", "0A000", "OR REPLACE", None, "DROP");
    check("CREATE OR REPLACE MATERIALIZED VIEW t AS SELECT 1 AS a", "42809", "is not a materialized view", None, "");
    check("CREATE OR REPLACE VIEW cheap AS SELECT auction FROM bid", "42P16", "cannot drop columns", None, "DROP");
    check("CREATE OR REPLACE VIEW cheap AS SELECT auction, price AS p FROM bid", "42P16", "cannot change name", None, "DROP");
    check("CREATE OR REPLACE VIEW cheap AS SELECT auction, channel AS price FROM bid", "42P16", "cannot change data type", None, "DROP");
    check("CREATE OR REPLACE VIEW t AS SELECT 1 AS a", "42809", "is not a view", None, "");
    check("ALTER TABLE t DROP COLUMN v", "0A000", "ALTER is supported for", None, "CREATE it anew");
    check("ALTER TABLE t ADD COLUMN x INT, ADD v INT", "42701", "\"v\" of relation \"t\" already exists", Some("v INT"), "");
    check("ALTER TABLE t ADD COLUMN x INT PRIMARY KEY", "0A000", "a primary key is not added", Some("PRIMARY"), "CREATE TABLE");
    check("ALTER TABLE t ADD CONSTRAINT c UNIQUE (v)", "0A000", "adds columns", Some("ADD"), "CREATE TABLE");
    check("ALTER TABLE t ADD COLUMN x AS v + 1", "0A000", "only plain columns", None, "in a view");
    check("ALTER TABLE bid ADD COLUMN x INT", "0A000", "tables with a connector", None, "anew");
    check("ALTER TABLE log ADD COLUMN x INT", "0A000", "tables with a watermark", None, "anew");
    check("ALTER TABLE cheap ADD COLUMN x INT", "42809", "\"cheap\" is not a table", None, "");
    check("ALTER TABLE log ADVANCE WATERMARK TO TIMESTAMP '2024-01-01 00:00:00'", "42809", "advances by itself", None, "manual");
    check("TRUNCATE t, cheap", "42809", "cannot truncate \"cheap\": it is a view", Some("cheap"), "");
    check("TRUNCATE TABLE bid", "42809", "it is a source", Some("bid"), "");
    check("CREATE TABLE x (a, b) AS SELECT 1", "42601", "too many column names", Some("b)"), "");
    check("CREATE TABLE x (a INT) AS SELECT 1", "0A000", "definitions of columns", Some("(a"), "names alone");
    check("CREATE TEMP TABLE x (a INT) ON COMMIT DROP", "0A000", "ON COMMIT DROP", None, "until it is dropped");
}

#[test]
fn windows() {
    let window = |from: &str, rest: &str| {
        format!("CREATE MATERIALIZED VIEW m AS SELECT window_end, count(*) AS n FROM {from} GROUP BY window_end {rest}")
    };
    check(&window("tumble(raw, date_time, INTERVAL '1 minute')", ""), "42P16", "needs a watermark", None, "WATERMARK FOR date_time");
    check(&window("tumble(t, ts, INTERVAL '1 minute')", "EMIT ON WINDOW CLOSE"), "42P16", "needs a watermark", None, "watermark");
    check(&window("tumble(bid, price, INTERVAL '1 minute')", ""), "42804", "must be a timestamp, not bigint", Some("price"), "");
    check(&window("tumble(bid, date_tim, INTERVAL '1 minute')", ""), "42703", "date_tim", Some("date_tim"), "\"date_time\"");
    check(&window("tumble(bid, date_time, INTERVAL '1 month')", ""), "0A000", "months", None, "days");
    check(&window("tumble(bid, date_time, INTERVAL '0 seconds')", ""), "22023", "positive", None, "");
    check(&window("tumble(bid, date_time)", ""), "42883", "size", None, "TUMBLE(");
    check(
        &window("cumulate(bid, date_time, INTERVAL '7 minutes', INTERVAL '1 hour')", ""),
        "22023",
        "multiple of its step",
        None,
        "divides",
    );
    check(&window("cumulate(bid, date_time, INTERVAL '1 hour')", ""), "42883", "size", None, "CUMULATE(");
    check(&window("TABLE(SESSION(TABLE bid, DESCRIPTOR(date_time)))", ""), "42883", "gap", None, "SESSION(");
    check(&window("TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '1 hour', 7))", ""), "22023", "interval", None, "INTERVAL");
    check(
        "CREATE MATERIALIZED VIEW m AS SELECT bidder, count(*) AS n FROM bid GROUP BY bidder EMIT ON WINDOW CLOSE",
        "42P16",
        "EMIT ON WINDOW CLOSE needs an aggregate over a window",
        None,
        "window_start",
    );
    check(
        "CREATE MATERIALIZED VIEW m AS SELECT bidder, count(*) AS n FROM bid GROUP BY SESSION(date_time, INTERVAL '1' MINUTE), ROLLUP (bidder)",
        "0A000",
        "SESSION",
        None,
        "PARTITION BY",
    );
}

#[test]
fn what_a_view_cannot_hold_yet() {
    for (query, what) in [
        ("SELECT id, sum(v) OVER (ORDER BY v GROUPS 1 PRECEDING) AS n FROM t", "GROUPS"),
        ("SELECT id, sum(v) OVER (ORDER BY amount RANGE 1 PRECEDING) AS n FROM t", "RANGE"),
        ("SELECT id, sum(v) OVER (ORDER BY ts RANGE INTERVAL '1 month' PRECEDING) AS n FROM t", "RANGE"),
        ("SELECT id, rank() IGNORE NULLS OVER (ORDER BY v) AS n FROM t", "IGNORE NULLS of rank()"),
        ("SELECT id, lag(DISTINCT v) OVER (ORDER BY v) AS n FROM t", "DISTINCT"),
        ("SELECT id, array_agg(DISTINCT v) OVER (ORDER BY id) AS n FROM t", "DISTINCT in array_agg()"),
        ("SELECT id, median(v) OVER (ORDER BY id) AS n FROM t", "percentile_cont() OVER a window"),
        ("SELECT corr(v, v) AS s FROM t", "corr"),
        ("SELECT string_agg(name, name) AS s FROM t", "string_agg"),
        ("SELECT t.id FROM t JOIN keyless k ON k.a > t.id", "a join without an equality"),
        ("SELECT t.id FROM t CROSS JOIN keyless k", "a join without an equality"),
        ("SELECT id FROM t WHERE EXISTS (SELECT 1 FROM keyless WHERE a > id)", "a join without an equality"),
        ("SELECT id FROM t WHERE v > (SELECT a FROM keyless WHERE a < t.v)", "a join without an equality"),
        ("SELECT t.id FROM t JOIN (SELECT a FROM keyless LIMIT 1001) k ON k.a > t.id", "a join without an equality"),
        ("SELECT a.id FROM t a JOIN t b ON a.v > b.v AND b.id > 1", "a join without an equality"),
        ("SELECT t.id, x.a FROM t, LATERAL (SELECT a FROM keyless WHERE a > t.v ORDER BY a LIMIT 1) AS x", "a join without an equality"),
        ("SELECT t.id, x.a FROM t, LATERAL (SELECT a FROM keyless WHERE a < t.v) AS x", "a join without an equality"),
        ("SELECT t.id, x.n FROM t, LATERAL (SELECT COUNT(*) AS n FROM keyless WHERE a < t.v) AS x", "a join without an equality"),
        (
            "SELECT t.id, x.a FROM t, LATERAL (SELECT k.a FROM keyless k JOIN t u ON k.a = u.id AND u.v < t.v) AS x",
            "a join without an equality",
        ),
        ("SELECT id FROM t WHERE v NOT IN (SELECT a FROM keyless WHERE a > id)", "a join without an equality"),
        ("SELECT id, (SELECT a FROM keyless WHERE a > id ORDER BY a LIMIT 1) AS a FROM t", "a join without an equality"),
        ("SELECT t.id FROM t LEFT JOIN keyless k ON k.a = t.id AND t.ts > now()", "current time"),
        ("SELECT id FROM t WHERE ts > now() - INTERVAL '1 hour' OR v = 1", "this condition on the current time"),
        ("SELECT id FROM t WHERE ts > now() - INTERVAL '1 month'", "this condition on the current time"),
        ("SELECT id, now() AS n FROM t", "current time over rows that may change"),
        ("SELECT id, random() AS r FROM t", "random"),
        ("SELECT auction FROM bid FOR SYSTEM_TIME AS OF date_time", "FOR SYSTEM_TIME"),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
            "WITH RECURSIVE is not supported in a materialized view",
        ),
    ] {
        let error = TestCatalog::new().error(&format!("CREATE MATERIALIZED VIEW m AS {query}"));
        assert_eq!(error.state.0, "0A000", "{query}: {error}");
        assert!(error.message.contains(what), "{query}: {error}");
    }
}

#[test]
fn writes() {
    check("INSERT INTO bid VALUES (1)", "42809", "can only be read", None, "");
    check("INSERT INTO t VALUES (1) EMIT CHANGES", "42601", "EMIT", None, "once");
    check("INSERT INTO totals VALUES (1)", "42809", "it is a materialized view", None, "");
    check("UPDATE log SET v = 1", "42809", "append-only", None, "");
    check("INSERT INTO keyless VALUES (1, 'a', 2)", "42601", "more expressions than target columns", Some("2)"), "");
    check("INSERT INTO keyless (a, b) VALUES (1)", "42601", "more target columns than expressions", None, "");
    check("INSERT INTO keyless VALUES (1), (1, 'a')", "42601", "VALUES lists must all be the same length", None, "");
    check("COPY t FROM '/tmp/t.csv' WITH (FORMAT csv)", "0A000", "files and programs of the server", Some("'/tmp"), "STDIN");
    check("COPY (SELECT 1) TO PROGRAM 'cat'", "0A000", "files and programs of the server", Some("PROGRAM"), "STDOUT");
    check("DECLARE c CURSOR FOR INSERT INTO keyless VALUES (1, 'a')", "0A000", "in the place of a query", None, "of its own");
    let no_integer = "invalid input syntax for type integer: \"x\"";
    check("INSERT INTO t (id, v) VALUES (1, 2), (3, 'x')", "22P02", no_integer, Some("'x')"), "");
    check("INSERT INTO t (id, ts) VALUES\n  (1,\n  '2024-13-01')", "22008", "out of range: \"2024-13-01\"", Some("'2024-13-01'"), "");
    check("INSERT INTO t (id, amount) VALUES (1, ('123456789.1'))", "22003", "numeric field overflow", Some("'123456789.1'"), "");
    check("INSERT INTO t (id, v) SELECT a, 'x' FROM keyless", "22P02", no_integer, Some("'x' FROM"), "");
    check("UPDATE t SET name = 'y', v = 'x'", "22P02", no_integer, Some("'x'"), "");
    check("INSERT INTO keyless (a, a) VALUES (1, 1)", "42701", "\"a\" specified more than once", None, "");
    check("INSERT INTO keyless SELECT auction, url, 1, 2 FROM bid", "42601", "more expressions than target columns", None, "");
    check("INSERT INTO keyless SELECT COUNT(*), MAX(url) FROM bid", "0A000", "takes new rows only", None, "PRIMARY KEY");
    check("INSERT INTO t (id) VALUES (1) ON CONFLICT (v) DO NOTHING", "42P10", "no unique constraint", None, "primary key");
    check("UPDATE t SET v = 1 FROM keyless RETURNING *", "0A000", "RETURNING *", None, "Name the columns");
    let written = "column \"v\" is of type integer but expression is of type text";
    check("INSERT INTO t (id, v) SELECT 1, b FROM keyless", "42804", written, Some("b FROM"), "rewrite or cast");
    check("INSERT INTO t (v) SELECT b || 'x' AS v FROM keyless", "42804", written, Some("b ||"), "rewrite or cast");
    check("INSERT INTO t (id, v) VALUES (1, 2), (2, upper('x'))", "42804", written, Some("upper"), "rewrite or cast");
    check("INSERT INTO t (id, v) VALUES (1, '2'::text)", "42804", written, None, "rewrite or cast");
    check("INSERT INTO log SELECT date_time, channel FROM bid", "42804", "of type text", Some("channel"), "");
    check(
        "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET v = excluded.name",
        "42804",
        written,
        Some("excluded.name"),
        "",
    );
    check("UPDATE t SET name = 'x', v = name WHERE id = 1", "42804", written, Some("name WHERE"), "rewrite or cast");
    check("UPDATE t SET ts = 5", "42804", "timestamp without time zone but expression is of type integer", Some("5"), "");
    check("UPDATE t SET amount = true", "42804", "of type numeric but expression is of type boolean", Some("true"), "");
    check("CREATE SINK s INTO keyless AS SELECT channel, url FROM bid", "42804", "column \"a\" is of type bigint", Some("channel"), "");
    check("CREATE SINK s INTO log FROM keyless", "42804", "column \"ts\" is of type timestamp", None, "rewrite or cast");
    check("CREATE SINK s INTO log FROM t", "42601", "more expressions", None, "");
    check("CREATE TABLE x (a INT DEFAULT now())", "42804", "but default expression is of type timestamp", None, "");
    check("DELETE FROM t USING log WHERE v = log.v", "42702", "ambiguous", Some("v ="), "");
}

#[test]
fn functions_and_types_of_operands() {
    check("SELECT name FROM t GROUP BY v", "42803", "", None, "");
    let error = TestCatalog::new().error("CREATE MATERIALIZED VIEW m AS SELECT id + make_array(1) AS x FROM t");
    assert!(["42883", "42804"].contains(&error.state.0), "{error}");
    let error = TestCatalog::new().error("CREATE MATERIALIZED VIEW m AS SELECT substr(1, 2, 3, 4, 5) AS x FROM t");
    assert_eq!(error.state.0, "42883", "{error}");
}

#[test]
fn types_that_do_not_go_together() {
    let missing = |operands: &str| ("42883", format!("operator does not exist: {operands}"));
    let unmatched = |what: &str| ("42804", format!("{what} cannot be matched"));
    for (expression, (state, message)) in [
        ("v BETWEEN name AND '5'", missing("integer >= text")),
        ("v BETWEEN 1 AND name", missing("integer <= text")),
        ("v NOT BETWEEN name AND 5", missing("integer < text")),
        ("name BETWEEN 1 AND 5", missing("text >= integer")),
        ("v IN (1, name)", missing("integer = text")),
        ("name NOT IN (v)", missing("text <> integer")),
        ("ts IN (v)", missing("timestamp without time zone = integer")),
        ("name IN (SELECT a FROM keyless)", missing("text = bigint")),
        ("v NOT IN (SELECT b FROM keyless)", missing("integer <> text")),
        ("v > ALL (SELECT b FROM keyless)", missing("integer > text")),
        ("v IS DISTINCT FROM name", missing("integer = text")),
        ("CASE v WHEN name THEN TRUE END", missing("integer = text")),
        ("NULLIF(v, name) IS NULL", missing("integer = text")),
        ("CASE WHEN v > 1 THEN name ELSE v END IS NULL", unmatched("CASE types integer and text")),
        (
            "CASE WHEN v > 1 THEN ts WHEN v > 2 THEN amount END IS NULL",
            unmatched("CASE types timestamp without time zone and numeric(10,2)"),
        ),
        ("COALESCE(v, name) IS NULL", unmatched("COALESCE types integer and text")),
        ("COALESCE(v, ts) IS NULL", unmatched("COALESCE types integer and timestamp without time zone")),
        ("GREATEST(v, name) IS NULL", unmatched("GREATEST types integer and text")),
        ("LEAST(name, amount) IS NULL", unmatched("LEAST types text and numeric(10,2)")),
    ] {
        for sql in [
            format!("SELECT id FROM t WHERE {expression}"),
            format!("SELECT id, ({expression}) AS x FROM t"),
            format!("SELECT count(*) FROM t GROUP BY id HAVING bool_or({expression})"),
            format!("CREATE MATERIALIZED VIEW m AS SELECT id FROM t WHERE {expression}"),
            format!("UPDATE t SET v = 1 WHERE {expression}"),
        ] {
            // As a value NOT IN is the opposite of IN.
            let is_value = expression.contains("NOT IN (SELECT") && !sql.contains(&format!("WHERE {expression}"));
            let message = if is_value { message.replace("<>", "=") } else { message.clone() };
            check(&sql, state, &message, None, "Cast one");
        }
    }
}

#[test]
fn literals_in_quotes_take_the_type_beside_them() {
    let mut catalog = TestCatalog::new();
    let view = "CREATE MATERIALIZED VIEW m AS SELECT CASE WHEN v > 1 THEN '7' ELSE v END AS a, COALESCE(ts, '2024-01-01') AS b, \
        COALESCE(amount, '0.125') AS c, LEAST(v, '3') AS d, COALESCE(amount, '1') AS e, COALESCE(name, 'x') AS f, \
        NULLIF(v, '1') AS g, CASE '1' WHEN v THEN 'one' END AS h \
        FROM t WHERE v BETWEEN '1' AND '5' AND v IN ('1', '2') AND '2024-01-01' < ts AND (v > 1) IN ('t', 'f')";
    let decimal = |precision, scale| SqlType::Decimal { precision, scale };
    let types = [
        SqlType::Integer,
        SqlType::Timestamp,
        decimal(38, 3),
        SqlType::Integer,
        decimal(10, 2),
        SqlType::Text,
        SqlType::Integer,
        SqlType::Text,
    ];
    let created = catalog.create(view).unwrap();
    assert_eq!(created.columns.iter().map(|c| c.ty.clone()).collect::<Vec<_>>(), types);
    // And a column of such a type is compared as one of it.
    let over = |from: &str| format!("SELECT x.a FROM (SELECT CASE WHEN v > 1 THEN {from} END AS a, name FROM t) AS x WHERE x.a = x.name");
    check(&over("'7' ELSE v"), "42883", "integer = text", None, "Cast one");
    check(&over("v ELSE '7'"), "42883", "integer = text", None, "Cast one");
    for wrong in ["v IN ('1', 'x')", "CASE WHEN TRUE THEN 'x' ELSE v END = 1", "COALESCE(v, 'x') = 1", "v BETWEEN 'a' AND 'b'"] {
        check(
            &format!("CREATE MATERIALIZED VIEW n AS SELECT id FROM t WHERE {wrong}"),
            "22P02",
            "invalid input syntax for type integer",
            None,
            "",
        );
    }
}

#[test]
fn hints_that_say_nothing() {
    let of = |hint: &str| format!("SELECT\n  /*+ {hint} */ id FROM t");
    check(&of("STATE_TTL('t'='1h"), "42601", "a hint cannot be read", Some("/*+"), "quote");
    check(&of("OPTIONS('a'='b"), "42601", "a hint cannot be read", Some("/*+"), "quote");
    check(&of("STATE_TTL('t'='1h'"), "42601", "STATE_TTL lacks its closing parenthesis", Some("/*+"), "closed");
    check(&of("OPTIONS('a'='b'"), "42601", "OPTIONS lacks its closing parenthesis", Some("/*+"), "closed");
    check(&of("STATE_TTL"), "42601", "malformed", Some("/*+"), "STATE_TTL(");
    check(&of("STATE_TTL()"), "42601", "malformed", Some("/*+"), "STATE_TTL(");
    check(&of("STATE_TTL('t'='1h')) BROADCAST(t)"), "42601", "not with \")\"", Some("/*+"), "closed");
    check(&of("STATE_TLL('t'='1h')"), "42601", "there is no hint STATE_TLL", Some("/*+"), "\"STATE_TTL\"");
    check(&of("SeqScan(t)"), "42601", "there is no hint SEQSCAN", Some("/*+"), "the plus sign");
    check(&of("BROADCAST(t), LOOKUP('table'='t')"), "0A000", "LOOKUP", Some("/*+"), "CREATE");
    check("SELECT /*+ BROADCAST(t)", "42601", "", None, "");
    let explained = |query: &str| TestCatalog::new().explain(&format!("EXPLAIN {query}"));
    for fine in ["BROADCAST(t), SHUFFLE_HASH(t)", "shuffle_merge(t) nest_loop(t)", ""] {
        assert_eq!(explained(&of(fine)), explained("SELECT id FROM t"), "{fine}");
    }
    let no_hints = explained("SELECT 'a /*+ X */' AS a, /* + X( */ id -- /*+ X(\n FROM t");
    assert!(no_hints.iter().any(|line| line.contains("\"a /*+ X */\"")), "{no_hints:#?}");
}

#[test]
fn options_of_a_source_for_one_reading() {
    let of = |options: &str| format!("SELECT b.auction FROM bid /*+ OPTIONS({options}) */ AS b WHERE price > 1");
    check(&of("'nexmark.event.nun' = '5'"), "42704", "nexmark.event.nun", Some("/*+"), "nexmark.event.num");
    check(&of("'nexmark.event.num' = 'five'"), "22023", "nexmark.event.num", Some("/*+"), "");
    check(&of("'connector' = 'kafka'"), "0A000", "\"connector\"", Some("/*+"), "create another");
    check(&of("'watermark.mode' = 'manual'"), "0A000", "watermark.mode", Some("/*+"), "read once");
    check(&of("nexmark.event.num = 5"), "42601", "malformed", Some("/*+"), "single quotes");
    check(&of(""), "42601", "malformed", Some("/*+"), "OPTIONS(");
    check(&of("'seed' = '5', 'seed' = '6'"), "42601", "twice", Some("/*+"), "");
    let hint = "/*+ OPTIONS('nexmark.event.num' = '5') */";
    for of_others in
        ["CREATE VIEW v AS SELECT auction FROM bid", "EXECUTE STATEMENT SET BEGIN INSERT INTO keyless (a) SELECT auction FROM bid"]
    {
        check(&format!("{of_others} {hint}"), "0A000", "belongs to a query", Some("/*+"), "create another source");
    }
    let view = |options: &str| format!("CREATE MATERIALIZED VIEW m AS SELECT b.auction FROM bid /*+ OPTIONS({options}) */ AS b");
    check(&view("'scan.watermark.idle-timeout' = '5 s'"), "0A000", "idle-timeout", Some("/*+"), "of the watermark");
    check(&view("'nexmark.event.nun' = '5'"), "42704", "nexmark.event.nun", Some("/*+"), "nexmark.event.num");
    check(&format!("CREATE MATERIALIZED VIEW m AS SELECT auction FROM totals {hint}"), "0A000", "is for sources", Some("/*+"), "");
    check(&format!("CREATE MATERIALIZED VIEW m AS SELECT id FROM t WHERE id = 1 {hint}"), "42601", "not behind", Some("/*+"), "");
    for kept in ["cheap", "t", "totals"] {
        check(&format!("SELECT * FROM {kept} {hint}"), "0A000", "is for sources", Some("/*+"), "");
    }
    for elsewhere in ["SELECT auction FROM bid AS b", "SELECT 1", "SELECT auction FROM bid WHERE auction = 1"] {
        check(&format!("{elsewhere} {hint}"), "42601", "not behind the name of a source", Some("/*+"), "before its alias");
    }
    check(&format!("SELECT {hint} auction FROM bid"), "42601", "not behind the name of a source", Some("/*+"), "");
    check(&format!("WITH bid AS (SELECT 1 AS a) SELECT a FROM bid {hint}"), "0A000", "common table expression", Some("/*+"), "");
    check(&format!("SELECT a FROM nowhere {hint}"), "42P01", "nowhere", None, "");
    const HINTED: &str = "bid nexmark.event.num=5";
    let other = "/*+ OPTIONS('nexmark.split.num'='2', 'nexmark.rate' = '3') */";
    for (sql, scanned) in [
        (
            format!("SELECT x.auction, y.price FROM bid {hint} AS x JOIN public.bid {other} y ON x.auction = y.auction"),
            vec![HINTED, "bid nexmark.rate=3 nexmark.split.num=2"],
        ),
        (
            format!(
                "SELECT bid.auction, public.bid.price FROM bid {hint} WHERE EXISTS (SELECT 1 FROM raw {hint} WHERE raw.auction = bid.auction)"
            ),
            vec![HINTED, "raw nexmark.event.num=5"],
        ),
        (format!("SELECT window_start FROM TABLE(TUMBLE(TABLE bid {hint}, DESCRIPTOR(date_time), INTERVAL '1' HOUR))"), vec![HINTED]),
        (format!("SELECT COUNT(*) FROM bid {hint} GROUP BY TUMBLE(date_time, INTERVAL '1' HOUR)"), vec![HINTED]),
        (
            format!("WITH b AS (SELECT auction FROM bid {hint}) SELECT * FROM b UNION ALL SELECT auction FROM raw {other}; SELECT 1"),
            vec![HINTED, "raw nexmark.rate=3 nexmark.split.num=2"],
        ),
        (format!("EXPLAIN SELECT auction FROM bid {hint}"), vec![HINTED]),
        (format!("COPY (SELECT auction FROM bid {hint}) TO STDOUT"), vec![HINTED]),
        (format!("DECLARE c CURSOR FOR SELECT auction FROM bid {hint}"), vec![HINTED]),
        ("SELECT auction FROM bid".to_string(), vec![]),
        // What goes on has a source of its own instead.
        (format!("CREATE MATERIALIZED VIEW m AS SELECT a.auction FROM bid {hint} AS a JOIN bid AS b ON a.auction = b.auction"), vec![]),
        (format!("INSERT INTO keyless (a) SELECT auction FROM bid {hint}"), vec![]),
        (format!("EXPLAIN (STREAMING) SELECT auction FROM bid {hint}"), vec![]),
        (format!("EXPLAIN CREATE MATERIALIZED VIEW m AS SELECT auction FROM bid {hint}"), vec![]),
    ] {
        let catalog = TestCatalog::new();
        for parsed in parse(&sql).unwrap() {
            let planned = eddyline_planner::plan(&parsed, &catalog, &Default::default(), &mut eddyline_planner::StateTableIds(1), &[]);
            planned.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        let found: Vec<String> = catalog.overridden.into_inner().unwrap().into_iter().collect();
        assert_eq!(found, scanned, "{sql}");
    }
}

#[test]
fn the_watermark_that_a_row_came_under() {
    let view = |query: &str| format!("CREATE MATERIALIZED VIEW m AS {query}");
    for other_use in [
        "SELECT CURRENT_WATERMARK(date_time) FROM bid",
        "SELECT auction FROM bid WHERE date_time > CURRENT_WATERMARK(date_time)",
        "SELECT auction FROM bid WHERE date_time < CURRENT_WATERMARK(date_time)",
        "SELECT auction FROM bid WHERE price > 1 OR CURRENT_WATERMARK(date_time) IS NULL OR date_time > CURRENT_WATERMARK(date_time)",
        "SELECT l.ts FROM log AS l, manual AS m WHERE l.ts <= CURRENT_WATERMARK(m.ts)",
    ] {
        for sql in [other_use.to_string(), view(other_use)] {
            check(
                &sql,
                "0A000",
                "only where it tells which rows came behind it",
                Some("CURRENT_WATERMARK"),
                "CURRENT_WATERMARK(ts) IS NULL OR",
            );
        }
    }
    for elsewhere in [
        "SELECT v FROM t WHERE ts <= CURRENT_WATERMARK(ts)",
        "SELECT auction FROM raw WHERE date_time <= CURRENT_WATERMARK(date_time)",
        "SELECT x FROM (SELECT date_time + INTERVAL '1 second' AS x FROM bid) AS b WHERE x <= CURRENT_WATERMARK(x)",
        "SELECT channel, COUNT(*) FILTER (WHERE date_time <= CURRENT_WATERMARK(date_time)) AS n FROM bid GROUP BY channel",
        "SELECT a.v FROM log AS a JOIN manual AS b ON a.ts = b.ts WHERE a.ts <= CURRENT_WATERMARK(a.ts)",
        "SELECT date_time FROM (SELECT date_time, COUNT(*) AS n FROM bid GROUP BY date_time) AS b WHERE date_time <= CURRENT_WATERMARK(date_time)",
        "SELECT auction FROM bid WHERE date_time <= CURRENT_WATERMARK(date_time) AND auction IN (SELECT a FROM keyless)",
    ] {
        check(&view(elsewhere), "0A000", "right where it is read", None, "in a subquery");
    }
    let computed = "CREATE TABLE x (ts TIMESTAMP, late AS ts <= CURRENT_WATERMARK(ts), WATERMARK FOR ts AS ts) APPEND ONLY";
    check(computed, "0A000", "in a column's definition", None, "query");
    let catalog = TestCatalog::new();
    for fine in [
        "SELECT auction FROM bid WHERE CURRENT_WATERMARK(date_time) IS NULL OR date_time > CURRENT_WATERMARK(date_time)",
        "SELECT auction FROM bid WHERE price > 1 AND ((CURRENT_WATERMARK(date_time) < date_time) OR CURRENT_WATERMARK(date_time) IS NULL)",
        "SELECT b.auction, b.at <= current_watermark(b.at) AS behind FROM (SELECT auction, date_time AS at FROM bid) AS b",
        "SELECT COUNT(*) AS n FROM (SELECT * FROM log WHERE CURRENT_WATERMARK(ts) IS NOT NULL AND ts <= CURRENT_WATERMARK(ts)) AS l",
        "SELECT a.v FROM (SELECT * FROM log WHERE ts <= CURRENT_WATERMARK(ts)) AS a JOIN manual AS b ON a.ts = b.ts",
    ] {
        assert!(catalog.plan(fine).is_ok(), "{fine}");
        let lines = catalog.explain(&format!("EXPLAIN {}", view(fine)));
        let streaming = lines.iter().position(|line| line == "Streaming plan:").unwrap();
        let asked = lines[streaming..].iter().filter(|line| line.contains("eddyline_behind_watermark(")).count();
        assert_eq!(asked, 1, "{fine}: {lines:#?}");
    }
}

#[test]
fn deep_nesting_is_an_error_not_a_crash() {
    let deep = |open: &str, middle: &str, close: &str, n: usize| format!("SELECT {}{middle}{}", open.repeat(n), close.repeat(n));
    for sql in [
        deep("(", "1", ")", 1_000),
        deep("NOT ", "true", "", 400),
        deep("NOT ", "true", "", 10_000),
        deep("- ", "1", "", 10_000),
        deep("1 + ", "1", "", 100_000),
        deep("1 + ", "1", "", 401),
        deep("'a' || ", "'b'", "", 500),
        deep("CASE WHEN true THEN ", "1", " END", 5_000),
        deep("(SELECT ", "1", ")", 1_000),
        deep("abs(", "1", ")", 100_000),
        format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(5_000)),
        format!("SELECT * FROM t {}", "CROSS JOIN t ".repeat(5_000)),
        format!("SELECT 1{}", "::int".repeat(10_000)),
        format!("CREATE TABLE x (a {}INT{})", "ARRAY<".repeat(1_000), ">".repeat(1_000)),
        format!("SELECT {}1{}", "[".repeat(1_000), "]".repeat(1_000)),
    ] {
        let error = parse(&sql).err().unwrap_or_else(|| panic!("accepted {}...", &sql[..60]));
        assert_eq!(error.state.0, "54001", "{} {error}", &sql[..60]);
        assert!(error.position.is_some());
    }
    let wide = format!("SELECT id FROM t WHERE {}", (0..500).map(|i| format!("v = {i}")).collect::<Vec<_>>().join(" OR "));
    assert!(TestCatalog::new().plan(&wide).is_ok(), "five hundred alternatives are fine");
    let sums: Vec<String> = (0..100).map(|i| format!("(v + {i} - v * {i} / 2)")).collect();
    assert!(parse(&format!("SELECT {} FROM t", sums.join(" + "))).is_ok(), "brackets begin anew");
    let checks: Vec<String> = (0..100).map(|i| format!("v + {i} - v * {i} > 2")).collect();
    assert!(parse(&format!("SELECT id FROM t WHERE {}", checks.join(" AND "))).is_ok(), "and so do conditions");
}

/// With a table in PostgreSQL that nobody contacts here.
fn with_customers() -> TestCatalog {
    let mut catalog = TestCatalog::new();
    catalog
        .create(
            "CREATE TABLE customers (id BIGINT, name STRING, since DATE, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'jdbc', \
             'url' = 'jdbc:postgresql://db:5432/shop', 'table-name' = 'customers', 'username' = 'u', 'password' = 'p')",
        )
        .unwrap();
    catalog
}

#[test]
fn tables_that_are_looked_up() {
    let catalog = with_customers();
    let view = |query: &str| format!("CREATE MATERIALIZED VIEW m AS {query}");
    for query in [
        "SELECT * FROM customers",
        "SELECT b.auction, c.name FROM bid AS b JOIN customers AS c ON b.auction = c.id",
        "SELECT b.auction FROM bid AS b WHERE b.auction IN (SELECT id FROM customers)",
    ] {
        let error = catalog.error(&view(query));
        assert_eq!(error.state.0, "0A000", "{query}: {error}");
        assert!(error.hint.as_deref().unwrap_or_default().contains("FOR SYSTEM_TIME AS OF PROCTIME()"), "{query}: {error}");
    }
    let join =
        |on: &str| view(&format!("SELECT b.auction, c.name FROM bid AS b LEFT JOIN customers FOR SYSTEM_TIME AS OF b.proc AS c ON {on}"));
    let computed = catalog.error(&join("b.auction = c.id + 1"));
    assert!(computed.message.contains("no column of \"customers\" by itself"), "{computed}");
    let of_event = "SELECT c.name FROM bid AS b JOIN customers FOR SYSTEM_TIME AS OF b.date_time AS c ON b.auction = c.id";
    assert!(catalog.error(&view(of_event)).hint.unwrap_or_default().contains("PROCTIME()"));
    catalog.plan(&join("b.auction = c.id AND c.since > DATE '2020-01-01'")).unwrap();
    let definition = |columns: &str| {
        format!(
            "CREATE TABLE x ({columns}) WITH ('connector' = 'postgres', 'hostname' = 'db', 'database-name' = 'd', 'table-name' = 't', \
             'username' = 'u')"
        )
    };
    assert_eq!(catalog.error(&definition("id INT, twice AS id * 2")).state.0, "0A000");
    assert_eq!(catalog.error(&definition("ts TIMESTAMP, WATERMARK FOR ts AS ts")).state.0, "0A000");
    assert_eq!(catalog.error(&definition("id INT PRIMARY KEY")).state.0, "42P16");
    assert_eq!(catalog.error("INSERT INTO customers VALUES (1, 'a', NULL)").state.0, "42809");
}

#[test]
fn what_may_be_taken_back_keeps_what_was_looked_up() {
    let catalog = with_customers();
    let plan = |from: &str| {
        let query = format!("SELECT x.k, c.name FROM {from} JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON x.k = c.id");
        catalog.explain(&format!("EXPLAIN CREATE MATERIALIZED VIEW m AS {query}")).join("\n")
    };
    let grows = plan("(SELECT auction AS k FROM bid) AS x");
    assert!(grows.contains("ExternalLookup inner customers on [") && !grows.contains("state="), "{grows}");
    let changes = plan("(SELECT CAST(id AS BIGINT) AS k FROM t) AS x");
    assert!(changes.contains("bound=rows of the left input, with what they were joined with"), "{changes}");
}

/// As CASE, each level would have the one beneath twice.
#[test]
fn values_in_one_another_that_would_be_copied_are_limited() {
    let catalog = TestCatalog::new();
    for made in ["", "CREATE MATERIALIZED VIEW m AS "] {
        let nested =
            |depth: usize, front: &str, back: &str| format!("{made}SELECT {}id{} AS v FROM t", front.repeat(depth), back.repeat(depth));
        catalog.plan(&nested(8, "COALESCE(", ", 0)")).unwrap();
        catalog.plan(&nested(40, "COALESCE(id, ", ")")).unwrap();
        assert_eq!(catalog.error(&nested(40, "COALESCE(", ", 0)")).state.0, "54001");
    }
}
