//! Every kind of statement, in the spellings that clients use.

use crate::support::TestCatalog;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{self, LogicalPlan};
use eddyline_common::SqlType;
use eddyline_common::connector::ColumnOrigin;
use eddyline_planner::catalog::RelationKind;
use eddyline_planner::plan::{ChangelogMode, Expr};
use eddyline_planner::statement::{
    CopyColumns, CopyFormat, CopyKind, FetchCount, ObjectKind, OnConflict, Planned, Query, Show, TransactionModes,
};
use eddyline_planner::{bind_parameters, parameter_types, parse};

fn planned(sql: &str) -> Planned {
    TestCatalog::new().plan(sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
}

fn query(sql: &str) -> Query {
    match planned(sql) {
        Planned::Query(query) => query,
        other => panic!("not a query: {other:?}"),
    }
}

fn names(query: &Query) -> Vec<&str> {
    query.columns.iter().map(|c| c.name.as_str()).collect()
}

#[test]
fn texts_are_cut_into_statements() {
    let parsed = parse("SELECT 1; -- a comment; here\n INSERT INTO t VALUES (';') ;; select \"a;b\"").unwrap();
    let texts: Vec<&str> = parsed.iter().map(|p| p.sql.as_str()).collect();
    assert_eq!(texts, ["SELECT 1", "INSERT INTO t VALUES (';')", "select \"a;b\""]);
    assert!(matches!(planned("  -- nothing\n"), Planned::Empty));
    assert_eq!(parse("SELECT 'né', 1; SELECT 2").unwrap()[1].sql, "SELECT 2");
}

/// A sink's fields are spelled as its columns were declared, through views too.
#[test]
fn fields_of_sinks_keep_their_spelling() {
    let mut catalog = TestCatalog::empty();
    for sql in [
        "CREATE SOURCE s (userId INT, emailAddress VARCHAR, plain INT, upperMail AS UPPER(emailAddress)) \
         WITH (connector='kafka', topic='t', properties.bootstrap.server='b') FORMAT PLAIN ENCODE JSON",
        "CREATE TABLE t (userId INT PRIMARY KEY, \"Quoted Name\" INT, lastSeen TIMESTAMP)",
        "CREATE VIEW v AS SELECT userId, lastSeen AS seenAt FROM t",
        "CREATE MATERIALIZED VIEW m (theId) AS SELECT userid, COUNT(*) AS howMany FROM s GROUP BY userid",
        "CREATE MATERIALIZED VIEW of_view AS SELECT * FROM v",
        "CREATE TABLE other (\"userId\" INT, userid INT)",
    ] {
        catalog.create(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    let cases: [(&str, &[&str]); 10] = [
        ("FROM s", &["userId", "emailAddress", "plain", "upperMail"]),
        ("AS SELECT * FROM s WHERE userId > 0", &["userId", "emailAddress", "plain", "upperMail"]),
        ("AS SELECT userid, plain AS newName, plain AS \"Newer\", UPPER(emailaddress) FROM s", &["userId", "newName", "Newer", "upper"]),
        ("FROM t", &["userId", "Quoted Name", "lastSeen"]),
        ("FROM v", &["userId", "seenAt"]),
        ("FROM of_view", &["userId", "seenAt"]),
        ("FROM m", &["theId", "howMany"]),
        ("AS SELECT t.userid, m.howmany FROM t JOIN m ON m.theid = t.userid", &["userId", "howMany"]),
        ("AS SELECT userId FROM s UNION ALL SELECT plain FROM s", &["userId"]),
        ("FROM other", &["userId", "userid"]),
    ];
    for (from, fields) in cases {
        let sql = format!("CREATE SINK out {from} WITH (connector = 'blackhole')");
        let Planned::Create { relation, .. } = catalog.plan(&sql).unwrap_or_else(|e| panic!("{sql}: {e}")) else { panic!("{sql}") };
        let RelationKind::Sink(sink) = &relation.kind else { panic!("{sql}") };
        let found: Vec<&str> = sink.spec.columns.iter().map(|column| column.external_name.as_str()).collect();
        assert_eq!(found, fields, "{sql}");
    }
}

#[test]
fn a_source_in_the_flink_accent() {
    let mut catalog = TestCatalog::empty();
    let source = catalog
        .create(
            "CREATE TABLE bid (auction BIGINT, emailAddress STRING NOT NULL, price DECIMAL(10,2), ts TIMESTAMP(3),
               ktime TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
               `partition` BIGINT METADATA VIRTUAL, `offset` BIGINT METADATA VIRTUAL,
               proc AS PROCTIME(), day AS CAST(ts AS DATE),
               item ROW<id BIGINT, tags ARRAY<ROW<k STRING, v INT>>>, props MAP<STRING, ARRAY<INT>>, ids int[],
               WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, PRIMARY KEY (auction) NOT ENFORCED)
             WITH ('connector'='kafka', 'topic'='bid', 'properties.bootstrap.servers'='b:9092', 'properties.group.id'='g',
               'scan.startup.mode'='earliest-offset', 'format'='json', 'scan.watermark.idle-timeout'='1min')",
        )
        .unwrap();
    let RelationKind::Source(spec) = &source.kind else { panic!("not a source") };
    assert_eq!(spec.options["topic"], "bid");
    assert_eq!(spec.columns[1].external_name, "emailAddress");
    assert!(!spec.columns[1].nullable);
    assert_eq!(source.columns[1].name, "emailaddress");
    assert_eq!(spec.columns[4].origin, ColumnOrigin::Metadata("timestamp".to_string()));
    assert_eq!(source.columns[4].ty, SqlType::TimestampTz);
    let tags = SqlType::Array(Box::new(SqlType::Struct(vec![("k".into(), SqlType::Text), ("v".into(), SqlType::Integer)])));
    assert_eq!(source.columns[7].ty, SqlType::Struct(vec![("id".into(), SqlType::BigInt), ("tags".into(), tags)]));
    assert_eq!(source.columns[9].ty, SqlType::Array(Box::new(SqlType::Integer)));
    let visible: Vec<&str> = source.visible.iter().map(|v| v.column.name.as_str()).collect();
    assert_eq!(visible[..9], ["auction", "emailaddress", "price", "ts", "ktime", "partition", "offset", "proc", "day"]);
    assert_eq!(source.visible[7].value, Expr::CutNow);
    assert_eq!(source.visible[8].column.ty, SqlType::Date);
    let watermark = source.watermark.as_ref().unwrap();
    assert_eq!((watermark.column, watermark.idle_timeout), (3, Some(60_000_000)));
    assert_eq!(source.time_columns, [3]);
    assert!(source.key.is_empty(), "a key that nobody enforces is no fact");
}

#[test]
fn a_source_in_the_postgres_accent() {
    let mut catalog = TestCatalog::empty();
    let source = catalog
        .create(
            "CREATE SOURCE IF NOT EXISTS bid (auction BIGINT, price NUMERIC, ts TIMESTAMP, proc TIMESTAMPTZ AS proctime(),
               WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
             INCLUDE KEY AS k INCLUDE PARTITION AS p INCLUDE OFFSET AS o INCLUDE TIMESTAMP AS kt INCLUDE HEADER AS h
             WITH (connector = 'kafka', topic = 'bid', properties.bootstrap.server = 'b:9092', scan.startup.mode = 'earliest')
             FORMAT PLAIN ENCODE JSON",
        )
        .unwrap();
    let RelationKind::Source(spec) = &source.kind else { panic!("not a source") };
    assert_eq!(spec.options["properties.bootstrap.servers"], "b:9092");
    assert_eq!(spec.options["format"], "json");
    assert_eq!(source.columns[1].ty, SqlType::Decimal { precision: 38, scale: 9 });
    let visible: Vec<&str> = source.visible.iter().map(|v| v.column.name.as_str()).collect();
    assert_eq!(visible, ["auction", "price", "ts", "proc", "k", "p", "o", "kt", "h"]);
    assert_eq!(source.columns.len(), 8);
}

#[test]
fn a_keyed_source_overwrites() {
    let mut catalog = TestCatalog::empty();
    for (name, sql) in [
        (
            "a",
            "CREATE TABLE a (id BIGINT, v STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='upsert-kafka', 'topic'='t',
                 'properties.bootstrap.servers'='b:9092', 'key.format'='json', 'value.format'='json')",
        ),
        (
            "b",
            "CREATE SOURCE b (v VARCHAR, id BIGINT PRIMARY KEY) WITH (connector = 'kafka', topic = 't',
                 properties.bootstrap.server = 'b:9092') FORMAT PLAIN ENCODE JSON",
        ),
        (
            "c",
            "CREATE SOURCE c (v VARCHAR, PRIMARY KEY (id)) INCLUDE KEY AS id WITH (connector = 'kafka', topic = 't',
                 properties.bootstrap.server = 'b:9092') FORMAT UPSERT ENCODE JSON",
        ),
        (
            "d",
            "CREATE TABLE d (id BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='t',
                 'properties.bootstrap.servers'='b:9092', 'format'='debezium-json')",
        ),
    ] {
        let source = catalog.create(sql).unwrap();
        let RelationKind::KeyedSource { spec, .. } = &source.kind else { panic!("{name} is not keyed") };
        assert_eq!((&spec.key, source.mode), (&source.key, ChangelogMode::Retract), "{name}");
        let key = &source.columns[source.key[0]];
        assert!(key.name == "id" && !key.nullable, "{name}");
        let feed = source.feed().unwrap();
        assert_eq!(feed.columns.len(), source.columns.len() + 2);
    }
    let keyless = catalog.create(
        "CREATE TABLE e (id BIGINT) WITH ('connector'='kafka', 'topic'='t', 'properties.bootstrap.servers'='b', 'format'='debezium-json')",
    );
    let keyless = keyless.unwrap();
    assert!(matches!(keyless.kind, RelationKind::Source(_)) && keyless.mode == ChangelogMode::Retract);
    let error = catalog.create(
        "CREATE SOURCE f (id BIGINT) WITH (connector = 'kafka', topic = 't', properties.bootstrap.server = 'b') FORMAT UPSERT ENCODE JSON",
    );
    assert_eq!(error.unwrap_err().message, "FORMAT UPSERT needs a primary key");
}

#[test]
fn a_generator_knows_its_columns() {
    let mut catalog = TestCatalog::empty();
    let source = catalog.create("CREATE SOURCE bid WITH (connector = 'nexmark', nexmark.table.type = 'bid')").unwrap();
    assert_eq!(source.columns.len(), 7);
    assert!(source.watermark.is_none());
}

#[test]
fn an_event_time_may_be_computed() {
    let mut catalog = TestCatalog::empty();
    catalog
        .create(
            "CREATE SOURCE s (millis BIGINT, ts TIMESTAMP AS CAST(to_timestamp_millis(millis) AS TIMESTAMP), WATERMARK FOR ts AS ts - INTERVAL '1 second')
             WITH (connector = 'kafka', topic = 'x', properties.bootstrap.servers = 'b:1', format = 'json')",
        )
        .unwrap();
    let source = catalog.relation("s");
    assert!(source.time_columns.is_empty(), "no stored column is the event time");
    let view = catalog
        .create("CREATE MATERIALIZED VIEW w AS SELECT window_end, count(*) AS n FROM tumble(s, ts, INTERVAL '1 minute') GROUP BY window_end EMIT ON WINDOW CLOSE")
        .unwrap();
    assert_eq!(view.mode, ChangelogMode::Append);
}

#[test]
fn a_sink_sends_windows_as_they_close_if_they_do() {
    let mut catalog = TestCatalog::new();
    catalog.create("CREATE TABLE counts (until TIMESTAMP PRIMARY KEY, n BIGINT)").unwrap();
    let emits = |from: &str, emit: &str| -> Vec<bool> {
        let sql = format!(
            "EXPLAIN CREATE SINK s INTO counts AS SELECT window_end, COUNT(*) FROM {from} GROUP BY window_start, window_end {emit}"
        );
        let lines = catalog.explain(&sql).join("\n");
        assert!(lines.contains("Sink key=[until]"), "{lines}");
        ["emit=on window close", "emit=changes"].iter().map(|how| lines.contains(how)).collect()
    };
    let (closes, changes, no_window) = ([true, false], [false, true], [false, false]);
    let bids = "tumble(bid, date_time, INTERVAL '1 minute')";
    assert_eq!(emits(bids, ""), closes);
    assert_eq!(emits(bids, "EMIT ON WINDOW CLOSE"), closes);
    assert_eq!(emits(bids, "EMIT CHANGES"), changes);
    // A window that never closes is a group like any other: here the other side may change it at any time, and here no watermark passes its end.
    assert_eq!(emits(&format!("{bids} JOIN t ON auction = id"), ""), no_window);
    assert_eq!(emits("tumble(t, ts, INTERVAL '1 minute')", ""), no_window);
    // What is wrong with the statement is told as it is.
    let error = catalog.error(
        "CREATE SINK s INTO counts AS SELECT date_time, COUNT(*) FROM tumble(bid, date_time, INTERVAL '1 minute') \
         GROUP BY window_start, window_end, date_time, auction",
    );
    assert_eq!(error.state.0, "42P16");
    assert!(error.message.contains("does not identify"), "{error}");
}

#[test]
fn a_source_that_one_view_alone_reads_is_not_a_sessions() {
    let sql = "CREATE MATERIALIZED VIEW m AS SELECT auction FROM bid /*+ OPTIONS('nexmark.event.num' = '5') */";
    let Planned::Create { relation, .. } = planned(sql) else { panic!("{sql}") };
    let [own] = relation.own_sources() else { panic!("{relation:?}") };
    assert!(!own.relation.is_temporary() && !relation.is_temporary());
}

#[test]
fn tables_have_keys_defaults_and_watermarks() {
    let mut catalog = TestCatalog::new();
    let t = catalog.relation("t");
    assert_eq!((t.key.as_slice(), t.mode), (&[0][..], ChangelogMode::Retract));
    assert!(!t.columns[0].nullable);
    let RelationKind::Table { defaults, append_only, .. } = &t.kind else { panic!() };
    assert!(!append_only && defaults.contains_key(&2));
    let log = catalog.relation("log");
    assert_eq!((log.mode, log.time_columns.as_slice()), (ChangelogMode::Append, &[0][..]));
    assert!(catalog.relation("manual").watermark.as_ref().unwrap().manual);
    let two = catalog.create("CREATE TABLE two (a INT, \"B\" TEXT NOT NULL, CONSTRAINT pk PRIMARY KEY (a, \"B\"))").unwrap();
    assert_eq!(two.key, [0, 1]);
    assert_eq!(two.columns[1].name, "B");
    let spelled = catalog.create("CREATE TABLE s (a varchar(10), b character varying(3), c double precision, d timestamp with time zone, e int8, f bytea, g jsonb, h \"char\")").unwrap();
    let types: Vec<String> = spelled.columns.iter().map(|c| c.ty.to_string()).collect();
    assert_eq!(
        types,
        [
            "character varying(10)",
            "character varying(3)",
            "double precision",
            "timestamp with time zone",
            "bigint",
            "bytea",
            "jsonb",
            "text"
        ]
    );
}

#[test]
fn views_know_what_they_depend_on() {
    let catalog = TestCatalog::new();
    assert_eq!(catalog.relation("cheap").depends_on, [catalog.relation("bid").id]);
    let Planned::Create { relation, .. } =
        catalog.plan("CREATE MATERIALIZED VIEW x (a, b) AS WITH totals AS (SELECT * FROM cheap) SELECT * FROM totals").unwrap()
    else {
        panic!()
    };
    assert_eq!(relation.depends_on, [catalog.relation("cheap").id], "a common table expression hides the view of that name");
    assert_eq!(relation.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let RelationKind::View { query } = &catalog.relation("cheap").kind else { panic!() };
    assert_eq!(query, "SELECT auction, price FROM bid WHERE price < 100");
}

#[test]
fn indexes() {
    let mut catalog = TestCatalog::new();
    let index = |catalog: &TestCatalog, sql: &str| match catalog.plan(sql).unwrap_or_else(|e| panic!("{sql}: {e}")) {
        Planned::CreateIndex { index, if_not_exists } => (index, if_not_exists),
        other => panic!("{sql}: {other:?}"),
    };
    let (of_view, _) = index(&catalog, "CREATE INDEX \"By N\" ON totals (n, auction) INCLUDE (total)");
    let totals = catalog.relation("totals");
    assert_eq!((of_view.name.as_str(), of_view.relation), ("By N", totals.id));
    assert_eq!((of_view.columns.as_slice(), of_view.include.as_slice()), ([1, 0].as_slice(), [2].as_slice()));
    assert_eq!(of_view.stored_columns(&totals), [1, 0]);
    let (unnamed, if_not_exists) = index(&catalog, "create index concurrently on public.t using btree (v, name)");
    assert_eq!((unnamed.name.as_str(), if_not_exists), ("t_v_name_idx", false));
    assert!(index(&catalog, "CREATE INDEX IF NOT EXISTS i ON keyless USING hash (b)").1);
    // What is computed when it is read has no place among what is stored.
    catalog.create("CREATE TABLE computed (a INT, twice AS a * 2, b INT)").unwrap();
    assert_eq!(index(&catalog, "CREATE INDEX i ON computed (b) INCLUDE (twice)").0.stored_columns(&catalog.relation("computed")), [1]);
    assert_eq!(catalog.error("CREATE INDEX i ON computed (twice)").state.0, "0A000");
    catalog.create("CREATE TABLE mapped (m MAP<TEXT, INT>, l INT ARRAY)").unwrap();
    assert_eq!(catalog.error("CREATE INDEX i ON mapped (m)").state.0, "0A000");
    index(&catalog, "CREATE INDEX i ON mapped (l) INCLUDE (m)");
    // What is not said is not written, and is nothing when it is read.
    let text = serde_json::to_string(&unnamed).unwrap();
    assert!(!text.contains("include"), "{text}");
    assert_eq!(serde_json::from_str::<eddyline_planner::catalog::Index>(&text).unwrap(), unnamed);
}

#[test]
fn dropping_and_showing() {
    assert!(
        matches!(planned("DROP TABLE IF EXISTS a, public.b CASCADE"), Planned::Drop { kind: ObjectKind::Table, names, if_exists: true, cascade: true, .. } if names == ["a", "b"])
    );
    assert!(matches!(
        planned("drop materialized view totals"),
        Planned::Drop { kind: ObjectKind::MaterializedView, if_exists: false, cascade: false, .. }
    ));
    assert!(
        matches!(planned("DROP INDEX IF EXISTS i, public.j"), Planned::Drop { kind: ObjectKind::Index, names, .. } if names == ["i", "j"])
    );
    assert!(matches!(planned("SHOW INDEXES"), Planned::Show(Show::Objects(ObjectKind::Index))));
    assert!(matches!(planned("SHOW MATERIALIZED VIEWS"), Planned::Show(Show::Objects(ObjectKind::MaterializedView))));
    assert!(matches!(planned("SHOW SOURCES"), Planned::Show(Show::Objects(ObjectKind::Source))));
    assert!(matches!(planned("SHOW JOBS"), Planned::Show(Show::Jobs)));
    assert!(matches!(planned("DESCRIBE t"), Planned::Show(Show::Columns(_))));
    assert!(matches!(planned("SHOW COLUMNS FROM t"), Planned::Show(Show::Columns(_))));
    assert!(matches!(planned("SHOW CREATE TABLE t"), Planned::Show(Show::Create(_))));
    assert!(matches!(planned("SHOW ALL"), Planned::Show(Show::AllSettings)));
    for (sql, name) in [
        ("SHOW server_version", "server_version"),
        ("show TimeZone", "timezone"),
        ("SHOW TIME ZONE", "timezone"),
        ("SHOW TRANSACTION ISOLATION LEVEL", "transaction_isolation"),
    ] {
        assert!(matches!(planned(sql), Planned::Show(Show::Setting(s)) if s == name), "{sql}");
    }
}

#[test]
fn settings_in_every_spelling() {
    for (sql, name, value, local) in [
        ("SET extra_float_digits = 3", "extra_float_digits", Some("3"), false),
        ("SET SESSION DateStyle TO 'ISO'", "datestyle", Some("ISO"), false),
        ("SET LOCAL statement_timeout = -1", "statement_timeout", Some("-1"), true),
        ("set client_encoding to 'UTF8'", "client_encoding", Some("UTF8"), false),
        ("SET NAMES 'utf8'", "client_encoding", Some("utf8"), false),
        ("SET TIME ZONE 'Europe/Berlin'", "timezone", Some("Europe/Berlin"), false),
        ("SET TIME ZONE LOCAL", "timezone", None, false),
        ("SET search_path TO a, \"B\", public", "search_path", Some("a, B, public"), false),
        ("SET standard_conforming_strings = on", "standard_conforming_strings", Some("on"), false),
        ("SET application_name = DEFAULT", "application_name", None, false),
        ("SET 'pipeline.name' = 'x'", "pipeline.name", Some("x"), false),
        ("RESET ALL", "all", None, false),
        ("RESET statement_timeout", "statement_timeout", None, false),
    ] {
        match planned(sql) {
            Planned::Set { name: n, value: v, local: l } => assert_eq!((n.as_str(), v.as_deref(), l), (name, value, local), "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn transactions_cursors_and_prepared_statements() {
    let modes = |isolation: Option<&str>, read_only| TransactionModes { read_only, isolation: isolation.map(str::to_string) };
    for (sql, expected) in [
        ("BEGIN", modes(None, None)),
        ("BEGIN READ WRITE", modes(None, Some(false))),
        ("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", modes(Some("repeatable read"), Some(true))),
    ] {
        assert!(matches!(planned(sql), Planned::Begin(found) if found == expected), "{sql}");
    }
    for (sql, expected, session) in [
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL READ COMMITTED",
            modes(Some("read committed"), Some(true)),
            true,
        ),
        ("SET TRANSACTION READ ONLY", modes(None, Some(true)), false),
    ] {
        let planned = planned(sql);
        assert!(
            matches!(&planned, Planned::SetTransaction { modes, of_session } if *modes == expected && *of_session == session),
            "{sql}: {planned:?}"
        );
    }
    assert!(matches!(planned("COMMIT AND CHAIN"), Planned::Commit { chain: true }));
    assert!(matches!(planned("END"), Planned::Commit { chain: false }));
    assert!(matches!(planned("ABORT"), Planned::Rollback { chain: false }));
    assert!(matches!(planned("SAVEPOINT s"), Planned::Savepoint(s) if s == "s"));
    assert!(matches!(planned("RELEASE SAVEPOINT s"), Planned::ReleaseSavepoint(_)));
    assert!(matches!(planned("ROLLBACK TO SAVEPOINT s"), Planned::RollbackToSavepoint(_)));
    assert!(
        matches!(planned("DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT id FROM t"), Planned::DeclareCursor { name, hold: true, .. } if name == "c")
    );
    for (sql, count) in [
        ("FETCH FORWARD 2 FROM c", FetchCount::Rows(2)),
        ("FETCH c", FetchCount::Rows(1)),
        ("FETCH NEXT FROM c", FetchCount::Rows(1)),
        ("FETCH ALL IN c", FetchCount::All),
        ("FETCH 10 c", FetchCount::Rows(10)),
        ("MOVE FORWARD ALL FROM c", FetchCount::All),
    ] {
        assert!(matches!(planned(sql), Planned::Fetch { count: n, name, .. } if n == count && name == "c"), "{sql}");
    }
    assert!(matches!(planned("CLOSE ALL"), Planned::CloseCursor(None)));
    assert!(
        matches!(planned("PREPARE p (int, text) AS SELECT $1 + 1, $2"), Planned::Prepare { statement, types, .. } if statement == "SELECT $1 + 1, $2" && types == [SqlType::Integer, SqlType::Text])
    );
    assert!(matches!(planned("EXECUTE p (1, 'x' || 'y')"), Planned::ExecutePrepared { arguments, .. } if arguments.len() == 2));
    assert!(matches!(planned("DEALLOCATE ALL"), Planned::Deallocate(None)));
    assert!(matches!(planned("DISCARD ALL"), Planned::Discard { all: true }));
    assert!(matches!(planned("FLUSH"), Planned::Flush));
}

#[test]
fn copying() {
    let from = |sql: &str| match planned(sql) {
        Planned::CopyFrom { columns, format, .. } => (columns, format),
        other => panic!("{sql}: {other:?}"),
    };
    let (text, csv) = (CopyFormat::new(CopyKind::Text), CopyFormat::new(CopyKind::Csv));
    assert_eq!(from("COPY t FROM STDIN"), (vec![0, 1, 2, 3, 4], text.clone()));
    let with_header = CopyFormat { header: true, ..csv.clone() };
    assert_eq!(from("COPY t (v, id) FROM STDIN WITH (FORMAT csv, HEADER true)"), (vec![1, 0], with_header));
    let piped = CopyFormat { delimiter: b'|', null: String::new(), ..text };
    assert_eq!(from("COPY t FROM STDIN WITH DELIMITER AS '|' NULL AS ''").1, piped);
    assert_eq!(from("COPY t FROM STDIN (DELIMITER '|', NULL '', ENCODING 'UTF8')").1, piped);
    let quoted = CopyFormat {
        quote: b'\'',
        escape: b'\\',
        force_null: CopyColumns::Named(vec!["v".to_string()]),
        force_not_null: CopyColumns::All,
        ..csv.clone()
    };
    assert_eq!(from("COPY t FROM STDIN (FORMAT csv, QUOTE '''', ESCAPE '\\', FORCE_NULL (v), FORCE_NOT_NULL *)").1, quoted);
    assert_eq!(from("COPY t FROM STDIN CSV QUOTE '''' ESCAPE AS '\\' FORCE NULL v FORCE NOT NULL *").1, quoted);
    assert_eq!(from("COPY t FROM STDIN (FORMAT binary)").1.kind, CopyKind::Binary);
    for (options, state) in [
        ("(FORMAT binary, DELIMITER ',')", "42601"),
        ("(DELIMITER ',', DELIMITER ';')", "42601"),
        ("(QUOTE '''')", "0A000"),
        ("(DELIMITER '--')", "0A000"),
        ("(DELIMITER 'a')", "22023"),
        ("(FORMAT csv, DELIMITER ';', NULL 'a;b')", "0A000"),
        ("(FORMAT csv, DELIMITER '\"')", "22023"),
        ("(FORMAT csv, FORCE_QUOTE *)", "0A000"),
        ("(ENCODING 'LATIN1')", "0A000"),
        ("(FREEZE)", "0A000"),
    ] {
        let sql = format!("COPY t FROM STDIN {options}");
        assert_eq!(TestCatalog::new().plan(&sql).map(drop).expect_err(&sql).state.0, state, "{sql}");
    }
    assert!(matches!(planned("COPY log FROM STDIN"), Planned::CopyFrom { .. }), "rows are added to an append-only table");
    assert!(matches!(planned("COPY (SELECT 1) TO STDOUT CSV"), Planned::CopyTo { format, .. } if format == csv));
    assert!(matches!(planned("COPY t TO STDOUT"), Planned::CopyTo { query, .. } if query.columns.len() == 5));
}

#[test]
fn inserting() {
    let insert = |sql: &str| match planned(sql) {
        Planned::Insert(insert) => insert,
        other => panic!("{other:?}"),
    };
    let all = insert("INSERT INTO t VALUES (1, 2, 'x', 3.5, '2024-01-01 00:00:00'), (2, NULL, DEFAULT, 4, NULL)");
    assert_eq!(
        all.source.columns.iter().map(|c| c.ty.to_string()).collect::<Vec<_>>(),
        ["integer", "integer", "text", "numeric(10,2)", "timestamp without time zone"]
    );
    assert!(matches!(all.on_conflict, OnConflict::Error));
    assert_eq!(insert("INSERT INTO t (v, id) SELECT a, a + 1 FROM keyless").source.columns.len(), 5);
    assert_eq!(insert("INSERT INTO keyless DEFAULT VALUES").source.columns.len(), 2);
    assert!(matches!(insert("INSERT INTO t (id) VALUES (1) ON CONFLICT DO NOTHING").on_conflict, OnConflict::DoNothing));
    let upsert = insert(
        "INSERT INTO t (id, v) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET v = t.v + excluded.v, name = DEFAULT WHERE excluded.v > 0 RETURNING id, v * 2 AS twice, *",
    );
    let OnConflict::DoUpdate { assignments, filter } = &upsert.on_conflict else { panic!() };
    let texts: Vec<String> = assignments.iter().map(|(i, e)| format!("{i}: {e}")).collect();
    assert_eq!(texts, ["1: CAST(checked_add(c1, c6) AS Int32)", "2: CAST(Utf8(\"none\") AS Utf8)"]);
    assert_eq!(filter.as_ref().unwrap().to_string(), "c6 > CAST(Int64(0) AS Int32)");
    let returning = upsert.returning.unwrap();
    assert_eq!(returning.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["id", "twice", "id", "v", "name", "amount", "ts"]);
    assert_eq!(returning.exprs[0].to_string(), "c0");
}

#[test]
fn updating_and_deleting() {
    let Planned::Update(update) =
        planned("UPDATE t AS x SET v = x.v + 1, name = DEFAULT WHERE x.id IN (SELECT a FROM keyless) RETURNING x.v")
    else {
        panic!()
    };
    assert_eq!(update.source.columns.len(), 10);
    assert_eq!(update.source.relations.len(), 2);
    assert_eq!(update.returning.unwrap().exprs[0].to_string(), "c1");
    let Planned::Delete(delete) = planned("DELETE FROM t WHERE v > 3 RETURNING *") else { panic!() };
    assert_eq!(delete.source.columns.len(), 5);
    assert_eq!(delete.returning.unwrap().columns.len(), 5);
    assert!(matches!(planned("DELETE FROM keyless"), Planned::Delete(_)));
}

#[test]
fn watermarks_are_advanced_by_hand() {
    assert!(matches!(
        planned("ALTER TABLE manual ADVANCE WATERMARK TO TIMESTAMP '1970-01-01 00:01:00'"),
        Planned::AdvanceWatermark { to_micros: 60_000_000, .. }
    ));
}

#[test]
fn columns_are_named_as_postgres_names_them() {
    let q = query("SELECT 1, count(*), upper('x'), 2 AS two, '1'::int, CASE WHEN true THEN 1 END, NULL, NULL FROM t");
    assert_eq!(names(&q), ["?column?", "count", "upper", "two", "int4", "case", "?column?", "?column?"]);
    assert_eq!(names(&query("SELECT id, *, t.v, v FROM t")), ["id", "id", "v", "name", "amount", "ts", "v", "v"]);
    assert_eq!(names(&query("SELECT a FROM keyless UNION SELECT id FROM t")), ["a"]);
    assert_eq!(names(&query("SELECT count FROM (SELECT count(*) FROM t) s")), ["count"]);
    assert_eq!(names(&query("SELECT `b` FROM keyless")), ["b"]);
}

#[test]
fn queries_name_what_they_read() {
    let catalog = TestCatalog::new();
    let Planned::Query(q) = catalog.plan("SELECT * FROM cheap JOIN t ON id = auction WHERE EXISTS (SELECT 1 FROM keyless)").unwrap() else {
        panic!()
    };
    let mut ids: Vec<_> = ["bid", "t", "keyless"].iter().map(|n| catalog.relation(n).id).collect();
    ids.sort();
    let mut read = q.relations.clone();
    read.sort();
    assert_eq!(read, ids);
}

/// At each level of a condition the binder asks for the types of all that is beneath.
#[test]
fn long_conditions_are_bound_in_few_levels() {
    fn condition(plan: &LogicalPlan) -> Option<&logical_expr::Expr> {
        match plan {
            LogicalPlan::Filter(filter) => Some(&filter.predicate),
            plan => plan.inputs().into_iter().find_map(condition),
        }
    }
    fn levels(expr: &logical_expr::Expr) -> usize {
        match expr {
            logical_expr::Expr::BinaryExpr(of) => 1 + levels(&of.left).max(levels(&of.right)),
            _ => 0,
        }
    }
    let any = (0..300).map(|i| format!("v > {i}")).collect::<Vec<_>>().join(" OR ");
    let plan = query(&format!("SELECT id FROM t WHERE {any}")).plan;
    let levels = levels(condition(&plan).expect("a filter"));
    assert!((9..16).contains(&levels), "{levels} levels");
}

#[test]
fn parameters_are_inferred_and_bound() {
    let catalog = TestCatalog::new();
    let planned = catalog.plan("SELECT * FROM t WHERE id = $1 AND name = $2 LIMIT $3").unwrap();
    assert_eq!(parameter_types(&planned), [SqlType::Integer, SqlType::Text, SqlType::BigInt]);
    let bound =
        bind_parameters(planned, vec![ScalarValue::Int32(Some(1)), ScalarValue::Utf8(Some("x".into())), ScalarValue::Int64(Some(5))])
            .unwrap();
    assert!(parameter_types(&bound).is_empty());
    let declared = catalog.plan_with("SELECT $1 + 1", &[Some(SqlType::BigInt)]).unwrap();
    assert_eq!(parameter_types(&declared), [SqlType::BigInt]);
    let numeric = |precision, scale| SqlType::Decimal { precision, scale };
    for (sql, ty) in [("SELECT $1", numeric(38, 10)), ("SELECT CAST($1 AS NUMERIC(20,14)), $1", numeric(38, 14))] {
        let declared = catalog.plan_with(sql, &[Some(numeric(38, 10))]).unwrap();
        assert_eq!(parameter_types(&declared), [ty], "{sql}");
    }
    let insert = catalog.plan("INSERT INTO t (id, amount) VALUES ($1, $2)").unwrap();
    assert_eq!(parameter_types(&insert), [SqlType::Integer, SqlType::Decimal { precision: 10, scale: 2 }]);
    let few = bind_parameters(insert, vec![ScalarValue::Int32(Some(1))]).unwrap_err();
    assert_eq!(few.state.0, "08P01");
}

#[test]
fn parameters_beside_arrays_and_json_have_types() {
    let mut catalog = TestCatalog::new();
    catalog.create("CREATE TABLE typed (us UUID[], j JSONB)").unwrap();
    let list = |item| SqlType::Array(Box::new(item));
    for (expr, ty) in [
        ("$1 = ANY(us)", SqlType::Uuid),
        ("array_append(us, $1)", SqlType::Uuid),
        ("array_prepend($1, us)", SqlType::Uuid),
        ("j #>> $1", list(SqlType::Text)),
        ("j #> $1", list(SqlType::Text)),
        ("j @> $1", SqlType::Json),
        ("$1 <@ j", SqlType::Json),
        ("j - $1", SqlType::Text),
        ("j ?| $1", list(SqlType::Text)),
    ] {
        let planned = catalog.plan(&format!("SELECT {expr} FROM typed")).unwrap_or_else(|e| panic!("{expr}: {e}"));
        assert_eq!(parameter_types(&planned), [ty], "{expr}");
    }
}

#[test]
fn parameters_of_returning_and_of_conflicts_are_bound() {
    let catalog = TestCatalog::new();
    let sql = "INSERT INTO t (id, v) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = $3 WHERE excluded.v > $4 RETURNING id + $5";
    let planned = catalog.plan(sql).unwrap();
    assert_eq!(parameter_types(&planned), vec![SqlType::Integer; 5]);
    let values = (1..=5).map(|v| ScalarValue::Int32(Some(v))).collect();
    let Planned::Insert(insert) = bind_parameters(planned, values).unwrap() else { panic!() };
    let OnConflict::DoUpdate { assignments, filter } = insert.on_conflict else { panic!() };
    assert!(assignments[0].1.to_string().contains("Int32(3)"), "{assignments:?}");
    assert_eq!(filter.unwrap().to_string(), "c6 > Int32(4)");
    assert_eq!(insert.returning.unwrap().exprs[0].to_string(), "checked_add(c0, Int32(5))");
}

#[test]
fn explain_shows_its_stages() {
    let catalog = TestCatalog::new();
    let lines = catalog.explain("EXPLAIN CREATE MATERIALIZED VIEW m AS SELECT auction FROM bid");
    assert!(lines.contains(&"Logical plan:".to_string()) && lines.contains(&"Streaming plan:".to_string()), "{lines:#?}");
    assert!(catalog.explain("EXPLAIN (STREAMING) SELECT auction FROM bid").contains(&"Streaming plan:".to_string()));
    for (options, wanted) in [
        ("", (false, false)),
        ("ANALYZE", (true, false)),
        ("(ANALYZE, VERBOSE)", (true, false)),
        ("(FORMAT JSON)", (false, true)),
        ("(ANALYZE, FORMAT JSON, COSTS OFF)", (true, true)),
    ] {
        let planned = catalog.plan(&format!("EXPLAIN {options} SELECT auction FROM bid")).unwrap();
        assert!(matches!(planned, Planned::ExplainQuery { analyze, json, .. } if (analyze, json) == wanted), "{options}: {planned:?}");
    }
}

#[test]
fn a_job_is_explained_as_its_statement() {
    let mut catalog = TestCatalog::new();
    catalog.create("CREATE TABLE counts (auction BIGINT PRIMARY KEY, n BIGINT)").unwrap();
    let counted = "SELECT auction, COUNT(*) AS n FROM bid GROUP BY auction";
    for (create, kind) in [
        (format!("CREATE MATERIALIZED VIEW job AS {counted} WITH (parallelism = 1)"), "MATERIALIZED VIEW"),
        ("CREATE SINK job FROM totals WITH (connector = 'blackhole')".to_string(), "SINK"),
        (format!("CREATE SINK job INTO counts AS {counted}"), "JOB"),
    ] {
        let of_statement = catalog.explain(&format!("EXPLAIN {create}"));
        catalog.create(&create).unwrap();
        let of_job = catalog.explain(&format!("EXPLAIN {kind} job"));
        assert_eq!(of_job, of_statement);
        let parallelism = if kind == "MATERIALIZED VIEW" { "Parallelism: 1" } else { "Parallelism: all workers" };
        assert_eq!((of_job[0].as_str(), of_job[1].as_str()), (parallelism, "Logical plan:"));
        catalog.relations.remove("job");
    }
    assert!(matches!(catalog.plan("EXPLAIN ANALYZE MATERIALIZED VIEW totals").unwrap(), Planned::ExplainJob(_)));
    let lines = catalog.explain("EXPLAIN MATERIALIZED VIEW totals");
    assert!(lines.iter().any(|line| line.contains("Scan bid") && line.ends_with("watermark=date_time - 4s")), "{lines:#?}");
    let manual = catalog.explain("EXPLAIN (STREAMING) SELECT v FROM manual");
    assert!(manual.iter().any(|line| line.ends_with("watermark=ts (manual)")), "{manual:#?}");
}

#[test]
fn large_texts_are_planned() {
    let rows: Vec<String> = (0..20_000).map(|i| format!("({i}, '{}')", "x".repeat(500))).collect();
    let sql = format!("INSERT INTO keyless VALUES {}", rows.join(", "));
    assert!(sql.len() > 10_000_000);
    let Planned::Insert(insert) = planned(&sql) else { panic!("not an INSERT") };
    // Its rows are there as they are stored, and not as expressions of kilobytes each.
    let plan = insert.source.plan.display_indent().to_string();
    assert!(plan.contains("TableScan: rows") && !plan.contains("Values"), "{plan:.300}");
    let Planned::Insert(short) = planned("INSERT INTO keyless VALUES (1, 'x')") else { panic!("not an INSERT") };
    assert_eq!(insert.source.columns, short.source.columns);
}
