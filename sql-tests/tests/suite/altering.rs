//! Options that are changed while things run, and what EXPLAIN ANALYZE shows of them.

use eddyline_sql_tests::client::{number, numbers, refused, rows, run};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

/// How many steps a view's job has made, as EXPLAIN ANALYZE has it, and the lines of its operators.
async fn explained(client: &Client, view: &str) -> (u64, Vec<String>) {
    let rows = client.simple_query(&format!("EXPLAIN ANALYZE MATERIALIZED VIEW {view}")).await.expect("a plan");
    let line = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
        _ => None,
    };
    let lines: Vec<String> = rows.into_iter().filter_map(line).collect();
    let steps = lines[0].split("steps=").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok());
    (steps.unwrap_or_else(|| panic!("steps in {lines:?}")), lines[1..].to_vec())
}

/// The lines of a statement's plan, without the numbers of its state.
async fn plan_of(client: &Client, statement: &str) -> Vec<String> {
    let words = |line: String| line.split(' ').filter(|word| !word.starts_with("state=")).collect::<Vec<_>>().join(" ");
    let lines = rows(client, &format!("EXPLAIN {statement}")).await;
    lines.into_iter().filter_map(|row| row.into_iter().next()?.map(words)).collect()
}

/// What runs is explained as its statement is, also after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_explained_as_its_statement() {
    let mut server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE e (id INT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '2 seconds') APPEND ONLY").await;
    run(&client, "CREATE TABLE closed (until TIMESTAMP PRIMARY KEY, n BIGINT)").await;
    let windows = "SELECT window_end, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE e, DESCRIPTOR(at), INTERVAL '10' SECOND)) GROUP BY window_start, window_end";
    let statements = [
        ("MATERIALIZED VIEW v", format!("CREATE MATERIALIZED VIEW v AS {windows} WITH (parallelism = 1)")),
        ("SINK into_closed", format!("CREATE SINK into_closed INTO closed AS {windows}")),
    ];
    let mut expected = Vec::new();
    for (job, statement) in &statements {
        expected.push((job, plan_of(&client, statement).await));
        run(&client, statement).await;
    }
    for (_, lines) in &expected {
        let scan = lines.iter().find(|line| line.contains("Scan e")).unwrap_or_else(|| panic!("a scan in {lines:?}"));
        assert!(scan.ends_with("watermark=at - 2s"), "{scan}");
        assert!(lines.iter().any(|line| line == "Logical plan:"), "{lines:?}");
    }
    let parallelism: Vec<&str> = expected.iter().map(|(_, lines)| lines[0].as_str()).collect();
    assert_eq!(parallelism, ["Parallelism: 1", "Parallelism: all workers"]);
    for restarted in [false, true] {
        if restarted {
            server.kill_and_restart();
        }
        let client = server.connect().await;
        for (job, lines) in &expected {
            assert_eq!(plan_of(&client, job).await, *lines, "{job}, restarted: {restarted}");
        }
    }
}

/// A view that collects makes few steps of many writes; whoever needs the rows has them at once all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_collects_makes_few_steps() {
    let server = Server::start(ServerOptions { checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT PRIMARY KEY, g INT)").await;
    run(&client, "CREATE MATERIALIZED VIEW eager AS SELECT g, COUNT(*) AS n FROM t GROUP BY g").await;
    run(&client, "CREATE MATERIALIZED VIEW patient AS SELECT g, COUNT(*) AS n FROM t GROUP BY g WITH (emit_interval = '30 s')").await;
    for id in 0..60 {
        run(&client, &format!("INSERT INTO t VALUES ({id}, {})", id % 3)).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    until("the view that does not collect has all", || async {
        let row = client.query_one("SELECT SUM(n)::bigint FROM eager", &[]).await.ok()?;
        (row.get::<_, Option<i64>>(0) == Some(60)).then_some(())
    })
    .await;
    let (each, lines) = explained(&client, "eager").await;
    let (some, _) = explained(&client, "patient").await;
    assert!(each >= 10 && some <= 4, "{each} steps of one, {some} of the other");
    let scan = lines.iter().find(|l| l.contains("Scan t")).unwrap_or_else(|| panic!("a scan in {lines:?}"));
    assert!(scan.contains("since start: in=60 out=60"), "{scan}");
    let n: i64 = client.query_one("SELECT SUM(n)::bigint FROM patient", &[]).await.expect("own writes are there").get(0);
    assert_eq!(n, 60);
    let (then, _) = explained(&client, "patient").await;
    assert!(then <= some + 3, "{some} steps before, {then} after one read of all that had waited");
    // A view over it, and FLUSH, do not wait either.
    run(&client, "CREATE MATERIALIZED VIEW above AS SELECT SUM(n) AS n FROM patient").await;
    run(&client, "INSERT INTO t VALUES (60, 0); FLUSH").await;
    let n: i64 = client.query_one("SELECT n::bigint FROM above", &[]).await.expect("the view is there").get(0);
    assert_eq!(n, 61);
}

/// Each interval's emission takes all that came, however many cuts that was; views of different intervals are read together all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_that_collect_keep_up_with_their_input() {
    const ALL: i64 = 5520;
    let server = Server::start(ServerOptions { checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    // Of the second source all readers collect: nobody else keeps its cuts coming.
    for source in ["bid", "quiet"] {
        let options = "connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '6000', nexmark.rate = '750'";
        run(&client, &format!("CREATE SOURCE {source} (price BIGINT) WITH ({options})")).await;
    }
    run(&client, "CREATE MATERIALIZED VIEW lonely AS SELECT COUNT(*) AS n FROM quiet WITH (emit_interval = '400 ms')").await;
    for (name, options) in [("eager", ""), ("fast", "WITH (emit_interval = '400 ms')"), ("slow", "WITH (emit_interval = '600 ms')")] {
        let query = "SELECT price % 1 AS k, COUNT(*) AS n FROM bid GROUP BY price % 1";
        run(&client, &format!("CREATE MATERIALIZED VIEW {name} AS {query} {options}")).await;
    }
    let above = "SELECT fast.k, fast.n, eager.n AS m FROM fast JOIN eager ON fast.k = eager.k";
    run(&client, &format!("CREATE MATERIALIZED VIEW above AS {above}")).await;
    // A session never goes back, and what it has seen of one view it waits for in another: each view has its own.
    let reads = [
        "SELECT n::bigint FROM eager",
        "SELECT n::bigint FROM fast",
        "SELECT n::bigint FROM lonely",
        "SELECT CAST(CASE WHEN fast.n = slow.n THEN fast.n ELSE -1 END AS BIGINT) FROM fast JOIN slow ON fast.k = slow.k",
        "SELECT CAST(CASE WHEN n = m THEN n ELSE -1 END AS BIGINT) FROM above",
    ];
    let mut sessions = Vec::new();
    for _ in reads {
        sessions.push(server.connect().await);
    }
    for part in [ALL / 2, ALL] {
        for (session, read) in sessions.iter().zip(reads) {
            until("a view has come so far", || async {
                let row = session.query_opt(read, &[]).await.expect("the view can be read");
                let n: i64 = row.map_or(0, |row| row.get(0));
                assert!((0..=ALL).contains(&n), "{n}: {read}");
                (n >= part).then_some(())
            })
            .await;
        }
        let n = number(&sessions[0], reads[0]).await;
        assert!(part == ALL || n < ALL, "the other views got there as their input went on, not after it");
    }
    for view in ["fast", "slow", "lonely"] {
        let (steps, _) = explained(&client, view).await;
        assert!((5..=60).contains(&steps), "{view} made {steps} steps");
    }
}

/// A restart fills views again whose first checkpoint never came. The table has long gone on by then; what was altered still counts from
/// where it was, and so the view below comes to that epoch too instead of passing it by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_altered_counts_from_there_when_views_are_filled_again() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT PRIMARY KEY, g INT)").await;
    run(&client, "CREATE MATERIALIZED VIEW first AS SELECT id FROM t").await;
    run(&client, "CREATE MATERIALIZED VIEW second AS SELECT g FROM t").await;
    run(&client, "CREATE MATERIALIZED VIEW counts AS SELECT g, COUNT(*) AS n FROM t GROUP BY g").await;
    run(&client, "CREATE MATERIALIZED VIEW shares AS SELECT g, 100 / (n - 1) AS share FROM counts").await;
    run(&client, "INSERT INTO t VALUES (1, 1), (2, 1), (3, 2)").await;
    run(&client, "ALTER MATERIALIZED VIEW shares SET (on_error = 'stop')").await;
    run(&client, "INSERT INTO t VALUES (4, 1)").await;
    // Two steps of backfills, for the first two views; two more after a checkpoint, for the others.
    server.options = ServerOptions { failpoints: "backfill.step=hold@2".into(), checkpoint_interval: "50ms", ..server.options.clone() };
    server.kill_and_restart();
    let client = server.connect().await;
    let share = client.query_one("SELECT share::bigint FROM shares WHERE g = 1", &[]);
    let row = tokio::time::timeout(Duration::from_secs(60), share).await.expect("the view comes to the last cut").expect("it runs");
    assert_eq!(row.get::<_, i64>(0), 50);
    run(&client, "INSERT INTO t VALUES (5, 3)").await;
    let stopped = client.query("SELECT * FROM shares", &[]).await.expect_err("a new row cannot be computed");
    assert!(stopped.as_db_error().is_some_and(|e| e.code().code() == "55000"), "{stopped:?}");
}

/// A view that is paused shows the same whatever happens, and catches up once it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_view_stays_through_kills_and_catches_up() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "200ms", ring_size: "64KiB", ..Default::default() });
    let mut client = server.connect().await;
    run(
        &client,
        "CREATE SOURCE bid (auction BIGINT, price BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '30000', \
         nexmark.rate = '4000')",
    )
    .await;
    for view in ["stays", "goes_on"] {
        let query = "SELECT auction % 7 AS g, COUNT(*) AS n, CAST(SUM(price) AS BIGINT) AS s FROM bid GROUP BY auction % 7";
        run(&client, &format!("CREATE MATERIALIZED VIEW {view} AS {query}")).await;
    }
    run(&client, "CREATE MATERIALIZED VIEW divided WITH (on_error = 'reject') AS SELECT price / (auction % 7) AS q FROM bid").await;
    const COUNT: &str = "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM ";
    const REJECTED: &str = "SELECT CAST(COALESCE(SUM(weight), 0) AS BIGINT) FROM eddyline.rejected_rows WHERE view = 'divided'";
    let some = || async { (number(&client, &format!("{COUNT} stays")).await > 100).then_some(()) };
    until("some rows", some).await;
    until("some rejected rows", || async { (number(&client, REJECTED).await > 0).then_some(()) }).await;
    run(&client, "ALTER MATERIALIZED VIEW stays PAUSE; ALTER MATERIALIZED VIEW divided PAUSE").await;
    let before = number(&client, &format!("{COUNT} stays")).await;
    let rejected = number(&client, REJECTED).await;
    let other = number(&client, &format!("{COUNT} goes_on")).await;
    for round in 0..3 {
        let moved = || async { (number(&client, &format!("{COUNT} goes_on")).await > other + 1000 * round).then_some(()) };
        until("the other view goes on", moved).await;
        assert_eq!(number(&client, &format!("{COUNT} stays")).await, before, "round {round}");
        tokio::task::block_in_place(|| server.kill_and_restart());
        client = server.connect().await;
        assert_eq!(number(&client, &format!("{COUNT} stays")).await, before, "after restart {round}");
        assert_eq!(number(&client, REJECTED).await, rejected, "after restart {round}");
        // A checkpoint in between, or none.
        tokio::time::sleep(std::time::Duration::from_millis(300 * round as u64)).await;
    }
    run(&client, "ALTER MATERIALIZED VIEW stays RESUME").await;
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    let all = || async { (number(&client, &format!("{COUNT} stays")).await == 27_600).then_some(()) };
    until("everything", all).await;
    let differences = super::scripts::Differences::between(&client, "SELECT * FROM stays", "SELECT * FROM goes_on").await;
    assert!(differences.is_empty(), "{differences}");
}

/// What `counted` has counted, once that is more than `least`.
async fn counted_beyond(client: &Client, least: i64) -> i64 {
    let counted = || async { numbers(client, "SELECT n FROM counted").await.map(|row| row[0]).filter(|n| *n > least) };
    until("more rows are counted", counted).await
}

/// Whenever it ends, the table is there with all rows: as it was, or as it shall be, though its indexes may yet be made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_stays_whenever_adding_a_column_is_given_up() {
    const ROWS: i64 = 100_000;
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id BIGINT, pad VARCHAR)").await;
    run(&client, &format!("INSERT INTO t SELECT i, 'xxxxxxxxxxxxxxxx' || (i * 7919) % 1000003 FROM generate_series(1, {ROWS}) AS s(i)"))
        .await;
    run(&client, "CREATE INDEX of_pad ON t (pad); CREATE INDEX of_id ON t (id)").await;
    let mut widened = 0;
    for millis in (5..3_000).step_by(5) {
        run(&client, &format!("SET statement_timeout = '{millis} ms'")).await;
        widened += i32::from(client.batch_execute(&format!("ALTER TABLE t ADD COLUMN c{millis} INT")).await.is_ok());
        run(&client, "SET statement_timeout = 0").await;
        assert_eq!(number(&client, "SELECT COUNT(*) FROM t").await, ROWS, "given up after {millis} ms");
        if widened == 3 {
            break;
        }
    }
    assert_eq!(widened, 3, "some are in time");
}

/// The log has cuts of the source before the definition and after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_go_on_after_a_kill_though_a_table_was_widened_in_between() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "1h", ..ServerOptions::default() });
    let client = server.connect().await;
    run(&client, "CREATE SOURCE made (id BIGINT) WITH (connector = 'datagen', rows-per-second = '500'); CREATE TABLE t (k BIGINT)").await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM made").await;
    let before = counted_beyond(&client, 0).await;
    run(&client, "ALTER TABLE t ADD COLUMN v BIGINT").await;
    let after = counted_beyond(&client, before + 200).await;
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    // A view that is behind for good would be waited for.
    run(&client, "SET statement_timeout = '1s'").await;
    counted_beyond(&client, after + 200).await;
}

/// The wider table takes the other one's place after the statement has ended in its time. It has the rows, which are nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_stays_whose_widening_is_given_up() {
    let server = Server::start(ServerOptions { failpoints: "ddl.log=slow@3".into(), ..Default::default() });
    let (client, other) = (server.connect().await, server.connect().await);
    for statement in ["CREATE TABLE t (k BIGINT)", "INSERT INTO t VALUES (1), (2)", "SET statement_timeout = '1s'"] {
        run(&client, statement).await;
    }
    assert_eq!(refused(&client, "ALTER TABLE t ADD COLUMN v BIGINT").await.code().code(), "40003");
    // What was to be dropped is, before this.
    run(&other, "CREATE TABLE later (k BIGINT)").await;
    assert_eq!(number(&other, "SELECT COUNT(*) FROM t WHERE v IS NULL").await, 2);
}
