//! The real psql against the real server: its describe commands, `\copy`, `\gdesc`, cursors, and Ctrl-C while rows
//! stream. What psql prints is compared in its unaligned form, which is stable across its versions.

use eddyline_sql_tests::{Server, ServerOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SCHEMA: &str = "
    CREATE TABLE orders (id INT PRIMARY KEY, customer TEXT NOT NULL, amount NUMERIC(10,2) DEFAULT 1, at TIMESTAMP);
    CREATE VIEW big_orders AS SELECT id, amount FROM orders WHERE amount > 100;
    CREATE MATERIALIZED VIEW totals AS SELECT customer, count(*) AS n FROM orders GROUP BY customer;
";

fn psql(server: &Server) -> Command {
    let mut command = Command::new("psql");
    command
        .args(["--no-psqlrc", "--no-align", "--quiet", "--host", "127.0.0.1", "--username", "eddyline", "--dbname", "eddyline"])
        .args(["--set", "ON_ERROR_STOP=1", "--port", &server.port.to_string()])
        .env("PGCONNECT_TIMEOUT", "30")
        .env("PSQL_PAGER", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What psql prints for a script; it must not complain.
fn run(server: &Server, script: &str) -> String {
    let mut child = psql(server).spawn().expect("psql is installed");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{script}\n{complaints}");
    String::from_utf8(output.stdout).unwrap()
}

/// The notices of a script.
fn notices(server: &Server, script: &str) -> String {
    let mut child = psql(server).spawn().expect("psql is installed");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let notices = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{script}\n{notices}");
    notices
}

/// The lines that psql prints for one command, without the footer that counts rows.
fn lines(server: &Server, command: &str) -> Vec<String> {
    let all = run(server, &format!("{command}\n"));
    all.lines().filter(|l| !(l.starts_with('(') && l.ends_with(')') && l.contains(" row"))).map(String::from).collect()
}

fn server() -> Server {
    let server = Server::start(ServerOptions { workers: 1, backend: "memory", ..Default::default() });
    run(&server, SCHEMA);
    server
}

#[test]
fn relations_are_listed_by_kind() {
    let server = server();
    assert_eq!(
        lines(&server, "\\d"),
        [
            "List of relations",
            "Schema|Name|Type|Owner",
            "public|big_orders|view|eddyline",
            "public|orders|table|eddyline",
            "public|totals|materialized view|eddyline",
        ]
    );
    for (command, row) in [
        ("\\dt", "public|orders|table|eddyline"),
        ("\\dv", "public|big_orders|view|eddyline"),
        ("\\dm", "public|totals|materialized view|eddyline"),
        ("\\di", "public|orders_pkey|index|eddyline|orders"),
        ("\\dn", "public|eddyline"),
        ("\\db", "pg_default|eddyline|"),
        ("\\dt+", "public|orders|table|eddyline|permanent|heap|"),
    ] {
        let shown = lines(&server, command);
        assert!(shown.iter().any(|line| line.starts_with(row)), "{command}: {shown:#?}");
    }
}

#[test]
fn a_relation_is_described() {
    let server = server();
    let columns = ["id|integer||not null|", "customer|text||not null|", "amount|numeric(10,2)|||1.00", "at|timestamp without time zone|||"];
    let shown = lines(&server, "\\d orders");
    assert_eq!(shown[..2], ["Table \"public.orders\"", "Column|Type|Collation|Nullable|Default"]);
    assert_eq!(shown[2..6], columns);
    assert_eq!(shown[6..], ["Indexes:", "    \"orders_pkey\" PRIMARY KEY, btree (id)"]);
    let more = lines(&server, "\\d+ orders");
    assert_eq!(more[1], "Column|Type|Collation|Nullable|Default|Storage|Compression|Stats target|Description");
    assert!(more[2].starts_with(columns[0]) && more.contains(&"Access method: heap".to_string()), "{more:#?}");
    assert_eq!(lines(&server, "\\d orders_pkey")[1..3], ["Column|Type|Key?|Definition", "id|integer|yes|id"]);
    assert_eq!(lines(&server, "\\d big_orders")[2..], ["id|integer|||", "amount|numeric(10,2)|||"]);
    let view = lines(&server, "\\d+ big_orders");
    assert_eq!(view[4..], ["View definition:", " SELECT id, amount FROM orders WHERE amount > 100;"]);
    assert_eq!(
        lines(&server, "\\d totals")[..3],
        ["Materialized view \"public.totals\"", "Column|Type|Collation|Nullable|Default", "customer|text|||"]
    );
    assert_eq!(lines(&server, "\\sv big_orders")[0], "CREATE OR REPLACE VIEW public.big_orders AS");
    assert!(lines(&server, "\\dS pg_class").contains(&"relname|name|||".to_string()));
}

#[test]
fn indexes_are_described_with_their_relations() {
    let server = server();
    run(&server, "CREATE INDEX by_n ON totals (n) INCLUDE (customer);\nCREATE INDEX by_amount ON orders (amount, at);\n");
    let indexes = ["Indexes:", "    \"orders_pkey\" PRIMARY KEY, btree (id)", "    \"by_amount\" hash (amount, at)"];
    assert_eq!(lines(&server, "\\d orders")[6..], indexes);
    let view = lines(&server, "\\d totals");
    assert!(view.contains(&"    \"by_n\" hash (n) INCLUDE (customer)".to_string()), "{view:#?}");
    let index = lines(&server, "\\d by_n");
    assert_eq!(index[1..4], ["Column|Type|Key?|Definition", "n|bigint|yes|n", "customer|text|no|customer"]);
    assert!(index.iter().any(|line| line == "hash, for table \"public.totals\""), "{index:#?}");
    let listed = lines(&server, "\\di");
    assert!(listed.iter().any(|line| line.starts_with("public|by_n|index|eddyline|totals")), "{listed:#?}");
}

#[test]
fn a_source_is_described_as_a_foreign_table_without_its_secrets() {
    let server = server();
    let options = "connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '100'";
    run(&server, &format!("CREATE SOURCE bids (auction BIGINT, date_time TIMESTAMP) WITH ({options});\n"));
    let shown = lines(&server, "\\d bids");
    assert_eq!(shown[..2], ["Foreign table \"public.bids\"", "Column|Type|Collation|Nullable|Default|FDW options"]);
    assert_eq!(shown[2..4], ["auction|bigint||||", "date_time|timestamp without time zone||||"]);
    assert_eq!(shown[4], "Server: connectors");
    for option in ["connector 'nexmark'", "\"nexmark.table.type\" 'bid'", "\"nexmark.event.num\" '100'"] {
        assert!(shown[5].contains(option), "{option} in {shown:#?}");
    }
    assert!(lines(&server, "\\dE").contains(&"public|bids|foreign table|eddyline".to_string()));
}

#[test]
fn roles_databases_and_the_rest() {
    let server = server();
    let roles = lines(&server, "\\du");
    assert_eq!(roles[1], "Role name|Attributes|Member of");
    assert!(roles[2].starts_with("eddyline|Superuser, Create role, Create DB") && roles[2].ends_with("|{}"), "{roles:#?}");
    let databases = lines(&server, "\\l");
    assert!(databases.iter().any(|d| d.starts_with("eddyline|eddyline|UTF8|")), "{databases:#?}");
    // These have nothing to show here; they must say so and not fail.
    for command in ["\\df", "\\dT", "\\dx", "\\dp", "\\ds", "\\dD", "\\da", "\\dRp", "\\dRs", "\\ddp", "\\des", "\\dew", "\\dy", "\\dP"] {
        lines(&server, command);
    }
    for command in [
        "\\dT+",
        "\\dn+",
        "\\l+",
        "\\du+",
        "\\dd",
        "\\dO",
        "\\dC",
        "\\dc",
        "\\dL",
        "\\dF",
        "\\drds",
        "\\dconfig TimeZone",
        "\\dt *.*",
        "\\d *",
    ] {
        lines(&server, command);
    }
}

#[test]
fn rows_are_copied_in_and_out() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.csv"), folder.path().join("out.csv"));
    std::fs::write(&from, "id,customer\n1,ann\n2,\"bob, jr\"\n").unwrap();
    run(&server, &format!("\\copy orders (id, customer) FROM '{}' WITH (FORMAT csv, HEADER)\n", from.display()));
    run(&server, &format!("\\copy (SELECT id, customer FROM orders ORDER BY id) TO '{}' CSV HEADER\n", to.display()));
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "id,customer\n1,ann\n2,\"bob, jr\"\n");
}

#[test]
fn results_are_described_and_fetched_in_pieces() {
    let server = server();
    assert_eq!(
        lines(&server, "SELECT relname, oid, 'x' AS t, now() AS c FROM pg_class \\gdesc"),
        ["Column|Type", "relname|name", "oid|oid", "t|text", "c|timestamp with time zone"]
    );
    let fetched = run(&server, "\\set FETCH_COUNT 3\n\\t on\nSELECT n FROM generate_series(1, 10) AS s(n);\n");
    assert_eq!(fetched.lines().collect::<Vec<_>>(), ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    let each = run(&server, "\\t on\nSELECT 'SELECT ' || n FROM generate_series(1, 2) AS s(n) \\gexec\n");
    assert_eq!(each.lines().collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn control_c_ends_a_statement_while_its_rows_stream() {
    let server = server();
    let mut child = psql(&server).spawn().expect("psql is installed");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"COPY (SELECT * FROM generate_series(1, 1000000000000)) TO STDOUT;\n").unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..3 {
        line.clear();
        stdout.read_line(&mut line).unwrap();
    }
    assert_eq!(line.trim(), "3", "rows stream");
    let interrupted = Instant::now();
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|s| s.success()), "SIGINT is sent");
    drop(stdin);
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    let took = interrupted.elapsed();
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    child.wait().unwrap();
    assert!(complaints.contains("canceling statement due to user request"), "{complaints}");
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}

/// Rows that are copied are numbered too.
#[test]
fn copied_rows_are_numbered() {
    let script = "CREATE TABLE copied (id SERIAL PRIMARY KEY, v TEXT);
\\copy copied (v) FROM STDIN
x
y
\\.
SELECT id, v FROM copied ORDER BY id;";
    assert_eq!(lines(&server(), script), ["id|v", "1|x", "2|y"]);
}

/// Any user's name is taken, and there is a role of that name for as long as the session is.
#[test]
fn whoever_asks_is_a_role() {
    let server = server();
    let asked = "\\connect - ada
        SELECT r.rolsuper, u.usesuper, pg_get_userbyid(r.oid) FROM pg_roles r JOIN pg_user u ON u.usename = r.rolname WHERE r.rolname = current_user;";
    assert_eq!(lines(&server, asked), ["rolsuper|usesuper|pg_get_userbyid", "t|t|ada"]);
    assert_eq!(lines(&server, "SELECT rolname FROM pg_roles;"), ["rolname", "eddyline"]);
}

/// A level that promises more than is kept says so.
#[test]
fn a_level_that_is_not_kept_is_warned_of() {
    let told = notices(&server(), "BEGIN ISOLATION LEVEL SERIALIZABLE; COMMIT; BEGIN ISOLATION LEVEL READ COMMITTED; COMMIT;");
    assert_eq!(told.matches("WARNING:  isolation level \"serializable\" is \"repeatable read\" here").count(), 1, "{told}");
}

/// What is taken and does less than it says is told.
#[test]
fn what_means_nothing_is_said() {
    let server = server();
    for (script, notice) in [
        ("SET 'execution.runtime-mode' = 'streaming';", "parameter \"execution.runtime-mode\" means nothing here"),
        ("SET 'table.exec.mini-batch.enabled' = 'true';", "HINT:  The option emit_interval"),
        ("SET 'table.exec.state.tll' = '1 h';", "HINT:  Perhaps you meant \"table.exec.state.ttl\"."),
        ("SET my.own = 'x';", "parameter \"my.own\" means nothing here"),
        ("SET 'table.exec.source.idle-timeout' = '1 min';", "sources and tables that are created from now on"),
        ("CREATE TEMPORARY TABLE made (id INT) WITH ('connector' = 'datagen', 'number-of-rows' = '1');", "is not temporary"),
        ("CREATE TEMPORARY VIEW v AS SELECT 1 AS n; CREATE VIEW w AS SELECT n FROM v;", "view \"w\" will be a temporary view"),
        (
            "CREATE MATERIALIZED VIEW e AS SELECT a.id FROM orders AS a JOIN orders AS b ON b.at BETWEEN a.at AND a.at - INTERVAL '1 second' AND a.id = b.id;",
            "the interval between its times ends before it begins",
        ),
    ] {
        let told = notices(&server, script);
        assert!(told.contains("NOTICE:  ") && told.contains(notice), "{script}: {told}");
        assert_eq!(told.matches("NOTICE").count(), 1, "{script}: {told}");
    }
    assert_eq!(
        notices(&server, "SET 'table.exec.state.ttl' = '1 h'; SET 'parallelism.default' = '2'; SET 'pipeline.name' = 'x'; RESET my.own;"),
        ""
    );
    // Another session's.
    assert_eq!(lines(&server, "SELECT COUNT(*) FROM pg_class WHERE relname IN ('v', 'w')"), ["count", "0"]);
}

/// What IF NOT EXISTS skips is told with the state of the error that it would be.
#[test]
fn what_is_there_already_is_told_as_postgres_tells_it() {
    let server = server();
    run(&server, "CREATE TABLE there (a INT); CREATE INDEX there_a ON there (a);\n");
    for (script, notice) in [
        ("CREATE TABLE IF NOT EXISTS there (a INT);", "42P07: relation \"there\" already exists, skipping"),
        ("CREATE INDEX IF NOT EXISTS there_a ON there (a);", "42P07: relation \"there_a\" already exists, skipping"),
        (
            "CREATE TEMPORARY VIEW mine AS SELECT 1 AS n; CREATE TEMPORARY VIEW IF NOT EXISTS mine AS SELECT 1 AS n;",
            "42P07: relation \"mine\"",
        ),
        ("ALTER TABLE there ADD COLUMN IF NOT EXISTS a INT;", "42701: column \"a\" of relation \"there\" already exists, skipping"),
        ("CREATE SCHEMA IF NOT EXISTS public;", "42P06: schema \"public\" already exists, skipping"),
        ("DROP TABLE IF EXISTS gone;", "00000: table \"gone\" does not exist, skipping"),
    ] {
        let told = notices(&server, &format!("\\set VERBOSITY verbose\n{script}"));
        assert!(told.contains(&format!("NOTICE:  {notice}")), "{script}: {told}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let server = Server::start(ServerOptions::default());
    let mut child = psql(&server).args(["--set", "VERBOSITY=verbose"]).spawn().expect("psql is installed");
    child.stdin.take().unwrap().write_all(b"SELECT '\xff\xfe';\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("22021"), "{output:?}");
}

/// psql cuts a statement set at its semicolons: it runs at its END, or not at all.
#[test]
fn a_statement_set_waits_for_its_end() {
    let server = server();
    run(&server, "CREATE TABLE hole (customer TEXT, n BIGINT) WITH ('connector' = 'blackhole');\n");
    let first = "EXECUTE STATEMENT SET BEGIN INSERT INTO hole SELECT customer, n FROM totals";
    let set = |second: &str| format!("\\set ON_ERROR_STOP 0\n{first};\n{second};\nEND;\n");
    let jobs = || lines(&server, "SELECT COUNT(*) FROM eddyline.sinks");
    let told = notices(&server, &set("INSERT INTO hole SELECT nothing, n FROM totals"));
    assert!(told.contains("nothing") && !told.contains("no transaction"), "{told}");
    assert_eq!(jobs(), ["count", "0"]);
    let told = notices(&server, &set("INSERT INTO hole SELECT customer, n + 1 FROM totals"));
    assert_eq!(told.matches(" runs").count(), 2, "{told}");
    assert_eq!(jobs(), ["count", "2"]);
}
